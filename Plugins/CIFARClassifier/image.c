#include "image.h"

#include <math.h>

static void axis_free(axis *self) {
    free(self->starts);
    free(self->counts);
    free(self->weights);
    *self = (axis){0};
}

static bool axis_make(axis *self, uint32_t inputs, uint32_t outputs) {
    double scale = (double)inputs / outputs, reach = scale > 1 ? scale : 1;
    *self = (axis){.taps = (uint32_t)(2 * reach) + 2};
    self->starts = malloc(outputs * sizeof *self->starts);
    self->counts = malloc(outputs * sizeof *self->counts);
    self->weights = malloc((size_t)outputs * self->taps * sizeof *self->weights);
    if (!self->starts || !self->counts || !self->weights) {
        axis_free(self);
        return false;
    }
    for (uint32_t k = 0; k < outputs; k++) {
        // Pixels j whose middle is less than `reach` away from the middle of k.
        double middle = scale * (k + 0.5), first = ceil(middle - 0.5 - reach), last = floor(middle - 0.5 + reach), sum = 0;
        uint32_t start = first < 0 ? 0 : (uint32_t)first, end = last > inputs - 1 ? inputs - 1 : (uint32_t)last;
        float *weights = self->weights + (size_t)k * self->taps;
        uint32_t count = 0;
        for (uint32_t j = start; j <= end; j++) {
            double weight = 1 - fabs(j + 0.5 - middle) / reach;
            if (weight <= 0 && count == 0) start = j + 1;
            if (weight <= 0) continue;
            weights[count++] = (float)weight;
            sum += weight;
        }
        for (uint32_t j = 0; j < count; j++) weights[j] /= (float)sum;
        self->starts[k] = start;
        self->counts[k] = count;
    }
    return true;
}

bool image_reader_prepare(image_reader *self, uint32_t height, uint32_t width) {
    if (height == self->height && width == self->width) return true;
    image_reader_free(self);
    if (!axis_make(&self->rows, height, self->side)) return false;
    if (!axis_make(&self->columns, width, self->side)) {
        axis_free(&self->rows);
        return false;
    }
    self->height = height;
    self->width = width;
    return true;
}

void image_reader_free(image_reader *self) {
    axis_free(&self->rows);
    axis_free(&self->columns);
    self->height = self->width = 0;
}

void image_read(const image_reader *self, const dag_reward_images *images, uint32_t n, float *line, float *target) {
    const uint32_t channels = self->channels, width = self->width;
    for (uint32_t y = 0; y < self->side; y++) {
        // The weighted sum of rows, from 0 to 255.
        memset(line, 0, (size_t)width * channels * sizeof *line);
        for (uint32_t j = 0; j < self->rows.counts[y]; j++) {
            float weight = self->rows.weights[(size_t)y * self->rows.taps + j];
            const uint8_t *row = dag_reward_pixel(images, n, self->rows.starts[y] + j, 0);
            if (channels == 3)
                for (size_t x = 0; x < (size_t)width * 3; x++) line[x] += weight * row[x];
            else
                for (size_t x = 0; x < width; x++)
                    line[x] += weight * (0.299f * row[3 * x] + 0.587f * row[3 * x + 1] + 0.114f * row[3 * x + 2]);
        }
        for (uint32_t x = 0; x < self->side; x++, target += channels) {
            const float *source = line + (size_t)self->columns.starts[x] * channels;
            const float *weights = self->columns.weights + (size_t)x * self->columns.taps;
            for (uint32_t c = 0; c < channels; c++) {
                float sum = 0;
                for (uint32_t j = 0; j < self->columns.counts[x]; j++) sum += weights[j] * source[j * channels + c];
                target[c] = (sum / 255 - self->mean[c]) / self->deviation[c];
            }
        }
    }
}
