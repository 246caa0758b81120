/* What looks into a model: summary, gradient check, first value that is not finite, diagnosis. The
   library is compiled here once more, so that operations can be given wrong backward passes. */
#define AE_STATIC
#define AE_IMPLEMENTATION
#include "test.h"

enum { ROOM = 1 << 22 };

static ae_arena *arena_of(size_t bytes)
{
    static ae_arena arenas[2];
    static int next;
    ae_arena *arena = &arenas[next++ % 2];
    CHECK_INT(ae_arena_init(arena, BLOCK(bytes), bytes), AE_SUCCESS);
    return arena;
}

static ae_model *model_of(size_t bytes, uint64_t seed)
{
    ae_model *m = ae_model_new(arena_of(bytes), seed);
    ae_set_exec(m, test_exec());
    return m;
}

static ae_dataset floats_of(const float *x, size_t n, int c, int h, int w)
{
    ae_dataset d;
    memset(&d, 0, sizeof d);
    d.floats = x;
    d.n = n;
    d.c = c;
    d.h = h;
    d.w = w;
    return d;
}

/* Everything training changes, and what the arena has left: it must come back. */
typedef struct whole { ae_model *m; unsigned char *bytes; size_t used; } whole;

static whole whole_of(ae_model *m)
{
    whole w;
    size_t floats;
    float *g = (float *)ae_segment_data(m, AE_SEG_GRAD, &floats);
    test_fill(g, floats / sizeof(float), -1, 1, 77);    // of an accumulation half done
    w.m = m;
    w.bytes = BYTES(ae_snapshot_bytes(m));
    w.used = ae_arena_used(m->arena);
    CHECK_INT(ae_snapshot(m, w.bytes), AE_SUCCESS);
    return w;
}

static void check_whole(const whole *w)
{
    unsigned char *now = BYTES(ae_snapshot_bytes(w->m));
    const ae_status status = w->m->status;
    memcpy(now, w->m->segment[AE_SEG_PARAM], ae_snapshot_bytes(w->m));
    CHECK(!memcmp(now, w->bytes, ae_snapshot_bytes(w->m)));
    CHECK_INT(ae_arena_used(w->m->arena), w->used);
    CHECK_INT(w->m->status, status);
}

/* --- gradients ------------------------------------------------------------- */

enum { KINDS = 9, BATCH = 6 };

/* Models that have, together, every operation with a gradient; the inputs of BATCH samples set. */
static ae_model *model_kind(int kind)
{
    ae_model *m = model_of(ROOM, 5 + (uint64_t)kind);
    ae_tensor *x = ae_input(m, 2, 8, 8), *labels = ae_labels(m), *h, *y, *z;
    static const int32_t classes[BATCH] = { 0, 4, 2, 1, 3, 2 };
    ae_conv grouped;
    memset(&grouped, 0, sizeof grouped);
    grouped.kernel_h = grouped.kernel_w = 3;
    grouped.pad_h = grouped.pad_w = 1;
    grouped.groups = 2;
    switch (kind) {
    case 0:     // dense, relu, in place; a skip connection
        h = ae_relu(ae_linear(x, 10));
        h = ae_add(ae_linear(h, 10), h);
        ae_minimize(ae_mse(ae_sigmoid(ae_linear(ae_leaky_relu(h, 0.1f), 128)), x, AE_MEAN));
        break;
    case 1:     // pictures
        h = ae_max_pool2d(ae_relu(ae_conv2d(x, 6, 3, 1, 1)), 2);
        h = ae_relu(ae_batch_norm(ae_conv2d_with(h, 4, &grouped), NULL));
        z = ae_max_pool2d(h, 2);
        h = ae_avg_pool2d(ae_max_unpool2d(ae_conv2d(z, 4, 1, 1, 0), z), 2);
        y = ae_conv_transpose2d(ae_upsample_bilinear(h, 2), 2, 2, 2, 0, 0);
        ae_minimize(ae_mse(ae_sigmoid(y), x, AE_BATCH_MEAN));
        break;
    case 2:     // variational, with dropout
        h = ae_dropout(ae_silu(ae_linear(x, 20)), 0.3f);
        y = ae_linear(h, 5);
        z = ae_linear(h, 5);
        ae_minimize_weighted(ae_kl_normal(y, z, 0, AE_BATCH_MEAN), 0.5f);
        z = ae_gaussian_sample(y, z);
        ae_minimize(ae_bce_logits(ae_linear(ae_tanh(ae_linear(z, 20)), 128), x, AE_BATCH_MEAN));
        ae_minimize(ae_mmd(z));
        break;
    case 3:     // tied, with penalties
        h = ae_sigmoid(ae_linear(x, 16));
        ae_minimize(ae_bce(ae_sigmoid(ae_tied(h, h)), x, AE_MEAN));
        ae_minimize_weighted(ae_contractive(h, AE_BATCH_MEAN), 0.01f);
        ae_minimize_weighted(ae_kl_sparsity(h, 0.1f, AE_MEAN), 0.1f);
        ae_minimize_weighted(ae_orthogonal(h), 0.01f);
        ae_minimize_weighted(ae_weight_l2(h), 0.01f);
        break;
    case 4:     // sparse, classified, other normalisations
        h = ae_layer_norm(ae_elu(ae_linear(x, 24), 1), NULL);
        h = ae_top_k(h, 7);
        ae_minimize(ae_cross_entropy(ae_linear(ae_concat(h, ae_one_hot(labels, 5)), 5), labels,
                                     AE_MEAN));
        ae_minimize(ae_l1_penalty(h, AE_MEAN));
        break;
    case 5:     // pictures again
        h = ae_gelu(ae_group_norm(ae_conv2d(ae_mask_noise(x, 0.2f), 4, 3, 2, 1), 2, NULL));
        h = ae_pad2d(ae_spatial_dropout(h, 0.3f), 1, 0, 0, 1, 0);
        y = ae_crop2d(ae_upsample_nearest(ae_conv2d(h, 2, 3, 1, 1), 2), 1, 1, 1, 1);
        ae_minimize(ae_huber(ae_softplus(y), x, 0.4f, AE_MEAN));
        break;
    case 6:     // an importance-weighted bound
        h = ae_gelu_tanh(ae_linear(x, 16));
        y = ae_linear(h, 4);
        z = ae_gaussian_sample(y, ae_linear(h, 4));
        ae_minimize(ae_iwae(ae_log_bernoulli(ae_linear(z, 128), x), ae_log_normal(z, NULL, NULL),
                            ae_log_normal(z, y, z->in[2]), 2, AE_MEAN));
        break;
    case 7:     // quantised: what is before the codebook has no derivative
        h = ae_vq(ae_conv2d(x, 3, 2, 2, 0), NULL);
        ae_minimize(ae_mse(ae_conv_transpose2d(h, 2, 2, 2, 0, 0), x, AE_SUM));
        ae_minimize(ae_vq_loss(h, AE_MEAN));
        break;
    default:    // wide values: 0 to 255
        ae_minimize(ae_mse(ae_linear(ae_relu(ae_linear(x, 9)), 128), x, AE_MEAN));
        break;
    }
    REQUIRE(ae_build(m, BATCH, AE_TRAIN) == AE_SUCCESS);
    CHECK_INT(ae_set(m, x, DATA_IN(BATCH * 128, 0, kind == 8 ? 255 : 1, 3), BATCH), AE_SUCCESS);
    CHECK_INT(ae_set(m, labels, classes, BATCH), AE_SUCCESS);
    return m;
}

typedef struct tally { int seen, by[AE_CHECK_WRONG + 1], elements; const char *last; } tally;

static void count_check(void *user, const ae_check *c)
{
    tally *t = (tally *)user;
    t->seen++;
    t->by[c->verdict]++;
    t->elements += c->right + c->wrong + c->unclear;
    t->last = c->name;
}

static ae_status checked(ae_model *m, int samples, tally *t, ae_check *worst)
{
    ae_check_options o;
    memset(&o, 0, sizeof o);
    memset(t, 0, sizeof *t);
    o.samples = samples;
    o.each = count_check;
    o.user = t;
    return ae_check_gradients(m, BATCH, &o, worst);
}

TEST(tools_check_right)
{
    // a convolution's bias before batch_norm has no effect: its gradient is rounding
    static const int unclear[KINDS] = { 0, 1, 0, 0, 0, 0, 0, 0, 0 };
    static const int skipped[KINDS] = { 0, 0, 0, 0, 0, 0, 0, 2, 0 };
    for (int kind = 0; kind < KINDS; kind++) {
        ae_model *m = model_kind(kind);
        const whole w = whole_of(m);
        ae_check worst;
        tally t;
        test_context("kind %d", kind);
        CHECK_INT(checked(m, 0, &t, &worst), AE_SUCCESS);
        CHECK_STR(ae_error(m), "");
        check_whole(&w);
        CHECK(t.by[AE_CHECK_RIGHT] >= 2);
        CHECK_INT(t.by[AE_CHECK_WRONG] + t.by[AE_CHECK_ZERO], 0);
        CHECK_INT(t.by[AE_CHECK_UNCLEAR], unclear[kind]);
        CHECK_INT(t.by[AE_CHECK_SKIPPED], skipped[kind]);
        CHECK_INT(worst.verdict, unclear[kind] ? AE_CHECK_UNCLEAR : skipped[kind]
                  ? AE_CHECK_SKIPPED : AE_CHECK_RIGHT);
        if (kind == 0) CHECK(worst.error < 0.005);
    }
    test_context(NULL);
}

/* Every element where there are few, and what the report holds. */
TEST(tools_check_report)
{
    ae_model *m = model_of(ROOM, 1);
    ae_tensor *x = ae_input(m, 3, 1, 1), *y = ae_linear(x, 2);
    ae_check worst;
    tally t;
    ae_minimize(ae_mse(y, x, AE_SUM));      // sizes that do not fit: a mistake
    CHECK_INT(ae_build(m, 4, AE_TRAIN), AE_E_SHAPE);
    m = model_of(ROOM, 1);
    x = ae_input(m, 3, 1, 1);
    y = ae_linear(x, 3);
    ae_minimize_weighted(ae_mse(y, x, AE_SUM), 0.5f);
    REQUIRE(ae_build(m, BATCH, AE_TRAIN) == AE_SUCCESS);
    float *in = DATA(3 * BATCH, 2), *w = ae_param_data(m, ae_weight(y));
    ae_set(m, x, in, BATCH);
    CHECK_INT(checked(m, -1, &t, &worst), AE_SUCCESS);
    CHECK_INT(t.seen, 2);
    CHECK_INT(t.elements, 9 + 3);
    CHECK_STR(t.last, "linear1.bias");
    // 0.5 sum (w x + b - x)^2 by w[i][j]: sum over samples of the error times x[j]
    const size_t i = worst.index / 3, j = worst.index % 3;
    const float *b = ae_param_data(m, ae_bias(y));
    double want = 0;
    for (int k = 0; k < BATCH; k++) {
        double off = (double)b[i] - (double)in[k * 3 + (int)i];
        for (int l = 0; l < 3; l++) off += (double)w[i * 3 + (size_t)l] * (double)in[k * 3 + l];
        want += off * (double)in[k * 3 + (int)j];
    }
    CHECK_STR(worst.name, "linear1.weight");
    CHECK_INT(worst.elements, 9);
    CHECK_CLOSE(worst.analytic, want, 1e-5);
    CHECK_CLOSE(worst.numeric, want, 1e-4);         // 2e-7 of a loss of 3 over a step of 0.25
    CHECK_CLOSE(worst.slope, worst.numeric_slope, 1e-4 * worst.slope);
}

/* A backward pass that does more than it should. */
enum { DX_DOUBLED, DX_NEGATED, DX_ONE, DW_DOUBLED, DW_NEGATED, DW_ONE, DW_LEFT_OUT, ALL_LEFT_OUT,
       DW_LARGEST, DX_NAN, FAULTS };
static ae__op faulty_op;
static const ae__op *true_op;
static int fault;
static size_t faulty_index;

static void faulty_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                            float *const *d)
{
    const size_t size = (size_t)n * ae__size(t->in[0]);
    float *w = ae__weight_grads(m, t->weight);
    true_op->backward(m, t, n, dy, d);
    for (size_t i = 0; d[0] && i < size; i++)
        if (fault == DX_DOUBLED || fault == DX_NEGATED || fault == ALL_LEFT_OUT)
            d[0][i] *= fault == DX_DOUBLED ? 2.0f : fault == DX_NEGATED ? -1.0f : 0.0f;
    if (d[0] && fault == DX_ONE) d[0][size / 2] *= 2.0f;
    if (d[0] && fault == DX_NAN) d[0][size - 1] = test_nan();
    for (size_t i = 0; w && i < t->weight->count; i++)
        if (fault == DW_DOUBLED || fault == DW_NEGATED || fault == DW_LEFT_OUT
            || fault == ALL_LEFT_OUT)
            w[i] *= fault == DW_DOUBLED ? 2.0f : fault == DW_NEGATED ? -1.0f : 0.0f;
    // one element that counts: the last one above the root mean square
    size_t one = w ? t->weight->count : 0;
    double squares = 0;
    for (size_t i = 0; i < one; i++) squares += (double)w[i] * (double)w[i] / (double)one;
    while (one > 0 && (double)w[one - 1] * (double)w[one - 1] < squares) one--;
    for (size_t i = 0; w && fault == DW_LARGEST && i < t->weight->count; i++)
        if (i == 0 || fabsf(w[i]) > fabsf(w[one - 1])) one = i + 1;
    if (one > 0 && (fault == DW_ONE || fault == DW_LARGEST)) w[faulty_index = one - 1] *= -1.0f;
}

static ae_tensor *break_layer(ae_model *m, const char *name, int how)
{
    ae_tensor *t = m->first;
    while (t && strcmp(t->name, name)) t = t->next;
    REQUIRE(t != NULL);
    fault = how;
    true_op = t->op;
    faulty_op = *t->op;
    faulty_op.backward = faulty_backward;
    t->op = &faulty_op;
    return t;
}

TEST(tools_check_wrong)
{
    // one: where a single wrong element is tried too, with all elements: it takes long. A single
    // wrong value must pass on to enough; in a picture it is one of hundreds that are summed
    enum { NO, OF_W, OF_BOTH };
    static const struct { int kind; const char *layer, *before; int one; } place[] = {
        { 0, "linear2", "linear1.", OF_BOTH }, { 1, "conv2d2", "conv2d1.", OF_W },
        { 1, "batch_norm1", "conv2d2.", OF_BOTH }, { 1, "conv_transpose2d1", "conv2d3.", OF_BOTH },
        { 2, "linear4", "linear3.", NO }, { 4, "linear2", "layer_norm1.", NO },
        { 5, "conv2d2", "group_norm1.", OF_W }, { 6, "linear2", "linear1.", NO },
        { 8, "linear2", "linear1.", NO }
    };
    for (size_t i = 0; i < sizeof place / sizeof place[0]; i++)
        for (int how = 0; how < ALL_LEFT_OUT; how++) {
            if (place[i].one < (how == DX_ONE ? OF_BOTH : how == DW_ONE ? OF_W : NO)) continue;
            ae_model *m = model_kind(place[i].kind);
            const ae_tensor *t = break_layer(m, place[i].layer, how);
            const whole w = whole_of(m);
            ae_check worst;
            tally tally_;
            test_context("kind %d, %s, fault %d", place[i].kind, place[i].layer, how);
            CHECK_INT(checked(m, how == DX_ONE || how == DW_ONE ? -1 : 0, &tally_, &worst),
                      AE_E_GRADIENT);
            check_whole(&w);
            CHECK_INT(worst.verdict, AE_CHECK_WRONG);
            const int weights = how >= DW_DOUBLED && how <= DW_LEFT_OUT;
            if (weights) CHECK_STR(worst.name, t->weight->name);
            if (weights) CHECK_INT(tally_.by[AE_CHECK_WRONG], 1);
            if (!weights) CHECK(!strncmp(worst.name, place[i].before, strlen(place[i].before)));
            if (how == DW_ONE) CHECK_INT(worst.index, faulty_index);
            if (how == DW_ONE) CHECK_CLOSE(worst.numeric, -worst.analytic,
                                           0.02 * fabs(worst.analytic));
            if (how == DW_NEGATED) CHECK_CLOSE(worst.slope, -worst.numeric_slope,
                                               0.02 * fabs(worst.slope));
            CHECK_ERROR(ae_error(m), "by ae_backward and");
        }
    test_context(NULL);
}

/* Corners that are not held: |x| of losses and weights, noise cut off. Never called wrong. */
TEST(tools_check_corners)
{
    for (int i = 0; i < 24; i++) {
        ae_model *m = model_of(ROOM, 100 + (uint64_t)i);
        ae_tensor *x = ae_input(m, 20, 1, 1), *h = ae_relu(ae_linear(x, 12));
        ae_check worst;
        tally t;
        test_context("model %d", i);
        if (i % 3 == 1) h = ae_gaussian_noise(h, 0.3f, 0, 1);
        ae_tensor *y = ae_linear(h, 20);
        if (i % 3 == 0) ae_minimize(ae_l1(y, x, AE_MEAN));
        if (i % 3 == 1) ae_minimize(ae_mse(y, x, AE_MEAN));
        if (i % 3 == 2) ae_minimize(ae_smooth_l1(y, x, 0.05f, AE_MEAN));
        ae_minimize_weighted(ae_weight_l1(y), 0.01f);
        REQUIRE(ae_build(m, BATCH, AE_TRAIN) == AE_SUCCESS);
        CHECK_INT(ae_set(m, x, DATA(BATCH * 20, 9 + (uint32_t)i), BATCH), AE_SUCCESS);
        CHECK_INT(checked(m, 20, &t, &worst), AE_SUCCESS);
        CHECK_INT(t.by[AE_CHECK_RIGHT], 4);
    }
    test_context(NULL);
}

/* The largest gradient is the first to be tried. */
TEST(tools_check_largest)
{
    ae_model *m = model_kind(0);
    ae_check worst;
    tally t;
    break_layer(m, "linear2", DW_LARGEST);
    CHECK_INT(checked(m, 1, &t, &worst), AE_E_GRADIENT);
    CHECK_INT(worst.wrong, 1);
    CHECK_INT(worst.index, faulty_index);
    CHECK_INT(t.elements, t.seen);
}

/* Nothing to test is not success; a gradient that is forgotten is not nothing. */
TEST(tools_check_vacuous)
{
    for (int forgotten = 0; forgotten < 2; forgotten++) {
        ae_model *m = model_of(ROOM, 3);
        ae_tensor *x = ae_input(m, 4, 1, 1), *y = ae_linear(x, 4);
        ae_check worst;
        tally t;
        ae_minimize(ae_mse(forgotten ? y : ae_relu(y), x, AE_MEAN));
        REQUIRE(ae_build(m, BATCH, AE_TRAIN) == AE_SUCCESS);
        for (int i = 0; i < 4 && !forgotten; i++) ae_param_data(m, ae_bias(y))[i] = -100;
        ae_set(m, x, DATA(4 * BATCH, 1), BATCH);
        if (forgotten) break_layer(m, "linear1", ALL_LEFT_OUT);
        CHECK_INT(checked(m, 0, &t, &worst), AE_E_GRADIENT);
        CHECK_INT(t.by[AE_CHECK_ZERO], forgotten ? 0 : 2);
        CHECK_INT(t.by[AE_CHECK_WRONG], forgotten);
        CHECK_INT(worst.verdict, forgotten ? AE_CHECK_WRONG : AE_CHECK_ZERO);
        CHECK_ERROR(ae_error(m), forgotten ? "linear1.weight: the " : "all are 0");
    }
}

TEST(tools_check_refuses)
{
    ae_model *m = model_kind(0);
    ae_check_options o;
    ae_check worst;
    whole w = whole_of(m);
    memset(&o, 0, sizeof o);
    memset(&worst, 0, sizeof worst);
    CHECK_INT(ae_check_gradients(NULL, 1, NULL, NULL), AE_E_ARG);
    CHECK_INT(ae_check_gradients(m, BATCH + 1, NULL, &worst), AE_E_ARG);
    o.tolerance = test_nan();
    CHECK_INT(ae_check_gradients(m, 2, &o, &worst), AE_E_ARG);
    o.tolerance = 0;
    o.step = -1;
    CHECK_INT(ae_check_gradients(m, 2, &o, &worst), AE_E_ARG);
    CHECK_ERROR(ae_error(m), "step -1");
    CHECK(worst.name == NULL);
    CHECK_INT(ae_check_gradients(m, 2, NULL, NULL), AE_SUCCESS);
    check_whole(&w);
    // data that is not finite; an arena that is full
    float *x = ae_get(m, m->first);
    x[5] = test_inf();
    CHECK_INT(ae_check_gradients(m, 2, NULL, &worst), AE_E_NUMERIC);
    CHECK_ERROR(ae_error(m), "input1 (sample 0)");
    x[5] = 0;
    check_whole(&w);
    REQUIRE(ae_alloc(m->arena, ae_arena_left(m->arena) / 64 * 64 - 64) != NULL);
    w.used = ae_arena_used(m->arena);
    CHECK_INT(ae_check_gradients(m, 2, NULL, &worst), AE_E_MEMORY);
    CHECK_ERROR(ae_error(m), "ae_check_gradients borrows");
    CHECK_INT(ae_find_nonfinite(m, 2, NULL), AE_E_MEMORY);
    check_whole(&w);
    m = model_of(ROOM, 1);
    ae_linear(ae_input(m, 2, 1, 1), 2);
    CHECK_INT(ae_check_gradients(m, 1, NULL, NULL), AE_E_ARG);
    REQUIRE(ae_build(m, 2, AE_TRAIN) == AE_SUCCESS);
    CHECK_INT(ae_check_gradients(m, 1, NULL, NULL), AE_E_ARG);
    CHECK_ERROR(ae_error(m), "no loss");
}

/* --- values that are not finite -------------------------------------------- */

static void check_found(ae_model *m, const char *name, const char *what, const char *value,
                        int sample, size_t index)
{
    const whole w = whole_of(m);
    ae_nonfinite r;
    memset(&r, 0, sizeof r);
    test_context("%s", name);
    CHECK_INT(ae_find_nonfinite(m, BATCH, NULL), AE_E_NUMERIC);
    CHECK_INT(ae_find_nonfinite(m, BATCH, &r), AE_E_NUMERIC);
    check_whole(&w);
    CHECK_ERROR(ae_error(m), name);
    CHECK_ERROR(ae_error(m), value);
    REQUIRE(r.name != NULL);
    CHECK_STR(r.name, name);
    CHECK_STR(r.what, what);
    CHECK_STR(r.value, value);
    CHECK_INT(r.sample, sample);
    CHECK_INT(r.index, index);
    test_context(NULL);
}

static float exchange(float *at, float value)
{
    const float before = *at;
    *at = value;
    return before;
}

TEST(tools_nonfinite)
{
    ae_model *m = model_kind(1);
    ae_nonfinite r;
    float *x = ae_get(m, m->first), *p, *s, before;
    size_t bytes;
    r.name = "not yet";
    CHECK_INT(ae_find_nonfinite(m, BATCH, &r), AE_SUCCESS);
    CHECK(r.name == NULL);
    before = exchange(&x[128 * 4 + 77], -test_inf());
    check_found(m, "input1", "value", "-infinity", 4, 77);
    x[128 * 4 + 77] = before;
    p = ae_param_data(m, ae_param_find(m, "conv2d2.weight"));
    before = exchange(&p[11], test_nan());
    check_found(m, "conv2d2.weight", "parameter", "NaN", -1, 11);
    p[11] = before;
    p = ae_param_data(m, ae_param_find(m, "batch_norm1.running_var"));
    before = exchange(&p[3], test_inf());
    check_found(m, "batch_norm1.running_var", "parameter", "infinity", -1, 3);
    p[3] = before;
    // where a value begins to be infinite: not the data, not the weights, not what comes after
    static const char *const wide[] = { "conv2d3.weight", "conv_transpose2d1.weight" };
    for (int back = 0; back < 2; back++) {
        for (int k = 0; k < 2; k++) {
            p = ae_param_data(m, ae_param_find(m, wide[k]));
            for (size_t i = 0; i < ae_param_size(ae_param_find(m, wide[k])); i++)
                p[i] *= back ? 1e-30f : 1e30f;
        }
        CHECK_INT(ae_find_nonfinite(m, BATCH, &r), back ? AE_SUCCESS : AE_E_NUMERIC);
        if (!back) CHECK_STR(r.name, "conv_transpose2d1");
        if (!back) CHECK_STR(r.what, "value");
    }
    s = (float *)ae_segment_data(m, AE_SEG_OPT, &bytes);
    s[7] = test_inf();
    check_found(m, "optimiser", "optimiser state", "infinity", -1, 7);
    s[7] = 0;
    break_layer(m, "conv2d2", DX_NAN);
    check_found(m, "max_pool2d1", "gradient", "NaN", BATCH - 1, 6 * 16 - 1);
    // n: samples beyond are not looked at
    CHECK_INT(ae_set(m, m->first, DATA(128 * 2, 3), 2), AE_SUCCESS);
    fault = FAULTS;
    x[128 * 3] = test_nan();
    CHECK_INT(ae_find_nonfinite(m, 2, &r), AE_SUCCESS);
    CHECK_INT(ae_find_nonfinite(m, BATCH + 1, &r), AE_E_ARG);
    CHECK_INT(ae_find_nonfinite(NULL, 1, &r), AE_E_ARG);
}

/* A relu turns minus infinity into 0, where nobody sees it any more; a loss that is finite can have
   a gradient that is not. */
TEST(tools_nonfinite_hidden)
{
    for (int gradient = 0; gradient < 2; gradient++) {
        ae_model *m = model_of(ROOM, 1);
        ae_tensor *x = ae_input(m, 2, 1, 1), *target = ae_input(m, 2, 1, 1), *y = ae_linear(x, 2);
        static const float wide[2 * BATCH] = { 0, 0, 0, 0, 0, 1e12f };
        float *zero = (float *)DOUBLES(BATCH);
        ae_minimize_weighted(ae_mse(gradient ? y : ae_relu(y), target, AE_SUM), 1e30f);
        REQUIRE(ae_build(m, BATCH, AE_TRAIN) == AE_SUCCESS);
        float *w = ae_param_data(m, ae_weight(y)), *b = ae_param_data(m, ae_bias(y));
        ae_set(m, x, wide, BATCH);
        ae_set(m, target, zero, BATCH);
        for (int i = 0; i < 4; i++) w[i] = 0;
        b[0] = b[1] = 1e-3f;
        if (!gradient) w[3] = -3e38f;
        CHECK_INT(ae_forward(m, BATCH), AE_SUCCESS);
        if (gradient) check_found(m, "linear1.weight", "parameter gradient", "infinity", -1, 1);
        else check_found(m, "linear1", "value", "-infinity", 2, 1);
    }
}

/* Without training: weights and values, of a fork too. */
TEST(tools_nonfinite_infer)
{
    ae_model *m = model_of(ROOM, 1), *f;
    ae_tensor *x = ae_input(m, 3, 1, 1), *y = ae_linear(ae_relu(ae_linear(x, 5)), 3);
    ae_nonfinite r;
    ae_mse(y, x, AE_MEAN);
    REQUIRE(ae_build(m, BATCH, AE_INFER) == AE_SUCCESS);
    REQUIRE((f = ae_fork(m, m->arena, BATCH)) != NULL);
    ae_set(f, x, DATA(3 * BATCH, 1), BATCH);
    CHECK_INT(ae_find_nonfinite(f, BATCH, &r), AE_SUCCESS);
    ae_get(f, x)[7] = test_nan();
    CHECK_INT(ae_find_nonfinite(f, BATCH, &r), AE_E_NUMERIC);
    CHECK_STR(r.name, "input1");
    CHECK_INT(r.sample, 2);
    CHECK_INT(r.index, 1);
    ae_param_data(m, ae_weight(y))[4] = test_inf();
    CHECK_INT(ae_find_nonfinite(m, BATCH, &r), AE_E_NUMERIC);
    CHECK_STR(r.name, "linear2.weight");
    CHECK_INT(r.index, 4);
}

/* --- why it does not learn -------------------------------------------------- */

typedef struct findings { ae_diagnosis of[24]; char advice[24][AE_ERROR_MAX]; int n; } findings;

static void keep_diagnosis(void *user, const ae_diagnosis *r)
{
    findings *f = (findings *)user;
    REQUIRE(f->n < 24);
    snprintf(f->advice[f->n], AE_ERROR_MAX, "%s", r->advice);
    f->of[f->n++] = *r;
}

static const ae_diagnosis *finding(const findings *f, const char *name)
{
    for (int i = 0; i < f->n; i++)
        if (!strcmp(f->of[i].name, name)) return &f->of[i];
    REQUIRE(!"a tensor without a diagnosis");
    return NULL;
}

static int advices(const findings *f)
{
    int count = 0;
    for (int i = 0; i < f->n; i++) count += f->advice[i][0] != 0;
    return count;
}

typedef struct patient {
    ae_model *m;
    ae_tensor *x, *first, *relu, *tanh_, *y;
    ae_dataset d;
    ae_optim o;
    findings f;
} patient;

/* 20 samples of 12 in batches of 8. */
static void patient_of(patient *p, double low, double high)
{
    memset(p, 0, sizeof *p);
    p->m = model_of(ROOM, 11);
    p->x = ae_input(p->m, 12, 1, 1);
    p->first = ae_linear(p->x, 16);
    p->relu = ae_relu(p->first);
    p->tanh_ = ae_tanh(ae_linear(p->relu, 10));
    p->y = ae_sigmoid(ae_linear(p->tanh_, 12));
    ae_minimize(ae_mse(p->y, p->x, AE_MEAN));
    REQUIRE(ae_build(p->m, 8, AE_TRAIN) == AE_SUCCESS);
    p->d = floats_of(DATA_IN(12 * 20, low, high, 4), 20, 12, 1, 1);
}

static ae_status examined(patient *p)
{
    const whole w = whole_of(p->m);
    p->f.n = 0;
    const ae_status status = ae_diagnose(p->m, &p->d, &p->o, keep_diagnosis, &p->f);
    check_whole(&w);
    return status;
}

/* Every number of a healthy model against what the calls of training give. */
TEST(tools_diagnose_numbers)
{
    patient p;
    patient_of(&p, 0, 1);
    ae_epoch(p.m, &p.d, &p.o);          // an optimiser with a past
    ae_param *weight = ae_weight(p.first);
    float *w = ae_param_data(p.m, weight);
    for (int i = 0; i < 16; i++) ae_param_data(p.m, ae_bias(p.first))[i] *= i < 3 ? -9.0f : 1.0f;
    for (int i = 0; i < 160; i++) ae_param_data(p.m, ae_weight(p.tanh_->in[0]))[i] *= 4.0f;
    CHECK_INT(examined(&p), AE_SUCCESS);
    CHECK_STR(ae_error(p.m), "");
    CHECK_INT(advices(&p.f), 0);
    CHECK_INT(p.f.n, 8);
    float *relu = OUT(16 * 20), *flat = OUT(10 * 20);
    CHECK_INT(ae_predict_dataset(p.m, p.relu, relu, &p.d), AE_SUCCESS);
    CHECK_INT(ae_predict_dataset(p.m, p.tanh_, flat, &p.d), AE_SUCCESS);
    int dead = 0, saturated = 0;
    float high = 0;
    for (int j = 0; j < 16; j++) {
        int on = 0;
        for (int i = 0; i < 20; i++) on += relu[i * 16 + j] > 0;
        dead += !on;
    }
    for (int i = 0; i < 200; i++) saturated += fabsf(flat[i]) > 0.9f;
    for (int i = 0; i < 320; i++) high = relu[i] > high ? relu[i] : high;
    CHECK(dead > 0 && saturated > 0);
    CHECK_INT(finding(&p.f, "relu1")->units, 16);
    CHECK_INT(finding(&p.f, "relu1")->dead, dead);
    CHECK_CLOSE(finding(&p.f, "relu1")->high, high, 1e-6);
    CHECK_CLOSE(finding(&p.f, "tanh1")->saturated, saturated / 200.0, 1e-6);
    double sums[3] = { 0, 0, 0 };       // of squares: weights, gradient, update
    float *before = COPY(w, 192);
    ae_zero_grad(p.m);
    CHECK_INT(ae_feed(p.m, &p.d, 0, 8, 0), AE_SUCCESS);
    CHECK_INT(ae_forward(p.m, 8), AE_SUCCESS);
    CHECK_INT(ae_backward(p.m, 1), AE_SUCCESS);
    for (int i = 0; i < 192; i++) {
        const double g = (double)ae_param_grad(p.m, weight)[i];
        sums[0] += (double)w[i] * (double)w[i];
        sums[1] += g * g;
    }
    CHECK_INT(ae_step(p.m, &p.o), AE_SUCCESS);
    for (int i = 0; i < 192; i++) {
        const double step = (double)w[i] - (double)before[i];
        sums[2] += step * step;
    }
    const ae_diagnosis *r = finding(&p.f, "linear1");
    CHECK_CLOSE(r->weight, sqrt(sums[0]), 1e-5 * r->weight);
    CHECK_CLOSE(r->gradient, sqrt(sums[1]), 1e-5 * r->gradient);
    CHECK_CLOSE(r->update, sqrt(sums[2]), 1e-4 * r->update);
}

static void check_advice(patient *p, const char *name, const char *part)
{
    test_context("%s", part);
    CHECK_INT(examined(p), AE_W_TRAINING);
    const ae_diagnosis *r = finding(&p->f, name);
    CHECK_ERROR(p->f.advice[r - p->f.of], part);
    CHECK(strlen(ae_error(p->m)) > 0);
    CHECK_INT(ae_diagnose(p->m, &p->d, &p->o, NULL, NULL), AE_W_TRAINING);
    test_context(NULL);
}

TEST(tools_diagnose_advice)
{
    patient p;
    patient_of(&p, 0, 1);
    for (int i = 0; i < 16; i++) ae_param_data(p.m, ae_bias(p.first))[i] = i < 7 ? -100 : 1;
    check_advice(&p, "relu1", "relu1: 7 of 16 units are 0 for all 20 samples");
    CHECK_ERROR(ae_error(p.m), "7 of 16");
    for (int i = 0; i < 16; i++) ae_param_data(p.m, ae_bias(p.first))[i] = -100;
    check_advice(&p, "linear1", "no gradient reaches its weights");
    patient_of(&p, 0, 1);
    for (int i = 0; i < 160; i++) ae_param_data(p.m, ae_weight(p.tanh_->in[0]))[i] *= 100;
    check_advice(&p, "tanh1", "% of its values are where it is flat");
    patient_of(&p, 0, 255);
    check_advice(&p, "input1", "input1: its values go from ");
    check_advice(&p, "mse1", "sigmoid1 gives nothing above 1");
    patient_of(&p, -0.5, 0.9);
    check_advice(&p, "mse1", "sigmoid1 gives nothing below 0");
    patient_of(&p, 0.25, 0.25);
    check_advice(&p, "input1", "all its values are 0.25");
    patient_of(&p, 0, 1);
    p.o.lr = 0.1f;
    check_advice(&p, "linear1", "lower the learning rate");
    p.o.lr = 1e-8f;
    check_advice(&p, "linear1", "raise the learning rate");
    // an output may be saturated: black and white pixels want that
    patient_of(&p, 0, 1);
    for (int i = 0; i < 12; i++) ae_param_data(p.m, ae_bias(p.y->in[0]))[i] = i % 2 ? 6 : -6;
    CHECK_INT(examined(&p), AE_SUCCESS);
    CHECK(finding(&p.f, "sigmoid1")->saturated > 0.9);
}

TEST(tools_diagnose_pictures)
{
    // channels are the units of a picture's relu; what is normalised and quantised comes through
    ae_model *m = model_kind(1);
    findings f;
    f.n = 0;
    ae_dataset d = floats_of(DATA_IN(128 * 15, 0, 1, 6), 15, 2, 8, 8);
    d.labels = INTS(15);
    ae_optim o;
    memset(&o, 0, sizeof o);
    for (int i = 0; i < 4; i++) ae_param_data(m, ae_param_find(m, "conv2d1.bias"))[i] = -50;
    const whole w = whole_of(m);
    CHECK_INT(ae_diagnose(m, &d, &o, keep_diagnosis, &f), AE_W_TRAINING);
    check_whole(&w);
    CHECK_ERROR(ae_error(m), "relu1: 4 of 6 units are 0 for all 15 samples");
    m = model_kind(7);
    const whole w7 = whole_of(m);
    CHECK_INT(ae_diagnose(m, &d, &o, NULL, NULL), AE_SUCCESS);
    check_whole(&w7);
    d.n = 0;
    CHECK_INT(ae_diagnose(m, &d, &o, NULL, NULL), AE_E_ARG);
    CHECK_INT(ae_diagnose(NULL, &d, &o, NULL, NULL), AE_E_ARG);
    d.n = 15;
    CHECK_INT(ae_diagnose(m, &d, NULL, NULL, NULL), AE_E_ARG);
    REQUIRE(ae_alloc(m->arena, ae_arena_left(m->arena) / 64 * 64 - 64) != NULL);
    CHECK_INT(ae_diagnose(m, &d, &o, NULL, NULL), AE_E_MEMORY);
    CHECK_INT(ae_overfit_test(m, &d, &o, 1, NULL), AE_E_MEMORY);
    CHECK_ERROR(ae_error(m), "ae_overfit_test borrows");
}

/* --- one batch by heart ------------------------------------------------------ */

TEST(tools_overfit)
{
    patient p;
    double ratio = -1, after;
    patient_of(&p, 0, 1);
    p.o.lr = 0.02f;
    const whole w = whole_of(p.m);
    CHECK_INT(ae_overfit_test(p.m, &p.d, &p.o, 0, &ratio), AE_SUCCESS);
    check_whole(&w);
    CHECK(ratio > 0 && ratio < 0.1);
    // the same by hand: steps on the first batch
    CHECK_INT(ae_overfit_test(p.m, &p.d, &p.o, 3, &ratio), AE_W_TRAINING);
    CHECK_INT(ae_feed(p.m, &p.d, 0, 8, 0), AE_SUCCESS);
    CHECK_INT(ae_forward(p.m, 8), AE_SUCCESS);
    const double loss = (double)ae_batch_loss(p.m, NULL);
    for (int i = 0; i < 3; i++) {
        ae_zero_grad(p.m);
        CHECK_INT(ae_backward(p.m, 1), AE_SUCCESS);
        CHECK_INT(ae_step(p.m, &p.o), AE_SUCCESS);
        CHECK_INT(ae_forward(p.m, 8), AE_SUCCESS);
    }
    after = (double)ae_batch_loss(p.m, NULL);
    CHECK_CLOSE(ratio, after / loss, 1e-6);
    CHECK_INT(ae_restore(p.m, w.bytes, ae_snapshot_bytes(p.m)), AE_SUCCESS);
    p.o.lr = 1e-7f;
    CHECK_INT(ae_overfit_test(p.m, &p.d, &p.o, 20, NULL), AE_W_TRAINING);
    CHECK_ERROR(ae_error(p.m), "raise the learning rate");
    for (int i = 0; i < 16; i++) ae_param_data(p.m, ae_bias(p.first))[i] = -100;
    p.o.lr = 0.02f;     // dead: the last layer alone learns what the samples have in common
    CHECK_INT(ae_overfit_test(p.m, &p.d, &p.o, 0, &ratio), AE_W_TRAINING);
    CHECK(ratio > 0.1);
    CHECK_INT(ae_overfit_test(p.m, &p.d, &p.o, -1, &ratio), AE_E_ARG);
    CHECK_INT(ae_overfit_test(NULL, &p.d, &p.o, 1, &ratio), AE_E_ARG);
    p.o.kind = AE_SGD;
    p.o.lr = 1e30f;
    const whole dead = whole_of(p.m);
    const ae_status status = ae_overfit_test(p.m, &p.d, &p.o, 9, &ratio);
    CHECK(status == AE_W_TRAINING || status == AE_E_NUMERIC);
    check_whole(&dead);
}

/* The entropy of soft targets is not held against a BCE, of probabilities or of logits. */
TEST(tools_overfit_entropy)
{
    for (int logits = 0; logits < 2; logits++) {
        ae_model *m = model_of(ROOM, 2);
        ae_tensor *x = ae_input(m, 6, 1, 1), *y = ae_linear(ae_tanh(ae_linear(x, 20)), 6);
        ae_optim o;
        double ratio = 1;
        memset(&o, 0, sizeof o);
        o.lr = 0.02f;
        ae_minimize_weighted(logits ? ae_bce_logits(y, x, AE_SUM)
                             : ae_bce(ae_sigmoid(y), x, AE_SUM), 3);
        REQUIRE(ae_build(m, 4, AE_TRAIN) == AE_SUCCESS);
        ae_dataset d = floats_of(DATA_IN(6 * 4, 0.1, 0.9, 1), 4, 6, 1, 1);
        CHECK_INT(ae_overfit_test(m, &d, &o, 0, &ratio), AE_SUCCESS);
        CHECK(ratio < 0.05);
        CHECK_INT(ae_overfit_test(m, &d, &o, 1, &ratio), AE_W_TRAINING);
        CHECK(ratio > 0.5 && ratio < 1);
    }
}

/* --- the summary -------------------------------------------------------------- */

/* The numbers in the last three columns of the line that begins with `name`. */
static void numbers_of(const char *text, const char *name, double got[3])
{
    char line[200], *word[16];
    int words = 0;
    const char *at = text;
    while (at && strncmp(at, name, strlen(name))) {
        at = strchr(at, '\n');
        at = at ? at + 1 : NULL;
    }
    REQUIRE(at != NULL && *at);
    snprintf(line, sizeof line, "%.*s", (int)strcspn(at, "\n"), at);
    for (char *p = strtok(line, " "); p && words < 16; p = strtok(NULL, " ")) word[words++] = p;
    for (int i = 0; i < 3; i++) {
        got[i] = 0;
        for (const char *p = word[words - 3 + i]; *p; p++)
            if (*p >= '0' && *p <= '9') got[i] = got[i] * 10 + (*p - '0');
    }
}

TEST(tools_summary_text)
{
    ae_model *m = model_of(ROOM, 1);
    ae_tensor *x = ae_input(m, 1, 28, 28);
    ae_tensor *z = ae_name(ae_linear(ae_relu(ae_linear(x, 64)), 16), "code");
    ae_minimize(ae_mse(ae_sigmoid(ae_linear(z, 784)), x, AE_MEAN));
    static const char *const want =
        "name      kind     shape    parameters    bytes  multiply-adds\n"
        "input1    input    1x28x28           -   31,360              -\n";
    char text[4000], part[101];
    const size_t length = ae_summary(m, 10, AE_TRAIN, text, sizeof text);
    CHECK_INT(length, strlen(text));
    CHECK(!strncmp(text, want, strlen(want)));
    // columns: every line of the table is as long as its head
    size_t lines = 0;
    for (const char *at = text; *at >= 'a'; at = strchr(at, '\n') + 1, lines++)
        CHECK_INT(strcspn(at, "\n"), strcspn(text, "\n"));
    CHECK_INT(lines, 1 + 7 + 1);
    // a place too small holds the beginning; the length is told all the same
    CHECK_INT(ae_summary(m, 10, AE_TRAIN, NULL, 0), length);
    memset(part, 'x', sizeof part);
    CHECK_INT(ae_summary(m, 10, AE_TRAIN, part, 100), length);
    CHECK_INT(strlen(part), 99);
    CHECK(!strncmp(part, text, 99));
    CHECK_INT(part[100], 'x');
    REQUIRE(ae_build(m, 10, AE_TRAIN) == AE_SUCCESS);
    char *again = (char *)BYTES(length + 1);
    CHECK_INT(ae_summary(m, 10, AE_TRAIN, again, length + 1), length);
    CHECK_STR(again, text);
    CHECK_INT(ae_summary(m, 0, AE_TRAIN, again, length + 1), 0);
    CHECK_STR(again, "");
    CHECK_INT(ae_model_status(m), AE_E_ARG);
    CHECK_INT(ae_summary(NULL, 1, AE_TRAIN, NULL, 0), 0);
}

TEST(tools_summary_counts)
{
    ae_model *m = model_of(ROOM, 1);
    ae_tensor *x = ae_input(m, 2, 9, 9);
    ae_conv o;
    memset(&o, 0, sizeof o);
    o.kernel_h = o.kernel_w = 3;
    o.groups = 2;
    ae_tensor *h = ae_relu(ae_conv2d_with(x, 4, &o));               // 4x7x7, from 1 channel each
    h = ae_batch_norm(h, NULL);
    h = ae_vq(ae_conv2d(h, 3, 3, 2, 0), NULL);                      // 3x3x3, 512 codes
    h = ae_conv_transpose2d(h, 2, 3, 3, 0, 0);                      // 2x9x9
    ae_tensor *code = ae_linear(h, 10);
    ae_tensor *y = ae_tied(code, code);
    ae_minimize(ae_mse(y, x, AE_MEAN));
    ae_minimize(ae_weight_l2(code));
    static const struct { const char *name; double parameters, adds; } want[] = {
        { "input1 ", 0, 0 }, { "conv2d1 ", 4 * 9 + 4, 4 * 49 * 9 }, { "relu1 ", 0, 0 },
        { "batch_norm1 ", 8, 0 }, { "conv2d2 ", 3 * 4 * 9 + 3, 27 * 36 },
        { "vq1 ", 0, 9 * 512 * 3 },
        { "conv_transpose2d1 ", 3 * 2 * 9 + 2, 27 * 18 }, { "linear1 ", 1620 + 10, 1620 },
        { "tied_linear1 ", 162, 1620 }, { "mse1 ", 0, 0 }, { "weight_l21 ", 0, 0 }
    };
    char text[4000];
    for (int mode = 0; mode < 2; mode++) {
        double sum[3] = { 0, 0, 0 }, got[3];
        REQUIRE(ae_summary(m, 5, mode ? AE_TRAIN : AE_INFER, text, sizeof text) > 0);
        for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
            test_context("%s", want[i].name);
            numbers_of(text, want[i].name, got);
            CHECK_CLOSE(got[0], want[i].parameters, 0);
            CHECK_CLOSE(got[2], want[i].adds, 0);
            for (int j = 0; j < 3; j++) sum[j] += got[j];
        }
        test_context(NULL);
        numbers_of(text, "all", got);
        for (int j = 0; j < 3; j++) CHECK_CLOSE(got[j], sum[j], 0);
        // 162 floats, in steps of 16, for 5 samples; what it writes over costs nothing
        numbers_of(text, "input1 ", got);
        CHECK_CLOSE(got[1], 176 * 5 * 4, 0);
        numbers_of(text, "relu1 ", got);
        CHECK_CLOSE(got[1], mode ? 208 * 5 * 4 : 0, 0);     // its gradient: the value is conv2d1's
        numbers_of(text, "tied_linear1 ", got);
        CHECK_CLOSE(got[1], (mode ? 2 : 1) * 176 * 5 * 4, 0);
        char plan[40];
        snprintf(plan, sizeof plan, "%lu", (unsigned long)ae_plan(m, 5, AE_TRAIN));
        CHECK(strstr(text, "1,556 ") == NULL);
        CHECK(strstr(text, plan + strlen(plan) - 3) != NULL);
        CHECK(strstr(text, "bytes for training\n") != NULL);
        CHECK(strstr(text, "3,592 moved by statistics, not by gradients\n") != NULL);
    }
}

TEST_LIST(tools) {
    CASE(tools_check_right), CASE(tools_check_report), CASE(tools_check_wrong),
    CASE(tools_check_largest), CASE(tools_check_corners),
    CASE(tools_check_vacuous), CASE(tools_check_refuses),
    CASE(tools_nonfinite), CASE(tools_nonfinite_hidden), CASE(tools_nonfinite_infer),
    CASE(tools_diagnose_numbers), CASE(tools_diagnose_advice), CASE(tools_diagnose_pictures),
    CASE(tools_overfit), CASE(tools_overfit_entropy),
    CASE(tools_summary_text), CASE(tools_summary_counts),
    CASE_END
};
