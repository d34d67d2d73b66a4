/* SPDX-License-Identifier: MIT */
/* From an operation graph to plans that may be used. */
#include "backend/cuda/dnn_desc.h"

#include <stdlib.h>
#include <string.h>

enum { OFFERS = 64, NOTES = 16, KNOBS = 24 };

static int describe(zs_dnn_target *out, cudnnBackendAttributeName_t name,
                    cudnnBackendAttributeType_t type, int64_t n, const void *value, zs_error *err)
{
    *out = (zs_dnn_target){0};
    cudnnStatus_t s =
        cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &out->properties);
    if (s == CUDNN_STATUS_SUCCESS)
        s = cudnnBackendSetAttribute(out->properties, name, type, n, value);
    if (s == CUDNN_STATUS_SUCCESS)
        s = cudnnBackendFinalize(out->properties);
    if (s == CUDNN_STATUS_SUCCESS)
        return ZS_OK;
    zs_dnn_target_free(out);
    return zs_fail(err, ZS_E_FORMAT, "cuDNN cannot read the description of a device: %s",
                   cudnnGetErrorString(s));
}

int zs_dnn_target_new(zs_dnn_target *out, const char *json, zs_error *err)
{
    return describe(out, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                    (int64_t)strlen(json) + 1, json, err); /* with the final NUL */
}

int zs_dnn_target_of(zs_dnn_target *out, cudnnHandle_t handle, zs_error *err)
{
    return describe(out, CUDNN_ATTR_DEVICEPROP_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle, err);
}

void zs_dnn_target_free(zs_dnn_target *t)
{
    if (t->properties)
        (void)cudnnBackendDestroyDescriptor(t->properties);
    t->properties = NULL;
}

static int64_t get(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                   cudnnBackendAttributeType_t type, int64_t n, void *out)
{
    int64_t got = 0;
    return cudnnBackendGetAttribute(d, name, type, n, &got, out) == CUDNN_STATUS_SUCCESS ? got : 0;
}

/* The engine of a configuration, which the caller destroys, or NULL. */
static cudnnBackendDescriptor_t engine_of(cudnnBackendDescriptor_t config)
{
    cudnnBackendDescriptor_t e = NULL;
    if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &e) != CUDNN_STATUS_SUCCESS)
        return NULL;
    if (get(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &e) == 1)
        return e;
    (void)cudnnBackendDestroyDescriptor(e);
    return NULL;
}

/* Appends "2=5," for each setting. */
static void knobs_text(char *text, size_t n, cudnnBackendDescriptor_t config)
{
    cudnnBackendDescriptor_t knob[KNOBS] = {NULL};
    int64_t made = 0, got = 0;
    while (made < KNOBS && cudnnBackendCreateDescriptor(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR,
                                                        &knob[made]) == CUDNN_STATUS_SUCCESS)
        made++;
    got = get(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, made, knob);
    for (int64_t i = 0; i < got && i < made; i++) {
        cudnnBackendKnobType_t type = CUDNN_KNOB_TYPE_COUNTS;
        int64_t value = 0;
        (void)get(knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
        (void)get(knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &value);
        size_t at = strlen(text);
        (void)snprintf(text + at, n - at, "%s%d=%lld", i ? "," : "", (int)type, (long long)value);
    }
    for (int64_t i = 0; i < made; i++)
        (void)cudnnBackendDestroyDescriptor(knob[i]);
}

/* Engines that are left out, by number: those of ZSEM_CUDNN_DENY, as "62,7". */
static bool denied(int64_t engine)
{
    const char *list = getenv("ZSEM_CUDNN_DENY");
    while (list && *list) {
        char *end;
        long long number = strtoll(list, &end, 10);
        if (end == list)
            return false;
        if (number == engine)
            return true;
        list = *end ? end + 1 : end;
    }
    return false;
}

/* The numerics of an engine: the same bits each time, products of the type that was asked for and
 * sums in f32. On f32 tensors the tensor cores would round to TF32 first. */
static bool precise(cudnnBackendDescriptor_t engine, const zs_dnn_problem *p)
{
    cudnnBackendNumericalNote_t note[NOTES];
    int64_t n =
        get(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, NOTES, note);
    for (int64_t i = 0; i < n && i < NOTES; i++)
        switch (note[i]) {
        case CUDNN_NUMERICAL_NOTE_TENSOR_CORE:
            if (p->f32)
                return false;
            break;
        case CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP: break;
        default: return false; /* the rest lose precision, or order */
        }
    return true;
}

/* Kernels that are compiled when the plan is made take up to a second each, too long for the many
 * convolutions of a network, and int8 filters are no matter of ours. */
static bool ready(cudnnBackendDescriptor_t engine, const zs_dnn_problem *p)
{
    cudnnBackendBehaviorNote_t note[NOTES];
    int64_t n = get(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE, NOTES, note);
    for (int64_t i = 0; i < n && i < NOTES; i++)
        if ((note[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION && !p->compiled) ||
            note[i] == CUDNN_BEHAVIOR_NOTE_REQUIRES_FILTER_INT8x32_REORDER ||
            note[i] == CUDNN_BEHAVIOR_NOTE_REQUIRES_BIAS_INT8x32_REORDER)
            return false;
    return true;
}

/* Writes the tag of a configuration; false when it may not be used. */
static bool acceptable(char tag[ZS_DNN_TAG], cudnnBackendDescriptor_t config,
                       const zs_dnn_problem *p)
{
    int64_t number = -1;
    cudnnBackendDescriptor_t engine = engine_of(config);
    if (!engine)
        return false;
    (void)get(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &number);
    bool ok = number >= 0 && !denied(number) && precise(engine, p) && ready(engine, p);
    (void)cudnnBackendDestroyDescriptor(engine);
    if (!ok)
        return false;
    (void)snprintf(tag, ZS_DNN_TAG, "%lld:", (long long)number);
    knobs_text(tag, ZS_DNN_TAG, config);
    return true;
}

static cudnnStatus_t make_plan(zs_dnn_plan *p, cudnnBackendDescriptor_t config,
                               const zs_dnn_target *t)
{
    int64_t bytes = -1;
    cudnnStatus_t s =
        cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &p->desc);
    if (s == CUDNN_STATUS_SUCCESS)
        s = cudnnBackendSetAttribute(p->desc, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
                                     CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &config);
    if (s == CUDNN_STATUS_SUCCESS && t->handle)
        s = cudnnBackendSetAttribute(p->desc, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE,
                                     1, &t->handle);
    if (s == CUDNN_STATUS_SUCCESS && t->properties)
        s = cudnnBackendSetAttribute(p->desc, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP,
                                     CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &t->properties);
    if (s == CUDNN_STATUS_SUCCESS)
        s = cudnnBackendFinalize(p->desc);
    if (s == CUDNN_STATUS_SUCCESS)
        (void)get(p->desc, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &bytes);
    if (bytes < 0) {
        zs_dnn_plan_free(p);
        return s == CUDNN_STATUS_SUCCESS ? CUDNN_STATUS_INTERNAL_ERROR : s;
    }
    p->workspace = (size_t)bytes;
    return CUDNN_STATUS_SUCCESS;
}

static void leave(zs_dnn_graph *g)
{
    if (!g || --g->users > 0)
        return;
    zs_dnn_graph_free(g);
    zs_free(g);
}

void zs_dnn_plan_free(zs_dnn_plan *p)
{
    if (p->desc)
        (void)cudnnBackendDestroyDescriptor(p->desc);
    if (p->config)
        (void)cudnnBackendDestroyDescriptor(p->config);
    leave(p->graph);
    p->desc = p->config = NULL;
    p->graph = NULL;
}

/* What the heuristics offer for a graph, best guess first; returns how many. The results may be
 * fewer than they count beforehand, so the count that comes with them holds. */
static int64_t offers(zs_dnn_graph *g, cudnnBackendDescriptor_t graph, const zs_dnn_target *t,
                      cudnnBackendHeurMode_t mode, cudnnBackendDescriptor_t config[OFFERS])
{
    int64_t made = 0, got = 0;
    cudnnBackendDescriptor_t h = zs_dnn_make(g, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    zs_dnn_set_desc(g, h, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    zs_dnn_set(g, h, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (t->properties)
        zs_dnn_set_desc(g, h, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, t->properties);
    zs_dnn_finish(g, h);
    while (g->status == CUDNN_STATUS_SUCCESS && made < OFFERS &&
           cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &config[made]) ==
               CUDNN_STATUS_SUCCESS)
        made++;
    if (made > 0)
        got = get(h, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, made, config);
    if (got > made)
        got = made;
    while (made > got)
        (void)cudnnBackendDestroyDescriptor(config[--made]);
    return got;
}

/* What is looked for, and what has been found. */
typedef struct search {
    const zs_dnn_problem *p;
    const zs_dnn_target *t;
    size_t limit;
    const char *tag;
    zs_dnn_graph *g;
    zs_dnn_plan *out;
    int have, max;
    zs_dnn_tally tally;
} search;

/* True: the configuration belongs to a plan now. */
static bool take(search *s, cudnnBackendDescriptor_t config)
{
    zs_dnn_plan p = {.desc = NULL};
    if (!acceptable(p.tag, config, s->p) || (s->tag && strcmp(s->tag, p.tag) != 0)) {
        s->tally.refused++;
        return false;
    }
    cudnnStatus_t made = make_plan(&p, config, s->t);
    if (made != CUDNN_STATUS_SUCCESS) {
        s->tally.unusable++;
        s->tally.unloaded += made == CUDNN_STATUS_EXECUTION_FAILED_CUDA_DRIVER;
        return false;
    }
    if (p.workspace > s->limit) {
        s->tally.too_large++;
        zs_dnn_plan_free(&p);
        return false;
    }
    p.config = config;
    p.graph = s->g;
    s->g->users++;
    s->out[s->have++] = p;
    return true;
}

static void ask(search *s, cudnnBackendDescriptor_t graph, cudnnBackendHeurMode_t mode)
{
    cudnnBackendDescriptor_t config[OFFERS] = {NULL};
    s->g->status = CUDNN_STATUS_SUCCESS; /* heuristics that know nothing of a graph fail */
    int64_t n = offers(s->g, graph, s->t, mode, config);
    s->tally.offered += (int)n;
    for (int64_t i = 0; i < n; i++)
        if (s->have == s->max || !take(s, config[i]))
            (void)cudnnBackendDestroyDescriptor(config[i]);
}

int zs_dnn_search(zs_dnn_plan *out, int max, const zs_dnn_problem *p, const zs_dnn_target *t,
                  size_t limit, const char *tag, zs_dnn_tally *tally)
{
    search s = {.p = p, .t = t, .limit = limit, .tag = tag, .out = out, .max = max};
    s.g = zs_calloc(1, sizeof *s.g);
    if (!s.g)
        return 0;
    s.g->users = 1;
    cudnnBackendDescriptor_t graph = p->graph(s.g, p->what, t);
    if (graph)
        ask(&s, graph, CUDNN_HEUR_MODE_A);
    if (graph && s.have == 0)
        ask(&s, graph, CUDNN_HEUR_MODE_FALLBACK);
    leave(s.g);
    if (tally)
        *tally = s.tally;
    return s.have;
}

int zs_dnn_plans(zs_dnn_plan *out, int max, const zs_cuda_conv *c, const zs_dnn_target *t,
                 size_t limit, const char *tag, zs_dnn_tally *tally)
{
    zs_dnn_problem p = {.graph = zs_dnn_conv_graph, .what = c, .f32 = c->type == ZS_F32};
    return zs_dnn_search(out, max, &p, t, limit, tag, tally);
}

cudnnStatus_t zs_dnn_execute(const zs_dnn_plan *p, cudnnHandle_t handle, int n, const int64_t *ids,
                             const void *const *pointers, void *ws)
{
    zs_dnn_graph g = {0};
    cudnnBackendDescriptor_t pack = zs_dnn_make(&g, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    zs_dnn_set(&g, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, ids);
    zs_dnn_set(&g, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, pointers);
    zs_dnn_set(&g, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &ws);
    zs_dnn_finish(&g, pack);
    cudnnStatus_t s = g.status;
    if (s == CUDNN_STATUS_SUCCESS)
        s = cudnnBackendExecute(handle, p->desc, pack);
    zs_dnn_graph_free(&g);
    return s;
}

cudnnStatus_t zs_dnn_run(const zs_dnn_plan *p, cudnnHandle_t handle, void *x, void *w, void *y,
                         const void *b, void *ws)
{
    const int64_t ids[4] = {ZS_DNN_X, ZS_DNN_W, ZS_DNN_Y, ZS_DNN_B};
    const void *pointers[4] = {x, w, y, b};
    return zs_dnn_execute(p, handle, b ? 4 : 3, ids, pointers, ws);
}
