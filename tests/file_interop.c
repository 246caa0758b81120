/* Files between programs: this one, Python (file_interop.py), and this one built for other
   processors. `make check` runs it.

     file_interop write MODEL IN OUT    trains a model, saves it, its input and what it makes of it
     file_interop open MODEL IN OUT     opens the file alone and compares, to 1e-5
     file_interop load MODEL IN OUT     loads the weights into the model built here and compares
     file_interop array IN OUT CSV      reads .npy, writes its values as .npy and as CSV       */
#define AE_IMPLEMENTATION
#define AE_STATIC
#include "../ae.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ROOM = 16 << 20, SAMPLES = 6, IN = 2 * 9 * 8, OUT = 3 * 60 };

/* All layers with weights; named like the attributes of file_interop.py's module. */
static ae_tensor *graph(ae_model *m)
{
    ae_conv half = { 3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 2, 0 };
    ae_tensor *h = ae_name(ae_conv2d(ae_name(ae_input(m, 2, 9, 8), "x"), 4, 3, 2, 1), "conv1");
    h = ae_relu(ae_name(ae_batch_norm(h, NULL), "bn"));
    h = ae_name(ae_group_norm(ae_name(ae_conv2d_with(h, 6, &half), "conv2"), 3, NULL), "gn");
    h = ae_dropout(ae_max_pool2d(ae_leaky_relu(h, 0.1f), 2), 0.2f);
    h = ae_name(ae_layer_norm(ae_name(ae_linear(h, 10), "fc1"), NULL), "ln");
    h = ae_reshape(ae_gelu(ae_name(ae_linear(h, 24), "fc2")), 6, 2, 2);
    h = ae_silu(ae_name(ae_conv_transpose2d(h, 4, 3, 2, 1, 1), "up1"));
    h = ae_tanh(ae_name(ae_conv_transpose2d(h, 2, 3, 2, 1, 1), "up2"));
    h = ae_name(ae_conv1d(ae_reshape(h, 2, 1, 64), 3, 5, 1, 0), "line");
    return ae_name(ae_sigmoid(h), "y");
}

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    return 1;
}

static float *values_of(ae_arena *arena, const char *path, size_t *n)
{
    ae_dataset d;
    if (ae_npy_load(&d, arena, path, NULL)) return NULL;
    *n = d.n * (size_t)d.c * (size_t)d.h * (size_t)d.w;
    float *x = (float *)ae_alloc(arena, *n * sizeof(float));
    return x && ae_dataset_get(&d, x, NULL, 0, d.n) == AE_SUCCESS ? x : NULL;
}

#ifndef AE_NO_TRAIN
static int write_model(ae_arena *arena, char **path)
{
    static float x[SAMPLES * IN], y[SAMPLES * OUT];
    const size_t in[4] = { SAMPLES, 2, 9, 8 }, out[4] = { SAMPLES, 3, 1, 60 };
    ae_random r = { 3, 0, 0 };
    ae_optim adam = { 0 };
    ae_model *m = ae_model_new(arena, 7);
    ae_tensor *t = graph(m);
    ae_minimize(ae_mse(ae_name(ae_linear(t, IN), "head"), ae_tensor_find(m, "x"), AE_MEAN));
    ae_random_uniform(x, SAMPLES * IN, 0, r);
    if (ae_build(m, SAMPLES, AE_TRAIN) || ae_set(m, ae_tensor_find(m, "x"), x, SAMPLES))
        return fail("write", ae_error(m));
    for (int i = 0; i < 20; i++) {
        ae_zero_grad(m);
        if (ae_forward(m, SAMPLES) || ae_backward(m, 1) || ae_step(m, &adam))
            return fail("write", ae_error(m));
    }
    if (ae_note(m, "who", "\xc3\xa6") || ae_predict(m, t, y, x, SAMPLES)
        || ae_model_save(m, path[0], 0) || ae_npy_write(arena, path[1], x, in, 4)
        || ae_npy_write(arena, path[2], y, out, 4))
        return fail("write", ae_error(m));
    return 0;
}
#endif

static int compare(ae_arena *arena, char **path, int open)
{
    size_t in = 0, out = 0;
    float *x = values_of(arena, path[1], &in), *want = values_of(arena, path[2], &out);
    float *y = (float *)ae_alloc(arena, out * sizeof(float));
    ae_model *m = open ? ae_model_open(arena, path[0], 4, AE_INFER) : ae_model_new(arena, 1);
    double off = 0;
    if (!x || !want || !y || !m) return fail("compare", arena->error);
    ae_tensor *t = open ? ae_tensor_find(m, "y") : graph(m);
    if (!open && (ae_build(m, 4, AE_INFER) || ae_model_load(m, path[0])))
        return fail("load", ae_error(m));
    if (in % IN || out != in / IN * OUT || ae_predict(m, t, y, x, in / IN))
        return fail("compare", ae_error(m));
    for (size_t i = 0; i < out; i++) {
        double d = fabs((double)y[i] - (double)want[i]);
        off = !(d <= off) ? d : off;
    }
    printf("%s: off by at most %.2g\n", path[0], off);
    return !(off <= (open ? 1e-5 : 1e-6));
}

static int convert(ae_arena *arena, char **path)
{
    ae_dataset d;
    size_t n;
    float *x = values_of(arena, path[0], &n);
    if (!x || ae_npy_load(&d, arena, path[0], NULL)) return fail("array", arena->error);
    const size_t shape[4] = { d.n, (size_t)d.c, (size_t)d.h, (size_t)d.w };
    if (ae_npy_write(arena, path[1], x, shape, 4) || ae_csv_write(arena, path[2], x, d.n, n / d.n))
        return fail("array", arena->error);
    return 0;
}

int main(int argc, char **argv)
{
    static union { double align; unsigned char bytes[ROOM + AE_ALIGN]; } room;
    size_t skip = (AE_ALIGN - (uintptr_t)room.bytes % AE_ALIGN) % AE_ALIGN;
    ae_arena arena;
    if (argc != 5 || ae_arena_init(&arena, room.bytes + skip, ROOM)) return 2;
#ifndef AE_NO_TRAIN
    if (!strcmp(argv[1], "write")) return write_model(&arena, argv + 2);
#endif
    if (!strcmp(argv[1], "open")) return compare(&arena, argv + 2, 1);
    if (!strcmp(argv[1], "load")) return compare(&arena, argv + 2, 0);
    return strcmp(argv[1], "array") ? 2 : convert(&arena, argv + 2);
}
