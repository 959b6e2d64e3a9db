// Reads tensors from safetensors (https://github.com/huggingface/safetensors):
// 8 bytes of header size, a JSON header, data.
#ifndef SAFETENSORS_H
#define SAFETENSORS_H

#include <jansson.h>
#include <stdbool.h>

#include "dag_reward.h"

typedef struct safetensors {
    const char *name;      ///< for messages
    const uint8_t *bytes;  ///< the whole file
    size_t size;
    uint8_t *owned;       ///< the bytes, or NULL if they are the caller's
    const uint8_t *data;  ///< behind the header
    json_t *header;       ///< tensors that were taken are removed
} safetensors;

/// Reads a file. `path` is borrowed.
int32_t safetensors_read(safetensors *self, const char *path, dag_reward_error *error);

/// Reads a file's bytes. `name` and `bytes` are borrowed.
int32_t safetensors_parse(safetensors *self, const char *name, const uint8_t *bytes, size_t size, dag_reward_error *error);

/// Returns a text of the metadata, or NULL.
const char *safetensors_metadata(const safetensors *self, const char *key);

/// Returns whether there is such a tensor that was not taken yet.
bool safetensors_has(const safetensors *self, const char *tensor);

/// Takes a tensor of F32 or F16 as floats, which the caller frees. `shape` [rank] is the expected shape; a 0
/// in it stands for any size and is replaced by the stored one.
int32_t safetensors_take(safetensors *self, const char *tensor, uint32_t *shape, int rank, float **values, dag_reward_error *error);

/// Returns the name of a tensor that was not taken, or NULL.
const char *safetensors_rest(const safetensors *self);

void safetensors_close(safetensors *self);

#endif
