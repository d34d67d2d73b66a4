/* SPDX-License-Identifier: MIT */
#include "tasks/datatask.h"

#include <stdio.h>
#include <string.h>

/* One image on its way. */
typedef struct parcel {
    uint8_t *bytes;
    size_t n;
    int w, h, status;
    zs_error err;
} parcel;

typedef struct packer {
    zs_task_env *env;
    const zs_source *source;
    zs_sink *sink;
    parcel *parcels; /* [ZS_DATA_CHUNK] */
    int64_t first;   /* image of parcels[0] */
    int size, channels;
    zs_fit fit;
    bool lmdb, rename, skip_bad;
    int w, h; /* of the first image */
    char first_name[160];
    int64_t packed, skipped;
    double bytes;
} packer;

/* ---- making files ---- */

static int encode_changed(const packer *p, int64_t i, parcel *out)
{
    zs_image raw = {0}, fitted = {0};
    int status = zs_source_read(p->source, i, p->channels, &raw, &out->err);
    if (status == ZS_OK && p->size > 0)
        status = zs_image_fit(&fitted, &raw, p->size, p->fit, &out->err);
    const zs_image *im = p->size > 0 ? &fitted : &raw;
    if (status == ZS_OK) {
        out->w = im->w;
        out->h = im->h;
        status = zs_image_encode_png(&out->bytes, &out->n, im, &out->err);
    }
    zs_image_free(&raw);
    zs_image_free(&fitted);
    return status;
}

/* The bytes as they are stored, but decoded once, so that a damaged image is found now. */
static int copy_stored(const packer *p, int64_t i, parcel *out)
{
    zs_image im = {0};
    int status = zs_source_read(p->source, i, 0, &im, &out->err);
    out->w = im.w;
    out->h = im.h;
    zs_image_free(&im);
    return status < 0 ? status : zs_source_encoded(p->source, i, &out->bytes, &out->n, &out->err);
}

static void make_parcels(void *ctx, int64_t begin, int64_t end, int thread)
{
    const packer *p = ctx;
    (void)thread;
    for (int64_t k = begin; k < end; k++) {
        parcel *out = &p->parcels[k];
        *out = (parcel){0};
        bool stored = p->size == 0 && p->channels == 0 && zs_source_is_encoded(p->source);
        out->status =
            stored ? copy_stored(p, p->first + k, out) : encode_changed(p, p->first + k, out);
    }
}

/* ---- sending them off ---- */

static int fail_mixed(const packer *p, const char *name, const parcel *in)
{
    return zs_fail(p->env->err, ZS_E_INVALID,
                   "%s is %d x %d pixels and %s %d x %d, but an LMDB database holds images of one "
                   "size; give --size N",
                   p->first_name, p->w, p->h, name, in->w, in->h);
}

static int skip(packer *p, const parcel *in)
{
    if (!p->skip_bad || in->status == ZS_E_NOMEM)
        return zs_fail(p->env->err, in->status, "%s%s", in->err.message,
                       in->status == ZS_E_NOMEM ? "" : "; --skip-bad leaves such images out");
    zs_ui_log(p->env->ui, ZS_LOG_WARN, "left out: %s", in->err.message);
    p->skipped++;
    return ZS_OK;
}

static int send(packer *p, int64_t i, const parcel *in)
{
    char buf[64], number[32];
    if (in->status < 0)
        return skip(p, in);
    const char *name = zs_source_name(p->source, i, buf, sizeof buf);
    if (p->packed == 0) {
        p->w = in->w;
        p->h = in->h;
        snprintf(p->first_name, sizeof p->first_name, "%s", name);
    }
    if (p->lmdb && (in->w != p->w || in->h != p->h))
        return fail_mixed(p, name, in);
    snprintf(number, sizeof number, "#%lld", (long long)p->packed);
    const zs_sink_item item = {.name = p->rename ? number : name,
                               .label = zs_source_label(p->source, i),
                               .bytes = in->bytes,
                               .n = in->n};
    p->packed++;
    p->bytes += (double)in->n;
    return zs_sink_add(p->sink, &item, p->env->err);
}

static int pack_all(packer *p)
{
    int64_t count = zs_source_count(p->source);
    int status = ZS_OK;
    for (p->first = 0; status == ZS_OK && p->first < count; p->first += ZS_DATA_CHUNK) {
        int64_t rest = count - p->first, n = rest < ZS_DATA_CHUNK ? rest : ZS_DATA_CHUNK;
        zs_parallel_for(n, 1, make_parcels, p);
        for (int64_t k = 0; k < n; k++) {
            if (status == ZS_OK)
                status = send(p, p->first + k, &p->parcels[k]);
            zs_free(p->parcels[k].bytes);
        }
        const zs_progress progress = {.stage = "pack",
                                      .done = (double)(p->first + n),
                                      .total = (double)count,
                                      .unit = "images"};
        if (status == ZS_OK)
            status = zs_ui_progress(p->env->ui, &progress, p->env->err);
    }
    if (status == ZS_OK && p->packed == 0)
        status = zs_fail(p->env->err, ZS_E_INVALID, "%s: none of its %lld images can be read",
                         zs_arg(p->env, 1), (long long)count);
    return status;
}

/* ---- the task ---- */

/* The number in LMDB keys: the side images are made to, else the height of the first readable
 * one. */
static int key_size(const packer *p)
{
    int size = p->size;
    for (int64_t i = 0; size == 0 && p->lmdb && i < zs_source_count(p->source); i++) {
        zs_image im = {0};
        zs_error why = {0};
        if (zs_source_read(p->source, i, 0, &im, &why) == ZS_OK)
            size = im.h;
        zs_image_free(&im);
    }
    return size > 0 ? size : 1;
}

static int read_options(packer *p, const char *kind)
{
    const char *fit = zs_opt_text(p->env, "fit");
    p->size = (int)zs_opt_int(p->env, "size");
    p->channels = (int)zs_opt_int(p->env, "channels");
    p->fit = zs_fit_from_name(fit);
    p->lmdb = strcmp(kind, "lmdb") == 0;
    p->rename = zs_opt_flag(p->env, "rename");
    p->skip_bad = zs_opt_flag(p->env, "skip-bad");
    if (p->channels == 2)
        return zs_fail(p->env->err, ZS_E_INVALID, "data: --channels must be 0, 1 or 3");
    if (p->fit != ZS_FIT_PAD && strcmp(fit, "crop") != 0)
        return zs_fail(p->env->err, ZS_E_INVALID, "data: --fit must be crop or pad, not '%s'", fit);
    if (zs_opt_int(p->env, "shard") > 0 && strcmp(kind, "tar") != 0)
        return zs_fail(p->env->err, ZS_E_INVALID, "data: --shard goes with --to tar");
    return ZS_OK;
}

static void report(packer *p, const char *kind, const char *out)
{
    zs_task_env *env = p->env;
    bool shards = zs_opt_int(env, "shard") > 0;
    char *source = zs_str_format("%s%s", out, shards ? "/*.tar" : "");
    zs_result_set(env, "out", zs_json_text(out));
    zs_result_set(env, "kind", json_string(kind));
    zs_result_set(env, "images", json_integer(p->packed));
    zs_result_set(env, "skipped", json_integer(p->skipped));
    zs_result_set(env, "bytes", json_real(p->bytes));
    zs_result_set(env, "data", source ? zs_json_text(source) : NULL);
    zs_strbuf_addf(env->text, "%s: %lld images, %.1f MB", out, (long long)p->packed,
                   p->bytes / 1e6);
    if (p->skipped > 0)
        zs_strbuf_addf(env->text, ", %lld left out", (long long)p->skipped);
    zs_strbuf_addf(env->text, "\nuse it with --data \"%s\"\n", source ? source : out);
    zs_free(source);
}

int zs_data_pack(zs_task_env *env, const zs_source *s, const char *out)
{
    const char *kind = zs_opt_text(env, "to");
    packer p = {.env = env, .source = s};
    kind = kind ? kind : zs_opt_int(env, "shard") > 0 ? "tar" : zs_sink_kind_of(out);
    int status = read_options(&p, kind);
    if (status < 0)
        return status;
    p.parcels = zs_calloc(ZS_DATA_CHUNK, sizeof *p.parcels);
    if (!p.parcels)
        return zs_fail_nomem(env->err, ZS_DATA_CHUNK * sizeof *p.parcels, "images to pack");
    const zs_sink_config c = {.shard = zs_opt_int(env, "shard"),
                              .size = key_size(&p),
                              .count = zs_source_count(s),
                              .set = s};
    status = zs_sink_open(&p.sink, kind, out, &c, env->err);
    if (status == ZS_OK)
        status = pack_all(&p);
    if (status == ZS_OK)
        status = zs_sink_commit(&p.sink, env->err);
    zs_sink_abort(&p.sink);
    zs_free(p.parcels);
    if (status == ZS_OK)
        report(&p, kind, out);
    return status;
}
