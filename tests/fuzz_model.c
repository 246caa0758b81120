/* Untrusted model files and arrays: nothing they hold may crash the reader, be kept when it is
   refused, or make a model that does not survive its own file.

     clang -g -O1 -fsanitize=fuzzer,address,undefined -I. tests/fuzz_model.c -o fuzz_model -lm
     ./fuzz_model -max_total_time=60 corpus

   The first byte says what the rest is: a whole file, a graph's text, changes to a good file (a
   place of two bytes and a new byte, again and again), a .npy. */
#define AE_IMPLEMENTATION
#define AE_STATIC
#define AE_NO_STDIO
#include "../ae.h"
#include <stdlib.h>
#include <string.h>

enum { ROOM = 1 << 20, MOST = 1 << 16 };

static union { double align; unsigned char bytes[ROOM + AE_ALIGN]; } room[3];

static void arena_of(ae_arena *arena, int i)
{
    size_t skip = (AE_ALIGN - (uintptr_t)room[i].bytes % AE_ALIGN) % AE_ALIGN;
    ae_arena_init(arena, room[i].bytes + skip, ROOM);
}

#define must(yes) ((yes) ? (void)0 : abort())   // a macro, so that its line is shown

static ae_model *good_model(ae_arena *arena)
{
    ae_model *m = ae_model_new(arena, 1);
    ae_tensor *x = ae_input(m, 1, 4, 4);
    ae_tensor *h = ae_relu(ae_batch_norm(ae_conv2d(x, 2, 3, 2, 1), NULL));
    ae_tensor *z = ae_dropout(ae_linear(h, 2), 0.5f);
    ae_minimize(ae_mse(ae_tied(z, ae_name(ae_linear(x, 2), "tied")), x, AE_MEAN));
    must(ae_build(m, 2, AE_TRAIN) == AE_SUCCESS && ae_note(m, "note", "text\n") == AE_SUCCESS);
    return m;
}

/* What could be opened is written and opened again, and is the same. */
static void round_trip(ae_model *m, ae_mode mode)
{
    static unsigned char a[1 << 20], b[1 << 20];
    int flags = mode == AE_TRAIN ? AE_SAVE_TRAINING : 0;
    size_t n = ae_model_encode(m, NULL, 0, flags);
    ae_arena arena;
    if (n == 0 || n > sizeof a || ae_model_encode(m, a, sizeof a, flags) != n) return;
    arena_of(&arena, 2);
    ae_model *o = ae_model_open_memory(&arena, a, n, "again", 1, mode);
    if (o == NULL) {
        must(arena.error[0] != 0 && (strstr(arena.error, "bytes") || strstr(arena.error, "full")));
        return;                 // the first had just enough memory
    }
    must(ae_model_encode(o, b, sizeof b, flags) == n && memcmp(a, b, n) == 0);
}

static void try_model(const uint8_t *file, size_t n)
{
    ae_arena own, other;
    arena_of(&own, 0);
    arena_of(&other, 1);
    ae_model *m = good_model(&own);
    size_t used = ae_arena_used(&own), left = ae_arena_left(&own);
    size_t bytes = ae_snapshot_bytes(m);
    void *before = malloc(bytes);
    ae_snapshot(m, before);
    if (ae_model_decode(m, file, n, "fuzz")) {
        must(ae_arena_used(&own) == used && ae_arena_left(&own) == left);
        must(ae_error(m)[0] != 0);
        must(memcmp(before, ae_segment_data(m, AE_SEG_PARAM, NULL), bytes) == 0);
    }
    free(before);
    for (int mode = 0; mode < 2; mode++) {
        m = ae_model_open_memory(&other, file, n, "fuzz", 1, (ae_mode)mode);
        if (m) round_trip(m, (ae_mode)mode);
        else must(ae_arena_used(&other) == 0 && ae_arena_left(&other) == ROOM && other.error[0]);
        ae_arena_rewind(&other, 0);
    }
}

static void try_graph(const uint8_t *text, size_t n)
{
    static unsigned char file[MOST];
    static const char head[] = "{\"__metadata__\":{\"ae.graph\":\"", tail[] = "\"}}";
    const size_t size = sizeof head - 1 + n + sizeof tail - 1;
    for (int i = 0; i < 8; i++) file[i] = (unsigned char)((uint64_t)size >> 8 * i);
    memcpy(file + 8, head, sizeof head - 1);
    memcpy(file + 8 + sizeof head - 1, text, n);
    memcpy(file + 8 + sizeof head - 1 + n, tail, sizeof tail - 1);
    try_model(file, 8 + size);
}

static void try_changes(const uint8_t *change, size_t n)
{
    static unsigned char good[MOST], file[MOST];
    static size_t size;
    ae_arena arena;
    if (size == 0) {
        arena_of(&arena, 0);
        size = ae_model_encode(good_model(&arena), good, sizeof good, AE_SAVE_TRAINING);
        must(size > 0);
    }
    memcpy(file, good, size);
    for (; n >= 3; n -= 3, change += 3) file[(change[0] + 256u * change[1]) % size] = change[2];
    try_model(file, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    ae_arena arena;
    ae_dataset d;
    if (n < 1 || n > MOST / 2) return 0;
    switch (data[0] % 4) {
    case 0: try_model(data + 1, n - 1); break;
    case 1: try_graph(data + 1, n - 1); break;
    case 2: try_changes(data + 1, n - 1); break;
    default:
        arena_of(&arena, 1);
        if (ae_npy_parse(&d, &arena, data + 1, n - 1, NULL, 0, "fuzz"))
            must(ae_arena_used(&arena) == 0 && arena.error[0]);
        if (ae_npy_parse(&d, &arena, data + 1, n - 1, data + 1, n - 1, "fuzz") == AE_SUCCESS)
            must(d.n > 0 && d.labels != NULL);
    }
    return 0;
}
