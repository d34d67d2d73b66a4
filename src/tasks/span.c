/* SPDX-License-Identifier: MIT */
#include "tasks/span.h"

static int on_progress(void *ctx, const zs_progress *p)
{
    const zs_span_progress *s = ctx;
    double part = p->total > 0 ? p->done / p->total : 0.0;
    zs_progress whole = {s->stage, s->from + s->units * part, s->total, s->unit, p->stage};
    return s->parent && s->parent->progress ? s->parent->progress(s->parent->ctx, &whole) : 0;
}

static void on_log(void *ctx, zs_log_level level, const char *message)
{
    const zs_span_progress *s = ctx;
    if (s->parent && s->parent->log)
        s->parent->log(s->parent->ctx, level, message);
}

void zs_span_begin(zs_span_progress *s, double from, double units)
{
    s->from = from;
    s->units = units;
    s->ui = (zs_ui){.ctx = s, .log = on_log, .progress = on_progress};
}
