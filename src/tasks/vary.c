/* SPDX-License-Identifier: MIT */
/* zsem vary: one z_sem, many x_T: what the code leaves open. */
#include "tasks/output.h"
#include "tasks/pipeline.h"

#include <string.h>

typedef struct vary {
    zs_task_env *env;
    zs_model *m;
    zs_images *im;
    zs_image_shape shape;
    int64_t n, e; /* variations, floats of one image */
    float *x, *z; /* original, then variations; one code per variation */
} vary;

static int allocate(vary *v)
{
    size_t dim = (size_t)zs_model_config_z_dim(zs_model_configuration(v->m));
    v->n = zs_opt_int(v->env, "n");
    v->e = zs_images_elements(v->im);
    v->x = zs_alloc((size_t)(v->n + 1), (size_t)v->e * sizeof *v->x);
    v->z = zs_alloc((size_t)v->n, dim * sizeof *v->z);
    if (!v->x || !v->z)
        return zs_fail_nomem(v->env->err, (unsigned long long)(v->n * v->e) * 4,
                             "variations; lower -n");
    return ZS_OK;
}

static int generate(vary *v)
{
    size_t dim = (size_t)zs_model_config_z_dim(zs_model_configuration(v->m));
    zs_shape xs = zs_shape4(1, v->shape.size, v->shape.size, v->shape.channels);
    int status = zs_images_read(v->im, 0, 1, v->x, v->env->err);
    if (status == ZS_OK)
        status = zs_model_encode(v->m, v->z, v->x, xs, v->env->err);
    if (status < 0)
        return status;
    for (int64_t i = 1; i < v->n; i++)
        memcpy(v->z + (size_t)i * dim, v->z, dim * sizeof *v->z);
    xs.d[0] = v->n;
    const zs_generation g = {.model = v->m,
                             .sampler = &zs_sampler_ddim,
                             .steps = zs_opt_int(v->env, "steps"),
                             .cond = {.z = v->z},
                             .noise.seed = (uint64_t)zs_opt_int(v->env, "seed"),
                             .ui = v->env->ui,
                             .stage = "decode"};
    return zs_generate_images(&g, v->x + v->e, xs, v->env->err);
}

static int write_results(vary *v, const char *dir)
{
    char name[32];
    int64_t cols = v->n + 1 < 9 ? v->n + 1 : 9;
    zs_shape xs = zs_shape4(v->n + 1, v->shape.size, v->shape.size, v->shape.channels);
    int status = zs_output_grid(dir, "vary.png", v->x, xs, (int)cols, v->env->err);
    for (int64_t i = 0; status == ZS_OK && i < v->n; i++) {
        snprintf(name, sizeof name, "vary-%03lld.png", (long long)i);
        status = zs_output_image(dir, name, v->x + (i + 1) * v->e, xs, v->env->err);
    }
    return status;
}

static int run(zs_task_env *env)
{
    vary v = {.env = env};
    const char *dir = zs_opt_text(env, "out");
    int status = zs_pipeline_open(&v.m, env, zs_arg(env, 0), ZS_BOX_ENCODER, false);
    if (status == ZS_OK) /* an encoder alone makes codes that nothing here takes */
        status = zs_pipeline_need_autoencoder(v.m, zs_arg(env, 0), "vary", env->err);
    if (status == ZS_OK)
        status = zs_pipeline_images(&v.im, &v.shape, env, v.m);
    if (status == ZS_OK && zs_images_count(v.im) != 1)
        status = zs_fail(env->err, ZS_E_INVALID, "%s: vary takes one image and this holds %lld",
                         zs_arg(env, 1), (long long)zs_images_count(v.im));
    if (status == ZS_OK)
        status = zs_pipeline_check_steps(v.m, zs_opt_int(env, "steps"), env->err);
    if (status == ZS_OK)
        status = zs_output_folder(dir, env->err);
    if (status == ZS_OK)
        status = allocate(&v);
    if (status == ZS_OK)
        status = generate(&v);
    if (status == ZS_OK)
        status = write_results(&v, dir);
    if (status == ZS_OK) {
        zs_result_set(env, "out", zs_json_text(dir));
        zs_result_set(env, "variations", json_integer(v.n));
        zs_strbuf_addf(env->text, "%s/vary.png: the original, then %lld variations\n", dir,
                       (long long)v.n);
    }
    zs_free(v.x);
    zs_free(v.z);
    zs_images_close(&v.im);
    zs_model_close(&v.m);
    return status;
}

static const zs_option options[] = {
    {"n", ZS_OPTION_INT, "N", "8", 1, 4096, "variations"},
    {"steps", ZS_OPTION_INT, "T", "20", 1, 1000000, "network calls of decoding"},
    {"out", ZS_OPTION_TEXT, "DIR", "vary", 0, 0, "folder for the images and vary.png"},
    ZS_MODEL_OPTIONS,
    ZS_OPTIONS_END};

static const char *const examples[] = {
    "zsem vary last.ckpt face.png -n 8 --out variations",
    "zsem vary share/fashion32.safetensors share/images/0001-trouser.png "
    "-n 16 --seed 7",
    NULL};

const zs_task zs_task_vary = {{"vary", "MODEL IMAGE [-n N] [--out DIR] [options]",
                               "decode one code with many x_T: the same meaning, other details",
                               NULL, 2, 2, options, examples},
                              run};
