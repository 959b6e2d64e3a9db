#define _GNU_SOURCE
#include "cworker.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

// vfork rather than fork: OpenBLAS and others do work in fork handlers, which are not called here.
int dag_worker_spawn(char *const arguments[], int socket, int memory, pid_t *pid) {
    volatile int failure = 0;
    const pid_t host = getpid();
    sigset_t all, none, before;
    sigfillset(&all);
    sigemptyset(&none);
    pthread_sigmask(SIG_BLOCK, &all, &before);  // no handler of the host's may run in the child, which shares its memory
    const pid_t child = vfork();
    if (child == 0) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        // Above both targets first: one may be where the other has to go.
        const int from = fcntl(socket, F_DUPFD_CLOEXEC, 16), pictures = fcntl(memory, F_DUPFD_CLOEXEC, 16);
        const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (getppid() == host && dup2(nothing, 0) == 0 && dup2(2, 1) == 1 && dup2(from, DAG_WORKER_SOCKET) >= 0 &&
            dup2(pictures, DAG_WORKER_MEMORY) >= 0) {
            struct sigaction usual = {.sa_handler = SIG_DFL};
            for (int number = 1; number < NSIG; number++) sigaction(number, &usual, NULL);
            pthread_sigmask(SIG_SETMASK, &none, NULL);  // not the host's: a thread of a pool blocks nearly all
            execvp(arguments[0], arguments);
        }
        failure = errno;
        _exit(127);
    }
    const int reason = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (child < 0) return reason;
    *pid = child;
    return failure;
}

int dag_worker_watch(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

int dag_worker_memory(void) { return memfd_create("dag-pictures", MFD_CLOEXEC); }

static void end_group(int number) {
    (void)number;
    kill(0, SIGKILL);
}

void dag_worker_end_with_host(void) {
    sigset_t end;
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    signal(SIGTERM, end_group);
    pthread_sigmask(SIG_UNBLOCK, &end, NULL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
}

const char *dag_own_file(void) {
    Dl_info information;
    return dladdr((const void *)dag_own_file, &information) ? information.dli_fname : NULL;
}
