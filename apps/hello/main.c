// The least program: what the two commands of the README run first.

#include <stdio.h>

int main(int argc, char **argv)
{
    printf("Hello from Gneiss, %s!\n", argc > 1 ? argv[1] : "world");
    return 0;
}
