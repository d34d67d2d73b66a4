/* SPDX-License-Identifier: MIT */
/* Gradients are said to be final when they are, and not later than that. */
#include "graph/graph.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum {
    LAYERS = 3,
    WIDTH = 4,
    ROWS = 5,
    EACH = WIDTH * WIDTH,
    UNUSED = 8,
    ALL = LAYERS * EACH + UNUSED
};

typedef struct heard {
    const float *grads;
    float at_that_time[LAYERS][EACH];
    size_t order[LAYERS + 1];
    size_t n;
    int ticks;
} heard;

static void on_ready(void *ctx, size_t range)
{
    heard *h = ctx;
    assert_true(range < LAYERS);
    assert_true(h->n < LAYERS);
    memcpy(h->at_that_time[range], h->grads + range * EACH, sizeof h->at_that_time[0]);
    h->order[h->n++] = range;
}

static void on_tick(void *ctx)
{
    ((heard *)ctx)->ticks++;
}

/* Layers one after the other; the last is used twice, so that two nodes add to it. */
static zs_exec *make(unsigned flags)
{
    zs_graph *g = NULL;
    zs_exec *e = NULL;
    zs_error err = {0};
    zs_exec_config c = {.flags = flags};
    assert_int_equal(zs_graph_new(&g, &err), ZS_OK);
    zs_tid x = zs_graph_input(g, "x", zs_shape2(ROWS, WIDTH));
    for (int i = 0; i < LAYERS + 1; i++) {
        int k = i < LAYERS ? i : LAYERS - 1;
        x = zs_linear(g, x, zs_graph_param(g, k * EACH, zs_shape2(WIDTH, WIDTH), true), ZS_NONE);
    }
    zs_tid l =
        zs_loss_node(g, x, zs_graph_input(g, "y", zs_shape2(ROWS, WIDTH)), ZS_NONE, ZS_LOSS_MSE);
    zs_graph_output(g, "loss", l);
    zs_graph_backward(g, l);
    if (zs_exec_new(&e, &g, &c, &err) < 0)
        fail_msg("%s", err.message);
    return e;
}

static void test_final_when_said(void **state)
{
    (void)state;
    float params[ALL], grads[ALL];
    const zs_grad_range ranges[] = {
        {0, EACH}, {EACH, 2 * EACH}, {2 * EACH, 3 * EACH}, {3 * EACH, ALL}};
    heard h = {.grads = grads};
    zs_error err = {0};
    zs_exec *e = make(0);
    const zs_ready_config c = {
        .ranges = ranges, .n = 4, .ready = on_ready, .tick = on_tick, .ctx = &h};
    assert_int_equal(zs_exec_watch(e, &c, &err), ZS_OK);
    for (int i = 0; i < ALL; i++)
        params[i] = 0.1f * (float)(i % 7) - 0.2f;
    for (int i = 0; i < ROWS * WIDTH; i++) {
        zs_exec_input(e, "x")[i] = (float)(i % 5);
        zs_exec_input(e, "y")[i] = (float)(i % 3);
    }
    const zs_step step = {.grad_scale = 1.0f};
    for (int run = 0; run < 2; run++) { /* each run speaks anew */
        memset(grads, 0, sizeof grads);
        h.n = 0;
        h.ticks = 0;
        assert_int_equal(zs_exec_run(e, params, grads, &step, &err), ZS_OK);
        assert_int_equal(h.n, LAYERS);
        assert_true(h.ticks > LAYERS);
        for (size_t i = 0; i < LAYERS; i++)
            assert_int_equal(h.order[i], LAYERS - 1 - i);
        assert_memory_equal(h.at_that_time, grads, sizeof h.at_that_time);
        assert_true(grads[0] != 0.0f);
    }
    zs_exec_free(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_final_when_said)};
    return cmocka_run_group_tests_name("ready", tests, NULL, NULL);
}
