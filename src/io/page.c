/* SPDX-License-Identifier: MIT */
#include "io/page.h"
#include "io/outfile.h"

#include <string.h>

static void add_text(zs_page *p, const char *s)
{
    for (; *s; s++) {
        const char *entity = *s == '<'   ? "&lt;"
                             : *s == '>' ? "&gt;"
                             : *s == '&' ? "&amp;"
                             : *s == '"' ? "&quot;"
                                         : NULL;
        zs_strbuf_append(&p->html, entity ? entity : s, entity ? strlen(entity) : 1);
    }
}

void zs_page_begin(zs_page *p, const char *title)
{
    static const char style[] =
        "</title>\n<style>\nbody{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem "
        "auto;padding:0 1rem;color:#222;background:#fff}\nimg{max-width:100%;"
        "image-rendering:pixelated;border:1px solid #ddd}\nfigure{margin:1rem 0}\n"
        "figcaption{color:#666;font-size:.9em}\nsvg{max-width:100%;height:auto}\n"
        "table{border-collapse:collapse}td{padding:.1em 1em .1em 0;vertical-align:top}\n"
        "@media(prefers-color-scheme:dark){"
        "body{background:#181818;color:#ddd}img{border-color:#444}figcaption{color:#999}}\n"
        "</style>\n</head>\n<body>\n<h1>";
    zs_strbuf_addf(&p->html,
                   "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                   "<meta name=\"viewport\" content=\"width=device-width\">\n<title>");
    add_text(p, title);
    zs_strbuf_append(&p->html, style, sizeof style - 1);
    add_text(p, title);
    zs_strbuf_addf(&p->html, "</h1>\n");
}

static void end_table(zs_page *p)
{
    if (p->in_table)
        zs_strbuf_addf(&p->html, "</table>\n");
    p->in_table = false;
}

static void element(zs_page *p, const char *tag, const char *text)
{
    end_table(p);
    zs_strbuf_addf(&p->html, "<%s>", tag);
    add_text(p, text);
    zs_strbuf_addf(&p->html, "</%s>\n", tag);
}

void zs_page_heading(zs_page *p, const char *text)
{
    element(p, "h2", text);
}

void zs_page_paragraph(zs_page *p, const char *text)
{
    element(p, "p", text);
}

void zs_page_row(zs_page *p, const char *key, const char *value)
{
    if (!p->in_table)
        zs_strbuf_addf(&p->html, "<table>\n");
    p->in_table = true;
    zs_strbuf_addf(&p->html, "<tr><td>");
    add_text(p, key);
    zs_strbuf_addf(&p->html, "</td><td>");
    add_text(p, value);
    zs_strbuf_addf(&p->html, "</td></tr>\n");
}

void zs_page_svg(zs_page *p, const char *svg)
{
    end_table(p);
    zs_strbuf_addf(&p->html, "<figure>\n");
    zs_strbuf_append(&p->html, svg, strlen(svg));
    zs_strbuf_addf(&p->html, "</figure>\n");
}

static void add_base64(zs_strbuf *b, const uint8_t *s, size_t n)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)s[i] << 16;
        v |= i + 1 < n ? (uint32_t)s[i + 1] << 8 : 0;
        v |= i + 2 < n ? (uint32_t)s[i + 2] : 0;
        char q[4] = {digit[v >> 18], digit[v >> 12 & 63], i + 1 < n ? digit[v >> 6 & 63] : '=',
                     i + 2 < n ? digit[v & 63] : '='};
        zs_strbuf_append(b, q, 4);
    }
}

void zs_page_png(zs_page *p, const void *png, size_t n, const char *caption)
{
    end_table(p);
    zs_strbuf_addf(&p->html, "<figure><img alt=\"");
    add_text(p, caption);
    zs_strbuf_addf(&p->html, "\" src=\"data:image/png;base64,");
    add_base64(&p->html, png, n);
    zs_strbuf_addf(&p->html, "\"><figcaption>");
    add_text(p, caption);
    zs_strbuf_addf(&p->html, "</figcaption></figure>\n");
}

int zs_page_image(zs_page *p, const zs_image *im, const char *caption, zs_error *err)
{
    uint8_t *png = NULL;
    size_t n = 0;
    int status = zs_image_encode_png(&png, &n, im, err);
    if (status == ZS_OK)
        zs_page_png(p, png, n, caption);
    zs_free(png);
    return status;
}

int zs_page_write(zs_page *p, const char *path, zs_error *err)
{
    end_table(p);
    zs_strbuf_addf(&p->html, "</body>\n</html>\n");
    if (p->html.failed)
        return zs_fail_nomem(err, p->html.n, "the HTML page");
    return zs_file_write(path, p->html.s, p->html.n, err);
}

void zs_page_free(zs_page *p)
{
    zs_strbuf_free(&p->html);
}
