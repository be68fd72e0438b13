// The composition root: start-up as one list of calls, each layer's init in
// order, drivers and hooks bound to the layers that use them.
//
//   entry.S -> boot_main     boot stack, first GiB mapped
//           -> second_stage  final page tables, the boot CPU's system stack
//           -> sched_run     goroutine 1 runs main(); other CPUs likewise
//
// Nothing above arch/ runs before its memory exists, and a mistake on the
// command line ends the boot before any of it.

#include <stdlib.h>
#include <string.h>

#include "arch/fmt.h"
#include "arch/option.h"
#include "arch/x86_64/cpu.h"
#include "boot/pvh.h"
#include "mm/mm.h"
#include "runtime/debug/debug.h"
#include "runtime/gc/gc.h"
#include "runtime/heap/heap.h"
#include "runtime/libc/libc.h"
#include "runtime/sched/sched.h"
#include "runtime/sched/input.h"
#include "runtime/stack/stack.h"

enum { STATUS_OK = 0, STATUS_BOOT = 2 };

extern char image_start[], text_start[], text_end[], rodata_start[],
    rodata_end[], data_start[], bss_end[], boot_start[], boot_end[],
    image_end[], tls_start[], tls_file_size[], tls_mem_size[], tls_align[],
    boot_trap_stack_top[];

#define IMAGE_BASE UINT64_C(0xffffffff80000000)

static uint64_t max_cpus = ARCH_MAX_CPUS;
OPTION_UINT(opt_cpus, "cpus", max_cpus, 1, ARCH_MAX_CPUS,
            "use at most N of the machine's CPUs (64)");

static bool help;
OPTION_BOOL(opt_help, "help", help, "print all boot options and end");

static bool banner = true;
OPTION_BOOL(opt_banner, "boot.banner", banner,
            "two lines about machine and CPU on stderr (1)");

static const char *args_file;
OPTION_STRING(opt_args, "args.file", args_file,
              "take the arguments from this file, each ended by NUL");

static struct option_words words;
static char no_name[1]; // argv[0], if the loader gave none
static struct pvh_boot pvh;
static paddr_t trampoline;

static NORETURN void boot_fail(const char *why)
{
    fmt_err("gneiss: %s\n", why);
    arch_power_off(STATUS_BOOT);
}

// ---- options ----

static void print_option(const struct option *o, void *arg)
{
    char line[256];
    size_t n = fmt_string(line, sizeof line, "  %-18s %s\n", o->name, o->help);

    (void)arg;
    arch_console_write(ARCH_STDOUT, line, min_u64(n, sizeof line - 1));
}

static void read_options(void)
{
    static const char title[] =
        "boot options (make run OPTS=\"name=value ...\"):\n"
        "  env.NAME           an environment variable of the program\n";
    static char err[640] BOOT_ONLY;
    // In place: its page is kept.
    const char *wrong = option_parse(pvh.cmdline, &words, err, sizeof err);

    if (wrong != NULL)
        boot_fail(wrong);
    if (help) {
        arch_console_write(ARCH_STDOUT, title, sizeof title - 1);
        option_each(print_option, NULL);
        arch_power_off(STATUS_OK);
    }
}

// ---- memory ----

static void add_part(struct mm_boot *b, const char *start, const char *end,
                     unsigned prot, const char *name)
{
    uint64_t s = (uint64_t)(uintptr_t)start;
    uint64_t e = align_up((uint64_t)(uintptr_t)end, PAGE_SIZE);

    b->image[b->nimage++] =
        (struct mm_image_part){s, s - IMAGE_BASE, e - s, prot, name};
}

// A page below 1 MiB for the other CPUs' first instructions.
static paddr_t find_trampoline(const struct mm_boot *b)
{
    for (unsigned i = 0; i < b->nram; i++) {
        uint64_t p = align_up(b->ram[i].start, PAGE_SIZE);

        if (p == 0)
            p = PAGE_SIZE;
        if (p < pvh.words.end && p + PAGE_SIZE > pvh.words.start)
            p = align_up(pvh.words.end, PAGE_SIZE);
        if (p + PAGE_SIZE <= b->ram[i].end && p < 0xa0000)
            return paddr(p);
    }
    return paddr(0);
}

static void load_root(paddr_t root)
{
    write_cr3(root.raw);
}

static void start_memory(struct mm_boot *b)
{
    add_part(b, text_start, text_end, PROT_R | PROT_X, "text of the image");
    add_part(b, rodata_start, rodata_end, PROT_R,
             "read-only data of the image");
    add_part(b, data_start, bss_end, PROT_R | PROT_W,
             "data or bss of the image");
    // Its code ran before paging and is not needed any more.
    add_part(b, boot_start, boot_end, PROT_R | PROT_W,
             "start-up part of the image");
    b->keep[b->nkeep++] = (struct mm_range){(uintptr_t)image_start - IMAGE_BASE,
                                            (uintptr_t)image_end - IMAGE_BASE};
    if (pvh.initrd.end != 0)
        b->keep[b->nkeep++] = pvh.initrd;
    if (pvh.words.end != 0)
        b->keep[b->nkeep++] = pvh.words;
    if (b->ncut != 0)
        fmt_err(
            "gneiss: the memory map has %u pieces: the smallest %u, %lu KiB, "
            "are not used\n",
            b->nram + b->ncut, b->ncut, (unsigned long)(b->cut_bytes / KIB));
    trampoline = find_trampoline(b);
    if (trampoline.raw != 0)
        b->keep[b->nkeep++] =
            (struct mm_range){trampoline.raw, trampoline.raw + PAGE_SIZE};
    pt_valid_bits = cpu_features.nx ? ~UINT64_C(0) : ~PTE_NX;
    pt_max_level = cpu_features.pdpe1gb ? 3 : 2;
    const char *wrong = mm_init(b, load_root);

    if (wrong != NULL)
        boot_fail(wrong);
}

// ---- the program ----

static void run_main(void *arg)
{
    (void)arg;
    const void *initrd = NULL;
    size_t size = pvh.initrd.end - pvh.initrd.start;

    if (size > 0)
        initrd = arch_direct(paddr(pvh.initrd.start));
    if (words.argc == 0) {
        words.argc = 1;
        words.args = no_name;
    }
    libc_init(initrd, size, words.envp);
    char **argv = libc_list_args(words.args, words.argc);

    if (argv == NULL)
        boot_fail("no memory for the arguments: run with more MEM");
    if (args_file != NULL && libc_read_args(args_file, &words.argc, &argv) != 0)
        boot_fail("args.file: can't be read");
    leaks_at_exit();
    libc_run_main(words.argc, argv);
}

static void print_features(void)
{
#define FEATURE(name, field)                                                   \
    {                                                                          \
        name, offsetof(struct cpu_features, field)                             \
    }
    static const struct {
        char name[15];
        uint8_t at;
    } all[] = {
        FEATURE("nx", nx),         FEATURE("smep", smep),
        FEATURE("umip", umip),     FEATURE("fsgsbase", fsgsbase),
        FEATURE("xsave", xsave),   FEATURE("avx", avx),
        FEATURE("avx512", avx512), FEATURE("1gib-pages", pdpe1gb),
        FEATURE("rdrand", rdrand), FEATURE("invariant-tsc", invariant_tsc),
    };
#undef FEATURE
    const char *features = (const char *)&cpu_features;

    fmt_err("cpu: uses");
    for (char have = 1; have >= 0; have--) {
        if (!have)
            fmt_err("; without");
        for (unsigned i = 0; i < ARRAY_LEN(all); i++) {
            if (features[all[i].at] == have)
                fmt_err(" %s", all[i].name);
        }
    }
    fmt_err("\n");
}

static void print_banner(void)
{
    struct frame_stats s = frame_stats();
    uint64_t us = arch_mono_ns() / 1000;

    fmt_err("gneiss: %u CPU%s, %lu KiB free of %lu, up in %lu.%03lu ms%s%s\n",
            arch_cpu_count(), arch_cpu_count() == 1 ? "" : "s",
            (unsigned long)(s.free * PAGE_SIZE / KIB),
            (unsigned long)(s.total * PAGE_SIZE / KIB),
            (unsigned long)(us / 1000), (unsigned long)(us % 1000),
            cpu_features.hypervisor ? ", hypervisor " : "",
            cpu_features.vendor);
    print_features();
}

// The most that a program needs to get to main(): a stack, stdio.
enum { PROGRAM_PAGES = 64 };

static NORETURN void cpu_start(void)
{
    heap_cpu_init();
    sched_run();
}

static void start_cpus(void)
{
    unsigned limit = (unsigned)(trampoline.raw != 0 ? max_cpus : 1);
    size_t need = smp_pages_needed(limit) + PROGRAM_PAGES;
    uint64_t have = frame_stats().free;
    char why[128];

    if (need > have) {
        fmt_string(
            why, sizeof why,
            "too little memory: %lu KiB are free, the stacks of the CPUs "
            "and the program need %lu: more MEM or fewer CPUS",
            (unsigned long)(have * PAGE_SIZE / KIB),
            (unsigned long)(need * PAGE_SIZE / KIB));
        boot_fail(why);
    }
    smp_start(limit, trampoline, cpu_start);
}

// The heap gives idle memory back after a while, on the CPU where it became idle.
// That looks every second at least: gn_heap_keep may have made the while shorter.
enum { HEAP_LOOK_NS = 1000000000 };

static uint64_t heap_timer(uint64_t now)
{
    uint64_t next = heap_tick(now);

    return next != UINT64_MAX ? min_u64(next, now + HEAP_LOOK_NS) : next;
}

static void arm_heap_timer(uint64_t mono_ns)
{
    static struct sched_timer timer = {.fn = heap_timer};

    sched_timer_set(&timer, min_u64(mono_ns, arch_mono_ns() + HEAP_LOOK_NS));
}

static void serve(void)
{
    heap_serve();
    dump_serve();
}

static void second_stage(void)
{
    const struct g_tls_image tls = {tls_start, (size_t)tls_file_size,
                                    (size_t)tls_mem_size, (size_t)tls_align};

    sched_init(&tls);
    stack_init();
    input_init();
    heap_init();
    gc_init((uintptr_t)data_start, (uintptr_t)bss_end);
    pages_arm = arm_heap_timer;
    sched_on_pending(serve);
    start_cpus();
    pt_drop_top(0); // the identity map of the trampoline: nil faults from here
    mm_free_image((uintptr_t)boot_start, (size_t)(boot_end - boot_start));
    mm_check_wx();
    mm_boot_done();
    if (banner)
        print_banner();
    dump_init();
    watchdog_init();
    struct g *g = g_create(run_main, NULL, "main", G_ANY_CPU);

    if (g == NULL)
        boot_fail("no memory for the first goroutine: run with more MEM");
    sched_await_others();
    g_ready(g);
    cpu_start();
}

NORETURN void boot_main(uint32_t start_info);

// No canary here: this function replaces it and never returns.
__attribute__((no_stack_protector)) void boot_main(uint32_t start_info)
{
    static struct mm_boot mem BOOT_ONLY;

    console_detect();
    cpu_detect();
    cpu_enable();
    boot_cpu.sys_sp = (uintptr_t)boot_trap_stack_top;
    cpu_load_tables(&boot_cpu);
    idt_init();
    debug_init();
    const char *wrong = pvh_read(paddr(start_info), &pvh, &mem);

    if (wrong != NULL)
        boot_fail(wrong);
    read_options();
    boot_cpu.canary = arch_random() & ~UINT64_C(0xff); // 0 ends a string copy
    start_memory(&mem);
    const struct machine_memory m = {mm_boot_page, mm_map_nailed};

    machine_init(&m, pvh.rsdp);
    cpu_enter_system(second_stage);
}
