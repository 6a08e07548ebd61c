/*
 * A full disk: while the file RESERVASI_DISK_FULL_WHILE exists, whatever would make a file grow below the directory that
 * it names fails with ENOSPC. What stands already can still be written over, as on a real disk. The file
 * RESERVASI_DISK_FULL_REFUSED grows by a byte with each refusal. Loaded with LD_PRELOAD.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define APPENDED ((off_t)-1)
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Whoever filled the disk sees whether anybody noticed. */
static void count_refusal(void)
{
    const char *name = getenv("RESERVASI_DISK_FULL_REFUSED");
    int out = name ? open(name, O_WRONLY | O_APPEND | O_CLOEXEC) : -1;

    if (out < 0)
        return;
    if (REAL(write)(out, "x", 1) != 1)
        abort();
    close(out);
}

/* Whether `count` bytes at `offset` do not fit any more. */
static int is_full(int fd, off_t offset, size_t count)
{
    const char *sign = getenv("RESERVASI_DISK_FULL_WHILE");
    char under[PATH_MAX], path[PATH_MAX], link[64];
    int kept = errno, in, full = 0;
    struct stat found;
    ssize_t length;

    in = sign ? open(sign, O_RDONLY | O_CLOEXEC) : -1;
    if (in < 0) {
        errno = kept;
        return 0;
    }
    length = read(in, under, sizeof under - 1);
    close(in);
    if (length > 0 && fstat(fd, &found) == 0 && S_ISREG(found.st_mode)) {
        under[length] = 0;
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        length = readlink(link, path, sizeof path - 1);
        if (length > 0) {
            path[length] = 0;
            if (offset == APPENDED)
                offset = fcntl(fd, F_GETFL) & O_APPEND ? found.st_size : lseek(fd, 0, SEEK_CUR);
            full = strncmp(path, under, strlen(under)) == 0 && offset + (off_t)count > found.st_size;
        }
    }
    if (full)
        count_refusal();
    errno = full ? ENOSPC : kept;
    return full;
}

static size_t total(const struct iovec *parts, int count)
{
    size_t sum = 0;

    for (int i = 0; i < count; i++)
        sum += parts[i].iov_len;
    return sum;
}

ssize_t write(int fd, const void *data, size_t count)
{
    return is_full(fd, APPENDED, count) ? -1 : REAL(write)(fd, data, count);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return is_full(fd, APPENDED, total(parts, count)) ? -1 : REAL(writev)(fd, parts, count);
}

ssize_t pwrite(int fd, const void *data, size_t count, off_t offset)
{
    return is_full(fd, offset, count) ? -1 : REAL(pwrite)(fd, data, count, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t count, off64_t offset)
{
    return is_full(fd, offset, count) ? -1 : REAL(pwrite64)(fd, data, count, offset);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    return is_full(fd, offset, total(parts, count)) ? -1 : REAL(pwritev)(fd, parts, count, offset);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset)
{
    return is_full(fd, offset, total(parts, count)) ? -1 : REAL(pwritev64)(fd, parts, count, offset);
}

int posix_fallocate(int fd, off_t offset, off_t count)
{
    return is_full(fd, offset, (size_t)count) ? ENOSPC : REAL(posix_fallocate)(fd, offset, count);
}

int posix_fallocate64(int fd, off64_t offset, off64_t count)
{
    return is_full(fd, offset, (size_t)count) ? ENOSPC : REAL(posix_fallocate64)(fd, offset, count);
}

int fallocate(int fd, int mode, off_t offset, off_t count)
{
    return is_full(fd, offset, (size_t)count) ? -1 : REAL(fallocate)(fd, mode, offset, count);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t count)
{
    return is_full(fd, offset, (size_t)count) ? -1 : REAL(fallocate64)(fd, mode, offset, count);
}
