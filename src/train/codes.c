/* SPDX-License-Identifier: MIT */
#include "train/codes.h"
#include "train/codeparts.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BATCH = 64, HEADER = ZS_CODEPART_HEADER };

/* ---- what codes are made from ---- */

static uint64_t mix(uint64_t h, uint64_t w)
{
    h = (h ^ w) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 32;
}

uint64_t zs_encoder_fingerprint(const zs_model *m, uint64_t h)
{
    const zs_params *ps = zs_model_params(m);
    const float *w = zs_model_weights((zs_model *)(uintptr_t)m); /* only read */
    for (size_t i = 0; i < zs_params_count(ps); i++) {
        const zs_param *p = zs_params_at(ps, i);
        if (zs_param_box(p->name) != ZS_BOX_ENCODER)
            continue;
        for (int64_t k = 0; k < p->numel; k++) {
            uint32_t bits;
            memcpy(&bits, &w[p->offset + k], sizeof bits);
            h = mix(h, bits);
        }
    }
    return h;
}

uint64_t zs_codes_fingerprint(const zs_model *m, const zs_source *data, int views)
{
    const zs_model_config *c = zs_model_configuration(m);
    uint64_t h = mix(mix(1, zs_source_fingerprint(data)), (uint64_t)views);
    if (c->encoder_size) /* images have another size than those that it was made for */
        h = mix(h, (uint64_t)c->image_size);
    return zs_encoder_fingerprint(m, h);
}

void zs_codes_free(zs_codes *c)
{
    zs_free(c->z);
    zs_free(c->mean);
    zs_free(c->std);
    *c = (zs_codes){0};
}

void zs_codes_normalise(const zs_codes *c, float *dst, const float *z)
{
    for (int64_t i = 0; i < c->dim; i++)
        dst[i] = (z[i] - c->mean[i]) / c->std[i];
}

/* ---- views ---- */

typedef struct view {
    const zs_source *data;
    const zs_model_config *c;
    int64_t first; /* row of the batch's first image: view*n + image */
    int64_t n;
    float *x;
    int status[BATCH];
} view;

static void mirror(float *x, int64_t size, int64_t channels)
{
    for (int64_t y = 0; y < size; y++, x += size * channels)
        for (int64_t a = 0, b = size - 1; a < b; a++, b--)
            for (int64_t k = 0; k < channels; k++) {
                float v = x[a * channels + k];
                x[a * channels + k] = x[b * channels + k];
                x[b * channels + k] = v;
            }
}

/* A random crop of the image at 9/8 of the size, mirrored half the time; drawn from the row. */
static int read_crop(const view *v, int64_t row, int64_t image, float *x, zs_error *err)
{
    int64_t s = v->c->image_size, ch = v->c->channels, big = s + (s + 7) / 8;
    zs_rng r = {.seed = 0, .purpose = ZS_RNG_AUGMENT, .index = (uint64_t)row};
    float *tmp = zs_alloc((size_t)(big * big * ch), sizeof *tmp);
    if (!tmp)
        return zs_fail_nomem(err, (unsigned long long)(big * big * ch) * 4, "an image");
    int status = zs_source_read_float(v->data, image, (int)big, (int)ch,
                                      zs_fit_from_name(v->c->fit), tmp, err);
    uint64_t draw = zs_rng_below(&r, 2 * (uint64_t)((big - s + 1) * (big - s + 1)));
    int64_t at = (int64_t)(draw / 2), left = at % (big - s + 1), top = at / (big - s + 1);
    for (int64_t y = 0; status == ZS_OK && y < s; y++)
        memcpy(x + y * s * ch, tmp + ((top + y) * big + left) * ch, (size_t)(s * ch) * sizeof *x);
    if (draw & 1)
        mirror(x, s, ch);
    zs_free(tmp);
    return status;
}

static int read_view(const view *v, int64_t i, zs_error *err)
{
    int64_t row = v->first + i, s = v->c->image_size, ch = v->c->channels;
    int64_t k = row / v->n, image = row % v->n;
    float *x = v->x + i * s * s * ch;
    if (k > 1)
        return read_crop(v, row, image, x, err);
    int status =
        zs_source_read_float(v->data, image, (int)s, (int)ch, zs_fit_from_name(v->c->fit), x, err);
    if (status == ZS_OK && k == 1)
        mirror(x, s, ch);
    return status;
}

static void read_range(void *ctx, int64_t begin, int64_t end, int thread)
{
    view *v = ctx;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        v->status[i] = read_view(v, i, NULL);
}

static int read_batch(view *v, int64_t take, zs_error *err)
{
    zs_parallel_for(take, 1, read_range, v);
    for (int64_t i = 0; i < take; i++)
        if (v->status[i] < 0)
            return read_view(v, i, err) < 0 ? v->status[i] /* once more, for the message */
                                            : zs_fail(err, v->status[i],
                                                      "image %lld could not be read, and then it "
                                                      "could: something else changes the data",
                                                      (long long)((v->first + i) % v->n));
    return ZS_OK;
}

/* ---- encoding ---- */

typedef struct job {
    zs_codes *out;
    const char *path;
    char *part; /* the file of this rank: what an interrupted job need not do again */
    zs_model *m;
    const zs_source *data;
    const zs_ui *ui;
    char header[HEADER + 1]; /* says what the part belongs to */
    zs_comm *comm;
    zs_part range; /* rows that this rank encodes */
    int64_t done;  /* of these */
    bool *there;   /* for each batch: its codes came out of somebody's part */
    FILE *f;       /* the part; NULL on a machine that has no such folder */
} job;

static int64_t all_rows(const job *j)
{
    return j->out->n * j->out->views;
}

static int64_t own_rows(const job *j)
{
    return j->range.end - j->range.begin;
}

/* Codes of this rank that are not yet done begin here. */
static float *next_code(const job *j)
{
    return j->out->z + (j->range.begin + j->done) * j->out->dim;
}

/* Takes over the rows of this rank's own part when it belongs to the same codes; else it is begun
 * anew. Only whole batches: rows of a batch of another size differ by rounding, and what is trained
 * on them too. */
static void take_part(job *j)
{
    char have[HEADER];
    size_t row = (size_t)j->out->dim * sizeof(float);
    FILE *f = fopen(j->part, "rb");
    if (!f)
        return;
    if (fread(have, 1, HEADER, f) == HEADER && memcmp(have, j->header, HEADER) == 0)
        while (j->done < own_rows(j) && fread(next_code(j), row, 1, f) == 1)
            j->done++;
    fclose(f);
    if (j->done < own_rows(j))
        j->done -= j->done % BATCH;
}

static int part_failed(const job *j, zs_error *err)
{
    return zs_fail(err, ZS_E_IO, "%s: cannot be written: %s", j->part, strerror(errno));
}

/* Rows that are there when those that other ranks have written down are counted too. */
static int64_t take_others(job *j, size_t row)
{
    const zs_codeparts p = {
        .path = j->path, .header = j->header, .rows = all_rows(j), .block = BATCH, .row = row};
    for (int64_t i = 0; i < j->done; i += BATCH)
        j->there[i / BATCH] = true;
    return j->done + zs_codeparts_take(&p, j->range, j->out->z, j->there);
}

/* The part as it will be appended to: exactly the rows that were taken over. */
static int open_part(job *j, zs_error *err)
{
    size_t row = (size_t)j->out->dim * sizeof(float);
    take_part(j);
    if (j->done > 0) {
        if (truncate(j->part, (off_t)HEADER + (off_t)j->done * (off_t)row) != 0)
            return part_failed(j, err);
    }
    int64_t had = take_others(j, row);
    if (had > 0)
        zs_ui_log(j->ui, ZS_LOG_INFO, "%s: going on after %lld of %lld codes", j->path,
                  (long long)had, (long long)own_rows(j));
    j->f = fopen(j->part, j->done > 0 ? "ab" : "wb");
    if (!j->f && zs_comm_rank(j->comm) > 0) /* the folder is on rank 0's machine alone */
        return ZS_OK;
    if (!j->f || (j->done == 0 && fwrite(j->header, 1, HEADER, j->f) != HEADER))
        return part_failed(j, err);
    return ZS_OK;
}

static int check_finite(const job *j, const float *z, int64_t n, zs_error *err)
{
    char buf[512];
    for (int64_t i = 0; i < n * j->out->dim; i++)
        if (!isfinite(z[i]))
            return zs_fail(
                err, ZS_E_NUMERIC,
                "%s: the code of %s is not finite: the encoder's weights are damaged", j->path,
                zs_source_name(j->data, (j->range.begin + j->done + i / j->out->dim) % j->out->n,
                               buf, sizeof buf));
    return ZS_OK;
}

static int encode_batch(job *j, view *v, zs_error *err)
{
    const zs_model_config *c = v->c;
    int64_t left = own_rows(j) - j->done, take = left < BATCH ? left : BATCH;
    zs_shape xs = zs_shape4(take, c->image_size, c->image_size, c->channels);
    float *z = next_code(j);
    v->first = j->range.begin + j->done;
    bool there = j->there[j->done / BATCH];
    int status = there ? ZS_OK : read_batch(v, take, err);
    if (status == ZS_OK && !there)
        status = zs_model_encode(j->m, z, v->x, xs, err);
    if (status == ZS_OK && !there)
        status = check_finite(j, z, take, err);
    if (status < 0)
        return status;
    if (j->f && fwrite(z, (size_t)j->out->dim * sizeof *z, (size_t)take, j->f) != (size_t)take)
        return part_failed(j, err);
    j->done += take;
    return zs_ui_progress(
        j->ui, &(zs_progress){"encode", (double)j->done, (double)own_rows(j), "images", NULL}, err);
}

static int encode_all(job *j, zs_error *err)
{
    const zs_model_config *c = zs_model_configuration(j->m);
    size_t e = (size_t)(c->image_size * c->image_size * c->channels);
    view v = {.data = j->data, .c = c, .n = j->out->n, .x = zs_alloc(BATCH, e * sizeof(float))};
    int status = v.x ? open_part(j, err)
                     : zs_fail_nomem(err, BATCH * e * sizeof(float), "a batch of images");
    while (status == ZS_OK && j->done < own_rows(j))
        status = encode_batch(j, &v, err);
    if (j->f && fclose(j->f) != 0 && status == ZS_OK)
        status = part_failed(j, err);
    zs_free(v.x);
    return status;
}

/* ---- the file ---- */

static json_t *metadata(const job *j)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%.16s", j->header + 16);
    return json_pack("{s:s, s:s}", "format", "zsem codes 1", "fingerprint", text);
}

static int write_file(const job *j, zs_error *err)
{
    const zs_codes *c = j->out;
    bool classes = zs_source_class_count(j->data) > 0;
    int32_t *label = classes ? zs_alloc((size_t)c->n, sizeof *label) : NULL;
    json_t *meta = metadata(j);
    const zs_tensorout t[] = {
        {.name = "z_sem",
         .dtype = ZS_F32,
         .nd = 3,
         .shape = {c->views, c->n, c->dim},
         .data = c->z},
        {.name = "label", .dtype = ZS_I32, .nd = 1, .shape = {c->n}, .data = label}};
    int status = meta && (label || !classes) ? ZS_OK : zs_fail_nomem(err, 4096, "codes");
    for (int64_t i = 0; label && i < c->n; i++)
        label[i] = zs_source_label(j->data, i);
    if (status == ZS_OK)
        status = zs_safetensors_write(j->path, t, classes ? 2 : 1, meta, err);
    json_decref(meta);
    zs_free(label);
    return status;
}

static int read_file(const job *j, zs_error *err)
{
    zs_tensorfile *f = NULL;
    zs_codes *c = j->out;
    int status = zs_tensorfile_open(&f, j->path, err);
    if (status < 0)
        return status;
    const char *print = json_string_value(json_object_get(zs_tensorfile_meta(f), "fingerprint"));
    long i = zs_tensorfile_find(f, "z_sem");
    const zs_tensorinfo *info = i < 0 ? NULL : zs_tensorfile_info(f, (size_t)i);
    if (!print || strncmp(print, j->header + 16, 16) != 0 || !info || info->nd != 3 ||
        info->numel != all_rows(j) * c->dim)
        status = zs_fail(err, ZS_E_INVALID,
                         "%s does not hold the codes of this data by this encoder; name another "
                         "file with --codes, or delete it",
                         j->path);
    else
        status = zs_tensorfile_read_f32(f, (size_t)i, c->z, (size_t)info->numel, err);
    zs_tensorfile_close(&f);
    return status;
}

/* ---- statistics ---- */

/* Those that the model has stay, since its other boxes were made with them. */
static bool take_stats(zs_codes *c, const zs_model *m)
{
    size_t bytes = (size_t)c->dim * sizeof *c->mean;
    if (!zs_model_z_mean(m) || !zs_model_z_std(m))
        return false;
    memcpy(c->mean, zs_model_z_mean(m), bytes);
    memcpy(c->std, zs_model_z_std(m), bytes);
    return true;
}

/* Representations that their encoder has standardised stay as they are. */
static bool keep_standardised(zs_codes *c, const zs_model *m)
{
    const zs_model_config *config = zs_model_configuration(m);
    for (int64_t k = 0; k < c->dim; k++) {
        c->mean[k] = 0.0f;
        c->std[k] = 1.0f;
    }
    return config->vit.depth > 0 && config->vit.standardise;
}

static int fill_stats(zs_codes *c, const zs_model *m, zs_error *err)
{
    int64_t rows = c->views * c->n;
    c->mean = zs_alloc((size_t)c->dim, sizeof *c->mean);
    c->std = zs_alloc((size_t)c->dim, sizeof *c->std);
    if (!c->mean || !c->std)
        return zs_fail_nomem(err, (unsigned long long)c->dim * 8, "statistics of codes");
    if (take_stats(c, m) || keep_standardised(c, m))
        return ZS_OK;
    for (int64_t k = 0; k < c->dim; k++) {
        double sum = 0.0, square = 0.0;
        for (int64_t i = 0; i < rows; i++)
            sum += (double)c->z[i * c->dim + k];
        double mean = sum / (double)rows;
        for (int64_t i = 0; i < rows; i++) {
            double d = (double)c->z[i * c->dim + k] - mean;
            square += d * d;
        }
        double std = rows > 1 ? sqrt(square / (double)(rows - 1)) : 0.0;
        c->mean[k] = (float)mean;
        c->std[k] = std > 1e-8 ? (float)std : 1.0f;
    }
    return ZS_OK;
}

static int open_job(job *j, int views, zs_error *err)
{
    zs_codes *c = j->out;
    size_t bytes;
    *c = (zs_codes){.n = zs_source_count(j->data),
                    .views = views,
                    .dim = zs_model_config_z_dim(zs_model_configuration(j->m))};
    j->range = zs_comm_rows(j->comm, all_rows(j), BATCH);
    (void)snprintf(j->header, sizeof j->header, ZS_CODEPART_MAGIC "%016" PRIx64 "%31s\n",
                   zs_codes_fingerprint(j->m, j->data, views), "");
    j->part = zs_codepart_name(j->path, zs_comm_rank(j->comm), zs_comm_size(j->comm));
    j->there = zs_calloc((size_t)(own_rows(j) / BATCH) + 1, sizeof *j->there);
    if (!zs_mul_size((size_t)all_rows(j), (size_t)c->dim * sizeof *c->z, &bytes) || !j->part ||
        !j->there)
        return zs_fail_nomem(err, 0, "codes");
    c->z = zs_alloc(bytes, 1);
    return c->z ? ZS_OK : zs_fail_nomem(err, bytes, "codes");
}

/* The codes on rank 0, from the file or from what all ranks have encoded. */
static int gather(job *j, bool there, zs_error *err)
{
    size_t row = (size_t)j->out->dim * sizeof(float);
    bool leads = zs_comm_rank(j->comm) == 0;
    int status = ZS_OK;
    if (there)
        return leads ? read_file(j, err) : ZS_OK;
    status = encode_all(j, err);
    status = zs_comm_collect(j->comm, j->out->z, all_rows(j), BATCH, all_rows(j), row, status, err);
    if (status == ZS_OK && leads)
        status = write_file(j, err);
    return status;
}

/* All decide alike: rank 0 looks whether the file is there. */
static int load(job *j, zs_error *err)
{
    int32_t there = access(j->path, F_OK) == 0;
    size_t bytes = (size_t)(all_rows(j) * j->out->dim) * sizeof *j->out->z;
    int status = zs_comm_broadcast(j->comm, &there, sizeof there, err);
    if (status == ZS_OK)
        status = zs_comm_agree_at_last(j->comm, gather(j, there, err), err);
    if (status == ZS_OK) /* also of ranks that are no more */
        zs_codeparts_remove(j->path);
    return status < 0 ? status : zs_comm_broadcast(j->comm, j->out->z, bytes, err);
}

int zs_codes_load_together(zs_codes *out, const char *path, zs_model *m, const zs_source *data,
                           int views, zs_comm *comm, const zs_ui *ui, zs_error *err)
{
    job j = {.out = out, .path = path, .m = m, .data = data, .comm = comm, .ui = ui};
    int status = zs_comm_agree(comm, open_job(&j, views, err), err);
    if (status == ZS_OK)
        status = load(&j, err);
    if (status == ZS_OK)
        status = fill_stats(out, m, err);
    zs_free(j.part);
    zs_free(j.there);
    if (status < 0)
        zs_codes_free(out);
    return status;
}

int zs_codes_load(zs_codes *out, const char *path, zs_model *m, const zs_source *data, int views,
                  const zs_ui *ui, zs_error *err)
{
    return zs_codes_load_together(out, path, m, data, views, NULL, ui, err);
}
