// JPEG (in)compressibility: the size of an image's JPEG encoding in units of 1000 bytes, the reward of DDPO
// (Black et al. 2023, arXiv 2305.13301) and of DAG (Zhang et al. 2024, arXiv 2406.00633). Sizes equal those
// of Pillow's `image.save(file, "JPEG", quality=95)`.
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>

#include <jpeglib.h>

#include "dag_reward.h"

typedef struct encoder {
    int quality;
    int horizontal, vertical;  // sampling factors of the luma
} encoder;

// libjpeg reports errors by a callback that must not return; its default calls exit().
typedef struct jump_on_error {
    struct jpeg_error_mgr base;
    jmp_buf target;
    char message[JMSG_LENGTH_MAX];
} jump_on_error;

static void jump(j_common_ptr codec) {
    jump_on_error *error = (jump_on_error *)codec->err;
    error->base.format_message(codec, error->message);
    longjmp(error->target, 1);
}

static void ignore_message(j_common_ptr codec) { (void)codec; }

// A destination that counts bytes and discards them.
typedef struct byte_counter {
    struct jpeg_destination_mgr base;
    size_t flushed;
    JOCTET buffer[4096];
} byte_counter;

static void start_counting(j_compress_ptr codec) {
    byte_counter *counter = (byte_counter *)codec->dest;
    counter->flushed = 0;
    counter->base.next_output_byte = counter->buffer;
    counter->base.free_in_buffer = sizeof counter->buffer;
}

static boolean flush(j_compress_ptr codec) {
    byte_counter *counter = (byte_counter *)codec->dest;
    counter->flushed += sizeof counter->buffer;
    counter->base.next_output_byte = counter->buffer;
    counter->base.free_in_buffer = sizeof counter->buffer;
    return TRUE;
}

static void stop_counting(j_compress_ptr codec) {
    byte_counter *counter = (byte_counter *)codec->dest;
    counter->flushed += sizeof counter->buffer - counter->base.free_in_buffer;
}

// Returns the number of bytes of image n's encoding; 0, and a message, if libjpeg fails.
static size_t encoded_size(const encoder *self, const dag_reward_images *images, uint32_t n, dag_reward_error *error) {
    struct jpeg_compress_struct codec;
    jump_on_error failure;
    byte_counter counter = {.base = {.init_destination = start_counting, .empty_output_buffer = flush, .term_destination = stop_counting}};
    codec.err = jpeg_std_error(&failure.base);
    failure.base.error_exit = jump;
    failure.base.output_message = ignore_message;
    if (setjmp(failure.target)) {
        dag_reward_fail(error, DAG_REWARD_INTERNAL, "libjpeg: %s", failure.message);
        jpeg_destroy_compress(&codec);
        return 0;
    }
    jpeg_create_compress(&codec);
    codec.dest = &counter.base;
    codec.image_width = images->width;
    codec.image_height = images->height;
    codec.input_components = 3;
    codec.in_color_space = JCS_RGB;
    jpeg_set_defaults(&codec);
    jpeg_set_quality(&codec, self->quality, TRUE);
    codec.comp_info[0].h_samp_factor = self->horizontal;
    codec.comp_info[0].v_samp_factor = self->vertical;
    jpeg_start_compress(&codec, TRUE);
    while (codec.next_scanline < codec.image_height) {
        JSAMPROW row = (JSAMPROW)dag_reward_pixel(images, n, codec.next_scanline, 0);
        jpeg_write_scanlines(&codec, &row, 1);
    }
    jpeg_finish_compress(&codec);
    jpeg_destroy_compress(&codec);
    return counter.flushed;
}

static int32_t create(const dag_reward_host *host, const dag_reward_config *config, void **instance, dag_reward_error *error) {
    (void)host;
    double quality;
    int32_t status = dag_reward_number(config, "quality", 1, 100, &quality, error);
    if (status != DAG_REWARD_OK) return status;
    if (quality != (int)quality) return dag_reward_fail(error, DAG_REWARD_INVALID, "quality=%g is not a whole number", quality);
    const char *subsampling = dag_reward_value(config, "subsampling");
    bool half_width = strcmp(subsampling, "4:4:4") != 0, half_height = strcmp(subsampling, "4:2:0") == 0;
    if (half_width && !half_height && strcmp(subsampling, "4:2:2") != 0)
        return dag_reward_fail(error, DAG_REWARD_INVALID, "subsampling=%s is not one of 4:2:0, 4:2:2, 4:4:4", subsampling);
    encoder *self = malloc(sizeof *self);
    if (!self) return dag_reward_fail(error, DAG_REWARD_MEMORY, "out of memory");
    *self = (encoder){(int)quality, half_width ? 2 : 1, half_height ? 2 : 1};
    *instance = self;
    return DAG_REWARD_OK;
}

static int32_t score(void *instance, const dag_reward_batch *batch, const dag_reward_result *result, dag_reward_error *error) {
    for (uint32_t n = 0; n < batch->count; n++) {
        size_t size = encoded_size(instance, batch->images, n, error);
        float *scores = result->scores + (size_t)n * result->objective_count;
        if (size == 0) {
            result->statuses[n] = DAG_REWARD_INTERNAL;
            continue;
        }
        scores[0] = -(float)size / 1000;
        scores[1] = (float)size / 1000;
    }
    return DAG_REWARD_OK;
}

static const dag_reward_objective objectives[] = {
    {sizeof(dag_reward_objective), DAG_REWARD_MAXIMIZE, "compressibility", "minus the encoded size, in 1000 bytes"},
    {sizeof(dag_reward_objective), DAG_REWARD_MAXIMIZE, "incompressibility", "the encoded size, in 1000 bytes"},
};
static const dag_reward_option options[] = {
    {sizeof(dag_reward_option), 0, "quality", "95", "JPEG quality, 1 to 100"},
    {sizeof(dag_reward_option), 0, "subsampling", "4:2:0", "chroma subsampling: 4:2:0, 4:2:2 or 4:4:4"},
};
static const int32_t formats[] = {DAG_REWARD_U8_NHWC};
static const char *const devices[] = {"cpu"};
static const dag_reward_info info = {
    .struct_size = sizeof info,
    .flags = DAG_REWARD_DETERMINISTIC,
    .name = "jpeg_compressibility",
    .version = "1.0.0",
    .description = "size of the image's JPEG encoding",
    .license = "Apache-2.0",
    .source = "arXiv 2305.13301, arXiv 2406.00633",
    .objective_count = 2,
    .option_count = 2,
    .image_format_count = 1,
    .device_count = 1,
    .objectives = objectives,
    .options = options,
    .image_formats = formats,
    .devices = devices,
    .thread_mode = DAG_REWARD_CONCURRENT,
};
DAG_REWARD_PLUGIN(info, create, score, free, NULL)
