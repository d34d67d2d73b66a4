/* SPDX-License-Identifier: MIT */
/* Chooses an algorithm for each convolution. */
#include "backend/cpu/conv.h"
#include "backend/cpu/conv_direct.h"
#include "backend/cpu/conv_few.h"
#include "backend/cpu/conv_patch.h"
#include "backend/cpu/conv_point.h"
#include "backend/cpu/fast.h"
#include "backend/cpu/wino_conv.h"
#include "backend/cpu/wino_dw.h"

#include <stdatomic.h>

/* How one of the three operations can be done; lists are in order of preference. */
typedef struct algorithm {
    zs_conv_path path;
    bool (*can)(const zs_call *c);
    void (*run)(const zs_call *c);
    size_t (*workspace)(const zs_call *c);
    const zs_packer *packer; /* or NULL; of the forward operation only */
} algorithm;

static const algorithm forward[] = {
    {ZS_CONV_WINOGRAD, zs_conv_wino_can, zs_conv_wino, zs_conv_wino_ws, &zs_conv_wino_packer},
    {ZS_CONV_FEW, zs_conv_few_can, zs_conv_few, zs_conv_few_ws, NULL},
    {ZS_CONV_POINT, zs_conv_point_can, zs_conv_point, zs_conv_point_ws, &zs_conv_point_packer},
    {ZS_CONV_DIRECT, zs_conv_direct_can, zs_conv_direct, zs_conv_direct_ws, &zs_conv_direct_packer},
};
static const algorithm input_gradient[] = {
    {ZS_CONV_WINOGRAD, zs_conv_wino_dx_can, zs_conv_wino_dx, zs_conv_wino_dx_ws, NULL},
    {ZS_CONV_FEW, zs_conv_few_dx_can, zs_conv_few_dx, zs_conv_few_dx_ws, NULL},
    {ZS_CONV_POINT, zs_conv_point_dx_can, zs_conv_point_dx, zs_conv_point_dx_ws, NULL},
    {ZS_CONV_POINT, zs_conv_patch_dx_can, zs_conv_patch_dx, zs_conv_patch_dx_ws, NULL},
    {ZS_CONV_DIRECT, zs_conv_direct_dx_can, zs_conv_direct_dx, zs_conv_direct_dx_ws, NULL},
};
static const algorithm weight_gradient[] = {
    {ZS_CONV_WINOGRAD, zs_conv_wino_dw_can, zs_conv_wino_dw, zs_conv_wino_dw_ws, NULL},
    {ZS_CONV_DIRECT, zs_conv_direct_dw_can, zs_conv_direct_dw, zs_conv_direct_dw_ws, NULL},
};

static atomic_int best = ZS_CONV_WINOGRAD;

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

static const zs_packer *forward_packer(const zs_call *c)
{
    const algorithm *a = pick(forward, sizeof forward / sizeof forward[0], c);
    return a ? a->packer : NULL;
}

static zs_packing packing(const zs_call *c)
{
    const zs_packer *p = forward_packer(c);
    return p ? p->packing(c) : (zs_packing){0};
}

static void pack(const zs_call *c, void *dst)
{
    forward_packer(c)->pack(c, dst);
}

const zs_packer zs_fast_conv2d_packer = {packing, pack};
