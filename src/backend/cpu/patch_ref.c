/* SPDX-License-Identifier: MIT */
/* Squares of pixels as tokens and back; rows in place of others. */
#include "backend/cpu/cpu.h"

#include <string.h>

/* Copies rows of pixels [begin, end) of N*h*k between image and tokens: in both, one row of one
 * patch is a run of k*C floats. */
static void copy_rows(const zs_call *c, int64_t begin, int64_t end, bool to_tokens)
{
    const zs_view *image = to_tokens ? &c->in[0] : &c->out[0];
    int64_t k = c->a->k, w = c->a->w, run = k * image->s.d[3], token = k * run;
    for (int64_t y = begin; y < end; y++) {
        for (int64_t x = 0; x < w; x++) {
            int64_t pixel = (y * w + x) * run, at = (y / k * w + x) * token + y % k * run;
            memcpy(c->out[0].p + (to_tokens ? at : pixel), c->in[0].p + (to_tokens ? pixel : at),
                   (size_t)run * sizeof(float));
        }
    }
}

static void patches_rows(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    copy_rows(c, begin, end, true);
}

static void unpatch_rows(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    copy_rows(c, begin, end, false);
}

/* x[N,h*k,w*k,C] -> y[N,h*w,k*k*C]. */
static void patches(const zs_call *c)
{
    zs_cpu_for(c, c->in[0].s.d[0] * c->in[0].s.d[1], 64, patches_rows);
}

/* y[N,h*w,k*k*C] -> x[N,h*k,w*k,C]. */
static void unpatch(const zs_call *c)
{
    zs_cpu_for(c, c->out[0].s.d[0] * c->out[0].s.d[1], 64, unpatch_rows);
}

const zs_kernel zs_ref_patches = {patches, NULL};
const zs_kernel zs_ref_unpatch = {unpatch, NULL};

/* x[N,C] row[1,C] mask[N] -> y[N,C]. */
static void substitute(const zs_call *c)
{
    int64_t n = c->in[0].s.d[0], ch = c->in[0].s.d[1];
    for (int64_t i = 0; i < n; i++) {
        const float *from = c->in[2].p[i] != 0.0f ? c->in[1].p : c->in[0].p + i * ch;
        memcpy(c->out[0].p + i * ch, from, (size_t)ch * sizeof *from);
    }
}

/* mask[N] dy[N,C] -> [dx[N,C]] drow[1,C] +=. */
static void substitute_bwd(const zs_call *c)
{
    int64_t n = c->in[1].s.d[0], ch = c->in[1].s.d[1];
    const float *mask = c->in[0].p, *dy = c->in[1].p;
    for (int64_t i = 0; c->out[0].p && i < n * ch; i++)
        c->out[0].p[i] = mask[i / ch] != 0.0f ? 0.0f : dy[i];
    for (int64_t j = 0; c->out[1].p && j < ch; j++) {
        double sum = 0;
        for (int64_t i = 0; i < n; i++)
            sum += mask[i] != 0.0f ? (double)dy[i * ch + j] : 0.0;
        c->out[1].p[j] += (float)sum;
    }
}

const zs_kernel zs_ref_substitute = {substitute, NULL};
const zs_kernel zs_ref_substitute_bwd = {substitute_bwd, NULL};
