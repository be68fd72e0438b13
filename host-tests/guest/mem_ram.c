// RAM as the loader left it: whatever lies in it, a program sees zeros.
//
// usage: mem_ram [LEAST]
//
// LEAST: so many of 100 free frames hold something, or there was nothing to test.

#include <gneiss/mem.h>
#include <stdint.h>
#include <stdlib.h>

#include "host-tests/guest/room.h"
#include "host-tests/guest/tap.h"

#include "mm/fcache.h"
#include "mm/mm.h"

static bool is_zero(const uint64_t *p)
{
    for (size_t i = 0; i < PAGE_SIZE / sizeof *p; i++) {
        if (p[i] != 0)
            return false;
    }
    return true;
}

struct found {
    uint64_t frames, full;
};

// All free frames, as they are; the list goes through those taken.
static void look_at_all(void *arg)
{
    struct found *f = arg;
    uint64_t all = 0;
    paddr_t p;

    while ((p = frame_cache_take(FRAME_DIRTY)).raw != 0) {
        uint64_t *there = arch_direct(p);

        f->frames++;
        f->full += !is_zero(there);
        *there = all;
        all = p.raw;
    }
    while (all != 0) {
        p = paddr(all);
        all = *(uint64_t *)arch_direct(p);
        frame_put(p);
    }
    frame_cache_flush();
}

int main(int argc, char **argv)
{
    unsigned least = argc > 1 ? (unsigned)atoi(argv[1]) : 0;
    struct found f = {0};
    bool right = true;

    printf("# the stack and stdout have what they need\n");
    arch_on_system_stack(look_at_all, &f);
    printf("# %lu of %lu free frames are not zero\n", (unsigned long)f.full,
           (unsigned long)f.frames);
    ok(f.full * 100 >= f.frames * least, "RAM is as the loader left it");

    size_t bytes = room() * 9 / 10 * PAGE_SIZE;
    char *p = gn_map(NULL, bytes, GN_READ | GN_WRITE, 0);

    ok(p != NULL, "most of it is mapped");
    for (size_t i = 0; right && p != NULL && i < bytes; i += PAGE_SIZE)
        right = is_zero((uint64_t *)(p + i));
    ok(right, "and reads as zero");
    gn_unmap(p, bytes);
    bytes = bytes / 2;
    uint64_t *q = calloc(bytes, 1);

    right = q != NULL;
    for (size_t i = 0; right && i < bytes; i += PAGE_SIZE)
        right = is_zero(q + i / sizeof *q);
    ok(right, "so does what calloc gives");
    free(q);
    mm_check();
    arch_on_system_stack((void (*)(void *))(uintptr_t)frame_check, NULL);
    ok(true, "the frame allocator is consistent");
    return tap_end();
}
