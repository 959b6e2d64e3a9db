#include "cjpeg.h"

#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

typedef struct jump_on_error {
    struct jpeg_error_mgr base;
    jmp_buf target;
    char *message;
} jump_on_error;

static void jump(j_common_ptr codec) {
    jump_on_error *error = (jump_on_error *)codec->err;
    char text[JMSG_LENGTH_MAX];
    error->base.format_message(codec, text);
    snprintf(error->message, 256, "%s", text);
    longjmp(error->target, 1);
}

static void ignore_message(j_common_ptr codec) { (void)codec; }

uint8_t *dag_jpeg_read(const char *path, int *height, int *width, char *message) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        snprintf(message, 256, "%s", strerror(errno));
        return NULL;
    }
    struct jpeg_decompress_struct codec;
    jump_on_error error = {.message = message};
    uint8_t *volatile pixels = NULL;
    codec.err = jpeg_std_error(&error.base);
    error.base.error_exit = jump;
    error.base.output_message = ignore_message;
    if (setjmp(error.target)) {
        jpeg_destroy_decompress(&codec);
        fclose(file);
        free(pixels);
        return NULL;
    }
    jpeg_create_decompress(&codec);
    jpeg_stdio_src(&codec, file);
    jpeg_read_header(&codec, TRUE);
    codec.out_color_space = JCS_RGB;  // libjpeg refuses CMYK, whose colours are ambiguous
    jpeg_start_decompress(&codec);
    *height = (int)codec.output_height;
    *width = (int)codec.output_width;
    const size_t row_bytes = (size_t)codec.output_width * 3;
    pixels = malloc(row_bytes * codec.output_height);
    if (!pixels) {
        snprintf(message, 256, "out of memory");
        longjmp(error.target, 1);
    }
    while (codec.output_scanline < codec.output_height) {
        JSAMPROW row = pixels + row_bytes * codec.output_scanline;
        jpeg_read_scanlines(&codec, &row, 1);
    }
    jpeg_finish_decompress(&codec);
    jpeg_destroy_decompress(&codec);
    fclose(file);
    return pixels;
}
