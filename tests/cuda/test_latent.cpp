/* Noise and latent codes: >>noise and >>latent of ae_cuda.cuh. */
#include "ops.h"

#include <algorithm>

static std::string name(const char *what, std::initializer_list<size_t> sizes)
{
    std::string s = what;
    for (size_t n : sizes) s += " " + std::to_string(n);
    return s;
}

static double slope_of(const std::function<double(double)> &f, double at)
{
    const double h = 1e-5;
    return (8 * (f(at + h) - f(at - h)) - (f(at + 2 * h) - f(at - 2 * h))) / (12 * h);
}

static double reduction_of(ae_reduction r, int B, int F)
{
    return r == AE_SUM ? 1.0 : r == AE_MEAN ? 1.0 / B / F : 1.0 / B;
}

// e^v along its tangent beyond 20.
static double tangent(double v)
{
    return v > 20 ? exp(20.0) * (v - 19) : exp(v);
}

static double at(const Floats &x, size_t i) { return (double)x[i]; }

static const size_t sizes[] = {1, 31, 32, 33, 255, 257, 1000, 3 * AE_CUDA_BLOCK * 4 + 5};

// The one that changes from step to step: its draws come from the record's step.
static ae_random sequence(Trial &t, uint32_t stream)
{
    const uint64_t step = 7;
    if (t.gpu) {
        cudaStreamSynchronize(t.cuda.stream);       // it was cleared on the stream
        cudaMemcpy(&t.cuda.record->step, &step, sizeof step, cudaMemcpyHostToDevice);
    }
    ae_random r = {0x123456789abcdefull, t.step(), stream};
    return r;
}

/* ---- noise ---- */

static void noise(int kind, float a, float low, float high, size_t group, size_t size, size_t first,
                  int B, bool by_rows, bool masked)
{
    const size_t n = size * (size_t)B;
    const Floats x = uniform(n, -1.0f, 1.0f, 3);
    std::vector<size_t> rows;
    for (int i = 0; i < B; i++) rows.push_back((size_t)(i * i * 7 + 3) % 41);
    const auto run = [&](Trial &t) {
        const size_t bytes = rows.size() * sizeof(size_t);
        const void *row = by_rows ? t.buffer(rows.data(), bytes, false) : NULL;
        float *y = t.out(n), *mask = masked ? t.out(n) : NULL;
        OP(t, _noise_samples, (t.exec(), kind, y, mask, t.in(x), a, low, high, group,
                               (const size_t *)row, size, first, sequence(t, 5), B));
    };
    compare(name("noise", {(size_t)kind, group, size, first, (size_t)B, by_rows, masked}), 0, run);
}

// In place, of a step that is given, and split in two: the same as whole.
static void noise_split(size_t n, size_t cut)
{
    const Floats x = uniform(n, -1.0f, 1.0f, 4);
    Floats whole, parts;
    for (int split = 0; split < 2; split++) {
        Trial t(true);
        float *y = t.inout(x);
        const ae_random r = {7, 1ull << 40, 9};
        const size_t head = split ? cut : n;
        OP(t, _noise_samples, (t.exec(), AE__GAUSSIAN, y, NULL, y, 0.5f, 0, 0, 1, NULL, head, 3, r,
                               1));
        if (split)
            OP(t, _noise_samples, (t.exec(), AE__GAUSSIAN, y + cut, NULL, y + cut, 0.5f, 0, 0, 1,
                                   NULL, n - cut, 3 + cut, r, 1));
        (split ? parts : whole) = t.outputs()[0];
    }
    CHECK(same_bits({whole}, {parts}));
}

static void all_noise()
{
    for (int kind = 0; kind < AE__NOISES; kind++) {
        const float a = kind == AE__GAUSSIAN ? 0.7f : 0.4f;
        for (size_t n : sizes)
            noise(kind, a, -0.5f, 0.75f, 1, n, n % 7, 1, false, n % 2);
        noise(kind, a, -0.5f, 0.75f, 1, 11, 0, 9, true, true);
        noise(kind, a, -0.5f, 0.75f, 1, 1100, 0, 3, true, false);
    }
    noise(AE__GAUSSIAN, 0.7f, 1.0f, 1.0f, 1, 100, 5, 1, false, true);       // not held
    noise(AE__DROPOUT, 0.0f, 0, 0, 1, 100, 1ull << 36, 1, false, true);
    for (size_t group : std::initializer_list<size_t>{2, 3, 9, 49, 1500}) {
        noise(AE__DROPOUT, 0.5f, 0, 0, group, 7 * group, 5 * group, 3, false, true);
        noise(AE__DROPOUT, 0.5f, 0, 0, group, 3 * group, 0, 2, true, true);
    }
    for (size_t cut : std::initializer_list<size_t>{1, 2, 3, 6, 250}) noise_split(300, cut);
    for (size_t n : sizes) {
        const Floats dy = uniform(n, -1.0f, 1.0f, 5), mask = uniform(n, -1.0f, 1.0f, 6);
        Doubles dx(n);
        for (size_t i = 0; i < n; i++) dx[i] = (double)(dy[i] * mask[i]);
        compare(name("dropout_backward", {n}), 0, [&](Trial &t) {
            OP(t, dropout_backward, (t.exec(), t.out(n), t.in(dy), t.in(mask), n));
        }, {dx});
        compare(name("dropout_backward in place", {n}), 0, [&](Trial &t) {
            float *d = t.inout(dy);
            OP(t, dropout_backward, (t.exec(), d, d, t.in(mask), n));
        }, {dx});
    }
}

/* ---- samples ---- */

static void gaussian_sample(size_t n, size_t first)
{
    const Floats mu = uniform(n, -1.0f, 1.0f, 7), dz = uniform(n, -1.0f, 1.0f, 9);
    Floats logvar = uniform(n, -3.0f, 3.0f, 8), normal(n), slope(n);
    if (n == 257) logvar[29] = 41.5f, logvar[30] = -100.0f;     // it outweighs all others
    ae_random_normal(normal.data(), n, first, {0x123456789abcdefull, 7, 2});
    Doubles z(n), dlogvar(n), back(n);
    for (size_t i = 0; i < n; i++) {
        const auto deviation = [](double v) { return tangent(v / 2); };
        z[i] = at(mu, i) + deviation(at(logvar, i)) * at(normal, i);
        dlogvar[i] = slope_of(deviation, at(logvar, i)) * at(normal, i);
        slope[i] = (float)dlogvar[i];
        back[i] = at(dz, i) * at(slope, i);
    }
    for (int kept = 0; kept < 2; kept++)
        compare(name("gaussian_sample", {n, first}), 1e-6, [&](Trial &t) {
            float *to = t.out(n), *slopes = kept ? t.out(n) : NULL;
            OP(t, gaussian_sample_forward, (t.exec(), to, slopes, t.in(mu), t.in(logvar), first,
                                            sequence(t, 2), n));
        }, {z, dlogvar});
    const Doubles same(dz.begin(), dz.end());
    for (int which = 0; which < 4; which++)
        compare(name("gaussian_sample_backward", {n, (size_t)which}), 1e-7, [&](Trial &t) {
            float *v = which & 2 ? t.out(n) : NULL, *d = t.inout(dz);
            float *m = which == 3 ? d : which & 1 ? t.out(n) : NULL;
            OP(t, gaussian_sample_backward, (t.exec(), m, v, d, t.in(slope), n));
        }, {which & 2 ? back : same, same, same});
    compare(name("draw_normal", {n, first}), 0, [&](Trial &t) {
        OP(t, _draw_normal, (t.exec(), t.out(n), n, first, sequence(t, 2)));
    }, {Doubles(normal.begin(), normal.end())});
}

static unsigned bad_of(Trial &t)
{
    ae__cu_record record;
    cudaStreamSynchronize(t.cuda.stream);
    cudaMemcpy(&record, t.cuda.record, sizeof record, cudaMemcpyDeviceToHost);
    return record.bad;
}

static void one_hot(int B, int F)
{
    const Ints lasts = {0, F - 1, -1, F, INT32_MIN};        // the CPU stops at a bad one
    for (int32_t last : lasts) {
        const bool bad = last < 0 || last >= F;
        Ints labels;
        Doubles y((size_t)B * (size_t)F);
        for (int b = 0; b < B; b++) labels.push_back(b < B - 1 ? (b * 7 + 3) % F : last);
        for (int b = 0; b < B - bad; b++) y[(size_t)(b * F + labels[(size_t)b])] = 1;
        compare(name("one_hot", {(size_t)B, (size_t)F}), 0, [&](Trial &t) {
            const ae_status s = OP(t, one_hot_forward, (t.exec(), t.out(y.size()), t.in(labels), B,
                                                        F));
            CHECK(t.gpu ? s == AE_SUCCESS && bad_of(t) == (bad ? 1 : 0) : (s != AE_SUCCESS) == bad);
        }, {y});
    }
}

/* ---- codebooks ---- */

static void vq_forward(int K, int B, int C, int P, int special)
{
    const size_t c = (size_t)C, p = (size_t)P, vectors = (size_t)B * p;
    Floats x = uniform(vectors * c, -1.0f, 1.0f, 10);
    Floats codes = uniform((size_t)K * c, -1.0f, 1.0f, 11);
    Doubles y(x.size()), index;
    if (special == 1)           // ties: every code twice
        for (size_t k = 0; k < (size_t)K; k++)
            for (size_t j = 0; j < c; j++) codes[k * c + j] = codes[k / 2 * 2 % 7 * c + j];
    if (special == 2) x[0] = NAN, x.back() = INFINITY;
    if (special == 3) codes[0] = NAN;
    if (special == 4) codes[(size_t)(K - 1) * c] = NAN;
    for (size_t v = 0; v < vectors && special < 2; v++) {
        size_t best = 0;
        double least = 1e300;
        for (size_t k = 0; k < (size_t)K; k++) {
            double distance = 0;
            for (size_t j = 0; j < c; j++) {
                const double d = at(x, (v / p * c + j) * p + v % p) - at(codes, k * c + j);
                distance += d * d;
            }
            if (distance < least) least = distance, best = k;
        }
        for (size_t j = 0; j < c; j++) y[(v / p * c + j) * p + v % p] = at(codes, best * c + j);
        const int32_t bits = (int32_t)best;
        float f;
        memcpy(&f, &bits, 4);
        index.push_back((double)f);
    }
    if (special > 1) y.clear();
    compare(name("vq_forward", {(size_t)K, (size_t)B, c, p, (size_t)special}), 0, [&](Trial &t) {
        float *to = t.out(x.size());
        OP(t, vq_forward, (t.exec(), to, t.ints(vectors), t.in(x), t.in(codes), K, B, C, P));
    }, {y, index});
}

static Ints indices(size_t n, int K)
{
    Ints index;
    const Floats u = uniform(n, 0.0f, 1.0f, 12);
    for (size_t i = 0; i < n; i++) index.push_back((int32_t)(u[i] * u[i] * (float)K));
    return index;
}

static void vq_loss(int K, int B, int C, int P, ae_reduction reduction)
{
    const size_t c = (size_t)C, p = (size_t)P, n = (size_t)B * c * p;
    const Floats x = uniform(n, -1.0f, 1.0f, 13), y = uniform(n, -1.0f, 1.0f, 14);
    const Floats start = uniform((size_t)K * c, -1.0f, 1.0f, 15);
    const Ints index = indices((size_t)B * p, K);
    const double scale = reduction_of(reduction, B, C * P);
    const float beta = 0.25f, dloss = -1.7f;
    Doubles loss(2), dx(n), dcodes(start.begin(), start.end());
    for (size_t i = 0; i < n; i++) {
        const double d = at(x, i) - at(y, i), by = 2 * scale * (double)dloss * d;
        loss[0] += scale * 0.25 * d * d;
        loss[1] += scale * 1.25 * d * d;
        dx[i] = 0.25 * by;
        dcodes[(size_t)index[i / (c * p) * p + i % p] * c + i / p % c] -= by;
    }
    const std::string what = name("vq_loss", {(size_t)K, (size_t)B, c, p});
    for (int learns = 0; learns < 2; learns++)
        compare(what, 1e-6, [&](Trial &t) {
            OP(t, vq_loss_forward, (t.exec(), t.out(1), t.in(x), t.in(y), beta, learns, reduction,
                                    B, C, P));
        }, {{loss[(size_t)learns]}});
    for (int which = 0; which < 4; which++)
        compare(what + " backward", 3e-6, [&](Trial &t) {
            float *a = which & 1 ? t.out(n) : NULL, *b = which & 2 ? t.inout(start) : NULL;
            OP(t, vq_loss_backward, (t.exec(), a, b, dloss, t.in(x), t.in(y), t.in(index), beta,
                                     reduction, B, C, P));
        }, {which & 1 ? dx : dcodes, dcodes});
}

static void vq_update(int K, int B, int C, int P, float decay, float least, bool sums, bool failed)
{
    const size_t c = (size_t)C, p = (size_t)P, n = (size_t)B * p, k_ = (size_t)K;
    const Floats x = uniform(n * c, -1.0f, 1.0f, 16), codes = uniform(k_ * c, -1.0f, 1.0f, 17);
    const Floats sum = uniform(k_ * c, -1.0f, 1.0f, 18);
    Floats count = uniform(k_, 0.0f, 3.0f, 19), u(k_);
    const Ints index = indices(n, K);
    for (size_t k = 0; k < k_; k += 5) count[k] = 0.0f;
    Doubles wanted(codes.begin(), codes.end()), s(sum.begin(), sum.end());
    Doubles many(count.begin(), count.end());
    double total = 0;
    if (!failed) {
        for (double &v : many) v *= (double)decay;
        for (double &v : s) v *= (double)decay;
        for (size_t v = 0; v < n; v++) many[(size_t)index[v]] += 1 - (double)decay;
        for (size_t i = 0; i < n * c; i++) {
            const size_t k = (size_t)index[i / (c * p) * p + i % p];
            s[k * c + i / p % c] += (1 - (double)decay) * at(x, i);
        }
        for (double v : many) total += v;
        ae_random_uniform(u.data(), k_, 0, {0x123456789abcdefull, 7, 21});
    }
    for (size_t k = 0; k < k_ && sums && !failed; k++) {
        const size_t v = (size_t)(at(u, k) * (double)n);
        const bool anew = many[k] < (double)least;
        const double size = (many[k] + 1e-5) / (total + K * 1e-5) * total;
        for (size_t j = 0; j < c; j++) {
            if (anew) wanted[k * c + j] = at(x, (v / p * c + j) * p + v % p);
            else if (many[k] > 0) wanted[k * c + j] = s[k * c + j] / size;
            if (anew) s[k * c + j] = (double)least * wanted[k * c + j];
        }
        if (anew) many[k] = (double)least;
    }
    const auto run = [&](Trial &t) {
        float *a = t.inout(codes), *b = t.inout(count), *d = sums ? t.inout(sum) : NULL;
        const ae_random r = sequence(t, 21);
        if (failed && t.gpu) {
            const int yes = 1;
            cudaMemcpy(&t.cuda.record->failed, &yes, sizeof yes, cudaMemcpyHostToDevice);
        }
        if (!failed || t.gpu)
            OP(t, vq_update, (t.exec(), a, d, b, t.in(x), t.in(index), decay, 1e-5f, least, r,
                              K, B, C, P));
    };
    compare(name("vq_update", {k_, (size_t)B, c, p, sums, failed}), 5e-6, run, {wanted, many, s});
}

static void all_vq()
{
    const int shapes[][4] = {{1, 1, 1, 1}, {7, 5, 3, 1}, {64, 33, 16, 1}, {65, 3, 17, 11},
                             {130, 1, 33, 65}, {5, 31, 2, 2}};
    for (const auto &s : shapes) vq_forward(s[0], s[1], s[2], s[3], 0);
    for (int special = 1; special < 5; special++) {
        vq_forward(66, 3, 5, 7, special);
        vq_forward(20, 30, 18, 1, special);
    }
    const int small[][4] = {{1, 1, 1, 1}, {7, 5, 3, 1}, {3, 1, 33, 35}, {6, 9, 2, 3}};
    for (const auto &s : small) {
        vq_loss(s[0], s[1], s[2], s[3], (ae_reduction)(s[1] % 3));
        vq_update(s[0], s[1], s[2], s[3], 0.9f, 0.3f, true, false);
        vq_update(s[0], s[1], s[2], s[3], 0.99f, 0.0f, true, false);
    }
    vq_update(7, 5, 3, 1, 0.9f, 0.5f, true, true);
    vq_update(7, 5, 3, 1, 0.0f, 1.0f, false, false);
    vq_update(7, 5, 3, 4, 0.0f, 3.0f, true, false);     // counts are whole: some are just `least`
    vq_update(17, 3, 2, 100, 0.5f, 0.25f, true, false);
}

/* ---- terms of variational autoencoders ---- */

// free_bits: as many nats as lie in the middle of what the units have.
static void kl(int B, int F, bool free_bits, ae_reduction reduction)
{
    float nats = 0.0f;
    const size_t f = (size_t)F, n = (size_t)B * f;
    const Floats mu = uniform(n, -1.5f, 1.5f, 22);
    Floats logvar = uniform(n, -1.0f, 1.0f, 23);
    if (B == 300 && !free_bits) logvar[n / 2] = 21.0f;        // it outweighs all others
    const double scale = reduction_of(reduction, B, F);
    const float dloss = 0.7f;
    Doubles unit(f), loss(1), dmu(n), dlogvar(n);
    for (size_t i = 0; i < n; i++)
        unit[i % f] += (at(mu, i) * at(mu, i) + tangent(at(logvar, i)) - 1 - at(logvar, i)) / 2 / B;
    if (free_bits) {
        Doubles sorted = unit;
        std::sort(sorted.begin(), sorted.end());
        nats = (float)((sorted[f / 2 - 1] + sorted[f / 2]) / 2);
    }
    for (double u : unit) loss[0] += scale * B * (nats > 0 && u < (double)nats ? (double)nats : u);
    for (size_t i = 0; i < n; i++) {
        if (nats > 0 && unit[i % f] < (double)nats) continue;
        dmu[i] = scale * (double)dloss * at(mu, i);
        dlogvar[i] = scale * (double)dloss * (slope_of(tangent, at(logvar, i)) - 1) / 2;
        if (at(logvar, i) > 19) dlogvar[i] = scale * (double)dloss * (exp(20.0) - 1) / 2;
    }
    const std::string what = name("kl_normal", {(size_t)B, f, free_bits});
    compare(what, 2e-6, [&](Trial &t) {
        OP(t, kl_normal_forward, (t.exec(), t.out(1), t.in(mu), t.in(logvar), nats, reduction, B,
                                  F));
    }, {loss});
    for (int which = 1; which < 4; which++)
        compare(what + " backward", 2e-6, [&](Trial &t) {
            float *a = which & 1 ? t.out(n) : NULL, *b = which & 2 ? t.out(n) : NULL;
            OP(t, kl_normal_backward, (t.exec(), a, b, dloss, t.in(mu), t.in(logvar), nats,
                                       reduction, B, F));
        }, {which & 1 ? dmu : dlogvar, dlogvar});
}

// Posteriors next to the prior: the float terms of the CPU have lost most digits, these have not.
static void kl_small()
{
    Floats mu = uniform(600, -1e-3f, 1e-3f, 24), logvar = uniform(600, -2e-3f, 2e-3f, 25);
    double sum = 0;
    for (size_t i = 0; i < 600; i++)
        sum += (at(mu, i) * at(mu, i) + expm1(at(logvar, i)) - at(logvar, i)) / 2;
    Trial t(true);
    OP(t, kl_normal_forward, (t.exec(), t.out(1), t.in(mu), t.in(logvar), 0, AE_SUM, 20, 30));
    CHECK(fabs((double)t.outputs()[0][0] - sum) < 1e-4 * sum);
}

static void log_normal(int B, int F, int given)
{
    const size_t f = (size_t)F, n = (size_t)B * f;
    const Floats z = uniform(n, -2.0f, 2.0f, 26), mu = uniform(n, -1.0f, 1.0f, 27);
    const Floats dy = uniform((size_t)B, -1.0f, 1.0f, 29);
    Floats logvar = uniform(n, -2.0f, 2.0f, 28);
    if (B == 33) logvar[n / 2] = -22.0f;       // it outweighs all others
    const ae_reduction reduction = (ae_reduction)(F % 3);
    const double scale = reduction_of(reduction, B, F);
    Doubles y((size_t)B), loss(1), d[2][3];
    for (auto &of : d)
        for (Doubles &v : of) v.resize(n);
    for (size_t i = 0; i < n; i++) {
        const auto density = [&](double a, double m, double v) {
            return -0.5 * (log(2 * 3.14159265358979324) + v + (a - m) * (a - m) * tangent(-v));
        };
        const double m = given ? at(mu, i) : 0, v = given == 2 ? at(logvar, i) : 0;
        y[i / f] += density(at(z, i), m, v);
        const double by_z = -(at(z, i) - m) * tangent(-v);
        const double by_v = slope_of([&](double w) { return density(at(z, i), m, w); }, v);
        for (int k = 0; k < 2; k++) {
            const double dy_ = k ? -scale * 1.3 : at(dy, i / f);
            d[k][0][i] = dy_ * by_z;
            d[k][1][i] = -dy_ * by_z;
            d[k][2][i] = dy_ * by_v;
        }
    }
    for (double row : y) loss[0] -= scale * row;
    const auto in = [&](Trial &t, int least, const Floats &v) {
        return given >= least ? t.in(v) : NULL;
    };
    const std::string what = name("log_normal", {(size_t)B, f, (size_t)given});
    compare(what, 2e-6, [&](Trial &t) {
        float *to = t.out((size_t)B);
        OP(t, log_normal_forward, (t.exec(), to, t.in(z), in(t, 1, mu), in(t, 2, logvar), B, F));
    }, {y});
    if (given)
        compare(what + " nll", 2e-6, [&](Trial &t) {
            float *to = t.out(1);
            OP(t, _gaussian_nll_forward, (t.exec(), to, t.in(z), t.in(mu), in(t, 2, logvar),
                                          reduction, B, F));
        }, {loss});
    for (int which : {1, 2, 4, 7})
        for (int nll = 0; nll < 2; nll++) {
            std::vector<Doubles> wanted;
            for (int i = 0; i < 3; i++)
                if (which >> i & 1) wanted.push_back(d[nll][i]);
            if ((!given && (nll || which & 6)) || (given == 1 && which & 4)) continue;
            compare(what + (nll ? " nll backward" : " backward"), 2e-6, [&](Trial &t) {
                float *o[3];
                for (int i = 0; i < 3; i++) o[i] = which >> i & 1 ? t.out(n) : NULL;
                if (nll)
                    OP(t, _gaussian_nll_backward, (t.exec(), o[0], o[1], o[2], 1.3f, t.in(z),
                                                   t.in(mu), in(t, 2, logvar), reduction, B, F));
                else
                    OP(t, log_normal_backward, (t.exec(), o[0], o[1], o[2], t.in(dy), t.in(z),
                                                in(t, 1, mu), in(t, 2, logvar), B, F));
            }, wanted);
        }
}

static void log_bernoulli(int B, int F)
{
    const size_t f = (size_t)F, n = (size_t)B * f;
    const Floats x = uniform(n, -4.0f, 4.0f, 30), dy = uniform((size_t)B, -1.0f, 1.0f, 32);
    Floats target = uniform(n, 0.0f, 1.0f, 31);
    Doubles y((size_t)B), dx(n), dt(n);
    for (size_t i = 0; i < n; i++) {
        const double s = 1 / (1 + exp(-at(x, i))), u = at(target, i);
        y[i / f] += u * log(s) + (1 - u) * log(1 - s);
        dx[i] = at(dy, i / f) * (u - s);
        dt[i] = at(dy, i / f) * at(x, i);
    }
    const std::string what = name("log_bernoulli", {(size_t)B, f});
    for (int which = 1; which < 4; which++)
        compare(what + " backward", 2e-6, [&](Trial &t) {
            float *a = which & 1 ? t.out(n) : NULL, *b = which & 2 ? t.out(n) : NULL;
            OP(t, log_bernoulli_backward, (t.exec(), a, b, t.in(dy), t.in(x), t.in(target), B, F));
        }, {which & 1 ? dx : dt, dt});
    for (int bad = 0; bad < 4; bad++) {
        if (bad) {
            target.back() = bad == 1 ? 1.001f : bad == 2 ? -1e-6f : NAN;
            y.clear();
        }
        compare(what, 2e-6, [&](Trial &t) {
            const ae_status s = OP(t, log_bernoulli_forward, (t.exec(), t.out((size_t)B), t.in(x),
                                                              t.in(target), B, F));
            CHECK(t.gpu ? s == AE_SUCCESS && bad_of(t) == (bad > 0)
                        : (s != AE_SUCCESS) == (bad > 0));
        }, {y});
    }
}

static void iwae(int groups, int k, ae_reduction reduction, float infinite)
{
    const int B = groups * k;
    Floats px = uniform((size_t)B, -530.0f, -500.0f, 33);
    const Floats pz = uniform((size_t)B, -60.0f, -50.0f, 34);
    const Floats qz = uniform((size_t)B, -40.0f, -20.0f, 35);
    if (infinite != 0) px[(size_t)(B / 2)] = infinite;
    const double scale = reduction_of(reduction, groups, 1);
    Doubles loss(1), dw((size_t)B);
    for (int g = 0; g < groups; g++) {
        const auto w = [&](int i) {
            const size_t j = (size_t)(g * k + i);
            return at(px, j) + at(pz, j) - at(qz, j) + 550;
        };
        double sum = 0;
        for (int i = 0; i < k; i++) sum += exp(w(i));
        loss[0] -= scale * (log(sum / k) - 550);
        for (int i = 0; i < k; i++) dw[(size_t)(g * k + i)] = 2.3 * scale * exp(w(i)) / sum;
    }
    if (!(infinite == 0 || (infinite < 0 && k > 1))) loss.clear(), dw.clear();
    const std::string what = name("iwae", {(size_t)groups, (size_t)k});
    compare(what, 1e-6, [&](Trial &t) {
        OP(t, iwae_forward, (t.exec(), t.out(1), t.in(px), t.in(pz), t.in(qz), k, reduction, B));
    }, {loss});
    compare(what + " backward", 2e-6, [&](Trial &t) {
        OP(t, iwae_backward, (t.exec(), t.out((size_t)B), -2.3f, t.in(px), t.in(pz), t.in(qz), k,
                              reduction, B));
    }, {dw});
}

static void mmd(int B, int F)
{
    const size_t f = (size_t)F, b = (size_t)B, n = b * f;
    const Floats z = uniform(n, -1.0f, 2.0f, 36), prior = uniform(n, -1.7f, 1.7f, 37);
    Doubles loss(1), dz(n);
    const auto kernel = [&](const float *p, const float *q, double *slope) {
        double distance = 0, sum = 0;
        for (size_t j = 0; j < f; j++) distance += pow((double)p[j] - (double)q[j], 2);
        *slope = 0;
        for (double width : {0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0}) {
            const double c = 2 * F * width;
            sum += c / (c + distance);
            *slope -= c / ((c + distance) * (c + distance));
        }
        return sum;
    };
    for (size_t i = 0; i < b; i++)
        for (size_t k = 0; k < b; k++) {
            const float *zi = &z[i * f], *zk = &z[k * f], *pi = &prior[i * f], *pk = &prior[k * f];
            double same, cross, unused;
            if (i != k)
                loss[0] += (kernel(zi, zk, &same) + kernel(pi, pk, &unused)) / B / (B - 1);
            loss[0] -= 2 * kernel(zi, pk, &cross) / B / B;
            for (size_t j = 0; j < f; j++) {
                if (i != k) dz[i * f + j] += 1.9 * 4 * same / B / (B - 1) * (double)(zi[j] - zk[j]);
                dz[i * f + j] -= 1.9 * 4 * cross / B / B * (double)(zi[j] - pk[j]);
            }
        }
    compare(name("mmd", {b, f}), 1e-5, [&](Trial &t) {
        OP(t, mmd_forward, (t.exec(), t.out(1), t.in(z), t.in(prior), B, F));
    }, {loss});
    compare(name("mmd backward", {b, f}), 5e-6, [&](Trial &t) {
        OP(t, mmd_backward, (t.exec(), t.out(n), 1.9f, t.in(z), t.in(prior), B, F));
    }, {dz});
}

int main()
{
    all_noise();
    for (size_t n : sizes) gaussian_sample(n, n % 5);
    gaussian_sample(300, (1ull << 35) + 3);
    all_vq();
    for (int F : {1, 31, 33, 257}) {
        const int B = F > 100 ? 2 : 5;
        one_hot(B, F);
        log_bernoulli(B, F);
        for (int given = 0; given < 3; given++) log_normal(B, F, given);
    }
    log_normal(1, 1000, 2);
    log_normal(33, 3, 2);
    log_bernoulli(2, 1000);
    for (int r = 0; r < 3; r++) {
        const ae_reduction reduction = (ae_reduction)r;
        iwae(5, 1, reduction, 0);
        iwae(3, 7, reduction, 0);
        kl(7, 31, false, reduction);
        kl(9, 33, true, reduction);
    }
    kl(1, 1, false, AE_MEAN);
    kl(300, 2, false, AE_BATCH_MEAN);
    kl(300, 2, true, AE_MEAN);
    kl(2, 257, true, AE_SUM);
    kl_small();
    iwae(37, 5, AE_MEAN, 0);
    iwae(2, 100, AE_SUM, 0);
    iwae(3, 7, AE_MEAN, -INFINITY);
    iwae(3, 1, AE_MEAN, -INFINITY);
    iwae(3, 7, AE_MEAN, NAN);
    mmd(2, 1);
    mmd(5, 33);
    mmd(17, 2);
    return summary("latent");
}
