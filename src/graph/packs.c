/* SPDX-License-Identifier: MIT */
/* Packed forms of parameters, shared by the plans of one flat buffer. */
#include "graph/internal.h"

#include <stdatomic.h>
#include <string.h>

struct zs_pack {
    zs_op op;
    int64_t offset; /* of the parameter */
    zs_packing k;
    int users;           /* nodes of living plans */
    void *data;          /* NULL until first made */
    const float *source; /* flat buffer and version that data was made from */
    uint64_t version;    /* 0: none */
};

struct zs_packs {
    const zs_backend *backend;
    zs_pack **p; /* one by one on the heap: plans hold their addresses */
    size_t n, cap;
    size_t limit, promised, held; /* bytes: most, of all entries, of those made */
};

uint64_t zs_weights_version(void)
{
    static atomic_ullong last;
    return atomic_fetch_add(&last, 1) + 1;
}

int zs_packs_new(zs_packs **out, const zs_backend *backend, size_t limit, zs_error *err)
{
    zs_packs *s = zs_calloc(1, sizeof *s);
    *out = s;
    if (!s)
        return zs_fail_nomem(err, sizeof *s, "packed weights");
    s->backend = backend ? backend : zs_backend_find(NULL);
    s->limit = limit;
    return ZS_OK;
}

static void release(zs_packs *s, size_t i)
{
    zs_pack *p = s->p[i];
    if (p->data) {
        s->backend->release(p->data, p->k.bytes);
        s->held -= p->k.bytes;
    }
    s->promised -= p->k.bytes;
    zs_free(p);
    s->p[i] = s->p[--s->n];
}

void zs_packs_free(zs_packs **s)
{
    if (!*s)
        return;
    while ((*s)->n > 0)
        release(*s, (*s)->n - 1);
    zs_free((*s)->p);
    zs_free(*s);
    *s = NULL;
}

size_t zs_packs_bytes(const zs_packs *s)
{
    return s->held;
}

zs_pack *zs_packs_take(zs_packs *s, zs_op op, int64_t offset, zs_packing k)
{
    void *items = s->p;
    for (size_t i = 0; i < s->n; i++) {
        zs_pack *p = s->p[i];
        if (p->op == op && p->offset == offset && p->k.bytes == k.bytes &&
            p->k.layout == k.layout) {
            p->users++;
            return p;
        }
    }
    if (k.bytes > s->limit - s->promised ||
        !zs_grow(&items, &s->cap, s->n, sizeof(zs_pack *))) /* only speed is lost */
        return NULL;
    s->p = items;
    zs_pack *p = zs_alloc(1, sizeof *p);
    if (!p)
        return NULL;
    *p = (zs_pack){.op = op, .offset = offset, .k = k, .users = 1};
    s->promised += k.bytes;
    s->p[s->n++] = p;
    return p;
}

void zs_packs_drop(zs_packs *s, zs_pack *p)
{
    if (--p->users > 0)
        return;
    for (size_t i = 0; i < s->n; i++)
        if (s->p[i] == p) {
            release(s, i);
            return;
        }
}

const void *zs_packs_get(zs_packs *s, zs_pack *p, const zs_packer *packer, const zs_call *c,
                         const float *params, uint64_t version)
{
    if (version == 0)
        return NULL;
    if (p->data && p->version == version && p->source == params)
        return p->data;
    if (!p->data) {
        p->data = s->backend->alloc(p->k.bytes);
        if (!p->data)
            return NULL;
        s->held += p->k.bytes;
    }
    packer->pack(c, p->data);
    p->version = version;
    p->source = params;
    return p->data;
}

bool zs_packs_fresh(const zs_packs *s, const zs_pack *p, const zs_packer *packer, const zs_call *c)
{
    if (s->backend->remote) /* out of reach */
        return true;
    zs_call bare = *c;
    void *again = s->backend->alloc(p->k.bytes);
    if (!again)
        return true;
    bare.packed = NULL;
    packer->pack(&bare, again);
    bool same = memcmp(again, p->data, p->k.bytes) == 0;
    s->backend->release(again, p->k.bytes);
    return same;
}
