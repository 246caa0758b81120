/* Codes: samples, densities, bounds, codebooks: against formulas in double and PyTorch. */
#include "test.h"

static const ae_reduction reductions[3] = { AE_MEAN, AE_BATCH_MEAN, AE_SUM };
static const char *const reduction_keys[3] = { "mean", "batch_mean", "sum" };
static const int sizes[][2] = {     // B, F
    { 1, 1 }, { 3, 5 }, { 31, 1 }, { 1, 33 }, { 7, 33 }, { 257, 1 }, { 8, 125 }
};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

static double divisor(ae_reduction r, int B, int F)
{
    return r == AE_MEAN ? (double)B * F : r == AE_BATCH_MEAN ? B : 1;
}

static ae_random random_of(uint64_t seed)
{
    ae_random r;
    r.seed = seed;
    r.step = 7;
    r.stream = 9;
    return r;
}

/* e^v, along its tangent beyond 20, and its slope. */
static double grow(double v)
{
    return v > 20 ? exp(20.0) * (v - 19) : exp(v);
}

static double grow_slope(double v)
{
    return exp(v > 20 ? 20.0 : v);
}

/* --- samples -------------------------------------------------------------- */

TEST(gaussian_sample_formula)
{
    enum { N = 1000 };
    float *mu = DATA(N, 1), *logvar = DATA_IN(N, -4, 4, 2), *normal = OUT(N), *z = OUT(N);
    float *slope = OUT(N), *part = OUT(N), *dz = DATA(N, 3), *dmu = OUT(N), *dlogvar = OUT(N);
    double *want = DOUBLES(N), *slopes = DOUBLES(N);
    ae_random r = random_of(3);
    logvar[5] = 100;
    logvar[6] = -100;
    logvar[7] = 41;
    ae_random_normal(normal, N, 17, r);
    for (int i = 0; i < N; i++) {
        double half = 0.5 * (double)logvar[i];
        want[i] = (double)mu[i] + grow(half) * (double)normal[i];
        slopes[i] = 0.5 * grow_slope(half) * (double)normal[i];
    }
    ae_gaussian_sample_forward(test_exec(), z, slope, mu, logvar, 17, r, N);
    CHECK_REF(z, want, N, 1e-7, 1e-6);
    CHECK_REF(slope, slopes, N, 0, 1e-6);
    for (int cut = 0; cut < N; cut += 77) {     // any split: the same bits; slope may be NULL
        int n = N - cut < 77 ? N - cut : 77;
        ae_gaussian_sample_forward(test_exec_bare(), part + cut, NULL, mu + cut, logvar + cut,
                                   17 + (size_t)cut, r, (size_t)n);
    }
    CHECK_BITS(part, z, N);
    ae_gaussian_sample_backward(test_exec(), dmu, dlogvar, dz, slope, N);
    CHECK_BITS(dmu, dz, N);
    for (int i = 0; i < N; i++) want[i] = (double)dz[i] * slopes[i];
    CHECK_REF(dlogvar, want, N, 0, 2e-6);
    ae_gaussian_sample_backward(test_exec(), NULL, part, dz, slope, N);
    CHECK_BITS(part, dlogvar, N);
    ae_gaussian_sample_backward(test_exec(), dz, NULL, dz, slope, N);   // dmu may be dz
    CHECK_BITS(dz, dmu, N);
}

TEST(gaussian_sample_moments)
{
    enum { N = 200000 };
    float *mu = DATA_IN(N, 0.8, 0.8, 1), *logvar = DATA_IN(N, 0, 0, 2), *z = OUT(N);
    for (int i = 0; i < N; i++) {
        mu[i] = 0.8f;
        logvar[i] = 2 * logf(0.5f);
    }
    ae_gaussian_sample_forward(test_exec(), z, NULL, mu, logvar, 0, random_of(1), N);
    double mean = 0, square = 0;
    for (int i = 0; i < N; i++) mean += (double)z[i] / N;
    for (int i = 0; i < N; i++) square += pow((double)z[i] - mean, 2) / N;
    CHECK_CLOSE(mean, 0.8, 4 * 0.5 / sqrt((double)N));                  // 4 deviations
    CHECK_CLOSE(square, 0.25, 4 * 0.25 * sqrt(2.0 / N));
}

TEST(one_hot_formula)
{
    static const int32_t labels[5] = { 3, 0, 2, 3, 1 };
    float *y = OUT(20);
    CHECK_INT(ae_one_hot_forward(test_exec(), y, labels, 5, 4), AE_SUCCESS);
    for (int i = 0; i < 20; i++) CHECK_CLOSE(y[i], labels[i / 4] == i % 4 ? 1 : 0, 0);
    CHECK_INT(ae_one_hot_forward(test_exec(), y, labels, 5, 3), AE_E_ARG);
    int32_t negative = -1;
    CHECK_INT(ae_one_hot_forward(test_exec(), y, &negative, 1, 3), AE_E_ARG);
}

/* --- KL ------------------------------------------------------------------- */

TEST(kl_normal_formula)
{
    float mu = 0.8f, logvar = 2 * logf(0.5f), loss;
    ae_kl_normal_forward(test_exec(), &loss, &mu, &logvar, 0, AE_SUM, 1, 1);
    CHECK_CLOSE(loss, 0.6381, 5e-5);
    for (int s = 0; s < SIZES; s++)
        for (int k = 0; k < 9; k++) {
            int B = sizes[s][0], F = sizes[s][1], n = B * F;
            ae_reduction r = reductions[k % 3];
            float nats = k < 3 ? 0.0f : k < 6 ? 0.7f : 0.01f;
            float *m = DATA(n, 1), *v = DATA_IN(n, -3, 2, 2), *dm = OUT(n), *dv = OUT(n);
            double sum = 0, by = divisor(r, B, F), *want_m = DOUBLES(n), *want_v = DOUBLES(n);
            test_context("%dx%d, %s, %g free", B, F, reduction_keys[k % 3], (double)nats);
            for (int j = 0; j < F; j++) {
                double unit = 0;
                for (int i = j; i < n; i += F) {
                    double a = (double)m[i], b = (double)v[i];
                    unit += 0.5 * (a * a + exp(b) - 1 - b) / B;
                }
                int held = unit < (double)nats;
                sum += B * (held ? (double)nats : unit);
                for (int i = j; i < n; i += F) {
                    want_m[i] = held ? 0 : -1.7 / by * (double)m[i];
                    want_v[i] = held ? 0 : -1.7 / by * 0.5 * (exp((double)v[i]) - 1);
                }
            }
            ae_kl_normal_forward(test_exec(), &loss, m, v, nats, r, B, F);
            CHECK_CLOSE(loss, sum / by, 1e-6 * sum / by);
            ae_kl_normal_backward(test_exec(), dm, dv, -1.7f, m, v, nats, r, B, F);
            CHECK_REF(dm, want_m, n, 0, 1e-6);
            CHECK_REF(dv, want_v, n, 2e-7 / by, 2e-6);
            float *alone = OUT(n);
            ae_kl_normal_backward(test_exec(), alone, NULL, -1.7f, m, v, nats, r, B, F);
            CHECK_BITS(alone, dm, n);
            ae_kl_normal_backward(test_exec(), NULL, alone, -1.7f, m, v, nats, r, B, F);
            CHECK_BITS(alone, dv, n);
        }
}

/* Log-variances of any size: everything is finite, and the gradient leads back. */
TEST(logvar_extremes)
{
    static const float values[] = { -100, -88, -30, -20.5f, 20.5f, 30, 88, 100 };
    for (int i = 0; i < 8; i++) {
        float v = values[i], mu = 0.3f, z = 1.2f, one = 1, loss, dm, dv, dz, y;
        test_context("%g", (double)v);
        ae_kl_normal_forward(test_exec(), &loss, &mu, &v, 0, AE_SUM, 1, 1);
        CHECK_CLOSE(loss, 0.5 * (0.09 + grow((double)v) - 1 - (double)v),
                    1e-6 * fabs((double)loss));
        ae_kl_normal_backward(test_exec(), &dm, &dv, 1, &mu, &v, 0, AE_SUM, 1, 1);
        CHECK_CLOSE(dv, 0.5 * (grow_slope((double)v) - 1), 1e-6 * fabs((double)dv));
        CHECK(v > 0 ? dv > 0 : dv < 0);
        ae_log_normal_forward(test_exec(), &y, &z, &mu, &v, 1, 1);
        CHECK_CLOSE(y, -0.5 * ((double)v + 0.81 * grow(-(double)v) + log(6.283185307179586)),
                    1e-6 * fabs((double)y));
        ae_log_normal_backward(test_exec(), &dz, &dm, &dv, &one, &z, &mu, &v, 1, 1);
        CHECK_CLOSE(dv, 0.5 * (0.81 * grow_slope(-(double)v) - 1), 1e-6 * fabs((double)dv));
        CHECK(v > 0 ? dv < 0 : dv > 0);         // of a likelihood, which is maximised
        CHECK(test_is_finite(dz) && test_is_finite(dm));
    }
    float bad[2] = { 0, 0 }, zero[2] = { 0, 0 }, loss, dm[2], dv[2];
    bad[1] = test_nan();
    for (int i = 0; i < 2; i++) {
        ae_kl_normal_forward(test_exec(), &loss, i ? bad : zero, i ? zero : bad, 0.5f, AE_SUM, 1,
                             2);
        CHECK(test_is_nan(loss));
        ae_kl_normal_backward(test_exec(), dm, dv, 1, i ? bad : zero, i ? zero : bad, 0, AE_SUM, 1,
                              2);
        CHECK(test_is_nan(i ? dm[1] : dv[1]));
        ae_log_normal_forward(test_exec(), &loss, zero, i ? bad : zero, i ? zero : bad, 1, 2);
        CHECK(test_is_nan(loss));
    }
}

/* --- densities ------------------------------------------------------------ */

TEST(log_normal_formula)
{
    for (int s = 0; s < SIZES; s++)
        for (int kind = 0; kind < 3; kind++) {      // standard, unit variance, both
            int B = sizes[s][0], F = sizes[s][1], n = B * F;
            float *z = DATA_IN(n, -2, 2, 1), *mu = kind > 0 ? DATA(n, 2) : NULL, *y = OUT(B);
            float *v = kind > 1 ? DATA_IN(n, -2, 2, 3) : NULL, *dy = DATA(B, 4);
            float *dz = OUT(n), *dm = mu ? OUT(n) : NULL, *dv = v ? OUT(n) : NULL;
            double *want = DOUBLES(B), *wz = DOUBLES(n), *wm = DOUBLES(n), *wv = DOUBLES(n);
            for (int i = 0; i < n; i++) {
                double d = (double)z[i] - (mu ? (double)mu[i] : 0), u = v ? (double)v[i] : 0;
                want[i / F] += -0.5 * (u + d * d / exp(u) + log(2 * 3.14159265358979324));
                wz[i] = -(double)dy[i / F] * d / exp(u);
                wm[i] = -wz[i];
                wv[i] = (double)dy[i / F] * 0.5 * (d * d / exp(u) - 1);
            }
            test_context("%dx%d, %d", B, F, kind);
            ae_log_normal_forward(test_exec(), y, z, mu, v, B, F);
            CHECK_REF(y, want, B, 1e-6, 1e-6);
            ae_log_normal_backward(test_exec(), dz, dm, dv, dy, z, mu, v, B, F);
            CHECK_REF(dz, wz, n, 1e-6, 1e-6);
            if (dm) CHECK_REF(dm, wm, n, 1e-6, 1e-6);
            if (dv) CHECK_REF(dv, wv, n, 1e-6, 2e-6);
            ae_log_normal_backward(test_exec(), NULL, NULL, NULL, dy, z, mu, v, B, F);
        }
}

TEST(density_golden)
{
    static const int shapes[3][2] = { { 3, 5 }, { 1, 1 }, { 7, 11 } };
    for (int i = 0; i < 3; i++) {
        int B = shapes[i][0], F = shapes[i][1], n = B * F;
        const float *mu = golden("latent", "density%d.mu", i)->v, *y;
        const float *v = golden("latent", "density%d.logvar", i)->v;
        const float *z = golden("latent", "density%d.z", i)->v;
        const float *x = golden("latent", "density%d.x", i)->v;
        const float *t = golden("latent", "density%d.t", i)->v;
        const float *dy = golden("latent", "density%d.dy", i)->v;
        float *a = OUT(n), *b = OUT(n), *c = OUT(n), *got = OUT(B), loss;
        for (int k = 0; k < 6; k++) {
            float nats = k < 3 ? 0.0f : 0.6f;
            char key[60];
            snprintf(key, sizeof key, "density%d.%s.%s", i, k < 3 ? "kl" : "free",
                     reduction_keys[k % 3]);
            test_context("%s", key);
            ae_kl_normal_forward(test_exec(), &loss, mu, v, nats, reductions[k % 3], B, F);
            y = golden("latent", "%s.loss", key)->v;
            CHECK_CLOSE(loss, y[0], 1e-6 * (double)y[0]);
            ae_kl_normal_backward(test_exec(), a, b, 0.7f, mu, v, nats, reductions[k % 3], B, F);
            CHECK_ARRAY(a, golden("latent", "%s.dmu", key)->v, n, 1e-7, 1e-6);
            CHECK_ARRAY(b, golden("latent", "%s.dlogvar", key)->v, n, 1e-7, 1e-6);
        }
        static const char *const kinds[3] = { "standard", "unit", "normal" };
        for (int k = 0; k < 3; k++) {
            test_context("%d, %s", i, kinds[k]);
            ae_log_normal_forward(test_exec(), got, z, k > 0 ? mu : NULL, k > 1 ? v : NULL, B, F);
            CHECK_ARRAY(got, golden("latent", "density%d.%s.y", i, kinds[k])->v, B, 1e-6, 1e-6);
            ae_log_normal_backward(test_exec(), a, b, c, dy, z, k > 0 ? mu : NULL,
                                   k > 1 ? v : NULL, B, F);
            CHECK_ARRAY(a, golden("latent", "density%d.%s.dz", i, kinds[k])->v, n, 1e-6, 2e-6);
            if (k > 0)
                CHECK_ARRAY(b, golden("latent", "density%d.%s.dmu", i, kinds[k])->v, n, 1e-6, 2e-6);
            if (k > 1)
                CHECK_ARRAY(c, golden("latent", "density%d.%s.dlogvar", i, kinds[k])->v, n, 1e-6,
                            2e-6);
        }
        test_context("%d, bernoulli", i);
        CHECK_INT(ae_log_bernoulli_forward(test_exec(), got, x, t, B, F), AE_SUCCESS);
        CHECK_ARRAY(got, golden("latent", "density%d.bernoulli.y", i)->v, B, 1e-6, 1e-6);
        ae_log_bernoulli_backward(test_exec(), a, b, dy, x, t, B, F);
        CHECK_ARRAY(a, golden("latent", "density%d.bernoulli.dx", i)->v, n, 1e-7, 2e-6);
        CHECK_ARRAY(b, golden("latent", "density%d.bernoulli.dt", i)->v, n, 1e-7, 2e-6);
        ae_log_bernoulli_backward(test_exec(), NULL, c, dy, x, t, B, F);
        CHECK_BITS(c, b, n);
        ae_log_bernoulli_backward(test_exec(), c, NULL, dy, x, t, B, F);
        CHECK_BITS(c, a, n);
    }
    float x = 1, t = 1.01f, y;
    CHECK_INT(ae_log_bernoulli_forward(test_exec(), &y, &x, &t, 1, 1), AE_E_ARG);
    t = test_nan();
    CHECK_INT(ae_log_bernoulli_forward(test_exec(), &y, &x, &t, 1, 1), AE_E_ARG);
}

/* --- IWAE ----------------------------------------------------------------- */

TEST(iwae_formula)
{
    static const int shapes[][2] = { { 1, 1 }, { 12, 4 }, { 12, 1 }, { 5, 5 }, { 100, 50 } };
    for (int s = 0; s < 5; s++)
        for (int r = 0; r < 3; r++) {
            int B = shapes[s][0], k = shapes[s][1], groups = B / k;
            float *px = DATA_IN(B, -900, -880, 1), *pz = DATA_IN(B, -9, 0, 2);
            float *qz = DATA_IN(B, -5, 5, 3), *dw = OUT(B), loss;
            double by = reductions[r] == AE_SUM ? 1 : groups, sum = 0, *want = DOUBLES(B);
            for (int g = 0; g < groups; g++) {
                double top = -1e9, total = 0;
                for (int i = g * k; i < g * k + k; i++) {
                    double w = (double)px[i] + (double)pz[i] - (double)qz[i];
                    if (w > top) top = w;
                }
                for (int i = g * k; i < g * k + k; i++)
                    total += want[i] = exp((double)px[i] + (double)pz[i] - (double)qz[i] - top);
                sum += -(top + log(total / k)) / by;
                for (int i = g * k; i < g * k + k; i++) want[i] *= 1.7 / total / by;
            }
            test_context("%d of %d, %s", k, B, reduction_keys[r]);
            ae_iwae_forward(test_exec(), &loss, px, pz, qz, k, reductions[r], B);
            CHECK_CLOSE(loss, sum, 1e-7 * fabs(sum));
            ae_iwae_backward(test_exec(), dw, -1.7f, px, pz, qz, k, reductions[r], B);
            CHECK_REF(dw, want, B, 1e-30, 1e-6);
        }
    float px[3] = { -1, -2, -3.5f }, pz[3] = { 0.5f, 0.25f, 1 }, qz[3] = { 1, 2, 3 }, loss;
    ae_iwae_forward(test_exec(), &loss, px, pz, qz, 1, AE_BATCH_MEAN, 3);
    CHECK_CLOSE(loss, -(-1.5 - 3.75 - 5.5) / 3, 1e-6);      // k = 1: the ELBO
    px[1] = test_nan();
    ae_iwae_forward(test_exec(), &loss, px, pz, qz, 3, AE_SUM, 3);
    CHECK(test_is_nan(loss));
}

TEST(iwae_golden)
{
    static const int shapes[][2] = { { 12, 4 }, { 6, 1 }, { 5, 5 }, { 14, 7 } };
    for (int i = 0; i < 8; i++) {
        int s = i / 2, B = shapes[s][0], k = shapes[s][1];
        ae_reduction r = i % 2 ? AE_SUM : AE_MEAN;
        const char *how = i % 2 ? "sum" : "mean";
        const float *px = golden("latent", "iwae%d.px", s)->v, *pz = golden("latent", "iwae%d.pz",
                                                                             s)->v;
        const float *qz = golden("latent", "iwae%d.qz", s)->v;
        float loss, want = golden("latent", "iwae%d.%s.loss", s, how)->v[0], *dw = OUT(B);
        test_context("%d of %d, %s", k, B, how);
        ae_iwae_forward(test_exec(), &loss, px, pz, qz, k, r, B);
        CHECK_CLOSE(loss, want, 2e-7 * fabs((double)want));
        ae_iwae_backward(test_exec(), dw, 0.7f, px, pz, qz, k, r, B);
        CHECK_ARRAY(dw, golden("latent", "iwae%d.%s.dpx", s, how)->v, B, 1e-10, 2e-6);
        CHECK_ARRAY(dw, golden("latent", "iwae%d.%s.dpz", s, how)->v, B, 1e-10, 2e-6);
        ae_iwae_backward(test_exec(), dw, -0.7f, px, pz, qz, k, r, B);
        CHECK_ARRAY(dw, golden("latent", "iwae%d.%s.dqz", s, how)->v, B, 1e-10, 2e-6);
    }
}

/* --- vector quantisation -------------------------------------------------- */

static double distance_to(const float *x, const float *code, int C, int P)
{
    double sum = 0;
    for (int j = 0; j < C; j++) sum += pow((double)x[j * P] - (double)code[j], 2);
    return sum;
}

/* Each pixel's code is the nearest, or as near within rounding; y is that code. */
static void check_nearest(const float *x, const float *codes, int K, int B, int C, int P)
{
    int n = B * C * P, wrong = 0;
    float *y = OUT(n), *want = OUT(n);
    int32_t *index = INTS(B * P);
    memset(index, 0xff, (size_t)(B * P) * sizeof *index);
    ae_vq_forward(test_exec(), y, index, x, codes, K, B, C, P);
    for (int v = 0; v < B * P; v++) {
        const float *at = x + v / P * C * P + v % P;
        double least = 1e300, size = 0;
        int k = index[v];
        if (k < 0 || k >= K) { wrong++; continue; }
        for (int i = 0; i < K; i++) {
            double d = distance_to(at, codes + i * C, C, P);
            least = d < least ? d : least;
        }
        for (int j = 0; j < C; j++) size += pow((double)at[j * P], 2) + 1;
        // the score is a sum of numbers up to `size`
        wrong += !(distance_to(at, codes + k * C, C, P) <= least + 1e-6 * size);
        for (int j = 0; j < C; j++) want[v / P * C * P + j * P + v % P] = codes[k * C + j];
    }
    CHECK_INT(wrong, 0);
    CHECK_BITS(y, want, n);
    CHECK_INT(ae_vq_lookup(want, index, codes, K, B, C, P), AE_SUCCESS);
    CHECK_BITS(want, y, n);
}

TEST(vq_nearest)
{
    static const int shapes[][4] = {        // K B C P
        { 1, 1, 1, 1 }, { 2, 3, 1, 1 }, { 5, 33, 2, 1 }, { 7, 3, 2, 5 }, { 255, 40, 3, 1 },
        { 256, 2, 3, 33 }, { 257, 65, 8, 1 }, { 257, 3, 8, 31 }, { 513, 2, 5, 64 },
        { 600, 70, 17, 1 }, { 300, 2, 64, 36 }, { 3, 1, 300, 2 }, { 31, 32, 33, 1 },
        { 17, 5, 1, 32 }
    };
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        int K = shapes[s][0], B = shapes[s][1], C = shapes[s][2], P = shapes[s][3];
        test_context("%d codes, %dx%dx%d", K, B, C, P);
        check_nearest(DATA(B * C * P, 1), DATA(K * C, 2), K, B, C, P);
    }
    for (int seed = 0; seed < 40; seed++) {     // random shapes
        int K = 1 + seed * 37 % 290, B = 1 + seed % 5, C = 1 + seed * 5 % 19, P = 1 + seed % 3 * 11;
        test_context("%d codes, %dx%dx%d", K, B, C, P);
        check_nearest(DATA(B * C * P, (uint32_t)seed), DATA(K * C, (uint32_t)seed + 100), K, B, C,
                      P);
    }
}

/* A tie goes to the first; a batch alone gives what it gives in a larger one; NaN stays NaN with a
   code that exists. */
TEST(vq_ties_splits_nan)
{
    enum { K = 259, B = 70, C = 3, P = 7 };
    float *codes = DATA(K * C, 1), *x = DATA(B * C * P, 2), *y = OUT(B * C * P), *part;
    int32_t *index = INTS(B * P), *one = INTS(B * P);
    memcpy(codes + 258 * C, codes + 3 * C, C * sizeof(float));
    memcpy(codes + 100 * C, codes + 3 * C, C * sizeof(float));
    for (int j = 0; j < C; j++) x[j * P] = codes[3 * C + j];
    ae_vq_forward(test_exec(), y, index, x, codes, K, B, C, P);
    CHECK_INT(index[0], 3);
    part = OUT(B * C * P);
    for (int b = 0; b < B; b++)
        ae_vq_forward(test_exec(), part + b * C * P, one + b * P, x + b * C * P, codes, K, 1, C, P);
    CHECK_BITS(part, y, B * C * P);
    for (int i = 0; i < B * P; i++) CHECK_INT(one[i], index[i]);
    ae_vq_forward(test_exec(), part, one, x, codes, K, B * P, C, 1);    // as vectors
    for (int b = 0; b < B * P; b++)
        ae_vq_forward(test_exec(), y + b * C, index + b, x + b * C, codes, K, 1, C, 1);
    CHECK_BITS(part, y, B * C * P);
    x[4] = test_nan();
    x[C * P] = test_inf();
    ae_vq_forward(test_exec(), y, index, x, codes, K, B, C, P);
    CHECK(test_is_nan(y[4]) && test_is_finite(y[5]));
    CHECK(!test_is_finite(y[C * P]));
    for (int i = 0; i < B * P; i++) CHECK(index[i] >= 0 && index[i] < K);
    index[3] = K;
    CHECK_INT(ae_vq_lookup(y, index, codes, K, B, C, P), AE_E_ARG);
    index[3] = -1;
    CHECK_INT(ae_vq_lookup(y, index, codes, K, B, C, P), AE_E_ARG);
}

TEST(vq_golden)
{
    static const int shapes[][4] = { { 3, 2, 5, 7 }, { 9, 4, 1, 5 }, { 2, 1, 6, 3 } };
    for (int i = 0; i < 9; i++) {
        int s = i / 3, B = shapes[s][0], C = shapes[s][1], P = shapes[s][2], K = shapes[s][3];
        int n = B * C * P;
        const char *how = reduction_keys[i % 3];
        const float *x = golden("latent", "vq%d.x", s)->v;
        const float *codes = golden("latent", "vq%d.codes", s)->v;
        const float *told = golden("latent", "vq%d.index", s)->v;
        float *y = OUT(n), *dx = OUT(n), *dcodes = DATA_IN(K * C, 1, 1, 0), loss;
        int32_t *index = INTS(B * P);
        test_context("%d, %s", s, how);
        ae_vq_forward(test_exec(), y, index, x, codes, K, B, C, P);
        for (int v = 0; v < B * P; v++) CHECK_INT(index[v], (int)told[v]);
        CHECK_BITS(y, golden("latent", "vq%d.y", s)->v, n);
        float want = golden("latent", "vq%d.%s.loss", s, how)->v[0], less;
        ae_vq_loss_forward(test_exec(), &loss, x, y, 0.3f, 1, reductions[i % 3], B, C, P);
        CHECK_CLOSE(loss, want, 1e-6 * (double)want);
        ae_vq_loss_forward(test_exec(), &less, x, y, 0.3f, 0, reductions[i % 3], B, C, P);
        CHECK_CLOSE(less, (double)want * 0.3 / 1.3, 1e-6 * (double)want);
        ae_vq_loss_backward(test_exec(), dx, dcodes, 0.7f, x, y, index, 0.3f, reductions[i % 3], B,
                            C, P);
        CHECK_ARRAY(dx, golden("latent", "vq%d.%s.dx", s, how)->v, n, 1e-7, 1e-6);
        const float *dc = golden("latent", "vq%d.%s.dcodes", s, how)->v;
        for (int k = 0; k < K * C; k++) CHECK_CLOSE(dcodes[k] - 1.0f, dc[k], 2e-6);   // +=
        float *alone = OUT(n), *again = DATA_IN(K * C, 1, 1, 0);
        ae_vq_loss_backward(test_exec(), alone, NULL, 0.7f, x, y, index, 0.3f, reductions[i % 3], B,
                            C, P);
        CHECK_BITS(alone, dx, n);
        ae_vq_loss_backward(test_exec(), NULL, again, 0.7f, x, y, index, 0.3f, reductions[i % 3], B,
                            C, P);
        CHECK_BITS(again, dcodes, K * C);
    }
}

/* Ten updates against the paper's formulas in double; then codes that start anew. */
TEST(vq_update_formula)
{
    enum { K = 9, B = 11, C = 3, P = 5, V = B * P };
    float *codes = DATA(K * C, 1), *sum = OUT(K * C), *count = OUT(K), *y = OUT(B * C * P);
    double dsum[K * C], dcount[K], eps = 1e-5, decay = 0.875;
    int32_t *index = INTS(V);
    memset(sum, 0, K * C * sizeof *sum);
    memset(count, 0, K * sizeof *count);
    for (int i = 0; i < K * C; i++) dsum[i] = 0;
    for (int i = 0; i < K; i++) dcount[i] = 0;
    for (int j = 0; j < C; j++) codes[4 * C + j] = 50;  // never the nearest: it stays
    for (int step = 0; step < 10; step++) {
        float *x = DATA(B * C * P, 20 + (uint32_t)step);
        double total = 0, *want = DOUBLES(K * C);
        ae_vq_forward(test_exec(), y, index, x, codes, K, B, C, P);
        for (int k = 0; k < K; k++) {
            double seen = 0, of[C] = { 0 };
            for (int v = 0; v < V; v++)
                if (index[v] == k) {
                    seen++;
                    for (int j = 0; j < C; j++) of[j] += (double)x[v / P * C * P + j * P + v % P];
                }
            dcount[k] = decay * dcount[k] + (1 - decay) * seen;
            for (int j = 0; j < C; j++)
                dsum[k * C + j] = decay * dsum[k * C + j] + (1 - decay) * of[j];
            total += dcount[k];
        }
        for (int k = 0; k < K; k++)
            for (int j = 0; j < C; j++)
                want[k * C + j] = dcount[k] > 0
                                  ? dsum[k * C + j] / total * (total + K * eps) / (dcount[k] + eps)
                                  : (double)codes[k * C + j];
        test_context("step %d", step);
        ae_vq_update(test_exec(), codes, sum, count, x, index, 0.875f, 1e-5f, 0, random_of(1), K,
                     B, C, P);
        CHECK_REF(codes, want, K * C, 1e-6, 1e-5);
        CHECK_REF(sum, dsum, K * C, 1e-6, 1e-5);
        CHECK_REF(count, dcount, K, 1e-6, 1e-5);
        CHECK_CLOSE(codes[4 * C], 50, 0);
    }
    float *x = DATA(B * C * P, 99), *before = COPY(codes, K * C), *counts = COPY(count, K);
    ae_vq_forward(test_exec(), y, index, x, codes, K, B, C, P);
    ae_vq_update(test_exec(), codes, NULL, count, x, index, 0.875f, 1e-5f, 5, random_of(1), K, B, C,
                 P);
    CHECK_BITS(codes, before, K * C);                   // only the counts moved
    for (int k = 0; k < K; k++) {
        int seen = 0;
        for (int v = 0; v < V; v++) seen += index[v] == k;
        CHECK_CLOSE(count[k], 0.875 * (double)counts[k] + 0.125 * seen, 1e-5);
    }
    memcpy(count, counts, K * sizeof *count);
    ae_vq_update(test_exec(), codes, sum, count, x, index, 0.875f, 1e-5f, 2, random_of(1), K, B, C,
                 P);
    int anew = 0;
    for (int k = 0; k < K; k++) {
        int seen = 0, of = -1;
        for (int v = 0; v < V; v++) seen += index[v] == k;
        if (0.875 * (double)counts[k] + 0.125 * seen >= 2) continue;
        anew++;
        for (int v = 0; v < V; v++)
            of = distance_to(x + v / P * C * P + v % P, codes + k * C, C, P) > 0 ? of : v;
        CHECK(of >= 0);                                 // a vector of the batch
        CHECK_CLOSE(count[k], 2, 0);
        for (int j = 0; j < C; j++)
            CHECK_CLOSE(sum[k * C + j], 2 * (double)codes[k * C + j], 1e-7);
    }
    CHECK(anew > 0 && anew < K);
}

/* --- MMD ------------------------------------------------------------------ */

TEST(mmd_golden)
{
    static const int shapes[][2] = { { 2, 1 }, { 5, 3 }, { 9, 8 } };
    for (int i = 0; i < 3; i++) {
        int B = shapes[i][0], F = shapes[i][1];
        const float *z = golden("latent", "mmd%d.z", i)->v;
        const float *prior = golden("latent", "mmd%d.prior", i)->v;
        float loss, *dz = OUT(B * F);
        test_context("%d", i);
        ae_mmd_forward(test_exec(), &loss, z, prior, B, F);
        CHECK_CLOSE(loss, golden("latent", "mmd%d.loss", i)->v[0], 2e-6);
        ae_mmd_backward(test_exec(), dz, 0.7f, z, prior, B, F);
        CHECK_ARRAY(dz, golden("latent", "mmd%d.dz", i)->v, B * F, 1e-7, 1e-5);
    }
    enum { B = 400, F = 2 };                    // unbiased: about 0 for the same distribution
    float *z = OUT(B * F), *prior = OUT(B * F), loss;
    ae_random_normal(z, B * F, 0, random_of(1));
    ae_random_normal(prior, B * F, 0, random_of(2));
    ae_mmd_forward(test_exec(), &loss, z, prior, B, F);
    CHECK(fabsf(loss) < 0.03f);
    for (int i = 0; i < B * F; i++) z[i] += 1;
    ae_mmd_forward(test_exec(), &loss, z, prior, B, F);
    CHECK(loss > 0.3f);
}

/* --- linear layers with the weights of another ----------------------------- */

TEST(tied_linear_formula)
{
    static const int shapes[][3] = { { 1, 1, 1 }, { 3, 5, 7 }, { 13, 33, 17 }, { 40, 70, 65 } };
    for (int s = 0; s < 4; s++)
        for (int e = 0; e < 3; e++) {
            int B = shapes[s][0], D = shapes[s][1], O = shapes[s][2];
            const ae_exec *at = test_exec_at(e);
            float *x = DATA(B * O, 1), *w = DATA(O * D, 2), *b = DATA(D, 3), *dy = DATA(B * D, 4);
            float *y = OUT(B * D), *dx = OUT(B * O), *dw = DATA(O * D, 5), *db = DATA(D, 6);
            double *wy = DOUBLES(B * D), *wx = DOUBLES(B * O), *ww = DOUBLES(O * D);
            double *wb = DOUBLES(D);
            for (int i = 0; i < O * D; i++) ww[i] = (double)dw[i];
            for (int d = 0; d < D; d++) wb[d] = (double)db[d];
            for (int i = 0; i < B; i++)
                for (int d = 0; d < D; d++) {
                    wy[i * D + d] = (double)b[d];
                    wb[d] += (double)dy[i * D + d];
                    for (int o = 0; o < O; o++) {
                        wy[i * D + d] += (double)x[i * O + o] * (double)w[o * D + d];
                        wx[i * O + o] += (double)dy[i * D + d] * (double)w[o * D + d];
                        ww[o * D + d] += (double)x[i * O + o] * (double)dy[i * D + d];
                    }
                }
            test_context("%dx%dx%d, %s", B, D, O, test_exec_text(e));
            ae_tied_linear_forward(at, y, x, w, b, B, D, O);
            CHECK_REF_L2(y, wy, B * D, 1e-6);
            ae_tied_linear_backward(at, dx, dw, db, dy, x, w, B, D, O);
            CHECK_REF_L2(dx, wx, B * O, 1e-6);
            CHECK_REF_L2(dw, ww, O * D, 1e-6);
            CHECK_REF_L2(db, wb, D, 1e-6);
            float *plain = OUT(B * D);
            ae_tied_linear_forward(at, plain, x, w, NULL, B, D, O);
            for (int i = 0; i < B * D; i++) wy[i] -= (double)b[i % D];
            CHECK_REF_L2(plain, wy, B * D, 1e-6);
            ae_tied_linear_backward(at, NULL, NULL, NULL, dy, x, w, B, D, O);
        }
}

/* --- any threads ----------------------------------------------------------- */

TEST(latent_threads)
{
    enum { B = 70, C = 33, P = 5, K = 270, N = B * C * P };
    float *x = DATA(N, 1), *codes = DATA(K * C, 2), *first[3], *out[3], loss[3], told[3];
    int32_t *index = INTS(B * P);
    for (int e = 1; e < TEST_EXECS; e++) {
        const ae_exec *at = test_exec_at(e);
        test_context("%s", test_exec_text(e));
        for (int i = 0; i < 3; i++) out[i] = DATA(N, 9);
        ae_vq_forward(at, out[0], index, x, codes, K, B, C, P);
        ae_vq_loss_forward(at, &loss[0], x, out[0], 0.3f, 1, AE_MEAN, B, C, P);
        ae_tied_linear_forward(at, out[1], x, codes, NULL, P, C, K);
        ae_tied_linear_backward(at, NULL, out[2], NULL, x, codes, codes, P, C, K);
        ae_kl_normal_forward(at, &loss[1], x, out[0], 0, AE_MEAN, B, C * P);
        ae_mmd_forward(at, &loss[2], x, out[0], 20, C);
        if (e == 1) {
            memcpy(first, out, sizeof first);
            memcpy(told, loss, sizeof told);
        }
        CHECK_BITS(loss, told, 3);
        for (int i = 0; i < 3; i++) CHECK_BITS(out[i], first[i], N);
    }
}

TEST_LIST(latent) {
    CASE(gaussian_sample_formula),
    CASE(gaussian_sample_moments),
    CASE(one_hot_formula),
    CASE(kl_normal_formula),
    CASE(logvar_extremes),
    CASE(log_normal_formula),
    CASE(density_golden),
    CASE(iwae_formula),
    CASE(iwae_golden),
    CASE(vq_nearest),
    CASE(vq_ties_splits_nan),
    CASE(vq_golden),
    CASE(vq_update_formula),
    CASE(mmd_golden),
    CASE(tied_linear_formula),
    CASE(latent_threads),
    CASE_END
};
