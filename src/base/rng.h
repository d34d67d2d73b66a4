/* SPDX-License-Identifier: MIT */
/* Counter-based randomness (Philox4x32-10; Salmon et al., SC 2011). A number depends only on
 * (seed, purpose, index, step, element): never on batch size, thread count or call order. */
#ifndef ZS_BASE_RNG_H
#define ZS_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

/* What a stream is for. Values are part of the checkpoint contract: append, never reorder. */
typedef enum zs_purpose {
    ZS_RNG_INIT = 1, /* parameter initialisation; index = parameter */
    ZS_RNG_SHUFFLE,  /* data order; index = position, step = epoch */
    ZS_RNG_AUGMENT,  /* flips and crops; index = sample counter */
    ZS_RNG_TIMESTEP, /* training t; index = sample counter */
    ZS_RNG_NOISE,    /* training noise; index = sample counter */
    ZS_RNG_DROPOUT,  /* dropout masks; index = stream id of the node */
    ZS_RNG_XT,       /* sampling x_T; index = image */
    ZS_RNG_STEP,     /* noise inside stochastic samplers; index = image, step = timestep */
    ZS_RNG_TEST,     /* tests and benchmarks */
    ZS_RNG_CODE,     /* what a prior starts from; index = code */
    ZS_RNG_ACCEPT,   /* rejection sampling of codes; index = code */
    ZS_RNG_PICK,     /* which examples a probe is given; index = attribute */
    ZS_RNG_ABSENT,   /* conditions left out in training; index = sample counter */
    ZS_RNG_CLASS,    /* classes of samples where none is asked for; index = sample */
    ZS_RNG_LATENT    /* noise of latents in training; index = sample counter */
} zs_purpose;

typedef struct zs_rng {
    uint64_t seed;
    uint32_t purpose; /* zs_purpose, below 2^12 */
    uint64_t index;   /* below 2^42 */
    uint64_t step;    /* below 2^42 */
} zs_rng;

/* One Philox4x32-10 block. Known answers: tests/unit/test_rng.c. */
void zs_philox(const uint32_t ctr[4], const uint32_t key[2], uint32_t out[4]);

/* The counter (its word 0, the block, left 0) and key of stream r, for code that generates many
 * blocks at once. */
void zs_rng_counter(const zs_rng *r, uint32_t ctr[4], uint32_t key[2]);

/* The four words of block `block` of stream r; element e lives in block e/4, word e%4. */
void zs_rng_block(const zs_rng *r, uint32_t block, uint32_t out[4]);

/* n standard normals, elements first .. first+n-1 of the stream; Box-Muller on word pairs with
 * our own log and sincos, so that every platform and compiler gives the same bits. */
void zs_rng_normal(float *out, size_t n, const zs_rng *r, size_t first);

/* n uniforms in [0,1) with 24 bits. */
void zs_rng_uniform(float *out, size_t n, const zs_rng *r, size_t first);

/* A uniform integer in [0, n), n >= 1, unbiased to 2^-64*n. */
uint64_t zs_rng_below(const zs_rng *r, uint64_t n);

#endif
