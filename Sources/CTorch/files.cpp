// The archives that torch.save writes: a pickle, and the bytes of each storage beside it.
#include <caffe2/serialize/inline_container.h>

#include "internal.h"

using namespace ctorch;
using Reader = caffe2::serialize::PyTorchStreamReader;

ct_archive ct_archive_open(const char *path) {
    return guarded<ct_archive>(nullptr, [&] { return reinterpret_cast<ct_archive>(new Reader(std::string(path))); });
}

void ct_archive_close(ct_archive archive) { delete reinterpret_cast<Reader *>(archive); }

ct_tensor ct_archive_record(ct_archive archive, const char *name, int dtype) {
    return tensor([&] {
        auto [data, size] = reinterpret_cast<Reader *>(archive)->getRecord(name);
        auto type = options(dtype, CT_CPU);
        auto *owner = new at::DataPtr(std::move(data));
        return at::from_blob(owner->get(), {static_cast<int64_t>(size / type.dtype().itemsize())}, [owner](void *) { delete owner; }, type);
    });
}

ct_tensor ct_as_strided(ct_tensor base, const int64_t *sizes, const int64_t *strides, int rank, int64_t offset) {
    return tensor([&] { return borrow(base).as_strided(dims(sizes, rank), dims(strides, rank), offset).contiguous(); });
}
