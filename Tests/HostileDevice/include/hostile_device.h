/// A CUDA device for tests where there is none. It computes in the host's memory with the CPU's kernels, but refuses
/// tensors of the host among its own, as a GPU does, and counts how often the two wait for each other.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Makes the device, unless it is there already. Returns false where libtorch has CUDA of its own.
bool hostile_device_start(void);

/// Returns how often values were read from the device so far: single numbers, and copies to the host.
int64_t hostile_device_reads(void);

/// Returns how often values of the host were copied to the device so far. libtorch waits for these as well.
int64_t hostile_device_writes(void);

#ifdef __cplusplus
}
#endif
