#include "blas.h"

#include <dlfcn.h>
#include <stdbool.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define LIBRARY "libopenblas.so.0"
#define CORETYPE "OPENBLAS_CORETYPE"
#define FIND(function) ((__typeof__(function) *)dlsym(library, #function))

// AMD's chips with AVX-512 from Zen 5 on: OpenBLAS 0.3.21, which Debian 12 has, does not know them and takes AVX2 kernels, at half the
// speed. It knows Zen 4, where both are as fast.
static bool is_zen5_or_later(void) {
#if defined(__x86_64__)
    unsigned signature, unused;
    if (!__builtin_cpu_is("amd") || !__get_cpuid(1, &signature, &unused, &unused, &unused)) return false;
    unsigned family = (signature >> 8 & 15) + (signature >> 20 & 255);  // Zen 4: 25, Zen 5: 26
    return family > 25 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl");
#else
    return false;
#endif
}

int32_t blas_load(blas *self, dag_reward_error *error) {
    static int threads;  // before this plugin asked for one
    bool there = dlopen(LIBRARY, RTLD_NOW | RTLD_NOLOAD) != NULL, users = getenv(CORETYPE) != NULL, wants = is_zen5_or_later();
    // The variable is taken back afterwards: the choice is for this library, not for what else the host may start.
    bool choose = wants && !there && !users;
    if (choose) setenv(CORETYPE, "SkylakeX", 1);
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (choose) unsetenv(CORETYPE);
    if (!library)
        return dag_reward_fail(error, DAG_REWARD_IO, "OpenBLAS cannot be loaded: %s; install it (Debian: libopenblas0)", dlerror());
    __typeof__(openblas_get_config) *config = FIND(openblas_get_config);
    __typeof__(openblas_get_corename) *core = FIND(openblas_get_corename);
    __typeof__(openblas_get_num_threads) *thread_count = FIND(openblas_get_num_threads);
    __typeof__(openblas_set_num_threads) *set_thread_count = FIND(openblas_set_num_threads);
    self->sgemm = FIND(cblas_sgemm);
    if (!config || !core || !thread_count || !set_thread_count || !self->sgemm)
        return dag_reward_fail(error, DAG_REWARD_UNSUPPORTED, "%s lacks functions of OpenBLAS; install OpenBLAS 0.3 or newer", LIBRARY);
    if (threads == 0) threads = thread_count();
    set_thread_count(1);
    self->threads = threads;
    bool slow = wants && (strcmp(core(), "Haswell") == 0 || strcmp(core(), "Zen") == 0);
    const char *why = users    ? "by " CORETYPE
                      : choose ? "chosen for this CPU"
                      : slow   ? "loaded before; for twice the speed start with " CORETYPE "=SkylakeX"
                      : there  ? "loaded before"
                               : "its own choice";
    const char *version = config() + strcspn(config(), "0123456789");
    snprintf(
        self->description, sizeof self->description, "OpenBLAS %.*s, %s kernels (%s)", (int)strcspn(version, " "), version, core(), why);
    return DAG_REWARD_OK;
}
