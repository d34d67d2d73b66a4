/* SPDX-License-Identifier: MIT */
/* Line plots as SVG text that stands alone or inside an HTML page. */
#ifndef ZS_METRICS_PLOT_H
#define ZS_METRICS_PLOT_H

#include "base/base.h"

typedef struct zs_plot_line {
    const char *name;    /* legend; NULL: none */
    const double *x, *y; /* [n] x ascending; points that are not finite are left out */
    int64_t n;
    bool points; /* few measured values: marked by dots */
    bool faint;  /* drawn thin and pale, as raw values under their mean */
} zs_plot_line;

typedef struct zs_plot {
    const char *title, *x_label, *y_label; /* escaped */
    bool log_x, log_y;                     /* non-positive values are left out */
    const zs_plot_line *lines;
    int count;
} zs_plot;

/* Appends one <svg> element. More points than pixels are drawn as the mean of each pixel. Works
 * with nothing to show. Failures are the strbuf's sticky flag. */
void zs_plot_svg(zs_strbuf *b, const zs_plot *p);

#endif
