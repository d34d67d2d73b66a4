/* SPDX-License-Identifier: MIT */
/* Small things that every rank tells every other one. */
#include "comm/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int post_all(zs_comm *c, zs_flight *f, void *all, const void *mine, size_t bytes,
                    zs_error *err)
{
    int status = ZS_OK;
    size_t n = 0;
    for (int i = 0; status == ZS_OK && i < c->me.size; i++)
        if (i != c->me.rank)
            status = zs_comm_recv(c, &f[n++], i, ZS_TAG_MEET, (char *)all + (size_t)i * bytes,
                                  bytes, err);
    for (int i = 0; status == ZS_OK && i < c->me.size; i++)
        if (i != c->me.rank)
            status = zs_comm_send(c, &f[n++], i, ZS_TAG_MEET, mine, bytes, err);
    return status;
}

int zs_comm_meet(zs_comm *c, void *all, const void *mine, size_t bytes, double timeout,
                 zs_error *err)
{
    size_t n = 2 * (size_t)(c->me.size - 1);
    int status = zs_comm_repeat(c, err);
    if (status < 0)
        return status;
    memcpy((char *)all + (size_t)c->me.rank * bytes, mine, bytes);
    zs_flight *f = zs_calloc(n + 1, sizeof *f);
    if (!f)
        return zs_comm_break(c, err, "out of memory: messages to %d ranks", c->me.size);
    status = post_all(c, f, all, mine, bytes, err);
    if (status == ZS_OK)
        status = zs_comm_wait(c, f, n, timeout, err);
    zs_comm_drop(c, f);
    return status;
}

/* ---- outcomes ---- */

typedef struct vote {
    int32_t status;
} vote;

/* Whose failure counts; -1: nobody failed. */
static int spokesman(const vote *all, int size)
{
    int first = -1;
    for (int i = 0; i < size; i++) {
        bool better =
            first < 0 || (all[first].status == ZS_E_CANCELLED && all[i].status != ZS_E_CANCELLED);
        if (all[i].status < 0 && better)
            first = i;
    }
    return first;
}

/* The words of rank `from` to everybody. */
static int spread_text(zs_comm *c, char *text, size_t cap, int from, double timeout, zs_error *err)
{
    zs_flight *f = zs_calloc((size_t)c->me.size, sizeof *f);
    size_t n = 0;
    int status = f ? ZS_OK : zs_comm_break(c, err, "out of memory: messages");
    for (int i = 0; status == ZS_OK && c->me.rank == from && i < c->me.size; i++)
        if (i != from)
            status = zs_comm_send(c, &f[n++], i, ZS_TAG_TEXT, text, cap, err);
    if (status == ZS_OK && c->me.rank != from)
        status = zs_comm_recv(c, &f[n++], from, ZS_TAG_TEXT, text, cap, err);
    if (status == ZS_OK)
        status = zs_comm_wait(c, f, n, timeout, err);
    zs_comm_drop(c, f);
    text[cap - 1] = '\0';
    return status;
}

/* All know now; the message is the same everywhere. */
static int conclude(zs_comm *c, const vote *all, int from, double timeout, zs_error *err)
{
    zs_error own = {0};
    char text[sizeof own.message] = "";
    int status = all[from].status;
    if (err)
        (void)snprintf(text, sizeof text, "%s", err->message);
    if (spread_text(c, text, sizeof text, from, timeout, &own) < 0) {
        if (err)
            *err = own;
        return own.status;
    }
    if (from == 0 || status == ZS_E_CANCELLED)
        (void)zs_fail(&c->verdict, status, "%s", text);
    else
        (void)zs_fail(&c->verdict, status, "rank %d (%s): %s", from, zs_comm_host(c, from), text);
    if (err)
        *err = c->verdict;
    return status;
}

static int agree(zs_comm *c, int status, double timeout, zs_error *err)
{
    if (!c || c->me.size == 1)
        return status;
    if (c->verdict.status) {
        if (err)
            *err = c->verdict;
        return c->verdict.status;
    }
    const vote mine = {status < 0 ? status : ZS_OK};
    zs_error own = {0};
    vote *all = zs_calloc((size_t)c->me.size, sizeof *all);
    int r = all ? zs_comm_meet(c, all, &mine, sizeof mine, timeout, &own)
                : zs_comm_break(c, &own, "out of memory: votes");
    int from = r < 0 ? -1 : spokesman(all, c->me.size);
    if (r < 0 && err && err->status == ZS_OK)
        *err = own;
    if (from >= 0)
        r = conclude(c, all, from, timeout, err);
    zs_comm_drop(c, all);
    return r < 0 && status < 0 && from < 0 ? status : r;
}

int zs_comm_agree(zs_comm *c, int status, zs_error *err)
{
    return agree(c, status, c ? c->timeout : 0.0, err);
}

int zs_comm_agree_at_last(zs_comm *c, int status, zs_error *err)
{
    return agree(c, status, 0.0, err);
}

/* ---- numbers ---- */

int zs_comm_add(zs_comm *c, double *x, int n, zs_error *err)
{
    if (!c || c->me.size == 1)
        return ZS_OK;
    double mine[ZS_COMM_SMALL] = {0};
    double(*all)[ZS_COMM_SMALL] = zs_calloc((size_t)c->me.size, sizeof *all);
    if (!all)
        return zs_comm_break(c, err, "out of memory: numbers of %d ranks", c->me.size);
    memcpy(mine, x, (size_t)n * sizeof *x);
    int status = zs_comm_meet(c, all, mine, sizeof mine, c->timeout, err);
    for (int k = 0; status == ZS_OK && k < n; k++) {
        x[k] = 0.0;
        for (int i = 0; i < c->me.size; i++)
            x[k] += all[i][k];
    }
    zs_comm_drop(c, all);
    return status;
}

int zs_comm_same(zs_comm *c, uint64_t v, const char *what, zs_error *err)
{
    if (!c || c->me.size == 1)
        return ZS_OK;
    uint64_t *all = zs_calloc((size_t)c->me.size, sizeof *all);
    if (!all)
        return zs_comm_break(c, err, "out of memory: numbers of %d ranks", c->me.size);
    int status = zs_comm_meet(c, all, &v, sizeof v, c->timeout, err), other = 0;
    while (status == ZS_OK && other < c->me.size && all[other] == all[0])
        other++;
    if (status == ZS_OK && other < c->me.size)
        status = zs_comm_refuse(c, err, "rank %d (%s) %s", other, zs_comm_host(c, other), what);
    zs_comm_drop(c, all);
    return status;
}
