/* Principal components and scores: against numpy, plain definitions in double, and contracts. */
#include "net.h"
#include <float.h>

static ae_dataset floats_of(const float *x, const int32_t *labels, size_t n, int features)
{
    ae_dataset d;
    memset(&d, 0, sizeof d);
    d.floats = x;
    d.labels = labels;
    d.n = n;
    d.c = features;
    d.h = d.w = 1;
    return d;
}

/* --- principal components -------------------------------------------------- */

/* The covariance of d by its definition, in double. */
static double *covariance(const ae_dataset *d, int D)
{
    float *x = OUT(D);
    double *mean = DOUBLES(D), *c = DOUBLES(D * D);
    for (size_t i = 0; i < d->n; i++) {
        REQUIRE(!ae_dataset_get(d, x, NULL, i, 1));
        for (int j = 0; j < D; j++) mean[j] += (double)x[j] / (double)d->n;
    }
    for (size_t i = 0; i < d->n; i++) {
        ae_dataset_get(d, x, NULL, i, 1);
        for (int j = 0; j < D; j++)
            for (int k = 0; k <= j; k++)
                c[j * D + k] += ((double)x[j] - mean[j]) * ((double)x[k] - mean[k])
                                / (double)(d->n - 1);
    }
    for (int j = 0; j < D; j++)
        for (int k = j + 1; k < D; k++) c[j * D + k] = c[k * D + j];
    return c;
}

/* That p has the first K eigenvectors of the covariance: orthonormal rows w with C w = variance w,
   falling variances, signs; with K = D nothing else can be an eigenvector. */
static void check_pca(const ae_pca *p, const ae_dataset *d, double tol)
{
    int D = p->D, K = p->K;
    const double *c = covariance(d, D);
    double total = 0;
    for (int j = 0; j < D; j++) total += c[j * D + j];
    CHECK_CLOSE(p->total, total, 1e-6 * total + 1e-25);
    for (int k = 0; k < K; k++) {
        const float *w = p->components + (size_t)k * (size_t)D;
        int most = 0;
        CHECK(p->variance[k] >= 0 && (k == 0 || p->variance[k] <= p->variance[k - 1]));
        for (int j = 1; j < D; j++)
            if (fabsf(w[j]) > fabsf(w[most])) most = j;
        CHECK(w[most] > 0);
        for (int l = 0; l <= k; l++) {
            double dot = 0;
            for (int j = 0; j < D; j++) dot += (double)w[j] * (double)p->components[l * D + j];
            CHECK_CLOSE(dot, l == k, 3e-7);         // rounded to float
        }
        for (int i = 0; i < D; i++) {
            double sum = 0;
            for (int j = 0; j < D; j++) sum += c[i * D + j] * (double)w[j];
            CHECK_CLOSE(sum, p->variance[k] * (double)w[i], tol * total + 1e-25);
        }
    }
}

TEST(pca_golden)
{
    static const char *names[] = { "pca_tall", "pca_wide" };
    for (int i = 0; i < 2; i++) {
        const test_record *x = golden("scores", "%s.x", names[i]);
        const test_record *variance = golden("scores", "%s.variance", names[i]);
        int n = x->dim[0], D = x->dim[1], K = 5;
        for (int t = 0; t < TEST_EXECS; t++) {
            const ae_exec *e = test_exec_at(t);
            ae_pca p;
            float *codes = OUT(n * K), *back = OUT(n * D);
            ae_dataset d = floats_of(x->v, NULL, (size_t)n, D);
            test_context("%s, %s", names[i], test_exec_text(t));
            REQUIRE(!ae_pca_fit(e, &p, net_arena(1 << 20), &d, K));
            CHECK_INT(p.D, D);
            CHECK_INT(p.K, K);
            // products are rounded to 2e-7 of the largest variance
            CHECK_ARRAY(p.mean, golden("scores", "%s.mean", names[i])->v, D, 1e-6, 1e-6);
            CHECK_ARRAY(p.components, golden("scores", "%s.components", names[i])->v, K * D, 2e-5,
                        0);
            for (int k = 0; k < K; k++)
                CHECK_CLOSE(p.variance[k], variance->v[k], 1e-6 * (double)variance->v[0]);
            CHECK_CLOSE(p.total, golden("scores", "%s.total", names[i])->v[0], 1e-6 * p.total);
            ae_pca_encode(e, &p, codes, x->v, (size_t)n);
            ae_pca_decode(e, &p, back, codes, (size_t)n);
            CHECK_ARRAY_L2(codes, golden("scores", "%s.codes", names[i])->v, n * K, 1e-5);
            CHECK_ARRAY_L2(back, golden("scores", "%s.decoded", names[i])->v, n * D, 1e-5);
        }
    }
}

/* All of it, larger than every block inside, also with fewer samples than values. */
TEST(pca_whole)
{
    static const int shapes[][2] = { { 2, 1 }, { 3, 2 }, { 5, 4 }, { 4, 9 }, { 531, 37 },
                                     { 40, 261 } };
    for (int s = 0; s < 6; s++) {
        int n = shapes[s][0], D = shapes[s][1];
        float *x = DATA(n * D, (uint32_t)s);
        ae_dataset d = floats_of(x, NULL, (size_t)n, D);
        ae_pca p, few;
        test_context("%d x %d", n, D);
        for (int i = D; i < n * D; i++)         // neighbours have to do with each other
            x[i] += 0.7f * x[i - 1];
        REQUIRE(!ae_pca_fit(test_exec(), &p, net_arena(1 << 22), &d, D));
        check_pca(&p, &d, 1e-6);
        for (int k = n; k < D; k++) CHECK(p.variance[k] < 1e-6 * p.total);
        // fewer components are the first ones
        int K = (D + 3) / 4;
        REQUIRE(!ae_pca_fit(test_exec(), &few, net_arena(1 << 22), &d, K));
        CHECK_BITS(few.components, p.components, K * D);
        // all of them lose nothing
        float *codes = OUT(n * D), *back = OUT(n * D);
        ae_pca_encode(test_exec(), &p, codes, x, (size_t)n);
        ae_pca_decode(test_exec(), &p, back, codes, (size_t)n);
        CHECK_ARRAY(back, x, n * D, 1e-5, 0);
        p.K = K;
        ae_pca_encode(test_exec(), &p, codes, x, (size_t)n);
        ae_pca_encode(test_exec(), &few, back, x, (size_t)n);
        CHECK_BITS(codes, back, n * K);
    }
}

/* Equal eigenvalues, blocks that have nothing to do with each other, values that never change. */
TEST(pca_degenerate)
{
    enum { D = 24, N = 96 };
    float *x = OUT(N * D);
    ae_dataset d = floats_of(x, NULL, N, D);
    for (int kind = 0; kind < 5; kind++) {
        ae_pca p;
        const float *r = DATA(N * D, 8);
        test_context("kind %d", kind);
        for (int i = 0; i < N; i++)
            for (int j = 0; j < D; j++) {
                int on = i % D == j;
                x[i * D + j] = kind == 0 ? (float)on            // D - 1 equal ones and a 0
                    : kind == 1 ? 0.25f                         // all 0
                    : kind == 2 ? (float)(j % 2 ? 0 : (i >> j / 8 & 1))     // three directions
                    : kind == 3 ? (float)on * (j < 12 ? 1.0f : 1.0f + 1e-6f)    // all but equal
                    // nothing to speak of beside the last two: differences of equal numbers
                    : (r[i * D + j] + 2 * r[i * D]) * (j < 22 ? 1e-8f : 1.0f);
            }
        REQUIRE(!ae_pca_fit(test_exec(), &p, net_arena(1 << 20), &d, D));
        check_pca(&p, &d, 1e-6);
        if (kind == 1) {
            CHECK(p.total <= 0 && p.variance[0] <= 0);
            CHECK_CLOSE(p.mean[D - 1], 0.25, 0);
        }
        if (kind == 2) CHECK(p.variance[2] > 0.1 && p.variance[3] < 1e-6);
    }
}

/* Offsets and sizes of the values change the components by nothing but rounding. */
TEST(pca_scales)
{
    enum { D = 9, N = 300, K = 4 };
    static const float scales[] = { 1e-30f, 1e-4f, 4096.0f, 1e30f };
    float *x = DATA(N * D, 3), *y = OUT(N * D), *codes = OUT(N * K), *want = OUT(N * K);
    ae_pca p, q;
    ae_dataset d = floats_of(x, NULL, N, D);
    for (int i = 0; i < N * D; i++) x[i] *= (float)(1 + i % D);
    REQUIRE(!ae_pca_fit(test_exec(), &p, net_arena(1 << 20), &d, K));
    ae_pca_encode(test_exec(), &p, want, x, N);
    d.floats = y;
    for (int s = 0; s < 5; s++) {
        double scale = s < 4 ? (double)scales[s] : 1.0, offset = s < 4 ? 0 : 1000;
        test_context("times %g plus %g", scale, offset);
        for (int i = 0; i < N * D; i++) y[i] = (float)((double)x[i] * scale + offset);
        REQUIRE(!ae_pca_fit(test_exec(), &q, net_arena(1 << 20), &d, K));
        double tol = s < 4 ? 1e-5 : 1e-3;           // 1000 + x keeps 3e-5 of x
        CHECK_ARRAY(q.components, p.components, K * D, tol, 0);
        CHECK_CLOSE(q.variance[0] / scale / scale, p.variance[0], tol * p.variance[0]);
        ae_pca_encode(test_exec(), &q, codes, y, N);
        for (int i = 0; i < N * K; i++)
            CHECK_CLOSE((double)codes[i] / scale, (double)want[i], 10 * tol);
    }
    // bytes with an index, normalised, are what their values are
    unsigned char *raw = BYTES(N * D);
    uint32_t *index = (uint32_t *)(void *)INTS(N / 3);
    for (int i = 0; i < N * D; i++) raw[i] = (unsigned char)((x[i] + 9) * 14);
    ae_dataset bytes = floats_of(NULL, NULL, N / 3, D);
    bytes.bytes = raw;
    bytes.index = index;
    bytes.scale = 1.0f / 255.0f;
    for (int i = 0; i < N / 3; i++) index[i] = (uint32_t)(3 * i + 1);
    REQUIRE(!ae_dataset_normalize(&bytes, 0.4f, 0.3f));
    REQUIRE(!ae_pca_fit(test_exec(), &q, net_arena(1 << 20), &bytes, K));
    check_pca(&q, &bytes, 1e-6);
}

TEST(pca_contract)
{
    enum { D = 6, N = 5, K = 2 };
    float *x = DATA(N * D, 1);
    ae_dataset d = floats_of(x, NULL, N, D), none = floats_of(x, NULL, 1, D);
    ae_arena *arena = net_arena(1 << 16);
    ae_pca p, before;
    memset(&p, 0x5A, sizeof p);
    before = p;
    CHECK_INT(ae_pca_fit(test_exec(), &p, arena, &none, 1), AE_E_ARG);
    CHECK_ERROR(arena->error, "pca: 1 samples: it needs at least 2");
    CHECK_INT(ae_pca_fit(test_exec(), &p, arena, NULL, 1), AE_E_ARG);
    CHECK_INT(ae_pca_fit(test_exec(), &p, arena, &d, 0), AE_E_ARG);
    CHECK_INT(ae_pca_fit(test_exec(), &p, arena, &d, D + 1), AE_E_ARG);
    CHECK_ERROR(arena->error, "pca: 7 components of samples of 6 values: there are 1 to 6");
    for (int bad = 0; bad < 2; bad++) {
        float keep = x[2 * D + 4];
        x[2 * D + 4] = bad ? test_nan() : -test_inf();
        CHECK_INT(ae_pca_fit(test_exec(), &p, arena, &d, K), AE_E_NUMERIC);
        CHECK_ERROR(arena->error, "pca: sample 2 has a value that is not finite");
        x[2 * D + 4] = keep;
    }
    CHECK_INT(ae_arena_used(arena), 0);
    // what the contract says it takes and borrows, rounded up to 64 each, and not much less
    size_t takes = 4 * D + K * (4 * D + 8), borrows = 8 * D * (D + K) + 2096 * D;
    for (size_t room = takes; room < takes + borrows; room += 97) {
        ae_arena *small = net_arena(room);
        CHECK_INT(ae_pca_fit(test_exec(), &p, small, &d, K), AE_E_MEMORY);
        CHECK_ERROR(small->error, "pca: 2 components of 6 values need about");
        CHECK_INT(ae_arena_used(small), 0);
    }
    CHECK(memcmp(&p, &before, sizeof p) == 0);
    arena = net_arena(takes + borrows + 128);
    CHECK_INT(ae_pca_fit(test_exec(), &p, arena, &d, K), AE_SUCCESS);
    CHECK_INT(ae_arena_used(arena), (takes + 63) / 64 * 64);
}

/* --- scores of samples ------------------------------------------------------- */

TEST(quantile_golden)
{
    const test_record *x = golden("scores", "quantile.x"), *q = golden("scores", "quantile.q");
    const test_record *want = golden("scores", "quantile.value");
    ae_arena *arena = net_arena(8 * x->n + 64);
    for (size_t i = 0; i < q->n; i++) {
        float value = test_nan();
        REQUIRE(!ae_quantile(&value, arena, x->v, x->n, (double)q->v[i]));
        CHECK_CLOSE(value, want->v[i], 2e-7);       // the rounding of both
    }
    float one = -3.5f, value = 0;
    REQUIRE(!ae_quantile(&value, arena, &one, 1, 1.0));
    CHECK_CLOSE(value, -3.5, 0);
    CHECK_INT(ae_arena_used(arena), 0);
}

/* Sorting by brute force: each value has as many below as its place. */
TEST(quantile_sorts)
{
    enum { N = 700 };
    float *x = DATA(N, 5), value = 0;
    ae_arena *arena = net_arena(8 * N + 64);
    for (int i = 0; i < N; i += 3) x[i] = floorf(x[i] * 4.0f) / 4.0f;   // many are equal, some -0
    for (int n = 1; n <= N; n = n * 3 / 2 + 1)
        for (int i = 0; i < n; i += 1 + n / 40) {
            int below = 0, equal = 0;
            REQUIRE(!ae_quantile(&value, arena, x, (size_t)n, n > 1 ? (double)i / (n - 1) : 0.0));
            for (int j = 0; j < n; j++) {
                below += x[j] < value - 1e-6f;
                equal += fabsf(x[j] - value) <= 1e-6f;
            }
            CHECK(below <= i && i < below + equal);
        }
}

TEST(areas_golden)
{
    for (int i = 0; i < 3; i++) {
        const test_record *scores = golden("scores", "areas%d.scores", i);
        const test_record *positive = golden("scores", "areas%d.positive", i);
        ae_arena *arena = net_arena(8 * scores->n + 64);
        unsigned char *flags = BYTES(scores->n);
        double roc = -1, precision = -1, turned = -1;
        for (size_t j = 0; j < scores->n; j++) flags[j] = positive->v[j] > 0 ? 7 : 0;
        REQUIRE(!ae_auroc(&roc, arena, scores->v, flags, scores->n));
        REQUIRE(!ae_average_precision(&precision, arena, scores->v, flags, scores->n));
        CHECK_CLOSE(roc, golden("scores", "areas%d.auroc", i)->v[0], 1e-7);
        CHECK_CLOSE(precision, golden("scores", "areas%d.precision", i)->v[0], 1e-7);
        for (size_t j = 0; j < scores->n; j++) flags[j] = !flags[j];
        REQUIRE(!ae_auroc(&turned, arena, scores->v, flags, scores->n));
        CHECK_CLOSE(turned, 1.0 - roc, 1e-15);      // the other class is as far below
        CHECK_INT(ae_arena_used(arena), 0);
    }
}

TEST(areas_by_hand)
{
    static const float scores[] = { 4, 3, 3, -0.0f, 0.0f, -1 };
    static const uint8_t best[] = { 1, 1, 1, 0, 0, 0 }, worst[] = { 0, 0, 0, 1, 1, 1 };
    static const uint8_t mixed[] = { 0, 1, 0, 1, 0, 0 }, all[] = { 1, 1, 1, 1, 1, 1 };
    ae_arena *arena = net_arena(1024);
    double v = -1;
    REQUIRE(!ae_auroc(&v, arena, scores, best, 6));
    CHECK_CLOSE(v, 1, 0);
    REQUIRE(!ae_auroc(&v, arena, scores, worst, 6));
    CHECK_CLOSE(v, 0, 0);
    // 3 beats 0, -1 and half of its equal; 0 beats -1 and half of its equal
    REQUIRE(!ae_auroc(&v, arena, scores, mixed, 6));
    CHECK_CLOSE(v, (2.5 + 1.5) / 8, 1e-15);
    REQUIRE(!ae_average_precision(&v, arena, scores, mixed, 6));
    CHECK_CLOSE(v, 0.5 * (1.0 / 3) + 0.5 * (2.0 / 5), 1e-15);
    REQUIRE(!ae_average_precision(&v, arena, scores, all, 6));
    CHECK_CLOSE(v, 1, 0);
}

TEST(scores_contract)
{
    enum { N = 9 };
    float *x = DATA(N, 2), value = 5;
    double v = 5;
    unsigned char *flags = BYTES(N);
    ae_arena *arena = net_arena(8 * N), *small = net_arena(8 * N - 1);
    CHECK_INT(ae_auroc(&v, arena, x, flags, N), AE_E_ARG);
    CHECK_ERROR(arena->error, "auroc: none of 9 samples is positive");
    CHECK_INT(ae_average_precision(&v, arena, x, flags, N), AE_E_ARG);
    CHECK_ERROR(arena->error, "average precision: none of 9 samples is positive");
    memset(flags, 1, N);
    CHECK_INT(ae_auroc(&v, arena, x, flags, N), AE_E_ARG);
    CHECK_ERROR(arena->error, "auroc: all 9 samples are positive");
    flags[3] = 0;
    CHECK_INT(ae_auroc(&v, arena, x, flags, 0), AE_E_ARG);
    CHECK_ERROR(arena->error, "auroc: there is nothing to score");
    CHECK_INT(ae_auroc(&v, small, x, flags, N), AE_E_MEMORY);
    CHECK_ERROR(small->error, "auroc: 9 scores need 8 bytes each, the arena has 71 left");
    CHECK_INT(ae_quantile(&value, small, x, N, 0.5), AE_E_MEMORY);
    CHECK_INT(ae_quantile(&value, arena, x, N, 1.01), AE_E_ARG);
    CHECK_ERROR(arena->error, "quantile: 1.01 is not in 0 ... 1");
    CHECK_INT(ae_quantile(&value, arena, x, N, (double)test_nan()), AE_E_ARG);
    CHECK_INT(ae_quantile(&value, arena, x, 0, 0.5), AE_E_ARG);
    x[7] = test_nan();
    CHECK_INT(ae_quantile(&value, arena, x, N, 0.5), AE_E_NUMERIC);
    CHECK_ERROR(arena->error, "quantile: score 7 is not finite");
    CHECK_INT(ae_average_precision(&v, arena, x, flags, N), AE_E_NUMERIC);
    CHECK_CLOSE(value, 5, 0);
    CHECK_CLOSE(v, 5, 0);
    CHECK_INT(ae_arena_used(arena) + ae_arena_used(small), 0);
    x[7] = 0;
    CHECK_INT(ae_auroc(&v, arena, x, flags, N), AE_SUCCESS);    // 8 n bytes suffice
}

/* --- reconstructions ---------------------------------------------------------- */

TEST(mse_per_sample_plain)
{
    enum { N = 5, F = 1001 };
    float *a = DATA(N * F, 1), *b = DATA(N * F, 2), *out = OUT(N);
    ae_mse_per_sample(out, a, b, N, F);
    for (int i = 0; i < N; i++) {
        double sum = 0;
        for (int j = 0; j < F; j++) sum += pow((double)a[i * F + j] - (double)b[i * F + j], 2);
        CHECK_CLOSE(out[i], sum / F, 1e-7 * sum / F);
    }
    a[F] = test_nan();
    ae_mse_per_sample(out, a, b, N, F);
    CHECK(test_is_finite(out[0]) && test_is_nan(out[1]));
}

TEST(picture_scores_golden)
{
    static const char *names[] = { "small", "wide", "bytes" };
    for (int i = 0; i < 3; i++) {
        const test_record *a = golden("scores", "ssim_%s.a", names[i]);
        const float *b = golden("scores", "ssim_%s.b", names[i])->v;
        float range = golden("scores", "ssim_%s.range", names[i])->v[0];
        double v = -1;
        test_context("%s", names[i]);
        REQUIRE(!ae_ssim(&v, NULL, a->v, b, (size_t)a->dim[0], a->dim[1], a->dim[2], range));
        CHECK_CLOSE(v, golden("scores", "ssim_%s.ssim", names[i])->v[0], 1e-7);
        REQUIRE(!ae_ssim(&v, NULL, a->v, a->v, (size_t)a->dim[0], a->dim[1], a->dim[2], range));
        CHECK_CLOSE(v, 1, 1e-12);
        REQUIRE(!ae_psnr(&v, NULL, a->v, b, a->n, range));
        CHECK_CLOSE(v, golden("scores", "ssim_%s.psnr", names[i])->v[0], 2e-6);
        REQUIRE(!ae_psnr(&v, NULL, a->v, a->v, a->n, range));
        CHECK(v > DBL_MAX / 2);
    }
}

TEST(picture_scores_contract)
{
    float *a = DATA(12 * 12, 1), *b = DATA(12 * 12, 2);
    double v = 5;
    ae_arena *arena = net_arena(64);
    CHECK_INT(ae_ssim(&v, arena, a, b, 1, 10, 14, 1), AE_E_SHAPE);
    CHECK_ERROR(arena->error, "ssim: pictures of 10x14: its windows are 11x11");
    CHECK_INT(ae_ssim(&v, arena, a, b, 0, 12, 12, 1), AE_E_ARG);
    CHECK_INT(ae_ssim(&v, arena, a, b, 1, 12, 12, 0), AE_E_ARG);
    CHECK_ERROR(arena->error, "ssim: range 0: it is the largest value less the smallest");
    CHECK_INT(ae_psnr(&v, arena, a, b, 144, test_inf()), AE_E_ARG);
    CHECK_INT(ae_psnr(&v, arena, a, NULL, 144, 1), AE_E_ARG);
    CHECK_ERROR(arena->error, "psnr: there is nothing to score");
    a[140] = test_inf();
    CHECK_INT(ae_ssim(&v, arena, a, b, 1, 12, 12, 1), AE_E_NUMERIC);
    CHECK_INT(ae_psnr(&v, arena, a, b, 144, 1), AE_E_NUMERIC);
    CHECK_ERROR(arena->error, "psnr: a value is not finite");
    CHECK_CLOSE(v, 5, 0);
}

/* --- codes and labels ----------------------------------------------------------- */

/* Sorts all of train by distance, anew for each sample of test. */
static double knn_plain(const float *x, const int32_t *labels, int n, const float *y,
                        const int32_t *wanted, int m, int F, int k)
{
    double *far = DOUBLES(n);
    int right = 0;
    for (int i = 0; i < m; i++) {
        int order[64], most = 0, winner = 0;
        for (int j = 0; j < n; j++) {
            far[j] = 0;
            for (int f = 0; f < F; f++)
                far[j] += pow((double)x[j * F + f] - (double)y[i * F + f], 2);
        }
        for (int a = 0; a < k; a++) {
            order[a] = -1;
            for (int j = 0; j < n; j++)
                if (order[a] < 0 || far[j] < far[order[a]]) order[a] = j;
            far[order[a]] = DBL_MAX;
        }
        for (int a = k - 1; a >= 0; a--) {          // of equally many the nearest
            int votes = 0;
            for (int b = 0; b < k; b++) votes += labels[order[b]] == labels[order[a]];
            if (votes >= most) { most = votes; winner = labels[order[a]]; }
        }
        right += winner == wanted[i];
    }
    return (double)right / m;
}

TEST(knn_plain)
{
    static const int shapes[][4] = { { 600, 300, 3, 1 }, { 300, 270, 2, 4 }, { 20, 10, 1, 20 },
                                     { 1, 3, 5, 1 }, { 257, 513, 7, 3 }, { 400, 300, 6, 16 } };
    for (int s = 0; s < 6; s++) {
        int n = shapes[s][0], m = shapes[s][1], F = shapes[s][2], k = shapes[s][3];
        float *x = DATA(n * F, (uint32_t)s), *y = DATA(m * F, (uint32_t)s + 9);
        int32_t *labels = INTS(n), *wanted = INTS(m);
        uint32_t *index = (uint32_t *)(void *)INTS(m);
        for (int i = 0; i < n * F; i++) x[i] += 4.0f;
        for (int i = 0; i < m * F; i++) y[i] += 4.0f;
        for (int i = 0; i < n; i++) labels[i] = (int32_t)(x[i * F] * 2.0f) % 3 - 1;
        for (int i = 0; i < m; i++) wanted[i] = (int32_t)(y[i * F] * 2.0f) % 3 - 1;
        for (int i = 0; i < m; i++) index[i] = (uint32_t)(m - 1 - i);   // changes nothing
        double want = knn_plain(x, labels, n, y, wanted, m, F, k);
        ae_dataset train = floats_of(x, labels, (size_t)n, F);
        ae_dataset test = floats_of(y, wanted, (size_t)m, F);
        test.index = index;
        test_context("%d of %d: %g", n, F, want);
        CHECK(n < 100 || (want > 0.5 && want < 0.999));
        for (int t = 0; t < TEST_EXECS; t++) {
            ae_arena *arena = net_arena(1 << 19);
            double got = -1;
            test_context("%d, %d of %d, k %d, %s", n, m, F, k, test_exec_text(t));
            REQUIRE(!ae_knn_accuracy(test_exec_at(t), &got, arena, &train, &test, k));
            CHECK_CLOSE(got, want, 1e-12);
            CHECK_INT(ae_arena_used(arena), 0);
        }
    }
}

/* Which of the first three. */
static int32_t largest(const float *v)
{
    return v[0] > v[1] ? (v[0] > v[2] ? 0 : 2) : (v[1] > v[2] ? 1 : 2);
}

TEST(probe_learns)
{
    enum { N = 700, M = 500, F = 5, ROOM = 1 << 22 };
    float *x = DATA(N * F, 3), *y = DATA(M * F, 4);
    int32_t *labels = INTS(N), *wanted = INTS(M), *noise = INTS(M);
    double got = -1;
    ae_dataset train = floats_of(x, labels, N, F), test = floats_of(y, wanted, M, F);
    ae_arena *arena = net_arena(ROOM);
    for (int i = 0; i < N; i++) labels[i] = largest(x + i * F);         // a linear matter
    for (int i = 0; i < M; i++) wanted[i] = largest(y + i * F);
    for (int i = 0; i < M; i++) noise[i] = (int32_t)((uint32_t)i * 2654435761u >> 16) % 3;
    train.scale = test.scale = 100.0f;      // normalised away
    REQUIRE(!ae_linear_probe(test_exec(), &got, arena, &train, &test, 100));
    test_context("%g", got);
    CHECK(got > 0.97);
    test.labels = noise;
    REQUIRE(!ae_linear_probe(test_exec(), &got, arena, &train, &test, 0));
    CHECK(got > 0.2 && got < 0.45);
    CHECK_INT(ae_arena_used(arena), 0);
    labels[8] = -2;
    got = 5;
    CHECK_INT(ae_linear_probe(NULL, &got, arena, &train, &test, 1), AE_E_ARG);
    CHECK_ERROR(arena->error, "linear probe: cross_entropy1: label -2 of sample");
    labels[8] = 1;
    CHECK_INT(ae_linear_probe(NULL, &got, net_arena(1000), &train, &test, 1), AE_E_MEMORY);
    arena = net_arena(20000);
    CHECK_INT(ae_linear_probe(NULL, &got, arena, &train, &test, 1), AE_E_MEMORY);
    CHECK_ERROR(arena->error, "linear probe: arena too small");
    CHECK_INT(ae_arena_used(arena), 0);
    CHECK_CLOSE(got, 5, 0);
}

TEST(codes_contract)
{
    enum { N = 7, M = 4, F = 3 };
    float *x = DATA(N * F, 3), *y = DATA(M * F, 4);
    int32_t *labels = INTS(N);
    double got = 5;
    ae_dataset train = floats_of(x, labels, N, F), test = floats_of(y, labels, M, F), other = test;
    size_t need = 2048 * (F + 1) + 263168;      // as the contract says
    ae_arena *arena = net_arena(need), *small = net_arena(need - 1);
    CHECK_INT(ae_knn_accuracy(NULL, &got, small, &train, &test, 1), AE_E_MEMORY);
    CHECK_ERROR(small->error, "knn: 1 neighbours of 3 values need 271360 bytes");
    CHECK_INT(ae_knn_accuracy(NULL, &got, arena, &train, &test, 0), AE_E_ARG);
    CHECK_INT(ae_knn_accuracy(NULL, &got, arena, &train, &test, N + 1), AE_E_ARG);
    CHECK_ERROR(arena->error, "knn: 8 neighbours of 7 samples: there are 1 to 7");
    CHECK_INT(ae_knn_accuracy(NULL, &got, arena, NULL, &test, 1), AE_E_ARG);
    CHECK_ERROR(arena->error, "knn: the training set has no samples");
    other.labels = NULL;
    CHECK_INT(ae_knn_accuracy(NULL, &got, arena, &train, &other, 1), AE_E_ARG);
    CHECK_ERROR(arena->error, "knn: the test set has no labels");
    other = test;
    other.n = 0;
    CHECK_INT(ae_linear_probe(NULL, &got, arena, &train, &other, 1), AE_E_ARG);
    CHECK_ERROR(arena->error, "linear probe: the test set has no samples");
    other.n = 2;
    other.c = 4;
    CHECK_INT(ae_knn_accuracy(NULL, &got, arena, &train, &other, 1), AE_E_SHAPE);
    CHECK_ERROR(arena->error, "knn: samples of 3 values to learn from, of 4 to test");
    y[M * F - 1] = test_nan();
    CHECK_INT(ae_knn_accuracy(NULL, &got, arena, &train, &test, 1), AE_E_NUMERIC);
    CHECK_ERROR(arena->error, "knn: the test set has a value that is not finite");
    CHECK_CLOSE(got, 5, 0);
    y[M * F - 1] = 0;
    for (int i = 0; i < N * F; i++) x[i] = 2;       // all of train at one place
    CHECK_INT(ae_knn_accuracy(NULL, &got, arena, &train, &test, 1), AE_SUCCESS);
    CHECK_CLOSE(got, 1, 0);
    CHECK_INT(ae_arena_used(arena) + ae_arena_used(small), 0);
}

TEST_LIST(scores) {
    CASE(pca_golden), CASE(pca_whole), CASE(pca_degenerate), CASE(pca_scales), CASE(pca_contract),
    CASE(quantile_golden), CASE(quantile_sorts), CASE(areas_golden), CASE(areas_by_hand),
    CASE(scores_contract), CASE(mse_per_sample_plain), CASE(picture_scores_golden),
    CASE(picture_scores_contract), CASE(knn_plain), CASE(probe_learns), CASE(codes_contract),
    CASE_END
};
