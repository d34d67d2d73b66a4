/* SPDX-License-Identifier: MIT */
/* First stages in files: whose names they use, and what the tensors say about the network. */
#include "models/first_stage.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Scaling of Stable Diffusion's latents to about unit deviation; files do not hold it. */
static const double GAUSSIAN_SCALE = 0.18215;

enum { NAME = 200 };

/* Of a first stage alone, of a training run, of a whole latent diffusion model. */
static const char *const prefixes[] = {"",
                                       "state_dict.",
                                       "model.",
                                       "first_stage_model.",
                                       "state_dict.first_stage_model.",
                                       "model.first_stage_model.",
                                       NULL};

/* ---- names ---- */

typedef struct word {
    const char *ours, *theirs;
} word;

/* One word between dots of latent diffusion's names, and what diffusers says for it. */
static const word words[] = {
    {"down", "down_blocks"},
    {"up", "up_blocks"},
    {"block", "resnets"},
    {"attn", "attentions"},
    {"downsample", "downsamplers.0"},
    {"upsample", "upsamplers.0"},
    {"mid", "mid_block"},
    {"block_1", "resnets.0"},
    {"block_2", "resnets.1"},
    {"attn_1", "attentions.0"},
    {"norm_out", "conv_norm_out"},
    {"nin_shortcut", "conv_shortcut"},
    {NULL, NULL},
};

/* Below an attention. */
static const word attention_words[] = {
    {"norm", "group_norm"},   {"q", "to_q"}, {"k", "to_k"}, {"v", "to_v"},
    {"proj_out", "to_out.0"}, {NULL, NULL},
};
static const word old_attention_words[] = {
    {"norm", "group_norm"},    {"q", "query"}, {"k", "key"}, {"v", "value"},
    {"proj_out", "proj_attn"}, {NULL, NULL},
};

static const char *translate(const word *list, const char *ours)
{
    for (; list->ours; list++)
        if (strcmp(list->ours, ours) == 0)
            return list->theirs;
    return ours;
}

/* Word by word; diffusers counts the levels of the way up from the deepest one. */
static void to_diffusers(zs_strbuf *s, const char *name, const word *attention, int levels)
{
    const word *list = words;
    bool up = false;
    for (const char *p = name; *p;) {
        char token[NAME];
        size_t n = strcspn(p, ".");
        (void)snprintf(token, sizeof token, "%.*s", (int)n, p);
        if (p != name)
            zs_strbuf_append(s, ".", 1);
        if (up)
            zs_strbuf_addf(s, "%d", levels - 1 - atoi(token));
        else
            zs_strbuf_addf(s, "%s", translate(list, token));
        up = strcmp(token, "up") == 0;
        if (zs_str_starts(token, "attn"))
            list = attention;
        p += n + (p[n] == '.');
    }
}

bool zs_vae_file_name(char *buf, size_t cap, const zs_vae_file *at, int levels, const char *name)
{
    zs_strbuf s = {0};
    zs_strbuf_addf(&s, "%s", at->prefix);
    if (at->names == ZS_VAE_LDM)
        zs_strbuf_addf(&s, "%s", name);
    else
        to_diffusers(&s, name,
                     at->names == ZS_VAE_DIFFUSERS_OLD ? old_attention_words : attention_words,
                     levels);
    bool ok = !s.failed && s.n < cap;
    (void)snprintf(buf, cap, "%s", ok ? s.s : "");
    zs_strbuf_free(&s);
    return ok;
}

/* ---- finding one ---- */

static bool has(const zs_tensorfile *f, const char *prefix, const char *name)
{
    char full[NAME];
    (void)snprintf(full, sizeof full, "%s%s", prefix, name);
    return zs_tensorfile_find(f, full) >= 0;
}

static bool whose(zs_vae_names *names, const zs_tensorfile *f, const char *prefix)
{
    *names = ZS_VAE_LDM;
    if (has(f, prefix, "encoder.down.0.block.0.conv1.weight") &&
        has(f, prefix, "decoder.conv_in.weight"))
        return true;
    bool old = has(f, prefix, "encoder.mid_block.attentions.0.query.weight");
    *names = old ? ZS_VAE_DIFFUSERS_OLD : ZS_VAE_DIFFUSERS;
    return has(f, prefix, "encoder.down_blocks.0.resnets.0.conv1.weight") &&
           has(f, prefix, "decoder.conv_in.weight");
}

int zs_vae_find(zs_vae_file *out, const zs_tensorfile *f)
{
    for (int i = 0; prefixes[i]; i++) {
        if (!whose(&out->names, f, prefixes[i]))
            continue;
        (void)snprintf(out->prefix, sizeof out->prefix, "%s", prefixes[i]);
        return ZS_OK;
    }
    return 1;
}

/* ---- what it is ---- */

typedef struct ctx {
    const zs_tensorfile *f;
    const zs_vae_file *at;
    int levels;
} ctx;

/* Dimension i of a tensor, 0 when there is none. */
static int64_t dim(const ctx *x, int i, const char *fmt, ...) ZS_PRINTF(3, 4);
static int64_t dim(const ctx *x, int i, const char *fmt, ...)
{
    char name[NAME], full[NAME];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    if (!zs_vae_file_name(full, sizeof full, x->at, x->levels, name))
        return 0;
    long t = zs_tensorfile_find(x->f, full);
    const zs_tensorinfo *info = t < 0 ? NULL : zs_tensorfile_info(x->f, (size_t)t);
    return info && i < info->nd ? info->shape[i] : 0;
}

int zs_vae_infer(zs_vae_config *out, const zs_tensorfile *f, const zs_vae_file *at, zs_error *err)
{
    ctx x = {.f = f, .at = at};
    zs_vae_config c = {0};
    while (c.levels < ZS_MAX_LEVELS &&
           (c.ch[c.levels] = dim(&x, 0, "encoder.down.%d.block.0.conv1.weight", c.levels)) > 0) {
        if (dim(&x, 0, "encoder.down.%d.attn.0.norm.weight", c.levels) > 0)
            c.attn_levels |= 1u << c.levels;
        c.levels++;
    }
    while (c.num_res_blocks < ZS_MAX_RES_BLOCKS &&
           dim(&x, 0, "encoder.down.0.block.%d.conv1.weight", c.num_res_blocks) > 0)
        c.num_res_blocks++;
    c.channels = dim(&x, 1, "encoder.conv_in.weight");
    c.z_channels = dim(&x, 1, "decoder.conv_in.weight");
    c.latent_channels = dim(&x, 1, "post_quant_conv.weight");
    int64_t moments = dim(&x, 0, "encoder.conv_out.weight");
    c.gaussian = moments == 2 * c.z_channels;
    c.scale = c.gaussian ? GAUSSIAN_SCALE : 1;
    *out = c;
    zs_error why = {0};
    const char *reason = NULL;
    if (!c.latent_channels)
        reason = "there is no post_quant_conv";
    else if (!c.gaussian && moments != c.z_channels)
        reason = "the encoder's output fits neither latents nor their means and variances";
    else if (zs_fields_check(zs_arch_vae.fields, &c, "first_stage", &why) < 0)
        reason = why.message;
    if (!reason)
        return ZS_OK;
    return zs_fail(err, ZS_E_FORMAT,
                   "%s: the tensors%s%s do not form a first stage as that of latent diffusion: %s",
                   zs_tensorfile_path(f), at->prefix[0] ? " below " : "", at->prefix, reason);
}
