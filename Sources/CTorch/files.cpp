// torch.save files through libtorch's own unpickler, which executes no code.
#include <torch/csrc/jit/serialization/pickle.h>

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

extern "C" bool ct_unpickle(const void *data, size_t bytes, Visit visit, void *context) {
    return guarded(false, [&] {
        const char *begin = static_cast<const char *>(data);
        walk("", torch::jit::pickle_load(std::vector<char>(begin, begin + bytes)), visit, context);
        return true;
    });
}
