// A tensor of the device has a storage of its own, which owns the storage of the host that its values lie in. One
// function stands in for all kernels: it shows the tensors to the CPU's kernel as tensors of the host.
#include "hostile_device.h"

#include <ATen/ATen.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <dlfcn.h>
#include <torch/library.h>
#include <unistd.h>

#include <atomic>

namespace {
std::atomic<int64_t> reads, writes;
std::atomic<bool> has_started;

const c10::Device device(at::kCUDA, 0);

struct Guard : c10::impl::NoOpDeviceGuardImpl<at::kCUDA> {
    c10::Device getDevice() const override { return device; }
    c10::Device exchangeDevice(c10::Device) const override { return device; }
    c10::Stream getStream(c10::Device) const noexcept override { return c10::Stream(c10::Stream::DEFAULT, device); }
    c10::Stream exchangeStream(c10::Stream) const noexcept override { return c10::Stream(c10::Stream::DEFAULT, device); }
    void record(void **, const c10::Stream &, c10::DeviceIndex, c10::EventFlag) const override {}
    void block(void *, const c10::Stream &) const override {}
    bool queryEvent(void *) const override { return true; }
};

struct Hooks : at::CUDAHooksInterface {
    bool hasCUDA() const override { return has_started; }
    bool isBuilt() const override { return true; }
    bool isAvailable() const override { return has_started; }
    bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
};

// libtorch asks for the hooks of CUDA and, at the first backward pass, for the number of devices once, so both are there
// from the start. Where it has its own, these must not be.
const bool is_possible = [] {
    Dl_info info;
    if (!dladdr(reinterpret_cast<void *>(&at::CUDAHooksRegistry), &info)) return false;
    const std::string cpu = "torch_cpu", path = info.dli_fname;
    if (access(std::string(path).replace(path.rfind(cpu), cpu.size(), "torch_cuda").c_str(), F_OK) == 0) return false;
    at::CUDAHooksRegistry()->Register("CUDAHooks", [](at::CUDAHooksArgs) { return std::make_unique<Hooks>(); });
    c10::impl::device_guard_impl_registry[static_cast<size_t>(at::kCUDA)].store(new Guard);
    return true;
}();

at::Tensor view(c10::Storage storage, c10::DispatchKey key, const at::Tensor &like) {
    at::Tensor t = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(key), like.dtype());
    t.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
    return t;
}

const c10::Storage &host_storage(const at::Tensor &t) { return *static_cast<const c10::Storage *>(t.storage().data_ptr().get_context()); }

at::Tensor on_host(const at::Tensor &t) { return view(host_storage(t), c10::DispatchKey::CPU, t); }

at::Tensor on_device(const at::Tensor &t) {
    auto *owner = new c10::Storage(t.storage());
    c10::DataPtr values(owner->mutable_data(), owner, [](void *storage) { delete static_cast<c10::Storage *>(storage); }, device);
    c10::Storage storage(c10::Storage::use_byte_size_t(), owner->nbytes(), std::move(values), nullptr, false);
    return view(std::move(storage), c10::DispatchKey::CUDA, t);
}

void compute(const c10::OperatorHandle &operation, torch::jit::Stack *stack) {
    std::vector<std::pair<at::Tensor, at::Tensor>> arguments;  // on the device, on the host
    auto lower = [&](const at::Tensor &t) {
        if (!t.defined()) return t;
        if (t.is_cuda()) return arguments.emplace_back(t, on_host(t)).second;
        TORCH_CHECK(t.dim() == 0, operation.schema().name(), ": a tensor of the host is among those of the device");
        return t;
    };
    auto raise = [&](const at::Tensor &t) {
        if (!t.defined()) return t;
        for (auto &[own, host] : arguments) {
            if (t.is_same(host)) return own;
            if (t.storage().is_alias_of(host.storage())) return view(own.storage(), c10::DispatchKey::CUDA, t);
        }
        return on_device(t);
    };
    const auto &schema = operation.schema();
    for (auto value = stack->end() - static_cast<ptrdiff_t>(schema.arguments().size()); value != stack->end(); ++value) {
        if (value->isDevice()) *value = c10::Device(at::kCPU);
        if (value->isTensor()) *value = lower(value->toTensor());
        if (value->isTensorList()) {
            c10::List<at::Tensor> list;
            for (const at::Tensor &t : value->toTensorVector()) list.push_back(lower(t));
            *value = list;
        }
        if (value->isOptionalTensorList()) {
            c10::List<std::optional<at::Tensor>> list;
            for (const auto &t : value->toOptionalTensorVector()) list.push_back(t ? std::optional(lower(*t)) : t);
            *value = list;
        }
    }
    operation.callBoxed(stack);
    for (auto &[own, host] : arguments) {
        if (own.sizes() == host.sizes()) continue;
        // An output that was given with another size.
        own.unsafeGetTensorImpl()->set_storage_keep_dtype(on_device(host).storage());
        own.unsafeGetTensorImpl()->set_sizes_and_strides(host.sizes(), host.strides(), host.storage_offset());
    }
    bool is_read = !arguments.empty() && !schema.returns().empty();
    for (auto value = stack->end() - static_cast<ptrdiff_t>(schema.returns().size()); value != stack->end(); ++value) {
        if (value->isTensor() || value->isTensorList()) is_read = false;
        if (value->isTensor()) *value = raise(value->toTensor());
        if (value->isTensorList()) {
            c10::List<at::Tensor> list;
            for (const at::Tensor &t : value->toTensorVector()) list.push_back(raise(t));
            *value = list;
        }
    }
    if (is_read) reads++;
}

// The one operation that takes tensors of both.
at::Tensor &copy(at::Tensor &self, const at::Tensor &source, bool) {
    if (self.is_cpu()) reads++;
    if (source.is_cpu()) writes++;
    auto host = [](const at::Tensor &t) { return t.is_cuda() ? on_host(t) : t; };
    host(self).copy_(host(source));
    return self;
}
}  // namespace

bool hostile_device_start(void) {
    static const bool started = [] {
        if (!is_possible) return false;
        static torch::Library all(torch::Library::IMPL, "_", c10::DispatchKey::CUDA, __FILE__, __LINE__);
        all.fallback(torch::CppFunction::makeFromBoxedFunction<&compute>());
        static torch::Library aten(torch::Library::IMPL, "aten", c10::DispatchKey::CUDA, __FILE__, __LINE__);
        aten.impl("copy_", TORCH_FN(copy));
        has_started = true;
        return true;
    }();
    return started;
}

int64_t hostile_device_reads(void) { return reads; }
int64_t hostile_device_writes(void) { return writes; }
