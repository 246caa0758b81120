/* Whole trainings against PyTorch: small autoencoders, 13 samples in batches of 5, 5 and 3, 20
   steps; the loss of each step and the last weights. Each has one thing that the others have not:
   an activation, a loss, an optimiser, clipping, a tensor that is read twice, two losses. */
#include "test.h"

enum { SAMPLES = 13, BATCH = 5, STEPS = 20 };

typedef struct training {
    ae_arena *arena;
    ae_model *m;
    ae_tensor *x, *labels;      // labels: NULL but for cross-entropy
    ae_tensor *terms[2];        // the losses; the second may be NULL
    ae_optim optim;
    const float *data;          // (SAMPLES,7)
    int32_t classes[SAMPLES];
} training;

static ae_optim optim_of(ae_optim_kind kind, float lr)
{
    ae_optim o;
    memset(&o, 0, sizeof o);
    o.kind = kind;
    o.lr = lr;
    return o;
}

/* A model with its input; SGD as golden.py's trainings have it unless they say otherwise. */
static training begin(void)
{
    training t;
    memset(&t, 0, sizeof t);
    t.arena = ae_arena_new(1 << 20);
    t.m = ae_model_new(t.arena, 1);
    REQUIRE(t.m != NULL);
    t.x = ae_input(t.m, 7, 1, 1);
    t.optim = optim_of(AE_SGD, 0.1f);
    t.optim.momentum = 0.5f;
    t.data = golden("training", "x")->v;
    return t;
}

/* 7-5-3-5-7 with an activation after each but the last layer; act < 0: softmax. */
static ae_tensor *deep(training *t, int act, float a)
{
    static const int widths[4] = { 5, 3, 5, 7 };
    ae_tensor *h = t->x;
    for (int i = 0; i < 4; i++) {
        h = ae_linear(h, widths[i]);
        if (i < 3) h = act < 0 ? ae_softmax(h) : ae_activation(h, (ae_act)act, a);
    }
    return h;
}

/* A mean squared error is minimised. */
static void reconstruct(training *t, ae_tensor *y)
{
    t->terms[0] = ae_mse(y, t->x, AE_MEAN);
    ae_minimize(t->terms[0]);
}

/* Builds, and sets the parameters to the golden ones. */
static void build(training *t, const ae_exec *e, const char *start)
{
    CHECK_INT(ae_set_exec(t->m, e), AE_SUCCESS);
    CHECK_INT(ae_build(t->m, BATCH, AE_TRAIN), AE_SUCCESS);
    CHECK_STR(ae_error(t->m), "");
    REQUIRE(ae_model_status(t->m) == AE_SUCCESS);
    int i = 0;
    for (ae_param *p; (p = ae_param_at(t->m, i)) != NULL; i++) {
        const test_record *r = golden("training", "start_%s.%s", start, ae_param_name(p));
        int shape[4];
        CHECK_INT(ae_param_size(p), r->n);
        CHECK_INT(ae_param_shape(p, shape), r->dims);
        for (int d = 0; d < r->dims; d++) CHECK_INT(shape[d], r->dim[d]);
        CHECK(ae_param_find(t->m, ae_param_name(p)) == p);
        memcpy(ae_param_data(t->m, p), r->v, r->n * sizeof(float));
    }
    REQUIRE(i > 0);
}

/* The tolerance is the one that golden.py holds PyTorch's own single precision to, and explains. */
#define TOL_ABS 3e-7
#define TOL_REL 1e-5
#define LOSS_TOL(want) (TOL_ABS + TOL_REL * fabs((double)(want)))

static void check_losses(const training *t, const char *key, int step)
{
    const test_record *r = golden("training", "%s.loss", key);
    int terms = t->terms[1] ? 2 : 1;
    CHECK_INT(r->dim[1], terms);
    for (int k = 0; k < terms; k++) {
        float want = r->v[step * terms + k];
        CHECK_CLOSE(ae_batch_loss(t->m, t->terms[k]), want, LOSS_TOL(want));
    }
}

static void check_weights(const training *t, const char *key)
{
    int i = 0;
    for (ae_param *p; (p = ae_param_at(t->m, i)) != NULL; i++) {
        const test_record *r = golden("training", "%s.%s", key, ae_param_name(p));
        CHECK_ARRAY(ae_param_data(t->m, p), r->v, r->n, TOL_ABS, TOL_REL);
    }
}

/* The pieces of a training step by hand. */
static void train(training *t, const char *key)
{
    for (int step = 0; step < STEPS; step++) {
        int first = step % 3 * BATCH, n = SAMPLES - first < BATCH ? SAMPLES - first : BATCH;
        CHECK_INT(ae_set(t->m, t->x, t->data + first * 7, n), AE_SUCCESS);
        if (t->labels) CHECK_INT(ae_set(t->m, t->labels, t->classes + first, n), AE_SUCCESS);
        CHECK_INT(ae_forward(t->m, n), AE_SUCCESS);
        check_losses(t, key, step);
        ae_zero_grad(t->m);
        CHECK_INT(ae_backward(t->m, 1), AE_SUCCESS);
        CHECK_INT(ae_step(t->m, &t->optim), AE_SUCCESS);
    }
    CHECK_INT(ae_steps(t->m), STEPS);
    check_weights(t, key);
}

static void end(training *t)
{
    ae_arena_free(t->arena);
}

/* Portable, chosen, and split among three. */
static const ae_exec *exec_at(int e)
{
    static ae_exec scalar;
    scalar = ae_exec_at_most(AE_ISA_SCALAR);
    return e == 0 ? &scalar : test_exec_at(e == 1 ? 1 : 5);
}

TEST(training_activations)
{
    static const struct { const char *key; int act; float a; } acts[] = {
        { "act_identity", AE_ACT_IDENTITY, 0 },
        { "act_relu", AE_ACT_RELU, 0 },
        { "act_leaky_relu_0.01", AE_ACT_LEAKY_RELU, 0.01f },
        { "act_leaky_relu_0.2", AE_ACT_LEAKY_RELU, 0.2f },
        { "act_elu_1", AE_ACT_ELU, 1 },
        { "act_elu_0.7", AE_ACT_ELU, 0.7f },
        { "act_gelu", AE_ACT_GELU, 0 },
        { "act_gelu_tanh", AE_ACT_GELU_TANH, 0 },
        { "act_silu", AE_ACT_SILU, 0 },
        { "act_softplus", AE_ACT_SOFTPLUS, 0 },
        { "act_sigmoid", AE_ACT_SIGMOID, 0 },
        { "act_tanh", AE_ACT_TANH, 0 },
        { "act_softmax", -1, 0 },
    };
    for (int k = 0; k < 13; k++)
        for (int e = 0; e < 3; e++) {
            training t = begin();
            test_context("%s, run %d", acts[k].key, e);
            reconstruct(&t, deep(&t, acts[k].act, acts[k].a));
            build(&t, exec_at(e), "deep");
            train(&t, acts[k].key);
            end(&t);
        }
}

TEST(training_no_bias)
{
    static const int widths[4] = { 5, 3, 5, 7 };
    training t = begin();
    ae_tensor *h = t.x;
    for (int i = 0; i < 4; i++) {
        h = ae_linear_no_bias(h, widths[i]);
        if (i < 3) h = ae_tanh(h);
    }
    reconstruct(&t, h);
    build(&t, test_exec(), "no_bias");
    CHECK(ae_param_at(t.m, 4) == NULL);
    train(&t, "no_bias");
    end(&t);
}

static ae_tensor *loss_number(int k, ae_tensor *y, ae_tensor *x, ae_reduction r)
{
    switch (k) {
    case 0: return ae_mse(y, x, r);
    case 1: return ae_l1(y, x, r);
    case 2: return ae_huber(y, x, 0.7f, r);
    case 3: return ae_huber(y, x, 1, r);
    case 4: return ae_smooth_l1(y, x, 0.5f, r);
    case 5: return ae_smooth_l1(y, x, 1, r);
    case 6: return ae_bce(ae_sigmoid(y), x, r);
    default: return ae_bce_logits(y, x, r);
    }
}

TEST(training_losses)
{
    static const char *const losses[8] = { "mse", "l1", "huber_0.7", "huber_1", "smooth_l1_0.5",
                                           "smooth_l1_1", "bce", "bce_logits" };
    static const ae_reduction reductions[3] = { AE_MEAN, AE_BATCH_MEAN, AE_SUM };
    static const char *const names[3] = { "mean", "batch_mean", "sum" };
    for (int k = 0; k < 24; k++) {
        int loss = k / 3, r = k % 3;
        char key[60];
        snprintf(key, sizeof key, "loss_%s.%s", losses[loss], names[r]);
        test_context("%s", key);
        training t = begin();
        t.optim.lr = r == 2 ? 0.01f : 0.05f;
        if (loss >= 6) t.data = golden("training", "unit")->v;
        t.terms[0] = loss_number(loss, deep(&t, AE_ACT_TANH, 0), t.x, reductions[r]);
        ae_minimize(t.terms[0]);
        build(&t, exec_at(k % 2), "deep");
        train(&t, key);
        end(&t);
    }
}

TEST(training_cross_entropy)
{
    for (int r = 0; r < 2; r++) {
        const char *key = r ? "loss_cross_entropy.sum" : "loss_cross_entropy.mean";
        const float *classes = golden("training", "labels")->v;
        test_context("%s", key);
        training t = begin();
        t.optim.lr = 0.02f;
        t.labels = ae_labels(t.m);
        for (int i = 0; i < SAMPLES; i++) t.classes[i] = (int32_t)classes[i];
        t.terms[0] = ae_cross_entropy(ae_linear(ae_tanh(ae_linear(t.x, 5)), 4), t.labels,
                                      r ? AE_SUM : AE_MEAN);
        ae_minimize(t.terms[0]);
        build(&t, test_exec(), "classify");
        train(&t, key);
        end(&t);
    }
}

TEST(training_optimisers)
{
    static const struct { const char *key; ae_optim o; } optims[] = {
        // lr, beta1, beta2, eps, weight_decay, momentum, lr_decay, clip_norm, clip_value, nesterov
        { "sgd", { 0.1f, 0, 0, 0, 0, 0, 0, 0, 0, 0, AE_SGD } },
        { "sgd_momentum", { 0.05f, 0, 0, 0, 0, 0.9f, 0, 0, 0, 0, AE_SGD } },
        { "sgd_nesterov", { 0.05f, 0, 0, 0, 0, 0.8f, 0, 0, 0, 1, AE_SGD } },
        { "sgd_decay", { 0.1f, 0, 0, 0, 0.1f, 0, 0, 0, 0, 0, AE_SGD } },
        { "sgd_nesterov_decay", { 0.05f, 0, 0, 0, 0.05f, 0.7f, 0, 0, 0, 1, AE_SGD } },
        { "rmsprop", { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, AE_RMSPROP } },
        { "rmsprop_alpha", { 0.02f, 0, 0.9f, 1e-5f, 0, 0, 0, 0, 0, 0, AE_RMSPROP } },
        { "rmsprop_momentum", { 0.003f, 0, 0, 0, 0, 0.8f, 0, 0, 0, 0, AE_RMSPROP } },
        { "rmsprop_decay", { 0.01f, 0, 0, 0, 0.1f, 0.5f, 0, 0, 0, 0, AE_RMSPROP } },
        { "adagrad", { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, AE_ADAGRAD } },
        { "adagrad_decay", { 0.1f, 0, 0, 0, 0.1f, 0, 0.05f, 0, 0, 0, AE_ADAGRAD } },
        { "adagrad_eps", { 0.1f, 0, 0, 1e-3f, 0, 0, 0, 0, 0, 0, AE_ADAGRAD } },
        { "adam", { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, AE_ADAM } },
        { "adam_lr", { 0.05f, 0, 0, 0, 0, 0, 0, 0, 0, 0, AE_ADAM } },
        { "adam_decay", { 0.02f, 0, 0, 0, 0.1f, 0, 0, 0, 0, 0, AE_ADAM } },
        { "adam_betas", { 0.02f, 0.5f, 0.75f, 1e-4f, 0, 0, 0, 0, 0, 0, AE_ADAM } },
        { "adamw", { 0.02f, 0, 0, 0, 0.01f, 0, 0, 0, 0, 0, AE_ADAMW } },
        { "adamw_decay", { 0.05f, 0.8f, 0.99f, 0, 0.5f, 0, 0, 0, 0, 0, AE_ADAMW } },
    };
    for (int k = 0; k < 18; k++)
        for (int e = 0; e < 2; e++) {
            char key[60];
            snprintf(key, sizeof key, "optim_%s", optims[k].key);
            test_context("%s, run %d", key, e);
            training t = begin();
            t.optim = optims[k].o;
            reconstruct(&t, deep(&t, AE_ACT_TANH, 0));
            // as many states as it needs, or the two which every optimiser can do with
            if (e) ae_reserve_optim(t.m, ae_optim_states(&t.optim));
            build(&t, exec_at(e), "deep");
            train(&t, key);
            end(&t);
        }
}

TEST(training_clipping)
{
    for (int k = 0; k < 2; k++) {
        training t = begin();
        test_context("%s", k ? "clip_value" : "clip_norm");
        if (k) t.optim.clip_value = 0.02f;
        else t.optim.clip_norm = 0.2f;
        reconstruct(&t, deep(&t, AE_ACT_TANH, 0));
        build(&t, test_exec(), "deep");
        train(&t, k ? "clip_value" : "clip_norm");
        end(&t);
    }
}

/* h is read by two operations and receives the sum of their gradients. */
TEST(training_skips)
{
    for (int k = 0; k < 4; k++) {
        training t = begin();
        int concat = k / 2, swapped = k % 2;
        const char *key = concat ? "skip_concat" : "skip_add";
        test_context("%s %d", key, swapped);
        ae_tensor *h = ae_tanh(ae_linear(t.x, 5)), *g = ae_tanh(ae_linear(h, concat ? 3 : 5));
        if (concat) h = ae_concat(g, h);
        else h = swapped ? ae_add(h, g) : ae_add(g, h);
        reconstruct(&t, ae_linear(h, 7));
        build(&t, exec_at(swapped), key);
        train(&t, key);
        end(&t);
    }
}

/* Two losses with weights; the second one's prediction and target both learn, and z and y are read
   twice. */
TEST(training_two_losses)
{
    for (int e = 0; e < 3; e++) {
        training t = begin();
        test_context("run %d", e);
        ae_tensor *z = ae_linear(ae_tanh(ae_linear(t.x, 5)), 3), *y = ae_linear(z, 7);
        reconstruct(&t, y);
        t.terms[1] = ae_huber(z, ae_linear(y, 3), 1, AE_BATCH_MEAN);
        ae_minimize_weighted(t.terms[1], 0.25f);
        ae_monitor(ae_l1(y, t.x, AE_SUM));      // is only reported: changes nothing
        build(&t, exec_at(e), "two");
        train(&t, "two");
        float both = ae_batch_loss(t.m, t.terms[0]) + 0.25f * ae_batch_loss(t.m, t.terms[1]);
        CHECK_CLOSE(ae_batch_loss(t.m, NULL), both, 1e-6 * (double)both);
        end(&t);
    }
}

/* The same trainings from a dataset, by ae_train_step: its last batch of an epoch has 3 samples. */
TEST(training_from_dataset)
{
    for (int classify = 0; classify < 2; classify++) {
        const char *key = classify ? "loss_cross_entropy.mean" : "optim_adam_betas";
        const float *classes = golden("training", "labels")->v;
        training t = begin();
        ae_dataset d;
        test_context("%s", key);
        if (classify) {
            t.optim.lr = 0.02f;
            t.labels = ae_labels(t.m);
            t.terms[0] = ae_cross_entropy(ae_linear(ae_tanh(ae_linear(t.x, 5)), 4), t.labels,
                                          AE_MEAN);
            ae_minimize(t.terms[0]);
        } else {
            t.optim = optim_of(AE_ADAM, 0.02f);
            t.optim.beta1 = 0.5f;
            t.optim.beta2 = 0.75f;
            t.optim.eps = 1e-4f;
            reconstruct(&t, deep(&t, AE_ACT_TANH, 0));
        }
        build(&t, test_exec(), classify ? "classify" : "deep");
        for (int i = 0; i < SAMPLES; i++) t.classes[i] = (int32_t)classes[i];
        memset(&d, 0, sizeof d);
        d.floats = t.data;
        d.labels = t.classes;
        d.n = SAMPLES;
        d.c = 7;
        d.h = d.w = 1;
        d.keep_order = 1;
        const test_record *told = golden("training", "%s.loss", key);
        for (int step = 0; step < STEPS; step++) {
            CHECK_INT(ae_train_step(t.m, &d, &t.optim), AE_SUCCESS);
            check_losses(&t, key, step);
            if (step % 3 != 2) continue;
            // the epoch's mean is over samples: batches count by their size
            const float *l = told->v + step - 2;
            double mean = (5 * (double)l[0] + 5 * (double)l[1] + 3 * (double)l[2]) / 13;
            CHECK_CLOSE(ae_mean_loss(t.m, NULL), mean, LOSS_TOL(mean));
        }
        check_weights(&t, key);
        end(&t);
    }
}

TEST_LIST(golden_training) {
    CASE(training_activations),
    CASE(training_no_bias),
    CASE(training_losses),
    CASE(training_cross_entropy),
    CASE(training_optimisers),
    CASE(training_clipping),
    CASE(training_skips),
    CASE(training_two_losses),
    CASE(training_from_dataset),
    CASE_END
};
