// A machine with some RAM and mm started on it, for the tests of mm and above.
#pragma once

#include "arch/host/host.h"
#include "mm/mm.h"
#include "mm/pt.h"

// Includers say: // sources: $(mm)

// Physical layout of a small PC: a hole at 640 KiB, odd edges, a kept piece.
static inline const char *mm_fixture(uint64_t ram_bytes)
{
    static struct mm_boot b;
    const struct mm_map_entry map[] = {
        {.addr = 0, .size = 0x9fc00, .type = 1},
        {.addr = 0x100000, .size = ram_bytes - 0x100000, .type = 1}};

    memset(&b, 0, sizeof b);
    host_start(ram_bytes);
    mm_read_map(&b, map, ARRAY_LEN(map));
    b.keep[b.nkeep++] = (struct mm_range){0x100000, 0x140123};
    return mm_init(&b, host_load_root);
}

// start() and stop() of a group of tests: a machine with so much RAM.
#define MM_START(ram)                                                          \
    static int start(void **state)                                             \
    {                                                                          \
        (void)state;                                                           \
        return mm_fixture(ram) != NULL;                                        \
    }
#define MM_STOP                                                                \
    static int stop(void **state)                                              \
    {                                                                          \
        (void)state;                                                           \
        host_stop();                                                           \
        return 0;                                                              \
    }
