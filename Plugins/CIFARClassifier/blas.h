// OpenBLAS, loaded at run time, since it chooses its kernels while it loads.
#ifndef BLAS_H
#define BLAS_H

#include <cblas.h>

#include "dag_reward.h"

typedef struct blas {
    __typeof__(cblas_sgemm) *sgemm;
    int threads;            ///< the number that OpenBLAS would use
    char description[192];  ///< version, kernels and the reason for these, for the user
} blas;

/// Loads OpenBLAS, unless the process has it, and makes it single-threaded: the
/// classifier spreads images over its own threads, so that the work between
/// products is spread, too. Must not be called from two threads at once.
int32_t blas_load(blas *self, dag_reward_error *error);

#endif
