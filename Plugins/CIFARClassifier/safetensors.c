#include "safetensors.h"

#include <errno.h>
#include <math.h>
#include <sys/stat.h>

enum { LARGEST_DIMENSION = 1 << 20 };

int32_t safetensors_read(safetensors *self, const char *path, dag_reward_error *error) {
    FILE *file = fopen(path, "rb");
    struct stat properties;
    if (!file || fstat(fileno(file), &properties) != 0 || !S_ISREG(properties.st_mode)) {
        dag_reward_fail(error, DAG_REWARD_IO, "weights %s cannot be read: %s", path, file ? "not a file" : strerror(errno));
        if (file) fclose(file);
        return DAG_REWARD_IO;
    }
    size_t size = (size_t)properties.st_size;
    uint8_t *bytes = malloc(size + 1);
    bool complete = bytes && fread(bytes, 1, size, file) == size;
    fclose(file);
    if (!complete) {
        free(bytes);
        if (!bytes) return dag_reward_fail(error, DAG_REWARD_MEMORY, "out of memory for %s", path);
        return dag_reward_fail(error, DAG_REWARD_IO, "weights %s cannot be read to the end", path);
    }
    int32_t status = safetensors_parse(self, path, bytes, size, error);
    self->owned = bytes;
    if (status != DAG_REWARD_OK) safetensors_close(self);
    return status;
}

int32_t safetensors_parse(safetensors *self, const char *name, const uint8_t *bytes, size_t size, dag_reward_error *error) {
    *self = (safetensors){.name = name, .bytes = bytes, .size = size};
    uint64_t length = 0;
    for (int k = 7; k >= 0 && size >= 8; k--) length = length << 8 | bytes[k];
    if (size < 8 || length > size - 8 || length == 0 || bytes[8] != '{')
        return dag_reward_fail(error, DAG_REWARD_INVALID, "weights %s is no safetensors file, or a truncated one", name);
    json_error_t reason;
    self->header = json_loadb((const char *)bytes + 8, length, JSON_REJECT_DUPLICATES, &reason);
    if (!self->header) return dag_reward_fail(error, DAG_REWARD_INVALID, "weights %s has a broken header: %s", name, reason.text);
    self->data = bytes + 8 + length;
    return DAG_REWARD_OK;
}

const char *safetensors_metadata(const safetensors *self, const char *key) {
    return json_string_value(json_object_get(json_object_get(self->header, "__metadata__"), key));
}

bool safetensors_has(const safetensors *self, const char *tensor) { return json_object_get(self->header, tensor) != NULL; }

const char *safetensors_rest(const safetensors *self) {
    const char *key;
    json_t *value;
    json_object_foreach(self->header, key, value) if (strcmp(key, "__metadata__") != 0) return key;
    return NULL;
}

void safetensors_close(safetensors *self) {
    json_decref(self->header);
    free(self->owned);
    *self = (safetensors){0};
}

// Converts IEEE half precision. The exponent's bias is corrected
// by a product, which is exact for subnormal numbers, too.
static float from_half(uint16_t half) {
    if ((half & 0x7c00) == 0x7c00) return NAN;
    uint32_t bits = (uint32_t)(half & 0x7fff) << 13;
    float value;
    memcpy(&value, &bits, sizeof value);
    return (half & 0x8000 ? -1.0f : 1.0f) * value * 0x1p112f;
}

// Writes a shape as in "[8, any, 3, 3]", where `zero` stands for 0.
static void write_shape(char *text, size_t capacity, const uint32_t *shape, int rank, const char *zero) {
    size_t used = (size_t)snprintf(text, capacity, "[");
    for (int k = 0; k < rank && used < capacity; k++) {
        const char *comma = k > 0 ? ", " : "";
        int length = shape[k] ? snprintf(text + used, capacity - used, "%s%u", comma, shape[k])
                              : snprintf(text + used, capacity - used, "%s%s", comma, zero);
        used += (size_t)length;
    }
    if (used < capacity) snprintf(text + used, capacity - used, "]");
}

// Compares the stored shape with the expected one, and replaces zeros in this by the stored sizes.
static int32_t match_shape(
    const safetensors *self, const char *tensor, const json_t *stored, uint32_t *shape, int rank, dag_reward_error *error) {
    bool matches = json_array_size(stored) == (size_t)rank;
    uint32_t actual[8] = {0};
    int count = json_array_size(stored) < 8 ? (int)json_array_size(stored) : 8;
    for (int k = 0; k < count; k++) {
        json_int_t size = json_integer_value(json_array_get(stored, (size_t)k));
        bool sane = size > 0 && size <= LARGEST_DIMENSION;
        actual[k] = sane ? (uint32_t)size : 0;
        matches = matches && sane && (shape[k] == 0 || shape[k] == actual[k]);
    }
    if (!matches) {
        char has[96], needs[96];
        write_shape(has, sizeof has, actual, count, "?");
        write_shape(needs, sizeof needs, shape, rank, "any");
        return dag_reward_fail(error, DAG_REWARD_INVALID,
            "weights %s: %s has shape %s where %s is needed: not a ResNet with basic "
            "blocks and the CIFAR stem",
            self->name, tensor, has, needs);
    }
    memcpy(shape, actual, (size_t)rank * sizeof *shape);
    return DAG_REWARD_OK;
}

int32_t safetensors_take(safetensors *self, const char *tensor, uint32_t *shape, int rank, float **values, dag_reward_error *error) {
    const json_t *entry = json_object_get(self->header, tensor);
    if (!entry) return dag_reward_fail(error, DAG_REWARD_INVALID, "weights %s lacks the tensor %s", self->name, tensor);
    int32_t status = match_shape(self, tensor, json_object_get(entry, "shape"), shape, rank, error);
    if (status != DAG_REWARD_OK) return status;
    const char *type = json_string_value(json_object_get(entry, "dtype"));
    size_t width = type && strcmp(type, "F32") == 0 ? 4 : type && strcmp(type, "F16") == 0 ? 2 : 0;
    if (width == 0)
        return dag_reward_fail(error, DAG_REWARD_INVALID,
            "weights %s: %s is %s, neither F32 nor F16; make the file with "
            "scripts/state_dict_to_safetensors.py",
            self->name, tensor, type ? type : "of no type");
    size_t count = 1, bytes = 0;
    bool fits = true;
    for (int k = 0; k < rank; k++) fits = fits && !__builtin_mul_overflow(count, (size_t)shape[k], &count);
    fits = fits && !__builtin_mul_overflow(count, width, &bytes);
    const json_t *offsets = json_object_get(entry, "data_offsets");
    json_int_t begin = json_integer_value(json_array_get(offsets, 0)), end = json_integer_value(json_array_get(offsets, 1));
    size_t available = self->size - (size_t)(self->data - self->bytes);
    if (!fits || begin < 0 || end < begin || (size_t)end > available || (size_t)(end - begin) != bytes)
        return dag_reward_fail(error, DAG_REWARD_INVALID, "weights %s is truncated or damaged at %s", self->name, tensor);
    float *numbers = malloc(count * sizeof *numbers);
    if (!numbers) return dag_reward_fail(error, DAG_REWARD_MEMORY, "out of memory for %s", tensor);
    const uint8_t *source = self->data + begin;
    bool finite = true;
    for (size_t k = 0; k < count; k++) {
        uint16_t half;
        if (width == 4) memcpy(&numbers[k], source + 4 * k, sizeof *numbers);
        else memcpy(&half, source + 2 * k, sizeof half), numbers[k] = from_half(half);
        finite = finite && isfinite(numbers[k]);
    }
    if (!finite) {
        free(numbers);
        return dag_reward_fail(error, DAG_REWARD_INVALID, "weights %s: %s has numbers that are not finite", self->name, tensor);
    }
    json_object_del(self->header, tensor);
    *values = numbers;
    return DAG_REWARD_OK;
}
