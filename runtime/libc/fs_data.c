// The contents of a regular file.
//
// A file is a stack of two layers. Below lies what the boot archive holds of
// it, mapped, never written. Above lie the file's own pages, in a tree of
// tables like a page table: 512 slots a level, as many levels as the largest
// own page needs. A page that is not in the tree shows the archive's bytes,
// and zeros behind them: so a hole costs nothing, the first write to a mapped
// file copies one page and not the file, and growing moves nothing.
//
//     tree     [ own ]         [ own ]
//     mapped   ==============|           nmapped bytes of it show
//     zeros                   ...............
//     file     [-------------------------] size
//
// Invariants (fs_data_check):
//   D1  nmapped <= size; no mapped bytes show that were ever cut off
//   D2  own pages lie below size
//   D3  an own page is zero from size on
//   D4  npages == number of own pages
//
// Out of memory: a write is cut short in front of the first page that cannot
// be had. Tables without pages may then be left; they go with the next cut.

#include "runtime/libc/fs_impl.h"

#include "arch/base.h"

#include <stdlib.h>
#include <string.h>

enum {
    SLOT_BITS = 9,
    NSLOTS = 1 << SLOT_BITS,
};

void fs_data_init(struct fs_data *d, const void *mapped, size_t size)
{
    *d = (struct fs_data){.mapped = mapped, .nmapped = size, .size = size};
}

// Pages below one slot of a table at this level; a table at level 2 has pages
// in its slots.
static uint64_t slot_span(unsigned level)
{
    return (uint64_t)1 << (SLOT_BITS * (level - 2));
}

// Pages that a tree of this height can hold.
static uint64_t tree_span(unsigned height)
{
    return height == 0 ? 0 : (uint64_t)1 << (SLOT_BITS * (height - 1));
}

static uint8_t *page_find(const struct fs_data *d, uint64_t index)
{
    void *p = d->root;

    if (index >= tree_span(d->height))
        return NULL;
    for (unsigned level = d->height; p && level > 1; level--) {
        p = ((void **)p)[index / slot_span(level)];
        index %= slot_span(level);
    }
    return p;
}

// Adds levels on top until the tree can hold page index.
static bool tree_raise(struct fs_data *d, uint64_t index)
{
    if (!d->root) {
        d->height = 1;
        while (index >= tree_span(d->height))
            d->height++;
        return true;
    }
    while (index >= tree_span(d->height)) {
        void **table = calloc(NSLOTS, sizeof(void *));

        if (!table)
            return false;
        table[0] = d->root;
        d->root = table;
        d->height++;
    }
    return true;
}

// Fills a new own page with what was to be seen there without it.
static void page_fill(const struct fs_data *d, uint64_t index, uint8_t *page)
{
    uint64_t at = index * FS_PAGE_SIZE;
    size_t n = 0;

    if (at < d->nmapped) {
        n = min_u64(FS_PAGE_SIZE, d->nmapped - at);
        memcpy(page, d->mapped + at, n);
    }
    memset(page + n, 0, FS_PAGE_SIZE - n);
}

// The own page of that index, made if there is none; a caller that is about to
// write all of it need not have it filled. NULL: no memory.
static uint8_t *page_make(struct fs_data *d, uint64_t index, bool fill)
{
    uint64_t rest = index;
    void **slot = &d->root;

    if (!tree_raise(d, index))
        return NULL;
    for (unsigned level = d->height; level > 1; level--) {
        if (!*slot)
            *slot = calloc(NSLOTS, sizeof(void *));
        if (!*slot)
            return NULL;
        slot = &((void **)*slot)[rest / slot_span(level)];
        rest %= slot_span(level);
    }
    if (!*slot) {
        *slot = malloc(FS_PAGE_SIZE);
        if (!*slot)
            return NULL;
        if (fill)
            page_fill(d, index, *slot);
        d->npages++;
    }
    return *slot;
}

// Frees the pages from index `first` on below a slot; the tables too where
// nothing is left in front of `first`.
static void tree_cut(struct fs_data *d, void **slot, unsigned level,
                     uint64_t first)
{
    if (!*slot)
        return;
    if (level == 1) {
        d->npages--;
    } else {
        void **table = *slot;
        uint64_t i = first / slot_span(level);

        for (uint64_t sub = first % slot_span(level); i < NSLOTS; i++, sub = 0)
            tree_cut(d, &table[i], level - 1, sub);
        if (first > 0)
            return;
    }
    free(*slot);
    *slot = NULL;
}

static void cut_pages(struct fs_data *d, uint64_t first)
{
    if (first < tree_span(d->height))
        tree_cut(d, &d->root, d->height, first);
    if (!d->root)
        d->height = 0;
}

void fs_data_free(struct fs_data *d)
{
    cut_pages(d, 0);
    fs_data_init(d, NULL, 0);
}

size_t fs_data_read(const struct fs_data *d, uint64_t at, void *p, size_t n)
{
    uint8_t *to = p;
    size_t done = 0;

    if (at >= d->size)
        return 0;
    n = min_u64(n, d->size - at);
    if (d->npages == 0 && at < d->nmapped) {
        done = min_u64(n, d->nmapped - at);
        memcpy(to, d->mapped + at, done);
    }
    while (done < n) {
        uint64_t pos = at + done;
        size_t in_page = pos % FS_PAGE_SIZE;
        size_t len = min_u64(n - done, FS_PAGE_SIZE - in_page);
        const uint8_t *page = page_find(d, pos / FS_PAGE_SIZE);

        if (page) {
            memcpy(to + done, page + in_page, len);
        } else if (pos < d->nmapped) {
            len = min_u64(len, d->nmapped - pos);
            memcpy(to + done, d->mapped + pos, len);
        } else {
            memset(to + done, 0, len);
        }
        done += len;
    }
    return n;
}

size_t fs_data_write(struct fs_data *d, uint64_t at, const void *p, size_t n)
{
    const uint8_t *from = p;
    size_t done = 0;

    while (done < n) {
        uint64_t pos = at + done;
        size_t in_page = pos % FS_PAGE_SIZE;
        size_t len = min_u64(n - done, FS_PAGE_SIZE - in_page);
        uint8_t *page = page_make(d, pos / FS_PAGE_SIZE, len < FS_PAGE_SIZE);

        if (!page)
            break;
        memcpy(page + in_page, from + done, len);
        done += len;
    }
    if (done > 0)
        d->size = max_u64(d->size, at + done);
    else if (n > 0)
        cut_pages(d, align_up(d->size, FS_PAGE_SIZE) / FS_PAGE_SIZE);
    return done;
}

void fs_data_truncate(struct fs_data *d, uint64_t size)
{
    if (size < d->size) {
        size_t tail = size % FS_PAGE_SIZE;
        uint8_t *last = tail ? page_find(d, size / FS_PAGE_SIZE) : NULL;

        if (last)
            memset(last + tail, 0, FS_PAGE_SIZE - tail);
        cut_pages(d, align_up(size, FS_PAGE_SIZE) / FS_PAGE_SIZE);
        d->nmapped = min_u64(d->nmapped, size);
    }
    d->size = size;
}

static uint64_t check_below(const struct fs_data *d, const void *slot,
                            unsigned level, uint64_t index)
{
    uint64_t npages = 0;

    if (!slot)
        return 0;
    if (level == 1) {
        uint64_t at = index * FS_PAGE_SIZE;

        ASSERT(at < d->size);
        for (uint64_t i = d->size - at; i < FS_PAGE_SIZE; i++)
            ASSERT(((const uint8_t *)slot)[i] == 0);
        return 1;
    }
    for (uint64_t i = 0; i < NSLOTS; i++)
        npages += check_below(d, ((void *const *)slot)[i], level - 1,
                              index + i * slot_span(level));
    return npages;
}

void fs_data_check(const struct fs_data *d)
{
    ASSERT(d->nmapped <= d->size);
    ASSERT(d->nmapped == 0 || d->mapped);
    ASSERT((d->height == 0) == (d->root == NULL));
    ASSERT(check_below(d, d->root, d->height, 0) == d->npages);
}
