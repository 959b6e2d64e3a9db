// A C++ plugin that lets an exception out of `score` at the sample of the option `at`, which the ABI forbids.
#include <stdexcept>

#include "dag_reward.h"

static int32_t create(const dag_reward_host *, const dag_reward_config *config, void **instance, dag_reward_error *) {
    *instance = new uint64_t(std::strtoull(dag_reward_value(config, "at"), nullptr, 10));
    return DAG_REWARD_OK;
}

static int32_t score(void *instance, const dag_reward_batch *batch, const dag_reward_result *result, dag_reward_error *) {
    for (uint32_t n = 0; n < batch->count; n++) {
        if (batch->sample_ids[n] == *static_cast<uint64_t *>(instance)) throw std::runtime_error("out of ideas");
        result->scores[n] = *dag_reward_pixel(batch->images, n, 0, 0);
    }
    return DAG_REWARD_OK;
}

static void destroy(void *instance) { delete static_cast<uint64_t *>(instance); }

static const dag_reward_objective objectives[] = {{sizeof(dag_reward_objective), DAG_REWARD_MAXIMIZE, "byte", "the first byte"}};
static const dag_reward_option options[] = {{sizeof(dag_reward_option), 0, "at", "0", "sample at which it throws"}};
static const int32_t formats[] = {DAG_REWARD_U8_NHWC};
static const char *const devices[] = {"cpu"};
static const dag_reward_info info = {sizeof(dag_reward_info), 0, "throws", "1", "lets an exception out", "Apache-2.0", "the benchmarks", 1,
    1, 1, 1, objectives, options, formats, devices, DAG_REWARD_SERIALIZED, 0};
DAG_REWARD_PLUGIN(info, create, score, destroy, nullptr)
