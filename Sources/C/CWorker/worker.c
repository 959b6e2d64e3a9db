#define _GNU_SOURCE
#include "cworker.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

char *dag_openmp_wait(char *const environment[]) {
    static char few[] = "GOMP_SPINCOUNT=10000";
    for (size_t k = 0; environment[k]; k++)
        if (!strncmp(environment[k], "GOMP_SPINCOUNT=", 15) || !strncmp(environment[k], "OMP_WAIT_POLICY=", 16)) return NULL;
    return few;
}

// The host's environment, less the backtraces of Swift's runtime, since the host reports crashes itself.
// NULL: out of memory.
static char **worker_environment(void) {
    static char quiet[] = "SWIFT_BACKTRACE=enable=no";
    size_t count = 0;
    while (environ[count]) count++;
    char **copy = malloc((count + 3) * sizeof *copy);
    if (!copy) return NULL;
    memcpy(copy, environ, count * sizeof *copy);
    if (!getenv("SWIFT_BACKTRACE")) copy[count++] = quiet;
    copy[count] = dag_openmp_wait(environ);
    copy[count + 1] = NULL;
    return copy;
}

// vfork rather than fork, because OpenBLAS and others do work in fork handlers, which vfork does not call.
int dag_worker_spawn(char *const arguments[], int socket, int memory, pid_t *pid) {
    const int host = dag_worker_watch(getpid());
    if (host < 0) return errno;
    char **environment = worker_environment();
    if (!environment) return close(host), ENOMEM;
    volatile int failure = 0;
    sigset_t all, none, before;
    sigfillset(&all);
    sigemptyset(&none);
    pthread_sigmask(SIG_BLOCK, &all, &before);  // a handler of the host's must not run in the child, which shares its memory
    const pid_t child = vfork();
    if (child == 0) {
        setpgid(0, 0);
        // Copies above all targets first: a descriptor may lie where another has to go.
        const int from[] = {fcntl(socket, F_DUPFD_CLOEXEC, 16), fcntl(memory, F_DUPFD_CLOEXEC, 16), fcntl(host, F_DUPFD_CLOEXEC, 16)};
        const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (dup2(nothing, 0) == 0 && dup2(2, 1) == 1 && dup2(from[0], DAG_WORKER_SOCKET) >= 0 && dup2(from[1], DAG_WORKER_MEMORY) >= 0 &&
            dup2(from[2], DAG_WORKER_HOST) >= 0) {
            struct sigaction usual = {.sa_handler = SIG_DFL};
            for (int number = 1; number < NSIG; number++) sigaction(number, &usual, NULL);
            pthread_sigmask(SIG_SETMASK, &none, NULL);  // not the host's mask: threads of a pool block nearly all signals
            execvpe(arguments[0], arguments, environment);
        }
        failure = errno;
        _exit(127);
    }
    const int reason = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    free(environment);
    close(host);
    if (child < 0) return reason;
    *pid = child;
    return failure;
}

int dag_worker_watch(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

int dag_worker_memory(void) { return memfd_create("dag-images", MFD_CLOEXEC); }

static void kill_group(void) {
    kill(-getpid(), SIGKILL);
    kill(getpid(), SIGKILL);  // it may have gone to another group
}

static void *end_with_host(void *unused) {
    (void)unused;
    struct pollfd host = {.fd = DAG_WORKER_HOST, .events = POLLIN};
    while (poll(&host, 1, -1) < 0) continue;
    kill_group();
    return NULL;
}

static int is_leaving;

static void end_leaving(void) {
    if (is_leaving) dag_worker_leave(0);
}

// A thread, since a plugin may change signal handlers. While it is blocked in poll, the kernel keeps the descriptor's file open, even if
// the plugin closes the descriptor.
void dag_worker_end_with_host(void) {
    fcntl(DAG_WORKER_HOST, F_SETFD, FD_CLOEXEC);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);  // a plugin's handlers run on the plugin's threads
    pthread_t thread;
    if (pthread_create(&thread, NULL, end_with_host, NULL) != 0) abort();
    pthread_detach(thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    atexit(end_leaving);  // registered first, called last
}

void dag_worker_leave(int handlers) {
    is_leaving = 1;
    if (handlers) exit(0);
    fflush(NULL);
    kill_group();
    _exit(0);
}

void dag_worker_print_lines(void) { setvbuf(stdout, NULL, _IOLBF, BUFSIZ); }

const char *dag_own_file(void) {
    Dl_info information;
    return dladdr((const void *)dag_own_file, &information) ? information.dli_fname : NULL;
}
