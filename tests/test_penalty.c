/* Penalties and top-k: against formulas in double, PyTorch, central differences; contracts. */
#include "test.h"

static const ae_reduction reductions[3] = { AE_MEAN, AE_BATCH_MEAN, AE_SUM };
static const char *const reduction_keys[3] = { "mean", "batch_mean", "sum" };

static double divisor(ae_reduction r, int B, int F)
{
    return r == AE_MEAN ? (double)B * F : r == AE_BATCH_MEAN ? B : 1;
}

static const int sizes[][2] = {     // B, F
    { 1, 1 }, { 3, 5 }, { 31, 1 }, { 1, 33 }, { 7, 33 }, { 257, 1 }, { 8, 125 }, { 5, 801 }
};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

/* --- top-k ---------------------------------------------------------------- */

/* Whether x[i] is among the k of row x: fewer than k are above it, or equal and before it. NaN is
   above all. */
static int stays(const float *x, int F, int k, int i)
{
    int before = 0;
    for (int j = 0; j < F; j++) {
        int nan_i = test_is_nan(x[i]), nan_j = test_is_nan(x[j]);
        int equal = nan_i ? nan_j : !nan_j && !(x[j] < x[i]) && !(x[j] > x[i]);
        int above = nan_j ? !nan_i : !nan_i && x[j] > x[i];
        before += above || (equal && j < i);
    }
    return before < k;
}

static void check_top_k(const float *x, int k, int B, int F)
{
    int n = B * F;
    float *y = OUT(n), *mask = OUT(n), *alone = OUT(n), *want = OUT(n), *ones = OUT(n);
    for (int i = 0; i < n; i++) {
        int keep = stays(x + i / F * F, F, k, i % F);
        want[i] = keep ? x[i] : 0.0f;
        ones[i] = keep ? 1.0f : 0.0f;
    }
    ae_top_k_forward(test_exec(), y, mask, x, k, B, F);
    ae_top_k_forward(test_exec_bare(), alone, NULL, x, k, B, F);
    CHECK_BITS(y, want, n);
    CHECK_BITS(alone, want, n);
    CHECK_BITS(mask, ones, n);
}

TEST(top_k_plain)
{
    for (int s = 0; s < SIZES; s++) {
        int B = sizes[s][0], F = sizes[s][1];
        float *x = DATA(B * F, (uint32_t)s), *few = COPY(x, B * F);
        for (int i = 0; i < B * F; i++) few[i] = floorf(few[i] * 3.0f);   // ties
        const int ks[] = { 1, (F + 1) / 2, F > 1 ? F - 1 : 1, F };
        for (int i = 0; i < 4; i++) {
            test_context("%dx%d, k %d", B, F, ks[i]);
            check_top_k(x, ks[i], B, F);
            check_top_k(few, ks[i], B, F);
        }
    }
}

/* Zeros of both signs are equal, NaN of both signs stays, infinities and denormals sort. */
TEST(top_k_special)
{
    float x[12] = { 0.0f, -0.0f, 1, -1, 1e-41f, -1e-41f, 3e38f, -3e38f, -0.0f, 0.0f, 0, 0 };
    x[10] = test_inf();
    x[11] = -test_inf();
    for (int k = 1; k <= 12; k++) {
        test_context("k %d", k);
        check_top_k(x, k, 1, 12);
    }
    x[3] = test_nan();
    x[5] = -test_nan();
    for (int k = 1; k <= 12; k++) {
        test_context("with NaN, k %d", k);
        check_top_k(x, k, 1, 12);
    }
}

/* --- |x| and KL of the mean ----------------------------------------------- */

TEST(l1_penalty_formula)
{
    for (int s = 0; s < SIZES; s++)
        for (int r = 0; r < 3; r++) {
            int B = sizes[s][0], F = sizes[s][1], n = B * F;
            float *x = DATA(n, 3), *dx = OUT(n), *want = OUT(n), loss;
            double sum = 0, by = divisor(reductions[r], B, F);
            if (n > 2) x[2] = 0;
            for (int i = 0; i < n; i++) {
                sum += fabs((double)x[i]);
                want[i] = (float)((x[i] > 0 ? -1.7 : x[i] < 0 ? 1.7 : 0) / by);
            }
            for (int e = 0; e < 3; e++) {
                test_context("%dx%d, %s, %s", B, F, reduction_keys[r], test_exec_text(e));
                ae_l1_penalty_forward(test_exec_at(e), &loss, x, reductions[r], B, F);
                CHECK_CLOSE(loss, sum / by, 1e-6 * sum / by);
                test_refill(dx, (size_t)n);
                ae_l1_penalty_backward(test_exec_at(e), dx, -1.7f, x, reductions[r], B, F);
                CHECK_ARRAY(dx, want, n, 0, 2e-7);
            }
        }
}

TEST(kl_sparsity_formula)
{
    static const float rhos[] = { 0.05f, 0.5f, 0.0f, 1.0f };
    for (int s = 0; s < SIZES; s++)
        for (int k = 0; k < 12; k++) {
            int B = sizes[s][0], F = sizes[s][1], n = B * F;
            ae_reduction r = reductions[k % 3];
            float *x = DATA_IN(n, 0.02, 0.97, 5), *dx = OUT(n), loss, rho = rhos[k / 3];
            double p = (double)rho, sum = 0, *want = DOUBLES(n), by = r == AE_MEAN ? F : 1;
            test_context("%dx%d, %s, rho %g", B, F, reduction_keys[k % 3], p);
            for (int j = 0; j < F; j++) {
                double m = 0;
                for (int b = 0; b < B; b++) m += (double)x[b * F + j] / B;
                if (p > 0) sum += p * log(p / m);
                if (p < 1) sum += (1 - p) * log((1 - p) / (1 - m));
                for (int b = 0; b < B; b++)
                    want[b * F + j] = -1.7 / by / B * ((1 - p) / (1 - m) - p / m);
            }
            ae_kl_sparsity_forward(test_exec(), &loss, x, rho, r, B, F);
            CHECK_CLOSE(loss, sum / by, 1e-6 * sum / by);
            ae_kl_sparsity_backward(test_exec(), dx, -1.7f, x, rho, r, B, F);
            CHECK_REF(dx, want, n, 1e-7 / by, 1e-6);
        }
}

/* Units that are dead, or always on, stay finite and are led back; a NaN is not lost. */
TEST(kl_sparsity_held)
{
    float x[6] = { 0, 1, 0.5f, 0, 1, 0.5f }, dx[6], loss;
    ae_kl_sparsity_forward(test_exec(), &loss, x, 0.1f, AE_SUM, 2, 3);
    CHECK_CLOSE(loss, 0.1 * log(0.1 / 1e-6) + 0.9 * log(0.9 / (1 - 1e-6))
                      + 0.1 * log(0.1 / (1 - 1e-6)) + 0.9 * log(0.9 / 1e-6)
                      + 0.1 * log(0.1 / 0.5) + 0.9 * log(0.9 / 0.5), 1e-5);
    ae_kl_sparsity_backward(test_exec(), dx, 1.0f, x, 0.1f, AE_SUM, 2, 3);
    CHECK_FINITE(dx, 6);
    CHECK(dx[0] < -1e3f && dx[1] > 1e3f);
    CHECK_CLOSE(dx[5], 0.5 * (0.9 / 0.5 - 0.1 / 0.5), 1e-6);
    x[4] = test_nan();
    ae_kl_sparsity_forward(test_exec(), &loss, x, 0.1f, AE_SUM, 2, 3);
    CHECK(test_is_nan(loss));
    ae_kl_sparsity_backward(test_exec(), dx, 1.0f, x, 0.1f, AE_SUM, 2, 3);
    CHECK(test_is_nan(dx[1]) && test_is_nan(dx[4]) && test_is_finite(dx[0]));
    ae_l1_penalty_forward(test_exec(), &loss, x, AE_SUM, 2, 3);
    CHECK(test_is_nan(loss));
    ae_l1_penalty_backward(test_exec(), dx, 1.0f, x, AE_SUM, 2, 3);
    CHECK(test_is_nan(dx[4]));
    CHECK(dx[5] > 0);
}

TEST(sparse_golden)
{
    static const int shapes[3][2] = { { 3, 5 }, { 1, 1 }, { 7, 11 } };
    for (int i = 0; i < 9; i++) {
        int s = i / 3, B = shapes[s][0], F = shapes[s][1], n = B * F;
        const char *how = reduction_keys[i % 3];
        const float *x = golden("penalty", "sparse%d.x", s)->v;
        const float *p = golden("penalty", "sparse%d.p", s)->v;
        float loss, *dx = OUT(n);
        test_context("%dx%d, %s", B, F, how);
        ae_l1_penalty_forward(test_exec(), &loss, x, reductions[i % 3], B, F);
        CHECK_CLOSE(loss, golden("penalty", "sparse%d.l1.%s.loss", s, how)->v[0], 1e-6 * n);
        ae_l1_penalty_backward(test_exec(), dx, 0.7f, x, reductions[i % 3], B, F);
        CHECK_ARRAY(dx, golden("penalty", "sparse%d.l1.%s.dx", s, how)->v, n, 0, 1e-6);
        ae_kl_sparsity_forward(test_exec(), &loss, p, 0.1f, reductions[i % 3], B, F);
        CHECK_CLOSE(loss, golden("penalty", "sparse%d.kl.%s.loss", s, how)->v[0], 1e-6 * n);
        ae_kl_sparsity_backward(test_exec(), dx, 0.7f, p, 0.1f, reductions[i % 3], B, F);
        CHECK_ARRAY(dx, golden("penalty", "sparse%d.kl.%s.dp", s, how)->v, n, 1e-7, 2e-6);
    }
}

/* --- contractive ---------------------------------------------------------- */

static const struct { const char *key; ae_act act; float a; } acts[] = {
    { "identity", AE_ACT_IDENTITY, 0 }, { "relu", AE_ACT_RELU, 0 },
    { "leaky_relu", AE_ACT_LEAKY_RELU, 0.2f }, { "elu", AE_ACT_ELU, 0.7f },
    { "gelu", AE_ACT_GELU, 0 }, { "gelu_tanh", AE_ACT_GELU_TANH, 0 }, { "silu", AE_ACT_SILU, 0 },
    { "softplus", AE_ACT_SOFTPLUS, 0 }, { "sigmoid", AE_ACT_SIGMOID, 0 }, { "tanh", AE_ACT_TANH, 0 }
};
enum { ACTS = sizeof acts / sizeof acts[0] };

/* The whole Jacobian of act(x w^T + b), by differences of the library's own layers. */
static double jacobian_norm(const float *x, const float *w, const float *b, int act, int D, int O)
{
    const double h = 1.0 / 64;
    double sum = 0;
    float *at = COPY(x, D), *y = OUT(4 * O);
    for (int d = 0; d < D; d++) {
        for (int k = 0; k < 4; k++) {
            static const float to[4] = { -2, -1, 1, 2 };
            at[d] = x[d] + to[k] * (float)h;
            ae_linear_forward(test_exec(), y + k * O, at, w, b, 1, D, O);
            ae_activation_forward(test_exec(), y + k * O, y + k * O, acts[act].act, acts[act].a,
                                  (size_t)O);
        }
        at[d] = x[d];
        for (int o = 0; o < O; o++) {
            double slope = ((double)y[o] - 8 * (double)y[O + o] + 8 * (double)y[2 * O + o]
                            - (double)y[3 * O + o]) / (12 * h);
            sum += slope * slope;
        }
    }
    return sum;
}

TEST(contractive_jacobian)
{
    static const int shapes[][3] = { { 1, 1, 1 }, { 3, 4, 5 }, { 5, 33, 2 }, { 2, 3, 40 } };
    for (int s = 0; s < 4; s++)
        for (int a = 0; a < ACTS; a++) {
            int B = shapes[s][0], D = shapes[s][1], O = shapes[s][2];
            float *x = DATA(B * D, 1), *w = DATA(O * D, 2), *b = DATA(O, 3), *pre = OUT(B * O);
            float loss;
            test_context("%dx%dx%d %s", B, D, O, acts[a].key);
            double scale = 1 / sqrt((double)D), sum = 0;
            for (int i = 0; i < O * D; i++) w[i] *= (float)scale;
            ae_linear_forward(test_exec(), pre, x, w, b, B, D, O);
            for (int i = 0; i < B * O; i++)     // no kink within the stencil
                if (fabsf(pre[i]) < 0.05f) b[i % O] += 0.15f;
            ae_linear_forward(test_exec(), pre, x, w, b, B, D, O);
            int near = 0;
            for (int i = 0; i < B * O; i++) near += fabsf(pre[i]) < 0.04f;
            if (near && acts[a].act <= AE_ACT_ELU) continue;
            for (int i = 0; i < B; i++) sum += jacobian_norm(x + i * D, w, b, a, D, O);
            for (int r = 0; r < 3; r++) {
                double by = reductions[r] == AE_SUM ? 1 : B;
                ae_contractive_forward(test_exec(), &loss, pre, w, acts[a].act, acts[a].a,
                                       reductions[r], B, D, O);
                // 64 differences of numbers rounded to 6e-8
                CHECK_CLOSE(loss, sum / by, 2e-5 * sum / by);
            }
        }
}

TEST(contractive_golden)
{
    enum { B = 3, D = 4, O = 5 };
    const float *x = golden("penalty", "contractive.x")->v;
    const float *w = golden("penalty", "contractive.w")->v;
    const float *b = golden("penalty", "contractive.b")->v;
    float *pre = OUT(B * O);
    ae_linear_forward(test_exec(), pre, x, w, b, B, D, O);
    for (int a = 0; a < ACTS; a++)
        for (int k = 0; k < 2; k++) {
            const char *how = k ? "sum" : "mean";
            ae_reduction r = k ? AE_SUM : AE_BATCH_MEAN;
            float loss, *ds = OUT(B * O), *dw = DATA_IN(O * D, 1, 1, 0), *again = COPY(dw, O * D);
            float want = golden("penalty", "contractive.%s.%s.loss", acts[a].key, how)->v[0];
            const float *wanted = golden("penalty", "contractive.%s.%s.dw", acts[a].key, how)->v;
            test_context("%s, %s", acts[a].key, how);
            ae_contractive_forward(test_exec(), &loss, pre, w, acts[a].act, acts[a].a, r, B, D, O);
            CHECK_CLOSE(loss, want, 2e-6 * (double)want);
            ae_contractive_backward(test_exec(), ds, dw, 0.7f, pre, w, acts[a].act, acts[a].a, r,
                                    B, D, O);
            CHECK_ARRAY(ds, golden("penalty", "contractive.%s.%s.ds", acts[a].key, how)->v, B * O,
                        1e-6, 1e-5);
            for (int i = 0; i < O * D; i++) CHECK_CLOSE(dw[i] - 1.0f, wanted[i], 3e-6);     // +=
            ae_contractive_backward(test_exec(), NULL, again, 0.7f, pre, w, acts[a].act,
                                    acts[a].a, r, B, D, O);
            CHECK_BITS(again, dw, O * D);
            test_refill(again, O * D);
            ae_contractive_backward(test_exec(), again, NULL, 0.7f, pre, w, acts[a].act,
                                    acts[a].a, r, B, D, O);
            CHECK_BITS(again, ds, B * O);
        }
}

/* --- weights -------------------------------------------------------------- */

TEST(weight_penalty_formula)
{
    static const int counts[] = { 1, 5, 31, 33, 257, 1000, 4099 };
    for (int k = 0; k < 14; k++) {
        int n = counts[k / 2], squared = k % 2;
        float *w = DATA(n, 1), *dw = DATA(n, 2), loss;
        double sum = 0, *want = DOUBLES(n);
        if (n > 4) w[3] = 0;
        for (int i = 0; i < n; i++) {
            double v = (double)w[i];
            sum += squared ? v * v : fabs(v);
            want[i] = (double)dw[i] - 1.7 * (squared ? 2 * v : v > 0 ? 1 : v < 0 ? -1 : 0);
        }
        test_context("%d, %s", n, squared ? "squared" : "absolute");
        ae_weight_penalty_forward(test_exec(), &loss, w, squared, (size_t)n);
        CHECK_CLOSE(loss, sum, 1e-6 * sum);
        ae_weight_penalty_backward(test_exec(), dw, -1.7f, w, squared, (size_t)n);
        CHECK_REF(dw, want, n, 3e-7, 1e-7);
        w[n / 2] = test_nan();
        ae_weight_penalty_backward(test_exec(), dw, -1.7f, w, squared, (size_t)n);
        ae_weight_penalty_forward(test_exec(), &loss, w, squared, (size_t)n);
        CHECK(test_is_nan(loss) && test_is_nan(dw[n / 2]));
    }
}

/* |w w^T - 1|^2 or |w^T w - 1|^2, whichever is smaller, and its gradient. */
static double orthogonal_of(const float *w, int O, int D, double *dw)
{
    int side = O <= D ? O : D, length = O <= D ? D : O;
    int next = O <= D ? D : 1, step = O <= D ? 1 : D;
    double sum = 0, *g = DOUBLES(side * side);
    for (int i = 0; i < side; i++)
        for (int j = 0; j < side; j++) {
            double dot = i == j ? -1 : 0;
            for (int l = 0; l < length; l++)
                dot += (double)w[i * next + l * step] * (double)w[j * next + l * step];
            g[i * side + j] = dot;
            sum += dot * dot;
        }
    for (int i = 0; i < side; i++)
        for (int l = 0; l < length; l++)
            for (int j = 0; j < side; j++)
                dw[i * next + l * step] += 4 * g[i * side + j] * (double)w[j * next + l * step];
    return sum;
}

TEST(orthogonal_formula)
{
    static const int shapes[][2] = {
        { 1, 1 }, { 1, 9 }, { 9, 1 }, { 3, 5 }, { 5, 5 }, { 7, 4 }, { 32, 32 }, { 33, 32 },
        { 33, 33 }, { 31, 40 }, { 65, 70 }, { 70, 65 }, { 100, 34 }, { 2, 300 }, { 300, 2 }
    };
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        int O = shapes[s][0], D = shapes[s][1], n = O * D;
        float *w = DATA(n, 1), *dw = OUT(n), loss;
        for (int i = 0; i < n; i++) w[i] *= (float)(2 / sqrt((double)(O > D ? O : D)));
        double *want = DOUBLES(n), sum = orthogonal_of(w, O, D, want);
        for (int e = 0; e < 3; e++) {
            test_context("%dx%d, %s", O, D, test_exec_text(e));
            ae_orthogonal_forward(test_exec_at(e), &loss, w, O, D);
            CHECK_CLOSE(loss, sum, 1e-5 * sum);
            for (int i = 0; i < n; i++) dw[i] = 1;
            ae_orthogonal_backward(test_exec_at(e), dw, -0.7f, w, O, D);
            double *all = DOUBLES(n);
            for (int i = 0; i < n; i++) all[i] = 1 - 0.7 * want[i];
            CHECK_REF_L2(dw, all, n, 1e-6);
        }
    }
    float unit[8] = { 0.6f, 0.8f, 0, 0, -0.8f, 0.6f, 0, 0 }, dw[8] = { 0 }, loss;
    for (int i = 0; i < 2; i++) {       // its rows as 2x4, and its columns as 4x2, are orthonormal
        ae_orthogonal_forward(test_exec(), &loss, unit, i ? 4 : 2, i ? 2 : 4);
        CHECK(loss < 1e-12f);
    }
    ae_orthogonal_backward(test_exec(), dw, 1.0f, unit, 2, 4);
    for (int i = 0; i < 8; i++) CHECK_CLOSE(dw[i], 0, 1e-6);
    unit[5] = test_nan();
    ae_orthogonal_forward(test_exec(), &loss, unit, 2, 4);
    CHECK(test_is_nan(loss));
}

TEST(orthogonal_golden)
{
    static const int shapes[][2] = { { 3, 5 }, { 4, 4 }, { 7, 2 }, { 1, 9 }, { 9, 1 } };
    for (int s = 0; s < 5; s++) {
        int O = shapes[s][0], D = shapes[s][1];
        char key[40];
        snprintf(key, sizeof key, "orthogonal.%dx%d", O, D);
        float loss, *dw = DATA_IN(O * D, 0, 0, 0);
        const float *w = golden("penalty", "%s.w", key)->v;
        test_context("%s", key);
        ae_orthogonal_forward(test_exec(), &loss, w, O, D);
        CHECK_CLOSE(loss, golden("penalty", "%s.loss", key)->v[0], 1e-5);
        ae_orthogonal_backward(test_exec(), dw, 0.7f, w, O, D);
        CHECK_ARRAY(dw, golden("penalty", "%s.dw", key)->v, O * D, 2e-6, 1e-5);
    }
}

TEST(max_norm_formula)
{
    static const int shapes[][2] = { { 1, 1 }, { 5, 3 }, { 3, 33 }, { 17, 300 } };
    for (int s = 0; s < 4; s++) {
        int O = shapes[s][0], D = shapes[s][1];
        float *w = DATA(O * D, 1), *before;
        for (int i = 0; i < D; i++) w[i] *= 1e-3f;      // one row that is within
        before = COPY(w, O * D);
        test_context("%dx%d", O, D);
        ae_max_norm(test_exec(), w, 0.4f, O, D);
        for (int o = 0; o < O; o++) {
            double norm = 0, *want = DOUBLES(D);
            for (int d = 0; d < D; d++) norm += pow((double)before[o * D + d], 2);
            norm = sqrt(norm);
            for (int d = 0; d < D; d++)
                want[d] = (double)before[o * D + d] * (norm > 0.4 ? (double)0.4f / norm : 1);
            CHECK_REF(w + o * D, want, D, 0, 2e-6);     // the norm is a sum of floats
        }
        CHECK_BITS(w, before, D);
    }
}

/* The same bits for all kernels' runs: threads, with and without scratch. */
TEST(penalty_threads)
{
    enum { B = 37, D = 65, O = 70 };
    float *w = DATA(O * D, 1), *s = DATA(B * O, 2), *first[3], *out[3], loss[3], told[3];
    for (int e = 1; e < TEST_EXECS; e++) {
        const ae_exec *x = test_exec_at(e);
        test_context("%s", test_exec_text(e));
        for (int i = 0; i < 3; i++) out[i] = DATA(O * D, 9);
        ae_orthogonal_forward(x, &loss[0], w, O, D);
        ae_orthogonal_backward(x, out[0], 1, w, O, D);
        ae_contractive_forward(x, &loss[1], s, w, AE_ACT_TANH, 0, AE_MEAN, B, D, O);
        ae_contractive_backward(x, out[1], out[2], 1, s, w, AE_ACT_TANH, 0, AE_MEAN, B, D, O);
        ae_weight_penalty_forward(x, &loss[2], w, 1, O * D);
        if (e == 1) {
            memcpy(first, out, sizeof first);
            memcpy(told, loss, sizeof told);
        }
        CHECK_BITS(loss, told, 3);
        for (int i = 0; i < 3; i++) CHECK_BITS(out[i], first[i], O * D);
    }
}

TEST_LIST(penalty) {
    CASE(top_k_plain),
    CASE(top_k_special),
    CASE(l1_penalty_formula),
    CASE(kl_sparsity_formula),
    CASE(kl_sparsity_held),
    CASE(sparse_golden),
    CASE(contractive_jacobian),
    CASE(contractive_golden),
    CASE(weight_penalty_formula),
    CASE(orthogonal_formula),
    CASE(orthogonal_golden),
    CASE(max_norm_formula),
    CASE(penalty_threads),
    CASE_END
};
