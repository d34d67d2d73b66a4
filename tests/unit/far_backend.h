/* SPDX-License-Identifier: MIT */
/* Backends whose memory the program cannot touch and whose kernels run later, without a device.
 *
 * Their addresses lie in a window where nothing is mapped: to read or write one ends the program.
 * Kernels and transfers are noted down and run when somebody waits; by then everything that they
 * were given must still be there, and be memory of this backend. Numbers are those of the
 * reference: with "far" the same bits, with "far-bf16" each activation is rounded to 16 bits, and
 * each call is checked to have the types that ops.def says, and weights to begin where libraries
 * can read them in vectors. A breach of the rules ends the program
 * with a sentence. */
#ifndef ZS_TESTS_UNIT_FAR_BACKEND_H
#define ZS_TESTS_UNIT_FAR_BACKEND_H

#include "tensor/tensor.h"

extern const zs_backend far_f32, far_bf16; /* "far", "far-bf16" */

/* Makes both findable by name; once per program, again is free. */
void far_install(void);

/* What can be made to fail. */
typedef enum far_point {
    FAR_ALLOC,
    FAR_HOST,
    FAR_UPLOAD,
    FAR_DOWNLOAD,
    FAR_KERNEL,
    FAR_RECORD,
    FAR_REPLAY,
    FAR_ADAM,
    FAR_POINTS
} far_point;

/* The nth use from now on (1: the next) fails, and nothing works from then on, as with a device; of
 * FAR_ALLOC and FAR_HOST only that one use. */
void far_fail_at(far_point p, int nth);

/* Works again. */
void far_reset(void);

/* From now on record says ZS_E_UNSUPPORTED, or no longer does. */
void far_refuse_recording(bool refuse);

/* From now on recordings begin, and end with ZS_E_UNSUPPORTED, or no longer do. */
void far_lose_recording(bool lose);

typedef struct far_counts {
    size_t blocks;  /* of memory, the program's copies among them, that nobody has released */
    size_t tapes;   /* not freed */
    size_t kernels; /* put into the queue one by one */
    size_t replays;
    size_t uploads;
    size_t packs; /* made */
} far_counts;
far_counts far_counted(void);

#endif
