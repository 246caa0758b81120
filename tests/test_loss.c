/* Losses: against formulas in double, PyTorch, central differences; bad input; any threads. */
#include "test.h"

typedef struct loss_case {
    ae_loss_kind kind;
    float a;
    const char *key;            /* in the golden file */
} loss_case;

static const loss_case losses[] = {
    { AE_LOSS_MSE, 0, "mse" },
    { AE_LOSS_L1, 0, "l1" },
    { AE_LOSS_HUBER, 0.7f, "huber_0.7" },
    { AE_LOSS_HUBER, 1, "huber_1" },
    { AE_LOSS_SMOOTH_L1, 0.5f, "smooth_l1_0.5" },
    { AE_LOSS_SMOOTH_L1, 1, "smooth_l1_1" },
    { AE_LOSS_BCE, 0, "bce" },
    { AE_LOSS_BCE_LOGITS, 0, "bce_logits" },
};
enum { LOSSES = sizeof losses / sizeof losses[0] };

static const ae_reduction reductions[3] = { AE_MEAN, AE_BATCH_MEAN, AE_SUM };
static const char *const reduction_keys[3] = { "mean", "batch_mean", "sum" };

static double divisor(ae_reduction r, int B, int F)
{
    return r == AE_MEAN ? (double)B * F : r == AE_BATCH_MEAN ? B : 1;
}

/* ln x, not below -100, without the call of log(0). */
static double log_100(double x)
{
    return x > 0 && log(x) > -100 ? log(x) : -100;
}

/* The formulas of the table in ae.h. */
static double term(const loss_case *c, double y, double t)
{
    double d = y - t, a = (double)c->a;
    switch (c->kind) {
    case AE_LOSS_L1:         return fabs(d);
    case AE_LOSS_HUBER:      return fabs(d) < a ? d * d / 2 : a * (fabs(d) - a / 2);
    case AE_LOSS_SMOOTH_L1:  return fabs(d) < a ? d * d / (2 * a) : fabs(d) - a / 2;
    case AE_LOSS_BCE:        return -t * log_100(y) - (1 - t) * log_100(1 - y);
    case AE_LOSS_BCE_LOGITS: return (y > 0 ? y : 0) - y * t + log1p(exp(-fabs(y)));
    case AE_LOSS_MSE: case AE_LOSS_COUNT: default: return d * d;
    }
}

static double sign(double d)
{
    return d > 0 ? 1 : d < 0 ? -1 : 0;
}

/* d term / dy, and d term / dt. BCE: the denominator is held above 1e-12, as PyTorch does. */
static double slope_y(const loss_case *c, double y, double t)
{
    double d = y - t, a = (double)c->a, q = y * (1 - y);
    switch (c->kind) {
    case AE_LOSS_L1:         return sign(d);
    case AE_LOSS_HUBER:      return fabs(d) < a ? d : a * sign(d);
    case AE_LOSS_SMOOTH_L1:  return fabs(d) < a ? d / a : sign(d);
    case AE_LOSS_BCE:        return d / (q > 1e-12 ? q : 1e-12);
    case AE_LOSS_BCE_LOGITS: return 1 / (1 + exp(-y)) - t;
    case AE_LOSS_MSE: case AE_LOSS_COUNT: default: return 2 * d;
    }
}

static double slope_t(const loss_case *c, double y, double t)
{
    if (c->kind == AE_LOSS_BCE) return log_100(1 - y) - log_100(y);
    if (c->kind == AE_LOSS_BCE_LOGITS) return -y;
    return -slope_y(c, y, t);
}

/* A prediction and a target that suit the loss. */
static void make_data(const loss_case *c, float **y, float **t, int n)
{
    int bce = c->kind == AE_LOSS_BCE;
    *y = bce ? DATA_IN(n, 0.003, 0.99, 1) : DATA_IN(n, -2, 2.3, 1);
    *t = bce || c->kind == AE_LOSS_BCE_LOGITS ? DATA_IN(n, 0, 1, 2) : DATA_IN(n, -1.9, 1.7, 2);
}

static const int sizes[][2] = {     // B, F
    { 1, 1 }, { 3, 5 }, { 31, 1 }, { 1, 32 }, { 3, 11 }, { 7, 33 }, { 5, 51 }, { 257, 1 },
    { 8, 125 }, { 41, 801 }
};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

TEST(loss_formulas)
{
    for (int k = 0; k < LOSSES; k++)
        for (int s = 0; s < SIZES; s++) {
            const loss_case *c = &losses[k];
            int B = sizes[s][0], F = sizes[s][1], n = B * F;
            float *y, *t;
            double sum = 0, *dy = DOUBLES(n), *dt = DOUBLES(n);
            make_data(c, &y, &t, n);
            for (int i = 0; i < n; i++) sum += term(c, (double)y[i], (double)t[i]);
            for (int r = 0; r < 3; r++) {
                double by = divisor(reductions[r], B, F), dloss = -1.7;
                for (int i = 0; i < n; i++) {
                    dy[i] = dloss * slope_y(c, (double)y[i], (double)t[i]) / by;
                    dt[i] = dloss * slope_t(c, (double)y[i], (double)t[i]) / by;
                }
                for (int e = 0; e < 3; e++) {
                    float loss = test_nan(), *got_dy = OUT(n), *got_dt = OUT(n);
                    test_context("%s, %s, %dx%d, %s", c->key, reduction_keys[r], B, F,
                                 test_exec_text(e));
                    CHECK_INT(ae_loss_forward(test_exec_at(e), &loss, y, t, c->kind, c->a,
                                              reductions[r], B, F), AE_SUCCESS);
                    // each term is right to some half ulps, and so is their sum: all are positive
                    CHECK_CLOSE(loss, sum / by, 1e-6 * sum / by);
                    ae_loss_backward(test_exec_at(e), got_dy, got_dt, (float)dloss, y, t, c->kind,
                                     c->a, reductions[r], B, F);
                    // y - t, sigmoid(y) - t: rounded to half an ulp of numbers up to 2
                    CHECK_REF(got_dy, dy, n, 1.5e-7 * fabs(dloss) / by, 1e-6);
                    CHECK_REF(got_dt, dt, n, 1.5e-7 * fabs(dloss) / by, 1e-6);
                }
            }
        }
}

/* PyTorch's numbers, with d = 0, |d| = delta, probabilities of 0 and 1, logits of +-60. */
TEST(loss_golden)
{
    static const int shapes[3][2] = { { 3, 5 }, { 1, 1 }, { 7, 11 } };
    float dloss = golden("loss", "dloss")->v[0];
    for (int k = 0; k < LOSSES * 9; k++) {
        const loss_case *c = &losses[k / 9];
        int B = shapes[k % 3][0], F = shapes[k % 3][1], r = k / 3 % 3, n = B * F;
        char key[60];
        snprintf(key, sizeof key, "%s.%dx%d", c->key, B, F);
        const float *y = golden("loss", "%s.y", key)->v, *t = golden("loss", "%s.t", key)->v;
        const float *want = golden("loss", "%s.%s.loss", key, reduction_keys[r])->v;
        const float *dy = golden("loss", "%s.%s.dy", key, reduction_keys[r])->v;
        const float *dt = golden("loss", "%s.%s.dt", key, reduction_keys[r])->v;
        for (int e = 0; e < 3; e++) {
            float loss = test_nan(), *got_dy = OUT(n), *got_dt = OUT(n);
            test_context("%s, %s, %s", key, reduction_keys[r], test_exec_text(e));
            CHECK_INT(ae_loss_forward(test_exec_at(e), &loss, y, t, c->kind, c->a, reductions[r],
                                      B, F), AE_SUCCESS);
            CHECK_CLOSE(loss, want[0], 1e-6 * fabs((double)want[0]));
            ae_loss_backward(test_exec_at(e), got_dy, got_dt, dloss, y, t, c->kind, c->a,
                             reductions[r], B, F);
            // as above: half an ulp of y - t or of a sigmoid, which the reduction then divides
            double by = divisor(reductions[r], B, F);
            CHECK_ARRAY(got_dy, dy, n, 1e-7 / by, 1e-6);
            for (int i = 0; i < n; i++) {
                // infinite in PyTorch's gradient; its loss, and both of ours, stop at ln = -100
                double want_dt = (double)dt[i];
                if (!test_is_finite(dt[i])) want_dt = (double)dloss * (dt[i] > 0 ? 100 : -100) / by;
                CHECK_CLOSE(got_dt[i], want_dt, 1e-7 / by + 1e-6 * fabs(want_dt));
            }
        }
    }
}

typedef struct loss_args {      /* for central differences */
    const loss_case *c;
    float *y, *t;
    ae_reduction r;
    int B, F;
} loss_args;

static double loss_of(void *arg)
{
    const loss_args *p = (const loss_args *)arg;
    float loss = 0;
    ae_loss_forward(test_exec(), &loss, p->y, p->t, p->c->kind, p->c->a, p->r, p->B, p->F);
    return 0.7 * (double)loss;
}

TEST(loss_gradient)
{
    enum { B = 3, F = 5, N = B * F };
    loss_args p;
    p.B = B;
    p.F = F;
    for (int k = 0; k < LOSSES; k++) {
        int bce = losses[k].kind == AE_LOSS_BCE;
        p.c = &losses[k];
        p.t = DATA_IN(N, 0.2, 0.8, 2);
        p.y = bce ? DATA_IN(N, 0.3, 0.65, 1) : COPY(p.t, N);
        // d = +-0.2, 0.3, 1.3, ...: no kink (0, 0.5, 0.7, 1) within 2h = 1/16
        static const float far_from_kinks[5] = { 0.2f, -1.3f, 0.3f, -0.25f, 1.2f };
        for (int i = 0; i < N && !bce; i++) p.y[i] += far_from_kinks[i % 5];
        for (int r = 0; r < 3; r++) {
            float *dy = OUT(N), *dt = OUT(N);
            p.r = reductions[r];
            test_context("%s, %s", losses[k].key, reduction_keys[r]);
            for (int twice = 0; twice < 2; twice++) {   // = and not +=
                ae_loss_backward(test_exec(), dy, dt, 0.7f, p.y, p.t, p.c->kind, p.c->a, p.r, B, F);
                // The loss is rounded: 6e-8 L / h = 2e-6 L, where slopes are about L / 15, so 5e-5;
                // BCE's 5th derivative, up to 24 / 0.3^5, adds h^4 / 30 of it: 3e-4 of a slope.
                CHECK_GRADIENT(dy, p.y, N, 1.0 / 32, bce ? 4e-4 : 2e-4, loss_of, &p);
                CHECK_GRADIENT(dt, p.t, N, 1.0 / 32, 2e-4, loss_of, &p);
            }
        }
    }
}

/* Each of dy, dt may be NULL; dloss 0 is no gradient. */
TEST(loss_backward_null)
{
    enum { B = 7, F = 33, N = B * F };
    for (int k = 0; k < LOSSES; k++)
        for (int e = 0; e < 3; e++) {
            const loss_case *c = &losses[k];
            const ae_exec *exec = test_exec_at(e);
            float *y, *t, *dy = OUT(N), *dt = OUT(N), *one = OUT(N), *zero = DATA_IN(N, 0, 0, 0);
            make_data(c, &y, &t, N);
            test_context("%s, %s", c->key, test_exec_text(e));
            ae_loss_backward(exec, dy, dt, 1, y, t, c->kind, c->a, AE_MEAN, B, F);
            ae_loss_backward(exec, one, NULL, 1, y, t, c->kind, c->a, AE_MEAN, B, F);
            CHECK_BITS(one, dy, N);
            test_refill(one, N);
            ae_loss_backward(exec, NULL, one, 1, y, t, c->kind, c->a, AE_MEAN, B, F);
            CHECK_BITS(one, dt, N);
            ae_loss_backward(exec, NULL, NULL, 1, y, t, c->kind, c->a, AE_MEAN, B, F);
            ae_loss_backward(exec, dy, dt, 0, y, t, c->kind, c->a, AE_MEAN, B, F);
            CHECK_ARRAY(dy, zero, N, 0, 0);
            CHECK_ARRAY(dt, zero, N, 0, 0);
        }
}

/* A target or a probability outside [0,1] anywhere is an error: pixels 0 ... 255, a NaN. */
TEST(loss_bce_range)
{
    enum { B = 61, F = 331, N = B * F };    // three pieces
    static const int places[] = { 0, 1, 17, 40, 41, 8191, 8192, 20190 };
    float bad[6] = { -1e-6f, 1.000001f, 255, -1, 0, 0 };
    float *y = DATA_IN(N, 0.1, 0.9, 1), *t = DATA_IN(N, 0, 1, 2), loss;
    bad[4] = test_nan();
    bad[5] = test_inf();
    for (int i = 0; i < 6; i++)
        for (int k = 0; k < 8; k++) {
            const ae_exec *e = test_exec_at((i + k) % 3);
            int p = places[k];
            float kept_y = y[p], kept_t = t[p];
            test_context("%g at %d, %s", (double)bad[i], p, test_exec_text((i + k) % 3));
            t[p] = bad[i];
            CHECK_INT(ae_loss_forward(e, &loss, y, t, AE_LOSS_BCE, 0, AE_MEAN, B, F), AE_E_ARG);
            CHECK_INT(ae_loss_forward(e, &loss, y, t, AE_LOSS_BCE_LOGITS, 0, AE_MEAN, B, F),
                      AE_E_ARG);
            t[p] = kept_t;
            y[p] = bad[i];
            CHECK_INT(ae_loss_forward(e, &loss, y, t, AE_LOSS_BCE, 0, AE_SUM, B, F), AE_E_ARG);
            y[p] = kept_y;
        }
    // the ends themselves are fine, and logits may be anything
    t[0] = y[1] = 0;
    t[1] = y[0] = 1;
    CHECK_INT(ae_loss_forward(NULL, &loss, y, t, AE_LOSS_BCE, 0, AE_MEAN, B, F), AE_SUCCESS);
    y[7] = 1e30f;
    y[8] = -1e30f;
    CHECK_INT(ae_loss_forward(NULL, &loss, y, t, AE_LOSS_BCE_LOGITS, 0, AE_MEAN, B, F), AE_SUCCESS);
    CHECK_FINITE(&loss, 1);
}

/* ln of the smallest probabilities, below the normal floats, until it stops at -100. */
/* One term a call: ln y, ln(1 - y), ln(1 + e^y), by the target 1 or 0. */
typedef struct log_case {
    ae_loss_kind kind;
    float t;
    const char *name;
} log_case;

static void log_curve(void *arg, const float *x, float *y, double *want, double *allowed, size_t n)
{
    const log_case *c = (const log_case *)arg;
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i];
        ae_loss_forward(test_exec(), y + i, x + i, &c->t, c->kind, 0, AE_SUM, 1, 1);
        if (c->kind == AE_LOSS_BCE_LOGITS) want[i] = (v > 0 ? v : 0) + log1p(exp(-fabs(v)));
        else want[i] = -fmax(-100, c->t > 0 ? log(v) : log1p(-v));
        allowed[i] = 3;
    }
}

TEST(loss_accuracy)
{
    static const log_case cases[] = { { AE_LOSS_BCE, 1, "ln y" }, { AE_LOSS_BCE, 0, "ln(1 - y)" },
                                      { AE_LOSS_BCE_LOGITS, 0, "ln(1 + e^y)" } };
    for (int k = 0; k < 3; k++) {
        log_case c = cases[k];
        float low = k < 2 ? 0.0f : -3.4028234e38f, high = k < 2 ? 1.0f : 3.4028234e38f;
#ifdef __FAST_MATH__
        if (k == 0) low = 1.2e-38f;     // the compiler's start-up code makes smaller numbers 0
#endif
        test_context("%s, %s", c.name, ae_exec_name(test_exec()));
        CHECK_ACCURACY(log_curve, &c, low, high);
    }
}

TEST(loss_bce_tiny)
{
#ifdef __FAST_MATH__
    CHECK(1);   // the compiler's start-up code makes such numbers 0
#else
    static const double tiny[4] = { 1e-37, 1e-39, 1e-41, 1.4e-45 };
    for (int e = 0; e < 3; e++)
        for (int i = 0; i < 4; i++) {
            float y[1], t[1] = { 1 }, loss;
            volatile float rounded = (float)tiny[i];
            double want = -log((double)rounded);
            y[0] = rounded;
            ae_loss_forward(test_exec_at(e), &loss, y, t, AE_LOSS_BCE, 0, AE_SUM, 1, 1);
            CHECK_CLOSE(loss, want < 100 ? want : 100, 1e-5);   // an ulp of 100
        }
#endif
}

/* Long sums are in double: a million terms of 0.01 after one of 10^4, which in single precision
   would swallow a fortieth of each. 1e-5: the few in the same block as the large one may be. */
TEST(loss_long_sum)
{
    enum { B = 1000, F = 1000, N = B * F };
    float *y = DATA_IN(N, 0.1, 0.1, 0), *t = DATA_IN(N, 0, 0, 0), loss;
    double want = (double)y[0] * (double)y[0] * 999999.0 + 1e4;
    y[5] = 100;
    for (int e = 0; e < 3; e++) {
        test_context("%s", test_exec_text(e));
        ae_loss_forward(test_exec_at(e), &loss, y, t, AE_LOSS_MSE, 0, AE_SUM, B, F);
        CHECK_CLOSE(loss, want, 1e-5 * want);
    }
}

TEST(loss_same_bits_for_any_threads)
{
    enum { B = 61, F = 331, N = B * F };    // three pieces
    for (int k = 0; k < LOSSES; k++) {
        const loss_case *c = &losses[k];
        float *y, *t, *dy1 = OUT(N), *dt1 = OUT(N), loss1 = 0;
        make_data(c, &y, &t, N);
        for (int i = 1; i < TEST_EXECS; i++) {
            float *dy = i == 1 ? dy1 : OUT(N), *dt = i == 1 ? dt1 : OUT(N), loss = 0;
            test_context("%s, %s", c->key, test_exec_text(i));
            ae_loss_forward(test_exec_at(i), &loss, y, t, c->kind, c->a, AE_BATCH_MEAN, B, F);
            ae_loss_backward(test_exec_at(i), dy, dt, 1, y, t, c->kind, c->a, AE_BATCH_MEAN, B, F);
            if (i == 1) loss1 = loss;
            CHECK_BITS(&loss, &loss1, 1);
            CHECK_BITS(dy, dy1, N);
            CHECK_BITS(dt, dt1, N);
        }
    }
}

/* --- cross-entropy -------------------------------------------------------- */

TEST(cross_entropy_formula)
{
    static const int shapes[][2] = { { 1, 1 }, { 3, 5 }, { 31, 2 }, { 33, 10 }, { 7, 257 },
                                     { 2, 1000 }, { 301, 31 } };
    for (int s = 0; s < 7; s++) {
        int B = shapes[s][0], F = shapes[s][1], n = B * F;
        float *x = DATA_IN(n, -4, 5, 1);
        int32_t *labels = INTS(B);
        double *want = DOUBLES(n), sum = 0;
        for (int b = 0; b < B; b++) {
            double total = 0;
            labels[b] = (int32_t)((b * 7 + 3) % F);
            for (int i = 0; i < F; i++) total += exp((double)x[b * F + i]);
            for (int i = 0; i < F; i++)
                want[b * F + i] = exp((double)x[b * F + i]) / total - (i == labels[b]);
            sum += log(total) - (double)x[b * F + labels[b]];
        }
        for (int r = 0; r < 3; r++)
            for (int e = 0; e < 3; e++) {
                double by = reductions[r] == AE_SUM ? 1 : B;
                float loss = test_nan(), *dx = OUT(n);
                test_context("%dx%d, %s, %s", B, F, reduction_keys[r], test_exec_text(e));
                CHECK_INT(ae_cross_entropy_forward(test_exec_at(e), &loss, x, labels,
                                                   reductions[r], B, F), AE_SUCCESS);
                // ln of a sum near e^x[label]: a rounding of numbers up to 5
                CHECK_CLOSE(loss, sum / by, 1e-6 * sum / by + 3e-7);
                ae_cross_entropy_backward(test_exec_at(e), dx, -1.3f, x, labels, reductions[r],
                                          B, F);
                for (int i = 0; i < n; i++)     // softmax as above; minus 1 it cancels
                    CHECK_CLOSE(dx[i], -1.3 * want[i] / by, (3e-6 * fabs(want[i]) + 4e-7) / by);
            }
    }
}

/* The labels of a golden record. */
static int32_t *golden_labels(int B, int F)
{
    const test_record *r = golden("loss", "cross_entropy.%dx%d.labels", B, F);
    int32_t *labels = INTS(B);
    for (int b = 0; b < B; b++) labels[b] = (int32_t)r->v[b];
    return labels;
}

TEST(cross_entropy_golden)
{
    static const int shapes[4][2] = { { 3, 5 }, { 1, 1 }, { 13, 33 }, { 2, 10 } };
    float dloss = golden("loss", "dloss")->v[0];
    for (int s = 0; s < 12; s++) {
        int B = shapes[s % 4][0], F = shapes[s % 4][1], r = s / 4, n = B * F;
        const float *x = golden("loss", "cross_entropy.%dx%d.x", B, F)->v;
        const int32_t *labels = golden_labels(B, F);
        float want = golden("loss", "cross_entropy.%dx%d.%s.loss", B, F, reduction_keys[r])->v[0];
        const float *dx = golden("loss", "cross_entropy.%dx%d.%s.dx", B, F, reduction_keys[r])->v;
        for (int e = 0; e < 3; e++) {
            float loss = test_nan(), *got = OUT(n);
            test_context("%dx%d, %s, %s", B, F, reduction_keys[r], test_exec_text(e));
            CHECK_INT(ae_cross_entropy_forward(test_exec_at(e), &loss, x, labels, reductions[r],
                                               B, F), AE_SUCCESS);
            CHECK_CLOSE(loss, want, 1e-6 * fabs((double)want) + 3e-7);
            ae_cross_entropy_backward(test_exec_at(e), got, dloss, x, labels, reductions[r], B, F);
            CHECK_ARRAY(got, dx, n, 3e-7, 1e-5);
        }
    }
}

typedef struct entropy_args {
    float *x;
    const int32_t *labels;
    ae_reduction r;
} entropy_args;

static double entropy_of(void *arg)
{
    const entropy_args *p = (const entropy_args *)arg;
    float loss = 0;
    ae_cross_entropy_forward(test_exec(), &loss, p->x, p->labels, p->r, 3, 5);
    return 0.7 * (double)loss;
}

TEST(cross_entropy_gradient)
{
    static const int32_t labels[3] = { 4, 0, 2 };
    entropy_args p;
    p.x = DATA_IN(15, -1, 1.3, 1);
    p.labels = labels;
    for (int r = 0; r < 3; r++) {
        float *dx = OUT(15);
        p.r = reductions[r];
        test_context("%s", reduction_keys[r]);
        for (int twice = 0; twice < 2; twice++) {
            ae_cross_entropy_backward(test_exec(), dx, 0.7f, p.x, labels, p.r, 3, 5);
            // the loss, about 1.7, is rounded: 1e-7 / h = 3e-6 of slopes about 0.1
            CHECK_GRADIENT(dx, p.x, 15, 1.0 / 32, 1e-4, entropy_of, &p);
        }
    }
}

TEST(cross_entropy_labels)
{
    static const int32_t bad[] = { -1, 5, 1000, INT32_MAX, INT32_MIN };
    float *x = DATA(15, 1), loss;
    for (int e = 0; e < 3; e++)
        for (int i = 0; i < 5; i++)
            for (int at = 0; at < 3; at++) {
                int32_t labels[3] = { 4, 0, 2 };
                test_context("label %ld of sample %d", (long)bad[i], at);
                labels[at] = bad[i];
                CHECK_INT(ae_cross_entropy_forward(test_exec_at(e), &loss, x, labels, AE_MEAN,
                                                   3, 5), AE_E_ARG);
            }
}

/* Logits of any size: the loss is their difference, the gradient 1, -1 or 0. */
TEST(cross_entropy_limits)
{
    static const int32_t labels[2] = { 0, 1 };
    float x[6] = { 1e30f, 0, -1e30f, 1000, -1000, 0 }, dx[6], loss;
    static const float want[6] = { 0, 0, 0, 1, -1, 0 };
    for (int e = 0; e < 3; e++) {
        test_context("%s", test_exec_text(e));
        CHECK_INT(ae_cross_entropy_forward(test_exec_at(e), &loss, x, labels, AE_SUM, 2, 3),
                  AE_SUCCESS);
        CHECK_CLOSE(loss, 2000, 0);
        ae_cross_entropy_backward(test_exec_at(e), dx, 1, x, labels, AE_SUM, 2, 3);
        CHECK_ARRAY(dx, want, 6, 0, 0);
    }
}

TEST(cross_entropy_same_bits_for_any_threads)
{
    enum { B = 301, F = 131, N = B * F };
    float *x = DATA_IN(N, -4, 5, 1), *dx1 = OUT(N), loss1 = 0;
    int32_t *labels = INTS(B);
    for (int b = 0; b < B; b++) labels[b] = (int32_t)(b * 7 % F);
    for (int i = 1; i < TEST_EXECS; i++) {
        float *dx = i == 1 ? dx1 : OUT(N), loss = 0;
        test_context("%s", test_exec_text(i));
        ae_cross_entropy_forward(test_exec_at(i), &loss, x, labels, AE_MEAN, B, F);
        ae_cross_entropy_backward(test_exec_at(i), dx, 1, x, labels, AE_MEAN, B, F);
        if (i == 1) loss1 = loss;
        CHECK_BITS(&loss, &loss1, 1);
        CHECK_BITS(dx, dx1, N);
    }
}

TEST_LIST(loss) {
    CASE(loss_formulas),
    CASE(loss_golden),
    CASE(loss_gradient),
    CASE(loss_backward_null),
    CASE(loss_bce_range),
    CASE(loss_accuracy),
    CASE(loss_bce_tiny),
    CASE(loss_long_sum),
    CASE(loss_same_bits_for_any_threads),
    CASE(cross_entropy_formula),
    CASE(cross_entropy_golden),
    CASE(cross_entropy_gradient),
    CASE(cross_entropy_labels),
    CASE(cross_entropy_limits),
    CASE(cross_entropy_same_bits_for_any_threads),
    CASE_END
};
