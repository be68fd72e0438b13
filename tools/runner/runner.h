// The runner: starts an image in QEMU and makes it look like a process.
//
//   main.c   options, and the order of things
//   tree.c   the file tree: walks what --file names, writes a cpio archive
//   qemu.c   the machine: checks the image, builds QEMU's command line
//   relay.c  the run: starts QEMU, moves bytes, finds out how it ended
//   trace.c  adds file:line to the frames of a backtrace
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Statuses of the runner itself, as timeout(1) and env(1) have them. All
// others are the program's.
enum {
    STATUS_USAGE = 2,
    STATUS_TIMEOUT = 124,
    STATUS_FAILED = 125,
};

// The time a run under --icount begins at, for the clock and the files alike:
// 2026-01-01 00:00:00 UTC.
#define ICOUNT_EPOCH      1767225600
#define ICOUNT_EPOCH_DATE "2026-01-01"

// A list of strings that grows. Always followed by a NULL.
struct strings {
    char **v;
    size_t n;
};

// What the user asked for.
struct config {
    const char *image;
    char **args; // of the program, without its name
    size_t nargs;
    struct strings files;   // as given
    struct strings options; // words for the guest, as given
    struct strings env;     // NAME=value
    unsigned cpus;
    uint64_t mem_bytes;
    const char *machine;
    const char *cpu;
    const char *accel; // "tcg" or "kvm"; "auto" until qemu_pick_accel()
    double timeout_s;  // 0: none
    bool icount;
    bool debug;      // gdb in the foreground
    bool gdb_server; // QEMU waits for a gdb, its port is printed
    bool usage;
    bool dry_run;
};

// An ELF image, as far as the runner needs it.
struct image {
    uint64_t load_end; // physical address behind its last loaded byte
    uint64_t entry;
};

// File descriptors QEMU finds open. Fixed, so that --dry-run prints a command
// that works with redirections.
enum {
    FD_STDOUT = 3, // the guest's, write ends of pipes
    FD_STDERR = 4,
    FD_STATUS = 5,
    FD_COM1 = 6, // a stream socket; input goes in here
    FD_TREE = 7, // the archive
    FD_GDB = 8,  // a listening socket
    FD_FIRST = FD_STDOUT,
    FD_LAST = FD_GDB,
};

// --- main.c

// Prints "run: ..." on stderr.
__attribute__((format(printf, 1, 2))) void warn(const char *format, ...);

// The same, then ends the runner with the given status.
__attribute__((format(printf, 2, 3), noreturn)) void
die(int status, const char *format, ...);

// malloc and relatives that end the runner when memory is out.
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);
__attribute__((format(printf, 1, 2))) char *xasprintf(const char *format, ...);

void strings_add(struct strings *list, const char *s);

// --- tree.c

struct tree;

struct tree *tree_create(void);

// Adds a file, or a directory with all that lies in it. Ends the runner if
// path can't be read; what can't be read inside a directory is a warning.
void tree_add_path(struct tree *t, const char *path);

// Adds a file with the given content, which must live as long as the tree.
void tree_add_data(struct tree *t, const char *guest_path, const void *data,
                   size_t size);

bool tree_is_empty(const struct tree *t);

// Size of the archive. Also sorts the tree: no more may be added.
uint64_t tree_archive_bytes(struct tree *t);

// Writes the archive to a file without a name and returns its descriptor.
// With same_time all files bear one date.
int tree_write(struct tree *t, bool same_time);

// --- qemu.c

// Reads the image's headers. Ends the runner if it is no image of ours.
struct image image_check(const char *path);

// Replaces "auto". KVM is taken only when the CPU itself can virtualise: a
// /dev/kvm that emulates is hundreds of times slower than TCG.
void qemu_pick_accel(struct config *c);

// The kernel's command line: options -- argv. If that gets too long, the
// arguments go to the tree instead.
char *qemu_guest_cmdline(const struct config *c, struct tree *t);

// Ends the runner if image and tree don't fit into the machine's memory.
void qemu_check_memory(const struct config *c, const struct image *image,
                       uint64_t tree_bytes);

struct strings qemu_command(const struct config *c, const char *cmdline,
                            bool has_tree);

// --- relay.c

// Runs QEMU to its end and returns the runner's status; may end the runner by
// the signal that ended the run.
int relay_run(const struct config *c, struct strings *command, int tree_fd);

// --- trace.c

struct trace;

struct trace *trace_create(const char *image);

// Looks at a whole line, without its newline. Returns what to add at its end,
// or NULL. The result is valid until the next call.
const char *trace_annotate(struct trace *t, const char *line);

void trace_end(struct trace *t);
