/* Images per second of training the deep autoencoder, beside PyTorch.

   784-256-128-32-128-256-784, plain pixels, Adam 1e-3, mean squared error, batch 128, one epoch a
   repeat. Ours is measured as a user calls it: ae_epoch, from bytes, shuffling and the mean loss
   included. PyTorch runs as a child process (peers/torch_train.py) that trains an epoch whenever it
   is told to, so that all take turns: once as people run it, and once with denormal numbers flushed
   to zero, because late in training they slow it down.

   make bench, or: cc -O2 -I. -o bench_train bench/bench_train.c -lm -ldl && ./bench_train       */
#define _POSIX_C_SOURCE 200809L
#define AE_IMPLEMENTATION
#include "ae.h"
#include "bench.h"
#include <fcntl.h>
#include "openblas.h"
#include <fcntl.h>
#include <signal.h>

enum { BATCH = 128, PIXELS = 784 };

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
static int start_peer(peer *p, const bench_options *o)
{
    const char *python = getenv("PYTHON") ? getenv("PYTHON") : "/usr/bin/python3";
    int to[2], from[2];
    char threads[16], line[256];
    snprintf(threads, sizeof threads, "%d", o->threads);
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
        execl(python, python, "bench/peers/torch_train.py", "--threads", threads, "--data",
              o->data, p->option, (char *)NULL);
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
    double flop;                // of the matrix products, for one image
    size_t bytes;               // of the model, all included
} training;

static int prepare(training *t, const ae_exec *e, const char *data)
{
    t->arena = ae_arena_new((size_t)256 << 20);
    t->m = ae_model_new(t->arena, 42);
    ae_set_exec(t->m, e);
    ae_tensor *x = ae_input(t->m, 1, 28, 28);
    ae_tensor *h = ae_relu(ae_linear(ae_relu(ae_linear(x, 256)), 128));
    ae_tensor *z = ae_linear(h, 32);
    ae_tensor *d = ae_relu(ae_linear(ae_relu(ae_linear(z, 128)), 256));
    ae_tensor *y = ae_sigmoid(ae_linear(d, PIXELS));
    ae_minimize(ae_mse(y, x, AE_MEAN));
    t->bytes = ae_plan(t->m, BATCH, AE_TRAIN);
    if (ae_mnist_load(&t->digits, t->arena, data) || ae_build(t->m, BATCH, AE_TRAIN)) {
        fprintf(stderr, "bench_train: %s\n", ae_error(t->m));
        return 1;
    }
    // Three products a layer, two operations a weight in each; the first layer has no dx.
    const ae_param *p;
    t->flop = -2.0 * PIXELS * 256;
    for (int i = 0; (p = ae_param_at(t->m, i)) != NULL; i++) {
        int shape[4];
        if (ae_param_shape(p, shape) == 2)
            t->flop += 3 * 2.0 * (double)ae_param_size(p);
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

static int measure(training *t, peer *peers, int count, const ae_exec *e, const bench_options *o)
{
    static runner runners[PEERS + 1];
    static bench_series peak;
    double images = (double)t->digits.n;
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
            bench_add(&who->share, 100e-9 * t->flop * rate / (best * o->threads));
            if (who > runners)
                bench_add(&who->ratio, who->seconds / runners[0].seconds);
        }
    }
    printf("FMA peak of one core: %.1f GFLOP/s, spread %.1f%%; %.2f MFLOP an image; "
           "%.0f images an epoch\n", bench_median(&peak), bench_spread(&peak), 1e-6 * t->flop,
           images);
    printf("memory of our model, all included: %.2f MB\n\n", 1e-6 * (double)t->bytes);
    bench_header("| training, batch 128    | img/s          | s an epoch | peak  | loss   "
                 "| ours over it      |");
    print(&runners[0], "ours", images);
    for (int p = 0; p < count; p++)
        print(&runners[p + 1], peers[p].name, images);
    return 0;
}

int main(int argc, char **argv)
{
    bench_options o = {1, 15, 0, AE_ISA_AVX512, "data"};
    int parsed = bench_parse(&o, "bench_train", argc, argv);
    if (parsed)
        return parsed == 1;

    training t;
    peer peers[PEERS] = {{"PyTorch", NULL, 0, NULL, NULL},
                         {"PyTorch, no denormals", "--flush-denormals", 0, NULL, NULL}};
    ae_exec e = ae_exec_at_most(o.isa);
    e.threads = o.threads;
    if (prepare(&t, &e, o.data))
        return 1;
    signal(SIGPIPE, SIG_IGN);           // a peer that ended is told by fprintf's result
    bench_machine(&e, &o);
    openblas_at_its_best();             // many a PyTorch multiplies by it
    int count = 0, failed;
    while (count < PEERS && start_peer(&peers[count], &o))
        count++;
    failed = measure(&t, peers, count, &e, &o);
    for (int p = 0; p < PEERS; p++)
        stop_peer(&peers[p]);
    ae_arena_free(t.arena);
    return failed;
}
