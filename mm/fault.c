// Page faults: demand-zero memory, aliases, copy-on-write.
//
// A fault is one look-up and one indirect call. For anonymous memory, by what
// the entry of the page says:
//
//   absent, a peer of the ring has it   the peer's frame
//   absent, read, region is sparse      the shared zero frame, read-only
//   absent                              a zeroed frame, and more behind it while
//                                       accesses go on in order (1, 2, 4 … 16)
//   busy                                another CPU replaces the frame: again
//   present, a store, PTE_COW           a frame of its own (below)
//
// Replacing a frame (R12): all entries of the ring for that page are made BUSY,
// mm_lock is released, the old translations are shot down everywhere and waited
// for, then the contents are copied and the new frame installed. Nobody changes
// a busy entry but who made it so; others wait or fault again.

#include <errno.h>
#include <string.h>

#include "mm/dirty.h"
#include "mm/fcache.h"
#include "mm/mm.h"
#include "mm/mm_impl.h"
#include "mm/pt.h"

enum { FAULT_AROUND_MAX = 16 }; // pages: 64 KiB, the bound of R4

static uint8_t last_fault[ARCH_MAX_CPUS]; // [own CPU] enum fault_result
paddr_t mm_zero_frame;
struct mm_counters mm_counters;
unsigned mm_nbusy;

void fault_init(void)
{
    mm_zero_frame = frame_alloc(0, FRAME_ZERO);
}

// The address in r of the page that q shows at va; 0 if r does not show it.
uintptr_t mm_peer_address(const struct region *q, uintptr_t va,
                          const struct region *r)
{
    uint64_t page = q->object_page + (va - q->start) / PAGE_SIZE;

    if (page < r->object_page ||
        page - r->object_page >= (r->end - r->start) / PAGE_SIZE)
        return 0;
    return r->start + (page - r->object_page) * PAGE_SIZE;
}

static pte_t *peer_entry(const struct region *q, uintptr_t va,
                         const struct region *r)
{
    int level;
    uintptr_t at = mm_peer_address(q, va, r);
    pte_t *e = at != 0 ? pt_find(at, &level) : NULL;

    return e != NULL && level == 1 ? e : NULL;
}

static bool growing_stack;   // [mm_lock] tables may come from the reserve
static bool counting_tables; // [mm_lock] and are promised to nobody

paddr_t fault_table_frame(void)
{
    if (growing_stack)
        return frame_cache_take_for_stack();
    if (!counting_tables)
        return frame_cache_take(FRAME_ZERO);
    if (!mm_charge(1))
        return paddr(0);
    paddr_t p = frame_cache_take(FRAME_ZERO);

    if (p.raw != 0)
        frame_set_counted(p);
    else
        mm_uncharge(1);
    return p;
}

// ---- memory without a promise (VM_NORESERVE) ----
//
// Nothing is charged when it is mapped. What it takes is counted frame by frame,
// its tables too, as it takes them: it gets what is promised to nobody, and stores
// into memory that is promised find theirs (R14). Frames that are counted are
// marked, so that whoever is the last to use one gives the count back.

bool mm_make_tables(const struct region *r, uintptr_t va, int level)
{
    if (!(r->flags & REGION_UNCHARGED))
        return pt_make_parent(va, level);
    // A table that the top one leads to is never given back.
    if (!pt_make_parent(va, PT_LEVELS - 1))
        return false;
    counting_tables = true;
    bool made = pt_make_parent(va, level);

    counting_tables = false;
    return made;
}

pte_t *mm_make_entry(const struct region *r, uintptr_t va)
{
    if (!(r->flags & REGION_UNCHARGED))
        return pt_make(va);
    if (!mm_make_tables(r, va, 1))
        return NULL;
    pte_t *e = pt_make(va);
    paddr_t table = paddr(align_down(arch_direct_to_paddr(e).raw, PAGE_SIZE));

    // It was there for a neighbour, which may go first.
    if (!frame_is_counted(table)) {
        if (!mm_charge(1))
            return NULL;
        frame_set_counted(table);
    }
    return e;
}

static bool is_counted(const struct region *r)
{
    return unlikely(r->flags & REGION_UNCHARGED);
}

// Up to n cleared frames, as many as nobody is promised.
COLD static unsigned take_counted(paddr_t *out, unsigned n)
{
    while (n > 0 && !mm_charge(n))
        n /= 2;
    unsigned got = n > 0 ? frame_cache_take_many(out, n) : 0;

    for (unsigned i = 0; i < got; i++)
        frame_set_counted(out[i]);
    mm_uncharge(n - got);
    return got;
}

bool region_unshare(uintptr_t va)
{
    growing_stack = true;
    bool done = pt_unshare(va);

    growing_stack = false;
    return done;
}

bool region_map_page(uintptr_t va, unsigned prot, bool for_stack)
{
    growing_stack = for_stack;
    pte_t *e = pt_make(va);

    growing_stack = false;
    if (e == NULL)
        return false;
    if (pte_present(pt_get(e)))
        return true;
    paddr_t p =
        for_stack ? frame_cache_take_for_stack() : frame_cache_take(FRAME_ZERO);

    if (p.raw == 0)
        return false;
    pte_t leaf = pte_make_leaf(p, prot, 1) & pt_valid_bits;

    pt_set(e, leaf);
    arch_pte_installed(va, leaf, 1);
    return true;
}

// ---- absent pages ----

// Shares the frame of a peer that has the page. Returns false if none has.
static bool share_with_peer(struct region *r, uintptr_t page, pte_t *e,
                            bool *busy)
{
    for (struct region *p = r->peer; p != r; p = p->peer) {
        pte_t *pe = peer_entry(r, page, p);
        pte_t v = pe != NULL ? pt_get(pe) : 0;

        if (v == PTE_BUSY) {
            *busy = true;
            return false;
        }
        if (!pt_has_frame(v) || mm_is_zero_frame(pte_paddr(v)))
            continue;
        frame_get(pte_paddr(v));
        pt_set(e, mm_leaf(r, pte_paddr(v), (v & PTE_COW) != 0));
        return true;
    }
    return false;
}

// How many pages to map from `page` on, whose entry e is clear: more while
// faults go on in order and all can be afforded. Their entries are in one table.
static unsigned window(struct region *r, uintptr_t page, const pte_t *e)
{
    unsigned n = r->window, most = PT_ENTRIES - pte_index(page, 1), k = 1;

    if (page / PAGE_SIZE != r->next_fault || n == 0)
        n = 1;
    else if (n < FAULT_AROUND_MAX)
        n *= 2;
    // Another view may have what comes next.
    if (r->peer != r || (n > 1 && mm_frames_scarce()))
        n = 1;
    if (most > (r->end - page) / PAGE_SIZE)
        most = (unsigned)((r->end - page) / PAGE_SIZE);
    most = n < most ? n : most;
    if (most > 1 && r->ahead != NULL)
        most = r->ahead(page, most);
    while (k < most && pt_get(e + k) == 0)
        k++;
    r->window = n;
    r->next_fault = page / PAGE_SIZE + k;
    return k;
}

static enum fault_result map_absent(struct region *r, uintptr_t page, pte_t *e,
                                    unsigned access)
{
    paddr_t frames[FAULT_AROUND_MAX];
    bool busy = false;

    if (r->peer != r && (share_with_peer(r, page, e, &busy) || busy))
        return FAULT_SERVED;
    // Reads of sparse memory in order would be given frames.
    if (access == PROT_R && (r->flags & REGION_SPARSE) && r->peer == r) {
        pt_set(e, mm_leaf(r, mm_zero_frame, true));
        return FAULT_SERVED;
    }
    unsigned n = window(r, page, e);

    n = is_counted(r) ? take_counted(frames, n)
                      : frame_cache_take_many(frames, n);
    if (n == 0)
        return FAULT_OOM;
    pte_t leaf = mm_leaf(r, paddr(0), false);

    // Release: the zeros are there before a walker can reach them.
    for (unsigned i = 0; i < n; i++)
        atomic_store_explicit((_Atomic pte_t *)&e[i], leaf | frames[i].raw,
                              memory_order_release);
    pt_counted(e, (int)n);
    mm_count(&mm_counters.zero_fills, n);
    return FAULT_SERVED;
}

// ---- copy-on-write ----

// The ring's entries for a page: how many show the frame.
static uint32_t ring_users(struct region *r, uintptr_t page, paddr_t frame)
{
    uint32_t n = 0;
    struct region *p = r;

    if (r->peer == r)
        return 1;
    do {
        pte_t *e = peer_entry(r, page, p);
        pte_t v = e != NULL ? pt_get(e) : 0;

        n += pt_has_frame(v) && pte_paddr(v).raw == frame.raw;
        p = p->peer;
    } while (p != r);
    return n;
}

// Changes every entry of the ring that shows `frame` (or is busy, if frame is
// 0) to what make() says.
static uint32_t ring_replace(struct region *r, uintptr_t page, paddr_t frame,
                             paddr_t with)
{
    uint32_t n = 0;
    struct region *p = r;

    do {
        pte_t *e = peer_entry(r, page, p);
        pte_t v = e != NULL ? pt_get(e) : 0;
        bool match = frame.raw != 0
                         ? pt_has_frame(v) && pte_paddr(v).raw == frame.raw
                         : v == PTE_BUSY;

        if (match) {
            if (v & PTE_DIRTY)
                dirty_note(r, page);
            pt_set(e, with.raw != 0 ? mm_leaf(p, with, false) : PTE_BUSY);
            n++;
        }
        p = p->peer;
    } while (p != r);
    return n;
}

// Shoots down the page at every address of the ring. The addresses are gathered
// under the lock, which is free while it waits.
static void ring_shootdown(struct region *r, uintptr_t page)
{
    uintptr_t at[8];
    unsigned n = 0;
    bool all = false;
    struct region *p = r;

    do {
        uintptr_t va = mm_peer_address(r, page, p);

        if (va != 0 && n < ARRAY_LEN(at))
            at[n++] = va;
        else if (va != 0)
            all = true;
        p = p->peer;
    } while (p != r);
    spin_unlock(&mm_lock);
    if (all)
        mm_shootdown(0, 0);
    for (unsigned i = 0; !all && i < n; i++)
        mm_shootdown(at[i], 1);
    spin_lock(&mm_lock);
}

// Break before make (R12) of all entries of the ring that show `old`.
static void replace_in_ring(struct region *r, uintptr_t page, paddr_t old,
                            paddr_t fresh)
{
    bool zero = mm_is_zero_frame(old);
    uint32_t users = ring_replace(r, page, old, paddr(0));

    ring_shootdown(r, page);
    if (!zero)
        memcpy(arch_direct(fresh), arch_direct(old), PAGE_SIZE);
    // r may have been cut meanwhile, but nobody removes a busy page.
    uint32_t now = ring_replace(region_find(page), page, paddr(0), fresh);

    ASSERT(now >= 1);
    for (uint32_t i = 1; i < now; i++)
        frame_get(fresh);
    for (uint32_t i = 0; !zero && i < users; i++)
        frame_put(old);
}

// The same for one entry. An alias that comes meanwhile has none for this page.
static void replace_one(struct region *r, uintptr_t page, pte_t *e, paddr_t old,
                        paddr_t fresh)
{
    bool zero = mm_is_zero_frame(old);

    if ((pt_swap(e, PTE_BUSY) & PTE_DIRTY) && r->logs != NULL)
        dirty_note(r, page);
    spin_unlock(&mm_lock);
    mm_shootdown(page, 1);
    if (!zero)
        memcpy(arch_direct(fresh), arch_direct(old), PAGE_SIZE);
    spin_lock(&mm_lock);
    pt_swap(e, mm_leaf(region_find(page), fresh, false));
    if (!zero)
        frame_put(old);
}

static enum fault_result break_cow(struct region *r, uintptr_t page, pte_t *e)
{
    paddr_t old = pte_paddr(pt_get(e));
    bool zero = mm_is_zero_frame(old);

    mm_count(&mm_counters.cow_faults, 1);
    if (!zero && frame_refs(old) == ring_users(r, page, old)) {
        // The other side is gone: more rights need no shootdown, a stale
        // translation faults once more and finds them.
        ring_replace(r, page, old, old);
        return FAULT_SERVED;
    }
    paddr_t fresh = paddr(0);

    if (is_counted(r))
        take_counted(&fresh, 1);
    else
        fresh = frame_cache_take(zero ? FRAME_ZERO : FRAME_DIRTY);
    if (fresh.raw == 0)
        return FAULT_OOM;
    mm_nbusy++;
    if (r->peer == r)
        replace_one(r, page, e, old, fresh);
    else
        replace_in_ring(r, page, old, fresh);
    mm_nbusy--;
    return FAULT_SERVED;
}

// ---- the fault ----

static enum fault_result anon_fault(struct region *r, uintptr_t va,
                                    unsigned access, uintptr_t rsp)
{
    uintptr_t page = align_down(va, PAGE_SIZE);
    int level;
    pte_t *e = pt_find(page, &level);
    pte_t v = e != NULL ? pt_get(e) : 0;

    (void)rsp;
    // Another CPU may have served it since; a stale translation is dropped by
    // the fault itself.
    if (pte_present(v) && (pte_prot(v) & access) == access)
        return FAULT_SERVED;
    if ((r->prot & access) != access)
        return FAULT_DENIED;
    if (v == PTE_BUSY)
        return FAULT_SERVED;
    // A page that appears while a clone is made would be missing in it, although
    // stores before and after it, through translations not yet shot down, are
    // there [seen]: again, when the clone is done.
    if (r->frozen)
        return FAULT_SERVED;
    if (pte_present(v))
        return access == PROT_W && (v & PTE_COW) ? break_cow(r, page, e)
                                                 : FAULT_DENIED;
    if (e == NULL || (r->flags & REGION_UNCHARGED))
        e = mm_make_entry(r, page);
    return e != NULL ? map_absent(r, page, e, access) : FAULT_OOM;
}

static const char *anon_describe(struct region *r, uintptr_t va, char *buf,
                                 size_t size)
{
    (void)va, (void)size, (void)buf;
    return r->name;
}

const struct region_ops region_anon_ops = {anon_fault, anon_describe};

static enum fault_result serve(uintptr_t va, unsigned access, uintptr_t rsp)
{
    if (!va_is_canonical(va))
        return FAULT_WILD;
    struct region *r = region_find(va);

    // Outside regions nothing is ever mapped lazily.
    if (r == NULL)
        return FAULT_WILD;
    return r->ops->fault(r, va, access, rsp);
}

bool mm_fault(uintptr_t va, unsigned access, uintptr_t rsp)
{
    // A CPU that holds the lock and faults has broken R5.
    if (spin_held(&mm_lock))
        return false;
    spin_lock(&mm_lock);
    enum fault_result f = serve(va, access, rsp);

    last_fault[arch_cpu_id()] = (uint8_t)f;
    mm_count(&mm_counters.faults, 1);
    spin_unlock(&mm_lock);
    return f == FAULT_SERVED;
}

enum fault_result mm_last_fault(void)
{
    return last_fault[arch_cpu_id()];
}
