/* SPDX-License-Identifier: MIT */
/* One self-contained HTML page: headings, paragraphs, and images embedded as PNG. */
#ifndef ZS_TASKS_PAGE_H
#define ZS_TASKS_PAGE_H

#include "io/io.h"

typedef struct zs_page {
    zs_strbuf html;
} zs_page;

/* `title` and all text are escaped. Zero-initialise; release with zs_page_free. Allocation failures
 * are sticky and reported by zs_page_write. */
void zs_page_begin(zs_page *p, const char *title);
void zs_page_heading(zs_page *p, const char *text);
void zs_page_paragraph(zs_page *p, const char *text);
int zs_page_image(zs_page *p, const zs_image *im, const char *caption, zs_error *err);

/* Ends the page and writes it whole or not at all. */
int zs_page_write(zs_page *p, const char *path, zs_error *err);
void zs_page_free(zs_page *p);

#endif
