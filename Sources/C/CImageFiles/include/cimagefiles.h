/// Decoders of PNG and JPEG files, and an encoder of JPEG. The decoders give the sample values that Pillow's `Image.open(file).convert("RGB")` has, without colour management.
/// libpng and libjpeg report errors by a longjmp, which Swift cannot catch.
#pragma once
#include <stddef.h>
#include <stdint.h>

/// The most pixels that an image may declare, as in Pillow.
#define DAG_MOST_PIXELS 178956970

/// Decodes a file's bytes as RGB, [height, width, 3]. On failure returns NULL and writes one line of text to `message`, which has
/// room for 256 bytes. The caller frees the result.
uint8_t *dag_png_decode(const uint8_t *bytes, size_t count, int *height, int *width, char *message);
uint8_t *dag_jpeg_decode(const uint8_t *bytes, size_t count, int *height, int *width, char *message);

/// Encodes RGB pixels, [height, width, 3], as a JPEG file of a quality from 1 to 100. On failure returns NULL and writes one line of
/// text to `message`, which has room for 256 bytes. The caller frees the result, of `count` bytes.
uint8_t *dag_jpeg_encode(const uint8_t *pixels, int height, int width, int quality, size_t *count, char *message);
