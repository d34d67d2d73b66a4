/* SPDX-License-Identifier: MIT */
/* Named tensors in, named tensors out. */
#include "tasks/apply.h"

#include <math.h>
#include <string.h>

const char *zs_apply_path(const zs_apply *a)
{
    return zs_opt_text(a->env, "in");
}

/* Checks that tensor `name` exists with nd dimensions; its index or a negative status. */
static long need(const zs_apply *a, const char *name, int nd)
{
    long i = zs_tensorfile_find(a->in, name);
    if (i < 0)
        return zs_fail(a->env->err, ZS_E_INVALID,
                       "%s: %s needs a tensor '%s' and the file has none", zs_apply_path(a),
                       zs_arg(a->env, 0), name);
    const zs_tensorinfo *info = zs_tensorfile_info(a->in, (size_t)i);
    if (info->nd != nd || info->numel < 1)
        return zs_fail(a->env->err, ZS_E_INVALID,
                       "%s: tensor '%s' must have %d dimensions and not be empty", zs_apply_path(a),
                       name, nd);
    return i;
}

int zs_apply_floats(const zs_apply *a, zs_apply_tensor *t, const char *name, int nd)
{
    long i = need(a, name, nd);
    if (i < 0)
        return (int)i;
    const zs_tensorinfo *info = zs_tensorfile_info(a->in, (size_t)i);
    t->s.nd = nd;
    for (int k = 0; k < nd; k++)
        t->s.d[k] = info->shape[k];
    t->p = zs_alloc((size_t)info->numel, sizeof(float));
    if (!t->p)
        return zs_fail_nomem(a->env->err, (unsigned long long)info->numel * 4, name);
    return zs_tensorfile_read_f32(a->in, (size_t)i, t->p, (size_t)info->numel, a->env->err);
}

/* An image tensor: t->p becomes NHWC and t->s its NHWC shape. */
int zs_apply_images(const zs_apply *a, zs_apply_tensor *t, const char *name)
{
    int status = zs_apply_floats(a, t, name, 4);
    if (status < 0)
        return status;
    float *nhwc = zs_alloc((size_t)zs_shape_numel(&t->s), sizeof(float));
    if (!nhwc)
        return zs_fail_nomem(a->env->err, (unsigned long long)zs_shape_numel(&t->s) * 4, name);
    t->s = zs_shape4(t->s.d[0], t->s.d[2], t->s.d[3], t->s.d[1]);
    zs_nhwc_from_nchw(nhwc, t->p, t->s.d[0], t->s.d[1], t->s.d[2], t->s.d[3]);
    zs_free(t->p);
    t->p = nhwc;
    return ZS_OK;
}

/* Floats are taken where they are whole numbers: half a timestep means a mistake. */
static int check_whole(const zs_apply *a, size_t i, int64_t n)
{
    float *t = zs_alloc((size_t)n, sizeof *t);
    if (!t)
        return zs_fail_nomem(a->env->err, (unsigned long long)n * 4, "timesteps");
    int status = zs_tensorfile_read_f32(a->in, i, t, (size_t)n, a->env->err);
    for (int64_t k = 0; status == ZS_OK && k < n; k++)
        if (t[k] != floorf(t[k]))
            status = zs_fail(a->env->err, ZS_E_INVALID, "%s: t[%lld] = %g is not a whole number",
                             zs_apply_path(a), (long long)k, (double)t[k]);
    zs_free(t);
    return status;
}

/* Timesteps t [n], checked against the T of the box. */
int zs_apply_timesteps(const zs_apply *a, int64_t **t, int64_t n, zs_box box)
{
    long i = need(a, "t", 1);
    if (i < 0)
        return (int)i;
    const zs_model_config *c = zs_model_configuration(a->m);
    int64_t steps = box == ZS_BOX_PRIOR ? c->latent.T : c->diffusion.T;
    if (zs_tensorfile_info(a->in, (size_t)i)->numel != n)
        return zs_fail(a->env->err, ZS_E_INVALID, "%s: 't' must have one entry per sample (%lld)",
                       zs_apply_path(a), (long long)n);
    *t = zs_alloc((size_t)n, sizeof **t);
    if (!*t)
        return zs_fail_nomem(a->env->err, (unsigned long long)n * 8, "timesteps");
    int status = check_whole(a, (size_t)i, n);
    if (status == ZS_OK)
        status = zs_tensorfile_read_i64(a->in, (size_t)i, *t, (size_t)n, a->env->err);
    for (int64_t k = 0; status == ZS_OK && k < n; k++)
        if ((*t)[k] < 0 || (*t)[k] >= steps)
            status =
                zs_fail(a->env->err, ZS_E_INVALID, "%s: t[%lld] = %lld is outside 0..%lld",
                        zs_apply_path(a), (long long)k, (long long)(*t)[k], (long long)steps - 1);
    return status;
}

/* Codes are called z_sem where an encoder is trained with the generator, else rep; either name will
 * do. */
static int read_representation(const zs_apply *a, zs_apply_tensor *z, int64_t n, int64_t dim)
{
    bool joint = zs_model_config_joint(zs_model_configuration(a->m));
    const char *name = joint ? "z_sem" : "rep", *other = joint ? "rep" : "z_sem";
    if (zs_tensorfile_find(a->in, name) < 0 && zs_tensorfile_find(a->in, other) >= 0)
        name = other;
    int status = zs_apply_floats(a, z, name, 2);
    if (status == ZS_OK && (z->s.d[0] != n || z->s.d[1] != dim))
        status = zs_fail(a->env->err, ZS_E_INVALID, "%s: '%s' is %lldx%lld and must be %lldx%lld",
                         zs_apply_path(a), name, (long long)z->s.d[0], (long long)z->s.d[1],
                         (long long)n, (long long)dim);
    return status;
}

int zs_apply_classes(const zs_apply *a, int64_t **y, int64_t n)
{
    long i = need(a, "y", 1);
    if (i < 0)
        return (int)i;
    if (zs_tensorfile_info(a->in, (size_t)i)->numel != n)
        return zs_fail(a->env->err, ZS_E_INVALID, "%s: 'y' must have one entry per sample (%lld)",
                       zs_apply_path(a), (long long)n);
    *y = zs_alloc((size_t)n, sizeof **y);
    if (!*y)
        return zs_fail_nomem(a->env->err, (unsigned long long)n * 8, "classes");
    return zs_tensorfile_read_i64(a->in, (size_t)i, *y, (size_t)n, a->env->err);
}

int zs_apply_cond_read(const zs_apply *a, zs_apply_cond *c, int64_t n)
{
    zs_ports p;
    (void)zs_model_config_ports(zs_model_configuration(a->m), ZS_BOX_GENERATOR, &p);
    int status = p.z_dim ? read_representation(a, &c->z, n, p.z_dim) : ZS_OK;
    return status == ZS_OK && p.classes ? zs_apply_classes(a, &c->y, n) : status;
}

void zs_apply_cond_free(zs_apply_cond *c)
{
    zs_free(c->z.p);
    zs_free(c->y);
    *c = (zs_apply_cond){0};
}

/* [steps,n,C,H,W] for images, [steps,n,dim] or [steps,n,dim,1,1] for codes. */
static bool noise_fits(const zs_tensorinfo *t, int64_t steps, const zs_shape *s)
{
    bool pixel = s->nd == 2 && t->nd == 5 && t->shape[3] == 1 && t->shape[4] == 1;
    if ((t->nd != s->nd + 1 && !pixel) || t->shape[0] != steps || t->shape[1] != s->d[0])
        return false;
    return s->nd == 2 ? t->shape[2] == s->d[1]
                      : t->shape[2] == s->d[3] && t->shape[3] == s->d[1] && t->shape[4] == s->d[2];
}

int zs_apply_noise(const zs_apply *a, float **noise, int64_t steps, zs_shape s)
{
    long i = zs_tensorfile_find(a->in, "noise");
    *noise = NULL;
    if (i < 0)
        return ZS_OK;
    const zs_tensorinfo *t = zs_tensorfile_info(a->in, (size_t)i);
    if (!noise_fits(t, steps, &s))
        return zs_fail(a->env->err, ZS_E_INVALID,
                       "%s: 'noise' must hold %lld times as many numbers as the starting noise, in "
                       "its shape, one after the other",
                       zs_apply_path(a), (long long)steps);
    size_t n = (size_t)t->numel;
    float *p = zs_alloc(n, sizeof *p), *turned = s.nd == 4 ? zs_alloc(n, sizeof *p) : NULL;
    int status = p && (s.nd == 2 || turned)
                     ? zs_tensorfile_read_f32(a->in, (size_t)i, p, n, a->env->err)
                     : zs_fail_nomem(a->env->err, (unsigned long long)n * 8, "noise");
    if (status == ZS_OK && turned) {
        zs_nhwc_from_nchw(turned, p, steps * s.d[0], s.d[1], s.d[2], s.d[3]);
        zs_free(p);
        p = turned;
        turned = NULL;
    }
    zs_free(turned);
    if (status < 0)
        zs_free(p);
    else
        *noise = p;
    return status;
}

/* Adds an output; takes data (from zs_alloc) over. name outlives the write. */
int zs_apply_put(zs_apply *a, const char *name, int nd, const int64_t *shape, float *data)
{
    void *items = a->out;
    if (!zs_grow(&items, &a->cap_out, a->n_out, sizeof *a->out)) {
        zs_free(data);
        return zs_fail_nomem(a->env->err, sizeof *a->out, "outputs");
    }
    a->out = items;
    zs_tensorout *t = &a->out[a->n_out++];
    *t = (zs_tensorout){.name = name, .dtype = ZS_F32, .nd = nd, .data = data};
    for (int k = 0; k < nd; k++)
        t->shape[k] = shape[k];
    return ZS_OK;
}

/* Adds NHWC images as NCHW; does not take x over. */
int zs_apply_put_images(zs_apply *a, const char *name, const float *x, zs_shape s)
{
    float *p = zs_alloc((size_t)zs_shape_numel(&s), sizeof *p);
    if (!p)
        return zs_fail_nomem(a->env->err, (unsigned long long)zs_shape_numel(&s) * 4, name);
    zs_nchw_from_nhwc(p, x, s.d[0], s.d[1], s.d[2], s.d[3]);
    return zs_apply_put(a, name, 4, (int64_t[]){s.d[0], s.d[3], s.d[1], s.d[2]}, p);
}

/* Codes [n,dim] of the tensor `name`; RCG has them as images of one pixel. */
int zs_apply_codes(const zs_apply *a, zs_apply_tensor *z, const char *name)
{
    int64_t dim = zs_model_config_z_dim(zs_model_configuration(a->m));
    long i = zs_tensorfile_find(a->in, name);
    const zs_tensorinfo *t = i < 0 ? NULL : zs_tensorfile_info(a->in, (size_t)i);
    bool pixel = t && t->nd == 4 && t->shape[2] == 1 && t->shape[3] == 1;
    int status = zs_apply_floats(a, z, name, pixel ? 4 : 2);
    z->s.nd = 2;
    if (status == ZS_OK && z->s.d[1] != dim)
        status = zs_fail(a->env->err, ZS_E_INVALID,
                         "%s: '%s' has %lld columns and the model's codes have %lld",
                         zs_apply_path(a), name, (long long)z->s.d[1], (long long)dim);
    return status;
}

/* Adds a copy of codes, so that what follows may change them. */
int zs_apply_put_codes(zs_apply *a, const char *name, const zs_apply_tensor *z)
{
    size_t n = (size_t)zs_shape_numel(&z->s);
    float *p = zs_alloc(n, sizeof *p);
    if (!p)
        return zs_fail_nomem(a->env->err, n * sizeof *p, name);
    memcpy(p, z->p, n * sizeof *p);
    return zs_apply_put(a, name, 2, z->s.d, p);
}
