# The tour looks at the page tables: there are none of ours in a Linux process.
APP_CFLAGS := -I.
# Some chapters are about other CPUs.
CPUS ?= 4
ifneq ($(filter host,$(MAKECMDGOALS)),)
$(error tour shows the guest's memory: make run APP=tour)
endif
