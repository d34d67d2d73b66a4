/* SPDX-License-Identifier: MIT */
/*
 * Errors: every fallible zsem function returns 0 or a negative status and, when given
 * a zs_error, leaves one sentence in it that names the file, the cause and the remedy.
 *
 *     zs_error err = {0};
 *     zs_model *m = NULL;
 *     if (zs_load(&m, "last.ckpt", &err) < 0)
 *         fprintf(stderr, "%s\n", err.message);
 */
#ifndef ZSEM_ERROR_H
#define ZSEM_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

/* Marks functions whose status must not be dropped, and public symbols. */
#if defined(__GNUC__)
#define ZS_NODISCARD __attribute__((warn_unused_result))
#define ZS_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define ZS_API __attribute__((visibility("default")))
#else
#define ZS_NODISCARD
#define ZS_PRINTF(fmt, args)
#define ZS_API
#endif

typedef enum zs_status {
    ZS_OK = 0,
    ZS_E_INVALID = -1,     /* an argument or option is wrong */
    ZS_E_NOMEM = -2,       /* allocation failed; the message says how much was asked for */
    ZS_E_IO = -3,          /* the operating system refused: open, read, write, rename */
    ZS_E_FORMAT = -4,      /* a file is damaged, hostile or not what its name says */
    ZS_E_UNSUPPORTED = -5, /* understood, but not something zsem does */
    ZS_E_CANCELLED = -6,   /* the progress callback or a signal asked to stop */
    ZS_E_NUMERIC = -7,     /* NaN or Inf where a number was needed */
    ZS_E_INTERNAL = -8     /* a bug in zsem */
} zs_status;

/* Zero-initialise before use. The first error wins: later ones do not overwrite it. */
typedef struct zs_error {
    int status;        /* ZS_OK or the first failure's zs_status */
    char message[768]; /* one sentence, UTF-8, never cut inside a character */
} zs_error;

/* Short name of a status, such as "invalid argument". Never NULL; static storage. */
ZS_API const char *zs_status_name(int status);

#ifdef __cplusplus
}
#endif
#endif
