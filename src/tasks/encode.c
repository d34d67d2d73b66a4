/* SPDX-License-Identifier: MIT */
/* zsem encode: images -> z_sem codes in one file. */
#include "comm/comm.h"
#include "tasks/pipeline.h"

#include <math.h>
#include <stdlib.h>

typedef struct encode {
    zs_task_env *env;
    zs_model *m;
    zs_images *im;
    float *z, *x;
    zs_image_shape shape;
    int64_t n, dim;
    zs_part rows; /* of this rank */
} encode;

static int check_finite(const encode *e, int64_t first, int64_t n)
{
    char buf[4096];
    for (int64_t i = first * e->dim; i < (first + n) * e->dim; i++)
        if (!isfinite(e->z[i]))
            return zs_fail(e->env->err, ZS_E_NUMERIC,
                           "%s: the code of %s is not finite: the weights are damaged",
                           zs_arg(e->env, 0), zs_images_name(e->im, i / e->dim, buf, sizeof buf));
    return ZS_OK;
}

static int run_batches(encode *e)
{
    int64_t batch = zs_opt_int(e->env, "batch");
    int status = ZS_OK;
    for (int64_t i = e->rows.begin; status == ZS_OK && i < e->rows.end; i += batch) {
        int64_t take = e->rows.end - i < batch ? e->rows.end - i : batch;
        zs_shape xs = zs_shape4(take, e->shape.size, e->shape.size, e->shape.channels);
        status = zs_images_read(e->im, i, take, e->x, e->env->err);
        if (status == ZS_OK)
            status = zs_model_encode(e->m, e->z + i * e->dim, e->x, xs, e->env->err);
        if (status == ZS_OK)
            status = check_finite(e, i, take);
        if (status == ZS_OK)
            status = zs_ui_progress(e->env->ui,
                                    &(zs_progress){"encode", (double)(i + take - e->rows.begin),
                                                   (double)(e->rows.end - e->rows.begin), "images",
                                                   NULL},
                                    e->env->err);
    }
    return status;
}

/* File names beside the codes, as a JSON list in the metadata, so that rows can be told apart. */
static json_t *name_list(const encode *e)
{
    char buf[4096];
    json_t *list = json_array(), *meta = json_object();
    for (int64_t i = 0; i < e->n; i++) {
        json_array_append_new(list, zs_json_text(zs_images_name(e->im, i, buf, sizeof buf)));
    }
    char *text = json_dumps(list, JSON_COMPACT);
    json_object_set_new(meta, "names", json_string(text ? text : "[]"));
    json_object_set_new(meta, "model", zs_json_text(zs_arg(e->env, 0)));
    free(text);
    json_decref(list);
    return meta;
}

static int write_codes(const encode *e, const char *path)
{
    zs_tensorout t = {
        .name = "z_sem", .dtype = ZS_F32, .nd = 2, .shape = {e->n, e->dim}, .data = e->z};
    if (zs_str_ends(path, ".npy"))
        return zs_npy_write(path, &t, e->env->err);
    json_t *meta = name_list(e);
    int status = zs_safetensors_write(path, &t, 1, meta, e->env->err);
    json_decref(meta);
    return status;
}

/* Whole batches of each rank, so that rows are those of one rank, bit for bit. */
static int encode_all(encode *e)
{
    zs_comm *comm = zs_comm_world();
    int64_t batch = zs_opt_int(e->env, "batch");
    e->rows = zs_comm_rows(comm, e->n, batch);
    int status = run_batches(e);
    return zs_comm_collect(comm, e->z, e->n, batch, e->n, (size_t)e->dim * sizeof *e->z, status,
                           e->env->err);
}

static int run(zs_task_env *env)
{
    encode e = {.env = env};
    const char *out = zs_opt_text(env, "out");
    if (!zs_str_ends(out, ".npy") && !zs_str_ends(out, ".safetensors"))
        return zs_fail(env->err, ZS_E_INVALID, "%s: --out must end in .safetensors or .npy", out);
    int status = zs_pipeline_open_alone(&e.m, env, zs_arg(env, 0), ZS_BOX_ENCODER);
    if (status == ZS_OK)
        status = zs_pipeline_images(&e.im, &e.shape, env, e.m);
    if (status < 0)
        goto done;
    e.n = zs_images_count(e.im);
    e.dim = zs_model_config_z_dim(zs_model_configuration(e.m));
    e.z = zs_alloc((size_t)e.n, (size_t)e.dim * sizeof *e.z);
    e.x =
        zs_alloc((size_t)zs_opt_int(env, "batch"), (size_t)zs_images_elements(e.im) * sizeof *e.x);
    if (!e.z || !e.x)
        status = zs_fail_nomem(
            env->err,
            4 * ((unsigned long long)(e.n * e.dim) +
                 (unsigned long long)(zs_opt_int(env, "batch") * zs_images_elements(e.im))),
            "codes and a batch of images; lower --batch");
    if (status == ZS_OK) /* before long work: another rank may have failed by now */
        status = zs_comm_agree(zs_comm_world(), status, env->err);
    if (status == ZS_OK)
        status = encode_all(&e);
    if (status == ZS_OK && zs_comm_rank(zs_comm_world()) == 0)
        status = write_codes(&e, out);
    if (status == ZS_OK) {
        zs_result_set(env, "out", zs_json_text(out));
        zs_result_set(env, "images", json_integer(e.n));
        zs_result_set(env, "z_dim", json_integer(e.dim));
        zs_strbuf_addf(env->text, "%s: %lld codes of %lld numbers\n", out, (long long)e.n,
                       (long long)e.dim);
    }
done:
    zs_free(e.x);
    zs_free(e.z);
    zs_images_close(&e.im);
    zs_model_close(&e.m);
    return status;
}

static const zs_option options[] = {{"out", ZS_OPTION_TEXT, "FILE", "codes.safetensors", 0, 0,
                                     "where the codes go: .safetensors or .npy"},
                                    ZS_MODEL_OPTIONS,
                                    ZS_OPTIONS_END};

static const char *const examples[] = {
    "zsem encode last.ckpt photos/ --out codes.safetensors",
    "zsem encode share/fashion32.safetensors fashion-mnist:test --out z.npy",
    "zsem encode mocov3-vit-b.pth.tar photos/ --out representations.npy",
    "mpirun -n 4 zsem encode last.ckpt photos/ --out codes.npy", NULL};

const zs_task zs_task_encode = {
    {"encode", "MODEL IMAGES... [--out FILE] [options]", "write the codes z_sem of images",
     "One row per image, in the order of the list; names are kept in the metadata.", 2, -1, options,
     examples},
    run};
