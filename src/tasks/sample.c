/* SPDX-License-Identifier: MIT */
/* zsem sample: new images. noise -> prior -> z_sem; noise = x_T; (z_sem, x_T) -> image. */
#include "comm/comm.h"
#include "tasks/drawcodes.h"
#include "tasks/output.h"
#include "tasks/pipeline.h"
#include "tasks/place.h"
#include "tasks/span.h"
#include "tasks/strip.h"

#include <string.h>

enum { GRID_MAX = 256, PRIOR_BATCH = 250, PRIOR_STEPS = 20, LONG_STEPS = 250 };

typedef struct sample {
    zs_task_env *env;
    zs_comm *comm; /* ranks that share the images; NULL: this process alone */
    zs_part rows;  /* images of this one */
    zs_model *m;
    const char *dir;
    int64_t n, e, dim; /* images, floats of one, numbers of a code */
    zs_shape xs;       /* of one batch */
    uint64_t seed;
    float *z;    /* [n,dim]; NULL for a model without codes */
    int64_t *y;  /* [n] classes that the generator is told, or NULL */
    zs_box told; /* what --class tells its class: prior, generator, or the probe */
    int64_t prior_steps;
    double prior_eta;
    float *x;    /* one batch */
    float *grid; /* the first GRID_MAX images */
    int64_t tried;
    zs_attr_list wanted;
    zs_strip strip; /* of the first batch */
    zs_span_progress span;
    zs_generation g;
} sample;

/* ---- set up ---- */

/* What is asked for, or what the authors sample networks that learned their variance with: ADM,
 * whose x0 is clipped, by ddim, DiT by ddpm. */
static const char *sampler_name(const sample *s, bool learned)
{
    bool clip = zs_model_configuration(s->m)->diffusion.clip;
    if (zs_opt_given(s->env, "sampler") || !learned || clip)
        return zs_opt_text(s->env, "sampler");
    return "ddpm";
}

static int find_sampler(sample *s)
{
    bool learned = zs_model_config_learns_variance(zs_model_configuration(s->m));
    const char *name = sampler_name(s, learned);
    s->g.sampler = zs_sampler_find(name);
    if (!s->g.sampler || s->g.sampler->upward)
        return zs_fail(s->env->err, ZS_E_INVALID,
                       "--sampler %s: the samplers are ddim, ddpm, dpm++2m and heun", name);
    s->g.model = s->m;
    s->g.steps =
        learned && !zs_opt_given(s->env, "steps") ? LONG_STEPS : zs_opt_int(s->env, "steps");
    s->g.guidance = zs_opt_real(s->env, "guidance");
    s->g.eta = zs_opt_real(s->env, "eta");
    s->g.ui = &s->span.ui;
    s->g.stage = "decode";
    if (s->g.eta > 0.0 && s->g.sampler != &zs_sampler_ddim)
        return zs_fail(s->env->err, ZS_E_INVALID, "--eta is of the ddim sampler, not of %s", name);
    return zs_generation_check(&s->g, s->env->err);
}

/* Steps and noise of the prior: what is asked for, or what its authors sample with. */
static int find_prior_steps(sample *s)
{
    const zs_arch *a = zs_model_config_arch(zs_model_configuration(s->m), ZS_BOX_PRIOR, NULL);
    bool rdm = a == &zs_arch_rdm;
    int64_t n;
    s->prior_steps = zs_opt_given(s->env, "prior-steps") ? zs_opt_int(s->env, "prior-steps")
                     : rdm                               ? LONG_STEPS
                                                         : PRIOR_STEPS;
    s->prior_eta = zs_opt_given(s->env, "prior-eta") ? zs_opt_real(s->env, "prior-eta") : rdm;
    const zs_generation g = {.model = s->m, .sampler = &zs_sampler_ddim, .steps = s->prior_steps};
    return s->dim ? zs_generation_steps(&n, &g, ZS_BOX_PRIOR, s->env->err) : ZS_OK;
}

/* Codes are chosen among those that the prior draws. */
static bool is_choosy(const sample *s)
{
    return zs_opt_given(s->env, "attr") ||
           (zs_opt_given(s->env, "class") && s->told == ZS_BOX_PROBE);
}

/* A prior that knows classes is told; else a generator that does; else the probe chooses. */
static int find_class(sample *s)
{
    int64_t k = zs_opt_int(s->env, "class"), classes = 0;
    const zs_box boxes[] = {ZS_BOX_PRIOR, ZS_BOX_GENERATOR};
    s->told = ZS_BOX_PROBE;
    for (int i = 1; i >= 0; i--)
        if (zs_class_count(s->m, boxes[i]) > 0 && (i || s->dim)) {
            s->told = boxes[i];
            classes = zs_class_count(s->m, boxes[i]);
        }
    if (s->told != ZS_BOX_PROBE && zs_opt_given(s->env, "class") && k >= classes)
        return zs_fail(s->env->err, ZS_E_INVALID,
                       "--class %lld: the %s of %s knows %lld classes, counted from 0",
                       (long long)k, zs_box_name(s->told), zs_arg(s->env, 0), (long long)classes);
    return ZS_OK;
}

static int check_codes(const sample *s)
{
    const char *spec = zs_arg(s->env, 0);
    if (s->dim > 0 && !zs_model_has(s->m, ZS_BOX_PRIOR))
        return zs_fail(
            s->env->err, ZS_E_INVALID,
            "%s: new images need a prior that draws codes, and this model has none; make "
            "one with zsem train prior, or vary an image with zsem vary",
            spec);
    if (s->dim > 0 && !zs_can_denormalise(s->m))
        return zs_fail(
            s->env->err, ZS_E_INVALID,
            "%s: the statistics of the codes are missing; join the file that holds them, "
            "as in last.ckpt,latent.pkl",
            spec);
    if (zs_opt_flag(s->env, "predict-x0") && zs_model_has(s->m, ZS_BOX_FIRST_STAGE))
        return zs_fail(s->env->err, ZS_E_INVALID,
                       "%s: --predict-x0 shows images, and this generator works on latents", spec);
    if (s->dim == 0 && is_choosy(s))
        return zs_fail(s->env->err, ZS_E_INVALID,
                       "%s: --attr and --class need a model with codes or classes, and this one "
                       "has neither",
                       spec);
    return ZS_OK;
}

/* --class for that box; -1: each sample has its own. */
static int64_t class_for(const sample *s, zs_box box)
{
    return zs_opt_given(s->env, "class") && s->told == box ? zs_opt_int(s->env, "class") : -1;
}

static int allocate(sample *s)
{
    int64_t batch = s->xs.d[0], shown = s->n < GRID_MAX ? s->n : GRID_MAX;
    s->x = zs_alloc((size_t)batch, (size_t)s->e * sizeof *s->x);
    s->grid = zs_alloc((size_t)shown, (size_t)s->e * sizeof *s->grid);
    s->z = s->dim ? zs_alloc((size_t)s->n, (size_t)s->dim * sizeof *s->z) : NULL;
    int64_t classes = zs_class_count(s->m, ZS_BOX_GENERATOR);
    s->y = classes ? zs_alloc((size_t)s->n, sizeof *s->y) : NULL;
    if (s->y)
        zs_draw_classes(s->y, s->n, class_for(s, ZS_BOX_GENERATOR), classes, s->seed, 0);
    if (!s->x || !s->grid || (s->dim && !s->z) || (classes && !s->y))
        return zs_fail_nomem(s->env->err, (unsigned long long)((batch + shown) * s->e) * 4,
                             "images; lower --batch");
    return ZS_OK;
}

/* --class K: the attribute of that number, as classes are numbered. */
static int want_class(sample *s)
{
    zs_attr_list *wanted = &s->wanted;
    const zs_probe *p = zs_model_probe(s->m);
    int64_t k = zs_opt_int(s->env, "class");
    if (!p)
        return zs_fail(s->env->err, ZS_E_INVALID,
                       "--class needs a prior or generator that knows classes (zsem train prior "
                       "--class-cond), or a probe (zsem train probe)");
    if (k >= p->attrs)
        return zs_fail(s->env->err, ZS_E_INVALID,
                       "--class %lld: the model's probe has %d classes, counted from 0",
                       (long long)k, p->attrs);
    if (wanted->n == ZS_ATTRS_MAX)
        return zs_fail(s->env->err, ZS_E_INVALID, "--class and --attr: at most %d at once",
                       (int)ZS_ATTRS_MAX);
    wanted->at[wanted->n++] = (zs_attr_choice){(int)k, 1.0};
    return ZS_OK;
}

/* Codes that the probe chooses. */
static int find_wanted(sample *s)
{
    int status = s->dim ? zs_attributes(&s->wanted, s->env, s->m, 1.0) : ZS_OK;
    bool class = zs_opt_given(s->env, "class") && s->told == ZS_BOX_PROBE;
    return status == ZS_OK && class ? want_class(s) : status;
}

static int open_sample(sample *s)
{
    zs_image_shape shape;
    int status = zs_pipeline_open(&s->m, s->env, zs_arg(s->env, 0), ZS_BOX_GENERATOR, false);
    if (status == ZS_OK)
        status = zs_pipeline_image_shape(&shape, s->m, zs_arg(s->env, 0), s->env->err);
    if (status < 0)
        return status;
    s->n = zs_opt_int(s->env, "n");
    zs_ports p;
    (void)zs_model_config_ports(zs_model_configuration(s->m), ZS_BOX_GENERATOR, &p);
    s->dim = p.z_dim;
    s->seed = (uint64_t)zs_opt_int(s->env, "seed");
    int64_t batch = zs_opt_int(s->env, "batch");
    s->xs = zs_shape4(batch < s->n ? batch : s->n, shape.size, shape.size, shape.channels);
    s->e = (int64_t)shape.size * shape.size * shape.channels;
    status = find_class(s);
    if (status == ZS_OK)
        status = check_codes(s);
    if (status == ZS_OK)
        status = find_sampler(s);
    if (status == ZS_OK)
        status = find_prior_steps(s);
    if (status == ZS_OK)
        status = find_wanted(s);
    if (status == ZS_OK)
        status = zs_output_folder(s->dir, s->env->err);
    return status == ZS_OK ? allocate(s) : status;
}

/* ---- work ---- */

/* By rank 0 for all: which codes a probe accepts must not depend on the machine. */
static int draw_codes(sample *s)
{
    zs_code_draw d = {.model = s->m,
                      .steps = s->prior_steps,
                      .eta = s->prior_eta,
                      .seed = s->seed,
                      .batch = PRIOR_BATCH,
                      .wanted = s->wanted,
                      .cls = class_for(s, ZS_BOX_PRIOR),
                      .ui = s->env->ui};
    size_t bytes = (size_t)(s->n * s->dim) * sizeof *s->z;
    int status = ZS_OK;
    if (zs_comm_rank(s->comm) == 0)
        status = zs_draw_codes(s->z, &s->tried, s->n, &d, s->env->err);
    status = zs_comm_agree_at_last(s->comm, status, s->env->err);
    return status < 0 ? status : zs_comm_broadcast(s->comm, s->z, bytes, s->env->err);
}

static int write_images(sample *s, int64_t first, int64_t n)
{
    char name[40];
    int status = ZS_OK;
    for (int64_t i = 0; status == ZS_OK && i < n; i++) {
        (void)snprintf(name, sizeof name, "%06lld.png", (long long)(first + i));
        status = zs_output_image(s->dir, name, s->x + i * s->e, s->xs, s->env->err);
        if (first + i < GRID_MAX)
            memcpy(s->grid + (first + i) * s->e, s->x + i * s->e, (size_t)s->e * sizeof *s->x);
    }
    return status;
}

static int run_batch(sample *s, int64_t first, int64_t n)
{
    zs_shape xs = s->xs;
    zs_generation g = s->g;
    bool strip = first == 0 && zs_opt_flag(s->env, "predict-x0");
    xs.d[0] = n;
    g.noise = (zs_noise){.seed = s->seed, .first = (uint64_t)first};
    g.cond.z = s->z ? s->z + first * s->dim : NULL;
    g.cond.y = s->y ? s->y + first : NULL;
    zs_span_begin(&s->span, (double)(first - s->rows.begin), (double)n);
    int status = strip ? zs_strip_begin(&s->strip, g.steps, s->e, n, s->env->err) : ZS_OK;
    if (strip) {
        g.watch = zs_strip_watch;
        g.watch_ctx = &s->strip;
    }
    if (status == ZS_OK)
        status = zs_generate_images(&g, s->x, xs, s->env->err);
    if (status == ZS_OK && strip)
        status = zs_strip_write(&s->strip, s->dir, xs, s->env->err);
    return status < 0 ? status : write_images(s, first, n);
}

static int run_batches(sample *s)
{
    int64_t batch = s->xs.d[0], shown = s->n < GRID_MAX ? s->n : GRID_MAX;
    int status = ZS_OK;
    s->rows = zs_comm_rows(s->comm, s->n, batch);
    s->span = (zs_span_progress){.parent = s->env->ui,
                                 .stage = "sample",
                                 .unit = "images",
                                 .total = (double)(s->rows.end - s->rows.begin)};
    for (int64_t i = s->rows.begin; status == ZS_OK && i < s->rows.end; i += batch)
        status = run_batch(s, i, s->rows.end - i < batch ? s->rows.end - i : batch);
    return zs_comm_collect(s->comm, s->grid, s->n, batch, shown, (size_t)s->e * sizeof *s->grid,
                           status, s->env->err);
}

static int write_grid(const sample *s)
{
    int64_t shown = s->n < GRID_MAX ? s->n : GRID_MAX, cols = 1;
    zs_shape xs = s->xs;
    xs.d[0] = shown;
    while (cols * cols < shown)
        cols++;
    return zs_output_grid(s->dir, "grid.png", s->grid, xs, (int)cols, s->env->err);
}

static void report(sample *s)
{
    zs_result_set(s->env, "out", zs_json_text(s->dir));
    zs_result_set(s->env, "images", json_integer(s->n));
    zs_result_set(s->env, "sampler", json_string(s->g.sampler->name));
    zs_result_set(s->env, "steps", json_integer(s->g.steps));
    zs_strbuf_addf(s->env->text, "%s/grid.png: %lld images, %s with %lld steps\n", s->dir,
                   (long long)s->n, s->g.sampler->name, (long long)s->g.steps);
    if (is_choosy(s)) {
        double rate = (double)s->n / (double)s->tried;
        zs_result_set(s->env, "codes_drawn", json_integer(s->tried));
        zs_result_set(s->env, "acceptance_rate", json_real(rate));
        zs_strbuf_addf(s->env->text, "%lld of %lld codes were accepted (%.2f%%)\n", (long long)s->n,
                       (long long)s->tried, 100.0 * rate);
    }
    if (zs_opt_flag(s->env, "predict-x0"))
        zs_strbuf_addf(s->env->text, "%s/predict-x0.png: x0 as predicted from t=%lld to t=%lld\n",
                       s->dir, (long long)s->strip.t[0], (long long)s->strip.t[s->strip.cols - 1]);
}

static int run(zs_task_env *env)
{
    sample s = {.env = env, .comm = zs_comm_world(), .dir = zs_opt_text(env, "out")};
    int status = zs_place_output(env, s.dir, open_sample(&s));
    if (status == ZS_OK && s.z)
        status = draw_codes(&s);
    if (status == ZS_OK)
        status = run_batches(&s);
    bool leads = zs_comm_rank(s.comm) == 0;
    if (status == ZS_OK && leads)
        status = write_grid(&s);
    if (status == ZS_OK && leads)
        report(&s);
    zs_strip_free(&s.strip);
    zs_free(s.z);
    zs_free(s.y);
    zs_free(s.x);
    zs_free(s.grid);
    zs_model_close(&s.m);
    return status;
}

static const zs_option options[] = {
    {"n", ZS_OPTION_INT, "N", "64", 1, 1e9, "images"},
    {"steps", ZS_OPTION_INT, "T", "20", 1, 1000000,
     "steps of the generator; 250 where it learned a variance"},
    {"prior-steps", ZS_OPTION_INT, "S", "20", 1, 1000000, "steps of the prior; an rdm's 250"},
    {"prior-eta", ZS_OPTION_REAL, "X", "0", 0, 1, "their noise: 0 none; an rdm's 1"},
    {"sampler", ZS_OPTION_TEXT, "NAME", "ddim", 0, 0, "ddim, ddpm, dpm++2m or heun; a DiT's ddpm"},
    {"eta", ZS_OPTION_REAL, "X", "0", 0, 1, "noise of ddim: 0 none, 1 as much as ddpm"},
    {"guidance", ZS_OPTION_REAL, "W", "1", -1000, 1000,
     "away from what is predicted without the representation, or the class; 1: no guidance"},
    {"attr", ZS_OPTION_LIST, "NAME", NULL, 0, 0,
     "only what the probe calls NAME, by rejection; NAME=0: only what it does not"},
    {"class", ZS_OPTION_INT, "K", NULL, 0, 1048575,
     "only class number K, from 0: of a prior or generator that knows classes, else of the probe"},
    {"predict-x0", ZS_OPTION_FLAG, NULL, NULL, 0, 0,
     "also draw what the network took x0 for on the way"},
    {"out", ZS_OPTION_TEXT, "DIR", "samples", 0, 0, "folder for the images and grid.png"},
    ZS_MODEL_OPTIONS,
    ZS_OPTIONS_END};

static const char *const examples[] = {
    "zsem sample last.ckpt,latent.pkl -n 64 --steps 100 --out new",
    "zsem sample runs/probe -n 16 --attr Smiling --attr Eyeglasses=0 --seed 7",
    "zsem sample runs/generator,runs/rdm --class 3 --prior-steps 250",
    "zsem sample ddpm.ckpt --sampler ddpm --steps 1000",
    "mpirun -n 4 zsem sample last.ckpt,latent.pkl -n 5000 --out new",
    NULL};

const zs_task zs_task_sample = {
    {"sample", "MODEL [-n N] [--steps T] [--attr NAME]... [--out DIR] [options]",
     "draw new images: a code from the prior, x_T from noise",
     "Image i of a seed is the same whatever -n and --batch are. A model without codes (a DDPM)\n"
     "starts from x_T alone. Where a class can be asked for and none is, each image has one of "
     "its\n"
     "own.",
     1, 1, options, examples},
    run};
