/*
 * Remembers what of an append-only file is safe: after each fsync or fdatasync of a file named *.aof that worked, the
 * size that the file had when it began is written to a file of the same name in the directory RESERVASI_SYNCED.
 * Whoever kills the server and cuts the file there has what a loss of power may leave. Loaded with LD_PRELOAD.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void remember(int fd, off_t size)
{
    const char *directory = getenv("RESERVASI_SYNCED");
    char link[64], path[PATH_MAX], note[PATH_MAX], text[32];
    const char *name;
    ssize_t length;
    int out;

    if (!directory)
        return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length < 4)
        return;
    path[length] = 0;
    name = strrchr(path, '/');
    if (!name || strcmp(path + length - 4, ".aof") != 0)
        return;
    if (snprintf(note, sizeof note, "%s%s", directory, name) >= (int)sizeof note)
        return;
    out = open(note, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (out < 0)
        return;
    /* As wide as any size, in one write: a reader never sees half of it. */
    length = snprintf(text, sizeof text, "%020lld\n", (long long)size);
    if (pwrite(out, text, (size_t)length, 0) != length)
        abort();
    close(out);
}

static int synced(const char *call, int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, call);
    struct stat before;
    int known = fstat(fd, &before) == 0;
    int result = real(fd);

    if (result == 0 && known)
        remember(fd, before.st_size);
    return result;
}

int fsync(int fd)
{
    return synced("fsync", fd);
}

int fdatasync(int fd)
{
    return synced("fdatasync", fd);
}
