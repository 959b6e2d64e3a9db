/// What running a worker process takes and Swift cannot say: variadic system calls and the time between vfork and exec.
#pragma once
#include <sys/types.h>

/// The descriptors by which a worker finds its connection (a socket) and the pictures (shared memory).
enum { DAG_WORKER_SOCKET = 3, DAG_WORKER_MEMORY = 4 };

/// The exit code of a worker whose connection is gone though it has not been told to end.
enum { DAG_WORKER_CUT_OFF = 113 };

/// Starts a program, looked up in PATH, in a process group of its own, with the two descriptors in their places, nothing to read on standard
/// input, what it prints on standard output going to standard error, and no signal blocked. It is killed when the calling thread ends.
/// Returns 0 or an errno.
int dag_worker_spawn(char *const arguments[], int socket, int memory, pid_t *pid);

/// A descriptor that becomes readable when the process ends; -1 and errno.
int dag_worker_watch(pid_t pid);

/// A file without a name, in memory; -1 and errno.
int dag_worker_memory(void);

/// In the head of a process group: if its parent ends, so does all of that group, children of the plugin included.
void dag_worker_end_with_host(void);

/// The file that this code was loaded from: an executable, or a shared library in another program. NULL if that is unknown.
const char *dag_own_file(void);
