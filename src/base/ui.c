/* SPDX-License-Identifier: MIT */
#include "base/ui.h"

#include <stdarg.h>
#include <stdio.h>

void zs_ui_log(const zs_ui *ui, zs_log_level level, const char *fmt, ...)
{
    if (!ui || !ui->log)
        return;
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    ui->log(ui->ctx, level, text);
}

int zs_ui_progress(const zs_ui *ui, const zs_progress *p, zs_error *err)
{
    if (!ui || !ui->progress || ui->progress(ui->ctx, p) == 0)
        return ZS_OK;
    return zs_fail(err, ZS_E_CANCELLED, "%s stopped on request after %.0f %s", p->stage, p->done,
                   p->unit);
}
