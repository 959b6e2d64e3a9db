// The libtorch calls that the Swift side uses, as C functions.
//
// A `ct_tensor` is an owned reference (+1) to a tensor. Every function that returns one
// hands the reference to the caller, who gives it back with ct_release. Arguments are
// borrowed. No function throws or aborts: a function that fails returns an undefined
// tensor (or zero), and the first error of a thread is kept until ct_take_error reads it.
#ifndef CTORCH_H
#define CTORCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma clang assume_nonnull begin

typedef struct ct_tensor_impl *ct_tensor;
typedef struct ct_generator_impl *ct_generator;
typedef struct ct_store_impl *ct_store;
typedef struct ct_group_impl *ct_group;

// Codes of c10::ScalarType.
enum { CT_UINT8 = 0, CT_INT32 = 3, CT_INT64 = 4, CT_FLOAT16 = 5, CT_FLOAT32 = 6, CT_FLOAT64 = 7, CT_BOOL = 11, CT_BFLOAT16 = 15 };
enum { CT_CPU = 0, CT_CUDA = 1 };

// Errors, references, runtime -------------------------------------------------------------------------------
// The first error since the last call on this thread, or null. The caller frees it with free().
char *_Nullable ct_take_error(void);
void ct_release(ct_tensor t);
// Another reference to the same tensor.
ct_tensor ct_retain(ct_tensor t);
const char *ct_version(void);
void ct_set_threads(int n);
int ct_threads(void);
// Whether libtorch_cuda is installed; it is not loaded.
bool ct_has_cuda_library(void);
// Loads libtorch_cuda if it is installed. Returns whether a CUDA device can be used.
bool ct_cuda_available(void);
// The most memory of the CUDA device that was taken since ct_cuda_reset_peak_memory, and all that there is, bytes.
void ct_cuda_memory(int64_t *peak, int64_t *total);
// Gives back what is not in use, and forgets the most.
void ct_cuda_reset_peak_memory(void);
// Sets the thread's gradient mode and returns the previous one.
bool ct_set_grad_enabled(bool on);

// Random numbers (torch.Generator on the CPU) ---------------------------------------------------------------
ct_generator _Nullable ct_generator_new(uint64_t seed);
void ct_generator_free(ct_generator g);

// Creation --------------------------------------------------------------------------------------------------
ct_tensor ct_full(const int64_t *sizes, size_t rank, double value, int dtype, int device);
ct_tensor ct_randn(const int64_t *sizes, size_t rank, ct_generator g);
ct_tensor ct_rand(const int64_t *sizes, size_t rank, ct_generator g);
ct_tensor ct_arange(int64_t end, int device);
ct_tensor ct_linspace(double start, double end, int64_t count);
// Copies `bytes` bytes of packed row-major data.
ct_tensor ct_from_data(const void *data, size_t bytes, const int64_t *sizes, size_t rank, int dtype);
// Borrows memory. `release(context)` is called when the last tensor that uses it is gone.
ct_tensor ct_from_memory(void *data, const int64_t *sizes, size_t rank, int dtype, void (*release)(void *), void *context);

// Reading ---------------------------------------------------------------------------------------------------
bool ct_defined(ct_tensor t);
size_t ct_rank(ct_tensor t);
int64_t ct_size(ct_tensor t, size_t dim);
int ct_dtype(ct_tensor t);
int ct_device(ct_tensor t);
// Copies the tensor, packed row-major, into `out`; false (and an error) if `bytes` is not its size.
bool ct_copy_out(ct_tensor t, void *out, size_t bytes);
double ct_item(ct_tensor t);

// Element by element -----------------------------------------------------------------------------------------------------------------
// clang-format off
#define CT_UNARY(name) ct_tensor ct_##name(ct_tensor t);
CT_UNARY(neg) CT_UNARY(exp) CT_UNARY(log) CT_UNARY(sqrt) CT_UNARY(square) CT_UNARY(abs) CT_UNARY(round) CT_UNARY(silu) CT_UNARY(gelu)
CT_UNARY(sigmoid) CT_UNARY(softplus) CT_UNARY(tanh) CT_UNARY(sin) CT_UNARY(cos) CT_UNARY(detach) CT_UNARY(clone)
CT_UNARY(contiguous) CT_UNARY(channels_last) CT_UNARY(sum_all) CT_UNARY(mean_all)
#define CT_BINARY(name) ct_tensor ct_##name(ct_tensor a, ct_tensor b);
CT_BINARY(add) CT_BINARY(sub) CT_BINARY(mul) CT_BINARY(div) CT_BINARY(maximum) CT_BINARY(minimum) CT_BINARY(matmul) CT_BINARY(copy_) CT_BINARY(embedding)
// clang-format on
ct_tensor ct_add_scalar(ct_tensor t, double value);
ct_tensor ct_mul_scalar(ct_tensor t, double value);
ct_tensor ct_rsub_scalar(ct_tensor t, double value);
ct_tensor ct_clamp(ct_tensor t, double low, double high);

// Reductions ------------------------------------------------------------------------------------------------
ct_tensor ct_sum(ct_tensor t, const int64_t *dims, size_t count, bool keep);
ct_tensor ct_mean(ct_tensor t, const int64_t *dims, size_t count, bool keep);
ct_tensor ct_cumprod(ct_tensor t, int64_t dim);

// Shape -----------------------------------------------------------------------------------------------------
ct_tensor ct_reshape(ct_tensor t, const int64_t *sizes, size_t rank);
ct_tensor ct_expand(ct_tensor t, const int64_t *sizes, size_t rank);
ct_tensor ct_permute(ct_tensor t, const int64_t *dims, size_t rank);
ct_tensor ct_transpose(ct_tensor t, int64_t a, int64_t b);
ct_tensor ct_unsqueeze(ct_tensor t, int64_t dim);
ct_tensor ct_squeeze(ct_tensor t, int64_t dim);
ct_tensor ct_narrow(ct_tensor t, int64_t dim, int64_t start, int64_t length);
// Contiguous in the memory format of `other`.
ct_tensor ct_contiguous_like(ct_tensor t, ct_tensor other);
ct_tensor ct_select(ct_tensor t, int64_t dim, int64_t index);
ct_tensor ct_index_select(ct_tensor t, int64_t dim, ct_tensor indices);
ct_tensor ct_cat(const ct_tensor _Nonnull *_Nonnull list, size_t count, int64_t dim);
ct_tensor ct_stack(const ct_tensor _Nonnull *_Nonnull list, size_t count, int64_t dim);
ct_tensor ct_pad(ct_tensor t, const int64_t *pads, size_t count);
ct_tensor ct_to(ct_tensor t, int dtype, int device);

// Networks --------------------------------------------------------------------------------------------------
ct_tensor ct_linear(ct_tensor x, ct_tensor weight, ct_tensor _Nullable bias);
// x W^T + bias + scale (x A^T) B^T, where A [rank, in] and B [out, rank] have x's type.
ct_tensor ct_linear_lora(ct_tensor x, ct_tensor weight, ct_tensor _Nullable bias, ct_tensor a, ct_tensor b, double scale);
ct_tensor ct_conv2d(ct_tensor x, ct_tensor weight, ct_tensor _Nullable bias, int64_t stride, int64_t padding);
ct_tensor ct_group_norm(ct_tensor x, int64_t groups, ct_tensor weight, ct_tensor bias, double eps);
// The same, made of other operations, for x in the channels-last format, which the result has too.
ct_tensor ct_group_norm_channels_last(ct_tensor x, int64_t groups, ct_tensor weight, ct_tensor bias, double eps);
ct_tensor ct_layer_norm(ct_tensor x, ct_tensor weight, ct_tensor bias, double eps);
// Queries, keys, values [B, heads, L, D].
ct_tensor ct_attention(ct_tensor q, ct_tensor k, ct_tensor v, bool causal);
ct_tensor ct_upsample_nearest(ct_tensor x, int64_t height, int64_t width);
ct_tensor ct_resize_bicubic(ct_tensor x, int64_t height, int64_t width, bool antialias);
ct_tensor ct_matrix_square_root(ct_tensor x);
// A contiguous view of the elements of `base`, copied if
// need be. A view that reaches beyond them is an error.
ct_tensor ct_as_strided(ct_tensor base, const int64_t *sizes, const int64_t *strides, int rank, int64_t offset);

// Gradients -------------------------------------------------------------------------------------------------
void ct_set_requires_grad(ct_tensor t, bool on);
bool ct_requires_grad(ct_tensor t);
void ct_backward(ct_tensor loss);
// The result of a block, of which only the inputs are kept: the backward pass computes it again, maybe on
// another thread. `compute` owns the inputs that it is given, and its caller the result. `release(context)` is
// called once.
typedef ct_tensor _Nonnull (*ct_block)(void *_Nonnull context, const ct_tensor _Nonnull *_Nonnull inputs, size_t count);
ct_tensor ct_checkpointed(
    const ct_tensor _Nonnull *_Nonnull inputs, size_t count, ct_block compute, void (*release)(void *), void *context);
// The gradient of a leaf; undefined if it has none.
ct_tensor ct_grad(ct_tensor t);
void ct_clear_grad(ct_tensor t);
void ct_set_grad(ct_tensor t, ct_tensor gradient);
// Scales the gradients in place so that their joint 2-norm
// is at most `max_norm`. Returns the norm before that.
double ct_clip_grad_norm(const ct_tensor _Nonnull *_Nonnull parameters, size_t count, double max_norm);
// One step of torch.optim.AdamW on the parameters that have
// a gradient. Adds 1 to their `steps`, float32 scalars.
void ct_adamw(const ct_tensor _Nonnull *_Nonnull parameters, const ct_tensor _Nonnull *_Nonnull exp_avg,
    const ct_tensor _Nonnull *_Nonnull exp_avg_sq, const ct_tensor _Nonnull *_Nonnull steps, size_t count, double learning_rate,
    double beta1, double beta2, double weight_decay, double eps);

// Processes (c10d) ------------------------------------------------------------------------------------------
// Opens a table of texts that the processes of a run share, at an address where one of them, or their
// launcher, hosts it. A host with port 0 chooses a free one. `prefix` stands before all keys. Null (and an
// error) after `seconds`.
ct_store _Nullable ct_store_open(const char *host, int port, bool hosts, const char *prefix, double seconds);
int ct_store_port(ct_store s);
// Sets a text that is not set yet.
bool ct_store_set(ct_store s, const char *key, const char *text);
// The text, which the caller frees with free(), or null if it is not set.
char *_Nullable ct_store_get(ct_store s, const char *key);
void ct_store_close(ct_store s);
// Connects with all others, who have to do so too, in the store's `seconds`. An exchange ends with an error
// after `timeout` seconds. When the process of the next rank (of rank 0 after the last) ends, its number is
// written to the store as `ended`, if that is unset.
ct_group _Nullable ct_group_join(ct_store s, int rank, int count, double timeout);
// Gives each rank its part of `in` and receives one from each into `out`, parts in the order of ranks, of
// `in_sizes` and `out_sizes` bytes. `waiting(context)` is called every few milliseconds. False (and an error)
// once a process has ended.
bool ct_group_exchange(ct_group g, const void *_Nullable in, const int64_t *in_sizes, void *_Nullable out, const int64_t *out_sizes,
    void (*waiting)(void *context), void *context);
void ct_group_leave(ct_group g);

#pragma clang assume_nonnull end

#ifdef __cplusplus
}
#endif
#endif
