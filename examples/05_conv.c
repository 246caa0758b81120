/* A convolutional autoencoder of handwritten digits: two convolutions down, two layers up.

   Shows: convolution, pooling, and two ways back: transposed convolutions or, with --upsample, the
   decoder that ae_mirror makes of the encoder (nearest upsampling and convolutions). The recipe is
   a tutorial's; it tells a loss of 0.0023 after 10 epochs of the full MNIST (PyTorch: 0.0025).
   Low as that is, nothing is compressed: the code is 32 x 7 x 7, two numbers for each pixel.

   cc -O2 -o 05_conv examples/05_conv.c -lm && ./05_conv --epochs 30 --batch 16
   Ends with "result test_mse 0.0035" (--data data/mnist, the full MNIST, with no other option:
   0.0024, and a loss of 0.00246; seeds 2, 42: 0.00250, 0.00251; --upsample --seed 42: 0.0020),
   and pictures: conv_errors.png (originals, reconstructions, where they differ), conv_filters.png
   (the first convolution's: red for, blue against), conv_loss.png.                             */
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

enum { PIXELS = 784, FILTERS = 16, SHOWN = 10 };

typedef struct options {
    const char *data, *out;
    int epochs, batch, threads, seed, upsample;
    float lr;
} options;

static const char usage[] =
    "05_conv: trains a convolutional autoencoder on handwritten digits\n"
    "  --data DIR    MNIST's four IDX files (data)      --epochs N   passes over the data (10)\n"
    "  --out DIR     where pictures go (out)            --batch N    samples a step (64)\n"
    "  --lr F        learning rate (0.001)              --seed N     of all randomness (1)\n"
    "  --threads N   needs OpenMP (1)\n"
    "  --upsample    a decoder of upsampling and convolutions\n";

static int fail(const char *message, const char *detail)
{
    fprintf(stderr, "05_conv: %s%s\n", message, detail);
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
        if (strcmp(argv[i], "--upsample") == 0) {
            o->upsample = 1;
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

// Test digits, their reconstructions and errors, the first layer's weights, and the loss.
static int draw(ae_model *m, ae_arena *arena, const options *o, const ae_tensor *first,
                const ae_tensor *y, const ae_dataset *test, const report *r)
{
    static float in[SHOWN * PIXELS], out[SHOWN * PIXELS], error[SHOWN * PIXELS];
    ae_image_row rows[3] = {{in, 0, 1, AE_GRAY}, {out, 0, 1, AE_GRAY}, {error, 0, 1, AE_HOT}};
    ae_curve curve = {r->losses, o->epochs, "training", 0};
    const float *weights = ae_param_data(m, ae_weight(first));
    if (ae_dataset_get(test, in, NULL, 0, SHOWN))
        return fail("the test set has too few digits for the pictures", "");
    if (ae_predict(m, y, out, in, SHOWN))
        return fail(ae_error(m), "");
    ae_abs_error(error, in, out, SHOWN * PIXELS);
    return save(arena, o, "conv_errors.png", ae_image_rows(arena, rows, 3, SHOWN, 1, 28, 28, 3))
        || save(arena, o, "conv_filters.png",
                ae_image_filters(arena, weights, FILTERS, 8, 1, 3, 3, 16))
        || save(arena, o, "conv_loss.png",
                ae_image_curves(arena, &curve, 1, "mean squared error", 640, 400, 1));
}

int main(int argc, char **argv)
{
    options o = {"data", "out", 10, 64, 1, 1, 0, 1e-3f};
    int parsed = parse(&o, argc, argv);
    if (parsed)
        return parsed == 1;

    ae_arena *arena = ae_arena_new((size_t)256 << 20);
    ae_model *m = ae_model_new(arena, (uint64_t)o.seed);
    ae_set_threads(m, o.threads);
    ae_tensor *x = ae_input(m, 1, 28, 28);
    ae_tensor *first = ae_conv2d(x, FILTERS, 3, 1, 1);              // 16 x 28 x 28
    ae_tensor *h = ae_max_pool2d(ae_relu(first), 2);                // 16 x 14 x 14
    ae_tensor *code = ae_max_pool2d(ae_relu(ae_conv2d(h, 32, 3, 1, 1)), 2);     // 32 x 7 x 7
    ae_tensor *y;
    if (o.upsample)     // 7 to 14, convolution to 16 channels, ReLU, 14 to 28, convolution to 1
        y = ae_sigmoid(ae_mirror(code, x, AE_MIRROR_UPSAMPLE));
    else {
        ae_tensor *d = ae_relu(ae_conv_transpose2d(code, FILTERS, 2, 2, 0, 0));
        y = ae_sigmoid(ae_conv_transpose2d(d, 1, 2, 2, 0, 0));
    }
    ae_minimize(ae_mse(y, x, AE_MEAN));

    ae_dataset train, test;
    if (ae_mnist_load(&train, arena, o.data) || ae_mnist_load_test(&test, arena, o.data)
        || ae_build(m, o.batch, AE_TRAIN))
        return fail(ae_error(m), "");
    if (strcmp(ae_device(m), "cpu") != 0)     // a GPU, or why there is none
        printf("device  %s\n", ae_device(m));
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
    if (draw(m, arena, &o, first, y, &test, &r))
        return 1;
    printf("result test_mse %.5f\n", (double)mse);
    ae_arena_free(arena);
    return 0;
}
