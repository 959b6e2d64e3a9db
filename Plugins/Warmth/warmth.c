// Warmth: how much redder than blue the image's centre is. Red, orange and yellow
// things score the same, so a sampler in proportion to exp(beta s) keeps all three.
// The other objectives, meant for the log, tell which colour an image shows.
#include <math.h>

#include "dag_reward.h"

enum { WARMTH, RED, ORANGE, YELLOW, OTHER, OBJECTIVES };

// Returns the nearest colour by hue. Shading changes neither hue nor saturation.
static int colour(const uint8_t *pixel) {
    int red = pixel[0], green = pixel[1], blue = pixel[2];
    int high = red > green ? red : green, low = green < blue ? green : blue;
    if (blue > high || 2 * (high - low) <= high) return OTHER;  // blue, or hardly a colour, or black
    if (red < green) return 2 * (green - red) < high - low ? YELLOW : OTHER;
    int hue = 60 * (green - blue) / (high - low);  // degrees: purple -78, red 0, orange 28, yellow 51
    return hue < -30 ? OTHER : hue < 14 ? RED : hue < 40 ? ORANGE : YELLOW;
}

// Computes the mean of the outermost pixels, as an estimate of the background's colour.
static void border(const dag_reward_images *images, uint32_t n, double mean[3]) {
    uint32_t height = images->height, width = images->width, count = 0;
    mean[0] = mean[1] = mean[2] = 0;
    for (uint32_t y = 0; y < height; y++)
        for (uint32_t x = 0; x < width; x += y == 0 || y == height - 1 || width == 1 ? 1 : width - 1, count++)
            for (int c = 0; c < 3; c++) mean[c] += dag_reward_pixel(images, n, y, x)[c];
    for (int c = 0; c < 3; c++) mean[c] /= count;
}

static int32_t create(const dag_reward_host *host, const dag_reward_config *config, void **instance, dag_reward_error *error) {
    (void)host;
    double *saturation = malloc(sizeof *saturation);
    if (!saturation) return dag_reward_fail(error, DAG_REWARD_MEMORY, "out of memory");
    int32_t status = dag_reward_number(config, "saturation", 1e-3, 1, saturation, error);
    if (status == DAG_REWARD_OK) *instance = saturation;
    else free(saturation);
    return status;
}

static int32_t score(void *instance, const dag_reward_batch *batch, const dag_reward_result *result, dag_reward_error *error) {
    (void)error;
    const dag_reward_images *images = batch->images;
    uint32_t top = images->height / 4, left = images->width / 4, bottom = images->height - top, right = images->width - left;
    for (uint32_t n = 0; n < batch->count; n++) {
        double background[3], votes[OBJECTIVES] = {0}, warmth = 0;
        border(images, n, background);
        for (uint32_t y = top; y < bottom; y++)
            for (uint32_t x = left; x < right; x++) {
                const uint8_t *pixel = dag_reward_pixel(images, n, y, x);
                warmth += pixel[0] - pixel[2];
                // A pixel votes for its colour in proportion to its difference from the background, which is
                // also visible in the centre.
                for (int c = 0; c < 3; c++) votes[colour(pixel)] += fabs(pixel[c] - background[c]);
            }
        warmth /= 255.0 * (bottom - top) * (right - left) * *(const double *)instance;
        int winner = OTHER;
        for (int c = RED; c < OTHER; c++)
            if (votes[c] > votes[winner]) winner = c;
        float *scores = result->scores + (size_t)n * OBJECTIVES;
        scores[WARMTH] = (float)(warmth < 0 ? 0 : warmth > 1 ? 1 : warmth);
        for (int c = RED; c <= OTHER; c++) scores[c] = c == winner;
    }
    return DAG_REWARD_OK;
}

static const dag_reward_objective objectives[OBJECTIVES] = {
    {sizeof(dag_reward_objective), DAG_REWARD_MAXIMIZE, "warmth", "mean of red - blue in the centre, divided by `saturation`, 0 to 1"},
    {sizeof(dag_reward_objective), DAG_REWARD_MAXIMIZE, "red", "1 if the thing in the centre is red, else 0"},
    {sizeof(dag_reward_objective), DAG_REWARD_MAXIMIZE, "orange", "1 if the thing in the centre is orange, else 0"},
    {sizeof(dag_reward_objective), DAG_REWARD_MAXIMIZE, "yellow", "1 if the thing in the centre is yellow, else 0"},
    {sizeof(dag_reward_objective), DAG_REWARD_MAXIMIZE, "other", "1 if the thing in the centre has another colour, else 0"},
};
static const dag_reward_option options[] = {
    {sizeof(dag_reward_option), 0, "saturation", "0.5", "the mean of red - blue that scores 1, 0.001 to 1"},
};
static const int32_t formats[] = {DAG_REWARD_U8_NHWC};
static const char *const devices[] = {"cpu"};
static const dag_reward_info info = {
    .struct_size = sizeof info,
    .flags = DAG_REWARD_DETERMINISTIC,
    .name = "warmth",
    .version = "1.0.0",
    .description = "how much redder than blue the centre is, and which warm colour it has",
    .license = "Apache-2.0",
    .source = "this repository",
    .objective_count = OBJECTIVES,
    .option_count = 1,
    .image_format_count = 1,
    .device_count = 1,
    .objectives = objectives,
    .options = options,
    .image_formats = formats,
    .devices = devices,
    .thread_mode = DAG_REWARD_CONCURRENT,
};
DAG_REWARD_PLUGIN(info, create, score, free, NULL)
