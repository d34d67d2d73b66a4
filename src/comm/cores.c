/* SPDX-License-Identifier: MIT */
/* Cores of a machine, and how its ranks share them. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_getaffinity */
#endif
#include "comm/internal.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BYTES = ZS_COMM_CPUS / 8 };

static void set(uint8_t *bits, int i)
{
    bits[i / 8] = (uint8_t)(bits[i / 8] | 1u << i % 8);
}

static bool has(const uint8_t *bits, int i)
{
    return bits[i / 8] >> i % 8 & 1;
}

static int count_bits(const uint8_t *bits)
{
    int n = 0;
    for (int i = 0; i < ZS_COMM_CPUS; i++)
        n += has(bits, i);
    return n;
}

void zs_comm_cpus(uint8_t *bits)
{
    memset(bits, 0, BYTES);
#ifdef __linux__
    cpu_set_t may;
    if (sched_getaffinity(0, sizeof may, &may) == 0) {
        for (int i = 0; i < ZS_COMM_CPUS && i < CPU_SETSIZE; i++)
            if (CPU_ISSET(i, &may))
                set(bits, i);
        return;
    }
#endif
    set(bits, 0);
}

/* The first of the CPUs that are one core, as in "3,67" or "6-7"; the CPU itself where nobody
 * says. */
static int first_of_core(const char *folder, int cpu)
{
    char path[256];
    int first = cpu;
    (void)snprintf(path, sizeof path, "%s/cpu%d/topology/thread_siblings_list", folder, cpu);
    FILE *f = fopen(path, "r");
    if (f && fscanf(f, "%d", &first) != 1)
        first = cpu;
    if (f)
        fclose(f);
    return first >= 0 && first < ZS_COMM_CPUS ? first : cpu;
}

void zs_comm_cores(uint8_t *cores, const uint8_t *cpus, const char *folder)
{
    uint8_t found[BYTES] = {0};
    for (int i = 0; i < ZS_COMM_CPUS; i++)
        if (has(cpus, i))
            set(found, first_of_core(folder, i));
    memcpy(cores, found, sizeof found);
}

static bool meet(const uint8_t *a, const uint8_t *b)
{
    for (int i = 0; i < BYTES; i++)
        if (a[i] & b[i])
            return true;
    return false;
}

int zs_comm_threads(const zs_comm *c)
{
    static const char folder[] = "/sys/devices/system/cpu";
    uint8_t mine[BYTES], theirs[BYTES];
    int sharers = 0;
    if (!c)
        return 0;
    zs_comm_cores(mine, c->cards[c->me.rank].cpus, folder);
    for (int i = 0; i < c->me.size; i++) {
        if (!zs_comm_is_near(c, i))
            continue;
        zs_comm_cores(theirs, c->cards[i].cpus, folder);
        sharers += meet(mine, theirs);
    }
    int n = count_bits(mine) / (sharers ? sharers : 1);
    return n > 0 ? n : 1;
}

int zs_comm_idle_cpus(const zs_comm *c)
{
    uint8_t used[BYTES] = {0};
    if (!getenv("OMPI_MCA_orte_bound_at_launch")) /* else a container may be what leaves them out */
        return 0;
    for (int i = 0; c && i < c->me.size; i++)
        for (int k = 0; k < BYTES && zs_comm_is_near(c, i); k++)
            used[k] |= c->cards[i].cpus[k];
    int idle = c ? (int)sysconf(_SC_NPROCESSORS_ONLN) - count_bits(used) : 0;
    return idle > 0 ? idle : 0;
}
