/* SPDX-License-Identifier: MIT */
#include "io/torchmeta.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* jansson takes valid UTF-8 only; keys are C strings besides. */
static char *ascii_copy(zs_span s)
{
    char *c = zs_alloc(s.n + 1, 1);
    if (!c)
        return NULL;
    for (size_t i = 0; i < s.n; i++)
        c[i] = s.p[i] >= 0x80 || s.p[i] == 0 ? '?' : (char)s.p[i];
    c[s.n] = '\0';
    return c;
}

/* UTF-8 as jansson checks it: shortest form, no surrogates, at most U+10FFFF. */
static bool is_utf8(zs_span s)
{
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    for (size_t i = 0; i < s.n;) {
        uint32_t c = s.p[i++];
        size_t more = c < 0x80 ? 0 : c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : 1;
        if ((c >= 0x80 && c < 0xC0) || c > 0xF4 || s.n - i < more)
            return false;
        c = more ? c & (0x3Fu >> more) : c;
        for (size_t k = 0; k < more; k++, i++) {
            if ((s.p[i] & 0xC0u) != 0x80u)
                return false;
            c = c << 6 | (s.p[i] & 0x3Fu);
        }
        if (c < least[more] || (c >= 0xD800 && c < 0xE000) || c > 0x10FFFF)
            return false;
    }
    return true;
}

static json_t *text(zs_span s)
{
    if (is_utf8(s))
        return json_stringn(s.n ? (const char *)s.p : "", s.n);
    char *c = ascii_copy(s);
    json_t *j = c ? json_string(c) : NULL;
    zs_free(c);
    return j;
}

static json_t *real(double f)
{
    if (isnan(f))
        return json_string("NaN");
    if (isinf(f))
        return json_string(f > 0 ? "Infinity" : "-Infinity");
    return json_real(f);
}

static void add_class_name(zs_strbuf *b, const zs_pvalue *cls)
{
    zs_span parts[2] = {{0}};
    if (cls->kind == ZS_P_GLOBAL) {
        parts[0] = cls->u.global.module;
        parts[1] = cls->u.global.name;
    }
    for (int i = 0; i < 2; i++) {
        size_t n = parts[i].n < 200 ? parts[i].n : 200;
        if (n == 11 && memcmp(parts[i].p, "__builtin__", n) == 0) /* Python 2's name for it */
            parts[i] = (zs_span){(const uint8_t *)"builtins", n = 8};
        if (i == 1)
            zs_strbuf_append(b, ".", 1);
        zs_strbuf_append(b, n ? (const char *)parts[i].p : "", n);
    }
}

json_t *zs_torchmeta_class(const zs_pvalue *cls)
{
    zs_strbuf b = {0};
    if (cls->kind == ZS_P_GLOBAL)
        add_class_name(&b, cls);
    else
        zs_strbuf_append(&b, "?", 1); /* the class was itself computed */
    json_t *j = b.failed ? NULL : text((zs_span){(uint8_t *)b.s, b.n});
    zs_strbuf_free(&b);
    return j;
}

static json_t *marker(const char *class_name, const char *field, size_t n)
{
    return json_pack("{s:s, s:I}", "__class__", class_name, field, (json_int_t)n);
}

json_t *zs_torchmeta_plain(const zs_pvalue *v)
{
    switch (v->kind) {
    case ZS_P_NONE: return json_null();
    case ZS_P_BOOL: return json_boolean(v->u.i);
    case ZS_P_INT: return json_integer(v->u.i);
    case ZS_P_BIGINT: return json_integer(v->u.i < 0 ? INT64_MIN : INT64_MAX);
    case ZS_P_FLOAT: return real(v->u.f);
    case ZS_P_STR: return text(v->u.s);
    case ZS_P_BYTES: return marker("builtins.bytes", "size", v->u.s.n);
    case ZS_P_GLOBAL: {
        json_t *name = zs_torchmeta_class(v);
        return name ? json_pack("{s:o}", "__class__", name) : NULL;
    }
    default: return json_pack("{s:s}", "__class__", "torch.storage");
    }
}

static bool any_of(const zs_pvalue *cls, const char *const (*names)[2])
{
    for (size_t i = 0; names[i][0]; i++)
        if (zs_pvalue_is_global(cls, names[i][0], names[i][1]))
            return true;
    return false;
}

static const char *const dict_classes[][2] = {
    {"collections", "OrderedDict"}, {"collections", "defaultdict"}, {"collections", "Counter"},
    {"builtins", "dict"},           {"__builtin__", "dict"},        {NULL, NULL}};
static const char *const list_classes[][2] = {{"builtins", "set"},
                                              {"__builtin__", "set"},
                                              {"builtins", "frozenset"},
                                              {"__builtin__", "frozenset"},
                                              {"builtins", "list"},
                                              {"builtins", "tuple"},
                                              {"torch", "Size"},
                                              {"collections", "deque"},
                                              {NULL, NULL}};
static const char *const path_classes[][2] = {{"pathlib", "PosixPath"},
                                              {"pathlib", "WindowsPath"},
                                              {"pathlib", "PurePosixPath"},
                                              {"pathlib", "PureWindowsPath"},
                                              {"pathlib", "Path"},
                                              {"pathlib._local", "PosixPath"},
                                              {"pathlib._local", "WindowsPath"},
                                              {NULL, NULL}};
static const char *const scalar_classes[][2] = {
    {"numpy.core.multiarray", "scalar"}, {"numpy._core.multiarray", "scalar"}, {NULL, NULL}};
static const char *const array_classes[][2] = {{"numpy.core.multiarray", "_reconstruct"},
                                               {"numpy._core.multiarray", "_reconstruct"},
                                               {NULL, NULL}};
static const char *const byte_classes[][2] = {
    {"_codecs", "encode"}, {"builtins", "bytearray"}, {"__builtin__", "bytearray"}, {NULL, NULL}};

zs_tmkind zs_torchmeta_kind(const zs_pobject *o)
{
    const zs_pvalue *first = zs_pvalue_at(o->args, 0);
    if (any_of(o->cls, dict_classes))
        return ZS_TM_DICT;
    if (any_of(o->cls, list_classes) && first &&
        (first->kind == ZS_P_LIST || first->kind == ZS_P_TUPLE || first->kind == ZS_P_SET))
        return ZS_TM_LIST;
    if (any_of(o->cls, path_classes) || any_of(o->cls, scalar_classes) ||
        any_of(o->cls, array_classes) || any_of(o->cls, byte_classes))
        return ZS_TM_SCALAR;
    return ZS_TM_OPAQUE;
}

size_t zs_torchmeta_cost(const zs_pobject *o)
{
    size_t n = 0;
    const zs_pvalue *part;
    for (size_t i = 0; (part = zs_pvalue_at(o->args, i)); i++)
        n += 1 + (part->kind == ZS_P_STR ? part->u.s.n : 0);
    return n;
}

static json_t *path_text(const zs_pobject *o)
{
    zs_strbuf b = {0};
    const zs_pvalue *part;
    for (size_t i = 0; (part = zs_pvalue_at(o->args, i)); i++) {
        if (part->kind != ZS_P_STR || part->u.s.n == 0)
            continue;
        if (b.n > 0 && b.s[b.n - 1] != '/')
            zs_strbuf_append(&b, "/", 1);
        zs_strbuf_append(&b, (const char *)part->u.s.p, part->u.s.n);
    }
    json_t *j = b.failed ? NULL : text((zs_span){(uint8_t *)b.s, b.n});
    zs_strbuf_free(&b);
    return j;
}

/* The bytes of a numpy scalar: bytes, or _codecs.encode(text, 'latin1') of protocol 2, whose
 * code points below 256 are UTF-8 here. At most 8 are wanted; false when there are more. */
static bool scalar_bytes(uint8_t out[8], size_t *n, const zs_pvalue *v)
{
    *n = 0;
    bool latin1 =
        v && v->kind == ZS_P_OBJECT && zs_pvalue_is_global(v->u.obj->cls, "_codecs", "encode");
    if (latin1)
        v = zs_pvalue_at(v->u.obj->args, 0);
    if (!v || (v->kind != ZS_P_BYTES && v->kind != ZS_P_STR))
        return false;
    for (size_t i = 0; i < v->u.s.n; i++) {
        uint8_t c = v->u.s.p[i];
        if (latin1 && c >= 0xC2 && c <= 0xC3 && i + 1 < v->u.s.n)
            c = (uint8_t)(c << 6 | (v->u.s.p[++i] & 0x3Fu));
        if (*n == 8)
            return false;
        out[(*n)++] = c;
    }
    return true;
}

static const struct {
    const char *code; /* numpy's kind and size */
    zs_dtype dtype;
} numpy_dtypes[] = {{"f8", ZS_F64}, {"f4", ZS_F32}, {"f2", ZS_F16}, {"i8", ZS_I64}, {"i4", ZS_I32},
                    {"i2", ZS_I16}, {"i1", ZS_I8},  {"u1", ZS_U8},  {"b1", ZS_BOOL}};

/* scalar(dtype('f8', ...), bytes): its value, or the class alone where that is not simple. */
static json_t *numpy_scalar(const zs_pobject *o)
{
    const zs_pvalue *dtype = zs_pvalue_at(o->args, 0);
    const zs_pvalue *code =
        dtype && dtype->kind == ZS_P_OBJECT ? zs_pvalue_at(dtype->u.obj->args, 0) : NULL;
    uint8_t bytes[8] = {0};
    size_t n = 0, count = sizeof numpy_dtypes / sizeof numpy_dtypes[0], k = 0;
    while (k < count && !zs_pvalue_is_str(code, numpy_dtypes[k].code))
        k++;
    zs_dtype t = k < count ? numpy_dtypes[k].dtype : ZS_U8;
    if (k == count || !scalar_bytes(bytes, &n, zs_pvalue_at(o->args, 1)) || n != zs_dtype_size(t))
        return json_pack("{s:s}", "__class__", "numpy.generic");
    double f64;
    float f32;
    int64_t i64;
    switch (t) {
    case ZS_F64: memcpy(&f64, bytes, sizeof f64); return real(f64);
    case ZS_F32:
    case ZS_F16: zs_dtype_to_f32(&f32, bytes, t, 1); return real((double)f32);
    case ZS_BOOL: return json_boolean(bytes[0]);
    default: zs_dtype_to_i64(&i64, bytes, t, 1); return json_integer(i64);
    }
}

json_t *zs_torchmeta_scalar(const zs_pobject *o)
{
    const zs_pvalue *first = zs_pvalue_at(o->args, 0);
    if (any_of(o->cls, path_classes))
        return path_text(o);
    if (any_of(o->cls, scalar_classes))
        return numpy_scalar(o);
    if (any_of(o->cls, array_classes))
        return json_pack("{s:s}", "__class__", "numpy.ndarray");
    return marker("builtins.bytes", "size",
                  first && (first->kind == ZS_P_STR || first->kind == ZS_P_BYTES) ? first->u.s.n
                                                                                  : 0);
}

/* Stops at MAX_KEY bytes, which is longer than any path that readers accept: tuples of shared
 * values would otherwise grow without bound. */
static void add_key(zs_strbuf *b, const zs_pvalue *key, size_t position, int depth)
{
    enum { MAX_KEY = 8192, MAX_TUPLE_DEPTH = 4 };
    if (b->n > MAX_KEY)
        return;
    char number[64];
    zs_span s = {(const uint8_t *)number, 0};
    int n = 0;
    if (key->kind == ZS_P_TUPLE && depth < MAX_TUPLE_DEPTH) {
        for (size_t i = 0; i < key->u.seq.n && b->n <= MAX_KEY; i++) {
            zs_strbuf_append(b, i == 0 ? "(" : ", ", i == 0 ? 1 : 2);
            add_key(b, key->u.seq.v[i], i, depth + 1);
        }
        zs_strbuf_append(b, key->u.seq.n ? ")" : "()", key->u.seq.n ? 1 : 2);
        return;
    }
    if (key->kind == ZS_P_GLOBAL) {
        add_class_name(b, key);
        return;
    }
    switch (key->kind) {
    case ZS_P_STR:
    case ZS_P_BYTES: s = key->u.s; break;
    case ZS_P_NONE: n = snprintf(number, sizeof number, "None"); break;
    case ZS_P_BOOL: n = snprintf(number, sizeof number, key->u.i ? "True" : "False"); break;
    case ZS_P_INT: n = snprintf(number, sizeof number, "%" PRId64, key->u.i); break;
    case ZS_P_FLOAT: n = snprintf(number, sizeof number, "%.17g", key->u.f); break;
    default: n = snprintf(number, sizeof number, "<key %zu>", position);
    }
    if (s.p == (const uint8_t *)number)
        s.n = (size_t)n;
    zs_strbuf_append(b, s.n ? (const char *)s.p : "", s.n <= MAX_KEY ? s.n : MAX_KEY);
}

char *zs_torchmeta_key(const zs_pvalue *key, size_t position)
{
    zs_strbuf b = {0};
    add_key(&b, key, position, 0);
    char *out = NULL;
    zs_span s = {(const uint8_t *)(b.s ? b.s : ""), b.n};
    if (!b.failed)
        out = is_utf8(s) && !memchr(s.p, 0, s.n) ? zs_str_dup((const char *)s.p) : ascii_copy(s);
    zs_strbuf_free(&b);
    return out;
}
