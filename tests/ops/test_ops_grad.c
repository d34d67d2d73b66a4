/* SPDX-License-Identifier: MIT */
/* Central differences against the gradient rules: every small forward case of the table becomes a
 * graph whose inputs are all parameters and whose loss is the MSE of the result against a random
 * target. Slot by slot the parameters move along random directions of +-1. */
#include "graph/graph.h"
#include "tests/ops/cases.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_ELEMENTS = 6000, DIRECTIONS = 3 };

typedef struct net {
    const op_case *c;
    op_data data;                /* initial values */
    int64_t at[ZS_MAX_IN], used; /* offsets into the flat buffers */
    float *params, *grads, *moved;
    zs_exec *e;
} net;

/* The operation itself, on parameters t. */
static zs_tid build_op(zs_graph *g, const op_case *c, const zs_tid *t)
{
    const zs_attr *a = &c->a;
    switch (c->op) {
    case ZS_OP_CONV2D:
        if (a->tail)
            return zs_conv2d_tail(g, t[0], t[1], t[2], a->stride, a->tail);
        return zs_conv2d(g, t[0], t[1], t[2], t[3], a->stride, a->pad);
    case ZS_OP_LINEAR: return zs_linear(g, t[0], t[1], t[2]);
    case ZS_OP_GN_ACT:
        return zs_dropout(
            g, zs_gn_act(g, t[0], t[1], t[2], t[3], t[4], a->groups, a->eps, (zs_act)a->act), a->p);
    case ZS_OP_LAYERNORM: return zs_layernorm_mod(g, t[0], t[1], t[2], t[3], a->offset, a->eps);
    case ZS_OP_GATE: return zs_gate(g, t[0], t[1], t[2], a->offset);
    case ZS_OP_SILU: return zs_silu(g, t[0]);
    case ZS_OP_GELU: return a->kind == ZS_GELU_TANH ? zs_gelu_tanh(g, t[0]) : zs_gelu(g, t[0]);
    case ZS_OP_PATCHES: return zs_patches(g, t[0], a->k);
    case ZS_OP_UNPATCH: return zs_unpatch(g, t[0], a->k, a->h, a->w);
    case ZS_OP_SUBSTITUTE:
        return zs_substitute(g, t[0], t[1], zs_graph_input(g, "given", c->in[2]));
    case ZS_OP_ADD: return zs_add(g, t[0], t[1]);
    case ZS_OP_SCALE1P: return zs_scale1p(g, t[0], t[1]);
    case ZS_OP_ATTENTION:
        return a->kind == ZS_QKV_BY_PART ? zs_attention_by_part(g, t[0], a->heads)
                                         : zs_attention(g, t[0], a->heads);
    case ZS_OP_TOKENS: return zs_tokens(g, t[0], t[1], t[2]);
    case ZS_OP_TAKE_ROW: return zs_take_row(g, t[0], a->offset);
    case ZS_OP_UPSAMPLE2: return zs_upsample2(g, t[0]);
    case ZS_OP_DOWNSAMPLE2: return zs_downsample2(g, t[0]);
    case ZS_OP_CONCAT: return zs_concat(g, t[0], t[1]);
    case ZS_OP_MEAN_HW: return zs_mean_hw(g, t[0]);
    case ZS_OP_EMBED: return zs_embed(g, zs_graph_input(g, "given", c->in[0]), t[1]);
    case ZS_OP_DROPOUT: return zs_dropout(g, t[0], a->p);
    default: return ZS_NONE;
    }
}

/* The loss: of the operation's result, or the operation itself. */
static zs_tid build_loss(zs_graph *g, const op_case *c, const zs_tid *t)
{
    zs_tid y = c->op == ZS_OP_LOSS ? t[0] : build_op(g, c, t);
    zs_tid target = zs_graph_input(g, "target", zs_graph_shape(g, y));
    if (c->op != ZS_OP_LOSS)
        return zs_loss_node(g, y, target, ZS_NONE, ZS_LOSS_MSE);
    zs_tid weights = c->in[2].nd ? zs_graph_input(g, "given", c->in[2]) : ZS_NONE;
    return zs_loss_node(g, y, target, weights, (zs_loss)c->a.kind);
}

/* Random, and away from the kinks that the loss of absolute differences has at the prediction. */
static void fill_target(net *m)
{
    zs_shape s = zs_exec_shape(m->e, "target");
    float *target = zs_exec_input(m->e, "target");
    size_t n = (size_t)zs_shape_numel(&s);
    zs_rng r = {.seed = 7, .purpose = ZS_RNG_TEST};
    zs_rng_normal(target, n, &r, 0);
    for (size_t i = 0; m->c->op == ZS_OP_LOSS && m->c->a.kind == ZS_LOSS_L1 && i < n; i++)
        if (fabsf(target[i] - m->params[i]) < 0.02f)
            target[i] = m->params[i] + 0.1f;
}

/* The input that has no gradient by its nature: indices of a table, a mask, weights; or -1. */
static int given_slot(const op_case *c)
{
    if (c->op == ZS_OP_SUBSTITUTE || (c->op == ZS_OP_LOSS && c->in[2].nd))
        return 2;
    return c->op == ZS_OP_EMBED ? 0 : -1;
}

static void build(net *m)
{
    zs_error err = {0};
    zs_graph *g = NULL;
    zs_tid t[ZS_MAX_IN];
    assert_int_equal(zs_graph_new(&g, &err), 0);
    for (int i = 0; i < ZS_MAX_IN; i++)
        t[i] = m->at[i] >= 0 ? zs_graph_param(g, m->at[i], m->c->in[i], true) : ZS_NONE;
    zs_tid l = build_loss(g, m->c, t);
    zs_graph_output(g, "loss", l);
    zs_graph_backward(g, l);
    zs_exec_config config = {.backend = zs_backend_find("cpu-ref")};
    if (zs_exec_new(&m->e, &g, &config, &err) != 0)
        fail_msg("%s: %s", m->c->name, err.message);
    fill_target(m);
    int slot = given_slot(m->c);
    if (slot >= 0)
        memcpy(zs_exec_input(m->e, "given"), m->data.in[slot],
               (size_t)zs_shape_numel(&m->c->in[slot]) * sizeof(float));
}

/* Inputs that become parameters: all but the target of a loss and what is given. */
static bool is_param(const op_case *c, int slot)
{
    return c->in[slot].nd && !(c->op == ZS_OP_LOSS && slot == 1) && slot != given_slot(c);
}

static void net_open(net *m, const op_case *c)
{
    *m = (net){.c = c};
    assert_true(op_data_new(&m->data, c));
    for (int i = 0; i < ZS_MAX_IN; i++) {
        m->at[i] = is_param(c, i) ? m->used : -1;
        m->used += is_param(c, i) ? zs_shape_numel(&c->in[i]) : 0;
    }
    m->params = zs_calloc((size_t)m->used, sizeof(float));
    m->grads = zs_calloc((size_t)m->used, sizeof(float));
    m->moved = zs_calloc((size_t)m->used, sizeof(float));
    assert_true(m->params && m->grads && m->moved);
    for (int i = 0; i < ZS_MAX_IN; i++)
        if (m->at[i] >= 0)
            memcpy(m->params + m->at[i], m->data.in[i],
                   (size_t)zs_shape_numel(&c->in[i]) * sizeof(float));
    build(m);
}

static void net_close(net *m)
{
    zs_exec_free(&m->e);
    zs_free(m->params);
    zs_free(m->grads);
    zs_free(m->moved);
    op_data_free(&m->data);
}

static double loss_at(net *m, float *params)
{
    zs_error err = {0};
    zs_step step = {.seed = 3, .step = 17, .grad_scale = 1.0f};
    memset(m->grads, 0, (size_t)m->used * sizeof(float));
    assert_int_equal(zs_exec_run(m->e, params, m->grads, &step, &err), 0);
    return (double)zs_exec_output(m->e, "loss")[0];
}

/* The loss with slot i moved by h along direction v, whose entries are the signs of u - 1/2. */
static double loss_moved(net *m, int i, const float *u, float h)
{
    memcpy(m->moved, m->params, (size_t)m->used * sizeof(float));
    for (int64_t e = 0; e < zs_shape_numel(&m->c->in[i]); e++)
        m->moved[m->at[i] + e] += u[e] < 0.5f ? -h : h;
    return loss_at(m, m->moved);
}

static bool slot_agrees(net *m, int i, uint64_t direction)
{
    int64_t n = zs_shape_numel(&m->c->in[i]);
    float *u = zs_alloc((size_t)n, sizeof *u);
    zs_rng r = {.seed = 9, .purpose = ZS_RNG_TEST, .index = direction, .step = (uint64_t)i};
    /* smaller where the loss has kinks */
    float h = m->c->op == ZS_OP_LOSS && m->c->a.kind == ZS_LOSS_L1 ? 1e-3f : 1e-2f;
    double along = 0, square = 0;
    assert_non_null(u);
    zs_rng_uniform(u, (size_t)n, &r, 0);
    double loss = loss_at(m, m->params);
    for (int64_t e = 0; e < n; e++) {
        double g = (double)m->grads[m->at[i] + e];
        along += u[e] < 0.5f ? -g : g;
        square += g * g;
    }
    double fd = (loss_moved(m, i, u, h) - loss_moved(m, i, u, -h)) / (2 * (double)h);
    zs_free(u);
    /* the second term: f32 rounding of the loss */
    double limit = 5e-3 * sqrt(square) + 3e-7 * (1 + loss) / (double)h;
    if (fabs(fd - along) <= limit)
        return true;
    print_error("%s, input %d: difference %.6g, gradient %.6g (norm %.3g)\n", m->c->name, i, fd,
                along, sqrt(square));
    return false;
}

static int64_t elements(const op_case *c)
{
    int64_t n = 0;
    for (int i = 0; i < ZS_MAX_IN; i++)
        n += c->in[i].nd ? zs_shape_numel(&c->in[i]) : 0;
    return n;
}

static bool has_gradient(zs_op op)
{
    enum { NOGRAD, GRAD };
    static const int gradient[ZS_OP_COUNT] = {
#define OP(NAME, name, inputs, outputs, gradient, slots) gradient,
#include "tensor/ops.def"
#undef OP
    };
    return gradient[op] == GRAD;
}

static bool usable(const op_case *c)
{
    /* a border of bias alone (pad >= k) is more than the graph allows; the gradient of loss_vlb is
     * not that of its value (test_ops_vlb.c) */
    return has_gradient(c->op) && c->op != ZS_OP_LOSS_VLB && !c->bench &&
           elements(c) <= MAX_ELEMENTS && !(c->op == ZS_OP_CONV2D && c->a.pad >= c->a.k);
}

static void test_gradients(void **state)
{
    (void)state;
    size_t n;
    const op_case *cases = op_cases(&n);
    int failed = 0;
    for (size_t i = 0; i < n; i++) {
        net m;
        if (!usable(&cases[i]))
            continue;
        net_open(&m, &cases[i]);
        for (int slot = 0; slot < ZS_MAX_IN; slot++)
            for (uint64_t d = 0; m.at[slot] >= 0 && d < DIRECTIONS; d++)
                failed += !slot_agrees(&m, slot, d);
        net_close(&m);
    }
    assert_int_equal(failed, 0);
}

static void test_every_gradient_has_a_case(void **state)
{
    (void)state;
    size_t n;
    const op_case *cases = op_cases(&n);
    for (zs_op op = 0; op < ZS_OP_COUNT; op++) {
        size_t found = 0;
        for (size_t i = 0; i < n; i++)
            found += cases[i].op == op && usable(&cases[i]);
        if (has_gradient(op) && op != ZS_OP_LOSS_VLB && found == 0)
            fail_msg("no gradient case for %s", zs_op_name(op));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_gradient_has_a_case),
        cmocka_unit_test(test_gradients),
    };
    return cmocka_run_group_tests_name("ops_grad", tests, NULL, NULL);
}
