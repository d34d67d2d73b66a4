/* SPDX-License-Identifier: MIT */
/* zsem interpolate: lerp of z_sem, slerp of x_T, between two images. */
#include "tasks/output.h"
#include "tasks/pipeline.h"

typedef struct interpolate {
    zs_task_env *env;
    zs_model *m;
    zs_images *im;
    zs_image_shape shape;
    int64_t n, e;
    size_t dim;
    float *x, *z;   /* [n] images and codes along the way */
    float *xe, *ze; /* [2] the ends: x_T and z_sem */
} interpolate;

static int allocate(interpolate *t)
{
    t->n = zs_opt_int(t->env, "n");
    t->e = zs_images_elements(t->im);
    t->dim = (size_t)zs_model_config_z_dim(zs_model_configuration(t->m));
    t->x = zs_alloc((size_t)t->n, (size_t)t->e * sizeof(float));
    t->z = zs_alloc((size_t)t->n, t->dim * sizeof(float));
    t->xe = zs_alloc(2, (size_t)t->e * sizeof(float));
    t->ze = zs_alloc(2, t->dim * sizeof(float));
    if (!t->x || !t->z || !t->xe || !t->ze)
        return zs_fail_nomem(t->env->err, (unsigned long long)(t->n * t->e) * 4,
                             "images; lower -n");
    return ZS_OK;
}

/* Codes at even distances between those of the ends. */
static void walk(interpolate *t)
{
    for (int64_t i = 0; i < t->n; i++) {
        double a = t->n > 1 ? (double)i / (double)(t->n - 1) : 0.5;
        zs_pipeline_lerp(t->z + (size_t)i * t->dim, t->ze, t->ze + t->dim, t->dim, a);
        zs_pipeline_slerp(t->x + i * t->e, t->xe, t->xe + t->e, (size_t)t->e, a);
    }
}

/* One noise for all, drawn where the generator works: only the code changes. */
static int generate_from_one(interpolate *t, zs_shape xs)
{
    zs_generation g = {.model = t->m,
                       .sampler = &zs_sampler_ddim,
                       .steps = zs_opt_int(t->env, "steps"),
                       .noise.seed = (uint64_t)zs_opt_int(t->env, "seed"),
                       .ui = t->env->ui,
                       .stage = "decode"};
    int status = zs_model_encode(t->m, t->ze, t->xe, xs, t->env->err);
    if (status == ZS_OK)
        walk(t);
    xs.d[0] = 1;
    for (int64_t i = 0; status == ZS_OK && i < t->n; i++) {
        g.cond.z = t->z + (size_t)i * t->dim;
        status = zs_generate_images(&g, t->x + i * t->e, xs, t->env->err);
    }
    return status;
}

static int generate(interpolate *t)
{
    zs_shape xs = zs_shape4(2, t->shape.size, t->shape.size, t->shape.channels);
    zs_pipeline p = {t->m, zs_opt_int(t->env, "steps"), t->env->ui, "encode x_T"};
    int status = zs_images_read(t->im, 0, 2, t->xe, t->env->err);
    if (status == ZS_OK && zs_opt_flag(t->env, "random-xT"))
        return generate_from_one(t, xs);
    if (status == ZS_OK)
        status = zs_pipeline_analyse(&p, t->xe, t->ze, xs, t->env->err);
    if (status < 0)
        return status;
    walk(t);
    xs.d[0] = t->n;
    p.stage = "decode";
    return zs_pipeline_decode(&p, t->x, xs, t->z, t->env->err);
}

static int write_results(interpolate *t, const char *dir)
{
    char name[40];
    zs_shape xs = zs_shape4(t->n, t->shape.size, t->shape.size, t->shape.channels);
    int status =
        zs_output_grid(dir, "interpolate.png", t->x, xs, (int)(t->n < 16 ? t->n : 16), t->env->err);
    for (int64_t i = 0; status == ZS_OK && i < t->n; i++) {
        snprintf(name, sizeof name, "interpolate-%03lld.png", (long long)i);
        status = zs_output_image(dir, name, t->x + i * t->e, xs, t->env->err);
    }
    return status;
}

static int run(zs_task_env *env)
{
    interpolate t = {.env = env};
    const char *dir = zs_opt_text(env, "out");
    int status = zs_pipeline_open(&t.m, env, zs_arg(env, 0), ZS_BOX_ENCODER, false);
    if (status == ZS_OK) /* an encoder alone makes codes that nothing here takes */
        status = zs_pipeline_need_autoencoder(t.m, zs_arg(env, 0), "interpolate", env->err);
    if (status == ZS_OK && !zs_opt_flag(env, "random-xT"))
        status = zs_pipeline_check_inversion(t.m, zs_arg(env, 0), "add --random-xT", env->err);
    if (status == ZS_OK)
        status = zs_pipeline_images(&t.im, &t.shape, env, t.m);
    if (status == ZS_OK && zs_images_count(t.im) != 2)
        status = zs_fail(env->err, ZS_E_INVALID, "interpolate takes two images and was given %lld",
                         (long long)zs_images_count(t.im));
    if (status == ZS_OK)
        status = zs_pipeline_check_steps(t.m, zs_opt_int(env, "steps"), env->err);
    if (status == ZS_OK)
        status = zs_output_folder(dir, env->err);
    if (status == ZS_OK)
        status = allocate(&t);
    if (status == ZS_OK)
        status = generate(&t);
    if (status == ZS_OK)
        status = write_results(&t, dir);
    if (status == ZS_OK) {
        zs_result_set(env, "out", zs_json_text(dir));
        zs_result_set(env, "images", json_integer(t.n));
        zs_strbuf_addf(env->text, "%s/interpolate.png: %lld images from the first to the second\n",
                       dir, (long long)t.n);
    }
    zs_free(t.x);
    zs_free(t.z);
    zs_free(t.xe);
    zs_free(t.ze);
    zs_images_close(&t.im);
    zs_model_close(&t.m);
    return status;
}

static const zs_option options[] = {
    {"n", ZS_OPTION_INT, "N", "9", 1, 4096, "images, both ends included"},
    {"steps", ZS_OPTION_INT, "T", "100", 1, 1000000, "network calls of inversion and of decoding"},
    {"random-xT", ZS_OPTION_FLAG, NULL, NULL, 0, 0,
     "one random x_T all the way: what the representations alone change"},
    {"out", ZS_OPTION_TEXT, "DIR", "interpolate", 0, 0,
     "folder for the images and interpolate.png"},
    ZS_MODEL_OPTIONS,
    ZS_OPTIONS_END};

static const char *const examples[] = {
    "zsem interpolate last.ckpt a.png b.png -n 9 --out between",
    "zsem interpolate share/fashion32.safetensors share/images/0001-trouser.png "
    "share/images/0002-pullover.png --steps 50",
    NULL};

const zs_task zs_task_interpolate = {
    {"interpolate", "MODEL A B [-n N] [--out DIR] [options]",
     "walk from one image to another: z_sem on a line, x_T on a sphere", NULL, 3, 3, options,
     examples},
    run};
