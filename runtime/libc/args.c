// Arguments that did not fit the loader's command line.

#include "runtime/libc/libc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int read_whole(const char *path, char **text, size_t *size)
{
    struct stat st;
    int fd = open(path, O_RDONLY);

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) != 0 ||
        (*text = malloc((size_t)st.st_size + 1)) == NULL) {
        close(fd);
        return -ENOMEM;
    }
    ssize_t n = read(fd, *text, (size_t)st.st_size);

    close(fd);
    if (n != st.st_size) {
        free(*text);
        return -EIO;
    }
    *size = (size_t)n;
    (*text)[n] = '\0';
    return 0;
}

char **libc_list_args(char *p, int n)
{
    char **list = malloc(((size_t)n + 1) * sizeof *list);

    for (int i = 0; list != NULL && i < n; i++, p += strlen(p) + 1)
        list[i] = p;
    if (list != NULL)
        list[n] = NULL;
    return list;
}

int libc_read_args(const char *path, int *argc, char ***argv)
{
    char *text = NULL, **list;
    size_t size = 0;
    int n = 0;
    int r = read_whole(path, &text, &size);

    if (r != 0)
        return r;
    for (size_t i = 0; i < size; i++)
        n += text[i] == '\0';
    list = libc_list_args(text, n);
    if (list == NULL) {
        free(text);
        return -ENOMEM;
    }
    *argc = n;
    *argv = list;
    return 0;
}
