/* SPDX-License-Identifier: MIT */
/* Sums over ranks: rank r gets slice r of everybody, adds them up in the order of the ranks, and
 * sends the result to everybody. Each rank sends and receives 2 (size-1)/size of the bytes, which
 * is the least that is possible, and the order of the additions is nobody's but ours. */
#include "comm/internal.h"

#include <string.h>

enum { GRAIN = 1 << 14 };

typedef enum phase { IDLE, SCATTER, GATHER } phase;

struct zs_comm_sum {
    zs_comm *c;
    int slot;
    int64_t n;
    float *x;
    float *theirs; /* [size-1][slice] of the ranks below and above this one */
    zs_flight *f;  /* 2 (size-1) */
    phase at;
};

int zs_comm_sum_new(zs_comm_sum **out, zs_comm *c, int slot, int64_t n, zs_error *err)
{
    size_t others = (size_t)zs_comm_size(c) - 1;
    zs_part mine = zs_comm_part(c, n);
    zs_comm_sum *s = zs_calloc(1, sizeof *s);
    *out = s;
    if (s) {
        *s = (zs_comm_sum){.c = c, .slot = slot, .n = n};
        s->f = zs_calloc(2 * others + 1, sizeof *s->f);
        s->theirs = zs_alloc(others * (size_t)(mine.end - mine.begin) + 1, sizeof *s->theirs);
    }
    if (s && s->f && s->theirs)
        return ZS_OK;
    zs_comm_sum_free(out);
    return zs_fail_nomem(err, 4ull * others * (unsigned long long)(mine.end - mine.begin),
                         "gradients of other ranks; use smaller buckets (--bucket-mb)");
}

void zs_comm_sum_free(zs_comm_sum **s)
{
    if (*s && (*s)->c) {
        zs_comm_drop((*s)->c, (*s)->f);
        zs_comm_drop((*s)->c, (*s)->theirs);
    } else if (*s) {
        zs_free((*s)->f);
        zs_free((*s)->theirs);
    }
    zs_free(*s);
    *s = NULL;
}

static float *slice_of(const zs_comm_sum *s, int rank, size_t *bytes)
{
    zs_part p = zs_comm_part_of(s->n, rank, s->c->me.size);
    *bytes = (size_t)(p.end - p.begin) * sizeof(float);
    return s->x + p.begin;
}

static int start_scatter(zs_comm_sum *s, zs_error *err)
{
    zs_comm *c = s->c;
    zs_part mine = zs_comm_part(c, s->n);
    int64_t slice = mine.end - mine.begin;
    int status = ZS_OK, tag = ZS_TAG_SUMS + 2 * s->slot;
    size_t k = 0, bytes;
    float *at = s->theirs;
    for (int i = 0; status == ZS_OK && i < c->me.size; i++) {
        if (i == c->me.rank)
            continue;
        status = zs_comm_recv(c, &s->f[k++], i, tag, at, (size_t)slice * sizeof *at, err);
        at += slice;
    }
    for (int i = 0; status == ZS_OK && i < c->me.size; i++) {
        if (i == c->me.rank)
            continue;
        const float *p = slice_of(s, i, &bytes);
        status = zs_comm_send(c, &s->f[k++], i, tag, p, bytes, err);
    }
    s->at = SCATTER;
    return status;
}

static void add_range(void *ctx, int64_t begin, int64_t end, int thread)
{
    const zs_comm_sum *s = ctx;
    zs_part mine = zs_comm_part(s->c, s->n);
    int64_t slice = mine.end - mine.begin;
    float *own = s->x + mine.begin;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        double sum = 0.0;
        for (int r = 0; r < s->c->me.size; r++)
            sum += r == s->c->me.rank ? (double)own[i]
                                      : (double)s->theirs[(r - (r > s->c->me.rank)) * slice + i];
        own[i] = (float)sum;
    }
}

static int start_gather(zs_comm_sum *s, zs_error *err)
{
    zs_comm *c = s->c;
    int status = ZS_OK, tag = ZS_TAG_SUMS + 2 * s->slot + 1;
    size_t k = 0, bytes, own_bytes;
    const float *own = slice_of(s, c->me.rank, &own_bytes);
    for (int i = 0; status == ZS_OK && i < c->me.size; i++) {
        if (i == c->me.rank)
            continue;
        float *p = slice_of(s, i, &bytes);
        status = zs_comm_recv(c, &s->f[k++], i, tag, p, bytes, err);
        if (status == ZS_OK)
            status = zs_comm_send(c, &s->f[k++], i, tag, own, own_bytes, err);
    }
    s->at = GATHER;
    return status;
}

int zs_comm_sum_start(zs_comm_sum *s, float *x, zs_error *err)
{
    s->x = x;
    if (zs_comm_size(s->c) == 1)
        return ZS_OK;
    int status = zs_comm_repeat(s->c, err);
    return status < 0 ? status : start_scatter(s, err);
}

/* After a phase has ended: 1 when that was the last. */
static int next_phase(zs_comm_sum *s, zs_error *err)
{
    zs_part mine = zs_comm_part(s->c, s->n);
    if (s->at == GATHER) {
        s->at = IDLE;
        return 1;
    }
    zs_parallel_for(mine.end - mine.begin, GRAIN, add_range, s);
    return start_gather(s, err);
}

int zs_comm_sum_poll(zs_comm_sum *s, zs_error *err)
{
    int status = 1;
    while (s->at != IDLE && status == 1) {
        status = zs_comm_test(s->c, s->f, 2 * (size_t)(s->c->me.size - 1), err);
        if (status == 1 && next_phase(s, err) < 0)
            return s->c->verdict.status;
    }
    return status;
}

int zs_comm_sum_wait(zs_comm_sum *s, zs_error *err)
{
    int status = ZS_OK;
    while (status == ZS_OK && s->at != IDLE) {
        status = zs_comm_wait(s->c, s->f, 2 * (size_t)(s->c->me.size - 1), s->c->timeout, err);
        if (status == ZS_OK)
            status = next_phase(s, err);
        if (status == 1)
            status = ZS_OK;
    }
    return status;
}
