// Python's pickles, as far as the servers of flow_grpo use them: dictionaries, lists, texts, bytes, numbers.
#pragma once
#include <jansson.h>

#include "bytes.h"

// Writing, protocol 3. Containers are opened, filled and closed: pickle_open_list, values, pickle_close_list.
void pickle_begin(bytes *self);
void pickle_end(bytes *self);
void pickle_open_dictionary(bytes *self);
void pickle_close_dictionary(bytes *self);
void pickle_open_list(bytes *self);
void pickle_close_list(bytes *self);
void pickle_add_text(bytes *self, const char *text, size_t size);
void pickle_add_bytes(bytes *self, const uint8_t *data, size_t size);
void pickle_add_json(bytes *self, const json_t *value);

// Reads a pickle as the JSON that has the same values; bytes become null. Runs nothing: a pickle with objects of other kinds, such as
// numpy's, is refused. Returns NULL and a reason, which is static, on failure.
json_t *pickle_read(const uint8_t *data, size_t size, const char **reason);
