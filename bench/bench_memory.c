/* The most memory that training takes, above the process and its data, beside what ae_plan says.

   Each model (models.h) trains ten batches in a process of its own. Its peak (VmHWM of Linux) is
   counted from before anything of ae.h ran; the data set's own bytes are taken off.

   make bench, or: cc -O2 -I. -o bench_memory bench/bench_memory.c -lm                           */
#define _POSIX_C_SOURCE 200809L
#define AE_SCALAR           /* --isa scalar */
#define AE_IMPLEMENTATION
#include "ae.h"
#include "bench.h"
#include "models.h"
#include <sys/types.h>
#include <sys/wait.h>

// Bytes that /proc/self/status tells under this name, 0 where there is none.
static double status_bytes(const char *name)
{
    char line[256];
    double kilobytes = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, name, strlen(name)) == 0)
            kilobytes = atof(line + strlen(name));
    if (f)
        fclose(f);
    return 1024 * kilobytes;
}

static int train(const model *k, const bench_options *o)
{
    double before = status_bytes("VmRSS:");
    ae_arena *arena = ae_arena_new((size_t)256 << 20);
    ae_model *m = ae_model_new(arena, 42);
    ae_exec e = ae_exec_at_most(o->isa);
    ae_dataset all, digits;
    ae_optim adam = {0};
    char what[64];
    ae_set_exec(m, &e);
    k->build(ae_input(m, 1, 28, 28));
    double plan = (double)ae_plan(m, k->batch, AE_TRAIN);
    if (ae_mnist_load(&all, arena, o->data) || ae_build(m, k->batch, AE_TRAIN))
        return fprintf(stderr, "bench_memory: %s\n", ae_error(m)), 1;
    digits = ae_dataset_head(&all, 10 * (size_t)k->batch);
    ae_epoch(m, &digits, &adam);
    double data = (double)all.n * (PIXELS + sizeof(int32_t));
    double peak = status_bytes("VmHWM:") - before - data;
    snprintf(what, sizeof what, "peak memory above data and plan, %s", k->name);
    printf("| %-8s | %8.2f | %8.2f | %8.2f | %8.2f |\n", k->name, 1e-6 * data, 1e-6 * plan,
           1e-6 * peak, 1e-6 * (peak - plan));
    bench_bar(what, 1e-6 * (peak - plan), "<= 4", " MB", "");
    int failed = ae_model_status(m) != AE_SUCCESS;
    ae_arena_free(arena);
    return failed;
}

int main(int argc, char **argv)
{
    bench_options o = {1, 0, 0, AE_ISA_AVX512, "data", "all"};
    int parsed = bench_parse(&o, "bench_memory", argc, argv), status = 0;
    if (parsed)
        return parsed == 1;
    if (status_bytes("VmHWM:") <= 0)
        return printf("skip bench_memory (no /proc/self/status)\n"), 0;
    bench_header("| model    | data MB  | plan MB  | peak MB  | above it |");
    for (int k = 0; k < MODELS; k++) {
        if (!bench_wants(&o, models[k].name))
            continue;
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            int failed = train(&models[k], &o);
            fflush(stdout);
            _exit(failed);
        }
        if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0)
            return 1;
    }
    return 0;
}
