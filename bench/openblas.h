/* OpenBLAS for the benches: found when the program runs, measured at its best. After bench.h. */
#ifndef BENCH_OPENBLAS_H_INCLUDED
#define BENCH_OPENBLAS_H_INCLUDED

#include <dlfcn.h>
#include <sys/types.h>
#include <sys/wait.h>

enum { OPENBLAS_ROWS = 101, OPENBLAS_PLAIN = 111, OPENBLAS_TRANSPOSED = 112 };  // of cblas.h

typedef struct openblas {       // sgemm is NULL when it is not installed
    void (*sgemm)(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a,
                  int lda, const float *b, int ldb, float beta, float *c, int ldc);
    void (*set_num_threads)(int n);
    char *(*get_corename)(void);
} openblas;

static inline openblas openblas_load(int threads)
{
    static const char *const symbols[] = {"cblas_sgemm", "openblas_set_num_threads",
                                          "openblas_get_corename"};
    openblas blas = {NULL, NULL, NULL}, none = blas;
    void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL), *found[3];
    for (int i = 0; i < 3; i++) {
        found[i] = library ? dlsym(library, symbols[i]) : NULL;
        if (!found[i])
            return none;
    }
    // ISO C has no cast from an object's pointer to a function's.
    memcpy(&blas.sgemm, &found[0], sizeof blas.sgemm);
    memcpy(&blas.set_num_threads, &found[1], sizeof blas.set_num_threads);
    memcpy(&blas.get_corename, &found[2], sizeof blas.get_corename);
    blas.set_num_threads(threads);
    return blas;
}

// Seconds of the fastest of 40 products 128 x 784 x 256, and the name of the kernels used.
typedef struct openblas_trial {
    double seconds;             // 0: there is no OpenBLAS, or not with these kernels
    char name[32];
} openblas_trial;

static inline void openblas_time(openblas_trial *t)
{
    static float x[128 * 784], w[256 * 784], y[128 * 256];
    openblas blas = openblas_load(1);
    if (!blas.sgemm)
        return;
    for (int i = 0; i < 40; i++) {
        double start = bench_now();
        blas.sgemm(OPENBLAS_ROWS, OPENBLAS_PLAIN, OPENBLAS_TRANSPOSED, 128, 256, 784, 1, x, 784,
                   w, 784, 0, y, 256);
        double seconds = bench_now() - start;
        t->seconds = i == 0 || seconds < t->seconds ? seconds : t->seconds;
    }
    snprintf(t->name, sizeof t->name, "%s", blas.get_corename());
}

// The kernels are chosen while the library is loaded: so in a process of its own.
static inline openblas_trial openblas_try(const char *core)
{
    openblas_trial t;
    int ends[2];
    memset(&t, 0, sizeof t);
    fflush(stdout);
    if (pipe(ends))
        return t;
    pid_t child = fork();
    if (child == 0) {
        if (core)
            setenv("OPENBLAS_CORETYPE", core, 1);
        openblas_time(&t);
        _exit(write(ends[1], &t, sizeof t) != (ssize_t)sizeof t);
    }
    close(ends[1]);
    if (read(ends[0], &t, sizeof t) != (ssize_t)sizeof t)
        t.seconds = 0;
    close(ends[0]);
    if (child > 0)
        waitpid(child, NULL, 0);
    return t;
}

/* Makes this process, and those it starts, use the fastest kernels that OpenBLAS has for this
   processor and the instructions of e, and says which. OpenBLAS knows processors by their numbers
   and takes its slowest kernels for one that is newer than itself; and some machines hold it back
   by its variables. */
static inline void openblas_at_its_best(const ae_exec *e)
{
    static const char *const cores[] = {"Haswell", "SkylakeX"};
    const char *isa = ae_exec_name(e), *best_core = NULL;
    ae_exec most = ae_exec_best();
    unsetenv("OPENBLAS_CORETYPE");
    unsetenv("OPENBLAS_L2_SIZE");
    if (strcmp(isa, "avx2") == 0 && strcmp(ae_exec_name(&most), isa) != 0)
        setenv("OPENBLAS_CORETYPE", cores[0], 1);       // its own choice may be newer
    openblas_trial own = openblas_try(NULL), best = own;
    int count = own.seconds <= 0 ? 0 : strcmp(isa, "avx512") == 0 ? 2 : strcmp(isa, "avx2") == 0;
    for (int i = 0; i < count; i++) {
        openblas_trial t = openblas_try(cores[i]);
        if (t.seconds > 0 && t.seconds < 0.95 * best.seconds) {     // not for chance alone
            best = t;
            best_core = cores[i];
        }
    }
    if (own.seconds <= 0)
        printf("skip OpenBLAS (libopenblas.so.0 is not installed)\n");
    else if (best_core) {
        setenv("OPENBLAS_CORETYPE", best_core, 1);
        printf("OpenBLAS: core %s, set because it is %.1f times as fast as its own choice, %s\n",
               best.name, own.seconds / best.seconds, own.name);
    } else
        printf("OpenBLAS: core %s\n", own.name);
}

#endif /* BENCH_OPENBLAS_H_INCLUDED */
