// The boot archive: a cpio "newc" file whose contents become the file system.
#pragma once

#include <stddef.h>

// Makes the archive's files and directories the program's tree. Their bytes
// are mapped: the archive must stay where it is, unchanged.
//   base, size     the archive; nothing outside is read
//   err, errsize   gets a line on what is wrong, "" if nothing; errsize > 0
// Returns the number of entries that were left out, 0 as a rule (the line
// names the first: a symbolic link or a special file); -EINVAL for an archive
// that is not well-formed and -ENOMEM, when the tree is as it was before.
// Context: start-up, when nothing has been written to the tree: what it held
// is dropped.
int cpio_mount(const void *base, size_t size, char *err, size_t errsize);
