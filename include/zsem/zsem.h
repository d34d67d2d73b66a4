/* SPDX-License-Identifier: MIT */
/*
 * zsem: representation-driven image generation. This header includes all the others:
 *
 *     zsem/error.h    statuses and messages        zsem/model.h   open, encode, decode, invert
 *     zsem/ui.h       progress and log callbacks   zsem/task.h    whole commands
 *     zsem/version.h  the version                  zsem/ranks.h   many processes on one command
 */
#ifndef ZSEM_ZSEM_H
#define ZSEM_ZSEM_H

#include "zsem/error.h"
#include "zsem/model.h"
#include "zsem/ranks.h"
#include "zsem/task.h"
#include "zsem/ui.h"
#include "zsem/version.h"

#endif
