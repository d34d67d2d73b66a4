/* SPDX-License-Identifier: MIT */
/* One self-contained HTML page: headings, paragraphs, and images embedded as PNG. */
#ifndef ZS_IO_PAGE_H
#define ZS_IO_PAGE_H

#include "io/imagefile.h"

typedef struct zs_page {
    zs_strbuf html;
    bool in_table;
} zs_page;

/* `title` and all text are escaped. Zero-initialise; release with zs_page_free. Allocation failures
 * are sticky and reported by zs_page_write. */
void zs_page_begin(zs_page *p, const char *title);
void zs_page_heading(zs_page *p, const char *text);
void zs_page_paragraph(zs_page *p, const char *text);

/* A row of a two-column table; rows that follow each other make one table. */
void zs_page_row(zs_page *p, const char *key, const char *value);

/* A complete <svg> element, as it is: the caller's text in it is escaped already. */
void zs_page_svg(zs_page *p, const char *svg);

int zs_page_image(zs_page *p, const zs_image *im, const char *caption, zs_error *err);
void zs_page_png(zs_page *p, const void *png, size_t n, const char *caption); /* a whole PNG file */

/* Ends the page and writes it whole or not at all. */
int zs_page_write(zs_page *p, const char *path, zs_error *err);
void zs_page_free(zs_page *p);

#endif
