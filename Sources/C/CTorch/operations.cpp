// Tensor operations: one line each, in the order of ctorch.h.
#include <cmath>

#include "internal.h"

using namespace ctorch;

extern "C" {

#define UNARY(name, expression) \
    ct_tensor ct_##name(ct_tensor t) { return tensor([&] { at::Tensor x = borrow(t); return expression; }); }
UNARY(neg, x.neg())
UNARY(exp, x.exp())
UNARY(log, x.log())
UNARY(sqrt, x.sqrt())
UNARY(square, x.square())
UNARY(abs, x.abs())
UNARY(round, x.round())
UNARY(silu, at::silu(x))
UNARY(gelu, at::gelu(x))
UNARY(sigmoid, x.sigmoid())
UNARY(softplus, at::softplus(x))
UNARY(tanh, x.tanh())
UNARY(sin, x.sin())
UNARY(cos, x.cos())
UNARY(detach, x.detach())
UNARY(clone, x.clone())
UNARY(contiguous, x.contiguous())
UNARY(channels_last, x.contiguous(at::MemoryFormat::ChannelsLast))
UNARY(sum_all, x.sum())
UNARY(mean_all, x.mean())

#define BINARY(name, expression) \
    ct_tensor ct_##name(ct_tensor l, ct_tensor r) { return tensor([&] { at::Tensor a = borrow(l), b = borrow(r); return expression; }); }
BINARY(add, a.add(b))
BINARY(sub, a.sub(b))
BINARY(mul, a.mul(b))
BINARY(div, a.div(b))
BINARY(maximum, at::maximum(a, b))
BINARY(minimum, at::minimum(a, b))
BINARY(matmul, at::matmul(a, b))
BINARY(copy_, a.copy_(b))
BINARY(embedding, at::embedding(a, b))

ct_tensor ct_add_scalar(ct_tensor t, double value) { return tensor([&] { return borrow(t).add(value); }); }
ct_tensor ct_mul_scalar(ct_tensor t, double value) { return tensor([&] { return borrow(t).mul(value); }); }
ct_tensor ct_rsub_scalar(ct_tensor t, double value) { return tensor([&] { return at::rsub(borrow(t), value); }); }
ct_tensor ct_clamp(ct_tensor t, double low, double high) { return tensor([&] { return borrow(t).clamp(low, high); }); }

ct_tensor ct_sum(ct_tensor t, const int64_t *d, size_t n, bool keep) { return tensor([&] { return borrow(t).sum(dims(d, n), keep); }); }
ct_tensor ct_mean(ct_tensor t, const int64_t *d, size_t n, bool keep) { return tensor([&] { return borrow(t).mean(dims(d, n), keep); }); }
ct_tensor ct_cumprod(ct_tensor t, int64_t dim) { return tensor([&] { return borrow(t).cumprod(dim); }); }

ct_tensor ct_reshape(ct_tensor t, const int64_t *d, size_t n) { return tensor([&] { return borrow(t).reshape(dims(d, n)); }); }
ct_tensor ct_expand(ct_tensor t, const int64_t *d, size_t n) { return tensor([&] { return borrow(t).expand(dims(d, n)); }); }
ct_tensor ct_permute(ct_tensor t, const int64_t *d, size_t n) { return tensor([&] { return borrow(t).permute(dims(d, n)); }); }
ct_tensor ct_transpose(ct_tensor t, int64_t a, int64_t b) { return tensor([&] { return borrow(t).transpose(a, b); }); }
ct_tensor ct_unsqueeze(ct_tensor t, int64_t dim) { return tensor([&] { return borrow(t).unsqueeze(dim); }); }
ct_tensor ct_squeeze(ct_tensor t, int64_t dim) { return tensor([&] { return borrow(t).squeeze(dim); }); }
ct_tensor ct_narrow(ct_tensor t, int64_t dim, int64_t start, int64_t length) {
    return tensor([&] { return borrow(t).narrow(dim, start, length); });
}
ct_tensor ct_contiguous_like(ct_tensor t, ct_tensor other) {
    return tensor([&] { return borrow(t).contiguous(borrow(other).suggest_memory_format()); });
}
ct_tensor ct_select(ct_tensor t, int64_t dim, int64_t index) { return tensor([&] { return borrow(t).select(dim, index); }); }
ct_tensor ct_index_select(ct_tensor t, int64_t dim, ct_tensor indices) {
    return tensor([&] { return borrow(t).index_select(dim, borrow(indices)); });
}
ct_tensor ct_cat(const ct_tensor *list, size_t n, int64_t dim) { return tensor([&] { return at::cat(borrow_list(list, n), dim); }); }
ct_tensor ct_stack(const ct_tensor *list, size_t n, int64_t dim) { return tensor([&] { return at::stack(borrow_list(list, n), dim); }); }
ct_tensor ct_pad(ct_tensor t, const int64_t *pads, size_t n) {
    return tensor([&] { return at::constant_pad_nd(borrow(t), dims(pads, n), 0); });
}
ct_tensor ct_to(ct_tensor t, int dtype, int device) { return tensor([&] { return borrow(t).to(options(dtype, device)); }); }

ct_tensor ct_linear(ct_tensor x, ct_tensor weight, ct_tensor bias) {
    return tensor([&] { return at::linear(borrow(x), borrow(weight), borrow_optional(bias)); });
}
ct_tensor ct_linear_lora(ct_tensor x, ct_tensor weight, ct_tensor bias, ct_tensor a, ct_tensor b, double scale) {
    return tensor([&] {
        at::Tensor input = borrow(x), matrix = borrow(weight);
        at::Tensor rows = input.reshape({-1, input.size(-1)});
        at::Tensor base = at::linear(rows, matrix, borrow_optional(bias));
        // The adapter is accumulated into the product, which saves a pass over the output.
        at::Tensor sum = at::addmm(base, at::linear(rows, borrow(a)), borrow(b).t(), 1, scale);
        std::vector<int64_t> shape = input.sizes().vec();
        shape.back() = matrix.size(0);
        return sum.view(shape);
    });
}
ct_tensor ct_conv2d(ct_tensor x, ct_tensor weight, ct_tensor bias, int64_t stride, int64_t padding) {
    return tensor([&] {
        at::Tensor input = borrow(x), kernel = borrow(weight);
        // Without TF32, cuDNN's large convolutions are slower than a matrix product for each image, and take
        // gigabytes to work in.
        int64_t products = kernel.numel() * input.size(-1) * input.size(-2) / (stride * stride);
        if (input.is_cuda() && input.scalar_type() == at::kFloat && products >= 1 << 26)
            return at::thnn_conv2d(input, kernel, kernel.sizes().slice(2), borrow_optional(bias), {stride, stride}, {padding, padding});
        return at::conv2d(input, kernel, borrow_optional(bias), stride, padding);
    });
}
ct_tensor ct_group_norm(ct_tensor x, int64_t groups, ct_tensor weight, ct_tensor bias, double eps) {
    at::Tensor input = borrow(x);
    // libtorch's CUDA kernel would copy to the other memory format and leave its result there.
    if (input.is_cuda() && input.suggest_memory_format() == at::MemoryFormat::ChannelsLast)
        return ct_group_norm_channels_last(x, groups, weight, bias, eps);
    return tensor([&] { return at::group_norm(input, groups, borrow(weight), borrow(bias), eps); });
}
ct_tensor ct_group_norm_channels_last(ct_tensor x, int64_t groups, ct_tensor weight, ct_tensor bias, double eps) {
    return tensor([&] {
        at::Tensor input = borrow(x);
        int64_t batch = input.size(0), channels = input.size(1);
        at::Tensor pixels = input.permute({0, 2, 3, 1});
        at::Tensor grouped = pixels.reshape({batch, -1, groups, channels / groups});
        auto [variance, mean] = at::var_mean(grouped, at::OptionalIntArrayRef({1, 3}), /*correction=*/0, /*keepdim=*/true);
        at::Tensor scale = (variance.to(at::kFloat) + eps).rsqrt() * borrow(weight).to(at::kFloat).view({groups, -1});
        at::Tensor shift = borrow(bias).to(at::kFloat).view({groups, -1}) - mean.to(at::kFloat) * scale;
        auto per_channel = [&](const at::Tensor &t) { return t.to(input.scalar_type()).view({batch, 1, 1, channels}); };
        return at::addcmul(per_channel(shift), pixels, per_channel(scale)).permute({0, 3, 1, 2});
    });
}
ct_tensor ct_layer_norm(ct_tensor x, ct_tensor weight, ct_tensor bias, double eps) {
    return tensor([&] {
        at::Tensor w = borrow(weight);
        return at::layer_norm(borrow(x), w.sizes(), w, borrow(bias), eps);
    });
}
ct_tensor ct_attention(ct_tensor q, ct_tensor k, ct_tensor v, bool causal) {
    return tensor([&] {
        at::Tensor query = borrow(q), key = borrow(k), value = borrow(v);
        int64_t batch = query.size(0), heads = query.size(1), queries = query.size(2), keys = key.size(2), width = query.size(3);
        // On the CPU the fused kernel makes a oneDNN primitive for every head of every sample, which costs
        // more than the attention of short sequences. One batched product has one primitive.
        if (causal || !query.is_cpu() || queries * keys > 256 * 256)
            return at::scaled_dot_product_attention(query, key, value, {}, 0.0, causal);
        auto flat = [&](const at::Tensor &t) { return t.contiguous().view({batch * heads, t.size(2), width}); };
        at::Tensor none = at::empty({1}, query.options());
        at::Tensor scores = at::baddbmm(none, flat(query), flat(key).transpose(1, 2), 0, 1 / std::sqrt(static_cast<double>(width)));
        return at::bmm(scores.softmax(-1), flat(value)).view({batch, heads, queries, width});
    });
}
ct_tensor ct_upsample_nearest(ct_tensor x, int64_t height, int64_t width) {
    return tensor([&] { return at::upsample_nearest2d(borrow(x), {height, width}); });
}
ct_tensor ct_resize_bicubic(ct_tensor x, int64_t height, int64_t width, bool antialias) {
    return tensor([&] {
        if (antialias) return at::_upsample_bicubic2d_aa(borrow(x), {height, width}, false);
        return at::upsample_bicubic2d(borrow(x), {height, width}, false);
    });
}
ct_tensor ct_matrix_square_root(ct_tensor x) {
    return tensor([&] {
        auto [values, vectors] = at::linalg_eigh(borrow(x));
        return (vectors * values.clamp_min(0).sqrt().unsqueeze(-2)).matmul(vectors.mT());
    });
}
ct_tensor ct_as_strided(ct_tensor base, const int64_t *sizes, const int64_t *strides, int rank, int64_t offset) {
    return tensor([&] { return borrow(base).as_strided(dims(sizes, rank), dims(strides, rank), offset).contiguous(); });
}

}  // extern "C"
