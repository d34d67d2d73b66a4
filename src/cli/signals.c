/* SPDX-License-Identifier: MIT */
#include "cli/cli.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t caught;
static const char *volatile words; /* NULL: none */

static void on_signal(int number)
{
    if (caught)
        _exit(128 + number);
    caught = 1;
    const char *text = words;
    ssize_t ignored = text ? write(STDERR_FILENO, text, strlen(text)) : 0;
    (void)ignored;
}

static void listen_to(int number)
{
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = on_signal;
    sigemptyset(&sa.sa_mask);
    sa.sa_flags = SA_RESTART;
    sigaction(number, &sa, NULL);
}

void cli_signals_install(void)
{
    listen_to(SIGINT);
    /* what mpirun passes on to all ranks, and Slurm sends before a time limit ends */
    listen_to(SIGUSR1);
    /* a write that fails says why, and its temporary file is removed */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

void cli_signals_terminate(void)
{
    listen_to(SIGTERM);
}

void cli_signals_speak(const char *text)
{
    words = text;
}

bool cli_signals_caught(void)
{
    return caught != 0;
}
