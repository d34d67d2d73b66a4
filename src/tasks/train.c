/* SPDX-License-Identifier: MIT */
/* zsem train: options -> zs_train_config -> a run that the same command resumes. */
#include "tasks/train.h"
#include "comm/comm.h"
#include "tasks/pipeline.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* A key of --set that belongs to the optimiser or the data rather than to the architecture. */
typedef struct train_key {
    const char *name;
    double min, max;
    size_t offset; /* of a double in zs_train_config */
} train_key;

static const train_key keys[] = {
    {"lr", 1e-12, 1e3, offsetof(zs_train_config, optim.lr)},
    {"weight_decay", 0, 1e3, offsetof(zs_train_config, optim.weight_decay)},
    {"clip", 0, 1e9, offsetof(zs_train_config, optim.clip)},
    {"ema", 0, 0.9999999, offsetof(zs_train_config, optim.ema)},
    {"flip", 0, 1, offsetof(zs_train_config, flip)},
    {"t_weight", 1, 1e6, offsetof(zs_train_config, t_weight)},
    {NULL, 0, 0, 0}};

int zs_train_take_key(zs_train_config *c, const char *key_value, zs_error *err)
{
    const char *eq = strchr(key_value, '=');
    double v = 0.0;
    for (const train_key *k = keys; eq && k->name; k++) {
        if (strlen(k->name) != (size_t)(eq - key_value) ||
            memcmp(k->name, key_value, (size_t)(eq - key_value)) != 0)
            continue;
        if (!zs_str_to_f64(eq + 1, &v) || v < k->min || v > k->max)
            return zs_fail(err, ZS_E_INVALID, "--set %s: must be a number from %g to %.9g",
                           key_value, k->min, k->max);
        memcpy((char *)c + k->offset, &v, sizeof v);
        return ZS_OK;
    }
    return 1;
}

static int unknown_key(const char *key_value, zs_error *err)
{
    zs_strbuf names = {0};
    for (const train_key *k = keys; k->name; k++)
        zs_strbuf_addf(&names, " %s", k->name);
    for (size_t i = 0; zs_model_config_keys[i][0]; i++)
        zs_strbuf_addf(&names, " %s", zs_model_config_keys[i][0]);
    int status = zs_fail(err, ZS_E_INVALID, "--set %s: there is no such key; the keys are%s",
                         key_value, names.s ? names.s : "");
    zs_strbuf_free(&names);
    return status;
}

static int apply_sets(zs_train_config *c, zs_task_env *env)
{
    size_t n = zs_opt_list_count(env, "set");
    for (size_t i = 0; i < n; i++) {
        const char *s = zs_opt_list(env, "set", i);
        int r = zs_train_take_key(c, s, env->err);
        if (r == 1)
            r = zs_model_config_set(&c->model, s, env->err);
        if (r == 1)
            r = unknown_key(s, env->err);
        if (r < 0)
            return r;
    }
    c->dropout = c->model.adm.levels ? c->model.adm.dropout : c->model.unet.dropout;
    return zs_model_config_validate(&c->model, env->err);
}

int zs_train_preset(zs_preset *p, zs_task_env *env, const char *data)
{
    const char *name = zs_opt_text(env, "preset");
    if (name)
        return zs_preset_find(p, name, env->err);
    const char *colon = strchr(data, ':');
    size_t stem = colon ? (size_t)(colon - data) : strlen(data);
    for (size_t i = 0; zs_preset_name(i); i++) {
        int status = zs_preset_find(p, zs_preset_name(i), env->err);
        if (status < 0)
            return status;
        if (stem > 0 && p->data[0] && strncmp(p->data, data, stem) == 0 &&
            (p->data[stem] == ':' || p->data[stem] == '\0'))
            return ZS_OK;
    }
    zs_ui_log(env->ui, ZS_LOG_INFO, "no --preset given: taking ffhq64 (64x64 colour images)");
    return zs_preset_find(p, "ffhq64", env->err);
}

int zs_train_check_preset(const zs_preset *p, const zs_model_config *c, const char *kind,
                          zs_error *err)
{
    for (int b = 0; b < ZS_BOX_COUNT; b++)
        if (zs_model_config_arch(c, (zs_box)b, NULL))
            return ZS_OK;
    return zs_fail(err, ZS_E_INVALID, "--preset %s: it says nothing of %s; choose another", p->name,
                   kind);
}

void zs_train_fill(zs_train_config *c, const zs_preset_train *t)
{
    c->optim = zs_optim_of_preset(t);
    c->batch = t->batch;
    c->flip = t->flip ? 0.5 : 0.0;
    c->t_weight = t->t_weight > 1.0 ? t->t_weight : 1.0;
    c->images = t->total_images;
}

static void fill_from_preset(zs_train_config *c, const zs_preset *p, bool ddpm)
{
    c->model = ddpm ? p->ddpm : p->autoencoder;
    zs_model_config_clear(&c->model, ZS_BOX_PRIOR); /* trained on its own, later */
    zs_train_fill(c, ddpm ? &p->train_ddpm : &p->train_autoencoder);
}

void zs_train_take_options(zs_train_config *c, zs_task_env *env)
{
    if (zs_opt_given(env, "batch"))
        c->batch = zs_opt_int(env, "batch");
    if (zs_opt_given(env, "warmup"))
        c->optim.warmup = zs_opt_int(env, "warmup");
    if (zs_opt_given(env, "images"))
        c->images = zs_opt_int(env, "images");
    if (zs_opt_given(env, "steps"))
        c->images = zs_opt_int(env, "steps") * c->batch;
    c->micro_batch = zs_opt_int(env, "micro-batch");
    c->seed = (uint64_t)zs_opt_int(env, "seed");
    c->log_steps = zs_opt_int(env, "log-every");
    c->checkpoint_steps = zs_opt_int(env, "checkpoint-every");
    c->checkpoint_minutes = zs_opt_real(env, "checkpoint-minutes");
    c->keep = zs_opt_int(env, "keep");
    c->preview_images = zs_opt_int(env, "sample-every");
    c->loader_threads = (int)zs_opt_int(env, "loader-threads");
    c->init = zs_opt_text(env, "init");
    c->backend = zs_opt_text(env, "device");
    c->bucket_mb = zs_opt_real(env, "bucket-mb");
    c->comm = zs_comm_world();
    zs_comm_set_timeout(c->comm, zs_opt_real(env, "comm-timeout"));
    c->exec_flags = zs_opt_flag(env, "recompute") ? ZS_EXEC_RECOMPUTE : 0;
}

int zs_train_take_places(zs_train_config *c, zs_task_env *env, const char *kind)
{
    c->data = zs_opt_text(env, "data");
    c->out = zs_opt_text(env, "out");
    if (c->data && c->out)
        return ZS_OK;
    return zs_fail(env->err, ZS_E_INVALID,
                   "train: --%s is missing; usage: zsem train %s --data SRC --out RUN",
                   c->data ? "out" : "data", kind);
}

static void report(zs_task_env *env, const zs_train_config *c, const zs_train_report *r)
{
    const char *unit = c->base ? "codes" : "images";
    bool stepped = r->step > r->start_step; /* else the run was at its end already */
    zs_result_set(env, "out", zs_json_text(c->out));
    zs_result_set(env, "step", json_integer(r->step));
    zs_result_set(env, unit, json_integer(r->samples));
    if (stepped)
        zs_result_set(env, "loss", json_real(r->loss));
    zs_result_set(env, c->base ? "codes_per_second" : "images_per_second",
                  json_real(r->per_second));
    if (r->rep_fd >= 0.0)
        zs_result_set(env, "rep_fd", json_real(r->rep_fd));
    zs_strbuf_addf(env->text, "%s: %lld steps, %lld %s", c->out, (long long)r->step,
                   (long long)r->samples, unit);
    if (stepped)
        zs_strbuf_addf(env->text, ", loss %.4f", r->loss);
    if (r->rep_fd >= 0.0)
        zs_strbuf_addf(env->text, ", rep-FD %.4f", r->rep_fd);
    zs_strbuf_addf(env->text, "\n%s/model.safetensors: the model\n", c->out);
}

int zs_train_go(zs_train_config *c, zs_task_env *env)
{
    zs_train_report r = {0};
    int status = zs_train_run(c, env->ui, &r, env->err);
    if (status == ZS_OK)
        report(env, c, &r);
    return status;
}

int zs_train_count_classes(int64_t *n, const char *data, zs_error *err)
{
    zs_source *s = NULL;
    int status = zs_source_open(&s, data, err);
    if (status < 0)
        return status;
    *n = zs_source_class_count(s);
    zs_source_close(&s);
    if (*n >= 2)
        return ZS_OK;
    return zs_fail(err, ZS_E_INVALID,
                   "%s has %lld class(es) and at least 2 are needed: sort the images into folders, "
                   "one per class",
                   data, (long long)*n);
}

static int train_images(zs_task_env *env, bool ddpm)
{
    zs_train_config c = zs_train_defaults();
    zs_preset preset;
    int status = zs_train_take_places(&c, env, zs_arg(env, 0));
    if (status == ZS_OK && zs_arg_count(env) > 1)
        status = zs_fail(env->err, ZS_E_INVALID,
                         "train: '%s' is one argument too many; --init starts from a MODEL",
                         zs_arg(env, 1));
    if (status == ZS_OK)
        status = zs_train_preset(&preset, env, c.data);
    if (status < 0)
        return status;
    status = zs_train_check_preset(&preset, ddpm ? &preset.ddpm : &preset.autoencoder,
                                   ddpm ? "a ddpm" : "an autoencoder", env->err);
    if (status < 0)
        return status;
    fill_from_preset(&c, &preset, ddpm);
    zs_train_take_options(&c, env);
    status = apply_sets(&c, env);
    return status < 0 ? status : zs_train_go(&c, env);
}

static int train_autoencoder(zs_task_env *env)
{
    return train_images(env, false);
}

static int train_ddpm(zs_task_env *env)
{
    return train_images(env, true);
}

/* Options of every kind, and of those that train step by step, and of those that read images as
 * they go: each name between spaces, as zs_opt_only wants them. */
#define ANY " data out set batch images steps "
#define STEPS                                                                                      \
    "preset init micro-batch warmup recompute checkpoint-every checkpoint-minutes keep log-every " \
    "sample-every bucket-mb comm-timeout "
#define IMAGES ANY STEPS "loader-threads "

static const struct kind {
    const char *name;
    int (*run)(zs_task_env *env);
    const char *options; /* names it has a use for */
} kinds[] = {
    {"autoencoder", train_autoencoder, IMAGES},
    {"ddpm", train_ddpm, IMAGES},
    {"generator", zs_train_generator, IMAGES "encoder class-cond first-stage "},
    {"encoder", zs_train_encoder, IMAGES "objective test "},
    {"prior", zs_train_prior, ANY STEPS "views codes arch class-cond alone "},
    {"probe", zs_train_probe, ANY "labels attr test shots unlabelled direction-decay views codes "},
    {NULL, NULL, NULL}};

static int run(zs_task_env *env)
{
    char who[32];
    for (const struct kind *k = kinds; k->name; k++) {
        if (strcmp(zs_arg(env, 0), k->name) != 0)
            continue;
        (void)snprintf(who, sizeof who, "train %s", k->name);
        int status = zs_opt_only(env, who, k->options);
        if (status == ZS_OK && !strstr(k->options, " comm-timeout ") &&
            zs_comm_size(zs_comm_world()) > 1)
            status = zs_fail(env->err, ZS_E_INVALID,
                             "%s: works in one process; leave mpirun or srun out", who);
        return status < 0 ? status : k->run(env);
    }
    return zs_fail(env->err, ZS_E_INVALID,
                   "train: '%s' is not one of autoencoder, ddpm, generator, encoder, prior, probe",
                   zs_arg(env, 0));
}

static const zs_option options[] = {
    {"data", ZS_OPTION_TEXT, "SRC", NULL, 0, 0, ZS_SOURCE_HELP},
    {"out", ZS_OPTION_TEXT, "RUN", NULL, 0, 0,
     "folder of the run: checkpoints, log, samples, model"},
    {"preset", ZS_OPTION_TEXT, "NAME", NULL, 0, 0,
     "fashion32 emoji64 ffhq64 celeba64 ffhq128 horse128 bedroom128 ffhq256; of generators "
     "also fashion32-adm adm64-rep adm256-rep dit-s2-rep dit-b2-rep dit-l2-rep dit-xl2-rep; of "
     "priors "
     "rdm-small rdm-mocov3-b rdm-mocov3-l rdm-mocov3-b-class rdm-mocov3-l-class"},
    {"init", ZS_OPTION_TEXT, "MODEL", NULL, 0, 0,
     "start a new run from these weights: fine-tune a bundle or an official checkpoint"},
    {"set", ZS_OPTION_LIST, "KEY=VALUE", NULL, 0, 0,
     "change one setting: lr, ema, clip, z_dim, model_channels, channel_mult=1,2,4, ..."},
    {"batch", ZS_OPTION_INT, "N", NULL, 1, 1048576, "images per step (the preset's)"},
    {"micro-batch", ZS_OPTION_INT, "N", "0", 0, 1048576,
     "images at once (of each rank); divides its part of the batch; saves memory"},
    {"images", ZS_OPTION_INT, "N", NULL, 1, 2e12, "stop after so many images (the preset's)"},
    {"steps", ZS_OPTION_INT, "N", NULL, 1, 1e9, "stop after so many steps instead"},
    {"warmup", ZS_OPTION_INT, "N", NULL, 0, 1e9, "steps of rising learning rate (the preset's)"},
    {"recompute", ZS_OPTION_FLAG, NULL, NULL, 0, 0,
     "compute activations again instead of keeping them"},
    {"checkpoint-every", ZS_OPTION_INT, "N", "0", 0, 1e9,
     "checkpoint every N steps; 0: by time alone"},
    {"checkpoint-minutes", ZS_OPTION_REAL, "M", "10", 0, 1e6, "checkpoint when the last is older"},
    {"keep", ZS_OPTION_INT, "K", "3", 1, 1e6, "checkpoints kept"},
    {"log-every", ZS_OPTION_INT, "N", "50", 0, 1e9, "line of log.jsonl every N steps"},
    {"sample-every", ZS_OPTION_INT, "N", "100000", 0, 1e12, "sample grid every N images; 0: none"},
    {"bucket-mb", ZS_OPTION_REAL, "MB", "25", 0.001, 1000,
     "with ranks: send gradients in pieces of so many 10^6 bytes"},
    {"comm-timeout", ZS_OPTION_REAL, "SECONDS", "1800", 0, 1e9,
     "with ranks: give up when one does not answer for so long; 0: never"},
    {"loader-threads", ZS_OPTION_INT, "N", "1", 1, 256, "threads that decode images"},
    {"labels", ZS_OPTION_TEXT, "FILE", NULL, 0, 0,
     "probe: attributes of the images: CSV, or CelebA's text; or classes, their own"},
    {"attr", ZS_OPTION_LIST, "NAME", NULL, 0, 0, "probe: only this attribute"},
    {"test", ZS_OPTION_TEXT, "SRC", NULL, 0, 0,
     "probe, encoder: measure on these images; a probe holds out a tenth of --data otherwise"},
    {"shots", ZS_OPTION_INT, "K", "0", 0, 1e9,
     "probe: learn from K positives and K negatives of each attribute"},
    {"unlabelled", ZS_OPTION_FLAG, NULL, NULL, 0, 0,
     "probe: the negatives are all other images, labelled or not"},
    {"direction-decay", ZS_OPTION_REAL, "D", "0", 0, 1e3,
     "probe: directions of edits come from a second fit with this weight decay, such as 0.01"},
    {"views", ZS_OPTION_INT, "N", "1", 1, 64,
     "prior, probe: codes of each image: 2 mirrors it too, more are random crops"},
    {"encoder", ZS_OPTION_TEXT, "MODEL", NULL, 0, 0,
     "generator: conditioned on the representations that this encoder makes"},
    {"first-stage", ZS_OPTION_TEXT, "MODEL", NULL, 0, 0,
     "generator: learns the latents that this first stage makes of images"},
    {"objective", ZS_OPTION_TEXT, "NAME", NULL, 0, 0,
     "encoder: supervised, by the classes of the images"},
    {"arch", ZS_OPTION_TEXT, "NAME", NULL, 0, 0,
     "prior: latent_mlp, or rdm as in representation-conditioned generation"},
    {"class-cond", ZS_OPTION_FLAG, NULL, NULL, 0, 0,
     "generator, or prior of --arch rdm: told the class of each image"},
    {"alone", ZS_OPTION_FLAG, NULL, NULL, 0, 0,
     "prior: without the autoencoder, to be joined with generators of its encoder"},
    {"codes", ZS_OPTION_TEXT, "FILE", NULL, 0, 0,
     "prior, probe: where the codes are kept (RUN/codes.safetensors)"},
    ZS_OPTIONS_END};

static const char *const examples[] = {
    "zsem train autoencoder --data photos/ --out runs/mine --preset ffhq64",
    "zsem train autoencoder --data fashion-mnist --out runs/fashion --set z_dim=64",
    "zsem train autoencoder --data photos/ --out runs/tuned --init last.ckpt --preset ffhq128 "
    "--set lr=2e-5",
    "zsem train ddpm --data fashion-mnist --out runs/baseline --images 500000",
    "zsem train encoder --objective supervised --data fashion-mnist --test fashion-mnist:test "
    "--out "
    "runs/features",
    "zsem train generator --data photos/ --encoder mocov3.pth.tar --preset adm256-rep --out "
    "runs/rcg",
    "zsem train prior share/fashion32.safetensors --data fashion-mnist --out runs/prior",
    "zsem train prior runs/features --arch rdm --class-cond --data fashion-mnist --out runs/rdm",
    "zsem train probe runs/prior --data fashion-mnist --test fashion-mnist:test --out runs/probe",
    "zsem train probe last.ckpt,latent.pkl --data celeba/ --labels list_attr_celeba.txt --out "
    "runs/attributes",
    "mpirun -n 4 zsem train autoencoder --data photos/ --out runs/mine --preset ffhq128",
    NULL};

const zs_task zs_task_train = {
    {"train",
     "autoencoder|ddpm|generator|encoder|prior MODEL|probe MODEL --data SRC --out RUN [options]",
     "train on your own images; run the same command again to resume",
     "Ctrl-C saves first. A run continues bit for bit where it was stopped or killed. RUN holds\n"
     "config.json, log.jsonl, checkpoints/, samples/ and model.safetensors.\n"
     "generator learns images from their representations by a frozen encoder, or their classes.\n"
     "prior encodes the images once with MODEL and learns to draw such codes; its progress is\n"
     "rep-FD, the Frechet distance between generated and real codes.\n"
     "probe finds the direction of each attribute among the codes; the prior of MODEL stays.",
     1, 2, options, examples},
    run};
