/* SPDX-License-Identifier: MIT */
#ifndef ZS_TASKS_PAGE_H
#define ZS_TASKS_PAGE_H

#include "io/page.h"

#endif
