// The pages of stack slots in a Linux process: they come by Linux's own page faults.
//
// All slots are one mapping, readable and writable. What lies below a stack's limit
// is a guard: pages that Linux marks in its tables (MADV_GUARD_INSTALL, since 6.13),
// so that the mapping stays in one piece; before, it is cut there by mprotect, and
// vm.max_map_count says how many stacks there can be. A guard stays with its slot.
//
// How deep a stack went nobody knows but Linux, and asking it costs more than all
// else that a goroutine does at its end. So stacks that have died are noted, and once
// in a while, or when a CPU has nothing to do, those that are still dead lose all but their top page.
//
// Locks: mm_lock protects what is noted of the slots.

#define _GNU_SOURCE

#include "runtime/stack/pages.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "mm/mm.h"
#include "runtime/native/native.h"
#include "runtime/stack/stack.h"

enum {
    GUARD_BYTES = 128 * KIB, // what slots are further apart than 64 MiB
    NOTED_MOST = 64,
    LOOK_EVERY = 1024,                // ends of goroutines
    IDLE_LOOK_NS = 100 * 1000 * 1000, // at most so often when there is no work
};

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE  103
#endif

// Of a slot, by its number.
struct slot {
    uintptr_t guard; // [mm_lock] where it begins; 0: there is none yet
    bool noted;      // [mm_lock]
};

static struct slot *slots;             // [c]
static struct g *noted[NOTED_MOST];    // [mm_lock]
static unsigned nnoted, ends;          // [mm_lock]
static _Atomic uint64_t looked_ns;     // when these were last seen to
static _Atomic bool without_installed; // Linux is too old

static struct slot *slot_of(const struct g *g)
{
    return &slots[g_slot(g)];
}

static void *map(uintptr_t at, size_t bytes)
{
    int fixed = at != 0 ? MAP_FIXED_NOREPLACE : 0;
    void *p = mmap((void *)at, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed, -1, 0);

    if (p == MAP_FAILED || (at != 0 && p != (void *)at))
        panic("native: no address space for stacks (ulimit -v?)");
    return p;
}

void stack_pages_init(void)
{
    size_t area = ARCH_STACK_END - ARCH_STACK_BASE;
    size_t most = area / STACK_SLOT_BYTES;

    map(ARCH_STACK_BASE, area);
    // A stack is touched a page at a time.
    madvise((void *)ARCH_STACK_BASE, area, MADV_NOHUGEPAGE);
    map(ARCH_SLOTS_BASE, align_up(most * sizeof(struct g), PAGE_SIZE));
    slots = map(0, align_up(most * sizeof *slots, PAGE_SIZE));
}

bool stack_map_g(size_t slot)
{
    (void)slot; // it comes when it is touched
    return true;
}

// ---- guards ----

static bool guard(uintptr_t at, bool on)
{
    void *p = (void *)at;

    if (!without_installed) {
        if (madvise(p, GUARD_BYTES,
                    on ? MADV_GUARD_INSTALL : MADV_GUARD_REMOVE) == 0)
            return true;
        if (errno != EINVAL)
            return false;
        without_installed = true;
    }
    return mprotect(p, GUARD_BYTES, on ? PROT_NONE : PROT_READ | PROT_WRITE) ==
           0;
}

bool stack_map_top(struct g *g, size_t reserve, bool warm)
{
    struct slot *s = slot_of(g);
    uintptr_t at = stack_bottom(g) - GUARD_BYTES;

    (void)warm;
    if (s->guard != at) {
        if (s->guard != 0 && !guard(s->guard, false))
            return false;
        s->guard = 0;
        if (!guard(at, true))
            return false;
        s->guard = at;
    }
    g->low = align_down(stack_top(g) - reserve, PAGE_SIZE);
    g->window = 1;
    return true;
}

// ---- giving back ----

static void drop(uintptr_t from, uintptr_t end)
{
    if (from < end && madvise((void *)from, end - from, MADV_DONTNEED) != 0)
        panic("native: madvise of 0x%lx failed", (unsigned long)from);
}

static void drop_noted(void)
{
    for (unsigned i = 0; i < nnoted; i++) {
        slot_of(noted[i])->noted = false;
        if (noted[i]->state == G_FREE)
            drop(stack_bottom(noted[i]), stack_top(noted[i]) - PAGE_SIZE);
    }
    nnoted = 0;
    ends = 0;
    looked_ns = arch_mono_ns();
}

bool native_stacks_noted(void)
{
    return *(volatile unsigned *)&nnoted > 0 &&
           arch_mono_ns() - looked_ns > IDLE_LOOK_NS;
}

void native_stacks_drop(void)
{
    spin_lock(&mm_lock);
    drop_noted();
    spin_unlock(&mm_lock);
}

bool stack_note_dead(struct g *g)
{
    // Full, with somebody on his way to stack_drop: ours comes along another time.
    if (!slot_of(g)->noted && nnoted < NOTED_MOST) {
        slot_of(g)->noted = true;
        noted[nnoted++] = g;
    }
    return ++ends >= LOOK_EVERY || nnoted == NOTED_MOST;
}

void stack_drop(struct g *g)
{
    (void)g; // one of them
    native_stacks_drop();
}

void stack_drop_tops(struct g *g)
{
    for (; g != NULL; g = g->next)
        drop(stack_bottom(g), stack_top(g));
}

// Which pages of [from, end) are there: the lowest, and how many.
static uint64_t look(uintptr_t from, uintptr_t end, uintptr_t *lowest)
{
    enum { PAGES = 512 };
    unsigned char there[PAGES];
    uint64_t n = 0;

    *lowest = end;
    for (; from < end; from += PAGES * (uintptr_t)PAGE_SIZE) {
        size_t bytes = min_u64(end - from, PAGES * (uintptr_t)PAGE_SIZE);

        if (mincore((void *)from, bytes, there) != 0)
            continue;
        for (size_t i = 0; i < bytes / PAGE_SIZE; i++) {
            if ((there[i] & 1) == 0)
                continue;
            n++;
            *lowest = min_u64(*lowest, from + i * PAGE_SIZE);
        }
    }
    return n;
}

uint64_t stack_trim(struct g *g, uintptr_t sp)
{
    uintptr_t end = align_down(sp - STACK_RED_ZONE, PAGE_SIZE), lowest;
    uint64_t pages = look(stack_bottom(g), end, &lowest);

    drop(stack_bottom(g), end);
    return pages;
}

uintptr_t stack_low(const struct g *g)
{
    uintptr_t lowest;

    look(stack_bottom(g), stack_top(g), &lowest);
    return lowest;
}
