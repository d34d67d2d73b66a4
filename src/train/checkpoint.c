/* SPDX-License-Identifier: MIT */
#include "train/checkpoint.h"
#include "io/tensorwrite.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFERS = 4 };

static const char *const prefixes[BUFFERS] = {"model.", "ema_model.", "adam_m.", "adam_v."};

static float *buffer_of(const zs_train_state *s, int k)
{
    float *const buffers[BUFFERS] = {s->b.param, s->b.ema, s->b.m, s->b.v};
    return buffers[k];
}

/* ---- check sums ---- */

/* A bijection of the running value for each word, so any single damaged word shows. */
static uint64_t mix(uint64_t h, uint64_t w)
{
    h = (h ^ w) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 32;
}

static uint64_t sum_bytes(uint64_t h, const void *p, size_t n)
{
    const unsigned char *b = p;
    uint64_t w;
    for (; n >= sizeof w; b += sizeof w, n -= sizeof w) {
        memcpy(&w, b, sizeof w);
        h = mix(h, w);
    }
    for (; n > 0; b++, n--)
        h = mix(h, *b);
    return h;
}

/* One buffer after the other, from 1 on: pairs of weights as if parameters had no gaps between
 * them, so that sums do not depend on how memory is laid out. */
static uint64_t sum_buffer(uint64_t h, const float *buffer, const zs_params *ps)
{
    float pair[2] = {0};
    int held = 0; /* of the pair, left from the parameter before */
    for (size_t i = 0; i < zs_params_count(ps); i++) {
        const zs_param *p = zs_params_at(ps, i);
        const float *v = buffer + p->offset;
        size_t n = p->alias < 0 ? (size_t)p->numel : 0;
        if (held && n > 0) {
            pair[1] = v[0];
            h = sum_bytes(h, pair, sizeof pair);
            held = 0;
            v++;
            n--;
        }
        h = sum_bytes(h, v, n / 2 * sizeof pair);
        if (n % 2) {
            pair[0] = v[n - 1];
            held = 1;
        }
    }
    return held ? sum_bytes(h, pair, sizeof *pair) : h;
}

static void sum_text(char out[17], uint64_t h)
{
    snprintf(out, 17, "%016" PRIx64, h);
}

static void sum_texts(char out[17], const char *config, const char *state)
{
    uint64_t h = sum_bytes(sum_bytes(2, config, strlen(config)), state, strlen(state));
    snprintf(out, 17, "%016" PRIx64, h);
}

/* ---- write ---- */

/* The tensors of a checkpoint in the file's order. Names and the weights whose layout differs are
 * copies; the rest points into the buffers. */
typedef struct tensor_list {
    float *buffers[BUFFERS]; /* zs_train_state_look */
    zs_tensorout *t;
    size_t n;
    float *copies;
    zs_strbuf names; /* one after the other, each with its NUL */
} tensor_list;

static void free_list(tensor_list *l, const zs_train_state *s)
{
    for (int k = 0; k < BUFFERS; k++)
        zs_train_state_leave(s, &l->buffers[k]);
    zs_free(l->t);
    zs_free(l->copies);
    zs_strbuf_free(&l->names);
}

static int alloc_list(tensor_list *l, const zs_params *ps, zs_error *err)
{
    size_t count = zs_params_count(ps), copied = 0;
    for (size_t i = 0; i < count; i++) {
        const zs_param *p = zs_params_at(ps, i);
        copied += p->layout == ZS_LAYOUT_PLAIN ? 0 : (size_t)p->numel;
        for (int k = 0; k < BUFFERS; k++) {
            zs_strbuf_addf(&l->names, "%s%s", prefixes[k], p->name);
            zs_strbuf_append(&l->names, "", 1);
        }
    }
    l->t = zs_calloc(count * BUFFERS, sizeof *l->t);
    l->copies = zs_alloc(copied, BUFFERS * sizeof(float));
    if (!l->t || !l->copies || l->names.failed)
        return zs_fail_nomem(err, copied * BUFFERS * sizeof(float), "a checkpoint");
    return ZS_OK;
}

static int build_list(tensor_list *l, const zs_train_state *s, zs_error *err)
{
    *l = (tensor_list){0};
    int status = alloc_list(l, s->layout, err);
    for (int k = 0; status == ZS_OK && k < BUFFERS; k++)
        status = zs_train_state_look(&l->buffers[k], s, buffer_of(s, k), err);
    if (status < 0)
        return status;
    const char *name = l->names.s;
    float *copy = l->copies;
    for (size_t i = 0; i < zs_params_count(s->layout); i++) {
        const zs_param *p = zs_params_at(s->layout, i);
        for (int k = 0; k < BUFFERS; k++, name += strlen(name) + 1) {
            zs_tensorout *t = &l->t[l->n++];
            *t = (zs_tensorout){.name = name, .dtype = ZS_F32, .nd = p->nd};
            memcpy(t->shape, p->shape, (size_t)p->nd * sizeof *p->shape);
            t->data = l->buffers[k] + p->offset;
            if (p->layout == ZS_LAYOUT_PLAIN)
                continue;
            zs_params_export(s->layout, i, l->buffers[k], copy);
            t->data = copy;
            copy += p->numel;
        }
    }
    return ZS_OK;
}

static json_t *state_to_json(const zs_train_state *s)
{
    return json_pack("{s:I, s:I, s:f, s:f, s:I}", "step", (json_int_t)s->step, "samples",
                     (json_int_t)s->samples, "seconds", s->seconds, "loss_sum", s->loss_sum,
                     "loss_count", (json_int_t)s->loss_count);
}

static json_t *make_metadata(const tensor_list *l, const zs_train_state *s, const json_t *config)
{
    char weights[17], texts[17];
    uint64_t sum = 1;
    json_t *state = state_to_json(s), *meta = NULL;
    char *c = json_dumps(config, JSON_COMPACT), *t = state ? json_dumps(state, JSON_COMPACT) : NULL;
    if (c && t) {
        for (int k = 0; k < BUFFERS; k++)
            sum = sum_buffer(sum, l->buffers[k], s->layout);
        sum_text(weights, sum);
        sum_texts(texts, c, t);
        meta = json_pack("{s:s, s:s, s:s, s:s, s:s}", "format", "zsem checkpoint 1", "config", c,
                         "state", t, "sum_text", texts, "sum_weights", weights);
    }
    free(c); /* jansson's own */
    free(t);
    json_decref(state);
    return meta;
}

int zs_checkpoint_write(const char *path, const zs_train_state *s, const json_t *config,
                        zs_error *err)
{
    tensor_list l;
    json_t *meta = NULL;
    int status = build_list(&l, s, err);
    if (status == ZS_OK) {
        meta = make_metadata(&l, s, config);
        status = meta ? zs_safetensors_write(path, l.t, l.n, meta, err)
                      : zs_fail_nomem(err, 4096, "a checkpoint");
    }
    json_decref(meta);
    free_list(&l, s);
    return status;
}

/* ---- read ---- */

static int damaged(const char *path, const char *what, zs_error *err)
{
    return zs_fail(err, ZS_E_FORMAT, "%s: %s; delete it to go on from an older checkpoint", path,
                   what);
}

static int read_counters(zs_train_state *s, const json_t *j, const char *path, zs_error *err)
{
    json_int_t step, samples, count;
    if (json_unpack((json_t *)(uintptr_t)j, "{s:I, s:I, s:F, s:F, s:I}", "step", &step, "samples",
                    &samples, "seconds", &s->seconds, "loss_sum", &s->loss_sum, "loss_count",
                    &count) != 0 ||
        step < 0 || samples < 0 || count < 0)
        return damaged(path, "the counters of the run are missing or wrong", err);
    s->step = step;
    s->samples = samples;
    s->loss_count = count;
    return ZS_OK;
}

static const char *meta_text(const zs_tensorfile *f, const char *key)
{
    const char *s = json_string_value(json_object_get(zs_tensorfile_meta(f), key));
    return s ? s : "";
}

static int read_metadata(zs_train_state *s, zs_tensorfile *f, const char *path,
                         const json_t *config, zs_error *err)
{
    char sum[17];
    const char *c = meta_text(f, "config"), *t = meta_text(f, "state");
    if (strcmp(meta_text(f, "format"), "zsem checkpoint 1") != 0)
        return damaged(path, "this is not a checkpoint of a training run", err);
    sum_texts(sum, c, t);
    if (strcmp(sum, meta_text(f, "sum_text")) != 0)
        return damaged(path, "the file is damaged (check sum of its metadata)", err);
    json_t *have = json_loads(c, 0, NULL), *state = json_loads(t, 0, NULL);
    int status = have && state ? ZS_OK : damaged(path, "its metadata cannot be read", err);
    if (status == ZS_OK)
        status = zs_checkpoint_same_config(have, config, path, err);
    if (status == ZS_OK)
        status = read_counters(s, state, path, err);
    json_decref(have);
    json_decref(state);
    return status;
}

static int read_buffer(uint64_t *sum, const zs_train_state *s, int k, zs_tensorfile *f,
                       zs_error *err)
{
    float *v = NULL;
    int status = zs_train_state_look(&v, s, buffer_of(s, k), err);
    if (status == ZS_OK)
        status = zs_params_import(s->layout, v, f, prefixes[k], err);
    if (status == ZS_OK) {
        *sum = sum_buffer(*sum, v, s->layout);
        status = zs_train_state_put(s, buffer_of(s, k), v, err);
    }
    zs_train_state_leave(s, &v);
    return status;
}

int zs_checkpoint_read(zs_train_state *s, const char *path, const json_t *config, zs_error *err)
{
    zs_tensorfile *f = NULL;
    char sum[17];
    uint64_t h = 1;
    int status = zs_tensorfile_open(&f, path, err);
    if (status == ZS_OK)
        status = read_metadata(s, f, path, config, err);
    for (int k = 0; status == ZS_OK && k < BUFFERS; k++)
        status = read_buffer(&h, s, k, f, err);
    sum_text(sum, h);
    if (status == ZS_OK && strcmp(sum, meta_text(f, "sum_weights")) != 0)
        status = damaged(path, "the file is damaged (check sum of its weights)", err);
    zs_tensorfile_close(&f);
    return status;
}

/* Out of the way of the checkpoints that will be written, but not lost. */
static void set_aside(const zs_rundir *d, const int64_t *steps, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char *from = zs_rundir_step_file(d, "checkpoints", steps[i], ".safetensors");
        char *to = zs_rundir_step_file(d, "checkpoints", steps[i], ".damaged");
        if (from && to)
            (void)rename(from, to); /* if it stays, it is only passed over again */
        zs_free(from);
        zs_free(to);
    }
}

/* An unknown dtype in a file that we wrote is damage as well. */
static bool is_damage(int status)
{
    return status == ZS_E_FORMAT || status == ZS_E_UNSUPPORTED || status == ZS_E_IO;
}

/* Damage is left to the caller, who may know an older checkpoint. */
static int try_step(zs_train_state *s, const zs_rundir *d, int64_t step, const json_t *config,
                    const zs_ui *ui, zs_error *err)
{
    zs_error why = {0};
    char *path = zs_rundir_step_file(d, "checkpoints", step, ".safetensors");
    int status =
        path ? zs_checkpoint_read(s, path, config, &why) : zs_fail_nomem(&why, 256, "a file name");
    if (is_damage(status))
        zs_ui_log(ui, ZS_LOG_WARN, "passing over a checkpoint: %s", why.message);
    else if (status < 0)
        zs_fail(err, status, "%s", why.message);
    zs_free(path);
    return status;
}

int zs_checkpoint_resume(zs_train_state *s, const zs_rundir *d, const json_t *config,
                         const zs_ui *ui, zs_error *err)
{
    int64_t *steps;
    size_t n;
    int status = zs_rundir_checkpoints(d, &steps, &n, err);
    size_t i = status < 0 ? 0 : n;
    while (i > 0) {
        status = try_step(s, d, steps[--i], config, ui, err);
        if (!is_damage(status))
            break;
    }
    if (n > 0 && is_damage(status))
        status =
            zs_fail(err, ZS_E_FORMAT,
                    "%s: no checkpoint can be read; choose another --out to start anew", d->path);
    if (status == ZS_OK && n > 0) {
        set_aside(d, steps + i + 1, n - i - 1);
        status = 1;
    }
    zs_free(steps);
    return status;
}
