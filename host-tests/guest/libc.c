// The C library as programs use it.
//
// usage: libc [FILE...]    files given by the runner: "f<N>" holds N bytes,
//                          byte i being i * 31 + N; also d/e/deep.txt

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "host-tests/guest/par.h"
#include "host-tests/guest/tap.h"

#define SAYS(expected, ...)                                                    \
    do {                                                                       \
        char text_[256];                                                       \
        snprintf(text_, sizeof text_, __VA_ARGS__);                            \
        if (!ok(strcmp(text_, expected) == 0, "printf %s", expected))          \
            printf("# found: %s\n", text_);                                    \
    } while (0)

// ---- before main, after main ----

static int constructed;

__attribute__((constructor(200))) static void second(void)
{
    constructed = constructed * 10 + 2;
}

__attribute__((constructor(150))) static void before_second(void)
{
    constructed = constructed * 10 + 1;
}

__attribute__((constructor)) static void last(void)
{
    constructed = constructed * 10 + 3;
}

__attribute__((destructor)) static void destructor(void)
{
    printf("# at exit: destructor\n");
}

static void exit_first(void)
{
    printf("# at exit: registered first\n");
}

static void exit_second(void)
{
    printf("# at exit: registered second\n");
}

// ---- formatted output and input ----

static void test_printf(void)
{
    SAYS("1.500000 -0.25 1e+300", "%f %g %g", 1.5, -0.25, 1e300);
    SAYS("3.14159265358979", "%.15g", 3.14159265358979);
    SAYS("0.1 0.10000000000000001", "%g %.17g", 0.1, 0.1);
    SAYS("inf -inf nan", "%f %f %f", INFINITY, -INFINITY, NAN);
    SAYS("1.25 2.5e+00", "%Lg %.1Le", 1.25L, 2.5L);
    SAYS("9223372036854775807 18446744073709551615", "%lld %llu", LLONG_MAX,
         ULLONG_MAX);
    SAYS("  42|42  |0042|+42|2a|0X2A|052", "%4d|%-4d|%04d|%+d|%x|%#X|%#o", 42,
         42, 42, 42, 42, 42, 42);
    SAYS("abc  |  abc|ab|c", "%-5s|%5s|%.2s|%c", "abc", "abc", "abc", 'c');
    SAYS("-1 255 65535 18446744073709551615", "%hhd %hhu %hu %zu", -1, 255,
         65535, SIZE_MAX);
    SAYS("4.94066e-324 1.7976931348623157e+308", "%g %.17g", 5e-324,
         1.7976931348623157e308);
    SAYS("0x1.8p+0", "%a", 1.5);
}

static void test_scanf(void)
{
    int i = 0, n;
    long long ll = 0;
    double d = 0;
    char word[20] = "", *end;

    n = sscanf("12 -9000000000 2.5e3 hello", "%d %lld %lf %19s", &i, &ll, &d,
               word);
    ok(n == 4 && i == 12 && ll == -9000000000 && d == 2500 &&
           strcmp(word, "hello") == 0,
       "sscanf");
    ok(strtod("0.1", NULL) == 0.1 && strtod("1e-310xyz", &end) == 1e-310 &&
           strcmp(end, "xyz") == 0 && strtod("0x1p4", NULL) == 16,
       "strtod is exact");
    errno = 0;
    ok(strtod("1e999", NULL) == HUGE_VAL && errno == ERANGE,
       "strtod reports overflow");
    errno = 0;
    ok(strtol("99999999999999999999", NULL, 10) == LONG_MAX && errno == ERANGE,
       "strtol reports overflow");
    ok(strtoull("ffffffffffffffff", NULL, 16) == ULLONG_MAX, "strtoull");
}

static void test_math(void)
{
    volatile double two = 2, one = 1, x = 0.5;

    ok(sqrt(two) * sqrt(two) - 2 < 1e-15 &&
           fabs(sin(x) - 0.479425538604203) < 1e-15 &&
           fabs(exp(one) - 2.718281828459045) < 1e-15 &&
           pow(two, 0.5) == sqrt(two) &&
           fabs(log(two) - 0.6931471805599453) < 1e-15 && floor(-x) == -1,
       "sqrt sin exp pow log floor");
}

// ---- files ----

static bool holds(const char *path, const char *expected)
{
    char text[256] = "";
    FILE *f = fopen(path, "r");
    size_t n = f != NULL ? fread(text, 1, sizeof text - 1, f) : 0;

    if (f != NULL)
        fclose(f);
    return f != NULL && n == strlen(expected) && memcmp(text, expected, n) == 0;
}

static bool put(const char *path, const char *mode, const char *text)
{
    FILE *f = fopen(path, mode);

    return f != NULL && fputs(text, f) >= 0 && fclose(f) == 0;
}

static void test_files(void)
{
    struct stat st;
    char bytes[8];

    ok(put("/tmp/a", "w", "one\n") && holds("/tmp/a", "one\n"), "create");
    ok(put("/tmp/a", "a", "two\n") && holds("/tmp/a", "one\ntwo\n"), "append");
    FILE *f = fopen("/tmp/a", "r+");

    fseek(f, 4, SEEK_SET);
    fputs("TWO", f);
    fseek(f, 0, SEEK_SET);
    ok(fgetc(f) == 'o' && fseek(f, -1, SEEK_END) == 0 && fgetc(f) == '\n' &&
           fgetc(f) == EOF && feof(f),
       "seek and the end of the file");
    fseek(f, 10000, SEEK_SET);
    fputc('!', f);
    ok(ftell(f) == 10001, "write behind the end");
    fclose(f);
    ok(stat("/tmp/a", &st) == 0 && st.st_size == 10001 && S_ISREG(st.st_mode),
       "stat tells the size");
    int fd = open("/tmp/a", O_RDONLY);

    ok(fd > 2 && pread(fd, bytes, 8, 4) == 8 &&
           memcmp(bytes, "TWO\n\0\0\0\0", 8) == 0,
       "the hole reads as zeros");
    close(fd);
    ok(rename("/tmp/a", "/tmp/b") == 0 && access("/tmp/a", F_OK) == -1 &&
           access("/tmp/b", R_OK) == 0,
       "rename");
    ok(truncate("/tmp/b", 3) == 0 && holds("/tmp/b", "one"), "truncate");
    ok(unlink("/tmp/b") == 0 && !holds("/tmp/b", "one"), "unlink");
    errno = 0;
    ok(fopen("/tmp/b", "r") == NULL && errno == ENOENT, "ENOENT");
    errno = 0;
    ok(fopen("/tmp/none/b", "w") == NULL && errno == ENOENT, "no directory");
    errno = 0;
    ok(open("/tmp", O_WRONLY) == -1 && errno == EISDIR, "EISDIR");
    errno = 0;
    ok(read(999, bytes, 1) == -1 && errno == EBADF, "EBADF");
    fd = open("/tmp/open", O_RDWR | O_CREAT | O_EXCL, 0600);
    ok(fd > 2 && unlink("/tmp/open") == 0 && write(fd, "x", 1) == 1 &&
           lseek(fd, 0, SEEK_SET) == 0 && read(fd, bytes, 2) == 1 &&
           bytes[0] == 'x',
       "an unlinked file lives while it is open");
    close(fd);
    f = tmpfile();
    ok(f != NULL && fputs("tmp", f) >= 0 && (rewind(f), fgetc(f)) == 't',
       "tmpfile");
    if (f != NULL)
        fclose(f);
}

static void test_directories(void)
{
    char names[100] = "", where[100];
    struct dirent *e;

    ok(mkdir("/tmp/d", 0755) == 0 && mkdir("/tmp/d/e", 0755) == 0 &&
           put("/tmp/d/f", "w", "f") && put("/tmp/d/g", "w", "g"),
       "make directories");
    DIR *d = opendir("/tmp/d");

    while (d != NULL && (e = readdir(d)) != NULL) {
        strcat(names, e->d_name);
        strcat(names, " ");
    }
    ok(d != NULL && closedir(d) == 0 && strcmp(names, ". .. e f g ") == 0,
       "readdir: %s", names);
    errno = 0;
    ok(rmdir("/tmp/d") == -1 && errno == ENOTEMPTY, "ENOTEMPTY");
    ok(chdir("/tmp/d") == 0 && getcwd(where, sizeof where) != NULL &&
           strcmp(where, "/tmp/d") == 0 && holds("f", "f") &&
           holds("../d/./g", "g"),
       "relative paths");
    ok(chdir("/") == 0 && unlink("/tmp/d/f") == 0 && unlink("/tmp/d/g") == 0 &&
           rmdir("/tmp/d/e") == 0 && rmdir("/tmp/d") == 0,
       "remove directories");
}

static bool file_is_right(const char *path, size_t size)
{
    FILE *f = fopen(path, "rb");
    bool right = f != NULL;

    for (size_t i = 0; right && i < size; i++)
        right = fgetc(f) == (int)((i * 31 + size) & 0xff);
    right = right && fgetc(f) == EOF;
    if (f != NULL)
        fclose(f);
    return right;
}

static void test_given_files(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        size_t size = (size_t)atoll(argv[i] + 1);
        struct stat st;

        ok(stat(argv[i], &st) == 0 && (size_t)st.st_size == size &&
               file_is_right(argv[i], size),
           "given file of %zu bytes", size);
        FILE *f = fopen(argv[i], "ab");

        ok(f != NULL && fputc('x', f) == 'x' && fclose(f) == 0 &&
               stat(argv[i], &st) == 0 && (size_t)st.st_size == size + 1,
           "a given file can be written");
    }
    if (argc > 1)
        ok(holds("d/e/deep.txt", "deep\n"), "a file in directories");
}

// ---- memory, order, jumps ----

static int compare(const void *a, const void *b)
{
    return (*(const int *)a > *(const int *)b) -
           (*(const int *)a < *(const int *)b);
}

static void test_memory(void)
{
    enum { N = 5000 };
    static int a[N];
    bool sorted = true;
    void *p, *q;

    srand(7);
    for (int i = 0; i < N; i++)
        a[i] = rand();
    qsort(a, N, sizeof a[0], compare);
    for (int i = 1; i < N; i++)
        sorted = sorted && a[i - 1] <= a[i];
    ok(sorted && bsearch(&a[100], a, N, sizeof a[0], compare) != NULL,
       "qsort and bsearch");
    p = calloc(1000, 10);
    q = realloc(p, 100000);
    ok(p != NULL && q != NULL && ((char *)q)[9999] == 0, "calloc and realloc");
    free(q);
    ok(posix_memalign(&p, 4096, 100) == 0 && (uintptr_t)p % 4096 == 0,
       "posix_memalign");
    free(p);
    ok((uintptr_t)(p = malloc(24)) % 16 == 0, "malloc aligns to 16 bytes");
    free(p);
    free(NULL);
    errno = 0;
    volatile size_t much = SIZE_MAX / 2;

    void *volatile none = malloc(much);

    ok(none == NULL && errno == ENOMEM, "malloc fails with ENOMEM");
    char *s = strdup("text");

    ok(s != NULL && strcmp(s, "text") == 0, "strdup");
    free(s);
}

static jmp_buf buf;

static NOINLINE int jump(int n)
{
    volatile char room[5000];

    room[0] = (char)n;
    if (n == 0)
        longjmp(buf, 42);
    return n < 0 ? 0 : jump(n - 1) + room[0];
}

static NOINLINE void test_setjmp(void)
{
    volatile int before = 5;
    int r = setjmp(buf);

    if (r == 0) {
        before = 6;
        jump(10);
    }
    ok(r == 42 && before == 6, "longjmp out of ten frames");
}

// ---- time and environment ----

static void test_time(void)
{
    struct tm tm = {.tm_year = 100, .tm_mon = 1, .tm_mday = 29, .tm_hour = 12};
    time_t t = mktime(&tm);
    char text[64];

    ok(t == 951825600 && tm.tm_wday == 2 && tm.tm_yday == 59, "mktime");
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S %a", gmtime(&t));
    ok(strcmp(text, "2000-02-29 12:00:00 Tue") == 0, "gmtime and strftime");
    ok(strcmp(asctime(gmtime(&t)), "Tue Feb 29 12:00:00 2000\n") == 0,
       "asctime");
    ok(difftime(t + 5, t) == 5 && clock() != (clock_t)-1, "difftime and clock");
}

static void test_environment(void)
{
    ok(getenv("GUEST") != NULL && strcmp(getenv("GUEST"), "a \"b\" \\c") == 0,
       "getenv finds what the runner gave");
    ok(getenv("NOT_THERE") == NULL, "and nothing else");
    ok(setenv("NEW", "value", 1) == 0 && strcmp(getenv("NEW"), "value") == 0,
       "setenv");
    ok(unsetenv("NEW") == 0 && getenv("NEW") == NULL, "unsetenv");
}

static void test_strings(void)
{
    char text[] = "one,two,,three", *save, *t;
    int n = 0;

    for (t = strtok_r(text, ",", &save); t != NULL;
         t = strtok_r(NULL, ",", &save))
        n++;
    ok(n == 3 && strstr("haystack", "st") != NULL && strspn("aab", "a") == 2 &&
           memchr("abc", 'c', 3) != NULL && strcasecmp("ABC", "abc") == 0,
       "string functions");
    ok(isalpha('a') && !isalpha('1') && toupper('a') == 'A' && isspace('\t'),
       "character classes");
    memmove(text + 1, text, 5);
    ok(memcmp(text, "oone", 4) == 0, "memmove of what overlaps");
}

// ---- goroutines ----

static FILE *shared;

static void print_lines(unsigned cpu, void *arg)
{
    (void)arg;
    for (int i = 0; i < 2000; i++)
        fprintf(shared, "cpu %u line %d\n", cpu, i);
}

static void test_printing(void)
{
    unsigned count[ARCH_MAX_CPUS] = {0}, cpu;
    int line, total = 0;
    bool right = true;

    shared = fopen("/tmp/lines", "w");
    par_run(print_lines, NULL);
    fclose(shared);
    shared = fopen("/tmp/lines", "r");
    while (fscanf(shared, "cpu %u line %d\n", &cpu, &line) == 2) {
        right = right && cpu < arch_cpu_count() && count[cpu] == (unsigned)line;
        if (cpu < arch_cpu_count())
            count[cpu]++;
        total++;
    }
    fclose(shared);
    ok(right && total == (int)arch_cpu_count() * 2000,
       "lines printed by all CPUs to one stream: none lost or broken (%d)",
       total);
}

static _Atomic unsigned damaged;

static void use_malloc(unsigned cpu, void *arg)
{
    char *p[50] = {NULL};

    (void)arg;
    for (unsigned i = 0; i < 3000; i++) {
        unsigned k = i * 7 % 50, size = 1 + i * 13 % 3000;

        if (p[k] != NULL && *p[k] != (char)(cpu + k))
            atomic_fetch_add(&damaged, 1);
        free(p[k]);
        p[k] = malloc(size);
        memset(p[k], (int)(cpu + k), size);
    }
    for (unsigned k = 0; k < 50; k++)
        free(p[k]);
}

static void test_malloc_everywhere(void)
{
    par_run(use_malloc, NULL);
    IS(damaged, 0, "malloc from all CPUs at once");
}

static void test_missing(void)
{
    errno = 0;
    ok(fork() == -1 && errno == ENOSYS, "fork says ENOSYS");
    errno = 0;
    ok(fork() == -1 && errno == ENOSYS, "and again");
    ok(system(NULL) == 0, "there is no command processor");
    errno = 0;
    ok(system("true") == -1 && errno == ENOSYS, "system says ENOSYS");
}

int main(int argc, char **argv)
{
    ok(constructed == 123, "constructors ran before main, in order");
    atexit(exit_first);
    atexit(exit_second);
    test_printf();
    test_scanf();
    test_math();
    test_files();
    test_directories();
    test_given_files(argc, argv);
    test_memory();
    test_setjmp();
    test_time();
    test_environment();
    test_strings();
    test_printing();
    test_malloc_everywhere();
    test_missing();
    return tap_end();
}
