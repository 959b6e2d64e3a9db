// Helpers of the shim: they borrow and own handles, and turn C++ exceptions into the thread's error.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "ctorch.h"

namespace ctorch {

void remember(const char *message);

inline at::Tensor borrow(ct_tensor h) {
    return at::Tensor(c10::intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>::reclaim_copy(reinterpret_cast<c10::TensorImpl *>(h)));
}

inline std::optional<at::Tensor> borrow_optional(ct_tensor h) { return h ? std::optional<at::Tensor>(borrow(h)) : std::nullopt; }

inline ct_tensor own(at::Tensor t) { return reinterpret_cast<ct_tensor>(t.unsafeReleaseTensorImpl()); }

inline std::vector<at::Tensor> borrow_list(const ct_tensor *list, size_t count) {
    std::vector<at::Tensor> tensors;
    tensors.reserve(count);
    for (size_t i = 0; i < count; i++) tensors.push_back(borrow(list[i]));
    return tensors;
}

inline at::IntArrayRef dims(const int64_t *values, size_t count) { return at::IntArrayRef(values, count); }

inline at::TensorOptions options(int dtype, int device) {
    return at::TensorOptions().dtype(static_cast<at::ScalarType>(dtype)).device(device == CT_CUDA ? at::kCUDA : at::kCPU);
}

// Runs `body`. On an exception, remembers its message and returns `fallback`.
template <typename Result, typename Body>
Result guarded(Result fallback, Body body) noexcept {
    try {
        return body();
    } catch (const c10::Error &e) {
        remember(e.what_without_backtrace());
    } catch (const std::exception &e) {
        remember(e.what());
    } catch (...) {
        remember("unknown C++ exception");
    }
    return fallback;
}

template <typename Body>
ct_tensor tensor(Body body) noexcept {
    ct_tensor none = own(at::Tensor());  // the undefined singleton: it is not counted, so nothing leaks
    return guarded(none, [&] { return own(body()); });
}

}  // namespace ctorch
