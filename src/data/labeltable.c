/* SPDX-License-Identifier: MIT */
#include "data/labeltable.h"

#include <string.h>

/* Where reading is; *at is NUL at the end of the text. */
typedef struct cursor {
    zs_labeltable *t;
    const char *label;
    char *at;
    size_t line;
} cursor;

static bool add_cell(zs_labeltable *t, char *s)
{
    void *items = t->cell;
    bool ok = zs_grow(&items, &t->cap, t->cells, sizeof *t->cell);
    t->cell = items;
    if (ok)
        t->cell[t->cells++] = s;
    return ok;
}

static bool add_row(zs_labeltable *t, size_t line)
{
    void *items = t->line;
    bool ok = zs_grow(&items, &t->lines_cap, t->rows, sizeof *t->line);
    t->line = items;
    if (ok)
        t->line[t->rows++] = line;
    return ok;
}

static int fail_memory(const cursor *c, zs_error *err)
{
    return zs_fail_nomem(err, c->t->cap * 2 * sizeof *c->t->cell, "a label table");
}

/* Steps over one line end of any kind. */
static void end_line(cursor *c)
{
    if (*c->at == '\r' && c->at[1] == '\n')
        *c->at++ = '\0';
    if (*c->at != '\0') {
        *c->at++ = '\0';
        c->line++;
    }
}

static bool at_line_end(const cursor *c)
{
    return *c->at == '\n' || *c->at == '\r' || *c->at == '\0';
}

/* The cell [s,end) without blanks around it. *end is left alone: it is still to be read. */
static char *trim(char *s, char *end)
{
    while (s < end && (*s == ' ' || *s == '\t'))
        s++;
    while (end > s && (end[-1] == ' ' || end[-1] == '\t'))
        *--end = '\0';
    return s;
}

/* ---- CSV ---- */

/* A quoted cell is unquoted in place: the result is never longer. Leaves *end at what follows. */
static int quoted_cell(cursor *c, char **cell, zs_error *err)
{
    char *from = c->at + 1, *to = c->at;
    size_t line = c->line;
    *cell = to;
    for (; *from && (*from != '"' || from[1] == '"'); from++) {
        if (*from == '"')
            from++;
        line += *from == '\n';
        *to++ = *from;
    }
    if (!*from)
        return zs_fail(err, ZS_E_FORMAT, "%s: line %zu: a quote is never closed", c->label,
                       c->line);
    *to = '\0';
    c->line = line;
    c->at = from + 1;
    while (*c->at == ' ' || *c->at == '\t')
        c->at++;
    if (*c->at != ',' && !at_line_end(c))
        return zs_fail(err, ZS_E_FORMAT, "%s: line %zu: text follows a closing quote", c->label,
                       c->line);
    return ZS_OK;
}

/* What ends the cell becomes its NUL, here or in end_line. */
static int csv_cell(cursor *c, bool *more, zs_error *err)
{
    char *cell = c->at;
    while (*c->at == ' ' || *c->at == '\t')
        c->at++;
    if (*c->at == '"') {
        int status = quoted_cell(c, &cell, err);
        if (status < 0)
            return status;
    } else {
        c->at += strcspn(c->at, ",\r\n");
        cell = trim(cell, c->at);
    }
    *more = *c->at == ',';
    if (*more)
        *c->at++ = '\0';
    return add_cell(c->t, cell) ? ZS_OK : fail_memory(c, err);
}

/* One record as cells; *n says how many. */
static int csv_record(cursor *c, size_t *n, zs_error *err)
{
    bool more = true;
    int status = ZS_OK;
    for (*n = 0; status == ZS_OK && more; (*n)++)
        status = csv_cell(c, &more, err);
    if (status == ZS_OK)
        end_line(c);
    return status;
}

static int csv_header(cursor *c, zs_error *err)
{
    size_t n;
    int status = csv_record(c, &n, err);
    if (status < 0)
        return status;
    if (n < 2)
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: line 1: has no comma; a label file is CSV with a header "
                       "(file,smiling,...) or CelebA's attribute text",
                       c->label);
    /* the name of the first column says nothing */
    memmove(c->t->cell, c->t->cell + 1, (n - 1) * sizeof *c->t->cell);
    c->t->cells = c->t->attrs = n - 1;
    return ZS_OK;
}

static int fail_columns(const cursor *c, size_t line, size_t have, zs_error *err)
{
    return zs_fail(err, ZS_E_FORMAT, "%s: line %zu: has %zu columns where the header has %zu",
                   c->label, line, have, c->t->attrs + 1);
}

static int parse_csv(cursor *c, zs_error *err)
{
    int status = csv_header(c, err);
    while (status == ZS_OK && *c->at) {
        size_t line = c->line, n = 0;
        if (at_line_end(c)) {
            end_line(c);
            continue;
        }
        status = csv_record(c, &n, err);
        if (status == ZS_OK && n != c->t->attrs + 1)
            status = fail_columns(c, line, n, err);
        if (status == ZS_OK && !add_row(c->t, line))
            status = fail_memory(c, err);
    }
    return status;
}

/* ---- CelebA ---- */

/* The words of one line as cells. */
static int words_record(cursor *c, size_t *n, zs_error *err)
{
    *n = 0;
    while (!at_line_end(c)) {
        char *word = c->at;
        size_t len = strcspn(word, " \t\r\n");
        c->at += len;
        if (*c->at == ' ' || *c->at == '\t')
            *c->at++ = '\0';
        if (len == 0)
            continue;
        if (!add_cell(c->t, word))
            return fail_memory(c, err);
        (*n)++;
    }
    end_line(c);
    return ZS_OK;
}

/* The count of images, where there is one, and the names. *count is -1 without. */
static int celeba_header(cursor *c, int64_t *count, zs_error *err)
{
    size_t n;
    *count = -1;
    int status = words_record(c, &n, err);
    if (status == ZS_OK && n == 1 && zs_str_to_i64(c->t->cell[0], count)) {
        c->t->cells = 0;
        status = words_record(c, &n, err);
    }
    if (status == ZS_OK && n == 0)
        status = zs_fail(err, ZS_E_FORMAT, "%s: line %zu: attribute names are missing", c->label,
                         c->line - 1);
    c->t->attrs = n;
    return status;
}

static int parse_celeba(cursor *c, zs_error *err)
{
    int64_t count;
    int status = celeba_header(c, &count, err);
    while (status == ZS_OK && *c->at) {
        size_t line = c->line, n = 0;
        status = words_record(c, &n, err);
        if (status < 0 || n == 0)
            continue;
        if (n != c->t->attrs + 1)
            status = fail_columns(c, line, n, err);
        else if (!add_row(c->t, line))
            status = fail_memory(c, err);
    }
    if (status == ZS_OK && count >= 0 && (size_t)count != c->t->rows)
        status = zs_fail(err, ZS_E_FORMAT,
                         "%s: holds %zu rows where its first line promises %lld; copy it again",
                         c->label, c->t->rows, (long long)count);
    return status;
}

/* ---- either ---- */

int zs_labeltable_parse(zs_labeltable *t, const char *label, const void *p, size_t n, zs_error *err)
{
    *t = (zs_labeltable){0};
    if (n == 0)
        return zs_fail(err, ZS_E_FORMAT, "%s: is empty", label);
    if (memchr(p, 0, n))
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: is not a text file (it holds zero bytes); save it as UTF-8", label);
    if (n == SIZE_MAX || !(t->text = zs_alloc(n + 1, 1)))
        return zs_fail_nomem(err, n, "a label file");
    memcpy(t->text, p, n);
    t->text[n] = '\0';
    cursor c = {t, label, t->text, 1};
    if (zs_str_starts(c.at, "\xEF\xBB\xBF"))
        c.at += 3;
    size_t first = strcspn(c.at, "\r\n");
    int status = memchr(c.at, ',', first) || !strpbrk(c.at, " \t") ? parse_csv(&c, err)
                                                                   : parse_celeba(&c, err);
    if (status == ZS_OK && t->rows == 0)
        status = zs_fail(err, ZS_E_FORMAT, "%s: has a header and no rows", label);
    if (status < 0)
        zs_labeltable_free(t);
    return status;
}

void zs_labeltable_free(zs_labeltable *t)
{
    zs_free(t->text);
    zs_free(t->cell);
    zs_free(t->line);
    *t = (zs_labeltable){0};
}
