/* SPDX-License-Identifier: MIT */
#include "io/tensorwrite.h"

#include "io/outfile.h"
#include "io/tensorfile_impl.h"

#include <inttypes.h>
#include <string.h>

enum { ALIGN = 64 };

static int check_tensor(size_t *bytes, const char *path, const zs_tensorout *t, zs_error *err)
{
    int64_t numel = 0;
    if (!t->name || t->nd < 0 || t->nd > ZS_MAX_DIMS ||
        !zs_shape_bytes(bytes, &numel, t->shape, t->nd, zs_dtype_size(t->dtype)))
        return zs_fail(err, ZS_E_INVALID, "%s: tensor \"%s\" has no valid shape", path,
                       t->name ? t->name : "");
    return ZS_OK;
}

/* {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, or NULL. */
static json_t *describe(const zs_tensorout *t, size_t begin, size_t end)
{
    json_t *shape = json_array();
    for (int i = 0; i < t->nd && shape; i++)
        if (json_array_append_new(shape, json_integer(t->shape[i])) != 0) {
            json_decref(shape);
            return NULL;
        }
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", zs_dtype_name(t->dtype), "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)end);
}

static int check_metadata(const char *path, const json_t *metadata, zs_error *err)
{
    const char *key;
    json_t *value;
    /* jansson's iteration takes a mutable object but changes nothing */
    json_object_foreach(
        (json_t *)(uintptr_t)metadata, key,
        value) if (!json_is_string(value)) return zs_fail(err, ZS_E_INVALID,
                                                          "%s: metadata \"%s\" is not a string",
                                                          path, key);
    return ZS_OK;
}

static int build_header(json_t *root, const char *path, const zs_tensorout *t, size_t n,
                        const json_t *metadata, zs_error *err)
{
    size_t at = 0, bytes = 0, end = 0;
    if (metadata) {
        int status = check_metadata(path, metadata, err);
        if (status < 0)
            return status;
        if (json_object_set(root, "__metadata__", (json_t *)(uintptr_t)metadata) != 0)
            return zs_fail_nomem(err, 0, "a safetensors header");
    }
    for (size_t i = 0; i < n; i++, at = end) {
        int status = check_tensor(&bytes, path, &t[i], err);
        if (status < 0)
            return status;
        if (strcmp(t[i].name, "__metadata__") == 0 || json_object_get(root, t[i].name))
            return zs_fail(err, ZS_E_INVALID, "%s: two tensors are to have the name \"%s\"", path,
                           t[i].name);
        if (!zs_add_size(at, bytes, &end) || end > INT64_MAX)
            return zs_fail(err, ZS_E_INVALID, "%s: the tensors are too large for one file", path);
        if (json_object_set_new(root, t[i].name, describe(&t[i], at, end)) != 0)
            return zs_fail(err, ZS_E_INVALID,
                           "%s: the tensor name \"%s\" is not UTF-8, or memory "
                           "ran out",
                           path, t[i].name);
    }
    return ZS_OK;
}

static int write_tensors(const char *path, const char *header, const zs_tensorout *t, size_t n,
                         zs_error *err)
{
    static const char spaces[ALIGN + 1] =
        "                                                                ";
    zs_outfile o;
    size_t len = strlen(header), pad = (ALIGN - (8 + len) % ALIGN) % ALIGN, bytes = 0;
    uint8_t size[8];
    int status = zs_outfile_open(&o, path, err);
    if (status < 0)
        return status;
    for (int i = 0; i < 8; i++)
        size[i] = (uint8_t)((uint64_t)(len + pad) >> (8 * i));
    fwrite(size, 1, sizeof size, o.f);
    fwrite(header, 1, len, o.f);
    fwrite(spaces, 1, pad, o.f);
    for (size_t i = 0; i < n && status >= 0; i++) {
        status = check_tensor(&bytes, path, &t[i], err);
        if (bytes > 0)
            fwrite(t[i].data, 1, bytes, o.f);
    }
    return zs_outfile_commit(&o, err);
}

int zs_safetensors_write(const char *path, const zs_tensorout *t, size_t n, const json_t *metadata,
                         zs_error *err)
{
    json_t *root = json_object();
    char *header = NULL;
    int status = root ? build_header(root, path, t, n, metadata, err)
                      : zs_fail_nomem(err, 0, "a safetensors header");
    if (status >= 0) {
        header = json_dumps(root, JSON_COMPACT | JSON_PRESERVE_ORDER);
        status = header ? write_tensors(path, header, t, n, err)
                        : zs_fail_nomem(err, 0, "a safetensors header");
    }
    if (header) {
        json_malloc_t take = NULL;
        json_free_t give = NULL;
        json_get_alloc_funcs(&take, &give);
        give(header);
    }
    json_decref(root);
    return status;
}

static const char *npy_code(zs_dtype t)
{
    switch (t) {
    case ZS_F32: return "<f4";
    case ZS_F64: return "<f8";
    case ZS_F16: return "<f2";
    case ZS_I64: return "<i8";
    case ZS_I32: return "<i4";
    case ZS_I16: return "<i2";
    case ZS_I8: return "|i1";
    case ZS_U8: return "|u1";
    case ZS_BOOL: return "|b1";
    case ZS_BF16:
    case ZS_DTYPE_COUNT: break;
    }
    return NULL;
}

static void npy_dictionary(zs_strbuf *b, const zs_tensorout *t)
{
    zs_strbuf_addf(b, "{'descr': '%s', 'fortran_order': False, 'shape': (", npy_code(t->dtype));
    for (int i = 0; i < t->nd; i++)
        zs_strbuf_addf(b, t->nd == 1 ? "%" PRId64 "," : i ? ", %" PRId64 : "%" PRId64, t->shape[i]);
    zs_strbuf_addf(b, "), }");
    while ((10 + b->n + 1) % ALIGN != 0 && !b->failed)
        zs_strbuf_append(b, " ", 1);
    zs_strbuf_append(b, "\n", 1);
}

int zs_npy_head(zs_strbuf *b, size_t *bytes, const char *path, const zs_tensorout *t, zs_error *err)
{
    uint8_t head[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0};
    zs_strbuf text = {0};
    int status = check_tensor(bytes, path, t, err);
    if (status < 0)
        return status;
    if (!npy_code(t->dtype))
        return zs_fail(err, ZS_E_UNSUPPORTED, "%s: NumPy has no %s; convert to F32 first", path,
                       zs_dtype_name(t->dtype));
    npy_dictionary(&text, t);
    head[8] = (uint8_t)text.n;
    head[9] = (uint8_t)(text.n >> 8);
    zs_strbuf_append(b, (const char *)head, sizeof head);
    zs_strbuf_append(b, text.s ? text.s : "", text.n);
    status = text.failed || b->failed ? zs_fail_nomem(err, ALIGN, "an npy header") : ZS_OK;
    zs_strbuf_free(&text);
    return status;
}

int zs_npy_write(const char *path, const zs_tensorout *t, zs_error *err)
{
    size_t bytes = 0;
    zs_strbuf head = {0};
    zs_outfile o;
    int status = zs_npy_head(&head, &bytes, path, t, err);
    if (status >= 0)
        status = zs_outfile_open(&o, path, err);
    if (status >= 0) {
        fwrite(head.s, 1, head.n, o.f);
        if (bytes > 0)
            fwrite(t->data, 1, bytes, o.f);
        status = zs_outfile_commit(&o, err);
    }
    zs_strbuf_free(&head);
    return status;
}
