/* SPDX-License-Identifier: MIT */
/* The graph passes, the memory plan and its safety tools, on small networks. */
#include "graph/graph.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/graph_kit.h"

enum { N = 2, S = 8, C = 6, PARAMS = 4096 };

typedef struct net {
    float params[PARAMS], grads[PARAMS];
    kit_params p;
    zs_exec *e;
} net;

static zs_tid param(zs_graph *g, net *m, zs_shape s)
{
    return kit_param(g, &m->p, s);
}

/* Two blocks, a down and up path with a skip, an MSE loss: every kind of fan-out. */
static void build(net *m, unsigned flags)
{
    zs_error err = {0};
    zs_graph *g = NULL;
    memset(m, 0, sizeof *m);
    m->p.room = PARAMS;
    assert_int_equal(zs_graph_new(&g, &err), 0);
    zs_tid x = zs_graph_input(g, "x", zs_shape4(N, S, S, C));
    zs_tid a = kit_block(g, &m->p, x, C, 3), b = kit_block(g, &m->p, zs_downsample2(g, a), C, 3);
    zs_tid y = zs_concat(g, a, zs_upsample2(g, b));
    y = zs_conv2d(g, y, param(g, m, zs_shape4(3, 3, 2 * C, C)), ZS_NONE, ZS_NONE, 1, 1);
    zs_tid l = zs_loss_node(g, y, zs_graph_input(g, "target", zs_shape4(N, S, S, C)), ZS_NONE,
                            ZS_LOSS_MSE);
    zs_graph_output(g, "y", y);
    zs_graph_output(g, "loss", l);
    zs_graph_backward(g, l);
    zs_exec_config c = {.backend = zs_backend_find("cpu-ref"), .flags = flags};
    assert_int_equal(zs_exec_new(&m->e, &g, &c, &err), 0);
    zs_rng r = {.seed = 5, .purpose = ZS_RNG_TEST};
    zs_rng_normal(m->params, PARAMS, &r, 0);
    r.index = 1;
    zs_rng_normal(zs_exec_input(m->e, "x"), N * S * S * C, &r, 0);
    r.index = 2;
    zs_rng_normal(zs_exec_input(m->e, "target"), N * S * S * C, &r, 0);
}

static void run(net *m)
{
    zs_error err = {0};
    zs_step step = {.seed = 1, .step = 7, .grad_scale = 1.0f};
    assert_int_equal(zs_exec_run(m->e, m->params, m->grads, &step, &err), 0);
}

static void flags_do_not_change_results(void **state)
{
    (void)state;
    static const unsigned flags[] = {ZS_EXEC_NO_REUSE,   ZS_EXEC_POISON,
                                     ZS_EXEC_RECOMPUTE,  ZS_EXEC_RECOMPUTE | ZS_EXEC_POISON,
                                     ZS_EXEC_KEEP_NORMS, ZS_EXEC_KEEP_NORMS | ZS_EXEC_RECOMPUTE};
    static net ref, m;
    build(&ref, 0);
    run(&ref);
    float loss = *zs_exec_output(ref.e, "loss");
    assert_true(loss > 0.0f);
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        build(&m, flags[i]);
        run(&m);
        assert_memory_equal(zs_exec_output(m.e, "loss"), &loss, sizeof loss);
        assert_memory_equal(m.grads, ref.grads, sizeof ref.grads);
        assert_memory_equal(zs_exec_output(m.e, "y"), zs_exec_output(ref.e, "y"),
                            N * S * S * C * sizeof(float));
        zs_exec_free(&m.e);
    }
    zs_exec_free(&ref.e);
}

/* The folded addition rounds once instead of twice: equal to a few units in the last place. */
static void peephole_keeps_values(void **state)
{
    (void)state;
    static net with, without;
    build(&with, 0);
    build(&without, ZS_EXEC_NO_PEEPHOLE);
    run(&with);
    run(&without);
    assert_memory_not_equal(with.grads, without.grads, sizeof with.grads); /* it did fold */
    const float *a = zs_exec_output(with.e, "y"), *b = zs_exec_output(without.e, "y");
    for (int i = 0; i < N * S * S * C; i++)
        assert_float_equal(a[i], b[i], 1e-4f);
    for (int i = 0; i < PARAMS; i++)
        assert_float_equal(with.grads[i], without.grads[i], 1e-4f);
    zs_exec_free(&with.e);
    zs_exec_free(&without.e);
}

static void count_dropout(void *ctx, size_t node, zs_op op, const zs_call *c, double seconds)
{
    (void)node, (void)c, (void)seconds;
    *(int *)ctx += op == ZS_OP_DROPOUT;
}

/* Norm, dropout, convolution, norm; loss and gradients. Returns the dropout nodes that ran. */
static int run_dropped(net *m, const char *backend, unsigned flags)
{
    int ran = 0;
    zs_error err = {0};
    zs_graph *g = NULL;
    memset(m, 0, sizeof *m);
    m->p.room = PARAMS;
    assert_int_equal(zs_graph_new(&g, &err), 0);
    zs_tid x = zs_graph_input(g, "x", zs_shape4(N, S, S, C));
    zs_tid ss = param(g, m, zs_shape2(N, 2 * C)), h = x;
    zs_graph_segment_begin(g);
    for (int i = 0; i < 2; i++) {
        h = zs_gn_act(g, h, param(g, m, zs_shape1(C)), param(g, m, zs_shape1(C)), ss, ZS_NONE, 3,
                      1e-5f, ZS_ACT_SILU);
        h = zs_dropout(g, h, 0.25f);
        h = zs_conv2d(g, h, param(g, m, zs_shape4(3, 3, C, C)), ZS_NONE, ZS_NONE, 1, 1);
    }
    zs_graph_segment_end(g);
    zs_tid l = zs_loss_node(g, h, zs_graph_input(g, "target", zs_shape4(N, S, S, C)), ZS_NONE,
                            ZS_LOSS_MSE);
    zs_graph_output(g, "loss", l);
    zs_graph_backward(g, l);
    zs_exec_config c = {.backend = zs_backend_find(backend),
                        .flags = flags,
                        .hook = count_dropout,
                        .hook_ctx = &ran};
    assert_int_equal(zs_exec_new(&m->e, &g, &c, &err), 0);
    zs_rng r = {.seed = 5, .purpose = ZS_RNG_TEST};
    zs_rng_normal(m->params, PARAMS, &r, 0);
    r.index = 1;
    zs_rng_normal(zs_exec_input(m->e, "x"), N * S * S * C, &r, 0);
    run(m);
    zs_exec_free(&m->e);
    return ran;
}

/* Forward, recomputed and backward dropout disappear into the norms and leave every bit alone. */
static void dropout_folds_into_norms(void **state)
{
    (void)state;
    static const char *const backends[] = {"cpu", "cpu-ref"};
    static net with, without;
    for (int b = 0; b < 2; b++) {
        assert_int_equal(run_dropped(&without, backends[b], ZS_EXEC_NO_PEEPHOLE), 4);
        assert_int_equal(run_dropped(&with, backends[b], 0), 0);
        assert_memory_equal(with.grads, without.grads, sizeof with.grads);
        assert_int_equal(run_dropped(&with, backends[b], ZS_EXEC_RECOMPUTE | ZS_EXEC_POISON), 0);
        assert_memory_equal(with.grads, without.grads, sizeof with.grads);
    }
}

static void inputs_survive_and_gradients_accumulate(void **state)
{
    (void)state;
    static net m;
    static float first[PARAMS];
    build(&m, ZS_EXEC_POISON);
    run(&m);
    memcpy(first, m.grads, sizeof first);
    run(&m);
    for (int i = 0; i < PARAMS; i++)
        assert_float_equal(m.grads[i], 2.0f * first[i],
                           1e-6f * (1.0f + (first[i] > 0 ? first[i] : -first[i])));
    zs_exec_free(&m.e);
}

static void reuse_and_recompute_save_memory(void **state)
{
    (void)state;
    static net plain, separate, recompute, norms;
    build(&plain, 0);
    build(&separate, ZS_EXEC_NO_REUSE);
    build(&recompute, ZS_EXEC_RECOMPUTE);
    build(&norms, ZS_EXEC_KEEP_NORMS);
    assert_true(zs_exec_arena_bytes(plain.e) < zs_exec_arena_bytes(norms.e));
    assert_true(zs_exec_arena_bytes(plain.e) < zs_exec_arena_bytes(separate.e));
    assert_true(zs_exec_arena_bytes(recompute.e) < zs_exec_arena_bytes(plain.e));
    zs_exec_free(&plain.e);
    zs_exec_free(&separate.e);
    zs_exec_free(&recompute.e);
    zs_exec_free(&norms.e);
}

static void verifier_finds_overlap(void **state)
{
    (void)state;
    zs_error err = {0};
    zs_placement ok[3] = {{0, 2, 0, 64}, {1, 3, 64, 64}, {3, 4, 0, 64}};
    assert_int_equal(zs_plan_verify(ok, 3, &err), 0);
    ok[2].first = 2; /* now alive with 0 on the same bytes */
    assert_int_equal(zs_plan_verify(ok, 3, &err), ZS_E_INTERNAL);
}

static void random_plans_are_valid(void **state)
{
    (void)state;
    zs_placement p[200];
    for (uint64_t trial = 0; trial < 20; trial++) {
        zs_error err = {0};
        size_t arena = 0, sum = 0;
        for (uint64_t i = 0; i < 200; i++) {
            zs_rng r = {.seed = trial, .purpose = ZS_RNG_TEST, .index = i};
            uint32_t w[4];
            zs_rng_block(&r, 0, w);
            int32_t first = (int32_t)(w[0] % 500);
            p[i] = (zs_placement){first, first + (int32_t)(w[1] % 60), 0, w[2] % 5000};
            sum += p[i].bytes + 64;
        }
        assert_int_equal(zs_plan_offsets(p, 200, 64, &arena, &err), 0);
        assert_int_equal(zs_plan_verify(p, 200, &err), 0);
        assert_true(arena < sum / 2);
        for (int i = 0; i < 200; i++)
            assert_true(p[i].offset % 64 == 0 && p[i].offset + p[i].bytes <= arena);
    }
}

static void mistakes_are_reported_once(void **state)
{
    (void)state;
    zs_error err = {0};
    zs_graph *g = NULL;
    zs_exec *e = NULL;
    assert_int_equal(zs_graph_new(&g, &err), 0);
    zs_tid x = zs_graph_input(g, "x", zs_shape4(1, 4, 4, 3));
    zs_tid w = zs_graph_param(g, 0, zs_shape4(3, 3, 5, 2), true);
    zs_tid y = zs_conv2d(g, x, w, ZS_NONE, ZS_NONE, 1, 1);
    assert_int_equal(y, ZS_NONE);
    assert_int_equal(zs_silu(g, y), ZS_NONE);
    assert_int_equal(zs_exec_new(&e, &g, &(zs_exec_config){0}, &err), ZS_E_INVALID);
    assert_non_null(strstr(err.message, "channels of x and w differ"));
    assert_null(e);
    assert_null(g);
}

static void dead_nodes_are_dropped(void **state)
{
    (void)state;
    zs_error err = {0};
    zs_graph *g = NULL;
    zs_exec *e = NULL;
    assert_int_equal(zs_graph_new(&g, &err), 0);
    zs_tid x = zs_graph_input(g, "x", zs_shape2(4, 4));
    zs_graph_output(g, "y", zs_silu(g, x));
    zs_silu(g, zs_silu(g, x));
    assert_int_equal(zs_graph_node_count(g), 3);
    assert_int_equal(zs_exec_new(&e, &g, &(zs_exec_config){.flags = ZS_EXEC_NO_REUSE}, &err), 0);
    assert_int_equal(zs_exec_arena_bytes(e), 2 * 64);
    zs_exec_free(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flags_do_not_change_results),
        cmocka_unit_test(peephole_keeps_values),
        cmocka_unit_test(dropout_folds_into_norms),
        cmocka_unit_test(inputs_survive_and_gradients_accumulate),
        cmocka_unit_test(reuse_and_recompute_save_memory),
        cmocka_unit_test(verifier_finds_overlap),
        cmocka_unit_test(random_plans_are_valid),
        cmocka_unit_test(mistakes_are_reported_once),
        cmocka_unit_test(dead_nodes_are_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
