/* SPDX-License-Identifier: MIT */
#include "metrics/lpips.h"

#include "metrics/perceptual.h"
#include "models/models.h"

#include <math.h>
#include <string.h>

struct zs_lpips {
    zs_frozen *net;
    float *lin[ZS_ALEXNET_LAYERS];
    int64_t width[ZS_ALEXNET_LAYERS];
};

static int read_lin(zs_lpips *l, int i, zs_tensorfile *f, zs_error *err)
{
    char name[40];
    (void)snprintf(name, sizeof name, "lin%d.model.1.weight", i);
    long at = zs_tensorfile_find(f, name);
    if (at < 0)
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: has no %s; give weights/v0.1/alex.pth of the LPIPS repository",
                       zs_tensorfile_path(f), name);
    l->width[i] = zs_tensorfile_info(f, (size_t)at)->numel;
    l->lin[i] = zs_alloc((size_t)l->width[i], sizeof(float));
    if (!l->lin[i])
        return zs_fail_nomem(err, (size_t)l->width[i] * sizeof(float), name);
    int status = zs_tensorfile_read_f32(f, (size_t)at, l->lin[i], (size_t)l->width[i], err);
    for (int64_t k = 0; status == ZS_OK && k < l->width[i]; k++)
        if (!isfinite(l->lin[i][k]))
            status = zs_fail(err, ZS_E_NUMERIC, "%s: %s has weights that are not finite numbers",
                             zs_tensorfile_path(f), name);
    return status;
}

int zs_lpips_open(zs_lpips **out, const char *trunk, const char *lin, const char *backend,
                  zs_error *err)
{
    zs_tensorfile *f = NULL;
    zs_lpips *l = *out = zs_calloc(1, sizeof *l);
    if (!l)
        return zs_fail_nomem(err, sizeof *l, "LPIPS");
    int status = zs_tensorfile_open(&f, lin, err);
    for (int i = 0; i < ZS_ALEXNET_LAYERS && status == ZS_OK; i++)
        status = read_lin(l, i, f, err);
    zs_tensorfile_close(&f);
    if (status == ZS_OK)
        status = zs_alexnet_open(&l->net, trunk, backend, err);
    if (status < 0)
        zs_lpips_close(out);
    return status;
}

void zs_lpips_close(zs_lpips **l)
{
    if (!*l)
        return;
    zs_frozen_close(&(*l)->net);
    for (int i = 0; i < ZS_ALEXNET_LAYERS; i++)
        zs_free((*l)->lin[i]);
    zs_free(*l);
    *l = NULL;
}

/* Both halves of the batch as AlexNet takes them: a first, b second. */
static void scale_in(float *dst, const float *src, size_t n)
{
    static const float shift[3] = {-0.030f, -0.088f, -0.188f}, scale[3] = {0.458f, 0.448f, 0.450f};
    for (size_t i = 0; i < n; i++)
        dst[i] = (src[i] - shift[i % 3]) / scale[i % 3];
}

static int add_layers(double *d, zs_lpips *l, int64_t n, zs_error *err)
{
    memset(d, 0, (size_t)n * sizeof *d);
    for (int i = 0; i < ZS_ALEXNET_LAYERS; i++) {
        char name[16];
        zs_shape s;
        (void)snprintf(name, sizeof name, "relu%d", i);
        const float *y = zs_frozen_output(l->net, name, &s);
        int64_t pixels = s.d[1] * s.d[2], e = pixels * s.d[3];
        if (s.d[3] != l->width[i])
            return zs_fail(err, ZS_E_FORMAT,
                           "LPIPS weights for %lld channels do not fit layer %d of %s, which has "
                           "%lld",
                           (long long)l->width[i], i, zs_frozen_path(l->net), (long long)s.d[3]);
        for (int64_t k = 0; k < n; k++)
            d[k] += zs_lpips_layer(y + k * e, y + (n + k) * e, pixels, s.d[3], l->lin[i]);
    }
    return ZS_OK;
}

int zs_lpips_distance(double *d, zs_lpips *l, const float *a, const float *b, zs_shape xs,
                      zs_error *err)
{
    size_t e = (size_t)zs_shape_numel(&xs);
    if (xs.d[3] != 3 || xs.d[1] < ZS_ALEXNET_LEAST || xs.d[2] < ZS_ALEXNET_LEAST)
        return zs_fail(err, ZS_E_INVALID,
                       "LPIPS needs colour images of at least %dx%d pixels, not %lldx%lld; enlarge "
                       "both sets in the same way",
                       ZS_ALEXNET_LEAST, ZS_ALEXNET_LEAST, (long long)xs.d[2], (long long)xs.d[1]);
    float *x = zs_alloc(e, 2 * sizeof *x);
    if (!x)
        return zs_fail_nomem(err, e * 2 * sizeof *x, "a batch of images; lower --batch");
    scale_in(x, a, e);
    scale_in(x + e, b, e);
    int64_t n = xs.d[0];
    xs.d[0] *= 2;
    int status = zs_frozen_run(l->net, x, xs, err);
    zs_free(x);
    return status < 0 ? status : add_layers(d, l, n, err);
}
