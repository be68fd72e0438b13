// Writes cpio "newc" archives for tests.

#include "host-tests/runtime/libc/archive.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HEADER_BYTES = 110,
    PAGE_BYTES = 4096,
};

static void pad(struct archive_writer *w, size_t multiple)
{
    while (w->size % multiple)
        w->bytes[w->size++] = 0;
}

void archive_add(struct archive_writer *w, const char *name, unsigned mode,
                 const void *data, size_t size, int page)
{
    size_t name_size = strlen(name) + 1;
    char header[HEADER_BYTES + 1];

    if (page)
        while ((w->size + HEADER_BYTES + name_size) % PAGE_BYTES)
            name_size++;
    if (w->size + HEADER_BYTES + name_size + size + 2 * PAGE_BYTES >
        sizeof(w->bytes))
        abort();
    snprintf(header, sizeof(header),
             "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", 1u,
             mode, 0u, 0u, 1u, 1234u, (unsigned)size, 0u, 0u, 0u, 0u,
             (unsigned)name_size, 0u);
    memcpy(w->bytes + w->size, header, HEADER_BYTES);
    memset(w->bytes + w->size + HEADER_BYTES, 0, name_size);
    memcpy(w->bytes + w->size + HEADER_BYTES, name, strlen(name));
    w->size += HEADER_BYTES + name_size;
    pad(w, 4);
    if (size > 0)
        memcpy(w->bytes + w->size, data, size);
    w->size += size;
    pad(w, 4);
}

void archive_end(struct archive_writer *w)
{
    archive_add(w, "TRAILER!!!", 0, NULL, 0, 0);
}

void archive_sample(struct archive_writer *w)
{
    static uint8_t page[5000];

    w->size = 0;
    memset(page, 'p', sizeof(page));
    archive_add(w, ".", 0040755, NULL, 0, 0);
    archive_add(w, "dir", 0040700, NULL, 0, 0);
    archive_add(w, "dir/a", 0100644, "alpha", 5, 0);
    archive_add(w, "dir/page", 0100600, page, sizeof(page), 1);
    archive_add(w, "implied/b", 0100755, "", 0, 0);
    archive_end(w);
}
