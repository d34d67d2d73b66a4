/* SPDX-License-Identifier: MIT */
/* What the sections of zsem demo share. A section draws pictures, writes them as PNG and adds them
 * to the page; the list of sections is in demo.c. */
#ifndef ZS_TASKS_DEMO_H
#define ZS_TASKS_DEMO_H

#include "io/page.h"
#include "tasks/pipeline.h"

/* Real images, and the most that a section draws at once. */
enum { ZS_DEMO_IMAGES = 12, ZS_DEMO_MOST = 3 * ZS_DEMO_IMAGES };

typedef struct zs_demo {
    zs_task_env *env;
    zs_model *m; /* encoder, generator, prior and probe */
    zs_images *im;
    zs_page page;
    const char *dir;
    zs_shape xs;      /* of ZS_DEMO_IMAGES images */
    size_t e, dim;    /* floats of an image, of a code */
    float *x0;        /* [ZS_DEMO_IMAGES] real images; */
    float *x_T, *z;   /* their inverted noise and their codes: set by the first section */
    float *work, *zw; /* [ZS_DEMO_MOST] images and codes of the section that runs */
} zs_demo;

typedef struct zs_demo_section {
    const char *heading;
    int (*run)(zs_demo *d);
} zs_demo_section;

/* What real images hold: demo_images.c. */
int zs_demo_reconstruct(zs_demo *d);
int zs_demo_vary(zs_demo *d);
int zs_demo_interpolate(zs_demo *d);

/* What codes are good for: demo_codes.c. */
int zs_demo_edit(zs_demo *d);
int zs_demo_sample(zs_demo *d);
int zs_demo_classes(zs_demo *d);

/* The demo's model with the number of steps that `option` holds. */
zs_pipeline zs_demo_pipeline(const zs_demo *d, const char *option, const char *stage);

/* The shape of n images. */
zs_shape zs_demo_shape(const zs_demo *d, int64_t n);

/* The first n of d->work as dir/file, rows of `cols`, and on the page above its caption. */
int zs_demo_show(zs_demo *d, const char *file, int64_t n, int cols, const char *caption);

#endif
