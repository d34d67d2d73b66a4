/* SPDX-License-Identifier: MIT */
#include "metrics/plot.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* The picture and the frame within it, in pixels. */
enum { W = 720, H = 320, LEFT = 72, RIGHT = 16, TOP = 34, BOTTOM = 46, TICKS = 6 };

static const char *const colours[] = {"#1f77b4", "#d62728", "#2ca02c", "#9467bd",
                                      "#ff7f0e", "#8c564b", "#17becf", "#e377c2"};

typedef struct axis {
    double lo, hi; /* range in plotted units (log10 when log) */
    bool log;
    int from, to; /* pixels of lo and hi */
} axis;

static double plotted(const axis *a, double v)
{
    return a->log ? (v > 0.0 ? log10(v) : (double)NAN) : v;
}

static double pixel(const axis *a, double v)
{
    return a->from + (plotted(a, v) - a->lo) / (a->hi - a->lo) * (a->to - a->from);
}

static void add_text(zs_strbuf *b, const char *s)
{
    for (; *s; s++)
        if (*s == '<' || *s == '>' || *s == '&' || *s == '"')
            zs_strbuf_addf(b, "&#%d;", *s);
        else
            zs_strbuf_append(b, s, 1);
}

/* ---- axes ---- */

static void include(axis *a, double v)
{
    double u = plotted(a, v);
    if (!isfinite(u))
        return;
    a->lo = u < a->lo ? u : a->lo;
    a->hi = u > a->hi ? u : a->hi;
}

static void settle(axis *a)
{
    if (!(a->lo <= a->hi)) { /* nothing to show */
        a->lo = 0.0;
        a->hi = 1.0;
    }
    double pad = a->hi > a->lo ? 0.0 : a->lo != 0.0 ? fabs(a->lo) * 0.1 : 1.0;
    a->lo -= pad;
    a->hi += pad;
}

static void find_ranges(axis *x, axis *y, const zs_plot *p)
{
    *x = (axis){(double)INFINITY, -(double)INFINITY, p->log_x, LEFT, W - RIGHT};
    *y = (axis){(double)INFINITY, -(double)INFINITY, p->log_y, H - BOTTOM, TOP};
    for (int k = 0; k < p->count; k++)
        for (int64_t i = 0; i < p->lines[k].n; i++)
            if (isfinite(plotted(x, p->lines[k].x[i])) && isfinite(plotted(y, p->lines[k].y[i]))) {
                include(x, p->lines[k].x[i]);
                include(y, p->lines[k].y[i]);
            }
    settle(x);
    settle(y);
}

/* 1, 2 or 5 times a power of ten. */
static double tick_step(const axis *a)
{
    double raw = (a->hi - a->lo) / TICKS, unit = pow(10.0, floor(log10(raw))), m = raw / unit;
    return unit * (m <= 1.0 ? 1.0 : m <= 2.0 ? 2.0 : m <= 5.0 ? 5.0 : 10.0);
}

static void format_tick(char *s, size_t n, const axis *a, double u)
{
    double v = a->log ? pow(10.0, u) : u;
    if (fabs(v) >= 1e6 && fabs(v) < 1e9)
        snprintf(s, n, "%.4gM", v / 1e6);
    else if (fabs(v) >= 1e4 && fabs(v) < 1e6)
        snprintf(s, n, "%.4gk", v / 1e3);
    else
        snprintf(s, n, "%.4g", v);
}

static void add_tick(zs_strbuf *b, const axis *a, double u, bool vertical)
{
    char s[32];
    double at = a->from + (u - a->lo) / (a->hi - a->lo) * (a->to - a->from);
    format_tick(s, sizeof s, a, fabs(u) < 1e-12 * (a->hi - a->lo) ? 0.0 : u);
    if (vertical)
        zs_strbuf_addf(b,
                       "<path d=\"M%d %.1fH%d\" class=\"grid\"/><text x=\"%d\" y=\"%.1f\" "
                       "text-anchor=\"end\">%s</text>\n",
                       LEFT, at, W - RIGHT, LEFT - 6, at + 4, s);
    else
        zs_strbuf_addf(b,
                       "<path d=\"M%.1f %dV%d\" class=\"grid\"/><text x=\"%.1f\" y=\"%d\" "
                       "text-anchor=\"middle\">%s</text>\n",
                       at, TOP, H - BOTTOM, at, H - BOTTOM + 16, s);
}

static void add_axis(zs_strbuf *b, const axis *a, bool vertical)
{
    double step = tick_step(a);
    int64_t first = (int64_t)ceil(a->lo / step - 1e-9);
    for (int64_t i = first; (double)i * step <= a->hi + 1e-9 * step && i - first <= 2 * TICKS; i++)
        add_tick(b, a, (double)i * step, vertical);
}

/* ---- lines ---- */

/* Means over runs of points that fall on one pixel column, so that a long log stays small. */
static void add_line(zs_strbuf *b, const zs_plot_line *l, const axis *x, const axis *y)
{
    char command = 'M';
    for (int64_t i = 0; i < l->n;) {
        double column = (double)NAN, sx = 0.0, sy = 0.0;
        int64_t n = 0;
        for (; i < l->n; i++) {
            double px = pixel(x, l->x[i]), py = pixel(y, l->y[i]);
            if (!isfinite(px) || !isfinite(py))
                continue;
            if (n > 0 && floor(px) > column)
                break;
            column = floor(px);
            sx += px;
            sy += py;
            n++;
        }
        if (n > 0)
            zs_strbuf_addf(b, "%c%.1f %.1f", command, sx / (double)n, sy / (double)n);
        command = 'L';
    }
}

static void add_points(zs_strbuf *b, const zs_plot_line *l, const axis *x, const axis *y,
                       const char *colour)
{
    for (int64_t i = 0; i < l->n; i++) {
        double px = pixel(x, l->x[i]), py = pixel(y, l->y[i]);
        if (isfinite(px) && isfinite(py))
            zs_strbuf_addf(b, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", px, py,
                           colour);
    }
}

static void add_legend(zs_strbuf *b, const zs_plot *p)
{
    int row = 0;
    for (int k = 0; k < p->count; k++) {
        if (!p->lines[k].name)
            continue;
        int y = TOP + 14 + 16 * row++;
        zs_strbuf_addf(b,
                       "<path d=\"M%d %dh18\" stroke=\"%s\" stroke-width=\"2\"/><text x=\"%d\" "
                       "y=\"%d\" text-anchor=\"end\">",
                       W - RIGHT - 24, y - 4, colours[k % 8], W - RIGHT - 30, y);
        add_text(b, p->lines[k].name);
        zs_strbuf_addf(b, "</text>\n");
    }
}

static void add_labels(zs_strbuf *b, const zs_plot *p)
{
    zs_strbuf_addf(b, "<text x=\"%d\" y=\"20\" font-size=\"14\" font-weight=\"bold\">", LEFT);
    add_text(b, p->title ? p->title : "");
    zs_strbuf_addf(b, "</text>\n<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">",
                   (LEFT + W - RIGHT) / 2, H - 8);
    add_text(b, p->x_label ? p->x_label : "");
    zs_strbuf_addf(b,
                   "</text>\n<text transform=\"translate(16 %d) rotate(-90)\" "
                   "text-anchor=\"middle\">",
                   (TOP + H - BOTTOM) / 2);
    add_text(b, p->y_label ? p->y_label : "");
    zs_strbuf_addf(b, "</text>\n");
}

void zs_plot_svg(zs_strbuf *b, const zs_plot *p)
{
    axis x, y;
    find_ranges(&x, &y, p);
    zs_strbuf_addf(b,
                   "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
                   "height=\"%d\" font-family=\"system-ui,sans-serif\" font-size=\"11\" "
                   "fill=\"#333\">\n<style>.grid{stroke:#ddd;fill:none}</style>\n"
                   "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n",
                   W, H, W, H, W, H);
    add_axis(b, &x, false);
    add_axis(b, &y, true);
    zs_strbuf_addf(b,
                   "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" "
                   "stroke=\"#888\"/>\n",
                   LEFT, TOP, W - LEFT - RIGHT, H - TOP - BOTTOM);
    for (int k = 0; k < p->count; k++) {
        const zs_plot_line *l = &p->lines[k];
        zs_strbuf_addf(b,
                       "<path fill=\"none\" stroke=\"%s\" stroke-width=\"%s\" opacity=\"%s\" "
                       "d=\"",
                       colours[k % 8], l->faint ? "1" : "1.8", l->faint ? "0.35" : "1");
        add_line(b, l, &x, &y);
        zs_strbuf_addf(b, "\"/>\n");
        if (l->points)
            add_points(b, l, &x, &y, colours[k % 8]);
    }
    add_legend(b, p);
    add_labels(b, p);
    zs_strbuf_addf(b, "</svg>\n");
}
