/* GFLOP/s of the matrix products that training dense autoencoders is made of, beside OpenBLAS.

   Each layer has three: forward y = x w^T (the second operand transposed: NT), its input's gradient
   dx = dy w (NN), its weights' gradient dw += dy^T x (TN). The first layer's input needs no
   gradient: 17 products a system. OpenBLAS is found when the program runs; ours and theirs work on
   the same arrays, in turn, and must agree.

   make bench, or: cc -O2 -I. -o bench_products bench/bench_products.c -lm -ldl                  */
#define _POSIX_C_SOURCE 200809L
#define AE_SCALAR           /* --isa scalar */
#define AE_IMPLEMENTATION
#include "ae.h"
#include "bench.h"
#include "openblas.h"

enum { LAYERS = 6, LARGEST = 784 * 512 };

typedef struct products {       // of one system
    const char *name;
    int batch, width[LAYERS + 1];
} products;

static const products systems[] = {
    {"deep", 128, {784, 256, 128, 32, 128, 256, 784}},
    {"vae", 128, {784, 512, 256, 64, 256, 512, 784}},   // of its two heads, 64 each, one
    {"features", 256, {784, 256, 128, 100, 128, 256, 784}}
};
enum { SYSTEMS = sizeof systems / sizeof systems[0] };

/* ---------------------------------------------------------------------------
   One product, by either                                                      */

typedef enum kind { FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT } kind;
static const char *const kind_name[] = {"y  NT", "dx NN", "dw TN"};

typedef struct bench {
    ae_exec exec;
    openblas blas;
    int B;                      // batch
    float *x, *w, *dy;          // (B,I), (O,I), (B,O)
    float *out[2];              // ours, theirs
    long calls;                 // in one measurement
} bench;

static void ours(const bench *b, kind k, int I, int O)
{
    if (k == FORWARD)
        ae_linear_forward(&b->exec, b->out[0], b->x, b->w, NULL, b->B, I, O);
    else if (k == INPUT_GRADIENT)
        ae_linear_backward(&b->exec, b->out[0], NULL, NULL, b->dy, b->x, b->w, b->B, I, O);
    else
        ae_linear_backward(&b->exec, NULL, b->out[0], NULL, b->dy, b->x, b->w, b->B, I, O);
}

static void theirs(const bench *b, kind k, int I, int O)
{
    enum { R = OPENBLAS_ROWS, N = OPENBLAS_PLAIN, T = OPENBLAS_TRANSPOSED };
    float *c = b->out[1];
    if (k == FORWARD)
        b->blas.sgemm(R, N, T, b->B, O, I, 1, b->x, I, b->w, I, 0, c, O);
    else if (k == INPUT_GRADIENT)
        b->blas.sgemm(R, N, N, b->B, I, O, 1, b->dy, O, b->w, I, 0, c, I);
    else
        b->blas.sgemm(R, T, N, O, I, b->B, 1, b->dy, O, b->x, I, 1, c, I);
}

// Seconds for b->calls products; who: 0 ours, 1 theirs.
static double seconds(const bench *b, int who, kind k, int I, int O)
{
    double start = bench_now();
    for (long i = 0; i < b->calls; i++) {
        if (who == 0)
            ours(b, k, I, O);
        else
            theirs(b, k, I, O);
    }
    return bench_now() - start;
}

// Runs both once on fresh outputs; 0 when they agree to rounding error.
static int check(bench *b, kind k, int I, int O)
{
    size_t n = k == FORWARD ? (size_t)b->B * (size_t)O
             : (size_t)I * (size_t)(k == INPUT_GRADIENT ? b->B : O);
    memset(b->out[0], 0, LARGEST * sizeof(float));
    memset(b->out[1], 0, LARGEST * sizeof(float));
    ours(b, k, I, O);
    if (!b->blas.sgemm)
        return 0;
    theirs(b, k, I, O);
    if (!bench_differ(b->out[0], b->out[1], n, 1e-4f))   // operands within 1/2: sums below 200
        return 0;
    fprintf(stderr, "bench_products: %d -> %d, %s: ours and OpenBLAS's differ\n", I, O,
            kind_name[k]);
    return 1;
}

typedef struct totals {         // over many products
    double flop, seconds[2], log_ratio, lowest, log_share, lowest_share;
    int count;
} totals;

static void add_totals(totals *sum, const totals *t)
{
    sum->flop += t->flop;
    sum->seconds[0] += t->seconds[0];
    sum->seconds[1] += t->seconds[1];
    sum->log_ratio += t->log_ratio;
    sum->log_share += t->log_share;
    sum->lowest = sum->count ? fmin(sum->lowest, t->lowest) : t->lowest;
    sum->lowest_share = sum->count ? fmin(sum->lowest_share, t->lowest_share) : t->lowest_share;
    sum->count += t->count;
}

static int measure(bench *b, const bench_options *o, kind k, int I, int O, totals *sum)
{
    static bench_series rate[2], ratio, share;
    double flop = 2.0 * b->B * I * O;
    int peers = b->blas.sgemm ? 2 : 1;
    if (check(b, k, I, O))
        return 1;
    b->calls = 1;
    double once = seconds(b, 0, k, I, O);
    b->calls = 1 + (long)((o->quick ? 0.001 : 0.01) / once);
    rate[0].n = rate[1].n = ratio.n = share.n = 0;
    for (int r = 0; r < o->repeats; r++) {
        double peak = bench_peak(&b->exec, o->threads), speed[2] = {0, 0};
        for (int turn = 0; turn < peers; turn++) {
            int who = peers == 2 ? (r + turn) % 2 : 0;      // who goes first changes
            speed[who] = 1e-9 * flop * (double)b->calls / seconds(b, who, k, I, O);
            bench_add(&rate[who], speed[who]);
        }
        bench_add(&share, 100 * speed[0] / peak);
        if (peers == 2)
            bench_add(&ratio, speed[0] / speed[1]);
    }
    printf("| %3d -> %3d | %s | %7.1f %5.1f%% |", I, O, kind_name[k], bench_median(&rate[0]),
           bench_spread(&rate[0]));
    if (peers == 2)
        printf(" %7.1f %5.1f%% | %5.2f |", bench_median(&rate[1]), bench_spread(&rate[1]),
               bench_median(&ratio));
    else
        printf("       -      - |     - |");
    printf(" %4.0f%% |\n", bench_median(&share));
    fflush(stdout);

    totals t = {flop, {1e-9 * flop / bench_median(&rate[0]), 0}, 0, 0, log(bench_median(&share)),
                bench_median(&share), 1};
    if (peers == 2) {
        t.seconds[1] = 1e-9 * flop / bench_median(&rate[1]);
        t.lowest = bench_median(&ratio);
        t.log_ratio = log(t.lowest);
    }
    add_totals(sum, &t);
    return 0;
}

static void print_totals(const bench *b, const char *name, const totals *t)
{
    printf("\n%s, %d products in turn: ours %.1f GFLOP/s, %.0f%% of the peak (geometric mean; "
           "lowest %.0f%%)", name, t->count, 1e-9 * t->flop / t->seconds[0],
           exp(t->log_share / t->count), t->lowest_share);
    if (b->blas.sgemm)
        printf(", OpenBLAS %.1f\ngeometric mean of the ratios %.3f, the lowest %.3f",
               1e-9 * t->flop / t->seconds[1], exp(t->log_ratio / t->count), t->lowest);
    printf("\n");
}

// The ratios count for one thread and the best instructions.
static void print_bars(const bench *b, const char *name, const totals *t)
{
    ae_exec best = ae_exec_best();
    const char *note = b->blas.sgemm ? "" : "no OpenBLAS";
    char mean[64], lowest[64];
    snprintf(mean, sizeof mean, "sgemm over OpenBLAS, %s: geometric mean", name);
    snprintf(lowest, sizeof lowest, "sgemm over OpenBLAS, %s: lowest", name);
    if (b->exec.threads > 1 || strcmp(ae_exec_name(&b->exec), ae_exec_name(&best)) != 0)
        return;
    bench_bar(mean, b->blas.sgemm ? exp(t->log_ratio / t->count) : (double)NAN, ">= 1", "", note);
    bench_bar(lowest, b->blas.sgemm ? t->lowest : (double)NAN, ">= 0.85", "", note);
}

static int measure_system(bench *b, const bench_options *o, const products *s, totals *all)
{
    totals sum = {0, {0, 0}, 0, 0, 0, 0, 0};
    b->B = s->batch;
    printf("\n**%s**, batch %d\n\n", s->name, s->batch);
    bench_header("| layer      | what  | ours GFLOP/s   | OpenBLAS       | ratio | peak  |");
    for (int l = 0; l < LAYERS; l++)
        for (int k = FORWARD; k <= WEIGHT_GRADIENT; k++)
            if (!(l == 0 && k == INPUT_GRADIENT)
                && measure(b, o, (kind)k, s->width[l], s->width[l + 1], &sum))
                return 1;
    print_totals(b, s->name, &sum);
    print_bars(b, s->name, &sum);
    add_totals(all, &sum);
    return 0;
}

static int measure_all(bench *b, const bench_options *o)
{
    totals all = {0, {0, 0}, 0, 0, 0, 0, 0};
    bench_series peak = {{0}, 0};
    for (int r = 0; r < 9; r++)
        bench_add(&peak, bench_peak(&b->exec, o->threads));
    printf("FMA peak: %.1f GFLOP/s, spread %.1f%%\n", bench_median(&peak), bench_spread(&peak));
    for (int s = 0; s < SYSTEMS; s++)
        if (bench_wants(o, systems[s].name) && measure_system(b, o, &systems[s], &all))
            return 1;
    if (all.count == 0) {
        fprintf(stderr, "bench_products: there is no model %s\n", o->model);
        return 1;
    }
    print_totals(b, o->model, &all);
    if (o->threads == 1 && strcmp(ae_exec_name(&b->exec), "avx2") == 0)
        bench_bar("sgemm with AVX2, share of AVX2's peak: geometric mean",
                  exp(all.log_share / all.count), ">= 80", " %", "");
    return 0;
}

int main(int argc, char **argv)
{
    bench_options o = {1, 15, 0, AE_ISA_AVX512, NULL, "all"};
    int parsed = bench_parse(&o, "bench_products", argc, argv);
    if (parsed)
        return parsed == 1;

    bench b;
    ae_arena *arena = ae_arena_new(((size_t)o.threads * AE_SCRATCH + 6 * LARGEST) * sizeof(float));
    if (!arena)
        return fprintf(stderr, "bench_products: not enough memory\n"), 1;
    b.exec = ae_exec_at_most(o.isa);
    b.exec.threads = o.threads;
    b.exec.scratch = (float *)ae_alloc(arena, (size_t)o.threads * AE_SCRATCH * sizeof(float));
    float **arrays[] = {&b.x, &b.w, &b.dy, &b.out[0], &b.out[1]};
    for (size_t a = 0; a < 5; a++) {
        *arrays[a] = (float *)ae_alloc(arena, LARGEST * sizeof(float));
        bench_pattern(*arrays[a], LARGEST, a);
    }
    bench_machine(&b.exec, &o);
    openblas_at_its_best(&b.exec);
    b.blas = openblas_load(o.threads);
    int failed = measure_all(&b, &o);
    ae_arena_free(arena);
    return failed;
}
