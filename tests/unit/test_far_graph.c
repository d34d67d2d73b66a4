/* SPDX-License-Identifier: MIT */
/* Plans on a backend whose memory is out of reach: types and casts, copies of inputs and outputs,
 * recorded runs, and what happens when something fails. */
#include "graph/graph.h"
#include "tests/unit/far_backend.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/graph_kit.h"

enum { N = 2, S = 8, C = 8, PARAMS = 4096, IMAGE = N * S * S * C };

typedef struct net {
    const zs_backend *backend;
    float params[PARAMS], grads[PARAMS]; /* the program's */
    zs_weights w;
    float *far_grads; /* the backend's; of the CPU `grads` */
    kit_params p;
    zs_exec *e;
} net;

static zs_tid param(zs_graph *g, net *m, zs_shape s)
{
    return kit_param(g, &m->p, s);
}

/* Blocks around a skip, a table, timesteps, and a loss: every kind of tensor and of mismatch. */
static zs_graph *draw(net *m)
{
    zs_error err = {0};
    zs_graph *g = NULL;
    assert_int_equal(zs_graph_new(&g, &err), 0);
    zs_tid x = zs_graph_input(g, "x", zs_shape4(N, S, S, C));
    zs_tid t = zs_timestep(g, zs_graph_input(g, "t", zs_shape1(N)), C);
    zs_tid y = zs_embed(g, zs_graph_input(g, "y", zs_shape1(N)), param(g, m, zs_shape2(3, C)));
    zs_tid cond = zs_linear(g, zs_add(g, t, y), param(g, m, zs_shape2(2 * C, C)),
                            param(g, m, zs_shape1(2 * C)));
    zs_tid a = kit_block(g, &m->p, x, C, 4), b = kit_block(g, &m->p, zs_downsample2(g, a), C, 4);
    zs_tid h = zs_concat(g, a, zs_upsample2(g, b));
    h = zs_conv2d(g, h, param(g, m, zs_shape4(3, 3, 2 * C, C)), ZS_NONE, ZS_NONE, 1, 1);
    h = zs_gn_act(g, h, param(g, m, zs_shape1(C)), param(g, m, zs_shape1(C)), cond, ZS_NONE, 4,
                  1e-5f, ZS_ACT_SILU);
    zs_tid l = zs_loss_node(g, h, zs_graph_input(g, "target", zs_shape4(N, S, S, C)), ZS_NONE,
                            ZS_LOSS_MSE);
    zs_graph_output(g, "a", a);
    zs_graph_output(g, "y", h);
    zs_graph_output(g, "loss", l);
    zs_graph_backward(g, l);
    return g;
}

static void normal(float *x, size_t n, uint64_t index)
{
    zs_rng r = {.seed = 5, .purpose = ZS_RNG_TEST, .index = index};
    zs_rng_normal(x, n, &r, 0);
}

static void fill(net *m, uint64_t seed)
{
    normal(zs_exec_input(m->e, "x"), IMAGE, seed);
    normal(zs_exec_input(m->e, "target"), IMAGE, seed + 1);
    for (int i = 0; i < N; i++) {
        zs_exec_input(m->e, "t")[i] = (float)(100 * i + 17);
        zs_exec_input(m->e, "y")[i] = (float)(i % 3);
    }
}

static int plan(net *m, const zs_backend *b, const zs_exec_config *c, zs_error *err)
{
    zs_exec_config own = *c;
    memset(m, 0, sizeof *m);
    m->p.room = PARAMS;
    m->backend = own.backend = b;
    zs_graph *g = draw(m);
    normal(m->params, PARAMS, 99);
    for (int i = 0; i < PARAMS; i++)
        m->params[i] *= 0.3f;
    m->w = zs_weights_of_host(b, m->params, PARAMS);
    return zs_exec_new(&m->e, &g, &own, err);
}

static void build(net *m, const zs_backend *b, unsigned flags)
{
    zs_error err = {0};
    assert_int_equal(plan(m, b, &(zs_exec_config){.flags = flags}, &err), 0);
    m->far_grads = b->remote ? b->alloc(sizeof m->grads) : m->grads;
    fill(m, 0);
}

static int try_run(net *m, uint64_t step, zs_error *err)
{
    zs_step s = {.seed = 1, .step = step, .grad_scale = 1.0f};
    zs_buffers b;
    int status = zs_weights_get(&b, &m->w, 0, err);
    b.grads = m->far_grads;
    return status == ZS_OK ? zs_exec_run_with(m->e, &b, &s, err) : status;
}

static void run(net *m, uint64_t step)
{
    zs_error err = {0};
    assert_int_equal(try_run(m, step, &err), 0);
    if (m->backend->remote)
        assert_int_equal(
            m->backend->remote->download(m->grads, m->far_grads, sizeof m->grads, &err), 0);
}

static void done(net *m)
{
    zs_exec_free(&m->e);
    if (m->backend->remote && m->far_grads)
        m->backend->release(m->far_grads, sizeof m->grads);
    zs_weights_clear(&m->w);
}

static void same(const net *a, const net *b)
{
    assert_memory_equal(zs_exec_output(a->e, "loss"), zs_exec_output(b->e, "loss"), sizeof(float));
    assert_memory_equal(zs_exec_output(a->e, "y"), zs_exec_output(b->e, "y"),
                        IMAGE * sizeof(float));
    assert_memory_equal(zs_exec_output(a->e, "a"), zs_exec_output(b->e, "a"),
                        IMAGE * sizeof(float));
    assert_memory_equal(a->grads, b->grads, sizeof a->grads);
}

static const unsigned modes[] = {0,
                                 ZS_EXEC_NO_REUSE,
                                 ZS_EXEC_POISON,
                                 ZS_EXEC_RECOMPUTE,
                                 ZS_EXEC_RECOMPUTE | ZS_EXEC_POISON,
                                 ZS_EXEC_KEEP_NORMS | ZS_EXEC_POISON};
enum { MODES = sizeof modes / sizeof modes[0] };

/* Eagerly, while recorded, replayed; with other inputs and steps each time. */
static void single_precision_gives_the_bits_of_the_reference(void **state)
{
    (void)state;
    static net ref, far;
    for (size_t i = 0; i < MODES; i++) {
        build(&ref, zs_backend_find("cpu-ref"), modes[i]);
        build(&far, &far_f32, modes[i]);
        for (uint64_t k = 0; k < 4; k++) {
            fill(&ref, 10 * k);
            fill(&far, 10 * k);
            run(&ref, k);
            run(&far, k);
            same(&ref, &far);
        }
        done(&ref);
        done(&far);
    }
    assert_int_equal(far_counted().blocks, 0);
    assert_int_equal(far_counted().tapes, 0);
}

static double distance(const float *a, const float *b, size_t n)
{
    double d = 0, l = 0;
    for (size_t i = 0; i < n; i++) {
        d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        l += (double)a[i] * (double)a[i];
    }
    return sqrt(d / l);
}

static void half_precision_is_near_and_modes_agree(void **state)
{
    (void)state;
    static net ref, first, far;
    build(&ref, zs_backend_find("cpu-ref"), 0);
    run(&ref, 3);
    build(&first, &far_bf16, 0);
    run(&first, 3);
    assert_true(distance(zs_exec_output(ref.e, "y"), zs_exec_output(first.e, "y"), IMAGE) < 0.02);
    assert_true(distance(zs_exec_output(ref.e, "a"), zs_exec_output(first.e, "a"), IMAGE) < 0.02);
    assert_true(distance(zs_exec_output(ref.e, "a"), zs_exec_output(first.e, "a"), IMAGE) > 1e-5);
    assert_true(distance(ref.grads, first.grads, PARAMS) < 0.03);
    for (size_t i = 1; i < MODES; i++) {
        build(&far, &far_bf16, modes[i]);
        run(&far, 3);
        same(&first, &far);
        done(&far);
    }
    assert_true(zs_exec_arena_bytes(first.e) < zs_exec_arena_bytes(ref.e));
    done(&ref);
    done(&first);
    assert_int_equal(far_counted().blocks, 0);
}

typedef struct tally {
    int nodes, casts, to_half;
} tally;

static void count_casts(void *ctx, size_t node, zs_op op, const zs_call *c, double seconds)
{
    tally *t = ctx;
    (void)node, (void)seconds;
    t->nodes++;
    t->casts += op == ZS_OP_CAST;
    t->to_half += op == ZS_OP_CAST && c->out[0].type == ZS_BF16;
}

/* x, which a convolution and its gradient read; the loss's prediction, also an output, and its
 * gradient; the output "a". Each once. */
static void casts_are_few_and_shared(void **state)
{
    (void)state;
    static net m;
    zs_error err = {0};
    tally t = {0};
    const zs_exec_config c = {.hook = count_casts, .hook_ctx = &t};
    assert_int_equal(plan(&m, &far_bf16, &c, &err), 0);
    m.far_grads = far_bf16.alloc(sizeof m.grads);
    fill(&m, 0);
    run(&m, 0);
    assert_int_equal(t.casts, 4);
    assert_int_equal(t.to_half, 2);
    int eager = t.nodes;
    run(&m, 1); /* a hook prevents recording */
    assert_int_equal(t.nodes, 2 * eager);
    assert_int_equal(far_counted().tapes, 0);
    done(&m);
    t = (tally){0};
    assert_int_equal(plan(&m, &far_f32, &c, &err), 0);
    m.far_grads = far_f32.alloc(sizeof m.grads);
    fill(&m, 0);
    run(&m, 0);
    assert_int_equal(t.casts, 0);
    done(&m);
}

static void run_traced(zs_trace **t, net *m, const zs_backend *b, float first_weight)
{
    zs_error err = {0};
    assert_int_equal(zs_trace_new(t, b, &err), 0);
    const zs_exec_config c = {.hook = zs_trace_node, .hook_ctx = *t};
    assert_int_equal(plan(m, b, &c, &err), 0);
    m->far_grads = b->remote ? b->alloc(sizeof m->grads) : m->grads;
    m->params[0] += first_weight; /* of the table of classes */
    fill(m, 0);
    run(m, 0);
    done(m);
}

static void the_node_where_backends_part_is_named(void **state)
{
    (void)state;
    static net m;
    zs_error err = {0};
    zs_trace_gap gap;
    zs_trace *ref = NULL, *far = NULL, *half = NULL, *other = NULL;
    run_traced(&ref, &m, zs_backend_find("cpu-ref"), 0);
    run_traced(&far, &m, &far_f32, 0);
    run_traced(&half, &m, &far_bf16, 0);
    run_traced(&other, &m, &far_f32, 10);
    assert_int_equal(zs_trace_compare(&gap, ref, far, 0, &err), 0);
    assert_true(gap.distance == 0);
    assert_int_equal(zs_trace_compare(&gap, ref, half, 0.2, &err), 0);
    assert_true(gap.distance > 1e-4);
    assert_int_equal(zs_trace_compare(&gap, ref, half, 1e-7, &err), 1);
    assert_int_equal(zs_trace_compare(&gap, ref, other, 1e-7, &err), 1);
    assert_int_equal(gap.op, ZS_OP_EMBED);
    zs_trace_free(&other);
    assert_int_equal(zs_trace_new(&other, &far_f32, &err), 0);
    assert_int_equal(zs_trace_compare(&gap, ref, other, 0, &err), ZS_E_INVALID);
    zs_trace_free(&ref);
    zs_trace_free(&far);
    zs_trace_free(&half);
    zs_trace_free(&other);
    assert_int_equal(far_counted().blocks, 0);
}

static void recorded_once_and_again_for_other_buffers(void **state)
{
    (void)state;
    static net m;
    build(&m, &far_f32, 0);
    far_counts start = far_counted();
    run(&m, 0);
    far_counts eager = far_counted();
    assert_int_equal(eager.replays, start.replays);
    run(&m, 1);
    run(&m, 2);
    far_counts later = far_counted();
    assert_int_equal(later.kernels, eager.kernels);
    assert_int_equal(later.replays, start.replays + 2);
    assert_int_equal(later.tapes, 1);
    float *old = m.far_grads;
    m.far_grads = far_f32.alloc(sizeof m.grads);
    run(&m, 3);
    assert_int_equal(far_counted().tapes, 0);
    assert_true(far_counted().kernels > later.kernels);
    far_f32.release(old, sizeof m.grads);
    run(&m, 4);
    assert_int_equal(far_counted().tapes, 1);
    done(&m);
    far_refuse_recording(true);
    build(&m, &far_f32, 0);
    for (uint64_t k = 0; k < 3; k++)
        run(&m, k);
    assert_int_equal(far_counted().tapes, 0);
    far_refuse_recording(false);
    done(&m);
}

typedef struct told {
    int times;
    char text[256];
} told;

static void on_log(void *ctx, zs_log_level level, const char *message)
{
    told *t = ctx;
    assert_int_equal(level, ZS_LOG_WARN);
    t->times++;
    (void)snprintf(t->text, sizeof t->text, "%s", message);
}

/* What cannot be recorded is run as ever, and why is said once: to somebody who listens. */
static void a_lost_recording_is_told_once(void **state)
{
    (void)state;
    static net ref, far;
    told t = {0};
    const zs_ui ui = {.ctx = &t, .log = on_log};
    uint64_t replays = zs_exec_replays();
    zs_exec_warn(&ui);
    assert_int_equal(t.times, 0);
    build(&ref, zs_backend_find("cpu-ref"), 0);
    far_lose_recording(true);
    for (int k = 0; k < 2; k++) {
        build(&far, &far_f32, 0);
        for (uint64_t i = 0; i < 3; i++) {
            size_t before = far_counted().kernels;
            run(&far, i);
            run(&ref, i);
            assert_true(far_counted().kernels > before);
            assert_memory_equal(zs_exec_output(ref.e, "y"), zs_exec_output(far.e, "y"),
                                IMAGE * sizeof(float));
        }
        assert_int_equal(far_counted().tapes, 0);
        done(&far);
        zs_exec_warn(NULL);
        zs_exec_warn(&ui);
        assert_int_equal(t.times, 1);
    }
    assert_non_null(strstr(t.text, "far "));
    assert_non_null(strstr(t.text, "something in it is not allowed"));
    assert_int_equal(zs_exec_replays(), replays);
    far_lose_recording(false);
    build(&far, &far_f32, 0);
    for (uint64_t i = 0; i < 3; i++)
        run(&far, i);
    assert_int_equal(zs_exec_replays(), replays + 2);
    done(&far);
    done(&ref);
}

/* Only what was asked for is uploaded, with the step; the rest keeps its numbers over there. */
static void inputs_are_uploaded_when_asked_for(void **state)
{
    (void)state;
    static net ref, far;
    build(&ref, zs_backend_find("cpu-ref"), 0);
    build(&far, &far_f32, 0);
    run(&far, 0);
    run(&ref, 0);
    size_t before = far_counted().uploads;
    run(&far, 1);
    assert_int_equal(far_counted().uploads, before + 2); /* step and weights */
    normal(zs_exec_input(far.e, "x"), IMAGE, 77);
    normal(zs_exec_input(ref.e, "x"), IMAGE, 77);
    run(&ref, 1);
    run(&ref, 2);
    run(&far, 2);
    assert_int_equal(far_counted().uploads, before + 5);
    assert_memory_equal(zs_exec_output(ref.e, "y"), zs_exec_output(far.e, "y"),
                        IMAGE * sizeof(float));
    done(&ref);
    done(&far);
}

/* One product of weights that are kept packed, under versions that come and go. */
static void packed_weights_follow_their_version(void **state)
{
    (void)state;
    float w[C * C], want = 0;
    zs_error err = {0};
    zs_graph *g = NULL;
    zs_exec *e = NULL;
    zs_packs *packs = NULL;
    static const uint64_t versions[] = {1, 1, 1, 2, 2, 0, 0, 3, 3};
    assert_int_equal(zs_packs_new(&packs, &far_f32, 1 << 20, &err), 0);
    assert_int_equal(zs_graph_new(&g, &err), 0);
    zs_tid x = zs_graph_input(g, "x", zs_shape4(1, 1, 1, C));
    zs_tid k = zs_graph_param(g, 0, zs_shape4(1, 1, C, C), false);
    zs_graph_output(g, "y", zs_conv2d(g, x, k, ZS_NONE, ZS_NONE, 1, 0));
    const zs_exec_config c = {.backend = &far_f32, .packs = packs};
    assert_int_equal(zs_exec_new(&e, &g, &c, &err), 0);
    zs_weights placed = zs_weights_of_host(&far_f32, w, C * C);
    for (int i = 0; i < C; i++)
        zs_exec_input(e, "x")[i] = 1;
    size_t before = far_counted().packs;
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        zs_step s = {.grad_scale = 1, .weights = versions[i]};
        zs_buffers b;
        if (i == 0 || versions[i] == 0 || versions[i] != versions[i - 1])
            want += 1;
        for (int j = 0; j < C * C; j++)
            w[j] = want;
        assert_int_equal(zs_weights_get(&b, &placed, versions[i], &err), 0);
        assert_int_equal(zs_exec_run_with(e, &b, &s, &err), 0);
        assert_float_equal(zs_exec_output(e, "y")[C - 1], want * C, 0);
    }
    assert_int_equal(far_counted().packs, before + 3);
    zs_exec_free(&e);
    zs_packs_free(&packs);
    zs_weights_clear(&placed);
    assert_int_equal(far_counted().blocks, 0);
}

/* A new version is uploaded, an old one is not again. */
static void weights_follow_their_version(void **state)
{
    (void)state;
    float w[3] = {1, 2, 3}, back[3];
    uint16_t half[3];
    zs_error err = {0};
    zs_buffers b;
    zs_weights k = zs_weights_of_host(&far_bf16, w, 3);
    assert_int_equal(zs_weights_get(&b, &k, 7, &err), 0);
    size_t before = far_counted().uploads;
    assert_int_equal(zs_weights_get(&b, &k, 7, &err), 0);
    assert_int_equal(far_counted().uploads, before);
    assert_int_equal(far_bf16.remote->sync(&err), 0);
    w[1] = 5;
    assert_int_equal(zs_weights_get(&b, &k, 8, &err), 0);
    assert_int_equal(far_bf16.remote->download(back, b.params, sizeof back, &err), 0);
    assert_int_equal(far_bf16.remote->download(half, b.shadow, sizeof half, &err), 0);
    assert_memory_equal(w, back, sizeof w);
    for (int i = 0; i < 3; i++)
        assert_float_equal(zs_bf16_to_f32(half[i]), w[i], 0);
    zs_weights_clear(&k);
    zs_weights_clear(&k);
    k = zs_weights_of_host(zs_backend_find("cpu"), w, 3);
    assert_int_equal(zs_weights_get(&b, &k, 0, &err), 0);
    assert_ptr_equal(b.params, w);
    assert_null(b.shadow);
    zs_weights_clear(&k);
    assert_int_equal(far_counted().blocks, 0);
}

/* A sentence, no leak, and no second failure on the way out. */
static void failures_are_passed_on(void **state)
{
    (void)state;
    static const far_point points[] = {FAR_UPLOAD, FAR_DOWNLOAD, FAR_KERNEL, FAR_RECORD,
                                       FAR_REPLAY};
    static net m;
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++)
        for (int nth = 1; nth < 4; nth++) {
            zs_error err = {0};
            int status = ZS_OK;
            build(&m, i % 2 ? &far_bf16 : &far_f32, 0);
            far_fail_at(points[i], nth);
            for (uint64_t k = 0; status == ZS_OK && k < 5; k++)
                status = try_run(&m, k, &err);
            if (points[i] != FAR_RECORD || nth == 1) {
                assert_int_equal(status, ZS_E_IO);
                assert_non_null(strstr(err.message, "the far device failed"));
            }
            far_reset();
            done(&m);
            assert_int_equal(far_counted().blocks, 0);
            assert_int_equal(far_counted().tapes, 0);
        }
}

static void memory_that_is_not_there_is_named(void **state)
{
    (void)state;
    static net m;
    for (int nth = 1; nth <= 2; nth++) {
        zs_error err = {0};
        far_fail_at(FAR_ALLOC, nth);
        assert_int_equal(plan(&m, &far_bf16, &(zs_exec_config){0}, &err), ZS_E_NOMEM);
        assert_non_null(strstr(err.message, "--batch"));
        assert_non_null(strstr(err.message, "far-bf16"));
        far_reset();
        done(&m);
    }
    zs_error err = {0};
    far_fail_at(FAR_HOST, 1);
    assert_int_equal(plan(&m, &far_f32, &(zs_exec_config){0}, &err), ZS_E_NOMEM);
    far_reset();
    done(&m);
    zs_buffers b;
    float w[2] = {1, 2};
    for (int nth = 1; nth <= 2; nth++) {
        zs_error why = {0};
        zs_weights k = zs_weights_of_host(&far_bf16, w, 2);
        far_fail_at(FAR_ALLOC, nth);
        assert_int_equal(zs_weights_get(&b, &k, 1, &why), ZS_E_NOMEM);
        assert_non_null(strstr(why.message, "weights"));
        zs_weights_clear(&k);
        far_reset();
    }
    assert_int_equal(far_counted().blocks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(single_precision_gives_the_bits_of_the_reference),
        cmocka_unit_test(half_precision_is_near_and_modes_agree),
        cmocka_unit_test(casts_are_few_and_shared),
        cmocka_unit_test(the_node_where_backends_part_is_named),
        cmocka_unit_test(a_lost_recording_is_told_once),
        cmocka_unit_test(recorded_once_and_again_for_other_buffers),
        cmocka_unit_test(inputs_are_uploaded_when_asked_for),
        cmocka_unit_test(packed_weights_follow_their_version),
        cmocka_unit_test(weights_follow_their_version),
        cmocka_unit_test(failures_are_passed_on),
        cmocka_unit_test(memory_that_is_not_there_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
