/* SPDX-License-Identifier: MIT */
/* A folder with data.mdb in the layout that source_lmdb.c describes. */
#include "data/lmdbwrite.h"
#include "data/sinkkind.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct lmdb_sink {
    zs_outfolder folder;
    zs_lmdbwrite *db;
    json_t *names, *labels;
    int digits; /* enough for all: numbers in the keys then sort like their text */
} lmdb_sink;

static int open_lmdb(zs_sink *s, const char *path, zs_error *err)
{
    lmdb_sink *x = s->self = zs_calloc(1, sizeof *x);
    if (!x || !(x->names = json_array()) || !(x->labels = json_array()))
        return zs_fail_nomem(err, 4096, "an LMDB database");
    x->digits = 5; /* as the authors' FFHQ */
    for (int64_t limit = 100000; s->c.count > limit; limit *= 10)
        x->digits++;
    int status = zs_outfolder_open(&x->folder, path, err);
    if (status < 0)
        return status;
    char *file = zs_str_format("%s/data.mdb", x->folder.tmp);
    status = file ? zs_lmdbwrite_open(&x->db, file, err) : zs_fail_nomem(err, 256, "a file name");
    zs_free(file);
    return status;
}

static int add_entry(zs_sink *s, const char *name, const zs_sink_item *item, zs_error *err)
{
    lmdb_sink *x = s->self;
    char key[64];
    (void)name; /* the name it came with stays */
    snprintf(key, sizeof key, "%lld-%0*lld", (long long)s->c.size, x->digits,
             (long long)s->added - 1);
    if (json_array_append_new(x->names, zs_json_text(item->name)) != 0 ||
        json_array_append_new(x->labels, json_integer(item->label)) != 0)
        return zs_fail_nomem(err, 256, "the names of images");
    return zs_lmdbwrite_put(x->db, key, item->bytes, item->n, err);
}

static int put_json(lmdb_sink *x, const char *key, const json_t *j, zs_error *err)
{
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    int status = text ? zs_lmdbwrite_put(x->db, key, text, strlen(text), err)
                      : zs_fail_nomem(err, 4096, "an LMDB database");
    free(text); /* jansson's own */
    return status;
}

static int put_classes(lmdb_sink *x, const zs_source *set, zs_error *err)
{
    json_t *classes = json_array();
    bool ok = classes != NULL;
    for (int k = 0; ok && k < zs_source_class_count(set); k++)
        ok = json_array_append_new(classes, zs_json_text(zs_source_class_name(set, k))) == 0;
    int status = put_json(x, "classes", ok ? classes : NULL, err);
    json_decref(classes);
    return status < 0 ? status : put_json(x, "labels", x->labels, err);
}

/* The keys of images start with a digit, so these come behind them, in this order. */
static int commit_lmdb(zs_sink *s, zs_error *err)
{
    lmdb_sink *x = s->self;
    char length[32];
    int status = ZS_OK;
    snprintf(length, sizeof length, "%lld", (long long)s->added);
    if (s->c.set && zs_source_class_count(s->c.set) > 0)
        status = put_classes(x, s->c.set, err);
    if (status == ZS_OK)
        status = zs_lmdbwrite_put(x->db, "length", length, strlen(length), err);
    if (status == ZS_OK)
        status = put_json(x, "names", x->names, err);
    if (status == ZS_OK)
        status = zs_lmdbwrite_commit(&x->db, err);
    return status < 0 ? status : zs_outfolder_commit(&x->folder, err);
}

static void close_lmdb(void *self)
{
    lmdb_sink *x = self;
    if (!x)
        return;
    zs_lmdbwrite_abort(&x->db);
    zs_outfolder_abort(&x->folder);
    json_decref(x->names);
    json_decref(x->labels);
    zs_free(x);
}

const zs_sink_kind zs_sink_lmdb = {"lmdb", open_lmdb, add_entry, commit_lmdb, close_lmdb, false};
