/* real.cpp: what tests/cuda/sim.h promises a test, on a real GPU. nvcc compiles the tests of
   tests/cuda and this file, and the linker puts these functions before the runtime's
   (--wrap, see run.sh): they count, fail when fail_call says so, and else call the runtime.

   Orders and laziness cannot be chosen here: each setting is one more run, whose bits must be the
   same. What reads or writes where it must not is left to compute-sanitizer. */
#include "sim.h"

#include <map>
#include <stdio.h>
#include <stdlib.h>
#include <string>

namespace {

sim::Counters counted;
std::map<std::string, long> runs;
std::map<const void *, const char *> live;      // what must be given back
long failing;                   // calls until one fails; 0: none
int devices = 1;
bool capturing;
cudaError_t pending;            // of a call that failed here: the runtime does not know of it

bool fails(cudaError_t error)
{
    counted.calls++;
    if (failing == 0 || --failing > 0) return false;
    pending = error;
    return true;
}

template <class T> cudaError_t made(cudaError_t error, T *p, const char *what)
{
    if (error == cudaSuccess) live[(const void *)*p] = what;
    return error;
}

} // namespace

namespace sim {

bool launched(const char *kernel)
{
    std::string name = kernel + (*kernel == '(');
    if (fails(cudaErrorLaunchFailure)) return false;
    capturing ? counted.graph_kernels++ : counted.launches++;
    runs[name.substr(0, name.find_first_of("<)"))]++;
    return true;
}

void set_order(Order, unsigned) {}
void set_lazy(bool) {}
void use_setting(int) {}
const char *setting_text(int i) { return i ? "another run" : "the first run"; }
void fail_call(long n) { failing = n; }
void set_devices(int count) { devices = count; }
Counters counters() { return counted; }
void reset_counters()
{
    long kept = counted.graph_kernels;
    counted = {};
    counted.graph_kernels = kept;
}
long switches() { return 0; }
long runs_of(const char *kernel) { return runs[kernel]; }

int leaks()
{
    for (auto &l : live) printf("not given back: %s\n", l.second);
    return (int)live.size();
}

void *host_malloc(size_t bytes, Where)
{
    void *p = malloc(bytes ? bytes : 1);
    if (p) live[p] = "host memory";
    return p;
}

void host_free(void *p, Where)
{
    live.erase(p);
    free(p);
}

} // namespace sim

// What makes something; what gives it back cannot fail.
#define MAKES(name, parameters, arguments, made_of, what)                                      \
    cudaError_t __real_##name parameters;                                                      \
    cudaError_t __wrap_##name parameters                                                       \
    {                                                                                          \
        if (fails(cudaErrorMemoryAllocation)) return pending;                                  \
        return made(__real_##name arguments, made_of, what);                                   \
    }
#define ENDS(name, T)                                                                          \
    cudaError_t __real_##name(T p);                                                            \
    cudaError_t __wrap_##name(T p)                                                             \
    {                                                                                          \
        live.erase((const void *)p);                                                           \
        return __real_##name(p);                                                               \
    }
// What works; `count` is done when it does not fail here.
#define WORKS(name, parameters, arguments, count)                                              \
    cudaError_t __real_##name parameters;                                                      \
    cudaError_t __wrap_##name parameters                                                       \
    {                                                                                          \
        if (fails(cudaErrorUnknown)) return pending;                                           \
        count;                                                                                 \
        return __real_##name arguments;                                                        \
    }

extern "C" {

cudaError_t __real_cudaMalloc(void **p, size_t n);
cudaError_t __wrap_cudaMalloc(void **p, size_t n)       // full of NaN, as the stand-in's
{
    if (fails(cudaErrorMemoryAllocation)) return pending;
    counted.allocations++;
    cudaError_t error = made(__real_cudaMalloc(p, n), p, "device memory");
    if (error == cudaSuccess) error = cudaMemset(*p, 0xff, n);
    return error == cudaSuccess ? cudaDeviceSynchronize() : error;
}

MAKES(cudaMallocHost, (void **p, size_t n), (p, (counted.allocations++, n)), p, "pinned memory")
MAKES(cudaHostAlloc, (void **p, size_t n, unsigned flags),
      (p, (counted.allocations++, n), flags), p, "pinned memory")
MAKES(cudaStreamCreateWithFlags, (cudaStream_t *p, unsigned flags), (p, flags), p, "stream")
MAKES(cudaEventCreateWithFlags, (cudaEvent_t *p, unsigned flags), (p, flags), p, "event")
MAKES(cudaGraphInstantiate, (cudaGraphExec_t *p, cudaGraph_t g, unsigned long long flags),
      (p, g, flags), p, "instance of a graph")
ENDS(cudaFree, void *)
ENDS(cudaFreeHost, void *)
ENDS(cudaStreamDestroy, cudaStream_t)
ENDS(cudaEventDestroy, cudaEvent_t)
ENDS(cudaGraphDestroy, cudaGraph_t)
ENDS(cudaGraphExecDestroy, cudaGraphExec_t)

WORKS(cudaEventRecord, (cudaEvent_t e, cudaStream_t s), (e, s), )
WORKS(cudaEventSynchronize, (cudaEvent_t e), (e), counted.synchronisations++)
WORKS(cudaStreamSynchronize, (cudaStream_t s), (s), counted.synchronisations++)
WORKS(cudaGraphLaunch, (cudaGraphExec_t g, cudaStream_t s), (g, s), counted.graph_launches++)
cudaError_t __real_cudaMemcpy(void *to, const void *from, size_t n, cudaMemcpyKind kind);
cudaError_t __wrap_cudaMemcpy(void *to, const void *from, size_t n, cudaMemcpyKind kind)
{
    if (fails(cudaErrorUnknown)) return pending;
    counted.copies++;
    counted.synchronisations++;
    cudaError_t error = __real_cudaMemcpy(to, from, n, kind);
    cudaDeviceSynchronize();    // it may return while the last bytes are on their way
    return error;
}

WORKS(cudaMemcpyAsync, (void *to, const void *from, size_t n, cudaMemcpyKind kind, cudaStream_t s),
      (to, from, n, kind, s), counted.copies += !capturing)
WORKS(cudaMemsetAsync, (void *to, int byte, size_t n, cudaStream_t s), (to, byte, n, s),
      counted.fills += !capturing)
WORKS(cudaStreamBeginCapture, (cudaStream_t s, cudaStreamCaptureMode mode), (s, mode),
      (capturing = true, counted.graph_kernels = 0))

cudaError_t __real_cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g);
cudaError_t __real_cudaGetDeviceCount(int *count);
cudaError_t __real_cudaGetLastError(void);

cudaError_t __wrap_cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g)
{
    const bool failed = fails(cudaErrorStreamCaptureInvalidated);
    cudaError_t error = made(__real_cudaStreamEndCapture(s, g), g, "graph");
    capturing = false;
    if (!failed) return error;
    if (error == cudaSuccess) __wrap_cudaGraphDestroy(*g);
    *g = nullptr;
    return pending;
}

cudaError_t __wrap_cudaGetDeviceCount(int *count)
{
    if (!devices) return pending = cudaErrorInsufficientDriver;
    return fails(cudaErrorUnknown) ? pending : __real_cudaGetDeviceCount(count);
}

cudaError_t __wrap_cudaGetLastError(void)
{
    cudaError_t error = __real_cudaGetLastError();
    if (pending != cudaSuccess) error = pending;
    pending = cudaSuccess;
    return error;
}

} // extern "C"
