/* SPDX-License-Identifier: MIT */
/* A vision transformer on prepared images: ViT-B/16 at 224 pixels, features alone. */
#include "tasks/benchrow.h"

#include <stdio.h>

typedef struct vit {
    const zs_bench_row *row;
    const zs_backend *backend;
    zs_vit_config c;
    zs_params *ps;
    zs_exec *exec;
    float *weights; /* the program's */
    zs_weights placed;
    double flops;
} vit;

static size_t weight_bytes(const vit *k)
{
    return (size_t)zs_params_numel(k->ps) * sizeof(float);
}

static void vit_close(void **state)
{
    vit *k = *state;
    if (!k)
        return;
    zs_exec_free(&k->exec);
    zs_weights_clear(&k->placed);
    if (k->weights)
        zs_backend_host(k->backend)->release(k->weights, weight_bytes(k));
    zs_params_free(&k->ps);
    zs_free(k);
    *state = NULL;
}

static zs_shape images(const vit *k)
{
    return zs_shape4(k->row->n, k->c.side, k->c.side, k->c.in_channels);
}

static int plan(vit *k, const zs_bench_setting *s, zs_error *err)
{
    zs_exec_config ec = {.backend = s->backend, .hook = s->hook, .hook_ctx = s->hook_ctx};
    zs_graph *g = NULL;
    zs_vit_taps taps;
    int status = zs_params_new(&k->ps, err);
    if (status == ZS_OK)
        status = zs_graph_new(&g, err);
    if (status < 0)
        return status;
    zs_nn nn = {.g = g, .ps = k->ps};
    zs_vit_build(&taps, &nn, &k->c, zs_graph_input(g, "x", images(k)));
    zs_graph_output(g, "features", taps.features);
    zs_params_seal(k->ps);
    k->flops = zs_graph_flops(g);
    return zs_exec_new(&k->exec, &g, &ec, err);
}

static int vit_open(void **state, const zs_bench_row *r, const zs_bench_setting *s, zs_error *err)
{
    vit *k = zs_calloc(1, sizeof *k);
    *state = k;
    if (!k)
        return zs_fail_nomem(err, sizeof *k, "a network");
    k->row = r;
    k->backend = s->backend;
    k->c = (zs_vit_config){.depth = 12,
                           .in_channels = 3,
                           .side = 224,
                           .patch = 16,
                           .width = 768,
                           .heads = 12,
                           .hidden = 3072,
                           .eps = 1e-6};
    zs_vit_head_set(&k->c, ZS_VIT_HEAD_NONE);
    int status = plan(k, s, err);
    if (status < 0)
        return status;
    k->weights = zs_backend_host(k->backend)->alloc(weight_bytes(k));
    if (!k->weights)
        return zs_fail_nomem(err, weight_bytes(k), r->name);
    zs_bench_weights(k->weights, k->ps, s->seed);
    k->placed = zs_weights_of_host(k->backend, k->weights, (size_t)zs_params_numel(k->ps));
    zs_shape xs = images(k);
    zs_bench_fill(zs_exec_input(k->exec, "x"), (size_t)zs_shape_numel(&xs), s->seed, 1);
    return ZS_OK;
}

static int vit_run(void *state, zs_error *err)
{
    vit *k = state;
    zs_buffers b;
    int status = zs_weights_get(&b, &k->placed, 1, err);
    return status == ZS_OK ? zs_exec_run_with(k->exec, &b, &(zs_step){0}, err) : status;
}

static double vit_flops(const void *state)
{
    return ((const vit *)state)->flops;
}

static int vit_save(void *state, const char *dir, zs_error *err)
{
    vit *k = state;
    char name[64];
    zs_bench_file f = {0};
    int64_t shape[] = {k->row->n, k->c.width};
    int status = vit_run(k, err);
    zs_bench_put_images(&f, "x", zs_exec_input(k->exec, "x"), images(k));
    zs_bench_put(&f, "", "features", 2, shape, zs_exec_output(k->exec, "features"));
    zs_bench_put_params(&f, "param.", k->ps, k->weights);
    (void)snprintf(name, sizeof name, "%s.safetensors", k->row->name);
    int written = zs_bench_write(&f, dir, name, err);
    return status < 0 ? status : written;
}

const zs_bench_kind zs_bench_vit = {vit_open, vit_run, vit_flops, vit_save, vit_close};
