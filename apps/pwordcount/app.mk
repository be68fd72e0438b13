# wordcount's table and its way of reading, on all CPUs.
APP_SRCS   := apps/pwordcount/main.c apps/wordcount/input.c apps/wordcount/words.c
APP_CFLAGS := -I.
ARGS_ARE_FILES := 1
CPUS ?= 4
