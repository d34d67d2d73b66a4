/* SPDX-License-Identifier: MIT */
#include "io/ziparchive.h"

#include "io/tensorfile_impl.h"

#include <string.h>

enum { DEFLATE_MAX_RATIO = 1032, DEFLATE_SLACK = 1024 };

static int zip_fail(zs_error *err, zip_error_t *ze, const char *label, const char *what)
{
    int status = zip_error_code_zip(ze) == ZIP_ER_MEMORY ? ZS_E_NOMEM : ZS_E_FORMAT;
    zs_fail(err, status, "%s: %s (zip: %s); the file is damaged or truncated", label, what,
            zip_error_strerror(ze));
    zip_error_fini(ze);
    return status;
}

int zs_ziparchive_open(zip_t **out, const char *label, zs_span bytes, zs_error *err)
{
    zip_error_t ze;
    zip_error_init(&ze);
    zip_source_t *src = zip_source_buffer_create(bytes.p, bytes.n, 0, &ze);
    *out = src ? zip_open_from_source(src, ZIP_RDONLY, &ze) : NULL;
    if (*out) {
        zip_error_fini(&ze);
        return ZS_OK;
    }
    zip_source_free(src);
    return zip_fail(err, &ze, label, "the archive's directory cannot be read");
}

static int entry_fail(zs_error *err, int status, zip_t *zip, uint64_t entry, const char *label,
                      const char *what)
{
    const char *name = zip_get_name(zip, entry, ZIP_FL_ENC_RAW);
    return zs_fail(err, status, "%s: entry \"%s\" %s", label, name ? name : "?", what);
}

int zs_ziparchive_size(uint64_t *size, zip_t *zip, uint64_t entry, size_t archive_bytes,
                       const char *label, zs_error *err)
{
    const zip_uint64_t want =
        ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
    zip_stat_t st;
    zip_stat_init(&st);
    if (zip_stat_index(zip, entry, 0, &st) != 0 || (st.valid & want) != want)
        return entry_fail(err, ZS_E_FORMAT, zip, entry, label, "has no size; the file is damaged");
    if (st.encryption_method != ZIP_EM_NONE)
        return entry_fail(err, ZS_E_UNSUPPORTED, zip, entry, label,
                          "is encrypted; decrypt the archive first");
    if (st.comp_method != ZIP_CM_STORE && st.comp_method != ZIP_CM_DEFLATE)
        return entry_fail(err, ZS_E_UNSUPPORTED, zip, entry, label,
                          "is packed with a method other than deflate; pack the archive anew");
    bool stored = st.comp_method == ZIP_CM_STORE;
    if (st.comp_size > archive_bytes || (stored && st.size != st.comp_size) ||
        (!stored &&
         (st.size > SIZE_MAX / 2 || st.size / DEFLATE_MAX_RATIO > st.comp_size + DEFLATE_SLACK)))
        return entry_fail(err, ZS_E_FORMAT, zip, entry, label,
                          "claims more bytes than the archive can hold; the file is damaged or "
                          "hostile");
    *size = st.size;
    return ZS_OK;
}

static int read_some(size_t *got, zip_file_t *zf, void *dst, size_t n)
{
    for (*got = 0; *got < n;) {
        zip_int64_t k = zip_fread(zf, (uint8_t *)dst + *got, n - *got);
        if (k < 0)
            return -1;
        if (k == 0)
            break;
        *got += (size_t)k;
    }
    return 0;
}

int zs_ziparchive_read(zip_t *zip, uint64_t entry, void *dst, size_t n, const char *label,
                       zs_error *err)
{
    size_t got = 0, more = 0;
    uint8_t extra = 0;
    zip_file_t *zf = zip_fopen_index(zip, entry, 0);
    /* the byte asked for beyond the end makes libzip verify the checksum */
    bool ok = zf && read_some(&got, zf, dst, n) == 0 && read_some(&more, zf, &extra, 1) == 0;
    if (zf)
        zip_fclose(zf);
    if (!ok)
        return entry_fail(err, ZS_E_FORMAT, zip, entry, label,
                          "cannot be unpacked or fails its checksum; the file is damaged");
    if (got != n || more != 0)
        return entry_fail(err, ZS_E_FORMAT, zip, entry, label,
                          "is not as long as the archive says; the file is damaged");
    return ZS_OK;
}

int zs_ziparchive_peek(size_t *got, zip_t *zip, uint64_t entry, void *dst, size_t n,
                       const char *label, zs_error *err)
{
    zip_file_t *zf = zip_fopen_index(zip, entry, 0);
    bool ok = zf && read_some(got, zf, dst, n) == 0;
    if (zf)
        zip_fclose(zf);
    return ok ? ZS_OK
              : entry_fail(err, ZS_E_FORMAT, zip, entry, label,
                           "cannot be unpacked; the file is damaged");
}

static bool probe(zs_span b)
{
    return b.n >= 4 && b.p[0] == 'P' && b.p[1] == 'K' &&
           (memcmp(b.p + 2, "\3\4", 2) == 0 || memcmp(b.p + 2, "\5\6", 2) == 0);
}

/* A torch archive holds one folder of any name with data.pkl in it; old ones hold it bare. */
static bool is_data_pkl(const char *name)
{
    const char *slash = strchr(name, '/');
    return strcmp(slash ? slash + 1 : name, "data.pkl") == 0;
}

static int open_archive(zs_tensorfile *f, zs_error *err)
{
    int status = zs_ziparchive_open(&f->zip, f->path, f->bytes, err);
    if (status < 0)
        return status;
    zip_int64_t n = zip_get_num_entries(f->zip, 0);
    int64_t pickle = -1;
    bool npy = false;
    for (zip_int64_t i = 0; i < n; i++) {
        const char *name = zip_get_name(f->zip, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
        if (!name)
            continue;
        npy = npy || zs_str_ends(name, ".npy");
        if (!is_data_pkl(name))
            continue;
        if (pickle >= 0)
            return zs_fail(err, ZS_E_FORMAT,
                           "%s: holds more than one data.pkl; the file is "
                           "damaged or hostile",
                           f->path);
        pickle = i;
    }
    if (pickle >= 0)
        return zs_torchzip_open(f, (uint64_t)pickle, err);
    if (npy)
        return zs_npz_open(f, err);
    return zs_fail(err, ZS_E_FORMAT,
                   "%s: is a zip archive without data.pkl or .npy entries, "
                   "so neither a PyTorch checkpoint nor an npz file",
                   f->path);
}

const zs_tfkind zs_tfkind_zip = {probe, open_archive};
