/* SPDX-License-Identifier: MIT */
/* Private to the command line. */
#ifndef ZS_CLI_CLI_H
#define ZS_CLI_CLI_H

#include "zsem/zsem.h"

#include <stdbool.h>

enum { CLI_OK = 0, CLI_FAILED = 2, CLI_INTERRUPTED = 130 };

typedef struct cli_options {
    bool json, quiet, verbose;
} cli_options;

/* Fills `call` and `opt` from argv[2..]; 1 when --help was asked for. */
int cli_parse(zs_task_call *call, cli_options *opt, const zs_task_info *task, int argc, char **argv,
              zs_error *err);

void cli_help(void);
void cli_help_task(const zs_task_info *task);

/* Callbacks that write to standard error; quiet ones only pass on a request to stop. */
zs_ui cli_progress_start(const cli_options *opt);
void cli_progress_silence(void); /* nothing at all from now on: another process speaks */
void cli_progress_end(void);     /* leaves the cursor on a fresh line */

/* SIGINT and SIGUSR1 become a request to stop; a second one ends the program at once. */
void cli_signals_install(void);
void cli_signals_terminate(void); /* and SIGTERM, which ends ranks that wait for others to start */
bool cli_signals_caught(void);
void cli_signals_speak(const char *text); /* says that then; NULL, as at first: nothing */

#endif
