// Moving memory by its page-table entries (R15: D goes along, no byte is copied).
//
// Where source and destination agree modulo 2 MiB, whole tables are relinked:
// one entry for 512 pages. The tables that the destination needs are made before
// the first entry moves, so that it can't fail half way. The region changes its
// place first: nobody faults at the old one any more, and nobody knows the new.

#include <errno.h>

#include "mm/dirty.h"
#include "mm/mm_impl.h"
#include "mm/vm_impl.h"

// ---- move ----

// How many whole entries of the highest level that can be relinked begin at va;
// 0 if pages must move one by one.
static size_t whole(uintptr_t va, uintptr_t end, uintptr_t shift, int *level)
{
    for (*level = 3; *level > 1; --*level) {
        if ((va | shift) % pte_span(*level) == 0 &&
            end - va >= pte_span(*level))
            return (end - va) / pte_span(*level);
    }
    return 0;
}

static bool any_set(const struct pt_run *run)
{
    for (size_t i = 0; i < pt_run_entries(run); i++) {
        if (pt_get(&run->e[i]) != 0)
            return true;
    }
    return false;
}

// True if none of the entries is set, from the first to the last, which is in the
// same table or in the next. Counts say it, but for tables that others use too:
// those at both ends of what moves.
static bool are_clear(const pte_t *e, const pte_t *last)
{
    if (pt_is_empty(e) && pt_is_empty(last))
        return true;
    while (pt_get(e) == 0) {
        if (e++ == last)
            return true;
        if ((uintptr_t)e % PAGE_SIZE == 0)
            e = (const pte_t *)align_down((uintptr_t)last, PAGE_SIZE);
    }
    return false;
}

// Makes the tables at `to` that the entries will need, so that moving them can't
// fail half way. There must be nothing yet: an entry that is overwritten would
// be a frame that nobody knows. (pt_relink looks itself.)
static bool make_tables(const struct region *r, uintptr_t from, uintptr_t to,
                        size_t bytes)
{
    uintptr_t end = from + bytes, shift = to - from;
    struct pt_run run;

    for (uintptr_t va = from; va < end; va += run.n * PAGE_SIZE) {
        int level;
        size_t tables = whole(va, end, shift, &level);

        run = pt_run(va, end);
        if (tables > 0 && run.e == NULL)
            continue; // it may end within a table: nothing is there anyway
        if (tables > 0) {
            if (!mm_make_tables(r, va + shift, level))
                return false;
            // One parent is enough to the end of the table that it is in.
            size_t rest = PT_ENTRIES - pte_index(va + shift, level);

            run.n =
                (tables < rest ? tables : rest) * pte_span(level) / PAGE_SIZE;
        } else if (any_set(&run)) {
            // A run in one table can lie across two there.
            pte_t *first = mm_make_entry(r, va + shift);
            pte_t *last =
                mm_make_entry(r, va + shift + (run.n - 1) * PAGE_SIZE);

            if (first == NULL || last == NULL)
                return false;
            ASSERT(are_clear(first, last));
        }
    }
    return true;
}

// Moves the entries of pages within one table on either side; returns how many
// it looked at. Of all that a page costs to move, most is a turn of this loop.
static size_t move_pages(const struct pt_run *run, uintptr_t to)
{
    size_t room = PT_ENTRIES - pte_index(to, 1);
    size_t n = run->n < room ? run->n : room;
    pte_t *e = run->e, *end = e + n;
    int moved = 0;

    while (e < end && pt_get(e) == 0)
        e++;
    if (e == end)
        return n;
    pte_t *dest = pt_make(to);

    for (pte_t *d = dest + (e - run->e); e < end; e++, d++) {
        if (pt_get(e) == 0)
            continue;
        // What the hardware set until now goes along (R15).
        atomic_store_explicit((_Atomic pte_t *)d, pt_swap(e, 0),
                              memory_order_release);
        moved++;
    }
    pt_counted(run->e, -moved);
    pt_counted(dest, moved);
    return n;
}

static void move_entries(uintptr_t from, uintptr_t to, size_t bytes)
{
    uintptr_t end = from + bytes, shift = to - from;
    size_t n;

    for (uintptr_t va = from; va < end; va += n * PAGE_SIZE) {
        int level;
        size_t tables = whole(va, end, shift, &level);
        struct pt_run run;

        if (tables > 0) {
            n = pt_relink(va, va + shift, tables, level) * pte_span(level) /
                PAGE_SIZE;
            continue;
        }
        run = pt_run(va, end);
        ASSERT(run.e == NULL || run.level == 1);
        n = run.e != NULL ? move_pages(&run, va + shift) : run.n;
        // The ring is frozen: nobody faults on what is half moved.
        vm_breathe();
    }
}

// Large pages that can't be relinked whole become smaller ones.
static int split_large_in(uintptr_t from, uintptr_t to, size_t bytes)
{
    uintptr_t shift = from - to;
    int level = shift % pte_span(3) == 0 ? 3 : shift % pte_span(2) == 0 ? 2 : 1;

    if (vm_split_at(from + bytes) != 0)
        return -ENOMEM;
    return level < 3 ? vm_split_all(from, from + bytes, level) : 0;
}

static int choose_place(struct vm_call *c)
{
    uintptr_t end = c->va + c->bytes, wish = c->to;

    if (wish == c->va) {
        if (c->new_bytes > c->bytes &&
            !vm_is_gap(end, c->new_bytes - c->bytes, region_first_above(end)))
            return -ENOMEM;
        return 0;
    }
    // A wish that is not free is an error: the caller counts on it.
    c->to = vm_place(wish, c->new_bytes);
    if (c->to == 0 || (wish != 0 && c->to != wish))
        return wish != 0 ? -EEXIST : -ENOMEM;
    return 0;
}

// Everything that can fail, before anything is changed for good.
static int prepare(struct vm_call *c, struct region *r, size_t keep)
{
    uintptr_t end = c->va + c->bytes;

    if (!dirty_reserve(r, c->new_bytes / PAGE_SIZE))
        return -ENOMEM;
    if (c->to != c->va) {
        c->flags = 1; // there may be tables
        if (split_large_in(c->va, c->to, keep) != 0 ||
            !make_tables(r, c->va, c->to, keep))
            return -ENOMEM;
    }
    if (vm_split_at(c->va + keep) != 0)
        return -ENOMEM;
    return vm_hand_over(r, c->va + keep, end, r->start, r->end);
}

// Of what r costs, what the frames of so many bytes are.
static uint64_t frames_of(const struct region *r, size_t bytes)
{
    return vm_cost_of(r->flags, r->start, bytes) -
           vm_cost_of(r->flags | REGION_ALIAS, r->start, bytes);
}

static int move_frozen(struct vm_call *c, struct region *r)
{
    size_t keep = c->bytes < c->new_bytes ? c->bytes : c->new_bytes;
    // Memory that others show too does not grow: what is added is of its own,
    // or it would show what they have behind.
    bool extra = r->peer != r && c->new_bytes > c->bytes;
    unsigned extra_flags = r->flags & ~(unsigned)REGION_ALIAS;
    struct region *tail = NULL;
    int err = choose_place(c);

    if (err != 0)
        return err;
    uint64_t has =
        extra ? vm_cost_of(r->flags, c->to, keep) +
                    vm_cost_of(extra_flags, c->to + keep, c->new_bytes - keep)
              : vm_cost_of(r->flags, c->to, c->new_bytes);
    uint64_t had = vm_cost(r), more = has > had ? has - had : 0;

    // There are tables at both places for a moment, and one set of frames.
    if (c->to != c->va)
        more = has - frames_of(r, keep);
    if (!vm_charge(more))
        return -ENOMEM;
    err = prepare(c, r, keep);
    if (err == 0 && extra) {
        tail = vm_new_region(c->to + keep, c->new_bytes - keep, r->prot,
                             extra_flags, r->name);
        err = tail != NULL ? 0 : -ENOMEM;
    }
    if (err != 0) {
        vm_uncharge_later(c, more);
        return err;
    }
    dirty_leave(r, c->va + keep, r->end);
    vm_bequeath(r, c->va + keep);
    region_rekey(r, c->to, c->to + (tail != NULL ? keep : c->new_bytes));
    dirty_trim(r);
    if (tail != NULL)
        vm_insert_free(tail);
    r->window = 0;
    if (c->to != c->va) {
        move_entries(c->va, c->to, keep);
        mm_count(&mm_counters.moves, 1);
    }
    vm_uncharge_later(c, had + more - has);
    return 0;
}

static int move_locked(struct vm_call *c)
{
    int err = vm_isolate(c->va, c->va + c->bytes, false);
    struct region *r = region_find(c->va);

    if (err == 0 && r->end != c->va + c->bytes)
        err = -EINVAL; // several regions
    if (err != 0) {
        vm_unite(c->va, c->va + c->bytes);
        return err;
    }
    vm_freeze(r);
    err = move_frozen(c, r);
    vm_thaw(r);
    if (err == 0)
        vm_unite(c->to, c->to + c->new_bytes);
    else
        vm_unite(c->va, c->va + c->bytes);
    return err;
}

static void move_call(void *arg)
{
    struct vm_call *c = arg;
    bool moved;

    spin_lock(&mm_lock);
    c->result = move_locked(c);
    spin_unlock(&mm_lock);
    if (c->result != 0) {
        if (c->flags)
            vm_drop_range(c->to, c->to + c->new_bytes);
        vm_given_back(c);
        return;
    }
    moved = c->to != c->va;
    if (moved)
        mm_shootdown(c->va, c->bytes / PAGE_SIZE);
    // What was cut off at the end, and tables that are empty now.
    if (moved)
        vm_drop_range(c->va, c->va + c->bytes);
    else if (c->new_bytes < c->bytes)
        vm_drop_range(c->va + c->new_bytes, c->va + c->bytes);
    vm_given_back(c);
}

int vm_move(uintptr_t va, size_t bytes, size_t new_bytes, uintptr_t *to)
{
    struct vm_call c = {
        .va = va, .bytes = bytes, .new_bytes = new_bytes, .to = *to};

    if (vm_check_range(va, bytes) != 0 ||
        vm_check_range(*to != va ? *to : 0, new_bytes) != 0)
        return -EINVAL;
    vm_run_charging(move_call, &c);
    if (c.result == 0)
        *to = c.to;
    return (int)c.result;
}

// ---- within a region of the runtime ----

struct pages_call {
    struct region *r;
    uintptr_t from, to;
    size_t bytes;
    int result;
};

static void move_pages_call(void *arg)
{
    struct pages_call *c = arg;

    spin_lock(&mm_lock);
    vm_freeze(c->r);
    c->result = split_large_in(c->from, c->to, c->bytes) == 0 &&
                        make_tables(c->r, c->from, c->to, c->bytes)
                    ? 0
                    : -ENOMEM;
    if (c->result == 0) {
        move_entries(c->from, c->to, c->bytes);
        mm_count(&mm_counters.moves, 1);
    }
    vm_thaw(c->r);
    spin_unlock(&mm_lock);
    if (c->result == 0)
        mm_shootdown(c->from, c->bytes / PAGE_SIZE);
    // Tables that are empty now, on either side.
    vm_drop_range(c->from, c->from + (c->result == 0 ? c->bytes : 0));
}

int region_move_pages(struct region *r, uintptr_t from, uintptr_t to,
                      size_t bytes)
{
    struct pages_call c = {r, from, to, bytes, 0};

    vm_run(move_pages_call, &c);
    return c.result;
}
