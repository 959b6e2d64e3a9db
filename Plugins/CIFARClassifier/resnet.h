// ResNets with basic blocks and the CIFAR stem (3x3 convolution, no max-pool), such as ResNet-18: He et al.
// 2015, arXiv 1512.03385. Activations are [image, row, column, channel], batch norm is folded into the
// convolutions, and a convolution is computed by im2col and a product.
#ifndef RESNET_H
#define RESNET_H

#include "blas.h"
#include "safetensors.h"

/// A square convolution that keeps the size, or halves it at stride 2.
typedef struct convolution {
    uint32_t inputs, outputs, kernel, stride;
    float *weights;  ///< [kernel, kernel, inputs, outputs]
    float *bias;     ///< [outputs], and a ReLU follows; NULL for neither
} convolution;

/// relu(second(relu(first(x))) + x), or + shortcut(x), whose bias is in second's.
typedef struct block {
    convolution first, second, shortcut;  ///< shortcut.weights may be NULL
} block;

typedef struct resnet {
    uint32_t channels, side, classes;  ///< of the input, which is square; of the output
    uint32_t features, block_count;
    convolution stem;
    block *blocks;
    float *head, *head_bias;  ///< [classes, features], [classes]
} resnet;

/// Builds the network from tensors with torchvision's names. Widths, blocks and classes are those of the
/// file, which must hold every tensor and no others. On failure there is nothing to free.
int32_t resnet_load(resnet *self, safetensors *file, uint32_t side, dag_reward_error *error);

void resnet_free(resnet *self);

/// Scratch memory for `capacity` images at a time.
typedef struct workspace {
    uint32_t capacity;
    float *activations[3];  ///< [capacity, floats of the largest activation]; the input goes into the first
    float *tile;
    float *features;  ///< [capacity, features]
    float *logits;    ///< [capacity, classes]
} workspace;

/// Returns false if memory is out.
bool workspace_make(workspace *self, const resnet *network);

void workspace_free(workspace *self);

/// Maps activations[0] `[count, side, side, channels]`, which
/// is overwritten, to `logits`. `count` is at most `capacity`.
void resnet_forward(const resnet *self, const blas *blas, workspace *space, uint32_t count);

#endif
