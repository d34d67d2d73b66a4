/* SPDX-License-Identifier: MIT */
/* A configuration as JSON: what the metadata of a bundle holds. */
#include "models/config.h"

#include <string.h>

#define OPTIONAL_TEXT(member, n)                                                                  \
    {                                                                                             \
#member, ZS_TYPE_TEXT, offsetof(zs_process_config, member), 0, 0, n, 0, ZS_FIELD_OPTIONAL \
    }

static const zs_field process_fields[] = {
    ZS_FIELD_I64(zs_process_config, T, 1, 1000000),
    ZS_FIELD_TEXT(zs_process_config, beta_schedule, 48),
    OPTIONAL_TEXT(prediction, 8),
    OPTIONAL_TEXT(variance, 16),
    ZS_FIELD_ROW(ZS_TYPE_BOOL, zs_process_config, clip, 0, 1, ZS_FIELD_OPTIONAL),
    OPTIONAL_TEXT(spacing, 8),
    ZS_FIELDS_END};

#define NAMED_TEXT(name, member, n, flags)                                       \
    {                                                                            \
        name, ZS_TYPE_TEXT, offsetof(zs_model_config, member), 0, 0, n, 0, flags \
    }
#define CONFIG_TEXT(member, n) NAMED_TEXT(#member, member, n, 0)
#define MAKER_TEXT(name, member, n) NAMED_TEXT(name, member, n, ZS_FIELD_OPTIONAL)

static const zs_field top_fields[] = {
    CONFIG_TEXT(name, 64),
    ZS_FIELD_I64(zs_model_config, image_size, 0, 65536),
    ZS_FIELD_ROW(ZS_TYPE_I64, zs_model_config, encoder_size, 0, 65536, ZS_FIELD_OPTIONAL),
    ZS_FIELD_I64(zs_model_config, channels, 0, 64),
    CONFIG_TEXT(fit, 8),
    ZS_FIELD_ROW(ZS_TYPE_I64, zs_model_config, classes, 0, 1 << 24, ZS_FIELD_OPTIONAL),
    MAKER_TEXT("rep_name", reps.name, 64),
    MAKER_TEXT("rep_fingerprint", reps.fingerprint, ZS_REP_FINGERPRINT),
    MAKER_TEXT("latent_name", latents.name, 64),
    MAKER_TEXT("latent_fingerprint", latents.fingerprint, ZS_REP_FINGERPRINT),
    ZS_FIELDS_END};

/* ---- out ---- */

static json_t *box_to_json(const zs_arch *a, const void *config)
{
    json_t *j = zs_fields_to_json(a->fields, config);
    if (j && json_object_set_new(j, "arch", json_string(a->name)) < 0) {
        json_decref(j);
        return NULL;
    }
    return j;
}

/* Each box and the process that goes with it. */
static bool put_boxes(json_t *j, const zs_model_config *c)
{
    bool ok = true;
    for (int b = 0; ok && b < ZS_BOX_COUNT; b++) {
        const void *config;
        const zs_arch *a = zs_model_config_arch(c, (zs_box)b, &config);
        if (a)
            ok = json_object_set_new(j, zs_box_name((zs_box)b), box_to_json(a, config)) == 0;
    }
    if (ok && zs_model_config_arch(c, ZS_BOX_GENERATOR, NULL))
        ok = json_object_set_new(j, "diffusion",
                                 zs_fields_to_json(process_fields, &c->diffusion)) == 0;
    if (ok && zs_model_config_arch(c, ZS_BOX_PRIOR, NULL))
        ok = json_object_set_new(j, "latent_diffusion",
                                 zs_fields_to_json(process_fields, &c->latent)) == 0;
    return ok;
}

json_t *zs_model_config_to_json(const zs_model_config *c)
{
    json_t *j = zs_fields_to_json(top_fields, c);
    if (!j || json_object_set_new(j, "format", json_integer(1)) < 0 || !put_boxes(j, c)) {
        json_decref(j);
        return NULL;
    }
    return j;
}

/* ---- and back ---- */

static int box_from_json(zs_model_config *c, zs_box box, const json_t *j, const char *where,
                         zs_error *err)
{
    const json_t *name = json_object_get(j, "arch");
    const char *text = json_string_value(name);
    const zs_arch *a = name && !text ? NULL : zs_arch_find(box, text);
    if (!a)
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "%s: a %s of architecture \"%s\" is unknown to this zsem; use a newer one",
                       where, zs_box_name(box), text ? text : "?");
    return zs_fields_from_json(a->fields, zs_model_config_slot(c, a), j, where, zs_box_name(box),
                               err);
}

/* Metadata that has no "latent_diffusion" may name the schedule of the prior beside that of the
 * generator. */
static int latent_from_json(zs_model_config *c, const json_t *j, const char *where, zs_error *err)
{
    const json_t *latent = json_object_get(j, "latent_diffusion"),
                 *own = json_object_get(j, "diffusion");
    const char *betas = json_string_value(json_object_get(own, "latent_beta_schedule"));
    if (latent || !betas || strlen(betas) >= sizeof c->latent.beta_schedule)
        return zs_fields_from_json(process_fields, &c->latent, latent, where, "latent_diffusion",
                                   err);
    c->latent.T = c->diffusion.T;
    memcpy(c->latent.beta_schedule, betas, strlen(betas) + 1);
    return ZS_OK;
}

static int processes_from_json(zs_model_config *c, const json_t *j, const char *where,
                               zs_error *err)
{
    int status = ZS_OK;
    c->diffusion = zs_process_diffae;
    c->latent = zs_process_diffae_latent;
    if (zs_model_config_arch(c, ZS_BOX_GENERATOR, NULL))
        status = zs_fields_from_json(process_fields, &c->diffusion, json_object_get(j, "diffusion"),
                                     where, "diffusion", err);
    if (status == ZS_OK && zs_model_config_arch(c, ZS_BOX_PRIOR, NULL))
        status = latent_from_json(c, j, where, err);
    return status;
}

static int check_format(const json_t *j, const char *where, zs_error *err)
{
    const json_t *format = json_object_get(j, "format");
    if (!json_is_integer(format))
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: the model configuration is damaged: zsem: format is missing", where);
    if (json_integer_value(format) != 1)
        return zs_fail(
            err, ZS_E_UNSUPPORTED,
            "%s: the model configuration has format %lld, this zsem reads format 1; use a newer "
            "zsem",
            where, (long long)json_integer_value(format));
    return ZS_OK;
}

int zs_model_config_from_json(zs_model_config *c, const json_t *j, const char *where, zs_error *err)
{
    zs_error why = {0};
    memset(c, 0, sizeof *c);
    int status = check_format(j, where, err);
    if (status == ZS_OK)
        status = zs_fields_from_json(top_fields, c, j, where, "zsem", err);
    for (int b = 0; status == ZS_OK && b < ZS_BOX_PROBE; b++) {
        const json_t *box = json_object_get(j, zs_box_name((zs_box)b));
        if (box)
            status = box_from_json(c, (zs_box)b, box, where, err);
    }
    if (status == ZS_OK)
        status = processes_from_json(c, j, where, err);
    if (status == ZS_OK && zs_model_config_validate(c, &why) < 0)
        status = zs_fail(err, ZS_E_FORMAT, "%s: the model configuration is damaged: zsem: %s",
                         where, why.message);
    return status;
}
