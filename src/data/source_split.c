/* SPDX-License-Identifier: MIT */
/* "SRC:train=0.95", "SRC:val=0.05": a part of another source, chosen by name.
 *
 * An image's place in [0,1) is a hash of its name without extension, so that it stays in its part
 * when images are added, converted or packed. ":train=S" takes the places below S, ":val=S" those
 * from 1-S on. */
#include "data/sourcekind.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const double default_val = 0.05;

typedef struct split_source {
    zs_source *whole;
    int64_t *index; /* images of the part, ascending */
} split_source;

/* What follows the last colon: "train", "val=0.1". */
typedef struct part {
    size_t base;       /* length of what is before the colon */
    bool val, test;    /* else train */
    const char *share; /* text behind '=', or NULL */
} part;

static bool parse_part(part *p, const char *spec)
{
    const char *colon = strrchr(spec, ':');
    if (!colon || colon == spec)
        return false;
    const char *name = colon + 1, *eq = strchr(name, '=');
    size_t n = eq ? (size_t)(eq - name) : strlen(name);
    *p = (part){.base = (size_t)(colon - spec), .share = eq ? eq + 1 : NULL};
    p->val = n == 3 && memcmp(name, "val", 3) == 0;
    p->test = n == 4 && memcmp(name, "test", 4) == 0;
    return p->val || p->test || (n == 5 && memcmp(name, "train", 5) == 0);
}

/* A bare part of a set that has its own parts is for that set to open. */
static bool claims_split(const char *spec)
{
    part p;
    if (!parse_part(&p, spec) || access(spec, F_OK) == 0)
        return false;
    if (p.share)
        return true;
    char *base = zs_str_format("%.*s", (int)p.base, spec);
    const zs_source_kind *kind = base ? zs_source_kind_of(base) : NULL;
    zs_free(base);
    return kind && !kind->has_parts;
}

static void close_split(void *self)
{
    split_source *x = self;
    if (!x)
        return;
    zs_source_close(&x->whole);
    zs_free(x->index);
    zs_free(x);
}

static double place_of(const char *name)
{
    const char *slash = strrchr(name, '/'), *dot = strrchr(name, '.');
    size_t n = dot && dot > (slash ? slash + 1 : name) ? (size_t)(dot - name) : strlen(name);
    uint64_t h = zs_source_hash(ZS_SOURCE_HASH, name, n);
    /* the finaliser of MurmurHash3: FNV alone leaves the high bits of short names alike */
    h = (h ^ (h >> 33)) * 0xFF51AFD7ED558CCDu;
    h = (h ^ (h >> 33)) * 0xC4CEB9FE1A85EC53u;
    h ^= h >> 33;
    return (double)(h >> 11) * 0x1p-53;
}

static int choose(zs_source *s, split_source *x, const part *p, double share, zs_error *err)
{
    int64_t n = zs_source_count(x->whole);
    x->index = zs_alloc((size_t)n, sizeof *x->index);
    if (!x->index)
        return zs_fail_nomem(err, (unsigned long long)n * sizeof *x->index, "the images of a part");
    for (int64_t i = 0; i < n; i++) {
        char buf[64];
        double u = place_of(zs_source_name(x->whole, i, buf, sizeof buf));
        if (p->val ? u >= 1.0 - share : u < share)
            x->index[s->count++] = i;
    }
    return ZS_OK;
}

static int copy_classes(zs_source *s, const zs_source *whole, zs_error *err)
{
    int n = zs_source_class_count(whole);
    if (n == 0)
        return ZS_OK;
    s->class_names = zs_calloc((size_t)n, sizeof *s->class_names);
    s->class_count = s->class_names ? n : 0;
    for (int k = 0; k < s->class_count; k++)
        if (!(s->class_names[k] = zs_str_dup(zs_source_class_name(whole, k))))
            return zs_fail_nomem(err, 64, "a class name");
    return s->class_names ? ZS_OK
                          : zs_fail_nomem(err, (size_t)n * sizeof *s->class_names, "classes");
}

static int check_part(double *share, const part *p, const char *spec, zs_error *err)
{
    if (p->test)
        return zs_fail(err, ZS_E_INVALID,
                       "%s: this set has no test part of its own; hold images back with "
                       "\"%.*s:val=0.05\" and train on \"%.*s:train=0.95\"",
                       spec, (int)p->base, spec, (int)p->base, spec);
    *share = p->val ? default_val : 1.0 - default_val;
    if (p->share && (!zs_str_to_f64(p->share, share) || !(*share > 0.0 && *share < 1.0)))
        return zs_fail(err, ZS_E_INVALID,
                       "%s: \"%s\" is no share of the images; it must be above 0 and below 1", spec,
                       p->share);
    return ZS_OK;
}

static int open_split(zs_source *s, const char *spec, zs_error *err)
{
    part p = {0};
    double share = 0.0;
    parse_part(&p, spec);
    int status = check_part(&share, &p, spec, err);
    if (status < 0)
        return status;
    split_source *x = zs_calloc(1, sizeof *x);
    char *base = zs_str_format("%.*s", (int)p.base, spec);
    s->self = x;
    if (!x || !base)
        status = zs_fail_nomem(err, strlen(spec), "a data source");
    if (status == ZS_OK)
        status = zs_source_open(&x->whole, base, err);
    if (status == ZS_OK)
        status = choose(s, x, &p, share, err);
    if (status == ZS_OK)
        status = copy_classes(s, x->whole, err);
    if (status == ZS_OK && s->count == 0)
        status = zs_fail(err, ZS_E_INVALID,
                         "%s: none of the %lld images falls into this part; take a larger share",
                         spec, (long long)zs_source_count(x->whole));
    zs_free(base);
    if (status < 0)
        return status;
    s->fingerprint = zs_source_hash_i64(zs_source_fingerprint(x->whole), p.val ? 1 : 2);
    s->fingerprint = zs_source_hash_i64(s->fingerprint, (int64_t)(share * 1e15));
    return ZS_OK;
}

static int read_split(const void *self, int64_t i, int channels, zs_image *out, zs_error *err)
{
    const split_source *x = self;
    return zs_source_read(x->whole, x->index[i], channels, out, err);
}

static const char *name_split(const void *self, int64_t i, char *buf, size_t cap)
{
    const split_source *x = self;
    return zs_source_name(x->whole, x->index[i], buf, cap);
}

static int label_split(const void *self, int64_t i)
{
    const split_source *x = self;
    return zs_source_label(x->whole, x->index[i]);
}

static int encoded_split(const void *self, int64_t i, uint8_t **bytes, size_t *n, zs_error *err)
{
    const split_source *x = self;
    return zs_source_encoded(x->whole, x->index[i], bytes, n, err);
}

const zs_source_kind zs_source_split = {
    "SRC:train=SHARE and SRC:val=SHARE",
    claims_split,
    open_split,
    close_split,
    read_split,
    name_split,
    label_split,
    "part of a data set",
    encoded_split,
    false,
};
