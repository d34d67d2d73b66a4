/* SPDX-License-Identifier: MIT */
/* NumPy .npz: a zip archive of .npy files, stored or deflated. */
#include "io/tensorfile_impl.h"
#include "io/ziparchive.h"

#include <string.h>

enum { PEEK = (1 << 16) + 12 }; /* the longest npy header that is read */

/* Adds one array; label is "archive: entry" for messages, name the entry without ".npy". */
static int add_array(zs_tensorfile *f, uint64_t entry, const char *label, const char *name,
                     uint8_t *head, zs_error *err)
{
    zs_tfview v = {.name = name};
    uint64_t size = 0;
    size_t got = 0, data = 0;
    int status = zs_ziparchive_size(&size, f->zip, entry, f->bytes.n, f->path, err);
    if (status >= 0)
        status = zs_ziparchive_peek(&got, f->zip, entry, head, PEEK, f->path, err);
    if (status >= 0)
        status = zs_npy_header(&v, &data, label, (zs_span){head, got}, err);
    if (status < 0)
        return status;
    if (size < data || v.room != size - data)
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: has %llu bytes where its header needs %zu; the file "
                       "is damaged",
                       label, (unsigned long long)size, data + v.room);
    zs_tfstorage s = {.entry = entry, .n = (size_t)size};
    status = zs_tensorfile_add_storage(f, &v.storage, s, err);
    return status < 0 ? status : zs_tensorfile_add(f, &v, err);
}

int zs_npz_open(zs_tensorfile *f, zs_error *err)
{
    f->format = "npz";
    uint8_t *head = zs_alloc(PEEK, 1);
    zip_int64_t n = zip_get_num_entries(f->zip, 0);
    int status = head ? ZS_OK : zs_fail_nomem(err, PEEK, "an npy header");
    for (zip_int64_t i = 0; i < n && status >= 0; i++) {
        const char *entry = zip_get_name(f->zip, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
        if (!entry || !zs_str_ends(entry, ".npy"))
            continue;
        char *label = zs_str_format("%s: %s", f->path, entry), *name = zs_str_dup(entry);
        if (name)
            name[strlen(name) - 4] = '\0';
        status = label && name ? add_array(f, (uint64_t)i, label, name, head, err)
                               : zs_fail_nomem(err, strlen(entry), "the name of an array");
        zs_free(label);
        zs_free(name);
    }
    zs_free(head);
    return status;
}
