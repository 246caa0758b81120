/* Sparse codes of handwritten digits: of 256 units only a few speak for each digit.

   Shows: three ways to a sparse code, each against the same network without it. By default the sum
   of |h| is a term of the loss (L1: units become exactly 0); --kl wants each unit on in 5 % of the
   digits (sigmoid units); --topk K leaves the K largest and erases the others. The decoder is the
   encoder's transpose, so that a small code cannot be made up for by large weights. A unit that
   speaks seldom must mean something: its filter is a stroke, where a dense code's are noise.

   cc -O2 -o 08_sparse examples/08_sparse.c -lm && ./08_sparse --epochs 40 --batch 32
   Ends with the share of units that are on and the test error, without and with, "result
   active_sparse 0.14" and "result test_mse_sparse 0.0148" among them, and pictures:
   sparse_filters.png (two rows of the dense network's, then two of the sparse one's: red for, blue
   against), sparse_rows.png (originals, dense, sparse), sparse_loss.png.                       */
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

enum { PIXELS = 784, CODE = 256, FILTERS = 32, SHOWN = 10 };

typedef struct options {
    const char *data, *out;
    int epochs, batch, threads, seed, kl, topk;
    float lr, weight;
} options;

static const char usage[] =
    "08_sparse: trains a dense and a sparse autoencoder on handwritten digits\n"
    "  --data DIR    MNIST's four IDX files (data)      --epochs N   passes over the data (10)\n"
    "  --out DIR     where pictures go (out)            --batch N    samples a step (64)\n"
    "  --lr F        learning rate (0.001)              --seed N     of all randomness (42)\n"
    "  --threads N   needs OpenMP (1)                   --weight F   of the penalty (0.1; --kl 1)\n"
    "  --kl          each unit on in 5 % of the digits, in place of L1\n"
    "  --topk K      the K largest units stay, in place of L1\n";

static int fail(const char *message, const char *detail)
{
    fprintf(stderr, "08_sparse: %s%s\n", message, detail);
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
        {"--topk", "%9d%c", &o->topk},       {"--kl", "", &o->kl}
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
    o->weight = o->weight > 0.0f ? o->weight : o->kl ? 1.0f : 0.1f;
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
    ae_tensor *first, *code, *y, *mse;
    double active, error;       // on the test set: share of units that are on; squared error
} net;

// Trains an autoencoder, sparse or not, and measures it.
static int train(net *v, ae_arena *arena, const options *o, int sparse, const ae_dataset *digits,
                 const ae_dataset *test, report *r)
{
    ae_optim adam = {0};
    ae_fit_options fit = {0};
    v->m = ae_model_new(arena, (uint64_t)o->seed);
    ae_set_threads(v->m, o->threads);
    ae_tensor *x = ae_input(v->m, 1, 28, 28);
    v->first = ae_linear(x, CODE);
    v->code = o->kl ? ae_sigmoid(v->first) : o->topk ? ae_identity(v->first) : ae_relu(v->first);
    if (sparse && o->topk)
        v->code = ae_top_k(v->code, o->topk);
    v->y = ae_sigmoid(ae_tied(v->code, v->first));
    v->mse = ae_mse(v->y, x, AE_MEAN);
    ae_minimize_weighted(v->mse, PIXELS);       // the sum over pixels, as the penalty's over units
    if (sparse && o->kl)
        ae_minimize_weighted(ae_kl_sparsity(v->code, 0.05f, AE_BATCH_MEAN), o->weight);
    else if (sparse && !o->topk)
        ae_minimize_weighted(ae_l1_penalty(v->code, AE_BATCH_MEAN), o->weight);
    adam.lr = o->lr;
    fit.epochs = o->epochs;
    fit.callback = progress;
    fit.user = r;
    r->start = now();
    if (ae_build(v->m, o->batch, AE_TRAIN) || ae_fit(v->m, digits, &adam, &fit, NULL)
        || ae_evaluate(v->m, test, NULL))
        return fail(ae_error(v->m), "");
    v->error = (double)ae_mean_loss(v->m, v->mse);

    const size_t mark = ae_arena_used(arena), count = test->n * CODE;
    float *codes = (float *)ae_alloc(arena, count * sizeof(float));
    size_t on = 0;
    if (codes == NULL || ae_predict_dataset(v->m, v->code, codes, test))
        return fail(codes ? ae_error(v->m) : "there is no room for the codes", "");
    for (size_t i = 0; i < count; i++)
        on += fabsf(codes[i]) > (o->kl ? 0.1f : 0.0f);
    v->active = (double)on / (double)count;
    ae_arena_rewind(arena, mark);
    return 0;
}

// The filters of both, their reconstructions, and their losses.
static int draw(net v[2], ae_arena *arena, const options *o, const ae_dataset *test,
                const report r[2])
{
    static float filters[2 * FILTERS * PIXELS], in[SHOWN * PIXELS], out[2 * SHOWN * PIXELS];
    const size_t half = FILTERS * PIXELS;
    ae_image_row rows[3] = {{in, 0, 1, AE_GRAY}, {out, 0, 1, AE_GRAY},
                            {out + SHOWN * PIXELS, 0, 1, AE_GRAY}};
    ae_curve curves[2] = {{r[0].losses, o->epochs, "dense", 0},
                          {r[1].losses, o->epochs, "sparse, with its penalty", 0}};
    if (ae_dataset_get(test, in, NULL, 0, SHOWN))
        return fail("the test set has too few digits for the pictures", "");
    for (size_t i = 0; i < 2; i++) {
        memcpy(filters + i * half, ae_param_data(v[i].m, ae_weight(v[i].first)),
               half * sizeof filters[0]);
        if (ae_predict(v[i].m, v[i].y, out + i * SHOWN * PIXELS, in, SHOWN))
            return fail(ae_error(v[i].m), "");
    }
    return save(arena, o, "sparse_filters.png",
                ae_image_filters(arena, filters, 2 * FILTERS, FILTERS / 2, 1, 28, 28, 2))
        || save(arena, o, "sparse_rows.png", ae_image_rows(arena, rows, 3, SHOWN, 1, 28, 28, 3))
        || save(arena, o, "sparse_loss.png",
                ae_image_curves(arena, curves, 2, "squared error per image", 640, 400, 1));
}

int main(int argc, char **argv)
{
    options o = {"data", "out", 10, 64, 1, 42, 0, 0, 1e-3f, 0.0f};
    int parsed = parse(&o, argc, argv);
    if (parsed)
        return parsed == 1;

    ae_arena *arena = ae_arena_new((size_t)256 << 20);
    ae_dataset digits, test;
    float *losses = (float *)ae_alloc(arena, 2 * (size_t)o.epochs * sizeof(float));
    report r[2] = {{"dense ", 0, losses}, {"sparse ", 0, losses + o.epochs}};
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
    printf("result active_dense %.4f\nresult active_sparse %.4f\nresult test_mse_dense %.5f\n"
           "result test_mse_sparse %.5f\n", v[0].active, v[1].active, v[0].error, v[1].error);
    ae_arena_free(arena);
    return 0;
}
