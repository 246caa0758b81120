/* A vector-quantised autoencoder of handwritten digits: a picture becomes 49 whole numbers.

   Shows: a convolutional encoder to 7 x 7 vectors, each replaced by the nearest of a few learned
   ones (ae_vq), whose numbers are all the decoder gets: with 64 codes, 49 * 6 bits of an image's
   6272. The decoder's gradient passes straight through to the encoder, a second loss draws the
   encoder's vectors to their codes, and the codes are moving averages of what they stood for.
   Batch normalisation keeps the vectors where the codes are: without it all soon become one.

   cc -O2 -o 11_vqvae examples/11_vqvae.c -lm && ./11_vqvae --epochs 20 --batch 32
   Ends with the codes in use, their perplexity (how many would tell as much if all came equally
   often), the bits of an image and "result test_mse 0.0052", and pictures: vq_rows.png (originals,
   what is decoded from the numbers, the numbers as a map from 0, black, up), vq_loss.png.      */
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

enum { PIXELS = 784, SIDE = 7, SPOTS = SIDE * SIDE, DEPTH = 16, MOST = 1024, SHOWN = 10 };

typedef struct options {
    const char *data, *out;
    int epochs, batch, threads, seed, codes, gradient;
    float lr;
} options;

static const char usage[] =
    "11_vqvae: trains a vector-quantised convolutional autoencoder on handwritten digits\n"
    "  --data DIR    MNIST's four IDX files (data)      --epochs N   passes over the data (10)\n"
    "  --out DIR     where pictures go (out)            --batch N    samples a step (64)\n"
    "  --lr F        learning rate (0.001)              --seed N     of all randomness (42)\n"
    "  --threads N   needs OpenMP (1)                   --codes N    in the codebook (64)\n"
    "  --gradient    the codebook learns by its gradient, not as moving averages\n";

static int fail(const char *message, const char *detail)
{
    fprintf(stderr, "11_vqvae: %s%s\n", message, detail);
    return 1;
}

// Reads the arguments; 0 when all is well, 1 after an error, 2 after --help.
static int parse(options *o, int argc, char **argv)
{
    struct { const char *name, *format; void *value; } known[] = {  // %c: what a number leaves
        {"--data", NULL, &o->data},          {"--out", NULL, &o->out},
        {"--epochs", "%9d%c", &o->epochs},   {"--batch", "%9d%c", &o->batch},
        {"--threads", "%9d%c", &o->threads}, {"--seed", "%9d%c", &o->seed},
        {"--lr", "%f%c", &o->lr},            {"--codes", "%9d%c", &o->codes},
        {"--gradient", "", &o->gradient}
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
    if (o->codes < 1 || o->codes > MOST)
        return fail("--codes must be 1 ... 1024", "");
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

// Test digits, what comes back from their 49 numbers, the numbers, and the loss.
static int draw(ae_model *m, ae_arena *arena, const options *o, const ae_tensor *q,
                const ae_tensor *y, const ae_dataset *test, const report *r)
{
    static float in[SHOWN * PIXELS], out[SHOWN * PIXELS], map[SHOWN * PIXELS];
    float code[DEPTH * SPOTS];
    int32_t number[SPOTS];
    ae_image_row rows[3] = {{in, 0, 1, AE_GRAY}, {out, 0, 1, AE_GRAY},
                            {map, 0, (float)o->codes, AE_HOT}};
    ae_curve curve = {r->losses, o->epochs, "training", 0};
    const float *book = ae_param_data(m, ae_weight(q));
    if (ae_dataset_get(test, in, NULL, 0, SHOWN))
        return fail("the test set has too few digits for the pictures", "");
    for (int i = 0; i < SHOWN; i++) {
        if (ae_predict(m, q, code, in + i * PIXELS, 1))
            return fail(ae_error(m), "");
        memcpy(number, ae_vq_index(m, q), sizeof number);   // all there is to send or store
        if (ae_vq_lookup(code, number, book, o->codes, 1, DEPTH, SPOTS)
            || ae_predict_from(m, q, y, out + i * PIXELS, code, 1))
            return fail(ae_error(m), "");
        for (int j = 0; j < PIXELS; j++)                    // each covers 4 x 4 pixels
            map[i * PIXELS + j] = (float)number[j / 28 / 4 * SIDE + j % 28 / 4];
    }
    return save(arena, o, "vq_rows.png", ae_image_rows(arena, rows, 3, SHOWN, 1, 28, 28, 3))
        || save(arena, o, "vq_loss.png",
                ae_image_curves(arena, &curve, 1, "squared error and distance to the codes",
                                640, 400, 1));
}

int main(int argc, char **argv)
{
    options o = {"data", "out", 10, 64, 1, 42, 64, 0, 1e-3f};
    int parsed = parse(&o, argc, argv);
    if (parsed)
        return parsed == 1;

    ae_arena *arena = ae_arena_new((size_t)256 << 20);
    ae_model *m = ae_model_new(arena, (uint64_t)o.seed);
    ae_vq_options vq = {0};
    vq.codes = o.codes;
    vq.gradient = o.gradient;
    ae_set_threads(m, o.threads);
    ae_tensor *x = ae_input(m, 1, 28, 28);
    ae_tensor *h = ae_relu(ae_conv2d(x, 16, 4, 2, 1));              // 16 x 14 x 14
    h = ae_relu(ae_conv2d(h, 32, 4, 2, 1));                         // 32 x 7 x 7
    h = ae_batch_norm(ae_conv2d(h, DEPTH, 1, 1, 0), NULL);          // 49 vectors of 16 numbers
    ae_tensor *q = ae_vq(h, &vq);       // first codes are standard normal: so are the vectors now
    ae_tensor *d = ae_relu(ae_conv2d(q, 32, 3, 1, 1));
    d = ae_relu(ae_conv_transpose2d(d, 16, 4, 2, 1, 0));
    ae_tensor *y = ae_sigmoid(ae_conv_transpose2d(d, 1, 4, 2, 1, 0));
    ae_tensor *mse = ae_mse(y, x, AE_MEAN);
    ae_minimize_weighted(mse, 10.0f);
    ae_minimize(ae_vq_loss(q, AE_MEAN));

    ae_dataset train, test;
    if (ae_mnist_load(&train, arena, o.data) || ae_mnist_load_test(&test, arena, o.data)
        || ae_build(m, o.batch, AE_TRAIN))
        return fail(ae_error(m), "");
    if (strcmp(ae_device(m), "cpu") != 0)     // a GPU, or why there is none
        printf("device  %s\n", ae_device(m));
    ae_optim adam = {0};
    ae_fit_options fit = {0};
    report r = {"", now(), (float *)ae_alloc(arena, (size_t)o.epochs * sizeof(float))};
    adam.lr = o.lr;
    fit.epochs = o.epochs;
    fit.callback = progress;
    fit.user = &r;
    if (r.losses == NULL)
        return fail("there is no room to note the loss of so many epochs", "");
    if (ae_fit(m, &train, &adam, &fit, NULL) || ae_evaluate(m, &test, NULL))
        return fail(ae_error(m), "");
    double error = (double)ae_mean_loss(m, mse), perplexity = 0;
    int used = ae_vq_usage(m, q, &perplexity);
    if (draw(m, arena, &o, q, y, &test, &r))
        return 1;
    printf("result codes_used %d\nresult perplexity %.1f\nresult bits_per_image %.0f\n"
           "result test_mse %.5f\n", used, perplexity, (int)SPOTS * ceil(log2(o.codes)), error);
    ae_arena_free(arena);
    return 0;
}
