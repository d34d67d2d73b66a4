/* SPDX-License-Identifier: MIT */
/* The IDX format: http://yann.lecun.com/exdb/mnist/ (two zero bytes, element type, number of
 * dimensions, big-endian sizes, elements). */
#include "data/idx.h"

#include <limits.h>
#include <string.h>
#include <zlib.h>

enum { TYPE_U8 = 0x08, HEAD_MAX = 4 + 4 * ZS_IDX_DIMS, DEFLATE_MAX_RATIO = 1032 };

static bool is_gzip(const uint8_t *p, size_t n)
{
    return n >= 2 && p[0] == 0x1F && p[1] == 0x8B;
}

static size_t head_size(const zs_idx *x)
{
    return 4 + 4 * (size_t)x->dims;
}

/* p holds the file's first n bytes; *total is the size the whole file must have. */
static int parse_head(zs_idx *x, const char *label, const uint8_t *p, size_t n, size_t *total,
                      zs_error *err)
{
    if (n < 4 || p[0] != 0 || p[1] != 0)
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: is not an IDX file (it must start with two zero bytes); give the "
                       "MNIST-style images file",
                       label);
    if (p[2] != TYPE_U8 || p[3] < 1 || p[3] > ZS_IDX_DIMS)
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "%s: IDX element type 0x%02x with %d dimensions is not read; unsigned bytes "
                       "(0x08) with 1 to %d are",
                       label, p[2], p[3], ZS_IDX_DIMS);
    x->dims = p[3];
    if (n < head_size(x))
        return zs_fail(err, ZS_E_FORMAT, "%s: ends inside the IDX header; copy it again", label);
    *total = 1;
    for (int d = 0; d < ZS_IDX_DIMS; d++) {
        const uint8_t *q = p + 4 + 4 * d;
        x->size[d] = d < x->dims ? (int64_t)q[0] << 24 | q[1] << 16 | q[2] << 8 | q[3] : 1;
        if (x->size[d] == 0)
            return zs_fail(err, ZS_E_FORMAT, "%s: holds nothing (dimension %d is 0)", label, d);
        if (!zs_mul_size(*total, (size_t)x->size[d], total))
            return zs_fail(err, ZS_E_FORMAT, "%s: its IDX dimensions overflow", label);
    }
    if (!zs_add_size(*total, head_size(x), total))
        return zs_fail(err, ZS_E_FORMAT, "%s: its IDX dimensions overflow", label);
    return ZS_OK;
}

static int fail_size(const char *label, size_t have, size_t want, zs_error *err)
{
    return zs_fail(err, ZS_E_FORMAT,
                   "%s: holds %zu bytes%s where its IDX header promises %zu; copy it again", label,
                   have, have > want ? " or more" : "", want);
}

static void *on_alloc(void *ctx, unsigned n, unsigned size)
{
    (void)ctx;
    return zs_alloc(n, size);
}

static void on_free(void *ctx, void *p)
{
    (void)ctx;
    zs_free(p);
}

/* avail_in and avail_out are 32-bit: larger buffers are fed in pieces. Fills dst, or less when
 * the stream ends first; *got is what was written. */
static int inflate_some(z_stream *z, size_t *in_left, uint8_t *dst, size_t n, size_t *got)
{
    int code = Z_OK;
    *got = 0;
    while (code == Z_OK && *got < n) {
        uInt in = *in_left > INT_MAX ? INT_MAX : (uInt)*in_left;
        uInt room = n - *got > INT_MAX ? INT_MAX : (uInt)(n - *got);
        z->avail_in = in;
        z->avail_out = room;
        z->next_out = dst + *got;
        code = inflate(z, Z_NO_FLUSH);
        *in_left -= in - z->avail_in;
        *got += room - z->avail_out;
    }
    return code;
}

static int fail_gzip(const char *label, int code, zs_error *err)
{
    if (code == Z_MEM_ERROR)
        return zs_fail_nomem(err, 0, "gzip decompression");
    return zs_fail(err, ZS_E_FORMAT, "%s: the gzip data is %s; copy it again", label,
                   code == Z_BUF_ERROR || code == Z_OK ? "truncated" : "damaged");
}

static int inflate_idx(zs_idx *x, z_stream *z, const char *label, size_t n, zs_error *err)
{
    uint8_t head[HEAD_MAX], end;
    size_t left = n, got = 0, more = 0, total = 0;
    int code = inflate_some(z, &left, head, sizeof head, &got); /* a tiny file may end here */
    if (code != Z_OK && code != Z_STREAM_END)
        return fail_gzip(label, code, err);
    int status = parse_head(x, label, head, got, &total, err);
    if (status < 0)
        return status;
    if (got > total || total / DEFLATE_MAX_RATIO > n)
        return fail_size(label, got > total ? got : n, total, err);
    x->inflated = zs_alloc(total, 1);
    if (!x->inflated)
        return zs_fail_nomem(err, total, "an IDX file");
    memcpy(x->inflated, head, got);
    if (code == Z_OK) {
        code = inflate_some(z, &left, x->inflated + got, total - got, &more);
        got += more;
    }
    if (code == Z_OK) { /* all there: the checksum is left to be verified, or there is too much */
        code = inflate_some(z, &left, &end, 1, &more);
        got += more;
    }
    if (code == Z_OK || (code == Z_STREAM_END && got != total))
        return fail_size(label, got, total, err);
    return code == Z_STREAM_END ? ZS_OK : fail_gzip(label, code, err);
}

static int parse_gzip(zs_idx *x, const char *label, const uint8_t *p, size_t n, zs_error *err)
{
    z_stream z = {.zalloc = on_alloc, .zfree = on_free, .next_in = (z_const Bytef *)(uintptr_t)p};
    int code = inflateInit2(&z, 16 + MAX_WBITS);
    if (code != Z_OK)
        return fail_gzip(label, code, err);
    int status = inflate_idx(x, &z, label, n, err);
    inflateEnd(&z);
    return status;
}

static int parse_plain(zs_idx *x, const char *label, const uint8_t *p, size_t n, zs_error *err)
{
    size_t total = 0;
    int status = parse_head(x, label, p, n, &total, err);
    if (status == ZS_OK && total != n)
        status = fail_size(label, n, total, err);
    return status;
}

int zs_idx_parse(zs_idx *x, const char *label, const void *p, size_t n, zs_error *err)
{
    *x = (zs_idx){0};
    if (n == 0)
        return zs_fail(err, ZS_E_FORMAT, "%s: is empty (0 bytes), not an IDX file", label);
    int status = is_gzip(p, n) ? parse_gzip(x, label, p, n, err) : parse_plain(x, label, p, n, err);
    if (status < 0) {
        zs_idx_close(x);
        return status;
    }
    x->px = (x->inflated ? x->inflated : (const uint8_t *)p) + head_size(x);
    return ZS_OK;
}

int zs_idx_open(zs_idx *x, const char *path, zs_error *err)
{
    zs_mapfile m = {0};
    *x = (zs_idx){0};
    int status = zs_mapfile_open(&m, path, err);
    if (status < 0)
        return status;
    status = zs_idx_parse(x, path, m.p, m.n, err);
    if (status == ZS_OK && !x->inflated)
        x->map = m;
    else
        zs_mapfile_close(&m);
    return status;
}

void zs_idx_close(zs_idx *x)
{
    zs_free(x->inflated);
    zs_mapfile_close(&x->map);
    *x = (zs_idx){0};
}
