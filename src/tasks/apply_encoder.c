/* SPDX-License-Identifier: MIT */
/* Functions of encoders. */
#include "tasks/apply.h"

/* Representations of x as "z_sem". */
static int encode(zs_apply *a, const zs_apply_tensor *x)
{
    int64_t n = x->s.d[0], dim = zs_model_config_z_dim(zs_model_configuration(a->m));
    float *z = zs_alloc((size_t)(n * dim), sizeof *z);
    if (!z)
        return zs_fail_nomem(a->env->err, (unsigned long long)(n * dim) * 4, "z_sem");
    int status = zs_model_encode(a->m, z, x->p, x->s, a->env->err);
    if (status == ZS_OK)
        return zs_apply_put(a, "z_sem", 2, (int64_t[]){n, dim}, z);
    zs_free(z);
    return status;
}

/* The three outputs of a vision transformer for n images; head may be NULL. */
static int put_taps(zs_apply *a, int64_t n, float *rep, const zs_encoder_taps *t)
{
    const zs_vit_config *c = &zs_model_configuration(a->m)->vit;
    const zs_apply_tensor z = {zs_shape2(n, zs_vit_rep_dim(c)), rep};
    const zs_apply_tensor features = {zs_shape2(n, c->width), t->features};
    const zs_apply_tensor head = {zs_shape2(n, c->head_dim), t->head};
    int status = zs_apply_put_codes(a, "z_sem", &z);
    if (status == ZS_OK)
        status = zs_apply_put_codes(a, "rep", &z);
    if (status == ZS_OK)
        status = zs_apply_put_codes(a, "features", &features);
    return status == ZS_OK && t->head ? zs_apply_put_codes(a, "head", &head) : status;
}

/* A frozen encoder of images in [0,1], of any size. */
static int encode_vit(zs_apply *a, zs_apply_tensor *x)
{
    const zs_vit_config *c = &zs_model_configuration(a->m)->vit;
    int64_t n = x->s.d[0], dims = zs_vit_rep_dim(c) + c->width + c->head_dim;
    float *all = zs_alloc((size_t)(n * dims), sizeof *all);
    if (!all)
        return zs_fail_nomem(a->env->err, (unsigned long long)(n * dims) * 4, "z_sem");
    zs_encoder_taps t = {.features = all + n * zs_vit_rep_dim(c)};
    t.head = c->head_dim ? t.features + n * c->width : NULL;
    for (int64_t i = 0; i < zs_shape_numel(&x->s); i++)
        x->p[i] = 2 * x->p[i] - 1;
    int status = zs_model_encode_taps(a->m, all, &t, x->p, x->s, a->env->err);
    if (status == ZS_OK)
        status = put_taps(a, n, all, &t);
    zs_free(all);
    return status;
}

int zs_apply_encode(zs_apply *a)
{
    zs_apply_tensor x = {0};
    bool vit = zs_model_configuration(a->m)->vit.depth > 0;
    int status = zs_apply_images(a, &x, vit ? "image" : "x0");
    if (status == ZS_OK)
        status = vit ? encode_vit(a, &x) : encode(a, &x);
    zs_free(x.p);
    return status;
}
