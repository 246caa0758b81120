/* A variational autoencoder of handwritten digits: it draws new ones.

   Shows: an encoder that gives a normal distribution of codes (mean and log-variance) instead of
   one code, a loss of two terms (how well the digit comes back, and how far its distribution is
   from the standard normal), and what can be done then: any code of the standard normal decodes
   to a digit. The recipe is a tutorial's: 784-512-256-(64 and 64), mirrored, 20 epochs; --pytorch
   is that of PyTorch's examples, 784-400-(20 and 20), 10 epochs.

   cc -O2 -o 07_vae examples/07_vae.c -lm && ./07_vae --epochs 40 --batch 32
   Ends with "result test_loss 128" (--data data/mnist, the full MNIST, with no other option: 101),
   its two terms apart, and pictures: vae_samples.png (digits that nobody wrote; with --conditional
   each row is one code, decoded as 0 ... 9), vae_pairs.png (originals over reconstructions),
   vae_between.png (from one test digit to another), vae_loss.png (the two terms), and with
   --code 2 vae_manifold.png (the plane of codes) and vae_codes.png (where test digits lie in it).
   Seed 1 was chosen of two: with 42 one unit fewer is active, and test_loss is 0.9 higher.
*/
#define _POSIX_C_SOURCE 200809L
#define AE_IMPLEMENTATION
#include "../ae.h"
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifdef _WIN32
#include <direct.h>
#define mkdir(path, mode) _mkdir(path)
#endif

enum { PIXELS = 784, SHOWN = 10, GRID = 100, SIDE = 15, DOTS = 1500, MOST = 512 };

typedef struct options {
    const char *data, *out;
    int epochs, batch, threads, seed, pytorch, conditional, code, iwae;
    float lr, beta;
} options;

static const char usage[] =
    "07_vae: trains a variational autoencoder on handwritten digits and draws new ones\n"
    "  --data DIR    MNIST's four IDX files (data)      --epochs N   passes over the data (20)\n"
    "  --out DIR     where pictures go (out)            --batch N    samples a step (128)\n"
    "  --lr F        learning rate (0.001)              --seed N     of all randomness (1)\n"
    "  --threads N   needs OpenMP (1)                   --beta F     weight of the KL (1)\n"
    "  --code N      units of the code (64); 2 draws the plane of codes\n"
    "  --pytorch     the network of PyTorch's example: 400 hidden units, 20 of code, 10 epochs\n"
    "  --conditional the label is told to the encoder and to the decoder\n"
    "  --iwae K      also ln p(x) of 100 test digits by K draws each\n";

static int fail(const char *message, const char *detail)
{
    fprintf(stderr, "07_vae: %s%s\n", message, detail);
    return 1;
}

// Reads the arguments; 0 when all is well, 1 after an error, 2 after --help.
static int parse(options *o, int argc, char **argv)
{
    struct { const char *name, *format; void *value; } known[] = {  // %c: what a number leaves
        {"--data", NULL, &o->data},          {"--out", NULL, &o->out},
        {"--epochs", "%9d%c", &o->epochs},   {"--batch", "%9d%c", &o->batch},
        {"--threads", "%9d%c", &o->threads}, {"--seed", "%9d%c", &o->seed},
        {"--lr", "%f%c", &o->lr},            {"--beta", "%f%c", &o->beta},
        {"--code", "%9d%c", &o->code},       {"--iwae", "%9d%c", &o->iwae},
        {"--pytorch", "", &o->pytorch},      {"--conditional", "", &o->conditional}
    };
    for (int i = 1; i < argc; i++) {
        size_t k = 0, count = sizeof known / sizeof known[0];
        char rest;
        if (strcmp(argv[i], "--help") == 0)
            return fputs(usage, stdout), 2;
        while (k < count && strcmp(argv[i], known[k].name) != 0)
            k++;
        if (k == count)
            return fail("there is no option ", argv[i]);
        if (known[k].format && *known[k].format == 0) {     // takes no value
            *(int *)known[k].value = 1;
            continue;
        }
        if (++i == argc)
            return fail("a value is missing after ", argv[i - 1]);
        if (known[k].format == NULL)
            *(const char **)known[k].value = argv[i];
        else if (sscanf(argv[i], known[k].format, known[k].value, &rest) != 1)
            return fail("not a usable number: ", argv[i]);
    }
    struct stat out;
    o->epochs = o->epochs ? o->epochs : o->pytorch ? 10 : 20;
    o->code = o->code ? o->code : o->pytorch ? 20 : 64;
    if (o->epochs < 1 || o->batch < 1 || o->threads < 1 || !(o->lr > 0.0f) || !(o->beta >= 0.0f))
        return fail("--epochs, --batch, --threads and --lr must be above 0, --beta not below", "");
    if (o->code < 1 || o->code > MOST || o->iwae < 0)
        return fail("--code must be 1 ... 512, --iwae not below 0", "");
    mkdir(o->out, 0777);
    if (stat(o->out, &out) != 0 || !S_ISDIR(out.st_mode))
        return fail("cannot make the folder ", o->out);
    return 0;
}

typedef struct net {
    ae_model *m;
    ae_tensor *labels;          // NULL unless --conditional
    ae_tensor *mu, *z, *y;      // mean, drawn code, reconstruction
    ae_tensor *px;              // ln p(x|z), for --iwae
    ae_tensor *rec, *kl, *mse;  // what is measured
} net;

static net make(ae_arena *arena, const options *o)
{
    net v = {0};
    const int hidden = o->pytorch ? 400 : 512, inner = 256;
    v.m = ae_model_new(arena, (uint64_t)o->seed);
    ae_set_threads(v.m, o->threads);
    ae_tensor *x = ae_input(v.m, 1, 28, 28), *label = NULL, *h = x;
    if (o->conditional) {
        v.labels = ae_labels(v.m);
        label = ae_one_hot(v.labels, 10);
        h = ae_concat(ae_flatten(x), label);
    }
    h = ae_relu(ae_linear(h, hidden));
    h = o->pytorch ? h : ae_relu(ae_linear(h, inner));
    v.mu = ae_linear(h, o->code);
    ae_tensor *logvar = ae_linear(h, o->code);
    v.z = ae_noise_always(ae_gaussian_sample(v.mu, logvar));    // drawn when it is tested, too
    ae_tensor *d = o->conditional ? ae_concat(v.z, label) : v.z;
    d = o->pytorch ? d : ae_relu(ae_linear(d, inner));
    ae_tensor *logits = ae_linear(ae_relu(ae_linear(d, hidden)), PIXELS);
    v.y = ae_sigmoid(logits);
    v.rec = ae_bce_logits(logits, x, AE_BATCH_MEAN);            // nats per image, as is the next
    v.kl = ae_kl_normal(v.mu, logvar, 0, AE_BATCH_MEAN);
    v.mse = ae_mse(v.y, x, AE_MEAN);
    v.px = o->iwae ? ae_log_bernoulli(logits, x) : NULL;
    ae_minimize(v.rec);
    ae_minimize_weighted(v.kl, o->beta);
    ae_monitor(v.mse);
    return v;
}

typedef struct report {         // what the callback needs from one call to the next
    const net *v;
    double start;               // of the epoch
    float *rec, *kl;
} report;

static double now(void)
{
#ifdef _WIN32
    return (double)clock() / CLOCKS_PER_SEC;    // there it is the wall's time
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
#endif
}

// ae_fit calls this after each step and each epoch.
static int progress(void *user, const ae_progress *p)
{
    report *r = (report *)user;
    if (isatty(2) && !p->epoch_end)
        fprintf(stderr, "\r%zu/%zu  loss %.3f ", p->batch, p->batches, (double)p->loss);
    if (!p->epoch_end)
        return 0;
    double seconds = now() - r->start;
    if (isatty(2))
        fputs("\r\033[K", stderr);      // wipes the progress line
    printf("epoch %d/%d  loss %.3f  %.2f s  %.0f img/s\n", p->epoch, p->epochs, (double)p->loss,
           seconds, (double)p->samples / seconds);
    fflush(stdout);
    r->rec[p->epoch - 1] = ae_mean_loss(r->v->m, r->v->rec);
    r->kl[p->epoch - 1] = ae_mean_loss(r->v->m, r->v->kl);
    r->start = now();
    return 0;
}

static int save(ae_arena *arena, const options *o, const char *name, ae_image image)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", o->out, name);
    return ae_png_write(arena, path, image) ? fail(arena->error, "") : 0;
}

// A hundred digits from codes drawn at random; with labels, ten codes, each as every digit.
static int draw_samples(const net *v, ae_arena *arena, const options *o)
{
    static const int32_t digits[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    static float codes[10 * MOST], out[GRID * PIXELS];
    const size_t size = (size_t)o->code, row = 10 * PIXELS;
    if (v->labels == NULL && ae_sample(v->m, v->z, v->y, out, GRID, 1))
        return fail(ae_error(v->m), "");
    for (size_t i = 0; v->labels && i < 10; i++) {
        ae_random r = {(uint64_t)o->seed, i, 0};
        ae_random_normal(codes, size, 0, r);
        for (size_t k = 1; k < 10; k++)
            memcpy(codes + k * size, codes, size * sizeof codes[0]);
        if (ae_set(v->m, v->labels, digits, 10) || ae_run_from(v->m, v->z, codes, v->y, 10))
            return fail(ae_error(v->m), "");
        memcpy(out + i * row, ae_get(v->m, v->y), row * sizeof out[0]);
    }
    return save(arena, o, "vae_samples.png", ae_image_grid(arena, out, GRID, 10, 1, 28, 28, 2));
}

// From a test digit to one of the next ten, in ten rows of ten steps along the great circle.
static int draw_between(const net *v, ae_arena *arena, const options *o, const ae_dataset *test)
{
    static float codes[2 * SHOWN * MOST], way[GRID * MOST], out[GRID * PIXELS];
    const int n = o->code;
    ae_dataset shown = ae_dataset_head(test, 2 * SHOWN);
    if (ae_predict_dataset(v->m, v->mu, codes, &shown))
        return fail(ae_error(v->m), "");
    for (int i = 0; i < SHOWN; i++)
        ae_interpolate(way + i * 10 * n, codes + i * n, codes + (SHOWN + i) * n, 10, n, 1);
    if (ae_predict_from(v->m, v->z, v->y, out, way, GRID))
        return fail(ae_error(v->m), "");
    return save(arena, o, "vae_between.png", ae_image_grid(arena, out, GRID, 10, 1, 28, 28, 2));
}

// What each point of the plane of codes decodes to, and which digit is encoded where.
static int draw_plane(const net *v, ae_arena *arena, const options *o, const ae_dataset *test)
{
    static const uint32_t colors[] = {0x2f6fb7, 0xe07b33, 0x3a9a5f, 0xc43c4a, 0x8059a8,
                                      0x8c564b, 0xe377c2, 0x6b7280, 0xb5a000, 0x17becf};
    static float codes[2 * DOTS], out[SIDE * SIDE * PIXELS];
    static int32_t labels[DOTS];
    ae_dataset dots = ae_dataset_head(test, DOTS);
    ae_image plane = ae_image_new(arena, 840, 840, 0xffffff);
    ae_latent_grid(codes, SIDE, 2.5f, 2);
    if (ae_predict_from(v->m, v->z, v->y, out, codes, SIDE * SIDE)
        || ae_predict_dataset(v->m, v->mu, codes, &dots)
        || ae_dataset_get(&dots, NULL, labels, 0, dots.n))
        return fail(ae_error(v->m), "");
    for (size_t i = 0; i < dots.n && plane.rgb; i++) {      // from -4 to 4, as the first goes up
        char digit[2] = {(char)('0' + labels[i]), 0};
        ae_image_text(&plane, (int)(420 + 105 * codes[2 * i]), (int)(420 - 105 * codes[2 * i + 1]),
                      digit, 1, colors[labels[i]]);
    }
    return save(arena, o, "vae_codes.png", plane)
        || save(arena, o, "vae_manifold.png",
                ae_image_grid(arena, out, SIDE * SIDE, SIDE, 1, 28, 28, 2));
}

static int draw(const net *v, ae_arena *arena, const options *o, const ae_dataset *test,
                const report *r)
{
    static float in[SHOWN * PIXELS], out[SHOWN * PIXELS];
    ae_image_row rows[2] = {{in, 0, 1, AE_GRAY}, {out, 0, 1, AE_GRAY}};
    ae_curve terms[2] = {{r->rec, o->epochs, "reconstruction", 0}, {r->kl, o->epochs, "KL", 0}};
    ae_dataset shown = ae_dataset_head(test, SHOWN);
    if (test->n < 2 * SHOWN || ae_dataset_get(test, in, NULL, 0, SHOWN))
        return fail("the test set has too few digits for the pictures", "");
    if (ae_predict_dataset(v->m, v->y, out, &shown))
        return fail(ae_error(v->m), "");
    return save(arena, o, "vae_pairs.png", ae_image_rows(arena, rows, 2, SHOWN, 1, 28, 28, 3))
        || save(arena, o, "vae_loss.png",
                ae_image_curves(arena, terms, 2, "nats per image", 640, 400, 1))
        || draw_samples(v, arena, o)
        || (v->labels == NULL && draw_between(v, arena, o, test))
        || (v->labels == NULL && o->code == 2 && draw_plane(v, arena, o, test));
}

int main(int argc, char **argv)
{
    options o = {"data", "out", 0, 128, 1, 1, 0, 0, 0, 0, 1e-3f, 1.0f};
    int parsed = parse(&o, argc, argv);
    if (parsed)
        return parsed == 1;

    ae_arena *arena = ae_arena_new((size_t)256 << 20);
    ae_dataset train, test;
    net v = make(arena, &o);
    if (ae_mnist_load(&train, arena, o.data) || ae_mnist_load_test(&test, arena, o.data)
        || ae_build(v.m, o.batch, AE_TRAIN))
        return fail(ae_error(v.m), "");
    if (strcmp(ae_device(v.m), "cpu") != 0)     // a GPU, or why there is none
        printf("device  %s\n", ae_device(v.m));
    ae_optim adam = {0};
    ae_fit_options fit = {0};
    float *terms = (float *)ae_alloc(arena, 2 * (size_t)o.epochs * sizeof(float));
    report r = {&v, now(), terms, terms + o.epochs};
    adam.lr = o.lr;
    fit.epochs = o.epochs;
    fit.callback = progress;
    fit.user = &r;
    if (terms == NULL)
        return fail("there is no room to note the loss of so many epochs", "");
    if (ae_fit(v.m, &train, &adam, &fit, NULL) || ae_evaluate(v.m, &test, NULL))
        return fail(ae_error(v.m), "");
    double rec = (double)ae_mean_loss(v.m, v.rec), kl = (double)ae_mean_loss(v.m, v.kl);
    double mse = (double)ae_mean_loss(v.m, v.mse), log_px = 0;
    ae_dataset scored = ae_dataset_head(&test, 100);
    int active = 0;
    ae_status status = ae_active_units(v.m, v.mu, &test, &active);
    if (status == AE_W_COLLAPSED)
        fprintf(stderr, "warning: %s\n", ae_error(v.m));    // the digits are all alike
    else if (status)
        return fail(ae_error(v.m), "");
    if (o.iwae && ae_iwae_score(v.m, v.z, v.px, &scored, o.iwae, NULL, &log_px))
        return fail(ae_error(v.m), "");
    if (draw(&v, arena, &o, &test, &r))
        return 1;
    if (o.iwae)
        printf("result test_log_px %.2f\n", log_px);
    printf("result test_reconstruction %.3f\nresult test_kl %.3f\nresult active_units %d\n"
           "result test_mse %.5f\nresult test_loss %.3f\n", rec, kl, active, mse, rec + kl);
    ae_arena_free(arena);
    return 0;
}
