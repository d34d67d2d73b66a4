/* SPDX-License-Identifier: MIT */
/* What the CPU kernels share. Slots, shapes and attributes of each operation: tensor/ops.def. */
#ifndef ZS_BACKEND_CPU_CPU_H
#define ZS_BACKEND_CPU_CPU_H

#include "tensor/tensor.h"

extern const zs_backend zs_backend_cpu, zs_backend_cpu_ref;

/* zs_ref_<name> for every row of ops.def: the definition of each operation. */
#define OP(NAME, name, inputs, outputs, gradient, slots) extern const zs_kernel zs_ref_##name;
#include "tensor/ops.def"
#undef OP

/* Memory for arenas and parameters, zero-filled: pages are taken when they are first written, huge
 * ones where the system gives them. NULL when out of memory. */
void *zs_cpu_alloc(size_t bytes);
void zs_cpu_release(void *p, size_t bytes);
/* Takes the pages now, with all threads; overwrites their first bytes with 0. */
void zs_cpu_touch(void *p, size_t bytes);

/* zs_parallel_for with the call passed through. The kernels index per-thread workspace by
 * `thread`; it stays below c->threads as long as the thread count has not been raised since the
 * plan was made. */
typedef void (*zs_cpu_range)(const zs_call *c, int64_t begin, int64_t end, int thread);
void zs_cpu_for(const zs_call *c, int64_t n, int64_t grain, zs_cpu_range fn);

/* Frequency i of `half` of the timestep features, i < half. */
float zs_timestep_frequency(int64_t i, int64_t half);

/* Uniforms in [0,1) of elements [first, first+n) of dropout stream c->a->rng at c->step->step.
 * Elements are counted over the whole step batch: (step->sample + row) * (numel / d[0]) + rest.
 * A Philox stream holds 2^34 elements, so the bits above go into the stream index from bit 32 on
 * (stream ids have 32 bits): 2^44 elements in all. */
void zs_dropout_uniform(float *u, const zs_call *c, int64_t first, int64_t n);

/* Number of the first element of x (slot 0) in the step batch. */
int64_t zs_dropout_first(const zs_call *c);

/* y[n] = dropout of x[n], which are elements [at, at+n) of slot 0's shape; y may be x. */
void zs_dropout_range(float *y, const float *x, const zs_call *c, int64_t at, int64_t n);

#endif
