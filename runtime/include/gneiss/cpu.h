// CPUs: how many there are, and work on one of them.
//
// Context: any goroutine, not interrupt handlers.
#pragma once

// CPUs that run, 1..64; constant.
unsigned gn_cpu_count(void);

// The CPU that the caller runs on now, 0..gn_cpu_count()-1. It may have changed
// when the caller looks at the result.
unsigned gn_cpu_id(void);

// Runs fn(arg) as a goroutine of its own, pinned to that CPU, and returns at once:
// short for gn_go_with (go.h). Returns 0, -EINVAL (no such CPU) or -ENOMEM.
int gn_cpu_start(unsigned cpu, void (*fn)(void *), void *arg);

enum { GN_CPU_ANY = -1 };

// Moves the caller to that CPU, which alone runs it from now on; GN_CPU_ANY: all do
// again, as at first. Lets others run first. Returns 0, or -EINVAL: no such CPU.
int gn_cpu_stay(int cpu);
