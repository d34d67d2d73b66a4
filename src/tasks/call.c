/* SPDX-License-Identifier: MIT */
/* One call of a task: arguments collected and checked against the option tables, then run. */
#include "tasks/call.h"

#include "backend/cpu/conv.h"
#include "comm/comm.h"
#include "graph/graph.h"
#include "tasks/place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct value {
    const zs_option *option;
    char *text; /* owned */
} value;

struct zs_task_call {
    const zs_task *task;
    char **args; /* owned strings */
    size_t n_args, cap_args;
    value *values; /* in the order given */
    size_t n_values, cap_values;
};

const zs_option *zs_task_common_options(void)
{
    static const zs_option common[] = {
        {"seed", ZS_OPTION_INT, "N", "0", 0, 9007199254740992.0, "seed of everything random"},
        {"threads", ZS_OPTION_INT, "N", "0", 0, ZS_THREADS_MAX,
         "threads; 0 is one per core, or, with several ranks on "
         "a machine, this one's share of them"},
        {"device", ZS_OPTION_TEXT, "NAME", "cpu", 0, 0,
         "cpu, cpu-ref (the plain reference kernels), cuda, or cuda-f32 (in single precision)"},
        {"conv", ZS_OPTION_TEXT, "KIND", "winograd", 0, 0,
         "fastest kind of convolution to use: winograd, direct or reference (double sums)"},
        {NULL, ZS_OPTION_FLAG, NULL, NULL, 0, 0, NULL}};
    return common;
}

static const zs_option *find_option(const zs_task *t, const char *name)
{
    const zs_option *tables[2] = {t->info.options, zs_task_common_options()};
    for (int k = 0; k < 2; k++)
        for (const zs_option *o = tables[k]; o && o->name; o++)
            if (strcmp(o->name, name) == 0)
                return o;
    return NULL;
}

int zs_task_call_new(zs_task_call **out, const char *task, zs_error *err)
{
    *out = NULL;
    const zs_task *t = zs_task_lookup(task);
    if (!t) {
        zs_strbuf names = {0};
        for (size_t i = 0; zs_task_at(i); i++)
            zs_strbuf_addf(&names, " %s", zs_task_at(i)->name);
        zs_fail(err, ZS_E_INVALID, "there is no command '%s'; the commands are%s", task,
                names.s ? names.s : "");
        zs_strbuf_free(&names);
        return ZS_E_INVALID;
    }
    *out = zs_calloc(1, sizeof **out);
    if (!*out)
        return zs_fail_nomem(err, sizeof **out, "a call");
    (*out)->task = t;
    return ZS_OK;
}

void zs_task_call_free(zs_task_call **c)
{
    if (!*c)
        return;
    for (size_t i = 0; i < (*c)->n_args; i++)
        zs_free((*c)->args[i]);
    for (size_t i = 0; i < (*c)->n_values; i++)
        zs_free((*c)->values[i].text);
    zs_free((*c)->args);
    zs_free((*c)->values);
    zs_free(*c);
    *c = NULL;
}

void zs_task_result_clear(zs_task_result *r)
{
    zs_free(r->json);
    zs_free(r->text);
    *r = (zs_task_result){0};
}

int zs_task_call_add(zs_task_call *c, const char *text, zs_error *err)
{
    const zs_task_info *info = &c->task->info;
    if (info->max_args >= 0 && c->n_args >= (size_t)info->max_args)
        return zs_fail(err, ZS_E_INVALID, "%s: '%s' is one argument too many; usage: zsem %s %s",
                       info->name, text, info->name, info->usage);
    void *items = c->args;
    char *copy = zs_str_dup(text);
    if (!copy || !zs_grow(&items, &c->cap_args, c->n_args, sizeof *c->args)) {
        zs_free(copy);
        return zs_fail_nomem(err, strlen(text), "an argument");
    }
    c->args = items;
    c->args[c->n_args++] = copy;
    return ZS_OK;
}

static const char *dashes(const zs_option *o)
{
    return o->name[1] ? "--" : "-";
}

static int check_value(const zs_task *t, const zs_option *o, const char *text, zs_error *err)
{
    int64_t i = 0;
    double v = 0.0;
    if (o->type == ZS_OPTION_FLAG)
        return text ? zs_fail(err, ZS_E_INVALID, "%s: %s%s takes no value", t->info.name, dashes(o),
                              o->name)
                    : ZS_OK;
    if (!text)
        return zs_fail(err, ZS_E_INVALID, "%s: %s%s needs a value: %s%s %s", t->info.name,
                       dashes(o), o->name, dashes(o), o->name, o->metavar);
    if (o->type == ZS_OPTION_INT &&
        (!zs_str_to_i64(text, &i) || (double)i < o->min || (double)i > o->max))
        return zs_fail(err, ZS_E_INVALID, "%s: %s%s must be an integer from %.0f to %.0f, not '%s'",
                       t->info.name, dashes(o), o->name, o->min, o->max, text);
    if (o->type == ZS_OPTION_REAL && (!zs_str_to_f64(text, &v) || v < o->min || v > o->max))
        return zs_fail(err, ZS_E_INVALID, "%s: %s%s must be a number from %g to %g, not '%s'",
                       t->info.name, dashes(o), o->name, o->min, o->max, text);
    return ZS_OK;
}

int zs_task_call_set(zs_task_call *c, const char *option, const char *text, zs_error *err)
{
    const zs_option *o = find_option(c->task, option);
    if (!o)
        return zs_fail(err, ZS_E_INVALID, "%s: there is no option --%s; see zsem %s --help",
                       c->task->info.name, option, c->task->info.name);
    int status = check_value(c->task, o, text, err);
    if (status < 0)
        return status;
    void *items = c->values;
    char *copy = zs_str_dup(text ? text : "1");
    if (!copy || !zs_grow(&items, &c->cap_values, c->n_values, sizeof *c->values)) {
        zs_free(copy);
        return zs_fail_nomem(err, sizeof *c->values, "an option");
    }
    c->values = items;
    c->values[c->n_values++] = (value){o, copy};
    return ZS_OK;
}

size_t zs_arg_count(const zs_task_env *env)
{
    return env->call->n_args;
}

const char *zs_arg(const zs_task_env *env, size_t i)
{
    return env->call->args[i];
}

/* The k-th value of an option from the end: 0 is the last one given. */
static const char *given_from_end(const zs_task_env *env, const char *name, size_t k)
{
    for (size_t i = env->call->n_values; i-- > 0;)
        if (strcmp(env->call->values[i].option->name, name) == 0 && k-- == 0)
            return env->call->values[i].text;
    return NULL;
}

bool zs_opt_given(const zs_task_env *env, const char *name)
{
    return given_from_end(env, name, 0) != NULL;
}

const char *zs_opt_text(const zs_task_env *env, const char *name)
{
    const char *s = given_from_end(env, name, 0);
    const zs_option *o = s ? NULL : find_option(env->call->task, name);
    return s ? s : o ? o->def : NULL;
}

bool zs_opt_flag(const zs_task_env *env, const char *name)
{
    return zs_opt_given(env, name);
}

int64_t zs_opt_int(const zs_task_env *env, const char *name)
{
    int64_t v = 0;
    const char *s = zs_opt_text(env, name);
    return s && zs_str_to_i64(s, &v) ? v : 0;
}

double zs_opt_real(const zs_task_env *env, const char *name)
{
    double v = 0.0;
    const char *s = zs_opt_text(env, name);
    return s && zs_str_to_f64(s, &v) ? v : 0.0;
}

size_t zs_opt_list_count(const zs_task_env *env, const char *name)
{
    size_t n = 0;
    while (given_from_end(env, name, n))
        n++;
    return n;
}

const char *zs_opt_list(const zs_task_env *env, const char *name, size_t i)
{
    return given_from_end(env, name, zs_opt_list_count(env, name) - 1 - i);
}

int zs_opt_only(const zs_task_env *env, const char *who, const char *used)
{
    char key[64];
    for (const zs_option *o = env->call->task->info.options; o && o->name; o++) {
        (void)snprintf(key, sizeof key, " %s ", o->name);
        if (zs_opt_given(env, o->name) && !strstr(used, key))
            return zs_fail(env->err, ZS_E_INVALID, "%s has no use for %s%s", who, dashes(o),
                           o->name);
    }
    return ZS_OK;
}

void zs_result_set(zs_task_env *env, const char *key, json_t *v)
{
    if (json_object_set_new(env->result, key, v) != 0)
        env->text->failed = true; /* the one sticky failure that run() checks */
}

static int set_conv(const zs_task_env *env)
{
    static const struct {
        const char *name;
        zs_conv_path path;
    } kinds[] = {{"winograd", ZS_CONV_WINOGRAD},
                 {"direct", ZS_CONV_DIRECT},
                 {"reference", ZS_CONV_REFERENCE}};
    const char *kind = zs_opt_text(env, "conv");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(kind, kinds[i].name) == 0) {
            zs_conv_path_set(kinds[i].path);
            return ZS_OK;
        }
    }
    return zs_fail(env->err, ZS_E_INVALID,
                   "%s: --conv '%s' is not one of winograd, direct, reference",
                   env->call->task->info.name, kind);
}

/* The commands that share their work with other ranks. */
static bool shares_work(const zs_task *t)
{
    static const char *const names[] = {"train", "encode", "sample"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(t->info.name, names[i]) == 0)
            return true;
    return false;
}

static int set_environment(const zs_task_env *env)
{
    const zs_comm *comm = zs_comm_world();
    int threads = (int)zs_opt_int(env, "threads");
    if (zs_comm_size(comm) > 1 && !shares_work(env->call->task))
        return zs_fail(env->err, ZS_E_INVALID,
                       "%s: works in one process, and %d were started; leave mpirun or srun out",
                       env->call->task->info.name, zs_comm_size(comm));
    zs_place_threads(env, threads);
    int status = zs_place_device(env);
    return status == ZS_OK ? set_conv(env) : status;
}

static int hand_over(zs_task_env *env, zs_task_result *out)
{
    char *json = json_dumps(env->result, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    if (!json || env->text->failed) {
        free(json);
        return zs_fail_nomem(env->err, 0, "the result");
    }
    out->json = zs_str_dup(json);
    free(json);
    out->text = env->text->s ? zs_str_dup(env->text->s) : NULL;
    if (!out->json || (env->text->s && !out->text)) {
        zs_task_result_clear(out);
        return zs_fail_nomem(env->err, env->text->n, "the result");
    }
    return ZS_OK;
}

int zs_task_run(zs_task_call *c, const zs_ui *ui, zs_task_result *out, zs_error *err)
{
    const zs_task_info *info = &c->task->info;
    zs_error local = {0};
    zs_strbuf text = {0};
    zs_task_env env = {
        .call = c, .ui = ui, .result = json_object(), .text = &text, .err = err ? err : &local};
    *out = (zs_task_result){0};
    int status = ZS_OK;
    if (!env.result)
        status = zs_fail_nomem(env.err, 64, "the result");
    else if (c->n_args < (size_t)info->min_args)
        status = zs_fail(env.err, ZS_E_INVALID, "%s: something is missing; usage: zsem %s %s",
                         info->name, info->name, info->usage);
    else
        status = set_environment(&env);
    if (status == ZS_OK)
        status = c->task->run(&env);
    zs_exec_warn(ui);
    if (status == ZS_OK)
        status = hand_over(&env, out);
    status = zs_comm_agree_at_last(zs_comm_world(), status, env.err);
    json_decref(env.result);
    zs_strbuf_free(&text);
    return status;
}
