/* SPDX-License-Identifier: MIT */
/*
 * Progress and log callbacks. All members may be NULL; a zeroed zs_ui is silent.
 *
 *     static int on_progress(void *ctx, const zs_progress *p)
 *     { fprintf(stderr, "%s %.0f/%.0f\r", p->stage, p->done, p->total); return 0; }
 *     zs_ui ui = {.progress = on_progress};
 */
#ifndef ZSEM_UI_H
#define ZSEM_UI_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum zs_log_level { ZS_LOG_DEBUG, ZS_LOG_INFO, ZS_LOG_WARN } zs_log_level;

typedef struct zs_progress {
    const char *stage;  /* what is being done, such as "train" */
    double done, total; /* in `unit`s; total 0 when unknown */
    const char *unit;   /* "images", "steps", ... */
    const char *note;   /* extra text such as "loss 0.0123", or NULL */
} zs_progress;

typedef struct zs_ui {
    void *ctx; /* passed to both callbacks */
    void (*log)(void *ctx, zs_log_level level, const char *message);
    /* Return nonzero to cancel: the work saves what it can and returns ZS_E_CANCELLED.
     * Called from the thread that started the work, possibly very often. */
    int (*progress)(void *ctx, const zs_progress *p);
} zs_ui;

#ifdef __cplusplus
}
#endif
#endif
