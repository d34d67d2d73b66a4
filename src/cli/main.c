/* SPDX-License-Identifier: MIT */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int fail(const zs_error *err)
{
    cli_progress_end();
    if (zs_ranks_speaks())
        fprintf(stderr, "zsem: %s\n", err->message);
    return err->status == ZS_E_CANCELLED && cli_signals_caught() ? CLI_INTERRUPTED : CLI_FAILED;
}

/* A reader that went away needs no message. */
static int finish_stdout(void)
{
    if (!ferror(stdout) && fflush(stdout) == 0)
        return CLI_OK;
    if (errno != EPIPE)
        fprintf(stderr, "zsem: standard output: cannot be written: %s; send it elsewhere\n",
                strerror(errno));
    return CLI_FAILED;
}

static int print_result(const zs_task_result *r, const cli_options *opt)
{
    const char *s = opt->json ? r->json : opt->quiet ? NULL : r->text;
    if (!zs_ranks_speaks())
        return CLI_OK;
    if (s && fputs(s, stdout) != EOF && opt->json)
        putchar('\n');
    return finish_stdout();
}

/* The first of all ranks speaks for them. */
static void prepare_ranks(void)
{
    cli_signals_terminate();
    if (zs_ranks_index() > 0)
        cli_progress_silence();
    else if (zs_ranks_count() > 1) /* the launcher hears the second Ctrl-C */
        cli_signals_speak("\nzsem: stopping after this step\n");
    else
        cli_signals_speak("\nzsem: stopping and saving; press Ctrl-C again to give up now\n");
}

/* What every process of a launcher knows is said by one of them: help of a command, or of all. */
static int print_help(const zs_task_info *task)
{
    if (!zs_ranks_speaks())
        return CLI_OK;
    if (task)
        cli_help_task(task);
    else
        cli_help();
    return finish_stdout();
}

static int print_version(void)
{
    if (zs_ranks_speaks())
        printf("zsem %s\n", zs_version());
    return finish_stdout();
}

static int run_task(int argc, char **argv)
{
    zs_error err = {0};
    zs_task_call *call = NULL;
    zs_task_result result = {0};
    cli_options opt = {0};
    int status = CLI_OK, r = zs_ranks_join(&err);
    prepare_ranks();
    if (r == 0)
        r = zs_task_call_new(&call, argv[1], &err);
    if (r == 0)
        r = cli_parse(call, &opt, zs_task_find(argv[1]), argc, argv, &err);
    if (r > 0) {
        status = print_help(zs_task_find(argv[1]));
    } else {
        zs_ui ui = cli_progress_start(&opt);
        if (r == 0)
            r = zs_task_run(call, &ui, &result, &err);
        cli_progress_end();
        status = r < 0 ? fail(&err) : print_result(&result, &opt);
    }
    zs_task_result_clear(&result);
    zs_task_call_free(&call);
    cli_signals_speak(NULL); /* mpirun sends one to those that are left when the first has failed */
    zs_ranks_leave();
    return status;
}

int main(int argc, char **argv)
{
    cli_signals_install();
    if (argc < 2) { /* only who speaks fails: launchers end the others when one does */
        int status = print_help(NULL);
        return zs_ranks_speaks() ? CLI_FAILED : status;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0)
        return print_help(argc > 2 ? zs_task_find(argv[2]) : NULL);
    if (strcmp(argv[1], "--version") == 0)
        return print_version();
    return run_task(argc, argv);
}
