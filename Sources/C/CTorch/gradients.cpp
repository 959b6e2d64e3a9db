// Autograd and the optimiser.
#include <c10/core/GradMode.h>

#include "internal.h"

using namespace ctorch;

extern "C" {

void ct_set_requires_grad(ct_tensor t, bool on) {
    guarded(false, [&] {
        borrow(t).set_requires_grad(on);
        return true;
    });
}

bool ct_requires_grad(ct_tensor t) {
    return guarded(false, [&] { return borrow(t).requires_grad(); });
}

void ct_backward(ct_tensor loss) {
    guarded(false, [&] {
        borrow(loss).backward();
        return true;
    });
}

ct_tensor ct_grad(ct_tensor t) {
    return tensor([&] { return borrow(t).grad(); });
}

void ct_clear_grad(ct_tensor t) {
    guarded(false, [&] {
        borrow(t).mutable_grad().reset();
        return true;
    });
}

void ct_set_grad(ct_tensor t, ct_tensor gradient) {
    guarded(false, [&] {
        borrow(t).mutable_grad() = borrow(gradient);
        return true;
    });
}

double ct_clip_grad_norm(const ct_tensor *parameters, size_t count, double max_norm) {
    return guarded(0.0, [&] {
        c10::AutoGradMode no_grad(false);
        std::vector<at::Tensor> grads;
        for (const at::Tensor &p : borrow_list(parameters, count))
            if (p.grad().defined()) grads.push_back(p.grad());
        if (grads.empty()) return 0.0;
        double norm = at::stack(at::_foreach_norm(grads, 2)).norm().item().toDouble();
        double scale = max_norm / (norm + 1e-6);
        if (scale < 1) at::_foreach_mul_(grads, scale);
        return norm;
    });
}

void ct_adamw(const ct_tensor *parameters, const ct_tensor *exp_avg, const ct_tensor *exp_avg_sq, const ct_tensor *steps, size_t count,
    double learning_rate, double beta1, double beta2, double weight_decay, double eps) {
    guarded(false, [&] {
        c10::AutoGradMode no_grad(false);
        std::vector<at::Tensor> p, g, m, v, s;
        for (size_t i = 0; i < count; i++) {
            at::Tensor parameter = borrow(parameters[i]);
            if (!parameter.grad().defined()) continue;
            p.push_back(parameter);
            g.push_back(parameter.grad());
            m.push_back(borrow(exp_avg[i]));
            v.push_back(borrow(exp_avg_sq[i]));
            s.push_back(borrow(steps[i]));
        }
        if (p.empty()) return true;
        at::_foreach_add_(s, 1);
        at::_fused_adamw_(p, g, m, v, {}, s, learning_rate, beta1, beta2, weight_decay, eps, /*amsgrad=*/false, /*maximize=*/false);
        return true;
    });
}

}  // extern "C"
