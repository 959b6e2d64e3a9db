// Gradient checkpointing: a block that is computed again in the backward pass.
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "internal.h"

using namespace ctorch;
using torch::autograd::AutogradContext;

namespace {

// The caller's block; its context is released with the last graph that may need it.
struct Block : torch::CustomClassHolder {
    const ct_block compute;
    void (*const release)(void *);
    void *const context;

    Block(ct_block compute, void (*release)(void *), void *context) : compute(compute), release(release), context(context) {}
    ~Block() override { release(context); }

    // Throws the thread's error if the block failed: libtorch carries it from its thread to the caller of
    // ct_backward.
    at::Tensor operator()(at::TensorList inputs) const {
        std::vector<ct_tensor> handles;
        for (const at::Tensor &input : inputs) handles.push_back(own(input));
        ct_tensor result = compute(context, handles.data(), handles.size());
        at::Tensor output = borrow(result);
        ct_release(result);
        std::unique_ptr<char, decltype(&free)> error(ct_take_error(), free);
        TORCH_CHECK(error == nullptr, error.get());
        return output;
    }
};

struct Checkpointed : torch::autograd::Function<Checkpointed> {
    // `anchor` requires a gradient, so that the result does where only the block's own parameters do.
    static at::Tensor forward(
        AutogradContext *ctx, c10::intrusive_ptr<Block> block, at::Tensor anchor, at::Tensor output, at::TensorList inputs) {
        ctx->saved_data["block"] = c10::IValue::make_capsule(block);
        ctx->save_for_backward(inputs.vec());
        return output;
    }

    static std::vector<at::Tensor> backward(AutogradContext *ctx, const std::vector<at::Tensor> &gradients) {
        c10::AutoGradMode record(true);
        std::vector<at::Tensor> inputs;
        for (const at::Tensor &saved : ctx->get_saved_variables())
            inputs.push_back(saved.detach().set_requires_grad(saved.requires_grad()));
        const auto block = c10::static_intrusive_pointer_cast<Block>(ctx->saved_data["block"].toCapsule());
        torch::autograd::backward({(*block)(inputs)}, gradients);
        std::vector<at::Tensor> result(3);
        for (const at::Tensor &input : inputs) result.push_back(input.grad());
        return result;
    }
};

}  // namespace

extern "C" {

ct_tensor ct_checkpointed(const ct_tensor *inputs, size_t count, ct_block compute, void (*release)(void *), void *context) {
    return tensor([&] {
        const auto block = c10::make_intrusive<Block>(compute, release, context);
        const std::vector<at::Tensor> tensors = borrow_list(inputs, count);
        // Recorded this time, too: the kernels are the same, and it shows whether there are gradients.
        const at::Tensor output = (*block)(tensors);
        if (!output.requires_grad()) return output;
        return Checkpointed::apply(block, at::empty({0}).set_requires_grad(true), output.detach(), at::TensorList(tensors));
    });
}

}  // extern "C"
