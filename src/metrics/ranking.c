/* SPDX-License-Identifier: MIT */
#include "metrics/ranking.h"

#include <math.h>
#include <stdlib.h>

typedef struct sample {
    float score;
    bool positive;
} sample;

static int highest_first(const void *a, const void *b)
{
    float x = ((const sample *)a)->score, y = ((const sample *)b)->score;
    return (x < y) - (x > y);
}

/* Walks down the thresholds, one per distinct score. */
static void walk(zs_ranking *r, const sample *s, int64_t n)
{
    double wins = 0.0, precision = 0.0;
    int64_t tp = 0, fp = 0;
    for (int64_t i = 0, end; i < n; i = end) {
        int64_t p = 0;
        for (end = i; end < n && s[end].score == s[i].score; end++)
            p += s[end].positive;
        int64_t q = end - i - p;
        wins += (double)q * ((double)tp + 0.5 * (double)p);
        tp += p;
        fp += q;
        precision += (double)p * (double)tp / (double)(tp + fp);
    }
    r->auroc = wins / ((double)r->positives * (double)r->negatives);
    r->average_precision = precision / (double)r->positives;
}

int zs_ranking_measure(zs_ranking *out, const float *score, const int8_t *label, int64_t n,
                       const char *name, zs_error *err)
{
    sample *s = zs_alloc((size_t)n, sizeof *s);
    int64_t m = 0;
    int status = s ? ZS_OK : zs_fail_nomem(err, (size_t)n * sizeof *s, "scores");
    *out = (zs_ranking){0};
    for (int64_t i = 0; status == ZS_OK && i < n; i++) {
        if (label[i] < 0)
            continue;
        if (isnan(score[i]))
            status =
                zs_fail(err, ZS_E_NUMERIC, "%s: score %lld is not a number", name, (long long)i);
        out->positives += label[i] > 0;
        out->negatives += label[i] == 0;
        s[m++] = (sample){score[i], label[i] > 0};
    }
    if (status == ZS_OK && (!out->positives || !out->negatives))
        status = zs_fail(err, ZS_E_INVALID,
                         "%s: all %lld labels are %s; ranking needs samples of both kinds", name,
                         (long long)m, out->positives ? "positive" : "negative");
    if (status == ZS_OK) {
        qsort(s, (size_t)m, sizeof *s, highest_first);
        walk(out, s, m);
    }
    zs_free(s);
    return status;
}
