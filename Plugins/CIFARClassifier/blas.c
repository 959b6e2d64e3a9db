#include "blas.h"

#include <dlfcn.h>
#include <stdbool.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define LIBRARY "libopenblas.so.0"
#define CORETYPE "OPENBLAS_CORETYPE"
#define FIND(function) ((__typeof__(function) *)dlsym(library, #function))

// Whether this is an AMD CPU with AVX-512 from Zen 5 on. OpenBLAS 0.3.21 of Debian 12 does not know these and
// takes AVX2 kernels, at half the speed. It knows Zen 4, where both are equally fast.
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
    static int threads;  // OpenBLAS's own number, before this plugin set it to one
    bool loaded = dlopen(LIBRARY, RTLD_NOW | RTLD_NOLOAD) != NULL;
    bool set_by_user = getenv(CORETYPE) != NULL;
    bool needs_choice = is_zen5_or_later();
    // The variable is unset afterwards: processes that the host starts must not inherit it.
    bool choose = needs_choice && !loaded && !set_by_user;
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
    bool slow = needs_choice && (strcmp(core(), "Haswell") == 0 || strcmp(core(), "Zen") == 0);
    const char *why = "its own choice";
    if (set_by_user) why = "by " CORETYPE;
    else if (choose) why = "chosen for this CPU";
    else if (slow) why = "loaded before; for twice the speed start with " CORETYPE "=SkylakeX";
    else if (loaded) why = "loaded before";
    const char *version = config() + strcspn(config(), "0123456789");
    snprintf(
        self->description, sizeof self->description, "OpenBLAS %.*s, %s kernels (%s)", (int)strcspn(version, " "), version, core(), why);
    return DAG_REWARD_OK;
}
