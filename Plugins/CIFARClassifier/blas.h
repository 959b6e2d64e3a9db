// OpenBLAS, loaded when it is needed and not before: its kernels are chosen once, while it loads.
#ifndef BLAS_H
#define BLAS_H

#include <cblas.h>

#include "dag_reward.h"

typedef struct blas {
    __typeof__(cblas_sgemm) *sgemm;
    int threads;            ///< how many OpenBLAS would use
    char description[192];  ///< version, kernels and why those, for the user
} blas;

/// Loads OpenBLAS, unless the process has it, and makes it single-threaded: the classifier spreads pictures over threads of its own,
/// so that everything around the products is spread too. Not from two threads at once.
int32_t blas_load(blas *self, dag_reward_error *error);

#endif
