/* SPDX-License-Identifier: MIT */
#include "train/team.h"
#include "train/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Weights are compared every so many steps, and after the first one. */
enum { CHECK_STEPS = 500, TEXT_MAX = 1 << 20 };

static bool alone(const zs_comm *comm)
{
    return zs_comm_size(comm) == 1;
}

bool zs_team_leads(const zs_comm *comm)
{
    return zs_comm_rank(comm) == 0;
}

zs_train_config zs_team_share(const zs_train_config *c, int64_t *first)
{
    zs_train_config mine = *c;
    mine.batch = c->batch / zs_comm_size(c->comm);
    mine.stride = c->batch;
    *first = mine.batch * zs_comm_rank(c->comm);
    return mine;
}

static uint64_t mix(uint64_t h, uint64_t w)
{
    h = (h ^ w) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 32;
}

/* ---- the same run ---- */

/* Rank 0's configuration as text, for all; owned (zs_free). */
static int spread_config(char **out, zs_comm *comm, const json_t *config, zs_error *err)
{
    char *text = json_dumps(config, JSON_COMPACT | JSON_REAL_PRECISION(17));
    uint64_t n = text ? strlen(text) : TEXT_MAX;
    int status = zs_comm_broadcast(comm, &n, sizeof n, err);
    *out = NULL;
    if (status == ZS_OK && n < TEXT_MAX)
        *out = zs_calloc((size_t)n + 1, 1);
    if (*out && zs_team_leads(comm))
        memcpy(*out, text, (size_t)n);
    free(text); /* jansson's own */
    if (status == ZS_OK && !*out)
        status = zs_fail_nomem(err, n, "the configuration");
    status = zs_comm_agree(comm, status, err);
    return status < 0 ? status : zs_comm_broadcast(comm, *out, (size_t)n, err);
}

static int same_options(zs_comm *comm, const json_t *config, zs_error *err)
{
    char *text = NULL;
    zs_error why = {0};
    int status = spread_config(&text, comm, config, err);
    json_t *first = status == ZS_OK ? json_loads(text, 0, NULL) : NULL;
    if (first && zs_checkpoint_same_config(first, config, "rank 0", &why) < 0)
        status = zs_fail(err, ZS_E_INVALID,
                         "it was started with other options than rank 0, or reads another model: "
                         "start all ranks by one command, with the same files (%s)",
                         why.message);
    json_decref(first);
    zs_free(text);
    return zs_comm_agree(comm, status, err);
}

int zs_team_same_run(zs_comm *comm, const zs_train_config *c, uint64_t fingerprint, int64_t count,
                     const json_t *config, zs_error *err)
{
    char what[400];
    if (alone(comm))
        return ZS_OK;
    (void)snprintf(what, sizeof what,
                   "sees other images in %.200s than rank 0%s: copy the same %s to every machine",
                   c->data, c->base ? ", or reads another model" : "",
                   c->base ? "data and model" : "data");
    int status = zs_comm_same(comm, mix(fingerprint, (uint64_t)count), what, err);
    return status < 0 ? status : same_options(comm, config, err);
}

/* ---- the same state ---- */

typedef struct counters {
    int64_t step, samples, loss_count;
    double seconds, loss_sum;
} counters;

static int share_buffer(zs_comm *comm, zs_train_state *s, float *buffer, zs_error *err)
{
    float *p = NULL;
    int status = zs_comm_agree(comm, zs_train_state_look(&p, s, buffer, err), err);
    if (status == ZS_OK)
        status = zs_comm_broadcast(comm, p, s->b.n * sizeof *p, err);
    if (status == ZS_OK && !zs_team_leads(comm))
        status = zs_train_state_put(s, buffer, p, err);
    zs_train_state_leave(s, &p);
    return status;
}

int zs_team_share_state(zs_comm *comm, zs_train_state *s, zs_error *err)
{
    float *const buffers[] = {s->b.param, s->b.ema, s->b.m, s->b.v};
    counters k = {s->step, s->samples, s->loss_count, s->seconds, s->loss_sum};
    if (alone(comm))
        return ZS_OK;
    int status = zs_comm_broadcast(comm, &k, sizeof k, err);
    for (size_t i = 0; status == ZS_OK && i < sizeof buffers / sizeof *buffers; i++)
        status = share_buffer(comm, s, buffers[i], err);
    s->step = k.step;
    s->samples = k.samples;
    s->loss_count = k.loss_count;
    s->seconds = k.seconds;
    s->loss_sum = k.loss_sum;
    return status;
}

/* ---- steps ---- */

int zs_team_loss(zs_comm *comm, double *loss, int status, zs_error *err)
{
    double x[2] = {status < 0 ? 0.0 : *loss, status < 0};
    zs_error why = {0};
    if (alone(comm))
        return status;
    int r = zs_comm_add(comm, x, 2, &why);
    if (r < 0)
        return status < 0 ? status : zs_fail(err, r, "%s", why.message);
    *loss = x[0];
    return x[1] > 0.0 ? zs_comm_agree(comm, status, err) : ZS_OK;
}

int zs_team_check(zs_comm *comm, const zs_train_state *s, int64_t first, zs_error *err)
{
    char what[256];
    float *w = NULL;
    uint64_t h = 1;
    if (alone(comm) || (s->step % CHECK_STEPS != 0 && s->step != first + 1))
        return ZS_OK;
    int status = zs_comm_agree(comm, zs_train_state_look(&w, s, s->b.param, err), err);
    for (size_t i = 0; status == ZS_OK && i < s->b.n; i++) {
        uint32_t bits;
        memcpy(&bits, &w[i], sizeof bits);
        h = mix(h, bits);
    }
    zs_train_state_leave(s, &w);
    (void)snprintf(what, sizeof what,
                   "holds other weights than rank 0 after step %lld: a machine computes wrongly or "
                   "runs another build; without it, resume from a checkpoint before that step",
                   (long long)s->step);
    return status < 0 ? status : zs_comm_same(comm, h, what, err);
}
