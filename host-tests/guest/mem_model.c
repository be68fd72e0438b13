// 100,000 random operations on ranges against models, with every page's contents
// and rights compared, as on the host (host-tests/mm/test_vm.c). Each CPU works on
// a model of its own, all at the same time; and one model is shared: a CPU that
// has it finds what the others left, through translations that it may remember.
// From time to time all meet, and everything is checked.
//
// Memory is shared out so that nothing may be refused for want of it. Where it is
// little fewer CPUs have a model of their own, down to the shared one alone.
//
// usage: mem_model [STEPS [SEED]]

#include <stdint.h>

#include "host-tests/guest/par.h"
#include "host-tests/guest/room.h"
#include "host-tests/guest/settle.h"
#include "host-tests/guest/tap.h"

#include <gneiss/cpu.h>

#include "mm/mm.h"

static void __attribute__((format(printf, 1, 2), noreturn))
fail_msg(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    printf("not ok - ");
    vprintf(format, ap);
    printf("\n");
    va_end(ap);
    exit(1);
}

#include "host-tests/mm/model.h"

enum {
    MODELS = ARCH_MAX_CPUS + 1,
    MEET_EVERY = 500,    // steps, of all CPUs together
    TURN = 64,           // steps
    AT_A_TIME = 2,       // CPUs that work
    ALL_EVERY = 20,      // but all do in every 20th round,
    STEPS_OF_ALL = 40,   // which is short
    NAP_NS = 200 * 1000, // while one waits for others
    SHARE_OF_SHARED = 8, // every eighth step is one of the shared model
};

static unsigned steps = 100000;
static uint64_t seed = 20261121;

static struct model models[MODELS]; // the shared one, then those of the CPUs
static unsigned nmodels;

// ---- stores that must fault ----

static bool (*real_fault)(uintptr_t va, unsigned access, uintptr_t rsp);
static volatile struct {
    uintptr_t va;
    unsigned caught;
} forbidden[ARCH_MAX_CPUS]; // [own CPU]

// Runs in the fault: a store that was denied, as it must be, can be done now.
static bool IRQ_FN catching_fault(uintptr_t va, unsigned access, uintptr_t rsp)
{
    unsigned cpu = arch_cpu_id();

    if (real_fault(va, access, rsp))
        return true;
    if (va != forbidden[cpu].va || access != PROT_W)
        return false;
    forbidden[cpu].caught++;
    return vm_protect(align_down(va, PAGE_SIZE), PAGE_SIZE, MODEL_RW) == 0;
}

static bool model_store_faults(uintptr_t va)
{
    unsigned cpu = arch_cpu_id();
    uint64_t is = *model_word(va);

    forbidden[cpu].va = va;
    forbidden[cpu].caught = 0;
    *model_word(va) = is;
    forbidden[cpu].va = 0;
    if (vm_protect(align_down(va, PAGE_SIZE), PAGE_SIZE, PROT_R) != 0)
        fail_msg("the right to store is not taken again");
    return forbidden[cpu].caught == 1;
}

// ---- all CPUs ----

// The nth time that all are here.
static void meet(_Atomic unsigned *here, unsigned n)
{
    atomic_fetch_add(here, 1);
    while (atomic_load(here) < n * arch_cpu_count())
        g_sleep_until(arch_mono_ns() + NAP_NS);
}

// A step of the shared model, unless another CPU is at it.
static bool shared_step(void)
{
    static _Atomic bool taken;

    if (atomic_exchange(&taken, true))
        return false;
    model_step(&models[0], NULL);
    atomic_store(&taken, false);
    return true;
}

static void one_step(struct model *own, unsigned i)
{
    if (own != NULL && i % SHARE_OF_SHARED != 0) {
        model_step(own, NULL);
        return;
    }
    while (!shared_step()) {
        if (own != NULL) {
            model_step(own, NULL);
            return;
        }
        g_sleep_until(arch_mono_ns() + NAP_NS);
    }
}

// Where there are fewer real CPUs than these, each shootdown waits for all that
// don't run until the host has run them, so in most rounds two work at a time, a
// few steps each; the others sleep meanwhile.
static void some_steps(unsigned cpu, unsigned n, unsigned at_a_time)
{
    static _Atomic unsigned at_work;
    struct model *own = cpu + 1 < nmodels ? &models[cpu + 1] : NULL;

    for (unsigned i = 0; i < n;) {
        if (atomic_fetch_add(&at_work, 1) >= at_a_time) {
            atomic_fetch_sub(&at_work, 1);
            g_sleep_until(arch_mono_ns() + NAP_NS);
            continue;
        }
        for (unsigned end = i + TURN < n ? i + TURN : n; i < end; i++)
            one_step(own, i);
        atomic_fetch_sub(&at_work, 1);
        if (at_a_time < arch_cpu_count())
            g_sleep_until(arch_mono_ns() + NAP_NS);
    }
}

static unsigned share_of(unsigned cpu, unsigned n)
{
    return n / arch_cpu_count() + (cpu < n % arch_cpu_count());
}

static void work(unsigned cpu, void *arg)
{
    static _Atomic unsigned arrived, checked;
    unsigned left = *(unsigned *)arg;

    for (unsigned n = 1; left > 0; n++) {
        bool all = n % ALL_EVERY == 0;
        unsigned now = all ? STEPS_OF_ALL : MEET_EVERY;

        now = left < now ? left : now;
        some_steps(cpu, share_of(cpu, now), all ? arch_cpu_count() : AT_A_TIME);
        left -= now;
        meet(&arrived, n);
        if (cpu == 0) {
            mm_check();
            for (unsigned i = 0; i < nmodels; i++)
                model_compare_all(&models[i]);
        }
        meet(&checked, n);
    }
}

static void nothing(unsigned cpu, void *arg)
{
    (void)cpu, (void)arg;
}

// ---- sharing memory out ----

// The pages that a model and what it is given by the calls take together.
static void make_model(struct model *m, size_t pages)
{
    size_t own =
        (size_t)mm_mapping_cost(align_up(model_bytes(pages), PAGE_SIZE));
    uintptr_t va = 0;
    size_t promised = pages - own;

    if (vm_map(&va, align_up(model_bytes(promised), PAGE_SIZE), MODEL_RW, 0,
               "a model") != 0)
        fail_msg("no memory for a model");
    model_init(m, (char *)va, promised, seed + nmodels * UINT64_C(1000003));
    nmodels++;
}

// Models for which there is memory: the shared one, and one for each CPU. Each gets
// an equal part, or one as much as it can use if the others have enough. Returns
// whether one must have large pages.
static bool make_models(void)
{
    enum { LEAST = MODEL_LEAST + 8, ENOUGH = MODEL_SMALL + 40 };
    enum { MOST = MODEL_MOST + 100 };

    // What stacks and descriptors may take meanwhile stays.
    size_t rest = room() / 4 * 3, left = rest / LEAST;
    size_t most = arch_cpu_count() > 1 ? arch_cpu_count() + 1 : 1;
    bool want_large = rest >= MODEL_LARGE + 100 + (most - 1) * ENOUGH;

    for (left = left < most ? left : most; left > 0; left--) {
        size_t part = rest / left, others = (left - 1) * ENOUGH;

        if (rest > others && rest - others > part)
            part = rest - others;
        part = part < MOST ? part : MOST;
        make_model(&models[nmodels], part);
        rest -= part;
    }
    return want_large;
}

static void end_models(bool want_large)
{
    struct model_counts counts = {0};

    for (unsigned i = 0; i < nmodels; i++) {
        model_end(&models[i]);
        model_add_counts(&counts, &models[i]);
    }
    mm_check();
    model_check_counts(&counts, steps);
    ok(counts.large > 0 || !want_large, "%u steps were with large pages",
       counts.large);
}

int main(int argc, char **argv)
{
    gn_cpu_stay(0);
    if (argc > 1)
        steps = (unsigned)strtoul(argv[1], NULL, 0);
    if (argc > 2)
        seed = strtoull(argv[2], NULL, 0);
    printf("# seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    real_fault = arch_hooks.fault;
    arch_hooks.fault = catching_fault;
    par_run(nothing, NULL);
    settle(); // its goroutines are there
    bool want_large = make_models();
    struct accounts before = settle();

    par_run(work, &steps);
    end_models(want_large);
    ok(nmodels > 0, "%u random steps agree with %u models", steps, nmodels);
    is_settled(&before, "the models");
    return tap_end();
}
