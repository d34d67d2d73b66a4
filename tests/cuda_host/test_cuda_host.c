/* SPDX-License-Identifier: MIT */
/* Every operation case with the CUDA kernels, which run on the processor (host.h), against the
 * reference: in f32 and in bf16, with aligned and unaligned tensors, in several orders of blocks
 * and threads. */
#include "backend/cuda/kernels.h"
#include "tests/cuda_host/host.h"
#include "tests/cuda_host/lent.h"
#include "tests/ops/cases.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

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

/* Rows of classes have a warp each, and the table has thousands: one order, where sanitizers make
 * every shuffle a system call. */
#if defined(__SANITIZE_ADDRESS__)
enum { SANITIZED = 1 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif
#else
enum { SANITIZED = 0 };
#endif

static int orders_of(const op_case *c)
{
    return SANITIZED && (c->op == ZS_OP_LOSS || c->op == ZS_OP_LOSS_BWD) ? 1 : ZS_HOST_ORDERS;
}

static int64_t first_sample = -1; /* of the step batch, unless it is the usual one */

/* All orders; false if something is wrong with the case in type `act`. */
static bool case_holds(const op_case *c, zs_dtype act, size_t shift)
{
    static const zs_backend nothing = {.name = "nothing", .kernel = no_kernel};
    device g[ZS_HOST_ORDERS];
    op_data d;
    bool ok = true;
    way w = {act, shift, ZS_HOST_FORWARD};
    assert_true(op_data_new(&d, c));
    d.step.sample = first_sample < 0 ? d.step.sample : first_sample;
    round_inputs(&d, &w);
    assert_true(op_run(&d, &nothing)); /* outputs are as they shall be before */
    for (int k = 0; k < ZS_HOST_ORDERS; k++)
        device_new(&g[k], &d, &w);
    assert_true(op_run(&d, zs_backend_find("cpu-ref")));
    for (int k = 0; k < orders_of(c) && ok; k++) {
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

/* What the table has no vectors for: channels that are multiples of eight, more than a block is
 * wide, ranges of them that are not. */
#define S2(a, b)       \
    {                  \
        2,             \
        {              \
            a, b, 1, 1 \
        }              \
    }
#define S3(a, b, c)    \
    {                  \
        3,             \
        {              \
            a, b, c, 1 \
        }              \
    }
#define S4(a, b, c, d) \
    {                  \
        4,             \
        {              \
            a, b, c, d \
        }              \
    }

static const op_case wide_cases[] = {
    {.name = "concat 8 16",
     .op = ZS_OP_CONCAT,
     .in = {S4(2, 3, 5, 8), S4(2, 3, 5, 16)},
     .out = {S4(2, 3, 5, 24)}},
    {.name = "concat 8 4", .op = ZS_OP_CONCAT, .in = {S2(7, 8), S2(7, 4)}, .out = {S2(7, 12)}},
    {.name = "slice 8..24",
     .op = ZS_OP_SLICE,
     .a = {.offset = 8, .len = 16},
     .in = {S2(9, 40)},
     .out = {S2(9, 16)}},
    {.name = "slice 4..20",
     .op = ZS_OP_SLICE,
     .a = {.offset = 4, .len = 16},
     .in = {S2(9, 40)},
     .out = {S2(9, 16)}},
    {.name = "upsample2 16",
     .op = ZS_OP_UPSAMPLE2,
     .a = {.scale = 0.5f},
     .in = {S4(2, 3, 5, 16)},
     .out = {S4(2, 6, 10, 16)}},
    {.name = "downsample2 16",
     .op = ZS_OP_DOWNSAMPLE2,
     .a = {.scale = 0.25f},
     .in = {S4(2, 6, 10, 16)},
     .out = {S4(2, 3, 5, 16)}},
    {.name = "mean_hw 24", .op = ZS_OP_MEAN_HW, .in = {S4(2, 17, 19, 24)}, .out = {S2(2, 24)}},
    {.name = "mean_hw 272", .op = ZS_OP_MEAN_HW, .in = {S4(3, 4, 4, 272)}, .out = {S2(3, 272)}},
    {.name = "broadcast_hw 16",
     .op = ZS_OP_BROADCAST_HW,
     .a = {.scale = 2, .h = 3, .w = 5},
     .in = {S2(2, 16)},
     .out = {S4(2, 3, 5, 16)}},
    {.name = "embed 40",
     .op = ZS_OP_EMBED,
     .in = {{1, {9, 1, 1, 1}}, S2(5, 40)},
     .out = {S2(9, 40)}},
    {.name = "embed_bwd 40",
     .op = ZS_OP_EMBED_BWD,
     .a = {.len = 5},
     .in = {{1, {9, 1, 1, 1}}, S2(9, 40)},
     .out = {S2(5, 40)}},
    {.name = "substitute 24",
     .op = ZS_OP_SUBSTITUTE,
     .in = {S2(5, 24), S2(1, 24), {1, {5, 1, 1, 1}}},
     .out = {S2(5, 24)}},
    {.name = "substitute_bwd 24",
     .op = ZS_OP_SUBSTITUTE_BWD,
     .in = {{1, {5, 1, 1, 1}}, S2(5, 24)},
     .out = {S2(5, 24), S2(1, 24)}},
    {.name = "pool 16",
     .op = ZS_OP_POOL,
     .a = {.kind = ZS_POOL_MAX, .k = 3, .stride = 2, .pad = 1},
     .in = {S4(2, 7, 9, 16)},
     .out = {S4(2, 4, 5, 16)}},
    {.name = "batchnorm 24",
     .op = ZS_OP_BATCHNORM,
     .a = {.eps = 1e-5f, .act = ZS_ACT_RELU},
     .in = {S2(7, 24),
            {1, {24, 1, 1, 1}},
            {1, {24, 1, 1, 1}},
            {1, {24, 1, 1, 1}},
            {1, {24, 1, 1, 1}}},
     .out = {S2(7, 24)}},
    {.name = "gn_act 520 in 4",
     .op = ZS_OP_GN_ACT,
     .a = {.groups = 4, .eps = 1e-5f, .act = ZS_ACT_SILU},
     .in = {S4(1, 6, 7, 520), {1, {520, 1, 1, 1}}, {1, {520, 1, 1, 1}}, S2(1, 1040)},
     .out = {S4(1, 6, 7, 520), S3(1, 4, 2)}},
    {.name = "gn_act_bwd 520 in 4",
     .op = ZS_OP_GN_ACT_BWD,
     .a = {.groups = 4, .eps = 1e-5f, .act = ZS_ACT_SILU},
     .in = {S4(1, 6, 7, 520),
            S3(1, 4, 2),
            {1, {520, 1, 1, 1}},
            {1, {520, 1, 1, 1}},
            S2(1, 1040),
            {0, {0, 0, 0, 0}},
            S4(1, 6, 7, 520)},
     .out = {S4(1, 6, 7, 520), {1, {520, 1, 1, 1}}, {1, {520, 1, 1, 1}}, S2(1, 1040)}},
    {.name = "layernorm 520",
     .op = ZS_OP_LAYERNORM,
     .a = {.eps = 1e-5f},
     .mean = 30,
     .tolerance = 3e-5,
     .in = {S2(9, 520)},
     .out = {S2(9, 520), S2(9, 2)}},
    {.name = "take_row 16",
     .op = ZS_OP_TAKE_ROW,
     .a = {.offset = 2},
     .in = {S3(3, 4, 16)},
     .out = {S2(3, 16)}},
    {.name = "take_row_bwd 16",
     .op = ZS_OP_TAKE_ROW_BWD,
     .a = {.offset = 2, .len = 4},
     .in = {S2(3, 16)},
     .out = {S3(3, 4, 16)}},
};

static void test_wide(void **state)
{
    static const zs_dtype types[] = {ZS_F32, ZS_BF16};
    size_t failed = 0;
    (void)state;
    for (size_t i = 0; i < 2 * sizeof wide_cases / sizeof wide_cases[0]; i++)
        failed += !case_holds(&wide_cases[i / 2], types[i % 2], 0);
    assert_int_equal(failed, 0);
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

/* Operations of libraries have no kernel here, the others all have one. */
static void test_every_op_is_here(void **state)
{
    static const zs_op libraries[] = {ZS_OP_CONV2D,    ZS_OP_CONV2D_DX, ZS_OP_CONV2D_DW,
                                      ZS_OP_CONV_RELU, ZS_OP_LINEAR,    ZS_OP_LINEAR_DX,
                                      ZS_OP_LINEAR_DW, ZS_OP_ATTENTION, ZS_OP_ATTENTION_BWD,
                                      ZS_OP_CAST}; /* its types: test_cuda_launch.c */
    (void)state;
    for (zs_op op = 0; op < ZS_OP_COUNT; op++) {
        bool theirs = false;
        for (size_t i = 0; i < sizeof libraries / sizeof libraries[0]; i++)
            theirs = theirs || libraries[i] == op;
        if (theirs == (kernel_of(op) != NULL))
            print_error("%s\n", zs_op_name(op));
        assert_true(theirs != (kernel_of(op) != NULL));
    }
}

/* Where the elements of the step batch go over from one stream into the next. */
static void test_dropout_far(void **state)
{
    static const op_case cases[] = {
        {.name = "dropout at 2^34",
         .op = ZS_OP_DROPOUT,
         .a = {.p = 0.3f, .rng = 5},
         .in = {S2(8, 1000)},
         .out = {S2(8, 1000)}},
        {.name = "dropout at 2^34, odd",
         .op = ZS_OP_DROPOUT,
         .a = {.p = 0.3f, .rng = 5},
         .in = {S2(8, 1003)},
         .out = {S2(8, 1003)}},
    };
    (void)state;
    for (size_t i = 0; i < 2; i++)
        first_sample = ((int64_t)1 << 34) / cases[i].in[0].d[1] - 3,
        assert_true(case_holds(&cases[i], ZS_F32, 0));
    first_sample = -1;
}

/* A recorded run sees the numbers of its own step, and adds again. */
static void test_replay(void **state)
{
    static const op_case c = {.name = "loss_bwd again",
                              .op = ZS_OP_LOSS_BWD,
                              .in = {S2(3, 5), S2(3, 5)},
                              .out = {S2(3, 5)}};
    const way w = {ZS_F32, 0, ZS_HOST_FORWARD};
    op_data d;
    device g;
    (void)state;
    assert_true(op_data_new(&d, &c));
    device_new(&g, &d, &w);
    g.call.step = lent_new(&g.step, sizeof d.step, 0);
    g.call.ws = lent_new(&g.ws, 0, 0);
    kernel_of(c.op)->run(&g.call);
    for (int k = 0; k < 2; k++) {
        d.step.grad_scale = k ? 0.25f : 4;
        memcpy(g.step.p, &d.step, sizeof d.step);
        assert_int_equal(zs_host_replay(ZS_HOST_FORWARD), 1);
        assert_true(op_run(&d, zs_backend_find("cpu-ref")));
        assert_true(agrees(&c, 0, &g.call.out[0], d.out[0]));
    }
    assert_int_equal(zs_host_run(ZS_HOST_FORWARD), 1);
    device_free(&g);
    op_data_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wide),          cmocka_unit_test(test_every_op_is_here),
        cmocka_unit_test(test_dropout_far),   cmocka_unit_test(test_replay),
        cmocka_unit_test(test_f32),           cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_f32_unaligned), cmocka_unit_test(test_bf16_unaligned),
    };
    return cmocka_run_group_tests_name("cuda_host", tests, NULL, NULL);
}
