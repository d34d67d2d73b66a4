/* SPDX-License-Identifier: MIT */
/* The operation graphs of attention and its gradient. Sizes and steps of tensors are in the order
 * [sample][head][position][channel], those of scores [sample][head][position][position]. */
#include "backend/cuda/dnn_desc.h"
#include "backend/cuda/sdpa.h"

enum { MOST_OPS = 24 };

/* A graph while it is drawn. */
typedef struct drawing {
    zs_dnn_graph *g;
    const zs_sdpa *s;
    cudnnBackendDescriptor_t ops[MOST_OPS];
    int64_t n;     /* operations */
    int64_t inner; /* tensors that are never in memory */
} drawing;

/* ---- tensors ---- */

typedef struct tensor {
    int64_t id;
    cudnnDataType_t type;
    int64_t size[4], step[4];
    bool inner, by_value;
} tensor;

static cudnnBackendDescriptor_t make_tensor(drawing *w, const tensor *t)
{
    const int64_t align = 16;
    zs_dnn_graph *g = w->g;
    cudnnBackendDescriptor_t d = zs_dnn_make(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    zs_dnn_set(g, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &t->type);
    zs_dnn_set(g, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, t->size);
    zs_dnn_set(g, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, t->step);
    zs_dnn_set(g, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &t->id);
    zs_dnn_set(g, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align);
    zs_dnn_set(g, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &t->inner);
    if (t->by_value)
        zs_dnn_set(g, d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &t->by_value);
    zs_dnn_finish(g, d);
    return d;
}

/* q, k or v, or their gradients; turned: with positions and channels in each other's place. */
static tensor part_of(const zs_sdpa *s, int64_t id, bool turned)
{
    int64_t row = 3 * s->heads * s->d;
    tensor t = {.id = id,
                .type = CUDNN_DATA_BFLOAT16,
                .size = {s->n, s->heads, s->t, s->d},
                .step = {s->t * row, s->head, row, 1}};
    if (turned) {
        t.size[2] = s->d, t.size[3] = s->t;
        t.step[2] = 1, t.step[3] = row;
    }
    return t;
}

static cudnnBackendDescriptor_t part(drawing *w, int64_t id, bool turned)
{
    tensor t = part_of(w->s, id, turned);
    return make_tensor(w, &t);
}

/* y or dy. */
static cudnnBackendDescriptor_t result(drawing *w, int64_t id)
{
    const zs_sdpa *s = w->s;
    int64_t row = s->heads * s->d;
    return make_tensor(w, &(tensor){.id = id,
                                    .type = CUDNN_DATA_BFLOAT16,
                                    .size = {s->n, s->heads, s->t, s->d},
                                    .step = {s->t * row, s->d, row, 1}});
}

/* A number for each row of scores. */
static cudnnBackendDescriptor_t column(drawing *w, int64_t id)
{
    const zs_sdpa *s = w->s;
    bool inner = id == 0;
    return make_tensor(w, &(tensor){.id = inner ? ZS_SDPA_INNER + w->inner++ : id,
                                    .type = CUDNN_DATA_FLOAT,
                                    .size = {s->n, s->heads, s->t, 1},
                                    .step = {s->heads * s->t, s->t, 1, 1},
                                    .inner = inner});
}

static cudnnBackendDescriptor_t number(drawing *w, int64_t id)
{
    return make_tensor(w, &(tensor){.id = id,
                                    .type = CUDNN_DATA_FLOAT,
                                    .size = {1, 1, 1, 1},
                                    .step = {1, 1, 1, 1},
                                    .by_value = true});
}

static cudnnBackendDescriptor_t scores(drawing *w, cudnnDataType_t type, bool turned)
{
    const zs_sdpa *s = w->s;
    int64_t t = s->t;
    return make_tensor(w,
                       &(tensor){.id = ZS_SDPA_INNER + w->inner++,
                                 .type = type,
                                 .size = {s->n, s->heads, t, t},
                                 .step = {s->heads * t * t, t * t, turned ? 1 : t, turned ? t : 1},
                                 .inner = true});
}

/* ---- operations ---- */

static void add_op(drawing *w, cudnnBackendDescriptor_t op)
{
    zs_dnn_finish(w->g, op);
    if (w->n == MOST_OPS)
        w->g->status = CUDNN_STATUS_INTERNAL_ERROR;
    else
        w->ops[w->n++] = op;
}

static const cudnnDataType_t compute = CUDNN_DATA_FLOAT;

static void multiply(drawing *w, cudnnBackendDescriptor_t a, cudnnBackendDescriptor_t b,
                     cudnnBackendDescriptor_t c)
{
    zs_dnn_graph *g = w->g;
    cudnnBackendDescriptor_t how = zs_dnn_make(g, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    zs_dnn_set(g, how, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    zs_dnn_finish(g, how);
    cudnnBackendDescriptor_t op = zs_dnn_make(g, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    zs_dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_MATMUL_DESC, how);
    zs_dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_MATMUL_ADESC, a);
    zs_dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_MATMUL_BDESC, b);
    zs_dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_MATMUL_CDESC, c);
    add_op(w, op);
}

/* y = mode(x, b), where b may be NULL and is repeated along sizes of 1. */
static void map(drawing *w, cudnnPointwiseMode_t mode, cudnnBackendDescriptor_t x,
                cudnnBackendDescriptor_t b, cudnnBackendDescriptor_t y)
{
    zs_dnn_graph *g = w->g;
    cudnnBackendDescriptor_t how = zs_dnn_make(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    zs_dnn_set(g, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    zs_dnn_set(g, how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    zs_dnn_finish(g, how);
    cudnnBackendDescriptor_t op = zs_dnn_make(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    zs_dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    zs_dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (b)
        zs_dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    zs_dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    add_op(w, op);
}

static void reduce(drawing *w, cudnnReduceTensorOp_t how_to, cudnnBackendDescriptor_t x,
                   cudnnBackendDescriptor_t y)
{
    zs_dnn_graph *g = w->g;
    cudnnBackendDescriptor_t how = zs_dnn_make(g, CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
    zs_dnn_set(g, how, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1,
               &how_to);
    zs_dnn_set(g, how, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    zs_dnn_finish(g, how);
    cudnnBackendDescriptor_t op = zs_dnn_make(g, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    zs_dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_REDUCTION_DESC, how);
    zs_dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x);
    zs_dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y);
    add_op(w, op);
}

/* The same numbers under other sizes and steps. */
static void turn(drawing *w, cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t y)
{
    cudnnBackendDescriptor_t op = zs_dnn_make(w->g, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
    zs_dnn_set_desc(w->g, op, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x);
    zs_dnn_set_desc(w->g, op, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y);
    add_op(w, op);
}

/* ---- attention ---- */

/* Scaled scores of q and k. */
static cudnnBackendDescriptor_t scaled(drawing *w, cudnnBackendDescriptor_t q,
                                       cudnnBackendDescriptor_t k, cudnnBackendDescriptor_t scale)
{
    cudnnBackendDescriptor_t raw = scores(w, CUDNN_DATA_FLOAT, false);
    cudnnBackendDescriptor_t s = scores(w, CUDNN_DATA_FLOAT, false);
    multiply(w, q, k, raw);
    map(w, CUDNN_POINTWISE_MUL, raw, scale, s);
    return s;
}

/* y = softmax(scale q k') v; lse = top + log(sum). */
static void draw_forward(drawing *w)
{
    cudnnBackendDescriptor_t q = part(w, ZS_SDPA_Q, false), k = part(w, ZS_SDPA_K, true);
    cudnnBackendDescriptor_t s = scaled(w, q, k, number(w, ZS_SDPA_SCALE));
    cudnnBackendDescriptor_t top = column(w, 0), sum = column(w, 0), log = column(w, 0);
    cudnnBackendDescriptor_t off = scores(w, CUDNN_DATA_FLOAT, false);
    cudnnBackendDescriptor_t e = scores(w, CUDNN_DATA_FLOAT, false);
    cudnnBackendDescriptor_t p = scores(w, CUDNN_DATA_BFLOAT16, false);
    reduce(w, CUDNN_REDUCE_TENSOR_MAX, s, top);
    map(w, CUDNN_POINTWISE_SUB, s, top, off);
    map(w, CUDNN_POINTWISE_EXP, off, NULL, e);
    reduce(w, CUDNN_REDUCE_TENSOR_ADD, e, sum);
    map(w, CUDNN_POINTWISE_LOG, sum, NULL, log);
    map(w, CUDNN_POINTWISE_ADD, top, log, column(w, ZS_SDPA_LSE));
    map(w, CUDNN_POINTWISE_DIV, e, sum, p);
    multiply(w, p, part(w, ZS_SDPA_V, false), result(w, ZS_SDPA_Y));
}

/* sum = the sums of y*dy over channels. */
static cudnnBackendDescriptor_t draw_sums(drawing *w, cudnnBackendDescriptor_t dy)
{
    const zs_sdpa *s = w->s;
    cudnnBackendDescriptor_t sum = column(w, ZS_SDPA_SUM), part_sum = column(w, 0);
    cudnnBackendDescriptor_t both =
        make_tensor(w, &(tensor){.id = ZS_SDPA_INNER + w->inner++,
                                 .type = CUDNN_DATA_FLOAT,
                                 .size = {s->n, s->heads, s->t, s->d},
                                 .step = {s->heads * s->t * s->d, s->t * s->d, s->heads * s->d, 1},
                                 .inner = true});
    map(w, CUDNN_POINTWISE_MUL, dy, result(w, ZS_SDPA_Y), both);
    reduce(w, CUDNN_REDUCE_TENSOR_ADD, both, part_sum);
    map(w, CUDNN_POINTWISE_MUL, part_sum, number(w, ZS_SDPA_ONE), sum);
    return sum;
}

/* p = exp(scale q k' - lse); dv = p' dy; ds = scale p (dy v' - sum); dk = ds' q; dq = ds k. That dq
 * comes right out of a product is what makes it the same bits each time. */
static void draw_backward(drawing *w)
{
    cudnnBackendDescriptor_t q = part(w, ZS_SDPA_Q, false), k = part(w, ZS_SDPA_K, true);
    cudnnBackendDescriptor_t dy = result(w, ZS_SDPA_DY), scale = number(w, ZS_SDPA_SCALE);
    cudnnBackendDescriptor_t sum = draw_sums(w, dy), s = scaled(w, q, k, scale);
    cudnnBackendDescriptor_t off = scores(w, CUDNN_DATA_FLOAT, false);
    cudnnBackendDescriptor_t p = scores(w, CUDNN_DATA_FLOAT, false);
    cudnnBackendDescriptor_t pt = scores(w, CUDNN_DATA_BFLOAT16, true);
    map(w, CUDNN_POINTWISE_SUB, s, column(w, ZS_SDPA_LSE), off);
    map(w, CUDNN_POINTWISE_EXP, off, NULL, p);
    turn(w, p, pt);
    multiply(w, pt, dy, part(w, ZS_SDPA_DV, false));
    cudnnBackendDescriptor_t dp = scores(w, CUDNN_DATA_FLOAT, false);
    cudnnBackendDescriptor_t less = scores(w, CUDNN_DATA_FLOAT, false);
    cudnnBackendDescriptor_t raw = scores(w, CUDNN_DATA_FLOAT, false);
    cudnnBackendDescriptor_t ds = scores(w, CUDNN_DATA_FLOAT, false);
    cudnnBackendDescriptor_t dst = scores(w, CUDNN_DATA_BFLOAT16, true);
    multiply(w, dy, part(w, ZS_SDPA_V, true), dp);
    map(w, CUDNN_POINTWISE_SUB, dp, sum, less);
    map(w, CUDNN_POINTWISE_MUL, less, p, raw);
    map(w, CUDNN_POINTWISE_MUL, raw, scale, ds);
    turn(w, ds, dst);
    multiply(w, dst, q, part(w, ZS_SDPA_DK, false));
    tensor straight = part_of(w->s, ZS_SDPA_INNER + w->inner++, false);
    straight.inner = true;
    cudnnBackendDescriptor_t kt = make_tensor(w, &straight);
    turn(w, k, kt);
    multiply(w, ds, kt, part(w, ZS_SDPA_DQ, false));
}

cudnnBackendDescriptor_t zs_sdpa_graph(struct zs_dnn_graph *g, const void *sdpa,
                                       const zs_dnn_target *t)
{
    drawing w = {.g = g, .s = sdpa};
    if (w.s->back)
        draw_backward(&w);
    else
        draw_forward(&w);
    return zs_dnn_graph_of(g, w.ops, w.n, t);
}
