// Breaks the rule of dag_reward.h that the option `bug` names. Each bug is for one check of `dag-reward
// check` to find.
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <stdatomic.h>
#include <unistd.h>

#include "dag_reward.h"

static int calls;
static atomic_int calls_going_on;
static __thread int made_here;
static float shared;
static char bug[64];

static int is(const char *name) { return strcmp(bug, name) == 0; }

static int32_t create(const dag_reward_host *host, const dag_reward_config *config, void **instance, dag_reward_error *error) {
    snprintf(bug, sizeof bug, "%s", dag_reward_value(config, "bug"));
    (void)host, (void)error;
    const char *level = dag_reward_value(config, "level");
    if (is("silent") && strcmp(level, "1") != 0) return DAG_REWARD_INVALID;
    if (is("create_twice") && calls++ > 2) abort();
    if (is("create_leak")) memset(malloc(100000), 1, 100000);
    made_here = 1;
    *instance = calloc(1, 16);
    return DAG_REWARD_OK;
}

static float mean(const dag_reward_images *images, uint32_t n) {
    double sum = 0;
    const size_t packed = (size_t)images->height * images->width * 3;
    for (uint32_t y = 0; y < images->height; y++)
        for (uint32_t x = 0; x < images->width; x++) {
            const uint8_t *pixel = dag_reward_pixel(images, n, y, x);
            if (is("strides")) pixel = (const uint8_t *)images->data + n * packed + (y * images->width + x) * 3;
            sum += pixel[0] + pixel[1] + pixel[2];
        }
    return (float)(sum / packed);
}

static int32_t score(void *instance, const dag_reward_batch *batch, const dag_reward_result *result, dag_reward_error *error) {
    (void)instance;
    const dag_reward_images *images = batch->images;
    if (is("batch_size_field") && batch->struct_size != sizeof *batch)
        return dag_reward_fail(error, DAG_REWARD_UNSUPPORTED, "another batch");
    if (is("one_pixel") && images->height == 1) abort();
    if (is("hang") && batch->count == 7) pause();
    if (is("hang_together") && fork() >= 0) pause();
    if (is("child") && batch->count == 7 && fork() == 0) sleep(60), _exit(0);
    if (is("exit") && batch->count == 7) exit(0);
    if (is("many") && batch->count > 32) return dag_reward_fail(error, DAG_REWARD_MEMORY, "too many");
    if (is("largest") && batch->count > 100) abort();
    if (is("no_end")) memset(error->message, 'x', error->capacity);
    if (is("thread") && !made_here) return dag_reward_fail(error, DAG_REWARD_INTERNAL, "another thread");
    if (is("prompt") && batch->prompts[0].size == 0) return dag_reward_fail(error, DAG_REWARD_INVALID, "no prompt");
    if (is("collide")) {
        int others = atomic_fetch_add(&calls_going_on, 1);
        usleep(1000);
        atomic_fetch_sub(&calls_going_on, 1);
        if (others > 0) return dag_reward_fail(error, DAG_REWARD_INTERNAL, "busy");
    }
    for (uint32_t n = 0; n < batch->count; n++) {
        float *target = result->scores + n;
        *target = mean(images, n);
        if (is("write_input")) ((uint8_t *)images->data)[0] = 0;
        if (is("read_beyond")) *target += 0 * ((volatile const uint8_t *)images->data)[batch->count * images->strides[0]];
        if (is("random")) *target += (float)(calls++ % 2);
        if (is("neighbours") && n > 0) *target += result->scores[n - 1];
        if (is("small_neighbours")) *target = *target * 1e-6f + (n > 0 ? result->scores[n - 1] : 0);
        if (is("nan") && n == 2) *target = NAN;
        if (is("unwritten") && n == 2) memcpy(target, &(uint32_t){DAG_REWARD_UNWRITTEN}, 4);
        if (is("status") && n == 2) result->statuses[n] = 99;
        if (is("late") && batch->deadline) *target = 5;
        if (is("flat")) *target = 1;
        if (is("plain") && *target == 0) *target = NAN;
        if (is("offset")) *target = 1000 + *target * 1e-3f + (float)(calls++ % 2) * 0.5f;
        if (is("race")) {
            shared = *target;
            usleep(100);
            *target = shared;
        }
    }
    if (is("one_too_many")) result->scores[batch->count] = 0;
    if (is("one_too_few")) result->scores[-1] = 0;
    if (is("leak")) memset(malloc(100000), 1, 100000);
    if (is("small_leak")) memset(malloc(8000), 1, 8000);
    if (is("descriptors")) (void)!open("/dev/null", O_RDONLY);
    return DAG_REWARD_OK;
}

static void destroy(void *instance) {
    free(instance);
    if (is("double_free")) abort();
}

#ifndef NAME
#define NAME "careless"
#endif
#ifndef MODE
#define MODE DAG_REWARD_CONCURRENT
#endif
#ifndef LARGEST
#define LARGEST 0
#endif
static const dag_reward_objective objectives[] = {{sizeof(dag_reward_objective), DAG_REWARD_MAXIMIZE, "mean", "mean byte, 0 to 255"}};
static const dag_reward_option options[] = {
    {sizeof(dag_reward_option), 0, "bug", "none", "the rule that is broken"},
    {sizeof(dag_reward_option), 0, "level", "1", "a setting"},
};
static const int32_t formats[] = {DAG_REWARD_U8_NHWC};
static const char *const devices[] = {"cpu"};
static const dag_reward_info info = {
    .struct_size = sizeof info,
    .flags = 0
#ifndef RANDOM
             | DAG_REWARD_DETERMINISTIC
#endif
#ifdef OPEN
             | DAG_REWARD_OPEN_OPTIONS
#endif
    ,
    .name = NAME,
    .version = "1",
    .description = "breaks rules",
    .license = "Apache-2.0",
    .source = "the tests",
    .objective_count = 1,
    .option_count = 2,
    .image_format_count = 1,
    .device_count = 1,
    .objectives = objectives,
    .options = options,
    .image_formats = formats,
    .devices = devices,
    .thread_mode = MODE,
    .largest_batch = LARGEST,
};
#ifdef ANY_VERSION
DAG_REWARD_EXPORT int32_t dag_reward_entry(const dag_reward_host *host, const dag_reward_plugin **plugin, dag_reward_error *error) {
    static const dag_reward_plugin table = {sizeof table, 1, &info, create, score, destroy, NULL};
    (void)host, (void)error;
    *plugin = &table;
    return DAG_REWARD_OK;
}
#else
DAG_REWARD_PLUGIN(info, create, score, destroy, NULL)
#endif
#ifdef ANOTHER_SYMBOL
DAG_REWARD_EXPORT int another_symbol(void) { return 1; }
#endif
