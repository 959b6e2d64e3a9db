#include "redness.h"

static const dag_reward_objective objectives[] = {{sizeof(dag_reward_objective), DAG_REWARD_MAXIMIZE, "score", "-1 to 1"}};
static const int32_t formats[] = {DAG_REWARD_U8_NHWC};
static const char *const devices[] = {"cpu"};
static const dag_reward_info info = {.struct_size = sizeof info,
    .flags = DAG_REWARD_DETERMINISTIC,
    .name = "redness",
    .version = "1",
    .description = "how red a picture is",
    .license = "Apache-2.0",
    .source = "the tests",
    .objective_count = 1,
    .image_format_count = 1,
    .device_count = 1,
    .objectives = objectives,
    .image_formats = formats,
    .devices = devices};

static int32_t create(const dag_reward_host *host, const dag_reward_config *config, void **instance, dag_reward_error *error) {
    (void)host, (void)config, (void)instance, (void)error;
    return DAG_REWARD_OK;
}
static void destroy(void *instance) { (void)instance; }

DAG_REWARD_PLUGIN(info, create, redness, destroy, NULL)
