// The machine as a Linux process: start and control, for host-tests and for
// `make host`.
#pragma once

#include "arch/arch.h"

// Makes ram_bytes of physical memory (a memfd, seen at the direct map), reserves
// the ranges of the address space and installs the fault handler. The calling
// thread is CPU 0. Panics if the system refuses.
void host_start(uint64_t ram_bytes);

// Takes everything back, so that a test can start afresh.
void host_stop(void);

// The walker's root; what mm_init calls as load_root.
void host_load_root(paddr_t root);

// Starts n - 1 more CPUs as threads; each runs entry(), and ends
// when that returns.
void host_start_cpus(unsigned n, void (*entry)(void));

// Translations that the software TLB holds now, and faults it has filled.
struct host_tlb_stats {
    uint64_t entries, fills, flushes;
};

struct host_tlb_stats host_tlb_stats(void);

// A page whose translation allows what the tables do not: another frame, a right
// that is gone, a store that would set no D bit. 0: there is none, and must be
// none whenever no operation is under way.
uintptr_t host_tlb_stale(void);

// Where arch_power_off goes in a test: called with the status instead of
// ending the process, and must not return. NULL: exit().
extern void (*host_power_off_hook)(int status);

// The CPU's timer goes off if it is time.
void host_look_at_timer(void);

// Called by whoever waits (arch_relax), if set: a test can end what it waits for.
extern void (*host_relax_hook)(void);

// Called by each shootdown, if set, before it returns to who asked for it: a test
// sees what other CPUs could.
extern void (*host_shootdown_hook)(void);

// What stderr reports say goes here as well, if set (NUL-terminated, bounded).
extern char *host_stderr_copy;
extern size_t host_stderr_copy_size;
