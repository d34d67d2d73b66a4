/* SPDX-License-Identifier: MIT */
/* Progress of a part shown as progress of the whole, so that the time left is that of the command
 * and not of its current batch. */
#ifndef ZS_TASKS_SPAN_H
#define ZS_TASKS_SPAN_H

#include "base/base.h"

typedef struct zs_span_progress {
    const zs_ui *parent; /* borrowed; may be NULL */
    const char *stage, *unit;
    double total;       /* units of the whole */
    double from, units; /* where the part begins, and how much of the whole it is */
    zs_ui ui;           /* give &span->ui to the part */
} zs_span_progress;

/* Moves the span to a part; the first call sets everything else up. */
void zs_span_begin(zs_span_progress *s, double from, double units);

#endif
