// The plugin around panics.rs.
#include "dag_reward.h"

extern float first_byte(uint8_t byte, uint64_t sample, uint64_t at);

static int32_t create(const dag_reward_host *host, const dag_reward_config *config, void **instance, dag_reward_error *error) {
    (void)host, (void)error;
    *instance = (void *)strtoull(dag_reward_value(config, "at"), NULL, 10);
    return DAG_REWARD_OK;
}

static int32_t score(void *instance, const dag_reward_batch *batch, const dag_reward_result *result, dag_reward_error *error) {
    (void)error;
    for (uint32_t n = 0; n < batch->count; n++)
        result->scores[n] = first_byte(*dag_reward_pixel(batch->images, n, 0, 0), batch->sample_ids[n], (uint64_t)instance);
    return DAG_REWARD_OK;
}

static void destroy(void *instance) { (void)instance; }

static const dag_reward_objective objectives[] = {{sizeof(dag_reward_objective), DAG_REWARD_MAXIMIZE, "byte", "the first byte"}};
static const dag_reward_option options[] = {{sizeof(dag_reward_option), 0, "at", "0", "sample at which it panics"}};
static const int32_t formats[] = {DAG_REWARD_U8_NHWC};
static const char *const devices[] = {"cpu"};
static const dag_reward_info info = {
    .struct_size = sizeof info,
    .name = "panics",
    .version = "1",
    .description = "panics",
    .license = "Apache-2.0",
    .source = "the benchmarks",
    .objective_count = 1,
    .option_count = 1,
    .image_format_count = 1,
    .device_count = 1,
    .objectives = objectives,
    .options = options,
    .image_formats = formats,
    .devices = devices,
    .thread_mode = DAG_REWARD_SERIALIZED,
};
DAG_REWARD_PLUGIN(info, create, score, destroy, NULL)
