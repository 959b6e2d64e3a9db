#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

#include "cimagefiles.h"
#include "size.h"

typedef struct reader {
    const uint8_t *bytes;
    size_t left;
    char *message;
    /// Set once the header is read: from there on a warning is about the pixels.
    int at_pixels;
} reader;

static void fail(png_structp png, png_const_charp text) {
    snprintf(((reader *)png_get_error_ptr(png))->message, 256, "%s", text);
    png_longjmp(png, 1);
}

/// Data after the last pixel are no fault of the pixels.
static void warn(png_structp png, png_const_charp text) {
    const reader *input = png_get_error_ptr(png);
    if (input->at_pixels && !strstr(text, "Too much image data") && !strstr(text, "Extra compressed data")) fail(png, text);
}

static void read_bytes(png_structp png, png_bytep target, size_t count) {
    reader *input = png_get_io_ptr(png);
    if (count > input->left) png_error(png, "it is cut short");
    memcpy(target, input->bytes, count);
    input->bytes += count;
    input->left -= count;
}

/// Expands a row in place, from its end: Pillow's colours of a palette, and its rule for 16-bit grey, which clips.
static void expand(uint8_t *row, size_t width, const png_color *palette) {
    for (size_t x = width; x-- > 0;) {
        const uint8_t grey = palette || !row[2 * x] ? row[palette ? x : 2 * x + 1] : 255;
        const png_color colour = palette ? palette[row[x]] : (png_color){grey, grey, grey};
        memcpy(row + 3 * x, &colour, 3);
    }
}

uint8_t *dag_png_decode(const uint8_t *bytes, size_t count, int *height, int *width, char *message) {
    reader input = {bytes, count, message, 0};
    uint8_t *volatile pixels = NULL;
    png_bytep *volatile rows = NULL;
    png_infop info = NULL;
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &input, fail, warn);
    if (!png || !(info = png_create_info_struct(png))) {
        png_destroy_read_struct(&png, NULL, NULL);
        snprintf(message, 256, "out of memory");
        return NULL;
    }
    if (setjmp(png_jmpbuf(png))) {
        png_destroy_read_struct(&png, &info, NULL);
        free(rows);
        free(pixels);
        return NULL;
    }
    png_set_read_fn(png, &input, read_bytes);
    png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);  // gAMA and others: Pillow does not apply them
    png_read_info(png, info);
    const png_uint_32 rows_count = png_get_image_height(png, info);
    const png_uint_32 columns = png_get_image_width(png, info);
    const int kind = png_get_color_type(png, info);
    const int is_deep_grey = kind == PNG_COLOR_TYPE_GRAY && png_get_bit_depth(png, info) == 16;
    // zlib makes a byte of at most 1032.
    const size_t least_bytes = (size_t)((double)rows_count * (double)(png_get_rowbytes(png, info) + 1) / 1032);
    pixels = dag_allocate(rows_count, columns, least_bytes, count, message);
    if (!pixels) png_longjmp(png, 1);
    if (!(rows = malloc(rows_count * sizeof *rows))) png_error(png, "out of memory");
    for (png_uint_32 y = 0; y < rows_count; y++) rows[y] = pixels + (size_t)y * columns * 3;
    png_color palette[256] = {{0, 0, 0}};
    if (kind == PNG_COLOR_TYPE_PALETTE) {
        png_colorp colours;
        int colour_count = 0;
        png_get_PLTE(png, info, &colours, &colour_count);
        memcpy(palette, colours, (size_t)colour_count * sizeof *palette);
        png_set_packing(png);
    } else if (!is_deep_grey) {
        png_set_expand_gray_1_2_4_to_8(png);
        png_set_strip_16(png);
        png_set_strip_alpha(png);
        png_set_gray_to_rgb(png);
    }
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    input.at_pixels = 1;
    png_read_image(png, rows);
    if (kind == PNG_COLOR_TYPE_PALETTE || is_deep_grey) {
        for (png_uint_32 y = 0; y < rows_count; y++) expand(rows[y], columns, is_deep_grey ? NULL : palette);
    }
    png_destroy_read_struct(&png, &info, NULL);
    free(rows);
    *height = (int)rows_count;
    *width = (int)columns;
    return pixels;
}
