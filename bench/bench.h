/* What the benches share: a clock, statistics over repeats, the peak of the cores, numbers that a
   peer makes too, the command line, tables and bars. Include it after ae.h with AE_IMPLEMENTATION;
   _POSIX_C_SOURCE is 200809L. */
#ifndef BENCH_H_INCLUDED
#define BENCH_H_INCLUDED

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* One thread is timed by the processor time it got, so that a machine that does other things too
   does not blur the figures; several threads by the clock on the wall (bench_parse chooses). */
static clockid_t bench_clock = CLOCK_THREAD_CPUTIME_ID;

static inline double bench_now(void)
{
    struct timespec t;
    clock_gettime(bench_clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---------------------------------------------------------------------------
   One quantity, measured once a repeat. What is compared (ours, a peer, the
   peak) is measured in turn within each repeat, and ratios are taken within a
   repeat: a machine that slows down for a while slows down all of them.       */

enum { BENCH_REPEATS_MAX = 1000 };

typedef struct bench_series {
    double v[BENCH_REPEATS_MAX];
    int n;
} bench_series;

static inline void bench_add(bench_series *s, double value)
{
    if (s->n < BENCH_REPEATS_MAX)
        s->v[s->n++] = value;
}

static inline int bench_compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// The value with a share q of the others below it, between neighbours in proportion.
static inline double bench_quantile(const bench_series *s, double q)
{
    double sorted[BENCH_REPEATS_MAX];
    if (s->n == 0)
        return 0;
    memcpy(sorted, s->v, (size_t)s->n * sizeof sorted[0]);
    qsort(sorted, (size_t)s->n, sizeof sorted[0], bench_compare);
    double place = q * (s->n - 1);
    int below = (int)place, above = below + 1 < s->n ? below + 1 : below;
    return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
}

static inline double bench_median(const bench_series *s)
{
    return bench_quantile(s, 0.5);
}

// Interquartile range in percent of the median: half of the repeats lie that close together.
static inline double bench_spread(const bench_series *s)
{
    double median = bench_median(s);
    return median > 0 ? 100 * (bench_quantile(s, 0.75) - bench_quantile(s, 0.25)) / median : 0;
}

/* ---------------------------------------------------------------------------
   The peak: as many multiply-adds as one core can do when it does nothing
   else. Twelve chains that do not wait for each other keep every multiplier
   busy (2 units, 4 to 5 cycles each); they fit the registers of every set.    */

enum { BENCH_CHAINS = 12, BENCH_ROUNDS = 1 << 20 };

static volatile float bench_half = 0.5f;        // a value the compiler cannot see,
static volatile float bench_sink;               // and a use of the result it cannot remove

#define BENCH_PEAK(NAME, TARGET, VECTOR, SET1, MULADD) \
TARGET static void NAME(void) \
{ \
    float h = bench_half, lane; \
    VECTOR a = SET1(h), b = SET1(h); \
    VECTOR x0 = SET1(h), x1 = SET1(h + 1), x2 = SET1(h + 2), x3 = SET1(h + 3); \
    VECTOR x4 = SET1(h + 4), x5 = SET1(h + 5), x6 = SET1(h + 6), x7 = SET1(h + 7); \
    VECTOR x8 = SET1(h + 8), x9 = SET1(h + 9), xa = SET1(h + 10), xb = SET1(h + 11); \
    for (long i = 0; i < BENCH_ROUNDS; i++) { \
        x0 = MULADD(x0, a, b); x1 = MULADD(x1, a, b); x2 = MULADD(x2, a, b); \
        x3 = MULADD(x3, a, b); x4 = MULADD(x4, a, b); x5 = MULADD(x5, a, b); \
        x6 = MULADD(x6, a, b); x7 = MULADD(x7, a, b); x8 = MULADD(x8, a, b); \
        x9 = MULADD(x9, a, b); xa = MULADD(xa, a, b); xb = MULADD(xb, a, b); \
    } \
    x0 = MULADD(x0, x1, MULADD(x2, x3, MULADD(x4, x5, x6))); \
    x0 = MULADD(x0, x7, MULADD(x8, x9, MULADD(xa, xb, x6))); \
    memcpy(&lane, &x0, sizeof lane); \
    bench_sink = lane; \
}

#define BENCH_SET1_C(h) (h)
#define BENCH_MULADD_C(x, a, b) ((x) * (a) + (b))
BENCH_PEAK(bench_peak_c, , float, BENCH_SET1_C, BENCH_MULADD_C)

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define BENCH_MULADD_SSE2(x, a, b) _mm_add_ps(_mm_mul_ps(x, a), b)
BENCH_PEAK(bench_peak_sse2, , __m128, _mm_set1_ps, BENCH_MULADD_SSE2)
BENCH_PEAK(bench_peak_avx2, __attribute__((target("avx2,fma"))), __m256, _mm256_set1_ps,
           _mm256_fmadd_ps)
BENCH_PEAK(bench_peak_avx512, __attribute__((target("avx512f"))), __m512, _mm512_set1_ps,
           _mm512_fmadd_ps)
#elif defined(__aarch64__) && defined(__GNUC__)
#include <arm_neon.h>
// The sum is the operand that the instruction overwrites, so here x is what is added to.
#define BENCH_MULADD_NEON(x, a, b) vfmaq_f32(x, a, b)
BENCH_PEAK(bench_peak_neon, , float32x4_t, vdupq_n_f32, BENCH_MULADD_NEON)
#endif

/* GFLOP/s of so many threads at once with the instructions that e uses, a multiply-add counted as
   two. For "scalar" it is what the compiler makes of plain C, which may well be vectors. */
static inline double bench_peak(const ae_exec *e, int threads)
{
    static const struct { const char *isa; int lanes; void (*run)(void); } peaks[] = {
#if defined(__x86_64__) && defined(__GNUC__)
        {"sse2", 4, bench_peak_sse2}, {"avx2", 8, bench_peak_avx2},
        {"avx512", 16, bench_peak_avx512},
#elif defined(__aarch64__) && defined(__GNUC__)
        {"neon", 4, bench_peak_neon},
#endif
        {"", 1, bench_peak_c}       // any other
    };
    size_t i = 0;
    while (peaks[i].isa[0] && strcmp(peaks[i].isa, ae_exec_name(e)) != 0)
        i++;
    double start = bench_now();
#ifdef _OPENMP
#pragma omp parallel num_threads(threads)
#endif
    peaks[i].run();
    return 2e-9 * threads * BENCH_CHAINS * peaks[i].lanes * BENCH_ROUNDS / (bench_now() - start);
}

/* ---------------------------------------------------------------------------
   Numbers in [-1/2, 1/2) that a peer makes too (peers/torch_common.py)        */

static inline void bench_pattern(float *x, size_t n, size_t which)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((i * 7919 + which * 1299709) % 10007) / 10007.0f - 0.5f;
}

// 0 when every a[i] is within `tolerance` of b[i].
static inline int bench_differ(const float *a, const float *b, size_t n, float tolerance)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(a[i] - b[i]) <= tolerance))
            return 1;
    return 0;
}

/* ---------------------------------------------------------------------------
   The command line                                                            */

typedef struct bench_options {
    int threads, repeats, quick;
    ae_isa isa;                 // use nothing newer
    const char *data;           // NULL: the bench reads none
    const char *model;          // NULL: the bench has no choice of models
} bench_options;

// 0: go on, 1: an error, 2: nothing to do (--help, ...). *o holds the bench's defaults.
static inline int bench_parse(bench_options *o, const char *name, int argc, char **argv)
{
    static const char *const isas[] = {"scalar", "sse2", "neon", "avx2", "avx512"};
    int repeats = 0;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        int known = 1;
        if (strcmp(argv[i], "--help") == 0) {
            printf("%s: --threads N (1)  --repeats N  --isa scalar|sse2|neon|avx2|avx512  "
                   "--quick%s%s\n", name, o->data ? "  --data DIR (data)" : "",
                   o->model ? "  --model NAME (all)" : "");
            return 2;
        }
        if (strcmp(argv[i], "--quick") == 0) {
            o->quick = 1;
            continue;
        }
        if (strcmp(argv[i], "--threads") == 0)
            known = (o->threads = atoi(value)) > 0;
        else if (strcmp(argv[i], "--repeats") == 0)
            known = (repeats = atoi(value)) > 0 && repeats <= BENCH_REPEATS_MAX;
        else if (strcmp(argv[i], "--data") == 0 && o->data)
            known = *(o->data = value) != 0;
        else if (strcmp(argv[i], "--model") == 0 && o->model)
            known = *(o->model = value) != 0;
        else if (strcmp(argv[i], "--isa") == 0) {
            int k = 0;
            while (k < 5 && strcmp(value, isas[k]) != 0)
                k++;
            o->isa = (ae_isa)k;
            known = k < 5;
        } else
            known = 0;
        if (!known) {
            fprintf(stderr, "%s: wrong argument: %s %s\n", name, argv[i], value);
            return 1;
        }
        i++;
    }
#ifndef _OPENMP
    if (o->threads > 1) {
        printf("skip %s --threads %d (built without -fopenmp)\n", name, o->threads);
        return 2;
    }
#endif
    if (o->threads > 1)
        bench_clock = CLOCK_MONOTONIC;
    if (o->quick)
        o->repeats = 3;
    if (repeats > 0)
        o->repeats = repeats;
    return 0;
}

// Whether --model asks for this one.
static inline int bench_wants(const bench_options *o, const char *model)
{
    return strcmp(o->model, "all") == 0 || strcmp(o->model, model) == 0;
}

/* ---------------------------------------------------------------------------
   Tables, in Markdown, so that bench/README.md takes them as they are         */

// A header like "| a | b |" and the rule under it.
static inline void bench_header(const char *header)
{
    printf("%s\n", header);
    for (const char *p = header; *p; p++)
        putchar(*p == '|' ? '|' : '-');
    putchar('\n');
}

// One line about where and how: processor, cores, instruction set, threads, repeats.
static inline void bench_machine(const ae_exec *e, const bench_options *o)
{
    char line[256], model[256] = "unknown processor";
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':')) {
            snprintf(model, sizeof model, "%s", strchr(line, ':') + 2);
            model[strcspn(model, "\n")] = 0;
            break;
        }
    if (f)
        fclose(f);
    printf("%s, %ld cores; ae.h %s with %s; threads %d", model, sysconf(_SC_NPROCESSORS_ONLN),
           AE_VERSION, ae_exec_name(e), o->threads);
    if (o->repeats > 0)
        printf("; medians of %d repeats", o->repeats);
    printf("%s\n", o->quick ? "; quick: only to see that it runs" : "");
}

/* A figure against its bar ("<= 6" or ">= 3"), for the table that bench/run.sh makes at the end.
   NAN: there is none here; the note then says why. Digits that are not shown are cut so that a
   figure never looks better than it is. */
static inline void bench_bar(const char *what, double value, const char *bar, const char *unit,
                             const char *note)
{
    double limit = atof(bar + 2);
    int least = *bar == '>', met = least ? value >= limit : value <= limit;
    double shown = (least ? floor(100 * value) : ceil(100 * value)) / 100;
    printf("bar: %s | ", what);
    if (isnan(value))
        printf("- | %s%s | not measured | %s\n", bar, unit, note);
    else
        printf("%.2f%s | %s%s | %s | %s\n", shown, unit, bar, unit, met ? "met" : "NOT met", note);
}

#endif /* BENCH_H_INCLUDED */
