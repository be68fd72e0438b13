// Writes cpio "newc" archives for tests.
#pragma once

#include <stddef.h>
#include <stdint.h>

struct archive_writer {
    uint8_t bytes[64 * 1024];
    size_t size;
};

// One entry. page: pads the name so that the data begins on a page boundary.
void archive_add(struct archive_writer *w, const char *name, unsigned mode,
                 const void *data, size_t size, int page);

void archive_end(struct archive_writer *w);

// An archive with a bit of everything: directories, files, a padded name.
void archive_sample(struct archive_writer *w);
