/* SPDX-License-Identifier: MIT */
/* zsem apply: one function of a model on named tensors, in PyTorch's layout, with no image codec
 * between. Scripts and outside checks compare tensors through it, so names are fixed. */
#include "tasks/apply.h"

#include <string.h>

static const struct function {
    const char *name;
    zs_box needs;
    bool alone; /* uses no other box */
    bool raw;   /* on the trained weights, not their average */
    int (*run)(zs_apply *a);
} functions[] = {{"encode", ZS_BOX_ENCODER, true, false, zs_apply_encode},
                 {"eps", ZS_BOX_GENERATOR, true, false, zs_apply_eps},
                 {"decode", ZS_BOX_GENERATOR, true, false, zs_apply_decode},
                 {"invert", ZS_BOX_GENERATOR, true, false, zs_apply_invert},
                 {"sample", ZS_BOX_GENERATOR, true, false, zs_apply_sample},
                 {"prior-eps", ZS_BOX_PRIOR, true, false, zs_apply_prior_eps},
                 {"prior-sample", ZS_BOX_PRIOR, true, false, zs_apply_prior_sample},
                 {"first-stage-encode", ZS_BOX_FIRST_STAGE, true, false, zs_apply_to_latents},
                 {"first-stage-decode", ZS_BOX_FIRST_STAGE, true, false, zs_apply_from_latents},
                 {"probe", ZS_BOX_PROBE, true, false, zs_apply_probe},
                 {"edit", ZS_BOX_PROBE, true, false, zs_apply_edit},
                 {"grad", ZS_BOX_GENERATOR, false, true, zs_apply_grad},
                 {NULL, ZS_BOX_COUNT, false, false, NULL}};

static const struct function *find_function(zs_task_env *env)
{
    for (const struct function *f = functions; f->name; f++)
        if (strcmp(f->name, zs_arg(env, 0)) == 0)
            return f;
    zs_fail(env->err, ZS_E_INVALID,
            "apply: there is no function '%s'; the functions are encode eps decode invert "
            "sample prior-eps prior-sample first-stage-encode first-stage-decode probe edit grad",
            zs_arg(env, 0));
    return NULL;
}

static void report(zs_apply *a)
{
    json_t *names = json_array();
    for (size_t i = 0; i < a->n_out; i++)
        json_array_append_new(names, json_string(a->out[i].name));
    zs_result_set(a->env, "out", zs_json_text(zs_opt_text(a->env, "out")));
    zs_result_set(a->env, "tensors", names);
    zs_strbuf_addf(a->env->text, "%s: %zu tensor%s written\n", zs_opt_text(a->env, "out"), a->n_out,
                   a->n_out == 1 ? "" : "s");
}

static void release(zs_apply *a)
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
    zs_apply a = {.env = env};
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
        status = zs_tensorfile_open(&a.in, zs_apply_path(&a), env->err);
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
    {"steps", ZS_OPTION_INT, "T", "20", 1, 1000000, "steps of decode, invert and the samplers"},
    {"sampler", ZS_OPTION_TEXT, "NAME", "ddim", 0, 0, "sample: ddim, ddpm, dpm++2m or heun"},
    {"eta", ZS_OPTION_REAL, "X", "0", 0, 1, "noise of ddim: 0 none, 1 as much as ddpm"},
    {"guidance", ZS_OPTION_REAL, "W", "1", -1000, 1000,
     "sample: away from what is predicted without the representation or class; 1: none"},
    {"spacing", ZS_OPTION_TEXT, "HOW", "auto", 0, 0,
     "sample: even (first and last timestep) or stride (from 0); auto: even for ddpm alone"},
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
     "  sample     as decode, with noise [S,N,C,H,W] of each step where it is not to be drawn\n"
     "  prior-eps  z_t, t -> out             grad       x0, t, noise -> loss, grad.<name>\n"
     "  prior-sample  z_T -> z, z_sem        probe      z_sem -> logits\n"
     "             RDMs take y too where they know classes, and noise [S,N,dim], and draw rep\n"
     "  edit       z_sem -> z_sem, moved by --attr\n"
     "  first-stage-encode  x0 -> latents, times their scale; with noise, where the first stage\n"
     "             has variances, drawn; first-stage-decode  latents -> x0\n"
     "A vision transformer takes `image` in [0,1], of any size, instead of x0, and also gives\n"
     "rep, the same as z_sem, and features and head, which it was made of.\n"
     "Generators of a frozen encoder's representations take rep for z_sem, and y where they know\n"
     "classes; eps holds all channels that the network returns.\n"
     "z_sem is left out for a DDPM. grad uses the trained weights where the file has them (a "
     "bundle\n"
     "holds their average alone), the other functions the average.",
     1, 1, options, examples},
    run};
