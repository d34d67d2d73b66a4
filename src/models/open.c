/* SPDX-License-Identifier: MIT */
/* From a spec such as "last.ckpt,latent.pkl" to a model. */
#include "models/model_impl.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

/* "<box>.<field>=..." of a box that c lacks: that box, else ZS_BOX_COUNT. */
static zs_box absent_box(const zs_model_config *c, const char *override)
{
    for (int b = 0; b < ZS_BOX_COUNT; b++) {
        const char *name = zs_box_name((zs_box)b);
        if (zs_str_starts(override, name) && override[strlen(name)] == '.' &&
            !zs_model_config_arch(c, (zs_box)b, NULL))
            return (zs_box)b;
    }
    return ZS_BOX_COUNT;
}

/* "<box>.<field>=..." of a box that is not among `boxes`. */
static bool is_elsewhere(const char *override, unsigned boxes)
{
    for (int b = 0; b < ZS_BOX_COUNT; b++) {
        const char *name = zs_box_name((zs_box)b);
        if (zs_str_starts(override, name) && override[strlen(name)] == '.')
            return !(boxes >> b & 1u);
    }
    return false;
}

/* Sets what the user gave and what a file did not say. A part of a model may lack the box that an
 * override is for. */
static int apply_overrides(zs_model *m, unsigned boxes, const zs_model_options *o, zs_error *err)
{
    const char *const *s = o ? o->set : NULL;
    for (; s && *s; s++) {
        if (absent_box(&m->config, *s) != ZS_BOX_COUNT || is_elsewhere(*s, boxes))
            continue;
        int status = zs_model_config_set(&m->config, *s, err);
        if (status < 0)
            return status;
        if (status > 0)
            return zs_fail(err, ZS_E_INVALID, "\"%s\" sets nothing that a model has", *s);
        zs_facts_add(&m->facts, "override", *s, "given by the user");
    }
    return ZS_OK;
}

/* Overrides of boxes that are not among `boxes` are left to other files. */
static int finish_config(zs_model *m, unsigned boxes, const zs_model_options *o, const char *path,
                         zs_error *err)
{
    zs_error why = {0};
    int64_t size = zs_model_config_encoder_size(&m->config);
    int status = apply_overrides(m, boxes, o, err);
    zs_model_config_keep_encoder(&m->config, size);
    if (status == ZS_OK && zs_model_config_validate(&m->config, &why) < 0)
        status = zs_fail(err, ZS_E_UNSUPPORTED, "%s: %s", path, why.message);
    return status == ZS_OK ? zs_model_lay_out(m, err) : status;
}

/* Files of others do not say everything: their boxes cannot be understood without the overrides,
 * even those of which nothing but the fingerprint is wanted. */
int zs_model_finish_config(zs_model *m, const zs_model_options *o, const char *path, zs_error *err)
{
    return finish_config(m, ~0u, o, path, err);
}

/* A bundle holds one kind of weights, so `raw` changes nothing; it must not seem to. */
static void add_bundle_facts(zs_model *m, const char *path, bool raw)
{
    zs_facts_add(&m->facts, "configuration", m->config.name, "metadata of %s", path);
    zs_facts_add(&m->facts, "weights", "as stored in the bundle",
                 raw ? "raw ones were asked for; the bundle has no others: %s" : "%s", path);
}

static void add_probe_fact(zs_model *m, const char *path)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%d attribute%s", m->probe->attrs,
                   m->probe->attrs == 1 ? "" : "s");
    zs_facts_add(&m->facts, "probe", text, "%s", path);
}

static int open_bundle(zs_model *m, zs_tensorfile *f, const json_t *meta, unsigned boxes,
                       const zs_model_options *o, zs_error *err)
{
    const char *path = zs_tensorfile_path(f);
    int status = zs_model_config_from_json(&m->config, meta, path, err);
    if (status < 0)
        return status;
    add_bundle_facts(m, path, o && o->raw);
    m->extra = json_incref(json_object_get(meta, "training"));
    status = finish_config(m, boxes, o, path, err);
    if (status == ZS_OK)
        status = zs_bundle_read(m, f, err);
    if (status == ZS_OK)
        status = zs_probe_read_bundle(&m->probe, f, meta, zs_model_config_z_dim(&m->config), err);
    return status < 0 ? status : ZS_OK;
}

/* Numbers, and what the threads that look at parts of them found. */
typedef struct finite {
    const float *v;
    atomic_bool bad; /* one is not finite */
} finite;

static void run_finite(void *ctx, int64_t begin, int64_t end, int thread)
{
    finite *f = ctx;
    uint32_t bad = 0;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        uint32_t bits = 0;
        memcpy(&bits, f->v + i, sizeof bits);
        bad |= (bits & 0x7F800000u) == 0x7F800000u; /* isfinite, which is not vectorised */
    }
    if (bad)
        atomic_store(&f->bad, true);
}

/* Weights that are no numbers would make every result one that looks like a result. */
static int check_finite(const zs_model *m, const char *path, zs_error *err)
{
    for (size_t i = 0; i < zs_params_count(m->params); i++) {
        const zs_param *p = zs_params_at(m->params, i);
        finite f = {.v = m->weights + p->offset};
        if (zs_model_wants(m, p))
            zs_parallel_for(p->numel, 1 << 18, run_finite, &f);
        if (atomic_load(&f.bad))
            return zs_fail(err, ZS_E_FORMAT,
                           "%s: tensor %s holds a number that is not finite; the file is damaged, "
                           "or training went wrong: use an earlier one",
                           path, p->name);
    }
    return ZS_OK;
}

/* Whoever knows the file first reads it, so the pickier ones come first. */
static zs_reader *const readers[] = {zs_rdm_read, zs_vit_read, zs_adm_read,
                                     zs_dit_read, zs_vae_read, zs_diffae_read};

static int read_official(zs_model *m, zs_tensorfile *f, const zs_model_options *o, zs_error *err)
{
    int status = 1;
    for (size_t i = 0; status == 1 && i < sizeof readers / sizeof readers[0]; i++)
        status = readers[i](m, f, o, err);
    return status;
}

/* Opens the networks of f, for which `part` is an empty model and of which `boxes` are wanted; 1
 * when f holds none. */
static int read_networks(zs_model *part, zs_tensorfile *f, unsigned boxes,
                         const zs_model_options *o, zs_error *err)
{
    zs_error damaged = {0};
    json_t *meta = zs_bundle_meta(f, &damaged);
    int status = damaged.status ? zs_fail(err, damaged.status, "%s", damaged.message) : ZS_OK;
    if (status == ZS_OK)
        status = meta ? open_bundle(part, f, meta, boxes, o, err) : read_official(part, f, o, err);
    if (status == ZS_OK)
        status = check_finite(part, zs_tensorfile_path(f), err);
    json_decref(meta);
    return status;
}

/* Networks from f beside those of earlier files; 1 when f holds none. */
static int take_networks(zs_model *m, zs_tensorfile *f, unsigned boxes, const zs_model_options *o,
                         zs_error *err)
{
    zs_model *part = NULL;
    int status = zs_model_new(&part, zs_tensorfile_path(f), o, err);
    if (status == ZS_OK)
        status = read_networks(part, f, boxes, o, err);
    if (status == ZS_OK)
        status = zs_model_keep(part, boxes, zs_tensorfile_path(f), err);
    if (status == ZS_OK && part->probe)
        add_probe_fact(part, zs_tensorfile_path(f));
    if (status == ZS_OK)
        status = zs_model_join(m, part, zs_tensorfile_path(f), err);
    zs_model_close(&part);
    return status;
}

/* Statistics of the codes from a checkpoint or latent.pkl; 1 when f holds none. */
static int take_stats(zs_model *m, zs_tensorfile *f, zs_error *err)
{
    static const char *const names[][2] = {{"conds_mean", "conds_std"},
                                           {"state_dict.conds_mean", "state_dict.conds_std"}};
    for (int i = 0; i < 2; i++) {
        if (zs_tensorfile_find(f, names[i][0]) < 0)
            continue;
        if (!m->params)
            return zs_fail(err, ZS_E_INVALID,
                           "%s holds statistics of codes; name the checkpoint with the networks "
                           "before it, as in last.ckpt,latent.pkl",
                           zs_tensorfile_path(f));
        if (zs_model_config_z_dim(&m->config) == 0)
            return zs_fail(err, ZS_E_INVALID,
                           "%s holds statistics of codes, but the model has none",
                           zs_tensorfile_path(f));
        int status = zs_model_read_stats(m, f, names[i][0], names[i][1], err);
        if (status == ZS_OK)
            zs_facts_add(&m->facts, "code statistics", names[i][0], "%s", zs_tensorfile_path(f));
        return status;
    }
    return 1;
}

/* The authors' classifier of codes; 1 when f holds none. */
static int take_probe(zs_model *m, zs_tensorfile *f, zs_error *err)
{
    zs_probe *p = NULL;
    if (!m->params) /* take_stats has said so, or there is nothing of a model in f */
        return 1;
    int status = zs_probe_read_official(&p, f, zs_model_config_z_dim(&m->config), err);
    if (status != ZS_OK)
        return status;
    zs_probe_free(&m->probe);
    m->probe = p;
    add_probe_fact(m, zs_tensorfile_path(f));
    return ZS_OK;
}

static int take_file(zs_model *m, const char *path, unsigned boxes, const zs_model_options *o,
                     zs_error *err)
{
    zs_tensorfile *f = NULL;
    int status = zs_tensorfile_open(&f, path, err);
    if (status < 0)
        return status;
    status = take_networks(m, f, boxes, o, err);
    bool wants_stats = boxes & (1u << ZS_BOX_PRIOR | 1u << ZS_BOX_PROBE);
    int stats = status < 0 || !wants_stats ? 1 : take_stats(m, f, err);
    int probe =
        status < 0 || stats < 0 || !(boxes >> ZS_BOX_PROBE & 1u) ? 1 : take_probe(m, f, err);
    if (status == 1 && stats == 1 && probe == 1)
        status = zs_fail(err, ZS_E_INVALID,
                         "%s (%s) holds neither the networks of a model nor statistics of codes",
                         path, zs_tensorfile_format(f));
    else if (status >= 0)
        status = stats < 0 ? stats : probe < 0 ? probe : ZS_OK;
    if (status == ZS_OK && boxes != ~0u && boxes >> ZS_BOX_PROBE & 1u && !m->probe)
        status = zs_model_lacks(m, zs_box_name(ZS_BOX_PROBE), path, err);
    zs_tensorfile_close(&f);
    return status;
}

/* The file that a part of a spec names: the folder of a training run stands for the bundle in it.
 * Owned; NULL when out of memory. */
static char *file_of_part(const char *part, size_t n)
{
    struct stat st;
    char *path = zs_str_format("%.*s", (int)n, part);
    if (!path || stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
        return path;
    char *bundle = zs_str_format("%s/model.safetensors", path);
    zs_free(path);
    return bundle;
}

/* The box called by the first n characters of s; ZS_BOX_COUNT when there is none. */
static zs_box box_called(const char *s, size_t n)
{
    int b = 0;
    while (b < ZS_BOX_COUNT &&
           (strlen(zs_box_name((zs_box)b)) != n || memcmp(zs_box_name((zs_box)b), s, n) != 0))
        b++;
    return (zs_box)b;
}

/* The boxes that the end of a part asks for, as in "runs/a:encoder+prior", and the length of what
 * is before it; all boxes when it names none. */
static unsigned boxes_of_part(const char *part, size_t *n)
{
    unsigned boxes = 0;
    size_t at = *n;
    while (at > 0 && part[at - 1] != ':')
        at--;
    for (size_t k = at; at > 0 && k < *n;) {
        size_t word = strcspn(part + k, "+,");
        zs_box b = box_called(part + k, word);
        if (b == ZS_BOX_COUNT)
            return ~0u; /* a colon in a file's name */
        boxes |= 1u << b;
        k += word + 1;
    }
    if (!boxes)
        return ~0u;
    *n = at - 1;
    return boxes;
}

static bool is_there(const char *path)
{
    struct stat st;
    return path && stat(path, &st) == 0;
}

/* A part such as "FILE:bogus", of a file that is there and has no such box; 1 when it is none. */
static int refuse_part(const char *part, size_t n, const zs_model_options *o, zs_error *err)
{
    zs_model *m = NULL;
    size_t at = n;
    while (at > 0 && part[at - 1] != ':')
        at--;
    char *whole = zs_str_format("%.*s", (int)n, part), *word = whole ? whole + at : NULL;
    char *path = at > 1 ? file_of_part(part, at - 1) : NULL;
    int status = 1;
    if (word && !is_there(whole) && is_there(path))
        status = zs_model_new(&m, path, o, err);
    if (status == ZS_OK)
        status = take_file(m, path, ~0u, o, err);
    if (status == ZS_OK)
        status = zs_model_lacks(m, word[0] ? word : "part without a name", path, err);
    zs_model_close(&m);
    zs_free(path);
    zs_free(whole);
    return status;
}

static int check_spec(const char *spec, zs_error *err)
{
    static const char remedy[] =
        "give a bundle, the folder of a training run, or checkpoints joined with commas";
    size_t n = strlen(spec);
    if (n == 0)
        return zs_fail(err, ZS_E_INVALID, "the MODEL is empty; %s", remedy);
    if (spec[0] == ',' || spec[n - 1] == ',' || strstr(spec, ",,"))
        return zs_fail(err, ZS_E_INVALID, "the MODEL \"%s\" has an empty part; %s", spec, remedy);
    return ZS_OK;
}

/* The whole model must have had a use for each. */
static int check_overrides(const zs_model *m, const zs_model_options *o, zs_error *err)
{
    for (const char *const *s = o ? o->set : NULL; s && *s; s++) {
        zs_box b = absent_box(&m->config, *s);
        if (b != ZS_BOX_COUNT)
            return zs_fail(err, ZS_E_INVALID, "\"%s\" sets nothing: %s has no %s", *s, m->label,
                           zs_box_name(b));
    }
    return ZS_OK;
}

int zs_model_open(zs_model **out, const char *spec, const zs_model_options *o, zs_error *err)
{
    int status = check_spec(spec, err);
    *out = NULL;
    if (status == ZS_OK)
        status = zs_model_new(out, spec, o, err);
    for (const char *s = spec; status == ZS_OK;) {
        size_t n = strcspn(s, ","), named = n;
        unsigned boxes = boxes_of_part(s, &named);
        char *path = file_of_part(s, named);
        status = boxes == ~0u ? refuse_part(s, n, o, err) : 1;
        if (status == 1)
            status =
                path ? take_file(*out, path, boxes, o, err) : zs_fail_nomem(err, n, "a file name");
        zs_free(path);
        if (!s[n])
            break;
        s += n + 1;
    }
    if (status == ZS_OK)
        status = check_overrides(*out, o, err);
    if (status < 0)
        zs_model_close(out);
    return status;
}
