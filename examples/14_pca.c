/* Principal components against autoencoders: what is non-linearity worth?

   Shows: for codes of 2 to 64 numbers the error of the best linear code there is (ae_pca_fit), that
   of a deep autoencoder with as many, and what both codes know about the labels they have never
   seen: how often the 5 nearest training digits tell a test digit's. A linear autoencoder of 30
   ends where the 30 principal components are, found by gradients instead of eigenvectors. The deep
   one has the smaller error at every size with 60,000 digits, with 2,000 not from 30 numbers on.

   cc -O2 -o 14_pca examples/14_pca.c -lm && ./14_pca --epochs 60 --batch 32
   Ends with the table and "result pca30_test_sse 15.011" among others (13.866 with the full MNIST),
   squared errors summed over an image's pixels. Pictures: pca_rows.png (test digits, 8 components,
   8 numbers of an autoencoder), pca_components.png (the first 32; the first tells a 0 from a 1),
   pca_plane.png (codes of 2: components, autoencoder; a colour a digit).                        */
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

enum { PIXELS = 784, SIZES = 5, MOST = 64, LINEAR = 30, SHOWN = 10, SIDE = 480 };
static const int sizes[SIZES] = {2, 8, 16, LINEAR, MOST};

typedef struct options {
    const char *data, *out;
    int epochs, batch, threads, seed;
    float lr;
} options;

static const char usage[] =
    "14_pca: principal components and autoencoders of handwritten digits\n"
    "  --data DIR    MNIST's four IDX files (data)      --epochs N   passes over the data (10)\n"
    "  --out DIR     where pictures go (out)            --batch N    samples a step (64)\n"
    "  --lr F        learning rate (0.001)              --seed N     of all randomness (42)\n"
    "  --threads N   needs OpenMP (1)\n";

static int fail(const char *message, const char *detail)
{
    fprintf(stderr, "14_pca: %s%s\n", message, detail);
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
    printf("%s  epoch %d/%d  loss %.5f  %.2f s  %.0f img/s\n", r->name, p->epoch, p->epochs,
           (double)p->loss, seconds, (double)p->samples / seconds);
    fflush(stdout);
    r->start = now();
    return 0;
}

typedef struct state {          // one method at a time fills codes, the test set's and back
    ae_arena *arena;
    ae_exec exec;
    ae_dataset train, test;
    ae_pca pca;
    float *x, *back;            // test pixels, and their reconstruction
    float *codes, *test_codes;
} state;

// The mean squared error of a test image, and how often the 5 nearest codes of the training set
// tell its label.
static int measure(state *s, int code, double *error, double *nearest)
{
    ae_dataset d[2] = {s->train, s->test};
    float mse;
    ae_mse_per_sample(&mse, s->x, s->back, 1, (int)s->test.n * PIXELS);
    *error = (double)PIXELS * (double)mse;
    for (int i = 0; i < 2; i++) {
        d[i].bytes = NULL;
        d[i].floats = i ? s->test_codes : s->codes;
        d[i].scale = 1.0f;
        d[i].c = code;
        d[i].h = d[i].w = 1;
    }
    return ae_knn_accuracy(&s->exec, nearest, s->arena, &d[0], &d[1], 5) != AE_SUCCESS;
}

static void project(state *s, int code)
{
    ae_pca few = s->pca;
    float x[PIXELS];
    few.K = code;               // the first ones are the components of a smaller fit
    for (size_t i = 0; i < s->train.n; i++) {
        ae_dataset_get(&s->train, x, NULL, i, 1);
        ae_pca_encode(&s->exec, &few, s->codes + i * (size_t)code, x, 1);
    }
    ae_pca_encode(&s->exec, &few, s->test_codes, s->x, s->test.n);
    ae_pca_decode(&s->exec, &few, s->back, s->test_codes, s->test.n);
}

// Trains an autoencoder, deep or linear, and runs it.
static int learn(state *s, const options *o, int code, int linear)
{
    const size_t mark = ae_arena_used(s->arena);
    char name[32];
    report r = {name, now()};
    ae_optim adam = {0};
    ae_fit_options fit = {0};
    ae_model *m = ae_model_new(s->arena, (uint64_t)o->seed);
    ae_tensor *x = ae_input(m, 1, 28, 28), *h = x;
    snprintf(name, sizeof name, linear ? "linear %d" : "code %d", code);
    if (!linear)
        h = ae_relu(ae_linear(ae_relu(ae_linear(x, 256)), 128));
    ae_tensor *z = ae_linear(h, code), *d = z;
    if (!linear)
        d = ae_relu(ae_linear(ae_relu(ae_linear(z, 128)), 256));
    ae_tensor *y = linear ? ae_linear(d, PIXELS) : ae_sigmoid(ae_linear(d, PIXELS));
    ae_minimize(ae_mse(y, x, AE_MEAN));
    adam.lr = o->lr;
    fit.epochs = o->epochs;
    fit.schedule.kind = AE_SCHEDULE_COSINE;
    fit.callback = progress;
    fit.user = &r;
    ae_set_exec(m, &s->exec);
    if (ae_build(m, o->batch, AE_TRAIN) || ae_fit(m, &s->train, &adam, &fit, NULL)
        || ae_predict_dataset(m, z, s->codes, &s->train)
        || ae_predict_dataset(m, z, s->test_codes, &s->test)
        || ae_predict_from(m, z, y, s->back, s->test_codes, s->test.n))
        return fail(ae_error(m), "");
    ae_arena_rewind(s->arena, mark);
    return 0;
}

// Test digits, written where their codes of 2 lie; each axis spans all but the outer 8 %.
static int scatter(const state *s, ae_image *img, int x0)
{
    static const uint32_t colors[10] = {0x1f77b4, 0xff7f0e, 0x2ca02c, 0xd62728, 0x9467bd,
                                        0x8c564b, 0xe377c2, 0x5f5f5f, 0x9a9b12, 0x17aebf};
    const size_t n = s->test.n, mark = ae_arena_used(s->arena);
    float low[2], high[2], *axis = (float *)ae_alloc(s->arena, n * sizeof(float));
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; i < n && axis; i++)
            axis[i] = s->test_codes[2 * i + k];
        if (ae_quantile(&low[k], s->arena, axis, n, 0.04)
            || ae_quantile(&high[k], s->arena, axis, n, 0.96))
            return fail(s->arena->error, "");
    }
    for (size_t i = 0; i < n && i < 1500; i++) {
        const float *z = s->test_codes + 2 * i;
        const float u = (z[0] - low[0]) / (high[0] - low[0]);
        const float v = (z[1] - low[1]) / (high[1] - low[1]);
        const int label = (int)(s->test.labels[i] % 10);
        const char digit[2] = {(char)('0' + label), 0};
        if (u >= 0 && u < 1 && v >= 0 && v < 1)
            ae_image_text(img, x0 + (int)(u * (SIDE - 6)), (int)((1 - v) * (SIDE - 8)), digit, 1,
                          colors[label]);
    }
    ae_arena_rewind(s->arena, mark);
    return 0;
}

static int save(ae_arena *arena, const options *o, const char *name, ae_image image)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", o->out, name);
    return ae_png_write(arena, path, image) ? fail(arena->error, "") : 0;
}

// Each size of code by components and by an autoencoder: errors, neighbours, pictures.
static int compare(state *s, const options *o, double error[2][SIZES], double nearest[2][SIZES])
{
    const size_t shown = SHOWN * PIXELS * sizeof(float);
    static float rows[2][SHOWN * PIXELS];
    ae_image plane = ae_image_new(s->arena, 2 * SIDE + 10, SIDE, 0xffffff);
    ae_image_row row[3] = {{s->x, 0, 1, AE_GRAY}, {rows[0], 0, 1, AE_GRAY},
                           {rows[1], 0, 1, AE_GRAY}};
    for (int k = 0; k < SIZES; k++)
        for (int deep = 0; deep < 2; deep++) {
            if (!deep)
                project(s, sizes[k]);
            else if (learn(s, o, sizes[k], 0))
                return 1;
            if (measure(s, sizes[k], &error[deep][k], &nearest[deep][k]))
                return fail(s->arena->error, "");
            if (sizes[k] == 8)
                memcpy(rows[deep], s->back, shown);
            if (sizes[k] == 2 && scatter(s, &plane, deep * (SIDE + 10)))
                return 1;
        }
    return save(s->arena, o, "pca_plane.png", plane)
        || save(s->arena, o, "pca_rows.png", ae_image_rows(s->arena, row, 3, SHOWN, 1, 28, 28, 3))
        || save(s->arena, o, "pca_components.png",
                ae_image_filters(s->arena, s->pca.components, 32, 8, 1, 28, 28, 3));
}

int main(int argc, char **argv)
{
    options o = {"data", "out", 10, 64, 1, 42, 1e-3f};
    int parsed = parse(&o, argc, argv);
    if (parsed)
        return parsed == 1;

    ae_arena *arena = ae_arena_new((size_t)512 << 20);
    state s = {arena, ae_exec_best(), {0}, {0}, {0}, NULL, NULL, NULL, NULL};
    double error[2][SIZES], nearest[2][SIZES], linear[2];
    s.exec.threads = o.threads;
    if (ae_mnist_load(&s.train, arena, o.data) || ae_mnist_load_test(&s.test, arena, o.data)
        || ae_pca_fit(&s.exec, &s.pca, arena, &s.train, MOST))
        return fail(arena->error, "");
    s.x = (float *)ae_alloc(arena, s.test.n * PIXELS * sizeof(float));
    s.back = (float *)ae_alloc(arena, s.test.n * PIXELS * sizeof(float));
    s.codes = (float *)ae_alloc(arena, s.train.n * MOST * sizeof(float));
    s.test_codes = (float *)ae_alloc(arena, s.test.n * MOST * sizeof(float));
    if (!s.x || !s.back || !s.codes || !s.test_codes || s.test.n < SHOWN)
        return fail("the test set is too small or too large", "");
    ae_dataset_get(&s.test, s.x, NULL, 0, s.test.n);
    if (compare(&s, &o, error, nearest) || learn(&s, &o, LINEAR, 1)
        || measure(&s, LINEAR, &linear[0], &linear[1]))
        return 1;

    printf("\n         squared error of an image     nearest neighbours right\n"
           "  code   components   autoencoder      components   autoencoder\n");
    for (int k = 0; k < SIZES; k++)
        printf("  %4d   %10.2f   %11.2f      %8.1f %%    %9.1f %%\n", sizes[k], error[0][k],
               error[1][k], 100 * nearest[0][k], 100 * nearest[1][k]);
    printf("\nresult pca30_test_sse %.3f\nresult linear30_test_sse %.3f\n"
           "result deep30_test_sse %.3f\nresult pca30_nearest %.4f\nresult deep30_nearest %.4f\n",
           error[0][3], linear[0], error[1][3], nearest[0][3], nearest[1][3]);
    ae_arena_free(arena);
    return 0;
}
