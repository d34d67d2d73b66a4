/* SPDX-License-Identifier: MIT */
/* One call of a network of a preset, with random weights. */
#include "tasks/benchrow.h"

#include <stdio.h>

typedef struct net {
    const zs_bench_row *row;
    zs_model_config c;
    zs_params *ps;
    const zs_backend *backend;
    zs_model *m;
    float *weights, *x, *z, *out;
    size_t weights_bytes;
    int64_t *t;
    zs_shape xs;
    double flops;
    bool encoder;   /* instead of the generator */
    int64_t dim;    /* of representations */
    zs_shape out_s; /* of what the generator returns */
} net;

static void net_close(void **state)
{
    net *k = *state;
    if (!k)
        return;
    zs_model_close(&k->m);
    zs_params_free(&k->ps);
    if (k->weights)
        zs_backend_host(k->backend)->release(k->weights, k->weights_bytes);
    zs_free(k->x);
    zs_free(k->z);
    zs_free(k->out);
    zs_free(k->t);
    zs_free(k);
    *state = NULL;
}

static int load_preset(net *k, zs_error *err)
{
    zs_preset p;
    zs_ports ports;
    zs_flops f = {0};
    int status = zs_preset_find(&p, k->row->preset, err);
    if (status < 0)
        return status;
    k->c =
        zs_model_config_arch(&p.autoencoder, ZS_BOX_GENERATOR, NULL) ? p.autoencoder : p.generator;
    k->xs = k->out_s = zs_shape4(k->row->n, k->c.image_size, k->c.image_size, k->c.channels);
    k->dim = zs_model_config_z_dim(&k->c);
    (void)zs_model_config_ports(&k->c, ZS_BOX_GENERATOR, &ports);
    k->out_s.d[3] = ports.out_channels;
    status = zs_model_layout(&k->ps, &k->c, err);
    if (status == ZS_OK)
        status = zs_model_flops(&f, &k->c, k->c.image_size, k->c.image_size, err);
    k->flops = (double)k->row->n * f.box[k->encoder ? ZS_BOX_ENCODER : ZS_BOX_GENERATOR];
    return status;
}

static int allocate(net *k, uint64_t seed, zs_error *err)
{
    size_t n = (size_t)k->row->n, numel = (size_t)zs_shape_numel(&k->xs);
    size_t dim = (size_t)k->dim, weights = (size_t)zs_params_numel(k->ps);
    k->weights_bytes = weights * sizeof(float);
    /* as a model from a file has them */
    k->weights = zs_backend_host(k->backend)->alloc(k->weights_bytes);
    k->x = zs_alloc(numel, sizeof(float));
    k->out = zs_alloc((size_t)zs_shape_numel(&k->out_s), sizeof(float));
    k->z = zs_alloc(n * dim, sizeof(float));
    k->t = zs_alloc(n, sizeof *k->t);
    if (!k->weights || !k->x || !k->out || !k->z || !k->t)
        return zs_fail_nomem(err, (weights + 2 * numel) * 4, k->row->name);
    zs_bench_weights(k->weights, k->ps, seed);
    zs_bench_fill(k->x, numel, seed, 1);
    zs_bench_fill(k->z, n * dim, seed, 2);
    for (size_t i = 0; i < n; i++)
        k->t[i] = (int64_t)(i * 113 + 500) % k->c.diffusion.T;
    return ZS_OK;
}

static int open_net(void **state, const zs_bench_row *r, const zs_bench_setting *s, bool encoder,
                    zs_error *err)
{
    net *k = zs_calloc(1, sizeof *k);
    *state = k;
    if (!k)
        return zs_fail_nomem(err, sizeof *k, "a network");
    k->row = r;
    k->backend = s->backend;
    k->encoder = encoder;
    zs_model_options o = {
        .backend = s->backend->name, .batch = r->n, .hook = s->hook, .hook_ctx = s->hook_ctx};
    int status = load_preset(k, err);
    if (status == ZS_OK)
        status = allocate(k, s->seed, err);
    if (status == ZS_OK)
        status = zs_model_wrap(&k->m, &k->c, k->weights, &o, err);
    if (status == ZS_OK)
        zs_model_promise(k->m);
    return status;
}

static int open_eps(void **state, const zs_bench_row *r, const zs_bench_setting *s, zs_error *err)
{
    return open_net(state, r, s, false, err);
}

static int open_encode(void **state, const zs_bench_row *r, const zs_bench_setting *s,
                       zs_error *err)
{
    return open_net(state, r, s, true, err);
}

static int net_run(void *state, zs_error *err)
{
    net *k = state;
    return k->encoder ? zs_model_encode(k->m, k->z, k->x, k->xs, err)
                      : zs_model_eps(k->m, k->out, k->x, k->xs, k->t, &(zs_cond){.z = k->z}, err);
}

static double net_flops(const void *state)
{
    return ((const net *)state)->flops;
}

static int net_save(void *state, const char *dir, zs_error *err)
{
    net *k = state;
    char name[64];
    zs_bench_file f = {0};
    int64_t codes[] = {k->row->n, k->dim};
    int status = net_run(k, err);
    zs_bench_put_images(&f, "x", k->x, k->xs);
    zs_bench_put(&f, "", "z", 2, codes, k->z);
    if (!k->encoder) {
        zs_bench_put_times(&f, "t", k->t, k->row->n);
        zs_bench_put_images(&f, "eps", k->out, k->out_s);
    }
    snprintf(name, sizeof name, "%s.safetensors", k->row->name);
    int written = zs_bench_write(&f, dir, name, err);
    if (status == ZS_OK)
        status = written;
    return status < 0 ? status
                      : zs_bench_write_model(dir, k->row->preset, &k->c, k->ps, k->weights, err);
}

const zs_bench_kind zs_bench_eps = {open_eps, net_run, net_flops, net_save, net_close};
const zs_bench_kind zs_bench_encode = {open_encode, net_run, net_flops, net_save, net_close};
