/* SPDX-License-Identifier: MIT */
/* How long-running work talks to whoever started it; the types are public (zsem/ui.h). */
#ifndef ZS_BASE_UI_H
#define ZS_BASE_UI_H

#include "base/status.h"
#include "zsem/ui.h"

/* All accept ui == NULL. */
void zs_ui_log(const zs_ui *ui, zs_log_level level, const char *fmt, ...) ZS_PRINTF(3, 4);

/* Reports progress; ZS_E_CANCELLED (with a message in err) when the callback asks to stop. */
int zs_ui_progress(const zs_ui *ui, const zs_progress *p, zs_error *err);

#endif
