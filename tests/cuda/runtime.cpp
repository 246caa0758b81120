/* runtime.cpp: a stand-in for the CUDA runtime and cuBLAS, stricter than a GPU.

   Memory   Each block has pages of its own, between pages that nobody may touch. Device memory is
            out of reach while host code runs, and pinned host memory while a kernel runs. New
            memory is full of NaN; freed memory stays out of reach for ever. Blocks are aligned to
            256 bytes, as CUDA promises, and no better. A copy must lie within one block on each
            side and say its direction truly.
   Streams  A stream is a queue of operations. Usually each is done at once; lazily, only when the
            program waits for it. Streams that block the legacy stream share its queue.
   Graphs   Capturing moves operations into a graph in place of the queue: kernels with the values
            their arguments had, copies with their addresses.

   A call that a correct program never makes ends the program (sim::fail); what a correct program
   must be ready for (no memory, a launch too large) returns CUDA's error. */
#include "sim.h"

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

extern "C" {
void __asan_poison_memory_region(void const volatile *at, size_t bytes) __attribute__((weak));
void __asan_unpoison_memory_region(void const volatile *at, size_t bytes) __attribute__((weak));
}

using namespace sim;

namespace {

enum Kind { KERNEL, COPY, FILL, EVENT, PRODUCT };

struct Operation {
    Kind kind;
    Where where;
    std::function<void()> run;
    char *spoil;                // lazily: host memory that is not valid before this was done
    size_t spoil_bytes;
};
typedef std::vector<Operation> Operations;

bool lazy;
int device_count = 1;
long calls_until_failure;
Counters counted;
cudaError_t last_error;
std::map<std::string, long> kernel_runs;
std::map<const void *, int> dynamic_limits;     // of cudaFuncSetAttribute

const size_t SHARED_DEFAULT = 48 * 1024, SHARED_MOST = 227 * 1024;
const size_t DEVICE_BYTES = (size_t)1 << 30;

} // namespace

struct cudaStream_st {
    std::deque<Operation> queue;
    bool capturing, broken;     // broken: something happened that cannot be captured
    Operations captured;
    Where where;
};
struct cudaEvent_st {
    cudaStream_t stream;        // of the last record; NULL: none
    long recorded, done;        // how often
    double time;
    Where where;
};
struct cudaGraph_st {
    std::shared_ptr<Operations> operations;
    Where where;
};
struct cudaGraphExec_st {
    std::shared_ptr<Operations> operations;
    Where where;
};
struct cublasContext {
    cudaStream_t stream;
    Where where;
};

namespace {

cudaStream_st legacy;           // the queue of stream 0 and of all streams that block it
std::vector<cudaStream_t> streams;      // non-blocking ones
std::vector<cudaStream_t> blocking;     // names for the legacy queue
std::vector<cudaEvent_t> events;
std::vector<cudaGraph_t> graphs;
std::vector<cudaGraphExec_t> execs;
std::vector<cublasHandle_t> handles;

template <class T> bool holds(const std::vector<T *> &list, const T *p)
{
    for (const T *q : list)
        if (p == q) return true;
    return false;
}

template <class T> T *add(std::vector<T *> &list, T *p, Where where)
{
    p->where = where;
    list.push_back(p);
    return p;
}

template <class T> bool erase(std::vector<T *> &list, T *p)
{
    for (size_t i = 0; i < list.size(); i++) {
        if (list[i] != p) continue;
        list.erase(list.begin() + (long)i);
        delete p;
        return true;
    }
    return false;
}

/* --- errors --------------------------------------------------------------- */

cudaError_t done(cudaError_t error)
{
    if (error != cudaSuccess) last_error = error;
    return error;
}

// Each call that can fail passes here first: is it the one that shall?
bool injected()
{
    counted.calls++;
    return calls_until_failure && --calls_until_failure == 0;
}

/* --- memory --------------------------------------------------------------- */

struct Memory {
    char *at;
    size_t bytes;
    char *pages;                // [pages, pages + page_bytes) around it, a guard page on each side
    size_t page_bytes;
    bool device, pinned;        // neither: host_malloc
    Where where;
};
std::vector<Memory> live, freed;
enum World { HOST, DEVICE, BOTH } world = HOST;
const char GUARD_BYTE = (char)0xA5;
const size_t PAGE = (size_t)sysconf(_SC_PAGESIZE);

bool inside(const Memory &m, const void *p)     // with its guard pages
{
    return (const char *)p >= m.pages - PAGE && (const char *)p < m.pages + m.page_bytes + PAGE;
}

const Memory *find(const std::vector<Memory> &list, const void *p)
{
    for (const Memory &m : list)
        if (inside(m, p)) return &m;
    return nullptr;
}

void protect(const Memory &m)
{
    bool open = world == BOTH || m.device == (world == DEVICE);
    mprotect(m.pages, m.page_bytes, open ? PROT_READ | PROT_WRITE : PROT_NONE);
}

// Lets in whoever runs next, and shuts out the other side.
void enter(World next)
{
    if (world == next) return;
    world = next;
    for (const Memory &m : live) protect(m);
}

// The bytes of the pages that belong to nobody still say so. Both worlds must be open.
void check_guards(const Memory &m, Where where, const char *after)
{
    for (const char *p = m.pages; p < m.pages + m.page_bytes; p++) {
        if (p == m.at) p += m.bytes;
        if (p < m.pages + m.page_bytes && *p != GUARD_BYTE)
            fail(where, "%s wrote %ld bytes from the start of %zu bytes of %s memory", after,
                 (long)(p - m.at), m.bytes, m.device ? "device" : "host");
    }
}

void *new_memory(size_t bytes, bool device, bool pinned, Where where)
{
    Memory m;
    m.page_bytes = (bytes + 256 + PAGE - 1) / PAGE * PAGE;
    char *all = (char *)mmap(nullptr, m.page_bytes + 2 * PAGE, PROT_NONE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) return nullptr;
    m.pages = all + PAGE;
    m.at = m.pages + (m.page_bytes - bytes) / 256 * 256;
    if ((uintptr_t)m.at % 512 == 0) m.at -= 256;
    m.bytes = bytes;
    m.device = device;
    m.pinned = pinned;
    m.where = where;
    mprotect(m.pages, m.page_bytes, PROT_READ | PROT_WRITE);
    memset(m.pages, GUARD_BYTE, m.page_bytes);
    memset(m.at, 0xFF, bytes);
    if (__asan_poison_memory_region) {
        __asan_poison_memory_region(m.pages, m.page_bytes);
        __asan_unpoison_memory_region(m.at, bytes);
    }
    protect(m);
    live.push_back(m);
    return m.at;
}

// Frees the block that starts at p; false: there is none.
bool free_memory(const void *p, bool device, bool pinned, Where where)
{
    for (size_t i = 0; i < live.size(); i++) {
        Memory m = live[i];
        if (m.at != p || m.device != device || m.pinned != pinned) continue;
        World before = world;
        enter(BOTH);
        check_guards(m, where, "someone");
        enter(before);
        if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(m.pages, m.page_bytes);
        mmap(m.pages, m.page_bytes, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
        live.erase(live.begin() + (long)i);
        freed.push_back(m);
        return true;
    }
    return false;
}

// [p, p + bytes) is what its name says: device memory within one block, or host memory.
void check_range(Where where, const char *call, const char *name, const void *p, size_t bytes,
                 bool device)
{
    const Memory *m = find(live, p), *old = m ? nullptr : find(freed, p);
    if (old) fail(where, "%s: the %s is freed memory", call, name);
    if (device && !(m && m->device)) fail(where, "%s: the %s is not device memory", call, name);
    if (!device && m && m->device) fail(where, "%s: the %s is device memory", call, name);
    if (m && ((const char *)p < m->at || bytes > m->bytes ||
              (size_t)((const char *)p - m->at) > m->bytes - bytes))
        fail(where, "%s: the %s, %zu bytes at offset %ld, is not within its block of %zu", call,
             name, bytes, (long)((const char *)p - m->at), m->bytes);
}

/* --- faults --------------------------------------------------------------- */

struct sigaction before_us[2];

// Names what was touched; then the sanitizer, where there is one, adds the line.
void on_fault(int signal, siginfo_t *info, void *)
{
    const Memory *m = find(live, info->si_addr), *old = find(freed, info->si_addr);
    const Memory *which = m ? m : old;
    Where where = last_place();
    if (which)
        report(where, "%s touched %s%s memory: offset %ld of %zu bytes that %s:%d asked for",
               in_kernel() ? "the kernel" : "host code", old && !m ? "freed " : "",
               which->device ? "device" : "host", (long)((char *)info->si_addr - which->at),
               which->bytes, which->where.file, which->where.line);
    else
        report(where, "touched the address %p, which nobody owns: a wild pointer, or a thread's "
                      "stack is full", info->si_addr);
    const struct sigaction *before = &before_us[signal == SIGBUS];
    if (before->sa_handler == SIG_DFL) _exit(3);
    sigaction(signal, before, nullptr);
}

const bool faults_are_caught = [] {
    static char stack[64 * 1024];       // a thread may have run out of its own
    stack_t alternative = {};
    alternative.ss_sp = stack;
    alternative.ss_size = sizeof stack;
    sigaltstack(&alternative, nullptr);
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &before_us[0]);
    sigaction(SIGBUS, &action, &before_us[1]);
    return true;
}();

/* --- queues --------------------------------------------------------------- */

// The queue behind a stream; NULL: there is no such stream.
cudaStream_t queue_of(cudaStream_t stream)
{
    if (!stream || holds(blocking, stream)) return &legacy;
    return holds(streams, stream) ? stream : nullptr;
}

void perform(const Operation &operation)
{
    enter(operation.kind == KERNEL ? DEVICE : BOTH);
    operation.run();
    if (operation.kind != KERNEL && operation.kind != PRODUCT) return;
    enter(BOTH);
    for (const Memory &m : live) check_guards(m, operation.where, "this kernel");
}

// Does what a stream has to do, all or until `enough` operations are left.
void drain(cudaStream_t queue, size_t enough = 0)
{
    while (queue->queue.size() > enough) {
        Operation next = queue->queue.front();
        queue->queue.pop_front();
        perform(next);
    }
    enter(HOST);
}

void drain_all()
{
    drain(&legacy);
    for (cudaStream_t s : streams) drain(s);
}

void spoil(const Operation &operation)
{
    if (lazy && operation.spoil) memset(operation.spoil, 0xFF, operation.spoil_bytes);
}

cudaStream_t capturing()        // a stream that captures; NULL: none does
{
    for (cudaStream_t s : streams)
        if (s->capturing) return s;
    return nullptr;
}

// A call that capturing forbids: its error, and the capture is broken. cudaSuccess: none captures.
cudaError_t forbid_capture(cudaError_t error)
{
    cudaStream_t s = capturing();
    if (!s) return cudaSuccess;
    s->broken = true;
    return done(error);
}

cudaError_t enqueue(cudaStream_t stream, const Operation &operation)
{
    cudaStream_t queue = queue_of(stream);
    if (!queue) return done(cudaErrorInvalidResourceHandle);
    if (queue == &legacy && forbid_capture(cudaErrorStreamCaptureImplicit))
        return cudaErrorStreamCaptureImplicit;
    if (queue->capturing) {
        queue->captured.push_back(operation);
        return cudaSuccess;
    }
    if (operation.kind == KERNEL || operation.kind == PRODUCT) counted.launches++;
    if (operation.kind == COPY) counted.copies++;
    if (operation.kind == FILL) counted.fills++;
    queue->queue.push_back(operation);
    spoil(operation);
    if (!lazy) drain(queue);
    return cudaSuccess;
}

cudaError_t wait_for(cudaStream_t queue)        // NULL: all
{
    if (forbid_capture(cudaErrorStreamCaptureUnsupported)) return last_error;
    counted.synchronisations++;
    if (queue) drain(queue);
    else drain_all();
    return cudaSuccess;
}

double seconds()
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

} // namespace

/* --- tests' controls ------------------------------------------------------ */

namespace sim {

void set_lazy(bool on)
{
    drain_all();
    lazy = on;
}

void use_setting(int i)
{
    int half = i % (SETTINGS / 2);
    set_order(half == 0 ? FORWARD : half == 1 ? REVERSE : RANDOM, (unsigned)half);
    set_lazy(i >= SETTINGS / 2);
}

const char *setting_text(int i)
{
    static const char *const texts[SETTINGS] = {
        "forward",       "reverse",       "random 2",       "random 3",       "random 4",
        "forward, lazy", "reverse, lazy", "random 2, lazy", "random 3, lazy", "random 4, lazy"};
    return texts[i];
}

void fail_call(long n) { calls_until_failure = n; }
void set_devices(int n) { device_count = n; }
void reset_counters() { counted = Counters(); }

Counters counters()
{
    counted.switches = switches();
    return counted;
}

long runs_of(const char *kernel) { return kernel_runs[kernel]; }

template <class T> static int list(const std::vector<T *> &things, const char *what)
{
    for (const T *thing : things) report(thing->where, "leak: a %s made here", what);
    return (int)things.size();
}

int leaks()
{
    int n = list(streams, "stream") + list(blocking, "stream") + list(events, "event") +
            list(graphs, "graph") + list(execs, "graph to launch") + list(handles, "cuBLAS handle");
    for (const Memory &m : live) {
        report(m.where, "leak: %zu bytes of %s memory asked for here", m.bytes,
               m.device ? "device" : "host");
        n++;
    }
    return n;
}

void *host_malloc(size_t bytes, Where where) { return new_memory(bytes, false, false, where); }

void host_free(void *p, Where where)
{
    if (p && !free_memory(p, false, false, where)) fail(where, "host_free: not a block of it");
}

cudaError_t device_malloc(void **p, size_t bytes, Where where)
{
    size_t used = 0;
    if (injected()) return done(cudaErrorMemoryAllocation);
    if (forbid_capture(cudaErrorStreamCaptureUnsupported)) return last_error;
    for (const Memory &m : live) used += m.device ? m.bytes : 0;
    *p = nullptr;
    if (!bytes) return cudaSuccess;
    if (bytes > DEVICE_BYTES - used || !(*p = new_memory(bytes, true, false, where)))
        return done(cudaErrorMemoryAllocation);
    counted.allocations++;
    return cudaSuccess;
}

cudaError_t pinned_malloc(void **p, size_t bytes, Where where)
{
    if (injected()) return done(cudaErrorMemoryAllocation);
    if (!(*p = new_memory(bytes, false, true, where))) return done(cudaErrorMemoryAllocation);
    counted.allocations++;
    return cudaSuccess;
}

// Its name without parentheses and template arguments.
static std::string base_name(const char *spelt)
{
    std::string name = spelt + (*spelt == '(');
    return name.substr(0, name.find_first_of("<)"));
}

void launch_kernel(const Launch &launch, cudaStream_t stream, const void *function,
                   const std::function<void()> &body)
{
    dim3 g = launch.grid, b = launch.block;
    size_t allowed = dynamic_limits.count(function) ? (size_t)dynamic_limits[function] : 0;
    size_t limit = allowed > SHARED_DEFAULT ? SHARED_MOST : SHARED_DEFAULT;
    if (injected()) {
        done(cudaErrorLaunchFailure);
        return;
    }
    if (!g.x || !g.y || !g.z || g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535 || !b.x || !b.y ||
        !b.z || b.x > 1024 || b.y > 1024 || b.z > 64 || b.x * b.y * b.z > 1024) {
        done(cudaErrorInvalidConfiguration);
        return;
    }
    if (launch.shared > (allowed > SHARED_DEFAULT ? allowed : SHARED_DEFAULT)) {
        done(cudaErrorInvalidValue);
        return;
    }
    Operation operation = {KERNEL, launch.where, nullptr, nullptr, 0};
    operation.run = [launch, limit, body] {
        kernel_runs[base_name(launch.kernel)]++;
        run_grid(launch, limit, body);
    };
    enqueue(stream, operation);
}

} // namespace sim

/* --- errors and devices --------------------------------------------------- */

cudaError_t cudaGetLastError()
{
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError() { return last_error; }

const char *cudaGetErrorName(cudaError_t error)
{
    switch (error) {
#define SIM_NAME(name, value, text) case name: return #name;
    SIM_ERRORS(SIM_NAME)
    }
    return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
#define SIM_TEXT(name, value, text) case name: return text;
    SIM_ERRORS(SIM_TEXT)
    }
    return "unrecognized error code";
}

cudaError_t cudaGetDeviceCount(int *count)
{
    if (injected()) return done(cudaErrorUnknown);
    if (!device_count) return done(cudaErrorInsufficientDriver);    // *count is left as it is
    *count = device_count;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return device_count ? cudaSuccess : done(cudaErrorInsufficientDriver);
}

cudaError_t cudaSetDevice(int device)
{
    if (injected()) return done(cudaErrorUnknown);
    if (!device_count) return done(cudaErrorInsufficientDriver);
    return device == 0 ? cudaSuccess : done(cudaErrorInvalidDevice);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
    if (injected()) return done(cudaErrorUnknown);
    if (!device_count) return done(cudaErrorInsufficientDriver);
    if (device != 0) return done(cudaErrorInvalidDevice);
    *p = {"CUDA on a CPU", 7, 5, 4, 32, 1024, DEVICE_BYTES, SHARED_DEFAULT, SHARED_MOST};
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total)
{
    if (injected()) return done(cudaErrorUnknown);
    *free = *total = DEVICE_BYTES;
    for (const Memory &m : live) *free -= m.device ? m.bytes : 0;
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize()
{
    return injected() ? done(cudaErrorUnknown) : wait_for(nullptr);
}

cudaError_t cudaFuncSetAttribute(const void *function, cudaFuncAttribute attribute, int value)
{
    if (injected()) return done(cudaErrorUnknown);
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
        (size_t)value > SHARED_MOST)
        return done(cudaErrorInvalidValue);
    dynamic_limits[function] = value;
    return cudaSuccess;
}

/* --- streams and events --------------------------------------------------- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags, Where where)
{
    if (injected()) return done(cudaErrorMemoryAllocation);
    if (flags & ~cudaStreamNonBlocking) return done(cudaErrorInvalidValue);
    *stream = add(flags ? streams : blocking, new cudaStream_st(), where);
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream, Where where)
{
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault, where);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)      // what it has to do is still done
{
    if (!stream || !queue_of(stream)) return done(cudaErrorInvalidResourceHandle);
    drain(queue_of(stream));
    for (cudaEvent_t e : events)
        if (e->stream == stream) e->stream = nullptr;
    if (!erase(streams, stream)) erase(blocking, stream);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    if (injected()) return done(cudaErrorUnknown);
    if (!queue_of(stream)) return done(cudaErrorInvalidResourceHandle);
    return wait_for(queue_of(stream));
}

// One operation more is done, so that a program that asks again and again comes to an end.
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    cudaStream_t queue = queue_of(stream);
    if (!queue) return done(cudaErrorInvalidResourceHandle);
    if (forbid_capture(cudaErrorStreamCaptureUnsupported)) return last_error;
    if (queue->queue.empty()) return cudaSuccess;
    drain(queue, queue->queue.size() - 1);
    return cudaErrorNotReady;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned, Where where)
{
    if (injected()) return done(cudaErrorMemoryAllocation);
    *event = add(events, new cudaEvent_st(), where);
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event, Where where)
{
    return cudaEventCreateWithFlags(event, cudaEventDefault, where);
}

// Works a stream off as far as the event's `times`-th record.
static void drain_until(cudaEvent_t event, long times)
{
    cudaStream_t queue = event->stream;
    while (event->done < times && queue && !queue->queue.empty())
        drain(queue, queue->queue.size() - 1);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    if (!holds(events, event)) return done(cudaErrorInvalidResourceHandle);
    drain_all();                        // nobody may still name it
    erase(events, event);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream, Where where)
{
    if (injected()) return done(cudaErrorUnknown);
    cudaStream_t queue = queue_of(stream);
    if (!holds(events, event) || !queue) return done(cudaErrorInvalidResourceHandle);
    if (queue->capturing) return forbid_capture(cudaErrorStreamCaptureUnsupported);
    event->stream = queue;
    long times = ++event->recorded;
    return enqueue(stream, {EVENT, where, [event, times] {
                                event->done = times;
                                event->time = seconds();
                            }, nullptr, 0});
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    if (injected()) return done(cudaErrorUnknown);
    if (!holds(events, event)) return done(cudaErrorInvalidResourceHandle);
    if (forbid_capture(cudaErrorStreamCaptureUnsupported)) return last_error;
    counted.synchronisations++;
    drain_until(event, event->recorded);
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    if (!holds(events, event)) return done(cudaErrorInvalidResourceHandle);
    if (event->done == event->recorded) return cudaSuccess;
    drain(event->stream, event->stream->queue.size() - 1);
    return cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    if (!holds(events, start) || !holds(events, end) || !start->recorded || !end->recorded)
        return done(cudaErrorInvalidResourceHandle);
    if (start->done != start->recorded || end->done != end->recorded) return cudaErrorNotReady;
    *ms = (float)(1e3 * (end->time - start->time));
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned, Where where)
{
    if (injected()) return done(cudaErrorUnknown);
    cudaStream_t queue = queue_of(stream);
    if (!queue || !holds(events, event)) return done(cudaErrorInvalidResourceHandle);
    if (queue->capturing) return forbid_capture(cudaErrorStreamCaptureUnsupported);
    long times = event->recorded;       // a later record does not count
    return enqueue(stream, {EVENT, where, [event, times] { drain_until(event, times); }, nullptr,
                            0});
}

/* --- memory --------------------------------------------------------------- */

cudaError_t cudaFree(void *p, Where where)
{
    drain_all();
    if (p && !free_memory(p, true, false, where))
        fail(where, "cudaFree: not the start of a live block of device memory");
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p, Where where)
{
    drain_all();
    if (p && !free_memory(p, false, true, where))
        fail(where, "cudaFreeHost: not the start of a live block of pinned memory");
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream, Where where)
{
    if (injected()) return done(cudaErrorUnknown);
    const Memory *target = find(live, to), *source = find(live, from);
    bool to_device = kind == cudaMemcpyDefault ? target && target->device
                                               : kind == cudaMemcpyHostToDevice ||
                                                     kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDefault ? source && source->device
                                                 : kind == cudaMemcpyDeviceToHost ||
                                                       kind == cudaMemcpyDeviceToDevice;
    if (!bytes) return cudaSuccess;
    check_range(where, "cudaMemcpy", "destination", to, bytes, to_device);
    check_range(where, "cudaMemcpy", "source", from, bytes, from_device);
    return enqueue(stream, {COPY, where, [to, from, bytes] { memmove(to, from, bytes); },
                            to_device ? nullptr : (char *)to, bytes});
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, Where where)
{
    cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, nullptr, where);
    return error ? error : wait_for(&legacy);
}

cudaError_t cudaMemsetAsync(void *to, int byte, size_t bytes, cudaStream_t stream, Where where)
{
    if (injected()) return done(cudaErrorUnknown);
    if (!bytes) return cudaSuccess;
    check_range(where, "cudaMemset", "destination", to, bytes, true);
    return enqueue(stream, {FILL, where, [to, byte, bytes] { memset(to, byte, bytes); }, nullptr,
                            0});
}

cudaError_t cudaMemset(void *to, int byte, size_t bytes, Where where)
{
    return cudaMemsetAsync(to, byte, bytes, nullptr, where);    // does not wait on a GPU either
}

/* --- graphs --------------------------------------------------------------- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
    if (injected()) return done(cudaErrorUnknown);
    cudaStream_t queue = queue_of(stream);
    if (!queue) return done(cudaErrorInvalidResourceHandle);
    if (queue == &legacy || capturing()) return done(cudaErrorStreamCaptureUnsupported);
    queue->capturing = true;
    queue->broken = false;
    queue->captured.clear();
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph, Where where)
{
    bool fails = injected();
    cudaStream_t queue = queue_of(stream);
    *graph = nullptr;
    if (!queue || !queue->capturing) return done(cudaErrorInvalidValue);
    queue->capturing = false;
    if (queue->broken || fails) return done(cudaErrorStreamCaptureInvalidated);
    *graph = add(graphs, new cudaGraph_st(), where);
    (*graph)->operations = std::make_shared<Operations>(queue->captured);
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status)
{
    cudaStream_t queue = queue_of(stream);
    if (!queue) return done(cudaErrorInvalidResourceHandle);
    *status = !queue->capturing ? cudaStreamCaptureStatusNone
              : queue->broken   ? cudaStreamCaptureStatusInvalidated
                                : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count)
{
    if (!holds(graphs, graph)) return done(cudaErrorInvalidResourceHandle);
    if (nodes) return done(cudaErrorNotSupported);
    *count = graph->operations->size();
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long,
                                 Where where)
{
    if (injected()) return done(cudaErrorMemoryAllocation);
    if (!holds(graphs, graph)) return done(cudaErrorInvalidResourceHandle);
    *exec = add(execs, new cudaGraphExec_st(), where);
    (*exec)->operations = graph->operations;
    counted.graph_kernels = 0;
    for (const Operation &o : *graph->operations)
        counted.graph_kernels += o.kind == KERNEL || o.kind == PRODUCT;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream, Where)
{
    if (injected()) return done(cudaErrorLaunchFailure);
    cudaStream_t queue = queue_of(stream);
    if (!holds(execs, exec) || !queue) return done(cudaErrorInvalidResourceHandle);
    if (queue->capturing || queue == &legacy)
        if (forbid_capture(cudaErrorStreamCaptureUnsupported)) return last_error;
    counted.graph_launches++;
    for (const Operation &o : *exec->operations) {
        queue->queue.push_back(o);
        spoil(o);
    }
    if (!lazy) drain(queue);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    return erase(graphs, graph) ? cudaSuccess : done(cudaErrorInvalidResourceHandle);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    return erase(execs, exec) ? cudaSuccess : done(cudaErrorInvalidResourceHandle);
}

/* --- cuBLAS --------------------------------------------------------------- */

cublasStatus_t cublasCreate(cublasHandle_t *handle, Where where)
{
    if (injected() || !device_count) return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = add(handles, new cublasContext(), where);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle)
{
    return erase(handles, handle) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_INITIALIZED;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream)
{
    if (!holds(handles, handle) || injected()) return CUBLAS_STATUS_NOT_INITIALIZED;
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void *workspace, size_t bytes, Where where)
{
    if (!holds(handles, handle) || injected()) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (bytes) check_range(where, "cublasSetWorkspace", "workspace", workspace, bytes, true);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t)
{
    return holds(handles, handle) && !injected() ? CUBLAS_STATUS_SUCCESS
                                                 : CUBLAS_STATUS_NOT_INITIALIZED;
}

namespace {

struct Matrix {                 // column-major; op(M) is what enters the product
    const float *at;
    int rows, columns, ld;      // as it lies in memory
    long long stride;
    bool transposed;
    double value(int batch, int i, int j) const
    {
        if (transposed) return (double)at[batch * stride + j + (long long)i * ld];
        return (double)at[batch * stride + i + (long long)j * ld];
    }
};

Matrix operand(cublasOperation_t op, const float *at, int rows, int columns, int ld, long long step)
{
    bool turned = op != CUBLAS_OP_N;
    return {at, turned ? columns : rows, turned ? rows : columns, ld, step, turned};
}

void check_matrix(Where where, const char *name, const Matrix &m, int batch)
{
    if (!m.rows || !m.columns) return;
    size_t floats = (size_t)m.ld * (size_t)(m.columns - 1) + (size_t)m.rows;
    for (int i = 0; i < batch; i += batch > 1 ? batch - 1 : 1)      // the first and the last
        check_range(where, "cublasSgemm", name, m.at + i * m.stride, floats * sizeof(float), true);
}

// C = alpha op(A) op(B) + beta C, summed in double; beta = 0: C is not read.
void multiply(const Matrix &a, const Matrix &b, const Matrix &c, int k, float alpha, float beta,
              int batch)
{
    for (int n = 0; n < batch; n++)
        for (int j = 0; j < c.columns; j++)
            for (int i = 0; i < c.rows; i++) {
                float *to = (float *)c.at + n * c.stride + i + (long long)j * c.ld;
                double sum = 0;
                for (int l = 0; l < k; l++) sum += a.value(n, i, l) * b.value(n, l, j);
                sum *= (double)alpha;
                *to = (float)(beta == 0.0f ? sum : sum + (double)beta * (double)*to);
            }
}

} // namespace

cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t handle, cublasOperation_t op_a,
                                         cublasOperation_t op_b, int m, int n, int k,
                                         const float *alpha, const float *a, int lda,
                                         long long stride_a, const float *b, int ldb,
                                         long long stride_b, const float *beta, float *c, int ldc,
                                         long long stride_c, int batch, Where where)
{
    if (!holds(handles, handle) || injected()) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (m < 0 || n < 0 || k < 0 || batch < 0) return CUBLAS_STATUS_INVALID_VALUE;
    Matrix ma = operand(op_a, a, m, k, lda, stride_a), mb = operand(op_b, b, k, n, ldb, stride_b);
    Matrix mc = operand(CUBLAS_OP_N, c, m, n, ldc, stride_c);
    if (lda < max(ma.rows, 1) || ldb < max(mb.rows, 1) || ldc < max(m, 1))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!m || !n || !batch) return CUBLAS_STATUS_SUCCESS;
    check_matrix(where, "matrix A", ma, batch);
    check_matrix(where, "matrix B", mb, batch);
    check_matrix(where, "matrix C", mc, batch);
    float x = *alpha, y = *beta;
    cudaError_t error = enqueue(handle->stream, {PRODUCT, where, [ma, mb, mc, k, x, y, batch] {
                                    multiply(ma, mb, mc, k, x, y, batch);
                                }, nullptr, 0});
    return error ? CUBLAS_STATUS_EXECUTION_FAILED : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSgemm(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,
                           int m, int n, int k, const float *alpha, const float *a, int lda,
                           const float *b, int ldb, const float *beta, float *c, int ldc,
                           Where where)
{
    return cublasSgemmStridedBatched(handle, op_a, op_b, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta,
                                     c, ldc, 0, 1, where);
}
