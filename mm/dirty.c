// See dirty.h.
//
// A harvest looks at every entry of a region's pages, its ring's too (a store
// through an alias dirties the alias's entry): where D is set it is cleared, by
// compare-and-exchange so that an entry changed meanwhile is looked at again,
// and the page is noted for every watcher. Then the translations are shot down,
// since a CPU that has cached D set stores without setting it again [seen].
// Only after that may the client read the pages: a store that it misses sets D
// for the next harvest.
//
// Locks: mm_lock protects logs and bitmaps.

#include "mm/dirty.h"

#include <errno.h>
#include <string.h>

#include "mm/frame.h"
#include "mm/mm.h"
#include "mm/mm_impl.h"
#include "mm/vm_impl.h"
#include "mm/pt.h"

struct dirty_log {
    struct dirty_log *next; // of the region
    int client;
    unsigned order;  // of the frames that hold this struct and the bitmap
    uint64_t npages; // bits
    uint64_t bits[]; // bit i: page i of the region
};

static uint32_t clients; // [mm_lock] bit set: in use
bool dirty_shoots_not;

static struct dirty_log *new_log(int client, uint64_t npages)
{
    size_t bytes = sizeof(struct dirty_log) + (npages + 63) / 64 * 8;
    unsigned order = 0;

    while ((size_t)PAGE_SIZE << order < bytes)
        order++;
    if (order > FRAME_MAX_ORDER || !mm_charge(UINT64_C(1) << order))
        return NULL;
    paddr_t p = frame_alloc(order, FRAME_ZERO);

    if (p.raw == 0) {
        mm_uncharge(UINT64_C(1) << order);
        return NULL;
    }
    struct dirty_log *l = arch_direct(p);

    l->client = client;
    l->order = order;
    l->npages = npages;
    return l;
}

static void free_log(struct dirty_log *l)
{
    uint64_t n = UINT64_C(1) << l->order;

    frame_free(arch_direct_to_paddr(l), l->order);
    mm_uncharge(n);
}

static struct dirty_log *log_of(const struct region *r, int client)
{
    struct dirty_log *l = r->logs;

    while (l != NULL && l->client != client)
        l = l->next;
    return l;
}

static void note(struct dirty_log *l, uint64_t page)
{
    if (page < l->npages)
        l->bits[page / 64] |= UINT64_C(1) << page % 64;
}

void dirty_note(struct region *r, uintptr_t va)
{
    struct region *p = r;

    do {
        uintptr_t at = mm_peer_address(r, va, p);

        for (struct dirty_log *l = p->logs; l != NULL && at != 0; l = l->next)
            note(l, (at - p->start) / PAGE_SIZE);
        p = p->peer;
    } while (p != r);
}

// Clears D of one entry; true if it was set.
static bool clear_dirty(pte_t *e)
{
    for (;;) {
        pte_t v = pt_get(e);

        if (!pt_has_frame(v) || !(v & PTE_DIRTY))
            return false;
        if (pt_try_set(e, v, v & ~PTE_DIRTY))
            return true;
    }
}

static bool watched(const struct region *r)
{
    const struct region *p = r;

    do {
        if (p->logs != NULL)
            return true;
        p = p->peer;
    } while (p != r);
    return false;
}

void dirty_leave(struct region *r, uintptr_t va, uintptr_t end)
{
    if (r->peer == r || !watched(r))
        return;
    uintptr_t next;

    for (; va < end; va = next) {
        pte_t *e = vm_small_entry_or_gap(va, end, &next);
        pte_t v = e != NULL ? pt_get(e) : 0;
        const pte_t rights = PTE_PRESENT | PTE_WRITE | PTE_DIRTY;

        if (!pt_has_frame(v))
            continue;
        // D as it is when the hardware can set it no more.
        while (!pt_try_set(e, v, (v & ~rights) | PTE_PARKED))
            v = pt_get(e);
        if (v & PTE_DIRTY)
            dirty_note(r, va);
    }
}

// What the entries of [va, end) in r say; true if any was dirty.
static bool harvest_view(struct region *r, uintptr_t va, uintptr_t end)
{
    bool any = false;
    struct pt_run run;

    for (; va < end; va += run.n * PAGE_SIZE) {
        run = pt_run(va, end);
        size_t each = run.level == 1 ? 1 : run.n; // pages of an entry

        for (size_t i = 0; i < pt_run_entries(&run); i++) {
            if (!clear_dirty(&run.e[i]))
                continue;
            any = true;
            for (size_t k = i * each; k < (i + 1) * each; k++)
                dirty_note(r, va + k * PAGE_SIZE);
        }
    }
    return any;
}

// mm_lock held. Returns true if a shootdown is due.
static bool harvest(struct region *r)
{
    bool any = false;
    struct region *p = r;

    do {
        uint64_t lo, hi;
        uintptr_t at = p->start - p->object_page * PAGE_SIZE;

        if (vm_overlap(p, r, &lo, &hi))
            any |= harvest_view(p, at + lo * PAGE_SIZE, at + hi * PAGE_SIZE);
        p = p->peer;
    } while (p != r);
    return any;
}

static void shoot_ring(struct region *r)
{
    bool alone = r->peer == r;
    uintptr_t start = r->start;
    size_t n = (r->end - r->start) / PAGE_SIZE;

    spin_unlock(&mm_lock);
    mm_shootdown(alone ? start : 0, alone ? n : 0);
    spin_lock(&mm_lock);
}

// ---- calls, on the system stack ----

struct call {
    int client;
    uintptr_t va;
    void (*visit)(uintptr_t page, void *arg);
    void *arg;
    long result;
};

static void client_new_call(void *arg)
{
    struct call *c = arg;

    spin_lock(&mm_lock);
    c->result = -ENOSPC;
    for (int i = 0; i < DIRTY_CLIENTS; i++) {
        if (!(clients >> i & 1)) {
            clients |= UINT32_C(1) << i;
            c->result = i;
            break;
        }
    }
    spin_unlock(&mm_lock);
}

int dirty_client_new(void)
{
    struct call c = {0};

    vm_run(client_new_call, &c);
    return (int)c.result;
}

static void drop_client(struct region *r, void *arg)
{
    int client = *(int *)arg;

    for (struct dirty_log **l = &r->logs; *l != NULL;) {
        struct dirty_log *at = *l;

        if (at->client == client) {
            *l = at->next;
            free_log(at);
        } else {
            l = &at->next;
        }
    }
}

static void client_free_call(void *arg)
{
    struct call *c = arg;

    spin_lock(&mm_lock);
    region_each(drop_client, &c->client);
    clients &= ~(UINT32_C(1) << c->client);
    spin_unlock(&mm_lock);
}

void dirty_client_free(int client)
{
    struct call c = {.client = client};

    ASSERT(client >= 0 && client < DIRTY_CLIENTS);
    vm_run(client_free_call, &c);
}

static int watch_locked(struct call *c)
{
    struct region *r = region_find(c->va);

    if (r == NULL || r->ops != &region_anon_ops || !(clients >> c->client & 1))
        return -EINVAL;
    if (log_of(r, c->client) != NULL)
        return -EEXIST;
    struct dirty_log *l = new_log(c->client, (r->end - r->start) / PAGE_SIZE);

    if (l == NULL)
        return -ENOMEM;
    // What is dirty now is news for the other watchers only.
    if (harvest(r))
        shoot_ring(r);
    l->next = r->logs;
    r->logs = l;
    return 0;
}

static void watch_call(void *arg)
{
    struct call *c = arg;

    spin_lock(&mm_lock);
    c->result = watch_locked(c);
    spin_unlock(&mm_lock);
}

int dirty_watch(int client, uintptr_t va)
{
    struct call c = {.client = client, .va = va};

    if (client < 0 || client >= DIRTY_CLIENTS)
        return -EINVAL;
    vm_run(watch_call, &c);
    return (int)c.result;
}

// Takes 64 pages' bits at a time, so that visit runs without the lock.
static uint64_t take_word(struct call *c, uint64_t word, uintptr_t *base)
{
    uint64_t bits = 0;

    spin_lock(&mm_lock);
    struct region *r = region_find(c->va);
    struct dirty_log *l = r != NULL ? log_of(r, c->client) : NULL;

    *base = 0;
    if (l != NULL && word * 64 < l->npages) {
        *base = r->start + word * 64 * PAGE_SIZE;
        bits = l->bits[word];
        l->bits[word] = 0;
    }
    spin_unlock(&mm_lock);
    return bits;
}

static void harvest_call(void *arg)
{
    struct call *c = arg;

    spin_lock(&mm_lock);
    struct region *r = region_find(c->va);

    if (r == NULL || log_of(r, c->client) == NULL) {
        c->result = -EINVAL;
        spin_unlock(&mm_lock);
        return;
    }
    if (watched(r) && harvest(r) && likely(!dirty_shoots_not))
        shoot_ring(r);
    spin_unlock(&mm_lock);
}

static void collect_call(void *arg)
{
    struct call *c = arg;

    harvest_call(c);
    if (c->result != 0)
        return;
    for (uint64_t word = 0;; word++) {
        uintptr_t base;
        uint64_t bits = take_word(c, word, &base);

        if (base == 0)
            return;
        for (; bits != 0; bits &= bits - 1) {
            c->result++;
            c->visit(base + (uint64_t)__builtin_ctzll(bits) * PAGE_SIZE,
                     c->arg);
        }
    }
}

long dirty_collect(int client, uintptr_t va,
                   void (*visit)(uintptr_t page, void *arg), void *arg)
{
    struct call c = {.client = client, .va = va, .visit = visit, .arg = arg};

    vm_run(collect_call, &c);
    return c.result;
}

int dirty_harvest(int client, uintptr_t va)
{
    struct call c = {.client = client, .va = va};

    vm_run(harvest_call, &c);
    return (int)c.result;
}

struct next_call {
    int client;
    uintptr_t va, base;
    uint64_t word, bits;
};

static void next_call(void *arg)
{
    struct next_call *c = arg;

    spin_lock(&mm_lock);
    struct region *r = region_find(c->va);
    struct dirty_log *l = r != NULL ? log_of(r, c->client) : NULL;

    for (; l != NULL && c->word * 64 < l->npages; c->word++) {
        c->bits = l->bits[c->word];
        if (c->bits == 0)
            continue;
        l->bits[c->word] = 0;
        c->base = r->start + c->word++ * 64 * PAGE_SIZE;
        break;
    }
    spin_unlock(&mm_lock);
}

bool dirty_next(int client, uintptr_t va, uint64_t *word, uintptr_t *base,
                uint64_t *bits)
{
    struct next_call c = {.client = client, .va = va, .word = *word};

    arch_on_system_stack(next_call, &c);
    *word = c.word;
    *base = c.base;
    *bits = c.bits;
    return c.bits != 0;
}

void dirty_again(int client, uintptr_t page)
{
    spin_lock(&mm_lock);
    struct region *r = region_find(page);
    struct dirty_log *l = r != NULL ? log_of(r, client) : NULL;

    if (l != NULL)
        note(l, (page - r->start) / PAGE_SIZE);
    spin_unlock(&mm_lock);
}

void dirty_mark(uintptr_t va)
{
    spin_lock(&mm_lock);
    struct region *r = region_find(va);

    if (r != NULL)
        dirty_note(r, align_down(va, PAGE_SIZE));
    spin_unlock(&mm_lock);
}

size_t dirty_take(uintptr_t *va, uintptr_t end, uintptr_t *pages, size_t room)
{
    size_t n = 0;

    while (*va < end) {
        struct pt_run run = pt_run(*va, end);
        size_t each = run.level == 1 ? 1 : run.n; // pages of an entry
        size_t i = 0;

        for (; i < pt_run_entries(&run); i++) {
            if (n + each > room)
                break;
            if (!clear_dirty(&run.e[i]))
                continue;
            for (size_t k = i * each; k < (i + 1) * each; k++) {
                struct region *r;

                pages[n++] = *va + k * PAGE_SIZE;
                if (clients != 0 && (r = region_find(pages[n - 1])) != NULL &&
                    watched(r))
                    dirty_note(r, pages[n - 1]);
            }
        }
        if (i < pt_run_entries(&run)) {
            *va += i * each * PAGE_SIZE;
            return n;
        }
        *va += run.n * PAGE_SIZE;
    }
    return n;
}

void dirty_shoot(void)
{
    if (likely(!dirty_shoots_not))
        mm_shootdown(0, 0);
}

uint64_t dirty_present(uintptr_t va, size_t n)
{
    uintptr_t end = va + n * PAGE_SIZE;
    uint64_t bits = 0;
    size_t at = 0;

    while (va < end) {
        struct pt_run run = pt_run(va, end);
        size_t each = run.level == 1 ? 1 : run.n;

        for (size_t i = 0; i < pt_run_entries(&run); i++) {
            for (size_t k = 0; k < each && pte_present(pt_get(&run.e[i])); k++)
                bits |= UINT64_C(1) << (at + i * each + k);
        }
        at += run.n;
        va += run.n * PAGE_SIZE;
    }
    return bits;
}

// ---- regions that are cut or go ----

// No bit beyond npages is set: whole words are collected.
static void shorten(struct dirty_log *l, uint64_t npages)
{
    for (uint64_t i = npages; i < l->npages; i++)
        l->bits[i / 64] &= ~(UINT64_C(1) << i % 64);
    l->npages = min_u64(l->npages, npages);
}

bool dirty_cut(struct region *r, struct region *hi, uintptr_t va)
{
    uint64_t at = (va - r->start) / PAGE_SIZE;

    hi->logs = NULL;
    for (struct dirty_log *l = r->logs; l != NULL; l = l->next) {
        struct dirty_log *upper = new_log(l->client, l->npages - at);

        if (upper == NULL) {
            dirty_forget(hi);
            return false;
        }
        for (uint64_t i = at; i < l->npages; i++) {
            if (l->bits[i / 64] >> i % 64 & 1)
                upper->bits[(i - at) / 64] |= UINT64_C(1) << (i - at) % 64;
        }
        upper->next = hi->logs;
        hi->logs = upper;
    }
    for (struct dirty_log *l = r->logs; l != NULL; l = l->next)
        shorten(l, at);
    return true;
}

static uint64_t room(const struct dirty_log *l)
{
    return (((uint64_t)PAGE_SIZE << l->order) - sizeof *l) * 8;
}

bool dirty_can_unite(const struct region *lo, const struct region *hi)
{
    unsigned n = 0;

    for (const struct dirty_log *l = lo->logs; l != NULL; l = l->next, n++) {
        const struct dirty_log *upper = log_of(hi, l->client);

        if (upper == NULL || l->npages + upper->npages > room(l))
            return false;
    }
    for (const struct dirty_log *l = hi->logs; l != NULL; l = l->next)
        n--;
    return n == 0;
}

void dirty_unite(struct region *lo, const struct region *hi)
{
    for (struct dirty_log *l = lo->logs; l != NULL; l = l->next) {
        const struct dirty_log *upper = log_of(hi, l->client);
        uint64_t at = l->npages;

        l->npages += upper->npages;
        for (uint64_t i = 0; i < upper->npages; i++) {
            if (upper->bits[i / 64] >> i % 64 & 1)
                note(l, at + i);
        }
    }
}

bool dirty_reserve(struct region *r, uint64_t npages)
{
    for (struct dirty_log **at = &r->logs; *at != NULL; at = &(*at)->next) {
        struct dirty_log *l = *at, *longer;

        if (npages <= l->npages)
            continue;
        longer = new_log(l->client, npages);
        if (longer == NULL)
            return false;
        memcpy(longer->bits, l->bits, (l->npages + 63) / 64 * 8);
        longer->next = l->next;
        *at = longer;
        free_log(l);
    }
    return true;
}

void dirty_trim(struct region *r)
{
    uint64_t npages = (r->end - r->start) / PAGE_SIZE;

    for (struct dirty_log *l = r->logs; l != NULL; l = l->next)
        shorten(l, npages);
}

void dirty_forget(struct region *r)
{
    while (r->logs != NULL) {
        struct dirty_log *l = r->logs;

        r->logs = l->next;
        free_log(l);
    }
}
