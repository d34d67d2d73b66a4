/* SPDX-License-Identifier: MIT */
/* NumPy's RandomState, as far as evaluation code of others draws from it: the same seed gives the
 * same subsets, and so the same numbers to the last printed digit. */
#ifndef ZS_METRICS_NUMPY_RANDOM_H
#define ZS_METRICS_NUMPY_RANDOM_H

#include <stdint.h>

/* MT19937 (Matsumoto and Nishimura 1998). */
typedef struct zs_numpy_random {
    uint32_t mt[624];
    int at;
} zs_numpy_random;

/* RandomState(seed). */
void zs_numpy_seed(zs_numpy_random *r, uint32_t seed);

/* RandomState.permutation(n) in p[n]. Its first k entries are RandomState.choice(n, k,
 * replace=False). */
void zs_numpy_permutation(int64_t *p, int64_t n, zs_numpy_random *r);

#endif
