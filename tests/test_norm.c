/* Batch, group and layer normalisation: against their definition in double, PyTorch, central
   differences; running statistics; large offsets; any threads. */
#include "test.h"

typedef struct norm {
    int B, C, P, groups, per_channel;       // groups 0: batch normalisation
    int affine;                             // 0: gamma and beta are NULL
    float *x, *gamma, *beta, *dy;
} norm;

#define EPS 1e-3f

static int size(const norm *t) { return t->B * t->C * t->P; }
static int params(const norm *t) { return t->groups && !t->per_channel ? t->C * t->P : t->C; }
static int means(const norm *t) { return t->groups ? t->B * t->groups : t->C; }

static norm make(int B, int C, int P, int groups, int per_channel, int affine)
{
    norm t;
    t.B = B;
    t.C = C;
    t.P = P;
    t.groups = groups;
    t.per_channel = per_channel;
    t.affine = affine;
    t.x = DATA_IN(size(&t), -2, 3, 1);
    t.dy = DATA(size(&t), 2);
    t.gamma = DATA_IN(params(&t), 0.3, 1.9, 3);
    t.beta = DATA(params(&t), 4);
    return t;
}

static void forward(const norm *t, const ae_exec *e, float *y, float *mean, float *rstd)
{
    const float *gamma = t->affine ? t->gamma : NULL, *beta = t->affine ? t->beta : NULL;
    if (t->groups) {
        ae_group_norm_forward(e, y, mean, rstd, t->x, gamma, beta, EPS, t->groups, t->per_channel,
                              t->B, t->C, t->P);
    } else {
        float *running = DATA_IN(2 * t->C, 1, 1, 0);
        ae_batch_norm_forward(e, y, mean, rstd, running, running + t->C, t->x, gamma, beta, 0.1f,
                              EPS, t->B, t->C, t->P);
    }
}

static void backward(const norm *t, const ae_exec *e, float *dx, float *dgamma, float *dbeta,
                     const float *mean, const float *rstd)
{
    const float *gamma = t->affine ? t->gamma : NULL;
    if (t->groups)
        ae_group_norm_backward(e, dx, dgamma, dbeta, t->dy, t->x, mean, rstd, gamma, t->groups,
                               t->per_channel, t->B, t->C, t->P);
    else
        ae_batch_norm_backward(e, dx, dgamma, dbeta, t->dy, t->x, mean, rstd, gamma, t->B, t->C,
                               t->P);
}

/* Element i belongs to the statistics unit(i) and to the parameter param(i). */
static int unit(const norm *t, int i)
{
    int c = i / t->P % t->C;
    return t->groups ? i / t->P / t->C * t->groups + c / (t->C / t->groups) : c;
}

static int param(const norm *t, int i)
{
    return t->groups && !t->per_channel ? i % (t->C * t->P) : i / t->P % t->C;
}

typedef struct wanted {
    double *y, *mean, *rstd, *dx, *dgamma, *dbeta;
} wanted;

static wanted define(const norm *t)
{
    int n = size(t), units = means(t);
    wanted w = { DOUBLES(n), DOUBLES(units), DOUBLES(units), DOUBLES(n), DOUBLES(params(t)),
                 DOUBLES(params(t)) };
    double *var = DOUBLES(units), *s0 = DOUBLES(units), *s1 = DOUBLES(units);
    double count = (double)n / units;
    for (int i = 0; i < n; i++) w.mean[unit(t, i)] += (double)t->x[i] / count;
    for (int i = 0; i < n; i++) {
        double d = (double)t->x[i] - w.mean[unit(t, i)];
        var[unit(t, i)] += d * d / count;
    }
    for (int u = 0; u < units; u++) w.rstd[u] = 1 / sqrt(var[u] + (double)EPS);
    for (int i = 0; i < n; i++) {
        int u = unit(t, i), p = param(t, i);
        double gamma = t->affine ? (double)t->gamma[p] : 1, dy = (double)t->dy[i];
        double h = ((double)t->x[i] - w.mean[u]) * w.rstd[u];
        w.y[i] = h * gamma + (t->affine ? (double)t->beta[p] : 0);
        w.dgamma[p] += dy * h;
        w.dbeta[p] += dy;
        s0[u] += dy * gamma / count;
        s1[u] += dy * gamma * h / count;
    }
    for (int i = 0; i < n; i++) {
        int u = unit(t, i);
        double gamma = t->affine ? (double)t->gamma[param(t, i)] : 1;
        double h = ((double)t->x[i] - w.mean[u]) * w.rstd[u];
        w.dx[i] = w.rstd[u] * ((double)t->dy[i] * gamma - s0[u] - h * s1[u]);
    }
    return w;
}

static const int shapes[][5] = {    // B, C, P, groups, per_channel
    { 2, 1, 1, 0, 1 }, { 7, 3, 1, 0, 1 }, { 300, 5, 1, 0, 1 }, { 3, 4, 5, 0, 1 },
    { 19, 3, 49, 0, 1 }, { 4, 2, 63, 0, 1 }, { 4, 2, 64, 0, 1 }, { 3, 2, 300, 0, 1 },
    { 1, 3, 17, 0, 1 }, { 2, 1, 784, 0, 1 },
    { 3, 6, 5, 3, 1 }, { 2, 6, 5, 3, 0 }, { 5, 4, 1, 2, 1 }, { 3, 2, 300, 2, 1 },
    { 2, 6, 100, 2, 1 }, { 3, 37, 1, 1, 0 }, { 2, 5, 60, 1, 0 }, { 1, 4, 1, 1, 1 },
    { 300, 27, 1, 3, 0 }, { 2, 4, 33, 4, 0 }, { 5, 60, 1, 10, 0 }
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static norm shape(int k, int affine)
{
    const int *s = shapes[k];
    return make(s[0], s[1], s[2], s[3], s[4], affine);
}

TEST(norm_definitions)
{
    for (int k = 0; k < 2 * SHAPES; k++) {
        norm t = shape(k / 2, k % 2);
        int n = size(&t), p = params(&t), u = means(&t);
        wanted w = define(&t);
        for (int i = 0; i < 3; i++) {
            const ae_exec *e = test_exec_at(i);
            float *y = OUT(n), *mean = OUT(u), *rstd = OUT(u), *dx = OUT(n);
            float *dgamma = DATA_IN(p, 0, 0, 0), *dbeta = DATA_IN(p, 0, 0, 0);
            test_context("%dx%dx%d, groups %d, per channel %d, affine %d, %s", t.B, t.C, t.P,
                         t.groups, t.per_channel, t.affine, test_exec_text(i));
            forward(&t, e, y, mean, rstd);
            // a handful of roundings; x is below 3, rstd mostly about 1, but up to 32 where a
            // variance is nearly 0
            CHECK_REF(mean, w.mean, u, 2e-7, 1e-7);
            CHECK_REF(rstd, w.rstd, u, 0, 1e-6);
            CHECK_REF(y, w.y, n, 2e-6, 2e-6);
            backward(&t, e, dx, dgamma, dbeta, mean, rstd);
            CHECK_REF(dx, w.dx, n, 3e-6, 1e-5);
            CHECK_REF(dgamma, w.dgamma, p, 1e-5, 1e-5);
            CHECK_REF(dbeta, w.dbeta, p, 1e-5, 1e-5);
            // again: dx overwritten, the others doubled
            for (int j = 0; j < p; j++) w.dgamma[j] *= 2, w.dbeta[j] *= 2;
            backward(&t, e, dx, dgamma, dbeta, mean, rstd);
            CHECK_REF(dx, w.dx, n, 3e-6, 1e-5);
            CHECK_REF(dgamma, w.dgamma, p, 2e-5, 1e-5);
            CHECK_REF(dbeta, w.dbeta, p, 2e-5, 1e-5);
            for (int j = 0; j < p; j++) w.dgamma[j] /= 2, w.dbeta[j] /= 2;
            // each may be NULL
            float *alone = OUT(n);
            backward(&t, e, alone, NULL, NULL, mean, rstd);
            CHECK_BITS(alone, dx, n);
            backward(&t, e, NULL, dgamma, NULL, mean, rstd);
            backward(&t, e, NULL, NULL, dbeta, mean, rstd);
            for (int j = 0; j < p; j++) w.dgamma[j] *= 3, w.dbeta[j] *= 3;
            CHECK_REF(dgamma, w.dgamma, p, 3e-5, 1e-5);
            CHECK_REF(dbeta, w.dbeta, p, 3e-5, 1e-5);
            for (int j = 0; j < p; j++) w.dgamma[j] /= 3, w.dbeta[j] /= 3;
        }
    }
}

static double norm_loss(void *arg)
{
    const norm *t = (const norm *)arg;
    int n = size(t), u = means(t);
    float *room = (float *)malloc((size_t)(n + 2 * u + 2 * t->C) * sizeof *room);
    float *mean = room + n, *rstd = mean + u, *running = rstd + u;
    double sum = 0;
    for (int i = 0; i < 2 * t->C; i++) running[i] = 1;
    if (t->groups)
        ae_group_norm_forward(test_exec(), room, mean, rstd, t->x, t->gamma, t->beta, EPS,
                              t->groups, t->per_channel, t->B, t->C, t->P);
    else
        ae_batch_norm_forward(test_exec(), room, mean, rstd, running, running + t->C, t->x,
                              t->gamma, t->beta, 0.1f, EPS, t->B, t->C, t->P);
    for (int i = 0; i < n; i++) sum += (double)room[i] * (double)t->dy[i];
    free(room);
    return sum;
}

TEST(norm_gradients)
{
    static const int some[] = { 1, 3, 8, 10, 11, 16, 15 };
    for (int k = 0; k < 7; k++) {
        norm t = shape(some[k], 1);
        int n = size(&t), p = params(&t), u = means(&t);
        float *y = OUT(n), *mean = OUT(u), *rstd = OUT(u), *dx = OUT(n);
        float *dgamma = DATA_IN(p, 0, 0, 0), *dbeta = DATA_IN(p, 0, 0, 0);
        test_context("%dx%dx%d, groups %d", t.B, t.C, t.P, t.groups);
        forward(&t, test_exec(), y, mean, rstd);
        backward(&t, test_exec(), dx, dgamma, dbeta, mean, rstd);
        // roundings of y over h, and h^4 of a smooth function
        CHECK_GRADIENT(dx, t.x, n, 0.03125, 3e-4, norm_loss, &t);
        CHECK_GRADIENT(dgamma, t.gamma, p, 0.5, 2e-5, norm_loss, &t);
        CHECK_GRADIENT(dbeta, t.beta, p, 0.5, 2e-5, norm_loss, &t);
    }
}

/* A mean of 10,000, and of a million, with deviation 1: two passes keep the variance, which
   E x^2 - (E x)^2 would lose. */
TEST(norm_large_offset)
{
    for (int k = 0; k < 4; k++) {
        norm t = k % 3 == 0 ? make(64, 2, 49, 0, 1, 1) : k == 1 ? make(64, 3, 1, 0, 1, 1)
                                                            : make(2, 4, 300, 2, 1, 1);
        int n = size(&t), u = means(&t);
        float *y = OUT(n), *mean = OUT(u), *rstd = OUT(u);
        for (int i = 0; i < n; i++) t.x[i] = (k < 3 ? 1e4f : 1e6f) + t.x[i] / 1.44f;
        wanted w = define(&t);
        forward(&t, test_exec(), y, mean, rstd);
        test_context("case %d", k);
        CHECK_REF(mean, w.mean, u, 0, 6e-8);        // half an ulp
        CHECK_REF(rstd, w.rstd, u, 0, 1e-6);
        CHECK_REF(y, w.y, n, 3e-6, 1e-6);           // as if there were no offset
        for (int i = 0; i < u; i++) CHECK_CLOSE(rstd[i], 1, 0.3);
    }
}

TEST(norm_constant_input)
{
    norm t = make(4, 2, 30, 0, 1, 1);
    float *y = OUT(size(&t)), *mean = OUT(2), *rstd = OUT(2), *dx = OUT(size(&t));
    for (int i = 0; i < size(&t); i++) t.x[i] = 0.1f;
    forward(&t, test_exec(), y, mean, rstd);
    for (int i = 0; i < size(&t); i++) CHECK_CLOSE(y[i], t.beta[i / 30 % 2], 1e-6);
    for (int c = 0; c < 2; c++) CHECK_CLOSE(rstd[c], 1 / sqrt((double)EPS), 1e-4);
    backward(&t, test_exec(), dx, NULL, NULL, mean, rstd);
    CHECK_FINITE(dx, size(&t));
}

/* In inference a sample does not know of its batch; y may be x; training differs. */
TEST(norm_inference)
{
    for (int k = 0; k < 4; k++) {
        static const int s[4][3] = { { 5, 3, 1 }, { 4, 3, 7 }, { 2, 3, 100 }, { 270, 3, 1 } };
        norm t = make(s[k][0], s[k][1], s[k][2], 0, 1, k != 1);
        int n = size(&t), sample = t.C * t.P;
        float *run_mean = DATA(3, 7), *run_var = DATA_IN(3, 0.5, 2, 8);
        const float *gamma = t.affine ? t.gamma : NULL, *beta = t.affine ? t.beta : NULL;
        float *y = OUT(n), *one = OUT(sample), *in_place = COPY(t.x, n);
        double *want = DOUBLES(n);
        for (int i = 0; i < n; i++) {
            int c = i / t.P % t.C;
            want[i] = (double)t.x[i] - (double)run_mean[c];
            want[i] /= sqrt((double)run_var[c] + (double)EPS);
            if (t.affine) want[i] = want[i] * (double)t.gamma[c] + (double)t.beta[c];
        }
        ae_batch_norm_infer(test_exec(), y, run_mean, run_var, t.x, gamma, beta, EPS, t.B, t.C,
                            t.P);
        CHECK_REF(y, want, n, 1e-6, 1e-6);
        ae_batch_norm_infer(test_exec(), in_place, run_mean, run_var, in_place, gamma, beta, EPS,
                            t.B, t.C, t.P);
        CHECK_BITS(in_place, y, n);
        ae_batch_norm_infer(test_exec(), one, run_mean, run_var, t.x + sample, gamma, beta, EPS, 1,
                            t.C, t.P);
        CHECK_BITS(one, y + sample, sample);
        float *trained = OUT(n), *mean = OUT(3), *rstd = OUT(3);
        forward(&t, test_exec(), trained, mean, rstd);
        CHECK(fabs((double)trained[0] - (double)y[0]) > 0.01);
    }
}

TEST(norm_same_bits_for_any_threads)
{
    static const int split[][5] = {
        { 64, 16, 196, 0, 1 }, { 130, 301, 1, 0, 1 }, { 33, 20, 49, 0, 1 }, { 33, 12, 196, 3, 1 },
        { 200, 301, 1, 1, 0 }, { 40, 12, 81, 4, 0 }
    };
    for (int k = 0; k < 6; k++) {
        const int *s = split[k];
        norm t = make(s[0], s[1], s[2], s[3], s[4], 1);
        int n = size(&t), p = params(&t), u = means(&t);
        float *first[6] = { NULL, NULL, NULL, NULL, NULL, NULL };
        for (int i = 1; i < TEST_EXECS; i++) {
            float *got[6] = { OUT(n), OUT(u), OUT(u), OUT(n), DATA(p, 5), DATA(p, 6) };
            const int sizes[6] = { n, u, u, n, p, p };
            test_context("case %d, %s", k, test_exec_text(i));
            forward(&t, test_exec_at(i), got[0], got[1], got[2]);
            backward(&t, test_exec_at(i), got[3], got[4], got[5], got[1], got[2]);
            for (int j = 0; j < 6; j++) {
                if (i == 1) first[j] = got[j];
                CHECK_BITS(got[j], first[j], sizes[j]);
            }
        }
    }
}

/* --- PyTorch: the cases of golden_layers.py ------------------------------- */

static const float *record(const char *name, const char *key)
{
    return golden("norm", "%s.%s", name, key)->v;
}

static void check_backward(const norm *t, const char *name, const ae_exec *e, const float *mean,
                           const float *rstd)
{
    int n = size(t), p = params(t);
    float *dx = OUT(n), *dgamma = DATA_IN(p, 0, 0, 0), *dbeta = DATA_IN(p, 0, 0, 0);
    backward(t, e, dx, dgamma, dbeta, mean, rstd);
    CHECK_ARRAY(dx, record(name, "dx"), n, 3e-6, 1e-5);
    CHECK_ARRAY(dgamma, record(name, "dgamma"), p, 5e-6, 1e-5);
    CHECK_ARRAY(dbeta, record(name, "dbeta"), p, 5e-6, 1e-5);
}

TEST(norm_golden_batch)
{
    static const int s[3][3] = { { 3, 2, 5 }, { 7, 3, 1 }, { 2, 2, 66 } };
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < 3; i++) {
            const ae_exec *e = test_exec_at(i);
            norm t = make(s[k][0], s[k][1], s[k][2], 0, 1, 1);
            char name[20];
            snprintf(name, sizeof name, "batch%d", k);
            test_context("%s, %s", name, test_exec_text(i));
            int n = size(&t), C = t.C;
            float *run_mean = COPY(record(name, "run_mean"), C);
            float *run_var = COPY(record(name, "run_var"), C);
            float *y = OUT(n), *mean = OUT(C), *rstd = OUT(C);
            const float *gamma = record(name, "gamma"), *beta = record(name, "beta");
            memcpy(t.gamma, gamma, (size_t)C * sizeof *gamma);
            memcpy(t.dy, record(name, "dy"), (size_t)n * sizeof(float));
            for (int step = 0; step < 5; step++) {
                memcpy(t.x, golden("norm", "%s.%d.x", name, step)->v, (size_t)n * sizeof(float));
                ae_batch_norm_forward(e, y, mean, rstd, run_mean, run_var, t.x, gamma, beta, 0.2f,
                                      1e-3f, t.B, C, t.P);
            }
            CHECK_ARRAY(run_mean, record(name, "mean_5"), C, 3e-7, 1e-6);
            CHECK_ARRAY(run_var, record(name, "var_5"), C, 0, 1e-6);
            CHECK_ARRAY(y, record(name, "y"), n, 1e-6, 2e-6);
            check_backward(&t, name, e, mean, rstd);
            ae_batch_norm_infer(e, y, run_mean, run_var, t.x, gamma, beta, 1e-3f, t.B, C, t.P);
            CHECK_ARRAY(y, record(name, "infer"), n, 2e-6, 2e-6);
            ae_batch_norm_forward(e, y, mean, rstd, run_mean, run_var, t.x, NULL, NULL, 0.2f,
                                  1e-3f, t.B, C, t.P);
            CHECK_ARRAY(y, record(name, "plain"), n, 1e-6, 2e-6);
        }
}

TEST(norm_golden_group)
{
    static const struct { const char *name; int B, C, P, groups, per_channel; } cases[5] = {
        { "group0", 3, 6, 5, 3, 1 }, { "group1", 2, 4, 1, 2, 1 }, { "group2", 3, 4, 7, 1, 1 },
        { "layer0", 3, 13, 1, 1, 0 }, { "layer1", 2, 3, 7, 1, 0 }
    };
    for (int k = 0; k < 5; k++)
        for (int i = 0; i < 3; i++) {
            const char *name = cases[k].name;
            norm t = make(cases[k].B, cases[k].C, cases[k].P, cases[k].groups,
                          cases[k].per_channel, 1);
            int n = size(&t), p = params(&t);
            float *y = OUT(n), *mean = OUT(means(&t)), *rstd = OUT(means(&t));
            test_context("%s, %s", name, test_exec_text(i));
            memcpy(t.x, record(name, "x"), (size_t)n * sizeof(float));
            memcpy(t.dy, record(name, "dy"), (size_t)n * sizeof(float));
            memcpy(t.gamma, record(name, "gamma"), (size_t)p * sizeof(float));
            memcpy(t.beta, record(name, "beta"), (size_t)p * sizeof(float));
            forward(&t, test_exec_at(i), y, mean, rstd);
            CHECK_ARRAY(y, record(name, "y"), n, 1e-6, 2e-6);
            check_backward(&t, name, test_exec_at(i), mean, rstd);
        }
}

TEST_LIST(norm) {
    CASE(norm_definitions),
    CASE(norm_gradients),
    CASE(norm_large_offset),
    CASE(norm_constant_input),
    CASE(norm_inference),
    CASE(norm_same_bits_for_any_threads),
    CASE(norm_golden_batch),
    CASE(norm_golden_group),
    CASE_END
};
