// Functions for the tests of the C API: rewards and observers, as a C or C++ program has them.
#ifndef FIXTURES_H
#define FIXTURES_H

#include "dagcore.h"

#ifdef __cplusplus
extern "C" {
#endif

/// What a test and its callbacks tell each other.
typedef struct fixture {
    dag_trainer *trainer;
    int32_t calls;    ///< of `score`
    int32_t delay;    ///< of `score`, microseconds
    int32_t fail_at;  ///< the call at which `score` fails; 0: never
    int32_t throws;   ///< 1: it fails by a std::exception, 2: by an int, 3: by its status with a message of several lines, 0: by its status
    int32_t cancels_at;  ///< the call at which `score` cancels; 0: never
    int32_t reentered;   ///< status of dag_trainer_status called by `score`
    int32_t released;
    int32_t progress_calls, steps, logs;
    int32_t stop_at;  ///< the step at which the observer cancels; 0: never
    int32_t observer_throws;
    int32_t busy;  ///< status of dag_trainer_save called by the observer
} fixture;

/// Brightness, from 0 to 1. `context` is a fixture.
int32_t fixture_score(void *context, const dag_reward_batch *batch, const dag_reward_result *result, dag_reward_error *error);
void fixture_release(void *context);
int32_t fixture_progress(void *context, int32_t phase, uint64_t done, uint64_t total);
int32_t fixture_log(void *context, int32_t level, const char *line);
int32_t fixture_step(void *context, const char *metrics);

#ifdef __cplusplus
}
#endif

#endif
