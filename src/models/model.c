/* SPDX-License-Identifier: MIT */
/* The life of a model: what it owns. */
#include "models/model_impl.h"

#include <stdarg.h>
#include <string.h>

/* Module names that the official files have for each box; what begins with none of them is the
 * generator's. */
static const struct {
    const char *module;
    zs_box box;
} modules[] = {{"encoder.", ZS_BOX_ENCODER},
               {"pretrained_encoder.", ZS_BOX_ENCODER},
               {"latent_net.", ZS_BOX_PRIOR},
               {"model.diffusion_model.", ZS_BOX_PRIOR},
               {"cond_stage_model.", ZS_BOX_PRIOR},
               {"first_stage_model.", ZS_BOX_FIRST_STAGE},
               {"", ZS_BOX_GENERATOR}};

static size_t module_of(const char *name)
{
    size_t i = 0;
    while (!zs_str_starts(name, modules[i].module))
        i++;
    return i;
}

zs_box zs_param_box(const char *name)
{
    return modules[module_of(name)].box;
}

const char *zs_param_local_name(const char *name)
{
    return name + strlen(modules[module_of(name)].module);
}

void zs_facts_add(zs_facts *l, const char *key, const char *value, const char *source, ...)
{
    void *items = l->f;
    if (!zs_grow(&items, &l->cap, l->n, sizeof *l->f))
        return;
    l->f = items;
    zs_fact *f = &l->f[l->n++];
    va_list ap;
    (void)snprintf(f->key, sizeof f->key, "%s", key);
    (void)snprintf(f->value, sizeof f->value, "%s", value);
    va_start(ap, source);
    (void)vsnprintf(f->source, sizeof f->source, source, ap);
    va_end(ap);
}

void zs_facts_addi(zs_facts *l, const char *key, int64_t value, const char *source)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%lld", (long long)value);
    zs_facts_add(l, key, text, "%s", source);
}

int zs_model_new(zs_model **out, const char *label, const zs_model_options *o, zs_error *err)
{
    static const zs_model_options none;
    zs_model *m = zs_calloc(1, sizeof *m);
    *out = NULL;
    if (!o)
        o = &none;
    if (!m)
        return zs_fail_nomem(err, sizeof *m, "a model");
    m->exec_flags = o->exec_flags;
    m->hook = o->hook;
    m->hook_ctx = o->hook_ctx;
    m->batch = o->batch > 0 ? o->batch : 16;
    m->boxes = o->boxes ? o->boxes : ~0u;
    m->packed = o->packed < 0.0 ? 0.0 : o->packed > 0.0 ? o->packed : ZS_MODEL_PACKED;
    m->label = zs_str_dup(label);
    int status = zs_backend_open(&m->backend, o->backend, err);
    if (status == ZS_OK && !m->label)
        status = zs_fail_nomem(err, strlen(label) + 1, "a model");
    if (status < 0)
        zs_model_close(&m);
    *out = m;
    return status;
}

int zs_model_lay_out(zs_model *m, zs_error *err)
{
    return zs_model_layout(&m->params, &m->config, err);
}

int zs_model_check_size(const zs_model *m, const zs_tensorfile *f, const char *prefix,
                        zs_error *err)
{
    int64_t needed = zs_params_weights(m->params);
    double held = 0;
    for (size_t i = 0; i < zs_tensorfile_count(f); i++)
        if (zs_str_starts(zs_tensorfile_info(f, i)->name, prefix))
            held += (double)zs_tensorfile_info(f, i)->numel;
    if ((double)needed <= 2 * held)
        return ZS_OK; /* near enough for a message about one tensor to say more */
    return zs_fail(err, ZS_E_FORMAT,
                   "%s: the configuration describes %.2f million parameters and the file holds "
                   "%.2f; the file is cut short, or the configuration belongs to another",
                   zs_tensorfile_path(f), (double)needed / 1e6, held / 1e6);
}

bool zs_model_wants(const zs_model *m, const zs_param *p)
{
    return m->boxes >> zs_param_box(p->name) & 1u;
}

int zs_model_alloc(zs_model *m, zs_error *err)
{
    size_t n = (size_t)zs_params_numel(m->params);
    m->own_weights = true;
    m->version = zs_weights_version();
    m->weights = zs_backend_host(m->backend)->alloc(n * sizeof *m->weights);
    m->placed = zs_weights_of_host(m->backend, m->weights, n);
    return m->weights ? ZS_OK : zs_fail_nomem(err, n * sizeof *m->weights, "the model's weights");
}

void zs_model_close(zs_model **mp)
{
    zs_model *m = *mp;
    if (!m)
        return;
    for (int i = 0; i < ZS_NET_CACHE; i++)
        zs_exec_free(&m->cache[i].e);
    zs_packs_free(&m->packs);
    zs_weights_clear(&m->placed);
    if (m->own_weights && m->weights)
        zs_backend_host(m->backend)
            ->release(m->weights, (size_t)zs_params_numel(m->params) * sizeof *m->weights);
    zs_params_free(&m->params);
    zs_free(m->z_mean);
    zs_free(m->z_std);
    zs_probe_free(&m->probe);
    zs_free(m->facts.f);
    zs_free(m->label);
    json_decref(m->extra);
    zs_free(m);
    *mp = NULL;
}

/* A model that lacks its weights. */
static int new_around(zs_model **out, const zs_model_config *c, const zs_model_options *o,
                      zs_error *err)
{
    int status = zs_model_new(out, c->name[0] ? c->name : "the model", o, err);
    if (status < 0)
        return status;
    (*out)->config = *c;
    status = zs_model_lay_out(*out, err);
    if (status < 0)
        zs_model_close(out);
    return status;
}

int zs_model_wrap(zs_model **out, const zs_model_config *c, float *weights,
                  const zs_model_options *o, zs_error *err)
{
    int status = new_around(out, c, o, err);
    if (status < 0)
        return status;
    zs_model *m = *out;
    m->weights = weights;
    m->placed = zs_weights_of_host(m->backend, weights, (size_t)zs_params_numel(m->params));
    return ZS_OK;
}

int zs_model_wrap_buffer(zs_model **out, const zs_model_config *c, float *weights,
                         const zs_model_options *o, zs_error *err)
{
    int status = new_around(out, c, o, err);
    if (status < 0)
        return status;
    zs_model *m = *out;
    m->weights = m->backend->remote ? NULL : weights;
    m->placed = zs_weights_of_backend(m->backend, weights, (size_t)zs_params_numel(m->params));
    return ZS_OK;
}

void zs_model_promise(zs_model *m)
{
    m->version = zs_weights_version();
}

const zs_model_config *zs_model_configuration(const zs_model *m)
{
    return &m->config;
}

const zs_params *zs_model_params(const zs_model *m)
{
    return m->params;
}

const float *zs_model_weights(const zs_model *m)
{
    return m->weights;
}

bool zs_model_has(const zs_model *m, zs_box b)
{
    return b == ZS_BOX_PROBE ? m->probe != NULL : zs_model_config_arch(&m->config, b, NULL) != NULL;
}

const float *zs_model_z_mean(const zs_model *m)
{
    return m->z_mean;
}

const float *zs_model_z_std(const zs_model *m)
{
    return m->z_std;
}

const zs_probe *zs_model_probe(const zs_model *m)
{
    return m->probe;
}

const zs_fact *zs_model_facts(const zs_model *m, size_t *n)
{
    *n = m->facts.n;
    return m->facts.f;
}

const json_t *zs_model_extra(const zs_model *m)
{
    return m->extra;
}

int zs_model_save(const zs_model *m, const char *path, zs_dtype dtype, zs_error *err)
{
    zs_bundle b = {.config = &m->config,
                   .params = m->params,
                   .weights = m->weights,
                   .z_mean = m->z_mean,
                   .z_std = m->z_std,
                   .probe = m->probe,
                   .extra = m->extra};
    return zs_bundle_write(path, &b, dtype, err);
}
