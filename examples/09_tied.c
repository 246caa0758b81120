/* Tied weights: a decoder that uses the encoder's own weights, transposed.

   Shows: ae_tied, against the decoder with weights of its own that ae_mirror makes of the same
   encoder: 784-256-64 and back, or with --conv two convolutions and their transposes. Tying halves
   the parameters and leaves no way to hide a poor filter behind a good decoder: each unit must
   draw with what it looks for. Few digits to learn from, and the tied network wins; with many the
   free one does, by as little.

   cc -O2 -o 09_tied examples/09_tied.c -lm && ./09_tied --epochs 40 --batch 32
   Ends with the parameters and the test error of both, "result test_mse_tied 0.012" among them,
   and pictures: tied_filters.png (of the first layer: two rows of the free network's, then two of
   the tied one's; red for, blue against), tied_rows.png (originals, free, tied), tied_loss.png. */
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

enum { PIXELS = 784, FILTERS = 32, SHOWN = 10 };

typedef struct options {
    const char *data, *out;
    int epochs, batch, threads, seed, conv;
    float lr;
} options;

static const char usage[] =
    "09_tied: trains an autoencoder of handwritten digits with free and with tied weights\n"
    "  --data DIR    MNIST's four IDX files (data)      --epochs N   passes over the data (10)\n"
    "  --out DIR     where pictures go (out)            --batch N    samples a step (64)\n"
    "  --lr F        learning rate (0.001)              --seed N     of all randomness (42)\n"
    "  --threads N   needs OpenMP (1)                   --conv       convolutions\n";

static int fail(const char *message, const char *detail)
{
    fprintf(stderr, "09_tied: %s%s\n", message, detail);
    return 1;
}

// Reads the arguments; 0 when all is well, 1 after an error, 2 after --help.
static int parse(options *o, int argc, char **argv)
{
    struct { const char *name, *format; void *value; } known[] = {  // %c: what a number leaves
        {"--data", NULL, &o->data},          {"--out", NULL, &o->out},
        {"--epochs", "%9d%c", &o->epochs},   {"--batch", "%9d%c", &o->batch},
        {"--threads", "%9d%c", &o->threads}, {"--seed", "%9d%c", &o->seed},
        {"--lr", "%f%c", &o->lr},            {"--conv", "", &o->conv}
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

typedef struct net {
    ae_model *m;
    ae_tensor *first, *y;       // first layer, reconstruction
    size_t parameters;
    float error;                // squared, on the test set
} net;

// Trains the autoencoder with free or tied weights, and measures it.
static int train(net *v, ae_arena *arena, const options *o, int tied, const ae_dataset *digits,
                 const ae_dataset *test, report *r)
{
    ae_optim adam = {0};
    ae_fit_options fit = {0};
    v->m = ae_model_new(arena, (uint64_t)o->seed);
    ae_set_threads(v->m, o->threads);
    ae_tensor *x = ae_input(v->m, 1, 28, 28);
    v->first = o->conv ? ae_conv2d(x, FILTERS, 3, 2, 1) : ae_linear(x, 256);    // 32 x 14 x 14
    ae_tensor *h = ae_relu(v->first), *d;
    ae_tensor *code = o->conv ? ae_conv2d(h, 8, 3, 2, 1) : ae_linear(h, 64);    // 8 x 7 x 7
    if (tied)
        d = ae_tied(ae_relu(ae_tied(code, code)), v->first);
    else
        d = ae_mirror(code, x, AE_MIRROR_TRANSPOSE);
    v->y = ae_sigmoid(d);
    ae_minimize(ae_mse(v->y, x, AE_MEAN));
    adam.lr = o->lr;
    fit.epochs = o->epochs;
    fit.callback = progress;
    fit.user = r;
    r->start = now();
    if (ae_build(v->m, o->batch, AE_TRAIN) || ae_fit(v->m, digits, &adam, &fit, NULL)
        || ae_evaluate(v->m, test, &v->error))
        return fail(ae_error(v->m), "");
    v->parameters = 0;
    for (int i = 0; ae_param_at(v->m, i); i++)
        v->parameters += ae_param_size(ae_param_at(v->m, i));
    return 0;
}

// The filters of both, their reconstructions, and their losses.
static int draw(net v[2], ae_arena *arena, const options *o, const ae_dataset *test,
                const report r[2])
{
    static float filters[2 * FILTERS * PIXELS], in[SHOWN * PIXELS], out[2 * SHOWN * PIXELS];
    const int side = o->conv ? 3 : 28;
    const size_t half = (size_t)(FILTERS * side * side);
    ae_image_row rows[3] = {{in, 0, 1, AE_GRAY}, {out, 0, 1, AE_GRAY},
                            {out + SHOWN * PIXELS, 0, 1, AE_GRAY}};
    ae_curve curves[2] = {{r[0].losses, o->epochs, "free", 0},
                          {r[1].losses, o->epochs, "tied", 0}};
    if (ae_dataset_get(test, in, NULL, 0, SHOWN))
        return fail("the test set has too few digits for the pictures", "");
    for (size_t i = 0; i < 2; i++) {
        memcpy(filters + i * half, ae_param_data(v[i].m, ae_weight(v[i].first)),
               half * sizeof filters[0]);
        if (ae_predict(v[i].m, v[i].y, out + i * SHOWN * PIXELS, in, SHOWN))
            return fail(ae_error(v[i].m), "");
    }
    return save(arena, o, "tied_filters.png",
                ae_image_filters(arena, filters, 2 * FILTERS, FILTERS / 2, 1, side, side,
                                 o->conv ? 12 : 2))
        || save(arena, o, "tied_rows.png", ae_image_rows(arena, rows, 3, SHOWN, 1, 28, 28, 3))
        || save(arena, o, "tied_loss.png",
                ae_image_curves(arena, curves, 2, "mean squared error", 640, 400, 1));
}

int main(int argc, char **argv)
{
    options o = {"data", "out", 10, 64, 1, 42, 0, 1e-3f};
    int parsed = parse(&o, argc, argv);
    if (parsed)
        return parsed == 1;

    ae_arena *arena = ae_arena_new((size_t)256 << 20);
    ae_dataset digits, test;
    float *losses = (float *)ae_alloc(arena, 2 * (size_t)o.epochs * sizeof(float));
    report r[2] = {{"free ", 0, losses}, {"tied ", 0, losses + o.epochs}};
    net v[2];
    if (losses == NULL)
        return fail("there is no room to note the loss of so many epochs", "");
    if (ae_mnist_load(&digits, arena, o.data) || ae_mnist_load_test(&test, arena, o.data))
        return fail(arena->error, "");
    for (int i = 0; i < 2; i++)
        if (train(&v[i], arena, &o, i, &digits, &test, &r[i]))
            return 1;
    if (draw(v, arena, &o, &test, r))
        return 1;
    printf("result parameters_free %lu\nresult parameters_tied %lu\nresult test_mse_free %.5f\n"
           "result test_mse_tied %.5f\n", (unsigned long)v[0].parameters,
           (unsigned long)v[1].parameters, (double)v[0].error, (double)v[1].error);
    ae_arena_free(arena);
    return 0;
}
