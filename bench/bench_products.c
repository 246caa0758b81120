/* GFLOP/s of the matrix products that training the deep autoencoder is made of, beside OpenBLAS.

   Each layer of 784-256-128-32-128-256-784 has three at batch B: forward y = x w^T (the second
   operand transposed: NT), its input's gradient dx = dy w (NN), its weights' gradient dw += dy^T x
   (TN). The first layer's input needs no gradient: 17 products in all. OpenBLAS is found when the
   program runs; ours and theirs work on the same arrays, in turn, and must agree.

   make bench, or: cc -O2 -I. -o bench_products bench/bench_products.c -lm -ldl                  */
#define _POSIX_C_SOURCE 200809L
#define AE_IMPLEMENTATION
#include "ae.h"
#include "bench.h"
#include "openblas.h"

enum { BATCH = 128, LAYERS = 6, WIDEST = 784, LARGEST = 784 * 256 };
static const int width[LAYERS + 1] = {784, 256, 128, 32, 128, 256, 784};

/* ---------------------------------------------------------------------------
   One product, by either                                                      */

typedef enum kind { FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT } kind;
static const char *const kind_name[] = {"y  NT", "dx NN", "dw TN"};

typedef struct bench {
    ae_exec exec;
    openblas blas;
    float *x, *w, *dy;          // (BATCH,I), (O,I), (BATCH,O)
    float *out[2];              // ours, theirs
    long calls;                 // in one measurement
} bench;

static void ours(const bench *b, kind k, int I, int O)
{
    if (k == FORWARD)
        ae_linear_forward(&b->exec, b->out[0], b->x, b->w, NULL, BATCH, I, O);
    else if (k == INPUT_GRADIENT)
        ae_linear_backward(&b->exec, b->out[0], NULL, NULL, b->dy, b->x, b->w, BATCH, I, O);
    else
        ae_linear_backward(&b->exec, NULL, b->out[0], NULL, b->dy, b->x, b->w, BATCH, I, O);
}

static void theirs(const bench *b, kind k, int I, int O)
{
    enum { R = OPENBLAS_ROWS, N = OPENBLAS_PLAIN, T = OPENBLAS_TRANSPOSED };
    float *c = b->out[1];
    if (k == FORWARD)
        b->blas.sgemm(R, N, T, BATCH, O, I, 1, b->x, I, b->w, I, 0, c, O);
    else if (k == INPUT_GRADIENT)
        b->blas.sgemm(R, N, N, BATCH, I, O, 1, b->dy, O, b->w, I, 0, c, I);
    else
        b->blas.sgemm(R, T, N, O, I, BATCH, 1, b->dy, O, b->x, I, 1, c, I);
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
    size_t n = k == FORWARD ? (size_t)BATCH * (size_t)O
             : (size_t)I * (size_t)(k == INPUT_GRADIENT ? BATCH : O);
    memset(b->out[0], 0, LARGEST * sizeof(float));
    memset(b->out[1], 0, LARGEST * sizeof(float));
    ours(b, k, I, O);
    if (!b->blas.sgemm)
        return 0;
    theirs(b, k, I, O);
    for (size_t i = 0; i < n; i++)      // operands within 1/2: a sum of 784 stays below 200
        if (!(fabsf(b->out[0][i] - b->out[1][i]) <= 1e-4f)) {
            fprintf(stderr, "bench_products: %d -> %d, %s: ours and OpenBLAS's differ\n", I, O,
                    kind_name[k]);
            return 1;
        }
    return 0;
}

typedef struct totals {         // over all products
    double flop, seconds[2], log_ratio, worst;
    int count;
} totals;

static int measure(bench *b, const bench_options *o, kind k, int I, int O, totals *sum)
{
    static bench_series rate[2], ratio, share;
    double flop = 2.0 * BATCH * I * O;
    int peers = b->blas.sgemm ? 2 : 1;
    if (check(b, k, I, O))
        return 1;
    b->calls = 1;
    double once = seconds(b, 0, k, I, O);
    b->calls = 1 + (long)((o->quick ? 0.001 : 0.01) / once);
    rate[0].n = rate[1].n = ratio.n = share.n = 0;
    for (int r = 0; r < o->repeats; r++) {
        double peak = bench_peak(&b->exec) * o->threads, speed[2] = {0, 0};
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

    sum->flop += flop;
    sum->count++;
    for (int who = 0; who < peers; who++)
        sum->seconds[who] += 1e-9 * flop / bench_median(&rate[who]);
    if (peers == 2) {
        sum->log_ratio += log(bench_median(&ratio));
        sum->worst = fmin(sum->worst, bench_median(&ratio));
    }
    return 0;
}

static int measure_all(bench *b, const bench_options *o)
{
    totals sum = {0, {0, 0}, 0, 1e30, 0};
    bench_series peak = {{0}, 0};
    for (int r = 0; r < 9; r++)
        bench_add(&peak, bench_peak(&b->exec));
    printf("FMA peak of one core: %.1f GFLOP/s, spread %.1f%%\n\n", bench_median(&peak),
           bench_spread(&peak));
    bench_header("| layer      | what  | ours GFLOP/s   | OpenBLAS       | ratio | peak  |");
    for (int l = 0; l < LAYERS; l++)
        for (int k = FORWARD; k <= WEIGHT_GRADIENT; k++)
            if (!(l == 0 && k == INPUT_GRADIENT)
                && measure(b, o, (kind)k, width[l], width[l + 1], &sum))
                return 1;
    printf("\nall %d in turn: ours %.1f GFLOP/s", sum.count, 1e-9 * sum.flop / sum.seconds[0]);
    if (b->blas.sgemm)
        printf(", OpenBLAS %.1f\ngeometric mean of the ratios %.2f, the lowest %.2f",
               1e-9 * sum.flop / sum.seconds[1], exp(sum.log_ratio / sum.count), sum.worst);
    printf("\n");
    return 0;
}

int main(int argc, char **argv)
{
    bench_options o = {1, 15, 0, AE_ISA_AVX512, NULL, NULL};
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
    for (uint32_t a = 0; a < 5; a++) {
        ae_random which = {1, 0, a};
        *arrays[a] = (float *)ae_alloc(arena, LARGEST * sizeof(float));
        ae_random_uniform(*arrays[a], LARGEST, 0, which);
        for (int i = 0; i < LARGEST; i++)
            (*arrays[a])[i] -= 0.5f;
    }
    bench_machine(&b.exec, &o);
    openblas_at_its_best();
    b.blas = openblas_load(o.threads);
    int failed = measure_all(&b, &o);
    ae_arena_free(arena);
    return failed;
}
