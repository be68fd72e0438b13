// /init of the Linux guest of `make bench-peers`: prints the line of hello, or
// does what tools/bench-guest.c does, and leaves through QEMU's exit device as
// our programs do.
//
//   init              one line
//   init figures      bench-guest without arguments
//   init out KIB      bench-guest out KIB

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/io.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

int guest_main(int argc, char **argv);

#define main guest_main
#include "bench-guest.c"
#undef main

// The archive has no /dev, so the kernel could open no console for us.
static void open_console(void)
{
    mkdir("/dev", 0755);
    mknod("/dev/console", S_IFCHR | 0600, makedev(5, 1));
    for (int fd = open("/dev/console", O_RDWR); fd >= 0 && fd < 2;)
        fd = dup(fd);
}

int main(int argc, char **argv)
{
    open_console();
    if (argc > 1)
        guest_main(argc == 3 ? 3 : 1, argv);
    else
        puts("Hello from Linux");
    fflush(NULL);
    if (ioperm(0xf4, 1, 1) == 0)
        outb(0x10, 0xf4);
    for (;;)
        pause();
}
