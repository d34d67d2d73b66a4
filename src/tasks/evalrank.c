/* SPDX-License-Identifier: MIT */
/* zsem eval auroc: scores against labels, column by column. */
#include "io/io.h"
#include "tasks/eval.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* A vector [n] or a matrix [n,columns] of a file. */
typedef struct table {
    const char *path;
    int64_t n, columns;
    float *x;
} table;

static int read_table(table *t, const char *path, zs_error *err)
{
    zs_tensorfile *f = NULL;
    *t = (table){.path = path};
    int status = zs_tensorfile_open(&f, path, err);
    if (status < 0)
        return status;
    const zs_tensorinfo *i = zs_tensorfile_count(f) == 1 ? zs_tensorfile_info(f, 0) : NULL;
    if (!i || i->nd < 1 || i->nd > 2 || i->numel < 1) {
        status = zs_fail(err, ZS_E_INVALID,
                         "%s: must hold one array, [samples] or [samples,attributes]", path);
    } else {
        t->n = i->shape[0];
        t->columns = i->nd == 2 ? i->shape[1] : 1;
        t->x = zs_alloc((size_t)i->numel, sizeof *t->x);
        status = t->x ? zs_tensorfile_read_f32(f, 0, t->x, (size_t)i->numel, err)
                      : zs_fail_nomem(err, (size_t)i->numel * sizeof *t->x, path);
    }
    zs_tensorfile_close(&f);
    return status;
}

typedef struct ranking {
    zs_task_env *env;
    table score, label;
    float *s;  /* one column */
    int8_t *l; /* its labels */
    double sum[2];
    int64_t used;
    json_t *list;
} ranking;

/* 1 is yes; 0 and -1 (CelebA's) are no; NaN is unknown. */
static int read_column(ranking *r, int64_t c)
{
    for (int64_t i = 0; i < r->score.n; i++) {
        float v = r->label.x[i * r->label.columns + c];
        r->s[i] = r->score.x[i * r->score.columns + c];
        r->l[i] = isnan(v) ? -1 : v > 0.0f;
        if (!isnan(v) && v != 1.0f && v != 0.0f && v != -1.0f)
            return zs_fail(r->env->err, ZS_E_INVALID,
                           "%s: label %" PRId64 " is %g; labels are 1 for yes and 0 or -1 for no",
                           r->label.path, i, (double)v);
    }
    return ZS_OK;
}

static int measure_column(ranking *r, int64_t c)
{
    char what[600];
    zs_ranking m;
    zs_error err = {0};
    (void)snprintf(what, sizeof what, r->score.columns > 1 ? "%s, column %" PRId64 : "%s",
                   r->label.path, c);
    int status = read_column(r, c);
    if (status < 0)
        return status;
    status = zs_ranking_measure(&m, r->s, r->l, r->score.n, what, &err);
    if (status == ZS_E_INVALID && r->score.columns > 1) {
        zs_eval_warn(r->env, "%s; left out of the mean", err.message);
        return ZS_OK;
    }
    if (status < 0)
        return zs_fail(r->env->err, status, "%s", err.message);
    r->sum[0] += m.auroc;
    r->sum[1] += m.average_precision;
    r->used++;
    if (r->list)
        (void)json_array_append_new(
            r->list, json_pack("{s:I, s:f, s:f, s:I, s:I}", "column", (json_int_t)c, "auroc",
                               m.auroc, "average_precision", m.average_precision, "positives",
                               (json_int_t)m.positives, "negatives", (json_int_t)m.negatives));
    if (r->score.columns > 1)
        zs_strbuf_addf(r->env->text,
                       "column %-4" PRId64 " AUROC %.4f  AP %.4f  (%" PRId64 " of %" PRId64 ")\n",
                       c, m.auroc, m.average_precision, m.positives, m.positives + m.negatives);
    return ZS_OK;
}

static int measure_all(ranking *r)
{
    zs_task_env *env = r->env;
    int status = ZS_OK;
    r->s = zs_alloc((size_t)r->score.n, sizeof *r->s);
    r->l = zs_alloc((size_t)r->score.n, sizeof *r->l);
    if (!r->s || !r->l)
        return zs_fail_nomem(env->err, (size_t)r->score.n * 5, "scores");
    for (int64_t c = 0; c < r->score.columns && status == ZS_OK; c++)
        status = measure_column(r, c);
    if (status == ZS_OK && !r->used)
        status =
            zs_fail(env->err, ZS_E_INVALID, "%s: every column has one label only", r->label.path);
    if (status < 0)
        return status;
    double n = (double)r->used;
    zs_result_set(env, "metric", json_string("auroc"));
    zs_result_set(env, "auroc", json_real(r->sum[0] / n));
    zs_result_set(env, "average_precision", json_real(r->sum[1] / n));
    zs_result_set(env, "samples", json_integer(r->score.n));
    zs_result_set(env, "columns", r->list);
    r->list = NULL;
    zs_strbuf_addf(env->text, "AUROC %.6f  AP %.6f  (%" PRId64 " samples%s)\n", r->sum[0] / n,
                   r->sum[1] / n, r->score.n, r->used > 1 ? ", mean of the columns" : "");
    return ZS_OK;
}

static int run(zs_task_env *env)
{
    ranking r = {.env = env, .list = json_array()};
    int status = read_table(&r.score, zs_arg(env, 1), env->err);
    if (status == ZS_OK)
        status = read_table(&r.label, zs_arg(env, 2), env->err);
    if (status == ZS_OK && (r.score.n != r.label.n || r.score.columns != r.label.columns))
        status = zs_fail(env->err, ZS_E_INVALID,
                         "%s holds %" PRId64 "x%" PRId64 " scores and %s %" PRId64 "x%" PRId64
                         " labels; each score needs its label",
                         r.score.path, r.score.n, r.score.columns, r.label.path, r.label.n,
                         r.label.columns);
    if (status == ZS_OK)
        status = measure_all(&r);
    zs_free(r.score.x);
    zs_free(r.label.x);
    zs_free(r.s);
    zs_free(r.l);
    json_decref(r.list);
    return status;
}

const zs_eval_metric zs_eval_auroc = {
    "auroc", "area under the ROC curve and average precision: SCORES LABELS", 2, 2, " ", run};
