/* SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"

typedef struct job {
    const zs_call *c;
    zs_cpu_range fn;
} job;

static void trampoline(void *ctx, int64_t begin, int64_t end, int thread)
{
    const job *j = ctx;
    j->fn(j->c, begin, end, thread);
}

void zs_cpu_for(const zs_call *c, int64_t n, int64_t grain, zs_cpu_range fn)
{
    job j = {c, fn};
    zs_parallel_for(n, grain, trampoline, &j);
}
