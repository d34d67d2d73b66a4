/* SPDX-License-Identifier: MIT */
#include "models/rep.h"
#include "models/model_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Numbers of a fingerprint, the side of the picture where a model does not say, and that of its
 * latents. */
enum { NUMBERS = 10, SIDE = 64, LATENTS = 8 };

/* Weights in half precision moved a representation by 2e-4 of its length, a tenth of an epoch of
 * further training by 2e-2. */
static const double TOLERANCE = 0.005;

/* Waves and grain: something for every filter. */
static void draw_picture(float *x, int64_t side, int64_t channels)
{
    const zs_rng r = {1, ZS_RNG_TEST, 0, 0};
    zs_rng_normal(x, (size_t)(side * side * channels), &r, 0);
    for (int64_t i = 0; i < side * side * channels; i++) {
        double u = (double)(i / channels % side) / (double)side;
        double v = (double)(i / channels / side) / (double)side;
        double wave = sin(9.0 * u + (double)(i % channels)) * cos(7.0 * v);
        x[i] = fmaxf(-1.0f, fminf(1.0f, (float)(0.6 * wave) + 0.2f * x[i]));
    }
}

/* An encoder of one size sees that size in whatever company. */
static int64_t picture_side(const zs_model_config *c, const zs_ports *encoder)
{
    return encoder->side ? encoder->side : c->image_size > 0 ? c->image_size : SIDE;
}

static void print_some(char out[ZS_REP_FINGERPRINT], const float *z, int64_t dim)
{
    size_t used = 0;
    for (int i = 0; i < NUMBERS && i < dim; i++)
        used += (size_t)snprintf(out + used, ZS_REP_FINGERPRINT - used, "%s%.6g", i ? " " : "",
                                 (double)z[dim * i / NUMBERS]);
}

/* The weights of m in a model that computes in single precision: half precision moves a
 * representation by up to 1e-2 of its length, and latents by more, so that m would be told apart
 * from itself on another device. The model is *owned, or m itself where that rounds nothing. */
static int precise(zs_model **out, zs_model **owned, zs_model *m, zs_error *err)
{
    const zs_model_options o = {.backend = "cpu", .batch = 1};
    int status = ZS_OK;
    *out = m;
    *owned = NULL;
    if (m->backend->bf16 && m->weights)
        status = zs_model_wrap_buffer(owned, &m->config, m->weights, &o, err);
    if (*owned)
        *out = *owned;
    return status;
}

/* What the encoder, or the first stage, of m makes of the picture x. */
static int see(zs_model *m, float *out, const float *x, zs_shape xs, bool latents, zs_error *err)
{
    zs_model *owned, *eye;
    int status = precise(&eye, &owned, m, err);
    if (status == ZS_OK)
        status = latents ? zs_model_to_latents(eye, out, x, xs, NULL, err)
                         : zs_model_encode(eye, out, x, xs, err);
    zs_model_close(&owned);
    return status;
}

int zs_rep_fingerprint(char out[ZS_REP_FINGERPRINT], zs_model *m, zs_error *err)
{
    const zs_model_config *c = zs_model_configuration(m);
    zs_ports p;
    (void)zs_model_config_ports(c, ZS_BOX_ENCODER, &p);
    int64_t side = picture_side(c, &p), dim = zs_model_config_z_dim(c);
    size_t pixels = (size_t)(side * side * p.in_channels);
    float *x = zs_alloc(pixels + (size_t)dim, sizeof *x), *z = x ? x + pixels : NULL;
    if (!x)
        return zs_fail_nomem(err, (pixels + (size_t)dim) * sizeof *x, "a picture");
    draw_picture(x, side, p.in_channels);
    int status = see(m, z, x, zs_shape4(1, side, side, p.in_channels), false, err);
    if (status == ZS_OK)
        print_some(out, z, dim);
    zs_free(x);
    return status;
}

int zs_latent_fingerprint(char out[ZS_REP_FINGERPRINT], zs_model *m, zs_error *err)
{
    const zs_vae_config *c = &zs_model_configuration(m)->vae;
    int64_t side = (int64_t)LATENTS << (c->levels > 0 ? c->levels - 1 : 0);
    int64_t pixels = side * side * c->channels, dim = LATENTS * LATENTS * c->latent_channels;
    float *x = zs_alloc((size_t)(pixels + dim), sizeof *x);
    if (!x)
        return zs_fail_nomem(err, (size_t)(pixels + dim) * sizeof *x, "a picture");
    draw_picture(x, side, c->channels);
    int status = see(m, x + pixels, x, zs_shape4(1, side, side, c->channels), true, err);
    if (status == ZS_OK)
        print_some(out, x + pixels, dim);
    zs_free(x);
    return status;
}

static size_t parse(double v[NUMBERS], const char *text)
{
    size_t n = 0;
    for (char *end; n < NUMBERS && *text; n++, text = end) {
        v[n] = strtod(text, &end);
        if (end == text)
            return 0;
    }
    return n;
}

bool zs_rep_same(const char *a, const char *b)
{
    double va[NUMBERS], vb[NUMBERS], length = 0.0, distance = 0.0;
    size_t n = parse(va, a);
    if (n == 0 || n != parse(vb, b))
        return false;
    for (size_t i = 0; i < n; i++) {
        length += va[i] * va[i];
        distance += (va[i] - vb[i]) * (va[i] - vb[i]);
    }
    return distance <= TOLERANCE * TOLERANCE * length;
}
