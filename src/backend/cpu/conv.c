/* SPDX-License-Identifier: MIT */
/* Chooses an algorithm for each convolution. */
#include "backend/cpu/conv.h"
#include "backend/cpu/conv_direct.h"
#include "backend/cpu/fast.h"

#include <stdatomic.h>

/* How one of the three operations can be done; lists are in order of preference. */
typedef struct algorithm {
    zs_conv_path path;
    bool (*can)(const zs_call *c);
    void (*run)(const zs_call *c);
    size_t (*workspace)(const zs_call *c);
} algorithm;

static const algorithm forward[] = {
    {ZS_CONV_DIRECT, zs_conv_direct_can, zs_conv_direct, zs_conv_direct_ws},
};
static const algorithm input_gradient[] = {
    {ZS_CONV_DIRECT, zs_conv_direct_dx_can, zs_conv_direct_dx, zs_conv_direct_dx_ws},
};
static const algorithm weight_gradient[] = {
    {ZS_CONV_DIRECT, zs_conv_direct_dw_can, zs_conv_direct_dw, zs_conv_direct_dw_ws},
};

static atomic_int best = ZS_CONV_DIRECT;

void zs_conv_path_set(zs_conv_path path)
{
    atomic_store(&best, (int)path);
}

/* The first that can do it and is not beyond the path that was asked for; NULL: the reference. */
static const algorithm *pick(const algorithm *list, size_t n, const zs_call *c)
{
    int limit = atomic_load(&best);
    for (size_t i = 0; i < n; i++)
        if ((int)list[i].path <= limit && list[i].can(c))
            return &list[i];
    return NULL;
}

#define KERNEL(NAME, LIST)                                                \
    static void run_##NAME(const zs_call *c)                              \
    {                                                                     \
        const algorithm *a = pick(LIST, sizeof LIST / sizeof LIST[0], c); \
        if (a)                                                            \
            a->run(c);                                                    \
        else                                                              \
            zs_ref_##NAME.run(c);                                         \
    }                                                                     \
    static size_t ws_##NAME(const zs_call *c)                             \
    {                                                                     \
        const algorithm *a = pick(LIST, sizeof LIST / sizeof LIST[0], c); \
        return a ? a->workspace(c) : 0;                                   \
    }                                                                     \
    const zs_kernel zs_fast_##NAME = {run_##NAME, ws_##NAME};

KERNEL(conv2d, forward)
KERNEL(conv2d_dx, input_gradient)
KERNEL(conv2d_dw, weight_gradient)
