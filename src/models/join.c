/* SPDX-License-Identifier: MIT */
/* One model from several files: encoder, prior and generator that were made apart. */
#include "models/model_impl.h"
#include "models/rep.h"

#include <string.h>

/* Moves everything of `part` into the empty model m. */
static void move(zs_model *m, zs_model *part)
{
    m->config = part->config;
    m->params = part->params;
    m->weights = part->weights;
    m->placed = part->placed;
    m->own_weights = part->own_weights;
    m->version = part->version;
    m->extra = part->extra;
    part->params = NULL;
    part->weights = NULL;
    part->placed = (zs_weights){0};
    part->own_weights = false;
    part->extra = NULL;
}

static bool draws_plain(const zs_model *m)
{
    return zs_model_config_arch(&m->config, ZS_BOX_PRIOR, NULL) == &zs_arch_rdm && !m->z_mean;
}

/* Statistics tell what a prior draws; one that was trained without must not get those of others. */
static int check_stats(const zs_model *m, const zs_model *part, const char *path, zs_error *err)
{
    if (!(draws_plain(m) && part->z_mean) && !(draws_plain(part) && m->z_mean))
        return ZS_OK;
    return zs_fail(
        err, ZS_E_INVALID,
        "%s does not go with the files before it: one brings statistics of codes, and the "
        "other a prior that was trained without; take the encoder alone, as in "
        "FILE:encoder",
        path);
}

/* What does not depend on the layout comes along; of statistics, those that a prior was trained
 * with before others. */
static void move_rest(zs_model *m, zs_model *part)
{
    if (part->z_mean && (!m->z_mean || zs_model_has(part, ZS_BOX_PRIOR))) {
        zs_free(m->z_mean);
        zs_free(m->z_std);
        m->z_mean = part->z_mean;
        m->z_std = part->z_std;
        part->z_mean = part->z_std = NULL;
    }
    if (part->probe) {
        zs_probe_free(&m->probe);
        m->probe = part->probe;
        part->probe = NULL;
    }
    for (size_t i = 0; i < part->facts.n; i++) {
        const zs_fact *f = &part->facts.f[i];
        zs_facts_add(&m->facts, f->key, f->value, "%s", f->source);
    }
}

/* Boxes that others are made for: a file says which by a zs_maker, when it lacks the box. */
static const struct role {
    zs_box box;
    const char *called, *makes;
    size_t at; /* of the zs_maker in a zs_model_config */
} roles[] = {
    {ZS_BOX_ENCODER, "encoder", "representations", offsetof(zs_model_config, reps)},
    {ZS_BOX_FIRST_STAGE, "first stage", "latents", offsetof(zs_model_config, latents)},
};
enum { ROLES = sizeof roles / sizeof roles[0] };

static zs_maker *maker_of(zs_model_config *c, const struct role *r)
{
    return (zs_maker *)(void *)((char *)c + r->at);
}

static const zs_maker *made_for(const zs_model_config *c, const struct role *r)
{
    return (const zs_maker *)(const void *)((const char *)c + r->at);
}

static bool has_weights(const zs_model *m, zs_box box)
{
    return zs_model_has(m, box) && m->boxes >> box & 1u;
}

/* The box of `from` is the one that `made` says it was made for; `path` is the file that brings one
 * of them to the other. */
static int check_made(zs_model *from, const zs_model_config *made, const struct role *r,
                      const char *path, zs_error *err)
{
    char print[ZS_REP_FINGERPRINT] = "";
    const zs_maker *by = made_for(made, r);
    if (!by->fingerprint[0] || !has_weights(from, r->box))
        return ZS_OK;
    int status = zs_rep_fingerprint(print, from, r->box, err);
    if (status == ZS_OK && !zs_rep_same(print, by->fingerprint))
        status = zs_fail(err, ZS_E_INVALID,
                         "%s does not go with the files before it: what was made for the %s of %s "
                         "is joined with another %s, %s; use files that were made with one",
                         path, r->makes, by->name, r->called, from->brought[r->box]);
    return status;
}

static int check_boxes(zs_model *m, zs_model *part, const char *path, zs_error *err)
{
    int status = ZS_OK;
    for (size_t i = 0; status == ZS_OK && i < ROLES; i++) {
        status = check_made(m, &part->config, &roles[i], path, err);
        if (status == ZS_OK)
            status = check_made(part, &m->config, &roles[i], path, err);
    }
    return status;
}

/* Both were made for one encoder and one first stage, as far as they say; the joint configuration
 * says what either does. */
static int join_makers(zs_model_config *out, const zs_model_config *part, const char *path,
                       zs_error *err)
{
    for (size_t i = 0; i < ROLES; i++) {
        zs_maker *ours = maker_of(out, &roles[i]);
        const zs_maker *theirs = made_for(part, &roles[i]);
        if (!ours->fingerprint[0]) {
            *ours = theirs->name[0] || theirs->fingerprint[0] ? *theirs : *ours;
            continue;
        }
        if (theirs->fingerprint[0] && !zs_rep_same(ours->fingerprint, theirs->fingerprint))
            return zs_fail(err, ZS_E_INVALID,
                           "%s was made for %s of %s, and the files before it for those of "
                           "another %s, %s; use files that were made with one",
                           path, roles[i].makes, theirs->name, roles[i].called, ours->name);
    }
    return ZS_OK;
}

/* Whether what c holds works on what such a box makes. */
static bool needs(const zs_model_config *c, zs_box box)
{
    return box == ZS_BOX_ENCODER ? zs_model_config_z_dim(c) > 0
                                 : zs_model_config_arch(c, ZS_BOX_GENERATOR, NULL) != NULL;
}

/* What is left of m in c is used with boxes that are not: c notes which. */
static int note_makers(zs_model_config *c, zs_model *m, unsigned boxes, const char *path,
                       zs_error *err)
{
    int status = ZS_OK;
    for (size_t i = 0; status == ZS_OK && i < ROLES; i++) {
        zs_maker *by = maker_of(c, &roles[i]);
        if (boxes >> roles[i].box & 1u || by->fingerprint[0] || !has_weights(m, roles[i].box) ||
            !needs(c, roles[i].box))
            continue;
        status = zs_rep_fingerprint(by->fingerprint, m, roles[i].box, err);
        (void)snprintf(by->name, sizeof by->name, "%s", c->name[0] ? c->name : path);
    }
    return status;
}

/* How messages call the boxes that a file brings. */
static void name_boxes(zs_model *m, const char *path)
{
    for (size_t i = 0; i < ROLES; i++) {
        char *name = m->brought[roles[i].box];
        if (has_weights(m, roles[i].box))
            (void)snprintf(name, sizeof m->brought[0], "%s",
                           m->config.name[0] ? m->config.name : path);
    }
}

/* The first file to bring a box is the one that counts. */
static void take_names(zs_model *m, const zs_model *part)
{
    for (int b = 0; b < ZS_BOX_COUNT; b++)
        if (!m->brought[b][0])
            memcpy(m->brought[b], part->brought[b], sizeof m->brought[b]);
}

/* A prior's file may bring along the encoder that an earlier file held: the same network with the
 * same weights. */
static bool same_encoder(const zs_model *m, const zs_model *part)
{
    const void *a_config = NULL, *b_config = NULL;
    const zs_arch *a = zs_model_config_arch(&m->config, ZS_BOX_ENCODER, &a_config);
    const zs_arch *b = zs_model_config_arch(&part->config, ZS_BOX_ENCODER, &b_config);
    json_t *ours = a ? zs_fields_to_json(a->fields, a_config) : NULL;
    json_t *theirs = b ? zs_fields_to_json(b->fields, b_config) : NULL;
    bool same = a == b && ours && theirs && json_equal(ours, theirs);
    for (size_t i = 0; same && i < zs_params_count(part->params); i++) {
        const zs_param *p = zs_params_at(part->params, i);
        long k = zs_params_find(m->params, p->name);
        if (zs_param_box(p->name) == ZS_BOX_ENCODER)
            same =
                k >= 0 && memcmp(m->weights + zs_params_at(m->params, (size_t)k)->offset,
                                 part->weights + p->offset, (size_t)p->numel * sizeof(float)) == 0;
    }
    json_decref(ours);
    json_decref(theirs);
    return same;
}

static int join_configs(zs_model_config *out, const zs_model *m, const zs_model *part,
                        const char *path, zs_error *err)
{
    zs_error why = {0};
    *out = m->config;
    for (int b = 0; b < ZS_BOX_COUNT; b++) {
        zs_box box = (zs_box)b;
        if (!zs_model_config_arch(&part->config, box, NULL) ||
            (box == ZS_BOX_ENCODER && same_encoder(m, part)))
            continue;
        if (zs_model_config_arch(out, box, NULL))
            return zs_fail(err, ZS_E_INVALID,
                           "%s holds a %s, but an earlier file of the model did too; name one, or "
                           "take only some boxes of a file, as in FILE:encoder+prior",
                           path, zs_box_name(box));
        zs_model_config_take(out, box, &part->config);
    }
    out->classes = 0; /* what tells them apart is no part of the representation */
    int status = join_makers(out, &part->config, path, err);
    if (status == ZS_OK && zs_model_config_validate(out, &why) < 0)
        status = zs_fail(err, ZS_E_INVALID, "%s does not go with the files before it: %s", path,
                         why.message);
    return status;
}

/* Weights of the joint layout from those of one part. */
static void copy_weights(const zs_params *to, float *dst, const zs_model *from)
{
    for (size_t i = 0; i < zs_params_count(to); i++) {
        const zs_param *p = zs_params_at(to, i);
        long k = zs_params_find(from->params, p->name);
        if (k >= 0 && p->alias < 0)
            memcpy(dst + p->offset, from->weights + zs_params_at(from->params, (size_t)k)->offset,
                   (size_t)p->numel * sizeof *dst);
    }
}

/* Gives m the configuration c and the weights that it and `other` (may be NULL) have for it. */
static int rebuild(zs_model *m, const zs_model *other, const zs_model_config *c, zs_error *err)
{
    zs_model joint = {.config = *c, .backend = m->backend};
    int status = zs_model_lay_out(&joint, err);
    if (status == ZS_OK)
        status = zs_model_alloc(&joint, err);
    if (status < 0) {
        zs_params_free(&joint.params);
        return status;
    }
    for (int i = 0; i < ZS_NET_CACHE; i++) /* of another layout */
        zs_exec_free(&m->cache[i].e);
    zs_packs_free(&m->packs);
    copy_weights(joint.params, joint.weights, m);
    if (other)
        copy_weights(joint.params, joint.weights, other);
    zs_weights_clear(&m->placed);
    zs_backend_host(m->backend)
        ->release(m->weights, (size_t)zs_params_numel(m->params) * sizeof *m->weights);
    zs_params_free(&m->params);
    m->config = joint.config;
    m->params = joint.params;
    m->weights = joint.weights;
    m->placed = joint.placed;
    m->version = joint.version;
    return ZS_OK;
}

/* They are of use to a prior and to a probe. */
static void drop_stats(zs_model *m)
{
    zs_free(m->z_mean);
    zs_free(m->z_std);
    m->z_mean = m->z_std = NULL;
}

int zs_model_lacks(const zs_model *m, const char *part, const char *path, zs_error *err)
{
    zs_strbuf has = {0};
    for (int b = 0; b < ZS_BOX_COUNT; b++)
        if (zs_model_has(m, (zs_box)b))
            zs_strbuf_addf(&has, "%s%s", has.n ? ", " : "", zs_box_name((zs_box)b));
    int status = zs_fail(err, ZS_E_INVALID, "%s has no %s; its parts are %s", path, part,
                         has.s ? has.s : "none");
    zs_strbuf_free(&has);
    return status;
}

/* The parts that are named must be there; a probe may come from elsewhere in the file, but not
 * alone. */
static int check_parts(const zs_model *m, unsigned boxes, const char *path, zs_error *err)
{
    const unsigned probe = 1u << ZS_BOX_PROBE;
    for (int b = 0; b < ZS_BOX_PROBE && boxes != ~0u; b++)
        if (boxes >> b & 1u && !zs_model_has(m, (zs_box)b))
            return zs_model_lacks(m, zs_box_name((zs_box)b), path, err);
    if (boxes != probe)
        return ZS_OK;
    if (!m->probe)
        return zs_model_lacks(m, zs_box_name(ZS_BOX_PROBE), path, err);
    return zs_fail(err, ZS_E_INVALID,
                   "%s:probe: a probe alone is no model; take the encoder that it reads along, as "
                   "in %s:encoder+probe",
                   path, path);
}

int zs_model_keep(zs_model *m, unsigned boxes, const char *path, zs_error *err)
{
    zs_model_config c = m->config;
    bool dropped = false;
    int status = check_parts(m, boxes, path, err);
    if (status < 0)
        return status;
    if (!(boxes >> ZS_BOX_PROBE & 1u))
        zs_probe_free(&m->probe);
    if (!(boxes & (1u << ZS_BOX_PRIOR | 1u << ZS_BOX_PROBE)))
        drop_stats(m);
    for (int b = 0; b < ZS_BOX_PROBE; b++) {
        bool there = zs_model_has(m, (zs_box)b), wanted = boxes >> b & 1u;
        if (there && !wanted)
            zs_model_config_clear(&c, (zs_box)b);
        dropped = dropped || (there && !wanted);
    }
    if (!dropped)
        return ZS_OK;
    status = note_makers(&c, m, boxes, path, err);
    return status < 0 ? status : rebuild(m, NULL, &c, err);
}

int zs_model_join(zs_model *m, zs_model *part, const char *path, zs_error *err)
{
    zs_model_config c;
    int status = ZS_OK;
    name_boxes(part, path);
    if (!m->params) {
        move(m, part);
    } else {
        status = check_boxes(m, part, path, err);
        if (status == ZS_OK)
            status = check_stats(m, part, path, err);
        if (status == ZS_OK)
            status = join_configs(&c, m, part, path, err);
        if (status == ZS_OK)
            status = rebuild(m, part, &c, err);
    }
    if (status < 0)
        return status;
    take_names(m, part);
    move_rest(m, part);
    return ZS_OK;
}
