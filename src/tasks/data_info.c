/* SPDX-License-Identifier: MIT */
#include "tasks/datatask.h"

#include "io/io.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CLASSES_SHOWN = 20, SIZES_SHOWN = 5, BAD_SHOWN = 5, GRID_IMAGES = 64, GRID_COLUMNS = 8 };

/* What one image adds. */
typedef struct look {
    int64_t index;
    int w, h, c, status;
    double sum[3], square[3]; /* over its pixels, 0..255 */
    zs_error err;
} look;

typedef struct image_size {
    int w, h;
    int64_t count;
} image_size;

typedef struct census {
    const zs_source *source;
    look *looks; /* [ZS_DATA_CHUNK] */
    image_size *sizes;
    size_t size_count, size_cap;
    int64_t grey, colour, bad;
    double pixels, sum[3], square[3];
    json_t *bad_list;
} census;

static void look_at(void *ctx, int64_t begin, int64_t end, int thread)
{
    const census *c = ctx;
    (void)thread;
    for (int64_t k = begin; k < end; k++) {
        look *l = &c->looks[k];
        zs_image im = {0};
        *l = (look){.index = l->index};
        l->status = zs_source_read(c->source, l->index, 0, &im, &l->err);
        l->w = im.w;
        l->h = im.h;
        l->c = im.c;
        for (int64_t p = 0; l->status == ZS_OK && p < (int64_t)im.w * im.h; p++)
            for (int ch = 0; ch < 3; ch++) {
                double v = im.px[p * im.c + (im.c == 3 ? ch : 0)];
                l->sum[ch] += v;
                l->square[ch] += v * v;
            }
        zs_image_free(&im);
    }
}

static int count_size(census *c, const look *l, zs_error *err)
{
    for (size_t i = 0; i < c->size_count; i++)
        if (c->sizes[i].w == l->w && c->sizes[i].h == l->h) {
            c->sizes[i].count++;
            return ZS_OK;
        }
    void *items = c->sizes;
    bool ok = zs_grow(&items, &c->size_cap, c->size_count, sizeof *c->sizes);
    c->sizes = items;
    if (!ok)
        return zs_fail_nomem(err, c->size_cap * 2 * sizeof *c->sizes, "a list of sizes");
    c->sizes[c->size_count++] = (image_size){l->w, l->h, 1};
    return ZS_OK;
}

static int take_look(census *c, const look *l, zs_error *err)
{
    if (l->status == ZS_E_NOMEM)
        return zs_fail(err, ZS_E_NOMEM, "%s", l->err.message);
    if (l->status < 0) {
        if (c->bad++ < BAD_SHOWN)
            json_array_append_new(c->bad_list, zs_json_text(l->err.message));
        return ZS_OK;
    }
    c->grey += l->c == 1;
    c->colour += l->c == 3;
    c->pixels += (double)l->w * l->h;
    for (int ch = 0; ch < 3; ch++) {
        c->sum[ch] += l->sum[ch];
        c->square[ch] += l->square[ch];
    }
    return count_size(c, l, err);
}

/* `wanted` images, spread evenly over the set. */
static int take_census(census *c, zs_task_env *env, int64_t wanted)
{
    int64_t count = zs_source_count(c->source);
    int status = ZS_OK;
    for (int64_t at = 0; status == ZS_OK && at < wanted;) {
        int64_t n = wanted - at < ZS_DATA_CHUNK ? wanted - at : ZS_DATA_CHUNK;
        for (int64_t k = 0; k < n; k++)
            c->looks[k].index = (int64_t)((double)(at + k) / (double)wanted * (double)count);
        zs_parallel_for(n, 1, look_at, c);
        for (int64_t k = 0; status == ZS_OK && k < n; k++)
            status = take_look(c, &c->looks[k], env->err);
        at += n;
        const zs_progress p = {
            .stage = "look", .done = (double)at, .total = (double)wanted, .unit = "images"};
        if (status == ZS_OK)
            status = zs_ui_progress(env->ui, &p, env->err);
    }
    return status;
}

/* ---- what is said ---- */

static int compare_sizes(const void *a, const void *b)
{
    const image_size *x = a, *y = b;
    if (x->count != y->count)
        return x->count < y->count ? 1 : -1;
    return x->w != y->w ? x->w - y->w : x->h - y->h;
}

static void say_sizes(zs_task_env *env, census *c)
{
    json_t *list = json_array();
    if (c->size_count > 0)
        qsort(c->sizes, c->size_count, sizeof *c->sizes, compare_sizes);
    for (size_t i = 0; i < c->size_count; i++) {
        const image_size *s = &c->sizes[i];
        json_array_append_new(list, json_pack("{s:i, s:i, s:I}", "width", s->w, "height", s->h,
                                              "count", (json_int_t)s->count));
        if (i < SIZES_SHOWN)
            zs_strbuf_addf(env->text, "  %-16s %d x %d: %lld images\n", i ? "" : "size", s->w, s->h,
                           (long long)s->count);
    }
    if (c->size_count > SIZES_SHOWN)
        zs_strbuf_addf(env->text, "  %-16s and %zu other sizes\n", "", c->size_count - SIZES_SHOWN);
    zs_result_set(env, "sizes", list);
}

static void say_colour(zs_task_env *env, const census *c)
{
    json_t *mean = json_array(), *deviation = json_array();
    double m[3], d[3];
    for (int ch = 0; ch < 3; ch++) {
        m[ch] = c->pixels > 0 ? c->sum[ch] / c->pixels / 255.0 : 0.0;
        double v = c->pixels > 0 ? c->square[ch] / c->pixels / 65025.0 - m[ch] * m[ch] : 0.0;
        d[ch] = sqrt(v > 0.0 ? v : 0.0);
        json_array_append_new(mean, json_real(m[ch]));
        json_array_append_new(deviation, json_real(d[ch]));
    }
    zs_strbuf_addf(env->text, "  %-16s %lld colour, %lld grey\n", "channels", (long long)c->colour,
                   (long long)c->grey);
    zs_strbuf_addf(env->text, "  %-16s %.4f %.4f %.4f (deviation %.4f %.4f %.4f) of 1\n",
                   "mean colour", m[0], m[1], m[2], d[0], d[1], d[2]);
    zs_result_set(env, "colour_images", json_integer(c->colour));
    zs_result_set(env, "grey_images", json_integer(c->grey));
    zs_result_set(env, "mean", mean);
    zs_result_set(env, "deviation", deviation);
}

static int say_classes(zs_task_env *env, const zs_source *s)
{
    int n = zs_source_class_count(s);
    int64_t *count = zs_calloc((size_t)n + 1, sizeof *count); /* the last: without a class */
    json_t *list = json_array();
    if (!count)
        return zs_fail_nomem(env->err, ((size_t)n + 1) * sizeof *count, "counts of classes");
    for (int64_t i = 0; i < zs_source_count(s); i++) {
        int k = zs_source_label(s, i);
        count[k < 0 ? n : k]++;
    }
    for (int k = 0; k < n; k++) {
        const char *name = zs_source_class_name(s, k);
        json_array_append_new(list, json_pack("{s:o, s:I}", "name", zs_json_text(name), "count",
                                              (json_int_t)count[k]));
        if (k < CLASSES_SHOWN)
            zs_strbuf_addf(env->text, "  %-16s %s: %lld images%s\n", k ? "" : "classes", name,
                           (long long)count[k],
                           count[k] == 1 ? ", too few to learn or to hold back" : "");
    }
    if (n > CLASSES_SHOWN)
        zs_strbuf_addf(env->text, "  %-16s and %d more\n", "", n - CLASSES_SHOWN);
    if (n > 0 && count[n] > 0)
        zs_strbuf_addf(env->text, "  %-16s none: %lld images\n", "", (long long)count[n]);
    zs_result_set(env, "classes", list);
    zs_free(count);
    return ZS_OK;
}

static void say_bad(zs_task_env *env, const census *c)
{
    if (c->bad > 0)
        zs_strbuf_addf(env->text, "  %-16s %lld images, such as\n", "unreadable",
                       (long long)c->bad);
    for (size_t i = 0; i < json_array_size(c->bad_list); i++)
        zs_strbuf_addf(env->text, "    %s\n", json_string_value(json_array_get(c->bad_list, i)));
    zs_result_set(env, "unreadable", json_integer(c->bad));
    zs_result_set(env, "unreadable_messages", json_incref(c->bad_list));
}

static int say(zs_task_env *env, census *c, int64_t looked)
{
    const zs_source *s = c->source;
    char hash[24];
    snprintf(hash, sizeof hash, "%016" PRIx64, zs_source_fingerprint(s));
    zs_strbuf_addf(env->text, "%s: %s\n  %-16s %lld\n", zs_arg(env, 1), zs_source_title(s),
                   "images", (long long)zs_source_count(s));
    if (looked < zs_source_count(s))
        zs_strbuf_addf(env->text, "  %-16s %lld, spread over the set\n", "looked at",
                       (long long)looked);
    zs_result_set(env, "data", zs_json_text(zs_arg(env, 1)));
    zs_result_set(env, "kind", json_string(zs_source_title(s)));
    zs_result_set(env, "images", json_integer(zs_source_count(s)));
    zs_result_set(env, "looked_at", json_integer(looked));
    say_sizes(env, c);
    say_colour(env, c);
    int status = say_classes(env, s);
    say_bad(env, c);
    zs_strbuf_addf(env->text, "  %-16s %s\n", "fingerprint", hash);
    zs_result_set(env, "fingerprint", json_string(hash));
    return status;
}

/* ---- the grid ---- */

/* Unreadable images are left out: they are reported elsewhere. */
static int write_grid(zs_task_env *env, const census *c, const char *path)
{
    zs_image images[GRID_IMAGES] = {{0}}, grid = {0};
    size_t n = 0;
    int side = c->size_count ? c->sizes[0].w < c->sizes[0].h ? c->sizes[0].w : c->sizes[0].h : 64;
    side = side > 128 ? 128 : side;
    int status = ZS_OK;
    for (int64_t i = 0; status == ZS_OK && i < zs_source_count(c->source) && n < GRID_IMAGES; i++) {
        zs_image im = {0};
        zs_error why = {0};
        if (zs_source_read(c->source, i, 3, &im, &why) == ZS_OK)
            status = zs_image_fit(&images[n++], &im, side, ZS_FIT_PAD, env->err);
        zs_image_free(&im);
    }
    if (status == ZS_OK && n > 0)
        status = zs_grid_make(&grid, images, n, GRID_COLUMNS, 2, side >= 64 ? 1 : 2, env->err);
    if (status == ZS_OK && n > 0)
        status = zs_image_write_png(path, &grid, env->err);
    if (status == ZS_OK && n > 0) {
        zs_strbuf_addf(env->text, "%s: the first %zu images\n", path, n);
        zs_result_set(env, "out", zs_json_text(path));
    }
    zs_image_free(&grid);
    for (size_t i = 0; i < n; i++)
        zs_image_free(&images[i]);
    return status;
}

int zs_data_info(zs_task_env *env, const zs_source *s)
{
    int64_t wanted = zs_opt_int(env, "images");
    if (wanted == 0 || wanted > zs_source_count(s))
        wanted = zs_source_count(s);
    census c = {
        .source = s, .looks = zs_calloc(ZS_DATA_CHUNK, sizeof(look)), .bad_list = json_array()};
    int status = c.looks && c.bad_list
                     ? take_census(&c, env, wanted)
                     : zs_fail_nomem(env->err, ZS_DATA_CHUNK * sizeof(look), "a census");
    if (status == ZS_OK)
        status = say(env, &c, wanted);
    if (status == ZS_OK && zs_opt_text(env, "out"))
        status = write_grid(env, &c, zs_opt_text(env, "out"));
    zs_free(c.looks);
    zs_free(c.sizes);
    json_decref(c.bad_list);
    return status;
}
