// The smallest useful plugin: the brightness of an image.
#include "dag_reward.h"

static int32_t create(const dag_reward_host *host, const dag_reward_config *config, void **instance, dag_reward_error *error) {
    (void)host, (void)config, (void)instance, (void)error;
    return DAG_REWARD_OK;
}

static int32_t score(void *instance, const dag_reward_batch *batch, const dag_reward_result *result, dag_reward_error *error) {
    (void)instance, (void)error;
    const dag_reward_images *images = batch->images;
    for (uint32_t n = 0; n < batch->count; n++) {
        double sum = 0;
        for (uint32_t y = 0; y < images->height; y++)
            for (uint32_t x = 0; x < images->width; x++)
                for (int channel = 0; channel < 3; channel++) sum += dag_reward_pixel(images, n, y, x)[channel];
        result->scores[n] = (float)(sum / (765.0 * images->height * images->width));
    }
    return DAG_REWARD_OK;
}

static void destroy(void *instance) { (void)instance; }

static const dag_reward_objective objectives[] = {
    {sizeof(dag_reward_objective), DAG_REWARD_MAXIMIZE, "brightness", "mean of all channels, 0 to 1"},
};
static const int32_t formats[] = {DAG_REWARD_U8_NHWC};
static const char *const devices[] = {"cpu"};
static const dag_reward_info info = {sizeof info, DAG_REWARD_DETERMINISTIC, "brightness", "1.0.0", "the brightness of an image",
    "Apache-2.0", "an example", 1, 0, 1, 1, objectives, NULL, formats, devices, DAG_REWARD_CONCURRENT, 0};
DAG_REWARD_PLUGIN(info, create, score, destroy, NULL)
