// The C API's needs from C++: calls of functions that may throw, and thread-local storage.
#ifndef CGUARD_H
#define CGUARD_H

#include "dagcore.h"

#ifdef __cplusplus
extern "C" {
#endif

// Each calls a function, unless it is NULL, and returns its result. If it throws, guard_score returns DAG_REWARD_INTERNAL with the
// exception's text in `error`; the others return -1 with that text in `message` (`capacity` bytes, empty at first).
int32_t guard_score(const dag_callback *callback, const dag_reward_batch *batch, const dag_reward_result *result, dag_reward_error *error);
void guard_release(const dag_callback *callback);
int32_t guard_progress(const dag_observer *observer, int32_t phase, uint64_t done, uint64_t total, char *message, size_t capacity);
int32_t guard_log(const dag_observer *observer, int32_t level, const char *line, char *message, size_t capacity);
int32_t guard_step(const dag_observer *observer, const char *metrics, char *message, size_t capacity);

// The calling thread's text; "" at first.
const char *guard_last_error(void);
void guard_set_last_error(const char *text);

// The object whose callback the calling thread is in, or NULL. Setting it returns the previous one.
const void *guard_inside(void);
const void *guard_set_inside(const void *object);

#ifdef __cplusplus
}
#endif

#endif
