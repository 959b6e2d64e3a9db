#pragma once
#include <stddef.h>
#include <stdint.h>

/// Allocates RGB pixels of a declared size, once it is held against the fixed bound and against the bytes that the file would need at
/// the least. On failure returns NULL and writes one line of text to `message`.
uint8_t *dag_allocate(size_t height, size_t width, size_t least_bytes, size_t file_bytes, char *message);
