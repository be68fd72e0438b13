// More than one CPU: translations that every CPU has to forget.

#include <gneiss/cpu.h>

#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "apps/tour/tour.h"

enum {
    ROUNDS = 4,
    PATIENCE_NS = 2000000000,
    SLOW_NS = 100000, // no shootdown takes so long if all CPUs run
};

// One reader for each CPU but ours.
static struct reader {
    const volatile uint64_t *word;
    _Atomic uint64_t reads;
    _Atomic bool stop, stopped;
    uint64_t last; // what it read after it had seen `stop`
} readers[64];

static void read_until_stopped(void *arg)
{
    struct reader *r = arg;

    while (!atomic_load(&r->stop)) {
        (void)*r->word;
        atomic_fetch_add(&r->reads, 1);
    }
    r->last = *r->word;
    atomic_store(&r->stopped, true);
}

static bool wait_for_reads(struct reader *r, uint64_t n)
{
    uint64_t give_up = now_ns() + PATIENCE_NS, from = atomic_load(&r->reads);

    while (atomic_load(&r->reads) < from + n) {
        if (now_ns() > give_up)
            return false;
    }
    return true;
}

static unsigned start_readers(uint64_t *word)
{
    unsigned n = 0;

    for (unsigned cpu = 0; cpu < gn_cpu_count(); cpu++) {
        struct reader *r = &readers[cpu];

        r->word = NULL;
        if (cpu == gn_cpu_id())
            continue;
        *r = (struct reader){.word = word};
        if (gn_cpu_start(cpu, read_until_stopped, r) != 0)
            r->word = NULL;
        else
            n += wait_for_reads(r, 1000);
    }
    return n;
}

// Returns how many read 0 after it.
static unsigned stop_readers(void)
{
    uint64_t give_up = now_ns() + PATIENCE_NS;
    unsigned zeros = 0;

    for (unsigned cpu = 0; cpu < gn_cpu_count(); cpu++)
        atomic_store(&readers[cpu].stop, true);
    for (unsigned cpu = 0; cpu < gn_cpu_count(); cpu++) {
        struct reader *r = &readers[cpu];

        if (r->word == NULL)
            continue;
        while (!atomic_load(&r->stopped)) {
            if (now_ns() > give_up)
                return zeros;
        }
        zeros += r->last == 0;
    }
    return zeros;
}

// Nanoseconds for a store and a discard of one page, on average.
static unsigned discard_cost(uint64_t *word)
{
    uint64_t t = now_ns();

    for (int i = 0; i < ROUNDS; i++) {
        *(volatile uint64_t *)word = 7;
        gn_advise(word, PAGE, GN_DISCARD);
    }
    return (unsigned)((now_ns() - t) / ROUNDS);
}

void chapter_shootdown(void)
{
    unsigned others = gn_cpu_count() - 1;
    uint64_t *word;

    if (others == 0) {
        skip("there is one CPU (make run APP=tour CPUS=4)");
        return;
    }
    word = (uint64_t *)memory(PAGE, 0, "read by all");
    if (word == NULL)
        return;
    unsigned idle_ns = discard_cost(word);

    *(volatile uint64_t *)word = 42;
    say("%u other CPU%s read%s one word, in a loop, as fast as possible:\n",
        others, others == 1 ? "" : "s", others == 1 ? "s" : "");
    claim(start_readers(word) == others, "all of them read 42");
    unsigned long long old = (unsigned long long)look(word).frame;

    // When this returns, no CPU has the translation any more.
    gn_advise(word, PAGE, GN_DISCARD);
    unsigned zeros = stop_readers();

    claim(zeros == others,
          "CPU %u took the page away; each of them reads 0 now", gn_cpu_id());
    say("Frame 0x%llx was reused only after all had acknowledged.\n", old);
    if (start_readers(word) == others) {
        unsigned busy_ns = discard_cost(word);

        say("discard of a page: %u ns while all sleep, %u ns while all read",
            idle_ns, busy_ns);
        say("(a sleeper is marked; a reader is interrupted and must answer)");
        if (busy_ns > SLOW_NS)
            say("(where the machine has fewer CPUs than the guest, it first "
                "waits its turn)");
    }
    stop_readers();
    gn_unmap(word, PAGE);
}
