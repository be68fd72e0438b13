# Gneiss: `make help` lists everything.
#
# Two kinds of build share the sources: images for the guest (gcc or clang,
# freestanding, newlib) and host programs (unit tests, `make host`). Everything
# made lies in build/. Variables of the command line: see help.

MAKEFLAGS += --no-builtin-rules
SHELL     := /bin/bash
.DELETE_ON_ERROR:
.SUFFIXES:

APP     ?= $(if $(filter host host-app,$(MAKECMDGOALS)),hello,tour)
CC      := $(if $(filter default,$(origin CC)),gcc,$(CC))
CLANG   := $(findstring clang,$(notdir $(CC)))
# gcc's things lie in build/, those of another compiler beside them.
# DEBUG=1 adds checks that cost too much for always.
O       := build$(if $(CLANG),/clang)$(if $(DEBUG),/debug)
# newlib is built by the same compiler; but built by clang 19 it prints denormal
# numbers doubled [seen], so newer ones than Debian 12's link gcc's.
NEWLIB_CC := $(if $(filter 14.%,$(if $(CLANG),$(shell $(CC) -dumpversion 2>/dev/null))),clang,gcc)
NEWLIB  := build/newlib$(if $(filter clang,$(NEWLIB_CC)),-clang)
NM      ?= nm
LD      := $(if $(LD),$(if $(filter default,$(origin LD)),ld,$(LD)),ld)
HOSTCC  ?= $(CC)

# ---- set-up ------------------------------------------------------------------

# What the goals need is installed, or named, before anything below asks the
# compiler about itself. A few milliseconds when all is there.
needs := $(sort $(if $(filter run image newlib,$(MAKECMDGOALS)),run) \
           $(filter test bench debug host,$(MAKECMDGOALS:host-app=host)) \
           $(if $(filter host-tests,$(MAKECMDGOALS)),test) \
           $(if $(filter valgrind,$(SAN)),valgrind) $(if $(CLANG),clang))
ifneq ($(if $(MAKECMDGOALS),$(needs)),)
_ := $(shell tools/setup $(needs) >&2)
ifneq ($(.SHELLSTATUS),0)
$(error something is missing, see above)
endif
endif

# ---- what is built ----------------------------------------------------------

ifneq ($(filter %.c,$(APP)),)
app      := $(basename $(notdir $(APP)))
app_dir  := $(patsubst %/,%,$(dir $(APP)))
APP_SRCS := $(APP)
else
app      := $(APP)
app_dir  := apps/$(APP)
APP_SRCS  = $(wildcard $(app_dir)/*.c)
-include $(app_dir)/app.mk
endif
APP_SRCS  += $(APP_MORE)
ifneq ($(filter run image debug host host-app,$(MAKECMDGOALS)),)
ifneq ($(words $(APP)),1)
$(error APP="$(APP)": a name or a path without blanks (tools/run takes any))
endif
ifeq ($(strip $(wildcard $(if $(filter %.c,$(APP)),$(APP),apps/$(APP)/main.c apps/$(APP)/app.mk))),)
$(error APP=$(APP): there is no such $(if $(filter %.c,$(APP)),file,app; apps: $(notdir $(wildcard apps/*)); or give a path to a .c file))
endif
endif
out      := $(O)/$(app)
image    := $(out)/$(app).elf

# Everything reachable from an interrupt or a fault: general registers only (R2)
nofpu_srcs := $(wildcard boot/*.c boot/*.S $(filter-out $(if $(DEBUG),,arch/rank.c),$(wildcard arch/*.c)) arch/x86_64/*.c \
                arch/x86_64/*.S arch/drivers/*.c mm/*.c runtime/sched/*.c \
                runtime/stack/*.c runtime/sync/*.c runtime/chan/*.c runtime/time/*.c runtime/context/*.c runtime/debug/*.c runtime/mem/*.c \
                runtime/heap/*.c runtime/gc/*.c)
libc_srcs  := $(wildcard runtime/libc/*.c runtime/panic/*.c)
kernel_objs := $(patsubst %,$(O)/obj/%.o,$(nofpu_srcs) $(libc_srcs))
app_objs    = $(patsubst %,$(out)/obj/%.o,$(subst ../,__/,$(APP_SRCS:/%=_root/%)))

# ---- flags ------------------------------------------------------------------

warnings := -Wall -Wextra -Wshadow -Wundef -Wvla -Wstrict-prototypes \
            -Wmissing-prototypes -Wconversion -Wframe-larger-than=1024 -Werror
code     := $(shell tools/cflags $(if $(CLANG),clang,gcc))
cc_inc   := $(shell $(CC) -print-file-name=include)
ifeq ($(wildcard $(cc_inc)/stddef.h),)
cc_inc   := $(shell $(CC) -print-resource-dir 2>/dev/null)/include
endif
OPT      ?= -O2
guest     = -std=gnu17 $(OPT) -g -fno-common $(code) -nostdinc \
            -isystem runtime/include/libc -isystem $(cc_inc) \
            -isystem $(NEWLIB)/x86_64-elf/include -Iruntime/include \
            -D__gneiss__=1 $(if $(DEBUG),-DGN_DEBUG) -MD -MP
kernel    = $(guest) -ffreestanding -I. -Iarch/x86_64 $(warnings)
nofpu    := -mgeneral-regs-only
# What runs once, or reports: small rather than fast. Only memory says how large
# the image may be (tools/imgsize), and most of it is this.
cold_srcs := $(wildcard boot/*.c arch/*.c runtime/debug/*.c runtime/libc/*.c) \
             $(patsubst %,arch/x86_64/%.c,acpi apic clock console cpu ctx machine report) \
             $(patsubst %,mm/%.c,commit describe dirty init look map vm vm_device vm_huge vm_range vm_drop vm_move frame) \
             $(patsubst %,runtime/heap/%.c,api cache central check debug heap memory meta page_cache pages report span stats tiny) \
             runtime/mem/mem.c runtime/mem/where.c \
             $(filter-out runtime/sched/sched.c runtime/sched/queue.c,$(wildcard runtime/sched/*.c)) $(wildcard runtime/stack/*.c)
# These are leaves of two dozen instructions: no frame.
frameless := runtime/heap/fast.c runtime/libc/malloc_fast.c
size      = $(if $(filter $(frameless),$<),-O2 -fomit-frame-pointer \
                -momit-leaf-frame-pointer) \
            $(if $(CLANG),,-fno-align-functions -fno-align-jumps -fno-align-loops) \
            $(if $(filter $(cold_srcs),$(filter-out $(frameless),$<)),-Os)
libgcc   := $(shell gcc -print-libgcc-file-name)

# ---- goals ------------------------------------------------------------------

.PHONY: help image run debug host new test soak bench clean distclean newlib setup \
        check-layers check-format FORCE
help:
	@tools/help

newlib_stamp := $(NEWLIB)/.built

# A file that changes when the flags or the compiler do.
flags_file := $(O)/.flags
flags_text = $(cold_srcs) $(frameless) $(CC) $(shell $(CC) -dumpfullversion 2>/dev/null) $(OPT) $(warnings) $(code)
$(flags_file): FORCE
	@mkdir -p $(@D)
	@echo '$(flags_text)' | cmp -s - $@ || echo '$(flags_text)' >$@

# tools/newlib knows by a hash whether there is something to do.
$(newlib_stamp): FORCE
	@tools/newlib --cc $(NEWLIB_CC) $(NEWLIB)
	@[ -e $@ ] && [ -z "$$(find $(NEWLIB) -maxdepth 1 -name '.stamp-*' -newer $@)" ] || touch $@

define libc_rule
$(O)/obj/runtime/$(1)/%.c.o: runtime/$(1)/%.c $(flags_file) $(newlib_stamp)
	@mkdir -p $$(@D)
	$$(call say,CC,$$<)
	$$(Q)$$(CC) $$(kernel) $$(libc_defs) $$(size) -c $$< -o $$@
endef
$(foreach d,libc panic,$(eval $(call libc_rule,$(d))))

$(O)/obj/%.c.o: %.c $(flags_file) $(newlib_stamp)
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(kernel) $(nofpu) $(size) -c $< -o $@

$(O)/obj/%.S.o: %.S $(flags_file)
	@mkdir -p $(@D)
	$(call say,AS,$<)
	$(Q)$(CC) -I. -MMD -MP -g -c $< -o $@

# What an image is made of: files that come and go, an app's own flags, another
# app of the same name. Each is a reason to build again.
app_stamp := $(out)/.made-of
app_text   = $(app_objs) $(APP_WARN) $(APP_CFLAGS) $(PORT)
$(app_stamp): FORCE
	@mkdir -p $(@D)
	@echo '$(subst ','"'"',$(app_text))' | cmp -s - $@ || echo '$(subst ','"'"',$(app_text))' >$@
kernel_stamp := $(O)/obj/.made-of
$(kernel_stamp): FORCE
	@mkdir -p $(@D)
	@echo '$(kernel_objs)' | cmp -s - $@ || echo '$(kernel_objs)' >$@

# An app's warnings are its own affair if it is a port (app.mk sets APP_WARN).
# Guest tests, and only they, may look inside.
APP_WARN ?= -Wall -Wextra $(if $(filter apps/%,$(app_dir)),-Werror)
guest_test_inc = $(if $(filter host-tests/%,$(1)),-I. -Iarch/x86_64)
define app_rule
$(out)/obj/$(subst ../,__/,$(1:/%=_root/%)).o: $(1) $(flags_file) $(newlib_stamp) $(app_stamp)
	@mkdir -p $$(@D)
	$$(call say,CC,$(1))
	$$(Q)$$(CC) $$(guest) $(call guest_test_inc,$(1)) $$(APP_WARN) $$(APP_CFLAGS) -c $$< -o $$@
endef
$(foreach s,$(APP_SRCS),$(eval $(call app_rule,$(s))))

# A port's sources come from Debian, unmodified, pinned by hash.
ifneq ($(PORT),)
port_stamp := build/ports/$(PORT)/.fetched
$(port_stamp): tools/sources.tsv
	@tools/source $(PORT) build/ports/$(PORT)
	@touch $@
$(filter build/ports/%,$(APP_SRCS)): $(port_stamp) ;
endif

# The runtime as one object in which only what programs may use is visible: an
# app with a function called panic or lock_acquire of its own builds unmodified.
# Tests that look inside are linked with the objects themselves.
# --unique: else static functions of one name, of whatever files, are one section,
# which is kept as a whole if one of them is used.
runtime_obj := $(O)/gneiss.o
api_objs    := $(O)/obj/runtime/libc/% $(O)/obj/runtime/mem/% \
                 $(patsubst %,$(O)/obj/runtime/heap/%.c.o,api alloc stats) $(O)/obj/runtime/gc/cycle.c.o $(O)/obj/runtime/gc/pace.c.o $(O)/obj/runtime/gc/special.c.o \
                 $(O)/obj/runtime/sched/cpu.c.o $(O)/obj/runtime/sched/go.c.o $(O)/obj/runtime/stack/api.c.o \
                 $(O)/obj/runtime/sync/% $(O)/obj/runtime/chan/% $(O)/obj/runtime/time/% $(O)/obj/runtime/context/% $(O)/obj/runtime/panic/%
kernel_link := $(if $(filter host-tests/%,$(APP)),$(kernel_objs),$(runtime_obj))
$(runtime_obj): $(kernel_objs) $(kernel_stamp) tools/public-symbols Makefile
	$(Q)$(LD) -r --unique -o $@.all $(kernel_objs)
	$(Q)NM=$(NM) tools/public-symbols $(filter $(api_objs),$(kernel_objs)) >$@.symbols
	$(Q)objcopy --keep-global-symbols=$@.symbols $@.all $@
	$(Q)rm -f $@.all

# Two links: the second has the symbol table of the first, which lies behind
# the text and so moves no function.
link = $(LD) -n -static -nostdlib --gc-sections -z noexecstack \
       -z max-page-size=4096 --build-id=none -T linker.ld -o $(1) $(2) \
       $(kernel_link) $(app_objs) --start-group \
       $(NEWLIB)/x86_64-elf/lib/libc.a $(NEWLIB)/x86_64-elf/lib/libm.a \
       $(libgcc) --end-group

$(image): $(kernel_link) $(kernel_stamp) $(app_objs) $(app_stamp) linker.ld tools/symtab $(newlib_stamp) $(flags_file)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(call link,$@.1,)
	$(Q)NM=$(NM) tools/symtab $@.1 >$(out)/symtab.S
	$(Q)$(CC) -c $(out)/symtab.S -o $(out)/symtab.o
	$(Q)$(call link,$@.2,$(out)/symtab.o)
	$(Q)rm -f $@.1
	$(Q)mv $@.2 $@

image: $(image)

Q   := $(if $(V),,@)
say  = @$(if $(V),true,printf '  %-4s %s\n' $(1) "$(2)" >&2)

CPUS    ?= 1
MEM     ?= 256M
MACHINE ?= microvm
export ARGS FILES OPTS CC
run_flags = --cpus '$(CPUS)' --mem '$(MEM)' --machine '$(MACHINE)' \
            $(if $(ICOUNT),--icount) $(if $(TIMEOUT),--timeout '$(TIMEOUT)') \
            $(if $(CPU),--cpu '$(CPU)') $(if $(ACCEL),--accel '$(ACCEL)') \
            $(if $(USAGE),--usage)
# FILES, ARGS and OPTS are read as a shell would: quotes keep blanks together.
# An app may want the files as arguments if there are none (app.mk).
define run_image
@f=(); eval "for x in $$FILES; do f+=(--file \"\$$x\"); done"; \
 eval "set -- $(if $(ARGS),$$ARGS,$(if $(ARGS_ARE_FILES),$$FILES))"; \
 exec tools/run $(run_flags) $(1) --opt "$$OPTS" "$${f[@]}" $(image) "$$@"
endef

run: $(image)
	$(call run_image,)

debug: $(image)
	$(call run_image,--debug)

-include $(kernel_objs:.o=.d) $(app_objs:.o=.d)

# ---- host: unit tests, and apps as processes ---------------------------------

# The machine as a process; what mm, the scheduler and the heap need.
host      := arch/host/host.c arch/host/ctx.c arch/fmt.c arch/random.c arch/spinlock.c
mm        := $(host) $(wildcard mm/*.c)
sched     := $(mm) $(patsubst %,runtime/sched/%.c,cpu preempt queue sched stop suspend time) runtime/stack/stack.c runtime/stack/pages.c
heap      := $(mm) $(wildcard runtime/heap/*.c) arch/option.c \
             host-tests/runtime/heap/heap_fixture.c

# One program for each host-tests/**/test_*.c. Its first lines say of what it is
# made: "// sources: $(mm) runtime/libc/fs.c" (words of this Makefile are known).
H         := build/host-tests$(if $(CLANG),-clang)
host_tests := $(shell find host-tests -name 'test_*.c' | sort)
host_bins := $(host_tests:host-tests/%.c=$(H)/%)
san_flags := -fsanitize=address,undefined -fno-sanitize-recover=all
host_opt  := -O1
hostcc     = $(HOSTCC) -std=gnu17 $(host_opt) -g -I. -Iarch/host \
             -Iruntime/include $(filter-out -Wframe-larger-than=1024,$(warnings)) \
             -fno-omit-frame-pointer -MMD -MP
test_sources = $(eval words := $(shell sed -n 's,^// sources: ,,p' $(1)))$(words)

define host_object
$(H)/obj/$(1).o: $(1)
	@mkdir -p $$(@D)
	$$(Q)$$(hostcc) $$(san_flags) -c $$< -o $$@
endef
define host_program
$(H)/$(1:host-tests/%.c=%): $(patsubst %,$(H)/obj/%.o,$(1) host-tests/support.c $(call test_sources,$(1)))
	@mkdir -p $$(@D)
	$$(call say,HOST,$$@)
	$$(Q)$$(HOSTCC) $$(san_flags) $$^ -o $$@ -lcmocka -pthread
endef
ifneq ($(filter host-tests host-tests-% test,$(MAKECMDGOALS)),)
$(foreach t,$(host_tests),$(eval $(call host_program,$(t))))
host_srcs := $(sort $(host_tests) host-tests/support.c \
               $(foreach t,$(host_tests),$(call test_sources,$(t))))
$(foreach s,$(host_srcs),$(eval $(call host_object,$(s))))
-include $(host_srcs:%=$(H)/obj/%.d)
endif

# An app as a Linux process: the same sources, the host's C library. One that uses
# goroutines is linked with the runtime (runtime/native), which is optimized as in
# the guest.
SAN       ?=
san_app   := $(filter address undefined thread,$(SAN))
host_out  := build/host/$(app)$(if $(CLANG),-clang)$(if $(SAN),-$(SAN))
host_app  := $(host_out)/$(app)
host_objs  = $(patsubst %,$(host_out)/obj/%.o,$(subst ../,__/,$(APP_SRCS:/%=_root/%)))
host_go    = $(if $(filter host host-app,$(MAKECMDGOALS)),$(shell \
               grep -lE '^\#include <gneiss/(go|sync|cpu|stack|chan|time|context|panic)\.h>' $(APP_SRCS) 2>/dev/null))
host_opt_app ?= -O1
go_flags  := -fno-pie -fstack-clash-protection
host_test_inc = $(if $(filter host-tests/%,$(1)),-I. -Iarch/host/process)
define host_app_rule
$(host_out)/obj/$(subst ../,__/,$(1:/%=_root/%)).o: $(1) Makefile
	@mkdir -p $$(@D)
	$$(call say,HOST,$(1))
	$$(Q)$$(HOSTCC) -std=gnu17 $$(host_opt_app) -g -fno-omit-frame-pointer \
	  $$(if $$(host_go),$$(go_flags) -isystem runtime/native/include $(call host_test_inc,$(1))) \
	  -Iruntime/include $$(APP_WARN) $$(APP_CFLAGS) $$(san_app:%=-fsanitize=%) -MMD -MP -c $$< -o $$@
endef
ifneq ($(filter host host-app,$(MAKECMDGOALS)),)
ifneq ($(filter-out address undefined thread valgrind,$(SAN)),)
$(error SAN=$(SAN): must be address, undefined, thread or valgrind)
endif
ifneq ($(and $(SAN),$(host_go)),)
$(error SAN=$(SAN): not for programs with goroutines)
endif
$(foreach s,$(APP_SRCS),$(eval $(call host_app_rule,$(s))))
-include $(host_objs:.o=.d)
endif

native_out  := build/host/gneiss$(if $(CLANG),-clang)
native_srcs := $(patsubst %,arch/x86_64/%,switch.S ctx.c report.c) \
                 $(wildcard arch/host/process/*.[cS]) \
                 $(patsubst %,arch/%.c,fmt option random spinlock) \
                 $(filter-out %/input.c,$(wildcard runtime/sched/*.c)) \
                 $(patsubst %,runtime/stack/%.c,api stack) \
                 $(wildcard $(patsubst %,runtime/%/*.c,sync chan time context panic debug native)) \
                 runtime/libc/sleep.c $(wildcard boot/process/*.c)
native_objs := $(native_srcs:%=$(native_out)/%.o)
native_obj  := $(native_out)/gneiss.o
native_cc    = $(HOSTCC) -std=gnu17 -O2 -g $(go_flags) -fno-omit-frame-pointer -MMD -MP \
                 $(if $(CLANG),-Wno-unused-command-line-argument) \
                 -I. -Iarch/host/process -Iruntime/include
-include $(if $(filter host host-app,$(MAKECMDGOALS)),$(native_objs:.o=.d))
$(native_out)/%.c.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,HOST,$<)
	$(Q)$(native_cc) $(warnings) -c $< -o $@
$(native_out)/%.S.o: %.S Makefile
	@mkdir -p $(@D)
	$(call say,HOST,$<)
	$(Q)$(native_cc) -c $< -o $@
# Programs see what is public, and what stands before functions of glibc.
$(native_obj): $(native_objs)
	$(Q)$(LD) -r --unique -o $@.all $^
	$(Q)objcopy --wildcard --keep-global-symbol='gn_*' --keep-global-symbol=__wrap_main \
	  --keep-global-symbol=__stack_chk_fail --keep-global-symbol=nanosleep \
	  --keep-global-symbol=usleep --keep-global-symbol=sleep $@.all $@
	$(Q)rm -f $@.all

# Two links, as above, for the names in reports. Tests look inside here, too.
native_linked := $(if $(filter host-tests/%,$(APP)),$(native_objs),$(native_obj))
native_link = $(HOSTCC) -no-pie -Wl,-z,now -Wl,--wrap=main -o $(1) $(2) $(host_objs) \
                $(native_linked) -Wl,--defsym,text_start=__executable_start \
                -Wl,--defsym,text_end=etext -lm -pthread
$(host_app): $(host_objs) $(if $(host_go),$(native_linked)) tools/symtab
	$(if $(host_go),\
	$(Q)$(call native_link,$@.1,) && NM=$(NM) tools/symtab $@.1 >$(host_out)/symtab.S && \
	  $(HOSTCC) -c $(host_out)/symtab.S -o $(host_out)/symtab.o && \
	  $(call native_link,$@.2,$(host_out)/symtab.o) && rm $@.1 && mv $@.2 $@,\
	$(Q)$(HOSTCC) $(san_app:%=-fsanitize=%) $(host_objs) -o $@ -lm -pthread)

# CPUS and OPTS count for programs with goroutines, if they are given.
.PHONY: host-app
host-app: $(host_app)
host: $(host_app)
	@$(if $(filter command environment,$(firstword $(origin CPUS))),export GN_CPUS='$(CPUS)';) \
	 $(if $(host_go),export GN_OPTS="$$OPTS";) \
	 f=(); eval "for x in $$FILES; do f+=(\"\$$x\"); done"; \
	 eval "set -- $(if $(ARGS),$$ARGS,$(if $(ARGS_ARE_FILES),$$FILES))"; \
	 exec tools/host-run $(if $(filter valgrind,$(SAN)),--valgrind) \
	   $(host_app) "$${f[@]}" -- "$$@"

# What the tests of goroutines as Linux processes need.
.PHONY: host-go
host-go:
	@for app in ring mergesort pwordcount host-tests/guest/goroutines.c \
	   $(patsubst %,host-tests/guest/%.c,suspend pin godie go_chan go_chan_files go_litmus go_panic \
	     go_sync go_tasks go_atomic go_time go_context go_fair go_gen go_die) \
	   host-tests/native/sleep.c; do \
	   $(MAKE) -s --no-print-directory host-app APP=$$app || exit 1; done

new:
	@tools/new '$(APP)'

test:
	@O=$(O) tools/test $(T)

soak: $(newlib_stamp)
	@tools/setup run
	@O=$(O) tools/soak $(if $(SEED),-s $(SEED)) $(if $(SEEDS),$(SEEDS)x,$(if $(SECONDS),$(SECONDS)s,$(MINUTES)))

.PHONY: bench-peers bench-heap bench-go
bench-go: $(newlib_stamp)
	@tools/setup bench
	@O=$(O) tools/bench -g $(if $(ROUNDS),-n $(ROUNDS))
bench-heap:
	@tools/setup host
	@O=$(O) tools/bench-heap/run $(if $(ROUNDS),-n $(ROUNDS))
bench bench-peers: %: $(newlib_stamp)
	@tools/setup bench
	@O=$(O) tools/bench $(if $(filter bench-peers,$@),-p) $(if $(ROUNDS),-n $(ROUNDS))

# For other flags than the tests' own: make H=dir san_flags=... host-tests-mm
.PHONY: host-tests host-tests-mm host-tests-heap host-tests-threads
host-tests-heap: $(filter $(H)/runtime/heap/%,$(host_bins))
	@printf '%s\n' $^
host-tests-mm: $(filter $(H)/mm/%,$(host_bins))
	@printf '%s\n' $^
host-tests-threads: $(filter %/test_threads,$(host_bins))
	@printf '%s\n' $^
host-tests: $(host_bins)
	@printf '%s\n' $(host_bins)

newlib: $(newlib_stamp)

clean:
	rm -rf $(filter-out build/newlib build/newlib-clang build/ports build/., \
	  $(wildcard build/* build/.flags))

distclean:
	rm -rf build
