/* SPDX-License-Identifier: MIT */
/* Files with a first stage alone: latent diffusion's checkpoints and those of diffusers. */
#include "models/model_impl.h"

#include <string.h>

static int read_weights(zs_model *m, zs_tensorfile *f, const zs_vae_file *at, zs_error *err)
{
    int status = zs_model_check_size(m, f, at->prefix, err);
    for (int pass = 0; pass < 2; pass++) { /* names and shapes of all before memory for any */
        if (pass && status == ZS_OK)
            status = zs_model_alloc(m, err);
        for (size_t i = 0; i < zs_params_count(m->params) && status == ZS_OK; i++) {
            const zs_param *p = zs_params_at(m->params, i);
            char name[256];
            if (!zs_vae_file_name(name, sizeof name, at, m->config.vae.levels,
                                  zs_param_local_name(p->name)))
                status = zs_fail(err, ZS_E_INTERNAL, "the name %s is too long", p->name);
            else if (!pass)
                status = zs_params_match(m->params, i, f, name, err);
            else if (zs_model_wants(m, p))
                status = zs_params_read(m->params, i, m->weights, f, name, err);
        }
    }
    return status;
}

int zs_vae_read(zs_model *m, zs_tensorfile *f, const zs_model_options *o, zs_error *err)
{
    static const char *const whose[] = {"latent diffusion", "diffusers", "diffusers, old names"};
    zs_vae_file at;
    char scale[32];
    int status = zs_vae_find(&at, f);
    if (status != ZS_OK)
        return status;
    memset(&m->config, 0, sizeof m->config);
    status = zs_vae_infer(&m->config.vae, f, &at, err);
    if (status < 0)
        return status;
    m->config.channels = m->config.vae.channels;
    (void)snprintf(m->config.fit, sizeof m->config.fit, "crop");
    (void)snprintf(scale, sizeof scale, "%g", m->config.vae.scale);
    zs_facts_add(&m->facts, "first stage", whose[at.names], "names and shapes of the tensors of %s",
                 zs_tensorfile_path(f));
    zs_facts_add(&m->facts, "scale of latents", scale, "default; --set first_stage.scale=X");
    status = zs_model_finish_config(m, o, zs_tensorfile_path(f), err);
    return status == ZS_OK ? read_weights(m, f, &at, err) : status;
}
