/* SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"
#ifdef ZSEM_HAVE_CUDA
#include "backend/cuda/cuda.h"
#endif

#include <string.h>

static const zs_backend *const backends[] = {
    &zs_backend_cpu, /* the default */
    &zs_backend_cpu_ref,
#ifdef ZSEM_HAVE_CUDA
    &zs_backend_cuda,
    &zs_backend_cuda_f32,
#endif
};

enum { ADDED_MAX = 4 };

static const zs_backend *added[ADDED_MAX];
static size_t n_added;

bool zs_backend_add(const zs_backend *b)
{
    if (n_added == ADDED_MAX)
        return false;
    added[n_added++] = b;
    return true;
}

const zs_backend *zs_backend_find(const char *name)
{
    if (!name)
        return backends[0];
    for (size_t i = 0; i < sizeof backends / sizeof backends[0]; i++)
        if (strcmp(backends[i]->name, name) == 0)
            return backends[i];
    for (size_t i = 0; i < n_added; i++)
        if (strcmp(added[i]->name, name) == 0)
            return added[i];
    return NULL;
}

const zs_backend *zs_backend_at(size_t i)
{
    size_t n = sizeof backends / sizeof backends[0];
    return i < n ? backends[i] : i - n < n_added ? added[i - n] : NULL;
}

/* CUDA is a matter of how the program was built; anything else is a slip. */
static int unknown(const char *name, zs_error *err)
{
    zs_strbuf names = {0};
    if (strcmp(name, "cuda") == 0 || strcmp(name, "cuda-f32") == 0)
        return zs_fail(err, ZS_E_INVALID,
                       "this build has no CUDA, so there is no device \"%s\": make one that has "
                       "(cmake --preset cuda), or use --device cpu",
                       name);
    for (size_t i = 0; i < sizeof backends / sizeof backends[0]; i++)
        zs_strbuf_addf(&names, "%s%s", i ? ", " : "", backends[i]->name);
    int status = zs_fail(err, ZS_E_INVALID, "there is no device \"%s\"; this build has %s", name,
                         names.s ? names.s : "cpu");
    zs_strbuf_free(&names);
    return status;
}

int zs_backend_open(const zs_backend **out, const char *name, zs_error *err)
{
    const zs_backend *b = zs_backend_find(name);
    *out = NULL;
    if (!b)
        return unknown(name, err);
    int status = b->remote ? b->remote->open(err) : ZS_OK;
    if (status == ZS_OK)
        *out = b;
    return status;
}

const zs_backend *zs_backend_host(const zs_backend *b)
{
    return b->remote ? backends[0] : b;
}
