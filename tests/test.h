/* test.h: what the tests share. Every tests/test_NAME.c includes this and ends with its list:

       TEST(linear_forward) {
           float *y = OUT(21);                          // guarded, full of NaN
           ae_linear_forward(test_exec(), y, ...);
           CHECK_ARRAY(y, want, 21, 0, 1e-6);           // 1e-6: why this much is right
       }
       TEST_LIST(linear) { CASE(linear_forward), CASE_END };

   test_main.c holds the list of the files, the runner and the library's implementation. A test that
   is not in its file's list is an unused function, which the warning flags turn into an error.

   A failed check prints where, what was wanted and what came, is counted, and the test goes on.
   REQUIRE leaves the test. All comparisons are written so that a NaN fails. */
#ifndef TEST_H_INCLUDED
#define TEST_H_INCLUDED

#include "../ae.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__) || defined(__clang__)
#define TEST_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define TEST_NORETURN __attribute__((noreturn))
#else
#define TEST_PRINTF(f, a)
#define TEST_NORETURN
#endif

/* --- tests ---------------------------------------------------------------- */

typedef struct test_case {
    const char *name;
    void (*run)(void);
} test_case;

#define TEST(name) static void t_##name(void)
#define CASE(name) { #name, t_##name }
#define CASE_END { NULL, NULL }
#define TEST_LIST(file) \
    extern const test_case tests_##file[]; \
    const test_case tests_##file[] =

/* --- checks: each returns nonzero when it passed -------------------------- */

#define CHECK(cond) test_check((cond) ? 1 : 0, __FILE__, __LINE__, #cond)
/* As CHECK, but a failure ends the test. */
#define REQUIRE(cond) \
    do { if (!CHECK(cond)) test_leave(); } while (0)
/* |got - want| <= tol */
#define CHECK_CLOSE(got, want, tol) \
    test_close((double)(got), (double)(want), (double)(tol), __FILE__, __LINE__, #got)
/* Integers, statuses, sizes. */
#define CHECK_INT(got, want) \
    test_int((long long)(got), (long long)(want), __FILE__, __LINE__, #got)
/* The same text. */
#define CHECK_STR(got, want) test_str(got, want, 0, __FILE__, __LINE__, #got)
/* An error sentence contains `part`, is one line, ends without a newline and fits AE_ERROR_MAX. */
#define CHECK_ERROR(got, part) test_str(got, part, 1, __FILE__, __LINE__, #got)
/* Each |got - want| <= abs + rel |want|; want: floats. */
#define CHECK_ARRAY(got, want, n, abs, rel) \
    test_array(got, want, NULL, (size_t)(n), abs, rel, __FILE__, __LINE__, #got)
/* The same with a double reference. */
#define CHECK_REF(got, want, n, abs, rel) \
    test_array(got, NULL, want, (size_t)(n), abs, rel, __FILE__, __LINE__, #got)
/* ||got - want|| <= rel ||want||; want: floats, or doubles for CHECK_REF_L2. */
#define CHECK_ARRAY_L2(got, want, n, rel) \
    test_array_l2(got, want, NULL, (size_t)(n), rel, __FILE__, __LINE__, #got)
#define CHECK_REF_L2(got, want, n, rel) \
    test_array_l2(got, NULL, want, (size_t)(n), rel, __FILE__, __LINE__, #got)
/* The same bits (so NaN equals NaN, and 0 is not -0). */
#define CHECK_BITS(got, want, n) \
    test_bits(got, want, (size_t)(n), __FILE__, __LINE__, #got)
/* Every value is finite. */
#define CHECK_FINITE(x, n) test_finite(x, (size_t)(n), __FILE__, __LINE__, #x)
/* The guards around every buffer of this test are intact (also done when a test ends). */
#define CHECK_GUARDS() test_guards()

int test_check(int ok, const char *file, int line, const char *text);
int test_close(double got, double want, double tol, const char *file, int line, const char *text);
int test_int(long long got, long long want, const char *file, int line, const char *text);
int test_str(const char *got, const char *want, int part, const char *file, int line,
             const char *text);
int test_array(const float *got, const float *wantf, const double *wantd, size_t n, double tol_abs,
               double tol_rel, const char *file, int line, const char *text);
int test_array_l2(const float *got, const float *wantf, const double *wantd, size_t n, double rel,
                  const char *file, int line, const char *text);
int test_bits(const float *got, const float *want, size_t n, const char *file, int line,
              const char *text);
int test_finite(const float *x, size_t n, const char *file, int line, const char *text);
int test_guards(void);
TEST_NORETURN void test_leave(void);
/* A line that is printed before each failure inside: which case of a loop this is. NULL: none.
   It ends with the test. */
void test_context(const char *format, ...) TEST_PRINTF(1, 2);

/* --- accuracy ------------------------------------------------------------- */

/* Computes f at n places x: y as the library has it, want in double, and how many units in the last
   place of want may lie between them. */
typedef void test_curve(void *arg, const float *x, float *y, double *want, double *allowed,
                        size_t n);
/* Tries many floats in low ... high, with --exhaustive all of them. Results below the normal
   floats, times 1 + |x|, may be 0. */
#define CHECK_ACCURACY(f, arg, low, high) test_accuracy(f, arg, low, high, __FILE__, __LINE__)
void test_accuracy(test_curve *f, void *arg, float low, float high, const char *file, int line);

/* --- gradients ------------------------------------------------------------ */

/* Something that depends on floats which arg points to; summed in double. */
typedef double test_function(void *arg);
/* got (n) is the gradient of f with respect to x (n), by the 4-point difference
   (f(x-2h) - 8 f(x-h) + 8 f(x+h) - f(x+2h)) / 12h: each |got - numeric| <= tol times the larger of
   |numeric| and the root mean square of all; all is finite, and not all is zero. Keep kinks 2h
   away, and h a power of two. x is left as it was. */
#define CHECK_GRADIENT(got, x, n, h, tol, f, arg) \
    test_gradient(got, x, (size_t)(n), h, tol, f, arg, __FILE__, __LINE__, #got)
int test_gradient(const float *got, float *x, size_t n, double h, double tol, test_function *f,
                  void *arg, const char *file, int line, const char *text);

/* --- buffers: freed, and their guards checked, when the test ends --------- */

/* n floats of NaN (test_nan) with guards on both sides, aligned to 4 bytes only, on purpose: a
   layer function takes any float pointer. */
#define OUT(n) test_out((size_t)(n), __FILE__, __LINE__)
/* The same with fixed data: different for each seed, not symmetric about 0, in (-1, 1). */
#define DATA(n, seed) test_data((size_t)(n), -0.9, 0.97, seed, __FILE__, __LINE__)
#define DATA_IN(n, low, high, seed) test_data((size_t)(n), low, high, seed, __FILE__, __LINE__)
/* A copy of n floats. */
#define COPY(x, n) test_copy(x, (size_t)(n), __FILE__, __LINE__)
/* n zeroed doubles, int32s, bytes; `bytes` of memory aligned to AE_ALIGN for an arena (not
   zeroed: full of 0xA5), with guards as well. */
#define DOUBLES(n) ((double *)test_memory((size_t)(n) * sizeof(double), 0, __FILE__, __LINE__))
#define INTS(n) ((int32_t *)test_memory((size_t)(n) * sizeof(int32_t), 0, __FILE__, __LINE__))
#define BYTES(n) ((unsigned char *)test_memory((size_t)(n), 0, __FILE__, __LINE__))
#define BLOCK(bytes) test_memory((size_t)(bytes), 0xA5, __FILE__, __LINE__)

float *test_out(size_t n, const char *file, int line);
float *test_data(size_t n, double low, double high, uint32_t seed, const char *file, int line);
float *test_copy(const float *x, size_t n, const char *file, int line);
void *test_memory(size_t bytes, int fill, const char *file, int line);

/* Fills x (n) as DATA does. */
void test_fill(float *x, size_t n, double low, double high, uint32_t seed);
/* Refills x (n) with the NaN pattern of OUT. */
void test_refill(float *x, size_t n);
/* NaN and infinity without arithmetic, and a test for finite by bits. */
float test_nan(void);
float test_inf(void);
int test_is_finite(float x);
int test_is_nan(float x);

/* --- how layer functions are run ------------------------------------------ */

/* The kernels and threads chosen by --isa and --threads, with scratch. */
const ae_exec *test_exec(void);
/* The same without scratch. */
const ae_exec *test_exec_bare(void);
/* All that a result must survive: number 0 is NULL (portable), 1 is test_exec(), 2 is
   test_exec_bare(); the others have the kernels of 1 and 1, 2, 3 and 7 threads, with and without
   scratch, in a serial parallel_for that runs its tasks in odd orders, and with parallel_for NULL
   (OpenMP, where the tests are compiled with it). From 1 on the bits must be equal. */
#define TEST_EXECS 15
const ae_exec *test_exec_at(int i);
const char *test_exec_text(int i);      /* "portable", "3 shuffled tasks, no scratch", ... */
/* A parallel_for that runs tasks one after another, in an order that changes with each call. */
void test_shuffled_for(void *user, int tasks, ae_job *job, void *arg);

/* --- counters ------------------------------------------------------------- */

/* Calls of the library's AE_MALLOC so far, and blocks not given back. */
size_t test_mallocs(void);
size_t test_malloc_live(void);
/* The next `calls` allocations of the library fail. */
void test_malloc_fail(int calls);
/* Where the library's AE_MALLOC and AE_FREE go. */
void *test_malloc(size_t bytes);
void test_free(void *p);

/* --- files ---------------------------------------------------------------- */

/* A path for a file of this test, in --tmp (default: build): test_tmp("cut.idx"). The file is
   removed when the test ends. Valid until then. */
const char *test_tmp(const char *name);
/* Writes bytes to test_tmp(name) and returns its path. */
const char *test_write(const char *name, const void *bytes, size_t n);
/* The whole file as BYTES, its size in *n; a missing file ends the test. */
unsigned char *test_read(const char *path, size_t *n);

/* --- golden records ------------------------------------------------------- */

typedef struct test_record {    /* made by golden/golden.py with PyTorch                        */
    const char *name;
    size_t n;                   /* product of dim                                               */
    int dims, dim[4];
    const float *v;
} test_record;

/* The record of tests/golden/FILE.txt called by the format. A missing one ends the test. */
const test_record *golden(const char *file, const char *format, ...) TEST_PRINTF(2, 3);
/* The first record whose name starts with the format's text at or after `from` (NULL: the start),
   or NULL. For loops: r = golden_next(f, NULL, "mse"); r; r = golden_next(f, r + 1, "mse"). */
const test_record *golden_next(const char *file, const test_record *from, const char *prefix);

#endif
