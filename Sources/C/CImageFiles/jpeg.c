#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

#include "cimagefiles.h"
#include "size.h"

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

/// A warning (level -1) says that data are corrupt or missing and made up; those about notes in the header do not.
static void warn(j_common_ptr codec, int level) {
    const int code = codec->err->msg_code;
    if (level < 0 && code != JWRN_JFIF_MAJOR && code != JWRN_ADOBE_XFORM) jump(codec);
}

/// Converts CMYK as Pillow does, with Adobe's convention that 255 is no ink.
static void convert_cmyk(const uint8_t *cmyk, uint8_t *rgb, size_t count) {
    for (size_t i = 0; i < count; i++, cmyk += 4) {
        for (int channel = 0; channel < 3; channel++) {
            const int product = (255 - cmyk[channel]) * cmyk[3] + 128;
            const int value = cmyk[3] - ((product + (product >> 8)) >> 8);
            *rgb++ = value < 0 ? 0 : (uint8_t)value;
        }
    }
}

uint8_t *dag_jpeg_decode(const uint8_t *bytes, size_t count, int *height, int *width, char *message) {
    struct jpeg_decompress_struct codec;
    jump_on_error error = {.message = message};
    uint8_t *volatile pixels = NULL;
    codec.err = jpeg_std_error(&error.base);
    error.base.error_exit = jump;
    error.base.emit_message = warn;
    if (setjmp(error.target)) {
        jpeg_destroy_decompress(&codec);
        free(pixels);
        return NULL;
    }
    jpeg_create_decompress(&codec);
    jpeg_mem_src(&codec, bytes, count);
    jpeg_read_header(&codec, TRUE);
    if (codec.num_components == 2 || codec.num_components > 4) {
        snprintf(message, 256, "it has %d colour channels; save it as grey, RGB or CMYK", codec.num_components);
        longjmp(error.target, 1);
    }
    codec.out_color_space = codec.num_components == 4 ? JCS_CMYK : JCS_RGB;
    // Huffman codes spend at least a bit on a block, arithmetic coding may spend less.
    size_t blocks = 0;
    for (int i = 0; i < codec.num_components && !codec.arith_code; i++)
        blocks += (size_t)codec.comp_info[i].width_in_blocks * codec.comp_info[i].height_in_blocks;
    pixels = dag_allocate(codec.image_height, codec.image_width, blocks / 8, count, message);
    if (!pixels) longjmp(error.target, 1);
    jpeg_start_decompress(&codec);
    *height = (int)codec.output_height;
    *width = (int)codec.output_width;
    const size_t row_bytes = (size_t)codec.output_width * 3;
    // Freed with the codec.
    JSAMPROW cmyk = NULL;
    if (codec.num_components == 4) cmyk = *codec.mem->alloc_sarray((j_common_ptr)&codec, JPOOL_IMAGE, codec.output_width * 4, 1);
    while (codec.output_scanline < codec.output_height) {
        JSAMPROW row = pixels + row_bytes * codec.output_scanline;
        jpeg_read_scanlines(&codec, cmyk ? &cmyk : &row, 1);
        if (cmyk) convert_cmyk(cmyk, row, codec.output_width);
    }
    jpeg_finish_decompress(&codec);
    jpeg_destroy_decompress(&codec);
    return pixels;
}

uint8_t *dag_jpeg_encode(const uint8_t *pixels, int height, int width, int quality, size_t *count, char *message) {
    struct jpeg_compress_struct codec = {0};
    jump_on_error error = {.message = message};
    unsigned char *volatile bytes = NULL;
    unsigned long length = 0;
    codec.err = jpeg_std_error(&error.base);
    error.base.error_exit = jump;
    if (setjmp(error.target)) {
        // Only now does `bytes` point to the buffer that has grown meanwhile.
        if (codec.dest) codec.dest->term_destination(&codec);
        jpeg_destroy_compress(&codec);
        free(bytes);
        return NULL;
    }
    jpeg_create_compress(&codec);
    jpeg_mem_dest(&codec, (unsigned char **)&bytes, &length);
    codec.image_height = (JDIMENSION)height;
    codec.image_width = (JDIMENSION)width;
    codec.input_components = 3;
    codec.in_color_space = JCS_RGB;
    jpeg_set_defaults(&codec);
    jpeg_set_quality(&codec, quality, TRUE);
    jpeg_start_compress(&codec, TRUE);
    while (codec.next_scanline < codec.image_height) {
        JSAMPROW row = (JSAMPROW)pixels + (size_t)codec.next_scanline * (size_t)width * 3;
        jpeg_write_scanlines(&codec, &row, 1);
    }
    jpeg_finish_compress(&codec);
    jpeg_destroy_compress(&codec);
    *count = length;
    return bytes;
}
