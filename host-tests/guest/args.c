// Prints what the program was given, exactly: a line per argument and per
// environment variable, as length:bytes.

#include <stdio.h>
#include <string.h>

extern char **environ;

static void print(const char *kind, const char *s)
{
    printf("%s %zu:%s\n", kind, strlen(s), s);
}

int main(int argc, char **argv)
{
    if (argv[argc] != NULL)
        puts("no NULL behind the last argument");
    printf("argc %d\n", argc);
    for (int i = 0; i < argc; i++)
        print("arg", argv[i]);
    for (char **e = environ; *e != NULL; e++)
        print("env", *e);
    return 0;
}
