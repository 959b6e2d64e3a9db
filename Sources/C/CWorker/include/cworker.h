/// The parts of running a worker process that Swift cannot express: variadic system calls and the time between vfork and exec.
#pragma once
#include <sys/types.h>

/// Descriptors of a worker: its connection (a socket), the images (shared memory), and its host (see `dag_worker_watch`).
enum { DAG_WORKER_SOCKET = 3, DAG_WORKER_MEMORY = 4, DAG_WORKER_HOST = 5 };

/// The exit code of a worker whose connection was closed by something other than the host.
enum { DAG_WORKER_CUT_OFF = 113 };

/// Starts a program, looked up in PATH, in a process group of its own, with the three descriptors in their places, an empty standard
/// input, its standard output redirected to standard error, and no signal blocked or ignored. Its own report of a crash is suppressed.
/// Returns 0 or an errno.
int dag_worker_spawn(char *const arguments[], int socket, int memory, pid_t *pid);

/// A descriptor that becomes readable when the process ends; -1 and errno.
int dag_worker_watch(pid_t pid);

/// A file without a name, in memory; -1 and errno.
int dag_worker_memory(void);

/// Called in the leader of a process group, which has DAG_WORKER_HOST: when the host ends, in whatever way, the whole group ends,
/// including children of the plugin, whatever the plugin does to signals and descriptors.
void dag_worker_end_with_host(void);

/// Flushes standard output and ends such a process with its whole group, since the host, which could do that, may be gone.
/// `handlers`: whether to call atexit functions, as exit(0) does.
_Noreturn void dag_worker_leave(int handlers);

/// Makes standard output line-buffered, even if it is not a terminal.
void dag_worker_print_lines(void);

/// The file that this code was loaded from: an executable, or a shared library in another program. NULL if unknown.
const char *dag_own_file(void);
