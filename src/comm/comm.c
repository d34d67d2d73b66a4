/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_getaffinity */
#endif
#include "comm/internal.h"
#include "zsem/version.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double TIMEOUT_SECONDS = 1800.0;

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

static bool is_neighbour(const zs_comm *c, int rank)
{
    return strcmp(c->cards[rank].host, c->cards[c->me.rank].host) == 0;
}

int zs_comm_local_rank(const zs_comm *c)
{
    int n = 0;
    for (int i = 0; c && i < c->me.rank; i++)
        n += is_neighbour(c, i);
    return n;
}

int zs_comm_local_size(const zs_comm *c)
{
    int n = 0;
    for (int i = 0; c && i < c->me.size; i++)
        n += is_neighbour(c, i);
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

/* ---- cores ---- */

static void read_cpus(uint8_t *bits)
{
#ifdef __linux__
    cpu_set_t set;
    memset(bits, 0, ZS_COMM_CPUS / 8);
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        for (int i = 0; i < ZS_COMM_CPUS && i < CPU_SETSIZE; i++)
            if (CPU_ISSET(i, &set))
                bits[i / 8] = (uint8_t)(bits[i / 8] | 1u << i % 8);
        return;
    }
#endif
    memset(bits, 0, ZS_COMM_CPUS / 8);
    bits[0] = 1;
}

static int count_bits(const uint8_t *bits)
{
    int n = 0;
    for (int i = 0; i < ZS_COMM_CPUS; i++)
        n += bits[i / 8] >> i % 8 & 1;
    return n;
}

static bool meet(const uint8_t *a, const uint8_t *b)
{
    for (int i = 0; i < ZS_COMM_CPUS / 8; i++)
        if (a[i] & b[i])
            return true;
    return false;
}

int zs_comm_threads(const zs_comm *c)
{
    int sharers = 0;
    if (!c)
        return 0;
    const uint8_t *mine = c->cards[c->me.rank].cpus;
    for (int i = 0; i < c->me.size; i++)
        sharers += is_neighbour(c, i) && meet(mine, c->cards[i].cpus);
    int n = count_bits(mine) / (sharers ? sharers : 1);
    return n > 0 ? n : 1;
}

int zs_comm_idle_cores(const zs_comm *c)
{
    uint8_t used[ZS_COMM_CPUS / 8] = {0};
    if (!getenv("OMPI_MCA_orte_bound_at_launch")) /* else a container may be what leaves them out */
        return 0;
    for (int i = 0; c && i < c->me.size; i++)
        for (int k = 0; k < ZS_COMM_CPUS / 8 && is_neighbour(c, i); k++)
            used[k] |= c->cards[i].cpus[k];
    int idle = c ? (int)sysconf(_SC_NPROCESSORS_ONLN) - count_bits(used) : 0;
    return idle > 0 ? idle : 0;
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
    read_cpus(mine.cpus);
    int status = zs_comm_meet(c, cards, &mine, sizeof mine, c->timeout, err);
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
