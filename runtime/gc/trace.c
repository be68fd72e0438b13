// gc.trace=1: a line for each collection as Go's GODEBUG=gctrace=1 prints it, then ours.
//
//   gc 3 @0.250s: 0.02+4.1+0.30 ms, 4->5->2 MiB, 8 MiB goal, 2 CPUs
//      rounds 2, final stop: 17 dirty pages; 5 goroutines; 65536 objects marked

#include "arch/fmt.h"
#include "runtime/gc/gc.h"

// Hundredths of a millisecond.
static unsigned long cms(uint64_t ns)
{
    return (unsigned long)(ns / 10000);
}

void gc_trace(const struct gc_report *r)
{
    fmt_err("gc %lu @%lu.%03lus: %lu.%02lu+%lu.%02lu+%lu.%02lu ms, "
            "%lu->%lu->%lu KiB, %lu KiB goal, %u CPUs\n",
            (unsigned long)r->number, (unsigned long)(r->start / 1000000000),
            (unsigned long)(r->start / 1000000 % 1000),
            cms(r->stop_ns[0]) / 100, cms(r->stop_ns[0]) % 100,
            cms(r->mark_ns) / 100, cms(r->mark_ns) % 100,
            cms(r->stop_ns[1]) / 100, cms(r->stop_ns[1]) % 100,
            (unsigned long)(r->before / KIB), (unsigned long)(r->after / KIB),
            (unsigned long)(r->live / KIB), (unsigned long)(r->goal / KIB),
            arch_cpu_count());
    fmt_err("   rounds %lu (%lu pages), final stop: %lu dirty pages; %lu "
            "goroutines with %lu stack pages; %lu objects marked, %lu KiB "
            "scanned\n",
            (unsigned long)r->rounds, (unsigned long)r->round_pages,
            (unsigned long)r->final_pages, (unsigned long)r->goroutines,
            (unsigned long)r->stack_pages, (unsigned long)r->objects,
            (unsigned long)(r->scanned / KIB));
}
