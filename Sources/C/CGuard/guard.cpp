#include "cguard.h"

#include <cxxabi.h>

#include <exception>

namespace {
thread_local char last_error[2048] = "";
thread_local const void *inside = nullptr;

template <typename Call>
int32_t guarded(int32_t failure, char *message, size_t capacity, Call call) {
    try {
        return call();
    } catch (const abi::__forced_unwind &) {
        throw;  // the thread is being ended (by a Python at its end, for instance): to stop that would abort the process
    } catch (const std::exception &exception) {
        snprintf(message, capacity, "it threw a C++ exception: %s", exception.what());
    } catch (...) {
        snprintf(message, capacity, "it threw something that is no std::exception");
    }
    return failure;
}
}  // namespace

extern "C" {

int32_t guard_score(const dag_callback *callback, const dag_reward_batch *batch, const dag_reward_result *result, dag_reward_error *error) {
    return guarded(
        DAG_REWARD_INTERNAL, error->message, error->capacity, [&] { return callback->score(callback->context, batch, result, error); });
}

void guard_release(const dag_callback *callback) {
    char ignored[1];
    if (callback->release) guarded(-1, ignored, sizeof ignored, [&] { return callback->release(callback->context), 0; });
}

int32_t guard_progress(const dag_observer *observer, int32_t phase, uint64_t done, uint64_t total, char *message, size_t capacity) {
    if (!observer->progress) return 0;
    return guarded(-1, message, capacity, [&] { return observer->progress(observer->context, phase, done, total); });
}

int32_t guard_log(const dag_observer *observer, int32_t level, const char *line, char *message, size_t capacity) {
    if (!observer->log) return 0;
    return guarded(-1, message, capacity, [&] { return observer->log(observer->context, level, line); });
}

int32_t guard_step(const dag_observer *observer, const char *metrics, char *message, size_t capacity) {
    if (!observer->step) return 0;
    return guarded(-1, message, capacity, [&] { return observer->step(observer->context, metrics); });
}

const char *guard_last_error(void) { return last_error; }

void guard_set_last_error(const char *text) { snprintf(last_error, sizeof last_error, "%s", text); }

const void *guard_inside(void) { return inside; }

const void *guard_set_inside(const void *object) {
    const void *before = inside;
    inside = object;
    return before;
}
}
