/* SPDX-License-Identifier: MIT */
/*
 * Ranks: one command run by several processes that mpirun or srun started, on one machine or many.
 *
 *     zs_error err = {0};
 *     int status = zs_ranks_join(&err);
 *     // ... zs_task_run, when that is 0 ...
 *     if (zs_ranks_speaks())
 *         puts(status < 0 ? err.message : "done");
 *     zs_ranks_leave();
 */
#ifndef ZSEM_RANKS_H
#define ZSEM_RANKS_H

#include "zsem/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Makes this process one of those that a launcher started; alone it does nothing. Tasks that are
 * run from then on are one piece of work of all of them: every process runs the same ones with the
 * same arguments, and all get the same outcome. The message-passing library is loaded here and only
 * where a launcher is at work. ZS_E_UNSUPPORTED when it is missing: the processes would all do the
 * same work and write over each other. With ZSEM_ALONE set in the environment they do. Programs
 * that do not call this stay processes of their own under any launcher. */
ZS_API ZS_NODISCARD int zs_ranks_join(zs_error *err);

/* This process among all: 0 for one that is alone; and how many there are. The first needs no
 * zs_ranks_join: it is what the launcher says until then. */
ZS_API int zs_ranks_index(void);
ZS_API int zs_ranks_count(void);

/* Nonzero in the one process that tells people how it went, rank 0 as long as it is there. */
ZS_API int zs_ranks_speaks(void);

/* Waits until every process has come here; to be called before the program ends, whatever happened.
 * Does not return when processes are lost: then it ends those that are left, with status 2. */
ZS_API void zs_ranks_leave(void);

#ifdef __cplusplus
}
#endif
#endif
