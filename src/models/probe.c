/* SPDX-License-Identifier: MIT */
#include "models/probe.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

enum { TENSORS = 4, ATTRS_MAX = 1 << 20 };

/* The header of list_attr_celeba.txt and of its HQ sibling: the rows of the authors'
 * classifiers. */
static const char *const celeba[] = {"5_o_Clock_Shadow",
                                     "Arched_Eyebrows",
                                     "Attractive",
                                     "Bags_Under_Eyes",
                                     "Bald",
                                     "Bangs",
                                     "Big_Lips",
                                     "Big_Nose",
                                     "Black_Hair",
                                     "Blond_Hair",
                                     "Blurry",
                                     "Brown_Hair",
                                     "Bushy_Eyebrows",
                                     "Chubby",
                                     "Double_Chin",
                                     "Eyeglasses",
                                     "Goatee",
                                     "Gray_Hair",
                                     "Heavy_Makeup",
                                     "High_Cheekbones",
                                     "Male",
                                     "Mouth_Slightly_Open",
                                     "Mustache",
                                     "Narrow_Eyes",
                                     "No_Beard",
                                     "Oval_Face",
                                     "Pale_Skin",
                                     "Pointy_Nose",
                                     "Receding_Hairline",
                                     "Rosy_Cheeks",
                                     "Sideburns",
                                     "Smiling",
                                     "Straight_Hair",
                                     "Wavy_Hair",
                                     "Wearing_Earrings",
                                     "Wearing_Hat",
                                     "Wearing_Lipstick",
                                     "Wearing_Necklace",
                                     "Wearing_Necktie",
                                     "Young"};
enum { CELEBA = sizeof celeba / sizeof celeba[0] };

void zs_probe_free(zs_probe **pp)
{
    zs_probe *p = *pp;
    if (!p)
        return;
    for (int i = 0; p->names && i < p->attrs; i++)
        zs_free(p->names[i]);
    zs_free(p->names);
    zs_free(p->w);
    zs_free(p);
    *pp = NULL;
}

static int alloc_probe(zs_probe **out, int attrs, int64_t dim, zs_error *err)
{
    zs_probe *p = zs_calloc(1, sizeof *p);
    size_t n = (size_t)attrs * (size_t)dim;
    *out = p;
    if (!p)
        return zs_fail_nomem(err, sizeof *p, "a probe");
    p->attrs = attrs;
    p->dim = dim;
    p->names = zs_calloc((size_t)attrs, sizeof *p->names);
    p->w = zs_calloc(n + (size_t)attrs, 2 * sizeof *p->w);
    if (!p->names || !p->w)
        return zs_fail_nomem(err, 8ull * (n + (size_t)attrs), "a probe");
    p->b = p->w + n;
    p->avg_w = p->b + attrs;
    p->avg_b = p->avg_w + n;
    return ZS_OK;
}

int zs_probe_new(zs_probe **out, const char *const *names, int attrs, int64_t dim, zs_error *err)
{
    int status = alloc_probe(out, attrs, dim, err);
    for (int i = 0; status == ZS_OK && i < attrs; i++)
        if (!((*out)->names[i] = zs_str_dup(names[i])))
            status = zs_fail_nomem(err, strlen(names[i]), "the name of an attribute");
    if (status < 0)
        zs_probe_free(out);
    return status;
}

static bool same_letters(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if (tolower((unsigned char)*a) != tolower((unsigned char)*b))
            return false;
    return *a == *b;
}

int zs_probe_find(const zs_probe *p, const char *name, zs_error *err)
{
    zs_strbuf known = {0};
    for (int i = 0; i < p->attrs; i++)
        if (strcmp(p->names[i], name) == 0)
            return i;
    for (int i = 0; i < p->attrs; i++)
        if (same_letters(p->names[i], name))
            return i;
    for (int i = 0; i < p->attrs; i++)
        zs_strbuf_addf(&known, " %s", p->names[i]);
    int status =
        zs_fail(err, ZS_E_INVALID, "there is no attribute '%s'; the probe of this model has%s",
                name, known.s ? known.s : "");
    zs_strbuf_free(&known);
    return status;
}

static double logit(const zs_probe *p, int attr, const float *z)
{
    const float *w = p->avg_w + attr * p->dim;
    double sum = (double)p->avg_b[attr];
    for (int64_t i = 0; i < p->dim; i++)
        sum += (double)w[i] * (double)z[i];
    return sum;
}

void zs_probe_logits(const zs_probe *p, float *logits, const float *z)
{
    for (int i = 0; i < p->attrs; i++)
        logits[i] = (float)logit(p, i, z);
}

double zs_probe_probability(const zs_probe *p, int attr, const float *z)
{
    return 1.0 / (1.0 + exp(-logit(p, attr, z)));
}

void zs_probe_move(const zs_probe *p, int attr, double amount, float *z)
{
    const float *w = p->w + attr * p->dim;
    double square = 0.0;
    for (int64_t i = 0; i < p->dim; i++)
        square += (double)w[i] * (double)w[i];
    if (square <= 0.0)
        return;
    double step = amount * sqrt((double)p->dim) / sqrt(square);
    for (int64_t i = 0; i < p->dim; i++)
        z[i] = (float)((double)z[i] + step * (double)w[i]);
}

void zs_probe_take_directions(zs_probe *p, const zs_probe *from)
{
    memcpy(p->w, from->avg_w, (size_t)p->attrs * (size_t)p->dim * sizeof *p->w);
    memcpy(p->b, from->avg_b, (size_t)p->attrs * sizeof *p->b);
}

zs_probe_tensor zs_probe_tensor_at(const zs_probe *p, int i)
{
    static const char *const names[TENSORS] = {"probe.weight", "probe.bias", "probe.ema_weight",
                                               "probe.ema_bias"};
    float *const data[TENSORS] = {p->w, p->b, p->avg_w, p->avg_b};
    return (zs_probe_tensor){names[i], i % 2 ? 1 : 2, {p->attrs, i % 2 ? 0 : p->dim}, data[i]};
}

/* ---- from files ---- */

static int read_tensor(float *dst, zs_tensorfile *f, const char *name, const zs_probe *p, int i,
                       zs_error *err)
{
    zs_probe_tensor want = zs_probe_tensor_at(p, i);
    size_t n = (size_t)p->attrs * (want.nd == 2 ? (size_t)p->dim : 1);
    long at = zs_tensorfile_find(f, name);
    const zs_tensorinfo *info = at < 0 ? NULL : zs_tensorfile_info(f, (size_t)at);
    if (!info || info->nd != want.nd || (size_t)info->numel != n || info->shape[0] != p->attrs)
        return zs_fail(
            err, ZS_E_FORMAT,
            "%s: tensor %s of the probe is missing or does not fit codes of %lld numbers",
            zs_tensorfile_path(f), name, (long long)p->dim);
    int status = zs_tensorfile_read_f32(f, (size_t)at, dst, n, err);
    for (size_t k = 0; status == ZS_OK && k < n; k++)
        if (!isfinite(dst[k]))
            status = zs_fail(err, ZS_E_FORMAT, "%s: tensor %s holds a number that is not finite",
                             zs_tensorfile_path(f), name);
    return status;
}

static int read_all(zs_probe **out, zs_tensorfile *f, const char *const tensors[TENSORS],
                    int64_t dim, zs_error *err)
{
    const zs_tensorinfo *w = zs_tensorfile_info(f, (size_t)zs_tensorfile_find(f, tensors[0]));
    if (w->nd != 2 || w->shape[0] < 1 || w->shape[0] > ATTRS_MAX || w->shape[1] != dim)
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: tensor %s does not fit codes of %lld numbers; the files belong to "
                       "different models",
                       zs_tensorfile_path(f), tensors[0], (long long)dim);
    int status = alloc_probe(out, (int)w->shape[0], dim, err);
    for (int i = 0; status == ZS_OK && i < TENSORS; i++)
        status = read_tensor(zs_probe_tensor_at(*out, i).data, f, tensors[i], *out, i, err);
    return status;
}

static int name_attributes(zs_probe *p, const json_t *names, zs_error *err)
{
    for (int i = 0; i < p->attrs; i++) {
        const char *given = json_string_value(json_array_get(names, (size_t)i));
        if (given)
            p->names[i] = zs_str_dup(given);
        else
            p->names[i] =
                p->attrs == CELEBA ? zs_str_dup(celeba[i]) : zs_str_format("attribute-%d", i);
        if (!p->names[i])
            return zs_fail_nomem(err, 32, "the name of an attribute");
    }
    return ZS_OK;
}

int zs_probe_read_official(zs_probe **out, zs_tensorfile *f, int64_t dim, zs_error *err)
{
    static const char *const tensors[2][TENSORS] = {
        {"state_dict.classifier.weight", "state_dict.classifier.bias",
         "state_dict.ema_classifier.weight", "state_dict.ema_classifier.bias"},
        {"classifier.weight", "classifier.bias", "ema_classifier.weight", "ema_classifier.bias"}};
    int k = 0;
    *out = NULL;
    while (k < 2 && zs_tensorfile_find(f, tensors[k][0]) < 0)
        k++;
    if (k == 2)
        return 1;
    int status = read_all(out, f, tensors[k], dim, err);
    if (status == ZS_OK)
        status = name_attributes(*out, NULL, err);
    if (status < 0)
        zs_probe_free(out);
    return status;
}

int zs_probe_read_bundle(zs_probe **out, zs_tensorfile *f, const json_t *meta, int64_t dim,
                         zs_error *err)
{
    static const char *const tensors[TENSORS] = {"probe.weight", "probe.bias", "probe.ema_weight",
                                                 "probe.ema_bias"};
    *out = NULL;
    if (zs_tensorfile_find(f, tensors[0]) < 0)
        return 1;
    int status = read_all(out, f, tensors, dim, err);
    if (status == ZS_OK)
        status = name_attributes(
            *out, json_object_get(json_object_get(meta, "probe"), "attributes"), err);
    if (status < 0)
        zs_probe_free(out);
    return status;
}

json_t *zs_probe_to_json(const zs_probe *p)
{
    json_t *names = json_array();
    for (int i = 0; names && i < p->attrs; i++)
        if (json_array_append_new(names, zs_json_text(p->names[i])) != 0) {
            json_decref(names);
            return NULL;
        }
    return json_pack("{s:o}", "attributes", names); /* NULL fails the pack */
}
