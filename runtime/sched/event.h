// What a driver has a goroutine wait for, and its interrupt handler says (R8).
//
//   driver, in the goroutine    start the device; event_wait(&e, "IO wait")
//   driver, in its interrupt    quiet the device; event_happened(&e)
//
// No wake-up is lost: what has happened is remembered until somebody waits, and
// that wait returns at once. Two that happen before a wait are one, so who was
// woken asks the device what there is, and may find nothing new.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

struct g;

// Zeroed, nothing has happened yet. Not to be moved while somebody waits.
struct event {
    struct g *_Atomic waiter; // parked, and findable by the interrupt
    _Atomic bool happened;    // while nobody was
};

// Parks the caller until the event has happened, or returns at once if it has since
// the last wait. why: as for g_park. One goroutine at a time. Context: goroutine,
// no-preempt 0.
void event_wait(struct event *e, const char *why);

// The same where only goroutines make it happen: that it is waited for does not keep
// the rest from being a deadlock.
void event_wait_idle(struct event *e, const char *why);

// It has happened: who waits goes on, on this CPU or who steals it. Takes no lock, and
// is done in some 20 instructions. Context: interrupt; elsewhere with no-preempt
// above zero.
void event_happened(struct event *e);
