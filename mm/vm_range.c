// What all operations on ranges share: the accounts, cutting regions, finding a
// place, and keeping others off.
//
// Accounts: what is promised to programs is the sum of what their regions cost
// (mm_check compares). An alias costs only its tables while the memory is charged
// to another of its ring, and inherits the charge when that one goes.
//
// One operation at a time: op_lock, outside mm_lock, which faults never take.
//
// Quiet regions: vm_freeze() stops new copy-on-write breaks in a ring and waits
// for those under way, by giving mm_lock up for a moment, until vm_thaw().

#include <errno.h>

#include "mm/mm_impl.h"
#include "mm/vm_impl.h"

enum {
    GUARD = PAGE_SIZE, // left free behind each mapping
    TRIES = 3,         // of a call that finds too little to promise
};

static uintptr_t search_from; // [mm_lock] where the last mapping ended

// ---- accounts ----

static struct spinlock op_lock = SPINLOCK_INIT(RANK_OP);
static uint64_t missing; // [op_lock] pages that could not be promised

struct op {
    void (*fn)(void *);
    void *arg;
    uint64_t missing;
};

static void run_op(void *arg)
{
    struct op *op = arg;

    spin_lock(&op_lock);
    missing = 0;
    op->fn(op->arg);
    op->missing = missing;
    spin_unlock(&op_lock);
}

void vm_run(void (*fn)(void *), void *arg)
{
    struct op op = {fn, arg, 0};

    arch_on_system_stack(run_op, &op);
}

void vm_run_charging(void (*fn)(void *), struct vm_call *c)
{
    const uintptr_t to = c->to; // all that a call which failed may change
    const unsigned flags = c->flags;
    struct op op = {fn, c, 0};

    // It may need a frame for descriptors before it can promise the memory.
    for (int tries = 1;; tries++) {
        c->to = to;
        c->flags = flags;
        arch_on_system_stack(run_op, &op);
        if (op.missing == 0 || tries == TRIES || mm_reclaim(op.missing) == 0)
            return;
    }
}

// What is promised to programs is the sum of what their regions cost (vm_check).
static uint64_t charged; // [mm_lock]

uint64_t vm_cost_of(unsigned flags, uintptr_t va, size_t bytes)
{
    if (flags & (REGION_UNCHARGED | REGION_RESERVED))
        return 0;
    // The frames are another's, the tables are its own.
    return mm_mapping_cost_at(va, bytes) -
           (flags & (REGION_DEVICE | REGION_ALIAS) ? bytes / PAGE_SIZE : 0);
}

uint64_t vm_cost(const struct region *r)
{
    return vm_cost_of(r->flags, r->start, r->end - r->start);
}

// Is it charged for the memory that it shows?
static bool pays(const struct region *r)
{
    return !(r->flags & (REGION_UNCHARGED | REGION_RESERVED | REGION_ALIAS));
}

bool vm_charge(uint64_t npages)
{
    if (mm_charge(npages)) {
        charged += npages;
        return true;
    }
    struct mm_commit now = mm_commit();

    // Others may hold some back, unless it is more than there ever is. At least
    // one: somebody may have given up some just now.
    if (npages <= now.limit)
        missing = npages + now.committed > now.limit
                      ? npages + now.committed - now.limit
                      : 1;
    return false;
}

// What cannot be refused: a region is cut, and its parts need more tables.
void vm_charge_anyway(uint64_t npages)
{
    mm_charge_stack(npages);
    charged += npages;
}

void vm_uncharge(uint64_t npages)
{
    mm_uncharge(npages);
    charged -= npages;
}

void vm_uncharge_later(struct vm_call *c, uint64_t npages)
{
    charged -= npages;
    c->give_back += npages;
}

void vm_given_back(struct vm_call *c)
{
    mm_uncharge(c->give_back);
    c->give_back = 0;
}

static uint64_t object_end(const struct region *r)
{
    return r->object_page + (r->end - r->start) / PAGE_SIZE;
}

bool vm_overlap(const struct region *p, const struct region *r, uint64_t *lo,
                uint64_t *hi)
{
    *lo = max_u64(p->object_page, r->object_page);
    *hi = min_u64(object_end(p), object_end(r));
    return *lo < *hi;
}

// Does p show pages of the memory, from `from` up to `to`, that no region of the
// ring but r is charged for?
static bool unpaid(const struct region *p, const struct region *r,
                   uint64_t from, uint64_t to)
{
    uint64_t lo = max_u64(p->object_page, from);
    uint64_t hi = min_u64(object_end(p), to);

    if (lo >= hi)
        return false;
    for (const struct region *q = r->peer; q != r; q = q->peer) {
        if (pays(q) && q->object_page <= lo && object_end(q) >= hi)
            return false;
    }
    return true;
}

// Aliases do not pay while the memory is charged to another. When that one goes
// they do, the largest first: it may show what the others do.
void vm_bequeath(struct region *r, uintptr_t va)
{
    uint64_t from = r->object_page + (va - r->start) / PAGE_SIZE;
    struct region *heir = r;

    while (heir != NULL && pays(r)) {
        heir = NULL;
        for (struct region *p = r->peer; p != r; p = p->peer) {
            if ((p->flags & REGION_ALIAS) &&
                unpaid(p, r, from, object_end(r)) &&
                (heir == NULL || p->end - p->start > heir->end - heir->start))
                heir = p;
        }
        if (heir == NULL)
            break;
        uint64_t tables = vm_cost(heir);

        heir->flags &= ~(unsigned)REGION_ALIAS;
        vm_charge_anyway(vm_cost(heir) - tables);
    }
}

// ---- helpers, mm_lock held ----

struct region *vm_first_in(uintptr_t va, uintptr_t end)
{
    struct region *r = region_first_above(va);

    return r != NULL && r->start < end ? r : NULL;
}

struct region *vm_next_in(struct region *r, uintptr_t end)
{
    return vm_first_in(r->end, end);
}

void vm_breathe(void)
{
    spin_unlock(&mm_lock);
    arch_relax();
    spin_lock(&mm_lock);
}

int vm_check_range(uintptr_t va, size_t bytes)
{
    if (bytes == 0 || (va | bytes) % PAGE_SIZE != 0 || va + bytes < va)
        return -EINVAL;
    if (va != 0 && (va < ARCH_REGION_BASE || va + bytes > ARCH_REGION_END))
        return -EINVAL;
    return 0;
}

// A large page that lies across va is split, once or twice.
int vm_split_at(uintptr_t va)
{
    for (;;) {
        int level;
        pte_t *e = pt_find(va, &level);

        if (e == NULL || level == 1 || !pt_has_frame(pt_get(e)) ||
            va % pte_span(level) == 0)
            return 0;
        paddr_t p = paddr(pte_paddr(pt_get(e)).raw & ~(pte_span(level) - 1));

        if (pt_split(va) != 0)
            return -ENOMEM;
        frame_split(p, vm_order(level), vm_order(level - 1));
        mm_count_large(level, -UINT64_C(1));
        mm_count_large(level - 1, PT_ENTRIES);
    }
}

int vm_split_all(uintptr_t va, uintptr_t end, int level)
{
    const uint64_t larger = pte_span(level + 1);

    while (va < end) {
        struct pt_run run = pt_run(va, end);
        uintptr_t next = va + run.n * PAGE_SIZE;

        if (run.e != NULL && run.level > level) {
            // Across this no page can lie that is larger.
            if (vm_split_at(align_down(va, larger) + pte_span(level)) != 0)
                return -ENOMEM;
            next = va + 1;
        }
        // Up to there it is as it is here.
        va = align_up(next, larger);
    }
    return 0;
}

static int cut_at(uintptr_t va)
{
    struct region *r = region_find(va);

    if (vm_split_at(va) != 0)
        return -ENOMEM;
    if (r == NULL || r->start == va)
        return 0;
    uint64_t whole = vm_cost(r);
    struct region *hi = region_cut(r, va);

    if (hi == NULL)
        return -ENOMEM;
    vm_charge_anyway(vm_cost(r) + vm_cost(hi) - whole);
    return 0;
}

// The regions of [va, end) end at its ends; with no holes unless they are fine.
int vm_isolate(uintptr_t va, uintptr_t end, bool holes)
{
    uintptr_t at = va;

    for (struct region *r = region_first_above(va); r != NULL && r->start < end;
         r = region_first_above(r->end)) {
        if (r->flags & REGION_FIXED)
            return -EPERM;
        if (r->start > at && !holes)
            return -ENOMEM;
        at = r->end;
    }
    if (at < end && !holes)
        return -ENOMEM;
    if (cut_at(va) != 0 || cut_at(end) != 0)
        return -ENOMEM;
    return 0;
}

void vm_unite(uintptr_t va, uintptr_t end)
{
    struct region *lo = region_first_above(va - 1);

    while (lo != NULL && lo->end <= end) {
        struct region *hi = region_first_above(lo->end);
        uintptr_t cut = lo->end;

        if (!region_unite(lo)) {
            lo = hi;
            continue;
        }
        vm_uncharge(vm_cost_of(lo->flags, lo->start, cut - lo->start) +
                    vm_cost_of(lo->flags, cut, lo->end - cut) - vm_cost(lo));
    }
}

bool vm_busy_in(uintptr_t va, uintptr_t end)
{
    struct pt_run run;

    if (mm_nbusy == 0)
        return false;
    for (; va < end; va += run.n * PAGE_SIZE) {
        run = pt_run(va, end);
        for (size_t i = 0; i < pt_run_entries(&run); i++) {
            if (pt_get(&run.e[i]) == PTE_BUSY)
                return true;
        }
    }
    return false;
}

// From here until vm_thaw() nobody replaces a frame of r, whichever view of it
// shows the page: r need not have an entry for it. r stays valid: only frozen
// operations change regions, and they wait for each other.
void vm_freeze(struct region *r)
{
    struct region *p = r;

    ASSERT(r->frozen == 0);

    do {
        p->frozen++;
        p = p->peer;
    } while (p != r);
    do {
        while (vm_busy_in(p->start, p->end))
            vm_breathe();
        p = p->peer;
    } while (p != r);
}

void vm_thaw(struct region *r)
{
    struct region *p = r;

    do {
        p->frozen--;
        p = p->peer;
    } while (p != r);
}

void vm_freeze_range(uintptr_t va, uintptr_t end)
{
    for (struct region *r = vm_first_in(va, end); r != NULL;
         r = vm_next_in(r, end)) {
        if (!r->frozen) // with another of its ring
            vm_freeze(r);
    }
}

void vm_thaw_range(uintptr_t va, uintptr_t end)
{
    for (struct region *r = vm_first_in(va, end); r != NULL;
         r = vm_next_in(r, end)) {
        if (r->frozen)
            vm_thaw(r);
    }
}

bool vm_is_gap(uintptr_t va, size_t bytes, const struct region *next)
{
    size_t room = bytes + GUARD;

    return room > bytes && va + room > va && va + room <= ARCH_REGION_END &&
           (next == NULL || next->start >= va + room);
}

// Large things start where large pages and relinking can work.
static uint64_t alignment_for(size_t bytes)
{
    return bytes >= pte_span(3)   ? pte_span(3)
           : bytes >= pte_span(2) ? pte_span(2)
                                  : PAGE_SIZE;
}

static uintptr_t find_gap(size_t bytes, uintptr_t from)
{
    for (uintptr_t at = from;;) {
        struct region *r = region_first_above(at);

        if (at + bytes + GUARD > ARCH_REGION_END || at + bytes < at)
            return 0;
        if (vm_is_gap(at, bytes, r))
            return at;
        at = align_up(r->end + GUARD, PAGE_SIZE);
        at = align_up(at, alignment_for(bytes));
    }
}

uintptr_t vm_place(uintptr_t wish, size_t bytes)
{
    uintptr_t first =
        ARCH_REGION_BASE + (ARCH_REGION_END - ARCH_REGION_BASE) / 2;
    uintptr_t from = search_from != 0 ? search_from : first, at;
    struct region *r = wish != 0 ? region_first_above(wish) : NULL;

    if (wish >= ARCH_REGION_BASE && wish + bytes > wish &&
        wish + bytes <= ARCH_REGION_END && wish % PAGE_SIZE == 0 &&
        (r == NULL || r->start >= wish + bytes))
        return wish;
    from = align_up(from, alignment_for(bytes));
    at = find_gap(bytes, from);
    if (at == 0)
        at = find_gap(bytes, first);
    if (at != 0)
        search_from = at + bytes + GUARD;
    return at;
}

struct region *vm_new_region(uintptr_t va, size_t bytes, unsigned prot,
                             unsigned flags, const char *name)
{
    struct region *r = region_new();

    if (r != NULL) {
        r->start = va;
        r->end = va + bytes;
        r->prot = prot;
        r->flags = flags;
        r->name = name;
        r->peer = r;
    }
    return r;
}

// Into a place that vm_place() found.
void vm_insert_free(struct region *r)
{
    int err = region_insert(r);

    ASSERT(err == 0);
}

// ---- check ----

static void add_cost(struct region *r, void *arg)
{
    if (r->pooled)
        *(uint64_t *)arg += vm_cost(r);
}

static void check_call(void *arg)
{
    uint64_t sum = 0;

    (void)arg;
    spin_lock(&mm_lock);
    region_check();
    pt_check();
    region_each(add_cost, &sum);
    if (sum != charged)
        panic("vm: regions cost %lu pages, charged are %lu", (unsigned long)sum,
              (unsigned long)charged);
    spin_unlock(&mm_lock);
    frame_check();
}

void mm_check(void)
{
    arch_on_system_stack(check_call, NULL);
}
