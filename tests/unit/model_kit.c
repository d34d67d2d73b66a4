/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/model_kit.h"
#include "tests/unit/must.h"

static uint64_t dice_at;

/* A number in lo..hi, the same in every run. */
static int dice(int lo, int hi)
{
    zs_rng r = {.seed = 11, .purpose = ZS_RNG_TEST, .index = dice_at++};
    return lo + (int)zs_rng_below(&r, (uint64_t)(hi - lo + 1));
}

static int random_levels(int64_t *ch, uint32_t *attn, int most)
{
    int levels = dice(1, most);
    *attn = 0;
    for (int i = 0; i < levels; i++) {
        ch[i] = 4 * dice(1, 3);
        *attn |= (uint32_t)(dice(0, 2) == 0) << i;
    }
    return levels;
}

zs_model_config kit_config(bool conditional)
{
    zs_model_config c = {.channels = dice(0, 1) ? 3 : 1,
                         .image_size = 32 * dice(1, 3),
                         .fit = "crop",
                         .diffusion = zs_process_diffae,
                         .latent = zs_process_diffae_latent};
    zs_unet_config *u = &c.unet;
    zs_sem_encoder_config *e = &c.sem_encoder;
    u->in_channels = u->out_channels = c.channels;
    u->model_channels = 2 * dice(1, 10);
    u->embed_channels = dice(3, 20);
    u->levels = random_levels(u->ch, &u->attn_levels, 4);
    u->num_res_blocks = dice(1, 3);
    u->heads = 1;
    u->dropout = 0.1;
    if (!conditional)
        return c;
    u->z_dim = e->z_dim = dice(2, 9);
    e->in_channels = c.channels;
    e->levels = random_levels(e->ch, &e->attn_levels, 5);
    e->num_res_blocks = dice(1, 3);
    e->heads = 1;
    if (dice(0, 1))
        c.latent_mlp = (zs_latent_mlp_config){.z_dim = u->z_dim,
                                              .hidden = dice(5, 12),
                                              .layers = dice(2, 5),
                                              .time_channels = 2 * dice(1, 8)};
    for (int i = 0; i < c.latent_mlp.layers; i++)
        c.latent_mlp.skips |= (uint64_t)dice(0, 1) << i;
    return c;
}

static void put(kit_sd *s, const char *prefix, const float *flat, size_t *used)
{
    for (size_t i = 0; i < zs_params_count(s->ps); i++) {
        const zs_param *p = zs_params_at(s->ps, i);
        zs_tensorout *t = &s->t[s->n];
        (void)snprintf(s->names[s->n], 160, "%s%s", prefix, p->name);
        *t = (zs_tensorout){s->names[s->n], ZS_F32, p->nd, {0}, s->data + *used};
        memcpy(t->shape, p->shape, sizeof p->shape);
        zs_params_export(s->ps, i, flat, s->data + *used);
        *used += (size_t)p->numel;
        s->n++;
    }
}

kit_sd kit_sd_new(const zs_model_config *c)
{
    kit_sd s = {0};
    zs_error err = {0};
    size_t used = 0;
    must(zs_model_layout(&s.ps, c, &err), &err);
    size_t n = (size_t)zs_params_numel(s.ps), count = zs_params_count(s.ps);
    s.raw = zs_alloc(n, sizeof *s.raw);
    s.averaged = zs_alloc(n, sizeof *s.averaged);
    s.t = zs_calloc(2 * count + 1, sizeof *s.t);
    s.names = zs_alloc(2 * count + 1, sizeof *s.names);
    s.data = zs_alloc(4 * n, sizeof *s.data);
    zs_rng r = {.seed = 5, .purpose = ZS_RNG_TEST, .index = 1};
    zs_rng_normal(s.raw, n, &r, 0);
    zs_rng_normal(s.averaged, n, &r, n);
    zs_params_clear_gaps(s.ps, s.raw);
    zs_params_clear_gaps(s.ps, s.averaged);
    put(&s, "model.", s.raw, &used);
    put(&s, "ema_model.", s.averaged, &used);
    static const float x_T[96 * 96 * 3];
    s.t[s.n++] =
        (zs_tensorout){"x_T", ZS_F32, 4, {1, c->channels, c->image_size, c->image_size}, x_T};
    return s;
}

void kit_sd_free(kit_sd *s)
{
    zs_params_free(&s->ps);
    zs_free(s->raw);
    zs_free(s->averaged);
    zs_free(s->t);
    zs_free(s->names);
    zs_free(s->data);
}

void kit_sd_write(const kit_sd *s, const char *path)
{
    zs_error err = {0};
    must(zs_safetensors_write(path, s->t, s->n, NULL, &err), &err);
}

char *kit_config_text(const zs_model_config *c)
{
    json_t *j = zs_model_config_to_json(c);
    char *text = json_dumps(j, JSON_SORT_KEYS | JSON_COMPACT);
    json_decref(j);
    assert_non_null(text);
    return text;
}

zs_model_config kit_dit(void)
{
    return (zs_model_config){.image_size = KIT_DIT_SIDE,
                             .channels = KIT_DIT_SIDE,
                             .fit = "crop",
                             .diffusion = zs_process_dit,
                             .dit = {.depth = 2,
                                     .heads = 2,
                                     .hidden = 16,
                                     .mlp = 32,
                                     .patch = 2,
                                     .grid = 2,
                                     .in_channels = KIT_DIT_SIDE,
                                     .learn_sigma = true,
                                     .time_channels = 16,
                                     .classes = 1}};
}

float *kit_normal(size_t n, uint64_t index, float scale)
{
    float *v = zs_alloc(n, sizeof *v);
    const zs_rng r = {.seed = 2, .purpose = ZS_RNG_TEST, .index = index};
    assert_non_null(v);
    zs_rng_normal(v, n, &r, 0);
    for (size_t i = 0; i < n; i++)
        v[i] *= scale;
    return v;
}

double kit_difference(const float *a, const float *b, size_t n)
{
    double d = 0, s = 0;
    for (size_t i = 0; i < n; i++) {
        d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        s += (double)b[i] * (double)b[i];
    }
    return sqrt(d / s);
}

const char *kit_scratch(char buf[64])
{
    (void)snprintf(buf, 64, "/tmp/zsem-open-XXXXXX");
    assert_true(close(mkstemp(buf)) == 0);
    return buf;
}
