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

/* The picture that a box of m is shown, and how many numbers become of it. */
typedef struct view {
    zs_box box;
    zs_shape picture;
    int64_t numbers;
} view;

static int choose_view(view *v, const zs_model *m, zs_box box, zs_error *err)
{
    const zs_model_config *c = &m->config;
    zs_ports p;
    if (!zs_model_config_ports(c, box, &p))
        return zs_fail(err, ZS_E_INVALID, "%s has no %s to be recognised by", m->label,
                       zs_box_name(box));
    bool latents = box == ZS_BOX_FIRST_STAGE;
    int64_t own = zs_model_config_encoder_size(c); /* in whatever company */
    int64_t side = latents ? LATENTS * p.unit : own > 0 ? own : SIDE;
    *v = (view){.box = box,
                .picture = zs_shape4(1, side, side, p.in_channels),
                .numbers = latents ? LATENTS * LATENTS * p.out_channels : p.z_dim};
    return ZS_OK;
}

/* What the box makes of the picture x. */
static int see(zs_model *m, const view *v, float *out, const float *x, zs_error *err)
{
    zs_model *owned, *eye;
    int status = precise(&eye, &owned, m, err);
    if (status == ZS_OK)
        status = v->box == ZS_BOX_FIRST_STAGE
                     ? zs_model_to_latents(eye, out, x, v->picture, NULL, err)
                     : zs_model_encode(eye, out, x, v->picture, err);
    zs_model_close(&owned);
    return status;
}

int zs_rep_fingerprint(char out[ZS_REP_FINGERPRINT], zs_model *m, zs_box box, zs_error *err)
{
    view v = {.box = box};
    int status = choose_view(&v, m, box, err);
    if (status < 0)
        return status;
    size_t pixels = (size_t)zs_shape_numel(&v.picture), all = pixels + (size_t)v.numbers;
    float *x = zs_alloc(all, sizeof *x);
    if (!x)
        return zs_fail_nomem(err, all * sizeof *x, "a picture");
    draw_picture(x, v.picture.d[1], v.picture.d[3]);
    status = see(m, &v, x + pixels, x, err);
    if (status == ZS_OK)
        print_some(out, x + pixels, v.numbers);
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
