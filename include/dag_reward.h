/// Reward plugins for diffusion post-training: the C ABI, version 1.
///
/// A reward is a shared library that exports one function, `dag_reward_entry`, and hides everything else. It may be written in any
/// language that can export a C function. In C it takes about thirty lines, and
///
///     cc -shared -fPIC -fvisibility=hidden -I include -o libmine.so mine.c
///
/// Rules for both sides:
/// - Every struct that may grow starts with `struct_size`, the size its writer was compiled with. New fields are appended at the end,
///   and are read only if `DAG_REWARD_HAS` says that they exist. An array of such structs has its first element's
///   `struct_size` as stride. `dag_reward_text` and `dag_reward_setting` never change. No struct has padding at its end.
/// - Numbers are in host byte order, text is UTF-8, pointers are not NULL unless marked "or NULL".
/// - Functions return a `DAG_REWARD_...` status and write a one-line message on failure. No exception, panic, longjmp or exit()
///   crosses the boundary, in either direction.
/// - Ownership: nothing changes hands; the side that made something frees it. Each pointer is one of these:
///     - borrowed: the callee may read it until the call returns, and neither writes, keeps nor frees it;
///     - lent: the callee may also write to it until the call returns;
///     - static: constant, and valid for the life of the process (a library is never unloaded), so that it may be kept.
/// - Threads: calls may come from any thread, a different one each time. The plugin chooses which may overlap, see
///   `DAG_REWARD_SERIALIZED`. Threads of a plugin's own may use the call's arguments only until the call returns.
#ifndef DAG_REWARD_H
#define DAG_REWARD_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/// The version this header describes. It changes only if a struct could not be extended by appending.
#define DAG_REWARD_ABI_VERSION 1

#define DAG_REWARD_EXPORT __attribute__((visibility("default")))

/// Whether the struct behind a pointer was compiled with this field.
#define DAG_REWARD_HAS(pointer, type, field) \
    ((pointer)->struct_size >= offsetof(type, field) + sizeof(((type *)0)->field))

/// Return values of functions, and statuses of samples.
enum {
    DAG_REWARD_OK = 0,
    DAG_REWARD_INVALID = 1,      ///< a wrong setting or input: the user has to change something
    DAG_REWARD_UNSUPPORTED = 2,  ///< an ABI version, image format or device that the plugin does not speak
    DAG_REWARD_IO = 3,           ///< a file or a service could not be reached
    DAG_REWARD_MEMORY = 4,       ///< out of memory, on host or device
    DAG_REWARD_INTERNAL = 5,     ///< any other failure
    DAG_REWARD_DEADLINE = 6      ///< gave up because the batch's deadline passed
};

/// Layouts of images.
enum {
    /// The baseline that every plugin accepts: uint8 sRGB, [n, height, width, 3], value = clamp(round(255 x)). Red, green and
    /// blue are adjacent and pixels of a row follow each other (strides[3] = 1, strides[2] = 3); rows and images may be padded.
    DAG_REWARD_U8_NHWC = 1,
    /// float32 sRGB in [0, 1], [n, 3, height, width], host memory. A host of version 1 may never send it.
    DAG_REWARD_F32_NCHW = 2,
    /// `data` is a borrowed `DLManagedTensor *`, float32 in [0, 1], [n, 3, height, width], on the device. As above.
    DAG_REWARD_DLPACK = 3
};

/// The `score` calls that may run at the same time. In every mode `create` and `destroy` never overlap each other, nor a `score` of
/// the same instance, and with DAG_REWARD_SERIALIZED no other call at all.
enum {
    DAG_REWARD_SERIALIZED = 0,    ///< one into the library, over all its instances
    DAG_REWARD_PER_INSTANCE = 1,  ///< one into each instance
    DAG_REWARD_CONCURRENT = 2     ///< any number
};

/// An objective's direction. Training maximises: the host negates the scores of an objective with DAG_REWARD_MINIMIZE.
enum { DAG_REWARD_MAXIMIZE = 1, DAG_REWARD_MINIMIZE = -1 };

/// `dag_reward_info.flags`.
enum {
    /// The same batch gets the same scores, and a sample's scores do not depend on the rest of its batch, except for rounding.
    DAG_REWARD_DETERMINISTIC = 1,
    /// The plugin reads settings that it does not declare, and rejects unknown ones itself.
    DAG_REWARD_OPEN_OPTIONS = 2
};

/// Length-delimited UTF-8, also NUL-terminated at data[size] (which a reader may rely on, though text may contain NULs).
typedef struct dag_reward_text {
    const char *data;  ///< borrowed
    size_t size;       ///< bytes, without the terminator
} dag_reward_text;

/// One setting of the configuration, both NUL-terminated.
typedef struct dag_reward_setting {
    const char *key;    ///< borrowed
    const char *value;  ///< borrowed
} dag_reward_setting;

/// The place for a message: the host's buffer, `capacity` bytes (at least 256), empty text at first. See `dag_reward_fail`.
typedef struct dag_reward_error {
    uint32_t struct_size;
    uint32_t capacity;
    char *message;  ///< lent: to be filled with one NUL-terminated line
} dag_reward_error;

/// The host, as the plugin sees it. Static, with all that it points to.
typedef struct dag_reward_host {
    uint32_t struct_size;
    uint32_t abi_min;  ///< oldest and newest version of this ABI that the host speaks
    uint32_t abi_max;
    uint32_t reserved;    ///< 0
    const char *name;     ///< static; of the host program, for messages
    const char *version;  ///< static; likewise
    /// An extension's table, which is static, by name (borrowed) and revision, such as "dag.log/1", or NULL if the host lacks it.
    /// Any thread, any time.
    const void *(*extension)(const char *name);
} dag_reward_host;

/// One number that a reward gives each image. Names are lower-case words joined by '_': they become keys in logs.
typedef struct dag_reward_objective {
    uint32_t struct_size;
    int32_t direction;        ///< DAG_REWARD_MAXIMIZE or DAG_REWARD_MINIMIZE
    const char *name;         ///< static; unique among the objectives
    const char *description;  ///< static; one line, with the unit and the range
} dag_reward_objective;

/// One key of the configuration that the plugin understands. The host's own keys cannot be declared: weight, objective, normalize,
/// on_failure, timeout, isolation, workers, device, python.
typedef struct dag_reward_option {
    uint32_t struct_size;
    uint32_t reserved;          ///< 0
    const char *key;            ///< static; unique among the options
    const char *default_value;  ///< static; handed to `create` if the user gives none
    const char *description;    ///< static; one line, with the values it takes
} dag_reward_option;

/// The description of a plugin, readable before any model is loaded. Static, with all that it points to.
typedef struct dag_reward_info {
    uint32_t struct_size;
    uint32_t flags;               ///< DAG_REWARD_DETERMINISTIC and the like, or-ed
    const char *name;             ///< static; lower-case words joined by '_'
    const char *version;          ///< static; of the plugin, not of the ABI
    const char *description;      ///< static; one line
    const char *license;          ///< static; SPDX expression of code and weights
    const char *source;           ///< static; paper, repository or web address
    uint32_t objective_count;     ///< at least 1; the first is trained if the user names none
    uint32_t option_count;        ///< may be 0
    uint32_t image_format_count;  ///< at least 1
    uint32_t device_count;        ///< at least 1
    const dag_reward_objective *objectives;  ///< static [objective_count]
    const dag_reward_option *options;        ///< static [option_count], or NULL if that is 0
    const int32_t *image_formats;            ///< static [image_format_count], best first; DAG_REWARD_U8_NHWC is among them
    const char *const *devices;              ///< static [device_count], such as "cpu", "cuda"
    uint32_t thread_mode;                    ///< DAG_REWARD_SERIALIZED and the like
    uint32_t largest_batch;                  ///< most images in a `score` call; 0: any number
} dag_reward_info;

/// The settings of an instance. Borrowed by `create`, with all that it points to: copy what is needed later.
typedef struct dag_reward_config {
    uint32_t struct_size;
    uint32_t setting_count;
    /// Borrowed [setting_count], or NULL if that is 0: first every declared option in its order, with the user's value or the
    /// default; then, for a plugin with DAG_REWARD_OPEN_OPTIONS, the other keys, sorted.
    const dag_reward_setting *settings;
    dag_reward_text json;  ///< the same settings as a JSON object; values that are JSON numbers, true or false stay such
    const char *device;    ///< borrowed; such as "cpu", "cuda:0"
} dag_reward_config;

/// The images of a batch, all of one size. Borrowed by `score`.
typedef struct dag_reward_images {
    uint32_t struct_size;
    int32_t format;  ///< one that the plugin's info lists
    const void *data;    ///< borrowed; it may lie in memory that cannot be written
    uint32_t height;     ///< pixels
    uint32_t width;      ///< pixels
    int64_t strides[4];  ///< bytes from one image, row, column and channel to the next
} dag_reward_images;

/// n = `count` samples to score. Borrowed by `score`, with all that it points to.
typedef struct dag_reward_batch {
    uint32_t struct_size;
    uint32_t count;  ///< at least 1, at most the plugin's largest_batch
    const dag_reward_images *images;  ///< borrowed
    const dag_reward_text *prompts;   ///< borrowed [n]; "" for an unconditional model
    const dag_reward_text *metadata;  ///< borrowed [n] JSON objects, "{}" if there is none
    /// Borrowed [n], the trajectories' numbers, for messages: images along one trajectory share one.
    const uint64_t *sample_ids;
    const uint64_t *seeds;  ///< borrowed [n], for a reward that draws random numbers
    uint64_t deadline;      ///< CLOCK_MONOTONIC nanoseconds after which the answer is ignored; 0: none
} dag_reward_batch;

/// The answer. The struct is borrowed by `score`, the arrays are lent.
typedef struct dag_reward_result {
    uint32_t struct_size;
    uint32_t objective_count;  ///< m, as in the plugin's info
    /// Lent [n, m], row-major. Every number has to be written, and be finite where the sample's status is DAG_REWARD_OK: the host
    /// fills in DAG_REWARD_UNWRITTEN first and looks for it.
    float *scores;
    int32_t *statuses;  ///< lent [n], DAG_REWARD_OK at first
} dag_reward_result;

/// The bits of the NaN that stands in `scores` before a call.
#define DAG_REWARD_UNWRITTEN 0x7fc0da61u

/// The functions of a plugin. Static, with all that it points to. In each call `error` and what it points to are lent.
typedef struct dag_reward_plugin {
    uint32_t struct_size;
    uint32_t abi_version;  ///< the one that the plugin chose from the host's range
    const dag_reward_info *info;  ///< static
    /// Loads the model. `host` is static, `config` borrowed. `*instance` is NULL before the call, and may stay so. On DAG_REWARD_OK it
    /// is the plugin's own: the host only passes it back, until `destroy`. On failure there is no instance. One thread at a time, over
    /// all instances.
    int32_t (*create)(const dag_reward_host *host, const dag_reward_config *config, void **instance, dag_reward_error *error);
    /// Scores a batch (borrowed), and returns when `result` is complete. A sample that cannot be scored gets a status of its own and
    /// no scores; `error` then has one message for all of these, and the call returns DAG_REWARD_OK. Threads as `thread_mode` says.
    int32_t (*score)(void *instance, const dag_reward_batch *batch, const dag_reward_result *result, dag_reward_error *error);
    /// Frees an instance. No call into it is going on, and none follows. One thread at a time, over all instances.
    void (*destroy)(void *instance);
    /// An extension's table, which is static, by name (borrowed) and revision, or NULL. May itself be NULL. Any thread, any time.
    const void *(*extension)(const char *name);
} dag_reward_plugin;

/// The one exported symbol. It may be called any number of times, by one thread at a time, with the same answer: `*plugin`, which is
/// static, or DAG_REWARD_UNSUPPORTED and a reason if the plugin speaks no version in the host's range. `host` is static, `error` is lent.
/// See `DAG_REWARD_PLUGIN`.
DAG_REWARD_EXPORT int32_t dag_reward_entry(
    const dag_reward_host *host, const dag_reward_plugin **plugin, dag_reward_error *error);

/// Plugin extension: what the scores depend on beyond the library file and the settings, such as a hash of the weights.
#define DAG_REWARD_FINGERPRINT "dag.fingerprint/1"
typedef struct dag_reward_fingerprint {
    uint32_t struct_size;
    uint32_t reserved;  ///< 0
    /// Writes at most `capacity` bytes of NUL-terminated text to `text`, which is lent. Overlaps no other call into the instance.
    int32_t (*write)(void *instance, char *text, size_t capacity);
} dag_reward_fingerprint;

/// Plugin extension: everything that the scores depend on beyond the plugin's name and version. The host uses it in place of the
/// settings and of "dag.fingerprint/1", so that settings that change no score, such as a number of threads or the place of a file, do
/// not keep a run from being resumed. The table is a `dag_reward_fingerprint`; its text has words `key=value`, with spaces between,
/// and the host names the words that changed.
#define DAG_REWARD_WHOLE_FINGERPRINT "dag.fingerprint/2"

/// Host extension: a line for the user, while loading weights for instance.
#define DAG_REWARD_LOG "dag.log/1"
typedef struct dag_reward_log {
    uint32_t struct_size;
    uint32_t reserved;  ///< 0
    /// Prints a NUL-terminated line (borrowed) to the host's log. Any thread, any time.
    void (*write)(const char *line);
} dag_reward_log;

// Helpers for authors. Nothing here is part of the binary interface.

/// Writes the message and returns the status: `return dag_reward_fail(error, DAG_REWARD_IO, "no weights at %s", path);`
__attribute__((format(printf, 3, 4)))
static inline int32_t dag_reward_fail(dag_reward_error *error, int32_t status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, error->capacity, format, arguments);
    va_end(arguments);
    return status;
}

/// The value of a declared option, borrowed from `config`, or NULL for a key that is not declared.
static inline const char *dag_reward_value(const dag_reward_config *config, const char *key) {
    for (uint32_t i = 0; i < config->setting_count; i++)
        if (strcmp(config->settings[i].key, key) == 0) return config->settings[i].value;
    return NULL;
}

/// Reads a declared option as a number from `low` to `high`.
static inline int32_t dag_reward_number(
    const dag_reward_config *config, const char *key, double low, double high, double *number, dag_reward_error *error) {
    const char *text = dag_reward_value(config, key);
    char *end = NULL;
    *number = text ? strtod(text, &end) : 0;
    if (text && end != text && *end == '\0' && *number >= low && *number <= high) return DAG_REWARD_OK;
    return dag_reward_fail(
        error, DAG_REWARD_INVALID, "%s=%s is not a number from %g to %g", key, text ? text : "", low, high);
}

/// Pixel (x, y) of image n: three bytes, red, green, blue, borrowed from `images`. Baseline format only.
static inline const uint8_t *dag_reward_pixel(const dag_reward_images *images, uint32_t n, uint32_t y, uint32_t x) {
    return (const uint8_t *)images->data + n * images->strides[0] + y * images->strides[1] + x * images->strides[2];
}

/// Defines the table and the entry of a plugin of ABI version 1 from a `dag_reward_info` and its functions; the last may be NULL.
#define DAG_REWARD_PLUGIN(info, create, score, destroy, extension)                                                      \
    static const dag_reward_plugin dag_reward_table = {                                                                 \
        sizeof(dag_reward_plugin), DAG_REWARD_ABI_VERSION, &(info), create, score, destroy, extension};                 \
    int32_t dag_reward_entry(const dag_reward_host *host, const dag_reward_plugin **plugin, dag_reward_error *error) {  \
        if (host->abi_min > DAG_REWARD_ABI_VERSION || host->abi_max < DAG_REWARD_ABI_VERSION)                           \
            return dag_reward_fail(error, DAG_REWARD_UNSUPPORTED, "speaks reward ABI %d, the host speaks %u to %u",     \
                                   DAG_REWARD_ABI_VERSION, (unsigned)host->abi_min, (unsigned)host->abi_max);           \
        *plugin = &dag_reward_table;                                                                                    \
        return DAG_REWARD_OK;                                                                                           \
    }

#ifdef __cplusplus
}
#endif

#endif
