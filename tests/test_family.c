/* Models of the family: variational, quantised, tied, sparse, contractive, conditional. */
#include "net.h"

enum { ROOM = 1 << 21 };

static ae_dataset floats_of(const float *x, size_t n, int features)
{
    ae_dataset d;
    memset(&d, 0, sizeof d);
    d.floats = x;
    d.n = n;
    d.c = features;
    d.h = d.w = 1;
    return d;
}

static float *set_param(ae_model *m, ae_param *p, const float *values)
{
    float *to = ae_param_data(m, p);
    REQUIRE(to != NULL);
    return (float *)memcpy(to, values, ae_param_size(p) * sizeof(float));
}

static float *segment(ae_model *m, ae_segment s, size_t *floats)
{
    size_t bytes;
    float *p = (float *)ae_segment_data(m, s, &bytes);
    *floats = bytes / sizeof(float);
    return p;
}

/* --- gradients by differences ---------------------------------------------- */

typedef struct whole { ae_model *m; int n; } whole;

static double whole_loss(void *arg)
{
    const whole *w = (const whole *)arg;
    CHECK_INT(ae_forward(w->m, w->n), AE_SUCCESS);
    return (double)ae_batch_loss(w->m, NULL);
}

static void gradients_of(ae_model *m, int n)
{
    ae_zero_grad(m);
    CHECK_INT(ae_forward(m, n), AE_SUCCESS);
    CHECK_INT(ae_backward(m, 1.0f), AE_SUCCESS);
}

/* Every parameter of a built model whose inputs are set: draws are the same in each pass. */
static void check_gradients(ae_model *m, int n, double tol)
{
    whole w;
    w.m = m;
    w.n = n;
    gradients_of(m, n);
    for (int i = 0; ae_param_at(m, i); i++) {
        ae_param *p = ae_param_at(m, i);
        if (!ae_param_grad(m, p)) continue;
        float *got = COPY(ae_param_grad(m, p), ae_param_size(p));
        test_context("%s", ae_param_name(p));
        // the loss, about 10, is rounded: 6e-7 / h
        CHECK_GRADIENT(got, ae_param_data(m, p), ae_param_size(p), 1.0 / 32, tol, whole_loss, &w);
    }
    test_context(NULL);
}

typedef struct vae {
    ae_model *m;
    ae_tensor *x, *mu, *logvar, *z, *y;
} vae;

static vae make_vae(ae_arena *arena, uint64_t seed, int features, int units)
{
    vae v;
    v.m = ae_model_new(arena, seed);
    v.x = ae_input(v.m, features, 1, 1);
    ae_tensor *h = ae_tanh(ae_linear(v.x, 8));
    v.mu = ae_linear(h, units);
    v.logvar = ae_linear(h, units);
    v.z = ae_gaussian_sample(v.mu, v.logvar);
    v.y = ae_linear(ae_tanh(ae_linear(v.z, 8)), features);
    return v;
}

static void elbo(const vae *v, ae_tensor **reconstruction, ae_tensor **kl)
{
    *reconstruction = ae_bce_logits(v->y, v->x, AE_BATCH_MEAN);
    *kl = ae_kl_normal(v->mu, v->logvar, 0, AE_BATCH_MEAN);
    ae_minimize(*reconstruction);
    ae_minimize(*kl);
}

static void built_with(vae *v, int batch, ae_mode mode, const float *x, int n)
{
    CHECK_STR(ae_error(v->m), "");
    REQUIRE(ae_build(v->m, batch, mode) == AE_SUCCESS);
    CHECK_INT(ae_set(v->m, v->x, x, n), AE_SUCCESS);
}

TEST(family_vae_gradient)
{
    for (int r = 0; r < 3; r++) {
        vae v = make_vae(net_arena(ROOM), 1, 6, 3);
        ae_tensor *wide = ae_linear(ae_silu(v.z), 6);
        ae_minimize(ae_bce_logits(v.y, v.x, (ae_reduction)r));
        ae_minimize_weighted(ae_kl_normal(v.mu, v.logvar, 0.01f, (ae_reduction)r), 0.7f);
        ae_minimize_weighted(ae_gaussian_nll(v.y, wide, v.x, (ae_reduction)r), 0.3f);
        ae_minimize_weighted(ae_gaussian_nll(wide, NULL, v.y, (ae_reduction)r), 0.3f);
        ae_minimize_weighted(ae_kl_normal(v.mu, v.mu, 0, (ae_reduction)r), 0.2f);
        built_with(&v, 5, AE_TRAIN, DATA_IN(30, 0, 1, 2), 5);
        check_gradients(v.m, 5, 4e-3);
    }
}

TEST(family_iwae_gradient)
{
    for (int k = 1; k <= 3; k += 2) {
        vae v = make_vae(net_arena(ROOM), 1, 6, 3);
        ae_minimize(ae_iwae(ae_log_bernoulli(v.y, v.x), ae_log_normal(v.z, NULL, NULL),
                            ae_log_normal(v.z, v.mu, v.logvar), k, AE_MEAN));
        ae_tensor *a = ae_log_normal(v.x, v.y, NULL), *b = ae_log_normal(v.z, v.z, v.mu);
        ae_tensor *c = ae_log_normal(v.mu, v.z, v.z);       // the last to read z, and twice
        ae_minimize_weighted(ae_iwae(a, b, c, k, AE_SUM), 0.1f);
        built_with(&v, 6, AE_TRAIN, DATA_IN(36, 0, 1, 2), 6);
        check_gradients(v.m, 6, 3e-3);
    }
}

TEST(family_mmd_gradient)
{
    vae v = make_vae(net_arena(ROOM), 1, 6, 3);
    ae_tensor *loss = ae_mmd(v.z);
    ae_minimize(loss);
    ae_minimize(ae_mse(v.y, v.x, AE_MEAN));
    built_with(&v, 6, AE_TRAIN, DATA_IN(36, 0, 1, 2), 6);
    check_gradients(v.m, 6, 3e-3);
    float first = ae_batch_loss(v.m, loss);
    ae_optim still = net_optim(AE_SGD, 1e-30f);
    CHECK_INT(ae_step(v.m, &still), AE_SUCCESS);
    CHECK_INT(ae_forward(v.m, 6), AE_SUCCESS);
    CHECK(ae_batch_loss(v.m, loss) < first || ae_batch_loss(v.m, loss) > first);    // fresh
    CHECK_INT(ae_forward(v.m, 1), AE_E_SHAPE);
    CHECK_ERROR(ae_error(v.m), "mmd1: it compares samples");
}

TEST(family_penalty_gradient)
{
    ae_model *m = ae_model_new(net_arena(ROOM), 3);
    ae_tensor *x = ae_input(m, 6, 1, 1), *s = ae_linear(x, 4), *h = ae_tanh(s);
    ae_init_layer(s, ae_init_uniform(0.2f, 0.7f), ae_init_uniform(-0.1f, 0.1f));
    ae_tensor *d = ae_linear(h, 3), *y = ae_linear(ae_sigmoid(d), 6);
    ae_tensor *terms[9];
    terms[0] = ae_mse(y, x, AE_MEAN);
    terms[1] = ae_contractive(h, AE_BATCH_MEAN);
    terms[2] = ae_contractive(d, AE_SUM);                       // the layer without activation
    terms[3] = ae_contractive_estimate(d, x, 0.25f, AE_BATCH_MEAN);
    terms[4] = ae_kl_sparsity(ae_sigmoid(s), 0.2f, AE_SUM);
    terms[5] = ae_weight_l1(h);
    terms[6] = ae_weight_l2(d);
    terms[7] = ae_orthogonal(h);
    terms[8] = ae_l1_penalty(ae_softplus(d), AE_MEAN);
    for (int i = 0; i < 9; i++) ae_minimize_weighted(terms[i], 0.5f + 0.1f * (float)i);
    CHECK_STR(ae_error(m), "");
    REQUIRE(ae_build(m, 5, AE_TRAIN) == AE_SUCCESS);
    CHECK_INT(ae_set(m, x, DATA(30, 1), 5), AE_SUCCESS);
    check_gradients(m, 5, 3e-3);
}

/* Top-k where no two are near: the mask does not move. */
TEST(family_top_k_gradient)
{
    ae_model *m = ae_model_new(net_arena(ROOM), 3);
    ae_tensor *x = ae_input(m, 6, 1, 1), *h = ae_linear(x, 5), *k = ae_top_k(h, 2);
    ae_minimize(ae_mse(ae_linear(k, 6), x, AE_SUM));
    ae_minimize(ae_l1_penalty(k, AE_SUM));
    REQUIRE(ae_build(m, 2, AE_TRAIN) == AE_SUCCESS);
    float *b = ae_param_data(m, ae_bias(h));
    for (int i = 0; i < 5; i++) b[i] = (float)(i * 3 % 5) - 1.5f;
    float *w = ae_param_data(m, ae_weight(h));
    for (int i = 0; i < 30; i++) w[i] *= 0.3f;
    CHECK_INT(ae_set(m, x, DATA(12, 1), 2), AE_SUCCESS);
    gradients_of(m, 2);
    whole o;
    o.m = m;
    o.n = 2;
    ae_param *p[2];
    p[0] = ae_weight(h);
    p[1] = ae_bias(h);
    for (int i = 0; i < 2; i++) {
        float *got = COPY(ae_param_grad(m, p[i]), ae_param_size(p[i]));
        CHECK_GRADIENT(got, ae_param_data(m, p[i]), ae_param_size(p[i]), 1.0 / 64, 1e-3, whole_loss,
                       &o);
    }
    float *v = ae_get(m, k), *kept = ae_get(m, h);
    for (int s = 0; s < 2; s++)
        for (int i = 0; i < 5; i++) {
            int stays = i == 3 || i == 1;           // biases 2.5 and 1.5
            CHECK_CLOSE(v[s * 5 + i], stays ? (double)kept[s * 5 + i] : 0, 0);
        }
}

/* --- shared weights --------------------------------------------------------- */

TEST(family_tied_golden)
{
    for (int i = 0; i < 3; i++) {
        char key[20];
        snprintf(key, sizeof key, i ? "tied_conv%d" : "tied_linear", i - 1);
        const test_record *rx = golden("latent", "%s.x", key);
        ae_model *m = ae_model_new(net_arena(ROOM), 3);
        ae_tensor *x = ae_input(m, rx->dim[1], i ? rx->dim[2] : 1, i ? rx->dim[3] : 1), *s;
        ae_conv g;
        memset(&g, 0, sizeof g);
        g.kernel_h = g.kernel_w = 3;
        g.stride_h = g.stride_w = i == 2 ? 3 : 2;
        g.pad_h = g.pad_w = 1;
        g.groups = i == 2 ? 2 : 1;
        s = i ? ae_conv2d_with(x, 4, &g) : ae_linear(x, 3);
        ae_tensor *h = ae_tanh(s), *y = ae_tied(h, i == 1 ? s : h), *loss = ae_mse(y, x, AE_MEAN);
        ae_minimize(loss);
        test_context("%s", key);
        CHECK_STR(ae_error(m), "");
        ae_init_all(m, ae_init_uniform(0.5f, 0.5f), ae_init_uniform(0.25f, 0.25f));
        REQUIRE(ae_build(m, rx->dim[0], AE_TRAIN) == AE_SUCCESS);
        CHECK_CLOSE(ae_param_data(m, ae_bias(y))[0], 0.25, 1e-7);
        CHECK(ae_weight(y) == ae_weight(s) && ae_bias(y) != ae_bias(s));
        CHECK(ae_param_at(m, 3) == NULL);
        set_param(m, ae_weight(s), golden("latent", "%s.w", key)->v);
        set_param(m, ae_bias(s), golden("latent", "%s.b", key)->v);
        set_param(m, ae_bias(y), golden("latent", "%s.c", key)->v);
        CHECK_INT(ae_set(m, x, rx->v, rx->dim[0]), AE_SUCCESS);
        gradients_of(m, rx->dim[0]);
        CHECK_ARRAY(ae_get(m, y), golden("latent", "%s.y", key)->v, rx->n, 1e-6, 1e-6);
        CHECK_CLOSE(ae_batch_loss(m, loss), golden("latent", "%s.loss", key)->v[0], 1e-6);
        CHECK_INT(ae_backward(m, -0.3f), AE_SUCCESS);       // += : 1 - 0.3 = 0.7
        ae_param *p[3];
        static const char *const names[3] = { "w", "b", "c" };
        p[0] = ae_weight(s);
        p[1] = ae_bias(s);
        p[2] = ae_bias(y);
        for (int k = 0; k < 3; k++)
            CHECK_ARRAY(ae_param_grad(m, p[k]), golden("latent", "%s.d%s", key, names[k])->v,
                        ae_param_size(p[k]), 2e-7, 1e-5);
    }
}

/* From x to its end, through pools, their maxima, norms, shared weights and a skip. */
static ae_tensor *way(ae_tensor *x, ae_tensor **shared)
{
    ae_tensor *h = ae_tanh(ae_conv2d(x, 3, 3, 1, 1)), *small = ae_max_pool2d(h, 2);
    ae_tensor *s = ae_conv2d(small, 3, 3, 2, 1), *t = ae_tied(ae_silu(s), s);
    t = ae_group_norm(ae_add(t, small), 3, NULL);
    t = ae_add(ae_max_unpool2d(t, small), h);
    t = ae_top_k(ae_relu(ae_conv2d(t, 2, 1, 1, 0)), 20);
    *shared = s;
    return ae_reshape(ae_linear(ae_concat(t, x), 6), 3, 2, 1);
}

TEST(family_again)
{
    float *a = DATA(3 * 48, 1), *b = DATA(3 * 48, 2);
    ae_model *m = ae_model_new(net_arena(ROOM), 3);
    ae_tensor *x = ae_input(m, 1, 6, 8), *x2 = ae_input(m, 1, 6, 8), *s;
    ae_tensor *y = way(x, &s), *y2 = ae_again(y, x, x2);
    ae_minimize(ae_mse(y, ae_linear(x, 6), AE_SUM));
    ae_minimize(ae_mse(y2, ae_linear(x2, 6), AE_SUM));
    CHECK_STR(ae_error(m), "");
    CHECK(ae_again(y, y, x2) == NULL);                      // shapes; the model is broken by now
    CHECK_ERROR(ae_error(m), "same shape");

    for (int mode = 0; mode < 2; mode++) {
        m = ae_model_new(net_arena(ROOM), 3);
        x = ae_input(m, 1, 6, 8);
        x2 = ae_input(m, 1, 6, 8);
        y = way(x, &s);
        y2 = ae_again(y, x, x2);
        ae_tensor *target = ae_linear(x, 6), *target2 = ae_again(target, x, x2);
        ae_tensor *one = ae_mse(y, target, AE_SUM), *two = ae_again(one, x, x2);
        ae_tensor *three = ae_mse(y2, target2, AE_SUM);
        ae_minimize(one);
        ae_minimize(two);
        ae_minimize_weighted(three, 0.5f);
        CHECK(y2 != y && ae_again(x, x, x2) == x2);
        CHECK_STR(ae_error(m), "");
        REQUIRE(ae_build(m, 3, mode ? AE_TRAIN : AE_INFER) == AE_SUCCESS);
        CHECK_INT(ae_set(m, x, a, 3), AE_SUCCESS);
        CHECK_INT(ae_set(m, x2, b, 3), AE_SUCCESS);
        CHECK_INT(ae_run(m, y2, 3), AE_SUCCESS);
        float *got = COPY(ae_get(m, y2), 18);
        CHECK_INT(ae_set(m, x, b, 3), AE_SUCCESS);
        CHECK_INT(ae_run(m, y, 3), AE_SUCCESS);
        CHECK_BITS(got, ae_get(m, y), 18);
        if (!mode) continue;
        // the gradient of both is the sum of each alone, with the weight of its copies
        size_t floats;
        float *grad = segment(m, AE_SEG_GRAD, &floats), *sum = DATA_IN(floats, 0, 0, 0);
        memset(sum, 0, floats * sizeof *sum);
        for (int i = 0; i < 2; i++) {           // both inputs the same: 2.5 of it
            const float *v = i ? b : a;
            CHECK_INT(ae_set(m, x, v, 3), AE_SUCCESS);
            CHECK_INT(ae_set(m, x2, v, 3), AE_SUCCESS);
            gradients_of(m, 3);
            for (size_t k = 0; k < floats; k++) sum[k] += grad[k] / 2.5f * (i ? 1.5f : 1.0f);
            CHECK_CLOSE(ae_batch_loss(m, one), ae_batch_loss(m, two), 0);
            CHECK_CLOSE(ae_batch_loss(m, one), ae_batch_loss(m, three), 0);
        }
        CHECK_INT(ae_set(m, x, a, 3), AE_SUCCESS);
        gradients_of(m, 3);
        CHECK_ARRAY_L2(grad, sum, floats, 1e-5);
        float first = ae_batch_loss(m, one), second = ae_batch_loss(m, two);
        CHECK(first < second || first > second);
        CHECK_CLOSE(ae_batch_loss(m, three), second, 0);
        CHECK_CLOSE(ae_batch_loss(m, NULL), (double)first + 1.5 * (double)second, 1e-4);
    }
}

/* What leads to the places of the maxima belongs to the way; places from before x do not. */
TEST(family_again_places)
{
    float *a = DATA(48, 1), *b = DATA(48, 2);
    ae_model *m = ae_model_new(net_arena(ROOM), 3);
    ae_tensor *x = ae_input(m, 1, 6, 8), *x2 = ae_input(m, 1, 6, 8), *c2 = ae_input(m, 1, 3, 4);
    ae_tensor *pool = ae_max_pool2d(x, 2), *code = ae_conv2d(pool, 1, 1, 1, 0);
    ae_tensor *y = ae_max_unpool2d(code, pool);
    ae_tensor *other = ae_again(y, code, c2);               // the pool is before: its places
    ae_tensor *flat = ae_max_unpool2d(ae_pad2d(c2, 0, 0, 0, 0, 0), pool);
    ae_tensor *moved = ae_again(flat, x, x2);               // only the places depend on x
    CHECK_STR(ae_error(m), "");
    REQUIRE(ae_build(m, 1, AE_INFER) == AE_SUCCESS);
    float *codes = DATA(12, 3);
    CHECK_INT(ae_set(m, x, a, 1), AE_SUCCESS);
    CHECK_INT(ae_set(m, x2, b, 1), AE_SUCCESS);
    CHECK_INT(ae_set(m, c2, codes, 1), AE_SUCCESS);
    CHECK_INT(ae_run(m, other, 1), AE_SUCCESS);
    float *got = COPY(ae_get(m, other), 48), *want = OUT(48);
    for (int k = 0; k < 2; k++) {
        const float *v = k ? b : a;
        for (int i = 0; i < 48; i++) {
            int r = i / 8 / 2 * 2, q = i % 8 / 2 * 2, largest = 1;
            for (int j = 0; j < 4; j++) largest &= !(v[(r + j / 2) * 8 + q + j % 2] > v[i]);
            want[i] = largest ? codes[r / 2 * 4 + q / 2] : 0;
        }
        CHECK_ARRAY(got, want, 48, 0, 0);
        CHECK_INT(ae_run(m, moved, 1), AE_SUCCESS);
        got = COPY(ae_get(m, moved), 48);
    }
}

/* --- samples ---------------------------------------------------------------- */

/* The draw of a sample goes by its place: any batch has the same bits; each step its own. */
TEST(family_sample_splits)
{
    enum { N = 23, F = 6 };
    float *x = DATA_IN(N * F, 0, 1, 1), *first = OUT(N * 3), *z = OUT(N * 3);
    for (int batch = 1; batch <= N; batch += 11) {
        for (int mode = 0; mode < 2; mode++) {
            vae v = make_vae(net_arena(ROOM), 1, F, 3);
            ae_tensor *a, *b;
            CHECK(ae_noise_always(v.z) == v.z);
            elbo(&v, &a, &b);
            REQUIRE(ae_build(v.m, batch, mode ? AE_TRAIN : AE_INFER) == AE_SUCCESS);
            CHECK_INT(ae_predict(v.m, v.z, z, x, N), AE_SUCCESS);
            if (batch == 1 && mode == 0) memcpy(first, z, N * 3 * sizeof *z);
            CHECK_SAME(z, first, N * 3);
            CHECK_INT(ae_predict(v.m, v.mu, z, x, N), AE_SUCCESS);
            CHECK(memcmp(z, first, sizeof *z) != 0);
        }
    }
    vae v = make_vae(net_arena(ROOM), 1, F, 3);
    ae_tensor *a, *b;
    elbo(&v, &a, &b);
    built_with(&v, N, AE_TRAIN, x, N);
    CHECK_INT(ae_run(v.m, v.z, N), AE_SUCCESS);             // the mean
    memcpy(z, ae_get(v.m, v.z), N * 3 * sizeof *z);
    CHECK_INT(ae_run(v.m, v.mu, N), AE_SUCCESS);
    CHECK_BITS(z, ae_get(v.m, v.mu), N * 3);
    ae_optim still = net_optim(AE_SGD, 1e-30f);
    for (int step = 0; step < 2; step++) {
        gradients_of(v.m, N);
        float *now = ae_get(v.m, v.z);
        CHECK(memcmp(now, z, N * 3 * sizeof *z) != 0);
        memcpy(z, now, N * 3 * sizeof *z);
        CHECK_INT(ae_step(v.m, &still), AE_SUCCESS);
    }
}

/* A step of 12 in one batch and in three: the same samples, so the same step. */
TEST(family_vae_accumulates)
{
    enum { N = 12, F = 6 };
    float *x = DATA_IN(N * F, 0, 1, 1), *first = NULL;
    ae_dataset d = floats_of(x, N, F);
    for (int parts = 1; parts <= 3; parts += 2) {
        vae v = make_vae(net_arena(ROOM), 1, F, 3);
        ae_tensor *a, *b;
        elbo(&v, &a, &b);
        REQUIRE(ae_build(v.m, N / parts, AE_TRAIN) == AE_SUCCESS);
        ae_optim sgd = net_optim(AE_SGD, 0.1f);
        ae_fit_options o;
        memset(&o, 0, sizeof o);
        o.epochs = 3;
        o.accumulate = parts;
        CHECK_INT(ae_fit(v.m, &d, &sgd, &o, NULL), AE_SUCCESS);
        CHECK_INT(ae_steps(v.m), 3);
        size_t floats;
        float *p = segment(v.m, AE_SEG_PARAM, &floats);
        if (parts == 1) first = COPY(p, floats);
        else CHECK_ARRAY(p, first, floats, 1e-6, 1e-5);
    }
}

/* --- bounds ----------------------------------------------------------------- */

/* k = 1 is the ELBO; each sample stands k times in a row with its label and another draw. */
TEST(family_iwae_feeds)
{
    enum { N = 8, F = 6, K = 3 };
    float *x = DATA_IN(N * F, 0, 1, 1);
    int32_t labels[N] = { 0, 1, 2, 3, 4, 5, 6, 7 };
    ae_dataset d = floats_of(x, N, F);
    d.labels = labels;
    ae_optim sgd = net_optim(AE_SGD, 0.01f);
    for (int k = 1; k <= K; k += 2) {
        vae v = make_vae(net_arena(ROOM), 1, F, 3);
        ae_tensor *px = ae_log_bernoulli(v.y, v.x), *pz = ae_log_normal(v.z, NULL, NULL);
        ae_tensor *qz = ae_log_normal(v.z, v.mu, v.logvar), *l = ae_labels(v.m);
        ae_tensor *bound = ae_iwae(px, pz, qz, k, AE_MEAN);
        ae_tensor *class_loss = ae_cross_entropy(ae_linear(v.mu, N), l, AE_MEAN);
        ae_minimize(bound);
        ae_minimize(class_loss);
        CHECK_INT(ae_build(v.m, 7, AE_TRAIN), k == 1 ? AE_SUCCESS : AE_E_ARG);
        if (k == K) {
            CHECK_ERROR(ae_error(v.m), "batch 7 is not a multiple of iwae's k, 3");
            REQUIRE(ae_build(v.m, 9, AE_TRAIN) == AE_SUCCESS);
            ae_fit_options o;
            memset(&o, 0, sizeof o);
            o.epochs = 1;
            o.batch = 4;
            CHECK_INT(ae_fit(v.m, &d, &sgd, &o, NULL), AE_E_ARG);
            CHECK_ERROR(ae_error(v.m), "ae_fit: batch 4 is not a multiple of iwae's k, 3");
            CHECK_INT(ae_set(v.m, v.x, x, 4), AE_SUCCESS);
            CHECK_INT(ae_forward(v.m, 4), AE_E_ARG);
            CHECK_ERROR(ae_error(v.m), "iwae1: 4 samples are not a multiple of k, 3");
        }
        int seen[N] = { 0 }, steps = 0;
        do {
            CHECK_INT(ae_train_step(v.m, &d, &sgd), AE_SUCCESS);
            int n = k == 1 ? steps == 1 ? 1 : 7 : steps == 2 ? 6 : 9;
            const float *fed = ae_get(v.m, v.x), *z = ae_get(v.m, v.z);
            const int32_t *told = (const int32_t *)(const void *)ae_get(v.m, l);
            double sum = 0;
            for (int i = 0; i < n; i++) {
                seen[told[i]]++;
                CHECK_BITS(fed + i * F, x + told[i] * F, F);
                if (i % k == 0) continue;
                CHECK_INT(told[i], told[i - 1]);
                CHECK(memcmp(z + i * 3, z + i * 3 - 3, sizeof *z) != 0);
            }
            for (int i = 0; i < n && k == 1; i++)
                sum -= (double)ae_get(v.m, px)[i] + (double)ae_get(v.m, pz)[i]
                       - (double)ae_get(v.m, qz)[i];
            if (k == 1) CHECK_CLOSE(ae_batch_loss(v.m, bound), sum / n, 1e-5);
        } while (++steps < (k == 1 ? 2 : 3));
        for (int i = 0; i < N; i++) CHECK_INT(seen[i], k);
        float loss = 0;
        CHECK_INT(ae_evaluate(v.m, &d, &loss), AE_SUCCESS);
        CHECK(test_is_finite(loss));
    }
}

/* p(z) = N(0,1), p(x|z) = N(w z + b, e^lv): ln p(x) is known, and so is p(z|x). */
typedef struct exact { vae v; ae_tensor *px; } exact;

enum { EXACT_N = 9 };
static const double exact_w[2] = { 0.8, -0.5 }, exact_b[2] = { 0.1, 0.3 };

static double exact_log(const float *x)
{
    const double s = 0.25, a = (double)x[0] - exact_b[0], b = (double)x[1] - exact_b[1];
    const double c00 = exact_w[0] * exact_w[0] + s, c11 = exact_w[1] * exact_w[1] + s;
    const double c01 = exact_w[0] * exact_w[1], det = c00 * c11 - c01 * c01;
    return -log(2 * 3.14159265358979324) - 0.5 * log(det)
           - 0.5 * (c11 * a * a - 2 * c01 * a * b + c00 * b * b) / det;
}

/* off: how far the encoder is from the posterior. */
static exact make_exact(int batch, ae_mode mode, float off)
{
    exact e;
    e.v.m = ae_model_new(net_arena(ROOM), 5);
    e.v.x = ae_input(e.v.m, 2, 1, 1);
    e.v.mu = ae_linear(e.v.x, 1);
    e.v.logvar = ae_linear(e.v.x, 1);
    e.v.z = ae_gaussian_sample(e.v.mu, e.v.logvar);
    e.v.y = ae_linear(e.v.z, 2);
    ae_tensor *spread = ae_linear(e.v.z, 2);
    e.px = ae_log_normal(e.v.x, e.v.y, spread);
    CHECK_STR(ae_error(e.v.m), "");
    REQUIRE(ae_build(e.v.m, batch, mode) == AE_SUCCESS);
    const double s = 0.25, precision = 1 + (0.64 + 0.25) / s;
    float w[2], b[2], zero[2] = { 0, 0 };
    for (int i = 0; i < 2; i++) {
        w[i] = (float)exact_w[i];
        b[i] = (float)exact_b[i];
    }
    set_param(e.v.m, ae_weight(e.v.y), w);
    set_param(e.v.m, ae_bias(e.v.y), b);
    set_param(e.v.m, ae_weight(spread), zero);
    for (int i = 0; i < 2; i++) b[i] = logf((float)s);
    set_param(e.v.m, ae_bias(spread), b);
    for (int i = 0; i < 2; i++) w[i] = (float)(exact_w[i] / s / precision);
    set_param(e.v.m, ae_weight(e.v.mu), w);
    b[0] = (float)(-(exact_w[0] * exact_b[0] + exact_w[1] * exact_b[1]) / s / precision) + off;
    set_param(e.v.m, ae_bias(e.v.mu), b);
    set_param(e.v.m, ae_weight(e.v.logvar), zero);
    b[0] = (float)-log(precision) + off;
    set_param(e.v.m, ae_bias(e.v.logvar), b);
    return e;
}

TEST(family_score_exact)
{
    float *x = DATA_IN(EXACT_N * 2, -1.5, 1.5, 1), scores[EXACT_N];
    ae_dataset d = floats_of(x, EXACT_N, 2);
    double want = 0, mean, before = -1e9;
    for (int i = 0; i < EXACT_N; i++) want += exact_log(x + 2 * i) / EXACT_N;
    for (int mode = 0; mode < 2; mode++)
        for (int k = 1; k <= 20; k += 19) {         // the posterior itself: exact for any k
            exact e = make_exact(7, mode ? AE_TRAIN : AE_INFER, 0);
            CHECK_INT(ae_iwae_score(e.v.m, e.v.z, e.px, &d, k, scores, &mean), AE_SUCCESS);
            for (int i = 0; i < EXACT_N; i++) CHECK_CLOSE(scores[i], exact_log(x + 2 * i), 2e-5);
            CHECK_CLOSE(mean, want, 1e-5);
        }
    float *first = OUT(EXACT_N);
    for (int k = 1; k <= 3000; k = k == 1 ? 10 : k == 10 ? 100 : k == 100 ? 3000 : 9999) {
        exact e = make_exact(7, AE_INFER, 0.7f);
        CHECK_INT(ae_iwae_score(e.v.m, e.v.z, e.px, &d, k, scores, &mean), AE_SUCCESS);
        CHECK(mean > before && mean < want + 0.02);
        before = mean;
        memcpy(first, scores, sizeof scores);
        e = make_exact(64, AE_TRAIN, 0.7f);         // any batch: the same draws
        CHECK_INT(ae_iwae_score(e.v.m, e.v.z, e.px, &d, k, scores, NULL), AE_SUCCESS);
        CHECK_ARRAY(scores, first, EXACT_N, 2e-6, 2e-6);
    }
    CHECK_CLOSE(mean, want, 0.02);
}

/* A trained model: the bound grows with k, and that of k = 1 is the ELBO it was trained by. */
TEST(family_score_grows)
{
    enum { N = 300, F = 6 };
    float *x = DATA_IN(N * F, 0, 1, 1);
    for (int i = 0; i < N * F; i++) x[i] = x[i / F * F + i % 2] > 0.5f ? 1.0f : 0.0f;
    ae_dataset d = floats_of(x, N, F);
    vae v = make_vae(net_arena(ROOM), 1, F, 2);
    ae_tensor *a, *b, *px = ae_log_bernoulli(v.y, v.x);
    elbo(&v, &a, &b);
    REQUIRE(ae_build(v.m, 20, AE_TRAIN) == AE_SUCCESS);
    ae_optim adam = net_optim(AE_ADAM, 1e-2f), still = net_optim(AE_SGD, 1e-30f);
    for (int i = 0; i < 15; i++) ae_epoch(v.m, &d, &adam);
    double mean[3], bound = 0;
    static const int ks[3] = { 1, 10, 100 };
    for (int i = 0; i < 3; i++)
        CHECK_INT(ae_iwae_score(v.m, v.z, px, &d, ks[i], NULL, &mean[i]), AE_SUCCESS);
    CHECK(mean[0] + 0.1 < mean[1] && mean[1] + 0.01 < mean[2]);
    CHECK(mean[2] - mean[0] < 2);
    for (int i = 0; i < 20; i++) {              // a noisy ELBO for each epoch
        ae_epoch(v.m, &d, &still);
        bound -= (double)ae_mean_loss(v.m, NULL) / 20;
    }
    CHECK_CLOSE(mean[0], bound, 0.15);
}

/* --- quantised models ------------------------------------------------------- */

typedef struct quantised { ae_model *m; ae_tensor *x, *e, *q, *y, *mse, *loss; } quantised;

static quantised make_vq(ae_arena *arena, uint64_t seed, const ae_vq_options *o)
{
    quantised v;
    v.m = ae_model_new(arena, seed);
    v.x = ae_input(v.m, 3, 2, 2);
    v.e = ae_conv2d(v.x, 2, 1, 1, 0);
    v.q = ae_name(ae_vq(v.e, o), "book");
    v.y = ae_conv2d(v.q, 3, 1, 1, 0);
    v.mse = ae_mse(v.y, v.x, AE_MEAN);
    v.loss = ae_vq_loss(v.q, AE_MEAN);
    ae_minimize(v.mse);
    ae_minimize(v.loss);
    return v;
}

static ae_vq_options vq_of(int codes, float beta, int gradient)
{
    ae_vq_options o;
    memset(&o, 0, sizeof o);
    o.codes = codes;
    o.beta = beta;
    o.gradient = gradient;
    return o;
}

TEST(family_vq_golden)
{
    ae_vq_options o = vq_of(5, 0.4f, 1);
    quantised v = make_vq(net_arena(ROOM), 1, &o);
    CHECK_STR(ae_error(v.m), "");
    REQUIRE(ae_build(v.m, 4, AE_TRAIN) == AE_SUCCESS);
    ae_param *p[5];
    static const char *const names[5] = { "a", "b", "codes", "c", "d" };
    p[0] = ae_weight(v.e);
    p[1] = ae_bias(v.e);
    p[2] = ae_weight(v.q);
    p[3] = ae_weight(v.y);
    p[4] = ae_bias(v.y);
    CHECK(p[2] == ae_param_find(v.m, "book.weight"));
    CHECK(ae_param_find(v.m, "book.count") != NULL);
    for (int i = 0; i < 5; i++) set_param(v.m, p[i], golden("latent", "vq_model.%s", names[i])->v);
    CHECK_INT(ae_set(v.m, v.x, golden("latent", "vq_model.x")->v, 4), AE_SUCCESS);
    gradients_of(v.m, 4);
    CHECK_INT(ae_backward(v.m, -0.3f), AE_SUCCESS);
    CHECK_CLOSE(ae_batch_loss(v.m, NULL), golden("latent", "vq_model.loss")->v[0], 1e-6);
    const int32_t *index = ae_vq_index(v.m, v.q);
    for (int i = 0; i < 16; i++) CHECK_INT(index[i], (int)golden("latent", "vq_model.index")->v[i]);
    for (int i = 0; i < 5; i++)
        CHECK_ARRAY(ae_param_grad(v.m, p[i]), golden("latent", "vq_model.d%s", names[i])->v,
                    ae_param_size(p[i]), 2e-7, 1e-5);
}

/* Twelve clusters of vectors are found by averages from a random codebook: all codes are used. */
TEST(family_vq_learns)
{
    enum { N = 60, K = 12 };
    float *x = DATA_IN(N * 12, -0.02, 0.02, 1);
    for (int i = 0; i < N * 4; i++)         // pixel p of a sample belongs to a cluster
        for (int c = 0; c < 3; c++)
            x[i / 4 * 12 + c * 4 + i % 4] += sinf(1.7f * (float)(i * 7 % K) + (float)c);
    ae_dataset d = floats_of(x, N, 3);
    d.h = d.w = 2;
    ae_vq_options o = vq_of(K, 0, 0);
    quantised v = make_vq(net_arena(ROOM), 1, &o);
    REQUIRE(ae_build(v.m, 10, AE_TRAIN) == AE_SUCCESS);
    CHECK(ae_param_grad(v.m, ae_weight(v.q)) == NULL);
    double perplexity = -1;
    CHECK_INT(ae_vq_usage(v.m, v.q, &perplexity), 0);
    CHECK_CLOSE(perplexity, 1, 0);
    ae_optim adam = net_optim(AE_ADAM, 1e-2f);
    for (int i = 0; i < 100; i++) ae_epoch(v.m, &d, &adam);
    CHECK(ae_mean_loss(v.m, v.mse) < 0.05f);
    int used = ae_vq_usage(v.m, v.q, &perplexity);
    CHECK(used >= 8 && used <= K);
    CHECK(perplexity > 6 && perplexity <= K + 1e-6);
    const float *count = ae_param_data(v.m, ae_param_find(v.m, "book.count"));
    double total = 0, entropy = 0;
    for (int k = 0; k < K; k++) total += (double)count[k];
    for (int k = 0; k < K; k++)
        if (count[k] > 0) entropy -= (double)count[k] / total * log((double)count[k] / total);
    CHECK_CLOSE(perplexity, exp(entropy), 1e-6);
    CHECK_INT(ae_vq_usage(v.m, v.q, NULL), used);
}

/* The library's moving codebook by the model's own calls: used first, then moved; not outside
   training. */
TEST(family_vq_moves)
{
    ae_vq_options o = vq_of(4, 0, 0);
    o.restart = -1;
    o.decay = 0.5f;
    quantised v = make_vq(net_arena(ROOM), 1, &o);
    REQUIRE(ae_build(v.m, 5, AE_TRAIN) == AE_SUCCESS);
    CHECK_INT(ae_set(v.m, v.x, DATA(60, 1), 5), AE_SUCCESS);
    float *codes = COPY(ae_param_data(v.m, ae_weight(v.q)), 8), *sum = DATA_IN(8, 0, 0, 0);
    float *count = DATA_IN(4, 0, 0, 0), *q = OUT(40);
    int32_t *index = INTS(20);
    ae_random r = { 0, 0, 0 };
    CHECK_INT(ae_run(v.m, v.y, 5), AE_SUCCESS);
    CHECK_BITS(codes, ae_param_data(v.m, ae_weight(v.q)), 8);
    for (int step = 0; step < 3; step++) {
        CHECK_INT(ae_forward(v.m, 5), AE_SUCCESS);
        const float *e = ae_get(v.m, v.e);
        ae_vq_forward(test_exec(), q, index, e, codes, 4, 5, 2, 4);
        CHECK_BITS(ae_get(v.m, v.q), q, 40);
        ae_vq_update(test_exec(), codes, sum, count, e, index, 0.5f, 1e-5f, 0, r, 4, 5, 2, 4);
        CHECK_BITS(ae_param_data(v.m, ae_weight(v.q)), codes, 8);
    }
}

/* A step that fails leaves the codebook; a snapshot brings it back with its counts. */
TEST(family_vq_failure_snapshot)
{
    enum { N = 6 };
    float *x = DATA(N * 12, 1), *bad = COPY(x, N * 12);
    bad[30] = test_nan();
    ae_dataset d = floats_of(x, N, 3), broken = floats_of(bad, N, 3);
    d.h = d.w = broken.h = broken.w = 2;
    ae_vq_options o = vq_of(7, 0, 0);
    quantised v = make_vq(net_arena(ROOM), 1, &o);
    REQUIRE(ae_build(v.m, N, AE_TRAIN) == AE_SUCCESS);
    ae_optim adam = net_optim(AE_ADAM, 1e-2f);
    size_t floats;
    float *p = segment(v.m, AE_SEG_PARAM, &floats), *before = COPY(p, floats);
    CHECK_INT(ae_train_step(v.m, &broken, &adam), AE_E_NUMERIC);
    CHECK_BITS(p, before, floats);
    CHECK_INT(ae_set(v.m, v.x, bad, N), AE_SUCCESS);
    CHECK_INT(ae_forward(v.m, N), AE_E_NUMERIC);
    CHECK_BITS(p, before, floats);
    CHECK_INT(ae_train_step(v.m, &d, &adam), AE_SUCCESS);
    CHECK(memcmp(p, before, floats * sizeof *p) != 0);
    size_t bytes = ae_snapshot_bytes(v.m);
    unsigned char *kept = BYTES(bytes);
    CHECK_INT(ae_snapshot(v.m, kept), AE_SUCCESS);
    float *after[2];
    for (int i = 0; i < 2; i++) {
        for (int s = 0; s < 3; s++) CHECK_INT(ae_train_step(v.m, &d, &adam), AE_SUCCESS);
        after[i] = COPY(p, floats);
        CHECK_INT(ae_restore(v.m, kept, bytes), AE_SUCCESS);
    }
    CHECK_BITS(after[0], after[1], floats);
    // a fair share that no code reaches: all start anew at vectors of the batch
    o.restart = 1e6f;
    v = make_vq(net_arena(ROOM), 1, &o);
    REQUIRE(ae_build(v.m, N, AE_TRAIN) == AE_SUCCESS);
    CHECK_INT(ae_train_step(v.m, &d, &adam), AE_SUCCESS);
    const float *codes = ae_param_data(v.m, ae_weight(v.q)), *e = ae_get(v.m, v.e);
    for (int k = 0; k < 7; k++) {
        int found = 0;
        for (int i = 0; i < N * 4; i++)
            found |= !memcmp(&codes[2 * k], &e[i / 4 * 8 + i % 4], sizeof(float))
                     && !memcmp(&codes[2 * k + 1], &e[i / 4 * 8 + 4 + i % 4], sizeof(float));
        CHECK(found);
    }
}

/* In inference the numbers are there after all that follows was computed, in forks as well. */
TEST(family_vq_index)
{
    enum { N = 5 };
    float *x = DATA(N * 12, 1);
    for (int mode = 0; mode < 3; mode++) {
        ae_vq_options o = vq_of(7, 0, 0);
        ae_arena *arena = net_arena(ROOM);
        quantised v = make_vq(arena, 1, &o);
        ae_tensor *deep = ae_linear(ae_tanh(ae_linear(ae_tanh(ae_linear(v.y, 40)), 40)), 12);
        REQUIRE(ae_build(v.m, N, mode ? AE_INFER : AE_TRAIN) == AE_SUCCESS);
        ae_model *m = mode == 2 ? ae_fork(v.m, arena, N) : v.m;
        REQUIRE(m != NULL);
        float *q = OUT(N * 8), *e = OUT(N * 8), *out = OUT(N * 12), *same = OUT(N * 12);
        CHECK_INT(ae_predict(m, v.q, q, x, N), AE_SUCCESS);
        CHECK_INT(ae_predict(m, deep, out, x, N), AE_SUCCESS);
        int32_t *index = INTS(N * 4);
        REQUIRE(ae_vq_index(m, v.q) != NULL);
        memcpy(index, ae_vq_index(m, v.q), N * 4 * sizeof *index);
        const float *codes = ae_param_data(v.m, ae_weight(v.q));
        CHECK_INT(ae_vq_lookup(e, index, codes, 7, N, 2, 4), AE_SUCCESS);
        CHECK_BITS(e, q, N * 8);
        CHECK_INT(ae_predict_from(m, v.q, deep, same, e, N), AE_SUCCESS);
        CHECK_BITS(same, out, N * 12);
        CHECK(ae_vq_index(m, v.e) == NULL);
        CHECK_ERROR(ae_error(m), "is not from ae_vq");
        CHECK_INT(ae_vq_usage(m, v.e, NULL), 0);
    }
}

/* Codes of the data itself: what is quantised has no gradient, the codebook may have. */
TEST(family_vq_of_input)
{
    for (int gradient = 0; gradient < 2; gradient++) {
        ae_model *m = ae_model_new(net_arena(ROOM), 1);
        ae_vq_options o = vq_of(4, 0, gradient);
        ae_tensor *x = ae_input(m, 2, 1, 1), *q = ae_vq(x, &o), *y = ae_linear(q, 2);
        ae_minimize(ae_vq_loss(q, AE_MEAN));
        ae_minimize(ae_mse(y, x, AE_MEAN));
        REQUIRE(ae_build(m, 8, AE_TRAIN) == AE_SUCCESS);
        float *v = DATA(16, 1);
        ae_dataset d = floats_of(v, 8, 2);
        ae_optim adam = net_optim(AE_ADAM, 0.05f);
        float first = ae_epoch(m, &d, &adam), last = first;
        for (int i = 0; i < 200; i++) last = ae_epoch(m, &d, &adam);
        CHECK(last < (gradient ? 0.75f : 0.5f) * first);    // by gradient some codes stay unused
        CHECK_STR(ae_error(m), "");
    }
}

/* --- weights of terms ------------------------------------------------------- */

TEST(family_weights_after_build)
{
    vae v = make_vae(net_arena(ROOM), 1, 6, 3);
    ae_tensor *a, *kl;
    elbo(&v, &a, &kl);
    built_with(&v, 5, AE_TRAIN, DATA_IN(30, 0, 1, 2), 5);
    size_t floats;
    float *grad = segment(v.m, AE_SEG_GRAD, &floats);
    float *g[4];
    static const float weights[4] = { 1, 0, 3, -1 };
    for (int i = 0; i < 4; i++) {
        ae_minimize_weighted(kl, weights[i]);
        CHECK_INT(ae_model_status(v.m), AE_SUCCESS);
        gradients_of(v.m, 5);
        g[i] = COPY(grad, floats);
        CHECK_CLOSE(ae_batch_loss(v.m, NULL), (double)ae_batch_loss(v.m, a)
                    + (double)weights[i] * (double)ae_batch_loss(v.m, kl), 1e-5);
    }
    for (size_t i = 0; i < floats; i++) {
        CHECK_CLOSE(g[2][i] - g[1][i], 3 * ((double)g[0][i] - (double)g[1][i]), 2e-6);
        CHECK_CLOSE(g[3][i] - g[1][i], -((double)g[0][i] - (double)g[1][i]), 2e-6);
    }
    ae_minimize_weighted(kl, test_inf());
    CHECK_INT(ae_model_status(v.m), AE_E_ARG);
    gradients_of(v.m, 5);
    CHECK_BITS(grad, g[3], floats);
}

/* Each step's gradient has the share of the epochs that are over. */
TEST(family_warm_up)
{
    enum { N = 12, F = 6 };
    float *x = DATA_IN(N * F, 0, 1, 1);
    ae_dataset d = floats_of(x, N, F);
    ae_optim still = net_optim(AE_SGD, 1e-30f);
    vae v = make_vae(net_arena(ROOM), 1, F, 3);
    ae_tensor *rec = ae_mse(v.y, v.x, AE_MEAN);
    ae_tensor *kl = ae_kl_normal(v.mu, v.logvar, 0, AE_BATCH_MEAN);
    ae_minimize_weighted(rec, 0);               // so that the whole gradient is the KL's
    ae_minimize(kl);
    ae_warm_up(kl, 2);
    d.keep_order = 1;
    REQUIRE(ae_build(v.m, N / 2, AE_TRAIN) == AE_SUCCESS);
    size_t floats;
    float *grad = segment(v.m, AE_SEG_GRAD, &floats), *full[2];
    for (int i = 0; i < 2; i++) {
        CHECK_INT(ae_set(v.m, v.x, x + i * N / 2 * F, N / 2), AE_SUCCESS);
        gradients_of(v.m, N / 2);                // by hand: the whole weight
        full[i] = COPY(grad, floats);
    }
    for (int step = 0; step < 6; step++) {
        double share = step < 4 ? 0.25 * step : 1;
        test_context("step %d", step);
        CHECK_INT(ae_train_step(v.m, &d, &still), AE_SUCCESS);
        for (size_t i = 0; i < floats; i++)
            CHECK_CLOSE(grad[i], share * (double)full[step % 2][i], 1e-6);
        CHECK_CLOSE(ae_batch_loss(v.m, NULL), ae_batch_loss(v.m, kl), 0);
    }
    ae_warm_up(rec, -1);
    CHECK_INT(ae_model_status(v.m), AE_E_ARG);
    CHECK_ERROR(ae_error(v.m), "-1 epochs");
    ae_warm_up(kl, test_nan());
    CHECK_INT(ae_model_status(v.m), AE_E_ARG);
}

TEST(family_limit_norm)
{
    enum { N = 8 };
    for (int conv = 0; conv < 2; conv++) {
        ae_model *m = ae_model_new(net_arena(ROOM), 1);
        ae_tensor *x = ae_input(m, 2, 4, 3), *h = conv ? ae_conv2d(x, 5, 3, 1, 1) : ae_linear(x, 5);
        CHECK(ae_limit_norm(ae_tanh(h), 0.5f) != NULL);
        ae_tensor *y = ae_linear(h, 24);
        ae_minimize(ae_mse(y, x, AE_MEAN));
        REQUIRE(ae_build(m, N, AE_TRAIN) == AE_SUCCESS);
        float *w = ae_param_data(m, ae_weight(h));
        int D = (int)ae_param_size(ae_weight(h)) / 5;
        for (int i = 0; i < 5 * D; i++) w[i] *= i < D ? 0.01f : 5.0f;
        ae_optim sgd = net_optim(AE_SGD, 1e-3f), adam = net_optim(AE_ADAM, 0.1f);
        float *x0 = DATA(N * 24, 1), *before = COPY(w, D);
        CHECK_INT(ae_set(m, x, x0, N), AE_SUCCESS);
        for (int step = 0; step < 5; step++) {
            gradients_of(m, N);
            CHECK_INT(ae_step(m, step ? &adam : &sgd), AE_SUCCESS);
            for (int o = 0; o < 5; o++) {
                double norm = 0;
                for (int i = 0; i < D; i++) norm += pow((double)w[o * D + i], 2);
                CHECK(sqrt(norm) < 0.500001);
                if (step == 0) CHECK(o == 0 ? sqrt(norm) < 0.3 : sqrt(norm) > 0.499999);
            }
            if (step == 0) CHECK_ARRAY(w, before, D, 2e-2, 0);
        }
    }
}

/* --- penalties in models ---------------------------------------------------- */

/* The mean of many estimates is the exact norm of the Jacobian. */
TEST(family_contractive_estimate)
{
    enum { N = 4, DRAWS = 3000 };
    ae_model *m = ae_model_new(net_arena(ROOM), 1);
    ae_tensor *x = ae_input(m, 6, 1, 1), *h = ae_tanh(ae_linear(x, 5));
    ae_tensor *exact_term = ae_contractive(h, AE_BATCH_MEAN);
    ae_tensor *mean = ae_contractive_estimate(h, x, 0, AE_MEAN);
    ae_tensor *sum = ae_contractive_estimate(h, x, 0.02f, AE_SUM);
    ae_minimize(exact_term);
    ae_minimize(mean);
    ae_minimize(sum);
    CHECK_STR(ae_error(m), "");
    REQUIRE(ae_build(m, N, AE_TRAIN) == AE_SUCCESS);
    CHECK_INT(ae_set(m, x, DATA(N * 6, 1), N), AE_SUCCESS);
    ae_optim still = net_optim(AE_SGD, 1e-30f);
    double means = 0, sums = 0;
    for (int i = 0; i < DRAWS; i++) {
        gradients_of(m, N);
        means += (double)ae_batch_loss(m, mean) / DRAWS;
        sums += (double)ae_batch_loss(m, sum) / DRAWS;
        CHECK_INT(ae_step(m, &still), AE_SUCCESS);
    }
    double want = (double)ae_batch_loss(m, exact_term);
    // an estimate's deviation is below its mean, of N samples each
    CHECK_CLOSE(means, want, 4 * want / sqrt((double)N * DRAWS));
    CHECK_CLOSE(sums, N * want, 4 * N * want / sqrt((double)N * DRAWS));
}

/* --- threads --------------------------------------------------------------- */

/* Three steps of a model with all of it: the same bits for any threads. */
TEST(family_threads)
{
    enum { N = 8 };
    float *x = DATA_IN(N * 48, 0, 1, 1), *first = NULL;
    ae_dataset d = floats_of(x, N, 3);
    d.h = d.w = 4;
    for (int e = 1; e < TEST_EXECS; e++) {
        ae_model *m = ae_model_new(net_arena(4 * ROOM), 1);
        ae_tensor *in = ae_input(m, 3, 4, 4), *c = ae_conv2d(in, 5, 3, 2, 1);
        ae_vq_options o;
        memset(&o, 0, sizeof o);
        o.codes = 40;
        ae_tensor *q = ae_vq(c, &o), *h = ae_linear(ae_top_k(q, 9), 16), *mu = ae_linear(h, 7);
        ae_tensor *z = ae_gaussian_sample(mu, ae_linear(h, 7)), *y = ae_linear(z, 20);
        y = ae_tied(ae_tanh(ae_reshape(y, 5, 2, 2)), c);
        ae_minimize(ae_mse(y, in, AE_MEAN));
        ae_minimize(ae_vq_loss(q, AE_MEAN));
        ae_minimize(ae_kl_normal(mu, mu, 0, AE_MEAN));
        ae_minimize_weighted(ae_mmd(z), 0.1f);
        ae_minimize_weighted(ae_orthogonal(h), 0.01f);
        ae_minimize_weighted(ae_contractive_estimate(ae_tied(mu, mu), h, 0, AE_MEAN), 0.01f);
        ae_limit_norm(h, 0.5f);
        test_context("%s", test_exec_text(e));
        CHECK_STR(ae_error(m), "");
        CHECK_INT(ae_set_exec(m, test_exec_at(e)), AE_SUCCESS);
        REQUIRE(ae_build(m, N, AE_TRAIN) == AE_SUCCESS);
        ae_optim adam = net_optim(AE_ADAM, 1e-2f);
        for (int i = 0; i < 3; i++) CHECK_INT(ae_train_step(m, &d, &adam), AE_SUCCESS);
        size_t floats;
        float *p = segment(m, AE_SEG_PARAM, &floats);
        if (e == 1) first = COPY(p, floats);
        CHECK_SAME(p, first, floats);
    }
}

/* --- what codes tell --------------------------------------------------------- */

TEST(family_active_units)
{
    enum { N = 37 };
    float *x = OUT(N * 3);
    for (int i = 0; i < N * 3; i++) x[i] = 1000.0f + (float)(i / 3 % 2 ? 1 : -1);   // variance ~1
    ae_dataset d = floats_of(x, N, 3);
    for (int batch = 1; batch <= N; batch += 6)
        for (int mode = 0; mode < 2; mode++) {
            vae v;
            ae_arena *arena = net_arena(ROOM);
            v.m = ae_model_new(arena, 1);
            v.x = ae_input(v.m, 3, 1, 1);
            v.mu = ae_name(ae_linear(v.x, 4), "mu");
            ae_minimize(ae_mse(ae_linear(v.mu, 3), v.x, AE_MEAN));
            REQUIRE(ae_build(v.m, batch, mode ? AE_TRAIN : AE_INFER) == AE_SUCCESS);
            float w[12] = { 1, 0, 0, 0, 0, 0, 0, 0.105f, 0, 0, 0, 0.095f };
            set_param(v.m, ae_weight(v.mu), w);
            int active = -1;
            size_t used = ae_arena_used(arena);
            CHECK_INT(ae_active_units(v.m, v.mu, &d, &active), AE_SUCCESS);
            CHECK_INT(active, 2);
            CHECK_INT(ae_arena_used(arena), used);
            memset(w, 0, sizeof w);
            set_param(v.m, ae_weight(v.mu), w);
            CHECK_INT(ae_active_units(v.m, v.mu, &d, &active), AE_W_COLLAPSED);
            CHECK_INT(active, 0);
            CHECK_ERROR(ae_error(v.m), "mu: none of its 4 units varies over the data");
            CHECK_INT(ae_predict(v.m, v.mu, OUT(4), x, 1), AE_SUCCESS);     // only a warning
        }
    CHECK_STR(ae_status_string(AE_W_COLLAPSED),
              "a warning: the code tells nothing about its input");
}

TEST(family_interpolate)
{
    const float a[3] = { 1, 0, 2 }, b[3] = { 0, 3, 2 }, c[2] = { 2, 0 }, e[2] = { 0, 2 };
    float out[15];
    ae_interpolate(out, a, b, 5, 3, 0);
    for (int i = 0; i < 15; i++)
        CHECK_CLOSE(out[i], (double)a[i % 3]
                    + (i / 3) / 4.0 * ((double)b[i % 3] - (double)a[i % 3]), 1e-6);
    ae_interpolate(out, c, e, 3, 2, 1);
    const double want[6] = { 2, 0, 1.4142135623730951, 1.4142135623730951, 0, 2 };
    CHECK_REF(out, want, 6, 1e-6, 0);
    ae_interpolate(out, a, b, 4, 3, 1);         // sin((1-t) angle) / sin(angle)
    double angle = acos(4 / sqrt(5.0 * 13.0));
    for (int i = 0; i < 12; i++)
        CHECK_CLOSE(out[i], (sin((1 - i / 3 / 3.0) * angle) * (double)a[i % 3]
                             + sin(i / 3 / 3.0 * angle) * (double)b[i % 3]) / sin(angle), 1e-6);
    const float zero[2] = { 0, 0 }, back[2] = { -2, 0 };
    ae_interpolate(out, zero, c, 3, 2, 1);      // no angle: straight
    CHECK_CLOSE(out[2], 1, 0);
    ae_interpolate(out, c, back, 3, 2, 1);
    CHECK_CLOSE(out[2], 0, 1e-6);
    CHECK_FINITE(out, 6);
    ae_interpolate(out, a, b, 1, 3, 0);
    CHECK_BITS(out, a, 3);
}

TEST(family_latent_grid)
{
    float *out = OUT(9 * 4), one[2];
    ae_latent_grid(out, 3, 2.5f, 4);
    for (int i = 0; i < 9; i++) {
        CHECK_CLOSE(out[i * 4], -2.5 + 2.5 * (i % 3), 1e-6);
        CHECK_CLOSE(out[i * 4 + 1], 2.5 - 2.5 * (i / 3), 1e-6);
        CHECK_CLOSE(out[i * 4 + 2], 0, 0);
        CHECK_CLOSE(out[i * 4 + 3], 0, 0);
    }
    ae_latent_grid(one, 1, 2.5f, 2);
    CHECK(memcmp(one, "\0\0\0\0\0\0\0\0", 8) == 0);
    float *line = OUT(4);
    ae_latent_grid(line, 2, 1, 1);
    const float want[4] = { -1, 1, -1, 1 };
    CHECK_BITS(line, want, 4);
}

/* n samples of the decoder: the same for any batch and mode, another for another draw. */
TEST(family_sample)
{
    enum { N = 19 };
    float *first = OUT(N * 6), *out = OUT(N * 6), *codes = OUT(N * 3);
    for (int batch = 1; batch <= 25; batch += 8)
        for (int mode = 0; mode < 2; mode++) {
            ae_arena *arena = net_arena(ROOM);
            vae v = make_vae(arena, 1, 6, 3);
            ae_tensor *a, *b;
            elbo(&v, &a, &b);
            REQUIRE(ae_build(v.m, batch, mode ? AE_TRAIN : AE_INFER) == AE_SUCCESS);
            size_t used = ae_arena_used(arena);
            CHECK_INT(ae_sample(v.m, v.z, v.y, out, N, 4), AE_SUCCESS);
            if (batch == 1 && !mode) memcpy(first, out, N * 6 * sizeof *out);
            CHECK_SAME(out, first, N * 6);
            CHECK_INT(ae_sample(v.m, v.z, v.y, out, N, 5), AE_SUCCESS);
            CHECK(memcmp(out, first, N * 6 * sizeof *out) != 0);
            CHECK_INT(ae_sample(v.m, v.z, v.z, codes, N, 4), AE_SUCCESS);
            CHECK_INT(ae_predict_from(v.m, v.z, v.y, out, codes, N), AE_SUCCESS);
            CHECK_SAME(out, first, N * 6);
            CHECK_INT(ae_arena_used(arena), used);
            CHECK_INT(ae_sample(v.m, v.y, v.z, out, N, 5), AE_E_ARG);
            CHECK_ERROR(ae_error(v.m), "also needs input1");
            CHECK_INT(ae_sample(v.m, v.z, v.y, NULL, N, 5), AE_E_ARG);
            CHECK_INT(ae_sample(v.m, NULL, v.y, out, N, 5), AE_E_ARG);
            CHECK_INT(ae_arena_used(arena), used);
        }
    ae_arena *arena = net_arena(ROOM);
    vae v = make_vae(arena, 1, 6, 2000);
    REQUIRE(ae_build(v.m, 10, AE_INFER) == AE_SUCCESS);
    float *many = OUT(10 * 2000);
    CHECK_INT(ae_sample(v.m, v.z, v.z, many, 10, 1), AE_SUCCESS);
    double mean = 0, square = 0;
    for (int i = 0; i < 20000; i++) {
        mean += (double)many[i] / 20000;
        square += pow((double)many[i], 2) / 20000;
    }
    CHECK_CLOSE(mean, 0, 4 / sqrt(20000.0));
    CHECK_CLOSE(square, 1, 4 * sqrt(2.0 / 20000));
    while (ae_alloc(arena, 4096)) {}
    CHECK_INT(ae_sample(v.m, v.z, v.z, many, 10, 1), AE_E_MEMORY);
    CHECK_ERROR(ae_error(v.m), "80000 bytes");
}

/* --- conditions --------------------------------------------------------------- */

TEST(family_conditional)
{
    enum { N = 6, F = 6, CLASSES = 3 };
    float *x = DATA_IN(N * F, 0, 1, 1), *codes = DATA(N * 2, 2);
    int32_t labels[N] = { 0, 1, 2, 2, 1, 0 };
    for (int mode = 0; mode < 3; mode++) {
        ae_arena *arena = net_arena(ROOM);
        vae v;
        v.m = ae_model_new(arena, 1);
        v.x = ae_input(v.m, F, 1, 1);
        ae_tensor *l = ae_labels(v.m), *hot = ae_one_hot(l, CLASSES);
        ae_tensor *h = ae_tanh(ae_linear(ae_concat(v.x, hot), 5));
        v.mu = ae_linear(h, 2);
        v.logvar = ae_linear(h, 2);
        v.z = ae_gaussian_sample(v.mu, v.logvar);
        ae_tensor *both = ae_concat(v.z, hot);
        v.y = ae_linear(both, F);
        ae_tensor *a, *b;
        elbo(&v, &a, &b);
        CHECK_STR(ae_error(v.m), "");
        REQUIRE(ae_build(v.m, N, mode ? AE_INFER : AE_TRAIN) == AE_SUCCESS);
        ae_model *m = mode == 2 ? ae_fork(v.m, arena, N) : v.m;
        CHECK_INT(ae_set(m, l, labels, N), AE_SUCCESS);
        CHECK_INT(ae_run_from(m, v.z, codes, v.y, N), AE_SUCCESS);
        const float *w = ae_param_data(v.m, ae_weight(v.y)), *c = ae_param_data(v.m, ae_bias(v.y));
        double *want = DOUBLES(N * F);
        for (int i = 0; i < N * F; i++) {
            int s = i / F, j = i % F;
            want[i] = (double)c[j] + (double)w[j * 5] * (double)codes[2 * s]
                      + (double)w[j * 5 + 1] * (double)codes[2 * s + 1]
                      + (double)w[j * 5 + 2 + labels[s]];
        }
        CHECK_REF(ae_get(m, v.y), want, N * F, 1e-6, 1e-6);
        CHECK_INT(ae_predict_from(m, v.z, v.y, OUT(N * F), codes, N), AE_E_ARG);
        CHECK_ERROR(ae_error(m), "also needs labels1: use ae_set and ae_run");
        labels[3] = CLASSES;
        CHECK_INT(ae_set(m, l, labels, N), AE_SUCCESS);
        CHECK_INT(ae_run_from(m, v.z, codes, v.y, N), AE_E_ARG);
        CHECK_ERROR(ae_error(m), "one_hot1: label 3 of sample 3 is not in 0 ... 2");
        labels[3] = 2;
        if (mode) continue;
        CHECK_INT(ae_set(m, l, labels, N), AE_SUCCESS);
        CHECK_INT(ae_set(m, v.x, x, N), AE_SUCCESS);
        check_gradients(m, N, 2e-3);
        ae_dataset d = floats_of(x, N, F);
        ae_optim adam = net_optim(AE_ADAM, 1e-2f);
        CHECK_INT(ae_train_step(m, &d, &adam), AE_E_ARG);
        CHECK_ERROR(ae_error(m), "no labels");
        d.labels = labels;
        float before = ae_epoch(m, &d, &adam), after = before;
        for (int i = 0; i < 200; i++) after = ae_epoch(m, &d, &adam);
        CHECK(after < before);
    }
}

/* --- inference ------------------------------------------------------------------ */

/* The same values however the model was built. */
TEST(family_modes)
{
    enum { N = 11 };
    float *x = DATA_IN(N * 12, 0, 1, 1), *want = NULL;
    for (int mode = 0; mode < 3; mode++) {
        ae_arena *arena = net_arena(ROOM);
        ae_model *m = ae_model_new(arena, 1);
        ae_tensor *in = ae_input(m, 3, 2, 2), *e = ae_conv2d(in, 2, 1, 1, 0);
        ae_vq_options o = vq_of(9, 0, 0);
        ae_tensor *q = ae_vq(ae_tanh(e), &o), *t = ae_tied(q, e), *k = ae_top_k(ae_relu(t), 5);
        ae_tensor *h = ae_linear(k, 6), *z = ae_gaussian_sample(ae_tanh(h), ae_sigmoid(h));
        ae_tensor *y = ae_tied(z, h), *s = ae_again(y, in, ae_flatten(in) ? in : NULL);
        ae_tensor *out;
        CHECK(s == NULL);                       // a codebook is on its way
        CHECK_ERROR(ae_error(m), "vq1 cannot be applied twice");
        m = ae_model_new(arena, 1);
        in = ae_input(m, 3, 2, 2);
        e = ae_conv2d(in, 2, 1, 1, 0);
        q = ae_vq(ae_tanh(e), &o);
        t = ae_tied(q, e);
        k = ae_top_k(ae_relu(t), 5);
        h = ae_linear(k, 6);
        z = ae_gaussian_sample(ae_tanh(h), ae_sigmoid(h));
        y = ae_tied(z, h);
        out = ae_concat(y, ae_again(y, z, ae_tanh(z)));
        ae_tensor *loss = ae_mse(y, in, AE_MEAN);
        ae_minimize(loss);
        ae_minimize(ae_vq_loss(q, AE_MEAN));
        CHECK_STR(ae_error(m), "");
        REQUIRE(ae_build(m, mode == 1 ? 4 : N, mode ? AE_INFER : AE_TRAIN) == AE_SUCCESS);
        ae_model *use = mode == 2 ? ae_fork(m, arena, 3) : m;
        float *got = OUT(N * 24);
        CHECK_INT(ae_predict(use, out, got, x, N), AE_SUCCESS);
        if (want) CHECK_SAME(got, want, N * 24);
        want = got;
        float evaluated = 0;
        ae_dataset d = floats_of(x, N, 3);
        d.h = d.w = 2;
        CHECK_INT(ae_evaluate(use, &d, &evaluated), AE_SUCCESS);
        double sum = 0;
        for (int i = 0; i < N * 12; i++)
            sum += pow((double)got[i / 12 * 24 + i % 12] - (double)x[i], 2);
        CHECK_CLOSE(ae_mean_loss(use, loss), sum / (N * 12), 1e-6);
    }
}

/* --- what is refused -------------------------------------------------------------- */

static ae_tensor *bad_one(ae_model *m, int i, ae_model *other)
{
    ae_tensor *x = ae_input(m, 4, 1, 1), *b = ae_input(m, 3, 1, 1), *l = ae_labels(m);
    ae_tensor *h = ae_linear(x, 4), *one = ae_linear(x, 1), *loss = ae_mse(h, x, AE_MEAN);
    ae_tensor *theirs = ae_linear(ae_input(other, 4, 1, 1), 4), *p = ae_input(m, 2, 5, 5);
    ae_tensor *c = ae_conv2d(p, 3, 3, 2, 1), *q;
    ae_vq_options o = vq_of(-3, 0, 0);
    float nan = test_nan();
    switch (i) {
    case 0: return ae_gaussian_sample(h, b);
    case 1: return ae_gaussian_sample(h, theirs);
    case 2: return ae_gaussian_sample(one, loss);
    case 3: return ae_gaussian_sample(one, l);
    case 4: return ae_gaussian_sample(h, NULL);
    case 5: return ae_kl_normal(h, b, 0, AE_MEAN);
    case 6: return ae_kl_normal(h, h, nan, AE_MEAN);
    case 7: return ae_kl_normal(h, h, -1, AE_MEAN);
    case 8: return ae_kl_normal(h, NULL, 0, AE_MEAN);
    case 9: return ae_top_k(h, 0);
    case 10: return ae_top_k(h, 5);
    case 11: return ae_vq(h, &o);
    case 12: o.codes = 0; o.beta = -0.5f; return ae_vq(h, &o);
    case 13: o.codes = 0; o.decay = 1; return ae_vq(h, &o);
    case 14: o.codes = 0; o.restart = nan; return ae_vq(h, &o);
    case 15: return ae_vq_loss(h, AE_MEAN);
    case 16: return ae_tied(b, h);
    case 17: return ae_tied(p, c);
    case 18: return ae_tied(h, x);
    case 19: return ae_tied(h, theirs);
    case 20: return ae_tied(NULL, h);
    case 21: return ae_again(ae_linear(ae_batch_norm(h, NULL), 2), x, h);
    case 22: return ae_again(ae_dropout(h, 0.5f), x, h);
    case 23: return ae_again(h, x, b);
    case 24: return ae_again(x, h, h);
    case 25: return ae_again(h, x, theirs);
    case 26: return ae_iwae(one, one, one, 0, AE_MEAN);
    case 27: return ae_iwae(one, h, one, 1, AE_MEAN);
    case 28: ae_iwae(one, one, one, 2, AE_MEAN); return ae_iwae(one, one, one, 3, AE_MEAN);
    case 29: return ae_iwae(one, NULL, one, 3, AE_MEAN);
    case 30: return ae_log_normal(h, NULL, h);
    case 31: return ae_log_normal(h, b, NULL);
    case 32: return ae_log_bernoulli(h, b);
    case 33: return ae_gaussian_nll(h, b, x, AE_MEAN);
    case 34: return ae_gaussian_nll(h, NULL, b, AE_MEAN);
    case 35: return ae_gaussian_nll(h, NULL, NULL, AE_MEAN);
    case 36: return ae_l1_penalty(loss, AE_MEAN);
    case 37: return ae_kl_sparsity(h, 1.5f, AE_MEAN);
    case 38: return ae_kl_sparsity(h, nan, AE_MEAN);
    case 39: return ae_contractive(c, AE_MEAN);
    case 40: return ae_contractive(ae_tanh(ae_tanh(h)), AE_MEAN);
    case 41: return ae_contractive_estimate(h, x, -1, AE_MEAN);
    case 42: return ae_contractive_estimate(ae_batch_norm(h, NULL), x, 0, AE_MEAN);
    case 43: return ae_weight_l1(x);
    case 44: return ae_orthogonal(ae_softmax(h));
    case 45: return ae_limit_norm(h, 0);
    case 46: return ae_limit_norm(h, nan);
    case 47: return ae_one_hot(h, 3);
    case 48: return ae_one_hot(l, 0);
    case 49: return ae_add(one, l);
    case 50: ae_warm_up(loss, 3); return NULL;
    case 51: q = ae_vq(p, NULL); return ae_again(q, p, p);
    case 52: return ae_log_normal(one, one, loss);
    case 53: return ae_contractive(NULL, AE_MEAN);      // passes through
    case 54: q = ae_vq(p, NULL); return ae_again(ae_vq_loss(q, AE_MEAN), q, ae_tanh(p));
    default: return ae_kl_normal(h, theirs, 0, AE_MEAN);
    }
}

TEST(family_bad_graphs)
{
    static const char *const told[] = {
        "gaussian_sample: linear1 is 4x1x1 and input2 is 3x1x1", "another model",
        "mse1 is a loss", "labels are not numbers", "second input is NULL",
        "kl_normal: linear1 is 4x1x1 and input2 is 3x1x1", "free_nats", "free_nats -1",
        "second input is NULL", "top_k of linear1: 0 of 4", "top_k of linear1: 5 of 4",
        "vq of linear1: a codebook of -3 codes", "beta -0.5", "decay 1", "restart",
        "vq_loss: linear1 is not from ae_vq", "tied: input2 has 3 elements, linear1 4",
        "tied: input3 is 2x5x5, but the transpose of conv2d1 takes its shape, 3x3x3",
        "tied: input1 is neither", "another model", "first input is NULL",
        "batch_norm1 cannot be applied twice", "dropout1 cannot be applied twice",
        "ae_again: input1 is 4x1x1 and input2 is 3x1x1", "input1 does not depend on linear1",
        "different models", "iwae: k is 0", "one number a sample", "another one has 2",
        "second input is NULL", "a logvar needs a mu",
        "log_normal: linear1 is 4x1x1 and input2 is 3x1x1", "log_bernoulli", "gaussian_nll",
        "gaussian_nll", "first input is NULL", "mse1 is a loss", "rho 1.5", "rho",
        "take ae_contractive_estimate", "take ae_contractive_estimate", "step -1",
        "batch_norm1 cannot be applied twice", "weight_l1: input1 is neither",
        "orthogonal: softmax1 is neither", "ae_limit_norm of linear1: 0 must be above 0",
        "ae_limit_norm of linear1", "one_hot: linear1 is not from ae_labels",
        "shape 0x1x1", "labels are not numbers", "mse1 is not minimised",
        "vq1 cannot be applied twice", "mse1 is a loss", "", "vq_loss1 cannot be applied twice",
        "another model"
    };
    for (int i = 0; i < (int)(sizeof told / sizeof told[0]); i++) {
        ae_arena *arena = net_arena(ROOM);
        ae_model *m = ae_model_new(arena, 1), *other = ae_model_new(arena, 2);
        test_context("%d", i);
        CHECK(bad_one(m, i, other) == NULL);
        if (i == 53) CHECK_STR(ae_error(m), "");
        else CHECK_ERROR(ae_error(m), told[i]);
        CHECK((ae_build(m, 4, AE_TRAIN) == AE_SUCCESS) == (i == 53));   // it cannot go on
    }
}

TEST(family_bad_calls)
{
    float x[12] = { 0 };
    ae_dataset d = floats_of(x, 2, 6);
    vae v = make_vae(net_arena(ROOM), 1, 6, 3);
    ae_tensor *a, *kl, *px = ae_log_bernoulli(v.y, v.x);
    elbo(&v, &a, &kl);
    double mean = 7;
    int active = 7;
    CHECK_INT(ae_active_units(v.m, v.mu, &d, &active), AE_E_ARG);      // not built
    REQUIRE(ae_build(v.m, 4, AE_TRAIN) == AE_SUCCESS);
    CHECK_INT(ae_iwae_score(v.m, v.z, px, &d, 0, NULL, &mean), AE_E_ARG);
    CHECK_ERROR(ae_error(v.m), "k is 0");
    CHECK_INT(ae_iwae_score(v.m, v.mu, px, &d, 1, NULL, &mean), AE_E_ARG);
    CHECK_INT(ae_iwae_score(v.m, v.z, v.y, &d, 1, NULL, &mean), AE_E_ARG);
    CHECK_INT(ae_iwae_score(v.m, v.z, a, &d, 1, NULL, &mean), AE_E_ARG);   // a loss
    CHECK_INT(ae_iwae_score(v.m, v.z, px, NULL, 1, NULL, &mean), AE_E_ARG);
    CHECK_INT(ae_iwae_score(v.m, NULL, px, &d, 1, NULL, &mean), AE_E_ARG);
    x[3] = 2;                                                               // not in [0,1]
    CHECK_INT(ae_iwae_score(v.m, v.z, px, &d, 1, NULL, &mean), AE_E_ARG);
    CHECK_ERROR(ae_error(v.m), "log_bernoulli1: a target in input1 is outside [0,1]");
    CHECK_CLOSE(mean, 7, 0);
    CHECK_INT(ae_active_units(v.m, NULL, &d, &active), AE_E_ARG);
    CHECK_INT(ae_active_units(v.m, kl, &d, &active), AE_E_ARG);
    CHECK_INT(ae_active_units(v.m, v.mu, NULL, &active), AE_E_ARG);
    CHECK_INT(active, 7);
    x[3] = 0;
    CHECK_INT(ae_iwae_score(v.m, v.z, px, &d, 5, NULL, &mean), AE_SUCCESS);
    CHECK(mean < 0);
}

TEST_LIST(family) {
    CASE(family_vae_gradient),
    CASE(family_iwae_gradient),
    CASE(family_mmd_gradient),
    CASE(family_penalty_gradient),
    CASE(family_top_k_gradient),
    CASE(family_tied_golden),
    CASE(family_again),
    CASE(family_again_places),
    CASE(family_sample_splits),
    CASE(family_vae_accumulates),
    CASE(family_iwae_feeds),
    CASE(family_score_exact),
    CASE(family_score_grows),
    CASE(family_vq_golden),
    CASE(family_vq_learns),
    CASE(family_vq_moves),
    CASE(family_vq_failure_snapshot),
    CASE(family_vq_index),
    CASE(family_vq_of_input),
    CASE(family_weights_after_build),
    CASE(family_warm_up),
    CASE(family_limit_norm),
    CASE(family_contractive_estimate),
    CASE(family_threads),
    CASE(family_active_units),
    CASE(family_interpolate),
    CASE(family_latent_grid),
    CASE(family_sample),
    CASE(family_conditional),
    CASE(family_modes),
    CASE(family_bad_graphs),
    CASE(family_bad_calls),
    CASE_END
};
