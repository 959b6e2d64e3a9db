// torch.save files through libtorch's own unpickler, which executes no code.
#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/jit/serialization/import_read.h>

#include "internal.h"

using namespace ctorch;

namespace {

using Visit = void (*)(const char *, ct_tensor, void *);

void walk(const std::string &name, const c10::IValue &value, Visit visit, void *context) {
    if (value.isTensor()) {
        visit(name.c_str(), own(value.toTensor().detach()), context);
    } else if (value.isGenericDict()) {
        for (const auto &entry : value.toGenericDict()) {
            if (!entry.key().isString()) continue;
            std::string key = entry.key().toStringRef();
            walk(name.empty() ? key : name + "." + key, entry.value(), visit, context);
        }
    }
}

}  // namespace

extern "C" bool ct_unpickle(const char *path, Visit visit, void *context) {
    return guarded(false, [&] {
        // As torch::jit::pickle_load does, but from the file: a copy of it in memory would double what a large model needs.
        caffe2::serialize::PyTorchStreamReader reader{std::string(path)};
        walk("", torch::jit::readArchiveAndTensors("data", "", "", {}, {}, {}, reader), visit, context);
        return true;
    });
}
