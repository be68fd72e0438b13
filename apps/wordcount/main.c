// The most frequent words of its files: exactly what
//
//   LC_ALL=C; cat FILES | tr -cs 'A-Za-z' '\n' | tr 'A-Z' 'a-z' | grep . |
//     sort | uniq -c | sort -k1,1nr -k2,2 | head -n 20
//
// prints. Arguments are files and directories; without any, every file below the
// working directory is read (in the guest: what make run FILES=... gave), or
// standard input if there is none. Words are counted in an open-addressing hash table that doubles.

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { TOP = 20, FIRST_SLOTS = 4096, BUFFER = 65536, PATH_BYTES = 4096 };

struct word {
    char *text; // NULL: the slot is free
    size_t length;
    uint64_t hash;
    unsigned long count;
};

static struct word *slots;
static size_t nslots, nwords, nfiles;

// The word being read: it goes on from file to file, as cat's output does.
static char *current;
static size_t current_length, current_capacity;

static void *check(void *p)
{
    if (p == NULL) {
        fprintf(stderr, "wordcount: out of memory after %zu words\n", nwords);
        exit(1);
    }
    return p;
}

// FNV-1a.
static uint64_t hash_of(const char *text, size_t length)
{
    uint64_t h = UINT64_C(14695981039346656037);

    for (size_t i = 0; i < length; i++)
        h = (h ^ (unsigned char)text[i]) * UINT64_C(1099511628211);
    return h;
}

static struct word *find(const char *text, size_t length, uint64_t hash)
{
    size_t i = hash & (nslots - 1);

    while (slots[i].text != NULL &&
           !(slots[i].hash == hash && slots[i].length == length &&
             memcmp(slots[i].text, text, length) == 0))
        i = (i + 1) & (nslots - 1);
    return &slots[i];
}

static void grow(void)
{
    struct word *old = slots;
    size_t n = nslots;

    nslots = n == 0 ? FIRST_SLOTS : 2 * n;
    slots = check(calloc(nslots, sizeof *slots));
    for (size_t i = 0; i < n; i++) {
        if (old[i].text != NULL)
            *find(old[i].text, old[i].length, old[i].hash) = old[i];
    }
    free(old);
}

static void end_of_word(void)
{
    if (current_length == 0)
        return;
    if (2 * nwords >= nslots)
        grow();
    uint64_t h = hash_of(current, current_length);
    struct word *w = find(current, current_length, h);

    if (w->text == NULL) {
        w->text = check(malloc(current_length + 1));
        memcpy(w->text, current, current_length);
        w->text[current_length] = '\0';
        w->length = current_length;
        w->hash = h;
        nwords++;
    }
    w->count++;
    current_length = 0;
}

static void add_letter(char c)
{
    if (current_length == current_capacity) {
        current_capacity = current_capacity == 0 ? 64 : 2 * current_capacity;
        current = check(realloc(current, current_capacity));
    }
    current[current_length++] = c;
}

static void count_bytes(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = p[i] | 0x20;

        if (c >= 'a' && c <= 'z')
            add_letter((char)c);
        else
            end_of_word();
    }
}

static bool count_stream(FILE *f, const char *name)
{
    static unsigned char buffer[BUFFER];
    size_t n;

    while ((n = fread(buffer, 1, sizeof buffer, f)) > 0)
        count_bytes(buffer, n);
    if (ferror(f)) {
        fprintf(stderr, "wordcount: %s: %s\n", name, strerror(errno));
        return false;
    }
    nfiles++;
    return true;
}

static bool count_path(const char *path, bool named);

static bool count_directory(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *e;
    bool ok = true;

    if (d == NULL) {
        fprintf(stderr, "wordcount: %s: %s\n", path, strerror(errno));
        return false;
    }
    while ((e = readdir(d)) != NULL) {
        size_t n = strlen(path) + strlen(e->d_name) + 2;
        char *child;

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        child = check(malloc(n));
        snprintf(child, n, "%s%s%s", path,
                 path[strlen(path) - 1] == '/' ? "" : "/", e->d_name);
        ok &= count_path(child, false);
        free(child);
    }
    closedir(d);
    return ok;
}

// named: by the user, not found in a directory, where devices are passed over.
static bool count_path(const char *path, bool named)
{
    struct stat st;
    FILE *f = NULL;
    bool ok;

    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return count_directory(path);
    if (!named && !S_ISREG(st.st_mode))
        return true;
    f = fopen(path, "rb");
    if (f == NULL) {
        fprintf(stderr, "wordcount: %s: %s\n", path, strerror(errno));
        return false;
    }
    ok = count_stream(f, path);
    fclose(f);
    return ok;
}

static int by_count(const void *a, const void *b)
{
    const struct word *x = a, *y = b;

    if (x->count != y->count)
        return x->count < y->count ? 1 : -1;
    return strcmp(x->text, y->text);
}

static void print_top(void)
{
    size_t n = 0;

    for (size_t i = 0; i < nslots; i++) {
        if (slots[i].text != NULL)
            slots[n++] = slots[i];
    }
    qsort(slots, n, sizeof *slots, by_count);
    for (size_t i = 0; i < n && i < TOP; i++)
        printf("%7lu %s\n", slots[i].count, slots[i].text);
}

int main(int argc, char **argv)
{
    bool ok = true;

    for (int i = 1; i < argc; i++)
        ok &= count_path(argv[i], true);
    if (argc == 1)
        ok = count_path(".", true);
    if (argc == 1 && nfiles == 0)
        ok = count_stream(stdin, "standard input");
    end_of_word();
    print_top();
    return ok && fflush(stdout) == 0 ? 0 : 1;
}
