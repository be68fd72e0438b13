// What the chapters of the tour share.
#pragma once

#include <gneiss/mem.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NOINLINE __attribute__((noinline))

enum { PAGE = 4096, KIB = 1024, MIB = 1024 * 1024 };

// One line of text, indented.
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

// A statement that the chapter has checked; the tour's status depends on it.
// Returns what it was given.
bool claim(bool is_true, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

// The chapter can't be shown here, and why.
void skip(const char *why);

// gn_map with a name; on failure says that the chapter is skipped.
char *memory(size_t bytes, int flags, const char *name);

struct gn_where look(const void *p);
struct gn_mem_stats stats(void);
uint64_t now_ns(void);

// "4 KiB", "64 MiB", in a static buffer of four that take turns.
const char *size_text(uint64_t bytes);

// So many characters c, likewise.
const char *bar(char c, unsigned n);

// A byte through a volatile pointer: exactly one access, never left out.
char get(const char *p);
void put(char *p, char value);

// Returns when the other goroutines have ended.
void wait_until_alone(void);

// ---- chapters ----

void chapter_map(void);
void chapter_where(void);
void chapter_walk(void);
void chapter_fault(void);
void chapter_around(void);
void chapter_zero(void);
void chapter_cow(void);
void chapter_alias(void);
void chapter_move(void);
void chapter_shootdown(void);
void chapter_stack(void);
void chapter_grow(void);
void chapter_goroutines(void);
void chapter_channels(void);
void chapter_heap(void);
void chapter_span(void);
void chapter_tiny(void);
void chapter_large(void);
void chapter_return(void);
void chapter_fragments(void);
void chapter_collect(void);
