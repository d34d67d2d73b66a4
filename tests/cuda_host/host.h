/* SPDX-License-Identifier: MIT */
/* Kernels on the processor: what tests do with the launches that wait in the queue. */
#ifndef ZS_TESTS_CUDA_HOST_HOST_H
#define ZS_TESTS_CUDA_HOST_HOST_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* In which order blocks, and the threads of a block, get their turns. Kernels that are right give
 * the same bits in any. */
typedef enum zs_host_order {
    ZS_HOST_FORWARD,
    ZS_HOST_BLOCKS_BACKWARD,
    ZS_HOST_ALL_BACKWARD,
    ZS_HOST_ORDERS
} zs_host_order;

/* Runs what waits and empties the queue; the number of launches, or -1 if one was not right (said
 * on stderr): too large a grid or block, too much shared memory, a barrier that only some threads
 * reach, shared memory written out of bounds. */
int zs_host_run(zs_host_order order);

/* As zs_host_run, but the queue stays for another run. */
int zs_host_replay(zs_host_order order);

#ifdef __cplusplus
}
#endif

#endif
