/* SPDX-License-Identifier: MIT */
#include "train/trainer.h"

#include "diffusion/diffusion.h"
#include "io/io.h"
#include "train/codes.h"

#include <inttypes.h>
#include <stdio.h>

zs_train_config zs_train_defaults(void)
{
    return (zs_train_config){.optim = zs_optim_defaults(),
                             .batch = 64,
                             .dropout = 0.1,
                             .flip = 0.5,
                             .t_weight = 1.0,
                             .log_steps = 50,
                             .checkpoint_minutes = 10.0,
                             .keep = 3,
                             .preview_images = 100000,
                             .bucket_mb = 25.0,
                             .loader_threads = 1};
}

int zs_train_config_validate(const zs_train_config *c, zs_error *err)
{
    const struct {
        const char *name, *range;
        double value;
        bool ok;
    } checks[] = {
        {"batch", "1 to 1048576", (double)c->batch, c->batch >= 1 && c->batch <= 1 << 20},
        {"dropout", "at least 0 and below 1", c->dropout, c->dropout >= 0.0 && c->dropout < 1.0},
        {"flip", "from 0 to 1", c->flip, c->flip >= 0.0 && c->flip <= 1.0},
        {"weight of timesteps", "1 to 1e6", c->t_weight, c->t_weight >= 1.0 && c->t_weight <= 1e6},
        {"number of images", "1 to 2^41", (double)c->images,
         c->images >= 1 && c->images <= (int64_t)1 << 41},
        {"log interval", "0 (off) or more steps", (double)c->log_steps, c->log_steps >= 0},
        {"checkpoint interval", "0 (off) or more steps", (double)c->checkpoint_steps,
         c->checkpoint_steps >= 0},
        {"checkpoint interval", "0 (off) or more minutes", c->checkpoint_minutes,
         c->checkpoint_minutes >= 0.0},
        {"number of checkpoints to keep", "1 or more", (double)c->keep, c->keep >= 1},
        {"preview interval", "0 (off) or more images", (double)c->preview_images,
         c->preview_images >= 0},
        {"number of views of an image", "1 to 64", c->base ? c->views : 1,
         !c->base || (c->views >= 1 && c->views <= ZS_VIEWS_MAX)},
        {"number of loader threads", "1 to 256", c->loader_threads,
         c->loader_threads >= 1 && c->loader_threads <= ZS_THREADS_MAX},
        {"size of buckets", "0.001 to 1000 MB", c->bucket_mb,
         c->bucket_mb >= 0.001 && c->bucket_mb <= 1000.0},
        {"image size", "1 to 65536", (double)c->model.image_size,
         c->base || (c->model.image_size >= 1 && c->model.image_size <= 65536)},
    };
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
        if (!checks[i].ok)
            return zs_fail(err, ZS_E_INVALID, "the %s %g is out of range: it must be %s",
                           checks[i].name, checks[i].value, checks[i].range);
    int64_t ranks = zs_comm_size(c->comm), rest = c->batch % ranks;
    if (rest != 0)
        return zs_fail(err, ZS_E_INVALID,
                       "a batch of %lld cannot be shared by %lld ranks alike: use --batch %lld, or "
                       "as many ranks as divide it",
                       (long long)c->batch, (long long)ranks, (long long)(c->batch - rest + ranks));
    const zs_process_config *p = c->base ? &c->model.latent : &c->model.diffusion;
    zs_schedule schedule = {0};
    int status = zs_optim_config_validate(&c->optim, err);
    if (status == ZS_OK)
        status = zs_model_config_validate(&c->model, err);
    if (status == ZS_OK)
        status = zs_schedule_make(&schedule, p->beta_schedule, p->T, err);
    zs_schedule_free(&schedule);
    return status;
}

static json_t *fixed_part(const zs_train_config *c, uint64_t fingerprint, int64_t images)
{
    char print[17], seed[24];
    snprintf(print, sizeof print, "%016" PRIx64, fingerprint);
    snprintf(seed, sizeof seed, "%" PRIu64, c->seed); /* JSON's integers are signed */
    const zs_optim_config *o = &c->optim;
    return json_pack("{s:I, s:s, s:s, s:I, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:f, s:f}",
                     "data_images", (json_int_t)images, "data_fingerprint", print, "seed", seed,
                     "batch", (json_int_t)c->batch, "optimizer", o->decoupled ? "adamw" : "adam",
                     "lr", o->lr, "beta1", o->beta1, "beta2", o->beta2, "eps", o->eps,
                     "weight_decay", o->weight_decay, "clip", o->clip, "ema", o->ema, "warmup",
                     (json_int_t)o->warmup, "dropout", c->dropout, "flip", c->flip);
}

/* What only some runs have. */
static bool add_rare(const zs_train_config *c, json_t *train)
{
    const zs_optim_config *o = &c->optim;
    return (c->t_weight <= 1.0 ||
            json_object_set_new(train, "t_weight", json_real(c->t_weight)) == 0) &&
           (!o->ema_warmup || json_object_set_new(train, "ema_warmup", json_true()) == 0) &&
           (!o->ema_first || json_object_set_new(train, "ema_first", json_true()) == 0);
}

/* What only training on representations has; other runs keep the fields that they always had. */
static bool add_base(const zs_train_config *c, json_t *train, json_t *run)
{
    if (c->encoder)
        return json_object_set_new(run, "encoder",
                                   zs_json_text(c->base_name ? c->base_name : "")) == 0;
    if (!c->base)
        return true;
    return json_object_set_new(train, "what", json_string("prior")) == 0 &&
           json_object_set_new(train, "views", json_integer(c->views)) == 0 &&
           json_object_set_new(run, "base", zs_json_text(c->base_name ? c->base_name : "")) == 0;
}

json_t *zs_train_config_to_json(const zs_train_config *c, uint64_t data_fingerprint,
                                int64_t data_images)
{
    json_t *model = zs_model_config_to_json(&c->model);
    json_t *train = fixed_part(c, data_fingerprint, data_images);
    json_t *run = json_pack("{s:o, s:o, s:I, s:I}", "data", zs_json_text(c->data), "init",
                            c->init ? zs_json_text(c->init) : json_null(), "images",
                            (json_int_t)c->images, "micro_batch", (json_int_t)c->micro_batch);
    json_t *all = model && train && run && add_base(c, train, run) && add_rare(c, train)
                      ? json_pack("{s:O, s:O, s:O}", "model", model, "train", train, "run", run)
                      : NULL;
    if (all && c->note &&
        json_object_set(all, "note", (json_t *)(uintptr_t)c->note) != 0) { /* takes a reference */
        json_decref(all);
        all = NULL;
    }
    json_decref(model);
    json_decref(train);
    json_decref(run);
    return all;
}

zs_train_picture zs_train_pictures(const zs_train_config *c)
{
    zs_train_picture p = {c->model.image_size, c->model.channels, c->model.fit};
    if (c->first_stage) {
        const zs_vae_config *v = &zs_model_configuration(c->first_stage)->vae;
        p.size <<= v->levels - 1;
        p.channels = v->channels;
    }
    return p;
}
