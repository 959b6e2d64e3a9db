/// The DAG trainer as a library: the C API of libdagcore.so, version 1.
///
/// All that dag-train does, from C or from any language that can call C:
///
///     dag_trainer *trainer;
///     if (dag_trainer_create("{\"model\": \"models/tiny-sd\", \"prompts\": \"tiny-sd\"}", "runs/mine", &trainer)) die(dag_last_error());
///     dag_trainer_add_plugin(trainer, "libwarmth.so");           // or dag_trainer_add_callback: a function of yours
///     if (dag_trainer_start(trainer) || dag_trainer_run(trainer)) die(dag_last_error());
///     dag_trainer_destroy(trainer);
///
/// A trainer lives through: create or resume; rewards are added; start; then epochs, whole (run, run_epoch) or in parts (roll_out, score,
/// update), with whatever else in between; destroy. A call that comes too early or too late returns DAG_ORDER and changes nothing.
///
/// Rules:
/// - Functions return a `DAG_...` status; on any other than DAG_OK, `dag_last_error` says why in one line. No input ends the process: a
///   trainer that is NULL or destroyed is DAG_INVALID. After a failed call the trainer is as before the call, or as the function says.
/// - Threads: calls on one trainer may come from any thread, one at a time; one that comes while another is going on returns DAG_BUSY.
///   `dag_trainer_cancel` alone may come at any time. Different trainers do not know of each other, but share the CPU's threads.
/// - Functions of yours (callbacks) are called as each says; they may call `dag_trainer_cancel`, nothing else on that trainer (DAG_BUSY).
///   A C++ exception that leaves one counts as its failure. No longjmp or pthread_exit may leave one.
/// - Ownership: nothing changes hands. At each pointer one of these is said:
///     - borrowed: read during the call, or as long as is said, and neither written nor freed by the one who borrows. What the library
///       gives out is borrowed until the trainer's next call of the same function, or its destruction, whatever else is called;
///     - lent: the callee may also write to it during the call;
///     - static: constant, and valid for the life of the process.
/// - Text is UTF-8 and NUL-terminated unless its type is `dag_reward_text`. Pointers are not NULL unless "or NULL" is said.
/// - Structs grow by appended fields only. Whoever makes one sets `struct_size` to its sizeof: fields beyond it are not touched.
#ifndef DAGCORE_H
#define DAGCORE_H

#include "dag_reward.h"

#ifdef __cplusplus
extern "C" {
#endif

/// The version this header describes, which is also that of the library's file name, libdagcore.so.1.
#define DAG_API_VERSION 1

#define DAG_EXPORT __attribute__((visibility("default")))

/// What functions return.
enum {
    DAG_OK = 0,
    DAG_INVALID = 1,    ///< an argument, setting, model or file that is wrong: the caller has to change something
    DAG_ORDER = 2,      ///< not now: another call has to come first
    DAG_BUSY = 3,       ///< another call on this trainer is going on
    DAG_CANCELLED = 4,  ///< ended by `dag_trainer_cancel` or by an observer; the same call, made again, goes on
    DAG_FAILED = 5      ///< anything else: a reward that could not score, a disk that is full, memory, a loss that is not finite
};

/// A trainer. Only ever a pointer, which is a name and not an address: it is not used again after destroy.
typedef struct dag_trainer dag_trainer;

/// What the library is ------------------------------------------------------------------------------------------------------------

/// The API's version that the library speaks: programs compiled with an older header of the same version work. Any thread.
DAG_EXPORT uint32_t dag_api_version(void);

/// The library's own version, such as "0.1.0", and that of its libtorch. Static. Any thread.
DAG_EXPORT const char *dag_version(void);
DAG_EXPORT const char *dag_torch_version(void);

/// Why the calling thread's newest call failed: one line that names the culprit and what to do, "" if it did not fail. Borrowed until
/// the thread's next call.
DAG_EXPORT const char *dag_last_error(void);

/// All settings with their defaults, as a JSON object; docs/configuration.md explains them. Static. Any thread.
DAG_EXPORT const char *dag_default_config(void);

/// Making a trainer ----------------------------------------------------------------------------------------------------------------

/// A new run. Nothing is loaded or written yet.
/// - config: borrowed; a JSON object of settings, the keys of dag-train's YAML file; those left out have their defaults. Or YAML itself.
/// - output: borrowed; the folder of the run, new or empty, for LoRA, metrics.jsonl, samples/, checkpoints/ and config.yaml.
/// - trainer: lent; on DAG_OK the trainer, which is to be destroyed, else NULL.
DAG_EXPORT int32_t dag_trainer_create(const char *config, const char *output, dag_trainer **trainer);

/// Goes on with the run in a folder, from its newest checkpoint. Plugins are in its settings; callbacks have to be added again.
/// - config: borrowed, or NULL; settings that are to be others than those of the run, as above.
DAG_EXPORT int32_t dag_trainer_resume(const char *output, const char *config, dag_trainer **trainer);

/// Adds a reward that is a library, as --reward-plugin takes it; also those of the settings' "reward_plugin" are used. Before start.
/// - specification: borrowed; LIB[,key=value...], such as "libhps.so,weights=HPS_v2_compressed.pt,weight=0.5" or "./my_reward.py".
DAG_EXPORT int32_t dag_trainer_add_plugin(dag_trainer *trainer, const char *specification);

/// A reward that is a function of the program.
typedef struct dag_callback {
    uint32_t struct_size;
    uint32_t flags;            ///< DAG_REWARD_DETERMINISTIC, or 0
    const char *name;          ///< lower-case words joined by '_': a key in metrics
    const char *settings;      ///< or NULL; the host's keys, as after LIB: "weight=0.5,objective=b,on_failure=drop"
    const char *fingerprint;   ///< or NULL; what the scores depend on: a run is resumed only with rewards of the same fingerprint
    uint32_t largest_batch;    ///< pictures a call takes at most; 0: any number
    uint32_t objective_count;  ///< 0: one, named "score", more is better
    const dag_reward_objective *objectives;  ///< [objective_count], or NULL if that is 0
    void *context;                           ///< or NULL; passed to the functions
    /// Scores a batch as a plugin's `score` does: see dag_reward.h. Called on a thread of the library, one call at a time, while a call
    /// on the trainer is going on, and between roll_out and score. A call on the trainer that is cancelled does not wait for it: it may
    /// still be at work afterwards, and is asked for no more. Only dag_trainer_destroy waits until it has returned.
    int32_t (*score)(void *context, const dag_reward_batch *batch, const dag_reward_result *result, dag_reward_error *error);
    /// Called once when the trainer needs the context no more, on any thread; or NULL.
    void (*release)(void *context);
} dag_callback;

/// Adds a reward that is a function. Before start.
/// - callback: borrowed, with all that it points to but the context, which has to live until `release`. If adding fails, nothing is kept.
DAG_EXPORT int32_t dag_trainer_add_callback(dag_trainer *trainer, const dag_callback *callback);

/// What is going on, for `dag_observer.progress`.
enum { DAG_SAMPLING = 1, DAG_TRAINING = 2, DAG_EVALUATING = 3 };
/// How important a line is, for `dag_observer.log`.
enum { DAG_LOG_NOTE = 1, DAG_LOG_WARNING = 2 };

/// Who watches. Functions are called on the thread that called the trainer; each may be NULL. While rewards are waited for, progress is
/// reported ten times a second, as it was before. One that returns something other than 0
/// cancels the call it was made from, which returns DAG_CANCELLED unless it is complete before it looks; other calls it does not concern.
typedef struct dag_observer {
    uint32_t struct_size;
    uint32_t reserved;  ///< 0
    void *context;      ///< or NULL; passed to the functions. Has to live until the observer is replaced or the trainer destroyed
    int32_t (*progress)(void *context, int32_t phase, uint64_t done, uint64_t total);
    int32_t (*log)(void *context, int32_t level, const char *line);  ///< line: borrowed
    /// After each optimiser step. metrics: borrowed; the line of metrics.jsonl, a JSON object.
    int32_t (*step)(void *context, const char *metrics);
} dag_observer;

/// Sets, replaces or, with NULL, removes the observer.
/// - observer: borrowed during the call, or NULL.
DAG_EXPORT int32_t dag_trainer_set_observer(dag_trainer *trainer, const dag_observer *observer);

/// Training ------------------------------------------------------------------------------------------------------------------------

/// Loads rewards and model; a new run then goes through the self-checks, writes config.yaml and draws samples/epoch-0.png. A reward that
/// cannot be loaded is DAG_INVALID, one that fails in the self-checks DAG_FAILED. After a failure it may be called again; rewards that
/// were added stay. The output folder is the trainer's from now until it is destroyed: DAG_FAILED if it is another's, in any process.
DAG_EXPORT int32_t dag_trainer_start(dag_trainer *trainer);

/// Trains until the last epoch of the settings. Whatever ends it early, it has saved what there is, or logged a warning that it could not.
DAG_EXPORT int32_t dag_trainer_run(dag_trainer *trainer);

/// One epoch, or what is left of the one that is under way. Saves as often as the settings say, and when it ends early, as run does.
/// DAG_ORDER when all epochs are done.
DAG_EXPORT int32_t dag_trainer_run_epoch(dag_trainer *trainer);

/// The parts of an epoch, in this order: sample its trajectories (rewards are asked meanwhile), wait for their scores, and make optimiser
/// steps until `*epoch_done`, which is lent, or NULL, is 1. A roll_out or score that failed starts the epoch anew. The last update writes
/// what the settings ask for after an epoch; if that fails it is DAG_FAILED, with `*epoch_done` 1, and if it is cancelled DAG_OK: the next
/// roll_out or run makes up for it.
DAG_EXPORT int32_t dag_trainer_roll_out(dag_trainer *trainer);
DAG_EXPORT int32_t dag_trainer_score(dag_trainer *trainer);
DAG_EXPORT int32_t dag_trainer_update(dag_trainer *trainer, int32_t *epoch_done);

/// Writes the LoRA and a checkpoint, whatever the settings say.
DAG_EXPORT int32_t dag_trainer_save(dag_trainer *trainer);

/// Asks the call that is going on, or the next one if there is none, to end with DAG_CANCELLED: a start, run, run_epoch, roll_out, score,
/// update, sample or evaluate. If that call is complete before it looks, it returns DAG_OK, and the next one is ended. Any thread, any
/// time, also in a signal's thread but not in a signal handler.
DAG_EXPORT int32_t dag_trainer_cancel(dag_trainer *trainer);

/// Frees the trainer and ends its rewards' processes. Waits for a callback that is at work, which therefore must not wait for this. What
/// was not saved is lost. NULL is DAG_OK.
DAG_EXPORT int32_t dag_trainer_destroy(dag_trainer *trainer);

/// Looking in ----------------------------------------------------------------------------------------------------------------------

/// Where a run stands.
typedef struct dag_status {
    uint32_t struct_size;
    uint32_t started;  ///< 1 after start; the next three and the last two are 0 before
    uint64_t epoch;    ///< epochs that are complete
    uint64_t update;   ///< optimiser steps done in the epoch under way
    uint64_t step;     ///< optimiser steps done in all
    uint64_t epochs;   ///< epochs of the run
    uint64_t updates_per_epoch;
    uint64_t trajectories_per_epoch;
    uint32_t height;  ///< of a picture, pixels
    uint32_t width;
} dag_status;

/// - status: lent.
DAG_EXPORT int32_t dag_trainer_status(dag_trainer *trainer, dag_status *status);

/// The settings as used, a JSON object.
/// - json: lent; on DAG_OK `*json` is borrowed.
DAG_EXPORT int32_t dag_trainer_config(dag_trainer *trainer, const char **json);

/// The newest optimiser step's line of metrics.jsonl, a JSON object. DAG_ORDER before the first.
/// - json: lent; on DAG_OK `*json` is borrowed.
DAG_EXPORT int32_t dag_trainer_metrics(dag_trainer *trainer, const char **json);

/// One number of it, such as "reward_mean", "loss" or "reward/warmth/score". DAG_INVALID if there is none of that name.
/// - key: borrowed. value: lent; NaN where the line says null.
DAG_EXPORT int32_t dag_trainer_metric(dag_trainer *trainer, const char *key, double *value);

/// The n = `count` pictures of an epoch's trajectories, and their m = `objective_count` scores.
typedef struct dag_samples {
    uint32_t struct_size;
    uint32_t count;
    uint32_t height;        ///< pixels
    uint32_t width;         ///< pixels
    const uint8_t *images;  ///< [n, height, width, 3], sRGB, rows without padding
    const dag_reward_text *prompts;  ///< [n]; "" for an unconditional model
    const uint64_t *sample_ids;      ///< [n]; as rewards were told
    const uint64_t *seeds;           ///< [n]
    const float *rewards;            ///< [n]; the trained reward; NaN for a trajectory that was dropped
    const float *scores;             ///< [n, m]; every objective of every reward; NaN where there is none
    const char *const *objectives;   ///< [m]; names, such as "warmth/score"
    uint32_t objective_count;
    uint32_t epoch;  ///< from 0
} dag_samples;

/// The pictures of the newest epoch that was scored, which may be complete. DAG_ORDER before the first. Nothing is copied.
/// - samples: lent; what it points to is borrowed.
DAG_EXPORT int32_t dag_trainer_samples(dag_trainer *trainer, dag_samples *samples);

/// Pictures with the current LoRA, of the run's steps, eta and guidance.
typedef struct dag_pictures {
    uint32_t struct_size;
    uint32_t count;
    uint32_t height;        ///< pixels
    uint32_t width;         ///< pixels
    const uint8_t *images;  ///< [count, height, width, 3], sRGB, rows without padding
} dag_pictures;

/// Draws pictures. Picture k is a function of prompt k, seed k and the weights alone.
/// - prompts: borrowed [count], or NULL for an unconditional model. seeds: borrowed [count]. count: at least 1.
/// - pictures: lent; what it points to is borrowed.
DAG_EXPORT int32_t dag_trainer_sample(
    dag_trainer *trainer, const char *const *prompts, const uint64_t *seeds, uint32_t count, dag_pictures *pictures);

/// Scores pictures of as many fixed prompts and seeds as the setting "evaluation_samples" says, and adds a line to metrics.jsonl.
/// - json: lent; on DAG_OK `*json`, that line, is borrowed.
DAG_EXPORT int32_t dag_trainer_evaluate(dag_trainer *trainer, const char **json);

#ifdef __cplusplus
}
#endif

#endif
