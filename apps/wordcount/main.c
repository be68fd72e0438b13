// The most frequent words of its files: exactly what
//
//   LC_ALL=C; cat FILES | tr -cs 'A-Za-z' '\n' | tr 'A-Z' 'a-z' | grep . |
//     sort | uniq -c | sort -k1,1nr -k2,2 | head -n 20
//
// prints. Arguments are files and directories (input.h). The same on all CPUs:
// apps/pwordcount.

#include <stdio.h>

#include "apps/wordcount/input.h"
#include "apps/wordcount/words.h"

const char program[] = "wordcount";

static void count(const unsigned char *p, size_t n, void *words)
{
    words_count(words, p, n);
}

int main(int argc, char **argv)
{
    static struct words words;
    bool ok = input_read(argc, argv, count, &words);

    words_end(&words);
    words_print_top(&words);
    return ok && fflush(stdout) == 0 ? 0 : 1;
}
