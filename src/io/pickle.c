/* SPDX-License-Identifier: MIT */
#include "io/pickle_impl.h"

#include <string.h>

typedef struct zs_pchunk {
    struct zs_pchunk *next;
    size_t used, cap;
    uint64_t bytes[]; /* 8-byte units, for alignment */
} zs_pchunk;

int zs_pm_fail(zs_pmachine *m, const char *what)
{
    return zs_fail(m->err, ZS_E_FORMAT, "%s: pickle byte %zu: %s; the file is damaged", m->label,
                   m->op_at, what);
}

int zs_pm_nomem(zs_pmachine *m)
{
    return zs_fail_nomem(m->err, m->at, "a pickle");
}

void *zs_pm_bytes(zs_pmachine *m, size_t n)
{
    zs_pchunk *c = m->out->chunks;
    size_t units = n / 8 + 1;
    if (!c || c->cap - c->used < units) {
        size_t cap = c && c->cap < 8192 ? c->cap * 2 : c ? 8192 : 256;
        cap = cap < units ? units : cap;
        if (!(c = zs_alloc(cap + sizeof *c / 8, 8)))
            return NULL;
        *c = (zs_pchunk){.next = m->out->chunks, .cap = cap};
        m->out->chunks = c;
    }
    void *p = &c->bytes[c->used];
    c->used += units;
    return p;
}

zs_pvalue *zs_pm_value(zs_pmachine *m, zs_pkind kind)
{
    zs_pvalue *v = zs_pm_bytes(m, sizeof *v);
    if (v) {
        memset(v, 0, sizeof *v);
        v->kind = kind;
    }
    return v;
}

int zs_pm_push(zs_pmachine *m, zs_pvalue *v)
{
    void *stack = m->stack;
    if (!v || !zs_grow(&stack, &m->stack_cap, m->depth, sizeof *m->stack))
        return zs_pm_nomem(m);
    m->stack = stack;
    m->stack[m->depth++] = v;
    return ZS_OK;
}

int zs_pm_take(zs_pmachine *m, zs_span *s, uint64_t n)
{
    if (n > m->in.n - m->at)
        return zs_pm_fail(m, "it ends in the middle of a value");
    *s = (zs_span){m->in.p + m->at, (size_t)n};
    m->at += (size_t)n;
    return ZS_OK;
}

int zs_pm_line(zs_pmachine *m, zs_span *s)
{
    const uint8_t *p = m->in.p + m->at, *end = memchr(p, '\n', m->in.n - m->at);
    if (!end)
        return zs_pm_fail(m, "it ends in the middle of a line");
    *s = (zs_span){p, (size_t)(end - p)};
    m->at += s->n + 1;
    if (s->n > 0 && s->p[s->n - 1] == '\r')
        s->n--;
    return ZS_OK;
}

int zs_pm_number(zs_pmachine *m, uint64_t *v, size_t n)
{
    zs_span s = {0};
    int status = zs_pm_take(m, &s, n);
    *v = 0;
    for (size_t i = n; status >= 0 && i-- > 0;)
        *v = *v << 8 | s.p[i];
    return status;
}

/* Values above the last mark may be popped; what lies below belongs to an open container. */
static size_t stack_floor(const zs_pmachine *m)
{
    return m->mark_count ? m->marks[m->mark_count - 1] : 0;
}

static int pop(zs_pmachine *m, zs_pvalue **v)
{
    if (m->depth <= stack_floor(m))
        return zs_pm_fail(m, "it takes a value from an empty stack");
    *v = m->stack[--m->depth];
    return ZS_OK;
}

static int top(zs_pmachine *m, zs_pvalue **v)
{
    if (m->depth <= stack_floor(m))
        return zs_pm_fail(m, "it needs a value on an empty stack");
    *v = m->stack[m->depth - 1];
    return ZS_OK;
}

/* Removes the last mark: the values above it are stack[*first .. *first + *n), valid until the
 * next push, and no longer on the stack. */
static int pop_mark(zs_pmachine *m, size_t *first, size_t *n)
{
    if (m->mark_count == 0)
        return zs_pm_fail(m, "it closes what was never opened");
    *first = m->marks[--m->mark_count];
    *n = m->depth - *first;
    m->depth = *first;
    return ZS_OK;
}

static int seq_append(zs_pmachine *m, zs_pseq *s, zs_pvalue *const *v, size_t n)
{
    if (s->cap - s->n < n) {
        size_t cap = s->n + n;
        if (s->n > 0 && cap < 2 * s->n)
            cap = 2 * s->n;
        zs_pvalue **bigger = zs_pm_bytes(m, cap * sizeof *bigger);
        if (!bigger)
            return zs_pm_nomem(m);
        if (s->n > 0)
            memcpy(bigger, s->v, s->n * sizeof *bigger);
        s->v = bigger;
        s->cap = cap;
    }
    if (n > 0)
        memcpy(s->v + s->n, v, n * sizeof *v);
    s->n += n;
    return ZS_OK;
}

static int push_seq(zs_pmachine *m, zs_pkind kind, zs_pvalue *const *v, size_t n)
{
    zs_pvalue *s = zs_pm_value(m, kind);
    int status = s ? seq_append(m, &s->u.seq, v, n) : ZS_OK;
    return status < 0 ? status : zs_pm_push(m, s);
}

static int op_mark(zs_pmachine *m, uint8_t op)
{
    (void)op;
    void *marks = m->marks;
    if (!zs_grow(&marks, &m->mark_cap, m->mark_count, sizeof *m->marks))
        return zs_pm_nomem(m);
    m->marks = marks;
    m->marks[m->mark_count++] = m->depth;
    return ZS_OK;
}

static int op_stop(zs_pmachine *m, uint8_t op)
{
    (void)op;
    m->stopped = true;
    return pop(m, &m->out->root);
}

static int op_pop(zs_pmachine *m, uint8_t op)
{
    size_t first = 0, n = 0;
    zs_pvalue *v;
    if (op == '1' || m->depth <= stack_floor(m))
        return pop_mark(m, &first, &n);
    return pop(m, &v);
}

static int op_dup(zs_pmachine *m, uint8_t op)
{
    (void)op;
    zs_pvalue *v = NULL;
    int status = top(m, &v);
    return status < 0 ? status : zs_pm_push(m, v);
}

/* PROTO and FRAME say nothing that the values do not. */
static int op_proto(zs_pmachine *m, uint8_t op)
{
    uint64_t v = 0;
    int status = zs_pm_number(m, &v, op == 0x80 ? 1 : 8);
    if (status >= 0 && op == 0x80 && v > 5)
        return zs_fail(m->err, ZS_E_UNSUPPORTED, "%s: pickle protocol %u is newer than 5", m->label,
                       (unsigned)v);
    if (status >= 0 && op == 0x95 && v > m->in.n - m->at)
        return zs_pm_fail(m, "a frame is longer than the file");
    return status;
}

static int op_empty(zs_pmachine *m, uint8_t op)
{
    zs_pkind kind = op == ']'   ? ZS_P_LIST
                    : op == '}' ? ZS_P_DICT
                    : op == ')' ? ZS_P_TUPLE
                                : ZS_P_SET;
    return push_seq(m, kind, NULL, 0);
}

/* TUPLE, LIST, DICT, FROZENSET: everything above the mark. */
static int op_collect(zs_pmachine *m, uint8_t op)
{
    size_t first = 0, n = 0;
    int status = pop_mark(m, &first, &n);
    if (status < 0)
        return status;
    zs_pkind kind = op == 't'   ? ZS_P_TUPLE
                    : op == 'l' ? ZS_P_LIST
                    : op == 'd' ? ZS_P_DICT
                                : ZS_P_SET;
    if (kind == ZS_P_DICT && n % 2 != 0)
        return zs_pm_fail(m, "a dictionary has a key without a value");
    return push_seq(m, kind, m->stack + first, n);
}

static int op_tuple_n(zs_pmachine *m, uint8_t op)
{
    size_t n = (size_t)op - 0x84;
    if (m->depth - stack_floor(m) < n)
        return zs_pm_fail(m, "a tuple takes values from an empty stack");
    m->depth -= n;
    return push_seq(m, ZS_P_TUPLE, m->stack + m->depth, n);
}

/* APPEND, APPENDS, ADDITEMS. */
static int op_append(zs_pmachine *m, uint8_t op)
{
    size_t first = m->depth - 1, n = 1;
    zs_pvalue *v = NULL, *to = NULL;
    int status = op == 'a' ? pop(m, &v) : pop_mark(m, &first, &n);
    if (status < 0 || (status = top(m, &to)) < 0)
        return status;
    if (to->kind == (op == 0x90 ? ZS_P_SET : ZS_P_LIST))
        return seq_append(m, &to->u.seq, m->stack + first, n);
    if (to->kind == ZS_P_OBJECT)
        return seq_append(m, &to->u.obj->list, m->stack + first, n);
    return zs_pm_fail(m, "it appends to something that is not a list");
}

/* SETITEM, SETITEMS. */
static int op_setitem(zs_pmachine *m, uint8_t op)
{
    size_t first = 0, n = 2;
    zs_pvalue *v = NULL, *to = NULL;
    int status = op == 's' ? pop(m, &v) : pop_mark(m, &first, &n);
    if (status >= 0 && op == 's') {
        status = pop(m, &v);
        first = m->depth;
    }
    if (status < 0 || (status = top(m, &to)) < 0)
        return status;
    if (n % 2 != 0)
        return zs_pm_fail(m, "a dictionary has a key without a value");
    if (to->kind == ZS_P_DICT)
        return seq_append(m, &to->u.seq, m->stack + first, n);
    if (to->kind == ZS_P_OBJECT)
        return seq_append(m, &to->u.obj->pairs, m->stack + first, n);
    return zs_pm_fail(m, "it sets a key of something that is not a dictionary");
}

static int memo_put(zs_pmachine *m, uint64_t i)
{
    zs_pvalue *v = NULL;
    int status = top(m, &v);
    if (status < 0)
        return status;
    /* picklers number densely, and each number takes at least one byte of the file */
    if (i > m->at)
        return zs_pm_fail(m, "a memo number is too large");
    if (i >= m->memo_cap) {
        size_t cap = 2 * (size_t)i + 64;
        zs_pvalue **memo = zs_realloc(m->memo, m->memo_count, cap, sizeof *memo);
        if (!memo)
            return zs_pm_nomem(m);
        m->memo = memo;
        m->memo_cap = cap;
    }
    while (m->memo_count <= i)
        m->memo[m->memo_count++] = NULL;
    m->memo[i] = v;
    return ZS_OK;
}

/* PUT, BINPUT, LONG_BINPUT, MEMOIZE. */
static int op_put(zs_pmachine *m, uint8_t op)
{
    uint64_t i = m->memo_count;
    int64_t text = 0;
    int status = ZS_OK;
    if (op == 'p') {
        status = zs_pm_decimal(m, &text);
        if (status >= 0 && text < 0)
            return zs_pm_fail(m, "a memo number is negative");
        i = (uint64_t)text;
    } else if (op != 0x94) {
        status = zs_pm_number(m, &i, op == 'q' ? 1 : 4);
    }
    return status < 0 ? status : memo_put(m, i);
}

static int op_get(zs_pmachine *m, uint8_t op)
{
    uint64_t i = 0;
    int64_t text = 0;
    int status = op == 'g' ? zs_pm_decimal(m, &text) : zs_pm_number(m, &i, op == 'h' ? 1 : 4);
    if (status < 0)
        return status;
    if (op == 'g')
        i = text < 0 ? UINT64_MAX : (uint64_t)text;
    if (i >= m->memo_count || !m->memo[i])
        return zs_pm_fail(m, "it refers to a value that is not there");
    return zs_pm_push(m, m->memo[i]);
}

static int push_global(zs_pmachine *m, zs_span module, zs_span name)
{
    zs_pvalue *v = zs_pm_value(m, ZS_P_GLOBAL);
    if (v) {
        v->u.global.module = module;
        v->u.global.name = name;
    }
    return zs_pm_push(m, v);
}

static int op_global(zs_pmachine *m, uint8_t op)
{
    (void)op;
    zs_span module = {0}, name = {0};
    int status = zs_pm_line(m, &module);
    if (status < 0 || (status = zs_pm_line(m, &name)) < 0)
        return status;
    return push_global(m, module, name);
}

static int op_stack_global(zs_pmachine *m, uint8_t op)
{
    (void)op;
    zs_pvalue *name = NULL, *module = NULL;
    int status = pop(m, &name);
    if (status < 0 || (status = pop(m, &module)) < 0)
        return status;
    if (name->kind != ZS_P_STR || module->kind != ZS_P_STR)
        return zs_pm_fail(m, "the name of a class is not text");
    return push_global(m, module->u.s, name->u.s);
}

/* EXT1, EXT2, EXT4: numbers of a registry that only the writer's Python had. */
static int op_ext(zs_pmachine *m, uint8_t op)
{
    uint64_t code = 0;
    zs_span number = {m->in.p + m->at, 0};
    static const uint8_t module[] = {'c', 'o', 'p', 'y', 'r', 'e', 'g'};
    int status = zs_pm_number(m, &code, op == 0x84 ? 4 : (size_t)op - 0x81);
    return status < 0 ? status : push_global(m, (zs_span){module, sizeof module}, number);
}

static int push_object(zs_pmachine *m, zs_pvalue *cls, zs_pvalue *args)
{
    zs_pvalue *v = zs_pm_value(m, ZS_P_OBJECT);
    zs_pobject *o = v ? zs_pm_bytes(m, sizeof *o) : NULL;
    if (!o)
        return zs_pm_nomem(m);
    *o = (zs_pobject){.cls = cls, .args = args};
    v->u.obj = o;
    return zs_pm_push(m, v);
}

/* REDUCE, NEWOBJ, NEWOBJ_EX: cls args [kwargs] on the stack. */
static int op_reduce(zs_pmachine *m, uint8_t op)
{
    zs_pvalue *kwargs = NULL, *args = NULL, *cls = NULL;
    int status = op == 0x92 ? pop(m, &kwargs) : ZS_OK;
    if (status < 0 || (status = pop(m, &args)) < 0 || (status = pop(m, &cls)) < 0)
        return status;
    if (args->kind != ZS_P_TUPLE && args->kind != ZS_P_LIST)
        return zs_pm_fail(m, "the arguments of an object are not a tuple");
    status = push_object(m, cls, args);
    if (status >= 0 && kwargs && kwargs->kind == ZS_P_DICT)
        m->stack[m->depth - 1]->u.obj->kwargs = kwargs;
    return status;
}

/* INST: mark args..., class named in two lines. OBJ: mark class args... */
static int op_inst(zs_pmachine *m, uint8_t op)
{
    size_t first = 0, n = 0;
    int status = ZS_OK;
    if (op == 'i' && (status = op_global(m, op)) < 0)
        return status;
    zs_pvalue *cls = NULL;
    if (op == 'i' && (status = pop(m, &cls)) < 0)
        return status;
    if ((status = pop_mark(m, &first, &n)) < 0)
        return status;
    if (op == 'o') {
        if (n == 0)
            return zs_pm_fail(m, "an object has no class");
        cls = m->stack[first++];
        n--;
    }
    zs_pvalue *args = zs_pm_value(m, ZS_P_TUPLE);
    if (!args)
        return zs_pm_nomem(m);
    status = seq_append(m, &args->u.seq, m->stack + first, n);
    return status < 0 ? status : push_object(m, cls, args);
}

/* State given to something that is not an object is dropped: nothing would be done with it. */
static int op_build(zs_pmachine *m, uint8_t op)
{
    (void)op;
    zs_pvalue *state = NULL, *to = NULL;
    int status = pop(m, &state);
    if (status < 0 || (status = top(m, &to)) < 0)
        return status;
    if (to->kind == ZS_P_OBJECT)
        to->u.obj->state = state;
    return ZS_OK;
}

static int op_persid(zs_pmachine *m, uint8_t op)
{
    zs_pvalue *pid = NULL;
    zs_span line;
    int status = op == 'Q' ? pop(m, &pid) : zs_pm_line(m, &line);
    if (status < 0)
        return status;
    if (op == 'P' && (pid = zs_pm_value(m, ZS_P_STR)))
        pid->u.s = line;
    zs_pvalue *v = pid ? zs_pm_value(m, ZS_P_PERSID) : NULL;
    if (!v)
        return zs_pm_nomem(m);
    v->u.pid = pid;
    status = seq_append(m, &m->out->persids, &v, 1);
    return status < 0 ? status : zs_pm_push(m, v);
}

static int op_buffer(zs_pmachine *m, uint8_t op)
{
    if (op == 0x98)
        return ZS_OK; /* READONLY_BUFFER only marks what is on the stack */
    return zs_fail(m->err, ZS_E_UNSUPPORTED,
                   "%s: the pickle keeps buffers outside of itself; save "
                   "it without a buffer callback",
                   m->label);
}

static const zs_pop_fn ops[256] = {
    ['('] = op_mark,
    ['.'] = op_stop,
    ['0'] = op_pop,
    ['1'] = op_pop,
    ['2'] = op_dup,
    ['F'] = zs_pop_text_float,
    ['I'] = zs_pop_text_int,
    ['J'] = zs_pop_int,
    ['K'] = zs_pop_int,
    ['L'] = zs_pop_text_int,
    ['M'] = zs_pop_int,
    ['N'] = zs_pop_constant,
    ['P'] = op_persid,
    ['Q'] = op_persid,
    ['R'] = op_reduce,
    ['S'] = zs_pop_text_string,
    ['T'] = zs_pop_string,
    ['U'] = zs_pop_string,
    ['V'] = zs_pop_text_unicode,
    ['X'] = zs_pop_string,
    ['a'] = op_append,
    ['b'] = op_build,
    ['c'] = op_global,
    ['d'] = op_collect,
    ['}'] = op_empty,
    ['e'] = op_append,
    ['g'] = op_get,
    ['h'] = op_get,
    ['i'] = op_inst,
    ['j'] = op_get,
    ['l'] = op_collect,
    [']'] = op_empty,
    ['o'] = op_inst,
    ['p'] = op_put,
    ['q'] = op_put,
    ['r'] = op_put,
    ['s'] = op_setitem,
    ['t'] = op_collect,
    [')'] = op_empty,
    ['u'] = op_setitem,
    ['G'] = zs_pop_float,
    ['B'] = zs_pop_string,
    ['C'] = zs_pop_string,
    [0x80] = op_proto,
    [0x81] = op_reduce,
    [0x82] = op_ext,
    [0x83] = op_ext,
    [0x84] = op_ext,
    [0x85] = op_tuple_n,
    [0x86] = op_tuple_n,
    [0x87] = op_tuple_n,
    [0x88] = zs_pop_constant,
    [0x89] = zs_pop_constant,
    [0x8A] = zs_pop_long,
    [0x8B] = zs_pop_long,
    [0x8C] = zs_pop_string,
    [0x8D] = zs_pop_string,
    [0x8E] = zs_pop_string,
    [0x8F] = op_empty,
    [0x90] = op_append,
    [0x91] = op_collect,
    [0x92] = op_reduce,
    [0x93] = op_stack_global,
    [0x94] = op_put,
    [0x95] = op_proto,
    [0x96] = zs_pop_string,
    [0x97] = op_buffer,
    [0x98] = op_buffer,
};

int zs_pickle_parse(zs_pickle *out, const char *label, zs_span bytes, zs_error *err)
{
    *out = (zs_pickle){0};
    zs_pmachine m = {.out = out, .label = label, .err = err, .in = bytes};
    void *stack = NULL;
    /* never NULL, so that a pointer into an empty stack is one too */
    int status = zs_grow(&stack, &m.stack_cap, 0, sizeof *m.stack) ? ZS_OK : zs_pm_nomem(&m);
    m.stack = stack;
    while (!m.stopped && status >= 0) {
        m.op_at = m.at;
        if (m.at == m.in.n) {
            status = zs_pm_fail(&m, "it ends without STOP");
        } else {
            uint8_t op = m.in.p[m.at++];
            status = ops[op] ? ops[op](&m, op) : zs_pm_fail(&m, "this is no pickle opcode");
        }
    }
    out->used = m.at;
    zs_free(m.stack);
    zs_free(m.marks);
    zs_free(m.memo);
    if (status < 0)
        zs_pickle_free(out);
    return status;
}

void zs_pickle_free(zs_pickle *p)
{
    for (zs_pchunk *c = p->chunks, *next; c; c = next) {
        next = c->next;
        zs_free(c);
    }
    *p = (zs_pickle){0};
}

static bool span_is(zs_span s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

bool zs_pvalue_is_global(const zs_pvalue *v, const char *module, const char *name)
{
    return v && v->kind == ZS_P_GLOBAL && span_is(v->u.global.module, module) &&
           span_is(v->u.global.name, name);
}

bool zs_pvalue_is_str(const zs_pvalue *v, const char *s)
{
    return v && v->kind == ZS_P_STR && span_is(v->u.s, s);
}

zs_pvalue *zs_pvalue_at(const zs_pvalue *v, size_t i)
{
    bool seq = v && (v->kind == ZS_P_LIST || v->kind == ZS_P_TUPLE || v->kind == ZS_P_SET);
    return seq && i < v->u.seq.n ? v->u.seq.v[i] : NULL;
}
