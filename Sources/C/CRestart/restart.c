// Gives the program an environment in which OpenMP's idle threads sleep soon. libgomp reads it when it is loaded,
// before main, so the program starts once more, at the first moment there is: before the constructors of libraries.
#include <limits.h>
#include <stddef.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "cworker.h"

// A sanitizer's own start comes later than this.
#if !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)
static void restart(int count, char *arguments[], char *environment[]) {
    (void)count;
    char *addition = dag_openmp_wait(environment);
    // Started by a dynamic linker that the user has named, the program is not /proc/self/exe.
    if (!addition || getauxval(AT_BASE) == 0) return;
    size_t size = 0;
    while (environment[size]) size++;
    char *longer[size + 2];
    for (size_t k = 0; k < size; k++) longer[k] = environment[k];
    longer[size] = addition;
    longer[size + 1] = NULL;
    char program[PATH_MAX];  // started by the link's name, the process would be called `exe`
    const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0) return;
    program[length] = '\0';
    execve(program, arguments, longer);  // on failure the program goes on as it is
}

__attribute__((section(".preinit_array"), used)) static void (*const first)(int, char *[], char *[]) = restart;
#endif
