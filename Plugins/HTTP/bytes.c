#include "bytes.h"

#include <stdlib.h>
#include <string.h>

void bytes_add(bytes *self, const void *data, size_t size) {
    if (self->failed) return;
    if (size > self->capacity - self->size) {
        size_t capacity = self->capacity * 2 > self->size + size ? self->capacity * 2 : self->size + size;
        uint8_t *grown = realloc(self->data, capacity);
        if (!grown) {
            self->failed = true;
            return;
        }
        self->data = grown;
        self->capacity = capacity;
    }
    if (size > 0) memcpy(self->data + self->size, data, size);
    self->size += size;
}

void bytes_add_text(bytes *self, const char *text) { bytes_add(self, text, strlen(text)); }

void bytes_free(bytes *self) {
    free(self->data);
    *self = (bytes){0};
}

void bytes_add_base64(bytes *self, const uint8_t *data, size_t size) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t k = 0; k < size; k += 3) {
        size_t left = size - k;
        uint32_t group = (uint32_t)data[k] << 16 | (left > 1 ? (uint32_t)data[k + 1] << 8 : 0) | (left > 2 ? data[k + 2] : 0);
        char text[4] = {digits[group >> 18], digits[group >> 12 & 63], digits[group >> 6 & 63], digits[group & 63]};
        if (left < 3) text[3] = '=';
        if (left < 2) text[2] = '=';
        bytes_add(self, text, 4);
    }
}
