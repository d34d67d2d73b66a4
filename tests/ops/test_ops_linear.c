/* SPDX-License-Identifier: MIT */
/* A row of a linear layer's result does not depend on the rows beside it, to the bit: what a model
 * computes for a sample must not change with the batch. */
#include "backend/cpu/isa.h"
#include "tests/ops/cases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 70 };

/* The result for the first m of the MOST random rows. */
static void run_rows(op_data *d, op_case *c, zs_op op, int64_t m, int64_t k, int64_t o)
{
    bool dx = op == ZS_OP_LINEAR_DX;
    *c = (op_case){.op = op};
    c->in[0] = zs_shape2(m, dx ? o : k);
    c->in[1] = zs_shape2(o, k);
    if (!dx)
        c->in[2] = zs_shape1(o);
    c->out[0] = zs_shape2(m, dx ? k : o);
    assert_true(op_data_new(d, c)); /* the values of a stream: more rows only add to them */
    assert_true(op_run(d, zs_backend_find("cpu")));
}

static void check(zs_op op, int64_t k, int64_t o)
{
    static const int64_t rows[] = {1, 2, 3, 7, 8, 9, 16, 33, 64};
    op_case all_case, few_case;
    op_data all, few;
    run_rows(&all, &all_case, op, MOST, k, o);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        run_rows(&few, &few_case, op, rows[i], k, o);
        assert_memory_equal(few.in[0], all.in[0],
                            (size_t)zs_shape_numel(&few_case.in[0]) * sizeof(float));
        assert_memory_equal(few.out[0], all.out[0],
                            (size_t)zs_shape_numel(&few_case.out[0]) * sizeof(float));
        op_data_free(&few);
    }
    op_data_free(&all);
}

static void rows_are_alone(void **state)
{
    (void)state;
    zs_isa before = zs_isa_get();
    for (zs_isa isa = 0; isa < ZS_ISA_COUNT; isa++) {
        zs_isa_set(isa);
        check(ZS_OP_LINEAR, 96, 64);
        check(ZS_OP_LINEAR, 37, 45);
        check(ZS_OP_LINEAR, 300, 1);
        check(ZS_OP_LINEAR_DX, 64, 96);
        check(ZS_OP_LINEAR_DX, 45, 37);
    }
    zs_isa_set(before);
}

/* With the weights packed beforehand: the same bits. */
static void packed_weights(void **state)
{
    (void)state;
    zs_isa before = zs_isa_get();
    for (zs_isa isa = 0; isa < ZS_ISA_COUNT; isa++) {
        const zs_backend *b = zs_backend_find("cpu");
        op_case c;
        op_data plain, packed;
        zs_call call;
        zs_isa_set(isa);
        run_rows(&plain, &c, ZS_OP_LINEAR, 11, 300, 77);
        run_rows(&packed, &c, ZS_OP_LINEAR, 11, 300, 77);
        memset(packed.out[0], 0, (size_t)(11 * 77) * sizeof(float));
        assert_true(op_prepare(&packed, b, &call));
        zs_packing p = b->packer(ZS_OP_LINEAR)->packing(&call);
        void *form = b->alloc(p.bytes);
        assert_true(p.bytes > 0 && form);
        b->packer(ZS_OP_LINEAR)->pack(&call, form);
        call.packed = form;
        call.in[1].p = NULL; /* not read */
        b->kernel(ZS_OP_LINEAR)->run(&call);
        assert_memory_equal(packed.out[0], plain.out[0], (size_t)(11 * 77) * sizeof(float));
        b->release(form, p.bytes);
        op_data_free(&plain);
        op_data_free(&packed);
    }
    zs_isa_set(before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_are_alone),
                                       cmocka_unit_test(packed_weights)};
    return cmocka_run_group_tests_name("ops_linear", tests, NULL, NULL);
}
