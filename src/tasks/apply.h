/* SPDX-License-Identifier: MIT */
/* The parts of zsem apply: what its functions share, and the functions, a file per box. */
#ifndef ZS_TASKS_APPLY_H
#define ZS_TASKS_APPLY_H

#include "tasks/pipeline.h"

typedef struct zs_apply {
    zs_task_env *env;
    zs_model *m;
    zs_tensorfile *in;
    zs_tensorout *out; /* data owned */
    size_t n_out, cap_out;
    char **names; /* owned copies of output names that are made on the way */
    size_t n_names, cap_names;
} zs_apply;

typedef struct zs_apply_tensor {
    zs_shape s; /* NHWC of images, else as in the file */
    float *p;   /* owned, zs_free; likewise */
} zs_apply_tensor;

/* The input file, for messages. */
const char *zs_apply_path(const zs_apply *a);

/* Tensor `name` of nd dimensions, as it is. ZS_E_INVALID when there is none. */
int zs_apply_floats(const zs_apply *a, zs_apply_tensor *t, const char *name, int nd);

/* Images [N,C,H,W] as NHWC. */
int zs_apply_images(const zs_apply *a, zs_apply_tensor *t, const char *name);

/* "t" [n], whole and inside the schedule of the box; owned, zs_free. */
int zs_apply_timesteps(const zs_apply *a, int64_t **t, int64_t n, zs_box box);

/* "y" [n], classes; owned, zs_free. */
int zs_apply_classes(const zs_apply *a, int64_t **y, int64_t n);

/* What the generator is told of each of n samples: "rep" or "z_sem" [n,z_dim] when it takes
 * representations, "y" [n] when it takes classes. */
typedef struct zs_apply_cond {
    zs_apply_tensor z;
    int64_t *y;
} zs_apply_cond;
int zs_apply_cond_read(const zs_apply *a, zs_apply_cond *c, int64_t n);
void zs_apply_cond_free(zs_apply_cond *c);

/* "noise" [steps,n,...] for samples of shape s (NHWC images or [n,dim] codes), in the engine's
 * order; owned, zs_free. NULL, and ZS_OK, when the file has none. */
int zs_apply_noise(const zs_apply *a, float **noise, int64_t steps, zs_shape s);

/* Representations [n,z_dim] or [n,z_dim,1,1] of any number. */
int zs_apply_codes(const zs_apply *a, zs_apply_tensor *z, const char *name);

/* Adds an output. put takes data (from zs_alloc) over, the others copy; name outlives the write. */
int zs_apply_put(zs_apply *a, const char *name, int nd, const int64_t *shape, float *data);
int zs_apply_put_images(zs_apply *a, const char *name, const float *x, zs_shape s);
int zs_apply_put_codes(zs_apply *a, const char *name, const zs_apply_tensor *z);

int zs_apply_encode(zs_apply *a);
int zs_apply_eps(zs_apply *a);
int zs_apply_decode(zs_apply *a);
int zs_apply_invert(zs_apply *a);
int zs_apply_sample(zs_apply *a);
int zs_apply_prior_eps(zs_apply *a);
int zs_apply_prior_sample(zs_apply *a);
int zs_apply_to_latents(zs_apply *a);
int zs_apply_from_latents(zs_apply *a);
int zs_apply_probe(zs_apply *a);
int zs_apply_edit(zs_apply *a);
int zs_apply_grad(zs_apply *a);

#endif
