/* ae_cuda.cuh - v0.1.0 - ae.h on an NVIDIA GPU - public domain (see the end of ae.h)

   The same program, on a GPU:       nvcc -x cu -DAE_USE_CUDA app.c -o app
   or, when the program is C:        nvcc -DAE_USE_CUDA -c ae.cu        (AE_IMPLEMENTATION in it)
                                     cc -DAE_USE_CUDA app.c ae.o -lcudart -lstdc++
   Including this file in place of ae.h means the same as -DAE_USE_CUDA.

   HOW IT WORKS
      A model's memory, one block with offsets, has a copy on the GPU: the same offsets from another
      base. ae.h calls its operations through AE__OP; those below have the same arguments and
      launch kernels, in order, on one stream. Nothing waits until somebody looks at a result.
      Pieces: the language, the context, what kernels share; then the operations, under the
      keys and in the order of ae.h: kernels, then the launcher that ae.h calls.

   RULES OF THIS FILE
      Every sum has a fixed order: no atomic adds of floats, and grids that depend on shapes alone.
      So results have the same bits in every run. Kernels guard every bound. What changes from step
      to step is read from the record on the GPU, never an argument of a kernel: a step can be
      recorded as a graph and run again. No doubles.

   CONFIGURATION (beside AE_IMPLEMENTATION)
      AE_CUDA_BLOCK      threads a block of elementwise kernels, a multiple of 32; 256
      AE_CUDA_CUBLAS     large products of linear layers by cuBLAS: link it, -lcublas
      AE_CUDA_TF32       the same on tensor cores, whose factors keep 10 bits after the point
      AE_CUDA_LARGE      multiplications that make a product large; 1 << 24
      AE_CUDA_NO_GRAPH   steps are launched kernel by kernel, never as a graph
      AE_CUDA_SYNC       waits after each kernel, so that an error is told by the kernel that made
                         it; no graphs either
*/

/* ===========================================================================
   The language: CUDA's, or what stands in for it in tests on a CPU. */
#if defined(AE__CUDA_LANGUAGE)

#if !defined(__CUDACC__) && !defined(AE_CUDA_SIM)
#error "AE_USE_CUDA: compile the file that defines AE_IMPLEMENTATION with nvcc -x cu"
#endif
#if defined(AE_CUDA_TF32) && !defined(AE_CUDA_CUBLAS)
#define AE_CUDA_CUBLAS
#endif
#ifndef AE_CUDA_LARGE
#define AE_CUDA_LARGE (1 << 24)
#endif
#ifdef AE_CUDA_SIM
#include "sim.h"
#include <stdlib.h> /* getenv */
#else
#ifdef AE_CUDA_CUBLAS
#include <cublas_v2.h>
#endif
#include <cuda_runtime.h>
#include <stdlib.h> /* getenv */
#define AE__SHARED(T, name, dims) __shared__ T name dims
#define AE__DYN_SHARED(T, name) extern __shared__ __align__(16) T name[]
#define AE__LAUNCH(kernel, grid, block, shared, stream, ...) \
    kernel<<<grid, block, shared, stream>>>(__VA_ARGS__)
#endif

#ifndef AE_CUDA_BLOCK
#define AE_CUDA_BLOCK 256
#endif

// Gives back what the models built at or after `from` have on their GPUs.
static void ae__cu_release(void **list, const unsigned char *from);

/* ===========================================================================
   The operations */
#elif defined(AE__CUDA_OPERATIONS)

/* ---- the context: what a model has on its GPU ---- */

/* A sum with what rounding lost kept apart (Neumaier 1974): about twice the digits of a float. */
typedef struct ae__cu_sum {
    float sum, lost;
} ae__cu_sum;

/* On the GPU: what changes from step to step, written before a step begins, and what came of the
   step, read after it. */
typedef struct ae__cu_record {
    uint64_t step;              // its number, from 1: draws depend on it
    uint64_t epoch, cursor;     // where in which epoch it begins
    uint64_t order;             // the permutation of the data, 0: none
    uint64_t seen;              // samples in the sums of the losses
    ae__update update;          // the optimiser's settings for it
    uint64_t samples;           // of the step
    int failed;                 // a step failed: nothing changes any more, nor do the fields above
    unsigned bad;               // nonzero: a target, probability or label was out of range
    float norm2;                // sum of squares of the gradient, as it was clipped by value
} ae__cu_record;

// A loss, on the GPU. kind: 0 not reported, 1 a mean over samples, 2 a sum; + 4 when minimised.
typedef struct ae__cu_account {
    int kind;
    float dloss;                // what its gradient is multiplied with, but for a known factor
    ae__cu_sum epoch, part;     // sums over the epoch; over a step in parts, or an evaluation
} ae__cu_account;

#ifndef AE__CU_PARTS
#define AE__CU_PARTS 262144     // floats for parts of sums
#endif
#define AE__CU_COUNTERS 4096    // blocks that finished; a kernel leaves them at 0

// What a kernel does with each element v that it stores to `to`: nothing; y = act(v) to out, too;
// or dx = v act'(x) to out, where y = act(x). v itself is stored unless out is `to`.
enum { AE__CU_PLAIN, AE__CU_ACT, AE__CU_SLOPE };
typedef struct ae__cu_ending {
    int kind, act;
    float a;
    float *out;
    const float *x, *y;
} ae__cu_ending;

// An operation that waits: see ae__cu_wait. Each launcher uses of it what it needs.
typedef struct ae__cu_call {
    float *y, *dx, *dw, *db, *dt;
    const float *x, *w, *b, *dy, *t;
    const int32_t *index;
    int kind, B, C, H, W, O, D, F;
    float a, dloss;
    ae_conv conv;
    ae_reduction reduction;
    const float *dloss_of;
} ae__cu_call;

typedef struct ae__cuda {
    cudaStream_t stream;
    cudaError_t error;          // the first that happened: kept
    const char *call;           // what failed, and where
    int line;
    float *parts;               // AE__CU_PARTS floats on the GPU
    unsigned *counters;         // AE__CU_COUNTERS zeros on the GPU
    ae__cu_record *record;      // on the GPU
    const float *dloss;         // on the GPU: what the running loss's gradient is multiplied with
    void (*launch)(struct ae__cuda *c);     // of the operation that waits, or NULL
    ae__cu_call call_waiting;
    struct ae__cu_model *model; // what else a model has there
    float *joint;               // its result, which an activation may take on: n elements; or NULL
    size_t joint_n;
    const float *reads[2];      // what it reads for many results at once, or NULL
    size_t reads_n[2];
    ae__cu_ending ending;
#ifdef AE_CUDA_CUBLAS
    cublasHandle_t blas;
    void *blas_room;            // AE__CU_BLAS_BYTES on the GPU
#endif
} ae__cuda;

// Keeps the first error.
static void ae__cu_note(ae__cuda *c, cudaError_t error, const char *call, int line)
{
    if (error != cudaSuccess && c->error == cudaSuccess) {
        c->error = error;
        c->call = call;
        c->line = line;
    }
}

#define AE__CU(c, call) ae__cu_note(c, (c)->error ? (c)->error : call, #call, __LINE__)

#ifdef AE_CUDA_CUBLAS
#define AE__CU_BLAS_BYTES ((size_t)32 << 20)
#define AE__CU_BLAS(c, call)                                                                \
    AE__CU(c, call == CUBLAS_STATUS_SUCCESS ? cudaSuccess : cudaErrorUnknown)
#endif

#ifdef AE_CUDA_SYNC
#define AE_CUDA_NO_GRAPH
#define AE__CU_WAIT(c) ae__cu_note(c, cudaStreamSynchronize((c)->stream), "a kernel", __LINE__)
#else
#define AE__CU_WAIT(c) (void)(c)
#endif

/* kernel<<<grid, block, shared>>>(...) on the model's stream; a template with a comma stands in
   parentheses, a null pointer is nullptr. After an error nothing is launched. */
#define AE__CU_LAUNCH(c, kernel, grid, block, shared, ...)                                  \
    do {                                                                                    \
        if ((c)->error == cudaSuccess) {                                                    \
            AE__LAUNCH(kernel, grid, block, shared, (c)->stream, __VA_ARGS__);              \
            ae__cu_note(c, cudaGetLastError(), #kernel, __LINE__);                          \
            AE__CU_WAIT(c);                                                                 \
        }                                                                                   \
    } while (0)

/* What one operation computes is often all that the next one reads: an activation after a product,
   the gradient after the loss. Such a launcher does not launch: it leaves its call waiting. The
   next launcher either joins it, and one kernel does both, or lets it go first. */
static void ae__cu_flush(ae__cuda *c)
{
    void (*launch)(ae__cuda *) = c->launch;
    c->launch = NULL;
    if (launch) launch(c);
}

// Leaves c->call_waiting (filled after ae__cu_begin) to `launch`, which reads it and c->ending.
static void ae__cu_wait(ae__cuda *c, void (*launch)(ae__cuda *), float *joint, size_t n)
{
    c->launch = launch;
    c->joint = joint;
    c->joint_n = n;
    c->reads[0] = c->reads[1] = NULL;
    memset(&c->ending, 0, sizeof c->ending);
}

/* What waits reads these n floats for many results: an activation that writes there, as ae.h lets
   it, for whom the operation is over and its memory free, may not join. */
static void ae__cu_reads(ae__cuda *c, int i, const float *p, size_t n)
{
    c->reads[i] = p;
    c->reads_n[i] = n;
}

// An activation, or its slope, joins what waits if that makes these n elements at v.
static int ae__cu_join(ae__cuda *c, const float *v, size_t n, ae__cu_ending ending)
{
    const uintptr_t out = (uintptr_t)ending.out, end = out + n * sizeof *v;
    int joins = c->launch && c->joint == v && c->joint_n == n && c->ending.kind == AE__CU_PLAIN;
    for (int i = 0; i < 2; i++) {
        const uintptr_t at = (uintptr_t)c->reads[i];
        joins = joins && (!at || end <= at || at + c->reads_n[i] * sizeof *v <= out);
    }
    if (joins) c->ending = ending;
    return joins;
}

// The first line of every launcher that joins nothing: what waits goes first.
static ae__cuda *ae__cu_begin(const ae_exec *e)
{
    ae__cuda *c = (ae__cuda *)e->device;
    ae__cu_flush(c);
    return c;
}

// Blocks for n elements, where each thread takes every so many-th one: a function of n alone.
static unsigned ae__cu_blocks(size_t n)
{
    size_t blocks = (n + AE_CUDA_BLOCK - 1) / AE_CUDA_BLOCK;
    return (unsigned)(blocks < 1 ? 1 : blocks > 1024 ? 1024 : blocks);
}

/* ---- what kernels share ---- */

// for (size_t i ...): the elements of this thread.
#define AE__CU_EACH(i, n)                                                                   \
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n);                 \
         i += (size_t)gridDim.x * blockDim.x)

// Stores element i of a kernel's result.
static __device__ void ae__cu_store(float *to, size_t i, float v, const ae__cu_ending e)
{
    if (e.kind == AE__CU_PLAIN || e.out != to) to[i] = v;
    if (e.kind == AE__CU_ACT) e.out[i] = ae__act_of_cuda(v, e.act, e.a);
#ifndef AE_NO_TRAIN
    if (e.kind == AE__CU_SLOPE)
        e.out[i] = ae__flush_cuda(v * ae__act_slope_cuda(e.x[i], e.y[i], e.act, e.a), 1e-30f);
#endif
}

// v, plus bias (F) if there is one, and its ending: of n elements, to `to`.
static __global__ void ae__k_ending(float *to, const float *v, const float *bias, size_t F,
                                    size_t n, ae__cu_ending ending)
{
    AE__CU_EACH(i, n) ae__cu_store(to, i, bias ? v[i] + bias[i % F] : v[i], ending);
}

static void ae__cu_end(ae__cuda *c, float *to, const float *v, const float *bias, size_t F,
                       size_t n, ae__cu_ending ending)
{
    AE__CU_LAUNCH(c, ae__k_ending, ae__cu_blocks(n), AE_CUDA_BLOCK, 0, to, v, bias, F, n, ending);
}

// A sequence as launchers get it: in training its step is the record's.
static __device__ ae_random ae__cu_random(ae_random r, const ae__cu_record *record)
{
    if (r.step == AE__STEP_NOW) r.step = record->step;
    return r;
}

/* The sum of v over the block, in every thread; all of them call it. Fixed order. Blocks are
   multiples of 32 threads. */
static __device__ float ae__cu_block_sum(float v)
{
    AE__SHARED(float, warps, [32]);
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(0xffffffffu, v, step);
    __syncthreads();            // warps may still be read from the sum before
    if (lane == 0) warps[warp] = v;
    __syncthreads();
    v = lane < (int)blockDim.x / 32 ? warps[lane] : 0.0f;
    for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(0xffffffffu, v, step);
    return v;
}

/* True in all threads of the block that is the last of `blocks` to come here (in all others false):
   it sees what they wrote before. The counter is 0 again then. */
static __device__ bool ae__cu_last_block(unsigned *counter, unsigned blocks)
{
    AE__SHARED(int, last, [1]);
    __threadfence();            // what this thread wrote, before the count
    __syncthreads();
    if (threadIdx.x == 0) {
        last[0] = atomicAdd(counter, 1u) == blocks - 1;
        if (last[0]) atomicExch(counter, 0u);
    }
    __syncthreads();
    if (last[0]) __threadfence();
    return last[0] != 0;
}

static __device__ void ae__cu_add(ae__cu_sum *s, float x)
{
    const float t = __fadd_rn(s->sum, x);
    const float big = fabsf(s->sum) >= fabsf(x) ? s->sum : x;
    const float small = fabsf(s->sum) >= fabsf(x) ? x : s->sum;
    s->lost = __fadd_rn(s->lost, __fadd_rn(__fsub_rn(big, t), small));
    s->sum = t;
}

#ifndef AE_NO_TRAIN
// All of it. What rounding lost from an infinite sum is NaN: the sum stays infinite.
static __device__ float ae__cu_total(ae__cu_sum s)
{
    const float total = s.sum + s.lost;
    return total == total ? total : s.sum;
}

/* A value of [block] by the last block: *out = scale times the sum of the blocks' v. Called by all
   threads of all blocks; parts: gridDim.x floats. v is the block's sum, in every thread. */
static __device__ void ae__cu_grid_sum(float *out, float v, float scale, float *parts,
                                       unsigned *counter)
{
    if (threadIdx.x == 0) parts[blockIdx.x] = v;
    if (!ae__cu_last_block(counter, gridDim.x)) return;
    ae__cu_sum mine = {0.0f, 0.0f};
    for (unsigned i = threadIdx.x; i < gridDim.x; i += blockDim.x) ae__cu_add(&mine, parts[i]);
    const float sum = ae__cu_block_sum(ae__cu_total(mine));
    if (threadIdx.x == 0) *out = sum * scale;
}
#endif

/* ---- a context, made and given back ---- */

static void ae__cu_close(ae__cuda *c)
{
    if (c->stream) cudaStreamSynchronize(c->stream);
#ifdef AE_CUDA_CUBLAS
    if (c->blas) cublasDestroy(c->blas);
    cudaFree(c->blas_room);
#endif
    cudaFree(c->record);
    cudaFree(c->counters);
    cudaFree(c->parts);
    if (c->stream) cudaStreamDestroy(c->stream);
    memset(c, 0, sizeof *c);
}

// Everything but a model's memory. c->error says whether it worked; ae__cu_close gives it back.
static void ae__cu_open(ae__cuda *c)
{
    memset(c, 0, sizeof *c);
    AE__CU(c, cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking));
    AE__CU(c, cudaMalloc(&c->parts, AE__CU_PARTS * sizeof *c->parts));
    AE__CU(c, cudaMalloc(&c->counters, AE__CU_COUNTERS * sizeof *c->counters));
    AE__CU(c, cudaMalloc(&c->record, sizeof *c->record));
    AE__CU(c, cudaMemsetAsync(c->counters, 0, AE__CU_COUNTERS * sizeof *c->counters, c->stream));
    AE__CU(c, cudaMemsetAsync(c->record, 0, sizeof *c->record, c->stream));
#ifdef AE_CUDA_CUBLAS
    AE__CU(c, cudaMalloc(&c->blas_room, AE__CU_BLAS_BYTES));
    AE__CU_BLAS(c, cublasCreate(&c->blas));
    AE__CU_BLAS(c, cublasSetStream(c->blas, c->stream));
    AE__CU_BLAS(c, cublasSetWorkspace(c->blas, c->blas_room, AE__CU_BLAS_BYTES));
#ifdef AE_CUDA_TF32
    AE__CU_BLAS(c, cublasSetMathMode(c->blas, CUBLAS_TF32_TENSOR_OP_MATH));
#endif
#endif
    if (c->record) c->dloss = &c->record->norm2;    // somewhere to read, without a gradient
}

/* ---------------------------------------------------------------------------
   >>linear   y = x w^T + b                                                   */

/* The matrix product. A block of 256 threads makes a tile of TILE x TILE sums: it brings DEPTH
   columns of a and of b to shared memory, while the next ones are on their way to registers. A
   thread has 4 x 4 sums. Small tiles, of 32, have threads left: GROUPS of them share the columns.
   Small results of long sums do not fill a GPU: there `splits` blocks share a tile, each sums its
   columns, and the last one to finish adds the parts up, in their order.

   Element (m,k) of a is a[m lda + k] (along k) or a[k lda + m]: whichever it is, neighbours in
   memory are read by neighbouring threads. The product whose a does not lie along k is the gradient
   of the weights: it alone accumulates, and sums dy's columns, which it reads anyway, into db. */
typedef struct ae__cu_product {
    float *y;                   // (M,N)
    const float *a, *b;         // M and N rows over k
    const float *bias;          // (N) or NULL
    float *sums;                // += the sums of dy: of b (N) or of a (M); or NULL
    int sums_b;
    unsigned lda, ldb, M, N, K;
    unsigned columns, tiles, splits, depth;     // tiles in a row and in all; columns of one split
    float *parts;               // (splits,M,N) and (splits, sums)
    unsigned *counters;         // (tiles)
} ae__cu_product;

#define AE__CU_TILE_THREADS 256
#ifndef AE__CU_WIDE
#define AE__CU_WIDE 128         // tiles are of 64 when there are so many blocks of them
#endif

template <int TILE> struct ae__cu_tile {
    enum { DEPTH = 1024 / TILE, PITCH = TILE + 4, SIDE = TILE / 4,
           GROUPS = AE__CU_TILE_THREADS / (SIDE * SIDE) };
};
#define AE__CU_TILE_FLOATS (4 * 32 * 36)    // two of a, two of b; then GROUPS x TILE x TILE

// This thread's four of TILE rows by DEPTH columns; 0 beyond the end.
template <int TILE, bool ALONG_K>
static __device__ __forceinline__ void ae__cu_tile_load(float v[4], const float *p, unsigned ld,
                                                        unsigned row, unsigned rows, unsigned k,
                                                        unsigned end)
{
    const unsigned DEPTH = ae__cu_tile<TILE>::DEPTH;
    for (unsigned i = 0; i < 4; i++) {
        const unsigned e = threadIdx.x + i * AE__CU_TILE_THREADS;
        const unsigned r = row + (ALONG_K ? e / DEPTH : e % TILE);
        const unsigned c = k + (ALONG_K ? e % DEPTH : e / TILE);
        v[i] = 0.0f;
        if (r < rows && c < end) v[i] = p[ALONG_K ? (size_t)r * ld + c : (size_t)c * ld + r];
    }
}

// They go to shared memory, where the rows lie side by side.
template <int TILE, bool ALONG_K>
static __device__ __forceinline__ void ae__cu_tile_keep(float *tile, const float v[4])
{
    const unsigned DEPTH = ae__cu_tile<TILE>::DEPTH, PITCH = ae__cu_tile<TILE>::PITCH;
    for (unsigned i = 0; i < 4; i++) {
        const unsigned e = threadIdx.x + i * AE__CU_TILE_THREADS;
        tile[ALONG_K ? e % DEPTH * PITCH + e / DEPTH : e / TILE * PITCH + e % TILE] = v[i];
    }
}

/* Leaves the sums over columns k to end in tiles, (GROUPS,TILE,TILE), and returns, in the first
   TILE threads, one of dy's. Of the two halves of tiles one is filled while the other is read, so a
   turn needs one barrier. */
template <int TILE, bool A_ALONG_K, bool B_ALONG_K>
static __device__ __forceinline__ float ae__cu_tile_sums(float *tiles, const ae__cu_product &p,
                                                         unsigned row, unsigned column, unsigned k,
                                                         unsigned end)
{
    typedef ae__cu_tile<TILE> T;
    const unsigned t = threadIdx.x, group = t / (T::SIDE * T::SIDE);
    const unsigned x = t % T::SIDE * 4, y = t / T::SIDE % T::SIDE * 4;
    float sum[4][4] = {}, a[4], b[4], sum_dy = 0.0f;
    ae__cu_tile_load<TILE, A_ALONG_K>(a, p.a, p.lda, row, p.M, k, end);
    ae__cu_tile_load<TILE, B_ALONG_K>(b, p.b, p.ldb, column, p.N, k, end);
    for (unsigned turn = 0; k < end; turn++) {
        float *ta = tiles + turn % 2 * (2 * T::DEPTH * T::PITCH), *tb = ta + T::DEPTH * T::PITCH;
        ae__cu_tile_keep<TILE, A_ALONG_K>(ta, a);
        ae__cu_tile_keep<TILE, B_ALONG_K>(tb, b);
        __syncthreads();
        k += T::DEPTH;
        ae__cu_tile_load<TILE, A_ALONG_K>(a, p.a, p.lda, row, p.M, k, end);
        ae__cu_tile_load<TILE, B_ALONG_K>(b, p.b, p.ldb, column, p.N, k, end);
        for (unsigned i = 0; i < T::DEPTH; i += T::GROUPS) {
            const float4 fa = *(const float4 *)(ta + (i + group) * T::PITCH + y);
            const float4 fb = *(const float4 *)(tb + (i + group) * T::PITCH + x);
            const float va[4] = {fa.x, fa.y, fa.z, fa.w}, vb[4] = {fb.x, fb.y, fb.z, fb.w};
            for (int m = 0; m < 4; m++)
                for (int n = 0; n < 4; n++) sum[m][n] = fmaf(va[m], vb[n], sum[m][n]);
        }
        if (!A_ALONG_K && p.sums && (p.sums_b ? row : column) == 0 && t < TILE) {
            const float *dy = p.sums_b ? tb : ta;
            for (unsigned i = 0; i < T::DEPTH; i++) sum_dy += dy[i * T::PITCH + t];
        }
    }
    __syncthreads();            // all have read the last tiles
    for (unsigned m = 0; m < 4; m++)
        *(float4 *)(tiles + ((group * TILE) + y + m) * TILE + x) =
            make_float4(sum[m][0], sum[m][1], sum[m][2], sum[m][3]);
    __syncthreads();
    return sum_dy;
}

/* The end of a tile: each element is the sum of `count` numbers, `stride` apart, from its place in
   the tile or, where there are parts, in these; it goes to part, or, with NULL, where it is wanted.
   Sixteen loads are on their way before the first is added: their latency is what this costs. The
   sums pass through the tile, so that one copy of the code ends all of a thread's. */
template <int TILE, bool ACCUMULATE>
static __device__ __forceinline__ void ae__cu_tile_end(const ae__cu_product &p, unsigned row,
                                                       unsigned column, float *tile,
                                                       const float *parts, size_t stride,
                                                       unsigned count, float *part,
                                                       const ae__cu_ending &ending)
{
    enum { EACH = TILE * TILE / AE__CU_TILE_THREADS, LINES = AE__CU_TILE_THREADS / TILE };
    const unsigned first = row + threadIdx.x / TILE, n = column + threadIdx.x % TILE;
    const float *from = parts ? parts + (size_t)first * p.N + n : tile + threadIdx.x;
    const size_t line = (parts ? p.N : TILE) * (size_t)LINES;
    float v[EACH] = {};
    for (unsigned s = 0; s < count; s += 16 / EACH) {
        float next[16];
        for (unsigned i = 0; i < 16; i++) {
            const unsigned e = i % EACH, at = s + i / EACH;
            next[i] = 0.0f;
            if (at < count && first + e * LINES < p.M && n < p.N)
                next[i] = from[at * stride + e * line];
        }
        for (unsigned i = 0; i < 16; i++) v[i % EACH] += next[i];
    }
    for (unsigned e = 0; e < EACH; e++) tile[threadIdx.x + e * AE__CU_TILE_THREADS] = v[e];
    for (unsigned e = threadIdx.x; e < TILE * TILE && n < p.N; e += AE__CU_TILE_THREADS) {
        const unsigned m = row + e / TILE;
        const size_t i = (size_t)m * p.N + n;
        if (m >= p.M) return;
        if (part) part[i] = tile[e];
        else if (ACCUMULATE) p.y[i] += tile[e];
        else ae__cu_store(p.y, i, p.bias ? tile[e] + p.bias[n] : tile[e], ending);
    }
}

// What a block does: a tile of p, or one split of it.
template <int TILE, bool A_ALONG_K, bool B_ALONG_K>
static __device__ __forceinline__ void ae__cu_product_block(float *tiles, const ae__cu_product &p,
                                                            unsigned block,
                                                            const ae__cu_ending &ending)
{
    const unsigned tile = block % p.tiles, split = block / p.tiles;
    const unsigned row = tile / p.columns * TILE, column = tile % p.columns * TILE;
    const unsigned k = split * p.depth, end = p.K - k < p.depth ? p.K : k + p.depth;
    const size_t outputs = (size_t)p.M * p.N;
    float sum = ae__cu_tile_sums<TILE, A_ALONG_K, B_ALONG_K>(tiles, p, row, column, k, end);
    const unsigned n = p.sums_b ? p.N : p.M, i = (p.sums_b ? column : row) + threadIdx.x;
    const bool has_sum = !A_ALONG_K && p.sums && (p.sums_b ? row : column) == 0
                         && threadIdx.x < TILE && i < n;
    float *parts = p.parts + split * outputs, *sums = p.parts + p.splits * outputs;
    ae__cu_tile_end<TILE, !A_ALONG_K>(p, row, column, tiles, nullptr, TILE * TILE,
                                      ae__cu_tile<TILE>::GROUPS,
                                      p.splits > 1 ? parts : nullptr, ending);
    if (p.splits > 1) {
        if (has_sum) sums[split * n + i] = sum;
        if (!ae__cu_last_block(p.counters + tile, p.splits)) return;
        ae__cu_tile_end<TILE, !A_ALONG_K>(p, row, column, tiles, p.parts, outputs, p.splits,
                                          nullptr, ending);
        sum = 0.0f;
        for (unsigned s = 0; s < p.splits && has_sum; s++) sum += sums[s * n + i];
    }
    if (has_sum) p.sums[i] += sum;
}

template <int TILE, bool B_ALONG_K>
static __global__ void __launch_bounds__(AE__CU_TILE_THREADS, 2)
ae__k_linear_forward(ae__cu_product p, ae__cu_ending ending)
{
    AE__SHARED(float4, tiles, [AE__CU_TILE_FLOATS / 4]);
    ae__cu_product_block<TILE, true, B_ALONG_K>((float *)tiles, p, blockIdx.x, ending);
}

// The first `blocks` blocks make dx, the others dw and db.
template <int TILE, bool B_ALONG_K>
static __global__ void __launch_bounds__(AE__CU_TILE_THREADS, 2)
ae__k_linear_backward(ae__cu_product dx, unsigned blocks, ae__cu_product dw, ae__cu_ending ending)
{
    AE__SHARED(float4, tiles, [AE__CU_TILE_FLOATS / 4]);
    if (blockIdx.x < blocks)
        ae__cu_product_block<TILE, true, B_ALONG_K>((float *)tiles, dx, blockIdx.x, ending);
    else
        ae__cu_product_block<TILE, false, false>((float *)tiles, dw, blockIdx.x - blocks, ending);
}

/* How many blocks make p in tiles of `tile`, and what each does: a function of shapes alone. Splits
   are made for up to 256 blocks, of 64 columns or more, while `room` holds their parts. */
static unsigned ae__cu_product_plan(ae__cu_product *p, unsigned tile, size_t room)
{
    const size_t outputs = (size_t)p->M * p->N + (p->sums_b ? p->N : p->M);
    const size_t rows = p->M ? (p->M - 1) / tile + 1 : 1;
    const size_t columns = p->N ? (p->N - 1) / tile + 1 : 1;
    size_t splits = ae__min(256 / (rows * columns), ae__min(p->K / 64, room / outputs));
    if (splits < 1) splits = 1;
    p->columns = (unsigned)columns;
    p->tiles = (unsigned)(rows * columns);
    p->depth = (unsigned)(((p->K - 1) / splits + 32) / 32 * 32);
    p->splits = (p->K - 1) / p->depth + 1;
    return p->tiles * p->splits;
}

// y (M,N) of rows over K, before its plan.
static ae__cu_product ae__cu_product_of(ae__cuda *c, float *y, const float *a, int lda,
                                        const float *b, int ldb, int M, int N, int K)
{
    return {y, a, b, NULL, NULL, 0, (unsigned)lda, (unsigned)ldb, (unsigned)M, (unsigned)N,
            (unsigned)K, 0, 0, 0, 0, c->parts, c->counters};
}

// Are tiles of 64 full enough?
static int ae__cu_wide(const ae__cu_call *l, unsigned blocks)
{
    return blocks >= AE__CU_WIDE && l->B > 32 && l->D > 32 && l->O > 32;
}

/* A large product by cuBLAS; returns 0 where it is not. What lies by rows here lies by columns for
   cuBLAS: it makes y^T = b a^T. */
static int ae__cu_by_blas(ae__cuda *c, const ae__cu_product *p, bool a_along_k, bool b_along_k)
{
#ifdef AE_CUDA_CUBLAS
    const float one = 1.0f, beta = a_along_k ? 0.0f : 1.0f;
    if (p->y == NULL || (double)p->M * p->N * p->K < (double)(AE_CUDA_LARGE)) return 0;
    AE__CU_BLAS(c, cublasSgemm(c->blas, b_along_k ? CUBLAS_OP_T : CUBLAS_OP_N,
                               a_along_k ? CUBLAS_OP_N : CUBLAS_OP_T, (int)p->N, (int)p->M,
                               (int)p->K, &one, p->b, (int)p->ldb, p->a, (int)p->lda, &beta, p->y,
                               (int)p->N));
    AE__CU_WAIT(c);
    return 1;
#else
    (void)c, (void)p, (void)a_along_k, (void)b_along_k;
    return 0;
#endif
}

// y = x w^T + b; tied: y = x w + b. An activation may follow in the same kernel.
template <bool TIED> static void ae__cu_linear_forward_launch(ae__cuda *c)
{
    const ae__cu_call *l = &c->call_waiting;
    const int N = TIED ? l->D : l->O, K = TIED ? l->O : l->D;
    ae__cu_product p = ae__cu_product_of(c, l->y, l->x, K, l->w, l->D, l->B, N, K);
    p.bias = l->b;
    if (ae__cu_by_blas(c, &p, true, !TIED)) {
        if (l->b || c->ending.kind != AE__CU_PLAIN)
            ae__cu_end(c, l->y, l->y, l->b, p.N, (size_t)p.M * p.N, c->ending);
        return;
    }
    unsigned blocks = ae__cu_product_plan(&p, 64, AE__CU_PARTS);
    if (ae__cu_wide(l, blocks)) {
        AE__CU_LAUNCH(c, (ae__k_linear_forward<64, !TIED>), blocks, AE__CU_TILE_THREADS, 0, p,
                      c->ending);
    } else {
        blocks = ae__cu_product_plan(&p, 32, AE__CU_PARTS);
        AE__CU_LAUNCH(c, (ae__k_linear_forward<32, !TIED>), blocks, AE__CU_TILE_THREADS, 0, p,
                      c->ending);
    }
}

/* y = x w^T + b:   dx = dy w     dw += dy^T x   db += column sums of dy
   y = x w + b:     dx = dy w^T   dw += x^T dy   db the same
   dw NULL: a product without columns (tied: rows) is left, which makes db. */
template <bool TIED> static void ae__cu_linear_backward_launch(ae__cuda *c)
{
    const ae__cu_call *l = &c->call_waiting;
    const size_t room = AE__CU_PARTS / 2;
    const int in = TIED ? l->O : l->D, out = TIED ? l->D : l->O;    // sizes of rows of x and y
    ae__cu_product dx = ae__cu_product_of(c, l->dx, l->dy, out, l->w, l->D, l->B, in, out);
    ae__cu_product dw = ae__cu_product_of(c, l->dw, TIED ? l->x : l->dy, l->O,
                                          TIED ? l->dy : l->x, l->D, l->dw || !TIED ? l->O : 0,
                                          l->dw || TIED ? l->D : 0, l->B);
    dw.sums = l->db;
    dw.sums_b = TIED;
    dw.parts += room;
    dw.counters += AE__CU_COUNTERS / 2;
    if (ae__cu_by_blas(c, &dx, true, TIED)) {
        if (c->ending.kind != AE__CU_PLAIN)
            ae__cu_end(c, l->dx, l->dx, NULL, 1, (size_t)dx.M * dx.N, c->ending);
        dx.y = NULL;
    }
    if (ae__cu_by_blas(c, &dw, false, false)) {
        (TIED ? dw.M : dw.N) = 0;
        dw.y = NULL;
    }
    unsigned first = dx.y ? ae__cu_product_plan(&dx, 64, room) : 0;
    unsigned rest = dw.y || l->db ? ae__cu_product_plan(&dw, 64, room) : 0;
    if (ae__cu_wide(l, first + rest)) {
        AE__CU_LAUNCH(c, (ae__k_linear_backward<64, TIED>), first + rest, AE__CU_TILE_THREADS, 0,
                      dx, first, dw, c->ending);
    } else if (first + rest > 0) {
        first = dx.y ? ae__cu_product_plan(&dx, 32, room) : 0;
        rest = dw.y || l->db ? ae__cu_product_plan(&dw, 32, room) : 0;
        AE__CU_LAUNCH(c, (ae__k_linear_backward<32, TIED>), first + rest, AE__CU_TILE_THREADS, 0,
                      dx, first, dw, c->ending);
    }
}

// All four wait: forward for y, backward for dx, n elements in a row.
static void ae__cu_linear_wait(const ae_exec *e, void (*launch)(ae__cuda *), float *y, float *dx,
                               float *dw, float *db, const float *dy, const float *x,
                               const float *w, const float *b, int B, int D, int O, int n)
{
    ae__cuda *c = ae__cu_begin(e);
    ae__cu_call *q = &c->call_waiting;
    memset(q, 0, sizeof *q);
    q->y = y;
    q->dx = dx;
    q->dw = dw;
    q->db = db;
    q->dy = dy;
    q->x = x;
    q->w = w;
    q->b = b;
    q->B = B;
    q->D = D;
    q->O = O;
    ae__cu_wait(c, launch, y ? y : dx, (size_t)B * (size_t)n);
    ae__cu_reads(c, 0, x, (size_t)B * (size_t)(y ? D + O - n : n));
    ae__cu_reads(c, 1, dy, (size_t)B * (size_t)(D + O - n));
}

static void ae__cu_linear_forward(const ae_exec *e, float *y, const float *x, const float *w,
                                  const float *b, int B, int D, int O)
{
    ae__cu_linear_wait(e, ae__cu_linear_forward_launch<false>, y, NULL, NULL, NULL, NULL, x, w, b,
                       B, D, O, O);
}

#ifndef AE_NO_TRAIN
static void ae__cu_linear_backward(const ae_exec *e, float *dx, float *dw, float *db,
                                   const float *dy, const float *x, const float *w, int B, int D,
                                   int O)
{
    ae__cu_linear_wait(e, ae__cu_linear_backward_launch<false>, NULL, dx, dw, db, dy, x, w, NULL, B,
                       D, O, D);
}
#endif

static void ae__cu_tied_linear_forward(const ae_exec *e, float *y, const float *x, const float *w,
                                       const float *b, int B, int D, int O)
{
    ae__cu_linear_wait(e, ae__cu_linear_forward_launch<true>, y, NULL, NULL, NULL, NULL, x, w, b,
                       B, D, O, D);
}

#ifndef AE_NO_TRAIN
static void ae__cu_tied_linear_backward(const ae_exec *e, float *dx, float *dw, float *db,
                                        const float *dy, const float *x, const float *w, int B,
                                        int D, int O)
{
    ae__cu_linear_wait(e, ae__cu_linear_backward_launch<true>, NULL, dx, dw, db, dy, x, w, NULL, B,
                       D, O, O);
}
#endif

/* ---------------------------------------------------------------------------
   >>activation   functions of one element, and softmax                       */

// An activation by itself, v being its input; or its slope.
static void ae__cu_end_alone(const ae_exec *e, const float *v, size_t n, ae__cu_ending ending)
{
    if (!ae__cu_join((ae__cuda *)e->device, v, n, ending))
        ae__cu_end(ae__cu_begin(e), ending.out, v, NULL, 1, n, ending);
}

static void ae__cu_activation_forward(const ae_exec *e, float *y, const float *x, ae_act act,
                                      float a, size_t n)
{
    ae__cu_end_alone(e, x, n, {AE__CU_ACT, (int)act, a, y, NULL, NULL});
}

#ifndef AE_NO_TRAIN
static void ae__cu_activation_backward(const ae_exec *e, float *dx, const float *dy, const float *x,
                                       const float *y, ae_act act, float a, size_t n)
{
    ae__cu_end_alone(e, dy, n, {AE__CU_SLOPE, (int)act, a, dx, x, y});
}
#endif

// The largest v of the block, in every thread; NaN counts as less than all.
static __device__ float ae__cu_block_max(float v)
{
    AE__SHARED(float, warps, [32]);
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    for (int step = 16; step > 0; step /= 2)
        v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, step));
    __syncthreads();            // warps may still be read from the call before
    if (lane == 0) warps[warp] = v;
    __syncthreads();
    v = lane < (int)blockDim.x / 32 ? warps[lane] : warps[0];
    for (int step = 16; step > 0; step /= 2)
        v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, step));
    return v;
}

/* A block takes a row: y_i = e^(x_i - m) / sum_j e^(x_j - m). The largest, m, is subtracted so that
   nothing overflows; a NaN, which fmaxf passes over, comes back through its own e^x and the sum. */
static __global__ void ae__k_softmax_forward(float *y, const float *x, size_t F)
{
    float most = -3.402823466e38f, sum = 0.0f;
    y += blockIdx.x * F;
    x += blockIdx.x * F;
    for (size_t i = threadIdx.x; i < F; i += blockDim.x) most = fmaxf(most, x[i]);
    most = ae__cu_block_max(most);
    for (size_t i = threadIdx.x; i < F; i += blockDim.x) {
        y[i] = ae__exp_cuda(__fsub_rn(x[i], most));
        sum += y[i];
    }
    const float inverse = 1.0f / ae__cu_block_sum(sum);
    for (size_t i = threadIdx.x; i < F; i += blockDim.x) y[i] *= inverse;
}

#ifndef AE_NO_TRAIN
// dx_i = y_i (dy_i - sum_j dy_j y_j)
static __global__ void ae__k_softmax_backward(float *dx, const float *dy, const float *y, size_t F)
{
    float sum = 0.0f;
    dx += blockIdx.x * F;
    dy += blockIdx.x * F;
    y += blockIdx.x * F;
    for (size_t i = threadIdx.x; i < F; i += blockDim.x) sum += dy[i] * y[i];
    const float inner = ae__cu_block_sum(sum);
    for (size_t i = threadIdx.x; i < F; i += blockDim.x) dx[i] = y[i] * (dy[i] - inner);
}
#endif

// Threads for a row of F: no more warps than it fills.
static unsigned ae__cu_row_threads(int F)
{
    return F < AE_CUDA_BLOCK ? ((unsigned)F + 31) / 32 * 32 : AE_CUDA_BLOCK;
}

static void ae__cu_softmax_forward(const ae_exec *e, float *y, const float *x, int B, int F)
{
    ae__cuda *c = ae__cu_begin(e);
    AE__CU_LAUNCH(c, ae__k_softmax_forward, (unsigned)B, ae__cu_row_threads(F), 0, y, x, (size_t)F);
}

#ifndef AE_NO_TRAIN
static void ae__cu_softmax_backward(const ae_exec *e, float *dx, const float *dy, const float *y,
                                    int B, int F)
{
    ae__cuda *c = ae__cu_begin(e);
    AE__CU_LAUNCH(c, ae__k_softmax_backward, (unsigned)B, ae__cu_row_threads(F), 0, dx, dy, y,
                  (size_t)F);
}
#endif

static __global__ void ae__k_add_forward(float *y, const float *a, const float *b, size_t n)
{
    AE__CU_EACH(i, n) y[i] = a[i] + b[i];
}

#ifndef AE_NO_TRAIN
// da = dy, db = dy; each may be NULL.
static __global__ void ae__k_add_backward(float *da, float *db, const float *dy, size_t n)
{
    AE__CU_EACH(i, n) {
        const float v = dy[i];
        if (da) da[i] = v;
        if (db) db[i] = v;
    }
}
#endif

static void ae__cu_add_forward(const ae_exec *e, float *y, const float *a, const float *b, size_t n)
{
    ae__cuda *c = ae__cu_begin(e);
    AE__CU_LAUNCH(c, ae__k_add_forward, ae__cu_blocks(n), AE_CUDA_BLOCK, 0, y, a, b, n);
}

#ifndef AE_NO_TRAIN
static void ae__cu_add_backward(const ae_exec *e, float *da, float *db, const float *dy, size_t n)
{
    ae__cuda *c = ae__cu_begin(e);
    if (da == dy) da = NULL;
    if (db == dy) db = NULL;
    if (da || db)
        AE__CU_LAUNCH(c, ae__k_add_backward, ae__cu_blocks(n), AE_CUDA_BLOCK, 0, da, db, dy, n);
}
#endif

static __global__ void ae__k_fill(float *x, float value, size_t n)
{
    AE__CU_EACH(i, n) x[i] = value;
}

#ifndef AE_NO_TRAIN
static __global__ void ae__k_scale(float *x, float a, size_t n)
{
    AE__CU_EACH(i, n) x[i] *= a;
}
#endif

static void ae__cu__fill(const ae_exec *e, float *x, float value, size_t n)
{
    ae__cuda *c = ae__cu_begin(e);
    AE__CU_LAUNCH(c, ae__k_fill, ae__cu_blocks(n), AE_CUDA_BLOCK, 0, x, value, n);
}

#ifndef AE_NO_TRAIN
static void ae__cu__scale(const ae_exec *e, float *x, float a, size_t n)
{
    ae__cuda *c = ae__cu_begin(e);
    AE__CU_LAUNCH(c, ae__k_scale, ae__cu_blocks(n), AE_CUDA_BLOCK, 0, x, a, n);
}
#endif

// y: rows of P from a and of Q from b, side by side; back: y's columns to a and b, or NULL.
static __global__ void ae__k_concat(float *y, float *a, float *b, size_t n, size_t P, size_t Q,
                                    bool back)
{
    AE__CU_EACH(i, n) {
        const size_t row = i / (P + Q), column = i % (P + Q);
        float *side = column < P ? a : b;
        if (!side) continue;
        side += column < P ? row * P + column : row * Q + column - P;
        if (back) *side = y[i];
        else y[i] = *side;
    }
}

static void ae__cu_concat(const ae_exec *e, const float *y, const float *a, const float *b, int B,
                          int P, int Q, bool back)
{
    ae__cuda *c = ae__cu_begin(e);
    const size_t p = (size_t)P, q = (size_t)Q, n = (size_t)B * (p + q);
    AE__CU_LAUNCH(c, ae__k_concat, ae__cu_blocks(n), AE_CUDA_BLOCK, 0, (float *)y, (float *)a,
                  (float *)b, n, p, q, back);
}

static void ae__cu_concat_forward(const ae_exec *e, float *y, const float *a, const float *b,
                                  int B, int P, int Q)
{
    ae__cu_concat(e, y, a, b, B, P, Q, false);
}

#ifndef AE_NO_TRAIN
static void ae__cu_concat_backward(const ae_exec *e, float *da, float *db, const float *dy,
                                   int B, int P, int Q)
{
    ae__cu_concat(e, dy, da, db, B, P, Q, true);
}
#endif

/* ---------------------------------------------------------------------------
   >>conv   convolution and its transpose                                     */

/* One kernel serves both layers, both ways (see ae.h): each of its blocks makes one tile of a
   matrix product whose second factor is read from pictures as it is needed. Its jobs, by the number
   of the block: the weights' gradient, the bias' gradient, and pictures (gather or scatter).

       pictures   m: channels made     n: their pixels      k: (channel, tap) of the source
       weights    m: channels, small   n: (channel, tap)    k: pixels, cut into parts             */
#define AE__CU_CONV_BLOCK (AE_CUDA_BLOCK < 256 ? AE_CUDA_BLOCK : 256)
#define AE__CU_CONV_DW 8, 2     // tiles of the weights' gradient: see ae__cu_conv_shape
#define AE__CU_CONV_DW16 4, 1   // with 16 channels or less: half the rows, as many columns
#define AE__CU_CONV_BIAS 4096   // floats of c->parts that are the bias'; half as many counters

typedef struct ae__cu_place {   // picture or channel, line, column: also sizes and steps of these
    int at, y, x;
} ae__cu_place;

// Place number v of those that count as size says: x first.
template <class T> static __device__ ae__cu_place ae__cu_place_of(T v, const ae__cu_place size)
{
    const T line = v / (T)size.x, at = line / (T)size.y;
    return {(int)at, (int)(line - at * (T)size.y), (int)(v - line * (T)size.x)};
}

// The place a step further on, without a division.
static __device__ void ae__cu_advance(ae__cu_place *place, const ae__cu_place step,
                                      const ae__cu_place size)
{
    const int right = place->x + step.x >= size.x;
    place->x += step.x - (right ? size.x : 0);
    const int down = place->y + step.y + right >= size.y;
    place->y += step.y + right - (down ? size.y : 0);
    place->at += step.at + down;
}

/* sum(m,n) = the sum over k of a(m,k) source(k,n). The source's element is what stands in picture
   from + k.at k_at + n.at n_at, of h x w elements, at  start + k k_step + n n_step  along both
   axes, or 0 outside. */
typedef struct ae__cu_conv_sums {
    int M;
    ae__cu_place K, N;          // sizes of k and n
    const float *a;             // a(m,k) = a[m a_m + k.at a_at + k.y a_y + k.x a_x]
    ptrdiff_t a_m, a_at;
    int a_y, a_x;
    const float *from;
    ptrdiff_t k_at, n_at;
    int h, w;
    ae__cu_place start, k_step, n_step;
} ae__cu_conv_sums;

/* Of an element of the source k says a part, and n the other: offset, line and column, to be added.
   Beyond the end of k or n there is no element: its line is so far outside that it stays there,
   whatever line of a picture is added. */
#define AE__CU_OUTSIDE 0x80000000u
typedef struct alignas(16) ae__cu_spot {
    ptrdiff_t at;
    unsigned y, x;              // may wrap around 0
} ae__cu_spot;

static __device__ ae__cu_spot ae__cu_spot_of(const ae__cu_place v, const ae__cu_place step,
                                             const ae__cu_place start, ptrdiff_t each, int end,
                                             int w)
{
    const int y = start.y + v.y * step.y, x = start.x + v.x * step.x;
    return {v.at * each + (ptrdiff_t)y * w + x, v.at < end ? (unsigned)y : AE__CU_OUTSIDE,
            (unsigned)x};
}

static __device__ ae__cu_spot ae__cu_k_spot(const ae__cu_conv_sums &s, const ae__cu_place k)
{
    return ae__cu_spot_of(k, s.k_step, {0, 0, 0}, s.k_at, s.K.at, s.w);
}

static __device__ ae__cu_spot ae__cu_n_spot(const ae__cu_conv_sums &s, ptrdiff_t n)
{
    return ae__cu_spot_of(ae__cu_place_of(n, s.N), s.n_step, s.start, s.n_at, s.N.at, s.w);
}

/* A block's tile of M x N sums: thread (ty,tx) has rows 4 ty + r and columns tx + c TX. K at a time
   pass through shared memory, in two buffers: one is multiplied while the next are on their way. */
template <int TY, int RN> struct ae__cu_conv_shape {
    enum {
        T = AE__CU_CONV_BLOCK, K = 16, M = 4 * TY, TX = T / TY, N = TX * RN,
        A = M + 4, B = N + 2,   // floats from k to k: rows of a for float4, no bank twice for b
        SPOTS = N > 2 * K ? N : 2 * K,
        SHARED = 2 * K * (A + B) * 4 + SPOTS * (int)sizeof(ae__cu_spot)
    };
};

template <int TY, int RN>
static __device__ __forceinline__ void ae__cu_conv_multiply(float (&sum)[4][RN], const float *a,
                                                            const float *b)
{
    typedef ae__cu_conv_shape<TY, RN> S;
    for (int k = 0; k < S::K; k++) {
        const float4 rows = *(const float4 *)(a + k * S::A);
        for (int c = 0; c < RN; c++) {
            const float v = b[k * S::B + c * S::TX];
            sum[0][c] += rows.x * v;
            sum[1][c] += rows.y * v;
            sum[2][c] += rows.z * v;
            sum[3][c] += rows.w * v;
        }
    }
}

/* The sums over k in [k,end), left in shared memory, row by row of the tile. Threads side by side
   read pixels side by side: these are k where BY_K, else n. What a thread's elements have in
   common, k or n, it keeps; the others, which it shares with other threads, it finds in a table:
   all n of the tile, or the k of a turn. */
template <int TY, int RN, bool BY_K>
static __device__ __forceinline__ const float *ae__cu_conv_tile(const ae__cu_conv_sums &s, int m0,
                                                                ptrdiff_t n0, ptrdiff_t k,
                                                                ptrdiff_t end)
{
    typedef ae__cu_conv_shape<TY, RN> S;
    enum { LINES = S::T / S::K, NA = (S::M + LINES - 1) / LINES, NB = S::K * S::N / S::T };
    enum { B_K = BY_K ? 0 : S::T / S::N, B_N = BY_K ? LINES : 0 };  // from element to element of b
    AE__DYN_SHARED(float, conv_tiles);
    float *tile_a = conv_tiles, *tile_b = conv_tiles + 2 * S::K * S::A, sum[4][RN] = {};
    ae__cu_spot *table = (ae__cu_spot *)(tile_b + 2 * S::K * S::B);
    const int t = (int)threadIdx.x, a_k = t % S::K, a_m = t / S::K;
    const int b_k = BY_K ? a_k : t / S::N, b_n = BY_K ? a_m : t % S::N;
    const ae__cu_place step = ae__cu_place_of((int)S::K, s.K);
    ae__cu_place at = ae__cu_place_of(k + a_k, s.K);
    ae__cu_spot own = ae__cu_n_spot(s, n0 + b_n);
    for (int n = t; BY_K && n < S::N; n += S::T) table[n] = ae__cu_n_spot(s, n0 + n);
    if (!BY_K && t < S::K) table[t] = ae__cu_k_spot(s, at);
    __syncthreads();
    const int tiles = (int)((end - k + S::K - 1) / S::K);
    for (int i = 0; i <= tiles; i++) {
        const int old = (i + 1) % 2 * S::K, now = i % 2 * S::K;
        float next_a[NA], next_b[NB];
        for (int r = 0; r < NA; r++) next_a[r] = 0.0f;
        for (int r = 0; r < NB; r++) next_b[r] = 0.0f;
        if (i < tiles) {
            const float *a = s.a + at.at * s.a_at + at.y * s.a_y + at.x * s.a_x;
            for (int r = 0; r < NA; r++)
                if (at.at < s.K.at && m0 + a_m + r * LINES < s.M)
                    next_a[r] = a[(m0 + a_m + r * LINES) * s.a_m];
            if (BY_K) own = ae__cu_k_spot(s, at);
            // both outside would add up to line 0
            const unsigned h = own.y == AE__CU_OUTSIDE ? 0 : (unsigned)s.h, w = (unsigned)s.w;
            const float *from = s.from + own.at;
            for (int r = 0; r < NB; r++) {
                const ae__cu_spot v = table[BY_K ? b_n + r * B_N : now + b_k + r * B_K];
                if (own.y + v.y < h && own.x + v.x < w) next_b[r] = from[v.at];
            }
            ae__cu_advance(&at, step, s.K);
            if (!BY_K && t < S::K) table[old + t] = ae__cu_k_spot(s, at);
        }
        if (i > 0)
            ae__cu_conv_multiply<TY, RN>(sum, tile_a + old * S::A + t / S::TX * 4,
                                         tile_b + old * S::B + t % S::TX);
        for (int r = 0; r < NA; r++)
            if (a_m + r * LINES < S::M) tile_a[(now + a_k) * S::A + a_m + r * LINES] = next_a[r];
        for (int r = 0; r < NB; r++)
            tile_b[(now + b_k + r * B_K) * S::B + b_n + r * B_N] = next_b[r];
        __syncthreads();
    }
    for (int r = 0; r < 4; r++)
        for (int c = 0; c < RN; c++)
            conv_tiles[(t / S::TX * 4 + r) * S::N + t % S::TX + c * S::TX] = sum[r][c];
    __syncthreads();
    return conv_tiles;
}

typedef struct ae__cu_conv {
    ae__conv s;                 // shapes, big, small, w, bias
    ae__conv_axis down, wide;   // of a gather: see ae.h
    int scatter;                // pictures: from small to big
    float *to, *dw, *db;
    const float *from, *dy;
    ae__cu_place dy_size;       // of one channel
    unsigned channels;          // of dy
    unsigned m_tiles, n_tiles;  // of pictures, per phase and group
    unsigned weight_m, weight_n, weight_tiles, weight_parts, weight_blocks;
    unsigned bias_parts, bias_blocks;
    ptrdiff_t piece;             // pixels of a part of the weights' sum
    float *parts;
    unsigned *counters;
} ae__cu_conv;

/* The axis of a scatter, from that of the gather g: the elements i stride + phase of big, and the
   taps that meet them. */
static __device__ ae__conv_axis ae__cu_conv_phase(const ae__conv_axis g, int phase)
{
    const int n = phase < g.in ? (g.in - 1 - phase) / g.step + 1 : 0;
    ae__conv_axis a = {n, phase, g.step, g.n, 0, 1, 1, 0, 0, 1};
    for (int p = 0; p < g.taps; p++) {
        const int from = phase - g.start - p * g.dilation;
        if (from % g.step) continue;
        if (a.taps == 0) {
            a.tap = p;
            a.start = from / g.step;
        } else if (a.taps == 1) {
            a.tap_step = p - a.tap;
            a.dilation = from / g.step - a.start;
        }
        a.taps++;
    }
    return a;
}

/* One tile of pictures.
   gather    small[o,i,j] = b[o] + sum over c,p,q of w[o,c,p,q] big[c, i s - pad + p d, ...]
   scatter   big[c,y,x] = b[c] + sum over o,p,q of w[o,c,p,q] small[o,i,j], i s - pad + p d = y */
template <int TY, int RN>
static __device__ __forceinline__ void ae__cu_conv_pictures(const ae__cu_conv &t, unsigned block,
                                                            const ae__cu_ending ending)
{
    typedef ae__cu_conv_shape<TY, RN> S;
    const ae_conv &o = t.s.o;
    const int taps = o.kernel_h * o.kernel_w;
    const int M = t.scatter ? t.s.C : t.s.O, D = t.scatter ? t.s.O : t.s.C;     // made, and read
    const unsigned tile = block / t.m_tiles, rest = tile / t.n_tiles;
    const int group = (int)rest % o.groups, phase = (int)rest / o.groups;
    const int m0 = (int)(block % t.m_tiles) * S::M;
    const ptrdiff_t n0 = (ptrdiff_t)(tile % t.n_tiles) * S::N;
    const ae__conv_axis h = t.scatter ? ae__cu_conv_phase(t.down, phase / o.stride_w) : t.down;
    const ae__conv_axis w = t.scatter ? ae__cu_conv_phase(t.wide, phase % o.stride_w) : t.wide;
    const ptrdiff_t plane = (ptrdiff_t)h.in * w.in;
    if (h.n < 1 || w.n < 1) return;
    ae__cu_conv_sums s = {
        M, {D, h.taps, w.taps}, {t.s.B, h.n, w.n},
        t.s.w + (ptrdiff_t)group * t.s.O * t.s.K + h.tap * o.kernel_w + w.tap,
        t.scatter ? taps : t.s.K, t.scatter ? t.s.K : taps,
        h.tap_step * o.kernel_w, w.tap_step,
        t.from + group * D * plane, plane, o.groups * D * plane, h.in, w.in,
        {0, h.start, w.start}, {0, h.dilation, w.dilation}, {0, h.step, w.step}
    };
    if (h.taps < 1 || w.taps < 1) s.K = {0, 1, 1};      // no tap meets these pixels
    const float *sums = ae__cu_conv_tile<TY, RN, false>(s, m0, n0, 0,
                                                        (ptrdiff_t)s.K.at * s.K.y * s.K.x);
    const int column = (int)threadIdx.x % S::N, m1 = M - m0 < S::M ? M - m0 : S::M;
    const ae__cu_place n = ae__cu_place_of(n0 + column, s.N);
    const ptrdiff_t W = t.scatter ? t.s.W : t.s.OW, area = (t.scatter ? t.s.H : t.s.OH) * W;
    const ptrdiff_t at = (h.to + n.y * h.to_step) * W + (w.to + n.x * w.to_step);
    for (int m = (int)threadIdx.x / S::N; m < m1 && n.at < t.s.B; m += S::T / S::N) {
        const int channel = group * M + m0 + m;
        const float v = sums[m * S::N + column];
        ae__cu_store(t.to, (size_t)(((ptrdiff_t)n.at * o.groups * M + channel) * area + at),
                     t.s.bias ? t.s.bias[channel] + v : v, ending);
    }
}

/* One part of a tile of  dw[o,c,p,q] += sum over i,j of small[o,i,j] big[c, i s - pad + p d, ...]
   for all pictures. The last block of a tile adds the parts, in their order. */
template <int TY, int RN>
static __device__ __forceinline__ void ae__cu_conv_weights(const ae__cu_conv &t, unsigned block)
{
    typedef ae__cu_conv_shape<TY, RN> S;
    const ae__conv &l = t.s;
    const unsigned tile = block % t.weight_tiles, part = block / t.weight_tiles;
    const int group = (int)(tile / t.weight_m / t.weight_n);
    const int m0 = (int)(tile % t.weight_m) * S::M;
    const int n0 = (int)(tile / t.weight_m % t.weight_n) * S::N;
    const ptrdiff_t O = l.O, C = l.C, N = l.N, plane = (ptrdiff_t)l.H * l.W, pixels = l.B * N;
    const ae__cu_conv_sums s = {
        l.O, {l.B, l.OH, l.OW}, {l.C, l.o.kernel_h, l.o.kernel_w},
        l.small + group * O * N, N, l.o.groups * O * N, l.OW, 1,
        l.big + group * C * plane, l.o.groups * C * plane, plane, l.H, l.W,
        {0, t.down.start, t.wide.start}, {0, t.down.step, t.wide.step},
        {0, t.down.dilation, t.wide.dilation}
    };
    const ptrdiff_t k = part * t.piece, end = k + t.piece < pixels ? k + t.piece : pixels;
    const float *sums = ae__cu_conv_tile<TY, RN, true>(s, m0, n0, k, end);
    const int rows = l.O - m0 < S::M ? l.O - m0 : S::M, columns = l.K - n0 < S::N ? l.K - n0 : S::N;
    const ptrdiff_t weights = l.o.groups * O * l.K;
    const ptrdiff_t at = (group * O + m0) * l.K + n0;       // of the tile's first
    for (int e = (int)threadIdx.x; e < rows * columns; e += S::T) {
        const int m = e / columns, n = e % columns;
        const float v = sums[m * S::N + n];
        if (t.weight_parts > 1) t.parts[part * weights + at + (ptrdiff_t)m * l.K + n] = v;
        else t.dw[at + (ptrdiff_t)m * l.K + n] += v;
    }
    if (t.weight_parts < 2 || !ae__cu_last_block(t.counters + tile, t.weight_parts)) return;
    for (int e = (int)threadIdx.x; e < rows * columns; e += S::T) {
        const ptrdiff_t i = at + (ptrdiff_t)(e / columns) * l.K + e % columns;
        float v = 0.0f;
        const float *from = t.parts + i;
        for (unsigned p = 0; p < t.weight_parts; p += 16) {     // 16 loads are on their way at once
            float next[16];
            for (unsigned j = 0; j < 16; j++)
                next[j] = p + j < t.weight_parts ? from[(p + j) * (unsigned)weights] : 0.0f;
            for (unsigned j = 0; j < 16; j++) v += next[j];
        }
        t.dw[i] += v;
    }
}

// One part of db[c] += the sum of dy's channel c over all pictures.
static __device__ __forceinline__ void ae__cu_conv_bias(const ae__cu_conv &t, unsigned block)
{
    const unsigned channel = block % t.channels, part = block / t.channels, parts = t.bias_parts;
    const ae__cu_place size = t.dy_size;
    const ae__cu_place step = ae__cu_place_of((int)parts * AE__CU_CONV_BLOCK, size);
    ae__cu_place i = ae__cu_place_of((int)(part * AE__CU_CONV_BLOCK + threadIdx.x), size);
    ae__cu_sum sum = {0.0f, 0.0f};
    for (; i.at < size.at; ae__cu_advance(&i, step, size))
        ae__cu_add(&sum, t.dy[(((ptrdiff_t)i.at * t.channels + channel) * size.y + i.y) * size.x
                              + i.x]);
    float v = ae__cu_block_sum(sum.sum + sum.lost);
    if (parts > 1) {
        float *mine = t.parts + AE__CU_PARTS - AE__CU_CONV_BIAS + channel * parts;
        unsigned *counter = t.counters + AE__CU_COUNTERS - AE__CU_CONV_BIAS / 2 + channel;
        if (threadIdx.x == 0) mine[part] = v;
        if (!ae__cu_last_block(counter, parts)) return;
        v = ae__cu_block_sum(threadIdx.x < parts ? mine[threadIdx.x] : 0.0f);
    }
    if (threadIdx.x == 0) t.db[channel] += v;
}

template <int TY, int RN>
static __global__ void __launch_bounds__(AE__CU_CONV_BLOCK, RN > 2 ? 2 : 3)
ae__k_conv(const ae__cu_conv t, const ae__cu_ending ending)
{
    const unsigned block = blockIdx.x, sums = t.weight_blocks + t.bias_blocks;
    if (block < t.weight_blocks && t.s.O <= 16) ae__cu_conv_weights<AE__CU_CONV_DW16>(t, block);
    else if (block < t.weight_blocks) ae__cu_conv_weights<AE__CU_CONV_DW>(t, block);
    else if (block < sums) ae__cu_conv_bias(t, block - t.weight_blocks);
    else ae__cu_conv_pictures<TY, RN>(t, block - sums, ending);
}

// The blocks of weights and bias, and how many parts their sums have: by the shapes alone.
static void ae__cu_conv_parts(ae__cu_conv *t)
{
    typedef ae__cu_conv_shape<AE__CU_CONV_DW> S;
    const size_t weights = (size_t)((ptrdiff_t)t->s.o.groups * t->s.O * t->s.K);
    const size_t pixels = (size_t)((ptrdiff_t)t->s.B * t->s.N);
    const size_t elements = (size_t)((ptrdiff_t)t->dy_size.at * t->dy_size.y * t->dy_size.x);
    t->weight_m = (unsigned)((t->s.O - 1) / S::M + 1);
    t->weight_n = (unsigned)((t->s.K - 1) / S::N + 1);
    t->weight_tiles = (unsigned)t->s.o.groups * t->weight_m * t->weight_n;
    size_t parts = ae__min(256 / t->weight_tiles, (AE__CU_PARTS - AE__CU_CONV_BIAS) / weights);
    parts = ae__min(parts, pixels / 128);
    t->piece = (ptrdiff_t)ae__round_up((pixels - 1) / (parts ? parts : 1) + 1, S::K);
    t->weight_parts = (unsigned)((pixels - 1) / (size_t)t->piece + 1);
    t->weight_blocks = t->dw ? t->weight_tiles * t->weight_parts : 0;
    parts = ae__min(ae__min(32, elements / 2048), AE__CU_CONV_BIAS / t->channels);
    t->bias_parts = (unsigned)(parts ? parts : 1);
    t->bias_blocks = t->db ? t->channels * t->bias_parts : 0;
}

template <int TY, int RN> static void ae__cu_conv_run(ae__cuda *c, ae__cu_conv *t)
{
    typedef ae__cu_conv_shape<TY, RN> S;
    const ae__conv &s = t->s;
    const size_t own = S::SHARED, weights = ae__cu_conv_shape<AE__CU_CONV_DW>::SHARED;
    const ptrdiff_t h = t->scatter ? (s.H - 1) / s.o.stride_h + 1 : s.OH;
    const ptrdiff_t w = t->scatter ? (s.W - 1) / s.o.stride_w + 1 : s.OW;
    t->m_tiles = (unsigned)(((t->scatter ? s.C : s.O) - 1) / S::M + 1);
    t->n_tiles = (unsigned)((s.B * h * w - 1) / S::N + 1);
    unsigned blocks = t->to ? t->m_tiles * t->n_tiles * (unsigned)s.o.groups : 0;
    if (t->scatter) blocks *= (unsigned)(s.o.stride_h * s.o.stride_w);      // phases
    blocks += t->weight_blocks + t->bias_blocks;
    if (blocks)
        AE__CU_LAUNCH(c, (ae__k_conv<TY, RN>), blocks, AE__CU_CONV_BLOCK,
                      own > weights ? own : weights, *t, c->ending);
}

// Of the transposed layer where kind is 1; backward where there is no y.
static ae__conv ae__cu_conv_shapes(const ae__cu_call *q)
{
    ae__conv (*of)(const ae_exec *, const float *, const ae_conv *, int, int, int, int, int) =
        q->kind ? ae__conv_to_x : ae__conv_of_x;
    ae__conv s = of(NULL, q->w, &q->conv, q->B, q->C, q->H, q->W, q->O);
    s.big = q->kind ? q->dy : q->x;
    s.small = q->kind ? q->x : q->dy;
    s.bias = q->b;
    return s;
}

static void ae__cu_conv_launch(ae__cuda *c)
{
    const ae__cu_call *q = &c->call_waiting;
    ae__cu_conv t;
    memset(&t, 0, sizeof t);
    t.s = ae__cu_conv_shapes(q);
    t.down = ae__conv_gather_axis(&t.s, 0);
    t.wide = ae__conv_gather_axis(&t.s, 1);
    t.scatter = (q->kind != 0) == (q->y != NULL);
    t.to = q->y ? q->y : q->dx;
    t.from = q->y ? q->x : q->dy;
    t.dw = q->dw;
    t.db = q->db;
    t.dy = q->dy;
    t.dy_size = {q->B, q->kind ? t.s.H : t.s.OH, q->kind ? t.s.W : t.s.OW};
    t.channels = (unsigned)q->O;
    t.parts = c->parts;
    t.counters = c->counters;
    ae__cu_conv_parts(&t);
    const int M = t.scatter ? t.s.C : t.s.O;        // the fewer rows, the more columns
    if (M <= 4) ae__cu_conv_run<1, 1>(c, &t);
    else if (M <= 16) ae__cu_conv_run<4, 2>(c, &t);
    else if (M <= 32) ae__cu_conv_run<8, 2>(c, &t);
    else ae__cu_conv_run<16, 4>(c, &t);
}

// An activation may join y, or its slope dx.
static void ae__cu_conv_wait(const ae_exec *e, const ae__cu_call &call)
{
    ae__cuda *c = ae__cu_begin(e);
    const ae__conv s = ae__cu_conv_shapes(&call);
    const ptrdiff_t big = (ptrdiff_t)s.C * s.H * s.W, small = (ptrdiff_t)s.O * s.N;
    const ptrdiff_t n = (call.kind != 0) == (call.y != NULL) ? big : small;
    c->call_waiting = call;
    ae__cu_wait(c, ae__cu_conv_launch, call.y ? call.y : call.dx,
                (size_t)(s.B * s.o.groups * n));
    ae__cu_reads(c, 0, s.big, (size_t)(s.B * s.o.groups * big));
    ae__cu_reads(c, 1, s.small, (size_t)(s.B * s.o.groups * small));
}

static ae__cu_call ae__cu_conv_call(int kind, const float *x, const float *w, const ae_conv *g,
                                    int B, int C, int H, int W, int O)
{
    ae__cu_call q;
    memset(&q, 0, sizeof q);
    q.kind = kind;
    q.x = x;
    q.w = w;
    q.B = B;
    q.C = C;
    q.H = H;
    q.W = W;
    q.O = O;
    q.conv = ae_conv_defaults(g);
    return q;
}

static void ae__cu_conv2d_forward(const ae_exec *e, float *y, const float *x, const float *w,
                                  const float *b, const ae_conv *g, int B, int C, int H, int W,
                                  int O)
{
    ae__cu_call q = ae__cu_conv_call(0, x, w, g, B, C, H, W, O);
    q.y = y;
    q.b = b;
    ae__cu_conv_wait(e, q);
}

static void ae__cu_conv_transpose2d_forward(const ae_exec *e, float *y, const float *x,
                                            const float *w, const float *b, const ae_conv *g,
                                            int B, int C, int H, int W, int O)
{
    ae__cu_call q = ae__cu_conv_call(1, x, w, g, B, C, H, W, O);
    q.y = y;
    q.b = b;
    ae__cu_conv_wait(e, q);
}

#ifndef AE_NO_TRAIN
static void ae__cu_conv_gradients(const ae_exec *e, float *dx, float *dw, float *db,
                                  const float *dy, ae__cu_call q)
{
    q.dx = dx;
    q.dw = dw;
    q.db = db;
    q.dy = dy;
    ae__cu_conv_wait(e, q);
}

static void ae__cu_conv2d_backward(const ae_exec *e, float *dx, float *dw, float *db,
                                   const float *dy, const float *x, const float *w,
                                   const ae_conv *g, int B, int C, int H, int W, int O)
{
    ae__cu_conv_gradients(e, dx, dw, db, dy, ae__cu_conv_call(0, x, w, g, B, C, H, W, O));
}

static void ae__cu_conv_transpose2d_backward(const ae_exec *e, float *dx, float *dw, float *db,
                                             const float *dy, const float *x, const float *w,
                                             const ae_conv *g, int B, int C, int H, int W, int O)
{
    ae__cu_conv_gradients(e, dx, dw, db, dy, ae__cu_conv_call(1, x, w, g, B, C, H, W, O));
}
#endif

/* ---------------------------------------------------------------------------
   >>pool   pooling, unpooling, upsampling, padding and cropping              */

/* All these layers turn planes of h x w into planes of another size; a thread makes one element of
   the result, so nothing is added by two. Where an element stands: */
typedef struct ae__cu_pixel {
    size_t plane;
    int row, column;
} ae__cu_pixel;

static __device__ ae__cu_pixel ae__cu_pixel_of(size_t k, int h, int w)
{
    const size_t size = (size_t)h * (size_t)w, plane = k / size;
    const unsigned at = (unsigned)(k - plane * size);
    const ae__cu_pixel p = {plane, (int)(at / (unsigned)w), (int)(at % (unsigned)w)};
    return p;
}

// Of the window of output i along one axis what is inside the picture: from first up to end.
typedef struct ae__cu_window {
    int first, end;
} ae__cu_window;

static __device__ ae__cu_window ae__cu_window_of(int i, int kernel, int stride, int pad,
                                                 int dilation, int size)
{
    ae__cu_window w = {i * stride - pad, i * stride - pad + (kernel - 1) * dilation + 1};
    while (w.first < 0) w.first += dilation;
    if (w.end > size) w.end = size;
    return w;
}

static __global__ void ae__k_max_pool(float *y, int32_t *index, const float *x, const ae_pool g,
                                      size_t n, int H, int W, int OH, int OW)
{
    AE__CU_EACH(k, n) {
        const ae__cu_pixel p = ae__cu_pixel_of(k, OH, OW);
        const ae__cu_window r = ae__cu_window_of(p.row, g.kernel_h, g.stride_h, g.pad_h,
                                                 g.dilation_h, H);
        const ae__cu_window c = ae__cu_window_of(p.column, g.kernel_w, g.stride_w, g.pad_w,
                                                 g.dilation_w, W);
        const float *plane = x + p.plane * ((size_t)H * (size_t)W);
        int best = min(r.first, H - 1) * W + min(c.first, W - 1);
        float most = plane[best];
        for (int row = r.first; row < r.end; row += g.dilation_h)
            for (int column = c.first; column < c.end; column += g.dilation_w) {
                const float v = plane[row * W + column];
                if (!(v > most || v != v)) continue;        // a NaN wins, as on the CPU
                most = v;
                best = row * W + column;
            }
        y[k] = most;
        if (index) index[k] = best;
    }
}

static void ae__cu_max_pool2d_forward(const ae_exec *e, float *y, int32_t *index, const float *x,
                                      const ae_pool *g, int B, int C, int H, int W)
{
    ae__cuda *c = ae__cu_begin(e);
    const int OH = ae_conv_size(H, g->kernel_h, g->stride_h, g->pad_h, g->dilation_h);
    const int OW = ae_conv_size(W, g->kernel_w, g->stride_w, g->pad_w, g->dilation_w);
    const size_t n = (size_t)B * (size_t)C * (size_t)OH * (size_t)OW;
    AE__CU_LAUNCH(c, ae__k_max_pool, ae__cu_blocks(n), AE_CUDA_BLOCK, 0, y, index, x, *g, n, H, W,
                  OH, OW);
}

#define AE__CU_BIDS 4096        // elements of a piece of a plane, two ints of shared memory each

/* Each plane: out = 0, then out[index[i]] += in[i] for all i in order if `add`; else = in[i], and
   the last of equals stays. An index tells the place, but no place knows who points to it. So a
   block owns a piece of a plane, and in each round all i bid for their places: the lowest bid that
   was not served yet wins (a minimum of integers, the same in any order of threads), and the
   place's thread takes it. A round follows while some place had two bidders. */
static __global__ void ae__k_place(float *out, const float *in, const int32_t *index, int add,
                                   size_t planes, int in_size, int out_size, int piece,
                                   const ae__cu_ending ending)
{
    AE__DYN_SHARED(int, lowest);                    // bid for each place in this round
    AE__SHARED(int, again, [1]);
    const int none = 0x7fffffff, pieces = (out_size - 1) / piece + 1, step = (int)blockDim.x;
    int *served = lowest + piece;                   // the bid before
    for (size_t unit = blockIdx.x; unit < planes * (size_t)pieces; unit += gridDim.x) {
        const size_t plane = unit / (size_t)pieces;
        const int first = (int)(unit % (size_t)pieces) * piece;
        const int count = min(piece, out_size - first);
        const float *v = in + plane * (size_t)in_size;
        const int32_t *to = index + plane * (size_t)in_size;
        float *o = out + plane * (size_t)out_size + first;
        for (int p = (int)threadIdx.x; p < count; p += step) {
            lowest[p] = none;
            served[p] = -1;
            o[p] = 0.0f;
        }
        do {
            __syncthreads();
            if (threadIdx.x == 0) again[0] = 0;
            __syncthreads();
            for (int i = (int)threadIdx.x; i < in_size; i += step) {
                const int p = to[i] - first, bid = add ? i : in_size - 1 - i;
                if (p < 0 || p >= count || bid <= served[p]) continue;
                if (atomicMin(&lowest[p], bid) != none && add) atomicMax(&again[0], 1);
            }
            __syncthreads();
            for (int p = (int)threadIdx.x; p < count; p += step) {
                const int bid = lowest[p];
                if (bid == none) continue;
                o[p] = add ? o[p] + v[bid] : v[in_size - 1 - bid];
                served[p] = bid;
                lowest[p] = none;
            }
        } while (again[0]);
        for (int p = (int)threadIdx.x; p < count && ending.kind != AE__CU_PLAIN; p += step)
            ae__cu_store(out, (size_t)(o - out) + (size_t)p, o[p], ending);
    }
}

static void ae__cu_place_launch(ae__cuda *c)
{
    const ae__cu_call *q = &c->call_waiting;
    const int in_size = q->D, out_size = q->O;
    const int piece = out_size < AE__CU_BIDS ? out_size : AE__CU_BIDS;
    const size_t planes = (size_t)q->B * (size_t)q->C;
    const size_t pieces = (size_t)((out_size - 1) / piece + 1);
    const int most = piece > in_size ? piece : in_size;
    const int block = most < AE_CUDA_BLOCK ? (most + 31) / 32 * 32 : AE_CUDA_BLOCK;
    AE__CU_LAUNCH(c, ae__k_place, ae__cu_blocks(planes * pieces * AE_CUDA_BLOCK), (unsigned)block,
                  2 * (size_t)piece * sizeof(int), q->y, q->x, q->index, q->kind, planes, in_size,
                  out_size, piece, c->ending);
}

// It waits: an activation may join it, or its slope.
static void ae__cu_place_wait(const ae_exec *e, float *out, const float *in, const int32_t *index,
                              int add, int B, int C, int in_size, int out_size)
{
    ae__cuda *c = ae__cu_begin(e);
    ae__cu_call *q = &c->call_waiting;
    const size_t planes = (size_t)B * (size_t)C;
    memset(q, 0, sizeof *q);
    q->y = out;
    q->x = in;
    q->index = index;
    q->kind = add;
    q->B = B;
    q->C = C;
    q->D = in_size;
    q->O = out_size;
    ae__cu_wait(c, ae__cu_place_launch, out, planes * (size_t)out_size);
    ae__cu_reads(c, 0, in, planes * (size_t)in_size);
    ae__cu_reads(c, 1, (const float *)(const void *)index, planes * (size_t)in_size);
}

static void ae__cu_max_unpool2d_forward(const ae_exec *e, float *y, const float *x,
                                        const int32_t *index, int B, int C, int H, int W, int OH,
                                        int OW)
{
    ae__cu_place_wait(e, y, x, index, 0, B, C, H * W, OH * OW);
}

#ifndef AE_NO_TRAIN
// y = x[index]:   dx[index] += dy
static void ae__cu_max_pool2d_backward(const ae_exec *e, float *dx, const float *dy,
                                       const int32_t *index, int B, int C, int H, int W, int OH,
                                       int OW)
{
    ae__cu_place_wait(e, dx, dy, index, 1, B, C, OH * OW, H * W);
}

// y[index] = x:   dx = dy[index]
static __global__ void ae__k_max_unpool_grad(float *dx, const float *dy, const int32_t *index,
                                             size_t n, int size, int out_size)
{
    AE__CU_EACH(k, n) {
        const int at = index[k];
        const float *plane = dy + k / (size_t)size * (size_t)out_size;
        dx[k] = at >= 0 && at < out_size ? plane[at] : 0.0f;
    }
}

static void ae__cu_max_unpool2d_backward(const ae_exec *e, float *dx, const float *dy,
                                         const int32_t *index, int B, int C, int H, int W, int OH,
                                         int OW)
{
    ae__cuda *c = ae__cu_begin(e);
    const size_t n = (size_t)B * (size_t)C * (size_t)H * (size_t)W;
    AE__CU_LAUNCH(c, ae__k_max_unpool_grad, ae__cu_blocks(n), AE_CUDA_BLOCK, 0, dx, dy, index, n,
                  H * W, OH * OW);
}
#endif

/* The mean of windows and upsampling are sums over rows times sums over columns, each weighted:
   y[i] = sum of share(p, i) x[p] along an axis; and backward the same shares the other way round,
   dx[p] = sum of share(p, i) dy[i]. So one kernel does all of them.
   A bilinear y[i] samples x at s = (i + 0.5) in/out - 0.5, held inside: 2 out s is a whole number,
   no digit is lost. The ratio in/out of the nearest is rounded by the host, as in PyTorch. */
enum { AE__CU_MEAN = AE_BILINEAR + 1 };
typedef struct ae__cu_axis {
    int kind, back, in, out;    // elements of x and of y
    int kernel, stride, pad, exclude_pad;
    float ratio, part;          // part: 1 / (2 out)
} ae__cu_axis;

static __device__ int ae__cu_nearest(const ae__cu_axis a, int i)
{
    return min((int)__fmul_rn((float)i, a.ratio), a.in - 1);
}

static __device__ int64_t ae__cu_sample(const ae__cu_axis a, int i)
{
    const int64_t s = (2 * (int64_t)i + 1) * a.in - a.out, end = 2 * (int64_t)a.out * (a.in - 1);
    return s < 0 ? 0 : s > end ? end : s;
}

// The share of x[p] in y[i], which is near it: bilinear, 1 - the distance from x[p] to the sample.
static __device__ float ae__cu_share(const ae__cu_axis a, int p, int i)
{
    if (a.kind == AE_NEAREST) return ae__cu_nearest(a, i) == p ? 1.0f : 0.0f;
    if (a.kind == AE__CU_MEAN) {
        const ae__cu_window w = ae__cu_window_of(i, a.kernel, a.stride, a.pad, 1, a.in);
        return 1.0f / (float)(a.exclude_pad ? w.end - w.first : a.kernel);
    }
    const int64_t whole = 2 * (int64_t)a.out, s = ae__cu_sample(a, i) - p * whole;
    const int64_t left = whole - (s < 0 ? -s : s);
    return left > 0 ? (float)left * a.part : 0.0f;
}

// What element i of the result is made of: of x, or backward of y (upsampling: one more on either
// side, in case of rounding).
static __device__ ae__cu_window ae__cu_reach(const ae__cu_axis a, int i)
{
    const bool nearest = a.kind == AE_NEAREST;
    if (a.kind == AE__CU_MEAN && !a.back)
        return ae__cu_window_of(i, a.kernel, a.stride, a.pad, 1, a.in);
    int64_t first, end;
    if (a.kind == AE__CU_MEAN) {
        first = i + a.pad < a.kernel ? 0 : (i + a.pad - a.kernel) / a.stride + 1;
        end = (i + a.pad) / a.stride + 1;
    } else if (a.back) {
        first = (2 * (int64_t)i - 1 + nearest) * a.out / (2 * (int64_t)a.in) - 1;
        end = ((2 * (int64_t)i + 3 - nearest) * a.out - 1) / (2 * (int64_t)a.in) + 2;
    } else {
        const int64_t s = nearest ? 0 : ae__cu_sample(a, i);
        first = nearest ? ae__cu_nearest(a, i) : s / (2 * (int64_t)a.out);
        end = first + 1 + (s > 0);
    }
    const int n = a.back ? a.out : a.in;
    const ae__cu_window w = {first > 0 ? (int)first : 0, end < n ? (int)end : n};
    return w;
}

// `lanes` threads share an element, 1 or a warp: each takes every so many-th column.
static __global__ void ae__k_resample(float *out, const float *in, const ae__cu_axis v,
                                      const ae__cu_axis h, size_t n, int lanes)
{
    const int lane = lanes > 1 ? (int)threadIdx.x % 32 : 0, W = h.back ? h.out : h.in;
    const size_t size = (size_t)(v.back ? v.out : v.in) * (size_t)W;
    AE__CU_EACH(t, n * (size_t)lanes) {
        const size_t k = t / (unsigned)lanes;
        const ae__cu_pixel p = ae__cu_pixel_of(k, v.back ? v.in : v.out, h.back ? h.in : h.out);
        const ae__cu_window rows = ae__cu_reach(v, p.row), columns = ae__cu_reach(h, p.column);
        float sum = 0.0f;
        for (int i = rows.first; i < rows.end; i++) {
            const float down = v.back ? ae__cu_share(v, p.row, i) : ae__cu_share(v, i, p.row);
            const float *line = in + p.plane * size + (size_t)i * (size_t)W;
            float part = 0.0f;
            if (v.back && down == 0.0f) continue;       // a neighbour, perhaps NaN
            for (int j = columns.first + lane; j < columns.end; j += lanes) {
                const float a = h.back ? ae__cu_share(h, p.column, j)
                                       : ae__cu_share(h, j, p.column);
                if (!h.back || a > 0.0f) part += line[j] * a;
            }
            sum += part * down;
        }
        for (int step = lanes / 2; step > 0; step /= 2)
            sum += __shfl_xor_sync(0xffffffffu, sum, step);
        if (lane == 0) out[k] = sum;
    }
}

static void ae__cu_resample(const ae_exec *e, float *out, const float *in, const ae__cu_axis v,
                            const ae__cu_axis h, int B, int C)
{
    ae__cuda *c = ae__cu_begin(e);
    const size_t rows = (size_t)(v.back ? v.in : v.out), columns = (size_t)(h.back ? h.in : h.out);
    const size_t n = (size_t)B * (size_t)C * rows * columns;
    const int lanes = !v.back && (h.kernel >= 16 || v.kernel * h.kernel >= 64) ? 32 : 1;
    AE__CU_LAUNCH(c, ae__k_resample, ae__cu_blocks(n * (size_t)lanes), AE_CUDA_BLOCK, 0, out, in, v,
                  h, n, lanes);
}

static void ae__cu_mean(const ae_exec *e, float *out, const float *in, const ae_pool *g, int back,
                        int B, int C, int H, int W)
{
    const int OH = ae_conv_size(H, g->kernel_h, g->stride_h, g->pad_h, 1);
    const int OW = ae_conv_size(W, g->kernel_w, g->stride_w, g->pad_w, 1);
    const ae__cu_axis v = {AE__CU_MEAN, back, H, OH, g->kernel_h, g->stride_h, g->pad_h,
                           g->exclude_pad, 0.0f, 0.0f};
    const ae__cu_axis h = {AE__CU_MEAN, back, W, OW, g->kernel_w, g->stride_w, g->pad_w,
                           g->exclude_pad, 0.0f, 0.0f};
    ae__cu_resample(e, out, in, v, h, B, C);
}

static ae__cu_axis ae__cu_axis_of(int kind, int back, int in, int out)
{
    const ae__cu_axis a = {kind, back, in, out, 0, 0, 0, 0, (float)in / (float)out,
                           0.5f / (float)out};
    return a;
}

static void ae__cu_avg_pool2d_forward(const ae_exec *e, float *y, const float *x, const ae_pool *g,
                                      int B, int C, int H, int W)
{
    ae__cu_mean(e, y, x, g, 0, B, C, H, W);
}

static void ae__cu_upsample2d_forward(const ae_exec *e, float *y, const float *x,
                                      ae_upsample_kind kind, int B, int C, int H, int W, int OH,
                                      int OW)
{
    ae__cu_resample(e, y, x, ae__cu_axis_of(kind, 0, H, OH), ae__cu_axis_of(kind, 0, W, OW), B, C);
}

#ifndef AE_NO_TRAIN
static void ae__cu_avg_pool2d_backward(const ae_exec *e, float *dx, const float *dy,
                                       const ae_pool *g, int B, int C, int H, int W)
{
    ae__cu_mean(e, dx, dy, g, 1, B, C, H, W);
}

static void ae__cu_upsample2d_backward(const ae_exec *e, float *dx, const float *dy,
                                       ae_upsample_kind kind, int B, int C, int H, int W, int OH,
                                       int OW)
{
    ae__cu_resample(e, dx, dy, ae__cu_axis_of(kind, 1, H, OH), ae__cu_axis_of(kind, 1, W, OW), B,
                    C);
}
#endif

static __global__ void ae__k_pad(float *y, const float *x, int top, int left, float value,
                                 size_t n, int H, int W, int OH, int OW)
{
    AE__CU_EACH(k, n) {
        const ae__cu_pixel p = ae__cu_pixel_of(k, OH, OW);
        const int row = p.row - top, column = p.column - left;
        const bool inside = row >= 0 && row < H && column >= 0 && column < W;
        y[k] = inside ? x[(p.plane * (size_t)H + (size_t)row) * (size_t)W + (size_t)column] : value;
    }
}

static void ae__cu_pad2d_forward(const ae_exec *e, float *y, const float *x, int top, int bottom,
                                 int left, int right, float value, int B, int C, int H, int W)
{
    ae__cuda *c = ae__cu_begin(e);
    const int OH = H + top + bottom, OW = W + left + right;
    const size_t n = (size_t)B * (size_t)C * (size_t)OH * (size_t)OW;
    AE__CU_LAUNCH(c, ae__k_pad, ae__cu_blocks(n), AE_CUDA_BLOCK, 0, y, x, top, left, value, n, H,
                  W, OH, OW);
}

#ifndef AE_NO_TRAIN
static void ae__cu_pad2d_backward(const ae_exec *e, float *dx, const float *dy, int top,
                                  int bottom, int left, int right, int B, int C, int H, int W)
{
    ae__cu_pad2d_forward(e, dx, dy, -top, -bottom, -left, -right, 0.0f, B, C, H + top + bottom,
                         W + left + right);
}
#endif

/* ---------------------------------------------------------------------------
   >>norm   batch, layer and group normalisation                              */

/* As on the CPU, what is normalised is C channels, each of B rows of P elements, C P apart; for
   group normalisation they are the groups of all samples, of one row each. A block does a channel,
   or 32 channels where P is 1, so that it reads whole lines of memory. gamma and beta have an entry
   for every `pixels` elements, and begin again after `period` channels. */
typedef struct ae__cu_norms {
    size_t C, units;                // units: blocks' worth of work
    int B, P, each, wide;           // each: channels of a block; wide: threads on a row
    int period, pixels, groups;     // groups: of a sample, if a row has statistics of its own
    float *y, *mean, *rstd, *run_mean, *run_var, *dgamma, *dbeta;   // y: dx in backward
    const float *x, *dy, *in_mean, *in_rstd, *gamma, *beta;
    float momentum, eps;
} ae__cu_norms;

static ae__cu_norms ae__cu_norms_of(const float *x, const float *gamma, size_t B, size_t C,
                                    size_t P)
{
    ae__cu_norms t;
    memset(&t, 0, sizeof t);
    t.x = x;
    t.gamma = gamma;
    t.C = C;
    t.B = (int)B;
    t.P = t.pixels = (int)P;
    t.period = (int)C;
    t.each = P == 1 ? 32 : 1;
    t.units = (C + (size_t)t.each - 1) / (size_t)t.each;
    return t;
}

// Threads a block, a power of two: `block`, or more up to `most`, about one for four elements.
static unsigned ae__cu_norm_block(const ae__cu_norms *t, unsigned block, unsigned most)
{
    const size_t n = (size_t)t->B * (size_t)t->P * (size_t)t->each;
    while (block * 4 < n && block * 2 <= most && block < 1024) block *= 2;
    return block;
}

static void ae__cu_norm_width(ae__cu_norms *t, unsigned block)
{
    for (t->wide = 1; t->wide < t->P * t->each && t->wide < (int)block;) t->wide *= 2;
}

// The channel of a thread, and where it begins. With 32 of them, some threads may have none.
typedef struct ae__cu_channel {
    size_t i;
    int row, p;
} ae__cu_channel;

static __device__ ae__cu_channel ae__cu_channel_of(const ae__cu_norms t, size_t unit)
{
    const int id = (int)threadIdx.x, many = t.each > 1;
    ae__cu_channel c = {unit * (size_t)t.each, id / t.wide, id % t.wide};
    if (many) c.i += (size_t)c.p;
    if (many) c.p = 0;
    if (c.i >= t.C) c.row = t.B;
    return c;
}

// for (each element of this thread): `at` in x, p in its row.
#define AE__CU_CHANNEL(t, c, row, p, at)                                                    \
    for (int row = (c).row; row < (t).B; row += (int)blockDim.x / (t).wide)                 \
        for (size_t p = (size_t)(c).p, at = ((size_t)row * (t).C + (c).i) * (size_t)(t).P + p; \
             p < (size_t)(t).P; p += (size_t)(t).wide, at += (size_t)(t).wide)

// The sum over the threads of a channel, in each of them: over the block, or, with 32 channels,
// over the threads of the same lane. All threads call it.
static __device__ float ae__cu_channel_sum(const ae__cu_sum s, int each)
{
    AE__SHARED(float, part, [32][32]);
    const int lane = (int)threadIdx.x % 32, warps = (int)blockDim.x / 32;
    float v = s.sum + s.lost;
    if (each == 1) return ae__cu_block_sum(v);
    __syncthreads();            // may still be read from the sum before
    part[threadIdx.x / 32][lane] = v;
    __syncthreads();
    v = 0.0f;
    for (int i = 0; i < warps; i++) v += part[i][lane];
    return v;
}

// Which gamma and beta: they are the same for all of a channel, or differ with p.
static __device__ bool ae__cu_one_gamma(const ae__cu_norms t) { return t.P == t.pixels; }

static __device__ size_t ae__cu_gamma_of(const ae__cu_norms t, unsigned first, size_t p)
{
    const unsigned k = first * (unsigned)t.P + (unsigned)p;
    return t.pixels == 1 ? k : k / (unsigned)t.pixels;
}

/* y = (x - mean) rstd gamma + beta. Two passes for mean and variance: what the first missed of the
   mean, rounded, is in the sums of the second. */
static __global__ void __launch_bounds__(1024, 1) ae__k_norm(const ae__cu_norms t)
{
    const bool one = ae__cu_one_gamma(t);
    const float n = (float)((size_t)t.B * (size_t)t.P);
    for (size_t unit = blockIdx.x; unit < t.units; unit += gridDim.x) {
        const ae__cu_channel c = ae__cu_channel_of(t, unit);
        const unsigned first = (unsigned)(c.i % (size_t)t.period);
        ae__cu_sum s = {0.0f, 0.0f}, s2 = {0.0f, 0.0f};
        AE__CU_CHANNEL(t, c, row, p, at) ae__cu_add(&s, t.x[at]);
        const float m = ae__cu_channel_sum(s, t.each) / n;
        s.sum = s.lost = 0.0f;
        AE__CU_CHANNEL(t, c, row, p, at) {
            const float d = t.x[at] - m;
            ae__cu_add(&s, d);
            ae__cu_add(&s2, d * d);
        }
        const float missed = ae__cu_channel_sum(s, t.each) / n, mean = m + missed;
        float variance = ae__cu_channel_sum(s2, t.each) / n - missed * missed;
        if (variance < 0.0f) variance = 0.0f;
        const float rstd = 1.0f / sqrtf(variance + t.eps);
        const float a = rstd * (one && t.gamma && c.row < t.B ? t.gamma[first] : 1.0f);
        const float rest = (m - mean + missed) * a;         // what `mean`, rounded, lacks
        const float b = (one && t.beta && c.row < t.B ? t.beta[first] : 0.0f) - rest;
        AE__CU_CHANNEL(t, c, row, p, at) {
            const size_t i = one ? 0 : ae__cu_gamma_of(t, first, p);
            const float h = (t.x[at] - mean) * a + b, y = one || !t.gamma ? h : h * t.gamma[i];
            t.y[at] = one || !t.beta ? y : y + t.beta[i];
        }
        if ((int)threadIdx.x >= t.each || c.i >= t.C) continue;
        t.mean[c.i] = mean;
        t.rstd[c.i] = rstd;
        if (!t.run_mean) continue;
        const float old = 1.0f - t.momentum;
        t.run_mean[c.i] = old * t.run_mean[c.i] + t.momentum * mean;
        t.run_var[c.i] = old * t.run_var[c.i] + t.momentum * variance * (n / (n - 1.0f));
    }
}

static void ae__cu_norm_run(const ae_exec *e, ae__cu_norms *t)
{
    ae__cuda *c = ae__cu_begin(e);
    const unsigned block = ae__cu_norm_block(t, 32, 4 * AE_CUDA_BLOCK);
    ae__cu_norm_width(t, block);
    AE__CU_LAUNCH(c, ae__k_norm, ae__cu_blocks(t->units * AE_CUDA_BLOCK), block, 0, *t);
}

static void ae__cu_batch_norm_forward(const ae_exec *e, float *y, float *mean, float *rstd,
                                      float *run_mean, float *run_var, const float *x,
                                      const float *gamma, const float *beta, float momentum,
                                      float eps, int B, int C, int P)
{
    ae__cu_norms t = ae__cu_norms_of(x, gamma, (size_t)B, (size_t)C, (size_t)P);
    t.beta = beta;
    t.y = y;
    t.mean = mean;
    t.rstd = rstd;
    t.run_mean = run_mean;
    t.run_var = run_var;
    t.momentum = momentum;
    t.eps = eps;
    ae__cu_norm_run(e, &t);
}

static __global__ void ae__k_norm_infer(float *y, const float *run_mean, const float *run_var,
                                        const float *x, const float *gamma, const float *beta,
                                        float eps, size_t n, int C, int P)
{
    AE__CU_EACH(k, n) {
        const size_t c = k / (unsigned)P % (unsigned)C;
        const float a = (gamma ? gamma[c] : 1.0f) / sqrtf(run_var[c] + eps);
        y[k] = (x[k] - run_mean[c]) * a + (beta ? beta[c] : 0.0f);
    }
}

static void ae__cu_batch_norm_infer(const ae_exec *e, float *y, const float *run_mean,
                                    const float *run_var, const float *x, const float *gamma,
                                    const float *beta, float eps, int B, int C, int P)
{
    ae__cuda *c = ae__cu_begin(e);
    const size_t n = (size_t)B * (size_t)C * (size_t)P;
    AE__CU_LAUNCH(c, ae__k_norm_infer, ae__cu_blocks(n), AE_CUDA_BLOCK, 0, y, run_mean, run_var, x,
                  gamma, beta, eps, n, C, P);
}

static void ae__cu_group_norm_forward(const ae_exec *e, float *y, float *mean, float *rstd,
                                      const float *x, const float *gamma, const float *beta,
                                      float eps, int groups, int per_channel, int B, int C, int P)
{
    const size_t rows = (size_t)B * (size_t)groups, F = (size_t)C * (size_t)P;
    ae__cu_norms t = ae__cu_norms_of(x, gamma, 1, rows, F / (size_t)groups);
    t.beta = beta;
    t.y = y;
    t.mean = mean;
    t.rstd = rstd;
    t.eps = eps;
    t.period = groups;
    t.pixels = per_channel ? P : 1;
    ae__cu_norm_run(e, &t);
}

#ifndef AE_NO_TRAIN
/* With h = (x - mean) rstd and y = h gamma + beta:
     dbeta += sum dy   dgamma += sum dy h
     dx = rstd (dy gamma - mean of dy gamma - h mean of dy gamma h) */
static __device__ void ae__cu_norm_grad(const ae__cu_norms t, size_t unit)
{
    const ae__cu_channel c = ae__cu_channel_of(t, unit);
    const float *gamma = ae__cu_one_gamma(t) ? NULL : t.gamma;      // that differs with p
    const unsigned first = (unsigned)(c.i % (size_t)t.period);
    const size_t group = t.groups ? c.i / (t.C / (size_t)t.groups) : c.i;
    ae__cu_sum s = {0.0f, 0.0f}, sh = {0.0f, 0.0f};
    AE__CU_CHANNEL(t, c, row, p, at) {
        const size_t i = (size_t)row * (size_t)t.groups + group;
        const float g = t.dy[at] * (gamma ? gamma[ae__cu_gamma_of(t, first, p)] : 1.0f);
        ae__cu_add(&s, g);
        ae__cu_add(&sh, g * ((t.x[at] - t.in_mean[i]) * t.in_rstd[i]));
    }
    const float sum = ae__cu_channel_sum(s, t.each), sum_h = ae__cu_channel_sum(sh, t.each);
    if (c.i >= t.C) return;
    if (t.dbeta && (int)threadIdx.x < t.each) t.dbeta[c.i] += sum;
    if (t.dgamma && (int)threadIdx.x < t.each) t.dgamma[c.i] += sum_h;
    if (!t.y) return;
    const float n = (float)((size_t)t.B * (size_t)t.P), mean = t.in_mean[c.i];
    const float rstd = t.in_rstd[c.i], a = rstd * (t.gamma && !gamma ? t.gamma[first] : 1.0f);
    const float shift = sum / n, slope = rstd * (sum_h / n);
    AE__CU_CHANNEL(t, c, row, p, at) {
        const float g = t.dy[at] * (gamma ? gamma[ae__cu_gamma_of(t, first, p)] : 1.0f);
        t.y[at] = a * (g - shift - (t.x[at] - mean) * slope);
    }
}

/* The blocks of `rows` make dx, and in batch normalisation dgamma and dbeta of the same sums; those
   of `params` make them for group normalisation, whose samples have statistics of their own. */
static __global__ void __launch_bounds__(1024, 1) ae__k_norm_grad(const ae__cu_norms rows,
                                                               const ae__cu_norms params)
{
    for (size_t u = blockIdx.x; u < rows.units + params.units; u += gridDim.x) {
        if (u < rows.units) ae__cu_norm_grad(rows, u);
        else ae__cu_norm_grad(params, u - rows.units);
    }
}

static void ae__cu_norm_grad_run(const ae_exec *e, ae__cu_norms *rows, ae__cu_norms *params)
{
    ae__cuda *c = ae__cu_begin(e);
    const unsigned row_block = ae__cu_norm_block(rows, 32, 4 * AE_CUDA_BLOCK);
    const unsigned block = ae__cu_norm_block(params, row_block, AE_CUDA_BLOCK);
    const size_t units = rows->units + params->units;
    ae__cu_norm_width(rows, block);
    ae__cu_norm_width(params, block);
    if (units)
        AE__CU_LAUNCH(c, ae__k_norm_grad, ae__cu_blocks(units * AE_CUDA_BLOCK), block, 0, *rows,
                      *params);
}

static void ae__cu_batch_norm_backward(const ae_exec *e, float *dx, float *dgamma, float *dbeta,
                                       const float *dy, const float *x, const float *mean,
                                       const float *rstd, const float *gamma, int B, int C, int P)
{
    ae__cu_norms t = ae__cu_norms_of(x, gamma, (size_t)B, (size_t)C, (size_t)P), none = t;
    t.y = dx;
    t.dgamma = dgamma;
    t.dbeta = dbeta;
    t.dy = dy;
    t.in_mean = mean;
    t.in_rstd = rstd;
    none.units = 0;
    ae__cu_norm_grad_run(e, &t, &none);
}

static void ae__cu_group_norm_backward(const ae_exec *e, float *dx, float *dgamma, float *dbeta,
                                       const float *dy, const float *x, const float *mean,
                                       const float *rstd, const float *gamma, int groups,
                                       int per_channel, int B, int C, int P)
{
    const size_t F = (size_t)C * (size_t)P, owners = per_channel ? (size_t)C : F;
    const size_t G = (size_t)groups;
    ae__cu_norms rows = ae__cu_norms_of(x, gamma, 1, (size_t)B * G, F / G);
    ae__cu_norms params = ae__cu_norms_of(x, NULL, (size_t)B, owners, F / owners);
    rows.y = dx;
    rows.period = params.groups = groups;
    rows.pixels = per_channel ? P : 1;
    params.dgamma = dgamma;
    params.dbeta = dbeta;
    rows.dy = params.dy = dy;
    rows.in_mean = params.in_mean = mean;
    rows.in_rstd = params.in_rstd = rstd;
    if (!dx) rows.units = 0;
    if (!dgamma && !dbeta) params.units = 0;
    ae__cu_norm_grad_run(e, &rows, &params);
}
#endif

/* ---------------------------------------------------------------------------
   >>noise   dropout and noise, the same for any split of a batch             */

#define AE__CU_TILE (4 * AE_CUDA_BLOCK)         // elements that a block gives draws at a time

/* Draws first ... first + n - 1 of a sequence, AE__CU_TILE of them at most. A thread makes a whole
   block of four, as the CPU does, and leaves them in shared memory: so elements that lie side by
   side are for neighbouring threads wherever the sequence begins. Rows are 8 banks apart. */
static __device__ void ae__cu_draw(float (*draw)[AE_CUDA_BLOCK + 8], size_t first, size_t n,
                                   ae_random r, int normal)
{
    const unsigned blocks = (unsigned)((first % 4 + n + 3) / 4);
    __syncthreads();            // the draws before may still be read
    for (unsigned i = threadIdx.x; i < blocks; i += blockDim.x) {
        int32_t even[2], odd[2];
        ae__words_cuda(even, odd, first / 4 + i, r);
        for (int k = 0; k < 2; k++) {
            float a = ae__unit_cuda(even[k]), b = ae__unit_cuda(odd[k]);
            if (normal) ae__normals_cuda(even[k], odd[k], &a, &b);
            draw[2 * k][i] = a;
            draw[2 * k + 1][i] = b;
        }
    }
    __syncthreads();
}

/* t.n elements of each sample, one draw for t.group neighbours. Sample s begins at element t.first
   of the sequence, or at rows[s] t.n. A block: a tile of a sample at a time. */
static __global__ void ae__k_noise(ae__noise t, const size_t *rows, size_t samples, size_t tiles,
                                   const ae__cu_record *record)
{
    AE__SHARED(float, draw, [4][AE_CUDA_BLOCK + 8]);
    const ae_random r = ae__cu_random(t.r, record);
    const unsigned group = (unsigned)t.group;
    for (size_t job = blockIdx.x; job < samples * tiles; job += gridDim.x) {
        const size_t s = job / tiles, from = job % tiles * AE__CU_TILE;
        const size_t place = (rows ? rows[s] * t.n : t.first) + from, first = place / group;
        const unsigned n = (unsigned)(t.n - from < AE__CU_TILE ? t.n - from : AE__CU_TILE);
        const unsigned skip = (unsigned)(place % group), lane = (unsigned)(first % 4);
        ae__cu_draw(draw, first, (skip + n - 1) / group + 1, r, t.kind == AE__GAUSSIAN);
        for (unsigned k = threadIdx.x; k < n; k += blockDim.x) {
            const unsigned d = lane + (group > 1 ? (skip + k) / group : k);
            const size_t i = s * t.n + from + k;
            ae__noise_cuda(t.y + i, t.mask ? t.mask + i : nullptr, t.x + i, &draw[d % 4][d / 4],
                           &t, 1);
        }
    }
}

// Blocks for n elements, a tile each.
static unsigned ae__cu_tiles(size_t n)
{
    return (unsigned)ae__min((n + AE__CU_TILE - 1) / AE__CU_TILE, 4096);
}

static void ae__cu__noise_samples(const ae_exec *e, int kind, float *y, float *mask,
                                  const float *x, float a, float low, float high, size_t group,
                                  const size_t *rows, size_t size, size_t first, ae_random r,
                                  int B)
{
    ae__cuda *c = ae__cu_begin(e);
    const size_t n = rows ? size : (size_t)B * size, samples = rows ? (size_t)B : 1;
    const size_t tiles = (n + AE__CU_TILE - 1) / AE__CU_TILE;
    const ae__noise t = {kind, a, low, high, y, mask, x, group, first, n, 0, r, NULL};
    AE__CU_LAUNCH(c, ae__k_noise, (unsigned)ae__min(samples * tiles, 4096), AE_CUDA_BLOCK, 0, t,
                  rows, samples, tiles, c->record);
}

#ifndef AE_NO_TRAIN
// dx = dy slope and copy = dy, either may be NULL: y = x slope + ..., slope kept by forward.
static __global__ void ae__k_kept_slope(float *dx, float *copy, const float *dy,
                                        const float *slope, size_t n)
{
    AE__CU_EACH(i, n) {
        const float d = dy[i];
        if (dx) dx[i] = d * slope[i];
        if (copy) copy[i] = d;
    }
}

static void ae__cu_dropout_backward(const ae_exec *e, float *dx, const float *dy,
                                    const float *mask, size_t n)
{
    ae__cuda *c = ae__cu_begin(e);
    AE__CU_LAUNCH(c, ae__k_kept_slope, ae__cu_blocks(n), AE_CUDA_BLOCK, 0, dx, nullptr, dy, mask,
                  n);
}
#endif

/* ---------------------------------------------------------------------------
   >>loss   one number from a prediction and a target                         */

#ifndef AE_NO_TRAIN
/* A loss and its gradients in one kernel: *loss = scale times the sum of the terms, dy and dt their
   slopes times dloss. In a call y is the loss, x the prediction, t the target (NULL: zeros), dx is
   dy; what is NULL is left out. */
static __global__ void ae__k_loss(const ae__cu_call call, const ae__cu_ending ending, float scale,
                                  float *parts, unsigned *counter, ae__cu_record *record)
{
    const int check_t = call.kind == AE_LOSS_BCE || call.kind == AE_LOSS_BCE_LOGITS;
    const int check_y = call.kind == AE_LOSS_BCE;
    const bool slopes = call.dx || call.dt;
    const float dloss = slopes ? call.dloss * *call.dloss_of : 0.0f;
    ae__cu_sum sum = {0.0f, 0.0f};
    float bad = 0.0f, dy;
    AE__CU_EACH(i, (size_t)call.B * (size_t)call.F) {
        const float y = call.x[i], t = call.t ? call.t[i] : 0.0f;
        if (call.y) {
            ae__cu_add(&sum, ae__loss_term_cuda(y, t, call.kind, call.a));
            if (check_t) bad += ae__outside_cuda(t);
            if (check_y) bad += ae__outside_cuda(y);
        }
        if (!slopes) continue;
        ae__loss_grad_loop_cuda(&dy, call.dt ? call.dt + i : nullptr, &y, &t, call.kind, call.a,
                                dloss, 1);
        if (call.dx) ae__cu_store(call.dx, i, dy, ending);
    }
    if (!call.y) return;
    if (bad > 0.0f) atomicMax(&record->bad, 1u);
    ae__cu_grid_sum(call.y, ae__cu_block_sum(ae__cu_total(sum)), scale, parts, counter);
}

static void ae__cu_loss_launch(ae__cuda *c)
{
    const ae__cu_call call = c->call_waiting;
    AE__CU_LAUNCH(c, ae__k_loss, ae__cu_blocks((size_t)call.B * (size_t)call.F), AE_CUDA_BLOCK, 0,
                  call, c->ending, (float)ae__reduce(call.reduction, call.B, call.F), c->parts,
                  c->counters, c->record);
}

static ae_status ae__cu_loss_forward(const ae_exec *e, float *loss, const float *y, const float *t,
                                     ae_loss_kind kind, float a, ae_reduction reduction, int B,
                                     int F)
{
    ae__cuda *c = ae__cu_begin(e);
    ae__cu_call *call = &c->call_waiting;
    memset(call, 0, sizeof *call);
    call->y = loss;
    call->x = y;
    call->t = t;
    call->kind = (int)kind;
    call->a = a;
    call->reduction = reduction;
    call->B = B;
    call->F = F;
    ae__cu_wait(c, ae__cu_loss_launch, NULL, 0);
    return AE_SUCCESS;
}

// Joins its forward call when that one still waits.
static void ae__cu_loss_backward(const ae_exec *e, float *dy, float *dt, float dloss,
                                 const float *y, const float *t, ae_loss_kind kind, float a,
                                 ae_reduction reduction, int B, int F)
{
    ae__cuda *c = (ae__cuda *)e->device;
    ae__cu_call *call = &c->call_waiting;
    const int joins = c->launch == ae__cu_loss_launch && !call->dx && !call->dt
                      && call->x == y && call->t == t && call->kind == (int)kind && call->a == a
                      && call->reduction == reduction && call->B == B && call->F == F;
    if (!joins) ae__cu_loss_forward(e, NULL, y, t, kind, a, reduction, B, F);
    call->dx = dy;
    call->dt = dt;
    call->dloss = (float)((double)dloss * ae__reduce(reduction, B, F));
    call->dloss_of = c->dloss;
    ae__cu_wait(c, ae__cu_loss_launch, dy, dy ? (size_t)B * (size_t)F : 0);
}

/* A warp for a row: -ln softmax(x)[label] = top - x[label] + ln(1 + others), others the sum of
   e^(x - top) without one that is the top; dx = (softmax(x) - onehot(label)) scale. loss or dx is
   NULL. NaN is never the top: it stays in the sum. */
static __global__ void ae__k_cross_entropy(float *loss, float *dx, const float *x,
                                           const int32_t *labels, int B, int F, float scale,
                                           const float *dloss, float *parts, unsigned *counter,
                                           ae__cu_record *record)
{
    const unsigned lane = threadIdx.x % 32, warps = gridDim.x * (blockDim.x / 32), n = (unsigned)F;
    ae__cu_sum sum = {0.0f, 0.0f};
    for (size_t b = (blockIdx.x * blockDim.x + threadIdx.x) / 32; b < (size_t)B; b += warps) {
        const float *row = x + b * n;
        const int label = labels[b], known = label >= 0 && label < F;
        float top = -INFINITY, others = 0.0f, tops = 0.0f;
        for (unsigned j = lane; j < n; j += 32) top = fmaxf(top, row[j]);
        for (int step = 16; step > 0; step /= 2)
            top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, step));
        for (unsigned j = lane; j < n; j += 32)
            if (row[j] == top) tops += 1.0f;
            else others += ae__exp_cuda(row[j] - top);
        for (int step = 16; step > 0; step /= 2) {
            others += __shfl_xor_sync(0xffffffffu, others, step);
            tops += __shfl_xor_sync(0xffffffffu, tops, step);
        }
        const float one = ae__exp_cuda(top - top);      // NaN where the top is infinite
        if (tops > 1.0f) others += (tops - 1.0f) * one;
        if (loss && lane == 0) {
            if (!known) atomicMax(&record->bad, 1u);
            ae__cu_add(&sum, top - row[known ? label : 0] + log1pf(others));
        }
        for (unsigned j = lane; dx && j < n; j += 32) {
            const float p = ae__exp_cuda(row[j] - top) / (one + others);
            dx[b * n + j] = ((int)j == label ? p - 1.0f : p) * (scale * *dloss);
        }
    }
    if (loss) ae__cu_grid_sum(loss, ae__cu_block_sum(ae__cu_total(sum)), scale, parts, counter);
}

static ae_status ae__cu_cross_entropy_forward(const ae_exec *e, float *loss, const float *x,
                                              const int32_t *labels, ae_reduction reduction, int B,
                                              int F)
{
    ae__cuda *c = ae__cu_begin(e);
    AE__CU_LAUNCH(c, ae__k_cross_entropy, ae__cu_blocks((size_t)B * 32), AE_CUDA_BLOCK, 0, loss,
                  nullptr, x, labels, B, F, (float)ae__reduce(reduction, B, 1), c->dloss, c->parts,
                  c->counters, c->record);
    return AE_SUCCESS;
}

static void ae__cu_cross_entropy_backward(const ae_exec *e, float *dx, float dloss, const float *x,
                                          const int32_t *labels, ae_reduction reduction, int B,
                                          int F)
{
    ae__cuda *c = ae__cu_begin(e);
    AE__CU_LAUNCH(c, ae__k_cross_entropy, ae__cu_blocks((size_t)B * 32), AE_CUDA_BLOCK, 0, nullptr,
                  dx, x, labels, B, F, (float)((double)dloss * ae__reduce(reduction, B, 1)),
                  c->dloss, c->parts, c->counters, c->record);
}
#endif

/* ---------------------------------------------------------------------------
   >>latent   variational and quantised codes                                 */

// z = mu + e^(logvar/2) normal; mu NULL: z = normal.
static __global__ void ae__k_gaussian_sample(float *z, float *slope, const float *mu,
                                             const float *logvar, size_t first, ae_random r,
                                             size_t n, const ae__cu_record *record)
{
    AE__SHARED(float, draw, [4][AE_CUDA_BLOCK + 8]);
    r = ae__cu_random(r, record);
    for (size_t from = (size_t)blockIdx.x * AE__CU_TILE; from < n;
         from += (size_t)gridDim.x * AE__CU_TILE) {
        const unsigned count = (unsigned)(n - from < AE__CU_TILE ? n - from : AE__CU_TILE);
        const unsigned lane = (unsigned)((first + from) % 4);
        ae__cu_draw(draw, first + from, count, r, 1);
        for (unsigned k = threadIdx.x; k < count; k += blockDim.x) {
            const size_t i = from + k;
            const float normal = draw[(lane + k) % 4][(lane + k) / 4];
            float half = 0.0f;
            const float deviation = mu ? ae__exp_tangent(0.5f * logvar[i], &half) : 1.0f;
            if (slope) slope[i] = 0.5f * half * normal;
            z[i] = mu ? mu[i] + deviation * normal : normal;
        }
    }
}

static void ae__cu_gaussian_sample_forward(const ae_exec *e, float *z, float *slope,
                                           const float *mu, const float *logvar, size_t first,
                                           ae_random r, size_t n)
{
    ae__cuda *c = ae__cu_begin(e);
    AE__CU_LAUNCH(c, ae__k_gaussian_sample, ae__cu_tiles(n), AE_CUDA_BLOCK, 0, z, slope, mu, logvar,
                  first, r, n, c->record);
}

#ifndef AE_NO_TRAIN
static void ae__cu__draw_normal(const ae_exec *e, float *x, size_t n, size_t first, ae_random r)
{
    ae__cu_gaussian_sample_forward(e, x, NULL, NULL, NULL, first, r, n);
}

static void ae__cu_gaussian_sample_backward(const ae_exec *e, float *dmu, float *dlogvar,
                                            const float *dz, const float *slope, size_t n)
{
    ae__cuda *c = ae__cu_begin(e);
    AE__CU_LAUNCH(c, ae__k_kept_slope, ae__cu_blocks(n), AE_CUDA_BLOCK, 0, dlogvar, dmu, dz, slope,
                  n);
}
#endif

// A block for each row.
static __global__ void ae__k_one_hot(float *y, const int32_t *labels, size_t F,
                                     ae__cu_record *record)
{
    const int32_t label = labels[blockIdx.x];
    if (threadIdx.x == 0 && (label < 0 || (size_t)label >= F)) atomicMax(&record->bad, 1u);
    for (size_t j = threadIdx.x; j < F; j += blockDim.x)
        y[blockIdx.x * F + j] = label >= 0 && j == (size_t)label ? 1.0f : 0.0f;
}

static ae_status ae__cu_one_hot_forward(const ae_exec *e, float *y, const int32_t *labels, int B,
                                        int F)
{
    ae__cuda *c = ae__cu_begin(e);
    AE__CU_LAUNCH(c, ae__k_one_hot, (unsigned)B, AE_CUDA_BLOCK, 0, y, labels, (size_t)F, c->record);
    return AE_SUCCESS;
}

/* ---- vector quantisation ---- vector v is a pixel of a sample; its channel j is here: */

static __device__ size_t ae__cu_vq_at(size_t v, size_t j, size_t C, size_t P)
{
    return (v / P * C + j) * P + v % P;
}

#define AE__CU_VQ 64            // pixels of a block, and codes that it compares them with at a time
#define AE__CU_VQ_DEEP 16       // channels at a time
#define AE__CU_VQ_THREADS 256   // each: 4 pixels times 4 codes

/* |x - c|^2 is least where x c - |c|^2 / 2 is greatest. Of equal ones the first code; NaN at code 0
   is never exceeded, elsewhere it never exceeds. */
static __global__ void __launch_bounds__(AE__CU_VQ_THREADS)
ae__k_vq_forward(float *y, int32_t *index, const float *x, const float *codes, int K, int C,
                 int P, size_t vectors)
{
    AE__SHARED(float, px, [AE__CU_VQ_DEEP][AE__CU_VQ + 1]);
    AE__SHARED(float, code, [AE__CU_VQ_DEEP][AE__CU_VQ + 1]);
    AE__SHARED(size_t, at, [AE__CU_VQ]);
    AE__SHARED(int32_t, nearest, [AE__CU_VQ]);
    const int thread = (int)threadIdx.x, tx = thread % 16, ty = thread / 16;
    const size_t first = (size_t)blockIdx.x * AE__CU_VQ, c = (size_t)C, p = (size_t)P;
    const int pixels = (int)(vectors - first < AE__CU_VQ ? vectors - first : AE__CU_VQ);
    float most[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    int32_t best[4] = {0, 0, 0, 0};
    if (thread < AE__CU_VQ) at[thread] = ae__cu_vq_at(first + (size_t)thread, 0, c, p);
    for (int k = 0; k < K; k += AE__CU_VQ) {
        float dot[4][4] = {}, square[4] = {};
        for (int j = 0; j < C; j += AE__CU_VQ_DEEP) {
            __syncthreads();
            for (int i = thread; i < AE__CU_VQ * AE__CU_VQ_DEEP; i += AE__CU_VQ_THREADS) {
                // What lies side by side goes to neighbouring threads: channels, or pixels.
                const int q = i / AE__CU_VQ_DEEP, d = i % AE__CU_VQ_DEEP;
                const int v = P == 1 ? q : i % AE__CU_VQ, u = P == 1 ? d : i / AE__CU_VQ;
                px[u][v] = v < pixels && u < C - j ? x[at[v] + (size_t)(j + u) * p] : 0.0f;
                code[d][q] = q < K - k && d < C - j
                             ? codes[(size_t)(k + q) * c + (size_t)(j + d)] : 0.0f;
            }
            __syncthreads();
            for (int d = 0; d < AE__CU_VQ_DEEP; d++)
                for (int b = 0; b < 4; b++) {
                    const float w = code[d][tx + 16 * b];
                    square[b] = fmaf(w, w, square[b]);
                    for (int a = 0; a < 4; a++)
                        dot[a][b] = fmaf(px[d][4 * ty + a], w, dot[a][b]);
                }
        }
        for (int b = 0; b < 4; b++)
            for (int a = 0; a < 4; a++) {
                const int q = tx + 16 * b;
                float score = dot[a][b] - 0.5f * square[b];
                if (k + q == 0 && score != score) score = INFINITY;
                if (q >= K - k || !(score > most[a])) continue;
                most[a] = score;
                best[a] = k + q;
            }
    }
    for (int a = 0; a < 4; a++) {
        for (int step = 8; step > 0; step /= 2) {       // the 16 threads with the same pixels
            const float other = __shfl_xor_sync(0xffffffffu, most[a], step);
            const int32_t its = __shfl_xor_sync(0xffffffffu, best[a], step);
            if (other < most[a] || (other == most[a] && its > best[a])) continue;
            most[a] = other;
            best[a] = its;
        }
        if (tx == 0) nearest[4 * ty + a] = best[a];
    }
    __syncthreads();
    if (thread < pixels) index[first + (size_t)thread] = nearest[thread];
    for (size_t i = (size_t)thread; i < AE__CU_VQ * c; i += AE__CU_VQ_THREADS) {
        const size_t v = P == 1 ? i / c : i % AE__CU_VQ, j = P == 1 ? i % c : i / AE__CU_VQ;
        if (v >= (size_t)pixels) continue;
        const size_t to = at[v] + j * p;
        y[to] = codes[(size_t)nearest[v] * c + j] + (x[to] - x[to]);        // NaN stays
    }
}

static void ae__cu_vq_forward(const ae_exec *e, float *y, int32_t *index, const float *x,
                              const float *codes, int K, int B, int C, int P)
{
    ae__cuda *c = ae__cu_begin(e);
    const size_t vectors = (size_t)B * (size_t)P;
    AE__CU_LAUNCH(c, ae__k_vq_forward, (unsigned)((vectors + AE__CU_VQ - 1) / AE__CU_VQ),
                  AE__CU_VQ_THREADS, 0, y, index, x, codes, K, C, P, vectors);
}

#ifndef AE_NO_TRAIN
// A thread's sum. An infinite one stays: what it lost is NaN.
static __device__ float ae__cu_value(ae__cu_sum s)
{
    return s.lost == s.lost ? s.sum + s.lost : s.sum;
}

// The sum of v over the threads that are the same lane of all warps, in order.
static __device__ float ae__cu_lane_sum(float v)
{
    AE__SHARED(float, part, [AE_CUDA_BLOCK]);
    __syncthreads();            // the sums before may still be read
    part[threadIdx.x] = v;
    __syncthreads();
    v = 0.0f;
    for (unsigned i = threadIdx.x % 32; i < blockDim.x; i += 32) v += part[i];
    return v;
}

/* Channel j, a lane's own, of all x - y (y NULL: x) that stand for code k, added up. Each warp
   looks at every so many-th 32 pixels, always the same. */
static __device__ float ae__cu_vq_gather(const float *x, const float *y, const int32_t *index,
                                         int32_t k, size_t vectors, size_t j, size_t C, size_t P)
{
    const unsigned lane = threadIdx.x % 32;
    ae__cu_sum sum = {0.0f, 0.0f};
    for (size_t first = threadIdx.x - lane; first < vectors; first += blockDim.x) {
        const bool is = first + lane < vectors && index[first + lane] == k;
        unsigned here = __ballot_sync(0xffffffffu, is);
        for (; here && j < C; here &= here - 1) {
            const size_t at = ae__cu_vq_at(first + (size_t)__ffs((int)here) - 1, j, C, P);
            ae__cu_add(&sum, y ? x[at] - y[at] : x[at]);
        }
    }
    return ae__cu_lane_sum(ae__cu_value(sum));
}

/* d = scale (x - y):   dx = beta d   code -= the sum of its d
   How many codes there are is not known: a block for each pixel, that goes on if it is the first of
   its code. */
static __global__ void ae__k_vq_loss_backward(float *dx, float *dcodes, float scale,
                                              const float *dloss, const float *x, const float *y,
                                              const int32_t *index, float beta, size_t vectors,
                                              size_t C, size_t P)
{
    scale *= *dloss;
    if (dx) AE__CU_EACH(i, vectors * C) dx[i] = beta * (scale * (x[i] - y[i]));
    for (size_t v = blockIdx.x; dcodes && v < vectors; v += gridDim.x) {
        const int32_t k = index[v];
        float earlier = 0.0f;
        for (size_t u = threadIdx.x; u < v && earlier == 0.0f; u += blockDim.x)
            earlier = index[u] == k ? 1.0f : 0.0f;
        if (ae__cu_block_sum(earlier) > 0.0f) continue;
        for (size_t j = threadIdx.x % 32, end = j + C; j < end; j += 32) {
            const float d = ae__cu_vq_gather(x, y, index, k, vectors, j, C, P);
            if (threadIdx.x < 32 && j < C) dcodes[(size_t)k * C + j] -= scale * d;
        }
    }
}

static void ae__cu_vq_loss_backward(const ae_exec *e, float *dx, float *dcodes, float dloss,
                                    const float *x, const float *y, const int32_t *index,
                                    float beta, ae_reduction reduction, int B, int C, int P)
{
    ae__cuda *c = ae__cu_begin(e);
    const size_t vectors = (size_t)B * (size_t)P, each = ae__cu_blocks(vectors * (size_t)C);
    const size_t blocks = dcodes && vectors > each ? ae__min(vectors, 65536) : each;
    AE__CU_LAUNCH(c, ae__k_vq_loss_backward, (unsigned)blocks, AE_CUDA_BLOCK, 0, dx, dcodes,
                  (float)(2.0 * (double)dloss * ae__reduce(reduction, B, C * P)), c->dloss, x, y,
                  index, beta, vectors, (size_t)C, (size_t)P);
}

/* A block for each code k. What all counts will add up to is known before: each pixel counts for
   one code. New counts wait in parts: other blocks may still need the old ones. */
static __global__ void ae__k_vq_update(float *codes, float *sum, float *count, const float *x,
                                       const int32_t *index, float decay, float eps, float least,
                                       ae_random r, size_t K, size_t vectors, size_t C, size_t P,
                                       float *parts, unsigned *counter,
                                       const ae__cu_record *record)
{
    const size_t k = blockIdx.x;
    const float share = 1.0f - decay;
    ae__cu_sum old = {0.0f, 0.0f};
    float mine = 0.0f, now = __fmul_rn(count[k], decay);
    if (record->failed) return;
    for (size_t i = threadIdx.x; i < K; i += blockDim.x) ae__cu_add(&old, count[i]);
    const float total = decay * ae__cu_block_sum(ae__cu_value(old)) + share * (float)vectors;
    for (size_t v = threadIdx.x; v < vectors; v += blockDim.x) mine += index[v] == (int32_t)k;
    // One by one, as the CPU: whether a code starts anew must not hang on rounding.
    for (int found = (int)ae__cu_block_sum(mine); found > 0; found--) now = __fadd_rn(now, share);
    const bool anew = sum && now < least;
    const float size = (now + eps) / (total + (float)K * eps) * total;
    uint32_t word[4];
    ae__random_block(word, k / 4, ae__cu_random(r, record));
    const uint32_t half = k % 2 ? word[1] : word[0], other = k % 2 ? word[3] : word[2];
    // A uniform of 24 bits times `vectors`, without rounding.
    const size_t v = (size_t)(((k & 2 ? other : half) >> 8) * (uint64_t)vectors >> 24);
    for (size_t j = threadIdx.x % 32, end = j + C; sum && j < end; j += 32) {
        const float add = ae__cu_vq_gather(x, nullptr, index, (int32_t)k, vectors, j, C, P);
        if (threadIdx.x >= 32 || j >= C) continue;
        const float start = x[ae__cu_vq_at(v, j, C, P)];
        const float moved = decay * sum[k * C + j] + share * add;
        sum[k * C + j] = anew ? least * start : moved;
        if (anew || now > 0.0f) codes[k * C + j] = anew ? start : moved / size;
    }
    if (threadIdx.x == 0) parts[k] = anew ? least : now;
    if (!ae__cu_last_block(counter, gridDim.x)) return;
    for (size_t i = threadIdx.x; i < K; i += blockDim.x) count[i] = parts[i];
}

// At most AE__CU_PARTS codes.
static void ae__cu_vq_update(const ae_exec *e, float *codes, float *sum, float *count,
                             const float *x, const int32_t *index, float decay, float eps,
                             float least, ae_random r, int K, int B, int C, int P)
{
    ae__cuda *c = ae__cu_begin(e);
    if (K > AE__CU_PARTS) AE__CU(c, cudaErrorInvalidValue);
    AE__CU_LAUNCH(c, ae__k_vq_update, (unsigned)K, AE_CUDA_BLOCK, 0, codes, sum, count, x, index,
                  decay, eps, least, r, (size_t)K, (size_t)B * (size_t)P, (size_t)C, (size_t)P,
                  c->parts, c->counters, c->record);
}

/* ---- sums of terms ---- */

// Where a loss goes, scale times a sum over all blocks; loss NULL: its gradients times scale.
typedef struct ae__cu_term {
    float *loss, *parts;
    unsigned *counter;
    float scale;
} ae__cu_term;

static ae__cu_term ae__cu_term_of(const ae__cuda *c, float *loss, double scale)
{
    const ae__cu_term to = {loss, c->parts, c->counters, (float)scale};
    return to;
}

static __device__ void ae__cu_term_sum(ae__cu_term to, ae__cu_sum s)
{
    const float sum = ae__cu_block_sum(ae__cu_value(s));
    ae__cu_grid_sum(to.loss, sum, to.scale, to.parts, to.counter);
}

// Element i of (x - y)^2, of -ln N(x; y, e^logvar), or of -ln(t s + (1-t) (1-s)), t = y.
enum { AE__CU_SQUARE, AE__CU_NORMAL, AE__CU_BERNOULLI };
static __device__ float ae__cu_density(int kind, const float *x, const float *y,
                                       const float *logvar, size_t i)
{
    if (kind == AE__CU_BERNOULLI) return ae__loss_term_cuda(x[i], y[i], AE_LOSS_BCE_LOGITS, 0.0f);
    const float d = y ? x[i] - y[i] : x[i], v = logvar ? logvar[i] : 0.0f;
    const float square = d * d * (logvar ? ae__exp_tangent(-v, nullptr) : 1.0f);
    return kind == AE__CU_SQUARE ? square : 0.5f * (v + (float)AE__LOG_2PI + square);
}

static __global__ void ae__k_density(ae__cu_term to, int kind, const float *x, const float *y,
                                     const float *logvar, size_t n)
{
    ae__cu_sum sum = {0.0f, 0.0f};
    AE__CU_EACH(i, n) ae__cu_add(&sum, ae__cu_density(kind, x, y, logvar, i));
    ae__cu_term_sum(to, sum);
}

// of[b] = -the sum of row b: a block for each row.
static __global__ void ae__k_row_density(float *of, int kind, const float *x, const float *y,
                                         const float *logvar, size_t F, ae__cu_record *record)
{
    ae__cu_sum sum = {0.0f, 0.0f};
    float outside = 0.0f;
    for (size_t j = threadIdx.x, i = blockIdx.x * F + j; j < F; j += blockDim.x, i += blockDim.x) {
        ae__cu_add(&sum, ae__cu_density(kind, x, y, logvar, i));
        if (kind == AE__CU_BERNOULLI) outside += ae__outside_cuda(y[i]);
    }
    if (outside > 0.0f) atomicMax(&record->bad, 1u);
    const float all = ae__cu_block_sum(ae__cu_value(sum));
    if (threadIdx.x == 0) of[blockIdx.x] = -all;
}

static void ae__cu_vq_loss_forward(const ae_exec *e, float *loss, const float *x, const float *y,
                                   float beta, int learns, ae_reduction reduction, int B, int C,
                                   int P)
{
    ae__cuda *c = ae__cu_begin(e);
    const double scale = ae__reduce(reduction, B, C * P) * (double)(beta + (learns ? 1.0f : 0.0f));
    const size_t n = (size_t)B * (size_t)C * (size_t)P;
    AE__CU_LAUNCH(c, ae__k_density, ae__cu_blocks(n), AE_CUDA_BLOCK, 0,
                  ae__cu_term_of(c, loss, scale), AE__CU_SQUARE, x, y, nullptr, n);
}

static void ae__cu__gaussian_nll_forward(const ae_exec *e, float *loss, const float *z,
                                         const float *mu, const float *logvar,
                                         ae_reduction reduction, int B, int F)
{
    ae__cuda *c = ae__cu_begin(e);
    const size_t n = (size_t)B * (size_t)F;
    AE__CU_LAUNCH(c, ae__k_density, ae__cu_blocks(n), AE_CUDA_BLOCK, 0,
                  ae__cu_term_of(c, loss, ae__reduce(reduction, B, F)), AE__CU_NORMAL, z, mu,
                  logvar, n);
}

static void ae__cu_log_normal_forward(const ae_exec *e, float *y, const float *z, const float *mu,
                                      const float *logvar, int B, int F)
{
    ae__cuda *c = ae__cu_begin(e);
    AE__CU_LAUNCH(c, ae__k_row_density, (unsigned)B, AE_CUDA_BLOCK, 0, y, AE__CU_NORMAL, z, mu,
                  logvar, (size_t)F, c->record);
}

static ae_status ae__cu_log_bernoulli_forward(const ae_exec *e, float *y, const float *x,
                                              const float *t, int B, int F)
{
    ae__cuda *c = ae__cu_begin(e);
    AE__CU_LAUNCH(c, ae__k_row_density, (unsigned)B, AE_CUDA_BLOCK, 0, y, AE__CU_BERNOULLI, x, t,
                  nullptr, (size_t)F, c->record);
    return AE_SUCCESS;
}

/* y = -(v + d^2 e^-v) / 2, d = z - mu:   dz = -d e^-v   dmu = -dz   dv = (d^2 e^-v - 1) / 2
   dy of a row is dy[b], or, of a loss, scale times *dloss. */
static __global__ void ae__k_log_normal_backward(float *dz, float *dmu, float *dlogvar,
                                                 const float *dy, float scale, const float *dloss,
                                                 const float *z, const float *mu,
                                                 const float *logvar, size_t F)
{
    const float of = dy ? dy[blockIdx.x] : scale * *dloss;
    for (size_t j = threadIdx.x, i = blockIdx.x * F + j; j < F; j += blockDim.x, i += blockDim.x) {
        const float d = mu ? z[i] - mu[i] : z[i];
        float slope = 1.0f, inverse = logvar ? ae__exp_tangent(-logvar[i], &slope) : 1.0f;
        if (dz) dz[i] = -of * d * inverse;
        if (dmu) dmu[i] = of * d * inverse;
        if (dlogvar) dlogvar[i] = 0.5f * of * (d * d * slope - 1.0f);
    }
}

static void ae__cu_log_normal_backward(const ae_exec *e, float *dz, float *dmu, float *dlogvar,
                                       const float *dy, const float *z, const float *mu,
                                       const float *logvar, int B, int F)
{
    ae__cuda *c = ae__cu_begin(e);
    AE__CU_LAUNCH(c, ae__k_log_normal_backward, (unsigned)B, AE_CUDA_BLOCK, 0, dz, dmu, dlogvar, dy,
                  0.0f, nullptr, z, mu, logvar, (size_t)F);
}

static void ae__cu__gaussian_nll_backward(const ae_exec *e, float *dz, float *dmu, float *dlogvar,
                                          float dloss, const float *z, const float *mu,
                                          const float *logvar, ae_reduction reduction, int B,
                                          int F)
{
    ae__cuda *c = ae__cu_begin(e);
    AE__CU_LAUNCH(c, ae__k_log_normal_backward, (unsigned)B, AE_CUDA_BLOCK, 0, dz, dmu, dlogvar,
                  nullptr, (float)(-(double)dloss * ae__reduce(reduction, B, F)), c->dloss, z, mu,
                  logvar, (size_t)F);
}

static __global__ void ae__k_log_bernoulli_backward(float *dx, float *dt, const float *dy,
                                                    const float *x, const float *t, size_t F)
{
    for (size_t j = threadIdx.x, i = blockIdx.x * F + j; j < F; j += blockDim.x, i += blockDim.x)
        ae__loss_grad_loop_cuda(dx ? dx + i : nullptr, dt ? dt + i : nullptr, x + i, t + i,
                                AE_LOSS_BCE_LOGITS, 0.0f, -dy[blockIdx.x], 1);
}

static void ae__cu_log_bernoulli_backward(const ae_exec *e, float *dx, float *dt, const float *dy,
                                          const float *x, const float *t, int B, int F)
{
    ae__cuda *c = ae__cu_begin(e);
    AE__CU_LAUNCH(c, ae__k_log_bernoulli_backward, (unsigned)B, AE_CUDA_BLOCK, 0, dx, dt, dy, x, t,
                  (size_t)F);
}

/* ---- KL ---- a block has 32 units, a lane each; its warps share the batch */

// The mean of unit j over the batch, in all its threads.
static __device__ float ae__cu_kl_unit(const float *mu, const float *logvar, size_t B, size_t F,
                                       size_t j)
{
    ae__cu_sum sum = {0.0f, 0.0f};
    for (size_t b = threadIdx.x / 32; b < B && j < F; b += blockDim.x / 32) {
        const float m = mu[b * F + j], v = logvar[b * F + j];
        const float less = v > 20.0f ? ae__exp_tangent(v, nullptr) - 1.0f : expm1f(v);
        ae__cu_add(&sum, 0.5f * (m * m + (less - v)));
    }
    return ae__cu_lane_sum(ae__cu_value(sum)) / (float)B;
}

// The loss; or d/dmu = mu   d/dlogvar = (e^logvar - 1) / 2, both 0 where the unit is free.
static __global__ void ae__k_kl(ae__cu_term to, float *dmu, float *dlogvar, const float *dloss,
                                const float *mu, const float *logvar, float free_nats, size_t B,
                                size_t F)
{
    const size_t warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const float scale = to.scale * *dloss;
    ae__cu_sum sum = {0.0f, 0.0f};
    for (size_t first = (size_t)blockIdx.x * 32; first < F; first += (size_t)gridDim.x * 32) {
        const size_t j = first + threadIdx.x % 32;
        const bool needed = to.loss || free_nats > 0.0f;
        const float unit = needed ? ae__cu_kl_unit(mu, logvar, B, F, j) : 0.0f;
        const bool held = unit < free_nats;
        if (warp == 0 && j < F) ae__cu_add(&sum, held ? free_nats : unit);
        for (size_t b = blockIdx.y * warps + warp; !to.loss && b < B && j < F;
             b += gridDim.y * warps) {
            const size_t i = b * F + j;
            float slope;
            ae__exp_tangent(logvar[i], &slope);
            if (dmu) dmu[i] = held ? 0.0f : scale * mu[i];
            if (dlogvar) dlogvar[i] = held ? 0.0f : 0.5f * scale * (slope - 1.0f);
        }
    }
    if (to.loss) ae__cu_term_sum(to, sum);
}

static void ae__cu_kl(const ae_exec *e, float *loss, float *dmu, float *dlogvar, double scale,
                      const float *mu, const float *logvar, float free_nats, int B, int F)
{
    ae__cuda *c = ae__cu_begin(e);
    const size_t units = ((size_t)F + 31) / 32, rows = ae__cu_blocks((size_t)B * 32);
    const dim3 grid((unsigned)ae__min(units, 1024), loss ? 1 : (unsigned)ae__min(rows, 64));
    AE__CU_LAUNCH(c, ae__k_kl, grid, AE_CUDA_BLOCK, 0, ae__cu_term_of(c, loss, scale), dmu, dlogvar,
                  c->dloss, mu, logvar, free_nats, (size_t)B, (size_t)F);
}

static void ae__cu_kl_normal_forward(const ae_exec *e, float *loss, const float *mu,
                                     const float *logvar, float free_nats, ae_reduction reduction,
                                     int B, int F)
{
    ae__cu_kl(e, loss, NULL, NULL, B * ae__reduce(reduction, B, F), mu, logvar, free_nats, B, F);
}

static void ae__cu_kl_normal_backward(const ae_exec *e, float *dmu, float *dlogvar, float dloss,
                                      const float *mu, const float *logvar, float free_nats,
                                      ae_reduction reduction, int B, int F)
{
    ae__cu_kl(e, NULL, dmu, dlogvar, (double)dloss * ae__reduce(reduction, B, F), mu, logvar,
              free_nats, B, F);
}

/* ---- the importance-weighted bound ---- a warp for each group of k samples */

// v of all lanes, added up or the largest of them.
static __device__ float ae__cu_warp(float v, bool largest)
{
    for (int step = 16; step > 0; step /= 2) {
        const float other = __shfl_xor_sync(0xffffffffu, v, step);
        v = largest ? fmaxf(v, other) : v + other;
    }
    return v;
}

// ln w of sample i, over `top`: the small difference of large numbers, so what they lose is kept.
static __device__ float ae__cu_iwae_weight(const float *px, const float *pz, const float *qz,
                                           size_t i, float top)
{
    ae__cu_sum w = {px[i], 0.0f};
    ae__cu_add(&w, pz[i]);
    ae__cu_add(&w, -qz[i]);
    w.sum -= top;
    return ae__cu_value(w);
}

// -ln(mean e^w); or dw = -e^w / the sum of the group's. The largest w is taken out of all.
static __global__ void ae__k_iwae(ae__cu_term to, float *dw, const float *dloss, const float *px,
                                  const float *pz, const float *qz, size_t k, size_t groups)
{
    const size_t lane = threadIdx.x % 32, warps = (size_t)gridDim.x * blockDim.x / 32;
    ae__cu_sum loss = {0.0f, 0.0f};
    for (size_t g = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) / 32; g < groups; g += warps) {
        const size_t first = g * k + lane, end = (g + 1) * k;
        float top = -INFINITY, sum = 0.0f;
        for (size_t i = first; i < end; i += 32)
            top = fmaxf(top, ae__cu_iwae_weight(px, pz, qz, i, 0.0f));
        top = ae__cu_warp(top, true);           // it hides NaN, the sum does not
        for (size_t i = first; i < end; i += 32)
            sum += expf(ae__cu_iwae_weight(px, pz, qz, i, top));
        sum = ae__cu_warp(sum, false);
        if (lane == 0) ae__cu_add(&loss, -top - logf(sum / (float)k));
        for (size_t i = first; dw && i < end; i += 32)
            dw[i] = -to.scale * *dloss * expf(ae__cu_iwae_weight(px, pz, qz, i, top)) / sum;
    }
    if (to.loss) ae__cu_term_sum(to, loss);
}

static void ae__cu_iwae(const ae_exec *e, float *loss, float *dw, double dloss, const float *px,
                        const float *pz, const float *qz, int k, ae_reduction reduction, int B)
{
    ae__cuda *c = ae__cu_begin(e);
    const ae__cu_term to = ae__cu_term_of(c, loss, dloss * ae__reduce(reduction, B / k, 1));
    const size_t groups = (size_t)(B / k);
    AE__CU_LAUNCH(c, ae__k_iwae, ae__cu_blocks(32 * groups), AE_CUDA_BLOCK, 0, to, dw, c->dloss, px,
                  pz, qz, (size_t)k, groups);
}

static void ae__cu_iwae_forward(const ae_exec *e, float *loss, const float *px, const float *pz,
                                const float *qz, int k, ae_reduction reduction, int B)
{
    ae__cu_iwae(e, loss, NULL, 1.0, px, pz, qz, k, reduction, B);
}

static void ae__cu_iwae_backward(const ae_exec *e, float *dw, float dloss, const float *px,
                                 const float *pz, const float *qz, int k, ae_reduction reduction,
                                 int B)
{
    ae__cu_iwae(e, NULL, dw, (double)dloss, px, pz, qz, k, reduction, B);
}

/* ---- maximum mean discrepancy ---- a block for each z, whose warps take partners in turn */

// The kernel between rows a and b, and its slope by their squared distance: by a warp.
static __device__ float ae__cu_mmd_kernel(const float *a, const float *b, int F, float *slope)
{
    const float width[7] = {0.1f, 0.2f, 0.5f, 1.0f, 2.0f, 5.0f, 10.0f};
    float distance = 0.0f, sum = 0.0f;
    for (int j = (int)threadIdx.x % 32; j < F; j += 32)
        distance = fmaf(a[j] - b[j], a[j] - b[j], distance);
    distance = ae__cu_warp(distance, false);
    *slope = 0.0f;
    for (int i = 0; i < 7; i++) {
        const float c = 2.0f * (float)F * width[i], part = c / (c + distance);
        sum += part;
        *slope -= part / (c + distance);
    }
    return sum;
}

// Row i of 2 n: the samples z, then the prior's.
static __device__ const float *ae__cu_mmd_row(const float *z, const float *prior, size_t i,
                                              size_t n, size_t f)
{
    return i < n ? z + i * f : prior + (i - n) * f;
}

/* Mean over pairs of z + that over pairs of the prior - 2 times that over mixed ones. They are much
   alike: what is left of them is added up, not they themselves. */
static __global__ void ae__k_mmd_forward(ae__cu_term to, const float *z, const float *prior,
                                         size_t n, int F)
{
    const size_t f = (size_t)F, warp = threadIdx.x / 32;
    ae__cu_sum sum = {0.0f, 0.0f};
    for (size_t i = blockIdx.x; i < 2 * n; i += gridDim.x)
        for (size_t j = warp; j < 2 * n; j += blockDim.x / 32) {
            const float *a = ae__cu_mmd_row(z, prior, i, n, f);
            const float *b = ae__cu_mmd_row(z, prior, j, n, f);
            const bool mixed = (i < n) != (j < n);
            float unused, v = ae__cu_mmd_kernel(a, b, F, &unused);
            if (threadIdx.x % 32 || i == j) continue;
            ae__cu_add(&sum, mixed ? -v : v);
            if (!mixed) ae__cu_add(&sum, v / (float)(n - 1));   // there are fewer: n (n - 1)
        }
    ae__cu_term_sum(to, sum);
}

static void ae__cu_mmd_forward(const ae_exec *e, float *loss, const float *z, const float *prior,
                               int B, int F)
{
    ae__cuda *c = ae__cu_begin(e);
    AE__CU_LAUNCH(c, ae__k_mmd_forward, (unsigned)ae__min(2 * (size_t)B, 1024), AE_CUDA_BLOCK, 0,
                  ae__cu_term_of(c, loss, 1.0 / ((double)B * B)), z, prior, (size_t)B, F);
}

// dz = the sum of slope (z - other), times same for the other z, times cross for the prior's.
static __global__ void ae__k_mmd_backward(float *dz, float same, float cross, const float *dloss,
                                          const float *z, const float *prior, size_t n, int F)
{
    AE__SHARED(float, slope, [AE_CUDA_BLOCK]);
    const size_t f = (size_t)F, i = blockIdx.x;
    for (size_t first = 0; first < 2 * n; first += blockDim.x) {
        const size_t count = 2 * n - first < blockDim.x ? 2 * n - first : blockDim.x;
        __syncthreads();        // the slopes before may still be read
        for (size_t k = threadIdx.x / 32; k < count; k += blockDim.x / 32) {
            const float *other = ae__cu_mmd_row(z, prior, first + k, n, f);
            float s;
            ae__cu_mmd_kernel(z + i * f, other, F, &s);
            if (threadIdx.x % 32 == 0) slope[k] = s * (first + k < n ? same : cross) * *dloss;
        }
        __syncthreads();
        for (size_t j = threadIdx.x; j < f; j += blockDim.x) {
            ae__cu_sum sum = {first ? dz[i * f + j] : 0.0f, 0.0f};
            for (size_t k = 0; k < count; k++)
                ae__cu_add(&sum, slope[k] * (z[i * f + j]
                                             - ae__cu_mmd_row(z, prior, first + k, n, f)[j]));
            dz[i * f + j] = ae__cu_value(sum);
        }
    }
}

static void ae__cu_mmd_backward(const ae_exec *e, float *dz, float dloss, const float *z,
                                const float *prior, int B, int F)
{
    ae__cuda *c = ae__cu_begin(e);
    // each pair of z counts twice; the distance's own slope is 2 (z - other)
    const double each = 4.0 * (double)dloss, n = (double)B;
    AE__CU_LAUNCH(c, ae__k_mmd_backward, (unsigned)B, AE_CUDA_BLOCK, 0, dz,
                  (float)(each / (n * (n - 1.0))), (float)(-each / (n * n)), c->dloss, z, prior,
                  (size_t)B, F);
}
#endif

/* ---------------------------------------------------------------------------
   >>penalty   sparse, contractive, orthogonal                                */

// A whole number that sorts as x does, NaN above all; and of equal ones the first, whose `place`,
// counted from the row's end, is larger. No two elements of a row have the same.
static __device__ uint64_t ae__cu_rank(float x, unsigned place)
{
    const unsigned bits = __float_as_uint(x + 0.0f);    // -0 is 0
    const unsigned key = (bits & 0x7fffffffu) > 0x7f800000u ? 0xffffffffu
                         : bits >> 31                       ? ~bits : bits | 0x80000000u;
    return (uint64_t)key << 32 | place;
}

/* A block for a row. The k-th largest rank, bit by bit from the top: a bit is set if with it k are
   or more are as large. What is as large as that rank stays. */
static __global__ void ae__k_top_k(float *y, float *mask, const float *x, int k, int F)
{
    AE__SHARED(unsigned, count, [64]);
    const size_t row = (size_t)blockIdx.x * (size_t)F;
    const unsigned lane = threadIdx.x % 32, last = (unsigned)F - 1;
    uint64_t least = 0;
    for (unsigned bit = threadIdx.x; bit < 64; bit += blockDim.x) count[bit] = 0;
    __syncthreads();
    for (int bit = 63; bit >= 0; bit--) {
        if (bit < 32 && last >> bit == 0) continue;         // of no place
        const uint64_t next = least | (uint64_t)1 << bit;
        unsigned above = 0;
        for (unsigned j = threadIdx.x; j - lane <= last; j += blockDim.x) {
            const int is = j <= last && ae__cu_rank(x[row + j], last - j) >= next;
            above += (unsigned)__popc(__ballot_sync(0xffffffffu, is));
        }
        if (lane == 0) atomicAdd(&count[bit], above);
        __syncthreads();
        if (count[bit] >= (unsigned)k) least = next;
    }
    for (unsigned j = threadIdx.x; j <= last; j += blockDim.x) {
        const float v = x[row + j];
        const int keep = ae__cu_rank(v, last - j) >= least;
        if (mask) mask[row + j] = keep ? 1.0f : 0.0f;
        y[row + j] = keep ? v : 0.0f;
    }
}

static void ae__cu_top_k_forward(const ae_exec *e, float *y, float *mask, const float *x, int k,
                                 int B, int F)
{
    ae__cuda *c = ae__cu_begin(e);
    AE__CU_LAUNCH(c, ae__k_top_k, (unsigned)B, AE_CUDA_BLOCK, 0, y, mask, x, k, F);
}

#ifndef AE_NO_TRAIN
// A block for a row: w = w min(1, limit / |w|).
static __global__ void ae__k_max_norm(float *w, float limit, int D, const ae__cu_record *record)
{
    if (record->failed) return;
    float *row = w + (size_t)blockIdx.x * (size_t)D;
    ae__cu_sum square = {0.0f, 0.0f};
    for (unsigned j = threadIdx.x; j < (unsigned)D; j += blockDim.x)
        ae__cu_add(&square, row[j] * row[j]);
    const float norm = sqrtf(ae__cu_block_sum(ae__cu_total(square)));
    if (!(norm > limit)) return;
    for (unsigned j = threadIdx.x; j < (unsigned)D; j += blockDim.x) row[j] *= limit / norm;
}

static void ae__cu_max_norm(const ae_exec *e, float *w, float limit, int O, int D)
{
    ae__cuda *c = ae__cu_begin(e);
    AE__CU_LAUNCH(c, ae__k_max_norm, (unsigned)O, AE_CUDA_BLOCK, 0, w, limit, D,
                  c->record);
}

// |x| is the L1 loss against zeros.
static void ae__cu_l1_penalty_forward(const ae_exec *e, float *loss, const float *x,
                                      ae_reduction reduction, int B, int F)
{
    ae__cu_loss_forward(e, loss, x, NULL, AE_LOSS_L1, 0.0f, reduction, B, F);
}

static void ae__cu_l1_penalty_backward(const ae_exec *e, float *dx, float dloss, const float *x,
                                       ae_reduction reduction, int B, int F)
{
    ae__cu_loss_backward(e, dx, NULL, dloss, x, NULL, AE_LOSS_L1, 0.0f, reduction, B, F);
}

// Blocks for units, each of which takes every so many-th one.
static unsigned ae__cu_units(int units)
{
    return units < 1024 ? (unsigned)units : 1024;
}

// u - ln(1 + u), never negative; ratio is 1 + u, which near 0 has more digits. For a small u by
// ln(1 + u) = 2 (s + s^3 / 3 + ...) with s = u / (2 + u), where u - 2 s = u s.
static __device__ float ae__cu_excess(float u, float ratio)
{
    if (!(fabsf(u) < 0.5f)) return u - logf(ratio);
    const float s = u / (2.0f + u), q = s * s;
    float sum = 2.0f / 13.0f;
    for (int k = 11; k >= 3; k -= 2) sum = fmaf(sum, q, 2.0f / (float)k);
    return s * (u - q * sum);
}

/* A block for a unit of mean m; with d = m - rho and r = 1 - rho, KL(rho || m)
   = rho ln(rho / m) + r ln(r / (1 - m)) = rho excess(d / rho) + r excess(-d / r): the u's cancel.
   Its slope: r / (1 - m) - rho / m = d / (m (1 - m)). m, 1 - m and d are summed apart. */
static __global__ void ae__k_kl_sparsity(float *loss, float *dx, const float *x, float rho, int B,
                                         int F, float scale, const float *dloss, float *parts,
                                         unsigned *counter)
{
    const float r = 1.0f - rho, least = 1e-6f;
    ae__cu_sum all = {0.0f, 0.0f};
    for (size_t j = blockIdx.x, n = (size_t)F; j < n; j += gridDim.x) {
        ae__cu_sum sum = {0.0f, 0.0f}, rest = sum, off = sum;
        for (size_t b = threadIdx.x; b < (size_t)B; b += blockDim.x) {
            const float v = x[b * n + j];
            ae__cu_add(&sum, v);
            ae__cu_add(&rest, 1.0f - v);
            ae__cu_add(&off, v - rho);
        }
        float m = ae__cu_block_sum(ae__cu_total(sum)) / (float)B;
        float not_m = ae__cu_block_sum(ae__cu_total(rest)) / (float)B;
        float d = ae__cu_block_sum(ae__cu_total(off)) / (float)B;
        if (m < least) m = least, not_m = 1.0f - least, d = least - rho;
        if (not_m < least) not_m = least, m = 1.0f - least, d = r - least;
        if (threadIdx.x == 0) {
            ae__cu_add(&all, rho > 0.0f ? rho * ae__cu_excess(d / rho, m / rho) : d);
            ae__cu_add(&all, r > 0.0f ? r * ae__cu_excess(-d / r, not_m / r) : -d);
        }
        for (size_t b = threadIdx.x; dx && b < (size_t)B; b += blockDim.x)
            dx[b * n + j] = scale * *dloss * (d / (m * not_m));
    }
    if (loss) ae__cu_grid_sum(loss, ae__cu_block_sum(ae__cu_total(all)), scale, parts, counter);
}

static void ae__cu_kl_sparsity_forward(const ae_exec *e, float *loss, const float *x, float rho,
                                       ae_reduction reduction, int B, int F)
{
    ae__cuda *c = ae__cu_begin(e);
    AE__CU_LAUNCH(c, ae__k_kl_sparsity, ae__cu_units(F), AE_CUDA_BLOCK, 0, loss, nullptr, x,
                  rho, B, F, reduction == AE_MEAN ? 1.0f / (float)F : 1.0f, c->dloss, c->parts,
                  c->counters);
}

static void ae__cu_kl_sparsity_backward(const ae_exec *e, float *dx, float dloss, const float *x,
                                        float rho, ae_reduction reduction, int B, int F)
{
    ae__cuda *c = ae__cu_begin(e);
    const double scale = (double)dloss / B / (reduction == AE_MEAN ? F : 1);
    AE__CU_LAUNCH(c, ae__k_kl_sparsity, ae__cu_units(F), AE_CUDA_BLOCK, 0, nullptr, dx, x,
                  rho, B, F, (float)scale, c->dloss, c->parts, c->counters);
}

// act'(s), and *second = act''(s), in forms that keep their digits where they are small.
static __device__ float ae__cu_slopes(float s, int act, float a, float *second)
{
    const float A = 1.59576912f, B = 0.0713548163f;         // GELU_TANH: s sigmoid(s (A + B s^2))
    const float v = s > 15.0f ? 15.0f : s < -15.0f ? -15.0f : s, u1 = A + 3.0f * B * v * v;
    const float u = act == AE_ACT_TANH        ? 2.0f * s
                    : act == AE_ACT_GELU_TANH ? v * (A + B * v * v) : s;
    float spread, phi;          // sigmoid'(u), the normal density at s
    const float sigmoid = ae__sigmoid_slope_cuda(u, &spread);
    const float turn = -ae__tanh_cuda(0.5f * u);            // 1 - 2 sigmoid(u)
    *second = 0.0f;
    switch (act) {
    case AE_ACT_RELU: return s > 0.0f ? 1.0f : 0.0f;
    case AE_ACT_LEAKY_RELU: return s > 0.0f ? 1.0f : a;
    case AE_ACT_ELU:
        if (s > 0.0f) return 1.0f;
        return *second = a * ae__exp_cuda(s);
    case AE_ACT_SIGMOID:
        *second = spread * turn;
        return spread;
    case AE_ACT_TANH:           // 2 sigmoid(2 s) - 1
        *second = 8.0f * spread * turn;
        return 4.0f * spread;
    case AE_ACT_SOFTPLUS:
        *second = spread;
        return sigmoid;
    case AE_ACT_SILU:
        *second = spread * (2.0f + s * turn);
        return sigmoid + s * spread;
    case AE_ACT_GELU: {         // Phi + s phi, and 2 phi - s^2 phi
        const float below = ae__normal_cuda(s, &phi);
        *second = phi * (2.0f - s * s);
        return below + s * phi;
    }
    case AE_ACT_GELU_TANH:
        *second = spread * (2.0f * u1 + v * (6.0f * B * v + u1 * u1 * turn));
        return sigmoid + v * spread * u1;
    default: return 1.0f;
    }
}

// A block for a unit. The sum over the batch of act'^2 |w|^2:   ds = 2 act' act'' |w|^2
// dw = 2 w sum of act'^2.   What is NULL is left out.
static __global__ void ae__k_contractive(float *loss, float *ds, float *dw, const float *s,
                                         const float *w, int act, float a, int B, int D, int O,
                                         float scale, const float *dloss, float *parts,
                                         unsigned *counter)
{
    const float by = loss ? 0.0f : scale * *dloss;
    ae__cu_sum all = {0.0f, 0.0f};
    for (size_t o = blockIdx.x, n = (size_t)O, d = (size_t)D; o < n; o += gridDim.x) {
        ae__cu_sum sum = {0.0f, 0.0f};
        for (size_t p = o * d + threadIdx.x; p < (o + 1) * d; p += blockDim.x)
            ae__cu_add(&sum, w[p] * w[p]);
        const float square = ae__cu_block_sum(ae__cu_total(sum));
        sum.sum = sum.lost = 0.0f;
        for (size_t b = threadIdx.x; b < (size_t)B; b += blockDim.x) {
            float second;
            const float slope = ae__cu_slopes(s[b * n + o], act, a, &second);
            ae__cu_add(&sum, slope * slope);
            if (ds) ds[b * n + o] = by * slope * second * square;
        }
        const float slopes = ae__cu_block_sum(ae__cu_total(sum));
        if (threadIdx.x == 0) ae__cu_add(&all, slopes * square);
        for (size_t p = o * d + threadIdx.x; dw && p < (o + 1) * d; p += blockDim.x)
            dw[p] += by * slopes * w[p];
    }
    if (loss) ae__cu_grid_sum(loss, ae__cu_block_sum(ae__cu_total(all)), scale, parts, counter);
}

static void ae__cu_contractive_forward(const ae_exec *e, float *loss, const float *s,
                                       const float *w, ae_act act, float a, ae_reduction reduction,
                                       int B, int D, int O)
{
    ae__cuda *c = ae__cu_begin(e);
    AE__CU_LAUNCH(c, ae__k_contractive, ae__cu_units(O), AE_CUDA_BLOCK, 0, loss, nullptr,
                  nullptr, s, w, (int)act, a, B, D, O, (float)ae__reduce(reduction, B, 1),
                  c->dloss, c->parts, c->counters);
}

static void ae__cu_contractive_backward(const ae_exec *e, float *ds, float *dw, float dloss,
                                        const float *s, const float *w, ae_act act, float a,
                                        ae_reduction reduction, int B, int D, int O)
{
    ae__cuda *c = ae__cu_begin(e);
    const double scale = 2.0 * (double)dloss * ae__reduce(reduction, B, 1);
    AE__CU_LAUNCH(c, ae__k_contractive, ae__cu_units(O), AE_CUDA_BLOCK, 0, nullptr, ds, dw,
                  s, w, (int)act, a, B, D, O, (float)scale, c->dloss, c->parts, c->counters);
}

// *loss = sum of |w| or w^2, or dw += dloss sign(w) or 2 dloss w.   loss or dw is NULL
static __global__ void ae__k_weight_penalty(float *loss, float *dw, const float *w, int squared,
                                            size_t n, float scale, const float *dloss, float *parts,
                                            unsigned *counter)
{
    const float by = loss ? 0.0f : scale * *dloss;
    ae__cu_sum sum = {0.0f, 0.0f};
    AE__CU_EACH(i, n) {
        const float v = w[i], sign = v > 0.0f ? 1.0f : v < 0.0f ? -1.0f : v;    // 0, or NaN
        if (loss) ae__cu_add(&sum, squared ? v * v : fabsf(v));
        if (dw) dw[i] += squared ? 2.0f * by * v : by * sign;
    }
    if (loss) ae__cu_grid_sum(loss, ae__cu_block_sum(ae__cu_total(sum)), scale, parts, counter);
}

static void ae__cu_weight_penalty_forward(const ae_exec *e, float *loss, const float *w,
                                          int squared, size_t n)
{
    ae__cuda *c = ae__cu_begin(e);
    AE__CU_LAUNCH(c, ae__k_weight_penalty, ae__cu_blocks(n), AE_CUDA_BLOCK, 0, loss, nullptr, w,
                  squared, n, 1.0f, c->dloss, c->parts, c->counters);
}

static void ae__cu_weight_penalty_backward(const ae_exec *e, float *dw, float dloss, const float *w,
                                           int squared, size_t n)
{
    ae__cuda *c = ae__cu_begin(e);
    AE__CU_LAUNCH(c, ae__k_weight_penalty, ae__cu_blocks(n), AE_CUDA_BLOCK, 0, nullptr, dw, w,
                  squared, n, dloss, c->dloss, c->parts, c->counters);
}

/* w is `side` vectors of `length` elements: rows of w, or its columns, whichever are fewer. Vectors
   are `next` apart, their elements `step`; one of the two is 1. A block of 8 x 32 threads has 8
   rows of w w^T - 1, and makes 32 columns of them at a time, a thread an element. */
#define AE__CU_GRAM 8

// Element (i + warp, j + lane); 0 outside. The vectors' elements come in by 32, in shared memory.
static __device__ float ae__cu_gram(const float *w, int i, int j, int side, int length,
                                    size_t next, size_t step)
{
    AE__SHARED(float, rows, [AE__CU_GRAM][33]);
    AE__SHARED(float, columns, [32][33]);
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    ae__cu_sum sum = {i + warp == j + lane ? -1.0f : 0.0f, 0.0f};
    for (int p = 0; p < length; p += 32) {
        __syncthreads();        // the elements before may still be read
        for (int k = (int)threadIdx.x; k < 32 * 32; k += 32 * AE__CU_GRAM) {
            const int v = step == 1 ? k / 32 : k % 32, q = step == 1 ? k % 32 : k / 32;
            const size_t at = (size_t)(p + q) * step;   // neighbours for neighbouring threads
            columns[v][q] = j + v < side && p + q < length ? w[(size_t)(j + v) * next + at] : 0.0f;
            if (v < AE__CU_GRAM)
                rows[v][q] = i + v < side && p + q < length ? w[(size_t)(i + v) * next + at] : 0.0f;
        }
        __syncthreads();
        float part = 0.0f;
        for (int q = 0; q < 32; q++) part = fmaf(rows[warp][q], columns[lane][q], part);
        ae__cu_add(&sum, part);
    }
    return i + warp < side && j + lane < side ? ae__cu_total(sum) : 0.0f;
}

// *loss = |w w^T - 1|^2, or dw += scale (w w^T - 1) w: a block adds to its own 8 vectors.
static __global__ void ae__k_orthogonal(float *loss, float *dw, const float *w, int side,
                                        int length, size_t next, size_t step, float scale,
                                        const float *dloss, float *parts, unsigned *counter)
{
    AE__SHARED(float, gram, [AE__CU_GRAM][32]);
    const int i = (int)blockIdx.x * AE__CU_GRAM;
    const float by = loss ? 0.0f : scale * *dloss;
    ae__cu_sum squares = {0.0f, 0.0f};
    for (int j = 0; j < side; j += 32) {
        const float g = ae__cu_gram(w, i, j, side, length, next, step);
        ae__cu_add(&squares, g * g);
        if (!dw) continue;
        gram[threadIdx.x / 32][threadIdx.x % 32] = g * by;
        __syncthreads();
        for (size_t p = threadIdx.x; p < (size_t)length; p += blockDim.x) {
            float sum[AE__CU_GRAM] = {0.0f};
            for (int k = 0; k < 32 && j + k < side; k++) {
                const float v = w[(size_t)(j + k) * next + p * step];
                for (int r = 0; r < AE__CU_GRAM; r++) sum[r] = fmaf(gram[r][k], v, sum[r]);
            }
            for (int r = 0; r < AE__CU_GRAM; r++)
                if (i + r < side) dw[(size_t)(i + r) * next + p * step] += sum[r];
        }
    }
    if (loss) ae__cu_grid_sum(loss, ae__cu_block_sum(ae__cu_total(squares)), 1.0f, parts, counter);
}

static void ae__cu_orthogonal_run(const ae_exec *e, float *loss, float *dw, float scale,
                                  const float *w, int O, int D)
{
    ae__cuda *c = ae__cu_begin(e);
    const int wide = O <= D, side = wide ? O : D, length = wide ? D : O;
    const size_t next = wide ? (size_t)D : 1, step = wide ? 1 : (size_t)D;
    AE__CU_LAUNCH(c, ae__k_orthogonal, (unsigned)(side + AE__CU_GRAM - 1) / AE__CU_GRAM,
                  32 * AE__CU_GRAM, 0, loss, dw, w, side, length, next, step, scale, c->dloss,
                  c->parts, c->counters);
}

static void ae__cu_orthogonal_forward(const ae_exec *e, float *loss, const float *w, int O, int D)
{
    ae__cu_orthogonal_run(e, loss, NULL, 0.0f, w, O, D);
}

static void ae__cu_orthogonal_backward(const ae_exec *e, float *dw, float dloss, const float *w,
                                       int O, int D)
{
    ae__cu_orthogonal_run(e, NULL, dw, 4.0f * dloss, w, O, D);
}
#endif

/* ---------------------------------------------------------------------------
   >>optim   updates, clipping                                                */

#ifndef AE_NO_TRAIN
static __global__ void ae__k_clip_value(float *g, float limit, size_t n)
{
    AE__CU_EACH(i, n) ae__clamp_cuda(g + i, limit, 1);
}

static void ae__cu_clip_value(const ae_exec *e, float *g, float limit, size_t n)
{
    ae__cuda *c = ae__cu_begin(e);
    AE__CU_LAUNCH(c, ae__k_clip_value, ae__cu_blocks(n), AE_CUDA_BLOCK, 0, g, limit, n);
}

static __device__ void ae__cu_step(float *w, float *s1, float *s2, float *g, float factor,
                                   const ae__update *u)
{
    *g *= factor;
    ae__update_cuda(w, s1, s2, g, u, 1);
}

/* A step of the optimiser, as the record says, for parameters that lie side by side, four a thread.
   The gradient's norm is in the record: above clip_norm (0: any) g is scaled down to it first. */
static __global__ void ae__k_update(float *w, float *s1, float *s2, float *g, float clip_norm,
                                    size_t n, const ae__cu_record *record)
{
    if (record->failed) return;
    const ae__update u = record->update;
    const float norm = sqrtf(record->norm2) + 1e-6f;
    const float factor = clip_norm > 0.0f && clip_norm < norm ? clip_norm / norm : 1.0f;
    const size_t bits = (size_t)w | (size_t)s1 | (size_t)s2 | (size_t)g;
    const size_t fours = bits % sizeof(float4) ? 0 : n / 4, rest = n - 4 * fours;
    AE__CU_EACH(k, fours) {
        float4 vw = ((float4 *)w)[k], vg = ((float4 *)g)[k];
        float4 v1 = make_float4(0.0f, 0.0f, 0.0f, 0.0f), v2 = v1;
        if (s1) v1 = ((float4 *)s1)[k];
        if (s2) v2 = ((float4 *)s2)[k];
        ae__cu_step(&vw.x, &v1.x, &v2.x, &vg.x, factor, &u);
        ae__cu_step(&vw.y, &v1.y, &v2.y, &vg.y, factor, &u);
        ae__cu_step(&vw.z, &v1.z, &v2.z, &vg.z, factor, &u);
        ae__cu_step(&vw.w, &v1.w, &v2.w, &vg.w, factor, &u);
        ((float4 *)w)[k] = vw;
        if (s1) ((float4 *)s1)[k] = v1;
        if (s2) ((float4 *)s2)[k] = v2;
        if (factor != 1.0f) ((float4 *)g)[k] = vg;
    }
    AE__CU_EACH(k, rest) {      // what is left of four, or all that is not aligned
        const size_t i = 4 * fours + k;
        ae__cu_step(w + i, s1 ? s1 + i : nullptr, s2 ? s2 + i : nullptr, g + i, factor, &u);
    }
}

static void ae__cu__update(const ae_exec *e, float *w, float *s1, float *s2, float *g,
                           float clip_norm, size_t n)
{
    ae__cuda *c = ae__cu_begin(e);
    AE__CU_LAUNCH(c, ae__k_update, ae__cu_blocks(n / 4), AE_CUDA_BLOCK, 0, w, s1, s2, g, clip_norm,
                  n, c->record);
}
#endif

/* ---- what a model has on its GPU ---- */

// A dataset's arrays there, and which of the program's they are copies of.
typedef struct ae__cu_source {
    void *values;               // (rows,features) bytes or floats
    int32_t *labels;            // (rows) or NULL
    uint32_t *index;            // (n) or NULL
    size_t *rows;               // of staged samples: (n)
    const void *host_values, *host_labels, *host_index;
    size_t n;
    int is_bytes;
} ae__cu_source;

// How ae__k_gather makes a batch: see ae__feeding.
typedef struct ae__cu_feeding {
    ae__cu_source source;
    size_t first, n, repeat, features;
    uint64_t seed, order;
    int staged, stepping;       // from the stage; where and in which order the record says
    int pixels;                 // bytes / 255
    float scale, mean, deviation;
} ae__cu_feeding;

// What a recorded step depends on, besides the model.
typedef struct ae__cu_key {
    ae__cu_source source;       // where the samples are
    size_t samples, n;
    uint64_t seed;
    int labels, batch, edits;
    float scale, mean, deviation, clip_value, clip_norm;
} ae__cu_key;

typedef struct ae__cu_graph {
    ae__cu_key key;
    cudaGraphExec_t exec;       // NULL: not recorded
    int uses;                   // 1, 2: as many and more
    int last_n;                 // samples of its last part
    uint64_t used;              // when last
} ae__cu_graph;

#define AE__CU_GRAPHS 4         // of full and last batches, for two datasets

typedef struct ae__cu_model {
    ae__cuda *cuda;
    struct ae__cu_model *next;  // in the arena's list
    unsigned char *memory;      // the copy of the model's; NULL: it computes on the processor
    int device;                 // which GPU: calls on the model make it the current one
    size_t bytes;
    ae__cu_account *terms;         // (losses)
    ae__cu_account *seen_terms;    // (losses) as last looked at, on the processor
    int host_new, device_new;   // whose PARAM, GRAD and OPT were written last
    int away;                   // > 0: the processor works on the model
    int running, trained;       // something, a step, was begun since the last look
    ae_status told;             // what a call found that could not say so: the next one does
    char told_text[AE_ERROR_MAX];
    int stepping;               // a step's operations are on their way
    int fed_n;                  // samples of the last batch
    int judge_n, judge_first;   // samples of the last part of a step; it is the first, too
    size_t step_first;          // where in the epoch the step begins
    ae__cu_source data[2];      // datasets
    int next_data;
    ae__cu_source staged;       // samples on their way, on the GPU, and two buffers they come from
    struct {
        unsigned char *memory;
        cudaEvent_t copied;
    } stage[2];
    size_t stage_room, stage_bytes;
    int stage_turn;
    ae__cu_graph graph[AE__CU_GRAPHS];
    uint64_t clock;
    int captures, no_graphs;
    char place[AE_ERROR_MAX];
} ae__cu_model;

// The bytes that a model with so many losses has for all this.
static size_t ae__cu_context_bytes(int losses)
{
    return sizeof(ae__cuda) + sizeof(ae__cu_model) + (size_t)losses * sizeof(ae__cu_account);
}

/* ---- what ae.h calls of the model's part, below ---- */

static ae_status ae__cu_open_model(ae_model *m);
static ae_status ae__cu_enter(ae_model *m);
static ae_status ae__cu_sync(ae_model *m);
static int ae__cu_view(ae_model *m, const void *p, size_t bytes);
static void ae__cu_copy(ae_model *m, void *to, const void *from, size_t bytes, int in);
static void ae__cu_fetch(const ae_model *m);
static void ae__cu_expose(ae_model *m);
static ae_status ae__cu_told(ae_model *m);
static void ae__cu_runs(ae_model *m, int n);
static void ae__cu_fetch_values(ae_model *m);
static void ae__cu_to_host(ae_model *m);
static void ae__cu_to_device(ae_model *m);
static ae_status ae__cu_upload(ae_model *m, const ae_dataset *d);
static void ae__cu_place_samples(ae_model *m, size_t first, size_t n);
static void ae__cu_feed(ae_model *m, const ae_dataset *d, size_t first, int n, uint64_t order,
                        size_t repeat);
#ifndef AE_NO_TRAIN
static void ae__cu_look(const ae_model *m);
static void ae__cu_zero_grad(ae_model *m);
static ae_status ae__cu_check_forward(ae_model *m, int n);
static void ae__cu_kept_statistics(ae_model *m);
static float ae__cu_dloss(ae_model *m, const ae_tensor *t, double share);
static void ae__cu_set_dlosses(ae_model *m, float scale);
static void ae__cu_begin_step(ae_model *m, const ae_optim *o, float lr, size_t samples,
                              uint64_t order, float scale);
static void ae__cu_sum_losses(ae_model *m, int n, int first, int last);
static void ae__cu_update_params(ae_model *m, const ae_optim *o);
static ae_status ae__cu_step_by_hand(ae_model *m, const ae_optim *o);
static ae_status ae__cu_step(ae_model *m, const ae_dataset *d, const ae_optim *o, float lr,
                             int batch, size_t samples);
#endif

/* ===========================================================================
   The model */
#elif defined(AE__CUDA_MODEL)

/* ---- opening and giving back ---- */

static ae__cu_model *ae__cu_model_of(const ae_model *m)
{
    return ((ae__cuda *)m->context)->model;
}

// The device failed: a sentence. Nothing more is launched for this model.
static ae_status ae__cu_device_error(ae_model *m, const ae__cuda *c)
{
    return ae__report(m, AE_E_DEVICE, "%s: %s (%s, ae_cuda.cuh line %d)",
                      cudaGetErrorName(c->error), cudaGetErrorString(c->error), c->call, c->line);
}

// What nobody was told yet.
static ae_status ae__cu_told(ae_model *m)
{
    ae__cu_model *g = ae__cu_model_of(m);
    const ae_status told = g->told;
    g->told = AE_SUCCESS;
    if (g->cuda->error) return ae__cu_device_error(m, g->cuda);
    return told ? ae__report(m, told, "%s", g->told_text) : AE_SUCCESS;
}

// So many samples are in the batch that is computed next.
static void ae__cu_runs(ae_model *m, int n)
{
    ae__cu_model_of(m)->fed_n = n;
}

static void ae__cu_tell_later(ae_model *m, ae_status status)
{
    ae__cu_model *g = ae__cu_model_of(m);
    if (status == AE_SUCCESS) return;
    g->told = status;
    memcpy(g->told_text, m->error, sizeof g->told_text);
}

static void ae__cu_free_source(ae__cu_source *s)
{
    cudaFree(s->values);
    cudaFree(s->labels);
    cudaFree(s->index);
    memset(s, 0, sizeof *s);
}

static void ae__cu_free_stage(ae__cu_model *g)
{
    for (int i = 0; i < 2; i++) {
        if (g->stage[i].copied) cudaEventDestroy(g->stage[i].copied);
        cudaFreeHost(g->stage[i].memory);
    }
    cudaFree(g->staged.values);
    memset(g->stage, 0, sizeof g->stage);
    memset(&g->staged, 0, sizeof g->staged);
    g->stage_room = 0;
}

static void ae__cu_close_model(ae__cu_model *g)
{
    if (g->cuda->stream) cudaStreamSynchronize(g->cuda->stream);
    for (int i = 0; i < AE__CU_GRAPHS; i++)
        if (g->graph[i].exec) cudaGraphExecDestroy(g->graph[i].exec);
    for (int i = 0; i < 2; i++) ae__cu_free_source(&g->data[i]);
    ae__cu_free_stage(g);
    cudaFree(g->terms);
    cudaFree(g->memory);
    ae__cu_close(g->cuda);
    cudaGetLastError();         // after a failure each of these repeats it
}

static void ae__cu_release(void **list, const unsigned char *from)
{
    ae__cu_model *g = (ae__cu_model *)*list, *kept = NULL, *next;
    for (; g; g = next) {
        next = g->next;
        if ((const unsigned char *)g >= from) {
            ae__cu_close_model(g);
        } else {
            g->next = kept;
            kept = g;
        }
    }
    *list = kept;
}

// Why there is no GPU to use, as text; "" when there is one. Its name then goes to `name`.
static void ae__cu_usable(char *why, size_t why_n, char *name, size_t name_n)
{
    int count = 0, device = 0;      // some errors leave them as they are
    cudaDeviceProp p;
    cudaError_t error = cudaGetDeviceCount(&count);
    why[0] = 0;
    if (error == cudaSuccess && count == 0) error = cudaErrorNoDevice;
    if (error == cudaSuccess) error = cudaGetDevice(&device);
    if (error == cudaSuccess) error = cudaGetDeviceProperties(&p, device);
    if (error != cudaSuccess)
        ae__format(why, why_n, "%s: %s", cudaGetErrorName(error), cudaGetErrorString(error));
    else if (p.major * 10 + p.minor < 75)
        ae__format(why, why_n, "%s has compute capability %d.%d, 7.5 is needed", p.name, p.major,
                   p.minor);
    else
        ae__format(name, name_n, "cuda: %s", p.name);
    cudaGetLastError();
}

// A kernel that does nothing: it runs where this program has code for the GPU.
static __global__ void ae__k_probe(ae__cu_record *record)
{
    if (blockIdx.x == 0 && threadIdx.x == 0) record->failed = 0;
}

// Memory, and a kernel that ran. On failure everything is given back and c->error says why.
static void ae__cu_open_memory(ae_model *m, ae__cuda *c, ae__cu_model *g)
{
    ae__cu_open(c);
    c->model = g;
    g->cuda = c;
    g->seen_terms = (ae__cu_account *)(void *)(g + 1);
    AE__CU(c, cudaGetDevice(&g->device));
    for (int s = 0; s < AE_SEG_COUNT; s++) g->bytes += m->bytes[s];
    AE__CU(c, cudaMalloc(&g->memory, g->bytes));
    AE__CU(c, cudaMalloc(&g->terms, ((size_t)m->losses + 1) * sizeof *g->terms));
    AE__CU(c, cudaMemsetAsync(g->memory, 0, g->bytes, c->stream));
    AE__CU_LAUNCH(c, ae__k_probe, 1, 32, 0, c->record);
    AE__CU(c, cudaStreamSynchronize(c->stream));
}

/* Chooses: what the program asked for, else what the environment does, else a GPU that works. Where
   none does, m->place says why, and the processor computes. */
static ae_status ae__cu_open_model(ae_model *m)
{
    ae__cuda *c = (ae__cuda *)m->context;
    ae__cu_model *g = (ae__cu_model *)(void *)(c + 1);
    const char *asked = m->device == AE_DEVICE_AUTO ? getenv("AE_DEVICE") : NULL;
    ae_device_kind kind = m->device;
    char why[AE_ERROR_MAX / 2];
    if (asked && strcmp(asked, "cpu") == 0) kind = AE_DEVICE_CPU;
    else if (asked && strcmp(asked, "cuda") == 0) kind = AE_DEVICE_CUDA;
    else if (asked && asked[0] && strcmp(asked, "auto") != 0)
        return ae__report(m, AE_E_ARG, "AE_DEVICE is %s: it must be auto, cpu or cuda", asked);
    if (kind == AE_DEVICE_CPU) return AE_SUCCESS;
    ae__cu_usable(why, sizeof why, g->place, sizeof g->place);
    if (!why[0]) {
        ae__cu_open_memory(m, c, g);
        if (c->error) {
            ae__format(why, sizeof why, "%s: %s (%s), %z bytes wanted", cudaGetErrorName(c->error),
                       cudaGetErrorString(c->error), c->call, g->bytes);
            ae__cu_close_model(g);
            g->memory = NULL;
        }
    }
    if (why[0] && kind == AE_DEVICE_CUDA)
        return ae__report(m, AE_E_DEVICE, "ae_build: CUDA was asked for, but there is no usable "
                          "GPU (%s)", why);
    m->place = g->place;
    if (why[0]) {
        ae__format(g->place, sizeof g->place, "cpu: no usable GPU (%s)", why);
        return AE_SUCCESS;
    }
    g->next = (ae__cu_model *)m->arena->devices;
    m->arena->devices = g;
    g->host_new = 1;
#ifdef AE_CUDA_NO_GRAPH
    g->no_graphs = 1;
#endif
    m->exec.device = c;
    m->shift = (ptrdiff_t)((uintptr_t)g->memory - (uintptr_t)m->segment[0]);
    return AE_SUCCESS;
}

/* ---- two copies of the memory: which one is newer, and looking at results ---- */

// PARAM, GRAD and OPT lie next to each other.
static size_t ae__cu_param_bytes(const ae_model *m)
{
    return (size_t)(m->segment[AE_SEG_STATE] - m->segment[AE_SEG_PARAM]);
}

static void ae__cu_copy(ae_model *m, void *to, const void *from, size_t bytes, int in)
{
    ae__cuda *c = ae__cu_begin(&m->exec);
    AE__CU(c, cudaMemcpyAsync(to, from, bytes, in ? cudaMemcpyHostToDevice
                                                  : cudaMemcpyDeviceToHost, c->stream));
    AE__CU(c, cudaStreamSynchronize(c->stream));
    if (!in) c->model->running |= 1;        // what came of it has not been looked at
}

// What the losses and the counters are, and how each loss is reported.
static void ae__cu_put_state(ae_model *m, ae__cu_model *g)
{
    ae__cu_record record;
    memset(&record, 0, sizeof record);
    record.seen = ae__state_of(m)->seen;
    memset(g->seen_terms, 0, (size_t)m->losses * sizeof *g->seen_terms);
#ifndef AE_NO_TRAIN
    for (const ae_tensor *t = m->first; t; t = t->next)
        if (ae__is_term(t)) {
            ae__cu_account *term = &g->seen_terms[t->loss];
            const double sum = ae__loss_sums(m)[t->loss];
            term->kind = (t->reduction == AE_SUM ? 2 : 1) + (t->minimized ? 4 : 0);
            term->epoch.sum = (float)sum;
            term->epoch.lost = (float)(sum - (double)term->epoch.sum);
        }
    ae__cu_copy(m, g->terms, g->seen_terms, (size_t)m->losses * sizeof *g->terms, 1);
#endif
    ae__cu_copy(m, g->cuda->record, &record, sizeof record, 1);
}

// Before a call: the GPU has what the processor wrote.
static ae_status ae__cu_enter(ae_model *m)
{
    ae__cu_model *g = (ae__cu_model *)(void *)((ae__cuda *)m->context + 1);
    if (g->memory == NULL) return AE_SUCCESS;       // the processor's
    cudaGetLastError();         // the program's own is not ours
    cudaSetDevice(g->device);
    if (g->host_new && m->exec.device && !g->told) {
        ae__cu_copy(m, g->memory, m->segment[AE_SEG_PARAM], ae__cu_param_bytes(m), 1);
        ae__cu_put_state(m, g);
        g->host_new = 0;
    }
    return ae__cu_told(m);
}

// The parameters, their gradients and the optimiser's state, for the processor to read.
static void ae__cu_fetch(const ae_model *m)
{
    ae__cu_model *g = ae__cu_model_of(m);
    if (g->device_new && m->exec.device)
        ae__cu_copy((ae_model *)m, m->segment[AE_SEG_PARAM], g->memory, ae__cu_param_bytes(m), 0);
    g->device_new = 0;
}

// And to write.
static void ae__cu_expose(ae_model *m)
{
    if (ae__cu_model_of(m)->host_new) return;
    ae__cu_tell_later(m, ae__cu_sync(m));
    ae__cu_fetch(m);
    ae__cu_model_of(m)->host_new = 1;
}

static void ae__cu_fetch_values(ae_model *m)
{
    const unsigned char *act = m->segment[AE_SEG_ACT];
    ae__cu_copy(m, m->segment[AE_SEG_ACT], ae__here(m, act), m->bytes[AE_SEG_ACT], 0);
}

// The processor works on the model for a while.
static void ae__cu_to_host(ae_model *m)
{
    if (m == NULL || !m->built || m->context == NULL) return;
    ae__cu_model *g = (ae__cu_model *)(void *)((ae__cuda *)m->context + 1);
    if (g->memory == NULL) return;
    if (g->away == 0) {         // what this finds out may come here, too: see ae__cu_blame
        ae__cu_expose(m);
        ae__cu_fetch_values(m);
    }
    g->away++;
    m->exec.device = NULL;
    m->shift = 0;
}

static void ae__cu_to_device(ae_model *m)
{
    if (m == NULL || !m->built || m->context == NULL) return;
    ae__cu_model *g = (ae__cu_model *)(void *)((ae__cuda *)m->context + 1);
    if (g->memory == NULL || --g->away > 0) return;
    m->exec.device = g->cuda;
    m->shift = (ptrdiff_t)((uintptr_t)g->memory - (uintptr_t)m->segment[0]);
    m->forward_n = 0;           // its values are not the GPU's
}

// Besides those with labels: targets and probabilities may be out of range.
static int ae__may_refuse(const ae_tensor *t)
{
#ifdef AE_NO_TRAIN
    (void)t;
    return 0;
#else
    return t->loss >= 0 || t->op == &ae__op_log_bernoulli;
#endif
}

/* What a step, or a loss outside one, refused: the processor computes it again on the values that
   are still there, since a step that fails changes nothing, nor do those after it. */
static ae_status ae__cu_blame(ae_model *m, const ae__cu_record *record)
{
    ae__cu_model *g = ae__cu_model_of(m);
    ae__cu_record clean = *record;
    ae_status status = AE_SUCCESS;
#ifndef AE_NO_TRAIN
    ae__state *s = ae__state_of(m);
    if (record->failed) {
        s->steps = record->step - 1;
        s->epoch = record->epoch;
        s->cursor = record->cursor;
    }
#endif
    clean.failed = 0;
    clean.bad = 0;
    ae__cu_copy(m, g->cuda->record, &clean, sizeof clean, 1);
    ae__cu_to_host(m);
    for (const ae_tensor *t = m->first; t && record->bad && status == AE_SUCCESS; t = t->next)
        if (m->needed[t->id] && t->op->forward
            && (t->op->labels || ae__may_refuse(t)))
            status = t->op->forward(m, t, g->fed_n);
    if (status == AE_SUCCESS && record->bad)    // in a batch before the last one
        status = ae__report(m, AE_E_ARG, "a target, a probability or a label is out of range");
#ifndef AE_NO_TRAIN
    if (status == AE_SUCCESS && !ae__finite((float)ae__weighted(m, NULL, ae__loss_values(m))))
        status = ae__not_finite(m, g->fed_n);
    if (status == AE_SUCCESS)
        status = ae__report(m, AE_E_NUMERIC, "step %z: the gradient is not finite",
                            (size_t)s->steps + 1);
#endif
    ae__cu_to_device(m);
    return status;
}

/* Waits, and learns what came of all that was begun. */
static ae_status ae__cu_sync(ae_model *m)
{
    ae__cu_model *g = ae__cu_model_of(m);
    ae__cuda *c = ae__cu_begin(&m->exec);
    ae__cu_record record;
    const size_t losses = (size_t)m->losses;
    if (!g->running || g->host_new || g->told || c->error) return ae__cu_told(m);
    g->running = 0;
    AE__CU(c, cudaMemcpyAsync(&record, c->record, sizeof record, cudaMemcpyDeviceToHost,
                              c->stream));
    AE__CU(c, cudaMemcpyAsync(g->seen_terms, g->terms, losses * sizeof *g->terms,
                              cudaMemcpyDeviceToHost, c->stream));
    AE__CU(c, cudaMemcpyAsync(ae__loss_values(m), ae__here(m, ae__loss_values(m)),
                              losses * sizeof(float), cudaMemcpyDeviceToHost, c->stream));
    AE__CU(c, cudaStreamSynchronize(c->stream));
    if (c->error) return ae__cu_device_error(m, c);
#ifndef AE_NO_TRAIN
    for (size_t i = 0; i < losses; i++) {
        const ae__cu_account *t = &g->seen_terms[i];
        ae__loss_sums(m)[i] = (double)t->epoch.sum + (double)t->epoch.lost;
        ae__eval_sums(m)[i] = (double)t->part.sum + (double)t->part.lost;
    }
    if (g->trained && record.seen) {
        ae__state_of(m)->seen = record.seen;
        ae__set_means(m, ae__loss_sums(m), record.seen);
    }
    g->trained = 0;
#endif
    return record.failed || record.bad ? ae__cu_blame(m, &record) : AE_SUCCESS;
}

#ifndef AE_NO_TRAIN
static void ae__cu_look(const ae_model *m)
{
    ae__cu_tell_later((ae_model *)m, ae__cu_sync((ae_model *)m));
}
#endif

static int ae__cu_view(ae_model *m, const void *p, size_t bytes)
{
    ae__cu_model_of(m)->running = 1;
    if (ae__cu_sync(m)) return 1;
    ae__cu_copy(m, ae__on_host(m, p), p, bytes, 0);
    return ae__cu_enter(m) != AE_SUCCESS;
}

/* ---- data ---- */

// The rows of samples that no dataset gave: fixed noise goes by them.
static __global__ void ae__k_place_samples(size_t *rows, size_t first, size_t n)
{
    AE__CU_EACH(i, n) rows[i] = first + i;
}

static void ae__cu_place_samples(ae_model *m, size_t first, size_t n)
{
    ae__cuda *c = ae__cu_begin(&m->exec);
    int fixed = 0;
    for (const ae_tensor *t = m->first; t; t = t->next) fixed |= t->noise_fixed;
    if (!fixed) return;
    AE__CU_LAUNCH(c, ae__k_place_samples, ae__cu_blocks(n), AE_CUDA_BLOCK, 0,
                  (size_t *)ae__here(m, m->rows), first, n);
}

/* A block copies a sample: x (B,features), labels (B) and rows (B), x and labels may be NULL. Which
   sample: as ae__fed_row on the processor; in a step its place is the record's. */
static __global__ void ae__k_gather(float *x, int32_t *labels, size_t *rows,
                                    const ae__cu_feeding f, const ae__cu_record *record)
{
    AE__SHARED(size_t, from, [1]);
    const size_t i = blockIdx.x;
    if (f.staged && f.stepping && record->failed) return;   // what failed stays as it was
    if (threadIdx.x == 0) {
        const uint64_t order = f.stepping ? record->order : f.order;
        const ae_random r = {f.seed, order, AE__STREAM_ORDER};
        size_t at = f.first + i;
        if (!f.staged) {
            at = (size_t)((at + (f.stepping ? record->cursor : 0)) / f.repeat);
            if (order) at = (size_t)ae__permute(at, f.n, r);
            if (f.source.index) at = f.source.index[at];
        }
        from[0] = at;
        rows[i] = f.staged ? f.source.rows[at] : at;
        if (labels && f.source.labels) labels[i] = f.source.labels[at];
    }
    __syncthreads();
    const size_t start = from[0] * f.features;
    const uint8_t *bytes = (const uint8_t *)f.source.values + start;
    const float *floats = (const float *)f.source.values + start;
    for (size_t j = threadIdx.x; x && j < f.features; j += blockDim.x) {
        float v = f.source.is_bytes ? (float)bytes[j] : floats[j];
        v = f.pixels ? v / 255.0f : __fmul_rn(v, f.scale);
        x[i * f.features + j] = __fsub_rn(v, f.mean) / f.deviation;
    }
}

// The copy of d's arrays on the GPU, or NULL.
static const ae__cu_source *ae__cu_resident(const ae_model *m, const ae_dataset *d)
{
    for (int i = 0; i < 2; i++) {
        const ae__cu_source *s = &ae__cu_model_of(m)->data[i];
        const void *values = d->bytes ? (const void *)d->bytes : (const void *)d->floats;
        if (s->values && s->host_values == values && s->host_labels == d->labels
            && s->host_index == d->index && d->n <= s->n)
            return s;
    }
    return NULL;
}

// Memory for `bytes`, filled from the processor's; NULL for nothing.
static void *ae__cu_clone(ae__cuda *c, const void *from, size_t bytes)
{
    unsigned char *p = NULL;
    if (from == NULL) return NULL;
    AE__CU(c, cudaMalloc(&p, bytes));
    AE__CU(c, cudaMemcpyAsync(p, from, bytes, cudaMemcpyHostToDevice, c->stream));
    return p;
}

static ae_status ae__cu_upload(ae_model *m, const ae_dataset *d)
{
    ae__cu_model *g = ae__cu_model_of(m);
    ae__cuda *c = ae__cu_begin(&m->exec);
    const size_t value = d->bytes ? 1 : sizeof(float);
    size_t rows = d->index ? 0 : d->n;
    for (size_t i = 0; d->index && i < d->n; i++)
        if (d->index[i] >= rows) rows = (size_t)d->index[i] + 1;
    AE__CU(c, cudaStreamSynchronize(c->stream));
    const ae__cu_source *known = ae__cu_resident(m, d);
    ae__cu_source *s = known ? &g->data[known - g->data] : &g->data[g->next_data++ % 2];
    ae__cu_free_source(s);
    s->host_values = d->bytes ? (const void *)d->bytes : (const void *)d->floats;
    s->host_labels = d->labels;
    s->host_index = d->index;
    s->n = d->n;
    s->is_bytes = d->bytes != NULL;
    s->values = ae__cu_clone(c, s->host_values, rows * ae__data_features(d) * value);
    s->labels = (int32_t *)ae__cu_clone(c, d->labels, rows * sizeof *d->labels);
    s->index = (uint32_t *)ae__cu_clone(c, d->index, d->n * sizeof *d->index);
    AE__CU(c, cudaStreamSynchronize(c->stream));
    if (c->error != cudaErrorMemoryAllocation) return ae__cu_enter(m);
    ae__cu_free_source(s);      // no room: batches come from the processor, as before
    c->error = cudaSuccess;
    cudaGetLastError();
    return ae__report(m, AE_E_DEVICE, "ae_data_upload: %z samples of %z bytes do not fit into the "
                      "GPU's memory", rows, ae__data_features(d) * value);
}

// Room for n samples on their way to the GPU: values, rows, labels, in each of two buffers there
// and back. Waits for what still uses the old ones.
static void ae__cu_make_stage(ae_model *m, ae__cu_model *g, size_t n)
{
    ae__cuda *c = g->cuda;
    const size_t features = ae__size(ae__first_input(m)), row = features * sizeof(float)
                            + sizeof(size_t) + sizeof(int32_t);
    if (n <= g->stage_room) return;
    AE__CU(c, cudaStreamSynchronize(c->stream));
    ae__cu_free_stage(g);
    n = ae__round_up(n, 16);    // so that rows lie at a multiple of 8 bytes
    for (int i = 0; i < 2; i++) {
        AE__CU(c, cudaMallocHost(&g->stage[i].memory, n * row));
        AE__CU(c, cudaEventCreateWithFlags(&g->stage[i].copied, cudaEventDisableTiming));
    }
    AE__CU(c, cudaMalloc((unsigned char **)&g->staged.values, n * row));
    if (g->staged.values) {
        g->staged.rows = (size_t *)(void *)((unsigned char *)g->staged.values
                                            + n * features * sizeof(float));
        g->staged.labels = (int32_t *)(void *)(g->staged.rows + n);
    }
    g->stage_bytes = n * row;
    g->stage_room = c->error ? 0 : n;
    if (c->error != cudaErrorMemoryAllocation) return;
    ae__cu_free_stage(g);       // fewer samples at a time may do
    c->error = cudaSuccess;
    cudaGetLastError();
    ae__report(m, AE_E_DEVICE, "%z samples on their way need %z bytes of the GPU's memory, more "
               "than it has: smaller batches, or ae_data_upload", n, n * row);
    ae__cu_tell_later(m, AE_E_DEVICE);
}

/* Samples of a dataset that is not on the GPU: the processor gathers them while the GPU still works
   on the last ones, in one of two buffers by turns. */
static void ae__cu_stage(ae_model *m, const ae_dataset *d, size_t first, size_t n, uint64_t order,
                         size_t repeat)
{
    ae__cu_model *g = ae__cu_model_of(m);
    ae__cuda *c = ae__cu_begin(&m->exec);
    ae__cu_make_stage(m, g, n);
    if (c->error || g->told) return;
    const int turn = g->stage_turn ^= 1;
    unsigned char *to = g->stage[turn].memory;
    AE__CU(c, cudaEventSynchronize(g->stage[turn].copied));
    ae__feeding f = ae__feeding_of(m, d, first, n, order, repeat);
    f.x = (float *)(void *)to;
    f.rows = (size_t *)(void *)(f.x + g->stage_room * ae__data_features(d));
    f.labels = (int32_t *)(void *)(f.rows + g->stage_room);
    ae__parallel(&m->exec, f.tasks, ae__feed_job, &f);
    AE__CU(c, cudaMemcpyAsync(g->staged.values, to, g->stage_bytes, cudaMemcpyHostToDevice,
                              c->stream));
    AE__CU(c, cudaEventRecord(g->stage[turn].copied, c->stream));
}

static void ae__cu_feed(ae_model *m, const ae_dataset *d, size_t first, int n, uint64_t order,
                        size_t repeat)
{
    ae__cu_model *g = ae__cu_model_of(m);
    const ae__cu_source *resident = ae__cu_resident(m, d);
    ae__cu_feeding f;
    memset(&f, 0, sizeof f);
    if (!resident && !g->stepping) ae__cu_stage(m, d, first, (size_t)n, order, repeat);
    ae__cuda *c = ae__cu_begin(&m->exec);
    if (g->told) return;
    f.staged = !resident;
    f.stepping = g->stepping;
    f.source = resident ? *resident : g->staged;
    f.features = ae__data_features(d);
    f.n = d->n;
    f.repeat = repeat;
    f.order = order;
    f.seed = m->seed;
    f.first = g->stepping ? first - g->step_first : resident ? first : 0;
    f.pixels = resident && d->bytes && ae__or(d->scale, 1.0f) == 1.0f / 255.0f;
    f.scale = resident ? ae__or(d->scale, 1.0f) : 1.0f;
    f.mean = resident ? d->mean : 0.0f;
    f.deviation = resident ? ae__or(d->deviation, 1.0f) : 1.0f;
    f.source.labels = d->labels ? f.source.labels : NULL;
    g->fed_n = n;
    float *x = ae__value(m, ae__first_input(m));
    size_t *rows = (size_t *)ae__here(m, m->rows);
    const ae_tensor *t = m->first;
    do {                        // once, or once for each input of labels
        while (t && t->op != &ae__op_labels) t = t->next;
        int32_t *labels = t ? (int32_t *)(void *)ae__value(m, t) : NULL;
        AE__CU_LAUNCH(c, ae__k_gather, (unsigned)n, AE_CUDA_BLOCK, 0, x, labels, rows, f,
                      c->record);
        x = NULL;
        t = t ? t->next : NULL;
    } while (t);
}

#ifndef AE_NO_TRAIN
/* ---- a step ---- */

#define AE__CU_DLOSSES 16       // that fit into one launch

/* What changes from step to step: the only kernel whose arguments do. */
typedef struct ae__cu_numbers {
    uint64_t step, epoch, cursor, order;
    ae__update update;
    uint64_t samples;
    int losses, first;          // dloss: of losses first ... first + losses - 1
    float dloss[AE__CU_DLOSSES];
} ae__cu_numbers;

static __global__ void ae__k_begin_step(ae__cu_record *record, ae__cu_account *terms,
                                        const ae__cu_numbers n)
{
    if (blockIdx.x > 0 || record->failed) return;       // as it was when the step failed
    for (int i = (int)threadIdx.x; i < n.losses; i += (int)blockDim.x)
        terms[n.first + i].dloss = n.dloss[i];
    if (threadIdx.x > 0) return;
    record->step = n.step;
    record->epoch = n.epoch;
    record->cursor = n.cursor;
    record->order = n.order;
    record->update = n.update;
    record->samples = n.samples;
    record->bad = 0;
}

// The step that comes: o NULL before its forward pass alone; scale: of the losses' gradients.
static void ae__cu_begin_step(ae_model *m, const ae_optim *o, float lr, size_t samples,
                              uint64_t order, float scale)
{
    ae__cu_model *g = ae__cu_model_of(m);
    ae__cuda *c = ae__cu_begin(&m->exec);
    const ae__state *s = ae__state_of(m);
    ae__cu_numbers n;
    memset(&n, 0, sizeof n);
    n.step = s->steps + 1;
    n.epoch = s->epoch;
    n.cursor = s->cursor;
    n.order = order;
    n.samples = samples;
    if (o) n.update = ae__update_of(o, lr, n.step);
    do {
        n.losses = ae__least(AE__CU_DLOSSES, m->losses - n.first);
        for (const ae_tensor *t = m->first; t; t = t->next)
            if (t->loss >= n.first && t->loss < n.first + n.losses)
                n.dloss[t->loss - n.first] = t->minimized ? ae__dloss(m, t, scale, 1.0) : 0.0f;
        AE__CU_LAUNCH(c, ae__k_begin_step, 1, 32, 0, c->record, g->terms, n);
        n.first += n.losses;
    } while (n.first < m->losses);
    g->running = 1;
}

static void ae__cu_set_dlosses(ae_model *m, float scale)
{
    ae__cu_begin_step(m, NULL, 0.0f, (size_t)m->forward_n, 0, scale);
    ae__cu_model_of(m)->device_new = 1;
}

// Where the running loss's factor is; returns the part of it that is known.
static float ae__cu_dloss(ae_model *m, const ae_tensor *t, double share)
{
    ae__cuda *c = (ae__cuda *)m->exec.device;
    if (t->loss < 0) return 0.0f;
    c->dloss = &c->model->terms[t->loss].dloss;
    return t->reduction == AE_SUM ? 1.0f : (float)share;
}

static void ae__cu_zero_grad(ae_model *m)
{
    ae__cuda *c = ae__cu_begin(&m->exec);
    AE__CU(c, cudaMemsetAsync(ae__segment(m, AE_SEG_GRAD), 0, m->bytes[AE_SEG_GRAD], c->stream));
    c->model->device_new = 1;
}

// A loss's value, of n samples, to the sum of its parts.
static __device__ void ae__cu_sum_term(ae__cu_account *t, float value, int n, int first)
{
    if (t->kind == 0) return;
    const float count = (t->kind & 3) == 2 ? 1.0f : (float)n, product = __fmul_rn(value, count);
    if (first) t->part.sum = t->part.lost = 0.0f;
    ae__cu_add(&t->part, product);
    t->part.lost = __fadd_rn(t->part.lost, fmaf(value, count, -product));       // its rounding
}

static __global__ void ae__k_sum_losses(ae__cu_account *terms, const float *values, int losses,
                                        int n, int first)
{
    for (int i = (int)threadIdx.x; i < losses && blockIdx.x == 0; i += (int)blockDim.x)
        ae__cu_sum_term(&terms[i], values[i], n, first);
}

static void ae__cu_sum_losses(ae_model *m, int n, int first, int last)
{
    ae__cu_model *g = ae__cu_model_of(m);
    ae__cuda *c = ae__cu_begin(&m->exec);
    g->running = 1;
    g->judge_n = n;
    g->judge_first = first;
    if (last) return;           // ae__k_judge does it
    AE__CU_LAUNCH(c, ae__k_sum_losses, 1, 32, 0, g->terms,
                  (const float *)ae__here(m, ae__loss_values(m)), m->losses, n, first);
}

// The end of a step's judgement: does it count? Then its losses join the epoch's.
static __device__ void ae__cu_verdict(ae__cu_record *record, ae__cu_account *terms,
                                      const float *values, int losses, int n, int first,
                                      float norm2)
{
    int good = isfinite(norm2) && record->bad == 0;
    for (int i = 0; i < losses; i++) {
        ae__cu_sum_term(&terms[i], values[i], n, first);
        if (terms[i].kind & 4) good = good && isfinite(terms[i].part.sum);
    }
    record->norm2 = norm2;
    record->failed = !good;
    if (!good || losses == 0) return;
    if (record->cursor == 0) record->seen = 0;          // a new epoch
    record->seen += record->samples;
    for (int i = 0; i < losses; i++) {
        ae__cu_sum *sum = &terms[i].epoch;
        if (record->cursor == 0) sum->sum = sum->lost = 0.0f;
        ae__cu_add(sum, terms[i].part.sum);
        ae__cu_add(sum, terms[i].part.lost);
    }
}

/* The sum of squares of the gradient g (count), by blocks and then by the last block, which judges
   the step: losses > 0 with what the n samples of its last part lost. */
static __global__ void ae__k_judge(ae__cu_record *record, ae__cu_account *terms,
                                   const float *values, int losses, int n, int first,
                                   const float *g, size_t count, float *parts, unsigned *counter)
{
    ae__cu_sum mine = {0.0f, 0.0f};
    AE__CU_EACH(i, count) ae__cu_add(&mine, __fmul_rn(g[i], g[i]));
    const float block = ae__cu_block_sum(ae__cu_total(mine));
    if (threadIdx.x == 0) parts[blockIdx.x] = block;
    if (!ae__cu_last_block(counter, gridDim.x)) return;
    ae__cu_sum all = {0.0f, 0.0f};
    for (unsigned i = threadIdx.x; i < gridDim.x; i += blockDim.x) ae__cu_add(&all, parts[i]);
    const float norm2 = ae__cu_block_sum(ae__cu_total(all));
    if (threadIdx.x == 0 && !record->failed)
        ae__cu_verdict(record, terms, values, losses, n, first, norm2);
}

// After a step that failed: running statistics as before.
static __global__ void ae__k_put_back(float *now, const float *kept, const ae__cu_record *record,
                                      size_t n)
{
    AE__CU_EACH(i, n) if (record->failed) now[i] = kept[i];
}

static void ae__cu_update_params(ae_model *m, const ae_optim *o)
{
    ae__cu_model *g = ae__cu_model_of(m);
    const size_t n = m->trained_floats, untrained = m->param_floats - n;
    float *grad = ae__segment(m, AE_SEG_GRAD), *s = ae__segment(m, AE_SEG_OPT);
    float *w = ae__segment(m, AE_SEG_PARAM);
    if (o->clip_value > 0.0f) ae__cu_clip_value(&m->exec, grad, o->clip_value, n);
    ae__cuda *c = ae__cu_begin(&m->exec);
    AE__CU_LAUNCH(c, ae__k_judge, ae__cu_blocks(n / 4), AE_CUDA_BLOCK, 0, c->record, g->terms,
                  (const float *)ae__here(m, ae__loss_values(m)), g->judge_n ? m->losses : 0,
                  g->judge_n, g->judge_first, grad, n, c->parts, c->counters);
    ae__cu__update(&m->exec, w, m->optim_states > 0 ? s : NULL, m->optim_states > 1 ? s + n : NULL,
                   grad, o->clip_norm, n);
    for (const ae_param *p = m->first_param; p; p = p->next)
        if (p->max_norm > 0.0f)
            ae__cu_max_norm(&m->exec, ae__weights(m, p), p->max_norm, p->shape[0],
                            (int)(p->count / (size_t)p->shape[0]));
    if (untrained && g->stepping)       // by hand, ae_forward moved them
        AE__CU_LAUNCH(c, ae__k_put_back, ae__cu_blocks(untrained), AE_CUDA_BLOCK, 0, w + n,
                      (const float *)ae__here(m, m->statistics), c->record, untrained);
    g->device_new = 1;
}

static ae_status ae__cu_check_forward(ae_model *m, int n)
{
    ae__cu_model *g = ae__cu_model_of(m);
    g->fed_n = n;
    g->running = 1;
    g->device_new = 1;          // running statistics
    ae_status status = ae__cu_sync(m);
    if (status == AE_SUCCESS && !ae__finite((float)ae__weighted(m, NULL, ae__loss_values(m)))) {
        ae__cu_to_host(m);
        status = ae__not_finite(m, n);
        ae__cu_to_device(m);
    }
    m->forward_n = status ? 0 : n;
    return status;
}

// ae_forward is over: its running statistics count, moved or put back, on the GPU alone.
static void ae__cu_kept_statistics(ae_model *m)
{
    ae__cu_model *g = ae__cu_model_of(m);
    const size_t n = m->param_floats - m->trained_floats;
    ae__cu_flush(g->cuda);
    if (g->host_new && n)       // after an error, when the processor had them
        ae__cu_copy(m, m->segment[AE_SEG_PARAM] + m->trained_floats * sizeof(float),
                    ae__segment(m, AE_SEG_PARAM) + m->trained_floats, n * sizeof(float), 0);
    g->device_new = 1;
}

static ae_status ae__cu_step_by_hand(ae_model *m, const ae_optim *o)
{
    ae__cu_model *g = ae__cu_model_of(m);
    ae__cu_begin_step(m, o, ae__optim_lr(o), (size_t)m->batch, 0, 1.0f);
    g->judge_n = 0;
    ae__cu_update_params(m, o);
    ae_status status = ae__cu_sync(m);
    if (status == AE_SUCCESS) {
        ae__state_of(m)->steps++;
        if (m->fed.known) m->trained = m->fed;
    }
    return status;
}

/* ---- the step as a graph ---- */

// After a graph ran: which tensors hold values, as if their operations had been called one by one.
static void ae__cu_mark_computed(ae_model *m)
{
    ae__mark_losses(m, 1);
    for (const ae_tensor *t = m->first; t; t = t->next)
        if (m->needed[t->id] && t->op->forward) {
            m->replaced[t->id] = 0;
            if (t->in_place_of) m->replaced[t->in_place_of->id] = 1;
        }
}

static ae_status ae__cu_run_step(ae_model *m, const ae_dataset *d, const ae_optim *o, float lr,
                                 int batch, size_t samples)
{
    ae__cu_model *g = ae__cu_model_of(m);
    g->stepping = 1;
    ae_status status = ae__compute_step(m, d, o, lr, batch, samples);
    ae__cu_flush(g->cuda);
    g->stepping = 0;
    return status;
}

/* Records the step instead of doing it, and makes a graph of it. What fails leaves graphs alone for
   good: steps are launched one by one then. */
static ae_status ae__cu_capture(ae_model *m, ae__cu_graph *slot, const ae_dataset *d,
                                const ae_optim *o, float lr, int batch, size_t samples)
{
    ae__cu_model *g = ae__cu_model_of(m);
    ae__cuda *c = g->cuda;
    cudaGraph_t graph = NULL;
    ae_status status = AE_SUCCESS;
    cudaError_t error = cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal);
    if (error == cudaSuccess) {
        status = ae__cu_run_step(m, d, o, lr, batch, samples);
        error = cudaStreamEndCapture(c->stream, &graph);
        if (error == cudaSuccess) error = c->error;
        c->error = cudaSuccess;         // nothing ran yet
    }
    if (error == cudaSuccess && status == AE_SUCCESS)
        error = cudaGraphInstantiate(&slot->exec, graph, 0);
    if (graph) cudaGraphDestroy(graph);
    if (error != cudaSuccess) {
        slot->exec = NULL;
        g->no_graphs = 1;
        cudaGetLastError();
    }
    return status;
}

// The place of a key among the graphs: its own, or that of the one used longest ago.
static ae__cu_graph *ae__cu_slot(ae__cu_model *g, const ae__cu_key *key)
{
    ae__cu_graph *slot = &g->graph[0];
    g->clock++;
    for (int i = 0; i < AE__CU_GRAPHS; i++) {
        ae__cu_graph *s = &g->graph[i];
        if (s->uses && memcmp(&s->key, key, sizeof *key) == 0) {
            s->used = g->clock;
            return s;
        }
        if (s->used < slot->used) slot = s;
    }
    if (slot->exec) {
        AE__CU(g->cuda, cudaStreamSynchronize(g->cuda->stream));    // it may still run
        cudaGraphExecDestroy(slot->exec);
    }
    memset(slot, 0, sizeof *slot);
    slot->key = *key;
    slot->used = g->clock;
    return slot;
}

// Everything that a recorded step has in it but for the model: another key, another graph.
static ae__cu_key ae__cu_key_of(const ae_model *m, const ae_dataset *d, const ae_optim *o,
                                int batch, size_t samples)
{
    const ae__cu_source *resident = ae__cu_resident(m, d);
    ae__cu_key key;
    memset(&key, 0, sizeof key);        // padding too: keys are compared as bytes
    key.samples = samples;
    key.n = resident ? d->n : 0;
    memcpy(&key.source, resident ? resident : &ae__cu_model_of(m)->staged, sizeof key.source);
    key.seed = m->seed;
    key.edits = m->edits;
    key.labels = d->labels != NULL;
    key.batch = batch;
    key.scale = d->scale;
    key.mean = d->mean;
    key.deviation = d->deviation;
    key.clip_value = o->clip_value;
    key.clip_norm = o->clip_norm;
    return key;
}

/* A step: its numbers in one launch, then the graph of its key: recorded at the third use, since
   what is allocated or chosen once happens in the first. Four graphs recorded one after another and
   none used again: it is not worth it. */
static ae_status ae__cu_step(ae_model *m, const ae_dataset *d, const ae_optim *o, float lr,
                             int batch, size_t samples)
{
    ae__cu_model *g = ae__cu_model_of(m);
    ae__cuda *c = g->cuda;
    ae__state *s = ae__state_of(m);
    const uint64_t order = d->keep_order ? 0 : s->epoch + 1;
    ae_status status = ae__cu_enter(m);     // a callback may have written parameters
    if (status) return status;
    g->step_first = (size_t)s->cursor;
    ae__cu_begin_step(m, o, lr, samples, order, 1.0f);
    if (!ae__cu_resident(m, d))
        ae__cu_stage(m, d, (size_t)s->cursor, samples, order, (size_t)m->repeat);
    if ((status = ae__cu_told(m)) != AE_SUCCESS) return status;
    const ae__cu_key key = ae__cu_key_of(m, d, o, batch, samples);
    ae__cu_graph *slot = ae__cu_slot(g, &key);
    if (!slot->exec && slot->uses >= 2 && !g->no_graphs && !c->error) {
        status = ae__cu_capture(m, slot, d, o, lr, batch, samples);
        if (++g->captures > 4) g->no_graphs = 1;
    } else if (slot->exec) {
        g->captures = 0;
    }
    if (status == AE_SUCCESS && slot->exec) {
        AE__CU(c, cudaGraphLaunch(slot->exec, c->stream));
        ae__cu_mark_computed(m);
        m->forward_n = slot->last_n;
    } else if (status == AE_SUCCESS) {
        status = ae__cu_run_step(m, d, o, lr, batch, samples);
    }
    if (slot->uses < 2) slot->uses++;
    slot->last_n = m->forward_n;
    g->running = g->trained = g->device_new = 1;
    if (status || c->error) return status ? status : ae__cu_device_error(m, c);
    s->steps++;
    m->trained = m->fed = ae__scaling_of(d);
    return AE_SUCCESS;
}
#endif

/* ===========================================================================
   Included by a program */
#else
#ifndef AE_USE_CUDA
#define AE_USE_CUDA
#endif
#include "ae.h"
#endif
