// Bytes that grow. A failed allocation sticks: later additions do nothing, and `failed` says so at the end.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct bytes {
    uint8_t *data;
    size_t size, capacity;
    bool failed;
} bytes;

void bytes_add(bytes *self, const void *data, size_t size);
void bytes_add_text(bytes *self, const char *text);
void bytes_free(bytes *self);
// Adds base64 (RFC 4648, with padding).
void bytes_add_base64(bytes *self, const uint8_t *data, size_t size);
