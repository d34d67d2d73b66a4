/* SPDX-License-Identifier: MIT */
/* zsem eval fid, rep-fd, is, kid, prc: two sets, or one, as distributions of features. */
#include "tasks/eval.h"

#include <inttypes.h>
#include <math.h>

/* torch-fidelity's seed where the user gives none. */
enum { REFERENCE_SEED = 2020 };

/* NumPy's legacy seeds have 32 bits: of larger ones, the low bits. */
static void seed(zs_numpy_random *r, const zs_task_env *env)
{
    zs_numpy_seed(r, zs_opt_given(env, "seed") ? (uint32_t)zs_opt_int(env, "seed")
                                               : (uint32_t)REFERENCE_SEED);
}

/* "50000 against 10000 samples" */
static void add_counts(zs_eval *e)
{
    for (size_t i = 0; i < e->sets; i++) {
        zs_strbuf_addf(e->env->text, i ? " against " : "  (");
        if (e->set[i].n)
            zs_strbuf_addf(e->env->text, "%" PRId64, e->set[i].n);
        else
            zs_strbuf_addf(e->env->text, "kept");
    }
    zs_strbuf_addf(e->env->text, " samples, %" PRId64 " features%s)\n", e->dim,
                   !e->net                        ? ""
                   : e->resize == ZS_INCEPTION_TF ? ", resized as TensorFlow 1"
                                                  : ", resized as pytorch-fid");
}

/* ---- Frechet distances ---- */

static int statistics_only(zs_eval *e, const char *keep)
{
    zs_gaussian g;
    if (!keep)
        return zs_fail(
            e->env->err, ZS_E_INVALID,
            "one set has nothing to be compared with; give a second one, or --stats FILE "
            "to keep the statistics of the first");
    int status = zs_eval_gaussian(&g, e, 0, keep);
    zs_gaussian_close(&g);
    if (status < 0)
        return status;
    zs_result_set(e->env, "stats", zs_json_text(keep));
    zs_strbuf_addf(e->env->text, "%s: statistics of %s", keep, e->set[0].spec);
    add_counts(e);
    return ZS_OK;
}

static int frechet(zs_eval *e, const char *name, const char *title)
{
    const char *keep = zs_opt_text(e->env, "stats");
    zs_gaussian a = {0}, b = {0};
    double d = 0.0;
    zs_eval_describe(e, name);
    if (e->sets == 1)
        return statistics_only(e, keep);
    /* the reference first: a kept file that does not fit is found out before the work */
    int status = zs_eval_gaussian(&b, e, 1, keep);
    if (status == ZS_OK)
        status = zs_eval_gaussian(&a, e, 0, NULL);
    if (status == ZS_OK)
        status = zs_frechet_distance(&d, &a, &b, e->env->err);
    zs_gaussian_close(&a);
    zs_gaussian_close(&b);
    if (status < 0)
        return status;
    zs_result_set(e->env, name, json_real(d));
    zs_strbuf_addf(e->env->text, "%s %.6g", title, d);
    add_counts(e);
    return ZS_OK;
}

static int run_fid(zs_task_env *env)
{
    zs_eval e;
    int status = zs_eval_open(&e, env, ZS_EVAL_POOL, ZS_INCEPTION_PYTORCH);
    if (status == ZS_OK)
        status = frechet(&e, "fid", "FID");
    zs_eval_close(&e);
    return status;
}

static int run_rep_fd(zs_task_env *env)
{
    zs_eval e;
    int status = zs_eval_open(&e, env, ZS_EVAL_CODES, ZS_INCEPTION_PYTORCH);
    bool normal = e.model && zs_model_z_mean(e.model);
    if (status == ZS_OK && e.net)
        status = zs_fail(env->err, ZS_E_INVALID,
                         "rep-fd compares codes: --features must be a zsem MODEL with an encoder; "
                         "through Inception it is called fid");
    if (status == ZS_OK)
        status = frechet(&e, "rep-fd", "rep-FD");
    if (status == ZS_OK) {
        zs_result_set(env, "normalised", json_boolean(normal));
        zs_strbuf_addf(env->text, "of %s codes\n", normal ? "z-normalised" : "raw");
    }
    zs_eval_close(&e);
    return status;
}

/* ---- Inception score ---- */

static int score(zs_eval *e)
{
    zs_task_env *env = e->env;
    int64_t n = e->set[0].n, splits = zs_opt_int(env, "splits"), edge[1001];
    float *x = NULL;
    zs_score s = {0};
    zs_numpy_random r;
    int64_t *order = zs_alloc((size_t)n, sizeof *order);
    int status = order ? zs_eval_matrix(&x, e, 0)
                       : zs_fail_nomem(env->err, (size_t)n * sizeof *order, "the order of images");
    if (status == ZS_OK) {
        for (int64_t i = 0; i <= splits; i++)
            edge[i] = i * n / splits;
        seed(&r, env);
        zs_numpy_permutation(order, n, &r);
        status = zs_inception_score(&s, x, e->dim, order, edge, (int)splits, env->err);
    }
    zs_free(x);
    zs_free(order);
    if (status < 0)
        return status;
    zs_result_set(env, "is", json_real(s.mean));
    zs_result_set(env, "is_std", json_real(s.std));
    zs_result_set(env, "splits", json_integer(splits));
    zs_strbuf_addf(env->text, "IS %.6g +- %.3g over %" PRId64 " splits", s.mean, s.std, splits);
    add_counts(e);
    return ZS_OK;
}

static int run_is(zs_task_env *env)
{
    zs_eval e;
    int status = zs_eval_open(&e, env, ZS_EVAL_LOGITS, ZS_INCEPTION_TF);
    if (status == ZS_OK)
        zs_eval_describe(&e, "is");
    if (status == ZS_OK)
        status = score(&e);
    zs_eval_close(&e);
    return status;
}

/* ---- both sets as matrices ---- */

/* Statistics alone have no samples to count: reading them as a matrix says so. */
static int check_counts(const zs_eval *e, const char *what, int64_t least)
{
    for (int i = 0; i < 2; i++)
        if (e->set[i].kind != ZS_EVAL_STATISTICS && e->set[i].n < least)
            return zs_fail(e->env->err, ZS_E_INVALID,
                           "%s: %s needs at least %" PRId64 " samples, and there %s %" PRId64,
                           e->set[i].spec, what, least, e->set[i].n == 1 ? "is" : "are",
                           e->set[i].n);
    return ZS_OK;
}

static int two_matrices(float *x[2], zs_eval *e)
{
    int status = zs_eval_matrix(&x[0], e, 0);
    return status < 0 ? status : zs_eval_matrix(&x[1], e, 1);
}

static int64_t subset_size(zs_eval *e)
{
    int64_t want = zs_opt_int(e->env, "subset-size"), n = want;
    for (int i = 0; i < 2; i++)
        n = e->set[i].n < n ? e->set[i].n : n;
    if (n < want)
        zs_eval_warn(e->env,
                     "subsets of %" PRId64
                     " samples, since one set has no more; KID is the same on "
                     "average but spreads more",
                     n);
    return n;
}

/* Subsets drawn as torch-fidelity draws them: the first set of the command first. */
static int subsets(zs_eval *e, float *const x[2], int64_t *order[2])
{
    zs_task_env *env = e->env;
    int64_t count = zs_opt_int(env, "subsets"), size = subset_size(e);
    double sum = 0.0, square = 0.0, d = 0.0;
    zs_numpy_random r;
    int status = ZS_OK;
    seed(&r, env);
    for (int64_t k = 0; k < count && status == ZS_OK; k++) {
        for (int i = 0; i < 2; i++)
            zs_numpy_permutation(order[i], e->set[i].n, &r);
        zs_rows a = {x[0], order[0], size, e->dim}, b = {x[1], order[1], size, e->dim};
        status = zs_kernel_distance(&d, &a, &b, env->err);
        sum += d;
        square += d * d;
        zs_progress p = {"kid", (double)(k + 1), (double)count, "subsets", NULL};
        if (status == ZS_OK)
            status = zs_ui_progress(env->ui, &p, env->err);
    }
    double mean = sum / (double)count, std = sqrt(fmax(0.0, square / (double)count - mean * mean));
    if (status < 0)
        return status;
    zs_result_set(env, "kid", json_real(mean));
    zs_result_set(env, "kid_std", json_real(std));
    zs_result_set(env, "subsets", json_integer(count));
    zs_result_set(env, "subset_size", json_integer(size));
    zs_strbuf_addf(env->text, "KID %.6g +- %.3g over %" PRId64 " subsets of %" PRId64, mean, std,
                   count, size);
    add_counts(e);
    return ZS_OK;
}

static int run_kid(zs_task_env *env)
{
    zs_eval e;
    float *x[2] = {NULL, NULL};
    int64_t *order[2] = {NULL, NULL};
    int status = zs_eval_open(&e, env, ZS_EVAL_POOL, ZS_INCEPTION_TF);
    if (status == ZS_OK)
        zs_eval_describe(&e, "kid");
    if (status == ZS_OK)
        status = check_counts(&e, "kid", 2);
    if (status == ZS_OK)
        status = two_matrices(x, &e);
    for (int i = 0; i < 2 && status == ZS_OK; i++) {
        order[i] = zs_alloc((size_t)e.set[i].n, sizeof *order[i]);
        if (!order[i])
            status = zs_fail_nomem(env->err, (size_t)e.set[i].n * sizeof *order[i], "subsets");
    }
    if (status == ZS_OK)
        status = subsets(&e, x, order);
    for (int i = 0; i < 2; i++) {
        zs_free(x[i]);
        zs_free(order[i]);
    }
    zs_eval_close(&e);
    return status;
}

/* Precision: part of set 0 in the balls of set 1; recall: the other way round. */
static int cover(double part[2], zs_eval *e, float *const x[2])
{
    int k = (int)zs_opt_int(e->env, "neighbours"), status = ZS_OK;
    double *r[2] = {NULL, NULL};
    for (int i = 0; i < 2 && status == ZS_OK; i++) {
        r[i] = zs_alloc((size_t)e->set[i].n, sizeof *r[i]);
        status =
            r[i] ? zs_neighbour_radii(r[i], x[i], e->set[i].n, e->dim, k, e->env->ui, e->env->err)
                 : zs_fail_nomem(e->env->err, (size_t)e->set[i].n * sizeof *r[i], "radii");
    }
    for (int i = 0; i < 2 && status == ZS_OK; i++)
        status = zs_neighbour_coverage(&part[i], x[i], e->set[i].n, x[1 - i], r[1 - i],
                                       e->set[1 - i].n, e->dim, e->env->ui, e->env->err);
    zs_free(r[0]);
    zs_free(r[1]);
    return status;
}

static int run_prc(zs_task_env *env)
{
    zs_eval e;
    float *x[2] = {NULL, NULL};
    double part[2] = {0.0, 0.0};
    int status = zs_eval_open(&e, env, ZS_EVAL_POOL, ZS_INCEPTION_TF);
    if (status == ZS_OK)
        zs_eval_describe(&e, "prc");
    if (status == ZS_OK)
        status = check_counts(&e, "prc with these --neighbours", zs_opt_int(env, "neighbours") + 1);
    if (status == ZS_OK)
        status = two_matrices(x, &e);
    if (status == ZS_OK)
        status = cover(part, &e, x);
    if (status == ZS_OK) {
        double sum = part[0] + part[1], f = sum > 0.0 ? 2.0 * part[0] * part[1] / sum : 0.0;
        zs_result_set(env, "precision", json_real(part[0]));
        zs_result_set(env, "recall", json_real(part[1]));
        zs_result_set(env, "f_score", json_real(f));
        zs_result_set(env, "neighbours", json_integer(zs_opt_int(env, "neighbours")));
        zs_strbuf_addf(env->text, "precision %.4f  recall %.4f  F %.4f", part[0], part[1], f);
        add_counts(&e);
    }
    zs_free(x[0]);
    zs_free(x[1]);
    zs_eval_close(&e);
    return status;
}

#define NETWORK " features limit batch set raw "
const zs_eval_metric zs_eval_fid = {
    "fid",  "Frechet Inception distance of A from the reference B", 1, 2, NETWORK "resize stats ",
    run_fid};
const zs_eval_metric zs_eval_rep_fd = {
    "rep-fd", "Frechet distance of codes (--features MODEL)", 1, 2, NETWORK "stats ", run_rep_fd};
const zs_eval_metric zs_eval_is = {"is", "Inception score of A",   1,
                                   1,    NETWORK "resize splits ", run_is};
const zs_eval_metric zs_eval_kid = {"kid", "kernel Inception distance of A from B", 2,
                                    2,     NETWORK "resize subsets subset-size ",   run_kid};
const zs_eval_metric zs_eval_prc = {
    "prc",  "improved precision and recall of A against B", 2, 2, NETWORK "resize neighbours ",
    run_prc};
