/* Steps per second of training the autoencoders of models.h on a GPU.

   Plain pixels, Adam, the data on the GPU: ae_data_upload, then nothing but ae_train_step, and
   one ae_sync at the end of each repeat. Beside it in tests/gpu/run.sh: peers/torch_cuda.py.
   Ends with a line "result MODEL ours STEPS" for each model (with AE_CUDA_CUBLAS or AE_CUDA_TF32:
   that instead of ours). Without a GPU: one line that says so.

   nvcc -std=c++17 -O2 -arch=native -I. -o bench_cuda bench/bench_cuda.cu && ./bench_cuda         */
#define AE_USE_CUDA
#define AE_IMPLEMENTATION
#include "ae.h"
#include "bench.h"
#include "models.h"

#if defined(AE_CUDA_TF32)
#define WHO "tf32"
#elif defined(AE_CUDA_CUBLAS)
#define WHO "cublas"
#else
#define WHO "ours"
#endif

enum { WARM_UP = 20 };          // the first steps are recorded as a graph

typedef struct trainer {
    ae_arena *arena;
    ae_model *m;
    ae_dataset digits;
    ae_optim adam;
} trainer;

static int open_trainer(trainer *t, const model *k, const bench_options *o)
{
    memset(t, 0, sizeof *t);
    t->arena = ae_arena_new((size_t)512 << 20);
    t->m = ae_model_new(t->arena, 42);
    t->adam.lr = k->lr;
    k->build(ae_input(t->m, 1, 28, 28));
    if (ae_mnist_load(&t->digits, t->arena, o->data) || ae_build(t->m, k->batch, AE_TRAIN)
        || ae_data_upload(t->m, &t->digits)) {
        fprintf(stderr, "bench_cuda: %s\n", ae_error(t->m));
        return 1;
    }
    return 0;
}

static int steps(trainer *t, int n)
{
    for (int i = 0; i < n; i++)
        ae_train_step(t->m, &t->digits, &t->adam);
    if (!ae_sync(t->m) && !ae_model_status(t->m))
        return 0;
    fprintf(stderr, "bench_cuda: %s\n", ae_error(t->m));
    return 1;
}

// As many steps a repeat as take about a fifth of a second.
static int measure(trainer *t, const model *k, const bench_options *o)
{
    static bench_series rate;
    int n = 10;
    double seconds = 0;
    rate.n = 0;
    for (int found = steps(t, WARM_UP); seconds < (o->quick ? 0.01 : 0.2); n *= 2) {
        double start = bench_now();
        if (found || steps(t, n))
            return 1;
        seconds = bench_now() - start;
    }
    for (int r = 0; r < o->repeats; r++) {
        double start = bench_now();
        if (steps(t, n))
            return 1;
        bench_add(&rate, n / (bench_now() - start));
    }
    printf("| %-8s | %5d | %9.0f %5.1f%% | %9.1f | %11.0f | %6.4f |\n", k->name, k->batch,
           bench_median(&rate), bench_spread(&rate), 1e6 / bench_median(&rate),
           bench_median(&rate) * k->batch, (double)ae_mean_loss(t->m, NULL));
    printf("result %s " WHO " %.1f\n", k->name, bench_median(&rate));
    return 0;
}

int main(int argc, char **argv)
{
    bench_options o = {1, 15, 0, AE_ISA_AVX512, "data", "all"};
    int parsed = bench_parse(&o, "bench_cuda", argc, argv), titled = 0;
    if (parsed)
        return parsed == 1;
    bench_clock = CLOCK_MONOTONIC;
    for (int k = 0; k < MODELS; k++) {
        trainer t;
        if (!bench_wants(&o, models[k].name))
            continue;
        if (open_trainer(&t, &models[k], &o))
            return 1;
        if (strncmp(ae_device(t.m), "cuda: ", 6) != 0)
            return printf("skip bench_cuda (%s)\n", ae_device(t.m)), 0;
        if (!titled++) {
            printf("ae.h %s, %s\n\n", AE_VERSION, ae_device(t.m));
            bench_header("| model    | batch | steps/s          | us a step | images/s    "
                         "| loss   |");
        }
        if (measure(&t, &models[k], &o))
            return 1;
        ae_arena_free(t.arena);
    }
    return 0;
}
