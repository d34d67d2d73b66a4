/* SPDX-License-Identifier: MIT */
/* Convolutions, linear layers and attention of the CUDA backend against the reference, on the
 * processor (host.h), where stand-ins for the libraries compute what they were asked for (glue.h).
 * So layouts, workspaces, biases, residuals and accumulation are tested; what cuDNN and cuBLASLt do
 * with a description is not. */
#include "backend/cuda/cuda.h"
#include "tests/cuda_glue/glue.h"
#include "tests/cuda_host/host.h"
#include "tests/ops/cases.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const zs_kernel *kernel_of(zs_op op)
{
    switch (op) {
    case ZS_OP_CONV2D: return &zs_cuda_conv2d;
    case ZS_OP_CONV2D_DX: return &zs_cuda_conv2d_dx;
    case ZS_OP_CONV2D_DW: return &zs_cuda_conv2d_dw;
    case ZS_OP_CONV_RELU: return &zs_cuda_conv_relu;
    case ZS_OP_LINEAR: return &zs_cuda_linear;
    case ZS_OP_LINEAR_DX: return &zs_cuda_linear_dx;
    case ZS_OP_LINEAR_DW: return &zs_cuda_linear_dw;
    case ZS_OP_ATTENTION: return &zs_cuda_attention;
    case ZS_OP_ATTENTION_BWD: return &zs_cuda_attention_bwd;
    default: return NULL;
    }
}

/* ---- memory: tensors as an executor places them; parameters and their gradients anywhere ---- */

enum { GUARD = 256, BYTE = 0xFF, LARGE = 1 << 20 };

typedef struct lent {
    unsigned char *base;
    size_t shift, bytes;
} lent;

static void *lend(lent *l, size_t bytes, size_t shift)
{
    l->base = aligned_alloc(256, (2 * GUARD + shift + bytes + 255) / 256 * 256);
    assert_non_null(l->base);
    l->shift = shift;
    l->bytes = bytes;
    size_t whole = 2 * GUARD + shift + bytes, front = whole < LARGE ? whole : LARGE;
    memset(l->base, BYTE,
           front); /* the pages between belong to cuBLASLt, and cost nothing unread */
    memset(l->base + whole - front, BYTE, front);
    return l->base + GUARD + shift;
}

static bool intact(const lent *l)
{
    for (size_t i = 0; l->base && i < GUARD; i++)
        if (l->base[i] != BYTE || l->base[GUARD + l->shift + l->bytes + i] != BYTE)
            return false;
    return true;
}

typedef struct device {
    lent in[ZS_MAX_IN], out[ZS_MAX_OUT], ws, packed;
    zs_call call;
} device;

static zs_view view(lent *l, const float *from, const zs_shape *s, zs_slot slot, zs_dtype act)
{
    zs_dtype type = slot == ZS_SLOT_F32 ? ZS_F32 : act;
    if (!from)
        return (zs_view){0};
    size_t n = (size_t)zs_shape_numel(s), size = zs_dtype_size(type);
    zs_view v = {.s = *s, .type = type};
    v.p = lend(l, n * size, slot == ZS_SLOT_ACT ? 0 : 3 * size);
    zs_dtype_from_f32(v.p, type, from, n);
    return v;
}

static void device_new(device *g, const op_data *d, zs_dtype act)
{
    zs_op op = d->c->op;
    memset(g, 0, sizeof *g);
    g->call.a = &d->c->a;
    g->call.threads = 1;
    for (int i = 0; i < zs_op_inputs(op); i++)
        g->call.in[i] = view(&g->in[i], d->in[i], &d->c->in[i], zs_op_in(op, i), act);
    for (int i = 0; i < zs_op_outputs(op); i++)
        g->call.out[i] = view(&g->out[i], d->out[i], &d->c->out[i], zs_op_out(op, i), act);
    g->call.ws = lend(&g->ws, kernel_of(op)->workspace(&g->call), 64);
}

static bool device_intact(const device *g)
{
    bool ok = intact(&g->ws) && intact(&g->packed);
    for (int i = 0; i < ZS_MAX_IN; i++)
        ok = ok && intact(&g->in[i]);
    for (int i = 0; i < ZS_MAX_OUT; i++)
        ok = ok && intact(&g->out[i]);
    return ok;
}

static void device_free(device *g)
{
    for (int i = 0; i < ZS_MAX_IN; i++)
        free(g->in[i].base);
    for (int i = 0; i < ZS_MAX_OUT; i++)
        free(g->out[i].base);
    free(g->ws.base);
    free(g->packed.base);
    memset(g, 0, sizeof *g);
}

/* ---- cases ---- */

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

static void round_to(zs_dtype type, float *x, size_t n)
{
    for (size_t e = 0; x && type == ZS_BF16 && e < n; e++)
        x[e] = zs_bf16_to_f32(zs_f32_to_bf16(x[e]));
}

/* Relative to the size of the numbers. In bf16 more than the result is rounded: attention weights,
 * sums before a residual is added, and gradients before they are. */
static bool agrees(const op_case *c, int slot, const zs_view *got, const float *want, zs_dtype act)
{
    size_t n = (size_t)zs_shape_numel(&got->s);
    bool twice = c->op == ZS_OP_ATTENTION_BWD; /* weights, and their gradients */
    double square = 0, tol = act == ZS_F32 ? 2e-5 : twice ? 0.05 : 0.02;
    float *x = zs_alloc(n, sizeof *x);
    assert_non_null(x);
    zs_dtype_to_f32(x, got->p, got->type, n);
    for (size_t i = 0; i < n; i++)
        square += (double)want[i] * (double)want[i];
    double rms = sqrt(square / (double)n);
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++) {
        ok = fabs((double)x[i] - (double)want[i]) <= tol * (fabs((double)want[i]) + rms);
        if (!ok)
            print_error("%s (%s), output %d, element %zu: %.9g, reference %.9g (rms %.3g)\n",
                        c->name, zs_dtype_name(act), slot, i, (double)x[i], (double)want[i], rms);
    }
    zs_free(x);
    return ok;
}

/* The form that sampling keeps of the weights, if there is one. */
static void pack(device *g)
{
    zs_packing k = zs_cuda_conv2d_packer.packing(&g->call);
    if (!k.bytes)
        return;
    void *form = lend(&g->packed, k.bytes, 0);
    zs_cuda_conv2d_packer.pack(&g->call, form);
    g->call.packed = form;
}

static bool case_holds(const op_case *c, zs_dtype act, bool packed)
{
    static const zs_backend nothing = {.name = "nothing", .kernel = no_kernel};
    device g;
    op_data d;
    assert_true(op_data_new(&d, c));
    for (int i = 0; i < zs_op_inputs(c->op); i++)
        if (d.in[i] && zs_op_in(c->op, i) != ZS_SLOT_F32)
            round_to(act, d.in[i], (size_t)zs_shape_numel(&c->in[i]));
    assert_true(op_run(&d, &nothing)); /* outputs are as they shall be before */
    device_new(&g, &d, act);
    assert_true(op_run(&d, zs_backend_find("cpu-ref")));
    if (packed)
        pack(&g);
    kernel_of(c->op)->run(&g.call);
    bool ok = zs_host_run(ZS_HOST_FORWARD) > 0 && glue_failures() == 0 && device_intact(&g);
    if (!ok)
        print_error("%s (%s) went wrong\n", c->name, zs_dtype_name(act));
    for (int i = 0; i < ZS_MAX_OUT && ok; i++)
        ok = !d.out[i] || agrees(c, i, &g.call.out[i], d.out[i], act);
    device_free(&g);
    op_data_free(&d);
    glue_free();
    return ok;
}

static void run_cases(zs_dtype act, glue_plans plans, bool packed)
{
    size_t n, failed = 0, done = 0;
    const op_case *cases = op_cases(&n);
    glue_set(plans);
    for (size_t i = 0; i < n; i++) {
        if (cases[i].bench || !kernel_of(cases[i].op) || (packed && cases[i].op != ZS_OP_CONV2D))
            continue;
        failed += !case_holds(&cases[i], act, packed);
        done++;
    }
    print_message("%zu cases in %s\n", done, zs_dtype_name(act));
    assert_int_equal(failed, 0);
    assert_true(done > 0);
}

static void test_f32(void **state)
{
    (void)state;
    for (int p = 0; p < GLUE_MODES; p++)
        run_cases(ZS_F32, (glue_plans)p, false);
}

static void test_bf16(void **state)
{
    (void)state;
    for (int p = 0; p < GLUE_MODES; p++)
        run_cases(ZS_BF16, (glue_plans)p, false);
}

static void test_packed(void **state)
{
    (void)state;
    run_cases(ZS_F32, GLUE_PLANS, true);
    run_cases(ZS_BF16, GLUE_FUSED_PLANS, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_packed),
    };
    return cmocka_run_group_tests_name("cuda_glue", tests, NULL, NULL);
}
