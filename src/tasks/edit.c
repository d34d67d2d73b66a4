/* SPDX-License-Identifier: MIT */
/* zsem edit: z_sem moved along the directions of attributes, x_T kept. */
#include "tasks/attributes.h"
#include "tasks/output.h"
#include "tasks/pipeline.h"

#include <string.h>

enum { COLS_MAX = 33, IMAGES_MAX = 64 };

typedef struct edit {
    zs_task_env *env;
    zs_model *m;
    zs_images *im;
    zs_image_shape shape;
    zs_attr_list attrs;
    int64_t n, e, dim; /* images, floats of one, numbers of a code */
    int cols;          /* pictures of each edited image: 1, or an odd number of a strip */
    float *x, *z;      /* [n*cols]: x_T, then results; codes */
    float *shown;      /* [n,1+cols] originals and results */
} edit;

static int open_edit(edit *d)
{
    const char *dir = zs_opt_text(d->env, "out");
    int status = zs_pipeline_open(&d->m, d->env, zs_arg(d->env, 0), ZS_BOX_PROBE, false);
    if (status == ZS_OK)
        status = zs_pipeline_need_autoencoder(d->m, zs_arg(d->env, 0), "edit", d->env->err);
    if (status == ZS_OK)
        status = zs_attributes(&d->attrs, d->env, d->m, 0.3);
    if (status == ZS_OK && d->attrs.n == 0)
        status =
            zs_fail(d->env->err, ZS_E_INVALID, "edit: say what to change with --attr NAME=AMOUNT");
    if (status == ZS_OK)
        status = zs_pipeline_images(&d->im, &d->shape, d->env, d->m);
    if (status == ZS_OK && zs_images_count(d->im) > IMAGES_MAX)
        status = zs_fail(d->env->err, ZS_E_INVALID,
                         "edit takes up to %d images at once, and these are %lld", IMAGES_MAX,
                         (long long)zs_images_count(d->im));
    if (status == ZS_OK)
        status = zs_pipeline_check_inversion(d->m, zs_arg(d->env, 0), "edits need one of images",
                                             d->env->err);
    if (status == ZS_OK)
        status = zs_pipeline_check_steps(d->m, zs_opt_int(d->env, "steps"), d->env->err);
    return status == ZS_OK ? zs_output_folder(dir, d->env->err) : status;
}

static int allocate(edit *d)
{
    d->n = zs_images_count(d->im);
    d->e = zs_images_elements(d->im);
    d->dim = zs_model_config_z_dim(zs_model_configuration(d->m));
    d->cols = (int)zs_opt_int(d->env, "strip");
    size_t rows = (size_t)(d->n * d->cols);
    d->x = zs_alloc(rows, (size_t)d->e * sizeof *d->x);
    d->z = zs_alloc(rows, (size_t)d->dim * sizeof *d->z);
    d->shown = zs_alloc(rows + (size_t)d->n, (size_t)d->e * sizeof *d->shown);
    if (d->x && d->z && d->shown)
        return ZS_OK;
    return zs_fail_nomem(d->env->err, 8ull * rows * (size_t)d->e, "edited images; lower --strip");
}

/* How far column k goes: 1 alone, or from -1 to 1. */
static double scale_of(const edit *d, int k)
{
    return d->cols == 1 ? 1.0 : 2.0 * k / (d->cols - 1) - 1.0;
}

/* x_T and code of every image once, then of every column. */
static int analyse(edit *d)
{
    zs_shape xs = zs_shape4(d->n, d->shape.size, d->shape.size, d->shape.channels);
    zs_pipeline p = {d->m, zs_opt_int(d->env, "steps"), d->env->ui, "encode x_T"};
    int status = zs_images_read(d->im, 0, d->n, d->x, d->env->err);
    for (int64_t i = 0; status == ZS_OK && i < d->n; i++)
        memcpy(d->shown + i * (d->cols + 1) * d->e, d->x + i * d->e, (size_t)d->e * sizeof *d->x);
    if (status == ZS_OK)
        status = zs_pipeline_analyse(&p, d->x, d->z, xs, d->env->err);
    for (int64_t i = d->n - 1; status == ZS_OK && i >= 0; i--)
        for (int64_t k = d->cols - 1; k >= 0; k--) {
            int64_t to = i * d->cols + k;
            memmove(d->x + to * d->e, d->x + i * d->e, (size_t)d->e * sizeof *d->x);
            memmove(d->z + to * d->dim, d->z + i * d->dim, (size_t)d->dim * sizeof *d->z);
        }
    return status;
}

static int move_and_decode(edit *d)
{
    zs_shape xs = zs_shape4(d->n * d->cols, d->shape.size, d->shape.size, d->shape.channels);
    zs_pipeline p = {d->m, zs_opt_int(d->env, "steps"), d->env->ui, "decode"};
    int status = ZS_OK;
    for (int64_t i = 0; status == ZS_OK && i < xs.d[0]; i++)
        status = zs_attributes_move(&d->attrs, d->m, d->z + i * d->dim, 1,
                                    scale_of(d, (int)(i % d->cols)), d->env->err);
    if (status == ZS_OK)
        status = zs_pipeline_decode(&p, d->x, xs, d->z, d->env->err);
    for (int64_t i = 0; status == ZS_OK && i < d->n; i++)
        memcpy(d->shown + (i * (d->cols + 1) + 1) * d->e, d->x + i * d->cols * d->e,
               (size_t)(d->cols * d->e) * sizeof *d->x);
    return status;
}

static int write_results(edit *d, const char *dir)
{
    char name[48];
    zs_shape xs = zs_shape4(d->n * (d->cols + 1), d->shape.size, d->shape.size, d->shape.channels);
    int status = zs_output_grid(dir, "edit.png", d->shown, xs, d->cols + 1, d->env->err);
    for (int64_t i = 0; status == ZS_OK && i < d->n * d->cols; i++) {
        (void)snprintf(name, sizeof name, "edit-%03lld-%02lld.png", (long long)(i / d->cols),
                       (long long)(i % d->cols));
        status = zs_output_image(dir, name, d->x + i * d->e, xs, d->env->err);
    }
    return status;
}

static void report(edit *d, const char *dir)
{
    const zs_probe *p = zs_model_probe(d->m);
    json_t *list = json_array();
    for (int k = 0; k < d->attrs.n; k++)
        json_array_append_new(list, json_pack("{s:o, s:f}", "name",
                                              zs_json_text(p->names[d->attrs.at[k].attr]), "amount",
                                              d->attrs.at[k].amount));
    zs_result_set(d->env, "out", zs_json_text(dir));
    zs_result_set(d->env, "images", json_integer(d->n));
    zs_result_set(d->env, "attributes", list);
    zs_strbuf_addf(d->env->text, "%s/edit.png: %s\n", dir,
                   d->cols == 1 ? "the original, then edited"
                                : "the original, then from minus to plus the amount");
}

static int run(zs_task_env *env)
{
    edit d = {.env = env};
    const char *dir = zs_opt_text(env, "out");
    int status = zs_opt_int(env, "strip") % 2 == 1
                     ? open_edit(&d)
                     : zs_fail(env->err, ZS_E_INVALID,
                               "--strip must be odd, so that its middle is the image as it was");
    if (status == ZS_OK)
        status = allocate(&d);
    if (status == ZS_OK)
        status = analyse(&d);
    if (status == ZS_OK)
        status = move_and_decode(&d);
    if (status == ZS_OK)
        status = write_results(&d, dir);
    if (status == ZS_OK)
        report(&d, dir);
    zs_free(d.x);
    zs_free(d.z);
    zs_free(d.shown);
    zs_images_close(&d.im);
    zs_model_close(&d.m);
    return status;
}

static const zs_option options[] = {
    {"attr", ZS_OPTION_LIST, "NAME=AMOUNT", NULL, 0, 0,
     "attribute and how far to move it: 0.3 is much, negative takes it away"},
    {"strip", ZS_OPTION_INT, "N", "1", 1, COLS_MAX,
     "N pictures from minus to plus the amount; odd"},
    {"steps", ZS_OPTION_INT, "T", "100", 1, 1000000, "network calls of inversion and of decoding"},
    {"out", ZS_OPTION_TEXT, "DIR", "edit", 0, 0, "folder for the images and edit.png"},
    ZS_MODEL_OPTIONS,
    ZS_OPTIONS_END};

static const char *const examples[] = {
    "zsem edit last.ckpt,cls.ckpt face.png --attr Smiling=0.3 --out smile",
    "zsem edit runs/probe photos/*.png --attr Young=-0.5 --attr Eyeglasses=0.3 --strip 7", NULL};

const zs_task zs_task_edit = {
    {"edit", "MODEL IMAGES... --attr NAME=AMOUNT [--attr ...] [--strip N] [--out DIR] [options]",
     "change an attribute of an image and keep the rest",
     "MODEL needs a probe (zsem train probe, or the authors' cls.ckpt joined with a comma). The\n"
     "normalised code moves by AMOUNT * sqrt(z_dim) along the probe's unit direction.",
     2, -1, options, examples},
    run};
