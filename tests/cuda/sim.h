/* sim.h: CUDA C++ on a CPU, for tests. A file of kernels includes it in place of <cuda_runtime.h>
   and <cublas_v2.h> when AE_CUDA_SIM is defined. C++17.

   A kernel is an ordinary function here. sim.cpp calls it once for each CUDA thread, each call on a
   stack of its own (a fiber). A fiber runs until its thread must wait for others: at
   __syncthreads, __syncwarp, a shuffle or a vote; then the scheduler picks another thread that is
   ready, in an order the test chooses. Blocks run one after another, in such an order too.

   runtime.h and runtime.cpp stand in for the CUDA runtime and for cuBLAS.

   sim.cpp and runtime.cpp are compiled without sanitizers, this header and the kernels with them:
   the sanitizers then see what CUDA threads do, and are told of the rest by sim.cpp.

   A mistake ends the program with one line: kernel, block, thread, file and line, where known.

   nvcc may read a test too, to see that what passes here is CUDA: it gets the real headers. */
#ifndef SIM_H_INCLUDED
#define SIM_H_INCLUDED

#include <functional> /* std::function: a call of a kernel, kept for later */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h> /* memcpy */
#include <tuple>    /* std::tuple: a kernel's arguments, kept by value */

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wunknown-pragmas" /* #pragma unroll */
#endif

namespace sim {

struct Where {          // a place in the source; as a default argument: where the call stands
    const char *file;
    int line;
};
#define SIM_WHERE sim::Where where = {__builtin_FILE(), __builtin_LINE()}

} // namespace sim

#ifdef __CUDACC__
#include <cublas_v2.h>
#include <cuda_runtime.h>
#define AE__SHARED(T, name, dims) __shared__ T name dims
#define AE__DYN_SHARED(T, name) extern __shared__ T name[]
#define AE__LAUNCH(kernel, grid, block, shared, stream, ...) \
    (sim::launched(#kernel) ? kernel<<<grid, block, shared, stream>>>(__VA_ARGS__) : (void)0)
namespace sim {
bool launched(const char *kernel);      // counts; false: fail_call wants it to fail (tests/gpu)
}
#else

/* --- the language --------------------------------------------------------- */

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace sim {

// Who runs: functions of sim.cpp, because a variable that each thread reads and the scheduler
// writes would be a race to the thread sanitizer. Outside a kernel they end the program.
uint3 thread_index();
uint3 block_index();
uint3 block_size();
uint3 grid_size();
int lane();                     // 0 ... 31, within the warp

// Prints the line of a mistake, with kernel, block and thread where one runs; fail exits with 3.
void report(Where where, const char *format, ...) __attribute__((format(printf, 2, 3)));
[[noreturn]] void fail(Where where, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool in_kernel();
Where last_place();             // where the running thread last waited, else the launch

// p is a multiple of `bytes`. The asm hides p from the compiler, which believes what types promise.
inline void check_aligned(const void *p, size_t bytes, Where where)
{
    uintptr_t address = (uintptr_t)p;
    asm("" : "+r"(address));
    if (address % bytes) fail(where, "misaligned: %p is not a multiple of %zu", p, bytes);
}

} // namespace sim

// Vectors are read and written whole, where they are aligned: anything else is a fault on a GPU.
#define SIM_VECTOR2(name, T)                                                                   \
    struct alignas(2 * sizeof(T)) name {                                                       \
        T x, y;                                                                                \
        name() = default;                                                                      \
        name(T x_, T y_) : x(x_), y(y_) {}                                                     \
        name(const name &o) { *this = o; }                                                     \
        name &operator=(const name &o)                                                         \
        {                                                                                      \
            sim::check_aligned(this, sizeof(name), sim::last_place());                         \
            sim::check_aligned(&o, sizeof(name), sim::last_place());                           \
            return x = o.x, y = o.y, *this;                                                    \
        }                                                                                      \
    };                                                                                         \
    inline name make_##name(T x, T y) { return name(x, y); }
#define SIM_VECTOR4(name, T)                                                                   \
    struct alignas(4 * sizeof(T)) name {                                                       \
        T x, y, z, w;                                                                          \
        name() = default;                                                                      \
        name(T x_, T y_, T z_, T w_) : x(x_), y(y_), z(z_), w(w_) {}                           \
        name(const name &o) { *this = o; }                                                     \
        name &operator=(const name &o)                                                         \
        {                                                                                      \
            sim::check_aligned(this, sizeof(name), sim::last_place());                         \
            sim::check_aligned(&o, sizeof(name), sim::last_place());                           \
            return x = o.x, y = o.y, z = o.z, w = o.w, *this;                                  \
        }                                                                                      \
    };                                                                                         \
    inline name make_##name(T x, T y, T z, T w) { return name(x, y, z, w); }

SIM_VECTOR2(float2, float)
SIM_VECTOR2(int2, int)
SIM_VECTOR2(uint2, unsigned)
SIM_VECTOR4(uchar4, unsigned char)
SIM_VECTOR4(float4, float)
SIM_VECTOR4(int4, int)
SIM_VECTOR4(uint4, unsigned)

#define threadIdx (sim::thread_index())
#define blockIdx (sim::block_index())
#define blockDim (sim::block_size())
#define gridDim (sim::grid_size())
const int warpSize = 32;

/* --- shared memory -------------------------------------------------------- */

/* AE__SHARED(float, tile, [16][17]); is `__shared__ float tile[16][17];`. It is full of 0xFF (NaN)
   when the block begins, has guards on both sides, and is aligned as its type demands, no better.
   AE__DYN_SHARED(float, buffer); is the launch's dynamic part, aligned to 16 bytes. */
#define AE__SHARED(T, name, dims)                                                              \
    typedef T name##_type dims;                                                                \
    static const char name##_key = 0;                                                          \
    name##_type &name = *(name##_type *)sim::shared_array(                                     \
        &name##_key, #name, sizeof(name##_type), alignof(T), {__FILE__, __LINE__})
#define AE__DYN_SHARED(T, name) T *name = (T *)sim::dynamic_shared()

namespace sim {

void *shared_array(const void *key, const char *name, size_t bytes, size_t align, Where where);
void *dynamic_shared(SIM_WHERE);

/* --- threads that wait for each other ------------------------------------- */

// All threads of the block, at the same source line; none may have exited.
void block_barrier(Where where);
// What the lanes of a mask do together, at the same line with the same mask. Each gives a value and
// names the lane whose value it takes; *votes receives a bit for each lane whose value is not 0.
struct Collective {
    const char *name;
    unsigned mask;
    uint64_t value;
    int source;
    bool orders_memory;         // only __syncwarp: CUDA promises it of no shuffle
};
uint64_t collective(const Collective &c, unsigned *votes, Where where);
// All earlier accesses of this thread stand before the later ones of those that call it later.
void memory_fence();

template <class T>
T shuffle(const char *name, unsigned mask, T value, int source, Where where)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    unsigned votes;
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = collective({name, mask, bits, source, false}, &votes, where);
    memcpy(&value, &bits, sizeof value);
    return value;
}

inline unsigned vote(const char *name, unsigned mask, int predicate, Where where)
{
    unsigned votes;
    collective({name, mask, predicate != 0, lane(), false}, &votes, where);
    return votes;
}

} // namespace sim

inline void __syncthreads(SIM_WHERE) { sim::block_barrier(where); }

inline void __syncwarp(unsigned mask = 0xffffffffu, SIM_WHERE)
{
    unsigned votes;
    sim::collective({"__syncwarp", mask, 0, sim::lane(), true}, &votes, where);
}

inline void __threadfence() { sim::memory_fence(); }

// Each `width` lanes, a power of two, are a group of their own, which begins at lane & -width. A
// lane whose source would lie past the group gets its own value.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, SIM_WHERE)
{
    int from = (sim::lane() & -width) + (source & (width - 1));
    return sim::shuffle("__shfl_sync", mask, value, from, where);
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, SIM_WHERE)
{
    int lane = sim::lane(), from = lane - (int)delta;
    if (from < (lane & -width)) from = lane;
    return sim::shuffle("__shfl_up_sync", mask, value, from, where);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, SIM_WHERE)
{
    int lane = sim::lane(), from = lane + (int)delta;
    if (from >= (lane & -width) + width) from = lane;
    return sim::shuffle("__shfl_down_sync", mask, value, from, where);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, SIM_WHERE)
{
    int lane = sim::lane(), from = lane ^ bits;
    if (from >= (lane & -width) + width) from = lane;
    return sim::shuffle("__shfl_xor_sync", mask, value, from, where);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, SIM_WHERE)
{
    return sim::vote("__ballot_sync", mask, predicate, where);
}

inline int __any_sync(unsigned mask, int predicate, SIM_WHERE)
{
    return sim::vote("__any_sync", mask, predicate, where) != 0;
}

inline int __all_sync(unsigned mask, int predicate, SIM_WHERE)
{
    return sim::vote("__all_sync", mask, predicate, where) == mask;
}

/* --- atomics: relaxed, as CUDA's; each returns the old value -------------- */

namespace sim {

template <class T> struct Same { typedef T type; };     // keeps T from being deduced twice

template <class T, class F> T atomically(T *p, F change)
{
    T before, after;
    __atomic_load(p, &before, __ATOMIC_RELAXED);
    do {
        after = change(before);
    } while (!__atomic_compare_exchange(p, &before, &after, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED));
    return before;
}

} // namespace sim

template <class T> T atomicAdd(T *p, typename sim::Same<T>::type v)
{
    return sim::atomically(p, [v](T old) { return old + v; });
}

template <class T> T atomicMax(T *p, typename sim::Same<T>::type v)
{
    return sim::atomically(p, [v](T old) { return old > v ? old : v; });
}

template <class T> T atomicMin(T *p, typename sim::Same<T>::type v)
{
    return sim::atomically(p, [v](T old) { return old < v ? old : v; });
}

template <class T> T atomicExch(T *p, typename sim::Same<T>::type v)
{
    return sim::atomically(p, [v](T) { return v; });
}

template <class T>
T atomicCAS(T *p, typename sim::Same<T>::type expected, typename sim::Same<T>::type v)
{
    return sim::atomically(p, [expected, v](T old) { return old == expected ? v : old; });
}

/* --- arithmetic ----------------------------------------------------------- */

template <class T> T __ldg(const T *p, SIM_WHERE)
{
    sim::check_aligned(p, alignof(T), where);
    return *p;
}

inline int min(int a, int b) { return b < a ? b : a; }
inline int max(int a, int b) { return a < b ? b : a; }
inline unsigned min(unsigned a, unsigned b) { return b < a ? b : a; }
inline unsigned max(unsigned a, unsigned b) { return a < b ? b : a; }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
// Rounded once, never fused with what follows: compile with -ffp-contract=off.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }

inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }

namespace sim {

template <class To, class From> To same_bits(From x)
{
    static_assert(sizeof(To) == sizeof(From), "the same number of bits");
    To y;
    memcpy(&y, &x, sizeof y);
    return y;
}

} // namespace sim

inline unsigned __float_as_uint(float x) { return sim::same_bits<unsigned>(x); }
inline int __float_as_int(float x) { return sim::same_bits<int>(x); }
inline float __uint_as_float(unsigned x) { return sim::same_bits<float>(x); }
inline float __int_as_float(int x) { return sim::same_bits<float>(x); }

#include "runtime.h"

/* --- launching ------------------------------------------------------------ */

/* AE__LAUNCH(kernel, grid, block, shared, stream, arguments...); is
   kernel<<<grid, block, shared, stream>>>(arguments...); and what is wrong with it is found in the
   same way, by cudaGetLastError(). A template with a comma stands in parentheses: (k<8, 4>). A null
   pointer is nullptr. */
#define AE__LAUNCH(kernel, grid, block, shared, stream, ...) \
    sim::launch({#kernel, {__FILE__, __LINE__}, grid, block, shared}, stream, kernel, __VA_ARGS__)

namespace sim {

struct Launch {
    const char *kernel;         // its name, as the launch spells it
    Where where;                // of the launch
    dim3 grid, block;
    size_t shared;              // bytes of dynamic shared memory
};

// Runs all threads of all blocks; each calls body. Static and dynamic shared memory together are
// held to `limit` bytes.
void run_grid(const Launch &launch, size_t limit, const std::function<void()> &body);
// Checks the launch and hands it to its stream.
void launch_kernel(const Launch &launch, cudaStream_t stream, const void *function,
                   const std::function<void()> &body);

template <class... P, class... A>
void launch(const Launch &config, cudaStream_t stream, void (*kernel)(P...), A &&...arguments)
{
    std::tuple<P...> values(static_cast<A &&>(arguments)...);   // now: later changes do not count
    launch_kernel(config, stream, (const void *)kernel,
                  [kernel, values] { std::apply(kernel, values); });
}

} // namespace sim
#endif // nvcc

/* --- what a test chooses and asks ----------------------------------------- */

namespace sim {

// In which order ready threads, and blocks, get the processor: the first always, the last always,
// or anyone.
enum Order { FORWARD, REVERSE, RANDOM };
void set_order(Order order, unsigned seed);
// Lazy: a stream does its work only when someone waits for it; until then the destinations of
// copies to the host are full of NaN. Otherwise (the default) at once.
void set_lazy(bool lazy);
// All that a result must survive to the bit: each order, random ones, both lazy and not.
const int SETTINGS = 10;
void use_setting(int i);
const char *setting_text(int i);

// The n-th call from now that can fail fails, once; 0: none. Counters.calls tells how many there
// are. (Calls that release or only ask cannot fail.)
void fail_call(long n);
// How many devices there are: 1, or 0 for a machine without.
void set_devices(int count);

struct Counters {
    long calls;                 // that fail_call counts
    long allocations;           // device and host
    long launches, copies, fills; // outside graphs
    long synchronisations;      // calls that wait, whether there is something to wait for or not
    long graph_launches;
    long graph_kernels;         // kernel nodes of the graph made last
    long switches;              // from the scheduler to a thread
};
Counters counters();
void reset_counters();
long switches();
// How often a kernel ran, by its name without template arguments.
long runs_of(const char *kernel);

// Prints what was not given back, one line each, and returns how many.
int leaks();

// Memory for host data that kernels must not touch: as an AE_MALLOC.
void *host_malloc(size_t bytes, SIM_WHERE);
void host_free(void *p, SIM_WHERE);

} // namespace sim
#endif
