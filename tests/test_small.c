/* Weights in fewer bytes: halves and bytes by their definitions, layers, whole models, the fork. */
#include "net.h"

enum { ROOM = 1 << 21, HALVES = 0x7c00 };       // HALVES: finite ones from 0 on

/* --- the definitions ------------------------------------------------------ */

// Half number i: ten bits of mantissa, exponents from -14 on, below that without a leading 1.
static double half_value(int i)
{
    int exponent = i / 1024, mantissa = i % 1024;
    return exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
}

// The nearest half; rint takes the even one of two.
static double half_of(double x)
{
    double size = fabs(x), unit = size < ldexp(1, -14) ? ldexp(1, -24) : 0, near;
    if (unit == 0) {
        int e;
        frexp(size, &e);        // size < 2^e
        unit = ldexp(1, e - 11);
    }
    near = rint(size / unit) * unit;
    if (near > 65504) near = 65504;
    return x < 0 ? -near : near;
}

// What weights w (rows, columns) are rounded to.
static void round_to(double *to, const float *w, int rows, int columns, ae_precision precision)
{
    for (int r = 0; r < rows; r++, w += columns, to += columns) {
        float most = 0;
        for (int c = 0; c < columns; c++) most = fabsf(w[c]) > most ? fabsf(w[c]) : most;
        const volatile float rounded = most / 127.0f;       // to a float, whatever the compiler
        const double scale = (double)rounded;
        for (int c = 0; c < columns; c++)
            to[c] = precision == AE_FLOAT16 ? half_of((double)w[c])
                  : scale > 0 ? floor((double)w[c] / scale + 0.5) * scale : 0;
    }
}

/* --- one layer ------------------------------------------------------------ */

typedef struct layer {
    ae_model *m, *f;
    ae_tensor *x, *y;
    double lost;
    int in, out;
} layer;

// A linear layer of weights w (out, in), or a convolution of one pixel, and its small fork.
static layer layer_of(const float *w, const float *bias, int in, int out, int batch, int conv,
                      ae_precision precision)
{
    layer l;
    size_t weights = (size_t)(in + 32) * (size_t)(out + 32);
    ae_arena *arena = net_arena(65536 + 8 * weights);
    memset(&l, 0, sizeof l);
    l.in = in;
    l.out = out;
    l.m = ae_model_new(arena, 1);
    l.x = ae_input(l.m, in, 1, 1);
    l.y = conv ? ae_conv2d(l.x, out, 1, 1, 0) : ae_linear(l.x, out);
    REQUIRE(ae_build(l.m, 1, AE_INFER) == AE_SUCCESS);
    memcpy(ae_param_data(l.m, ae_weight(l.y)), w, (size_t)in * (size_t)out * sizeof *w);
    if (bias) memcpy(ae_param_data(l.m, ae_bias(l.y)), bias, (size_t)out * sizeof *w);
    else memset(ae_param_data(l.m, ae_bias(l.y)), 0, (size_t)out * sizeof *w);
    l.f = ae_fork_small(l.m, net_arena(65536 + 12 * weights + 4 * AE_SCRATCH * sizeof(float)
                                       + (size_t)(batch * (in + out + 64)) * sizeof(float)),
                        batch, precision, &l.lost);
    REQUIRE(l.f != NULL);
    CHECK_INT(ae_set_exec(l.f, test_exec()), AE_SUCCESS);
    return l;
}

// y for one sample of one number 1: the weights as they are multiplied by.
static const float *weights_of(layer *l)
{
    const float one = 1;
    CHECK_INT(ae_run_from(l->f, l->x, &one, l->y, 1), AE_SUCCESS);
    return ae_get(l->f, l->y);
}

/* Every finite half comes back as it is, in linear layers and in convolutions. */
TEST(small_every_half)
{
    float *w = OUT(2 * HALVES);
    for (int i = 0; i < HALVES; i++) {
        w[2 * i] = (float)half_value(i);
        w[2 * i + 1] = -w[2 * i];
    }
    for (int conv = 0; conv < 2; conv++) {
        layer l = layer_of(w, NULL, 1, 2 * HALVES, 1, conv, AE_FLOAT16);
        const ae_exec old = ae_exec_at_most(AE_ISA_SSE2);
        CHECK_ARRAY(weights_of(&l), w, 2 * HALVES, 0, 0);
        CHECK_INT(ae_set_exec(l.f, &old), AE_SUCCESS);     // without instructions for halves
        CHECK_ARRAY(weights_of(&l), w, 2 * HALVES, 0, 0);
        CHECK_CLOSE(l.lost, 0, 0);
    }
}

/* Floats go to the nearest half: the middle of two, the floats beside it, both neighbours'. */
TEST(small_nearest_half)
{
    enum { N = 5 * (HALVES - 1) };
    float *w = OUT(N);
    double *want = DOUBLES(N);
    for (int i = 0; i < HALVES - 1; i++) {
        const double low = half_value(i), high = half_value(i + 1);
        const float sign = i % 3 ? 1.0f : -1.0f, middle = (float)((low + high) / 2);
        const double to[5] = { low, low, i % 2 ? high : low, high, high };
        const float from[5] = { nextafterf((float)low, 1e9f), nextafterf(middle, -1e9f), middle,
                                nextafterf(middle, 1e9f), nextafterf((float)high, -1e9f) };
        for (int k = 0; k < 5; k++) {
            w[5 * i + k] = sign * from[k];
            want[5 * i + k] = (double)sign * to[k];
        }
    }
    layer l = layer_of(w, NULL, 1, N, 1, 0, AE_FLOAT16);
    CHECK_REF(weights_of(&l), want, N, 0, 0);
    const float ends[] = { 65504, 65519.99f, 65520, -65520, 1e5f, -3.4e38f, 2e-45f, -1e-9f };
    const float end_halves[] = { 65504, 65504, 65504, -65504, 65504, -65504, 0, 0 };
    l = layer_of(ends, NULL, 1, 8, 1, 0, AE_FLOAT16);
    CHECK_ARRAY(weights_of(&l), end_halves, 8, 0, 0);
}

/* Bytes: the largest of a channel is exact, all others are within half a step of it; channels of
   zeros, of one value, of floats too small for a scale. */
TEST(small_bytes)
{
    enum { D = 9, O = 37 };
    float *w = DATA(O * D, 4), *unit = OUT(D * D), *got = OUT(D * O);
    double *want = DOUBLES(O * D);
    memset(w + 3 * D, 0, D * sizeof *w);
    for (int c = 0; c < D; c++) {
        w[5 * D + c] = -0.25f;
        w[6 * D + c] = (float)(c - 4) * 1e-44f;
        w[7 * D + c] *= 1e30f;
        w[8 * D + c] *= 1e-30f;
    }
    memset(unit, 0, D * D * sizeof *unit);
    for (int c = 0; c < D; c++) unit[c * D + c] = 1;
    round_to(want, w, O, D, AE_INT8);
    layer l = layer_of(w, NULL, D, O, D, 0, AE_INT8);
    CHECK_INT(ae_predict(l.f, l.y, got, unit, D), AE_SUCCESS);
    for (int o = 0; o < O; o++) {
        float most = 0;
        for (int c = 0; c < D; c++) most = fabsf(w[o * D + c]) > most ? fabsf(w[o * D + c]) : most;
        for (int c = 0; c < D && o != 6; c++) {
            const double v = (double)w[o * D + c];
            test_context("channel %d, %d", o, c);
            CHECK_CLOSE(got[c * O + o], want[o * D + c], 1.5e-7 * fabs(want[o * D + c]));
            CHECK_CLOSE(got[c * O + o], v, (double)most * (fabs(v) < (double)most ? 0.00394
                                                                                  : 2e-7));
        }
        for (int c = 0; c < D && o == 6; c++) CHECK_CLOSE(got[c * O + o], 0, 1e-42);
    }
}

/* Any size, any batch: close to double with the rounded weights, and the same bits for a sample
   whatever batch it is in and however the work is split. */
TEST(small_linear)
{
    static const int in[] = { 1, 2, 3, 31, 255, 256, 257, 511, 513, 784, 1030 };
    static const int out[] = { 1, 5, 31, 32, 33, 64, 100 }, batch[] = { 1, 2, 3, 4, 5, 17, 70 };
    for (int i = 0; i < 11; i++)
        for (int o = 0; o < 7; o++) {
            const int D = in[i], O = out[(i + o) % 7], B = batch[o];
            float *w = DATA(D * O, 3), *bias = DATA(O, 5), *x = DATA(B * D, 7);
            double *rounded = DOUBLES(D * O);
            for (int k = 1; k <= 2; k++) {
                const ae_precision precision = (ae_precision)k;
                layer l = layer_of(w, bias, D, O, B, 0, precision);
                float *y = OUT(B * O), *one = OUT(O);
                test_context("%d -> %d, %d samples, precision %d", D, O, B, k);
                CHECK_INT(ae_predict(l.f, l.y, y, x, (size_t)B), AE_SUCCESS);
                round_to(rounded, w, O, D, precision);
                for (int b = 0; b < B; b++) {
                    for (int c = 0; c < O; c++) {
                        double want = (double)bias[c], size = fabs(want);
                        for (int d = 0; d < D; d++) {
                            const double term = (double)x[b * D + d] * rounded[c * D + d];
                            want += term;
                            size += fabs(term);
                        }
                        // a float's rounding a term, but blocks keep sums short
                        CHECK_CLOSE(y[b * O + c], want, 2e-6 * size);
                    }
                    CHECK_INT(ae_predict(l.f, l.y, one, x + b * D, 1), AE_SUCCESS);
                    CHECK_BITS(one, y + b * O, O);
                }
                for (int e = 1; e < TEST_EXECS; e++) {
                    CHECK_INT(ae_set_exec(l.f, test_exec_at(e)), AE_SUCCESS);
                    test_refill(one, (size_t)O);
                    CHECK_INT(ae_predict(l.f, l.y, one, x, 1), AE_SUCCESS);
                    CHECK_BITS(one, y, O);
                }
            }
        }
}

// Enough work for threads: the last task has less.
TEST(small_linear_threads)
{
    enum { D = 600, O = 700, B = 9 };
    float *w = DATA(D * O, 3), *bias = DATA(O, 5), *x = DATA(B * D, 7), *y = OUT(B * O);
    float *want = OUT(B * O);
    for (int k = 1; k <= 2; k++) {
        layer l = layer_of(w, bias, D, O, B, 0, (ae_precision)k);
        for (int n = 1; n <= B; n += 4) {
            CHECK_INT(ae_set_exec(l.f, test_exec()), AE_SUCCESS);
            CHECK_INT(ae_predict(l.f, l.y, want, x, (size_t)n), AE_SUCCESS);
            for (int e = 1; e < TEST_EXECS; e++) {
                CHECK_INT(ae_set_exec(l.f, test_exec_at(e)), AE_SUCCESS);
                test_context("precision %d, %d samples, %s", k, n, test_exec_text(e));
                test_refill(y, (size_t)(n * O));
                CHECK_INT(ae_predict(l.f, l.y, y, x, (size_t)n), AE_SUCCESS);
                CHECK_BITS(y, want, n * O);
            }
        }
    }
}

/* --- models --------------------------------------------------------------- */

typedef struct pic {
    ae_model *m;
    ae_tensor *x, *z, *y;
} pic;

// Every kind of layer that has weights: plain, with groups, 1d, transposed, normalised.
static pic pic_of(ae_arena *arena, int convolutions)
{
    pic p;
    ae_conv o;
    memset(&o, 0, sizeof o);
    o.kernel_h = 3;
    o.kernel_w = 2;
    o.pad_h = 1;
    o.groups = 2;
    p.m = ae_model_new(arena, 3);
    p.x = ae_input(p.m, 2, 8, 8);
    ae_tensor *h = p.x;
    if (convolutions) {
        h = ae_relu(ae_batch_norm(ae_conv2d(h, 6, 3, 1, 1), NULL));
        h = ae_tanh(ae_conv2d_with(ae_max_pool2d(h, 2), 8, &o));
    }
    p.z = ae_layer_norm(ae_linear(h, 37), NULL);
    h = ae_reshape(ae_relu(ae_linear_no_bias(p.z, 6 * 16)), 6, 4, 4);
    if (convolutions) h = ae_conv_transpose2d(h, 2, 2, 2, 0, 0);
    p.y = ae_sigmoid(convolutions ? h : ae_linear(h, 128));
    return p;
}

// Weights of linear layers and convolutions, of conv1d too; a layer norm has three sides as well.
static int shrinks(const ae_param *p)
{
    int shape[4], dims = ae_param_shape(p, shape);
    return dims == 2 || dims == 4 || (dims == 3 && strncmp(ae_param_name(p), "conv", 4) == 0);
}

// Rounds m's own weights by the definitions; sums what that changes and what they are.
static double round_model(ae_model *m, ae_precision precision)
{
    double change = 0, power = 0;
    ae_param *p;
    for (int i = 0; (p = ae_param_at(m, i)) != NULL; i++) {
        int shape[4], rows;
        if (!shrinks(p)) continue;
        ae_param_shape(p, shape);
        size_t n = ae_param_size(p);
        float *w = ae_param_data(m, p);
        double *rounded = DOUBLES(n);
        rows = shape[0];
        round_to(rounded, w, rows, (int)n / rows, precision);
        for (size_t j = 0; j < n; j++) {
            change += (rounded[j] - (double)w[j]) * (rounded[j] - (double)w[j]);
            power += (double)w[j] * (double)w[j];
            w[j] = (float)rounded[j];
        }
    }
    return sqrt(change / power);
}

/* A small fork computes what the model does with rounded weights: in whole, from the middle, for
   one sample and many, with any threads, and as a fork of a fork. */
TEST(small_model)
{
    enum { N = 11, F = 128, Z = 37 };
    float *x = DATA_IN(N * F, 0, 1, 9), *want = OUT(N * F), *y = OUT(N * F), *z = OUT(N * Z);
    for (int k = 1; k <= 2; k++)
        for (int convolutions = 0; convolutions < 2; convolutions++) {
            pic p = pic_of(net_arena(ROOM), convolutions);
            double lost = -1;
            test_context("precision %d, convolutions %d", k, convolutions);
            CHECK_INT(ae_set_exec(p.m, test_exec()), AE_SUCCESS);
            REQUIRE(ae_build(p.m, N, AE_INFER) == AE_SUCCESS);
            ae_param *p0;
            for (int i = 0; (p0 = ae_param_at(p.m, i)) != NULL; i++) {  // beta, gamma, means too
                float *v = ae_param_data(p.m, p0), *d = DATA_IN(ae_param_size(p0), 0.1, 1,
                                                                (uint32_t)i);
                for (size_t j = 0; j < ae_param_size(p0); j++) v[j] = 0.5f * v[j] + 0.2f * d[j];
            }
            ae_model *f = ae_fork_small(p.m, net_arena(ROOM), 4, (ae_precision)k, &lost);
            REQUIRE(f != NULL);
            for (int i = 0; (p0 = ae_param_at(p.m, i)) != NULL; i++) {
                if (shrinks(p0)) CHECK(ae_param_data(f, p0) == NULL);
                else CHECK_BITS(ae_param_data(f, p0), ae_param_data(p.m, p0), ae_param_size(p0));
            }
            const double should = round_model(p.m, (ae_precision)k);    // f must not see that
            CHECK_CLOSE(lost, should, 1e-6 * should);
            CHECK(lost > 0 && lost < (k == AE_FLOAT16 ? 2.9e-4 : 0.02));
            CHECK_INT(ae_predict(p.m, p.y, want, x, N), AE_SUCCESS);
            ae_model *again = ae_fork(f, net_arena(ROOM), N);
            REQUIRE(again != NULL);
            for (int e = 1; e < TEST_EXECS; e++) {
                CHECK_INT(ae_set_exec(f, test_exec_at(e)), AE_SUCCESS);
                test_refill(y, N * F);
                CHECK_INT(ae_predict(f, p.y, y, x, N), AE_SUCCESS);
                CHECK_ARRAY(y, want, N * F, 2e-6, 2e-6);    // sums in another order
            }
            CHECK_INT(ae_set_exec(again, test_exec()), AE_SUCCESS);
            float *many = OUT(N * F);
            CHECK_INT(ae_predict(again, p.y, many, x, N), AE_SUCCESS);
            CHECK_BITS(many, y, N * F);
            CHECK_INT(ae_predict(f, p.z, z, x, N), AE_SUCCESS);
            CHECK_INT(ae_predict_from(f, p.z, p.y, many, z, N), AE_SUCCESS);
            CHECK_BITS(many, y, N * F);
            CHECK_INT(ae_set(again, p.x, x, N), AE_SUCCESS);
            CHECK_INT(ae_run(again, p.y, N), AE_SUCCESS);
            CHECK_BITS(ae_get(again, p.y), y, N * F);
        }
}

/* A convolution computes with the rounded weights as floats: to the bit. */
TEST(small_convolutions)
{
    enum { N = 3, F = 2 * 49 };
    float *x = DATA(N * F, 2);
    for (int k = 1; k <= 2; k++)
        for (int kind = 0; kind < 4; kind++) {
            ae_model *m = ae_model_new(net_arena(ROOM), 5);
            ae_tensor *in = kind == 3 ? ae_input(m, 2, 1, 49) : ae_input(m, 2, 7, 7), *y;
            ae_conv o;
            memset(&o, 0, sizeof o);
            o.kernel_h = 3;
            o.groups = 2;
            o.stride_h = 2;
            o.no_bias = 1;
            test_context("precision %d, kind %d", k, kind);
            y = kind == 0 ? ae_conv2d(in, 5, 3, 1, 1) : kind == 1 ? ae_conv2d_with(in, 4, &o)
              : kind == 2 ? ae_conv_transpose2d(in, 3, 3, 2, 1, 1) : ae_conv1d(in, 5, 5, 2, 0);
            CHECK_INT(ae_set_exec(m, test_exec()), AE_SUCCESS);
            REQUIRE(ae_build(m, N, AE_INFER) == AE_SUCCESS);
            ae_model *f = ae_fork_small(m, net_arena(ROOM), N, (ae_precision)k, NULL);
            REQUIRE(f != NULL);
            float *want = OUT(N * ae_size(y)), *got = OUT(N * ae_size(y));
            round_model(m, (ae_precision)k);
            CHECK_INT(ae_predict(m, y, want, x, N), AE_SUCCESS);
            CHECK_INT(ae_predict(f, y, got, x, N), AE_SUCCESS);
            CHECK_BITS(got, want, N * ae_size(y));
        }
}

/* --- the fork ------------------------------------------------------------- */

/* It has all it needs: giving m's memory back changes nothing. Floats are a copy. */
TEST(small_fork_is_apart)
{
    enum { F = 128 };
    float *x = DATA_IN(F, 0, 1, 9);
    for (int k = 0; k <= 2; k++) {
        ae_arena *arena = net_arena(ROOM);
        pic p = pic_of(arena, 1);
        size_t mark = ae_arena_used(arena);
        double lost = -1;
        test_context("precision %d", k);
        REQUIRE(ae_build(p.m, 1, AE_INFER) == AE_SUCCESS);
        ae_model *f = ae_fork_small(p.m, net_arena(ROOM), 1, (ae_precision)k, &lost);
        REQUIRE(f != NULL);
        float *want = OUT(F), *y = OUT(F);
        CHECK_INT(ae_predict(p.m, p.y, want, x, 1), AE_SUCCESS);
        if (k == AE_FLOAT32) {
            CHECK_CLOSE(lost, 0, 0);
            CHECK_INT(ae_predict(f, p.y, y, x, 1), AE_SUCCESS);
            CHECK_BITS(y, want, F);
            CHECK(ae_param_data(f, ae_param_at(f, 0)) != NULL);
            CHECK(ae_param_data(f, ae_param_at(f, 0)) != ae_param_data(p.m, ae_param_at(f, 0)));
        }
        CHECK_INT(ae_predict(f, p.y, want, x, 1), AE_SUCCESS);
        ae_arena_rewind(arena, mark);
        size_t free_floats = ae_arena_left(arena) / sizeof(float);
        test_refill((float *)ae_alloc(arena, free_floats * sizeof(float)), free_floats);
        CHECK_INT(ae_predict(f, p.y, y, x, 1), AE_SUCCESS);
        CHECK_BITS(y, want, F);
    }
}

/* Exactly the bytes it takes suffice; a weight takes two or one. */
TEST(small_fork_in_a_small_arena)
{
    size_t used[3];
    pic p = pic_of(net_arena(ROOM), 1);
    REQUIRE(ae_build(p.m, 2, AE_INFER) == AE_SUCCESS);
    for (int k = 0; k <= 2; k++) {
        test_context("precision %d", k);
        ae_arena *arena = net_arena(ROOM);
        REQUIRE(ae_fork_small(p.m, arena, 3, (ae_precision)k, NULL) != NULL);
        size_t need = used[k] = ae_arena_used(arena);
        arena = net_arena(need);
        ae_model *f = ae_fork_small(p.m, arena, 3, (ae_precision)k, NULL);
        REQUIRE(f != NULL);
        CHECK_INT(ae_arena_left(arena), 0);
        float *x = DATA(3 * 128, 1), *y = OUT(3 * 128);
        CHECK_INT(ae_predict(f, p.y, y, x, 3), AE_SUCCESS);
        CHECK_FINITE(y, 3 * 128);
        for (size_t bytes = 0, left; bytes < need;
             bytes += left > 1999 ? 1999 : left > 65 ? 61 : 1) {
            left = need - bytes;
            arena = net_arena(bytes);
            CHECK(ae_fork_small(p.m, arena, 3, (ae_precision)k, NULL) == NULL);
            CHECK_INT(ae_arena_used(arena), 0);
            CHECK_ERROR(arena->error, "ae_fork_small: batch 3 needs ");
        }
    }
    // linear layers of many weights: their bytes, scales, and what is the same for both
    ae_model *m = ae_model_new(net_arena(ROOM), 1);
    ae_linear_no_bias(ae_input(m, 320, 1, 1), 96);
    REQUIRE(ae_build(m, 1, AE_INFER) == AE_SUCCESS);
    for (int k = 0; k <= 2; k++) {
        ae_arena *arena = net_arena(ROOM);
        REQUIRE(ae_fork_small(m, arena, 1, (ae_precision)k, NULL) != NULL);
        used[k] = ae_arena_used(arena);
    }
    CHECK_INT(used[0] - used[1], 320 * 96 * 2 - 96 * 4);
    CHECK_INT(used[1] - used[2], 320 * 96);
}

TEST(small_fork_mistakes)
{
    net g;
    ae_arena *arena = net_arena(ROOM);
    net_begin(&g, net_arena(ROOM), 1);
    int y = net_linear(&g, net_input(&g, 3, 1, 1), 4);
    CHECK(ae_fork_small(NULL, arena, 1, AE_INT8, NULL) == NULL);
    CHECK_ERROR(arena->error, "ae_fork_small: the model is not built");
    CHECK(ae_fork_small(g.m, arena, 1, AE_INT8, NULL) == NULL);
    CHECK_ERROR(arena->error, "ae_fork_small: the model is not built");
    REQUIRE(ae_build(g.m, 1, AE_INFER) == AE_SUCCESS);
    CHECK(ae_fork_small(g.m, arena, 0, AE_INT8, NULL) == NULL);
    CHECK_ERROR(arena->error, "ae_fork_small: batch 0");
    for (int k = -1; k <= 3; k += 4) {
        CHECK(ae_fork_small(g.m, arena, 1, (ae_precision)k, NULL) == NULL);
        CHECK_ERROR(arena->error, "no precision");
    }
    CHECK(ae_fork_small(g.m, NULL, 1, AE_INT8, NULL) == NULL);
    ae_model *f = ae_fork_small(g.m, arena, 1, AE_INT8, NULL);
    REQUIRE(f != NULL);
    CHECK(ae_fork_small(f, arena, 1, AE_FLOAT16, NULL) == NULL);
    CHECK_ERROR(arena->error, "small already");
    CHECK_INT(ae_run(f, g.node[y].t, 2), AE_E_ARG);
    ae_param_data(g.m, ae_param_at(g.m, 0))[7] = test_inf();
    CHECK(ae_fork_small(g.m, arena, 1, AE_FLOAT16, NULL) == NULL);
    CHECK_ERROR(arena->error, "n1.weight");
    CHECK(ae_fork_small(g.m, arena, 1, AE_FLOAT32, NULL) != NULL);
    // what is not finite in the data comes through
    float x[3] = { 0, test_nan(), 0 }, out[4];
    CHECK_INT(ae_predict(f, g.node[y].t, out, x, 1), AE_SUCCESS);
    for (int i = 0; i < 4; i++) CHECK(test_is_nan(out[i]));
}

#ifndef AE_NO_TRAIN
/* An evaluation; weights trained later are the model's alone. */
TEST(small_fork_evaluates)
{
    enum { N = 5, F = 24 };
    net g;
    net_begin(&g, net_arena(ROOM), 2);
    int x = net_input(&g, F, 1, 1), y = net_act(&g, net_linear(&g, x, F), AE_ACT_SIGMOID);
    net_loss(&g, AE_LOSS_MSE, y, x, AE_MEAN, 1);
    REQUIRE(ae_build(g.m, N, AE_TRAIN) == AE_SUCCESS);
    ae_dataset d;
    memset(&d, 0, sizeof d);
    d.floats = DATA_IN(N * F, 0, 1, 6);
    d.n = N;
    d.c = F;
    d.h = d.w = 1;
    float loss[3];
    ae_model *f = ae_fork_small(g.m, net_arena(ROOM), 2, AE_FLOAT16, NULL);
    REQUIRE(f != NULL);
    CHECK_INT(ae_evaluate(g.m, &d, &loss[0]), AE_SUCCESS);
    CHECK_INT(ae_evaluate(f, &d, &loss[1]), AE_SUCCESS);
    CHECK_CLOSE(loss[1], loss[0], 1e-3 * (double)loss[0]);
    CHECK(memcmp(&loss[0], &loss[1], sizeof loss[0]) != 0);
    ae_optim adam = net_optim(AE_ADAM, 0.1f);
    CHECK(test_is_finite(ae_epoch(g.m, &d, &adam)));
    CHECK_INT(ae_evaluate(f, &d, &loss[2]), AE_SUCCESS);
    CHECK_BITS(&loss[2], &loss[1], 1);
    CHECK_INT(ae_forward(f, 1), AE_E_ARG);
    CHECK_INT(ae_snapshot_bytes(f), 0);
}
#endif

TEST_LIST(small) {
    CASE(small_every_half), CASE(small_nearest_half), CASE(small_bytes), CASE(small_linear),
    CASE(small_linear_threads), CASE(small_model), CASE(small_convolutions),
    CASE(small_fork_is_apart), CASE(small_fork_in_a_small_arena), CASE(small_fork_mistakes),
#ifndef AE_NO_TRAIN
    CASE(small_fork_evaluates),
#endif
    CASE_END
};
