/* Images per second of training the autoencoders of models.h, beside PyTorch.

   Plain pixels, Adam, mean squared error, one epoch a repeat. Ours is measured as a user calls it:
   ae_epoch, from bytes, shuffling and the mean loss included. PyTorch runs as child processes
   (peers/torch_train.py) that train an epoch whenever they are told to, so that all take turns: as
   people run it, and tuned (torch_common.py says how). With several threads all of them run with
   one thread too: PyTorch counts at its better of both.

   make bench, or: cc -O2 -fopenmp -I. -o bench_train bench/bench_train.c -lm -ldl               */
#define _POSIX_C_SOURCE 200809L
#define AE_SCALAR           /* --isa scalar */
#define AE_IMPLEMENTATION
#include "ae.h"
#include "bench.h"
#include "models.h"
#include "openblas.h"
#include "peer.h"

// Operations of one image: forward, gradients of weights, gradients of inputs (not of x).
static double flop(const model *k)
{
    return 2 * (3 * k->forward - k->first);
}

/* ---------------------------------------------------------------------------
   Who trains: ours or a peer                                                  */

enum { RUNNERS = 6 };           // the first is ours, with the threads asked for

typedef struct runner {
    char name[32];
    ae_model *m;                // ours, or NULL
    peer p;
    bench_series rate, share, ratio;        // ratio: the first runner over this one
    double seconds, loss;       // of the last epoch
} runner;

typedef struct bench {
    const model *k;
    const bench_options *o;
    ae_exec exec;
    ae_arena *arena;
    ae_dataset digits;
    size_t bytes;               // of our model, all included
    bench_series one, all;      // the peak of one thread, and of all at once
    runner runners[RUNNERS];
    int count;
} bench;

static void add_name(bench *b, const char *who, int threads, const char *how)
{
    runner *r = &b->runners[b->count];
    if (b->o->threads == 1)
        snprintf(r->name, sizeof r->name, "%s%s", who, how);
    else
        snprintf(r->name, sizeof r->name, "%s, %d thread%s%s", who, threads,
                 threads == 1 ? "" : "s", how);
}

static int add_ours(bench *b, int threads)
{
    runner *r = &b->runners[b->count];
    ae_exec e = b->exec;
    e.threads = threads;
    add_name(b, "ours", threads, "");
    r->m = ae_model_new(b->arena, 42);
    ae_set_exec(r->m, &e);
    b->k->build(ae_input(r->m, 1, 28, 28));
    if (b->count == 0)
        b->bytes = ae_plan(r->m, b->k->batch, AE_TRAIN);
    if (ae_build(r->m, b->k->batch, AE_TRAIN)) {
        fprintf(stderr, "bench_train: %s\n", ae_error(r->m));
        return 1;
    }
    b->count++;
    return 0;
}

static int add_peer(bench *b, int threads, int tuned)
{
    runner *r = &b->runners[b->count];
    char batch[16], lr[16];
    const char *options[] = {"--model", b->k->name, "--data", b->o->data, "--batch", batch,
                             "--lr", lr, NULL};
    snprintf(batch, sizeof batch, "%d", b->k->batch);
    snprintf(lr, sizeof lr, "%g", (double)b->k->lr);
    r->p.threads = threads;
    r->p.tuned = tuned;
    add_name(b, "PyTorch", threads, tuned ? ", tuned" : "");
    if (!peer_start(&r->p, "torch_train.py", options))
        return 0;
    b->count++;
    return 1;
}

static int epoch(const bench *b, runner *r)
{
    // Threads of the one before may wait for work and take a processor until they fall asleep.
    static const struct timespec pause = {0, 100000000};
    if (b->o->threads > 1)
        nanosleep(&pause, NULL);
    if (!r->m) {
        double answer[2];
        if (peer_ask(&r->p, "epoch", answer, 2))
            return 1;
        r->seconds = answer[0];
        r->loss = answer[1];
        return 0;
    }
    ae_optim adam = {0};
    adam.lr = b->k->lr;
    double start = bench_now();
    r->loss = (double)ae_epoch(r->m, &b->digits, &adam);
    r->seconds = bench_now() - start;
    if (ae_model_status(r->m)) {
        fprintf(stderr, "bench_train: %s\n", ae_error(r->m));
        return 1;
    }
    return 0;
}

static int threads_of(const bench *b, const runner *r)
{
    return r->p.threads ? r->p.threads : r == b->runners ? b->o->threads : 1;
}

/* ---------------------------------------------------------------------------
   All, in turn                                                                */

static void print(const bench *b)
{
    double images = (double)b->digits.n;
    char title[32], header[128];
    snprintf(title, sizeof title, "%s, batch %d", b->k->name, b->k->batch);
    snprintf(header, sizeof header, "| %-26s | img/s          | s an epoch | peak  | loss   "
             "| ours over it      |", title);
    bench_header(header);
    for (const runner *r = b->runners; r < b->runners + b->count; r++) {
        printf("| %-26s | %7.0f %5.1f%% | %10.4f | %4.0f%% | %6.4f |", r->name,
               bench_median(&r->rate), bench_spread(&r->rate), images / bench_median(&r->rate),
               bench_median(&r->share), r->loss);
        if (r > b->runners)
            printf(" %10.2f %5.1f%% |\n", bench_median(&r->ratio), bench_spread(&r->ratio));
        else
            printf("                - |\n");
    }
}

static void print_bars(const bench *b)
{
    const char *bar = b->o->threads == 1 ? ">= 3" : ">= 5", *name = b->k->name;
    double plain = 1e30, best = 1e30;       // over PyTorch as people run it; over the best of all
    double peaks = bench_median(&b->all) / bench_median(&b->one);
    char what[96], note[64] = "no PyTorch";
    for (const runner *r = b->runners + 1; r < b->runners + b->count; r++)
        if (!r->m) {
            best = fmin(best, bench_median(&r->ratio));
            if (!r->p.tuned)
                plain = fmin(plain, bench_median(&r->ratio));
        }
    printf("\n");
    snprintf(what, sizeof what, "training epoch over PyTorch, %s, threads %d", name,
             b->o->threads);
    if (best < 1e30) {
        printf("ours over PyTorch %.2f, over the best of PyTorch, tuned or not, %.2f\n", plain,
               best);
        snprintf(note, sizeof note, "%.2f over the best, tuned or not", floor(100 * best) / 100);
    }
    bench_bar(what, best < 1e30 ? plain : (double)NAN, bar, "", note);
    if (b->o->threads > 1) {
        snprintf(what, sizeof what, "%d threads over one, %s", b->o->threads, name);
        snprintf(note, sizeof note, "the FMA peak: %.2f", floor(100 * peaks) / 100);
        bench_bar(what, bench_median(&b->runners[1].ratio), ">= 1.7", "", note);
    } else if (b->k->share) {
        snprintf(what, sizeof what, "training epoch, share of the FMA peak, %s", name);
        bench_bar(what, bench_median(&b->runners[0].share), b->k->share, " %", "");
    }
}

static int measure(bench *b)
{
    int long_epochs = b->digits.n > 10000;
    int repeats = b->o->repeats > 0 ? b->o->repeats : long_epochs ? 5 : 15;
    for (int n = -1; n < repeats; n++) {    // the first epoch only warms up
        double peak[2];
        peak[0] = bench_peak(&b->exec, 1);
        peak[1] = b->o->threads > 1 ? bench_peak(&b->exec, b->o->threads) : peak[0];
        for (runner *r = b->runners; r < b->runners + b->count; r++)
            if (epoch(b, r))
                return 1;
        if (n < 0)
            continue;
        bench_add(&b->one, peak[0]);
        bench_add(&b->all, peak[1]);
        for (runner *r = b->runners; r < b->runners + b->count; r++) {
            double rate = (double)b->digits.n / r->seconds;
            bench_add(&r->rate, rate);
            bench_add(&r->share, 100e-9 * flop(b->k) * rate / peak[threads_of(b, r) > 1]);
            bench_add(&r->ratio, r->seconds / b->runners[0].seconds);
        }
    }
    printf("FMA peak of one core: %.1f GFLOP/s, spread %.1f%%; %.2f MFLOP an image; "
           "%.0f images an epoch; %d repeats\n", bench_median(&b->one), bench_spread(&b->one),
           1e-6 * flop(b->k), (double)b->digits.n, repeats);
    if (b->o->threads > 1)
        printf("FMA peak of %d threads at once: %.1f GFLOP/s, spread %.1f%%\n", b->o->threads,
               bench_median(&b->all), bench_spread(&b->all));
    printf("memory of our model, all included: %.2f MB\n\n", 1e-6 * (double)b->bytes);
    return 0;
}

static int bench_model(const model *k, const ae_exec *e, const bench_options *o)
{
    static bench b;
    memset(&b, 0, sizeof b);
    b.k = k;
    b.o = o;
    b.exec = *e;
    b.arena = ae_arena_new((size_t)256 << 20);
    printf("\n");
    if (!b.arena || ae_mnist_load(&b.digits, b.arena, o->data)) {
        fprintf(stderr, "bench_train: %s\n", b.arena ? b.arena->error : "not enough memory");
        return 1;
    }
    int failed = add_ours(&b, o->threads) || (o->threads > 1 && add_ours(&b, 1));
    for (int tuned = 0, found = !failed; tuned < 2 && found; tuned++) {
        found = add_peer(&b, o->threads, tuned);
        if (found && o->threads > 1)
            found = add_peer(&b, 1, tuned);
    }
    failed = failed || measure(&b);
    if (!failed) {
        print(&b);
        print_bars(&b);
    }
    for (int r = 0; r < RUNNERS; r++)
        peer_stop(&b.runners[r].p);
    ae_arena_free(b.arena);
    return failed;
}

int main(int argc, char **argv)
{
    bench_options o = {1, 0, 0, AE_ISA_AVX512, "data", "all"};     // repeats 0: by the data
    int parsed = bench_parse(&o, "bench_train", argc, argv), count = 0;
    if (parsed)
        return parsed == 1;

    ae_exec e = ae_exec_at_most(o.isa);
    bench_machine(&e, &o);
    openblas_at_its_best(&e);           // many a PyTorch multiplies by it
    for (int k = 0; k < MODELS; k++)
        if (bench_wants(&o, models[k].name)) {
            if (bench_model(&models[k], &e, &o))
                return 1;
            count++;
        }
    if (count == 0)
        fprintf(stderr, "bench_train: there is no model %s\n", o.model);
    return count == 0;
}
