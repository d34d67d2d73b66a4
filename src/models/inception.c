/* SPDX-License-Identifier: MIT */
#include "models/inception.h"

/* Kernels by name; padding keeps the size except where the stride is 2 or the name says valid. */
static const zs_window k1x1 = {1, 1, 1, 0, 0}, k3x3 = {3, 3, 1, 1, 1}, k5x5 = {5, 5, 1, 2, 2},
                       k1x3 = {1, 3, 1, 0, 1}, k3x1 = {3, 1, 1, 1, 0}, k1x7 = {1, 7, 1, 0, 3},
                       k7x1 = {7, 1, 1, 3, 0}, k3x3_valid = {3, 3, 1, 0, 0},
                       k3x3_half = {3, 3, 2, 0, 0};

/* A branch: convolutions one after another. */
typedef struct step {
    const char *name;
    const zs_window *w;
} step;

static zs_tid chain(zs_frozen_build *b, zs_tid x, const step *s)
{
    for (; s->name; s++)
        x = zs_frozen_conv(b, s->name, x, *s->w);
    return x;
}

static zs_tid join(zs_frozen_build *b, const zs_tid *t, int n)
{
    zs_tid y = t[0];
    for (int i = 1; i < n; i++)
        y = zs_concat(b->nn.g, y, t[i]);
    return y;
}

static zs_tid pool(zs_frozen_build *b, zs_tid x, zs_pool_kind kind)
{
    return zs_pool(b->nn.g, x, kind, 3, 1, 1);
}

static zs_tid shrink(zs_frozen_build *b, zs_tid x)
{
    return zs_pool(b->nn.g, x, ZS_POOL_MAX, 3, 2, 0);
}

static zs_tid block_a(zs_frozen_build *b, zs_tid x)
{
    const step five[] = {{"branch5x5_1", &k1x1}, {"branch5x5_2", &k5x5}, {NULL, NULL}};
    const step three[] = {{"branch3x3dbl_1", &k1x1},
                          {"branch3x3dbl_2", &k3x3},
                          {"branch3x3dbl_3", &k3x3},
                          {NULL, NULL}};
    const zs_tid part[4] = {zs_frozen_conv(b, "branch1x1", x, k1x1), chain(b, x, five),
                            chain(b, x, three),
                            zs_frozen_conv(b, "branch_pool", pool(b, x, ZS_POOL_MEAN), k1x1)};
    return join(b, part, 4);
}

static zs_tid block_b(zs_frozen_build *b, zs_tid x)
{
    const step three[] = {{"branch3x3dbl_1", &k1x1},
                          {"branch3x3dbl_2", &k3x3},
                          {"branch3x3dbl_3", &k3x3_half},
                          {NULL, NULL}};
    const zs_tid part[3] = {zs_frozen_conv(b, "branch3x3", x, k3x3_half), chain(b, x, three),
                            shrink(b, x)};
    return join(b, part, 3);
}

static zs_tid block_c(zs_frozen_build *b, zs_tid x)
{
    const step seven[] = {
        {"branch7x7_1", &k1x1}, {"branch7x7_2", &k1x7}, {"branch7x7_3", &k7x1}, {NULL, NULL}};
    const step twice[] = {{"branch7x7dbl_1", &k1x1}, {"branch7x7dbl_2", &k7x1},
                          {"branch7x7dbl_3", &k1x7}, {"branch7x7dbl_4", &k7x1},
                          {"branch7x7dbl_5", &k1x7}, {NULL, NULL}};
    const zs_tid part[4] = {zs_frozen_conv(b, "branch1x1", x, k1x1), chain(b, x, seven),
                            chain(b, x, twice),
                            zs_frozen_conv(b, "branch_pool", pool(b, x, ZS_POOL_MEAN), k1x1)};
    return join(b, part, 4);
}

static zs_tid block_d(zs_frozen_build *b, zs_tid x)
{
    const step three[] = {{"branch3x3_1", &k1x1}, {"branch3x3_2", &k3x3_half}, {NULL, NULL}};
    const step seven[] = {{"branch7x7x3_1", &k1x1},
                          {"branch7x7x3_2", &k1x7},
                          {"branch7x7x3_3", &k7x1},
                          {"branch7x7x3_4", &k3x3_half},
                          {NULL, NULL}};
    const zs_tid part[3] = {chain(b, x, three), chain(b, x, seven), shrink(b, x)};
    return join(b, part, 3);
}

static zs_tid block_e(zs_frozen_build *b, zs_tid x, zs_pool_kind kind)
{
    const step twice[] = {{"branch3x3dbl_1", &k1x1}, {"branch3x3dbl_2", &k3x3}, {NULL, NULL}};
    zs_tid one = zs_frozen_conv(b, "branch1x1", x, k1x1);
    zs_tid h = zs_frozen_conv(b, "branch3x3_1", x, k1x1);
    zs_tid ha = zs_frozen_conv(b, "branch3x3_2a", h, k1x3),
           hb = zs_frozen_conv(b, "branch3x3_2b", h, k3x1);
    zs_tid d = chain(b, x, twice);
    zs_tid da = zs_frozen_conv(b, "branch3x3dbl_3a", d, k1x3),
           db = zs_frozen_conv(b, "branch3x3dbl_3b", d, k3x1);
    const zs_tid part[6] = {one, ha, hb,
                            da,  db, zs_frozen_conv(b, "branch_pool", pool(b, x, kind), k1x1)};
    return join(b, part, 6);
}

zs_tid zs_inception_block_build(zs_frozen_build *b, zs_inception_block kind, zs_tid x)
{
    switch (kind) {
    case ZS_INCEPTION_A: return block_a(b, x);
    case ZS_INCEPTION_B: return block_b(b, x);
    case ZS_INCEPTION_C: return block_c(b, x);
    case ZS_INCEPTION_D: return block_d(b, x);
    case ZS_INCEPTION_E1: return block_e(b, x, ZS_POOL_MEAN);
    case ZS_INCEPTION_E2: return block_e(b, x, ZS_POOL_MAX);
    }
    return ZS_NONE;
}

static zs_tid mixed(zs_frozen_build *b, zs_tid x, const char *name, zs_inception_block kind)
{
    zs_nn_push(&b->nn, "Mixed_%s", name);
    x = zs_inception_block_build(b, kind, x);
    zs_nn_pop(&b->nn);
    return x;
}

static void build(zs_frozen_build *b, zs_shape s)
{
    const step stem[] = {{"Conv2d_1a_3x3", &k3x3_half},
                         {"Conv2d_2a_3x3", &k3x3_valid},
                         {"Conv2d_2b_3x3", &k3x3},
                         {NULL, NULL}};
    const step stem2[] = {{"Conv2d_3b_1x1", &k1x1}, {"Conv2d_4a_3x3", &k3x3_valid}, {NULL, NULL}};
    static const struct {
        const char *name;
        zs_inception_block kind;
    } blocks[] = {{"5b", ZS_INCEPTION_A},  {"5c", ZS_INCEPTION_A}, {"5d", ZS_INCEPTION_A},
                  {"6a", ZS_INCEPTION_B},  {"6b", ZS_INCEPTION_C}, {"6c", ZS_INCEPTION_C},
                  {"6d", ZS_INCEPTION_C},  {"6e", ZS_INCEPTION_C}, {"7a", ZS_INCEPTION_D},
                  {"7b", ZS_INCEPTION_E1}, {"7c", ZS_INCEPTION_E2}};
    zs_graph *g = b->nn.g;
    zs_tid x = shrink(b, chain(b, zs_graph_input(g, "x", s), stem));
    zs_graph_output(g, "block0", x);
    x = shrink(b, chain(b, x, stem2));
    zs_graph_output(g, "block1", x);
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        if (blocks[i].kind == ZS_INCEPTION_D)
            zs_graph_output(g, "block2", x);
        x = mixed(b, x, blocks[i].name, blocks[i].kind);
    }
    x = zs_mean_hw(g, x);
    zs_graph_output(g, "pool3", x);
    zs_tid logits = zs_frozen_matrix(b, "fc", x);
    if (logits >= 0)
        zs_graph_output(g, "logits", logits);
}

int zs_inception_open(zs_frozen **out, const char *path, const char *backend, zs_error *err)
{
    static const zs_frozen_kind kind = {
        "the InceptionV3 of pytorch-fid (pt_inception-2015-12-05-6726825d.pth)",
        1e-3f,
        {4, {1, ZS_INCEPTION_SIZE, ZS_INCEPTION_SIZE, 3}},
        build};
    return zs_frozen_open(out, path, &kind, backend, err);
}

bool zs_inception_probe(const zs_tensorfile *f)
{
    return zs_tensorfile_find(f, "Mixed_5b.branch1x1.conv.weight") >= 0;
}

/* ---- input ---- */

/* Where output pixel `at` of 299 samples an axis of n pixels: i and i1, weight of the latter. */
typedef struct tap {
    int i, i1;
    float f;
} tap;

static tap sample(int at, int n, zs_inception_resize how)
{
    float scale = (float)n / (float)ZS_INCEPTION_SIZE, x = (float)at * scale;
    if (how == ZS_INCEPTION_PYTORCH)
        x = scale * ((float)at + 0.5f) - 0.5f;
    if (x < 0.0f)
        x = 0.0f;
    tap t = {(int)x, 0, 0.0f};
    t.i = t.i < n - 1 ? t.i : n - 1;
    t.i1 = t.i < n - 1 ? t.i + 1 : n - 1;
    t.f = x - (float)t.i;
    return t;
}

void zs_inception_input(float *dst, const float *src, int h, int w, zs_inception_resize how)
{
    const bool tf = how == ZS_INCEPTION_TF;
    tap tx[ZS_INCEPTION_SIZE];
    for (int x = 0; x < ZS_INCEPTION_SIZE; x++)
        tx[x] = sample(x, w, how);
    for (int y = 0; y < ZS_INCEPTION_SIZE; y++) {
        tap ty = sample(y, h, how);
        const float *a = src + (size_t)ty.i * (size_t)w * 3,
                    *b = src + (size_t)ty.i1 * (size_t)w * 3;
        for (int x = 0; x < ZS_INCEPTION_SIZE; x++)
            for (int c = 0; c < 3; c++) {
                int p = 3 * tx[x].i + c, q = 3 * tx[x].i1 + c;
                float top = a[p] + tx[x].f * (a[q] - a[p]);
                float bottom = b[p] + tx[x].f * (b[q] - b[p]);
                float v = top + ty.f * (bottom - top);
                *dst++ = tf ? (v - 128.0f) / 128.0f : 2.0f * (v / 255.0f) - 1.0f;
            }
    }
}
