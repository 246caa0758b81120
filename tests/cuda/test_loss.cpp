/* Losses, penalties and the optimiser's update: against the CPU and the definition in double. */
#ifndef AE_CUDA_BLOCK
#define AE_CUDA_BLOCK 64        /* so that small shapes have many blocks */
#endif
#include "ops.h"

static const ae_reduction REDUCTIONS[] = {AE_MEAN, AE_BATCH_MEAN, AE_SUM};

static double reduced(ae_reduction reduction, int B, int F)
{
    return reduction == AE_SUM ? 1.0 : reduction == AE_MEAN ? 1.0 / B / F : 1.0 / B;
}

static std::string name(const char *what, int a, int b, int c = 0)
{
    return std::string(what) + " " + std::to_string(a) + " " + std::to_string(b) + " "
           + std::to_string(c);
}

// The factor that a running loss is multiplied with: on the device for the kernels. Returns what
// the operation's own dloss must be.
static float outer(Trial &t, float factor, float dloss)
{
    if (!t.gpu) return factor * dloss;
    t.cuda.dloss = t.in(Floats{factor});
    return dloss;
}

static unsigned bad_of(Trial &t)
{
    ae__cu_record record;
    ae__cu_flush(&t.cuda);
    cudaStreamSynchronize(t.cuda.stream);
    cudaMemcpy(&record, t.cuda.record, sizeof record, cudaMemcpyDeviceToHost);
    return record.bad;
}

/* ---- losses of elements ---- */

static double safe_log(double x) { return x > 0.0 ? std::max(log(x), -100.0) : -100.0; }

static double term(int kind, double a, double y, double t)
{
    const double d = fabs(y - t);
    switch (kind) {
    case AE_LOSS_L1: return d;
    case AE_LOSS_HUBER: return d < a ? d * d / 2 : a * (d - a / 2);
    case AE_LOSS_SMOOTH_L1: return d < a ? d * d / (2 * a) : d - a / 2;
    case AE_LOSS_BCE: return -t * safe_log(y) - (1 - t) * safe_log(1 - y);
    case AE_LOSS_BCE_LOGITS: return std::max(y, 0.0) - y * t + log1p(exp(-fabs(y)));
    default: return d * d;
    }
}

// Central differences of the term.
static double by_y(int kind, double a, double y, double t)
{
    const double h = 1e-6;
    return (term(kind, a, y + h, t) - term(kind, a, y - h, t)) / (2 * h);
}

static double by_t(int kind, double a, double y, double t)
{
    const double h = 1e-6;
    return (term(kind, a, y, t + h) - term(kind, a, y, t - h)) / (2 * h);
}

static void check_loss(int kind, ae_reduction reduction, int B, int F, int variant)
{
    const size_t n = (size_t)B * (size_t)F;
    const bool unit = kind == AE_LOSS_BCE, logits = kind == AE_LOSS_BCE_LOGITS;
    const Floats y = uniform(n, unit ? 0.05f : -3.0f, unit ? 0.95f : 3.0f, 1);
    const bool shares = unit || logits;
    const Floats target = uniform(n, shares ? 0.0f : -2.0f, shares ? 1.0f : 2.0f, 2);
    const float a = 0.75f, factor = 1.5f, dloss = -2.0f;
    const double scale = reduced(reduction, B, F), by = (double)(factor * dloss) * scale;
    Doubles loss(1), dy(n), dt(n);
    for (size_t i = 0; i < n; i++) {
        const double p = (double)y[i], q = (double)target[i];
        loss[0] += scale * term(kind, (double)a, p, q);
        dy[i] = by * by_y(kind, (double)a, p, q);
        dt[i] = by * by_t(kind, (double)a, p, q);
    }
    // 0: forward, then dy and dt, in one kernel; 1: dt without dy; 2: the gradient alone
    const long before = sim::runs_of("ae__k_loss");
    compare(name("loss", kind, reduction, (int)n) + " " + std::to_string(variant), 1e-5,
            [&](Trial &t) {
                const float *py = t.in(y), *pt = t.in(target);
                if (t.gpu) t.cuda.dloss = NULL;         // a forward needs none
                if (variant < 2)
                    CHECK(OP(t, loss_forward, (t.exec(), t.out(1), py, pt, (ae_loss_kind)kind, a,
                                               reduction, B, F)) == AE_SUCCESS);
                float *py_out = variant == 1 ? NULL : t.out(n);
                float *pt_out = variant == 2 ? NULL : t.out(n);
                const float d = outer(t, factor, dloss);
                OP(t, loss_backward, (t.exec(), py_out, pt_out, d, py, pt, (ae_loss_kind)kind, a,
                                      reduction, B, F));
                if (t.gpu) CHECK(bad_of(t) == 0);
            },
            variant == 0   ? std::vector<Doubles>{loss, dy, dt}
            : variant == 1 ? std::vector<Doubles>{loss, dt}
                           : std::vector<Doubles>{dy});
    CHECK(sim::runs_of("ae__k_loss") == before + settings);    // one kernel each
}

// What is out of range is noted, in those losses that ask; the loss is still a number's sum.
static void check_bad()
{
    for (int kind = 0; kind < AE_LOSS_COUNT; kind++)
        for (int where = 0; where < 2; where++)
            for (float v : {-0.01f, 1.01f, (float)NAN, 0.0f, 1.0f}) {
                Floats y = uniform(300, 0.1f, 0.9f, 3), target = uniform(300, 0.1f, 0.9f, 4);
                (where ? y : target)[299] = v;
                Trial t(true), cpu(false);
                t.step();
                const ae_status status = ae_loss_forward(
                    cpu.exec(), cpu.out(1), cpu.in(y), cpu.in(target), (ae_loss_kind)kind, 1.0f,
                    AE_MEAN, 3, 100);
                ae__cu_loss_forward(t.exec(), t.out(1), t.in(y), t.in(target), (ae_loss_kind)kind,
                                    1.0f, AE_MEAN, 3, 100);
                CHECK((bad_of(t) != 0) == (status == AE_E_ARG));
            }
}

// NaN and infinity go where the CPU lets them go; a probability of 0 or 1 does not.
static void check_loss_special(int kind)
{
    Floats y = uniform(40, 0.1f, 0.9f, 5), target = uniform(40, 0.1f, 0.9f, 6);
    if (kind == AE_LOSS_BCE) y[3] = 0.0f, y[7] = 1.0f, y[9] = 1e-40f;
    else y[5] = target[5];
    for (int with_nan = 0; with_nan < 2; with_nan++) {
        if (with_nan) y[11] = NAN;
        compare(name("special loss", kind, with_nan), 1e-5, [&](Trial &t) {
            const float *py = t.in(y), *pt = t.in(target);
            OP(t, loss_forward, (t.exec(), t.out(1), py, pt, (ae_loss_kind)kind, 1.0f, AE_SUM, 4,
                                 10));
            OP(t, loss_backward, (t.exec(), t.out(40), t.out(40), 1.0f, py, pt, (ae_loss_kind)kind,
                                  1.0f, AE_SUM, 4, 10));
        });
    }
}

// An activation's slope joins the loss and its gradient: one kernel for the three. A loss that does
// not belong to the gradient does not join.
static void check_joined(size_t n, int kind)
{
    const Floats s = uniform(n, -2.0f, 2.0f, 7), target = uniform(n, 0.0f, 1.0f, 8);
    const int F = (int)n;
    Floats y(n);
    for (size_t i = 0; i < n; i++) y[i] = 1.0f / (1.0f + expf(-s[i]));
    const long before = sim::runs_of("ae__k_loss");
    compare(name("joined loss", (int)n, kind), 1e-5, [&](Trial &t) {
        const float *ps = t.in(s), *py = t.in(y), *pt = t.in(target);
        float *dy = t.out(n), *ds = t.out(n);
        OP(t, loss_forward, (t.exec(), t.out(1), py, pt, (ae_loss_kind)kind, 1.0f, AE_MEAN, 1, F));
        OP(t, loss_backward, (t.exec(), dy, NULL, 1.0f, py, pt, (ae_loss_kind)kind, 1.0f, AE_MEAN,
                              1, F));
        ae__cu_ending slope = {AE__CU_SLOPE, AE_ACT_SIGMOID, 0.0f, ds, ps, py};
        if (t.gpu) CHECK(ae__cu_join(&t.cuda, dy, n, slope));
        else ae_activation_backward(t.exec(), ds, dy, ps, py, AE_ACT_SIGMOID, 0.0f, n);
    });
    CHECK(sim::runs_of("ae__k_loss") == before + settings);
    compare(name("not joined", (int)n, kind), 1e-5, [&](Trial &t) {
        const float *py = t.in(y), *pt = t.in(target);
        for (int other = 0; other < 7; other++) {
            const ae_reduction r = other == 4 ? AE_SUM : AE_MEAN;
            OP(t, loss_forward, (t.exec(), t.out(1), py, pt, (ae_loss_kind)kind, 1.0f, AE_MEAN, 1,
                                 F));
            OP(t, loss_backward, (t.exec(), t.out(n), NULL, 1.0f, other == 0 ? pt : py,
                                  other == 1 ? py : pt,
                                  other == 2 ? AE_LOSS_L1 : (ae_loss_kind)kind,
                                  other == 3 ? 0.5f : 1.0f, r, other == 5 ? F : 1,
                                  other == 5 ? 1 : F));
            if (other == 6)     // a second gradient of the same loss
                OP(t, loss_backward, (t.exec(), t.out(n), NULL, 3.0f, py, pt, (ae_loss_kind)kind,
                                      1.0f, AE_MEAN, 1, F));
        }
    });
}

/* ---- cross entropy ---- */

static void check_cross_entropy(ae_reduction reduction, int B, int F, float size)
{
    const size_t n = (size_t)B * (size_t)F;
    const Floats x = uniform(n, -size, size, 9);
    const float factor = 0.5f, dloss = 3.0f;
    Ints labels((size_t)B);
    for (int b = 0; b < B; b++) labels[(size_t)b] = (b * 7 + 3) % F;
    const double scale = reduced(reduction, B, 1);
    Doubles loss(1), dx(n);
    for (size_t b = 0; b < (size_t)B; b++) {
        const float *row = &x[b * (size_t)F];
        const size_t label = (size_t)labels[b];
        double sum = 0, top = (double)*std::max_element(row, row + F);
        for (int j = 0; j < F; j++) sum += exp((double)row[j] - top);
        loss[0] += scale * (top + log(sum) - (double)row[label]);
        for (size_t j = 0; j < (size_t)F; j++)
            dx[b * (size_t)F + j] = scale * (double)(factor * dloss)
                                    * (exp((double)row[j] - top) / sum - (j == label));
    }
    compare(name("cross entropy", reduction, B, F), 1e-5, [&](Trial &t) {
        const float *px = t.in(x);
        const int32_t *pl = t.in(labels);
        const float d = outer(t, factor, dloss);
        CHECK(OP(t, cross_entropy_forward, (t.exec(), t.out(1), px, pl, reduction, B, F))
              == AE_SUCCESS);
        OP(t, cross_entropy_backward, (t.exec(), t.out(n), d, px, pl, reduction, B, F));
        if (t.gpu) CHECK(bad_of(t) == 0);
    }, F > 1 ? std::vector<Doubles>{loss, dx} : std::vector<Doubles>{});
}

static void check_cross_entropy_special()
{
    const Ints labels = {0, 1, 2, 0, 2};
    const float inf = INFINITY;
    int which = 0;
    for (const Floats &row : {Floats{1, NAN, 2}, Floats{NAN, 1, 1},
                              Floats{-inf, -inf, -inf}, Floats{NAN, NAN, NAN},
                              Floats{300, -300, 300}, Floats{5, 5, 5}, Floats{inf, inf, 0}}) {
        Floats x(15);
        which++;
        for (size_t i = 0; i < 15; i++) x[i] = row[i % 3];
        for (int one = 0; one < 5; one++)
            compare(name("cross entropy special", which, one, 0), 1e-5,
                    [&](Trial &t) {
                        const float *px = t.in(x);
                        const int32_t *pl = t.in(Ints{labels[(size_t)one]});
                        OP(t, cross_entropy_forward, (t.exec(), t.out(1), px, pl, AE_SUM, 1, 3));
                        OP(t, cross_entropy_backward, (t.exec(), t.out(3), 1.0f, px, pl, AE_SUM, 1,
                                                       3));
                    });
    }
    for (int32_t label : {-1, 3, 2147483647, -2147483647 - 1}) {
        Trial t(true);
        const float *x = t.in(Floats(15, 1.0f));
        const int32_t *l = t.in(Ints{0, 1, label, 2, 2});
        ae__cu_cross_entropy_backward(t.exec(), t.out(15), 1.0f, x, l, AE_MEAN, 5, 3);
        ae__cu_cross_entropy_forward(t.exec(), t.out(1), x, l, AE_MEAN, 5, 3);
        CHECK(bad_of(t) == 1);
    }
}

/* ---- k largest, rows held under a norm ---- */

static void check_top_k(int B, int F, int k, int kind)
{
    const size_t n = (size_t)B * (size_t)F, f = (size_t)F;
    Floats x = uniform(n, -1.0f, 1.0f, 10);
    for (size_t i = 0; kind == 1 && i < n; i++) x[i] = floorf(4.0f * x[i]);     // many are equal
    for (size_t i = 0; kind == 2 && i < n; i++) {
        const float of[] = {NAN, -NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1e-40f, -1e-40f};
        x[i] = of[(i * 5 + i / 3) % 8];
    }
    Doubles y(n), mask(n);
    for (size_t i = 0; i < n; i++) {
        int larger = 0;         // how many of the row go before this one
        for (size_t j = i / f * f; j < i / f * f + f; j++) {
            const bool above = std::isnan(x[j]) ? !std::isnan(x[i]) : x[j] > x[i];
            const bool equal = x[j] == x[i] || (std::isnan(x[j]) && std::isnan(x[i]));
            larger += above || (equal && j < i);
        }
        mask[i] = larger < k;
        y[i] = larger < k ? (double)x[i] : 0.0;
    }
    compare(name("top k", B, F, k), 0.0, [&](Trial &t) {
        const float *px = t.in(x);
        float *py = t.out(n);
        OP(t, top_k_forward, (t.exec(), py, t.out(n), px, k, B, F));
        float *again = t.inout(x);
        OP(t, top_k_forward, (t.exec(), again, NULL, again, k, B, F));
    }, {y, mask, y});
}

static void check_max_norm(int O, int D)
{
    const size_t n = (size_t)O * (size_t)D, d = (size_t)D;
    const Floats w = uniform(n, -1.0f, 1.0f, 11);
    const float limit = 0.6f * sqrtf((float)D);     // some rows are longer
    Doubles to(n);
    for (size_t o = 0; o < (size_t)O; o++) {
        double square = 0;
        for (size_t j = 0; j < d; j++) square += (double)w[o * d + j] * (double)w[o * d + j];
        for (size_t j = 0; j < d; j++)
            to[o * d + j] = (double)w[o * d + j] * std::min(1.0, (double)limit / sqrt(square));
    }
    compare(name("max norm", O, D), 1e-5,
            [&](Trial &t) { OP(t, max_norm, (t.exec(), t.inout(w), limit, O, D)); }, {to});
}

/* ---- penalties ---- */

static void check_l1(ae_reduction reduction, int B, int F)
{
    const size_t n = (size_t)B * (size_t)F;
    Floats x = uniform(n, -1.0f, 1.0f, 12);
    x[n / 2] = 0.0f;
    Doubles loss(1), dx(n);
    for (size_t i = 0; i < n; i++) {
        loss[0] += fabs((double)x[i]) * reduced(reduction, B, F);
        dx[i] = 6.0 * reduced(reduction, B, F) * ((x[i] > 0.0f) - (x[i] < 0.0f));
    }
    compare(name("l1", reduction, B, F), 1e-5, [&](Trial &t) {
        const float *px = t.in(x);
        const float d = outer(t, 2.0f, 3.0f);
        OP(t, l1_penalty_forward, (t.exec(), t.out(1), px, reduction, B, F));
        OP(t, l1_penalty_backward, (t.exec(), t.out(n), d, px, reduction, B, F));
    }, {loss, dx});
}

static void check_kl(ae_reduction reduction, int B, int F, float rho, float low, float high)
{
    const size_t n = (size_t)B * (size_t)F, f = (size_t)F;
    const Floats x = uniform(n, low, high, 13);
    const double p = (double)rho, over = reduction == AE_MEAN ? F : 1;
    Doubles loss(1), dx(n);
    for (size_t j = 0; j < f; j++) {
        double m = 0;
        for (size_t i = j; i < n; i += f) m += (double)x[i] / B;
        m = std::min(std::max(m, 1e-6), 1 - 1e-6);
        if (p > 0) loss[0] += p * log(p / m) / over;
        if (p < 1) loss[0] += (1 - p) * log((1 - p) / (1 - m)) / over;
        for (size_t i = j; i < n; i += f) dx[i] = 6.0 / over / B * ((1 - p) / (1 - m) - p / m);
    }
    compare(name("kl", reduction, B, F) + " " + std::to_string(rho) + " " + std::to_string(low),
            1e-5, [&](Trial &t) {
        const float *px = t.in(x);
        const float d = outer(t, 2.0f, 3.0f);
        OP(t, kl_sparsity_forward, (t.exec(), t.out(1), px, rho, reduction, B, F));
        OP(t, kl_sparsity_backward, (t.exec(), t.out(n), d, px, rho, reduction, B, F));
    }, {loss, dx});
}

// In long double: its differences are taken twice.
typedef long double Long;

static Long act_of(int act, Long a, Long x)
{
    switch (act) {
    case AE_ACT_RELU: return x > 0 ? x : 0;
    case AE_ACT_LEAKY_RELU: return x > 0 ? x : a * x;
    case AE_ACT_ELU: return x > 0 ? x : a * expm1l(x);
    case AE_ACT_GELU: return x / 2 * erfcl(-x / sqrtl(2));
    case AE_ACT_GELU_TANH:      // 1 + tanh z = 2 / (1 + e^-2z)
        return x / (1 + expl(-1.59576912160573071176L * (x + 0.044715L * x * x * x)));
    case AE_ACT_SILU: return x / (1 + expl(-x));
    case AE_ACT_SOFTPLUS: return log1pl(expl(x));
    case AE_ACT_SIGMOID: return 1 / (1 + expl(-x));
    case AE_ACT_TANH: return tanhl(x);
    default: return x;
    }
}

// Differences of fourth order.
static Long act_slope(int act, Long a, Long x)
{
    const Long h = 1e-3L;
    return (8 * (act_of(act, a, x + h) - act_of(act, a, x - h))
            - (act_of(act, a, x + 2 * h) - act_of(act, a, x - 2 * h))) / (12 * h);
}

static Long act_second(int act, Long a, Long x)
{
    const Long h = 1e-3L;
    return (8 * (act_slope(act, a, x + h) - act_slope(act, a, x - h))
            - (act_slope(act, a, x + 2 * h) - act_slope(act, a, x - 2 * h))) / (12 * h);
}

// where: which of ds and dw are asked for
static void check_contractive(int act, ae_reduction reduction, int B, int D, int O, float low,
                              float high, int where)
{
    const size_t n = (size_t)B * (size_t)O, m = (size_t)O * (size_t)D, d = (size_t)D;
    const Floats s = uniform(n, low, high, 14), w = uniform(m, -1.0f, 1.0f, 15);
    const Floats before = uniform(m, -1e-3f, 1e-3f, 16);
    const double a = 0.3, by = 2.0 * 1.5 * reduced(reduction, B, 1);
    Doubles loss(1), ds(n), dw(before.begin(), before.end());
    for (size_t i = 0; i < n; i++) {
        const size_t o = i % (size_t)O;
        const double slope = (double)act_slope(act, Long(a), Long(s[i]));
        double square = 0;
        for (size_t j = 0; j < d; j++) square += (double)w[o * d + j] * (double)w[o * d + j];
        loss[0] += slope * slope * square * reduced(reduction, B, 1);
        ds[i] = by * slope * (double)act_second(act, Long(a), Long(s[i])) * square;
        for (size_t j = 0; j < d; j++) dw[o * d + j] += by * slope * slope * (double)w[o * d + j];
    }
    const bool kinks = act <= AE_ACT_ELU;       // the differences do not see them, nor what is 0
    std::vector<Doubles> reference = {loss};
    if (where & 1) reference.push_back(ds);
    if (where & 2) reference.push_back(dw);
    compare(name("contractive", act, B, O) + " " + std::to_string(low), 1e-5, [&](Trial &t) {
        const float *ps = t.in(s), *pw = t.in(w);
        const float dloss = outer(t, 0.5f, 3.0f);
        OP(t, contractive_forward, (t.exec(), t.out(1), ps, pw, (ae_act)act, 0.3f, reduction, B, D,
                                    O));
        float *pds = where & 1 ? t.out(n) : NULL, *pdw = where & 2 ? t.inout(before) : NULL;
        OP(t, contractive_backward, (t.exec(), pds, pdw, dloss, ps, pw, (ae_act)act, 0.3f,
                                     reduction, B, D, O));
    }, kinks ? std::vector<Doubles>{} : reference);
}

static void check_weights(size_t n, int squared)
{
    Floats w = uniform(n, -1.0f, 1.0f, 17), before = uniform(n, -1.0f, 1.0f, 18);
    w[n / 2] = 0.0f;
    if (n > 100 && n < 256) w[n / 3] = NAN;
    Doubles loss(1), dw(n);
    for (size_t i = 0; i < n; i++) {
        const double v = (double)w[i];
        loss[0] += squared ? v * v : fabs(v);
        dw[i] = (double)before[i] + 6.0 * (squared ? 2 * v : v == v ? (v > 0) - (v < 0) : v);
    }
    compare(name("weights", (int)n, squared), 1e-5, [&](Trial &t) {
        const float *pw = t.in(w);
        const float d = outer(t, 2.0f, 3.0f);
        OP(t, weight_penalty_forward, (t.exec(), t.out(1), pw, squared, n));
        OP(t, weight_penalty_backward, (t.exec(), t.inout(before), d, pw, squared, n));
    }, {loss, dw});
}

static void check_orthogonal(int O, int D)
{
    const size_t o = (size_t)O, d = (size_t)D, n = o * d;
    const Floats w = uniform(n, -1.0f, 1.0f, 19), before = uniform(n, -1.0f, 1.0f, 20);
    Doubles loss(1), dw(before.begin(), before.end());
    // element (v, p) of the fewer vectors
    const size_t side = std::min(o, d), length = std::max(o, d);
    auto at = [&](size_t v, size_t p) { return O <= D ? v * d + p : p * d + v; };
    for (size_t i = 0; i < side; i++)
        for (size_t j = 0; j < side; j++) {
            double g = i == j ? -1.0 : 0.0;
            for (size_t p = 0; p < length; p++) g += (double)w[at(i, p)] * (double)w[at(j, p)];
            loss[0] += g * g;
            for (size_t p = 0; p < length; p++) dw[at(i, p)] += 12.0 * g * (double)w[at(j, p)];
        }
    compare(name("orthogonal", O, D), 1e-5, [&](Trial &t) {
        const float *pw = t.in(w);
        const float factor = outer(t, 1.5f, 2.0f);
        OP(t, orthogonal_forward, (t.exec(), t.out(1), pw, O, D));
        OP(t, orthogonal_backward, (t.exec(), t.inout(before), factor, pw, O, D));
    }, {loss, dw});
}

/* ---- the optimiser ---- */

// Writes what the kernel reads of a step.
static void set_record(Trial &t, const ae_optim *o, uint64_t step, float norm2, int failed)
{
    ae__cu_record record;
    memset(&record, 0, sizeof record);
    record.step = step;
    record.update = ae__update_of(o, ae__optim_lr(o), step);
    record.norm2 = norm2;
    record.failed = failed;
    cudaStreamSynchronize(t.cuda.stream);
    cudaMemcpy(t.cuda.record, &record, sizeof record, cudaMemcpyHostToDevice);
}

// off: floats by which the arrays miss what float4 needs
static void check_update(const ae_optim &o, size_t n, float clip, size_t off)
{
    Floats w = uniform(n + off, -1.0f, 1.0f, 21), g[3];
    const Floats zeros(n + off, 0.0f);
    const int states = ae_optim_states(&o);
    for (uint32_t s = 0; s < 3; s++) {
        g[s] = uniform(n + off, -1.0f, 1.0f, 22 + s);
        g[s][off + n / 2] = 1e-30f;
    }
    if (n > 2) w[off + n - 1] = NAN;
    compare(name("update", (int)o.kind, (int)n, (int)off), 1e-6, [&](Trial &t) {
        float *pw = t.inout(w) + off, *s1 = states > 0 ? t.inout(zeros) + off : NULL;
        float *s2 = states > 1 ? t.inout(zeros) + off : NULL;
        for (uint64_t step = 1; step <= 3; step++) {
            float *pg = t.inout(g[step - 1]) + off;
            double square = 0;
            for (size_t i = off; i < n + off; i++)
                square += (double)g[step - 1][i] * (double)g[step - 1][i];
            if (t.gpu) {
                set_record(t, &o, step, (float)square, 0);
                ae__cu__update(t.exec(), pw, s1, s2, pg, clip, n);
                if (step != 2) continue;
                set_record(t, &o, step, (float)square, 1);      // changes nothing
                ae__cu__update(t.exec(), pw, s1, s2, pg, clip, n);
                cudaStreamSynchronize(t.cuda.stream);
            } else {
                if (clip > 0.0f) ae_clip_norm(t.exec(), pg, clip, n);
                ae_optim_update(t.exec(), pw, s1, s2, pg, &o, step, n);
            }
        }
    });
}

static void check_optim()
{
    std::vector<ae_optim> all;
    for (int kind = 0; kind < 5; kind++)
        for (int variant = 0; variant < 3; variant++) {
            ae_optim o;
            memset(&o, 0, sizeof o);
            o.kind = (ae_optim_kind)kind;
            o.weight_decay = variant ? 0.1f : 0.0f;
            o.momentum = variant ? 0.8f : 0.0f;
            o.nesterov = variant == 2;
            o.lr = variant == 2 ? 0.05f : 0.0f;
            o.lr_decay = variant == 2 ? 0.5f : 0.0f;
            all.push_back(o);
        }
    for (const ae_optim &o : all) {
        check_update(o, 257, 0.0f, 0);
        check_update(o, 33, 0.5f, 1);
    }
    for (const size_t n : std::vector<size_t>{1, 3, 4, 5, 31, 32, 255, 1000}) {
        check_update(all[1], n, 0.5f, 0);
        check_update(all[4], n, 100.0f, 0);     // above the norm: not clipped
    }
    for (const size_t n : std::vector<size_t>{1, 31, 32, 33, 255, 257, 1000}) {
        Floats g = uniform(n, -2.0f, 2.0f, 26);
        g[0] = n == 31 ? NAN : n == 32 ? INFINITY : g[0];
        compare(name("clip value", (int)n, 0), 0.0,
                [&](Trial &t) { OP(t, clip_value, (t.exec(), t.inout(g), 0.75f, n)); });
    }
}

int main()
{
    const int shapes[][2] = {{1, 1}, {31, 1}, {1, 32}, {3, 11}, {5, 51}, {257, 1}, {8, 125}};
    const int rows[][2] = {{1, 1}, {3, 1}, {1, 31}, {2, 32}, {3, 33}, {2, 255}, {1, 257}};
    for (int kind = 0; kind < AE_LOSS_COUNT; kind++) {
        for (const auto &s : shapes) check_loss(kind, REDUCTIONS[(s[0] + kind) % 3], s[0], s[1], 0);
        check_loss(kind, AE_MEAN, 3, 11, 1);
        check_loss(kind, AE_BATCH_MEAN, 3, 11, 2);
        check_loss_special(kind);
    }
    check_bad();
    check_joined(33, AE_LOSS_MSE);
    check_joined(300, AE_LOSS_BCE);

    for (const auto &s : shapes)
        check_cross_entropy(REDUCTIONS[s[1] % 3], s[0], s[1], 4.0f);
    check_cross_entropy(AE_MEAN, 33, 10, 40.0f);
    check_cross_entropy_special();

    for (const auto &s : rows) {
        for (int kind = 0; kind < 3; kind++) check_top_k(s[0], s[1], s[1] * kind / 3 + 1, kind);
        check_max_norm(s[0], s[1]);
    }
    check_top_k(2, 300, 299, 1);
    check_top_k(2, 33, 33, 1);
    check_top_k(1, 1000, 37, 1);
    check_max_norm(2, 1000);

    for (const auto &s : shapes) {
        check_l1(REDUCTIONS[s[0] % 3], s[0], s[1]);
        check_kl(REDUCTIONS[s[1] % 3], s[0], s[1], 0.05f, 0.0f, 1.0f);
    }
    for (float rho : {0.0f, 0.05f, 0.5f, 0.9f, 1.0f}) {
        check_kl(AE_MEAN, 40, 9, rho, 0.0f, 1.0f);
        check_kl(AE_MEAN, 40, 9, rho, 0.0f, 0.11f);     // near 0.05
        check_kl(AE_MEAN, 40, 9, rho, 0.0f, 1e-4f);
        check_kl(AE_MEAN, 40, 9, rho, 0.0f, 1e-7f);     // held at 1e-6
        check_kl(AE_MEAN, 40, 9, rho, 0.99f, 1.0f);
        check_kl(AE_MEAN, 40, 9, rho, 1.0f, 1.0f);
    }

    for (int act = 0; act < AE_ACT_COUNT; act++) {
        check_contractive(act, AE_MEAN, 5, 7, 9, -3.0f, 3.0f, 3);
        check_contractive(act, AE_SUM, 9, 3, 8, -8.0f, -6.0f, 3);
        check_contractive(act, AE_SUM, 9, 3, 8, 4.0f, 8.0f, 3);
    }
    for (const auto &s : shapes)
        check_contractive(AE_ACT_TANH, REDUCTIONS[s[0] % 3], s[0], s[1] % 13 + 1, s[1], -2.0f, 2.0f,
                          s[0] % 4);
    check_contractive(AE_ACT_SIGMOID, AE_MEAN, 3, 70, 17, -2.0f, 2.0f, 3);

    for (const size_t n : std::vector<size_t>{1, 31, 32, 33, 255, 257, 1000})
        for (int squared = 0; squared < 2; squared++) check_weights(n, squared);
    for (const auto &s : {std::pair<int, int>{1, 1}, {1, 33}, {7, 40}, {8, 8}, {9, 70}, {33, 34},
                          {41, 41}, {40, 7}, {65, 33}, {100, 3}})
        check_orthogonal(s.first, s.second);
    check_optim();
    return summary("loss");
}
