// The machine: checks the image, builds QEMU's command line.
//
// Everything the guest is to see apart from its own code comes through here:
//   0xe9  stdout     isa-debugcon, read back as its own number
//   0xea  stderr     the same
//   0xeb  status     the same; "input\n" when it first wants some, "status N\n"
//                    at the end of a run
//   0xf4  exit       isa-debug-exit: keeps 7 bits only, hence the line before
//   COM1  stdin      bytes framed by relay.c
//   initrd           the file tree
//   command line     boot options -- "argv0" "arg1" ...
#include "runner.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

// What the firmware of all three machines takes, with its NUL.
#define CMDLINE_MAX 4095u
// What the guest takes on its command line, argv[0] included (OPTION_MAX_ARGS).
#define ARGS_MAX  256u
#define ARGS_FILE "/.args"

// Programs headers of one image; more is not an image of ours.
#define PHNUM_MAX 64

static const char *machine_firmware(const char *machine)
{
    static const char *const found_at[] = {
        "/usr/share/qemu/qboot.rom", "/usr/share/seabios/qboot.rom",
        "/usr/local/share/qemu/qboot.rom", NULL};

    if (strcmp(machine, "q35"))
        return NULL;
    for (size_t i = 0; found_at[i]; i++) {
        if (!access(found_at[i], R_OK))
            return "qboot.rom";
    }
    return NULL;
}

struct image image_check(const char *path)
{
    struct image image = {0};
    Elf64_Ehdr eh;
    Elf64_Phdr ph[PHNUM_MAX];
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        die(STATUS_FAILED, "cannot open image %s: %s", path, strerror(errno));
    if (fstat(fd, &st) || !S_ISREG(st.st_mode))
        die(STATUS_FAILED, "image %s: not a file", path);
    if (pread(fd, &eh, sizeof(eh), 0) != sizeof(eh) ||
        memcmp(eh.e_ident, ELFMAG, SELFMAG) ||
        eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_machine != EM_X86_64 ||
        eh.e_phentsize != sizeof(ph[0]) || eh.e_phnum > PHNUM_MAX)
        die(STATUS_FAILED, "image %s: not an ELF image for x86-64", path);
    ssize_t size = (ssize_t)(eh.e_phnum * sizeof(ph[0]));
    if (pread(fd, ph, (size_t)size, (off_t)eh.e_phoff) != size)
        die(STATUS_FAILED, "image %s: truncated", path);
    for (size_t i = 0; i < eh.e_phnum; i++) {
        if (ph[i].p_type != PT_LOAD)
            continue;
        if (ph[i].p_offset + ph[i].p_filesz > (uint64_t)st.st_size)
            die(STATUS_FAILED, "image %s: truncated", path);
        if (ph[i].p_paddr + ph[i].p_memsz > image.load_end)
            image.load_end = ph[i].p_paddr + ph[i].p_memsz;
    }
    image.entry = eh.e_entry;
    close(fd);
    return image;
}

static bool cpu_can_virtualise(void)
{
    FILE *f = fopen("/proc/cpuinfo", "re");
    char *line = NULL;
    size_t room = 0;
    bool can = false;

    while (f && !can && getline(&line, &room, f) > 0) {
        if (strncmp(line, "flags", 5))
            continue;
        for (char *w = strtok(line, " \t\n"); w; w = strtok(NULL, " \t\n"))
            can = can || !strcmp(w, "vmx") || !strcmp(w, "svm");
    }
    free(line);
    if (f)
        fclose(f);
    return can;
}

static bool kvm_is_usable(void)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    bool usable = fd >= 0 && ioctl(fd, KVM_GET_API_VERSION, 0) == 12;

    if (fd >= 0)
        close(fd);
    return usable && cpu_can_virtualise();
}

void qemu_pick_accel(struct config *c)
{
    if (strcmp(c->accel, "auto") == 0)
        c->accel = kvm_is_usable() ? "kvm" : "tcg";
}

// --- the guest's command line

struct text {
    char *s;
    size_t len, room;
};

static void text_add(struct text *t, const char *s, size_t len)
{
    if (t->len + len + 1 > t->room) {
        t->room = 2 * (t->len + len + 1);
        t->s = xrealloc(t->s, t->room);
    }
    memcpy(t->s + t->len, s, len);
    t->len += len;
    t->s[t->len] = '\0';
}

static void text_add_word(struct text *t, const char *word)
{
    if (t->len)
        text_add(t, " ", 1);
    text_add(t, word, strlen(word));
}

static void text_add_quoted(struct text *t, const char *word)
{
    text_add(t, t->len ? " \"" : "\"", t->len ? 2 : 1);
    for (; *word; word++) {
        if (*word == '"' || *word == '\\')
            text_add(t, "\\", 1);
        text_add(t, word, 1);
    }
    text_add(t, "\"", 1);
}

// The image's file name without ".elf".
static char *program_name(const char *image)
{
    const char *slash = strrchr(image, '/');
    char *name = xstrdup(slash ? slash + 1 : image);
    size_t len = strlen(name);

    if (len > 4 && !strcmp(name + len - 4, ".elf"))
        name[len - 4] = '\0';
    return name;
}

static struct text guest_options(const struct config *c)
{
    struct text t = {0};

    text_add_word(&t, "console.framed=1");
    if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && !c->debug)
        text_add_word(&t, "console.tty=1");
    for (size_t i = 0; i < c->env.n; i++) {
        char *word = xasprintf("env.%s", c->env.v[i]);
        if (word[strcspn(word, " \t\n\r\v\f\"\\")])
            text_add_quoted(&t, word);
        else
            text_add_word(&t, word);
        free(word);
    }
    // last: what the user says himself wins
    for (size_t i = 0; i < c->options.n; i++)
        text_add_word(&t, c->options.v[i]);
    return t;
}

char *qemu_guest_cmdline(const struct config *c, struct tree *tree)
{
    struct text t = guest_options(c);
    size_t options_len = t.len;
    char *name = program_name(c->image);

    text_add_word(&t, "--");
    text_add_quoted(&t, name);
    for (size_t i = 0; i < c->nargs; i++)
        text_add_quoted(&t, c->args[i]);
    if (t.len > CMDLINE_MAX || c->nargs + 1 > ARGS_MAX) {
        struct text args = {0};

        t.len = options_len;
        text_add_word(&t, "args.file=" ARGS_FILE);
        text_add(&args, name, strlen(name) + 1);
        for (size_t i = 0; i < c->nargs; i++)
            text_add(&args, c->args[i], strlen(c->args[i]) + 1);
        tree_add_data(tree, ARGS_FILE, args.s, args.len);
    }
    if (t.len > CMDLINE_MAX) {
        die(STATUS_USAGE,
            "boot options and environment take %zu bytes, at most %u fit",
            t.len, CMDLINE_MAX);
    }
    free(name);
    return t.s;
}

// --- memory

// Where QEMU puts the end of an initrd: the end of memory below 4 GiB.
static uint64_t low_memory_bytes(const struct config *c)
{
    uint64_t limit =
        strcmp(c->machine, "q35") ? UINT64_C(3) << 30 : UINT64_C(2) << 30;

    return c->mem_bytes < limit ? c->mem_bytes : limit;
}

void qemu_check_memory(const struct config *c, const struct image *image,
                       uint64_t tree_bytes)
{
    const uint64_t page = 4096, slack = 256 << 10; // firmware's own tables
    uint64_t tree = (tree_bytes + page - 1) & ~(page - 1);
    uint64_t need = image->load_end + tree + (tree ? slack : 0);

    if (need <= low_memory_bytes(c))
        return;
    if (need <= c->mem_bytes) {
        die(STATUS_FAILED,
            "the files take %.1f MiB; this machine has room for %.1f MiB "
            "whatever its memory",
            (double)tree_bytes / 0x1p20,
            (double)(low_memory_bytes(c) - image->load_end - slack) / 0x1p20);
    }
    die(STATUS_FAILED,
        "%.1f MiB of memory are too little for the image (up to %.1f MiB) "
        "and the files (%.1f MiB): give more with --mem (MEM=)",
        (double)c->mem_bytes / 0x1p20, (double)image->load_end / 0x1p20,
        (double)tree_bytes / 0x1p20);
}

// --- QEMU's command line

static void add_debugcon(struct strings *v, const char *name, int port, int fd)
{
    char *chardev = xasprintf("file,id=%s,path=/dev/fd/%d", name, fd);
    char *device = xasprintf("isa-debugcon,iobase=%#x,readback=%#x,chardev=%s",
                             port, port, name);

    strings_add(v, "-chardev");
    strings_add(v, chardev);
    strings_add(v, "-device");
    strings_add(v, device);
    free(chardev);
    free(device);
}

static void add_pair(struct strings *v, const char *option, char *value)
{
    strings_add(v, option);
    strings_add(v, value);
    free(value);
}

static void add_clock(struct strings *v, const struct config *c)
{
    if (c->icount) {
        strings_add(v, "-icount");
        strings_add(v, "shift=0,sleep=off");
        strings_add(v, "-rtc");
        strings_add(v, "base=" ICOUNT_EPOCH_DATE ",clock=vm");
    }
}

struct strings qemu_command(const struct config *c, const char *cmdline,
                            bool has_tree)
{
    const char *qemu = getenv("QEMU");
    const char *bios = machine_firmware(c->machine);
    const char *accel = !strcmp(c->accel, "kvm") ? "kvm"
                        : c->icount              ? "tcg,thread=single"
                                                 : "tcg,thread=multi";
    struct strings v = {0};

    strings_add(&v, qemu && *qemu ? qemu : "qemu-system-x86_64");
    add_pair(&v, "-machine", xstrdup(c->machine));
    add_pair(&v, "-accel", xstrdup(accel));
    add_pair(&v, "-cpu", xstrdup(c->cpu));
    add_pair(&v, "-smp", xasprintf("%u", c->cpus));
    add_pair(&v, "-m",
             xasprintf("%lluk", (unsigned long long)c->mem_bytes >> 10));
    if (bios)
        add_pair(&v, "-bios", xstrdup(bios));
    strings_add(&v, "-nodefaults");
    strings_add(&v, "-no-user-config");
    add_pair(&v, "-display", xstrdup("none"));
    strings_add(&v, "-no-reboot");
    add_clock(&v, c);
    add_debugcon(&v, "out", 0xe9, FD_STDOUT);
    add_debugcon(&v, "err", 0xea, FD_STDERR);
    add_debugcon(&v, "status", 0xeb, FD_STATUS);
    add_pair(&v, "-chardev", xasprintf("socket,id=com1,fd=%d", FD_COM1));
    add_pair(&v, "-serial", xstrdup("chardev:com1"));
    add_pair(&v, "-device", xstrdup("isa-debug-exit,iobase=0xf4,iosize=4"));
    if (c->debug || c->gdb_server) {
        add_pair(&v, "-chardev",
                 xasprintf("socket,id=gdb,fd=%d,server=on,wait=off", FD_GDB));
        add_pair(&v, "-gdb", xstrdup("chardev:gdb"));
        strings_add(&v, "-S");
    }
    add_pair(&v, "-kernel", xstrdup(c->image));
    if (has_tree)
        add_pair(&v, "-initrd", xasprintf("/dev/fd/%d", FD_TREE));
    add_pair(&v, "-append", xstrdup(cmdline));
    return v;
}
