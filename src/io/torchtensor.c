/* SPDX-License-Identifier: MIT */
/* Source of the calls: torch/_utils.py and torch/serialization.py of PyTorch 0.4 to 2.x. */
#include "io/torchtensor.h"

#include <inttypes.h>
#include <string.h>

static const struct {
    const char *storage, *name, *alias; /* "FloatStorage", torch.float32 */
    zs_dtype dtype;
} dtypes[] = {
    {"FloatStorage", "float32", "float", ZS_F32}, {"DoubleStorage", "float64", "double", ZS_F64},
    {"HalfStorage", "float16", "half", ZS_F16},   {"BFloat16Storage", "bfloat16", "", ZS_BF16},
    {"LongStorage", "int64", "long", ZS_I64},     {"IntStorage", "int32", "int", ZS_I32},
    {"ShortStorage", "int16", "short", ZS_I16},   {"CharStorage", "int8", "", ZS_I8},
    {"ByteStorage", "uint8", "", ZS_U8},          {"BoolStorage", "bool", "", ZS_BOOL},
};

static bool span_is(zs_span s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

static bool span_starts(zs_span s, const char *text)
{
    return s.n >= strlen(text) && memcmp(s.p, text, strlen(text)) == 0;
}

bool zs_torch_storage_dtype(zs_dtype *t, zs_span class_name)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (span_is(class_name, dtypes[i].storage)) {
            *t = dtypes[i].dtype;
            return true;
        }
    return false;
}

bool zs_torch_dtype(zs_dtype *t, zs_span name)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (span_is(name, dtypes[i].name) || (name.n > 0 && span_is(name, dtypes[i].alias))) {
            *t = dtypes[i].dtype;
            return true;
        }
    return false;
}

static int damaged(const char *path, const char *name, const char *what, zs_error *err)
{
    return zs_fail(err, ZS_E_FORMAT, "%s: tensor \"%s\" %s; the file is damaged", path, name, what);
}

static int parse_dims(int64_t *dst, int *nd, const zs_pvalue *v, const char *path, const char *name,
                      zs_error *err)
{
    /* torch.Size pickles as a call with one tuple */
    if (v && v->kind == ZS_P_OBJECT)
        v = zs_pvalue_at(v->u.obj->args, 0);
    if (!v || (v->kind != ZS_P_TUPLE && v->kind != ZS_P_LIST))
        return damaged(path, name, "has no shape or strides", err);
    if (v->u.seq.n > ZS_MAX_DIMS)
        return zs_fail(err, ZS_E_UNSUPPORTED, "%s: tensor \"%s\" has %zu dimensions, more than %d",
                       path, name, v->u.seq.n, ZS_MAX_DIMS);
    *nd = (int)v->u.seq.n;
    for (int i = 0; i < *nd; i++) {
        const zs_pvalue *d = v->u.seq.v[i];
        if (d->kind != ZS_P_INT || d->u.i < 0)
            return damaged(path, name, "has a negative or missing size or stride", err);
        dst[i] = d->u.i;
    }
    return ZS_OK;
}

/* _rebuild_tensor, _v2, _v3: (storage, offset, size, stride, ...); v3 has the dtype seventh. */
static int parse_rebuild(zs_torchtensor *t, const zs_pvalue *args, bool v3, const char *path,
                         const char *name, zs_error *err)
{
    const zs_pvalue *offset = zs_pvalue_at(args, 1);
    int nd = 0;
    *t = (zs_torchtensor){.storage = zs_pvalue_at(args, 0)};
    if (!t->storage || t->storage->kind != ZS_P_PERSID)
        return damaged(path, name, "has no storage", err);
    if (!offset || offset->kind != ZS_P_INT || offset->u.i < 0)
        return damaged(path, name, "has a negative or missing offset", err);
    t->view.offset = offset->u.i;
    int status = parse_dims(t->view.shape, &t->view.nd, zs_pvalue_at(args, 2), path, name, err);
    if (status >= 0)
        status = parse_dims(t->view.stride, &nd, zs_pvalue_at(args, 3), path, name, err);
    if (status < 0)
        return status;
    if (nd != t->view.nd)
        return damaged(path, name, "has unequal numbers of sizes and strides", err);
    t->dtype = v3 ? zs_pvalue_at(args, 6) : NULL;
    if (v3 && (!t->dtype || t->dtype->kind != ZS_P_GLOBAL))
        return damaged(path, name, "has no dtype", err);
    return 1;
}

static int one_call(zs_torchtensor *t, const zs_pvalue **inner_cls, const zs_pvalue **inner_args,
                    const zs_pvalue *cls, const zs_pvalue *args, const char *path, const char *name,
                    zs_error *err)
{
    *inner_cls = NULL;
    if (!cls || cls->kind != ZS_P_GLOBAL)
        return 0;
    zs_span fn = cls->u.global.name;
    if (zs_pvalue_is_global(cls, "torch._tensor", "_rebuild_from_type_v2") ||
        zs_pvalue_is_global(cls, "torch._tensor", "_rebuild_from_type")) {
        /* (function, subclass, arguments, state): the same call one level down */
        *inner_cls = zs_pvalue_at(args, 0);
        *inner_args = zs_pvalue_at(args, 2);
        return *inner_cls && *inner_args ? 1 : damaged(path, name, "is incomplete", err);
    }
    if (!span_is(cls->u.global.module, "torch._utils") || !span_starts(fn, "_rebuild_"))
        return 0;
    if (span_is(fn, "_rebuild_parameter") || span_is(fn, "_rebuild_parameter_with_state")) {
        const zs_pvalue *data = zs_pvalue_at(args, 0);
        if (!data || data->kind != ZS_P_OBJECT)
            return damaged(path, name, "is a parameter without data", err);
        *inner_cls = data->u.obj->cls;
        *inner_args = data->u.obj->args;
        return 1;
    }
    bool v3 = span_is(fn, "_rebuild_tensor_v3");
    if (v3 || span_is(fn, "_rebuild_tensor_v2") || span_is(fn, "_rebuild_tensor"))
        return parse_rebuild(t, args, v3, path, name, err);
    return zs_fail(err, ZS_E_UNSUPPORTED,
                   "%s: \"%s\" is a tensor of a kind that is not read "
                   "(torch._utils.%.*s: sparse, quantised, nested or on a special device); save a "
                   "dense copy",
                   path, name, (int)(fn.n < 60 ? fn.n : 60), (const char *)fn.p);
}

int zs_torch_tensor(zs_torchtensor *t, const zs_pvalue *v, const char *path, const char *name,
                    zs_error *err)
{
    enum { MAX_WRAPPERS = 8 };
    if (v->kind != ZS_P_OBJECT)
        return 0;
    const zs_pvalue *cls = v->u.obj->cls, *args = v->u.obj->args, *inner = NULL;
    for (int i = 0; i < MAX_WRAPPERS; i++) {
        int status = one_call(t, &inner, &args, cls, args, path, name, err);
        if (status <= 0 || !inner)
            return status == 0 && i > 0 ? damaged(path, name, "wraps no tensor", err) : status;
        cls = inner;
    }
    return damaged(path, name, "is wrapped too often", err);
}

static int parse_view(zs_torchstorage *s, const zs_pvalue *v, const char *path, zs_error *err)
{
    if (!v || v->kind == ZS_P_NONE)
        return ZS_OK;
    const zs_pvalue *offset = zs_pvalue_at(v, 1), *numel = zs_pvalue_at(v, 2);
    if (!offset || !numel || offset->kind != ZS_P_INT || numel->kind != ZS_P_INT ||
        offset->u.i < 0 || numel->u.i < 0 || offset->u.i > s->numel ||
        numel->u.i > s->numel - offset->u.i)
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: a view reaches outside its storage; the file is "
                       "damaged",
                       path);
    s->is_view = true;
    s->view_offset = offset->u.i;
    s->view_numel = numel->u.i;
    return ZS_OK;
}

int zs_torch_parse_persid(zs_torchstorage *s, const zs_pvalue *pid, const char *path, zs_error *err)
{
    *s = (zs_torchstorage){0};
    const zs_pvalue *cls = zs_pvalue_at(pid, 1), *key = zs_pvalue_at(pid, 2);
    const zs_pvalue *numel = zs_pvalue_at(pid, 4);
    if (!zs_pvalue_is_str(zs_pvalue_at(pid, 0), "storage") || !cls || !key || !numel ||
        cls->kind != ZS_P_GLOBAL || (key->kind != ZS_P_STR && key->kind != ZS_P_INT) ||
        numel->kind != ZS_P_INT || numel->u.i < 0)
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: a storage is not described as torch does it; the "
                       "file is damaged",
                       path);
    if (key->kind == ZS_P_INT)
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "%s: names its storages by numbers, as PyTorch 0.1 "
                       "did; load and save it once with a newer PyTorch",
                       path);
    s->key = key->u.s;
    s->numel = numel->u.i;
    s->untyped = span_is(cls->u.global.name, "UntypedStorage");
    s->dtype = ZS_U8;
    zs_span type = cls->u.global.name;
    if (!s->untyped && !zs_torch_storage_dtype(&s->dtype, type))
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "%s: holds a storage of type %.*s, which zsem does "
                       "not read",
                       path, (int)(type.n < 60 ? type.n : 60), (const char *)type.p);
    return parse_view(s, zs_pvalue_at(pid, 5), path, err);
}
