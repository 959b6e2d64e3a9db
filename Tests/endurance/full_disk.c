// A disk that is full, for tests: lets the n-th call that writes below a folder fail with ENOSPC, or that one
// and all after it.
//
//   cc -shared -fPIC -o full_disk.so full_disk.c -ldl
//   DAG_DISK=/folder DAG_DISK_CALL=7 DAG_DISK_ONCE=1 LD_PRELOAD=./full_disk.so program
//
// Calls that write are those that open, make or rename a file, write to it, or wait for the disk; cutting a file
// needs no room. When the program ends, their number is written to the file DAG_DISK_COUNT, so that a program can
// be run with every number up to that.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int calls;
/// Whether the call that fails is the first that the disk had no room for, and others will follow.
static bool is_first;

static bool is_below(const char *path) {
    const char *folder = getenv("DAG_DISK");
    return folder && strncmp(path, folder, strlen(folder)) == 0;
}

/// Counts a call that writes to a file of the folder; returns whether it has to fail.
static bool fails(const char *path) {
    if (!is_below(path)) return false;
    const char *text = getenv("DAG_DISK_CALL");
    const int call = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST), first = text ? atoi(text) : INT_MAX;
    const bool is_once = getenv("DAG_DISK_ONCE") != NULL;
    if (is_once ? call != first : call < first) return false;
    is_first = call == first && !is_once;
    errno = ENOSPC;
    return true;
}

static bool fails_at(int descriptor) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    const ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return false;
    path[length] = '\0';
    return fails(path);
}

__attribute__((destructor)) static void report(void) {
    const char *path = getenv("DAG_DISK_COUNT");
    FILE *file = path && calls > 0 ? REAL(fopen)(path, "w") : NULL;
    if (!file) return;
    fprintf(file, "%d\n", calls);
    REAL(fclose)(file);
}

#define MODE(last) \
    mode_t mode = 0; \
    if (flags & O_CREAT) { \
        va_list arguments; \
        va_start(arguments, last); \
        mode = va_arg(arguments, mode_t); \
        va_end(arguments); \
    }

static bool writes(int flags) { return (flags & (O_WRONLY | O_RDWR | O_CREAT)) != 0; }

int open(const char *path, int flags, ...) {
    MODE(flags)
    return writes(flags) && fails(path) ? -1 : REAL(open)(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE(flags)
    return writes(flags) && fails(path) ? -1 : REAL(open64)(path, flags, mode);
}
int openat(int folder, const char *path, int flags, ...) {
    MODE(flags)
    return writes(flags) && fails(path) ? -1 : REAL(openat)(folder, path, flags, mode);
}
FILE *fopen(const char *path, const char *mode) { return *mode != 'r' && fails(path) ? NULL : REAL(fopen)(path, mode); }
FILE *fopen64(const char *path, const char *mode) { return *mode != 'r' && fails(path) ? NULL : REAL(fopen64)(path, mode); }
int mkdir(const char *path, mode_t mode) { return fails(path) ? -1 : REAL(mkdir)(path, mode); }
int mkstemp(char *path) { return fails(path) ? -1 : REAL(mkstemp)(path); }
int rename(const char *from, const char *to) { return fails(to) ? -1 : REAL(rename)(from, to); }

/// On a disk that stays full, half of the bytes still find room.
ssize_t write(int file, const void *bytes, size_t count) {
    if (!fails_at(file)) return REAL(write)(file, bytes, count);
    return is_first && count > 1 ? REAL(write)(file, bytes, count / 2) : -1;
}
ssize_t pwrite(int file, const void *bytes, size_t count, off_t place) {
    return fails_at(file) ? -1 : REAL(pwrite)(file, bytes, count, place);
}
ssize_t writev(int file, const struct iovec *parts, int count) { return fails_at(file) ? -1 : REAL(writev)(file, parts, count); }
int fsync(int file) { return fails_at(file) ? -1 : REAL(fsync)(file); }
int fdatasync(int file) { return fails_at(file) ? -1 : REAL(fdatasync)(file); }

size_t fwrite(const void *bytes, size_t size, size_t count, FILE *file) {
    return fails_at(fileno(file)) ? 0 : REAL(fwrite)(bytes, size, count, file);
}
int fflush(FILE *file) { return file && fails_at(fileno(file)) ? EOF : REAL(fflush)(file); }
int fclose(FILE *file) {
    const bool is_full = fails_at(fileno(file));
    const int status = REAL(fclose)(file);
    if (is_full) errno = ENOSPC;
    return is_full ? EOF : status;
}
