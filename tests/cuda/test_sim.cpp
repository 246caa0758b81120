/* test_sim.cpp: does the CPU stand-in for CUDA do what CUDA does, and does it see what it shall?

   First right kernels, under every setting; then programs with one mistake each. Such a program is
   this one, started again with `--defect NAME`; it must fail and say where. A line that must be
   named is marked by `// line: NAME`. The last line printed is `N passed, N failed`. */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string>
#include <vector>

#if defined(__has_feature)
#define HAS(x) __has_feature(x)
#else
#define HAS(x) 0
#endif
#if HAS(address_sanitizer) || defined(__SANITIZE_ADDRESS__)
#define ASAN 1
#else
#define ASAN 0
#endif
#if HAS(thread_sanitizer) || defined(__SANITIZE_THREAD__)
#define TSAN 1
#else
#define TSAN 0
#endif
#define UBSAN HAS(undefined_behavior_sanitizer)

#if TSAN        // by default it sleeps for a second at the end
extern "C" const char *__tsan_default_options() { return "atexit_sleep_ms=0"; }
#endif

static int passed, failed;
static const char *context = "";

static bool check(bool ok, int line, const char *text)
{
    if (ok) passed++;
    else failed++;
    if (!ok) printf("%s:%d: %s: failed (%s)\n", __FILE__, line, text, context);
    return ok;
}
#define CHECK(condition) check(condition, __LINE__, #condition)
#define OK(call) CHECK((call) == cudaSuccess)

// Device memory with a copy of v, and back.
template <class T> static T *upload(const std::vector<T> &v)
{
    T *p = nullptr;
    OK(cudaMalloc(&p, v.size() * sizeof(T)));
    OK(cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
    return p;
}

template <class T> static std::vector<T> download(const T *p, size_t n)
{
    std::vector<T> v(n);
    OK(cudaMemcpy(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost));
    return v;
}

static std::vector<float> numbers(size_t n, unsigned seed)
{
    std::vector<float> v(n);
    for (float &x : v) {
        seed = seed * 1664525u + 1013904223u;
        x = (float)(seed >> 8) / 8388608.0f - 0.97f;
    }
    return v;
}

static bool same(const std::vector<float> &a, const std::vector<float> &b)
{
    return a.size() == b.size() && memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/* --- right kernels -------------------------------------------------------- */

static __device__ __forceinline__ float warp_sum(float x)
{
    for (unsigned offset = 16; offset; offset /= 2) x += __shfl_down_sync(~0u, x, offset);
    return x;
}

// parts[block] = the sum of this block's squares.
template <int THREADS, int BROKEN>
static __global__ void sum_squares(float *parts, const float *x, int n)
{
    AE__SHARED(float, sums, [THREADS / 32]);
    float s = 0.0f;
    int stride = (int)gridDim.x * THREADS;
    for (int i = (int)(blockIdx.x * THREADS + threadIdx.x); i < n; i += stride) s += x[i] * x[i];
    s = warp_sum(s);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = s;  // line: missing_barrier
    if (!BROKEN) __syncthreads();
    if (threadIdx.x < 32) {
        s = warp_sum(threadIdx.x < THREADS / 32 ? sums[threadIdx.x] : 0.0f);
        if (threadIdx.x == 0) parts[blockIdx.x] = s;
    }
}

template <int BROKEN> static std::vector<float> run_sum_squares(int n)
{
    const int blocks = 5;
    std::vector<float> none(blocks, 0.0f);
    float *x = upload(numbers((size_t)n, 1)), *parts = upload(none);
    AE__LAUNCH((sum_squares<128, BROKEN>), blocks, 128, 0, nullptr, parts, x, n);
    OK(cudaGetLastError());
    OK(cudaDeviceSynchronize());
    std::vector<float> result = download(parts, blocks);
    OK(cudaFree(x));
    OK(cudaFree(parts));
    return result;
}

static void test_reduction()
{
    const int sizes[] = {1, 31, 32, 33, 257, 1000};
    for (int n : sizes) {
        double want = 0, got = 0;
        for (float x : numbers((size_t)n, 1)) want += (double)x * (double)x;
        std::vector<float> first = run_sum_squares<0>(n);
        for (float part : first) got += (double)part;
        CHECK(fabs(got - want) <= 1e-5 * want);         // 1000 roundings of 6e-8, most cancel
        for (int i = 1; i < 3; i++) CHECK(same(run_sum_squares<0>(n), first));
    }
}

static __global__ void reverse(float *x, int n)
{
    AE__DYN_SHARED(float, buffer);
    int t = (int)threadIdx.x;
    if (t < n) buffer[t] = x[t];
    __syncthreads();
    if (t < n) x[t] = buffer[n - 1 - t];
}

static void test_dynamic_shared()
{
    std::vector<float> v = numbers(50, 2);
    float *x = upload(v);
    AE__LAUNCH(reverse, 1, 64, 50 * sizeof(float), nullptr, x, 50);
    std::vector<float> got = download(x, 50);
    for (int i = 0; i < 50; i++) CHECK(got[(size_t)i] == v[(size_t)(49 - i)]);
    OK(cudaFree(x));
}

// y (m,n) = x (m,k) w (n,k)^T in tiles. BROKEN: the next tile is loaded while this one is in use.
template <int BROKEN>
static __global__ void product(float *y, const float *x, const float *w, int m, int n, int k)
{
    AE__SHARED(float, xs, [8][9]);
    AE__SHARED(float, ws, [8][9]);
    int tx = (int)threadIdx.x, ty = (int)threadIdx.y;
    int row = (int)blockIdx.y * 8 + ty, column = (int)blockIdx.x * 8 + tx;
    int other = (int)blockIdx.x * 8 + ty;
    float sum = 0.0f;
    for (int at = 0; at < k; at += 8) {
        xs[ty][tx] = row < m && at + tx < k ? x[row * k + at + tx] : 0.0f;
        ws[ty][tx] = other < n && at + tx < k ? w[other * k + at + tx] : 0.0f;
        __syncthreads();
        for (int i = 0; i < 8; i++) sum = fmaf(xs[ty][i], ws[tx][i], sum);
        if (!BROKEN) __syncthreads();
    }
    if (row < m && column < n) y[row * n + column] = sum;
}

template <int BROKEN> static double product_error()
{
    const int m = 13, n = 10, k = 27;
    std::vector<float> x = numbers(m * k, 3), w = numbers(n * k, 4), y(m * n, 0.0f);
    float *dx = upload(x), *dw = upload(w), *dy = upload(y);
    double worst = 0;
    AE__LAUNCH(product<BROKEN>, dim3(2, 2), dim3(8, 8), 0, nullptr, dy, dx, dw, m, n, k);
    y = download(dy, y.size());
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            double want = 0;
            for (int l = 0; l < k; l++)
                want += (double)x[(size_t)(i * k + l)] * (double)w[(size_t)(j * k + l)];
            double error = fabs((double)y[(size_t)(i * n + j)] - want);
            if (!(error <= worst)) worst = error;
        }
    OK(cudaFree(dx));
    OK(cudaFree(dw));
    OK(cudaFree(dy));
    return worst;
}

static void test_tiles() { CHECK(product_error<0>() <= 1e-5); }    // 27 roundings of terms <= 1

static __global__ void scale4(float4 *y, const float4 *x, float a, int n4)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= n4) return;
    float4 v = __ldg(&x[i]);                                    // line: misaligned_load
    y[i] = make_float4(a * v.x, a * v.y, a * v.z, a * v.w);     // line: misaligned_store
}

static void test_vectors()
{
    std::vector<float> v = numbers(4 * 37, 5);
    float *x = upload(v), *y = upload(v);
    AE__LAUNCH(scale4, 2, 32, 0, nullptr, (float4 *)y, (const float4 *)x, 2.0f, 37);
    std::vector<float> got = download(y, v.size());
    for (size_t i = 0; i < v.size(); i++) CHECK(got[i] == 2.0f * v[i]);
    OK(cudaFree(x));
    OK(cudaFree(y));
}

static __global__ void count_bytes(int *bins, unsigned *most, const unsigned char *x, int n)
{
    for (int i = (int)(blockIdx.x * blockDim.x + threadIdx.x); i < n; i += (int)(gridDim.x * 32)) {
        atomicAdd(&bins[x[i] % 8], 1);
        atomicMax(most, x[i]);
    }
}

static void test_atomics()
{
    std::vector<unsigned char> bytes(999);
    std::vector<int> want(8, 0);
    for (size_t i = 0; i < bytes.size(); i++) {
        bytes[i] = (unsigned char)(i * i % 251);
        want[bytes[i] % 8]++;
    }
    unsigned char *x = upload(bytes);
    int *bins = upload(std::vector<int>(8, 0));
    unsigned *most = upload(std::vector<unsigned>(1, 0));
    AE__LAUNCH(count_bytes, 4, 32, 0, nullptr, bins, most, x, 999);
    CHECK(download(bins, 8) == want);
    CHECK(download(most, 1)[0] == 249);                 // the largest square modulo 251
    OK(cudaFree(x));
    OK(cudaFree(bins));
    OK(cudaFree(most));
}

// Ten results for each lane; the two halves of a warp go different ways.
static __global__ void warp_functions(int *out)
{
    int lane = (int)threadIdx.x % 32, *o = out + threadIdx.x * 10;
    o[0] = __shfl_sync(~0u, lane, 5);
    o[1] = __shfl_sync(~0u, lane, 3, 8);
    o[2] = __shfl_up_sync(~0u, lane, 2);
    o[3] = __shfl_down_sync(~0u, lane, 3, 16);
    o[4] = __shfl_xor_sync(~0u, lane, 7);
    o[5] = (int)__ballot_sync(~0u, lane % 3 == 0);
    o[6] = __any_sync(~0u, lane == 40) + 2 * __all_sync(~0u, lane < 32);
    if (lane < 16) o[7] = __shfl_xor_sync(0x0000ffffu, lane, 1);
    else o[7] = __shfl_down_sync(0xffff0000u, lane, 1);
    o[8] = (int)__shfl_sync(~0u, (double)lane, 9);
    __syncwarp();
    o[9] = __shfl_xor_sync(~0u, lane, 16, 16);
}

static void test_warps()
{
    int *out = upload(std::vector<int>(64 * 10, -1));
    AE__LAUNCH(warp_functions, 1, 64, 0, nullptr, out);
    std::vector<int> got = download(out, 64 * 10);
    int ballot = 0;
    for (int i = 0; i < 32; i += 3) ballot |= (int)(1u << i);
    for (int t = 0; t < 64; t++) {
        int lane = t % 32, *o = &got[(size_t)t * 10];
        CHECK(o[0] == 5 && o[1] == lane / 8 * 8 + 3);
        CHECK(o[2] == (lane < 2 ? lane : lane - 2));
        CHECK(o[3] == (lane % 16 + 3 < 16 ? lane + 3 : lane));
        CHECK(o[4] == (lane ^ 7) && o[5] == ballot && o[6] == 2);
        CHECK(o[7] == (lane < 16 ? lane ^ 1 : lane < 31 ? lane + 1 : lane));
        CHECK(o[8] == 9 && o[9] == (lane < 16 ? lane : lane - 16));
    }
    OK(cudaFree(out));
}

// Neighbours in a warp by way of shared memory.
static __global__ void warp_memory(int *out)
{
    AE__SHARED(int, box, [64]);
    int t = (int)threadIdx.x;
    for (int round = 0; round < 3; round++) {
        box[t] = t + round;
        __syncwarp();
        out[t] = box[t ^ 1];
        __syncwarp();
    }
}

static void test_warp_memory()
{
    int *out = upload(std::vector<int>(64, -1));
    AE__LAUNCH(warp_memory, 1, 64, 0, nullptr, out);
    std::vector<int> got = download(out, 64);
    for (int t = 0; t < 64; t++) CHECK(got[(size_t)t] == (t ^ 1) + 2);
    OK(cudaFree(out));
}

static __global__ void where_am_i(int *seen)
{
    uint3 b = blockIdx, t = threadIdx;
    unsigned block = (b.z * gridDim.y + b.y) * gridDim.x + b.x;
    unsigned thread = (t.z * blockDim.y + t.y) * blockDim.x + t.x;
    seen[block * blockDim.x * blockDim.y * blockDim.z + thread] += 1;
}

static void test_indices()
{
    int *seen = upload(std::vector<int>(3 * 2 * 2 * 5 * 3 * 2, 0));
    AE__LAUNCH(where_am_i, dim3(3, 2, 2), dim3(5, 3, 2), 0, nullptr, seen);
    for (int n : download(seen, 3 * 2 * 2 * 5 * 3 * 2)) CHECK(n == 1);
    OK(cudaFree(seen));
}

// Who comes when: the settings are the orders they say.
static __global__ void take_ticket(int *when, int *next)
{
    when[blockIdx.x * blockDim.x + threadIdx.x] = atomicAdd(next, 1);
}

static void test_orders()
{
    const int n = 3 * 40;
    bool shuffled = false;
    for (int order = sim::FORWARD; order <= sim::RANDOM; order++) {
        int *when = upload(std::vector<int>(n + 1, 0));
        sim::set_order((sim::Order)order, 1);
        AE__LAUNCH(take_ticket, 3, 40, 0, nullptr, when, when + n);
        std::vector<int> got = download(when, n);
        for (int i = 0; i < n; i++) {
            if (order == sim::FORWARD) CHECK(got[(size_t)i] == i);
            if (order == sim::REVERSE) CHECK(got[(size_t)i] == n - 1 - i);
            if (order == sim::RANDOM) shuffled |= got[(size_t)i] != i;
        }
        OK(cudaFree(when));
    }
    CHECK(shuffled);
}

// Shared memory of the block before is not seen.
static __global__ void read_first(float *x)
{
    AE__SHARED(float, buffer, [32]);
    x[blockIdx.x * 32 + threadIdx.x] = buffer[threadIdx.x];
    buffer[threadIdx.x] = 1.0f;
}

static void test_shared_is_poisoned()
{
    float *x = upload(std::vector<float>(64, 0.0f));
    AE__LAUNCH(read_first, 2, 32, 0, nullptr, x);
    for (float v : download(x, 64)) CHECK(v != v);
    OK(cudaFree(x));
}

// More blocks than the scheduler has places for shared memory; each runs once.
static void test_many_blocks()
{
    const int blocks = 2100;
    int *seen = upload(std::vector<int>(blocks * 32, 0));
    AE__LAUNCH(warp_memory, 1, 32, 0, nullptr, seen);
    AE__LAUNCH(where_am_i, blocks, 32, 0, nullptr, seen);
    std::vector<int> got = download(seen, blocks * 32);
    for (int t = 0; t < 32; t++) CHECK(got[(size_t)t] == (t ^ 1) + 3);
    for (size_t i = 32; i < got.size(); i++) CHECK(got[i] == 1);
    OK(cudaFree(seen));
}

// The last block to finish sums what all blocks left.
static __global__ void last_block(int *total, int *parts, int *finished)
{
    AE__SHARED(int, last, );
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = (int)blockIdx.x + 1;
        __threadfence();
        last = atomicAdd(finished, 1) == (int)gridDim.x - 1;
    }
    __syncthreads();
    if (!last || threadIdx.x) return;
    __threadfence();
    for (unsigned i = 0; i < gridDim.x; i++) *total += parts[i];
}

static void test_last_block()
{
    int *all = upload(std::vector<int>(12, 0));
    AE__LAUNCH(last_block, 10, 32, 0, nullptr, all, all + 1, all + 11);
    CHECK(download(all, 1)[0] == 55);
    OK(cudaFree(all));
}

/* --- the runtime ---------------------------------------------------------- */

static __global__ void add(float *x, float value, int n)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) x[i] += value;
}

static cudaError_t launch_error(dim3 grid, dim3 block, size_t shared)
{
    AE__LAUNCH(reverse, grid, block, shared, nullptr, nullptr, 0);
    cudaError_t error = cudaGetLastError();
    CHECK(cudaGetLastError() == cudaSuccess);
    return error;
}

static void test_launch_limits()
{
    CHECK(launch_error(1, 1024, 4) == cudaSuccess);
    CHECK(launch_error(1, 1025, 4) == cudaErrorInvalidConfiguration);
    CHECK(launch_error(1, dim3(1, 1, 65), 4) == cudaErrorInvalidConfiguration);
    CHECK(launch_error(dim3(1, 65536), 1, 4) == cudaErrorInvalidConfiguration);
    CHECK(launch_error(0, 1, 4) == cudaErrorInvalidConfiguration);
    CHECK(launch_error(1, 1, 48 * 1024) == cudaSuccess);
    CHECK(launch_error(1, 1, 48 * 1024 + 4) == cudaErrorInvalidValue);
    OK(cudaFuncSetAttribute(reverse, cudaFuncAttributeMaxDynamicSharedMemorySize, 100000));
    CHECK(launch_error(1, 1, 100000) == cudaSuccess);
    OK(cudaFuncSetAttribute(reverse, cudaFuncAttributeMaxDynamicSharedMemorySize, 48 * 1024));
}

static void test_memory()
{
    float *p = nullptr, *q = nullptr, x[3];
    size_t free_bytes, total;
    OK(cudaMalloc(&p, 12));
    CHECK((uintptr_t)p % 512 == 256);
    OK(cudaMalloc(&q, 300));
    CHECK((uintptr_t)q % 512 == 256);
    OK(cudaFree(q));
    OK(cudaMemcpy(x, p, 12, cudaMemcpyDeviceToHost));
    CHECK(x[0] != x[0] && x[1] != x[1] && x[2] != x[2]);
    OK(cudaMallocHost(&q, 12));
    CHECK(q[2] != q[2]);
    OK(cudaFreeHost(q));
    CHECK(cudaMalloc(&q, (size_t)1 << 40) == cudaErrorMemoryAllocation && !q);
    CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);
    OK(cudaMemGetInfo(&free_bytes, &total));
    CHECK(total - free_bytes == 12);
    OK(cudaMemset(p, 0, 12));
    OK(cudaMemcpy(x, p, 12, cudaMemcpyDefault));
    CHECK(x[0] == 0.0f && x[2] == 0.0f);
    OK(cudaFree(p));
    OK(cudaFree(nullptr));
}

static void test_pinned()
{
    float *host, *device;
    OK(cudaMallocHost(&host, 400));
    OK(cudaMalloc(&device, 400));
    for (int i = 0; i < 100; i++) host[i] = (float)i;
    OK(cudaMemcpy(device, host, 400, cudaMemcpyHostToDevice));
    AE__LAUNCH(add, 4, 32, 0, nullptr, device, 1.0f, 100);
    OK(cudaMemcpy(host, device, 400, cudaMemcpyDeviceToHost));
    for (int i = 0; i < 100; i++) CHECK(host[i] == (float)(i + 1));
    OK(cudaFreeHost(host));
    OK(cudaFree(device));
}

// Lazily, a result is NaN until someone waits for it, and a staging buffer is read late.
static void test_lazy()
{
    float stage = 1.0f, early = 5.0f, *x = upload(std::vector<float>(1, 0.0f));
    cudaStream_t s;
    cudaEvent_t copied;
    sim::set_lazy(true);
    OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    OK(cudaEventCreateWithFlags(&copied, cudaEventDisableTiming));
    OK(cudaMemcpyAsync(x, &stage, 4, cudaMemcpyHostToDevice, s));
    OK(cudaEventRecord(copied, s));
    AE__LAUNCH(add, 1, 32, 0, s, x, 1.0f, 1);
    OK(cudaMemcpyAsync(&early, x, 4, cudaMemcpyDeviceToHost, s));
    CHECK(early != early);
    CHECK(cudaEventQuery(copied) == cudaErrorNotReady);
    OK(cudaEventSynchronize(copied));
    stage = 100.0f;                     // too late to matter
    CHECK(early != early);
    OK(cudaDeviceSynchronize());
    CHECK(early == 2.0f);
    OK(cudaMemcpyAsync(x, &stage, 4, cudaMemcpyHostToDevice, s));
    stage = 7.0f;                       // too early: the copy was not awaited
    OK(cudaMemcpyAsync(&early, x, 4, cudaMemcpyDeviceToHost, s));
    while (cudaStreamQuery(s) == cudaErrorNotReady) {}
    CHECK(early == 7.0f);
    OK(cudaEventDestroy(copied));
    OK(cudaStreamDestroy(s));
    OK(cudaFree(x));
    sim::set_lazy(false);
}

static void test_streams()
{
    float result = 0.0f, *x = upload(std::vector<float>(1, 3.0f));
    cudaStream_t a, b;
    cudaEvent_t ready;
    OK(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking));
    OK(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking));
    OK(cudaEventCreate(&ready));
    AE__LAUNCH(add, 1, 32, 0, a, x, 4.0f, 1);
    OK(cudaEventRecord(ready, a));
    OK(cudaStreamWaitEvent(b, ready));
    OK(cudaMemcpyAsync(&result, x, 4, cudaMemcpyDeviceToHost, b));
    OK(cudaStreamSynchronize(b));
    CHECK(result == 7.0f);
    OK(cudaEventDestroy(ready));
    OK(cudaStreamDestroy(a));
    OK(cudaStreamDestroy(b));
    OK(cudaFree(x));
}

// A graph keeps the values that arguments had, and reads memory anew each time it runs.
static __global__ void add_from(float *x, const float *value) { *x += *value; }

static void test_graph()
{
    float *x = upload(std::vector<float>{0.0f, 1.0f}), step = 1.0f;
    cudaStream_t s;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    size_t nodes = 0;
    OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
    AE__LAUNCH(add, 1, 32, 0, s, x, step, 1);
    AE__LAUNCH(add_from, 1, 1, 0, s, x, x + 1);
    OK(cudaMemsetAsync(x + 1, 0, 4, s));
    OK(cudaStreamEndCapture(s, &graph));
    OK(cudaGraphGetNodes(graph, nullptr, &nodes));
    OK(cudaGraphInstantiate(&exec, graph));
    CHECK(nodes == 3 && sim::counters().graph_kernels == 2);
    CHECK(download(x, 1)[0] == 0.0f);           // captured, not run
    sim::reset_counters();
    step = 10.0f;                               // baked: 1 stays 1
    OK(cudaGraphLaunch(exec, s));
    OK(cudaGraphLaunch(exec, s));
    OK(cudaStreamSynchronize(s));
    CHECK(download(x, 1)[0] == 3.0f);           // 1 + 1, then 1 + 0
    CHECK(sim::counters().graph_launches == 2 && sim::counters().launches == 0);
    CHECK(sim::counters().synchronisations == 2 && sim::counters().copies == 1);
    OK(cudaGraphDestroy(graph));
    OK(cudaGraphExecDestroy(exec));
    OK(cudaStreamDestroy(s));
    OK(cudaFree(x));
}

static void test_broken_capture()
{
    float *x = upload(std::vector<float>(1, 0.0f)), *y;
    cudaStream_t s;
    cudaGraph_t graph;
    OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    for (int way = 0; way < 4; way++) {
        OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
        if (way == 0) CHECK(cudaStreamSynchronize(s) == cudaErrorStreamCaptureUnsupported);
        if (way == 1) CHECK(cudaMalloc(&y, 4) == cudaErrorStreamCaptureUnsupported);
        if (way == 2) CHECK(cudaMemset(x, 0, 4) == cudaErrorStreamCaptureImplicit);
        if (way == 3) {
            AE__LAUNCH(add, 1, 32, 0, nullptr, x, 1.0f, 1);
            CHECK(cudaGetLastError() == cudaErrorStreamCaptureImplicit);
        }
        CHECK(cudaStreamEndCapture(s, &graph) == cudaErrorStreamCaptureInvalidated && !graph);
    }
    cudaGetLastError();
    OK(cudaStreamDestroy(s));
    OK(cudaFree(x));
}

// A job as a library has it: all is given back, whichever call fails.
static cudaError_t job()
{
    float *x = nullptr, *stage = nullptr;
    cudaStream_t s = nullptr;
    cudaError_t e = cudaMalloc(&x, 40);
    if (!e) e = cudaMallocHost(&stage, 40);
    if (!e) e = cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
    if (!e) e = cudaMemcpyAsync(x, stage, 40, cudaMemcpyHostToDevice, s);
    if (!e) {
        AE__LAUNCH(add, 1, 32, 0, s, x, 1.0f, 10);
        e = cudaGetLastError();
    }
    if (!e) e = cudaStreamSynchronize(s);
    cudaFree(x);
    cudaFreeHost(stage);
    if (s) cudaStreamDestroy(s);
    return e;
}

static void test_failures()
{
    sim::reset_counters();
    OK(job());
    long calls = sim::counters().calls;
    CHECK(calls == 6);
    for (long n = 1; n <= calls; n++) {
        sim::fail_call(n);
        CHECK(job() != cudaSuccess);
        CHECK(sim::leaks() == 0);
        cudaGetLastError();                             // remembered until someone asks
        OK(job());
    }
    sim::fail_call(calls + 1);
    OK(job());
    sim::fail_call(0);
    cudaGetLastError();
}

static void test_no_device()
{
    int count = 77;
    cudaDeviceProp properties;
    OK(cudaGetDeviceProperties(&properties, 0));
    CHECK(properties.warpSize == warpSize && properties.major == 7);
    sim::set_devices(0);
    CHECK(cudaGetDeviceCount(&count) == cudaErrorInsufficientDriver && count == 77);
    CHECK(!strcmp(cudaGetErrorName(cudaGetLastError()), "cudaErrorInsufficientDriver"));
    sim::set_devices(1);
    OK(cudaGetDeviceCount(&count));
    CHECK(count == 1);
}

static void test_cublas()
{
    const int m = 5, n = 3, k = 4, ld = 7;
    std::vector<float> a = numbers(2 * ld * ld, 6), b = numbers(2 * ld * ld, 7), c(2 * ld * ld);
    float *da = upload(a), *db = upload(b), *dc = nullptr, alpha = 0.5f, beta = 0.0f;
    cublasHandle_t handle;
    OK(cudaMalloc(&dc, c.size() * 4));          // full of NaN, which beta = 0 must not read
    CHECK(cublasCreate(&handle) == CUBLAS_STATUS_SUCCESS);
    for (int way = 0; way < 4; way++) {
        cublasOperation_t ta = way & 1 ? CUBLAS_OP_T : CUBLAS_OP_N;
        cublasOperation_t tb = way & 2 ? CUBLAS_OP_T : CUBLAS_OP_N;
        CHECK(cublasSgemmStridedBatched(handle, ta, tb, m, n, k, &alpha, da, ld, 49, db, ld, 49,
                                        &beta, dc, ld, 49, 2) == CUBLAS_STATUS_SUCCESS);
        c = download(dc, c.size());
        for (int i = 0; i < 2 * m * n; i++) {
            int batch = i / (m * n), row = i % m, column = i / m % n;
            double want = 0;
            for (int l = 0; l < k; l++)
                want += 0.5 * (double)a[(size_t)(49 * batch + (way & 1 ? l + ld * row
                                                                       : row + ld * l))] *
                        (double)b[(size_t)(49 * batch + (way & 2 ? column + ld * l
                                                                 : l + ld * column))];
            CHECK(fabs((double)c[(size_t)(49 * batch + row + ld * column)] - want) <= 1e-6);
        }
        CHECK(c[m] != c[m]);                    // below the matrix: as it was
    }
    CHECK(cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, m, n, k, &alpha, da, m - 1, db, ld, &beta,
                      dc, ld) == CUBLAS_STATUS_INVALID_VALUE);
    CHECK(cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_T, m, n, k, &alpha, da, ld, db, n - 1, &beta,
                      dc, ld) == CUBLAS_STATUS_INVALID_VALUE);
    CHECK(cublasDestroy(handle) == CUBLAS_STATUS_SUCCESS);
    OK(cudaFree(da));
    OK(cudaFree(db));
    OK(cudaFree(dc));
}

/* --- mistakes ------------------------------------------------------------- */

static __global__ void divergent_barrier(float *x)
{
    if (threadIdx.x < 40) __syncthreads();              // line: divergent_barrier
    x[threadIdx.x] = 0.0f;
}

static __global__ void two_barriers(float *x)
{
    if (threadIdx.x < 32) __syncthreads();              // line: two_barriers
    else __syncthreads();                               // line: other_barrier
    x[threadIdx.x] = 0.0f;
}

static __global__ void deadlock(float *x)
{
    if (threadIdx.x < 16) __syncthreads();
    x[threadIdx.x] = __shfl_xor_sync(~0u, 1.0f, 1);     // line: deadlock
}

static __global__ void lane_outside(int *x)
{
    if (threadIdx.x >= 16) return;
    x[threadIdx.x] = __shfl_down_sync(0xffffu, 1, 4);   // line: lane_outside
}

static __global__ void not_in_mask(int *x)
{
    x[threadIdx.x] = __any_sync(0x7fffffffu, 1);        // line: not_in_mask
}

static __global__ void lane_exited(int *x, unsigned gone)
{
    if (threadIdx.x == gone) return;
    x[threadIdx.x] = __shfl_xor_sync(~0u, 1, 1);        // line: lane_exited
}

static __global__ void different_masks(int *x)
{
    x[threadIdx.x] = __any_sync(threadIdx.x < 8 ? 0x1ffu : ~0u, 1);     // line: different_masks
}

static __global__ void no_such_lane(int *x)
{
    x[threadIdx.x] = __shfl_xor_sync(~0u, 1, 1);        // line: no_such_lane
}

static __global__ void shared_overrun(float *x)
{
    AE__SHARED(float, buffer, [64]);                    // line: shared_declared
    float *p = buffer;                                  // hides the bound from the compiler
    p[threadIdx.x + 1] = 1.0f;                          // line: shared_overrun
    __syncthreads();
    x[threadIdx.x] = buffer[threadIdx.x];
}

static __global__ void too_much_shared(float *x)
{
    AE__SHARED(float, big, [12289]);                    // line: too_much_shared
    big[threadIdx.x] = 0.0f;
    x[threadIdx.x] = big[threadIdx.x];
}

static __global__ void race_between_blocks(float *x)
{
    if (threadIdx.x == 0) *x += 1.0f;                   // line: race_between_blocks
}

static __global__ void race_before_barrier(float *x)
{
    if (threadIdx.x == 7) *x = 1.0f;                    // line: race_before_barrier
    __syncthreads();
    x[blockIdx.x * blockDim.x + threadIdx.x + 1] = 0.0f;
}

static __global__ void shuffle_orders_nothing(int *x)
{
    AE__SHARED(int, box, [32]);
    box[threadIdx.x] = 1;                               // line: shuffle_orders_nothing
    x[threadIdx.x] = __shfl_xor_sync(~0u, 1, 1);
    x[threadIdx.x] += box[threadIdx.x ^ 1];
}

static __global__ void uses(float *x)
{
    x[threadIdx.x] = 1.0f;                              // line: uses
}

static float *some(size_t n) { return upload(std::vector<float>(n, 0.0f)); }

static void run_missing_barrier() { run_sum_squares<1>(1000); }
static void run_divergent() { AE__LAUNCH(divergent_barrier, 2, 64, 0, nullptr, some(64)); }
static void run_exited_first()
{
    sim::set_order(sim::REVERSE, 0);
    run_divergent();
}
static void run_two_barriers() { AE__LAUNCH(two_barriers, 1, 64, 0, nullptr, some(64)); }
static void run_deadlock() { AE__LAUNCH(deadlock, 1, 32, 0, nullptr, some(32)); }
static void run_lane_outside() { AE__LAUNCH(lane_outside, 1, 32, 0, nullptr, (int *)some(32)); }
static void run_not_in_mask() { AE__LAUNCH(not_in_mask, 1, 32, 0, nullptr, (int *)some(32)); }
static void run_lane_exited() { AE__LAUNCH(lane_exited, 1, 32, 0, nullptr, (int *)some(32), 7u); }
static void run_different() { AE__LAUNCH(different_masks, 1, 32, 0, nullptr, (int *)some(32)); }
static void run_lane_exited_first()
{
    sim::set_order(sim::REVERSE, 0);
    AE__LAUNCH(lane_exited, 1, 32, 0, nullptr, (int *)some(32), 31u);
}
static void run_no_such_lane() { AE__LAUNCH(no_such_lane, 1, 48, 0, nullptr, (int *)some(48)); }
static void run_shared_overrun() { AE__LAUNCH(shared_overrun, 2, 64, 0, nullptr, some(64)); }
static void run_too_much() { AE__LAUNCH(too_much_shared, 1, 32, 0, nullptr, some(32)); }
static void run_race() { AE__LAUNCH(race_between_blocks, 8, 32, 0, nullptr, some(1)); }
static void run_race_before() { AE__LAUNCH(race_before_barrier, 3, 256, 0, nullptr, some(800)); }
static void run_shuffle()
{
    AE__LAUNCH(shuffle_orders_nothing, 1, 32, 0, nullptr, (int *)some(32));
}
static void run_overrun() { AE__LAUNCH(uses, 1, 32, 0, nullptr, some(31)); }

static void run_scale4(int from, int to)
{
    float *x = some(16), *y = some(16);
    AE__LAUNCH(scale4, 1, 1, 0, nullptr, (float4 *)(y + to), (const float4 *)(x + from), 2.0f, 1);
}

static void run_misaligned_load() { run_scale4(1, 0); }
static void run_misaligned_store() { run_scale4(4, 2); }

static void run_host_reads()
{
    volatile float *x = some(4);        // line: host_reads
    printf("%g\n", (double)x[2]);
}

static void run_kernel_touches_host()
{
    float *x = (float *)sim::host_malloc(128);          // line: host_memory
    AE__LAUNCH(uses, 1, 32, 0, nullptr, x);
}

static void run_freed()
{
    float *x = some(32);
    cudaFree(x);
    AE__LAUNCH(uses, 1, 32, 0, nullptr, x);             // line: freed
}

static void run_wrong_kind()
{
    float y[4], *x = some(4);
    cudaMemcpy(x, y, 16, cudaMemcpyDeviceToHost);       // line: wrong_kind
}

static void run_copy_too_long()
{
    float y[4], *x = some(4);
    cudaMemcpy(y, x + 1, 16, cudaMemcpyDeviceToHost);   // line: copy_too_long
}

static void run_copy_freed()
{
    float y[4], *x = some(4);
    cudaFree(x);
    cudaMemcpy(y, x, 16, cudaMemcpyDeviceToHost);       // line: copy_freed
}

static void run_freed_twice()
{
    float *x = some(4);
    cudaFree(x);
    cudaFree(x);                                        // line: freed_twice
}

static void run_leak()
{
    float *p;
    cudaStream_t s;
    cudaMalloc(&p, 4096);                               // line: leak
    cudaStreamCreate(&s);                               // line: leaked_stream
    exit(sim::leaks());
}

static void run_outside_kernel() { printf("%u\n", threadIdx.x); }

enum Build { ALL, NO_SANITIZER, ADDRESS, UNDEFINED, THREAD };

static const struct Defect {
    const char *name;
    Build build;                // where it is seen
    void (*run)();
    const char *texts[4];       // in what it prints; @NAME: file:line of the marked line
} defects[] = {
    {"missing_barrier", THREAD, run_missing_barrier, {"data race", "@missing_barrier"}},
    {"divergent_barrier", ALL, run_divergent,
     {"kernel divergent_barrier, block (0,0,0), thread", "@divergent_barrier",
      "waits at __syncthreads"}},
    {"exited_first", ALL, run_exited_first,
     {"thread (39,0,0)", "@divergent_barrier", "but thread (40,0,0) has exited"}},
    {"two_barriers", ALL, run_two_barriers,
     {"kernel two_barriers, block (0,0,0), thread (32,0,0)", "@other_barrier",
      "thread (0,0,0) at the one in line"}},
    {"deadlock", ALL, run_deadlock, {"kernel deadlock, block (0,0,0), thread (16,0,0)",
                                     "@deadlock", "for thread (0,0,0), which waits at __sync"}},
    {"lane_outside", ALL, run_lane_outside,
     {"kernel lane_outside, block (0,0,0), thread (12,0,0)", "@lane_outside", "of lane 16"}},
    {"not_in_mask", ALL, run_not_in_mask,
     {"thread (31,0,0)", "@not_in_mask", "lane 31 is not in its own mask"}},
    {"lane_exited", ALL, run_lane_exited,
     {"thread (7,0,0)", "@lane_exited", "exits, but thread (0,0,0) waits"}},
    {"lane_exited_first", ALL, run_lane_exited_first,
     {"thread (30,0,0)", "@lane_exited", "thread (31,0,0), which the mask ffffffff names, has"}},
    {"different_masks", ALL, run_different,
     {"thread (8,0,0)", "@different_masks", "with mask ffffffff, but thread (0,0,0) is at"}},
    {"no_such_lane", ALL, run_no_such_lane,
     {"thread (32,0,0)", "@no_such_lane", "no lane 16 of mask ffffffff in a block of 48"}},
    {"shared_overrun", NO_SANITIZER, run_shared_overrun,
     {"kernel shared_overrun, block (0,0,0)", "@shared_declared", "beside the shared array"}},
    {"shared_overrun", ADDRESS, run_shared_overrun, {"use-after-poison", "@shared_overrun"}},
    {"too_much_shared", ALL, run_too_much,
     {"kernel too_much_shared, block (0,0,0), thread (0,0,0)", "@too_much_shared", "49156 bytes"}},
    {"overrun", NO_SANITIZER, run_overrun, {"wrote 124 bytes from the start of 124 bytes"}},
    {"overrun", ADDRESS, run_overrun, {"use-after-poison", "@uses"}},
    {"misaligned_load", ALL, run_misaligned_load,
     {"kernel scale4, block (0,0,0), thread (0,0,0)", "@misaligned_load", "misaligned"}},
    {"misaligned_store", NO_SANITIZER, run_misaligned_store,
     {"kernel scale4, block (0,0,0), thread (0,0,0)", "misaligned"}},
    {"misaligned_store", UNDEFINED, run_misaligned_store, {"misaligned", "@misaligned_store"}},
    {"race_between_blocks", THREAD, run_race, {"data race", "@race_between_blocks"}},
    {"race_before_barrier", THREAD, run_race_before, {"data race", "@race_before_barrier",
                                                    "block (0,0,0) thread (7,0,0)",
                                                    "block (1,0,0) thread (7,0,0)"}},
    {"shuffle_orders_nothing", THREAD, run_shuffle, {"data race", "@shuffle_orders_nothing"}},
    {"host_reads", ALL, run_host_reads, {"host code touched device memory: offset 8 of 16"}},
    {"kernel_touches_host", ALL, run_kernel_touches_host,
     {"kernel uses, block (0,0,0), thread (0,0,0)", "touched host memory: offset 0 of 128",
      "@host_memory"}},
    {"kernel_touches_host", ADDRESS, run_kernel_touches_host, {"@uses"}},
    {"freed", ALL, run_freed,
     {"kernel uses, block (0,0,0), thread (0,0,0)", "@freed", "touched freed device memory"}},
    {"wrong_kind", ALL, run_wrong_kind, {"@wrong_kind", "the destination is device memory"}},
    {"copy_too_long", ALL, run_copy_too_long, {"@copy_too_long", "not within its block of 16"}},
    {"copy_freed", ALL, run_copy_freed, {"@copy_freed", "the source is freed memory"}},
    {"freed_twice", ALL, run_freed_twice, {"@freed_twice", "not the start of a live block"}},
    {"leak", ALL, run_leak, {"leak: 4096 bytes of device memory", "@leak", "@leaked_stream"}},
    {"outside_kernel", ALL, run_outside_kernel, {"only a kernel may call this"}},
};

static bool seen_here(Build build)
{
    if (build == ADDRESS) return ASAN;
    if (build == UNDEFINED) return UBSAN;
    if (build == THREAD) return TSAN;
    return build == ALL || (!ASAN && !UBSAN && !TSAN);
}

// "file.cpp:12" for the line of this file marked by `// line: NAME`.
static std::string marked(const char *name)
{
    std::string mark = std::string("// line: ") + name + "\n", file = __FILE__;
    char text[256];
    int line = 0, found = 0;
    FILE *f = fopen(__FILE__, "r");
    while (f && fgets(text, sizeof text, f)) {
        line++;
        size_t n = strlen(text);
        if (n >= mark.size() && mark == text + n - mark.size()) found = line;
    }
    if (f) fclose(f);
    return file.substr(file.rfind('/') + 1) + ":" + std::to_string(found);
}

static void test_defect(const char *program, const Defect &d)
{
    std::string command = "'" + std::string(program) + "' --defect " + d.name + " 2>&1", output;
    char text[512];
    context = d.name;
    FILE *f = popen(command.c_str(), "r");
    while (f && fgets(text, sizeof text, f)) output += text;
    bool ok = CHECK(f && pclose(f) != 0);
    for (const char *want : d.texts)
        if (want) ok &= CHECK(output.find(*want == '@' ? marked(want + 1) : want) !=
                              std::string::npos);
    if (!ok) printf("%s", output.c_str());
}

/* --- all ------------------------------------------------------------------ */

// What the thread sanitizer reports, the other builds see as wrong results in some order.
static void test_orders_find_missing_barriers()
{
    int wrong_sums = 0, wrong_products = 0;
    std::vector<float> right = run_sum_squares<0>(1000);
    for (int i = 0; i < sim::SETTINGS; i++) {
        sim::use_setting(i);
        wrong_sums += !same(run_sum_squares<1>(1000), right);
        wrong_products += !(product_error<1>() <= 1e-5);
    }
    CHECK(wrong_sums > 0 && wrong_products > 0);
}

static void run_all(const char *program)
{
    void (*const tests[])() = {
        test_reduction,    test_dynamic_shared, test_tiles,       test_vectors, test_atomics,
        test_warps,        test_warp_memory,    test_indices,     test_last_block,
        test_shared_is_poisoned,                test_launch_limits,             test_memory,
        test_pinned,       test_streams,        test_graph,       test_broken_capture,
        test_failures,     test_no_device,      test_cublas};
    for (int i = 0; i < sim::SETTINGS; i++) {
        context = sim::setting_text(i);
        for (auto test : tests) {
            sim::use_setting(i);
            test();
        }
    }
    sim::use_setting(0);
    test_lazy();
    sim::set_order(sim::RANDOM, 9);
    test_many_blocks();
    test_orders();
    if (!TSAN) test_orders_find_missing_barriers();
    sim::use_setting(0);
    CHECK(sim::runs_of("sum_squares") > 0 && sim::runs_of("never") == 0);
    CHECK(sim::counters().switches > 0);
    CHECK(sim::leaks() == 0);
    for (const Defect &d : defects)
        if (seen_here(d.build)) test_defect(program, d);
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--defect")) {
        for (const Defect &d : defects) {
            if (strcmp(d.name, argv[2])) continue;
            d.run();
            return 0;
        }
        return 0;
    }
    run_all(argv[0]);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
