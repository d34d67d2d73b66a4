/* SPDX-License-Identifier: MIT */
#include "diffusion/guidance.h"

static int make_room(zs_guidance *g, zs_error *err)
{
    size_t n;
    if (g->other)
        return ZS_OK;
    if (!zs_mul_size((size_t)g->positions, (size_t)g->pitch, &n) ||
        !(g->other = zs_alloc(n, sizeof *g->other)))
        return zs_fail_nomem(err, (unsigned long long)g->positions * (unsigned long long)g->pitch,
                             "guidance; use a smaller batch");
    return ZS_OK;
}

int zs_guidance_net(void *ctx, const float *x, int64_t t, float *out, zs_error *err)
{
    zs_guidance *g = ctx;
    float scale = (float)g->scale;
    int status = make_room(g, err);
    if (status == ZS_OK)
        status = g->cond(g->cond_ctx, x, t, out, err);
    if (status == ZS_OK)
        status = g->uncond(g->uncond_ctx, x, t, g->other, err);
    for (int64_t p = 0; status == ZS_OK && p < g->positions; p++) {
        float *c = out + p * g->pitch;
        const float *u = g->other + p * g->pitch;
        for (int64_t k = 0; k < g->guided; k++)
            c[k] = u[k] + scale * (c[k] - u[k]);
    }
    return status;
}

void zs_guidance_free(zs_guidance *g)
{
    zs_free(g->other);
    g->other = NULL;
}
