/* SPDX-License-Identifier: MIT */
/* Private to the models layer. */
#ifndef ZS_MODELS_MODEL_IMPL_H
#define ZS_MODELS_MODEL_IMPL_H

#include "models/model.h"

/* A growing list of facts. */
typedef struct zs_facts {
    zs_fact *f;
    size_t n, cap;
} zs_facts;

/* Adds a fact; a full memory drops it silently, since facts are only shown. `source` is a printf
 * format. */
void zs_facts_add(zs_facts *l, const char *key, const char *value, const char *source, ...)
    ZS_PRINTF(4, 5);
void zs_facts_addi(zs_facts *l, const char *key, int64_t value, const char *source);

/* The networks that a model can run, each cached by the shape of its input. A sampler's come in
 * parts: what depends on timesteps alone, on codes (of a prior: on classes) alone, and the rest,
 * which takes both. */
typedef enum zs_net {
    ZS_NET_GENERATOR,
    ZS_NET_GENERATOR_TIME,
    ZS_NET_GENERATOR_CODE,
    ZS_NET_GENERATOR_STEP,
    ZS_NET_ENCODER,
    ZS_NET_CLASSES,
    ZS_NET_PRIOR,
    ZS_NET_PRIOR_TIME,
    ZS_NET_PRIOR_CLASS,
    ZS_NET_PRIOR_STEP,
    ZS_NET_LATENTS, /* first stage: images to latents (moments where it is gaussian), and back */
    ZS_NET_PIXELS,
    ZS_NET_TRAIN
} zs_net;

enum { ZS_NET_CACHE = 10 };

typedef struct zs_net_exec {
    zs_net net;
    zs_shape s; /* of images, or [n,z_dim] */
    zs_exec *e; /* NULL: free slot */
    uint64_t used;
} zs_net_exec;

struct zs_model {
    zs_model_config config;
    zs_params *params;
    float *weights;    /* flat, in the program's memory; NULL: only the backend has them */
    zs_weights placed; /* the same where the backend reads them */
    bool own_weights;  /* weights are ours to free, and stay as they were read */
    uint64_t version;  /* zs_step.weights of our own; 0: a trainer's, which may change */
    zs_packs *packs;   /* of the weights; NULL before the first run */
    float *z_mean, *z_std;
    zs_probe *probe; /* or NULL */
    json_t *extra;
    zs_facts facts;
    char *label;                    /* for messages: the spec it was opened from */
    char brought[ZS_BOX_COUNT][64]; /* for messages: the bundle or file that brought a box on which
                                       others depend */
    const zs_backend *backend;
    unsigned exec_flags;
    zs_node_hook hook;
    void *hook_ctx;
    int64_t batch;
    unsigned boxes; /* those whose weights are there, 1 << zs_box */
    double packed;  /* bytes of packed weights per byte of weights */
    zs_net_exec cache[ZS_NET_CACHE];
    uint64_t clock; /* of the cache's last use */
};

/* The graph of one network, of inputs of shape s: "x" (and "t", "z", "y") -> "out"; ZS_NET_TRAIN as
 * zs_train_graph_build; the parts of a sampler's network as zs_graph_hoist names them, "t/0" and
 * "z/0" (of a prior: "y/0") and so on. A failed build is reported by zs_exec_new. */
int zs_network_graph(zs_graph **out, zs_net net, zs_params *ps, const zs_model_config *c,
                     zs_shape s, zs_error *err);

/* The network of a box on its inputs; ZS_NONE and a failed graph when the box is empty. */
zs_tid zs_network_build(zs_nn *nn, const zs_model_config *c, zs_box box, const zs_inputs *in);

/* Inputs x, "t", "y" where the box takes classes, and "drop" where it can do without z. */
zs_inputs zs_network_inputs(zs_graph *g, const zs_model_config *c, zs_box box, zs_tid x);

/* An empty model with the options applied; configuration, parameters and weights follow. */
int zs_model_new(zs_model **out, const char *label, const zs_model_options *o, zs_error *err);

/* Lays out config's parameters; their number may be anything that a file declares. */
int zs_model_lay_out(zs_model *m, zs_error *err);

/* Refuses a layout of far more parameters than the tensors "<prefix>*" of f hold. */
int zs_model_check_size(const zs_model *m, const zs_tensorfile *f, const char *prefix,
                        zs_error *err);

/* Whether the weights of parameter p are wanted (zs_model_options.boxes). */
bool zs_model_wants(const zs_model *m, const zs_param *p);

/* Allocates the weights of the layout. */
int zs_model_alloc(zs_model *m, zs_error *err);

/* What zs_model_eps and zs_model_prior_eps ask of their arguments for n samples; a timestep of the
 * box's schedule. cond is not NULL. */
int zs_model_check_eps(const zs_model *m, zs_shape xs, const zs_cond *cond, zs_error *err);
int zs_model_check_prior(const zs_model *m, int64_t n, const int64_t *y, zs_error *err);
int zs_model_check_timestep(const zs_model *m, zs_box box, int64_t t, zs_error *err);

/* The process of a generator or a prior. */
const zs_process_config *zs_model_process(const zs_model_config *c, zs_box box);

/* The executor of one network for inputs of shape s; owned by the cache. */
int zs_model_exec(zs_exec **out, zs_model *m, zs_net net, zs_shape s, zs_error *err);

/* Runs e on the weights of m, of this version (zs_step.weights). */
int zs_model_run(zs_model *m, zs_exec *e, uint64_t version, zs_error *err);

/* A kind of file that others wrote: fills configuration, facts, layout and weights of an empty
 * model. 1, with nothing changed, when f is not of that kind. One file each: to read another kind
 * is one function and one row in open.c. */
typedef int zs_reader(zs_model *m, zs_tensorfile *f, const zs_model_options *o, zs_error *err);
zs_reader zs_adm_read, zs_diffae_read, zs_dit_read, zs_rdm_read, zs_vae_read, zs_vit_read;

/* For readers: applies the overrides of o to m->config, validates it and lays the parameters
 * out. */
int zs_model_finish_config(zs_model *m, const zs_model_options *o, const char *path, zs_error *err);

/* Drops the boxes of m that are not among `boxes` (1 << zs_box; ~0u: none is named); what is left
 * remembers the encoder that it was made for. ZS_E_INVALID when one that is named is not there. */
int zs_model_keep(zs_model *m, unsigned boxes, const char *path, zs_error *err);

/* ZS_E_INVALID: m, which is what `path` holds, has no such part, but others. */
int zs_model_lacks(const zs_model *m, const char *part, const char *path, zs_error *err);

/* Moves the boxes of `part`, opened from `path`, into m, which may be empty; what they have to say
 * of images, statistics, probe and facts comes along. ZS_E_INVALID when m has such a box, or when
 * they do not fit. */
int zs_model_join(zs_model *m, zs_model *part, const char *path, zs_error *err);

/* An official file of Diffusion Autoencoders: which prefix holds the networks, and what they
 * are. */
typedef struct zs_official {
    zs_tensorfile *f; /* borrowed */
    char prefix[32];  /* of the chosen weights, such as "state_dict.ema_model." */
    bool averaged;    /* they are a moving average */
} zs_official;

/* Finds the networks in f; `raw` asks for the trained weights rather than their average. Returns 1
 * when there are none, ZS_OK, or an error when only the other kind is there. */
int zs_official_find(zs_official *out, zs_tensorfile *f, bool raw, zs_error *err);

/* Configuration from tensor names, shapes and hyper-parameters. enc_blocks: residual blocks per
 * level of the encoder as the user gave them, or 0; only they can be ambiguous in the tensors. */
int zs_official_infer(zs_model_config *c, zs_facts *facts, const zs_official *o, int64_t enc_blocks,
                      zs_error *err);

/* The configuration that a checkpoint of a training run carries beside its weights. 1 when o is
 * from another kind of file, ZS_E_FORMAT when it is damaged. */
int zs_official_stored(zs_model_config *c, zs_facts *facts, const zs_official *o, zs_error *err);

/* Allocates and reads the weights of m's layout. Files that lack a tensor of it, or hold one that
 * it does not explain, are refused before the allocation. */
int zs_official_read(zs_model *m, const zs_official *o, zs_error *err);

/* The "zsem" object of a bundle's metadata (new reference), or NULL with *err untouched when f is
 * not a bundle, or with an error when it is damaged. */
json_t *zs_bundle_meta(const zs_tensorfile *f, zs_error *err);

/* Allocates and reads the weights of m's layout, and the statistics. A file that lacks a tensor of
 * it is refused before the allocation. */
int zs_bundle_read(zs_model *m, zs_tensorfile *f, zs_error *err);

/* "<box>.<name within the box>" into buf. */
void zs_bundle_name(char *buf, size_t cap, const char *official_name);

/* Statistics of z_sem from `mean` and `std` in f into m. ZS_E_FORMAT unless there are
 * z_dim of each, all finite and the deviations positive. */
int zs_model_read_stats(zs_model *m, zs_tensorfile *f, const char *mean, const char *std,
                        zs_error *err);

#endif
