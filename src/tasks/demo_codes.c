/* SPDX-License-Identifier: MIT */
/* The sections of zsem demo that move codes and draw new ones. */
#include "tasks/demo.h"
#include "tasks/drawcodes.h"

#include <string.h>

enum { EDIT_COLS = 7, CLASS_COLS = 8, SAMPLE_COLS = 9, PRIOR_STEPS = 100, PRIOR_BATCH = 250 };

/* How far the last column of an edit goes: plainly visible with this model. */
static const double edit_amount = 1.5;

/* Which of the real images moves towards what. */
static const struct {
    size_t image;
    const char *attribute;
} edits[] = {{1, "T-shirt/top"}, {6, "T-shirt/top"}, {1, "Dress"}, {0, "Ankle boot"}};

static const char *const classes[] = {"Trouser", "Dress", "Sandal", "Bag"};

enum { EDITS = sizeof edits / sizeof *edits, CLASSES = sizeof classes / sizeof *classes };

static int want(zs_attr_list *out, const zs_demo *d, const char *name, double amount)
{
    int at = zs_probe_find(zs_model_probe(d->m), name, d->env->err);
    *out = (zs_attr_list){.n = 1, .at = {{at, amount}}};
    return at < 0 ? at : ZS_OK;
}

/* One row of codes and x_T: column 0 is replaced by the real image later. */
static int fill_edit(zs_demo *d, size_t row)
{
    zs_attr_list attr;
    size_t image = edits[row].image;
    int status = want(&attr, d, edits[row].attribute, edit_amount);
    for (size_t k = 0; status == ZS_OK && k < EDIT_COLS; k++) {
        size_t at = row * EDIT_COLS + k;
        float *z = d->zw + at * d->dim;
        memcpy(d->work + at * d->e, d->x_T + image * d->e, d->e * sizeof(float));
        memcpy(z, d->z + image * d->dim, d->dim * sizeof(float));
        status = zs_attributes_move(&attr, d->m, z, 1, (double)k / (EDIT_COLS - 1), d->env->err);
    }
    return status;
}

int zs_demo_edit(zs_demo *d)
{
    enum { N = EDITS * EDIT_COLS };
    char text[256];
    zs_pipeline p = zs_demo_pipeline(d, "steps", "edit");
    int status = ZS_OK;
    for (size_t r = 0; status == ZS_OK && r < EDITS; r++)
        status = fill_edit(d, r);
    if (status == ZS_OK)
        status = zs_pipeline_decode(&p, d->work, zs_demo_shape(d, N), d->zw, d->env->err);
    for (size_t r = 0; r < EDITS; r++)
        memcpy(d->work + r * EDIT_COLS * d->e, d->x0 + edits[r].image * d->e, d->e * sizeof(float));
    (void)snprintf(
        text, sizeof text,
        "Left: a real image. Then its code moved, step by step up to %g; row by row towards "
        "%s, %s, %s and %s. x_T is kept.",
        edit_amount, edits[0].attribute, edits[1].attribute, edits[2].attribute,
        edits[3].attribute);
    return status < 0 ? status : zs_demo_show(d, "edit.png", N, EDIT_COLS, text);
}

/* n codes at z: any, or as the probe sees `attribute`; *rate: how many of those drawn were kept. */
static int draw(zs_demo *d, float *z, int64_t n, const char *attribute, double *rate)
{
    zs_code_draw draw = {.model = d->m,
                         .steps = PRIOR_STEPS,
                         .seed = (uint64_t)zs_opt_int(d->env, "seed"),
                         .batch = PRIOR_BATCH,
                         .cls = -1,
                         .ui = d->env->ui};
    int64_t tried = 0;
    int status = attribute ? want(&draw.wanted, d, attribute, 1.0) : ZS_OK;
    if (status == ZS_OK)
        status = zs_draw_codes(z, &tried, n, &draw, d->env->err);
    *rate = tried > 0 ? (double)n / (double)tried : 0.0;
    return status;
}

/* The first n codes of zw, each with noise of its own. */
static int decode(zs_demo *d, int64_t n, const char *stage)
{
    zs_pipeline p = zs_demo_pipeline(d, "vary-steps", stage);
    zs_draw_xt(d->work, zs_demo_shape(d, n), (uint64_t)zs_opt_int(d->env, "seed") + 2, 0);
    return zs_pipeline_decode(&p, d->work, zs_demo_shape(d, n), d->zw, d->env->err);
}

int zs_demo_sample(zs_demo *d)
{
    double rate;
    int status = draw(d, d->zw, ZS_DEMO_MOST, NULL, &rate);
    if (status == ZS_OK)
        status = decode(d, ZS_DEMO_MOST, "sample");
    return status < 0 ? status
                      : zs_demo_show(d, "sample.png", ZS_DEMO_MOST, SAMPLE_COLS,
                                     "No image to start from: the prior draws codes, the "
                                     "generator makes images of them.");
}

static void report_class(zs_strbuf *text, json_t *rates, const char *name, double rate)
{
    zs_strbuf_addf(text, " %s %.1f%%.", name, 100.0 * rate);
    json_object_set_new(rates, name, json_real(rate));
}

int zs_demo_classes(zs_demo *d)
{
    enum { N = CLASSES * CLASS_COLS };
    zs_strbuf text = {0};
    json_t *rates = json_object();
    int status = rates ? ZS_OK : zs_fail_nomem(d->env->err, 64, "the result");
    zs_strbuf_addf(&text,
                   "Codes that the prior drew, each kept with the probability that the probe "
                   "gives it for the class (rejection sampling). Kept, row by row:");
    for (size_t r = 0; status == ZS_OK && r < CLASSES; r++) {
        double rate = 0.0;
        status = draw(d, d->zw + r * CLASS_COLS * d->dim, CLASS_COLS, classes[r], &rate);
        if (status == ZS_OK)
            report_class(&text, rates, classes[r], rate);
    }
    if (status == ZS_OK)
        status = decode(d, N, "draw classes");
    if (status == ZS_OK)
        status = text.s ? zs_demo_show(d, "classes.png", N, CLASS_COLS, text.s)
                        : zs_fail_nomem(d->env->err, 256, "a caption");
    zs_result_set(d->env, "acceptance_rates", rates);
    zs_strbuf_free(&text);
    return status;
}
