/* Anomalies by reconstruction error: what an autoencoder cannot draw, it has not seen.

   Shows: ten small denoising autoencoders, each trained on one digit's images alone. A test digit's
   squared error under one of them is its score: low for that digit, high for the other nine. AUROC
   says how often an anomaly scores above a normal digit, average precision how many alarms are
   right as the threshold falls (0.9 by chance here: nine of ten are anomalies). The threshold
   itself is set without any anomaly: a tenth of the digit's training images is held out, and the
   quantile of their errors promises a rate of false alarms, which the test set then checks.

   cc -O2 -o 12_anomaly examples/12_anomaly.c -lm && ./12_anomaly --epochs 100 --batch 16
   Ends with a line for each digit and "result mean_auroc 0.94", and pictures: anomaly_rows.png
   (test digits 0 ... 9, what the autoencoder of --show makes of them, where they differ),
   anomaly_errors.png (mean error by autoencoder, downwards, and by digit: dark is normal).      */
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

enum { PIXELS = 784, DIGITS = 10 };

typedef struct options {
    const char *data, *out;
    int epochs, batch, threads, seed, code, show;
    float lr, alarms;
} options;

static const char usage[] =
    "12_anomaly: finds handwritten digits that are not what they should be\n"
    "  --data DIR    MNIST's four IDX files (data)      --epochs N   passes over the data (20)\n"
    "  --out DIR     where pictures go (out)            --batch N    samples a step (64)\n"
    "  --lr F        learning rate (0.001)              --seed N     of all randomness (42)\n"
    "  --threads N   needs OpenMP (1)                   --code N     numbers of a code (16)\n"
    "  --alarms F    false alarms wanted, a share of the normal digits (0.05)\n"
    "  --show D      the digit whose autoencoder is drawn (2)\n";

static int fail(const char *message, const char *detail)
{
    fprintf(stderr, "12_anomaly: %s%s\n", message, detail);
    return 1;
}

// Reads the arguments; 0 when all is well, 1 after an error, 2 after --help.
static int parse(options *o, int argc, char **argv)
{
    struct { const char *name, *format; void *value; } known[] = {  // %c: what a number leaves
        {"--data", NULL, &o->data},          {"--out", NULL, &o->out},
        {"--epochs", "%9d%c", &o->epochs},   {"--batch", "%9d%c", &o->batch},
        {"--threads", "%9d%c", &o->threads}, {"--seed", "%9d%c", &o->seed},
        {"--lr", "%f%c", &o->lr},            {"--code", "%9d%c", &o->code},
        {"--alarms", "%f%c", &o->alarms},    {"--show", "%9d%c", &o->show}
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
    if (o->code < 1 || !(o->alarms >= 0.0f && o->alarms <= 1.0f) || o->show < 0 || o->show > 9)
        return fail("--code must be above 0, --alarms in 0 ... 1, --show a digit", "");
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

typedef struct score { double auroc, precision, alarms, found; } score;

typedef struct state {
    const options *o;
    ae_arena *arena;
    ae_dataset train, held, test;       // of all digits
    float *x, *back, *error;            // test pixels, their reconstruction, their scores
    uint8_t *anomaly;                   // of the test set, for one autoencoder
    float rows[3 * DIGITS * PIXELS];    // for the picture
    float means[DIGITS * DIGITS];
    score scores[DIGITS];
} state;

// The samples of one digit: a view of d. n is 0 when there is no room or none.
static ae_dataset only(ae_arena *arena, const ae_dataset *d, int digit)
{
    ae_dataset view = *d;
    uint32_t *index = (uint32_t *)ae_alloc(arena, d->n * sizeof *index);
    view.n = 0;
    for (size_t i = 0; i < d->n && index; i++)
        if (d->labels[d->index[i]] == digit)
            index[view.n++] = d->index[i];
    view.index = index;
    return view;
}

// Trains the autoencoder of one digit; *threshold from digits held out, errors of the test set.
static int learn(state *s, int digit, float *threshold)
{
    char name[32];
    report r = {name, now()};
    ae_optim adam = {0};
    ae_fit_options fit = {0};
    ae_dataset train = only(s->arena, &s->train, digit), held = only(s->arena, &s->held, digit);
    ae_model *m = ae_model_new(s->arena, (uint64_t)s->o->seed * DIGITS + (uint64_t)digit);
    float *pixels = (float *)ae_alloc(s->arena, held.n * PIXELS * sizeof(float));
    float *drawn = (float *)ae_alloc(s->arena, held.n * PIXELS * sizeof(float));
    float *errors = (float *)ae_alloc(s->arena, held.n * sizeof(float));
    if (train.n == 0 || held.n == 0 || !pixels || !drawn || !errors)
        return fail("a digit has too few images to hold some out", "");
    ae_set_threads(m, s->o->threads);
    ae_tensor *x = ae_input(m, 1, 28, 28);
    ae_tensor *noisy = ae_gaussian_noise(x, 0.2f, 0, 0);    // in training only
    ae_tensor *z = ae_linear(ae_relu(ae_linear(noisy, 256)), s->o->code);
    ae_tensor *y = ae_sigmoid(ae_linear(ae_relu(ae_linear(z, 256)), PIXELS));
    ae_minimize(ae_mse(y, x, AE_MEAN));
    snprintf(name, sizeof name, "digit %d", digit);
    adam.lr = s->o->lr;
    fit.epochs = s->o->epochs;
    fit.schedule.kind = AE_SCHEDULE_COSINE;
    fit.callback = progress;
    fit.user = &r;
    ae_dataset_get(&held, pixels, NULL, 0, held.n);
    if (ae_build(m, s->o->batch, AE_TRAIN) || ae_fit(m, &train, &adam, &fit, NULL)
        || ae_predict(m, y, drawn, pixels, held.n) || ae_predict(m, y, s->back, s->x, s->test.n))
        return fail(ae_error(m), "");
    ae_mse_per_sample(errors, pixels, drawn, held.n, PIXELS);
    ae_mse_per_sample(s->error, s->x, s->back, s->test.n, PIXELS);
    return ae_quantile(threshold, s->arena, errors, held.n, 1.0 - (double)s->o->alarms)
           ? fail(s->arena->error, "") : 0;
}

// Scores of the test set under the autoencoder of one digit.
static int judge(state *s, int digit)
{
    const size_t mark = ae_arena_used(s->arena);
    size_t count[DIGITS] = {0}, alarms[2] = {0, 0};     // of normal digits, of anomalies
    float threshold;
    score *r = &s->scores[digit];
    if (learn(s, digit, &threshold))
        return 1;
    for (size_t i = 0; i < s->test.n; i++) {
        const int label = (int)s->test.labels[i], first = count[label]++ == 0;
        float *row = s->rows + label * PIXELS;
        s->anomaly[i] = label != digit;
        alarms[s->anomaly[i]] += s->error[i] > threshold;
        s->means[digit * DIGITS + label] += s->error[i];
        if (digit != s->o->show || !first)
            continue;
        memcpy(row, s->x + i * PIXELS, PIXELS * sizeof(float));
        memcpy(row + DIGITS * PIXELS, s->back + i * PIXELS, PIXELS * sizeof(float));
        ae_abs_error(row + 2 * DIGITS * PIXELS, row, row + DIGITS * PIXELS, PIXELS);
    }
    for (int k = 0; k < DIGITS; k++)
        s->means[digit * DIGITS + k] /= (float)(count[k] ? count[k] : 1);
    if (ae_auroc(&r->auroc, s->arena, s->error, s->anomaly, s->test.n)
        || ae_average_precision(&r->precision, s->arena, s->error, s->anomaly, s->test.n))
        return fail(s->arena->error, "");
    r->alarms = (double)alarms[0] / (double)count[digit];
    r->found = (double)alarms[1] / (double)(s->test.n - count[digit]);
    ae_arena_rewind(s->arena, mark);
    return 0;
}

static int save(ae_arena *arena, const options *o, const char *name, ae_image image)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", o->out, name);
    return ae_png_write(arena, path, image) ? fail(arena->error, "") : 0;
}

int main(int argc, char **argv)
{
    options o = {"data", "out", 20, 64, 1, 42, 16, 2, 1e-3f, 0.05f};
    int parsed = parse(&o, argc, argv);
    if (parsed)
        return parsed == 1;

    ae_arena *arena = ae_arena_new((size_t)512 << 20);
    static state s;
    ae_dataset all;
    score mean = {0, 0, 0, 0};
    s.o = &o;
    s.arena = arena;
    if (ae_mnist_load(&all, arena, o.data) || ae_mnist_load_test(&s.test, arena, o.data)
        || ae_dataset_split(&s.train, &s.held, &all, arena, 0.1f, (uint64_t)o.seed))
        return fail(arena->error, "");
    s.x = (float *)ae_alloc(arena, s.test.n * PIXELS * sizeof(float));
    s.back = (float *)ae_alloc(arena, s.test.n * PIXELS * sizeof(float));
    s.error = (float *)ae_alloc(arena, s.test.n * sizeof(float));
    s.anomaly = (uint8_t *)ae_alloc(arena, s.test.n);
    if (!s.x || !s.back || !s.error || !s.anomaly)
        return fail("there is no room for the test set", "");
    ae_dataset_get(&s.test, s.x, NULL, 0, s.test.n);
    for (size_t i = 0; i < s.test.n; i++)
        if (s.test.labels[i] >= DIGITS)
            return fail("a label of the test set is above 9", "");
    for (int digit = 0; digit < DIGITS; digit++)
        if (judge(&s, digit))
            return 1;

    ae_image_row rows[3] = {{s.rows, 0, 1, AE_GRAY}, {s.rows + DIGITS * PIXELS, 0, 1, AE_GRAY},
                            {s.rows + 2 * DIGITS * PIXELS, 0, 1, AE_HOT}};
    ae_image_row map = {s.means, 0, 0, AE_HOT};
    if (save(arena, &o, "anomaly_rows.png",
             ae_image_rows(arena, rows, 3, DIGITS, 1, 28, 28, 3))
        || save(arena, &o, "anomaly_errors.png",
                ae_image_rows(arena, &map, 1, 1, 1, DIGITS, DIGITS, 24)))
        return 1;
    puts("\ndigit   AUROC  average precision  false alarms  anomalies found");
    for (int k = 0; k < DIGITS; k++) {
        const score *r = &s.scores[k];
        printf("%5d  %.4f             %.4f       %5.1f %%           %4.1f %%\n", k, r->auroc,
               r->precision, 100 * r->alarms, 100 * r->found);
        mean.auroc += r->auroc / (double)DIGITS;
        mean.precision += r->precision / (double)DIGITS;
        mean.alarms += r->alarms / (double)DIGITS;
        mean.found += r->found / (double)DIGITS;
    }
    printf("\nresult mean_auroc %.4f\nresult mean_precision %.4f\nresult false_alarms %.4f\n"
           "result found %.4f\n", mean.auroc, mean.precision, mean.alarms, mean.found);
    ae_arena_free(arena);
    return 0;
}
