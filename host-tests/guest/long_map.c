// A boot with a longer memory map than mm has room for: the smallest pieces are
// left out, the loader's line says so, and of the others every frame is had.
//
// No machine that QEMU has gives such a map. The image has a second entry, which
// puts its own map in place of the loader's and goes on to the real one; the test
// case (long_map_case in host-tests/suites/mm.sh) makes the image's note name it.
// The pieces lie within 256 MiB, where every machine has RAM.

#include <stdint.h>

#include "host-tests/guest/tap.h"

#include "mm/fcache.h"
#include "mm/mm.h"

// As text for the assembler too: 80 pieces of 1, 2 ... 80 pages, 2 MiB apart from
// 64 MiB on; below them RAM as on a PC.
#define PIECES   80
#define FIRST    0x4000000
#define STEP     0x200000
#define TEXT(x)  TEXT_(x)
#define TEXT_(x) #x

// Source: for the fields of the start info, boot/pvh.c.
__asm__(
    ".pushsection .data\n"
    ".balign 8\n"
    "long_map:\n\t"
    ".quad 0, 0x9fc00, 1\n\t"
    ".quad 0x100000, 0x3e00000, 1\n\t"
    ".set i, 0\n\t"
    ".rept " TEXT(
        PIECES) "\n\t"
                ".quad " TEXT(FIRST) " + i * " TEXT(
                    STEP) ", (i + 1) * 4096, 1\n\t"
                          ".set i, i + 1\n\t"
                          ".endr\n"
                          ".popsection\n"
                          ".pushsection .boot.text, \"ax\"\n"
                          ".code32\n"
                          ".globl long_map_entry\n"
                          "long_map_entry:\n\t"
                          "movl $long_map - 0xffffffff80000000, 40(%ebx)\n\t"
                          "movl $0, 44(%ebx)\n\t"
                          "movl $" TEXT(PIECES) " + 2, 48(%ebx)\n\t"
                                                "jmp pvh_entry\n"
                                                ".code64\n"
                                                ".popsection\n");

extern const char long_map_entry[];

enum { LEFT_OUT = PIECES + 2 - MM_MAX_RANGES };

static uint64_t taken; // a list through the frames
static unsigned seen[PIECES], outside;

// Counts a frame for its piece. RAM below them is of no interest.
static void count(uint64_t pa)
{
    if (pa < FIRST)
        return;
    uint64_t piece = (pa - FIRST) / STEP,
             page = (pa - FIRST) % STEP / PAGE_SIZE;

    if (piece < PIECES && page <= piece)
        seen[piece]++;
    else
        outside++;
}

static void take_all(void *arg)
{
    paddr_t p;

    (void)arg;
    while ((p = frame_cache_take(FRAME_DIRTY)).raw != 0) {
        *(uint64_t *)arch_direct(p) = taken;
        taken = p.raw;
        count(p.raw);
    }
    while (taken != 0) {
        p = paddr(taken);
        taken = *(uint64_t *)arch_direct(p);
        frame_put(p);
    }
}

int main(void)
{
    unsigned cut = 0, had = 0, all = 0;

    frame_zeroed_max = 0;
    printf("# entered at %p\n", (const void *)long_map_entry);
    arch_on_system_stack(take_all, NULL);
    for (unsigned i = 0; i < PIECES; i++) {
        if (i < LEFT_OUT) {
            cut += seen[i];
        } else {
            had += seen[i];
            all += i + 1;
        }
    }
    IS(outside, 0, "no frame lies between the pieces");
    IS(cut, 0, "nor in those that are left out");
    // The start-up has taken some.
    ok(had > all / 10 * 8, "%u of the others' %u frames are had", had, all);
    ok(seen[PIECES - 1] == PIECES, "all of the last piece");
    mm_check();
    return tap_end();
}
