/* Images per second of training three autoencoders (the table of models), beside PyTorch.

   Plain pixels, Adam 1e-3, mean squared error, one epoch a repeat. Ours is measured as a user calls
   it: ae_epoch, from bytes, shuffling and the mean loss included. PyTorch runs as a child process
   (peers/torch_train.py) that trains an epoch whenever it is told to, so that all take turns: once
   as people run it, and once tuned (the script says how).

   make bench, or: cc -O2 -I. -o bench_train bench/bench_train.c -lm -ldl && ./bench_train
   --model deep|conv|denoise measures only that one.                                             */
#define _POSIX_C_SOURCE 200809L
#define AE_IMPLEMENTATION
#include "ae.h"
#include "bench.h"
#include "openblas.h"
#include <fcntl.h>
#include <signal.h>

/* ---------------------------------------------------------------------------
   The models: from the input to the reconstruction                           */

enum { PIXELS = 784 };

static ae_tensor *deep(ae_tensor *x)
{
    ae_tensor *z = ae_linear(ae_relu(ae_linear(ae_relu(ae_linear(x, 256)), 128)), 32);
    ae_tensor *d = ae_relu(ae_linear(ae_relu(ae_linear(z, 128)), 256));
    return ae_sigmoid(ae_linear(d, PIXELS));
}

static ae_tensor *conv(ae_tensor *x)
{
    ae_tensor *h = ae_max_pool2d(ae_relu(ae_conv2d(x, 16, 3, 1, 1)), 2);
    ae_tensor *z = ae_max_pool2d(ae_relu(ae_conv2d(h, 32, 3, 1, 1)), 2);
    ae_tensor *d = ae_relu(ae_conv_transpose2d(z, 16, 2, 2, 0, 0));
    return ae_sigmoid(ae_conv_transpose2d(d, 1, 2, 2, 0, 0));
}

static ae_tensor *denoise(ae_tensor *x)
{
    ae_tensor *h = ae_relu(ae_linear(ae_gaussian_noise(x, 0.2f, 0, 1), 128));
    ae_tensor *d = ae_relu(ae_linear(ae_relu(ae_linear(h, 64)), 128));
    return ae_sigmoid(ae_linear(d, PIXELS));
}

typedef struct model {
    const char *name;
    ae_tensor *(*build)(ae_tensor *x);
    int batch;
    double forward, first;      // multiply-adds of an image: of all layers, of the first one
} model;

// A convolution has weights x places: of its output, or of its input when it is transposed.
static const model models[] = {
    {"deep", deep, 128, 2 * (784 * 256 + 256 * 128 + 128 * 32), 784 * 256},
    {"conv", conv, 64, 16 * 9 * 784 + 32 * 16 * 9 * 196 + 32 * 16 * 4 * 49 + 16 * 4 * 196,
     16 * 9 * 784},
    {"denoise", denoise, 64, 2 * (784 * 128 + 128 * 64), 784 * 128}
};
enum { MODELS = sizeof models / sizeof models[0] };

// Operations of one image: forward, gradients of weights, gradients of inputs (not of x).
static double flop(const model *k)
{
    return 2 * (3 * k->forward - k->first);
}

/* ---------------------------------------------------------------------------
   The peer: a program that first says "ready NAME" or "skip REASON", and then
   answers each line "epoch" with "SECONDS LOSS".                              */

typedef struct peer {
    const char *name;           // in the table
    const char *option;         // of the script, or NULL
    pid_t pid;                  // 0: there is none
    FILE *ask, *answer;
} peer;

// Says what it found. Returns 0 when there is no such peer.
static int start_peer(peer *p, const model *k, const bench_options *o)
{
    const char *python = getenv("PYTHON") ? getenv("PYTHON") : "/usr/bin/python3";
    int to[2], from[2];
    char threads[16], batch[16], line[256];
    snprintf(threads, sizeof threads, "%d", o->threads);
    snprintf(batch, sizeof batch, "%d", k->batch);
    snprintf(line, sizeof line, "skip PyTorch (%s with its script did not start)", python);
    fflush(stdout);
    if (pipe(to) || pipe(from) || (p->pid = fork()) < 0) {
        p->pid = 0;
        return printf("%s\n", line), 0;
    }
    if (p->pid == 0) {
        dup2(to[0], 0);
        dup2(from[1], 1);
        close(to[0]), close(to[1]), close(from[0]), close(from[1]);
        execl(python, python, "bench/peers/torch_train.py", "--model", k->name, "--batch", batch,
              "--threads", threads, "--data", o->data, p->option, (char *)NULL);
        _exit(127);
    }
    close(to[0]), close(from[1]);
    fcntl(to[1], F_SETFD, FD_CLOEXEC);      // or the next peer keeps this one's pipe open
    fcntl(from[0], F_SETFD, FD_CLOEXEC);
    p->ask = fdopen(to[1], "w");
    p->answer = fdopen(from[0], "r");
    if (p->ask && p->answer && fgets(line, sizeof line, p->answer))
        line[strcspn(line, "\n")] = 0;
    int ready = strncmp(line, "ready ", 6) == 0;
    printf("%s\n", ready ? line + 6 : line);
    return ready;
}

// 0 when the peer trained an epoch; a peer that dies fails the bench.
static int peer_epoch(peer *p, double *seconds, double *loss)
{
    if (fprintf(p->ask, "epoch\n") < 0 || fflush(p->ask) != 0
        || fscanf(p->answer, "%lf %lf", seconds, loss) != 2) {
        fprintf(stderr, "bench_train: %s stopped\n", p->name);
        return 1;
    }
    return 0;
}

static void stop_peer(peer *p)
{
    if (p->pid == 0)
        return;
    if (p->ask)
        fclose(p->ask);         // the end of its input is the end of it
    if (p->answer)
        fclose(p->answer);
    waitpid(p->pid, NULL, 0);
}

/* ---------------------------------------------------------------------------
   Ours                                                                        */

typedef struct training {
    ae_arena *arena;
    ae_model *m;
    ae_dataset digits;
    size_t bytes;               // of the model, all included
} training;

static int prepare(training *t, const model *k, const ae_exec *e, const char *data)
{
    t->arena = ae_arena_new((size_t)256 << 20);
    t->m = ae_model_new(t->arena, 42);
    ae_set_exec(t->m, e);
    ae_tensor *x = ae_input(t->m, 1, 28, 28);
    ae_minimize(ae_mse(k->build(x), x, AE_MEAN));
    t->bytes = ae_plan(t->m, k->batch, AE_TRAIN);
    if (ae_mnist_load(&t->digits, t->arena, data) || ae_build(t->m, k->batch, AE_TRAIN)) {
        fprintf(stderr, "bench_train: %s\n", ae_error(t->m));
        return 1;
    }
    return 0;
}

static int our_epoch(training *t, double *seconds, double *loss)
{
    ae_optim adam = {0};
    adam.lr = 1e-3f;
    double start = bench_now();
    *loss = (double)ae_epoch(t->m, &t->digits, &adam);
    *seconds = bench_now() - start;
    if (ae_model_status(t->m)) {
        fprintf(stderr, "bench_train: %s\n", ae_error(t->m));
        return 1;
    }
    return 0;
}

/* ---------------------------------------------------------------------------
   All, in turn                                                                */

enum { PEERS = 2 };

typedef struct runner {         // 0: ours, the others the peers
    bench_series rate, share, ratio;        // ratio: ours over this one
    double seconds, loss;       // of the last epoch
} runner;

static void print(const runner *r, const char *name, double images)
{
    printf("| %-22s | %7.0f %5.1f%% | %10.4f | %4.0f%% | %6.4f |", name, bench_median(&r->rate),
           bench_spread(&r->rate), images / bench_median(&r->rate), bench_median(&r->share),
           r->loss);
    if (r->ratio.n > 0)
        printf(" %10.2f %5.1f%% |\n", bench_median(&r->ratio), bench_spread(&r->ratio));
    else
        printf("                - |\n");
}

static int measure(const model *k, training *t, peer *peers, int count, const ae_exec *e,
                   const bench_options *o)
{
    static runner runners[PEERS + 1];
    static bench_series peak;
    double images = (double)t->digits.n;
    char title[32], header[128];
    memset(runners, 0, sizeof runners);
    peak.n = 0;
    for (int r = -1; r < o->repeats; r++) {     // the first epoch only warms up
        double best = bench_peak(e);
        if (our_epoch(t, &runners[0].seconds, &runners[0].loss))
            return 1;
        for (int p = 0; p < count; p++)
            if (peer_epoch(&peers[p], &runners[p + 1].seconds, &runners[p + 1].loss))
                return 1;
        if (r < 0)
            continue;
        bench_add(&peak, best);
        for (runner *who = runners; who <= runners + count; who++) {
            double rate = images / who->seconds;
            bench_add(&who->rate, rate);
            bench_add(&who->share, 100e-9 * flop(k) * rate / (best * o->threads));
            if (who > runners)
                bench_add(&who->ratio, who->seconds / runners[0].seconds);
        }
    }
    printf("FMA peak of one core: %.1f GFLOP/s, spread %.1f%%; %.2f MFLOP an image; "
           "%.0f images an epoch\n", bench_median(&peak), bench_spread(&peak), 1e-6 * flop(k),
           images);
    printf("memory of our model, all included: %.2f MB\n\n", 1e-6 * (double)t->bytes);
    snprintf(title, sizeof title, "%s, batch %d", k->name, k->batch);
    snprintf(header, sizeof header, "| %-22s | img/s          | s an epoch | peak  | loss   "
             "| ours over it      |", title);
    bench_header(header);
    print(&runners[0], "ours", images);
    for (int p = 0; p < count; p++)
        print(&runners[p + 1], peers[p].name, images);
    return 0;
}

static int bench(const model *k, const ae_exec *e, const bench_options *o)
{
    training t;
    peer peers[PEERS] = {{"PyTorch", NULL, 0, NULL, NULL},
                         {"PyTorch, tuned", "--tuned", 0, NULL, NULL}};
    int count = 0, failed;
    printf("\n");
    if (prepare(&t, k, e, o->data))
        return 1;
    while (count < PEERS && start_peer(&peers[count], k, o))
        count++;
    failed = measure(k, &t, peers, count, e, o);
    for (int p = 0; p < PEERS; p++)
        stop_peer(&peers[p]);
    ae_arena_free(t.arena);
    return failed;
}

int main(int argc, char **argv)
{
    bench_options o = {1, 15, 0, AE_ISA_AVX512, "data", "all"};
    int parsed = bench_parse(&o, "bench_train", argc, argv);
    if (parsed)
        return parsed == 1;

    int first = 0, end = MODELS;
    if (strcmp(o.model, "all") != 0) {
        while (first < MODELS && strcmp(o.model, models[first].name) != 0)
            first++;
        end = first + 1;
    }
    if (first == MODELS) {
        fprintf(stderr, "bench_train: there is no model %s\n", o.model);
        return 1;
    }
    ae_exec e = ae_exec_at_most(o.isa);
    e.threads = o.threads;
    signal(SIGPIPE, SIG_IGN);           // a peer that ended is told by fprintf's result
    bench_machine(&e, &o);
    openblas_at_its_best();             // many a PyTorch multiplies by it
    for (int k = first; k < end; k++)
        if (bench(&models[k], &e, &o))
            return 1;
    return 0;
}
