/* SPDX-License-Identifier: MIT */
#include "metrics/inception_score.h"

#include <math.h>

/* p = softmax(x); returns the log of the sum of exponentials. */
static double softmax(double *p, const float *x, int64_t n)
{
    double most = -HUGE_VAL, sum = 0.0;
    for (int64_t i = 0; i < n; i++)
        most = (double)x[i] > most ? (double)x[i] : most;
    for (int64_t i = 0; i < n; i++)
        sum += p[i] = exp((double)x[i] - most);
    for (int64_t i = 0; i < n; i++)
        p[i] /= sum;
    return most + log(sum);
}

/* mean over rows of sum p log p, and the mean of p; the KL divergence is their difference. */
static double split_score(const float *logits, int64_t classes, const int64_t *order, int64_t begin,
                          int64_t end, double *p, double *mean)
{
    double entropy = 0.0, cross = 0.0, n = (double)(end - begin);
    for (int64_t j = 0; j < classes; j++)
        mean[j] = 0.0;
    for (int64_t i = begin; i < end; i++) {
        const float *x = logits + (order ? order[i] : i) * classes;
        double lse = softmax(p, x, classes);
        for (int64_t j = 0; j < classes; j++) {
            entropy += p[j] * ((double)x[j] - lse);
            mean[j] += p[j] / n;
        }
    }
    for (int64_t j = 0; j < classes; j++)
        cross += mean[j] > 0.0 ? mean[j] * log(mean[j]) : 0.0;
    return exp(entropy / n - cross);
}

int zs_inception_score(zs_score *out, const float *logits, int64_t classes, const int64_t *order,
                       const int64_t *edge, int splits, zs_error *err)
{
    double *p = zs_alloc((size_t)classes, 2 * sizeof *p), sum = 0.0, square = 0.0;
    int status =
        p ? ZS_OK : zs_fail_nomem(err, (size_t)classes * 2 * sizeof *p, "the Inception score");
    for (int s = 0; status == ZS_OK && s < splits; s++) {
        if (edge[s] >= edge[s + 1]) {
            status =
                zs_fail(err, ZS_E_INVALID,
                        "%lld images cannot be cut into %d splits for the Inception score; take "
                        "fewer splits or more images",
                        (long long)(edge[splits] - edge[0]), splits);
            break;
        }
        double v = split_score(logits, classes, order, edge[s], edge[s + 1], p, p + classes);
        if (!isfinite(v))
            status = zs_fail(err, ZS_E_NUMERIC,
                             "a class score is not a finite number; the images "
                             "or the network are damaged");
        sum += v;
        square += v * v;
    }
    zs_free(p);
    out->mean = sum / splits;
    out->std = sqrt(fmax(0.0, square / splits - out->mean * out->mean));
    return status;
}
