/* SPDX-License-Identifier: MIT */
#include "models/infer_rdm.h"
#include "models/infer_vit.h"

#include <math.h>
#include <string.h>

static const char NET[] = "model.diffusion_model.", AVERAGE[] = "model_ema.";
static const char ENCODER[] = "pretrained_encoder.", CLASSES[] = "cond_stage_model.";

/* Tables of the diffusion process. */
static const char *const tables[] = {"betas",
                                     "alphas_cumprod",
                                     "alphas_cumprod_prev",
                                     "sqrt_alphas_cumprod",
                                     "sqrt_one_minus_alphas_cumprod",
                                     "log_one_minus_alphas_cumprod",
                                     "sqrt_recip_alphas_cumprod",
                                     "sqrt_recipm1_alphas_cumprod",
                                     "posterior_variance",
                                     "posterior_log_variance_clipped",
                                     "posterior_mean_coef1",
                                     "posterior_mean_coef2",
                                     "lvlb_weights",
                                     "logvar"};

static const char *base_name(const zs_tensorfile *f)
{
    const char *path = zs_tensorfile_path(f), *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Index of the tensor "<prefix><name>", or -1. */
static long find(const zs_rdm_file *r, const char *name)
{
    char full[200];
    (void)snprintf(full, sizeof full, "%s%s", r->prefix, name);
    return zs_tensorfile_find(r->f, full);
}

static const zs_tensorinfo *net_tensor(const zs_rdm_file *r, const char *name)
{
    char full[160];
    (void)snprintf(full, sizeof full, "%s%s", NET, name);
    long i = find(r, full);
    return i < 0 ? NULL : zs_tensorfile_info(r->f, (size_t)i);
}

static const zs_tensorinfo *block_tensor(const zs_rdm_file *r, int block, const char *name)
{
    char full[96];
    (void)snprintf(full, sizeof full, "res_blocks.%d.%s", block, name);
    return net_tensor(r, full);
}

static int64_t dim(const zs_tensorinfo *t, int i)
{
    return t && i < t->nd ? t->shape[i] : 0;
}

static bool find_prefix(zs_rdm_file *r)
{
    static const char *const prefixes[] = {"state_dict.", "model.", ""}; /* the authors' order */
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        (void)snprintf(r->prefix, sizeof r->prefix, "%s", prefixes[i]);
        if (net_tensor(r, "input_proj.weight") && block_tensor(r, 0, "in_layers.2.weight"))
            return true;
    }
    return false;
}

/* Any tensor "<prefix><below>*". */
static bool holds(const zs_rdm_file *r, const char *below)
{
    char full[64];
    (void)snprintf(full, sizeof full, "%s%s", r->prefix, below);
    for (size_t i = 0; i < zs_tensorfile_count(r->f); i++)
        if (zs_str_starts(zs_tensorfile_info(r->f, i)->name, full))
            return true;
    return false;
}

/* ---- the network ---- */

static int infer_net(zs_rdm_file *r, zs_error *err)
{
    const zs_tensorinfo *time = net_tensor(r, "time_embed.0.weight");
    const zs_tensorinfo *in = net_tensor(r, "input_proj.weight");
    long table = find(r, "cond_stage_model.embedding.weight");
    const zs_tensorinfo *classes = table < 0 ? NULL : zs_tensorfile_info(r->f, (size_t)table);
    zs_rdm_config *c = &r->net;
    while (c->blocks <= ZS_RDM_MAX_BLOCKS && block_tensor(r, c->blocks, "in_layers.2.weight"))
        c->blocks++;
    c->z_dim = dim(in, 1);
    c->width = dim(in, 0);
    c->bottleneck = dim(block_tensor(r, 0, "in_layers.2.weight"), 0);
    c->time_channels = dim(time, 0);
    c->classes = dim(classes, 0);
    c->class_dim = dim(classes, 1);
    c->conditional = block_tensor(r, 0, "context_layers.1.weight") != NULL;
    if (!time || dim(time, 1) != c->width)
        return zs_fail(
            err, ZS_E_FORMAT,
            "%s: %stime_embed.0.weight is missing or not as wide as %sinput_proj.weight; "
            "the file is damaged",
            zs_tensorfile_path(r->f), NET, NET);
    if (!classes)
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: cond_stage_model.embedding.weight is missing, which unconditional "
                       "models have as well; the file is cut short",
                       zs_tensorfile_path(r->f));
    return ZS_OK;
}

/* ---- the process ---- */

/* Is betas[n] linspace(sqrt(a), sqrt(b), n)^2? */
static bool is_sqrt(const float *betas, int64_t n, double a, double b)
{
    double lo = sqrt(a), step = (sqrt(b) - lo) / (double)(n - 1);
    for (int64_t i = 0; i < n; i++) {
        double want = (lo + step * (double)i) * (lo + step * (double)i);
        if (!(fabs((double)betas[i] - want) <= 1e-5 * want))
            return false;
    }
    return true;
}

/* The schedule whose table that is. */
static int name_schedule(zs_rdm_file *r, const float *betas, int64_t n, zs_error *err)
{
    double a = (double)betas[0], b = (double)betas[n - 1];
    (void)snprintf(r->schedule, sizeof r->schedule, "sqrt%.5g:%.5g", a, b);
    if (a > 0.0 && b < 1.0 && is_sqrt(betas, n, a, b))
        return ZS_OK;
    return zs_fail(err, ZS_E_UNSUPPORTED,
                   "%s: %sbetas is not a schedule of the published models, "
                   "linspace(sqrt(a), sqrt(b))^2; zsem knows no other for this network",
                   zs_tensorfile_path(r->f), r->prefix);
}

static int infer_process(zs_rdm_file *r, zs_facts *facts, zs_error *err)
{
    long at = find(r, "betas");
    const zs_tensorinfo *t = at < 0 ? NULL : zs_tensorfile_info(r->f, (size_t)at);
    r->T = 1000;
    (void)snprintf(r->schedule, sizeof r->schedule, "sqrt0.0015:0.0195");
    const char *source = "default of the authors (%s has no betas)";
    if (t) {
        if (t->nd != 1 || t->numel < 2 || t->numel > 1000000)
            return zs_fail(err, ZS_E_FORMAT, "%s: %sbetas holds no list of 2 to 1000000 numbers",
                           zs_tensorfile_path(r->f), r->prefix);
        size_t n = (size_t)t->numel;
        float *betas = zs_alloc(n, sizeof *betas);
        int status = betas ? zs_tensorfile_read_f32(r->f, (size_t)at, betas, n, err)
                           : zs_fail_nomem(err, n * sizeof *betas, "a diffusion schedule");
        if (status == ZS_OK)
            status = name_schedule(r, betas, t->numel, err);
        zs_free(betas);
        if (status < 0)
            return status;
        r->T = t->numel;
        source = "betas of %s";
    }
    char steps[24];
    (void)snprintf(steps, sizeof steps, "%lld", (long long)r->T);
    zs_facts_add(facts, "T of the prior", steps, source, base_name(r->f));
    zs_facts_add(facts, "latent_beta_schedule", r->schedule, source, base_name(r->f));
    return ZS_OK;
}

/* ---- weights ---- */

/* The moving average counts its updates in a tensor. */
static void add_weights_fact(const zs_rdm_file *r, zs_facts *facts)
{
    long at = find(r, "model_ema.num_updates");
    char text[64] = "raw";
    int64_t updates = 0;
    zs_error ignored = {0};
    if (r->averaged) {
        (void)snprintf(text, sizeof text, "moving average");
        if (at >= 0 && zs_tensorfile_info(r->f, (size_t)at)->numel == 1 &&
            zs_tensorfile_read_i64(r->f, (size_t)at, &updates, 1, &ignored) == ZS_OK)
            (void)snprintf(text, sizeof text, "moving average of %lld steps", (long long)updates);
    }
    zs_facts_add(facts, "weights of the prior", text, "%s%s* of %s", r->prefix,
                 r->averaged ? AVERAGE : NET, base_name(r->f));
}

static void add_training_facts(const zs_rdm_file *r, zs_facts *facts)
{
    static const char *const keys[] = {"lr", "batch_size", "config"};
    const json_t *meta = zs_tensorfile_meta(r->f), *args = json_object_get(meta, "args");
    const json_t *epoch = json_object_get(meta, "epoch");
    if (json_is_integer(epoch))
        zs_facts_addi(facts, "epoch", json_integer_value(epoch), base_name(r->f));
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const json_t *v = json_object_get(args, keys[i]);
        char text[80];
        if (json_is_string(v))
            (void)snprintf(text, sizeof text, "%s", json_string_value(v));
        else if (json_is_number(v))
            (void)snprintf(text, sizeof text, "%g", json_number_value(v));
        else
            continue;
        zs_facts_add(facts, keys[i], text, "args of %s", base_name(r->f));
    }
}

static void add_net_facts(const zs_rdm_file *r, zs_facts *facts)
{
    char text[32] = "none", arch[80];
    (void)snprintf(arch, sizeof arch, "representation diffusion model, %d blocks of %lld channels",
                   r->net.blocks, (long long)r->net.width);
    if (r->net.conditional)
        (void)snprintf(text, sizeof text, "%lld", (long long)r->net.classes);
    zs_facts_add(facts, "architecture", arch, "names and shapes of the tensors of %s",
                 base_name(r->f));
    zs_facts_add(facts, "classes of the prior", text, "%scontext_layers of the blocks of %s",
                 r->net.conditional ? "" : "no ", base_name(r->f));
    zs_facts_add(facts, "prediction of the prior", "x0", "default of the authors");
}

int zs_rdm_find(zs_rdm_file *out, zs_tensorfile *f, bool raw, zs_facts *facts, zs_error *err)
{
    zs_rdm_file r = {.f = f};
    if (!find_prefix(&r))
        return 1;
    r.averaged = !raw && find(&r, "model_ema.diffusion_modelinput_projweight") >= 0;
    r.encoder = holds(&r, ENCODER);
    int status = infer_net(&r, err);
    if (status == ZS_OK)
        add_net_facts(&r, facts);
    if (status == ZS_OK)
        status = infer_process(&r, facts, err);
    if (status < 0)
        return status;
    add_weights_fact(&r, facts);
    add_training_facts(&r, facts);
    *out = r;
    return ZS_OK;
}

/* ---- names ---- */

void zs_rdm_tensor(char *buf, size_t cap, const zs_rdm_file *r, const char *name)
{
    static const char model[] = "model.";
    if (!r->averaged || !zs_str_starts(name, NET)) {
        (void)snprintf(buf, cap, "%s%s", r->prefix, name);
        return;
    }
    size_t n = (size_t)snprintf(buf, cap, "%s%s", r->prefix, AVERAGE);
    for (name += sizeof model - 1; *name && n + 1 < cap; name++)
        if (*name != '.')
            buf[n++] = *name;
    if (n < cap)
        buf[n] = '\0';
}

/* Tensors that may stand beside the parameters that are read. */
static bool known_extra(const zs_rdm_file *r, const char *name)
{
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        if (strcmp(name, tables[i]) == 0)
            return true;
    return zs_str_starts(name, AVERAGE) || zs_str_starts(name, ENCODER) ||
           (r->prefix[0] == '\0' && !zs_str_starts(name, NET) && !zs_str_starts(name, CLASSES));
}

int zs_rdm_check_leftovers(const zs_rdm_file *r, const zs_params *ps, const char *below,
                           zs_error *err)
{
    size_t n = strlen(r->prefix);
    for (size_t i = 0; i < zs_tensorfile_count(r->f); i++) {
        const char *name = zs_tensorfile_info(r->f, i)->name;
        char full[256];
        if (strncmp(name, r->prefix, n) != 0 || known_extra(r, name + n))
            continue;
        (void)snprintf(full, sizeof full, "%s%s", below, name + n);
        if (zs_params_find(ps, full) < 0)
            return zs_fail(err, ZS_E_UNSUPPORTED,
                           "%s: tensor %s has no place in the network that the other tensors "
                           "describe; zsem knows the published variant of the representation "
                           "diffusion model only",
                           zs_tensorfile_path(r->f), name);
    }
    return ZS_OK;
}

/* ---- models ---- */

/* The encoder lies in the file under the names that it has in the layout. */
static zs_vit_file encoder_of(const zs_rdm_file *r, char body[64])
{
    (void)snprintf(body, 64, "%s%s", r->prefix, ENCODER);
    return (zs_vit_file){.make = "MoCo v3", .body = body, .head = body};
}

/* The encoder comes with the prior where the file says enough of it. */
static void add_encoder(zs_model *m, const zs_rdm_file *r, const zs_model_options *o)
{
    char body[64];
    const zs_vit_file at = encoder_of(r, body);
    zs_error why = {0};
    if (!r->encoder || zs_vit_configure(m, r->f, &at, o, &why) == ZS_OK)
        return;
    zs_model_config_clear(&m->config, ZS_BOX_ENCODER);
    zs_facts_add(&m->facts, "encoder", "left out", "%s", why.message);
}

static int match_prior(const zs_model *m, const zs_rdm_file *r, zs_error *err)
{
    int status = zs_rdm_check_leftovers(r, m->params, "", err);
    for (size_t i = 0; i < zs_params_count(m->params) && status == ZS_OK; i++) {
        const zs_param *p = zs_params_at(m->params, i);
        char name[256];
        zs_rdm_tensor(name, sizeof name, r, p->name);
        if (zs_param_box(p->name) == ZS_BOX_PRIOR)
            status = zs_params_match(m->params, i, r->f, name, err);
    }
    return status;
}

static int read_prior(zs_model *m, const zs_rdm_file *r, zs_error *err)
{
    int status = ZS_OK;
    for (size_t i = 0; i < zs_params_count(m->params) && status == ZS_OK; i++) {
        const zs_param *p = zs_params_at(m->params, i);
        char name[256];
        zs_rdm_tensor(name, sizeof name, r, p->name);
        if (zs_param_box(p->name) == ZS_BOX_PRIOR && zs_model_wants(m, p))
            status = zs_params_read(m->params, i, m->weights, r->f, name, err);
    }
    return status;
}

static int read_boxes(zs_model *m, const zs_rdm_file *r, zs_error *err)
{
    char body[64];
    const zs_vit_file at = encoder_of(r, body);
    bool encoder = m->config.vit.depth > 0;
    int status = match_prior(m, r, err);
    if (status == ZS_OK && encoder)
        status = zs_vit_match(m->params, ENCODER, r->f, &at, err);
    if (status == ZS_OK)
        status = zs_model_alloc(m, err);
    if (status == ZS_OK)
        status = read_prior(m, r, err);
    if (status == ZS_OK && encoder && (m->boxes >> ZS_BOX_ENCODER & 1u))
        status = zs_vit_import(m->params, m->weights, ENCODER, r->f, &at, err);
    return status;
}

int zs_rdm_read(zs_model *m, zs_tensorfile *f, const zs_model_options *o, zs_error *err)
{
    zs_rdm_file r;
    int status = zs_rdm_find(&r, f, o && o->raw, &m->facts, err);
    if (status != ZS_OK)
        return status;
    m->config.rdm = r.net;
    m->config.latent = zs_process_rdm;
    m->config.latent.T = r.T;
    memcpy(m->config.latent.beta_schedule, r.schedule, sizeof r.schedule);
    add_encoder(m, &r, o);
    status = zs_model_finish_config(m, o, zs_tensorfile_path(f), err);
    return status == ZS_OK ? read_boxes(m, &r, err) : status;
}
