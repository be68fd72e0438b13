// Which pages were stored to: the hardware's D bits, with one owner (R15).
//
// Several clients (collector, snapshots, statistics) want to know what changed
// since they last asked, but a D bit can be cleared only once. So only this
// module clears them, and at every harvest it first notes the page in a bitmap
// of each client that watches the region.
//
// Source: R15; the bitmaps per client are after KVM's dirty log.
#pragma once

#include "mm/region.h"

enum { DIRTY_CLIENTS = 8 };

// A client of its own number, or -ENOSPC. Context: any but interrupt.
MUST_USE int dirty_client_new(void);

// The client watches nothing any more. Context: as above.
void dirty_client_free(int client);

// From now on the client watches the region that holds va; what is dirty now
// counts as seen. Returns 0, -EINVAL (no anonymous region there), -EEXIST
// (watched already) or -ENOMEM. Context: any but interrupt; may wait.
MUST_USE int dirty_watch(int client, uintptr_t va);

// Calls visit for each page of the region at va that was stored to since the
// client's last call, in address order, and forgets them. Returns the number of
// pages, or -EINVAL if the client does not watch it. visit runs on the system
// stack, without mm_lock, and must start no operation on ranges. Context: any but interrupt; waits for a shootdown.
long dirty_collect(int client, uintptr_t va,
                   void (*visit)(uintptr_t page, void *arg), void *arg);

// The two halves of it. dirty_harvest notes what is dirty and returns 0 or -EINVAL;
// then dirty_next, again and again, takes noted pages out, 64 neighbours at a time:
// sets their first address and a bit for each, *word is where to look (0 at first).
// False: there are no more. Who calls reads them where it likes. Context: as above.
MUST_USE int dirty_harvest(int client, uintptr_t va);
bool dirty_next(int client, uintptr_t va, uint64_t *word, uintptr_t *base,
                uint64_t *bits);

// Notes a page again that visit was called for, for this client only.
// Context: visit of dirty_collect.
void dirty_again(int client, uintptr_t page);

// A page was written through the direct map: note it as if stored to.
// Context: mm_lock not held, system stack.
void dirty_mark(uintptr_t va);

// For who keeps no bitmap here: clears D of the pages of [*va, end), from *va on, and
// stores the addresses of those that had it, at most `room`. Returns how many; *va is
// where it came to. Other clients' logs are noted. The caller shoots down what it got
// (dirty_shoot) before it reads the pages. Context: mm_lock held, system stack.
size_t dirty_take(uintptr_t *va, uintptr_t end, uintptr_t *pages, size_t room);

// For tests: what was harvested or taken is not shot down, and stores are missed. [c]
extern bool dirty_shoots_not;

// Drops all translations on all CPUs. Context: mm_lock not held.
void dirty_shoot(void);

// Which of n pages (at most 64) from va on have a frame: bit i for page i. Context: as
// dirty_take.
uint64_t dirty_present(uintptr_t va, size_t n);

// ---- for mm/, mm_lock held ----

// Notes for all who watch a view of the page at va, in r, that it is or was
// dirty; for entries that software takes out or replaces.
void dirty_note(struct region *r, uintptr_t va);

// The pages of [va, end) of r go, but other views of them may stay: notes what
// their entries say for who watches those, and takes their rights, so that no
// store comes after that. They are shot down before the next operation.
void dirty_leave(struct region *r, uintptr_t va, uintptr_t end);

// r is cut at va, hi becomes the upper part: cuts the bitmaps. False: no memory.
bool dirty_cut(struct region *r, struct region *hi, uintptr_t va);

// The opposite, for two neighbours that are to be one: the same clients watch
// both, and lo's bitmaps have room for all; and lo's get what hi's say.
bool dirty_can_unite(const struct region *lo, const struct region *hi);
void dirty_unite(struct region *lo, const struct region *hi);

// r will have npages: its bitmaps have room for them. False: no memory.
MUST_USE bool dirty_reserve(struct region *r, uint64_t npages);

// r has become shorter: what lay behind its end is forgotten.
void dirty_trim(struct region *r);

// r goes: frees its bitmaps.
void dirty_forget(struct region *r);
