/* SPDX-License-Identifier: MIT */
/* zsem apply: one function of a model on named tensors, in PyTorch's layout, with no image codec
 * between. Scripts and outside checks compare tensors through it, so names are fixed. */
#include "tasks/attributes.h"
#include "tasks/pipeline.h"

#include <math.h>
#include <string.h>

typedef struct apply {
    zs_task_env *env;
    zs_model *m;
    zs_tensorfile *in;
    zs_tensorout *out; /* data owned */
    size_t n_out, cap_out;
    char **names; /* owned copies of output names that are made here */
    size_t n_names, cap_names;
} apply;

typedef struct tensor {
    zs_shape s; /* of the file: [N,C,H,W] or [N,D] */
    float *p;   /* [N,H,W,C] for images */
} tensor;

static const char *input_path(const apply *a)
{
    return zs_opt_text(a->env, "in");
}

/* Checks that tensor `name` exists with nd dimensions; its index or a negative status. */
static long need(const apply *a, const char *name, int nd)
{
    long i = zs_tensorfile_find(a->in, name);
    if (i < 0)
        return zs_fail(a->env->err, ZS_E_INVALID,
                       "%s: %s needs a tensor '%s' and the file has none", input_path(a),
                       zs_arg(a->env, 0), name);
    const zs_tensorinfo *info = zs_tensorfile_info(a->in, (size_t)i);
    if (info->nd != nd || info->numel < 1)
        return zs_fail(a->env->err, ZS_E_INVALID,
                       "%s: tensor '%s' must have %d dimensions and not be empty", input_path(a),
                       name, nd);
    return i;
}

static int read_floats(const apply *a, tensor *t, const char *name, int nd)
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
static int read_images(const apply *a, tensor *t, const char *name)
{
    int status = read_floats(a, t, name, 4);
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
static int check_whole(const apply *a, size_t i, int64_t n)
{
    float *t = zs_alloc((size_t)n, sizeof *t);
    if (!t)
        return zs_fail_nomem(a->env->err, (unsigned long long)n * 4, "timesteps");
    int status = zs_tensorfile_read_f32(a->in, i, t, (size_t)n, a->env->err);
    for (int64_t k = 0; status == ZS_OK && k < n; k++)
        if (t[k] != floorf(t[k]))
            status = zs_fail(a->env->err, ZS_E_INVALID, "%s: t[%lld] = %g is not a whole number",
                             input_path(a), (long long)k, (double)t[k]);
    zs_free(t);
    return status;
}

/* Timesteps t [n], checked against the model's T. */
static int read_timesteps(const apply *a, int64_t **t, int64_t n)
{
    long i = need(a, "t", 1);
    if (i < 0)
        return (int)i;
    int64_t steps = zs_model_configuration(a->m)->diffusion.T;
    if (zs_tensorfile_info(a->in, (size_t)i)->numel != n)
        return zs_fail(a->env->err, ZS_E_INVALID, "%s: 't' must have one entry per sample (%lld)",
                       input_path(a), (long long)n);
    *t = zs_alloc((size_t)n, sizeof **t);
    if (!*t)
        return zs_fail_nomem(a->env->err, (unsigned long long)n * 8, "timesteps");
    int status = check_whole(a, (size_t)i, n);
    if (status == ZS_OK)
        status = zs_tensorfile_read_i64(a->in, (size_t)i, *t, (size_t)n, a->env->err);
    for (int64_t k = 0; status == ZS_OK && k < n; k++)
        if ((*t)[k] < 0 || (*t)[k] >= steps)
            status = zs_fail(a->env->err, ZS_E_INVALID, "%s: t[%lld] = %lld is outside 0..%lld",
                             input_path(a), (long long)k, (long long)(*t)[k], (long long)steps - 1);
    return status;
}

/* z_sem [n,z_dim] when the generator takes one. */
static int read_code(const apply *a, tensor *z, int64_t n)
{
    int64_t dim = zs_model_config_z_dim(zs_model_configuration(a->m));
    if (dim == 0)
        return ZS_OK;
    int status = read_floats(a, z, "z_sem", 2);
    if (status == ZS_OK && (z->s.d[0] != n || z->s.d[1] != dim))
        status = zs_fail(a->env->err, ZS_E_INVALID,
                         "%s: 'z_sem' is %lldx%lld and must be %lldx%lld", input_path(a),
                         (long long)z->s.d[0], (long long)z->s.d[1], (long long)n, (long long)dim);
    return status;
}

/* Adds an output; takes data (from zs_alloc) over. name outlives the write. */
static int put(apply *a, const char *name, int nd, const int64_t *shape, float *data)
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
static int put_images(apply *a, const char *name, const float *x, zs_shape s)
{
    float *p = zs_alloc((size_t)zs_shape_numel(&s), sizeof *p);
    if (!p)
        return zs_fail_nomem(a->env->err, (unsigned long long)zs_shape_numel(&s) * 4, name);
    zs_nchw_from_nhwc(p, x, s.d[0], s.d[1], s.d[2], s.d[3]);
    return put(a, name, 4, (int64_t[]){s.d[0], s.d[3], s.d[1], s.d[2]}, p);
}

static int apply_encode(apply *a)
{
    tensor x = {0};
    int64_t dim = zs_model_config_z_dim(zs_model_configuration(a->m));
    int status = read_images(a, &x, "x0");
    float *z = status < 0 ? NULL : zs_alloc((size_t)(x.s.d[0] * dim), sizeof *z);
    if (status == ZS_OK && !z)
        status = zs_fail_nomem(a->env->err, (unsigned long long)(x.s.d[0] * dim) * 4, "z_sem");
    if (status == ZS_OK)
        status = zs_model_encode(a->m, z, x.p, x.s, a->env->err);
    if (status == ZS_OK) {
        status = put(a, "z_sem", 2, (int64_t[]){x.s.d[0], dim}, z);
        z = NULL;
    }
    zs_free(z);
    zs_free(x.p);
    return status;
}

static int apply_eps(apply *a)
{
    tensor x = {0}, z = {0};
    int64_t *t = NULL;
    float *eps = NULL;
    int status = read_images(a, &x, "x_t");
    zs_shape out = x.s;
    out.d[3] = zs_model_configuration(a->m)->unet.out_channels;
    if (status == ZS_OK)
        status = read_timesteps(a, &t, x.s.d[0]);
    if (status == ZS_OK)
        status = read_code(a, &z, x.s.d[0]);
    if (status == ZS_OK && !(eps = zs_alloc((size_t)zs_shape_numel(&out), sizeof *eps)))
        status = zs_fail_nomem(a->env->err, (unsigned long long)zs_shape_numel(&out) * 4, "eps");
    if (status == ZS_OK)
        status = zs_model_eps(a->m, eps, x.p, x.s, t, &(zs_cond){.z = z.p}, a->env->err);
    if (status == ZS_OK)
        status = put_images(a, "eps", eps, out);
    zs_free(eps);
    zs_free(t);
    zs_free(z.p);
    zs_free(x.p);
    return status;
}

/* decode and invert: a sampler over images `in`, result `out`. */
static int apply_sampler(apply *a, const char *in, const char *out, bool invert)
{
    tensor x = {0}, z = {0};
    zs_pipeline p = {a->m, zs_opt_int(a->env, "steps"), a->env->ui, zs_arg(a->env, 0)};
    int status = read_images(a, &x, in);
    if (status == ZS_OK)
        status = zs_model_check_images(a->m, x.s, a->env->err);
    if (status == ZS_OK)
        status = read_code(a, &z, x.s.d[0]);
    if (status == ZS_OK)
        status = invert ? zs_pipeline_invert(&p, x.p, x.s, z.p, a->env->err)
                        : zs_pipeline_decode(&p, x.p, x.s, z.p, a->env->err);
    if (status == ZS_OK)
        status = put_images(a, out, x.p, x.s);
    zs_free(z.p);
    zs_free(x.p);
    return status;
}

static int apply_decode(apply *a)
{
    return apply_sampler(a, "x_T", "x0", false);
}

static int apply_invert(apply *a)
{
    return apply_sampler(a, "x0", "x_T", true);
}

static int apply_prior_eps(apply *a)
{
    tensor z = {0};
    int64_t *t = NULL, dim = zs_model_config_z_dim(zs_model_configuration(a->m));
    float *out = NULL;
    int status = read_floats(a, &z, "z_t", 2);
    if (status == ZS_OK && z.s.d[1] != dim)
        status = zs_fail(a->env->err, ZS_E_INVALID,
                         "%s: 'z_t' has %lld columns and the prior takes %lld", input_path(a),
                         (long long)z.s.d[1], (long long)dim);
    if (status == ZS_OK)
        status = read_timesteps(a, &t, z.s.d[0]);
    if (status == ZS_OK && !(out = zs_alloc((size_t)zs_shape_numel(&z.s), sizeof *out)))
        status = zs_fail_nomem(a->env->err, (unsigned long long)zs_shape_numel(&z.s) * 4, "out");
    if (status == ZS_OK)
        status = zs_model_prior_eps(a->m, out, z.p, z.s.d[0], t, NULL, a->env->err);
    if (status == ZS_OK) {
        status = put(a, "out", 2, z.s.d, out);
        out = NULL;
    }
    zs_free(out);
    zs_free(t);
    zs_free(z.p);
    return status;
}

/* Codes [n,dim] of the tensor `name`. */
static int read_codes(const apply *a, tensor *z, const char *name)
{
    int64_t dim = zs_model_config_z_dim(zs_model_configuration(a->m));
    int status = read_floats(a, z, name, 2);
    if (status == ZS_OK && z->s.d[1] != dim)
        status = zs_fail(a->env->err, ZS_E_INVALID,
                         "%s: '%s' has %lld columns and the model's codes have %lld", input_path(a),
                         name, (long long)z->s.d[1], (long long)dim);
    return status;
}

/* Adds a copy of codes, so that what follows may change them. */
static int put_codes(apply *a, const char *name, const tensor *z)
{
    size_t n = (size_t)zs_shape_numel(&z->s);
    float *p = zs_alloc(n, sizeof *p);
    if (!p)
        return zs_fail_nomem(a->env->err, n * sizeof *p, name);
    memcpy(p, z->p, n * sizeof *p);
    return put(a, name, 2, z->s.d, p);
}

static int apply_prior_sample(apply *a)
{
    tensor z = {0};
    zs_generation g = {.model = a->m,
                       .sampler = &zs_sampler_ddim,
                       .steps = zs_opt_int(a->env, "steps"),
                       .ui = a->env->ui,
                       .stage = "prior-sample"};
    int status = read_codes(a, &z, "z_T");
    if (status == ZS_OK)
        status = zs_generate_codes(&g, z.p, z.s.d[0], a->env->err);
    if (status == ZS_OK)
        status = put_codes(a, "z", &z);
    if (status == ZS_OK && zs_model_z_mean(a->m)) {
        status = zs_denormalise_codes(a->m, z.p, z.s.d[0], a->env->err);
        if (status == ZS_OK)
            status = put_codes(a, "z_sem", &z);
    }
    zs_free(z.p);
    return status;
}

static int apply_probe(apply *a)
{
    const zs_probe *p = zs_model_probe(a->m);
    tensor z = {0};
    int status = read_codes(a, &z, "z_sem");
    float *logits =
        status < 0 ? NULL : zs_alloc((size_t)z.s.d[0], (size_t)p->attrs * sizeof *logits);
    if (status == ZS_OK && !logits)
        status = zs_fail_nomem(a->env->err, (unsigned long long)z.s.d[0] * 4, "logits");
    if (status == ZS_OK)
        status = zs_normalise_codes(a->m, z.p, z.s.d[0], a->env->err);
    for (int64_t i = 0; status == ZS_OK && i < z.s.d[0]; i++)
        zs_probe_logits(p, logits + i * p->attrs, z.p + i * p->dim);
    if (status == ZS_OK) {
        status = put(a, "logits", 2, (int64_t[]){z.s.d[0], p->attrs}, logits);
        logits = NULL;
    }
    zs_free(logits);
    zs_free(z.p);
    return status;
}

static int apply_edit(apply *a)
{
    tensor z = {0};
    zs_attr_list attrs;
    int status = zs_attributes(&attrs, a->env, a->m, 1.0);
    if (status == ZS_OK)
        status = read_codes(a, &z, "z_sem");
    if (status == ZS_OK)
        status = zs_attributes_move(&attrs, a->m, z.p, z.s.d[0], 1.0, a->env->err);
    if (status == ZS_OK)
        status = put_codes(a, "z_sem", &z);
    zs_free(z.p);
    return status;
}

/* Every trained parameter's gradient, under its official name, in the file's order. */
static int put_gradients(apply *a, const float *grads)
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
        int status = put(a, name, q->nd, q->shape, p);
        if (status < 0)
            return status;
    }
    return ZS_OK;
}

/* x_t = sqrt(abar) x0 + sqrt(1-abar) noise, into x_t. */
static int noisy(const apply *a, float *x_t, const tensor *x0, const tensor *noise,
                 const int64_t *t)
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

static int apply_grad(apply *a)
{
    tensor x = {0}, noise = {0};
    int64_t *t = NULL;
    size_t numel = (size_t)zs_params_numel(zs_model_params(a->m));
    float *x_t = NULL, *grads = zs_calloc(numel, sizeof *grads), *loss = zs_alloc(1, sizeof *loss);
    int status = grads && loss ? ZS_OK : zs_fail_nomem(a->env->err, numel * 4, "gradients");
    if (status == ZS_OK)
        status = read_images(a, &x, "x0");
    if (status == ZS_OK)
        status = read_images(a, &noise, "noise");
    if (status == ZS_OK && !zs_shape_equal(&x.s, &noise.s))
        status = zs_fail(a->env->err, ZS_E_INVALID, "%s: 'x0' and 'noise' must have the same shape",
                         input_path(a));
    if (status == ZS_OK)
        status = zs_model_check_images(a->m, x.s, a->env->err);
    if (status == ZS_OK)
        status = read_timesteps(a, &t, x.s.d[0]);
    if (status == ZS_OK && !(x_t = zs_alloc((size_t)zs_shape_numel(&x.s), sizeof *x_t)))
        status = zs_fail_nomem(a->env->err, (unsigned long long)zs_shape_numel(&x.s) * 4, "x_t");
    if (status == ZS_OK)
        status = noisy(a, x_t, &x, &noise, t);
    if (status == ZS_OK)
        status = zs_model_grad(a->m, loss, grads, x.p, x_t, x.s, t, noise.p, NULL, a->env->err);
    if (status == ZS_OK) {
        status = put(a, "loss", 1, (int64_t[]){1}, loss);
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

static const struct function {
    const char *name;
    zs_box needs;
    bool alone; /* uses no other box */
    bool raw;   /* on the trained weights, not their average */
    int (*run)(apply *a);
} functions[] = {{"encode", ZS_BOX_ENCODER, true, false, apply_encode},
                 {"eps", ZS_BOX_GENERATOR, true, false, apply_eps},
                 {"decode", ZS_BOX_GENERATOR, true, false, apply_decode},
                 {"invert", ZS_BOX_GENERATOR, true, false, apply_invert},
                 {"prior-eps", ZS_BOX_PRIOR, true, false, apply_prior_eps},
                 {"prior-sample", ZS_BOX_PRIOR, true, false, apply_prior_sample},
                 {"probe", ZS_BOX_PROBE, true, false, apply_probe},
                 {"edit", ZS_BOX_PROBE, true, false, apply_edit},
                 {"grad", ZS_BOX_GENERATOR, false, true, apply_grad},
                 {NULL, ZS_BOX_COUNT, false, false, NULL}};

static const struct function *find_function(zs_task_env *env)
{
    for (const struct function *f = functions; f->name; f++)
        if (strcmp(f->name, zs_arg(env, 0)) == 0)
            return f;
    zs_fail(env->err, ZS_E_INVALID,
            "apply: there is no function '%s'; the functions are encode eps decode invert "
            "prior-eps prior-sample probe edit grad",
            zs_arg(env, 0));
    return NULL;
}

static void report(apply *a)
{
    json_t *names = json_array();
    for (size_t i = 0; i < a->n_out; i++)
        json_array_append_new(names, json_string(a->out[i].name));
    zs_result_set(a->env, "out", zs_json_text(zs_opt_text(a->env, "out")));
    zs_result_set(a->env, "tensors", names);
    zs_strbuf_addf(a->env->text, "%s: %zu tensor%s written\n", zs_opt_text(a->env, "out"), a->n_out,
                   a->n_out == 1 ? "" : "s");
}

static void release(apply *a)
{
    for (size_t i = 0; i < a->n_out; i++)
        zs_free((void *)(uintptr_t)a->out[i].data);
    for (size_t i = 0; i < a->n_names; i++)
        zs_free(a->names[i]);
    zs_free(a->out);
    zs_free(a->names);
    zs_tensorfile_close(&a->in);
    zs_model_close(&a->m);
}

static int run(zs_task_env *env)
{
    apply a = {.env = env};
    const char *need_opt[] = {"model", "in", "out"};
    const struct function *f = find_function(env);
    if (!f)
        return ZS_E_INVALID;
    for (int i = 0; i < 3; i++)
        if (!zs_opt_given(env, need_opt[i]))
            return zs_fail(env->err, ZS_E_INVALID, "apply: --%s is missing", need_opt[i]);
    const char *model = zs_opt_text(env, "model");
    int status = f->alone ? zs_pipeline_open_alone(&a.m, env, model, f->needs)
                          : zs_pipeline_open(&a.m, env, model, f->needs, f->raw);
    if (status == ZS_OK)
        status = zs_tensorfile_open(&a.in, input_path(&a), env->err);
    if (status == ZS_OK)
        status = f->run(&a);
    if (status == ZS_OK)
        status = zs_safetensors_write(zs_opt_text(env, "out"), a.out, a.n_out, NULL, env->err);
    if (status == ZS_OK)
        report(&a);
    release(&a);
    return status;
}

static const zs_option options[] = {
    {"model", ZS_OPTION_TEXT, "MODEL", NULL, 0, 0, "bundle or official file(s)"},
    {"in", ZS_OPTION_TEXT, "FILE", NULL, 0, 0, "input tensors (safetensors, npz, PyTorch)"},
    {"out", ZS_OPTION_TEXT, "FILE", NULL, 0, 0, "output tensors (safetensors)"},
    {"steps", ZS_OPTION_INT, "T", "20", 1, 1000000, "steps of decode, invert and prior-sample"},
    {"attr", ZS_OPTION_LIST, "NAME=AMOUNT", NULL, 0, 0, "edit: attribute, and how far to move"},
    ZS_MODEL_OPTIONS,
    ZS_OPTIONS_END};

static const char *const examples[] = {
    "zsem apply encode --model last.ckpt --in x.safetensors --out z.safetensors",
    "zsem apply decode --model last.ckpt --in zx.safetensors --out x0.safetensors --steps 100",
    "zsem apply grad --model last.ckpt --in batch.safetensors --out grads.safetensors", NULL};

const zs_task zs_task_apply = {
    {"apply", "FUNCTION --model M --in IN --out OUT [options]",
     "run one function of a model on named tensors",
     "Tensors are float32 in PyTorch layout, images [N,C,H,W] in [-1,1]:\n"
     "  encode     x0 -> z_sem               eps        x_t, t, z_sem -> eps\n"
     "  decode     x_T, z_sem -> x0          invert     x0, z_sem -> x_T\n"
     "  prior-eps  z_t, t -> out             grad       x0, t, noise -> loss, grad.<name>\n"
     "  prior-sample  z_T -> z, z_sem        probe      z_sem -> logits\n"
     "  edit       z_sem -> z_sem, moved by --attr\n"
     "z_sem is left out for a DDPM. grad uses the trained weights where the file has them (a "
     "bundle\n"
     "holds their average alone), the other functions the average.",
     1, 1, options, examples},
    run};
