// See break.h.

#include "runtime/gc/break.h"

#include <string.h>

#include "arch/option.h"
#include "mm/mm.h"
#include "runtime/heap/collect.h"

unsigned gc_broken;
void (*gc_at_step)(enum gc_step step);

static const struct {
    const char *name;
    unsigned rule, heap_rule;
} rules[] = {
    {"ran", GC_BREAK_RAN, 0},        {"stacks", GC_BREAK_STACKS, 0},
    {"dirty", GC_BREAK_DIRTY, 0},    {"image", GC_BREAK_IMAGE, 0},
    {"shoot", GC_BREAK_SHOOT, 0},    {"past", GC_BREAK_PAST, 0},
    {"manual", GC_BREAK_MANUAL, 0},  {"registers", GC_BREAK_REGISTERS, 0},
    {"timers", GC_BREAK_TIMERS, 0},  {"final", GC_BREAK_FINAL, 0},
    {"move", 0, COLLECT_BREAK_MOVE}, {"tiny", 0, COLLECT_BREAK_TINY},
};

static const char *set_break(const char *s)
{
    for (unsigned i = 0; i < sizeof rules / sizeof *rules; i++) {
        if (strcmp(s, rules[i].name) != 0)
            continue;
        gc_broken |= rules[i].rule;
        collect_breaks |= rules[i].heap_rule;
        dirty_shoots_not = (gc_broken & GC_BREAK_SHOOT) != 0;
        return NULL;
    }
    return "must be ran, stacks, dirty, image, shoot, past, manual, registers, "
           "timers, final, move or tiny";
}

OPTION_CALL(opt_break, "gc.break", set_break,
            "for tests: a rule that is left out, and so marking fails");
