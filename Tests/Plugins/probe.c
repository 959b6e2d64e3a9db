// Returns what the host passed to it as scores, and misbehaves on request: `fault` at run time, -DFAULT_...
// when compiled.
#include <math.h>
#include <stdatomic.h>
#include <unistd.h>

#include "dag_reward.h"

enum { MEAN, CALL_SIZE, PROMPT_BYTES, OVERLAPS, OBJECTIVES };

static atomic_int calls_going_on, calls_so_far;

static int32_t create(const dag_reward_host *host, const dag_reward_config *config, void **instance, dag_reward_error *error) {
    const dag_reward_log *log = host->extension(DAG_REWARD_LOG);
    if (!log || host->extension("dag.log/999")) return dag_reward_fail(error, DAG_REWARD_INTERNAL, "the host's extensions are wrong");
    const char *fault = dag_reward_value(config, "fault");
    if (strcmp(fault, "create") == 0) return dag_reward_fail(error, DAG_REWARD_IO, "no weights at %s", config->json.data);
    *instance = strdup(fault);
    return DAG_REWARD_OK;
}

static int32_t score(void *instance, const dag_reward_batch *batch, const dag_reward_result *result, dag_reward_error *error) {
    const char *fault = instance;
    const dag_reward_images *images = batch->images;
    int overlaps = atomic_fetch_add(&calls_going_on, 1) > 0, call = atomic_fetch_add(&calls_so_far, 1);
    usleep(1000);
    for (uint32_t n = 0; n < batch->count; n++) {
        double sum = 0;
        uint32_t source = strcmp(fault, "first") == 0 ? 0 : n;
        for (uint32_t y = 0; y < images->height; y++)
            for (uint32_t x = 0; x < images->width; x++)
                for (int channel = 0; channel < 3; channel++) sum += dag_reward_pixel(images, source, y, x)[channel];
        float *scores = result->scores + n * OBJECTIVES;
        int here = batch->sample_ids[n] == 5;
        scores[MEAN] = (float)(sum / (images->height * images->width * 3));
        scores[CALL_SIZE] = (float)batch->count;
        if (!(here && strcmp(fault, "unwritten") == 0)) scores[PROMPT_BYTES] = (float)batch->prompts[n].size;
        scores[OVERLAPS] = (float)overlaps;
        if (here && strcmp(fault, "nan") == 0) scores[MEAN] = NAN;
        if (here && strcmp(fault, "infinite") == 0) scores[MEAN] = INFINITY;
        if (here && strcmp(fault, "status") == 0) result->statuses[n] = DAG_REWARD_INVALID;
        if (strcmp(fault, "random") == 0) scores[MEAN] += (float)call;
    }
    atomic_fetch_sub(&calls_going_on, 1);
    if (strcmp(fault, "deadline") == 0 && batch->deadline != 0) return DAG_REWARD_DEADLINE;
    if (strcmp(fault, "score") == 0) return dag_reward_fail(error, DAG_REWARD_MEMORY, "%1000d", 7);
    return DAG_REWARD_OK;
}

static int32_t write_fingerprint(void *instance, char *text, size_t capacity) {
    snprintf(text, capacity, "fault %s", (const char *)instance);
    return DAG_REWARD_OK;
}

static const void *extension(const char *name) {
    static const dag_reward_fingerprint fingerprint = {sizeof fingerprint, 0, write_fingerprint};
#ifdef WHOLE_FINGERPRINT
    if (strcmp(name, DAG_REWARD_WHOLE_FINGERPRINT) == 0) return &fingerprint;
#endif
    return strcmp(name, DAG_REWARD_FINGERPRINT) == 0 ? &fingerprint : NULL;
}

// An objective as a newer header might have it: the host must step over the fields that it does not know.
typedef struct longer_objective {
    dag_reward_objective objective;
    uint64_t appended;
} longer_objective;

static const longer_objective objectives[OBJECTIVES] = {
    {{sizeof(longer_objective), DAG_REWARD_MAXIMIZE, "mean", "mean byte"}, 1},
    {{sizeof(longer_objective), DAG_REWARD_MINIMIZE, "call_size", "pictures in the call"}, 2},
    {{sizeof(longer_objective), DAG_REWARD_MAXIMIZE, "prompt_bytes", "length of the prompt"}, 3},
    {{sizeof(longer_objective), DAG_REWARD_MAXIMIZE, "overlaps", "1 if another call was going on"}, 4},
};
#ifndef FAULT_OPTION
#define FAULT_OPTION "fault"
#endif
static const dag_reward_option options[] = {{sizeof(dag_reward_option), 0, FAULT_OPTION, "none", "what goes wrong"}};
#ifdef FAULT_FORMATS
static const int32_t formats[] = {DAG_REWARD_DLPACK};
#else
static const int32_t formats[] = {DAG_REWARD_F32_NCHW, DAG_REWARD_U8_NHWC};
#endif
static const char *const devices[] = {"cpu"};
static const dag_reward_info info = {
#ifdef FAULT_SHORT
    .struct_size = 8,
#else
    .struct_size = sizeof info,
#endif
    .flags = DAG_REWARD_DETERMINISTIC,
    .name = "probe",
    .version = "1.0.0",
    .description = "shows the host what it did",
    .license = "Apache-2.0",
    .source = "the tests",
    .objective_count = OBJECTIVES,
    .option_count = 1,
    .image_format_count = sizeof formats / sizeof *formats,
    .device_count = 1,
    .objectives = &objectives[0].objective,
    .options = options,
    .image_formats = formats,
    .devices = devices,
    .thread_mode = DAG_REWARD_SERIALIZED,
    .largest_batch = 3,
};

#if defined FAULT_ENTRY
DAG_REWARD_EXPORT int32_t another_name(void) { return create != NULL && score != NULL && extension != NULL && info.flags; }
#elif defined FAULT_VERSION
DAG_REWARD_EXPORT int32_t dag_reward_entry(const dag_reward_host *host, const dag_reward_plugin **plugin, dag_reward_error *error) {
    static const dag_reward_plugin table = {sizeof table, 99, &info, create, score, free, extension};
    (void)host, (void)error;
    *plugin = &table;
    return DAG_REWARD_OK;
}
#elif defined FAULT_REFUSAL
DAG_REWARD_EXPORT int32_t dag_reward_entry(const dag_reward_host *host, const dag_reward_plugin **plugin, dag_reward_error *error) {
    (void)plugin;
    return dag_reward_fail(error, DAG_REWARD_UNSUPPORTED, "needs ABI 7, the host speaks up to %u", host->abi_max);
}
#else
DAG_REWARD_PLUGIN(info, create, score, free, extension)
#endif
