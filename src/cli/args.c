/* SPDX-License-Identifier: MIT */
/* --name value, --name=value, -n value, -- and positional arguments. */
#include "cli/cli.h"

#include <string.h>

static const zs_option *find(const zs_task_info *task, const char *name, size_t len)
{
    const zs_option *tables[2] = {task->options, zs_task_common_options()};
    for (int k = 0; k < 2; k++)
        for (const zs_option *o = tables[k]; o && o->name; o++)
            if (strlen(o->name) == len && memcmp(o->name, name, len) == 0)
                return o;
    return NULL;
}

static bool own_flag(cli_options *opt, const char *s)
{
    bool *flag = strcmp(s, "--json") == 0      ? &opt->json
                 : strcmp(s, "--quiet") == 0   ? &opt->quiet
                 : strcmp(s, "-q") == 0        ? &opt->quiet
                 : strcmp(s, "--verbose") == 0 ? &opt->verbose
                                               : NULL;
    if (flag)
        *flag = true;
    return flag != NULL;
}

/* Handles argv[*i], an option; advances *i over a separate value. */
static int parse_option(zs_task_call *call, const zs_task_info *task, int argc, char **argv, int *i,
                        zs_error *err)
{
    const char *s = argv[*i] + (argv[*i][1] == '-' ? 2 : 1), *eq = strchr(s, '=');
    size_t len = eq ? (size_t)(eq - s) : strlen(s);
    char name[64];
    if (len >= sizeof name)
        len = sizeof name - 1;
    memcpy(name, s, len);
    name[len] = '\0';
    const zs_option *o = find(task, name, len);
    const char *value = eq ? eq + 1 : NULL;
    if (o && o->type != ZS_OPTION_FLAG && !value && *i + 1 < argc)
        value = argv[++*i];
    return zs_task_call_set(call, name, value, err);
}

int cli_parse(zs_task_call *call, cli_options *opt, const zs_task_info *task, int argc, char **argv,
              zs_error *err)
{
    bool only_args = false;
    for (int i = 2; i < argc; i++) {
        const char *s = argv[i];
        int r = 0;
        if (only_args || s[0] != '-' || s[1] == '\0')
            r = zs_task_call_add(call, s, err);
        else if (strcmp(s, "--") == 0)
            only_args = true;
        else if (strcmp(s, "--help") == 0 || strcmp(s, "-h") == 0)
            return 1;
        else if (!own_flag(opt, s))
            r = parse_option(call, task, argc, argv, &i, err);
        if (r < 0)
            return r;
    }
    return 0;
}
