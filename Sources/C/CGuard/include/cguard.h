// What the C API needs from C++: calls of functions that may throw, and storage of one thread's own.
#ifndef CGUARD_H
#define CGUARD_H

#include "dagcore.h"

#ifdef __cplusplus
extern "C" {
#endif

// Each calls a function, if there is one, and returns what it returns. If an exception leaves it, that is DAG_REWARD_INTERNAL, with what
// it says in `error`; or -1, with that in `message` (`capacity` bytes, empty text at first).
int32_t guard_score(const dag_callback *callback, const dag_reward_batch *batch, const dag_reward_result *result, dag_reward_error *error);
void guard_release(const dag_callback *callback);
int32_t guard_progress(const dag_observer *observer, int32_t phase, uint64_t done, uint64_t total, char *message, size_t capacity);
int32_t guard_log(const dag_observer *observer, int32_t level, const char *line, char *message, size_t capacity);
int32_t guard_step(const dag_observer *observer, const char *metrics, char *message, size_t capacity);

// The calling thread's text; "" at first.
const char *guard_last_error(void);
void guard_set_last_error(const char *text);

// The object whose callback the calling thread is in, or NULL. Setting it returns what it was.
const void *guard_inside(void);
const void *guard_set_inside(const void *object);

#ifdef __cplusplus
}
#endif

#endif
