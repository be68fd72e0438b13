// The C library's lock: what newlib calls struct __lock.
//
// A mutex that parks its waiters. One type serves newlib's plain and its
// recursive locks, stdio's FILE locks and the file system. See locks.c.
#pragma once

#include <stdbool.h>

struct __lock;

// Take and give back the lock. A thread of execution may take a lock again
// that it holds; it gives it back as often.
// Context: a thread of execution, or start-up before there is one (no waiting
// then); never an interrupt. lock_acquire() may park.
void lock_acquire(struct __lock *l);
bool lock_try_acquire(struct __lock *l);
void lock_release(struct __lock *l);

// The lock of the file system: the tree, the nodes, the contents of files and
// the table of descriptors. Not recursive by intent: fs.c takes it once per
// call. It may be held while memory is copied to or from a program's buffer or
// allocated, never while a console is read or written. Below it comes only
// malloc's lock.
void fs_lock(void);
void fs_unlock(void);
