#include "classifier.h"

#include <math.h>

static const uint8_t fashion_mnist[] = {
#embed "weights/fashion_mnist.safetensors"
};

enum { LARGEST_SIDE = 1024 };

// 64-bit FNV-1a, for the fingerprint.
static uint64_t hash(const uint8_t *bytes, size_t size) {
    uint64_t value = 0xcbf29ce484222325;
    for (size_t k = 0; k < size; k++) value = (value ^ bytes[k]) * 0x100000001b3;
    return value;
}

static int32_t metadata_fail(const safetensors *file, const char *what, dag_reward_error *error) {
    return dag_reward_fail(
        error, DAG_REWARD_INVALID, "weights %s: metadata %s; make the file with scripts/state_dict_to_safetensors.py", file->name, what);
}

// Reads `count` numbers from `low` to `high`, separated
// by spaces. Returns false if the text is anything else.
static bool read_numbers(const char *text, uint32_t count, double low, double high, float *numbers) {
    for (uint32_t k = 0; k < count && text; k++) {
        char *end;
        double number = strtod(text, &end);
        if (end == text || !(number >= low && number <= high)) return false;
        numbers[k] = (float)number;
        text = end;
    }
    return text && text[strspn(text, " ")] == '\0';
}

static size_t name_length(const char *names) { return strcspn(names, "+"); }

// Returns the next of names that are joined by +, or NULL.
static const char *next_name(const char *names) {
    names += name_length(names);
    return *names ? names + 1 : NULL;
}

static int32_t choose(classifier *self, const char *classes, dag_reward_error *error) {
    for (const char *wanted = classes; wanted; wanted = next_name(wanted)) {
        size_t length = name_length(wanted), k = 0;
        const char *name = self->names;
        for (; name; name = next_name(name), k++)
            if (name_length(name) == length && memcmp(name, wanted, length) == 0) break;
        if (!name)
            return dag_reward_fail(error, DAG_REWARD_INVALID, "classes=%s: there is no class '%.*s'; these weights know %s", classes,
                (int)length, wanted, self->names);
        self->chosen[k] = true;
    }
    return DAG_REWARD_OK;
}

static int32_t load(classifier *self, safetensors *file, const char *classes, dag_reward_error *error) {
    float side;
    if (!read_numbers(safetensors_metadata(file, "input_size"), 1, 1, LARGEST_SIDE, &side) || side != floorf(side))
        return metadata_fail(file, "input_size is not a whole number from 1 to 1024", error);
    const char *names = safetensors_metadata(file, "classes");
    if (!names) return metadata_fail(file, "lacks the names of the classes", error);
    int32_t status = resnet_load(&self->network, file, (uint32_t)side, error);
    if (status != DAG_REWARD_OK) return status;
    image_reader *reader = &self->reader;
    *reader = (image_reader){.side = self->network.side, .channels = self->network.channels};
    if (!read_numbers(safetensors_metadata(file, "mean"), reader->channels, -1e3, 1e3, reader->mean))
        return metadata_fail(file, "mean is not one number a channel", error);
    if (!read_numbers(safetensors_metadata(file, "std"), reader->channels, 1e-3, 1e3, reader->deviation))
        return metadata_fail(file, "std is not one number from 0.001 a channel", error);
    uint32_t count = 0;
    for (const char *name = names; name; name = next_name(name)) count++;
    if (count != self->network.classes) return metadata_fail(file, "does not name as many classes as fc.weight has", error);
    self->names = strdup(names);
    self->chosen = calloc(count, sizeof *self->chosen);
    if (!self->names || !self->chosen) return dag_reward_fail(error, DAG_REWARD_MEMORY, "out of memory");
    return choose(self, classes, error);
}

int32_t classifier_load(classifier *self, const char *path, const char *classes, dag_reward_error *error) {
    if (!*path)
        return dag_reward_fail(
            error, DAG_REWARD_INVALID, "weights= is empty: name a safetensors file, or fashion_mnist, which is built in");
    safetensors file;
    int32_t status = strcmp(path, "fashion_mnist") == 0 ? safetensors_parse(&file, path, fashion_mnist, sizeof fashion_mnist, error)
                                                        : safetensors_read(&file, path, error);
    if (status != DAG_REWARD_OK) return status;
    self->hash = hash(file.bytes, file.size);
    status = load(self, &file, classes, error);
    safetensors_close(&file);
    if (status != DAG_REWARD_OK) classifier_free(self);
    return status;
}

void classifier_describe(const classifier *self, char *text, size_t capacity) {
    size_t length = (size_t)snprintf(text, capacity, "weights=%016llx classes", (unsigned long long)self->hash);
    uint32_t k = 0;
    char before = '=';
    for (const char *name = self->names; name && length < capacity; name = next_name(name), k++) {
        if (!self->chosen[k]) continue;
        length += (size_t)snprintf(text + length, capacity - length, "%c%.*s", before, (int)name_length(name), name);
        before = '+';
    }
}

void classifier_free(classifier *self) {
    resnet_free(&self->network);
    image_reader_free(&self->reader);
    free(self->names);
    free(self->chosen);
    *self = (classifier){0};
}
