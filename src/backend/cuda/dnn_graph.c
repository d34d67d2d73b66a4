/* SPDX-License-Identifier: MIT */
/* The operation graph of a convolution. Attribute by attribute: cudnn_graph.h of cuDNN 9. */
#include "backend/cuda/dnn_desc.h"

cudnnBackendDescriptor_t zs_dnn_make(zs_dnn_graph *g, cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t d = NULL;
    if (g->status == CUDNN_STATUS_SUCCESS && g->n == ZS_DNN_DESCS)
        g->status = CUDNN_STATUS_INTERNAL_ERROR;
    if (g->status == CUDNN_STATUS_SUCCESS)
        g->status = cudnnBackendCreateDescriptor(type, &d);
    if (g->status != CUDNN_STATUS_SUCCESS)
        return NULL;
    g->d[g->n++] = d;
    return d;
}

void zs_dnn_graph_free(zs_dnn_graph *g)
{
    while (g->n > 0)
        (void)cudnnBackendDestroyDescriptor(g->d[--g->n]);
}

void zs_dnn_set(zs_dnn_graph *g, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                cudnnBackendAttributeType_t type, int64_t n, const void *values)
{
    if (g->status == CUDNN_STATUS_SUCCESS)
        g->status = cudnnBackendSetAttribute(d, name, type, n, values);
}

void zs_dnn_set_desc(zs_dnn_graph *g, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                     cudnnBackendDescriptor_t value)
{
    zs_dnn_set(g, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

void zs_dnn_finish(zs_dnn_graph *g, cudnnBackendDescriptor_t d)
{
    if (g->status == CUDNN_STATUS_SUCCESS)
        g->status = cudnnBackendFinalize(d);
}

typedef struct tensor {
    int64_t id;
    cudnnDataType_t type;
    int64_t n, c, h, w; /* filters: o, c, kh, kw */
    bool inner;         /* between two operations of the graph, never in memory */
} tensor;

/* With channels fastest. */
static cudnnBackendDescriptor_t make_tensor(zs_dnn_graph *g, const tensor *t)
{
    const int64_t dims[4] = {t->n, t->c, t->h, t->w};
    const int64_t strides[4] = {t->h * t->w * t->c, 1, t->w * t->c, t->c};
    const int64_t align = 16;
    cudnnBackendDescriptor_t d = zs_dnn_make(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    zs_dnn_set(g, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &t->type);
    zs_dnn_set(g, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
    zs_dnn_set(g, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    zs_dnn_set(g, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &t->id);
    zs_dnn_set(g, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align);
    zs_dnn_set(g, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &t->inner);
    zs_dnn_finish(g, d);
    return d;
}

static cudnnBackendDescriptor_t make_window(zs_dnn_graph *g, const zs_cuda_conv *c)
{
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t dims = 2, dilation[2] = {1, 1}, stride[2] = {c->stride, c->stride};
    const int64_t before[2] = {c->top, c->left}, after[2] = {c->bottom, c->right};
    cudnnBackendDescriptor_t d = zs_dnn_make(g, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    zs_dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    zs_dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    zs_dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &dims);
    zs_dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    zs_dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    zs_dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, before);
    zs_dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, after);
    zs_dnn_finish(g, d);
    return d;
}

/* How the three operations name their parts. */
typedef struct names {
    cudnnBackendDescriptorType_t op;
    cudnnBackendAttributeName_t window, x, w, y, alpha, beta;
} names;

static const names kinds[] = {
    [ZS_CONV_FORWARD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    [ZS_CONV_DX] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
    [ZS_CONV_DW] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
};

static cudnnDataType_t type_of(const zs_cuda_conv *c)
{
    return c->type == ZS_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

static cudnnBackendDescriptor_t make_conv(zs_dnn_graph *g, const zs_cuda_conv *c,
                                          cudnnBackendDescriptor_t y)
{
    const names *k = &kinds[c->kind];
    const float one = 1, zero = 0;
    cudnnBackendDescriptor_t window = make_window(g, c);
    cudnnBackendDescriptor_t x =
        make_tensor(g, &(tensor){ZS_DNN_X, type_of(c), c->n, c->c, c->h, c->w, false});
    cudnnBackendDescriptor_t w =
        make_tensor(g, &(tensor){ZS_DNN_W, type_of(c), c->o, c->c, c->kh, c->kw, false});
    cudnnBackendDescriptor_t op = zs_dnn_make(g, k->op);
    zs_dnn_set_desc(g, op, k->window, window);
    zs_dnn_set_desc(g, op, k->x, x);
    zs_dnn_set_desc(g, op, k->w, w);
    zs_dnn_set_desc(g, op, k->y, y);
    zs_dnn_set(g, op, k->alpha, CUDNN_TYPE_FLOAT, 1, &one);
    zs_dnn_set(g, op, k->beta, CUDNN_TYPE_FLOAT, 1, &zero);
    zs_dnn_finish(g, op);
    return op;
}

/* y = conv + b, in f32 until it is stored. Only a bias of the type of the tensors has kernels. */
static cudnnBackendDescriptor_t make_bias(zs_dnn_graph *g, const zs_cuda_conv *c,
                                          cudnnBackendDescriptor_t conv, cudnnBackendDescriptor_t y)
{
    const cudnnPointwiseMode_t mode = CUDNN_POINTWISE_ADD;
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t b =
        make_tensor(g, &(tensor){ZS_DNN_B, type_of(c), 1, c->o, 1, 1, false});
    cudnnBackendDescriptor_t add = zs_dnn_make(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    zs_dnn_set(g, add, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    zs_dnn_set(g, add, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    zs_dnn_finish(g, add);
    cudnnBackendDescriptor_t op = zs_dnn_make(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    zs_dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, add);
    zs_dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, conv);
    zs_dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    zs_dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    zs_dnn_finish(g, op);
    return op;
}

cudnnBackendDescriptor_t zs_dnn_graph_of(zs_dnn_graph *g, const cudnnBackendDescriptor_t *ops,
                                         int64_t n, const zs_dnn_target *t)
{
    cudnnBackendDescriptor_t graph = zs_dnn_make(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    zs_dnn_set(g, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, n, ops);
    if (t->handle)
        zs_dnn_set(g, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &t->handle);
    zs_dnn_finish(g, graph);
    return g->status == CUDNN_STATUS_SUCCESS ? graph : NULL;
}

cudnnBackendDescriptor_t zs_dnn_conv_graph(zs_dnn_graph *g, const void *conv,
                                           const zs_dnn_target *t)
{
    const zs_cuda_conv *c = conv;
    cudnnBackendDescriptor_t ops[2];
    int64_t n = 1;
    cudnnBackendDescriptor_t y =
        make_tensor(g, &(tensor){ZS_DNN_Y, type_of(c), c->n, c->o, c->yh, c->yw, false});
    if (c->bias) {
        cudnnBackendDescriptor_t product = make_tensor(
            g, &(tensor){ZS_DNN_CONV, CUDNN_DATA_FLOAT, c->n, c->o, c->yh, c->yw, true});
        ops[0] = make_conv(g, c, product);
        ops[1] = make_bias(g, c, product, y);
        n = 2;
    } else {
        ops[0] = make_conv(g, c, y);
    }
    return zs_dnn_graph_of(g, ops, n, t);
}
