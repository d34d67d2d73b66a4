/* SPDX-License-Identifier: MIT */
#include "models/infer.h"

#include <stdarg.h>
#include <string.h>

bool zs_infer_has(const zs_tensorfile *f, const char *prefix, const char *name)
{
    char full[96];
    (void)snprintf(full, sizeof full, "%s%s", prefix, name);
    return zs_tensorfile_find(f, full) >= 0;
}

bool zs_infer_given(const zs_model_options *o, const char *key)
{
    for (const char *const *s = o ? o->set : NULL; s && *s; s++)
        if (zs_str_starts(*s, key))
            return true;
    return false;
}

int zs_infer_envelope(zs_official *out, zs_tensorfile *f,
                      bool (*is)(const zs_tensorfile *f, const char *prefix), bool raw,
                      zs_error *err)
{
    static const char *const trained[] = {"model.", ""};
    const char *averaged = is(f, "model_ema.") ? "model_ema." : is(f, "ema.") ? "ema." : NULL;
    *out = (zs_official){.f = f, .averaged = averaged && !raw};
    if (out->averaged) {
        (void)snprintf(out->prefix, sizeof out->prefix, "%s", averaged);
        return ZS_OK;
    }
    for (size_t i = 0; i < sizeof trained / sizeof trained[0]; i++)
        if (is(f, trained[i])) {
            (void)snprintf(out->prefix, sizeof out->prefix, "%s", trained[i]);
            return ZS_OK;
        }
    if (!averaged)
        return 1;
    return zs_fail(err, ZS_E_INVALID,
                   "%s holds only averaged weights (%s*), and this needs the raw ones; use the "
                   "checkpoint that training wrote",
                   zs_tensorfile_path(f), averaged);
}

const zs_tensorinfo *zs_infer_tensor(const zs_infer *x, const char *fmt, ...)
{
    char name[160], full[200];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    (void)snprintf(full, sizeof full, "%s%s", x->o->prefix, name);
    long i = zs_tensorfile_find(x->o->f, full);
    return i < 0 ? NULL : zs_tensorfile_info(x->o->f, (size_t)i);
}

int64_t zs_infer_dim(const zs_tensorinfo *t, int i)
{
    return t && i < t->nd ? t->shape[i] : 0;
}

int zs_infer_damaged(const zs_infer *x, const char *what, zs_error *err)
{
    const char *prefix = x->o->prefix;
    return zs_fail(err, ZS_E_FORMAT, "%s: the tensors%s%s do not form a network: %s",
                   zs_tensorfile_path(x->o->f), prefix[0] ? " below " : "", prefix, what);
}

int64_t zs_infer_int(const zs_infer *x, const char *key, int64_t fallback)
{
    const json_t *v = json_object_get(x->hyper, key);
    return json_is_integer(v) ? json_integer_value(v) : fallback;
}

double zs_infer_real(const zs_infer *x, const char *key, double fallback)
{
    const json_t *v = json_object_get(x->hyper, key);
    return json_is_number(v) ? json_number_value(v) : fallback;
}

void zs_infer_text(const zs_infer *x, const char *key, char *out, size_t cap, const char *fallback)
{
    const char *v = json_string_value(json_object_get(x->hyper, key));
    bool stored = v && strlen(v) < cap;
    (void)snprintf(out, cap, "%s", stored ? v : fallback);
    zs_facts_add(x->facts, key, out, stored ? "%s of %s" : "default (%s of %s has none)",
                 x->hyper_name, x->file);
}

zs_infer zs_infer_open(const zs_official *o, const char *hyper_name, zs_facts *facts)
{
    const char *path = zs_tensorfile_path(o->f), *slash = strrchr(path, '/');
    return (zs_infer){.o = o,
                      .hyper = json_object_get(zs_tensorfile_meta(o->f), hyper_name),
                      .hyper_name = hyper_name,
                      .facts = facts,
                      .file = slash ? slash + 1 : path};
}
