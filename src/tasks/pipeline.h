/* SPDX-License-Identifier: MIT */
/* Models and samplers put together: what reconstruct, vary, interpolate, apply and demo share. */
#ifndef ZS_TASKS_PIPELINE_H
#define ZS_TASKS_PIPELINE_H

#include "models/models.h"
#include "tasks/images.h"
#include "tasks/task.h"
#include "train/generate.h"

/* Rows that every task with a MODEL has in its option table. */
#define ZS_MODEL_OPTIONS                                                \
    {"batch",                                                           \
     ZS_OPTION_INT,                                                     \
     "N",                                                               \
     "16",                                                              \
     1,                                                                 \
     65536,                                                             \
     "images per run of a network: lower needs less memory"},           \
        {"set",                                                         \
         ZS_OPTION_LIST,                                                \
         "KEY=VALUE",                                                   \
         NULL,                                                          \
         0,                                                             \
         0,                                                             \
         "say what a file does not: image_size, channels, heads, ..."}, \
    {                                                                   \
        "raw", ZS_OPTION_FLAG, NULL, NULL, 0, 0,                        \
            "use the trained weights, not their moving average"         \
    }
#define ZS_OPTIONS_END                               \
    {                                                \
        NULL, ZS_OPTION_FLAG, NULL, NULL, 0, 0, NULL \
    }

/* Opens the MODEL of a command with its --device, --batch, --set and --raw options (those that the
 * task has); raw asks for raw weights whatever --raw says. `needs` names the box the command cannot
 * do without, or ZS_BOX_COUNT for none. */
int zs_pipeline_open(zs_model **m, zs_task_env *env, const char *spec, zs_box needs, bool raw);

/* As zs_pipeline_open, for a command that uses no other box: their weights are not read. */
int zs_pipeline_open_alone(zs_model **m, zs_task_env *env, const char *spec, zs_box box);

/* Fails unless m has an encoder and a generator; `what` it is for begins the sentence ("a
 * prior"). */
int zs_pipeline_need_autoencoder(const zs_model *m, const char *spec, const char *what,
                                 zs_error *err);

/* Fails unless the file says how large its images are. */
int zs_pipeline_image_shape(zs_image_shape *out, const zs_model *m, const char *spec,
                            zs_error *err);

/* The images of arguments 1, 2, ... of a command, at the model's size; *shape is filled in too. */
int zs_pipeline_images(zs_images **im, zs_image_shape *shape, zs_task_env *env, const zs_model *m);

/* A generator run by a sampler. */
typedef struct zs_pipeline {
    zs_model *m;
    int64_t steps; /* network calls, 1..T */
    const zs_ui *ui;
    const char *stage; /* for progress */
} zs_pipeline;

/* Fails when DDIM cannot make so many steps of the model's schedule; asked before folders are
 * made. */
int zs_pipeline_check_steps(zs_model *m, int64_t steps, zs_error *err);

/* Fails for generators of latents, which are not run backwards; `instead` is what to do. Asked
 * before folders are made. */
int zs_pipeline_check_inversion(const zs_model *m, const char *spec, const char *instead,
                                zs_error *err);

/* x_T -> x0 in place by DDIM with eta 0 (Diffusion Autoencoders, eq. 1); z [n,z_dim] or NULL.
 * x0 predictions are clamped to [-1,1] as the authors do. */
int zs_pipeline_decode(const zs_pipeline *p, float *x, zs_shape xs, const float *z, zs_error *err);

/* The same, and watch sees what x0 is predicted to be at each step. */
int zs_pipeline_decode_watched(const zs_pipeline *p, float *x, zs_shape xs, const float *z,
                               zs_watch_fn watch, void *watch_ctx, zs_error *err);

/* x0 -> x_T in place: the stochastic encoder (eq. 8). */
int zs_pipeline_invert(const zs_pipeline *p, float *x, zs_shape xs, const float *z, zs_error *err);

/* Both encoders at once: x0 [n,..] -> z (when the model has an encoder) and x_T in place. */
int zs_pipeline_analyse(const zs_pipeline *p, float *x, float *z, zs_shape xs, zs_error *err);

/* z = (1-a) za + a zb; x = spherical interpolation of the flattened xa, xb (paper, section 5.1). */
void zs_pipeline_lerp(float *z, const float *za, const float *zb, size_t n, double a);
void zs_pipeline_slerp(float *x, const float *xa, const float *xb, size_t n, double a);

/* Model range [-1,1] to [0,1], clamped. */
void zs_pipeline_unit(float *dst, const float *src, size_t n);

#endif
