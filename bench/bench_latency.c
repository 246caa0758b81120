/* The time of one picture through a model (models.h), forward, one thread, beside PyTorch.

   Ours: ae_set, ae_run and ae_get of a model built by AE_INFER for a batch of 1. PyTorch (peers/
   torch_latency.py): the call of the module under inference_mode, its input being a tensor already.
   Both have the same weights and picture and must agree. Rows `float16` and `int8` are ours with
   smaller weights (ae_fork_small), beside the same PyTorch with floats: what they change in the
   reconstruction stands below, its mean square over that of the reconstruction. Single calls are
   timed by the clock on the wall, some hundred of them at a time; `warm` follows the last call at
   once; before a `cold` one 32 MB are written, so that the weights are no longer in the
   second-level cache.

   make bench, or: cc -O2 -I. -o bench_latency bench/bench_latency.c -lm -ldl                    */
#define _POSIX_C_SOURCE 200809L
#define AE_SCALAR           /* --isa scalar */
#define AE_IMPLEMENTATION
#include "ae.h"
#include "bench.h"
#include "models.h"
#include "openblas.h"
#include "peer.h"

enum { PEERS = 2, JUNK = 8 << 20, FORMS = 3 };

static const char *const form_name[FORMS] = {"float32", "float16", "int8"};     // ae_precision

typedef struct bench {
    ae_arena *arena;
    ae_model *m;
    ae_model *form[FORMS];      // m and what ae_fork_small makes of it
    ae_tensor *x, *y;
    float picture[PIXELS];
    float *junk;                // (JUNK) written to empty the cache
    peer peers[PEERS];
    int count;
} bench;

static int prepare(bench *b, const model *k, const ae_exec *e)
{
    ae_param *p;
    b->arena = ae_arena_new((size_t)64 << 20);
    b->m = ae_model_new(b->arena, 42);
    ae_set_exec(b->m, e);
    b->x = ae_input(b->m, 1, 28, 28);
    b->y = k->build(b->x);
    b->junk = (float *)ae_alloc(b->arena, JUNK * sizeof(float));
    if (!b->junk || ae_build(b->m, 1, AE_INFER)) {
        fprintf(stderr, "bench_latency: %s\n", ae_error(b->m));
        return 1;
    }
    for (int i = 0; (p = ae_param_at(b->m, i)) != NULL; i++)
        bench_pattern(ae_param_data(b->m, p), ae_param_size(p), (size_t)i);
    bench_pattern(b->picture, PIXELS, 99);
    b->form[0] = b->m;
    for (int f = 1; f < FORMS; f++) {
        b->form[f] = ae_fork_small(b->m, b->arena, 1, (ae_precision)f, NULL);
        if (!b->form[f] || ae_set_exec(b->form[f], e)) {
            fprintf(stderr, "bench_latency: %s\n", b->arena->error);
            return 1;
        }
    }
    return 0;
}

static const float *forward(bench *b, ae_model *m)
{
    ae_set(m, b->x, b->picture, 1);
    ae_run(m, b->y, 1);
    return ae_get(m, b->y);
}

// What smaller weights change.
static void print_lost(bench *b, const model *k)
{
    for (int f = 1; f < FORMS; f++) {
        const float *y = forward(b, b->m), *z = forward(b, b->form[f]);
        double change = 0, power = 0;
        for (int i = 0; i < PIXELS; i++) {
            change += ((double)z[i] - (double)y[i]) * ((double)z[i] - (double)y[i]);
            power += (double)y[i] * (double)y[i];
        }
        printf("%s with %s weights: the reconstruction's mean square changes by %.1e of itself\n",
               k->name, form_name[f], change / power);
    }
}

static int check(bench *b)
{
    float theirs[PIXELS];
    const float *y = forward(b, b->m);
    for (int i = 0; i < b->count; i++) {
        if (peer_values(&b->peers[i], "check", theirs, PIXELS))
            return 1;
        if (bench_differ(y, theirs, PIXELS, 1e-5f)) {
            fprintf(stderr, "bench_latency: ours and PyTorch's reconstruction differ\n");
            return 1;
        }
    }
    return 0;
}

// The median of so many calls.
static double our_seconds(bench *b, ae_model *m, int calls, int cold)
{
    static bench_series times;
    times.n = 0;
    for (int i = 0; i < calls; i++) {
        if (cold)
            for (int j = 0; j < JUNK; j++)
                b->junk[j] += 1;
        double start = bench_now();
        bench_sink = forward(b, m)[0];
        bench_add(&times, bench_now() - start);
    }
    return bench_median(&times);
}

static void print_row(const model *k, int form, int cold, const bench_series *ours,
                      const bench_series *us, const bench_series *ratio)
{
    printf("| %-8s | %-7s | %s | %8.1f %5.1f%% |", k->name, form_name[form], cold ? "cold" : "warm",
           bench_median(ours), bench_spread(ours));
    for (int i = 0; i < PEERS; i++)
        if (us[i].n > 0)
            printf(" %8.1f %5.1f%% | %5.2f |", bench_median(&us[i]), bench_spread(&us[i]),
                   bench_median(&ratio[i]));
        else
            printf("        -      - |     - |");
    printf("\n");
}

static int measure(bench *b, const model *k, const bench_options *o, int cold)
{
    static bench_series ours[FORMS], us[PEERS], ratio[FORMS][PEERS];
    int calls = (cold ? 30 : 500) / (o->quick ? 10 : 1);
    char question[32], what[64], note[64] = "no PyTorch";
    double seconds[FORMS], theirs;
    snprintf(question, sizeof question, "%s %d", cold ? "cold" : "warm", calls);
    memset(ours, 0, sizeof ours);
    memset(us, 0, sizeof us);
    memset(ratio, 0, sizeof ratio);
    for (int r = -1; r < o->repeats; r++) {     // the first only warms up
        for (int f = 0; f < FORMS; f++) {
            seconds[f] = our_seconds(b, b->form[f], calls, cold);
            if (r >= 0)
                bench_add(&ours[f], 1e6 * seconds[f]);
        }
        for (int i = 0; i < b->count; i++) {
            if (peer_ask(&b->peers[i], question, &theirs, 1))
                return 1;
            if (r >= 0)
                bench_add(&us[i], 1e6 * theirs);
            for (int f = 0; f < FORMS && r >= 0; f++)
                bench_add(&ratio[f][i], theirs / seconds[f]);
        }
    }
    for (int f = 0; f < FORMS; f++)
        print_row(k, f, cold, &ours[f], us, ratio[f]);
    if (cold)
        return 0;
    for (int f = 0; f < FORMS; f++) {
        double plain = bench_median(&ratio[f][0]), tuned = bench_median(&ratio[f][1]);
        snprintf(what, sizeof what, "forward of one picture over PyTorch, %s%s%s", k->name,
                 f ? ", ours with " : "", f ? form_name[f] : "");
        if (b->count == PEERS)
            snprintf(note, sizeof note, "%.2f over the best, tuned or not",
                     floor(100 * fmin(plain, tuned)) / 100);
        bench_bar(what, b->count > 0 ? plain : (double)NAN, ">= 4", "", note);
    }
    return 0;
}

static int bench_model(const model *k, const ae_exec *e, const bench_options *o)
{
    static bench b;
    const char *options[] = {"--model", k->name, NULL};
    memset(&b, 0, sizeof b);
    int failed = prepare(&b, k, e);
    printf("\n");
    for (b.peers[1].tuned = 1; b.count < PEERS && !failed; b.count++) {
        b.peers[b.count].threads = 1;
        if (!peer_start(&b.peers[b.count], "torch_latency.py", options))
            break;
    }
    printf("\n");
    bench_header("| model    | weights | when | ours us         | PyTorch us      | ratio "
                 "| tuned us        | ratio |");
    failed = failed || check(&b) || measure(&b, k, o, 0) || measure(&b, k, o, 1);
    if (!failed)
        print_lost(&b, k);
    for (int i = 0; i < PEERS; i++)
        peer_stop(&b.peers[i]);
    ae_arena_free(b.arena);
    return failed;
}

int main(int argc, char **argv)
{
    bench_options o = {1, 15, 0, AE_ISA_AVX512, NULL, "all"};
    int parsed = bench_parse(&o, "bench_latency", argc, argv);
    if (parsed)
        return parsed == 1;
    bench_clock = CLOCK_MONOTONIC;      // is read in 30 ns, and medians pass over interruptions
    ae_exec e = ae_exec_at_most(o.isa);
    e.threads = o.threads;
    bench_machine(&e, &o);
    openblas_at_its_best(&e);
    for (int k = 0; k < MODELS; k++)
        if ((strcmp(models[k].name, "deep") == 0 || strcmp(models[k].name, "conv") == 0)
            && bench_wants(&o, models[k].name) && bench_model(&models[k], &e, &o))
            return 1;
    return 0;
}
