/* SPDX-License-Identifier: MIT */
#include "io/gunzip.h"

#include <limits.h>
#include <zlib.h>

typedef struct sink {
    uint8_t *p;
    size_t n, cap, most;
} sink;

bool zs_is_gzip(const void *p, size_t n)
{
    const uint8_t *b = p;
    return n >= 2 && b[0] == 0x1F && b[1] == 0x8B;
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

static int make_room(sink *s, const char *label, zs_error *err)
{
    if (s->n < s->cap)
        return ZS_OK;
    if (s->cap >= s->most)
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "%s: holds more than %zu bytes when decompressed; decompress it first",
                       label, s->most);
    size_t cap = s->cap ? s->cap : 65536;
    cap = cap > s->most / 2 ? s->most : 2 * cap;
    uint8_t *p = zs_realloc(s->p, s->cap, cap, 1);
    if (!p)
        return zs_fail_nomem(err, cap, "a decompressed file");
    s->p = p;
    s->cap = cap;
    return ZS_OK;
}

static int fail_data(const char *label, int code, zs_error *err)
{
    if (code == Z_MEM_ERROR)
        return zs_fail_nomem(err, 0, "gzip decompression");
    return zs_fail(err, ZS_E_FORMAT, "%s: the gzip data is %s; copy it again", label,
                   code == Z_BUF_ERROR || code == Z_OK ? "cut short" : "damaged");
}

/* One gzip member; *left counts the input that remains. */
static int inflate_member(sink *s, z_stream *z, size_t *left, const char *label, zs_error *err)
{
    int code = Z_OK;
    while (code == Z_OK) {
        int status = make_room(s, label, err);
        if (status < 0)
            return status;
        size_t space = s->cap - s->n;
        uInt in = *left > INT_MAX ? INT_MAX : (uInt)*left;
        uInt room = space > INT_MAX ? INT_MAX : (uInt)space;
        z->avail_in = in;
        z->avail_out = room;
        z->next_out = s->p + s->n;
        code = inflate(z, Z_NO_FLUSH);
        *left -= in - z->avail_in;
        s->n += room - z->avail_out;
    }
    return code == Z_STREAM_END ? ZS_OK : fail_data(label, code, err);
}

int zs_gunzip(uint8_t **out, size_t *out_n, const char *label, const void *p, size_t n, size_t most,
              zs_error *err)
{
    enum { GZIP_ONLY = 16 + MAX_WBITS };
    sink s = {.most = most};
    z_stream z = {.zalloc = on_alloc, .zfree = on_free};
    z.next_in = (Bytef *)(uintptr_t)p; /* never written to */
    *out = NULL;
    *out_n = 0;
    int status = inflateInit2(&z, GZIP_ONLY) == Z_OK ? ZS_OK : fail_data(label, Z_MEM_ERROR, err);
    bool ready = status == ZS_OK;
    size_t left = n;
    while (status == ZS_OK) {
        status = inflate_member(&s, &z, &left, label, err);
        if (status < 0 || left == 0 || !zs_is_gzip(z.next_in, left))
            break; /* zeros may pad the last member */
        inflateReset(&z);
    }
    if (ready)
        inflateEnd(&z);
    if (status < 0) {
        zs_free(s.p);
        return status;
    }
    *out = s.p;
    *out_n = s.n;
    return ZS_OK;
}
