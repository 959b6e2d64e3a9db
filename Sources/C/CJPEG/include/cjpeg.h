/// Reading of JPEG files. libjpeg reports errors by a longjmp, which Swift cannot catch.
#pragma once
#include <stdint.h>

/// Reads a JPEG file of any kind as RGB, [height, width, 3]. On failure returns NULL and writes one line of text to `message`.
/// The caller frees the result. `message` has room for 256 bytes.
uint8_t *dag_jpeg_read(const char *path, int *height, int *width, char *message);
