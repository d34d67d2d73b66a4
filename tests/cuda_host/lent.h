/* SPDX-License-Identifier: MIT */
/* Memory of the imagined device: tensors between guards of NaN that nobody may touch. Under
 * AddressSanitizer not even reading them goes unseen. */
#ifndef ZS_TESTS_CUDA_HOST_LENT_H
#define ZS_TESTS_CUDA_HOST_LENT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct lent {
    unsigned char *base;
    void *p;
    size_t bytes, shift;
} lent;

/* p: `bytes` bytes, each 0xFF (NaN), `shift` bytes beyond a multiple of 64. Fails the test when out
 * of memory. */
void *lent_new(lent *l, size_t bytes, size_t shift);

/* As lent_new, holding a copy of these bytes. */
void *lent_copy(lent *l, const void *from, size_t bytes, size_t shift);

/* Whether the guards are as they were. */
bool lent_intact(const lent *l);

/* Nothing for one that was never made (all zero). */
void lent_free(lent *l);

#endif
