#include "apps/wordcount/input.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "apps/wordcount/words.h"

enum { BUFFER = 65536 };

struct input {
    void (*take)(const unsigned char *p, size_t n, void *arg);
    void *arg;
    size_t nfiles; // that were read
};

static bool complain(const char *name)
{
    fprintf(stderr, "%s: %s: %s\n", program, name, strerror(errno));
    return false;
}

static bool read_stream(struct input *in, FILE *f, const char *name)
{
    static unsigned char buffer[BUFFER];
    size_t n;

    while ((n = fread(buffer, 1, sizeof buffer, f)) > 0)
        in->take(buffer, n, in->arg);
    if (ferror(f))
        return complain(name);
    in->nfiles++;
    return true;
}

static bool read_path(struct input *in, const char *path, bool named);

static bool read_directory(struct input *in, const char *path)
{
    DIR *d = opendir(path);
    struct dirent *e;
    bool ok = true;

    if (d == NULL)
        return complain(path);
    while ((e = readdir(d)) != NULL) {
        size_t n = strlen(path) + strlen(e->d_name) + 2;
        char *child;

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        child = malloc(n);
        if (child == NULL) {
            ok = complain(path);
            break;
        }
        snprintf(child, n, "%s%s%s", path,
                 path[strlen(path) - 1] == '/' ? "" : "/", e->d_name);
        ok &= read_path(in, child, false);
        free(child);
    }
    closedir(d);
    return ok;
}

// named: by the user, not found in a directory, where devices are passed over.
static bool read_path(struct input *in, const char *path, bool named)
{
    struct stat st;
    FILE *f = NULL;
    bool ok;

    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return read_directory(in, path);
    if (!named && !S_ISREG(st.st_mode))
        return true;
    f = fopen(path, "rb");
    if (f == NULL)
        return complain(path);
    ok = read_stream(in, f, path);
    fclose(f);
    return ok;
}

bool input_read(int argc, char **argv,
                void (*take)(const unsigned char *p, size_t n, void *arg),
                void *arg)
{
    struct input in = {take, arg, 0};
    bool ok = true;

    for (int i = 1; i < argc; i++)
        ok &= read_path(&in, argv[i], true);
    if (argc == 1)
        ok = read_path(&in, ".", true);
    if (argc == 1 && in.nfiles == 0)
        ok = read_stream(&in, stdin, "standard input");
    return ok;
}
