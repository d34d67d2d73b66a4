/* SPDX-License-Identifier: MIT */
#include "tasks/drawcodes.h"
#include "train/generate.h"

#include <string.h>

/* Fewer than one code in so many is no sampling any more, but a probe that knows nothing like
 * it. */
enum { HOPELESS = 2000 };

static double probability(const zs_code_draw *d, const float *z)
{
    const zs_probe *p = zs_model_probe(d->model);
    double all = 1.0;
    for (int k = 0; k < d->wanted.n; k++) {
        double one = zs_probe_probability(p, d->wanted.at[k].attr, z);
        all *= d->wanted.at[k].amount > 0 ? one : 1.0 - one;
    }
    return all;
}

/* Code number i is kept when its own uniform number is below p(y|z). */
static bool keep(const zs_code_draw *d, const float *z, int64_t i)
{
    float u;
    zs_rng r = {.seed = d->seed, .purpose = ZS_RNG_ACCEPT, .index = (uint64_t)i};
    if (d->wanted.n == 0)
        return true;
    zs_rng_uniform(&u, 1, &r, 0);
    return (double)u < probability(d, z);
}

void zs_draw_classes(int64_t *y, int64_t n, int64_t cls, int64_t classes, uint64_t seed,
                     int64_t first)
{
    for (int64_t i = 0; i < n; i++) {
        zs_rng r = {.seed = seed, .purpose = ZS_RNG_CLASS, .index = (uint64_t)(first + i)};
        y[i] = cls >= 0 ? cls : (int64_t)zs_rng_below(&r, (uint64_t)classes);
    }
}

int64_t zs_class_count(const zs_model *m, zs_box box)
{
    zs_ports p;
    (void)zs_model_config_ports(zs_model_configuration(m), box, &p);
    return p.classes - (p.y_drop > 0);
}

/* The next batch of normalised codes. Noise of the sampler has another seed than that of images. */
static int draw(const zs_code_draw *d, float *z, int64_t first, zs_error *err)
{
    int64_t dim = zs_model_config_z_dim(zs_model_configuration(d->model));
    int64_t classes = zs_class_count(d->model, ZS_BOX_PRIOR);
    int64_t *y = classes ? zs_alloc((size_t)d->batch, sizeof *y) : NULL;
    const zs_generation g = {.model = d->model,
                             .sampler = &zs_sampler_ddim,
                             .steps = d->steps,
                             .eta = d->eta,
                             .cond = {.y = y},
                             .noise = {.seed = ~d->seed, .first = (uint64_t)first},
                             .stage = "prior"};
    if (classes && !y)
        return zs_fail_nomem(err, (unsigned long long)d->batch * sizeof *y, "classes");
    if (y)
        zs_draw_classes(y, d->batch, d->cls, classes, d->seed, first);
    zs_draw_code(z, d->batch, dim, d->seed, (uint64_t)first);
    int status = zs_generate_codes(&g, z, d->batch, err);
    zs_free(y);
    return status;
}

static int report(const zs_code_draw *d, int64_t kept, int64_t n, int64_t tried, zs_error *err)
{
    if (tried >= (kept + 10) * (int64_t)HOPELESS)
        return zs_fail(err, ZS_E_INVALID,
                       "of %lld codes that the prior drew, the probe accepted %lld: it has nothing "
                       "like this attribute, or the probe is not sure enough of anything",
                       (long long)tried, (long long)kept);
    return zs_ui_progress(
        d->ui, &(zs_progress){"draw codes", (double)kept, (double)n, "codes", NULL}, err);
}

int zs_draw_codes(float *z, int64_t *tried, int64_t n, const zs_code_draw *d, zs_error *err)
{
    size_t dim = (size_t)zs_model_config_z_dim(zs_model_configuration(d->model));
    float *batch = zs_alloc((size_t)d->batch, dim * sizeof *batch);
    int64_t kept = 0;
    int status =
        batch ? ZS_OK : zs_fail_nomem(err, (unsigned long long)d->batch * dim * 4, "codes");
    *tried = 0;
    while (status == ZS_OK && kept < n) {
        status = draw(d, batch, *tried, err);
        int64_t i = 0;
        for (; status == ZS_OK && i < d->batch && kept < n; i++)
            if (keep(d, batch + (size_t)i * dim, *tried + i))
                memcpy(z + (size_t)kept++ * dim, batch + (size_t)i * dim, dim * sizeof *z);
        *tried += i;
        if (status == ZS_OK)
            status = report(d, kept, n, *tried, err);
    }
    zs_free(batch);
    return status < 0 ? status : zs_denormalise_codes(d->model, z, n, err);
}
