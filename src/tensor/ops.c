/* SPDX-License-Identifier: MIT */
#include "tensor/ops.h"

static const struct {
    const char *name;
    int inputs, outputs;
    const char *slots;
} table[ZS_OP_COUNT] = {
#define OP(NAME, name, inputs, outputs, gradient, slots) {#name, inputs, outputs, slots},
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

static zs_slot slot_of(char letter)
{
    return letter == 'a' ? ZS_SLOT_ACT : letter == 'w' ? ZS_SLOT_WEIGHT : ZS_SLOT_F32;
}

zs_slot zs_op_in(zs_op op, int k)
{
    return slot_of(table[op].slots[k]);
}

zs_slot zs_op_out(zs_op op, int k)
{
    return slot_of(table[op].slots[table[op].inputs + 1 + k]);
}
