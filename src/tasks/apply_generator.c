/* SPDX-License-Identifier: MIT */
/* Functions of generators. */
#include "tasks/apply.h"

#include <string.h>

int zs_apply_eps(zs_apply *a)
{
    zs_apply_tensor x = {0};
    zs_apply_cond c = {0};
    zs_ports p;
    int64_t *t = NULL;
    float *eps = NULL;
    int status = zs_apply_images(a, &x, "x_t");
    zs_shape out = x.s;
    (void)zs_model_config_ports(zs_model_configuration(a->m), ZS_BOX_GENERATOR, &p);
    out.d[3] = p.out_channels;
    if (status == ZS_OK)
        status = zs_apply_timesteps(a, &t, x.s.d[0], ZS_BOX_GENERATOR);
    if (status == ZS_OK)
        status = zs_apply_cond_read(a, &c, x.s.d[0]);
    if (status == ZS_OK && !(eps = zs_alloc((size_t)zs_shape_numel(&out), sizeof *eps)))
        status = zs_fail_nomem(a->env->err, (unsigned long long)zs_shape_numel(&out) * 4, "eps");
    if (status == ZS_OK)
        status =
            zs_model_eps(a->m, eps, x.p, x.s, t, &(zs_cond){.z = c.z.p, .y = c.y}, a->env->err);
    if (status == ZS_OK)
        status = zs_apply_put_images(a, "eps", eps, out);
    zs_free(eps);
    zs_free(t);
    zs_apply_cond_free(&c);
    zs_free(x.p);
    return status;
}

/* A sampler over images `in`, result `out`; g brings the sampler and how it is to run. */
static int apply_sampler(zs_apply *a, const char *in, const char *out, zs_generation *g)
{
    zs_apply_tensor x = {0};
    zs_apply_cond c = {0};
    float *noise = NULL;
    g->model = a->m;
    g->steps = zs_opt_int(a->env, "steps");
    g->ui = a->env->ui;
    g->stage = zs_arg(a->env, 0);
    int status = zs_apply_images(a, &x, in);
    if (status == ZS_OK)
        status = zs_model_check_states(a->m, x.s, a->env->err);
    if (status == ZS_OK)
        status = zs_apply_cond_read(a, &c, x.s.d[0]);
    if (status == ZS_OK)
        status = zs_apply_noise(a, &noise, g->steps, x.s);
    g->cond = (zs_cond){.z = c.z.p, .y = c.y};
    g->noise = (zs_noise){.recorded = noise, .seed = (uint64_t)zs_opt_int(a->env, "seed")};
    if (status == ZS_OK)
        status = zs_generate(g, x.p, x.s, a->env->err);
    if (status == ZS_OK)
        status = zs_apply_put_images(a, out, x.p, x.s);
    zs_free(noise);
    zs_apply_cond_free(&c);
    zs_free(x.p);
    return status;
}

int zs_apply_decode(zs_apply *a)
{
    return apply_sampler(a, "x_T", "x0", &(zs_generation){.sampler = &zs_sampler_ddim});
}

int zs_apply_invert(zs_apply *a)
{
    return apply_sampler(a, "x0", "x_T", &(zs_generation){.sampler = &zs_sampler_ddim_invert});
}

/* "25" or "ddim25" where --spacing says which, else NULL. */
static int read_spacing(const zs_apply *a, char spec[32], const char **out)
{
    const char *how = zs_opt_text(a->env, "spacing");
    bool even = strcmp(how, "even") == 0;
    *out = strcmp(how, "auto") == 0 ? NULL : spec;
    if (*out && !even && strcmp(how, "stride") != 0)
        return zs_fail(a->env->err, ZS_E_INVALID,
                       "apply: --spacing %s is unknown: use auto, even or stride", how);
    (void)snprintf(spec, 32, "%s%lld", even ? "" : "ddim", (long long)zs_opt_int(a->env, "steps"));
    return ZS_OK;
}

int zs_apply_sample(zs_apply *a)
{
    char spec[32];
    const char *name = zs_opt_text(a->env, "sampler");
    zs_generation g = {.sampler = zs_sampler_find(name),
                       .eta = zs_opt_real(a->env, "eta"),
                       .guidance = zs_opt_real(a->env, "guidance")};
    if (!g.sampler || g.sampler->upward)
        return zs_fail(a->env->err, ZS_E_INVALID,
                       "apply: --sampler %s: the samplers are ddim, ddpm, dpm++2m and heun", name);
    int status = read_spacing(a, spec, &g.spacing);
    return status < 0 ? status : apply_sampler(a, "x_T", "x0", &g);
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

/* One batch of the loss: what the file gives, and what follows from it. */
typedef struct batch {
    zs_apply_tensor x0, noise;
    zs_apply_cond cond;
    int64_t *t;
    float *x_t, *steps; /* steps: zs_bound_row of each sample */
} batch;

static void free_batch(batch *b)
{
    zs_free(b->x0.p);
    zs_free(b->noise.p);
    zs_apply_cond_free(&b->cond);
    zs_free(b->t);
    zs_free(b->x_t);
    zs_free(b->steps);
}

static int read_batch(const zs_apply *a, batch *b)
{
    int status = zs_apply_images(a, &b->x0, "x0");
    if (status == ZS_OK)
        status = zs_apply_images(a, &b->noise, "noise");
    if (status == ZS_OK && !zs_shape_equal(&b->x0.s, &b->noise.s))
        status = zs_fail(a->env->err, ZS_E_INVALID, "%s: 'x0' and 'noise' must have the same shape",
                         zs_apply_path(a));
    if (status == ZS_OK)
        status = zs_model_check_images(a->m, b->x0.s, a->env->err);
    if (status == ZS_OK)
        status = zs_apply_timesteps(a, &b->t, b->x0.s.d[0], ZS_BOX_GENERATOR);
    if (status == ZS_OK && !zs_model_config_joint(zs_model_configuration(a->m)))
        status = zs_apply_cond_read(a, &b->cond, b->x0.s.d[0]);
    return status;
}

/* x_t = sqrt(abar) x0 + sqrt(1-abar) noise, and the rows of the bound. */
static int noisy(const zs_apply *a, batch *b)
{
    zs_schedule s = {0};
    const zs_process_config *d = &zs_model_configuration(a->m)->diffusion;
    size_t n = (size_t)b->x0.s.d[0], e = (size_t)zs_shape_numel(&b->x0.s) / n;
    b->x_t = zs_alloc(n, e * sizeof *b->x_t);
    b->steps = zs_alloc(n, ZS_BOUND_NUMBERS * sizeof *b->steps);
    if (!b->x_t || !b->steps)
        return zs_fail_nomem(a->env->err, (unsigned long long)(n * e) * sizeof *b->x_t, "x_t");
    int status = zs_schedule_make(&s, d->beta_schedule, d->T, a->env->err);
    for (size_t i = 0; status == ZS_OK && i < n; i++) {
        zs_q_sample(b->x_t + i * e, b->x0.p + i * e, b->noise.p + i * e, s.abar[b->t[i]], e);
        zs_bound_row(b->steps + i * ZS_BOUND_NUMBERS, &s, b->t[i]);
    }
    zs_schedule_free(&s);
    return status;
}

int zs_apply_grad(zs_apply *a)
{
    batch b = {0};
    size_t numel = (size_t)zs_params_numel(zs_model_params(a->m));
    float *grads = zs_calloc(numel, sizeof *grads), *loss = zs_alloc(1, sizeof *loss);
    int status = grads && loss ? ZS_OK : zs_fail_nomem(a->env->err, numel * 4, "gradients");
    if (status == ZS_OK)
        status = read_batch(a, &b);
    if (status == ZS_OK)
        status = noisy(a, &b);
    const zs_cond cond = {.z = b.cond.z.p, .y = b.cond.y, .steps = b.steps};
    if (status == ZS_OK)
        status = zs_model_grad(a->m, loss, grads, b.x0.p, b.x_t, b.x0.s, b.t, b.noise.p, &cond,
                               a->env->err);
    if (status == ZS_OK) {
        status = zs_apply_put(a, "loss", 1, (int64_t[]){1}, loss);
        loss = NULL;
    }
    if (status == ZS_OK)
        status = put_gradients(a, grads);
    zs_free(loss);
    zs_free(grads);
    free_batch(&b);
    return status;
}
