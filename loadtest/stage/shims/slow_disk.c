/*
 * A slow disk: while the file RESERVASI_FSYNC_SLOW_WHILE exists, every fsync and fdatasync first sleeps
 * RESERVASI_FSYNC_MS milliseconds. Loaded with LD_PRELOAD.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void pause_first(void)
{
    const char *text = getenv("RESERVASI_FSYNC_MS");
    const char *slow_while = getenv("RESERVASI_FSYNC_SLOW_WHILE");
    long ms = text ? atol(text) : 0;
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};

    if (ms <= 0 || !slow_while || access(slow_while, F_OK) != 0)
        return;
    while (nanosleep(&left, &left) != 0)
        ; /* a signal came: sleep on for what is left */
}

int fsync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");

    pause_first();
    return real(fd);
}

int fdatasync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");

    pause_first();
    return real(fd);
}
