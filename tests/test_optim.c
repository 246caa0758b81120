/* First weights, optimisers, clipping, schedules: against formulas in double and PyTorch. */
#include "test.h"

/* --- first weights -------------------------------------------------------- */

static ae_random sequence(uint64_t seed, uint32_t stream)
{
    ae_random r;
    r.seed = seed;
    r.step = 0;
    r.stream = stream;
    return r;
}

/* 100,000 draws with this mean and deviation, to 5 deviations of the estimates; bound: the largest
   distance from the mean, which is reached to 1e-3; 0: none, and normal. */
static void check_init(const char *name, ae_init init, double mean, double deviation, double bound)
{
    enum { N = 100000 };
    const double n = N, FAN_IN = 30, FAN_OUT = 70;
    float *w = OUT(N);
    double sum = 0, squares = 0, far_out = 0;
    test_context("%s", name);
    ae_init_fill(w, N, init, (int)FAN_IN, (int)FAN_OUT, sequence(3, 4));
    for (int i = 0; i < N; i++) {
        double d = (double)w[i] - mean;
        sum += d;
        squares += d * d;
        if (fabs(d) > far_out) far_out = fabs(d);
    }
    CHECK_FINITE(w, N);
    CHECK_CLOSE(sum / n, 0, 5 * deviation / sqrt(n));
    // the variance of d^2 / deviation^2 is 2 for a normal, 0.8 for a uniform distribution
    CHECK_CLOSE(squares / n, deviation * deviation, deviation * deviation * 5 * sqrt(2 / n));
    if (bound > 0) CHECK_CLOSE(far_out, bound * (1 - 5e-4), bound * 5.01e-4);
    else CHECK(far_out > 4 * deviation && far_out < 6.5 * deviation);
}

TEST(init_distributions)
{
    ae_init standard;
    memset(&standard, 0, sizeof standard);
    const double root3 = sqrt(3.0);
    double b = 1 / sqrt(30.0);
    check_init("default", standard, 0, b / root3, b);
    check_init("uniform", ae_init_uniform(-0.2f, 0.7f), 0.25, 0.45 / root3, 0.45);
    check_init("normal", ae_init_normal(0.3f, 0.05f), 0.3, 0.05, 0);
    b = 5 / 3.0 * sqrt(6 / 100.0);
    check_init("xavier uniform", ae_init_xavier_uniform(5 / 3.0f), 0, b / root3, b);
    check_init("xavier normal", ae_init_xavier_normal(1.5f), 0, 1.5 * sqrt(2 / 100.0), 0);
    b = sqrt(6 / (1.04 * 30));
    check_init("he uniform", ae_init_he_uniform(0.2f), 0, b / root3, b);
    check_init("he normal", ae_init_he_normal(0), 0, sqrt(2 / 30.0), 0);
    check_init("he normal, slope", ae_init_he_normal(0.5f), 0, sqrt(2 / (1.25 * 30)), 0);
}

TEST(init_fill)
{
    enum { N = 61 };
    ae_init kinds[3];
    kinds[0] = ae_init_uniform(-1, 1);
    kinds[1] = ae_init_normal(0, 1);
    kinds[2] = ae_init_constant(-0.625f);
    for (int k = 0; k < 3; k++) {
        float *w = OUT(N), *part = OUT(N), *other = OUT(N);
        test_context("kind %d", k);
        ae_init_fill(w, N, kinds[k], 3, 4, sequence(1, 0));
        for (size_t n = 0; n < N; n += 7) {     // draw i depends on i alone
            test_refill(part, N);
            ae_init_fill(part, n, kinds[k], 3, 4, sequence(1, 0));
            CHECK_BITS(part, w, n);
            CHECK(test_is_nan(part[n]));
        }
        ae_init_fill(other, N, kinds[k], 3, 4, sequence(1, 1));
        int same = 0;
        for (int i = 0; i < N; i++) same += !memcmp(&other[i], &w[i], sizeof(float));
        CHECK(k == 2 ? same == N : same < 3);
        for (int i = 0; i < N && k == 2; i++) CHECK_CLOSE(w[i], -0.625, 0);
    }
}

/* --- optimisers ----------------------------------------------------------- */

/* Settings by their names in the golden file, where golden.py has the same. */
typedef struct optim_case {
    const char *key;
    ae_optim_kind kind;
    float lr, beta1, beta2, eps, weight_decay, momentum, lr_decay;
    int nesterov;
} optim_case;

static const optim_case cases[] = {
    { "sgd", AE_SGD, 0.1f, 0, 0, 0, 0, 0, 0, 0 },
    { "sgd_momentum", AE_SGD, 0.05f, 0, 0, 0, 0, 0.9f, 0, 0 },
    { "sgd_nesterov", AE_SGD, 0.05f, 0, 0, 0, 0, 0.8f, 0, 1 },
    { "sgd_decay", AE_SGD, 0.1f, 0, 0, 0, 0.1f, 0, 0, 0 },
    { "sgd_nesterov_decay", AE_SGD, 0.05f, 0, 0, 0, 0.05f, 0.7f, 0, 1 },
    { "rmsprop", AE_RMSPROP, 0, 0, 0, 0, 0, 0, 0, 0 },
    { "rmsprop_alpha", AE_RMSPROP, 0.02f, 0, 0.9f, 1e-5f, 0, 0, 0, 0 },
    { "rmsprop_momentum", AE_RMSPROP, 0.003f, 0, 0, 0, 0, 0.8f, 0, 0 },
    { "rmsprop_decay", AE_RMSPROP, 0.01f, 0, 0, 0, 0.1f, 0.5f, 0, 0 },
    { "adagrad", AE_ADAGRAD, 0, 0, 0, 0, 0, 0, 0, 0 },
    { "adagrad_decay", AE_ADAGRAD, 0.1f, 0, 0, 0, 0.1f, 0, 0.05f, 0 },
    { "adagrad_eps", AE_ADAGRAD, 0.1f, 0, 0, 1e-3f, 0, 0, 0, 0 },
    { "adam", AE_ADAM, 0, 0, 0, 0, 0, 0, 0, 0 },
    { "adam_lr", AE_ADAM, 0.05f, 0, 0, 0, 0, 0, 0, 0 },
    { "adam_decay", AE_ADAM, 0.02f, 0, 0, 0, 0.1f, 0, 0, 0 },
    { "adam_betas", AE_ADAM, 0.02f, 0.5f, 0.75f, 1e-4f, 0, 0, 0, 0 },
    { "adamw", AE_ADAMW, 0.02f, 0, 0, 0, 0.01f, 0, 0, 0 },
    { "adamw_decay", AE_ADAMW, 0.05f, 0.8f, 0.99f, 0, 0.5f, 0, 0, 0 },
};
enum { CASES = sizeof cases / sizeof cases[0] };

static ae_optim optim_of(const optim_case *c)
{
    ae_optim o;
    memset(&o, 0, sizeof o);
    o.kind = c->kind;
    o.lr = c->lr;
    o.beta1 = c->beta1;
    o.beta2 = c->beta2;
    o.eps = c->eps;
    o.weight_decay = c->weight_decay;
    o.momentum = c->momentum;
    o.lr_decay = c->lr_decay;
    o.nesterov = c->nesterov;
    return o;
}

/* State arrays of n zeros, as many as `o` needs; NULL for the others. */
static void make_states(const ae_optim *o, float **s1, float **s2, size_t n)
{
    int states = ae_optim_states(o);
    *s1 = states > 0 ? DATA_IN(n, 0, 0, 0) : NULL;
    *s2 = states > 1 ? DATA_IN(n, 0, 0, 0) : NULL;
}

TEST(optim_golden)
{
    const test_record *w0 = golden("optim", "w0"), *g = golden("optim", "g");
    size_t n = w0->n;
    for (int k = 0; k < CASES; k++)
        for (int e = 0; e < 3; e++) {
            ae_optim o = optim_of(&cases[k]);
            float *w = COPY(w0->v, n), *s1, *s2;
            make_states(&o, &s1, &s2, n);
            for (int t = 1; t <= 20; t++) {
                ae_optim_update(test_exec_at(e), w, s1, s2, g->v + (size_t)(t - 1) * n, &o,
                                (uint64_t)t, n);
                if (t != 1 && t != 2 && t != 20) continue;
                test_context("%s, step %d, %s", cases[k].key, t, test_exec_text(e));
                // what golden.py holds PyTorch's own single precision to, and explains
                CHECK_ARRAY(w, golden("optim", "%s.%d", cases[k].key, t)->v, n, 3e-7, 1e-5);
            }
        }
}

static double or_else(float value, float otherwise)
{
    return (double)(value != 0 ? value : otherwise);
}

/* One step of the formulas in PyTorch's documentation, in double, for one parameter. */
static void reference_step(const ae_optim *o, double *w, double *s1, double *s2, double g, double t)
{
    double lr = or_else(o->lr, o->kind == AE_RMSPROP || o->kind == AE_ADAGRAD ? 1e-2f : 1e-3f);
    double b1 = or_else(o->beta1, 0.9f);
    double b2 = or_else(o->beta2, o->kind == AE_RMSPROP ? 0.99f : 0.999f);
    double eps = or_else(o->eps, o->kind == AE_ADAGRAD ? 1e-10f : 1e-8f);
    double mu = (double)o->momentum, decay = (double)o->weight_decay;
    if (o->kind == AE_ADAMW) *w -= lr * decay * *w;
    else g += decay * *w;
    switch (o->kind) {
    case AE_SGD:
        *s1 = t > 1 ? mu * *s1 + g : g;
        *w -= lr * (o->nesterov ? g + mu * *s1 : mu > 0 ? *s1 : g);
        break;
    case AE_RMSPROP:
        *s1 = b2 * *s1 + (1 - b2) * g * g;
        *s2 = mu * *s2 + g / (sqrt(*s1) + eps);
        *w -= lr * *s2;
        break;
    case AE_ADAGRAD:
        *s1 += g * g;
        *w -= lr / (1 + (t - 1) * (double)o->lr_decay) * g / (sqrt(*s1) + eps);
        break;
    case AE_ADAM:
    case AE_ADAMW:
    default:
        *s1 = b1 * *s1 + (1 - b1) * g;
        *s2 = b2 * *s2 + (1 - b2) * g * g;
        *w -= lr * *s1 / (1 - pow(b1, t)) / (sqrt(*s2 / (1 - pow(b2, t))) + eps);
    }
}

/* Any n, five steps from number `start` on, with states as they would be then. */
static void check_formulas(const optim_case *c, size_t n, uint64_t start, int e)
{
    ae_optim o = optim_of(c);
    float *w = DATA(n, 1), *s1, *s2, *g = OUT(n);
    double *want = DOUBLES(n), *want1 = DOUBLES(n), *want2 = DOUBLES(n);
    test_context("%s, n %lu, from step %lu, %s", c->key, (unsigned long)n, (unsigned long)start,
                 test_exec_text(e));
    make_states(&o, &s1, &s2, n);
    if (start > 1 && s1) test_fill(s1, n, 0.01, 0.09, 5);
    if (start > 1 && s2) test_fill(s2, n, 0.02, 0.05, 6);
    for (size_t i = 0; i < n; i++) {
        want[i] = (double)w[i];
        want1[i] = s1 ? (double)s1[i] : 0;
        want2[i] = s2 ? (double)s2[i] : 0;
    }
    for (int step = 0; step < 5; step++) {
        test_fill(g, n, -0.9, 1.1, 10 + (uint32_t)step);
        ae_optim_update(test_exec_at(e), w, s1, s2, g, &o, start + (uint64_t)step, n);
        for (size_t i = 0; i < n; i++)
            reference_step(&o, &want[i], &want1[i], &want2[i], (double)g[i],
                           (double)(start + (uint64_t)step));
    }
    // on their way parameters are up to 1, RMSprop's s2 up to 10, the others' s1 and s2 up to 3;
    // each of five steps adds some half ulps (6e-8) of that
    CHECK_REF(w, want, n, 3e-7, 1e-6);
    if (s1) CHECK_REF(s1, want1, n, 1e-6, 1e-6);
    if (s2) CHECK_REF(s2, want2, n, o.kind == AE_RMSPROP ? 4e-6 : 1e-6, 1e-6);
}

TEST(optim_formulas)
{
    static const size_t sizes[] = { 0, 1, 31, 32, 33, 255, 257, 1000, 8200 };
    for (int k = 0; k < CASES; k++)
        for (int s = 0; s < 9; s++)
            for (int e = 0; e < 3; e++) check_formulas(&cases[k], sizes[s], 1, e);
}

/* Late in a training the corrections have died away and t is large. */
TEST(optim_late_steps)
{
    static const uint64_t starts[] = { 2, 100, 1000000, ((uint64_t)1 << 33) + 1 };
    for (int k = 0; k < CASES; k++)
        for (int s = 0; s < 4; s++) check_formulas(&cases[k], 37, starts[s], 1);
}

TEST(optim_states)
{
    static const int want[CASES] = { 0, 1, 1, 0, 1, 1, 1, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2 };
    for (int k = 0; k < CASES; k++) {
        ae_optim o = optim_of(&cases[k]);
        test_context("%s", cases[k].key);
        CHECK_INT(ae_optim_states(&o), want[k]);
    }
    ae_optim zero;
    memset(&zero, 0, sizeof zero);
    CHECK_INT(zero.kind, AE_ADAM);
    CHECK_INT(ae_optim_states(&zero), 2);
}

/* {0} is what the table says. */
TEST(optim_defaults)
{
    enum { N = 33 };
    static const optim_case spelled[] = {
        { "adam", AE_ADAM, 1e-3f, 0.9f, 0.999f, 1e-8f, 0, 0, 0, 0 },
        { "adamw", AE_ADAMW, 1e-3f, 0.9f, 0.999f, 1e-8f, 0, 0, 0, 0 },
        { "sgd", AE_SGD, 1e-3f, 0, 0, 0, 0, 0, 0, 0 },
        { "rmsprop", AE_RMSPROP, 1e-2f, 0, 0.99f, 1e-8f, 0, 0, 0, 0 },
        { "adagrad", AE_ADAGRAD, 1e-2f, 0, 0, 1e-10f, 0, 0, 0, 0 },
    };
    for (int k = 0; k < 5; k++) {
        ae_optim full = optim_of(&spelled[k]), zero;
        memset(&zero, 0, sizeof zero);
        zero.kind = full.kind;
        float *w[2], *s1, *s2;
        for (int i = 0; i < 2; i++) {
            w[i] = DATA(N, 1);
            make_states(&zero, &s1, &s2, N);
            for (uint32_t t = 1; t <= 3; t++) {
                float *g = DATA_IN(N, -1e-7, 2e-7, t);  // small, so that eps counts
                ae_optim_update(test_exec(), w[i], s1, s2, g, i ? &full : &zero, t, N);
            }
        }
        test_context("%s", spelled[k].key);
        CHECK_BITS(w[0], w[1], N);
    }
}

TEST(optim_same_bits_for_any_threads)
{
    enum { N = 20011 };     // three pieces
    for (int k = 0; k < CASES; k++) {
        ae_optim o = optim_of(&cases[k]);
        float *first = NULL;
        for (int i = 1; i < TEST_EXECS; i++) {
            if (i > 7 && i % 4 != 2) continue;
            float *w = DATA(N, 1), *s1, *s2, *g = DATA(N, 2);
            make_states(&o, &s1, &s2, N);
            for (uint64_t t = 1; t <= 2; t++)
                ae_optim_update(test_exec_at(i), w, s1, s2, g, &o, t, N);
            if (i == 1) first = w;
            test_context("%s, %s", cases[k].key, test_exec_text(i));
            CHECK_BITS(w, first, N);
        }
    }
}

/* --- clipping ------------------------------------------------------------- */

TEST(clip_golden)
{
    static const char *const keys[] = { "above", "below", "tiny" };
    const test_record *g = golden("optim", "g");
    for (int e = 0; e < 3; e++) {
        size_t n = (size_t)g->dim[1];
        for (int k = 0; k < 3; k++) {
            const float *limit = golden("optim", "clip_norm_%s.norm", keys[k])->v;  // and the norm
            float *x = COPY(g->v, n);
            test_context("%s, %s", keys[k], test_exec_text(e));
            double norm = ae_clip_norm(test_exec_at(e), x, limit[0], n);
            CHECK_CLOSE(norm, limit[1], 1e-6 * (double)limit[1]);
            // one multiplication with a factor that is a rounded quotient
            CHECK_ARRAY(x, golden("optim", "clip_norm_%s", keys[k])->v, n, 0, 1e-6);
        }
        float *x = COPY(g->v, n);
        ae_clip_value(test_exec_at(e), x, 0.25f, n);
        CHECK_BITS(x, golden("optim", "clip_value")->v, n);
    }
}

TEST(clip_norm)
{
    static const size_t sizes[] = { 0, 1, 31, 32, 33, 255, 257, 1000, 8200, 600011 };
    for (int s = 0; s < 10; s++)
        for (int e = 0; e < 3; e++) {
            size_t n = sizes[s];
            float *g = DATA(n, 1), *kept = COPY(g, n);
            double squares = 0;
            for (size_t i = 0; i < n; i++) squares += (double)g[i] * (double)g[i];
            double norm = sqrt(squares);
            test_context("n %lu, %s", (unsigned long)n, test_exec_text(e));
            // blocks of positive terms: some roundings
            CHECK_CLOSE(ae_clip_norm(test_exec_at(e), g, (float)(norm * 1.01) + 1, n), norm,
                        1e-6 * norm);
            CHECK_BITS(g, kept, n);             // below the limit: untouched
            if (n == 0) continue;
            float limit = (float)(norm / 3);
            ae_clip_norm(test_exec_at(e), g, limit, n);
            double factor = (double)limit / (norm + 1e-6);
            for (size_t i = 0; i < n && i < 2000; i++)
                CHECK_CLOSE(g[i], (double)kept[i] * factor, 1e-6 * fabs((double)kept[i]));
            CHECK_CLOSE(ae_clip_norm(test_exec_at(e), g, 1e9f, n), norm / 3, 2e-6 * norm);
        }
    // what is not finite is not hidden, and zero stays zero
    float *g = DATA(100, 1);
    g[57] = test_nan();
    CHECK(!test_is_finite((float)ae_clip_norm(test_exec(), g, 1, 100)));
    g[57] = test_inf();
    CHECK(!test_is_finite((float)ae_clip_norm(test_exec(), g, 1, 100)));
    float *zero = DATA_IN(33, 0, 0, 0), *same = DATA_IN(33, 0, 0, 0);
    CHECK_CLOSE(ae_clip_norm(test_exec(), zero, 1, 33), 0, 0);
    CHECK_BITS(zero, same, 33);
}

TEST(clip_value)
{
    static const size_t sizes[] = { 0, 1, 31, 32, 33, 255, 257, 1000, 20001 };
    for (int s = 0; s < 9; s++)
        for (int e = 0; e < TEST_EXECS; e++) {
            size_t n = sizes[s];
            float *g = DATA_IN(n, -2, 2.2, 1), *want = COPY(g, n);
            for (size_t i = 0; i < n; i++)
                want[i] = g[i] > 0.7f ? 0.7f : g[i] < -0.7f ? -0.7f : g[i];
            test_context("n %lu, %s", (unsigned long)n, test_exec_text(e));
            ae_clip_value(test_exec_at(e), g, 0.7f, n);
            CHECK_BITS(g, want, n);
        }
    float ends[3] = { 0, 0.5f, -0.5f }, limits[3] = { 0, 0.5f, -0.5f };
    ends[0] = test_inf();
    limits[0] = 0.5f;
    ae_clip_value(NULL, ends, 0.5f, 3);
    CHECK_BITS(ends, limits, 3);
}

TEST(clip_same_bits_for_any_threads)
{
    enum { N = 600011 };
    float *first = DATA(N, 1), *g = OUT(N);
    double norm1 = ae_clip_norm(test_exec(), first, 1, N);
    for (int i = 2; i < TEST_EXECS; i++) {
        if (i % 4 != 1 && i % 4 != 2) continue;     // 3 and 7 threads, all ways
        test_fill(g, N, -0.9, 0.97, 1);
        test_context("%s", test_exec_text(i));
        double norm = ae_clip_norm(test_exec_at(i), g, 1, N);
        CHECK(!memcmp(&norm, &norm1, sizeof norm));
        CHECK_BITS(g, first, N);
    }
}

/* --- schedules ------------------------------------------------------------ */

/* The rate of all tests, in a variable: where floats are computed in double, 0.1f may be 0.1. */
static const float base = 0.1f;

static ae_schedule schedule_of(ae_schedule_kind kind)
{
    ae_schedule s;
    memset(&s, 0, sizeof s);
    s.kind = kind;
    return s;
}

/* Epochs 0 ... 40 at base 0.1. gamma as a single, off by 6e-8, to its 40th power: 3e-6. */
static void check_schedule(const char *key, const ae_schedule *s)
{
    const test_record *want = golden("schedule", "%s", key);
    test_context("%s", key);
    for (int t = 0; t < 41; t++)
        CHECK_CLOSE(ae_schedule_lr(s, base, (float)t), want->v[t],
                    3e-6 * fabs((double)want->v[t]) + 1e-9);
}

TEST(schedule_golden)
{
    ae_schedule s = schedule_of(AE_SCHEDULE_STEP);
    check_schedule("step", &s);
    s.step = 7;
    s.gamma = 0.3f;
    check_schedule("step_7", &s);
    s = schedule_of(AE_SCHEDULE_EXPONENTIAL);
    check_schedule("exponential", &s);
    s.gamma = 0.8f;
    check_schedule("exponential_0.8", &s);
    s = schedule_of(AE_SCHEDULE_COSINE);
    s.epochs = 40;
    check_schedule("cosine", &s);
    s.lr_min = 0.02f;
    check_schedule("cosine_min", &s);
}

TEST(schedule_plateau_golden)
{
    static const char *const keys[] = { "plateau", "plateau_3", "plateau_min" };
    const test_record *losses = golden("schedule", "losses");
    for (int k = 0; k < 3; k++) {
        const test_record *want = golden("schedule", "%s", keys[k]);
        ae_schedule s = schedule_of(AE_SCHEDULE_PLATEAU);
        if (k == 1) { s.gamma = 0.5f; s.patience = 3; }
        if (k == 2) { s.gamma = 0.3f; s.patience = 1; s.lr_min = 0.01f; s.min_delta = 0.02f; }
        test_context("%s", keys[k]);
        for (int t = 0; t <= (int)losses->n; t++) {
            CHECK_CLOSE(ae_schedule_lr(&s, base, (float)t), want->v[t],
                        1e-6 * fabs((double)want->v[t]));
            if (t < (int)losses->n) ae_schedule_update(&s, losses->v[t]);
        }
    }
}

/* An epoch whose loss is NaN is no fall, but does not spoil what comes after. */
TEST(schedule_plateau_nan)
{
    ae_schedule s = schedule_of(AE_SCHEDULE_PLATEAU);
    s.patience = 2;
    ae_schedule_update(&s, test_nan());
    for (int e = 0; e < 20; e++) ae_schedule_update(&s, 1 - 0.01f * (float)e);
    CHECK_CLOSE(ae_schedule_lr(&s, base, 21), base, 0);
    for (int e = 0; e < 3; e++) ae_schedule_update(&s, test_nan());
    CHECK_CLOSE(ae_schedule_lr(&s, base, 24), 0.01, 1e-8);
}

/* Inside an epoch steps stand and the cosine goes on; beyond its end it stays. */
TEST(schedule_between_epochs)
{
    ae_schedule constant = schedule_of(AE_SCHEDULE_CONSTANT), step = schedule_of(AE_SCHEDULE_STEP);
    ae_schedule power = schedule_of(AE_SCHEDULE_EXPONENTIAL);
    ae_schedule cosine = schedule_of(AE_SCHEDULE_COSINE);
    cosine.epochs = 40;
    cosine.lr_min = 0.02f;
    for (int t = 0; t < 40; t++) {
        float at = (float)t, in = (float)t + 0.75f;
        CHECK_CLOSE(ae_schedule_lr(&constant, base, in), base, 0);
        CHECK_CLOSE(ae_schedule_lr(&step, base, in), ae_schedule_lr(&step, base, at), 0);
        CHECK_CLOSE(ae_schedule_lr(&power, base, in), ae_schedule_lr(&power, base, at), 0);
        CHECK_CLOSE(ae_schedule_lr(&cosine, base, in),
                    0.02 + 0.08 / 2 * (1 + cos(3.14159265358979324 * ((double)in / 40))), 1e-8);
    }
    CHECK_CLOSE(ae_schedule_lr(&cosine, base, 40), 0.02, 1e-9);
    CHECK_CLOSE(ae_schedule_lr(&cosine, base, 57), 0.02, 1e-9);
    for (int e = 0; e < 30; e++) {
        ae_schedule_update(&constant, 1);
        ae_schedule_update(&step, 1);
    }
    CHECK_CLOSE(ae_schedule_lr(&constant, base, 5), base, 0);
    CHECK_CLOSE(ae_schedule_lr(&step, base, 5), base, 0);
}

/* The rate rises in equal steps and meets the schedule where the warm-up ends. */
TEST(schedule_warmup)
{
    static const ae_schedule_kind kinds[] = { AE_SCHEDULE_CONSTANT, AE_SCHEDULE_STEP,
                                              AE_SCHEDULE_EXPONENTIAL, AE_SCHEDULE_COSINE,
                                              AE_SCHEDULE_PLATEAU };
    for (int k = 0; k < 5; k++) {
        ae_schedule s = schedule_of(kinds[k]);
        s.warmup = 4;
        s.epochs = 20;
        s.gamma = 0.99f;        // nearly nothing has fallen when the warm-up ends
        test_context("kind %d", k);
        double first = (double)ae_schedule_lr(&s, base, 0);
        CHECK(first >= 0 && first <= 0.01);
        for (int t = 1; t <= 16; t++) {
            double now = (double)ae_schedule_lr(&s, base, (float)t * 0.25f);
            double before = (double)ae_schedule_lr(&s, base, (float)(t - 1) * 0.25f);
            if (t < 16) CHECK_CLOSE(now - before, (0.1 - first) / 16, 1e-7);
            else CHECK_CLOSE(now, 0.1, 0.1 * 0.05);     // 0.99^4
        }
        if (kinds[k] == AE_SCHEDULE_COSINE) {
            CHECK_CLOSE(ae_schedule_lr(&s, base, 20), 0, 1e-9);
            for (int t = 4; t < 20; t++)
                CHECK(ae_schedule_lr(&s, base, (float)t) > ae_schedule_lr(&s, base, (float)t + 1));
        }
    }
}

TEST_LIST(optim) {
    CASE(init_distributions),
    CASE(init_fill),
    CASE(optim_golden),
    CASE(optim_formulas),
    CASE(optim_late_steps),
    CASE(optim_states),
    CASE(optim_defaults),
    CASE(optim_same_bits_for_any_threads),
    CASE(clip_golden),
    CASE(clip_norm),
    CASE(clip_value),
    CASE(clip_same_bits_for_any_threads),
    CASE(schedule_golden),
    CASE(schedule_plateau_golden),
    CASE(schedule_plateau_nan),
    CASE(schedule_between_epochs),
    CASE(schedule_warmup),
    CASE_END
};
