// From the host's pictures to a network's input.
#ifndef PICTURE_H
#define PICTURE_H

#include <stdbool.h>

#include "dag_reward.h"

/// One axis of a resize: output k is the sum over j < counts[k] of weights[k * taps + j] * input[starts[k] + j].
typedef struct axis {
    uint32_t taps;
    uint32_t *starts, *counts;
    float *weights;
} axis;

/// Makes network inputs out of pictures of one size.
///
/// Values are (v / 255 - mean) / deviation by channel; a network of one channel gets the luma 0.299 r + 0.587 g + 0.114 b. Another
/// size than the network's is resized to it, both axes independently, by a triangle filter that widens with the scale when a picture
/// shrinks: torchvision's Resize(antialias=True), PIL's BILINEAR, without rounding to bytes in between. An equal size is left alone.
typedef struct picture_reader {
    uint32_t side, channels;  ///< of the network's input
    float mean[3], deviation[3];
    uint32_t height, width;  ///< of the pictures; 0 before the first
    axis rows, columns;
} picture_reader;

/// Sets up for pictures of a size; does nothing if it is the same as before. False if there is not enough memory.
bool picture_reader_prepare(picture_reader *self, uint32_t height, uint32_t width);

/// Writes picture `n` to `target` [side, side, channels]. `line` has room for [width, 3].
void picture_read(const picture_reader *self, const dag_reward_images *images, uint32_t n, float *line, float *target);

void picture_reader_free(picture_reader *self);

#endif
