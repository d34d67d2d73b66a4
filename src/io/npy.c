/* SPDX-License-Identifier: MIT */
/* NumPy .npy: "\x93NUMPY", version, header size, a Python dictionary as text, the array.
 * Source: numpy/lib/format.py (versions 1.0, 2.0, 3.0). */
#include "io/tensorfile_impl.h"

#include <string.h>

enum { MAX_HEADER = 1 << 16 };

static const char magic[] = "\x93NUMPY";

typedef struct text {
    const char *p, *end;
} text;

static const struct {
    const char *code; /* kind and size, without the byte order */
    zs_dtype dtype;
} dtypes[] = {{"f4", ZS_F32}, {"f8", ZS_F64}, {"f2", ZS_F16}, {"i8", ZS_I64}, {"i4", ZS_I32},
              {"i2", ZS_I16}, {"i1", ZS_I8},  {"u1", ZS_U8},  {"b1", ZS_BOOL}};

static bool probe(zs_span b)
{
    return b.n >= 6 && memcmp(b.p, magic, 6) == 0;
}

static int bad(const char *label, const char *what, zs_error *err)
{
    return zs_fail(err, ZS_E_FORMAT, "%s: the npy header %s; the file is damaged", label, what);
}

static void skip_space(text *t)
{
    while (t->p < t->end && (*t->p == ' ' || *t->p == '\n' || *t->p == '\t'))
        t->p++;
}

static bool accept(text *t, char c)
{
    skip_space(t);
    if (t->p == t->end || *t->p != c)
        return false;
    t->p++;
    return true;
}

/* A quoted string without escapes. */
static bool quoted(text *t, const char **s, size_t *n)
{
    skip_space(t);
    if (t->p == t->end || (*t->p != '\'' && *t->p != '"'))
        return false;
    char quote = *t->p++;
    const char *close = memchr(t->p, quote, (size_t)(t->end - t->p));
    if (!close)
        return false;
    *s = t->p;
    *n = (size_t)(close - t->p);
    t->p = close + 1;
    return true;
}

static bool word(text *t, const char *w)
{
    size_t n = strlen(w);
    skip_space(t);
    if ((size_t)(t->end - t->p) < n || memcmp(t->p, w, n) != 0)
        return false;
    t->p += n;
    return true;
}

static bool number(text *t, int64_t *v)
{
    skip_space(t);
    const char *start = t->p;
    for (*v = 0; t->p < t->end && *t->p >= '0' && *t->p <= '9'; t->p++) {
        if (*v > (INT64_MAX - 9) / 10)
            return false;
        *v = *v * 10 + (*t->p - '0');
    }
    bool any = t->p > start;
    if (any && t->p < t->end && *t->p == 'L') /* Python 2 */
        t->p++;
    return any;
}

static int parse_descr(zs_tfview *v, text *t, const char *label, zs_error *err)
{
    const char *s = NULL;
    size_t n = 0;
    if (!quoted(t, &s, &n) || n < 2)
        return zs_fail(err, ZS_E_UNSUPPORTED, "%s: holds records rather than one type of number",
                       label);
    const char *code = strchr("<=|>", s[0]) ? s + 1 : s;
    n -= (size_t)(code - s);
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (n != 2 || memcmp(code, dtypes[i].code, 2) != 0)
            continue;
        v->dtype = dtypes[i].dtype;
        if (s[0] == '>' && zs_dtype_size(v->dtype) > 1)
            return zs_fail(err, ZS_E_UNSUPPORTED, "%s: is big-endian; save it as little-endian",
                           label);
        return ZS_OK;
    }
    return zs_fail(err, ZS_E_UNSUPPORTED,
                   "%s: holds the type \"%.*s\", not plain numbers that "
                   "zsem reads; save it as float32",
                   label, (int)(n < 20 ? n : 20), code);
}

static int parse_shape(zs_tfview *v, text *t, const char *label, zs_error *err)
{
    if (!accept(t, '('))
        return bad(label, "has no shape", err);
    while (!accept(t, ')')) {
        int64_t d = 0;
        if (!number(t, &d))
            return bad(label, "has a shape that is not a tuple of sizes", err);
        if (v->nd == ZS_MAX_DIMS)
            return zs_fail(err, ZS_E_UNSUPPORTED, "%s: has more than %d dimensions", label,
                           ZS_MAX_DIMS);
        v->shape[v->nd++] = d;
        if (!accept(t, ',') && !(t->p < t->end && *t->p == ')'))
            return bad(label, "has a shape that is not a tuple of sizes", err);
    }
    return ZS_OK;
}

/* {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } in any order. */
static int parse_dict(zs_tfview *v, bool *fortran, text *t, const char *label, zs_error *err)
{
    unsigned seen = 0;
    if (!accept(t, '{'))
        return bad(label, "is not a dictionary", err);
    while (!accept(t, '}')) {
        const char *key = NULL;
        size_t n = 0;
        int status = ZS_OK;
        unsigned field = 0;
        if (!quoted(t, &key, &n) || !accept(t, ':'))
            return bad(label, "is not a dictionary", err);
        if (n == 5 && memcmp(key, "descr", n) == 0) {
            field = 1;
            status = parse_descr(v, t, label, err);
        } else if (n == 13 && memcmp(key, "fortran_order", n) == 0) {
            field = 2;
            *fortran = word(t, "True");
            if (!*fortran && !word(t, "False"))
                return bad(label, "has a fortran_order that is neither True nor False", err);
        } else if (n == 5 && memcmp(key, "shape", n) == 0) {
            field = 4;
            status = parse_shape(v, t, label, err);
        }
        if (status < 0)
            return status;
        if (!field || seen & field)
            return bad(label, "has an unknown or repeated field", err);
        seen |= field;
        if (!accept(t, ',') && !(t->p < t->end && *t->p == '}'))
            return bad(label, "is not a dictionary", err);
    }
    skip_space(t);
    if (t->p != t->end)
        return bad(label, "has bytes after its dictionary", err);
    return seen == 7 ? ZS_OK : bad(label, "lacks descr, fortran_order or shape", err);
}

int zs_npy_header(zs_tfview *v, size_t *data, const char *label, zs_span b, zs_error *err)
{
    size_t at = 10, n = 0;
    bool fortran = false;
    if (!probe(b) || b.n < 10)
        return bad(label, "is cut short", err);
    if (b.p[6] < 1 || b.p[6] > 3)
        return zs_fail(err, ZS_E_UNSUPPORTED, "%s: is npy version %u; versions 1 to 3 are read",
                       label, b.p[6]);
    n = (size_t)b.p[8] | (size_t)b.p[9] << 8;
    if (b.p[6] > 1) {
        if (b.n < 12)
            return bad(label, "is cut short", err);
        n |= (size_t)b.p[10] << 16 | (size_t)b.p[11] << 24;
        at = 12;
    }
    if (n > MAX_HEADER || n > b.n - at)
        return bad(label, "is cut short or longer than 64 KiB", err);
    text t = {(const char *)b.p + at, (const char *)b.p + at + n};
    int status = parse_dict(v, &fortran, &t, label, err);
    if (status < 0)
        return status;
    size_t bytes = 0;
    int64_t numel = 0, step = 1;
    if (!zs_shape_bytes(&bytes, &numel, v->shape, v->nd, zs_dtype_size(v->dtype)))
        return bad(label, "has an impossibly large shape", err);
    v->contiguous = !fortran || numel == 0;
    for (int i = 0; i < v->nd && !v->contiguous; i++) {
        v->stride[i] = step;
        step *= v->shape[i];
    }
    *data = at + n;
    v->base = *data;
    v->room = bytes;
    return ZS_OK;
}

static int open_npy(zs_tensorfile *f, zs_error *err)
{
    f->format = "npy";
    zs_tfview v = {.name = "array"};
    size_t data = 0;
    int status = zs_npy_header(&v, &data, f->path, f->bytes, err);
    if (status < 0)
        return status;
    if (v.room != f->bytes.n - data)
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: has %zu bytes of array where its shape needs %zu; the "
                       "file is truncated or damaged",
                       f->path, f->bytes.n - data, v.room);
    zs_tfstorage all = {.p = f->bytes.p, .n = f->bytes.n};
    status = zs_tensorfile_add_storage(f, &v.storage, all, err);
    return status < 0 ? status : zs_tensorfile_add(f, &v, err);
}

const zs_tfkind zs_tfkind_npy = {probe, open_npy};
