// The host's view: the description, and C functions that call into Go.
#include "dag_reward.h"

#include "_cgo_export.h"

static const dag_reward_objective objectives[] = {
    {sizeof(dag_reward_objective), DAG_REWARD_MAXIMIZE, "symmetry", "0 to 1: 1 equals its mirror image"},
};
static const dag_reward_option options[] = {
    {sizeof(dag_reward_option), 0, "contrast", "2", "how much a difference counts, 1 to 100"},
};
static const int32_t formats[] = {DAG_REWARD_U8_NHWC};
static const char *const devices[] = {"cpu"};
static const dag_reward_info info = {
    .struct_size = sizeof info,
    .flags = DAG_REWARD_DETERMINISTIC,
    .name = "symmetry",
    .version = "1.0.0",
    .description = "how symmetric a picture is about its vertical axis",
    .license = "Apache-2.0",
    .source = "an example",
    .objective_count = sizeof objectives / sizeof *objectives,
    .objectives = objectives,
    .option_count = sizeof options / sizeof *options,
    .options = options,
    .image_format_count = 1,
    .image_formats = formats,
    .device_count = 1,
    .devices = devices,
    .thread_mode = DAG_REWARD_CONCURRENT,
};

// An instance is a cgo.Handle: a number, since C must not keep pointers into Go's memory.
static int32_t create(const dag_reward_host *host, const dag_reward_config *config, void **instance, dag_reward_error *error) {
    return goCreate((dag_reward_config *)config, (uintptr_t *)instance, error);
}

static int32_t score(void *instance, const dag_reward_batch *batch, const dag_reward_result *result, dag_reward_error *error) {
    return goScore((uintptr_t)instance, (dag_reward_batch *)batch, (dag_reward_result *)result, error);
}

static void destroy(void *instance) { goDestroy((uintptr_t)instance); }

DAG_REWARD_PLUGIN(info, create, score, destroy, NULL)
