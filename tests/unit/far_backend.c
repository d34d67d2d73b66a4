/* SPDX-License-Identifier: MIT */
#include "tests/unit/far_backend.h"

#include "train/optim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Added to real addresses: no processor of today maps anything there. */
static const uintptr_t WINDOW = (uintptr_t)1 << 62;

enum { ALIGN = 256, HOST_ALIGN = 64, WEIGHT_ALIGN = 16 };

static void breach(const char *what, const char *who)
{
    fprintf(stderr, "far backend: %s (%s)\n", what, who);
    abort();
}

/* ---- memory ---- */

typedef struct block {
    uint8_t *p;
    size_t bytes;
    bool host;
} block;

static block *blocks;
static size_t n_blocks, cap_blocks;
static far_counts counts;

/* ---- failures ---- */

static int countdown[FAR_POINTS];
static zs_error kept;
static bool refuses, loses;

void far_fail_at(far_point p, int nth)
{
    countdown[p] = nth;
}

void far_reset(void)
{
    memset(countdown, 0, sizeof countdown);
    kept = (zs_error){0};
}

void far_refuse_recording(bool refuse)
{
    refuses = refuse;
}

void far_lose_recording(bool lose)
{
    loses = lose;
}

far_counts far_counted(void)
{
    far_counts c = counts;
    c.blocks = n_blocks;
    return c;
}

static bool fails(far_point p)
{
    return countdown[p] > 0 && --countdown[p] == 0;
}

/* Also keeps the failure. */
static void note_failure(far_point p)
{
    static const char *const name[FAR_POINTS] = {"alloc",  "host memory", "upload", "download",
                                                 "kernel", "record",      "replay", "adam"};
    if (fails(p) && !kept.status)
        zs_fail(&kept, ZS_E_IO, "the far device failed: %s", name[p]);
}

static int report(zs_error *err)
{
    return kept.status ? zs_fail(err, kept.status, "%s", kept.message) : ZS_OK;
}

/* ---- blocks ---- */

static void *take(size_t bytes, bool host)
{
    void *p = NULL;
    size_t align = host ? HOST_ALIGN : ALIGN;
    if (fails(host ? FAR_HOST : FAR_ALLOC) || zs_alloc_fails() ||
        posix_memalign(&p, align, bytes ? bytes : 1))
        return NULL;
    memset(p, host ? 0x5A : 0, bytes);
    if (n_blocks == cap_blocks) {
        cap_blocks = cap_blocks ? 2 * cap_blocks : 64;
        blocks = realloc(blocks, cap_blocks * sizeof *blocks);
        if (!blocks)
            breach("out of memory", "the test");
    }
    blocks[n_blocks++] = (block){p, bytes, host};
    return p;
}

static void drop(uint8_t *p, size_t bytes, bool host)
{
    for (size_t i = 0; i < n_blocks; i++) {
        if (blocks[i].p != p || blocks[i].host != host)
            continue;
        if (blocks[i].bytes != bytes)
            breach("memory is released with another size than it was taken with", "release");
        free(p);
        blocks[i] = blocks[--n_blocks];
        if (n_blocks == 0) {
            free(blocks);
            blocks = NULL;
            cap_blocks = 0;
        }
        return;
    }
    breach("memory is released that was not taken, or twice", "release");
}

/* The real address of bytes of this backend. */
static void *real(const void *p, size_t bytes, const char *who)
{
    uintptr_t a = (uintptr_t)p;
    if (a < WINDOW)
        breach(p ? "an address of the program's memory is handed over" : "NULL is handed over",
               who);
    uint8_t *q = (uint8_t *)(a - WINDOW);
    for (size_t i = 0; i < n_blocks; i++)
        if (!blocks[i].host && q >= blocks[i].p && q + bytes <= blocks[i].p + blocks[i].bytes)
            return q;
    breach("an address is in no block, or its bytes go beyond it", who);
    return NULL;
}

/* ---- the queue ---- */

typedef enum kind { KERNEL, UPLOAD, COPY, ZERO, TO_BF16, NORM, ADAM, REPLAY } kind;

typedef struct entry {
    kind kind;
    zs_op op;
    zs_call call;
    zs_attr attr;
    void *dst;
    const void *src;
    size_t n; /* bytes or elements */
    zs_adam adam;
} entry;

typedef struct list {
    entry *e;
    size_t n, cap;
} list;

static list queue;
static list *recording;

static void push(list *l, const entry *e)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 64;
        l->e = realloc(l->e, l->cap * sizeof *l->e);
        if (!l->e)
            breach("out of memory", "the test");
    }
    l->e[l->n++] = *e;
}

static void clear(list *l)
{
    free(l->e);
    *l = (list){0};
}

/* Transfers and the optimiser's work; none of it may be on a tape. */
static int put(const entry *e, zs_error *err)
{
    if (recording)
        breach("something else than a kernel is being recorded", "the queue");
    int status = report(err);
    if (status == ZS_OK)
        push(&queue, e);
    return status;
}

/* ---- kernels ---- */

static char mark_f32, mark_bf16; /* their addresses are the queues' */

static size_t bytes_of(const zs_view *v)
{
    return (size_t)zs_shape_numel(&v->s) * zs_dtype_size(v->type);
}

static void check_view(const zs_view *v, zs_slot slot, zs_op op, bool half)
{
    zs_dtype wanted = half && slot != ZS_SLOT_F32 ? ZS_BF16 : ZS_F32;
    if (!v->p)
        return;
    if (op == ZS_OP_CAST ? v->type != ZS_F32 && v->type != ZS_BF16 : v->type != wanted)
        breach("a tensor has another type than its slot", zs_op_name(op));
    if (slot == ZS_SLOT_WEIGHT && (uintptr_t)v->p % WEIGHT_ALIGN)
        breach("a weight is not aligned", zs_op_name(op));
    (void)real(v->p, bytes_of(v), zs_op_name(op));
}

static void note_kernel(zs_op op, const zs_call *c)
{
    bool half = c->queue == &mark_bf16;
    entry e = {.kind = KERNEL, .op = op, .call = *c, .attr = *c->a};
    if (!half && c->queue != &mark_f32)
        breach("a call is for another queue", zs_op_name(op));
    for (int k = 0; k < zs_op_inputs(op); k++)
        check_view(&c->in[k], zs_op_in(op, k), op, half);
    for (int k = 0; k < zs_op_outputs(op); k++)
        check_view(&c->out[k], zs_op_out(op, k), op, half);
    if ((uintptr_t)c->ws % ALIGN)
        breach("a workspace is not aligned", zs_op_name(op));
    note_failure(FAR_KERNEL);
    if (kept.status)
        return;
    counts.kernels += !recording;
    push(recording ? recording : &queue, &e);
}

/* ---- packed weights: copies of them ---- */

static zs_packing conv_packing(const zs_call *c)
{
    return (zs_packing){.bytes = bytes_of(&c->in[1]), .layout = 1};
}

static void conv_pack(const zs_call *c, void *dst)
{
    const size_t n = bytes_of(&c->in[1]);
    if (recording)
        breach("weights are packed while recording", "pack");
    counts.packs++;
    push(&queue, &(entry){.kind = COPY, .dst = dst, .src = c->in[1].p, .n = n});
}

static const zs_packer *packer(zs_op op)
{
    static const zs_packer conv = {conv_packing, conv_pack};
    return op == ZS_OP_CONV2D ? &conv : NULL;
}

/* A view of floats for the reference: the tensor itself, or floats made of half ones. */
static zs_view open_view(const zs_view *v, zs_op op)
{
    zs_view f = {.s = v->s};
    if (!v->p)
        return f;
    size_t n = (size_t)zs_shape_numel(&v->s);
    void *p = real(v->p, bytes_of(v), zs_op_name(op));
    f.p = p;
    if (v->type == ZS_BF16) {
        f.p = malloc(n * sizeof *f.p + 1);
        if (!f.p)
            breach("out of memory", "the test");
        zs_dtype_to_f32(f.p, p, ZS_BF16, n);
    }
    return f;
}

static void close_view(const zs_view *v, zs_view *f, bool output)
{
    if (v->p && v->type == ZS_BF16) {
        if (output)
            zs_dtype_from_f32(real(v->p, bytes_of(v), "a result"), ZS_BF16, f->p,
                              (size_t)zs_shape_numel(&v->s));
        free(f->p);
    }
}

static void run_kernel(const entry *e)
{
    const zs_kernel *k = zs_backend_find("cpu-ref")->kernel(e->op);
    zs_call far = e->call;
    if (far.packed) /* weights as they are; the others must not be looked at */
        far.in[1].p = (float *)(uintptr_t)far.packed;
    zs_call c = {.a = &e->attr, .threads = e->call.threads};
    c.step = real(e->call.step, sizeof *c.step, zs_op_name(e->op));
    for (int i = 0; i < ZS_MAX_IN; i++)
        c.in[i] = open_view(&far.in[i], e->op);
    for (int i = 0; i < ZS_MAX_OUT; i++)
        c.out[i] = open_view(&e->call.out[i], e->op);
    c.ws = real(e->call.ws, k->workspace ? k->workspace(&e->call) : 0, zs_op_name(e->op));
    k->run(&c);
    for (int i = 0; i < ZS_MAX_IN; i++)
        close_view(&far.in[i], &c.in[i], false);
    for (int i = 0; i < ZS_MAX_OUT; i++)
        close_view(&e->call.out[i], &c.out[i], true);
}

/* ---- the optimiser ---- */

static void run_adam(const zs_adam *far)
{
    zs_adam a = *far;
    size_t n = (size_t)a.n, bytes = n * sizeof(float);
    a.param = real(a.param, bytes, "adam");
    a.grad = real(a.grad, bytes, "adam");
    a.m = real(a.m, bytes, "adam");
    a.v = real(a.v, bytes, "adam");
    a.ema = a.ema ? real(a.ema, bytes, "adam") : NULL;
    a.norm = real(a.norm, sizeof *a.norm, "adam");
    zs_optim_apply(&a, *a.norm);
    if (a.shadow)
        zs_dtype_from_f32(real(a.shadow, n * sizeof *a.shadow, "adam"), ZS_BF16, a.param, n);
}

static void run_list(const list *l);

static void run_entry(const entry *e)
{
    switch (e->kind) {
    case KERNEL: run_kernel(e); break;
    case UPLOAD: memcpy(real(e->dst, e->n, "upload"), e->src, e->n); break;
    case COPY: memmove(real(e->dst, e->n, "copy"), real(e->src, e->n, "copy"), e->n); break;
    case ZERO: memset(real(e->dst, e->n, "zero"), 0, e->n); break;
    case TO_BF16:
        zs_dtype_from_f32(real(e->dst, 2 * e->n, "to_bf16"), ZS_BF16,
                          real(e->src, 4 * e->n, "to_bf16"), e->n);
        break;
    case NORM:
        *(double *)real(e->dst, sizeof(double), "norm") =
            zs_grad_norm(real(e->src, 4 * e->n, "norm"), e->n);
        break;
    case ADAM: run_adam(&e->adam); break;
    case REPLAY: run_list(e->src); break;
    }
}

static void run_list(const list *l)
{
    for (size_t i = 0; i < l->n; i++)
        run_entry(&l->e[i]);
}

static void flush(void)
{
    if (recording)
        breach("something is waited for while recording", "the queue");
    run_list(&queue);
    clear(&queue);
}

/* ---- what a backend offers ---- */

static void *far_alloc(size_t bytes)
{
    void *p = take(bytes, false);
    return p ? (void *)((uintptr_t)p + WINDOW) : NULL;
}

static void far_release(void *p, size_t bytes)
{
    flush(); /* as devices do */
    drop((uint8_t *)((uintptr_t)p - WINDOW), bytes, false);
}

static int far_open(zs_error *err)
{
    return report(err);
}

static int far_device(zs_device *out, int index, zs_error *err)
{
    (void)err;
    *out = (zs_device){.name = "a device far away", .about = "not there", .memory = 1 << 30};
    return index == 0;
}

static void *far_alloc_host(size_t bytes)
{
    return take(bytes, true);
}

static void far_release_host(void *p, size_t bytes)
{
    for (size_t i = 0; i < queue.n; i++) {
        const uint8_t *s = queue.e[i].src;
        if (queue.e[i].kind == UPLOAD && s >= (uint8_t *)p && s < (uint8_t *)p + bytes)
            breach("memory is released that an upload still reads", "release_host");
    }
    drop(p, bytes, true);
}

static int far_upload(void *dst, const void *src, size_t bytes, zs_error *err)
{
    note_failure(FAR_UPLOAD);
    counts.uploads++;
    (void)real(dst, bytes, "upload");
    return put(&(entry){.kind = UPLOAD, .dst = dst, .src = src, .n = bytes}, err);
}

static int far_download(void *dst, const void *src, size_t bytes, zs_error *err)
{
    note_failure(FAR_DOWNLOAD);
    flush();
    int status = report(err);
    if (status == ZS_OK)
        memcpy(dst, real(src, bytes, "download"), bytes);
    return status;
}

static int far_copy(void *dst, const void *src, size_t bytes, zs_error *err)
{
    return put(&(entry){.kind = COPY, .dst = dst, .src = src, .n = bytes}, err);
}

static int far_zero(void *dst, size_t bytes, zs_error *err)
{
    return put(&(entry){.kind = ZERO, .dst = dst, .n = bytes}, err);
}

static int far_to_bf16(uint16_t *dst, const float *src, int64_t n, zs_error *err)
{
    return put(&(entry){.kind = TO_BF16, .dst = dst, .src = src, .n = (size_t)n}, err);
}

static int far_sync(zs_error *err)
{
    flush();
    return report(err);
}

static int far_norm(double *norm, const float *g, int64_t n, zs_error *err)
{
    return put(&(entry){.kind = NORM, .dst = norm, .src = g, .n = (size_t)n}, err);
}

static int far_adam(const zs_adam *a, zs_error *err)
{
    note_failure(FAR_ADAM);
    return put(&(entry){.kind = ADAM, .adam = *a}, err);
}

static int far_record(zs_error *err)
{
    note_failure(FAR_RECORD);
    int status = report(err);
    if (status < 0)
        return status;
    if (refuses)
        return zs_fail(err, ZS_E_UNSUPPORTED, "recording is refused");
    if (recording)
        breach("recording begins twice", "record");
    recording = calloc(1, sizeof *recording);
    if (!recording)
        breach("out of memory", "the test");
    return ZS_OK;
}

static int far_record_end(void **tape, zs_error *err)
{
    *tape = recording;
    recording = NULL;
    if (!*tape)
        breach("recording ends that has not begun", "record_end");
    int status = report(err);
    if (status == ZS_OK && loses)
        status = zs_fail(err, ZS_E_UNSUPPORTED, "something in it is not allowed");
    if (status < 0) {
        clear(*tape);
        free(*tape);
        *tape = NULL;
    }
    counts.tapes += status == ZS_OK;
    return status;
}

static int far_replay(void *tape, zs_error *err)
{
    note_failure(FAR_REPLAY);
    counts.replays++;
    return put(&(entry){.kind = REPLAY, .src = tape}, err);
}

static void far_tape_free(void *tape)
{
    flush();
    clear(tape);
    free(tape);
    counts.tapes--;
}

static const zs_remote remote = {
    .open = far_open,
    .device = far_device,
    .alloc_host = far_alloc_host,
    .release_host = far_release_host,
    .upload = far_upload,
    .download = far_download,
    .copy = far_copy,
    .zero = far_zero,
    .to_bf16 = far_to_bf16,
    .sync = far_sync,
    .norm = far_norm,
    .adam = far_adam,
    .record = far_record,
    .record_end = far_record_end,
    .replay = far_replay,
    .tape_free = far_tape_free,
};

#define OP(NAME, name, inputs, outputs, gradient, slots)                       \
    static void run_##name(const zs_call *c)                                   \
    {                                                                          \
        note_kernel(ZS_OP_##NAME, c);                                          \
    }                                                                          \
    static size_t workspace_##name(const zs_call *c)                           \
    {                                                                          \
        const zs_kernel *k = zs_backend_find("cpu-ref")->kernel(ZS_OP_##NAME); \
        return k->workspace ? k->workspace(c) : 0;                             \
    }
#include "tensor/ops.def"
#undef OP

static const zs_kernel kernels[ZS_OP_COUNT] = {
#define OP(NAME, name, inputs, outputs, gradient, slots) {run_##name, workspace_##name},
#include "tensor/ops.def"
#undef OP
};

static const zs_kernel *kernel(zs_op op)
{
    return &kernels[op];
}

const zs_backend far_f32 = {.name = "far",
                            .kernel = kernel,
                            .alloc = far_alloc,
                            .release = far_release,
                            .packer = packer,
                            .remote = &remote,
                            .queue = &mark_f32};
const zs_backend far_bf16 = {.name = "far-bf16",
                             .kernel = kernel,
                             .alloc = far_alloc,
                             .release = far_release,
                             .packer = packer,
                             .remote = &remote,
                             .bf16 = true,
                             .queue = &mark_bf16};

void far_install(void)
{
    if (zs_backend_find("far"))
        return;
    if (!zs_backend_add(&far_f32) || !zs_backend_add(&far_bf16))
        breach("there is no room for further backends", "the test");
}
