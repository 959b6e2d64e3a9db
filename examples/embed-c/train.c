// Trains the shipped model with a reward that is a function of this program: how red an image is.
//
//     make && ./train path/to/models/tiny-sd output-folder [epochs]
#include <dagcore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static dag_trainer *trainer;

static void check(int32_t status) {
    if (status == DAG_OK) return;
    fprintf(stderr, "train: %s\n", dag_last_error());
    dag_trainer_destroy(trainer);
    exit(status == DAG_CANCELLED ? 130 : 1);
}

/// Red minus the mean of green and blue in the middle of the image, from -1 to 1.
static int32_t redness(void *context, const dag_reward_batch *batch, const dag_reward_result *result, dag_reward_error *error) {
    (void)context, (void)error;
    const dag_reward_images *images = batch->images;
    for (uint32_t n = 0; n < batch->count; n++) {
        const uint32_t top = images->height / 4, left = images->width / 4;
        double sum = 0, pixels = 0;
        for (uint32_t y = top; y < images->height - top; y++)
            for (uint32_t x = left; x < images->width - left; x++, pixels++) {
                const uint8_t *pixel = dag_reward_pixel(images, n, y, x);
                sum += pixel[0] - (pixel[1] + pixel[2]) / 2.0;
            }
        result->scores[n] = (float)(sum / pixels / 255);
    }
    return DAG_REWARD_OK;
}

static int32_t on_log(void *context, int32_t level, const char *line) {
    (void)context;
    printf("%s%s\n", level == DAG_LOG_WARNING ? "warning: " : "", line);
    return 0;
}

// Ctrl-C: dag_trainer_cancel is not for signal handlers, so the next progress report does it.
static volatile sig_atomic_t stop;
static void on_signal(int number) { (void)number, stop = 1; }
static int32_t on_progress(void *context, int32_t phase, uint64_t done, uint64_t total) {
    (void)context, (void)phase, (void)done, (void)total;
    return stop;
}

int main(int count, char *arguments[]) {
    if (count < 3) return fprintf(stderr, "usage: train MODEL OUTPUT [EPOCHS]\n"), 2;
    if (dag_api_version() < DAG_API_VERSION) return fprintf(stderr, "train: libdagcore %s is too old\n", dag_version()), 1;
    signal(SIGINT, on_signal);

    char config[2048];
    snprintf(config, sizeof config,
        "{\"model\": \"%s\", \"prompts\": \"tiny-sd\", \"epochs\": %d, \"steps\": 10, \"sample_batch_size\": 64,"
        " \"batches_per_epoch\": 1, \"train_batch_size\": 8, \"gradient_accumulation_steps\": 4, \"learning_rate\": 1e-3,"
        " \"flow_learning_rate\": 3e-3, \"beta\": 50, \"beta_annealing\": 0, \"seed\": 1}",
        arguments[1], count > 3 ? atoi(arguments[3]) : 8);
    check(dag_trainer_create(config, arguments[2], &trainer));

    const dag_callback reward = {
        .struct_size = sizeof reward, .flags = DAG_REWARD_DETERMINISTIC, .name = "redness", .fingerprint = "1", .score = redness};
    check(dag_trainer_add_callback(trainer, &reward));
    const dag_observer observer = {.struct_size = sizeof observer, .progress = on_progress, .log = on_log};
    check(dag_trainer_set_observer(trainer, &observer));
    check(dag_trainer_start(trainer));

    dag_status status = {.struct_size = sizeof status};
    for (check(dag_trainer_status(trainer, &status)); status.epoch < status.epochs; check(dag_trainer_status(trainer, &status))) {
        check(dag_trainer_run_epoch(trainer));
        double mean;
        check(dag_trainer_metric(trainer, "reward_mean", &mean));
        dag_samples samples = {.struct_size = sizeof samples};
        check(dag_trainer_samples(trainer, &samples));
        uint32_t best = 0;
        for (uint32_t n = 1; n < samples.count; n++)
            if (samples.rewards[n] > samples.rewards[best]) best = n;
        printf("epoch %u: reward %.4f on average; the reddest of %u pictures has %.4f: %s\n", samples.epoch, mean, samples.count,
            samples.rewards[best], samples.prompts[best].data);
    }

    // An image by the trained model, as a PPM file.
    const char *prompt = "a red boot on a blue background";
    const uint64_t seed = 7;
    dag_pictures pictures = {.struct_size = sizeof pictures};
    check(dag_trainer_sample(trainer, &prompt, &seed, 1, &pictures));
    char path[4096];
    snprintf(path, sizeof path, "%s/boot.ppm", arguments[2]);
    FILE *file = fopen(path, "wb");
    if (!file) return perror(path), 1;
    fprintf(file, "P6 %u %u 255\n", pictures.width, pictures.height);
    fwrite(pictures.images, 3, (size_t)pictures.width * pictures.height, file);
    fclose(file);
    printf("%s\n", path);
    check(dag_trainer_destroy(trainer));
    return 0;
}
