/* Features from an autoencoder for a classifier: 784-256-128-100-128-256-784, then 100-64-10.

   Shows: an encoder used apart from its decoder. The autoencoder sees no label; what it finds in
   the digits, 100 numbers each, becomes a dataset of its own, with the labels, for a small
   classifier. The recipe is a tutorial's: a sigmoid after every layer, half the squared error
   (a weighted loss), Adam at 0.01, 10 epochs each; it tells 0.0071 and 96.39 %.

   cc -O2 -o 04_features examples/04_features.c -lm
   ./04_features --epochs 100 --batch 32 --lr 0.002
   Ends with "result test_mse 0.034" and "result test_accuracy 0.80" (2,000 digits are few, and so
   many sigmoids learn slowly; --data data/mnist, the full MNIST, with no other option: 0.014 and
   0.966), and pictures: features_pairs.png (originals over reconstructions), features_loss.png,
   features_classifier.png (the losses).                                                        */
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

enum { PIXELS = 784, CODE = 100, CLASSES = 10, SHOWN = 10 };

typedef struct options {
    const char *data, *out;
    int epochs, batch, threads, seed;
    float lr;
} options;

static const char usage[] =
    "04_features: an autoencoder finds features of handwritten digits for a classifier\n"
    "  --data DIR    MNIST's four IDX files (data)      --epochs N   passes over the data (10)\n"
    "  --out DIR     where pictures go (out)            --batch N    samples a step (256)\n"
    "  --lr F        learning rate (0.01)               --seed N     of all randomness (6)\n"
    "  --threads N   needs OpenMP (1)\n";

static int fail(const char *message, const char *detail)
{
    fprintf(stderr, "04_features: %s%s\n", message, detail);
    return 1;
}

// Reads the arguments; 0 when all is well, 1 after an error, 2 after --help.
static int parse(options *o, int argc, char **argv)
{
    struct { const char *name, *format; void *value; } known[] = {  // %c: what a number leaves
        {"--data", NULL, &o->data},          {"--out", NULL, &o->out},
        {"--epochs", "%9d%c", &o->epochs},   {"--batch", "%9d%c", &o->batch},
        {"--threads", "%9d%c", &o->threads}, {"--seed", "%9d%c", &o->seed},
        {"--lr", "%f%c", &o->lr}
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
        if (++i == argc)
            return fail("a value is missing after ", argv[i - 1]);
        if (known[k].format == NULL)
            *(const char **)known[k].value = argv[i];
        else if (sscanf(argv[i], known[k].format, known[k].value, &rest) != 1)
            return fail("not a usable number: ", argv[i]);
    }
    struct stat out;
    if (o->epochs < 1 || o->batch < 1 || o->threads < 1 || !(o->lr > 0.0f))
        return fail("--epochs, --batch, --threads and --lr must be above 0", "");
    mkdir(o->out, 0777);
    if (stat(o->out, &out) != 0 || !S_ISDIR(out.st_mode))
        return fail("cannot make the folder ", o->out);
    return 0;
}

typedef struct report {         // what the callback needs from one call to the next
    const char *name;           // what is trained
    double start;               // of the epoch
    float *losses;
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
        fprintf(stderr, "\r%zu/%zu  loss %.5f ", p->batch, p->batches, (double)p->loss);
    if (!p->epoch_end)
        return 0;
    double seconds = now() - r->start;
    if (isatty(2))
        fputs("\r\033[K", stderr);      // wipes the progress line
    printf("%sepoch %d/%d  loss %.5f  %.2f s  %.0f img/s\n", r->name, p->epoch, p->epochs,
           (double)p->loss, seconds, (double)p->samples / seconds);
    fflush(stdout);
    r->losses[p->epoch - 1] = p->loss;
    r->start = now();
    return 0;
}

static int save(ae_arena *arena, const options *o, const char *name, ae_image image)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", o->out, name);
    return ae_png_write(arena, path, image) ? fail(arena->error, "") : 0;
}

// Builds and trains a model; the losses are noted in r.
static int train(ae_model *m, const options *o, const ae_dataset *d, report *r)
{
    ae_optim adam = {0};
    ae_fit_options fit = {0};
    adam.lr = o->lr;
    fit.epochs = o->epochs;
    fit.callback = progress;
    fit.user = r;
    r->start = now();
    ae_set_threads(m, o->threads);
    return ae_build(m, o->batch, AE_TRAIN) || ae_fit(m, d, &adam, &fit, NULL)
        ? fail(ae_error(m), "") : 0;
}

// All samples of d as features, with their labels, as a dataset.
static int encode(ae_dataset *features, ae_model *m, const ae_tensor *code, const ae_dataset *d,
                  ae_arena *arena, int batch)
{
    float *x = (float *)ae_alloc(arena, d->n * CODE * sizeof(float));
    ae_dataset result = *d;     // labels and their order stay
    if (x == NULL)
        return fail("there is no room for the features", "");
    for (size_t i = 0; i < d->n; i += (size_t)batch) {
        int n = d->n - i < (size_t)batch ? (int)(d->n - i) : batch;
        if (ae_feed(m, d, i, n, 0) || ae_run(m, code, n))
            return fail(ae_error(m), "");
        memcpy(x + i * CODE, ae_get(m, code), (size_t)n * CODE * sizeof(float));
    }
    result.bytes = NULL;
    result.floats = x;
    result.scale = 1.0f;
    result.c = CODE;
    result.h = result.w = 1;
    *features = result;
    return 0;
}

// The share of samples whose largest output is their label's; prints it for each digit too.
static int accuracy(double *share, ae_model *m, const ae_tensor *y, const ae_dataset *d,
                    ae_arena *arena)
{
    size_t right[CLASSES] = {0}, count[CLASSES] = {0}, all = 0;
    float *scores = (float *)ae_alloc(arena, d->n * CLASSES * sizeof(float));
    if (scores == NULL || ae_predict(m, y, scores, d->floats, d->n))
        return fail(scores ? ae_error(m) : "there is no room for the scores", "");
    for (size_t i = 0; i < d->n; i++) {
        const float *s = scores + i * CLASSES;
        int best = 0;
        for (int k = 1; k < CLASSES; k++)
            best = s[k] > s[best] ? k : best;
        count[d->labels[i]]++;
        right[d->labels[i]] += best == d->labels[i];
    }
    printf("right, of each digit 0 ... 9 in %%:");
    for (int k = 0; k < CLASSES; k++) {
        printf(" %.1f", 100.0 * (double)right[k] / (double)(count[k] ? count[k] : 1));
        all += right[k];
    }
    printf("\n");
    *share = (double)all / (double)d->n;
    return 0;
}

static int draw(ae_model *m, ae_arena *arena, const options *o, const ae_tensor *y,
                const ae_dataset *test, const report reports[2])
{
    static float in[SHOWN * PIXELS], out[SHOWN * PIXELS];
    ae_image_row rows[2] = {{in, 0, 1, AE_GRAY}, {out, 0, 1, AE_GRAY}};
    ae_curve first = {reports[0].losses, o->epochs, "training", 0};
    ae_curve second = {reports[1].losses, o->epochs, "training", 0};
    if (ae_dataset_get(test, in, NULL, 0, SHOWN))
        return fail("the test set has too few digits for the pictures", "");
    if (ae_predict(m, y, out, in, SHOWN))
        return fail(ae_error(m), "");
    return save(arena, o, "features_pairs.png", ae_image_rows(arena, rows, 2, SHOWN, 1, 28, 28, 3))
        || save(arena, o, "features_loss.png",
                ae_image_curves(arena, &first, 1, "half the squared error", 640, 400, 0))
        || save(arena, o, "features_classifier.png",
                ae_image_curves(arena, &second, 1, "cross-entropy", 640, 400, 0));
}

int main(int argc, char **argv)
{
    options o = {"data", "out", 10, 256, 1, 6, 1e-2f};
    int parsed = parse(&o, argc, argv);
    if (parsed)
        return parsed == 1;

    ae_arena *arena = ae_arena_new((size_t)256 << 20);
    ae_dataset train_set, test_set, train_features, test_features;
    float *losses = (float *)ae_alloc(arena, 2 * (size_t)o.epochs * sizeof(float));
    report reports[2] = {{"", 0, losses}, {"classifier ", 0, losses + o.epochs}};
    if (losses == NULL)
        return fail("there is no room to note the loss of so many epochs", "");
    if (ae_mnist_load(&train_set, arena, o.data) || ae_mnist_load_test(&test_set, arena, o.data))
        return fail(arena->error, "");

    ae_model *m = ae_model_new(arena, (uint64_t)o.seed);
    ae_tensor *x = ae_input(m, 1, 28, 28);
    ae_tensor *h = ae_sigmoid(ae_linear(ae_sigmoid(ae_linear(x, 256)), 128));
    ae_tensor *code = ae_sigmoid(ae_linear(h, CODE));
    ae_tensor *d = ae_sigmoid(ae_linear(ae_sigmoid(ae_linear(code, 128)), 256));
    ae_tensor *y = ae_sigmoid(ae_linear(d, PIXELS));
    ae_tensor *mse = ae_mse(y, x, AE_MEAN);
    ae_minimize_weighted(mse, 0.5f);
    if (train(m, &o, &train_set, &reports[0]))
        return 1;
    if (ae_evaluate(m, &test_set, NULL))
        return fail(ae_error(m), "");
    double test_mse = (double)ae_mean_loss(m, mse), share = 0;

    ae_model *c = ae_model_new(arena, (uint64_t)o.seed);
    ae_tensor *f = ae_input(c, CODE, 1, 1);
    ae_tensor *scores = ae_linear(ae_sigmoid(ae_linear(f, 64)), CLASSES);
    ae_minimize(ae_cross_entropy(scores, ae_labels(c), AE_MEAN));
    if (encode(&train_features, m, code, &train_set, arena, o.batch)
        || encode(&test_features, m, code, &test_set, arena, o.batch)
        || train(c, &o, &train_features, &reports[1])
        || accuracy(&share, c, scores, &test_features, arena)
        || draw(m, arena, &o, y, &test_set, reports))
        return 1;
    printf("result test_mse %.5f\nresult test_accuracy %.4f\n", test_mse, share);
    ae_arena_free(arena);
    return 0;
}
