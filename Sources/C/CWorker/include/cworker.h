/// The parts of running a worker process that cannot be written in Swift: variadic system calls and the time
/// between vfork and exec.
#pragma once
#include <sys/types.h>

/// The descriptors of a worker: its connection (a socket), the images (shared memory), and its host (see
/// `dag_worker_watch`).
enum { DAG_WORKER_SOCKET = 3, DAG_WORKER_MEMORY = 4, DAG_WORKER_HOST = 5 };

/// The exit code of a worker that has lost its connection although the host has not closed it.
enum { DAG_WORKER_CUT_OFF = 113 };

/// Starts a program, looked up in PATH, in a process group of its own: with the three descriptors in their
/// places, an empty standard input, standard output going to standard error, no signal blocked or ignored,
/// and no backtrace of a crash. Returns 0 or an errno.
int dag_worker_spawn(char *const arguments[], int socket, int memory, pid_t *pid);

/// Returns what to add to an environment so that threads of libgomp that wait for others sleep soon; NULL if its
/// user has decided that. By default each turns 300,000 times in a loop first, for milliseconds, and takes the
/// processor from the very thread that it waits for where another program computes too.
char *dag_openmp_wait(char *const environment[]);

/// Returns a descriptor that becomes readable when the process ends; -1 and errno.
int dag_worker_watch(pid_t pid);

/// Returns a file without a name, in memory; -1 and errno.
int dag_worker_memory(void);

/// Ends this process and all of its group, children of the plugin included, once the host has ended in any
/// way, whatever the plugin does about signals and descriptors. To be called in the head of a process group
/// that has DAG_WORKER_HOST.
void dag_worker_end_with_host(void);

/// Ends this process and all of its group, since the host may have ended already. Buffered output is written.
/// `handlers`: whether functions that were registered with atexit are called, as by exit(0).
_Noreturn void dag_worker_leave(int handlers);

/// Writes standard output line by line, also if that is not a terminal.
void dag_worker_print_lines(void);

/// Returns the file that this code was loaded from: an executable, or a shared library in another program.
/// NULL: unknown.
const char *dag_own_file(void);
