/* SPDX-License-Identifier: MIT */
/* Weights where a backend can read them. */
#include "graph/graph.h"

zs_weights zs_weights_of_host(const zs_backend *b, float *host, size_t n)
{
    return (zs_weights){
        .backend = b, .host = b->remote ? host : NULL, .params = b->remote ? NULL : host, .n = n};
}

zs_weights zs_weights_of_backend(const zs_backend *b, float *params, size_t n)
{
    return (zs_weights){.backend = b, .params = params, .n = n};
}

static int allocate(zs_weights *w, zs_error *err)
{
    size_t n = w->n ? w->n : 1;
    if (!w->params)
        w->params = w->backend->alloc(n * sizeof *w->params);
    if (w->backend->bf16 && !w->shadow)
        w->shadow = w->backend->alloc(n * sizeof *w->shadow);
    if (w->params && (w->shadow || !w->backend->bf16))
        return ZS_OK;
    return zs_fail(
        err, ZS_E_NOMEM,
        "out of memory: %.1f MiB for weights could not be allocated on %s; end what else "
        "uses the device, or use --device cpu",
        (double)n * (w->backend->bf16 ? 6.0 : 4.0) / 1048576.0, w->backend->name);
}

int zs_weights_get(zs_buffers *out, zs_weights *w, uint64_t version, zs_error *err)
{
    const zs_remote *r = w->backend->remote;
    bool stale = r && (version == 0 || version != w->version);
    int status = r ? allocate(w, err) : ZS_OK;
    if (status == ZS_OK && stale && w->host)
        status = r->upload(w->params, w->host, w->n * sizeof *w->params, err);
    if (status == ZS_OK && stale && w->shadow)
        status = r->to_bf16(w->shadow, w->params, (int64_t)w->n, err);
    if (r)
        w->version = status == ZS_OK ? version : 0;
    *out = (zs_buffers){.params = w->params, .shadow = w->shadow};
    return status;
}

void zs_weights_clear(zs_weights *w)
{
    if (w->host && w->params)
        w->backend->release(w->params, (w->n ? w->n : 1) * sizeof *w->params);
    if (w->shadow)
        w->backend->release(w->shadow, (w->n ? w->n : 1) * sizeof *w->shadow);
    *w = (zs_weights){0};
}
