// Options, and the order of things.

#include "runner.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MEM_MIN     (2u << 20)
#define MEM_DEFAULT (256u << 20)
#define CPUS_MAX    64

static const char help_text[] =
    "usage: tools/run [options] IMAGE [ARG...]\n"
    "Runs an image in QEMU as if it were a program: its arguments, input, "
    "output\n"
    "and exit status are the program's.\n"
    "\n"
    "  -f, --file PATH      put a file or a directory into the guest "
    "(repeatable);\n"
    "                       it lies at /PATH there, \"../x\" at /x\n"
    "  -c, --cpus N         number of CPUs, 1 to 64 (default 1)\n"
    "  -m, --mem SIZE       memory, as in 2M, 512M, 8G (default 256M)\n"
    "  -M, --machine NAME   microvm (default), q35 or pc\n"
    "  -t, --timeout S      end the run after S seconds, with status 124\n"
    "  -e, --env NAME=VALUE set an environment variable (repeatable)\n"
    "  -o, --opt \"K=V ...\"  boot options (repeatable); \"help=1\" lists "
    "them\n"
    "      --cpu MODEL      QEMU's CPU model (default max)\n"
    "      --accel NAME     tcg (default), kvm, or auto: kvm where it helps\n"
    "      --icount         count instructions: one CPU, the same run every "
    "time\n"
    "  -d, --debug          stop before the first instruction and start gdb\n"
    "      --gdb-only-server  the same, but print the port for a gdb of your "
    "own\n"
    "      --usage          print time and memory that QEMU used, on stderr\n"
    "  -n, --dry-run        print QEMU's command instead of running it\n"
    "  -h, --help           print this\n"
    "\n"
    "Input is not touched before the program reads, but then read ahead of "
    "it.\n"
    "Ctrl-\\ (SIGQUIT) lists the goroutines; the program goes on.\n"
    "$QEMU names another QEMU. The status is the program's, or 124 after a\n"
    "timeout, 125 when the image could not be run or crashed, 2 for wrong "
    "usage.\n"
    "\n"
    "  tools/run build/hello/hello.elf\n"
    "  tools/run -f script.lua build/lua/lua.elf script.lua\n"
    "  tools/run -m 1G -c 4 -t 60 build/wordcount/wordcount.elf <text\n";

static void vwarn(const char *format, va_list ap)
{
    fputs("run: ", stderr);
    vfprintf(stderr, format, ap);
    fputc('\n', stderr);
}

void warn(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vwarn(format, ap);
    va_end(ap);
}

void die(int status, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vwarn(format, ap);
    va_end(ap);
    exit(status);
}

void *xrealloc(void *p, size_t size)
{
    p = realloc(p, size);
    if (!p)
        die(STATUS_FAILED, "out of memory");
    return p;
}

char *xstrdup(const char *s)
{
    size_t size = strlen(s) + 1;

    return memcpy(xrealloc(NULL, size), s, size);
}

char *xasprintf(const char *format, ...)
{
    char *s;
    va_list ap;

    va_start(ap, format);
    if (vasprintf(&s, format, ap) < 0)
        die(STATUS_FAILED, "out of memory");
    va_end(ap);
    return s;
}

void strings_add(struct strings *list, const char *s)
{
    list->v = xrealloc(list->v, (list->n + 2) * sizeof(*list->v));
    list->v[list->n++] = xstrdup(s);
    list->v[list->n] = NULL;
}

__attribute__((format(printf, 1, 2), noreturn)) static void
usage_error(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    vwarn(format, ap);
    va_end(ap);
    fputs("run: `tools/run --help` tells the options\n", stderr);
    exit(STATUS_USAGE);
}

// A number of bytes with K, M, G or T; without a letter it means MiB, as it
// does for QEMU.
static uint64_t parse_size(const char *text)
{
    static const char units[] = "KMGT";
    char *end;
    double value = strtod(text, &end);
    double unit = 1 << 20;
    const char *letter = *end ? strchr(units, *end & ~0x20) : NULL;

    if (letter) {
        unit = (double)(UINT64_C(1024) << (10 * (letter - units)));
        end++;
        if (*end == 'i' || *end == 'I')
            end++;
        if (*end == 'b' || *end == 'B')
            end++;
    }
    if (end == text || *end || !(value > 0) || value * unit > 0x1p52)
        usage_error("--mem: not a size: %s (examples: 64M, 2G)", text);
    return (uint64_t)(value * unit) & ~(uint64_t)4095;
}

static unsigned parse_cpus(const char *text)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    if (end == text || *end || n < 1 || n > CPUS_MAX)
        usage_error("--cpus: a number from 1 to %d, not %s", CPUS_MAX, text);
    return (unsigned)n;
}

static double parse_timeout(const char *text)
{
    char *end;
    double seconds = strtod(text, &end);

    if (*end == 's')
        end++;
    if (end == text || *end || !(seconds > 0) || seconds > 1e9)
        usage_error("--timeout: a number of seconds, not %s", text);
    return seconds;
}

static const char *parse_choice(const char *option, const char *text,
                                const char *const *choices)
{
    for (size_t i = 0; choices[i]; i++) {
        if (!strcmp(text, choices[i]))
            return choices[i];
    }
    usage_error("%s: no such choice: %s", option, text);
}

static void check_env(const char *text)
{
    const char *equals = strchr(text, '=');

    if (!equals || equals == text)
        usage_error("--env: NAME=VALUE, not %s", text);
    if (strcspn(text, " \t\n\"\\") < (size_t)(equals - text))
        usage_error("--env: a name with blanks or quotes: %s", text);
}

// `--` would end the options in the guest as well.
static void check_options(const char *text)
{
    for (const char *p = text; *p;) {
        size_t blanks = strspn(p, " \t\n");
        size_t len = strcspn(p + blanks, " \t\n");

        if (len == 2 && !memcmp(p + blanks, "--", 2))
            usage_error("--opt: a word is \"--\": %s", text);
        p += blanks + len;
    }
}

static void parse_options(struct config *c, int argc, char **argv)
{
    static const char *const machines[] = {"microvm", "q35", "pc", NULL};
    static const char *const accels[] = {"tcg", "kvm", "auto", NULL};
    enum { OPT_CPU = 256, OPT_ICOUNT, OPT_ACCEL, OPT_GDB, OPT_USAGE };
    static const struct option options[] = {
        {"file", required_argument, NULL, 'f'},
        {"cpus", required_argument, NULL, 'c'},
        {"mem", required_argument, NULL, 'm'},
        {"machine", required_argument, NULL, 'M'},
        {"cpu", required_argument, NULL, OPT_CPU},
        {"icount", no_argument, NULL, OPT_ICOUNT},
        {"timeout", required_argument, NULL, 't'},
        {"opt", required_argument, NULL, 'o'},
        {"env", required_argument, NULL, 'e'},
        {"accel", required_argument, NULL, OPT_ACCEL},
        {"debug", no_argument, NULL, 'd'},
        {"gdb-only-server", no_argument, NULL, OPT_GDB},
        {"usage", no_argument, NULL, OPT_USAGE},
        {"dry-run", no_argument, NULL, 'n'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int opt;

    // "+": what follows the image is the program's, also if it looks like ours
    while ((opt = getopt_long(argc, argv, "+f:c:m:M:t:o:e:dnh", options,
                              NULL)) != -1) {
        switch (opt) {
        case 'f':
            strings_add(&c->files, optarg);
            break;
        case 'c':
            c->cpus = parse_cpus(optarg);
            break;
        case 'm':
            c->mem_bytes = parse_size(optarg);
            break;
        case 'M':
            c->machine = parse_choice("--machine", optarg, machines);
            break;
        case OPT_CPU:
            c->cpu = optarg;
            break;
        case OPT_ICOUNT:
            c->icount = true;
            break;
        case 't':
            c->timeout_s = parse_timeout(optarg);
            break;
        case 'o':
            check_options(optarg);
            strings_add(&c->options, optarg);
            break;
        case 'e':
            check_env(optarg);
            strings_add(&c->env, optarg);
            break;
        case OPT_ACCEL:
            c->accel = parse_choice("--accel", optarg, accels);
            break;
        case 'd':
            c->debug = true;
            break;
        case OPT_GDB:
            c->gdb_server = true;
            break;
        case OPT_USAGE:
            c->usage = true;
            break;
        case 'n':
            c->dry_run = true;
            break;
        case 'h':
            fputs(help_text, stdout);
            exit(0);
        default:
            usage_error("wrong option");
        }
    }
    if (optind == argc)
        usage_error("no image given");
    c->image = argv[optind];
    c->args = argv + optind + 1;
    c->nargs = (size_t)(argc - optind - 1);
}

static void check_combination(struct config *c)
{
    if (c->mem_bytes < MEM_MIN) {
        usage_error("--mem: %.4g MiB is below the minimum of %u MiB",
                    (double)c->mem_bytes / 0x1p20, MEM_MIN >> 20);
    }
    if (c->icount && c->cpus > 1)
        usage_error("--icount: one CPU only");
    if (c->icount && strcmp(c->accel, "kvm") == 0)
        usage_error("--icount: needs --accel tcg");
    if (c->icount)
        c->accel = "tcg";
    if (c->gdb_server)
        c->debug = false;
}

static void print_shell_quoted(const struct strings *command)
{
    for (size_t i = 0; i < command->n; i++) {
        const char *s = command->v[i];

        if (i)
            putchar(' ');
        if (*s && !s[strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789"
                               "ABCDEFGHIJKLMNOPQRSTUVWXYZ_-+=./,:@%")]) {
            fputs(s, stdout);
            continue;
        }
        putchar('\'');
        for (; *s; s++) {
            if (*s == '\'')
                fputs("'\\''", stdout);
            else
                putchar(*s);
        }
        putchar('\'');
    }
    putchar('\n');
}

// Our own descriptors must not land on 0 to 2, nor on those QEMU is to find.
static void reserve_descriptors(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    } while (fd >= 0 && fd < FD_LAST);
}

int main(int argc, char **argv)
{
    struct config c = {
        .cpus = 1,
        .mem_bytes = MEM_DEFAULT,
        .machine = "microvm",
        .cpu = "max",
        .accel = "tcg",
    };

    parse_options(&c, argc, argv);
    check_combination(&c);
    reserve_descriptors();

    struct image image = image_check(c.image);
    struct tree *tree = tree_create();
    for (size_t i = 0; i < c.files.n; i++)
        tree_add_path(tree, c.files.v[i]);
    qemu_pick_accel(&c);
    char *cmdline = qemu_guest_cmdline(&c, tree);

    bool has_tree = !tree_is_empty(tree);
    qemu_check_memory(&c, &image, has_tree ? tree_archive_bytes(tree) : 0);
    struct strings command = qemu_command(&c, cmdline, has_tree);
    if (c.dry_run) {
        print_shell_quoted(&command);
        return 0;
    }
    int tree_fd = has_tree ? tree_write(tree, c.icount) : -1;
    return relay_run(&c, &command, tree_fd);
}
