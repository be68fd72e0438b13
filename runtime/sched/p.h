// What a CPU has of its own for scheduling: Go's P and M in one.
#pragma once

#include "runtime/sched/g_impl.h"
#include "runtime/sched/queue.h"

// A heap of timers, by the time when they are due.
struct timers_entry {
    uint64_t when;
    struct timer *t;
};

enum { FIRST_TIMERS = 64 }; // so many need no memory

struct timers {
    struct spinlock lock;
    unsigned n, room;
    struct timers_entry *of;
    struct timers_entry first[FIRST_TIMERS];
};

// Tags: [o] the CPU itself, no-preempt above zero; [a] atomic, anybody; [lock]
// the lock below.
struct p {
    struct arch_ctx loop;      // [o] where the loop stands
    struct runq q;             // see queue.h
    struct spinlock lock;      // protects the list of pinned goroutines
    struct g *first, *last;    // [lock] pinned to this CPU, and ready
    struct g *_Atomic wake;    // [a] pushed by interrupts of this CPU (R8)
    struct g *_Atomic running; // [a] written by the CPU itself; see suspend.c
    struct timers timers;      // see time.c
    uint64_t first_ns;         // [o] when the first of them is due, or was
    struct sched_timer *calls; // [o] few, in no order
    void (*after)(void *);     // [o] run by the loop after a switch
    void *after_arg;           // [o]
    struct full_area *areas;   // [o] free ones, see preempt.c
    void *stop_area;           // [o] for a stop of the world
    struct g *resume;          // [o] runs next, it holds stop_area
    uint64_t slice_end;  // [o] when to look at the slice; UINT64_MAX: never
    uint32_t picks;      // [o] goroutines begun, but for those that inherit
    uint32_t picks_then; // [o] at the last look
    uint32_t picks_seen; // [boot CPU] by watchdog.c
    uint32_t signs;      // [boot CPU] that it has seen
    uint32_t random;     // [o] state of steal's random order
    bool spinning;       // [o] looks for work, and is counted so
    _Atomic bool ticked; // [a] the timer went off
    _Atomic bool rung;   // [a] the doorbell went since it last looked, see rest
    _Atomic bool stopped; // [a] waits for the world to start again
};

// Valid while no-preempt is above zero (R10).
struct p *this_p(void);
struct p *p_of_cpu(unsigned cpu); // NULL before that CPU schedules

// ---- time.c ----

// Before the CPU runs anybody.
void time_init(struct p *p);

// Arms the CPU's timer for what is due first, but not before a time.
void time_arm(struct p *p, uint64_t not_before);

// If the timer went off: fires timers that are due, and
// arms it again, not before `pause` nanoseconds from now. Returns whether the slice
// of who runs is over.
bool time_serve(struct p *p, uint64_t pause);

// ---- preempt.c ----

// What a CPU needs; before it runs anybody. Context: loop.
void preempt_init(struct p *p);

// The slice of who runs has to be watched, since others wait; or always.
void slice_watch(struct p *p);
bool slice_always(void);

// At a time when the timer went off: is it over?
bool slice_is_over(struct p *p, uint64_t now);

// How long it is.
uint64_t slice_ns(void);

// Frames that areas were cut from: they stay.
extern _Atomic uint64_t preempt_frames;

// Gives back the area of a goroutine that needs it no more.
void preempt_forget(struct p *p, struct g *g);

// hooks.preempt: who was interrupted with frame tf leaves the CPU. Returns if there
// is no memory for that. And hooks.leave: the same for the caller.
void preempt_interrupted(const struct trap_frame *tf);
void preempt_here(void);

// ---- stop.c ----

extern _Atomic bool stop_wanted; // all CPUs are to come to rest

// Waits until the world is started again. Context: loop.
void stop_wait(struct p *p);

// ---- suspend.c ----

// Called by the loop before it runs g, which p->running says already. True: g is to
// rest, and comes back when it is let go.
bool suspend_instead(struct p *p, struct g *g);

// Whether who runs here is to leave the CPU for that.
bool suspend_wanted(void);

// ---- sched.c ----

// Whether something else than who runs could run on this CPU.
bool sched_has_work(struct p *p);

// Whether other CPUs idle, and none looks for work: a moment ago.
bool sched_others_idle(void);

// Who runs on this CPU goes to the end of a queue, and the loop on.
void sched_requeue(void *g);
