/* SPDX-License-Identifier: MIT */
/* Compiled with -ffp-contract=off: the filter weights must round as PIL's do. Rows are resized
 * before columns, as in every PIL before 13: the other order moves single pixels by one. */
#include "data/transform.h"

#include <math.h>
#include <string.h>

enum { FRACTION_BITS = 32 - 8 - 2 };

/* One axis of a separable resize: output i is the sum over j < count[i] of
 * weight[i*width + j] * input[first[i] + j]. */
typedef struct taps {
    int *first, *count, *weight;
    int width;
} taps;

/* The part [begin, begin+n) of an axis of `in` pixels resized to `out` pixels. */
typedef struct axis {
    int in;
    int64_t out, begin;
    int n;
} axis;

static void taps_free(taps *t)
{
    zs_free(t->first);
    zs_free(t->count);
    zs_free(t->weight);
    *t = (taps){0};
}

static double triangle(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

/* Weights in double, normalised in double, then rounded to fixed point: the order of
 * operations of PIL's Resample.c. `w` is scratch for t->width doubles. */
static void fill_taps(taps *t, int i, const axis *a, double *w)
{
    double scale = (double)a->in / (double)a->out, filter_scale = scale < 1.0 ? 1.0 : scale;
    double centre = ((double)(a->begin + i) + 0.5) * scale, inverse = 1.0 / filter_scale;
    int begin = (int)(centre - filter_scale + 0.5), end = (int)(centre + filter_scale + 0.5);
    if (begin < 0)
        begin = 0;
    if (end > a->in)
        end = a->in;
    double sum = 0.0;
    for (int j = 0; j < end - begin; j++) {
        w[j] = triangle((j + begin - centre + 0.5) * inverse);
        sum += w[j];
    }
    int *q = t->weight + (size_t)i * (size_t)t->width;
    for (int j = 0; j < end - begin; j++)
        q[j] = (int)(0.5 + (sum != 0.0 ? w[j] / sum : w[j]) * (1 << FRACTION_BITS));
    t->first[i] = begin;
    t->count[i] = end - begin;
}

static int taps_make(taps *t, const axis *a, zs_error *err)
{
    double scale = (double)a->in / (double)a->out;
    *t = (taps){.width = (int)ceil(scale < 1.0 ? 1.0 : scale) * 2 + 1};
    size_t n = (size_t)a->n, total = 0;
    double *scratch = zs_alloc((size_t)t->width, sizeof *scratch);
    if (zs_mul_size(n, (size_t)t->width, &total)) {
        t->first = zs_alloc(n, sizeof(int));
        t->count = zs_alloc(n, sizeof(int));
        t->weight = zs_alloc(total, sizeof(int));
    }
    bool ok = scratch && t->first && t->count && t->weight;
    for (int i = 0; ok && i < a->n; i++)
        fill_taps(t, i, a, scratch);
    zs_free(scratch);
    if (ok)
        return ZS_OK;
    taps_free(t);
    return zs_fail_nomem(err, total * sizeof(int), "resize weights");
}

static uint8_t round_byte(int v)
{
    v >>= FRACTION_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void resize_row(uint8_t *dst, const uint8_t *src, const taps *t, int n, int c)
{
    for (int x = 0; x < n; x++) {
        const int *w = t->weight + (size_t)x * (size_t)t->width;
        const uint8_t *s = src + (size_t)t->first[x] * (size_t)c;
        int a[3] = {1 << (FRACTION_BITS - 1), 1 << (FRACTION_BITS - 1), 1 << (FRACTION_BITS - 1)};
        for (int j = 0; j < t->count[x]; j++, s += c)
            for (int k = 0; k < c; k++)
                a[k] += s[k] * w[j];
        for (int k = 0; k < c; k++)
            *dst++ = round_byte(a[k]);
    }
}

/* sum: scratch of n ints */
static void blend_rows(uint8_t *dst, const uint8_t *src, size_t n, const int *w, int count,
                       int *sum)
{
    for (size_t x = 0; x < n; x++)
        sum[x] = 1 << (FRACTION_BITS - 1);
    for (int j = 0; j < count; j++, src += n)
        for (size_t x = 0; x < n; x++)
            sum[x] += src[x] * w[j];
    for (size_t x = 0; x < n; x++)
        dst[x] = round_byte(sum[x]);
}

/* Rows first .. first+mid->h-1 of the input, resized along x. */
static int resize_x(zs_image *mid, const zs_image *in, int first, int rows, const axis *ax,
                    zs_error *err)
{
    taps t = {0};
    int status = zs_image_alloc(mid, ax->n, rows, in->c, err);
    if (status < 0 || (status = taps_make(&t, ax, err)) < 0)
        return status;
    size_t in_stride = (size_t)in->w * (size_t)in->c, stride = (size_t)mid->w * (size_t)mid->c;
    for (int y = 0; y < rows; y++)
        resize_row(mid->px + (size_t)y * stride, in->px + (size_t)(first + y) * in_stride, &t,
                   mid->w, in->c);
    taps_free(&t);
    return ZS_OK;
}

/* `rows` begins at row `first` of the input. */
static int resize_y(zs_image *out, const zs_image *rows, int first, const taps *t, zs_error *err)
{
    size_t stride = (size_t)out->w * (size_t)out->c;
    int *sum = zs_alloc(stride, sizeof *sum);
    if (!sum)
        return zs_fail_nomem(err, stride * sizeof *sum, "a resize row");
    for (int y = 0; y < out->h; y++)
        blend_rows(out->px + (size_t)y * stride, rows->px + (size_t)(t->first[y] - first) * stride,
                   stride, t->weight + (size_t)y * (size_t)t->width, t->count[y], sum);
    zs_free(sum);
    return ZS_OK;
}

/* A window of a resized image. Along an axis whose size does not change the weights are one
 * tap of exactly 1, so that PIL's skipped passes need no case here. */
static int resize_window(zs_image *out, const zs_image *in, const axis *ax, const axis *ay,
                         zs_error *err)
{
    zs_image mid = {0};
    taps ty = {0};
    *out = (zs_image){0};
    int status = taps_make(&ty, ay, err);
    if (status < 0)
        goto done;
    int first = ty.first[0], last = ty.first[ay->n - 1] + ty.count[ay->n - 1];
    if ((status = resize_x(&mid, in, first, last - first, ax, err)) < 0 ||
        (status = zs_image_alloc(out, ax->n, ay->n, in->c, err)) < 0)
        goto done;
    status = resize_y(out, &mid, first, &ty, err);
done:
    taps_free(&ty);
    zs_image_free(&mid);
    if (status < 0)
        zs_image_free(out);
    return status;
}

int zs_image_resize(zs_image *out, const zs_image *in, int w, int h, zs_error *err)
{
    *out = (zs_image){0};
    zs_image sized; /* checks the request before the weights are allocated */
    int status = zs_image_alloc(&sized, w, h, in->c, err);
    if (status < 0)
        return status;
    zs_image_free(&sized);
    axis ax = {in->w, w, 0, w}, ay = {in->h, h, 0, h};
    return resize_window(out, in, &ax, &ay, err);
}

/* Python's round(d / 2): ties to the even integer. */
static int64_t half_even(int64_t d)
{
    int64_t q = d / 2;
    return d % 2 != 0 && q % 2 != 0 ? q + 1 : q;
}

int zs_image_resize_crop(zs_image *out, const zs_image *in, int size, zs_error *err)
{
    *out = (zs_image){0};
    if (size < 1 || (int64_t)size * size > ZS_IMAGE_MAX_PIXELS)
        return zs_fail(err, ZS_E_INVALID, "an image cannot be resized to %d x %d", size, size);
    bool wide = in->w > in->h;
    int64_t shorter = wide ? in->h : in->w, longer = wide ? in->w : in->h;
    longer = size * longer / shorter;
    axis cut = {wide ? in->w : in->h, longer, half_even(longer - size), size};
    axis whole = {wide ? in->h : in->w, size, 0, size};
    return resize_window(out, in, wide ? &cut : &whole, wide ? &whole : &cut, err);
}

static int pad_to_square(zs_image *out, const zs_image *in, int size, zs_error *err)
{
    int status = zs_image_alloc(out, size, size, in->c, err);
    if (status < 0)
        return status;
    size_t c = (size_t)in->c, stride = (size_t)size * c;
    size_t left = (size_t)(size - in->w) / 2, top = (size_t)(size - in->h) / 2;
    memset(out->px, 0, stride * (size_t)size);
    for (size_t y = 0; y < (size_t)in->h; y++)
        memcpy(out->px + (top + y) * stride + left * c, in->px + y * (size_t)in->w * c,
               (size_t)in->w * c);
    return ZS_OK;
}

zs_fit zs_fit_from_name(const char *name)
{
    return strcmp(name, "pad") == 0 ? ZS_FIT_PAD : ZS_FIT_CROP;
}

int zs_image_fit(zs_image *out, const zs_image *in, int size, zs_fit fit, zs_error *err)
{
    if (fit == ZS_FIT_PAD && in->w <= size && in->h <= size)
        return pad_to_square(out, in, size, err);
    return zs_image_resize_crop(out, in, size, err);
}

void zs_image_flip(zs_image *im)
{
    int c = im->c;
    for (int y = 0; y < im->h; y++) {
        uint8_t *a = im->px + (size_t)y * (size_t)im->w * (size_t)c;
        uint8_t *b = a + (size_t)(im->w - 1) * (size_t)c;
        for (; a < b; a += c, b -= c)
            for (int k = 0; k < c; k++) {
                uint8_t t = a[k];
                a[k] = b[k];
                b[k] = t;
            }
    }
}

void zs_image_to_float(float *dst, const zs_image *im)
{
    size_t n = (size_t)im->w * (size_t)im->h * (size_t)im->c;
    for (size_t i = 0; i < n; i++)
        dst[i] = ((float)im->px[i] / 255.0f - 0.5f) / 0.5f;
}

int zs_image_from_float(zs_image *out, const float *src, int h, int w, int c, zs_error *err)
{
    int status = zs_image_alloc(out, w, h, c, err);
    if (status < 0)
        return status;
    size_t n = (size_t)w * (size_t)h * (size_t)c;
    for (size_t i = 0; i < n; i++) {
        float v = (src[i] + 1.0f) * 0.5f;
        v = v > 0.0f ? v : 0.0f; /* NaN becomes black */
        v = v < 1.0f ? v : 1.0f;
        out->px[i] = (uint8_t)(v * 255.0f + 0.5f);
    }
    return ZS_OK;
}
