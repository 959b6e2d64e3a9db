// Errors, references, threads, devices, random numbers, creation and reading.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/GradMode.h>
#include <dlfcn.h>
#include <torch/version.h>
#include <unistd.h>

#include <cstring>

#include "internal.h"

using namespace ctorch;

namespace {
thread_local std::string error;
thread_local bool failed = false;

// The path of libtorch_cuda, which is beside the libtorch_cpu that this process uses if it is anywhere;
// scripts/install.sh may have renamed both. Empty if that cannot be told.
std::string cuda_library() {
    Dl_info info;
    if (!dladdr(reinterpret_cast<void *>(&at::get_num_threads), &info)) return {};
    std::string path(info.dli_fname);
    const std::string cpu = "torch_cpu";
    const size_t place = path.rfind(cpu);
    return place == std::string::npos ? std::string() : path.replace(place, cpu.size(), "torch_cuda");
}
}  // namespace

void ctorch::remember(const char *message) {
    if (failed) return;
    failed = true;
    try {
        error = message;
    } catch (...) {
        error.clear();
    }
}

extern "C" {

char *ct_take_error(void) {
    if (!failed) return nullptr;
    failed = false;
    return strdup(error.c_str());
}

void ct_release(ct_tensor t) {
    c10::intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>::reclaim(reinterpret_cast<c10::TensorImpl *>(t));
}

ct_tensor ct_retain(ct_tensor t) {
    return tensor([&] { return borrow(t); });
}

const char *ct_version(void) { return TORCH_VERSION; }

void ct_set_threads(int n) {
    guarded(false, [&] {
        at::set_num_threads(n);
        return true;
    });
}

int ct_threads(void) {
    return guarded(1, [] { return at::get_num_threads(); });
}

bool ct_has_cuda_library(void) {
    return guarded(false, [] { return access(cuda_library().c_str(), R_OK) == 0; });
}

bool ct_cuda_available(void) {
    return guarded(false, [] {
        // It registers itself when it is loaded.
        static void *cuda = ct_has_cuda_library() ? dlopen(cuda_library().c_str(), RTLD_NOW | RTLD_GLOBAL) : nullptr;
        if (cuda == nullptr || !at::hasCUDA()) return false;
        // float32 convolutions would by default round their inputs to the 10 bits of TF32, and with them the
        // importance ratios.
        at::globalContext().setAllowTF32CuDNN(false);
        return true;
    });
}

void ct_cuda_memory(int64_t *peak, int64_t *total) {
    guarded(false, [&] {
        auto *allocator = c10::getDeviceAllocator(at::kCUDA);
        constexpr auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
        *peak = allocator->getDeviceStats(0).reserved_bytes[all].peak;
        *total = static_cast<int64_t>(allocator->getMemoryInfo(0).second);
        return true;
    });
}

void ct_cuda_reset_peak_memory(void) {
    guarded(false, [] {
        auto *allocator = c10::getDeviceAllocator(at::kCUDA);
        allocator->emptyCache();
        allocator->resetPeakStats(0);
        return true;
    });
}

bool ct_set_grad_enabled(bool on) {
    bool before = c10::GradMode::is_enabled();
    c10::GradMode::set_enabled(on);
    return before;
}

ct_generator ct_generator_new(uint64_t seed) {
    return guarded(static_cast<ct_generator>(nullptr),
        [&] { return reinterpret_cast<ct_generator>(new at::Generator(at::detail::createCPUGenerator(seed))); });
}

void ct_generator_free(ct_generator g) { delete reinterpret_cast<at::Generator *>(g); }

ct_tensor ct_full(const int64_t *sizes, size_t rank, double value, int dtype, int device) {
    return tensor([&] { return at::full(dims(sizes, rank), value, options(dtype, device)); });
}

ct_tensor ct_randn(const int64_t *sizes, size_t rank, ct_generator g) {
    return tensor([&] { return at::randn(dims(sizes, rank), *reinterpret_cast<at::Generator *>(g), at::kFloat); });
}

ct_tensor ct_rand(const int64_t *sizes, size_t rank, ct_generator g) {
    return tensor([&] { return at::rand(dims(sizes, rank), *reinterpret_cast<at::Generator *>(g), at::kFloat); });
}

ct_tensor ct_arange(int64_t end, int device) {
    return tensor([&] { return at::arange(end, options(CT_INT64, device)); });
}

ct_tensor ct_linspace(double start, double end, int64_t count) {
    return tensor([&] { return at::linspace(start, end, count, at::kFloat); });
}

ct_tensor ct_from_data(const void *data, size_t bytes, const int64_t *sizes, size_t rank, int dtype) {
    return tensor([&] {
        at::Tensor t = at::empty(dims(sizes, rank), options(dtype, CT_CPU));
        TORCH_CHECK(t.nbytes() == bytes, "data of ", bytes, " bytes for a tensor of ", t.nbytes());
        if (bytes > 0) std::memcpy(t.mutable_data_ptr(), data, bytes);
        return t;
    });
}

ct_tensor ct_from_memory(void *data, const int64_t *sizes, size_t rank, int dtype, void (*release)(void *), void *context) {
    return tensor([&] { return at::from_blob(data, dims(sizes, rank), [=](void *) { release(context); }, options(dtype, CT_CPU)); });
}

bool ct_defined(ct_tensor t) { return borrow(t).defined(); }

size_t ct_rank(ct_tensor t) {
    return guarded(size_t(0), [&] { return static_cast<size_t>(borrow(t).dim()); });
}

int64_t ct_size(ct_tensor t, size_t dim) {
    return guarded(int64_t(0), [&] { return borrow(t).size(static_cast<int64_t>(dim)); });
}

int ct_dtype(ct_tensor t) {
    return guarded(int(CT_FLOAT32), [&] {
        at::Tensor x = borrow(t);
        return x.defined() ? static_cast<int>(x.scalar_type()) : int(CT_FLOAT32);
    });
}

int ct_device(ct_tensor t) {
    return guarded(int(CT_CPU), [&] {
        at::Tensor x = borrow(t);
        return x.defined() && x.is_cuda() ? int(CT_CUDA) : int(CT_CPU);
    });
}

bool ct_copy_out(ct_tensor t, void *out, size_t bytes) {
    return guarded(false, [&] {
        at::Tensor x = borrow(t).detach().to(at::kCPU).contiguous();
        TORCH_CHECK(x.nbytes() == bytes, "room for ", bytes, " bytes, tensor of ", x.nbytes());
        if (bytes > 0) std::memcpy(out, x.const_data_ptr(), bytes);
        return true;
    });
}

double ct_item(ct_tensor t) {
    return guarded(0.0, [&] { return borrow(t).item().toDouble(); });
}

}  // extern "C"
