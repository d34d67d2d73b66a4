/* SPDX-License-Identifier: MIT */
/* Whole runs as CUDA graphs: what is queued between record and record_end is captured. */
#include "backend/cuda/device.h"

int zs_cuda_record(zs_error *err)
{
    int status = zs_cuda_enter(err);
    if (status < 0)
        return status;
    /* thread-local: other threads may allocate meanwhile */
    cudaError_t e = cudaStreamBeginCapture(zs_cuda_get()->stream, cudaStreamCaptureModeThreadLocal);
    if (e == cudaSuccess) {
        zs_cuda_recording(true);
        return ZS_OK;
    }
    (void)cudaGetLastError();
    return zs_fail(err, ZS_E_UNSUPPORTED, "this run cannot be recorded: %s", cudaGetErrorString(e));
}

int zs_cuda_record_end(void **tape, zs_error *err)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    char why[sizeof err->message] = "";
    *tape = NULL;
    if (!zs_cuda_get())
        return zs_fail(err, ZS_E_INTERNAL, "a recording ends that was not begun");
    cudaError_t e = cudaStreamEndCapture(zs_cuda_get()->stream, &graph);
    zs_cuda_recording(false);
    bool whole = zs_cuda_recorded(why, sizeof why);
    if (e == cudaSuccess && graph && whole)
        e = cudaGraphInstantiate(&exec, graph, 0);
    if (graph)
        (void)cudaGraphDestroy(graph);
    int status = zs_cuda_status(err); /* what failed before is no matter of recording */
    if (status == ZS_OK && exec) {
        *tape = exec;
        return ZS_OK;
    }
    if (exec)
        (void)cudaGraphExecDestroy(exec);
    (void)cudaGetLastError();
    if (status == ZS_OK)
        status = zs_fail(err, ZS_E_UNSUPPORTED, "this run cannot be recorded: %s",
                         whole ? cudaGetErrorString(e) : why);
    return status;
}

int zs_cuda_replay(void *tape, zs_error *err)
{
    int status = zs_cuda_enter(err);
    if (status < 0)
        return status;
    zs_cuda_check((int)cudaGraphLaunch(tape, zs_cuda_get()->stream), "replaying a recorded run");
    return zs_cuda_status(err);
}

void zs_cuda_tape_free(void *tape)
{
    if (tape && zs_cuda_sync(NULL) == ZS_OK)
        (void)cudaGraphExecDestroy(tape);
}
