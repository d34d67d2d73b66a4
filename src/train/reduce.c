/* SPDX-License-Identifier: MIT */
#include "train/reduce.h"

#include "tensor/backend.h"

typedef struct bucket {
    zs_comm_sum *sum;
    bool begun;
} bucket;

struct zs_reduce {
    zs_comm *comm;
    const zs_backend *backend;
    zs_grad_range *ranges;
    bucket *buckets;
    size_t n;
    zs_comm_device *device; /* adds up in the backend's memory; NULL: that is not to be had */
    float *stage; /* the largest bucket, where the gradient's memory is out of reach; else NULL */
    size_t stage_bytes;
    float *grad;  /* of this run; NULL between runs */
    zs_error why; /* what went wrong while the plan ran */
};

void zs_reduce_free(zs_reduce **r)
{
    if (!*r)
        return;
    for (size_t i = 0; (*r)->buckets && i < (*r)->n; i++)
        zs_comm_sum_free(&(*r)->buckets[i].sum);
    zs_comm_device_free(&(*r)->device);
    zs_free((*r)->buckets);
    zs_free((*r)->ranges);
    if ((*r)->stage)
        (*r)->backend->remote->release_host((*r)->stage, (*r)->stage_bytes);
    zs_free(*r);
    *r = NULL;
}

/* ---- buckets ---- */

typedef struct range_list {
    zs_grad_range *at;
    size_t n, cap;
} range_list;

static int add_range(range_list *l, zs_grad_range r, zs_error *err)
{
    void *items = l->at;
    bool ok = zs_grow(&items, &l->cap, l->n, sizeof *l->at);
    l->at = items;
    if (!ok)
        return zs_fail_nomem(err, sizeof *l->at, "a list of buckets");
    l->at[l->n++] = r;
    return ZS_OK;
}

/* Parameters stand in the buffer one after the other; those that share an offset are one. Frozen
 * ones have no gradient: they end a bucket and are in none. */
int zs_reduce_cut(zs_grad_range **out, size_t *n, const zs_params *layout, int64_t bytes,
                  zs_error *err)
{
    range_list list = {0};
    zs_grad_range now = {0, 0};
    int64_t most = bytes / (int64_t)sizeof(float);
    int status = ZS_OK;
    for (size_t i = 0; status == ZS_OK && i < zs_params_count(layout); i++) {
        const zs_param *p = zs_params_at(layout, i);
        if (p->alias >= 0)
            continue;
        bool full = p->offset + p->numel - now.begin > most || !p->trainable;
        if (full && now.end > now.begin)
            status = add_range(&list, now, err);
        if (full || now.end == now.begin)
            now = (zs_grad_range){p->offset, p->offset};
        if (p->trainable)
            now.end = p->offset + p->numel;
    }
    if (status == ZS_OK && now.end > now.begin)
        status = add_range(&list, now, err);
    *out = list.at;
    *n = list.n;
    return status;
}

static int make_sums(zs_reduce *r, zs_error *err)
{
    int status = ZS_OK;
    r->buckets = zs_calloc(r->n + 1, sizeof *r->buckets);
    if (!r->buckets)
        return zs_fail_nomem(err, r->n * sizeof *r->buckets, "a list of buckets");
    for (size_t i = 0; i < r->n && status == ZS_OK && !r->device; i++)
        status = zs_comm_sum_new(&r->buckets[i].sum, r->comm, (int)i,
                                 r->ranges[i].end - r->ranges[i].begin, err);
    return status;
}

static int make_stage(zs_reduce *r, zs_error *err)
{
    int64_t most = 1;
    for (size_t i = 0; i < r->n; i++)
        if (r->ranges[i].end - r->ranges[i].begin > most)
            most = r->ranges[i].end - r->ranges[i].begin;
    r->stage_bytes = (size_t)most * sizeof *r->stage;
    r->stage = r->backend->remote->alloc_host(r->stage_bytes);
    return r->stage ? ZS_OK : zs_fail_nomem(err, r->stage_bytes, "gradients on their way");
}

int zs_reduce_new(zs_reduce **out, zs_comm *comm, const zs_backend *backend,
                  const zs_params *layout, int64_t bucket_bytes, zs_error *err)
{
    *out = NULL;
    if (zs_comm_size(comm) == 1)
        return ZS_OK;
    zs_reduce *r = zs_calloc(1, sizeof *r);
    if (!r)
        return zs_fail_nomem(err, sizeof *r, "buckets");
    *r = (zs_reduce){.comm = comm, .backend = backend};
    int status = backend->queue ? zs_comm_device_new(&r->device, comm, err) : ZS_OK;
    if (status == ZS_OK)
        status = zs_reduce_cut(&r->ranges, &r->n, layout, bucket_bytes, err);
    if (status == ZS_OK)
        status = make_sums(r, err);
    if (status == ZS_OK && backend->remote && !r->device)
        status = make_stage(r, err);
    if (status < 0)
        zs_reduce_free(&r);
    *out = r;
    return status;
}

/* ---- while the plan runs ---- */

static void begin_bucket(zs_reduce *r, size_t i)
{
    bucket *b = &r->buckets[i];
    b->begun = true;
    if (r->why.status == ZS_OK)
        (void)zs_comm_sum_start(b->sum, r->grad + r->ranges[i].begin, &r->why);
}

static void on_ready(void *ctx, size_t range)
{
    zs_reduce *r = ctx;
    if (r->grad && !r->backend->remote)
        begin_bucket(r, range);
}

static void on_tick(void *ctx)
{
    zs_reduce *r = ctx;
    for (size_t i = 0; r->grad && i < r->n && r->why.status == ZS_OK; i++)
        if (r->buckets[i].begun)
            (void)zs_comm_sum_poll(r->buckets[i].sum, &r->why);
}

int zs_reduce_watch(zs_reduce *r, zs_exec *e, zs_error *err)
{
    if (!r)
        return ZS_OK;
    const zs_ready_config c = {
        .ranges = r->ranges, .n = r->n, .ready = on_ready, .tick = on_tick, .ctx = r};
    return zs_exec_watch(e, &c, err);
}

void zs_reduce_begin(zs_reduce *r, float *grad)
{
    if (!r)
        return;
    r->grad = grad;
    r->why = (zs_error){0};
    for (size_t i = 0; i < r->n; i++)
        r->buckets[i].begun = false;
}

/* A device whose memory the program does not reach: bucket by bucket through its own. */
static int sum_staged(zs_reduce *r, zs_error *err)
{
    const zs_remote *m = r->backend->remote;
    int status = ZS_OK;
    for (size_t i = 0; i < r->n && status == ZS_OK; i++) {
        float *at = r->grad + r->ranges[i].begin;
        size_t bytes = (size_t)(r->ranges[i].end - r->ranges[i].begin) * sizeof *at;
        status = m->download(r->stage, at, bytes, err);
        if (status == ZS_OK)
            status = zs_comm_sum_start(r->buckets[i].sum, r->stage, err);
        if (status == ZS_OK)
            status = zs_comm_sum_wait(r->buckets[i].sum, err);
        if (status == ZS_OK)
            status = m->upload(at, r->stage, bytes, err);
        if (status == ZS_OK)
            status = m->sync(err); /* the stage is written again */
    }
    return status;
}

/* Behind the run, which a recording may replay without a word in between. */
static int sum_queued(zs_reduce *r, zs_error *err)
{
    int status = zs_comm_device_begin(err);
    for (size_t i = 0; i < r->n && status == ZS_OK; i++)
        status = zs_comm_device_sum(r->device, r->grad + r->ranges[i].begin,
                                    r->ranges[i].end - r->ranges[i].begin, r->backend->queue, err);
    return status == ZS_OK ? zs_comm_device_end(r->device, err) : status;
}

static int sum_all(zs_reduce *r, zs_error *err)
{
    for (size_t i = 0; i < r->n; i++) /* nobody added to these, or the run has failed */
        if (!r->buckets[i].begun)
            begin_bucket(r, i);
    for (size_t i = 0; i < r->n && r->why.status == ZS_OK; i++)
        (void)zs_comm_sum_wait(r->buckets[i].sum, &r->why);
    return r->why.status < 0 ? zs_fail(err, r->why.status, "%s", r->why.message) : ZS_OK;
}

int zs_reduce_end(zs_reduce *r, float *grad, int status, zs_error *err)
{
    zs_error why = {0};
    if (!r)
        return status;
    if (!r->grad) /* the run did not come so far */
        zs_reduce_begin(r, grad);
    int mine = r->device            ? sum_queued(r, &why)
               : r->backend->remote ? sum_staged(r, &why)
                                    : sum_all(r, &why);
    r->grad = NULL;
    if (status == ZS_OK && mine < 0)
        status = zs_fail(err, mine, "%s", why.message);
    return status;
}
