/* SPDX-License-Identifier: MIT */
/* A zip archive of stored .npy files (PKWARE APPNOTE 6.3, without its 64-bit extension). */
#include "io/outfile.h"
#include "io/tensorfile_impl.h"
#include "io/tensorwrite.h"

#include <string.h>
#include <zlib.h>

typedef struct entry {
    zs_strbuf head; /* of the .npy file */
    size_t bytes;   /* of the elements behind it */
    uint32_t crc;
} entry;

static void put(zs_strbuf *b, uint32_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        char c = (char)(v >> (8 * i) & 255);
        zs_strbuf_append(b, &c, 1);
    }
}

/* What local and central headers share: version 2.0, stored, 1980-01-01, checksum, sizes, name. */
static void put_common(zs_strbuf *b, const entry *e, const char *name)
{
    uint32_t size = (uint32_t)(e->head.n + e->bytes);
    put(b, 20, 2);
    put(b, 0, 4);
    put(b, 33u << 16, 4);
    put(b, e->crc, 4);
    put(b, size, 4);
    put(b, size, 4);
    put(b, (uint32_t)(strlen(name) + strlen(".npy")), 2);
    put(b, 0, 2);
}

static uint32_t checksum(const entry *e, const void *data)
{
    uLong crc = crc32_z(0, (const Bytef *)e->head.s, e->head.n);
    return (uint32_t)(e->bytes ? crc32_z(crc, data, e->bytes) : crc); /* NULL would reset it */
}

static int prepare(entry *e, const char *path, const zs_tensorout *t, size_t n, zs_error *err)
{
    size_t total = 0;
    for (size_t i = 0; i < n; i++) {
        int status = zs_npy_head(&e[i].head, &e[i].bytes, path, &t[i], err);
        if (status < 0)
            return status;
        if (!zs_add_size(total, e[i].bytes + 4096, &total) || total > UINT32_MAX ||
            strlen(t[i].name) > 1000)
            return zs_fail(err, ZS_E_UNSUPPORTED,
                           "%s: the arrays are too large for an .npz file; write .safetensors",
                           path);
        e[i].crc = checksum(&e[i], t[i].data);
    }
    return ZS_OK;
}

static int write_all(const char *path, entry *e, const zs_tensorout *t, size_t n, zs_error *err)
{
    zs_outfile o;
    zs_strbuf local = {0}, central = {0};
    uint32_t at = 0;
    int status = zs_outfile_open(&o, path, err);
    for (size_t i = 0; i < n && status == ZS_OK; i++) {
        local.n = 0;
        put(&local, 0x04034b50, 4);
        put_common(&local, &e[i], t[i].name);
        zs_strbuf_addf(&local, "%s.npy", t[i].name);
        put(&central, 0x02014b50, 4);
        put(&central, 20, 2);
        put_common(&central, &e[i], t[i].name);
        for (int k = 0; k < 5; k++) /* no comment, disk 0, no attributes */
            put(&central, 0, 2);
        put(&central, at, 4);
        zs_strbuf_addf(&central, "%s.npy", t[i].name);
        if (local.failed || central.failed) {
            zs_outfile_abort(&o);
            status = zs_fail_nomem(err, 1024, "an .npz directory");
            break;
        }
        fwrite(local.s, 1, local.n, o.f);
        fwrite(e[i].head.s, 1, e[i].head.n, o.f);
        fwrite(t[i].data, 1, e[i].bytes, o.f);
        at += (uint32_t)(local.n + e[i].head.n + e[i].bytes);
    }
    if (status == ZS_OK) {
        uint32_t size = (uint32_t)central.n;
        put(&central, 0x06054b50, 4);
        put(&central, 0, 4);
        put(&central, (uint32_t)n, 2);
        put(&central, (uint32_t)n, 2);
        put(&central, size, 4);
        put(&central, at, 4);
        put(&central, 0, 2);
        fwrite(central.s, 1, central.n, o.f);
        status = zs_outfile_commit(&o, err);
    }
    zs_strbuf_free(&local);
    zs_strbuf_free(&central);
    return status;
}

int zs_npz_write(const char *path, const zs_tensorout *t, size_t n, zs_error *err)
{
    entry *e = zs_calloc(n + 1, sizeof *e);
    int status = e && n < 65535 ? prepare(e, path, t, n, err)
                                : zs_fail_nomem(err, n * sizeof *e, "an .npz directory");
    if (status == ZS_OK)
        status = write_all(path, e, t, n, err);
    for (size_t i = 0; e && i < n; i++)
        zs_strbuf_free(&e[i].head);
    zs_free(e);
    return status;
}
