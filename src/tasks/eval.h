/* SPDX-License-Identifier: MIT */
/* What the metrics of `zsem eval` share: sets of images, features or statistics, and the networks
 * that they are looked at through. Private to the tasks layer. */
#ifndef ZS_TASKS_EVAL_H
#define ZS_TASKS_EVAL_H

#include "data/data.h"
#include "metrics/metrics.h"
#include "models/models.h"
#include "tasks/task.h"

/* One metric: a file and an entry in the list of eval.c. */
typedef struct zs_eval_metric {
    const char *name;
    const char *what;    /* one line for --help */
    size_t min, max;     /* sets that it takes */
    const char *options; /* names it has a use for, each between spaces */
    int (*run)(zs_task_env *env);
} zs_eval_metric;

extern const zs_eval_metric zs_eval_fid, zs_eval_rep_fd, zs_eval_is, zs_eval_kid, zs_eval_prc,
    zs_eval_lpips, zs_eval_ssim, zs_eval_psnr, zs_eval_mse, zs_eval_auroc;

/* ---- sets ---- */

typedef enum zs_eval_kind { ZS_EVAL_IMAGES, ZS_EVAL_MATRIX, ZS_EVAL_STATISTICS } zs_eval_kind;

typedef struct zs_eval_set {
    const char *spec; /* the argument, borrowed */
    zs_eval_kind kind;
    int64_t n;         /* samples, --limit applied; 0: unknown */
    zs_source *source; /* IMAGES */
    float *x;          /* MATRIX: [n,dim] */
    zs_gaussian g;     /* STATISTICS */
    int64_t dim;       /* MATRIX, STATISTICS */
    int w[2], h[2];    /* smallest and largest image seen; 0: none yet */
} zs_eval_set;

/* Opens argument `arg` of the command: an .npz of statistics (mu, sigma), a matrix (.npy, or the
 * one two-dimensional tensor, or "z_sem", of a .safetensors), or a data set. The caller closes *s
 * also on failure. */
int zs_eval_set_open(zs_eval_set *s, zs_task_env *env, size_t arg);
void zs_eval_set_close(zs_eval_set *s);

/* Remembers the size of an image of the set, for a warning about mixed ones. Not for several
 * threads at once. */
void zs_eval_note_size(zs_eval_set *s, const zs_image *im);

/* ---- features ---- */

typedef enum zs_eval_layer {
    ZS_EVAL_POOL,   /* Inception's 2048 features, or the code of an encoder */
    ZS_EVAL_LOGITS, /* Inception's class scores */
    ZS_EVAL_CODES   /* as POOL, codes normalised by the statistics of their model */
} zs_eval_layer;

typedef struct zs_eval {
    zs_task_env *env;
    zs_eval_layer layer;
    zs_inception_resize resize;
    zs_eval_set set[2];
    size_t sets;
    zs_frozen *net;  /* Inception, or */
    zs_model *model; /* an encoder, or neither */
    int64_t dim;     /* of the features */
} zs_eval;

/* Opens the sets of a command (at most two) and, when images are among them or codes must be
 * normalised, --features. `resize` is the metric's own way where --resize does not say. The caller
 * closes *e also on failure. */
int zs_eval_open(zs_eval *e, zs_task_env *env, zs_eval_layer layer, zs_inception_resize resize);
void zs_eval_close(zs_eval *e);

/* Hands the features of set i, all finite, to fn in batches. */
typedef int (*zs_eval_rows_fn)(void *ctx, const float *x, int64_t n, zs_error *err);
int zs_eval_rows(zs_eval *e, size_t i, zs_eval_rows_fn fn, void *ctx);

/* All features of set i as one matrix [e->set[i].n, e->dim] that the caller frees. */
int zs_eval_matrix(float **x, zs_eval *e, size_t i);

/* Mean and covariance of set i; with `keep`, the file of --stats, taken from there when it is of
 * the same images and features, and written there otherwise. */
int zs_eval_gaussian(zs_gaussian *g, zs_eval *e, size_t i, const char *keep);

/* Adds what the number of this command rests on to the result: the sets with their sample counts,
 * features, resizing. */
void zs_eval_describe(zs_eval *e, const char *metric);

/* A warning that also stands in the result, under "warnings". */
void zs_eval_warn(zs_task_env *env, const char *fmt, ...) ZS_PRINTF(2, 3);

#endif
