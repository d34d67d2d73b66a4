/* SPDX-License-Identifier: MIT */
/* What fills the boxes of a model, and whether it fits together. */
#include "models/config.h"

#include <string.h>

/* ---- architectures ---- */

/* The first of a box is what metadata that names none means. */
static const struct slot {
    const zs_arch *arch;
    size_t at, size; /* of its configuration in a zs_model_config */
} slots[] = {
#define SLOT(arch, member)                                                             \
    {                                                                                  \
        &arch, offsetof(zs_model_config, member), sizeof((zs_model_config *)0)->member \
    }
    SLOT(zs_arch_unet, unet), SLOT(zs_arch_adm, adm),
    SLOT(zs_arch_dit, dit),   SLOT(zs_arch_sem_encoder, sem_encoder),
    SLOT(zs_arch_vit, vit),   SLOT(zs_arch_latent_mlp, latent_mlp),
    SLOT(zs_arch_rdm, rdm),   SLOT(zs_arch_vae, vae),
#undef SLOT
};
enum { SLOTS = sizeof slots / sizeof slots[0] };

static const char *const box_names[ZS_BOX_COUNT] = {"generator", "encoder", "prior", "first_stage",
                                                    "probe"};

const char *zs_box_name(zs_box b)
{
    return box_names[b];
}

const zs_arch *zs_arch_at(size_t i)
{
    return i < SLOTS ? slots[i].arch : NULL;
}

const zs_arch *zs_arch_find(zs_box box, const char *name)
{
    for (size_t i = 0; i < SLOTS; i++)
        if (slots[i].arch->box == box && (!name || strcmp(slots[i].arch->name, name) == 0))
            return slots[i].arch;
    return NULL;
}

static const void *config_at(const zs_model_config *c, const struct slot *s)
{
    return (const char *)c + s->at;
}

static const struct slot *filled(const zs_model_config *c, zs_box box)
{
    for (size_t i = 0; i < SLOTS; i++)
        if (slots[i].arch->box == box &&
            zs_fields_present(slots[i].arch->fields, config_at(c, &slots[i])))
            return &slots[i];
    return NULL;
}

const zs_arch *zs_model_config_arch(const zs_model_config *c, zs_box box, const void **config)
{
    const struct slot *s = filled(c, box);
    if (s && config)
        *config = config_at(c, s);
    return s ? s->arch : NULL;
}

void *zs_model_config_slot(zs_model_config *c, const zs_arch *a)
{
    for (size_t i = 0; i < SLOTS; i++)
        if (slots[i].arch == a)
            return (char *)c + slots[i].at;
    return NULL;
}

bool zs_model_config_ports(const zs_model_config *c, zs_box box, zs_ports *p)
{
    const void *config = NULL;
    const zs_arch *a = zs_model_config_arch(c, box, &config);
    *p = (zs_ports){0};
    if (a)
        a->ports(config, p);
    return a != NULL;
}

int64_t zs_model_config_z_dim(const zs_model_config *c)
{
    zs_ports p;
    for (int b = 0; b < ZS_BOX_COUNT; b++)
        if (zs_model_config_ports(c, (zs_box)b, &p) && p.z_dim)
            return p.z_dim;
    return 0;
}

double zs_model_config_dropout(const zs_model_config *c)
{
    return c->unet.levels ? c->unet.dropout : c->adm.dropout;
}

bool zs_model_config_joint(const zs_model_config *c)
{
    zs_ports p;
    return zs_model_config_ports(c, ZS_BOX_GENERATOR, &p) && p.z_dim && c->sem_encoder.levels;
}

bool zs_model_config_learns_variance(const zs_model_config *c)
{
    zs_ports p;
    return zs_model_config_ports(c, ZS_BOX_GENERATOR, &p) && p.out_channels == 2 * p.in_channels;
}

zs_shape zs_model_config_states(const zs_model_config *c, int64_t n)
{
    zs_ports g, f;
    if (!zs_model_config_ports(c, ZS_BOX_FIRST_STAGE, &f) ||
        !zs_model_config_ports(c, ZS_BOX_GENERATOR, &g))
        return zs_shape4(n, c->image_size, c->image_size, c->channels);
    return zs_shape4(n, c->image_size / f.unit, c->image_size / f.unit, g.in_channels);
}

int64_t zs_model_config_encoder_size(const zs_model_config *c)
{
    zs_ports e;
    if (!zs_model_config_ports(c, ZS_BOX_ENCODER, &e))
        return 0;
    return e.side ? e.side : c->encoder_size ? c->encoder_size : c->image_size;
}

void zs_model_config_keep_encoder(zs_model_config *c, int64_t size)
{
    zs_ports e;
    bool any = zs_model_config_ports(c, ZS_BOX_ENCODER, &e) && !e.side;
    c->encoder_size = any && size != c->image_size ? size : 0;
}

/* What is left calls images what its networks work on: a generator without its first stage the
 * latents, an encoder beside no such generator its pictures. */
static void rename_images(zs_model_config *c, zs_box gone)
{
    zs_ports g, f, e;
    bool generator = zs_model_config_ports(c, ZS_BOX_GENERATOR, &g);
    bool first = zs_model_config_ports(c, ZS_BOX_FIRST_STAGE, &f);
    if (gone == ZS_BOX_FIRST_STAGE && first && generator) {
        c->image_size /= f.unit;
        c->channels = g.in_channels;
    }
    if (gone == ZS_BOX_GENERATOR && generator && !first && c->channels > 3) {
        (void)zs_model_config_ports(c, ZS_BOX_ENCODER, &e);
        c->image_size = e.side ? e.side : c->encoder_size;
        c->channels = e.in_channels;
    }
}

void zs_model_config_clear(zs_model_config *c, zs_box box)
{
    int64_t size = zs_model_config_encoder_size(c);
    rename_images(c, box);
    for (size_t i = 0; i < SLOTS; i++)
        if (slots[i].arch->box == box)
            memset((char *)c + slots[i].at, 0, slots[i].size);
    zs_model_config_keep_encoder(c, size);
}

static void take_images(zs_model_config *c, const zs_model_config *from)
{
    c->image_size = from->image_size;
    c->channels = from->channels;
    memcpy(c->fit, from->fit, sizeof c->fit);
}

/* A generator alone calls its latents images; with a first stage they are pixels. */
static void latents_to_images(zs_model_config *c)
{
    zs_ports f;
    (void)zs_model_config_ports(c, ZS_BOX_FIRST_STAGE, &f);
    c->image_size *= f.unit;
    c->channels = f.in_channels;
}

void zs_model_config_take(zs_model_config *c, zs_box box, const zs_model_config *from)
{
    int64_t size = zs_model_config_encoder_size(box == ZS_BOX_ENCODER ? from : c);
    zs_model_config_clear(c, box);
    for (size_t i = 0; i < SLOTS; i++)
        if (slots[i].arch->box == box)
            memcpy((char *)c + slots[i].at, config_at(from, &slots[i]), slots[i].size);
    if (box == ZS_BOX_GENERATOR)
        c->diffusion = from->diffusion;
    if (box == ZS_BOX_PRIOR)
        c->latent = from->latent;
    if (box == ZS_BOX_ENCODER)
        c->classes = from->classes;
    if (box == ZS_BOX_GENERATOR || (box == ZS_BOX_ENCODER && !c->channels))
        take_images(c, from);
    if (box == ZS_BOX_GENERATOR && filled(c, ZS_BOX_FIRST_STAGE) &&
        !filled(from, ZS_BOX_FIRST_STAGE))
        latents_to_images(c);
    if (box == ZS_BOX_FIRST_STAGE) {
        if (filled(from, ZS_BOX_GENERATOR) || !filled(c, ZS_BOX_GENERATOR))
            take_images(c, from);
        else
            latents_to_images(c);
    }
    zs_model_config_keep_encoder(c, size);
}

int zs_model_config_condition(zs_model_config *c, int64_t z_dim, int64_t classes, zs_error *err)
{
    const zs_arch *a = zs_model_config_arch(c, ZS_BOX_GENERATOR, NULL);
    if (!a || !a->condition)
        return zs_fail(err, ZS_E_INVALID, "there is no generator to be conditioned");
    return a->condition(zs_model_config_slot(c, a), z_dim, classes, err);
}

/* ---- processes ---- */

const zs_process_config zs_process_diffae = {1000, "linear", "eps", "fixed_large", true, ""};
const zs_process_config zs_process_diffae_latent = {1000,          "const0.008", "eps",
                                                    "fixed_large", false,        ""};
const zs_process_config zs_process_rdm = {1000, "sqrt0.0015:0.0195", "x0", "fixed_small", false,
                                          "ldm"};
const zs_process_config zs_process_adm = {1000, "linear", "eps", "learned", true, ""};
const zs_process_config zs_process_dit = {1000, "linear", "eps", "learned", false, ""};

static bool is_beta(const char *s, size_t n)
{
    char word[24];
    double beta;
    if (n >= sizeof word)
        return false;
    memcpy(word, s, n);
    word[n] = 0;
    return zs_str_to_f64(word, &beta) && beta > 0 && beta < 1;
}

static bool schedule_name(const char *s)
{
    if (strcmp(s, "linear") == 0 || strcmp(s, "cosine") == 0)
        return true;
    if (zs_str_starts(s, "const"))
        return is_beta(s + 5, strlen(s + 5));
    size_t first = zs_str_starts(s, "sqrt") ? strcspn(s + 4, ":") : 0;
    return first && s[4 + first] && is_beta(s + 4, first) &&
           is_beta(s + 5 + first, strlen(s + 5 + first));
}

static bool one_of(const char *s, const char *const *names)
{
    for (; *names; names++)
        if (strcmp(s, *names) == 0)
            return true;
    return false;
}

static int check_process(const zs_process_config *c, const char *what, zs_error *err)
{
    static const char *const predictions[] = {"eps", "x0", NULL};
    static const char *const variances[] = {"fixed_large", "fixed_small", "learned", NULL};
    static const char *const spacings[] = {"", "ddim", "ldm", NULL};
    if (!schedule_name(c->beta_schedule))
        return zs_fail(err, ZS_E_INVALID,
                       "the beta schedule \"%s\" is unknown; use linear, cosine, const<beta> "
                       "such as const0.008 or sqrt<first>:<last> such as sqrt0.0015:0.0195",
                       c->beta_schedule);
    if (!one_of(c->prediction, predictions))
        return zs_fail(err, ZS_E_INVALID, "%s.prediction is \"%s\"; use eps or x0", what,
                       c->prediction);
    if (!one_of(c->variance, variances))
        return zs_fail(err, ZS_E_INVALID,
                       "%s.variance is \"%s\"; use fixed_large, fixed_small or learned", what,
                       c->variance);
    if (!one_of(c->spacing, spacings))
        return zs_fail(err, ZS_E_INVALID, "%s.spacing is \"%s\"; use ddim or ldm", what,
                       c->spacing);
    if (c->T < 1 || c->T > 1000000)
        return zs_fail(err, ZS_E_INVALID, "%s.T is %lld, outside 1..1000000", what,
                       (long long)c->T);
    return ZS_OK;
}

/* ---- how the boxes fit ---- */

static int check_box(const zs_model_config *c, zs_box box, zs_error *err)
{
    const zs_arch *first = NULL;
    for (size_t i = 0; i < SLOTS; i++) {
        const zs_arch *a = slots[i].arch;
        const void *config = config_at(c, &slots[i]);
        if (a->box != box || !zs_fields_present(a->fields, config))
            continue;
        if (first)
            return zs_fail(err, ZS_E_INVALID, "the %s is both %s and %s", zs_box_name(box),
                           first->name, a->name);
        first = a;
        int status = zs_fields_check(a->fields, config, zs_box_name(box), err);
        if (status == ZS_OK && a->check)
            status = a->check(config, err);
        if (status < 0)
            return status;
    }
    return ZS_OK;
}

/* `scale`: pixels of an image for one of what the box works on, along a side. */
static int check_unit(const zs_model_config *c, zs_box box, int64_t scale, zs_error *err)
{
    zs_ports p;
    if (!zs_model_config_ports(c, box, &p) || !p.unit)
        return ZS_OK;
    if (c->image_size % (p.unit * scale))
        return zs_fail(err, ZS_E_INVALID, "image_size is %lld; the %s needs a multiple of %lld",
                       (long long)c->image_size, zs_box_name(box), (long long)(p.unit * scale));
    if (box == ZS_BOX_GENERATOR && p.side && c->image_size && c->image_size != p.side * scale)
        return zs_fail(err, ZS_E_INVALID, "image_size is %lld; the %s was made for %lld",
                       (long long)c->image_size, zs_box_name(box), (long long)(p.side * scale));
    return ZS_OK;
}

/* Where there is a first stage it sees the images, and the generator its latents. */
static int check_first_stage(const zs_model_config *c, const zs_ports *f, zs_error *err)
{
    zs_ports g;
    if (zs_model_config_ports(c, ZS_BOX_GENERATOR, &g) && g.in_channels != f->out_channels)
        return zs_fail(err, ZS_E_INVALID,
                       "the first stage makes latents of %lld channels, but the generator takes "
                       "%lld; use the first stage that it was trained with",
                       (long long)f->out_channels, (long long)g.in_channels);
    if (c->channels != f->in_channels)
        return zs_fail(err, ZS_E_INVALID, "channels is %lld, but the first stage takes %lld",
                       (long long)c->channels, (long long)f->in_channels);
    return ZS_OK;
}

static int check_channels(const zs_model_config *c, zs_error *err)
{
    zs_ports g, e, f;
    bool generator = zs_model_config_ports(c, ZS_BOX_GENERATOR, &g);
    bool encoder = zs_model_config_ports(c, ZS_BOX_ENCODER, &e);
    bool first = zs_model_config_ports(c, ZS_BOX_FIRST_STAGE, &f);
    bool usual = c->channels == 1 || c->channels == 3;
    /* no images have more than 3: latents of a first stage that another file holds */
    if (!first && generator && c->channels > 3 && c->channels == g.in_channels)
        return ZS_OK;
    if (!usual)
        return zs_fail(err, ZS_E_INVALID, "channels is %lld; images have 1 or 3",
                       (long long)c->channels);
    int64_t taken = first ? c->channels : g.in_channels;
    if ((generator && c->channels != taken) || (encoder && c->channels != e.in_channels))
        return zs_fail(err, ZS_E_INVALID,
                       "channels is %lld, but the generator takes %lld and the encoder %lld",
                       (long long)c->channels, (long long)taken, (long long)e.in_channels);
    return first ? check_first_stage(c, &f, err) : ZS_OK;
}

/* Then its images are latents, and an encoder beside it sees others. */
static bool waits_for_first_stage(const zs_model_config *c)
{
    return filled(c, ZS_BOX_GENERATOR) && !filled(c, ZS_BOX_FIRST_STAGE) &&
           (c->channels > 3 || c->latents.fingerprint[0]);
}

static int check_image(const zs_model_config *c, zs_error *err)
{
    zs_ports f;
    bool first = zs_model_config_ports(c, ZS_BOX_FIRST_STAGE, &f);
    if (!first && !filled(c, ZS_BOX_GENERATOR) && !filled(c, ZS_BOX_ENCODER) && c->channels == 0)
        return ZS_OK;
    int status = check_channels(c, err);
    if (status < 0)
        return status;
    if (strcmp(c->fit, "crop") != 0 && strcmp(c->fit, "pad") != 0)
        return zs_fail(err, ZS_E_INVALID, "fit is \"%s\"; use crop or pad", c->fit);
    if (c->image_size < 0 || c->image_size > 65536)
        return zs_fail(err, ZS_E_INVALID, "image_size is %lld, outside 0..65536",
                       (long long)c->image_size);
    if (c->encoder_size < 0 || c->encoder_size > 65536)
        return zs_fail(err, ZS_E_INVALID, "encoder_size is %lld, outside 0..65536",
                       (long long)c->encoder_size);
    status = check_unit(c, ZS_BOX_FIRST_STAGE, 1, err);
    if (status == ZS_OK)
        status = check_unit(c, ZS_BOX_GENERATOR, first ? f.unit : 1, err);
    return status < 0 || waits_for_first_stage(c) ? status : check_unit(c, ZS_BOX_ENCODER, 1, err);
}

static int differ(const char *a, int64_t a_dim, const char *b, int64_t b_dim, zs_error *err)
{
    if (a_dim == 0) /* only generators do without */
        return zs_fail(err, ZS_E_INVALID,
                       "the %s takes no representations, and here is the %s of "
                       "some",
                       a, b);
    return zs_fail(err, ZS_E_INVALID,
                   "the representations of the %s have %lld numbers and those of the %s %lld", a,
                   (long long)a_dim, b, (long long)b_dim);
}

/* Representations mean the same thing in every box. */
static int check_codes(const zs_model_config *c, zs_error *err)
{
    zs_ports g, e, p;
    bool generator = zs_model_config_ports(c, ZS_BOX_GENERATOR, &g);
    bool encoder = zs_model_config_ports(c, ZS_BOX_ENCODER, &e);
    bool prior = zs_model_config_ports(c, ZS_BOX_PRIOR, &p);
    if (!generator && !encoder && !prior && !filled(c, ZS_BOX_FIRST_STAGE))
        return zs_fail(err, ZS_E_INVALID, "the model has no network");
    if (c->classes && (!c->sem_encoder.levels || generator || prior))
        return zs_fail(err, ZS_E_INVALID,
                       "only an encoder alone has classes, and this model has %lld",
                       (long long)c->classes);
    if (c->classes && (c->classes < 2 || c->classes > 1 << 24))
        return zs_fail(err, ZS_E_INVALID, "classes is %lld, outside 2..16777216",
                       (long long)c->classes);
    if (generator && encoder && g.z_dim != e.z_dim)
        return differ("generator", g.z_dim, "encoder", e.z_dim, err);
    if (generator && prior && g.z_dim != p.z_dim)
        return differ("generator", g.z_dim, "prior", p.z_dim, err);
    return encoder && prior && e.z_dim != p.z_dim
               ? differ("encoder", e.z_dim, "prior", p.z_dim, err)
               : ZS_OK;
}

/* A network that returns variances is one whose process has them; the bound that trains them is of
 * networks that predict noise. */
static int check_variance(const zs_model_config *c, zs_error *err)
{
    bool returns = zs_model_config_learns_variance(c);
    if (returns && strcmp(c->diffusion.prediction, "eps") != 0)
        return zs_fail(err, ZS_E_INVALID,
                       "diffusion.prediction is %s; a generator that learns a variance predicts "
                       "eps",
                       c->diffusion.prediction);
    if (returns == (strcmp(c->diffusion.variance, "learned") == 0))
        return ZS_OK;
    return zs_fail(err, ZS_E_INVALID,
                   returns ? "diffusion.variance is %s, but the generator returns a learned one"
                           : "diffusion.variance is %s, but the generator returns none",
                   c->diffusion.variance);
}

int zs_model_config_validate(const zs_model_config *c, zs_error *err)
{
    int status = ZS_OK;
    for (int b = 0; status == ZS_OK && b < ZS_BOX_COUNT; b++)
        status = check_box(c, (zs_box)b, err);
    if (status == ZS_OK)
        status = check_codes(c, err);
    if (status == ZS_OK && filled(c, ZS_BOX_GENERATOR))
        status = check_process(&c->diffusion, "diffusion", err);
    if (status == ZS_OK && filled(c, ZS_BOX_GENERATOR))
        status = check_variance(c, err);
    if (status == ZS_OK && filled(c, ZS_BOX_PRIOR))
        status = check_process(&c->latent, "latent", err);
    if (status == ZS_OK && filled(c, ZS_BOX_PRIOR) && strcmp(c->latent.variance, "learned") == 0)
        status = zs_fail(err, ZS_E_INVALID, "latent.variance is learned, but no prior returns one");
    return status == ZS_OK ? check_image(c, err) : status;
}

uint32_t zs_attn_levels(int64_t image_size, int levels, const int64_t *res, size_t n)
{
    uint32_t bits = 0;
    for (int i = 0; i < levels; i++)
        for (size_t k = 0; k < n; k++)
            if (image_size >> i == res[k])
                bits |= 1u << i;
    return bits;
}
