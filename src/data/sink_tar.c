/* SPDX-License-Identifier: MIT */
/* A tar archive as webdataset reads it, or a folder of shards: KEY.jpg, and where there are classes
 * KEY.cls (the number) and KEY.json (number and name). */
#include "data/sinkkind.h"
#include "data/tarfile.h"
#include "io/io.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct tar_sink {
    zs_outfolder folder; /* of the shards */
    zs_outfile file;     /* the archive, or the shard that is being written */
    zs_strbuf bytes;     /* of one sample */
} tar_sink;

static int open_shard(zs_sink *s, zs_error *err)
{
    tar_sink *x = s->self;
    char *path = zs_str_format("%s/shard-%06lld.tar", x->folder.tmp,
                               (long long)((s->added - 1) / s->c.shard));
    int status =
        path ? zs_outfile_open(&x->file, path, err) : zs_fail_nomem(err, 256, "a file name");
    zs_free(path);
    return status;
}

static int open_tar(zs_sink *s, const char *path, zs_error *err)
{
    tar_sink *x = s->self = zs_calloc(1, sizeof *x);
    zs_mapfile m = {0};
    if (!x)
        return zs_fail_nomem(err, sizeof *x, "an output");
    if (s->c.shard > 0)
        return zs_outfolder_open(&x->folder, path, err);
    if (zs_mapfile_open(&m, path, NULL) == ZS_OK) {
        zs_mapfile_close(&m);
        return zs_fail(err, ZS_E_INVALID,
                       "%s: exists already; choose another name, or remove it first", path);
    }
    return zs_outfile_open(&x->file, path, err);
}

/* Appends what is in x->bytes and empties it. */
static int flush(tar_sink *x, zs_error *err)
{
    if (x->bytes.failed)
        return zs_fail_nomem(err, x->bytes.n, "a tar archive");
    fwrite(x->bytes.s, 1, x->bytes.n, x->file.f); /* failures show at commit */
    x->bytes.n = 0;
    return ZS_OK;
}

static int end_archive(tar_sink *x, zs_error *err)
{
    zs_tar_end(&x->bytes);
    int status = flush(x, err);
    return status < 0 ? status : zs_outfile_commit(&x->file, err);
}

static void add_class(tar_sink *x, const zs_source *set, const char *key, int label)
{
    char number[32];
    snprintf(number, sizeof number, "%d", label);
    json_t *j = json_pack("{s:i, s:o}", "label", label, "class",
                          zs_json_text(zs_source_class_name(set, label)));
    char *json = j ? json_dumps(j, JSON_COMPACT) : NULL;
    char *cls_name = zs_str_format("%s.cls", key), *json_name = zs_str_format("%s.json", key);
    if (json && cls_name && json_name) {
        zs_tar_add(&x->bytes, cls_name, number, strlen(number));
        zs_tar_add(&x->bytes, json_name, json, strlen(json));
    } else {
        x->bytes.failed = true;
    }
    zs_free(cls_name);
    zs_free(json_name);
    free(json); /* jansson's own */
    json_decref(j);
}

static int add_sample(zs_sink *s, const char *name, const zs_sink_item *item, zs_error *err)
{
    tar_sink *x = s->self;
    int status = ZS_OK;
    if (s->c.shard > 0 && (s->added - 1) % s->c.shard == 0) {
        if (x->file.f)
            status = end_archive(x, err);
        if (status == ZS_OK)
            status = open_shard(s, err);
        if (status < 0)
            return status;
    }
    char *key = zs_str_format("%.*s", (int)(strrchr(name, '.') - name), name);
    zs_tar_add(&x->bytes, name, item->bytes, item->n);
    if (!key)
        x->bytes.failed = true;
    else if (item->label >= 0)
        add_class(x, s->c.set, key, item->label);
    zs_free(key);
    return flush(x, err);
}

static int commit_tar(zs_sink *s, zs_error *err)
{
    tar_sink *x = s->self;
    int status = x->file.f ? end_archive(x, err) : ZS_OK;
    return status < 0 || s->c.shard == 0 ? status : zs_outfolder_commit(&x->folder, err);
}

static void close_tar(void *self)
{
    tar_sink *x = self;
    if (!x)
        return;
    zs_outfile_abort(&x->file);
    zs_outfolder_abort(&x->folder);
    zs_strbuf_free(&x->bytes);
    zs_free(x);
}

const zs_sink_kind zs_sink_tar = {"tar", open_tar, add_sample, commit_tar, close_tar, true};
