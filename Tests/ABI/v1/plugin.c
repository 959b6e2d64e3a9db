// A plugin as of the first release: it hands back what it finds in every field that the host fills in. -DLONGER gives its own
// structs fields that no host knows yet, as a plugin built with a later header has them.
#include "dag_reward.h"

#ifdef LONGER
#define TABLE(type) typedef struct later_##type { type v1; uint64_t later[3]; } later_##type
#define V1(...) {__VA_ARGS__}, {1, 2, 3}
#else
#define TABLE(type) typedef struct later_##type { type v1; } later_##type
#define V1(...) {__VA_ARGS__}
#endif
TABLE(dag_reward_objective);
TABLE(dag_reward_option);
TABLE(dag_reward_info);
TABLE(dag_reward_plugin);
TABLE(dag_reward_fingerprint);

enum { PIXELS, HEIGHT, WIDTH, COUNT, PROMPT, METADATA, SAMPLE_ID, SEED, DEADLINE, FACTOR, OBJECTIVES };

static int32_t create(const dag_reward_host *host, const dag_reward_config *config, void **instance, dag_reward_error *error) {
    const dag_reward_log *log = host->extension(DAG_REWARD_LOG);
    if (!log || !DAG_REWARD_HAS(log, dag_reward_log, write) || *host->name == '\0' || *host->version == '\0')
        return dag_reward_fail(error, DAG_REWARD_INTERNAL, "the host's table is not what it was");
    if (!DAG_REWARD_HAS(config, dag_reward_config, device) || strcmp(config->device, "cpu") != 0)
        return dag_reward_fail(error, DAG_REWARD_INTERNAL, "the configuration is not what it was");
    if (strcmp(config->json.data, "{\"factor\":0.5,\"unit\":\"none\"}") != 0 || strlen(config->json.data) != config->json.size)
        return dag_reward_fail(error, DAG_REWARD_INVALID, "settings %s", config->json.data);
    double *factor = malloc(sizeof *factor);
    int32_t status = dag_reward_number(config, "factor", 0, 1, factor, error);
    *instance = factor;
    return status;
}

static int32_t score(void *instance, const dag_reward_batch *batch, const dag_reward_result *result, dag_reward_error *error) {
    const dag_reward_images *images = batch->images;
    if (!DAG_REWARD_HAS(batch, dag_reward_batch, deadline) || !DAG_REWARD_HAS(images, dag_reward_images, strides) ||
        images->format != DAG_REWARD_U8_NHWC || result->objective_count != OBJECTIVES)
        return dag_reward_fail(error, DAG_REWARD_INTERNAL, "the batch is not what it was");
    for (uint32_t n = 0; n < batch->count; n++) {
        float *scores = result->scores + n * OBJECTIVES;
        uint32_t bits;
        memcpy(&bits, scores, sizeof bits);
        if (bits != DAG_REWARD_UNWRITTEN || result->statuses[n] != DAG_REWARD_OK) return DAG_REWARD_INTERNAL;
        scores[PIXELS] = 0;
        for (uint32_t y = 0; y < images->height; y++)
            for (uint32_t x = 0; x < images->width; x++)
                for (int channel = 0; channel < 3; channel++) scores[PIXELS] += dag_reward_pixel(images, n, y, x)[channel];
        scores[HEIGHT] = (float)images->height;
        scores[WIDTH] = (float)images->width;
        scores[COUNT] = (float)batch->count;
        scores[PROMPT] = (float)batch->prompts[n].size + (float)batch->prompts[n].data[batch->prompts[n].size];
        scores[METADATA] = (float)batch->metadata[n].size;
        scores[SAMPLE_ID] = (float)batch->sample_ids[n];
        scores[SEED] = (float)batch->seeds[n];
        scores[DEADLINE] = batch->deadline > 0;
        scores[FACTOR] = (float)*(const double *)instance;
        if (batch->prompts[n].size == 9) result->statuses[n] = dag_reward_fail(error, DAG_REWARD_INVALID, "nine is not a length");
    }
    return DAG_REWARD_OK;
}

static int32_t write_fingerprint(void *instance, char *text, size_t capacity) {
    snprintf(text, capacity, "factor %g", *(const double *)instance);
    return DAG_REWARD_OK;
}

static const void *extension(const char *name) {
    static const later_dag_reward_fingerprint fingerprint = {V1(sizeof fingerprint, 0, write_fingerprint)};
    return strcmp(name, DAG_REWARD_FINGERPRINT) == 0 ? &fingerprint : NULL;
}

#define OBJECTIVE(name, direction) {V1(sizeof(later_dag_reward_objective), direction, name, "what the host says")}
static const later_dag_reward_objective objectives[OBJECTIVES] = {
    OBJECTIVE("pixels", DAG_REWARD_MAXIMIZE),    OBJECTIVE("height", DAG_REWARD_MINIMIZE),  OBJECTIVE("width", DAG_REWARD_MAXIMIZE),
    OBJECTIVE("count", DAG_REWARD_MAXIMIZE),     OBJECTIVE("prompt", DAG_REWARD_MAXIMIZE),  OBJECTIVE("metadata", DAG_REWARD_MAXIMIZE),
    OBJECTIVE("sample_id", DAG_REWARD_MAXIMIZE), OBJECTIVE("seed", DAG_REWARD_MAXIMIZE),    OBJECTIVE("deadline", DAG_REWARD_MAXIMIZE),
    OBJECTIVE("factor", DAG_REWARD_MAXIMIZE),
};
static const later_dag_reward_option options[] = {
    {V1(sizeof(later_dag_reward_option), 0, "factor", "1", "0 to 1")},
    {V1(sizeof(later_dag_reward_option), 0, "unit", "none", "any text")},
};
static const int32_t formats[] = {DAG_REWARD_U8_NHWC};
static const char *const devices[] = {"cpu"};
static const later_dag_reward_info info = {
    V1(sizeof info, DAG_REWARD_DETERMINISTIC, "first_release", "1.0.0", "what the host says", "Apache-2.0", "the tests", OBJECTIVES, 2, 1,
       1, &objectives[0].v1, &options[0].v1, formats, devices, DAG_REWARD_PER_INSTANCE, 2)};
static const later_dag_reward_plugin table = {
    V1(sizeof table, DAG_REWARD_ABI_VERSION, &info.v1, create, score, free, extension)};

DAG_REWARD_EXPORT int32_t dag_reward_entry(const dag_reward_host *host, const dag_reward_plugin **plugin, dag_reward_error *error) {
    if (host->abi_min > DAG_REWARD_ABI_VERSION || host->abi_max < DAG_REWARD_ABI_VERSION)
        return dag_reward_fail(error, DAG_REWARD_UNSUPPORTED, "the host no longer speaks version %d", DAG_REWARD_ABI_VERSION);
    *plugin = &table.v1;
    return DAG_REWARD_OK;
}
