// Memory management, as the layers above see it.
//
// mm/frame.h (physical frames), mm/region.h (address ranges and faults) and
// mm/pt.h (page tables) are its parts; this header starts them and keeps the
// accounts.
#pragma once

#include "arch/arch.h"
#include "mm/dirty.h"
#include "mm/fcache.h"
#include "mm/frame.h"
#include "mm/look.h"
#include "mm/pt.h"
#include "mm/region.h"
#include "mm/vm.h"

struct mm_range {
    uint64_t start, end; // physical bytes
};

enum { MM_MAX_RANGES = 64 };

// What the boot knows about physical memory. ram: what mm_read_map found. keep: parts of it that are in use (the image, the
// initial files). image parts: where each lies and how it is to be mapped.
struct mm_boot {
    struct mm_range ram[MM_MAX_RANGES];
    unsigned nram;
    unsigned ncut;      // pieces that found no place there
    uint64_t cut_bytes; // their sum
    struct mm_range keep[8];
    unsigned nkeep;
    struct mm_image_part {
        uintptr_t va;
        uint64_t pa, size;
        unsigned prot;
        const char *name; // for reports: "text of the image"
    } image[5];
    unsigned nimage;
};

// An entry of a memory map as firmware gives it (ACPI 6.5, table 15.4): type 1
// is RAM.
struct mm_map_entry {
    uint64_t addr, size;
    uint32_t type, reserved;
};

// Fills in ram: what is RAM and nothing else, in whole pages, in order; pieces
// that touch are one. Of more than MM_MAX_RANGES the largest; the rest is counted.
// Context: boot.
void mm_read_map(struct mm_boot *b, const struct mm_map_entry *m, size_t n);

// Builds the page tables (direct map, image), hands RAM to the frame allocator
// and switches to the new tables through load_root. Returns NULL, or what is
// missing as one line. Context: boot, one CPU, interrupts off; only the first
// GiB is reachable through the direct map yet.
const char *mm_init(struct mm_boot *b, void (*load_root)(paddr_t root));

// A cleared frame in the direct map that is never given back, for nailed data
// of the start-up; panics when there is none.
void *mm_boot_page(void);

// Takes what this CPU needs to give memory back when there is none left. Context:
// before it runs goroutines.
void mm_cpu_init(void);

// Maps nailed memory explicitly (device registers, stacks of the CPUs).
void mm_map_nailed(uintptr_t va, paddr_t pa, size_t npages, unsigned prot);

// Commit accounting (R14): reserves frames for memory that may be touched
// later, so that running out is an error of the call and never of a store.
// Returns false, and charges nothing, when not so many are left.
MUST_USE bool mm_charge(uint64_t npages);
void mm_uncharge(uint64_t npages);

// Counts a page that cannot be refused (a stack's) against what is left.
void mm_charge_stack(uint64_t npages);

// Frames that a mapping of so many bytes can take, its page tables included: at
// va, and at an address where it needs no more of these than anywhere.
uint64_t mm_mapping_cost_at(uintptr_t va, uint64_t bytes);
uint64_t mm_mapping_cost(uint64_t bytes);

// So many frames are taken for good: that many fewer can be promised.
// Context: mm_lock held.
void mm_commit_less(uint64_t npages);

// The start-up has taken what it needs: the rest can be promised.
// Context: boot.
void mm_boot_done(void);

// Frames that nobody uses: free ones and those in caches. Context: any.
uint64_t mm_free_frames(void);

struct mm_commit {
    uint64_t committed; // pages promised, or counted against the rest
    uint64_t limit;     // pages that may be
    uint64_t usable;    // frames that were free when the program began
};

struct mm_commit mm_commit(void);

// How few frames are free. Context: any.
enum mm_pressure {
    MM_PLENTY,
    MM_LOW,      // less than an eighth
    MM_HIGH,     // less than a sixteenth
    MM_CRITICAL, // less than a 64th, or 64
};

enum mm_pressure mm_pressure(void);

// Somebody who can give frames back when they get few. reclaim gives back about
// npages if it can, the more eagerly the higher the level, and returns how many.
// It runs in the scheduler or in the goroutine whose charge failed, with no lock
// held, and may take its own. The owner keeps the struct for ever.
struct mm_reclaimer {
    uint64_t (*reclaim)(uint64_t npages, enum mm_pressure level);
    struct mm_reclaimer *next;
};

void mm_reclaimer_add(struct mm_reclaimer *r);

// Asks them all for npages. Returns how many came. Context: no lock held.
uint64_t mm_reclaim(uint64_t npages);

// True if somebody met a shortage since mm_relieve last ran; the scheduler
// looks, and calls it. Context: any; scheduler.
bool mm_pressure_pending(void);
void mm_relieve(void);

// True when frames are so few that nothing should be mapped in advance.
// Context: any.
bool mm_frames_scarce(void);

// What lies at va, in a few words, for reports. Takes no lock.
const char *mm_describe(uintptr_t va, char *buf, size_t size);

// True if n bytes at va are mapped now. Takes no lock; for reports.
bool mm_readable(uintptr_t va, size_t n);

// Gives back the pages of the image in [va, va + size): start-up code and data
// that nobody uses any more. Context: boot, on the system stack.
void mm_free_image(uintptr_t va, size_t size);

// Panics unless no page is writable and executable and no frame of text or
// rodata is writable at any address (frames are compared, not addresses).
void mm_check_wx(void);
