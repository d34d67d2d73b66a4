/* SPDX-License-Identifier: MIT */
#include "io/torchtree.h"

#include "io/torchmeta.h"
#include "io/torchtensor.h"

#include <stdio.h>
#include <string.h>

enum {
    MAX_DEPTH = 200, /* nesting; checkpoints need about ten */
    MAX_NAME = 4096, /* bytes in the name of a tensor */
    /* A value that is shared is visited once per reference. What a visit costs is roughly the
     * memory it takes, and a file may spend EXPANSION_FREE plus EXPANSION per byte of pickle;
     * real checkpoints spend 0.5 to 1.5 per byte. */
    COST_TENSOR = 64,
    COST_CONTAINER = 16,
    EXPANSION = 32,
    EXPANSION_FREE = 1 << 18
};

typedef struct walker {
    zs_tensorfile *f;
    zs_torch_resolve_fn resolve;
    void *ctx;
    zs_error *err;
    zs_strbuf name; /* path to the current value, joined with dots */
    int depth;
    size_t budget; /* what may still be spent */
} walker;

static int walk(walker *w, json_t **out, zs_pvalue *v);

static int nomem(walker *w)
{
    return zs_fail_nomem(w->err, w->name.n, "the metadata of a checkpoint");
}

static const char *name_of(const walker *w)
{
    return w->name.n > 0 ? w->name.s : "tensor";
}

static int spend(walker *w, size_t n)
{
    if (w->budget < n)
        return zs_fail(w->err, ZS_E_FORMAT,
                       "%s: repeats the same values over and over (at "
                       "\"%.100s\"); the file is hostile",
                       w->f->path, name_of(w));
    w->budget -= n;
    return ZS_OK;
}

static int add_tensor(walker *w, zs_torchtensor *t)
{
    zs_torchstorage s;
    zs_tfview *v = &t->view;
    int status = spend(w, COST_TENSOR + w->name.n);
    if (status >= 0)
        status = zs_torch_parse_persid(&s, t->storage->u.pid, w->f->path, w->err);
    if (status < 0)
        return status;
    v->name = name_of(w);
    v->dtype = s.dtype;
    if (t->dtype && !zs_torch_dtype(&v->dtype, t->dtype->u.global.name))
        return zs_fail(w->err, ZS_E_UNSUPPORTED,
                       "%s: tensor \"%s\" has the dtype %.*s, which zsem "
                       "does not read",
                       w->f->path, v->name,
                       (int)(t->dtype->u.global.name.n < 60 ? t->dtype->u.global.name.n : 60),
                       (const char *)t->dtype->u.global.name.p);
    if ((status = w->resolve(w->ctx, &v->storage, &s, w->err)) < 0)
        return status;
    size_t elem = zs_dtype_size(s.dtype);
    v->base = s.is_view ? (size_t)s.view_offset * elem : 0;
    v->room = s.is_view ? (size_t)s.view_numel * elem : w->f->storages[v->storage].n;
    return zs_tensorfile_add(w->f, v, w->err);
}

/* Appends ".key" to the path and walks v there. */
static int walk_child(walker *w, json_t **out, const char *key, zs_pvalue *v)
{
    size_t n = w->name.n, len = strlen(key);
    int status = ZS_OK;
    *out = NULL;
    if (len + n + 1 > MAX_NAME)
        return zs_fail(w->err, ZS_E_FORMAT,
                       "%s: the path of a value (\"%.60s...\") is longer than "
                       "%d bytes; the file is damaged or hostile",
                       w->f->path, key, MAX_NAME);
    if (n > 0)
        zs_strbuf_append(&w->name, ".", 1);
    zs_strbuf_append(&w->name, key, len);
    status = w->name.failed ? nomem(w) : walk(w, out, v);
    w->name.n = n;
    if (w->name.s)
        w->name.s[n] = '\0';
    return status;
}

/* Pairs into a JSON object; tensors are left out. */
static int walk_pairs(walker *w, json_t *into, const zs_pseq *s)
{
    int status = ZS_OK;
    for (size_t i = 0; i + 1 < s->n && status >= 0; i += 2) {
        json_t *child = NULL;
        char *key = zs_torchmeta_key(s->v[i], i / 2);
        if (!key)
            return nomem(w);
        status = spend(w, strlen(key));
        if (status >= 0)
            status = walk_child(w, &child, key, s->v[i + 1]);
        if (child && json_object_set_new(into, key, child) != 0)
            status = nomem(w);
        zs_free(key);
    }
    return status;
}

/* Items into a JSON array; a tensor leaves null so that the others keep their index. */
static int walk_items(walker *w, json_t *into, const zs_pseq *s)
{
    int status = ZS_OK;
    for (size_t i = 0; i < s->n && status >= 0; i++) {
        json_t *child = NULL;
        char key[24];
        snprintf(key, sizeof key, "%zu", i);
        status = walk_child(w, &child, key, s->v[i]);
        if (status >= 0 && json_array_append_new(into, child ? child : json_null()) != 0)
            status = nomem(w);
    }
    return status;
}

static int walk_list(walker *w, json_t **out, const zs_pseq *s)
{
    *out = json_array();
    return *out ? walk_items(w, *out, s) : nomem(w);
}

static int walk_dict(walker *w, json_t **out, const zs_pseq *s)
{
    *out = json_object();
    return *out ? walk_pairs(w, *out, s) : nomem(w);
}

/* OrderedDict([[key, value], ...]), as Python 2 wrote it. */
static int walk_pair_list(walker *w, json_t *into, const zs_pvalue *list)
{
    int status = ZS_OK;
    for (size_t i = 0; list && status >= 0 && zs_pvalue_at(list, i); i++) {
        const zs_pvalue *pair = zs_pvalue_at(list, i);
        status = spend(w, 1);
        if (status >= 0 && zs_pvalue_at(pair, 1))
            status = walk_pairs(w, into, &pair->u.seq);
    }
    return status;
}

static int set_child(walker *w, json_t *into, const char *key, zs_pvalue *v)
{
    json_t *child = NULL;
    int status = walk_child(w, &child, key, v);
    return child && json_object_set_new(into, key, child) != 0 ? nomem(w) : status;
}

/* Where the values of an object go: its keys are the object's own. */
static int walk_contents(walker *w, json_t *into, const zs_pobject *o)
{
    int status = ZS_OK;
    if (o->list.n > 0) {
        json_t *items = NULL;
        status = walk_list(w, &items, &o->list);
        if (items && json_object_set_new(into, "items", items) != 0)
            status = nomem(w);
    }
    if (status >= 0 && o->kwargs)
        status = walk_pairs(w, into, &o->kwargs->u.seq);
    if (status >= 0)
        status = walk_pairs(w, into, &o->pairs);
    if (status >= 0 && o->state && o->state->kind == ZS_P_DICT)
        status = walk_pairs(w, into, &o->state->u.seq);
    else if (status >= 0 && o->state)
        status = set_child(w, into, "state", o->state);
    return status;
}

/* An object of a class that means nothing here: {"__class__": name, "args": [...], ...}. */
static int walk_opaque(walker *w, json_t **out, zs_pobject *o)
{
    int status = ZS_OK;
    const zs_pvalue *cls = o->cls;
    json_t *into = *out = json_object();
    /* protocols 0 and 1 call copyreg._reconstructor(class, base, state) for plain objects */
    bool rebuilt = zs_pvalue_is_global(cls, "copy_reg", "_reconstructor") ||
                   zs_pvalue_is_global(cls, "copyreg", "_reconstructor");
    if (rebuilt && zs_pvalue_at(o->args, 0))
        cls = zs_pvalue_at(o->args, 0);
    if (!into || json_object_set_new(into, "__class__", zs_torchmeta_class(cls)) != 0)
        return nomem(w);
    if (!rebuilt && o->args->u.seq.n > 0)
        status = set_child(w, into, "args", o->args);
    return status < 0 ? status : walk_contents(w, into, o);
}

static int walk_object(walker *w, json_t **out, zs_pvalue *v)
{
    zs_torchtensor t;
    zs_pobject *o = v->u.obj;
    int status = zs_torch_tensor(&t, v, w->f->path, name_of(w), w->err);
    if (status != 0)
        return status < 0 ? status : add_tensor(w, &t);
    switch (zs_torchmeta_kind(o)) {
    case ZS_TM_DICT:
        status = walk_dict(w, out, &o->pairs);
        return status < 0 ? status : walk_pair_list(w, *out, zs_pvalue_at(o->args, 0));
    case ZS_TM_LIST: return walk_list(w, out, &zs_pvalue_at(o->args, 0)->u.seq);
    case ZS_TM_SCALAR:
        status = spend(w, zs_torchmeta_cost(o));
        *out = status < 0 ? NULL : zs_torchmeta_scalar(o);
        return status < 0 || *out ? status : nomem(w);
    case ZS_TM_OPAQUE: break;
    }
    return walk_opaque(w, out, o);
}

static int walk_container(walker *w, json_t **out, zs_pvalue *v)
{
    switch (v->kind) {
    case ZS_P_DICT: return walk_dict(w, out, &v->u.seq);
    case ZS_P_OBJECT: return walk_object(w, out, v);
    default: return walk_list(w, out, &v->u.seq);
    }
}

/* *out = the value as JSON, or NULL for a tensor, which goes to the file's list instead. On
 * failure *out may hold a partial value, for the caller to release. */
static int walk(walker *w, json_t **out, zs_pvalue *v)
{
    *out = NULL;
    bool container = v->kind == ZS_P_LIST || v->kind == ZS_P_TUPLE || v->kind == ZS_P_SET ||
                     v->kind == ZS_P_DICT || v->kind == ZS_P_OBJECT;
    int status = spend(w, container ? COST_CONTAINER : v->kind == ZS_P_STR ? 1 + v->u.s.n : 1);
    if (status < 0)
        return status;
    if (!container || v->active) {
        *out = v->active ? json_pack("{s:b}", "__cycle__", 1) : zs_torchmeta_plain(v);
        return *out ? ZS_OK : nomem(w);
    }
    if (w->depth == MAX_DEPTH)
        return zs_fail(w->err, ZS_E_FORMAT,
                       "%s: nests values more than %d deep; the file is "
                       "damaged or hostile",
                       w->f->path, MAX_DEPTH);
    w->depth++;
    v->active = true;
    status = walk_container(w, out, v);
    v->active = false;
    w->depth--;
    if (status < 0) {
        json_decref(*out);
        *out = NULL;
    }
    return status;
}

int zs_torch_walk(zs_tensorfile *f, const zs_pickle *p, zs_torch_resolve_fn resolve, void *ctx,
                  zs_error *err)
{
    walker w = {.f = f, .resolve = resolve, .ctx = ctx, .err = err};
    w.budget = p->used > (SIZE_MAX - EXPANSION_FREE) / EXPANSION
                   ? SIZE_MAX
                   : p->used * EXPANSION + EXPANSION_FREE;
    int status = walk(&w, &f->meta, p->root);
    zs_strbuf_free(&w.name);
    return status;
}
