/* Handwritten digits as a compressed file, and back.

   Shows two coders on one entropy coder. By default a lossy one: a picture becomes 32 numbers of
   deviation 1, rounded to multiples of --step, each written in about -log2 p bits, p its share
   among the training digits'. In training noise as large as the rounding takes its place (as Balle
   et al. 2017 do with their own), so that the network puts nothing where rounding would erase it.
   --bits-back: a lossless one of black and white digits, by a variational autoencoder 784-100-40
   (Townsend et al. 2019, "Practical lossless compression with latent variables using bits back
   coding"), which comes close to the bound it was trained by.

   cc -O2 -o 13_compress examples/13_compress.c -lm && ./13_compress
   Prints a table of rates and ends with "result bits_per_image 96.7" and "result psnr 16.68" (with
   the full MNIST 97.8 and 22.00 dB; --bits-back: "result bits_per_pixel 0.191"). Files:
   digits_0.5.aec and its kin of other steps, compress_rows.png (test digits, and what comes back
   from 97, 66 and 40 bits). A file holds codes alone: network and histograms belong to the reader,
   as the tables of any format do. Floats must come out alike on both sides, to the bit: so it is
   one program on one machine that writes and reads, one picture at a time.                     */
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

enum { PIXELS = 784, CODE = 32, SYMBOLS = 256, RATES = 5, SHOWN = 10, TAIL = 3 };
enum { LATENTS = 40, BINS_LOG2 = 14, BINS = 1 << BINS_LOG2, SUPPLY = 256 };     // of --bits-back

typedef struct options {
    const char *data, *out;
    int epochs, batch, threads, seed, bits_back;
    float lr, step;
} options;

static const char usage[] =
    "13_compress: compresses handwritten digits with an autoencoder\n"
    "  --data DIR    MNIST's four IDX files (data)      --epochs N   passes over the data (20)\n"
    "  --out DIR     where files go (out)               --batch N    samples a step (64)\n"
    "  --lr F        learning rate (0.002)              --seed N     of all randomness (42)\n"
    "  --threads N   needs OpenMP (1)                   --step F     codes are rounded to (0.5)\n"
    "  --bits-back   lossless, of black and white digits\n";

static int fail(const char *message, const char *detail)
{
    fprintf(stderr, "13_compress: %s%s\n", message, detail);
    return 1;
}

// Reads the arguments; 0 when all is well, 1 after an error, 2 after --help.
static int parse(options *o, int argc, char **argv)
{
    struct { const char *name, *format; void *value; } known[] = {  // %c: what a number leaves
        {"--data", NULL, &o->data},          {"--out", NULL, &o->out},
        {"--epochs", "%9d%c", &o->epochs},   {"--batch", "%9d%c", &o->batch},
        {"--threads", "%9d%c", &o->threads}, {"--seed", "%9d%c", &o->seed},
        {"--lr", "%f%c", &o->lr},            {"--step", "%f%c", &o->step},
        {"--bits-back", "", &o->bits_back}
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
    if (!(o->step >= 0.25f && o->step <= 4.0f))         // 128 quarters of it are 8 deviations
        return fail("--step must be 0.25 ... 4", "");
    mkdir(o->out, 0777);
    if (stat(o->out, &out) != 0 || !S_ISDIR(out.st_mode))
        return fail("cannot make the folder ", o->out);
    return 0;
}

/* The entropy coder: asymmetric numeral systems (Duda 2013, "rANS"). The whole message is one
   number x. Symbols share 2^bits slots by their probabilities; encode writes one that has `count`
   slots from `start` on: x = (x / count) 2^bits + start + x % count grows by the factor
   2^bits / count, that is by -log2 p bits. The slot in x's low bits tells the symbol, and decode
   undoes its encode: last in, first out. x stays in [2^31, 2^63), the rest is a stack of words. */
typedef struct ans {
    uint64_t x;
    uint32_t *words;
    size_t n, least, room;      // words on the stack: now, fewest so far, most
    int broken;                 // it was full, or empty
} ans;

// A distribution of `symbols` symbols: by shares, or normal over BINS bins that would be equally
// likely if it were the standard normal.
typedef struct law {
    uint32_t symbols;
    int bits;
    const double *below;        // the share of all symbols below k, or NULL: normal
    double mean, deviation;
} law;

static double quantile[2 * BINS];   // where the standard normal has j / (2 BINS) of its mass below

// Slots below symbol k. Each symbol has one, the rest is shared by the distribution.
static uint32_t slots(const law *l, uint32_t k)
{
    uint32_t all = (uint32_t)1 << l->bits;
    if (k == 0 || k == l->symbols)
        return k ? all : 0;
    double share = l->below ? l->below[k]
                 : 0.5 * erfc((l->mean - quantile[2 * k]) / (l->deviation * sqrt(2.0)));
    return k + (uint32_t)(share * (double)(all - l->symbols));
}

static double encode(ans *a, const law *l, uint32_t k)      // returns -log2 p
{
    uint32_t start = slots(l, k), count = slots(l, k + 1) - start;
    if (a->x >= (uint64_t)count << (63 - l->bits)) {
        if (a->n < a->room) a->words[a->n++] = (uint32_t)a->x;
        else a->broken = 1;
        a->x >>= 32;
    }
    a->x = (a->x / count << l->bits) + start + a->x % count;
    return l->bits - log2(count);
}

static uint32_t decode(ans *a, const law *l)
{
    uint32_t low = 0, high = l->symbols, slot = (uint32_t)(a->x & (((uint64_t)1 << l->bits) - 1));
    while (high - low > 1) {                // slots(low) <= slot < slots(high)
        uint32_t middle = (low + high) / 2;
        if (slots(l, middle) <= slot) low = middle;
        else high = middle;
    }
    uint32_t start = slots(l, low), count = slots(l, low + 1) - start;
    a->x = count * (a->x >> l->bits) + slot - start;
    if (a->x < (uint64_t)1 << 31) {
        if (a->n > 0) a->n--;
        else a->broken = 1;
        a->x = a->x << 32 | a->words[a->n];
        a->least = a->n < a->least ? a->n : a->least;
    }
    return low;
}

// The file: the stack, x, and how many pictures, in 32-bit words, low byte first.
static int store(const char *path, const ans *a, size_t pictures)
{
    uint32_t tail[TAIL] = {(uint32_t)a->x, (uint32_t)(a->x >> 32), (uint32_t)pictures};
    FILE *f = fopen(path, "wb");
    for (size_t i = 0; f && i < a->n + TAIL; i++)
        for (int shift = 0; shift < 32; shift += 8)
            fputc((int)((i < a->n ? a->words[i] : tail[i - a->n]) >> shift & 255), f);
    int bad = f == NULL || ferror(f);
    return (f && fclose(f)) || bad ? fail("cannot write ", path) : 0;
}

static int load(const char *path, ans *a, size_t pictures)
{
    size_t n = 0, end;
    FILE *f = fopen(path, "rb");
    memset(a->words, 0, a->room * sizeof a->words[0]);
    for (int byte; f && n < 4 * a->room && (byte = fgetc(f)) != EOF; n++)
        a->words[n / 4] |= (uint32_t)byte << 8 * (n % 4);
    if (f) fclose(f);
    end = n / 4;
    if (end < TAIL || n % 4 || a->words[end - 1] != pictures)
        return fail("not a file of these digits: ", path);
    a->x = (uint64_t)a->words[end - 2] << 32 | a->words[end - 3];
    a->n = a->least = end - TAIL;
    a->broken = 0;
    return 0;
}

typedef struct report {         // what the callback needs from one call to the next
    double start;               // of the epoch
    uint8_t *drawn;             // black and white digits, drawn anew each epoch, or NULL
    const ae_dataset *grey;
    uint64_t seed;
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

// Each pixel becomes 1 with the probability that its grey value is, else 0.
static void draw_bits(uint8_t *bits, const ae_dataset *grey, uint64_t seed, uint64_t draw)
{
    float u[PIXELS], x[PIXELS];
    ae_random r = {seed, draw, 0};
    for (size_t i = 0; i < grey->n; i++) {
        ae_random_uniform(u, PIXELS, i * PIXELS, r);
        ae_dataset_get(grey, x, NULL, i, 1);
        for (size_t j = 0; j < PIXELS; j++)
            bits[i * PIXELS + j] = u[j] < x[j];
    }
}

// ae_fit calls this after each step and each epoch.
static int progress(void *user, const ae_progress *p)
{
    report *r = (report *)user;
    if (isatty(2) && !p->epoch_end)
        fprintf(stderr, "\r%zu/%zu  loss %.4f ", p->batch, p->batches, (double)p->loss);
    if (!p->epoch_end)
        return 0;
    double seconds = now() - r->start;
    if (isatty(2))
        fputs("\r\033[K", stderr);      // wipes the progress line
    printf("epoch %d/%d  loss %.4f  %.2f s  %.0f img/s\n", p->epoch, p->epochs, (double)p->loss,
           seconds, (double)p->samples / seconds);
    fflush(stdout);
    r->start = now();
    if (r->drawn)
        draw_bits(r->drawn, r->grey, r->seed, (uint64_t)p->epoch);
    return 0;
}

static int train(ae_model *m, const options *o, const ae_dataset *digits, report *r)
{
    ae_optim adam = {0};
    ae_fit_options fit = {0};
    adam.lr = o->lr;
    fit.epochs = o->epochs;
    fit.schedule.kind = AE_SCHEDULE_COSINE;
    fit.callback = progress;
    fit.user = r;
    r->start = now();
    return ae_build(m, o->batch, AE_TRAIN) || ae_fit(m, digits, &adam, &fit, NULL)
        ? fail(ae_error(m), "") : 0;
}

// The distributions of `units` interleaved sequences: their histograms in n symbols of each.
static void count_all(law *laws, double (*below)[SYMBOLS + 1], size_t units, const uint8_t *s,
                      size_t n)
{
    memset(below, 0, units * sizeof *below);
    for (size_t i = 0; i < n * units; i++)
        below[i % units][s[i] + 1]++;
    for (size_t u = 0; u < units; u++) {
        law l = {SYMBOLS, 16, below[u], 0, 1};
        for (size_t k = 1; k <= SYMBOLS; k++)
            below[u][k] = below[u][k - 1] + below[u][k] / (double)n;
        laws[u] = l;
    }
}

// Writes n symbols of each sequence, the last first, and returns the sum of -log2 p.
static double encode_all(ans *a, const law *laws, size_t units, const uint8_t *s, size_t n)
{
    double bits = 0;
    a->x = (uint64_t)1 << 31;
    a->n = a->least = 0;
    for (size_t i = n * units; i-- > 0;)
        bits += encode(a, &laws[i % units], s[i]);
    return bits;
}

typedef struct codec {          // the lossy one
    ae_model *m;
    ae_tensor *code, *y;
    const ae_dataset *train, *test;
    float *train_codes, *codes;
    uint8_t *symbols;           // room for those of either
    ans a;
    double bits, psnr;          // of a digit; of all
} codec;

static void round_codes(uint8_t *s, const float *codes, size_t n, float step)
{
    for (size_t i = 0; i < n * CODE; i++)
        s[i] = (uint8_t)(128.0f + fminf(fmaxf(floorf(codes[i] / step + 0.5f), -128.0f), 127.0f));
}

// The test digits to a file and back, the first ten to `shown`; prints a line of the table.
static int rate(codec *c, const options *o, float step, float *shown)
{
    static double below[CODE][SYMBOLS + 1];
    const size_t n = c->test->n;
    law laws[CODE];
    float code[CODE], x[PIXELS], y[PIXELS];
    char path[1024];
    double error = 0;
    snprintf(path, sizeof path, "%s/digits_%g.aec", o->out, (double)step);
    round_codes(c->symbols, c->train_codes, c->train->n, step);
    count_all(laws, below, CODE, c->symbols, c->train->n);
    round_codes(c->symbols, c->codes, n, step);
    double claim = encode_all(&c->a, laws, CODE, c->symbols, n), bits;
    if (store(path, &c->a, n) || load(path, &c->a, n))
        return 1;
    bits = 32.0 * (double)(c->a.n + TAIL);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < CODE; j++) {
            uint32_t k = decode(&c->a, &laws[j]);
            if (k != c->symbols[i * CODE + j])
                return fail("another code came back from ", path);
            code[j] = ((float)k - 128.0f) * step;
        }
        if (ae_predict_from(c->m, c->code, c->y, y, code, 1)
            || ae_dataset_get(c->test, x, NULL, i, 1))
            return fail(ae_error(c->m), "");
        for (size_t j = 0; j < PIXELS; j++)
            error += (double)((y[j] - x[j]) * (y[j] - x[j]));
        if (i < SHOWN) memcpy(shown + i * PIXELS, y, sizeof y);
    }
    if (c->a.broken || c->a.n || c->a.x != (uint64_t)1 << 31
        || !(fabs(bits - claim) < 128 + 1e-4 * claim))
        return fail("more or fewer bits than the codes are worth are in ", path);
    c->bits = bits / (double)n;
    c->psnr = -10 * log10(error / (double)(n * PIXELS));
    printf("%8g %14.1f %10.1f %14.1f %10.2f\n", (double)step, c->bits, claim / (double)n,
           PIXELS * 8 / c->bits, c->psnr);
    return 0;
}

// What grey values cost as they are, without a network: bits of a digit.
static double plain(codec *c)
{
    static double below[1][SYMBOLS + 1];
    law l;
    if (c->train->bytes == NULL || c->test->bytes == NULL)
        return 8 * PIXELS;
    count_all(&l, below, 1, c->train->bytes, c->train->n * PIXELS);
    return encode_all(&c->a, &l, 1, c->test->bytes, c->test->n * PIXELS) / (double)c->test->n;
}

// Trains, and makes room for the codes and the message.
static int prepare(codec *c, ae_arena *arena, const options *o)
{
    const size_t f = CODE * sizeof(float), most = c->train->n + c->test->n;
    ae_norm unit = {0};
    report r = {0};
    unit.no_affine = 1;
    c->m = ae_model_new(arena, (uint64_t)o->seed);
    ae_set_threads(c->m, o->threads);
    ae_tensor *x = ae_input(c->m, 1, 28, 28);
    ae_tensor *h = ae_relu(ae_linear(ae_relu(ae_linear(x, 512)), 256));
    c->code = ae_batch_norm(ae_linear_no_bias(h, CODE), &unit);     // deviation 1
    h = ae_gaussian_noise(c->code, o->step / sqrtf(12), 0, 0);      // that of rounding to o->step
    h = ae_relu(ae_linear(ae_relu(ae_linear(h, 256)), 512));
    c->y = ae_sigmoid(ae_linear(h, PIXELS));
    ae_minimize(ae_mse(c->y, x, AE_MEAN));
    if (train(c->m, o, c->train, &r))
        return 1;
    c->train_codes = (float *)ae_alloc(arena, c->train->n * f);
    c->codes = (float *)ae_alloc(arena, c->test->n * f);
    c->symbols = (uint8_t *)ae_alloc(arena, most * CODE);
    c->a.room = c->test->n * PIXELS / 2 + TAIL;     // 16 bits a pixel: no symbol has more
    c->a.words = (uint32_t *)ae_alloc(arena, c->a.room * sizeof(uint32_t));
    if (!c->train_codes || !c->codes || !c->symbols || !c->a.words)
        return fail("there is no room for the codes", "");
    return ae_predict_dataset(c->m, c->code, c->train_codes, c->train)
        || ae_predict_dataset(c->m, c->code, c->codes, c->test) ? fail(ae_error(c->m), "") : 0;
}

static int lossy(ae_arena *arena, const options *o, const ae_dataset *digits,
                 const ae_dataset *test)
{
    static float rows[1 + RATES][SHOWN * PIXELS];
    ae_image_row shown[4] = {{rows[0], 0, 1, AE_GRAY}, {rows[3], 0, 1, AE_GRAY},
                             {rows[4], 0, 1, AE_GRAY}, {rows[5], 0, 1, AE_GRAY}};
    char path[1024];
    codec c = {0};
    double bits = 0, psnr = 0;
    c.train = digits;
    c.test = test;
    if (prepare(&c, arena, o))
        return 1;
    printf("    step   bits/picture   -log2 p     raw / this    PSNR dB\n");
    for (int i = 0; i < RATES; i++) {                   // from a quarter of the step to four
        if (rate(&c, o, ldexpf(o->step, i - RATES / 2), rows[1 + i]))
            return 1;
        bits = i == RATES / 2 ? c.bits : bits;
        psnr = i == RATES / 2 ? c.psnr : psnr;
    }
    snprintf(path, sizeof path, "%s/compress_rows.png", o->out);
    if (ae_dataset_get(test, rows[0], NULL, 0, SHOWN)
        || ae_png_write(arena, path, ae_image_rows(arena, shown, 4, SHOWN, 1, 28, 28, 3)))
        return fail(arena->error, "");
    printf("result lossless_bits_per_image %.1f\nresult bits_per_image %.1f\nresult ratio %.1f\n"
           "result psnr %.2f\n", plain(&c), bits, PIXELS * 8 / bits, psnr);
    return 0;
}

typedef struct vae {            // of --bits-back
    ae_model *m;
    ae_tensor *x, *stats, *z, *logits;  // stats: means, then log-variances
} vae;

/* Bits back. A code z is drawn from q(z|x), by decoding it: random bits that the message
   already holds decide, and are gone from it; then x is encoded by p(x|z) and z by p(z). The
   reader decodes z and x and encodes z again by q(z|x): the bits that chose it are back. On average
   a picture costs -ln p(x|z) - ln p(z) + ln q(z|x), the negative ELBO. z is one of BINS bins that
   are equally likely by the prior. */

static int posterior(const vae *v, law *q, const float *x)
{
    if (ae_set(v->m, v->x, x, 1) || ae_run(v->m, v->stats, 1))
        return fail(ae_error(v->m), "");
    const float *s = ae_get(v->m, v->stats);
    for (int i = 0; i < LATENTS; i++) {
        law l = {BINS, 28, NULL, (double)s[i], exp(0.5 * (double)s[LATENTS + i])};
        q[i] = l;
    }
    return 0;
}

// black: room for the probabilities.
static int likelihood(const vae *v, law *p, double (*black)[2], const uint32_t *z)
{
    float code[LATENTS];
    for (int i = 0; i < LATENTS; i++)
        code[i] = (float)quantile[2 * z[i] + 1];        // the middle of the bin
    if (ae_run_from(v->m, v->z, code, v->logits, 1))
        return fail(ae_error(v->m), "");
    const float *logit = ae_get(v->m, v->logits);
    for (int j = 0; j < PIXELS; j++) {
        law l = {2, 24, black[j], 0, 1};
        black[j][1] = 1 / (1 + exp((double)logit[j]));
        p[j] = l;
    }
    return 0;
}

static const law prior = {BINS, BINS_LOG2, NULL, 0, 1};

static int put(const vae *v, ans *a, const float *x)
{
    law q[LATENTS], p[PIXELS];
    double black[PIXELS][2];
    uint32_t z[LATENTS];
    if (posterior(v, q, x))
        return 1;
    for (int i = 0; i < LATENTS; i++)
        z[i] = decode(a, &q[i]);
    if (likelihood(v, p, black, z))
        return 1;
    for (int j = 0; j < PIXELS; j++)
        encode(a, &p[j], x[j] > 0);
    for (int i = 0; i < LATENTS; i++)
        encode(a, &prior, z[i]);
    return 0;
}

// Every step of put, undone, from the last to the first.
static int take(const vae *v, ans *a, float *x)
{
    law q[LATENTS], p[PIXELS];
    double black[PIXELS][2];
    uint32_t z[LATENTS];
    for (int i = LATENTS; i-- > 0;)
        z[i] = decode(a, &prior);
    if (likelihood(v, p, black, z))
        return 1;
    for (int j = PIXELS; j-- > 0;)
        x[j] = (float)decode(a, &p[j]);
    if (posterior(v, q, x))
        return 1;
    for (int i = LATENTS; i-- > 0;)
        encode(a, &q[i], z[i]);
    return 0;
}

// Where the standard normal has this share of its mass below, by bisection.
static double normal_quantile(double share)
{
    double low = -9, high = 9;
    for (int i = 0; i < 60; i++) {
        double middle = 0.5 * (low + high);
        if (0.5 * erfc(-middle / sqrt(2.0)) < share) low = middle;
        else high = middle;
    }
    return low;
}

// Every test digit onto one message, to a file, and back.
static int bits_back(const vae *v, ans *a, const options *o, const uint8_t *bits, size_t n,
                     double *initial, double *net)
{
    uint32_t supply[SUPPLY];
    float x[PIXELS];
    char path[1024];
    snprintf(path, sizeof path, "%s/digits.bbac", o->out);
    for (uint32_t i = 0; i < SUPPLY; i += 4) {          // the random bits of the first picture
        const uint32_t counter[4] = {i, 0, 0, 0}, key[2] = {(uint32_t)o->seed, 1};
        ae_philox(supply + i, counter, key);
    }
    memcpy(a->words, supply, sizeof supply);
    a->n = a->least = SUPPLY;
    a->x = (uint64_t)1 << 31;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < PIXELS; j++)
            x[j] = bits[i * PIXELS + j];
        if (put(v, a, x))
            return 1;
    }
    if (a->broken)
        return fail("the pictures take more than 4 bits a pixel: train longer", "");
    *initial = 32.0 * (double)(SUPPLY - a->least);
    *net = 32.0 * ((double)a->n - (double)SUPPLY) + log2((double)a->x) - 31;
    if (store(path, a, n) || load(path, a, n))
        return 1;
    for (size_t i = n; i-- > 0;) {
        if (take(v, a, x))
            return 1;
        for (size_t j = 0; j < PIXELS; j++)
            if (x[j] != (float)bits[i * PIXELS + j])
                return fail("another picture came back from ", path);
    }
    if (a->broken || a->n != SUPPLY || a->x != (uint64_t)1 << 31
        || memcmp(a->words, supply, sizeof supply) != 0)
        return fail("the random bits did not come back from ", path);
    return 0;
}

static int lossless(ae_arena *arena, const options *o, const ae_dataset *digits,
                    const ae_dataset *test)
{
    const double nats = (double)PIXELS * log(2.0);
    ae_dataset d[2] = {*digits, *test};
    uint8_t *bits[2];
    vae v = {0};
    ans a = {0};
    float loss;
    double initial, net;
    for (int k = 0; k < 2; k++) {       // training digits are drawn anew each epoch, test ones once
        bits[k] = (uint8_t *)ae_alloc(arena, d[k].n * PIXELS);
        if (bits[k] == NULL)
            return fail("there is no room for the digits in black and white", "");
        draw_bits(bits[k], k ? test : digits, (uint64_t)o->seed, k ? UINT64_MAX : 0);
        d[k].bytes = bits[k];
        d[k].floats = NULL;
        d[k].scale = 1;
    }
    report r = {0, bits[0], digits, (uint64_t)o->seed};
    for (int j = 0; j < 2 * BINS; j++)
        quantile[j] = normal_quantile((double)j / (2 * BINS));
    v.m = ae_model_new(arena, (uint64_t)o->seed);
    ae_set_threads(v.m, o->threads);
    v.x = ae_input(v.m, 1, 28, 28);
    ae_tensor *h = ae_relu(ae_linear(v.x, 100));
    ae_tensor *mu = ae_linear(h, LATENTS), *logvar = ae_linear(h, LATENTS);
    v.stats = ae_concat(mu, logvar);
    v.z = ae_noise_always(ae_gaussian_sample(mu, logvar));
    v.logits = ae_linear(ae_relu(ae_linear(v.z, 100)), PIXELS);
    ae_minimize(ae_bce_logits(v.logits, v.x, AE_BATCH_MEAN));
    ae_minimize(ae_kl_normal(mu, logvar, 0, AE_BATCH_MEAN));
    if (train(v.m, o, &d[0], &r))
        return 1;
    if (ae_evaluate(v.m, &d[1], &loss))
        return fail(ae_error(v.m), "");
    a.room = test->n * PIXELS / 8 + SUPPLY + TAIL;
    a.words = (uint32_t *)ae_alloc(arena, a.room * 4);
    if (a.words == NULL)
        return fail("there is no room for the message", "");
    if (bits_back(&v, &a, o, bits[1], test->n, &initial, &net))
        return 1;
    printf("result elbo_bits_per_pixel %.4f\nresult initial_bits %.0f\n"
           "result bits_per_pixel %.4f\n", (double)loss / nats, initial,
           net / (double)(test->n * PIXELS));
    return 0;
}

int main(int argc, char **argv)
{
    options o = {"data", "out", 20, 64, 1, 42, 0, 2e-3f, 0.5f};
    int parsed = parse(&o, argc, argv);
    if (parsed)
        return parsed == 1;

    ae_arena *arena = ae_arena_new((size_t)1 << 29);
    ae_dataset digits, test;
    if (ae_mnist_load(&digits, arena, o.data) || ae_mnist_load_test(&test, arena, o.data))
        return fail(arena ? arena->error : "there are no 512 MB of memory", "");
    if (digits.c * digits.h * digits.w != PIXELS || test.c * test.h * test.w != PIXELS
        || test.n < SHOWN)
        return fail("digits of 28 x 28 pixels are needed, and ten to test", "");
    int bad = o.bits_back ? lossless(arena, &o, &digits, &test) : lossy(arena, &o, &digits, &test);
    ae_arena_free(arena);
    return bad;
}
