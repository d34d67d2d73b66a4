/* SPDX-License-Identifier: MIT */
/* The one table of operation cases. test_ops_compare.c checks the fast kernels against the
 * reference on them, test_ops_grad.c checks gradients against finite differences, and
 * bench/ops.c times the large ones. */
#ifndef ZS_TESTS_OPS_CASES_H
#define ZS_TESTS_OPS_CASES_H

#include "tensor/tensor.h"

typedef struct op_case {
    char name[80];
    zs_op op;
    zs_attr a;
    zs_shape in[ZS_MAX_IN], out[ZS_MAX_OUT]; /* nd 0: absent */
    float mean;       /* of the random values of slot 0; their deviation is 1 */
    bool bench;       /* large: only timed */
    double tolerance; /* 0: the default; see op_tolerance */
    double slack;     /* allowed on top, for results that cancel to nothing */
} op_case;

/* The table, made on the first call; *n is its length. */
const op_case *op_cases(size_t *n);

/* A result may differ from the reference r by tolerance*(|r| + rms of the tensor's r) + slack. */
double op_tolerance(const op_case *c);

/* Buffers of one case. Every tensor and the workspace lie between guard values. */
typedef struct op_data {
    const op_case *c;
    float *in[ZS_MAX_IN], *out[ZS_MAX_OUT]; /* NULL: absent */
    void *ws;
    size_t ws_bytes;
    float *base[ZS_MAX_IN + ZS_MAX_OUT + 1]; /* allocations, guards included */
    size_t base_bytes[ZS_MAX_IN + ZS_MAX_OUT + 1];
    zs_step step;
} op_data;

/* Allocates and fills the inputs: random values, the same for every call, consistent statistics
 * where an operation takes some. False when out of memory. */
bool op_data_new(op_data *d, const op_case *c);
void op_data_free(op_data *d);

/* Runs the case with this backend: overwritten outputs are NaN before, added-to ones hold fixed
 * random values. The workspace is filled with NaN. */
bool op_run(op_data *d, const zs_backend *b);

/* As op_run, without preparing the outputs: for timing. False when out of memory. */
bool op_prepare(op_data *d, const zs_backend *b, zs_call *call);

/* NULL, or which guard is damaged: "output 0", "workspace", ... */
const char *op_guard(const op_data *d);

/* Multiply-adds times two, 0 where it makes no sense; and bytes of all tensors, once each. */
double op_flops(const op_case *c);
double op_bytes(const op_case *c);

#endif
