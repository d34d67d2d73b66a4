/* SPDX-License-Identifier: MIT */
/* zsem train probe: labels of images -> directions of codes. */
#include "metrics/metrics.h"
#include "tasks/pipeline.h"
#include "tasks/train.h"
#include "train/probefit.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One data set: images, their labels, their codes. */
typedef struct set {
    zs_source *source;
    zs_labels labels;
    zs_codes codes;
} set;

typedef struct job {
    zs_task_env *env;
    zs_model *m;
    const char *out;
    zs_probe_fit fit;
    set train, test; /* test has no source when a part of train is held out */
    bool *use;       /* [images of train] */
    zs_probe *probe;
    double direction_decay; /* weight decay of the fit that gives directions; 0: there is one fit */
} job;

/* ---- labels ---- */

static int read_labels(zs_labels *l, zs_task_env *env, const zs_source *s)
{
    const char *from = zs_opt_text(env, "labels");
    bool classes = !from || strcmp(from, "classes") == 0;
    if (!from && zs_source_class_count(s) == 0)
        return zs_fail(env->err, ZS_E_INVALID,
                       "train probe: these images have no classes; give --labels FILE with their "
                       "attributes");
    return classes ? zs_labels_from_classes(l, s, env->err)
                   : zs_labels_read(l, from, s, env->ui, env->err);
}

/* Attribute a becomes number k. */
static void keep_attribute(zs_labels *l, int k, int a)
{
    char *name = l->names[k];
    l->names[k] = l->names[a];
    l->names[a] = name;
    l->yes[k] = l->yes[a];
    l->no[k] = l->no[a];
    for (int64_t i = 0; k != a && i < l->images; i++) {
        int8_t *v = l->value + i * l->attrs;
        int8_t old = v[k];
        v[k] = v[a];
        v[a] = old;
    }
}

/* Attributes past the first k, which are dropped. */
static void cut_attributes(zs_labels *l, int k)
{
    for (int64_t i = 0; i < l->images; i++)
        memmove(l->value + i * k, l->value + i * l->attrs, (size_t)k * sizeof *l->value);
    for (int a = k; a < l->attrs; a++)
        zs_free(l->names[a]);
    l->attrs = k;
}

static bool is_wanted(const zs_task_env *env, const zs_labels *l, int a)
{
    size_t n = zs_opt_list_count(env, "attr");
    for (size_t i = 0; i < n; i++)
        if (zs_labels_find(l, zs_opt_list(env, "attr", i)) == a)
            return true;
    return n == 0;
}

static int check_wanted(const zs_task_env *env, const zs_labels *l)
{
    for (size_t i = 0; i < zs_opt_list_count(env, "attr"); i++)
        if (zs_labels_find(l, zs_opt_list(env, "attr", i)) < 0)
            return zs_fail(env->err, ZS_E_INVALID, "--attr %s: the labels have no such attribute",
                           zs_opt_list(env, "attr", i));
    return ZS_OK;
}

/* Keeps the attributes that --attr names and that are not the same for all images to train on. */
static int choose_attributes(job *j)
{
    zs_labels *l = &j->train.labels;
    int status = check_wanted(j->env, l), kept = 0;
    bool *wanted = zs_alloc((size_t)l->attrs, sizeof *wanted);
    if (!wanted)
        return zs_fail_nomem(j->env->err, (unsigned long long)l->attrs, "attributes");
    for (int a = 0; status == ZS_OK && a < l->attrs; a++) {
        int64_t yes = 0, no = 0;
        for (int64_t i = 0; i < l->images; i++) {
            yes += j->use[i] && zs_labels_at(l, i, a) == ZS_LABEL_YES;
            no += j->use[i] && zs_labels_at(l, i, a) == ZS_LABEL_NO;
        }
        wanted[a] = is_wanted(j->env, l, a);
        if (wanted[a] && (yes == 0 || (no == 0 && !j->fit.unlabelled))) {
            zs_ui_log(j->env->ui, ZS_LOG_WARN,
                      "attribute %s is left out: of the images to train on %lld have it and %lld "
                      "have it not",
                      l->names[a], (long long)yes, (long long)no);
            wanted[a] = false;
        }
        if (wanted[a] && (yes == 1 || (no == 1 && !j->fit.unlabelled)))
            zs_ui_log(j->env->ui, ZS_LOG_WARN,
                      "attribute %s: a single image to train on %s it, which the probe learns by "
                      "heart",
                      l->names[a], yes == 1 ? "has" : "is without");
    }
    for (int a = 0; status == ZS_OK && a < l->attrs; a++)
        if (wanted[a])
            keep_attribute(l, kept++, a);
    zs_free(wanted);
    if (status == ZS_OK && kept == 0)
        status = zs_fail(j->env->err, ZS_E_INVALID,
                         "train probe: no attribute is left to train on: of each, some images must "
                         "have it and others not");
    if (status == ZS_OK)
        cut_attributes(l, kept);
    return status;
}

/* ---- set up ---- */

static int load_codes(job *j, set *s, const char *file, int views)
{
    char *path = file ? zs_str_dup(file) : NULL;
    if (!path)
        path = zs_str_format("%s/%s", j->out,
                             s == &j->test ? "codes-test.safetensors" : "codes.safetensors");
    int status =
        path ? zs_codes_load(&s->codes, path, j->m, s->source, views, j->env->ui, j->env->err)
             : zs_fail_nomem(j->env->err, 256, "a file name");
    zs_free(path);
    return status;
}

static int open_test(job *j)
{
    const char *spec = zs_opt_text(j->env, "test");
    if (!spec)
        return ZS_OK;
    int status = zs_source_open(&j->test.source, spec, j->env->err);
    return status < 0 ? status : read_labels(&j->test.labels, j->env, j->test.source);
}

static int choose_images(job *j)
{
    int64_t n = zs_source_count(j->train.source), used = 0;
    j->use = zs_alloc((size_t)n, sizeof *j->use);
    if (!j->use)
        return zs_fail_nomem(j->env->err, (unsigned long long)n, "a list of images");
    for (int64_t i = 0; i < n; i++)
        used += j->use[i] = j->test.source || !zs_held_out(j->train.source, i);
    if (used == 0)
        return zs_fail(j->env->err, ZS_E_INVALID, "train probe: there are too few images");
    return ZS_OK;
}

static int set_key(zs_probe_fit *f, const char *key_value, zs_error *err)
{
    static const struct {
        const char *name;
        double min, max;
    } keys[] = {{"lr=", 1e-12, 1e3}, {"weight_decay=", 0, 1e3}, {"ema=", 0, 0.9999999}};
    double *const values[] = {&f->optim.lr, &f->optim.weight_decay, &f->optim.ema};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (!zs_str_starts(key_value, keys[i].name))
            continue;
        if (!zs_str_to_f64(key_value + strlen(keys[i].name), values[i]) ||
            *values[i] < keys[i].min || *values[i] > keys[i].max)
            return zs_fail(err, ZS_E_INVALID, "--set %s: must be a number from %g to %.9g",
                           key_value, keys[i].min, keys[i].max);
        return ZS_OK;
    }
    return zs_fail(err, ZS_E_INVALID, "--set %s: a probe has the keys lr weight_decay ema",
                   key_value);
}

static int fill_fit(job *j)
{
    zs_probe_fit *f = &j->fit;
    *f = zs_probe_fit_defaults();
    f->seed = (uint64_t)zs_opt_int(j->env, "seed");
    f->shots = zs_opt_int(j->env, "shots");
    f->unlabelled = zs_opt_flag(j->env, "unlabelled");
    j->direction_decay = zs_opt_real(j->env, "direction-decay");
    if (zs_opt_given(j->env, "batch"))
        f->batch = zs_opt_int(j->env, "batch");
    if (zs_opt_given(j->env, "images"))
        f->samples = zs_opt_int(j->env, "images");
    if (zs_opt_given(j->env, "steps"))
        f->samples = zs_opt_int(j->env, "steps") * f->batch;
    for (size_t i = 0; i < zs_opt_list_count(j->env, "set"); i++) {
        int status = set_key(f, zs_opt_list(j->env, "set", i), j->env->err);
        if (status < 0)
            return status;
    }
    return ZS_OK;
}

static int open_model(job *j)
{
    const zs_model_options o = {.backend = zs_opt_text(j->env, "device"), .batch = 64};
    zs_image_shape shape;
    if (zs_arg_count(j->env) < 2)
        return zs_fail(
            j->env->err, ZS_E_INVALID,
            "train probe: name the model whose codes are to be probed; usage: zsem train "
            "probe MODEL --data SRC --labels FILE --out RUN");
    const char *spec = zs_arg(j->env, 1);
    int status = zs_model_open(&j->m, spec, &o, j->env->err);
    if (status == ZS_OK)
        status = zs_pipeline_need_autoencoder(j->m, spec, "a probe", j->env->err);
    return status < 0 ? status : zs_pipeline_image_shape(&shape, j->m, spec, j->env->err);
}

/* model.safetensors of a run is what that run has learnt. */
static int check_out(const job *j)
{
    char *run = zs_str_format("%s/checkpoints", j->out);
    int status = run ? ZS_OK : zs_fail_nomem(j->env->err, strlen(j->out), "a folder name");
    if (run && access(run, F_OK) == 0)
        status = zs_fail(j->env->err, ZS_E_INVALID,
                         "%s: is the folder of a training run, whose model would be replaced; "
                         "choose another --out",
                         j->out);
    zs_free(run);
    return status;
}

static int open_job(job *j)
{
    zs_train_config places = {0};
    int status = zs_train_take_places(&places, j->env, "probe MODEL");
    j->out = places.out;
    if (status == ZS_OK)
        status = fill_fit(j);
    if (status == ZS_OK)
        status = open_model(j);
    if (status == ZS_OK)
        status = zs_source_open(&j->train.source, places.data, j->env->err);
    if (status == ZS_OK)
        status = read_labels(&j->train.labels, j->env, j->train.source);
    if (status == ZS_OK)
        status = open_test(j);
    if (status == ZS_OK)
        status = choose_images(j);
    if (status == ZS_OK)
        status = choose_attributes(j);
    if (status == ZS_OK)
        status = check_out(j);
    return status < 0 ? status : zs_mkdirs(j->out, j->env->err);
}

/* ---- work ---- */

/* Directions from a second fit that keeps weights small. The longer a probe is trained, the more
 * its weights are about what tells an attribute from its likes alone; those of small ones are
 * about what codes that have it look like. */
static int train_directions(job *j)
{
    zs_probe *p = NULL;
    zs_probe_fit fit = j->fit;
    fit.optim.weight_decay = j->direction_decay;
    int status = zs_probe_new(&p, (const char *const *)j->probe->names, j->probe->attrs,
                              j->probe->dim, j->env->err);
    if (status == ZS_OK)
        status = zs_probe_train(p, &j->train.codes, &j->train.labels, j->use, &fit, j->env->ui,
                                j->env->err);
    if (status == ZS_OK)
        zs_probe_take_directions(j->probe, p);
    zs_probe_free(&p);
    return status;
}

static int train(job *j)
{
    const zs_labels *l = &j->train.labels;
    int status =
        load_codes(j, &j->train, zs_opt_text(j->env, "codes"), (int)zs_opt_int(j->env, "views"));
    if (status == ZS_OK && j->test.source)
        status = load_codes(j, &j->test, NULL, 1);
    if (status == ZS_OK && j->test.source) { /* normalised as the probe was */
        memcpy(j->test.codes.mean, j->train.codes.mean, (size_t)j->train.codes.dim * sizeof(float));
        memcpy(j->test.codes.std, j->train.codes.std, (size_t)j->train.codes.dim * sizeof(float));
    }
    if (status == ZS_OK)
        status = zs_probe_new(&j->probe, (const char *const *)l->names, l->attrs,
                              j->train.codes.dim, j->env->err);
    if (status == ZS_OK)
        status =
            zs_probe_train(j->probe, &j->train.codes, l, j->use, &j->fit, j->env->ui, j->env->err);
    return status == ZS_OK && j->direction_decay > 0.0 ? train_directions(j) : status;
}

static json_t *training_note(const job *j)
{
    return json_pack("{s:s, s:o, s:I, s:I, s:b, s:f, s:I}", "what", "probe", "data",
                     zs_json_text(zs_opt_text(j->env, "data")), "samples",
                     (json_int_t)j->fit.samples, "shots", (json_int_t)j->fit.shots, "unlabelled",
                     (int)j->fit.unlabelled, "direction_decay", j->direction_decay, "seed",
                     (json_int_t)j->fit.seed);
}

static int write_bundle(job *j)
{
    char *path = zs_str_format("%s/model.safetensors", j->out);
    json_t *note = training_note(j);
    const zs_bundle b = {.config = zs_model_configuration(j->m),
                         .params = zs_model_params(j->m),
                         .weights = zs_model_weights(j->m),
                         .z_mean = j->train.codes.mean,
                         .z_std = j->train.codes.std,
                         .probe = j->probe,
                         .extra = note};
    int status = path && note ? zs_bundle_write(path, &b, ZS_F32, j->env->err)
                              : zs_fail_nomem(j->env->err, 4096, "the model file");
    json_decref(note);
    zs_free(path);
    return status;
}

/* AUROC and average precision of an attribute on images that were not trained on. 1 when those
 * do not have both kinds. */
static int measure(job *j, int a, zs_ranking *r)
{
    const set *s = j->test.source ? &j->test : &j->train;
    int at = zs_labels_find(&s->labels, j->probe->names[a]);
    int64_t n = s->codes.n, yes = 0, no = 0;
    if (at < 0)
        return 1;
    float *score = zs_alloc((size_t)n, sizeof *score);
    int8_t *label = zs_alloc((size_t)n, sizeof *label);
    int status =
        score && label ? ZS_OK : zs_fail_nomem(j->env->err, (unsigned long long)n * 5, "scores");
    for (int64_t i = 0; status == ZS_OK && i < n; i++) {
        bool seen = s == &j->train && j->use[i];
        label[i] = seen ? ZS_LABEL_UNKNOWN : (int8_t)zs_labels_at(&s->labels, i, at);
        yes += label[i] == ZS_LABEL_YES;
        no += label[i] == ZS_LABEL_NO;
    }
    if (status == ZS_OK && yes > 0 && no > 0) {
        zs_probe_scores(j->probe, a, &s->codes, score);
        status = zs_ranking_measure(r, score, label, n, j->probe->names[a], j->env->err);
    } else if (status == ZS_OK)
        status = 1;
    zs_free(score);
    zs_free(label);
    return status;
}

static int report(job *j)
{
    double auroc = 0.0, precision = 0.0;
    int measured = 0;
    json_t *list = json_array();
    for (int a = 0; a < j->probe->attrs; a++) {
        zs_ranking r;
        json_t *row = json_object();
        const char *name = j->probe->names[a];
        int status = measure(j, a, &r);
        json_object_set_new(row, "name", zs_json_text(name));
        json_array_append_new(list, row);
        if (status < 0) {
            json_decref(list);
            return status;
        }
        if (status == 1) {
            zs_strbuf_addf(j->env->text, "  %-24s not measured: too few held-out images\n", name);
            continue;
        }
        json_object_set_new(row, "auroc", json_real(r.auroc));
        json_object_set_new(row, "average_precision", json_real(r.average_precision));
        json_object_set_new(row, "positives", json_integer(r.positives));
        json_object_set_new(row, "negatives", json_integer(r.negatives));
        zs_strbuf_addf(j->env->text, "  %-24s AUROC %.4f  AP %.4f  (%lld of %lld)\n", name, r.auroc,
                       r.average_precision, (long long)r.positives,
                       (long long)(r.positives + r.negatives));
        auroc += r.auroc;
        precision += r.average_precision;
        measured++;
    }
    zs_result_set(j->env, "out", zs_json_text(j->out));
    zs_result_set(j->env, "attributes", list);
    if (measured > 0) {
        zs_result_set(j->env, "mean_auroc", json_real(auroc / measured));
        zs_result_set(j->env, "mean_average_precision", json_real(precision / measured));
        zs_strbuf_addf(j->env->text, "mean of %d attributes  AUROC %.4f  AP %.4f\n", measured,
                       auroc / measured, precision / measured);
    }
    zs_strbuf_addf(j->env->text, "%s/model.safetensors: the model with its probe\n", j->out);
    return ZS_OK;
}

/* The same beside the model, for who comes later. */
static int write_report(const job *j)
{
    char *path = zs_str_format("%s/probe.json", j->out);
    char *text = json_dumps(j->env->result, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    int status = path && text ? zs_file_write(path, text, strlen(text), j->env->err)
                              : zs_fail_nomem(j->env->err, 4096, "the report");
    free(text); /* jansson's own */
    zs_free(path);
    return status;
}

static void close_set(set *s)
{
    zs_codes_free(&s->codes);
    zs_labels_close(&s->labels);
    zs_source_close(&s->source);
}

int zs_train_probe(zs_task_env *env)
{
    job j = {.env = env};
    int status = open_job(&j);
    if (status == ZS_OK)
        status = train(&j);
    if (status == ZS_OK)
        status = write_bundle(&j);
    if (status == ZS_OK)
        status = report(&j);
    if (status == ZS_OK)
        status = write_report(&j);
    zs_probe_free(&j.probe);
    zs_free(j.use);
    close_set(&j.train);
    close_set(&j.test);
    zs_model_close(&j.m);
    return status;
}
