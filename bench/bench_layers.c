/* Single layers, forward and each gradient alone, at the sizes that `conv` and `denoise` give them,
   beside PyTorch's own functions (peers/torch_layers.py), and Adam on all parameters of `deep`.

   Each part is measured over and over on the same arrays; both sides make them of the same numbers,
   and results are compared before they are timed (but noise, which is random).

   make bench, or: cc -O2 -I. -o bench_layers bench/bench_layers.c -lm -ldl                      */
#define _POSIX_C_SOURCE 200809L
#define AE_SCALAR           /* --isa scalar */
#define AE_IMPLEMENTATION
#include "ae.h"
#include "bench.h"
#include "openblas.h"
#include "peer.h"

enum { LARGEST = 64 * 16 * 28 * 28 };      // floats of the largest array

typedef enum part { FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT } part;
static const char *const part_name[] = {"y", "dx", "dw"};

typedef struct work {
    ae_exec exec;
    float *x, *w, *b, *y, *dy;  // as every layer names them; dy is also a loss's target
    float *dx, *dw, *db;
    float *theirs;              // a peer's result
    int32_t *index;
    float *copy[2];             // what memcpy runs on
    uint64_t step;
} work;

typedef struct layer {
    const char *name;           // the peer's too
    void (*run)(work *k, const struct layer *l, part p);
    int B, C, H, W;             // of x
    int O, kernel, stride, pad; // of convolutions
    int out, params;            // elements of y and dy, of w
    int parts;                  // which it has: bits 1 << part
    double macs;                // of a part; 0: it is counted in bytes
    double bytes[2];            // read and written by y, dx, an element of x
} layer;

/* ---------------------------------------------------------------------------
   One call of a part                                                          */

static ae_conv geometry(const layer *l)
{
    ae_conv g = {0};
    g.kernel_h = l->kernel;
    g.stride_h = l->stride;
    g.pad_h = g.pad_w = l->pad;
    return ae_conv_defaults(&g);
}

static void conv(work *k, const layer *l, part p)
{
    ae_conv g = geometry(l);
    if (p == FORWARD)
        ae_conv2d_forward(&k->exec, k->y, k->x, k->w, k->b, &g, l->B, l->C, l->H, l->W, l->O);
    else
        ae_conv2d_backward(&k->exec, p == INPUT_GRADIENT ? k->dx : NULL,
                           p == WEIGHT_GRADIENT ? k->dw : NULL,
                           p == WEIGHT_GRADIENT ? k->db : NULL, k->dy, k->x, k->w, &g, l->B, l->C,
                           l->H, l->W, l->O);
}

static void transposed(work *k, const layer *l, part p)
{
    ae_conv g = geometry(l);
    if (p == FORWARD)
        ae_conv_transpose2d_forward(&k->exec, k->y, k->x, k->w, k->b, &g, l->B, l->C, l->H, l->W,
                                    l->O);
    else
        ae_conv_transpose2d_backward(&k->exec, p == INPUT_GRADIENT ? k->dx : NULL,
                                     p == WEIGHT_GRADIENT ? k->dw : NULL,
                                     p == WEIGHT_GRADIENT ? k->db : NULL, k->dy, k->x, k->w, &g,
                                     l->B, l->C, l->H, l->W, l->O);
}

static void max_pool(work *k, const layer *l, part p)
{
    ae_pool g = {0};
    g.kernel_h = 2;
    g = ae_pool_defaults(&g);
    if (p == FORWARD)
        ae_max_pool2d_forward(&k->exec, k->y, k->index, k->x, &g, l->B, l->C, l->H, l->W);
    else
        ae_max_pool2d_backward(&k->exec, k->dx, k->dy, k->index, l->B, l->C, l->H, l->W, l->H / 2,
                               l->W / 2);
}

static void activation(work *k, const layer *l, part p, ae_act act)
{
    if (p == FORWARD)
        ae_activation_forward(&k->exec, k->y, k->x, act, 0, (size_t)l->out);
    else
        ae_activation_backward(&k->exec, k->dx, k->dy, k->x, k->y, act, 0, (size_t)l->out);
}

static void relu(work *k, const layer *l, part p)
{
    activation(k, l, p, AE_ACT_RELU);
}

static void sigmoid(work *k, const layer *l, part p)
{
    activation(k, l, p, AE_ACT_SIGMOID);
}

static void batch_norm(work *k, const layer *l, part p)
{
    // w: gamma, b: beta; of dw the first channels are dgamma, then mean, rstd and running ones
    float *mean = k->dw + l->C, *rstd = mean + l->C, *run_mean = rstd + l->C;
    if (p == FORWARD)
        ae_batch_norm_forward(&k->exec, k->y, mean, rstd, run_mean, run_mean + l->C, k->x, k->w,
                              k->b, 0.1f, 1e-5f, l->B, l->C, l->H * l->W);
    else
        ae_batch_norm_backward(&k->exec, k->dx, k->dw, k->db, k->dy, k->x, mean, rstd, k->w, l->B,
                               l->C, l->H * l->W);
}

static void noise(work *k, const layer *l, part p)
{
    ae_random r = {1, k->step++, 0};
    (void)p;
    ae_gaussian_noise_forward(&k->exec, k->y, NULL, k->x, 0.2f, 0, 1, 0, r, (size_t)l->out);
}

static void mse(work *k, const layer *l, part p)
{
    if (p == FORWARD)
        ae_loss_forward(&k->exec, k->y, k->x, k->dy, AE_LOSS_MSE, 0, AE_MEAN, l->B, l->W);
    else
        ae_loss_backward(&k->exec, k->dx, NULL, 1, k->x, k->dy, AE_LOSS_MSE, 0, AE_MEAN, l->B,
                         l->W);
}

// y holds the weights; its states are dx and dw.
static void adam(work *k, const layer *l, part p)
{
    ae_optim o = {0};
    (void)p;
    ae_optim_update(&k->exec, k->y, k->dx, k->dw, k->dy, &o, ++k->step, (size_t)l->W);
}

enum { Y = 1, YX = 3, YW = 5, ALL = 7 };    // which parts there are

static const layer layers[] = {
    {"conv_1_16", conv, 64, 1, 28, 28, 16, 3, 1, 1, LARGEST, 144, YW, 64.0 * 784 * 16 * 9, {0, 0}},
    {"conv_16_32", conv, 64, 16, 14, 14, 32, 3, 1, 1, 64 * 32 * 196, 32 * 144, ALL,
     64.0 * 196 * 32 * 16 * 9, {0, 0}},
    {"transposed_32_16", transposed, 64, 32, 7, 7, 16, 2, 2, 0, 64 * 16 * 196, 32 * 64, ALL,
     64.0 * 49 * 32 * 16 * 4, {0, 0}},
    {"transposed_16_1", transposed, 64, 16, 14, 14, 1, 2, 2, 0, 64 * 784, 64, ALL,
     64.0 * 196 * 16 * 4, {0, 0}},
    {"max_pool", max_pool, 64, 16, 28, 28, 0, 2, 2, 0, 64 * 16 * 196, 0, YX, 0, {6, 6}},
    {"relu", relu, 64, 16, 28, 28, 0, 0, 0, 0, LARGEST, 0, YX, 0, {8, 12}},
    {"sigmoid", sigmoid, 64, 1, 28, 28, 0, 0, 0, 0, 64 * 784, 0, YX, 0, {8, 12}},
    {"batch_norm", batch_norm, 64, 16, 28, 28, 0, 0, 0, 0, LARGEST, 0, YX, 0, {8, 12}},
    {"noise", noise, 64, 1, 1, 784, 0, 0, 0, 0, 64 * 784, 0, Y, 0, {8, 0}},
    {"mse", mse, 64, 1, 1, 784, 0, 0, 0, 0, 1, 0, YX, 0, {8, 12}},
    {"adam", adam, 1, 1, 1, 476720, 0, 0, 0, 0, 476720, 0, Y, 0, {28, 0}}
};

static size_t elements(const layer *l)      // of x
{
    return (size_t)l->B * (size_t)l->C * (size_t)l->H * (size_t)l->W;
}

/* ---------------------------------------------------------------------------
   Checking and timing                                                         */

enum { PEERS = 2 };

// The arrays as the peer makes them, and what a backward needs of its forward.
static void prepare(work *k, const layer *l, part p)
{
    bench_pattern(k->x, elements(l), 0);
    bench_pattern(k->w, 8192, 1);
    bench_pattern(k->b, 64, 2);
    bench_pattern(k->dy, LARGEST, 3);
    memset(k->dx, 0, LARGEST * sizeof(float));
    memset(k->dw, 0, LARGEST * sizeof(float));
    memset(k->db, 0, 64 * sizeof(float));
    k->step = 0;
    if (l->run == adam)
        bench_pattern(k->y, LARGEST, 1);
    else if (p != FORWARD)
        l->run(k, l, FORWARD);
}

// Every peer computes the same; 1 when one does not.
static int check(work *k, const layer *l, part p, peer *peers, int count)
{
    const float *result = p == FORWARD ? k->y : p == INPUT_GRADIENT ? k->dx : k->dw;
    size_t n = p == FORWARD ? (size_t)l->out : p == INPUT_GRADIENT ? elements(l)
             : (size_t)l->params;
    char question[96];
    float largest = 0;
    snprintf(question, sizeof question, "check %s %s %d %d %d %d", l->name, part_name[p], l->B,
             l->C, l->H, l->W);
    prepare(k, l, p);
    l->run(k, l, p);
    for (size_t i = 0; i < n; i++)
        largest = fmaxf(largest, fabsf(result[i]));
    for (int i = 0; i < count; i++) {
        if (peer_values(&peers[i], question, k->theirs, n))
            return 1;
        if (l->run != noise && bench_differ(result, k->theirs, n, 1e-4f * largest)) {
            fprintf(stderr, "bench_layers: %s %s: ours and PyTorch's differ\n", l->name,
                    part_name[p]);
            return 1;
        }
    }
    return 0;
}

static double time_calls(work *k, const layer *l, part p, long calls)
{
    double start = bench_now();
    for (long i = 0; i < calls; i++)
        l->run(k, l, p);
    return bench_now() - start;
}

// GB/s of a copy that touches so many bytes, half of them read, half written.
static double copy_rate(work *k, double bytes)
{
    size_t half = (size_t)(bytes / 2);
    long calls = 2 + (long)(4e6 / bytes);
    double start = bench_now();
    for (long i = 0; i < calls; i++) {
        memcpy(k->copy[i % 2], k->copy[1 - i % 2], half);
        bench_sink = k->copy[i % 2][half / sizeof(float) - 1];
    }
    return 1e-9 * 2 * (double)half * (double)calls / (bench_now() - start);
}

static int measure(work *k, const layer *l, part p, peer *peers, int count,
                   const bench_options *o)
{
    static bench_series us[PEERS + 1], rate, share, ratio[PEERS + 1];
    double bytes = l->macs > 0 ? 0 : l->bytes[p] * (double)elements(l);
    double touched = l->run == adam ? bytes * 16 / 28 : bytes;  // three arrays are read and written
    double work_of_call = 1e-9 * (l->macs > 0 ? 2 * l->macs : bytes), seconds;
    char question[32], size[32];
    if (check(k, l, p, peers, count))
        return 1;
    double once = time_calls(k, l, p, 2) / 2;
    long calls = 1 + (long)((o->quick ? 0.0005 : 0.01) / once);
    snprintf(question, sizeof question, "time %ld", calls);
    rate.n = share.n = 0;
    for (int i = 0; i <= PEERS; i++)
        us[i].n = ratio[i].n = 0;
    for (int r = -1; r < o->repeats; r++) {     // the first only warms up
        double peak = bytes > 0 ? copy_rate(k, touched) : bench_peak(&k->exec, 1);
        double ours = time_calls(k, l, p, calls) / (double)calls;
        if (r >= 0) {
            bench_add(&us[0], 1e6 * ours);
            bench_add(&rate, work_of_call / ours);
            bench_add(&share, 100 * work_of_call / ours / peak);
        }
        for (int i = 0; i < count; i++) {
            if (peer_ask(&peers[i], question, &seconds, 1))
                return 1;
            if (r >= 0) {
                bench_add(&us[i + 1], 1e6 * seconds / (double)calls);
                bench_add(&ratio[i + 1], seconds / (double)calls / ours);
            }
        }
    }
    snprintf(size, sizeof size, "%d x %d x %d x %d", l->B, l->C, l->H, l->W);
    printf("| %-16s | %-17s | %-4s | %8.1f %5.1f%% | %6.1f %-7s | %4.0f%% |", l->name, size,
           part_name[p], bench_median(&us[0]), bench_spread(&us[0]), bench_median(&rate),
           bytes > 0 ? "GB/s" : "GFLOP/s", bench_median(&share));
    for (int i = 1; i <= PEERS; i++)
        if (us[i].n > 0)
            printf(" %8.1f %5.1f%% | %5.2f |", bench_median(&us[i]), bench_spread(&us[i]),
                   bench_median(&ratio[i]));
        else
            printf("        -      - |     - |");
    printf("\n");
    fflush(stdout);
    return 0;
}

int main(int argc, char **argv)
{
    bench_options o = {1, 15, 0, AE_ISA_AVX512, NULL, NULL};
    int parsed = bench_parse(&o, "bench_layers", argc, argv), count = 0, failed = 0;
    if (parsed)
        return parsed == 1;
    if (o.threads > 1)
        return fprintf(stderr, "bench_layers: one thread only\n"), 1;

    static work k;
    static peer peers[PEERS];
    static const char *const no_options[] = {NULL};
    float **arrays[] = {&k.x, &k.w, &k.b, &k.y, &k.dy, &k.dx, &k.dw, &k.db, &k.theirs};
    size_t bytes = LARGEST * sizeof(float), copied = (size_t)8 << 20;
    ae_arena *arena = ae_arena_new(12 * bytes + AE_SCRATCH * sizeof(float) + 2 * copied);
    if (!arena)
        return fprintf(stderr, "bench_layers: not enough memory\n"), 1;
    k.exec = ae_exec_at_most(o.isa);
    k.exec.scratch = (float *)ae_alloc(arena, AE_SCRATCH * sizeof(float));
    for (size_t a = 0; a < sizeof arrays / sizeof arrays[0]; a++)
        *arrays[a] = (float *)ae_alloc(arena, bytes);
    k.index = (int32_t *)ae_alloc(arena, bytes);
    for (int i = 0; i < 2; i++)
        k.copy[i] = (float *)ae_alloc(arena, copied);
    bench_machine(&k.exec, &o);
    openblas_at_its_best(&k.exec);
    for (peers[1].tuned = 1; count < PEERS; count++) {
        peers[count].threads = 1;
        if (!peer_start(&peers[count], "torch_layers.py", no_options))
            break;
    }
    printf("\n");
    bench_header("| layer            | x                 | part | ours us         | rate           "
                 "| peak  | PyTorch us      | ratio | tuned us        | ratio |");
    for (size_t l = 0; l < sizeof layers / sizeof layers[0] && !failed; l++)
        for (int p = FORWARD; p <= WEIGHT_GRADIENT && !failed; p++)
            if (layers[l].parts >> p & 1)
                failed = measure(&k, &layers[l], (part)p, peers, count, &o);
    for (int i = 0; i < PEERS; i++)
        peer_stop(&peers[i]);
    ae_arena_free(arena);
    return failed;
}
