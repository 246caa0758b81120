/* Activations, softmax, add, concat: against formulas in double, PyTorch, central differences;
   in place, any size, any threads. */
#include "test.h"

typedef struct act_case {
    ae_act act;
    float a;
    const char *key;            /* in the golden file */
} act_case;

static const act_case acts[] = {
    { AE_ACT_IDENTITY, 0, "identity" },
    { AE_ACT_RELU, 0, "relu" },
    { AE_ACT_LEAKY_RELU, 0.01f, "leaky_relu_0.01" },
    { AE_ACT_LEAKY_RELU, 0.2f, "leaky_relu_0.2" },
    { AE_ACT_ELU, 1, "elu_1" },
    { AE_ACT_ELU, 0.7f, "elu_0.7" },
    { AE_ACT_GELU, 0, "gelu" },
    { AE_ACT_GELU_TANH, 0, "gelu_tanh" },
    { AE_ACT_SILU, 0, "silu" },
    { AE_ACT_SOFTPLUS, 0, "softplus" },
    { AE_ACT_SIGMOID, 0, "sigmoid" },
    { AE_ACT_TANH, 0, "tanh" },
};
enum { ACTS = sizeof acts / sizeof acts[0] };

static const double sqrt_2_pi = 0.79788456080286536;    // sqrt(2 / pi)

/* The formulas of the table in ae.h. */
static double act_value(ae_act act, double a, double x)
{
    switch (act) {
    case AE_ACT_RELU:       return x > 0 ? x : 0;
    case AE_ACT_LEAKY_RELU: return x > 0 ? x : a * x;
    case AE_ACT_ELU:        return x > 0 ? x : a * expm1(x);
    case AE_ACT_GELU:       return x * 0.5 * erfc(-x * 0.70710678118654752);
    case AE_ACT_GELU_TANH:
        // 1 + tanh(u) = 2 / (1 + e^-2u), which does not cancel
        return x / (1 + exp(-2 * sqrt_2_pi * (x + 0.044715 * x * x * x)));
    case AE_ACT_SILU:       return x / (1 + exp(-x));
    case AE_ACT_SOFTPLUS:   return x > 20 ? x : log1p(exp(x));
    case AE_ACT_SIGMOID:    return 1 / (1 + exp(-x));
    case AE_ACT_TANH:       return tanh(x);
    case AE_ACT_IDENTITY:
    default:                return x;
    }
}

/* Their derivatives, as PyTorch has them where there is a kink. */
static double act_slope(ae_act act, double a, double x)
{
    double s = 1 / (1 + exp(-x)), u, du;
    switch (act) {
    case AE_ACT_RELU:       return x > 0;
    case AE_ACT_LEAKY_RELU: return x > 0 ? 1 : a;
    case AE_ACT_ELU:        return x > 0 ? 1 : a * exp(x);
    case AE_ACT_GELU:
        return 0.5 * erfc(-x * 0.70710678118654752) + x * exp(-x * x / 2) * sqrt_2_pi / 2;
    case AE_ACT_GELU_TANH:
        u = 1 / (1 + exp(-2 * sqrt_2_pi * (x + 0.044715 * x * x * x)));
        du = 2 * sqrt_2_pi * (1 + 3 * 0.044715 * x * x);
        return u + x * u * (1 - u) * du;
    case AE_ACT_SILU:       return s + x * s * (1 - s);
    case AE_ACT_SOFTPLUS:   return x > 20 ? 1 : s;
    case AE_ACT_SIGMOID:    return s * (1 - s);
    case AE_ACT_TANH:       return 1 - tanh(x) * tanh(x);
    case AE_ACT_IDENTITY:
    default:                return 1;
    }
}

/* How far a value may be from the formula, besides 1e-6 of itself (some roundings). Where 1 + ...
   or e^x - 1 cancels: some half units in the last place of 1, times |x| for GELU, which is below 10
   where that matters. Derivatives are made of the rounded y: 1 - y, 1 - y^2, y + a; GELU's slope
   follows its tanh, whose argument up to 4 is rounded to 2e-7, by factors up to 4. */
#define ACT_REL 1e-6

static double act_abs(ae_act act, int slope)
{
    switch (act) {
    case AE_ACT_IDENTITY: case AE_ACT_RELU: case AE_ACT_LEAKY_RELU: return 0;
    case AE_ACT_GELU: case AE_ACT_GELU_TANH: return slope ? 1.6e-6 : 6e-7;
    case AE_ACT_ELU: case AE_ACT_SILU: case AE_ACT_SOFTPLUS: case AE_ACT_SIGMOID: case AE_ACT_TANH:
    case AE_ACT_COUNT: default: return 3e-7;
    }
}

static const size_t sizes[] = { 0, 1, 2, 3, 5, 15, 16, 17, 31, 32, 33, 255, 257, 1000, 8200 };
enum { SIZES = sizeof sizes / sizeof sizes[0] };

TEST(activation_formulas)
{
    for (int k = 0; k < ACTS; k++)
        for (int s = 0; s < SIZES; s++) {
            size_t n = sizes[s];
            ae_act act = acts[k].act;
            float a = acts[k].a, *x = DATA_IN(n, -7, 9, 1), *dy = DATA(n, 2);
            double *want = DOUBLES(n), *want_dx = DOUBLES(n);
            for (size_t i = 0; i < n; i++) {
                want[i] = act_value(act, (double)a, (double)x[i]);
                want_dx[i] = (double)dy[i] * act_slope(act, (double)a, (double)x[i]);
            }
            for (int e = 0; e < 3; e++) {
                float *y = OUT(n), *dx = OUT(n);
                test_context("%s, n %lu, %s", acts[k].key, (unsigned long)n, test_exec_text(e));
                ae_activation_forward(test_exec_at(e), y, x, act, a, n);
                CHECK_REF(y, want, n, act_abs(act, 0), ACT_REL);
                ae_activation_backward(test_exec_at(e), dx, dy, x, y, act, a, n);
                CHECK_REF(dx, want_dx, n, act_abs(act, 1), ACT_REL);
            }
        }
}

/* The accuracy which ae.h promises for every float. */
static void act_curve(void *arg, const float *x, float *y, double *want, double *allowed, size_t n)
{
    const act_case *c = (const act_case *)arg;
    ae_activation_forward(test_exec(), y, x, c->act, c->a, n);
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i], tail = v < 0 ? v * v : 0;
        want[i] = act_value(c->act, (double)c->a, v);
        allowed[i] = c->act == AE_ACT_GELU ? 8 + tail / 2 :
                     c->act == AE_ACT_GELU_TANH ? 8 + 2.5 * tail : 3;
    }
}

TEST(activation_accuracy)
{
    for (int k = 0; k < ACTS; k++) {
        act_case c = acts[k];
        test_context("%s, %s", c.key, ae_exec_name(test_exec()));
        if (c.a == 0 || c.a == 1) CHECK_ACCURACY(act_curve, &c, -3.4028234e38f, 3.4028234e38f);
    }
}

TEST(activation_golden)
{
    const test_record *x = golden("activation", "x"), *dy = golden("activation", "dy");
    for (int k = 0; k < ACTS; k++)
        for (int e = 0; e < 3; e++) {
            float *y = OUT(x->n), *dx = OUT(x->n);
            test_context("%s, %s", acts[k].key, test_exec_text(e));
            ae_activation_forward(test_exec_at(e), y, x->v, acts[k].act, acts[k].a, x->n);
            CHECK_ARRAY(y, golden("activation", "%s.y", acts[k].key)->v, x->n,
                        act_abs(acts[k].act, 0), ACT_REL);
            ae_activation_backward(test_exec_at(e), dx, dy->v, x->v, y, acts[k].act, acts[k].a,
                                   x->n);
            CHECK_ARRAY(dx, golden("activation", "%s.dx", acts[k].key)->v, x->n,
                        act_abs(acts[k].act, 1), ACT_REL);
        }
}

typedef struct flat_case {      /* for central differences */
    const act_case *act;
    float *x, *x2, *dy;
    int B, P, Q;                /* softmax, concat: rows and columns; else B = n */
} flat_case;

enum { MOST = 64 };

static double weighted(const float *y, const float *dy, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)y[i] * (double)dy[i];
    return sum;
}

static double act_loss(void *arg)
{
    const flat_case *c = (const flat_case *)arg;
    float y[MOST];
    ae_activation_forward(test_exec(), y, c->x, c->act->act, c->act->a, (size_t)c->B);
    return weighted(y, c->dy, c->B);
}

TEST(activation_gradient)
{
    enum { N = 45 };
    flat_case c;
    c.B = N;
    c.P = c.Q = 0;
    c.x2 = NULL;
    c.x = DATA_IN(N, 0.3, 3.3, 1);
    for (int i = 0; i < N; i += 2) c.x[i] -= 3.6f;      // no kink, which is at 0, within 2h
    c.dy = DATA(N, 2);
    for (int k = 0; k < ACTS; k++) {
        float *y = OUT(N), *dx = OUT(N);
        c.act = &acts[k];
        test_context("%s", acts[k].key);
        ae_activation_forward(test_exec(), y, c.x, acts[k].act, acts[k].a, N);
        for (int twice = 0; twice < 2; twice++) {       // = and not +=
            ae_activation_backward(test_exec(), dx, c.dy, c.x, y, acts[k].act, acts[k].a, N);
            // y is rounded at 3: 2e-7 / h = 6e-6 of slopes about 0.5
            CHECK_GRADIENT(dx, c.x, N, 1.0 / 32, 1e-4, act_loss, &c);
        }
    }
}

TEST(activation_in_place)
{
    enum { N = 83 };
    float *x = DATA_IN(N, -4, 5, 1), *dy = DATA(N, 2);
    for (int k = 0; k < ACTS; k++)
        for (int e = 0; e < 3; e++) {
            const ae_exec *exec = test_exec_at(e);
            float *y = OUT(N), *dx = OUT(N), *z = COPY(x, N), *dz = COPY(dy, N);
            test_context("%s, %s", acts[k].key, test_exec_text(e));
            ae_activation_forward(exec, y, x, acts[k].act, acts[k].a, N);
            ae_activation_forward(exec, z, z, acts[k].act, acts[k].a, N);
            CHECK_BITS(z, y, N);
            ae_activation_backward(exec, dx, dy, x, y, acts[k].act, acts[k].a, N);
            ae_activation_backward(exec, dz, dz, x, y, acts[k].act, acts[k].a, N);
            CHECK_BITS(dz, dx, N);
        }
}

/* Not a number in, at each place of a vector and of the rest: the same out, and nothing else. */
TEST(activation_nan)
{
    enum { N = 37 };
    float *x = DATA_IN(N, -4, 5, 1);
    for (int k = 0; k < ACTS; k++)
        for (int e = 0; e < 3; e++) {
            int wrong = 0;
            for (int at = 0; at < N; at++) {
                float *z = COPY(x, N);
                z[at] = test_nan();
                ae_activation_forward(test_exec_at(e), z, z, acts[k].act, acts[k].a, N);
                for (int i = 0; i < N; i++) wrong += test_is_nan(z[i]) != (i == at);
            }
            test_context("%s, %s", acts[k].key, test_exec_text(e));
            CHECK_INT(wrong, 0);
        }
}

/* At the ends of the range everything has its limit and nothing overflows. */
TEST(activation_limits)
{
    static const float big[] = { 60, 88, 89, 104, 1000, 1e10f, 3e38f };
    for (int e = 0; e < 3; e++)
        for (int s = 0; s < 7; s++) {
            float pair[2], y[2], one[2] = { 1, 1 }, dx[2];
            pair[0] = big[s];
            pair[1] = -big[s];
            for (int k = 0; k < ACTS; k++) {
                ae_act act = acts[k].act;
                double high = 1, low = 0;   // of y; the slopes are 1, 0 unless told below
                volatile float scaled = -big[s] * acts[k].a;    // rounded to a float
                if (act == AE_ACT_TANH) low = -1;
                if (act != AE_ACT_TANH && act != AE_ACT_SIGMOID) high = (double)big[s];
                if (act == AE_ACT_IDENTITY) low = -(double)big[s];
                if (act == AE_ACT_LEAKY_RELU) low = (double)scaled;
                if (act == AE_ACT_ELU) low = -(double)acts[k].a;
                test_context("%s, +-%g, %s", acts[k].key, (double)big[s], test_exec_text(e));
                ae_activation_forward(test_exec_at(e), y, pair, act, acts[k].a, 2);
                CHECK_CLOSE(y[0], high, 0);
                // e^-60 = 1e-26 is as good as 0
                CHECK_CLOSE(y[1], low, 1e-24);
                ae_activation_backward(test_exec_at(e), dx, one, pair, y, act, acts[k].a, 2);
                int flat = act == AE_ACT_TANH || act == AE_ACT_SIGMOID;
                int line = act == AE_ACT_IDENTITY;
                CHECK_CLOSE(dx[0], flat ? 0 : 1, 0);
                CHECK_CLOSE(dx[1], line ? 1 : act == AE_ACT_LEAKY_RELU ? acts[k].a : 0.0f, 1e-24);
            }
        }
}

/* Equal for any threads and scratch; 600,011 is more than all pieces of the smallest size. */
TEST(activation_same_bits_for_any_threads)
{
    static const size_t lengths[] = { 33, 8192, 20001, 600011 };
    for (int s = 0; s < 4; s++)
        for (int k = 0; k < ACTS; k++) {
            size_t n = lengths[s];
            if (n > 100000 && acts[k].act != AE_ACT_TANH) continue;
            float *x = DATA_IN(n, -4, 5, 1), *dy = DATA(n, 2), *y1 = OUT(n), *dx1 = OUT(n);
            float *y = OUT(n), *dx = OUT(n);
            for (int i = 1; i < TEST_EXECS; i++) {
                if (n > 100000 && i != 1 && i != 6 && i != 13) continue;
                test_context("%s, n %lu, %s", acts[k].key, (unsigned long)n, test_exec_text(i));
                test_refill(y, n);
                test_refill(dx, n);
                ae_activation_forward(test_exec_at(i), y, x, acts[k].act, acts[k].a, n);
                ae_activation_backward(test_exec_at(i), dx, dy, x, y, acts[k].act, acts[k].a, n);
                if (i == 1) {
                    memcpy(y1, y, n * sizeof *y);
                    memcpy(dx1, dx, n * sizeof *dx);
                    CHECK_FINITE(y, n);
                }
                CHECK_BITS(y, y1, n);
                CHECK_BITS(dx, dx1, n);
            }
        }
}

/* --- softmax -------------------------------------------------------------- */

static const int row_sizes[][2] = {     // B, F
    { 1, 1 }, { 3, 5 }, { 7, 31 }, { 5, 32 }, { 3, 33 }, { 2, 255 }, { 3, 257 }, { 2, 1000 },
    { 1000, 2 }, { 65, 1 }
};
enum { ROW_SIZES = sizeof row_sizes / sizeof row_sizes[0] };

TEST(softmax_formula)
{
    for (int s = 0; s < ROW_SIZES; s++) {
        int B = row_sizes[s][0], F = row_sizes[s][1], n = B * F;
        float *x = DATA_IN(n, -5, 6, 1), *dy = DATA(n, 2);
        double *want = DOUBLES(n), *want_dx = DOUBLES(n);
        for (int b = 0; b < B; b++) {
            double sum = 0, inner = 0;
            for (int i = b * F; i < (b + 1) * F; i++) sum += exp((double)x[i]);
            for (int i = b * F; i < (b + 1) * F; i++) {
                want[i] = exp((double)x[i]) / sum;
                inner += want[i] * (double)dy[i];
            }
            for (int i = b * F; i < (b + 1) * F; i++)
                want_dx[i] = want[i] * ((double)dy[i] - inner);
        }
        for (int e = 0; e < 3; e++) {
            float *y = OUT(n), *dx = OUT(n), *z = COPY(x, n), *dz = COPY(dy, n);
            test_context("%dx%d, %s", B, F, test_exec_text(e));
            ae_softmax_forward(test_exec_at(e), y, x, B, F);
            // a rounding of x - max (up to 11) is one of 7e-7 in its exponential
            CHECK_REF(y, want, n, 0, 3e-6);
            for (int b = 0; b < B; b++) {
                double sum = 0;
                for (int i = b * F; i < (b + 1) * F; i++) sum += (double)y[i];
                CHECK_CLOSE(sum, 1, 1e-6);
            }
            ae_softmax_backward(test_exec_at(e), dx, dy, y, B, F);
            // dy - <dy, y> may cancel: 1e-6 of terms below 1, times y
            for (int i = 0; i < n; i++) CHECK_CLOSE(dx[i], want_dx[i], 5e-6 * want[i]);
            ae_softmax_forward(test_exec_at(e), z, z, B, F);
            CHECK_BITS(z, y, n);
            ae_softmax_backward(test_exec_at(e), dz, dz, y, B, F);
            CHECK_BITS(dz, dx, n);
        }
    }
}

TEST(softmax_golden)
{
    static const int shapes[4][2] = { { 3, 5 }, { 1, 1 }, { 7, 33 }, { 2, 10 } };
    for (int s = 0; s < 4; s++) {
        int B = shapes[s][0], F = shapes[s][1], n = B * F;
        const float *x = golden("activation", "softmax.%dx%d.x", B, F)->v;
        const float *dy = golden("activation", "softmax.%dx%d.dy", B, F)->v;
        const float *want = golden("activation", "softmax.%dx%d.y", B, F)->v;
        const float *want_dx = golden("activation", "softmax.%dx%d.dx", B, F)->v;
        for (int e = 0; e < 3; e++) {
            float *y = OUT(n), *dx = OUT(n);
            test_context("%dx%d, %s", B, F, test_exec_text(e));
            ae_softmax_forward(test_exec_at(e), y, x, B, F);
            // x - max up to 110 here: half an ulp of it is 4e-6 of the exponential; the smallest
            // singles (1e-38 and below) may come as 0
            CHECK_ARRAY(y, want, n, 2e-38, 1e-5);
            ae_softmax_backward(test_exec_at(e), dx, dy, y, B, F);
            CHECK_ARRAY(dx, want_dx, n, 2e-7, 1e-5);
        }
    }
}

static double softmax_loss(void *arg)
{
    const flat_case *c = (const flat_case *)arg;
    float y[MOST];
    ae_softmax_forward(test_exec(), y, c->x, c->B, c->P);
    return weighted(y, c->dy, c->B * c->P);
}

TEST(softmax_gradient)
{
    flat_case c;
    float *y = OUT(15), *dx = OUT(15);
    c.act = NULL;
    c.x2 = NULL;
    c.x = DATA(15, 1);
    c.dy = DATA(15, 2);
    c.B = 3;
    c.P = 5;
    c.Q = 0;
    ae_softmax_forward(test_exec(), y, c.x, 3, 5);
    for (int twice = 0; twice < 2; twice++) {
        ae_softmax_backward(test_exec(), dx, c.dy, y, 3, 5);
        // y is rounded at 0.3: 2e-8 / h = 6e-7 each of slopes about 0.05
        CHECK_GRADIENT(dx, c.x, 15, 1.0 / 32, 1e-4, softmax_loss, &c);
    }
}

/* Only differences matter, however large the numbers. */
TEST(softmax_limits)
{
    float rows[4][4] = { { 1e30f, 0, -1e30f, 5 }, { -1000, -1000, -1000, -1000 },
                         { 3e38f, 3e38f, -3e38f, 0 }, { 100, 101, 102, 103 } };
    float y[16], small[4] = { 0, 1, 2, 3 }, z[4];
    static const float want[3][4] = { { 1, 0, 0, 0 }, { 0.25f, 0.25f, 0.25f, 0.25f },
                                      { 0.5f, 0.5f, 0, 0 } };
    rows[0][3] = -test_inf();
    for (int e = 0; e < 3; e++) {
        test_context("%s", test_exec_text(e));
        ae_softmax_forward(test_exec_at(e), y, rows[0], 4, 4);
        CHECK_ARRAY(y, want[0], 12, 0, 0);
        ae_softmax_forward(test_exec_at(e), z, small, 1, 4);
        CHECK_BITS(y + 12, z, 4);
    }
}

TEST(softmax_same_bits_for_any_threads)
{
    enum { B = 60, F = 701, N = B * F };
    float *x = DATA_IN(N, -5, 6, 1), *dy = DATA(N, 2), *y1 = OUT(N), *dx1 = OUT(N);
    for (int i = 1; i < TEST_EXECS; i++) {
        float *y = i == 1 ? y1 : OUT(N), *dx = i == 1 ? dx1 : OUT(N);
        test_context("%s", test_exec_text(i));
        ae_softmax_forward(test_exec_at(i), y, x, B, F);
        ae_softmax_backward(test_exec_at(i), dx, dy, y, B, F);
        CHECK_BITS(y, y1, N);
        CHECK_BITS(dx, dx1, N);
    }
}

/* --- add, concat: copies and one sum, so to the bit ------------------------ */

TEST(add)
{
    for (int s = 0; s < SIZES; s++)
        for (int e = 0; e < 3; e++) {
            size_t n = sizes[s];
            const ae_exec *exec = test_exec_at(e);
            float *a = DATA(n, 1), *b = DATA(n, 2), *want = OUT(n), *y = OUT(n);
            for (size_t i = 0; i < n; i++) want[i] = a[i] + b[i];
            test_context("n %lu, %s", (unsigned long)n, test_exec_text(e));
            ae_add_forward(exec, y, a, b, n);
            CHECK_BITS(y, want, n);
            float *da = OUT(n), *db = OUT(n), *dy = DATA(n, 3);
            ae_add_backward(exec, da, db, dy, n);
            CHECK_BITS(da, dy, n);
            CHECK_BITS(db, dy, n);
            test_refill(da, n);
            ae_add_backward(exec, da, NULL, dy, n);
            CHECK_BITS(da, dy, n);
            ae_add_backward(exec, NULL, da, b, n);
            CHECK_BITS(da, b, n);
            ae_add_backward(exec, NULL, NULL, dy, n);
            float *in_a = COPY(a, n), *in_b = COPY(b, n);
            ae_add_forward(exec, in_a, in_a, b, n);
            ae_add_forward(exec, in_b, a, in_b, n);
            CHECK_BITS(in_a, want, n);
            CHECK_BITS(in_b, want, n);
        }
}

TEST(concat)
{
    static const int shapes[][3] = { { 3, 5, 7 }, { 1, 1, 1 }, { 13, 33, 2 }, { 2, 1, 257 },
                                     { 31, 255, 1000 } };
    for (int s = 0; s < 5; s++)
        for (int e = 0; e < 3; e++) {
            int B = shapes[s][0], P = shapes[s][1], Q = shapes[s][2], F = P + Q;
            float *a = DATA(B * P, 1), *b = DATA(B * Q, 2), *y = OUT(B * F), *want = OUT(B * F);
            for (int i = 0; i < B * F; i++)
                want[i] = i % F < P ? a[i / F * P + i % F] : b[i / F * Q + i % F - P];
            test_context("%dx%d+%d, %s", B, P, Q, test_exec_text(e));
            ae_concat_forward(test_exec_at(e), y, a, b, B, P, Q);
            CHECK_BITS(y, want, B * F);
            float *da = OUT(B * P), *db = OUT(B * Q);
            ae_concat_backward(test_exec_at(e), da, db, want, B, P, Q);
            CHECK_BITS(da, a, B * P);
            CHECK_BITS(db, b, B * Q);
            test_refill(da, (size_t)(B * P));
            test_refill(db, (size_t)(B * Q));
            ae_concat_backward(test_exec_at(e), da, NULL, want, B, P, Q);
            ae_concat_backward(test_exec_at(e), NULL, db, want, B, P, Q);
            ae_concat_backward(test_exec_at(e), NULL, NULL, want, B, P, Q);
            CHECK_BITS(da, a, B * P);
            CHECK_BITS(db, b, B * Q);
        }
}

static double join_loss(void *arg)
{
    const flat_case *c = (const flat_case *)arg;
    float y[MOST];
    int n = c->B * (c->P + c->Q);
    if (c->Q) ae_concat_forward(test_exec(), y, c->x, c->x2, c->B, c->P, c->Q);
    else ae_add_forward(test_exec(), y, c->x, c->x2, (size_t)n);
    return weighted(y, c->dy, n);
}

TEST(add_and_concat_gradient)
{
    flat_case c;
    float *da = OUT(15), *db = OUT(15);
    c.act = NULL;
    c.x = DATA(15, 1);
    c.x2 = DATA(15, 2);
    c.dy = DATA(36, 3);
    c.B = 3;
    c.P = 5;
    c.Q = 0;
    for (int twice = 0; twice < 2; twice++) {   // linear: h = 1 is exact but for the rounding of y
        ae_add_backward(test_exec(), da, db, c.dy, 15);
        CHECK_GRADIENT(da, c.x, 15, 1.0, 1e-6, join_loss, &c);
        CHECK_GRADIENT(db, c.x2, 15, 1.0, 1e-6, join_loss, &c);
    }
    c.P = 4;
    c.Q = 5;
    for (int twice = 0; twice < 2; twice++) {
        ae_concat_backward(test_exec(), da, db, c.dy, 3, 4, 5);
        CHECK_GRADIENT(da, c.x, 12, 1.0, 1e-6, join_loss, &c);
        CHECK_GRADIENT(db, c.x2, 15, 1.0, 1e-6, join_loss, &c);
    }
}

TEST_LIST(activation) {
    CASE(activation_formulas),
    CASE(activation_accuracy),
    CASE(activation_golden),
    CASE(activation_gradient),
    CASE(activation_in_place),
    CASE(activation_nan),
    CASE(activation_limits),
    CASE(activation_same_bits_for_any_threads),
    CASE(softmax_formula),
    CASE(softmax_golden),
    CASE(softmax_gradient),
    CASE(softmax_limits),
    CASE(softmax_same_bits_for_any_threads),
    CASE(add),
    CASE(concat),
    CASE(add_and_concat_gradient),
    CASE_END
};
