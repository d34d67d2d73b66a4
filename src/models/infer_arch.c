/* SPDX-License-Identifier: MIT */
/* The architecture of an official checkpoint from the names and shapes of its tensors; what they
 * leave open from the stored hyper-parameters. Nothing is assumed about sizes: zs_official_read
 * compares every name and shape afterwards. */
#include "models/model_impl.h"

#include <stdarg.h>
#include <string.h>

typedef struct ctx {
    const zs_official *o;
    const json_t *hyper; /* hyper_parameters, or NULL */
    zs_facts *facts;
    const char *file;   /* base name, for sources */
    int64_t enc_blocks; /* given by the user, or 0 */
} ctx;

/* The tensor "<prefix><printf>", or NULL. */
static const zs_tensorinfo *tensor(const ctx *x, const char *fmt, ...) ZS_PRINTF(2, 3);
static const zs_tensorinfo *tensor(const ctx *x, const char *fmt, ...)
{
    char name[160], full[200];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    (void)snprintf(full, sizeof full, "%s%s", x->o->prefix, name);
    long i = zs_tensorfile_find(x->o->f, full);
    return i < 0 ? NULL : zs_tensorfile_info(x->o->f, (size_t)i);
}

static int64_t dim(const zs_tensorinfo *t, int i)
{
    return t && i < t->nd ? t->shape[i] : 0;
}

static int damaged(const ctx *x, const char *what, zs_error *err)
{
    const char *prefix = x->o->prefix;
    return zs_fail(err, ZS_E_FORMAT, "%s: the tensors%s%s do not form a network: %s",
                   zs_tensorfile_path(x->o->f), prefix[0] ? " below " : "", prefix, what);
}

/* ---- hyper-parameters ---- */

static int64_t hyper_int(const ctx *x, const char *key, int64_t fallback)
{
    const json_t *v = json_object_get(x->hyper, key);
    return json_is_integer(v) ? json_integer_value(v) : fallback;
}

static double hyper_real(const ctx *x, const char *key, double fallback)
{
    const json_t *v = json_object_get(x->hyper, key);
    return json_is_number(v) ? json_number_value(v) : fallback;
}

static void hyper_text(const ctx *x, const char *key, char *out, size_t cap, const char *fallback)
{
    const char *v = json_string_value(json_object_get(x->hyper, key));
    bool stored = v && strlen(v) < cap;
    (void)snprintf(out, cap, "%s", stored ? v : fallback);
    zs_facts_add(x->facts, key, out, stored ? "hyper_parameters of %s" : "default (%s has none)",
                 x->file);
}

/* ---- a way down: UNet and encoder ---- */

static bool block_at(const ctx *x, const char *net, int i)
{
    return tensor(x, "%sinput_blocks.%d.0.in_layers.2.weight", net, i) != NULL;
}

static int64_t block_out(const ctx *x, const char *net, int i)
{
    return dim(tensor(x, "%sinput_blocks.%d.0.in_layers.2.weight", net, i), 0);
}

static bool block_attends(const ctx *x, const char *net, int i)
{
    return tensor(x, "%sinput_blocks.%d.1.qkv.weight", net, i) != NULL;
}

static int count_blocks(const ctx *x, const char *net)
{
    int n = 1; /* block 0 is the first convolution */
    while (n <= ZS_MAX_LEVELS * (ZS_MAX_RES_BLOCKS + 1) && block_at(x, net, n))
        n++;
    return n;
}

/* Do the blocks fit `levels` levels of r blocks, each but the last followed by a down-sampling
 * block, which keeps its channels and has no attention? */
static bool pattern_fits(const ctx *x, const char *net, int levels, int r)
{
    for (int level = 0; level < levels; level++) {
        int first = 1 + level * (r + 1);
        for (int i = 0; i < r; i++)
            if (block_out(x, net, first + i) != block_out(x, net, first) ||
                block_attends(x, net, first + i) != block_attends(x, net, first))
                return false;
        int down = first + r;
        if (level < levels - 1 &&
            (block_out(x, net, down) != block_out(x, net, first) || block_attends(x, net, down)))
            return false;
    }
    return true;
}

/* Blocks per level of a way down of n input blocks, the first convolution included: `stated` when
 * it is not 0, else the only number that fits. 0 when none does, -1 when several do. */
static int find_res_blocks(const ctx *x, const char *net, int n, int64_t stated)
{
    int found = 0, count = 0;
    for (int levels = 1; levels <= ZS_MAX_LEVELS; levels++) {
        int r = n / levels - 1;
        if (n % levels || r < 1 || r > ZS_MAX_RES_BLOCKS || (stated && r != stated) ||
            !pattern_fits(x, net, levels, r))
            continue;
        found = r;
        count++;
    }
    return count > 1 ? -1 : found;
}

static void read_levels(const ctx *x, const char *net, int n, int r, int *levels, int64_t *ch,
                        uint32_t *attn)
{
    *levels = n / (r + 1);
    *attn = 0;
    for (int i = 0; i < *levels; i++) {
        ch[i] = block_out(x, net, 1 + i * (r + 1));
        if (block_attends(x, net, 1 + i * (r + 1)))
            *attn |= 1u << i;
    }
}

/* ---- UNet ---- */

static bool output_block(const ctx *x, int i)
{
    return tensor(x, "output_blocks.%d.0.in_layers.2.weight", i) != NULL;
}

/* The last block of every level but the top one ends with an up-sampling residual block. */
static bool goes_up(const ctx *x, int i)
{
    return tensor(x, "output_blocks.%d.1.in_layers.2.weight", i) ||
           tensor(x, "output_blocks.%d.2.in_layers.2.weight", i);
}

static int infer_unet_levels(zs_unet_config *u, const ctx *x, zs_error *err)
{
    int down = count_blocks(x, ""), up = 0, levels = 1;
    for (; up <= ZS_MAX_LEVELS * (ZS_MAX_RES_BLOCKS + 1) && output_block(x, up); up++)
        levels += goes_up(x, up);
    if (levels > ZS_MAX_LEVELS || up == 0 || up % levels || up / levels < 2 ||
        up / levels - 1 > ZS_MAX_RES_BLOCKS)
        return damaged(x, "its output blocks are not whole levels", err);
    u->num_res_blocks = up / levels - 1;
    if (down != up || !pattern_fits(x, "", levels, u->num_res_blocks))
        return damaged(x, "its input blocks do not mirror its output blocks", err);
    read_levels(x, "", down, u->num_res_blocks, &u->levels, u->ch, &u->attn_levels);
    return ZS_OK;
}

static int infer_heads(int *heads, const ctx *x, zs_error *err)
{
    int64_t n = hyper_int(x, "net_beatgans_attn_head", 1);
    if (n < 1 || n > 64)
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "%s: hyper_parameters.net_beatgans_attn_head is %lld, outside 1..64",
                       zs_tensorfile_path(x->o->f), (long long)n);
    *heads = (int)n;
    return ZS_OK;
}

static int infer_unet(zs_model_config *c, const ctx *x, zs_error *err)
{
    zs_unet_config *u = &c->unet;
    const zs_tensorinfo *first = tensor(x, "input_blocks.0.0.weight");
    bool wrapped = tensor(x, "time_embed.time_embed.0.weight") != NULL;
    const zs_tensorinfo *embed = tensor(x, "time_embed.%s0.weight", wrapped ? "time_embed." : "");
    u->in_channels = dim(first, 1);
    u->out_channels = dim(tensor(x, "out.2.weight"), 0);
    u->embed_channels = dim(embed, 0);
    u->model_channels = dim(embed, 1);
    u->z_dim = dim(tensor(x, "input_blocks.1.0.cond_emb_layers.1.weight"), 1);
    u->dropout = hyper_real(x, "dropout", 0.1);
    if (!embed || u->in_channels < 1)
        return damaged(x, "it has no time embedding or no first convolution", err);
    if (wrapped != (u->z_dim > 0))
        return damaged(x, "it is neither the conditional nor the unconditional UNet", err);
    c->channels = u->in_channels;
    int status = infer_heads(&u->heads, x, err);
    return status == ZS_OK ? infer_unet_levels(u, x, err) : status;
}

/* ---- encoder ---- */

/* Blocks per level when something says so; 0 when the tensors must. */
static int64_t stated_enc_blocks(const ctx *x, int n)
{
    size_t levels = json_array_size(json_object_get(x->hyper, "net_enc_channel_mult"));
    if (x->enc_blocks)
        return x->enc_blocks;
    if (levels && (size_t)n % levels == 0)
        return n / (int64_t)levels - 1;
    return hyper_int(x, "net_enc_num_res_blocks", 0);
}

static int infer_encoder(zs_model_config *c, const ctx *x, zs_error *err)
{
    zs_sem_encoder_config *e = &c->sem_encoder;
    int n = count_blocks(x, "encoder.");
    int r = find_res_blocks(x, "encoder.", n, stated_enc_blocks(x, n));
    if (n < 2)
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "%s: the UNet is conditioned on codes, but there is no encoder.* that makes "
                       "them; use the checkpoint that holds both",
                       zs_tensorfile_path(x->o->f));
    if (r < 0)
        return zs_fail(err, ZS_E_INVALID,
                       "%s does not say how many residual blocks a level of its encoder has; give "
                       "it with --set enc_num_res_blocks=N",
                       zs_tensorfile_path(x->o->f));
    if (r == 0)
        return damaged(x, "the encoder's blocks are not whole levels of that many", err);
    e->num_res_blocks = r;
    e->in_channels = dim(tensor(x, "encoder.input_blocks.0.0.weight"), 1);
    e->z_dim = dim(tensor(x, "encoder.out.3.weight"), 0);
    e->heads = c->unet.heads;
    read_levels(x, "encoder.", n, r, &e->levels, e->ch, &e->attn_levels);
    return ZS_OK;
}

/* ---- prior ---- */

static int infer_prior(zs_model_config *c, const ctx *x, zs_error *err)
{
    zs_latent_mlp_config *p = &c->latent_mlp;
    int n = 0;
    while (n <= 64 && tensor(x, "latent_net.layers.%d.linear.weight", n))
        n++;
    if (n == 0)
        return ZS_OK;
    if (n < 2 || n > 64)
        return damaged(x, "latent_net has fewer than 2 or more than 64 layers", err);
    p->layers = n;
    p->hidden = dim(tensor(x, "latent_net.layers.0.linear.weight"), 0);
    p->z_dim = dim(tensor(x, "latent_net.layers.%d.linear.weight", n - 1), 0);
    p->time_channels = dim(tensor(x, "latent_net.time_embed.0.weight"), 1);
    p->dropout = hyper_real(x, "net_latent_dropout", 0);
    for (int i = 0; i < n; i++) {
        int64_t in = dim(tensor(x, "latent_net.layers.%d.linear.weight", i), 1);
        if (in - p->z_dim == (i ? p->hidden : p->z_dim))
            p->skips |= (uint64_t)1 << i;
    }
    return ZS_OK;
}

/* ---- what shapes do not say ---- */

/* Settings of the authors' configuration that change the arithmetic, with the value that the
 * published models have. */
static int check_variant(const ctx *x, zs_error *err)
{
    static const struct {
        const char *key;
        double value;
    } fixed[] = {{"net_beatgans_resnet_condition_scale_bias", 1},
                 {"net_latent_condition_bias", 1},
                 {"net_latent_residual", 0}};
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        double v = hyper_real(x, fixed[i].key, fixed[i].value);
        if (v < fixed[i].value || v > fixed[i].value)
            return zs_fail(err, ZS_E_UNSUPPORTED,
                           "%s: the model was built with %s = %g; zsem knows the published variant "
                           "(%g) only",
                           zs_tensorfile_path(x->o->f), fixed[i].key, v, fixed[i].value);
    }
    return ZS_OK;
}

/* Lightning checkpoints also keep the noise x_T that their sample grids start from. */
static int64_t size_of_noise(const ctx *x)
{
    static const char *const names[] = {"state_dict.x_T", "x_T"};
    for (int i = 0; i < 2; i++) {
        long at = zs_tensorfile_find(x->o->f, names[i]);
        const zs_tensorinfo *t = at < 0 ? NULL : zs_tensorfile_info(x->o->f, (size_t)at);
        if (t && t->nd == 4 && t->shape[2] == t->shape[3])
            return t->shape[2];
    }
    return 0;
}

static void infer_image_size(zs_model_config *c, const ctx *x)
{
    char text[48];
    int64_t stored = hyper_int(x, "img_size", 0);
    c->image_size = stored > 0 ? stored : size_of_noise(x);
    (void)snprintf(text, sizeof text, "%lldx%lld", (long long)c->image_size,
                   (long long)c->image_size);
    if (c->image_size == 0)
        zs_facts_add(x->facts, "image size", "unknown", "%s does not say; --set image_size=N",
                     x->file);
    else if (stored > 0)
        zs_facts_add(x->facts, "image size", text, "hyper_parameters.img_size of %s", x->file);
    else
        zs_facts_add(x->facts, "image size", text, "shape of x_T in %s", x->file);
}

static void infer_diffusion(zs_model_config *c, const ctx *x)
{
    bool stored = json_is_integer(json_object_get(x->hyper, "T"));
    c->diffusion = zs_process_diffae;
    c->latent = zs_process_diffae_latent;
    c->diffusion.T = c->latent.T = hyper_int(x, "T", 1000);
    zs_facts_addi(x->facts, "T", c->diffusion.T, stored ? "hyper_parameters.T" : "default");
    hyper_text(x, "beta_scheduler", c->diffusion.beta_schedule, sizeof c->diffusion.beta_schedule,
               "linear");
    if (c->latent_mlp.layers)
        hyper_text(x, "latent_beta_scheduler", c->latent.beta_schedule,
                   sizeof c->latent.beta_schedule, "const0.008");
}

static void add_progress(const ctx *x)
{
    static const char *const keys[] = {"epoch", "global_step"};
    const json_t *meta = zs_tensorfile_meta(x->o->f);
    for (int i = 0; i < 2; i++) {
        const json_t *v = json_object_get(meta, keys[i]);
        if (json_is_integer(v))
            zs_facts_addi(x->facts, keys[i], json_integer_value(v), x->file);
    }
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

int zs_official_infer(zs_model_config *c, zs_facts *facts, const zs_official *o, int64_t enc_blocks,
                      zs_error *err)
{
    ctx x = {.o = o,
             .facts = facts,
             .enc_blocks = enc_blocks,
             .file = base_name(zs_tensorfile_path(o->f))};
    x.hyper = json_object_get(zs_tensorfile_meta(o->f), "hyper_parameters");
    memset(c, 0, sizeof *c);
    (void)snprintf(c->fit, sizeof c->fit, "crop");
    const char *name = json_string_value(json_object_get(x.hyper, "name"));
    (void)snprintf(c->name, sizeof c->name, "%s", name ? name : "");
    int status = check_variant(&x, err);
    if (status == ZS_OK)
        status = infer_unet(c, &x, err);
    if (status == ZS_OK && c->unet.z_dim)
        status = infer_encoder(c, &x, err);
    if (status == ZS_OK)
        status = infer_prior(c, &x, err);
    if (status < 0)
        return status;
    zs_facts_add(facts, "weights", o->averaged ? "moving average" : "raw", "%s* of %s",
                 o->prefix[0] ? o->prefix : "names", x.file);
    zs_facts_add(facts, "architecture", c->unet.z_dim ? "diffae" : "ddpm",
                 "names and shapes of the tensors of %s", x.file);
    zs_facts_addi(facts, "attention heads", c->unet.heads,
                  json_object_get(x.hyper, "net_beatgans_attn_head")
                      ? "hyper_parameters.net_beatgans_attn_head"
                      : "default of the authors");
    infer_image_size(c, &x);
    infer_diffusion(c, &x);
    add_progress(&x);
    return ZS_OK;
}
