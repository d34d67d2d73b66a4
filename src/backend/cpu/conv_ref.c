/* SPDX-License-Identifier: MIT */
#include "backend/cpu/conv.h"

#include <string.h>

/* Channels are handled in blocks of this many double accumulators. */
enum { BLOCK = 16 };

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* acc[j] = sum over the patch of x around y[n,oy,ox] times w[:,:,:,o0+j], j < nb. */
static void patch_dot(double acc[BLOCK], const zs_conv *s, const float *x, const float *w,
                      const int64_t at[3], int64_t o0, int64_t nb)
{
    memset(acc, 0, BLOCK * sizeof *acc);
    for (int ky = 0; ky < s->k; ky++) {
        for (int kx = 0; kx < s->k; kx++) {
            int64_t iy = at[1] * s->stride + ky - s->pad, ix = at[2] * s->stride + kx - s->pad;
            if (iy < 0 || iy >= s->h || ix < 0 || ix >= s->w)
                continue;
            const float *xp = x + ((at[0] * s->h + iy) * s->w + ix) * s->c;
            const float *wp = w + (ky * s->k + kx) * s->c * s->o + o0;
            for (int64_t c = 0; c < s->c; c++)
                for (int64_t j = 0; j < nb; j++)
                    acc[j] += (double)xp[c] * (double)wp[c * s->o + j];
        }
    }
}

/* x[N,H,W,C] w[k,k,C,O] [b[O]] [r[N,H',W',O]] -> y[N,H',W',O], rows [begin, end) of N*H'*W'. */
static void conv2d_rows(const zs_call *call, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    zs_conv s = zs_conv_fwd(call);
    const float *b = call->in[2].p, *r = call->in[3].p;
    for (int64_t p = begin; p < end; p++) {
        const int64_t at[3] = {p / (s.yh * s.yw), p / s.yw % s.yh, p % s.yw};
        for (int64_t o = 0; o < s.o; o += BLOCK) {
            double acc[BLOCK];
            int64_t nb = min64(BLOCK, s.o - o), y = p * s.o + o;
            patch_dot(acc, &s, call->in[0].p, call->in[1].p, at, o, nb);
            for (int64_t j = 0; j < nb; j++)
                call->out[0].p[y + j] =
                    (float)(acc[j] + (b ? (double)b[o + j] : 0.0) + (r ? (double)r[y + j] : 0.0));
        }
    }
}

static void conv2d(const zs_call *c)
{
    zs_cpu_for(c, zs_shape_rows(&c->out[0].s), 64, conv2d_rows);
}

const zs_kernel zs_ref_conv2d = {conv2d, NULL};

/* Sum over every (ky,kx) and o for which x[n,iy,ix,c] was read by y[n,oy,ox,o]. */
static double dx_dot(const zs_conv *s, const float *dy, const float *w, const int64_t at[3],
                     int64_t c)
{
    double sum = 0;
    for (int ky = 0; ky < s->k; ky++) {
        for (int kx = 0; kx < s->k; kx++) {
            int64_t ty = at[1] + s->pad - ky, tx = at[2] + s->pad - kx;
            if (ty < 0 || tx < 0 || ty % s->stride || tx % s->stride)
                continue;
            int64_t oy = ty / s->stride, ox = tx / s->stride;
            if (oy >= s->yh || ox >= s->yw)
                continue;
            const float *yp = dy + ((at[0] * s->yh + oy) * s->yw + ox) * s->o;
            const float *wp = w + ((ky * s->k + kx) * s->c + c) * s->o;
            for (int64_t o = 0; o < s->o; o++)
                sum += (double)yp[o] * (double)wp[o];
        }
    }
    return sum;
}

/* dy[N,H',W',O] w[k,k,C,O] -> dx[N,H,W,C], rows [begin, end) of N*H*W. */
static void conv2d_dx_rows(const zs_call *call, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    zs_conv s = zs_conv_dx(call);
    for (int64_t p = begin; p < end; p++) {
        const int64_t at[3] = {p / (s.h * s.w), p / s.w % s.h, p % s.w};
        for (int64_t c = 0; c < s.c; c++)
            call->out[0].p[p * s.c + c] = (float)dx_dot(&s, call->in[0].p, call->in[1].p, at, c);
    }
}

static void conv2d_dx(const zs_call *c)
{
    zs_cpu_for(c, zs_shape_rows(&c->out[0].s), 64, conv2d_dx_rows);
}

const zs_kernel zs_ref_conv2d_dx = {conv2d_dx, NULL};

/* acc[j] = sum over all pixels of x[..,c] at offset (ky,kx) times dy[..,o0+j], j < nb. */
static void pixel_dot(double acc[BLOCK], const zs_call *call, const zs_conv *s,
                      const int64_t tap[3], int64_t o0, int64_t nb)
{
    const float *x = call->in[0].p, *dy = call->in[1].p;
    memset(acc, 0, BLOCK * sizeof *acc);
    for (int64_t p = 0; p < s->n * s->yh * s->yw; p++) {
        int64_t n = p / (s->yh * s->yw), oy = p / s->yw % s->yh, ox = p % s->yw;
        int64_t iy = oy * s->stride + tap[0] - s->pad, ix = ox * s->stride + tap[1] - s->pad;
        if (iy < 0 || iy >= s->h || ix < 0 || ix >= s->w)
            continue;
        double v = (double)x[((n * s->h + iy) * s->w + ix) * s->c + tap[2]];
        for (int64_t j = 0; j < nb; j++)
            acc[j] += v * (double)dy[p * s->o + o0 + j];
    }
}

/* x[N,H,W,C] dy[N,H',W',O] -> dw[k,k,C,O] +=, rows [begin, end) of k*k*C. */
static void conv2d_dw_rows(const zs_call *call, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    zs_conv s = zs_conv_dw(call);
    for (int64_t i = begin; i < end; i++) {
        const int64_t tap[3] = {i / s.c / s.k, i / s.c % s.k, i % s.c};
        for (int64_t o = 0; o < s.o; o += BLOCK) {
            double acc[BLOCK];
            int64_t nb = min64(BLOCK, s.o - o);
            pixel_dot(acc, call, &s, tap, o, nb);
            for (int64_t j = 0; j < nb; j++)
                call->out[0].p[i * s.o + o + j] += (float)acc[j];
        }
    }
}

/* dy[N,H',W',O] -> db[O] +=. */
static void conv2d_db(const zs_call *c)
{
    const zs_view *dy = &c->in[1];
    int64_t rows = zs_shape_rows(&dy->s), o = zs_shape_last(&dy->s);
    for (int64_t j = 0; j < o; j++) {
        double sum = 0;
        for (int64_t i = 0; i < rows; i++)
            sum += (double)dy->p[i * o + j];
        c->out[1].p[j] += (float)sum;
    }
}

static void conv2d_dw(const zs_call *c)
{
    zs_cpu_for(c, zs_shape_rows(&c->out[0].s), 4, conv2d_dw_rows);
    if (c->out[1].p)
        conv2d_db(c);
}

const zs_kernel zs_ref_conv2d_dw = {conv2d_dw, NULL};
