/* SPDX-License-Identifier: MIT */
#ifndef ZS_METRICS_INCEPTION_SCORE_H
#define ZS_METRICS_INCEPTION_SCORE_H

#include "base/base.h"

typedef struct zs_score {
    double mean, std; /* over the splits; population deviation */
} zs_score;

/* Inception score (Salimans et al. 2016): exp of the mean KL divergence of softmax(logits[i]) from
 * its mean over a split. logits[n,classes]; split s is rows order[edge[s]] .. order[edge[s+1]-1],
 * order NULL for the order of the rows; edge has splits+1 entries. ZS_E_NOMEM; ZS_E_INVALID for an
 * empty split; ZS_E_NUMERIC when a logit is not finite. */
int zs_inception_score(zs_score *out, const float *logits, int64_t classes, const int64_t *order,
                       const int64_t *edge, int splits, zs_error *err);

#endif
