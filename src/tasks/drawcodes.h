/* SPDX-License-Identifier: MIT */
/* Codes out of a prior, on their own or as an attribute wants them. */
#ifndef ZS_TASKS_DRAWCODES_H
#define ZS_TASKS_DRAWCODES_H

#include "tasks/attributes.h"

typedef struct zs_code_draw {
    zs_model *model; /* with a prior and statistics */
    int64_t steps;   /* of the prior's DDIM */
    uint64_t seed;
    int64_t batch;       /* codes at once */
    zs_attr_list wanted; /* a code is kept with the probability that the probe gives it for these:
                            amount > 0 wants the attribute, else its absence. Empty: all are kept */
    const zs_ui *ui;
} zs_code_draw;

/* z [n,z_dim] = the first n codes that are kept, denormalised; *tried is how many were drawn. Code
 * i of a seed is the same whatever batch and n are. ZS_E_INVALID when hardly any is kept;
 * ZS_E_CANCELLED, ZS_E_NOMEM. */
int zs_draw_codes(float *z, int64_t *tried, int64_t n, const zs_code_draw *d, zs_error *err);

#endif
