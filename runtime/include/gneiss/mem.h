// Memory, as the MMU offers it: for programs that want more than malloc.
//
// A *mapping* is a range of addresses with rights. It costs no memory until it
// is touched: then a page (4 KiB of addresses) gets a frame (4 KiB of memory)
// that reads as zero. The calls below change which frames are seen where, and
// none of them copies the bytes that it works on.
//
// Addresses are multiples of 4 KiB. Lengths are in bytes, at least 1, and are
// rounded up to whole pages where it says so.
//
// Errors. A function that returns a pointer returns NULL on failure and sets
// errno. A function that returns a number returns a negative errno on failure,
// and leaves errno alone. A call that failed has changed nothing, unless it
// says otherwise. All of them can fail with
//
//   EINVAL  an address is not a multiple of 4 KiB or outside of where mappings
//           lie; a length is 0 or wraps around; an unknown flag
//   ENOMEM  so much can't be promised (below), there is no room for it, or there
//           is a hole in the range
//   EPERM   the memory is the runtime's: the heap of malloc, a stack
//
// Promises. What is mapped with rights is promised: its frames and page tables
// are set aside in the accounts at once, so that running out of memory is an
// error of the call and never of a later store. GN_NORESERVE opts out: such memory
// gets page by page what is promised to nobody, never what is set aside for others,
// and a store that finds none ends the program. GN_NONE costs nothing.
//
// Context: all functions may be called by any goroutine on any CPU, at the same
// time, but not in interrupt handlers. They don't park the caller; they may wait
// some microseconds for the other CPUs to forget translations. They don't use
// malloc. Exceptions are stated.
//
// Source: the calls follow mmap(2) and its relatives of Linux; <sys/mman.h> is
// built on this. Alias, snapshot and dirty tracking are Gneiss's own.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// ---- mapping ----------------------------------------------------------------

// Rights. On x86-64 memory that can be written or executed can be read as well:
// GN_READ is implied. GN_WRITE with GN_EXEC is refused (EACCES): map the memory
// twice (gn_alias), once to write and once to execute.
enum gn_prot {
    GN_NONE = 0, // only the addresses are taken
    GN_READ = 1,
    GN_WRITE = 2,
    GN_EXEC = 4,
};

enum gn_map_flags {
    GN_FIXED = 1,     // at the address or not at all
    GN_NORESERVE = 2, // promise nothing: a store may end the program
    GN_SPARSE = 4,    // reading an untouched page takes no frame: all of them
                      // show one page of zeros. For tables that stay mostly
                      // empty; the first store after a read costs more
};

// Maps memory that reads as zero.
//   hint   where, if it is free there; NULL: anywhere. With GN_FIXED exactly
//          there, else EEXIST (it never replaces another mapping)
//   bytes  length, rounded up to pages; 2 MiB and more begin at a multiple of
//          2 MiB, so that large pages and moving whole tables are possible
//   prot   enum gn_prot
//   flags  enum gn_map_flags
// Returns the address; the memory is the caller's until gn_unmap. Fails with
// EINVAL, ENOMEM, EEXIST, EACCES.
void *gn_map(void *hint, size_t bytes, int prot, int flags);

// The same with a name for gn_where and crash reports. name is not copied: it
// must stay as long as the mapping and all that is made from it.
void *gn_map_named(void *hint, size_t bytes, int prot, int flags,
                   const char *name);

// Maps the registers of a device, uncached, for drivers.
//   physical  where they are, a multiple of 4 KiB
//   bytes     length, rounded up
//   prot      GN_READ, with GN_WRITE if need be
//   name      for gn_where; not copied
// All of it is there at once; no frame is promised. What can be done with it is
// gn_protect, gn_remap and gn_unmap. Returns the address. Fails with EINVAL,
// ENOMEM, EACCES (GN_EXEC), EPERM: there is RAM, or the image.
void *gn_map_device(uint64_t physical, size_t bytes, int prot,
                    const char *name);

// Unmaps [p, p + bytes), bytes rounded up; parts of mappings, several mappings
// and holes are fine. Memory that an alias shows stays; a snapshot is not
// affected. Any access faults when it returns, on all CPUs. Returns 0, -EINVAL,
// -EPERM, or -ENOMEM: no memory to describe the parts that are left.
int gn_unmap(void *p, size_t bytes);

// Changes the rights of [p, p + bytes), bytes rounded up, to prot (enum
// gn_prot). GN_NONE keeps the contents and the promise. When it returns, no CPU
// can do what is forbidden now. Giving rights to what was mapped with GN_NONE
// promises it (see gn_commit). Returns 0, -EINVAL, -ENOMEM, -EPERM, -EACCES.
int gn_protect(void *p, size_t bytes, int prot);

// ---- address space without memory -------------------------------------------

// Takes bytes (rounded up) of address space, terabytes if you like, and nothing
// else. Its name is "range of gn_reserve", now and later. Returns its address;
// access faults. Fails with EINVAL or ENOMEM.
void *gn_reserve(size_t bytes);

// Makes [p, p + bytes), bytes rounded up, usable with rights prot (not GN_NONE):
// promises the memory. What is committed already just gets the rights. Returns
// 0, -EINVAL, -ENOMEM, -EPERM, -EACCES.
int gn_commit(void *p, size_t bytes, int prot);

// Gives the memory and the promise back and keeps the addresses: access faults
// again. bytes is rounded up. The contents are gone, in aliases too. Returns 0,
// -EINVAL, -ENOMEM, -EPERM.
int gn_decommit(void *p, size_t bytes);

// ---- moving -----------------------------------------------------------------

enum gn_remap_flags {
    GN_MAYMOVE = 8, // elsewhere, if it can't be done in place
    GN_MOVE = 16,   // elsewhere in any case
    // GN_FIXED: to the address `to`, which must be free
};

// Changes length and place of a mapping by its page-table entries: the frames,
// and so the contents, stay the same, and no byte is copied. Both lengths are
// rounded up. What is added reads as zero; what is cut off is given back.
//   p, bytes   a mapping or a part of one (not of several)
//   new_bytes  length afterwards
//   flags      0, GN_MAYMOVE, GN_MOVE or GN_FIXED
//   to         with GN_FIXED the new address, else not looked at
// Returns the new address; the old one is unmapped then, unless they are the
// same. Fails with EINVAL (also: parts of several mappings, both places overlap),
// ENOMEM (also: no room in place, and moving is not allowed), EEXIST (something
// lies at `to`), EPERM.
void *gn_remap(void *p, size_t bytes, size_t new_bytes, int flags, void *to);

// ---- sharing ----------------------------------------------------------------

// Shows [p, p + bytes), bytes rounded up, at a second address, with rights prot
// of its own: a store at one is read at the other. The range lies within one
// mapping. The memory lives until its last view is unmapped; neither view is
// more original than the other. Only the page tables of the second are promised.
// Returns the address. Fails with EINVAL, ENOMEM, EPERM, EACCES.
void *gn_alias(void *p, size_t bytes, int prot);

// A copy of [p, p + bytes), bytes rounded up, as it is at one moment: both share
// the frames until one side stores, then that page is copied. The range lies
// within one mapping; the snapshot has its rights. It is promised in full, since
// every page may have to be copied. Returns the address of the snapshot. Fails
// with EINVAL, ENOMEM, EPERM.
void *gn_snapshot(const void *p, size_t bytes);

// ---- advice -----------------------------------------------------------------

enum gn_advice {
    GN_DISCARD = 1,  // contents are not needed: give the frames back now; reads
                     // as zero afterwards, in aliases too. The promise stays
    GN_POPULATE = 2, // give every page its frame now, so that no fault comes
                     // later. EACCES: there are no rights to it
    GN_PROMOTE = 3,  // use 2 MiB pages where whole aligned ones are covered,
                     // and 1 GiB pages where the CPU has them: frames for all
                     // of it, copied together (once more 2 MiB or 1 GiB must be
                     // free for that). Not for memory that is shared now
                     // or GN_NORESERVE. What changes a part splits them again
};

// Advises on [p, p + bytes), bytes rounded up. Returns 0, for GN_PROMOTE how
// many times 2 MiB are in large pages now; or -EINVAL, -ENOMEM, -EPERM, -EACCES.
// GN_POPULATE may have done a part when it fails.
long gn_advise(void *p, size_t bytes, enum gn_advice advice);

// ---- which pages were stored to ---------------------------------------------

// The MMU notes stores by itself, in the page tables: watching costs nothing
// while the program runs, only when it asks. There are 8 watchers.

// Returns a new watcher, 0 or more, or -ENOSPC. The caller ends it.
int gn_watch_new(void);

// Ends a watcher. Returns 0 or -EINVAL.
int gn_watch_end(int watcher);

// Watches the mapping that holds p (any address in it): from now on stores to it
// are noted. If it is cut later, by gn_protect of a part for example, its parts
// are watched, until they say the same again and are one; what gn_remap adds to memory that has aliases is a mapping of its
// own, which is not. malloc's heap can be watched. Takes 1 bit for each page. Returns
// 0, -EINVAL (no such watcher, no mapping, a stack), -EEXIST (watched already),
// -ENOMEM.
int gn_watch(int watcher, const void *p);

// Which pages of the mapping that holds p were stored to since the watcher's
// last call, in order of address.
//   pages  the caller's; gets their addresses
//   max    room in it, 1 or more
// Returns how many were put there. If that is max, there may be more: they come
// with the next call. A store that comes while it works is reported now or next
// time, never lost; once in a while a page is reported that was not stored to.
// A large page (GN_PROMOTE) has one dirty bit: a store anywhere in it reports all
// its 512 (2 MiB) or 262,144 (1 GiB) pages. -EINVAL: not watched.
long gn_watch_collect(int watcher, const void *p, void **pages, size_t max);

// ---- looking ----------------------------------------------------------------

enum gn_kind {
    GN_KIND_NOTHING,  // no mapping
    GN_KIND_NIL,      // the page at 0
    GN_KIND_TEXT,     // code of the image
    GN_KIND_RODATA,   // its constants and string literals
    GN_KIND_DATA,     // its variables with a first value
    GN_KIND_BSS,      // its variables without
    GN_KIND_STACK,    // of a goroutine; thread-local variables lie at its top
    GN_KIND_GUARD,    // the page at the end of a stack
    GN_KIND_HEAP,     // malloc's memory
    GN_KIND_REGION,   // gn_map, mmap
    GN_KIND_ALIAS,    // gn_alias
    GN_KIND_SNAPSHOT, // gn_snapshot
    GN_KIND_DIRECT,   // the direct map: all frames, by number
    GN_KIND_DEVICE,   // device registers, stacks of the CPUs
    GN_KIND_RUNTIME,  // the runtime's own tables
};

// A word for it: "text", "stack" ... Context: any.
const char *gn_kind_name(enum gn_kind kind);

struct gn_where {
    enum gn_kind kind;
    const char *name;     // of the mapping, of a stack's goroutine; never NULL
    uintptr_t start, end; // of the mapping or of the gap; end is 0 at the end
                          // of the address space
    uintptr_t offset;     // from start
    uint64_t goroutine;   // stacks and guards: its number from 1, else 0
    const char *symbol;   // text: the function, else NULL
    size_t symbol_offset; // bytes from its start
    int prot;             // what the program may do there, enum gn_prot
    unsigned views;       // mappings that show the memory: 1, more with aliases

    // The page right now.
    bool mapped;       // it has a frame that the hardware finds
    size_t page_bytes; // 4 KiB, 2 MiB or 1 GiB; 0 if not mapped
    uint64_t frame;    // its number: physical address / 4 KiB
    unsigned users;    // pages that share the frame; 0: not counted
    bool readable, writable, executable; // without a fault
    bool accessed, dirty; // the hardware's bits; dirty is cleared by watching
    bool cow;             // the next store gets a frame of its own
    bool zero_frame;      // it shows the shared page of zeros
};

// Says what lies at p, which need not be mapped, nor be a pointer at all. Fills
// *w. What p belongs to may change as soon as it returns. The gaps between
// mappings have ranges too, so
//
//     uintptr_t a = 0;
//     do { gn_where((void *)a, &w); ... } while ((a = w.end) != 0);
//
// passes through the whole address space. Strings in *w belong to the runtime.
void gn_where(const void *p, struct gn_where *w);

// Bytes of [p, p + bytes) that have a frame now; the page of zeros does not
// count. p and bytes are extended to whole pages; 0 for bytes 0.
size_t gn_resident(const void *p, size_t bytes);

// What the hardware reads to translate an address, one step for each level.
struct gn_walk_step {
    int level;      // 4, 3, 2, 1
    unsigned index; // in the table, 0..511: 9 bits of the address
    uint64_t entry; // as the hardware reads it. Source: Intel SDM vol. 3, 4.5
    bool present;
    bool leaf;      // maps a page; else the next table, or nothing
    uint64_t frame; // number of the frame of the table or page
};

// Fills steps, and returns their number, 1..4: the last is the leaf, or not
// present. 0 if p is no address (bits 47..63 differ).
unsigned gn_walk(const void *p, struct gn_walk_step steps[4]);

// ---- figures ----------------------------------------------------------------

// Frames are 4 KiB each; events count from boot. The parts are read one after
// the other: they need not add up while other CPUs work.
struct gn_mem_stats {
    uint64_t frames_total;    // handed to the allocator
    uint64_t frames_free;     // nobody uses them; those in caches too
    uint64_t frames_low;      // fewest free in the allocator since boot
    uint64_t frames_cached;   // of the free, in caches of CPUs and zeroed
    uint64_t frames_zeroed;   // of these, cleared in advance by idle CPUs
    uint64_t frames_reserved; // kept for growing stacks
    uint64_t page_tables;     // frames in use as page tables
    uint64_t pages_2mib;      // large pages (GN_PROMOTE): of 2 MiB,
    uint64_t pages_1gib;      // and of 1 GiB
    uint64_t committed;       // pages promised, or counted against the rest
    uint64_t commit_limit;    // pages that may be
    uint64_t faults;          // page faults, growing stacks included
    uint64_t zero_fills;      // pages that they gave a cleared frame
    uint64_t cow_faults;      // faults that were stores to shared frames
    uint64_t zeroed_hits;     // frames that were cleared in advance when needed
    uint64_t zeroed_misses;   // frames that had to be cleared then
    uint64_t moves;           // ranges moved by their entries
    uint64_t shootdowns;      // times that CPUs had to forget translations
    bool scarce;              // so few are free that nothing is mapped ahead
};

// Fills *s.
void gn_mem_stats(struct gn_mem_stats *s);
