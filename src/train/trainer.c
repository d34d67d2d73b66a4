/* SPDX-License-Identifier: MIT */
#include "train/trainer.h"
#include "train/checkpoint.h"
#include "train/fit.h"
#include "train/gradient.h"
#include "train/report.h"
#include "train/subject.h"
#include "train/team.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NAMED = 3 };

typedef struct trainer {
    const zs_train_config *c;
    zs_train_config
        mine;          /* what this rank's subject and gradient see of it: a part of each batch */
    int64_t part;      /* where that begins within the batch */
    bool leads;        /* this rank reads and writes the run's folder */
    zs_reduce *reduce; /* NULL: one rank */
    const zs_ui *ui;
    zs_rundir dir; /* where it leads */
    zs_subject subject;
    zs_params *layout;
    zs_train_state s;
    zs_gradient *gradient;
    json_t *config;
    bool running;       /* the clock counts */
    int64_t saved_step; /* step of the newest checkpoint; -1: none */
    int64_t start_step, start_samples;
    double began, saved_at; /* clock: start of the session, last checkpoint */
    double before;          /* seconds of earlier sessions */
    double loss, grad_norm; /* of the last step */
    char names[NAMED][101]; /* of its first samples */
    zs_train_batch batch;   /* of the next step, if ahead */
    bool ahead;             /* it was made while the last one ran */
    zs_error why;           /* what went wrong then */
    double smooth;          /* loss for people; < 0 before the first step */
    double logged_at;       /* clock and samples of the last line of the log */
    int64_t logged_samples;
} trainer;

static double seconds_so_far(const trainer *t)
{
    return t->before + (t->running ? zs_clock_now() - t->began : 0.0);
}

static double samples_per_second(const trainer *t)
{
    double elapsed = zs_clock_now() - t->began;
    int64_t done = t->s.samples - t->start_samples;
    return t->running && elapsed > 0.0 ? (double)done / elapsed : 0.0;
}

/* ---- set up ---- */

static int open_data(trainer *t, zs_error *err)
{
    const zs_model_config *m = &t->c->model;
    zs_ports p;
    bool generator = zs_model_config_ports(m, ZS_BOX_GENERATOR, &p);
    bool told = generator && (p.z_dim || p.classes || t->c->first_stage);
    t->subject.kind = t->c->base                          ? &zs_subject_codes
                      : m->classes                        ? &zs_subject_classes
                      : told && !zs_model_config_joint(m) ? &zs_subject_conditional
                                                          : &zs_subject_images;
    int status = t->subject.kind->open(&t->subject, &t->mine, err);
    if (status < 0)
        return status;
    t->config = zs_train_config_to_json(t->c, t->subject.fingerprint, t->subject.count);
    return t->config ? ZS_OK : zs_fail_nomem(err, 4096, "the configuration");
}

static int start_anew(trainer *t, zs_error *err)
{
    int status = zs_train_state_init(&t->s, t->c->seed, err);
    return status == ZS_OK && t->c->init ? zs_train_state_take(&t->s, t->c->init, err) : status;
}

static int resume_or_init(trainer *t, zs_error *err)
{
    int status = zs_checkpoint_resume(&t->s, &t->dir, t->config, t->ui, err);
    if (status < 0)
        return status;
    t->saved_step = status == 1 ? t->s.step : -1;
    if (status == 1)
        zs_ui_log(t->ui, ZS_LOG_INFO, "%s: resuming at step %lld, %lld %s seen", t->c->out,
                  (long long)t->s.step, (long long)t->s.samples, t->subject.kind->unit);
    else
        status = start_anew(t, err);
    if (status < 0)
        return status;
    status = zs_rundir_log_truncate(&t->dir, t->s.step, err);
    return status < 0 ? status : zs_rundir_write_config(&t->dir, t->config, err);
}

static int plan_gradient(trainer *t, const zs_backend *backend, zs_error *err)
{
    zs_gradient_config gc = {.model = &t->c->model,
                             .objective = t->subject.kind->objective,
                             .layout = t->layout,
                             .batch = t->mine.batch,
                             .whole = t->c->batch,
                             .part = t->part,
                             .micro = t->c->micro_batch,
                             .dropout = t->c->dropout,
                             .t_weight = t->c->t_weight,
                             .seed = t->c->seed,
                             .backend = backend,
                             .exec_flags = t->c->exec_flags,
                             .reduce = t->reduce};
    int status = zs_gradient_fit(&t->gradient, &gc, err);
    if (status < 0)
        return status;
    zs_ui_log(t->ui, ZS_LOG_INFO, "%s: %.2f million parameters, %.0f MiB for activations",
              t->c->out, 1e-6 * (double)zs_params_weights(t->layout),
              (double)zs_gradient_arena_bytes(t->gradient) / 1048576.0);
    bool cut = backend->remote && t->c->micro_batch == 0 && gc.micro < gc.batch;
    if (cut || gc.exec_flags != t->c->exec_flags)
        zs_ui_log(t->ui, ZS_LOG_INFO, "%s: %lld at a time%s, which is what fits into memory",
                  t->c->out, (long long)gc.micro,
                  gc.exec_flags & ZS_EXEC_RECOMPUTE ? ", activations computed again" : "");
    return ZS_OK;
}

/* What every rank finds out for itself, and whether all find the same. */
static int open_run(trainer *t, const zs_backend **backend, zs_error *err)
{
    zs_comm *comm = t->c->comm;
    int status = zs_train_config_validate(t->c, err);
    if (status == ZS_OK)
        t->mine = zs_team_share(t->c, &t->part);
    if (status == ZS_OK)
        status = zs_backend_open(backend, t->c->backend, err);
    if (status == ZS_OK)
        status = open_data(t, err);
    status = zs_comm_agree(comm, status, err);
    if (status == ZS_OK)
        status =
            zs_team_same_run(comm, t->c, t->subject.fingerprint, t->subject.count, t->config, err);
    if (status == ZS_OK && t->leads)
        status = zs_rundir_open(&t->dir, t->c->out, err);
    return status;
}

/* What is trained, and the plan of its gradient. */
static int open_network(trainer *t, const zs_backend *backend, zs_error *err)
{
    int64_t bucket = (int64_t)(1e6 * t->c->bucket_mb);
    int status = t->subject.kind->layout(&t->layout, &t->c->model, err);
    if (status == ZS_OK)
        status = zs_train_state_new(&t->s, t->layout, backend, err);
    if (status == ZS_OK)
        status = zs_reduce_new(&t->reduce, t->c->comm, backend, t->layout, bucket, err);
    return status == ZS_OK ? plan_gradient(t, backend, err) : status;
}

/* Where the run stands: rank 0 knows. */
static int open_state(trainer *t, zs_error *err)
{
    zs_comm *comm = t->c->comm;
    int status = t->leads ? resume_or_init(t, err) : ZS_OK;
    status = zs_comm_agree_at_last(comm, status, err);
    if (status == ZS_OK)
        status = zs_team_share_state(comm, &t->s, err);
    t->start_step = t->s.step;
    t->start_samples = t->logged_samples = t->s.samples;
    t->before = t->s.seconds;
    return status;
}

static int open_trainer(trainer *t, zs_error *err)
{
    zs_comm *comm = t->c->comm;
    const zs_backend *backend = NULL;
    int status = open_run(t, &backend, err);
    if (status == ZS_OK)
        status = open_network(t, backend, err);
    status = zs_comm_agree(comm, status, err);
    if (status == ZS_OK && t->subject.kind->prepare)
        status = zs_comm_agree_at_last(
            comm, t->subject.kind->prepare(&t->subject, &t->mine, t->ui, err), err);
    if (status == ZS_OK)
        status = open_state(t, err);
    if (status == ZS_OK)
        status = t->subject.kind->start(&t->subject, &t->mine, t->s.samples + t->part, err);
    return zs_comm_agree(comm, status, err);
}

static void close_trainer(trainer *t)
{
    if (t->subject.kind)
        t->subject.kind->close(&t->subject);
    zs_gradient_free(&t->gradient);
    zs_reduce_free(&t->reduce);
    zs_train_state_free(&t->s);
    zs_params_free(&t->layout);
    zs_rundir_close(&t->dir);
    json_decref(t->config);
}

/* ---- what is written on the way ---- */

static int write_bundle(trainer *t, zs_error *err)
{
    char *path = zs_rundir_file(&t->dir, "model.safetensors");
    json_t *extra =
        json_pack("{s:O, s:I, s:I, s:f}", "config", t->config, "step", (json_int_t)t->s.step,
                  "samples", (json_int_t)t->s.samples, "seconds", t->s.seconds);
    int status = path && extra ? t->subject.kind->bundle(&t->subject, t->c, path, &t->s, extra, err)
                               : zs_fail_nomem(err, 4096, "the model file");
    json_decref(extra);
    zs_free(path);
    return status;
}

/* A page that cannot be made is no reason to stop training. */
static void write_report(const trainer *t)
{
    zs_error why = {0};
    if (zs_run_report(&t->dir, &why) < 0)
        zs_ui_log(t->ui, ZS_LOG_WARN, "no report of step %lld: %s", (long long)t->s.step,
                  why.message);
}

static int check_weights(const trainer *t, zs_error *err)
{
    double norm = 0.0;
    int status = zs_train_state_norm_begin(&t->s, t->s.b.param, err);
    if (status == ZS_OK)
        status = zs_train_state_norm_end(&norm, &t->s, t->s.b.param, err);
    if (status < 0 || isfinite(norm))
        return status;
    return zs_fail(err, ZS_E_NUMERIC,
                   "%s: the weights are no longer finite at step %lld, which is not saved; try a "
                   "lower --set lr= in another --out",
                   t->c->out, (long long)t->s.step);
}

static int save(trainer *t, zs_error *err)
{
    t->saved_at = zs_clock_now();
    if (t->saved_step == t->s.step)
        return ZS_OK;
    int status = check_weights(t, err);
    if (status < 0)
        return status;
    char *path = zs_rundir_step_file(&t->dir, "checkpoints", t->s.step, ".safetensors");
    if (!path)
        return zs_fail_nomem(err, 256, "a file name");
    t->s.seconds = seconds_so_far(t);
    status = zs_checkpoint_write(path, &t->s, t->config, err);
    zs_free(path);
    if (status < 0)
        return status;
    t->saved_step = t->s.step;
    status = zs_rundir_prune(&t->dir, t->c->keep, err);
    if (status == ZS_OK)
        status = write_bundle(t, err);
    if (status == ZS_OK)
        write_report(t);
    return status;
}

static int write_log(trainer *t, zs_error *err)
{
    double now = zs_clock_now(), elapsed = now - t->logged_at;
    double rate = elapsed > 0.0 ? (double)(t->s.samples - t->logged_samples) / elapsed : 0.0;
    json_t *line =
        json_pack("{s:I, s:I, s:f, s:f, s:f, s:f, s:f}", "step", (json_int_t)t->s.step, "samples",
                  (json_int_t)t->s.samples, "loss", t->s.loss_sum / (double)t->s.loss_count,
                  "grad_norm", t->grad_norm, "lr", zs_optim_lr(&t->c->optim, t->s.step),
                  "img_per_s", rate, "time", seconds_so_far(t));
    int status = line ? zs_rundir_log_append(&t->dir, line, err)
                      : zs_fail_nomem(err, 256, "a line of the log");
    json_decref(line);
    t->s.loss_sum = 0.0;
    t->s.loss_count = 0;
    t->logged_at = now;
    t->logged_samples = t->s.samples;
    return status;
}

/* A picture that cannot be made is no reason to stop training. */
static void write_preview(trainer *t)
{
    zs_error why = {0};
    if (t->subject.kind->preview(&t->subject, t->c, &t->dir, &t->s, &why) < 0)
        zs_ui_log(t->ui, ZS_LOG_WARN, "no preview of step %lld: %s", (long long)t->s.step,
                  why.message);
}

/* ---- the loop ---- */

static int numeric_failure(const trainer *t, zs_error *err)
{
    zs_strbuf names = {0};
    char saved[64] = "no checkpoint was written yet";
    int64_t named = t->mine.batch < NAMED ? t->mine.batch : NAMED;
    for (int64_t i = 0; i < named; i++)
        zs_strbuf_addf(&names, "%s%s", i ? ", " : "", t->names[i]);
    if (t->c->batch > named)
        zs_strbuf_addf(&names, " and %lld more", (long long)(t->c->batch - named));
    if (t->saved_step >= 0)
        snprintf(saved, sizeof saved, "the last good checkpoint is that of step %lld",
                 (long long)t->saved_step);
    int status = zs_fail(err, ZS_E_NUMERIC,
                         "%s: training stopped at step %lld: loss %g, gradient norm %g, %s %s; "
                         "%s; try a lower --set lr= in another --out",
                         t->c->out, (long long)(t->s.step + 1), t->loss, t->grad_norm,
                         t->subject.kind->unit, names.s ? names.s : "?", saved);
    zs_strbuf_free(&names);
    return status;
}

/* The next batch, and what is drawn for it. */
static int fetch(trainer *t, zs_error *err)
{
    t->batch = (zs_train_batch){0};
    int status = t->subject.kind->next(&t->subject, &t->mine, &t->batch, err);
    if (status == ZS_OK && !t->batch.target)
        zs_gradient_draw(t->gradient, &t->batch);
    return status;
}

/* While a device works on this step the batch of the next one is made. What goes wrong with that is
 * said when its turn comes. */
static void fetch_ahead(trainer *t)
{
    t->ahead = t->s.backend->remote && t->s.samples + t->c->batch < t->c->images;
    t->why = (zs_error){0};
    if (t->ahead)
        (void)fetch(t, &t->why);
}

static int have_batch(trainer *t, zs_error *err)
{
    int status = ZS_OK;
    if (!t->ahead)
        status = fetch(t, err);
    else if (t->why.status < 0)
        status = zs_fail(err, t->why.status, "%s", t->why.message);
    t->ahead = false;
    for (int64_t i = 0; status == ZS_OK && i < t->mine.batch && i < NAMED; i++) {
        char buf[160];
        const char *name = t->subject.kind->name(&t->subject, i, buf, sizeof buf);
        (void)snprintf(t->names[i], sizeof t->names[i], "%s", name);
    }
    return status;
}

/* Loss and norm of the gradient of the next batch. */
static int measure(trainer *t, zs_error *err)
{
    const float *grad = t->s.b.grad;
    int status = zs_gradient_start(t->gradient, &t->s, &t->batch, err);
    if (status == ZS_OK)
        status = zs_train_state_norm_begin(&t->s, grad, err);
    if (status == ZS_OK)
        fetch_ahead(t);
    if (status == ZS_OK)
        status = zs_gradient_finish(t->gradient, &t->loss, err);
    return status == ZS_OK ? zs_train_state_norm_end(&t->grad_norm, &t->s, grad, err) : status;
}

static int train_step(trainer *t, zs_error *err)
{
    int status = zs_team_loss(t->c->comm, &t->loss, measure(t, err), err);
    if (status < 0)
        return status;
    if (!isfinite(t->loss) || !isfinite(t->grad_norm))
        return numeric_failure(t, err);
    t->s.step++;
    t->s.samples += t->c->batch;
    zs_train_state_step(&t->s, &t->c->optim, t->grad_norm);
    t->s.loss_sum += t->loss;
    t->s.loss_count++;
    t->smooth = t->smooth < 0.0 ? t->loss : 0.98 * t->smooth + 0.02 * t->loss;
    return zs_team_check(t->c->comm, &t->s, t->start_step, err);
}

static bool checkpoint_due(const trainer *t)
{
    const zs_train_config *c = t->c;
    if (c->checkpoint_steps > 0 && t->s.step % c->checkpoint_steps == 0)
        return true;
    return c->checkpoint_minutes > 0.0 &&
           zs_clock_now() - t->saved_at >= 60.0 * c->checkpoint_minutes;
}

static bool preview_due(const trainer *t)
{
    int64_t every = t->c->preview_images, before = t->s.samples - t->c->batch;
    return every > 0 && (t->s.samples / every != before / every || t->s.samples >= t->c->images);
}

static int after_step(trainer *t, zs_error *err)
{
    int status = ZS_OK;
    if (!t->leads)
        return ZS_OK;
    zs_exec_warn(t->ui);
    if (t->c->log_steps > 0 && t->s.step % t->c->log_steps == 0)
        status = write_log(t, err);
    if (status == ZS_OK && checkpoint_due(t))
        status = save(t, err);
    if (status == ZS_OK && preview_due(t))
        write_preview(t);
    return status;
}

static int report_progress(const trainer *t, zs_error *err)
{
    char note[64];
    const char *unit = t->subject.kind->unit;
    snprintf(note, sizeof note, "loss %.4f, %.1f %s/s", t->smooth, samples_per_second(t), unit);
    const zs_progress p = {.stage = "train",
                           .done = (double)t->s.samples,
                           .total = (double)t->c->images,
                           .unit = unit,
                           .note = note};
    if (!t->ui || !t->ui->progress || t->ui->progress(t->ui->ctx, &p) == 0)
        return ZS_OK;
    return zs_fail(
        err, ZS_E_CANCELLED,
        "%s: stopped on request at step %lld, which is saved; run the same command again "
        "to resume",
        t->c->out, (long long)t->s.step);
}

/* The state is that of a whole step whatever ended the loop, except when numbers went wrong: so it
 * is saved, and work is not lost to an unreadable image. */
static int finish(trainer *t, int status, zs_error *err)
{
    zs_error why = {0};
    if (!t->leads)
        return status;
    int saved = status == ZS_E_NUMERIC ? ZS_OK : save(t, &why);
    write_report(t); /* with the last samples, which may be newer than the checkpoint */
    if (saved == ZS_OK || (status < 0 && status != ZS_E_CANCELLED))
        return status;
    if (err) /* also over the message of a cancelled run, which promises that it was saved */
        *err = why;
    return saved;
}

static int train(trainer *t, zs_error *err)
{
    int status = ZS_OK, mine = ZS_OK; /* of all ranks, and of this one since they met */
    t->running = true;
    t->began = t->saved_at = t->logged_at = zs_clock_now();
    if (t->s.samples >= t->c->images)
        zs_ui_log(t->ui, ZS_LOG_INFO, "%s: all %lld %s have been seen; raise --images to go on",
                  t->c->out, (long long)t->c->images, t->subject.kind->unit);
    while (status == ZS_OK && t->s.samples < t->c->images) {
        if (mine == ZS_OK)
            mine = have_batch(t, err);
        status = zs_comm_agree(t->c->comm, mine, err);
        if (status == ZS_OK)
            status = train_step(t, err);
        if (status == ZS_OK)
            mine = after_step(t, err);
        if (status == ZS_OK && mine == ZS_OK)
            mine = report_progress(t, err);
    }
    if (status == ZS_OK)
        status = zs_comm_agree_at_last(t->c->comm, mine, err);
    return finish(t, status, err);
}

int zs_train_run(const zs_train_config *c, const zs_ui *ui, zs_train_report *report, zs_error *err)
{
    trainer t = {.c = c,
                 .mine = *c,
                 .leads = zs_team_leads(c->comm),
                 .ui = ui,
                 .subject.distance = -1.0,
                 .smooth = -1.0,
                 .saved_step = -1};
    int status = open_trainer(&t, err);
    if (status == ZS_OK)
        status = train(&t, err);
    if (report)
        *report = (zs_train_report){.start_step = t.start_step,
                                    .step = t.s.step,
                                    .samples = t.s.samples,
                                    .loss = t.loss,
                                    .seconds = seconds_so_far(&t),
                                    .per_second = samples_per_second(&t),
                                    .rep_fd = t.subject.distance};
    close_trainer(&t);
    return status;
}
