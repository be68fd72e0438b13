// The native back end's own interface, for what is linked with it.
#pragma once

#include "arch/arch.h"

// To be defined beside it. What a thread's arch_local() is before it starts.
struct native_nobody;
extern struct native_nobody native_nobody;

// Called once, before the first CPU starts, and by each CPU at its first start;
// it has to call arch_set_local.
void native_init(void);
void native_init_cpu(void);

// For a child after fork: the other threads are gone, and so are their CPUs,
// in whatever state they were.
void native_forked(void);
