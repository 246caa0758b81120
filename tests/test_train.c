/* Training over datasets: steps, epochs, fit, evaluation, resuming. */
#include "net.h"

// What a test computes itself is not exact when it is compiled with fast-math.
#ifdef __FAST_MATH__
#define EXACT 1e-6
#else
#define EXACT 0
#endif

enum { ROOM = 1 << 20 };

/* n samples of `features` floats. */
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

/* 6 -> 3 -> 6 with a nonlinear code and, classes > 0, a classifier of the code. */
typedef struct small {
    ae_model *m;
    ae_tensor *x, *z, *y, *mse, *ce;
} small;

static small small_model(ae_arena *arena, uint64_t seed, int classes, ae_reduction reduction)
{
    small s;
    s.m = ae_model_new(arena, seed);
    s.x = ae_input(s.m, 6, 1, 1);
    s.z = ae_tanh(ae_linear(s.x, 3));
    s.y = ae_linear(s.z, 6);
    s.mse = ae_mse(s.y, s.x, reduction);
    s.ce = classes ? ae_cross_entropy(ae_linear(s.z, classes), ae_labels(s.m), reduction) : NULL;
    ae_minimize(s.mse);
    ae_minimize_weighted(s.ce, 0.5f);
    return s;
}

/* A small model built for training with `batch`. */
static small built(uint64_t seed, int classes, int batch)
{
    small s = small_model(net_arena(ROOM), seed, classes, AE_MEAN);
    CHECK_INT(ae_build(s.m, batch, AE_TRAIN), AE_SUCCESS);
    return s;
}

static ae_dataset labelled(size_t n, uint32_t seed, int classes)
{
    ae_dataset d = floats_of(DATA_IN(n * 6, -1.0, 1.0, seed), n, 6);
    int32_t *labels = INTS(n);
    for (size_t i = 0; i < n; i++) labels[i] = (int32_t)((i * 7 + seed) % (size_t)classes);
    d.labels = labels;
    return d;
}

static float *params(ae_model *m, size_t *floats)
{
    size_t bytes;
    float *p = (float *)ae_segment_data(m, AE_SEG_PARAM, &bytes);
    *floats = bytes / sizeof(float);
    return p;
}

/* A copy of PARAM, of which `floats` are. */
static float *weights_of(ae_model *m, size_t *floats)
{
    float *p = params(m, floats);
    return COPY(p, *floats);
}

static ae_fit_options no_options(void)
{
    ae_fit_options o;
    memset(&o, 0, sizeof o);
    return o;
}

/* --- learning ------------------------------------------------------------- */

/* A linear autoencoder with a code of 2 describes data of rank 2: what is left of a variance of
   about 0.1 is the optimiser's last swings. */
TEST(train_linear_autoencoder)
{
    enum { N = 60, F = 7, K = 2 };
    float *code = DATA(N * K, 1), *basis = DATA(K * F, 2), *x = OUT(N * F);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < F; j++)
            x[i * F + j] = code[i * 2] * basis[j] + code[i * 2 + 1] * basis[F + j];
    for (int code_size = 1; code_size <= K; code_size++) {
        ae_model *m = ae_model_new(net_arena(ROOM), 3);
        ae_tensor *in = ae_input(m, F, 1, 1);
        ae_minimize(ae_mse(ae_linear(ae_linear(in, code_size), F), in, AE_MEAN));
        REQUIRE(ae_build(m, 16, AE_TRAIN) == AE_SUCCESS);
        ae_dataset d = floats_of(x, N, F);
        ae_optim adam = net_optim(AE_ADAM, 1e-2f);
        float first = ae_epoch(m, &d, &adam), last = first;
        for (int epoch = 0; epoch < 400; epoch++) last = ae_epoch(m, &d, &adam);
        CHECK(first > 0.05f);
        if (code_size == K) CHECK(last < 1e-5f);
        else CHECK(last > 1e-3f);       // one number cannot
        CHECK_INT(ae_steps(m), 401 * 4);
    }
}

TEST(train_every_optimiser_learns)
{
    for (int kind = AE_ADAM; kind <= AE_ADAGRAD; kind++) {
        test_context("optimiser %d", kind);
        small s = built(1, 0, 8);
        ae_dataset d = labelled(40, 5, 3);
        ae_optim o = net_optim((ae_optim_kind)kind, kind == AE_SGD ? 0.2f : 0.02f);
        float first = ae_epoch(s.m, &d, &o), last = first;
        for (int epoch = 0; epoch < 60; epoch++) last = ae_epoch(s.m, &d, &o);
        CHECK(last < 0.8f * first);
    }
}

/* --- order ---------------------------------------------------------------- */

/* The samples of the batch that a model has in its first input: each one's first value. */
static int seen_samples(ae_model *m, ae_tensor *x, int n, int *order, int at)
{
    const float *v = ae_get(m, x);
    for (int i = 0; i < n; i++) order[at + i] = (int)v[i * 6];
    return at + n;
}

static int is_permutation(const int *order, int n)
{
    unsigned char hit[100];
    memset(hit, 0, sizeof hit);
    for (int i = 0; i < n; i++) {
        if (order[i] < 0 || order[i] >= n || hit[order[i]]) return 0;
        hit[order[i]] = 1;
    }
    return 1;
}

/* Each sample's first value is its number. */
static ae_dataset numbered(size_t n)
{
    float *x = OUT(n * 6);
    for (size_t i = 0; i < n * 6; i++) x[i] = i % 6 ? 0.5f : (float)(i / 6);
    return floats_of(x, n, 6);
}

TEST(train_order)
{
    enum { N = 37, B = 5, EPOCHS = 3 };
    ae_optim sgd = net_optim(AE_SGD, 1e-12f);
    int order[3][EPOCHS][N];
    memset(order, 0, sizeof order);
    for (int run = 0; run < 3; run++) {     // 0, 1: seeds; 2: keep_order
        small s = built(run == 1 ? 8 : 7, 0, B);
        ae_dataset d = numbered(N);
        d.keep_order = run == 2;
        for (int epoch = 0; epoch < EPOCHS; epoch++) {
            for (int done = 0; done < N;) {
                int n = N - done < B ? N - done : B;    // the last batch is smaller
                CHECK_INT(ae_train_step(s.m, &d, &sgd), AE_SUCCESS);
                done = seen_samples(s.m, s.x, n, order[run][epoch], done);
            }
            CHECK(is_permutation(order[run][epoch], N));
        }
        CHECK_INT(ae_steps(s.m), EPOCHS * ((N + B - 1) / B));
    }
    for (int i = 0; i < N; i++) CHECK_INT(order[2][2][i], i);
    CHECK(memcmp(order[0][0], order[2][0], sizeof order[0][0]) != 0);   // shuffled
    CHECK(memcmp(order[0][0], order[0][1], sizeof order[0][0]) != 0);   // anew in each epoch
    CHECK(memcmp(order[0][1], order[0][2], sizeof order[0][0]) != 0);
    CHECK(memcmp(order[0][0], order[1][0], sizeof order[0][0]) != 0);   // and for each seed
}

TEST(train_feed)
{
    enum { N = 23, B = 23 };
    small s = built(7, 3, B);
    ae_dataset d = numbered(N);
    int32_t *labels = INTS(N), got[2][N];
    for (int i = 0; i < N; i++) labels[i] = i;
    d.labels = labels;
    for (uint64_t order = 0; order < 5; order++) {
        CHECK_INT(ae_feed(s.m, &d, 0, N, order), AE_SUCCESS);
        seen_samples(s.m, s.x, N, got[0], 0);
        CHECK(is_permutation(got[0], N));
        for (int i = 0; i < N && order == 0; i++) CHECK_INT(got[0][i], i);
        // in pieces
        for (int first = 0; first < N; first += 4) {
            int n = N - first < 4 ? N - first : 4;
            CHECK_INT(ae_feed(s.m, &d, (size_t)first, n, order), AE_SUCCESS);
            seen_samples(s.m, s.x, n, got[1], first);
        }
        CHECK(!memcmp(got[0], got[1], sizeof got[0]));
    }
    CHECK_INT(ae_feed(s.m, &d, 20, 4, 0), AE_E_ARG);
    CHECK_ERROR(ae_error(s.m), "20 to 23");
    CHECK_INT(ae_feed(s.m, &d, N, 1, 0), AE_E_ARG);
    CHECK_INT(ae_feed(s.m, &d, (size_t)-1, 2, 0), AE_E_ARG);
    CHECK_INT(ae_feed(s.m, &d, 0, 0, 0), AE_E_ARG);
    CHECK_INT(ae_feed(s.m, &d, 0, B + 1, 0), AE_E_ARG);
}

/* Views, bytes, normalisation and labels arrive as ae_dataset_get gives them, with their labels. */
TEST(train_feeds_what_get_gives)
{
    enum { N = 12 };
    net g;
    net_begin(&g, net_arena(ROOM), 1);
    int x = net_input(&g, 2, 3, 1), labels = net_labels(&g);
    net_loss(&g, NET_CROSS_ENTROPY, net_linear(&g, x, 9), labels, AE_MEAN, 1.0f);
    REQUIRE(ae_build(g.m, N, AE_TRAIN) == AE_SUCCESS);
    unsigned char *bytes = BYTES(20 * 6);
    int32_t *classes = INTS(20), want_labels[N];
    uint32_t *index = (uint32_t *)(void *)INTS(N);
    for (int i = 0; i < 20 * 6; i++) bytes[i] = (unsigned char)(i * 37 + 11);
    for (int i = 0; i < 20; i++) classes[i] = i % 9;
    for (int i = 0; i < N; i++) index[i] = (uint32_t)(19 - i * i % 20);
    ae_dataset d;
    memset(&d, 0, sizeof d);
    d.bytes = bytes;
    d.labels = classes;
    d.index = index;
    d.n = N;
    d.c = 2;
    d.h = 3;
    d.w = 1;
    d.scale = 1.0f / 255.0f;
    d.mean = 0.13f;
    d.deviation = 0.3f;
    float *want = OUT(N * 6);
    CHECK_INT(ae_dataset_get(&d, want, want_labels, 0, N), AE_SUCCESS);
    CHECK_INT(ae_feed(g.m, &d, 0, N, 0), AE_SUCCESS);
    CHECK_BITS(ae_get(g.m, g.node[x].t), want, N * 6);
    CHECK(!memcmp(ae_get(g.m, g.node[labels].t), want_labels, sizeof want_labels));
    for (int i = 0; i < N; i++)
        for (int j = 0; j < 6; j++) {
            float pixel = (float)bytes[index[i] * 6 + (uint32_t)j] / 255.0f;
            float value = (pixel - d.mean) / d.deviation;
            CHECK_CLOSE(want[i * 6 + j], value, EXACT);
        }
    // shuffled, sample and label stay together
    CHECK_INT(ae_feed(g.m, &d, 0, N, 3), AE_SUCCESS);
    const float *v = ae_get(g.m, g.node[x].t);
    int32_t got[N];
    memcpy(got, ae_get(g.m, g.node[labels].t), sizeof got);
    for (int i = 0; i < N; i++) {
        int found = 0;
        for (int k = 0; k < N; k++)
            found += !memcmp(v + i * 6, want + k * 6, 6 * sizeof(float))
                     && got[i] == want_labels[k];
        CHECK(found > 0);
    }
}

/* Each byte in each place of a vector, and no byte beyond the last. */
TEST(train_feeds_every_byte)
{
    const float scale = 0.37f, mean = 0.13f, deviation = 0.3f;      // floats on x87 as well
    for (int F = 1; F <= 70; F++) {
        const int rows = (255 + F) / F;
        ae_model *m = ae_model_new(net_arena(ROOM), 1);
        ae_tensor *x = ae_input(m, F, 1, 1);
        ae_linear(x, 1);
        CHECK_INT(ae_set_exec(m, test_exec()), AE_SUCCESS);
        REQUIRE(ae_build(m, rows, AE_INFER) == AE_SUCCESS);
        unsigned char *bytes = BYTES(rows * F);
        for (int i = 0; i < rows * F; i++) bytes[i] = (unsigned char)i;
        ae_dataset d;
        memset(&d, 0, sizeof d);
        d.bytes = bytes;
        d.n = (size_t)rows;
        d.c = F;
        d.h = d.w = 1;
        for (int kind = 0; kind < 3; kind++) {
            test_context("%d bytes a sample, kind %d", F, kind);
            d.scale = kind == 0 ? 1.0f / 255.0f : kind == 1 ? scale : 0.0f;
            d.mean = kind == 1 ? mean : 0.0f;
            d.deviation = kind == 1 ? deviation : 0.0f;
            CHECK_INT(ae_feed(m, &d, 0, rows, 0), AE_SUCCESS);
            const float *got = ae_get(m, x);
            for (int i = 0; i < rows * F; i++) {
                const float v = (float)bytes[i];
                const volatile float scaled = kind == 0 ? v / 255.0f : kind == 1 ? v * scale : v;
                const volatile float centred = kind == 1 ? scaled - mean : scaled;
                const float want = kind == 1 ? centred / deviation : centred;
                CHECK_CLOSE(got[i], want, EXACT * (1 + fabs((double)want)));
            }
        }
    }
}

/* The gradient of a step has nothing of what was there before: neither where a product overwrites
   it, nor where weights are shared, nor where no loss reaches them. After a step that failed,
   gradients accumulate as ever. */
TEST(train_step_begins_anew)
{
    enum { B = 4, F = 6 };
    ae_model *m = ae_model_new(net_arena(ROOM), 3);
    ae_tensor *x = ae_input(m, F, 1, 1), *a = ae_linear(x, 5);
    ae_tensor *h = ae_batch_norm(ae_tanh(ae_linear(ae_relu(a), 5)), NULL);
    ae_tensor *y = ae_tied(h, a);
    ae_minimize(ae_mse(y, x, AE_MEAN));
    ae_monitor(ae_mse(ae_linear(ae_relu(ae_linear(x, 3)), F), x, AE_MEAN));
    REQUIRE(ae_build(m, B, AE_TRAIN) == AE_SUCCESS);
    float *data = DATA(B * F, 4);
    ae_dataset d = floats_of(data, B, F);
    ae_optim sgd = net_optim(AE_SGD, 0);
    size_t bytes;
    float *grad = (float *)ae_segment_data(m, AE_SEG_GRAD, &bytes);
    const size_t n = bytes / sizeof(float);
    sgd.lr = 1e-30f;                    // the weights stay what they are
    d.keep_order = 1;
    ae_zero_grad(m);
    CHECK_INT(ae_feed(m, &d, 0, B, 0), AE_SUCCESS);
    CHECK_INT(ae_forward(m, B), AE_SUCCESS);
    CHECK_INT(ae_backward(m, 1.0f), AE_SUCCESS);
    float *want = COPY(grad, n), *twice = OUT(n), kept = data[3];
    for (size_t i = 0; i < n; i++) twice[i] = 2 * want[i];
    for (size_t i = 0; i < n; i++) grad[i] = 77;        // what is between the parameters as well
    CHECK_INT(ae_train_step(m, &d, &sgd), AE_SUCCESS);
    CHECK_SAME(grad, want, n);
    data[3] = test_nan();
    CHECK_INT(ae_train_step(m, &d, &sgd), AE_E_NUMERIC);
    data[3] = kept;
    for (size_t i = 0; i < n; i++) CHECK(grad[i] >= 0 && grad[i] <= 0);
    CHECK_INT(ae_feed(m, &d, 0, B, 0), AE_SUCCESS);
    CHECK_INT(ae_forward(m, B), AE_SUCCESS);
    for (int i = 0; i < 2; i++) CHECK_INT(ae_backward(m, 1.0f), AE_SUCCESS);
    CHECK_ARRAY(grad, twice, n, 1e-7, 1e-6);
}

/* --- mean losses ---------------------------------------------------------- */

/* The mean over an epoch of 11 samples in batches of 4, 4 and 3 is that of all 11 at once, for
   each reduction (sums: per sample); so is an evaluation's. 1e-6: one float rounding a loss. */
TEST(train_mean_loss)
{
    enum { N = 11, B = 4, CLASSES = 4 };
    for (int r = AE_MEAN; r <= AE_SUM; r++) {
        test_context("reduction %d", r);
        small s = small_model(net_arena(ROOM), 2, CLASSES, (ae_reduction)r);
        REQUIRE(ae_build(s.m, B, AE_TRAIN) == AE_SUCCESS);
        ae_dataset d = labelled(N, 3, CLASSES);
        d.keep_order = 1;
        ae_optim still = net_optim(AE_SGD, 1e-30f);
        float y[N * 6], z[N * 3];
        CHECK_INT(ae_predict(s.m, s.y, y, d.floats, N), AE_SUCCESS);
        CHECK_INT(ae_predict(s.m, s.z, z, d.floats, N), AE_SUCCESS);
        const float *w = ae_param_data(s.m, ae_param_find(s.m, "linear3.weight"));
        const float *b = ae_param_data(s.m, ae_param_find(s.m, "linear3.bias"));
        double mse[N], ce[N], sum[2] = { 0, 0 };
        for (int i = 0; i < N; i++) {
            double logit[CLASSES], total = 0;
            mse[i] = 0;
            for (int j = 0; j < 6; j++)
                mse[i] += pow((double)y[i * 6 + j] - (double)d.floats[i * 6 + j], 2);
            if (r == AE_MEAN) mse[i] /= 6;
            for (int c = 0; c < CLASSES; c++) {
                logit[c] = (double)b[c];
                for (int j = 0; j < 3; j++) logit[c] += (double)w[c * 3 + j] * (double)z[i * 3 + j];
                total += exp(logit[c]);
            }
            ce[i] = log(total) - logit[d.labels[i]];
        }
        CHECK_CLOSE(ae_mean_loss(s.m, NULL), 0, 0);
        for (int done = 0; done < N; done += B) {
            int n = N - done < B ? N - done : B;
            double batch[2] = { 0, 0 };
            CHECK_INT(ae_train_step(s.m, &d, &still), AE_SUCCESS);
            for (int i = done; i < done + n; i++) {
                batch[0] += mse[i];
                batch[1] += ce[i];
            }
            sum[0] += batch[0];
            sum[1] += batch[1];
            double share = r == AE_SUM ? 1 : n;
            CHECK_CLOSE(ae_batch_loss(s.m, s.mse), batch[0] / share, 2e-6 * batch[0] / share);
            CHECK_CLOSE(ae_batch_loss(s.m, s.ce), batch[1] / share, 2e-6 * batch[1] / share);
            CHECK_CLOSE(ae_mean_loss(s.m, s.mse), sum[0] / (done + n), 1e-6 * sum[0]);
            CHECK_CLOSE(ae_mean_loss(s.m, s.ce), sum[1] / (done + n), 1e-6 * sum[1]);
            CHECK_CLOSE(ae_mean_loss(s.m, NULL), (sum[0] + 0.5 * sum[1]) / (done + n),
                        1e-6 * sum[1]);
        }
        double want = (sum[0] + 0.5 * sum[1]) / N;
        CHECK_CLOSE(ae_epoch(s.m, &d, &still), want, 1e-6 * want);      // the next epoch: alike
        d.keep_order = 0;
        CHECK_CLOSE(ae_epoch(s.m, &d, &still), want, 1e-6 * want);      // in any order
        float loss = 0;
        CHECK_INT(ae_evaluate(s.m, &d, &loss), AE_SUCCESS);
        CHECK_CLOSE(loss, want, 1e-6 * want);
        CHECK_CLOSE(ae_mean_loss(s.m, s.mse), sum[0] / N, 1e-6 * sum[0]);
        ae_dataset head = ae_dataset_head(&d, 1);
        CHECK_INT(ae_evaluate(s.m, &head, &loss), AE_SUCCESS);
        CHECK_CLOSE(loss, mse[0] + 0.5 * ce[0], 2e-6);
        CHECK_INT(ae_evaluate(s.m, &d, NULL), AE_SUCCESS);
    }
}

/* Evaluations, on other data and in the middle of an epoch, leave no trace in the training. */
TEST(train_evaluate_leaves_no_trace)
{
    float mean[2], *end[2];
    size_t floats = 0;
    for (int run = 0; run < 2; run++) {
        small s = built(3, 4, 4);
        ae_dataset d = labelled(23, 1, 4), other = labelled(9, 2, 4);
        ae_optim adam = net_optim(AE_ADAM, 1e-2f);
        for (int i = 0; i < 15; i++) {
            CHECK_INT(ae_train_step(s.m, &d, &adam), AE_SUCCESS);
            float *before = weights_of(s.m, &floats);
            if (run == 1) CHECK_INT(ae_evaluate(s.m, &other, NULL), AE_SUCCESS);
            CHECK_BITS(params(s.m, &floats), before, floats);
        }
        CHECK_INT(ae_train_step(s.m, &d, &adam), AE_SUCCESS);
        mean[run] = ae_mean_loss(s.m, NULL);    // of the running epoch
        end[run] = weights_of(s.m, &floats);
    }
    CHECK_BITS(&mean[0], &mean[1], 1);
    CHECK_BITS(end[0], end[1], floats);
}

/* --- the same bits -------------------------------------------------------- */

static void steps(small *s, const ae_dataset *d, const ae_optim *o, int count)
{
    for (int i = 0; i < count; i++) CHECK_INT(ae_train_step(s->m, d, o), AE_SUCCESS);
}

TEST(train_epoch_is_its_steps)
{
    size_t floats = 0;
    small a = built(3, 4, 4), b = built(3, 4, 4), c = built(3, 4, 4);
    ae_dataset d = labelled(22, 1, 4);
    ae_optim adam = net_optim(AE_ADAM, 1e-2f);
    steps(&a, &d, &adam, 12);
    float loss = 0;
    for (int i = 0; i < 2; i++) loss = ae_epoch(b.m, &d, &adam);
    steps(&c, &d, &adam, 8);    // an epoch may be ended from within
    CHECK_CLOSE(ae_epoch(c.m, &d, &adam), loss, 0);
    float *want = weights_of(a.m, &floats);
    CHECK_BITS(params(b.m, &floats), want, floats);
    CHECK_BITS(params(c.m, &floats), want, floats);
    CHECK_CLOSE(ae_mean_loss(a.m, NULL), loss, 0);
    CHECK_INT(ae_steps(b.m), 12);
}

/* All ways to run: the same weights, also after evaluations. */
TEST(train_same_bits_for_any_threads)
{
    float *want = NULL, loss[TEST_EXECS];
    size_t floats = 0;
    for (int e = 1; e < TEST_EXECS; e++) {
        test_context("%s", test_exec_text(e));
        small s = small_model(net_arena(ROOM), 3, 4, AE_MEAN);
        CHECK_INT(ae_set_exec(s.m, test_exec_at(e)), AE_SUCCESS);
        REQUIRE(ae_build(s.m, 8, AE_TRAIN) == AE_SUCCESS);
        ae_dataset d = labelled(50, 1, 4);
        ae_optim adam = net_optim(AE_ADAM, 1e-2f);
        adam.clip_norm = 0.05f;
        steps(&s, &d, &adam, 20);
        CHECK_INT(ae_evaluate(s.m, &d, &loss[e]), AE_SUCCESS);
        CHECK_BITS(&loss[e], &loss[1], 1);
        if (e == 1) want = weights_of(s.m, &floats);
        CHECK_BITS(params(s.m, &floats), want, floats);
    }
}

/* Batches that are shared out from the feeding of samples to the update: any threads end with the
   weights of the pieces of a step by hand. */
TEST(train_large_batches_for_any_threads)
{
    enum { D = 300, H = 40, B = 64, N = 130 };
    float *want = NULL;
    size_t floats = 0;
    for (int e = 0; e < TEST_EXECS; e++) {
        ae_model *m = ae_model_new(net_arena(1u << 20), 7);
        ae_tensor *x = ae_input(m, D, 1, 1);
        ae_minimize(ae_mse(ae_linear(ae_relu(ae_linear(x, H)), D), x, AE_MEAN));
        ae_dataset d;
        memset(&d, 0, sizeof d);
        d.floats = DATA(N * D, 1);
        d.n = N;
        d.c = D;
        d.h = d.w = d.keep_order = 1;
        ae_optim adam = net_optim(AE_ADAM, 1e-2f);
        test_context("%s", e ? test_exec_text(e) : "by hand");
        CHECK_INT(ae_set_exec(m, test_exec_at(e ? e : 1)), AE_SUCCESS);
        REQUIRE(ae_build(m, B, AE_TRAIN) == AE_SUCCESS);
        for (int at = 0; !e && at < N; at += B) {
            ae_zero_grad(m);
            CHECK_INT(ae_feed(m, &d, (size_t)at, N - at < B ? N - at : B, 0), AE_SUCCESS);
            CHECK_INT(ae_forward(m, N - at < B ? N - at : B), AE_SUCCESS);
            CHECK_INT(ae_backward(m, 1), AE_SUCCESS);
            CHECK_INT(ae_step(m, &adam), AE_SUCCESS);
        }
        if (e) ae_epoch(m, &d, &adam);
        CHECK_INT(ae_steps(m), 3);
        if (e == 0) want = weights_of(m, &floats);
        CHECK_BITS(params(m, &floats), want, floats);
    }
}

TEST(train_seeds)
{
    float *end[3] = { NULL, NULL, NULL };
    size_t floats = 0;
    for (int i = 0; i < 3; i++) {
        small s = built(i < 2 ? 3 : 4, 4, 8);
        ae_dataset d = labelled(50, 1, 4);
        ae_optim adam = net_optim(AE_ADAM, 1e-2f);
        steps(&s, &d, &adam, 20);
        end[i] = weights_of(s.m, &floats);
    }
    CHECK_BITS(end[0], end[1], floats);
    CHECK(memcmp(end[0], end[2], floats * sizeof(float)) != 0);
}

/* Stopped after k steps (in the middle of an epoch, at its end), undone or carried on elsewhere. */
TEST(train_resume)
{
    size_t floats = 0;
    for (int k = 0; k <= 13; k++) {
        test_context("after %d steps", k);
        small a = built(3, 4, 4), b = built(3, 4, 4);
        ae_dataset d = labelled(23, 1, 4);
        ae_optim adam = net_optim(AE_ADAM, 1e-2f);
        size_t bytes = ae_snapshot_bytes(a.m);
        CHECK(bytes > 0);
        unsigned char *kept = BYTES(bytes);
        steps(&a, &d, &adam, k);
        CHECK_INT(ae_snapshot(a.m, kept), AE_SUCCESS);
        steps(&a, &d, &adam, 10);
        float *want = weights_of(a.m, &floats), mean = ae_mean_loss(a.m, NULL);
        for (int other = 0; other < 2; other++) {
            small *s = other ? &b : &a;
            CHECK_INT(ae_snapshot_bytes(s->m), bytes);
            CHECK_INT(ae_restore(s->m, kept, bytes), AE_SUCCESS);
            CHECK_INT(ae_steps(s->m), k);
            steps(s, &d, &adam, 10);
            CHECK_BITS(params(s->m, &floats), want, floats);
            float again = ae_mean_loss(s->m, NULL);
            CHECK_BITS(&again, &mean, 1);
        }
        CHECK_INT(ae_restore(b.m, kept, bytes - 1), AE_E_ARG);
        CHECK_INT(ae_restore(b.m, kept, bytes + 64), AE_E_ARG);
        CHECK_INT(ae_restore(b.m, NULL, bytes), AE_E_ARG);
        CHECK_INT(ae_snapshot(b.m, NULL), AE_E_ARG);
        CHECK_BITS(params(b.m, &floats), want, floats);
    }
    // a snapshot holds accumulated gradients, too
    small a = built(3, 0, 4);
    ae_dataset d = labelled(4, 1, 4);
    ae_optim sgd = net_optim(AE_SGD, 0.1f);
    CHECK_INT(ae_feed(a.m, &d, 0, 4, 0), AE_SUCCESS);
    CHECK_INT(ae_forward(a.m, 4), AE_SUCCESS);
    CHECK_INT(ae_backward(a.m, 1.0f), AE_SUCCESS);
    unsigned char *kept = BYTES(ae_snapshot_bytes(a.m));
    CHECK_INT(ae_snapshot(a.m, kept), AE_SUCCESS);
    CHECK_INT(ae_step(a.m, &sgd), AE_SUCCESS);
    float *want = weights_of(a.m, &floats);
    ae_zero_grad(a.m);
    CHECK_INT(ae_restore(a.m, kept, ae_snapshot_bytes(a.m)), AE_SUCCESS);
    CHECK_INT(ae_backward(a.m, 1.0f), AE_E_ARG);    // the values are not part of it
    CHECK_INT(ae_step(a.m, &sgd), AE_SUCCESS);
    CHECK_BITS(params(a.m, &floats), want, floats);
}

/* An epoch that another dataset's size makes impossible starts anew. */
TEST(train_other_dataset)
{
    small s = built(3, 0, 4);
    ae_dataset large = labelled(40, 1, 4), little = labelled(6, 2, 4);
    ae_optim adam = net_optim(AE_ADAM, 1e-2f);
    steps(&s, &large, &adam, 5);
    steps(&s, &little, &adam, 2);
    float mean = ae_mean_loss(s.m, NULL), want = 0;
    CHECK(mean > 0 && test_is_finite(mean));
    want = ae_epoch(s.m, &little, &adam);
    CHECK(want > 0);
    CHECK_INT(ae_steps(s.m), 9);
}

/* --- accumulation --------------------------------------------------------- */

/* Batches whose gradients are gathered step like one large batch. SGD, so that roundings stay what
   they are: 1e-6 of weights of size 1 after 6 steps. */
TEST(train_accumulate)
{
    static const int sizes[] = { 24, 26, 13, 5 };
    for (int r = AE_MEAN; r <= AE_SUM; r++)
        for (int i = 0; i < 4; i++) {
            float *end[2] = { NULL, NULL };
            size_t floats = 0;
            test_context("reduction %d, %d samples", r, sizes[i]);
            for (int run = 0; run < 2; run++) {
                small s = small_model(net_arena(ROOM), 3, 4, (ae_reduction)r);
                REQUIRE(ae_build(s.m, 12, AE_TRAIN) == AE_SUCCESS);
                ae_dataset d = labelled((size_t)sizes[i], 1, 4);
                ae_optim sgd = net_optim(AE_SGD, r == AE_SUM ? 0.01f : 0.1f);
                ae_fit_options o = no_options();
                ae_fit_result result;
                o.epochs = 2;
                o.batch = run ? 12 : 4;
                o.accumulate = run ? 1 : 3;
                CHECK_INT(ae_fit(s.m, &d, &sgd, &o, &result), AE_SUCCESS);
                CHECK_INT(ae_steps(s.m), 2 * ((sizes[i] + 11) / 12));
                end[run] = weights_of(s.m, &floats);
            }
            CHECK_ARRAY(end[0], end[1], floats, 1e-6, 1e-6);
        }
}

/* --- fit ------------------------------------------------------------------ */

/* What a callback saw. */
typedef struct diary {
    ae_model *m;
    ae_tensor *x;
    int calls, ends, stop_at;           // stop_at: the call that says stop, 0: none
    float validation[300], loss[300];   // of each epoch
    float lr[4000];                     // of each step
    int improved[300];
    int steps;
    size_t batches, batch, samples;
    int epoch, epochs, bad;             // bad: something did not add up
    int order[3][100], at;              // samples seen in the first epochs
} diary;

static int keep_diary(void *user, const ae_progress *p)
{
    diary *k = (diary *)user;
    k->calls++;
    k->epochs = p->epochs;
    if (p->epoch_end) {
        if (k->ends < 300) {
            k->validation[k->ends] = p->validation;
            k->loss[k->ends] = p->loss;
            k->improved[k->ends] = p->improved;
        }
        k->ends++;
        if (p->epoch != k->ends || p->batch != p->batches) k->bad = __LINE__;
    } else {
        if (k->steps < 4000) k->lr[k->steps] = p->lr;
        k->steps++;
        if (p->epoch != k->ends + 1 || p->batch > p->batches || p->batch < 1) k->bad = __LINE__;
        if (p->validation > 0 || p->improved) k->bad = __LINE__;
        if (k->x && k->ends < 3) {
            size_t before = p->epoch == k->epoch ? k->samples : 0;
            int n = (int)(p->samples - before);
            if (before + (size_t)n > 100) k->bad = __LINE__;
            else seen_samples(k->m, k->x, n, k->order[k->ends], (int)before);
        }
    }
    k->epoch = p->epoch;
    k->batches = p->batches;
    k->batch = p->batch;
    k->samples = p->samples;
    return k->stop_at && k->calls == k->stop_at;
}

static ae_fit_options with_diary(diary *k)
{
    ae_fit_options o = no_options();
    memset(k, 0, sizeof *k);
    o.callback = keep_diary;
    o.user = k;
    return o;
}

static diary *new_diary(void)
{
    return (diary *)(void *)BYTES(sizeof(diary));
}

TEST(train_fit_defaults)
{
    size_t floats = 0;
    small a = built(3, 4, 4), b = built(3, 4, 4), c = built(3, 4, 4);
    ae_dataset d = labelled(23, 1, 4);
    ae_optim adam = net_optim(AE_ADAM, 1e-2f);
    ae_fit_result result;
    size_t calls = test_mallocs();
    CHECK_INT(ae_fit(a.m, &d, &adam, NULL, &result), AE_SUCCESS);
    float loss = 0;
    for (int i = 0; i < 10; i++) loss = ae_epoch(b.m, &d, &adam);
    float *want = weights_of(b.m, &floats);
    CHECK_BITS(params(a.m, &floats), want, floats);
    CHECK_INT(result.epochs, 10);
    CHECK_INT(result.stopped, 0);
    CHECK_CLOSE(result.loss, loss, 0);
    CHECK(result.best_epoch >= 1 && result.best_epoch <= 10 && result.best <= loss);
    CHECK_INT(test_mallocs(), calls);
    // in two pieces, without a result
    ae_fit_options o = no_options();
    o.epochs = 4;
    CHECK_INT(ae_fit(c.m, &d, &adam, &o, NULL), AE_SUCCESS);
    o.epochs = 6;
    CHECK_INT(ae_fit(c.m, &d, &adam, &o, NULL), AE_SUCCESS);
    CHECK_BITS(params(c.m, &floats), want, floats);
}

TEST(train_fit_validation_split)
{
    enum { N = 50 };
    small s = built(3, 0, 8);
    ae_dataset d = numbered(N);
    ae_optim sgd = net_optim(AE_SGD, 1e-9f);
    diary *k = new_diary();
    ae_fit_options o = with_diary(k);
    ae_fit_result result;
    k->m = s.m;
    k->x = s.x;
    o.epochs = 3;
    o.validation = 0.2f;
    CHECK_INT(ae_fit(s.m, &d, &sgd, &o, &result), AE_SUCCESS);
    CHECK_INT(k->bad, 0);
    CHECK_INT(k->epochs, 3);
    CHECK_INT(k->samples, 40);
    CHECK_INT(k->batches, 5);
    CHECK_INT(k->steps, 15);
    CHECK_INT(k->ends, 3);
    CHECK_INT(k->calls, 18);
    int hits[N];
    memset(hits, 0, sizeof hits);
    for (int e = 0; e < 3; e++)
        for (int i = 0; i < 40; i++) {
            CHECK(k->order[e][i] >= 0 && k->order[e][i] < N);
            hits[k->order[e][i] % N]++;
        }
    int held = 0;
    double want = 0;
    for (int i = 0; i < N; i++) {   // the same ten are never trained on
        CHECK(hits[i] == 0 || hits[i] == 3);
        if (hits[i]) continue;
        held++;
        ae_dataset one = floats_of(d.floats + i * 6, 1, 6);
        float loss = 0;
        CHECK_INT(ae_evaluate(s.m, &one, &loss), AE_SUCCESS);
        want += (double)loss / 10;
    }
    CHECK_INT(held, 10);
    CHECK_CLOSE(k->validation[2], want, 1e-4 * want);   // and they are the validation's
    CHECK_CLOSE(result.best, k->validation[2], 1e-3 * want);
}

TEST(train_fit_gives_the_arena_back)
{
    ae_arena *arena = net_arena(ROOM);
    small s = small_model(arena, 3, 4, AE_MEAN);
    REQUIRE(ae_build(s.m, 8, AE_TRAIN) == AE_SUCCESS);
    size_t used = ae_arena_used(arena), need = 50 * 4;
    ae_dataset d = labelled(50, 1, 4);
    ae_optim adam = net_optim(AE_ADAM, 1e-2f);
    ae_fit_options o = no_options();
    o.validation = 0.1f;
    o.patience = 2;
    o.epochs = 3;
    CHECK_INT(ae_fit(s.m, &d, &adam, &o, NULL), AE_SUCCESS);
    CHECK_INT(ae_arena_used(arena), used);
    // exactly what it says it borrows
    need = (need + 63) / 64 * 64 + ae_snapshot_bytes(s.m);
    for (int missing = 0; missing < 2; missing++) {
        arena = net_arena(used + need - (size_t)missing);
        s = small_model(arena, 3, 4, AE_MEAN);
        REQUIRE(ae_build(s.m, 8, AE_TRAIN) == AE_SUCCESS);
        CHECK_INT(ae_arena_used(arena), used);
        size_t floats, calls = test_mallocs();
        float *before = weights_of(s.m, &floats);
        ae_fit_result result;
        memset(&result, 0x5a, sizeof result);
        CHECK_INT(ae_fit(s.m, &d, &adam, &o, &result), missing ? AE_E_MEMORY : AE_SUCCESS);
        CHECK_INT(ae_arena_used(arena), used);
        CHECK_INT(test_mallocs(), calls);
        if (!missing) continue;
        CHECK_ERROR(ae_error(s.m), "ae_fit");
        CHECK_BITS(params(s.m, &floats), before, floats);
    }
    arena = net_arena(used + 100);      // not even the split
    s = small_model(arena, 3, 4, AE_MEAN);
    REQUIRE(ae_build(s.m, 8, AE_TRAIN) == AE_SUCCESS);
    CHECK_INT(ae_fit(s.m, &d, &adam, &o, NULL), AE_E_MEMORY);
    CHECK_ERROR(ae_error(s.m), "split");
    CHECK_INT(ae_arena_used(arena), used);
}

/* A classifier of separable data whose held-out labels are partly wrong: validation falls, then
   rises for good, as the classifier becomes too sure. */
static small sure_model(ae_dataset *train, ae_dataset *held)
{
    enum { N = 40, H = 20 };
    small s;
    memset(&s, 0, sizeof s);
    s.m = ae_model_new(net_arena(ROOM), 5);
    s.x = ae_input(s.m, 6, 1, 1);
    s.ce = ae_cross_entropy(ae_linear(s.x, 2), ae_labels(s.m), AE_MEAN);
    ae_minimize(s.ce);
    CHECK_INT(ae_build(s.m, 8, AE_TRAIN), AE_SUCCESS);
    *train = labelled(N, 11, 2);
    *held = labelled(H, 12, 2);
    int32_t *a = INTS(N), *b = INTS(H);
    for (int i = 0; i < N; i++) a[i] = train->floats[i * 6] > 0;
    for (int i = 0; i < H; i++) b[i] = (held->floats[i * 6] > 0) ^ (i % 4 == 0);
    train->labels = a;
    held->labels = b;
    return s;
}

TEST(train_fit_early_stopping)
{
    enum { PATIENCE = 3 };
    ae_dataset train, held;
    small s = sure_model(&train, &held);
    ae_optim adam = net_optim(AE_ADAM, 0.05f);
    diary *k = new_diary();
    ae_fit_options o = with_diary(k);
    ae_fit_result result;
    o.epochs = 200;
    o.held_out = &held;
    o.patience = PATIENCE;
    CHECK_INT(ae_fit(s.m, &train, &adam, &o, &result), AE_SUCCESS);
    CHECK_INT(k->bad, 0);
    CHECK_INT(result.stopped, 1);
    CHECK(result.best_epoch > 2 && result.epochs < 200);
    CHECK_INT(result.epochs, result.best_epoch + PATIENCE);
    CHECK_INT(k->ends, result.epochs);
    float best = k->validation[0];
    for (int i = 0; i < k->ends; i++) {
        int better = i == 0 || k->validation[i] < best;
        CHECK_INT(k->improved[i], better);
        if (better) best = k->validation[i];
    }
    CHECK_BITS(&result.best, &best, 1);
    CHECK_BITS(&k->validation[result.best_epoch - 1], &best, 1);
    CHECK_CLOSE(result.loss, k->loss[k->ends - 1], 0);
    // the best weights are back: they give that loss, and are those of a shorter training
    float loss = 0;
    CHECK_INT(ae_evaluate(s.m, &held, &loss), AE_SUCCESS);
    CHECK_BITS(&loss, &best, 1);
    size_t floats = 0;
    float *got = weights_of(s.m, &floats);
    CHECK_INT(ae_steps(s.m), 5 * result.best_epoch);
    ae_dataset train2, held2;
    small t = sure_model(&train2, &held2);
    for (int i = 0; i < result.best_epoch; i++) ae_epoch(t.m, &train2, &adam);
    CHECK_BITS(got, params(t.m, &floats), floats);
    // min_delta: small improvements count as none
    small u = sure_model(&train2, &held2);
    ae_fit_options o2 = with_diary(k);
    ae_fit_result eager;
    o2.epochs = 200;
    o2.held_out = &held2;
    o2.patience = PATIENCE;
    o2.min_delta = 1e9f;
    CHECK_INT(ae_fit(u.m, &train2, &adam, &o2, &eager), AE_SUCCESS);
    CHECK_INT(eager.best_epoch, 1);
    CHECK_INT(eager.epochs, 1 + PATIENCE);
    // without patience nothing is restored
    small v = sure_model(&train2, &held2);
    o2 = no_options();
    o2.epochs = 60;
    o2.held_out = &held2;
    CHECK_INT(ae_fit(v.m, &train2, &adam, &o2, &eager), AE_SUCCESS);
    CHECK_INT(eager.epochs, 60);
    CHECK_INT(eager.stopped, 0);
    CHECK_INT(eager.best_epoch, result.best_epoch);
    CHECK_INT(ae_evaluate(v.m, &held2, &loss), AE_SUCCESS);
    CHECK(loss > best);
}

/* Without validation the training loss is watched. */
TEST(train_fit_watches_training)
{
    small s = built(3, 0, 8);
    ae_dataset d = labelled(16, 1, 2);
    ae_optim sgd = net_optim(AE_SGD, 3.0f);     // far too large: the loss soon swings
    diary *k = new_diary();
    ae_fit_options o = with_diary(k);
    ae_fit_result result;
    o.epochs = 100;
    o.patience = 2;
    CHECK_INT(ae_fit(s.m, &d, &sgd, &o, &result), AE_SUCCESS);
    CHECK_INT(result.stopped, 1);
    CHECK_INT(result.epochs, result.best_epoch + 2);
    CHECK_BITS(&result.best, &k->loss[result.best_epoch - 1], 1);
    for (int i = 0; i < k->ends; i++) {
        CHECK(k->loss[i] >= result.best);
        CHECK_CLOSE(k->validation[i], 0, 0);
    }
    CHECK_INT(ae_steps(s.m), 2 * result.best_epoch);
}

/* A validation loss that is not finite is no best; the search for one goes on. */
TEST(train_fit_validation_not_finite)
{
    small s = built(3, 0, 8);
    ae_dataset d = labelled(16, 1, 2), held = labelled(4, 2, 2);
    float *x = COPY(held.floats, 4 * 6);
    ae_optim adam = net_optim(AE_ADAM, 1e-2f);
    diary *k = new_diary();
    ae_fit_options o = with_diary(k);
    ae_fit_result result;
    x[3] = test_nan();
    held.floats = x;
    o.epochs = 10;
    o.held_out = &held;
    o.patience = 4;
    CHECK_INT(ae_fit(s.m, &d, &adam, &o, &result), AE_SUCCESS);
    CHECK_INT(result.best_epoch, 0);
    CHECK_INT(result.stopped, 1);
    CHECK_INT(result.epochs, 4);
    for (int i = 0; i < 4; i++) CHECK_INT(k->improved[i], 0);
    size_t floats;
    float *p = params(s.m, &floats);
    CHECK_FINITE(p, floats);
}

TEST(train_fit_callback_stops)
{
    for (int stop = 1; stop <= 9; stop++) {     // an epoch is 3 steps and its end
        small s = built(3, 0, 8), t = built(3, 0, 8);
        test_context("call %d", stop);
        ae_dataset d = labelled(20, 1, 2);
        ae_optim adam = net_optim(AE_ADAM, 1e-2f);
        diary *k = new_diary();
        ae_fit_options o = with_diary(k);
        ae_fit_result result;
        k->stop_at = stop;
        CHECK_INT(ae_fit(s.m, &d, &adam, &o, &result), AE_SUCCESS);
        CHECK_INT(k->calls, stop);
        CHECK_INT(result.stopped, 2);
        CHECK_INT(result.epochs, stop / 4);
        CHECK_INT(ae_steps(s.m), stop - stop / 4);
        size_t floats = 0;
        steps(&t, &d, &adam, stop - stop / 4);
        float *want = weights_of(t.m, &floats);
        CHECK_BITS(params(s.m, &floats), want, floats);
    }
}

/* The schedule sees the whole training's time, and plateau what is watched; each step's rate is the
   one that a schedule run by hand gives. */
TEST(train_fit_schedules)
{
    for (int kind = AE_SCHEDULE_CONSTANT; kind <= AE_SCHEDULE_PLATEAU; kind++)
        for (int patience = 0; patience < 2; patience++) {
            ae_dataset train, held;
            small s = sure_model(&train, &held);
            ae_optim adam = net_optim(AE_ADAM, 0.05f);
            diary *k = new_diary();
            ae_fit_options o = with_diary(k);
            test_context("schedule %d, patience %d", kind, patience);
            o.epochs = 40;
            o.held_out = &held;
            o.patience = patience ? 30 : 0;
            o.schedule.kind = (ae_schedule_kind)kind;
            o.schedule.gamma = 0.5f;
            o.schedule.step = 7;
            o.schedule.warmup = 1.5f;
            o.schedule.lr_min = 1e-4f;
            o.schedule.patience = 2;
            CHECK_INT(ae_fit(s.m, &train, &adam, &o, NULL), AE_SUCCESS);
            CHECK_INT(k->bad, 0);
            ae_schedule hand = o.schedule;
            hand.epochs = 40;
            float last = 0;
            for (int i = 0; i < k->steps; i++) {
                float t = (float)(i / 5) + (float)(i % 5 * 8) / 40.0f;
                last = ae_schedule_lr(&hand, 0.05f, t);
                CHECK_CLOSE(k->lr[i], last, 1e-6);
                if (i % 5 == 4) ae_schedule_update(&hand, k->validation[i / 5]);
            }
            if (kind == AE_SCHEDULE_CONSTANT) CHECK_CLOSE(last, 0.05, 1e-9);
            else CHECK(last < 0.03f);
            CHECK_CLOSE(k->lr[0], 0.0, 1e-9);   // warm-up starts from nothing
        }
}

/* A resumed training goes on in its schedule. */
TEST(train_fit_schedule_resumes)
{
    small s = built(3, 0, 8);
    ae_dataset d = labelled(16, 1, 2);
    ae_optim adam = net_optim(AE_ADAM, 0.05f);
    diary *k = new_diary();
    for (int part = 0; part < 3; part++) {
        ae_fit_options o = with_diary(k);
        o.epochs = 2;
        o.schedule.kind = AE_SCHEDULE_STEP;
        o.schedule.step = 2;
        CHECK_INT(ae_fit(s.m, &d, &adam, &o, NULL), AE_SUCCESS);
        CHECK_CLOSE(k->lr[0], 0.05 * pow(0.1, part), 1e-8);
        CHECK_CLOSE(k->lr[3], 0.05 * pow(0.1, part), 1e-8);
    }
}

/* --- bad input ------------------------------------------------------------ */

TEST(train_bad_data)
{
    small s = built(3, 4, 8);
    ae_optim adam = net_optim(AE_ADAM, 1e-2f);
    ae_dataset good = labelled(20, 1, 4);
    steps(&s, &good, &adam, 2);
    size_t floats = 0;
    float *before = weights_of(s.m, &floats);
    ae_dataset bad[6];
    static const ae_status status[6] = { AE_E_SHAPE, AE_E_ARG, AE_E_ARG, AE_E_ARG, AE_E_SHAPE,
                                         AE_E_SHAPE };
    static const char *const text[6] = { "7x1x1", "labels", "empty", "empty", "6x2x1", "-6x1x1" };
    for (int i = 0; i < 6; i++) bad[i] = good;
    bad[0].c = 7;
    bad[1].labels = NULL;
    bad[2].n = 0;
    bad[3].floats = NULL;
    bad[4].h = 2;
    bad[5].c = -6;
    for (int i = 0; i < 6; i++) {
        float loss = 77.0f;
        test_context("dataset %d", i);
        CHECK_INT(ae_train_step(s.m, &bad[i], &adam), status[i]);
        CHECK_ERROR(ae_error(s.m), text[i]);
        CHECK_CLOSE(ae_epoch(s.m, &bad[i], &adam), 0, 0);
        CHECK_INT(ae_model_status(s.m), status[i]);
        CHECK_INT(ae_evaluate(s.m, &bad[i], &loss), status[i]);
        CHECK_CLOSE(loss, 77, 0);
        CHECK_INT(ae_fit(s.m, &bad[i], &adam, NULL, NULL), status[i]);
        CHECK_INT(ae_feed(s.m, &bad[i], 0, 1, 0), status[i]);
        ae_fit_options o = no_options();
        o.held_out = &bad[i];
        CHECK_INT(ae_fit(s.m, &good, &adam, &o, NULL), status[i]);
    }
    CHECK_INT(ae_train_step(s.m, NULL, &adam), AE_E_ARG);
    CHECK_INT(ae_evaluate(s.m, NULL, NULL), AE_E_ARG);
    CHECK_INT(ae_train_step(s.m, &good, NULL), AE_E_ARG);
    CHECK_INT(ae_train_step(NULL, &good, &adam), AE_E_ARG);
    CHECK_CLOSE(ae_epoch(NULL, &good, &adam), 0, 0);
    CHECK(ae_evaluate(NULL, &good, NULL) != AE_SUCCESS);
    CHECK(ae_fit(NULL, &good, &adam, NULL, NULL) != AE_SUCCESS);
    CHECK_BITS(params(s.m, &floats), before, floats);
    CHECK_INT(ae_steps(s.m), 2);
    // and then it goes on
    steps(&s, &good, &adam, 1);
    CHECK_STR(ae_error(s.m), "");
}

TEST(train_bad_models)
{
    ae_optim adam = net_optim(AE_ADAM, 1e-2f);
    ae_dataset d = labelled(20, 1, 4);
    small s = small_model(net_arena(ROOM), 1, 4, AE_MEAN);
    float loss;
    CHECK_INT(ae_train_step(s.m, &d, &adam), AE_E_ARG);     // not built
    CHECK_ERROR(ae_error(s.m), "ae_build");
    CHECK_INT(ae_evaluate(s.m, &d, &loss), AE_E_ARG);
    CHECK_INT(ae_fit(s.m, &d, &adam, NULL, NULL), AE_E_ARG);
    REQUIRE(ae_build(s.m, 8, AE_INFER) == AE_SUCCESS);
    CHECK_INT(ae_train_step(s.m, &d, &adam), AE_E_ARG);
    CHECK_ERROR(ae_error(s.m), "AE_TRAIN");
    CHECK_CLOSE(ae_epoch(s.m, &d, &adam), 0, 0);
    CHECK_INT(ae_fit(s.m, &d, &adam, NULL, NULL), AE_E_ARG);
    CHECK_INT(ae_evaluate(s.m, &d, &loss), AE_SUCCESS);     // needs no gradients
    CHECK(loss > 0);
    ae_model *m = ae_model_new(net_arena(ROOM), 1);         // nothing to minimise
    ae_linear(ae_input(m, 6, 1, 1), 2);
    REQUIRE(ae_build(m, 8, AE_TRAIN) == AE_SUCCESS);
    CHECK_INT(ae_train_step(m, &d, &adam), AE_E_ARG);
    CHECK_ERROR(ae_error(m), "ae_minimize");
    CHECK_INT(ae_evaluate(m, &d, &loss), AE_E_ARG);
}

TEST(train_bad_learning_rates)
{
    const float bad[] = { test_nan(), test_inf(), -test_inf(), -0.1f };
    for (int i = 0; i < 4; i++) {
        small s = built(3, 4, 8);
        ae_dataset d = labelled(20, 1, 4);
        ae_optim adam = net_optim(AE_ADAM, bad[i]);
        size_t floats = 0;
        float *before = weights_of(s.m, &floats);
        CHECK_INT(ae_train_step(s.m, &d, &adam), AE_E_ARG);
        CHECK_ERROR(ae_error(s.m), "lr");
        CHECK_CLOSE(ae_epoch(s.m, &d, &adam), 0, 0);
        CHECK_INT(ae_model_status(s.m), AE_E_ARG);
        CHECK_INT(ae_fit(s.m, &d, &adam, NULL, NULL), AE_E_ARG);
        // the same through a schedule
        adam.lr = 0.1f;
        ae_fit_options o = no_options();
        o.epochs = 2;
        o.schedule.kind = AE_SCHEDULE_EXPONENTIAL;
        o.schedule.gamma = bad[i];
        ae_status status = ae_fit(s.m, &d, &adam, &o, NULL);
        CHECK(status == AE_E_ARG);
        CHECK_FINITE(params(s.m, &floats), floats);
        if (status == AE_E_ARG) CHECK_BITS(params(s.m, &floats), before, floats);
    }
}

TEST(train_bad_fit_options)
{
    small s = built(3, 4, 8);
    ae_dataset d = labelled(20, 1, 4);
    ae_optim adam = net_optim(AE_ADAM, 1e-2f);
    size_t floats = 0;
    float *before = weights_of(s.m, &floats);
    for (int i = 0; i < 12; i++) {
        ae_fit_options o = no_options();
        test_context("options %d", i);
        switch (i) {
        case 0: o.epochs = -1; break;
        case 1: o.batch = -1; break;
        case 2: o.batch = 9; break;
        case 3: o.accumulate = -1; break;
        case 4: o.patience = -1; break;
        case 5: o.validation = -0.1f; break;
        case 6: o.validation = 1.0f; break;
        case 7: o.validation = test_nan(); break;
        case 8: o.validation = 1e-6f; break;    // nobody would be held out
        case 9: o.validation = 0.999f; break;   // nobody would be left
        case 10: o.batch = 2147483647; break;
        default: o.min_delta = test_nan(); break;
        }
        CHECK_INT(ae_fit(s.m, &d, &adam, &o, NULL), AE_E_ARG);
        CHECK_ERROR(ae_error(s.m), "ae_fit");
    }
    CHECK_BITS(params(s.m, &floats), before, floats);
    CHECK_INT(ae_steps(s.m), 0);
}

/* NaN or infinity in the data: named, the weights are those of the last good step, and when the
   data is mended the epoch goes on as if nothing had been. */
TEST(train_data_not_finite)
{
    enum { N = 20, B = 4, BAD = 13 };   // in the fourth batch
    const float values[] = { test_nan(), test_inf(), 1e30f };
    for (int i = 0; i < 3; i++) {
        small s = built(3, 4, B), t = built(3, 4, B);
        size_t floats = 0;
        test_context("value %d", i);
        ae_dataset d = labelled(N, 1, 4);
        float *x = COPY(d.floats, N * 6), kept = x[BAD * 6 + 2];
        ae_optim adam = net_optim(AE_ADAM, 1e-2f);
        d.floats = x;
        d.keep_order = 1;
        steps(&t, &d, &adam, 3);
        x[BAD * 6 + 2] = values[i];
        float loss = ae_epoch(s.m, &d, &adam);
        CHECK_CLOSE(loss, 0, 0);
        CHECK_INT(ae_model_status(s.m), AE_E_NUMERIC);
        CHECK_ERROR(ae_error(s.m), "step 4");
        if (i < 2) CHECK_ERROR(ae_error(s.m), "input1 (sample 1)");
        else CHECK_ERROR(ae_error(s.m), "mse1");
        float *want = weights_of(t.m, &floats);
        CHECK_BITS(params(s.m, &floats), want, floats);
        CHECK_INT(ae_steps(s.m), 3);
        CHECK_INT(ae_train_step(s.m, &d, &adam), AE_E_NUMERIC);
        CHECK_BITS(params(s.m, &floats), want, floats);
        x[BAD * 6 + 2] = kept;
        float a = ae_epoch(s.m, &d, &adam), b = ae_epoch(t.m, &d, &adam);
        CHECK_BITS(&a, &b, 1);
        want = weights_of(t.m, &floats);
        CHECK_BITS(params(s.m, &floats), want, floats);
    }
}

/* The same in the second of three gathered batches: nothing of the step remains, sums included. */
TEST(train_data_not_finite_accumulated)
{
    enum { N = 24, B = 4, BAD = 17 };
    small s = built(3, 4, B), t = built(3, 4, B);
    size_t floats = 0;
    ae_dataset d = labelled(N, 1, 4);
    float *x = COPY(d.floats, N * 6), kept = x[BAD * 6 + 2];
    ae_optim adam = net_optim(AE_ADAM, 1e-2f);
    ae_fit_options o = no_options();
    ae_fit_result a, b;
    d.floats = x;
    d.keep_order = 1;
    o.accumulate = 3;
    o.epochs = 1;
    x[BAD * 6 + 2] = test_nan();
    CHECK_INT(ae_fit(s.m, &d, &adam, &o, &a), AE_E_NUMERIC);
    CHECK_INT(a.epochs, 0);
    CHECK_INT(ae_steps(s.m), 1);
    x[BAD * 6 + 2] = kept;
    CHECK_INT(ae_fit(s.m, &d, &adam, &o, &a), AE_SUCCESS);
    CHECK_INT(ae_fit(t.m, &d, &adam, &o, &b), AE_SUCCESS);
    CHECK_BITS(&a.loss, &b.loss, 1);
    float *want = weights_of(t.m, &floats);
    CHECK_BITS(params(s.m, &floats), want, floats);
}

TEST(train_bad_labels)
{
    static const int32_t bad[] = { 4, -1, 1000000 };
    for (int i = 0; i < 3; i++) {
        small s = built(3, 4, 8);
        ae_dataset d = labelled(20, 1, 4);
        int32_t *labels = INTS(20);
        float loss = 5;
        size_t floats = 0;
        memcpy(labels, d.labels, 20 * sizeof *labels);
        labels[17] = bad[i];
        d.labels = labels;
        d.keep_order = 1;
        ae_optim adam = net_optim(AE_ADAM, 1e-2f);
        steps(&s, &d, &adam, 2);
        float *before = weights_of(s.m, &floats);
        CHECK_INT(ae_train_step(s.m, &d, &adam), AE_E_ARG);
        CHECK_ERROR(ae_error(s.m), "0 ... 3");
        CHECK_INT(ae_evaluate(s.m, &d, &loss), AE_E_ARG);
        CHECK_CLOSE(loss, 5, 0);
        CHECK_BITS(params(s.m, &floats), before, floats);
    }
}

/* Bytes that nobody scaled, into BCE. */
TEST(train_unscaled_pixels)
{
    ae_model *m = ae_model_new(net_arena(ROOM), 1);
    ae_tensor *x = ae_input(m, 1, 2, 3);
    ae_minimize(ae_bce(ae_sigmoid(ae_linear(x, 6)), x, AE_MEAN));
    REQUIRE(ae_build(m, 2, AE_TRAIN) == AE_SUCCESS);
    unsigned char *bytes = BYTES(12);
    memset(bytes, 200, 12);
    ae_dataset d;
    memset(&d, 0, sizeof d);
    d.bytes = bytes;
    d.n = 2;
    d.c = 1;
    d.h = 2;
    d.w = 3;
    ae_optim adam = net_optim(AE_ADAM, 0);
    CHECK_INT(ae_train_step(m, &d, &adam), AE_E_ARG);
    CHECK_ERROR(ae_error(m), "200");
    CHECK_ERROR(ae_error(m), "scale");
    CHECK_CLOSE(ae_epoch(m, &d, &adam), 0, 0);
    d.scale = 1.0f / 255.0f;
    CHECK_INT(ae_train_step(m, &d, &adam), AE_SUCCESS);
}

TEST(train_allocates_nothing)
{
    small s = built(3, 4, 8);
    ae_dataset d = labelled(50, 1, 4);
    ae_optim adam = net_optim(AE_ADAM, 1e-2f);
    size_t calls = test_mallocs();
    ae_epoch(s.m, &d, &adam);
    ae_fit_options o = no_options();
    o.epochs = 3;
    o.validation = 0.2f;
    o.patience = 2;
    CHECK_INT(ae_fit(s.m, &d, &adam, &o, NULL), AE_SUCCESS);
    CHECK_INT(ae_evaluate(s.m, &d, NULL), AE_SUCCESS);
    float *y = OUT(50 * 6);
    CHECK_INT(ae_predict(s.m, s.y, y, d.floats, 50), AE_SUCCESS);
    CHECK_INT(ae_run_from(s.m, s.z, y, s.y, 8), AE_SUCCESS);
    CHECK_INT(test_mallocs(), calls);
}

TEST_LIST(train) {
    CASE(train_linear_autoencoder), CASE(train_every_optimiser_learns), CASE(train_order),
    CASE(train_feed), CASE(train_feeds_what_get_gives), CASE(train_feeds_every_byte),
    CASE(train_step_begins_anew), CASE(train_mean_loss),
    CASE(train_evaluate_leaves_no_trace), CASE(train_epoch_is_its_steps),
    CASE(train_same_bits_for_any_threads), CASE(train_large_batches_for_any_threads),
    CASE(train_seeds), CASE(train_resume),
    CASE(train_other_dataset), CASE(train_accumulate), CASE(train_fit_defaults),
    CASE(train_fit_validation_split), CASE(train_fit_gives_the_arena_back),
    CASE(train_fit_early_stopping), CASE(train_fit_watches_training),
    CASE(train_fit_validation_not_finite),
    CASE(train_fit_callback_stops), CASE(train_fit_schedules), CASE(train_fit_schedule_resumes),
    CASE(train_bad_data), CASE(train_bad_models), CASE(train_bad_learning_rates),
    CASE(train_bad_fit_options), CASE(train_data_not_finite),
    CASE(train_data_not_finite_accumulated), CASE(train_bad_labels), CASE(train_unscaled_pixels),
    CASE(train_allocates_nothing), CASE_END
};
