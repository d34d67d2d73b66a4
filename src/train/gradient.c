/* SPDX-License-Identifier: MIT */
#include "train/gradient.h"
#include "models/prior.h"

#include <math.h>
#include <string.h>

struct zs_gradient {
    zs_gradient_config c;
    zs_schedule schedule;
    zs_exec *exec;
    double loss;          /* of the pieces that are done */
    int64_t numel;        /* of one image or code */
    int64_t target_numel; /* of one target */
    int64_t *t;           /* NULL for classes, as noise */
    float *noise;
    zs_ports ports; /* of the network that is conditioned */
    float *drop;    /* [batch], or NULL */
    int64_t *y;     /* [batch], or NULL */
    /* inputs of the graph, NULL where it has none of them: x0 where no encoder is trained, no
     * variance learned and noise predicted; target where x0 is predicted; steps where no variance
     * is learned; x_t and t for classes; weights where all timesteps count alike */
    float *in_x0, *in_xt, *in_target, *in_t, *in_steps, *in_z, *in_y, *in_drop;
    float *in_weights;
};

void zs_gradient_free(zs_gradient **g)
{
    if (!*g)
        return;
    zs_schedule_free(&(*g)->schedule);
    zs_exec_free(&(*g)->exec);
    zs_free((*g)->t);
    zs_free((*g)->noise);
    zs_free((*g)->drop);
    zs_free((*g)->y);
    zs_free(*g);
    *g = NULL;
}

static int64_t largest_divisor(int64_t n, int64_t most)
{
    int64_t d = most < n ? most : n;
    while (d > 1 && n % d != 0)
        d--;
    return d;
}

static int check_batch(zs_gradient_config *c, zs_error *err)
{
    if (c->batch < 1 || c->batch > 1 << 20)
        return zs_fail(err, ZS_E_INVALID, "a batch of %lld images: use 1 to 1048576",
                       (long long)c->batch);
    if (c->micro == 0)
        c->micro = c->batch;
    if (c->micro < 1 || c->micro > c->batch || c->batch % c->micro != 0)
        return zs_fail(
            err, ZS_E_INVALID,
            "a batch of %lld images cannot be cut into micro-batches of %lld: use --micro-batch "
            "%lld or another divisor",
            (long long)c->batch, (long long)c->micro,
            (long long)largest_divisor(c->batch, c->micro > 0 ? c->micro : 1));
    return ZS_OK;
}

static int build(zs_graph **graph, const zs_gradient_config *c, zs_error *err)
{
    const zs_model_config *m = c->model;
    zs_shape xs = zs_model_config_states(m, c->micro);
    if (c->objective == ZS_OBJECTIVE_CODES)
        return zs_prior_graph_build(graph, c->layout, m, c->micro, c->dropout, err);
    return zs_train_graph_build(graph, c->layout, m, xs, c->dropout, c->t_weight > 1.0, err);
}

/* Before each time that they are written: what is asked for is what a remote backend gets. */
static void find_inputs(zs_gradient *g)
{
    bool classes = g->c.objective == ZS_OBJECTIVE_CLASSES;
    g->in_x0 = zs_exec_input(g->exec, "x0");
    g->in_xt = zs_exec_input(g->exec, "x_t");
    g->in_target = zs_exec_input(g->exec, classes ? "target" : "noise");
    g->in_t = zs_exec_input(g->exec, "t");
    g->in_steps = zs_exec_input(g->exec, "steps");
    g->in_weights = zs_exec_input(g->exec, "weights");
    g->in_z = zs_exec_input(g->exec, "z");
    g->in_y = zs_exec_input(g->exec, "y");
    g->in_drop = zs_exec_input(g->exec, "drop");
}

static int plan(zs_gradient *g, zs_error *err)
{
    bool classes = g->c.objective == ZS_OBJECTIVE_CLASSES;
    zs_exec_config ec = {.backend = g->c.backend,
                         .flags = g->c.exec_flags,
                         .hook = g->c.hook,
                         .hook_ctx = g->c.hook_ctx};
    zs_graph *graph = NULL;
    int status = build(&graph, &g->c, err);
    if (status == ZS_OK)
        status = zs_exec_new(&g->exec, &graph, &ec, err);
    if (status < 0)
        return status;
    status = zs_reduce_watch(g->c.reduce, g->exec, err);
    if (status < 0)
        return status;
    find_inputs(g);
    if (g->c.t_weight > 1.0 && !g->in_weights && !g->in_steps)
        return zs_fail(err, ZS_E_INVALID,
                       "--set t_weight=%g: timesteps can be weighted only in the loss of a "
                       "generator",
                       g->c.t_weight);
    bool diffuses = g->in_xt && g->in_t;
    if ((!g->in_target && !g->in_x0) || diffuses == classes || !zs_exec_output(g->exec, "loss"))
        return zs_fail(err, ZS_E_INTERNAL, "the training graph lacks an input");
    return ZS_OK;
}

static void measure(zs_gradient *g)
{
    const zs_model_config *m = g->c.model;
    zs_shape states = zs_model_config_states(m, 1);
    g->numel =
        g->c.objective == ZS_OBJECTIVE_CODES ? zs_model_config_z_dim(m) : zs_shape_numel(&states);
    (void)zs_model_config_ports(
        m, g->c.objective == ZS_OBJECTIVE_CODES ? ZS_BOX_PRIOR : ZS_BOX_GENERATOR, &g->ports);
    g->target_numel = g->c.objective == ZS_OBJECTIVE_CLASSES ? m->classes : g->numel;
}

/* What zs_gradient_draw fills. */
static int make_noise(zs_gradient *g, zs_error *err)
{
    const zs_model_config *m = g->c.model;
    const zs_process_config *p = g->c.objective == ZS_OBJECTIVE_CODES ? &m->latent : &m->diffusion;
    if (g->c.objective == ZS_OBJECTIVE_CLASSES)
        return ZS_OK;
    g->t = zs_alloc((size_t)g->c.batch, sizeof *g->t);
    g->noise = zs_alloc((size_t)(g->c.batch * g->numel), sizeof(float));
    if (g->ports.z_drop > 0.0)
        g->drop = zs_alloc((size_t)g->c.batch, sizeof *g->drop);
    if (g->ports.y_drop > 0.0)
        g->y = zs_alloc((size_t)g->c.batch, sizeof *g->y);
    if (!g->t || !g->noise || (g->ports.z_drop > 0.0 && !g->drop) ||
        (g->ports.y_drop > 0.0 && !g->y))
        return zs_fail_nomem(err, (unsigned long long)(g->c.batch * g->numel) * sizeof(float),
                             "noise; use a smaller --batch");
    return zs_schedule_make(&g->schedule, p->beta_schedule, p->T, err);
}

int zs_gradient_new(zs_gradient **out, const zs_gradient_config *c, zs_error *err)
{
    *out = NULL;
    zs_gradient *g = zs_calloc(1, sizeof *g);
    if (!g)
        return zs_fail_nomem(err, sizeof *g, "a training graph");
    g->c = *c;
    measure(g);
    int status = check_batch(&g->c, err);
    if (status == ZS_OK)
        status = make_noise(g, err);
    if (status == ZS_OK)
        status = plan(g, err);
    if (status < 0)
        zs_gradient_free(&g);
    *out = g;
    return status;
}

typedef struct draw_job {
    zs_gradient *g;
    int64_t first;
    const int64_t *y; /* the classes as they are, or NULL */
} draw_job;

/* Two numbers of one counter: whether z, and whether y is left out. */
static void draw_absent(const draw_job *j, int64_t i)
{
    zs_gradient *g = j->g;
    zs_rng r = {g->c.seed, ZS_RNG_ABSENT, (uint64_t)(j->first + i), 0};
    float u[2];
    zs_rng_uniform(u, 2, &r, 0);
    if (g->drop)
        g->drop[i] = (double)u[0] < g->ports.z_drop ? 1.0f : 0.0f;
    if (g->y && j->y)
        g->y[i] = (double)u[1] < g->ports.y_drop ? g->ports.classes - 1 : j->y[i];
}

static void draw_range(void *ctx, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const draw_job *j = ctx;
    zs_gradient *g = j->g;
    for (int64_t i = begin; i < end; i++) {
        zs_rng r = {g->c.seed, ZS_RNG_TIMESTEP, (uint64_t)(j->first + i), 0};
        g->t[i] = (int64_t)zs_rng_below(&r, (uint64_t)g->schedule.n);
        r.purpose = ZS_RNG_NOISE;
        zs_rng_normal(g->noise + i * g->numel, (size_t)g->numel, &r, 0);
        if (g->drop || g->y)
            draw_absent(j, i);
    }
}

void zs_gradient_draw(zs_gradient *g, zs_train_batch *b)
{
    draw_job j = {g, b->first, b->cond.y};
    zs_parallel_for(g->c.batch, 1, draw_range, &j);
    b->t = g->t;
    b->target = g->noise;
    b->cond.drop = g->drop;
    if (g->y && b->cond.y)
        b->cond.y = g->y;
}

/* How often a sample at timestep t counts: "truncated SNR" of Salimans and Ho 2022, which weighs
 * the error of x0 by max(1, SNR) and so that of eps by max(1, 1/SNR), up to a ceiling. */
static double weight_of(const zs_gradient *g, int64_t t)
{
    double abar = g->schedule.abar[t];
    return fmin(fmax(1.0, g->c.t_weight), fmax(1.0, (1.0 - abar) / abar));
}

typedef struct fill_job {
    zs_gradient *g;
    const zs_train_batch *b;
    int64_t at; /* first sample of the piece */
} fill_job;

/* Noisy sample i of the piece, and what is said of its timestep. */
static void fill_noisy(const fill_job *j, int64_t i)
{
    zs_gradient *g = j->g;
    int64_t k = j->at + i, t = j->b->t[k];
    g->in_t[i] = (float)t;
    if (g->in_steps) {
        float *row = g->in_steps + i * ZS_BOUND_NUMBERS;
        zs_bound_row(row, &g->schedule, t);
        row[4] = (float)weight_of(g, t);
    }
    if (g->in_weights)
        g->in_weights[i] = (float)weight_of(g, t);
    zs_q_sample(g->in_xt + i * g->numel, j->b->x + k * g->numel, j->b->target + k * g->target_numel,
                g->schedule.abar[t], (size_t)g->numel);
}

static void copy_row(float *dst, const float *src, int64_t to, int64_t from, int64_t n)
{
    if (dst)
        memcpy(dst + to * n, src + from * n, (size_t)n * sizeof *dst);
}

static void fill_range(void *ctx, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const fill_job *j = ctx;
    zs_gradient *g = j->g;
    const zs_cond *cond = &j->b->cond;
    for (int64_t i = begin; i < end; i++) {
        int64_t k = j->at + i;
        copy_row(g->in_x0, j->b->x, i, k, g->numel);
        copy_row(g->in_target, j->b->target, i, k, g->target_numel);
        copy_row(g->in_z, cond->z, i, k, g->ports.z_dim);
        if (g->in_t)
            fill_noisy(j, i);
        if (g->in_y)
            g->in_y[i] = cond->y ? (float)cond->y[k] : 0.0f;
        if (g->in_drop)
            g->in_drop[i] = cond->drop ? cond->drop[k] : 0.0f;
    }
}

/* Samples from `at` on, as many as the graph takes. All threads: a device waits for this. */
static void fill_inputs(zs_gradient *g, const zs_train_batch *b, int64_t at)
{
    fill_job j = {g, b, at};
    find_inputs(g);
    zs_parallel_for(g->c.micro, 1, fill_range, &j);
}

/* A conditional network without its conditions would read what is not there. */
static int check_conditions(const zs_gradient *g, const zs_train_batch *b, zs_error *err)
{
    if ((g->in_z && !b->cond.z) || (g->in_y && !b->cond.y && g->ports.classes > 1))
        return zs_fail(err, ZS_E_INVALID, "the network is conditioned on %s, which the batch lacks",
                       g->in_z && !b->cond.z ? "representations" : "classes");
    for (int64_t i = 0; g->in_y && b->cond.y && i < g->c.batch; i++)
        if (b->cond.y[i] < 0 || b->cond.y[i] >= g->ports.classes)
            return zs_fail(err, ZS_E_INVALID, "class %lld is outside 0..%lld of the network",
                           (long long)b->cond.y[i], (long long)g->ports.classes - 1);
    return ZS_OK;
}

/* Of each piece: its share of the whole batch. */
static float grad_scale(const zs_gradient *g)
{
    return (float)g->c.micro / (float)(g->c.whole ? g->c.whole : g->c.batch);
}

/* Waits for the piece that runs, and adds its share of the loss. */
static int take_loss(zs_gradient *g, zs_error *err)
{
    int status = zs_exec_wait(g->exec, err);
    if (status == ZS_OK)
        g->loss += (double)grad_scale(g) * (double)zs_exec_output(g->exec, "loss")[0];
    return status;
}

int zs_gradient_start(zs_gradient *g, const zs_train_state *s, const zs_train_batch *b,
                      zs_error *err)
{
    const zs_buffers buffers = zs_train_state_buffers(s);
    zs_step step = {.seed = g->c.seed, .step = (uint64_t)s->step, .grad_scale = grad_scale(g)};
    g->loss = 0.0;
    int status = check_conditions(g, b, err);
    for (int64_t at = 0; status == ZS_OK && at < g->c.batch; at += g->c.micro) {
        if (at > 0)
            status = take_loss(g, err);
        if (status < 0)
            break;
        fill_inputs(g, b, at);
        step.sample = g->c.part + at;
        if (at + g->c.micro == g->c.batch)
            zs_reduce_begin(g->c.reduce, s->b.grad);
        status = zs_exec_start(g->exec, &buffers, &step, err);
    }
    return zs_reduce_end(g->c.reduce, s->b.grad, status, err);
}

int zs_gradient_finish(zs_gradient *g, double *loss, zs_error *err)
{
    int status = take_loss(g, err);
    *loss = g->loss;
    return status;
}

int zs_gradient_run(zs_gradient *g, const zs_train_state *s, const zs_train_batch *b, double *loss,
                    zs_error *err)
{
    *loss = 0.0;
    int status = zs_gradient_start(g, s, b, err);
    return status == ZS_OK ? zs_gradient_finish(g, loss, err) : status;
}

size_t zs_gradient_arena_bytes(const zs_gradient *g)
{
    return zs_exec_arena_bytes(g->exec);
}
