/// Reading of JPEG files. libjpeg reports errors by a longjmp, which Swift cannot catch.
#pragma once
#include <stdint.h>

/// Reads a gray or colour JPEG file as RGB, [height, width, 3]. Returns NULL, and a line of text in
/// `message`, if the file cannot be read. The caller frees the result. `message` has room for 256 bytes.
uint8_t *dag_jpeg_read(const char *path, int *height, int *width, char *message);
