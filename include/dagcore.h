/// The DAG trainer as a library: the C API of libdagcore.so, version 1.
///
/// Everything that dag-train does, from C or from any language that can call C:
///
///     dag_trainer *trainer;
///     if (dag_trainer_create("{\"model\": \"models/tiny-sd\", \"prompts\": \"tiny-sd\"}", "runs/mine", &trainer)) die(dag_last_error());
///     dag_trainer_add_plugin(trainer, "libwarmth.so");           // or dag_trainer_add_callback: a function of yours
///     if (dag_trainer_start(trainer) || dag_trainer_run(trainer)) die(dag_last_error());
///     dag_trainer_destroy(trainer);
///
/// The life of a trainer: create or resume; add rewards; start; then epochs, whole (run, run_epoch) or in parts (roll_out, score,
/// update), with other calls in between; destroy. A call that comes too early or too late returns DAG_ORDER and changes nothing.
///
/// Rules:
/// - Functions return a `DAG_...` status; on any other than DAG_OK, `dag_last_error` says why in one line. No input ends the process: a
///   trainer that is NULL or destroyed is DAG_INVALID. After a failed call the trainer is as before the call, or as the function says.
/// - Threads: calls on one trainer may come from any thread, one at a time; one that comes while another is going on returns DAG_BUSY.
///   only `dag_trainer_cancel` may come at any time. Trainers are independent of each other, but share the CPU's threads.
/// - Callbacks are called as their comments say. On the same trainer they may call `dag_trainer_cancel`; other calls return DAG_BUSY.
///   A C++ exception that leaves one counts as its failure. No longjmp or pthread_exit may leave one.
/// - Ownership: nothing changes hands. Each pointer is one of these:
///     - borrowed: read during the call, or as long as its comment says; the borrower neither writes nor frees it. A pointer that the
///       library returns stays valid until the next call of the same function on the trainer, or until the trainer is destroyed;
///     - lent: the callee may also write to it during the call;
///     - static: constant, and valid for the life of the process.
/// - Text is UTF-8 and NUL-terminated unless its type is `dag_reward_text`. Pointers are not NULL unless marked "or NULL".
/// - Structs grow by appended fields only. The side that makes one sets `struct_size` to its sizeof; fields beyond it are not touched.
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
    DAG_CANCELLED = 4,  ///< ended by `dag_trainer_cancel` or by an observer; calling again goes on
    DAG_FAILED = 5      ///< any other failure: a reward that could not score, a full disk, out of memory, a loss that is not finite
};

/// A trainer. The pointer is a handle and not an address; after destroy it is invalid.
typedef struct dag_trainer dag_trainer;

/// The library ---------------------------------------------------------------------------------------------------------------------

/// The API version of the library. Programs compiled with an older header of the same version work. Any thread.
DAG_EXPORT uint32_t dag_api_version(void);

/// The library's own version, such as "0.1.0", and that of its libtorch. Static. Any thread.
DAG_EXPORT const char *dag_version(void);
DAG_EXPORT const char *dag_torch_version(void);

/// The reason why the calling thread's latest call failed: one line that names the culprit and the remedy; "" if it did not fail.
/// Borrowed until the thread's next call.
DAG_EXPORT const char *dag_last_error(void);

/// All settings with their defaults, as a JSON object; docs/configuration.md explains them. Static. Any thread.
DAG_EXPORT const char *dag_default_config(void);

/// Making a trainer ----------------------------------------------------------------------------------------------------------------

/// A new run. Nothing is loaded or written yet.
/// - config: borrowed; a JSON object of settings, the keys of dag-train's YAML file; those left out have their defaults. Or YAML itself.
/// - output: borrowed; the folder of the run, new or empty, for LoRA, metrics.jsonl, samples/, checkpoints/ and config.yaml.
/// - trainer: lent; on DAG_OK the trainer, to be destroyed by the caller, else NULL.
DAG_EXPORT int32_t dag_trainer_create(const char *config, const char *output, dag_trainer **trainer);

/// Goes on with the run in a folder, from its newest checkpoint. Plugins are in its settings; callbacks have to be added again.
/// - config: borrowed, or NULL; the settings to change, as above.
DAG_EXPORT int32_t dag_trainer_resume(const char *output, const char *config, dag_trainer **trainer);

/// Adds a reward as --reward-plugin takes it, beside those of the setting "reward_plugin". Before start.
/// - specification: borrowed; LIB[,key=value...], such as "libhps.so,weights=HPS_v2_compressed.pt,weight=0.5" or "./my_reward.py".
DAG_EXPORT int32_t dag_trainer_add_plugin(dag_trainer *trainer, const char *specification);

/// A reward that is a function of the program.
typedef struct dag_callback {
    uint32_t struct_size;
    uint32_t flags;            ///< DAG_REWARD_DETERMINISTIC, or 0
    const char *name;          ///< lower-case words joined by '_': a key in metrics
    const char *settings;      ///< or NULL; the host's keys, as after LIB: "weight=0.5,objective=b,on_failure=drop"
    const char *fingerprint;   ///< or NULL; the version of the scores: a run is resumed only with rewards of the same fingerprint
    uint32_t largest_batch;    ///< most images in a call; 0: any number
    uint32_t objective_count;  ///< 0: one, named "score", more is better
    const dag_reward_objective *objectives;  ///< [objective_count], or NULL if that is 0
    void *context;                           ///< or NULL; passed to the functions
    /// Scores a batch as a plugin's `score` does: see dag_reward.h. Called on a thread of the library, one call at a time (but those of
    /// two callbacks may overlap), while a call on the trainer is going on, and between roll_out and score. A cancelled call does not
    /// wait for it, so it may still be running after that call has returned. Only dag_trainer_destroy waits for it.
    int32_t (*score)(void *context, const dag_reward_batch *batch, const dag_reward_result *result, dag_reward_error *error);
    /// Called once, on any thread, when the trainer no longer needs the context; or NULL.
    void (*release)(void *context);
} dag_callback;

/// Adds a reward that is a function. Before start.
/// - callback: borrowed, with all that it points to, except the context, which has to live until `release`. On failure nothing is kept.
DAG_EXPORT int32_t dag_trainer_add_callback(dag_trainer *trainer, const dag_callback *callback);

/// Phases, for `dag_observer.progress`.
enum { DAG_SAMPLING = 1, DAG_TRAINING = 2, DAG_EVALUATING = 3, DAG_LOADING = 4 };
/// Levels of a line, for `dag_observer.log`.
enum { DAG_LOG_NOTE = 1, DAG_LOG_WARNING = 2 };

/// Callbacks for progress, log lines and metrics. Each may be NULL, and is called on the thread that called the trainer. While the
/// trainer waits for rewards, it repeats the latest progress ten times a second. A callback that returns something other than 0 cancels
/// the call from which it was invoked, and only that one: it returns DAG_CANCELLED, or DAG_OK if it completes before it checks.
typedef struct dag_observer {
    uint32_t struct_size;
    uint32_t reserved;  ///< 0
    void *context;      ///< or NULL; passed to the callbacks. Has to live until the observer is replaced or the trainer destroyed
    int32_t (*progress)(void *context, int32_t phase, uint64_t done, uint64_t total);
    int32_t (*log)(void *context, int32_t level, const char *line);  ///< line: borrowed
    /// After each optimiser step. metrics: borrowed; the line of metrics.jsonl, a JSON object.
    int32_t (*step)(void *context, const char *metrics);
} dag_observer;

/// Sets, replaces or, with NULL, removes the observer.
/// - observer: borrowed during the call, or NULL.
DAG_EXPORT int32_t dag_trainer_set_observer(dag_trainer *trainer, const dag_observer *observer);

/// Joins the other processes that work on this run, each of which makes the same trainer and then the same calls in the same order, but
/// for dag_trainer_sample and what only looks in. They share the work, and the results are those of one process; rank 0 alone writes.
/// A run that is resumed has to have its folder's config.yaml on every rank; checkpoints are read by rank 0. Before start; without this
/// call a process is alone, whatever launched it. Waits for the others, a minute at most: DAG_FAILED if one does not come. A call that
/// fails or is cancelled on one rank does so on all. After the end of a process every call returns DAG_FAILED: destroy, and resume.
/// - rank: from 0. count: of processes.
/// - host: borrowed; the address of rank 0's machine. Or NULL: rank, count, host and port are as the variables of torchrun, mpirun or srun
///   say, and the process leaves the GPUs and CPU threads of other ranks on its machine to these (docs/scaling.md).
/// - port: a free one on that machine, the same for all.
DAG_EXPORT int32_t dag_trainer_join(dag_trainer *trainer, uint32_t rank, uint32_t count, const char *host, uint32_t port);

/// Training ------------------------------------------------------------------------------------------------------------------------

/// Loads rewards and model; a new run then goes through the self-checks, writes config.yaml and draws samples/epoch-0.png. A reward that
/// cannot be loaded is DAG_INVALID, one that fails in the self-checks DAG_FAILED. After a failure it may be called again; rewards that
/// were added stay. The output folder is the trainer's from now until it is destroyed: DAG_FAILED if it is another's, in any process.
DAG_EXPORT int32_t dag_trainer_start(dag_trainer *trainer);

/// Trains until the last epoch of the settings. If it ends early, for any reason, it first saves, or logs a warning that it could not.
DAG_EXPORT int32_t dag_trainer_run(dag_trainer *trainer);

/// Trains one epoch, or the rest of the one under way. Saves as often as the settings say, and when it ends early, as run does.
/// DAG_ORDER when all epochs are done.
DAG_EXPORT int32_t dag_trainer_run_epoch(dag_trainer *trainer);

/// The parts of an epoch, in this order: sample its trajectories (rewards are asked meanwhile), wait for their scores, and make optimiser
/// steps until `*epoch_done`, which is lent, or NULL, is 1. After a roll_out or score that failed, the epoch starts anew. The last update
/// also writes the checkpoint and samples that are due. If that fails, it returns DAG_FAILED with `*epoch_done` 1; if it is cancelled,
/// DAG_OK. In both cases the next roll_out or run writes them.
DAG_EXPORT int32_t dag_trainer_roll_out(dag_trainer *trainer);
DAG_EXPORT int32_t dag_trainer_score(dag_trainer *trainer);
DAG_EXPORT int32_t dag_trainer_update(dag_trainer *trainer, int32_t *epoch_done);

/// Writes the LoRA and a checkpoint, whatever the settings say.
DAG_EXPORT int32_t dag_trainer_save(dag_trainer *trainer);

/// Cancels the call that is going on, or else the next one, which returns DAG_CANCELLED: a start, run, run_epoch, roll_out, score,
/// update, sample or evaluate. If that call completes before it checks, it returns DAG_OK, and the one after it is cancelled. Any
/// thread, any time, but not in a signal handler.
DAG_EXPORT int32_t dag_trainer_cancel(dag_trainer *trainer);

/// Frees the trainer and ends its rewards' processes. Waits for a callback that is running, which must therefore not wait for this
/// call. Progress that was not saved is lost. NULL is DAG_OK.
DAG_EXPORT int32_t dag_trainer_destroy(dag_trainer *trainer);

/// Looking in ----------------------------------------------------------------------------------------------------------------------

/// The progress of a run.
typedef struct dag_status {
    uint32_t struct_size;
    uint32_t started;  ///< 1 after start; the next three and the last two are 0 before
    uint64_t epoch;    ///< epochs that are complete
    uint64_t update;   ///< optimiser steps done in the epoch under way
    uint64_t step;     ///< optimiser steps done in all
    uint64_t epochs;   ///< epochs of the run
    uint64_t updates_per_epoch;
    uint64_t trajectories_per_epoch;
    uint32_t height;  ///< of an image, pixels
    uint32_t width;
} dag_status;

/// Writes the progress of the run to `status`, which is lent.
DAG_EXPORT int32_t dag_trainer_status(dag_trainer *trainer, dag_status *status);

/// Gives the settings as used, a JSON object.
/// - json: lent; on DAG_OK `*json` is borrowed.
DAG_EXPORT int32_t dag_trainer_config(dag_trainer *trainer, const char **json);

/// Gives the latest optimiser step's line of metrics.jsonl, a JSON object. DAG_ORDER before the first step.
/// - json: lent; on DAG_OK `*json` is borrowed.
DAG_EXPORT int32_t dag_trainer_metrics(dag_trainer *trainer, const char **json);

/// Gives one number of that line, such as "reward_mean", "loss" or "reward/warmth/score". DAG_INVALID if there is no such key.
/// - key: borrowed. value: lent; NaN where the line says null.
DAG_EXPORT int32_t dag_trainer_metric(dag_trainer *trainer, const char *key, double *value);

/// The n = `count` images of an epoch's trajectories, and their m = `objective_count` scores.
typedef struct dag_samples {
    uint32_t struct_size;
    uint32_t count;
    uint32_t height;        ///< pixels
    uint32_t width;         ///< pixels
    const uint8_t *images;  ///< [n, height, width, 3], sRGB, rows without padding
    const dag_reward_text *prompts;  ///< [n]; "" for an unconditional model
    const uint64_t *sample_ids;      ///< [n]; as rewards received them
    const uint64_t *seeds;           ///< [n]
    const float *rewards;            ///< [n]; the score that is trained on; NaN for a trajectory that was dropped
    const float *scores;             ///< [n, m]; every objective of every reward; NaN where a score is missing
    const char *const *objectives;   ///< [m]; names, such as "warmth/score"
    uint32_t objective_count;
    uint32_t epoch;  ///< from 0
} dag_samples;

/// Gives the images of the latest epoch that was scored, under way or complete. DAG_ORDER before the first. Nothing is copied.
/// - samples: lent; its pointers are borrowed.
DAG_EXPORT int32_t dag_trainer_samples(dag_trainer *trainer, dag_samples *samples);

/// Images drawn with the current LoRA and the run's steps, eta and guidance.
typedef struct dag_pictures {
    uint32_t struct_size;
    uint32_t count;
    uint32_t height;        ///< pixels
    uint32_t width;         ///< pixels
    const uint8_t *images;  ///< [count, height, width, 3], sRGB, rows without padding
} dag_pictures;

/// Draws images. Image k depends on prompt k, seed k and the weights alone.
/// - prompts: borrowed [count], or NULL for an unconditional model. seeds: borrowed [count]. count: at least 1.
/// - images: lent; its pointers are borrowed.
DAG_EXPORT int32_t dag_trainer_sample(
    dag_trainer *trainer, const char *const *prompts, const uint64_t *seeds, uint32_t count, dag_pictures *pictures);

/// Scores images of fixed prompts and seeds, as many as the setting "evaluation_samples" says, and adds a line to metrics.jsonl.
/// - json: lent; on DAG_OK `*json`, that line, is borrowed.
DAG_EXPORT int32_t dag_trainer_evaluate(dag_trainer *trainer, const char **json);

/// Rewards without a trainer -------------------------------------------------------------------------------------------------------

/// A reward by itself, for other trainers. The pointer is a handle and not an address; after destroy it is invalid.
typedef struct dag_scorer dag_scorer;

/// Loads a reward. It works in a process of its own, unless its settings say isolation=none.
/// - specification: borrowed; as for dag_trainer_add_plugin. "normalize" needs a training and is DAG_INVALID.
/// - scorer: lent; on DAG_OK the reward, to be destroyed by the caller, else NULL.
DAG_EXPORT int32_t dag_scorer_create(const char *specification, dag_scorer **scorer);

/// Tells what the reward is: a JSON object with "name" and "objectives", a list of m objects with "name" and "direction" (maximize or
/// minimize).
/// - json: lent; on DAG_OK `*json` is borrowed until the scorer is destroyed.
DAG_EXPORT int32_t dag_scorer_info(dag_scorer *scorer, const char **json);

/// Scores n = `batch->count` images. Any thread: calls on one scorer wait for each other. DAG_FAILED if an image cannot be scored, unless
/// the settings have on_failure=drop or impute.
/// - batch: borrowed, with all that it points to; as rewards receive it. prompts, metadata, sample_ids and seeds may be NULL: "", "{}", and
///   numbers from 0. The deadline is the setting timeout's.
/// - rewards: lent [n], or NULL; the score that would be trained on: the objective that the settings name, or the first, negated if it is
///   to be minimised, times the weight. NaN for an image that is dropped.
/// - scores: lent [n, m], or NULL; every objective as the reward gave it. NaN where a score is missing.
DAG_EXPORT int32_t dag_scorer_score(dag_scorer *scorer, const dag_reward_batch *batch, float *rewards, float *scores);

/// Ends the reward, and its process, after the calls that are going on. NULL is DAG_OK.
DAG_EXPORT int32_t dag_scorer_destroy(dag_scorer *scorer);

#ifdef __cplusplus
}
#endif

#endif
