/* Models of pictures: convolutions, pooling, normalisation, noise, the mirror, what is refused. */
#include "net.h"

enum { ROOM = 1 << 21, BATCH = 5 };

/* A model with the tensors on its way; it reconstructs its input. */
typedef struct pic {
    ae_model *m;
    ae_tensor *x, *y, *loss;
    ae_tensor *t[32];
    int count;
} pic;

static ae_tensor *put(pic *p, ae_tensor *t)
{
    p->t[p->count++] = t;
    return t;
}

static void begin(pic *p, ae_arena *arena, uint64_t seed, int c, int h, int w)
{
    memset(p, 0, sizeof *p);
    p->m = ae_model_new(arena, seed);
    p->x = put(p, ae_input(p->m, c, h, w));
}

static void end(pic *p, ae_tensor *y)
{
    p->y = y;
    p->loss = ae_mse(y, p->x, AE_MEAN);
    ae_minimize(p->loss);
}

/* A kind that is none; C++ would warn of the constant. */
static int two(void)
{
    return 2;
}

/* --- options -------------------------------------------------------------- */

static ae_conv conv_of(int kh, int kw, int sh, int sw, int ph, int pw)
{
    ae_conv g;
    memset(&g, 0, sizeof g);
    g.kernel_h = kh;
    g.kernel_w = kw;
    g.stride_h = sh;
    g.stride_w = sw;
    g.pad_h = ph;
    g.pad_w = pw;
    return g;
}

static ae_tensor *conv_no_bias(ae_tensor *x, int out, int kernel, int stride, int pad)
{
    ae_conv g = conv_of(kernel, kernel, stride, stride, pad, pad);
    g.no_bias = 1;
    return ae_conv2d_with(x, out, &g);
}

static ae_pool pool_of(int kh, int kw, int sh, int sw, int ph, int pw)
{
    ae_pool g;
    memset(&g, 0, sizeof g);
    g.kernel_h = kh;
    g.kernel_w = kw;
    g.stride_h = sh;
    g.stride_w = sw;
    g.pad_h = ph;
    g.pad_w = pw;
    return g;
}

static ae_norm norm_of(float eps, float momentum, int no_affine)
{
    ae_norm o;
    o.eps = eps;
    o.momentum = momentum;
    o.no_affine = no_affine;
    return o;
}

/* --- graphs --------------------------------------------------------------- */

enum { CONVS, POOLS, MEANS, BATCH_NORMS, GROUP_NORMS, LINE, NOISE, MIRROR, MIRROR_UP, KINDS };

static void make_convs(pic *p)
{
    ae_tensor *h = put(p, ae_conv2d(p->x, 4, 3, 2, 1));                 // 4x4x3
    ae_conv g = conv_of(3, 2, 1, 1, 1, 1);
    g.dilation_w = 2;
    g.dilation_h = 1;
    g.groups = 2;
    h = put(p, ae_conv2d_with(put(p, ae_tanh(h)), 4, &g));              // 4x4x3
    g = conv_of(3, 3, 2, 2, 1, 1);
    g.output_pad_w = 1;
    h = put(p, ae_conv_transpose2d_with(put(p, ae_silu(h)), 4, &g));    // 4x7x6
    g = conv_of(2, 3, 1, 1, 1, 1);
    g.dilation_h = 2;
    g.dilation_w = 1;
    g.groups = 2;
    end(p, put(p, ae_conv_transpose2d_with(put(p, ae_gelu(h)), 2, &g)));
}

// Pooled are only monotone functions of single pixels, so no maximum moves with a weight.
static void make_pools(pic *p)
{
    ae_tensor *h = put(p, ae_conv2d(p->x, 3, 1, 1, 0));
    ae_init_layer(h, ae_init_uniform(0.4f, 0.9f), ae_init_uniform(-0.1f, 0.1f));
    ae_tensor *a = put(p, ae_tanh(h)), *small = put(p, ae_max_pool2d(a, 2));    // 3x3x2
    h = put(p, ae_silu(put(p, ae_conv2d(small, 3, 3, 1, 1))));
    h = put(p, ae_add(put(p, ae_max_unpool2d(h, small)), a));
    ae_pool g = pool_of(3, 3, 2, 2, 1, 1);
    ae_tensor *wide = put(p, ae_resize(put(p, ae_max_pool2d_with(a, &g)), AE_NEAREST, 6, 5));
    g = pool_of(2, 1, 1, 2, 1, 0);
    g.dilation_h = 3;
    g.dilation_w = 1;
    ae_tensor *far = put(p, ae_max_pool2d_with(a, &g));                         // 3x5x3
    far = put(p, ae_pad2d(far, 1, 0, 1, 1, -0.2f));
    h = put(p, ae_concat(put(p, ae_concat(h, wide)), far));
    end(p, put(p, ae_conv2d(h, 1, 3, 1, 1)));
}

static void make_means(pic *p)
{
    ae_tensor *a = put(p, ae_tanh(put(p, ae_conv2d(p->x, 3, 1, 1, 0))));
    ae_pool g = pool_of(3, 3, 2, 2, 1, 1);
    g.exclude_pad = 1;
    ae_tensor *h = put(p, ae_conv2d(put(p, ae_avg_pool2d_with(a, &g)), 3, 3, 1, 1));    // 3x4x3
    h = put(p, ae_upsample_bilinear(put(p, ae_gelu(h)), 2));                            // 3x8x6
    h = put(p, ae_crop2d(h, 1, 0, 0, 1));
    h = put(p, ae_pad2d(h, 1, -1, 0, 1, 0.3f));                                         // 3x7x6
    ae_tensor *all = put(p, ae_resize(put(p, ae_global_avg_pool(a)), AE_NEAREST, 7, 6));
    ae_tensor *near = put(p, ae_upsample_nearest(put(p, ae_avg_pool2d(a, 3)), 3));      // 3x6x6
    near = put(p, ae_pad2d(near, 0, 1, 0, 0, 0.0f));
    h = put(p, ae_concat(put(p, ae_add(h, all)), near));
    end(p, put(p, ae_conv2d(h, 2, 3, 1, 1)));
}

// No biases before a batch normalisation: their gradient is 0 but for rounding.
static void make_batch_norms(pic *p)
{
    ae_norm bare = norm_of(0.05f, 0.3f, 1);     // 3 values: curved
    ae_tensor *h = put(p, ae_batch_norm(put(p, conv_no_bias(p->x, 4, 3, 1, 1)), NULL));
    h = put(p, ae_linear_no_bias(put(p, ae_tanh(h)), 6));
    h = put(p, ae_silu(put(p, ae_batch_norm(h, &bare))));
    end(p, put(p, ae_reshape(put(p, ae_linear(h, 40)), 2, 5, 4)));
}

static void make_group_norms(pic *p)
{
    ae_norm bare = norm_of(0.0f, 0.0f, 1);
    ae_tensor *h = put(p, ae_group_norm(put(p, ae_conv2d(p->x, 4, 3, 1, 1)), 2, NULL));
    h = put(p, ae_layer_norm(put(p, ae_conv2d(put(p, ae_silu(h)), 3, 3, 2, 1)), NULL));
    h = put(p, ae_conv_transpose2d(put(p, ae_tanh(h)), 4, 2, 2, 0, 0));                // 4x6x4
    h = put(p, ae_group_norm(put(p, ae_crop2d(h, 0, 1, 0, 0)), 2, &bare));
    end(p, put(p, ae_conv2d(put(p, ae_gelu(h)), 2, 1, 1, 0)));
}

static void make_line(pic *p)
{
    ae_tensor *h = put(p, ae_tanh(put(p, ae_conv1d(p->x, 4, 3, 2, 1))));        // 4x1x6
    h = put(p, ae_silu(put(p, ae_conv1d(h, 4, 5, 1, 2))));
    ae_pool g = pool_of(1, 2, 1, 2, 0, 0);
    ae_conv back = conv_of(1, 4, 1, 2, 0, 1);
    h = put(p, ae_avg_pool2d_with(h, &g));                                      // 4x1x3
    h = put(p, ae_conv_transpose2d_with(h, 4, &back));                          // 4x1x6
    h = put(p, ae_resize(put(p, ae_tanh(h)), AE_BILINEAR, 1, 11));
    end(p, put(p, ae_conv1d(h, 3, 3, 1, 1)));
}

static void make_noise(pic *p)
{
    ae_tensor *h = put(p, ae_gaussian_noise(p->x, 0.3f, 0.0f, 0.0f));
    h = put(p, ae_dropout(put(p, ae_mask_noise(h, 0.2f)), 0.1f));
    h = put(p, ae_spatial_dropout(put(p, ae_tanh(put(p, ae_conv2d(h, 4, 3, 1, 1)))), 0.3f));
    h = put(p, ae_dropout(put(p, ae_conv2d(h, 3, 3, 1, 1)), 0.25f));
    h = put(p, ae_gaussian_noise(h, 0.5f, -2.0f, 2.0f));
    h = put(p, ae_conv2d(put(p, ae_tanh(put(p, ae_mask_noise(h, 0.3f)))), 2, 1, 1, 0));
    end(p, put(p, ae_salt_pepper(h, 0.2f, -0.7f, 0.4f)));
}

static void make_mirror(pic *p, ae_mirror_kind kind)
{
    ae_tensor *h = put(p, ae_silu(put(p, ae_batch_norm(put(p, conv_no_bias(p->x, 3, 3, 2, 1)),
                                                       NULL))));
    ae_tensor *z = put(p, conv_no_bias(put(p, ae_dropout(h, 0.1f)), 3, 2, 2, 0));
    end(p, put(p, ae_mirror(z, p->x, kind)));
}

static pic make(ae_arena *arena, int kind, uint64_t seed)
{
    static const int shapes[KINDS][3] = {
        { 2, 7, 6 }, { 1, 6, 5 }, { 2, 7, 6 }, { 2, 5, 4 }, { 2, 5, 4 }, { 3, 1, 11 },
        { 2, 4, 3 }, { 2, 8, 7 }, { 2, 8, 7 }
    };
    pic p;
    begin(&p, arena, seed, shapes[kind][0], shapes[kind][1], shapes[kind][2]);
    switch (kind) {
    case CONVS: make_convs(&p); break;
    case POOLS: make_pools(&p); break;
    case MEANS: make_means(&p); break;
    case BATCH_NORMS: make_batch_norms(&p); break;
    case GROUP_NORMS: make_group_norms(&p); break;
    case LINE: make_line(&p); break;
    case NOISE: make_noise(&p); break;
    case MIRROR: make_mirror(&p, AE_MIRROR_TRANSPOSE); break;
    default: make_mirror(&p, AE_MIRROR_UPSAMPLE); break;
    }
    if (!p.y) printf("%s\n", ae_error(p.m));
    REQUIRE(p.y != NULL);
    return p;
}

static pic built(int kind, uint64_t seed, int batch, ae_mode mode)
{
    pic p = make(net_arena(ROOM), kind, seed);
    CHECK_INT(ae_build(p.m, batch, mode), AE_SUCCESS);
    CHECK_STR(ae_error(p.m), "");
    REQUIRE(ae_model_status(p.m) == AE_SUCCESS);
    return p;
}

static ae_dataset pictures(const ae_tensor *x, size_t n, uint32_t seed)
{
    ae_dataset d;
    memset(&d, 0, sizeof d);
    ae_shape(x, &d.c, &d.h, &d.w);
    d.floats = DATA(n * ae_size(x), seed);
    d.n = n;
    return d;
}

static float *segment(ae_model *m, ae_segment s, size_t *floats)
{
    size_t bytes;
    float *p = (float *)ae_segment_data(m, s, &bytes);
    *floats = bytes / sizeof(float);
    return p;
}

/* A few steps, so that running statistics, weights and biases are not what they began as. */
static void train(pic *p, int steps, uint32_t seed)
{
    ae_dataset d = pictures(p->x, 2 * BATCH, seed);
    ae_optim adam = net_optim(AE_ADAM, 0.01f);
    for (int i = 0; i < steps; i++) CHECK_INT(ae_train_step(p->m, &d, &adam), AE_SUCCESS);
}

/* --- gradients ------------------------------------------------------------ */

/* The training loss of what is set, in double. Noise is the same each time: no step is taken. */
static double loss_of(void *arg)
{
    const pic *p = (const pic *)arg;
    size_t n = 3 * ae_size(p->y);
    double sum = 0;
    if (ae_forward(p->m, 3)) return (double)test_nan();
    const float *y = ae_get(p->m, p->y), *x = ae_get(p->m, p->x);
    for (size_t i = 0; i < n; i++) {
        double d = (double)y[i] - (double)x[i];
        sum += d * d;
    }
    return sum / (double)n;
}

/* Differences of forward passes in single precision: values of about 1 are rounded by 6e-8, so a
   difference over 2^-6 has errors of some 1e-6 / sqrt(elements), next to gradients of 0.01. */
TEST(image_model_gradients)
{
    for (int kind = 0; kind < KINDS; kind++) {
        pic p = built(kind, 3, 3, AE_TRAIN);
        test_context("graph %d", kind);
        train(&p, 2, 11);
        CHECK_INT(ae_set(p.m, p.x, DATA(3 * ae_size(p.x), 5), 3), AE_SUCCESS);
        CHECK_INT(ae_forward(p.m, 3), AE_SUCCESS);
        CHECK_CLOSE(ae_batch_loss(p.m, p.loss), loss_of(&p), 1e-6);
        ae_zero_grad(p.m);
        CHECK_INT(ae_backward(p.m, 1.0f), AE_SUCCESS);
        size_t floats;
        float *g = segment(p.m, AE_SEG_GRAD, &floats), *once = COPY(g, floats);
        int i = 0;
        for (ae_param *q; (q = ae_param_at(p.m, i)) != NULL; i++) {
            test_context("graph %d, %s", kind, ae_param_name(q));
            const float *grad = ae_param_grad(p.m, q);
            if (!grad) {
                CHECK(strstr(ae_param_name(q), ".running_") != NULL);
                continue;
            }
            CHECK_GRADIENT(once + (grad - g), ae_param_data(p.m, q), ae_param_size(q), 1.0 / 64,
                           2e-3, loss_of, &p);
        }
        CHECK_INT(ae_forward(p.m, 3), AE_SUCCESS);      // and once more: +=
        CHECK_INT(ae_backward(p.m, 1.0f), AE_SUCCESS);
        for (size_t k = 0; k < floats; k++) once[k] *= 2;
        CHECK_ARRAY(g, once, floats, 1e-9, 1e-6);       // two roundings
    }
}

/* --- running -------------------------------------------------------------- */

static void other_mode(const pic *p, int kind, int batch, pic *q)
{
    size_t n, m;
    *q = built(kind, 77, batch, AE_INFER);
    float *from = segment(p->m, AE_SEG_PARAM, &n), *to = segment(q->m, AE_SEG_PARAM, &m);
    CHECK_INT(n, m);
    memcpy(to, from, n * sizeof(float));
}

TEST(image_model_inference_equals_training)
{
    for (int kind = 0; kind < KINDS; kind++) {
        pic p = built(kind, 3, BATCH, AE_TRAIN), q;
        train(&p, 3, 12);
        other_mode(&p, kind, BATCH, &q);
        const float *x = DATA(BATCH * ae_size(p.x), 6);
        CHECK_INT(ae_set(p.m, p.x, x, BATCH), AE_SUCCESS);
        CHECK_INT(ae_set(q.m, q.x, x, BATCH), AE_SUCCESS);
        for (int i = 0; i < p.count; i++) {
            test_context("graph %d, tensor %d", kind, i);
            CHECK_INT(ae_run(p.m, p.t[i], BATCH), AE_SUCCESS);
            CHECK_INT(ae_run(q.m, q.t[i], BATCH), AE_SUCCESS);
            CHECK_FINITE(ae_get(p.m, p.t[i]), BATCH * ae_size(p.t[i]));
            CHECK_SAME(ae_get(q.m, q.t[i]), ae_get(p.m, p.t[i]), BATCH * ae_size(p.t[i]));
        }
        CHECK_BITS(ae_get(q.m, q.x), x, BATCH * ae_size(p.x));
        CHECK_GUARDS();
    }
}

TEST(image_model_run_from)
{
    for (int kind = 0; kind < KINDS; kind++)
        for (int mode = AE_INFER; mode <= AE_TRAIN; mode++) {
            pic p = built(kind, 4, BATCH, (ae_mode)mode);
            const float *x = DATA(BATCH * ae_size(p.x), 7);
            size_t size = BATCH * ae_size(p.y);
            CHECK_INT(ae_set(p.m, p.x, x, BATCH), AE_SUCCESS);
            CHECK_INT(ae_run(p.m, p.y, BATCH), AE_SUCCESS);
            float *y = COPY(ae_get(p.m, p.y), size);
            for (int i = 0; i < p.count; i++) {
                test_context("graph %d, mode %d, from %d", kind, mode, i);
                CHECK_INT(ae_run(p.m, p.t[i], BATCH), AE_SUCCESS);
                float *codes = COPY(ae_get(p.m, p.t[i]), BATCH * ae_size(p.t[i]));
                // something else meanwhile
                CHECK_INT(ae_set(p.m, p.x, DATA(BATCH * ae_size(p.x), 8), BATCH), AE_SUCCESS);
                CHECK_INT(ae_run(p.m, p.y, BATCH), AE_SUCCESS);
                CHECK_INT(ae_set(p.m, p.x, x, BATCH), AE_SUCCESS);
                ae_status status = ae_run_from(p.m, p.t[i], codes, p.y, BATCH);
                // the values of a pooling do not tell where its maxima were
                if (status) {
                    CHECK(kind == POOLS);
                    CHECK_INT(status, AE_E_ARG);
                    CHECK_ERROR(ae_error(p.m), "max_pool2d1");
                } else {
                    CHECK_SAME(ae_get(p.m, p.y), y, size);
                }
            }
        }
}

TEST(image_model_predict)
{
    enum { N = 7 };
    for (int kind = 0; kind < KINDS; kind++) {
        pic p = built(kind, 4, 3, AE_TRAIN);
        train(&p, 2, 13);
        ae_dataset d = pictures(p.x, N, 9);
        size_t size = ae_size(p.y);
        float *y = OUT(N * size), *all = OUT(N * size), *z = OUT(N * ae_size(p.x));
        pic q;
        test_context("graph %d", kind);
        CHECK_INT(ae_predict(p.m, p.y, y, d.floats, N), AE_SUCCESS);
        other_mode(&p, kind, N, &q);
        CHECK_INT(ae_predict(q.m, q.y, all, d.floats, N), AE_SUCCESS);
        CHECK_SAME(y, all, N * size);
        CHECK_INT(ae_predict_dataset(p.m, p.y, all, &d), AE_SUCCESS);
        CHECK_SAME(y, all, N * size);
        CHECK_INT(ae_predict_from(p.m, p.x, p.y, all, d.floats, N), AE_SUCCESS);
        CHECK_SAME(y, all, N * size);
        // a workspace of its own: running statistics, no noise
        ae_arena *arena = net_arena(ROOM);
        ae_model *f = ae_fork(p.m, arena, 2);
        REQUIRE(f != NULL);
        CHECK_INT(ae_predict(f, p.x, z, d.floats, N), AE_SUCCESS);
        CHECK_BITS(z, d.floats, N * ae_size(p.x));
        test_refill(all, N * size);
        CHECK_INT(ae_predict(f, p.y, all, d.floats, N), AE_SUCCESS);
        CHECK_SAME(y, all, N * size);
        CHECK_GUARDS();
    }
}

TEST(image_model_unpool_needs_its_pool)
{
    for (int mode = AE_INFER; mode <= AE_TRAIN; mode++) {
        pic p;
        test_context("mode %d", mode);
        begin(&p, net_arena(ROOM), 1, 2, 6, 4);
        ae_tensor *code = ae_input(p.m, 2, 3, 2);       // not made from the pooling
        ae_tensor *pool = ae_max_pool2d(p.x, 2), *z = ae_tanh(ae_conv2d(pool, 2, 1, 1, 0));
        ae_tensor *y = ae_max_unpool2d(z, pool), *other = ae_max_unpool2d(code, pool);
        ae_tensor *wide = ae_linear(p.x, 100);          // reuses what others left behind
        CHECK_INT(ae_build(p.m, 2, (ae_mode)mode), AE_SUCCESS);
        float *x = DATA(96, 3), *codes = DATA(24, 4), want[48], at[24];
        CHECK_INT(ae_set(p.m, p.x, x, 2), AE_SUCCESS);
        CHECK_INT(ae_run(p.m, z, 2), AE_SUCCESS);
        memcpy(at, ae_get(p.m, z), sizeof at);
        CHECK_INT(ae_run(p.m, y, 2), AE_SUCCESS);
        memcpy(want, ae_get(p.m, y), sizeof want);
        CHECK_INT(ae_run(p.m, wide, 2), AE_SUCCESS);
        // the decoder alone finds the maxima in x
        CHECK_INT(ae_run_from(p.m, z, at, y, 2), AE_SUCCESS);
        CHECK_BITS(ae_get(p.m, y), want, 48);
        CHECK_INT(ae_run(p.m, wide, 2), AE_SUCCESS);
        CHECK_INT(ae_set(p.m, code, at, 2), AE_SUCCESS);
        CHECK_INT(ae_run(p.m, other, 2), AE_SUCCESS);
        CHECK_BITS(ae_get(p.m, other), want, 48);
        // from codes alone nobody can know them
        float out[48];
        CHECK_INT(ae_predict_from(p.m, z, y, out, codes, 1), AE_E_ARG);
        CHECK_ERROR(ae_error(p.m), "input1");
        CHECK_GUARDS();
    }
}

/* --- the plan ------------------------------------------------------------- */

TEST(image_model_plan_is_exact)
{
    for (int kind = 0; kind < KINDS; kind++)
        for (int batch = 2; batch <= 5; batch += 3)
            for (int mode = AE_INFER; mode <= AE_TRAIN; mode++) {
                test_context("graph %d, batch %d, mode %d", kind, batch, mode);
                ae_arena *arena = net_arena(ROOM);
                pic p = make(arena, kind, 1);
                size_t used = ae_arena_used(arena), plan = ae_plan(p.m, batch, (ae_mode)mode);
                CHECK(plan > 0);
                arena = net_arena(used + plan);
                p = make(arena, kind, 1);
                CHECK_INT(ae_build(p.m, batch, (ae_mode)mode), AE_SUCCESS);
                CHECK_INT(ae_arena_left(arena), 0);
                CHECK_INT(ae_set(p.m, p.x, DATA((size_t)batch * ae_size(p.x), 4), batch),
                          AE_SUCCESS);
                CHECK_INT(ae_run(p.m, p.y, batch), AE_SUCCESS);
                CHECK_FINITE(ae_get(p.m, p.y), (size_t)batch * ae_size(p.y));
                if (mode == AE_TRAIN) train(&p, 2, 3);
                CHECK_GUARDS();
                arena = net_arena(used + plan - 1);
                p = make(arena, kind, 1);
                CHECK_INT(ae_build(p.m, batch, (ae_mode)mode), AE_E_MEMORY);
                CHECK_INT(ae_arena_used(arena), used);
            }
}

TEST(image_model_allocates_nothing)
{
    for (int kind = 0; kind < KINDS; kind++) {
        ae_arena *arena = ae_arena_new(ROOM);
        pic p = make(arena, kind, 1);
        CHECK_INT(ae_build(p.m, BATCH, AE_TRAIN), AE_SUCCESS);
        ae_dataset d = pictures(p.x, 7, 3);
        ae_optim adam = net_optim(AE_ADAM, 0.01f);
        float *y = OUT(7 * ae_size(p.y));
        size_t mallocs = test_mallocs(), used = ae_arena_used(arena);
        CHECK(ae_epoch(p.m, &d, &adam) > 0);
        CHECK_INT(ae_evaluate(p.m, &d, NULL), AE_SUCCESS);
        CHECK_INT(ae_predict_dataset(p.m, p.y, y, &d), AE_SUCCESS);
        CHECK_INT(test_mallocs(), mallocs);
        CHECK_INT(ae_arena_used(arena), used);
        ae_arena_free(arena);
    }
}

/* --- threads -------------------------------------------------------------- */

/* Large enough that its work is shared out. */
static pic large(ae_arena *arena)
{
    pic p;
    begin(&p, arena, 6, 3, 25, 22);
    ae_tensor *h = ae_relu(ae_batch_norm(ae_conv2d(ae_gaussian_noise(p.x, 0.1f, -1.0f, 1.0f), 16, 3,
                                                   1, 1), NULL));
    h = ae_dropout(ae_max_pool2d(h, 2), 0.2f);
    h = ae_silu(ae_group_norm(ae_conv2d(h, 24, 3, 2, 1), 4, NULL));
    ae_tensor *z = ae_conv2d(h, 4, 3, 1, 1);
    end(&p, ae_mirror(ae_spatial_dropout(z, 0.1f), p.x, AE_MIRROR_TRANSPOSE));
    return p;
}

TEST(image_model_same_bits_for_any_threads)
{
    static const struct { int threads, hook; } runs[] = {
        { 1, 0 }, { 2, 1 }, { 3, 1 }, { 7, 1 }, { 7, 0 }        // 0: OpenMP, where it is there
    };
    for (int kind = 0; kind <= KINDS; kind++) {
        float *first = NULL;
        for (int e = 0; e < 5; e++) {
            ae_arena *arena = net_arena(kind < KINDS ? 4 << 20 : 12 << 20);
            pic p = kind < KINDS ? make(arena, kind, 2) : large(arena);
            ae_exec exec = *test_exec_bare();
            exec.threads = runs[e].threads;
            exec.parallel_for = runs[e].hook ? test_shuffled_for : NULL;
            test_context("graph %d, %d threads, hook %d", kind, runs[e].threads, runs[e].hook);
            CHECK_INT(ae_set_exec(p.m, &exec), AE_SUCCESS);
            CHECK_INT(ae_build(p.m, BATCH, AE_TRAIN), AE_SUCCESS);
            CHECK_STR(ae_error(p.m), "");
            train(&p, 2, 21);
            CHECK_INT(ae_run(p.m, p.y, BATCH), AE_SUCCESS);
            size_t n, size = BATCH * ae_size(p.y);
            float *w = segment(p.m, AE_SEG_PARAM, &n);
            if (first) {
                CHECK_BITS(w, first, n);
                CHECK_BITS(ae_get(p.m, p.y), first + n, size);
            } else {
                first = OUT(n + size);
                memcpy(first, w, n * sizeof *first);
                memcpy(first + n, ae_get(p.m, p.y), size * sizeof *first);
                CHECK_FINITE(first, n + size);
            }
        }
    }
}

/* --- trainings that PyTorch did ------------------------------------------- */

enum { GOLDEN_SAMPLES = 13, GOLDEN_STEPS = 20 };

static pic golden_net(ae_arena *arena, int which)
{
    pic p;
    begin(&p, arena, 1, 2, 9, 7);
    ae_tensor *h, *z;
    if (which == 0) {
        h = ae_max_pool2d(ae_relu(ae_batch_norm(ae_conv2d(p.x, 4, 3, 1, 1), NULL)), 2);
        z = ae_conv2d(h, 3, 3, 2, 1);
        end(&p, ae_mirror(z, p.x, AE_MIRROR_TRANSPOSE));
    } else if (which == 1) {
        ae_conv g = conv_of(3, 3, 1, 2, 0, 0);
        g.dilation_h = 2;
        g.dilation_w = 1;
        g.no_bias = 1;
        h = ae_tanh(ae_batch_norm(conv_no_bias(p.x, 4, 3, 2, 1), NULL));
        end(&p, ae_mirror(ae_conv2d_with(h, 3, &g), p.x, AE_MIRROR_UPSAMPLE));
    } else {
        ae_pool g = pool_of(3, 3, 2, 2, 1, 1);
        h = ae_silu(ae_group_norm(ae_conv2d(p.x, 4, 3, 2, 1), 2, NULL));
        z = ae_gelu(ae_layer_norm(ae_conv2d(ae_avg_pool2d_with(h, &g), 3, 2, 1, 1), NULL));
        end(&p, ae_conv2d(ae_resize(z, AE_BILINEAR, 9, 7), 2, 3, 1, 1));
    }
    REQUIRE(p.loss != NULL);
    return p;
}

/* golden_image.py holds PyTorch's own single precision to the same tolerance; golden.py says why it
   is this. Of a picture: its elements are sums that nearly cancel. */
TEST(image_model_golden)
{
    static const char *names[3] = { "transpose", "upsample", "groups" };
    ae_optim optim[3];
    optim[0] = net_optim(AE_SGD, 0.05f);
    optim[0].momentum = 0.9f;
    optim[1] = net_optim(AE_ADAM, 0.005f);
    optim[2] = net_optim(AE_ADAMW, 0.005f);
    optim[2].weight_decay = 0.01f;
    for (int which = 0; which < 3; which++) {
        pic p = golden_net(net_arena(ROOM), which);
        ae_dataset d = pictures(p.x, GOLDEN_SAMPLES, 1);
        float loss;
        int i = 0, shape[4];
        test_context("%s", names[which]);
        CHECK_INT(ae_build(p.m, BATCH, AE_TRAIN), AE_SUCCESS);
        d.floats = golden("image_training", "x")->v;
        d.keep_order = 1;
        for (ae_param *q; (q = ae_param_at(p.m, i)) != NULL; i++) {
            const test_record *r = golden("image_training", "start_%s.%s", names[which],
                                          ae_param_name(q));
            CHECK_INT(ae_param_shape(q, shape), r->dims);
            for (int k = 0; k < r->dims; k++) CHECK_INT(shape[k], r->dim[k]);
            REQUIRE(ae_param_size(q) == r->n);
            memcpy(ae_param_data(p.m, q), r->v, r->n * sizeof(float));
        }
        CHECK(i >= 9);
        const test_record *r = golden("image_training", "%s.loss", names[which]);
        for (int step = 0; step < GOLDEN_STEPS; step++) {
            CHECK_INT(ae_train_step(p.m, &d, &optim[which]), AE_SUCCESS);
            CHECK_CLOSE(ae_batch_loss(p.m, p.loss), r->v[step], 3e-7 + 1e-5 * (double)r->v[step]);
        }
        for (i = 0; ae_param_at(p.m, i); i++) {
            const ae_param *q = ae_param_at(p.m, i);
            r = golden("image_training", "%s.%s", names[which], ae_param_name(q));
            CHECK_ARRAY(ae_param_data(p.m, q), r->v, r->n, 3e-7, 1e-5);
        }
        CHECK_INT(ae_evaluate(p.m, &d, &loss), AE_SUCCESS);
        r = golden("image_training", "%s.evaluation", names[which]);
        CHECK_ARRAY(&loss, r->v, 1, 3e-7, 1e-5);
        CHECK_INT(ae_predict(p.m, p.y, OUT(126), d.floats, 1), AE_SUCCESS);
        CHECK_INT(ae_run(p.m, p.y, 1), AE_SUCCESS);
        r = golden("image_training", "%s.y", names[which]);
        CHECK_ARRAY(ae_get(p.m, p.y), r->v, r->n, 3e-6, 1e-4);
    }
}

/* --- batch normalisation -------------------------------------------------- */

static float *running(const pic *p, const char *name)
{
    ae_param *q = ae_param_find(p->m, name);
    REQUIRE(q != NULL);
    CHECK(ae_param_grad(p->m, q) == NULL);
    CHECK(strcmp(ae_param_name(q), name) == 0);
    return ae_param_data(p->m, q);
}

TEST(image_model_batch_norm_statistics)
{
    enum { N = 4, C = 3, P = 4 };
    const double eps = (double)1e-3f, momentum = (double)0.3f;
    ae_norm o = norm_of(1e-3f, 0.3f, 0);
    pic p;
    begin(&p, net_arena(ROOM), 1, C, 2, 2);
    end(&p, put(&p, ae_batch_norm(p.x, &o)));
    CHECK_INT(ae_build(p.m, 8, AE_TRAIN), AE_SUCCESS);
    float *mean = running(&p, "batch_norm1.running_mean");
    float *var = running(&p, "batch_norm1.running_var");
    ae_param *gamma = ae_param_find(p.m, "batch_norm1.weight");
    for (int c = 0; c < C; c++) {
        CHECK_CLOSE(mean[c], 0, 0);
        CHECK_CLOSE(var[c], 1, 0);
        CHECK_CLOSE(ae_param_data(p.m, gamma)[c], 1, 0);
        CHECK_CLOSE(ae_param_data(p.m, ae_param_find(p.m, "batch_norm1.bias"))[c], 0, 0);
    }
    ae_dataset d = pictures(p.x, N, 31);
    const float *x = d.floats;
    double train_y[N * C * P], eval_y[N * C * P], loss = 0, run_mean[C], run_var[C];
    for (int c = 0; c < C; c++) {
        double sum = 0, square = 0;
        for (int i = 0; i < N * P; i++) sum += (double)x[(i / P * C + c) * P + i % P] / (N * P);
        for (int i = 0; i < N * P; i++) {
            double v = (double)x[(i / P * C + c) * P + i % P] - sum;
            square += v * v;
        }
        run_mean[c] = momentum * sum;
        run_var[c] = 1 - momentum + momentum * square / (N * P - 1);
        for (int i = 0; i < N * P; i++) {
            int at = (i / P * C + c) * P + i % P;
            train_y[at] = ((double)x[at] - sum) / sqrt(square / (N * P) + eps);
            eval_y[at] = ((double)x[at] - run_mean[c]) / sqrt(run_var[c] + eps);
            loss += (eval_y[at] - (double)x[at]) * (eval_y[at] - (double)x[at]) / (N * C * P);
        }
    }
    CHECK_INT(ae_feed(p.m, &d, 0, N, 0), AE_SUCCESS);
    CHECK_INT(ae_forward(p.m, N), AE_SUCCESS);
    // a few roundings of single precision
    CHECK_REF(ae_get(p.m, p.y), train_y, N * C * P, 1e-6, 1e-6);
    CHECK_REF(mean, run_mean, C, 1e-7, 1e-6);
    CHECK_REF(var, run_var, C, 1e-7, 1e-6);

    // nothing but a forward pass of training moves them
    float *kept = COPY(mean, C), *kept_var = COPY(var, C), *w = COPY(ae_param_data(p.m, gamma), C);
    ae_optim adamw = net_optim(AE_ADAMW, 0.1f);
    float told;
    adamw.weight_decay = 0.5f;
    adamw.clip_norm = 1e-3f;
    adamw.clip_value = 1e-3f;
    ae_zero_grad(p.m);
    CHECK_INT(ae_backward(p.m, 1.0f), AE_SUCCESS);
    CHECK_BITS(mean, kept, C);
    CHECK_INT(ae_run(p.m, p.y, N), AE_SUCCESS);
    CHECK_REF(ae_get(p.m, p.y), eval_y, N * C * P, 1e-6, 1e-6);
    CHECK_INT(ae_evaluate(p.m, &d, &told), AE_SUCCESS);
    CHECK_CLOSE(told, loss, 1e-6 * loss);
    CHECK_INT(ae_step(p.m, &adamw), AE_SUCCESS);
    CHECK(memcmp(ae_param_data(p.m, gamma), w, C * sizeof *w) != 0);
    CHECK_BITS(mean, kept, C);
    CHECK_BITS(var, kept_var, C);

    // part of a snapshot
    size_t bytes = ae_snapshot_bytes(p.m);
    void *block = BLOCK(bytes);
    CHECK_INT(ae_snapshot(p.m, block), AE_SUCCESS);
    CHECK_INT(ae_train_step(p.m, &d, &adamw), AE_SUCCESS);
    CHECK(memcmp(mean, kept, C * sizeof *kept) != 0);
    CHECK(memcmp(var, kept_var, C * sizeof *kept) != 0);
    CHECK_INT(ae_restore(p.m, block, bytes), AE_SUCCESS);
    CHECK_BITS(mean, kept, C);
    CHECK_BITS(var, kept_var, C);
}

TEST(image_model_batch_norm_names)
{
    pic p;
    begin(&p, net_arena(ROOM), 1, 3, 2, 2);
    ae_tensor *a = ae_name(ae_batch_norm(p.x, NULL), "bn"), *b = ae_batch_norm(a, NULL);
    ae_norm bare = norm_of(0, 0, 1);
    end(&p, ae_batch_norm(b, &bare));
    CHECK_INT(ae_build(p.m, 2, AE_TRAIN), AE_SUCCESS);
    CHECK(ae_param_find(p.m, "bn.weight") == ae_weight(a));
    CHECK(ae_param_find(p.m, "bn.bias") == ae_bias(a));
    CHECK(ae_param_find(p.m, "bn.running_mean") != NULL);   // as in a PyTorch state_dict
    CHECK(ae_param_find(p.m, "bn.running_var") != NULL);
    CHECK(ae_param_find(p.m, "batch_norm2.running_mean") != NULL);
    CHECK(ae_param_find(p.m, "batch_norm3.running_var") != NULL);
    CHECK(ae_param_find(p.m, "batch_norm3.weight") == NULL && ae_weight(p.y) == NULL);
    CHECK(ae_param_find(p.m, "batch_norm1.running_mean") == NULL);
    CHECK_INT(ae_param_size(ae_param_find(p.m, "batch_norm3.running_var")), 3);
}

/* A batch of one with one pixel has no deviation. */
TEST(image_model_batch_of_one)
{
    pic p;
    begin(&p, net_arena(ROOM), 1, 3, 2, 2);
    ae_tensor *h = ae_batch_norm(p.x, NULL);
    end(&p, ae_linear(ae_batch_norm(ae_conv2d(h, 4, 2, 1, 0), NULL), 12));
    CHECK_INT(ae_build(p.m, 2, AE_TRAIN), AE_SUCCESS);
    ae_dataset three = pictures(p.x, 3, 4), two = ae_dataset_head(&three, 2);
    ae_optim adam = net_optim(AE_ADAM, 0.01f);
    size_t n;
    float *w = segment(p.m, AE_SEG_PARAM, &n), loss;
    CHECK(ae_epoch(p.m, &two, &adam) > 0);
    CHECK_INT(ae_train_step(p.m, &three, &adam), AE_SUCCESS);
    float *before = COPY(w, n);
    CHECK_INT(ae_train_step(p.m, &three, &adam), AE_E_SHAPE);      // the last one is alone
    CHECK_ERROR(ae_error(p.m), "batch_norm2");
    CHECK_ERROR(ae_error(p.m), "batch of 1");
    CHECK_INT(ae_steps(p.m), 2);
    CHECK_BITS(w, before, n);           // what an error interrupts is as it was before
    CHECK_INT(ae_set(p.m, p.x, three.floats, 1), AE_SUCCESS);
    CHECK_INT(ae_forward(p.m, 1), AE_E_SHAPE);
    CHECK_BITS(w, before, n);
    CHECK_INT(ae_backward(p.m, 1.0f), AE_E_ARG);
    CHECK_INT(ae_evaluate(p.m, &three, &loss), AE_SUCCESS);
    CHECK(test_is_finite(loss));
    CHECK_INT(ae_run(p.m, p.y, 1), AE_SUCCESS);
    CHECK_FINITE(ae_get(p.m, p.y), 12);
    CHECK_INT(ae_forward(p.m, 2), AE_SUCCESS);
}

/* Data that is not finite, or a target that is out of range, leave no trace. */
TEST(image_model_errors_spare_the_statistics)
{
    for (int which = 0; which < 3; which++) {
        pic p;
        test_context("error %d", which);
        begin(&p, net_arena(ROOM), 1, 3, 2, 2);
        ae_tensor *h = ae_conv2d(ae_batch_norm(p.x, NULL), 3, 1, 1, 0);
        ae_minimize(which == 1 ? ae_bce_logits(h, p.x, AE_MEAN) : ae_mse(h, p.x, AE_MEAN));
        CHECK_INT(ae_build(p.m, 2, AE_TRAIN), AE_SUCCESS);
        ae_dataset d = pictures(p.x, 8, 4);
        float *x = DATA_IN(96, 0.1, 0.9, 3);
        ae_optim adam = net_optim(AE_ADAM, 0.01f);
        size_t n;
        d.floats = x;
        d.keep_order = 1;
        CHECK_INT(ae_train_step(p.m, &d, &adam), AE_SUCCESS);
        float *w = segment(p.m, AE_SEG_PARAM, &n), *before = COPY(w, n), *good = COPY(x, 96);
        ae_fit_options o;
        memset(&o, 0, sizeof o);
        o.epochs = 1;
        o.accumulate = 3;           // the second batch of a step is the bad one
        x[2 * 24 + 5] = which == 0 ? test_nan() : which == 1 ? 1.5f : 1e30f;
        if (which == 2) x[2 * 24 + 6] = -1e30f;         // finite, but its square is not
        CHECK(ae_fit(p.m, &d, &adam, &o, NULL) != AE_SUCCESS);
        CHECK(ae_error(p.m)[0] != 0);
        CHECK_BITS(w, before, n);
        CHECK_INT(ae_set(p.m, p.x, x + 48, 2), AE_SUCCESS);
        CHECK(ae_forward(p.m, 2) != AE_SUCCESS);
        CHECK_BITS(w, before, n);
        memcpy(x, good, 96 * sizeof *x);
        CHECK(ae_epoch(p.m, &d, &adam) > 0);
        CHECK_FINITE(w, n);
    }
}

/* --- noise ---------------------------------------------------------------- */

enum { GAUSSIAN, DROPOUT, SPATIAL, MASKING, SALT_PEPPER, NOISES };

static ae_tensor *noise_of(ae_tensor *x, int kind)
{
    switch (kind) {
    case GAUSSIAN: return ae_gaussian_noise(x, 0.5f, -1.0f, 1.0f);
    case DROPOUT: return ae_dropout(x, 0.4f);
    case SPATIAL: return ae_spatial_dropout(x, 0.4f);
    case MASKING: return ae_mask_noise(x, 0.4f);
    default: return ae_salt_pepper(x, 0.4f, -1.5f, 1.5f);
    }
}

/* Noise on the input; t[1] is what came of it. */
static pic noisy(int kind, int batch, ae_mode mode, ae_tensor *(*set)(ae_tensor *x))
{
    pic p;
    begin(&p, net_arena(ROOM), 7, 4, 3, 2);
    ae_tensor *h = put(&p, noise_of(p.x, kind));
    if (set) CHECK(set(h) == h);
    end(&p, ae_conv2d(h, 4, 3, 1, 1));
    CHECK_INT(ae_build(p.m, batch, mode), AE_SUCCESS);
    CHECK_STR(ae_error(p.m), "");
    return p;
}

static int same(const float *a, const float *b, size_t n)
{
    return memcmp(a, b, n * sizeof *a) == 0;
}

/* What the noise made of a value, as a number: thousandths that a Gaussian added, or hit or not. */
static int noise_at(int kind, const float *y, const float *x, int i)
{
    if (kind == GAUSSIAN) return (int)floorf(1000 * (y[i] - x[i]));
    return kind == SALT_PEPPER ? fabsf(y[i]) > 1.2f : fabsf(y[i]) < 1e-30f;
}

TEST(image_model_noise_in_training_only)
{
    enum { N = 7, F = 24 };
    for (int kind = 0; kind < NOISES; kind++) {
        pic p = noisy(kind, N, AE_TRAIN, NULL);
        ae_dataset d = pictures(p.x, N, 3);
        ae_optim sgd = net_optim(AE_SGD, 0.0f);
        float clean, *out = OUT(N * F), *first;
        double sum = 0;
        test_context("noise %d", kind);
        CHECK_INT(ae_feed(p.m, &d, 0, N, 0), AE_SUCCESS);
        CHECK_INT(ae_forward(p.m, N), AE_SUCCESS);
        first = COPY(ae_get(p.m, p.t[1]), N * F);
        CHECK(!same(first, d.floats, N * F));
        for (int i = 1; i < N; i++)             // other samples, other noise
            for (int j = 0; j < i; j++) {
                int equal = 0;
                for (int k = 0; k < F; k++)
                    equal += noise_at(kind, first, d.floats, i * F + k)
                             == noise_at(kind, first, d.floats, j * F + k);
                if (kind != SPATIAL) CHECK(equal < F);
            }
        CHECK_INT(ae_forward(p.m, N), AE_SUCCESS);
        CHECK_BITS(ae_get(p.m, p.t[1]), first, N * F);      // of this step
        ae_zero_grad(p.m);
        CHECK_INT(ae_backward(p.m, 1.0f), AE_SUCCESS);
        CHECK_INT(ae_step(p.m, &sgd), AE_SUCCESS);
        CHECK_INT(ae_forward(p.m, N), AE_SUCCESS);
        CHECK(!same(ae_get(p.m, p.t[1]), first, N * F));    // of the next

        CHECK_INT(ae_run(p.m, p.t[1], N), AE_SUCCESS);
        CHECK_BITS(ae_get(p.m, p.t[1]), d.floats, N * F);
        CHECK_INT(ae_predict(p.m, p.t[1], out, d.floats, N), AE_SUCCESS);
        CHECK_BITS(out, d.floats, N * F);
        CHECK_INT(ae_evaluate(p.m, &d, &clean), AE_SUCCESS);
        CHECK_INT(ae_predict(p.m, p.y, out, d.floats, N), AE_SUCCESS);
        for (int i = 0; i < N * F; i++) {
            double v = (double)out[i] - (double)d.floats[i];
            sum += v * v / (N * F);
        }
        CHECK_CLOSE(clean, sum, 1e-6 * sum);
        CHECK_BITS(ae_get(p.m, p.x), d.floats, N * F);      // the target stays clean
    }
}

/* The noise of a place in the data is one, however the data is split, and by whatever call. */
TEST(image_model_noise_always)
{
    enum { N = 7, F = 24 };
    for (int kind = 0; kind < NOISES; kind++)
        for (int fixed = 0; fixed < 2; fixed++) {
            float *want = OUT(N * F), *out = OUT(N * F);
            float loss[2] = { 0, 0 };
            for (int mode = AE_INFER; mode <= AE_TRAIN; mode++)
                for (int batch = 3; batch <= N; batch += 4) {
                    pic p = noisy(kind, batch, (ae_mode)mode, ae_noise_always);
                    ae_dataset d = pictures(p.x, N, 3);
                    test_context("noise %d, fixed %d, mode %d, batch %d", kind, fixed, mode, batch);
                    if (fixed) CHECK(ae_noise_fixed(p.t[1]) == p.t[1]);
                    CHECK_INT(ae_predict_dataset(p.m, p.t[1], out, &d), AE_SUCCESS);
                    if (mode == AE_INFER && batch == 3) memcpy(want, out, N * F * sizeof *out);
                    CHECK(!same(out, d.floats, N * F));
                    CHECK(!same(out, out + F, F));
                    CHECK_BITS(out, want, N * F);
                    CHECK_INT(ae_predict(p.m, p.t[1], out, d.floats, N), AE_SUCCESS);
                    CHECK_BITS(out, want, N * F);
                    CHECK_INT(ae_predict_from(p.m, p.x, p.t[1], out, d.floats, N), AE_SUCCESS);
                    CHECK_BITS(out, want, N * F);
                    ae_model *f = ae_fork(p.m, net_arena(ROOM), 2);
                    REQUIRE(f != NULL);
                    CHECK_INT(ae_predict(f, p.t[1], out, d.floats, N), AE_SUCCESS);
                    CHECK_BITS(out, want, N * F);
                    CHECK_INT(ae_evaluate(p.m, &d, &loss[batch == N]), AE_SUCCESS);
                    CHECK_INT(ae_set(p.m, p.x, d.floats, 3), AE_SUCCESS);
                    CHECK_INT(ae_run(p.m, p.t[1], 3), AE_SUCCESS);
                    CHECK_BITS(ae_get(p.m, p.t[1]), want, 3 * F);
                    CHECK_GUARDS();
                    if (batch == N) CHECK_CLOSE(loss[1], loss[0], 1e-5 * (double)loss[0]);
                }
        }
}

/* Fixed noise: a picture's own, in every epoch, at every place, in every batch. */
TEST(image_model_noise_fixed)
{
    enum { N = 11, F = 24 };
    for (int kind = 0; kind < NOISES; kind++) {
        float *seen = OUT(N * F);
        int known[N] = { 0 };
        for (int batch = 3; batch <= 5; batch += 2) {
            pic p = noisy(kind, batch, AE_TRAIN, ae_noise_fixed);
            ae_dataset d = pictures(p.x, N, 3);
            ae_optim sgd = net_optim(AE_SGD, 0.01f);
            int moved = 0, steps = (N + batch - 1) / batch;
            for (int step = 0; step < 3 * steps; step++) {
                CHECK_INT(ae_train_step(p.m, &d, &sgd), AE_SUCCESS);
                int left = N - step % steps * batch, n = left < batch ? left : batch;
                test_context("noise %d, batch %d, step %d", kind, batch, step);
                for (int i = 0; i < n; i++) {
                    const float *x = ae_get(p.m, p.x) + i * F, *y = ae_get(p.m, p.t[1]) + i * F;
                    int k = 0;
                    while (k < N - 1 && !same(x, d.floats + k * F, F)) k++;
                    moved += k != step % steps * batch + i;
                    if (!known[k]) memcpy(seen + k * F, y, F * sizeof *y);
                    known[k] = 1;
                    CHECK_BITS(y, seen + k * F, F);
                }
            }
            CHECK(moved > 0);                   // they were shuffled
        }
        for (int i = 0; i < N; i++) CHECK(known[i]);
        pic p = noisy(kind, N, AE_TRAIN, ae_noise_fixed);
        ae_dataset d = pictures(p.x, N, 3);
        CHECK_INT(ae_feed(p.m, &d, 0, N, 0), AE_SUCCESS);
        CHECK_INT(ae_forward(p.m, N), AE_SUCCESS);
        CHECK_BITS(ae_get(p.m, p.t[1]), seen, N * F);
        int distinct = 0;                       // each has its own
        for (int i = 1; i < N && kind != SPATIAL; i++)
            for (int k = 0; k < F; k++)
                distinct += noise_at(kind, seen, d.floats, i * F + k)
                            != noise_at(kind, seen, d.floats, k);
        if (kind != SPATIAL) CHECK(distinct >= 2 * N);
        uint32_t index[3] = { 9, 2, 4 };        // a view of the data, too
        d.index = index;
        d.n = 3;
        CHECK_INT(ae_feed(p.m, &d, 0, 3, 0), AE_SUCCESS);
        CHECK_INT(ae_forward(p.m, 3), AE_SUCCESS);
        for (int i = 0; i < 3; i++)
            CHECK_BITS(ae_get(p.m, p.t[1]) + i * F, seen + index[i] * F, F);
    }
}

static pic accumulated(int batch, int accumulate, float *grad, float *loss)
{
    enum { N = 64 };
    pic p;
    begin(&p, net_arena(ROOM), 5, 2, 4, 3);
    ae_tensor *h = ae_dropout(ae_silu(ae_conv2d(ae_gaussian_noise(p.x, 0.2f, -1, 1), 4, 3, 1, 1)),
                              0.3f);
    h = ae_mask_noise(ae_spatial_dropout(ae_conv2d(h, 4, 3, 1, 1), 0.3f), 0.1f);
    end(&p, ae_conv2d(ae_tanh(h), 2, 3, 1, 1));
    CHECK_INT(ae_build(p.m, batch, AE_TRAIN), AE_SUCCESS);
    ae_dataset d = pictures(p.x, N, 3);
    ae_optim sgd = net_optim(AE_SGD, 0.1f);
    ae_fit_options o;
    ae_fit_result r;
    memset(&o, 0, sizeof o);
    o.epochs = 2;
    o.accumulate = accumulate;
    CHECK_INT(ae_fit(p.m, &d, &sgd, &o, &r), AE_SUCCESS);
    CHECK_INT(ae_steps(p.m), 4);
    *loss = r.loss;
    size_t n;
    const float *g = segment(p.m, AE_SEG_GRAD, &n);
    memcpy(grad, g, n * sizeof *g);
    return p;
}

TEST(image_model_noise_of_any_batch)
{
    static const int split[3][2] = { { 8, 4 }, { 16, 2 }, { 1, 32 } };
    float *grad = OUT(4096), *other = OUT(4096), loss, again;
    size_t n;
    pic p = accumulated(32, 1, grad, &loss);
    for (int i = 0; i < 3; i++) {
        pic q = accumulated(split[i][0], split[i][1], other, &again);
        test_context("%d x %d", split[i][1], split[i][0]);
        const float *w = segment(p.m, AE_SEG_PARAM, &n), *v = segment(q.m, AE_SEG_PARAM, &n);
        CHECK_CLOSE(again, loss, 1e-6 * (double)loss);  // sums in another order
        CHECK_ARRAY(other, grad, n, 1e-7, 1e-5);
        CHECK_ARRAY(v, w, n, 1e-7, 1e-6);
    }
}

TEST(image_model_resume)
{
    enum { N = 12 };
    for (int kind = 0; kind < KINDS; kind++) {
        pic p = built(kind, 9, 5, AE_TRAIN), q = built(kind, 9, 5, AE_TRAIN);
        ae_dataset d = pictures(p.x, N, 8);
        ae_optim adam = net_optim(AE_ADAM, 0.01f);
        size_t n, bytes = ae_snapshot_bytes(p.m);
        void *block = BLOCK(bytes);
        test_context("graph %d", kind);
        for (int step = 0; step < 4; step++)        // one into the second epoch
            CHECK_INT(ae_train_step(p.m, &d, &adam), AE_SUCCESS);
        CHECK_INT(ae_snapshot(p.m, block), AE_SUCCESS);
        for (int step = 0; step < 6; step++)
            CHECK_INT(ae_train_step(p.m, &d, &adam), AE_SUCCESS);
        CHECK_INT(ae_restore(q.m, block, bytes), AE_SUCCESS);
        CHECK_INT(ae_evaluate(q.m, &d, NULL), AE_SUCCESS);
        for (int step = 0; step < 6; step++)
            CHECK_INT(ae_train_step(q.m, &d, &adam), AE_SUCCESS);
        const float *w = segment(p.m, AE_SEG_PARAM, &n), *v = segment(q.m, AE_SEG_PARAM, &n);
        CHECK_SAME(v, w, n);
        CHECK_SAME(ae_get(q.m, q.y), ae_get(p.m, p.y), 2 * ae_size(p.y));
    }
}

TEST(image_model_dropout_keeps_the_mean)
{
    enum { N = 40, C = 20, P = 12 };
    for (int spatial = 0; spatial < 2; spatial++) {
        pic p;
        begin(&p, net_arena(ROOM), 3, C, 4, 3);
        ae_tensor *h = spatial ? ae_spatial_dropout(p.x, 0.3f) : ae_dropout(p.x, 0.3f);
        end(&p, ae_conv2d(h, C, 1, 1, 0));
        CHECK_INT(ae_build(p.m, N, AE_TRAIN), AE_SUCCESS);
        float *x = OUT(N * C * P);
        double sum = 0;
        int split = 0;
        for (int i = 0; i < N * C * P; i++) x[i] = 1;
        CHECK_INT(ae_set(p.m, p.x, x, N), AE_SUCCESS);
        CHECK_INT(ae_forward(p.m, N), AE_SUCCESS);
        const float *y = ae_get(p.m, h);
        for (int i = 0; i < N * C * P; i++) {
            CHECK(y[i] == 0 || fabsf(y[i] - 1 / 0.7f) < 1e-6f);
            split += !same(&y[i], &y[i / P * P], 1);
            sum += (double)y[i] / (N * C * P);
        }
        CHECK(spatial ? split == 0 : split > 1000);
        // deviation sqrt(0.3 / 0.7) of one draw; 800 or 9600 draws: 4 of theirs
        CHECK_CLOSE(sum, 1, spatial ? 0.093 : 0.027);
    }
    pic p;
    begin(&p, net_arena(ROOM), 3, 2, 4, 3);
    ae_tensor *h = ae_dropout(p.x, 0.0f), *g = ae_gaussian_noise(h, 0.0f, 0.0f, 0.0f);
    end(&p, ae_conv2d(g, 2, 1, 1, 0));
    CHECK_INT(ae_build(p.m, 2, AE_TRAIN), AE_SUCCESS);
    float *x = DATA(48, 4);
    CHECK_INT(ae_set(p.m, p.x, x, 2), AE_SUCCESS);
    CHECK_INT(ae_forward(p.m, 2), AE_SUCCESS);
    CHECK_BITS(ae_get(p.m, h), x, 48);
    CHECK_BITS(ae_get(p.m, g), x, 48);
}

/* --- the mirror ----------------------------------------------------------- */

/* The operations of a graph in order, without what is kept for the backward pass: "conv2d relu". */
typedef struct op_list {
    char text[600];
    int skip;                   // so many first ones are left out
} op_list;

static void add_op(op_list *l, const char *name)
{
    size_t n = strlen(l->text), k = strlen(name);
    while (k > 0 && name[k - 1] >= '0' && name[k - 1] <= '9') k--;
    REQUIRE(n + k + 2 < sizeof l->text);
    if (n) l->text[n++] = ' ';
    memcpy(l->text + n, name, k);
    l->text[n + k] = 0;
}

static void add_entry(void *user, const ae_plan_entry *e)
{
    op_list *l = (op_list *)user;
    if (e->segment != AE_SEG_ACT || !strncmp(e->name, "kept", 4)) return;
    if (l->skip-- <= 0) add_op(l, e->name);
}

/* What the tensors made after `before` others are. */
static op_list ops_after(ae_model *m, int before)
{
    op_list l;
    l.text[0] = 0;
    l.skip = before;
    CHECK(ae_plan_each(m, 1, AE_INFER, add_entry, &l) > 0);
    return l;
}

/* An encoder as drawn by dice, with what its mirror must be made of: changes of shape, each with
   the activations and normalisations behind it. */
typedef struct encoder {
    ae_tensor *z;
    int tensors;                // made, the input included
    int changes, layers;
    struct {
        char kind;              // c: convolution, p: pooling, l: linear
        int resized, tails;
        char tail[8][16];
    } change[16];
} encoder;

static void changed(encoder *c, ae_tensor *z, char kind, int resized)
{
    c->change[c->changes].kind = kind;
    c->change[c->changes++].resized = resized;
    c->layers += kind != 'p';
    c->tensors++;
    c->z = z;
}

static void follow(encoder *c, ae_tensor *z, const char *name)
{
    int i = c->changes - 1;
    c->tensors++;
    c->z = z;
    if (name) snprintf(c->change[i].tail[c->change[i].tails++], 16, "%s", name);
}

/* A window of up to kernel x kernel and so on; one throw after another, whatever the compiler. */
static ae_conv conv_by_dice(net_dice *d, int kernel, int stride, int pad, int dilation)
{
    const int most[4] = { kernel, stride, pad, dilation };
    int side[8];
    for (int i = 0; i < 8; i++) side[i] = net_roll(d, most[i / 2]) + (i / 2 != 2);
    ae_conv g = conv_of(side[0], side[1], side[2], side[3], side[4], side[5]);
    g.dilation_h = side[6];
    g.dilation_w = side[7];
    return g;
}

static void encode_conv(encoder *c, net_dice *d)
{
    int in_c, h, w, out_h, out_w;
    ae_shape(c->z, &in_c, &h, &w);
    ae_conv g = conv_by_dice(d, 5, 3, 3, 2);
    g.no_bias = net_roll(d, 2);
    g.groups = in_c % 2 == 0 && net_roll(d, 3) == 0 ? 2 : 1;
    out_h = ae_conv_size(h, g.kernel_h, g.stride_h, g.pad_h, g.dilation_h);
    out_w = ae_conv_size(w, g.kernel_w, g.stride_w, g.pad_w, g.dilation_w);
    if (out_h < 1 || out_w < 1) return;
    changed(c, ae_conv2d_with(c->z, 2 * (1 + net_roll(d, 2)), &g), 'c', out_h != h || out_w != w);
}

static void encode_tail(encoder *c, net_dice *d)
{
    switch (net_roll(d, 5)) {
    case 0: follow(c, ae_batch_norm(c->z, NULL), "batch_norm"); break;
    case 1: follow(c, ae_group_norm(c->z, 2, NULL), "group_norm"); break;
    case 2: follow(c, ae_layer_norm(c->z, NULL), "layer_norm"); break;
    default: break;
    }
    if (net_roll(d, 4)) follow(c, ae_leaky_relu(c->z, 0.1f), "leaky_relu");
    if (net_roll(d, 3) == 0) follow(c, ae_dropout(c->z, 0.1f), NULL);
}

static encoder encode(ae_tensor *x, net_dice *d)
{
    encoder c;
    int depth = 1 + net_roll(d, 3), dims[3];
    memset(&c, 0, sizeof c);
    c.z = x;
    c.tensors = 1;
    for (int i = 0; i < depth; i++) {
        encode_conv(&c, d);
        if (!c.layers) continue;
        if (i < depth - 1) encode_tail(&c, d);
        ae_shape(c.z, &dims[0], &dims[1], &dims[2]);
        if (net_roll(d, 3) == 0 && dims[1] > 2 && dims[2] > 2) {
            int overlap = net_roll(d, 2);
            ae_pool g = pool_of(2, 3, 2, overlap ? 2 : 3, 1, 0);
            changed(&c, overlap ? ae_max_pool2d_with(c.z, &g) : ae_avg_pool2d(c.z, 2), 'p', 1);
            if (net_roll(d, 2)) follow(&c, ae_silu(c.z), "silu");
        }
    }
    if (!c.layers || net_roll(d, 2)) {
        if (c.layers) encode_tail(&c, d);
        changed(&c, ae_linear(c.z, 3 + net_roll(d, 3)), 'l', 0);
        if (net_roll(d, 2)) {
            follow(&c, ae_tanh(c.z), "tanh");
            changed(&c, ae_linear(c.z, 2), 'l', 0);
        }
    }
    if (net_roll(d, 2)) follow(&c, ae_sigmoid(c.z), "sigmoid");     // the mirror has no use for it
    return c;
}

static op_list mirror_of(const encoder *c, ae_mirror_kind kind)
{
    op_list l;
    l.text[0] = 0;
    l.skip = 0;
    for (int i = c->changes - 1; i >= 0; i--) {
        if (c->change[i].kind == 'l') {
            add_op(&l, "linear");
            add_op(&l, "reshape");
        } else if (c->change[i].kind == 'c' && kind == AE_MIRROR_TRANSPOSE) {
            add_op(&l, "conv_transpose2d");
        } else {
            if (c->change[i].resized) add_op(&l, "upsample2d");
            if (c->change[i].kind == 'c') add_op(&l, "conv2d");
        }
        // behind a layer with weights: all that stood between it and the one before it
        int from = i - 1;
        while (from >= 0 && c->change[from].kind == 'p') from--;
        for (int j = from; c->change[i].kind != 'p' && from >= 0 && j < i; j++)
            for (int k = 0; k < c->change[j].tails; k++) add_op(&l, c->change[j].tail[k]);
    }
    return l;
}

// "upsample2d2" without its number is "upsample2d": compare both without digits at the ends.
static void check_ops(const op_list *got, const op_list *want)
{
    op_list plain;
    plain.text[0] = 0;
    char names[600];
    memcpy(names, want->text, sizeof names);
    for (char *p = strtok(names, " "); p; p = strtok(NULL, " ")) add_op(&plain, p);
    CHECK_STR(got->text, plain.text);
}

TEST(image_model_mirror)
{
    ae_arena *arena = net_arena(4 << 20);
    net_dice d;
    d.state = 20;
    for (int i = 0; i < 600; i++) {
        int kind = i & 1, c = 1 + net_roll(&d, 2), h = 5 + net_roll(&d, 25);
        int w = 5 + net_roll(&d, 25), got[3];
        if (i < 50) {                               // every size, a plain stride of 2
            h = 5 + i / 2;
            w = 29 - i / 2;
        }
        ae_arena_rewind(arena, 0);
        ae_model *m = ae_model_new(arena, 3);
        ae_tensor *x = ae_input(m, c, h, w);
        encoder e;
        memset(&e, 0, sizeof e);
        test_context("encoder %d of %dx%dx%d", i, c, h, w);
        if (i < 50) {
            e.z = ae_conv2d(ae_relu(ae_conv2d(x, 4, 3, 2, 1)), 3, 3, 2, 1);
            e.tensors = 4;
        } else {
            e = encode(x, &d);
        }
        CHECK_STR(ae_error(m), "");
        ae_tensor *y = ae_mirror(e.z, x, (ae_mirror_kind)kind);
        CHECK_STR(ae_error(m), "");
        REQUIRE(y != NULL);
        ae_shape(y, &got[0], &got[1], &got[2]);
        CHECK_INT(got[0], c);
        CHECK_INT(got[1], h);
        CHECK_INT(got[2], w);
        if (i >= 50) {
            op_list list = ops_after(m, e.tensors), want = mirror_of(&e, (ae_mirror_kind)kind);
            check_ops(&list, &want);
        }
        if (i % 8 > 1) continue;
        ae_dataset data = pictures(x, 3, 2);        // and it learns
        ae_optim adam = net_optim(AE_ADAM, 0.001f);
        ae_minimize(ae_mse(y, x, AE_MEAN));
        CHECK_INT(ae_build(m, 3, AE_TRAIN), AE_SUCCESS);
        size_t n;
        float *params = segment(m, AE_SEG_PARAM, &n), *before = COPY(params, n);
        CHECK_INT(ae_train_step(m, &data, &adam), AE_SUCCESS);
        CHECK_FINITE(params, n);
        CHECK(!same(params, before, n));
    }
}

static op_list list_of(const char *text)
{
    op_list l;
    snprintf(l.text, sizeof l.text, "%s", text);
    l.skip = 0;
    return l;
}

static void check_mirror(ae_tensor *z, ae_tensor *x, int tensors, ae_mirror_kind kind, ae_model *m,
                         const char *want)
{
    ae_tensor *y = ae_mirror(z, x, kind);
    int a[3], b[3];
    CHECK_STR(ae_error(m), "");
    REQUIRE(y != NULL);
    ae_shape(x, &a[0], &a[1], &a[2]);
    ae_shape(y, &b[0], &b[1], &b[2]);
    for (int k = 0; k < 3; k++) CHECK_INT(b[k], a[k]);
    op_list got = ops_after(m, tensors), list = list_of(want);
    check_ops(&got, &list);
}

TEST(image_model_mirror_layers)
{
    // the encoder of a tutorial
    ae_model *m = ae_model_new(net_arena(ROOM), 1);
    ae_tensor *x = ae_input(m, 1, 28, 28), *h, *z;
    h = ae_relu(ae_conv2d(ae_gaussian_noise(x, 0.1f, 0, 1), 8, 3, 2, 1));
    h = ae_relu(ae_batch_norm(ae_conv2d(h, 16, 3, 2, 1), NULL));
    z = ae_linear(ae_flatten(h), 10);
    check_mirror(z, x, 9, AE_MIRROR_TRANSPOSE, m,
                 "linear reshape reshape batch_norm relu conv_transpose2d relu conv_transpose2d");

    // its batch normalisation is of 16 channels, as the encoder's
    m = ae_model_new(net_arena(ROOM), 1);
    x = ae_input(m, 1, 28, 28);
    h = ae_relu(ae_batch_norm(ae_conv2d(x, 16, 3, 2, 1), NULL));
    z = ae_linear(ae_flatten(h), 10);
    CHECK(ae_mirror(z, x, AE_MIRROR_UPSAMPLE) != NULL);
    CHECK_INT(ae_param_size(ae_param_find(m, "batch_norm2.weight")), 16);

    // activations behind a pooling
    m = ae_model_new(net_arena(ROOM), 1);
    x = ae_input(m, 1, 9, 8);
    h = ae_silu(ae_max_pool2d(ae_conv2d(x, 4, 3, 1, 1), 2));
    z = ae_tanh(ae_conv2d(h, 2, 3, 2, 1));
    check_mirror(z, x, 6, AE_MIRROR_TRANSPOSE, m,
                 "conv_transpose2d silu upsample2d conv_transpose2d");

    // codes: of a variational encoder along mu, of a quantised one, of the k largest
    m = ae_model_new(net_arena(ROOM), 1);
    x = ae_input(m, 2, 3, 4);
    h = ae_tanh(ae_linear(x, 7));
    z = ae_linear(h, 3);
    z = ae_gaussian_sample(z, ae_linear(h, 3));
    check_mirror(z, x, 6, AE_MIRROR_TRANSPOSE, m, "linear reshape tanh linear reshape");
    m = ae_model_new(net_arena(ROOM), 1);
    x = ae_input(m, 2, 6, 5);
    z = ae_vq(ae_conv2d(ae_relu(ae_conv2d(x, 4, 3, 1, 1)), 3, 3, 2, 1), NULL);
    check_mirror(z, x, 5, AE_MIRROR_UPSAMPLE, m, "upsample2d conv2d relu conv2d");
    m = ae_model_new(net_arena(ROOM), 1);
    x = ae_input(m, 2, 6, 5);
    z = ae_top_k(ae_linear(ae_relu(ae_linear(x, 9)), 8), 2);
    check_mirror(z, x, 5, AE_MIRROR_TRANSPOSE, m, "linear reshape relu linear reshape");

    // no change of size: no upsampling
    m = ae_model_new(net_arena(ROOM), 1);
    x = ae_input(m, 2, 6, 5);
    z = ae_conv2d(ae_tanh(ae_conv2d(x, 4, 3, 1, 1)), 3, 3, 2, 1);
    check_mirror(z, x, 4, AE_MIRROR_UPSAMPLE, m, "upsample2d conv2d tanh conv2d");

    // a dense one, and nothing at all
    m = ae_model_new(net_arena(ROOM), 1);
    x = ae_input(m, 2, 6, 5);
    z = ae_linear(ae_elu(ae_layer_norm(ae_linear_no_bias(x, 20), NULL), 0.5f), 3);
    check_mirror(z, x, 5, AE_MIRROR_TRANSPOSE, m, "linear reshape layer_norm elu linear reshape");
    CHECK(ae_bias(ae_mirror(z, x, AE_MIRROR_TRANSPOSE)) == NULL);
    CHECK(ae_mirror(x, x, AE_MIRROR_TRANSPOSE) == x);
}

TEST(image_model_mirror_of_what_cannot)
{
    for (int i = 0; i < 8; i++) {
        ae_model *m = ae_model_new(net_arena(ROOM), 1);
        ae_tensor *x = ae_input(m, 2, 6, 5), *other = ae_input(m, 2, 6, 5), *z, *y = NULL;
        const char *says[2] = { "ae_mirror", "add1" };
        test_context("mirror %d", i);
        z = ae_conv2d(x, 2, 3, 1, 1);
        switch (i) {
        case 0: y = ae_mirror(ae_add(z, x), x, AE_MIRROR_TRANSPOSE); break;
        case 1:
            says[1] = "concat1";
            y = ae_mirror(ae_relu(ae_concat(z, x)), x, AE_MIRROR_UPSAMPLE);
            break;
        case 2:
            says[1] = "conv2d1 does not come from input2";
            y = ae_mirror(z, other, AE_MIRROR_TRANSPOSE);
            break;
        case 3:
            says[1] = "does not come from NULL";
            y = ae_mirror(z, NULL, AE_MIRROR_TRANSPOSE);
            break;
        case 4:
            says[1] = "does not come from";
            y = ae_mirror(x, z, AE_MIRROR_TRANSPOSE);
            break;
        case 5:
            says[1] = "mse1";
            y = ae_mirror(ae_mse(z, x, AE_MEAN), x, AE_MIRROR_TRANSPOSE);
            break;
        case 6:
            says[1] = "kind 2";
            y = ae_mirror(z, x, (ae_mirror_kind)two());
            break;
        default:
            says[1] = "pad2d1";
            y = ae_mirror(ae_pad2d(z, 1, 1, 0, 0, 0), x, AE_MIRROR_TRANSPOSE);
            break;
        }
        CHECK(y == NULL);
        CHECK_ERROR(ae_error(m), says[0]);
        CHECK_ERROR(ae_error(m), says[1]);
        CHECK(ae_model_status(m) != AE_SUCCESS);
        CHECK(ae_mirror(z, x, AE_MIRROR_TRANSPOSE) == NULL);
        CHECK_INT(ae_build(m, 1, AE_TRAIN), ae_model_status(m));
    }
    ae_model *m = ae_model_new(net_arena(ROOM), 1);
    CHECK(ae_mirror(NULL, ae_input(m, 1, 5, 5), AE_MIRROR_TRANSPOSE) == NULL);
    CHECK(ae_mirror(NULL, NULL, AE_MIRROR_TRANSPOSE) == NULL);
    CHECK_STR(ae_error(m), "");
}

/* --- what would fit ------------------------------------------------------- */

/* The two numbers "AxB" behind `word` in a sentence; 0 where there are none. */
static int numbers_after(const char *text, const char *word, int *a, int *b)
{
    const char *p = strstr(text, word);
    return p && sscanf(p + strlen(word), " %dx%d", a, b) == 2;
}

static ae_tensor *short_decoder(ae_model *m, ae_tensor **x, int h, int w, int stride, int op_h,
                                int op_w)
{
    ae_conv g = conv_of(3, 3, stride, stride, 1, 1);
    *x = ae_input(m, 2, h, w);
    ae_tensor *z = ae_conv2d(ae_relu(ae_conv2d(*x, 3, 1, 1, 0)), 4, 3, stride, 1);
    g.output_pad_h = op_h;
    g.output_pad_w = op_w;
    return ae_sigmoid(ae_conv2d(ae_relu(ae_conv_transpose2d_with(z, 2, &g)), 2, 3, 1, 1));
}

TEST(image_model_output_padding_advice)
{
    int advised = 0;
    for (int stride = 2; stride <= 3; stride++)
        for (int h = 5; h <= 12; h++)
            for (int w = 5; w <= 11; w++) {
                ae_model *m = ae_model_new(net_arena(1 << 16), 1);
                ae_tensor *x, *y = short_decoder(m, &x, h, w, stride, 0, 0);
                int a[3], b[3], op_h = 0, op_w = 0;
                test_context("%dx%d, stride %d", h, w, stride);
                REQUIRE(y != NULL);
                ae_shape(x, &a[0], &a[1], &a[2]);
                ae_shape(y, &b[0], &b[1], &b[2]);
                if (a[1] == b[1] && a[2] == b[2]) continue;
                CHECK(ae_mse(y, x, AE_MEAN) == NULL);
                CHECK_INT(ae_model_status(m), AE_E_SHAPE);
                CHECK_ERROR(ae_error(m), "conv_transpose2d1");
                CHECK_ERROR(ae_error(m), "sigmoid1 is");
                CHECK_ERROR(ae_error(m), "input1 is");
                CHECK(numbers_after(ae_error(m), "output padding", &op_h, &op_w));
                m = ae_model_new(net_arena(1 << 16), 1);
                y = short_decoder(m, &x, h, w, stride, op_h, op_w);
                CHECK(ae_mse(y, x, AE_MEAN) != NULL);
                CHECK_STR(ae_error(m), "");
                advised++;
            }
    CHECK(advised > 60);
    // what no output padding mends is told with its shapes
    ae_model *m = ae_model_new(net_arena(1 << 16), 1);
    ae_tensor *x = ae_input(m, 1, 9, 9);
    CHECK(ae_mse(ae_conv_transpose2d(ae_conv2d(x, 4, 3, 2, 0), 1, 2, 2, 0, 0), x, AE_SUM) == NULL);
    CHECK_ERROR(ae_error(m), "conv_transpose2d1 is 1x8x8");
    CHECK_ERROR(ae_error(m), "input1 is 1x9x9");
}

TEST(image_model_padding_advice)
{
    net_dice d;
    d.state = 4;
    for (int i = 0; i < 300; i++) {
        ae_model *m = ae_model_new(net_arena(1 << 15), 1);
        int h = 1 + net_roll(&d, 6), w = 1 + net_roll(&d, 6), kind = net_roll(&d, 3);
        ae_conv g = conv_by_dice(&d, 7, 2, 2, kind == 2 ? 1 : 3);
        ae_pool q = pool_of(g.kernel_h, g.kernel_w, g.stride_h, g.stride_w, 0, 0);
        if (kind) g.pad_h = g.pad_w = 0;
        q.dilation_h = g.dilation_h;
        q.dilation_w = g.dilation_w;
        test_context("case %d: %dx%d, kind %d", i, h, w, kind);
        ae_tensor *x = ae_input(m, 2, h, w), *t;
        t = kind == 0 ? ae_conv2d_with(x, 3, &g)
          : kind == 1 ? ae_max_pool2d_with(x, &q) : ae_avg_pool2d_with(x, &q);
        int fits = ae_conv_size(h, g.kernel_h, g.stride_h, g.pad_h, g.dilation_h) > 0
                && ae_conv_size(w, g.kernel_w, g.stride_w, g.pad_w, g.dilation_w) > 0;
        CHECK_INT(t != NULL, fits);
        if (fits) continue;
        char text[64];
        int ph, pw;
        CHECK_INT(ae_model_status(m), AE_E_SHAPE);
        CHECK_ERROR(ae_error(m), kind == 0 ? "conv2d1" : kind == 1 ? "max_pool2d1" : "avg_pool2d1");
        snprintf(text, sizeof text, "input 2x%dx%d", h, w);
        CHECK_ERROR(ae_error(m), text);
        snprintf(text, sizeof text, "kernel %dx%d", g.kernel_h, g.kernel_w);
        CHECK_ERROR(ae_error(m), text);
        snprintf(text, sizeof text, "padding %dx%d", g.pad_h, g.pad_w);
        CHECK_ERROR(ae_error(m), text);
        CHECK_ERROR(ae_error(m), "larger than the padded input");
        CHECK_ERROR(ae_error(m), "would fit");
        if (!numbers_after(ae_error(m), "input; padding", &ph, &pw)) {
            CHECK(kind == 1);       // a pooling cannot always be mended by padding
            continue;
        }
        m = ae_model_new(net_arena(1 << 15), 1);
        x = ae_input(m, 2, h, w);
        g.pad_h = q.pad_h = ph;
        g.pad_w = q.pad_w = pw;
        t = kind == 0 ? ae_conv2d_with(x, 3, &g)
          : kind == 1 ? ae_max_pool2d_with(x, &q) : ae_avg_pool2d_with(x, &q);
        CHECK(t != NULL);
        CHECK_STR(ae_error(m), "");
    }
}

/* --- mistakes ------------------------------------------------------------- */

typedef ae_tensor *mistake(ae_tensor *x);       // x: 4x6x5

static ae_tensor *with(ae_tensor *x, int transposed, int field, int value)
{
    ae_conv g = conv_of(3, 3, 2, 2, 1, 1);
    int *f = (int *)(void *)&g;
    g.dilation_h = g.dilation_w = g.groups = 1;
    f[field] = value;
    return transposed ? ae_conv_transpose2d_with(x, 4, &g) : ae_conv2d_with(x, 4, &g);
}

static ae_tensor *pool_with(ae_tensor *x, int average, int field, int value)
{
    ae_pool g = pool_of(3, 3, 2, 2, 1, 1);
    int *f = (int *)(void *)&g;
    g.dilation_h = g.dilation_w = 1;
    f[field] = value;
    return average ? ae_avg_pool2d_with(x, &g) : ae_max_pool2d_with(x, &g);
}

enum { K_H, K_W, S_H, S_W, P_H, P_W, D_H, D_W, OP_H, OP_W, GROUPS };    // ae_conv's fields

#define BAD(name, expression) static ae_tensor *bad_##name(ae_tensor *x) { return expression; }
BAD(kernel, ae_conv2d(x, 3, 9, 1, 0))
BAD(kernel_0, ae_conv2d(x, 3, 0, 1, 0))
BAD(kernel_neg, with(x, 1, K_W, -3))
BAD(stride_0, ae_conv2d(x, 3, 3, 0, 1))
BAD(stride_neg, with(x, 0, S_W, -1))
BAD(pad_neg, ae_conv2d(x, 3, 3, 1, -1))
BAD(pad_neg_w, with(x, 0, P_W, -2))
BAD(dilation, with(x, 0, D_H, -1))
BAD(dilation_far, with(x, 0, D_W, 9))
BAD(groups, with(x, 0, GROUPS, 3))
BAD(groups_neg, with(x, 0, GROUPS, -2))
BAD(groups_out, with(ae_conv2d(x, 6, 1, 1, 0), 0, GROUPS, 3))
BAD(out_0, ae_conv2d(x, 0, 3, 1, 1))
BAD(out_neg, ae_conv_transpose2d(x, -4, 3, 1, 1, 0))
BAD(conv_null, ae_conv2d_with(x, 3, NULL))
BAD(convt_stride, ae_conv_transpose2d(x, 3, 3, 0, 1, 0))
BAD(convt_op, ae_conv_transpose2d(x, 3, 3, 2, 1, 2))
BAD(convt_op_neg, with(x, 1, OP_W, -1))
BAD(convt_groups, with(x, 1, GROUPS, 3))
BAD(convt_pad, ae_conv_transpose2d(x, 3, 3, 1, 7, 0))
BAD(convt_null, ae_conv_transpose2d_with(x, 3, NULL))
BAD(conv1d, ae_conv1d(x, 3, 3, 1, 1))
BAD(conv1d_stride, ae_conv1d(ae_reshape(x, 4, 1, 30), 3, 3, -2, 1))
BAD(conv1d_kernel, ae_conv1d(ae_reshape(x, 4, 1, 30), 3, 33, 1, 1))
BAD(pool, ae_max_pool2d(x, 7))
BAD(pool_0, ae_max_pool2d(x, 0))
BAD(pool_neg, ae_avg_pool2d(x, -2))
BAD(pool_pad, pool_with(x, 0, P_H, 2))
BAD(pool_pad_neg, pool_with(x, 1, P_H, -1))
BAD(pool_stride, pool_with(x, 1, S_W, -2))
BAD(pool_dilation, pool_with(x, 0, D_W, -2))
BAD(pool_far, pool_with(ae_crop2d(x, 0, 3, 0, 2), 0, D_H, 4))
BAD(avg_dilation, pool_with(x, 1, D_H, 2))
BAD(pool_null, ae_max_pool2d_with(x, NULL))
BAD(unpool, ae_max_unpool2d(ae_conv2d(ae_max_pool2d(x, 2), 3, 1, 1, 0), ae_max_pool2d(x, 2)))
BAD(unpool_of, ae_max_unpool2d(ae_relu(x), ae_relu(x)))
BAD(unpool_avg, ae_max_unpool2d(ae_avg_pool2d(x, 2), ae_avg_pool2d(x, 2)))
BAD(unpool_null, ae_max_unpool2d(x, NULL))
BAD(up_0, ae_upsample_nearest(x, 0))
BAD(up_neg, ae_upsample_bilinear(x, -3))
BAD(resize_0, ae_resize(x, AE_NEAREST, 0, 4))
BAD(resize_kind, ae_resize(x, (ae_upsample_kind)two(), 3, 4))
BAD(crop, ae_crop2d(x, 3, 3, 0, 0))
BAD(crop_neg, ae_crop2d(x, 0, 0, -1, 0))
BAD(pad_nan, ae_pad2d(x, 1, 1, 1, 1, test_nan()))
BAD(pad_none, ae_pad2d(x, -6, 0, 0, 0, 0))
BAD(skip, ae_add(ae_conv2d(x, 4, 3, 1, 1), ae_conv2d(x, 3, 3, 1, 1)))
BAD(skip_concat, ae_concat(ae_conv2d(x, 4, 3, 2, 1), x))
BAD(group_norm, ae_group_norm(x, 3, NULL))
BAD(group_norm_0, ae_group_norm(x, 0, NULL))
BAD(dropout, ae_dropout(x, 1.0f))
BAD(dropout_neg, ae_dropout(x, -0.1f))
BAD(dropout_nan, ae_dropout(x, test_nan()))
BAD(spatial, ae_spatial_dropout(x, 1.5f))
BAD(gaussian, ae_gaussian_noise(x, -0.1f, 0, 1))
BAD(gaussian_inf, ae_gaussian_noise(x, test_inf(), 0, 1))
BAD(gaussian_low, ae_gaussian_noise(x, 0.1f, test_nan(), 1))
BAD(mask, ae_mask_noise(x, 1.0f))
BAD(salt, ae_salt_pepper(x, -1.0f, 0, 1))
BAD(salt_high, ae_salt_pepper(x, 0.1f, 0, test_inf()))
BAD(always, ae_noise_always(ae_relu(x)))
BAD(fixed, ae_noise_fixed(x))

static ae_tensor *norm_with(ae_tensor *x, float eps, float momentum)
{
    ae_norm o = norm_of(eps, momentum, 0);
    return ae_batch_norm(x, &o);
}
BAD(eps, norm_with(x, -1e-5f, 0.1f))
BAD(momentum, norm_with(x, 0, 1.5f))
BAD(momentum_nan, norm_with(x, 0, test_nan()))

#define ROW(name, status, a, b, c) { bad_##name, #name, status, { a, b, c } }
static const struct {
    mistake *make;
    const char *name;
    ae_status status;
    const char *says[3];
} mistakes[] = {
    ROW(kernel, AE_E_SHAPE, "conv2d1", "input 4x6x5, kernel 9x9", "padding 2x2 would fit"),
    ROW(kernel_0, AE_E_ARG, "conv2d1", "4x6x5", "kernel is 0"),
    ROW(kernel_neg, AE_E_ARG, "conv_transpose2d1", "4x6x5", "kernel is -3"),
    ROW(stride_0, AE_E_ARG, "conv2d1", "4x6x5", "stride is 0"),
    ROW(stride_neg, AE_E_ARG, "conv2d1", "4x6x5", "stride is -1"),
    ROW(pad_neg, AE_E_ARG, "conv2d1", "4x6x5", "padding is -1"),
    ROW(pad_neg_w, AE_E_ARG, "conv2d1", "4x6x5", "padding is -2"),
    ROW(dilation, AE_E_ARG, "conv2d1", "4x6x5", "dilation is -1"),
    ROW(dilation_far, AE_E_SHAPE, "conv2d1", "4x6x5", "3x19"),
    ROW(groups, AE_E_SHAPE, "conv2d", "4x6x5", "3 groups do not divide 4 input and 4 output"),
    ROW(groups_neg, AE_E_SHAPE, "conv2d", "4x6x5", "-2 groups"),
    ROW(groups_out, AE_E_SHAPE, "conv2d", "6x6x5", "3 groups do not divide 6 input and 4 output"),
    ROW(out_0, AE_E_ARG, "conv2d1", "4x6x5", "output channels is 0"),
    ROW(out_neg, AE_E_ARG, "conv_transpose2d1", "4x6x5", "output channels is -4"),
    ROW(conv_null, AE_E_ARG, "conv2d", "", ""),
    ROW(convt_stride, AE_E_ARG, "conv_transpose2d1", "4x6x5", "stride is 0"),
    ROW(convt_op, AE_E_ARG, "conv_transpose2d", "4x6x5", "output padding 2x2"),
    ROW(convt_op_neg, AE_E_ARG, "conv_transpose2d", "4x6x5", "output padding 0x-1"),
    ROW(convt_groups, AE_E_SHAPE, "conv_transpose2d", "4x6x5", "3 groups do not divide"),
    ROW(convt_pad, AE_E_SHAPE, "conv_transpose2d", "4x6x5", "padding 7x7"),
    ROW(convt_null, AE_E_ARG, "conv_transpose2d", "", ""),
    ROW(conv1d, AE_E_SHAPE, "conv1d", "4x6x5", "6 rows high"),
    ROW(conv1d_stride, AE_E_ARG, "conv1d1", "4x1x30", "stride is -2"),
    ROW(conv1d_kernel, AE_E_SHAPE, "4x1x30", "kernel 1x33", "padding 0x2 would fit"),
    ROW(pool, AE_E_SHAPE, "max_pool2d1", "input 4x6x5, kernel 7x7", "padding 1x1 would fit"),
    ROW(pool_0, AE_E_ARG, "max_pool2d1", "4x6x5", "kernel is 0"),
    ROW(pool_neg, AE_E_ARG, "avg_pool2d1", "4x6x5", "kernel is -2"),
    ROW(pool_pad, AE_E_ARG, "max_pool2d", "padding 2x1", "half the kernel 3x3"),
    ROW(pool_pad_neg, AE_E_ARG, "avg_pool2d1", "4x6x5", "padding is -1"),
    ROW(pool_stride, AE_E_ARG, "avg_pool2d1", "4x6x5", "stride is -2"),
    ROW(pool_dilation, AE_E_ARG, "max_pool2d1", "4x6x5", "dilation is -2"),
    ROW(pool_far, AE_E_SHAPE, "max_pool2d", "", ""),
    ROW(avg_dilation, AE_E_ARG, "avg_pool2d", "dilation", ""),
    ROW(pool_null, AE_E_ARG, "max_pool2d1", "kernel is 0", ""),
    ROW(unpool, AE_E_SHAPE, "max_unpool2d", "3x3x2", "4x3x2"),
    ROW(unpool_of, AE_E_ARG, "max_unpool2d", "relu", "not a max_pool2d"),
    ROW(unpool_avg, AE_E_ARG, "max_unpool2d", "avg_pool2d", "not a max_pool2d"),
    ROW(unpool_null, AE_E_ARG, "max_unpool2d", "NULL", ""),
    ROW(up_0, AE_E_ARG, "upsample2d1", "4x6x5", "factor is 0"),
    ROW(up_neg, AE_E_ARG, "upsample2d1", "4x6x5", "factor is -3"),
    ROW(resize_0, AE_E_SHAPE, "upsample2d1", "4x0x4", "at least 1"),
    ROW(resize_kind, AE_E_ARG, "upsample2d", "kind 2", ""),
    ROW(crop, AE_E_SHAPE, "input1", "4x6x5", "nothing is left"),
    ROW(crop_neg, AE_E_ARG, "crop2d", "-1", "negative"),
    ROW(pad_nan, AE_E_SHAPE, "pad2d", "4x6x5", ""),
    ROW(pad_none, AE_E_SHAPE, "pad2d", "4x6x5", "nothing is left"),
    ROW(skip, AE_E_SHAPE, "add: conv2d", "is 4x6x5", "is 3x6x5"),
    ROW(skip_concat, AE_E_SHAPE, "concat", "conv2d1 is 4x3x3", "input1 is 4x6x5"),
    ROW(group_norm, AE_E_SHAPE, "group_norm", "3 groups", "4 channels"),
    ROW(group_norm_0, AE_E_SHAPE, "group_norm", "0 groups", ""),
    ROW(dropout, AE_E_ARG, "dropout of input1", "1", "below 1"),
    ROW(dropout_neg, AE_E_ARG, "dropout", "-0.1", "at least 0"),
    ROW(dropout_nan, AE_E_ARG, "dropout", "at least 0", ""),
    ROW(spatial, AE_E_ARG, "dropout", "1.5", "below 1"),
    ROW(gaussian, AE_E_ARG, "gaussian_noise", "-0.1", "at least 0"),
    ROW(gaussian_inf, AE_E_ARG, "gaussian_noise", "at least 0", ""),
    ROW(gaussian_low, AE_E_ARG, "gaussian_noise", "finite", ""),
    ROW(mask, AE_E_ARG, "mask_noise", "1", "below 1"),
    ROW(salt, AE_E_ARG, "salt_pepper", "-1", "at least 0"),
    ROW(salt_high, AE_E_ARG, "salt_pepper", "finite", ""),
    ROW(always, AE_E_ARG, "ae_noise_always", "relu1", "not noise"),
    ROW(fixed, AE_E_ARG, "ae_noise_fixed", "input1", "not noise"),
    ROW(eps, AE_E_ARG, "batch_norm", "eps", "-1e-5"),
    ROW(momentum, AE_E_ARG, "batch_norm", "momentum 1.5", ""),
    ROW(momentum_nan, AE_E_ARG, "batch_norm", "momentum", ""),
};

TEST(image_model_mistakes_are_kept)
{
    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        ae_model *m = ae_model_new(net_arena(1 << 16), 1);
        ae_tensor *x = ae_input(m, 4, 6, 5);
        char first[AE_ERROR_MAX];
        test_context("%s", mistakes[i].name);
        CHECK(mistakes[i].make(x) == NULL);
        CHECK_INT(ae_model_status(m), mistakes[i].status);
        for (int k = 0; k < 3; k++) CHECK_ERROR(ae_error(m), mistakes[i].says[k]);
        snprintf(first, sizeof first, "%s", ae_error(m));
        // a chain built on it passes NULL through, whatever its arguments
        CHECK(ae_conv2d(NULL, -1, 0, 0, -1) == NULL && ae_conv2d(x, 3, 3, 1, 1) == NULL);
        CHECK(ae_conv_transpose2d(NULL, 1, 1, 1, 1, 9) == NULL);
        CHECK(ae_conv1d(NULL, 1, 1, 1, 1) == NULL && ae_conv2d_with(NULL, 3, NULL) == NULL);
        CHECK(ae_conv_transpose2d_with(NULL, 3, NULL) == NULL);
        CHECK(ae_max_pool2d(NULL, 0) == NULL && ae_avg_pool2d(NULL, 0) == NULL);
        CHECK(ae_max_pool2d_with(NULL, NULL) == NULL && ae_avg_pool2d_with(NULL, NULL) == NULL);
        CHECK(ae_global_avg_pool(NULL) == NULL && ae_max_unpool2d(NULL, NULL) == NULL);
        CHECK(ae_upsample_nearest(NULL, 0) == NULL && ae_upsample_bilinear(NULL, -1) == NULL);
        CHECK(ae_resize(NULL, AE_NEAREST, 0, 0) == NULL);
        CHECK(ae_pad2d(NULL, 1, 1, 1, 1, test_nan()) == NULL);
        CHECK(ae_crop2d(NULL, -1, 1, 1, 1) == NULL);
        CHECK(ae_batch_norm(NULL, NULL) == NULL && ae_layer_norm(NULL, NULL) == NULL);
        CHECK(ae_group_norm(NULL, 0, NULL) == NULL && ae_dropout(NULL, 2.0f) == NULL);
        CHECK(ae_spatial_dropout(NULL, 2.0f) == NULL && ae_mask_noise(NULL, 2.0f) == NULL);
        CHECK(ae_gaussian_noise(NULL, -1, 0, 0) == NULL && ae_salt_pepper(NULL, -1, 0, 0) == NULL);
        CHECK(ae_noise_always(NULL) == NULL && ae_noise_fixed(NULL) == NULL);
        CHECK(ae_batch_norm(x, NULL) == NULL && ae_dropout(x, 0.5f) == NULL);
        CHECK(ae_max_unpool2d(x, x) == NULL && ae_mirror(x, NULL, AE_MIRROR_UPSAMPLE) == NULL);
        CHECK_STR(ae_error(m), first);
        CHECK_INT(ae_plan(m, 2, AE_TRAIN), 0);
        CHECK_INT(ae_build(m, 2, AE_TRAIN), mistakes[i].status);
        CHECK_STR(ae_error(m), first);
        CHECK_INT(ae_model_status(m), mistakes[i].status);
    }
}

/* Sizes near the ends of int are a sentence (run it with the sanitizers). */
TEST(image_model_huge)
{
    static const int big[] = { 1 << 15, 1 << 20, 1 << 30, INT32_MAX };
    for (int b = 0; b < 4; b++)
        for (int what = 0; what < 36; what++) {
            ae_model *m = ae_model_new(net_arena(1 << 16), 1);
            ae_tensor *x = ae_input(m, 4, 6, 5), *t = NULL;
            int n = big[b];
            test_context("%d: %d", what, n);
            if (what < 22) {
                t = with(x, what % 2, what / 2, n);
            } else {
                switch (what) {
                case 22: t = ae_conv2d(x, n, 3, 1, 1); break;
                case 23: t = ae_conv2d(x, n, n, n, n); break;
                case 24: t = ae_conv_transpose2d(x, n, n, n, n, n - 1); break;
                case 25: t = ae_max_pool2d(x, n); break;
                case 26: t = pool_with(x, 0, D_H, n); break;
                case 27: t = pool_with(x, 0, P_W, n); break;
                case 28: t = ae_upsample_nearest(x, n); break;
                case 29: t = ae_resize(x, AE_BILINEAR, n, n); break;
                case 30: t = ae_pad2d(x, n, n, n, n, 0); break;
                case 31: t = ae_pad2d(x, -n, n, n, -n, 0); break;
                case 32: t = ae_crop2d(x, n, n, 0, 0); break;
                case 33: t = ae_group_norm(x, n, NULL); break;
                case 34: t = ae_batch_norm(ae_input(m, n, 1, 1), NULL); break;
                default: t = ae_layer_norm(ae_input(m, 1, n / 2, 1), NULL); break;
                }
            }
            CHECK((t != NULL) == (ae_error(m)[0] == 0));
            if (t == NULL) {
                CHECK_INT(ae_build(m, 1, AE_INFER), ae_model_status(m));
                CHECK_ERROR(ae_error(m), "");
                continue;
            }
            // a batch of it does not fit, and this is said
            CHECK(ae_plan(m, 1 << 20, AE_TRAIN) > 1u << 20);
            CHECK_INT(ae_build(m, 1 << 20, AE_TRAIN), AE_E_MEMORY);
            CHECK_ERROR(ae_error(m), "arena too small");
        }
}

TEST_LIST(image_model) {
    CASE(image_model_gradients),
    CASE(image_model_inference_equals_training),
    CASE(image_model_run_from),
    CASE(image_model_predict),
    CASE(image_model_unpool_needs_its_pool),
    CASE(image_model_plan_is_exact),
    CASE(image_model_allocates_nothing),
    CASE(image_model_same_bits_for_any_threads),
    CASE(image_model_golden),
    CASE(image_model_batch_norm_statistics),
    CASE(image_model_batch_norm_names),
    CASE(image_model_batch_of_one),
    CASE(image_model_errors_spare_the_statistics),
    CASE(image_model_noise_in_training_only),
    CASE(image_model_noise_always),
    CASE(image_model_noise_fixed),
    CASE(image_model_noise_of_any_batch),
    CASE(image_model_resume),
    CASE(image_model_dropout_keeps_the_mean),
    CASE(image_model_mirror),
    CASE(image_model_mirror_layers),
    CASE(image_model_mirror_of_what_cannot),
    CASE(image_model_output_padding_advice),
    CASE(image_model_padding_advice),
    CASE(image_model_mistakes_are_kept),
    CASE(image_model_huge),
    CASE_END
};
