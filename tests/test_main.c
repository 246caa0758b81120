/* test_main.c: runs all tests; the implementation of ae.h and of test.h are compiled here.

       build/test [options] [name ...]       only tests whose names contain one of the words
         --isa scalar|sse2|neon|avx2|avx512  the kernels (default: the best)
         --threads N                         threads of test_exec() (default 1)
         --golden DIR   --tmp DIR            default tests/golden, build
         --exact                             no guards behind buffers (for valgrind; the default
                                             with the address sanitizer)
         --list   -v                         names only; each name and time
         --exhaustive                        accuracy: every float there is (minutes a function)

   Run it from the repository root. The exit status is 0 when tests ran and all passed. */
#include <stddef.h>
void *test_malloc(size_t bytes);
void test_free(void *p);
#define AE_MALLOC(bytes) test_malloc(bytes)
#define AE_FREE(p) test_free(p)
#ifndef AE_SCALAR
#define AE_SCALAR           /* --isa scalar */
#endif
#define AE_IMPLEMENTATION
#include "test.h"
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

/* The files of tests: tests/test_NAME.c each. */
#ifndef TEST_FILES
#define TEST_FILES(X) \
    X(arena) X(rng) X(linear) X(activation) X(loss) X(optim) X(model) X(golden_training) X(train) \
    X(data) X(image) X(conv) X(pool) X(norm) X(noise) \
    X(image_model) X(latent) X(penalty) X(family) X(small) X(file) X(scores) X(tools)
#endif

#define TEST_EXTERN(name) extern const test_case tests_##name[];
TEST_FILES(TEST_EXTERN)

/* --- checks --------------------------------------------------------------- */

enum { MOST_SHOWN = 12 };       /* failures printed per test */

static size_t checks, failures; /* of all tests */
static size_t shown;            /* of the running test */
static const char *running;
static char context[200];
static jmp_buf leave;
static int verbose;
static int exhaustive;

/* Counts a check; 1 when a failure is to be described. */
static int failed(int ok, const char *file, int line)
{
    checks++;
    if (ok) return 0;
    failures++;
    if (++shown == MOST_SHOWN + 1 && !verbose) printf("  %s: ...\n", running);
    if (shown > MOST_SHOWN && !verbose) return 0;
    printf("%s:%d: %s: ", file, line, running);
    if (context[0]) printf("[%s] ", context);
    return 1;
}

int test_check(int ok, const char *file, int line, const char *text)
{
    if (failed(ok, file, line)) printf("%s\n", text);
    return ok;
}

/* |d| <= tol, also where the compiler takes NaN and infinity for impossible (-Ofast). */
static int within(double d, double tol)
{
    uint64_t bits;
    memcpy(&bits, &d, sizeof bits);
    return (bits & 0x7ff0000000000000u) != 0x7ff0000000000000u && fabs(d) <= tol;
}

// The place of the last bit of a float near x, below the normal floats 2^-149.
static double last_place(double x)
{
    int exponent = -125;
    if (fabs(x) >= 1.17549435e-38) frexp(x, &exponent);
    return ldexp(1, exponent - 24);
}

void test_accuracy(test_curve *f, void *arg, float low, float high, const char *file, int line)
{
    enum { N = 4096 };
    const uint32_t step = exhaustive ? 1 : 2003;        // a prime: all last bits come
    float x[N], y[N];
    double want[N], allowed[N], worst = 0, excess = 0, worst_x = 0, excess_x = 0;
    for (uint64_t bits = 0; bits < (uint64_t)1 << 32;) {
        size_t n = 0;
        for (; n < N && bits < (uint64_t)1 << 32; bits += step) {
            uint32_t u = (uint32_t)bits;
            memcpy(&x[n], &u, sizeof u);
            n += test_is_finite(x[n]) && x[n] >= low && x[n] <= high;
        }
        f(arg, x, y, want, allowed, n);
        for (size_t i = 0; i < n; i++) {
            double unit = last_place(want[i]), off = fabs((double)y[i] - want[i]);
            if (!within(off, 1e300)) off = 1e300;       // NaN
            if (within(off, 1.2e-38 * (1 + fabs((double)x[i])))) continue;
            if (!(off / unit <= worst)) worst = off / unit, worst_x = (double)x[i];
            if (!(off / unit <= excess * allowed[i])) {
                excess = off / unit / allowed[i];
                excess_x = (double)x[i];
            }
        }
    }
    if (exhaustive)
        printf("%s %s: at most %.3f units in the last place, at %.9g\n", running, context, worst,
               worst_x);
    if (failed(excess <= 1, file, line))
        printf("%.3f times what is allowed at %.9g\n", excess, excess_x);
}

int test_close(double got, double want, double tol, const char *file, int line, const char *text)
{
    int ok = within(got - want, tol);
    if (failed(ok, file, line))
        printf("%s = %.9g, not %.9g +- %.3g (off by %.3g)\n", text, got, want, tol, got - want);
    return ok;
}

int test_int(long long got, long long want, const char *file, int line, const char *text)
{
    if (failed(got == want, file, line)) printf("%s = %lld, not %lld\n", text, got, want);
    return got == want;
}

int test_str(const char *got, const char *want, int part, const char *file, int line,
             const char *text)
{
    int ok = got != NULL;
    if (ok && part) ok = strlen(got) < AE_ERROR_MAX && !strchr(got, '\n') && strstr(got, want);
    else if (ok) ok = !strcmp(got, want);
    if (failed(ok, file, line))
        printf("%s is \"%s\", %s \"%s\"\n", text, got ? got : "(null)",
               part ? "without" : "not", want);
    return ok;
}

int test_array(const float *got, const float *wantf, const double *wantd, size_t n, double tol_abs,
               double tol_rel, const char *file, int line, const char *text)
{
    size_t bad = n, count = 0;  // the worst element, and how many are wrong
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double want = wantd ? wantd[i] : (double)wantf[i];
        double allowed = tol_abs + tol_rel * fabs(want), off = (double)got[i] - want;
        if (within(off, allowed)) continue;
        double excess = within(off, 1e300) ? fabs(off) - allowed : 1e300;
        if (bad == n || excess > worst) { worst = excess; bad = i; }
        count++;
    }
    if (failed(count == 0, file, line)) {
        double want = wantd ? wantd[bad] : (double)wantf[bad];
        printf("%s[%lu] of %lu = %.9g, not %.9g +- %.3g (%lu wrong)\n", text, (unsigned long)bad,
               (unsigned long)n, (double)got[bad], want, tol_abs + tol_rel * fabs(want),
               (unsigned long)count);
    }
    return count == 0;
}

int test_array_l2(const float *got, const float *wantf, const double *wantd, size_t n, double rel,
                  const char *file, int line, const char *text)
{
    double off = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        double want = wantd ? wantd[i] : (double)wantf[i], d = (double)got[i] - want;
        off += d * d;
        size += want * want;
    }
    off = sqrt(off);
    size = sqrt(size);
    int ok = within(off, rel * size);
    if (failed(ok, file, line))
        printf("%s: off by %.3g of %.3g in the 2-norm, more than %.3g\n", text, off, size,
               rel * size);
    return ok;
}

int test_bits(const float *got, const float *want, size_t n, const char *file, int line,
              const char *text)
{
    size_t bad = n, count = 0;
    for (size_t i = 0; i < n; i++) {
        if (!memcmp(&got[i], &want[i], sizeof(float))) continue;
        if (bad == n) bad = i;
        count++;
    }
    if (failed(count == 0, file, line)) {
        uint32_t a, b;
        memcpy(&a, &got[bad], 4);
        memcpy(&b, &want[bad], 4);
        printf("%s[%lu] of %lu = %.9g (%08lx), not %.9g (%08lx) to the bit (%lu differ)\n", text,
               (unsigned long)bad, (unsigned long)n, (double)got[bad], (unsigned long)a,
               (double)want[bad], (unsigned long)b, (unsigned long)count);
    }
    return count == 0;
}

int test_finite(const float *x, size_t n, const char *file, int line, const char *text)
{
    size_t i = 0;
    while (i < n && test_is_finite(x[i])) i++;
    if (failed(i == n, file, line))
        printf("%s[%lu] of %lu is not finite\n", text, (unsigned long)i, (unsigned long)n);
    return i == n;
}

void test_leave(void)
{
    longjmp(leave, 1);
}

void test_context(const char *format, ...)
{
    va_list list;
    context[0] = 0;
    if (!format) return;
    va_start(list, format);
    vsnprintf(context, sizeof context, format, list);
    va_end(list);
}

/* --- buffers -------------------------------------------------------------- */

enum { GUARD = 128, MOST_BUFFERS = 20000, MOST_FILES = 64 };   // bytes on each side; per test

typedef struct buffer {
    unsigned char *block, *data;    // data: between two guards
    size_t bytes, behind;           // behind: of the second guard
    const char *file;
    int line, reported;
} buffer;

static buffer buffers[MOST_BUFFERS];
static int buffer_count;
static char tmp_files[MOST_FILES][300];
static int tmp_count;
static const char *tmp_dir = "build";

#if defined(__SANITIZE_ADDRESS__)
#define EXACT 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EXACT 1
#endif
#endif
#ifndef EXACT
#define EXACT 0
#endif
static int exact = EXACT;
static const uint32_t nan_bits = 0x7fc0a5a5u;

/* n bytes of NaNs. */
static void guard(unsigned char *p, size_t n)
{
    unsigned char pattern[4];
    memcpy(pattern, &nan_bits, 4);
    for (size_t i = 0; i < n; i++) p[i] = pattern[i % 4];
}

float test_nan(void)
{
    float x;
    memcpy(&x, &nan_bits, 4);
    return x;
}

float test_inf(void)
{
    uint32_t bits = 0x7f800000u;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

int test_is_finite(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (bits & 0x7f800000u) != 0x7f800000u;
}

int test_is_nan(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (bits & 0x7fffffffu) > 0x7f800000u;
}

static void *give_up(const char *what)
{
    printf("%s: %s\n", running ? running : "test", what);
    exit(2);
    return NULL;
}

/* Memory between two guards of NaNs, at `shift` bytes after an address aligned to 16, to AE_ALIGN
   for a whole `block`. With --exact the allocation ends where the memory ends, so that valgrind and
   the address sanitizer see what is read behind it. */
static void *guarded(size_t bytes, size_t shift, int block, const char *file, int line)
{
    if (buffer_count == MOST_BUFFERS) return give_up("too many buffers in one test");
    buffer *b = &buffers[buffer_count];
    size_t front = GUARD + shift + (block ? AE_ALIGN : 0);
    b->behind = exact && !block ? 0 : GUARD + (4 - bytes % 4) % 4;
    b->block = (unsigned char *)malloc(front + bytes + b->behind);
    if (!b->block) return give_up("out of memory");
    b->data = b->block + front;
    if (block) b->data -= (uintptr_t)b->data % AE_ALIGN;
    b->bytes = bytes;
    b->file = file;
    b->line = line;
    b->reported = 0;
    guard(b->data - GUARD, GUARD);
    guard(b->data + bytes, b->behind);
    buffer_count++;
    return b->data;
}

/* Where a guard of b was overwritten: bytes after its start (negative: before), or 0 = intact. */
static long guard_broken(const buffer *b)
{
    unsigned char pattern[GUARD + 4];
    guard(pattern, sizeof pattern);
    for (size_t i = 0; i < b->behind; i++)
        if (b->data[b->bytes + i] != pattern[i]) return (long)(b->bytes + i);
    for (size_t i = 1; i <= GUARD; i++)
        if (*(b->data - i) != pattern[GUARD - i]) return -(long)i;
    return 0;
}

int test_guards(void)
{
    int ok = 1;
    for (int i = 0; i < buffer_count; i++) {
        buffer *b = &buffers[i];
        long at = b->reported ? 0 : guard_broken(b);
        if (failed(at == 0, b->file, b->line))
            printf("a write at byte %ld of a buffer of %lu bytes\n", at, (unsigned long)b->bytes);
        if (at != 0) { ok = 0; b->reported = 1; }
    }
    return ok;
}

static void free_buffers(void)
{
    for (int i = 0; i < buffer_count; i++) free(buffers[i].block);
    buffer_count = 0;
    for (int i = 0; i < tmp_count; i++) remove(tmp_files[i]);
    tmp_count = 0;
}

void test_refill(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) memcpy(&x[i], &nan_bits, 4);
}

float *test_out(size_t n, const char *file, int line)
{
    // 4, 20, 36, 52: aligned to no vector, and not all in the same way
    float *x = (float *)guarded(n * sizeof(float), 4 + 16 * (size_t)(buffer_count % 4), 0, file,
                                line);
    test_refill(x, n);
    return x;
}

void test_fill(float *x, size_t n, double low, double high, uint32_t seed)
{
    // splitmix64's finaliser, so that the data has nothing to do with the library's generator
    for (size_t i = 0; i < n; i++) {
        uint64_t h = (uint64_t)i + 1 + ((uint64_t)seed << 32);
        h *= 0x9E3779B97F4A7C15u;
        h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9u;
        h = (h ^ (h >> 27)) * 0x94D049BB133111EBu;
        h ^= h >> 31;
        x[i] = (float)(low + (high - low) * ((double)(h >> 40) + 0.5) / 16777216.0);
    }
}

float *test_data(size_t n, double low, double high, uint32_t seed, const char *file, int line)
{
    float *x = test_out(n, file, line);
    test_fill(x, n, low, high, seed);
    return x;
}

float *test_copy(const float *x, size_t n, const char *file, int line)
{
    float *y = test_out(n, file, line);
    if (n) memcpy(y, x, n * sizeof(float));
    return y;
}

void *test_memory(size_t bytes, int fill, const char *file, int line)
{
    void *p = guarded(bytes, 0, fill != 0, file, line);
    if (bytes) memset(p, fill, bytes);
    return p;
}

/* --- gradients ------------------------------------------------------------ */

int test_gradient(const float *got, float *x, size_t n, double h, double tol, test_function *f,
                  void *arg, const char *file, int line, const char *text)
{
    double *want = DOUBLES(n), rms = 0;
    for (size_t i = 0; i < n; i++) {
        static const double weights[5] = { 1, -8, 0, 8, -1 };
        float kept = x[i];
        for (int k = 0; k < 5; k++) {
            if (weights[k] == 0) continue;
            x[i] = (float)((double)kept + (k - 2) * h);
            want[i] += weights[k] * f(arg);
        }
        x[i] = kept;
        want[i] /= 12 * h;
        rms += want[i] * want[i] / (double)n;
    }
    rms = sqrt(rms);
    if (!test_finite(got, n, file, line, text)) return 0;
    if (failed(within(rms, 1e30) && rms > 0, file, line))
        printf("%s: the numeric gradient is %g everywhere\n", text, rms);
    size_t bad = n, count = 0;
    for (size_t i = 0; i < n; i++) {
        double size = fabs(want[i]) > rms ? fabs(want[i]) : rms;
        if (within((double)got[i] - want[i], tol * size)) continue;
        if (bad == n) bad = i;
        count++;
    }
    if (failed(count == 0, file, line))
        printf("%s[%lu] of %lu = %.7g, numerically %.7g (%lu wrong)\n", text, (unsigned long)bad,
               (unsigned long)n, (double)got[bad], want[bad], (unsigned long)count);
    return count == 0;
}

/* --- how layer functions are run ------------------------------------------ */

static ae_exec execs[TEST_EXECS];
static char exec_texts[TEST_EXECS][80];
static float *exec_scratch;         // enough for the most threads of any
static int exec_threads = 1;
static unsigned shuffle_calls;

void test_shuffled_for(void *user, int tasks, ae_job *job, void *arg)
{
    static const int strides[] = { 3, 5, 7, 11, 13, 1 };    // one of them shares no divisor
    int stride = 1;
    (void)user;
    shuffle_calls++;
    for (int i = 0; i < 6; i++) {
        stride = strides[(shuffle_calls + (unsigned)i) % 6];
        int a = stride, b = tasks;
        while (b) { int r = a % b; a = b; b = r; }
        if (a == 1) break;
    }
    for (int i = 0; i < tasks; i++)
        job(arg, (int)(((long long)(tasks - i) * stride + shuffle_calls % 5) % tasks));
}

static void make_execs(ae_exec base)
{
    static const int threads[4] = { 1, 2, 3, 7 };
    int most = exec_threads > 7 ? exec_threads : 7;
    exec_scratch = (float *)malloc(((size_t)most * AE_SCRATCH + 16) * sizeof(float));
    if (!exec_scratch) give_up("out of memory");
    base.threads = exec_threads;
    base.scratch = exec_scratch;
    for (int i = 1; i < TEST_EXECS; i++) execs[i] = base;
    execs[2].scratch = NULL;
    for (int i = 0; i < 12; i++) {
        ae_exec *e = &execs[3 + i];
        int real = i / 4 == 2;      // 3-6 with scratch, 7-10 without, 11-14 OpenMP
        e->threads = threads[i % 4];
        if (!real) e->parallel_for = test_shuffled_for;
        if (i / 4 == 1) e->scratch = NULL;
        snprintf(exec_texts[3 + i], sizeof exec_texts[0], "%s, %d %s%s", ae_exec_name(e),
                 e->threads, real ? "threads" : "shuffled tasks", e->scratch ? "" : ", no scratch");
    }
    snprintf(exec_texts[0], sizeof exec_texts[0], "portable");
    snprintf(exec_texts[1], sizeof exec_texts[0], "%s, %d threads", ae_exec_name(&base),
             exec_threads);
    snprintf(exec_texts[2], sizeof exec_texts[0], "%s, %d threads, no scratch",
             ae_exec_name(&base), exec_threads);
}

const ae_exec *test_exec(void) { return &execs[1]; }
const ae_exec *test_exec_bare(void) { return &execs[2]; }
const ae_exec *test_exec_at(int i) { return i == 0 ? NULL : &execs[i]; }
const char *test_exec_text(int i) { return exec_texts[i]; }

/* --- counters ------------------------------------------------------------- */

static size_t malloc_calls, malloc_live;
static int malloc_failing;

void *test_malloc(size_t bytes)
{
    malloc_calls++;
    if (malloc_failing > 0) {
        malloc_failing--;
        return NULL;
    }
    void *p = malloc(bytes ? bytes : 1);
    if (p) {
        malloc_live++;
        // memory is not zero by luck; large blocks only at their ends, to stay fast
        size_t part = bytes < 65536 ? bytes : 65536;
        memset(p, 0xA5, part);
        memset((unsigned char *)p + (bytes - part), 0xA5, part);
    }
    return p;
}

void test_free(void *p)
{
    if (p) malloc_live--;
    free(p);
}

size_t test_mallocs(void) { return malloc_calls; }
size_t test_malloc_live(void) { return malloc_live; }
void test_malloc_fail(int calls) { malloc_failing = calls; }

/* --- files ---------------------------------------------------------------- */

const char *test_tmp(const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "%s/tmp_%s", tmp_dir, name);
    for (int i = 0; i < tmp_count; i++)
        if (!strcmp(tmp_files[i], path)) return tmp_files[i];
    if (tmp_count == MOST_FILES) return (const char *)give_up("too many files in one test");
    memcpy(tmp_files[tmp_count], path, sizeof path);
    return tmp_files[tmp_count++];
}

const char *test_write(const char *name, const void *bytes, size_t n)
{
    const char *path = test_tmp(name);
    FILE *f = fopen(path, "wb");
    int ok = f != NULL;
    if (ok && n) ok = fwrite(bytes, 1, n, f) == n;
    if (f && fclose(f)) ok = 0;
    if (!ok) {
        printf("%s: cannot write %s (run from the repository root, or --tmp DIR)\n", running, path);
        exit(2);
    }
    return path;
}

unsigned char *test_read(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (failed(f != NULL, path, 0)) printf("cannot be opened\n");
    if (!f) test_leave();
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    fseek(f, 0, SEEK_SET);
    *n = size > 0 ? (size_t)size : 0;
    unsigned char *bytes = BYTES(*n + 1);
    size_t got = fread(bytes, 1, *n, f);
    fclose(f);
    if (got != *n) *n = got;
    return bytes;
}

/* --- golden records ------------------------------------------------------- */

enum { MOST_GOLDENS = 16 };

typedef struct golden_file {
    char name[64];
    char *text;                 // names of the records point into it
    float *values;
    test_record *records;
    int count;
} golden_file;

static const char *golden_dir = "tests/golden";
static golden_file goldens[MOST_GOLDENS];
static int golden_count;

/* The file as text with a 0 at its end. */
static char *golden_text(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (failed(f != NULL, path, 0))
        printf("cannot be opened (run from the repository root, or --golden DIR)\n");
    if (!f) test_leave();
    fseek(f, 0, SEEK_END);
    size_t size = (size_t)ftell(f);
    fseek(f, 0, SEEK_SET);
    char *text = (char *)malloc(size + 1);
    if (!text) return (char *)give_up("out of memory");
    text[fread(text, 1, size, f)] = 0;
    fclose(f);
    return text;
}

/* "name d0 d1 ...", and from the next line on as many hex words as the product of the dimensions;
   '#' starts a comment line. */
static void golden_parse(golden_file *g)
{
    size_t most = strlen(g->text) / 2 + 1;
    g->values = (float *)malloc(most * sizeof(float));
    g->records = (test_record *)malloc(most * sizeof(test_record));
    if (!g->values || !g->records) give_up("out of memory");
    float *v = g->values;
    char *at = g->text;
    while (*at) {
        size_t line = strcspn(at, "\n"), name = strcspn(at, " \n");
        char *end = at + line;
        if (line == 0 || *at == '#') {
            at = end + (*end != 0);
            continue;
        }
        test_record *r = &g->records[g->count++];
        r->name = at;
        r->v = v;
        r->n = 1;
        r->dims = 0;
        for (char *p = at + name; p < end && r->dims < 4; r->dims++) {
            r->dim[r->dims] = (int)strtol(p, &p, 10);
            r->n *= (size_t)r->dim[r->dims];
        }
        at[name] = 0;
        at = end + 1;
        for (size_t i = 0; i < r->n; i++, v++) {
            char *word = at;
            uint32_t bits = (uint32_t)strtoul(word, &at, 16);
            if (at == word) give_up("a golden file is cut");
            memcpy(v, &bits, 4);
        }
        at += strcspn(at, "\n");
    }
}

static golden_file *golden_open(const char *file)
{
    char path[300];
    for (int i = 0; i < golden_count; i++)
        if (!strcmp(goldens[i].name, file)) return &goldens[i];
    if (golden_count == MOST_GOLDENS) give_up("too many golden files");
    golden_file *g = &goldens[golden_count];
    snprintf(path, sizeof path, "%s/%s.txt", golden_dir, file);
    g->text = golden_text(path);
    snprintf(g->name, sizeof g->name, "%s", file);
    g->count = 0;
    golden_parse(g);
    golden_count++;
    return g;
}

const test_record *golden(const char *file, const char *format, ...)
{
    char name[120];
    va_list list;
    va_start(list, format);
    vsnprintf(name, sizeof name, format, list);
    va_end(list);
    golden_file *g = golden_open(file);
    for (int i = 0; i < g->count; i++)
        if (!strcmp(g->records[i].name, name)) return &g->records[i];
    if (failed(0, file, 0)) printf("no record \"%s\" in %s/%s.txt\n", name, golden_dir, file);
    test_leave();
}

const test_record *golden_next(const char *file, const test_record *from, const char *prefix)
{
    golden_file *g = golden_open(file);
    const test_record *r = from ? from : g->records, *end = g->records + g->count;
    while (r < end && strncmp(r->name, prefix, strlen(prefix))) r++;
    return r < end ? r : NULL;
}

/* --- runner --------------------------------------------------------------- */

static int passed_count, failed_count;

static void run_test(const test_case *t)
{
    size_t before = failures, checks_before = checks;
    clock_t start = clock();
    running = t->name;
    shown = 0;
    context[0] = 0;
    malloc_failing = 0;
    if (!setjmp(leave)) t->run();
    test_guards();
    free_buffers();
    if (checks == checks_before) test_check(0, t->name, 0, "a test that checks nothing");
    if (failures == before) passed_count++;
    else failed_count++;
    if (verbose)
        printf("%-50s %s %8lu checks %7.3f s\n", t->name, failures == before ? "ok  " : "FAIL",
               (unsigned long)(checks - checks_before),
               (double)(clock() - start) / (double)CLOCKS_PER_SEC);
}

static int wanted(const char *name, char **words, int count)
{
    for (int i = 0; i < count; i++)
        if (strstr(name, words[i])) return 1;
    return count == 0;
}

static int usage(const char *what)
{
    fprintf(stderr, "test: %s\nusage: test [--isa NAME] [--threads N] [--golden DIR] [--tmp DIR] "
                    "[--exact] [--list] [-v] [--exhaustive] [name ...]\n", what);
    return 2;
}

int main(int argc, char **argv)
{
    static const char *isas[] = { "scalar", "sse2", "neon", "avx2", "avx512" };
    int list = 0, isa = -1, count = 0;
    char **words = argv + 1;    // the names among the arguments, moved to the front
    for (int i = 1; i < argc; i++) {
        char *a = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(a, "-v")) verbose = 1;
        else if (!strcmp(a, "--exact")) exact = 1;
        else if (!strcmp(a, "--list")) list = 1;
        else if (!strcmp(a, "--exhaustive")) exhaustive = 1;
        else if (a[0] != '-') words[count++] = a;
        else if (!value) return usage(a);
        else if (!strcmp(a, "--isa")) {
            for (int k = 0; k < 5; k++)
                if (!strcmp(value, isas[k])) isa = k;
            if (isa < 0) return usage(value);
            i++;
        }
        else if (!strcmp(a, "--threads")) { exec_threads = atoi(value); i++; }
        else if (!strcmp(a, "--golden")) { golden_dir = value; i++; }
        else if (!strcmp(a, "--tmp")) { tmp_dir = value; i++; }
        else return usage(a);
    }
    setlocale(LC_ALL, "");      // the library must not care that numbers may have commas
    if (exec_threads < 1) return usage("--threads needs a number from 1 on");
    make_execs(isa < 0 ? ae_exec_best() : ae_exec_at_most((ae_isa)isa));

    const test_case *files[] = {
#define TEST_POINTER(name) tests_##name,
        TEST_FILES(TEST_POINTER)
    };
    for (size_t f = 0; f < sizeof files / sizeof files[0]; f++)
        for (const test_case *t = files[f]; t->name; t++) {
            if (!wanted(t->name, words, count)) continue;
            if (list) printf("%s\n", t->name);
            else run_test(t);
        }
    for (int i = 0; i < golden_count; i++) {
        free(goldens[i].text);
        free(goldens[i].values);
        free(goldens[i].records);
    }
    free(exec_scratch);
    if (list) return 0;
    printf("%lu checks with %s\n", (unsigned long)checks, exec_texts[1]);
    printf("%d passed, %d failed\n", passed_count, failed_count);
    return failed_count > 0 || passed_count == 0;
}
