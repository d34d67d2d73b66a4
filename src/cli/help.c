/* SPDX-License-Identifier: MIT */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

void cli_help(void)
{
    printf("zsem %s: learn a compact meaning of images, edit it, decode it back\n\n"
           "usage: zsem COMMAND ARGUMENTS [options]\n\ncommands:\n",
           zs_version());
    for (size_t i = 0; zs_task_at(i); i++)
        printf("  %-12s %s\n", zs_task_at(i)->name, zs_task_at(i)->summary);
    printf(
        "\nMODEL is a zsem bundle (.safetensors) or the authors' files as they are, joined with\n"
        "commas (last.ckpt or last.ckpt,latent.pkl). IMAGES are files, folders or globs.\n\n"
        "zsem COMMAND --help shows the options and examples of one command.\n");
}

static void print_options(const zs_option *o)
{
    for (; o && o->name; o++) {
        char left[48];
        snprintf(left, sizeof left, "%s%s%s%s", strlen(o->name) == 1 ? "-" : "--", o->name,
                 o->metavar ? " " : "", o->metavar ? o->metavar : "");
        printf("  %-24s %s", left, o->help);
        if (o->def)
            printf(" [%s]", o->def);
        putchar('\n');
    }
}

void cli_help_task(const zs_task_info *task)
{
    printf("usage: zsem %s %s\n\n%s\n", task->name, task->usage, task->summary);
    if (task->details)
        printf("\n%s\n", task->details);
    printf("\noptions:\n");
    print_options(task->options);
    print_options(zs_task_common_options());
    printf("  %-24s %s\n  %-24s %s\n  %-24s %s\n", "--json", "print the result as one JSON object",
           "--quiet, -q", "no progress, no text", "--help, -h", "this text");
    printf("\nexamples:\n");
    for (const char *const *e = task->examples; *e; e++)
        printf("  %s\n", *e);
}
