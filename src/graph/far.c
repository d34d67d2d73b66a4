/* SPDX-License-Identifier: MIT */
/* What a plan needs where the program cannot touch the backend's memory: its own copies of inputs
 * and outputs, the numbers of a step over there, and the recorded sequence of its nodes. */
#include "graph/exec_impl.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

struct zs_far {
    uint8_t *host; /* the step, then copies of inputs and outputs */
    size_t host_bytes;
    size_t *at;    /* per tensor: where its copy is; 0: it has none */
    bool *handed;  /* per tensor: its copy was handed out since the last run */
    zs_step *step; /* the backend's */
    uint8_t *bad;  /* bytes of NaN as large as the largest tensor, or NULL */
    void *tape;
    bool no_tape; /* the backend does not record */
    bool running; /* started and not waited for */
    int runs;     /* at the same buffers, up to 2 */
};

enum { COPY_ALIGN = 64 };

/* Lays out the copies behind the step. Both are f32. */
static void place_copies(const zs_exec *e, zs_far *f)
{
    const zs_graph *g = e->g;
    f->host_bytes = (sizeof(zs_step) + COPY_ALIGN - 1) / COPY_ALIGN * COPY_ALIGN;
    for (size_t pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < (pass ? g->n_outputs : g->nt); i++) {
            size_t t = pass ? (size_t)g->outputs[i].t : i;
            if (f->at[t] || (!pass && g->t[t].kind != ZS_KIND_INPUT))
                continue;
            f->at[t] = f->host_bytes;
            f->host_bytes += zs_exec_tensor_bytes(&g->t[t]) + COPY_ALIGN - 1;
            f->host_bytes -= f->host_bytes % COPY_ALIGN;
        }
}

static size_t largest_range(const zs_exec *e)
{
    size_t most = 1;
    for (size_t i = 0; i < e->g->nt + e->g->nn; i++)
        most = e->pl[i].bytes > most ? e->pl[i].bytes : most;
    return most;
}

int zs_far_new(zs_exec *e, zs_error *err)
{
    size_t nt = e->g->nt;
    zs_far *f = zs_calloc(1, sizeof *f);
    e->far = f;
    if (!f)
        return zs_fail_nomem(err, sizeof *f, "an executor");
    f->at = zs_calloc(nt + 1, sizeof *f->at);
    f->handed = zs_calloc(nt + 1, sizeof *f->handed);
    if (!f->at || !f->handed)
        return zs_fail_nomem(err, nt * sizeof *f->at, "an executor");
    place_copies(e, f);
    f->host = e->backend->remote->alloc_host(f->host_bytes);
    if (!f->host)
        return zs_fail_nomem(err, f->host_bytes, "inputs and outputs; use a smaller --batch");
    memset(f->host, 0, f->host_bytes); /* as the arena */
    f->step = e->backend->alloc(sizeof *f->step);
    if (!f->step)
        return zs_fail(err, ZS_E_NOMEM, "out of memory on %s; use a smaller --batch",
                       e->backend->name);
    if (!(e->flags & ZS_EXEC_POISON))
        return ZS_OK;
    size_t most = largest_range(e);
    f->bad = zs_alloc(most, 1);
    if (!f->bad)
        return zs_fail_nomem(err, most, "poison");
    memset(f->bad, 0xFF, most);
    return ZS_OK;
}

static void drop_tape(zs_exec *e)
{
    if (e->far->tape)
        e->backend->remote->tape_free(e->far->tape);
    e->far->tape = NULL;
}

void zs_far_free(zs_exec *e)
{
    zs_far *f = e->far;
    zs_error ignored = {0};
    if (!f)
        return;
    if (f->running) /* uploads may still be reading the copies */
        (void)e->backend->remote->sync(&ignored);
    drop_tape(e);
    if (f->host)
        e->backend->remote->release_host(f->host, f->host_bytes);
    if (f->step)
        e->backend->release(f->step, sizeof *f->step);
    zs_free(f->at);
    zs_free(f->handed);
    zs_free(f->bad);
    zs_free(f);
    e->far = NULL;
}

static float *copy_of(const zs_far *f, zs_tid t)
{
    return (float *)(void *)(f->host + f->at[t]);
}

float *zs_far_input(zs_exec *e, zs_tid t)
{
    e->far->handed[t] = true;
    return copy_of(e->far, t);
}

const float *zs_far_output(const zs_exec *e, zs_tid t)
{
    return copy_of(e->far, t);
}

int zs_far_poison(zs_exec *e, size_t offset, size_t bytes, zs_error *err)
{
    return e->backend->remote->upload(e->arena + offset, e->far->bad, bytes, err);
}

static int upload_inputs(zs_exec *e, const zs_step *step, zs_error *err)
{
    const zs_remote *r = e->backend->remote;
    zs_far *f = e->far;
    memcpy(f->host, step, sizeof *step);
    int status = r->upload(f->step, f->host, sizeof *step, err);
    for (const zs_tid *t = e->inputs; status == ZS_OK && *t >= 0; t++) {
        if (!f->handed[*t])
            continue;
        f->handed[*t] = false;
        status = r->upload(e->arena + e->pl[*t].offset, copy_of(f, *t),
                           zs_exec_tensor_bytes(&e->g->t[*t]), err);
    }
    return status;
}

/* ---- recording ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static zs_error unrecorded; /* why a run of this process was not recorded: the first cause */
static bool warned;
static atomic_uint_fast64_t replays;

uint64_t zs_exec_replays(void)
{
    return atomic_load(&replays);
}

/* Keeps the first cause until somebody can be told. */
static void note_unrecorded(const zs_exec *e, const zs_error *why)
{
    (void)pthread_mutex_lock(&lock);
    (void)zs_fail(&unrecorded, ZS_E_UNSUPPORTED,
                  "%s works through each run step by step, which takes longer for small networks, "
                  "as it cannot record one: %s",
                  e->backend->name, why->message);
    (void)pthread_mutex_unlock(&lock);
}

void zs_exec_warn(const zs_ui *ui)
{
    if (!ui || !ui->log)
        return;
    (void)pthread_mutex_lock(&lock);
    bool tell = unrecorded.status != ZS_OK && !warned;
    warned = warned || tell;
    (void)pthread_mutex_unlock(&lock);
    if (tell) /* which nobody writes any more */
        zs_ui_log(ui, ZS_LOG_WARN, "%s", unrecorded.message);
}

/* Notes the nodes down. Without recording, or when it does not work for this plan, runs stay as
 * they were. */
static int record(zs_exec *e, zs_error *err)
{
    const zs_remote *r = e->backend->remote;
    zs_far *f = e->far;
    zs_error why = {0};
    int status = r->record(&why);
    if (status == ZS_OK) {
        status = zs_exec_run_nodes(e, f->step, &why);
        int ended = r->record_end(&f->tape, &why);
        status = status == ZS_OK ? ended : status;
    }
    if (status == ZS_E_UNSUPPORTED) {
        note_unrecorded(e, &why);
        f->no_tape = true;
        f->tape = NULL;
        return ZS_OK;
    }
    return status < 0 ? zs_fail(err, status, "%s", why.message) : ZS_OK;
}

/* Packed forms are made before the nodes run: to be made is no part of what is recorded. Says
 * whether a node has another form than last time, or none any more. */
static int fetch_packs(zs_exec *e, bool *moved, zs_error *err)
{
    int status = ZS_OK;
    for (size_t i = 0; e->pack && status == ZS_OK && i < e->g->nn; i++) {
        const void *before = e->calls[i].packed;
        if (e->pack[i])
            status = zs_exec_fetch_packed(e, i, err);
        *moved = *moved || e->calls[i].packed != before;
    }
    return status;
}

int zs_far_start(zs_exec *e, const zs_step *step, bool moved, zs_error *err)
{
    const zs_remote *r = e->backend->remote;
    zs_far *f = e->far;
    int status = f->running ? zs_far_wait(e, err) : ZS_OK;
    if (status == ZS_OK)
        status = fetch_packs(e, &moved, err);
    if (moved) {
        drop_tape(e);
        f->runs = 0;
    }
    if (status == ZS_OK)
        status = upload_inputs(e, step, err);
    f->running = true;
    bool records = !e->hook && !(e->flags & ZS_EXEC_POISON) && !f->no_tape;
    if (status == ZS_OK && records && f->runs == 1 && !f->tape)
        status = record(e, err);
    if (status == ZS_OK)
        status = f->tape ? r->replay(f->tape, err) : zs_exec_run_nodes(e, f->step, err);
    if (status == ZS_OK && f->tape)
        atomic_fetch_add(&replays, 1);
    f->runs += f->runs < 2;
    return status;
}

int zs_far_wait(zs_exec *e, zs_error *err)
{
    const zs_remote *r = e->backend->remote;
    const zs_graph *g = e->g;
    int status = ZS_OK;
    if (!e->far->running)
        return ZS_OK;
    for (size_t i = 0; status == ZS_OK && i < g->n_outputs; i++) {
        zs_tid t = g->outputs[i].t;
        status = r->download(copy_of(e->far, t), e->arena + e->pl[t].offset,
                             zs_exec_tensor_bytes(&g->t[t]), err);
    }
    if (status == ZS_OK)
        status = r->sync(err);
    e->far->running = false;
    return status;
}
