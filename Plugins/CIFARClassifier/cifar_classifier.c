// The logarithm of the probability, by a ResNet, that an image is of one of the chosen classes: DAG's reward
// on CIFAR-10 (Zhang et al. 2024, arXiv 2406.00633), in C on OpenBLAS.
#include <math.h>
#include <pthread.h>

#include "classifier.h"

enum {
    NAMED = 10,  // the number of classes with objectives of their own
    LOG_PROBABILITY = 0,
    ENTROPY,
    CLASS,
    SHARE = CLASS + NAMED,
    OBJECTIVES = SHARE + NAMED,
    MOST_THREADS = 64,  // Debian's OpenBLAS accepts calls from as many
};

// The score of a class that the network does not have, instead of minus infinity.
static const float no_such_class = -1000;

typedef struct instance {
    classifier classifier;
    blas blas;
    int threads;
    workspace *spaces;  // [threads]
    float *lines;       // [threads, width, 3], for images of the reader's width
} instance;

static void destroy(void *pointer) {
    instance *self = pointer;
    if (!self) return;
    for (int k = 0; k < self->threads && self->spaces; k++) workspace_free(&self->spaces[k]);
    free(self->spaces);
    free(self->lines);
    classifier_free(&self->classifier);
    free(self);
}

static int32_t set_up(instance *self, const dag_reward_config *config, dag_reward_error *error) {
    double threads;
    int32_t status = dag_reward_number(config, "threads", 0, MOST_THREADS, &threads, error);
    if (status != DAG_REWARD_OK) return status;
    if (threads != (int)threads) return dag_reward_fail(error, DAG_REWARD_INVALID, "threads=%g is not a whole number", threads);
    status = classifier_load(&self->classifier, dag_reward_value(config, "weights"), dag_reward_value(config, "classes"), error);
    if (status != DAG_REWARD_OK) return status;
    status = blas_load(&self->blas, error);
    if (status != DAG_REWARD_OK) return status;
    self->threads = threads > 0 ? (int)threads : self->blas.threads < MOST_THREADS ? self->blas.threads : MOST_THREADS;
    self->spaces = calloc((size_t)self->threads, sizeof *self->spaces);
    bool made = self->spaces != NULL;
    for (int k = 0; k < self->threads && made; k++) made = workspace_make(&self->spaces[k], &self->classifier.network);
    return made ? DAG_REWARD_OK : dag_reward_fail(error, DAG_REWARD_MEMORY, "out of memory for a network of this size");
}

static void log_line(const dag_reward_host *host, const instance *self) {
    if (!DAG_REWARD_HAS(host, dag_reward_host, extension)) return;
    const dag_reward_log *log = host->extension(DAG_REWARD_LOG);
    if (!log) return;
    char line[320];
    const resnet *network = &self->classifier.network;
    snprintf(line, sizeof line, "cifar_classifier: %s, threads: %d; ResNet of %u blocks, %u classes, %ux%u", self->blas.description,
        self->threads, network->block_count, network->classes, network->side, network->side);
    log->write(line);
}

static int32_t create(const dag_reward_host *host, const dag_reward_config *config, void **pointer, dag_reward_error *error) {
    instance *self = calloc(1, sizeof *self);
    if (!self) return dag_reward_fail(error, DAG_REWARD_MEMORY, "out of memory");
    int32_t status = set_up(self, config, error);
    if (status != DAG_REWARD_OK) {
        destroy(self);
        return status;
    }
    log_line(host, self);
    *pointer = self;
    return DAG_REWARD_OK;
}

// Computes an image's scores from its logits. Returns false if these are not finite.
static bool judge(const classifier *self, const float *logits, float *scores) {
    uint32_t classes = self->network.classes, best = 0;
    double sum = 0, chosen = 0, best_chosen = -INFINITY, entropy = 0;
    for (uint32_t k = 0; k < classes; k++) {
        if (!isfinite(logits[k])) return false;
        if (logits[k] > logits[best]) best = k;
        if (self->chosen[k] && logits[k] > best_chosen) best_chosen = logits[k];
    }
    for (uint32_t k = 0; k < classes; k++) {
        sum += exp((double)logits[k] - logits[best]);
        if (self->chosen[k]) chosen += exp((double)logits[k] - best_chosen);
    }
    double normaliser = logits[best] + log(sum);
    for (uint32_t k = 0; k < classes; k++) entropy += exp(logits[k] - normaliser) * (normaliser - logits[k]);
    scores[LOG_PROBABILITY] = (float)fmin(best_chosen + log(chosen) - normaliser, 0);
    scores[ENTROPY] = (float)entropy;
    for (uint32_t k = 0; k < NAMED; k++) {
        scores[CLASS + k] = k < classes ? (float)(logits[k] - normaliser) : no_such_class;
        scores[SHARE + k] = k == best;
    }
    return true;
}

// The images that one thread scores.
typedef struct share {
    const instance *self;
    const dag_reward_images *images;
    const dag_reward_result *result;
    uint32_t first, end;
    workspace *space;
    float *line;
} share;

static void *score_share(void *pointer) {
    const share *job = pointer;
    const classifier *classifier = &job->self->classifier;
    const resnet *network = &classifier->network;
    size_t input = (size_t)network->side * network->side * network->channels;
    for (uint32_t first = job->first, count; first < job->end; first += count) {
        count = job->end - first < job->space->capacity ? job->end - first : job->space->capacity;
        for (uint32_t k = 0; k < count; k++)
            image_read(&classifier->reader, job->images, first + k, job->line, job->space->activations[0] + k * input);
        resnet_forward(network, &job->self->blas, job->space, count);
        for (uint32_t k = 0; k < count; k++) {
            float *scores = job->result->scores + (size_t)(first + k) * job->result->objective_count;
            bool finite = judge(classifier, job->space->logits + (size_t)k * network->classes, scores);
            job->result->statuses[first + k] = finite ? DAG_REWARD_OK : DAG_REWARD_INTERNAL;
        }
    }
    return NULL;
}

// Allocates memory for images of this size, unless the
// last ones had the same. Returns false if memory is out.
static bool prepare(instance *self, uint32_t height, uint32_t width) {
    if (!self->lines || width != self->classifier.reader.width) {
        free(self->lines);
        self->lines = malloc((size_t)self->threads * width * 3 * sizeof(float));
    }
    return self->lines && image_reader_prepare(&self->classifier.reader, height, width);
}

static int32_t score(void *pointer, const dag_reward_batch *batch, const dag_reward_result *result, dag_reward_error *error) {
    instance *self = pointer;
    const dag_reward_images *images = batch->images;
    if (images->height == 0 || images->width == 0) return dag_reward_fail(error, DAG_REWARD_INVALID, "the images are empty");
    if (!prepare(self, images->height, images->width)) return dag_reward_fail(error, DAG_REWARD_MEMORY, "out of memory");
    share jobs[MOST_THREADS];
    pthread_t threads[MOST_THREADS];
    bool running[MOST_THREADS];
    for (int k = self->threads - 1; k >= 0; k--) {
        jobs[k] = (share){
            .self = self,
            .images = images,
            .result = result,
            .first = (uint32_t)((uint64_t)batch->count * (uint64_t)k / (uint64_t)self->threads),
            .end = (uint32_t)((uint64_t)batch->count * (uint64_t)(k + 1) / (uint64_t)self->threads),
            .space = &self->spaces[k],
            .line = self->lines + (size_t)k * images->width * 3,
        };
        // This thread scores the first share, after the others
        // have started, and any share whose thread cannot be made.
        running[k] = k > 0 && pthread_create(&threads[k], NULL, score_share, &jobs[k]) == 0;
        if (!running[k]) score_share(&jobs[k]);
    }
    for (int k = 0; k < self->threads; k++)
        if (running[k]) pthread_join(threads[k], NULL);
    for (uint32_t n = 0; n < batch->count; n++)
        if (result->statuses[n] != DAG_REWARD_OK) dag_reward_fail(error, DAG_REWARD_INTERNAL, "the network's output is not finite");
    return DAG_REWARD_OK;
}

static int32_t write_fingerprint(void *pointer, char *text, size_t capacity) {
    const instance *self = pointer;
    snprintf(text, capacity, "%016llx", (unsigned long long)self->classifier.hash);
    return DAG_REWARD_OK;
}

static int32_t write_whole_fingerprint(void *pointer, char *text, size_t capacity) {
    classifier_describe(&((const instance *)pointer)->classifier, text, capacity);
    return DAG_REWARD_OK;
}

static const void *extension(const char *name) {
    static const dag_reward_fingerprint fingerprint = {sizeof fingerprint, 0, write_fingerprint};
    static const dag_reward_fingerprint whole = {sizeof whole, 0, write_whole_fingerprint};
    if (strcmp(name, DAG_REWARD_FINGERPRINT) == 0) return &fingerprint;
    return strcmp(name, DAG_REWARD_WHOLE_FINGERPRINT) == 0 ? &whole : NULL;
}

#define OBJECTIVE(name, description) {sizeof(dag_reward_objective), DAG_REWARD_MAXIMIZE, name, description}
#define CLASS_OBJECTIVE(k) \
    OBJECTIVE("class_" #k, "log-probability of class " #k " in the weights' order, at most 0; -1000 if there are fewer classes")
#define SHARE_OBJECTIVE(k) OBJECTIVE("share_" #k, "1 if class " #k " is the most probable, else 0: the mean is the class's share")
#define FOR_EACH_CLASS(make) make(0), make(1), make(2), make(3), make(4), make(5), make(6), make(7), make(8), make(9)

static const dag_reward_objective objectives[OBJECTIVES] = {
    OBJECTIVE("log_probability", "log of the summed probability of the chosen classes, at most 0"),
    {sizeof(dag_reward_objective), DAG_REWARD_MINIMIZE, "entropy", "how undecided the classifier is, in nats, from 0"},
    FOR_EACH_CLASS(CLASS_OBJECTIVE),
    FOR_EACH_CLASS(SHARE_OBJECTIVE),
};
static const dag_reward_option options[] = {
    {sizeof(dag_reward_option), 0, "weights", "fashion_mnist",
        "a safetensors file made by scripts/state_dict_to_safetensors.py, or fashion_mnist, which is built in"},
    {sizeof(dag_reward_option), 0, "classes", "sandal+sneaker+bag+boot", "the chosen classes: names that the weights know, joined by +"},
    {sizeof(dag_reward_option), 0, "threads", "0", "threads, 1 to 64; 0: as many as OpenBLAS would use"},
};
static const int32_t formats[] = {DAG_REWARD_U8_NHWC};
static const char *const devices[] = {"cpu"};
static const dag_reward_info info = {
    .struct_size = sizeof info,
    .flags = DAG_REWARD_DETERMINISTIC,
    .name = "cifar_classifier",
    .version = "1.0.0",
    .description = "log-probability of chosen classes by a ResNet with the CIFAR stem",
    .license = "Apache-2.0 AND MIT",
    .source = "arXiv 2406.00633, arXiv 1512.03385",
    .objective_count = OBJECTIVES,
    .option_count = sizeof options / sizeof *options,
    .image_format_count = 1,
    .device_count = 1,
    .objectives = objectives,
    .options = options,
    .image_formats = formats,
    .devices = devices,
    .thread_mode = DAG_REWARD_PER_INSTANCE,
};
DAG_REWARD_PLUGIN(info, create, score, destroy, extension)
