/* SPDX-License-Identifier: MIT */
/* Whether a run may go on under another configuration, and what to say where it may not. */
#include "models/rep.h"
#include "train/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the first difference ---- */

/* Fingerprints have other last digits on another machine. */
static bool same_value(const char *key, const json_t *a, const json_t *b)
{
    const char *have = json_string_value(a), *want = json_string_value(b);
    return json_equal(a, b) ||
           (strstr(key, "_fingerprint") && have && want && zs_rep_same(have, want));
}

/* The first key of one object whose value is another in the other, or NULL; what kind of network it
 * is says more than its sizes. */
static const char *first_other(const json_t *a, const json_t *b)
{
    const char *key;
    json_t *v, *arch = json_object_get(a, "arch");
    json_t *object = (json_t *)(uintptr_t)a; /* jansson's iterators only read */
    if (arch && !json_equal(arch, json_object_get(b, "arch")))
        return "arch";
    json_object_foreach(object, key, v)
    {
        if (!same_value(key, json_object_get(b, key), v))
            return key;
    }
    return NULL;
}

/* Names the first field that differs between two objects, also one that only one of them has, and
 * gives its values, NULL where it is absent; returns 0 when they are equal. */
static int differs(zs_strbuf *field, const json_t *have, const json_t *want, json_t **h, json_t **w)
{
    const char *key = first_other(want, have);
    if (!key)
        key = first_other(have, want);
    if (!key)
        return 0;
    *h = json_object_get(have, key);
    *w = json_object_get(want, key);
    zs_strbuf_addf(field, "%s%s", field->n ? "." : "", key);
    if (json_is_object(*h) && json_is_object(*w))
        (void)differs(field, *h, *w, h, w);
    return 1;
}

/* ---- what goes on ---- */

#define AS_BEGUN " that it was begun with"

/* How a field is set again: an option that ends in "=" or " " takes the value that the run has. */
static const struct remedy {
    const char *field, *option;
    const char *absent; /* the value of a configuration that does not have the field, or NULL */
} remedies[] = {
    {"t_weight", "--set t_weight=", "1"},
    {"lr", "--set lr=", NULL},
    {"weight_decay", "--set weight_decay=", NULL},
    {"clip", "--set clip=", NULL},
    {"ema", "--set ema=", NULL},
    {"flip", "--set flip=", NULL},
    {"dropout", "--set dropout=", NULL},
    {"batch", "--batch ", NULL},
    {"seed", "--seed ", NULL},
    {"warmup", "--warmup ", NULL},
    {"views", "--views ", NULL},
    {"data_images", "the --data" AS_BEGUN, NULL},
    {"data_fingerprint", "the --data" AS_BEGUN, NULL},
    {"optimizer", "the --preset" AS_BEGUN, NULL},
    {"beta1", "the --preset" AS_BEGUN, NULL},
    {"beta2", "the --preset" AS_BEGUN, NULL},
    {"eps", "the --preset" AS_BEGUN, NULL},
    {"ema_warmup", "the --preset" AS_BEGUN, "false"},
    {"ema_first", "the --preset" AS_BEGUN, "false"},
    {"name", "--preset ", NULL},
    {"image_size", "--set image_size=", NULL},
    {"channels", "--set channels=", NULL},
    {"fit", "--set fit=", NULL},
    {"classes", "the --data" AS_BEGUN, NULL},
    {"rep_name", "the encoder" AS_BEGUN, NULL},
    {"rep_fingerprint", "the encoder" AS_BEGUN, NULL},
    {"latent_name", "the --first-stage" AS_BEGUN, NULL},
    {"latent_fingerprint", "the --first-stage" AS_BEGUN, NULL},
    {"generator.arch", "the --preset" AS_BEGUN, NULL},
    {"generator.classes", "the --data, --class-cond and generator.class_drop" AS_BEGUN, NULL},
    {"generator.rep_dim", "the --encoder" AS_BEGUN, NULL},
    {"generator.substitute", "the --encoder" AS_BEGUN, NULL},
    {"generator.z_dim", "--set z_dim=", NULL},
    {"encoder.z_dim", "--set z_dim=", NULL},
    {"encoder.arch", "the --preset" AS_BEGUN, NULL},
    {"prior.arch", "--arch ", NULL},
    {"prior.classes", "the --data and --class-cond" AS_BEGUN, NULL},
    {"diffusion.T", "--set T=", NULL},
    {"diffusion.beta_schedule", "--set beta_schedule=", NULL},
    {"latent_diffusion.beta_schedule", "--set latent_beta_schedule=", NULL},
};

static const struct remedy *find_remedy(const char *field)
{
    for (size_t i = 0; i < sizeof remedies / sizeof remedies[0]; i++)
        if (strcmp(remedies[i].field, field) == 0)
            return &remedies[i];
    return NULL;
}

/* The shortest of two texts that is read back as v. */
static void add_real(zs_strbuf *b, double v)
{
    char text[32];
    double back;
    (void)snprintf(text, sizeof text, "%.9g", v);
    if (!zs_str_to_f64(text, &back) || back < v || back > v)
        (void)snprintf(text, sizeof text, "%.17g", v);
    zs_strbuf_addf(b, "%s", text);
}

/* v as options take it: 1,2,4 and none, true, cosine. */
static void add_value(zs_strbuf *b, const json_t *v)
{
    if (json_is_array(v)) {
        for (size_t i = 0; i < json_array_size(v); i++) {
            zs_strbuf_addf(b, "%s", i ? "," : "");
            add_value(b, json_array_get(v, i));
        }
        zs_strbuf_addf(b, "%s", json_array_size(v) ? "" : "none");
    } else if (json_is_real(v)) {
        add_real(b, json_real_value(v));
    } else if (json_is_integer(v)) {
        zs_strbuf_addf(b, "%lld", (long long)json_integer_value(v));
    } else {
        zs_strbuf_addf(b, "%s",
                       json_is_string(v) ? json_string_value(v)
                       : json_is_true(v) ? "true"
                                         : "false");
    }
}

/* Appends what to give so that the field has the value `have` again; false when nothing is known to
 * do so. */
static bool add_option(zs_strbuf *b, const char *field, const json_t *have)
{
    const struct remedy *r = find_remedy(field);
    const char *dot = strchr(field, '.');
    bool box = zs_str_starts(field, "generator.") || zs_str_starts(field, "encoder.");
    if (!r && !box && !zs_str_starts(field, "prior."))
        return false;
    if (r)
        zs_strbuf_addf(b, "%s", r->option);
    else
        zs_strbuf_addf(b, "--set %s=", box ? field : dot + 1); /* a prior's fields have no box */
    char last = b->s && b->n ? b->s[b->n - 1] : 0;
    if (last != '=' && last != ' ')
        return true;
    if (have)
        add_value(b, have);
    else if (r && r->absent)
        zs_strbuf_addf(b, "%s", r->absent);
    return have || (r && r->absent);
}

/* ---- in words ---- */

/* A value as people read it; owned, jansson's own allocation, NULL where it is absent. */
static char *value_text(const json_t *v)
{
    return v ? json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9)) : NULL;
}

static int same_part(const json_t *have, const json_t *want, const char *part, const char *where,
                     zs_error *err)
{
    zs_strbuf field = {0}, option = {0};
    json_t *h = NULL, *w = NULL;
    if (!differs(&field, json_object_get(have, part), json_object_get(want, part), &h, &w))
        return ZS_OK;
    const struct remedy *r = field.s ? find_remedy(field.s) : NULL;
    const char *absent = r && r->absent ? r->absent : "unset";
    char *was = value_text(h), *is = value_text(w);
    bool known = field.s && add_option(&option, field.s, h) && !option.failed;
    int status = zs_fail(err, ZS_E_INVALID,
                         "%s was trained with %s %s, not %s: go on with %s, or give another --out "
                         "to start anew",
                         where, field.s ? field.s : part, was ? was : absent, is ? is : absent,
                         known ? option.s : "the same options");
    free(was); /* jansson's own */
    free(is);
    zs_strbuf_free(&field);
    zs_strbuf_free(&option);
    return status;
}

int zs_checkpoint_same_config(const json_t *have, const json_t *want, const char *where,
                              zs_error *err)
{
    int status = same_part(have, want, "model", where, err);
    return status < 0 ? status : same_part(have, want, "train", where, err);
}
