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
    // While the page goes: how often the old word was read, when for the last time,
    // and when something else for the first.
    _Atomic uint64_t old_reads, last_old_ns, first_new_ns;
    _Atomic bool late; // the old word, although the call had returned
} readers[64];

enum { OLD_WORD = 42 };

static _Atomic bool returned; // the call that takes the page away

static void read_until_stopped(void *arg)
{
    struct reader *r = arg;

    while (!atomic_load(&r->stop)) {
        bool after = atomic_load(&returned);
        uint64_t is = *r->word, t = now_ns();

        if (is == OLD_WORD) {
            atomic_store(&r->last_old_ns, t);
            atomic_fetch_add(&r->old_reads, 1);
            if (after)
                atomic_store(&r->late, true);
        } else if (atomic_load(&r->first_new_ns) == 0) {
            atomic_store(&r->first_new_ns, t);
        }
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

// Nanoseconds from one time to another, which may be a little before.
static unsigned long long ns_from(uint64_t from, uint64_t to)
{
    return to > from ? to - from : 0;
}

// What each CPU saw, in the order in which it has to happen. Returns how many read
// the old word too late.
static unsigned draw_shootdown(const uint64_t *word, uint64_t asked,
                               uint64_t went_on)
{
    unsigned late = 0, n = 0;

    say("CPU %u    takes the entry of 0x%llx out, and asks the others to",
        gn_cpu_id(), (unsigned long long)(uintptr_t)word);
    say("  |      forget it: a mailbox and an interrupt for each; 0 ns");
    for (unsigned cpu = 0; cpu < gn_cpu_count(); cpu++) {
        struct reader *r = &readers[cpu];

        if (r->word == NULL)
            continue;
        say("  +-> CPU %-2u  %10llu ns  has read %d for the last time, of %llu",
            cpu, ns_from(asked, atomic_load(&r->last_old_ns)), OLD_WORD,
            (unsigned long long)atomic_load(&r->old_reads));
        say("  |<--+       %10s     forgets, and acknowledges", "");
        say("  |   +-----  %10llu ns  has read 0",
            ns_from(asked, atomic_load(&r->first_new_ns)));
        late += atomic_load(&r->late);
        n++;
    }
    say("CPU %u        %10llu ns  has %u of %u answers, and goes on\n",
        gn_cpu_id(), ns_from(asked, went_on), n - late, n);
    return late;
}

// Takes the page away from under the readers. Returns how many read 0 then.
static unsigned take_away(uint64_t *word)
{
    uint64_t before = stats().shootdowns, asked = now_ns();

    // When this returns, no CPU has the translation any more.
    gn_advise(word, PAGE, GN_DISCARD);
    atomic_store(&returned, true);
    uint64_t went_on = now_ns();

    for (unsigned cpu = 0; cpu < gn_cpu_count(); cpu++) {
        if (readers[cpu].word != NULL)
            wait_for_reads(&readers[cpu], 2);
    }
    unsigned zeros = stop_readers();
    unsigned late = draw_shootdown(word, asked, went_on);

    claim(late == 0, "none of them read %d after that (shootdowns: %u)",
          OLD_WORD, (unsigned)(stats().shootdowns - before));
    return zeros;
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

    *(volatile uint64_t *)word = OLD_WORD;
    atomic_store(&returned, false);
    say("%u other CPU%s read%s one word, in a loop, as fast as possible:\n",
        others, others == 1 ? "" : "s", others == 1 ? "s" : "");
    claim(start_readers(word) == others, "all of them read %d", OLD_WORD);
    putchar('\n');
    unsigned long long old = (unsigned long long)look(word).frame;
    unsigned zeros = take_away(word);

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
