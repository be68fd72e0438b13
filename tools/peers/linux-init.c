// /init of the Linux guest of `make bench-peers`: prints the line of hello, or
// does what tools/bench-guest.c or tools/bench-mem.c does, and leaves through
// QEMU's exit device as our programs do. Those two are linked with it, with
// their main functions renamed.
//
//   init              one line
//   init guest ...    bench-guest ...
//   init mem ...      bench-mem ...
//   init go ...       /goroutines ..., a program of its own (goroutines.go)

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/io.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

int guest_main(int argc, char **argv);
int mem_main(int argc, char **argv);

// The archive has no /dev, so the kernel could open no console for us.
static void open_console(void)
{
    mkdir("/dev", 0755);
    mknod("/dev/console", S_IFCHR | 0600, makedev(5, 1));
    for (int fd = open("/dev/console", O_RDWR); fd >= 0 && fd < 2;)
        fd = dup(fd);
}

static void run_go(char **argv)
{
    pid_t child = fork();

    if (child == 0) {
        argv[0] = "/goroutines";
        execv(argv[0], argv);
        _exit(1);
    }
    waitpid(child, NULL, 0);
}

int main(int argc, char **argv)
{
    open_console();
    if (argc > 1 && strcmp(argv[1], "guest") == 0)
        guest_main(argc - 1, argv + 1);
    else if (argc > 1 && strcmp(argv[1], "mem") == 0)
        mem_main(argc - 1, argv + 1);
    else if (argc > 1 && strcmp(argv[1], "go") == 0)
        run_go(argv + 1);
    else
        puts("Hello from Linux");
    fflush(NULL);
    tcdrain(STDOUT_FILENO); // another CPU may be busy sending it
    if (ioperm(0xf4, 1, 1) == 0)
        outb(0x10, 0xf4);
    for (;;)
        pause();
}
