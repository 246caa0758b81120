/* A contractive code of handwritten digits: small changes of the input hardly move it.

   Shows: a penalty on the squared norm of the Jacobian dh/dx, the slopes of all units of the code
   by all pixels, against the same network without it. For one layer it is known exactly
   (ae_contractive); --deep has two and estimates it by random directions (ae_contractive_estimate).
   The decoder is the encoder's transpose: otherwise small weights there and large ones here would
   do. Only what tells digits apart still moves the code; it pays with reconstruction.

   cc -O2 -o 10_contractive examples/10_contractive.c -lm && ./10_contractive --epochs 40 --batch 32
   Ends with the norm, the error and how far noise moves a code, in distances between the codes of
   two digits, without and with: "result moved_plain 0.284" and "result moved_contractive 0.190"
   among them, and pictures: contractive_codes.png (how far noise moves each of the 100 units, for
   ten digits: plain over contractive, white is far), contractive_rows.png (originals, noisy, what
   the plain one makes of that, and the contractive one), contractive_loss.png.                 */
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

enum { PIXELS = 784, CODE = 100, SHOWN = 10, TRIED = 400 };

typedef struct options {
    const char *data, *out;
    int epochs, batch, threads, seed, deep;
    float lr, weight, noise;
} options;

static const char usage[] =
    "10_contractive: trains an autoencoder of handwritten digits without and with a contractive"
    " penalty\n"
    "  --data DIR    MNIST's four IDX files (data)      --epochs N   passes over the data (10)\n"
    "  --out DIR     where pictures go (out)            --batch N    samples a step (64)\n"
    "  --lr F        learning rate (0.001)              --seed N     of all randomness (42)\n"
    "  --threads N   needs OpenMP (1)                   --weight F   of the penalty (1)\n"
    "  --noise F     deviation of the noise (0.3)       --deep       two layers, 784-256-100\n";

static int fail(const char *message, const char *detail)
{
    fprintf(stderr, "10_contractive: %s%s\n", message, detail);
    return 1;
}

// Reads the arguments; 0 when all is well, 1 after an error, 2 after --help.
static int parse(options *o, int argc, char **argv)
{
    struct { const char *name, *format; void *value; } known[] = {  // %c: what a number leaves
        {"--data", NULL, &o->data},          {"--out", NULL, &o->out},
        {"--epochs", "%9d%c", &o->epochs},   {"--batch", "%9d%c", &o->batch},
        {"--threads", "%9d%c", &o->threads}, {"--seed", "%9d%c", &o->seed},
        {"--lr", "%f%c", &o->lr},            {"--weight", "%f%c", &o->weight},
        {"--noise", "%f%c", &o->noise},      {"--deep", "", &o->deep}
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
    if (o->epochs < 1 || o->batch < 1 || o->threads < 1 || !(o->lr > 0.0f)
        || !(o->weight > 0.0f) || !(o->noise > 0.0f))
        return fail("--epochs, --batch, --threads, --lr, --weight, --noise must be above 0", "");
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
    ae_tensor *code, *y;
    double norm, error, moved;  // on the test set: of the Jacobian, squared; see measure
    float codes[2 * TRIED * CODE];      // of clean digits, then of noisy ones
} net;

// Trains the autoencoder, with the penalty or only watching it.
static int train(net *v, ae_arena *arena, const options *o, int contract, const ae_dataset *digits,
                 const ae_dataset *test, report *r)
{
    ae_optim adam = {0};
    ae_fit_options fit = {0};
    v->m = ae_model_new(arena, (uint64_t)o->seed);
    ae_set_threads(v->m, o->threads);
    ae_tensor *x = ae_input(v->m, 1, 28, 28), *norm;
    if (o->deep) {
        ae_tensor *h = ae_sigmoid(ae_linear(x, 256));
        v->code = ae_sigmoid(ae_linear(h, CODE));
        v->y = ae_sigmoid(ae_tied(ae_sigmoid(ae_tied(v->code, v->code)), h));
        norm = ae_contractive_estimate(v->code, x, 0, AE_BATCH_MEAN);
    } else {
        v->code = ae_sigmoid(ae_linear(x, CODE));
        v->y = ae_sigmoid(ae_tied(v->code, v->code));
        norm = ae_contractive(v->code, AE_BATCH_MEAN);
    }
    ae_tensor *mse = ae_mse(v->y, x, AE_MEAN);
    ae_minimize_weighted(mse, PIXELS);          // the sum over pixels, as the norm's
    if (contract)
        ae_minimize_weighted(norm, o->weight);
    else
        ae_monitor(norm);
    adam.lr = o->lr;
    fit.epochs = o->epochs;
    fit.callback = progress;
    fit.user = r;
    r->start = now();
    if (ae_build(v->m, o->batch, AE_TRAIN) || ae_fit(v->m, digits, &adam, &fit, NULL)
        || ae_evaluate(v->m, test, NULL))
        return fail(ae_error(v->m), "");
    v->norm = (double)ae_mean_loss(v->m, norm);
    v->error = (double)ae_mean_loss(v->m, mse);
    return 0;
}

static double distance(const float *a, const float *b)
{
    double sum = 0;
    for (int j = 0; j < CODE; j++)
        sum += (double)(a[j] - b[j]) * (double)(a[j] - b[j]);
    return sqrt(sum);
}

// How far noise moves the codes of n digits, as a share of how far they are from each other.
static int measure(net *v, const float *clean, const float *noisy, size_t n)
{
    float *moved = v->codes + n * CODE;
    double by_noise = 0, between = 0;
    if (ae_predict(v->m, v->code, v->codes, clean, n)
        || ae_predict(v->m, v->code, moved, noisy, n))
        return fail(ae_error(v->m), "");
    for (size_t i = 0; i < n; i++) {
        by_noise += distance(v->codes + i * CODE, moved + i * CODE);
        between += distance(v->codes + i * CODE, v->codes + (i + 1) % n * CODE);
    }
    v->moved = by_noise / between;
    return 0;
}

// What noise does to the code and to what is decoded from it, without and with the penalty.
static int draw(net v[2], ae_arena *arena, const options *o, const float *clean,
                const float *noisy, size_t n, const report r[2])
{
    static float out[2 * SHOWN * PIXELS], change[2 * SHOWN * CODE];
    ae_image_row rows[4] = {{clean, 0, 1, AE_GRAY}, {noisy, 0, 1, AE_GRAY}, {out, 0, 1, AE_GRAY},
                            {out + SHOWN * PIXELS, 0, 1, AE_GRAY}};
    ae_image_row codes[2] = {{change, 0, 0.5f, AE_HOT}, {change + SHOWN * CODE, 0, 0.5f, AE_HOT}};
    ae_curve curves[2] = {{r[0].losses, o->epochs, "plain", 0},
                          {r[1].losses, o->epochs, "contractive, with its penalty", 0}};
    for (int i = 0; i < 2; i++) {
        ae_abs_error(change + i * SHOWN * CODE, v[i].codes, v[i].codes + n * CODE, SHOWN * CODE);
        if (ae_predict_from(v[i].m, v[i].code, v[i].y, out + i * SHOWN * PIXELS,
                            v[i].codes + n * CODE, SHOWN))
            return fail(ae_error(v[i].m), "");
    }
    return save(arena, o, "contractive_codes.png",
                ae_image_rows(arena, codes, 2, SHOWN, 1, 10, 10, 8))
        || save(arena, o, "contractive_rows.png",
                ae_image_rows(arena, rows, 4, SHOWN, 1, 28, 28, 3))
        || save(arena, o, "contractive_loss.png",
                ae_image_curves(arena, curves, 2, "squared error per image", 640, 400, 1));
}

int main(int argc, char **argv)
{
    options o = {"data", "out", 10, 64, 1, 42, 0, 1e-3f, 1.0f, 0.3f};
    int parsed = parse(&o, argc, argv);
    if (parsed)
        return parsed == 1;

    static net v[2];
    static float clean[TRIED * PIXELS], noisy[TRIED * PIXELS];
    ae_arena *arena = ae_arena_new((size_t)256 << 20);
    ae_dataset digits, test;
    float *losses = (float *)ae_alloc(arena, 2 * (size_t)o.epochs * sizeof(float));
    report r[2] = {{"plain ", 0, losses}, {"contractive ", 0, losses + o.epochs}};
    if (losses == NULL)
        return fail("there is no room to note the loss of so many epochs", "");
    if (ae_mnist_load(&digits, arena, o.data) || ae_mnist_load_test(&test, arena, o.data))
        return fail(arena->error, "");
    size_t n = ae_dataset_head(&test, TRIED).n;
    ae_random noise = {(uint64_t)o.seed, 0, 0};
    if (ae_dataset_get(&test, clean, NULL, 0, n) || n < SHOWN)
        return fail("the test set has too few digits for the pictures", "");
    ae_random_normal(noisy, n * PIXELS, 0, noise);
    for (size_t i = 0; i < n * PIXELS; i++)
        noisy[i] = clean[i] + o.noise * noisy[i];
    for (int i = 0; i < 2; i++)
        if (train(&v[i], arena, &o, i, &digits, &test, &r[i]) || measure(&v[i], clean, noisy, n))
            return 1;
    if (draw(v, arena, &o, clean, noisy, n, r))
        return 1;
    printf("result norm_plain %.4f\nresult norm_contractive %.4f\nresult test_mse_plain %.5f\n"
           "result test_mse_contractive %.5f\nresult moved_plain %.3f\n"
           "result moved_contractive %.3f\n", v[0].norm, v[1].norm, v[0].error, v[1].error,
           v[0].moved, v[1].moved);
    ae_arena_free(arena);
    return 0;
}
