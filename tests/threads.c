/* A training and a reconstruction, whose work is shared out over POSIX threads, for the thread
   sanitizer: do two of them touch the same byte? Each task of a loop gets a thread of its own.
   Weights and results must have the bits that one thread gives them. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AE_IMPLEMENTATION
#include "ae.h"

enum { MOST = 64, SIDE = 40, BATCH = 21, STEPS = 2 };

typedef struct task {
    pthread_t thread;
    ae_job *job;
    void *arg;
    int i;
} task;

static void *run(void *arg)
{
    task *t = (task *)arg;
    t->job(t->arg, t->i);
    return NULL;
}

static void parallel(void *user, int tasks, ae_job *job, void *arg)
{
    task t[MOST];
    (void)user;
    for (int first = 0; first < tasks; first += MOST) {
        const int n = tasks - first < MOST ? tasks - first : MOST;
        for (int i = 0; i < n; i++) {
            t[i].job = job;
            t[i].arg = arg;
            t[i].i = first + i;
            if (pthread_create(&t[i].thread, NULL, run, &t[i])) abort();
        }
        for (int i = 0; i < n; i++) pthread_join(t[i].thread, NULL);
    }
}

/* Layers of pictures, whose samples threads take in chunks, around layers that see all of them. */
static ae_tensor *layers(ae_tensor *x, ae_tensor *labels)
{
    ae_tensor *h = ae_relu(ae_conv2d(ae_gaussian_noise(x, 0.1f, 0, 1), 8, 3, 1, 1));
    ae_tensor *pooled = ae_max_pool2d(h, 2);
    ae_tensor *p = ae_silu(ae_group_norm(ae_conv2d(pooled, 8, 3, 1, 1), 2, NULL));
    h = ae_add(ae_dropout(p, 0.1f), ae_conv2d(p, 8, 3, 1, 1));          // p is read twice
    ae_tensor *z = ae_batch_norm(ae_linear(ae_avg_pool2d(h, 2), 12), NULL);
    z = ae_gaussian_sample(z, ae_linear(z, 12));
    z = ae_linear(ae_concat(ae_top_k(z, 9), ae_one_hot(labels, 10)), 8 * SIDE / 4 * SIDE / 4);
    h = ae_upsample_nearest(ae_reshape(z, 8, SIDE / 4, SIDE / 4), 2);
    h = ae_max_unpool2d(ae_gelu(ae_conv2d(h, 8, 3, 1, 1)), pooled);
    return ae_conv2d(h, 1, 3, 1, 1);
}

static const ae_tensor *build(ae_model *m, int threads, ae_mode mode)
{
    ae_tensor *x = ae_input(m, 1, SIDE, SIDE), *labels = ae_labels(m), *y = layers(x, labels);
    ae_exec e = ae_exec_best();
    int32_t label[BATCH];
    e.threads = threads;
    e.parallel_for = parallel;
    if (mode == AE_TRAIN) ae_minimize(ae_bce_logits(y, x, AE_MEAN));
    ae_set_exec(m, &e);
    if (ae_build(m, BATCH, mode)) return NULL;
    float *pixels = ae_get(m, x);
    for (int i = 0; i < BATCH * SIDE * SIDE; i++) pixels[i] = (float)(i * 31 % 101) / 100.0f;
    for (int i = 0; i < BATCH; i++) label[i] = i % 10;
    ae_set(m, labels, label, BATCH);
    return y;
}

// The weights after some steps, and what the first weights reconstruct; threads 1: this one alone.
static char *train(ae_arena *arena, int threads, size_t *bytes)
{
    const size_t size = (size_t)BATCH * SIDE * SIDE * sizeof(float);
    ae_model *m = ae_model_new(arena, 1), *f = ae_model_new(arena, 1);
    ae_optim adam;
    memset(&adam, 0, sizeof adam);
    const ae_tensor *result = build(f, threads, AE_INFER);
    if (!build(m, threads, AE_TRAIN) || !result || ae_run(f, result, BATCH)) return NULL;
    for (int i = 0; i < STEPS; i++) {
        ae_zero_grad(m);
        if (ae_forward(m, BATCH) || ae_backward(m, 1) || ae_step(m, &adam)) return NULL;
    }
    printf("%d threads: loss %.6f\n", threads, (double)ae_batch_loss(m, NULL));
    const void *weights = ae_segment_data(m, AE_SEG_PARAM, bytes);
    char *all = (char *)malloc(*bytes + size);
    if (all == NULL) return NULL;
    memcpy(all, weights, *bytes);
    memcpy(all + *bytes, ae_get(f, result), size);
    *bytes += size;
    return all;
}

int main(void)
{
    static const int threads[] = { 2, 3, 7 };
    ae_arena *arena = ae_arena_new((size_t)256 << 20);
    size_t n, bytes;
    char *want = arena ? train(arena, 1, &bytes) : NULL;
    if (want == NULL) return printf("the training failed\n"), 1;
    for (int i = 0; i < 3; i++) {
        char *got = train(arena, threads[i], &n);
        if (got == NULL || n != bytes || memcmp(got, want, n) != 0)
            return printf("%d threads: other numbers\n", threads[i]), 1;
        free(got);
    }
    free(want);
    ae_arena_free(arena);
    return 0;
}
