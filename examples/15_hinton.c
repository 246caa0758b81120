/* The deep autoencoder of Hinton & Salakhutdinov 2006 ("Reducing the dimensionality of data with
   neural networks", Science 313), trained in minutes and without pretraining.

   Shows: 784-1000-500-250-30 and back, as in the paper: thirty numbers a digit, from which it comes
   back with a squared error of 3.00, summed over its pixels, where thirty principal components
   leave 13.87. The paper trained each layer as a Boltzmann machine first, because gradients did not
   get through seven layers of sigmoids. Here ReLU, He's first weights, batch normalisation before
   each ReLU and AdamW, whose learning rate rises and then falls along a cosine, take their place.
   Such a net soon knows its training digits better than others: half of them are turned,
   stretched and sheared a little, anew each epoch but the last ones (--plain: never).

   cc -O2 -fopenmp -o 15_hinton examples/15_hinton.c -lm && ./15_hinton --threads 2
   Ends with "result train_sse 5.26" and "result test_sse 10.83" (--plain: 4.70 and 12.40; with
   --data data/mnist, the full MNIST: 2.15 and 2.73), and pictures:
   hinton_rows.png (test digits over what thirty numbers keep of them, and where the two differ),
   hinton_loss.png.                                                                             */
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

enum { SIDE = 28, PIXELS = SIDE * SIDE, CODE = 30, SHOWN = 10, LAST = 5 };

typedef struct options {
    const char *data, *out;
    int epochs, batch, threads, seed, plain;
    float lr;
} options;

static const char usage[] =
    "15_hinton: trains Hinton and Salakhutdinov's deep autoencoder on handwritten digits\n"
    "  --data DIR    MNIST's four IDX files (data)      --epochs N   passes over the data (60)\n"
    "  --out DIR     where pictures go (out)            --batch N    samples a step (256)\n"
    "  --lr F        highest learning rate (0.003)      --seed N     of all randomness (42)\n"
    "  --threads N   needs OpenMP (1)                   --plain      digits as they are\n";

static int fail(const char *message, const char *detail)
{
    fprintf(stderr, "15_hinton: %s%s\n", message, detail);
    return 1;
}

// Reads the arguments; 0 when all is well, 1 after an error, 2 after --help.
static int parse(options *o, int argc, char **argv)
{
    struct { const char *name, *format; void *value; } known[] = {  // %c: what a number leaves
        {"--data", NULL, &o->data},          {"--out", NULL, &o->out},
        {"--epochs", "%9d%c", &o->epochs},   {"--batch", "%9d%c", &o->batch},
        {"--threads", "%9d%c", &o->threads}, {"--seed", "%9d%c", &o->seed},
        {"--lr", "%f%c", &o->lr},            {"--plain", "", &o->plain}
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
    if (o->epochs < 1 || o->batch < 2 || o->threads < 1 || !(o->lr > 0.0f))
        return fail("--epochs, --threads and --lr must be above 0, --batch above 1", "");
    mkdir(o->out, 0777);
    if (stat(o->out, &out) != 0 || !S_ISDIR(out.st_mode))
        return fail("cannot make the folder ", o->out);
    return 0;
}

typedef struct report {         // what the callback needs from one call to the next
    double start;               // of the epoch
    float *losses;
    const ae_dataset *digits;   // as they are
    uint8_t *warped;            // what the network sees
    const options *o;
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

// y = x seen through the matrix [a b; c d] about (14, 14), where MNIST puts the centre of mass;
// between pixels linear.
static void warp(uint8_t *y, const uint8_t *x, float a, float b, float c, float d)
{
    const float middle = SIDE / 2;
    for (int i = 0; i < PIXELS; i++) {
        float row = (float)(i / SIDE) - middle, column = (float)(i % SIDE) - middle, grey = 0;
        float u = a * column + b * row + middle, v = c * column + d * row + middle;
        if (u >= 0 && v >= 0 && u < SIDE - 1 && v < SIDE - 1) {     // beyond is black
            const uint8_t *at = x + (int)v * SIDE + (int)u;
            float right = u - (float)(int)u, down = v - (float)(int)v;
            grey = (1 - down) * ((1 - right) * at[0] + right * at[1])
                 + down * ((1 - right) * at[SIDE] + right * at[SIDE + 1]);
        }
        y[i] = (uint8_t)(grey + 0.5f);
    }
}

// Half of the digits, warped by up to 8 degrees or per cent; the last epochs see all as they are.
static void warp_digits(const report *r, int epoch)
{
    for (size_t i = 0; i < r->digits->n; i++) {
        const uint8_t *x = r->digits->bytes + i * PIXELS;
        ae_random place = {(uint64_t)r->o->seed, (uint64_t)epoch, 0};
        float u[5];
        ae_random_uniform(u, 5, 5 * i, place);
        if (epoch >= r->o->epochs - LAST || u[4] < 0.5f) {
            memcpy(r->warped + i * PIXELS, x, PIXELS);
            continue;
        }
        for (int k = 0; k < 4; k++)
            u[k] = 0.16f * u[k] - 0.08f;
        float turn = 1.75f * u[0], c = cosf(turn), s = sinf(turn), wide = 1 + u[1], high = 1 + u[2];
        warp(r->warped + i * PIXELS, x, c * wide, u[3] - s * high, s * wide, c * high);
    }
}

// ae_fit calls this after each step and each epoch.
static int progress(void *user, const ae_progress *p)
{
    report *r = (report *)user;
    if (isatty(2) && !p->epoch_end)
        fprintf(stderr, "\r%zu/%zu  loss %.3f ", p->batch, p->batches, (double)p->loss);
    if (!p->epoch_end)
        return 0;
    if (r->warped)
        warp_digits(r, p->epoch);
    double seconds = now() - r->start;
    if (isatty(2))
        fputs("\r\033[K", stderr);      // wipes the progress line
    printf("epoch %d/%d  loss %.3f  %.2f s  %.0f img/s\n", p->epoch, p->epochs, (double)p->loss,
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

// Test digits, what comes back of them, and where the two differ.
static int draw(ae_model *m, ae_arena *arena, const options *o, const ae_tensor *y,
                const ae_dataset *test, const report *r)
{
    static float in[SHOWN * PIXELS], out[SHOWN * PIXELS], error[SHOWN * PIXELS];
    ae_image_row rows[3] = {{in, 0, 1, AE_GRAY}, {out, 0, 1, AE_GRAY}, {error, 0, 1, AE_HOT}};
    ae_curve curve = {r->losses, o->epochs, "training", 0};
    if (ae_dataset_get(test, in, NULL, 0, SHOWN))
        return fail("the test set has too few digits for the pictures", "");
    if (ae_predict(m, y, out, in, SHOWN))
        return fail(ae_error(m), "");
    ae_abs_error(error, in, out, SHOWN * PIXELS);
    return save(arena, o, "hinton_rows.png", ae_image_rows(arena, rows, 3, SHOWN, 1, SIDE, SIDE, 3))
        || save(arena, o, "hinton_loss.png",
                ae_image_curves(arena, &curve, 1, "squared error per image", 640, 400, 1));
}

static ae_tensor *layer(ae_tensor *x, int units)
{
    return ae_relu(ae_batch_norm(ae_linear_no_bias(x, units), NULL));
}

int main(int argc, char **argv)
{
    options o = {"data", "out", 60, 256, 1, 42, 0, 3e-3f};
    int parsed = parse(&o, argc, argv);
    if (parsed)
        return parsed == 1;

    ae_arena *arena = ae_arena_new((size_t)512 << 20);
    ae_model *m = ae_model_new(arena, (uint64_t)o.seed);
    ae_set_threads(m, o.threads);
    ae_tensor *x = ae_input(m, 1, SIDE, SIDE);
    ae_tensor *code = ae_linear(layer(layer(layer(x, 1000), 500), 250), CODE);
    ae_tensor *y = ae_sigmoid(ae_linear(layer(layer(layer(code, 250), 500), 1000), PIXELS));
    ae_init_all(m, ae_init_he_normal(0), ae_init_constant(0));
    ae_minimize(ae_mse(y, x, AE_BATCH_MEAN));

    ae_dataset digits, test;
    if (ae_mnist_load(&digits, arena, o.data) || ae_mnist_load_test(&test, arena, o.data)
        || ae_build(m, o.batch, AE_TRAIN))
        return fail(ae_error(m), "");
    if (strcmp(ae_device(m), "cpu") != 0)     // a GPU, or why there is none
        printf("device  %s\n", ae_device(m));
    ae_dataset seen = digits;
    report r = {0, (float *)ae_alloc(arena, (size_t)o.epochs * sizeof(float)), &digits, NULL, &o};
    if (!o.plain && digits.bytes && digits.c * digits.h * digits.w == PIXELS) {
        seen.bytes = r.warped = (uint8_t *)ae_alloc(arena, digits.n * PIXELS);
        if (r.warped) warp_digits(&r, 0);
    }
    if (r.losses == NULL || (r.warped == NULL && seen.bytes == NULL))
        return fail("there is no room to note the losses, or for the warped digits", "");
    ae_optim adamw = {0};
    ae_fit_options fit = {0};
    adamw.kind = AE_ADAMW;
    adamw.lr = o.lr;
    adamw.weight_decay = 0.05f;
    fit.epochs = o.epochs;
    fit.schedule.kind = AE_SCHEDULE_COSINE;
    fit.schedule.warmup = o.epochs < 6 ? 0 : 3;
    fit.callback = progress;
    fit.user = &r;
    r.start = now();
    float train_sse, test_sse;
    if (ae_fit(m, &seen, &adamw, &fit, NULL) || ae_evaluate(m, &digits, &train_sse)
        || ae_evaluate(m, &test, &test_sse))
        return fail(ae_error(m), "");
    if (draw(m, arena, &o, y, &test, &r))
        return 1;
    printf("result train_sse %.3f\nresult test_sse %.3f\n", (double)train_sse, (double)test_sse);
    ae_arena_free(arena);
    return 0;
}
