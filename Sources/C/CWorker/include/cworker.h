/// What running a worker process takes and Swift cannot say: variadic system calls and the time between vfork and exec.
#pragma once
#include <sys/types.h>

/// The descriptors by which a worker finds its connection (a socket), the pictures (shared memory), and its host (see `dag_worker_watch`).
enum { DAG_WORKER_SOCKET = 3, DAG_WORKER_MEMORY = 4, DAG_WORKER_HOST = 5 };

/// The exit code of a worker whose connection is gone though the host has not closed it.
enum { DAG_WORKER_CUT_OFF = 113 };

/// Starts a program, looked up in PATH, in a process group of its own, with the three descriptors in their places, nothing to read on
/// standard input, what it prints on standard output going to standard error, and no signal blocked or ignored. If it crashes, it says
/// nothing about that itself. Returns 0 or an errno.
int dag_worker_spawn(char *const arguments[], int socket, int memory, pid_t *pid);

/// A descriptor that becomes readable when the process ends; -1 and errno.
int dag_worker_watch(pid_t pid);

/// A file without a name, in memory; -1 and errno.
int dag_worker_memory(void);

/// In the head of a process group that has DAG_WORKER_HOST: once the host has ended, however that came about, all of the group ends,
/// children of the plugin included. Nothing that the plugin does about signals or descriptors changes that.
void dag_worker_end_with_host(void);

/// Ends such a process, and all of its group with it: the host may be gone already, and could not do that. What was printed is written out.
/// `handlers`: whether functions that are registered to be called at exit are called, as exit(0) does.
_Noreturn void dag_worker_leave(int handlers);

/// Prints what is written to standard output line by line, also if that is no terminal.
void dag_worker_print_lines(void);

/// The file that this code was loaded from: an executable, or a shared library in another program. NULL if that is unknown.
const char *dag_own_file(void);
