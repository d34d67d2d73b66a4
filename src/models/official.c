/* SPDX-License-Identifier: MIT */
/* Checkpoints of Diffusion Autoencoders: where the networks are in the file, and their weights. */
#include "models/infer.h"

#include <math.h>
#include <string.h>

/* Where weights live: Lightning checkpoints, their state_dict alone, a network's own
 * state_dict. */
static const char *const averaged_prefixes[] = {"state_dict.ema_model.", "ema_model.", NULL};
static const char *const raw_prefixes[] = {"state_dict.model.", "model.", "state_dict.", "", NULL};

static const char *first_present(const zs_tensorfile *f, const char *const *prefixes)
{
    for (; *prefixes; prefixes++)
        if (zs_infer_has(f, *prefixes, "input_blocks.0.0.weight") &&
            zs_infer_has(f, *prefixes, "out.2.weight"))
            return *prefixes;
    return NULL;
}

int zs_official_find(zs_official *out, zs_tensorfile *f, bool raw, zs_error *err)
{
    const char *averaged = first_present(f, averaged_prefixes);
    const char *trained = first_present(f, raw_prefixes);
    const char *prefix = raw ? trained : averaged ? averaged : trained;
    if (!averaged && !trained)
        return 1;
    if (!prefix)
        return zs_fail(err, ZS_E_INVALID,
                       "%s holds only averaged weights (ema_model.*), and this needs the raw ones; "
                       "use the checkpoint that training wrote",
                       zs_tensorfile_path(f));
    *out = (zs_official){.f = f, .averaged = prefix == averaged};
    (void)snprintf(out->prefix, sizeof out->prefix, "%s", prefix);
    return ZS_OK;
}

/* Tensors beside the networks that may share their prefix when it is short. */
static bool known_extra(const char *name)
{
    return strcmp(name, "x_T") == 0 || strcmp(name, "conds_mean") == 0 ||
           strcmp(name, "conds_std") == 0 ||
           zs_str_starts(name, "rep_embedder."); /* a DiT has it also where it is not used */
}

/* An inferred architecture must explain every tensor: one that is left over means that the
 * network is of another make than it seems. */
static int check_leftovers(const zs_model *m, const zs_official *o, zs_error *err)
{
    size_t n = strlen(o->prefix);
    for (size_t i = 0; i < zs_tensorfile_count(o->f); i++) {
        const char *name = zs_tensorfile_info(o->f, i)->name;
        if (strncmp(name, o->prefix, n) != 0 || known_extra(name + n) ||
            zs_params_find(m->params, name + n) >= 0)
            continue;
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "%s: tensor %s has no place in the network that the other tensors describe; "
                       "zsem knows the published variant only",
                       zs_tensorfile_path(o->f), name);
    }
    return ZS_OK;
}

/* {"step": N, ...} under "state" in the metadata. */
static void add_step(zs_facts *facts, const json_t *meta, const char *path)
{
    const char *text = json_string_value(json_object_get(meta, "state"));
    json_t *state = text ? json_loads(text, 0, NULL) : NULL;
    const json_t *step = json_object_get(state, "step");
    if (json_is_integer(step))
        zs_facts_addi(facts, "step", json_integer_value(step), path);
    json_decref(state);
}

int zs_official_stored(zs_model_config *c, zs_facts *facts, const zs_official *o, zs_error *err)
{
    const char *path = zs_tensorfile_path(o->f);
    const json_t *meta = zs_tensorfile_meta(o->f);
    const char *format = json_string_value(json_object_get(meta, "format"));
    const char *text = json_string_value(json_object_get(meta, "config"));
    if (!format || !text || !zs_str_starts(format, "zsem checkpoint "))
        return 1;
    json_t *run = json_loads(text, 0, NULL);
    int status = zs_model_config_from_json(c, json_object_get(run, "model"), path, err);
    json_decref(run);
    if (status < 0)
        return status;
    zs_facts_add(facts, "configuration", c->name, "config.model in the metadata of %s", path);
    zs_facts_add(facts, "weights", o->averaged ? "moving average" : "raw", "%s* of %s", o->prefix,
                 path);
    add_step(facts, meta, path);
    return ZS_OK;
}

static int check_tensors(const zs_model *m, const zs_official *o, zs_error *err)
{
    int status = zs_model_check_size(m, o->f, o->prefix, err);
    for (size_t i = 0; i < zs_params_count(m->params) && status == ZS_OK; i++) {
        char name[256];
        (void)snprintf(name, sizeof name, "%s%s", o->prefix, zs_params_at(m->params, i)->name);
        status = zs_params_match(m->params, i, o->f, name, err);
    }
    return status;
}

int zs_official_read(zs_model *m, const zs_official *o, zs_error *err)
{
    int status = check_leftovers(m, o, err);
    if (status == ZS_OK)
        status = check_tensors(m, o, err);
    if (status == ZS_OK)
        status = zs_model_alloc(m, err);
    for (size_t i = 0; i < zs_params_count(m->params) && status == ZS_OK; i++) {
        const zs_param *p = zs_params_at(m->params, i);
        char name[256];
        (void)snprintf(name, sizeof name, "%s%s", o->prefix, p->name);
        if (zs_model_wants(m, p)) /* aliases come last, so the later name wins as in PyTorch */
            status = zs_params_read(m->params, i, m->weights, o->f, name, err);
    }
    return status;
}

static int read_vector(float **out, zs_tensorfile *f, const char *name, int64_t dim, zs_error *err)
{
    long i = zs_tensorfile_find(f, name);
    if (i < 0)
        return zs_fail(err, ZS_E_FORMAT, "%s: tensor %s is missing", zs_tensorfile_path(f), name);
    int64_t n = zs_tensorfile_info(f, (size_t)i)->numel;
    if (n != dim)
        return zs_fail(
            err, ZS_E_FORMAT,
            "%s: tensor %s has %lld numbers where the model's codes have %lld; the files "
            "belong to different models",
            zs_tensorfile_path(f), name, (long long)n, (long long)dim);
    float *v = zs_alloc((size_t)n, sizeof *v);
    if (!v)
        return zs_fail_nomem(err, (unsigned long long)n * sizeof *v, name);
    int status = zs_tensorfile_read_f32(f, (size_t)i, v, (size_t)n, err);
    if (status < 0) {
        zs_free(v);
        return status;
    }
    zs_free(*out);
    *out = v;
    return ZS_OK;
}

static int bad_entry(const zs_tensorfile *f, const char *name, int64_t i, float v, const char *need,
                     zs_error *err)
{
    return zs_fail(err, ZS_E_FORMAT, "%s: tensor %s: entry %lld is %g, not a %s number",
                   zs_tensorfile_path(f), name, (long long)i, (double)v, need);
}

int zs_model_read_stats(zs_model *m, zs_tensorfile *f, const char *mean, const char *std,
                        zs_error *err)
{
    int64_t dim = zs_model_config_z_dim(&m->config);
    int status = read_vector(&m->z_mean, f, mean, dim, err);
    if (status == ZS_OK)
        status = read_vector(&m->z_std, f, std, dim, err);
    for (int64_t i = 0; i < dim && status == ZS_OK; i++)
        if (!isfinite(m->z_mean[i]))
            status = bad_entry(f, mean, i, m->z_mean[i], "finite", err);
        else if (!isfinite(m->z_std[i]) || !(m->z_std[i] > 0))
            status = bad_entry(f, std, i, m->z_std[i], "positive finite", err);
    return status;
}

/* The one override that inference itself needs. */
static int64_t given_enc_blocks(const zs_model_options *o)
{
    static const char key[] = "enc_num_res_blocks=";
    int64_t n = 0;
    for (const char *const *s = o ? o->set : NULL; s && *s; s++)
        if (zs_str_starts(*s, key) && !zs_str_to_i64(*s + sizeof key - 1, &n))
            n = 0; /* zs_model_finish_config reports it */
    return n;
}

int zs_diffae_read(zs_model *m, zs_tensorfile *f, const zs_model_options *o, zs_error *err)
{
    zs_official net;
    int status = zs_official_find(&net, f, o && o->raw, err);
    if (status != ZS_OK)
        return status;
    status = zs_official_stored(&m->config, &m->facts, &net, err);
    if (status > 0)
        status = zs_official_infer(&m->config, &m->facts, &net, given_enc_blocks(o), err);
    if (status == ZS_OK)
        status = zs_model_finish_config(m, o, zs_tensorfile_path(f), err);
    return status == ZS_OK ? zs_official_read(m, &net, err) : status;
}
