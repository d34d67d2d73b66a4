/* SPDX-License-Identifier: MIT */
/* Every operation case with the CUDA kernels, which run on the processor (host.h), against the
 * reference: in f32 and in bf16, with aligned and unaligned tensors, in several orders of blocks
 * and threads. */
#include "backend/cuda/kernels.h"
#include "tests/cuda_host/host.h"
#include "tests/ops/cases.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#endif
#endif
#ifndef ASAN_POISON_MEMORY_REGION
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

/* Convolutions, products and attention are the libraries'. */
static const zs_kernel *kernel_of(zs_op op)
{
    switch (op) {
#define HAVE(NAME, name) \
    case ZS_OP_##NAME: return &zs_cuda_##name;
        HAVE(GN_ACT, gn_act)
        HAVE(GN_ACT_BWD, gn_act_bwd)
        HAVE(LAYERNORM, layernorm)
        HAVE(LAYERNORM_BWD, layernorm_bwd)
        HAVE(GATE, gate)
        HAVE(GATE_BWD, gate_bwd)
        HAVE(SILU, silu)
        HAVE(SILU_BWD, silu_bwd)
        HAVE(GELU, gelu)
        HAVE(GELU_BWD, gelu_bwd)
        HAVE(ADD, add)
        HAVE(SCALE1P, scale1p)
        HAVE(SCALE1P_BWD, scale1p_bwd)
        HAVE(TOKENS, tokens)
        HAVE(TOKENS_BWD, tokens_bwd)
        HAVE(TAKE_ROW, take_row)
        HAVE(TAKE_ROW_BWD, take_row_bwd)
        HAVE(BATCHNORM, batchnorm)
        HAVE(UPSAMPLE2, upsample2)
        HAVE(DOWNSAMPLE2, downsample2)
        HAVE(CONCAT, concat)
        HAVE(SLICE, slice)
        HAVE(MEAN_HW, mean_hw)
        HAVE(BROADCAST_HW, broadcast_hw)
        HAVE(TIMESTEP, timestep)
        HAVE(EMBED, embed)
        HAVE(EMBED_BWD, embed_bwd)
        HAVE(PATCHES, patches)
        HAVE(UNPATCH, unpatch)
        HAVE(SUBSTITUTE, substitute)
        HAVE(SUBSTITUTE_BWD, substitute_bwd)
        HAVE(DROPOUT, dropout)
        HAVE(LOSS, loss)
        HAVE(LOSS_BWD, loss_bwd)
        HAVE(LOSS_VLB, loss_vlb)
        HAVE(LOSS_VLB_BWD, loss_vlb_bwd)
        HAVE(ACCUMULATE, accumulate)
        HAVE(POOL, pool)
#undef HAVE
    default: return NULL;
    }
}

/* ---- memory of the imagined device: tensors between guards of NaN that nobody may touch ---- */

enum { GUARD = 64, BYTE = 0xFF };

typedef struct lent {
    unsigned char *base; /* GUARD bytes, `shift` of them a part of the tensor's misplacement */
    void *p;
    size_t bytes, shift;
} lent;

static void *lent_new(lent *l, size_t bytes, size_t shift)
{
    l->base = aligned_alloc(64, (2 * GUARD + shift + bytes + 63) / 64 * 64);
    assert_non_null(l->base);
    l->p = l->base + GUARD + shift;
    l->bytes = bytes;
    l->shift = shift;
    memset(l->base, BYTE, 2 * GUARD + shift + bytes);
    ASAN_POISON_MEMORY_REGION(l->base, GUARD + shift);
    ASAN_POISON_MEMORY_REGION((unsigned char *)l->p + bytes, GUARD);
    return l->p;
}

static bool lent_intact(const lent *l)
{
    ASAN_UNPOISON_MEMORY_REGION(l->base, 2 * GUARD + l->shift + l->bytes);
    for (size_t i = 0; i < GUARD + l->shift; i++)
        if (l->base[i] != BYTE)
            return false;
    for (size_t i = 0; i < GUARD; i++)
        if (((unsigned char *)l->p)[l->bytes + i] != BYTE)
            return false;
    return true;
}

static void lent_free(lent *l)
{
    if (l->base)
        ASAN_UNPOISON_MEMORY_REGION(l->base, 2 * GUARD + l->shift + l->bytes);
    free(l->base);
    *l = (lent){0};
}

/* ---- one case ---- */

/* How to run it. */
typedef struct way {
    zs_dtype act; /* of activations */
    size_t shift; /* elements by which tensors miss 16-byte alignment */
    zs_host_order order;
} way;

typedef struct device {
    lent in[ZS_MAX_IN], out[ZS_MAX_OUT], ws, step;
    zs_call call;
} device;

static zs_dtype type_of(zs_slot slot, const way *w)
{
    return slot == ZS_SLOT_F32 ? ZS_F32 : w->act;
}

static size_t count(const zs_shape *s)
{
    return s->nd ? (size_t)zs_shape_numel(s) : 0;
}

static void lend(lent *l, zs_view *v, const float *from, const zs_shape *s, zs_dtype type,
                 const way *w)
{
    if (!from)
        return;
    size_t n = count(s), size = zs_dtype_size(type);
    *v = (zs_view){.p = lent_new(l, n * size, w->shift * size), .s = *s, .type = type};
    if (type == ZS_F32)
        memcpy(l->p, from, n * size);
    else
        zs_dtype_from_f32(l->p, type, from, n);
}

/* Inputs and outputs as they are in d. */
static void device_new(device *g, const op_data *d, const way *w)
{
    const op_case *c = d->c;
    memset(g, 0, sizeof *g);
    g->call.a = &c->a;
    g->call.threads = 1;
    for (int i = 0; i < zs_op_inputs(c->op); i++)
        lend(&g->in[i], &g->call.in[i], d->in[i], &c->in[i], type_of(zs_op_in(c->op, i), w), w);
    for (int i = 0; i < zs_op_outputs(c->op); i++)
        lend(&g->out[i], &g->call.out[i], d->out[i], &c->out[i], type_of(zs_op_out(c->op, i), w),
             w);
}

static void device_free(device *g)
{
    for (int i = 0; i < ZS_MAX_IN; i++)
        lent_free(&g->in[i]);
    for (int i = 0; i < ZS_MAX_OUT; i++)
        lent_free(&g->out[i]);
    lent_free(&g->ws);
    lent_free(&g->step);
}

/* The numbers of the step arrive after the work was queued, as in a recorded run. */
static bool device_run(device *g, const op_data *d, const way *w)
{
    const zs_kernel *k = kernel_of(d->c->op);
    zs_call *c = &g->call;
    c->ws = lent_new(&g->ws, k->workspace ? k->workspace(c) : 0, 0);
    c->step = lent_new(&g->step, sizeof d->step, 0);
    k->run(c);
    memcpy(g->step.p, &d->step, sizeof d->step);
    return zs_host_run(w->order) > 0;
}

static bool guards_hold(const device *g, const op_case *c)
{
    bool ok = lent_intact(&g->step);
    for (int i = 0; i < ZS_MAX_IN; i++)
        ok = ok && (!g->in[i].p || lent_intact(&g->in[i]));
    for (int i = 0; i < ZS_MAX_OUT; i++)
        ok = ok && (!g->out[i].p || lent_intact(&g->out[i]));
    ok = ok && lent_intact(&g->ws);
    if (!ok)
        print_error("%s wrote outside of a tensor or its workspace\n", c->name);
    return ok;
}

static float element(const zs_view *v, size_t i)
{
    return v->type == ZS_F32 ? v->p[i] : zs_bf16_to_f32(((const uint16_t *)(const void *)v->p)[i]);
}

/* Arithmetic is in f32 either way and inputs are the same, so that of bf16 there is only the last
 * rounding: to 8 bits, which is at most 2^-8 of the result. */
static bool agrees(const op_case *c, int slot, const zs_view *a, const float *r)
{
    size_t n = count(&a->s);
    double square = 0, tol = op_tolerance(c), last = a->type == ZS_BF16 ? 0x1p-8 : 0;
    for (size_t i = 0; i < n; i++)
        square += (double)r[i] * (double)r[i];
    double rms = sqrt(square / (double)n);
    for (size_t i = 0; i < n; i++) {
        double want = (double)r[i], error = fabs((double)element(a, i) - want);
        if (error <= (tol + last) * fabs(want) + tol * rms + c->slack) /* false for NaN */
            continue;
        if (isnan(r[i]) && isnan(element(a, i)))
            continue;
        print_error("%s (%s), output %d, element %zu: %.9g, reference %.9g (rms %.3g)\n", c->name,
                    zs_dtype_name(a->type), slot, i, (double)element(a, i), want, rms);
        return false;
    }
    return true;
}

static bool same_inputs(const device *g, const op_data *d)
{
    for (int i = 0; i < ZS_MAX_IN; i++)
        for (size_t e = 0; d->in[i] && e < count(&d->c->in[i]); e++)
            if (element(&g->call.in[i], e) != d->in[i][e]) {
                print_error("%s changed input %d\n", d->c->name, i);
                return false;
            }
    return true;
}

static bool same_bits(const device *a, const device *b, const op_case *c)
{
    for (int i = 0; i < ZS_MAX_OUT; i++)
        if (a->out[i].p && memcmp(a->out[i].p, b->out[i].p, a->out[i].bytes) != 0) {
            print_error("%s, output %d: other bits in another order of blocks or threads\n",
                        c->name, i);
            return false;
        }
    return true;
}

static void run_nothing(const zs_call *c)
{
    (void)c;
}

static const zs_kernel *no_kernel(zs_op op)
{
    static const zs_kernel k = {run_nothing, NULL};
    (void)op;
    return &k;
}

/* d->in rounded to what the device holds. */
static void round_inputs(op_data *d, const way *w)
{
    for (int i = 0; i < zs_op_inputs(d->c->op); i++)
        if (d->in[i] && type_of(zs_op_in(d->c->op, i), w) == ZS_BF16)
            for (size_t e = 0; e < count(&d->c->in[i]); e++)
                d->in[i][e] = zs_bf16_to_f32(zs_f32_to_bf16(d->in[i][e]));
}

/* All orders; false if something is wrong with the case in type `act`. */
static bool case_holds(const op_case *c, zs_dtype act, size_t shift)
{
    static const zs_backend nothing = {.name = "nothing", .kernel = no_kernel};
    device g[ZS_HOST_ORDERS];
    op_data d;
    bool ok = true;
    way w = {act, shift, ZS_HOST_FORWARD};
    assert_true(op_data_new(&d, c));
    round_inputs(&d, &w);
    assert_true(op_run(&d, &nothing)); /* outputs are as they shall be before */
    for (int k = 0; k < ZS_HOST_ORDERS; k++)
        device_new(&g[k], &d, &w);
    assert_true(op_run(&d, zs_backend_find("cpu-ref")));
    for (int k = 0; k < ZS_HOST_ORDERS && ok; k++) {
        w.order = (zs_host_order)k;
        ok = device_run(&g[k], &d, &w) && guards_hold(&g[k], c) && same_inputs(&g[k], &d) &&
             (k == 0 || same_bits(&g[k], &g[0], c));
    }
    for (int i = 0; i < ZS_MAX_OUT && ok; i++)
        ok = !d.out[i] || agrees(c, i, &g[0].call.out[i], d.out[i]);
    for (int k = 0; k < ZS_HOST_ORDERS; k++)
        device_free(&g[k]);
    op_data_free(&d);
    return ok;
}

/* Losses: they have but one way to run. */
static bool all_f32(zs_op op)
{
    for (int i = 0; i < zs_op_inputs(op); i++)
        if (zs_op_in(op, i) != ZS_SLOT_F32)
            return false;
    return zs_op_out(op, 0) == ZS_SLOT_F32;
}

static void run_cases(zs_dtype act, size_t shift)
{
    size_t n, failed = 0, done = 0;
    const op_case *cases = op_cases(&n);
    for (size_t i = 0; i < n; i++) {
        if (cases[i].bench || !kernel_of(cases[i].op))
            continue;
        if (all_f32(cases[i].op) && (act != ZS_F32 || shift > 0))
            continue;
        failed += !case_holds(&cases[i], act, shift);
        done++;
    }
    print_message("%zu cases in %s\n", done, zs_dtype_name(act));
    assert_int_equal(failed, 0);
    assert_true(done > 0);
}

static void test_f32(void **state)
{
    (void)state;
    run_cases(ZS_F32, 0);
}

static void test_bf16(void **state)
{
    (void)state;
    run_cases(ZS_BF16, 0);
}

static void test_f32_unaligned(void **state)
{
    (void)state;
    run_cases(ZS_F32, 1);
}

static void test_bf16_unaligned(void **state)
{
    (void)state;
    run_cases(ZS_BF16, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_f32_unaligned),
        cmocka_unit_test(test_bf16_unaligned),
    };
    return cmocka_run_group_tests_name("cuda_host", tests, NULL, NULL);
}
