/* SPDX-License-Identifier: MIT */
/* Codes out of a prior, on their own or as an attribute wants them. */
#ifndef ZS_TASKS_DRAWCODES_H
#define ZS_TASKS_DRAWCODES_H

#include "tasks/attributes.h"

typedef struct zs_code_draw {
    zs_model *model; /* with a prior and statistics */
    int64_t steps;   /* of the prior's DDIM */
    double eta;      /* of the same */
    uint64_t seed;
    int64_t batch;       /* codes at once */
    int64_t cls;         /* of all codes, where the prior is told one; negative: each its own */
    zs_attr_list wanted; /* a code is kept with the probability that the probe gives it for these:
                            amount > 0 wants the attribute, else its absence. Empty: all are kept */
    const zs_ui *ui;
} zs_code_draw;

/* z [n,z_dim] = the first n codes that are kept, denormalised; *tried is how many were drawn. Code
 * i of a seed is the same whatever batch and n are. ZS_E_INVALID when hardly any is kept;
 * ZS_E_CANCELLED, ZS_E_NOMEM. */
int zs_draw_codes(float *z, int64_t *tried, int64_t n, const zs_code_draw *d, zs_error *err);

/* The class of each of n samples from `first` on: cls, or, when it is negative, one of 0..classes-1
 * that depends on seed and sample alone. */
void zs_draw_classes(int64_t *y, int64_t n, int64_t cls, int64_t classes, uint64_t seed,
                     int64_t first);

/* Classes that box can be asked for; 0 when it takes none. The last one of a network that was
 * trained with classes left out stands for none of them. */
int64_t zs_class_count(const zs_model *m, zs_box box);

#endif
