/* SPDX-License-Identifier: MIT */
#include "models/session.h"
#include "models/model_impl.h"

#include <string.h>

/* Timesteps are prepared this many at a time, which bounds what is kept of them. */
enum { PREPARED = 32 };

/* Results of one part for several rows, side by side: row i at rows + i * width. */
typedef struct table {
    const char *input; /* "t", "z" or "y": its tensors are "<input>/0", "<input>/1", ... */
    int64_t width;
    float *rows;
} table;

/* The parts of a box's network, and the input that does not change while it is sampled from. */
typedef struct parts {
    zs_net step, time, code;
    const char *told;
} parts;

static const parts parts_of[] = {
    [ZS_BOX_GENERATOR] = {ZS_NET_GENERATOR_STEP, ZS_NET_GENERATOR_TIME, ZS_NET_GENERATOR_CODE, "z"},
    [ZS_BOX_PRIOR] = {ZS_NET_PRIOR_STEP, ZS_NET_PRIOR_TIME, ZS_NET_PRIOR_CLASS, "y"},
};

struct zs_session {
    zs_model *m;
    const parts *nets;
    zs_box box;
    zs_shape xs;
    float *y; /* [n] classes as the graph takes them, or NULL */
    float *z; /* [n,z_dim] for graphs that need more than what codes alone give, or NULL */
    int64_t z_dim;
    float *drop;     /* [n] as in zs_cond, or NULL */
    int64_t out_dim; /* floats per sample */
    uint64_t weights;
    int64_t *t; /* [steps] as announced, and room for one that was not */
    int64_t steps;
    int64_t first, count; /* entries of t that are in the time table; count 0: none */
    int64_t last;         /* the announced timestep that was used last */
    table time_rows, code_rows;
};

/* ---- parts ---- */

/* Visits the tensors of a part in e, n rows each: they are copied to or from rows of the table;
 * `stride` 0 repeats one row. */
static void copy_rows(zs_exec *e, const table *tab, bool into, int64_t first, int64_t n,
                      int64_t stride)
{
    int64_t at = 0;
    for (int k = 0;; k++) {
        char name[32];
        (void)snprintf(name, sizeof name, "%s/%d", tab->input, k);
        zs_shape s = zs_exec_shape(e, name);
        if (s.nd == 0)
            return;
        int64_t w = zs_shape_numel(&s) / s.d[0];
        for (int64_t i = 0; i < n; i++) {
            float *row = tab->rows + (first + i * stride) * tab->width + at;
            if (into)
                memcpy(zs_exec_input(e, name) + i * w, row, (size_t)w * sizeof *row);
            else
                memcpy(row, zs_exec_output(e, name) + i * w, (size_t)w * sizeof *row);
        }
        at += w;
    }
}

static int64_t width_of(const zs_exec *e, const char *input)
{
    int64_t width = 0;
    for (int k = 0;; k++) {
        char name[32];
        (void)snprintf(name, sizeof name, "%s/%d", input, k);
        zs_shape s = zs_exec_shape(e, name);
        if (s.nd == 0)
            return width;
        width += zs_shape_numel(&s) / s.d[0];
    }
}

static int run_part(const zs_session *s, zs_exec *e, zs_error *err)
{
    return zs_model_run(s->m, e, s->weights, err);
}

static int make_table(table *tab, const zs_exec *e, int64_t rows, zs_error *err)
{
    size_t floats = 0;
    tab->width = width_of(e, tab->input);
    if (tab->rows)
        return ZS_OK;
    if (!zs_mul_size((size_t)tab->width, (size_t)rows, &floats) ||
        !(tab->rows = zs_alloc(floats, sizeof(float))))
        return zs_fail_nomem(err, (unsigned long long)floats * sizeof(float),
                             "what sampling keeps of codes; use a smaller batch");
    return ZS_OK;
}

/* The smallest images that a network's graph can be built for: the parts do not look at them. */
static zs_shape part_shape(const zs_session *s, int64_t n)
{
    zs_ports p;
    (void)zs_model_config_ports(&s->m->config, s->box, &p);
    int64_t a = p.side ? p.side : p.unit;
    return s->xs.nd == 4 ? zs_shape4(n, a, a, s->xs.d[3]) : zs_shape2(n, s->xs.d[1]);
}

/* ---- codes and classes ---- */

/* What depends on v[n][dim] alone, the codes of a generator or the classes of a prior. */
static int prepare_codes(zs_session *s, const float *v, int64_t dim, zs_error *err)
{
    int64_t n = s->xs.d[0];
    int status = ZS_OK;
    for (int64_t i = 0, count; status == ZS_OK && i < n; i += count) {
        zs_exec *e = NULL;
        count = n - i < s->m->batch ? n - i : s->m->batch;
        status = zs_model_exec(&e, s->m, s->nets->code, part_shape(s, count), err);
        if (status == ZS_OK)
            status = make_table(&s->code_rows, e, n, err);
        if (status < 0)
            return status;
        memcpy(zs_exec_input(e, s->nets->told), v + i * dim, (size_t)(count * dim) * sizeof *v);
        status = run_part(s, e, err);
        if (status == ZS_OK)
            copy_rows(e, &s->code_rows, false, i, count, 1);
    }
    return status;
}

/* ---- timesteps ---- */

/* Fills the table with timesteps of s->t from `first` on; the last of them fills up the graph. */
static int prepare_times(zs_session *s, int64_t first, int64_t count, zs_error *err)
{
    zs_exec *e = NULL;
    int64_t rows = s->steps < PREPARED ? s->steps : PREPARED;
    int status = zs_model_exec(&e, s->m, s->nets->time, part_shape(s, rows), err);
    if (status == ZS_OK)
        status = make_table(&s->time_rows, e, rows, err);
    if (status < 0)
        return status;
    for (int64_t i = 0; i < rows; i++)
        zs_exec_input(e, "t")[i] = (float)s->t[first + (i < count ? i : count - 1)];
    s->count = 0;
    status = run_part(s, e, err);
    if (status < 0)
        return status;
    copy_rows(e, &s->time_rows, false, 0, count, 1);
    s->first = first;
    s->count = count;
    return ZS_OK;
}

/* Index of t among the announced ones, nearest to the last one used; -1 if it is none. */
static int64_t announced(const zs_session *s, int64_t t)
{
    for (int64_t d = 0; d < s->steps; d++) {
        if (s->last + d < s->steps && s->t[s->last + d] == t)
            return s->last + d;
        if (s->last - d >= 0 && s->t[s->last - d] == t)
            return s->last - d;
    }
    return -1;
}

/* ---- steps ---- */

static int run_piece(zs_session *s, float *out, const float *x, int64_t first, int64_t n,
                     int64_t row, zs_error *err)
{
    zs_shape xs = s->xs;
    zs_exec *e = NULL;
    int64_t x_dim = zs_shape_numel(&s->xs) / s->xs.d[0];
    xs.d[0] = n;
    int status = zs_model_exec(&e, s->m, s->nets->step, xs, err);
    if (status < 0)
        return status;
    memcpy(zs_exec_input(e, "x"), x + first * x_dim, (size_t)(n * x_dim) * sizeof *x);
    copy_rows(e, &s->time_rows, true, row, n, 0);
    if (s->code_rows.rows)
        copy_rows(e, &s->code_rows, true, first, n, 1);
    float *y = zs_exec_input(e, "y"), *z = zs_exec_input(e, "z"), *drop = zs_exec_input(e, "drop");
    if (y && s->y)
        memcpy(y, s->y + first, (size_t)n * sizeof *y);
    if (z && s->z)
        memcpy(z, s->z + first * s->z_dim, (size_t)(n * s->z_dim) * sizeof *z);
    for (int64_t i = 0; drop && i < n; i++)
        drop[i] = s->drop ? s->drop[first + i] : 0.0f;
    status = run_part(s, e, err);
    if (status == ZS_OK)
        memcpy(out + first * s->out_dim, zs_exec_output(e, "out"),
               (size_t)(n * s->out_dim) * sizeof *out);
    return status;
}

/* Row of timestep t in the time table. */
static int find_row(zs_session *s, int64_t *row, int64_t t, zs_error *err)
{
    int status = ZS_OK;
    int64_t i = announced(s, t), block = i / PREPARED * PREPARED, left = s->steps - block;
    if (i >= 0)
        s->last = i;
    if (i < 0) {
        status = zs_model_check_timestep(s->m, s->box, t, err);
        s->t[s->steps] = t;
        i = s->steps;
        if (status == ZS_OK)
            status = prepare_times(s, i, 1, err);
    } else if (i < s->first || i >= s->first + s->count) {
        status = prepare_times(s, block, left < PREPARED ? left : PREPARED, err);
    }
    *row = i - s->first;
    return status;
}

int zs_session_run(zs_session *s, float *out, const float *x, int64_t t, zs_error *err)
{
    int64_t row = 0, batch = s->m->batch;
    int status = find_row(s, &row, t, err);
    for (int64_t k = 0; status == ZS_OK && k < s->xs.d[0]; k += batch) {
        int64_t left = s->xs.d[0] - k;
        status = run_piece(s, out, x, k, left < batch ? left : batch, row, err);
    }
    return status;
}

/* ---- the life of a session ---- */

void zs_session_free(zs_session **s)
{
    if (!*s)
        return;
    zs_free((*s)->t);
    zs_free((*s)->y);
    zs_free((*s)->z);
    zs_free((*s)->drop);
    zs_free((*s)->time_rows.rows);
    zs_free((*s)->code_rows.rows);
    zs_free(*s);
    *s = NULL;
}

static int check(zs_model *m, zs_box box, zs_shape xs, const zs_cond *cond, const int64_t *t,
                 int64_t steps, zs_error *err)
{
    int status = box == ZS_BOX_PRIOR ? zs_model_check_prior(m, xs.d[0], cond->y, err)
                                     : zs_model_check_eps(m, xs, cond, err);
    if (status == ZS_OK && steps < 1)
        status = zs_fail(err, ZS_E_INVALID, "there are no timesteps to sample at");
    for (int64_t i = 0; status == ZS_OK && i < steps; i++)
        status = zs_model_check_timestep(m, box, t[i], err);
    return status;
}

/* Codes, for graphs that join them with other inputs. */
static int copy_codes(zs_session *s, const float *z, zs_error *err)
{
    s->z_dim = zs_model_config_z_dim(&s->m->config);
    size_t n = (size_t)(s->xs.d[0] * s->z_dim);
    s->z = zs_alloc(n, sizeof *s->z);
    if (!s->z)
        return zs_fail_nomem(err, (unsigned long long)n * sizeof *s->z, "codes");
    memcpy(s->z, z, n * sizeof *s->z);
    return ZS_OK;
}

/* Copies of timesteps, classes (0 where there is but one) and what is dropped. */
static int copy_lists(zs_session *s, const int64_t *t, const zs_cond *cond, bool told,
                      zs_error *err)
{
    const int64_t *y = cond->y;
    size_t n = (size_t)s->xs.d[0], steps = (size_t)s->steps;
    s->t = zs_alloc(steps + 1, sizeof *s->t); /* one more for find_row */
    if (told)
        s->y = zs_calloc(n, sizeof *s->y);
    if (cond->drop)
        s->drop = zs_alloc(n, sizeof *s->drop);
    if (!s->t || (told && !s->y) || (cond->drop && !s->drop))
        return zs_fail_nomem(err, (unsigned long long)steps * sizeof *s->t, "timesteps");
    memcpy(s->t, t, steps * sizeof *t);
    if (cond->drop)
        memcpy(s->drop, cond->drop, n * sizeof *s->drop);
    for (size_t i = 0; y && i < n; i++)
        s->y[i] = (float)y[i];
    return ZS_OK;
}

int zs_session_new(zs_session **out, zs_model *m, zs_box box, zs_shape xs, const zs_cond *cond,
                   const int64_t *t, int64_t steps, zs_error *err)
{
    static const zs_cond nothing;
    bool prior = box == ZS_BOX_PRIOR;
    zs_ports p;
    if (!cond)
        cond = &nothing;
    int status = check(m, box, xs, cond, t, steps, err);
    *out = NULL;
    if (status < 0)
        return status;
    zs_session *s = zs_alloc(1, sizeof *s);
    if (!s)
        return zs_fail_nomem(err, sizeof *s, "a session");
    (void)zs_model_config_ports(&m->config, box, &p);
    *s = (zs_session){.m = m,
                      .nets = &parts_of[box],
                      .box = box,
                      .xs = xs,
                      .out_dim = prior ? xs.d[1] : xs.d[1] * xs.d[2] * p.out_channels,
                      .weights = m->version ? m->version : zs_weights_version(),
                      .steps = steps,
                      .time_rows = {.input = "t"},
                      .code_rows = {.input = parts_of[box].told}};
    status = copy_lists(s, t, cond, p.classes > 0, err);
    if (status == ZS_OK && cond->z)
        status = copy_codes(s, cond->z, err);
    if (status == ZS_OK && cond->z && !prior)
        status = prepare_codes(s, s->z, s->z_dim, err);
    if (status == ZS_OK && s->y && prior)
        status = prepare_codes(s, s->y, 1, err);
    if (status < 0)
        zs_session_free(&s);
    *out = s;
    return status;
}
