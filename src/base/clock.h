/* SPDX-License-Identifier: MIT */
#ifndef ZS_BASE_CLOCK_H
#define ZS_BASE_CLOCK_H

/* Monotonic seconds from an arbitrary origin. */
double zs_clock_now(void);

#endif
