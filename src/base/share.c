/* SPDX-License-Identifier: MIT */
#include "base/share.h"

#include "base/mem.h"
#include "base/str.h"

#include <stdlib.h>
#include <unistd.h>

/* The build defines ZSEM_DATADIR and ZSEM_SOURCE_DIR. */
int zs_share_find(char **out, const char *name, zs_error *err)
{
    const char *env = getenv("ZSEM_SHARE");
    const char *folders[] = {ZSEM_DATADIR, ZSEM_SOURCE_DIR "/share", NULL};
    if (env && *env) {
        folders[0] = env;
        folders[1] = NULL;
    }
    *out = NULL;
    for (int i = 0; folders[i]; i++) {
        char *path = zs_str_format("%s/%s", folders[i], name);
        if (!path)
            return zs_fail_nomem(err, 0, "a file name");
        if (access(path, R_OK) == 0) {
            *out = path;
            return ZS_OK;
        }
        zs_free(path);
    }
    return zs_fail(err, ZS_E_IO,
                   "%s/%s: not found; set ZSEM_SHARE to the folder with the files that came with "
                   "zsem",
                   folders[0], name);
}
