// Conversion of the host's images to a network's input.
#ifndef IMAGE_H
#define IMAGE_H

#include <stdbool.h>

#include "dag_reward.h"

/// One axis of a resize: output k is the sum over j <
/// counts[k] of weights[k * taps + j] * input[starts[k] + j].
typedef struct axis {
    uint32_t taps;
    uint32_t *starts, *counts;
    float *weights;
} axis;

/// Makes network inputs from images of one size.
///
/// Values are (v / 255 - mean) / deviation for each channel; a network of one channel gets the luma 0.299 r +
/// 0.587 g + 0.114 b. Images of another size are resized, both axes independently, by a triangle filter that
/// widens with the scale when an image shrinks: torchvision's Resize(antialias=True), PIL's BILINEAR, without
/// rounding to bytes in between.
typedef struct image_reader {
    uint32_t side, channels;  ///< of the network's input
    float mean[3], deviation[3];
    uint32_t height, width;  ///< of the images; 0 before the first
    axis rows, columns;
} image_reader;

/// Prepares for images of a size; does nothing if the last ones had the same. Returns false if memory is out.
bool image_reader_prepare(image_reader *self, uint32_t height, uint32_t width);

/// Writes image `n` to `target` [side, side, channels]. `line` has room for [width, 3].
void image_read(const image_reader *self, const dag_reward_images *images, uint32_t n, float *line, float *target);

void image_reader_free(image_reader *self);

#endif
