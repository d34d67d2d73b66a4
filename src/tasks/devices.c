/* SPDX-License-Identifier: MIT */
#include "tasks/devices.h"
#include "io/jsontext.h"

#include "backend/cpu/isa.h"
#include "io/io.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

void zs_devices_cpu(zs_device *out)
{
    char line[256], name[sizeof out->name] = "unknown processor";
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "model name : %79[^\n]", name) == 1)
            break;
    if (f)
        fclose(f);
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    *out = (zs_device){.units = zs_threads_count()};
    memcpy(out->name, name, sizeof name);
    (void)snprintf(out->about, sizeof out->about, "instructions x86-64-%s",
                   zs_isa_name(zs_isa_get()));
    if (pages > 0 && page > 0)
        out->memory = (uint64_t)pages * (uint64_t)page;
}

static double gib(uint64_t bytes)
{
    return (double)bytes / 1073741824.0;
}

static void add(zs_task_env *env, json_t *list, const char *names, const char *units,
                const zs_device *d)
{
    json_t *j = json_pack("{s:s, s:o, s:o, s:i, s:I}", "device", names, "name",
                          zs_json_text(d->name), "about", zs_json_text(d->about), units, d->units,
                          "memory_bytes", (json_int_t)d->memory);
    if (d->available && /* 0: not known */
        json_object_set_new(j, "available_bytes", json_integer((json_int_t)d->available)) != 0)
        env->text->failed = true;
    if (json_array_append_new(list, j) != 0)
        env->text->failed = true;
    zs_strbuf_addf(env->text, "%-20s %s, %s, %d %s, %.1f GiB", names, d->name, d->about, d->units,
                   units, gib(d->memory));
    if (d->available)
        zs_strbuf_addf(env->text, ", %.1f GiB of it free", gib(d->available));
    zs_strbuf_addf(env->text, "\n");
}

static void add_missing(zs_task_env *env, json_t *list, const char *names, const char *why)
{
    if (json_array_append_new(
            list, json_pack("{s:s, s:o}", "device", names, "missing", zs_json_text(why))) != 0)
        env->text->failed = true;
    zs_strbuf_addf(env->text, "%-20s none: %s\n", names, why);
}

/* "cuda, cuda-f32": all backends of this memory. */
static void names_of(char *buf, size_t cap, const zs_remote *r)
{
    size_t used = 0;
    const zs_backend *b;
    buf[0] = '\0';
    for (size_t i = 0; (b = zs_backend_at(i)) != NULL && used < cap; i++)
        if (b->remote == r)
            used += (size_t)snprintf(buf + used, cap - used, "%s%s", used ? ", " : "", b->name);
}

static bool listed(const zs_remote *r, size_t before)
{
    for (size_t i = 0; i < before; i++)
        if (zs_backend_at(i)->remote == r)
            return true;
    return false;
}

static void add_remote(zs_task_env *env, json_t *list, const zs_remote *r)
{
    char names[64];
    zs_device d;
    zs_error why = {0};
    int status = 0;
    names_of(names, sizeof names, r);
    for (int i = 0; r->device && (status = r->device(&d, i, &why)) == 1; i++)
        add(env, list, names, "multiprocessors", &d);
    if (status < 0)
        add_missing(env, list, names, why.message);
}

int zs_devices_report(zs_task_env *env)
{
    json_t *list = json_array();
    char names[64];
    zs_device cpu;
    const zs_backend *b;
    bool cuda = zs_backend_find("cuda") != NULL;
    names_of(names, sizeof names, NULL);
    zs_devices_cpu(&cpu);
    add(env, list, names, "threads", &cpu);
    for (size_t i = 0; (b = zs_backend_at(i)) != NULL; i++)
        if (b->remote && !listed(b->remote, i))
            add_remote(env, list, b->remote);
    if (!cuda)
        add_missing(env, list, "cuda, cuda-f32",
                    "this build has no CUDA; cmake --preset cuda makes one that has");
    zs_result_set(env, "devices", list);
    return ZS_OK;
}
