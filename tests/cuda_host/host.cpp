/* SPDX-License-Identifier: MIT */
#undef _FORTIFY_SOURCE /* it takes jumps between stacks for errors */
#include "tests/cuda_host/host.h"
#include "backend/cuda/check.h"

#include <cuda_runtime.h>
#include <setjmp.h>
#include <stdio.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#endif
#ifdef FIBER_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

enum {
    MAX_THREADS = 1024,
    MAX_SHARED = 48 << 10, /* of a block, without asking for more */
    STACK = 256 << 10,
    CANARY = 64 /* bytes behind shared memory */
};

extern "C" {
dim3 threadIdx, blockIdx, blockDim, gridDim;
}

struct launch {
    const char *what;
    dim3 grid, block;
    size_t shared;
    bool sync;
    void (*body)(const void *);
    void *args;
};

static launch *queue;
static size_t queued, room;
static const launch *running;
static unsigned char *shared;
static bool broken;

static void complain(const char *why)
{
    fprintf(stderr, "kernel of %s, block %u, thread %u: %s\n", running ? running->what : "?",
            blockIdx.x, threadIdx.x, why);
    broken = true;
}

extern "C" void *zs_host_shared(void)
{
    return shared;
}

extern "C" void zs_cuda_check(int status, const char *what)
{
    if (status)
        fprintf(stderr, "%s: CUDA status %d\n", what, status);
}

extern "C" void zs_host_launch(const char *what, dim3 grid, dim3 block, size_t bytes, bool sync,
                               void (*body)(const void *), const void *args, size_t size)
{
    if (queued == room) {
        room = room ? 2 * room : 64;
        queue = static_cast<launch *>(realloc(queue, room * sizeof *queue));
    }
    void *copy = malloc(size);
    if (!queue || !copy)
        abort();
    memcpy(copy, args, size);
    queue[queued++] = {what, grid, block, bytes, sync, body, copy};
}

/* ---- threads that wait for each other ---- */

enum waiting { READY, AT_BLOCK, AT_WARP, ENDED };

struct fiber {
    ucontext_t context;
    jmp_buf jump; /* swapcontext makes two system calls: only sanitizers need it each time */
    char *stack;
    waiting state;
    bool begun;
    uint64_t handed; /* to the other lanes */
};

static fiber *fibers; /* MAX_THREADS, made once */
static fiber *current;
static ucontext_t scheduler;

#ifdef FIBER_ASAN
static const void *scheduler_stack;
static size_t scheduler_size;

/* From a fiber to the scheduler. */
static void leave(waiting why)
{
    void *fake = nullptr;
    current->state = why;
    __sanitizer_start_switch_fiber(&fake, scheduler_stack, scheduler_size);
    if (swapcontext(&current->context, &scheduler))
        abort();
    __sanitizer_finish_switch_fiber(fake, &scheduler_stack, &scheduler_size);
}

static void enter(fiber *f)
{
    void *fake = nullptr;
    current = f;
    __sanitizer_start_switch_fiber(&fake, f->stack, STACK);
    if (swapcontext(&scheduler, &f->context))
        abort();
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
}
#else
static jmp_buf scheduler_jump;

/* From a fiber to the scheduler. */
static void leave(waiting why)
{
    current->state = why;
    if (!_setjmp(current->jump))
        _longjmp(scheduler_jump, 1);
}

static void enter(fiber *f)
{
    current = f;
    if (_setjmp(scheduler_jump))
        return;
    if (f->begun)
        _longjmp(f->jump, 1);
    f->begun = true;
    (void)swapcontext(&scheduler, &f->context); /* comes back by a jump */
}
#endif

/* A fiber runs one thread of one block after the other. */
static void fiber_main(void)
{
#ifdef FIBER_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_size);
#endif
    for (;;) {
        running->body(running->args);
        leave(ENDED);
    }
}

static void make_fiber(fiber *f)
{
    f->stack = static_cast<char *>(malloc(STACK));
    if (!f->stack || getcontext(&f->context))
        abort();
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK;
    makecontext(&f->context, fiber_main, 0);
}

static void make_fibers(void)
{
    fibers = static_cast<fiber *>(calloc(MAX_THREADS, sizeof *fibers));
    if (!fibers)
        abort();
    for (int i = 0; i < MAX_THREADS; i++)
        make_fiber(&fibers[i]);
}

static void wait_for(waiting what, const char *name)
{
    if (running->sync)
        leave(what);
    else if (!broken)
        complain(name);
}

extern "C" void __syncthreads(void)
{
    wait_for(AT_BLOCK, "__syncthreads in a kernel that was not launched with ZS_LAUNCH_SYNC");
}

extern "C" void __syncwarp(void)
{
    wait_for(AT_WARP, "__syncwarp in a kernel that was not launched with ZS_LAUNCH_SYNC");
}

extern "C" uint64_t zs_host_shuffle(uint64_t value, unsigned lane)
{
    if (!running->sync) {
        complain("a shuffle in a kernel that was not launched with ZS_LAUNCH_SYNC");
        return value;
    }
    fiber *self = current;
    self->handed = value;
    leave(AT_WARP); /* until all have handed theirs in */
    value = fibers[threadIdx.x / 32 * 32 + lane].handed;
    leave(AT_WARP); /* until all have looked */
    return value;
}

static bool all_in(unsigned first, unsigned end, waiting what)
{
    for (unsigned i = first; i < end; i++)
        if (fibers[i].state != what)
            return false;
    return true;
}

static void release(unsigned first, unsigned end)
{
    for (unsigned i = first; i < end; i++)
        fibers[i].state = READY;
}

/* Lets those go on that all of their block or warp wait with; false if there are none. */
static bool release_waiting(unsigned n)
{
    bool some = false;
    if (all_in(0, n, AT_BLOCK)) {
        release(0, n);
        return true;
    }
    for (unsigned w = 0; w < n; w += 32)
        if (all_in(w, w + 32, AT_WARP)) {
            release(w, w + 32);
            some = true;
        }
    return some;
}

static void run_waiting_block(zs_host_order order)
{
    unsigned n = running->block.x;
    release(0, n);
    do {
        for (unsigned i = 0; i < n; i++) {
            unsigned t = order == ZS_HOST_ALL_BACKWARD ? n - 1 - i : i;
            threadIdx.x = t;
            if (fibers[t].state == READY)
                enter(&fibers[t]);
        }
        if (all_in(0, n, ENDED))
            return;
    } while (release_waiting(n));
    complain("a barrier or shuffle that only a part of the threads reaches");
    abort(); /* the fibers are somewhere inside the kernel */
}

static void run_block(zs_host_order order)
{
    unsigned n = running->block.x;
    if (running->sync) {
        run_waiting_block(order);
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        threadIdx.x = order == ZS_HOST_ALL_BACKWARD ? n - 1 - i : i;
        running->body(running->args);
    }
}

/* ---- blocks ---- */

static bool fits(const launch *l)
{
    if (l->grid.x == 0 || l->grid.x > 0x7FFFFFFFu || l->grid.y != 1 || l->grid.z != 1)
        complain("a grid that is empty, or not of one dimension, or too large");
    else if (l->block.x == 0 || l->block.x > MAX_THREADS || l->block.x % 32 || l->block.y != 1)
        complain("a block that is not of whole warps in one dimension, or too large");
    else if (l->shared > MAX_SHARED)
        complain("more shared memory than a block has");
    else
        return true;
    return false;
}

static void run_launch(const launch *l, zs_host_order order)
{
    running = l;
    if (!fits(l))
        return;
    gridDim = l->grid;
    blockDim = l->block;
    for (unsigned i = 0; i < l->grid.x && !broken; i++) {
        blockIdx.x = order == ZS_HOST_FORWARD ? i : l->grid.x - 1 - i;
        shared = static_cast<unsigned char *>(malloc(l->shared + CANARY));
        if (!shared)
            abort();
        memset(shared, 0xFF, l->shared + CANARY); /* NaN */
        run_block(order);
        for (size_t k = 0; k < CANARY && !broken; k++)
            if (shared[l->shared + k] != 0xFF)
                complain("shared memory is written beyond its end");
        free(shared);
    }
}

extern "C" int zs_host_replay(zs_host_order order)
{
    if (!fibers)
        make_fibers();
    broken = false;
    for (size_t i = 0; i < queued && !broken; i++)
        run_launch(&queue[i], order);
    running = nullptr;
    return broken ? -1 : static_cast<int>(queued);
}

extern "C" int zs_host_run(zs_host_order order)
{
    int n = zs_host_replay(order);
    for (size_t i = 0; i < queued; i++)
        free(queue[i].args);
    free(queue);
    queue = nullptr;
    queued = room = 0;
    return n;
}
