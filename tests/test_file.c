/* Models and arrays in files. */
#include "net.h"

enum { ROOM = 1 << 22, BATCH = 4 };

/* --- graphs that have every operation --------------------------------------- */

static ae_tensor *plain_graph(ae_model *m)
{
    ae_tensor *x = ae_input(m, 2, 3, 2), *labels = ae_labels(m), *y;
    ae_tensor *h = ae_name(ae_linear(ae_flatten(x), 6), "encoder.0");
    ae_init_layer(h, ae_init_he_uniform(0.1f), ae_init_normal(0.5f, 0.25f));
    for (int act = 0; act < AE_ACT_COUNT; act++) h = ae_activation(h, (ae_act)act, 0.3f);
    ae_tensor *a = ae_linear_no_bias(h, 6), *b = ae_name(ae_top_k(ae_softmax(a), 4), "top");
    y = ae_concat(ae_add(a, b), ae_one_hot(labels, 3));
    y = ae_layer_norm(ae_reshape(y, 1, 3, 3), NULL);
    ae_norm o = { 1e-3f, 0.25f, 1 };
    y = ae_batch_norm(ae_linear(ae_layer_norm(y, &o), 12), &o);
    y = ae_linear(ae_sigmoid(ae_batch_norm(y, NULL)), 12);
    ae_limit_norm(y, 0.7f);
    ae_reduction r[3] = { AE_MEAN, AE_BATCH_MEAN, AE_SUM };
    ae_minimize(ae_mse(y, x, r[0]));
    ae_minimize_weighted(ae_l1(y, x, r[1]), 0.1f);
    ae_minimize_weighted(ae_huber(y, x, 0.3f, r[2]), 1e-3f);
    ae_monitor(ae_smooth_l1(y, x, 1.25f, r[0]));
    ae_minimize_weighted(ae_bce(ae_sigmoid(y), x, r[1]), -1e-30f);
    ae_tensor *warm = ae_bce_logits(y, x, r[1]);
    ae_minimize_weighted(warm, 0.125f);
    ae_warm_up(warm, 2.5f);
    ae_minimize_weighted(ae_cross_entropy(ae_linear(y, 3), labels, r[0]), 0.0f);
    return y;
}

static ae_tensor *picture_graph(ae_model *m)
{
    ae_tensor *x = ae_input(m, 2, 9, 7), *y, *pool;
    ae_conv g = { 3, 2, 2, 1, 1, 1, 1, 2, 0, 0, 2, 1 };
    y = ae_gelu(ae_conv2d_with(x, 4, &g));
    y = ae_conv2d(y, 6, 3, 1, 1);
    ae_norm o = { 0.01f, 0, 1 };
    y = ae_group_norm(ae_relu(ae_group_norm(y, 3, NULL)), 2, &o);
    ae_pool q = { 3, 2, 2, 1, 1, 1, 1, 2, 0 };
    pool = ae_max_pool2d_with(y, &q);
    y = ae_max_unpool2d(ae_tanh(pool), pool);
    ae_pool v = { 2, 3, 1, 2, 1, 0, 0, 0, 1 };
    y = ae_avg_pool2d(ae_avg_pool2d_with(y, &v), 1);
    y = ae_upsample_nearest(y, 2);
    y = ae_upsample_bilinear(ae_resize(y, AE_NEAREST, 5, 4), 3);
    y = ae_crop2d(ae_pad2d(y, 1, 2, 3, 0, 0.5f), 1, 0, 2, 1);
    ae_conv t = { 3, 3, 2, 2, 1, 1, 1, 1, 1, 0, 2, 0 };
    y = ae_name(ae_conv_transpose2d_with(y, 4, &t), "up");
    y = ae_conv_transpose2d(ae_spatial_dropout(y, 0.25f), 3, 2, 2, 0, 0);
    y = ae_concat(ae_global_avg_pool(y), ae_reshape(ae_conv1d(ae_reshape(x, 2, 1, 63), 3, 3, 5, 1),
                                                    39, 1, 1));
    y = ae_linear(y, 126);
    ae_minimize(ae_mse(y, x, AE_BATCH_MEAN));
    return y;
}

static ae_tensor *noise_graph(ae_model *m)
{
    ae_tensor *x = ae_input(m, 7, 1, 1), *y;
    y = ae_noise_fixed(ae_gaussian_noise(x, 0.2f, 0.0f, 1.0f));
    y = ae_linear(ae_salt_pepper(ae_mask_noise(y, 0.1f), 0.125f, -0.25f, 1.5f), 20);
    y = ae_dropout(ae_relu(y), 0.5f);
    ae_minimize(ae_mse(ae_linear(ae_noise_always(ae_mask_noise(y, 0.2f)), 7), x, AE_MEAN));
    return y;
}

static ae_tensor *family_graph(ae_model *m)
{
    ae_tensor *x = ae_input(m, 2, 4, 4), *c = ae_name(ae_conv2d(x, 3, 3, 2, 1), "conv"), *h, *s;
    s = ae_linear(x, 5);
    h = ae_tanh(s);
    ae_tensor *mu = ae_linear(h, 4), *logvar = ae_linear(h, 4), *z = ae_gaussian_sample(mu, logvar);
    ae_noise_always(z);
    ae_tensor *y = ae_tied(ae_relu(ae_linear(z, 5)), h), *y2 = ae_tied(ae_relu(c), c);
    ae_vq_options o = { 6, 0.5f, 0.9f, -1.0f, 0 }, p = { 5, 0, 0, 0, 1 };
    ae_tensor *q = ae_vq(c, &o), *q2 = ae_vq(ae_relu(c), &p);
    ae_tensor *again = ae_again(y, z, ae_tanh(z)), *norm = ae_group_norm(c, 3, NULL);
    ae_tensor *c2 = ae_again(norm, x, ae_sigmoid(x));
    ae_minimize(ae_kl_normal(mu, logvar, 0.03f, AE_BATCH_MEAN));
    ae_minimize_weighted(ae_gaussian_nll(y, y2, x, AE_BATCH_MEAN), 0.01f);
    ae_minimize_weighted(ae_gaussian_nll(again, NULL, x, AE_BATCH_MEAN), 0.01f);
    ae_minimize(ae_iwae(ae_log_bernoulli(y, ae_sigmoid(x)), ae_log_normal(z, NULL, NULL),
                        ae_log_normal(z, mu, logvar), 2, AE_MEAN));
    ae_minimize(ae_vq_loss(q, AE_MEAN));
    ae_minimize(ae_vq_loss(q2, AE_BATCH_MEAN));
    ae_minimize(ae_mmd(z));
    ae_minimize_weighted(ae_l1_penalty(c2, AE_SUM), 1e-3f);
    ae_minimize(ae_kl_sparsity(ae_sigmoid(c), 0.05f, AE_MEAN));
    ae_minimize(ae_contractive(h, AE_BATCH_MEAN));
    ae_minimize(ae_contractive(s, AE_SUM));
    ae_minimize_weighted(ae_contractive_estimate(y2, x, 0.02f, AE_BATCH_MEAN), 0.1f);
    ae_minimize_weighted(ae_weight_l1(s), 1e-4f);
    ae_minimize_weighted(ae_weight_l2(c), 1e-4f);
    ae_minimize_weighted(ae_orthogonal(h), 1e-4f);
    ae_minimize(ae_mse(ae_linear(ae_add(q, q2), 32), x, AE_MEAN));
    return y;
}

typedef ae_tensor *graph(ae_model *m);
static graph *const graphs[] = { plain_graph, picture_graph, noise_graph, family_graph };
enum { GRAPHS = sizeof graphs / sizeof graphs[0] };

static ae_model *built(graph *of, uint64_t seed, ae_mode mode)
{
    ae_model *m = ae_model_new(net_arena(ROOM), seed);
    CHECK(of(m) != NULL);
    if (!CHECK_INT(ae_build(m, BATCH, mode), AE_SUCCESS)) printf("%s\n", ae_error(m));
    return m;
}

/* Fixed samples into the inputs. */
static void set_inputs(ae_model *m, uint32_t seed)
{
    const int32_t labels[BATCH] = { 2, 0, 1, 2 };
    ae_tensor *x = ae_tensor_find(m, "input1"), *t = ae_tensor_find(m, "labels1");
    REQUIRE(x != NULL);
    CHECK_INT(ae_set(m, x, DATA_IN(BATCH * ae_size(x), 0, 1, seed), BATCH), AE_SUCCESS);
    if (t) CHECK_INT(ae_set(m, t, labels, BATCH), AE_SUCCESS);
}

static void train(ae_model *m, int steps)
{
    ae_optim o = { 0 };
    for (int i = 0; i < steps; i++) {
        set_inputs(m, (uint32_t)(i % 3));
        ae_zero_grad(m);
        if (!CHECK_INT(ae_forward(m, BATCH), AE_SUCCESS)) printf("%s\n", ae_error(m));
        CHECK_INT(ae_backward(m, 1.0f), AE_SUCCESS);
        CHECK_INT(ae_step(m, &o), AE_SUCCESS);
    }
}

static unsigned char *encoded(ae_model *m, int flags, size_t *n)
{
    *n = ae_model_encode(m, NULL, 0, flags);
    if (!CHECK(*n > 0)) printf("%s\n", ae_error(m));
    unsigned char *bytes = BYTES(*n + 1);
    CHECK_INT(ae_model_encode(m, bytes, *n, flags), *n);
    return bytes;
}

static void check_same_file(ae_model *a, ae_model *b, int flags)
{
    size_t n, k;
    unsigned char *x = encoded(a, flags, &n), *y = encoded(b, flags, &k);
    CHECK_INT(n, k);
    if (!CHECK(n == k && memcmp(x, y, n) == 0)) printf("%s\n%s\n", x + 8, y + 8);
}

/* Every tensor that has a name gives the same bits. */
static void check_same_outputs(ae_model *a, ae_model *b)
{
    static const char *const ops[] = {
        "linear", "relu", "tanh", "softmax", "top", "layer_norm", "batch_norm", "sigmoid", "mse",
        "conv2d", "group_norm", "max_unpool2d", "upsample2d", "pad2d", "up", "concat", "dropout",
        "mask_noise", "gaussian_sample", "tied_linear", "vq", "conv_transpose2d", "add"
    };
    int found = 0;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        for (int k = 0; k < 12; k++) {
            char name[64];
            snprintf(name, sizeof name, k ? "%s%d" : "%s", ops[i], k);
            ae_tensor *s = ae_tensor_find(a, name), *t = ae_tensor_find(b, name);
            CHECK((s == NULL) == (t == NULL));
            if (!s || !t || ae_size(s) != ae_size(t)) continue;
            CHECK_STR(ae_tensor_name(t), name);
            CHECK_INT(ae_run(a, s, BATCH), AE_SUCCESS);
            CHECK_INT(ae_run(b, t, BATCH), AE_SUCCESS);
            test_context("%s", name);
            CHECK_BITS(ae_get(b, t), ae_get(a, s), BATCH * ae_size(s));
            found++;
        }
    test_context(NULL);
    CHECK(found > 2);
}

TEST(file_every_operation)
{
    for (int g = 0; g < GRAPHS; g++) {
        ae_model *m = built(graphs[g], 7 + (uint64_t)g, AE_TRAIN), *o;
        size_t n;
        train(m, 3);
        unsigned char *bytes = encoded(m, AE_SAVE_TRAINING, &n);
        ae_arena *arena = net_arena(ROOM);
        o = ae_model_open_memory(arena, bytes, n, "memory", BATCH, AE_TRAIN);
        test_context("graph %d", g);
        if (!CHECK(o != NULL)) printf("%s\n", arena->error);
        if (!o) continue;
        check_same_file(m, o, AE_SAVE_TRAINING);
        set_inputs(m, 5);
        set_inputs(o, 5);
        check_same_outputs(m, o);
        train(m, 2);
        train(o, 2);
        check_same_file(m, o, AE_SAVE_TRAINING);
        CHECK_INT(ae_steps(o), 5);
    }
}

TEST_LIST(file) {
    CASE(file_every_operation),
    CASE_END
};
