/* SPDX-License-Identifier: MIT */
/* zsem demo: the model and the images that come with zsem, as one page of pictures. */
#include "tasks/demo.h"
#include "tasks/output.h"

#include "base/share.h"

static const zs_demo_section sections[] = {
    {"Reconstruct", zs_demo_reconstruct}, {"Vary", zs_demo_vary},
    {"Interpolate", zs_demo_interpolate}, {"Edit", zs_demo_edit},
    {"Draw new ones", zs_demo_sample},    {"Draw a class", zs_demo_classes},
};

/* ---- what sections share ---- */

zs_pipeline zs_demo_pipeline(const zs_demo *d, const char *option, const char *stage)
{
    return (zs_pipeline){d->m, zs_opt_int(d->env, option), d->env->ui, stage};
}

zs_shape zs_demo_shape(const zs_demo *d, int64_t n)
{
    return zs_shape4(n, d->xs.d[1], d->xs.d[2], d->xs.d[3]);
}

int zs_demo_show(zs_demo *d, const char *file, int64_t n, int cols, const char *caption)
{
    zs_image grid = {0};
    zs_shape xs = zs_demo_shape(d, n);
    int status = zs_output_grid(d->dir, file, d->work, xs, cols, d->env->err);
    if (status == ZS_OK)
        status = zs_grid_from_float(&grid, d->work, (size_t)n, (int)xs.d[1], (int)xs.d[2],
                                    (int)xs.d[3], cols, zs_grid_zoom(xs.d[1]), d->env->err);
    if (status == ZS_OK)
        status = zs_page_image(&d->page, &grid, caption, d->env->err);
    zs_image_free(&grid);
    zs_strbuf_addf(d->env->text, "%s/%s: %s\n", d->dir, file, caption);
    return status;
}

/* ---- set up ---- */

static int open_images(zs_demo *d, const char *model, const char *images)
{
    zs_image_shape s;
    int status = zs_pipeline_image_shape(&s, d->m, model, d->env->err);
    if (status == ZS_OK)
        status = zs_images_open(&d->im, (const char *const[]){images}, 1, s, d->env->err);
    if (status == ZS_OK && zs_images_count(d->im) < ZS_DEMO_IMAGES)
        status = zs_fail(d->env->err, ZS_E_INVALID, "%s: fewer than %d images; reinstall zsem",
                         images, (int)ZS_DEMO_IMAGES);
    if (status < 0)
        return status;
    d->xs = zs_shape4(ZS_DEMO_IMAGES, s.size, s.size, s.channels);
    d->e = (size_t)zs_images_elements(d->im);
    d->dim = (size_t)zs_model_config_z_dim(zs_model_configuration(d->m));
    return ZS_OK;
}

static int open_all(zs_demo *d)
{
    char *model = NULL, *images = NULL;
    int status = zs_share_find(&model, "fashion32.safetensors", d->env->err);
    if (status == ZS_OK)
        status = zs_share_find(&images, "images", d->env->err);
    if (status == ZS_OK)
        status = zs_pipeline_open(&d->m, d->env, model, ZS_BOX_ENCODER, false);
    if (status == ZS_OK && (!zs_model_has(d->m, ZS_BOX_PRIOR) || !zs_model_probe(d->m)))
        status = zs_fail(d->env->err, ZS_E_INVALID, "%s: has no prior or no probe; reinstall zsem",
                         model);
    if (status == ZS_OK)
        status = open_images(d, model, images);
    zs_free(model);
    zs_free(images);
    return status;
}

static int allocate(zs_demo *d)
{
    d->x0 = zs_alloc(ZS_DEMO_IMAGES, d->e * sizeof(float));
    d->x_T = zs_alloc(ZS_DEMO_IMAGES, d->e * sizeof(float));
    d->z = zs_alloc(ZS_DEMO_IMAGES, d->dim * sizeof(float));
    d->work = zs_alloc(ZS_DEMO_MOST, d->e * sizeof(float));
    d->zw = zs_alloc(ZS_DEMO_MOST, d->dim * sizeof(float));
    if (d->x0 && d->x_T && d->z && d->work && d->zw)
        return ZS_OK;
    return zs_fail_nomem(d->env->err, ZS_DEMO_MOST * d->e * sizeof(float), "the demo");
}

/* ---- the tour ---- */

static int run_sections(zs_demo *d)
{
    int status = ZS_OK;
    zs_page_begin(&d->page, "zsem: images to codes and back");
    zs_page_paragraph(
        &d->page,
        "A diffusion autoencoder trained by zsem on Fashion-MNIST. Every picture below was made "
        "just now, on this machine; the real images were not trained on.");
    for (size_t i = 0; status == ZS_OK && i < sizeof sections / sizeof *sections; i++) {
        zs_page_heading(&d->page, sections[i].heading);
        status = sections[i].run(d);
    }
    return status;
}

static int write_page(zs_demo *d)
{
    char *path = zs_str_format("%s/index.html", d->dir);
    int status = path ? zs_page_write(&d->page, path, d->env->err)
                      : zs_fail_nomem(d->env->err, 64, "a name");
    if (status == ZS_OK) {
        zs_result_set(d->env, "page", zs_json_text(path));
        zs_strbuf_addf(d->env->text, "%s: all of it on one page\n", path);
    }
    zs_free(path);
    return status;
}

static void release(zs_demo *d)
{
    zs_page_free(&d->page);
    zs_free(d->x0);
    zs_free(d->x_T);
    zs_free(d->z);
    zs_free(d->work);
    zs_free(d->zw);
    zs_images_close(&d->im);
    zs_model_close(&d->m);
}

static int run(zs_task_env *env)
{
    zs_demo d = {.env = env, .dir = zs_opt_text(env, "out")};
    int status = zs_output_folder(d.dir, env->err);
    if (status == ZS_OK)
        status = open_all(&d);
    if (status == ZS_OK)
        status = zs_pipeline_check_steps(d.m, zs_opt_int(env, "steps"), env->err);
    if (status == ZS_OK)
        status = zs_pipeline_check_steps(d.m, zs_opt_int(env, "vary-steps"), env->err);
    if (status == ZS_OK)
        status = allocate(&d);
    if (status == ZS_OK)
        status = run_sections(&d);
    if (status == ZS_OK)
        status = write_page(&d);
    release(&d);
    return status;
}

static const zs_option options[] = {
    {"out", ZS_OPTION_TEXT, "DIR", "demo-out", 0, 0, "folder for index.html and the PNG files"},
    {"steps", ZS_OPTION_INT, "T", "100", 1, 1000000, "network calls where x_T is inverted"},
    {"vary-steps", ZS_OPTION_INT, "T", "20", 1, 1000000, "network calls where x_T is noise"},
    ZS_OPTIONS_END};

static const char *const examples[] = {"zsem demo", "zsem demo --out /tmp/demo --steps 50", NULL};

const zs_task zs_task_demo = {
    {"demo", "[--out DIR] [options]",
     "show what zsem does, with the model and images that come with it",
     "Reconstructs, varies, interpolates and edits real images, and draws new ones, freely and of\n"
     "a class: one HTML page and PNG grids.",
     0, 0, options, examples},
    run};
