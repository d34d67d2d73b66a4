/* SPDX-License-Identifier: MIT */
#ifndef ZS_METRICS_RANKING_H
#define ZS_METRICS_RANKING_H

#include "base/base.h"

typedef struct zs_ranking {
    double auroc;             /* chance that a positive scores above a negative; ties count half */
    double average_precision; /* sum over thresholds of (recall step) * precision; equal scores are
                                 one threshold, as scikit-learn does */
    int64_t positives, negatives;
} zs_ranking;

/* How well score[n] separates label 1 from label 0; a negative label is unknown and skipped.
 * ZS_E_INVALID when one of the two does not occur; ZS_E_NUMERIC when a score is NaN; both start
 * with `name`. ZS_E_NOMEM. */
int zs_ranking_measure(zs_ranking *out, const float *score, const int8_t *label, int64_t n,
                       const char *name, zs_error *err);

#endif
