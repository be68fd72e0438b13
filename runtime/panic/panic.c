// Panics, deferred calls and their ends.
//
// All that a goroutine would have to come back to is one list of records on its stack,
// the innermost first:
//
//   DEFER    a call to be made. While it is made because its block is left: RUNNING
//   TRY      a gn_try, and where in it to go on
//   PANIC    a panic that makes deferred calls, and where to go on after one
//   EXIT     the same of gn_goexit
//
// A panic puts its record in front and then makes the deferred calls behind it, each
// taken out first. What such a call defers, tries or panics with comes in front of the
// record. It meets
//
//   TRY      that gn_try returns false
//   PANIC, EXIT, RUNNING   older ones, whose deferred call has just panicked itself:
//            they will never go on, and are taken out
//   nothing  the program ends
//
// unless a call has recovered: then the rest of the calls up to the next place to go
// on is made, and it goes on there. Who has passed an EXIT ends the goroutine instead.
//
// Everything belongs to the goroutine. A jump back is the compiler's (__builtin_setjmp):
// three words, no call of the C library; who is jumped to reads nothing from registers.
//
// Source: Go, src/runtime/panic.go.

#include "runtime/panic/panic.h"

#include <gneiss/panic.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/fmt.h"
#include "runtime/debug/debug.h"
#include "runtime/libc/libc.h"
#include "runtime/sched/sched.h"
#include "runtime/stack/stack.h"

enum kind { DEFER, RUNNING, TRY, PANIC, EXIT };

// All kinds begin with the first two fields of struct gn_deferred.
#define RECORD                                                                 \
    struct gn_deferred *next;                                                  \
    unsigned kind

// Where to go on.
struct place {
    RECORD;
    void *jump[5];
};

struct
try {
    struct place place;
    struct gn_panic *panic; // to be filled
    bool panicked;
};

struct panicking {
    struct place place;
    struct panicking *before; // the one whose deferred call this comes from
    struct gn_panic *info;
    uintptr_t va, pc; // of a fault; pc is 0 for others
    bool recovered, exits;
};

_Static_assert(offsetof(struct place, next) ==
                       offsetof(struct gn_deferred, next_) &&
                   offsetof(struct place, kind) ==
                       offsetof(struct gn_deferred, kind_),
               "records begin alike");

static const char text_nil[] = "runtime error: invalid memory address or nil "
                               "pointer dereference";
static const char text_divide[] = "runtime error: integer divide by zero";

static struct gn_deferred **list(void)
{
    return (struct gn_deferred **)g_unwind();
}

static bool of_trap(struct trap_frame *tf, const struct arch_trap *t);

// The same, for who puts the first record there. Only from then on does a fault become
// a panic, and only in programs that have such records is this file's code needed.
static struct gn_deferred **list_to_use(void)
{
    panic_of_trap = of_trap;
    return list();
}

// ---- deferred calls ----

void gn_defer_push_(struct gn_deferred *d)
{
    struct gn_deferred **l = list_to_use();

    d->next_ = *l;
    *l = d;
}

// The block is left. Nothing can be in front: what its calls have put there is gone.
void gn_defer_run_(struct gn_deferred *d)
{
    d->kind_ = RUNNING;
    d->fn_(d->arg_);
    *list() = d->next_;
}

// Makes a deferred call out of the way of `from`, a record in front of it.
static void call_behind(struct place *from)
{
    struct gn_deferred *d = from->next;

    from->next = d->next_;
    *list() = (struct gn_deferred *)from;
    d->fn_(d->arg_);
    *list() = (struct gn_deferred *)from;
}

// ---- going on ----

// Not inlined: a function may not jump to a place of its own.
NORETURN NOINLINE static void go_on(struct place *p)
{
    __builtin_longjmp(p->jump, 1);
}

static void copy_info(struct gn_panic *to, const struct gn_panic *from)
{
    if (to == NULL)
        return;
    to->text = from->text;
    to->value = from->value;
    to->runtime = from->runtime;
    if (from->text == from->buf_) {
        memcpy(to->buf_, from->buf_, sizeof to->buf_);
        to->text = to->buf_;
    }
}

NOINLINE bool gn_try(void (*fn)(void *), void *arg, struct gn_panic *p)
{
    struct gn_deferred **l = list_to_use();
    struct try t = {.place = {.next = *l, .kind = TRY}, .panic = p};

    if (__builtin_setjmp(t.place.jump) == 0) {
        *l = (struct gn_deferred *)&t;
        fn(arg);
    }
    // Anew: registers are not what they were.
    *list() = t.place.next;
    return !*(volatile bool *)&t.panicked;
}

// The goroutine's function has nothing left to do.
NORETURN static void end(void)
{
    if (g_id(g_current()) == 1)
        exit(0);
    g_exit();
}

// p is over: the rest up to where it goes on.
NORETURN static void land(struct panicking *p)
{
    struct gn_deferred *d;

    while ((d = p->place.next) != NULL) {
        if (d->kind_ == DEFER)
            call_behind(&p->place);
        else if (d->kind_ == RUNNING || p->exits)
            p->place.next = d->next_;
        else
            go_on((struct place *)d);
    }
    *list() = NULL;
    if (p->exits)
        g_exit();
    end();
}

// ---- a panic ----

// The text, lines but the first indented, so that none passes for one of the report.
static void print_text(const char *text)
{
    const char *end;

    for (; (end = strchr(text, '\n')) != NULL; text = end + 1)
        fmt_err("%.*s\n\t", (int)(end - text), text);
    fmt_err("%s", text);
}

static bool is_same(const struct gn_panic *a, const struct gn_panic *b)
{
    return a->value == b->value && a->runtime == b->runtime &&
           strcmp(a->text, b->text) == 0;
}

// after: the one that came from a deferred call of p, or NULL. Who panics with the same
// again is not printed again.
static void print_one(const struct panicking *p, const struct panicking *after)
{
    bool again = after != NULL && is_same(p->info, after->info);

    if (p->before != NULL) {
        print_one(p->before, p);
        if (is_same(p->before->info, p->info))
            return;
        fmt_err("\t");
    }
    fmt_err("panic: ");
    print_text(p->info->text);
    if (p->recovered)
        fmt_err(again ? " [recovered, repanicked]" : " [recovered]");
    fmt_err("\n");
}

static void print(const void *arg)
{
    const struct panicking *p = arg;

    print_one(p, NULL);
    if (p->pc != 0)
        fmt_err("[signal SIG%s code=0x1 addr=0x%lx pc=0x%lx]\n",
                p->info->text == text_nil ? "SEGV: segmentation violation"
                                          : "FPE: floating-point exception",
                (unsigned long)p->va, (unsigned long)p->pc);
}

// Past an older one, which will not go on.
static void pass(struct panicking *p, struct gn_deferred *d)
{
    if (d->kind_ == EXIT)
        p->exits = true;
    if (d->kind_ == PANIC) {
        struct panicking *last = p, *older = (struct panicking *)d;

        while (last->before != NULL)
            last = last->before;
        last->before = older;
        p->exits |= older->exits;
    }
    p->place.next = d->next_;
}

NORETURN static void panic_with(struct gn_panic *info, uintptr_t va,
                                uintptr_t pc)
{
    struct panicking p = {.place = {.next = *list(), .kind = PANIC},
                          .info = info,
                          .va = va,
                          .pc = pc};
    struct gn_deferred *d;

    // It comes back here when a call that it makes has ended a panic of its own.
    (void)__builtin_setjmp(p.place.jump);
    *list() = (struct gn_deferred *)&p;
    if (*(volatile bool *)&p.recovered)
        land(&p); // it was one of the rest
    while ((d = p.place.next) != NULL) {
        if (d->kind_ == DEFER) {
            call_behind(&p.place);
            if (p.recovered)
                land(&p);
        } else if (d->kind_ == TRY && !p.exits) {
            struct try *t = (struct try *)d;

            copy_info(t->panic, p.info);
            t->panicked = true;
            go_on(&t->place);
        } else {
            pass(&p, d);
        }
    }
    libc_flush(); // what the program has printed comes first
    panic_report(print, &p);
}

// The panic that runs the caller and is not recovered, or NULL.
static struct panicking *running(void)
{
    struct gn_deferred *d = *list();

    while (d != NULL && d->kind_ == DEFER)
        d = d->next_;
    if (d == NULL || d->kind_ != PANIC)
        return NULL;
    struct panicking *p = (struct panicking *)d;

    return p->recovered ? NULL : p;
}

bool panic_is_running(void)
{
    return running() != NULL;
}

bool gn_recover(struct gn_panic *info)
{
    struct panicking *p = running();

    if (p == NULL)
        return false;
    p->recovered = true;
    copy_info(info, p->info);
    return true;
}

void panic_goexit(void)
{
    struct place exit = {.next = *list(), .kind = EXIT};

    (void)__builtin_setjmp(exit.jump); // as in panic_with
    *list() = (struct gn_deferred *)&exit;
    while (exit.next != NULL) {
        if (exit.next->kind_ == DEFER)
            call_behind(&exit);
        else
            exit.next = exit.next->next_;
    }
    *list() = NULL;
    g_exit();
}

// ---- how it begins ----

void panic_go(const char *text)
{
    struct gn_panic info;

    info.text = text;
    info.value = NULL;
    info.runtime = false;
    panic_with(&info, 0, 0);
}

void gn_panic(const char *format, ...)
{
    struct gn_panic info;
    va_list ap;

    info.text = format;
    info.value = NULL;
    info.runtime = false;
    if (strchr(format, '%') != NULL) {
        va_start(ap, format);
        vsnprintf(info.buf_, sizeof info.buf_, format, ap);
        va_end(ap);
        info.text = info.buf_;
    }
    panic_with(&info, 0, 0);
}

void gn_panic_with(void *value, const char *text)
{
    struct gn_panic info;

    info.text = text;
    info.value = value;
    info.runtime = false;
    panic_with(&info, 0, 0);
}

// ---- faults ----

// What a trap has the goroutine call, as if where it happened had called it.
static void panic_fault(uintptr_t divide, uintptr_t va, uintptr_t pc)
{
    struct gn_panic info;

    info.text = divide ? text_divide : text_nil;
    info.value = NULL;
    info.runtime = true;
    panic_with(&info, va, pc);
}

static const char *text_of(const struct arch_trap *t)
{
    if (t->kind == TRAP_DIVIDE)
        return text_divide;
    return t->kind == TRAP_PAGE_FAULT && t->va < PAGE_SIZE ? text_nil : NULL;
}

static bool of_trap(struct trap_frame *tf, const struct arch_trap *t)
{
    struct g *g = g_current();

    // The handler counts as no-preempt itself.
    if (g == NULL || preempt_count() != 1 || stack_owner(t->sp) != g ||
        text_of(t) == NULL || *list() == NULL || g_locks() != 0)
        return false;
    return arch_trap_call(tf, panic_fault, t->kind == TRAP_DIVIDE, t->va);
}
