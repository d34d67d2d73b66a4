/* SPDX-License-Identifier: MIT */
/* Images and their classes -> an encoder whose codes tell the classes apart. */
#include "train/imageset.h"

#include <string.h>

/* Accuracy is measured on at most so many images, so many at a time. */
enum { CHECKED = 2000, CHECK_BATCH = 100 };

typedef struct classes {
    zs_imageset im; /* first */
    zs_source *val; /* images that are not trained on, or NULL */
    float *target;  /* [batch,classes], rows with a single 1 */
    int64_t batch, n;
    const zs_ui *ui;
} classes;

/* Equal numbers must mean equal classes: folders are numbered within each set on its own. */
static int check_names(const zs_source *val, const char *spec, const zs_source *data, zs_error *err)
{
    for (int k = 0; k < zs_source_class_count(val); k++)
        if (strcmp(zs_source_class_name(val, k), zs_source_class_name(data, k)) != 0)
            return zs_fail(err, ZS_E_INVALID,
                           "%s: class %d is called %s, and %s in the data to train on; name the "
                           "classes of both alike",
                           spec, k, zs_source_class_name(val, k), zs_source_class_name(data, k));
    return ZS_OK;
}

static int open_classes(zs_subject *s, const zs_train_config *c, zs_error *err)
{
    int status = zs_imageset_new(s, sizeof(classes), c, err);
    classes *k = s->self;
    if (status < 0)
        return status;
    k->n = c->model.classes;
    status = zs_imageset_check_labels(k->im.source, c->data, "encoder", k->n, err);
    if (status == ZS_OK && c->val)
        status = zs_source_open(&k->val, c->val, err);
    if (status == ZS_OK && c->val)
        status = zs_imageset_check_labels(k->val, c->val, "encoder", k->n, err);
    return status == ZS_OK && c->val ? check_names(k->val, c->val, k->im.source, err) : status;
}

/* Names classes that have one image: they are learnt, but as that image. */
static int warn_of_single_images(const classes *k, const zs_train_config *c, zs_error *err)
{
    const zs_source *s = k->im.source;
    int64_t *count = zs_calloc((size_t)k->n, sizeof *count);
    if (!count)
        return zs_fail_nomem(err, (unsigned long long)k->n * sizeof *count, "counts of classes");
    for (int64_t i = 0; i < zs_source_count(s); i++)
        count[zs_source_label(s, i)]++;
    for (int64_t i = 0; i < k->n; i++)
        if (count[i] == 1)
            zs_ui_log(k->ui, ZS_LOG_WARN,
                      "%s: class %s has a single image, which is learnt by heart", c->data,
                      zs_source_class_name(s, (int)i));
    zs_free(count);
    return ZS_OK;
}

static int prepare(zs_subject *s, const zs_train_config *c, const zs_ui *ui, zs_error *err)
{
    classes *k = s->self;
    k->ui = ui;
    k->batch = c->batch;
    k->target = zs_calloc((size_t)(k->batch * k->n), sizeof *k->target);
    if (!k->target)
        return zs_fail_nomem(err, (unsigned long long)(k->batch * k->n) * 4, "classes");
    return warn_of_single_images(k, c, err);
}

static int next(zs_subject *s, const zs_train_config *c, zs_train_batch *b, zs_error *err)
{
    classes *k = s->self;
    int status = zs_imageset_next(s, c, b, err);
    if (status < 0)
        return status;
    memset(k->target, 0, (size_t)(k->batch * k->n) * sizeof *k->target);
    for (int64_t i = 0; i < k->batch; i++)
        k->target[i * k->n + zs_source_label(k->im.source, k->im.batch.index[i])] = 1.0f;
    b->target = k->target;
    return ZS_OK;
}

/* ---- accuracy ---- */

static int64_t best_of(const float *logits, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

/* Checked images are spread over the set, which may be sorted by class. */
static int64_t image_at(const zs_source *s, int64_t i, int64_t checked)
{
    return i * zs_source_count(s) / checked;
}

/* Right answers among images [first, first+n) of those that are checked. */
static int check_batch(int64_t *right, zs_model *m, const classes *k, int64_t first, int64_t n,
                       int64_t checked, float *x, float *logits, zs_error *err)
{
    const zs_model_config *c = zs_model_configuration(m);
    int64_t numel = c->image_size * c->image_size * c->channels;
    int status = ZS_OK;
    for (int64_t i = 0; i < n && status == ZS_OK; i++)
        status =
            zs_source_read_float(k->val, image_at(k->val, first + i, checked), (int)c->image_size,
                                 (int)c->channels, zs_fit_from_name(c->fit), x + i * numel, err);
    if (status == ZS_OK)
        status = zs_model_classify(m, logits, x,
                                   zs_shape4(n, c->image_size, c->image_size, c->channels), err);
    for (int64_t i = 0; i < n && status == ZS_OK; i++)
        *right += best_of(logits + i * k->n, k->n) ==
                  zs_source_label(k->val, image_at(k->val, first + i, checked));
    return status;
}

static int measure(double *accuracy, int64_t checked, zs_model *m, const classes *k, zs_error *err)
{
    const zs_model_config *c = zs_model_configuration(m);
    int64_t numel = c->image_size * c->image_size * c->channels, right = 0;
    float *x = zs_alloc((size_t)(CHECK_BATCH * (numel + k->n)), sizeof *x);
    int status = x ? ZS_OK : zs_fail_nomem(err, 4ull * CHECK_BATCH * (size_t)numel, "images");
    for (int64_t i = 0; i < checked && status == ZS_OK; i += CHECK_BATCH)
        status = check_batch(&right, m, k, i, checked - i < CHECK_BATCH ? checked - i : CHECK_BATCH,
                             checked, x, x + CHECK_BATCH * numel, err);
    zs_free(x);
    *accuracy = (double)right / (double)checked;
    return status;
}

static int log_accuracy(const zs_rundir *d, const zs_train_state *state, double accuracy,
                        int64_t checked, zs_error *err)
{
    json_t *line = json_pack("{s:I, s:I, s:f, s:I}", "step", (json_int_t)state->step, "samples",
                             (json_int_t)state->samples, "accuracy", accuracy, "accuracy_images",
                             (json_int_t)checked);
    int status =
        line ? zs_rundir_log_append(d, line, err) : zs_fail_nomem(err, 256, "a line of the log");
    json_decref(line);
    return status;
}

static int preview(zs_subject *s, const zs_train_config *c, const zs_rundir *d,
                   const zs_train_state *state, zs_error *err)
{
    const classes *k = s->self;
    const zs_model_options o = {.backend = c->backend, .batch = CHECK_BATCH};
    double accuracy = 0.0;
    zs_model *m = NULL;
    if (!k->val)
        return ZS_OK;
    int64_t count = zs_source_count(k->val), checked = count < CHECKED ? count : CHECKED;
    int status = zs_model_wrap_buffer(&m, &c->model, state->b.ema, &o, err);
    if (status == ZS_OK)
        status = measure(&accuracy, checked, m, k, err);
    if (status == ZS_OK)
        status = log_accuracy(d, state, accuracy, checked, err);
    if (status == ZS_OK)
        zs_ui_log(k->ui, ZS_LOG_INFO, "step %lld: %.2f %% of %lld held-out images right",
                  (long long)state->step, 100.0 * accuracy, (long long)checked);
    zs_model_close(&m);
    return status;
}

static void close_classes(zs_subject *s)
{
    classes *k = s->self;
    if (k) {
        zs_source_close(&k->val);
        zs_free(k->target);
    }
    zs_imageset_close(s);
}

const zs_subject_kind zs_subject_classes = {.unit = "images",
                                            .objective = ZS_OBJECTIVE_CLASSES,
                                            .open = open_classes,
                                            .layout = zs_model_layout,
                                            .prepare = prepare,
                                            .start = zs_imageset_start,
                                            .next = next,
                                            .name = zs_imageset_name,
                                            .preview = preview,
                                            .bundle = zs_imageset_bundle,
                                            .close = close_classes};
