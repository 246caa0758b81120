/* Products, activations and what is done to single elements: ae_cuda.cuh's against the CPU's and
   against definitions in double. */
#define AE__CU_PARTS 65536
#define AE__CU_WIDE 6           /* tiles of 64 for shapes small enough to test */
#include "ops.h"

static Doubles of(const Floats &x) { return Doubles(x.begin(), x.end()); }

// Element (row, column) of rows of n; at(rows, n, 0): how many there are.
static size_t at(int row, int n, int column = 0)
{
    return (size_t)row * (size_t)n + (size_t)column;
}

// c (M,N) = start + a b, where a (M,K) and b (K,N) are read through functions.
template <class A, class B>
static Doubles product(int M, int N, int K, A a, B b, Doubles c)
{
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++)
            for (int k = 0; k < K; k++) c[at(m, N, n)] += a(m, k) * b(k, n);
    return c;
}

enum { NO_BIAS = 1, NO_DX = 2, NO_DW = 4, NO_DB = 8 };

// ae_linear (tied: its transpose), forward and backward.
static void linear(bool tied, int B, int D, int O, int without = 0)
{
    const int in = tied ? O : D, out = tied ? D : O;
    const std::string what = (tied ? "tied " : "linear ") + std::to_string(B) + " "
                             + std::to_string(D) + " " + std::to_string(O);
    const Floats x = uniform(at(B, in), -1, 1, 1), w = uniform(at(O, D), -1, 1, 2);
    const Floats b = uniform((size_t)out, -1, 1, 3), dy = uniform(at(B, out), -1, 1, 4);
    const Floats dw0 = uniform(at(O, D), -1, 1, 5), db0 = uniform((size_t)out, -1, 1, 6);
    auto weight = [&](int i, int o) {       // from input i to output o
        return (double)w[tied ? at(i, D, o) : at(o, D, i)];
    };
    auto X = [&](int n, int i) { return (double)x[at(n, in, i)]; };
    auto DY = [&](int n, int o) { return (double)dy[at(n, out, o)]; };

    Doubles y(at(B, out), 0.0), dx(at(B, in), 0.0), db = of(db0);
    for (size_t i = 0; i < y.size(); i++) y[i] = without & NO_BIAS ? 0.0 : (double)b[i % b.size()];
    y = product(B, out, in, X, weight, y);
    dx = product(B, in, out, DY, [&](int o, int i) { return weight(i, o); }, dx);
    auto a = [&](int r, int c) { return tied ? X(c, r) : DY(c, r); };      // rows of w: O
    auto c = [&](int r, int column) { return tied ? DY(r, column) : X(r, column); };
    const Doubles dw = product(O, D, B, a, c, of(dw0));
    for (size_t i = 0; i < dy.size(); i++) db[i % b.size()] += (double)dy[i];

    compare(what + " forward", 1e-5, [&](Trial &t) {
        float *to = t.out(y.size()), *bias = without & NO_BIAS ? nullptr : t.in(b);
        const float *from = t.in(x), *weights = t.in(w);
        if (tied) OP(t, tied_linear_forward, (t.exec(), to, from, weights, bias, B, D, O));
        else OP(t, linear_forward, (t.exec(), to, from, weights, bias, B, D, O));
    }, {y});
    std::vector<Doubles> gradients;
    if (!(without & NO_DX)) gradients.push_back(dx);
    if (!(without & NO_DW)) gradients.push_back(dw);
    if (!(without & NO_DB)) gradients.push_back(db);
    compare(what + " backward", 1e-5, [&](Trial &t) {
        float *gx = without & NO_DX ? nullptr : t.out(dx.size());
        float *gw = without & NO_DW ? nullptr : t.inout(dw0);
        float *gb = without & NO_DB ? nullptr : t.inout(db0);
        const float *gy = t.in(dy), *from = t.in(x), *weights = t.in(w);
        if (tied) OP(t, tied_linear_backward, (t.exec(), gx, gw, gb, gy, from, weights, B, D, O));
        else OP(t, linear_backward, (t.exec(), gx, gw, gb, gy, from, weights, B, D, O));
    }, gradients);
}

static void linears()
{
    static const int shapes[][3] = {
        {1, 1, 1}, {2, 1, 3}, {1, 31, 33}, {31, 32, 1}, {32, 33, 31}, {33, 5, 32}, {5, 257, 3},
        {3, 2, 255}, {257, 3, 2}, {2, 1000, 5}, {1000, 4, 3}, {64, 128, 10}, {7, 128, 130},
        {130, 40, 191}, {65, 129, 64}};
    for (const auto &s : shapes) {
        linear(false, s[0], s[1], s[2]);
        linear(true, s[0], s[1], s[2]);
    }
    for (int without = 1; without < 16; without++) {
        linear(false, 9, 34, 6, without);
        linear(true, 9, 6, 34, without);
    }
    linear(false, 128, 190, 180);           // no room for parts of dw
    linear(false, 300, 7, 5, NO_DW);        // the sums alone, split
    linear(true, 300, 7, 5, NO_DW);
}

// What is not finite stays where it belongs.
static void special()
{
    Floats x = uniform(3 * 40, -1, 1, 1), w = uniform(5 * 40, -1, 1, 2);
    x[3] = NAN;
    x[50] = INFINITY;
    w[2 * 40 + 7] = -INFINITY;
    compare("linear with NaN and infinities", 1e-5, [&](Trial &t) {
        float *y = t.out(15);
        OP(t, linear_forward, (t.exec(), y, t.in(x), t.in(w), nullptr, 3, 40, 5));
    });
}

static double act(int kind, double x, double a)
{
    switch (kind) {
    case AE_ACT_RELU: return x > 0 ? x : 0;
    case AE_ACT_LEAKY_RELU: return x > 0 ? x : a * x;
    case AE_ACT_ELU: return x > 0 ? x : a * expm1(x);
    case AE_ACT_GELU: return x * erfc(-x / sqrt(2.0)) / 2;
    case AE_ACT_GELU_TANH: return x / 2 * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case AE_ACT_SILU: return x / (1 + exp(-x));
    case AE_ACT_SOFTPLUS: return x > 20 ? x : log1p(exp(x));
    case AE_ACT_SIGMOID: return 1 / (1 + exp(-x));
    case AE_ACT_TANH: return tanh(x);
    default: return x;
    }
}

// act and dy act', by central differences; where two kinds meet, at 0, none of x is.
static void activation(int kind, size_t n, float a)
{
    const std::string what = "activation " + std::to_string(kind) + " " + std::to_string(n);
    Floats x = uniform(n, -6, 6, 1), dy = uniform(n, -1, 1, 2), y(n);
    Doubles real(n), slope(n);
    for (size_t i = 0; i < n; i++) {
        if (fabsf(x[i]) < 1e-2f) x[i] = 0.25f;
        const double v = (double)x[i], h = 1e-5;
        real[i] = act(kind, v, (double)a);
        slope[i] = (double)dy[i] * (act(kind, v + h, (double)a) - act(kind, v - h, (double)a))
                   / (2 * h);
        y[i] = (float)real[i];
    }
    compare(what, 1e-6, [&](Trial &t) {
        float *to = t.out(n), *in_place = t.inout(x);
        OP(t, activation_forward, (t.exec(), to, in_place, (ae_act)kind, a, n));
        OP(t, activation_forward, (t.exec(), in_place, in_place, (ae_act)kind, a, n));
    }, {real, real});
    compare(what + " backward", 1e-5, [&](Trial &t) {
        float *dx = t.out(n), *in_place = t.inout(dy);
        const float *from = t.in(x), *made = t.in(y);
        OP(t, activation_backward, (t.exec(), dx, in_place, from, made, (ae_act)kind, a, n));
        OP(t, activation_backward, (t.exec(), in_place, in_place, from, made, (ae_act)kind, a, n));
    }, {slope, slope});
    x[0] = NAN;
    if (n > 3) x[1] = INFINITY, x[2] = -INFINITY, dy[3] = NAN;
    compare(what + " of what is not finite", 1e-6, [&](Trial &t) {
        float *to = t.out(n), *dx = t.out(n);
        const float *from = t.in(x), *dto = t.in(dy);
        OP(t, activation_forward, (t.exec(), to, from, (ae_act)kind, a, n));
        OP(t, activation_backward, (t.exec(), dx, dto, from, to, (ae_act)kind, a, n));
    });
}

/* An activation after a product, and the way back: both results, the product's and the
   activation's. place: 0 anywhere, 1 in place, 2 in the memory of the product's input, from element
   `first` on. */
static void joined(bool tied, int B, int D, int O, int kind, int place, size_t first = 0)
{
    const size_t in = at(B, tied ? O : D), out = at(B, tied ? D : O);
    const Floats x = uniform(in + out + first, -1, 1, 1), w = uniform(at(O, D), -1, 1, 2);
    const Floats dy = uniform(in + out + first, -1, 1, 3), s = uniform(in, -1, 1, 4);
    const std::string what = "joined " + std::to_string(tied) + " " + std::to_string(kind) + " "
                             + std::to_string(place);
    compare(what, 1e-5, [&](Trial &t) {
        float *y = t.out(out), *other = t.out(out), *from = t.inout(x);
        float *to = place == 0 ? other : place == 1 ? y : from + first;
        const float *weights = t.in(w);
        if (tied) OP(t, tied_linear_forward, (t.exec(), y, from, weights, nullptr, B, D, O));
        else OP(t, linear_forward, (t.exec(), y, from, weights, nullptr, B, D, O));
        OP(t, activation_forward, (t.exec(), to, y, (ae_act)kind, 0.5f, out));
    });
    compare(what + " backward", 1e-5, [&](Trial &t) {
        float *dx = t.out(in), *other = t.out(in), *dw = t.inout(w), *gy = t.inout(dy);
        float *to = place == 0 ? other : place == 1 ? dx : gy + first;
        const float *from = t.in(x), *before = t.in(s), *weights = t.in(w);
        if (tied)
            OP(t, tied_linear_backward, (t.exec(), dx, dw, nullptr, gy, from, weights, B, D, O));
        else OP(t, linear_backward, (t.exec(), dx, dw, nullptr, gy, from, weights, B, D, O));
        OP(t, activation_backward, (t.exec(), to, dx, before, from, (ae_act)kind, 0.5f, in));
    });
}

// Launches of a product and its activation: one; two where the activation must not join.
static long launches_of(int place)
{
    Trial t(true);
    sim::use_setting(0);
    float *y = t.out(60), *x = t.out(120), *w = t.out(36), *z = t.out(60);
    sim::reset_counters();
    ae__cu_linear_forward(t.exec(), y, x, w, nullptr, 10, 6, 6);
    ae__cu_activation_forward(t.exec(), place == 0 ? z : place == 1 ? y : x + 59,
                              place == 3 ? z : y, AE_ACT_RELU, 0.0f, 60);
    ae__cu_flush(&t.cuda);
    return sim::counters().launches;
}

static void activations()
{
    for (int kind = 0; kind < AE_ACT_COUNT; kind++) {
        for (size_t n : {1u, 31u, 33u, 257u}) activation(kind, n, 0.3f);
        joined(false, 5, 4, 7, kind, kind % 2);
        joined(true, 6, 3, 4, kind, kind % 2);
    }
    activation(AE_ACT_TANH, 1000, 0.0f);
    for (int place = 0; place < 3; place++)
        for (size_t first : {(size_t)0, (size_t)70}) {
            joined(false, 40, 70, 65, AE_ACT_SIGMOID, place, first);
            joined(true, 40, 65, 70, AE_ACT_SIGMOID, place, first);
        }
    joined(false, 66, 130, 140, AE_ACT_GELU, 0);        // wide tiles, splits
    joined(true, 5, 200, 300, AE_ACT_GELU, 0);
#ifndef AE_CUDA_CUBLAS
    CHECK(launches_of(0) == 1 && launches_of(1) == 1);
#endif
#if !defined(AE_CUDA_CUBLAS) || !defined(__CUDACC__)    // nobody counts what the real one launches
    CHECK(launches_of(2) == 2 && launches_of(3) == 2);
#endif
}

static void softmax(int B, int F, float low, float high)
{
    const std::string what = "softmax " + std::to_string(B) + " " + std::to_string(F);
    const size_t n = (size_t)B * (size_t)F, f = (size_t)F;
    const Floats x = uniform(n, low, high, 1), dy = uniform(n, -1, 1, 2);
    Floats y(n);
    Doubles real(n), gradient(n);
    for (size_t row = 0; row < n; row += f) {
        double most = -1e300, sum = 0, inner = 0;
        for (size_t i = row; i < row + f; i++) most = fmax(most, (double)x[i]);
        for (size_t i = row; i < row + f; i++) sum += exp((double)x[i] - most);
        for (size_t i = row; i < row + f; i++) {
            real[i] = exp((double)x[i] - most) / sum;
            y[i] = (float)real[i];
            inner += (double)y[i] * (double)dy[i];
        }
        for (size_t i = row; i < row + f; i++) gradient[i] = (double)y[i] * ((double)dy[i] - inner);
    }
    compare(what, 1e-6, [&](Trial &t) {
        float *to = t.out(n), *in_place = t.inout(x);
        OP(t, softmax_forward, (t.exec(), to, in_place, B, F));
        OP(t, softmax_forward, (t.exec(), in_place, in_place, B, F));
    }, {real, real});
    compare(what + " backward", 1e-5, [&](Trial &t) {
        float *dx = t.out(n), *in_place = t.inout(dy);
        const float *made = t.in(y);
        OP(t, softmax_backward, (t.exec(), dx, in_place, made, B, F));
        OP(t, softmax_backward, (t.exec(), in_place, in_place, made, B, F));
    }, {gradient, F == 1 ? Doubles() : gradient});
}

// Rows with a NaN, with infinities, and of nothing but -infinity.
static void softmax_special()
{
    const float inf = INFINITY;
    const Floats x = {1, NAN, 2, NAN, 1, 2, 1, 2, NAN, inf, 0, 1, -inf, 0, 1, -inf, -inf, -inf,
                      3e38f, -3e38f, 3e38f};
    compare("softmax of what is not finite", 1e-6, [&](Trial &t) {
        float *y = t.out(x.size());
        OP(t, softmax_forward, (t.exec(), y, t.in(x), (int)x.size() / 3, 3));
    });
}

static void elements(size_t n)
{
    const std::string what = std::to_string(n) + " elements";
    const Floats a = uniform(n, -1, 1, 1), b = uniform(n, -1, 1, 2);
    compare(what, 0, [&](Trial &t) {
        float *y = t.out(n), *da = t.out(n), *db = t.out(n), *dc = t.out(n), *x = t.inout(a);
        float *z = t.inout(a), *full = t.out(n);
        const float *other = t.in(b);
        OP(t, add_forward, (t.exec(), y, x, other, n));
        OP(t, add_forward, (t.exec(), z, z, other, n));
        OP(t, add_backward, (t.exec(), da, db, other, n));
        OP(t, add_backward, (t.exec(), nullptr, dc, other, n));
        OP(t, add_backward, (t.exec(), x, nullptr, other, n));
        OP(t, add_backward, (t.exec(), z, nullptr, z, n));
        OP(t, _scale, (t.exec(), x, 0.3f, n));
        OP(t, _fill, (t.exec(), full, -2.5f, n));
    });
}

static void concat(int B, int P, int Q)
{
    const std::string what = "concat " + std::to_string(B) + " " + std::to_string(P);
    const size_t p = (size_t)B * (size_t)P, q = (size_t)B * (size_t)Q;
    const Floats a = uniform(p, -1, 1, 1), b = uniform(q, -1, 1, 2), dy = uniform(p + q, -1, 1, 3);
    Doubles y;
    for (int i = 0; i < B; i++) {
        for (int j = 0; j < P; j++) y.push_back((double)a[(size_t)(i * P + j)]);
        for (int j = 0; j < Q; j++) y.push_back((double)b[(size_t)(i * Q + j)]);
    }
    compare(what, 0, [&](Trial &t) {
        float *to = t.out(p + q), *da = t.out(p), *db = t.out(q), *da2 = t.out(p), *db2 = t.out(q);
        const float *gy = t.in(dy);
        OP(t, concat_forward, (t.exec(), to, t.in(a), t.in(b), B, P, Q));
        OP(t, concat_backward, (t.exec(), da, db, gy, B, P, Q));
        OP(t, concat_backward, (t.exec(), da2, nullptr, gy, B, P, Q));
        OP(t, concat_backward, (t.exec(), nullptr, db2, gy, B, P, Q));
    }, {y});
}

int main()
{
    linears();
    special();
    activations();
    for (int F : {1, 2, 31, 32, 33, 255, 257, 1000}) softmax(3, F, -3, 3);
    softmax(70, 10, -100, 100);
    softmax_special();
    for (size_t n : {1u, 31u, 32u, 33u, 255u, 257u, 1000u}) elements(n);
    concat(1, 1, 1);
    concat(5, 3, 31);
    concat(4, 257, 2);
    return summary("linear");
}
