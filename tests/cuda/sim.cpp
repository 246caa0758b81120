/* sim.cpp: the scheduler. One fiber for each CUDA thread of the block that runs; see sim.h.

   run_grid      one block after another
   run_block     pick a ready thread, run it until it waits or exits, look whom that lets go on
   arrive_...    the rules: who waits for whom, and what is a mistake

   Compile it without sanitizers. It calls their functions where the program is linked with one
   (they are weak symbols), so the same object file serves all builds. It uses no templates of the
   library and no memset: those may be the sanitizers' versions, to which scheduling is a race. */
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define WEAK __attribute__((weak))
extern "C" {
void __asan_poison_memory_region(void const volatile *at, size_t bytes) WEAK;
void __asan_unpoison_memory_region(void const volatile *at, size_t bytes) WEAK;
void __sanitizer_start_switch_fiber(void **save, const void *bottom, size_t size) WEAK;
void __sanitizer_finish_switch_fiber(void *saved, const void **bottom, size_t *size) WEAK;
void *__tsan_get_current_fiber(void) WEAK;
void *__tsan_create_fiber(unsigned flags) WEAK;
void __tsan_set_fiber_name(void *fiber, const char *name) WEAK;
void __tsan_destroy_fiber(void *fiber) WEAK;
void __tsan_switch_to_fiber(void *fiber, unsigned flags) WEAK;
void __tsan_acquire(void *at) WEAK;
void __tsan_release(void *at) WEAK;
}

namespace sim {
namespace {

inline bool asan() { return __asan_poison_memory_region != nullptr; }
inline bool tsan() { return __tsan_create_fiber != nullptr; }
const unsigned NO_SYNC = 1;     // for __tsan_switch_to_fiber: switching alone orders no memory

/* --- switching stacks ----------------------------------------------------- */

// switch_context(from, to) returns when someone switches back to `from`. What a function must
// preserve is pushed on the old stack; the rest lies in `from`.
#if defined(__x86_64__) && !defined(SIM_UCONTEXT)

struct Context {
    void *stack;
};
extern "C" void sim_switch(void **save, void *to);
asm(".text\n"
    ".globl sim_switch\n"
    "sim_switch:\n"
    "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n"
    "    pushq %r13\n    pushq %r14\n    pushq %r15\n"
    "    movq %rsp, (%rdi)\n"
    "    movq %rsi, %rsp\n"
    "    popq %r15\n    popq %r14\n    popq %r13\n"
    "    popq %r12\n    popq %rbx\n    popq %rbp\n"
    "    ret\n");

void make_context(Context *c, char *bottom, size_t size, void (*entry)())
{
    void **at = (void **)(bottom + size);
    *--at = nullptr;                    // entry's return address: it never returns
    *--at = (void *)entry;              // where sim_switch's ret goes
    for (int i = 0; i < 6; i++) *--at = nullptr;
    c->stack = at;
}

inline void switch_context(Context *from, Context *to) { sim_switch(&from->stack, to->stack); }

#elif defined(__aarch64__) && !defined(SIM_UCONTEXT)

struct Context {
    void *stack;
};
extern "C" void sim_switch(void **save, void *to);
asm(".text\n"
    ".globl sim_switch\n"
    "sim_switch:\n"
    "    sub sp, sp, #160\n"
    "    stp x19, x20, [sp]\n        stp x21, x22, [sp, #16]\n"
    "    stp x23, x24, [sp, #32]\n   stp x25, x26, [sp, #48]\n"
    "    stp x27, x28, [sp, #64]\n   stp x29, x30, [sp, #80]\n"
    "    stp d8, d9, [sp, #96]\n     stp d10, d11, [sp, #112]\n"
    "    stp d12, d13, [sp, #128]\n  stp d14, d15, [sp, #144]\n"
    "    mov x9, sp\n"
    "    str x9, [x0]\n"
    "    mov sp, x1\n"
    "    ldp x19, x20, [sp]\n        ldp x21, x22, [sp, #16]\n"
    "    ldp x23, x24, [sp, #32]\n   ldp x25, x26, [sp, #48]\n"
    "    ldp x27, x28, [sp, #64]\n   ldp x29, x30, [sp, #80]\n"
    "    ldp d8, d9, [sp, #96]\n     ldp d10, d11, [sp, #112]\n"
    "    ldp d12, d13, [sp, #128]\n  ldp d14, d15, [sp, #144]\n"
    "    add sp, sp, #160\n"
    "    ret\n");

void make_context(Context *c, char *bottom, size_t size, void (*entry)())
{
    void **at = (void **)(bottom + size) - 20;
    for (int i = 0; i < 20; i++) at[i] = nullptr;
    at[11] = (void *)entry;             // x30, where ret goes
    c->stack = at;
}

inline void switch_context(Context *from, Context *to) { sim_switch(&from->stack, to->stack); }

#else // any processor, six times slower: each switch asks the kernel for the signal mask

typedef ucontext_t Context;

void make_context(Context *c, char *bottom, size_t size, void (*entry)())
{
    getcontext(c);
    c->uc_stack.ss_sp = bottom;
    c->uc_stack.ss_size = size;
    c->uc_link = nullptr;
    makecontext(c, entry, 0);
}

inline void switch_context(Context *from, Context *to) { swapcontext(from, to); }

#endif

/* --- state ---------------------------------------------------------------- */

enum State { READY, AT_BARRIER, AT_COLLECTIVE, EXITED };

struct Thread {
    Context context;            // its registers while it does not run
    State state;
    int number;                 // in the block; its lane is number % 32
    uint3 index;
    Where where;                // where it waits or last waited; line 0: it did not yet
    Collective wants;           // what it waits for, and what it brings there
    uint64_t received;          // what it gets from the collective
    unsigned votes;
    void *tsan_fiber, *asan_stack;
};

const int MAX_THREADS = 1024;
const size_t STACK_BYTES = 64 * 1024;   // of a thread, with a guard page below
Thread threads[MAX_THREADS];
char *stacks;

// The grid that runs, and its block.
const Launch *launched;         // NULL between grids
const std::function<void()> *body;
size_t shared_limit;
uint3 block;
int count;                      // threads of the block
int in_state[EXITED + 1];       // how many are in each state
Thread *current;                // the thread that runs, or ran last; NULL between blocks

// The scheduler's own side of a switch.
struct {
    Context context;
    void *tsan_fiber, *asan_stack;
    const void *bottom;
    size_t size;
} host;

struct Text {
    char s[48];
};

Text name_of(const Thread *t)
{
    Text text;
    snprintf(text.s, sizeof text.s, "thread (%u,%u,%u)", t->index.x, t->index.y, t->index.z);
    return text;
}

Order order = FORWARD;
uint64_t random_state;
long switch_count;
char grid_end, fence;           // places for the thread sanitizer to remember who came before

uint64_t random_number()        // splitmix64
{
    uint64_t z = random_state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* --- who is next ---------------------------------------------------------- */

// A bit for each ready thread: found in a moment among 1024. In reverse order from the last on.
uint32_t ready[MAX_THREADS / 32];

int position(const Thread *t) { return order == REVERSE ? count - 1 - t->number : t->number; }

void set_state(Thread *t, State state)
{
    uint32_t bit = 1u << position(t) % 32;
    in_state[t->state]--;
    in_state[t->state = state]++;
    if (state == READY) ready[position(t) / 32] |= bit;
    else ready[position(t) / 32] &= ~bit;
}

// The first ready thread from a place on, around the end; NULL: none is ready.
Thread *pick()
{
    int from = order == RANDOM ? (int)(random_number() % (uint64_t)count) : 0;
    for (int i = 0; i <= 32; i++) {
        int word = (from / 32 + i) % 32;
        uint32_t bits = i ? ready[word] : ready[word] & ~0u << from % 32;
        if (!bits) continue;
        int at = word * 32 + __builtin_ctz(bits);
        return &threads[order == REVERSE ? count - 1 - at : at];
    }
    return nullptr;
}

/* --- fibers --------------------------------------------------------------- */

// In a fiber: back to the scheduler, until that resumes this thread.
__attribute__((noinline)) void park(State state)
{
    Thread *self = current;
    set_state(self, state);
    if (tsan()) __tsan_switch_to_fiber(host.tsan_fiber, NO_SYNC);
    if (asan())
        __sanitizer_start_switch_fiber(state == EXITED ? nullptr : &self->asan_stack, host.bottom,
                                       host.size);
    switch_context(&self->context, &host.context);
    if (asan()) __sanitizer_finish_switch_fiber(self->asan_stack, nullptr, nullptr);
}

// In the scheduler: runs a thread until it parks.
__attribute__((noinline)) void resume(Thread *t)
{
    current = t;
    switch_count++;
    if (tsan()) __tsan_switch_to_fiber(t->tsan_fiber, NO_SYNC);
    if (asan())
        __sanitizer_start_switch_fiber(&host.asan_stack, stacks + t->number * (long)STACK_BYTES,
                                       STACK_BYTES);
    switch_context(&host.context, &t->context);
    if (asan()) __sanitizer_finish_switch_fiber(host.asan_stack, nullptr, nullptr);
}

// The thread sanitizer soon forgets what a thread did whose fiber is destroyed. So those of past
// blocks live on, in a ring: a race between blocks is seen when no more than KEPT threads ran from
// one access to the other.
const int KEPT = 4096;
void *kept[KEPT];
int newest;

void *new_tsan_fiber(const Thread *t)
{
    char name[96];              // in reports of races
    newest = (newest + 1) % KEPT;
    if (kept[newest]) __tsan_destroy_fiber(kept[newest]);
    kept[newest] = __tsan_create_fiber(0);
    snprintf(name, sizeof name, "block (%u,%u,%u) %s", block.x, block.y, block.z, name_of(t).s);
    __tsan_set_fiber_name(kept[newest], name);
    return kept[newest];
}

void forget_tsan_fibers()
{
    for (int i = 0; i < KEPT; i++) {
        if (kept[i]) __tsan_destroy_fiber(kept[i]);
        kept[i] = nullptr;
    }
}

void fiber_main()
{
    if (asan()) __sanitizer_finish_switch_fiber(nullptr, &host.bottom, &host.size);
    (*body)();
    if (tsan()) __tsan_release(&grid_end);
    park(EXITED);
}

// New memory, at `at` in place of what is there, or anywhere.
char *map(size_t bytes, void *at = nullptr)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at ? MAP_FIXED : 0);
    void *p = mmap(at, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (p == MAP_FAILED) fail({__FILE__, __LINE__}, "no memory for the scheduler");
    return (char *)p;
}

// The thread sanitizer must not take a new thread's stack for that of the block before: for it they
// are mapped anew, without guard pages.
void make_stacks()
{
    if (stacks && tsan()) map(STACK_BYTES * (size_t)count, stacks);
    if (stacks) return;
    stacks = map(STACK_BYTES * MAX_THREADS);
    for (int i = 0; i < MAX_THREADS && !tsan(); i++)
        mprotect(stacks + i * (long)STACK_BYTES, (size_t)sysconf(_SC_PAGESIZE), PROT_NONE);
}

/* --- shared memory -------------------------------------------------------- */

// The block's shared memory is one area: its arrays with guards between. To the thread sanitizer
// each block has an area it never saw, so that blocks do not race for the same addresses; the first
// SYNC_BYTES of it are never touched, their addresses stand for barriers.
const size_t AREA_BYTES = 256 * 1024, AREAS = 2048, SYNC_BYTES = 8 * (MAX_THREADS + 1);
const size_t GUARD = 64;
const char GUARD_BYTE = (char)0xA5, POISON = (char)0xFF;

struct Array {
    const void *key;            // which declaration
    const char *name;
    Where where;
    char *at;
    size_t bytes;
};
const int MAX_ARRAYS = 64;
Array arrays[MAX_ARRAYS];
int array_count;
size_t shared_bytes;            // of all arrays, without guards
char *areas, *area;

void *barrier_address() { return area; }
void *lane_address(const Thread *t) { return area + 8 * (t->number + 1); }

void fill(char *from, const char *to, char byte)
{
    for (volatile char *at = from; at < to; at++) *at = byte;   // volatile: or it becomes memset
}

void next_area()
{
    const size_t bytes = tsan() ? AREA_BYTES * AREAS : AREA_BYTES;
    if (areas && tsan() && (area += AREA_BYTES) == areas + bytes) {
        munmap(areas, bytes);           // and the thread sanitizer forgets it
        areas = nullptr;
    }
    if (!areas) area = areas = map(bytes);
    if (asan()) __asan_poison_memory_region(area, AREA_BYTES);
    array_count = 0;
    shared_bytes = 0;
}

// An array no better aligned than `align`: what relies on more is found by luck otherwise.
char *new_array(const void *key, const char *name, size_t bytes, size_t align, Where where)
{
    Array *a = &arrays[array_count];
    char *from = array_count ? a[-1].at + a[-1].bytes + GUARD : area + SYNC_BYTES;
    shared_bytes += bytes;
    if (array_count++ == MAX_ARRAYS) fail(where, "more than %d shared arrays", MAX_ARRAYS);
    if (shared_bytes > shared_limit)
        fail(where, "%zu bytes of shared memory with %s, but the launch may use %zu", shared_bytes,
             name, shared_limit);
    uintptr_t at = ((uintptr_t)from + GUARD + 31) / 32 * 32 + align % 32;
    *a = {key, name, where, (char *)at, bytes};
    fill(a->at - GUARD, a->at, GUARD_BYTE);
    fill(a->at, a->at + bytes, POISON);
    fill(a->at + bytes, a->at + bytes + GUARD, GUARD_BYTE);
    if (asan()) __asan_unpoison_memory_region(a->at, bytes);
    return a->at;
}

void check_guards()
{
    current = nullptr;          // nobody knows which thread it was
    for (const Array *a = arrays; a < arrays + array_count; a++)
        for (size_t i = 0; i < GUARD; i++)
            if (a->at[a->bytes + i] != GUARD_BYTE || a->at[-1 - (long)i] != GUARD_BYTE)
                fail(a->where, "something wrote beside the shared array %s of %zu bytes", a->name,
                     a->bytes);
}

/* --- the rules ------------------------------------------------------------ */

const Thread *first_in(State state)
{
    for (const Thread *t = threads; t < threads + count; t++)
        if (t->state == state) return t;
    return nullptr;
}

// These `n` threads from `first` on whose lanes are in the mask: what each did is before what each
// will do. Tells the thread sanitizer, by way of `address`, in the name of each thread.
void order_memory(Thread *first, int n, unsigned mask, void *address)
{
    if (!tsan()) return;
    for (int half = 0; half < 2; half++)
        for (int i = 0; i < n; i++) {
            if (!(mask >> i % 32 & 1)) continue;
            __tsan_switch_to_fiber(first[i].tsan_fiber, NO_SYNC);
            if (half == 0) __tsan_release(address);
            else __tsan_acquire(address);
        }
    __tsan_switch_to_fiber(host.tsan_fiber, NO_SYNC);
}

void arrive_at_barrier(const Thread *t)
{
    const Thread *gone = in_state[EXITED] ? first_in(EXITED) : nullptr;
    const Thread *other = first_in(AT_BARRIER);
    if (gone) fail(t->where, "waits at __syncthreads, but %s has exited", name_of(gone).s);
    if (other->where.line != t->where.line)
        fail(t->where, "waits at __syncthreads, but %s at the one in line %d", name_of(other).s,
             other->where.line);
    if (in_state[AT_BARRIER] < count) return;
    order_memory(threads, count, ~0u, barrier_address());
    for (int i = 0; i < count; i++) set_state(&threads[i], READY);
}

void finish_collective(Thread *warp, unsigned mask, bool orders)
{
    unsigned votes = 0;
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1 && warp[i].wants.value) votes |= 1u << i;
    if (orders) order_memory(warp, 32, mask, lane_address(warp + __builtin_ctz(mask)));
    for (int i = 0; i < 32; i++) {
        if (!(mask >> i & 1)) continue;
        warp[i].votes = votes;
        warp[i].received = warp[warp[i].wants.source].wants.value;
        set_state(&warp[i], READY);
    }
}

bool together(const Thread *a, const Thread *b)     // at the same collective
{
    return a->state == AT_COLLECTIVE && b->state == AT_COLLECTIVE &&
           a->where.line == b->where.line && a->wants.mask == b->wants.mask;
}

void arrive_at_collective(Thread *t)
{
    const Collective &c = t->wants;
    int lane = t->number % 32;
    Thread *warp = t - lane;
    bool complete = true;
    if (!(c.mask >> lane & 1))
        fail(t->where, "%s: lane %d is not in its own mask %08x", c.name, lane, c.mask);
    if (c.source < 0 || c.source > 31 || !(c.mask >> c.source & 1))
        fail(t->where, "%s: takes the value of lane %d, which is not in the mask %08x", c.name,
             c.source, c.mask);
    for (int i = 0; i < 32; i++) {
        const Thread *other = warp + i;
        if (!(c.mask >> i & 1)) continue;
        if (other >= threads + count)
            fail(t->where, "%s: no lane %d of mask %08x in a block of %d threads", c.name, i,
                 c.mask, count);
        if (other->state == EXITED)
            fail(t->where, "%s: %s, which the mask %08x names, has exited", c.name,
                 name_of(other).s, c.mask);
        if (together(t, other)) continue;
        complete = false;
        // It may come from a collective without this lane, not from one that waits for it.
        if (other->state == AT_COLLECTIVE && other->wants.mask >> lane & 1)
            fail(t->where, "%s with mask %08x, but %s is at %s in line %d with mask %08x", c.name,
                 c.mask, name_of(other).s, other->wants.name, other->where.line,
                 other->wants.mask);
    }
    if (complete) finish_collective(warp, c.mask, c.orders_memory);
}

// A thread that exits must not be waited for.
void leave(const Thread *t)
{
    const Thread *warp = t - t->number % 32;
    if (in_state[AT_BARRIER]) {
        const Thread *waits = first_in(AT_BARRIER);
        fail(waits->where, "exits, but %s waits at __syncthreads", name_of(waits).s);
    }
    for (const Thread *other = warp; other < warp + 32 && other < threads + count; other++)
        if (other->state == AT_COLLECTIVE && other->wants.mask >> t->number % 32 & 1)
            fail(other->where, "exits, but %s waits for it at %s with mask %08x",
                 name_of(other).s, other->wants.name, other->wants.mask);
}

// Nobody is ready: a lane waits at a collective for one that waits elsewhere.
[[noreturn]] void fail_deadlock()
{
    Thread *a = (Thread *)first_in(AT_COLLECTIVE), *warp = a - a->number % 32, *b = warp;
    while (!(a->wants.mask >> (b - warp) & 1) || together(a, b)) b++;
    current = a;
    fail(a->where, "deadlock: %s with mask %08x waits for %s, which waits at %s in line %d",
         a->wants.name, a->wants.mask, name_of(b).s, b->wants.name, b->where.line);
}

/* --- blocks --------------------------------------------------------------- */

void begin_block()
{
    dim3 size = launched->block;
    count = (int)(size.x * size.y * size.z);
    for (int i = 0; i < MAX_THREADS / 32; i++) ready[i] = 0;
    for (int i = 0; i <= EXITED; i++) in_state[i] = 0;
    make_stacks();
    next_area();
    if (launched->shared)
        new_array(&launched, "(dynamic)", launched->shared, 16, launched->where);
    for (int i = 0; i < count; i++) {
        Thread *t = &threads[i];
        unsigned n = (unsigned)i;
        t->number = i;
        t->index = {n % size.x, n / size.x % size.y, n / (size.x * size.y)};
        t->where = {launched->where.file, 0};
        t->state = EXITED;
        in_state[EXITED]++;
        set_state(t, READY);
        make_context(&t->context, stacks + i * (long)STACK_BYTES, STACK_BYTES, fiber_main);
        if (tsan()) t->tsan_fiber = new_tsan_fiber(t);
    }
}

void run_block()
{
    begin_block();
    while (in_state[EXITED] < count) {
        Thread *t = pick();
        if (!t) fail_deadlock();
        resume(t);
        if (t->state == AT_BARRIER) arrive_at_barrier(t);
        else if (t->state == AT_COLLECTIVE) arrive_at_collective(t);
        else leave(t);
    }
    check_guards();
}

uint64_t common_divisor(uint64_t a, uint64_t b) { return b ? common_divisor(b, a % b) : a; }

} // namespace

void run_grid(const Launch &launch, size_t limit, const std::function<void()> &what)
{
    uint64_t x = launch.grid.x, y = launch.grid.y, total = x * y * launch.grid.z;
    uint64_t at = 0, step = 1;
    if (order == REVERSE) at = step = total - 1;
    if (order == RANDOM) {
        at = random_number() % total;
        do step = 1 + random_number() % total;      // without common divisor: all are visited
        while (common_divisor(total, step) != 1);
    }
    if (tsan()) host.tsan_fiber = __tsan_get_current_fiber();
    launched = &launch;
    body = &what;
    shared_limit = limit;
    for (uint64_t i = 0; i < total; i++, at = (at + step) % total) {
        block = {(unsigned)(at % x), (unsigned)(at / x % y), (unsigned)(at / (x * y))};
        run_block();
    }
    if (tsan()) {
        __tsan_acquire(&grid_end);
        forget_tsan_fibers();
    }
    launched = nullptr;
}

void set_order(Order o, unsigned seed)
{
    order = o;
    random_state = seed;
}

long switches() { return switch_count; }

/* --- what a thread calls -------------------------------------------------- */

static Thread *self()
{
    if (!launched) fail({__FILE__, __LINE__}, "only a kernel may call this");
    return current;
}

uint3 thread_index() { return self()->index; }
int lane() { return self()->number % 32; }

uint3 block_index()
{
    self();
    return block;
}

uint3 block_size()
{
    self();
    return {launched->block.x, launched->block.y, launched->block.z};
}

uint3 grid_size()
{
    self();
    return {launched->grid.x, launched->grid.y, launched->grid.z};
}

void block_barrier(Where where)
{
    Thread *t = self();
    t->where = where;
    t->wants = {"__syncthreads", 0, 0, 0, true};
    park(AT_BARRIER);
}

uint64_t collective(const Collective &c, unsigned *votes, Where where)
{
    Thread *t = self();
    t->where = where;
    t->wants = c;
    park(AT_COLLECTIVE);
    *votes = t->votes;
    return t->received;
}

void memory_fence()
{
    if (!tsan()) return;
    __tsan_release(&fence);
    __tsan_acquire(&fence);
}

void *shared_array(const void *key, const char *name, size_t bytes, size_t align, Where where)
{
    self();
    for (const Array *a = arrays; a < arrays + array_count; a++)
        if (a->key == key) return a->at;
    return new_array(key, name, bytes, align, where);
}

void *dynamic_shared(Where where)
{
    self();
    if (!launched->shared) fail(where, "the launch gives no dynamic shared memory");
    return arrays[0].at;
}

/* --- reports -------------------------------------------------------------- */

static void print(Where where, const char *format, va_list arguments)
{
    fprintf(stderr, "sim: ");
    if (launched) fprintf(stderr, "kernel %s, block (%u,%u,%u), ", launched->kernel, block.x,
                          block.y, block.z);
    if (launched && current) fprintf(stderr, "%s, ", name_of(current).s);
    if (where.line) fprintf(stderr, "%s:%d: ", where.file, where.line);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
}

void report(Where where, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print(where, format, arguments);
    va_end(arguments);
}

void fail(Where where, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print(where, format, arguments);
    _exit(3);
}

bool in_kernel() { return launched != nullptr; }

Where last_place()
{
    if (!launched) return {nullptr, 0};
    return current && current->where.line ? current->where : launched->where;
}

} // namespace sim
