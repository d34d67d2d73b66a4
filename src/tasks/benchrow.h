/* SPDX-License-Identifier: MIT */
/* The workloads of zsem bench. Private to the tasks layer. */
#ifndef ZS_TASKS_BENCHROW_H
#define ZS_TASKS_BENCHROW_H

#include "io/io.h"
#include "models/models.h"

typedef struct zs_bench_setting {
    const zs_backend *backend;
    uint64_t seed;
    bool dropout;      /* as the preset trains; off to compare numbers with another program */
    zs_node_hook hook; /* or NULL */
    void *hook_ctx;
} zs_bench_setting;

typedef struct zs_bench_row zs_bench_row;

/* What an opened workload does. `state` is the kind's own. */
typedef struct zs_bench_kind {
    int (*open)(void **state, const zs_bench_row *r, const zs_bench_setting *s, zs_error *err);
    int (*run)(void *state, zs_error *err);
    /* Floating-point operations of a run, as direct algorithms count them; 0: not counted. */
    double (*flops)(const void *state);
    /* Writes weights, inputs and results of the first runs into dir, in PyTorch's layouts, or
     * NULL. Called on a fresh state. */
    int (*save)(void *state, const char *dir, zs_error *err);
    void (*close)(void **state); /* idempotent */
} zs_bench_kind;

struct zs_bench_row {
    const char *name, *about;
    const zs_bench_kind *kind;
    const char *preset;     /* of the model, or NULL */
    int64_t n;              /* images or codes */
    int64_t channels, size; /* of single operations */
    const char *unit;       /* what n counts: "images", "codes"; NULL: nothing worth a rate */
    bool extra;             /* only when named */
};

extern const zs_bench_row zs_bench_rows[]; /* ends with name NULL */

extern const zs_bench_kind zs_bench_conv_fwd, zs_bench_conv_dx, zs_bench_conv_dw, zs_bench_adagn,
    zs_bench_eps, zs_bench_encode, zs_bench_vit, zs_bench_train, zs_bench_prior;

/* n standard normals, stream `index` of the benchmark's randomness. */
void zs_bench_fill(float *p, size_t n, uint64_t seed, uint64_t index);

/* Initial weights with nothing at zero or one: a network that starts as the identity would hide
 * most of itself from a comparison of numbers. */
void zs_bench_weights(float *flat, const zs_params *ps, uint64_t seed);

/* Tensors on their way into a file. Zero-initialise; failures are sticky. */
typedef struct zs_bench_file {
    zs_tensorout *t;
    char **names;
    size_t n, cap_t, cap_names;
    bool failed;
} zs_bench_file;

/* Adds a copy of data (f32; t: whole numbers; NULL: memory ran out) under prefix + name. */
void zs_bench_put(zs_bench_file *f, const char *prefix, const char *name, int nd,
                  const int64_t *shape, const float *data);
/* [n,h,w,c] as [n,c,h,w]. */
void zs_bench_put_images(zs_bench_file *f, const char *name, const float *x, zs_shape s);
void zs_bench_put_times(zs_bench_file *f, const char *name, const int64_t *t, int64_t n);
/* Every parameter of a flat buffer as prefix + official name. */
void zs_bench_put_params(zs_bench_file *f, const char *prefix, const zs_params *ps,
                         const float *flat);
/* Writes dir/name and releases everything. */
int zs_bench_write(zs_bench_file *f, const char *dir, const char *name, zs_error *err);

/* The bundle dir/<preset>.model.safetensors. */
int zs_bench_write_model(const char *dir, const char *preset, const zs_model_config *c,
                         const zs_params *ps, const float *weights, zs_error *err);

/* Where the time of a run goes, node by node. */
typedef struct zs_bench_profile zs_bench_profile;
int zs_bench_profile_new(zs_bench_profile **p, zs_error *err);
void zs_bench_profile_free(zs_bench_profile **p);
void zs_bench_profile_clear(zs_bench_profile *p);
/* The hook; ctx is the profile. */
void zs_bench_profile_node(void *ctx, size_t id, zs_op op, const zs_call *c, double seconds);
/* Per operation, and the `most` costliest (operation, shapes): medians of the nodes, as part of a
 * run of `seconds`. */
json_t *zs_bench_profile_report(zs_bench_profile *p, zs_strbuf *text, int64_t runs, double seconds,
                                size_t most);

#endif
