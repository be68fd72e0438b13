// A plugin for QEMU's TCG that counts every instruction the guest executes,
// firmware included, whatever the guest is:
//
//   qemu-system-x86_64 ... -plugin bench-insns.so,out=FILE
//
// FILE gets one number at the end. With -icount the guest's clock follows its
// instructions too, so that with seed=N two runs give the same number. Each
// iteration of a rep instruction counts.
//
// Source: QEMU, docs/devel/tcg-plugins.rst, API version 1. The declarations
// used of it are repeated here, so that no header of QEMU's is needed.

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;

void qemu_plugin_register_vcpu_tb_trans_cb(
    qemu_plugin_id_t id,
    void (*fn)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb,
                                          void (*fn)(unsigned cpu, void *arg),
                                          int flags, void *arg);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id,
                                    void (*fn)(qemu_plugin_id_t id, void *arg),
                                    void *arg);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);

// What QEMU calls of ours.
int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc,
                        char **argv);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

static _Atomic uint64_t count; // relaxed would do; one CPU is the usual case
static FILE *out;

static void executed(unsigned cpu, void *n)
{
    (void)cpu;
    count += (uintptr_t)n;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    size_t n = qemu_plugin_tb_n_insns(tb);

    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, 0, (void *)n);
}

static void at_exit(qemu_plugin_id_t id, void *arg)
{
    (void)id;
    (void)arg;
    fprintf(out, "%" PRIu64 "\n", (uint64_t)count);
    fclose(out);
}

__attribute__((visibility("default"))) int
qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc,
                    char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0)
            out = fopen(argv[i] + 4, "w");
    }
    if (out == NULL)
        return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, at_exit, NULL);
    return 0;
}
