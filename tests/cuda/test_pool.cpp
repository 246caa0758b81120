// Pooling, unpooling, upsampling, padding; batch and group normalisation: the kernels against the
// CPU and against their definitions in double.
#include "ops.h"

static ae_pool pool(int kernel_h, int kernel_w, int stride_h, int stride_w, int pad_h, int pad_w,
                    int dilation_h, int dilation_w, int exclude_pad)
{
    const ae_pool g = {kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w,
                       dilation_h, dilation_w, exclude_pad};
    return ae_pool_defaults(&g);
}

static std::string text(const char *what, std::initializer_list<int> numbers)
{
    std::string s = what;
    for (int n : numbers) s += " " + std::to_string(n);
    return s;
}

// Few different values, so that windows have equals; and, if asked, what is not a number.
static Floats coarse(size_t n, uint32_t stream, bool special)
{
    Floats x = uniform(n, -4.0f, 4.0f, stream);
    for (float &v : x) v = floorf(v);
    const float wild[] = {NAN, INFINITY, -INFINITY, -0.0f, 0.0f};
    for (size_t i = 0; special && i < n; i += 3) x[i] = wild[i / 3 % 5];
    return x;
}

struct Shape {
    int B, C, H, W;
    ae_pool g;
    int OH() const { return ae_conv_size(H, g.kernel_h, g.stride_h, g.pad_h, g.dilation_h); }
    int OW() const { return ae_conv_size(W, g.kernel_w, g.stride_w, g.pad_w, g.dilation_w); }
    size_t in() const { return (size_t)(B * C * H * W); }
    size_t out() const { return (size_t)(B * C * OH() * OW()); }
    // The places in x that output k looks at.
    std::vector<size_t> window(size_t k) const
    {
        std::vector<size_t> all;
        const int j = (int)k % OW(), i = (int)k / OW() % OH(), plane = (int)k / OW() / OH();
        for (int p = 0; p < g.kernel_h; p++)
            for (int q = 0; q < g.kernel_w; q++) {
                const int r = i * g.stride_h - g.pad_h + p * g.dilation_h;
                const int c = j * g.stride_w - g.pad_w + q * g.dilation_w;
                if (r >= 0 && r < H && c >= 0 && c < W)
                    all.push_back((size_t)((plane * H + r) * W + c));
            }
        return all;
    }
    std::string name(const char *what) const
    {
        return text(what, {B, C, H, W, g.kernel_h, g.kernel_w, g.stride_h, g.stride_w, g.pad_h,
                           g.pad_w, g.dilation_h, g.dilation_w, g.exclude_pad});
    }
};

// What a leaky ReLU, or its slope, joins in the same kernel: in place or not.
static void test_max_joined(const Shape &s, const Floats &dy, const Ints &index, const Doubles &dx,
                            const Doubles &z)
{
    const Floats x = uniform(s.in(), -1, 1, 4);
    Doubles back = dx, forward = z;
    for (size_t i = 0; i < s.in(); i++) {
        if (x[i] <= 0) back[i] *= 0.25;
        if (z[i] <= 0) forward[i] *= 0.25;
    }
    sim::reset_counters();
    for (bool in_place : {false, true})
        compare(s.name("max, joined"), 1e-6, [&](Trial &t) {
            const int32_t *at = t.in(index);
            const float *in = t.in(x), *v = t.in(dy);
            float *a = t.out(s.in()), *back_to = in_place ? a : t.out(s.in());
            float *b = t.out(s.in()), *to = in_place ? b : t.out(s.in());
            OP(t, max_pool2d_backward, (t.exec(), a, v, at, s.B, s.C, s.H, s.W, s.OH(), s.OW()));
            OP(t, activation_backward,
               (t.exec(), back_to, a, in, in, AE_ACT_LEAKY_RELU, 0.25f, s.in()));
            OP(t, max_unpool2d_forward, (t.exec(), b, v, at, s.B, s.C, s.OH(), s.OW(), s.H, s.W));
            OP(t, activation_forward, (t.exec(), to, b, AE_ACT_LEAKY_RELU, 0.25f, s.in()));
        }, in_place ? std::vector<Doubles>{back, forward}
                    : std::vector<Doubles>{dx, back, z, forward});
    CHECK(sim::counters().launches == 4 * settings);
}

static void test_max(const Shape &s, bool special)
{
    const Floats x = coarse(s.in(), 1, special), dy = uniform(s.out(), -1, 1, 2);
    const Floats dz = uniform(s.in(), -1, 1, 3);
    Doubles y(s.out()), dx(s.in(), 0.0), z(s.in(), 0.0), du(s.out());
    const size_t plane = (size_t)(s.H * s.W);
    Ints index(s.out());
    for (size_t k = 0; k < s.out(); k++) {
        const std::vector<size_t> w = s.window(k);
        size_t best = w[0];
        for (size_t at : w)
            if (x[at] > x[best] || std::isnan(x[at])) best = at;
        y[k] = (double)x[best];
        dx[best] += (double)dy[k];
        z[best] = (double)dy[k];            // unpooling dy: later equals win
        du[k] = (double)dz[best];
        index[k] = (int32_t)(best % plane);
    }
    auto forward = [&](Trial &t) {
        float *to = t.out(s.out());
        int32_t *at = t.ints(s.out());
        OP(t, max_pool2d_forward, (t.exec(), to, at, t.in(x), &s.g, s.B, s.C, s.H, s.W));
    };
    compare(s.name("max"), 0, forward, {y});
    Trial gpu(true);
    forward(gpu);
    CHECK(memcmp(gpu.outputs()[1].data(), index.data(), index.size() * 4) == 0);
    compare(s.name("max without index"), 0, [&](Trial &t) {
        OP(t, max_pool2d_forward,
           (t.exec(), t.out(s.out()), NULL, t.in(x), &s.g, s.B, s.C, s.H, s.W));
    }, {y});
    compare(s.name("max back, unpool"), 0, [&](Trial &t) {
        const int32_t *at = t.in(index);
        OP(t, max_pool2d_backward,
           (t.exec(), t.out(s.in()), t.in(dy), at, s.B, s.C, s.H, s.W, s.OH(), s.OW()));
        OP(t, max_unpool2d_forward,
           (t.exec(), t.out(s.in()), t.in(dy), at, s.B, s.C, s.OH(), s.OW(), s.H, s.W));
        OP(t, max_unpool2d_backward,
           (t.exec(), t.out(s.out()), t.in(dz), at, s.B, s.C, s.OH(), s.OW(), s.H, s.W));
    }, {dx, z, du});
    test_max_joined(s, dy, index, dx, z);
}

static void test_avg(const Shape &s)
{
    const Floats x = uniform(s.in(), -1, 2, 1), dy = uniform(s.out(), -1, 1, 2);
    Doubles y(s.out()), dx(s.in(), 0.0);
    for (size_t k = 0; k < s.out(); k++) {
        const std::vector<size_t> w = s.window(k);
        const double n = s.g.exclude_pad ? (double)w.size() : (double)(s.g.kernel_h * s.g.kernel_w);
        double sum = 0;
        for (size_t at : w) {
            sum += (double)x[at];
            dx[at] += (double)dy[k] / n;
        }
        y[k] = sum / n;
    }
    compare(s.name("avg"), 1e-6, [&](Trial &t) {
        OP(t, avg_pool2d_forward,
           (t.exec(), t.out(s.out()), t.in(x), &s.g, s.B, s.C, s.H, s.W));
        OP(t, avg_pool2d_backward,
           (t.exec(), t.out(s.in()), t.in(dy), &s.g, s.B, s.C, s.H, s.W));
    }, {y, dx});
}

static void test_pools()
{
    const Shape shapes[] = {
        {1, 1, 1, 1, pool(1, 1, 1, 1, 0, 0, 1, 1, 0)},
        {2, 3, 6, 6, pool(2, 2, 2, 2, 0, 0, 1, 1, 0)},
        {1, 2, 7, 33, pool(2, 2, 2, 2, 0, 0, 1, 1, 0)},
        {1, 2, 7, 9, pool(3, 3, 2, 2, 1, 1, 1, 1, 0)},
        {1, 2, 7, 9, pool(3, 3, 2, 2, 1, 1, 1, 1, 1)},
        {2, 1, 9, 8, pool(3, 3, 1, 1, 1, 1, 1, 1, 1)},
        {1, 2, 5, 31, pool(2, 3, 1, 2, 0, 1, 1, 1, 1)},
        {1, 1, 10, 7, pool(2, 2, 3, 4, 1, 1, 1, 1, 0)},     // gaps between windows
        {33, 32, 2, 3, pool(2, 2, 2, 2, 0, 0, 1, 1, 0)},    // more planes than blocks
        {1, 1, 65, 64, pool(3, 3, 2, 2, 1, 1, 1, 1, 0)},    // more than a piece
    };
    for (const Shape &s : shapes) {
        test_max(s, false);
        if (s.in() < 200) test_max(s, true);
        test_avg(s);
    }
    test_max({1, 1, 11, 13, pool(3, 3, 1, 1, 1, 1, 2, 3, 0)}, true);
    test_max({1, 1, 3, 255, pool(2, 5, 1, 2, 1, 2, 2, 3, 0)}, false);
    test_avg({1, 3, 16, 8, pool(8, 8, 8, 8, 0, 0, 1, 1, 0)});       // a warp for each window
    test_avg({1, 2, 31, 33, pool(31, 33, 1, 1, 0, 0, 1, 1, 0)});
    test_avg({2, 1, 1, 257, pool(1, 16, 1, 9, 0, 8, 1, 1, 1)});
}

static void test_upsample(int kind, int B, int C, int H, int W, int OH, int OW)
{
    const size_t n = (size_t)(B * C * H * W), m = (size_t)(B * C * OH * OW);
    const Floats x = uniform(n, -1, 2, 1), dy = uniform(m, -1, 1, 2);
    Doubles y(m), dx(n, 0.0);
    auto sample = [kind](int i, int in, int out, int *at, double *w) {
        const float ratio = (float)in / (float)out, product = (float)i * ratio;
        const double s = (i + 0.5) * in / out - 0.5, held = fmin(fmax(s, 0), in - 1);
        *at = kind == AE_NEAREST ? std::min((int)floorf(product), in - 1) : (int)floor(held);
        *w = kind == AE_NEAREST ? 0 : held - *at;
    };
    for (size_t k = 0; k < m; k++) {
        int r, c;
        double v, h;
        sample((int)k / OW % OH, H, OH, &r, &v);
        sample((int)k % OW, W, OW, &c, &h);
        for (int p = 0; p < 4; p++) {
            const double share = (p / 2 ? v : 1 - v) * (p % 2 ? h : 1 - h);
            if (!(share > 0)) continue;
            const size_t at = (k / (size_t)(OH * OW) * (size_t)H + (size_t)(r + p / 2)) * (size_t)W
                            + (size_t)(c + p % 2);
            y[k] += share * (double)x[at];
            dx[at] += share * (double)dy[k];
        }
    }
    const ae_upsample_kind k = (ae_upsample_kind)kind;
    compare(text("upsample", {kind, H, W, OH, OW}), kind == AE_NEAREST ? 0 : 1e-6, [&](Trial &t) {
        OP(t, upsample2d_forward, (t.exec(), t.out(m), t.in(x), k, B, C, H, W, OH, OW));
    }, {y});
    compare(text("upsample back", {kind, H, W, OH, OW}), 1e-6, [&](Trial &t) {
        OP(t, upsample2d_backward, (t.exec(), t.out(n), t.in(dy), k, B, C, H, W, OH, OW));
    }, {dx});
}

static void test_upsamples()
{
    for (int kind = AE_NEAREST; kind <= AE_BILINEAR; kind++) {
        test_upsample(kind, 1, 1, 1, 1, 1, 1);
        test_upsample(kind, 1, 2, 1, 1, 3, 5);
        test_upsample(kind, 2, 2, 3, 4, 6, 8);
        test_upsample(kind, 1, 1, 5, 7, 13, 11);
        test_upsample(kind, 1, 1, 8, 9, 3, 4);
        test_upsample(kind, 1, 2, 4, 3, 4, 9);
        test_upsample(kind, 1, 1, 1, 31, 2, 257);
        test_upsample(kind, 1, 1, 1, 1000, 1, 33);
        test_upsample(kind, 1, 1, 2, 41, 1, 205);       // products that round down, and up
        test_upsample(kind, 1, 1, 1, 49, 1, 1000);
    }
    Floats x = uniform(12, -1, 1, 1);
    x[5] = INFINITY;            // inside: at an edge the CPU makes NaN of it
    x[7] = NAN;
    Floats dy = uniform(48, -1, 1, 2);
    dy[21] = NAN;
    dy[35] = INFINITY;
    compare("upsample of what is no number", 1e-6, [&](Trial &t) {
        OP(t, upsample2d_forward, (t.exec(), t.out(48), t.in(x), AE_BILINEAR, 1, 1, 3, 4, 6, 8));
        OP(t, upsample2d_forward, (t.exec(), t.out(36), t.in(x), AE_NEAREST, 1, 1, 3, 4, 9, 4));
        OP(t, upsample2d_forward, (t.exec(), t.out(108), t.in(x), AE_BILINEAR, 1, 1, 3, 4, 9, 12));
        OP(t, upsample2d_backward, (t.exec(), t.out(12), t.in(dy), AE_BILINEAR, 1, 1, 3, 4, 6, 8));
        OP(t, upsample2d_backward, (t.exec(), t.out(12), t.in(dy), AE_NEAREST, 1, 1, 3, 4, 6, 8));
    });
}

static void test_pad(int B, int C, int H, int W, int top, int bottom, int left, int right)
{
    const int OH = H + top + bottom, OW = W + left + right;
    const size_t n = (size_t)(B * C * H * W), m = (size_t)(B * C * OH * OW);
    const Floats x = uniform(n, -1, 1, 1), dy = uniform(m, -1, 1, 2);
    Doubles y(m, 0.25), dx(n, 0.0);
    for (int plane = 0; plane < B * C; plane++)
        for (int i = 0; i < OH; i++)
            for (int j = 0; j < OW; j++) {
                const int r = i - top, c = j - left;
                if (r < 0 || r >= H || c < 0 || c >= W) continue;
                const size_t to = (size_t)((plane * OH + i) * OW + j);
                const size_t from = (size_t)((plane * H + r) * W + c);
                y[to] = (double)x[from];
                dx[from] = (double)dy[to];
            }
    compare(text("pad", {H, W, top, bottom, left, right}), 0, [&](Trial &t) {
        OP(t, pad2d_forward,
           (t.exec(), t.out(m), t.in(x), top, bottom, left, right, 0.25f, B, C, H, W));
        OP(t, pad2d_backward,
           (t.exec(), t.out(n), t.in(dy), top, bottom, left, right, B, C, H, W));
    }, {y, dx});
}

// What is normalised together, and what has a gamma of its own: numbers for each element of x.
struct Norm {
    size_t n, sets, owners;
    std::vector<size_t> set, owner;
};

static Norm batch_norm(int B, int C, int P)
{
    Norm s = {(size_t)(B * C * P), (size_t)C, (size_t)C, {}, {}};
    for (size_t i = 0; i < s.n; i++) s.set.push_back(i / (size_t)P % s.sets);
    s.owner = s.set;
    return s;
}

static Norm group_norm(int groups, int per_channel, int B, int C, int P)
{
    const size_t F = (size_t)(C * P), p = (size_t)P;
    Norm s = {(size_t)B * F, (size_t)(B * groups), per_channel ? (size_t)C : F, {}, {}};
    for (size_t i = 0; i < s.n; i++) {
        s.set.push_back(i / (F / (size_t)groups));
        s.owner.push_back(per_channel ? i % F / p : i % F);
    }
    return s;
}

static const double EPS = (double)1e-3f;

static void moments(const Norm &s, const Doubles &x, Doubles *mean, Doubles *variance)
{
    const double size = (double)(s.n / s.sets);
    mean->assign(s.sets, 0);
    variance->assign(s.sets, 0);
    for (size_t i = 0; i < s.n; i++) (*mean)[s.set[i]] += x[i] / size;
    for (size_t i = 0; i < s.n; i++) {
        const double d = x[i] - (*mean)[s.set[i]];
        (*variance)[s.set[i]] += d * d / size;
    }
}

static Doubles normalise(const Norm &s, const Doubles &x, const Doubles &gamma, const Doubles &beta)
{
    Doubles mean, variance, y(s.n);
    moments(s, x, &mean, &variance);
    for (size_t i = 0; i < s.n; i++)
        y[i] = (x[i] - mean[s.set[i]]) / sqrt(variance[s.set[i]] + EPS) * gamma[s.owner[i]]
             + beta[s.owner[i]];
    return y;
}

// The gradient of sum y dy for v, one of x, gamma and beta, by central differences.
static Doubles gradient(const Norm &s, Doubles &v, const Doubles &x, const Doubles &gamma,
                        const Doubles &beta, const Floats &dy)
{
    Doubles g(v.size(), 0.0);
    const double h = 1e-5;
    for (size_t k = 0; k < v.size(); k++) {
        const double old = v[k];
        v[k] = old + h;
        const Doubles more = normalise(s, x, gamma, beta);
        v[k] = old - h;
        const Doubles less = normalise(s, x, gamma, beta);
        v[k] = old;
        for (size_t i = 0; i < s.n; i++) g[k] += (more[i] - less[i]) / (2 * h) * (double)dy[i];
    }
    return g;
}

static Doubles wide(const Floats &x) { return Doubles(x.begin(), x.end()); }

// groups 0: batch normalisation. affine: 0 without gamma and beta, 1 both, 2 gamma, 3 beta.
static void test_norm(int groups, int per_channel, int affine, int B, int C, int P, float offset)
{
    const Norm s = groups ? group_norm(groups, per_channel, B, C, P) : batch_norm(B, C, P);
    const Floats x = uniform(s.n, offset - 2, offset + 1, 1), dy = uniform(s.n, -1, 2, 2);
    const bool has_gamma = affine == 1 || affine == 2, has_beta = affine == 1 || affine == 3;
    Floats gamma = uniform(s.owners, 0.5f, 2, 3), beta = uniform(s.owners, -1, 1, 4);
    const Floats grown = uniform(2 * s.owners, -1, 1, 5);
    const Floats run_mean = uniform(s.sets, -1, 1, 6), run_var = uniform(s.sets, 0.5f, 2, 7);
    if (affine == 1) gamma[0] = 0.0f;
    Doubles X = wide(x), G = has_gamma ? wide(gamma) : Doubles(s.owners, 1.0);
    Doubles Z = has_beta ? wide(beta) : Doubles(s.owners, 0.0);
    Doubles mean, rstd, rm = wide(run_mean), rv = wide(run_var), inferred(s.n);
    const double n = (double)(s.n / s.sets);
    moments(s, X, &mean, &rstd);
    for (size_t k = 0; k < s.sets; k++) {
        rm[k] += (double)0.3f * (mean[k] - rm[k]);
        rv[k] += (double)0.3f * (rstd[k] * n / (n - 1) - rv[k]);
        rstd[k] = 1 / sqrt(rstd[k] + EPS);
    }
    for (size_t i = 0; i < s.n && !groups; i++)
        inferred[i] = (X[i] - (double)run_mean[s.set[i]]) /
            sqrt((double)run_var[s.set[i]] + EPS) * G[s.owner[i]] + Z[s.owner[i]];
    const std::string name = text("norm", {groups, per_channel, affine, B, C, P, (int)offset});
    const float eps = 1e-3f;
    compare(name, 1e-5, [&](Trial &t) {
        const float *g = has_gamma ? t.in(gamma) : NULL, *b = has_beta ? t.in(beta) : NULL;
        float *y = t.out(s.n), *m = t.out(s.sets), *r = t.out(s.sets);
        if (groups) {
            OP(t, group_norm_forward,
               (t.exec(), y, m, r, t.in(x), g, b, eps, groups, per_channel, B, C, P));
            return;
        }
        float *to_mean = t.inout(run_mean), *to_var = t.inout(run_var), *place = t.inout(x);
        OP(t, batch_norm_forward,
           (t.exec(), y, m, r, to_mean, to_var, t.in(x), g, b, 0.3f, eps, B, C, P));
        OP(t, batch_norm_infer,
           (t.exec(), place, t.in(run_mean), t.in(run_var), place, g, b, eps, B, C, P));
    }, {normalise(s, X, G, Z), mean, rstd, rm, rv, inferred});

    Doubles dx, dgamma, dbeta;
    if (s.n < 400 && offset == 0.0f) {
        dx = gradient(s, X, X, G, Z, dy);
        dgamma = gradient(s, G, X, G, Z, dy);
        dbeta = gradient(s, Z, X, G, Z, dy);
        for (size_t k = 0; k < s.owners; k++) {
            dgamma[k] += (double)grown[k];
            dbeta[k] += (double)grown[k + s.owners];
        }
    }
    Floats m(s.sets), r(s.sets);
    for (size_t k = 0; k < s.sets; k++) {
        m[k] = (float)mean[k];
        r[k] = (float)rstd[k];
    }
    for (int asked = 1; asked < 8; asked += affine == 1 ? 1 : 6)    // which gradients: all subsets
        compare(name + " back", 1e-5, [&](Trial &t) {
            float *to_x = t.out(s.n);
            float *to_gamma = t.inout(Floats(grown.begin(), grown.begin() + (long)s.owners));
            float *to_beta = t.inout(Floats(grown.begin() + (long)s.owners, grown.end()));
            const float *g = has_gamma ? t.in(gamma) : NULL;
            float *wx = asked & 1 ? to_x : NULL, *wg = asked & 2 ? to_gamma : NULL;
            float *wb = asked & 4 ? to_beta : NULL;
            if (groups)
                OP(t, group_norm_backward, (t.exec(), wx, wg, wb, t.in(dy), t.in(x), t.in(m),
                                            t.in(r), g, groups, per_channel, B, C, P));
            else
                OP(t, batch_norm_backward, (t.exec(), wx, wg, wb, t.in(dy), t.in(x), t.in(m),
                                            t.in(r), g, B, C, P));
        }, {asked & 1 ? dx : Doubles(), asked & 2 ? dgamma : Doubles(),
            asked & 4 ? dbeta : Doubles()});
}

static void test_norms()
{
    test_norm(0, 1, 1, 2, 1, 1, 0);
    test_norm(0, 1, 1, 31, 3, 1, 0);            // 32 channels a block, some of them not there
    test_norm(0, 1, 0, 9, 33, 1, 0);
    test_norm(0, 1, 1, 5, 3, 7, 0);
    test_norm(0, 1, 2, 4, 2, 33, 0);
    test_norm(0, 1, 3, 2, 3, 32, 0);
    test_norm(0, 1, 0, 1, 1, 255, 0);
    test_norm(0, 1, 1, 257, 2, 1, 1000);        // a mean much larger than the deviation
    test_norm(0, 1, 2, 3, 1, 1000, 1000);
    for (int per_channel = 0; per_channel < 2; per_channel++) {
        test_norm(1, per_channel, 1, 2, 1, 31, 0);
        test_norm(2, per_channel, 1, 3, 6, 5, 0);
        test_norm(3, per_channel, 0, 2, 6, 4, 0);
        test_norm(5, per_channel, 2, 2, 5, 9, 0);       // as many groups as channels
        test_norm(2, per_channel, 3, 9, 4, 2, 0);
        test_norm(1, per_channel, 1, 5, 33, 1, 0);
        test_norm(3, per_channel, 1, 3, 3, 1, 0);       // a group of one element
        test_norm(1, per_channel, 2, 2, 3, 257, 1000);
    }
    test_norm(1, 0, 2, 1, 1, 1000, 0);
    // More units of work than blocks: many threads, so one order of them is enough.
    const int B = 11, G = 103, C = 2 * G, n = B * C;
    const Floats x = uniform(n, -1, 1, 1), dy = uniform(n, -1, 1, 2), gamma = uniform(C, 1, 2, 3);
    std::vector<Floats> y[2];
    sim::use_setting(1);
    for (int gpu = 0; gpu < 2; gpu++) {
        Trial t(gpu != 0);
        float *mean = t.out(B * G), *rstd = t.out(B * G), *g = t.in(gamma), *X = t.in(x);
        OP(t, group_norm_forward,
           (t.exec(), t.out(n), mean, rstd, X, g, NULL, 1e-3f, G, 1, B, C, 1));
        OP(t, group_norm_backward, (t.exec(), t.out(n), t.inout(gamma), t.inout(gamma), t.in(dy), X,
                                    mean, rstd, g, G, 1, B, C, 1));
        y[gpu] = t.outputs();
    }
    for (size_t k = 0; k < y[0].size(); k++) CHECK(distance(y[1][k], y[0][k]) <= 1e-5);
}

int main()
{
    test_pools();
    test_upsamples();
    test_pad(1, 1, 1, 1, 0, 0, 0, 0);
    test_pad(2, 3, 4, 5, 1, 2, 3, 4);
    test_pad(1, 2, 5, 7, -1, -2, -3, 1);
    test_pad(1, 1, 5, 31, 2, -3, -1, 3);
    test_pad(1, 1, 3, 3, 4, -4, -4, 4);         // nothing of x is left
    test_pad(1, 1, 1, 255, 0, 0, 1, 1);
    test_norms();
    CHECK(sim::runs_of("ae__k_max_pool") > 0 && sim::runs_of("ae__k_norm_grad") > 0);
    return summary("pool");
}
