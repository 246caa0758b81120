/* A deep autoencoder of handwritten digits: 784-256-128-32-128-256-784.

   Shows: a model with an encoder and a decoder that are used apart, training with ae_fit, and the
   pictures that tell whether it worked. The recipe is a much-read tutorial's: pixels normalised by
   MNIST's mean and deviation, as for a classifier. Such pixels reach from -0.42 to 2.82 and a
   sigmoid only from 0 to 1, so the loss stays near 0.52 however long it trains. --plain trains on
   pixels in [0,1], where loss and pictures are far better.

   cc -O2 -o 01_deep examples/01_deep.c -lm && ./01_deep --plain --epochs 60 --batch 32
   Ends with "result test_mse 0.013" (0.52 without --plain on the full MNIST), and pictures:
   deep_pairs.png (originals over reconstructions), deep_errors.png (and where they differ),
   deep_loss.png.                                                                               */
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

enum { PIXELS = 784, CODE = 32, SHOWN = 10 };

typedef struct options {
    const char *data, *out;
    int epochs, batch, threads, seed, plain;
    float lr;
} options;

static const char usage[] =
    "01_deep: trains a deep autoencoder (784-256-128-32-128-256-784) on handwritten digits\n"
    "  --data DIR    MNIST's four IDX files (data)      --epochs N   passes over the data (10)\n"
    "  --out DIR     where pictures go (out)            --batch N    samples a step (128)\n"
    "  --lr F        learning rate (0.001)              --seed N     of all randomness (42)\n"
    "  --threads N   needs OpenMP (1)                   --plain      pixels in [0,1]\n";

static int fail(const char *message, const char *detail)
{
    fprintf(stderr, "01_deep: %s%s\n", message, detail);
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
        if (strcmp(argv[i], "--plain") == 0) {
            o->plain = 1;
            continue;
        }
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
    printf("epoch %d/%d  loss %.5f  %.2f s  %.0f img/s\n", p->epoch, p->epochs, (double)p->loss,
           seconds, (double)p->samples / seconds);
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

// Test digits, their reconstructions through the code, and where the two differ.
static int draw(ae_model *m, ae_arena *arena, const options *o, const ae_tensor *z,
                const ae_tensor *y, const ae_dataset *test, const report *r)
{
    static float in[SHOWN * PIXELS], code[SHOWN * CODE], out[SHOWN * PIXELS];
    static float error[SHOWN * PIXELS];
    float low = o->plain ? 0.0f : -0.4242f, high = o->plain ? 1.0f : 2.8215f;
    ae_image_row rows[3] = {{in, low, high, AE_GRAY}, {out, 0, 1, AE_GRAY}, {error, 0, 1, AE_HOT}};
    ae_curve curve = {r->losses, o->epochs, "training", 0};
    if (ae_dataset_get(test, in, NULL, 0, SHOWN))
        return fail("the test set has too few digits for the pictures", "");
    if (ae_predict(m, z, code, in, SHOWN) || ae_predict_from(m, z, y, out, code, SHOWN))
        return fail(ae_error(m), "");
    ae_abs_error(error, in, out, SHOWN * PIXELS);
    return save(arena, o, "deep_pairs.png", ae_image_rows(arena, rows, 2, SHOWN, 1, 28, 28, 3))
        || save(arena, o, "deep_errors.png", ae_image_rows(arena, rows, 3, SHOWN, 1, 28, 28, 3))
        || save(arena, o, "deep_loss.png",
                ae_image_curves(arena, &curve, 1, "mean squared error", 640, 400, 0));
}

int main(int argc, char **argv)
{
    options o = {"data", "out", 10, 128, 1, 42, 0, 1e-3f};
    int parsed = parse(&o, argc, argv);
    if (parsed)
        return parsed == 1;

    ae_arena *arena = ae_arena_new((size_t)256 << 20);
    ae_model *m = ae_model_new(arena, (uint64_t)o.seed);
    ae_set_threads(m, o.threads);
    ae_tensor *x = ae_input(m, 1, 28, 28);
    ae_tensor *h = ae_relu(ae_linear(ae_relu(ae_linear(x, 256)), 128));
    ae_tensor *z = ae_linear(h, CODE);
    ae_tensor *d = ae_relu(ae_linear(ae_relu(ae_linear(z, 128)), 256));
    ae_tensor *y = ae_sigmoid(ae_linear(d, PIXELS));
    ae_minimize(ae_mse(y, x, AE_MEAN));

    ae_dataset train, test;
    if (ae_mnist_load(&train, arena, o.data) || ae_mnist_load_test(&test, arena, o.data)
        || ae_build(m, o.batch, AE_TRAIN))
        return fail(ae_error(m), "");
    if (strcmp(ae_device(m), "cpu") != 0)     // a GPU, or why there is none
        printf("device  %s\n", ae_device(m));
    if (!o.plain) {
        ae_dataset_normalize(&train, 0.1307f, 0.3081f);
        ae_dataset_normalize(&test, 0.1307f, 0.3081f);
    }
    ae_optim adam = {0};
    ae_fit_options fit = {0};
    report r = {now(), (float *)ae_alloc(arena, (size_t)o.epochs * sizeof(float))};
    float mse;
    adam.lr = o.lr;
    fit.epochs = o.epochs;
    fit.callback = progress;
    fit.user = &r;
    if (r.losses == NULL)
        return fail("there is no room to note the loss of so many epochs", "");
    if (ae_fit(m, &train, &adam, &fit, NULL) || ae_evaluate(m, &test, &mse))
        return fail(ae_error(m), "");
    if (draw(m, arena, &o, z, y, &test, &r))
        return 1;
    printf("result test_mse %.5f\n", (double)mse);
    ae_arena_free(arena);
    return 0;
}
