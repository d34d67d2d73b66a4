/* SPDX-License-Identifier: MIT */
#include "tensor/ops.h"

static const struct {
    const char *name;
    int inputs, outputs;
} table[ZS_OP_COUNT] = {
#define OP(NAME, name, inputs, outputs, gradient) {#name, inputs, outputs},
#include "tensor/ops.def"
#undef OP
};

const char *zs_op_name(zs_op op)
{
    return table[op].name;
}

int zs_op_inputs(zs_op op)
{
    return table[op].inputs;
}

int zs_op_outputs(zs_op op)
{
    return table[op].outputs;
}
