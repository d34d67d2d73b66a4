/* SPDX-License-Identifier: MIT */
#include "data/labels.h"
#include "data/classes.h"
#include "data/imageindex.h"
#include "data/labeltable.h"
#include "io/nameindex.h"

#include <string.h>
#include <strings.h>

static int alloc_labels(zs_labels *l, int64_t images, size_t attrs, zs_error *err)
{
    size_t n = 0;
    l->images = images;
    if (attrs > INT32_MAX || !zs_mul_size((size_t)images, attrs, &n))
        return zs_fail_nomem(err, UINT64_MAX, "labels");
    l->attrs = (int)attrs;
    l->value = zs_alloc(n, 1);
    l->yes = zs_calloc(attrs, sizeof *l->yes);
    l->no = zs_calloc(attrs, sizeof *l->no);
    if (!l->value || !l->yes || !l->no)
        return zs_fail_nomem(err, n, "labels");
    memset(l->value, ZS_LABEL_UNKNOWN, n);
    return ZS_OK;
}

void zs_labels_close(zs_labels *l)
{
    zs_classes_free(l->names, l->attrs);
    zs_free(l->value);
    zs_free(l->yes);
    zs_free(l->no);
    *l = (zs_labels){0};
}

static void count_values(zs_labels *l)
{
    for (int64_t i = 0; i < l->images; i++)
        for (int a = 0; a < l->attrs; a++) {
            l->yes[a] += zs_labels_at(l, i, a) == ZS_LABEL_YES;
            l->no[a] += zs_labels_at(l, i, a) == ZS_LABEL_NO;
        }
}

/* ---- rows to images ---- */

/* Row of each image, or -1. */
static int join_rows(int64_t *row, zs_labels *l, const zs_labeltable *t, const char *label,
                     const zs_source *s, zs_error *err)
{
    zs_imageindex ix = {0};
    int status = zs_imageindex_open(&ix, s, err);
    for (int64_t i = 0; i < l->images; i++)
        row[i] = -1;
    for (size_t r = 0; status == ZS_OK && r < t->rows; r++) {
        const char *name = zs_labeltable_at(t, r, 0);
        int64_t i = zs_imageindex_find(&ix, name);
        if (i == ZS_IMAGE_AMBIGUOUS)
            status = zs_fail(err, ZS_E_FORMAT,
                             "%s: line %zu: \"%s\" is the name of several images; write their "
                             "paths within the data set",
                             label, t->line[r], name);
        else if (i >= 0 && row[i] >= 0)
            status = zs_fail(err, ZS_E_FORMAT,
                             "%s: line %zu: \"%s\" was labelled before, in line %zu; keep one",
                             label, t->line[r], name, t->line[row[i]]);
        else if (i >= 0)
            row[i] = (int64_t)r;
        l->matched += i >= 0;
        l->missing += i == ZS_IMAGE_MISSING;
    }
    zs_imageindex_close(&ix);
    if (status == ZS_OK && l->matched == 0)
        status = zs_fail(err, ZS_E_INVALID,
                         "%s: none of its %zu rows names an image of the data (the first is "
                         "\"%s\"); give the labels of these images",
                         label, t->rows, zs_labeltable_at(t, 0, 0));
    return status;
}

static void tell(const zs_labels *l, const zs_labeltable *t, const char *label, const zs_ui *ui)
{
    if (l->missing > 0)
        zs_ui_log(ui, ZS_LOG_WARN, "%s: %lld of %zu rows name images that are not in the data",
                  label, (long long)l->missing, t->rows);
    if (l->matched < l->images)
        zs_ui_log(ui, ZS_LOG_WARN, "%s: %lld of %lld images have no labels and are left out", label,
                  (long long)(l->images - l->matched), (long long)l->images);
    enum { NAMED = 5 };
    zs_strbuf names = {0};
    int constant = 0;
    for (int a = 0; a < l->attrs; a++)
        if ((l->yes[a] == 0 || l->no[a] == 0) && constant++ < NAMED)
            zs_strbuf_addf(&names, "%s%.60s", constant > 1 ? ", " : "", l->names[a]);
    if (constant > 0)
        zs_ui_log(ui, ZS_LOG_WARN,
                  "%s: %d of %d attributes are the same for all images, so nothing can be learnt "
                  "of them: %s%s",
                  label, constant, l->attrs, names.s ? names.s : "?",
                  constant > NAMED ? ", ..." : "");
    zs_strbuf_free(&names);
}

/* ---- values ---- */

/* YES, NO or UNKNOWN; -2 for anything else. */
static int value_of(const char *text)
{
    if (*text == '\0')
        return ZS_LABEL_UNKNOWN;
    if (strcmp(text, "1") == 0)
        return ZS_LABEL_YES;
    return strcmp(text, "0") == 0 || strcmp(text, "-1") == 0 ? ZS_LABEL_NO : -2;
}

static bool is_class_column(const zs_labeltable *t)
{
    for (size_t r = 0; t->attrs == 1 && r < t->rows; r++)
        if (value_of(zs_labeltable_at(t, r, 1)) == -2)
            return true;
    return false;
}

static int take_names(zs_labels *l, const zs_labeltable *t, const char *label, zs_error *err)
{
    zs_nameindex ix = {0};
    int status = ZS_OK;
    l->names = zs_calloc(t->attrs, sizeof *l->names);
    if (!l->names)
        return zs_fail_nomem(err, t->attrs * sizeof *l->names, "attribute names");
    for (size_t a = 0; status == ZS_OK && a < t->attrs; a++) {
        const char *name = t->cell[a];
        size_t was;
        if (*name == '\0')
            status = zs_fail(err, ZS_E_FORMAT, "%s: attribute %zu has no name", label, a + 1);
        else if (zs_nameindex_get(&ix, &was, name, strlen(name)))
            status =
                zs_fail(err, ZS_E_FORMAT,
                        "%s: two attributes are called \"%s\"; rename one of them", label, name);
        else if (!zs_nameindex_add(&ix, name, strlen(name), a) || !(l->names[a] = zs_str_dup(name)))
            status = zs_fail_nomem(err, strlen(name), "an attribute name");
    }
    zs_nameindex_free(&ix);
    return status;
}

static int fill_values(zs_labels *l, const zs_labeltable *t, const int64_t *row, const char *label,
                       zs_error *err)
{
    for (size_t r = 0; r < t->rows; r++) /* also those of no image: the file is right or wrong */
        for (size_t a = 0; a < t->attrs; a++)
            if (value_of(zs_labeltable_at(t, r, a + 1)) == -2)
                return zs_fail(err, ZS_E_FORMAT,
                               "%s: line %zu: \"%s\" is no value of %s; use 1, 0 or -1, or "
                               "nothing where it is unknown",
                               label, t->line[r], zs_labeltable_at(t, r, a + 1), t->cell[a]);
    for (int64_t i = 0; i < l->images; i++)
        for (int a = 0; row[i] >= 0 && a < l->attrs; a++)
            l->value[i * l->attrs + a] =
                (int8_t)value_of(zs_labeltable_at(t, (size_t)row[i], (size_t)a + 1));
    return ZS_OK;
}

static void fill_classes(zs_labels *l, const int *class_of)
{
    for (int64_t i = 0; i < l->images; i++)
        for (int a = 0; class_of[i] >= 0 && a < l->attrs; a++)
            l->value[i * l->attrs + a] = class_of[i] == a ? ZS_LABEL_YES : ZS_LABEL_NO;
}

/* One class name per image -> one attribute per class that occurs. */
static int expand_classes(zs_labels *l, const zs_labeltable *t, const int64_t *row,
                          const char *label, zs_error *err)
{
    const char **text = zs_calloc((size_t)l->images, sizeof *text);
    int *class_of = zs_alloc((size_t)l->images, sizeof *class_of), count = 0;
    char **names = NULL;
    int status = ZS_OK;
    if (!text || !class_of)
        status = zs_fail_nomem(err, (unsigned long long)l->images * sizeof *text, "labels");
    for (int64_t i = 0; status == ZS_OK && i < l->images; i++)
        if (row[i] >= 0 && *zs_labeltable_at(t, (size_t)row[i], 1))
            text[i] = zs_labeltable_at(t, (size_t)row[i], 1);
    if (status == ZS_OK)
        status = zs_classes_make(&names, &count, class_of, text, l->images, err);
    if (status == ZS_OK && count == 0)
        status = zs_fail(err, ZS_E_INVALID, "%s: names the class of no image of the data", label);
    if (status == ZS_OK)
        status = alloc_labels(l, l->images, (size_t)count, err);
    if (status == ZS_OK) {
        l->names = names;
        l->exclusive = true;
        fill_classes(l, class_of);
    } else {
        zs_classes_free(names, count);
    }
    zs_free(text);
    zs_free(class_of);
    return status;
}

static int join(zs_labels *l, const zs_labeltable *t, const char *label, const zs_source *s,
                zs_error *err)
{
    l->images = zs_source_count(s);
    int64_t *row = zs_alloc((size_t)l->images, sizeof *row);
    if (!row)
        return zs_fail_nomem(err, (unsigned long long)l->images * sizeof *row, "labels");
    int status = join_rows(row, l, t, label, s, err);
    if (status == ZS_OK && is_class_column(t)) {
        status = expand_classes(l, t, row, label, err);
    } else if (status == ZS_OK) {
        status = alloc_labels(l, l->images, t->attrs, err);
        if (status == ZS_OK)
            status = take_names(l, t, label, err);
        if (status == ZS_OK)
            status = fill_values(l, t, row, label, err);
    }
    zs_free(row);
    return status;
}

int zs_labels_parse(zs_labels *out, const char *label, const void *p, size_t n, const zs_source *s,
                    const zs_ui *ui, zs_error *err)
{
    zs_labeltable t = {0};
    *out = (zs_labels){0};
    int status = zs_labeltable_parse(&t, label, p, n, err);
    if (status == ZS_OK)
        status = join(out, &t, label, s, err);
    if (status == ZS_OK) {
        count_values(out);
        tell(out, &t, label, ui);
    } else {
        zs_labels_close(out);
    }
    zs_labeltable_free(&t);
    return status;
}

int zs_labels_read(zs_labels *out, const char *path, const zs_source *s, const zs_ui *ui,
                   zs_error *err)
{
    zs_mapfile m = {0};
    *out = (zs_labels){0};
    int status = zs_mapfile_open(&m, path, err);
    if (status == ZS_OK)
        status = zs_labels_parse(out, path, m.p, m.n, s, ui, err);
    zs_mapfile_close(&m);
    return status;
}

int zs_labels_from_classes(zs_labels *out, const zs_source *s, zs_error *err)
{
    int attrs = zs_source_class_count(s);
    *out = (zs_labels){0};
    if (attrs < 1)
        return zs_fail(err, ZS_E_INVALID,
                       "the data set has no classes; give --labels FILE, or sort the images into "
                       "one folder per class");
    int status = alloc_labels(out, zs_source_count(s), (size_t)attrs, err);
    out->exclusive = true;
    out->names = status < 0 ? NULL : zs_calloc((size_t)attrs, sizeof *out->names);
    if (status == ZS_OK && !out->names)
        status = zs_fail_nomem(err, (size_t)attrs * sizeof *out->names, "attribute names");
    for (int a = 0; status == ZS_OK && a < attrs; a++)
        if (!(out->names[a] = zs_str_dup(zs_source_class_name(s, a))))
            status = zs_fail_nomem(err, 64, "an attribute name");
    for (int64_t i = 0; status == ZS_OK && i < out->images; i++) {
        int k = zs_source_label(s, i);
        out->matched += k >= 0;
        for (int a = 0; k >= 0 && a < attrs; a++)
            out->value[i * attrs + a] = a == k ? ZS_LABEL_YES : ZS_LABEL_NO;
    }
    if (status == ZS_OK)
        count_values(out);
    else
        zs_labels_close(out);
    return status;
}

int zs_labels_find(const zs_labels *l, const char *name)
{
    for (int a = 0; a < l->attrs; a++)
        if (strcmp(l->names[a], name) == 0)
            return a;
    for (int a = 0; a < l->attrs; a++)
        if (strcasecmp(l->names[a], name) == 0)
            return a;
    return -1;
}
