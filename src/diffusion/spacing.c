/* SPDX-License-Identifier: MIT */
#include "diffusion/spacing.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_PARTS = 64 };

/* Smallest stride >= 1 for which 0, stride, ... below total has exactly n members; 0 if none. */
static int64_t exact_stride(int64_t total, int64_t n)
{
    for (int64_t stride = 1; stride < total; stride++) {
        int64_t count = (total + stride - 1) / stride;
        if (count == n)
            return stride;
        if (count < n)
            break;
    }
    return total == n ? 1 : 0; /* total 1: range(1, 1) is empty, yet all of it is kept */
}

static int ddim_steps(int64_t *keep, int64_t *kept, int64_t total, int64_t n, zs_error *err)
{
    int64_t stride = n >= 1 ? exact_stride(total, n) : 0;
    if (!stride)
        return zs_fail(err, ZS_E_INVALID,
                       "%lld steps cannot be taken out of %lld with one whole stride: use a number "
                       "of steps such as 10, 20, 50 or 100",
                       (long long)n, (long long)total);
    for (int64_t i = 0; i < n; i++)
        keep[i] = i * stride;
    *kept = n;
    return ZS_OK;
}

static int ldm_steps(int64_t *keep, int64_t *kept, int64_t total, int64_t n, zs_error *err)
{
    int64_t stride = n >= 1 ? total / n : 0;
    if (stride < 1 || (total - 1) / stride * stride + 1 >= total)
        return zs_fail(err, ZS_E_INVALID,
                       "%lld steps of stride %lld from timestep 1 on run past the end of %lld: use "
                       "a number of steps such as 50, 100 or 250",
                       (long long)n, (long long)stride, (long long)total);
    for (int64_t t = 1; t < total; t += stride)
        keep[(*kept)++] = t;
    return ZS_OK;
}

/* Comma-separated counts; returns how many, or -1. */
static int parse_parts(int64_t part[MAX_PARTS], const char *spec)
{
    int n = 0;
    for (const char *p = spec;; p++) {
        const char *end = strchr(p, ',');
        size_t len = end ? (size_t)(end - p) : strlen(p);
        char digits[24];
        if (n == MAX_PARTS || len >= sizeof digits)
            return -1;
        memcpy(digits, p, len);
        digits[len] = '\0';
        if (!zs_str_to_i64(digits, &part[n]) || part[n] < 1)
            return -1;
        n++;
        if (!end)
            return n;
        p = end;
    }
}

static int even_steps(int64_t *keep, int64_t *kept, int64_t total, const char *spec, zs_error *err)
{
    int64_t part[MAX_PARTS], start = 0;
    int parts = parse_parts(part, spec);
    if (parts < 0)
        return zs_fail(err, ZS_E_INVALID,
                       "timestep spacing '%s' is not understood: use 'ddim20', '20' or '10,10,20'",
                       spec);
    for (int k = 0; k < parts; k++) {
        int64_t size = total / parts + (k < total % parts);
        if (part[k] > size)
            return zs_fail(err, ZS_E_INVALID,
                           "timestep spacing '%s' wants %lld of %lld steps: use fewer", spec,
                           (long long)part[k], (long long)size);
        double stride = part[k] > 1 ? (double)(size - 1) / (double)(part[k] - 1) : 1.0, at = 0.0;
        /* accumulated, and rounded half to even, as the original does it */
        for (int64_t i = 0; i < part[k]; i++, at += stride)
            keep[(*kept)++] = start + (int64_t)nearbyint(at);
        start += size;
    }
    return ZS_OK;
}

/* `below`: signal level below the first step. */
static int keep_steps(zs_schedule *out, const zs_schedule *full, const int64_t *keep, int64_t n,
                      double below, zs_error *err)
{
    int status = zs_schedule_alloc(out, n, err);
    if (status < 0)
        return status;
    for (int64_t i = 0; i < n; i++) {
        out->t[i] = full->t[keep[i]];
        out->abar[i] = full->abar[keep[i]];
    }
    zs_schedule_link(out);
    out->abar_prev[0] = below;
    for (int64_t i = 0; i < n; i++)
        out->beta[i] = 1.0 - out->abar[i] / out->abar_prev[i];
    return ZS_OK;
}

int zs_schedule_respace(zs_schedule *out, const zs_schedule *full, const char *spec, zs_error *err)
{
    memset(out, 0, sizeof *out);
    int64_t n = 0, kept = 0;
    int64_t *keep = zs_alloc((size_t)full->n, sizeof *keep);
    if (!keep)
        return zs_fail_nomem(err, (unsigned long long)full->n * 8, "timestep spacing");
    bool ldm = zs_str_starts(spec, "ldm") && zs_str_to_i64(spec + 3, &n);
    int status;
    if (ldm)
        status = ldm_steps(keep, &kept, full->n, n, err);
    else if (zs_str_starts(spec, "ddim") && zs_str_to_i64(spec + 4, &n))
        status = ddim_steps(keep, &kept, full->n, n, err);
    else
        status = even_steps(keep, &kept, full->n, spec, err);
    if (status == ZS_OK)
        status = keep_steps(out, full, keep, kept, ldm ? full->abar[0] : 1.0, err);
    zs_free(keep);
    return status;
}
