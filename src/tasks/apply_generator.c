/* SPDX-License-Identifier: MIT */
/* Functions of generators. */
#include "tasks/apply.h"

int zs_apply_eps(zs_apply *a)
{
    zs_apply_tensor x = {0}, z = {0};
    int64_t *t = NULL;
    float *eps = NULL;
    int status = zs_apply_images(a, &x, "x_t");
    zs_shape out = x.s;
    out.d[3] = zs_model_configuration(a->m)->unet.out_channels;
    if (status == ZS_OK)
        status = zs_apply_timesteps(a, &t, x.s.d[0]);
    if (status == ZS_OK)
        status = zs_apply_cond_z(a, &z, x.s.d[0]);
    if (status == ZS_OK && !(eps = zs_alloc((size_t)zs_shape_numel(&out), sizeof *eps)))
        status = zs_fail_nomem(a->env->err, (unsigned long long)zs_shape_numel(&out) * 4, "eps");
    if (status == ZS_OK)
        status = zs_model_eps(a->m, eps, x.p, x.s, t, &(zs_cond){.z = z.p}, a->env->err);
    if (status == ZS_OK)
        status = zs_apply_put_images(a, "eps", eps, out);
    zs_free(eps);
    zs_free(t);
    zs_free(z.p);
    zs_free(x.p);
    return status;
}

/* decode and invert: a sampler over images `in`, result `out`. */
static int apply_sampler(zs_apply *a, const char *in, const char *out, bool invert)
{
    zs_apply_tensor x = {0}, z = {0};
    zs_pipeline p = {a->m, zs_opt_int(a->env, "steps"), a->env->ui, zs_arg(a->env, 0)};
    int status = zs_apply_images(a, &x, in);
    if (status == ZS_OK)
        status = zs_model_check_images(a->m, x.s, a->env->err);
    if (status == ZS_OK)
        status = zs_apply_cond_z(a, &z, x.s.d[0]);
    if (status == ZS_OK)
        status = invert ? zs_pipeline_invert(&p, x.p, x.s, z.p, a->env->err)
                        : zs_pipeline_decode(&p, x.p, x.s, z.p, a->env->err);
    if (status == ZS_OK)
        status = zs_apply_put_images(a, out, x.p, x.s);
    zs_free(z.p);
    zs_free(x.p);
    return status;
}

int zs_apply_decode(zs_apply *a)
{
    return apply_sampler(a, "x_T", "x0", false);
}

int zs_apply_invert(zs_apply *a)
{
    return apply_sampler(a, "x0", "x_T", true);
}

/* Every trained parameter's gradient, under its official name, in the file's order. */
static int put_gradients(zs_apply *a, const float *grads)
{
    const zs_params *ps = zs_model_params(a->m);
    for (size_t i = 0; i < zs_params_count(ps); i++) {
        const zs_param *q = zs_params_at(ps, i);
        if (!q->trainable || zs_param_box(q->name) == ZS_BOX_PRIOR)
            continue;
        void *items = a->names;
        char *name = zs_str_format("grad.%s", q->name);
        float *p = zs_alloc((size_t)q->numel, sizeof *p);
        if (!name || !p || !zs_grow(&items, &a->cap_names, a->n_names, sizeof(char *))) {
            zs_free(name);
            zs_free(p);
            return zs_fail_nomem(a->env->err, (unsigned long long)q->numel * 4, q->name);
        }
        a->names = items;
        a->names[a->n_names++] = name;
        zs_params_export(ps, i, grads, p);
        int status = zs_apply_put(a, name, q->nd, q->shape, p);
        if (status < 0)
            return status;
    }
    return ZS_OK;
}

/* x_t = sqrt(abar) x0 + sqrt(1-abar) noise, into x_t. */
static int noisy(const zs_apply *a, float *x_t, const zs_apply_tensor *x0,
                 const zs_apply_tensor *noise, const int64_t *t)
{
    zs_schedule s = {0};
    const zs_process_config *d = &zs_model_configuration(a->m)->diffusion;
    int status = zs_schedule_make(&s, d->beta_schedule, d->T, a->env->err);
    size_t e = (size_t)(zs_shape_numel(&x0->s) / x0->s.d[0]);
    for (size_t i = 0; status == ZS_OK && i < (size_t)x0->s.d[0]; i++)
        zs_q_sample(x_t + i * e, x0->p + i * e, noise->p + i * e, s.abar[t[i]], e);
    zs_schedule_free(&s);
    return status;
}

int zs_apply_grad(zs_apply *a)
{
    zs_apply_tensor x = {0}, noise = {0};
    int64_t *t = NULL;
    size_t numel = (size_t)zs_params_numel(zs_model_params(a->m));
    float *x_t = NULL, *grads = zs_calloc(numel, sizeof *grads), *loss = zs_alloc(1, sizeof *loss);
    int status = grads && loss ? ZS_OK : zs_fail_nomem(a->env->err, numel * 4, "gradients");
    if (status == ZS_OK)
        status = zs_apply_images(a, &x, "x0");
    if (status == ZS_OK)
        status = zs_apply_images(a, &noise, "noise");
    if (status == ZS_OK && !zs_shape_equal(&x.s, &noise.s))
        status = zs_fail(a->env->err, ZS_E_INVALID, "%s: 'x0' and 'noise' must have the same shape",
                         zs_apply_path(a));
    if (status == ZS_OK)
        status = zs_model_check_images(a->m, x.s, a->env->err);
    if (status == ZS_OK)
        status = zs_apply_timesteps(a, &t, x.s.d[0]);
    if (status == ZS_OK && !(x_t = zs_alloc((size_t)zs_shape_numel(&x.s), sizeof *x_t)))
        status = zs_fail_nomem(a->env->err, (unsigned long long)zs_shape_numel(&x.s) * 4, "x_t");
    if (status == ZS_OK)
        status = noisy(a, x_t, &x, &noise, t);
    if (status == ZS_OK)
        status = zs_model_grad(a->m, loss, grads, x.p, x_t, x.s, t, noise.p, NULL, a->env->err);
    if (status == ZS_OK) {
        status = zs_apply_put(a, "loss", 1, (int64_t[]){1}, loss);
        loss = NULL;
    }
    if (status == ZS_OK)
        status = put_gradients(a, grads);
    zs_free(loss);
    zs_free(grads);
    zs_free(x_t);
    zs_free(t);
    zs_free(noise.p);
    zs_free(x.p);
    return status;
}
