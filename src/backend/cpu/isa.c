/* SPDX-License-Identifier: MIT */
#include "backend/cpu/isa.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static atomic_int current = -1;

static const char *const names[ZS_ISA_COUNT] = {"v2", "v3", "v4"};

const char *zs_isa_name(zs_isa isa)
{
    return names[isa];
}

bool zs_isa_available(zs_isa isa)
{
    switch (isa) {
    case ZS_ISA_V2: return true;
#ifdef ZS_HAVE_ISA_V3
    case ZS_ISA_V3: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
#ifdef ZS_HAVE_ISA_V4
    case ZS_ISA_V4:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("fma");
#endif
    default: return false;
    }
}

static zs_isa choose(void)
{
    const char *wish = getenv("ZSEM_ISA");
    zs_isa best = ZS_ISA_V2;
    for (zs_isa i = ZS_ISA_V2; i < ZS_ISA_COUNT; i++) {
        if (!zs_isa_available(i))
            continue;
        best = i;
        if (wish && strcmp(wish, names[i]) == 0)
            return i;
    }
    return best;
}

zs_isa zs_isa_get(void)
{
    int isa = atomic_load(&current);
    if (isa < 0) {
        isa = (int)choose();
        atomic_store(&current, isa);
    }
    return (zs_isa)isa;
}

void zs_isa_set(zs_isa isa)
{
    if (zs_isa_available(isa))
        atomic_store(&current, (int)isa);
}
