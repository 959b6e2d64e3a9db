#include "resnet.h"

#include <math.h>

// The eps of torch.nn.BatchNorm2d.
static const float epsilon = 1e-5f;

static void convolution_free(convolution *self) {
    free(self->weights);
    free(self->bias);
}

void resnet_free(resnet *self) {
    convolution_free(&self->stem);
    for (uint32_t k = 0; k < self->block_count; k++) {
        convolution_free(&self->blocks[k].first);
        convolution_free(&self->blocks[k].second);
        convolution_free(&self->blocks[k].shortcut);
    }
    free(self->blocks);
    free(self->head);
    free(self->head_bias);
    *self = (resnet){0};
}

// Batch norm after training, for each channel: x * scale + shift.
typedef struct affine {
    float *scale, *shift;
} affine;

static int32_t load_norm(affine *self, safetensors *file, const char *prefix, uint32_t channels, dag_reward_error *error) {
    static const char *const parts[] = {"weight", "bias", "running_mean", "running_var"};
    float *values[4] = {NULL};
    int32_t status = DAG_REWARD_OK;
    for (int k = 0; k < 4 && status == DAG_REWARD_OK; k++) {
        char name[96];
        snprintf(name, sizeof name, "%s.%s", prefix, parts[k]);
        status = safetensors_take(file, name, &channels, 1, &values[k], error);
    }
    for (uint32_t c = 0; c < channels && status == DAG_REWARD_OK; c++) {
        if (values[3][c] < 0) status = dag_reward_fail(error, DAG_REWARD_INVALID, "%s.running_var has negative numbers", prefix);
        values[0][c] /= sqrtf(values[3][c] + epsilon);
        values[1][c] -= values[2][c] * values[0][c];
    }
    free(values[2]);
    free(values[3]);
    if (status != DAG_REWARD_OK) {
        free(values[0]);
        free(values[1]);
        return status;
    }
    *self = (affine){values[0], values[1]};
    return DAG_REWARD_OK;
}

// Reads a convolution and the batch norm behind it. `inputs` may be 0 for any number. After a failure, `self`
// holds memory that was allocated before it.
static int32_t load_convolution(convolution *self, safetensors *file, const char *prefix, const char *name, const char *norm_name,
    uint32_t inputs, uint32_t kernel, uint32_t stride, dag_reward_error *error) {
    char full[64];
    uint32_t shape[4] = {0, inputs, kernel, kernel};
    float *stored;
    snprintf(full, sizeof full, "%s%s.weight", prefix, name);
    int32_t status = safetensors_take(file, full, shape, 4, &stored, error);
    if (status != DAG_REWARD_OK) return status;
    *self = (convolution){.inputs = shape[1], .outputs = shape[0], .kernel = kernel, .stride = stride};
    affine norm;
    snprintf(full, sizeof full, "%s%s", prefix, norm_name);
    status = load_norm(&norm, file, full, self->outputs, error);
    if (status != DAG_REWARD_OK) {
        free(stored);
        return status;
    }
    size_t rows = (size_t)kernel * kernel * self->inputs;
    self->bias = norm.shift;
    self->weights = malloc(rows * self->outputs * sizeof(float));
    // [outputs, inputs, kernel, kernel] to [kernel, kernel, inputs, outputs].
    for (size_t o = 0; o < self->outputs && self->weights; o++)
        for (size_t i = 0; i < self->inputs; i++)
            for (size_t k = 0; k < (size_t)kernel * kernel; k++)
                self->weights[(k * self->inputs + i) * self->outputs + o] =
                    norm.scale[o] * stored[(o * self->inputs + i) * kernel * kernel + k];
    free(norm.scale);
    free(stored);
    return self->weights ? DAG_REWARD_OK : dag_reward_fail(error, DAG_REWARD_MEMORY, "out of memory for %s%s", prefix, name);
}

// Reads block `index` of stage `stage`, numbered as in the names of the tensors.
static int32_t load_block(block *self, safetensors *file, uint32_t stage, uint32_t index, uint32_t inputs, dag_reward_error *error) {
    char prefix[32], shortcut[64];
    snprintf(prefix, sizeof prefix, "layer%u.%u.", stage, index);
    snprintf(shortcut, sizeof shortcut, "%sdownsample.0.weight", prefix);
    uint32_t stride = stage > 1 && index == 0 ? 2 : 1;
    *self = (block){0};
    int32_t status = load_convolution(&self->first, file, prefix, "conv1", "bn1", inputs, 3, stride, error);
    if (status != DAG_REWARD_OK) return status;
    uint32_t width = self->first.outputs;
    status = load_convolution(&self->second, file, prefix, "conv2", "bn2", width, 3, 1, error);
    if (status != DAG_REWARD_OK) return status;
    if (self->second.outputs != width)
        return dag_reward_fail(error, DAG_REWARD_INVALID, "weights %s: %sconv2 makes %u channels out of %u, a basic block as many",
            file->name, prefix, self->second.outputs, width);
    if (stride == 1 && inputs == width && !safetensors_has(file, shortcut)) return DAG_REWARD_OK;
    status = load_convolution(&self->shortcut, file, prefix, "downsample.0", "downsample.1", inputs, 1, stride, error);
    if (status != DAG_REWARD_OK) return status;
    if (self->shortcut.outputs != width)
        return dag_reward_fail(error, DAG_REWARD_INVALID, "weights %s: %sdownsample makes %u channels where %u are needed", file->name,
            prefix, self->shortcut.outputs, width);
    for (uint32_t c = 0; c < width; c++) self->second.bias[c] += self->shortcut.bias[c];
    free(self->shortcut.bias);
    self->shortcut.bias = NULL;
    return DAG_REWARD_OK;
}

// Reads all blocks of the file.
static int32_t load_blocks(resnet *self, safetensors *file, uint32_t channels, dag_reward_error *error) {
    for (uint32_t stage = 1, index = 0;;) {
        char name[64];
        snprintf(name, sizeof name, "layer%u.%u.conv1.weight", stage, index);
        if (!safetensors_has(file, name)) {
            self->features = channels;
            if (index == 0) return DAG_REWARD_OK;
            stage++;
            index = 0;
            continue;
        }
        block *blocks = realloc(self->blocks, (self->block_count + 1) * sizeof *blocks);
        if (!blocks) return dag_reward_fail(error, DAG_REWARD_MEMORY, "out of memory");
        self->blocks = blocks;
        int32_t status = load_block(&blocks[self->block_count++], file, stage, index++, channels, error);
        if (status != DAG_REWARD_OK) return status;
        channels = blocks[self->block_count - 1].first.outputs;
    }
}

static int32_t load(resnet *self, safetensors *file, dag_reward_error *error) {
    int32_t status = load_convolution(&self->stem, file, "", "conv1", "bn1", 0, 3, 1, error);
    if (status != DAG_REWARD_OK) return status;
    self->channels = self->stem.inputs;
    if (self->channels != 1 && self->channels != 3)
        return dag_reward_fail(error, DAG_REWARD_INVALID,
            "weights %s take images of %u channels; only 1 (gray) and 3 (red, green, blue) "
            "are supported",
            file->name, self->channels);
    status = load_blocks(self, file, self->stem.outputs, error);
    if (status != DAG_REWARD_OK) return status;
    uint32_t shape[2] = {0, self->features};
    status = safetensors_take(file, "fc.weight", shape, 2, &self->head, error);
    if (status != DAG_REWARD_OK) return status;
    self->classes = shape[0];
    status = safetensors_take(file, "fc.bias", &shape[0], 1, &self->head_bias, error);
    if (status != DAG_REWARD_OK) return status;
    const char *rest = safetensors_rest(file);
    if (rest)
        return dag_reward_fail(error, DAG_REWARD_INVALID,
            "weights %s have a tensor %s, which no ResNet with basic blocks has after %u "
            "blocks",
            file->name, rest, self->block_count);
    return DAG_REWARD_OK;
}

int32_t resnet_load(resnet *self, safetensors *file, uint32_t side, dag_reward_error *error) {
    *self = (resnet){.side = side};
    int32_t status = load(self, file, error);
    if (status != DAG_REWARD_OK) resnet_free(self);
    return status;
}
