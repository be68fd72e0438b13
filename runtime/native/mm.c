// The part of mm/ that scheduler, stacks and reports use, in a Linux process: Linux
// has the memory, so nothing is counted or promised.

#define _GNU_SOURCE

#include "mm/mm.h"

#include <gneiss/mem.h>

#include <stdio.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "arch/fmt.h"
#include "runtime/native/native.h"
#include "runtime/stack/stack.h"

struct spinlock mm_lock;

static struct mm_reclaimer *reclaimers; // [c] after the start

// ---- frames ----

paddr_t frame_alloc(unsigned order, enum frame_flags flags)
{
    void *p = mmap(NULL, (size_t)PAGE_SIZE << order, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)flags; // Linux clears them
    return paddr(p != MAP_FAILED ? (uint64_t)(uintptr_t)p : 0);
}

void *mm_boot_page(void)
{
    paddr_t p = frame_alloc(0, FRAME_ZERO);

    if (p.raw == 0)
        panic("native: no memory");
    return arch_direct(p);
}

struct frame_stats frame_stats(void)
{
    uint64_t total = (uint64_t)sysconf(_SC_PHYS_PAGES);

    return (struct frame_stats){.total = total, .free = total};
}

struct frame_cache_stats frame_cache_stats(void)
{
    return (struct frame_cache_stats){0};
}

bool frame_reserve_low(void)
{
    return false;
}

void frame_reserve_refill(void)
{
}

bool frame_zero_ahead(void)
{
    return false;
}

void mm_cpu_init(void)
{
}

// ---- promises ----

bool mm_charge(uint64_t npages)
{
    (void)npages;
    return true;
}

void mm_uncharge(uint64_t npages)
{
    (void)npages;
}

void mm_commit_less(uint64_t npages)
{
    (void)npages;
}

struct mm_commit mm_commit(void)
{
    return (struct mm_commit){0};
}

uint64_t pt_tables(void)
{
    return 0;
}

bool mm_frames_scarce(void)
{
    return false;
}

void mm_reclaimer_add(struct mm_reclaimer *r)
{
    r->next = reclaimers;
    reclaimers = r;
}

uint64_t mm_reclaim(uint64_t npages)
{
    uint64_t got = 0;

    for (struct mm_reclaimer *r = reclaimers; r != NULL; r = r->next)
        got += r->reclaim(npages, MM_PLENTY);
    return got;
}

// There is pressure only of what an idle CPU can do better than a busy one.
bool mm_pressure_pending(void)
{
    return native_stacks_noted();
}

void mm_relieve(void)
{
    native_stacks_drop();
}

// ---- figures ----

// What the process has, its page tables included, counts as not free: so that a
// difference says what it took meanwhile.
void gn_mem_stats(struct gn_mem_stats *s)
{
    FILE *f = fopen("/proc/self/status", "re");
    uint64_t tables = 0, resident = 0;
    unsigned long kib;
    char line[128];

    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (sscanf(line, "VmPTE: %lu", &kib) == 1)
            tables = kib * KIB / PAGE_SIZE;
        if (sscanf(line, "VmRSS: %lu", &kib) == 1)
            resident = kib * KIB / PAGE_SIZE;
    }
    if (f != NULL)
        fclose(f);
    *s = (struct gn_mem_stats){.frames_total = frame_stats().total,
                               .page_tables = tables};
    s->frames_free =
        s->frames_total - min_u64(tables + resident, s->frames_total);
    s->frames_low = s->frames_free;
}

// ---- for reports ----

bool mm_readable(uintptr_t va, size_t n)
{
    char bytes[64];
    struct iovec to = {bytes, n}, from = {(void *)va, n};

    ASSERT(n <= sizeof bytes);
    return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == (ssize_t)n;
}

const char *mm_describe(uintptr_t va, char *buf, size_t size)
{
    extern const char __executable_start[], etext[];

    if (stack_owner(va) != NULL)
        return stack_describe(va, buf, size);
    if (va >= (uintptr_t)__executable_start && va < (uintptr_t)etext)
        return "text of the program";
    if (mm_readable(va, 1))
        return "memory of the process";
    return "not mapped, or not readable";
}

static enum fault_result last_fault = FAULT_WILD; // of the thread that reports

enum fault_result mm_last_fault(void)
{
    return last_fault;
}

bool native_fault(uintptr_t va, unsigned access, uintptr_t rsp)
{
    struct g *g = stack_owner(va);

    (void)access, (void)rsp;
    last_fault = FAULT_WILD;
    if (g != NULL && g->state != G_FREE && va < stack_bottom(g))
        last_fault = FAULT_GUARD;
    return false;
}
