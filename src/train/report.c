/* SPDX-License-Identifier: MIT */
#include "train/report.h"
#include "io/io.h"
#include "metrics/plot.h"
#include "train/runlog.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Weight of the old mean in the smoothed curve of a noisy one. */
static const double smoothing = 0.95;

enum { SMOOTHED_FROM = 40, PICTURES = 4 };

/* ---- settings ---- */

static void add_setting(zs_page *p, const char *prefix, const char *key, const json_t *v)
{
    char *text = json_is_string(v) ? zs_str_dup(json_string_value(v)) : NULL;
    char *dumped =
        text ? NULL : json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9));
    char *name = zs_str_format("%s%s%s", prefix, *prefix ? "." : "", key);
    if (name && (text || dumped))
        zs_page_row(p, name, text ? text : dumped);
    else
        p->html.failed = true;
    zs_free(name);
    zs_free(text);
    free(dumped); /* jansson's own */
}

static void add_settings(zs_page *p, const char *prefix, json_t *object)
{
    const char *key;
    json_t *v;
    json_object_foreach(object, key, v)
    {
        if (!json_is_object(v)) {
            add_setting(p, prefix, key, v);
            continue;
        }
        char *name = zs_str_format("%s%s%s", prefix, *prefix ? "." : "", key);
        if (name)
            add_settings(p, name, v);
        else
            p->html.failed = true;
        zs_free(name);
    }
}

static void add_config(zs_page *p, const zs_rundir *d)
{
    char *path = zs_rundir_file(d, "config.json");
    json_t *config = path ? json_load_file(path, 0, NULL) : NULL;
    if (config) {
        zs_page_heading(p, "Settings");
        add_settings(p, "", config);
    }
    json_decref(config);
    zs_free(path);
}

/* ---- numbers ---- */

static double last_finite(const zs_runlog_column *c)
{
    double v = (double)NAN;
    for (size_t i = 0; c && i < c->n; i++)
        if (isfinite(c->v[i]))
            v = c->v[i];
    return v;
}

static void add_progress(zs_page *p, const zs_runlog *l)
{
    char text[64];
    double step = last_finite(zs_runlog_find(l, "step"));
    double images = last_finite(zs_runlog_find(l, "samples"));
    double seconds = last_finite(zs_runlog_find(l, "time"));
    snprintf(text, sizeof text, "%.0f", step);
    zs_page_row(p, "steps", text);
    if (isfinite(images)) {
        snprintf(text, sizeof text, "%.0f", images);
        zs_page_row(p, "images seen", text);
    }
    if (isfinite(seconds)) {
        snprintf(text, sizeof text, "%.0f h %02.0f min %02.0f s", floor(seconds / 3600),
                 floor(fmod(seconds, 3600) / 60), floor(fmod(seconds, 60)));
        zs_page_row(p, "time of training", text);
    }
    if (isfinite(images) && seconds > 0.0) {
        snprintf(text, sizeof text, "%.2f", images / seconds);
        zs_page_row(p, "images per second, overall", text);
    }
}

static void add_column_summary(zs_page *p, const zs_runlog_column *c)
{
    char text[128];
    double lo = (double)INFINITY, hi = -(double)INFINITY;
    for (size_t i = 0; i < c->n; i++) {
        lo = c->v[i] < lo ? c->v[i] : lo;
        hi = c->v[i] > hi ? c->v[i] : hi;
    }
    snprintf(text, sizeof text, "%.6g (lowest %.6g, highest %.6g)", last_finite(c), lo, hi);
    zs_page_row(p, c->name, text);
}

static void add_numbers(zs_page *p, const zs_runlog *l)
{
    zs_page_heading(p, "Numbers");
    if (l->rows == 0) {
        zs_page_paragraph(p, "Nothing has been logged yet.");
        return;
    }
    add_progress(p, l);
    for (size_t i = 0; i < l->count; i++)
        if (!zs_runlog_is_axis(l->columns[i].name))
            add_column_summary(p, &l->columns[i]);
}

/* ---- curves ---- */

/* Running mean of the finite values, corrected for its start. */
static void smooth(double *out, const double *v, size_t n)
{
    double sum = 0.0, weight = 0.0;
    for (size_t i = 0; i < n; i++) {
        if (isfinite(v[i])) {
            sum = smoothing * sum + (1.0 - smoothing) * v[i];
            weight = smoothing * weight + (1.0 - smoothing);
        }
        out[i] = isfinite(v[i]) ? sum / weight : (double)NAN;
    }
}

static char *plot_path(const zs_rundir *d, const char *name)
{
    char *path = zs_str_format("%s/plots/%s.svg", d->path, name);
    size_t at = path ? strlen(d->path) + strlen("/plots/") : 0;
    for (size_t i = 0; path && i < strlen(name); i++)
        if (!isalnum((unsigned char)name[i]) && !strchr("_-.", name[i]))
            path[at + i] = '_';
    return path;
}

static int add_plot(zs_page *p, const zs_rundir *d, const zs_plot *plot, zs_error *err)
{
    zs_strbuf svg = {0};
    char *path = plot_path(d, plot->title);
    zs_plot_svg(&svg, plot);
    int status = path && !svg.failed ? zs_file_write(path, svg.s, svg.n, err)
                                     : zs_fail_nomem(err, svg.n, "a plot");
    if (status == ZS_OK)
        zs_page_svg(p, svg.s);
    zs_strbuf_free(&svg);
    zs_free(path);
    return status;
}

static int add_curve(zs_page *p, const zs_rundir *d, const zs_runlog *l, const zs_runlog_column *c,
                     zs_error *err)
{
    const zs_runlog_column *x = zs_runlog_find(l, "samples");
    const char *x_label = x ? "images" : "steps";
    x = x ? x : zs_runlog_find(l, "step");
    double *mean = zs_alloc(c->n, sizeof *mean);
    size_t finite = 0;
    if (!mean)
        return zs_fail_nomem(err, c->n * sizeof *mean, "a plot");
    for (size_t i = 0; i < c->n; i++)
        finite += isfinite(c->v[i]) != 0;
    bool noisy = finite >= SMOOTHED_FROM;
    smooth(mean, c->v, c->n);
    const zs_plot_line lines[2] = {
        {NULL, x->v, c->v, (int64_t)c->n, !noisy, noisy},
        {NULL, x->v, mean, (int64_t)c->n, false, false},
    };
    const zs_plot plot = {.title = c->name,
                          .x_label = x_label,
                          .y_label = "",
                          .lines = lines,
                          .count = noisy ? 2 : 1};
    int status = finite > 0 ? add_plot(p, d, &plot, err) : ZS_OK;
    zs_free(mean);
    return status;
}

static int add_curves(zs_page *p, const zs_rundir *d, const zs_runlog *l, zs_error *err)
{
    char *folder = zs_rundir_file(d, "plots");
    int status = folder ? zs_mkdirs(folder, err) : zs_fail_nomem(err, 256, "a file name");
    zs_free(folder);
    bool any = zs_runlog_find(l, "samples") || zs_runlog_find(l, "step");
    if (any)
        zs_page_heading(p, "Curves");
    for (size_t i = 0; status == ZS_OK && any && i < l->count; i++)
        if (!zs_runlog_is_axis(l->columns[i].name))
            status = add_curve(p, d, l, &l->columns[i], err);
    return status;
}

/* ---- samples ---- */

/* A picture that cannot be read is left out. */
static void add_picture(zs_page *p, const zs_rundir *d, int64_t step)
{
    char caption[64];
    zs_mapfile m = {0};
    char *path = zs_rundir_step_file(d, "samples", step, ".png");
    snprintf(caption, sizeof caption, "step %lld", (long long)step);
    if (path && zs_mapfile_open(&m, path, NULL) == ZS_OK && m.n > 0)
        zs_page_png(p, m.p, m.n, caption);
    zs_mapfile_close(&m);
    zs_free(path);
}

static int add_samples(zs_page *p, const zs_rundir *d, zs_error *err)
{
    int64_t *steps;
    size_t n;
    int status = zs_rundir_samples(d, &steps, &n, err);
    if (status == ZS_OK && n > 0) {
        zs_page_heading(p, "Samples");
        zs_page_paragraph(p, "The newest first, and the first of all last.");
        for (size_t i = 0; i < n && i < PICTURES; i++)
            add_picture(p, d, steps[n - 1 - i]);
        if (n > PICTURES)
            add_picture(p, d, steps[0]);
    }
    zs_free(steps);
    return status;
}

int zs_run_report(const zs_rundir *d, zs_error *err)
{
    zs_page p = {0};
    zs_runlog l = {0};
    char *path = zs_rundir_file(d, "report.html"), *log = zs_rundir_file(d, "log.jsonl");
    int status =
        path && log ? zs_runlog_read(&l, log, err) : zs_fail_nomem(err, 256, "a file name");
    zs_page_begin(&p, d->path);
    if (status == ZS_OK) {
        add_numbers(&p, &l);
        status = add_curves(&p, d, &l, err);
    }
    if (status == ZS_OK)
        status = add_samples(&p, d, err);
    if (status == ZS_OK) {
        add_config(&p, d);
        status = zs_page_write(&p, path, err);
    }
    zs_page_free(&p);
    zs_runlog_free(&l);
    zs_free(path);
    zs_free(log);
    return status;
}
