/* Models and arrays in files. */
#include "net.h"

enum { ROOM = 1 << 22, BATCH = 4 };

static ae_arena *last_arena;

static ae_arena *room(size_t bytes)
{
    return last_arena = net_arena(bytes);
}

/* --- graphs that have every operation --------------------------------------- */

static ae_tensor *plain_graph(ae_model *m)
{
    ae_tensor *x = ae_input(m, 2, 3, 2), *labels = ae_labels(m), *y;
    ae_tensor *h = ae_name(ae_linear(ae_flatten(x), 6), "encoder.0");
    ae_init_layer(h, ae_init_he_uniform(0.1f), ae_init_normal(0.5f, 0.25f));
    for (int act = 0; act < AE_ACT_COUNT; act++) h = ae_activation(h, (ae_act)act, 0.3f);
    ae_tensor *a = ae_linear_no_bias(h, 6), *b = ae_name(ae_top_k(ae_softmax(a), 4), "top");
    y = ae_concat(ae_add(a, b), ae_one_hot(labels, 3));
    y = ae_layer_norm(ae_reshape(y, 1, 3, 3), NULL);
    ae_norm o = { 1e-3f, 0.25f, 1 };
    y = ae_batch_norm(ae_linear(ae_layer_norm(y, &o), 12), &o);
    y = ae_linear(ae_sigmoid(ae_batch_norm(y, NULL)), 12);
    ae_limit_norm(y, 0.7f);
    ae_reduction r[3] = { AE_MEAN, AE_BATCH_MEAN, AE_SUM };
    ae_minimize(ae_mse(y, x, r[0]));
    ae_minimize_weighted(ae_l1(y, x, r[1]), 0.1f);
    ae_minimize_weighted(ae_huber(y, x, 0.3f, r[2]), 1e-3f);
    ae_monitor(ae_smooth_l1(y, x, 1.25f, r[0]));
    ae_minimize_weighted(ae_bce(ae_sigmoid(y), x, r[1]), -1e-30f);
    ae_tensor *warm = ae_bce_logits(y, x, r[1]);
    ae_minimize_weighted(warm, 0.125f);
    ae_warm_up(warm, 2.5f);
    ae_minimize_weighted(ae_cross_entropy(ae_linear(y, 3), labels, r[0]), 0.0f);
    return y;
}

static ae_tensor *picture_graph(ae_model *m)
{
    ae_tensor *x = ae_input(m, 2, 9, 7), *y, *pool;
    ae_conv g = { 3, 2, 2, 1, 1, 1, 1, 2, 0, 0, 2, 1 };
    y = ae_gelu(ae_conv2d_with(x, 4, &g));
    y = ae_conv2d(y, 6, 3, 1, 1);
    ae_norm o = { 0.01f, 0, 1 };
    y = ae_group_norm(ae_relu(ae_group_norm(y, 3, NULL)), 2, &o);
    ae_pool q = { 3, 2, 2, 1, 1, 1, 1, 2, 0 };
    pool = ae_max_pool2d_with(y, &q);
    y = ae_max_unpool2d(ae_tanh(pool), pool);
    ae_pool v = { 2, 3, 1, 2, 1, 0, 0, 0, 1 };
    y = ae_avg_pool2d(ae_avg_pool2d_with(y, &v), 1);
    y = ae_upsample_nearest(y, 2);
    y = ae_upsample_bilinear(ae_resize(y, AE_NEAREST, 5, 4), 3);
    y = ae_crop2d(ae_pad2d(y, 1, 2, 3, 0, 0.5f), 1, 0, 2, 1);
    ae_conv t = { 3, 3, 2, 2, 1, 1, 1, 1, 1, 0, 2, 0 };
    y = ae_name(ae_conv_transpose2d_with(y, 4, &t), "up");
    y = ae_conv_transpose2d(ae_spatial_dropout(y, 0.25f), 3, 2, 2, 0, 0);
    y = ae_concat(ae_global_avg_pool(y), ae_reshape(ae_conv1d(ae_reshape(x, 2, 1, 63), 3, 3, 5, 1),
                                                    39, 1, 1));
    y = ae_linear(y, 126);
    ae_minimize(ae_mse(y, x, AE_BATCH_MEAN));
    return y;
}

static ae_tensor *noise_graph(ae_model *m)
{
    ae_tensor *x = ae_input(m, 7, 1, 1), *y;
    y = ae_noise_fixed(ae_gaussian_noise(x, 0.2f, 0.0f, 1.0f));
    y = ae_linear(ae_salt_pepper(ae_mask_noise(y, 0.1f), 0.125f, -0.25f, 1.5f), 20);
    y = ae_dropout(ae_relu(y), 0.5f);
    ae_minimize(ae_mse(ae_linear(ae_noise_always(ae_mask_noise(y, 0.2f)), 7), x, AE_MEAN));
    return y;
}

static ae_tensor *family_graph(ae_model *m)
{
    ae_tensor *x = ae_input(m, 2, 4, 4), *c = ae_name(ae_conv2d(x, 3, 3, 2, 1), "conv"), *h, *s;
    s = ae_linear(x, 5);
    h = ae_tanh(s);
    ae_tensor *mu = ae_linear(h, 4), *logvar = ae_linear(h, 4), *z = ae_gaussian_sample(mu, logvar);
    ae_noise_always(z);
    ae_tensor *y = ae_tied(ae_relu(ae_linear(z, 5)), h), *y2 = ae_tied(ae_relu(c), c);
    ae_vq_options o = { 6, 0.5f, 0.9f, -1.0f, 0 }, p = { 5, 0, 0, 0, 1 };
    ae_tensor *q = ae_vq(c, &o), *q2 = ae_vq(ae_relu(c), &p);
    ae_tensor *again = ae_again(y, z, ae_tanh(z)), *norm = ae_group_norm(c, 3, NULL);
    ae_tensor *c2 = ae_again(norm, x, ae_sigmoid(x));
    ae_minimize(ae_kl_normal(mu, logvar, 0.03f, AE_BATCH_MEAN));
    ae_minimize_weighted(ae_gaussian_nll(y, y2, x, AE_BATCH_MEAN), 0.01f);
    ae_minimize_weighted(ae_gaussian_nll(again, NULL, x, AE_BATCH_MEAN), 0.01f);
    ae_minimize(ae_iwae(ae_log_bernoulli(y, ae_sigmoid(x)), ae_log_normal(z, NULL, NULL),
                        ae_log_normal(z, mu, logvar), 2, AE_MEAN));
    ae_minimize(ae_vq_loss(q, AE_MEAN));
    ae_minimize(ae_vq_loss(q2, AE_BATCH_MEAN));
    ae_minimize(ae_mmd(z));
    ae_minimize_weighted(ae_l1_penalty(c2, AE_SUM), 1e-3f);
    ae_minimize(ae_kl_sparsity(ae_sigmoid(c), 0.05f, AE_MEAN));
    ae_minimize(ae_contractive(h, AE_BATCH_MEAN));
    ae_minimize(ae_contractive(s, AE_SUM));
    ae_minimize_weighted(ae_contractive_estimate(y2, x, 0.02f, AE_BATCH_MEAN), 0.1f);
    ae_minimize_weighted(ae_weight_l1(s), 1e-4f);
    ae_minimize_weighted(ae_weight_l2(c), 1e-4f);
    ae_minimize_weighted(ae_orthogonal(h), 1e-4f);
    ae_minimize(ae_mse(ae_linear(ae_add(q, q2), 32), x, AE_MEAN));
    return y;
}

typedef ae_tensor *graph(ae_model *m);
static graph *const graphs[] = { plain_graph, picture_graph, noise_graph, family_graph };
enum { GRAPHS = sizeof graphs / sizeof graphs[0] };

static ae_model *built(graph *of, uint64_t seed, ae_mode mode)
{
    ae_model *m = ae_model_new(room(ROOM), seed);
    CHECK(of(m) != NULL);
    if (!CHECK_INT(ae_build(m, BATCH, mode), AE_SUCCESS)) printf("%s\n", ae_error(m));
    return m;
}

/* Fixed samples into the inputs. */
static void set_inputs(ae_model *m, uint32_t seed)
{
    const int32_t labels[BATCH] = { 2, 0, 1, 2 };
    ae_tensor *x = ae_tensor_find(m, "input1"), *t = ae_tensor_find(m, "labels1");
    REQUIRE(x != NULL);
    CHECK_INT(ae_set(m, x, DATA_IN(BATCH * ae_size(x), 0, 1, seed), BATCH), AE_SUCCESS);
    if (t) CHECK_INT(ae_set(m, t, labels, BATCH), AE_SUCCESS);
}

static void train(ae_model *m, int steps)
{
    ae_optim o = { 0 };
    for (int i = 0; i < steps; i++) {
        set_inputs(m, (uint32_t)(i % 3));
        ae_zero_grad(m);
        if (!CHECK_INT(ae_forward(m, BATCH), AE_SUCCESS)) printf("%s\n", ae_error(m));
        CHECK_INT(ae_backward(m, 1.0f), AE_SUCCESS);
        CHECK_INT(ae_step(m, &o), AE_SUCCESS);
    }
}

static unsigned char *encoded(ae_model *m, int flags, size_t *n)
{
    *n = ae_model_encode(m, NULL, 0, flags);
    if (!CHECK(*n > 0)) printf("%s\n", ae_error(m));
    unsigned char *bytes = BYTES(*n + 1);
    CHECK_INT(ae_model_encode(m, bytes, *n, flags), *n);
    return bytes;
}

static void check_same_file(ae_model *a, ae_model *b, int flags)
{
    size_t n, k;
    unsigned char *x = encoded(a, flags, &n), *y = encoded(b, flags, &k);
    CHECK_INT(n, k);
    if (!CHECK(n == k && memcmp(x, y, n) == 0)) printf("%s\n%s\n", x + 8, y + 8);
}

/* Every tensor that has a name gives the same bits. */
static void check_same_outputs(ae_model *a, ae_model *b)
{
    static const char *const ops[] = {
        "mse", "linear", "relu", "tanh", "softmax", "top", "layer_norm", "batch_norm", "sigmoid",
        "conv2d", "group_norm", "max_unpool2d", "upsample2d", "pad2d", "up", "concat", "dropout",
        "mask_noise", "gaussian_sample", "tied_linear", "vq", "conv_transpose2d", "add"
    };
    int found = 0;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        for (int k = 0; k < 12; k++) {
            char name[64];
            snprintf(name, sizeof name, k ? "%s%d" : "%s", ops[i], k);
            ae_tensor *s = ae_tensor_find(a, name), *t = ae_tensor_find(b, name);
            CHECK((s == NULL) == (t == NULL));
            if (!s || !t || ae_size(s) != ae_size(t)) continue;
            CHECK_STR(ae_tensor_name(t), name);
            CHECK_INT(ae_run(a, s, BATCH), AE_SUCCESS);
            CHECK_INT(ae_run(b, t, BATCH), AE_SUCCESS);
            test_context("%s", name);
            CHECK_BITS(ae_get(b, t), ae_get(a, s), i ? BATCH * ae_size(s) : 1);
            found++;
        }
    test_context(NULL);
    CHECK(found > 2);
}

TEST(file_every_operation)
{
    for (int g = 0; g < GRAPHS; g++) {
        ae_model *m = built(graphs[g], 7 + (uint64_t)g, AE_TRAIN), *o;
        size_t n;
        train(m, 3);
        unsigned char *bytes = encoded(m, AE_SAVE_TRAINING, &n);
        ae_arena *arena = room(ROOM);
        o = ae_model_open_memory(arena, bytes, n, "memory", BATCH, AE_TRAIN);
        test_context("graph %d", g);
        if (!CHECK(o != NULL)) printf("%s\n", arena->error);
        if (!o) continue;
        check_same_file(m, o, AE_SAVE_TRAINING);
        set_inputs(m, 5);
        set_inputs(o, 5);
        check_same_outputs(m, o);
        train(m, 2);
        train(o, 2);
        check_same_file(m, o, AE_SAVE_TRAINING);
        CHECK_INT(ae_steps(o), 5);
    }
}

/* Without the training every result is the same, in both modes. */
TEST(file_modes)
{
    for (int g = 0; g < GRAPHS; g++) {
        ae_model *m = built(graphs[g], 3, AE_TRAIN);
        size_t n;
        train(m, 2);
        unsigned char *bytes = encoded(m, 0, &n);
        ae_arena *arena = room(ROOM);
        test_context("graph %d", g);
        ae_model *o = ae_model_open_memory(arena, bytes, n, "memory", BATCH, AE_INFER);
        if (!CHECK(o != NULL)) printf("%s\n", arena->error);
        if (!o) continue;
        check_same_file(m, o, 0);
        set_inputs(m, 5);
        set_inputs(o, 5);
        check_same_outputs(m, o);
        CHECK_INT(ae_model_encode(o, NULL, 0, AE_SAVE_TRAINING), 0);
        CHECK_ERROR(ae_error(o), "built for inference");
        o = ae_model_open_memory(arena, bytes, n, "memory", 2, AE_TRAIN);     // begins anew
        REQUIRE(o != NULL);
        CHECK_INT(ae_steps(o), 0);
    }
}

/* --- training goes on --------------------------------------------------------- */

static ae_model *resumable(uint64_t seed)
{
    ae_model *m = ae_model_new(room(ROOM), seed);
    ae_tensor *x = ae_input(m, 6, 1, 1), *h;
    h = ae_dropout(ae_relu(ae_batch_norm(ae_linear(ae_gaussian_noise(x, 0.1f, 0, 1), 12), NULL)),
                   0.3f);
    ae_tensor *kl = ae_l1_penalty(h, AE_MEAN);
    ae_minimize(ae_mse(ae_linear(h, 6), x, AE_MEAN));
    ae_minimize_weighted(kl, 0.1f);
    ae_warm_up(kl, 4);
    REQUIRE(ae_build(m, 4, AE_TRAIN) == AE_SUCCESS);
    return m;
}

static ae_dataset samples(const float *x, size_t n)
{
    ae_dataset d;
    memset(&d, 0, sizeof d);
    d.floats = x;
    d.n = n;
    d.c = 6;
    d.h = d.w = 1;
    return d;
}

static void steps(ae_model *m, const ae_dataset *d, int count)
{
    ae_optim o = { 0 };
    for (int i = 0; i < count; i++) CHECK_INT(ae_train_step(m, d, &o), AE_SUCCESS);
}

/* An uninterrupted training, one that is saved now and then, one opened from its file and one of
   another seed that loads it: 23 samples make 6 steps an epoch, the break is inside one. */
TEST(file_resume)
{
    ae_dataset d = samples(DATA_IN(23 * 6, 0, 1, 1), 23);
    ae_model *a = resumable(5), *b = resumable(5), *c = resumable(99);
    const char *path = test_tmp("resume.safetensors");
    steps(a, &d, 9);
    for (int i = 0; i < 9; i++) {
        size_t n;
        steps(b, &d, 1);
        encoded(b, AE_SAVE_TRAINING, &n);
    }
    check_same_file(a, b, AE_SAVE_TRAINING);
    CHECK_INT(ae_model_save(a, path, AE_SAVE_TRAINING), AE_SUCCESS);
    ae_model *o = ae_model_open(room(ROOM), path, 4, AE_TRAIN);
    REQUIRE(o != NULL);
    steps(c, &d, 2);
    CHECK_INT(ae_model_load(c, path), AE_SUCCESS);
    CHECK_CLOSE(ae_mean_loss(o, NULL), ae_mean_loss(a, NULL), 0);
    CHECK_CLOSE(ae_batch_loss(c, NULL), ae_batch_loss(a, NULL), 0);
    ae_model *all[4] = { a, b, c, o };
    for (int i = 0; i < 4; i++) steps(all[i], &d, 11);
    for (int i = 1; i < 4; i++) {
        test_context("model %d", i);
        check_same_file(a, all[i], AE_SAVE_TRAINING);
    }
    // without the training's part: the same weights, but all counts from 0 and the own seed
    CHECK_INT(ae_model_save(a, path, 0), AE_SUCCESS);
    CHECK_INT(ae_model_load(c, path), AE_SUCCESS);
    CHECK_INT(ae_steps(c), 0);
    CHECK_CLOSE(ae_mean_loss(c, NULL), 0, 0);
    ae_model *fresh = resumable(5), *fresh2 = resumable(5);
    steps(fresh2, &d, 3);
    CHECK_INT(ae_model_load(fresh, path), AE_SUCCESS);
    CHECK_INT(ae_model_load(fresh2, path), AE_SUCCESS);
    steps(fresh, &d, 3);
    steps(fresh2, &d, 3);
    check_same_file(fresh, fresh2, AE_SAVE_TRAINING);
}

/* Saving in the middle of a step leaves what it works on; with a full arena it costs the values. */
TEST(file_saving_disturbs_nothing)
{
    for (int full = 0; full < 2; full++) {
        ae_model *a = built(plain_graph, 1, AE_TRAIN), *b = built(plain_graph, 1, AE_TRAIN);
        size_t n, k, grads;
        set_inputs(a, 1);
        set_inputs(b, 1);
        CHECK_INT(ae_forward(a, BATCH), AE_SUCCESS);
        CHECK_INT(ae_forward(b, BATCH), AE_SUCCESS);
        n = ae_model_encode(b, NULL, 0, AE_SAVE_TRAINING);
        unsigned char *x = BYTES(n), *y;
        ae_arena *arena = last_arena;
        if (full) arena->end = arena->next;
        CHECK_INT(ae_model_encode(b, x, n, AE_SAVE_TRAINING), n);
        CHECK_INT(ae_backward(a, 1.0f), AE_SUCCESS);
        CHECK_INT(ae_backward(b, 1.0f), full ? AE_E_ARG : AE_SUCCESS);
        if (full) CHECK_ERROR(ae_error(b), "ae_backward needs an ae_forward");
        y = encoded(a, AE_SAVE_TRAINING, &k);
        CHECK_INT(n, k);
        if (!full) CHECK(memcmp(x, y, n) == 0);
        const float *ga = (const float *)ae_segment_data(a, AE_SEG_GRAD, &grads);
        const float *gb = (const float *)ae_segment_data(b, AE_SEG_GRAD, &grads);
        if (!full) CHECK_BITS(gb, ga, grads / sizeof(float));
    }
}

/* A small model that has a bit of everything in its file. */
static ae_model *small_model(uint64_t seed)
{
    ae_model *m = ae_model_new(room(1 << 19), seed);
    ae_tensor *x = ae_input(m, 3, 1, 1);
    ae_minimize(ae_mse(ae_linear(ae_batch_norm(ae_linear(x, 2), NULL), 3), x, AE_MEAN));
    REQUIRE(ae_build(m, 2, AE_TRAIN) == AE_SUCCESS);
    CHECK_INT(ae_note(m, "note", "\"caf\xc3\xa9\"\n"), AE_SUCCESS);
    return m;
}

/* A batch that a step refused leaves nothing that a file could not hold. */
TEST(file_after_failure)
{
    ae_model *m = small_model(1);
    float x[6] = { 0, 0, 0, 0, 0, 0 };
    size_t n;
    x[2] = test_nan();
    CHECK_INT(ae_set(m, ae_tensor_find(m, "input1"), x, 2), AE_SUCCESS);
    CHECK_INT(ae_forward(m, 2), AE_E_NUMERIC);
    unsigned char *bytes = encoded(m, AE_SAVE_TRAINING, &n);
    CHECK_INT(ae_model_decode(m, bytes, n, "f"), AE_SUCCESS);
}

TEST(file_rollback)
{
    ae_model *a = built(plain_graph, 1, AE_TRAIN), *b = built(plain_graph, 1, AE_TRAIN);
    size_t n, k;
    train(a, 2);
    train(b, 4);
    unsigned char *file = encoded(a, AE_SAVE_TRAINING, &n), *before, *after;
    void *snapshot = BLOCK(ae_snapshot_bytes(b));
    CHECK_INT(ae_snapshot(b, snapshot), AE_SUCCESS);
    before = encoded(b, AE_SAVE_TRAINING, &k);
    CHECK_INT(ae_model_decode(b, file, n, "a"), AE_SUCCESS);
    check_same_file(a, b, AE_SAVE_TRAINING);
    CHECK_INT(ae_restore(b, snapshot, ae_snapshot_bytes(b)), AE_SUCCESS);
    after = encoded(b, AE_SAVE_TRAINING, &n);
    CHECK_INT(n, k);
    CHECK(memcmp(before, after, n) == 0);
}

/* --- damaged files ------------------------------------------------------------ */

static void train_small(ae_model *m)
{
    const float x[6] = { 0.1f, 0.9f, 0.3f, 0.4f, 0.2f, 0.8f };
    ae_optim o = { 0 };
    CHECK_INT(ae_set(m, ae_tensor_find(m, "input1"), x, 2), AE_SUCCESS);
    CHECK_INT(ae_forward(m, 2), AE_SUCCESS);
    CHECK_INT(ae_backward(m, 1), AE_SUCCESS);
    CHECK_INT(ae_step(m, &o), AE_SUCCESS);
}

static void spoiled_case(ae_model *m, ae_arena *arena, ae_arena *other, const unsigned char *bytes,
                         size_t n, const void *before, int must_fail)
{
    const size_t used = ae_arena_used(arena), left = ae_arena_left(arena);
    ae_status status = ae_model_decode(m, bytes, n, "spoiled");
    ae_model *o = ae_model_open_memory(other, bytes, n, "spoiled", 1, AE_INFER);
    if (must_fail) CHECK(status != AE_SUCCESS && o == NULL);
    if (status) {       // else its notes may have taken something
        CHECK_INT(ae_arena_used(arena), used);
        CHECK_INT(ae_arena_left(arena), left);
        CHECK_ERROR(ae_error(m), "spoiled");
        CHECK(memcmp(before, ae_segment_data(m, AE_SEG_PARAM, NULL), ae_snapshot_bytes(m)) == 0);
    }
    if (o == NULL) {
        CHECK_ERROR(other->error, "spoiled");
        CHECK_INT(ae_arena_used(other), 0);
    }
    CHECK_INT(ae_restore(m, before, ae_snapshot_bytes(m)), AE_SUCCESS);
    ae_arena_rewind(other, 0);
}

TEST(file_cut_everywhere)
{
    ae_model *a = small_model(1), *b = small_model(2);
    ae_arena *arena = last_arena, *other = room(1 << 19);
    size_t n;
    train_small(a);
    unsigned char *bytes = encoded(a, AE_SAVE_TRAINING, &n);
    void *before = BLOCK(ae_snapshot_bytes(b));
    CHECK_INT(ae_snapshot(b, before), AE_SUCCESS);
    for (size_t i = 0; i < n; i++) {
        unsigned char *part = (unsigned char *)malloc(i + 1);   // reading beyond it is seen
        memcpy(part, bytes, i);
        test_context("%lu of %lu bytes", (unsigned long)i, (unsigned long)n);
        spoiled_case(b, arena, other, part, i, before, 1);
        free(part);
    }
    test_context(NULL);
    CHECK_INT(ae_model_decode(b, bytes, n, "whole"), AE_SUCCESS);
    bytes[n] = 'x';                                             // what follows is nobody's
    CHECK_INT(ae_model_decode(b, bytes, n + 1, "whole"), AE_SUCCESS);
}

/* Every byte changed in several ways: refused with nothing changed, or harmless. */
TEST(file_spoiled_everywhere)
{
    ae_model *a = small_model(1), *b = small_model(2);
    ae_arena *arena = last_arena, *other = room(1 << 19);
    size_t n, header;
    train_small(a);
    unsigned char *bytes = encoded(a, AE_SAVE_TRAINING, &n);
    void *before = BLOCK(ae_snapshot_bytes(b));
    CHECK_INT(ae_snapshot(b, before), AE_SUCCESS);
    header = 8 + bytes[0] + 256u * bytes[1];
    for (size_t i = 0; i < n; i++) {
        static const unsigned char to[] = { 0, ' ', '"', '9', '\\', '}', 0xff };
        const unsigned char old = bytes[i];
        for (size_t k = 0; k < (i < header ? sizeof to + 2 : 3); k++) {
            bytes[i] = k == 0 ? old ^ 1 : k == 1 ? old ^ 0x40 : to[k - 2];
            test_context("byte %lu of %lu: %d for %d", (unsigned long)i, (unsigned long)header,
                         bytes[i], old);
            if (bytes[i] != old) spoiled_case(b, arena, other, bytes, n, before, i < 8);
        }
        bytes[i] = old;
    }
    test_context(NULL);
    CHECK_INT(ae_model_decode(b, bytes, n, "whole"), AE_SUCCESS);
}

/* --- files of others ------------------------------------------------------------ */

/* A file of a header and data. */
static unsigned char *file_of(const char *header, const void *data, size_t data_n, size_t *n)
{
    const size_t length = strlen(header);
    unsigned char *bytes = BYTES(8 + length + data_n);
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)((uint64_t)length >> 8 * i);
    memcpy(bytes + 8, header, length);
    if (data_n) memcpy(bytes + 8 + length, data, data_n);
    *n = 8 + length + data_n;
    return bytes;
}

/* 2 inputs, 1 output: linear1.weight (1,2), linear1.bias (1). */
static ae_model *two_to_one(void)
{
    ae_model *m = ae_model_new(room(1 << 16), 1);
    ae_linear(ae_input(m, 2, 1, 1), 1);
    REQUIRE(ae_build(m, 2, AE_INFER) == AE_SUCCESS);
    return m;
}

#define TENSOR(type, shape, at) \
    "{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":[" at "]}"
#define WEIGHT "\"linear1.weight\":" TENSOR("F32", "[1,2]", "0,8")
#define BIAS "\"linear1.bias\":" TENSOR("F32", "[1]", "8,12")

TEST(file_accepts)
{
    static const char *const headers[] = {
        "{" WEIGHT "," BIAS "}",
        "{" BIAS "," WEIGHT "}    ",
        " \t\n{ \"linear1.bias\" : { \"shape\" : [ 1 ] ,\r\n \"data_offsets\":[8 , 12],"
        "\"dtype\":\"F32\" } ," WEIGHT "}",
        // sides of 1 do not count
        "{\"__metadata__\":{},\"\\u006cinear1.weigh\\u0074\":" TENSOR("F32", "[2]", "0,8") ","
        BIAS "}",
        "{\"__metadata__\":{\"format\":\"pt\",\"odd \\ud83d\\ude00\\\"\\/\\b\":\"\\u00e9\\n\"},"
        WEIGHT "," BIAS "}",
        "{" WEIGHT ",\"linear1.bias\":" TENSOR("F32", "[]", "8,12") "}",
    };
    const unsigned char data[12] = { 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 0, 0, 0x40, 0x3f };
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        ae_model *m = two_to_one();
        size_t n;
        unsigned char *bytes = file_of(headers[i], data, sizeof data, &n);
        test_context("header %d", (int)i);
        if (!CHECK_INT(ae_model_decode(m, bytes, n, "f"), AE_SUCCESS)) printf("%s\n", ae_error(m));
        const float *w = ae_param_data(m, ae_param_find(m, "linear1.weight"));
        CHECK_CLOSE(w[0], 1, 0);
        CHECK_CLOSE(w[1], -2, 0);
        CHECK_CLOSE(*ae_param_data(m, ae_param_find(m, "linear1.bias")), 0.75, 0);
        if (i == 4) {
            CHECK_STR(ae_note_of(m, "format"), "pt");
            CHECK_STR(ae_note_of(m, "odd \xf0\x9f\x98\x80\"/\b"), "\xc3\xa9\n");
        }
    }
}

/* All number types that can be read, little-endian. */
TEST(file_types)
{
    static const struct { const char *type; int size; unsigned char data[24]; } rows[] = {
        { "F32", 4, { 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 0, 0, 0x40, 0x3f } },
        { "F64", 8, { 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0xc0,
                      0, 0, 0, 0, 0, 0, 0xe8, 0x3f } },
        { "F16", 2, { 0x00, 0x3c, 0x00, 0xc0, 0x00, 0x3a } },
        { "BF16", 2, { 0x80, 0x3f, 0x00, 0xc0, 0x40, 0x3f } },
    };
    for (size_t i = 0; i < 4; i++) {
        char header[300];
        const int s = rows[i].size;
        size_t n;
        snprintf(header, sizeof header, "{\"linear1.weight\":{\"dtype\":\"%s\",\"shape\":[1,2],"
                 "\"data_offsets\":[0,%d]},\"linear1.bias\":{\"dtype\":\"%s\",\"shape\":[1],"
                 "\"data_offsets\":[%d,%d]}}", rows[i].type, 2 * s, rows[i].type, 2 * s, 3 * s);
        ae_model *m = two_to_one();
        unsigned char *bytes = file_of(header, rows[i].data, 3 * (size_t)s, &n);
        test_context("%s", rows[i].type);
        CHECK_INT(ae_model_decode(m, bytes, n, "f"), AE_SUCCESS);
        const float *w = ae_param_data(m, ae_param_find(m, "linear1.weight"));
        CHECK_CLOSE(w[0], 1, 0);
        CHECK_CLOSE(w[1], -2, 0);
        CHECK_CLOSE(*ae_param_data(m, ae_param_find(m, "linear1.bias")), 0.75, 0);
        // infinity, or what no float can hold
        memset(bytes + n - s, 0xff, (size_t)s);
        bytes[n - 1] = 0x7f;
        CHECK_INT(ae_model_decode(m, bytes, n, "f"), AE_E_NUMERIC);
        CHECK_ERROR(ae_error(m), "f: value 0 of linear1.bias is not finite");
        CHECK_CLOSE(w[1], -2, 0);
    }
}

TEST(file_refuses)
{
    static const struct { const char *header, *sentence; } rows[] = {
        { "{" WEIGHT "}", "f has no linear1.bias" },
        { "{" WEIGHT "," BIAS ",\"linear2.bias\":" TENSOR("F32", "[1]", "12,16") "}",
          "f: linear2.bias is not a tensor of this model" },
        { "{" WEIGHT "," WEIGHT "," BIAS "}", "f: linear1.weight is there twice" },
        { "{" BIAS ",\"linear1.weight\":" TENSOR("F32", "[2,2]", "0,8") "}",
          "f: linear1.weight is 2x2, the model's is 2" },
        { "{\"linear1.bias\":" TENSOR("F32", "[1]", "12,16") ",\"linear1.weight\":"
          TENSOR("F32", "[1,3]", "0,12") "}", "f: linear1.weight is 3, the model's is 2" },
        { "{" BIAS ",\"linear1.weight\":" TENSOR("F32", "[1,2]", "0,4") "}",
          "f: linear1.weight has other bytes than its shape needs" },
        { "{" BIAS ",\"linear1.weight\":" TENSOR("F32", "[1,2]", "8,0") "}",
          "f: linear1.weight has other bytes" },
        { "{" BIAS ",\"linear1.weight\":" TENSOR("I32", "[1,2]", "0,8") "}",
          "f: linear1.weight has a type that cannot be read: F32, F64, F16 and BF16 can" },
        { "{" BIAS ",\"linear1.weight\":" TENSOR("I64", "[1,2]", "0,16") "}",
          "f: linear1.weight has a type that cannot be read" },
        { "{" BIAS ",\"linear1.weight\":" TENSOR("F32", "[1,2]", "4,12") "}",
          "f: linear1.weight begins at byte 4 of the data, the one before it ends at 0" },
        { "{" WEIGHT ",\"linear1.bias\":" TENSOR("F32", "[1]", "4,8") "}",
          "f: linear1.bias begins at byte 4 of the data, the one before it ends at 8" },
        { "{" WEIGHT ",\"linear1.bias\":" TENSOR("F32", "[1]", "9,13") "}",
          "f: linear1.bias begins at byte 9 of the data, the one before it ends at 8" },
        { "{" WEIGHT ",\"linear1.bias\":" TENSOR("F32", "[1]",
          "18446744073709551612,18446744073709551616") "}", "f: linear1.bias" },
        { "{" WEIGHT ",\"linear1.bias\":" TENSOR("F32", "[4611686018427387905]", "8,12") "}",
          "f: linear1.bias is" },
        { "{" WEIGHT "," BIAS, "f is not safetensors: its header is wrong at byte" },
        { "{" WEIGHT "," BIAS "}x", "wrong at byte" },
        { "{" WEIGHT "," BIAS ",}", "wrong at byte" },
        { "{" WEIGHT "" BIAS "}", "wrong at byte" },
        { "[" WEIGHT "]", "wrong at byte 8" },
        { "{\"__metadata__\":{\"a\":1}," WEIGHT "," BIAS "}", "wrong at byte" },
        { "{\"__metadata__\":{\"a\":\"\\x\"}," WEIGHT "," BIAS "}", "wrong at byte" },
        { "{\"__metadata__\":{\"a\":\"\\ud800\"}," WEIGHT "," BIAS "}", "wrong at byte" },
        { "{\"__metadata__\":{\"a\":\"\\udc00\"}," WEIGHT "," BIAS "}", "wrong at byte" },
        { "{\"__metadata__\":{\"a\":\"\\ud800\\u0041\"}," WEIGHT "," BIAS "}", "wrong at byte" },
        { "{\"__metadata__\":{\"a\":\"\\u12g4\"}," WEIGHT "," BIAS "}", "wrong at byte" },
        { "{\"__metadata__\":{\"a\":\"\xc3\"}," WEIGHT "," BIAS "}", "wrong at byte" },
        { "{\"__metadata__\":{\"a\":\"\xc0\x80\"}," WEIGHT "," BIAS "}", "wrong at byte" },
        { "{\"__metadata__\":{\"a\":\"\xed\xa0\x80\"}," WEIGHT "," BIAS "}", "wrong at byte" },
        { "{\"__metadata__\":{\"a\":\"\n\"}," WEIGHT "," BIAS "}", "wrong at byte" },
        { "{" WEIGHT ",\"linear1.bias\":" TENSOR("F32", "[-1]", "8,12") "}",
          "wrong at byte" },
        { "{" WEIGHT ",\"linear1.bias\":" TENSOR("F32", "[1.0]", "8,12") "}",
          "wrong at byte" },
        { "{" WEIGHT ",\"linear1.bias\":" TENSOR("F32", "[1]", "8") "}",
          "wrong at byte" },
        { "{" WEIGHT ",\"linear1.bias\":{\"shape\":[1],\"data_offsets\":[8,12]}}", "wrong at" },
        { "{" WEIGHT ",\"linear1.bias\":{\"dtype\":\"F32\",\"shape\":[1],\"shape\":[1],"
          "\"data_offsets\":[8,12]}}", "wrong at byte" },
        { "{" WEIGHT ",\"linear1.bias\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12],"
          "\"more\":1}}", "wrong at byte" },
        { "{\"__metadata__\":{\"ae.seed\":\"4x\"}," WEIGHT "," BIAS "}", "f: its seed" },
        { "{\"__metadata__\":{\"ae.seed\":\"\"}," WEIGHT "," BIAS "}", "f: its seed" },
        { "{\"__metadata__\":{\"ae.seed\":\"18446744073709551616\"}," WEIGHT "," BIAS "}",
          "f: its seed" },
        { "{\"__metadata__\":{\"ae.optim_states\":\"3\"}," WEIGHT "," BIAS "}", "f: its seed" },
        { "{\"__metadata__\":{\"ae.scale\":\"1\"}," WEIGHT "," BIAS "}", "f: its seed" },
        { "{\"__metadata__\":{\"ae.scale\":\"1\",\"ae.mean\":\"0\",\"ae.deviation\":\"0\"},"
          WEIGHT "," BIAS "}", "or scaling is no number that can be" },
    };
    const float data[6] = { 3, 4, 5, 6, 7, 8 };
    ae_model *m = two_to_one();
    float *w = ae_param_data(m, ae_param_find(m, "linear1.weight")), first = w[0];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t n;
        unsigned char *bytes = file_of(rows[i].header, data, sizeof data, &n);
        test_context("header %s", rows[i].header);
        CHECK(ae_model_decode(m, bytes, n, "f") == AE_E_FORMAT);
        CHECK_ERROR(ae_error(m), rows[i].sentence);
        CHECK_CLOSE(w[0], first, 0);
    }
    test_context(NULL);
    size_t n;                               // a character 0 where only blanks may be
    unsigned char *bytes = file_of("{" WEIGHT "," BIAS "} ", data, 12, &n);
    CHECK_INT(ae_model_decode(m, bytes, n, "f"), AE_SUCCESS);
    first = w[0];
    bytes[n - 13] = 0;
    CHECK_INT(ae_model_decode(m, bytes, n, "f"), AE_E_FORMAT);
    CHECK_ERROR(ae_error(m), "wrong at byte");
    CHECK_INT(ae_model_decode(m, NULL, 0, "f"), AE_E_FORMAT);
    CHECK_ERROR(ae_error(m), "f is empty");
    CHECK_INT(ae_model_decode(m, "0123456789", 10, "f"), AE_E_FORMAT);
    CHECK_ERROR(ae_error(m), "f is not safetensors: its header would have");
}

/* PyTorch counts the batches of a batch norm; that is read over, whatever its place. */
TEST(file_batches_tracked)
{
    ae_model *m = ae_model_new(room(1 << 16), 1);
    ae_name(ae_batch_norm(ae_input(m, 1, 1, 1), NULL), "bn");
    REQUIRE(ae_build(m, 2, AE_INFER) == AE_SUCCESS);
#define BN(name, type, from, to) \
    "\"bn." name "\":{\"dtype\":\"" type "\",\"shape\":[],\"data_offsets\":[" from "," to "]}"
    static const char rest[] = BN("weight", "F32", "8", "12") "," BN("bias", "F32", "12", "16") ","
        BN("running_mean", "F32", "16", "20") "," BN("running_var", "F32", "20", "24") "}";
    const unsigned char data[24] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xc0, 0x3f, 0, 0, 0, 0x40,
                                     0, 0, 0x40, 0x40, 0, 0, 0x80, 0x40 };     // 1.5, 2, 3, 4
    char header[700];
    size_t n;
    snprintf(header, sizeof header, "{" BN("num_batches_tracked", "I64", "0", "8") ",%s", rest);
    unsigned char *bytes = file_of(header, data, sizeof data, &n);
    if (!CHECK_INT(ae_model_decode(m, bytes, n, "f"), AE_SUCCESS)) printf("%s\n", ae_error(m));
    CHECK_CLOSE(*ae_param_data(m, ae_param_find(m, "bn.running_var")), 4, 0);
    snprintf(header, sizeof header, "{" BN("num_batches_tracked", "F64", "0", "8") ",%s", rest);
    bytes = file_of(header, data, sizeof data, &n);
    CHECK_INT(ae_model_decode(m, bytes, n, "f"), AE_E_FORMAT);
    CHECK_ERROR(ae_error(m), "bn.num_batches_tracked is not I64");
    snprintf(header, sizeof header, "{" BN("num_batches_trackee", "I64", "0", "8") ",%s", rest);
    bytes = file_of(header, data, sizeof data, &n);
    CHECK_INT(ae_model_decode(m, bytes, n, "f"), AE_E_FORMAT);
    CHECK_ERROR(ae_error(m), "bn.num_batches_trackee is not a tensor of this model");
}

/* --- graphs that cannot be ------------------------------------------------------ */

static void check_graph(const char *lines, const char *sentence)
{
    char header[1200];
    size_t n;
    ae_arena *arena = room(1 << 16);
    snprintf(header, sizeof header, "{\"__metadata__\":{\"ae.graph\":\"%s\"}}", lines);
    unsigned char *bytes = file_of(header, NULL, 0, &n);
    test_context("%s", lines);
    ae_model *m = ae_model_open_memory(arena, bytes, n, "f", 1, AE_INFER);
    if (sentence == NULL) {
        if (!CHECK(m != NULL)) printf("%s\n", arena->error);
        return;
    }
    CHECK(m == NULL);
    CHECK_ERROR(arena->error, sentence);
    CHECK_INT(ae_arena_used(arena), 0);
}

TEST(file_graphs)
{
    check_graph("0 input() shape=2x1x1\\n1 relu(0)\\n", NULL);
    check_graph("0 input() shape=2x1x1\\n1 relu(0) a=0x3f000000 name=x=y\\n", NULL);
    check_graph("0 input()\\n1 add(0,0)\\n2 concat(1,0) name=a\\n", NULL);
    check_graph("", "f: the model is empty");
    check_graph("0 input()", "f: the last line of its graph is cut");
    check_graph("0 input\\n", "f: line 1 of its graph: it is not of the form");
    check_graph("input()\\n", "not of the form");
    check_graph("0  input()\\n", "there is no such operation");
    check_graph("0 input(\\n", "not of the form");
    check_graph("0 input()\\n1 relu(0\\n", "line 2 of its graph: it is not of the form");
    check_graph("0 input()\\n1 relu(0,)\\n", "not of the form");
    check_graph("0 input()\\n1 add(0,0,0,0)\\n", "not of the form");
    check_graph("0 input()\\n1 relu(0)x\\n", "not of the form");
    check_graph("0 input()\\n1 relu(0) \\n", "a setting is not of the form key=value");
    check_graph("0 input()\\n1 relu(0) a\\n", "a setting is not of the form key=value");
    check_graph("0 input()\\n1 relu(0) b=1\\n", "a setting that does not fit");
    check_graph("0 input()\\n1 relu(0) k=1\\n", "a setting that does not fit");
    check_graph("0 input()\\n1 relu(0) a=1,5\\n", "a setting that does not fit");
    check_graph("0 input()\\n1 relu(0) a=0x7f800000\\n", "a setting that does not fit");
    check_graph("0 input() shape=2x2\\n", "a setting that does not fit");
    check_graph("0 input() shape=2x2x2x2\\n", "a setting that does not fit");
    check_graph("0 input() shape=2x2x99999999999\\n", "a setting that does not fit");
    check_graph("0 input() shape=0x1x1\\n", "each side must be at least 1");
    check_graph("0 input() shape=99999x99999x99999\\n", "below 2^31");
    check_graph("0 input()\\n1 upsample2d(0) shape=1x2x2 kind=linear\\n", "a setting that does");
    check_graph("0 input()\\n1 upsample2d(0) shape=2x2x2\\n", "its inputs or settings do not fit");
    check_graph("0 input()\\n1 rehlu(0)\\n", "there is no such operation");
    check_graph("0 input()\\n1 kept()\\n", "there is no such operation");
    check_graph("0 input()\\n1 relu(1)\\n", "an input of it is not there");
    check_graph("0 input()\\n1 relu(-1)\\n", "an input of it is not there");
    check_graph("0 input()\\n1 relu()\\n", "its inputs or settings do not fit");
    check_graph("0 input()\\n1 add(0)\\n", "its second input is NULL");
    check_graph("0 input()\\n1 relu(0,0)\\n", "its number, inputs or shape do not fit");
    check_graph("0 input()\\n2 relu(0)\\n", "its number, inputs or shape do not fit");
    check_graph("0 input()\\n1 input(0)\\n", "its number, inputs or shape do not fit");
    check_graph("0 input() shape=4x1x1\\n1 reshape(0) shape=3x1x1\\n", "has 4 elements and");
    check_graph("0 input()\\n1 tied_linear(0)\\n", "its inputs or settings do not fit");
    check_graph("0 input()\\n1 tied_linear(0) weights=0\\n", "neither a linear layer nor");
    check_graph("0 input()\\n1 linear(0) again=0\\n", "its inputs or settings do not fit");
    check_graph("0 input()\\n1 relu(0) name=\\u00e9\\n", "printable ASCII");
    check_graph("0 input()\\n1 relu(0) name=a\\u0000b\\n", "graph: it is too long, or broken");
    check_graph("0 input() shape=1x5x5\\n1 conv2d(0) out=2 kernel=3x3 conv1d=1\\n", "do not fit");
    check_graph("0 input() shape=1x5x5\\n1 conv2d(0) out=2 kernel=9x9\\n", "kernel is larger");
    check_graph("0 input() shape=1x5x5\\n1 conv2d(0) out=0 kernel=3x3\\n", "output channels is 0");
    check_graph("0 input() shape=1x5x5\\n2 max_pool2d(0) kernel=2x2 stride=2x2\\n"
                "3 max_unpool2d(2,0)\\n", "input1 is not a max_pool2d");
    check_graph("0 input() shape=1x5x5\\n2 max_pool2d(0) kernel=2x2 stride=2x2\\n"
                "3 max_unpool2d(2,2)\\n", NULL);
    check_graph("0 input() shape=2x1x1\\n1 mse(0,0) reduction=most\\n", "a setting that does not");
    check_graph("0 input() shape=2x1x1\\n1 contractive(0)\\n", "its inputs or settings do not fit");
    check_graph("0 input() shape=2x1x1\\n1 weight_l1() weights=0\\n", "neither a linear layer nor");
    check_graph("0 input() shape=2x1x1\\n2 mask_noise(0) a=2\\n", "below 1");
    check_graph("0 input() shape=2x1x1\\n2 dropout(0) a=0.5 group=7\\n", NULL);
    check_graph("0 input() shape=2x1x1\\n1 relu(0) always=1\\n", "a setting that does not fit");
    char line[1200];
    memset(line, 'a', sizeof line);
    memcpy(line, "0 input() name=", 15);
    line[1100] = 0;
    check_graph(line, "f: line 1 of its graph: it is too long");
}

/* --- probe, numbers that are not, memory ------------------------------------------ */

TEST(file_probe)
{
    ae_model *a = small_model(1), *b = small_model(2);
    size_t n;
    unsigned char *bytes = encoded(a, 0, &n);
    bytes[n - 1] ^= 0x80;               // the sign of the last bias
    CHECK_INT(ae_model_decode(b, bytes, n, "f"), AE_E_FORMAT);
    CHECK_ERROR(ae_error(b), "f: linear2 is not what it was when the file was saved");
    check_same_file(small_model(2), b, 0);
    // the same shapes, another operation
    ae_model *relu = ae_model_new(room(1 << 16), 1), *elu = ae_model_new(room(1 << 16), 1);
    ae_relu(ae_linear(ae_input(relu, 8, 1, 1), 8));
    ae_tanh(ae_linear(ae_input(elu, 8, 1, 1), 8));
    CHECK_INT(ae_build(relu, 1, AE_INFER), AE_SUCCESS);
    CHECK_INT(ae_build(elu, 1, AE_INFER), AE_SUCCESS);
    bytes = encoded(relu, 0, &n);
    CHECK_INT(ae_model_decode(elu, bytes, n, "f"), AE_E_FORMAT);
    CHECK_ERROR(ae_error(elu), "f: tanh1 is not what it was");
    // another count of results
    ae_model *two = ae_model_new(room(1 << 16), 1);
    ae_tensor *x = ae_input(two, 8, 1, 1);
    ae_relu(ae_linear(x, 8));
    ae_relu(x);
    CHECK_INT(ae_build(two, 1, AE_INFER), AE_SUCCESS);
    CHECK_INT(ae_model_decode(two, bytes, n, "f"), AE_E_FORMAT);
    CHECK_ERROR(ae_error(two), "f: its probe is not of this model");
}

/* Of two equal values top_k takes the first; with any rounding it could be the other. Such a sample
   is no probe. */
TEST(file_probe_steady)
{
    ae_model *m = ae_model_new(room(1 << 16), 1);
    ae_tensor *h = ae_linear_no_bias(ae_input(m, 2, 1, 1), 2);
    ae_random r = { 0, 0, 0x50524f42u };
    float x[2];
    char first[9];
    size_t n;
    uint32_t bits;
    ae_top_k(h, 1);
    REQUIRE(ae_build(m, 1, AE_INFER) == AE_SUCCESS);
    for (int tie = 0; tie < 2; tie++) {
        float *w = ae_param_data(m, ae_weight(h));
        ae_random_uniform(x, 2, 0, r);
        w[0] = 1;
        w[1] = w[2] = 0;
        w[3] = tie ? x[0] / x[1] : 2 * x[0] / x[1];
        memcpy(&bits, x, 4);
        snprintf(first, sizeof first, "%02x%02x%02x%02x", (unsigned)(bits & 255),
                 (unsigned)(bits >> 8 & 255), (unsigned)(bits >> 16 & 255), (unsigned)(bits >> 24));
        unsigned char *bytes = encoded(m, 0, &n);
        const char *at = strstr((const char *)bytes + 8, "ae.probe.input\":\"");
        REQUIRE(at != NULL);
        CHECK((memcmp(at + 17, first, 8) == 0) == !tie);
    }
}

TEST(file_not_finite)
{
    ae_model *m = small_model(1);
    const char *path = test_write("finite.safetensors", "old", 3);
    float *w = ae_param_data(m, ae_param_find(m, "linear2.weight")), old = w[1];
    size_t n;
    w[1] = test_nan();
    CHECK_INT(ae_model_save(m, path, 0), AE_E_NUMERIC);
    CHECK_ERROR(ae_error(m), "value 1 of linear2.weight is not finite: nothing was saved");
    CHECK_INT(ae_model_encode(m, NULL, 0, 0), 0);
    w[1] = 3e38f;                       // finite itself, but not what comes of it
    w[2] = 3e38f;
    w[3] = 3e38f;
    float *g = ae_param_data(m, ae_param_find(m, "batch_norm1.bias"));
    g[0] = g[1] = 3e38f;
    CHECK_INT(ae_model_save(m, path, 0), AE_E_NUMERIC);
    CHECK_ERROR(ae_error(m), "linear2 is not finite for a sample");
    w[1] = w[2] = w[3] = old;
    g[0] = g[1] = 0;
    float *s = (float *)ae_segment_data(m, AE_SEG_OPT, NULL);
    s[0] = test_inf();
    CHECK_INT(ae_model_save(m, path, AE_SAVE_TRAINING), AE_E_NUMERIC);
    CHECK_ERROR(ae_error(m), "the optimiser's state is not finite");
    CHECK(memcmp(test_read(path, &n), "old", 3) == 0);
    CHECK_INT(n, 3);
    CHECK(fopen(test_tmp("finite.safetensors.tmp"), "rb") == NULL);
    CHECK_INT(ae_model_save(m, path, 0), AE_SUCCESS);
}

/* With a byte less than what suffices nothing happens. */
TEST(file_memory)
{
    ae_model *m = small_model(1), *o = NULL;
    ae_arena *arena = last_arena, *other = room(1 << 19);
    unsigned char *end = arena->end;
    size_t n, low = 0, high = ae_arena_left(arena);
    train_small(m);
    unsigned char *bytes = encoded(m, AE_SAVE_TRAINING, &n);
    const char *path = test_write("memory.safetensors", bytes, n);
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        arena->end = arena->next + middle;
        *(ae_model_load(m, path) ? &low : &high) = middle;
        CHECK(arena->end == arena->next + middle);
    }
    arena->end = arena->next + low;
    CHECK_INT(ae_model_load(m, path), AE_E_MEMORY);
    CHECK_ERROR(ae_error(m), "memory.safetensors");
    arena->end = arena->next + high;
    CHECK_INT(ae_model_load(m, path), AE_SUCCESS);
    arena->end = end;
    low = 0;
    high = ae_arena_left(other);
    end = other->end;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        other->end = other->base + middle;
        o = ae_model_open(other, path, 2, AE_TRAIN);
        *(o ? &high : &low) = middle;
        if (!o) CHECK_INT(ae_arena_used(other), 0);
        CHECK(other->end == other->base + middle);
        ae_arena_rewind(other, 0);
    }
    other->end = other->base + low;
    CHECK(ae_model_open(other, path, 2, AE_TRAIN) == NULL);
    CHECK(other->error[0] != 0);
    other->end = end;
}

/* --- writing ---------------------------------------------------------------------- */

TEST(file_write_fails)
{
    ae_model *m = small_model(1);
    const float x[2] = { 1, 2 };
    const size_t shape[1] = { 2 };
    ae_arena *arena = last_arena;
    CHECK_INT(ae_model_save(m, "build/no/such/folder.safetensors", 0), AE_E_IO);
    CHECK_ERROR(ae_error(m), "cannot write build/no/such/folder.safetensors");
    CHECK_INT(ae_model_save(m, ".", 0), AE_E_IO);       // a folder: what was written goes again
    CHECK_ERROR(ae_error(m), "cannot write .");
    CHECK(fopen("..tmp", "rb") == NULL);
    CHECK_INT(ae_npy_write(arena, ".", x, shape, 1), AE_E_IO);
    CHECK_INT(ae_csv_write(arena, ".", x, 1, 2), AE_E_IO);
    char path[1100];
    memset(path, 'a', sizeof path);
    path[1090] = 0;
    CHECK_INT(ae_model_save(m, path, 0), AE_E_IO);
    CHECK_ERROR(ae_error(m), "the path is longer than");
    CHECK_INT(ae_model_save(m, NULL, 0), AE_E_ARG);
    CHECK_ERROR(ae_error(m), "there is no path");
    CHECK(ae_model_load(m, NULL) != AE_SUCCESS);
    CHECK_INT(ae_npy_write(arena, NULL, x, shape, 1), AE_E_ARG);
    CHECK_INT(ae_csv_write(arena, NULL, x, 1, 2), AE_E_ARG);
    CHECK_INT(ae_model_save(m, test_tmp("flags.safetensors"), 2), AE_E_ARG);
    CHECK_ERROR(ae_error(m), "there are no flags 2");
#ifdef __linux__
    // a disk that is full: what is written to this name is refused when it is flushed
    const char *old = test_write("full.safetensors", "old", 3);
    const char *part = test_tmp("full.safetensors.tmp");
    size_t n;
    char command[400];
    snprintf(command, sizeof command, "ln -sf /dev/full %s", part);
    if (system(command) == 0) {
        CHECK_INT(ae_model_save(m, old, 0), AE_E_IO);
        CHECK_ERROR(ae_error(m), "cannot write");
        CHECK(memcmp(test_read(old, &n), "old", 3) == 0);
        CHECK_INT(ae_npy_write(arena, old, x, shape, 1), AE_SUCCESS);
        test_read(old, &n);
        CHECK_INT(n, 136);
    }
#endif
}

TEST(file_bad_calls)
{
    ae_model *m = small_model(1), *raw = ae_model_new(room(1 << 16), 1);
    ae_arena *arena = room(1 << 19);
    size_t n;
    unsigned char *bytes = encoded(m, 0, &n);
    ae_linear(ae_input(raw, 3, 1, 1), 2);
    CHECK_INT(ae_model_encode(raw, NULL, 0, 0), 0);
    CHECK_ERROR(ae_error(raw), "not built");
    CHECK_INT(ae_model_decode(raw, bytes, n, "f"), AE_E_ARG);
    CHECK_INT(ae_model_save(NULL, "build/none", 0), AE_E_ARG);
    CHECK_INT(ae_model_load(NULL, "build/none"), AE_E_ARG);
    CHECK_INT(ae_model_load(m, "build/none.safetensors"), AE_E_IO);
    CHECK_ERROR(ae_error(m), "cannot open build/none.safetensors");
    CHECK(ae_model_open(arena, "build/none.safetensors", 1, AE_INFER) == NULL);
    CHECK_ERROR(arena->error, "cannot open build/none.safetensors");
    CHECK(ae_model_open(NULL, "build/none.safetensors", 1, AE_INFER) == NULL);
    CHECK(ae_model_open(arena, "tests", 1, AE_INFER) == NULL);
    CHECK_ERROR(arena->error, "tests");
    CHECK(ae_model_open_memory(arena, bytes, n, "f", 0, AE_INFER) == NULL);
    CHECK_ERROR(arena->error, "f: batch 0: it must be at least 1");
    ae_model *fork = ae_fork(m, arena, 1), *small = ae_fork_small(m, arena, 1, AE_INT8, NULL);
    CHECK_INT(ae_model_decode(fork, bytes, n, "f"), AE_E_ARG);
    CHECK_ERROR(ae_error(fork), "a fork has the parameters of its model");
    check_same_file(m, fork, 0);
    CHECK_INT(ae_model_encode(small, NULL, 0, 0), 0);
    CHECK_ERROR(ae_error(small), "the weights of this fork are small");
    CHECK_INT(ae_model_encode(m, bytes, n - 1, 0), 0);
    CHECK_ERROR(ae_error(m), "are too few");
    CHECK_INT(ae_note(fork, "a", "b"), AE_E_ARG);
    CHECK_STR(ae_note_of(fork, "note"), ae_note_of(m, "note"));
    // two layers of one name
    ae_model *twice = ae_model_new(arena, 1);
    ae_tensor *x = ae_name(ae_linear(ae_input(twice, 2, 1, 1), 2), "a");
    ae_name(ae_linear(x, 2), "a");
    CHECK_INT(ae_build(twice, 1, AE_INFER), AE_SUCCESS);
    CHECK_INT(ae_model_encode(twice, NULL, 0, 0), 0);
    CHECK_ERROR(ae_error(twice), "two parameters are called a.weight");
    static const char *const names[] = { "", "a b", "\xc3\xa9", "tab\t", "\n" };
    for (size_t i = 0; i < 5; i++) {
        ae_model *named = ae_model_new(arena, 1);
        CHECK(ae_name(ae_input(named, 1, 1, 1), names[i]) == NULL);
        CHECK_ERROR(ae_error(named), "printable ASCII without blanks");
    }
}

TEST(file_notes)
{
    ae_model *m = small_model(1);
    ae_arena *arena = last_arena;
    char long_key[70], text[300];
    CHECK(ae_note_of(m, "none") == NULL && ae_note_of(NULL, "a") == NULL);
    CHECK_STR(ae_note_of(m, "note"), "\"caf\xc3\xa9\"\n");
    CHECK_INT(ae_note(m, "threshold", "0.031"), AE_SUCCESS);
    size_t used = ae_arena_used(arena);
    CHECK_INT(ae_note(m, "threshold", "0.0315"), AE_SUCCESS);
    CHECK_STR(ae_note_of(m, "threshold"), "0.0315");
    CHECK_INT(ae_arena_used(arena), used);                  // replaced where it stood
    memset(text, 'x', sizeof text);
    text[299] = 0;
    CHECK_INT(ae_note(m, "threshold", text), AE_SUCCESS);
    CHECK_INT(ae_note(m, "last", "\\ \x01\x1f\x7f"), AE_SUCCESS);
    CHECK_STR(ae_note_of(m, "threshold"), text);
    CHECK_STR(ae_note_of(m, "note"), "\"caf\xc3\xa9\"\n");
    memset(long_key, 'k', sizeof long_key);
    long_key[64] = 0;
    static const char *const bad[][2] = {
        { "", "a" }, { "ae.graph", "a" }, { "a", "\xff" }, { "\xc3", "a" }, { NULL, "a" },
        { "a", NULL }
    };
    for (size_t i = 0; i < 6; i++) CHECK_INT(ae_note(m, bad[i][0], bad[i][1]), AE_E_ARG);
    CHECK_INT(ae_note(m, long_key, "a"), AE_E_ARG);
    CHECK_ERROR(ae_error(m), "a key has 1 to 63 bytes");
    long_key[63] = 0;
    CHECK_INT(ae_note(m, long_key, "a"), AE_SUCCESS);
    unsigned char *end = arena->end;
    arena->end = arena->next;
    CHECK_INT(ae_note(m, "more", "a"), AE_E_MEMORY);
    CHECK_ERROR(ae_error(m), "more needs");
    arena->end = end;
    size_t n;
    unsigned char *bytes = encoded(m, 0, &n);
    ae_model *o = ae_model_open_memory(room(1 << 19), bytes, n, "f", 1, AE_INFER);
    REQUIRE(o != NULL);
    CHECK_STR(ae_note_of(o, "threshold"), text);
    CHECK_STR(ae_note_of(o, "note"), "\"caf\xc3\xa9\"\n");
    CHECK_STR(ae_note_of(o, "last"), "\\ \x01\x1f\x7f");
    CHECK_STR(ae_note_of(o, long_key), "a");
    check_same_file(m, o, 0);
    ae_model *b = small_model(3);
    CHECK_INT(ae_note(b, "own", "stays"), AE_SUCCESS);
    CHECK_INT(ae_model_decode(b, bytes, n, "f"), AE_SUCCESS);
    CHECK_STR(ae_note_of(b, "own"), "stays");
    CHECK_STR(ae_note_of(b, "threshold"), text);
    used = ae_arena_used(last_arena);
    CHECK_INT(ae_model_decode(b, bytes, n, "f"), AE_SUCCESS);
    CHECK_INT(ae_arena_used(last_arena), used);
}

TEST(file_scaling)
{
    ae_model *m = resumable(1);
    float *x = DATA_IN(23 * 6, 0, 1, 1);
    ae_dataset d = samples(x, 23), raw = samples(x, 23), other = samples(x, 5);
    ae_optim o = { 0 };
    size_t n;
    CHECK_INT(ae_scale_as_trained(m, &raw), AE_E_ARG);
    CHECK_ERROR(ae_error(m), "does not know how the data was scaled");
    d.scale = 1.0f / 255;
    CHECK_INT(ae_dataset_normalize(&d, 0.1307f, 0.3081f), AE_SUCCESS);
    CHECK_INT(ae_train_step(m, &d, &o), AE_SUCCESS);
    CHECK_INT(ae_evaluate(m, &other, NULL), AE_SUCCESS);        // does not count
    unsigned char *bytes = encoded(m, 0, &n);
    ae_model *opened = ae_model_open_memory(room(ROOM), bytes, n, "f", 1, AE_INFER);
    REQUIRE(opened != NULL);
    CHECK_INT(ae_scale_as_trained(opened, &raw), AE_SUCCESS);
    CHECK_BITS(&raw.scale, &d.scale, 1);
    CHECK_BITS(&raw.mean, &d.mean, 1);
    CHECK_BITS(&raw.deviation, &d.deviation, 1);
    CHECK(raw.floats == x && raw.n == 23);
    CHECK_INT(ae_scale_as_trained(NULL, &raw), AE_E_ARG);
    CHECK_INT(ae_scale_as_trained(m, NULL), AE_E_ARG);
}

TEST(file_tensor_names)
{
    ae_model *m = built(plain_graph, 1, AE_INFER);
    CHECK(ae_tensor_find(m, "relu2") == NULL && ae_tensor_find(NULL, "a") == NULL);
    CHECK(ae_tensor_find(m, NULL) == NULL && ae_tensor_find(m, "kept1") == NULL);
    CHECK_STR(ae_tensor_name(ae_tensor_find(m, "encoder.0")), "encoder.0");
    CHECK_STR(ae_tensor_name(NULL), "");
    // a name that another layer's parameters begin with stays its own
    ae_model *o = ae_model_new(room(1 << 16), 1);
    ae_tensor *a = ae_name(ae_linear(ae_input(o, 2, 1, 1), 2), "linear2"), *b = ae_linear(a, 2);
    ae_name(b, "linear1");
    CHECK_STR(ae_param_name(ae_weight(a)), "linear2.weight");
    CHECK_STR(ae_param_name(ae_bias(b)), "linear1.bias");
    ae_name(ae_tied(b, a), "shared");
    CHECK_STR(ae_param_name(ae_weight(a)), "linear2.weight");
    CHECK(ae_param_find(o, "shared.bias") != NULL);
}

/* --- arrays ------------------------------------------------------------------------ */

/* A .npy of a dictionary and data, version 1 or 2. */
static unsigned char *npy_of(int version, const char *dictionary, const void *data, size_t size,
                             size_t *n)
{
    const size_t length = strlen(dictionary), at = version == 1 ? 10 : 12;
    unsigned char *bytes = BYTES(at + length + size);
    memcpy(bytes, "\x93NUMPY", 6);
    bytes[6] = (unsigned char)version;
    bytes[8] = (unsigned char)length;
    bytes[9] = (unsigned char)(length >> 8);
    memcpy(bytes + at, dictionary, length);
    if (size) memcpy(bytes + at + length, data, size);
    *n = at + length + size;
    return bytes;
}

TEST(file_npy_types)
{
    static const struct npy_type {
        const char *type;
        int size;
        unsigned char data[16];
        float want[2];
    } rows[] = {
        { "<f4", 4, { 0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0 }, { 1.5f, -2 } },
        { ">f4", 4, { 0x3f, 0xc0, 0, 0, 0xc0, 0, 0, 0 }, { 1.5f, -2 } },
        { "<f8", 8, { 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0xc0 }, { 1.5f, -2 } },
        { ">f8", 8, { 0x3f, 0xf8, 0, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0 }, { 1.5f, -2 } },
        { "<f2", 2, { 0x00, 0x3e, 0x00, 0xc0 }, { 1.5f, -2 } },
        { ">f2", 2, { 0x3e, 0x00, 0xc0, 0x00 }, { 1.5f, -2 } },
        { "|u1", 1, { 0, 255 }, { 0, 1 } },
        { "|b1", 1, { 0, 1 }, { 0, 1 } },
        { "|i1", 1, { 0x80, 127 }, { -128, 127 } },
        { "<i2", 2, { 0xfe, 0xff, 0, 1 }, { -2, 256 } },
        { ">u2", 2, { 0xff, 0xfe, 0, 1 }, { 65534, 1 } },
        { "<i4", 4, { 0xff, 0xff, 0xff, 0xff, 0, 0, 0x80, 0x7f }, { -1, 2139095040.0f } },
        { "<u4", 4, { 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1 }, { 4294967296.0f, 16777216 } },
        { ">i8", 8, { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0 },
          { -256, 256 } },
        { "<u8", 8, { 0, 0, 0, 0, 0, 0, 0, 0x80, 1 }, { 9223372036854775808.0f, 1 } },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char dictionary[100];
        size_t n;
        float got[2] = { 9, 9 };
        int32_t labels[2] = { 7, 7 };
        ae_dataset d;
        ae_arena *arena = room(1 << 12);
        snprintf(dictionary, sizeof dictionary,
                 "{\"shape\" : (2,),'fortran_order': %s, 'descr':'%s'}",
                 i % 2 ? "False" : "True", rows[i].type);
        unsigned char *bytes = npy_of(1 + (int)i % 3, dictionary, rows[i].data,
                                      2 * (size_t)rows[i].size, &n);
        test_context("%s", rows[i].type);
        if (!CHECK_INT(ae_npy_parse(&d, arena, bytes, n, NULL, 0, "f"), AE_SUCCESS))
            printf("%s\n", arena->error);
        CHECK_INT(d.n, 2);
        CHECK((d.bytes != NULL) == (rows[i].size == 1 && rows[i].type[1] != 'i'));
        CHECK_INT(ae_dataset_get(&d, got, NULL, 0, 2), AE_SUCCESS);
        CHECK_BITS(got, rows[i].want, 2);
        // as labels
        const int whole = rows[i].type[1] != 'f', fit = rows[i].want[0] >= 0
            && rows[i].want[0] < 2147483648.0f;
        ae_status status = ae_npy_parse(&d, arena, bytes, n, bytes, n, "f");
        CHECK_INT(status, whole && fit ? AE_SUCCESS : AE_E_FORMAT);
        if (status) CHECK_ERROR(arena->error, whole ? "f labels: label 1 is not from 0 to"
                                                    : "labels are n of type i or u");
        else CHECK_INT(ae_dataset_get(&d, NULL, labels, 0, 2), AE_SUCCESS);
        if (!status) CHECK_INT(labels[1], rows[i].type[1] == 'u' && rows[i].size == 1
                               ? 255 : (int)rows[i].want[1]);
    }
}

TEST(file_npy_shapes)
{
    static const struct { const char *shape; int n, c, h, w; } rows[] = {
        { "(24,)", 24, 1, 1, 1 }, { "(4, 6)", 4, 6, 1, 1 }, { "(2,3,4)", 2, 1, 3, 4 },
        { "( 2 , 2 , 3 , 2 )", 2, 2, 3, 2 }, { "(24)", 24, 1, 1, 1 }
    };
    for (int fortran = 0; fortran < 2; fortran++)
        for (size_t i = 0; i < 5; i++) {
            unsigned char data[24];
            float got[24], want[24];
            char dictionary[200];
            ae_dataset d;
            size_t n;
            const int dims[4] = { rows[i].n, rows[i].c, rows[i].h, rows[i].w };
            for (int k = 0; k < 24; k++) {          // element k in C's order has value k
                int at = k, place = 0, stride = 1, index[4];
                for (int j = 3; j >= 0; at /= dims[j], j--) index[j] = at % dims[j];
                for (int j = 0; j < 4; stride *= dims[j], j++) place += index[j] * stride;
                data[fortran ? place : k] = (unsigned char)k;
                want[k] = (float)k / 255;
            }
            snprintf(dictionary, sizeof dictionary,
                     "{'descr': '|u1', 'fortran_order': %s, 'shape': %s, }   \n",
                     fortran ? "True" : "False", rows[i].shape);
            unsigned char *bytes = npy_of(1, dictionary, data, 24, &n);
            test_context("%s %d", rows[i].shape, fortran);
            ae_arena *arena = room(1 << 12);
            if (!CHECK_INT(ae_npy_parse(&d, arena, bytes, n, NULL, 0, "f"), AE_SUCCESS))
                printf("%s\n", arena->error);
            CHECK(d.n == (size_t)rows[i].n && d.c == rows[i].c);
            CHECK(d.h == rows[i].h && d.w == rows[i].w);
            CHECK_INT(ae_dataset_get(&d, got, NULL, 0, d.n), AE_SUCCESS);
            CHECK_ARRAY(got, want, 24, 0, 2e-7);        // want: -Ofast divides otherwise
        }
}

#define NPY(type, fortran, shape) \
    "{'descr': " type ", 'fortran_order': " fortran ", 'shape': " shape "}"

TEST(file_npy_refuses)
{
    static const struct { const char *dictionary, *sentence; } rows[] = {
        { NPY("'<f3'", "False", "(1,)"), "a type that cannot be read" },
        { NPY("'<c8'", "False", "(1,)"), "a type that cannot be read" },
        { NPY("[('a','<f4')]", "False", "(1,)"), "a type that cannot" },
        { NPY("'<U12'", "False", "(1,)"), "a type that cannot be read" },
        { "{'fortran_order': False, 'shape': (1,), }", "a type that cannot be read" },
        { NPY("'<f4'", "false", "(1,)"), "not of an array of 1 to 4" },
        { "{'descr': '<f4', 'shape': (1,), }", "not of an array of 1 to 4" },
        { "{'descr': '<f4', 'fortran_order': False, }", "not of an array of 1 to 4" },
        { NPY("'<f4'", "False", "()"), "not of an array of 1 to 4" },
        { NPY("'<f4'", "False", "(1,1,1,1,1)"), "of 1 to 4 dimensions" },
        { NPY("'<f4'", "False", "(1"), "not of an array of 1 to 4" },
        { NPY("'<f4'", "False", "(-1,)"), "not of an array of 1 to 4" },
        { NPY("'<f4'", "False", "(99999999999,)"), "not of an array of" },
        { NPY("'<f4'", "False", "(0, 3)"), "dimension 1 of 0x3 is 0" },
        { NPY("'<f4'", "False", "(4294967295,4294967295)"), "too many" },
        { NPY("'<f4'", "False", "(3,)"), "holds 8 of the 12 bytes" },
        { NPY("'<f4'", "False", "(1,)"), "goes on after the 4 bytes" },
        { NPY("'>f8'", "False", "(1,)"), "value 1 of sample 1 is not" },
    };
    const unsigned char data[8] = { 0x7f, 0xf8, 0, 0, 0, 0, 0, 1 };     // NaN, as >f8
    ae_arena *arena = room(1 << 12);
    ae_dataset d;
    size_t n;
    memset(&d, 0x5a, sizeof d);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        unsigned char *bytes = npy_of(1, rows[i].dictionary, data,
                                      8, &n);
        test_context("%s", rows[i].dictionary);
        CHECK_INT(ae_npy_parse(&d, arena, bytes, n, NULL, 0, "f"), AE_E_FORMAT);
        CHECK_ERROR(arena->error, rows[i].sentence);
        CHECK_INT(ae_arena_used(arena), 0);
    }
    unsigned char *bytes = npy_of(1, NPY("'|u1'", "False", "(8,)"), data,
                                  8, &n);
    for (size_t i = 0; i < n; i++) {
        unsigned char *part = (unsigned char *)malloc(i + 1);
        memcpy(part, bytes, i);
        CHECK_INT(ae_npy_parse(&d, arena, part, i, NULL, 0, "f"), AE_E_FORMAT);
        free(part);
    }
    CHECK_INT(ae_npy_parse(&d, arena, bytes, n, bytes, n, "f"), AE_SUCCESS);
    bytes[6] = 4;
    CHECK_INT(ae_npy_parse(&d, arena, bytes, n, NULL, 0, "f"), AE_E_FORMAT);
    CHECK_ERROR(arena->error, "f is not .npy of version 1 to 3");
}

TEST(file_npy_written)
{
    const float x[6] = { 1, -2.5f, 3e-20f, 4, 5, 6e30f };
    const size_t shape[3] = { 2, 1, 3 }, empty[2] = { 0, 5 }, large[2] = { SIZE_MAX, SIZE_MAX };
    static const char head[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1, 3), }";
    ae_arena *arena = room(1 << 16);
    size_t n = ae_npy_encode(NULL, 0, x, shape, 3);
    unsigned char *bytes = BYTES(n);
    ae_dataset d;
    CHECK_INT(ae_npy_encode(bytes, n - 1, x, shape, 3), 0);
    CHECK_INT(ae_npy_encode(bytes, n, x, shape, 3), n);
    CHECK(memcmp(bytes, "\x93NUMPY\1\0\x76\0", 10) == 0);
    CHECK(memcmp(bytes + 10, head, sizeof head - 1) == 0);
    CHECK_INT((n - 24) % 64, 0);
    CHECK_INT(bytes[n - 25], '\n');
    CHECK(memcmp(bytes + n - 24, "\0\0\x80\x3f", 4) == 0);
    CHECK_INT(ae_npy_parse(&d, arena, bytes, n, NULL, 0, "f"), AE_SUCCESS);
    CHECK_BITS(d.floats, x, 6);
    CHECK(d.n == 2 && d.c == 1 && d.h == 1 && d.w == 3);
    const char *path = test_tmp("a.npy");
    CHECK_INT(ae_npy_write(arena, path, x, shape, 1), AE_SUCCESS);
    bytes = test_read(path, &n);
    CHECK(strstr((char *)bytes + 10, "(2,)") != NULL);
    CHECK_INT(ae_npy_load(&d, arena, path, NULL), AE_SUCCESS);
    CHECK_INT(d.n, 2);
    CHECK_INT(ae_npy_load(&d, arena, "build/none.npy", NULL), AE_E_IO);
    CHECK_INT(ae_npy_encode(NULL, 0, x, shape, 9), 0);
    CHECK_INT(ae_npy_encode(NULL, 0, x, large, 2), 0);
    CHECK_INT(ae_npy_encode(NULL, 0, NULL, shape, 2), 0);
    CHECK_INT(ae_npy_encode(NULL, 0, NULL, empty, 2), 128);
    CHECK_INT(ae_npy_encode(NULL, 0, x, NULL, 0), 132);
    CHECK_INT(ae_npy_write(arena, path, x, shape, -1), AE_E_ARG);
    CHECK_ERROR(arena->error, "an array of -1 dimensions");
    CHECK_INT(ae_csv_write(arena, path, x, 2, 0), AE_E_ARG);
}

/* The fewest digits that read back: what a program reads in any locale. */
TEST(file_csv_written)
{
    const float x[12] = { 0.1f, -2, 0, 1e-7f, 3.4028235e38f, 1.1754944e-38f, 16777216, 123456789.0f,
                          0.00001f, -1.5e10f, 1.0f / 3, 5e8f };
    static const char want[] = "0.1,-2,0,1e-7\n3.4028235e38,1.1754944e-38,16777216,123456790\n"
                               "0.00001,-1.5e10,0.33333334,500000000\n";
    ae_arena *arena = room(1 << 16);
    const char *path = test_tmp("a.csv");
    size_t n;
    CHECK_INT(ae_csv_write(arena, path, x, 3, 4), AE_SUCCESS);
    unsigned char *text = test_read(path, &n);
    text[n] = 0;
    CHECK_STR((char *)text, want);
    const size_t count = 20000;
    float *y = (float *)BYTES(count * sizeof(float));
    for (size_t i = 0, u = 12345; i < count; i++) {
        uint32_t bits;
        u = u * 1664525u + 1013904223u;
        bits = (uint32_t)u ^ (uint32_t)(u >> 16);
        if ((bits & 0x7f800000u) == 0x7f800000u) bits &= 0xbfffffffu;
        memcpy(y + i, &bits, 4);
    }
    ae_dataset d;
    arena = room(1 << 19);
    for (size_t i = 0; i < count; i++) if (fabs((double)y[i]) < 1e-37) y[i] = (float)i * 0.1f;
    CHECK_INT(ae_csv_write(arena, path, y, count / 4, 4), AE_SUCCESS);
    CHECK_INT(ae_csv_load(&d, arena, path, 0), AE_SUCCESS);
    REQUIRE(d.floats != NULL);
    CHECK_BITS(d.floats, y, count);
    y[1] = test_nan();
    y[2] = test_inf();
    y[3] = -test_inf();
    CHECK_INT(ae_csv_write(arena, path, y, 1, 4), AE_SUCCESS);
    text = test_read(path, &n);
    CHECK(memcmp(text + n - 14, ",nan,inf,-inf\n", 14) == 0);
}

TEST_LIST(file) {
    CASE(file_every_operation),
    CASE(file_modes),
    CASE(file_resume),
    CASE(file_saving_disturbs_nothing),
    CASE(file_after_failure),
    CASE(file_rollback),
    CASE(file_cut_everywhere),
    CASE(file_spoiled_everywhere),
    CASE(file_accepts),
    CASE(file_types),
    CASE(file_refuses),
    CASE(file_batches_tracked),
    CASE(file_graphs),
    CASE(file_probe),
    CASE(file_probe_steady),
    CASE(file_not_finite),
    CASE(file_memory),
    CASE(file_write_fails),
    CASE(file_bad_calls),
    CASE(file_notes),
    CASE(file_scaling),
    CASE(file_tensor_names),
    CASE(file_npy_types),
    CASE(file_npy_shapes),
    CASE(file_npy_refuses),
    CASE(file_npy_written),
    CASE(file_csv_written),
    CASE_END
};
