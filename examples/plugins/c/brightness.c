#include "dag_reward.h"

static int32_t create(const dag_reward_host *host, const dag_reward_config *config, void **instance, dag_reward_error *error) {
    return DAG_REWARD_OK;  // load a model here
}

static int32_t score(void *instance, const dag_reward_batch *batch, const dag_reward_result *result, dag_reward_error *error) {
    const dag_reward_images *images = batch->images;
    for (uint32_t n = 0; n < batch->count; n++) {
        double sum = 0;
        for (uint32_t y = 0; y < images->height; y++)
            for (uint32_t x = 0; x < images->width; x++)
                for (int c = 0; c < 3; c++) sum += dag_reward_pixel(images, n, y, x)[c];
        result->scores[n] = (float)(sum / (765.0 * images->height * images->width));
    }
    return DAG_REWARD_OK;
}

static void destroy(void *instance) {}

static const dag_reward_objective objectives[] = {
    {sizeof(dag_reward_objective), DAG_REWARD_MAXIMIZE, "brightness", "mean of all channels, 0 to 1"},
};
static const int32_t formats[] = {DAG_REWARD_U8_NHWC};
static const char *const devices[] = {"cpu"};
static const dag_reward_info info = {
    .struct_size = sizeof info, .flags = DAG_REWARD_DETERMINISTIC, .name = "brightness", .version = "1.0.0",
    .description = "how bright a picture is", .license = "Apache-2.0", .source = "README.md",
    .objective_count = 1, .objectives = objectives, .image_format_count = 1, .image_formats = formats,
    .device_count = 1, .devices = devices, .thread_mode = DAG_REWARD_CONCURRENT,
};
DAG_REWARD_PLUGIN(info, create, score, destroy, NULL)
