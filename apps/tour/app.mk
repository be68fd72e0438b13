# The tour looks at the page tables: there are none of ours in a Linux process.
APP_CFLAGS := -I.
ifneq ($(filter host,$(MAKECMDGOALS)),)
$(error tour shows the guest's memory: make run APP=tour)
endif
