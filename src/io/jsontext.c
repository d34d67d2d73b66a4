/* SPDX-License-Identifier: MIT */
#include "io/jsontext.h"

#include "base/base.h"

json_t *zs_json_text(const char *name)
{
    json_t *j = json_string(name);
    char *copy = j ? NULL : zs_str_dup(name);
    for (char *s = copy; s && *s; s++)
        if ((unsigned char)*s >= 0x80)
            *s = '?';
    if (copy)
        j = json_string(copy);
    zs_free(copy);
    return j;
}
