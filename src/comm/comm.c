/* SPDX-License-Identifier: MIT */
#include "comm/internal.h"
#include "zsem/version.h"

#include <stdio.h>
#include <string.h>

static const double TIMEOUT_SECONDS = 1800.0;

/* To meet: the launcher has all of them running by then, and only the network can be in the way. */
static const double MEET_SECONDS = 120.0;

int zs_comm_rank(const zs_comm *c)
{
    return c ? c->me.rank : 0;
}

int zs_comm_size(const zs_comm *c)
{
    return c ? c->me.size : 1;
}

const char *zs_comm_host(const zs_comm *c, int rank)
{
    if (!c)
        return "this machine";
    return c->cards ? c->cards[rank].host : rank == c->me.rank ? c->me.host : "unknown host";
}

bool zs_comm_is_near(const zs_comm *c, int rank)
{
    return strcmp(c->cards[rank].host, c->cards[c->me.rank].host) == 0;
}

int zs_comm_local_rank(const zs_comm *c)
{
    int n = 0;
    for (int i = 0; c && i < c->me.rank; i++)
        n += zs_comm_is_near(c, i);
    return n;
}

int zs_comm_local_size(const zs_comm *c)
{
    int n = 0;
    for (int i = 0; c && i < c->me.size; i++)
        n += zs_comm_is_near(c, i);
    return c ? n : 1;
}

bool zs_comm_is_broken(const zs_comm *c)
{
    return c && c->broken;
}

void zs_comm_set_timeout(zs_comm *c, double seconds)
{
    if (c)
        c->timeout = seconds;
}

/* ---- parts ---- */

zs_part zs_comm_part_of(int64_t n, int rank, int size)
{
    int64_t each = n / size, more = n % size; /* the first `more` parts have one more */
    int64_t begin = rank * each + (rank < more ? rank : more);
    return (zs_part){begin, begin + each + (rank < more)};
}

zs_part zs_comm_part(const zs_comm *c, int64_t n)
{
    return zs_comm_part_of(n, zs_comm_rank(c), zs_comm_size(c));
}

/* ---- open and close ---- */

/* Everybody sees all cards, so everybody finds the same fault. */
static int check_cards(zs_comm *c, zs_error *err)
{
    for (int i = 1; i < c->me.size; i++)
        if (strcmp(c->cards[i].version, c->cards[0].version) != 0)
            return zs_comm_refuse(c, err,
                                  "rank %d (%s) runs zsem %.31s and rank 0 (%s) runs zsem %.31s: "
                                  "install the same version on every machine",
                                  i, c->cards[i].host, c->cards[i].version, c->cards[0].host,
                                  c->cards[0].version);
    return ZS_OK;
}

static int introduce(zs_comm *c, zs_error *err)
{
    zs_comm_card mine = {0};
    zs_comm_card *cards = zs_calloc((size_t)c->me.size, sizeof *cards);
    if (!cards)
        return zs_fail_nomem(err, (size_t)c->me.size * sizeof *cards, "the list of ranks");
    (void)snprintf(mine.host, sizeof mine.host, "%s", c->me.host);
    (void)snprintf(mine.version, sizeof mine.version, "%s", zs_version());
    zs_comm_cpus(mine.cpus);
    int status = zs_comm_meet(c, cards, &mine, sizeof mine, MEET_SECONDS, err);
    if (status < 0) {
        zs_comm_drop(c, cards);
        return status;
    }
    for (int i = 0; i < c->me.size; i++) {
        cards[i].host[sizeof cards[i].host - 1] = '\0';
        cards[i].version[sizeof cards[i].version - 1] = '\0';
    }
    c->cards = cards;
    return check_cards(c, err);
}

int zs_comm_new(zs_comm **out, const zs_comm_driver *d, void *ctx, const zs_comm_place *me,
                zs_error *err)
{
    zs_comm *c = zs_calloc(1, sizeof *c);
    *out = c;
    if (!c)
        return zs_fail_nomem(err, sizeof *c, "the ranks");
    *c = (zs_comm){.d = d, .ctx = ctx, .me = *me, .timeout = TIMEOUT_SECONDS};
    if (me->size < 1 || me->size > ZS_COMM_RANKS_MAX || me->rank < 0 || me->rank >= me->size) {
        zs_comm_free(out);
        return zs_fail(err, ZS_E_INVALID, "rank %d of %d: there may be 1 to %d ranks", me->rank,
                       me->size, (int)ZS_COMM_RANKS_MAX);
    }
    return introduce(c, err);
}

void zs_comm_drop(zs_comm *c, void *p)
{
    void *items = c->kept;
    bool ok = c->broken && zs_grow(&items, &c->cap_kept, c->n_kept, sizeof(void *));
    c->kept = items;
    if (ok)
        c->kept[c->n_kept++] = p;
    else if (!c->broken)
        zs_free(p);
}

void zs_comm_free(zs_comm **c)
{
    for (size_t i = 0; *c && i < (*c)->n_kept; i++)
        zs_free((*c)->kept[i]);
    if (*c) {
        zs_free((*c)->kept);
        zs_free((*c)->cards);
    }
    zs_free(*c);
    *c = NULL;
}
