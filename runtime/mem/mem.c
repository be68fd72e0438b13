// The calls of <gneiss/mem.h> that change something.
//
// Thin: mm/vm.h does the work. Here lengths are rounded, flags checked, and
// everything is kept inside the part of the address space that mappings share
// (ARCH_REGION_BASE..END): mm trusts its callers, a program's pointer may be
// anything. mm takes its locks on the system stack (R5).

#include <gneiss/mem.h>

#include <errno.h>

#include "mm/mm.h"

static const char default_name[] = "mapped memory";

static void *fail(int err)
{
    errno = -err;
    return NULL;
}

// Rounds *bytes up and checks that [p, p + *bytes) is where mappings may lie.
static int check(const void *p, size_t *bytes)
{
    uintptr_t va = (uintptr_t)p;
    size_t n = align_up(*bytes, PAGE_SIZE);

    if (*bytes == 0 || n == 0 || va % PAGE_SIZE != 0)
        return -EINVAL;
    if ((va >= ARCH_HEAP_BASE && va - ARCH_HEAP_BASE < ARCH_HEAP_SIZE) ||
        (va >= ARCH_STACK_BASE && va < ARCH_STACK_END))
        return -EPERM;
    if (va < ARCH_REGION_BASE || va >= ARCH_REGION_END ||
        n > ARCH_REGION_END - va)
        return -EINVAL;
    *bytes = n;
    return 0;
}

// Checks rights and adds GN_READ, as the hardware does.
static int check_prot(int prot, unsigned *out)
{
    if (prot & ~(GN_READ | GN_WRITE | GN_EXEC))
        return -EINVAL;
    if ((prot & GN_WRITE) && (prot & GN_EXEC))
        return -EACCES;
    *out = prot != GN_NONE ? (unsigned)prot | PROT_R : 0;
    return 0;
}

// The two agree, so that rights and flags pass as they are.
_Static_assert((int)GN_READ == (int)PROT_R && (int)GN_WRITE == (int)PROT_W &&
                   (int)GN_EXEC == (int)PROT_X,
               "rights are those of mm");
_Static_assert((int)GN_FIXED == (int)VM_FIXED &&
                   (int)GN_NORESERVE == (int)VM_NORESERVE &&
                   (int)GN_SPARSE == (int)VM_SPARSE,
               "flags are those of mm");

// ---- mapping ----

void *gn_map_named(void *hint, size_t bytes, int prot, int flags,
                   const char *name)
{
    uintptr_t va = (uintptr_t)hint;
    size_t n = align_up(bytes, PAGE_SIZE);
    unsigned rights;
    int err = check_prot(prot, &rights);

    if (err != 0)
        return fail(err);
    if (bytes == 0 || (flags & ~(GN_FIXED | GN_NORESERVE | GN_SPARSE)))
        return fail(-EINVAL);
    if (n == 0 || n > ARCH_REGION_END - ARCH_REGION_BASE)
        return fail(-ENOMEM);
    if ((flags & GN_FIXED) && (err = check(hint, &n)) != 0)
        return fail(err == -EPERM ? -EEXIST : -EINVAL);
    if (!(flags & GN_FIXED) && check(hint, &n) != 0)
        va = 0; // a wish that can't be met
    err = vm_map(&va, n, rights, (unsigned)flags,
                 name != NULL ? name : default_name);
    return err == 0 ? (void *)va : fail(err);
}

void *gn_map(void *hint, size_t bytes, int prot, int flags)
{
    return gn_map_named(hint, bytes, prot, flags, default_name);
}

void *gn_map_device(uint64_t physical, size_t bytes, int prot, const char *name)
{
    uintptr_t va = 0;
    size_t n = align_up(bytes, PAGE_SIZE);
    unsigned rights;
    int err = check_prot(prot, &rights);

    if (err == 0 && (prot & GN_EXEC))
        err = -EACCES;
    if (err == 0 && (rights == 0 || n == 0))
        err = -EINVAL;
    if (err == 0)
        err = vm_map_device(&va, paddr(physical), n, rights,
                            name != NULL ? name : "device registers");
    return err == 0 ? (void *)va : fail(err);
}

int gn_unmap(void *p, size_t bytes)
{
    int err = check(p, &bytes);

    return err != 0 ? err : vm_unmap((uintptr_t)p, bytes);
}

int gn_protect(void *p, size_t bytes, int prot)
{
    unsigned rights;
    int err = check(p, &bytes);

    if (err == 0)
        err = check_prot(prot, &rights);
    return err != 0 ? err : vm_protect((uintptr_t)p, bytes, rights);
}

void *gn_reserve(size_t bytes)
{
    return gn_map_named(NULL, bytes, GN_NONE, 0, "range of gn_reserve");
}

int gn_commit(void *p, size_t bytes, int prot)
{
    return prot == GN_NONE ? -EINVAL : gn_protect(p, bytes, prot);
}

int gn_decommit(void *p, size_t bytes)
{
    int err = check(p, &bytes);

    return err != 0 ? err : vm_decommit((uintptr_t)p, bytes, true);
}

// ---- moving ----

static void *move(uintptr_t va, size_t bytes, size_t new_bytes, uintptr_t to)
{
    int err = vm_move(va, bytes, new_bytes, &to);

    return err == 0 ? (void *)to : fail(err);
}

static bool overlap(uintptr_t a, size_t na, uintptr_t b, size_t nb)
{
    return a < b + nb && b < a + na;
}

void *gn_remap(void *p, size_t bytes, size_t new_bytes, int flags, void *to)
{
    uintptr_t va = (uintptr_t)p;

    int err = check(p, &bytes);

    if (err != 0)
        return fail(err);
    if (new_bytes == 0 || (flags & ~(GN_MAYMOVE | GN_MOVE | GN_FIXED)))
        return fail(-EINVAL);
    if (new_bytes > ARCH_REGION_END - ARCH_REGION_BASE)
        return fail(-ENOMEM);
    new_bytes = align_up(new_bytes, PAGE_SIZE);
    if (flags & GN_FIXED) {
        if (check(to, &new_bytes) != 0 ||
            overlap(va, bytes, (uintptr_t)to, new_bytes))
            return fail(-EINVAL);
        return move(va, bytes, new_bytes, (uintptr_t)to);
    }
    if (flags & GN_MOVE)
        return move(va, bytes, new_bytes, 0);
    void *q = move(va, bytes, new_bytes, va);

    if (q == NULL && errno == ENOMEM && (flags & GN_MAYMOVE))
        q = move(va, bytes, new_bytes, 0);
    return q;
}

// ---- sharing ----

void *gn_alias(void *p, size_t bytes, int prot)
{
    uintptr_t alias = 0;
    unsigned rights;
    int err = check(p, &bytes);

    if (err == 0)
        err = check_prot(prot, &rights);
    if (err == 0)
        err = vm_alias((uintptr_t)p, bytes, rights, &alias);
    return err == 0 ? (void *)alias : fail(err);
}

void *gn_snapshot(const void *p, size_t bytes)
{
    uintptr_t copy = 0;
    int err = check(p, &bytes);

    if (err == 0)
        err = vm_clone((uintptr_t)p, bytes, &copy);
    return err == 0 ? (void *)copy : fail(err);
}

// ---- advice ----

enum { POPULATE_STEP = 64 }; // pages in one no-preempt section

struct populate {
    uintptr_t va, end;
    int result;
};

// One step: the page at va has its frame, or an error, or another try is due.
static int populate_page(uintptr_t va, uintptr_t *next)
{
    struct mm_look l;

    spin_lock(&mm_lock);
    mm_look(va, &l);
    spin_unlock(&mm_lock);
    if (!l.in_region)
        return -ENOMEM;
    if (l.ops != &region_anon_ops)
        return -EPERM;
    if (l.prot == 0)
        return -EACCES;
    unsigned access = l.prot & PROT_W ? PROT_W : PROT_R;

    *next = va;
    if (l.mapped && (l.rights & access))
        *next = va + PAGE_SIZE;
    else if (!mm_fault(va, access, 0) && mm_last_fault() == FAULT_OOM)
        return -ENOMEM;
    else
        arch_relax(); // another CPU may be busy with the page
    return 0;
}

static void populate_call(void *arg)
{
    struct populate *p = arg;
    unsigned steps = 0;

    while (p->va < p->end && p->result == 0 && steps++ < POPULATE_STEP)
        p->result = populate_page(p->va, &p->va);
}

static int populate(uintptr_t va, size_t bytes)
{
    struct populate p = {va, va + bytes, 0};

    while (p.va < p.end && p.result == 0)
        arch_on_system_stack(populate_call, &p);
    return p.result;
}

long gn_advise(void *p, size_t bytes, enum gn_advice advice)
{
    uintptr_t va = (uintptr_t)p;
    int err = check(p, &bytes);

    if (err != 0)
        return err;
    switch (advice) {
    case GN_DISCARD:
        return vm_decommit(va, bytes, false);
    case GN_POPULATE:
        return populate(va, bytes);
    case GN_PROMOTE:
        return vm_promote(va, bytes);
    }
    return -EINVAL;
}

// ---- which pages were stored to ----

// dirty.h panics at a number that it did not give; a program may try.
static _Atomic uint32_t watchers; // bit set: given to the program

static bool known(int watcher)
{
    return watcher >= 0 && watcher < DIRTY_CLIENTS &&
           (atomic_load_explicit(&watchers, memory_order_relaxed) >> watcher &
            1);
}

int gn_watch_new(void)
{
    int w = dirty_client_new();

    if (w >= 0)
        atomic_fetch_or_explicit(&watchers, UINT32_C(1) << w,
                                 memory_order_relaxed);
    return w;
}

int gn_watch_end(int watcher)
{
    uint32_t bit = known(watcher) ? UINT32_C(1) << watcher : 0;

    if (bit == 0 ||
        !(atomic_fetch_and_explicit(&watchers, ~bit, memory_order_relaxed) &
          bit))
        return -EINVAL;
    dirty_client_free(watcher);
    return 0;
}

int gn_watch(int watcher, const void *p)
{
    return known(watcher) ? dirty_watch(watcher, (uintptr_t)p) : -EINVAL;
}

struct collect {
    int watcher;
    void **pages;
    size_t n, max;
};

// Runs on the system stack. What does not fit is noted again: its word of the
// bitmap has been taken, so that it comes with the next call.
static void collect_page(uintptr_t page, void *arg)
{
    struct collect *c = arg;

    if (c->n < c->max)
        c->pages[c->n++] = (void *)page;
    else
        dirty_again(c->watcher, page);
}

long gn_watch_collect(int watcher, const void *p, void **pages, size_t max)
{
    struct collect c = {watcher, pages, 0, max};

    if (!known(watcher) || max == 0)
        return -EINVAL;
    // The caller's array has its frames before mm writes to it (R5).
    for (size_t i = 0; i < max; i += PAGE_SIZE / sizeof *pages)
        *(void *volatile *)&pages[i] = NULL;
    *(void *volatile *)&pages[max - 1] = NULL;
    long n = dirty_collect(watcher, (uintptr_t)p, collect_page, &c);

    return n < 0 ? n : (long)c.n;
}
