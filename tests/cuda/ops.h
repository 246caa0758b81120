/* ops.h: tests of single operations: on the CPU, by the kernels of ae_cuda.cuh, and by a definition
   in double. A test file includes it and calls compare() for many shapes.

   An operation is written once, with OP(t, name, (t.exec(), ...)) in place of AE__OP, over buffers
   that the trial hands out: host memory for the CPU, device memory for the kernels. */
#ifndef OPS_H_INCLUDED
#define OPS_H_INCLUDED

#define AE_USE_CUDA
#define AE_NO_SIMD          /* the plain C kernels are enough to compare with, and compile fast */
#define AE_IMPLEMENTATION
#include "sim.h"
#define AE_MALLOC(bytes) sim::host_malloc(bytes)
#define AE_FREE(p) sim::host_free(p)
#include "ae.h"

#include <cmath>
#include <functional>
#include <sstream>
#include <stdio.h>
#include <stdlib.h>
#include <string>
#include <vector>

typedef std::vector<float> Floats;
typedef std::vector<int32_t> Ints;
typedef std::vector<double> Doubles;

static int checks, failures;

#define CHECK(condition)                                                          \
    do {                                                                          \
        checks++;                                                                 \
        if (!(condition) && ++failures)                                           \
            printf("%s:%d: %s\n", __FILE__, __LINE__, #condition);                \
    } while (0)

/* Sanitizers are slow, and see a mistake in any order: fewer settings with them, in mutants.py, and
   under compute-sanitizer, which tests/gpu/run.sh tells a test that is built already. */
#if !defined(AE_SETTINGS) && defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define AE_SETTINGS 1
#elif __has_feature(address_sanitizer)
#define AE_SETTINGS 2
#endif
#endif
#ifndef AE_SETTINGS
#if defined(__SANITIZE_THREAD__)
#define AE_SETTINGS 1
#elif defined(__SANITIZE_ADDRESS__)
#define AE_SETTINGS 2
#else
#define AE_SETTINGS sim::SETTINGS
#endif
#endif
static const int settings = getenv("AE_SETTINGS") ? atoi(getenv("AE_SETTINGS")) : AE_SETTINGS;

// Numbers that look random: uniform in [low, high).
static Floats uniform(size_t n, float low, float high, uint32_t stream)
{
    Floats x(n + 4);
    ae_random r = {1, 0, stream};
    ae_random_uniform(x.data(), n, 0, r);
    x.resize(n);
    for (float &v : x) v = low + (high - low) * v;
    return x;
}

// One run of an operation: on the CPU, or by its kernels.
struct Trial {
    bool gpu;
    ae__cuda cuda;              // opened for the GPU
    ae_exec e;
    struct Buffer {
        void *p;
        size_t bytes;
        bool output;
    };
    std::vector<Buffer> buffers;

    explicit Trial(bool on_gpu) : gpu(on_gpu)
    {
        e = ae_exec_best();
        if (gpu) {
            ae__cu_open(&cuda);
            e.device = &cuda;
            const float one = 1.0f;
            cuda.dloss = (const float *)buffer(&one, sizeof one, false);
            ae__cu_record record;
            memset(&record, 0, sizeof record);
            record.step = 7;    // what AE__STEP_NOW stands for: the CPU's draws are given it
            cudaStreamSynchronize(cuda.stream);     // it was cleared there
            cudaMemcpy(cuda.record, &record, sizeof record, cudaMemcpyHostToDevice);
        }
    }
    ~Trial()
    {
        for (Buffer &b : buffers) gpu ? (void)cudaFree(b.p) : sim::host_free(b.p);
        if (gpu) ae__cu_close(&cuda);
    }

    const ae_exec *exec() { return &e; }
    uint64_t step() { return gpu ? AE__STEP_NOW : 7; }

    void *buffer(const void *from, size_t bytes, bool output)
    {
        void *p = nullptr;
        if (gpu) cudaMalloc((char **)&p, bytes);
        else p = sim::host_malloc(bytes);
        if (from && gpu) cudaMemcpy(p, from, bytes, cudaMemcpyHostToDevice);
        else if (from) memcpy(p, from, bytes);
        else if (!gpu) memset(p, 0xff, bytes);          // device memory is NaN already
        buffers.push_back({p, bytes, output});
        return p;
    }
    float *in(const Floats &v) { return (float *)buffer(v.data(), v.size() * 4, false); }
    int32_t *in(const Ints &v) { return (int32_t *)buffer(v.data(), v.size() * 4, false); }
    float *out(size_t n) { return (float *)buffer(nullptr, n * 4, true); }          // NaN
    float *inout(const Floats &v) { return (float *)buffer(v.data(), v.size() * 4, true); }
    int32_t *ints(size_t n) { return (int32_t *)buffer(nullptr, n * 4, true); }

    // The outputs, in the order they were asked for; whole numbers as their bits.
    std::vector<Floats> outputs()
    {
        std::vector<Floats> all;
        if (gpu) ae__cu_flush(&cuda);
        for (Buffer &b : buffers) {
            if (!b.output) continue;
            Floats v(b.bytes / 4);
            if (gpu) {
                cudaMemcpyAsync(v.data(), b.p, b.bytes, cudaMemcpyDeviceToHost, cuda.stream);
                cudaStreamSynchronize(cuda.stream);
            } else memcpy(v.data(), b.p, b.bytes);
            all.push_back(v);
        }
        return all;
    }
};

// AE__OP for a trial. What waits to be joined is launched when outputs() looks.
#define OP(t, name, args) ((t).gpu ? ae__cu_##name args : ae_##name args)

// |x - y| / |y|, of vectors; NaN and infinity must stand at the same places.
template <class T> double distance(const Floats &x, const std::vector<T> &y)
{
    double difference = 0, size = 0;
    if (x.size() != y.size()) return (double)NAN;
    for (size_t i = 0; i < x.size(); i++) {
        const double a = (double)x[i], b = (double)y[i];
        if (std::isfinite(a) && std::isfinite(b)) {
            difference += (a - b) * (a - b);
            size += b * b;
        } else if (!(std::isnan(a) && std::isnan(b)) && !(a == b)) return (double)NAN;
    }
    return sqrt(difference) / (sqrt(size) + 1e-30);
}

static bool same_bits(const std::vector<Floats> &a, const std::vector<Floats> &b)
{
    if (a.size() != b.size()) return false;
    for (size_t i = 0; i < a.size(); i++)
        if (a[i].size() != b[i].size() || memcmp(a[i].data(), b[i].data(), a[i].size() * 4))
            return false;
    return true;
}

/* Runs the operation on the CPU and, in every setting of sim.h, by its kernels: outputs k are
   within `tolerance` of the CPU's and of reference[k] (none, or empty: not compared), 0: exact; and
   the kernels' have the same bits in each setting. */
static void compare(const std::string &what, double tolerance,
                    const std::function<void(Trial &)> &operation,
                    const std::vector<Doubles> &reference = {})
{
    Trial cpu(false);
    operation(cpu);
    const std::vector<Floats> expected = cpu.outputs();
    std::vector<Floats> first;
    for (int s = 0; s < settings; s++) {
        sim::use_setting(s);
        Trial gpu(true);
        operation(gpu);
        const std::vector<Floats> got = gpu.outputs();
        const cudaError_t error = gpu.cuda.error;
        checks++;
        if (error != cudaSuccess && ++failures)
            printf("%s: %s in %s\n", what.c_str(), cudaGetErrorName(error), gpu.cuda.call);
        for (size_t k = 0; k < got.size() && s == 0; k++) {
            const double off = distance(got[k], expected[k]);
            checks++;
            if (!(off <= tolerance) && ++failures)
                printf("%s: output %zu is %g off the CPU's\n", what.c_str(), k, off);
            if (k >= reference.size() || reference[k].empty()) continue;
            const double real = distance(got[k], reference[k]);
            checks++;
            if (!(real <= (tolerance > 0 ? tolerance : 1e-6)) && ++failures)
                printf("%s: output %zu is %g off its definition\n", what.c_str(), k, real);
        }
        if (s == 0) first = got;
        checks++;
        if (!same_bits(first, got) && ++failures)
            printf("%s: other bits with %s\n", what.c_str(), sim::setting_text(s));
    }
}

// Appends `ran KERNEL` to the file AE_CUDA_RAN for each kernel of AE_CUDA_KERNELS (their names,
// with blanks between) that ran: so gates.py --ran finds kernels that no test launches.
static void tell_what_ran()
{
    const char *file = getenv("AE_CUDA_RAN"), *kernels = getenv("AE_CUDA_KERNELS");
    FILE *f = file && kernels ? fopen(file, "a") : nullptr;
    std::istringstream names(kernels ? kernels : "");
    for (std::string kernel; f && names >> kernel;)
        if (sim::runs_of(kernel.c_str()) > 0) fprintf(f, "ran %s\n", kernel.c_str());
    if (f) fclose(f);
}

// The end of main: the last line and the exit status.
static int summary(const char *name)
{
    tell_what_ran();
    CHECK(sim::leaks() == 0);
    printf("%s: %d checks, %d failed\n", name, checks, failures);
    return failures != 0;
}

#endif
