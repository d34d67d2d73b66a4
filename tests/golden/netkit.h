/* SPDX-License-Identifier: MIT */
/* Networks as a test builds them: with weights of a golden checkpoint, called, sampled from and
 * trained with what the authors recorded. Helpers fail the running test with a message. */
#ifndef ZS_TESTS_NETKIT_H
#define ZS_TESTS_NETKIT_H

#include "tests/golden/golden.h"

#include "diffusion/diffusion.h"

/* The networks of the sets rcg-dit and rcg-adm. */
extern const zs_dit_config net_dit;
extern const zs_adm_config net_adm;

/* ---- plans ---- */

/* Adds inputs, a network and outputs to nn->g. */
typedef void (*net_build)(zs_nn *nn, const void *ctx);

/* What a module of the authors returns is the result of one node: `error` is that of the node that
 * comes nearest. A list ends with the name NULL. */
typedef struct net_tap {
    const char *name;
    float *want;
    size_t n;
    double error;
} net_tap;

/* "<prefix><name>" of the file for each name (ended by NULL). */
net_tap *net_taps(zs_tensorfile *f, const char *prefix, const char *const *names);
void net_taps_check(const net_tap *taps, const golden_backend *b);
void net_taps_free(net_tap *taps);

typedef struct net_recipe {
    net_build build;
    const void *ctx;
    bool train;          /* parameters get gradients */
    unsigned flags;      /* zs_exec_flag */
    const char *backend; /* NULL: the default */
    net_tap *taps;       /* or NULL */
} net_recipe;

zs_exec *net_plan(zs_params *ps, const net_recipe *r);

/* Adds the names and shapes of what is built to ps. */
void net_layout(zs_params *ps, net_build build, const void *ctx);

/* Fills an input; all of it. */
void net_feed(zs_exec *e, const char *name, const float *v);
void net_feed_whole(zs_exec *e, const char *name, const int64_t *v);

/* Runs with grad_scale 1; grads NULL where there is no backward pass. */
void net_run(zs_exec *e, float *weights, float *grads);

/* ---- networks of images x [n,h,w,c], timesteps t [n] and representations rep -> out ---- */

typedef struct net {
    zs_params *ps;
    float *weights;
    zs_exec *e;
    const float *rep; /* what net_ask calls it with; borrowed */
    float *seen;      /* every x that net_ask got, in order; NULL: they are not kept */
    size_t calls;     /* of net_ask */
} net;

/* Weights are the tensors "<prefix><parameter>" of SET/FILE. */
net net_open(const char *set, const char *file, const char *prefix, const net_recipe *r);
void net_close(net *m);

/* rep NULL: the input "y" instead, of class 0. The output is borrowed. */
const float *net_call(net *m, const float *x, const int64_t *t, const float *rep, float *grads);

/* ---- samplers ---- */

/* A zs_eps_fn; ctx is a net, whose output has a variance beside each number. */
int net_ask(void *ctx, const float *x, int64_t t, float *out, zs_error *err);

/* A recorded loop: tensors "<name>.sample" and "<name>.x_in", of `every` step. */
typedef struct net_loop {
    const char *name, *spec;
    const zs_sampler *sampler;
    double eta;
    const char *noises; /* or NULL */
    int every;
} net_loop;

/* Runs the loop from x_T, the tensor `start`; c says all that the loop does not. m is the net that
 * is asked with the condition: what it was asked is compared, too. */
void net_check_loop(net *m, zs_tensorfile *f, const net_loop *l, const zs_sampling *c,
                    const char *start);

/* ---- training ---- */

/* Adds the hybrid loss of `out` and its gradients; inputs noise, x0 and steps, outputs loss and
 * parts. */
void net_add_loss(zs_graph *g, zs_tid out);

/* Feeds these inputs, and makes the noised images of the linear process of 1000 steps. */
void net_feed_loss(net *m, float *x_t, const float *x0, const float *noise, const int64_t *t);

/* loss.mse and loss.vb of each image, to 1e-4 of themselves or of `smallest`, and their mean. */
void net_check_losses(const net *m, zs_tensorfile *f, const golden_backend *b, double smallest);

#endif
