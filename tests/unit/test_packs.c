/* SPDX-License-Identifier: MIT */
/* Packed weights: shared by plans, bounded, and never older than the weights. The backend here is
 * the reference with a linear layer that multiplies by its packed weights where it has some. */
#include "graph/graph.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { K = 8, O = 4, WEIGHTS = K * O, BYTES = WEIGHTS * sizeof(float) };

static int packed_now, used_packed; /* calls so far */

static zs_packing packing(const zs_call *c)
{
    return (zs_packing){(size_t)zs_shape_numel(&c->in[1].s) * sizeof(float), 1};
}

static void pack(const zs_call *c, void *dst)
{
    assert_null(c->packed);
    packed_now++;
    memcpy(dst, c->in[1].p, packing(c).bytes);
}

static void linear(const zs_call *c)
{
    zs_call k = *c;
    float copy[2 * WEIGHTS];
    if (c->packed) {
        used_packed++;
        memcpy(copy, c->packed, packing(c).bytes);
        k.in[1].p = copy;
    }
    zs_backend_find("cpu-ref")->kernel(ZS_OP_LINEAR)->run(&k);
}

static const zs_kernel *kernel(zs_op op)
{
    static const zs_kernel mine = {linear, NULL};
    return op == ZS_OP_LINEAR ? &mine : zs_backend_find("cpu-ref")->kernel(op);
}

static const zs_packer *packer(zs_op op)
{
    static const zs_packer mine = {packing, pack};
    return op == ZS_OP_LINEAR ? &mine : NULL;
}

static zs_backend backend(void)
{
    zs_backend b = *zs_backend_find("cpu-ref");
    b.kernel = kernel;
    b.packer = packer;
    return b;
}

/* y = w1 (w0 x) with n rows; w0 at offset 0, w1 behind it. */
static zs_exec *plan(const zs_backend *b, zs_packs *packs, int64_t n, unsigned flags)
{
    zs_graph *g = NULL;
    zs_exec *e = NULL;
    zs_error err = {0};
    assert_int_equal(zs_graph_new(&g, &err), ZS_OK);
    zs_tid x = zs_graph_input(g, "x", zs_shape2(n, K));
    x = zs_linear(g, x, zs_graph_param(g, 0, zs_shape2(O, K), false), ZS_NONE);
    x = zs_linear(g, x, zs_graph_param(g, WEIGHTS, zs_shape2(K, O), false), ZS_NONE);
    zs_graph_output(g, "y", x);
    const zs_exec_config c = {.backend = b, .flags = flags, .packs = packs};
    assert_int_equal(zs_exec_new(&e, &g, &c, &err), ZS_OK);
    for (int64_t i = 0; i < n * K; i++)
        zs_exec_input(e, "x")[i] = (float)(i % 5) - 2.0f;
    return e;
}

static int run(zs_exec *e, float *w, uint64_t version, float *y0)
{
    zs_error err = {0};
    zs_step step = {.grad_scale = 1, .weights = version};
    packed_now = used_packed = 0;
    int status = zs_exec_run(e, w, NULL, &step, &err);
    *y0 = zs_exec_output(e, "y")[0];
    return status;
}

static void fill(float *w, uint64_t seed)
{
    zs_rng r = {.seed = seed, .purpose = ZS_RNG_TEST};
    zs_rng_normal(w, (size_t)2 * WEIGHTS, &r, 0);
}

static void made_once_per_version(void **state)
{
    (void)state;
    zs_backend b = backend();
    zs_packs *packs = NULL;
    zs_error err = {0};
    float w[2 * WEIGHTS], other[2 * WEIGHTS], y = 0, again = 0, plain = 0;
    assert_int_equal(zs_packs_new(&packs, &b, 1 << 20, &err), ZS_OK);
    zs_exec *e = plan(&b, packs, 3, 0), *five = plan(&b, packs, 5, 0);
    uint64_t version = zs_weights_version();
    fill(w, 1);
    assert_int_equal(zs_packs_bytes(packs), 0);
    assert_int_equal(run(e, w, version, &y), ZS_OK);
    assert_int_equal(packed_now, 2);
    assert_int_equal(zs_packs_bytes(packs), 2 * BYTES);
    assert_int_equal(run(five, w, version, &again), ZS_OK); /* another batch, the same forms */
    assert_int_equal(packed_now, 0);
    assert_int_equal(used_packed, 2);
    assert_true(again == y);

    fill(w, 2); /* no promise: the weights of now */
    assert_int_equal(run(e, w, 0, &plain), ZS_OK);
    assert_int_equal(used_packed, 0);
    assert_true(plain != y);
    assert_int_equal(run(e, w, zs_weights_version(), &again), ZS_OK);
    assert_int_equal(packed_now, 2);
    assert_true(again == plain);

    memcpy(other, w, sizeof w); /* another buffer under the same number */
    assert_int_equal(run(e, other, version, &again), ZS_OK);
    assert_int_equal(packed_now, 2);

    zs_exec_free(&e);
    assert_int_equal(zs_packs_bytes(packs), 2 * BYTES);
    zs_exec_free(&five);
    assert_int_equal(zs_packs_bytes(packs), 0);
    zs_packs_free(&packs);
}

static void bounded(void **state)
{
    (void)state;
    zs_backend b = backend();
    zs_error err = {0};
    float w[2 * WEIGHTS], y = 0, same = 0;
    fill(w, 3);
    for (int fits = 0; fits <= 2; fits++) {
        zs_packs *packs = NULL;
        size_t limit = (size_t)fits * BYTES + BYTES / 2;
        assert_int_equal(zs_packs_new(&packs, &b, limit, &err), ZS_OK);
        zs_exec *e = plan(&b, packs, 2, 0);
        assert_int_equal(run(e, w, zs_weights_version(), fits ? &same : &y), ZS_OK);
        assert_int_equal(used_packed, fits);
        assert_true(zs_packs_bytes(packs) <= limit);
        assert_true(fits == 0 || same == y);
        zs_exec_free(&e);
        zs_packs_free(&packs);
    }
}

/* Weights written under an old number are the one way to go wrong, and it can be seen. */
static void poison_finds_a_broken_promise(void **state)
{
    (void)state;
    zs_backend b = backend();
    zs_packs *packs = NULL;
    zs_error err = {0};
    float w[2 * WEIGHTS], y = 0;
    uint64_t version = zs_weights_version();
    assert_int_equal(zs_packs_new(&packs, &b, 1 << 20, &err), ZS_OK);
    zs_exec *e = plan(&b, packs, 2, ZS_EXEC_POISON);
    fill(w, 4);
    assert_int_equal(run(e, w, version, &y), ZS_OK);
    w[0] += 1.0f;
    assert_int_equal(run(e, w, version, &y), ZS_E_INTERNAL);
    zs_exec_free(&e);
    zs_packs_free(&packs);
}

/* Every allocation that can fail on the way costs speed or is reported. */
static void without_memory(void **state)
{
    (void)state;
    zs_backend b = backend();
    zs_error err = {0};
    float w[2 * WEIGHTS], y = 0, expected = 0;
    zs_packs *packs = NULL;
    fill(w, 5);
    assert_int_equal(zs_packs_new(&packs, &b, 1 << 20, &err), ZS_OK);
    zs_exec *e = plan(&b, packs, 2, 0);
    assert_int_equal(run(e, w, 0, &expected), ZS_OK);
    (void)zs_alloc_fail_at(1);
    assert_int_equal(run(e, w, zs_weights_version(), &y), ZS_OK);
    (void)zs_alloc_fail_at(0);
    assert_int_equal(used_packed, 0);
    assert_true(y == expected);
    zs_exec_free(&e);
    zs_packs_free(&packs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(made_once_per_version),
        cmocka_unit_test(bounded),
        cmocka_unit_test(poison_finds_a_broken_promise),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
