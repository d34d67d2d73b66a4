/* SPDX-License-Identifier: MIT */
/* Every operation case on the device, in single and half precision, against the reference; the same
 * bits in a second run and in a replayed one; randomness, the optimiser's norm and casts. Skips
 * aloud where no device can be opened, unless ZSEM_GPU_REQUIRED=1. */
#include "backend/cuda/conv_plan.h"
#include "backend/cuda/kernels.h"
#include "tests/ops/cases.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static bool ready; /* a device is open */

static int open_device(void **state)
{
    zs_error err = {0};
    const char *required = getenv("ZSEM_GPU_REQUIRED");
    (void)state;
    ready = zs_backend_find("cuda")->remote->open(&err) == ZS_OK;
    if (!ready)
        print_message("SKIPPED: no operation runs on a device: %s\n", err.message);
    return !ready && required && strcmp(required, "1") == 0 ? -1 : 0;
}

static void need_device(void)
{
    if (!ready)
        skip();
}

static const zs_remote *remote(void)
{
    return zs_backend_find("cuda")->remote;
}

static void must(int status, const zs_error *err)
{
    if (status < 0)
        fail_msg("%s", err->message);
}

/* ---- one case on the device ---- */

typedef struct device {
    zs_call call;
    size_t ws_bytes;
} device;

static zs_dtype type_of(zs_slot slot, const zs_backend *b)
{
    return slot == ZS_SLOT_F32 || !b->bf16 ? ZS_F32 : ZS_BF16;
}

static size_t bytes_of(const zs_view *v)
{
    return (size_t)zs_shape_numel(&v->s) * zs_dtype_size(v->type);
}

static void fill(zs_view *v, const float *from)
{
    zs_error err = {0};
    size_t n = (size_t)zs_shape_numel(&v->s);
    void *typed = zs_alloc(n, zs_dtype_size(v->type));
    assert_non_null(typed);
    zs_dtype_from_f32(typed, v->type, from, n);
    must(remote()->upload(v->p, typed, bytes_of(v), &err), &err);
    must(remote()->sync(&err), &err);
    zs_free(typed);
}

static void lend(zs_view *v, const float *from, const zs_shape *s, zs_dtype type,
                 const zs_backend *b)
{
    if (!from)
        return;
    *v = (zs_view){.s = *s, .type = type};
    v->p = b->alloc(bytes_of(v));
    assert_non_null(v->p);
    fill(v, from);
}

static void device_new(device *g, const op_data *d, const zs_backend *b)
{
    zs_error err = {0};
    zs_op op = d->c->op;
    const zs_kernel *k = b->kernel(op);
    memset(g, 0, sizeof *g);
    g->call = (zs_call){.a = &d->c->a, .threads = 1, .queue = b->queue};
    for (int i = 0; i < zs_op_inputs(op); i++)
        lend(&g->call.in[i], d->in[i], &d->c->in[i], type_of(zs_op_in(op, i), b), b);
    for (int i = 0; i < zs_op_outputs(op); i++)
        lend(&g->call.out[i], d->out[i], &d->c->out[i], type_of(zs_op_out(op, i), b), b);
    g->ws_bytes = k->workspace ? k->workspace(&g->call) : 0;
    g->call.ws = b->alloc(g->ws_bytes);
    zs_step *step = b->alloc(sizeof *step);
    assert_non_null(g->call.ws);
    assert_non_null(step);
    must(remote()->upload(step, &d->step, sizeof d->step, &err), &err);
    must(remote()->sync(&err), &err);
    g->call.step = step;
}

static void device_free(device *g, const zs_backend *b)
{
    union {
        const zs_step *from;
        void *to;
    } step = {.from = g->call.step};
    for (int i = 0; i < ZS_MAX_IN; i++)
        if (g->call.in[i].p)
            b->release(g->call.in[i].p, bytes_of(&g->call.in[i]));
    for (int i = 0; i < ZS_MAX_OUT; i++)
        if (g->call.out[i].p)
            b->release(g->call.out[i].p, bytes_of(&g->call.out[i]));
    b->release(g->call.ws, g->ws_bytes);
    b->release(step.to, sizeof(zs_step));
}

typedef enum way { DIRECT, RECORDED } way;

/* Outputs as before, then one run. */
static void run(device *g, const op_data *before, const zs_backend *b, way w)
{
    zs_error err = {0};
    void *tape = NULL;
    for (int i = 0; i < ZS_MAX_OUT; i++)
        if (g->call.out[i].p)
            fill(&g->call.out[i], before->out[i]);
    if (w == RECORDED)
        must(remote()->record(&err), &err);
    b->kernel(before->c->op)->run(&g->call);
    if (w == RECORDED) {
        must(remote()->record_end(&tape, &err), &err);
        must(remote()->replay(tape, &err), &err);
    }
    must(remote()->sync(&err), &err);
    if (tape)
        remote()->tape_free(tape);
}

static void *fetch(const zs_view *v)
{
    zs_error err = {0};
    void *p = zs_alloc(bytes_of(v), 1);
    assert_non_null(p);
    must(remote()->download(p, v->p, bytes_of(v), &err), &err);
    return p;
}

static bool same_bits(const device *g, void *const first[ZS_MAX_OUT], const char *name,
                      const char *what)
{
    bool ok = true;
    for (int i = 0; i < ZS_MAX_OUT && ok; i++) {
        if (!first[i])
            continue;
        void *now = fetch(&g->call.out[i]);
        ok = memcmp(now, first[i], bytes_of(&g->call.out[i])) == 0;
        if (!ok)
            print_error("%s, output %d: other bits %s\n", name, i, what);
        zs_free(now);
    }
    return ok;
}

/* What is rounded to half precision on the way counts beside the result itself. */
static double tolerance(zs_op op, const zs_backend *b)
{
    if (!b->bf16)
        return 2e-4;
    return op == ZS_OP_ATTENTION_BWD ? 0.05 : 0.02;
}

static bool agrees(const op_case *c, int slot, const void *got, zs_dtype type, const float *want,
                   double tol)
{
    size_t n = (size_t)zs_shape_numel(&c->out[slot]), i = 0;
    double square = 0;
    float *x = zs_alloc(n, sizeof *x);
    assert_non_null(x);
    zs_dtype_to_f32(x, got, type, n);
    for (i = 0; i < n; i++)
        square += isnan(want[i]) ? 0 : (double)want[i] * (double)want[i];
    double rms = sqrt(square / (double)n);
    for (i = 0; i < n; i++) {
        double off = fabs((double)x[i] - (double)want[i]);
        if (!(off <= tol * (fabs((double)want[i]) + rms) + c->slack) &&
            !(isnan(x[i]) && isnan(want[i])))
            break;
    }
    if (i < n)
        print_error("%s, output %d (%s), element %zu: %.9g, reference %.9g (rms %.3g)\n", c->name,
                    slot, zs_dtype_name(type), i, (double)x[i], (double)want[i], rms);
    zs_free(x);
    return i == n;
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

/* d: inputs as the device holds them, outputs as they are before; want: after the reference. */
static void prepare(op_data *d, op_data *want, const op_case *c, const zs_backend *b)
{
    static const zs_backend nothing = {.name = "nothing", .kernel = no_kernel};
    op_data *both[] = {d, want};
    for (int k = 0; k < 2; k++) {
        assert_true(op_data_new(both[k], c));
        for (int i = 0; i < zs_op_inputs(c->op); i++) {
            size_t n = both[k]->in[i] ? (size_t)zs_shape_numel(&c->in[i]) : 0;
            for (size_t e = 0; type_of(zs_op_in(c->op, i), b) == ZS_BF16 && e < n; e++)
                both[k]->in[i][e] = zs_bf16_to_f32(zs_f32_to_bf16(both[k]->in[i][e]));
        }
    }
    assert_true(op_run(d, &nothing));
    assert_true(op_run(want, zs_backend_find("cpu-ref")));
}

static bool case_holds(const op_case *c, const zs_backend *b)
{
    op_data d, want;
    device g;
    void *first[ZS_MAX_OUT] = {NULL};
    bool ok = true;
    prepare(&d, &want, c, b);
    device_new(&g, &d, b);
    run(&g, &d, b, DIRECT);
    for (int i = 0; i < ZS_MAX_OUT; i++)
        if (g.call.out[i].p) {
            first[i] = fetch(&g.call.out[i]);
            ok = agrees(c, i, first[i], g.call.out[i].type, want.out[i], tolerance(c->op, b)) && ok;
        }
    run(&g, &d, b, DIRECT);
    ok = same_bits(&g, first, c->name, "in a second run") && ok;
    run(&g, &d, b, RECORDED);
    ok = same_bits(&g, first, c->name, "when replayed") && ok;
    for (int i = 0; i < ZS_MAX_OUT; i++)
        zs_free(first[i]);
    device_free(&g, b);
    op_data_free(&want);
    op_data_free(&d);
    return ok;
}

static void all_cases(const char *backend)
{
    size_t n, failed = 0, done = 0;
    int all, without;
    const op_case *cases = op_cases(&n);
    need_device();
    for (size_t i = 0; i < n; i++) {
        if (cases[i].bench)
            continue;
        failed += !case_holds(&cases[i], zs_backend_find(backend));
        done++;
    }
    zs_conv_counts(&all, &without);
    print_message("%s: %zu of %zu cases hold; %d convolutions so far, %d of them without a plan\n",
                  backend, done - failed, done, all, without);
    assert_int_equal(failed, 0);
}

static void test_single(void **state)
{
    (void)state;
    all_cases("cuda-f32");
}

static void test_half(void **state)
{
    (void)state;
    all_cases("cuda");
}

/* ---- what is no operation ---- */

enum { MANY = 100003 };

static void test_noise(void **state)
{
    const zs_backend *b = zs_backend_find("cuda");
    zs_error err = {0};
    zs_rng r = {.seed = 5, .purpose = ZS_RNG_TEST, .index = 9};
    (void)state;
    need_device();
    float *here = zs_alloc(MANY, sizeof *here), *there = zs_alloc(MANY, sizeof *there);
    float *far = b->alloc(MANY * sizeof *far);
    assert_true(here && there && far);
    zs_rng_normal(here, MANY, &r, 7);
    zs_launch_normal(far, MANY, &r, 7, b->queue);
    must(remote()->download(there, far, MANY * sizeof *far, &err), &err);
    assert_memory_equal(here, there, MANY * sizeof *here);
    b->release(far, MANY * sizeof *far);
    zs_free(here);
    zs_free(there);
}

static void test_norm_and_cast(void **state)
{
    const zs_backend *b = zs_backend_find("cuda");
    zs_error err = {0};
    zs_rng r = {.seed = 6, .purpose = ZS_RNG_TEST};
    double norm = 0, square = 0;
    (void)state;
    need_device();
    float *x = zs_alloc(MANY, sizeof *x), *far = b->alloc(MANY * sizeof *x);
    uint16_t *half = zs_alloc(MANY, sizeof *half), *far_half = b->alloc(MANY * sizeof *half);
    double *far_norm = b->alloc(sizeof *far_norm);
    assert_true(x && far && half && far_half && far_norm);
    zs_rng_normal(x, MANY, &r, 0);
    for (size_t i = 0; i < MANY; i++)
        square += (double)x[i] * (double)x[i];
    must(remote()->upload(far, x, MANY * sizeof *x, &err), &err);
    must(remote()->norm(far_norm, far, MANY, &err), &err);
    must(remote()->to_bf16(far_half, far, MANY, &err), &err);
    must(remote()->download(&norm, far_norm, sizeof norm, &err), &err);
    must(remote()->download(half, far_half, MANY * sizeof *half, &err), &err);
    assert_true(fabs(norm - sqrt(square)) <= 1e-9 * sqrt(square));
    for (size_t i = 0; i < MANY; i++)
        assert_int_equal(half[i], zs_f32_to_bf16(x[i]));
    b->release(far, MANY * sizeof *x);
    b->release(far_half, MANY * sizeof *half);
    b->release(far_norm, sizeof *far_norm);
    zs_free(x);
    zs_free(half);
}

static void test_memory(void **state)
{
    const zs_backend *b = zs_backend_find("cuda");
    zs_error err = {0};
    unsigned char here[1000];
    (void)state;
    need_device();
    unsigned char *p = b->alloc(sizeof here);
    assert_non_null(p);
    must(remote()->download(here, p, sizeof here, &err), &err);
    for (size_t i = 0; i < sizeof here; i++)
        assert_int_equal(here[i], 0);
    assert_null(b->alloc((size_t)1 << 50)); /* and nothing is broken by it */
    must(remote()->sync(&err), &err);
    b->release(p, sizeof here);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),        cmocka_unit_test(test_noise),
        cmocka_unit_test(test_norm_and_cast), cmocka_unit_test(test_single),
        cmocka_unit_test(test_half),
    };
    return cmocka_run_group_tests_name("cuda_ops", tests, open_device, NULL);
}
