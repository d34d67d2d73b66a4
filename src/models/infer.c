/* SPDX-License-Identifier: MIT */
#include "models/infer.h"

#include <stdarg.h>
#include <string.h>

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
