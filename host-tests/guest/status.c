// Ends with the status that the first argument says, by the way that the second
// names: return (default), exit, _exit, or hang without ever ending.

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int status = argc > 1 ? atoi(argv[1]) : 0;
    const char *how = argc > 2 ? argv[2] : "return";

    if (strcmp(how, "exit") == 0)
        exit(status);
    if (strcmp(how, "_exit") == 0)
        _exit(status);
    while (strcmp(how, "hang") == 0)
        __asm__ volatile("pause");
    return status;
}
