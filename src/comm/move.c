/* SPDX-License-Identifier: MIT */
/* Large things from one rank to others. */
#include "comm/internal.h"

#include <string.h>

/* Bytes of one message. */
enum { PIECE = 1 << 24 };

/* The ranks form a tree in which rank r has the children r + 1, r + 2, r + 4, ... for steps below
 * its lowest set bit (below the size for rank 0), and is served by r minus that bit. */
static int lowest_bit(const zs_comm *c)
{
    int bit = 1;
    while (bit < c->me.size && !(c->me.rank & bit))
        bit *= 2;
    return bit;
}

static int pass_on(zs_comm *c, char *p, size_t n, zs_error *err)
{
    zs_flight f[32];
    size_t k = 0;
    int bit = lowest_bit(c), status = ZS_OK;
    if (c->me.rank > 0) {
        status = zs_comm_recv(c, f, c->me.rank - bit, ZS_TAG_MOVE, p, n, err);
        if (status == ZS_OK)
            status = zs_comm_wait(c, f, 1, c->timeout, err);
    }
    for (bit /= 2; status == ZS_OK && bit > 0; bit /= 2)
        if (c->me.rank + bit < c->me.size)
            status = zs_comm_send(c, &f[k++], c->me.rank + bit, ZS_TAG_MOVE, p, n, err);
    return status < 0 ? status : zs_comm_wait(c, f, k, c->timeout, err);
}

int zs_comm_broadcast(zs_comm *c, void *p, size_t n, zs_error *err)
{
    int status = c ? zs_comm_repeat(c, err) : ZS_OK;
    for (size_t at = 0; c && c->me.size > 1 && status == ZS_OK && at < n; at += PIECE)
        status = pass_on(c, (char *)p + at, n - at < PIECE ? n - at : PIECE, err);
    return status;
}

/* ---- collect ---- */

zs_part zs_comm_rows_of(int64_t n, int64_t block, int rank, int size)
{
    zs_part blocks = zs_comm_part_of((n + block - 1) / block, rank, size);
    zs_part rows = {blocks.begin * block, blocks.end * block};
    rows.begin = rows.begin < n ? rows.begin : n;
    rows.end = rows.end < n ? rows.end : n;
    return rows;
}

zs_part zs_comm_rows(const zs_comm *c, int64_t n, int64_t block)
{
    return zs_comm_rows_of(n, block, zs_comm_rank(c), zs_comm_size(c));
}

/* From or to one rank, piece by piece. */
static int carry(zs_comm *c, int peer, char *p, size_t n, zs_error *err)
{
    int status = ZS_OK;
    for (size_t at = 0; status == ZS_OK && at < n; at += PIECE) {
        zs_flight f;
        size_t piece = n - at < PIECE ? n - at : PIECE;
        status = c->me.rank == 0 ? zs_comm_recv(c, &f, peer, ZS_TAG_MOVE, p + at, piece, err)
                                 : zs_comm_send(c, &f, peer, ZS_TAG_MOVE, p + at, piece, err);
        if (status == ZS_OK)
            status = zs_comm_wait(c, &f, 1, c->timeout, err);
    }
    return status;
}

int zs_comm_collect(zs_comm *c, void *p, int64_t n, int64_t block, int64_t upto, size_t row,
                    int status, zs_error *err)
{
    status = zs_comm_agree_at_last(c, status, err);
    for (int i = 1; status == ZS_OK && i < zs_comm_size(c); i++) {
        zs_part r = zs_comm_rows_of(n, block, i, c->me.size);
        int64_t end = r.end < upto ? r.end : upto;
        char *at = (char *)p + (size_t)r.begin * row;
        if (r.begin < end && (c->me.rank == 0 || c->me.rank == i))
            status = carry(c, c->me.rank == 0 ? i : 0, at, (size_t)(end - r.begin) * row, err);
    }
    return status;
}
