// How red an image is, from -1 to 1; the same number as redness() of test_dagcore.py, to the bit.
#include "dag_reward.h"

static int32_t redness(void *context, const dag_reward_batch *batch, const dag_reward_result *result, dag_reward_error *error) {
    (void)context, (void)error;
    const dag_reward_images *images = batch->images;
    for (uint32_t n = 0; n < batch->count; n++) {
        int64_t sum = 0;
        for (uint32_t y = 0; y < images->height; y++)
            for (uint32_t x = 0; x < images->width; x++) {
                const uint8_t *pixel = dag_reward_pixel(images, n, y, x);
                sum += 2 * pixel[0] - pixel[1] - pixel[2];
            }
        result->scores[n] = (float)((double)sum / (510.0 * images->height * images->width));
    }
    return DAG_REWARD_OK;
}
