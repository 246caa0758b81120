/* An autoencoder that takes noise from handwritten digits.

   Shows: noise as a layer. It falls on what the network sees, never on the target, and, unlike
   dropout, also in tests (ae_noise_always). A loss that is only watched (ae_monitor) tells how far
   the noisy pictures are from the clean ones. Two recipes of a tutorial:
   * 784-128-64-128-784 with ReLU; normal noise of deviation 0.2, new each time; told loss 0.0093
   * --sigmoid: 784-256-128-100-128-256-784 with sigmoids; noise of deviation 0.5, the same for a
     picture each time it is seen (ae_noise_fixed); half the squared error; told loss 0.0105. The
     first weights matter here: seeds 1 ... 6 and 42 end between 0.0103 (6, the default) and 0.0117
   Noisy pixels are held in [0,1]. PSNR is 10 log10(1 / mse): 10 dB more, a tenth of the error.

   cc -O2 -o 06_denoise examples/06_denoise.c -lm && ./06_denoise --epochs 60 --batch 16
   Ends with "result test_mse 0.0152", "result psnr_noisy 16.73" and "result psnr_denoised 18.18"
   (--data data/mnist, the full MNIST, with no other option: 0.0087, 16.73, 20.63; --sigmoid:
   0.0218, 9.37, 16.62), and pictures: denoise_rows.png (originals, noisy, denoised),
   denoise_loss.png.                                                                            */
#define _POSIX_C_SOURCE 200809L
#define AE_IMPLEMENTATION
#include "../ae.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifdef _WIN32
#include <direct.h>
#define mkdir(path, mode) _mkdir(path)
#endif

enum { PIXELS = 784, SHOWN = 10 };

typedef struct options {
    const char *data, *out;
    int epochs, batch, threads, seed, sigmoid;
    float lr;
} options;

static const char usage[] =
    "06_denoise: trains an autoencoder to take noise from handwritten digits\n"
    "  --data DIR    MNIST's four IDX files (data)      --epochs N   passes over the data (10)\n"
    "  --out DIR     where pictures go (out)            --batch N    samples a step (64; 256)\n"
    "  --lr F        learning rate (0.001; 0.01)        --seed N     of all randomness (6)\n"
    "  --threads N   needs OpenMP (1)\n"
    "  --sigmoid     the other recipe, with the second defaults: stronger, fixed noise\n";

static int fail(const char *message, const char *detail)
{
    fprintf(stderr, "06_denoise: %s%s\n", message, detail);
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
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--sigmoid") == 0) {    // first: it brings defaults of its own
            o->sigmoid = 1;
            o->batch = 256;
            o->lr = 1e-2f;
        }
    for (int i = 1; i < argc; i++) {
        size_t k = 0, count = sizeof known / sizeof known[0];
        char rest;
        if (strcmp(argv[i], "--help") == 0)
            return fputs(usage, stdout), 2;
        if (strcmp(argv[i], "--sigmoid") == 0)
            continue;
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

// Test digits, what noise made of them, what the network makes of that, and the loss.
static int draw(ae_model *m, ae_arena *arena, const options *o, const ae_tensor *noisy,
                const ae_tensor *y, const ae_dataset *test, const report *r)
{
    static float in[SHOWN * PIXELS], bad[SHOWN * PIXELS], out[SHOWN * PIXELS];
    ae_image_row rows[3] = {{in, 0, 1, AE_GRAY}, {bad, 0, 1, AE_GRAY}, {out, 0, 1, AE_GRAY}};
    ae_curve curve = {r->losses, o->epochs, "training", 0};
    ae_dataset shown = ae_dataset_head(test, SHOWN);
    if (ae_dataset_get(test, in, NULL, 0, SHOWN))
        return fail("the test set has too few digits for the pictures", "");
    if (ae_predict_dataset(m, noisy, bad, &shown) || ae_predict_dataset(m, y, out, &shown))
        return fail(ae_error(m), "");       // both saw the same noise
    return save(arena, o, "denoise_rows.png", ae_image_rows(arena, rows, 3, SHOWN, 1, 28, 28, 3))
        || save(arena, o, "denoise_loss.png",
                ae_image_curves(arena, &curve, 1, o->sigmoid ? "half the squared error"
                                                             : "mean squared error", 640, 400, 0));
}

int main(int argc, char **argv)
{
    options o = {"data", "out", 10, 64, 1, 6, 0, 1e-3f};
    int parsed = parse(&o, argc, argv);
    if (parsed)
        return parsed == 1;

    static const int relu_sizes[] = {128, 64, 128}, sigmoid_sizes[] = {256, 128, 100, 128, 256};
    ae_arena *arena = ae_arena_new((size_t)256 << 20);
    ae_model *m = ae_model_new(arena, (uint64_t)o.seed);
    ae_set_threads(m, o.threads);
    ae_tensor *x = ae_input(m, 1, 28, 28);
    ae_tensor *noisy = ae_noise_always(ae_gaussian_noise(x, o.sigmoid ? 0.5f : 0.2f, 0, 1));
    ae_tensor *h = noisy;
    for (int i = 0; i < (o.sigmoid ? 5 : 3); i++)
        h = o.sigmoid ? ae_sigmoid(ae_linear(h, sigmoid_sizes[i]))
                      : ae_relu(ae_linear(h, relu_sizes[i]));
    if (o.sigmoid)
        ae_noise_fixed(noisy);
    ae_tensor *y = ae_sigmoid(ae_linear(h, PIXELS));
    ae_tensor *mse = ae_mse(y, x, AE_MEAN), *before = ae_mse(noisy, x, AE_MEAN);
    ae_minimize_weighted(mse, o.sigmoid ? 0.5f : 1.0f);
    ae_monitor(before);

    ae_dataset train, test;
    if (ae_mnist_load(&train, arena, o.data) || ae_mnist_load_test(&test, arena, o.data)
        || ae_build(m, o.batch, AE_TRAIN))
        return fail(ae_error(m), "");
    if (strcmp(ae_device(m), "cpu") != 0)     // a GPU, or why there is none
        printf("device  %s\n", ae_device(m));
    ae_optim adam = {0};
    ae_fit_options fit = {0};
    report r = {now(), (float *)ae_alloc(arena, (size_t)o.epochs * sizeof(float))};
    adam.lr = o.lr;
    fit.epochs = o.epochs;
    fit.callback = progress;
    fit.user = &r;
    if (r.losses == NULL)
        return fail("there is no room to note the loss of so many epochs", "");
    if (ae_fit(m, &train, &adam, &fit, NULL) || ae_evaluate(m, &test, NULL))
        return fail(ae_error(m), "");
    double test_mse = (double)ae_mean_loss(m, mse), noisy_mse = (double)ae_mean_loss(m, before);
    if (draw(m, arena, &o, noisy, y, &test, &r))
        return 1;
    printf("result test_mse %.5f\nresult psnr_noisy %.2f\nresult psnr_denoised %.2f\n", test_mse,
           -10.0 * log10(noisy_mse), -10.0 * log10(test_mse));
    ae_arena_free(arena);
    return 0;
}
