#include "resnet.h"

enum {
    TILE_FLOATS = 1 << 18,        // 1 MB: im2col's output stays in the second-level cache until the product has read it
    TILE_ROWS = 256,              // the minimum: a product reorders all its weights, which does not pay for fewer rows
    ACTIVATION_FLOATS = 1 << 21,  // 8 MB for the largest layer's output; as many images as fit are computed at once
    LARGEST_CAPACITY = 64,
};

static uint32_t output_side(const convolution *self, uint32_t side) { return (side - 1) / self->stride + 1; }

static size_t row_length(const convolution *self) { return (size_t)self->kernel * self->kernel * self->inputs; }

static size_t tile_rows(const convolution *self) {
    size_t rows = TILE_FLOATS / row_length(self);
    return rows < TILE_ROWS ? TILE_ROWS : rows;
}

// Writes the inputs of output pixels `first` to `end`, counted
// over all images: [end - first, kernel, kernel, inputs].
static void im2col(const convolution *self, const float *source, uint32_t side, size_t first, size_t end, float *tile) {
    const uint32_t out = output_side(self, side), kernel = self->kernel, inputs = self->inputs, border = kernel / 2;
    for (size_t pixel = first; pixel < end; pixel++) {
        const float *image = source + pixel / ((size_t)out * out) * side * side * inputs;
        uint32_t top = (uint32_t)(pixel / out % out) * self->stride, left = (uint32_t)(pixel % out) * self->stride;
        // Columns of the window that lie in the image.
        uint32_t from = left < border ? border - left : 0, to = left + kernel - border > side ? side - left + border : kernel;
        for (uint32_t k = 0; k < kernel; k++, tile += kernel * inputs) {
            if (top + k < border || top + k - border >= side) {
                memset(tile, 0, kernel * inputs * sizeof *tile);
                continue;
            }
            const float *row = image + ((size_t)(top + k - border) * side + left + from - border) * inputs;
            memset(tile, 0, from * inputs * sizeof *tile);
            memcpy(tile + from * inputs, row, (to - from) * inputs * sizeof *tile);
            memset(tile + to * inputs, 0, (kernel - to) * inputs * sizeof *tile);
        }
    }
}

static void add_bias_relu(float *restrict values, size_t rows, const float *restrict bias, size_t columns) {
    for (size_t row = 0; row < rows; row++, values += columns)
        for (size_t c = 0; c < columns; c++) {
            float value = values[c] + bias[c];
            values[c] = value > 0 ? value : 0;
        }
}

// Maps source [count, side, side, inputs] to target [count, side / stride, side / stride, outputs]; with
// `add`, adds the result to the target.
static void convolve(
    const convolution *self, const blas *blas, const float *source, uint32_t count, uint32_t side, float *tile, float *target, bool add) {
    size_t out = output_side(self, side), pixels = count * out * out, step = tile_rows(self), length = row_length(self);
    for (size_t first = 0; first < pixels; first += step) {
        size_t end = first + step < pixels ? first + step : pixels;
        float *values = target + first * self->outputs;
        im2col(self, source, side, first, end, tile);
        blas->sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)(end - first), (int)self->outputs, (int)length, 1, tile, (int)length,
            self->weights, (int)self->outputs, add ? 1 : 0, values, (int)self->outputs);
        if (self->bias) add_bias_relu(values, end - first, self->bias, self->outputs);
    }
}

static void mean_over_pixels(const float *source, uint32_t count, uint32_t pixels, uint32_t channels, float *target) {
    for (uint32_t n = 0; n < count; n++, target += channels) {
        memset(target, 0, channels * sizeof *target);
        for (uint32_t pixel = 0; pixel < pixels; pixel++, source += channels)
            for (uint32_t c = 0; c < channels; c++) target[c] += source[c];
        for (uint32_t c = 0; c < channels; c++) target[c] /= (float)pixels;
    }
}

void resnet_forward(const resnet *self, const blas *blas, workspace *space, uint32_t count) {
    float *spare = space->activations[0], *x = space->activations[1], *other = space->activations[2];
    uint32_t side = self->side;
    convolve(&self->stem, blas, spare, count, side, space->tile, x, false);
    for (uint32_t k = 0; k < self->block_count; k++) {
        const block *block = &self->blocks[k];
        convolve(&block->first, blas, x, count, side, space->tile, spare, false);
        if (block->shortcut.weights) {
            convolve(&block->shortcut, blas, x, count, side, space->tile, other, false);
            float *swap = x;
            x = other;
            other = swap;
        }
        side = output_side(&block->first, side);
        convolve(&block->second, blas, spare, count, side, space->tile, x, true);
    }
    mean_over_pixels(x, count, side * side, self->features, space->features);
    for (uint32_t n = 0; n < count; n++) memcpy(space->logits + (size_t)n * self->classes, self->head_bias, self->classes * sizeof(float));
    blas->sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)count, (int)self->classes, (int)self->features, 1, space->features,
        (int)self->features, self->head, (int)self->features, 1, space->logits, (int)self->classes);
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

// Finds the numbers of floats of an image's largest activation and of the largest tile, over all layers.
static void measure(const resnet *self, size_t *activation, size_t *tile) {
    size_t side = self->side;
    *activation = side * side * larger(self->channels, self->stem.outputs);
    *tile = tile_rows(&self->stem) * row_length(&self->stem);
    for (uint32_t k = 0; k < self->block_count; k++) {
        const block *block = &self->blocks[k];
        side = output_side(&block->first, (uint32_t)side);
        *activation = larger(*activation, side * side * block->first.outputs);
        *tile = larger(*tile, tile_rows(&block->first) * row_length(&block->first));
        *tile = larger(*tile, tile_rows(&block->second) * row_length(&block->second));
        if (block->shortcut.weights) *tile = larger(*tile, tile_rows(&block->shortcut) * row_length(&block->shortcut));
    }
}

bool workspace_make(workspace *self, const resnet *network) {
    size_t activation, tile;
    measure(network, &activation, &tile);
    size_t fit = ACTIVATION_FLOATS / activation;
    *self = (workspace){.capacity = fit < 1 ? 1 : fit > LARGEST_CAPACITY ? LARGEST_CAPACITY : (uint32_t)fit};
    bool made = true;
    for (int k = 0; k < 3; k++) {
        self->activations[k] = malloc(self->capacity * activation * sizeof(float));
        made = made && self->activations[k];
    }
    self->tile = malloc(tile * sizeof(float));
    self->features = malloc((size_t)self->capacity * network->features * sizeof(float));
    self->logits = malloc((size_t)self->capacity * network->classes * sizeof(float));
    made = made && self->tile && self->features && self->logits;
    if (!made) workspace_free(self);
    return made;
}

void workspace_free(workspace *self) {
    for (int k = 0; k < 3; k++) free(self->activations[k]);
    free(self->tile);
    free(self->features);
    free(self->logits);
    *self = (workspace){0};
}
