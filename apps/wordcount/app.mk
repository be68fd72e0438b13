# `cat FILES`: a file named twice counts twice, and the order is the user's.
ARGS_ARE_FILES := 1
APP_CFLAGS := -I.
