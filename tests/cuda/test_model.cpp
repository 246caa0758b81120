/* test_model.cpp: whole models on the GPU's stand-in, against the same models on the CPU. */
#ifndef AE_CUDA_BLOCK
#define AE_CUDA_BLOCK 64        /* small models: fewer threads without work */
#endif
#include "ops.h"
#include <stdlib.h>

// With a sanitizer, that is ten times as slow, fewer steps.
static const bool quick = settings < sim::SETTINGS;

/* ---- models and data ---- */

static ae_tensor *mirror_image(ae_tensor *x)    // 12 x 12 pixels through 8 numbers
{
    ae_tensor *z = ae_linear(ae_relu(ae_linear(x, 24)), 8);
    return ae_sigmoid(ae_linear(ae_relu(ae_linear(z, 24)), 144));
}

static void dense(ae_model *m)
{
    ae_tensor *x = ae_input(m, 1, 12, 12);
    ae_minimize(ae_mse(mirror_image(x), x, AE_MEAN));
}

static void denoising(ae_model *m)
{
    ae_tensor *x = ae_input(m, 1, 12, 12);
    ae_minimize(ae_mse(mirror_image(ae_gaussian_noise(x, 0.2f, 0.0f, 1.0f)), x, AE_MEAN));
}

static void convolutional(ae_model *m)
{
    ae_tensor *x = ae_input(m, 1, 12, 12);
    ae_tensor *h = ae_max_pool2d(ae_relu(ae_conv2d(x, 4, 3, 1, 1)), 2);
    h = ae_max_pool2d(ae_relu(ae_conv2d(h, 6, 3, 1, 1)), 2);
    h = ae_relu(ae_conv_transpose2d(h, 4, 2, 2, 0, 0));
    ae_tensor *y = ae_sigmoid(ae_conv_transpose2d(h, 1, 2, 2, 0, 0));
    ae_minimize(ae_mse(y, x, AE_MEAN));
}

static void variational(ae_model *m)
{
    ae_tensor *x = ae_input(m, 1, 12, 12);
    ae_tensor *h = ae_relu(ae_linear(x, 24));
    ae_tensor *mu = ae_name(ae_linear(h, 4), "mu"), *logvar = ae_linear(h, 4);
    ae_tensor *z = ae_name(ae_gaussian_sample(mu, logvar), "z");
    ae_tensor *y = ae_name(ae_linear(ae_relu(ae_linear(z, 24)), 144), "y");
    ae_tensor *kl = ae_kl_normal(mu, logvar, 0.0f, AE_BATCH_MEAN);
    ae_minimize(ae_bce_logits(y, x, AE_BATCH_MEAN));
    ae_minimize(kl);
    ae_warm_up(kl, 3.0f);
}

// Nearly everything else: norms, dropout, labels, fixed noise, sums, shared weights, penalties.
static void everything(ae_model *m)
{
    ae_tensor *x = ae_input(m, 1, 12, 12), *labels = ae_labels(m);
    ae_tensor *h = ae_noise_fixed(ae_mask_noise(x, 0.2f));
    h = ae_batch_norm(ae_conv2d(h, 3, 3, 2, 1), NULL);
    h = ae_spatial_dropout(ae_elu(h, 1.0f), 0.2f);
    h = ae_vq(ae_group_norm(ae_conv2d(h, 4, 1, 1, 0), 2, NULL), NULL);
    ae_minimize(ae_vq_loss(h, AE_MEAN));
    h = ae_upsample_bilinear(ae_avg_pool2d(h, 2), 2);
    ae_tensor *skip = ae_pad2d(ae_crop2d(h, 1, 1, 0, 0), 0, 2, 0, 0, 0.5f);
    ae_tensor *flat = ae_flatten(ae_add(h, skip));
    ae_tensor *first = ae_linear(flat, 20);
    ae_tensor *z = ae_top_k(ae_silu(ae_layer_norm(first, NULL)), 9);
    ae_monitor(ae_l1_penalty(z, AE_BATCH_MEAN));
    z = ae_concat(z, ae_one_hot(labels, 10));
    ae_minimize_weighted(ae_cross_entropy(ae_linear(z, 10), labels, AE_MEAN), 0.1f);
    ae_tensor *y = ae_linear(ae_dropout(ae_gelu(ae_tied(ae_linear(z, 20), first)), 0.1f), 144);
    ae_minimize(ae_huber(y, x, 0.5f, AE_MEAN));
    ae_minimize_weighted(ae_weight_l2(first), 1e-4f);
    ae_limit_norm(first, 2.0f);
}

static void tiny(ae_model *m)   // for what is done hundreds of times
{
    ae_tensor *x = ae_input(m, 1, 12, 12);
    ae_tensor *h = ae_batch_norm(ae_relu(ae_linear(ae_avg_pool2d(x, 4), 4)), NULL);
    ae_minimize(ae_mse(ae_linear(h, 144), x, AE_MEAN));
}

typedef void Net(ae_model *m);

struct Data {
    std::vector<uint8_t> bytes;
    std::vector<int32_t> labels;
    ae_dataset set;
    explicit Data(size_t n)
    {
        Floats u = uniform(n * 144, 0.0f, 256.0f, 99);
        for (size_t i = 0; i < n * 144; i++)    // waves, so that there is something to learn
            bytes.push_back((uint8_t)(127.0 + 90.0 * sin((double)(i % 144) * 0.1 * (1.0
                            + (double)(i / 144 % 5))) + (double)u[i] / 7.0));
        for (size_t i = 0; i < n; i++) labels.push_back((int32_t)(i % 10));
        memset(&set, 0, sizeof set);
        set.bytes = bytes.data();
        set.labels = labels.data();
        set.n = n;
        set.c = 1;
        set.h = set.w = 12;
        set.scale = 1.0f / 255.0f;
    }
};

struct Model {
    ae_arena *arena;
    ae_model *m;
    ae_status status;
    Model(Net *net, ae_device_kind device, int batch = 8, ae_mode mode = AE_TRAIN)
    {
        arena = ae_arena_new(8u << 20);
        m = ae_model_new(arena, 5);
        net(m);
        ae_set_device(m, device);
        status = ae_build(m, batch, mode);
    }
    ~Model() { ae_arena_free(arena); }
    ae__cu_model *gpu() { return ((ae__cuda *)m->context)->model; }
    Floats weights()
    {
        size_t bytes = 0;
        const float *w = (const float *)ae_segment_data(m, AE_SEG_PARAM, &bytes);
        return Floats(w, w + bytes / 4);
    }
};

static ae_optim adam(float lr)
{
    ae_optim o;
    memset(&o, 0, sizeof o);
    o.lr = lr;
    return o;
}

/* ---- training follows the CPU ---- */

static void follows(const char *name, Net *net, const ae_optim &o, double tolerance)
{
    Data data(37);              // batches of 8, and of 5 at the end
    Model cpu(net, AE_DEVICE_CPU), gpu(net, AE_DEVICE_CUDA);
    CHECK(cpu.status == AE_SUCCESS && gpu.status == AE_SUCCESS);
    CHECK(ae_data_upload(gpu.m, &data.set) == AE_SUCCESS);
    double worst = 0;
    for (int step = 0; step < (quick ? 7 : 52); step++) {    // not a whole epoch
        ae_status a = ae_train_step(cpu.m, &data.set, &o), b = ae_train_step(gpu.m, &data.set, &o);
        if (a || b) printf("%s: %s | %s\n", name, ae_error(cpu.m), ae_error(gpu.m));
        CHECK(a == AE_SUCCESS && b == AE_SUCCESS);
        for (const ae_tensor *t = cpu.m->first; t; t = t->next)
            if (t->loss >= 0) {
                const ae_tensor *u = ae_tensor_find(gpu.m, t->name);
                const double want = (double)ae_batch_loss(cpu.m, t);
                worst = fmax(worst, fabs((double)ae_batch_loss(gpu.m, u) - want)
                                        / (fabs(want) + 1e-6));
            }
        const double want = (double)ae_mean_loss(cpu.m, NULL);
        worst = fmax(worst, fabs((double)ae_mean_loss(gpu.m, NULL) - want) / want);
    }
    if (!(worst <= tolerance)) printf("%s: the losses are %g off\n", name, worst);
    CHECK(worst <= tolerance);
    CHECK(ae_steps(cpu.m) == ae_steps(gpu.m));
    float a = 0, b = 0;
    const double off = distance(gpu.weights(), cpu.weights());
    if (!(off <= 10 * tolerance)) printf("%s: the weights are %g off\n", name, off);
    CHECK(off <= 10 * tolerance);
    CHECK(ae_evaluate(gpu.m, &data.set, &a) == AE_SUCCESS);         // in the middle of an epoch
    CHECK(ae_train_step(gpu.m, &data.set, &o) == AE_SUCCESS);
    CHECK(ae_evaluate(gpu.m, &data.set, &b) == AE_SUCCESS);
    CHECK(a != b);
    std::vector<unsigned char> state(ae_snapshot_bytes(gpu.m));     // the same weights for both
    CHECK(ae_snapshot(gpu.m, state.data()) == AE_SUCCESS);
    CHECK(ae_restore(cpu.m, state.data(), state.size()) == AE_SUCCESS);
    CHECK(ae_evaluate(cpu.m, &data.set, &a) == AE_SUCCESS);
    CHECK(ae_evaluate(gpu.m, &data.set, &b) == AE_SUCCESS);
    if (!(fabs((double)(a - b)) <= 1e-5 * fabs((double)a)))
        printf("%s: evaluation %g, %g\n", name, (double)a, (double)b);
    CHECK(fabs((double)(a - b)) <= 1e-5 * fabs((double)a));
}

/* ---- the same bits, however it is done ---- */

enum { STAGED = 1, EAGER = 2 };

static Floats trained(Net *net, int how)
{
    Data data(30);
    Model gpu(net, AE_DEVICE_CUDA);
    uint32_t index[21];         // a share of the samples, as ae_dataset_split makes it
    for (uint32_t i = 0; i < 21; i++) index[i] = i * 7 % 30;
    data.set.index = index;
    data.set.n = 21;
    CHECK(gpu.status == AE_SUCCESS);
    if (how & EAGER) gpu.gpu()->no_graphs = 1;
    if (!(how & STAGED)) CHECK(ae_data_upload(gpu.m, &data.set) == AE_SUCCESS);
    const ae_optim o = adam(0.01f);
    for (int step = 0; step < 9; step++)
        CHECK(ae_train_step(gpu.m, &data.set, &o) == AE_SUCCESS);
    Floats w = gpu.weights();
    w.push_back(ae_mean_loss(gpu.m, NULL));
    return w;
}

static void same_bits_everywhere(const char *name, Net *net, int most)
{
    Floats first;
    for (int s = 0; s < (quick ? 1 : most); s++)
        for (int how = 0; how < 4; how += s == 0 ? 1 : 3) {
            sim::use_setting(s);
            Floats w = trained(net, how);
            if (first.empty()) first = w;
            if (!same_bits({first}, {w})) printf("%s: other bits with %s, %d\n", name,
                                                 sim::setting_text(s), how);
            CHECK(same_bits({first}, {w}));
        }
    sim::use_setting(0);
}

/* ---- a step is one graph ---- */

static void one_graph(const char *name, Net *net, long most)
{
    Data data(24);
    Model gpu(net, AE_DEVICE_CUDA);
    const ae_optim o = adam(0.01f);
    CHECK(ae_data_upload(gpu.m, &data.set) == AE_SUCCESS);
    for (int step = 0; step < 4; step++)
        CHECK(ae_train_step(gpu.m, &data.set, &o) == AE_SUCCESS);
    const long kernels = sim::counters().graph_kernels;
    sim::reset_counters();
    for (int step = 0; step < 5; step++)
        CHECK(ae_train_step(gpu.m, &data.set, &o) == AE_SUCCESS);
    const sim::Counters c = sim::counters();
    CHECK(c.allocations == 0);
    CHECK(c.synchronisations == 0);
    CHECK(c.copies == 0 && c.fills == 0);
    CHECK(c.graph_launches == 5);
    CHECK(c.launches == 5);     // the steps' numbers
    printf("%s: %ld kernels a step\n", name, kernels);
#ifdef AE_CUDA_CUBLAS
    most *= 3;                  // product, bias and activation, the bias's gradient: each alone
#endif
    CHECK(kernels > 0 && kernels <= most);
}

static void deep(ae_model *m)   // as many layers as the real one, which has 784-256-128-32-...
{
    ae_tensor *x = ae_input(m, 1, 12, 12);
    ae_tensor *h = ae_relu(ae_linear(ae_relu(ae_linear(x, 16)), 12));
    h = ae_relu(ae_linear(ae_relu(ae_linear(ae_linear(h, 8), 12)), 16));
    ae_minimize(ae_mse(ae_sigmoid(ae_linear(h, 144)), x, AE_MEAN));
}

/* ---- what changes between steps counts ---- */

static Floats changing(Net *net, int how)
{
    Data data(40), other(16);
    Model gpu(net, AE_DEVICE_CUDA);
    if (how & EAGER) gpu.gpu()->no_graphs = 1;
    if (!(how & STAGED)) ae_data_upload(gpu.m, &data.set);
    ae_optim o = adam(0.01f);
    for (int i = 0; i < 4; i++) ae_train_step(gpu.m, &data.set, &o);
    o.lr = 0.002f;                                              // another rate
    for (int i = 0; i < 3; i++) ae_train_step(gpu.m, &data.set, &o);
    float loss = 0;
    CHECK(ae_evaluate(gpu.m, &other.set, &loss) == AE_SUCCESS);  // not training
    ae_train_step(gpu.m, &data.set, &o);
    o.clip_norm = 0.01f;                                        // clipping
    for (int i = 0; i < 4; i++) ae_train_step(gpu.m, &data.set, &o);
    std::vector<unsigned char> kept(ae_snapshot_bytes(gpu.m));
    CHECK(ae_snapshot(gpu.m, kept.data()) == AE_SUCCESS);       // back to where it was
    ae_train_step(gpu.m, &data.set, &o);
    CHECK(ae_restore(gpu.m, kept.data(), kept.size()) == AE_SUCCESS);
    ae_fit_options fit;
    memset(&fit, 0, sizeof fit);
    fit.epochs = 2;
    fit.batch = 6;                                              // another batch, and parts of steps
    fit.accumulate = 2;
    CHECK(ae_fit(gpu.m, &data.set, &o, &fit, NULL) == AE_SUCCESS);
    ae_param_data(gpu.m, ae_param_at(gpu.m, 0))[0] = 0.125f;    // the program writes a weight
    for (int i = 0; i < 4; i++) ae_train_step(gpu.m, &data.set, &o);
    o.kind = AE_SGD;                                            // another optimiser
    o.clip_norm = 0;
    for (int i = 0; i < 3; i++) ae_train_step(gpu.m, &data.set, &o);
    Floats w = gpu.weights();
    w.push_back(loss);
    w.push_back(ae_mean_loss(gpu.m, NULL));
    return w;
}

static void changes_count(Net *net)
{
    const Floats eager = changing(net, EAGER);
    for (int how = 0; how < 4; how++) CHECK(same_bits({eager}, {changing(net, how)}));
    CHECK(std::isfinite(eager.back()));
}

/* ---- mistakes ---- */

// A step that fails on the GPU: the CPU's sentence, and nothing changed.
static void fails_alike(const char *name, Net *net, const std::function<void(Data &)> &spoil)
{
    Data good(24), bad(24);
    spoil(bad);
    Model cpu(net, AE_DEVICE_CPU), gpu(net, AE_DEVICE_CUDA);
    const ae_optim o = adam(0.01f);
    std::string sentence[2];
    for (ae_model *m : {cpu.m, gpu.m}) {
        for (int i = 0; i < 5; i++) CHECK(ae_train_step(m, &good.set, &o) == AE_SUCCESS);
        const Floats before = m == gpu.m ? gpu.weights() : cpu.weights();
        const uint64_t steps = ae_steps(m);
        ae_status status = ae_train_step(m, &bad.set, &o);
        if (m == gpu.m) {                                       // known when somebody looks
            CHECK(status == AE_SUCCESS);
            ae_train_step(m, &bad.set, &o);
            ae_train_step(m, &good.set, &o);                    // frozen
            status = ae_sync(m);
        }
        CHECK(status != AE_SUCCESS);
        sentence[m == gpu.m] = ae_error(m);
        CHECK(ae_steps(m) == steps);
        CHECK(same_bits({before}, {m == gpu.m ? gpu.weights() : cpu.weights()}));
        for (int i = 0; i < 4; i++) CHECK(ae_train_step(m, &good.set, &o) == AE_SUCCESS);
        CHECK(ae_sync(m) == AE_SUCCESS);
        CHECK(ae_steps(m) == steps + 4);
    }
    if (sentence[0] != sentence[1])
        printf("%s:\n  %s\n  %s\n", name, sentence[0].c_str(), sentence[1].c_str());
    CHECK(sentence[0] == sentence[1]);
}

static void failures_alike()
{
    fails_alike("target", variational, [](Data &d) { d.set.scale = 1.0f / 200.0f; });
    fails_alike("label", everything, [](Data &d) { for (int32_t &l : d.labels) l += 1; });
    fails_alike("infinite", dense, [](Data &d) { d.set.scale = 1e38f; });
}

/* ---- no GPU ---- */

static void without_gpu()
{
    Data data(24);
    const ae_optim o = adam(0.01f);
    Model plain(dense, AE_DEVICE_CPU);
    sim::set_devices(0);
    Model fallback(dense, AE_DEVICE_AUTO), wanted(dense, AE_DEVICE_CUDA);
    CHECK(fallback.status == AE_SUCCESS);
    CHECK(strstr(ae_device(fallback.m), "cpu: no usable GPU (cudaErrorInsufficientDriver: "));
    CHECK(wanted.status == AE_E_DEVICE);
    CHECK(strstr(ae_error(wanted.m), "cudaErrorInsufficientDriver"));
    CHECK(ae_epoch(plain.m, &data.set, &o) == ae_epoch(fallback.m, &data.set, &o));
    CHECK(same_bits({plain.weights()}, {fallback.weights()}));
    setenv("AE_DEVICE", "cuda", 1);
    Model by_environment(dense, AE_DEVICE_AUTO), chosen(dense, AE_DEVICE_CPU);
    CHECK(by_environment.status == AE_E_DEVICE && chosen.status == AE_SUCCESS);
    setenv("AE_DEVICE", "gpu", 1);
    Model unknown(dense, AE_DEVICE_AUTO);
    CHECK(unknown.status == AE_E_ARG && strstr(ae_error(unknown.m), "auto, cpu or cuda"));
    sim::set_devices(1);
    setenv("AE_DEVICE", "cpu", 1);
    Model processor(dense, AE_DEVICE_AUTO);
    CHECK(strcmp(ae_device(processor.m), "cpu") == 0);
    unsetenv("AE_DEVICE");
    Model gpu(dense, AE_DEVICE_AUTO);
    CHECK(strncmp(ae_device(gpu.m), "cuda: ", 6) == 0);
    CHECK(ae_set_device(gpu.m, AE_DEVICE_CPU) == AE_E_ARG);
}

/* ---- every call that can fail fails once ---- */

// What a program does; true when all of it went well.
static bool program(std::string *error)
{
    Data data(8);
    Model gpu(tiny, AE_DEVICE_CUDA, 4);
    const ae_optim o = adam(0.01f);
    ae_status status = gpu.status;
    if (!status) status = ae_data_upload(gpu.m, &data.set);
    for (int i = 0; i < 5 && !status; i++) status = ae_train_step(gpu.m, &data.set, &o);
    Data other(6);
    for (int i = 0; i < 2 && !status; i++) status = ae_train_step(gpu.m, &other.set, &o);
    float loss;
    if (!status) status = ae_evaluate(gpu.m, &data.set, &loss);
    Floats y(8 * 144);
    if (!status) status = ae_predict_dataset(gpu.m, gpu.m->last->in[0], y.data(), &data.set);
    *error = ae_error(gpu.m);
    if (status && !gpu.status && gpu.gpu()->cuda->error)
        CHECK(ae_sync(gpu.m) == AE_E_DEVICE);                   // it stays
    return status == AE_SUCCESS;
}

static void faults()
{
    std::string error;
    sim::reset_counters();
    CHECK(program(&error));
    const long calls = sim::counters().calls;
    CHECK(calls > 50);
    int survived = 0;
    for (long n = 1; n <= calls; n += quick ? 7 : 1) {
        sim::fail_call(n);
        const bool fine = program(&error);
        sim::fail_call(0);
        survived += fine;               // a graph that cannot be made, a place to save pages
        const bool told = strstr(error.c_str(), "cuda") || strstr(error.c_str(), "GPU's memory");
        if (!fine && !told) printf("fault %ld: %s\n", n, error.c_str());
        CHECK(fine || told);
        CHECK(sim::leaks() == 0);
        CHECK(cudaGetLastError() == cudaSuccess);
    }
    CHECK(quick || survived < calls / 4);
}

/* ---- the rest of the interface ---- */

// A file opened on the GPU computes what the model did that was saved.
static void file_round_trip()
{
    Data data(12);
    Model gpu(variational, AE_DEVICE_CUDA);
    const ae_optim o = adam(0.01f);
    ae_epoch(gpu.m, &data.set, &o);
    std::vector<unsigned char> file(1 << 20);
    const size_t bytes = ae_model_encode(gpu.m, file.data(), file.size(), AE_SAVE_TRAINING);
    ae_arena *arena = ae_arena_new(8u << 20);
    ae_model *m = ae_model_open_memory(arena, file.data(), bytes, "file", 8, AE_TRAIN);
    if (m == NULL) printf("%s\n", arena->error);
    CHECK(m && strncmp(ae_device(m), "cuda: ", 6) == 0);
    for (int i = 0; i < 5 && m; i++) {
        CHECK(ae_train_step(gpu.m, &data.set, &o) == AE_SUCCESS);
        CHECK(ae_train_step(m, &data.set, &o) == AE_SUCCESS);
    }
    CHECK(m && ae_batch_loss(m, NULL) == ae_batch_loss(gpu.m, NULL));
    ae_arena_free(arena);
}

// Fixed noise of values that were set by hand goes by their place in the call.
static void noisy(ae_model *m)
{
    ae_tensor *x = ae_input(m, 1, 12, 12);
    ae_tensor *y = ae_noise_always(ae_noise_fixed(ae_salt_pepper(x, 0.3f, 0.0f, 1.0f)));
    ae_minimize(ae_mse(ae_linear(y, 144), x, AE_MEAN));
}

static void fixed_noise()
{
    Floats x = uniform(11 * 144, 0.2f, 0.8f, 4), y[2];
    for (int k = 0; k < 2; k++) {
        Model one(noisy, k ? AE_DEVICE_CUDA : AE_DEVICE_CPU);
        ae_tensor *noise = one.m->last->in[0]->in[0];
        y[k].resize(x.size());
        CHECK(ae_predict(one.m, noise, y[k].data(), x.data(), 11) == AE_SUCCESS);
        CHECK(ae_set(one.m, one.m->first, x.data(), 3) == AE_SUCCESS);
        CHECK(ae_run(one.m, noise, 3) == AE_SUCCESS);
        const float *v = ae_get(one.m, noise);
        y[k].insert(y[k].end(), v, v + 3 * 144);
    }
    CHECK(same_bits({y[0]}, {y[1]}));
    CHECK(!same_bits({x}, {Floats(y[0].begin(), y[0].begin() + 11 * 144)}));
}

// Parts of a step, a callback that looks, and what fails, in ae_fit: as on the CPU.
static int looks(void *user, const ae_progress *p)
{
    size_t bytes;
    ae_segment_data((ae_model *)user, AE_SEG_PARAM, &bytes);
    return p->epoch < 0;
}

static void fitting()
{
    Data data(40), bad(40);
    for (int32_t &l : bad.labels) l += 1;
    const ae_optim o = adam(0.01f);
    ae_fit_options fit;
    memset(&fit, 0, sizeof fit);
    fit.epochs = 2;
    fit.batch = 6;
    fit.accumulate = 3;
    fit.validation = 0.2f;
    ae_fit_result result[2];
    std::string sentence[2];
    for (int k = 0; k < 2; k++) {
        Model one(variational, k ? AE_DEVICE_CUDA : AE_DEVICE_CPU);
        fit.callback = looks;
        fit.user = one.m;
        CHECK(ae_fit(one.m, &data.set, &o, &fit, &result[k]) == AE_SUCCESS);
        Model other(everything, k ? AE_DEVICE_CUDA : AE_DEVICE_CPU);
        fit.callback = NULL;
        CHECK(ae_fit(other.m, &bad.set, &o, &fit, NULL) == AE_E_ARG);   // and comes back
        sentence[k] = ae_error(other.m);
    }
    CHECK(fabs((double)(result[0].loss - result[1].loss)) <= 1e-4 * fabs((double)result[0].loss));
    CHECK(fabs((double)(result[0].best - result[1].best)) <= 1e-4 * fabs((double)result[0].best));
    CHECK(!sentence[0].empty() && !sentence[1].empty());
}

// A forward pass by hand that fails leaves running statistics as they were; a look that finds an
// error makes the next call tell it.
static void by_hand()
{
    Data data(24);
    Model gpu(tiny, AE_DEVICE_CUDA);
    const ae_optim o = adam(0.01f);
    CHECK(ae_epoch(gpu.m, &data.set, &o) > 0.0f);
    const Floats before = gpu.weights();
    Floats x(8 * 144, (float)NAN);
    CHECK(ae_set(gpu.m, gpu.m->first, x.data(), 8) == AE_SUCCESS);
    CHECK(ae_forward(gpu.m, 8) == AE_E_NUMERIC);
    CHECK(same_bits({before}, {gpu.weights()}));
    CHECK(ae_feed(gpu.m, &data.set, 0, 8, 0) == AE_SUCCESS && ae_forward(gpu.m, 8) == AE_SUCCESS);
    Data infinite(24);
    infinite.set.scale = 1e38f;
    CHECK(ae_train_step(gpu.m, &infinite.set, &o) == AE_SUCCESS);
    ae_batch_loss(gpu.m, NULL);                         // it cannot say so
    CHECK(ae_train_step(gpu.m, &data.set, &o) == AE_E_NUMERIC);
    CHECK(ae_train_step(gpu.m, &data.set, &o) == AE_SUCCESS);
    CHECK(ae_train_step(gpu.m, &infinite.set, &o) == AE_SUCCESS);
    std::vector<unsigned char> file(1 << 20);
    CHECK(ae_model_encode(gpu.m, file.data(), file.size(), 0) == 0);    // saving tells
    CHECK(strstr(ae_error(gpu.m), "not finite"));
    CHECK(ae_model_encode(gpu.m, file.data(), file.size(), 0) > 0);
}

static void interface()
{
    Data data(20);
    Model cpu(variational, AE_DEVICE_CPU), gpu(variational, AE_DEVICE_CUDA);
    const ae_optim o = adam(0.01f);
    for (ae_model *m : {cpu.m, gpu.m}) ae_epoch(m, &data.set, &o);
    std::vector<Floats> got[2];
    for (int k = 0; k < 2; k++) {
        ae_model *m = k ? gpu.m : cpu.m;
        ae_tensor *x = ae_tensor_find(m, "input1"), *z = ae_tensor_find(m, "z");
        ae_tensor *y = ae_tensor_find(m, "y"), *mu = ae_tensor_find(m, "mu");
        CHECK(x && z && y && mu);
        Floats pixels(20 * 144), codes(20 * 4), images(20 * 144), drawn(11 * 144);
        ae_dataset_get(&data.set, pixels.data(), NULL, 0, 20);
        CHECK(ae_predict(m, z, codes.data(), pixels.data(), 20) == AE_SUCCESS);
        CHECK(ae_predict_from(m, z, y, images.data(), codes.data(), 20) == AE_SUCCESS);
        CHECK(ae_sample(m, z, y, drawn.data(), 11, 3) == AE_SUCCESS);
        CHECK(ae_set(m, x, pixels.data(), 8) == AE_SUCCESS);
        CHECK(ae_run(m, mu, 8) == AE_SUCCESS);
        const float *v = ae_get(m, mu);
        CHECK(v);
        got[k] = {codes, images, drawn, Floats(v, v + 32)};
        CHECK(ae_run_from(m, z, codes.data(), y, 3) == AE_SUCCESS);
        v = ae_get(m, y);
        got[k].push_back(Floats(v, v + 3 * 144));
        int active = -1;
        CHECK(ae_active_units(m, mu, &data.set, &active) <= AE_W_COLLAPSED);
        got[k].push_back({(float)active});
        CHECK(ae_feed(m, &data.set, 4, 8, 0) == AE_SUCCESS);     // a step by hand
        CHECK(ae_forward(m, 8) == AE_SUCCESS);
        ae_zero_grad(m);
        CHECK(ae_backward(m, 0.5f) == AE_SUCCESS);
        const ae_param *p = ae_param_at(m, 2);
        v = ae_param_grad(m, p);
        got[k].push_back(Floats(v, v + ae_param_size(p)));
        CHECK(ae_step(m, &o) == AE_SUCCESS);
        v = ae_param_data(m, p);
        got[k].push_back(Floats(v, v + ae_param_size(p)));
        got[k].push_back({ae_batch_loss(m, NULL)});
        ae_arena *arena = ae_arena_new(4u << 20);
        ae_model *fork = ae_fork(m, arena, 4);
        CHECK(fork && ae_predict(fork, y, images.data(), pixels.data(), 20) == AE_SUCCESS);
        got[k].push_back(images);
        ae_arena_free(arena);
        std::vector<unsigned char> file(1 << 20);
        const size_t bytes = ae_model_encode(m, file.data(), file.size(), AE_SAVE_TRAINING);
        CHECK(bytes > 0);
        CHECK(ae_model_decode(m, file.data(), bytes, "file") == AE_SUCCESS);
        CHECK(ae_train_step(m, &data.set, &o) == AE_SUCCESS);
        got[k].push_back({ae_mean_loss(m, NULL)});
    }
    for (size_t i = 0; i < got[0].size(); i++) {
        const double off = distance(got[1][i], got[0][i]);
        if (!(off <= 1e-3)) printf("interface %zu: %g\n", i, off);
        CHECK(off <= 1e-3);
    }
    file_round_trip();
    // Models go with their arena's place.
    ae_arena *arena = ae_arena_new(8u << 20);
    const size_t mark = ae_arena_used(arena);
    for (int i = 0; i < 3; i++) {
        ae_model *m = ae_model_new(arena, 1);
        dense(m);
        CHECK(ae_build(m, 4, AE_INFER) == AE_SUCCESS);
        CHECK(strncmp(ae_device(m), "cuda: ", 6) == 0);
        Floats y(6 * 144), x(6 * 144, 0.5f);
        CHECK(ae_predict(m, m->last->in[0], y.data(), x.data(), 6) == AE_SUCCESS);
        ae_arena_rewind(arena, mark);
    }
    ae_arena_free(arena);
}

// With arguments: only what is named like one of them.
static bool wanted(int argc, char **argv, const char *call)
{
    bool all = argc < 2;
    for (int i = 1; i < argc; i++) all |= strstr(call, argv[i]) != NULL;
    if (all) printf("%s\n", call);
    fflush(stdout);
    return all;
}
#define RUN(call) do { if (wanted(argc, argv, #call)) call; } while (0)

int main(int argc, char **argv)
{
    const ae_optim o = adam(0.01f);
    ae_optim sgd = adam(0.05f);
    sgd.kind = AE_SGD;
    sgd.momentum = 0.9f;
    sgd.clip_norm = 1.0f;
    RUN(follows("dense", dense, o, 1e-4));
    RUN(follows("dense, SGD", dense, sgd, 1e-4));
    RUN(follows("denoising", denoising, o, 1e-4));
    RUN(follows("convolutional", convolutional, o, 1e-4));
    RUN(follows("variational", variational, o, 1e-4));
    RUN(follows("everything", everything, o, 1e-3));
    RUN(one_graph("deep", deep, 16));
    RUN(one_graph("convolutional", convolutional, 16));
    RUN(one_graph("variational", variational, 22));
    if (settings == 1) return summary("model");     // sanitizers: minutes
    RUN(same_bits_everywhere("dense", dense, sim::SETTINGS));
    RUN(same_bits_everywhere("everything", everything, 3));
    RUN(changes_count(variational));
    RUN(failures_alike());
    RUN(without_gpu());
    RUN(fixed_noise());
    RUN(fitting());
    RUN(by_hand());
    RUN(interface());
    RUN(faults());
    return summary("model");
}
