// See heap_fixture.h.

#include "host-tests/support.h"

#include "host-tests/runtime/heap/heap_fixture.h"

#include <sys/wait.h>
#include <unistd.h>

#include "arch/option.h"

void heap_must(bool good, const char *file, int line, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "%s:%d: CPU %u: not so: %s\n", file, line, arch_cpu_id(),
            what);
    if (support_panic_text[0] != '\0')
        fprintf(stderr, "the last panic was: %s\n", support_panic_text);
    abort();
}

void heap_machine(uint64_t ram_bytes)
{
    MUST(mm_fixture(ram_bytes) == NULL);
    heap_init();
    heap_cpu_init();
    pages_delay = 0; // nothing depends on time
    mm_boot_done();
    // As in a goroutine: the CPU can be asked to leave its no-preempt sections.
    preempt_enable();
}

void heap_alone(void (*fn)(void))
{
    int status;

    fflush(NULL);
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        fn();
        host_stop();
        exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

struct heap_accounts heap_accounts(void)
{
    return (struct heap_accounts){
        .frames = mm_free_frames() + pt_tables(),
        .committed =
            mm_commit().committed - pages_stats.promised * HEAP_PAGE_FRAMES,
    };
}

const char *heap_options(const char *line)
{
    static struct option_words words;
    static char copy[200], err[200];

    snprintf(copy, sizeof copy, "%s", line);
    return option_parse(copy, &words, err, sizeof err);
}
