# Lua 5.4, unmodified, from Debian's source package. All of the port is here:
# which sources, and one definition.
PORT       := lua5.4
PORT_SRC   := build/ports/$(PORT)/src
APP_SRCS   := $(addprefix $(PORT_SRC)/,lapi.c lauxlib.c lbaselib.c lcode.c \
              lcorolib.c lctype.c ldblib.c ldebug.c ldo.c ldump.c lfunc.c lgc.c \
              linit.c liolib.c llex.c lmathlib.c lmem.c loadlib.c lobject.c \
              lopcodes.c loslib.c lparser.c lstate.c lstring.c lstrlib.c \
              ltable.c ltablib.c ltm.c lua.c lundump.c lutf8lib.c lvm.c lzio.c)
APP_WARN   := -w
# isatty() decides between a prompt and a script on standard input.
APP_CFLAGS := -include unistd.h '-Dlua_stdin_is_tty()=isatty(0)'
