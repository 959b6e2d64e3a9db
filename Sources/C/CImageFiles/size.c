#include "size.h"

#include <stdio.h>
#include <stdlib.h>

#include "cimagefiles.h"

uint8_t *dag_allocate(size_t height, size_t width, size_t least_bytes, size_t file_bytes, char *message) {
    uint8_t *pixels = NULL;
    if (height > DAG_MOST_PIXELS / width) {
        snprintf(message, 256, "it declares %zu x %zu pixels, more than %d in all", width, height, DAG_MOST_PIXELS);
    } else if (least_bytes > file_bytes) {
        snprintf(message, 256, "it declares %zu x %zu pixels, which %zu bytes cannot hold", width, height, file_bytes);
    } else if (!(pixels = malloc(height * width * 3))) {
        snprintf(message, 256, "out of memory");
    }
    return pixels;
}
