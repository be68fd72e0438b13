// See meta.h. What a CPU has too many of goes to a common list.
//
// Locks: meta_lock protects the common lists; inside of all others of the heap.

#include "runtime/heap/meta.h"

#include <string.h>

#include "runtime/heap/memory.h"

_Atomic uint64_t meta_bytes;

static struct spinlock meta_lock = SPINLOCK_INIT(RANK_META);
static void *_Atomic common[META_LARGEST / META_UNIT + 1]; // [meta_lock]

static char *new_page(void)
{
    char *p = heap_memory_frames(PAGE_SIZE);

    if (p != NULL)
        atomic_fetch_add_explicit(&meta_bytes, PAGE_SIZE, memory_order_relaxed);
    return p;
}

static void *pop_common(unsigned i)
{
    if (atomic_load_explicit(&common[i], memory_order_relaxed) == NULL)
        return NULL;
    spin_lock(&meta_lock);
    void *p = atomic_load_explicit(&common[i], memory_order_relaxed);

    if (p != NULL)
        atomic_store_explicit(&common[i], *(void **)p, memory_order_relaxed);
    spin_unlock(&meta_lock);
    return p;
}

static void push_common(unsigned i, void *p)
{
    spin_lock(&meta_lock);
    *(void **)p = atomic_load_explicit(&common[i], memory_order_relaxed);
    atomic_store_explicit(&common[i], p, memory_order_relaxed);
    spin_unlock(&meta_lock);
}

void *meta_new(struct meta *m, size_t size)
{
    unsigned i = (unsigned)(size / META_UNIT);
    void *p = m->spare[i];

    ASSERT(size % META_UNIT == 0 && size <= META_LARGEST);
    if (p != NULL) {
        m->spare[i] = *(void **)p;
        m->spares[i]--;
    } else if ((p = pop_common(i)) == NULL) {
        if ((size_t)(m->fresh_end - m->fresh) < size) {
            m->fresh = new_page();
            if (m->fresh == NULL) {
                m->fresh_end = NULL;
                return NULL;
            }
            m->fresh_end = m->fresh + PAGE_SIZE;
        }
        p = m->fresh;
        m->fresh += size;
    }
    memset(p, 0, size);
    return p;
}

void meta_free(struct meta *m, void *p, size_t size)
{
    unsigned i = (unsigned)(size / META_UNIT);

    if (m->spares[i] >= META_KEPT) {
        push_common(i, p);
        return;
    }
    *(void **)p = m->spare[i];
    m->spare[i] = p;
    m->spares[i]++;
}

void *meta_block_end(struct meta *m, size_t bytes)
{
    if (m->block == m->block_end) {
        m->block = new_page();
        m->block_end = m->block != NULL ? m->block + PAGE_SIZE : NULL;
        if (m->block == NULL)
            return NULL;
    }
    char *begin = m->block, *end = m->block += META_BLOCK;
    size_t rest = align_down(META_BLOCK - bytes, META_UNIT);

    // The larger rest serves for structures.
    if (rest > (size_t)(m->fresh_end - m->fresh)) {
        m->fresh = begin;
        m->fresh_end = begin + rest;
    }
    return end;
}

void meta_lock_common(void)
{
    spin_lock(&meta_lock);
}

void meta_unlock_common(void)
{
    spin_unlock(&meta_lock);
}
