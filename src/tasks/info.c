/* SPDX-License-Identifier: MIT */
/* zsem info: what a model is and where each fact came from. */
#include "tasks/devices.h"
#include "tasks/pipeline.h"

static void add_facts(zs_task_env *env, const zs_model *m)
{
    size_t n = 0;
    json_t *list = json_array();
    const zs_fact *f = zs_model_facts(m, &n);
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "fact", f[i].key, "value",
                                              f[i].value, "source", f[i].source));
        zs_strbuf_addf(env->text, "  %-24s %-32s %s\n", f[i].key, f[i].value, f[i].source);
    }
    zs_result_set(env, "facts", list);
}

static void add_boxes(zs_task_env *env, const zs_model *m)
{
    const zs_params *ps = zs_model_params(m);
    int64_t count[ZS_BOX_COUNT] = {0};
    json_t *boxes = json_object();
    for (size_t i = 0; i < zs_params_count(ps); i++)
        if (zs_params_at(ps, i)->alias < 0)
            count[zs_param_box(zs_params_at(ps, i)->name)] += zs_params_at(ps, i)->numel;
    for (int b = 0; b < ZS_BOX_COUNT; b++) {
        if (!zs_model_has(m, (zs_box)b))
            continue;
        const zs_arch *a = zs_model_config_arch(zs_model_configuration(m), (zs_box)b, NULL);
        char size[40];
        (void)snprintf(size, sizeof size, "%.2f million parameters", (double)count[b] / 1e6);
        json_object_set_new(boxes, zs_box_name((zs_box)b), json_integer(count[b]));
        zs_strbuf_addf(env->text, "  %-24s %-32s %s\n", zs_box_name((zs_box)b), size,
                       a ? a->about : "attributes as directions of codes");
    }
    zs_result_set(env, "boxes", boxes);
    zs_result_set(env, "parameters", json_integer(zs_params_weights(ps)));
}

/* The encoder and the first stage that are not here. */
static void add_makers(zs_task_env *env, const zs_model *m)
{
    const zs_model_config *c = zs_model_configuration(m);
    const struct {
        const zs_maker *by;
        zs_box box;
        const char *what, *called, *key;
    } rows[] = {
        {&c->reps, ZS_BOX_ENCODER, "made for codes of", "encoder", "made_for"},
        {&c->latents, ZS_BOX_FIRST_STAGE, "made for latents of", "first stage", "made_for_latents"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (!rows[i].by->fingerprint[0] || zs_model_has(m, rows[i].box))
            continue;
        zs_strbuf_addf(env->text, "  %-24s %-32s join the %s with a comma\n", rows[i].what,
                       rows[i].by->name, rows[i].called);
        zs_result_set(env, rows[i].key, zs_json_text(rows[i].by->name));
    }
}

enum { SIZE_TEXT = 96 };

/* Sides of the images that an encoder takes, in words. */
static void size_text(char out[SIZE_TEXT], const zs_ports *p, int64_t made_for, bool prepares)
{
    char side[48] = "any";
    if (made_for > 0)
        (void)snprintf(side, sizeof side, "%lldx%lld", (long long)made_for, (long long)made_for);
    if (prepares)
        (void)snprintf(out, SIZE_TEXT, "any, seen as %s", side);
    else if (p->unit > 1)
        (void)snprintf(out, SIZE_TEXT, "%s, or multiples of %lld", side, (long long)p->unit);
    else
        (void)snprintf(out, SIZE_TEXT, "%s", side);
}

static void add_line(zs_task_env *env, const char *what, const char *value, const char *more)
{
    zs_strbuf_addf(env->text, more[0] ? "  %-24s %-32s %s\n" : "  %-24s %s%s\n", what, value, more);
}

/* A fingerprint is a run of the encoder. One that takes long is not waited for by somebody who only
 * looks at a file. */
static int fingerprint(char print[ZS_REP_FINGERPRINT], zs_model *m, int64_t size, zs_error *err)
{
    const double most = 500; /* GFLOP: seconds on a small machine */
    zs_flops f;
    int status = size > 0 ? zs_model_flops(&f, zs_model_configuration(m), size, size, err) : ZS_OK;
    if (status == ZS_OK && size > 0 && f.box[ZS_BOX_ENCODER] > most * 1e9)
        return zs_fail(err, ZS_E_UNSUPPORTED, "left out: it would take %.0f GFLOP",
                       f.box[ZS_BOX_ENCODER] / 1e9);
    return status == ZS_OK ? zs_rep_fingerprint(print, m, ZS_BOX_ENCODER, err) : status;
}

/* What somebody needs to know who feeds the encoder, or who looks for what was made for it. */
static void add_encoder(zs_task_env *env, zs_model *m)
{
    const zs_model_config *c = zs_model_configuration(m);
    char print[ZS_REP_FINGERPRINT] = "", size[SIZE_TEXT], codes[32];
    zs_error why = {0};
    zs_ports p;
    const zs_arch *a = zs_model_config_arch(c, ZS_BOX_ENCODER, NULL);
    if (!zs_model_config_ports(c, ZS_BOX_ENCODER, &p))
        return;
    int64_t made_for = zs_model_config_encoder_size(c);
    const char *prepares = a->prepares ? a->prepares : "pixels from -1 to 1";
    bool known = fingerprint(print, m, made_for, &why) == ZS_OK;
    size_text(size, &p, made_for, a->prepare != NULL);
    (void)snprintf(codes, sizeof codes, "%lld numbers", (long long)p.z_dim);
    add_line(env, "images of the encoder", size, prepares);
    bool standardised = c->vit.depth > 0 && c->vit.standardise;
    add_line(env, "codes", codes,
             standardised         ? "each of mean 0 and deviation 1"
             : zs_model_z_mean(m) ? "with statistics"
                                  : "without statistics");
    add_line(env, "fingerprint", known ? print : "not known", known ? "" : why.message);
    zs_result_set(env, "encoder",
                  json_pack("{s:s, s:s, s:I, s:I, s:I, s:b, s:s, s:I, s:b, s:s*}", "arch", a->name,
                            "about", a->about, "channels", (json_int_t)p.in_channels, "image_size",
                            (json_int_t)made_for, "multiple_of", (json_int_t)p.unit, "any_size",
                            (int)(a->prepare != NULL), "preprocessing", prepares, "z_dim",
                            (json_int_t)p.z_dim, "statistics", (int)(zs_model_z_mean(m) != NULL),
                            "fingerprint", known ? print : NULL));
}

static int add_flops(zs_task_env *env, const zs_model *m)
{
    const zs_model_config *c = zs_model_configuration(m);
    zs_flops f;
    if (c->image_size < 1)
        return ZS_OK;
    int status = zs_model_flops(&f, c, c->image_size, c->image_size, env->err);
    if (status < 0)
        return status;
    json_t *all = json_object();
    const char *sep = "";
    zs_strbuf_addf(env->text, "  %-24s", "one image");
    for (int b = 0; b < ZS_BOX_COUNT; b++) {
        double gflop = f.box[b] / 1e9;
        if (f.box[b] <= 0.0)
            continue;
        json_object_set_new(all, zs_box_name((zs_box)b), json_real(gflop));
        zs_strbuf_addf(env->text, "%s %.2f GFLOP %s", sep, gflop, zs_box_name((zs_box)b));
        sep = ",";
    }
    zs_result_set(env, "gflop_per_image", all);
    zs_strbuf_addf(env->text, "\n");
    if (c->classes)
        zs_strbuf_addf(env->text, "  %-24s %lld\n", "classes", (long long)c->classes);
    return ZS_OK;
}

static int run(zs_task_env *env)
{
    zs_model *m = NULL;
    if (zs_opt_flag(env, "devices"))
        return zs_devices_report(env);
    if (zs_arg_count(env) == 0)
        return zs_fail(env->err, ZS_E_INVALID,
                       "info: which model? usage: zsem info MODEL, or zsem info --devices");
    int status = zs_pipeline_open(&m, env, zs_arg(env, 0), ZS_BOX_COUNT, false);
    if (status < 0)
        return status;
    json_t *config = zs_model_config_to_json(zs_model_configuration(m));
    zs_strbuf_addf(env->text, "%s\n", zs_arg(env, 0));
    zs_result_set(env, "model", zs_json_text(zs_arg(env, 0)));
    zs_result_set(env, "config", config);
    add_boxes(env, m);
    add_encoder(env, m);
    add_makers(env, m);
    add_facts(env, m);
    status = add_flops(env, m);
    if (zs_model_extra(m))
        zs_result_set(env, "training", json_deep_copy(zs_model_extra(m)));
    zs_model_close(&m);
    return status;
}

static const zs_option options[] = {ZS_MODEL_OPTIONS,
                                    {"devices", ZS_OPTION_FLAG, NULL, NULL, 0, 0,
                                     "instead: what --device can name, and the memory there"},
                                    ZS_OPTIONS_END};

static const char *const examples[] = {"zsem info last.ckpt",
                                       "zsem info share/fashion32.safetensors --json",
                                       "zsem info --devices", NULL};

const zs_task zs_task_info_ = {
    {"info", "MODEL|--devices [options]",
     "say what a model is: boxes, architecture, parameters, sources",
     "Every fact is shown with the place it was read from: a stored hyper-parameter or\n"
     "the name or shape of a tensor.",
     0, 1, options, examples},
    run};
