// Rewards behind HTTP: each image goes to a server that somebody runs, which may be a vision-language model behind an
// OpenAI-compatible chat endpoint (vLLM, SGLang, OpenAI), or one of flow_grpo's reward servers.
#include <png.h>

#include "cimagefiles.h"
#include "protocol.h"

typedef struct instance {
    client client;
    bool is_chat;
    chat chat;
    pickled pickled;
    char fingerprint[1000];
} instance;

// Options, with what they are for: "" for both protocols.
static const struct {
    const char *protocol, *key, *value, *description;
} settings[] = {
    {"", "url", "", "the server: for openai up to /v1, such as http://127.0.0.1:8000/v1; for flow_grpo all of it"},
    {"", "protocol", "openai", "openai (chat completions with images: vLLM, SGLang and others) or flow_grpo (pickles)"},
    {"openai", "model", "", "the model's name as the server knows it"},
    {"openai", "question", YES_OR_NO, "what is asked about each image; {prompt} and {metadata.KEY} are filled in"},
    {"openai", "answer", "yes", "yes: the score is the probability of Yes against No; number: the answer's number"},
    {"openai", "marker", "", "the text before the number, such as Final Score: ; without one the answer has to be a number alone"},
    {"openai", "lowest", "0", "least number that is taken for an answer"},
    {"openai", "highest", "10", "largest number that is taken for an answer"},
    {"openai", "max_tokens", "16", "length of an answer with a number, tokens"},
    {"flow_grpo", "result", "", "the key of the list of scores in the answer; by default outputs or scores, whichever is there"},
    {"flow_grpo", "jpeg_quality", "75", "of the images, 1 to 100; 75 is what flow_grpo sends"},
    {"flow_grpo", "only_strict", "true", "true or false, for GenEval's server"},
    {"", "key_env", "", "the environment variable that has the key, which goes into the header Authorization"},
    {"", "ca_file", "", "PEM file of the authorities to trust, instead of the system's"},
    {"", "request_timeout", "60", "seconds for one try of a request"},
    {"", "retries", "3", "tries after the first, where a failure may pass: no connection, a timeout, 408, 429, 5xx"},
    {"", "concurrency", "8", "requests at a time"},
};
enum { OPTIONS = sizeof settings / sizeof *settings, LARGEST_BATCH = 64 };

static void destroy(void *pointer) {
    instance *self = pointer;
    if (!self) return;
    client_free(&self->client);
    chat_free(&self->chat);
    pickled_free(&self->pickled);
    free(self);
}

// Refuses settings of the other protocol, which would do nothing.
static int32_t check_protocol(const dag_reward_config *config, const char *protocol, dag_reward_error *error) {
    if (strcmp(protocol, "openai") != 0 && strcmp(protocol, "flow_grpo") != 0)
        return dag_reward_fail(error, DAG_REWARD_INVALID, "protocol=%s is not one of openai, flow_grpo", protocol);
    for (size_t k = 0; k < OPTIONS; k++) {
        bool is_other = *settings[k].protocol && strcmp(settings[k].protocol, protocol) != 0;
        if (is_other && strcmp(dag_reward_value(config, settings[k].key), settings[k].value) != 0)
            return dag_reward_fail(error, DAG_REWARD_INVALID, "%s is for protocol=%s: leave it out", settings[k].key, settings[k].protocol);
    }
    return DAG_REWARD_OK;
}

// FNV-1a, 64 bits.
static uint64_t hash(const char *text) {
    uint64_t value = 0xcbf29ce484222325;
    for (; *text; text++) value = (value ^ (uint8_t)*text) * 0x100000001b3;
    return value;
}

// Writes what scores depend on, by words key=value; texts by their hash, since the host has room for 1000 characters.
// A server's model may change behind its address; nothing can tell.
static int32_t describe(instance *self, const dag_reward_config *config, dag_reward_error *error) {
    size_t used = 0;
    for (size_t k = 0; k < OPTIONS; k++) {
        const char *key = settings[k].key, *value = dag_reward_value(config, key);
        bool counts =
            strcmp(key, "protocol") == 0 || (*settings[k].protocol && (strcmp(settings[k].protocol, "openai") == 0) == self->is_chat);
        if (!counts) continue;
        char hashed[17];
        snprintf(hashed, sizeof hashed, "%016llx", (unsigned long long)hash(value));
        bool is_text = strlen(value) > 40 || strpbrk(value, " \t\n+=");
        size_t room = sizeof self->fingerprint - used;
        int length = snprintf(self->fingerprint + used, room, "%s%s=%s", used ? " " : "", key, is_text ? hashed : value);
        if (length < 0 || (size_t)length >= room) return dag_reward_fail(error, DAG_REWARD_INTERNAL, "%s is too long", key);
        used += (size_t)length;
    }
    return DAG_REWARD_OK;
}

static int32_t set_up(instance *self, const dag_reward_config *config, dag_reward_error *error) {
    const char *protocol = dag_reward_value(config, "protocol");
    int32_t status = check_protocol(config, protocol, error);
    if (status != DAG_REWARD_OK) return status;
    self->is_chat = strcmp(protocol, "openai") == 0;
    const char *path = self->is_chat ? "/chat/completions" : "", *type = self->is_chat ? "application/json" : "application/octet-stream";
    status = client_make(&self->client, config, path, type, error);
    if (status != DAG_REWARD_OK) return status;
    status = self->is_chat ? chat_make(&self->chat, config, error) : pickled_make(&self->pickled, config, error);
    return status == DAG_REWARD_OK ? describe(self, config, error) : status;
}

static int32_t create(const dag_reward_host *host, const dag_reward_config *config, void **pointer, dag_reward_error *error) {
    (void)host;
    instance *self = calloc(1, sizeof *self);
    if (!self) return dag_reward_fail(error, DAG_REWARD_MEMORY, "out of memory");
    int32_t status = set_up(self, config, error);
    if (status == DAG_REWARD_OK) *pointer = self;
    else destroy(self);
    return status;
}

static bool encode_png(const dag_reward_images *images, uint32_t n, bytes *file) {
    png_image image = {.version = PNG_IMAGE_VERSION,
        .width = images->width,
        .height = images->height,
        .format = PNG_FORMAT_RGB,
        .flags = PNG_IMAGE_FLAG_FAST};
    png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
    file->data = malloc(size);
    if (!file->data) return false;
    file->capacity = size;
    bool made =
        png_image_write_to_memory(&image, file->data, &size, 0, dag_reward_pixel(images, n, 0, 0), (png_int_32)images->strides[1], NULL);
    file->size = made ? size : 0;
    return made;
}

static bool encode_jpeg(const dag_reward_images *images, uint32_t n, int quality, bytes *file) {
    char message[256];
    bytes pixels = {0};
    for (uint32_t y = 0; y < images->height; y++) bytes_add(&pixels, dag_reward_pixel(images, n, y, 0), (size_t)images->width * 3);
    if (!pixels.failed) file->data = dag_jpeg_encode(pixels.data, (int)images->height, (int)images->width, quality, &file->size, message);
    file->capacity = file->size;
    bytes_free(&pixels);
    return file->data != NULL;
}

static void ask_about_each(instance *self, const dag_reward_batch *batch, const sample *samples, verdict *verdicts, transfer *transfers) {
    for (uint32_t n = 0; n < batch->count; n++)
        transfers[n].is_done = !chat_ask(&self->chat, &samples[n], &transfers[n].body, &verdicts[n]);
    client_post_all(&self->client, transfers, batch->count, batch->deadline);
    for (uint32_t n = 0; n < batch->count; n++) {
        if (verdicts[n].status != DAG_REWARD_OK) continue;
        if (transfers[n].status == DAG_REWARD_OK) chat_read(&self->chat, &transfers[n].answer, &verdicts[n]);
        else refuse(&verdicts[n], transfers[n].status, "%s", transfers[n].message);
    }
}

static void ask_about_all(instance *self, const dag_reward_batch *batch, const sample *samples, verdict *verdicts, transfer *transfer) {
    pickled_ask(&self->pickled, samples, batch->count, &transfer->body);
    client_post_all(&self->client, transfer, 1, batch->deadline);
    if (transfer->status == DAG_REWARD_OK) return pickled_read(&self->pickled, &transfer->answer, batch->count, verdicts);
    for (uint32_t n = 0; n < batch->count; n++) refuse(&verdicts[n], transfer->status, "%s", transfer->message);
}

static int32_t score(void *pointer, const dag_reward_batch *batch, const dag_reward_result *result, dag_reward_error *error) {
    instance *self = pointer;
    size_t count = batch->count;
    bytes *files = calloc(count, sizeof *files);
    sample *samples = calloc(count, sizeof *samples);
    verdict *verdicts = calloc(count, sizeof *verdicts);
    transfer *transfers = calloc(count, sizeof *transfers);
    bool made = files && samples && verdicts && transfers;
    for (uint32_t n = 0; made && n < count; n++) {
        made =
            self->is_chat ? encode_png(batch->images, n, &files[n]) : encode_jpeg(batch->images, n, self->pickled.jpeg_quality, &files[n]);
        samples[n] = (sample){&files[n], &batch->prompts[n], &batch->metadata[n]};
    }
    if (made && self->is_chat) ask_about_each(self, batch, samples, verdicts, transfers);
    if (made && !self->is_chat) ask_about_all(self, batch, samples, verdicts, transfers);
    for (uint32_t n = 0; made && n < count; n++) {
        result->statuses[n] = verdicts[n].status;
        result->scores[n] = verdicts[n].score;
        if (verdicts[n].status != DAG_REWARD_OK && !*error->message) dag_reward_fail(error, 0, "%s", verdicts[n].message);
    }
    for (size_t n = 0; n < count; n++) {
        if (files) bytes_free(&files[n]);
        if (transfers) bytes_free(&transfers[n].body);
        if (transfers) bytes_free(&transfers[n].answer);
    }
    free(files);
    free(samples);
    free(verdicts);
    free(transfers);
    return made ? DAG_REWARD_OK : dag_reward_fail(error, DAG_REWARD_MEMORY, "out of memory");
}

static int32_t write_fingerprint(void *pointer, char *text, size_t capacity) {
    const instance *self = pointer;
    int length = snprintf(text, capacity, "%s", self->fingerprint);
    return length >= 0 && (size_t)length < capacity ? DAG_REWARD_OK : DAG_REWARD_INTERNAL;
}

static const void *extension(const char *name) {
    static const dag_reward_fingerprint fingerprint = {sizeof fingerprint, 0, write_fingerprint};
    return strcmp(name, DAG_REWARD_WHOLE_FINGERPRINT) == 0 ? &fingerprint : NULL;
}

static const dag_reward_objective objectives[] = {
    {sizeof(dag_reward_objective), DAG_REWARD_MAXIMIZE, "score", "what the server says: a probability, or a number of its own"},
};
static dag_reward_option options[OPTIONS];
static const int32_t formats[] = {DAG_REWARD_U8_NHWC};
static const char *const devices[] = {"cpu"};
static const dag_reward_info info = {
    .struct_size = sizeof info,
    .name = "http",
    .version = "1.0.0",
    .description = "what a server answers: a vision-language model's chat endpoint, or a reward server of flow_grpo's",
    .license = "Apache-2.0",
    .source = "platform.openai.com/docs/api-reference/chat, github.com/yifan123/flow_grpo",
    .objective_count = 1,
    .option_count = OPTIONS,
    .image_format_count = 1,
    .device_count = 1,
    .objectives = objectives,
    .options = options,
    .image_formats = formats,
    .devices = devices,
    .thread_mode = DAG_REWARD_PER_INSTANCE,
    .largest_batch = LARGEST_BATCH,
};

// Fills in the options before anybody can ask for them.
__attribute__((constructor)) static void list_options(void) {
    for (size_t k = 0; k < OPTIONS; k++)
        options[k] = (dag_reward_option){sizeof *options, 0, settings[k].key, settings[k].value, settings[k].description};
}

DAG_REWARD_PLUGIN(info, create, score, destroy, extension)
