/* ae.h - v0.1.0 - autoencoders in a single C header - public domain (see end of file)

   In ONE source file:                        Everywhere else:
      #define AE_IMPLEMENTATION                  #include "ae.h"
      #include "ae.h"

   C99 or C++11. Needs libc and libm, nothing else. Compile with plain -O2: the fastest
   instructions of the processor (SSE2, AVX2, AVX-512, NEON) are found at run time.

   A whole program: it learns to describe 28 x 28 pixels by 32 numbers.
   --- program begins ---
   #define AE_IMPLEMENTATION
   #include "ae.h"
   #include <stdio.h>

   int main(void)
   {
       ae_arena *arena = ae_arena_new(64u << 20);      // the only allocation there is
       ae_model *m = ae_model_new(arena, 42);          // 42: the seed of everything random

       ae_tensor *x = ae_input(m, 1, 28, 28);          // shapes are per sample
       ae_tensor *z = ae_linear(ae_relu(ae_linear(x, 128)), 32);               // the code
       ae_tensor *y = ae_sigmoid(ae_linear(ae_relu(ae_linear(z, 128)), 784));
       ae_minimize(ae_mse(y, x, AE_MEAN));

       ae_dataset digits;
       if (ae_mnist_load(&digits, arena, "data") || ae_build(m, 32, AE_TRAIN)) {
           fprintf(stderr, "%s\n", ae_error(m));       // says which file or layer, and why
           return 1;
       }
       ae_optim adam = {0};                            // {0}: Adam with the usual defaults
       for (int epoch = 1; epoch <= 10; epoch++)
           printf("epoch %2d  loss %.5f\n", epoch, (double)ae_epoch(m, &digits, &adam));
       ae_arena_free(arena);
       return 0;
   }
   --- program ends ---

   CONTENTS   search for these keys: each stands at its API and at its implementation
      >>status       what a function that can fail returns
      >>platform     which instructions, which threads
      >>arena        one block of memory, filled from the front
      >>rng          counter-based randomness: a value depends on its place alone
      >>kernels      the inner loops, once per instruction set (implementation only)
      >>linear       y = x w^T + b
      >>activation   functions of one element, and softmax
      >>conv         convolution and its transpose
      >>pool         pooling, unpooling, upsampling, padding and cropping
      >>norm         batch, layer and group normalisation
      >>noise        dropout and noise, the same for any split of a batch
      >>loss         one number from a prediction and a target
      >>latent       variational and quantised codes
      >>penalty      sparse, contractive, orthogonal
      >>optim        first weights, optimisers, schedules, clipping
      >>model        a graph of tensors: built, planned, run
      >>data         samples: raw bytes or floats, labels, order
      >>train        epochs over a dataset
      >>file         models as .safetensors, arrays as .npy and CSV
      >>image        pictures of what was learned
      >>scores       principal components; how good codes and reconstructions are
      >>tools        what a model is, whether it is right, why it does not learn

   TWO TIERS
      Layer functions work on plain arrays: ae_linear_forward, ae_linear_backward, ... No state, no
      allocation; each can be read, tested and used alone.
      The model calls them. Operations make tensors; the tensors form a graph; ae_build places all
      of it in memory once; then any part runs, any number of times. A tensor read by several
      operations receives the sum of their gradients.

   CONVENTIONS
      Names       B batch, C channels, H height, W width, D in, O out, F features; dx is the
                  gradient of x. Arguments: how (ae_exec), outputs, inputs, parameters, sizes.
      Layout      row-major, NCHW; linear weights (out, in): PyTorch's, so its numbers carry over.
      Shapes      of a tensor: one sample (c,h,w). A vector of n is (n,1,1).
      Gradients   of parameters accumulate (+=); of everything else they are overwritten (=).
      Losses      take their reduction as an argument: AE_MEAN over all elements, AE_BATCH_MEAN
                  summed over features and averaged over samples, AE_SUM. Logarithms are natural.
      Pixels      of IDX files are bytes / 255, in [0,1], until ae_dataset_normalize; CSV values
                  are as written (set scale).
      Errors      Functions that meet the outside world (files, sizes, memory) return an ae_status.
                  A mistake in a graph (shapes that do not fit) makes the operation return NULL,
                  NULL passes through, and ae_build reports the first one. ae_error(m) is always
                  the sentence to show. A step that fails leaves weights and optimiser as they were.
      Memory      An ae_arena, of malloc or the caller's own block. ae_plan tells the exact bytes;
                  after ae_build training and inference allocate nothing.
      Threads     No globals. A model is used by one thread at a time; ae_fork makes workspaces
                  that share its parameters, one a thread. Inside an operation work is spread by
                  OpenMP (ae_set_threads, when compiled with it) or by the program's own job
                  system (ae_exec.parallel_for).
      Same bits   for any number of threads, and after ae_restore. Not across processors of other
                  instruction sets, and not with a CBLAS.
      Randomness  Philox: seed, place and step decide each value, nothing else.

   CONFIGURATION   define before the #include; "all": in every file, "impl": beside
   AE_IMPLEMENTATION
      AE_IMPLEMENTATION  one   compile the code
      AE_STATIC          all   all functions are static
      AE_NO_STDIO        all   no files: what works on memory stays
      AE_NO_TRAIN        all   inference only, small: no losses, gradients, optimisers, nor what
                               judges training (curves, active units, ae_pca_fit, k-NN and probe)
      AE_NO_MALLOC       all   no ae_arena_new; nothing allocates
      AE_NO_SIMD         impl  portable C only
      AE_SCALAR          impl  the portable C too, for AE_ISA_SCALAR
      AE_NO_THREADS      impl  no OpenMP and no parallel_for
      AE_USE_CBLAS       impl  linear layers by cblas_sgemm of <cblas.h>; link a CBLAS
      AE_USE_ZLIB        impl  loaders read .gz too; link zlib
      AE_USE_CUDA        impl  models train and run on an NVIDIA GPU: see ae_cuda.cuh
      Redefinable:
      AE_API             all   extern (static with AE_STATIC)
      AE_MALLOC(bytes), AE_FREE(pointer)   impl   malloc, free; both or neither
      AE_HEADER_FILENAME impl  "ae.h": the name by which the header includes itself

   AE.H DOES NOT   print, exit, abort, start threads of its own, keep globals, use fast-math, or
   read pictures.
*/

#ifndef AE__PASS /* the header includes itself for its kernels */
#ifndef AE_H_INCLUDED
#define AE_H_INCLUDED

#ifdef __AE_H__
#error "Redis' event loop header is called ae.h too: rename one of the two, they cannot be mixed"
#endif

#include <stddef.h> /* size_t */
#include <stdint.h> /* uint8_t, int32_t, uint32_t, uint64_t */

#define AE_VERSION_MAJOR 0
#define AE_VERSION_MINOR 1
#define AE_VERSION_PATCH 0
#define AE_VERSION "0.1.0"

#if defined(__GNUC__) || defined(__clang__)
#define AE__UNUSED __attribute__((unused))
#else
#define AE__UNUSED
#endif

#ifndef AE_API
#ifdef AE_STATIC
#define AE_API static AE__UNUSED
#else
#define AE_API extern
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------------------
   >>status   what a function that can fail returns                           */

#define AE_STATUS_LIST(X) \
    X(AE_SUCCESS,   "success") \
    X(AE_E_MEMORY,  "not enough memory in the arena") \
    X(AE_E_SHAPE,   "shapes do not fit") \
    X(AE_E_ARG,     "an argument is out of range") \
    X(AE_E_IO,      "a file cannot be read or written") \
    X(AE_E_FORMAT,  "the data is not in the expected format") \
    X(AE_E_NUMERIC, "a value is not finite") \
    X(AE_E_DEVICE,  "the device failed") \
    X(AE_W_COLLAPSED, "a warning: the code tells nothing about its input") \
    X(AE_E_GRADIENT, "a gradient is not the derivative of the loss") \
    X(AE_W_TRAINING, "a warning: something keeps the model from learning")

typedef enum ae_status {
#define AE__ENUM(name, text) name,
    AE_STATUS_LIST(AE__ENUM)
#undef AE__ENUM
    AE_STATUS_COUNT
} ae_status;

/* The general text of a status ("success", ...). The sentence about one case is in ae_error(). */
AE_API const char *ae_status_string(ae_status status);

/* ---------------------------------------------------------------------------
   >>platform   which instructions, which threads                             */

typedef enum ae_isa {       /* instruction sets, each with its own copy of the kernels */
    AE_ISA_SCALAR,
    AE_ISA_SSE2,
    AE_ISA_NEON,
    AE_ISA_AVX2,            /* with FMA and F16C */
    AE_ISA_AVX512           /* F, DQ, BW, VL */
} ae_isa;

typedef struct ae_kernels ae_kernels;
typedef void ae_job(void *arg, int task);

/* How a layer function runs: the first argument of each. NULL: what every processor has, 1 thread.
   The result does not depend on threads, parallel_for or scratch, to the bit. */
typedef struct ae_exec {
    const ae_kernels *kernels;  /* from ae_exec_best() or ae_exec_at_most()                     */
    int threads;                /* most tasks at once, >= 1                                     */
    void (*parallel_for)(void *user, int tasks, ae_job *job, void *arg);
                                /* calls job(arg, 0) ... job(arg, tasks-1), in any order, on any
                                   threads, and returns when all are done; NULL: OpenMP where
                                   the program is compiled with it, else one after another     */
    void *user;                 /* handed to parallel_for                                       */
    float *scratch;             /* for convolutions: threads * AE_SCRATCH floats, or NULL: a
                                   smaller one on the stack                                     */
    void *device;               /* a model's GPU, its own to set; NULL: the processor           */
} ae_exec;

#define AE_SCRATCH 98304        /* floats of scratch per thread                                 */

/* The best kernels this processor runs, one thread. */
AE_API ae_exec ae_exec_best(void);
/* The best kernels this processor runs that need no more than `isa`, or those it has for certain
   (SSE2, NEON): how tests force each path. AE_ISA_SCALAR needs AE_SCALAR there. */
AE_API ae_exec ae_exec_at_most(ae_isa isa);
/* "scalar", "sse2", "neon", "avx2" or "avx512"; e may be NULL. */
AE_API const char *ae_exec_name(const ae_exec *e);

/* ---------------------------------------------------------------------------
   >>arena   one block of memory, filled from the front                       */

#define AE_ALIGN 64             /* bytes: the alignment of every allocation and caller's block  */
#define AE_ERROR_MAX 320        /* bytes of an error sentence, its 0 included                   */

typedef struct ae_arena {
    unsigned char *base;        /* first byte of the block                                      */
    unsigned char *next;        /* first free byte                                              */
    unsigned char *end;         /* one past the block                                           */
    void *owned;                /* what ae_arena_free gives back, or NULL for a caller's block  */
    void *devices;              /* what its models hold on GPUs: given back by ae_arena_free, and
                                   by ae_arena_rewind to before they were built                 */
    char error[AE_ERROR_MAX];   /* the last error of a loader or writer that used this arena    */
} ae_arena;

#ifndef AE_NO_MALLOC
/* An arena of at least `bytes` usable bytes, by the library's only AE_MALLOC. NULL: no memory.
   Pages that are never written usually cost nothing, so be generous. */
AE_API ae_arena *ae_arena_new(size_t bytes);
AE_API void ae_arena_free(ae_arena *arena);         /* NULL is fine */
#endif
/* Makes an arena of the caller's block (static, on a heap, mapped: anything that outlives it).
   Errors: AE_E_ARG when block is NULL or not aligned to AE_ALIGN. */
AE_API ae_status ae_arena_init(ae_arena *arena, void *block, size_t bytes);
/* `bytes` of zeroed memory aligned to AE_ALIGN, or NULL when the arena has not that many left. */
AE_API void *ae_alloc(ae_arena *arena, size_t bytes);
AE_API size_t ae_arena_used(const ae_arena *arena);
AE_API size_t ae_arena_left(const ae_arena *arena);
/* Everything allocated after ae_arena_used() returned `mark` is given back. */
AE_API void ae_arena_rewind(ae_arena *arena, size_t mark);

/* ---------------------------------------------------------------------------
   >>rng   counter-based randomness: a value depends on its place alone       */

/* Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). */
AE_API void ae_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

/* What names a sequence: element i of it is a function of these three and i alone. */
typedef struct ae_random {
    uint64_t seed;              /* the model's seed                                             */
    uint64_t step;              /* which draw: 0 for initial weights, the step for noise, ...   */
    uint32_t stream;            /* who draws: one number per parameter or layer                 */
} ae_random;

/* x[i] = element first+i of the sequence: uniform in [0,1), or standard normal (Box-Muller).
     x (n) written. Any n. */
AE_API void ae_random_uniform(float *x, size_t n, size_t first, ae_random r);
AE_API void ae_random_normal(float *x, size_t n, size_t first, ae_random r);
/* Where i goes in a random permutation of 0 ... n-1: a bijection for each r, found without a
   table (a Feistel network over the next power of four, walked until inside). i < n. */
AE_API uint64_t ae_random_permute(uint64_t i, uint64_t n, ae_random r);

/* ---------------------------------------------------------------------------
   >>linear   y = x w^T + b                                                   */

/* y = x w^T + b, for B rows.
     y (B,O) written   x (B,D)   w (O,D)   b (O) or NULL
   y must not overlap an input. Any B, D, O >= 1. */
AE_API void ae_linear_forward(const ae_exec *e, float *y, const float *x, const float *w,
                              const float *b, int B, int D, int O);

#ifndef AE_NO_TRAIN
/* Gradients of ae_linear_forward. dx is overwritten (=); dw and db accumulate (+=).
     dx (B,D) or NULL   dw (O,D) or NULL   db (O) or NULL   dy (B,O)   x, w as in forward */
AE_API void ae_linear_backward(const ae_exec *e, float *dx, float *dw, float *db,
                               const float *dy, const float *x, const float *w,
                               int B, int D, int O);
#endif

/* The transpose with the same weights, for tied decoders: y = x w + b.
     y (B,D) written   x (B,O)   w (O,D)   b (D) or NULL;   backward as above, db (D) */
AE_API void ae_tied_linear_forward(const ae_exec *e, float *y, const float *x, const float *w,
                                   const float *b, int B, int D, int O);
#ifndef AE_NO_TRAIN
AE_API void ae_tied_linear_backward(const ae_exec *e, float *dx, float *dw, float *db,
                                    const float *dy, const float *x, const float *w, int B, int D,
                                    int O);
#endif

/* ---------------------------------------------------------------------------
   >>activation   functions of one element, and softmax                       */

typedef enum ae_act {           /* formula                                            a         */
    AE_ACT_IDENTITY,            /* x                                                            */
    AE_ACT_RELU,                /* max(x, 0)                                                    */
    AE_ACT_LEAKY_RELU,          /* x > 0 ? x : a x                                    slope     */
    AE_ACT_ELU,                 /* x > 0 ? x : a (e^x - 1)                            alpha     */
    AE_ACT_GELU,                /* x Phi(x), with erf                                           */
    AE_ACT_GELU_TANH,           /* x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))                */
    AE_ACT_SILU,                /* x sigmoid(x)                                                 */
    AE_ACT_SOFTPLUS,            /* log(1 + e^x); x where x > 20, as PyTorch does                */
    AE_ACT_SIGMOID,             /* 1 / (1 + e^-x)                                               */
    AE_ACT_TANH,                /* tanh x                                                       */
    AE_ACT_COUNT
} ae_act;

/* y = act(x), n elements.   y (n) written   x (n)   a: the parameter in the table, else ignored
   y may be x. NaN in, NaN out.
   Off by at most 3 units in the last place; GELU by 8, and for x < 0, where it fades, by
   8 + x^2/2 (GELU_TANH: 8 + 5/2 x^2). Results of size 1e-38 (1 + |x|) may be 0. */
AE_API void ae_activation_forward(const ae_exec *e, float *y, const float *x, ae_act act, float a,
                                  size_t n);
/* y = softmax(x) over each of B rows of F.   y (B,F) written   x (B,F).   y may be x. */
AE_API void ae_softmax_forward(const ae_exec *e, float *y, const float *x, int B, int F);
/* y = a + b.   y, a, b (n).   y may be a or b. */
AE_API void ae_add_forward(const ae_exec *e, float *y, const float *a, const float *b, size_t n);
/* Rows of a and b side by side.   y (B,P+Q) written   a (B,P)   b (B,Q) */
AE_API void ae_concat_forward(const ae_exec *e, float *y, const float *a, const float *b,
                              int B, int P, int Q);

#ifndef AE_NO_TRAIN
/* dx = dy act'(x), overwritten (=).   dx, dy, x, y (n); y is the forward's. dx may be dy. */
AE_API void ae_activation_backward(const ae_exec *e, float *dx, const float *dy, const float *x,
                                   const float *y, ae_act act, float a, size_t n);
/* dx = y (dy - <dy, y>) by rows, overwritten (=).   dx, dy, y (B,F). dx may be dy. */
AE_API void ae_softmax_backward(const ae_exec *e, float *dx, const float *dy, const float *y,
                                int B, int F);
/* da = dy, db = dy, overwritten (=).   da, db (n) or NULL   dy (n) */
AE_API void ae_add_backward(const ae_exec *e, float *da, float *db, const float *dy, size_t n);
/* The columns of dy (B,P+Q) back to their owners, overwritten (=).
     da (B,P) or NULL   db (B,Q) or NULL */
AE_API void ae_concat_backward(const ae_exec *e, float *da, float *db, const float *dy,
                               int B, int P, int Q);

#endif

/* ---------------------------------------------------------------------------
   >>conv   convolution and its transpose                                     */

typedef struct ae_conv {        /* 0 = the default                                              */
    int kernel_h, kernel_w;     /* kernel_w 0 = kernel_h                                        */
    int stride_h, stride_w;     /* 0 = 1; stride_w 0 = stride_h                                 */
    int pad_h, pad_w;           /* zeros on each side; as given                                 */
    int dilation_h, dilation_w; /* 0 = 1; dilation_w 0 = dilation_h                             */
    int output_pad_h, output_pad_w; /* transposed: rows and columns more at the end             */
    int groups;                 /* 0 = 1: channels are split into so many independent parts     */
    int no_bias;
} ae_conv;

/* The options with the defaults filled in. */
AE_API ae_conv ae_conv_defaults(const ae_conv *o);

/* Size along one axis: floor((in + 2 pad - dilation (kernel-1) - 1) / stride) + 1 for convolution,
   (in-1) stride - 2 pad + dilation (kernel-1) + output_pad + 1 for its transpose. Below 1: the
   kernel does not fit. */
AE_API int ae_conv_size(int in, int kernel, int stride, int pad, int dilation);
AE_API int ae_conv_transpose_size(int in, int kernel, int stride, int pad, int dilation,
                                  int output_pad);

/* Cross-correlation, as every framework calls convolution:
   y[o,i,j] = b[o] + sum over c,p,q of w[o,c,p,q] x[c, i s - pad + p d, j s - pad + q d].
     y (B,O,OH,OW) written   x (B,C,H,W)   w (O,C/groups,KH,KW)   b (O) or NULL
   OH, OW from ae_conv_size; g with defaults filled in; groups divide C and O; y overlaps none. */
AE_API void ae_conv2d_forward(const ae_exec *e, float *y, const float *x, const float *w,
                              const float *b, const ae_conv *g, int B, int C, int H, int W, int O);

/* The adjoint of convolution: <conv(u), x> = <u, convT(x)> without biases. C channels in, O out.
     y (B,O,OH,OW) written   x (B,C,H,W)   w (C,O/groups,KH,KW)   b (O) or NULL
   OH, OW from ae_conv_transpose_size. */
AE_API void ae_conv_transpose2d_forward(const ae_exec *e, float *y, const float *x, const float *w,
                                        const float *b, const ae_conv *g, int B, int C, int H,
                                        int W, int O);

#ifndef AE_NO_TRAIN
/* dx is overwritten (=); dw and db accumulate (+=); each may be NULL. Shapes as in forward. */
AE_API void ae_conv2d_backward(const ae_exec *e, float *dx, float *dw, float *db, const float *dy,
                               const float *x, const float *w, const ae_conv *g, int B, int C,
                               int H, int W, int O);
AE_API void ae_conv_transpose2d_backward(const ae_exec *e, float *dx, float *dw, float *db,
                                         const float *dy, const float *x, const float *w,
                                         const ae_conv *g, int B, int C, int H, int W, int O);
#endif

/* ---------------------------------------------------------------------------
   >>pool   pooling, unpooling, upsampling, padding and cropping              */

typedef struct ae_pool {        /* 0 = the default                                              */
    int kernel_h, kernel_w;     /* kernel_w 0 = kernel_h                                        */
    int stride_h, stride_w;     /* 0 = the kernel                                               */
    int pad_h, pad_w;           /* at most half the kernel                                      */
    int dilation_h, dilation_w; /* max only; 0 = 1                                              */
    int exclude_pad;            /* average only: divide by the elements inside the picture
                                   (PyTorch's count_include_pad=False)                          */
} ae_pool;
AE_API ae_pool ae_pool_defaults(const ae_pool *o);

/* y = the largest of each window; index: where in its plane (row * W + column), the first of equals
   in reading order; NaN wins, as in PyTorch.
     y (B,C,OH,OW) written   index (B,C,OH,OW) written, or NULL   x (B,C,H,W)
   OH, OW from ae_conv_size. */
AE_API void ae_max_pool2d_forward(const ae_exec *e, float *y, int32_t *index, const float *x,
                                  const ae_pool *g, int B, int C, int H, int W);

/* y (B,C,OH,OW) = 0 except y[index] = x; later equals win.   x, index (B,C,H,W): a max_pool2d's
   output and index.   Backward: dx = dy[index], overwritten (=). */
AE_API void ae_max_unpool2d_forward(const ae_exec *e, float *y, const float *x,
                                    const int32_t *index, int B, int C, int H, int W, int OH,
                                    int OW);

/* The mean of each window, padding zeros counted unless exclude_pad; backward: dx = (=). */
AE_API void ae_avg_pool2d_forward(const ae_exec *e, float *y, const float *x, const ae_pool *g,
                                  int B, int C, int H, int W);

typedef enum ae_upsample_kind { AE_NEAREST, AE_BILINEAR } ae_upsample_kind;

/* y (B,C,OH,OW) from x (B,C,H,W), as torch's interpolate(size=(OH,OW)) with align_corners=False:
   nearest takes x[floor(i H/OH)], H/OH in float as there; bilinear samples at (i + 0.5) H/OH - 0.5,
   held inside.
   Backward: dx overwritten (=). */
AE_API void ae_upsample2d_forward(const ae_exec *e, float *y, const float *x,
                                  ae_upsample_kind kind, int B, int C, int H, int W, int OH,
                                  int OW);

/* y (B,C,H+top+bottom,W+left+right) = x with `value` around it; negative sides crop. dx = (=). */
AE_API void ae_pad2d_forward(const ae_exec *e, float *y, const float *x, int top, int bottom,
                             int left, int right, float value, int B, int C, int H, int W);

#ifndef AE_NO_TRAIN
/* dx (B,C,H,W) overwritten (=): each dy is added where its maximum was. OH, OW: dy's. */
AE_API void ae_max_pool2d_backward(const ae_exec *e, float *dx, const float *dy,
                                   const int32_t *index, int B, int C, int H, int W, int OH,
                                   int OW);
AE_API void ae_max_unpool2d_backward(const ae_exec *e, float *dx, const float *dy,
                                     const int32_t *index, int B, int C, int H, int W, int OH,
                                     int OW);
AE_API void ae_avg_pool2d_backward(const ae_exec *e, float *dx, const float *dy, const ae_pool *g,
                                   int B, int C, int H, int W);
AE_API void ae_upsample2d_backward(const ae_exec *e, float *dx, const float *dy,
                                   ae_upsample_kind kind, int B, int C, int H, int W, int OH,
                                   int OW);
AE_API void ae_pad2d_backward(const ae_exec *e, float *dx, const float *dy, int top, int bottom,
                              int left, int right, int B, int C, int H, int W);
#endif

/* ---------------------------------------------------------------------------
   >>norm   batch, layer and group normalisation                              */

/* Ioffe & Szegedy 2015, as torch.nn.BatchNorm: per channel over B samples of C channels with P
   pixels each (P = 1: BatchNorm1d), y = (x - mean) / sqrt(variance + eps) gamma + beta, with the
   biased variance; running = (1-momentum) running + momentum batch, its variance unbiased.
     y (B,C,P) written   mean, rstd (C) written: the batch's mean and 1/sqrt(variance + eps)
     run_mean, run_var (C) updated   x (B,C,P)   gamma, beta (C) or NULL (1 and 0)
   Two passes, sums in double. B P > 1. */
AE_API void ae_batch_norm_forward(const ae_exec *e, float *y, float *mean, float *rstd,
                                  float *run_mean, float *run_var, const float *x,
                                  const float *gamma, const float *beta, float momentum,
                                  float eps, int B, int C, int P);

/* In inference: from the running statistics. y may be x. */
AE_API void ae_batch_norm_infer(const ae_exec *e, float *y, const float *run_mean,
                                const float *run_var, const float *x, const float *gamma,
                                const float *beta, float eps, int B, int C, int P);

/* Wu & He 2018: as batch_norm, but over each group of C/groups channels of one sample; groups = 1
   with C channels of P pixels normalises a whole sample. gamma, beta: one a channel when
   per_channel, else one an element (C P): with groups = 1 that is torch.nn.LayerNorm (Ba 2016).
     y (B,C,P) written   mean, rstd (B,groups) written   x (B,C,P)   gamma, beta or NULL */
AE_API void ae_group_norm_forward(const ae_exec *e, float *y, float *mean, float *rstd,
                                  const float *x, const float *gamma, const float *beta, float eps,
                                  int groups, int per_channel, int B, int C, int P);

#ifndef AE_NO_TRAIN
/* dx overwritten (=) or NULL; dgamma, dbeta accumulate (+=) or NULL; mean, rstd from forward. */
AE_API void ae_batch_norm_backward(const ae_exec *e, float *dx, float *dgamma, float *dbeta,
                                   const float *dy, const float *x, const float *mean,
                                   const float *rstd, const float *gamma, int B, int C, int P);
AE_API void ae_group_norm_backward(const ae_exec *e, float *dx, float *dgamma, float *dbeta,
                                   const float *dy, const float *x, const float *mean,
                                   const float *rstd, const float *gamma, int groups,
                                   int per_channel, int B, int C, int P);
#endif

/* ---------------------------------------------------------------------------
   >>noise   dropout and noise, the same for any split of a batch             */

/* y = x mask, mask = 0 with probability p, else 1/(1-p); one draw for each `group` neighbouring
   elements (1: dropout; H*W: spatial dropout, whole channels). Element i of the call is element
   first+i of the sequence r.
     y, mask (n) written, mask may be NULL   x (n)   0 <= p < 1   first, n: multiples of group
   Backward: dx = dy mask (=).   y may be x, dx may be dy. */
AE_API void ae_dropout_forward(const ae_exec *e, float *y, float *mask, const float *x, float p,
                               size_t group, size_t first, ae_random r, size_t n);

/* y = x + deviation * normal, held in [low, high] when low < high.
   mask (n) or NULL: 1 where not held, else 0: dx = dy mask. */
AE_API void ae_gaussian_noise_forward(const ae_exec *e, float *y, float *mask, const float *x,
                                      float deviation, float low, float high, size_t first,
                                      ae_random r, size_t n);

/* y = x, but 0 with probability p (masking noise: Vincent et al. 2008); mask as above. */
AE_API void ae_mask_noise_forward(const ae_exec *e, float *y, float *mask, const float *x, float p,
                                  size_t first, ae_random r, size_t n);

/* y = x, but low or high, each with probability p/2; mask as above. */
AE_API void ae_salt_pepper_forward(const ae_exec *e, float *y, float *mask, const float *x,
                                   float p, float low, float high, size_t first, ae_random r,
                                   size_t n);

#ifndef AE_NO_TRAIN
AE_API void ae_dropout_backward(const ae_exec *e, float *dx, const float *dy, const float *mask,
                                size_t n);
#endif

/* ---------------------------------------------------------------------------
   >>loss   one number from a prediction and a target                         */

typedef enum ae_reduction {     /* of the terms of B samples with F features each               */
    AE_MEAN,                    /* sum / (B F)                                                  */
    AE_BATCH_MEAN,              /* sum / B: summed over features, averaged over samples         */
    AE_SUM                      /* sum                                                          */
} ae_reduction;

#ifndef AE_NO_TRAIN
typedef enum ae_loss_kind {     /* term, d = y - t                                    a         */
    AE_LOSS_MSE,                /* d^2                                                          */
    AE_LOSS_L1,                 /* |d|                                                          */
    AE_LOSS_HUBER,              /* |d| < a ? d^2/2 : a (|d| - a/2)                    delta > 0 */
    AE_LOSS_SMOOTH_L1,          /* |d| < a ? d^2/(2 a) : |d| - a/2                    beta > 0  */
    AE_LOSS_BCE,                /* -t ln y - (1-t) ln(1-y), ln >= -100 as PyTorch does          */
    AE_LOSS_BCE_LOGITS,         /* max(y,0) - y t + ln(1 + e^-|y|): BCE of sigmoid(y)           */
    AE_LOSS_COUNT
} ae_loss_kind;

/* *loss = reduction of the terms, summed in float by 256, these sums in double.
     loss (1) written   y (B,F) prediction   t (B,F) target   a: as in the table
   Errors: AE_E_ARG when a BCE target, or a BCE probability, is outside [0,1]. */
AE_API ae_status ae_loss_forward(const ae_exec *e, float *loss, const float *y, const float *t,
                                 ae_loss_kind kind, float a, ae_reduction reduction, int B, int F);
/* Gradients of the loss times dloss, overwritten (=).
     dy (B,F) or NULL   dt (B,F) or NULL   y, t, kind, a, reduction as in forward */
AE_API void ae_loss_backward(const ae_exec *e, float *dy, float *dt, float dloss, const float *y,
                             const float *t, ae_loss_kind kind, float a, ae_reduction reduction,
                             int B, int F);

/* *loss = reduction of -ln softmax(x)[label]; one term a sample, so MEAN equals BATCH_MEAN.
     loss (1) written   x (B,F) logits   labels (B) in 0 ... F-1
   Errors: AE_E_ARG when a label is out of range. */
AE_API ae_status ae_cross_entropy_forward(const ae_exec *e, float *loss, const float *x,
                                          const int32_t *labels, ae_reduction reduction,
                                          int B, int F);
/* dx = (softmax(x) - onehot(label)) dloss / B (or without / B for SUM), overwritten (=).
     dx, x (B,F)   labels (B) */
AE_API void ae_cross_entropy_backward(const ae_exec *e, float *dx, float dloss, const float *x,
                                      const int32_t *labels, ae_reduction reduction,
                                      int B, int F);
#endif

/* ---------------------------------------------------------------------------
   >>latent   variational and quantised codes                                 */

/* Where a log-variance v is an exponent, e^v goes on along its tangent beyond v = 20: +-100 stays
   finite and its gradient leads back. mu, logvar: (B,F), of B samples with F units each. */

/* z = mu + e^(logvar/2) normal (Kingma & Welling 2014). Element i is element first+i of r.
     z (n) written   slope (n) written or NULL: dz/dlogvar   mu, logvar (n) */
AE_API void ae_gaussian_sample_forward(const ae_exec *e, float *z, float *slope, const float *mu,
                                       const float *logvar, size_t first, ae_random r, size_t n);
#ifndef AE_NO_TRAIN
/* dmu = dz, dlogvar = dz slope; overwritten (=) or NULL, (n) each. dmu may be dz. */
AE_API void ae_gaussian_sample_backward(const ae_exec *e, float *dmu, float *dlogvar,
                                        const float *dz, const float *slope, size_t n);
#endif

/* Rows of zeros with a 1 at the label.   y (B,F) written   labels (B)
   Errors: AE_E_ARG when a label is not in 0 ... F-1. */
AE_API ae_status ae_one_hot_forward(const ae_exec *e, float *y, const int32_t *labels, int B,
                                    int F);

/* Vector quantisation (van den Oord et al. 2017): at each of P pixels the C channels become the
   nearest of K codes.
     y (B,C,P) written   index (B,P) written   x (B,C,P)   codes (K,C)   dx = dy: straight on */
AE_API void ae_vq_forward(const ae_exec *e, float *y, int32_t *index, const float *x,
                          const float *codes, int K, int B, int C, int P);
/* y (B,C,P) = the codes of these numbers: decoding without an encoder.
   Errors: AE_E_ARG when one is not in 0 ... K-1. */
AE_API ae_status ae_vq_lookup(float *y, const int32_t *index, const float *codes, int K, int B,
                              int C, int P);

#ifndef AE_NO_TRAIN
/* *loss = reduction of KL(N(mu, e^logvar) || N(0,1)) = (mu^2 + e^logvar - 1 - logvar) / 2. With
   free_nats > 0 a unit's mean over the batch counts as at least so much and has no gradient below
   (free bits: Kingma et al. 2016).   loss (1) written   mu, logvar (B,F) */
AE_API void ae_kl_normal_forward(const ae_exec *e, float *loss, const float *mu,
                                 const float *logvar, float free_nats, ae_reduction reduction,
                                 int B, int F);
/* Gradients of the loss times dloss, overwritten (=).   dmu, dlogvar (B,F) or NULL */
AE_API void ae_kl_normal_backward(const ae_exec *e, float *dmu, float *dlogvar, float dloss,
                                  const float *mu, const float *logvar, float free_nats,
                                  ae_reduction reduction, int B, int F);

/* y[b] = ln N(z; mu, e^logvar), summed over the F units; NULL mu and logvar: 0, so that both NULL
   is the standard normal.   y (B) written   z, mu, logvar (B,F) */
AE_API void ae_log_normal_forward(const ae_exec *e, float *y, const float *z, const float *mu,
                                  const float *logvar, int B, int F);
/* dz, dmu, dlogvar (B,F) overwritten (=) or NULL   dy (B) */
AE_API void ae_log_normal_backward(const ae_exec *e, float *dz, float *dmu, float *dlogvar,
                                   const float *dy, const float *z, const float *mu,
                                   const float *logvar, int B, int F);

/* y[b] = t ln s + (1-t) ln(1-s), s = sigmoid(x), summed over the F units.   y (B)   x, t (B,F)
   Errors: AE_E_ARG when a target is outside [0,1]. */
AE_API ae_status ae_log_bernoulli_forward(const ae_exec *e, float *y, const float *x,
                                          const float *t, int B, int F);
/* dx, dt (B,F) overwritten (=) or NULL   dy (B) */
AE_API void ae_log_bernoulli_backward(const ae_exec *e, float *dx, float *dt, const float *dy,
                                      const float *x, const float *t, int B, int F);

/* The importance-weighted bound (Burda et al. 2016): of k samples each, which stand in a row,
   w = px + pz - qz: *loss = reduction over the B/k groups of -ln(mean e^w). k = 1 is the ELBO.
     px, pz, qz (B): ln p(x|z), ln p(z), ln q(z|x)   B: a multiple of k */
AE_API void ae_iwae_forward(const ae_exec *e, float *loss, const float *px, const float *pz,
                            const float *qz, int k, ae_reduction reduction, int B);
/* dw (B): the gradient of px and of pz, and minus that of qz; overwritten (=). */
AE_API void ae_iwae_backward(const ae_exec *e, float *dw, float dloss, const float *px,
                             const float *pz, const float *qz, int k, ae_reduction reduction,
                             int B);

/* *loss = reduction of (beta + 1) (x - y)^2, without the 1 when learns is 0 (the codes move by
   ae_vq_update instead). beta draws x to its code (commitment), the rest the code to x.
     x, y (B,C,P): before and after ae_vq_forward */
AE_API void ae_vq_loss_forward(const ae_exec *e, float *loss, const float *x, const float *y,
                               float beta, int learns, ae_reduction reduction, int B, int C, int P);
/* dx overwritten (=) or NULL   dcodes (K,C) accumulates (+=) or NULL */
AE_API void ae_vq_loss_backward(const ae_exec *e, float *dx, float *dcodes, float dloss,
                                const float *x, const float *y, const int32_t *index, float beta,
                                ae_reduction reduction, int B, int C, int P);
/* Codes as moving averages of what they stood for (van den Oord et al. 2017, appendix A.1):
   count = decay count + (1-decay) how many, sum likewise, code = sum / count, counts smoothed by
   eps; one that never stood for anything stays. A code whose count falls below `least` starts anew
   at a random vector of x. sum NULL: only the counts move.
     codes, sum (K,C), count (K) updated   x (B,C,P)   index (B,P) */
AE_API void ae_vq_update(const ae_exec *e, float *codes, float *sum, float *count, const float *x,
                         const int32_t *index, float decay, float eps, float least, ae_random r,
                         int K, int B, int C, int P);

/* *loss = maximum mean discrepancy of z from `prior`, both (B,F), by sums of inverse
   multiquadratics of 7 widths around 2 F (Tolstikhin et al. 2018); unbiased. B >= 2. */
AE_API void ae_mmd_forward(const ae_exec *e, float *loss, const float *z, const float *prior,
                           int B, int F);
AE_API void ae_mmd_backward(const ae_exec *e, float *dz, float dloss, const float *z,
                            const float *prior, int B, int F);      /* dz overwritten (=) */
#endif

/* ---------------------------------------------------------------------------
   >>penalty   sparse, contractive, orthogonal                                */

/* The k largest of each row stay, the others become 0 (k-sparse: Makhzani & Frey 2014); of equal
   ones the first. mask (B,F) or NULL: 1 and 0; dx = dy mask is ae_dropout_backward. 1 <= k <= F */
AE_API void ae_top_k_forward(const ae_exec *e, float *y, float *mask, const float *x, int k, int B,
                             int F);
/* Each row of w is scaled down to a 2-norm of at most `limit`.   w (O,D) updated */
AE_API void ae_max_norm(const ae_exec *e, float *w, float limit, int O, int D);

#ifndef AE_NO_TRAIN
/* *loss = reduction of |x|, (B,F). */
AE_API void ae_l1_penalty_forward(const ae_exec *e, float *loss, const float *x,
                                  ae_reduction reduction, int B, int F);
AE_API void ae_l1_penalty_backward(const ae_exec *e, float *dx, float dloss, const float *x,
                                   ae_reduction reduction, int B, int F);   /* = */

/* *loss = sum over the F units of KL(rho || m), m the unit's mean over the batch, held in
   [1e-6, 1 - 1e-6] (Ng 2011; units in (0,1), as a sigmoid's); over F for MEAN. */
AE_API void ae_kl_sparsity_forward(const ae_exec *e, float *loss, const float *x, float rho,
                                   ae_reduction reduction, int B, int F);
AE_API void ae_kl_sparsity_backward(const ae_exec *e, float *dx, float dloss, const float *x,
                                    float rho, ae_reduction reduction, int B, int F);   /* = */

/* The squared Frobenius norm of the Jacobian of act(x w^T + b) by x (Rifai et al. 2011): the sum
   over units of act'(s)^2 |w|^2; MEAN and BATCH_MEAN: averaged over samples.
     s (B,O): x w^T + b   w (O,D) */
AE_API void ae_contractive_forward(const ae_exec *e, float *loss, const float *s, const float *w,
                                   ae_act act, float a, ae_reduction reduction, int B, int D,
                                   int O);
/* ds overwritten (=) or NULL   dw accumulates (+=) or NULL */
AE_API void ae_contractive_backward(const ae_exec *e, float *ds, float *dw, float dloss,
                                    const float *s, const float *w, ae_act act, float a,
                                    ae_reduction reduction, int B, int D, int O);

/* *loss = sum of |w| or of w^2. dw accumulates (+=). */
AE_API void ae_weight_penalty_forward(const ae_exec *e, float *loss, const float *w, int squared,
                                      size_t n);
AE_API void ae_weight_penalty_backward(const ae_exec *e, float *dw, float dloss, const float *w,
                                       int squared, size_t n);

/* *loss = |w w^T - 1|^2 (Frobenius), or |w^T w - 1|^2 when w (O,D) is taller than wide: 0 when its
   rows (columns) are orthonormal. dw accumulates (+=). */
AE_API void ae_orthogonal_forward(const ae_exec *e, float *loss, const float *w, int O, int D);
AE_API void ae_orthogonal_backward(const ae_exec *e, float *dw, float dloss, const float *w, int O,
                                   int D);
#endif

/* ---------------------------------------------------------------------------
   >>optim   first weights, optimisers, schedules, clipping                   */

typedef enum ae_init_kind {
    AE_INIT_DEFAULT,            /* PyTorch's: uniform within 1/sqrt(fan_in), biases too         */
    AE_INIT_UNIFORM,            /* uniform in [a, b)                                            */
    AE_INIT_NORMAL,             /* normal, mean a, deviation b                                  */
    AE_INIT_CONSTANT,           /* a                                                            */
    AE_INIT_XAVIER_UNIFORM,     /* Glorot & Bengio 2010: +- a sqrt(6 / (fan_in + fan_out))      */
    AE_INIT_XAVIER_NORMAL,      /* deviation a sqrt(2 / (fan_in + fan_out))                     */
    AE_INIT_HE_UNIFORM,         /* He et al. 2015: +- sqrt(6 / ((1 + a^2) fan_in))              */
    AE_INIT_HE_NORMAL           /* deviation sqrt(2 / ((1 + a^2) fan_in))                       */
} ae_init_kind;

typedef struct ae_init {        /* {0} is AE_INIT_DEFAULT                                       */
    float a, b;                 /* as in the table above: mean, gain, negative slope, ...       */
    ae_init_kind kind;
} ae_init;

AE_API ae_init ae_init_uniform(float low, float high);
AE_API ae_init ae_init_normal(float mean, float deviation);
AE_API ae_init ae_init_constant(float value);
AE_API ae_init ae_init_xavier_uniform(float gain);      /* 1 is usual; 5/3 for tanh             */
AE_API ae_init ae_init_xavier_normal(float gain);
AE_API ae_init ae_init_he_uniform(float slope);         /* 0 for ReLU, LeakyReLU's slope        */
AE_API ae_init ae_init_he_normal(float slope);

/* w[i] = draw i of the initialiser.   w (n) written */
AE_API void ae_init_fill(float *w, size_t n, ae_init init, int fan_in, int fan_out, ae_random r);

#ifndef AE_NO_TRAIN
typedef enum ae_optim_kind {    /* formulas: PyTorch's documentation of torch.optim             */
    AE_ADAM,                    /* Kingma & Ba 2015; weight decay is added to the gradient      */
    AE_ADAMW,                   /* Loshchilov & Hutter 2019; weights shrink by lr weight_decay  */
    AE_SGD,                     /* momentum and nesterov as PyTorch: buf = momentum buf + g     */
    AE_RMSPROP,                 /* Tieleman & Hinton 2012; alpha is beta2                       */
    AE_ADAGRAD                  /* Duchi et al. 2011                                            */
} ae_optim_kind;

typedef struct ae_optim {       /* {0} is Adam with the usual defaults                          */
    float lr;                   /* learning rate; 0 = 1e-3 (Adagrad, RMSprop: 1e-2)             */
    float beta1;                /* Adam: decay of the mean; 0 = 0.9                             */
    float beta2;                /* Adam: decay of the squares; 0 = 0.999 (RMSprop: 0.99)        */
    float eps;                  /* 0 = 1e-8 (Adagrad: 1e-10)                                    */
    float weight_decay;         /* 0 = none; AdamW does not default to PyTorch's 0.01           */
    float momentum;             /* SGD, RMSprop                                                 */
    float lr_decay;             /* Adagrad: lr / (1 + (t-1) lr_decay)                           */
    float clip_value;           /* 0 = none; else each gradient is held in +- this, before ...  */
    float clip_norm;            /* 0 = none; ... the gradient's norm is held under this         */
    int   nesterov;             /* SGD: nonzero = Nesterov's momentum                           */
    ae_optim_kind kind;
} ae_optim;

/* One step of `o` on a flat array of n parameters.
     w (n) updated   s1, s2 (n) the optimiser's state, zero before step 1, updated
     g (n) gradient, used as it is (no clipping)   t: this step's number, from 1
   s1 is used by all but plain SGD, s2 by Adam, AdamW and RMSprop with momentum; the others take
   NULL. */
AE_API void ae_optim_update(const ae_exec *e, float *w, float *s1, float *s2, const float *g,
                            const ae_optim *o, uint64_t t, size_t n);
/* How many state arrays `o` needs: 0, 1 or 2. */
AE_API int ae_optim_states(const ae_optim *o);
/* Scales g so that its 2-norm is at most max_norm (torch.nn.utils.clip_grad_norm_); returns the
   norm before.   g (n) updated */
AE_API double ae_clip_norm(const ae_exec *e, float *g, float max_norm, size_t n);
/* Holds each g in [-limit, limit].   g (n) updated */
AE_API void ae_clip_value(const ae_exec *e, float *g, float limit, size_t n);

typedef enum ae_schedule_kind {
    AE_SCHEDULE_CONSTANT,
    AE_SCHEDULE_STEP,           /* lr gamma^floor(t / step)                                     */
    AE_SCHEDULE_EXPONENTIAL,    /* lr gamma^floor(t)                                            */
    AE_SCHEDULE_COSINE,         /* from lr to lr_min along half a cosine, at `epochs`           */
    AE_SCHEDULE_PLATEAU         /* lr gamma when the loss did not fall for more than `patience` */
} ae_schedule_kind;

typedef struct ae_schedule {    /* {0} is constant; t is in epochs, with a fraction inside one,
                                   counted from ae_build on, so that a resumed training goes on;
                                   PLATEAU begins anew in each ae_fit                           */
    float gamma;                /* 0 = 0.1 (exponential: 0.95)                                  */
    float step;                 /* STEP: epochs between steps; 0 = 10                           */
    float epochs;               /* COSINE: where lr_min is reached; 0 = the end of ae_fit       */
    float warmup;               /* any kind: lr rises linearly from 0 over the first epochs     */
    float lr_min;               /* COSINE, PLATEAU: never below                                 */
    float min_delta;            /* PLATEAU: what counts as a fall, relative; 0 = 1e-4           */
    int   patience;             /* PLATEAU: 0 = 10                                              */
    ae_schedule_kind kind;
    float factor, best;         /* PLATEAU's own state: product so far, best loss               */
    int   bad, started;         /* epochs without a fall; 1: factor is set, 2: best is           */
} ae_schedule;

/* The learning rate at epoch t (from 0) for base rate lr. */
AE_API float ae_schedule_lr(const ae_schedule *s, float lr, float t);
/* PLATEAU: tell it the epoch's loss. Others ignore it. */
AE_API void ae_schedule_update(ae_schedule *s, float loss);
#endif

/* ---------------------------------------------------------------------------
   >>model   a graph of tensors: built, planned, run                          */

typedef struct ae_model  ae_model;      /* a graph with its memory                              */
typedef struct ae_tensor ae_tensor;     /* the result of an operation; lives as long as m       */
typedef struct ae_param  ae_param;      /* a weight or bias                                     */

typedef enum ae_mode { AE_INFER, AE_TRAIN } ae_mode;

/* A model without layers, in `arena`. seed: of everything random in it. NULL: no room (or no
   arena): ae_error(NULL) says so. */
AE_API ae_model *ae_model_new(ae_arena *arena, uint64_t seed);
/* The last error in one sentence, "" when there was none: a mistake in the graph (kept for good),
   else what the last call on the model reported or, if that succeeded, the last loader or writer
   on its arena. Never NULL; m may be NULL. */
AE_API const char *ae_error(const ae_model *m);
/* The status that goes with ae_error. */
AE_API ae_status ae_model_status(const ae_model *m);
/* Which kernels and threads the model uses; before or after ae_build, which gives it room for
   the threads known by then (later ones get less of the work). NULL: the best, 1 thread. */
AE_API ae_status ae_set_exec(ae_model *m, const ae_exec *e);
AE_API ae_status ae_set_threads(ae_model *m, int threads);

/* Where the model computes. AUTO, the default: on a GPU when the program is compiled with
   AE_USE_CUDA and there is one, else on the processor; the environment variable AE_DEVICE (auto,
   cpu, cuda) may choose then. CUDA: nowhere else, ae_build fails without. Before ae_build.
   On a GPU functions that compute return before the work is done, and results are waited for where
   they are read: ae_get, ae_param_data, ae_batch_loss, ae_mean_loss, ae_predict..., ae_sync,
   ae_epoch's end, saving. There a step's error is reported; nothing changes from that step on.
   What ae_get, ae_param_data and ae_param_grad return is a copy for the processor, valid until the
   model runs again; ae_set puts values in, and what is written to ae_param_data's array counts for
   the next run. Forks and the tools compute on the processor.
   Errors: AE_E_ARG (built already, no such kind); ae_build's AE_E_DEVICE. */
typedef enum ae_device_kind { AE_DEVICE_AUTO, AE_DEVICE_CPU, AE_DEVICE_CUDA } ae_device_kind;
AE_API ae_status ae_set_device(ae_model *m, ae_device_kind kind);
/* Where a built model computes: "cpu", "cuda: NVIDIA H100 ...", or why it is not the GPU:
   "cpu: no usable GPU (cudaErrorNoDevice: ...)". Before ae_build: "". */
AE_API const char *ae_device(const ae_model *m);
/* Waits until all is done. Errors: those of the steps since the last look, AE_E_DEVICE. */
AE_API ae_status ae_sync(ae_model *m);

/* Operations. Each returns a new tensor, or NULL after a mistake, which ae_build then reports;
   NULL passes through. Shapes are of one sample: (c,h,w), vectors are (n,1,1). */
AE_API ae_tensor *ae_input(ae_model *m, int c, int h, int w);
AE_API ae_tensor *ae_labels(ae_model *m);                   /* one int32 class a sample         */
AE_API ae_tensor *ae_linear(ae_tensor *x, int out);         /* x is flattened; result (out,1,1) */
AE_API ae_tensor *ae_linear_no_bias(ae_tensor *x, int out);
AE_API ae_tensor *ae_activation(ae_tensor *x, ae_act act, float a);
AE_API ae_tensor *ae_identity(ae_tensor *x);
AE_API ae_tensor *ae_relu(ae_tensor *x);
AE_API ae_tensor *ae_leaky_relu(ae_tensor *x, float slope);
AE_API ae_tensor *ae_elu(ae_tensor *x, float alpha);
AE_API ae_tensor *ae_gelu(ae_tensor *x);                    /* exact                            */
AE_API ae_tensor *ae_gelu_tanh(ae_tensor *x);
AE_API ae_tensor *ae_silu(ae_tensor *x);
AE_API ae_tensor *ae_softplus(ae_tensor *x);
AE_API ae_tensor *ae_sigmoid(ae_tensor *x);
AE_API ae_tensor *ae_tanh(ae_tensor *x);
AE_API ae_tensor *ae_softmax(ae_tensor *x);                 /* over all c*h*w of a sample       */
AE_API ae_tensor *ae_add(ae_tensor *a, ae_tensor *b);       /* same shape                       */
AE_API ae_tensor *ae_concat(ae_tensor *a, ae_tensor *b);    /* along c; same h and w            */
AE_API ae_tensor *ae_reshape(ae_tensor *x, int c, int h, int w);    /* same number of elements  */
AE_API ae_tensor *ae_flatten(ae_tensor *x);                 /* to (c*h*w,1,1)                   */

/* Pictures: x is (c,h,w). The short forms have square kernels; the ..._with forms take every
   option. A shape that does not fit is reported with the setting that would. */
AE_API ae_tensor *ae_conv2d(ae_tensor *x, int out, int kernel, int stride, int pad);
AE_API ae_tensor *ae_conv2d_with(ae_tensor *x, int out, const ae_conv *o);
AE_API ae_tensor *ae_conv_transpose2d(ae_tensor *x, int out, int kernel, int stride, int pad,
                                      int output_pad);
AE_API ae_tensor *ae_conv_transpose2d_with(ae_tensor *x, int out, const ae_conv *o);
AE_API ae_tensor *ae_conv1d(ae_tensor *x, int out, int kernel, int stride, int pad);
                                                            /* x is (c,1,length)                */
AE_API ae_tensor *ae_max_pool2d(ae_tensor *x, int kernel);  /* stride = kernel                  */
AE_API ae_tensor *ae_max_pool2d_with(ae_tensor *x, const ae_pool *o);
AE_API ae_tensor *ae_avg_pool2d(ae_tensor *x, int kernel);
AE_API ae_tensor *ae_avg_pool2d_with(ae_tensor *x, const ae_pool *o);
AE_API ae_tensor *ae_global_avg_pool(ae_tensor *x);         /* to (c,1,1)                       */
/* The inverse of a pooling: values return to where `pool`'s maxima were, in its input's shape. */
AE_API ae_tensor *ae_max_unpool2d(ae_tensor *x, const ae_tensor *pool);
AE_API ae_tensor *ae_upsample_nearest(ae_tensor *x, int factor);
AE_API ae_tensor *ae_upsample_bilinear(ae_tensor *x, int factor);
AE_API ae_tensor *ae_resize(ae_tensor *x, ae_upsample_kind kind, int h, int w);
AE_API ae_tensor *ae_pad2d(ae_tensor *x, int top, int bottom, int left, int right, float value);
AE_API ae_tensor *ae_crop2d(ae_tensor *x, int top, int bottom, int left, int right);

typedef struct ae_norm {        /* 0 = the default                                              */
    float eps;                  /* 0 = 1e-5                                                     */
    float momentum;             /* batch_norm: share of the new batch; 0 = 0.1                  */
    int no_affine;              /* nonzero: no gamma and beta                                   */
} ae_norm;

/* Normalisation; o may be NULL. Parameters NAME.weight (gamma, 1 at first) and NAME.bias (beta, 0);
   batch_norm also keeps NAME.running_mean and NAME.running_var, which are not trained.
   batch_norm: per channel, statistics of the batch in training, running ones else. It needs two
   values a channel: a last batch of one vector is an error, so choose the batch accordingly.
   layer_norm: over all of a sample. group_norm: groups divide the channels. */
AE_API ae_tensor *ae_batch_norm(ae_tensor *x, const ae_norm *o);
AE_API ae_tensor *ae_layer_norm(ae_tensor *x, const ae_norm *o);
AE_API ae_tensor *ae_group_norm(ae_tensor *x, int groups, const ae_norm *o);

/* Noise, in training only. The draw depends on the seed, the step and the sample's place in the
   step, not on how ae_fit splits a step into batches (batches set by hand begin at place 0).
   0 <= p < 1. */
AE_API ae_tensor *ae_dropout(ae_tensor *x, float p);            /* kept ones times 1/(1-p)      */
AE_API ae_tensor *ae_spatial_dropout(ae_tensor *x, float p);    /* whole channels               */
AE_API ae_tensor *ae_gaussian_noise(ae_tensor *x, float deviation, float low, float high);
                                                    /* held in [low, high] when low < high      */
AE_API ae_tensor *ae_mask_noise(ae_tensor *x, float p);         /* 0 with probability p         */
AE_API ae_tensor *ae_salt_pepper(ae_tensor *x, float p, float low, float high);
/* Noise of x outside training too (to test a denoiser); noise that is the same for a sample of the
   dataset each time it is seen. Return x. */
AE_API ae_tensor *ae_noise_always(ae_tensor *x);
AE_API ae_tensor *ae_noise_fixed(ae_tensor *x);

/* Codes. mu and logvar: of the same shape. */
AE_API ae_tensor *ae_gaussian_sample(ae_tensor *mu, ae_tensor *logvar);
                                    /* in training; else mu, unless ae_noise_always             */
AE_API ae_tensor *ae_one_hot(ae_tensor *labels, int classes);       /* (classes,1,1): conditions */
AE_API ae_tensor *ae_top_k(ae_tensor *x, int k);            /* of all c*h*w of a sample         */

typedef struct ae_vq_options {  /* 0 = the default                                              */
    int codes;                  /* in the codebook; 0 = 512                                     */
    float beta;                 /* weight of the commitment; 0 = 0.25                           */
    float decay;                /* of the moving averages; 0 = 0.99                             */
    float restart;              /* a code seen less than this share of its fair share starts
                                   anew at a vector of the batch; 0 = 0.05; < 0: never          */
    int gradient;               /* nonzero: the codebook learns by its gradient instead         */
} ae_vq_options;

/* x (c,h,w): the c channels of each pixel become the nearest code of the codebook NAME.weight
   (codes,c). Straight through: the gradient passes as it is. Minimise ae_vq_loss as well, and
   normalise x before it (ae_batch_norm), or all codes may come to lie near one point. */
AE_API ae_tensor *ae_vq(ae_tensor *x, const ae_vq_options *o);

/* Layers that share weights. ae_tied: the transpose of `layer` (a linear layer or convolution, or
   an activation of one) with a bias of its own, to the shape the layer had as input: the weights'
   gradient is the sum of both uses. ae_again: what leads from x to y, applied to x2 (of x's shape)
   with the same weights. Not through batch_norm, noise, samples and codebooks. */
AE_API ae_tensor *ae_tied(ae_tensor *x, ae_tensor *layer);
AE_API ae_tensor *ae_again(ae_tensor *y, const ae_tensor *x, ae_tensor *x2);

typedef enum ae_mirror_kind {
    AE_MIRROR_TRANSPOSE,        /* convolutions become transposed ones                          */
    AE_MIRROR_UPSAMPLE          /* ... nearest upsampling and a convolution: no checkerboard    */
} ae_mirror_kind;

/* The decoder that mirrors the chain of operations from x to code: layers in reverse order, each
   back to the shape the encoder had there (output padding is solved for every size), with the
   encoder's activations and normalisations between them. Its last layer has none: put a sigmoid
   behind it. Poolings become nearest upsampling; noise, dropout, top_k, vq and gaussian_sample
   (whose chain goes on at mu) are left out. Mistakes: add, concat, transposed convolution, pad,
   unpool in the chain; code does not come from x. */
AE_API ae_tensor *ae_mirror(ae_tensor *code, const ae_tensor *x, ae_mirror_kind kind);

#ifndef AE_NO_TRAIN
/* Losses: scalars. y: prediction; t: target of the same number of elements. Gradients flow into
   both where they depend on weights. */
AE_API ae_tensor *ae_mse(ae_tensor *y, ae_tensor *t, ae_reduction reduction);
AE_API ae_tensor *ae_l1(ae_tensor *y, ae_tensor *t, ae_reduction reduction);
AE_API ae_tensor *ae_huber(ae_tensor *y, ae_tensor *t, float delta, ae_reduction reduction);
AE_API ae_tensor *ae_smooth_l1(ae_tensor *y, ae_tensor *t, float beta, ae_reduction reduction);
AE_API ae_tensor *ae_bce(ae_tensor *y, ae_tensor *t, ae_reduction reduction);
AE_API ae_tensor *ae_bce_logits(ae_tensor *y, ae_tensor *t, ae_reduction reduction);
AE_API ae_tensor *ae_cross_entropy(ae_tensor *x, ae_tensor *labels, ae_reduction reduction);

/* Terms of variational autoencoders. A logvar of NULL (not of ae_kl_normal's) is 0. ae_log_...: one
   number a sample, for ae_iwae. ae_iwae feeds every sample of a dataset k times in a row; the
   planned batch must be a multiple of k. With AE_BATCH_MEAN, bce_logits + kl_normal is the
   negative ELBO in nats. */
AE_API ae_tensor *ae_kl_normal(ae_tensor *mu, ae_tensor *logvar, float free_nats,
                               ae_reduction reduction);
AE_API ae_tensor *ae_gaussian_nll(ae_tensor *mu, ae_tensor *logvar, ae_tensor *t,
                                  ae_reduction reduction);
AE_API ae_tensor *ae_log_normal(ae_tensor *z, ae_tensor *mu, ae_tensor *logvar);
                                                    /* mu NULL, too: the standard normal        */
AE_API ae_tensor *ae_log_bernoulli(ae_tensor *logits, ae_tensor *t);
AE_API ae_tensor *ae_iwae(ae_tensor *log_px, ae_tensor *log_pz, ae_tensor *log_qz, int k,
                          ae_reduction reduction);
AE_API ae_tensor *ae_vq_loss(ae_tensor *q, ae_reduction reduction);     /* q: from ae_vq        */
AE_API ae_tensor *ae_mmd(ae_tensor *z);             /* from fresh samples of the standard normal;
                                                       a batch of 1 is an error */

/* Penalties. A layer is what ae_tied takes.
   ae_contractive           h: a linear layer or an activation of one: exact
   ae_contractive_estimate  any h computed from x, by one random direction v a sample:
                            |h(x + step v) - h(x)|^2 / step^2, whose mean is the squared norm of
                            the Jacobian but for O(step^2); step 0 = 0.01. Through what ae_again
                            goes through. */
AE_API ae_tensor *ae_l1_penalty(ae_tensor *x, ae_reduction reduction);
AE_API ae_tensor *ae_kl_sparsity(ae_tensor *x, float rho, ae_reduction reduction);
AE_API ae_tensor *ae_contractive(ae_tensor *h, ae_reduction reduction);
AE_API ae_tensor *ae_contractive_estimate(ae_tensor *h, ae_tensor *x, float step,
                                          ae_reduction reduction);
AE_API ae_tensor *ae_weight_l1(ae_tensor *layer);           /* sum of |w|                       */
AE_API ae_tensor *ae_weight_l2(ae_tensor *layer);           /* sum of w^2                       */
AE_API ae_tensor *ae_orthogonal(ae_tensor *layer);          /* |w w^T - 1|^2                    */
/* After each step a unit's incoming weights are scaled down to a 2-norm of at most `limit`. */
AE_API ae_tensor *ae_limit_norm(ae_tensor *layer, float limit);     /* returns layer            */

/* Training minimises the sum of weight * loss over all that were given here. */
AE_API void ae_minimize(ae_tensor *loss);                   /* weight 1                         */
AE_API void ae_minimize_weighted(ae_tensor *loss, float weight);    /* again, also after
                                                       ae_build: the new weight */
/* The weight of a minimised loss grows linearly from 0 over the first `epochs` of training (KL
   warm-up) as ae_epoch, ae_fit and ae_train_step count them; ae_backward by hand and reported
   sums take the full weight. Before or after ae_build. */
AE_API void ae_warm_up(ae_tensor *loss, float epochs);
AE_API void ae_monitor(ae_tensor *loss);                    /* computed and reported only       */
#endif

/* Names the layer that made x: its parameters become NAME.weight and NAME.bias, as in a PyTorch
   state_dict. 1 to 50 printable ASCII characters, no blanks. Without it they are called linear1,
   linear2, ... Returns x. */
AE_API ae_tensor *ae_name(ae_tensor *x, const char *name);
/* First weights of the layer that made x, or of every linear layer and convolution. Before
   ae_build. Returns x. */
AE_API ae_tensor *ae_init_layer(ae_tensor *x, ae_init weight, ae_init bias);
AE_API void ae_init_all(ae_model *m, ae_init weight, ae_init bias);

/* Shape and size of one sample of t: c*h*w elements. */
AE_API void ae_shape(const ae_tensor *t, int *c, int *h, int *w);
AE_API size_t ae_size(const ae_tensor *t);

typedef enum ae_segment {       /* the model's memory, in this order                            */
    AE_SEG_PARAM,               /* weights and biases, contiguous                               */
    AE_SEG_GRAD,                /* their gradients, at the same places                          */
    AE_SEG_OPT,                 /* optimiser state: as many arrays of PARAM's size as reserved  */
    AE_SEG_STATE,               /* step counters, running sums                                  */
    AE_SEG_ACT,                 /* values of tensors and their gradients                        */
    AE_SEG_WORK,                /* scratch of the kernels                                       */
    AE_SEG_COUNT
} ae_segment;

typedef struct ae_plan_entry {
    const char *name;           /* "linear1.weight", "relu2", "relu2 gradient", ...             */
    ae_segment segment;
    size_t offset, bytes;       /* within the segment; activations may share bytes over time    */
} ae_plan_entry;

/* The bytes ae_build(m, batch, mode) takes from the arena: exactly so many suffice, one fewer
   does not. 0 after an error (see ae_error). Computed, not allocated. */
AE_API size_t ae_plan(ae_model *m, int batch, ae_mode mode);
/* The same, calling each(user, entry) for everything that has a place. */
AE_API size_t ae_plan_each(ae_model *m, int batch, ae_mode mode,
                           void (*each)(void *user, const ae_plan_entry *entry), void *user);
/* How many optimiser states AE_TRAIN reserves: 2 unless told (ae_optim_states). Before ae_build. */
AE_API void ae_reserve_optim(ae_model *m, int states);
/* Takes the memory, places every tensor, draws the first weights. batch: the most samples ever
   run at once. AE_INFER: no gradients, and buffers are reused as soon as nothing reads them.
   Errors: the first mistake made while building the graph; AE_E_MEMORY with needed and available
   bytes; AE_E_ARG for batch < 1 or a model already built; AE_E_DEVICE when CUDA was asked for and
   cannot be had. The model is then as before. */
AE_API ae_status ae_build(ae_model *m, int batch, ae_mode mode);

/* Any part runs. n: samples, 1 ... the planned batch.
   ae_set       copies n samples into t: values (n,size) (labels: n int32)
   ae_run       computes t and only what it needs
   ae_run_from  takes codes (n, size of z) in place of z and computes t and only what it needs;
                inputs that reach t around z are used as last set. codes NULL: what z holds,
                unless what reaches t around z writes over it, which is an error.
   ae_get       where t's values are: (batch,size), of a loss one float; valid until the next run.
                In AE_INFER only inputs and the tensor of the last run hold values. In AE_TRAIN
                all do, but for one: a tensor that is read by its activation alone (relu,
                leaky_relu, elu, sigmoid, tanh) or reshape is computed over; run it to have it.
   Errors: AE_E_ARG (n, not built, a tensor of another model, t does not depend on z, values that
   were computed over: ae_get returns NULL). */
AE_API ae_status ae_set(ae_model *m, const ae_tensor *t, const void *values, int n);
AE_API ae_status ae_run(ae_model *m, const ae_tensor *t, int n);
AE_API ae_status ae_run_from(ae_model *m, const ae_tensor *z, const float *codes,
                             const ae_tensor *t, int n);
AE_API float *ae_get(ae_model *m, const ae_tensor *t);
/* out (n, size of t) = t for any number n of samples x (n, size of the first input), in batches.
   Errors: as above; AE_E_ARG when t is a loss or needs another input, or x or out is NULL. */
AE_API ae_status ae_predict(ae_model *m, const ae_tensor *t, float *out, const float *x, size_t n);
/* The same from codes of z. */
AE_API ae_status ae_predict_from(ae_model *m, const ae_tensor *z, const ae_tensor *t, float *out,
                                 const float *codes, size_t n);

/* Work with codes. z: from ae_gaussian_sample (or any tensor that codes can be given for).
   ae_sample         out (n, size of y) = y for n codes drawn from the standard normal; draw names
                     the set of codes
   ae_interpolate    out (steps,F): from a to b, both included; spherical: along the great circle,
                     as suits normal codes of many dimensions
   ae_latent_grid    out (side*side,F): the first two units from -range to range, top left first
                     unit low, second high; the others 0
   ae_vq_index       the codes' numbers of q's last run: (batch, h*w)
   ae_vq_usage       how many codes are in use, and the perplexity of their use (may be NULL);
                     codes that lie close together are in use, too: look at the loss as well
   Errors: those of ae_predict; AE_E_MEMORY (ae_sample borrows a batch of codes from the arena). */
AE_API ae_status ae_sample(ae_model *m, const ae_tensor *z, const ae_tensor *y, float *out,
                           size_t n, uint64_t draw);
AE_API void ae_interpolate(float *out, const float *a, const float *b, int steps, int F,
                           int spherical);
AE_API void ae_latent_grid(float *out, int side, float range, int F);
AE_API const int32_t *ae_vq_index(ae_model *m, const ae_tensor *q);
AE_API int ae_vq_usage(ae_model *m, const ae_tensor *q, double *perplexity);

/* A second workspace for a built model: shares its parameters, owns its activations, planned for
   inference. One per thread; all of them may run at once while nobody trains m. The tensors of m
   are used with it. Of a model on a GPU it has the parameters of this moment (and of each later
   ae_param_data, ae_snapshot or saving of m).
   NULL: no room, batch < 1 or m not built (arena->error says). */
AE_API ae_model *ae_fork(const ae_model *m, ae_arena *arena, int batch);

typedef enum ae_precision {
    AE_FLOAT32,
    AE_FLOAT16,                 /* halves, to the nearest (beyond 65504: the largest)           */
    AE_INT8                     /* -127 ... 127 times a scale, one per output channel (the first
                                   side of the weights: transposed, one per input channel)      */
} ae_precision;

/* A fork with parameters of its own, the weights of linear layers and convolutions in fewer bytes;
   all others are copied as floats. Later training of m does not reach it, and what ae_build took
   for m may be given back (its tensors must stay). ae_param_data of such weights is NULL, and
   ae_fork of it shares them. A linear layer reads few bytes for one sample; a convolution makes
   floats of its weights each time. *lost (or NULL): the root mean square of what rounding changed
   in these weights over that of the weights.
   NULL: as ae_fork; weights that are not finite or already small, no such precision. */
AE_API ae_model *ae_fork_small(const ae_model *m, ae_arena *arena, int batch,
                               ae_precision precision, double *lost);

/* Parameters, in the order they were made: i = 0 ... count-1; NULL past the end. */
AE_API ae_param *ae_param_at(const ae_model *m, int i);
AE_API ae_param *ae_param_find(const ae_model *m, const char *name);    /* "linear1.weight"      */
AE_API const char *ae_param_name(const ae_param *p);
AE_API size_t ae_param_size(const ae_param *p);
AE_API int ae_param_shape(const ae_param *p, int shape[4]);     /* returns the dimensions used  */
AE_API float *ae_param_data(ae_model *m, const ae_param *p);    /* NULL before ae_build; see
                                                                   ae_fork_small                */
AE_API ae_param *ae_weight(const ae_tensor *t);     /* of the layer that made t, or NULL        */
AE_API ae_param *ae_bias(const ae_tensor *t);
/* A whole segment as bytes: base and, through bytes, its size; NULL before ae_build. */
AE_API void *ae_segment_data(ae_model *m, ae_segment segment, size_t *bytes);

#ifndef AE_NO_TRAIN
AE_API float *ae_param_grad(ae_model *m, const ae_param *p);    /* NULL unless AE_TRAIN         */

/* Everything training changes, as one block: undo, rollback, exact resume.
     dst, src: ae_snapshot_bytes(m) bytes.
   Errors: AE_E_ARG (not built, a fork, NULL, another size). */
AE_API size_t ae_snapshot_bytes(const ae_model *m);
AE_API ae_status ae_snapshot(ae_model *m, void *dst);
AE_API ae_status ae_restore(ae_model *m, const void *src, size_t bytes);

/* ---------------------------------------------------------------------------
   The pieces of a training step, for inputs set by hand with ae_set.
     ae_forward    all losses of n samples, in training mode
     ae_backward   gradients of the weighted sum of losses times `scale`: parameters += , from the
                   last ae_forward
     ae_zero_grad  parameter gradients = 0
     ae_step       clips and lets the optimiser update the parameters: one more step
   Errors: AE_E_ARG (not built for AE_TRAIN, n, no loss, a setting of the optimiser out of range or
   needing more states than reserved, a BCE target out of [0,1], a label out of range),
   AE_E_SHAPE (batch_norm with one value a channel), AE_E_NUMERIC (the loss or the gradient's norm
   is not finite). Weights, running statistics and optimiser state are then as before. */
AE_API ae_status ae_forward(ae_model *m, int n);
AE_API ae_status ae_backward(ae_model *m, float scale);
AE_API void ae_zero_grad(ae_model *m);
AE_API ae_status ae_step(ae_model *m, const ae_optim *o);

/* The loss of the last batch, and its mean over the samples of the running or last finished epoch
   or evaluation. term: a loss tensor, or NULL for the weighted sum. Each as its reduction says;
   means of SUM are per sample. 0 before there is one. */
AE_API float ae_batch_loss(const ae_model *m, const ae_tensor *term);
AE_API float ae_mean_loss(const ae_model *m, const ae_tensor *term);
AE_API uint64_t ae_steps(const ae_model *m);        /* optimiser steps taken                    */
#endif

/* ---------------------------------------------------------------------------
   >>data   samples: raw bytes or floats, labels, order                       */

typedef struct ae_dataset {     /* sample i is row index[i] (or i) of the arrays                */
    const uint8_t  *bytes;      /* (rows,c,h,w) raw values, or NULL                             */
    const float    *floats;     /* (rows,c,h,w) raw values; one of the two is set               */
    const int32_t  *labels;     /* (rows) or NULL                                               */
    const uint32_t *index;      /* (n) or NULL                                                  */
    size_t n;                   /* samples                                                      */
    int c, h, w;                /* shape of a sample                                            */
    float scale;                /* value = (raw * scale - mean) / deviation; 0 = 1              */
    float mean, deviation;      /* deviation 0 = 1                                              */
    int keep_order;             /* nonzero: never shuffled                                      */
} ae_dataset;

/* x (count,c*h*w) and labels (count), either may be NULL, of samples first ... first+count-1.
   Errors: AE_E_ARG (beyond the end, no values, no labels). */
AE_API ae_status ae_dataset_get(const ae_dataset *d, float *x, int32_t *labels, size_t first,
                                size_t count);
/* Mean and deviation of all values as they are now (in double, two passes). */
AE_API void ae_dataset_moments(const ae_dataset *d, float *mean, float *deviation);
/* (x - mean) / deviation from now on, on top of scale: torchvision's Normalize.
   Errors: AE_E_ARG (not finite, deviation not above 0). */
AE_API ae_status ae_dataset_normalize(ae_dataset *d, float mean, float deviation);
/* Two views: a random share (0 ... 1) of d in `held`, the rest in `rest`; both borrow d's arrays.
   Errors: AE_E_MEMORY (index), AE_E_ARG (share, or one side would be empty). */
AE_API ae_status ae_dataset_split(ae_dataset *rest, ae_dataset *held, const ae_dataset *d,
                                  ae_arena *arena, float share, uint64_t seed);
/* The first n samples of d, without copying. n is cut to d->n. */
AE_API ae_dataset ae_dataset_head(const ae_dataset *d, size_t n);

/* Parsers of files in memory, and loaders of paths. All copy what they need into the arena; on an
   error *d is untouched, the arena as before, and arena->error says what and where. `name` is
   what errors call the data.
   IDX: images of any type and 1 to 4 dimensions (n, then features | h w | c h w); unsigned bytes
   stay bytes with scale 1/255, all else becomes floats with scale 1. labels: NULL, or IDX bytes.
   Errors: AE_E_IO (missing, unreadable, .gz without AE_USE_ZLIB), AE_E_FORMAT (empty, cut,
   another kind, sizes that do not fit), AE_E_MEMORY. */
AE_API ae_status ae_idx_parse(ae_dataset *d, ae_arena *arena, const void *images, size_t images_n,
                              const void *labels, size_t labels_n, const char *name);
/* CSV: one sample a line, the label first when `labels` is nonzero, commas, optional spaces and
   CR, blank lines skipped, a first line with a field that is not a number is a header. Whole
   numbers 0 ... 255 throughout stay bytes; scale is 1. The shape is (columns,1,1). */
AE_API ae_status ae_csv_parse(ae_dataset *d, ae_arena *arena, const char *text, size_t text_n,
                              int labels, const char *name);
#ifndef AE_NO_STDIO
AE_API ae_status ae_idx_load(ae_dataset *d, ae_arena *arena, const char *images,
                             const char *labels);
AE_API ae_status ae_csv_load(ae_dataset *d, ae_arena *arena, const char *path, int labels);
/* MNIST's four files by their usual names (Fashion-MNIST has the same), with .gz where
   AE_USE_ZLIB is defined. */
AE_API ae_status ae_mnist_load(ae_dataset *train, ae_arena *arena, const char *dir);
AE_API ae_status ae_mnist_load_test(ae_dataset *test, ae_arena *arena, const char *dir);
#endif

/* ---------------------------------------------------------------------------
   >>train   epochs over a dataset                                            */

/* Copies n samples from `first` on into the model: into its first input, and into its labels.
   order 0: as they stand; else a permutation with that number.   Errors: AE_E_SHAPE, AE_E_ARG */
AE_API ae_status ae_feed(ae_model *m, const ae_dataset *d, size_t first, int n, uint64_t order);
/* Keeps d's values, labels and index on the model's GPU: batches of this dataset (or of its first
   samples: ae_dataset_head) are then made there. The arrays must not change. One dataset for
   training and one for evaluation may be there at a time. On the processor: nothing to do.
   Errors: AE_E_DEVICE (no room), AE_E_ARG, AE_E_SHAPE. */
AE_API ae_status ae_data_upload(ae_model *m, const ae_dataset *d);
/* out (n, size of t) = t for all n samples of d, as they stand: codes of a whole dataset. */
AE_API ae_status ae_predict_dataset(ae_model *m, const ae_tensor *t, float *out,
                                    const ae_dataset *d);
#ifndef AE_NO_TRAIN
/* *active = how many units of mu vary over d: variance above 0.01 (Burda et al. 2016).
   Errors: as ae_predict; AE_E_MEMORY (it borrows 16 bytes a unit from the arena); AE_W_COLLAPSED
   when there is none: the code tells nothing about its input. */
AE_API ae_status ae_active_units(ae_model *m, const ae_tensor *mu, const ae_dataset *d,
                                 int *active);

/* The next batch of the running epoch: forward, backward, update. Bounded work: a game calls it
   once a frame. The last batch of an epoch may be smaller. The order is a new permutation each
   epoch; where it stands is part of a snapshot.   Errors: as ae_feed, ae_forward, ae_step. */
AE_API ae_status ae_train_step(ae_model *m, const ae_dataset *d, const ae_optim *o);
/* Steps to the end of the running epoch; returns its mean loss. After an error it returns 0 and
   ae_model_status(m) is not AE_SUCCESS. */
AE_API float ae_epoch(ae_model *m, const ae_dataset *d, const ae_optim *o);
/* Mean losses over d without training or noise: *loss (may be NULL) and ae_mean_loss(). */
AE_API ae_status ae_evaluate(ae_model *m, const ae_dataset *d, float *loss);
/* ln p(x) of each sample of d by k draws of z (Burda et al. 2016), with px from ae_log_bernoulli or
   ae_log_normal.   scores (n of d) or NULL   *mean over d, or NULL
   Errors: those of ae_predict; AE_E_MEMORY (it borrows a batch of codes from the arena). */
AE_API ae_status ae_iwae_score(ae_model *m, const ae_tensor *z, const ae_tensor *px,
                               const ae_dataset *d, int k, float *scores, double *mean);

typedef struct ae_progress {
    int epoch, epochs;          /* from 1; of how many                                          */
    size_t batch, batches;      /* batches done in this epoch; of how many                      */
    size_t samples;             /* samples done in this epoch                                   */
    float loss;                 /* mean so far                                                  */
    float validation;           /* mean on the held-out data, once epoch_end; else 0            */
    float lr;                   /* learning rate of the last step                               */
    int epoch_end;              /* nonzero: the epoch is over                                   */
    int improved;               /* with epoch_end: the watched loss is the best so far          */
} ae_progress;

typedef struct ae_fit_options { /* {0} = 10 epochs, nothing else                                */
    int epochs;                 /* 0 = 10                                                       */
    float validation;           /* share of the data held out, 0 to below 1; 0 = none           */
    const ae_dataset *held_out; /* or validation data of its own                                */
    int patience;               /* stop after so many epochs without improvement of the watched
                                   loss (validation's if there is one); 0 = never. If > 0, the
                                   best epoch's model, counters too, is restored at the end,
                                   unless an error ended it                                     */
    float min_delta;            /* what counts as an improvement, absolute                      */
    int accumulate;             /* batches per optimiser step; 0 = 1: the gradient is that of one
                                   batch as large as all of them                                */
    int batch;                  /* samples per batch; 0 = the planned batch                     */
    ae_schedule schedule;       /* {0} = constant                                               */
    int (*callback)(void *user, const ae_progress *p);  /* after each step and each epoch;
                                   nonzero ends training at once                                */
    void *user;
} ae_fit_options;

typedef struct ae_fit_result {
    int epochs;                 /* finished                                                     */
    int best_epoch;             /* from 1; 0 = none                                             */
    float loss;                 /* mean training loss of the last epoch                         */
    float best;                 /* best watched loss                                            */
    int stopped;                /* 0 = all epochs, 1 = patience, 2 = callback                   */
} ae_fit_result;

/* Trains. Borrows from the model's arena, until it returns, what the split (4 bytes a sample) and
   `patience` (a snapshot) need. result may be NULL, options may be NULL.   Errors: AE_E_MEMORY,
   AE_E_ARG, and those of ae_train_step; the weights are then those of the last good step. */
AE_API ae_status ae_fit(ae_model *m, const ae_dataset *d, const ae_optim *o,
                        const ae_fit_options *options, ae_fit_result *result);
#endif

/* ---------------------------------------------------------------------------
   >>file   models as .safetensors, arrays as .npy and CSV                    */

#define AE_SAVE_TRAINING 1      /* a flag: also what training counts, for an exact resume */

/* A model as .safetensors: parameters and running statistics under PyTorch's names, so that
   load_file and load_state_dict(strict=True) take them as they are. The rest is metadata, all text:
     ae.version, ae.seed, ae.optim_states
     ae.graph          a line a tensor: number, operation(inputs), settings
     ae.scale, ae.mean, ae.deviation    of the data it was trained on
     ae.probe.input    one sample of every input (labels are 0), and ae.probe.output, what the
                       model makes of it (but for losses); hex of little-endian floats
     and every note.
   AE_SAVE_TRAINING adds two tensors:
     ae.optim (states, trained parameters) F32, the parameters in the order they were made
     ae.state (4 + 3 losses) F64: steps, epochs, samples done in this one, samples in the sums; of
              each loss the sum over the epoch, the last mean, the last value
   The probe is computed on an ae_fork for three samples, of memory borrowed from the arena or,
   where that has not enough, in the model's activations, as ae_run does.

   ae_model_save writes to "PATH.tmp" and renames that when it is complete: a failure leaves the old
   file. ae_model_encode: bytes written, or needed when dst is NULL; 0 after an error.
   Errors: AE_E_ARG (not built, small weights, unknown flags, no training to save, two parameters
   of one name), AE_E_NUMERIC (a value is not finite), AE_E_IO. */
#ifndef AE_NO_STDIO
AE_API ae_status ae_model_save(ae_model *m, const char *path, int flags);
#endif
AE_API size_t ae_model_encode(ae_model *m, void *dst, size_t capacity, int flags);

/* Weights into a built model: of every parameter the same name and shape (sides of 1 do not count),
   as F32, F64, F16 or BF16, no others but PyTorch's num_batches_tracked. A file of ours or
   PyTorch's. Notes and scaling come along. A model built for AE_TRAIN goes on with the file's seed,
   counters and optimiser state, or without them begins anew. What the probe gives must be what the
   file says, to 1e-4 of the largest.
   All or nothing: after an error the model is as before. Borrows from the arena, until it returns,
   the file's header, 100 bytes a parameter and what a fork for one sample with parameters of its
   own takes (twice the parameters again for an optimiser's state).
   Errors: AE_E_IO, AE_E_FORMAT (damaged, other names or shapes, another probe), AE_E_NUMERIC (not
   finite), AE_E_MEMORY, AE_E_ARG (not built, a fork). `name` is what errors call the bytes. */
#ifndef AE_NO_STDIO
AE_API ae_status ae_model_load(ae_model *m, const char *path);
#endif
AE_API ae_status ae_model_decode(ae_model *m, const void *bytes, size_t n, const char *name);

/* A model from the file alone, built for `batch` in `mode`: find its tensors by name. Takes from
   the arena what the model takes; borrows the file's header and 100 bytes a parameter. NULL:
   arena->error says why. Compiled with AE_NO_TRAIN, losses are left out. */
#ifndef AE_NO_STDIO
AE_API ae_model *ae_model_open(ae_arena *arena, const char *path, int batch, ae_mode mode);
#endif
AE_API ae_model *ae_model_open_memory(ae_arena *arena, const void *bytes, size_t n,
                                      const char *name, int batch, ae_mode mode);

/* Tensors by name ("relu2", or what ae_name gave). NULL: there is none. */
AE_API ae_tensor *ae_tensor_find(const ae_model *m, const char *name);
AE_API const char *ae_tensor_name(const ae_tensor *t);

/* Text kept with the model and in its file: ae_note(m, "threshold", "0.031"). A second time: it is
   replaced. Lives in the arena.   key: 1 to 63 bytes, not beginning with "ae."; both UTF-8
   Errors: AE_E_ARG, AE_E_MEMORY. */
AE_API ae_status ae_note(ae_model *m, const char *key, const char *value);
AE_API const char *ae_note_of(const ae_model *m, const char *key);      /* NULL: there is none  */

/* Gives d the scale, mean and deviation of the data the model was last trained on (by ae_feed,
   ae_epoch, ...), so that raw values mean what they meant then.   Errors: AE_E_ARG (none known) */
AE_API ae_status ae_scale_as_trained(const ae_model *m, ae_dataset *d);

/* .npy, NumPy's format 1.0 to 3.0, of 1 to 4 dimensions as IDX: bytes, integers, bool, floats of 2,
   4 or 8 bytes, of either byte order, in C's or Fortran's order. Unsigned bytes stay bytes with
   scale 1/255, bool with scale 1, all else becomes floats. Labels: integers. Errors as of IDX. */
AE_API ae_status ae_npy_parse(ae_dataset *d, ae_arena *arena, const void *bytes, size_t n,
                              const void *labels, size_t labels_n, const char *name);
/* x (shape[0], ... shape[dims-1]) as .npy of little-endian floats: bytes written to dst, or needed
   when dst is NULL; 0: capacity too small, or more than 8 dimensions. */
AE_API size_t ae_npy_encode(void *dst, size_t capacity, const float *x, const size_t *shape,
                            int dims);
#ifndef AE_NO_STDIO
AE_API ae_status ae_npy_load(ae_dataset *d, ae_arena *arena, const char *path,
                             const char *labels);
AE_API ae_status ae_npy_write(ae_arena *arena, const char *path, const float *x,
                              const size_t *shape, int dims);
/* x (rows,columns), a line a row: the fewest digits that read back to the same float, a point
   whatever the locale; nan, inf and -inf.   Errors of these two: AE_E_IO, AE_E_ARG (dims,
   columns < 1, no path) */
AE_API ae_status ae_csv_write(ae_arena *arena, const char *path, const float *x, size_t rows,
                              size_t columns);
#endif

/* ---------------------------------------------------------------------------
   >>image   pictures of what was learned                                     */

typedef struct ae_image {
    uint8_t *rgb;               /* (h,w,3)                                                      */
    int w, h;
} ae_image;

typedef enum ae_colormap {
    AE_GRAY,                    /* low black, high white; three channels are red, green, blue   */
    AE_HOT,                     /* black, red, yellow, white: matplotlib's "hot"                */
    AE_DIVERGING                /* negative blue, zero white, positive red                      */
} ae_colormap;

/* A picture filled with one colour (0xRRGGBB) in the arena; rgb is NULL when there is no room. */
AE_API ae_image ae_image_new(ae_arena *arena, int w, int h, uint32_t color);
/* One sample (c,h,w) at x0, y0, each pixel zoom x zoom; low ... high spans the colour map. Parts
   outside are cut off. */
AE_API void ae_image_draw(ae_image *img, int x0, int y0, const float *sample, int c, int h, int w,
                          int zoom, float low, float high, ae_colormap map);
/* Text in a built-in 5x7 font (printable ASCII), each dot zoom x zoom; returns its width. */
AE_API int ae_image_text(ae_image *img, int x0, int y0, const char *text, int zoom,
                         uint32_t color);

typedef struct ae_image_row {   /* one row of a picture of rows                                 */
    const float *samples;       /* (n,c,h,w)                                                    */
    float low, high;            /* both 0: 0 ... 1 for AE_GRAY, else from the row's own values  */
    ae_colormap map;
} ae_image_row;

/* Rows of n samples under each other: originals over reconstructions is two of them, error maps a
   third.   Errors of this and the next two: rgb is NULL (arena->error says). */
AE_API ae_image ae_image_rows(ae_arena *arena, const ae_image_row *rows, int row_count, int n,
                              int c, int h, int w, int zoom);
/* n samples, `columns` a row. */
AE_API ae_image ae_image_grid(ae_arena *arena, const float *samples, int n, int columns, int c,
                              int h, int w, int zoom);
/* The rows of a weight matrix (count,c*h*w) as filters: each spans its own -max ... max. */
AE_API ae_image ae_image_filters(ae_arena *arena, const float *weights, int count, int columns,
                                 int c, int h, int w, int zoom);

#ifndef AE_NO_TRAIN
typedef struct ae_curve {
    const float *y;             /* (n) one value an epoch                                       */
    int n;
    const char *name;           /* legend                                                       */
    uint32_t color;             /* 0xRRGGBB; 0 = chosen                                         */
} ae_curve;

/* Curves over epochs 1 ... n with axes, numbers and a legend; log_y nonzero: logarithmic. */
AE_API ae_image ae_image_curves(ae_arena *arena, const ae_curve *curves, int count,
                                const char *title, int w, int h, int log_y);
#endif

/* out (n) = |a - b|: what an error map shows. */
AE_API void ae_abs_error(float *out, const float *a, const float *b, size_t n);

/* PNG: bytes written to dst, or needed when dst is NULL. 0: capacity too small or empty picture. */
AE_API size_t ae_png_encode(uint8_t *dst, size_t capacity, const ae_image *img);
#ifndef AE_NO_STDIO
/* Writes a PNG file: ae_png_write(arena, path, ae_image_grid(...)).
   Errors: AE_E_IO, AE_E_ARG (an empty picture). The sentence is in arena->error, that of whoever
   could not make the picture included. */
AE_API ae_status ae_png_write(ae_arena *arena, const char *path, ae_image img);
#endif

/* ---------------------------------------------------------------------------
   >>scores   principal components; how good codes and reconstructions are    */

/* All of these that return a status write their result only on success. Errors: AE_E_ARG (nothing
   to score, an argument out of range), AE_E_SHAPE, AE_E_NUMERIC (a value is not finite),
   AE_E_MEMORY; the sentence is in arena->error, and what they borrowed is given back. */

/* Principal components (Hotelling 1933): of all linear codes of K numbers the one whose
   reconstructions have the least squared error, what an autoencoder is to be better than. */
typedef struct ae_pca {
    float *mean;                /* (D)                                                          */
    float *components;          /* (K,D) orthonormal rows, the one of most variance first       */
    double *variance;           /* (K) of the samples along each: sum / (n-1)                   */
    double total;               /* variance of all D values together                            */
    int D, K;                   /* values of a sample; components: a copy of the struct with a
                                   smaller K has the first ones                                 */
} ae_pca;

#ifndef AE_NO_TRAIN
/* Components of the samples of d, 1 <= K <= D, n >= 2. The largest element of each is positive.
   Variances are right to 1e-6 of the first; components beyond the rank of the data have variance 0
   and any orthonormal direction. Takes 4 D + K (4 D + 8) bytes of the arena and borrows
   8 D (D + K) + 2096 D; n D^2 multiply-adds in float and D^3 in double. */
AE_API ae_status ae_pca_fit(const ae_exec *e, ae_pca *p, ae_arena *arena, const ae_dataset *d,
                            int K);
#endif
/* codes = (x - mean) components^T, and x = codes components + mean.   codes (n,K)   x (n,D) */
AE_API void ae_pca_encode(const ae_exec *e, const ae_pca *p, float *codes, const float *x,
                          size_t n);
AE_API void ae_pca_decode(const ae_exec *e, const ae_pca *p, float *x, const float *codes,
                          size_t n);

/* out (n) = each sample's mean squared difference: an anomaly score.   a, b (n,F)   NaN stays. */
AE_API void ae_mse_per_sample(float *out, const float *a, const float *b, size_t n, int F);
/* *psnr = 10 log10(range^2 / mean (a-b)^2) in dB, HUGE_VAL when a is b.   a, b (n)   range: of the
   values, 1 for pixels in [0,1] */
AE_API ae_status ae_psnr(double *psnr, ae_arena *arena, const float *a, const float *b, size_t n,
                         float range);
/* *ssim = mean structural similarity (Wang et al. 2004) of planes of pixels a, b (planes,h,w):
   Gaussian windows of 11 x 11, deviation 1.5, K1 = 0.01, K2 = 0.03; only windows inside, so that
   h, w >= 11 and the outer 5 pixels count less. Several channels or pictures: the mean. */
AE_API ae_status ae_ssim(double *ssim, ae_arena *arena, const float *a, const float *b,
                         size_t planes, int h, int w, float range);

/* *value = the q-quantile of x (n), 0 <= q <= 1, between neighbours linear: of the scores of
   held-out normal samples, the threshold with a false-alarm rate of 1 - q. Borrows 8 n bytes. */
AE_API ae_status ae_quantile(float *value, ae_arena *arena, const float *x, size_t n, double q);
/* For scores (n) that are to be higher where positive (n) is nonzero. Borrow 8 n bytes.
     auroc              how often a positive scores above a negative; equal ones count half
     average_precision  the sum over falling thresholds of precision times growth of recall
   Errors: AE_E_ARG when none is positive, or, for the first, all are. */
AE_API ae_status ae_auroc(double *auroc, ae_arena *arena, const float *scores,
                          const uint8_t *positive, size_t n);
AE_API ae_status ae_average_precision(double *precision, ae_arena *arena, const float *scores,
                                      const uint8_t *positive, size_t n);

#ifndef AE_NO_TRAIN
/* What codes know about labels: both datasets hold codes (or pixels) with labels.
     knn_accuracy   *accuracy = share of test whose label most of the k nearest in train have; of
                    equally many the nearest's. Distances are rounded as float products are.
                    Borrows 2048 (F + k) + 263168 bytes
     linear_probe   *accuracy = share of test that multinomial logistic regression, trained on train
                    by `epochs` (0 = 20) of Adam, gets right; values are normalised, labels are
                    0 ... Borrows what its model needs */
AE_API ae_status ae_knn_accuracy(const ae_exec *e, double *accuracy, ae_arena *arena,
                                 const ae_dataset *train, const ae_dataset *test, int k);
AE_API ae_status ae_linear_probe(const ae_exec *e, double *accuracy, ae_arena *arena,
                                 const ae_dataset *train, const ae_dataset *test, int epochs);
#endif

/* ---------------------------------------------------------------------------
   >>tools   what a model is, whether it is right, why it does not learn      */

/* The model as a table, a line a tensor: name, kind, shape of a sample, trained parameters (shared
   ones once), bytes that `batch` samples of its values take, in AE_TRAIN with its gradient and what
   its backward pass keeps (-: it lies where its input does), multiply-adds a sample (of matrix
   products, convolutions and codebooks; the rest counts none). Then sums, and the bytes of ae_plan.
   Before or after ae_build. Returns the characters needed without the final 0, as snprintf; dst
   may be NULL when capacity is 0. 0 after an error (see ae_plan). */
AE_API size_t ae_summary(ae_model *m, int batch, ae_mode mode, char *dst, size_t capacity);

typedef struct ae_nonfinite {   /* a value that is not finite                                   */
    const char *name;           /* of the tensor or parameter; NULL: there is none              */
    const char *what;           /* "value", "gradient", "parameter", "parameter gradient",
                                   "optimiser state"                                            */
    const char *value;          /* "NaN", "infinity", "-infinity"; "too large to square" of the
                                   largest parameter gradient where only the norm is infinite   */
    int sample;                 /* of a tensor; else -1                                         */
    size_t index;               /* element of the sample, or of the parameter                   */
} ae_nonfinite;

/* The first value that is not finite in the order of computation: a layer's parameters, its values,
   ..., the losses; in AE_TRAIN then the gradients, from the losses back, and the optimiser's state.
   Computes n samples of the inputs anew (those of a step that failed are still there), operation
   by operation, and so finds where a NaN begins, not where a loss shows it. Only the values of
   tensors change; in AE_TRAIN it borrows ae_snapshot_bytes from the arena.
   Errors: AE_E_NUMERIC when there is one: *found (may be NULL) and ae_error say where; AE_E_MEMORY;
   those of ae_forward. */
AE_API ae_status ae_find_nonfinite(ae_model *m, int n, ae_nonfinite *found);

#ifndef AE_NO_TRAIN
typedef enum ae_check_verdict { /* from good to bad                                             */
    AE_CHECK_RIGHT,
    AE_CHECK_SKIPPED,           /* it leads through ae_vq, whose gradient is no derivative      */
    AE_CHECK_ZERO,              /* gradient and differences are 0: nothing was tested           */
    AE_CHECK_UNCLEAR,           /* rounding is as large as the gradient (as in a bias before
                                   batch_norm, which takes it out again)                        */
    AE_CHECK_WRONG
} ae_check_verdict;

typedef struct ae_check {       /* of one parameter                                             */
    const char *name;           /* "linear1.weight"                                             */
    size_t elements;
    int right, wrong, unclear;  /* of those tried one by one                                    */
    size_t index;               /* the worst of these: its gradient by ae_backward, ...         */
    double analytic, numeric;   /* ... and by differences                                       */
    double error;               /* their distance over the largest of both and of the root mean
                                   square of this parameter's gradient                          */
    double slope, numeric_slope;    /* of the loss along a direction that all take part in      */
    ae_check_verdict verdict;
} ae_check;

typedef struct ae_check_options {   /* {0} = the usual                                          */
    float tolerance;            /* the error that is still right; 0 = 0.01                      */
    float step;                 /* no step moves a unit by more than twice this; 0 = 0.25       */
    int samples;                /* elements of each parameter tried one by one: the largest, the
                                   first, the last, random ones; 0 = 8; < 0: all                */
    void (*each)(void *user, const ae_check *check);    /* called for every parameter           */
    void *user;
} ae_check_options;

/* Is ae_backward the derivative of the minimised sum, for n samples of the inputs as they are set?
   Compares it with central differences at two steps (Richardson extrapolation): for a parameter as
   a whole, along a random direction that leans to the gradient, and for some elements alone.
   No kink is stepped over: which units of a relu are on and what max_pool2d and top_k choose is
   held; noise draws the same each time, running statistics stay. Other corners (|x| of losses) and
   rounding make smaller steps necessary; what they hide is unclear, not wrong.
   Expect: losses are floats, so a difference is known to about 2e-7 loss / step; a direction agrees
   to 0.1 %, and so does an element whose gradient is above 1e-3 of the loss. Few samples (2 to 8)
   do. A gradient of values needs no check of its own: it passes on to the parameters before it.
   options may be NULL; *worst (or NULL): the worst parameter; of wrong ones the last, since a wrong
   backward pass spoils all before it. Borrows ae_snapshot_bytes and a byte for each value of a relu
   from the arena; all but values of tensors is then as before, to the bit.
   Errors: AE_E_GRADIENT when a parameter is wrong, or none could be tested (all gradients are 0);
   AE_E_MEMORY; AE_E_ARG (options); those of ae_forward. */
AE_API ae_status ae_check_gradients(ae_model *m, int n, const ae_check_options *options,
                                    ae_check *worst);

typedef struct ae_diagnosis {   /* of one tensor, and of the weights of its layer               */
    const char *name;
    float low, high;            /* range of its values; 0 and 0 where another wrote over them   */
    int units, dead;            /* of a relu: its channels, and those never above 0             */
    double saturated;           /* of a sigmoid or tanh: share of values where its slope is below
                                   a fifth of the greatest: outside 0.05 ... 0.95, +- 0.9       */
    double weight, gradient;    /* 2-norms of the weights and of their gradient, or 0, ...      */
    double update;              /* ... and of what the next step would add to the weights       */
    const char *advice;         /* a sentence, or "" where all is well; valid during the call   */
} ae_diagnosis;

/* Why does it not learn? Looks at all of d (some hundred samples will do: ae_dataset_head) in
   training mode, and at the step that o would take on the first batch. Calls each(user, ...), if
   not NULL, for every tensor, and has advice for
     an input        beyond +-16: first weights are made for about 1; or constant
     a relu          with more than 2 dead units in 5: a dense one may well have 1 in 4
     a hidden sigmoid or tanh     with more than half its values saturated (an output may)
     a loss          whose target goes beyond what the activation behind its prediction can give
     a layer         without a gradient; or when the step is above 0.1 of the norm of its weights,
                     which forgets what they were, or below 1e-6, where floats hardly change
   Borrows ae_snapshot_bytes and less than 100 bytes a tensor or channel from the arena; all but
   values of tensors is then as before.
   Errors: AE_W_TRAINING when there is advice: ae_error has the first; AE_E_MEMORY; those of
   ae_train_step. */
AE_API ae_status ae_diagnose(ae_model *m, const ae_dataset *d, const ae_optim *o,
                             void (*each)(void *user, const ae_diagnosis *r), void *user);

/* Can it learn a few samples by heart? Takes `steps` steps (0 = 500) on the first batch of d, then
   undoes them. Call it before training, with a handful of samples: ae_dataset_head(&d, 8).
   *ratio (or NULL): loss after over loss before, both above the least that a BCE can reach with
   these targets, their entropy. Below 0.1 is well; what cannot vanish (KL, noise, penalties) holds
   it up. A loss that begins below 0 has ratio 0 if it fell, else 1.
   Borrows ae_snapshot_bytes from the arena.   Errors: AE_W_TRAINING when the ratio is above 0.1
   (ae_error advises), AE_E_NUMERIC when it diverged, AE_E_MEMORY, those of ae_train_step. */
AE_API ae_status ae_overfit_test(ae_model *m, const ae_dataset *d, const ae_optim *o, int steps,
                                 double *ratio);
#endif

#ifdef __cplusplus
}
#endif

#endif /* AE_H_INCLUDED */

/* Stop here if you only want the API: what follows is the implementation. */

#if defined(__INTELLISENSE__) || defined(__JETBRAINS_IDE__)
#define AE_IMPLEMENTATION   /* so that an editor shows the code below as live */
#endif

#if defined(AE_IMPLEMENTATION) && !defined(AE_IMPLEMENTATION_ONCE)
#define AE_IMPLEMENTATION_ONCE
#define AE__IMPLEMENT       /* this inclusion compiles the code */

#include <math.h>   /* sqrt, exp, log, ... */
#include <stdarg.h> /* the arguments of error sentences */
#include <string.h> /* memcpy, memset, strcmp */
#ifndef AE_NO_STDIO
#include <stdio.h>  /* fopen, fread, fwrite, remove, rename */
#ifdef AE_USE_ZLIB
#include <zlib.h>   /* gzopen, gzread: plain and .gz files alike */
#endif
#endif
#ifdef AE_USE_CBLAS
#include <cblas.h>  /* cblas_sgemm */
#endif
#ifdef AE_USE_CUDA
#define AE__CUDA_LANGUAGE
#include "ae_cuda.cuh" /* __device__, cudaMalloc, ... */
#undef AE__CUDA_LANGUAGE
#define AE__HD __host__ __device__
#else
#define AE__HD              /* a function that a GPU's kernels call too */
#endif

#if defined(AE_MALLOC) != defined(AE_FREE)
#error "define both AE_MALLOC and AE_FREE, or neither"
#endif
#if !defined(AE_MALLOC) && !defined(AE_NO_MALLOC)
#include <stdlib.h> /* malloc, free */
#define AE_MALLOC(bytes) malloc(bytes)
#define AE_FREE(pointer) free(pointer)
#endif

// The user's own -Ofast stays outside: the code below counts on NaN, infinity and real division.
#ifdef __FAST_MATH__
#if defined(__clang__)
#pragma float_control(precise, on, push)
#if defined(__x86_64__) || defined(__i386__)
#pragma float_control(except, on)   /* or roots are estimates all the same */
#endif
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC optimize("no-fast-math")
#endif
#endif

/* ---------------------------------------------------------------------------
   >>status   what a function that can fail returns                           */

AE_API const char *ae_status_string(ae_status status)
{
    switch (status) {
#define AE__CASE(name, text) case name: return text;
    AE_STATUS_LIST(AE__CASE)
#undef AE__CASE
    default: return "unknown status";
    }
}

/* What sizes are computed with: what does not fit a size_t becomes SIZE_MAX and stays so. */
static size_t ae__sat_add(size_t a, size_t b)
{
    return a > SIZE_MAX - b ? SIZE_MAX : a + b;
}

static size_t ae__sat_mul(size_t a, size_t b)
{
    return b != 0 && a > SIZE_MAX / b ? SIZE_MAX : a * b;
}

static size_t ae__round_up(size_t a, size_t unit)
{
    return a > SIZE_MAX - (unit - 1) ? SIZE_MAX : (a + unit - 1) / unit * unit;
}

static size_t ae__min(size_t a, size_t b)
{
    return a < b ? a : b;
}

// Which of these x is, that is not finite: told from the bits, so that -Ofast cannot argue it away.
static const char *ae__not_a_number(float x, const char *nan, const char *high, const char *low)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u & 0x7fffffu ? nan : u >> 31 ? low : high;
}

// Neither infinite nor NaN: from the bits, too.
static int ae__finite(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return (u & 0x7f800000u) != 0x7f800000u;
}

static int ae__finite_double(double x)
{
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return (u & 0x7ff0000000000000u) != 0x7ff0000000000000u;
}

// The first of n values that is not finite, or n.
static size_t ae__first_not_finite(const float *x, size_t n)
{
    size_t i = 0;
    while (i < n && ae__finite(x[i]))
        i++;
    return i;
}

/* ---------------------------------------------------------------------------
   Error sentences: our own small formatter, since the library prints nothing
   and must not depend on a locale.
     %s const char *   %d int   %z size_t   %g double, 6 digits   %%           */

typedef struct ae__text {
    char *at, *end;             /* next character; where the terminating 0 must fit             */
} ae__text;

static void ae__put(ae__text *t, const char *s)
{
    while (*s && t->at < t->end)
        *t->at++ = *s++;
    *t->at = 0;
}

static void ae__put_size(ae__text *t, size_t value)
{
    char digits[24];
    int i = (int)sizeof digits - 1;
    digits[i] = 0;
    do {
        digits[--i] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    ae__put(t, digits + i);
}

static void ae__put_int(ae__text *t, int value)
{
    if (value < 0)
        ae__put(t, "-");
    ae__put_size(t, value < 0 ? (size_t)0 - (size_t)value : (size_t)value);
}

static void ae__put_double(ae__text *t, double x)
{
    if (!ae__finite_double(x)) {
        ae__put(t, "not finite");
        return;
    }
    if (x < 0) {
        ae__put(t, "-");
        x = -x;
    }
    int exponent = 0;
    if (x != 0 && (x >= 1e6 || x < 1e-4)) {
        for (; x >= 10; x /= 10)
            exponent++;
        for (; x < 1; x *= 10)
            exponent--;
    }
    size_t unit = 1;            // six significant digits: 1e6 > x * unit >= 1e5
    while (x != 0 && x * (double)unit < 99999.95 && unit < 1000000000)
        unit *= 10;
    size_t digits = (size_t)(x * (double)unit + 0.5);
    if (exponent && digits >= 10 * unit) {      // 9.999999 rounds up to the next power
        digits /= 10;
        exponent++;
    }
    ae__put_size(t, digits / unit);
    digits %= unit;
    if (digits) {
        ae__put(t, ".");
        while (digits) {
            unit /= 10;
            ae__put_size(t, digits / unit);
            digits %= unit;
        }
    }
    if (exponent) {
        ae__put(t, "e");
        ae__put_int(t, exponent);
    }
}

static void ae__format_list(char *dst, size_t capacity, const char *format, va_list args)
{
    ae__text t;
    t.at = dst;
    t.end = dst + capacity - 1;
    *dst = 0;
    for (; *format; format++) {
        char one[2] = {*format, 0};
        if (*format != '%') {
            ae__put(&t, one);
            continue;
        }
        switch (*++format) {
        case 's': ae__put(&t, va_arg(args, const char *)); break;
        case 'd': ae__put_int(&t, va_arg(args, int)); break;
        case 'z': ae__put_size(&t, va_arg(args, size_t)); break;
        case 'g': ae__put_double(&t, va_arg(args, double)); break;
        default:  ae__put(&t, "%"); break;
        }
    }
}

static void ae__format(char *dst, size_t capacity, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    ae__format_list(dst, capacity, format, args);
    va_end(args);
}

// Keeps the sentence in the arena and hands the status through: return ae__fail(arena, ...);
static ae_status ae__fail(ae_arena *arena, ae_status status, const char *format, ...)
{
    va_list args;
    if (arena == NULL)
        return status;
    va_start(args, format);
    ae__format_list(arena->error, sizeof arena->error, format, args);
    va_end(args);
    return status;
}

/* ---------------------------------------------------------------------------
   >>platform   which instructions, which threads                             */

#if defined(_MSC_VER) && !defined(__clang__)
#define AE__INLINE static __forceinline
#elif defined(__GNUC__) || defined(__clang__)
#define AE__INLINE static inline __attribute__((always_inline, unused))
#else
#define AE__INLINE static inline
#endif

// Which instruction sets this compiler can be asked for. The baseline is what it assumes anyway.
#if !defined(AE_NO_SIMD) && !defined(__TINYC__) && \
    (defined(__GNUC__) || defined(__clang__) || defined(_MSC_VER))
#if (defined(__x86_64__) || defined(__i386__)) && defined(__SSE2__)
#define AE__X86
#elif defined(_M_X64) || (defined(_M_IX86_FP) && _M_IX86_FP >= 2)
#define AE__X86
#elif defined(__aarch64__) || defined(_M_ARM64)
#define AE__NEON
#endif
#endif

#ifdef AE__X86
#include <immintrin.h> /* SSE2 ... AVX-512 */
#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h> /* __cpuid, _xgetbv */
#else
#include <cpuid.h> /* __get_cpuid_count */
#endif

// Registers eax ... edx of CPUID leaf, subleaf; zeros where the processor has no such leaf.
static void ae__cpuid(uint32_t r[4], uint32_t leaf, uint32_t subleaf)
{
    memset(r, 0, 4 * sizeof r[0]);
#if defined(_MSC_VER) && !defined(__clang__)
    int v[4];
    __cpuid(v, 0);
    if ((uint32_t)v[0] < leaf) return;
    __cpuidex(v, (int)leaf, (int)subleaf);
    for (int i = 0; i < 4; i++) r[i] = (uint32_t)v[i];
#else
    if (!__get_cpuid_count(leaf, subleaf, &r[0], &r[1], &r[2], &r[3])) {
        memset(r, 0, 4 * sizeof r[0]);
    }
#endif
}

// Which registers the operating system saves: call only where CPUID shows OSXSAVE.
static uint32_t ae__xgetbv(void)
{
#if defined(_MSC_VER) && !defined(__clang__)
    return (uint32_t)_xgetbv(0);
#else
    uint32_t low;
    __asm__ volatile("xgetbv" : "=a"(low) : "c"(0) : "edx");
    return low;
#endif
}
#endif

// The best instruction set that this processor and its operating system run.
static ae_isa ae__cpu(void)
{
#if defined(AE__X86)
    const uint32_t fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28;        // leaf 1, ecx
    const uint32_t f16c = 1u << 29, all = fma | osxsave | avx | f16c;
    const uint32_t avx2 = 1u << 5;                                            // leaf 7, ebx
    const uint32_t avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;        // F, DQ, BW, VL
    const uint32_t ymm = 0x06u, zmm = 0xe6u;                                  // xgetbv
    uint32_t one[4], seven[4];
    ae__cpuid(one, 1, 0);
    ae__cpuid(seven, 7, 0);
    if ((one[2] & all) != all) return AE_ISA_SSE2;
    const uint32_t saved = ae__xgetbv();
    if ((saved & ymm) != ymm || !(seven[1] & avx2)) return AE_ISA_SSE2;
    if ((saved & zmm) != zmm || (seven[1] & avx512) != avx512) return AE_ISA_AVX2;
    return AE_ISA_AVX512;
#elif defined(AE__NEON)
    return AE_ISA_NEON;
#else
    return AE_ISA_SCALAR;
#endif
}

#if defined(_OPENMP) && !defined(AE_NO_THREADS)
#define AE__OPENMP
#endif

/* Calls job(arg, 0) ... job(arg, tasks-1) and returns when all are done. Tasks must be independent:
   order and threads are the caller's, OpenMP's or none. */
static AE__UNUSED void ae__parallel(const ae_exec *e, int tasks, ae_job *job, void *arg)
{
    int task;   // declared here because MSVC's OpenMP 2.0 wants it so
    if (tasks <= 1) {
        if (tasks == 1) job(arg, 0);
        return;
    }
#ifndef AE_NO_THREADS
    if (e && e->threads > 1 && e->parallel_for) {
        e->parallel_for(e->user, tasks, job, arg);
        return;
    }
#endif
#ifdef AE__OPENMP
    const int threads = e && e->threads > 1 ? e->threads : 1;
    if (threads > 1) {
#pragma omp parallel for schedule(static) num_threads(threads)
        for (task = 0; task < tasks; task++) job(arg, task);
        return;
    }
#endif
    (void)e;
    for (task = 0; task < tasks; task++) job(arg, task);
}


/* ---------------------------------------------------------------------------
   >>arena   one block of memory, filled from the front                       */

AE_API ae_status ae_arena_init(ae_arena *arena, void *block, size_t bytes)
{
    if (arena == NULL)
        return AE_E_ARG;
    memset(arena, 0, sizeof *arena);
    if (block == NULL || ((uintptr_t)block & (AE_ALIGN - 1)) != 0)
        return ae__fail(arena, AE_E_ARG, "arena: the block is %s",
                        block ? "not aligned to 64 bytes" : "NULL");
    arena->base = arena->next = (unsigned char *)block;
    arena->end = arena->base + bytes;
    return AE_SUCCESS;
}

#ifndef AE_NO_MALLOC
AE_API ae_arena *ae_arena_new(size_t bytes)
{
    // The arena's own struct stands in front of its block, both in one allocation.
    size_t front = ae__round_up(sizeof(ae_arena), AE_ALIGN);
    size_t total = ae__sat_add(bytes, front + AE_ALIGN);
    void *owned = total == SIZE_MAX ? NULL : AE_MALLOC(total);
    if (owned == NULL)
        return NULL;
    unsigned char *at = (unsigned char *)owned;
    at += (AE_ALIGN - ((uintptr_t)at & (AE_ALIGN - 1))) & (AE_ALIGN - 1);
    ae_arena *arena = (ae_arena *)(void *)at;
    ae_arena_init(arena, at + front, bytes);
    arena->owned = owned;
    return arena;
}

AE_API void ae_arena_free(ae_arena *arena)
{
#ifdef AE_USE_CUDA
    if (arena)
        ae__cu_release(&arena->devices, arena->base);
#endif
    if (arena && arena->owned)
        AE_FREE(arena->owned);
}
#endif

AE_API void *ae_alloc(ae_arena *arena, size_t bytes)
{
    size_t rounded = ae__round_up(bytes, AE_ALIGN);     // so that next stays aligned
    if (arena == NULL || bytes > ae_arena_left(arena))
        return NULL;
    void *at = arena->next;
    arena->next += ae__min(rounded, ae_arena_left(arena));
    return memset(at, 0, bytes);
}

AE_API size_t ae_arena_used(const ae_arena *arena)
{
    return arena ? (size_t)(arena->next - arena->base) : 0;
}

AE_API size_t ae_arena_left(const ae_arena *arena)
{
    return arena ? (size_t)(arena->end - arena->next) : 0;
}

AE_API void ae_arena_rewind(ae_arena *arena, size_t mark)
{
    if (arena && mark <= ae_arena_used(arena)) {
        arena->next = arena->base + mark;
#ifdef AE_USE_CUDA
        ae__cu_release(&arena->devices, arena->next);
#endif
    }
}

/* ---------------------------------------------------------------------------
   >>rng   counter-based randomness: a value depends on its place alone       */

static AE__HD void ae__philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0;
        uint64_t b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)b;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

AE_API void ae_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    ae__philox(out, counter, key);
}

// Block number `block` of a sequence: elements 4 block ... 4 block + 3.
static AE__HD void ae__random_block(uint32_t out[4], uint64_t block, ae_random r)
{
    uint32_t counter[4], key[2];
    counter[0] = (uint32_t)block;
    counter[1] = r.stream;
    counter[2] = (uint32_t)r.step;
    counter[3] = (uint32_t)(r.step >> 32) ^ (uint32_t)(block >> 32) * 0x9E3779B9u;
    key[0] = (uint32_t)r.seed;
    key[1] = (uint32_t)(r.seed >> 32);
    ae__philox(out, counter, key);
}

// A Feistel network is a bijection whatever its round function: the halves of the number take
// turns being mixed into each other. Numbers beyond n walk on until they fall inside.
static AE__HD uint64_t ae__permute(uint64_t i, uint64_t n, ae_random r)
{
    uint32_t keys[8];
    int half = 1;
    if (n <= 1)
        return 0;
    while (half < 32 && ((uint64_t)1 << (2 * half)) < n)
        half++;
    uint64_t mask = ((uint64_t)1 << half) - 1;
    ae__random_block(keys, 0, r);
    ae__random_block(keys + 4, 1, r);
    do {
        uint64_t left = i >> half, right = i & mask;
        for (int round = 0; round < 8; round++) {
            uint32_t mixed = ((uint32_t)right ^ keys[round]) * 0x9E3779B1u;
            mixed = (mixed ^ (mixed >> 15)) * 0x85EBCA77u;
            uint64_t next = left ^ ((mixed ^ (mixed >> 13)) & mask);
            left = right;
            right = next;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}

AE_API uint64_t ae_random_permute(uint64_t i, uint64_t n, ae_random r)
{
    return ae__permute(i, n, r);
}

/* ---------------------------------------------------------------------------
   >>kernels   the inner loops, once per instruction set                      */

typedef struct ae__update {     /* one step of an optimiser, defaults filled in                 */
    int kind, nesterov;         /* ae_optim_kind                                                */
    float lr;                   /* Adagrad: already decayed                                     */
    float beta1, beta2, eps, weight_decay, momentum;
    float c1, c2;               /* Adam: 1 / (1 - beta1^t), 1 / (1 - beta2^t)                   */
    int first;                  /* nonzero at t = 1: SGD's momentum starts as the gradient      */
} ae__update;

typedef struct ae__values {     /* what byte i stands for: (i high + i low - mean) / deviation  */
    float high, low, mean, deviation;
} ae__values;

typedef struct ae__spot {      /* where a convolution finds row p of its two factors          */
    ptrdiff_t a, b;
} ae__spot;

enum { AE__DROPOUT, AE__GAUSSIAN, AE__MASKING, AE__SALT_PEPPER, AE__NOISES };

typedef struct ae__noise {      /* what noise does; n, first and piece count draws, of one group
                                   of elements each                                             */
    int kind;                   /* AE__DROPOUT, ...                                             */
    float a;                    /* probability or deviation                                     */
    float low, high;
    float *y, *mask;            /* mask may be NULL                                             */
    const float *x;
    size_t group, first, n, piece;
    ae_random r;
    const struct ae_kernels *kernels;
} ae__noise;

/* Each kernel runs on one thread; callers split the work. y may be an input wherever the sizes are
   the same. What is computed for an element does not depend on where it lies. */
struct ae_kernels {
    const char *name;
    ae_isa isa;
    int mr, nr;                 /* gemm's tile: split m by multiples of mr, n by those of nr / 2 */
    /* c = A B + bias, or c += A B when accumulate.
         c (m,n) rows ldc apart   A(i,p) = a[i*ars + p*acs]   B(p,j) = b[p*brs + j*bcs]
         bias (n) or NULL, ignored when accumulating   scratch: AE__GEMM_MIN floats
       One of ars, acs is 1 and one of brs, bcs; m, n, k >= 1. c must not overlap an input. */
    void (*gemm)(float *c, ptrdiff_t ldc, const float *a, ptrdiff_t ars, ptrdiff_t acs,
                 const float *b, ptrdiff_t brs, ptrdiff_t bcs, const float *bias,
                 int m, int n, int k, int accumulate, float *scratch, size_t scratch_n);
    /* Weights in fewer bytes, halves or (half 0) bytes.  expand: w (n) floats of them; up to
       AE__SMALL elements more are read.  small: y (B,cols) = scale (x (B,D) panel) + bias, panel
       (D,AE__SMALL) small weights, cols <= AE__SMALL; bias or NULL. Any B gives the same bits. */
    void (*expand)(float *w, const void *small, int half, size_t n);
    void (*small)(float *y, int ldy, const float *x, const void *panel, const float *scale,
                  const float *bias, int half, int B, int D, int cols);
    void (*bytes)(float *x, const uint8_t *bytes, const ae__values *v, size_t n);   /* see v    */
    void (*act)(float *y, const float *x, int act, float a, size_t n);
    void (*softmax)(float *y, const float *x, size_t n);            /* of one row               */
    void (*add)(float *y, const float *a, const float *b, size_t n);
    void (*axpy)(float *y, float a, const float *x, size_t n);      /* y += a x                 */
    void (*scale)(float *y, float a, size_t n);                     /* y *= a                   */
    double (*dot)(const float *a, const float *b, size_t n);
    void (*column_sum)(float *y, const float *x, size_t ldx, int rows, int cols);   /* y += ... */
    /* For convolutions: B(p,j) = b[at[p].b + j].  lines: n floats of each of some lines,
       to = start + from, or to += from.  conv: c (m,n) = or += A B, A(i,p) = a[i*ars + at[p].a],
       n a multiple of nr / 2; B is read up to there.                                            */
    void (*lines)(float *to, ptrdiff_t to_pitch, int to_step, const float *from,
                  ptrdiff_t from_pitch, int from_step, int lines, int n, float start, int add);
    void (*conv)(float *c, ptrdiff_t ldc, const float *a, ptrdiff_t ars, const float *b,
                 const ae__spot *at, int m, int n, int k, int add);
    /* Elements 4 block ... of a sequence: uniform, or normal. x (n rounded up to AE__DRAW) */
    void (*random)(float *x, size_t n, uint64_t block, ae_random r, int normal);
    /* What one draw each makes of x. mask may be NULL. */
    void (*noise)(float *y, float *mask, const float *x, const float *draw, const ae__noise *t,
                  size_t n);
    /* Windows of 2 x 2, side by side: y (h,w) is the largest of each, index (or NULL) where; or the
       sum times a. x (2 h or more, W). And each x (h,w) times a to all of a window: y (2 h,2 w). */
    void (*max_pool)(float *y, int32_t *index, const float *x, int h, int w, int W);
    void (*sum_pool)(float *y, const float *x, float a, int h, int w, int W);
    void (*twice)(float *y, const float *x, float a, int h, int w);
    /* For normalisation.  moments: sum[0] += the sum of v = g - shift, sum[1] += that of
       v (x - mean).  affine: y = (x - mean) a + b, + g scale unless g is NULL; y may be x or g.
       The column_... do it for n columns that are each a channel; of rows ld apart. */
    void (*moments)(double sum[2], const float *g, float shift, const float *x, float mean,
                    size_t n);
    void (*affine)(float *y, const float *x, float mean, float a, float b, const float *g,
                   float scale, size_t n);
    void (*column_moments)(double (*sums)[2], const float *g, const float *shift, const float *x,
                           const float *mean, size_t ld, size_t rows, size_t n);
    void (*column_affine)(float *y, const float *x, const float *mean, const float *a,
                          const float *b, const float *g, const float *scale, size_t n);
#ifndef AE_NO_TRAIN
    void (*mul)(float *y, const float *a, const float *b, size_t n);
    void (*act_grad)(float *dx, const float *dy, const float *x, const float *y, int act, float a,
                     size_t n);
    /* Backward of max_pool: in each window of dx (2 h or more, W) dy where index says, else 0.
         dy, index (h,w) */
    void (*max_pool_grad)(float *dx, const float *dy, const int32_t *index, int h, int w, int W);
    /* The sum of the terms. BCE: *bad |= 1 when a target or a probability is outside [0,1]. */
    double (*loss)(const float *y, const float *t, int kind, float a, size_t n, int *bad);
    /* Gradients of the terms times scale, overwritten (=). dy or dt may be NULL. */
    void (*loss_grad)(float *dy, float *dt, const float *y, const float *t, int kind, float a,
                      float scale, size_t n);
    void (*update)(float *w, float *s1, float *s2, const float *g, const ae__update *u, size_t n);
    void (*clamp)(float *x, float limit, size_t n);                 /* into [-limit, limit]     */
    /* c (k,nr) += B small^T over the pixels of a patch, at i*pitch + j of B and i*line + j of each
       plane of small, i < lines, j < width; cols <= nr planes; panel: lines * width * nr floats. */
    void (*conv_weights)(float *c, const float *b, const ae__spot *at, int pitch,
                         const float *small, ptrdiff_t plane, int line, int cols, int lines,
                         int width, int k, float *panel);
    double (*plane_sum)(const float *x, size_t stride, size_t planes, size_t n);
#endif
};

#define AE__GEMM_K 256          /* products summed in one go; such sums are then added up       */
#define AE__GEMM_MIN 8704       /* floats: a panel of B, AE__GEMM_K x 32, and a tile of C       */
#define AE__GEMM_FEW 64         /* rows of A below which B is not worth a copy                  */
#define AE__SMALL 32            /* outputs of a linear layer whose small weights lie together   */
#define AE__SUM_BLOCK 256       /* terms summed in float; such sums are added in double         */
#define AE__DRAW 32             /* elements of a sequence that kernels draw at a time           */

#define AE__PASTE_(a, b) ae__##a##_##b
#define AE__PASTE(a, b) AE__PASTE_(a, b)
#define AE__K(name) AE__PASTE(name, AE__SUFFIX)

// Which lane is which.
static AE__UNUSED const float ae__lanes[16] = {
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
};
static AE__UNUSED const float ae__even[16] = {
    1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0
};

// The loops over a vector, a row, a tile: unrolled, so that their arrays become registers.
#if defined(__clang__)
#define AE__UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__) && __GNUC__ >= 8 && !defined(__CUDACC__)
#define AE__UNROLL _Pragma("GCC unroll 16")
#else
#define AE__UNROLL
#endif

#if defined(__GNUC__) || defined(__clang__)
#define AE__PREFETCH(p) __builtin_prefetch(p)
#else
#define AE__PREFETCH(p) ((void)(p))
#endif

// Where the baseline has a fused multiply-add (-march=native), it is asked for by name: left to
// itself a compiler fuses here and not there, and equal sums would differ in their last bit.
#if defined(__FMA__) || defined(__aarch64__)
#define AE__FUSED
#endif

#if defined(AE__X86) || defined(AE__NEON)
// Four bytes from anywhere.
AE__INLINE int32_t ae__four(const void *p) { int32_t i; memcpy(&i, p, 4); return i; }
#endif

// Makes a product a value of its own: GCC would fuse it with the sum that follows.
#if defined(AE__X86) && defined(__GNUC__)
#define AE__ROUND(v) __asm__("" : "+v"(v))
#elif defined(AE__NEON) && defined(__GNUC__)
#define AE__ROUND(v) __asm__("" : "+w"(v))
#else
#define AE__ROUND(v) (void)(v)
#endif

// Every kind of one of these, for a switch that hands it on as a constant: the loop inside is then
// compiled for each kind, and neither asks which it is nor loads what it does not need.
#define AE__ACTS(X) \
    X(AE_ACT_IDENTITY) X(AE_ACT_RELU) X(AE_ACT_LEAKY_RELU) X(AE_ACT_ELU) X(AE_ACT_GELU) \
    X(AE_ACT_GELU_TANH) X(AE_ACT_SILU) X(AE_ACT_SOFTPLUS) X(AE_ACT_SIGMOID) X(AE_ACT_TANH)
#define AE__LOSSES(X) \
    X(AE_LOSS_MSE) X(AE_LOSS_L1) X(AE_LOSS_HUBER) X(AE_LOSS_SMOOTH_L1) X(AE_LOSS_BCE) \
    X(AE_LOSS_BCE_LOGITS)

// The header includes itself once per instruction set; see "the text of the kernels" below.
#ifndef AE_HEADER_FILENAME
#define AE_HEADER_FILENAME "ae.h"
#endif
#define AE__PASS_SCALAR 1
#define AE__PASS_SSE2 2
#define AE__PASS_NEON 3
#define AE__PASS_AVX2 4
#define AE__PASS_AVX512 5
#define AE__PASS_CUDA 6

// AE__CERTAIN: the kernels that this kind of processor has for certain.
#if defined(AE__NEON)
#define AE__CERTAIN ae__table_neon
#elif defined(AE__X86)
#define AE__CERTAIN ae__table_sse2
#else
#define AE__CERTAIN ae__table_scalar
#define AE_SCALAR
#endif

#ifdef AE_SCALAR
#define AE__PASS AE__PASS_SCALAR
#include AE_HEADER_FILENAME
#undef AE__PASS
#endif

#ifdef AE__NEON
#include <arm_neon.h> /* part of every aarch64 */
#define AE__PASS AE__PASS_NEON
#include AE_HEADER_FILENAME
#undef AE__PASS
#endif

#ifdef AE__X86
#define AE__PASS AE__PASS_SSE2
#include AE_HEADER_FILENAME
#undef AE__PASS

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
#define AE__PASS AE__PASS_AVX2
#include AE_HEADER_FILENAME
#undef AE__PASS
#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,fma"))), \
                             apply_to = function)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,fma")
#pragma GCC diagnostic push /* GCC 12's own _mm512_max_ps and others set it off (its bug 105593) */
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#define AE__PASS AE__PASS_AVX512
#include AE_HEADER_FILENAME
#undef AE__PASS
#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC diagnostic pop
#pragma GCC pop_options
#endif
#endif

#ifdef AE_USE_CUDA
#define AE__PASS AE__PASS_CUDA
#include AE_HEADER_FILENAME
#undef AE__PASS
#endif


#endif /* AE_IMPLEMENTATION */
#else /* AE__PASS */
/* ---------------------------------------------------------------------------
   The text of the kernels, read once per instruction set. It is written over a vector AE__V of
   AE__VN floats, a mask AE__M and integers AE__I of the same width; each pass says what they are.
   AE__MR rows and AE__NV vectors make the tile of the matrix product: as many sums as fit into the
   registers with AE__NV + 1 to spare. */

#if AE__PASS == AE__PASS_CUDA
#define AE__ELEMENTS    /* only what is done to one element: the GPU has loops of its own */
#define AE__TEXT static __device__ __forceinline__
#define AE__LOOP static __device__ __forceinline__
#else
#define AE__TEXT AE__INLINE
#define AE__LOOP static
#endif

#if AE__PASS == AE__PASS_SCALAR || AE__PASS == AE__PASS_CUDA
#if AE__PASS == AE__PASS_SCALAR
#define AE__SUFFIX scalar
#define AE__NAME "scalar"
#define AE__ISA AE_ISA_SCALAR
#define AE__ADD(a, b) ((a) + (b))
#define AE__SUB(a, b) ((a) - (b))
#define AE__MUL(a, b) ((a) * (b))
#ifdef AE__FUSED
#define AE__FMA(a, b, c) fmaf(a, b, c)
#else
#define AE__FMA(a, b, c) ((a) * (b) + (c))
#endif
#else   // one element, one thread of a GPU; nothing is fused that does not say so
#define AE__SUFFIX cuda
#define AE__ADD(a, b) __fadd_rn(a, b)
#define AE__SUB(a, b) __fsub_rn(a, b)
#define AE__MUL(a, b) __fmul_rn(a, b)
#define AE__FMA(a, b, c) fmaf(a, b, c)
#undef AE__ROUND
#define AE__ROUND(v) (void)(v)
#define AE__LOADK(p, k) AE__LOADU(p)
#define AE__STOREK(p, v, k) AE__STOREU(p, v)
#endif
#define AE__VN 1
#define AE__MR 4
#define AE__NV 8
#define AE__V float
#define AE__M int
#define AE__I int32_t
#define AE__SET1(x) (x)
#define AE__LOADU(p) (*(p))
#define AE__STOREU(p, v) (*(p) = (v))
#define AE__DIV(a, b) ((a) / (b))
#define AE__MIN(a, b) ((a) < (b) ? (a) : (b))
#define AE__MAX(a, b) ((a) > (b) ? (a) : (b))
#define AE__ABS(a) fabsf(a)
#define AE__SQRT(a) sqrtf(a)
#define AE__GT(a, b) ((a) > (b))
#define AE__GE(a, b) ((a) >= (b))
#define AE__SELECT(m, a, b) ((m) ? (a) : (b))
#define AE__BITS(v) AE__K(bits)(v)
#define AE__FLOAT(i) AE__K(float)(i)
#define AE__ISET1(x) (x)
#define AE__IADD(a, b) ((int32_t)((uint32_t)(a) + (uint32_t)(b)))
#define AE__ISUB(a, b) ((int32_t)((uint32_t)(a) - (uint32_t)(b)))
#define AE__IAND(a, b) ((a) & (b))
#define AE__IXOR(a, b) ((a) ^ (b))
#define AE__SHL(i, n) ((int32_t)((uint32_t)(i) << (n)))
#define AE__SHR(i, n) ((int32_t)((uint32_t)(i) >> (n)))
#define AE__SAR(i, n) ((i) >> (n))
#define AE__EVEN(a, b) (a)
#define AE__ODD(a, b) (b)
#define AE__TWICE_LOW(v) (v)
#define AE__TWICE_HIGH(v) (v)
#define AE__TO_INT(v) AE__K(to_int)(v)
#define AE__FROM_INT(i) ((float)(i))
#define AE__BYTES(p) ((float)*(p))
#define AE__HALVES_HIGH(p) ((int32_t)((uint32_t)*(p) << 16))
AE__TEXT int32_t AE__K(bits)(float x) { int32_t i; memcpy(&i, &x, 4); return i; }
AE__TEXT float AE__K(float)(int32_t i) { float x; memcpy(&x, &i, 4); return x; }
// To the nearest; 0 for what does not fit, NaN included.
AE__TEXT int32_t AE__K(to_int)(float x)
{
    if (!(x > -1e9f && x < 1e9f)) return 0;
    return (int32_t)(x + (x < 0.0f ? -0.5f : 0.5f));
}

#elif AE__PASS == AE__PASS_SSE2
#define AE__SUFFIX sse2
#define AE__NAME "sse2"
#define AE__ISA AE_ISA_SSE2
#define AE__VN 4
#define AE__MR 2
#define AE__NV 4
#define AE__V __m128
#define AE__M __m128
#define AE__I __m128i
#define AE__SET1(x) _mm_set1_ps(x)
#define AE__LOADU(p) _mm_loadu_ps(p)
#define AE__STOREU(p, v) _mm_storeu_ps(p, v)
#define AE__ADD(a, b) _mm_add_ps(a, b)
#define AE__SUB(a, b) _mm_sub_ps(a, b)
#define AE__MUL(a, b) _mm_mul_ps(a, b)
#define AE__DIV(a, b) _mm_div_ps(a, b)
#ifdef AE__FUSED
#define AE__FMA(a, b, c) _mm_fmadd_ps(a, b, c)
#else
#define AE__FMA(a, b, c) _mm_add_ps(_mm_mul_ps(a, b), c)
#endif
#define AE__MIN(a, b) _mm_min_ps(a, b)
#define AE__MAX(a, b) _mm_max_ps(a, b)
#define AE__ABS(a) _mm_and_ps(a, _mm_castsi128_ps(_mm_set1_epi32(0x7fffffff)))
#define AE__SQRT(a) _mm_sqrt_ps(a)
#define AE__GT(a, b) _mm_cmpgt_ps(a, b)
#define AE__GE(a, b) _mm_cmpge_ps(a, b)
#define AE__SELECT(m, a, b) _mm_or_ps(_mm_and_ps(m, a), _mm_andnot_ps(m, b))
#define AE__BITS(v) _mm_castps_si128(v)
#define AE__FLOAT(i) _mm_castsi128_ps(i)
#define AE__ISET1(x) _mm_set1_epi32(x)
#define AE__IADD(a, b) _mm_add_epi32(a, b)
#define AE__ISUB(a, b) _mm_sub_epi32(a, b)
#define AE__ILOAD(p) _mm_loadu_si128((const __m128i *)(p))
#define AE__IAND(a, b) _mm_and_si128(a, b)
#define AE__IXOR(a, b) _mm_xor_si128(a, b)
#define AE__IXOR3(a, b, c) _mm_xor_si128(_mm_xor_si128(a, b), c)
#define AE__SHL(i, n) _mm_slli_epi32(i, n)
#define AE__SHR(i, n) _mm_srli_epi32(i, n)
#define AE__SAR(i, n) _mm_srai_epi32(i, n)
#define AE__ADD64(a, b) _mm_add_epi64(a, b)
#define AE__MUL64(a, b) _mm_mul_epu32(a, b)
#define AE__HIGH64(i) _mm_srli_epi64(i, 32)
#define AE__MERGE64(a, b) \
    _mm_unpacklo_epi32(_mm_shuffle_epi32(a, 0x08), _mm_shuffle_epi32(b, 0x08))
#define AE__EVEN(a, b) _mm_shuffle_ps(a, b, 0x88)
#define AE__ODD(a, b) _mm_shuffle_ps(a, b, 0xdd)
#define AE__TWICE_LOW(v) _mm_unpacklo_ps(v, v)
#define AE__TWICE_HIGH(v) _mm_unpackhi_ps(v, v)
#define AE__TO_INT(v) _mm_cvtps_epi32(v)
#define AE__FROM_INT(i) _mm_cvtepi32_ps(i)
#define AE__ZIP16(i) _mm_unpacklo_epi16(_mm_setzero_si128(), i)
#define AE__ZIP8(i) _mm_unpacklo_epi8(_mm_setzero_si128(), i)
#define AE__BYTES(p) \
    _mm_cvtepi32_ps(_mm_srai_epi32(AE__ZIP16(AE__ZIP8(_mm_cvtsi32_si128(ae__four(p)))), 24))
#define AE__HALVES_HIGH(p) AE__ZIP16(_mm_loadl_epi64((const __m128i *)(p)))
#define AE__LOAD4(p, s) _mm_loadu_ps(p)
#define AE__ZIP_LOW(a, b) _mm_unpacklo_ps(a, b)
#define AE__ZIP_HIGH(a, b) _mm_unpackhi_ps(a, b)
#define AE__PAIR_LOW(a, b) _mm_shuffle_ps(a, b, 0x44)
#define AE__PAIR_HIGH(a, b) _mm_shuffle_ps(a, b, 0xee)

#elif AE__PASS == AE__PASS_NEON
#define AE__SUFFIX neon
#define AE__NAME "neon"
#define AE__ISA AE_ISA_NEON
#define AE__VN 4
#define AE__MR 4
#define AE__NV 4
#define AE__V float32x4_t
#define AE__M uint32x4_t
#define AE__I int32x4_t
#define AE__SET1(x) vdupq_n_f32(x)
#define AE__LOADU(p) vld1q_f32(p)
#define AE__STOREU(p, v) vst1q_f32(p, v)
#define AE__ADD(a, b) vaddq_f32(a, b)
#define AE__SUB(a, b) vsubq_f32(a, b)
#define AE__MUL(a, b) vmulq_f32(a, b)
#define AE__DIV(a, b) vdivq_f32(a, b)
#define AE__FMA(a, b, c) vfmaq_f32(c, a, b)
#define AE__MIN(a, b) vminq_f32(a, b)
#define AE__MAX(a, b) vmaxq_f32(a, b)
#define AE__ABS(a) vabsq_f32(a)
#define AE__SQRT(a) vsqrtq_f32(a)
#define AE__GT(a, b) vcgtq_f32(a, b)
#define AE__GE(a, b) vcgeq_f32(a, b)
#define AE__SELECT(m, a, b) vbslq_f32(m, a, b)
#define AE__BITS(v) vreinterpretq_s32_f32(v)
#define AE__FLOAT(i) vreinterpretq_f32_s32(i)
#define AE__ISET1(x) vdupq_n_s32(x)
#define AE__IADD(a, b) vaddq_s32(a, b)
#define AE__ISUB(a, b) vsubq_s32(a, b)
#define AE__ILOAD(p) vreinterpretq_s32_u64(vld1q_u64(p))
#define AE__IAND(a, b) vandq_s32(a, b)
#define AE__IXOR(a, b) veorq_s32(a, b)
#define AE__IXOR3(a, b, c) veorq_s32(veorq_s32(a, b), c)
#define AE__SHL(i, n) vshlq_n_s32(i, n)
#define AE__SHR(i, n) vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(i), n))
#define AE__SAR(i, n) vshrq_n_s32(i, n)
#define AE__ADD64(a, b) \
    vreinterpretq_s32_s64(vaddq_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)))
#define AE__EVEN64(i) vmovn_u64(vreinterpretq_u64_s32(i))
#define AE__MUL64(a, b) vreinterpretq_s32_u64(vmull_u32(AE__EVEN64(a), AE__EVEN64(b)))
#define AE__HIGH64(i) vreinterpretq_s32_u64(vshrq_n_u64(vreinterpretq_u64_s32(i), 32))
#define AE__MERGE64(a, b) vtrn1q_s32(a, b)
#define AE__EVEN(a, b) vuzp1q_f32(a, b)
#define AE__ODD(a, b) vuzp2q_f32(a, b)
#define AE__TWICE_LOW(v) vzip1q_f32(v, v)
#define AE__TWICE_HIGH(v) vzip2q_f32(v, v)
#define AE__TO_INT(v) vcvtnq_s32_f32(v)
#define AE__FROM_INT(i) vcvtq_f32_s32(i)
#define AE__BYTES(p) vcvtq_f32_s32(vmovl_s16(vget_low_s16( \
    vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(ae__four(p)))))))
#define AE__HALVES(p) vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)))
#define AE__LOAD4(p, s) vld1q_f32(p)
#define AE__ZIP_LOW(a, b) vzip1q_f32(a, b)
#define AE__ZIP_HIGH(a, b) vzip2q_f32(a, b)
#define AE__PAIR_LOW(a, b) vcombine_f32(vget_low_f32(a), vget_low_f32(b))
#define AE__PAIR_HIGH(a, b) vcombine_f32(vget_high_f32(a), vget_high_f32(b))

#elif AE__PASS == AE__PASS_AVX2
#define AE__SUFFIX avx2
#define AE__NAME "avx2"
#define AE__ISA AE_ISA_AVX2
#define AE__VN 8
#define AE__MR 6
#define AE__NV 2
#define AE__V __m256
#define AE__M __m256
#define AE__I __m256i
#define AE__SET1(x) _mm256_set1_ps(x)
#define AE__LOADU(p) _mm256_loadu_ps(p)
#define AE__STOREU(p, v) _mm256_storeu_ps(p, v)
#define AE__LOADM(p, m) _mm256_maskload_ps(p, _mm256_castps_si256(m))
#define AE__STOREM(p, v, m) _mm256_maskstore_ps(p, _mm256_castps_si256(m), v)
#define AE__ADD(a, b) _mm256_add_ps(a, b)
#define AE__SUB(a, b) _mm256_sub_ps(a, b)
#define AE__MUL(a, b) _mm256_mul_ps(a, b)
#define AE__DIV(a, b) _mm256_div_ps(a, b)
#define AE__FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define AE__MIN(a, b) _mm256_min_ps(a, b)
#define AE__MAX(a, b) _mm256_max_ps(a, b)
#define AE__ABS(a) _mm256_and_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff)))
#define AE__SQRT(a) _mm256_sqrt_ps(a)
#define AE__GT(a, b) _mm256_cmp_ps(a, b, _CMP_GT_OQ)
#define AE__GE(a, b) _mm256_cmp_ps(a, b, _CMP_GE_OQ)
#define AE__SELECT(m, a, b) _mm256_blendv_ps(b, a, m)
#define AE__BITS(v) _mm256_castps_si256(v)
#define AE__FLOAT(i) _mm256_castsi256_ps(i)
#define AE__ISET1(x) _mm256_set1_epi32(x)
#define AE__IADD(a, b) _mm256_add_epi32(a, b)
#define AE__ISUB(a, b) _mm256_sub_epi32(a, b)
#define AE__ILOAD(p) _mm256_loadu_si256((const __m256i *)(p))
#define AE__IAND(a, b) _mm256_and_si256(a, b)
#define AE__IXOR(a, b) _mm256_xor_si256(a, b)
#define AE__IXOR3(a, b, c) _mm256_xor_si256(_mm256_xor_si256(a, b), c)
#define AE__SHL(i, n) _mm256_slli_epi32(i, n)
#define AE__SHR(i, n) _mm256_srli_epi32(i, n)
#define AE__SAR(i, n) _mm256_srai_epi32(i, n)
#define AE__ADD64(a, b) _mm256_add_epi64(a, b)
#define AE__MUL64(a, b) _mm256_mul_epu32(a, b)
#define AE__HIGH64(i) _mm256_srli_epi64(i, 32)
#define AE__MERGE64(a, b) _mm256_blend_epi32(a, _mm256_slli_epi64(b, 32), 0xaa)
#define AE__QUARTERS(v) \
    _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(v), 0xd8))     /* 0, 2, 1, 3 */
#define AE__EVEN(a, b) AE__QUARTERS(_mm256_shuffle_ps(a, b, 0x88))
#define AE__ODD(a, b) AE__QUARTERS(_mm256_shuffle_ps(a, b, 0xdd))
#define AE__TWICE_LOW(v) _mm256_permutevar8x32_ps(v, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3))
#define AE__TWICE_HIGH(v) _mm256_permutevar8x32_ps(v, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7))
#define AE__TO_INT(v) _mm256_cvtps_epi32(v)
#define AE__FROM_INT(i) _mm256_cvtepi32_ps(i)
#define AE__BYTES(p) \
    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p))))
#define AE__HALVES(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p)))
#define AE__LOAD4(p, s) \
    _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps((p) + (s)), 1)
#define AE__ZIP_LOW(a, b) _mm256_unpacklo_ps(a, b)
#define AE__ZIP_HIGH(a, b) _mm256_unpackhi_ps(a, b)
#define AE__PAIR_LOW(a, b) _mm256_shuffle_ps(a, b, 0x44)
#define AE__PAIR_HIGH(a, b) _mm256_shuffle_ps(a, b, 0xee)

#elif AE__PASS == AE__PASS_AVX512
#define AE__SUFFIX avx512
#define AE__NAME "avx512"
#define AE__ISA AE_ISA_AVX512
#define AE__VN 16
#define AE__MR 12
#define AE__NV 2
#define AE__V __m512
#define AE__M __mmask16
#define AE__I __m512i
#define AE__SET1(x) _mm512_set1_ps(x)
#define AE__LOADU(p) _mm512_loadu_ps(p)
#define AE__STOREU(p, v) _mm512_storeu_ps(p, v)
#define AE__LOADM(p, m) _mm512_maskz_loadu_ps(m, p)
#define AE__STOREM(p, v, m) _mm512_mask_storeu_ps(p, m, v)
#define AE__ADD(a, b) _mm512_add_ps(a, b)
#define AE__SUB(a, b) _mm512_sub_ps(a, b)
#define AE__MUL(a, b) _mm512_mul_ps(a, b)
#define AE__DIV(a, b) _mm512_div_ps(a, b)
#define AE__FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define AE__MIN(a, b) _mm512_min_ps(a, b)
#define AE__MAX(a, b) _mm512_max_ps(a, b)
#define AE__ABS(a) _mm512_and_ps(a, _mm512_castsi512_ps(_mm512_set1_epi32(0x7fffffff)))
#define AE__SQRT(a) _mm512_sqrt_ps(a)
#define AE__GT(a, b) _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ)
#define AE__GE(a, b) _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ)
#define AE__SELECT(m, a, b) _mm512_mask_blend_ps(m, b, a)
#define AE__BITS(v) _mm512_castps_si512(v)
#define AE__FLOAT(i) _mm512_castsi512_ps(i)
#define AE__ISET1(x) _mm512_set1_epi32(x)
#define AE__IADD(a, b) _mm512_add_epi32(a, b)
#define AE__ISUB(a, b) _mm512_sub_epi32(a, b)
#define AE__ILOAD(p) _mm512_loadu_si512(p)
#define AE__IAND(a, b) _mm512_and_si512(a, b)
#define AE__IXOR(a, b) _mm512_xor_si512(a, b)
#define AE__IXOR3(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0x96)
#define AE__SHL(i, n) _mm512_slli_epi32(i, n)
#define AE__SHR(i, n) _mm512_srli_epi32(i, n)
#define AE__SAR(i, n) _mm512_srai_epi32(i, n)
#define AE__ADD64(a, b) _mm512_add_epi64(a, b)
#define AE__MUL64(a, b) _mm512_mul_epu32(a, b)
#define AE__HIGH64(i) _mm512_srli_epi64(i, 32)
#define AE__MERGE64(a, b) _mm512_mask_shuffle_epi32(a, 0xaaaa, b, _MM_PERM_CCAA)
#define AE__EVERY2(i) \
    _mm512_setr_epi32((i), (i) + 2, (i) + 4, (i) + 6, (i) + 8, (i) + 10, (i) + 12, (i) + 14, \
                      (i) + 16, (i) + 18, (i) + 20, (i) + 22, (i) + 24, (i) + 26, (i) + 28, \
                      (i) + 30)
#define AE__EVEN(a, b) _mm512_permutex2var_ps(a, AE__EVERY2(0), b)
#define AE__ODD(a, b) _mm512_permutex2var_ps(a, AE__EVERY2(1), b)
#define AE__TWICE_FROM(i) \
    _mm512_setr_epi32((i), (i), (i) + 1, (i) + 1, (i) + 2, (i) + 2, (i) + 3, (i) + 3, (i) + 4, \
                      (i) + 4, (i) + 5, (i) + 5, (i) + 6, (i) + 6, (i) + 7, (i) + 7)
#define AE__TWICE_LOW(v) _mm512_permutexvar_ps(AE__TWICE_FROM(0), v)
#define AE__TWICE_HIGH(v) _mm512_permutexvar_ps(AE__TWICE_FROM(8), v)
#define AE__TO_INT(v) _mm512_cvtps_epi32(v)
#define AE__FROM_INT(i) _mm512_cvtepi32_ps(i)
#define AE__BYTES(p) \
    _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(p))))
#define AE__HALVES(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p)))
#define AE__HALF4(p, s) \
    _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps((p) + (s)), 1)
#define AE__LOAD4(p, s) \
    _mm512_insertf32x8(_mm512_castps256_ps512(AE__HALF4(p, s)), AE__HALF4((p) + 2 * (s), s), 1)
#define AE__ZIP_LOW(a, b) _mm512_unpacklo_ps(a, b)
#define AE__ZIP_HIGH(a, b) _mm512_unpackhi_ps(a, b)
#define AE__PAIR_LOW(a, b) _mm512_shuffle_ps(a, b, 0x44)
#define AE__PAIR_HIGH(a, b) _mm512_shuffle_ps(a, b, 0xee)
#endif

#define AE__NR (AE__NV * AE__VN)
#define AE__FEW (AE__VN / 4)    /* rows for which B is read by columns, not copied              */
#define AE__SMALL_V (AE__VN < 16 ? 4 : 2)       /* vectors of small weights at a time           */

// The lanes below k. Comparisons are false for NaN; MIN and MAX hand on a NaN in their second
// argument, which is therefore the variable one below.
#define AE__FIRST(k) AE__GT(AE__SET1((float)(k)), AE__LOADU(ae__lanes))

#ifdef AE__LOADM
#define AE__LOADK(p, k) AE__LOADM(p, AE__FIRST(k))
#define AE__STOREK(p, v, k) AE__STOREM(p, v, AE__FIRST(k))
#elif !defined(AE__LOADK)
#define AE__LOADK(p, k) AE__K(load_part)(p, k)
#define AE__STOREK(p, v, k) AE__K(store_part)(p, v, k)
AE__TEXT AE__V AE__K(load_part)(const float *p, size_t k)
{
    float part[AE__VN] = {0.0f};
    memcpy(part, p, k * sizeof part[0]);
    return AE__LOADU(part);
}

AE__TEXT void AE__K(store_part)(float *p, AE__V v, size_t k)
{
    float part[AE__VN];
    AE__STOREU(part, v);
    memcpy(p, part, k * sizeof part[0]);
}
#endif

/* The vector at p where only k >= 1 floats are left: further lanes are 0. Every loop over elements
   is  for (size_t i = 0; i < n; i += AE__VN)  with n - i floats left. */
AE__TEXT AE__V AE__K(load)(const float *p, size_t k)
{
    return k >= AE__VN ? AE__LOADU(p) : AE__LOADK(p, k);
}

AE__TEXT void AE__K(store)(float *p, AE__V v, size_t k)
{
    if (k >= AE__VN) AE__STOREU(p, v);
    else AE__STOREK(p, v, k);
}

#ifndef AE__ELEMENTS
// v with lanes from k on set to 0.
AE__TEXT AE__V AE__K(keep)(AE__V v, size_t k)
{
    return k >= AE__VN ? v : AE__SELECT(AE__FIRST(k), v, AE__SET1(0.0f));
}

AE__TEXT double AE__K(sum_lanes)(AE__V v)
{
    float lane[AE__VN];
    double sum = 0.0;
    AE__STOREU(lane, v);
    for (int i = 0; i < AE__VN; i++) sum += (double)lane[i];
    return sum;
}

/* ---- the matrix product: c = A B, in tiles of AE__MR x AE__NR ----
   A panel of B, AE__NR columns wide and at most AE__GEMM_K deep, is copied so that its rows are
   contiguous; it stays in the first-level cache while all rows of A pass by. A is read where it
   is. Each element of c is a sum over k in its order, whatever tile it falls into. */

// dst[p*NR + j] = b[p*brs + j]; columns past `cols` are 0.
AE__LOOP void AE__K(pack_rows)(float *dst, const float *b, ptrdiff_t brs, int cols, int k)
{
    for (int p = 0; p < k; p++, b += brs, dst += AE__NR) {
        AE__UNROLL
        for (int j = 0; j < AE__NR; j += AE__VN) {
            AE__STOREU(dst + j, j < cols ? AE__K(load)(b + j, (size_t)(cols - j))
                                         : AE__SET1(0.0f));
        }
    }
}

#if AE__VN > 1
/* row[q] = b[q + j*bcs] for q < 4 and AE__VN columns j. Vector t of x holds four q of the columns
   t, t+4, t+8, ...: transposing each 4 x 4 block leaves one q per vector. */
AE__TEXT void AE__K(transpose)(AE__V *row, const float *b, ptrdiff_t bcs)
{
    const float *b1 = b + bcs, *b2 = b1 + bcs, *b3 = b2 + bcs;
    const ptrdiff_t next = 4 * bcs;
    (void)next;
    const AE__V x0 = AE__LOAD4(b, next), x1 = AE__LOAD4(b1, next);
    const AE__V x2 = AE__LOAD4(b2, next), x3 = AE__LOAD4(b3, next);
    const AE__V y0 = AE__ZIP_LOW(x0, x1), y1 = AE__ZIP_HIGH(x0, x1);
    const AE__V y2 = AE__ZIP_LOW(x2, x3), y3 = AE__ZIP_HIGH(x2, x3);
    row[0] = AE__PAIR_LOW(y0, y2);
    row[1] = AE__PAIR_HIGH(y0, y2);
    row[2] = AE__PAIR_LOW(y1, y3);
    row[3] = AE__PAIR_HIGH(y1, y3);
}
#endif

// dst[p*NR + j] = b[p + j*bcs]; of the first nv vectors, columns past `cols` are 0.
AE__LOOP void AE__K(pack_columns)(float *dst, const float *b, ptrdiff_t bcs, int cols, int k,
                                    int nv)
{
    for (int j = 0; j < nv * AE__VN; j += AE__VN) {
        int done = 0;   // rows of these columns
#if AE__VN > 1
        if (j + AE__VN <= cols) {
            for (; done + 4 <= k; done += 4) {
                AE__V row[4];
                AE__K(transpose)(row, b + done + j * bcs, bcs);
                AE__UNROLL
                for (int q = 0; q < 4; q++) AE__STOREU(dst + (done + q) * AE__NR + j, row[q]);
            }
        }
#endif
        if (j + AE__VN > cols) {
            for (int p = 0; p < k; p++) AE__STOREU(dst + p * AE__NR + j, AE__SET1(0.0f));
        }
        for (int i = j; i < j + AE__VN && i < cols; i++) {
            for (int p = done; p < k; p++) dst[p * AE__NR + i] = b[p + i * bcs];
        }
    }
}

/* One tile: c (rows,vectors*AE__VN) = old + k products, A(r,p) = a[r*ars + p*acs]; old may be c.
   `rows`, `vectors` and one of A's strides are constants where this is inlined, so that the sums
   stay in registers. */
AE__TEXT void AE__K(tile)(float *c, ptrdiff_t ldc, const float *old, ptrdiff_t ldold,
                            const float *a, ptrdiff_t ars, ptrdiff_t acs, const float *b,
                            ptrdiff_t ldb, int rows, int vectors, int k)
{
    AE__V sum[AE__MR][AE__NV];
    AE__UNROLL
    for (int r = 0; r < rows; r++) {
        AE__UNROLL
        for (int v = 0; v < vectors; v++) sum[r][v] = AE__SET1(0.0f);
    }
    for (int p = 0; p < k; p++, a += acs, b += ldb) {
        AE__V row[AE__NV];
        AE__UNROLL
        for (int v = 0; v < vectors; v++) row[v] = AE__LOADU(b + v * AE__VN);
        AE__UNROLL
        for (int r = 0; r < rows; r++) {
            const AE__V x = AE__SET1(a[r * ars]);
            AE__UNROLL
            for (int v = 0; v < vectors; v++) sum[r][v] = AE__FMA(x, row[v], sum[r][v]);
        }
    }
    AE__UNROLL
    for (int r = 0; r < rows; r++, c += ldc, old += ldold) {
        AE__UNROLL
        for (int v = 0; v < vectors; v++) {
            AE__STOREU(c + v * AE__VN, AE__ADD(AE__LOADU(old + v * AE__VN), sum[r][v]));
        }
    }
}

#if AE__VN > 1
/* The same with A(r,p) = a[r*ars + p] and B(p,j) = b[p + j*bcs] where it is: for few rows it costs
   less to transpose B in registers than to copy it first. k >= 4. */
AE__TEXT void AE__K(tile_columns)(float *c, ptrdiff_t ldc, const float *old, ptrdiff_t ldold,
                                    const float *a, ptrdiff_t ars, const float *b, ptrdiff_t bcs,
                                    int rows, int k)
{
    AE__V sum[AE__FEW][AE__NV], row[4];
    AE__UNROLL
    for (int r = 0; r < rows; r++) {
        AE__UNROLL
        for (int v = 0; v < AE__NV; v++) sum[r][v] = AE__SET1(0.0f);
    }
    for (int p = 0; p < k; p += 4) {
        const int done = p + 4 > k ? p + 4 - k : 0;     // the last four may overlap others
        // Each column's next cache line: more streams than the processor foresees by itself.
        for (int j = 0; p % 16 == 0 && p + 16 < k && j < AE__NR; j++) {
            AE__PREFETCH(b + p + 16 + j * bcs);
        }
        AE__UNROLL
        for (int v = 0; v < AE__NV; v++) {
            AE__K(transpose)(row, b + p - done + v * AE__VN * bcs, bcs);
            AE__UNROLL
            for (int q = 0; q < 4; q++) {
                if (q < done) continue;
                AE__UNROLL
                for (int r = 0; r < rows; r++) {
                    sum[r][v] = AE__FMA(AE__SET1(a[r * ars + p - done + q]), row[q], sum[r][v]);
                }
            }
        }
    }
    AE__UNROLL
    for (int r = 0; r < rows; r++, c += ldc, old += ldold) {
        AE__UNROLL
        for (int v = 0; v < AE__NV; v++) {
            AE__STOREU(c + v * AE__VN, AE__ADD(AE__LOADU(old + v * AE__VN), sum[r][v]));
        }
    }
}
#endif

/* All tiles of a panel: c (m,vectors*AE__VN) = old + A panel. They are as high as m allows, so that
   a few rows do not cost as much as AE__MR. */
AE__TEXT void AE__K(tiles)(float *c, ptrdiff_t ldc, const float *old, ptrdiff_t ldold,
                             const float *a, ptrdiff_t ars, ptrdiff_t acs, const float *b,
                             ptrdiff_t ldb, int m, int vectors, int k)
{
    for (int rows; m > 0; m -= rows, a += rows * ars, c += rows * ldc, old += rows * ldold) {
        if (m >= AE__MR) {
            rows = AE__MR;
            AE__K(tile)(c, ldc, old, ldold, a, ars, acs, b, ldb, AE__MR, vectors, k);
        } else if (AE__MR > 4 && m >= 4) {
            rows = 4;
            AE__K(tile)(c, ldc, old, ldold, a, ars, acs, b, ldb, 4, vectors, k);
        } else if (AE__VN > 1 && m >= 2) {   // GCC 12 reads beyond A with 2 rows of floats
            rows = 2;
            AE__K(tile)(c, ldc, old, ldold, a, ars, acs, b, ldb, 2, vectors, k);
        } else {
            rows = 1;
            AE__K(tile)(c, ldc, old, ldold, a, ars, acs, b, ldb, 1, vectors, k);
        }
    }
}

/* One of A's strides is 1 and the panel is whole or half: told apart here, so that each case is
   compiled for itself. B has columns apart by bcs: 1, or any where tile_columns is to read them. */
static void AE__K(gemm_panel)(float *c, ptrdiff_t ldc, const float *old, ptrdiff_t ldold,
                              const float *a, ptrdiff_t ars, ptrdiff_t acs, const float *b,
                              ptrdiff_t ldb, ptrdiff_t bcs, int m, int vectors, int k)
{
    const int half = vectors < AE__NV;
    if (bcs == 1 && acs == 1 && !half)
        AE__K(tiles)(c, ldc, old, ldold, a, ars, 1, b, ldb, m, AE__NV, k);
    else if (bcs == 1 && acs == 1)
        AE__K(tiles)(c, ldc, old, ldold, a, ars, 1, b, ldb, m, AE__NV / 2, k);
    else if (bcs == 1 && !half)
        AE__K(tiles)(c, ldc, old, ldold, a, 1, acs, b, ldb, m, AE__NV, k);
    else if (bcs == 1)
        AE__K(tiles)(c, ldc, old, ldold, a, 1, acs, b, ldb, m, AE__NV / 2, k);
#if AE__FEW > 0
    else if (m == 1) AE__K(tile_columns)(c, ldc, old, ldold, a, ars, b, bcs, 1, k);
#endif
#if AE__FEW > 1
    else if (m == 2) AE__K(tile_columns)(c, ldc, old, ldold, a, ars, b, bcs, 2, k);
#endif
#if AE__FEW > 2
    else if (m == 3) AE__K(tile_columns)(c, ldc, old, ldold, a, ars, b, bcs, 3, k);
    else AE__K(tile_columns)(c, ldc, old, ldold, a, ars, b, bcs, 4, k);
#endif
}

/* The last `cols` columns of a panel: block by block of rows by way of `part` (AE__MR,AE__NR), in
   which they begin at `skip`. */
static void AE__K(gemm_last)(float *c, ptrdiff_t ldc, const float *start, const float *a,
                             ptrdiff_t ars, ptrdiff_t acs, const float *b, ptrdiff_t ldb,
                             ptrdiff_t bcs, int m, int vectors, int skip, int cols, int k,
                             int accumulate, float *part)
{
    for (int i = 0; i < m; i += AE__MR) {
        const int rows = m - i < AE__MR ? m - i : AE__MR;
        AE__K(gemm_panel)(part, AE__NR, start, 0, a + i * ars, ars, acs, b, ldb, bcs, rows,
                          vectors, k);
        for (int r = 0; r < rows; r++) {
            for (int j = 0; j < cols; j += AE__VN) {
                float *to = c + (i + r) * ldc + j;
                const float *from = part + r * AE__NR + skip + j;
                const size_t left = (size_t)(cols - j);
                AE__V v = AE__K(load)(from, left);
                if (accumulate) v = AE__ADD(AE__K(load)(to, left), v);
                AE__K(store)(to, v, left);
            }
        }
    }
}

static void AE__K(gemm)(float *c, ptrdiff_t ldc, const float *a, ptrdiff_t ars, ptrdiff_t acs,
                        const float *b, ptrdiff_t brs, ptrdiff_t bcs, const float *bias,
                        int m, int n, int k, int accumulate, float *scratch, size_t scratch_n)
{
    const int most = 40 * AE__MR;       // rows at a time: A's part stays in the second-level cache
    const int parts = (k + AE__GEMM_K - 1) / AE__GEMM_K;
    const int depth = (k + parts - 1) / parts;                  // k is cut into equal parts
    // From a whole cache line on; AE__GEMM_MIN has room for it.
    float *panel = scratch + (64 - (uintptr_t)scratch % 64) % 64 / sizeof(float);
    float *start = panel + AE__GEMM_K * AE__NR;                 // a row: the bias or zeros
    float *part = start + AE__NR;
    (void)scratch_n;
    for (int i = 0; i < m; i += most) {
        const int rows = m - i < most ? m - i : most;
        for (int p = 0; p < k; p += depth) {
            const int deep = k - p < depth ? k - p : depth, adds = accumulate || p > 0;
            const float *ap = a + i * ars + p * acs;
            for (int j = 0; j < n; j += AE__NR) {
                const int cols = n - j < AE__NR ? n - j : AE__NR;
                // The last panel may be half as wide, and reaches back over columns already done,
                // so as to be full.
                const int vectors = cols <= AE__NR / 2 ? AE__NV / 2 : AE__NV;
                const int width = vectors * AE__VN, back = n < width ? 0 : width - cols;
                const int full = back + cols == width;
                float *to = c + i * ldc + j;
                const float *from = b + p * brs + (j - back) * bcs;
                ptrdiff_t ldb = brs, next = bcs;
                // For few rows B is not worth a copy.
                const int few = bcs == 1 ? rows <= AE__GEMM_FEW
                              : acs == 1 && rows <= AE__FEW && vectors == AE__NV && deep >= 4;
                if (!few || !full) {
                    if (bcs == 1) AE__K(pack_rows)(panel, from, brs, back + cols, deep);
                    else AE__K(pack_columns)(panel, from, bcs, back + cols, deep, AE__NV);
                    from = panel;
                    ldb = AE__NR;
                    next = 1;
                }
                if (adds || !bias) AE__K(pack_rows)(start, start, 0, 0, 1);
                else AE__K(pack_rows)(start, bias + j - back, 0, back + cols, 1);
                if (cols < AE__NR) {
                    AE__K(gemm_last)(to, ldc, start, ap, ars, acs, from, ldb, next, rows, vectors,
                                     back, cols, deep, adds, part);
                } else {
                    AE__K(gemm_panel)(to, ldc, adds ? to : start, adds ? ldc : 0, ap, ars, acs,
                                      from, ldb, next, rows, AE__NV, deep);
                }
            }
        }
    }
}

/* ---- weights in fewer bytes: for one sample, reading them is what takes the time ---- */

#ifndef AE__HALVES
#define AE__HALVES(p) AE__K(halves)(AE__HALVES_HIGH(p))
/* Of finite halves in the upper 16 bits of i. Below 2^-14 they have no leading 1: it is given and
   taken away again, so that no denormal float is made. */
AE__TEXT AE__V AE__K(halves)(AE__I i)
{
    const AE__V least = AE__SET1(6.103515625e-5f);      // 2^-14
    const AE__I size = AE__SHR(AE__IAND(i, AE__ISET1(0x7fff0000)), 3);
    const AE__V normal = AE__FLOAT(AE__IADD(size, AE__ISET1(112 << 23)));
    const AE__V small = AE__SUB(AE__FLOAT(AE__IADD(size, AE__ISET1(113 << 23))), least);
    const AE__V v = AE__SELECT(AE__GE(normal, least), normal, small);
    return AE__FLOAT(AE__IXOR(AE__BITS(v), AE__IAND(i, AE__ISET1(INT32_MIN))));
}
#endif

AE__TEXT AE__V AE__K(decode)(const void *small, size_t at, int half)
{
    return half ? AE__HALVES((const uint16_t *)small + at) : AE__BYTES((const int8_t *)small + at);
}

static void AE__K(expand)(float *w, const void *small, int half, size_t n)
{
    for (size_t i = 0; i < n && half; i += AE__VN)
        AE__K(store)(w + i, AE__K(decode)(small, i, 1), n - i);
    for (size_t i = 0; i < n && !half; i += AE__VN)
        AE__K(store)(w + i, AE__K(decode)(small, i, 0), n - i);
}

static void AE__K(bytes)(float *x, const uint8_t *bytes, const ae__values *v, size_t n)
{
    const AE__V high = AE__SET1(v->high), low = AE__SET1(v->low), mean = AE__SET1(v->mean);
    const AE__V deviation = AE__SET1(v->deviation);
    const int plain = v->mean == 0.0f && v->deviation == 1.0f;
    for (size_t i = 0; i < n; i += AE__VN) {
        const int8_t *from = (const int8_t *)bytes + i;
        int8_t last[AE__VN] = {0};
        if (n - i < AE__VN) from = (const int8_t *)memcpy(last, from, n - i);
        AE__V t = AE__BYTES(from);              // with a sign
        t = AE__SELECT(AE__GE(t, AE__SET1(0.0f)), t, AE__ADD(t, AE__SET1(256.0f)));
        t = AE__FMA(t, high, AE__MUL(t, low));
        if (!plain) {           // two steps: in between it is a float everywhere
            t = AE__SUB(t, mean);
            t = AE__DIV(t, deviation);
        }
        AE__K(store)(x + i, t, n - i);
    }
}

// y = scale sum + bias, for up to AE__VN columns.
AE__TEXT void AE__K(small_end)(float *y, AE__V sum, const float *scale, const float *bias,
                                 size_t left)
{
    const AE__V b = bias ? AE__K(load)(bias, left) : AE__SET1(0.0f);
    AE__K(store)(y, AE__FMA(AE__K(load)(scale, left), sum, b), left);
}

#if AE__VN > 1
/* One row of y, without a copy of the weights. The sum is cut into an even number of blocks, `deep`
   each; two at a time go side by side, since one would wait for its own last addition. */
AE__TEXT void AE__K(small_row)(float *y, const float *x, const void *panel, const float *scale,
                                 const float *bias, int half, int D, int cols, int deep)
{
    for (int j = 0; j < cols; j += AE__SMALL_V * AE__VN) {
        AE__V total[AE__SMALL_V], sum[2][AE__SMALL_V];
        AE__UNROLL
        for (int v = 0; v < AE__SMALL_V; v++) total[v] = AE__SET1(0.0f);
        for (int p = 0; p < D; p += 2 * deep) {
            const int first = D - p < deep ? D - p : deep;
            const int second = D - p - first < deep ? D - p - first : deep;
            AE__UNROLL
            for (int v = 0; v < AE__SMALL_V; v++) sum[0][v] = sum[1][v] = AE__SET1(0.0f);
            for (int q = p; q < p + first; q++) {
                AE__UNROLL
                for (int s = 0; s < 2; s++) {
                    const int at = q + s * deep;
                    if (s && q >= p + second) continue;
                    AE__UNROLL
                    for (int v = 0; v < AE__SMALL_V; v++) {
                        const size_t i = (size_t)at * AE__SMALL + (size_t)(j + v * AE__VN);
                        sum[s][v] = AE__FMA(AE__SET1(x[at]), AE__K(decode)(panel, i, half),
                                            sum[s][v]);
                    }
                }
            }
            AE__UNROLL
            for (int v = 0; v < AE__SMALL_V; v++)
                total[v] = AE__ADD(AE__ADD(total[v], sum[0][v]), sum[1][v]);
        }
        for (int v = 0, i = j; v < AE__SMALL_V && i < cols; v++, i += AE__VN)
            AE__K(small_end)(y + i, total[v], scale + i, bias ? bias + i : NULL,
                             (size_t)(cols - i));
    }
}
#endif

// Otherwise each block becomes floats and goes through gemm, whose sums have the same order.
static void AE__K(small)(float *y, int ldy, const float *x, const void *panel, const float *scale,
                         const float *bias, int half, int B, int D, int cols)
{
    const int blocks = (D + 2 * AE__GEMM_K - 1) / (2 * AE__GEMM_K) * 2;
    const int deep = (D + blocks - 1) / blocks;
    float w[AE__SMALL * AE__GEMM_K], scratch[AE__GEMM_MIN];
#if AE__VN > 1
    if (B < 4) {
        for (int i = 0; i < B; i++, y += ldy, x += D) {
            if (half) AE__K(small_row)(y, x, panel, scale, bias, 1, D, cols, deep);
            else AE__K(small_row)(y, x, panel, scale, bias, 0, D, cols, deep);
        }
        return;
    }
#endif
    for (int p = 0; p < D; p += deep) {
        const int n = D - p < deep ? D - p : deep;
        const size_t at = (size_t)p * AE__SMALL * (half ? 2 : 1);
        AE__K(expand)(w, (const char *)panel + at, half, (size_t)n * AE__SMALL);
        AE__K(gemm)(y, ldy, x + p, D, 1, w, AE__SMALL, 1, NULL, B, cols, n, p > 0, scratch,
                    AE__GEMM_MIN);
    }
    for (int i = 0; i < B; i++, y += ldy) {
        for (int j = 0; j < cols; j += AE__VN) {
            const size_t left = (size_t)(cols - j);
            AE__K(small_end)(y + j, AE__K(load)(y + j, left), scale + j, bias ? bias + j : NULL,
                             left);
        }
    }
}

/* ---- convolution: products whose second factor is read through a table of places ---- */

#ifdef AE__LOADM    // where there are masked loads
/* Lines of n floats from every other place, and to every other place: the others keep what they
   have. Down the lines a vector at a time, so that masks are made once. */
AE__TEXT void AE__K(pick)(float *to, ptrdiff_t to_pitch, const float *from, ptrdiff_t from_pitch,
                            int lines, int n, AE__V start, int add)
{
    for (int j = 0; j < n; j += AE__VN, to += AE__VN, from += 2 * AE__VN) {
        const int left = n - j, span = 2 * left - 1;
        const int k = left < AE__VN ? left : AE__VN, low = span < AE__VN ? span : AE__VN;
        const int high = span - low < AE__VN ? span - low : AE__VN;
        for (int i = 0; i < lines; i++) {
            const float *f = from + i * from_pitch;
            float *t = to + i * to_pitch;
            const AE__V x = AE__LOADK(f, low), y = AE__LOADK(f + low, high);
            const AE__V old = add ? AE__LOADK(t, k) : start;
            AE__STOREK(t, AE__ADD(old, AE__EVEN(x, y)), k);
        }
    }
}

AE__TEXT void AE__K(spread)(float *to, ptrdiff_t to_pitch, const float *from,
                              ptrdiff_t from_pitch, int lines, int n, AE__V start, int add)
{
    const AE__V zero = AE__SET1(0.0f), even = AE__LOADU(ae__even);
    for (int j = 0; j < n; j += AE__VN / 2, to += AE__VN, from += AE__VN / 2) {
        const int left = n - j, k = left < AE__VN / 2 ? left : AE__VN / 2;
        const AE__M every = AE__GT(AE__SELECT(AE__FIRST(2 * k), even, zero), zero);
        for (int i = 0; i < lines; i++) {
            float *t = to + i * to_pitch;
            const AE__V v = AE__TWICE_LOW(AE__LOADK(from + i * from_pitch, k));
            AE__STOREM(t, AE__ADD(add ? AE__LOADM(t, every) : start, v), every);
        }
    }
}
#endif

/* Lines of n floats without steps. The last vector of a line overlaps the one before, and is
   computed before that one is written. */
AE__TEXT void AE__K(whole_lines)(float *to, ptrdiff_t to_pitch, const float *from,
                                   ptrdiff_t from_pitch, int lines, int n, AE__V start, int add)
{
    const int last = n - AE__VN;
    for (int i = 0; i < lines && last >= 0; i++, to += to_pitch, from += from_pitch) {
        const AE__V old = add ? AE__LOADU(to + last) : start;
        const AE__V end = AE__ADD(old, AE__LOADU(from + last));
        for (int j = 0; j < last; j += AE__VN) {
            AE__STOREU(to + j, AE__ADD(add ? AE__LOADU(to + j) : start, AE__LOADU(from + j)));
        }
        AE__STOREU(to + last, end);
    }
#if AE__VN > 1
    for (int i = 0; i < lines && last < 0; i++, to += to_pitch, from += from_pitch) {
        const AE__V old = add ? AE__LOADK(to, (size_t)n) : start;
        AE__STOREK(to, AE__ADD(old, AE__LOADK(from, (size_t)n)), (size_t)n);
    }
#endif
}

// Lines of n floats, steps apart: to = start + from, or to += from.
static void AE__K(lines)(float *to, ptrdiff_t to_pitch, int to_step, const float *from,
                         ptrdiff_t from_pitch, int from_step, int lines, int n, float start,
                         int add)
{
    const AE__V first = AE__SET1(start);
    if (to_step == 1 && from_step == 1) {
        const int whole = to_pitch == n && from_pitch == n;     // one long line
        const int long_n = whole ? n * lines : n;
        if (whole) lines = 1;
        if (add) AE__K(whole_lines)(to, to_pitch, from, from_pitch, lines, long_n, first, 1);
        else AE__K(whole_lines)(to, to_pitch, from, from_pitch, lines, long_n, first, 0);
        return;
    }
#ifdef AE__LOADM
    if (to_step == 1 && from_step == 2) {
        AE__K(pick)(to, to_pitch, from, from_pitch, lines, n, first, add);
        return;
    }
    if (to_step == 2 && from_step == 1) {
        AE__K(spread)(to, to_pitch, from, from_pitch, lines, n, first, add);
        return;
    }
#endif
    for (int i = 0; i < lines; i++, to += to_pitch, from += from_pitch) {
        for (int j = 0; j < n; j++) {
            float *t = to + (ptrdiff_t)j * to_step;
            *t = (add ? *t : start) + from[(ptrdiff_t)j * from_step];
        }
    }
}

// One tile of `rows` x nv vectors: c = or += the sum over p of a[r*ars + at[p].a] b[at[p].b + j].
AE__TEXT void AE__K(conv_tile)(float *c, ptrdiff_t ldc, const float *a, ptrdiff_t ars,
                                 const float *b, const ae__spot *at, int k, int add, int rows,
                                 int nv)
{
    AE__V sum[AE__MR][8];
    AE__UNROLL
    for (int r = 0; r < rows; r++) {
        AE__UNROLL
        for (int v = 0; v < nv; v++) sum[r][v] = AE__SET1(0.0f);
    }
    for (int p = 0; p < k; p++) {
        const float *ap = a + at[p].a, *bp = b + at[p].b;
        AE__V row[8];
        AE__UNROLL
        for (int v = 0; v < nv; v++) row[v] = AE__LOADU(bp + v * AE__VN);
        AE__UNROLL
        for (int r = 0; r < rows; r++) {
            const AE__V x = AE__SET1(ap[r * ars]);
            AE__UNROLL
            for (int v = 0; v < nv; v++) sum[r][v] = AE__FMA(x, row[v], sum[r][v]);
        }
    }
    AE__UNROLL
    for (int r = 0; r < rows; r++) {
        AE__UNROLL
        for (int v = 0; v < nv; v++) {
            float *to = c + r * ldc + v * AE__VN;
            AE__STOREU(to, add ? AE__ADD(AE__LOADU(to), sum[r][v]) : sum[r][v]);
        }
    }
}

// Some rows of c; with few of them, wider tiles give as many independent sums.
AE__TEXT void AE__K(conv_rows)(float *c, ptrdiff_t ldc, const float *a, ptrdiff_t ars,
                                 const float *b, const ae__spot *at, int n, int k, int add,
                                 int rows, int nv)
{
    int j = 0;
    for (; j + nv * AE__VN <= n; j += nv * AE__VN) {
        AE__K(conv_tile)(c + j, ldc, a, ars, b + j, at, k, add, rows, nv);
    }
    for (; nv > AE__NV && j + AE__NR <= n; j += AE__NR) {
        AE__K(conv_tile)(c + j, ldc, a, ars, b + j, at, k, add, rows, AE__NV);
    }
    if (j < n) AE__K(conv_tile)(c + j, ldc, a, ars, b + j, at, k, add, rows, AE__NV / 2);
}

static void AE__K(conv)(float *c, ptrdiff_t ldc, const float *a, ptrdiff_t ars, const float *b,
                        const ae__spot *at, int m, int n, int k, int add)
{
    const int third = AE__MR / 3;       // 16 rows are better cut into 8 and 8 than into 12 and 4
    for (int rows; m > 0; m -= rows, a += rows * ars, c += rows * ldc) {
        if (m >= AE__MR && (AE__MR < 12 || m != 4 * third)) {
            rows = AE__MR;
            AE__K(conv_rows)(c, ldc, a, ars, b, at, n, k, add, AE__MR, AE__NV);
        } else if (AE__MR >= 12 && m >= 2 * third) {
            rows = 2 * third;
            AE__K(conv_rows)(c, ldc, a, ars, b, at, n, k, add, 2 * third, AE__NV);
        } else if (AE__MR > 4 && m >= 4) {
            rows = 4;
            AE__K(conv_rows)(c, ldc, a, ars, b, at, n, k, add, 4, AE__NV);
        } else if (AE__MR >= 12 && m == 3) {
            rows = 3;
            AE__K(conv_rows)(c, ldc, a, ars, b, at, n, k, add, 3, 2 * AE__NV);
        } else if (AE__VN > 1 && m >= 2) {
            rows = 2;
            AE__K(conv_rows)(c, ldc, a, ars, b, at, n, k, add, 2, 4);
        } else {
            rows = 1;
            AE__K(conv_rows)(c, ldc, a, ars, b, at, n, k, add, 1, 8);
        }
    }
}

#ifndef AE_NO_TRAIN
/* One tile: c (rows,nv vectors) += the sum over pixels of B(r,pixel) panel(pixel,v). Rows from
   `left` on are the last one again, and are not kept. */
AE__TEXT void AE__K(weights_tile)(float *c, const float *b, const ae__spot *at, int pitch,
                                    const float *panel, int lines, int width, int left, int rows,
                                    int nv)
{
    const float *x[AE__MR];
    AE__V sum[AE__MR][AE__NV];
    AE__UNROLL
    for (int r = 0; r < rows; r++) {
        x[r] = b + at[r < left ? r : left - 1].b;
        AE__UNROLL
        for (int v = 0; v < nv; v++) sum[r][v] = AE__SET1(0.0f);
    }
    for (int i = 0; i < lines; i++) {
        for (ptrdiff_t j = 0; j < width; j++, panel += AE__NR) {
            AE__V row[AE__NV];
            AE__UNROLL
            for (int v = 0; v < nv; v++) row[v] = AE__LOADU(panel + v * AE__VN);
            AE__UNROLL
            for (int r = 0; r < rows; r++) {
                const AE__V s = AE__SET1(x[r][j]);
                AE__UNROLL
                for (int v = 0; v < nv; v++) sum[r][v] = AE__FMA(s, row[v], sum[r][v]);
            }
        }
        AE__UNROLL
        for (int r = 0; r < rows; r++) x[r] += pitch;
    }
    AE__UNROLL
    for (int r = 0; r < rows; r++) {
        AE__UNROLL
        for (int v = 0; v < nv; v++) {
            float *to = c + r * AE__NR + v * AE__VN;
            if (r < left) AE__STOREU(to, AE__ADD(AE__LOADU(to), sum[r][v]));
        }
    }
}

static void AE__K(conv_weights)(float *c, const float *b, const ae__spot *at, int pitch,
                                const float *small, ptrdiff_t plane, int line, int cols, int lines,
                                int width, int k, float *panel)
{
    const int whole = line == width;    // lines follow one another
    const int nv = cols > AE__NR / 2 ? AE__NV : AE__NV / 2;
    for (int i = 0; i < (whole ? 1 : lines); i++) {
        AE__K(pack_columns)(panel + i * width * AE__NR, small + (ptrdiff_t)i * line, plane, cols,
                            whole ? lines * width : width, nv);
    }
    const int rows = AE__MR < 9 ? AE__MR : 9;   // more places than that do not fit into registers
    for (int p = 0; p < k; p += rows) {
        float *to = c + p * AE__NR;
        if (nv > AE__NV / 2) {
            AE__K(weights_tile)(to, b, at + p, pitch, panel, lines, width, k - p, rows, AE__NV);
        } else {
            AE__K(weights_tile)(to, b, at + p, pitch, panel, lines, width, k - p, rows,
                                AE__NV / 2);
        }
    }
}

// The sum of planes of n floats: 256 vectors at a time are added lane by lane.
static double AE__K(plane_sum)(const float *x, size_t stride, size_t planes, size_t n)
{
    double sum = 0.0;
    AE__V part[4];
    size_t terms = 0;
    for (int v = 0; v < 4; v++) part[v] = AE__SET1(0.0f);
    for (size_t b = 0; b < planes; b++, x += stride) {
        for (size_t i = 0; i < n; i += 4 * AE__VN) {
            const int whole = n - i >= 4 * AE__VN;
            if (whole) {
                AE__UNROLL
                for (size_t v = 0; v < 4; v++) {
                    part[v] = AE__ADD(part[v], AE__LOADU(x + i + v * AE__VN));
                }
            }
            for (size_t at = i; at < n && !whole; at += AE__VN) {
                part[0] = AE__ADD(part[0], AE__K(load)(x + at, n - at));
            }
            if (++terms < AE__SUM_BLOCK && (b + 1 < planes || i + 4 * AE__VN < n)) continue;
            for (int v = 0; v < 4; v++) {
                sum += AE__K(sum_lanes)(part[v]);
                part[v] = AE__SET1(0.0f);
            }
            terms = 0;
        }
    }
    return sum;
}
#endif
#endif

/* ---- mathematics ----
   Polynomials: interpolation at Chebyshev nodes, computed with 40 digits and rounded to float. */

// 2^n for a whole n in -126 ... 127.
AE__TEXT AE__V AE__K(pow2)(AE__V n)
{
    return AE__FLOAT(AE__SHL(AE__IADD(AE__TO_INT(n), AE__ISET1(127)), 23));
}

// e^x = 2^n (1 + q): returns q = e^r - 1 with x = n ln 2 + r, |r| <= ln 2 / 2. |x| < 1000.
AE__TEXT AE__V AE__K(exp_split)(AE__V x, AE__V *n)
{
    *n = AE__FROM_INT(AE__TO_INT(AE__MUL(x, AE__SET1(1.44269504f))));
    // ln 2 in two parts: n times the first is exact.
    AE__V r = AE__FMA(*n, AE__SET1(-0.693359375f), x);
    r = AE__FMA(*n, AE__SET1(2.12194440e-4f), r);
    // (e^r - 1 - r) / r^2
    AE__V p = AE__SET1(1.989198063e-04f);
    p = AE__FMA(p, r, AE__SET1(1.393454149e-03f));
    p = AE__FMA(p, r, AE__SET1(8.333310485e-03f));
    p = AE__FMA(p, r, AE__SET1(4.166645557e-02f));
    p = AE__FMA(p, r, AE__SET1(1.666666716e-01f));
    p = AE__FMA(p, r, AE__SET1(0.5f));
    return AE__FMA(AE__MUL(r, r), p, r);
}

// e^x; 0 below -104, infinite above 88.7.
AE__TEXT AE__V AE__K(exp)(AE__V x)
{
    AE__V n;
    x = AE__MIN(AE__SET1(89.0f), AE__MAX(AE__SET1(-104.0f), x));
    const AE__V q = AE__K(exp_split)(x, &n);
    // 2^n in two factors: it may be smaller than the smallest normal float.
    const AE__V half = AE__FROM_INT(AE__TO_INT(AE__MUL(n, AE__SET1(0.5f))));
    const AE__V y = AE__FMA(AE__K(pow2)(half), q, AE__K(pow2)(half));
    return AE__MUL(y, AE__K(pow2)(AE__SUB(n, half)));
}

// e^x - 1 for x <= 30 (beyond, it stays there): near 0 without cancellation.
AE__TEXT AE__V AE__K(expm1)(AE__V x)
{
    AE__V n;
    x = AE__MIN(AE__SET1(30.0f), AE__MAX(AE__SET1(-30.0f), x));
    const AE__V q = AE__K(exp_split)(x, &n);
    const AE__V scale = AE__K(pow2)(n);
    return AE__FMA(scale, q, AE__SUB(scale, AE__SET1(1.0f)));
}

// x = 2^e (1 + f), 1 + f in sqrt(1/2) ... sqrt(2), for a normal x > 0.
AE__TEXT AE__V AE__K(log_split)(AE__V x, AE__V *e)
{
    const AE__I bits = AE__BITS(x);
    const AE__I exponent = AE__SAR(AE__ISUB(bits, AE__ISET1(0x3f3504f3)), 23);
    *e = AE__FROM_INT(exponent);
    return AE__SUB(AE__FLOAT(AE__ISUB(bits, AE__SHL(exponent, 23))), AE__SET1(1.0f));
}

// a b + c, fused or, where the result must be the same on every processor, rounded twice.
AE__TEXT AE__V AE__K(mul_add)(AE__V a, AE__V b, AE__V c, int same)
{
    if (!same) return AE__FMA(a, b, c);
    AE__V product = AE__MUL(a, b);
    AE__ROUND(product);
    return AE__ADD(product, c);
}

// e ln 2 + ln(1 + f), |f| < 0.42.
AE__TEXT AE__V AE__K(log_join)(AE__V e, AE__V f, int same)
{
    const AE__V f2 = AE__MUL(f, f);
    // (ln(1 + f) - f + f^2/2) / f^3
    AE__V p = AE__SET1(6.972518563e-02f);
    p = AE__K(mul_add)(p, f, AE__SET1(-1.148121208e-01f), same);
    p = AE__K(mul_add)(p, f, AE__SET1(1.168578491e-01f), same);
    p = AE__K(mul_add)(p, f, AE__SET1(-1.242552325e-01f), same);
    p = AE__K(mul_add)(p, f, AE__SET1(1.424900740e-01f), same);
    p = AE__K(mul_add)(p, f, AE__SET1(-1.666780710e-01f), same);
    p = AE__K(mul_add)(p, f, AE__SET1(2.000071704e-01f), same);
    p = AE__K(mul_add)(p, f, AE__SET1(-2.499999702e-01f), same);
    p = AE__K(mul_add)(p, f, AE__SET1(3.333333135e-01f), same);
    AE__V y = AE__MUL(AE__MUL(f, f2), p);
    if (same) AE__ROUND(y);
    y = AE__K(mul_add)(e, AE__SET1(-2.12194440e-4f), y, same);
    y = AE__K(mul_add)(f2, AE__SET1(-0.5f), y, same);
    y = AE__ADD(f, y);
    return AE__K(mul_add)(e, AE__SET1(0.693359375f), y, same);
}

// ln(1 + x) for x > -1; where 1 + x would lose x, x is f.
AE__TEXT AE__V AE__K(log1p)(AE__V x)
{
    AE__V e;
    const AE__V zero = AE__SET1(0.0f);
    const AE__V f = AE__K(log_split)(AE__ADD(AE__SET1(1.0f), x), &e);
    const AE__M small = AE__GT(AE__SET1(0.29f), AE__ABS(x));
    return AE__K(log_join)(AE__SELECT(small, zero, e), AE__SELECT(small, x, f), 0);
}

// 1 / (1 + e^-x)
AE__TEXT AE__V AE__K(sigmoid)(AE__V x)
{
    const AE__V one = AE__SET1(1.0f);
    return AE__DIV(one, AE__ADD(one, AE__K(exp)(AE__SUB(AE__SET1(0.0f), x))));
}

// tanh x = q / (q + 2), q = e^2x - 1; 1 beyond |x| = 10.
AE__TEXT AE__V AE__K(tanh)(AE__V x)
{
    x = AE__MIN(AE__SET1(10.0f), AE__MAX(AE__SET1(-10.0f), x));
    const AE__V q = AE__K(expm1)(AE__ADD(x, x));
    return AE__DIV(q, AE__ADD(q, AE__SET1(2.0f)));
}

// The normal distribution: returns Phi(x), the share below x, and its density. With s = |x|,
// Phi(-s) = e^(-s^2/2) u P(t), u = 1/(s + 4), t = 1 - 8 u: the ratio of the two is that smooth.
AE__TEXT AE__V AE__K(normal)(AE__V x, AE__V *density)
{
    const AE__V one = AE__SET1(1.0f);
    const AE__V s = AE__MIN(AE__SET1(15.0f), AE__ABS(x));      // beyond, e^(-s^2/2) is 0
    const AE__V e = AE__K(exp)(AE__MUL(AE__MUL(s, s), AE__SET1(-0.5f)));
    const AE__V u = AE__DIV(one, AE__ADD(s, AE__SET1(4.0f)));
    const AE__V t = AE__FMA(u, AE__SET1(-8.0f), one);
    AE__V p = AE__SET1(-1.201843988e-04f);
    p = AE__FMA(p, t, AE__SET1(2.012617333e-04f));
    p = AE__FMA(p, t, AE__SET1(1.572317909e-03f));
    p = AE__FMA(p, t, AE__SET1(-3.526183777e-03f));
    p = AE__FMA(p, t, AE__SET1(-7.529250812e-03f));
    p = AE__FMA(p, t, AE__SET1(6.040668860e-02f));
    p = AE__FMA(p, t, AE__SET1(-1.865226775e-01f));
    p = AE__FMA(p, t, AE__SET1(3.871366978e-01f));
    p = AE__FMA(p, t, AE__SET1(-6.078966260e-01f));
    p = AE__FMA(p, t, AE__SET1(7.552851439e-01f));
    const AE__V below = AE__MUL(AE__MUL(e, u), p);
    *density = AE__MUL(e, AE__SET1(0.398942280f));              // 1 / sqrt(2 pi)
    return AE__SELECT(AE__GT(x, AE__SET1(0.0f)), AE__SUB(one, below), below);
}

/* ---- elements ---- */

// 1 + tanh(z) = 2 sigmoid(2 z): GELU_TANH is x sigmoid(x (A + B x^2)).
#define AE__GELU_A 1.59576912f      // 2 sqrt(2 / pi)
#define AE__GELU_B 0.0713548163f    // 0.044715 times that

// act(x). Where a factor is 0 already, x is held finite: 0 times infinity would be NaN.
AE__TEXT AE__V AE__K(act_of)(AE__V x, int act, AE__V a)
{
    const AE__V zero = AE__SET1(0.0f);
    AE__V unused;
    switch (act) {
    case AE_ACT_RELU: return AE__MAX(zero, x);
    case AE_ACT_LEAKY_RELU: return AE__SELECT(AE__GT(x, zero), x, AE__MUL(a, x));
    case AE_ACT_ELU: return AE__SELECT(AE__GT(x, zero), x, AE__MUL(a, AE__K(expm1)(x)));
    case AE_ACT_GELU: return AE__MUL(AE__MAX(AE__SET1(-15.0f), x), AE__K(normal)(x, &unused));
    case AE_ACT_GELU_TANH: {
        const AE__V z = AE__FMA(AE__MUL(x, x), AE__SET1(AE__GELU_B), AE__SET1(AE__GELU_A));
        return AE__MUL(AE__MAX(AE__SET1(-15.0f), x), AE__K(sigmoid)(AE__MUL(x, z)));
    }
    case AE_ACT_SILU: return AE__MUL(AE__MAX(AE__SET1(-128.0f), x), AE__K(sigmoid)(x));
    case AE_ACT_SOFTPLUS: {
        const AE__V log = AE__K(log1p)(AE__K(exp)(AE__SUB(zero, AE__ABS(x))));
        return AE__SELECT(AE__GT(x, AE__SET1(20.0f)), x, AE__ADD(AE__MAX(zero, x), log));
    }
    case AE_ACT_SIGMOID: return AE__K(sigmoid)(x);
    case AE_ACT_TANH: return AE__K(tanh)(x);
    default: return x;
    }
}

#ifndef AE__ELEMENTS
AE__TEXT void AE__K(act_loop)(float *y, const float *x, int act, float a, size_t n)
{
    for (size_t i = 0; i < n; i += AE__VN) {
        const AE__V v = AE__K(act_of)(AE__K(load)(x + i, n - i), act, AE__SET1(a));
        AE__K(store)(y + i, v, n - i);
    }
}

static void AE__K(act)(float *y, const float *x, int act, float a, size_t n)
{
    switch (act) {
#define AE__CASE(kind) case kind: AE__K(act_loop)(y, x, kind, a, n); break;
    AE__ACTS(AE__CASE)
#undef AE__CASE
    }
}

// The largest is subtracted first, so that nothing overflows.
static void AE__K(softmax)(float *y, const float *x, size_t n)
{
    AE__V lanes = AE__SET1(-3.402823466e38f);
    float lane[AE__VN], most;
    double sum = 0.0;
    for (size_t i = 0; i < n; i += AE__VN) {
        AE__V v = AE__K(load)(x + i, n - i);
        if (n - i < AE__VN) v = AE__SELECT(AE__FIRST(n - i), v, lanes);
        lanes = AE__MAX(lanes, v);
    }
    AE__STOREU(lane, lanes);
    most = lane[0];
    for (int i = 1; i < AE__VN; i++) most = lane[i] > most ? lane[i] : most;
    for (size_t block = 0; block < n; block += AE__SUM_BLOCK) {
        const size_t end = n - block < AE__SUM_BLOCK ? n : block + AE__SUM_BLOCK;
        AE__V part = AE__SET1(0.0f);
        for (size_t i = block; i < end; i += AE__VN) {
            const AE__V v = AE__K(load)(x + i, end - i);
            const AE__V e = AE__K(exp)(AE__SUB(v, AE__SET1(most)));
            part = AE__ADD(part, AE__K(keep)(e, end - i));
            AE__K(store)(y + i, e, end - i);
        }
        sum += AE__K(sum_lanes)(part);
    }
    const AE__V inverse = AE__SET1((float)(1.0 / sum));
    for (size_t i = 0; i < n; i += AE__VN) {
        AE__K(store)(y + i, AE__MUL(AE__K(load)(y + i, n - i), inverse), n - i);
    }
}

static void AE__K(add)(float *y, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i += AE__VN) {
        const AE__V va = AE__K(load)(a + i, n - i), vb = AE__K(load)(b + i, n - i);
        AE__K(store)(y + i, AE__ADD(va, vb), n - i);
    }
}

static void AE__K(axpy)(float *y, float a, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += AE__VN) {
        const AE__V vx = AE__K(load)(x + i, n - i), vy = AE__K(load)(y + i, n - i);
        AE__K(store)(y + i, AE__FMA(AE__SET1(a), vx, vy), n - i);
    }
}

static void AE__K(scale)(float *y, float a, size_t n)
{
    for (size_t i = 0; i < n; i += AE__VN) {
        AE__K(store)(y + i, AE__MUL(AE__SET1(a), AE__K(load)(y + i, n - i)), n - i);
    }
}

/* ---- sums ---- in float over a block at most, in double over the blocks */

static double AE__K(dot)(const float *a, const float *b, size_t n)
{
    double sum = 0.0;
    for (size_t block = 0; block < n; block += AE__SUM_BLOCK) {
        const size_t end = n - block < AE__SUM_BLOCK ? n : block + AE__SUM_BLOCK;
        AE__V part = AE__SET1(0.0f);
        for (size_t i = block; i < end; i += AE__VN) {
            part = AE__FMA(AE__K(load)(a + i, end - i), AE__K(load)(b + i, end - i), part);
        }
        sum += AE__K(sum_lanes)(part);
    }
    return sum;
}

static void AE__K(column_sum)(float *y, const float *x, size_t ldx, int rows, int cols)
{
    for (int block = 0; block < rows; block += AE__SUM_BLOCK, x += AE__SUM_BLOCK * ldx) {
        const int end = rows - block < AE__SUM_BLOCK ? rows - block : AE__SUM_BLOCK;
        for (int j = 0; j < cols; j += AE__VN) {
            const size_t left = (size_t)(cols - j);
            AE__V part = AE__SET1(0.0f);
            for (int i = 0; i < end; i++) {
                part = AE__ADD(part, AE__K(load)(x + (size_t)i * ldx + j, left));
            }
            AE__K(store)(y + j, AE__ADD(AE__K(load)(y + j, left), part), left);
        }
    }
}
#endif

/* ---- random numbers ---- the same on every processor: nothing is fused */

// The words of the next blocks, AE__VN / 2 of them but at least one: words 0 and 2 of each go to
// even, 1 and 3 to odd. In the order of zipping these two: see AE__K(random).
#if AE__VN == 1
AE__TEXT void AE__K(words)(int32_t *even, int32_t *odd, uint64_t block, ae_random r)
{
    uint32_t word[4];
    ae__random_block(word, block, r);
    even[0] = (int32_t)word[0];
    odd[0] = (int32_t)word[1];
    even[1] = (int32_t)word[2];
    odd[1] = (int32_t)word[3];
}
#else
// ae_philox, a block in each 64 bits: of the counter words the low halves count.
AE__TEXT void AE__K(words)(AE__I *even, AE__I *odd, AE__I block, ae_random r)
{
    AE__I c0 = block, c1 = AE__ISET1((int32_t)r.stream), c2 = AE__ISET1((int32_t)r.step);
    AE__I c3 = AE__IXOR(AE__ISET1((int32_t)(r.step >> 32)),
                        AE__MUL64(AE__HIGH64(block), AE__ISET1((int32_t)0x9E3779B9u)));
    uint32_t k0 = (uint32_t)r.seed, k1 = (uint32_t)(r.seed >> 32);
    AE__UNROLL
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        const AE__I a = AE__MUL64(c0, AE__ISET1((int32_t)0xD2511F53u));
        const AE__I b = AE__MUL64(c2, AE__ISET1((int32_t)0xCD9E8D57u));
        c0 = AE__IXOR3(AE__HIGH64(b), c1, AE__ISET1((int32_t)k0));
        c2 = AE__IXOR3(AE__HIGH64(a), c3, AE__ISET1((int32_t)k1));
        c1 = b;
        c3 = a;
    }
    *even = AE__MERGE64(c0, c2);
    *odd = AE__MERGE64(c1, c3);
}
#endif

// 24 bits to [0, 1).
AE__TEXT AE__V AE__K(unit)(AE__I bits)
{
    return AE__MUL(AE__FROM_INT(AE__SHR(bits, 8)), AE__SET1(1.0f / 16777216.0f));
}

// Box & Muller 1958: two uniforms become two independent normals.
AE__TEXT void AE__K(normals)(AE__I even, AE__I odd, AE__V *first, AE__V *second)
{
    AE__V e;
    // The radius, of a uniform in (0, 1]: its logarithm is finite.
    const AE__V f = AE__K(log_split)(AE__ADD(AE__K(unit)(even), AE__SET1(1.0f / 16777216.0f)), &e);
    const AE__V radius = AE__SQRT(AE__MUL(AE__SET1(-2.0f), AE__K(log_join)(e, f, 1)));
    // Cosine and sine of a uniform of turns: the nearest quarter, and what is left of it.
    const AE__I twice = AE__SHL(AE__SHR(odd, 8), 1);
    const AE__I quarter = AE__SAR(AE__IADD(twice, AE__ISET1(1 << 22)), 23);
    const AE__V left = AE__MUL(AE__FROM_INT(AE__ISUB(twice, AE__SHL(quarter, 23))),
                               AE__SET1(1.0f / 8388608.0f));
    const AE__V z = AE__MUL(left, left);
    AE__V s = AE__SET1(-0.004602149213f), c = AE__SET1(0.0009067398984f);
    s = AE__K(mul_add)(z, s, AE__SET1(0.07968021765f), 1);
    s = AE__K(mul_add)(z, s, AE__SET1(-0.6459634777f), 1);
    s = AE__MUL(left, AE__K(mul_add)(z, s, AE__SET1(1.570796322f), 1));
    c = AE__K(mul_add)(z, c, AE__SET1(-0.02086152834f), 1);
    c = AE__K(mul_add)(z, c, AE__SET1(0.2536694104f), 1);
    c = AE__K(mul_add)(z, c, AE__SET1(-1.233700549f), 1);
    c = AE__K(mul_add)(z, c, AE__SET1(1.0f), 1);
    const AE__M swap = AE__GT(AE__FROM_INT(AE__IAND(quarter, AE__ISET1(1))), AE__SET1(0.0f));
    const AE__I minus = AE__ISET1(INT32_MIN), after = AE__IADD(quarter, AE__ISET1(1));
    const AE__I cosine = AE__BITS(AE__SELECT(swap, s, c)), sine = AE__BITS(AE__SELECT(swap, c, s));
    *first = AE__MUL(radius, AE__FLOAT(AE__IXOR(cosine, AE__IAND(AE__SHL(after, 30), minus))));
    *second = AE__MUL(radius, AE__FLOAT(AE__IXOR(sine, AE__IAND(AE__SHL(quarter, 30), minus))));
}

#ifndef AE__ELEMENTS
static void AE__K(random)(float *x, size_t n, uint64_t block, ae_random r, int normal)
{
#if AE__VN > 1
    // Zipping takes the low halves of each four lanes, then the high ones: so are blocks dealt out.
    uint64_t blocks[AE__VN / 2], step[AE__VN / 2];
    for (int i = 0; i < AE__VN / 2; i++) {
        blocks[i] = block + (uint64_t)(i % 2 * (AE__VN / 4) + i / 2);
        step[i] = AE__VN / 2;
    }
    AE__I at = AE__ILOAD(blocks);
    for (size_t i = 0; i < n; i += 2 * AE__VN, at = AE__ADD64(at, AE__ILOAD(step))) {
        AE__I even, odd;
        AE__V a, b;
        AE__K(words)(&even, &odd, at, r);
        if (normal) {
            AE__K(normals)(even, odd, &a, &b);
        } else {
            a = AE__K(unit)(even);
            b = AE__K(unit)(odd);
        }
        AE__STOREU(x + i, AE__ZIP_LOW(a, b));
        AE__STOREU(x + i + AE__VN, AE__ZIP_HIGH(a, b));
    }
#else
    for (size_t i = 0; i < n; i += 4, block++) {
        int32_t even[2], odd[2];
        AE__K(words)(even, odd, block, r);
        for (int k = 0; k < 2; k++) {
            float *to = x + i + 2 * k;
            if (normal) {
                AE__K(normals)(even[k], odd[k], to, to + 1);
            } else {
                to[0] = AE__K(unit)(even[k]);
                to[1] = AE__K(unit)(odd[k]);
            }
        }
    }
#endif
}
#endif

// Gaussian noise is held in low ... high when low < high. What is replaced becomes low for the
// lower half of the probability, high for the rest.
AE__LOOP void AE__K(noise)(float *y, float *mask, const float *x, const float *draw,
                         const ae__noise *t, size_t n)
{
    const AE__V zero = AE__SET1(0.0f), one = AE__SET1(1.0f), a = AE__SET1(t->a);
    const AE__V low = AE__SET1(t->low), high = AE__SET1(t->high);
    const AE__V scale = AE__SET1(1.0f / (1.0f - t->a)), half = AE__SET1(0.5f * t->a);
    const int hold = t->low < t->high;
    for (size_t i = 0; i < n; i += AE__VN) {
        const AE__V u = AE__K(load)(draw + i, n - i);
        AE__V v = AE__K(load)(x + i, n - i), m = one;
        if (t->kind == AE__GAUSSIAN) {
            v = AE__K(mul_add)(a, u, v, 1);
            if (hold) {
                m = AE__SELECT(AE__GT(low, v), zero, AE__SELECT(AE__GT(v, high), zero, one));
                v = AE__MIN(high, AE__MAX(low, v));
            }
        } else if (t->kind == AE__DROPOUT) {
            m = AE__SELECT(AE__GE(u, a), scale, zero);
            v = AE__MUL(v, m);
        } else {
            m = AE__SELECT(AE__GE(u, a), one, zero);
            v = AE__SELECT(AE__GE(u, a), v, AE__SELECT(AE__GT(half, u), low, high));
        }
        AE__K(store)(y + i, v, n - i);
        if (mask) AE__K(store)(mask + i, m, n - i);
    }
}

#ifndef AE__ELEMENTS
/* ---- windows of 2 x 2 ---- */

// The even and the odd elements of n pairs, AE__VN of them at most.
AE__TEXT void AE__K(pairs)(AE__V *even, AE__V *odd, const float *x, size_t n)
{
    const AE__V a = AE__K(load)(x, 2 * n);
    const AE__V b = 2 * n > AE__VN ? AE__K(load)(x + AE__VN, 2 * n - AE__VN) : AE__SET1(0.0f);
    *even = AE__EVEN(a, b);
    *odd = AE__ODD(a, b);
}

// v = w where w is larger or NaN, and the same for their places.
AE__TEXT void AE__K(larger)(AE__V *v, AE__V *place, AE__V w, AE__V w_place)
{
    const AE__M more = AE__GT(w, *v), number = AE__GE(w, w);
    *v = AE__SELECT(number, AE__SELECT(more, w, *v), w);
    *place = AE__SELECT(number, AE__SELECT(more, w_place, *place), w_place);
}

static void AE__K(max_pool)(float *y, int32_t *index, const float *x, int h, int w, int W)
{
    const AE__V zero = AE__SET1(0.0f), one = AE__FLOAT(AE__ISET1(1));   // places: bits of integers
    const AE__V below = AE__FLOAT(AE__ISET1(W)), last = AE__FLOAT(AE__ISET1(W + 1));
    const AE__I lanes = AE__TO_INT(AE__ADD(AE__LOADU(ae__lanes), AE__LOADU(ae__lanes)));
    for (int i = 0; i < h; i++, y += w) {
        for (int j = 0; j < w; j += AE__VN) {
            const size_t left = (size_t)(w - j);
            const int at = 2 * (i * W + j);
            AE__V a, b, c, d, place = zero, lower = below;
            AE__K(pairs)(&a, &b, x + at, left);
            AE__K(pairs)(&c, &d, x + at + W, left);
            AE__K(larger)(&a, &place, b, one);
            AE__K(larger)(&c, &lower, d, last);
            AE__K(larger)(&a, &place, c, lower);
            AE__K(store)(y + j, a, left);
            if (index) {
                place = AE__FLOAT(AE__IADD(AE__BITS(place), AE__IADD(lanes, AE__ISET1(at))));
                if (left >= AE__VN) memcpy(index + i * w + j, &place, sizeof place);
                else AE__STOREK((float *)(void *)(index + i * w + j), place, left);
            }
        }
    }
}

#ifndef AE_NO_TRAIN
// All four places of each window are written, whole rows at a time.
static void AE__K(max_pool_grad)(float *dx, const float *dy, const int32_t *index, int h, int w,
                                 int W)
{
    const AE__V zero = AE__SET1(0.0f), one = AE__SET1(1.0f), lanes = AE__LOADU(ae__lanes);
    const AE__V below = AE__SET1((float)W), last = AE__SET1((float)(W + 1));
    const AE__I twice = AE__TO_INT(AE__ADD(lanes, lanes)), bit = AE__ISET1(1);
    const AE__V past = AE__ADD(lanes, AE__SET1((float)AE__VN));
    const AE__M odd[2] = {AE__GE(AE__FROM_INT(AE__IAND(AE__TO_INT(lanes), bit)), one),
                          AE__GE(AE__FROM_INT(AE__IAND(AE__TO_INT(past), bit)), one)};
    for (int i = 0; i < h; i++, dy += w, index += w) {
        for (int j = 0; j < w; j += AE__VN) {
            const size_t left = (size_t)(w - j);
            const int at = 2 * (i * W + j);
            const AE__V v = AE__K(load)(dy + j, left);
            AE__V place;
            if (left >= AE__VN) memcpy(&place, index + j, sizeof place);
            else place = AE__LOADK((const float *)(const void *)(index + j), left);
            // where it is in its window: 0, 1, W or W + 1
            const AE__V in = AE__FROM_INT(AE__ISUB(AE__BITS(place),
                                                   AE__IADD(twice, AE__ISET1(at))));
            const AE__M not_first = AE__GE(in, one), low = AE__GE(in, below);
            const AE__M is_last = AE__GE(in, last);
            const AE__V even[2] = {AE__SELECT(not_first, zero, v),
                                   AE__SELECT(is_last, zero, AE__SELECT(low, v, zero))};
            const AE__V odds[2] = {AE__SELECT(low, zero, AE__SELECT(not_first, v, zero)),
                                   AE__SELECT(is_last, v, zero)};
            AE__UNROLL
            for (int row = 0; row < 2; row++) {
                float *to = dx + at + row * W;
                AE__K(store)(to, AE__SELECT(odd[0], AE__TWICE_LOW(odds[row]),
                                            AE__TWICE_LOW(even[row])), 2 * left);
                if (2 * left > AE__VN)
                    AE__K(store)(to + AE__VN, AE__SELECT(odd[1], AE__TWICE_HIGH(odds[row]),
                                                         AE__TWICE_HIGH(even[row])),
                                 2 * left - AE__VN);
            }
        }
    }
}
#endif

static void AE__K(sum_pool)(float *y, const float *x, float a, int h, int w, int W)
{
    for (int i = 0; i < h; i++, y += w, x += 2 * W) {
        for (int j = 0; j < w; j += AE__VN) {
            const size_t left = (size_t)(w - j);
            AE__V v[4];
            AE__K(pairs)(&v[0], &v[1], x + 2 * j, left);
            AE__K(pairs)(&v[2], &v[3], x + W + 2 * j, left);
            const AE__V sum = AE__ADD(AE__ADD(v[0], v[1]), AE__ADD(v[2], v[3]));
            AE__K(store)(y + j, AE__MUL(AE__SET1(a), sum), left);
        }
    }
}

static void AE__K(twice)(float *y, const float *x, float a, int h, int w)
{
    for (int i = 0; i < h; i++, x += w, y += 4 * w) {
        for (int j = 0; j < w; j += AE__VN) {
            const size_t left = 2 * (size_t)(w - j);
            const AE__V v = AE__MUL(AE__SET1(a), AE__K(load)(x + j, left / 2));
            const AE__V low = AE__TWICE_LOW(v), high = AE__TWICE_HIGH(v);
            for (int row = 0; row < 2; row++) {
                float *to = y + 2 * (row * w + j);
                AE__K(store)(to, low, left);
                if (left > AE__VN) AE__K(store)(to + AE__VN, high, left - AE__VN);
            }
        }
    }
}
#endif

#ifndef AE_NO_TRAIN
#ifndef AE__ELEMENTS
static void AE__K(mul)(float *y, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i += AE__VN) {
        const AE__V va = AE__K(load)(a + i, n - i), vb = AE__K(load)(b + i, n - i);
        AE__K(store)(y + i, AE__MUL(va, vb), n - i);
    }
}
#endif

/* v, but 0 where |v| is below `least`. Denormal numbers cost a hundred cycles each; saturated units
   make gradients that small, and no optimiser can tell them from 0. NaN stays. */
AE__TEXT AE__V AE__K(flush)(AE__V v, float least)
{
    // compared as integers: clang's -Ofast turns the other comparison round, and NaN would be lost
    const AE__I below = AE__ISUB(AE__BITS(AE__ABS(v)), AE__BITS(AE__SET1(least)));
    return AE__FLOAT(AE__IAND(AE__BITS(v), AE__IXOR(AE__SAR(below, 31), AE__ISET1(-1))));
}

// sigmoid(x) and its slope s (1 - s), from the half where 1 - s does not cancel.
AE__TEXT AE__V AE__K(sigmoid_slope)(AE__V x, AE__V *slope)
{
    const AE__V zero = AE__SET1(0.0f), one = AE__SET1(1.0f);
    const AE__V low = AE__K(sigmoid)(AE__SUB(zero, AE__ABS(x))), high = AE__SUB(one, low);
    *slope = AE__MUL(low, high);
    return AE__SELECT(AE__GT(x, zero), high, low);
}

// act'(x), where y = act(x).
AE__TEXT AE__V AE__K(act_slope)(AE__V x, AE__V y, int act, AE__V a)
{
    const AE__V zero = AE__SET1(0.0f), one = AE__SET1(1.0f);
    AE__V slope;
    switch (act) {
    case AE_ACT_RELU: return AE__SELECT(AE__GT(x, zero), one, zero);
    case AE_ACT_LEAKY_RELU: return AE__SELECT(AE__GT(x, zero), one, a);
    case AE_ACT_ELU: return AE__SELECT(AE__GT(x, zero), one, AE__ADD(y, a));
    case AE_ACT_GELU: {
        const AE__V below = AE__K(normal)(x, &slope);
        return AE__FMA(AE__MIN(AE__SET1(15.0f), AE__MAX(AE__SET1(-15.0f), x)), slope, below);
    }
    case AE_ACT_GELU_TANH: {
        x = AE__MIN(AE__SET1(15.0f), AE__MAX(AE__SET1(-15.0f), x));
        const AE__V a1 = AE__SET1(AE__GELU_A), bx2 = AE__MUL(AE__SET1(AE__GELU_B), AE__MUL(x, x));
        const AE__V s = AE__K(sigmoid_slope)(AE__MUL(x, AE__ADD(a1, bx2)), &slope);
        return AE__FMA(AE__MUL(x, slope), AE__FMA(AE__SET1(3.0f), bx2, a1), s);
    }
    case AE_ACT_SILU: {
        const AE__V s = AE__K(sigmoid_slope)(x, &slope);
        return AE__FMA(AE__MIN(AE__SET1(128.0f), AE__MAX(AE__SET1(-128.0f), x)), slope, s);
    }
    case AE_ACT_SOFTPLUS: return AE__K(sigmoid)(x);
    case AE_ACT_SIGMOID: return AE__MUL(y, AE__SUB(one, y));
    case AE_ACT_TANH: return AE__SUB(one, AE__MUL(y, y));
    default: return one;
    }
}

#ifndef AE__ELEMENTS
AE__TEXT void AE__K(act_grad_loop)(float *dx, const float *dy, const float *x, const float *y,
                                     int act, float a, size_t n)
{
    const AE__V va = AE__SET1(a);
    for (size_t i = 0; i < n; i += AE__VN) {
        const AE__V vx = AE__K(load)(x + i, n - i), vy = AE__K(load)(y + i, n - i);
        const AE__V slope = AE__K(act_slope)(vx, vy, act, va);
        const AE__V d = AE__MUL(AE__K(load)(dy + i, n - i), slope);
        AE__K(store)(dx + i, AE__K(flush)(d, 1e-30f), n - i);
    }
}

static void AE__K(act_grad)(float *dx, const float *dy, const float *x, const float *y, int act,
                            float a, size_t n)
{
    switch (act) {
#define AE__CASE(kind) case kind: AE__K(act_grad_loop)(dx, dy, x, y, kind, a, n); break;
    AE__ACTS(AE__CASE)
#undef AE__CASE
    }
}
#endif

// ln x for x in 0 ... 1, not below -100.
AE__TEXT AE__V AE__K(bce_log)(AE__V x)
{
    AE__V e;
    // Below the normal floats: ln x = ln(2^23 x) - 23 ln 2.
    const AE__M tiny = AE__GT(AE__SET1(1.17549435e-38f), x);
    const AE__V scaled = AE__MUL(x, AE__SELECT(tiny, AE__SET1(8388608.0f), AE__SET1(1.0f)));
    const AE__V f = AE__K(log_split)(scaled, &e);
    e = AE__SUB(e, AE__SELECT(tiny, AE__SET1(23.0f), AE__SET1(0.0f)));
    const AE__V least = AE__SET1(-100.0f);
    return AE__SELECT(AE__GT(x, AE__SET1(0.0f)), AE__MAX(least, AE__K(log_join)(e, f, 0)), least);
}

// ln(1 - x) for x in 0 ... 1, not below -100.
AE__TEXT AE__V AE__K(bce_log_not)(AE__V x)
{
    const AE__V log = AE__K(log1p)(AE__SUB(AE__SET1(0.0f), x));
    return AE__SELECT(AE__GT(AE__SET1(1.0f), x), log, AE__SET1(-100.0f));
}

// The term of the loss, d = y - t.
AE__TEXT AE__V AE__K(loss_term)(AE__V y, AE__V t, int kind, AE__V a)
{
    const AE__V zero = AE__SET1(0.0f), half = AE__SET1(0.5f);
    const AE__V d = AE__SUB(y, t), size = AE__ABS(d);
    const AE__V square = AE__MUL(AE__MUL(half, d), d);
    const AE__V above = AE__SUB(size, AE__MUL(half, a));
    switch (kind) {
    case AE_LOSS_L1: return size;
    case AE_LOSS_HUBER: return AE__SELECT(AE__GT(a, size), square, AE__MUL(a, above));
    case AE_LOSS_SMOOTH_L1: return AE__SELECT(AE__GT(a, size), AE__DIV(square, a), above);
    case AE_LOSS_BCE: {
        const AE__V yes = AE__MUL(t, AE__K(bce_log)(y));
        const AE__V no = AE__MUL(AE__SUB(AE__SET1(1.0f), t), AE__K(bce_log_not)(y));
        return AE__SUB(AE__SUB(zero, yes), no);
    }
    case AE_LOSS_BCE_LOGITS: {
        // max(y,0) - y t is |y| times what the target lacks; nothing cancels.
        const AE__V lack = AE__SELECT(AE__GT(y, zero), AE__SUB(AE__SET1(1.0f), t), t);
        const AE__V log = AE__K(log1p)(AE__K(exp)(AE__SUB(zero, AE__ABS(y))));
        return AE__FMA(AE__ABS(y), lack, log);
    }
    default: return AE__MUL(d, d);
    }
}

// 1 where x is outside [0,1] or NaN, else 0.
AE__TEXT AE__V AE__K(outside)(AE__V x)
{
    const AE__V zero = AE__SET1(0.0f), one = AE__SET1(1.0f);
    return AE__SELECT(AE__GE(x, zero), AE__SELECT(AE__GE(one, x), zero, one), one);
}

#ifndef AE__ELEMENTS
AE__TEXT double AE__K(loss_loop)(const float *y, const float *t, int kind, float a, size_t n,
                                   int *bad)
{
    const int check_t = kind == AE_LOSS_BCE || kind == AE_LOSS_BCE_LOGITS;
    const int check_y = kind == AE_LOSS_BCE;
    AE__V out = AE__SET1(0.0f);     // nonzero in a lane that saw a bad value
    double sum = 0.0;
    for (size_t block = 0; block < n; block += AE__SUM_BLOCK) {
        const size_t end = n - block < AE__SUM_BLOCK ? n : block + AE__SUM_BLOCK;
        AE__V part = AE__SET1(0.0f);
        for (size_t i = block; i < end; i += AE__VN) {
            const AE__V vy = AE__K(load)(y + i, end - i), vt = AE__K(load)(t + i, end - i);
            const AE__V term = AE__K(loss_term)(vy, vt, kind, AE__SET1(a));
            part = AE__ADD(part, AE__K(keep)(term, end - i));
            if (check_t) out = AE__MAX(out, AE__K(outside)(vt));
            if (check_y) out = AE__MAX(out, AE__K(outside)(vy));
        }
        sum += AE__K(sum_lanes)(part);
    }
    if (AE__K(sum_lanes)(out) > 0.0) *bad |= 1;
    return sum;
}

static double AE__K(loss)(const float *y, const float *t, int kind, float a, size_t n, int *bad)
{
    switch (kind) {
#define AE__CASE(k) case k: return AE__K(loss_loop)(y, t, k, a, n, bad);
    AE__LOSSES(AE__CASE)
#undef AE__CASE
    default: return 0.0;
    }
}
#endif

// The term's derivative by y.
AE__TEXT AE__V AE__K(loss_slope)(AE__V y, AE__V t, int kind, AE__V a)
{
    const AE__V zero = AE__SET1(0.0f), one = AE__SET1(1.0f);
    const AE__V d = AE__SUB(y, t), size = AE__ABS(d);
    const AE__V negative = AE__SELECT(AE__GT(zero, d), AE__SET1(-1.0f), d);     // d is 0 or NaN
    const AE__V sign = AE__SELECT(AE__GT(d, zero), one, negative);
    switch (kind) {
    case AE_LOSS_L1: return sign;
    case AE_LOSS_HUBER: return AE__SELECT(AE__GT(a, size), d, AE__MUL(a, sign));
    case AE_LOSS_SMOOTH_L1: return AE__SELECT(AE__GT(a, size), AE__DIV(d, a), sign);
    case AE_LOSS_BCE: {
        const AE__V variance = AE__MUL(y, AE__SUB(one, y));
        return AE__DIV(d, AE__MAX(AE__SET1(1e-12f), variance));
    }
    case AE_LOSS_BCE_LOGITS: return AE__SUB(AE__K(sigmoid)(y), t);
    default: return AE__ADD(d, d);
    }
}

AE__TEXT void AE__K(loss_grad_loop)(float *dy, float *dt, const float *y, const float *t,
                                      int kind, float a, float scale, size_t n)
{
    const AE__V zero = AE__SET1(0.0f);
    for (size_t i = 0; i < n; i += AE__VN) {
        const AE__V vy = AE__K(load)(y + i, n - i), vt = AE__K(load)(t + i, n - i);
        const AE__V slope = AE__K(loss_slope)(vy, vt, kind, AE__SET1(a));
        AE__V by_t = AE__SUB(zero, slope);      // all but the two below depend on y - t alone
        if (kind == AE_LOSS_BCE) by_t = AE__SUB(AE__K(bce_log_not)(vy), AE__K(bce_log)(vy));
        if (kind == AE_LOSS_BCE_LOGITS) by_t = AE__SUB(zero, vy);
        if (dy) AE__K(store)(dy + i, AE__K(flush)(AE__MUL(AE__SET1(scale), slope), 1e-30f), n - i);
        if (dt) AE__K(store)(dt + i, AE__MUL(AE__SET1(scale), by_t), n - i);
    }
}

#ifndef AE__ELEMENTS
static void AE__K(loss_grad)(float *dy, float *dt, const float *y, const float *t, int kind,
                             float a, float scale, size_t n)
{
    switch (kind) {
#define AE__CASE(k) case k: AE__K(loss_grad_loop)(dy, dt, y, t, k, a, scale, n); break;
    AE__LOSSES(AE__CASE)
#undef AE__CASE
    }
}
#endif

// decay old + (1 - decay) g^2; squares that would be denormal are 0.
AE__TEXT AE__V AE__K(decay_square)(const float *old, AE__V decay, AE__V rest, AE__V g,
                                     size_t left)
{
    g = AE__K(flush)(g, 1e-16f);
    const AE__V square = AE__MUL(AE__MUL(rest, g), g);
    return AE__K(flush)(AE__FMA(decay, AE__K(load)(old, left), square), 1.17549435e-38f);
}

// Formulas and their order: PyTorch's torch.optim. Moments decay; what gets below `least` is 0.
AE__LOOP void AE__K(update)(float *w, float *s1, float *s2, const float *g, const ae__update *u,
                          size_t n)
{
    const float least = 1.17549435e-38f;
    const AE__V lr = AE__SET1(u->lr), eps = AE__SET1(u->eps), momentum = AE__SET1(u->momentum);
    const AE__V beta1 = AE__SET1(u->beta1), rest1 = AE__SET1(1.0f - u->beta1);
    const AE__V beta2 = AE__SET1(u->beta2), rest2 = AE__SET1(1.0f - u->beta2);
    const AE__V step = AE__SET1(u->lr * u->c1), root2 = AE__SQRT(AE__SET1(u->c2));
    const AE__V decay = AE__SET1(u->kind == AE_ADAMW ? 0.0f : u->weight_decay);
    const AE__V shrink = AE__SET1(u->kind == AE_ADAMW ? 1.0f - u->lr * u->weight_decay : 1.0f);
    for (size_t i = 0; i < n; i += AE__VN) {
        const size_t left = n - i;
        AE__V vw = AE__K(load)(w + i, left);
        AE__V vg = AE__FMA(decay, vw, AE__K(load)(g + i, left));
        vw = AE__MUL(vw, shrink);
        switch (u->kind) {
        case AE_ADAM:
        case AE_ADAMW: {
            const AE__V old = AE__K(load)(s1 + i, left);
            const AE__V mean = AE__K(flush)(AE__FMA(beta1, old, AE__MUL(rest1, vg)), least);
            const AE__V square = AE__K(decay_square)(s2 + i, beta2, rest2, vg, left);
            AE__K(store)(s1 + i, mean, left);
            AE__K(store)(s2 + i, square, left);
            vg = AE__DIV(mean, AE__FMA(AE__SQRT(square), root2, eps));
            break;
        }
        case AE_SGD:
            if (u->momentum != 0.0f) {
                AE__V buf = vg;
                if (!u->first) buf = AE__FMA(momentum, AE__K(load)(s1 + i, left), vg);
                buf = AE__K(flush)(buf, least);
                AE__K(store)(s1 + i, buf, left);
                vg = u->nesterov ? AE__FMA(momentum, buf, vg) : buf;
            }
            break;
        case AE_RMSPROP: {
            const AE__V square = AE__K(decay_square)(s1 + i, beta2, rest2, vg, left);
            AE__K(store)(s1 + i, square, left);
            vg = AE__DIV(vg, AE__ADD(AE__SQRT(square), eps));
            if (u->momentum != 0.0f) {
                vg = AE__K(flush)(AE__FMA(momentum, AE__K(load)(s2 + i, left), vg), least);
                AE__K(store)(s2 + i, vg, left);
            }
            break;
        }
        default: {  // AE_ADAGRAD
            const AE__V square = AE__FMA(vg, vg, AE__K(load)(s1 + i, left));
            AE__K(store)(s1 + i, square, left);
            vg = AE__DIV(vg, AE__ADD(AE__SQRT(square), eps));
        }
        }
        const int adam = u->kind == AE_ADAM || u->kind == AE_ADAMW;
        AE__K(store)(w + i, AE__SUB(vw, AE__MUL(adam ? step : lr, vg)), left);
    }
}

AE__LOOP void AE__K(clamp)(float *x, float limit, size_t n)
{
    for (size_t i = 0; i < n; i += AE__VN) {
        const AE__V v = AE__MAX(AE__SET1(-limit), AE__K(load)(x + i, n - i));
        AE__K(store)(x + i, AE__MIN(AE__SET1(limit), v), n - i);
    }
}
#endif

#ifndef AE__ELEMENTS
// Lanes sum a few terms in float: a mean is taken twice, a variance must not drown in rounding.
// These sums are added in double.
#define AE__FEW_TERMS 32
static void AE__K(moments)(double sum[2], const float *g, float shift, const float *x, float mean,
                           size_t n)
{
    const AE__V s = AE__SET1(shift), m = AE__SET1(mean);
    for (size_t i = 0; i < n;) {
        AE__V part = AE__SET1(0.0f), product = AE__SET1(0.0f);
        for (int terms = 0; terms < AE__FEW_TERMS && i < n; terms++, i += AE__VN) {
            const AE__V v = AE__K(keep)(AE__SUB(AE__K(load)(g + i, n - i), s), n - i);
            part = AE__ADD(part, v);
            product = AE__FMA(v, AE__SUB(AE__K(load)(x + i, n - i), m), product);
        }
        sum[0] += AE__K(sum_lanes)(part);
        sum[1] += AE__K(sum_lanes)(product);
    }
}

static void AE__K(column_moments)(double (*sums)[2], const float *g, const float *shift,
                                  const float *x, const float *mean, size_t ld, size_t rows,
                                  size_t n)
{
    for (size_t j = 0; j < n; j += AE__VN) {
        const size_t k = n - j < AE__VN ? n - j : AE__VN;
        const AE__V s = AE__K(load)(shift + j, k), m = AE__K(load)(mean + j, k);
        for (size_t r = 0; r < rows;) {
            float lane[2][AE__VN];
            AE__V part = AE__SET1(0.0f), product = AE__SET1(0.0f);
            for (int terms = 0; terms < AE__FEW_TERMS && r < rows; terms++, r++) {
                const AE__V v = AE__SUB(AE__K(load)(g + r * ld + j, k), s);
                part = AE__ADD(part, v);
                product = AE__FMA(v, AE__SUB(AE__K(load)(x + r * ld + j, k), m), product);
            }
            AE__STOREU(lane[0], part);
            AE__STOREU(lane[1], product);
            for (size_t i = 0; i < k; i++) {
                sums[j + i][0] += (double)lane[0][i];
                sums[j + i][1] += (double)lane[1][i];
            }
        }
    }
}

static void AE__K(affine)(float *y, const float *x, float mean, float a, float b, const float *g,
                          float scale, size_t n)
{
    const AE__V m = AE__SET1(mean), slope = AE__SET1(a), shift = AE__SET1(b);
    for (size_t i = 0; i < n; i += AE__VN) {
        AE__V v = AE__FMA(AE__SUB(AE__K(load)(x + i, n - i), m), slope, shift);
        if (g) v = AE__FMA(AE__K(load)(g + i, n - i), AE__SET1(scale), v);
        AE__K(store)(y + i, v, n - i);
    }
}

static void AE__K(column_affine)(float *y, const float *x, const float *mean, const float *a,
                                 const float *b, const float *g, const float *scale, size_t n)
{
    for (size_t i = 0; i < n; i += AE__VN) {
        const size_t k = n - i;
        AE__V v = AE__SUB(AE__K(load)(x + i, k), AE__K(load)(mean + i, k));
        v = AE__FMA(v, AE__K(load)(a + i, k), AE__K(load)(b + i, k));
        if (g) v = AE__FMA(AE__K(load)(g + i, k), AE__K(load)(scale + i, k), v);
        AE__K(store)(y + i, v, k);
    }
}

static const ae_kernels AE__K(table) = {
    AE__NAME, AE__ISA, AE__MR, AE__NR, AE__K(gemm), AE__K(expand), AE__K(small), AE__K(bytes),
    AE__K(act), AE__K(softmax), AE__K(add), AE__K(axpy), AE__K(scale), AE__K(dot),
    AE__K(column_sum), AE__K(lines), AE__K(conv), AE__K(random), AE__K(noise), AE__K(max_pool),
    AE__K(sum_pool), AE__K(twice), AE__K(moments), AE__K(affine), AE__K(column_moments),
    AE__K(column_affine),
#ifndef AE_NO_TRAIN
    AE__K(mul), AE__K(act_grad), AE__K(max_pool_grad), AE__K(loss), AE__K(loss_grad),
    AE__K(update), AE__K(clamp), AE__K(conv_weights), AE__K(plane_sum)
#endif
};
#endif

#undef AE__ABS
#undef AE__ADD
#undef AE__ADD64
#undef AE__BITS
#undef AE__BYTES
#undef AE__DIV
#undef AE__ELEMENTS
#undef AE__EVEN
#undef AE__EVEN64
#undef AE__EVERY2
#undef AE__FEW_TERMS
#undef AE__FIRST
#undef AE__FLOAT
#undef AE__FMA
#undef AE__FROM_INT
#undef AE__GE
#undef AE__GELU_A
#undef AE__GELU_B
#undef AE__GT
#undef AE__HALF4
#undef AE__HALVES
#undef AE__HALVES_HIGH
#undef AE__HIGH64
#undef AE__I
#undef AE__IADD
#undef AE__IAND
#undef AE__ILOAD
#undef AE__ISA
#undef AE__ISET1
#undef AE__ISUB
#undef AE__IXOR
#undef AE__IXOR3
#undef AE__LOAD4
#undef AE__FEW
#undef AE__LOADK
#undef AE__LOADM
#undef AE__LOADU
#undef AE__LOOP
#undef AE__M
#undef AE__MAX
#undef AE__MERGE64
#undef AE__MIN
#undef AE__MR
#undef AE__MUL
#undef AE__MUL64
#undef AE__NAME
#undef AE__NR
#undef AE__NV
#undef AE__ODD
#undef AE__PAIR_HIGH
#undef AE__PAIR_LOW
#undef AE__QUARTERS
#undef AE__SAR
#undef AE__SELECT
#undef AE__SET1
#undef AE__SHL
#undef AE__SHR
#undef AE__SMALL_V
#undef AE__SQRT
#undef AE__STOREK
#undef AE__STOREM
#undef AE__STOREU
#undef AE__SUB
#undef AE__SUFFIX
#undef AE__TEXT
#undef AE__TO_INT
#undef AE__TWICE_FROM
#undef AE__TWICE_HIGH
#undef AE__TWICE_LOW
#undef AE__V
#undef AE__VN
#undef AE__ZIP16
#undef AE__ZIP8
#undef AE__ZIP_HIGH
#undef AE__ZIP_LOW
#endif /* AE__PASS */

#if defined(AE__IMPLEMENT) && !defined(AE__PASS)

AE_API ae_exec ae_exec_at_most(ae_isa isa)
{
    const ae_isa cpu = ae__cpu();
    ae_exec e;
    memset(&e, 0, sizeof e);
    e.threads = 1;
    e.kernels = &AE__CERTAIN;
#ifdef AE_SCALAR
    if (isa < AE__CERTAIN.isa) e.kernels = &ae__table_scalar;
#endif
#ifdef AE__X86
    if (isa >= AE_ISA_AVX2 && cpu >= AE_ISA_AVX2) e.kernels = &ae__table_avx2;
    if (isa >= AE_ISA_AVX512 && cpu >= AE_ISA_AVX512) e.kernels = &ae__table_avx512;
#endif
    (void)isa;
    (void)cpu;
    return e;
}

AE_API ae_exec ae_exec_best(void)
{
    return ae_exec_at_most(AE_ISA_AVX512);
}

static AE__UNUSED const ae_kernels *ae__kernels_of(const ae_exec *e)
{
    return e && e->kernels ? e->kernels : &AE__CERTAIN;
}

AE_API const char *ae_exec_name(const ae_exec *e)
{
    return ae__kernels_of(e)->name;
}

static void ae__random_fill(float *x, size_t n, size_t first, ae_random r, int normal)
{
    float drawn[4 * AE__DRAW];
    for (size_t i = 0, take; i < n; i += take) {
        size_t at = first + i, lane = at % 4;       // a block has four elements
        take = ae__min(4 * AE__DRAW - lane, n - i);
        AE__CERTAIN.random(drawn, lane + take, at / 4, r, normal);
        memcpy(x + i, drawn + lane, take * sizeof *x);
    }
}

AE_API void ae_random_uniform(float *x, size_t n, size_t first, ae_random r)
{
    ae__random_fill(x, n, first, r, 0);
}

AE_API void ae_random_normal(float *x, size_t n, size_t first, ae_random r)
{
    ae__random_fill(x, n, first, r, 1);
}

/* What follows has its inner loops in the kernels, or none that matter: less optimisation costs it
   nothing and saves a third of the time to compile the header, or, where models are only run, a
   tenth of its code. */
#if defined(__OPTIMIZE__) && !defined(__OPTIMIZE_SIZE__) && defined(__GNUC__) \
    && !defined(__clang__) && !defined(__CUDACC__)
#define AE__LESS_OPTIMIZED
#pragma GCC push_options
#ifdef AE_NO_TRAIN
#pragma GCC optimize("Os")
#else
#pragma GCC optimize("Og")
#endif
#endif

/* ---------------------------------------------------------------------------
   >>linear   y = x w^T + b                                                   */

/* Elementwise work is cut into pieces by its size alone, so that sums over the pieces have the
   same order for any number of threads. Few elements are not worth a thread; of more there are so
   many pieces that threads get nearly the same. */
#define AE__PIECES 64

static size_t ae__piece(size_t n)
{
    const size_t piece = ae__round_up((n + AE__PIECES - 1) / AE__PIECES, AE_ALIGN);
    return n <= 8192 ? 8192 : piece < 1024 ? 1024 : piece;
}

static int ae__pieces(size_t n)
{
    return n ? (int)((n + ae__piece(n) - 1) / ae__piece(n)) : 0;
}

/* What becomes of each element of a product as soon as it is there: of c act(c), or, where y are
   values act(x) that lie as the product does, c act'(x). The thread that has the element in its
   cache does it, and nobody waits in between. */
typedef struct ae__then {
    int act;
    float a;
    const float *y;             // NULL: act(c)
} ae__then;

/* C (m,n) = or += A (m,k) B (k,n) + bias, cut over the threads by rows or by columns of C.
   Element (i,p) of A is a[i*ars + p*acs]; one stride of each matrix is 1. */
typedef struct ae__gemm_task {
    const ae_kernels *kernels;
    float *c;
    const float *a, *b, *bias;
    ptrdiff_t ldc, ars, acs, brs, bcs;
    int m, n, k, accumulate;
    const ae__then *then;       // or NULL
    int by_columns, piece;      // which side is cut, and the size of a piece
    int pieces;
} ae__gemm_task;

// Does it for m rows of n elements at c, which are ldc apart; the product begins at `start`.
static void ae__do_then(const ae_kernels *kernels, const ae__then *then, const float *start,
                        float *c, ptrdiff_t ldc, int m, int n)
{
    const size_t rows = ldc == n ? 1 : (size_t)m;       // or all together
    const size_t count = ldc == n ? (size_t)m * (size_t)n : (size_t)n;
    for (size_t r = 0; r < rows && then; r++, c += ldc) {
        if (then->y == NULL)
            kernels->act(c, c, then->act, then->a, count);
#ifndef AE_NO_TRAIN
        else
            kernels->act_grad(c, c, then->y + (c - start), then->y + (c - start), then->act,
                              then->a, count);
#endif
    }
    (void)start;
}

static void ae__gemm_job(void *arg, int task)
{
    const ae__gemm_task *g = (const ae__gemm_task *)arg;
#ifdef AE_USE_CBLAS
    // A vector may have both strides 1: a matrix is taken as stored by rows when its rows fit.
    const int a_rows = g->acs == 1 && g->ars >= g->k, b_rows = g->bcs == 1 && g->brs >= g->n;
    for (int i = 0; i < g->m && g->bias; i++)
        memcpy(g->c + i * g->ldc, g->bias, (size_t)g->n * sizeof *g->c);
    cblas_sgemm(CblasRowMajor, a_rows ? CblasNoTrans : CblasTrans,
                b_rows ? CblasNoTrans : CblasTrans, g->m, g->n, g->k, 1.0f, g->a,
                (int)(a_rows ? g->ars : g->acs), g->b, (int)(b_rows ? g->brs : g->bcs),
                g->accumulate || g->bias ? 1.0f : 0.0f, g->c, (int)g->ldc);
    ae__do_then(g->kernels, g->then, g->c, g->c, g->ldc, g->m, g->n);
    (void)task;
#else
    const int first = task * g->piece, side = g->by_columns ? g->n : g->m;
    const int size = side - first < g->piece ? side - first : g->piece;
    const int m = g->by_columns ? g->m : size, n = g->by_columns ? size : g->n;
    const ptrdiff_t i = g->by_columns ? 0 : first, j = g->by_columns ? first : 0;
    float *c = g->c + i * g->ldc + j, scratch[AE__GEMM_MIN];
    g->kernels->gemm(c, g->ldc, g->a + i * g->ars, g->ars, g->acs, g->b + j * g->bcs, g->brs,
                     g->bcs, g->bias ? g->bias + j : NULL, m, n, g->k, g->accumulate, scratch,
                     AE__GEMM_MIN);
    ae__do_then(g->kernels, g->then, g->c, c, g->ldc, m, n);
#endif
}

// Threads for so many multiply-adds with weights of so many outputs and inputs.
static int ae__product_threads(const ae_exec *e, int B, int D, int O)
{
    // A few rows take as long as eight: the weights have to be read. Less than 1e6 is not worth a
    // thread. A CBLAS has threads of its own.
#ifdef AE_USE_CBLAS
    return (void)e, (void)B, (void)D, (void)O, 1;
#else
    return e && (double)(B < 8 ? 8 : B) * D * O > 1e6 ? e->threads : 1;
#endif
}

static ae__gemm_task ae__gemm_of(const ae_exec *e, int threads, float *c, ptrdiff_t ldc,
                                 const float *a, ptrdiff_t ars, ptrdiff_t acs, const float *b,
                                 ptrdiff_t brs, ptrdiff_t bcs, const float *bias, int m, int n,
                                 int k, int accumulate)
{
    ae__gemm_task g;
    g.kernels = ae__kernels_of(e);
    g.c = c;
    g.a = a;
    g.b = b;
    g.bias = bias;
    g.ldc = ldc;
    g.ars = ars;
    g.acs = acs;
    g.brs = brs;
    g.bcs = bcs;
    g.m = m;
    g.n = n;
    g.k = k;
    g.accumulate = accumulate;
    g.then = NULL;
    // By rows, B is packed by each. Columns are cut at half panels.
    g.by_columns = n >= threads * g.kernels->nr || n > m;
    const int half = g.kernels->nr > 1 ? g.kernels->nr / 2 : 1;
    const int side = g.by_columns ? n : m, tile = g.by_columns ? half : g.kernels->mr;
    const int tiles = (side + tile - 1) / tile;
    g.piece = (tiles + threads - 1) / threads * tile;
    g.pieces = (side + g.piece - 1) / g.piece;
    return g;
}

static AE__UNUSED void ae__gemm(const ae_exec *e, float *c, ptrdiff_t ldc, const float *a,
                                ptrdiff_t ars, ptrdiff_t acs, const float *b, ptrdiff_t brs,
                                ptrdiff_t bcs, const float *bias, int m, int n, int k,
                                int accumulate)
{
    ae__gemm_task g = ae__gemm_of(e, ae__product_threads(e, m, n, k), c, ldc, a, ars, acs, b, brs,
                                  bcs, bias, m, n, k, accumulate);
    ae__parallel(e, g.pieces, ae__gemm_job, &g);
}

// ae_linear_forward, then `then` (or NULL) in place.
static void ae__linear_then(const ae_exec *e, float *y, const float *x, const float *w,
                            const float *b, int B, int D, int O, const ae__then *then)
{
    ae__gemm_task g = ae__gemm_of(e, ae__product_threads(e, B, D, O), y, O, x, D, 1, w, 1, D, b,
                                  B, O, D, 0);
    g.then = then;
    ae__parallel(e, g.pieces, ae__gemm_job, &g);
}

AE_API void ae_linear_forward(const ae_exec *e, float *y, const float *x, const float *w,
                              const float *b, int B, int D, int O)
{
    ae__linear_then(e, y, x, w, b, B, D, O, NULL);
}

// ---- weights in fewer bytes

/* Rows times columns of weights: a whole number or a half each, and a scale for each row. Of linear
   layers AE__SMALL rows lie together, column by column (zeros where there are no more rows); of
   convolutions the weights lie as their floats do. */
typedef struct ae__small {
    void *q;
    float *scale;
    int half;                   // bytes else
    int together;               // rows that lie together: AE__SMALL or 1
} ae__small;

// The elements that so many weights take, the ones that are read beyond the end included.
static size_t ae__small_count(int rows, size_t columns, int together)
{
    size_t all = ae__sat_mul(ae__round_up((size_t)rows, (size_t)together), columns);
    return ae__round_up(all, AE_ALIGN);
}

// To the nearest half, to the even one of two. x is finite; what is too large becomes the largest.
static uint16_t ae__half_of(float x)
{
    uint32_t u, sign;
    memcpy(&u, &x, sizeof u);
    sign = u >> 16 & 0x8000u;
    u &= 0x7fffffffu;
    if (u >= 0x477ff000u)                               // 65520
        u = 0x7bffu;
    else if (u >= 0x38800000u)                          // 2^-14
        u = (u + 0xfffu + (u >> 13 & 1u) - (112u << 23)) >> 13;
    else {                      // whole multiples of 2^-24: so are the floats from 1/2 to 1
        float sum;
        memcpy(&sum, &u, sizeof sum);
        sum += 0.5f;
        memcpy(&u, &sum, sizeof u);
        u -= 0x3f000000u;
    }
    return (uint16_t)(sign | u);
}

static double ae__half_value(uint16_t h)
{
    const int exponent = h >> 10 & 31, digits = (h & 1023) + (exponent ? 1024 : 0);
    const double value = ldexp((double)digits, (exponent ? exponent : 1) - 25);
    return h & 0x8000 ? -value : value;
}

/* Makes s of w (rows,columns); q is zeroed. change[0] += the square of what rounding changed,
   change[1] += that of the weights. */
static void ae__shrink(const ae__small *s, const float *w, int rows, size_t columns,
                       double change[2])
{
    const size_t together = (size_t)s->together;
    for (size_t r = 0; r < (size_t)rows; r++, w += columns) {
        float most = 0.0f;
        for (size_t c = 0; c < columns; c++)
            if (most < fabsf(w[c]))
                most = fabsf(w[c]);
        s->scale[r] = s->half ? 1.0f : most / 127.0f;
        for (size_t c = 0; c < columns; c++) {
            size_t at = (r / together * columns + c) * together + r % together;
            double value = (double)w[c], rounded;
            if (s->half) {
                uint16_t h = ae__half_of(w[c]);
                ((uint16_t *)s->q)[at] = h;
                rounded = ae__half_value(h);
            } else {            // a scale may be 0, or itself too small to be exact
                double q = s->scale[r] > 0.0f ? floor(value / (double)s->scale[r] + 0.5) : 0.0;
                q = q > 127.0 ? 127.0 : q < -127.0 ? -127.0 : q;
                ((int8_t *)s->q)[at] = (int8_t)q;
                rounded = q * (double)s->scale[r];
            }
            change[0] += (rounded - value) * (rounded - value);
            change[1] += value * value;
        }
    }
}

// The floats w (rows,columns) of weights that lie row by row.
static void ae__expand(const ae_exec *e, float *w, const ae__small *s, int rows, size_t columns)
{
    const ae_kernels *kernels = ae__kernels_of(e);
    kernels->expand(w, s->q, s->half, (size_t)rows * columns);
    for (int r = 0; r < rows && !s->half; r++)
        kernels->scale(w + (size_t)r * columns, s->scale[r], columns);
}

typedef struct ae__small_task {
    const ae_kernels *kernels;
    const ae__small *w;
    float *y;
    const float *x, *b;
    int B, D, O, piece;         // piece: outputs of a task
    const ae__then *then;       // or NULL
} ae__small_task;

static void ae__small_job(void *arg, int task)
{
    const ae__small_task *t = (const ae__small_task *)arg;
    const size_t panel = (size_t)t->D * AE__SMALL * (t->w->half ? 2 : 1);
    for (int o = task * t->piece; o < t->O && o < (task + 1) * t->piece; o += AE__SMALL) {
        const int outputs = t->O - o < AE__SMALL ? t->O - o : AE__SMALL;
        t->kernels->small(t->y + o, t->O, t->x, (char *)t->w->q + (size_t)(o / AE__SMALL) * panel,
                          t->w->scale + o, t->b ? t->b + o : NULL, t->w->half, t->B, t->D,
                          outputs);
        ae__do_then(t->kernels, t->then, t->y, t->y + o, t->O, t->B, outputs);
    }
}

// ae__linear_then with such weights.
static void ae__linear_small(const ae_exec *e, float *y, const float *x, const ae__small *w,
                             const float *b, int B, int D, int O, const ae__then *then)
{
    int threads = e && (double)(B < 8 ? 8 : B) * D * O > 1e6 ? e->threads : 1;
    int panels = (O + AE__SMALL - 1) / AE__SMALL;
    ae__small_task t;
    t.kernels = ae__kernels_of(e);
    t.w = w;
    t.y = y;
    t.x = x;
    t.b = b;
    t.B = B;
    t.D = D;
    t.O = O;
    t.then = then;
    t.piece = (panels + threads - 1) / threads * AE__SMALL;
    ae__parallel(e, (O + t.piece - 1) / t.piece, ae__small_job, &t);
}

#ifndef AE_NO_TRAIN
typedef struct ae__column_task {
    const ae_kernels *kernels;
    float *y;
    const float *x;
    int rows, columns, fresh, piece, pieces;
} ae__column_task;

static void ae__column_job(void *arg, int task)
{
    const ae__column_task *t = (const ae__column_task *)arg;
    const int first = task * t->piece;
    const int size = t->columns - first < t->piece ? t->columns - first : t->piece;
    if (t->fresh)
        memset(t->y + first, 0, (size_t)size * sizeof *t->y);
    t->kernels->column_sum(t->y + first, t->x + first, (size_t)t->columns, t->rows, size);
}

// The column sums of x (rows,columns), unless y is NULL.
static ae__column_task ae__column_sums(const ae_exec *e, int threads, float *y, const float *x,
                                       int rows, int columns, int fresh)
{
    const int tile = AE_ALIGN / (int)sizeof(float), tiles = (columns + tile - 1) / tile;
    ae__column_task t;
    t.kernels = ae__kernels_of(e);
    t.y = y;
    t.x = x;
    t.rows = rows;
    t.columns = columns;
    t.fresh = fresh;
    t.piece = (tiles + threads - 1) / threads * tile;
    t.pieces = y ? (columns + t.piece - 1) / t.piece : 0;
    return t;
}

/* The gradients of a layer do not need one another: each task takes a piece of all of them. Those
   of its parameters accumulate (+=), or (fresh) are the first there are and overwritten (=). */
typedef struct ae__linear_grads {
    ae__gemm_task dx, dw;
    ae__column_task db;
} ae__linear_grads;

static void ae__linear_grads_job(void *arg, int task)
{
    ae__linear_grads *g = (ae__linear_grads *)arg;
    if (g->dx.c && task < g->dx.pieces)
        ae__gemm_job(&g->dx, task);
    if (g->dw.c && task < g->dw.pieces)
        ae__gemm_job(&g->dw, task);
    if (task < g->db.pieces)
        ae__column_job(&g->db, task);
}

static void ae__linear_grads_run(const ae_exec *e, ae__linear_grads *g, const ae__then *then)
{
    int tasks = g->db.pieces;
    g->dx.then = then;
    tasks = g->dx.c && tasks < g->dx.pieces ? g->dx.pieces : tasks;
    tasks = g->dw.c && tasks < g->dw.pieces ? g->dw.pieces : tasks;
    ae__parallel(e, tasks, ae__linear_grads_job, g);
}

// ae_linear_backward, and `then` (or NULL) in place of dx.
static void ae__linear_backward_then(const ae_exec *e, float *dx, float *dw, float *db,
                                     const float *dy, const float *x, const float *w, int B,
                                     int D, int O, const ae__then *then, int fresh)
{
    // y = x w^T + b:   dx = dy w   dw += dy^T x   db += column sums of dy
    const int threads = ae__product_threads(e, B, D, O);
    ae__linear_grads g;
    g.dx = ae__gemm_of(e, threads, dx, D, dy, O, 1, w, D, 1, NULL, B, D, O, 0);
    g.dw = ae__gemm_of(e, threads, dw, D, dy, 1, O, x, D, 1, NULL, O, D, B, !fresh);
    g.db = ae__column_sums(e, threads, db, dy, B, O, fresh);
    ae__linear_grads_run(e, &g, then);
}

AE_API void ae_linear_backward(const ae_exec *e, float *dx, float *dw, float *db,
                               const float *dy, const float *x, const float *w,
                               int B, int D, int O)
{
    ae__linear_backward_then(e, dx, dw, db, dy, x, w, B, D, O, NULL, 0);
}
#endif

static void ae__tied_linear_then(const ae_exec *e, float *y, const float *x, const float *w,
                                 const float *b, int B, int D, int O, const ae__then *then)
{
    ae__gemm_task g = ae__gemm_of(e, ae__product_threads(e, B, D, O), y, D, x, O, 1, w, D, 1, b,
                                  B, D, O, 0);
    g.then = then;
    ae__parallel(e, g.pieces, ae__gemm_job, &g);
}

AE_API void ae_tied_linear_forward(const ae_exec *e, float *y, const float *x, const float *w,
                                   const float *b, int B, int D, int O)
{
    ae__tied_linear_then(e, y, x, w, b, B, D, O, NULL);
}

#ifndef AE_NO_TRAIN
static void ae__tied_linear_backward_then(const ae_exec *e, float *dx, float *dw, float *db,
                                          const float *dy, const float *x, const float *w, int B,
                                          int D, int O, const ae__then *then, int fresh)
{
    // y = x w + b:   dx = dy w^T   dw += x^T dy   db += column sums of dy
    const int threads = ae__product_threads(e, B, D, O);
    ae__linear_grads g;
    g.dx = ae__gemm_of(e, threads, dx, O, dy, D, 1, w, 1, D, NULL, B, O, D, 0);
    g.dw = ae__gemm_of(e, threads, dw, D, x, 1, O, dy, D, 1, NULL, O, D, B, !fresh);
    g.db = ae__column_sums(e, threads, db, dy, B, D, fresh);
    ae__linear_grads_run(e, &g, then);
}

AE_API void ae_tied_linear_backward(const ae_exec *e, float *dx, float *dw, float *db,
                                    const float *dy, const float *x, const float *w, int B, int D,
                                    int O)
{
    ae__tied_linear_backward_then(e, dx, dw, db, dy, x, w, B, D, O, NULL, 0);
}
#endif

/* ---------------------------------------------------------------------------
   >>activation   functions of one element, and softmax                       */

/* The arguments of any elementwise job; each job uses the few it needs, for its piece of n. */
typedef struct ae__flat {
    const ae_kernels *kernels;
    float *out, *out2, *out3;
    const float *x, *y, *dy;
    int kind;
    float a, scale;
    size_t n, piece;
    double *sums;               // one per piece
    int *bad;                   // one per piece
    const ae__update *update;
} ae__flat;

static ae__flat ae__flat_of(const ae_exec *e, size_t n)
{
    ae__flat f;
    memset(&f, 0, sizeof f);
    f.kernels = ae__kernels_of(e);
    f.n = n;
    f.piece = ae__piece(n);
    return f;
}

static void ae__act_job(void *arg, int task)
{
    const ae__flat *f = (const ae__flat *)arg;
    size_t i = (size_t)task * f->piece;
    f->kernels->act(f->out + i, f->x + i, f->kind, f->a, ae__min(f->piece, f->n - i));
}

AE_API void ae_activation_forward(const ae_exec *e, float *y, const float *x, ae_act act, float a,
                                  size_t n)
{
    ae__flat f = ae__flat_of(e, n);
    f.out = y;
    f.x = x;
    f.kind = (int)act;
    f.a = a;
    ae__parallel(e, ae__pieces(n), ae__act_job, &f);
}

#ifndef AE_NO_TRAIN
static void ae__act_grad_job(void *arg, int task)
{
    const ae__flat *f = (const ae__flat *)arg;
    size_t i = (size_t)task * f->piece;
    f->kernels->act_grad(f->out + i, f->dy + i, f->x + i, f->y + i, f->kind, f->a,
                         ae__min(f->piece, f->n - i));
}

AE_API void ae_activation_backward(const ae_exec *e, float *dx, const float *dy, const float *x,
                                   const float *y, ae_act act, float a, size_t n)
{
    ae__flat f = ae__flat_of(e, n);
    f.out = dx;
    f.dy = dy;
    f.x = x;
    f.y = y;
    f.kind = (int)act;
    f.a = a;
    ae__parallel(e, ae__pieces(n), ae__act_grad_job, &f);
}
#endif

AE_API void ae_softmax_forward(const ae_exec *e, float *y, const float *x, int B, int F)
{
    const ae_kernels *kernels = ae__kernels_of(e);
    for (size_t b = 0; b < (size_t)B; b++)
        kernels->softmax(y + b * (size_t)F, x + b * (size_t)F, (size_t)F);
}

#ifndef AE_NO_TRAIN
AE_API void ae_softmax_backward(const ae_exec *e, float *dx, const float *dy, const float *y,
                                int B, int F)
{
    // y_i = e^x_i / sum_j e^x_j:   dx_i = y_i (dy_i - sum_j dy_j y_j)
    const ae_kernels *kernels = ae__kernels_of(e);
    for (size_t b = 0; b < (size_t)B; b++) {
        size_t row = b * (size_t)F;
        float inner = (float)kernels->dot(dy + row, y + row, (size_t)F);
        for (size_t i = row; i < row + (size_t)F; i++)
            dx[i] = y[i] * (dy[i] - inner);
    }
}
#endif

static void ae__add_job(void *arg, int task)
{
    const ae__flat *f = (const ae__flat *)arg;
    size_t i = (size_t)task * f->piece;
    f->kernels->add(f->out + i, f->x + i, f->y + i, ae__min(f->piece, f->n - i));
}

AE_API void ae_add_forward(const ae_exec *e, float *y, const float *a, const float *b, size_t n)
{
    ae__flat f = ae__flat_of(e, n);
    f.out = y;
    f.x = a;
    f.y = b;
    ae__parallel(e, ae__pieces(n), ae__add_job, &f);
}

#ifndef AE_NO_TRAIN
AE_API void ae_add_backward(const ae_exec *e, float *da, float *db, const float *dy, size_t n)
{
    (void)e;
    if (da && da != dy)
        memcpy(da, dy, n * sizeof *da);
    if (db && db != dy)
        memcpy(db, dy, n * sizeof *db);
}
#endif

// x = value, n elements; x *= a.
static void ae__fill(const ae_exec *e, float *x, float value, size_t n)
{
    (void)e;
    for (size_t i = 0; i < n; i++) x[i] = value;
}

static AE__UNUSED void ae__scale(const ae_exec *e, float *x, float a, size_t n)
{
    ae__kernels_of(e)->scale(x, a, n);
}

AE_API void ae_concat_forward(const ae_exec *e, float *y, const float *a, const float *b,
                              int B, int P, int Q)
{
    size_t p = (size_t)P, q = (size_t)Q;
    (void)e;
    for (size_t i = 0; i < (size_t)B; i++, y += p + q) {
        memcpy(y, a + i * p, p * sizeof *y);
        memcpy(y + p, b + i * q, q * sizeof *y);
    }
}

#ifndef AE_NO_TRAIN
AE_API void ae_concat_backward(const ae_exec *e, float *da, float *db, const float *dy,
                               int B, int P, int Q)
{
    size_t p = (size_t)P, q = (size_t)Q;
    (void)e;
    for (size_t i = 0; i < (size_t)B; i++, dy += p + q) {
        if (da)
            memcpy(da + i * p, dy, p * sizeof *dy);
        if (db)
            memcpy(db + i * q, dy + p, q * sizeof *dy);
    }
}

#endif

/* ---------------------------------------------------------------------------
   >>conv   convolution and its transpose                                     */

/* Both layers join a big picture (C,H,W) and a small one (O,OH,OW): for convolution its input and
   its output, for the transpose the other way round. Weight w[o,c,p,q] joins small pixel (i,j) and
   big pixel (i s - pad + p d, j s - pad + q d). There are three jobs:

       gather    small = the sum of w big     forward of conv, dx of transpose
       scatter   big = the sum of w small     dx of conv, forward of transpose
       weights   dw += the sum of small big   dw of both

   One form fits them all: output i takes by its tap t the element  start + i step + t dilation  of
   the source, along both axes. A gather is that as it stands. A scatter is s x s of them: the big
   pixels i s + phase are met by every s-th tap or so, and neighbours take neighbours of small.

   A patch of the source is laid out in scratch, with its zeros around it, so that for each tap the
   elements of neighbouring outputs are neighbours: a product can then read them in place, for a
   vector of outputs at once. It goes along the lines of the patch without a stop; what it computes
   for the few places between the lines is thrown away. Groups are layers of their own.

   Each sum has an order that the shape alone decides: for pictures over (channel, tap) in blocks of
   at most AE__GEMM_K, for weights over patches of at most AE__GEMM_K pixels and pictures. Few
   weights are summed over some pictures each, in 2, 4 ... AE__CONV_PARTS sums that threads share
   out. */
enum { AE__CONV_GATHER, AE__CONV_SCATTER, AE__CONV_WEIGHTS, AE__CONV_SUMS };

typedef struct ae__conv {
    const ae_exec *e;
    const ae_kernels *kernels;
    ae_conv o;
    int B, C, H, W, O, OH, OW;  // C and O: of one group
    int K, N;                   // C KH KW, OH OW
    int apart;                  // scatter: windows cover big side by side: each tap is a phase
    int kind;                   // what is computed, and from what
    float *out;
    const float *big, *small, *w, *bias;
    int size, piece, pieces, tasks, by_rows, parts; // see ae__conv_run
    size_t products;
} ae__conv;

typedef struct ae__conv_axis {
    int n, to, to_step;         // outputs; where they go in the picture
    int in, start, step, dilation;      // the source's size; see above
    int taps, tap, tap_step;    // which of the kernel's
} ae__conv_axis;

// What a block of taps reads of one axis, for n outputs: line e of variant v is the source's
// start + v apart + e step. Taps share a variant, each shifted by whole lines, or have their own.
typedef struct ae__conv_span {
    int start, apart, shared, variants, extent, lead, tail;
} ae__conv_span;

typedef struct ae__conv_block { // channels x lines x columns of taps, and a patch of their source
    int c, channels, p, lines, q, columns, depth;
    ae__conv_span h, w;
    int pitch;                  // floats from line to line
    ptrdiff_t plane;            // and from variant to variant
    size_t size;                // and in all, at most
} ae__conv_block;

#define AE__CONV_MIN 17408      /* floats of scratch where there are no AE_SCRATCH              */
#define AE__CONV_PANEL 8192     /* AE__GEMM_K x 32                                              */
#define AE__CONV_K 512          /* (channel, tap) at a time; their sum is still AE__GEMM_K deep */
#define AE__CONV_PARTS 8
#define AE__CONV_FEW 6144       /* weights that are few                                         */

AE_API ae_conv ae_conv_defaults(const ae_conv *o)
{
    ae_conv d;
    memset(&d, 0, sizeof d);
    if (o) d = *o;
    if (!d.kernel_w) d.kernel_w = d.kernel_h;
    if (!d.stride_h) d.stride_h = 1;
    if (!d.stride_w) d.stride_w = d.stride_h;
    if (!d.dilation_h) d.dilation_h = 1;
    if (!d.dilation_w) d.dilation_w = d.dilation_h;
    if (!d.groups) d.groups = 1;
    return d;
}

// A size from a 64-bit one: 0 where none can be.
static int ae__conv_int(int64_t size)
{
    return size < 0 || size > INT32_MAX ? 0 : (int)size;
}

AE_API int ae_conv_size(int in, int kernel, int stride, int pad, int dilation)
{
    if (in < 1 || kernel < 1 || stride < 1 || pad < 0 || dilation < 1) return 0;
    const int64_t room = in + 2 * (int64_t)pad - (int64_t)dilation * (kernel - 1) - 1;
    return room < 0 ? 0 : ae__conv_int(room / stride + 1);
}

AE_API int ae_conv_transpose_size(int in, int kernel, int stride, int pad, int dilation,
                                  int output_pad)
{
    if (in < 1 || kernel < 1 || stride < 1 || pad < 0 || dilation < 1 || output_pad < 0) return 0;
    // each product is below 2^62
    return ae__conv_int((int64_t)(in - 1) * stride - 2 * (int64_t)pad +
                        (int64_t)dilation * (kernel - 1) + output_pad + 1);
}

static int ae__least(int a, int b)
{
    return a < b ? a : b;
}

// The places [lo,hi) of n whose element, start + i step, is one of `in`.
static void ae__conv_inside(int *lo, int *hi, int start, int step, int in, int n)
{
    *hi = start < in ? (in - 1 - start) / step + 1 : 0;
    if (*hi > n) *hi = n;
    *lo = start < 0 ? (-start + step - 1) / step : 0;
    if (*lo > *hi) *lo = *hi;
}

// Along the lines (wide) or down the picture: small from big.
static ae__conv_axis ae__conv_gather_axis(const ae__conv *t, int wide)
{
    ae__conv_axis a;
    memset(&a, 0, sizeof a);
    a.n = wide ? t->OW : t->OH;
    a.in = wide ? t->W : t->H;
    a.start = wide ? -t->o.pad_w : -t->o.pad_h;
    a.step = wide ? t->o.stride_w : t->o.stride_h;
    a.dilation = wide ? t->o.dilation_w : t->o.dilation_h;
    a.taps = wide ? t->o.kernel_w : t->o.kernel_h;
    a.to_step = a.tap_step = 1;
    return a;
}

// The big pixels i stride + phase; their taps from the last one on, which meets the first pixel.
static ae__conv_axis ae__conv_scatter_axis(const ae__conv *t, int wide, int phase)
{
    const ae__conv_axis g = ae__conv_gather_axis(t, wide);
    ae__conv_axis a;
    memset(&a, 0, sizeof a);
    a.n = phase < g.in ? (g.in - 1 - phase) / g.step + 1 : 0;
    a.to = phase;
    a.to_step = g.step;
    a.in = g.n;
    a.step = a.dilation = 1;
    for (int p = g.taps - 1; p >= 0; p--) {
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

// `taps` taps from `tap` on and n outputs from `first` on: in as few variants x lines as can be.
static ae__conv_span ae__conv_span_of(const ae__conv_axis *a, int tap, int taps, int first, int n)
{
    ae__conv_span s;
    const int64_t shift = (int64_t)(taps - 1) * a->dilation / a->step;
    s.start = a->start + first * a->step + tap * a->dilation;
    s.shared = (int64_t)taps * n >= a->step * (n + shift);
    s.apart = s.shared ? 1 : a->dilation;
    s.variants = s.shared ? a->step : taps;
    s.extent = s.shared ? n + (int)shift : n;
    s.lead = s.tail = s.extent;         // zeros that all lines begin and end with
    for (int v = 0; v < s.variants; v++) {
        int lo, hi;
        ae__conv_inside(&lo, &hi, s.start + v * s.apart, a->step, a->in, s.extent);
        if (lo < s.lead) s.lead = lo;
        if (s.extent - hi < s.tail) s.tail = s.extent - hi;
    }
    return s;
}

/* The block of at most `limit` taps at number k of (channels, taps), for the outputs i0 ... i0+h-1,
   j0 ... j0+w-1: whole channels, or whole lines of the kernel, or taps of one line. */
static ae__conv_block ae__conv_block_of(const ae__conv_axis *ah, const ae__conv_axis *aw, int k,
                                        int channels, int limit, int i0, int h, int j0, int w)
{
    const int taps = ah->taps * aw->taps;
    ae__conv_block b;
    memset(&b, 0, sizeof b);
    if (!taps) {        // pixels that no tap meets
        b.w.extent = b.pitch = w;
        return b;
    }
    b.c = k / taps;
    b.channels = 1;
    b.p = k % taps / aw->taps;
    b.lines = ah->taps;
    b.columns = aw->taps;
    if (taps <= limit) {
        b.channels = ae__least(limit / taps, channels - b.c);
    } else if (aw->taps <= limit) {
        b.lines = ae__least(limit / aw->taps, ah->taps - b.p);
    } else {
        b.lines = 1;
        b.q = k % aw->taps;
        b.columns = ae__least(limit, aw->taps - b.q);
    }
    b.depth = b.channels * b.lines * b.columns;
    b.h = ae__conv_span_of(ah, b.p, b.lines, i0, h);
    b.w = ae__conv_span_of(aw, b.q, b.columns, j0, w);
    // a line's last zeros may be the next one's first
    b.pitch = b.w.extent - ae__least(b.w.lead, b.w.tail);
    b.plane = (ptrdiff_t)b.h.extent * b.pitch;
    // a product reads up to 32 floats too far
    b.size = (size_t)b.channels * (size_t)b.h.variants * (size_t)b.w.variants *
             (size_t)b.h.extent * (size_t)b.w.extent + (size_t)b.w.extent + 32;
    return b;
}

// Where the block's taps find their weight and the first of their elements.
static void ae__conv_spots(const ae__conv *t, ae__spot *at, const ae__conv_block *b,
                           const ae__conv_axis *ah, const ae__conv_axis *aw, ptrdiff_t channel)
{
    const ptrdiff_t channels = b->h.variants * b->w.variants * b->plane;
    const int taps = b->lines * b->columns;
    for (int i = 0; i < taps; i++) {
        const int p = i / b->columns, q = i % b->columns;
        const int y = p * ah->dilation, x = q * aw->dilation;
        const int u = b->h.shared ? y % ah->step : p, v = b->w.shared ? x % aw->step : q;
        const int down = b->h.shared ? y / ah->step : 0, right = b->w.shared ? x / aw->step : 0;
        at[i].a = b->c * channel + aw->tap + (b->q + q) * aw->tap_step +
                  (ah->tap + (b->p + p) * ah->tap_step) * t->o.kernel_w;
        at[i].b = (u * b->w.variants + v) * b->plane + (ptrdiff_t)down * b->pitch + right;
    }
    for (int i = taps; i < b->depth; i++) {
        at[i].a = at[i - taps].a + channel;
        at[i].b = at[i - taps].b + channels;
    }
}

// Lays the block's part of a picture. The zeros around it are there already.
static void ae__conv_lay(const ae__conv *t, float *to, const ae__conv_block *b,
                         const ae__conv_axis *ah, const ae__conv_axis *aw, const float *from)
{
    const ptrdiff_t planes = b->h.variants * b->w.variants;
    for (int u = 0; u < b->h.variants; u++) {
        const int y = b->h.start + u * b->h.apart;
        int top, bottom;
        ae__conv_inside(&top, &bottom, y, ah->step, ah->in, b->h.extent);
        for (int v = 0; v < b->w.variants; v++) {
            const int x = b->w.start + v * b->w.apart;
            int lo, hi;
            ae__conv_inside(&lo, &hi, x, aw->step, aw->in, b->w.extent);
            for (int c = 0; c < b->channels && top < bottom && lo < hi; c++)
                t->kernels->lines(to + (c * planes + u * b->w.variants + v) * b->plane +
                                      top * b->pitch + lo, b->pitch, 1,
                                  from + ((ptrdiff_t)(b->c + c) * ah->in + y + top * ah->step) *
                                      aw->in + x + lo * aw->step,
                                  (ptrdiff_t)ah->step * aw->in, aw->step, bottom - top, hi - lo,
                                  0.0f, 0);
        }
    }
}

/* ---- the jobs: number `at` of the pictures' groups (weights: of the groups), and of it the part
   first ... last-1 ---- */

typedef struct ae__conv_patch {
    const ae__conv_axis *ah, *aw;
    int i, j, h, w;             // outputs i ... i+h-1, j ... j+w-1
} ae__conv_patch;

// The largest patches that fit into the room: as high, else as wide as can be, about equally high.
static void ae__conv_fit(ae__conv_patch *p, int channels, size_t laid_n, size_t outputs)
{
    const int all = p->h;
    for (;;) {
        ae__conv_block b = ae__conv_block_of(p->ah, p->aw, 0, channels, AE__CONV_K, 0, p->h, 0,
                                             p->w);
        if (b.size <= laid_n && (size_t)p->h * (size_t)b.w.extent <= outputs) break;
        if (p->h > 1) p->h -= (p->h + 7) / 8;
        else p->w -= (p->w + 7) / 8;
    }
    p->h = (all - 1) / ((all - 1) / p->h + 1) + 1;
}

/* All outputs of a patch in picture x, from a block that was laid: a few rows of the product, then
   their lines to where they belong. */
static void ae__conv_patch_outputs(const ae__conv *t, size_t x, const ae__conv_patch *p,
                                   const ae__conv_block *b, const ae__spot *spots,
                                   const float *laid, float *products, size_t products_n)
{
    const int gather = t->kind == AE__CONV_GATHER, nr = t->kernels->nr, KW = t->o.kernel_w;
    const int taps = t->o.kernel_h * KW, fold = t->apart ? taps : 1;
    const int channels = gather ? t->O : t->C, m = channels * fold;
    const ptrdiff_t H = gather ? t->OH : t->H, W = gather ? t->OW : t->W;
    const ptrdiff_t rows = gather ? t->K : taps / fold;
    const size_t group = x % (size_t)t->o.groups;
    const float *w = t->w + group * (size_t)t->O * (size_t)t->K;
    const float *bias = t->bias ? t->bias + group * (size_t)channels : NULL;
    float *out = t->out + x * (size_t)channels * (size_t)H * (size_t)W +
                 (p->ah->to + (ptrdiff_t)p->i * p->ah->to_step) * W +
                 p->aw->to + (ptrdiff_t)p->j * p->aw->to_step;
    const int ld = (int)ae__round_up((size_t)((p->h - 1) * b->pitch + p->w), (size_t)nr / 2);
    // equal parts, in fours: a few rows alone are slow
    const int most = (int)products_n / ld, cuts = (m - 1) / most + 1;
    const int part = ae__least(most, (int)ae__round_up((size_t)((m - 1) / cuts + 1), 4));
    const int parts = b->depth ? (b->depth - 1) / AE__GEMM_K + 1 : 1;
    const int deep = (b->depth + parts - 1) / parts;
    for (int r = 0, tap = 0, some; r < m; r += some) {
        some = ae__least(part, m - r);
        for (int i = 0; i < parts; i++)
            t->kernels->conv(products, ld, w + r * rows, rows, laid, spots + i * deep, some, ld,
                             ae__least(deep, b->depth - i * deep), i > 0);
        for (int s = 0; s < some; s++) {
            t->kernels->lines(out + tap / KW * W + tap % KW, p->ah->to_step * W, p->aw->to_step,
                              products + (ptrdiff_t)s * ld, b->pitch, 1, p->h, p->w,
                              bias ? *bias : 0.0f, b->c + b->p + b->q > 0);
            if (++tap < fold) continue;
            tap = 0;
            out += H * W;
            if (bias) bias++;
        }
    }
}

// `count` pictures from others: the outputs first ... last-1 of the longer axis.
static void ae__conv_outputs(const ae__conv *t, size_t at, size_t count, const ae__conv_axis *ah,
                             const ae__conv_axis *aw, int first, int last, float *room,
                             size_t room_n)
{
    const int gather = t->kind == AE__CONV_GATHER, channels = gather ? t->C : t->O;
    const int by_lines = gather ? t->OH >= t->OW : t->H >= t->W;
    const float *source = gather ? t->big : t->small;
    const size_t size = (size_t)channels * (size_t)ah->in * (size_t)aw->in;
    const ptrdiff_t channel = gather ? t->o.kernel_h * t->o.kernel_w : t->K;
    const int top = by_lines ? first : 0, bottom = by_lines ? ae__least(last, ah->n) : ah->n;
    const int left = by_lines ? 0 : first, right = by_lines ? aw->n : ae__least(last, aw->n);
    const size_t products_n = room_n >= AE_SCRATCH ? 8192 : 4096, laid_n = room_n - products_n;
    const int K = channels * ah->taps * aw->taps;
    ae__conv_patch most = { ah, aw, top, left, bottom - top, right - left };
    if (most.h < 1 || most.w < 1) return;
    ae__conv_fit(&most, channels, laid_n,
                 products_n / (size_t)t->kernels->mr - (size_t)t->kernels->nr);
    for (int i = top; i < bottom; i += most.h)
        for (int j = left; j < right; j += most.w)
            for (int k = 0, depth; k == 0 || k < K; k += depth ? depth : 1) {
                const ae__conv_patch p = { ah, aw, i, j, ae__least(most.h, bottom - i),
                                           ae__least(most.w, right - j) };
                const ae__conv_block b = ae__conv_block_of(ah, aw, k, channels, AE__CONV_K, i, p.h,
                                                           j, p.w);
                ae__spot spots[AE__CONV_K];
                ae__conv_spots(t, spots, &b, ah, aw, channel);
                memset(room, 0, b.size * sizeof *room);
                for (size_t x = at; x < at + count; x++) {
                    ae__conv_lay(t, room, &b, ah, aw, source + x * size);
                    ae__conv_patch_outputs(t, x, &p, &b, spots, room, room + laid_n, products_n);
                }
                depth = b.depth;
            }
}

static void ae__conv_pictures(const ae__conv *t, size_t at, size_t count, int first, int last,
                              float *room, size_t room_n)
{
    const int gather = t->kind == AE__CONV_GATHER, one = gather || t->apart;
    for (int i = 0; i < (one ? 1 : t->o.stride_h); i++)
        for (int j = 0; j < (one ? 1 : t->o.stride_w); j++) {
            const ae__conv_axis ah = gather ? ae__conv_gather_axis(t, 0)
                                            : ae__conv_scatter_axis(t, 0, i);
            const ae__conv_axis aw = gather ? ae__conv_gather_axis(t, 1)
                                            : ae__conv_scatter_axis(t, 1, j);
            ae__conv_outputs(t, at, count, &ah, &aw, first, last, room, room_n);
        }
}

#ifndef AE_NO_TRAIN
// The first picture of a part of the weights' sum; the next part's is where it ends.
static size_t ae__conv_part(const ae__conv *t, int part)
{
    return (size_t)t->B * (size_t)part / (size_t)t->parts;
}

/* out (O,K) += the sum of small big over a part, over the patches and of each over the pictures in
   order: some channels of small or of big. */
static void ae__conv_weights(const ae__conv *t, size_t at, int part, int first, int last,
                             float *out, float *room, size_t room_n)
{
    const ae__conv_axis ah = ae__conv_gather_axis(t, 0), aw = ae__conv_gather_axis(t, 1);
    const int taps = ah.taps * aw.taps, nr = t->kernels->nr;
    const int o0 = t->by_rows ? first : 0, o1 = t->by_rows ? last : t->O;
    const int k0 = t->by_rows ? 0 : first * taps, k1 = t->by_rows ? t->K : last * taps;
    const size_t O = (size_t)t->O, N = (size_t)t->N, groups = (size_t)t->o.groups;
    const size_t picture = (size_t)t->C * (size_t)t->H * (size_t)t->W;
    const size_t start = ae__conv_part(t, part) * groups + at;
    const size_t end = ae__conv_part(t, part + 1) * groups;
    // patches of about equal size
    const int wide = (t->OW - 1) / ((t->OW - 1) / AE__GEMM_K + 1) + 1;
    const int high = AE__GEMM_K / wide, h = (t->OH - 1) / ((t->OH - 1) / high + 1) + 1;
    const size_t sums_n = room_n > AE__CONV_MIN ? AE__CONV_PANEL : AE__CONV_PANEL / 2;
    float *panel = room, *sums = panel + AE__CONV_PANEL, *laid = sums + sums_n;
    const size_t laid_n = room_n - AE__CONV_PANEL - sums_n;
    int limit = ae__least(AE__GEMM_K, (int)(sums_n / (size_t)nr));
    while (ae__conv_block_of(&ah, &aw, k0, k1 / taps, limit, 0, h, 0, wide).size > laid_n)
        limit = (limit + 1) / 2;
    for (int k = k0, depth; k < k1; k += depth) {
        depth = ae__conv_block_of(&ah, &aw, k, k1 / taps, limit, 0, h, 0, wide).depth;
        const int most = (int)sums_n / depth / nr * nr;     // rows of dw at a time
        for (int r0 = o0; r0 < o1; r0 += most) {
            const int r1 = ae__least(r0 + most, o1);
            const size_t used = ae__round_up((size_t)(r1 - r0), (size_t)nr) * (size_t)depth;
            memset(sums, 0, used * sizeof *sums);
            for (int i = 0; i < t->OH; i += h)
                for (int j = 0; j < t->OW; j += wide) {
                    const int lines = ae__least(h, t->OH - i), n = ae__least(wide, t->OW - j);
                    const ae__conv_block b = ae__conv_block_of(&ah, &aw, k, k1 / taps, limit, i,
                                                               lines, j, n);
                    ae__spot spots[AE__GEMM_K];
                    ae__conv_spots(t, spots, &b, &ah, &aw, taps);
                    memset(laid, 0, b.size * sizeof *laid);
                    for (size_t x = start; x < end; x += groups) {
                        const float *small = t->small + x * O * N + (ptrdiff_t)i * t->OW + j;
                        ae__conv_lay(t, laid, &b, &ah, &aw, t->big + x * picture);
                        for (int r = r0; r < r1; r += nr)
                            t->kernels->conv_weights(sums + (r - r0) * depth, laid, spots, b.pitch,
                                                     small + (size_t)r * N, t->N, t->OW,
                                                     ae__least(nr, r1 - r), lines, n, depth, panel);
                    }
                }
            float *dw = out + (size_t)r0 * (size_t)t->K + k;
            for (int r = 0; r < r1 - r0; r++, dw += t->K) {
                const float *sum = sums + (ptrdiff_t)(r / nr) * depth * nr + r % nr;
                for (int p = 0; p < depth; p++, sum += nr) dw[p] += *sum;
            }
        }
    }
}

// The bias' gradient: out[c] += the sum of big's plane c over all pictures, for some channels.
static void ae__conv_sums(const ae__conv *t, int first, int last)
{
    const size_t plane = (size_t)t->H * (size_t)t->W;
    for (int c = first; c < last; c++)
        t->out[c] += (float)t->kernels->plane_sum(t->big + (size_t)c * plane, (size_t)t->C * plane,
                                                  (size_t)t->B, plane);
}
#endif

/* ---- who does what ---- */

static void ae__conv_job(void *arg, int task)
{
    const ae__conv *t = (const ae__conv *)arg;
    float small[AE__CONV_MIN];
    const int own = t->e && t->e->scratch;
    float *room = own ? t->e->scratch + (size_t)task * AE_SCRATCH : small;
    const size_t room_n = own ? AE_SCRATCH : AE__CONV_MIN;
    const size_t pieces = (size_t)t->pieces, units = t->products * pieces;
    const size_t tasks = (size_t)t->tasks, end = units * ((size_t)task + 1) / tasks;
    // so many pictures at once stay in the second-level cache
    const size_t picture = (size_t)t->C * (size_t)t->H * (size_t)t->W + (size_t)t->O * (size_t)t->N;
    const size_t most = pieces > 1 ? 1 : 131072 / picture + 1;
    for (size_t unit = units * (size_t)task / tasks, count; unit < end; unit += count) {
        const size_t at = unit / pieces;
        const int first = (int)(unit % pieces) * t->piece;
        const int last = t->size - first < t->piece ? t->size : first + t->piece;
        count = t->kind <= AE__CONV_SCATTER ? ae__min(most, end - unit) : 1;
        if (t->kind <= AE__CONV_SCATTER)
            ae__conv_pictures(t, at, count, first, last, room, room_n);
#ifndef AE_NO_TRAIN
        for (int i = 0; t->kind == AE__CONV_WEIGHTS && i < t->parts; i++)
            ae__conv_weights(t, at, i, first, last, t->out + at * (size_t)t->O * (size_t)t->K,
                             room, room_n);
        if (t->kind == AE__CONV_SUMS) ae__conv_sums(t, first, last);
#endif
    }
}

#ifndef AE_NO_TRAIN
#define AE__CONV_SUMS_AT (AE_SCRATCH - AE__CONV_PARTS / 2 * AE__CONV_FEW)

static int ae__conv_first_part(const ae__conv *t, int task)
{
    return t->parts * task / t->tasks;
}

// Some parts of the weights' sum, AE__CONV_PARTS / 2 at most: to the end of the task's scratch.
static void ae__conv_parts_job(void *arg, int task)
{
    const ae__conv *t = (const ae__conv *)arg;
    const size_t n = (size_t)t->O * (size_t)t->K;
    float *room = t->e->scratch + (size_t)task * AE_SCRATCH, *sum = room + AE__CONV_SUMS_AT;
    const int end = ae__conv_first_part(t, task + 1);
    for (int i = ae__conv_first_part(t, task); i < end; i++, sum += n) {
        memset(sum, 0, n * sizeof *sum);
        ae__conv_weights(t, 0, i, 0, t->size, sum, room, AE__CONV_SUMS_AT);
    }
}

// The weights' sum by parts, which are then added in their order.
static void ae__conv_by_parts(ae__conv *t, int threads)
{
    const size_t n = (size_t)t->O * (size_t)t->K;
    t->tasks = ae__least(threads, t->parts);
    ae__parallel(t->e, t->tasks, ae__conv_parts_job, t);
    for (int task = 0; task < t->tasks; task++) {
        const float *sum = t->e->scratch + (size_t)task * AE_SCRATCH + AE__CONV_SUMS_AT;
        for (int i = ae__conv_first_part(t, task); i < ae__conv_first_part(t, task + 1);
             i++, sum += n)
            t->kernels->add(t->out, t->out, sum, n);
    }
}
#endif

/* Shares the products out over the threads: pictures and groups, or groups where all pictures go
   into one sum. If these are too few, each is cut into pieces of its `size`, by whole `unit`s; or
   the one sum is, into its parts, where there are as many. */
static void ae__conv_run(ae__conv *t, int kind, float *out)
{
    const size_t groups = (size_t)t->o.groups, pictures = (size_t)t->B;
    // laying and storing an element takes as long as some products
    const double elements = (double)t->C * t->H * t->W + (double)t->O * t->N;
    const double work = (double)pictures * (double)groups * ((double)t->O * t->K * t->N
                                                             + 16.0 * elements);
    const size_t threads = t->e && work > 5e5 ? (size_t)t->e->threads : 1;
    int unit = 1;
    t->kind = kind;
    t->out = out;
    t->size = t->C;
    t->products = kind == AE__CONV_SUMS ? 1 : kind == AE__CONV_WEIGHTS ? groups : groups * pictures;
    t->by_rows = kind == AE__CONV_WEIGHTS && t->C < t->O;
    t->apart = kind == AE__CONV_SCATTER && t->H == t->OH * t->o.kernel_h &&
               t->W == t->OW * t->o.kernel_w && t->o.stride_h == t->o.kernel_h &&
               t->o.stride_w == t->o.kernel_w && t->o.dilation_h == 1 && t->o.dilation_w == 1 &&
               !t->o.pad_h && !t->o.pad_w;
    t->parts = 1;
    while ((size_t)t->O * (size_t)t->K <= AE__CONV_FEW && t->parts < AE__CONV_PARTS
           && t->B / 8 >= t->parts)     // of four pictures at least: a sum has its own costs
        t->parts *= 2;
    if (t->by_rows) {
        t->size = t->O;
        unit = 16;
    } else if (kind == AE__CONV_GATHER) {
        t->size = t->OH >= t->OW ? t->OH : t->OW;
    } else if (kind == AE__CONV_SCATTER) {
        t->size = t->H >= t->W ? (t->H - 1) / t->o.stride_h + 1 : (t->W - 1) / t->o.stride_w + 1;
    }
    const size_t cuts = (threads - 1) / t->products + 1;
    t->piece = (int)ae__round_up(((size_t)t->size - 1) / cuts + 1, (size_t)unit);
    t->pieces = (t->size - 1) / t->piece + 1;
#ifndef AE_NO_TRAIN
    if (kind == AE__CONV_WEIGHTS && threads > 1 && groups == 1 && t->e->scratch
        && t->parts > 1 && t->parts >= t->pieces) {
        ae__conv_by_parts(t, (int)threads);
        return;
    }
#endif
    t->tasks = (int)ae__min(threads, t->products * (size_t)t->pieces);
    ae__parallel(t->e, t->tasks, ae__conv_job, t);
}

static ae__conv ae__conv_of(const ae_exec *e, const float *w, const ae_conv *g, int B, int C, int H,
                            int W, int O, int OH, int OW)
{
    ae__conv t;
    memset(&t, 0, sizeof t);
    t.e = e;
    t.kernels = ae__kernels_of(e);
    t.w = w;
    t.o = ae_conv_defaults(g);
    t.B = B;
    t.C = C / t.o.groups;
    t.H = H;
    t.W = W;
    t.O = O / t.o.groups;
    t.OH = OH;
    t.OW = OW;
    t.K = t.C * t.o.kernel_h * t.o.kernel_w;
    t.N = OH * OW;
    return t;
}

#ifndef AE_NO_TRAIN
static void ae__conv_bias_grad(const ae__conv *t, float *db, const float *dy, int C, int N)
{
    ae__conv planes = *t;
    planes.big = dy;
    planes.C = C;
    planes.H = 1;
    planes.W = N;
    ae__conv_run(&planes, AE__CONV_SUMS, db);
}
#endif

// Convolution: x is the big side.
static ae__conv ae__conv_of_x(const ae_exec *e, const float *w, const ae_conv *g, int B, int C,
                              int H, int W, int O)
{
    const ae_conv o = ae_conv_defaults(g);
    return ae__conv_of(e, w, g, B, C, H, W, O,
                       ae_conv_size(H, o.kernel_h, o.stride_h, o.pad_h, o.dilation_h),
                       ae_conv_size(W, o.kernel_w, o.stride_w, o.pad_w, o.dilation_w));
}

AE_API void ae_conv2d_forward(const ae_exec *e, float *y, const float *x, const float *w,
                              const float *b, const ae_conv *g, int B, int C, int H, int W, int O)
{
    ae__conv t = ae__conv_of_x(e, w, g, B, C, H, W, O);
    t.big = x;
    t.bias = b;
    ae__conv_run(&t, AE__CONV_GATHER, y);
}

#ifndef AE_NO_TRAIN
AE_API void ae_conv2d_backward(const ae_exec *e, float *dx, float *dw, float *db, const float *dy,
                               const float *x, const float *w, const ae_conv *g, int B, int C,
                               int H, int W, int O)
{
    // y = w columns(x) + b:   dx = columns^-1(w^T dy)   dw += dy columns(x)^T   db += sums of dy
    ae__conv t = ae__conv_of_x(e, w, g, B, C, H, W, O);
    t.big = x;
    t.small = dy;
    if (dx) ae__conv_run(&t, AE__CONV_SCATTER, dx);
    if (dw) ae__conv_run(&t, AE__CONV_WEIGHTS, dw);
    if (db) ae__conv_bias_grad(&t, db, dy, O, t.N);
}
#endif

// Its transpose: x is the small side.
static ae__conv ae__conv_to_x(const ae_exec *e, const float *w, const ae_conv *g, int B, int C,
                              int H, int W, int O)
{
    const ae_conv o = ae_conv_defaults(g);
    const int OH = ae_conv_transpose_size(H, o.kernel_h, o.stride_h, o.pad_h, o.dilation_h,
                                          o.output_pad_h);
    const int OW = ae_conv_transpose_size(W, o.kernel_w, o.stride_w, o.pad_w, o.dilation_w,
                                          o.output_pad_w);
    return ae__conv_of(e, w, g, B, O, OH, OW, C, H, W);
}

AE_API void ae_conv_transpose2d_forward(const ae_exec *e, float *y, const float *x, const float *w,
                                        const float *b, const ae_conv *g, int B, int C, int H,
                                        int W, int O)
{
    ae__conv t = ae__conv_to_x(e, w, g, B, C, H, W, O);
    t.small = x;
    t.bias = b;
    ae__conv_run(&t, AE__CONV_SCATTER, y);
}

#ifndef AE_NO_TRAIN
AE_API void ae_conv_transpose2d_backward(const ae_exec *e, float *dx, float *dw, float *db,
                                         const float *dy, const float *x, const float *w,
                                         const ae_conv *g, int B, int C, int H, int W, int O)
{
    // y = columns^-1(w^T x) + b:   dx = w columns(dy)   dw += x columns(dy)^T   db += sums of dy
    ae__conv t = ae__conv_to_x(e, w, g, B, C, H, W, O);
    t.big = dy;
    t.small = x;
    if (dx) ae__conv_run(&t, AE__CONV_GATHER, dx);
    if (dw) ae__conv_run(&t, AE__CONV_WEIGHTS, dw);
    if (db) ae__conv_bias_grad(&t, db, dy, O, t.H * t.W);
}
#endif

/* ---------------------------------------------------------------------------
   >>pool   pooling, unpooling, upsampling, padding and cropping              */

AE_API ae_pool ae_pool_defaults(const ae_pool *o)
{
    ae_pool g;
    memset(&g, 0, sizeof g);
    if (o) g = *o;
    if (g.kernel_w == 0) g.kernel_w = g.kernel_h;
    if (g.stride_h == 0) g.stride_h = g.kernel_h;
    if (g.stride_w == 0) g.stride_w = g.kernel_w;
    if (g.dilation_h == 0) g.dilation_h = 1;
    if (g.dilation_w == 0) g.dilation_w = g.dilation_h;
    return g;
}

// How many units of work of equal size make a task: about as many elements as a piece has.
static size_t ae__units(size_t count, size_t size)
{
    size_t piece = ae__piece(count * size), each = size ? (piece + size - 1) / size : count;
    return each ? each : 1;
}

/* Calls unit(arg, 0) ... unit(arg, count-1), each of about `size` elements, over the threads. What
   is added up inside a unit has one order for any number of threads. */
typedef void ae__unit_job(const void *arg, size_t k);

typedef struct ae__work {
    ae__unit_job *unit;
    const void *arg;
    size_t count, each;
} ae__work;

static void ae__work_job(void *arg, int task)
{
    const ae__work *w = (const ae__work *)arg;
    size_t first = (size_t)task * w->each, end = first + ae__min(w->each, w->count - first);
    for (size_t k = first; k < end; k++)
        w->unit(w->arg, k);
}

static void ae__each(const ae_exec *e, size_t count, size_t size, ae__unit_job *unit,
                     const void *arg)
{
    ae__work w = {unit, arg, count, ae__units(count, size)};
    ae__parallel(e, (int)((count + w.each - 1) / w.each), ae__work_job, &w);
}

/* What all these layers share: a plane of the input becomes a plane of the output, and no plane
   knows of another. */
typedef struct ae__plane ae__plane;
typedef void ae__plane_job(const ae__plane *p, const void *arg);
struct ae__plane {
    float *out;
    const float *in;
    int out_h, out_w, in_h, in_w;
    size_t out_size, in_size, k;        // k: which plane it is
    ae__plane_job *job;
    const void *arg;
};

static void ae__plane_unit(const void *arg, size_t k)
{
    ae__plane p = *(const ae__plane *)arg;
    p.out += k * p.out_size;
    p.in += k * p.in_size;
    p.k = k;
    p.job(&p, p.arg);
}

static void ae__planes(const ae_exec *e, ae__plane_job *job, const void *arg, float *out,
                       int out_h, int out_w, const float *in, int in_h, int in_w, int B, int C)
{
    size_t out_size = (size_t)out_h * (size_t)out_w, in_size = (size_t)in_h * (size_t)in_w;
    ae__plane p = {out, in, out_h, out_w, in_h, in_w, out_size, in_size, 0, job, arg};
    ae__each(e, (size_t)B * (size_t)C, out_size > in_size ? out_size : in_size, ae__plane_unit,
             &p);
}

// Of the window of output i, j what is inside the picture: rows and columns up to the ends, a
// dilation apart. scale: one over what the sum of an average is divided by.
typedef struct ae__window {
    int row, row_end, column, column_end;
    double scale;
} ae__window;

AE__INLINE ae__window ae__window_of(const ae_pool *g, int dilation_h, int dilation_w, int H, int W,
                                    int i, int j)
{
    ae__window w;
    w.row = i * g->stride_h - g->pad_h;
    w.column = j * g->stride_w - g->pad_w;
    w.row_end = w.row + (g->kernel_h - 1) * dilation_h + 1;
    w.column_end = w.column + (g->kernel_w - 1) * dilation_w + 1;
    while (w.row < 0) w.row += dilation_h;
    while (w.column < 0) w.column += dilation_w;
    if (w.row_end > H) w.row_end = H;
    if (w.column_end > W) w.column_end = W;
    w.scale = 1.0 / (g->exclude_pad ? (double)(w.row_end - w.row) * (w.column_end - w.column)
                                    : (double)g->kernel_h * g->kernel_w);
    return w;
}

// `at` where x is larger there, or NaN, else `best`: without a branch, which could not be foreseen,
// and NaN told from the bits, so that -Ofast cannot argue it away.
AE__INLINE int32_t ae__larger(const float *x, int32_t best, int32_t at)
{
    int32_t bits;
    memcpy(&bits, x + at, sizeof bits);
    int32_t better = (x[at] > x[best]) | ((bits & 0x7fffffff) > 0x7f800000);
    return best + ((at - best) & -better);
}

// What the layers with a window hand to the planes.
typedef struct ae__pooling {
    ae_pool g;
    const ae_kernels *kernels;
    int32_t *index;
    int usual;                  // windows of 2 x 2, side by side, nothing between: has kernels
} ae__pooling;

static ae__pooling ae__pooling_of(const ae_exec *e, const ae_pool *g, int32_t *index)
{
    ae__pooling t = {*g, ae__kernels_of(e), index, 0};
    t.usual = g->kernel_h == 2 && g->kernel_w == 2 && g->stride_h == 2 && g->stride_w == 2 &&
              g->pad_h == 0 && g->pad_w == 0 && g->dilation_h <= 1 && g->dilation_w <= 1;
    return t;
}

static void ae__max_pool_plane(const ae__plane *p, const void *arg)
{
    const ae__pooling *t = (const ae__pooling *)arg;
    const ae_pool *g = &t->g;
    int32_t *index = t->index ? t->index + p->k * p->out_size : NULL, W = p->in_w;
    if (t->usual) {
        t->kernels->max_pool(p->out, index, p->in, p->out_h, p->out_w, W);
        return;
    }
    for (int i = 0, k = 0; i < p->out_h; i++)
        for (int j = 0; j < p->out_w; j++, k++) {
            ae__window w = ae__window_of(g, g->dilation_h, g->dilation_w, p->in_h, W, i, j);
            int32_t best = w.row * W + w.column;
            for (int row = w.row; row < w.row_end; row += g->dilation_h)
                for (int at = w.column; at < w.column_end; at += g->dilation_w)
                    best = ae__larger(p->in, best, row * W + at);
            p->out[k] = p->in[best];
            if (index) index[k] = best;
        }
}

AE_API void ae_max_pool2d_forward(const ae_exec *e, float *y, int32_t *index, const float *x,
                                  const ae_pool *g, int B, int C, int H, int W)
{
    int OH = ae_conv_size(H, g->kernel_h, g->stride_h, g->pad_h, g->dilation_h);
    int OW = ae_conv_size(W, g->kernel_w, g->stride_w, g->pad_w, g->dilation_w);
    ae__pooling t = ae__pooling_of(e, g, index);
    ae__planes(e, ae__max_pool_plane, &t, y, OH, OW, x, H, W, B, C);
}

// out = 0, then out[index] = in.
static void ae__scatter_plane(const ae__plane *p, const void *arg)
{
    const int32_t *index = (const int32_t *)arg + p->k * p->in_size;
    memset(p->out, 0, p->out_size * sizeof *p->out);
    for (size_t i = 0; i < p->in_size; i++)
        p->out[index[i]] = p->in[i];
}

AE_API void ae_max_unpool2d_forward(const ae_exec *e, float *y, const float *x,
                                    const int32_t *index, int B, int C, int H, int W, int OH,
                                    int OW)
{
    ae__planes(e, ae__scatter_plane, index, y, OH, OW, x, H, W, B, C);
}

#ifndef AE_NO_TRAIN
// y = x[index]:   dx[index] += dy
static void ae__max_pool_grad_plane(const ae__plane *p, const void *arg)
{
    const ae__pooling *t = (const ae__pooling *)arg;
    const int32_t *index = t->index + p->k * p->in_size;
    if (!t->usual || p->out_h != 2 * p->in_h || p->out_w != 2 * p->in_w)
        memset(p->out, 0, p->out_size * sizeof *p->out);
    if (t->usual)
        t->kernels->max_pool_grad(p->out, p->in, index, p->in_h, p->in_w, p->out_w);
    for (size_t i = 0; i < p->in_size && !t->usual; i++)
        p->out[index[i]] += p->in[i];
}

// ae_max_pool2d_backward with windows g; NULL: any.
static void ae__max_pool2d_grad(const ae_exec *e, float *dx, const float *dy, int32_t *index,
                                const ae_pool *g, int B, int C, int H, int W, int OH, int OW)
{
    ae_pool any;
    memset(&any, 0, sizeof any);
    ae__pooling t = ae__pooling_of(e, g ? g : &any, index);
    ae__planes(e, ae__max_pool_grad_plane, &t, dx, H, W, dy, OH, OW, B, C);
}

AE_API void ae_max_pool2d_backward(const ae_exec *e, float *dx, const float *dy,
                                   const int32_t *index, int B, int C, int H, int W, int OH,
                                   int OW)
{
    ae__max_pool2d_grad(e, dx, dy, (int32_t *)index, NULL, B, C, H, W, OH, OW);
}

// y[index] = x:   dx = dy[index]
static void ae__gather_plane(const ae__plane *p, const void *arg)
{
    const int32_t *index = (const int32_t *)arg + p->k * p->out_size;
    for (size_t i = 0; i < p->out_size; i++)
        p->out[i] = p->in[index[i]];
}

AE_API void ae_max_unpool2d_backward(const ae_exec *e, float *dx, const float *dy,
                                     const int32_t *index, int B, int C, int H, int W, int OH,
                                     int OW)
{
    ae__planes(e, ae__gather_plane, index, dx, H, W, dy, OH, OW, B, C);
}
#endif

static void ae__avg_pool_plane(const ae__plane *p, const void *arg)
{
    const ae__pooling *t = (const ae__pooling *)arg;
    float *y = p->out;
    if (t->usual) {
        t->kernels->sum_pool(y, p->in, 0.25f, p->out_h, p->out_w, p->in_w);
        return;
    }
    for (int i = 0; i < p->out_h; i++)
        for (int j = 0; j < p->out_w; j++) {
            ae__window w = ae__window_of(&t->g, 1, 1, p->in_h, p->in_w, i, j);
            double sum = 0;
            for (int row = w.row; row < w.row_end; row++)
                for (int column = w.column; column < w.column_end; column++)
                    sum += (double)p->in[row * p->in_w + column];
            *y++ = (float)(sum * w.scale);
        }
}

AE_API void ae_avg_pool2d_forward(const ae_exec *e, float *y, const float *x, const ae_pool *g,
                                  int B, int C, int H, int W)
{
    int OH = ae_conv_size(H, g->kernel_h, g->stride_h, g->pad_h, 1);
    int OW = ae_conv_size(W, g->kernel_w, g->stride_w, g->pad_w, 1);
    ae__pooling t = ae__pooling_of(e, g, NULL);
    ae__planes(e, ae__avg_pool_plane, &t, y, OH, OW, x, H, W, B, C);
}

#ifndef AE_NO_TRAIN
static void ae__avg_pool_grad_plane(const ae__plane *p, const void *arg)
{
    const ae__pooling *t = (const ae__pooling *)arg;
    const float *dy = p->in;
    if (t->usual && p->out_h == 2 * p->in_h && p->out_w == 2 * p->in_w) {
        t->kernels->twice(p->out, dy, 0.25f, p->in_h, p->in_w);
        return;
    }
    memset(p->out, 0, p->out_size * sizeof *p->out);
    for (int i = 0; i < p->in_h; i++)
        for (int j = 0; j < p->in_w; j++) {
            ae__window w = ae__window_of(&t->g, 1, 1, p->out_h, p->out_w, i, j);
            float share = (float)((double)*dy++ * w.scale);
            for (int row = w.row; row < w.row_end; row++)
                for (int column = w.column; column < w.column_end; column++)
                    p->out[row * p->out_w + column] += share;
        }
}

AE_API void ae_avg_pool2d_backward(const ae_exec *e, float *dx, const float *dy, const ae_pool *g,
                                   int B, int C, int H, int W)
{
    int OH = ae_conv_size(H, g->kernel_h, g->stride_h, g->pad_h, 1);
    int OW = ae_conv_size(W, g->kernel_w, g->stride_w, g->pad_w, 1);
    ae__pooling t = ae__pooling_of(e, g, NULL);
    ae__planes(e, ae__avg_pool_grad_plane, &t, dx, H, W, dy, OH, OW, B, C);
}
#endif

// Element i of `out` is made of two neighbours: x[at] (1-w) + x[next] w.
typedef struct ae__tap {
    int at, next;
    float w;
} ae__tap;

// Of the n elements from number i on. The nearest is found in single precision, so that it is the
// one that PyTorch finds.
static void ae__taps(ae__tap *t, int n, ae_upsample_kind kind, int i, int in, int out)
{
    float ratio = (float)in / (float)out;       // variables: rounded whatever the processor
    for (int end = i + n; i < end; i++, t++) {
        float nearest = (float)i * ratio;
        double s = kind == AE_NEAREST ? (double)nearest : (i + 0.5) * in / out - 0.5;
        int linear = kind == AE_BILINEAR && s > 0 && s < in - 1;
        t->at = s < in - 1 ? (int)s : in - 1;
        t->next = linear ? t->at + 1 : t->at;
        t->w = linear ? (float)(s - t->at) : 0.0f;
    }
}

#define AE__COLUMNS 64          // columns whose neighbours are found once for all rows

static void ae__upsample_plane(const ae__plane *p, const void *arg)
{
    ae_upsample_kind kind = *(const ae_upsample_kind *)arg;
    ae__tap c[AE__COLUMNS], r;
    for (int first = 0, n; first < p->out_w; first += n) {
        n = p->out_w - first < AE__COLUMNS ? p->out_w - first : AE__COLUMNS;
        ae__taps(c, n, kind, first, p->in_w, p->out_w);
        for (int i = 0; i < p->out_h; i++) {
            ae__taps(&r, 1, kind, i, p->in_h, p->out_h);
            const float *above = p->in + r.at * p->in_w, *below = p->in + r.next * p->in_w;
            float *y = p->out + i * p->out_w + first;
            for (int j = 0; kind == AE_NEAREST && j < n; j++)
                y[j] = above[c[j].at];
            for (int j = 0; kind == AE_BILINEAR && j < n; j++) {
                float a = above[c[j].at] * (1 - c[j].w) + above[c[j].next] * c[j].w;
                float b = below[c[j].at] * (1 - c[j].w) + below[c[j].next] * c[j].w;
                y[j] = a * (1 - r.w) + b * r.w;
            }
        }
    }
}

// Nearest at twice the size, which is what decoders do.
static void ae__twice_plane(const ae__plane *p, const void *arg)
{
    ((const ae_kernels *)arg)->twice(p->out, p->in, 1.0f, p->in_h, p->in_w);
}

AE_API void ae_upsample2d_forward(const ae_exec *e, float *y, const float *x,
                                  ae_upsample_kind kind, int B, int C, int H, int W, int OH,
                                  int OW)
{
    if (kind == AE_NEAREST && OH == 2 * H && OW == 2 * W)
        ae__planes(e, ae__twice_plane, ae__kernels_of(e), y, OH, OW, x, H, W, B, C);
    else
        ae__planes(e, ae__upsample_plane, &kind, y, OH, OW, x, H, W, B, C);
}

#ifndef AE_NO_TRAIN
// y = sum of weight x[neighbour]:   dx[neighbour] += weight dy. Neighbours in a row of dy that go
// to the same place are added up first: shorter sums.
static void ae__upsample_grad_plane(const ae__plane *p, const void *arg)
{
    ae_upsample_kind kind = *(const ae_upsample_kind *)arg;
    ae__tap c[AE__COLUMNS], r;
    memset(p->out, 0, p->out_size * sizeof *p->out);
    for (int first = 0, n; first < p->in_w; first += n) {
        n = p->in_w - first < AE__COLUMNS ? p->in_w - first : AE__COLUMNS;
        ae__taps(c, n, kind, first, p->out_w, p->in_w);
        for (int i = 0; i < p->in_h; i++) {
            ae__taps(&r, 1, kind, i, p->out_h, p->in_h);
            float *above = p->out + r.at * p->out_w, *below = p->out + r.next * p->out_w;
            const float *dy = p->in + i * p->in_w + first;
            for (int j = 0; j < n;) {
                int at = c[j].at, next = at;
                float a = 0, b = 0;
                for (; j < n && c[j].at == at; next = c[j++].next) {
                    a += dy[j] * (1 - c[j].w);
                    b += dy[j] * c[j].w;
                }
                above[at] += a * (1 - r.w);
                if (kind == AE_NEAREST) continue;
                above[next] += b * (1 - r.w);
                below[at] += a * r.w;
                below[next] += b * r.w;
            }
        }
    }
}

static void ae__twice_grad_plane(const ae__plane *p, const void *arg)
{
    ((const ae_kernels *)arg)->sum_pool(p->out, p->in, 1.0f, p->out_h, p->out_w, p->in_w);
}

AE_API void ae_upsample2d_backward(const ae_exec *e, float *dx, const float *dy,
                                   ae_upsample_kind kind, int B, int C, int H, int W, int OH,
                                   int OW)
{
    if (kind == AE_NEAREST && OH == 2 * H && OW == 2 * W)
        ae__planes(e, ae__twice_grad_plane, ae__kernels_of(e), dx, H, W, dy, OH, OW, B, C);
    else
        ae__planes(e, ae__upsample_grad_plane, &kind, dx, H, W, dy, OH, OW, B, C);
}
#endif

typedef struct ae__pad {
    int top, left;
    float value;
} ae__pad;

static void ae__pad_plane(const ae__plane *p, const void *arg)
{
    // The columns from `first` up to `end` of a row of y have one in x.
    const ae__pad *t = (const ae__pad *)arg;
    int first = t->left > 0 ? t->left : 0, end = t->left + p->in_w;
    if (end > p->out_w) end = p->out_w;
    for (int i = 0; i < p->out_h; i++) {
        float *y = p->out + i * p->out_w;
        int row = i - t->top;
        int inside = row >= 0 && row < p->in_h && first < end;
        for (int j = 0; j < (inside ? first : p->out_w); j++)
            y[j] = t->value;
        if (!inside) continue;
        memcpy(y + first, p->in + row * p->in_w + (first - t->left),
               (size_t)(end - first) * sizeof *y);
        for (int j = end; j < p->out_w; j++)
            y[j] = t->value;
    }
}

AE_API void ae_pad2d_forward(const ae_exec *e, float *y, const float *x, int top, int bottom,
                             int left, int right, float value, int B, int C, int H, int W)
{
    ae__pad t = {top, left, value};
    ae__planes(e, ae__pad_plane, &t, y, H + top + bottom, W + left + right, x, H, W, B, C);
}

#ifndef AE_NO_TRAIN
AE_API void ae_pad2d_backward(const ae_exec *e, float *dx, const float *dy, int top, int bottom,
                              int left, int right, int B, int C, int H, int W)
{
    // Padding taken away again: what was padded is cropped, what was cropped has gradient 0.
    ae_pad2d_forward(e, dx, dy, -top, -bottom, -left, -right, 0.0f, B, C, H + top + bottom,
                     W + left + right);
}
#endif

/* ---------------------------------------------------------------------------
   >>norm   batch, layer and group normalisation                              */

/* Whatever is normalised is C channels here, each of B rows of P elements, C P apart. For group
   normalisation they are the groups of all samples, of one row each. A unit of work is a few
   channels together where rows are short, so that whole cache lines are used. */
#define AE__TOGETHER 32

typedef struct ae__norms {      // the arguments of the functions below
    const ae_kernels *kernels;
    size_t B, C, P, groups;
    float *y, *mean, *rstd, *run_mean, *run_var;
    float *dx, *dgamma, *dbeta;
    const float *x, *dy, *in_mean, *in_rstd, *in_var, *gamma, *beta;
    float momentum, eps;
    size_t each;                // channels of a unit of work
} ae__norms;

static ae__norms ae__norms_of(const float *x, const float *gamma, size_t B, size_t C, size_t P)
{
    ae__norms t;
    memset(&t, 0, sizeof t);
    t.x = x;
    t.gamma = gamma;
    t.B = B;
    t.C = C;
    t.P = P;
    t.each = P < AE__TOGETHER ? AE__TOGETHER / P : 1;
    return t;
}

static void ae__norms_run(const ae_exec *e, const ae__norms *t, ae__unit_job *unit)
{
    ae__norms own = *t;
    own.kernels = ae__kernels_of(e);
    ae__each(e, (t->C + t->each - 1) / t->each, t->each * t->B * t->P, unit, &own);
}

// The moments of `count` channels from number `first` on; shift, mean: one for each, or NULL for 0.
static void ae__channel_sums(double (*sums)[2], const ae__norms *t, size_t first, size_t count,
                             const float *g, const float *shift, const float *mean)
{
    const float zero[AE__TOGETHER] = {0.0f};
    const float *s = shift ? shift : zero, *m = mean ? mean : zero;
    memset(sums, 0, count * sizeof *sums);
    if (t->P == 1)
        t->kernels->column_moments(sums, g + first, s, t->x + first, m, t->C, t->B, count);
    for (size_t b = 0; b < t->B && t->P > 1; b++)
        for (size_t c = 0, at = (b * t->C + first) * t->P; c < count; c++, at += t->P)
            t->kernels->moments(sums[c], g + at, s[c], t->x + at, m[c], t->P);
}

// y = (x - mean) a + b, + g scale unless g is NULL, of `count` channels from number `first` on.
static void ae__channel_affine(const ae__norms *t, size_t first, size_t count, float *y,
                               const float *mean, const float *a, const float *b, const float *g,
                               const float *scale)
{
    for (size_t row = 0; row < t->B; row++) {
        size_t at = (row * t->C + first) * t->P;
        if (t->P == 1)
            t->kernels->column_affine(y + at, t->x + at, mean, a, b, g ? g + at : NULL, scale,
                                      count);
        for (size_t c = 0; c < count && t->P > 1; c++, at += t->P)
            t->kernels->affine(y + at, t->x + at, mean[c], a[c], b[c], g ? g + at : NULL,
                               g ? scale[c] : 0.0f, t->P);
    }
}

static void ae__norm_unit(const void *arg, size_t unit)
{
    const ae__norms *t = (const ae__norms *)arg;
    size_t first = unit * t->each, count = ae__min(t->each, t->C - first);
    double sums[AE__TOGETHER][2], n = (double)(t->B * t->P), momentum = (double)t->momentum;
    float a[AE__TOGETHER], b[AE__TOGETHER], *m = t->mean + first;
    // Two passes; what the first missed of the mean, rounded, is in the sums of the second.
    ae__channel_sums(sums, t, first, count, t->x, NULL, NULL);
    for (size_t c = 0; c < count; c++)
        m[c] = (float)(sums[c][0] / n);
    ae__channel_sums(sums, t, first, count, t->x, m, m);
    for (size_t c = 0, i = first; c < count; c++, i++) {
        double missed = sums[c][0] / n, mean = (double)m[c] + missed;
        double variance = sums[c][1] / n - missed * missed;
        double rstd = 1.0 / sqrt(variance + (double)t->eps);
        double scale = rstd * (t->gamma ? (double)t->gamma[i] : 1.0);
        m[c] = (float)mean;
        a[c] = (float)scale;
        b[c] = (float)((t->beta ? (double)t->beta[i] : 0.0) - (mean - (double)m[c]) * scale);
        t->rstd[i] = (float)rstd;
        if (t->run_mean == NULL) continue;
        t->run_mean[i] = (float)((1 - momentum) * (double)t->run_mean[i] + momentum * mean);
        t->run_var[i] = (float)((1 - momentum) * (double)t->run_var[i] +
                                momentum * variance * n / (n - 1));
    }
    ae__channel_affine(t, first, count, t->y, m, a, b, NULL, NULL);
}

AE_API void ae_batch_norm_forward(const ae_exec *e, float *y, float *mean, float *rstd,
                                  float *run_mean, float *run_var, const float *x,
                                  const float *gamma, const float *beta, float momentum,
                                  float eps, int B, int C, int P)
{
    ae__norms t = ae__norms_of(x, gamma, (size_t)B, (size_t)C, (size_t)P);
    t.beta = beta;
    t.y = y;
    t.mean = mean;
    t.rstd = rstd;
    t.run_mean = run_mean;
    t.run_var = run_var;
    t.momentum = momentum;
    t.eps = eps;
    ae__norms_run(e, &t, ae__norm_unit);
}

// y = (x - in_mean) / sqrt(in_var + eps) gamma + beta, with what is NULL left out.
static void ae__affine_unit(const void *arg, size_t unit)
{
    const ae__norms *t = (const ae__norms *)arg;
    size_t first = unit * t->each, count = ae__min(t->each, t->C - first);
    float mean[AE__TOGETHER], a[AE__TOGETHER], b[AE__TOGETHER];
    for (size_t c = 0, i = first; c < count; c++, i++) {
        double rstd = t->in_var ? 1.0 / sqrt((double)t->in_var[i] + (double)t->eps) : 1.0;
        mean[c] = t->in_mean ? t->in_mean[i] : 0.0f;
        a[c] = (float)(rstd * (t->gamma ? (double)t->gamma[i] : 1.0));
        b[c] = t->beta ? t->beta[i] : 0.0f;
    }
    ae__channel_affine(t, first, count, t->y, mean, a, b, NULL, NULL);
}

static void ae__norm_affine(const ae_exec *e, float *y, const float *mean, const float *var,
                            const float *x, const float *gamma, const float *beta, float eps,
                            size_t B, size_t C, size_t P)
{
    ae__norms t = ae__norms_of(x, gamma, B, C, P);
    t.beta = beta;
    t.y = y;
    t.in_mean = mean;
    t.in_var = var;
    t.eps = eps;
    ae__norms_run(e, &t, ae__affine_unit);
}

AE_API void ae_batch_norm_infer(const ae_exec *e, float *y, const float *run_mean,
                                const float *run_var, const float *x, const float *gamma,
                                const float *beta, float eps, int B, int C, int P)
{
    ae__norm_affine(e, y, run_mean, run_var, x, gamma, beta, eps, (size_t)B, (size_t)C, (size_t)P);
}

#ifndef AE_NO_TRAIN
/* With h = (x - mean) rstd and y = h gamma + beta:
     dbeta = sum dy   dgamma = sum dy h
     dx = gamma rstd (dy - mean of dy - h mean of dy h) */
static void ae__norm_grad_unit(const void *arg, size_t unit)
{
    const ae__norms *t = (const ae__norms *)arg;
    size_t first = unit * t->each, count = ae__min(t->each, t->C - first);
    const float *mean = t->in_mean + first;
    double sums[AE__TOGETHER][2], n = (double)(t->B * t->P);
    float a[AE__TOGETHER], slope[AE__TOGETHER], shift[AE__TOGETHER];
    ae__channel_sums(sums, t, first, count, t->dy, NULL, mean);
    for (size_t c = 0, i = first; c < count; c++, i++) {
        double rstd = (double)t->in_rstd[i], scale = rstd * (t->gamma ? (double)t->gamma[i] : 1.0);
        if (t->dbeta) t->dbeta[i] += (float)sums[c][0];
        if (t->dgamma) t->dgamma[i] += (float)(sums[c][1] * rstd);
        a[c] = (float)scale;
        slope[c] = (float)(-scale * rstd * rstd * sums[c][1] / n);
        shift[c] = (float)(-scale * sums[c][0] / n);
    }
    if (t->dx) ae__channel_affine(t, first, count, t->dx, mean, slope, shift, t->dy, a);
}

AE_API void ae_batch_norm_backward(const ae_exec *e, float *dx, float *dgamma, float *dbeta,
                                   const float *dy, const float *x, const float *mean,
                                   const float *rstd, const float *gamma, int B, int C, int P)
{
    ae__norms t = ae__norms_of(x, gamma, (size_t)B, (size_t)C, (size_t)P);
    t.dx = dx;
    t.dgamma = dgamma;
    t.dbeta = dbeta;
    t.dy = dy;
    t.in_mean = mean;
    t.in_rstd = rstd;
    ae__norms_run(e, &t, ae__norm_grad_unit);
}
#endif

/* Group normalisation is batch normalisation of the groups of all samples, a row each; scaled then
   by channels or, with P = 1, by elements of their own gamma and beta. */

AE_API void ae_group_norm_forward(const ae_exec *e, float *y, float *mean, float *rstd,
                                  const float *x, const float *gamma, const float *beta, float eps,
                                  int groups, int per_channel, int B, int C, int P)
{
    size_t F = (size_t)C * (size_t)P, owners = per_channel ? (size_t)C : F;
    ae__norms t = ae__norms_of(x, NULL, 1, (size_t)B * (size_t)groups, F / (size_t)groups);
    t.y = y;
    t.mean = mean;
    t.rstd = rstd;
    t.eps = eps;
    ae__norms_run(e, &t, ae__norm_unit);
    if (gamma || beta)
        ae__norm_affine(e, y, NULL, NULL, y, gamma, beta, 0.0f, (size_t)B, owners, F / owners);
}

#ifndef AE_NO_TRAIN
// dgamma += the sum of dy h, dbeta += that of dy, for those that own P elements of each sample.
static void ae__scale_grad_unit(const void *arg, size_t unit)
{
    const ae__norms *t = (const ae__norms *)arg;
    size_t first = unit * t->each, count = ae__min(t->each, t->C - first);
    size_t group[AE__TOGETHER];
    double beta[AE__TOGETHER] = {0}, gamma[AE__TOGETHER] = {0};
    for (size_t c = 0; c < count; c++)
        group[c] = (first + c) / (t->C / t->groups);
    for (size_t b = 0; b < t->B; b++)
        for (size_t c = 0, at = (b * t->C + first) * t->P; c < count; c++, at += t->P) {
            size_t u = b * t->groups + group[c];
            if (t->P == 1) {            // layer normalisation: an element of each sample
                float v = t->dy[at];
                beta[c] += (double)v;
                gamma[c] += (double)(v * (t->x[at] - t->in_mean[u]) * t->in_rstd[u]);
                continue;
            }
            double sums[2] = {0, 0};
            t->kernels->moments(sums, t->dy + at, 0.0f, t->x + at, t->in_mean[u], t->P);
            beta[c] += sums[0];
            gamma[c] += sums[1] * (double)t->in_rstd[u];
        }
    for (size_t c = 0; c < count; c++) {
        if (t->dbeta) t->dbeta[first + c] += (float)beta[c];
        if (t->dgamma) t->dgamma[first + c] += (float)gamma[c];
    }
}

AE_API void ae_group_norm_backward(const ae_exec *e, float *dx, float *dgamma, float *dbeta,
                                   const float *dy, const float *x, const float *mean,
                                   const float *rstd, const float *gamma, int groups,
                                   int per_channel, int B, int C, int P)
{
    size_t F = (size_t)C * (size_t)P, owners = per_channel ? (size_t)C : F;
    ae__norms rows = ae__norms_of(x, NULL, 1, (size_t)B * (size_t)groups, F / (size_t)groups);
    ae__norms params = ae__norms_of(x, NULL, (size_t)B, owners, F / owners);
    params.dy = rows.dy = dy;
    params.in_mean = rows.in_mean = mean;
    params.in_rstd = rows.in_rstd = rstd;
    params.groups = (size_t)groups;
    params.dgamma = dgamma;
    params.dbeta = dbeta;
    if (dgamma || dbeta) ae__norms_run(e, &params, ae__scale_grad_unit);
    if (!dx) return;
    if (gamma) {
        ae__norm_affine(e, dx, NULL, NULL, dy, gamma, NULL, 0.0f, (size_t)B, owners, F / owners);
        rows.dy = dx;
    }
    rows.dx = dx;
    ae__norms_run(e, &rows, ae__norm_grad_unit);
}
#endif

/* ---------------------------------------------------------------------------
   >>noise   dropout and noise, the same for any split of a batch             */

#define AE__NOISE_CHUNK 1024        // draws held at a time, a multiple of AE__DRAW

// One draw for each of a group of elements.
static void ae__noise_groups(const ae__noise *t, float *y, float *mask, const float *x,
                             const float *draw, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        float keep = draw[k] >= t->a ? 1.0f / (1.0f - t->a) : 0.0f;
        for (size_t j = k * t->group; j < (k + 1) * t->group; j++) {
            y[j] = x[j] * keep;
            if (mask) mask[j] = keep;
        }
    }
}

static void ae__noise_job(void *arg, int task)
{
    const ae__noise *t = (const ae__noise *)arg;
    size_t i = (size_t)task * t->piece, end = ae__min(t->n, i + t->piece), n;
    float draw[AE__NOISE_CHUNK];
    for (; i < end; i += n) {
        size_t at = t->first + i, lane = at % 4, to = i * t->group;     // a block has four draws
        float *mask = t->mask ? t->mask + to : NULL;
        n = ae__min(AE__NOISE_CHUNK - lane, end - i);
        t->kernels->random(draw, lane + n, at / 4, t->r, t->kind == AE__GAUSSIAN);
        if (t->group > 1) ae__noise_groups(t, t->y + to, mask, t->x + to, draw + lane, n);
        else t->kernels->noise(t->y + to, mask, t->x + to, draw + lane, t, n);
    }
}

static void ae__noise_run(const ae_exec *e, int kind, float *y, float *mask,
                          const float *x, float a, float low, float high, size_t group,
                          size_t first, ae_random r, size_t n)
{
    size_t draws = n / group, piece = ae__units(draws, group);
    ae__noise t = {kind, a, low, high, y, mask, x, group, first / group, draws, piece, r,
                   ae__kernels_of(e)};
    ae__parallel(e, (int)((draws + piece - 1) / piece), ae__noise_job, &t);
}

AE_API void ae_dropout_forward(const ae_exec *e, float *y, float *mask, const float *x, float p,
                               size_t group, size_t first, ae_random r, size_t n)
{
    ae__noise_run(e, AE__DROPOUT, y, mask, x, p, 0, 0, group, first, r, n);
}

#ifndef AE_NO_TRAIN
static void ae__mul_job(void *arg, int task)
{
    const ae__flat *f = (const ae__flat *)arg;
    size_t i = (size_t)task * f->piece;
    f->kernels->mul(f->out + i, f->dy + i, f->y + i, ae__min(f->piece, f->n - i));
}

AE_API void ae_dropout_backward(const ae_exec *e, float *dx, const float *dy, const float *mask,
                                size_t n)
{
    // y = x mask:   dx = dy mask
    ae__flat f = ae__flat_of(e, n);
    f.out = dx;
    f.dy = dy;
    f.y = mask;
    ae__parallel(e, ae__pieces(n), ae__mul_job, &f);
}
#endif

AE_API void ae_gaussian_noise_forward(const ae_exec *e, float *y, float *mask, const float *x,
                                      float deviation, float low, float high, size_t first,
                                      ae_random r, size_t n)
{
    ae__noise_run(e, AE__GAUSSIAN, y, mask, x, deviation, low, high, 1, first, r, n);
}

AE_API void ae_mask_noise_forward(const ae_exec *e, float *y, float *mask, const float *x, float p,
                                  size_t first, ae_random r, size_t n)
{
    ae__noise_run(e, AE__MASKING, y, mask, x, p, 0, 0, 1, first, r, n);
}

AE_API void ae_salt_pepper_forward(const ae_exec *e, float *y, float *mask, const float *x,
                                   float p, float low, float high, size_t first, ae_random r,
                                   size_t n)
{
    ae__noise_run(e, AE__SALT_PEPPER, y, mask, x, p, low, high, 1, first, r, n);
}

/* Noise of one kind for B samples of `size` elements: sample i's begins at element first + i size
   of the sequence, or, with rows, at rows[i] size. group: neighbours that share a draw. */
static void ae__noise_samples(const ae_exec *e, int kind, float *y, float *mask, const float *x,
                              float a, float low, float high, size_t group, const size_t *rows,
                              size_t size, size_t first, ae_random r, int B)
{
    if (rows == NULL)
        ae__noise_run(e, kind, y, mask, x, a, low, high, group, first, r, (size_t)B * size);
    for (size_t i = 0; rows && i < (size_t)B; i++)
        ae__noise_run(e, kind, y + i * size, mask ? mask + i * size : NULL, x + i * size, a, low,
                      high, group, rows[i] * size, r, size);
}

#ifndef AE_NO_TRAIN
/* ---------------------------------------------------------------------------
   >>loss   one number from a prediction and a target                         */

// What the sum of all terms is multiplied with.
static double ae__reduce(ae_reduction reduction, int B, int F)
{
    double scale = reduction == AE_SUM ? 1.0 : 1.0 / B;
    return reduction == AE_MEAN ? scale / F : scale;
}

static void ae__loss_job(void *arg, int task)
{
    const ae__flat *f = (const ae__flat *)arg;
    size_t i = (size_t)task * f->piece;
    f->sums[task] = f->kernels->loss(f->x + i, f->y + i, f->kind, f->a,
                                     ae__min(f->piece, f->n - i), &f->bad[task]);
}

AE_API ae_status ae_loss_forward(const ae_exec *e, float *loss, const float *y, const float *t,
                                 ae_loss_kind kind, float a, ae_reduction reduction, int B, int F)
{
    ae__flat f = ae__flat_of(e, (size_t)B * (size_t)F);
    double sums[AE__PIECES], total = 0;
    int bad[AE__PIECES] = {0}, pieces = ae__pieces(f.n), any = 0;
    f.x = y;
    f.y = t;
    f.kind = (int)kind;
    f.a = a;
    f.sums = sums;
    f.bad = bad;
    ae__parallel(e, pieces, ae__loss_job, &f);
    for (int i = 0; i < pieces; i++) {
        total += sums[i];
        any |= bad[i];
    }
    *loss = (float)(total * ae__reduce(reduction, B, F));
    return any ? AE_E_ARG : AE_SUCCESS;
}

static float *ae__at(float *p, size_t i)
{
    return p ? p + i : NULL;
}

static void ae__loss_grad_job(void *arg, int task)
{
    const ae__flat *f = (const ae__flat *)arg;
    size_t i = (size_t)task * f->piece;
    f->kernels->loss_grad(ae__at(f->out, i), ae__at(f->out2, i), f->x + i, f->y + i, f->kind,
                          f->a, f->scale, ae__min(f->piece, f->n - i));
}

AE_API void ae_loss_backward(const ae_exec *e, float *dy, float *dt, float dloss, const float *y,
                             const float *t, ae_loss_kind kind, float a, ae_reduction reduction,
                             int B, int F)
{
    ae__flat f = ae__flat_of(e, (size_t)B * (size_t)F);
    f.out = dy;
    f.out2 = dt;
    f.x = y;
    f.y = t;
    f.kind = (int)kind;
    f.a = a;
    f.scale = (float)((double)dloss * ae__reduce(reduction, B, F));
    ae__parallel(e, ae__pieces(f.n), ae__loss_grad_job, &f);
}

// ln sum_j e^x_j, the largest taken out so that nothing overflows: top + ln(1 + the others').
static double ae__log_sum_exp(const float *x, int F)
{
    int top = 0;
    double others = 0;
    for (int j = 1; j < F; j++)
        top = x[j] > x[top] ? j : top;
    for (int j = 0; j < F; j++)
        if (j != top)
            others += exp((double)x[j] - (double)x[top]);
    return (double)x[top] + log1p(others);
}

AE_API ae_status ae_cross_entropy_forward(const ae_exec *e, float *loss, const float *x,
                                          const int32_t *labels, ae_reduction reduction,
                                          int B, int F)
{
    double sum = 0;
    (void)e;
    for (int b = 0; b < B; b++, x += F) {
        if (labels[b] < 0 || labels[b] >= F)
            return AE_E_ARG;
        sum += ae__log_sum_exp(x, F) - (double)x[labels[b]];
    }
    *loss = (float)(sum * ae__reduce(reduction, B, 1));
    return AE_SUCCESS;
}

AE_API void ae_cross_entropy_backward(const ae_exec *e, float *dx, float dloss, const float *x,
                                      const int32_t *labels, ae_reduction reduction,
                                      int B, int F)
{
    float scale = (float)((double)dloss * ae__reduce(reduction, B, 1));
    ae_softmax_forward(e, dx, x, B, F);
    for (int b = 0; b < B; b++, dx += F) {
        dx[labels[b]] -= 1.0f;
        for (int j = 0; j < F; j++)
            dx[j] *= scale;
    }
}
#endif

/* ---------------------------------------------------------------------------
   >>latent   variational and quantised codes                                 */

// e^v, along its tangent beyond 20, and its slope.
static AE__HD float ae__exp_tangent(float v, float *slope)
{
    float top = expf(v > 20.0f ? 20.0f : v);
    if (slope)
        *slope = top;
    return v > 20.0f ? top * (1.0f + (v - 20.0f)) : top;
}

AE_API void ae_gaussian_sample_forward(const ae_exec *e, float *z, float *slope, const float *mu,
                                       const float *logvar, size_t first, ae_random r, size_t n)
{
    float normal[256];
    (void)e;
    for (size_t i = 0; i < n; i++) {
        float half;
        if (i % 256 == 0)
            ae_random_normal(normal, ae__min(256, n - i), first + i, r);
        float deviation = ae__exp_tangent(0.5f * logvar[i], &half);
        if (slope)
            slope[i] = 0.5f * half * normal[i % 256];
        z[i] = mu[i] + deviation * normal[i % 256];
    }
}

#ifndef AE_NO_TRAIN
AE_API void ae_gaussian_sample_backward(const ae_exec *e, float *dmu, float *dlogvar,
                                        const float *dz, const float *slope, size_t n)
{
    (void)e;
    for (size_t i = 0; i < n && dlogvar; i++)
        dlogvar[i] = dz[i] * slope[i];
    if (dmu && dmu != dz)
        memcpy(dmu, dz, n * sizeof *dmu);
}
#endif

AE_API ae_status ae_one_hot_forward(const ae_exec *e, float *y, const int32_t *labels, int B,
                                    int F)
{
    (void)e;
    memset(y, 0, (size_t)B * (size_t)F * sizeof *y);
    for (size_t b = 0; b < (size_t)B; b++) {
        if (labels[b] < 0 || labels[b] >= F)
            return AE_E_ARG;
        y[b * (size_t)F + (size_t)labels[b]] = 1.0f;
    }
    return AE_SUCCESS;
}

/* |x - c|^2 is least where x c - |c|^2 / 2 is greatest: a product with a bias, for 32 pixels and
   256 codes at a time. The pixels of a sample are columns; with one pixel, samples are rows. */
AE_API void ae_vq_forward(const ae_exec *e, float *y, int32_t *index, const float *x,
                          const float *codes, int K, int B, int C, int P)
{
    enum { ROWS = 32, CODES = 256 };
    const ae_kernels *kernels = ae__kernels_of(e);
    float score[ROWS * CODES], bias[CODES], scratch[AE__GEMM_MIN];
    const size_t c = (size_t)C, p = (size_t)P;
    const int per = P == 1 ? B : P, samples = P == 1 ? 1 : B;   // rows that one product may have
    for (size_t s = 0; s < (size_t)samples; s++)
        for (int i = 0; i < per; i += ROWS) {
            const int rows = per - i < ROWS ? per - i : ROWS;
            const float *from = x + s * c * p + (size_t)i * (P == 1 ? c : 1);
            int32_t *best = index + s * p + (size_t)i;
            float most[ROWS];
            for (int k = 0; k < K; k += CODES) {
                const int count = K - k < CODES ? K - k : CODES;
                const float *code = codes + (size_t)k * c;
                for (int j = 0; j < count; j++)
                    bias[j] = (float)(-0.5 * kernels->dot(code + (size_t)j * c,
                                                          code + (size_t)j * c, c));
                kernels->gemm(score, CODES, from, P == 1 ? C : 1, P == 1 ? 1 : P, code, 1, C, bias,
                              rows, count, C, 0, scratch, AE__GEMM_MIN);
                for (int r = 0; r < rows; r++)
                    for (int j = 0; j < count; j++)
                        if (k + j == 0 || score[r * CODES + j] > most[r]) {
                            most[r] = score[r * CODES + j];
                            best[r] = k + j;
                        }
            }
        }
    for (size_t b = 0; b < (size_t)B; b++)
        for (size_t j = 0; j < c; j++)
            for (size_t i = 0; i < p; i++) {
                const size_t at = (b * c + j) * p + i;
                y[at] = codes[(size_t)index[b * p + i] * c + j] + (x[at] - x[at]);  // NaN stays
            }
}

AE_API ae_status ae_vq_lookup(float *y, const int32_t *index, const float *codes, int K, int B,
                              int C, int P)
{
    const size_t c = (size_t)C, p = (size_t)P;
    for (size_t b = 0; b < (size_t)B; b++)
        for (size_t i = 0; i < p; i++) {
            const int32_t k = index[b * p + i];
            if (k < 0 || k >= K)
                return AE_E_ARG;
            for (size_t j = 0; j < c; j++)
                y[(b * c + j) * p + i] = codes[(size_t)k * c + j];
        }
    return AE_SUCCESS;
}

#ifndef AE_NO_TRAIN
// The mean over the batch of unit j's KL.
static double ae__kl_unit(const float *mu, const float *logvar, int B, int F, int j)
{
    double sum = 0;
    for (size_t i = (size_t)j; i < (size_t)B * (size_t)F; i += (size_t)F)
        sum += 0.5 * ((double)(mu[i] * mu[i]) + (double)ae__exp_tangent(logvar[i], NULL) - 1.0
                      - (double)logvar[i]);
    return sum / B;
}

AE_API void ae_kl_normal_forward(const ae_exec *e, float *loss, const float *mu,
                                 const float *logvar, float free_nats, ae_reduction reduction,
                                 int B, int F)
{
    double sum = 0;
    (void)e;
    for (int j = 0; j < F; j++) {
        double unit = ae__kl_unit(mu, logvar, B, F, j);
        sum += unit < (double)free_nats ? (double)free_nats : unit;
    }
    *loss = (float)(sum * B * ae__reduce(reduction, B, F));
}

AE_API void ae_kl_normal_backward(const ae_exec *e, float *dmu, float *dlogvar, float dloss,
                                  const float *mu, const float *logvar, float free_nats,
                                  ae_reduction reduction, int B, int F)
{
    // d/dmu = mu   d/dlogvar = (e^logvar - 1) / 2
    const float scale = (float)((double)dloss * ae__reduce(reduction, B, F));
    (void)e;
    for (int j = 0; j < F; j++) {
        const int held = free_nats > 0.0f
                         && ae__kl_unit(mu, logvar, B, F, j) < (double)free_nats;
        for (size_t i = (size_t)j; i < (size_t)B * (size_t)F; i += (size_t)F) {
            float slope;
            ae__exp_tangent(logvar[i], &slope);
            if (dmu) dmu[i] = held ? 0.0f : scale * mu[i];
            if (dlogvar) dlogvar[i] = held ? 0.0f : 0.5f * scale * (slope - 1.0f);
        }
    }
}

#define AE__LOG_2PI 1.8378770664093453

AE_API void ae_log_normal_forward(const ae_exec *e, float *y, const float *z, const float *mu,
                                  const float *logvar, int B, int F)
{
    (void)e;
    for (int b = 0; b < B; b++) {
        double sum = 0;
        for (size_t i = (size_t)b * (size_t)F; i < (size_t)(b + 1) * (size_t)F; i++) {
            const float d = mu ? z[i] - mu[i] : z[i], v = logvar ? logvar[i] : 0.0f;
            sum += (double)v + (double)(d * d * (logvar ? ae__exp_tangent(-v, NULL) : 1.0f));
        }
        y[b] = (float)(-0.5 * (sum + F * AE__LOG_2PI));
    }
}

AE_API void ae_log_normal_backward(const ae_exec *e, float *dz, float *dmu, float *dlogvar,
                                   const float *dy, const float *z, const float *mu,
                                   const float *logvar, int B, int F)
{
    // y = -(v + d^2 e^-v) / 2, d = z - mu:   dz = -d e^-v   dmu = -dz   dv = (d^2 e^-v - 1) / 2
    (void)e;
    for (int b = 0; b < B; b++)
        for (size_t i = (size_t)b * (size_t)F; i < (size_t)(b + 1) * (size_t)F; i++) {
            const float d = mu ? z[i] - mu[i] : z[i];
            float slope = 1.0f, inverse = logvar ? ae__exp_tangent(-logvar[i], &slope) : 1.0f;
            if (dz) dz[i] = -dy[b] * d * inverse;
            if (dmu) dmu[i] = dy[b] * d * inverse;
            if (dlogvar) dlogvar[i] = 0.5f * dy[b] * (d * d * slope - 1.0f);
        }
}

// The reduction of -ln N(z; mu, e^logvar), and its gradients times dloss: a row at a time, the
// density of each, and what each counts for.
static void ae__gaussian_nll_forward(const ae_exec *e, float *loss, const float *z,
                                     const float *mu, const float *logvar, ae_reduction reduction,
                                     int B, int F)
{
    const size_t size = (size_t)F;
    double sum = 0;
    for (size_t i = 0; i < (size_t)B * size; i += size) {
        float row;
        ae_log_normal_forward(e, &row, z + i, mu + i, logvar ? logvar + i : NULL, 1, F);
        sum -= (double)row;
    }
    *loss = (float)(sum * ae__reduce(reduction, B, F));
}

static void ae__gaussian_nll_backward(const ae_exec *e, float *dz, float *dmu, float *dlogvar,
                                      float dloss, const float *z, const float *mu,
                                      const float *logvar, ae_reduction reduction, int B, int F)
{
    const size_t size = (size_t)F;
    const float row = (float)(-(double)dloss * ae__reduce(reduction, B, F));
    for (size_t i = 0; i < (size_t)B * size; i += size)
        ae_log_normal_backward(e, ae__at(dz, i), ae__at(dmu, i), ae__at(dlogvar, i), &row, z + i,
                               mu + i, logvar ? logvar + i : NULL, 1, F);
}

AE_API ae_status ae_log_bernoulli_forward(const ae_exec *e, float *y, const float *x,
                                          const float *t, int B, int F)
{
    const ae_kernels *kernels = ae__kernels_of(e);
    int bad = 0;
    for (size_t b = 0, f = (size_t)F; b < (size_t)B; b++)
        y[b] = (float)-kernels->loss(x + b * f, t + b * f, AE_LOSS_BCE_LOGITS, 0.0f, f, &bad);
    return bad ? AE_E_ARG : AE_SUCCESS;
}

AE_API void ae_log_bernoulli_backward(const ae_exec *e, float *dx, float *dt, const float *dy,
                                      const float *x, const float *t, int B, int F)
{
    const ae_kernels *kernels = ae__kernels_of(e);
    for (size_t b = 0, f = (size_t)F; b < (size_t)B; b++)
        kernels->loss_grad(ae__at(dx, b * f), ae__at(dt, b * f), x + b * f, t + b * f,
                           AE_LOSS_BCE_LOGITS, 0.0f, -dy[b], f);
}

// The log-weight of sample i, and of a group the logarithm of the sum of the weights.
static double ae__iwae_weight(const float *px, const float *pz, const float *qz, int i)
{
    return (double)px[i] + (double)pz[i] - (double)qz[i];
}

static double ae__iwae_sum(const float *px, const float *pz, const float *qz, int first, int k)
{
    double top = ae__iwae_weight(px, pz, qz, first), sum;
    for (int i = first + 1; i < first + k; i++) {
        const double w = ae__iwae_weight(px, pz, qz, i);
        top = w > top ? w : top;
    }
    sum = exp(ae__iwae_weight(px, pz, qz, first) - top);
    for (int i = first + 1; i < first + k; i++)
        sum += exp(ae__iwae_weight(px, pz, qz, i) - top);
    return top + log(sum);
}

AE_API void ae_iwae_forward(const ae_exec *e, float *loss, const float *px, const float *pz,
                            const float *qz, int k, ae_reduction reduction, int B)
{
    double sum = 0;
    (void)e;
    for (int i = 0; i < B; i += k)
        sum += log((double)k) - ae__iwae_sum(px, pz, qz, i, k);
    *loss = (float)(sum * ae__reduce(reduction, B / k, 1));
}

AE_API void ae_iwae_backward(const ae_exec *e, float *dw, float dloss, const float *px,
                             const float *pz, const float *qz, int k, ae_reduction reduction,
                             int B)
{
    const double scale = (double)dloss * ae__reduce(reduction, B / k, 1);
    (void)e;
    for (int i = 0; i < B; i += k) {
        const double sum = ae__iwae_sum(px, pz, qz, i, k);
        for (int j = i; j < i + k; j++)
            dw[j] = (float)(-scale * exp(ae__iwae_weight(px, pz, qz, j) - sum));
    }
}

AE_API void ae_vq_loss_forward(const ae_exec *e, float *loss, const float *x, const float *y,
                               float beta, int learns, ae_reduction reduction, int B, int C, int P)
{
    ae_loss_forward(e, loss, x, y, AE_LOSS_MSE, 0.0f, reduction, B, C * P);
    *loss *= beta + (learns ? 1.0f : 0.0f);
}

AE_API void ae_vq_loss_backward(const ae_exec *e, float *dx, float *dcodes, float dloss,
                                const float *x, const float *y, const int32_t *index, float beta,
                                ae_reduction reduction, int B, int C, int P)
{
    const size_t c = (size_t)C, p = (size_t)P;
    const float scale = (float)(2.0 * (double)dloss * ae__reduce(reduction, B, C * P));
    (void)e;
    for (size_t b = 0; b < (size_t)B; b++)
        for (size_t j = 0; j < c; j++)
            for (size_t i = 0; i < p; i++) {
                const size_t at = (b * c + j) * p + i;
                const float d = scale * (x[at] - y[at]);
                if (dx) dx[at] = beta * d;
                if (dcodes) dcodes[(size_t)index[b * p + i] * c + j] -= d;
            }
}

AE_API void ae_vq_update(const ae_exec *e, float *codes, float *sum, float *count, const float *x,
                         const int32_t *index, float decay, float eps, float least, ae_random r,
                         int K, int B, int C, int P)
{
    const size_t c = (size_t)C, p = (size_t)P, vectors = (size_t)B * p;
    double total = 0;
    (void)e;
    for (size_t k = 0; k < (size_t)K; k++) {
        count[k] *= decay;
        for (size_t j = 0; sum && j < c; j++)
            sum[k * c + j] *= decay;
    }
    for (size_t v = 0; v < vectors; v++) {
        const size_t k = (size_t)index[v];
        count[k] += 1.0f - decay;
        for (size_t j = 0; sum && j < c; j++)
            sum[k * c + j] += (1.0f - decay) * x[(v / p * c + j) * p + v % p];
    }
    for (size_t k = 0; k < (size_t)K; k++)
        total += (double)count[k];
    for (size_t k = 0; sum && k < (size_t)K; k++) {
        float u;
        ae_random_uniform(&u, 1, k, r);
        const size_t v = ae__min((size_t)((double)u * (double)vectors), vectors - 1);
        const int anew = count[k] < least;
        const double size = ((double)count[k] + (double)eps) / (total + K * (double)eps) * total;
        if (anew)
            count[k] = least;
        for (size_t j = 0; j < c; j++) {
            if (anew) {
                codes[k * c + j] = x[(v / p * c + j) * p + v % p];
                sum[k * c + j] = least * codes[k * c + j];
            } else if (count[k] > 0.0f)
                codes[k * c + j] = (float)((double)sum[k * c + j] / size);
        }
    }
}

// The kernel between two rows, and its slope by their squared distance.
static double ae__mmd_kernel(const float *a, const float *b, int F, double *slope)
{
    static const double width[7] = {0.1, 0.2, 0.5, 1, 2, 5, 10};
    double distance = 0, sum = 0;
    *slope = 0;
    for (int j = 0; j < F; j++) {
        const double d = (double)a[j] - (double)b[j];
        distance += d * d;
    }
    for (int i = 0; i < 7; i++) {
        const double c = 2.0 * F * width[i], whole = c + distance;
        sum += c / whole;
        *slope -= c / (whole * whole);
    }
    return sum;
}

// ae_random_normal, as an operation of a model.
static void ae__draw_normal(const ae_exec *e, float *x, size_t n, size_t first, ae_random r)
{
    (void)e;
    ae_random_normal(x, n, first, r);
}

AE_API void ae_mmd_forward(const ae_exec *e, float *loss, const float *z, const float *prior,
                           int B, int F)
{
    const size_t f = (size_t)F;
    double same = 0, cross = 0, unused;
    (void)e;
    for (size_t i = 0; i < (size_t)B; i++)
        for (size_t j = 0; j < (size_t)B; j++) {
            if (i != j)
                same += ae__mmd_kernel(z + i * f, z + j * f, F, &unused)
                        + ae__mmd_kernel(prior + i * f, prior + j * f, F, &unused);
            cross += ae__mmd_kernel(z + i * f, prior + j * f, F, &unused);
        }
    *loss = (float)(same / ((double)B * (B - 1)) - 2.0 * cross / ((double)B * B));
}

AE_API void ae_mmd_backward(const ae_exec *e, float *dz, float dloss, const float *z,
                            const float *prior, int B, int F)
{
    const size_t f = (size_t)F;
    (void)e;
    for (size_t i = 0; i < (size_t)B; i++)
        for (size_t j = 0; j < f; j++)
            dz[i * f + j] = 0.0f;
    for (size_t i = 0; i < (size_t)B; i++)
        for (size_t k = 0; k < 2 * (size_t)B; k++) {    // the other z, then the prior's
            const float *a = z + i * f;
            const float *b = k < (size_t)B ? z + k * f : prior + (k - (size_t)B) * f;
            double slope;
            ae__mmd_kernel(a, b, F, &slope);
            // each pair of z counts twice; the distance's own slope is 2 (a - b)
            slope *= 4.0 * (double)dloss / (k < (size_t)B ? (double)B * (B - 1)
                                                          : -(double)B * B);
            for (size_t j = 0; j < f; j++)
                dz[i * f + j] += (float)(slope * ((double)a[j] - (double)b[j]));
        }
}
#endif

/* ---------------------------------------------------------------------------
   >>penalty   sparse, contractive, orthogonal                                */

// A whole number that sorts as x does; NaN above all, so that it is not lost.
static uint32_t ae__sort_key(float x)
{
    uint32_t bits;
    x += 0.0f;                  // -0 is 0
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return 0xffffffff;
    return bits & 0x80000000 ? ~bits : bits | 0x80000000;
}

/* The key of the k-th largest of x, digit by digit from the top; *equal: how many of those with
   that very key are among the k. */
static uint32_t ae__kth_key(const float *x, int F, int k, int *equal)
{
    uint32_t found = 0, known = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        int count[256] = {0}, digit = 255;
        for (int j = 0; j < F; j++) {
            const uint32_t key = ae__sort_key(x[j]);
            count[key >> shift & 255] += (key & known) == found;
        }
        for (; count[digit] < k; digit--)
            k -= count[digit];
        found |= (uint32_t)digit << shift;
        known |= (uint32_t)255 << shift;
    }
    *equal = k;
    return found;
}

AE_API void ae_top_k_forward(const ae_exec *e, float *y, float *mask, const float *x, int k, int B,
                             int F)
{
    (void)e;
    for (size_t b = 0, f = (size_t)F; b < (size_t)B; b++) {
        int equal;
        const uint32_t least = ae__kth_key(x + b * f, F, k, &equal);
        for (size_t i = b * f; i < (b + 1) * f; i++) {
            const uint32_t key = ae__sort_key(x[i]);
            const int keep = key > least || (key == least && equal-- > 0);
            if (mask) mask[i] = keep ? 1.0f : 0.0f;
            y[i] = keep ? x[i] : 0.0f;
        }
    }
}

AE_API void ae_max_norm(const ae_exec *e, float *w, float limit, int O, int D)
{
    const ae_kernels *kernels = ae__kernels_of(e);
    for (size_t o = 0, d = (size_t)D; o < (size_t)O; o++) {
        const double norm = sqrt(kernels->dot(w + o * d, w + o * d, d));
        if (norm > (double)limit)
            kernels->scale(w + o * d, (float)((double)limit / norm), d);
    }
}

#ifndef AE_NO_TRAIN
// |x| is the L1 loss against zeros; a block of them serves all of x.
AE_API void ae_l1_penalty_forward(const ae_exec *e, float *loss, const float *x,
                                  ae_reduction reduction, int B, int F)
{
    const float zeros[AE__SUM_BLOCK] = {0};
    const size_t n = (size_t)B * (size_t)F;
    double sum = 0;
    int unused = 0;
    for (size_t i = 0; i < n; i += AE__SUM_BLOCK)
        sum += ae__kernels_of(e)->loss(x + i, zeros, AE_LOSS_L1, 0.0f,
                                       ae__min(AE__SUM_BLOCK, n - i), &unused);
    *loss = (float)(sum * ae__reduce(reduction, B, F));
}

AE_API void ae_l1_penalty_backward(const ae_exec *e, float *dx, float dloss, const float *x,
                                   ae_reduction reduction, int B, int F)
{
    const float zeros[AE__SUM_BLOCK] = {0};
    const float scale = (float)((double)dloss * ae__reduce(reduction, B, F));
    const size_t n = (size_t)B * (size_t)F;
    for (size_t i = 0; i < n; i += AE__SUM_BLOCK)
        ae__kernels_of(e)->loss_grad(dx + i, NULL, x + i, zeros, AE_LOSS_L1, 0.0f, scale,
                                     ae__min(AE__SUM_BLOCK, n - i));
}

// The mean of unit j, held inside (0,1).
static double ae__unit_mean(const float *x, int B, int F, int j)
{
    double sum = 0;
    for (size_t b = 0; b < (size_t)B; b++)
        sum += (double)x[b * (size_t)F + (size_t)j];
    sum /= B;
    return sum < 1e-6 ? 1e-6 : sum > 1.0 - 1e-6 ? 1.0 - 1e-6 : sum;
}

AE_API void ae_kl_sparsity_forward(const ae_exec *e, float *loss, const float *x, float rho,
                                   ae_reduction reduction, int B, int F)
{
    const double p = (double)rho;
    double sum = 0;
    (void)e;
    for (int j = 0; j < F; j++) {
        const double m = ae__unit_mean(x, B, F, j);
        sum += (p > 0.0 ? p * log(p / m) : 0.0)
               + (p < 1.0 ? (1.0 - p) * log((1.0 - p) / (1.0 - m)) : 0.0);
    }
    *loss = (float)(reduction == AE_MEAN ? sum / F : sum);
}

AE_API void ae_kl_sparsity_backward(const ae_exec *e, float *dx, float dloss, const float *x,
                                    float rho, ae_reduction reduction, int B, int F)
{
    // d/dm = (1-rho)/(1-m) - rho/m, and each sample's share of m is 1/B
    const double p = (double)rho, scale = (double)dloss / B / (reduction == AE_MEAN ? F : 1);
    (void)e;
    for (int j = 0; j < F; j++) {
        const double m = ae__unit_mean(x, B, F, j);
        const float d = (float)(scale * ((1.0 - p) / (1.0 - m) - p / m));
        for (size_t b = 0; b < (size_t)B; b++)
            dx[b * (size_t)F + (size_t)j] = d;
    }
}

// act'(s) and act''(s), in double.
static double ae__slope_of(double s, ae_act act, double a, double *second)
{
    const double sigmoid = 1.0 / (1.0 + exp(-s)), spread = sigmoid * (1.0 - sigmoid);
    *second = 0.0;
    switch (act) {
    case AE_ACT_RELU: return s > 0.0 ? 1.0 : 0.0;
    case AE_ACT_LEAKY_RELU: return s > 0.0 ? 1.0 : a;
    case AE_ACT_ELU:
        if (s > 0.0) return 1.0;
        return *second = a * exp(s);
    case AE_ACT_SIGMOID:
        *second = spread * (1.0 - 2.0 * sigmoid);
        return spread;
    case AE_ACT_TANH: {
        const double t = tanh(s);
        *second = -2.0 * t * (1.0 - t * t);
        return 1.0 - t * t;
    }
    case AE_ACT_SOFTPLUS:
        *second = spread;
        return sigmoid;
    case AE_ACT_SILU:
        *second = spread * (2.0 + s * (1.0 - 2.0 * sigmoid));
        return sigmoid + s * spread;
    case AE_ACT_GELU: {         // Phi + s phi, and 2 phi - s^2 phi
        const double phi = 0.3989422804014327 * exp(-0.5 * s * s);
        *second = phi * (2.0 - s * s);
        return 0.5 * erfc(-0.7071067811865475 * s) + s * phi;
    }
    case AE_ACT_GELU_TANH: {    // s sigmoid(u), u = s (A + B s^2)
        const double u1 = 1.5957691216057308 + 3.0 * 0.07135481627159841 * s * s;
        const double u = s * (1.5957691216057308 + 0.07135481627159841 * s * s);
        const double q = 1.0 / (1.0 + exp(-u)), v = q * (1.0 - q);
        *second = v * (2.0 * u1 + s * (6.0 * 0.07135481627159841 * s + u1 * u1 * (1.0 - 2.0 * q)));
        return q + s * v * u1;
    }
    default: return 1.0;
    }
}

AE_API void ae_contractive_forward(const ae_exec *e, float *loss, const float *s, const float *w,
                                   ae_act act, float a, ae_reduction reduction, int B, int D,
                                   int O)
{
    const ae_kernels *kernels = ae__kernels_of(e);
    double sum = 0, unused;
    for (size_t o = 0, d = (size_t)D; o < (size_t)O; o++) {
        double slopes = 0;
        for (size_t b = 0; b < (size_t)B; b++) {
            const double slope = ae__slope_of((double)s[b * (size_t)O + o], act, (double)a,
                                              &unused);
            slopes += slope * slope;
        }
        sum += slopes * kernels->dot(w + o * d, w + o * d, d);
    }
    *loss = (float)(sum * ae__reduce(reduction, B, 1));
}

AE_API void ae_contractive_backward(const ae_exec *e, float *ds, float *dw, float dloss,
                                    const float *s, const float *w, ae_act act, float a,
                                    ae_reduction reduction, int B, int D, int O)
{
    // sum of act'^2 |w|^2:   ds = 2 act' act'' |w|^2   dw = 2 w sum of act'^2
    const ae_kernels *kernels = ae__kernels_of(e);
    const double scale = 2.0 * (double)dloss * ae__reduce(reduction, B, 1);
    for (size_t o = 0, d = (size_t)D; o < (size_t)O; o++) {
        const double square = kernels->dot(w + o * d, w + o * d, d);
        double slopes = 0;
        for (size_t b = 0; b < (size_t)B; b++) {
            double second;
            const double slope = ae__slope_of((double)s[b * (size_t)O + o], act, (double)a,
                                              &second);
            slopes += slope * slope;
            if (ds) ds[b * (size_t)O + o] = (float)(scale * slope * second * square);
        }
        if (dw) kernels->axpy(dw + o * d, (float)(scale * slopes), w + o * d, d);
    }
}

AE_API void ae_weight_penalty_forward(const ae_exec *e, float *loss, const float *w, int squared,
                                      size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += fabs((double)w[i]);
    *loss = (float)(squared ? ae__kernels_of(e)->dot(w, w, n) : sum);
}

AE_API void ae_weight_penalty_backward(const ae_exec *e, float *dw, float dloss, const float *w,
                                       int squared, size_t n)
{
    if (squared)
        ae__kernels_of(e)->axpy(dw, 2.0f * dloss, w, n);
    for (size_t i = 0; i < n && !squared; i++)
        dw[i] += w[i] > 0.0f ? dloss : w[i] < 0.0f ? -dloss : dloss * w[i];     // 0, or NaN
}

/* The Gram matrix minus 1 in tiles of 32 x 32: side vectors of `length` elements, `step` apart,
   whose neighbours are `next` apart. Returns the sum of squares; dw: adds the gradient. */
static double ae__gram(const ae_exec *e, float *dw, float scale, const float *w, int side,
                       int length, ptrdiff_t next, ptrdiff_t step)
{
    enum { TILE = 32 };
    const ae_kernels *kernels = ae__kernels_of(e);
    float tile[TILE * TILE], scratch[AE__GEMM_MIN];
    double sum = 0;
    for (int i = 0; i < side; i += TILE)
        for (int j = 0; j < side; j += TILE) {
            const int rows = side - i < TILE ? side - i : TILE;
            const int columns = side - j < TILE ? side - j : TILE;
            kernels->gemm(tile, TILE, w + i * next, next, step, w + j * next, step, next, NULL,
                          rows, columns, length, 0, scratch, AE__GEMM_MIN);
            for (int r = 0; r < rows && i == j; r++)
                tile[r * TILE + r] -= 1.0f;
            for (int r = 0; r < rows; r++)
                sum += kernels->dot(tile + r * TILE, tile + r * TILE, (size_t)columns);
            if (dw == NULL)
                continue;
            for (int r = 0; r < rows; r++)
                kernels->scale(tile + r * TILE, scale, (size_t)columns);
            if (step == 1)      // rows: dw_i += tile w_j
                kernels->gemm(dw + i * next, next, tile, TILE, 1, w + j * next, next, 1, NULL,
                              rows, length, columns, 1, scratch, AE__GEMM_MIN);
            else                // columns: dw_j += w_i tile
                kernels->gemm(dw + j, step, w + i, step, 1, tile, TILE, 1, NULL, length, columns,
                              rows, 1, scratch, AE__GEMM_MIN);
        }
    return sum;
}

AE_API void ae_orthogonal_forward(const ae_exec *e, float *loss, const float *w, int O, int D)
{
    *loss = (float)(O <= D ? ae__gram(e, NULL, 0.0f, w, O, D, D, 1)
                           : ae__gram(e, NULL, 0.0f, w, D, O, 1, D));
}

AE_API void ae_orthogonal_backward(const ae_exec *e, float *dw, float dloss, const float *w, int O,
                                   int D)
{
    // |w w^T - 1|^2:   dw = 4 (w w^T - 1) w
    if (O <= D) ae__gram(e, dw, 4.0f * dloss, w, O, D, D, 1);
    else ae__gram(e, dw, 4.0f * dloss, w, D, O, 1, D);
}
#endif

/* ---------------------------------------------------------------------------
   >>optim   first weights, optimisers, schedules, clipping                   */

static ae_init ae__init(ae_init_kind kind, float a, float b)
{
    ae_init init;
    init.a = a;
    init.b = b;
    init.kind = kind;
    return init;
}

AE_API ae_init ae_init_uniform(float low, float high)
{
    return ae__init(AE_INIT_UNIFORM, low, high);
}

AE_API ae_init ae_init_normal(float mean, float deviation)
{
    return ae__init(AE_INIT_NORMAL, mean, deviation);
}

AE_API ae_init ae_init_constant(float value)
{
    return ae__init(AE_INIT_CONSTANT, value, 0.0f);
}

AE_API ae_init ae_init_xavier_uniform(float gain)
{
    return ae__init(AE_INIT_XAVIER_UNIFORM, gain, 0.0f);
}

AE_API ae_init ae_init_xavier_normal(float gain)
{
    return ae__init(AE_INIT_XAVIER_NORMAL, gain, 0.0f);
}

AE_API ae_init ae_init_he_uniform(float slope)
{
    return ae__init(AE_INIT_HE_UNIFORM, slope, 0.0f);
}

AE_API ae_init ae_init_he_normal(float slope)
{
    return ae__init(AE_INIT_HE_NORMAL, slope, 0.0f);
}

AE_API void ae_init_fill(float *w, size_t n, ae_init init, int fan_in, int fan_out, ae_random r)
{
    // Every kind is x * b + a with x uniform in [-1,1) or normal.
    float in = (float)fan_in, fans = (float)fan_in + (float)fan_out;
    float a = 0.0f, b = 0.0f, he = (1.0f + init.a * init.a) * in;
    int normal = 0;
    switch (init.kind) {
    case AE_INIT_UNIFORM:
        a = 0.5f * (init.a + init.b);
        b = 0.5f * (init.b - init.a);
        break;
    case AE_INIT_NORMAL:         a = init.a; b = init.b; normal = 1; break;
    case AE_INIT_CONSTANT:       a = init.a; break;
    case AE_INIT_XAVIER_UNIFORM: b = init.a * sqrtf(6.0f / fans); break;
    case AE_INIT_XAVIER_NORMAL:  b = init.a * sqrtf(2.0f / fans); normal = 1; break;
    case AE_INIT_HE_UNIFORM:     b = sqrtf(6.0f / he); break;
    case AE_INIT_HE_NORMAL:      b = sqrtf(2.0f / he); normal = 1; break;
    case AE_INIT_DEFAULT:
    default:                     b = 1.0f / sqrtf(in); break;
    }
    if (normal)
        ae_random_normal(w, n, 0, r);
    else
        ae_random_uniform(w, n, 0, r);
    for (size_t i = 0; i < n; i++)
        w[i] = (normal ? w[i] : 2.0f * w[i] - 1.0f) * b + a;
}

static float ae__or(float value, float otherwise)
{
    return value != 0.0f ? value : otherwise;
}

#ifndef AE_NO_TRAIN
AE_API int ae_optim_states(const ae_optim *o)
{
    switch (o->kind) {
    case AE_SGD:     return o->momentum != 0.0f;
    case AE_RMSPROP: return 1 + (o->momentum != 0.0f);
    case AE_ADAGRAD: return 1;
    case AE_ADAM:
    case AE_ADAMW:
    default:         return 2;
    }
}

static float ae__optim_lr(const ae_optim *o)
{
    return ae__or(o->lr, o->kind == AE_RMSPROP || o->kind == AE_ADAGRAD ? 1e-2f : 1e-3f);
}

// The constants of step t, the defaults filled in.
static ae__update ae__update_of(const ae_optim *o, float lr, uint64_t t)
{
    ae__update u;
    memset(&u, 0, sizeof u);
    u.kind = (int)o->kind;
    u.nesterov = o->nesterov;
    u.lr = lr;
    u.beta1 = ae__or(o->beta1, 0.9f);
    u.beta2 = ae__or(o->beta2, o->kind == AE_RMSPROP ? 0.99f : 0.999f);
    u.eps = ae__or(o->eps, o->kind == AE_ADAGRAD ? 1e-10f : 1e-8f);
    u.weight_decay = o->weight_decay;
    u.momentum = o->momentum;
    u.first = t == 1;
    if (o->kind == AE_ADAM || o->kind == AE_ADAMW) {
        u.c1 = (float)(1.0 / (1.0 - pow((double)u.beta1, (double)t)));
        u.c2 = (float)(1.0 / (1.0 - pow((double)u.beta2, (double)t)));
    }
    if (o->kind == AE_ADAGRAD)
        u.lr = (float)((double)lr / (1.0 + (double)(t - 1) * (double)o->lr_decay));
    return u;
}

static void ae__update_job(void *arg, int task)
{
    const ae__flat *f = (const ae__flat *)arg;
    size_t i = (size_t)task * f->piece;
    f->kernels->update(f->out + i, ae__at(f->out2, i), ae__at(f->out3, i), f->x + i, f->update,
                       ae__min(f->piece, f->n - i));
}

static void ae__optim_update(const ae_exec *e, float *w, float *s1, float *s2, const float *g,
                             const ae__update *u, size_t n)
{
    ae__flat f = ae__flat_of(e, n);
    f.out = w;
    f.out2 = s1;
    f.out3 = s2;
    f.x = g;
    f.update = u;
    ae__parallel(e, ae__pieces(n), ae__update_job, &f);
}

AE_API void ae_optim_update(const ae_exec *e, float *w, float *s1, float *s2, const float *g,
                            const ae_optim *o, uint64_t t, size_t n)
{
    ae__update u = ae__update_of(o, ae__optim_lr(o), t);
    ae__optim_update(e, w, s1, s2, g, &u, n);
}

static void ae__square_job(void *arg, int task)
{
    const ae__flat *f = (const ae__flat *)arg;
    size_t i = (size_t)task * f->piece;
    f->sums[task] = f->kernels->dot(f->x + i, f->x + i, ae__min(f->piece, f->n - i));
}

static double ae__norm(const ae_exec *e, const float *x, size_t n)
{
    ae__flat f = ae__flat_of(e, n);
    double sums[AE__PIECES], total = 0;
    f.x = x;
    f.sums = sums;
    ae__parallel(e, ae__pieces(n), ae__square_job, &f);
    for (int i = 0; i < ae__pieces(n); i++)
        total += sums[i];
    return sqrt(total);
}

static void ae__scale_job(void *arg, int task)
{
    const ae__flat *f = (const ae__flat *)arg;
    size_t i = (size_t)task * f->piece;
    f->kernels->scale(f->out + i, f->a, ae__min(f->piece, f->n - i));
}

AE_API double ae_clip_norm(const ae_exec *e, float *g, float max_norm, size_t n)
{
    double norm = ae__norm(e, g, n), factor = (double)max_norm / (norm + 1e-6);
    ae__flat f = ae__flat_of(e, n);
    f.out = g;
    f.a = (float)factor;
    if (factor < 1.0)
        ae__parallel(e, ae__pieces(n), ae__scale_job, &f);
    return norm;
}

static void ae__clamp_job(void *arg, int task)
{
    const ae__flat *f = (const ae__flat *)arg;
    size_t i = (size_t)task * f->piece;
    f->kernels->clamp(f->out + i, f->a, ae__min(f->piece, f->n - i));
}

AE_API void ae_clip_value(const ae_exec *e, float *g, float limit, size_t n)
{
    ae__flat f = ae__flat_of(e, n);
    f.out = g;
    f.a = limit;
    ae__parallel(e, ae__pieces(n), ae__clamp_job, &f);
}

AE_API float ae_schedule_lr(const ae_schedule *s, float lr, float t)
{
    double gamma = (double)ae__or(s->gamma, s->kind == AE_SCHEDULE_EXPONENTIAL ? 0.95f : 0.1f);
    double base = (double)lr, low = (double)s->lr_min, whole = floor((double)t);
    if (t < s->warmup)
        return (float)(base * (double)t / (double)s->warmup);
    switch (s->kind) {
    case AE_SCHEDULE_STEP:
        return (float)(base * pow(gamma, floor((double)t / (double)ae__or(s->step, 10.0f))));
    case AE_SCHEDULE_EXPONENTIAL:
        return (float)(base * pow(gamma, whole));
    case AE_SCHEDULE_COSINE: {
        double span = (double)s->epochs - (double)s->warmup, at = (double)t - (double)s->warmup;
        double share = span > 0 && at < span ? at / span : 1.0;
        return (float)(low + (base - low) * 0.5 * (1.0 + cos(3.14159265358979324 * share)));
    }
    case AE_SCHEDULE_PLATEAU: {
        double reduced = base * (s->started ? (double)s->factor : 1.0);
        return (float)(reduced > low || base < low ? reduced : low);
    }
    case AE_SCHEDULE_CONSTANT:
    default:
        return lr;
    }
}

AE_API void ae_schedule_update(ae_schedule *s, float loss)
{
    if (s->kind != AE_SCHEDULE_PLATEAU)
        return;
    if (!s->started)
        s->factor = 1.0f;
    s->started |= 1;
    if (ae__finite(loss) && (!(s->started & 2)
                             || loss < s->best * (1.0f - ae__or(s->min_delta, 1e-4f)))) {
        s->started |= 2;
        s->best = loss;
        s->bad = 0;
    } else if (++s->bad > (s->patience ? s->patience : 10)) {
        s->factor *= ae__or(s->gamma, 0.1f);
        s->bad = 0;
    }
}
#endif

/* ---------------------------------------------------------------------------
   >>model   a graph of tensors: built, planned, run                          */

#define AE__STEP_NOW (UINT64_MAX - 1)   /* as the step of a draw: the one that the GPU runs     */

/* Every operation of a model goes through here: one place to choose between back ends. */
#ifdef AE_USE_CUDA
#define AE__CUDA_OPERATIONS
#include "ae_cuda.cuh"
#undef AE__CUDA_OPERATIONS
#define AE__OP(m, name, args) ((m)->exec.device ? ae__cu_##name args : ae_##name args)
#else
#define AE__OP(m, name, args) ae_##name args
#endif
// What else a model on a GPU does in another way; and work that is done on the processor.
#ifdef AE_USE_CUDA
#define AE__GPU(m, ...) do { if ((m)->exec.device) { __VA_ARGS__; } } while (0)
#define AE__ON_HOST(m, result, call) \
    (ae__cu_to_host(m), (result) = (call), ae__cu_to_device(m), (result))
#else
#define AE__GPU(m, ...) do { (void)(m); } while (0)
#define AE__ON_HOST(m, result, call) ((result) = (call))
#endif

#define AE__NAME_MAX 64

struct ae_param {
    ae_param *next;
    char name[AE__NAME_MAX];
    int shape[4], dims;
    int fan_in, fan_out, index;
    size_t count;               // elements
    size_t at;                  // floats from the start of PARAM, and of GRAD
    int untrained;              // running statistics: behind the others, without a gradient
    float max_norm;             // of its rows, 0: any
    int shrinks;                // only linear layers and convolutions read it: see ae_fork_small
    size_t small_at, whole_at;  // there: elements from the start of what is small (scales: floats
                                // from the start of PARAM); of others, floats from that
    ae_init init;
};

/* A place in a buffer, in floats per sample: the plan does not depend on the batch. Time is the
   tensors' ids: the bytes are in use from id `from` to id `to`, both included. */
typedef struct ae__span {
    size_t at, size;
    int from, to;
} ae__span;

/* A gradient that no other run of chunks reads or writes (AE__PASSING) has room for one chunk of
   each task instead of the batch. */
enum { AE__INFER_VALUE, AE__TRAIN_VALUE, AE__GRADIENT, AE__PASSING, AE__SPANS };
enum { AE__KEPT = 1, AE__KEPT_IN_TRAINING, AE__KEPT_ALWAYS };

#define AE__STREAM_NOISE 0x4e000000u    /* plus the tensor's id; parameters' begin at 1 */

typedef struct ae__op {
    const char *name;
    ae_status (*forward)(ae_model *m, const ae_tensor *t, int n);
    /* dy: gradient of t. d[i]: where the gradient of input i is written (=), or NULL. */
    void (*backward)(ae_model *m, const ae_tensor *t, int n, const float *dy, float *const *d);
    int labels;                 // which input is labels, from 1; 0: none
} ae__op;

#define AE__INPUTS 3

struct ae_tensor {
    ae_model *model;
    ae_tensor *prev, *next;     // in the order they were made, which is an order to compute them
    const ae__op *op;
    ae_tensor *in[AE__INPUTS];  // as many as it has, then NULL
    ae_param *weight, *bias;
    char name[AE__NAME_MAX];
    int id, c, h, w;
    int kind;                   // ae_act, ae_loss_kind, ae_upsample_kind, AE__DROPOUT, 1: conv1d
    float a;                    // its parameter: slope, delta, probability, momentum, ...
    ae_conv conv;
    ae_pool pool;
    int side[4];                // pad2d: top, bottom, left, right
    ae_param *running[2];       // batch_norm: mean and variance
    float eps;                  // of normalisations
    int groups, per_channel;
    float low, high;            // of noise; group: neighbours that share a draw
    int group;
    int noise_always, noise_fixed;
    int k;                      // top_k, iwae: how many
    ae_vq_options vq;
    ae_tensor *copy;            // what ae_again made of it
    int marked;                 // it has to, for y
    int kept;                   // AE__KEPT: not a value but what a backward pass needs
    int loss;                   // number among the losses, or -1
    ae_reduction reduction;
    int is_input, minimized, monitored;
    float term_weight, warm_up; // epochs over which the weight grows
    int has_grad;               // depends on a parameter
    int towards_loss;           // a minimised loss depends on it
    const ae_tensor *last_use, *last_loss_use;  // who reads it last: of all, towards a loss
    int uses, loss_uses;        // how many do
    int alone;                  // a product towards the loss, and nobody else has its parameters
    const ae_tensor *run_first, *run_last;      // neighbours that run chunk by chunk: ae__run_chunk
    ae_tensor *in_place_of, *replaced_by;   // whose bytes it writes over; who writes over it
    ae__span span[AE__SPANS];
};

/* What training counts; in STATE, so that a snapshot has it. Behind it, one a loss: its sum over
   the epoch, its last mean, its sum in an evaluation (doubles), its last value (float). */
typedef struct ae__state {
    uint64_t steps;             // optimiser steps taken
    uint64_t epoch, cursor;     // epochs finished; samples done in the running one
    uint64_t seen;              // samples in the sums
} ae__state;

/* How raw values became those that were fed: see ae_dataset. */
typedef struct ae__scaling {
    float scale, mean, deviation;
    int known;
} ae__scaling;

/* Text kept with the model; its bytes stand behind it. */
typedef struct ae__note {
    struct ae__note *next;
    char key[AE__NAME_MAX];
    char *value;
    size_t capacity;            // of value, its 0 included
} ae__note;

struct ae_model {
    ae_arena *arena;
    const ae_model *graph;      // who owns the tensors: itself, or what it was forked from
    uint64_t seed;
    ae_status status;           // of the last call, or of the first mistake in the graph
    int broken;                 // nonzero: that mistake stays
    char error[AE_ERROR_MAX];
    ae_tensor *first, *last;
    ae_param *first_param, *last_param;
    int tensors, params, losses;
    int edits;                  // of operations, after they were made
    size_t param_floats;        // of PARAM, padding included
    size_t trained_floats;      // of these, what has a gradient
    size_t whole_floats, small_count;   // of PARAM in ae_fork_small: floats, then small elements
    ae_precision precision;     // of the weights
    float *whole;               // the floats of a convolution's small weights
    ae_exec exec;
    int own_scratch;            // nonzero: exec.scratch is ours to set
    int optim_states;
    int built, batch, threads;  // threads: how many the plan has room for
    ae_mode mode;
    int training;               // nonzero during ae_forward: noise is on
    int forward_n;              // samples of the last ae_forward, 0: none
    int fresh;                  // nonzero: this backward pass is the first, see ae__zero_others
    int repeat;                 // how often each sample of a dataset is fed in a row (ae_iwae)
    float epoch_at;             // of the step that runs, with its fraction: for ae_warm_up
    size_t sample;              // where in its step or pass the batch begins: noise depends on it
    int from;                   // the first sample of what an operation works on: see ae__run_chunk
    const ae_tensor *joined;    // an activation that the operation at work does as well, or NULL
    int chunk, task;            // of the run: samples of a chunk, and for which task this model is
    size_t passing, passing_at; // its floats of AE__PASSING a sample; where in ACT they begin
    float *sums;                // gradients of weights that parts of a run have summed
    size_t grad_at;             // which parameters' GRAD is: from this float on
    float *scratch;             // what the plan has for its threads, or NULL
    float *statistics;          // the untrained parameters before a step that may fail
    size_t *rows;               // where in its dataset each sample stands, for fixed noise
    ae__scaling fed, trained;   // of the last samples fed; of the last ones trained on
    ae__note *notes;
    unsigned char *segment[AE_SEG_COUNT];
    size_t bytes[AE_SEG_COUNT];
    ptrdiff_t shift;            // from the model's memory to the copy that operations work on
    ae_device_kind device;      // as asked for
    const char *place;          // where it computes: see ae_device
    void *context;              // room for what it has on a GPU
    unsigned char *needed, *replaced;   // per tensor: to be computed; its values are written over
    float *parts[AE__INPUTS];   // gradients on their way to be added to others
    size_t part;                // floats of each a sample
};

// ---- errors

static ae_status ae__set_error(ae_model *m, int broken, ae_status status, const char *format,
                               va_list args)
{
    if (!m->broken) {           // the first mistake in the graph is the one to mend
        m->status = status;
        m->broken = broken;
        ae__format_list(m->error, sizeof m->error, format, args);
    }
    return m->status;
}

// A mistake in the graph: kept. Returns the NULL that the operation returns.
static ae_tensor *ae__mistake(ae_model *m, ae_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    ae__set_error(m, !m->built, status, format, args);
    va_end(args);
    return NULL;
}

// An error of one call.
static ae_status ae__report(ae_model *m, ae_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    ae__set_error(m, 0, status, format, args);
    va_end(args);
    return status;
}

AE_API const char *ae_error(const ae_model *m)
{
    if (m == NULL)
        return "no model: ae_model_new needs an arena with room for one";
    return m->status != AE_SUCCESS ? m->error : m->arena->error;
}

AE_API ae_status ae_model_status(const ae_model *m)
{
    return m ? m->status : AE_E_MEMORY;
}

// The start of each call that works on a built model.
static ae_status ae__begin(ae_model *m, int n)
{
    if (m == NULL)
        return AE_E_ARG;
    if (m->broken)
        return m->status;
    m->status = AE_SUCCESS;
    if (m->graph == m)          // forks in other threads may share the arena
        m->arena->error[0] = 0;
    if (!m->built)
        return ae__report(m, AE_E_ARG, "the model is not built: call ae_build first");
    if (n < 1 || n > m->batch)
        return ae__report(m, AE_E_ARG, "%d samples: the model was built for 1 to %d at once", n,
                          m->batch);
#ifdef AE_USE_CUDA
    if (m->context)
        return ae__cu_enter(m);
#endif
    return AE_SUCCESS;
}

// ---- where things are

static size_t ae__size(const ae_tensor *t)
{
    return (size_t)t->c * (size_t)t->h * (size_t)t->w;
}

// What lies at p in the model's memory, where the operations run: at p, or in the GPU's copy.
static void *ae__here(const ae_model *m, const void *p)
{
    return (void *)((uintptr_t)p + (uintptr_t)m->shift);
}

// And back: where the processor finds it.
static void *ae__on_host(const ae_model *m, const void *p)
{
    return p ? (void *)((uintptr_t)p - (uintptr_t)m->shift) : NULL;
}

// Values of the program's into the model's memory, and out of it.
static void ae__copy_in(ae_model *m, void *to, const void *from, size_t bytes)
{
    AE__GPU(m, ae__cu_copy(m, to, from, bytes, 1); return);
    memmove(to, from, bytes);
}

static void ae__copy_out(ae_model *m, void *to, const void *from, size_t bytes)
{
    AE__GPU(m, ae__cu_copy(m, to, from, bytes, 0); return);
    memcpy(to, from, bytes);
}

// Where the processor reads what the operations left at p, count floats; NULL: the GPU failed.
static float *ae__read(ae_model *m, const void *p, size_t count)
{
    (void)count;
    AE__GPU(m, if (ae__cu_view(m, p, count * sizeof(float))) return NULL);
    return (float *)ae__on_host(m, p);
}

static float *ae__segment(const ae_model *m, ae_segment s)
{
    return (float *)ae__here(m, m->segment[s]);
}

static ae__state *ae__state_of(const ae_model *m)
{
    return (ae__state *)(void *)m->segment[AE_SEG_STATE];
}

static double *ae__loss_sums(const ae_model *m)
{
    return (double *)(void *)(ae__state_of(m) + 1);
}

static double *ae__loss_means(const ae_model *m)
{
    return ae__loss_sums(m) + m->losses;
}

static double *ae__eval_sums(const ae_model *m)
{
    return ae__loss_means(m) + m->losses;
}

static float *ae__loss_values(const ae_model *m)
{
    return (float *)(void *)(ae__eval_sums(m) + m->losses);
}

static float *ae__in_act(const ae_model *m, const ae__span *s)
{
    return ae__segment(m, AE_SEG_ACT) + s->at * (size_t)m->batch;
}

static float *ae__value(const ae_model *m, const ae_tensor *t)
{
    if (t->loss >= 0)
        return (float *)ae__here(m, ae__loss_values(m) + t->loss);
    return ae__in_act(m, &t->span[m->mode == AE_TRAIN ? AE__TRAIN_VALUE : AE__INFER_VALUE])
           + (size_t)m->from * ae__size(t);
}

// Of weights that are small, the scales.
static float *ae__weights(const ae_model *m, const ae_param *p)
{
    return p ? ae__segment(m, AE_SEG_PARAM) + (m->precision ? p->whole_at : p->at) : NULL;
}

static int ae__is_small(const ae_model *m, const ae_param *p)
{
    return m->precision && p->shrinks;
}

// How many rows lie together, and the columns: of convolutions all but the first side.
static int ae__together(const ae_param *p)
{
    return p->dims == 2 ? AE__SMALL : 1;
}

static size_t ae__columns(const ae_param *p)
{
    return p->count / (size_t)p->shape[0];
}

static ae__small ae__small_of(const ae_model *m, const ae_param *p)
{
    ae__small s;
    s.half = m->precision == AE_FLOAT16;
    s.together = ae__together(p);
    s.scale = ae__weights(m, p);
    s.q = (char *)(ae__segment(m, AE_SEG_PARAM) + m->whole_floats)
          + p->small_at * (s.half ? 2 : 1);
    return s;
}

// The weights of a convolution as floats.
static float *ae__whole(const ae_model *m, const ae_param *p)
{
    if (!ae__is_small(m, p))
        return ae__weights(m, p);
    const ae__small s = ae__small_of(m, p);
    ae__expand(&m->exec, m->whole, &s, p->shape[0], ae__columns(p));
    return m->whole;
}

#ifndef AE_NO_TRAIN
static float *ae__gradient(const ae_model *m, const ae_tensor *t)
{
    const ae__span *passing = &t->span[AE__PASSING];
    if (passing->size)
        return ae__segment(m, AE_SEG_ACT) + m->passing_at
               + ((size_t)m->task * m->passing + passing->at) * (size_t)m->chunk;
    return ae__in_act(m, &t->span[AE__GRADIENT]) + (size_t)m->from * ae__size(t);
}

static float *ae__weight_grads(const ae_model *m, const ae_param *p)
{
    return p ? ae__segment(m, AE_SEG_GRAD) + (p->at - m->grad_at) : NULL;
}
#endif

// ---- the operations: forward and backward side by side

/* What becomes of a product besides: the activation that is joined to it (ae__joined_forward), or
   the slope of the one before it (ae__joined_backward). */
static const ae__then *ae__then_of(const ae_model *m, int slope, ae__then *then)
{
    const ae_tensor *act = m->joined;
    if (act == NULL)
        return NULL;
    then->act = act->kind;
    then->a = act->a;
    then->y = slope ? ae__value(m, act) : NULL;
    return then;
}

static ae_status ae__linear_forward(ae_model *m, const ae_tensor *t, int n)
{
    const int D = (int)ae__size(t->in[0]), O = t->c;
    float *y = ae__value(m, t), *x = ae__value(m, t->in[0]);
    float *w = ae__weights(m, t->weight), *b = ae__weights(m, t->bias);
    ae__then then;
    if (ae__is_small(m, t->weight)) {
        const ae__small s = ae__small_of(m, t->weight);
        ae__linear_small(&m->exec, y, x, &s, b, n, D, O, ae__then_of(m, 0, &then));
        return AE_SUCCESS;
    }
    AE__GPU(m, ae__cu_linear_forward(&m->exec, y, x, w, b, n, D, O); return AE_SUCCESS);
    ae__linear_then(&m->exec, y, x, w, b, n, D, O, ae__then_of(m, 0, &then));
    return AE_SUCCESS;
}

static ae_status ae__activation_forward(ae_model *m, const ae_tensor *t, int n)
{
    AE__OP(m, activation_forward, (&m->exec, ae__value(m, t), ae__value(m, t->in[0]),
                                   (ae_act)t->kind, t->a, (size_t)n * ae__size(t)));
    return AE_SUCCESS;
}

static ae_status ae__softmax_forward(ae_model *m, const ae_tensor *t, int n)
{
    AE__OP(m, softmax_forward, (&m->exec, ae__value(m, t), ae__value(m, t->in[0]), n,
                                (int)ae__size(t)));
    return AE_SUCCESS;
}

static ae_status ae__add_forward(ae_model *m, const ae_tensor *t, int n)
{
    AE__OP(m, add_forward, (&m->exec, ae__value(m, t), ae__value(m, t->in[0]),
                            ae__value(m, t->in[1]), (size_t)n * ae__size(t)));
    return AE_SUCCESS;
}

static ae_status ae__concat_forward(ae_model *m, const ae_tensor *t, int n)
{
    AE__OP(m, concat_forward, (&m->exec, ae__value(m, t), ae__value(m, t->in[0]),
                               ae__value(m, t->in[1]), n, (int)ae__size(t->in[0]),
                               (int)ae__size(t->in[1])));
    return AE_SUCCESS;
}

// Another shape is a copy, unless the plan gave both the same place.
static ae_status ae__reshape_forward(ae_model *m, const ae_tensor *t, int n)
{
    if (!t->in_place_of)
        AE__OP(m, activation_forward, (&m->exec, ae__value(m, t), ae__value(m, t->in[0]),
                                       AE_ACT_IDENTITY, 0.0f, (size_t)n * ae__size(t)));
    return AE_SUCCESS;
}

// A tensor's picture: what the layers of pictures are called with.
#define AE__CHW(t) (t)->c, (t)->h, (t)->w

static ae_status ae__conv2d_forward(ae_model *m, const ae_tensor *t, int n)
{
    AE__OP(m, conv2d_forward, (&m->exec, ae__value(m, t), ae__value(m, t->in[0]),
                               ae__whole(m, t->weight), ae__weights(m, t->bias), &t->conv, n,
                               AE__CHW(t->in[0]), t->c));
    return AE_SUCCESS;
}

static ae_status ae__conv_transpose2d_forward(ae_model *m, const ae_tensor *t, int n)
{
    AE__OP(m, conv_transpose2d_forward, (&m->exec, ae__value(m, t), ae__value(m, t->in[0]),
                                         ae__whole(m, t->weight), ae__weights(m, t->bias),
                                         &t->conv, n, AE__CHW(t->in[0]), t->c));
    return AE_SUCCESS;
}

static size_t *ae__rows(const ae_model *m)
{
    return (size_t *)ae__here(m, m->rows + m->from);
}

// The second input of these is a tensor that holds what the backward pass needs.
static int32_t *ae__index(const ae_model *m, const ae_tensor *t)
{
    return (int32_t *)(void *)ae__value(m, t->in[1]);
}

static ae_status ae__max_pool2d_forward(ae_model *m, const ae_tensor *t, int n)
{
    AE__OP(m, max_pool2d_forward, (&m->exec, ae__value(m, t), ae__index(m, t),
                                   ae__value(m, t->in[0]), &t->pool, n, AE__CHW(t->in[0])));
    return AE_SUCCESS;
}

static ae_status ae__max_unpool2d_forward(ae_model *m, const ae_tensor *t, int n)
{
    AE__OP(m, max_unpool2d_forward, (&m->exec, ae__value(m, t), ae__value(m, t->in[0]),
                                     ae__index(m, t), n, AE__CHW(t->in[0]), t->h, t->w));
    return AE_SUCCESS;
}

static ae_status ae__avg_pool2d_forward(ae_model *m, const ae_tensor *t, int n)
{
    AE__OP(m, avg_pool2d_forward, (&m->exec, ae__value(m, t), ae__value(m, t->in[0]), &t->pool, n,
                                   AE__CHW(t->in[0])));
    return AE_SUCCESS;
}

static ae_status ae__upsample2d_forward(ae_model *m, const ae_tensor *t, int n)
{
    AE__OP(m, upsample2d_forward, (&m->exec, ae__value(m, t), ae__value(m, t->in[0]),
                                   (ae_upsample_kind)t->kind, n, AE__CHW(t->in[0]), t->h, t->w));
    return AE_SUCCESS;
}

static ae_status ae__pad2d_forward(ae_model *m, const ae_tensor *t, int n)
{
    AE__OP(m, pad2d_forward, (&m->exec, ae__value(m, t), ae__value(m, t->in[0]), t->side[0],
                              t->side[1], t->side[2], t->side[3], t->a, n, AE__CHW(t->in[0])));
    return AE_SUCCESS;
}

// Mean and 1/deviation of training, behind each other.
static ae_status ae__batch_norm_forward(ae_model *m, const ae_tensor *t, int n)
{
    float *stats = ae__value(m, t->in[1]), *x = ae__value(m, t->in[0]);
    float *run_mean = ae__weights(m, t->running[0]), *run_var = ae__weights(m, t->running[1]);
    float *gamma = ae__weights(m, t->weight), *beta = ae__weights(m, t->bias);
    int pixels = t->h * t->w;
    if (!m->training)
        AE__OP(m, batch_norm_infer, (&m->exec, ae__value(m, t), run_mean, run_var, x, gamma, beta,
                                     t->eps, n, t->c, pixels));
    else if ((size_t)n * (size_t)pixels < 2)
        return ae__report(m, AE_E_SHAPE, "%s: a batch of 1 with one value a channel has no "
                          "deviation: train with batches of at least 2, the last one too", t->name);
    else
        AE__OP(m, batch_norm_forward, (&m->exec, ae__value(m, t), stats, stats + t->c, run_mean,
                                       run_var, x, gamma, beta, t->a, t->eps, n, t->c, pixels));
    return AE_SUCCESS;
}

// All samples' means, then all their 1/deviation.
static float *ae__group_stats(const ae_model *m, const ae_tensor *t, int deviation)
{
    return ae__value(m, t->in[1])
           + (ptrdiff_t)((deviation ? m->batch : 0) - m->from) * t->groups;
}

static ae_status ae__group_norm_forward(ae_model *m, const ae_tensor *t, int n)
{
    AE__OP(m, group_norm_forward, (&m->exec, ae__value(m, t), ae__group_stats(m, t, 0),
                                   ae__group_stats(m, t, 1), ae__value(m, t->in[0]),
                                   ae__weights(m, t->weight), ae__weights(m, t->bias), t->eps,
                                   t->groups, t->per_channel, n, t->c, t->h * t->w));
    return AE_SUCCESS;
}

// What a layer draws in this step, or in this pass of inference.
static ae_random ae__draw_of(const ae_model *m, const ae_tensor *t)
{
    ae_random r;
    r.seed = m->seed;
    r.stream = AE__STREAM_NOISE + (uint32_t)t->id;
    r.step = !m->training ? UINT64_MAX : m->exec.device ? AE__STEP_NOW
                                                        : ae__state_of(m)->steps + 1;
    return r;
}

/* Noise draws element by element of a sample, from where the sample stands: in the step, where one
   call does them all, or, for fixed noise, in its dataset. Off outside training unless it is meant
   for always. */
static ae_status ae__noise_forward(ae_model *m, const ae_tensor *t, int n)
{
    const size_t size = ae__size(t), count = (size_t)n * size;
    float *mask = t->has_grad && m->mode == AE_TRAIN ? ae__value(m, t->in[1]) : NULL;
    ae_random r = ae__draw_of(m, t);
    if (t->noise_fixed)
        r.step = 0;
    if (m->training || t->noise_always) {
        AE__OP(m, _noise_samples, (&m->exec, t->kind, ae__value(m, t), mask,
                                   ae__value(m, t->in[0]), t->a, t->low, t->high,
                                   (size_t)t->group, t->noise_fixed ? ae__rows(m) : NULL, size,
                                   (m->sample + (size_t)m->from) * size, r, n));
        return AE_SUCCESS;
    }
    AE__OP(m, activation_forward, (&m->exec, ae__value(m, t), ae__value(m, t->in[0]),
                                   AE_ACT_IDENTITY, 0.0f, count));
    if (mask)
        AE__OP(m, _fill, (&m->exec, mask, 1.0f, count));
    return AE_SUCCESS;
}

static ae_status ae__gaussian_sample_forward(ae_model *m, const ae_tensor *t, int n)
{
    const size_t size = ae__size(t);
    if (m->training || t->noise_always)
        AE__OP(m, gaussian_sample_forward, (&m->exec, ae__value(m, t), m->mode == AE_TRAIN
                                            ? ae__value(m, t->in[1]) : NULL,
                                            ae__value(m, t->in[0]), ae__value(m, t->in[2]),
                                            (m->sample + (size_t)m->from) * size,
                                            ae__draw_of(m, t), (size_t)n * size));
    else
        AE__OP(m, activation_forward, (&m->exec, ae__value(m, t), ae__value(m, t->in[0]),
                                       AE_ACT_IDENTITY, 0.0f, (size_t)n * size));
    return AE_SUCCESS;
}

/* Which of the labels is not a class, in a sentence. */
static ae_status ae__label_error(ae_model *m, const ae_tensor *t, const ae_tensor *labels,
                                 int classes, int n)
{
    const int32_t *label = (const int32_t *)(const void *)ae__value(m, labels);
    for (int i = 0; i < n; i++)
        if (label[i] < 0 || label[i] >= classes)
            return ae__report(m, AE_E_ARG, "%s: label %d of sample %d is not in 0 ... %d", t->name,
                              (int)label[i], m->from + i, classes - 1);
    return ae__report(m, AE_E_ARG, "%s: a label is not in 0 ... %d", t->name, classes - 1);
}

static ae_status ae__one_hot_forward(ae_model *m, const ae_tensor *t, int n)
{
    const int32_t *labels = (const int32_t *)(const void *)ae__value(m, t->in[0]);
    return AE__OP(m, one_hot_forward, (&m->exec, ae__value(m, t), labels, n, t->c))
               ? ae__label_error(m, t, t->in[0], t->c, n) : AE_SUCCESS;
}

static ae_status ae__top_k_forward(ae_model *m, const ae_tensor *t, int n)
{
    AE__OP(m, top_k_forward, (&m->exec, ae__value(m, t), m->mode == AE_TRAIN
                              ? ae__value(m, t->in[1]) : NULL, ae__value(m, t->in[0]), t->k, n,
                              (int)ae__size(t)));
    return AE_SUCCESS;
}

// In training the codebook moves after it was used.
static ae_status ae__vq_forward(ae_model *m, const ae_tensor *t, int n)
{
    const int K = t->vq.codes, P = t->h * t->w;
    const float *x = ae__value(m, t->in[0]);
    AE__OP(m, vq_forward, (&m->exec, ae__value(m, t), ae__index(m, t), x,
                           ae__weights(m, t->weight), K, n, t->c, P));
#ifndef AE_NO_TRAIN
    const float least = t->vq.restart * (float)n * (float)P / (float)K;
    if (m->training)
        AE__OP(m, vq_update, (&m->exec, ae__weights(m, t->weight), ae__weights(m, t->running[1]),
                              ae__weights(m, t->running[0]), x, ae__index(m, t), t->vq.decay, 1e-5f,
                              least, ae__draw_of(m, t), K, n, t->c, P));
#endif
    return AE_SUCCESS;
}

static ae_status ae__tied_linear_forward(ae_model *m, const ae_tensor *t, int n)
{
    const int D = (int)ae__size(t), O = (int)ae__size(t->in[0]);
    float *y = ae__value(m, t), *x = ae__value(m, t->in[0]);
    float *w = ae__weights(m, t->weight), *b = ae__weights(m, t->bias);
    ae__then then;
    AE__GPU(m, ae__cu_tied_linear_forward(&m->exec, y, x, w, b, n, D, O); return AE_SUCCESS);
    ae__tied_linear_then(&m->exec, y, x, w, b, n, D, O, ae__then_of(m, 0, &then));
    return AE_SUCCESS;
}

#ifdef AE_NO_TRAIN
#define AE__BOTH(name) ae__##name##_forward, NULL
#else
#define AE__BOTH(name) ae__##name##_forward, ae__##name##_backward

static void ae__linear_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                float *const *d)
{
    const int D = (int)ae__size(t->in[0]), O = t->c;
    float *dw = ae__weight_grads(m, t->weight), *db = ae__weight_grads(m, t->bias);
    float *x = ae__value(m, t->in[0]), *w = ae__weights(m, t->weight);
    ae__then then;
    AE__GPU(m, ae__cu_linear_backward(&m->exec, d[0], dw, db, dy, x, w, n, D, O); return);
    ae__linear_backward_then(&m->exec, d[0], dw, db, dy, x, w, n, D, O, ae__then_of(m, 1, &then),
                             m->fresh && t->alone);
}

static void ae__activation_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                    float *const *d)
{
    AE__OP(m, activation_backward, (&m->exec, d[0], dy, ae__value(m, t->in[0]), ae__value(m, t),
                                    (ae_act)t->kind, t->a, (size_t)n * ae__size(t)));
}

static void ae__softmax_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                 float *const *d)
{
    AE__OP(m, softmax_backward, (&m->exec, d[0], dy, ae__value(m, t), n, (int)ae__size(t)));
}

static void ae__add_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                             float *const *d)
{
    AE__OP(m, add_backward, (&m->exec, d[0], d[1], dy, (size_t)n * ae__size(t)));
}

static void ae__concat_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                float *const *d)
{
    AE__OP(m, concat_backward, (&m->exec, d[0], d[1], dy, n, (int)ae__size(t->in[0]),
                                (int)ae__size(t->in[1])));
}

static void ae__reshape_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                 float *const *d)
{
    AE__OP(m, add_backward, (&m->exec, d[0], NULL, dy, (size_t)n * ae__size(t)));
}

static void ae__conv2d_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                float *const *d)
{
    AE__OP(m, conv2d_backward, (&m->exec, d[0], ae__weight_grads(m, t->weight),
                                ae__weight_grads(m, t->bias), dy, ae__value(m, t->in[0]),
                                ae__weights(m, t->weight), &t->conv, n, AE__CHW(t->in[0]), t->c));
}

static void ae__conv_transpose2d_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                          float *const *d)
{
    AE__OP(m, conv_transpose2d_backward, (&m->exec, d[0], ae__weight_grads(m, t->weight),
                                          ae__weight_grads(m, t->bias), dy,
                                          ae__value(m, t->in[0]), ae__weights(m, t->weight),
                                          &t->conv, n, AE__CHW(t->in[0]), t->c));
}

static void ae__max_pool2d_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                    float *const *d)
{
    AE__GPU(m, ae__cu_max_pool2d_backward(&m->exec, d[0], dy, ae__index(m, t), n,
                                          AE__CHW(t->in[0]), t->h, t->w); return);
    if (m->joined)              // the slope at a maximum is that of the value that it became
        ae_activation_backward(&m->exec, ae__gradient(m, t), dy, ae__value(m, t), ae__value(m, t),
                               (ae_act)m->joined->kind, m->joined->a, (size_t)n * ae__size(t));
    ae__max_pool2d_grad(&m->exec, d[0], dy, ae__index(m, t), &t->pool, n, AE__CHW(t->in[0]), t->h,
                        t->w);
}

static void ae__max_unpool2d_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                      float *const *d)
{
    AE__OP(m, max_unpool2d_backward, (&m->exec, d[0], dy, ae__index(m, t), n,
                                      AE__CHW(t->in[0]), t->h, t->w));
}

static void ae__avg_pool2d_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                    float *const *d)
{
    AE__OP(m, avg_pool2d_backward, (&m->exec, d[0], dy, &t->pool, n, AE__CHW(t->in[0])));
}

static void ae__upsample2d_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                    float *const *d)
{
    AE__OP(m, upsample2d_backward, (&m->exec, d[0], dy, (ae_upsample_kind)t->kind, n,
                                    AE__CHW(t->in[0]), t->h, t->w));
}

static void ae__pad2d_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                               float *const *d)
{
    AE__OP(m, pad2d_backward, (&m->exec, d[0], dy, t->side[0], t->side[1], t->side[2], t->side[3],
                               n, AE__CHW(t->in[0])));
}

static void ae__batch_norm_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                    float *const *d)
{
    const float *stats = ae__value(m, t->in[1]);
    AE__OP(m, batch_norm_backward, (&m->exec, d[0], ae__weight_grads(m, t->weight),
                                    ae__weight_grads(m, t->bias), dy, ae__value(m, t->in[0]),
                                    stats, stats + t->c, ae__weights(m, t->weight), n, t->c,
                                    t->h * t->w));
}

static void ae__group_norm_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                    float *const *d)
{
    AE__OP(m, group_norm_backward, (&m->exec, d[0], ae__weight_grads(m, t->weight),
                                    ae__weight_grads(m, t->bias), dy, ae__value(m, t->in[0]),
                                    ae__group_stats(m, t, 0), ae__group_stats(m, t, 1),
                                    ae__weights(m, t->weight), t->groups, t->per_channel, n, t->c,
                                    t->h * t->w));
}

// Every noise multiplies with its mask.
static void ae__noise_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                               float *const *d)
{
    if (d[0])
        AE__OP(m, dropout_backward, (&m->exec, d[0], dy, ae__value(m, t->in[1]),
                                     (size_t)n * ae__size(t)));
}

static void ae__gaussian_sample_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                         float *const *d)
{
    AE__OP(m, gaussian_sample_backward, (&m->exec, d[0], d[2], dy, ae__value(m, t->in[1]),
                                         (size_t)n * ae__size(t)));
}

static void ae__one_hot_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                 float *const *d)
{
    (void)m, (void)t, (void)n, (void)dy, (void)d;       // labels have no gradient
}

static void ae__top_k_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                               float *const *d)
{
    ae__noise_backward(m, t, n, dy, d);
}

static void ae__vq_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                            float *const *d)
{
    AE__OP(m, add_backward, (&m->exec, d[0], NULL, dy, (size_t)n * ae__size(t)));
}

static void ae__tied_linear_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                     float *const *d)
{
    const int D = (int)ae__size(t), O = (int)ae__size(t->in[0]);
    float *dw = ae__weight_grads(m, t->weight), *db = ae__weight_grads(m, t->bias);
    float *x = ae__value(m, t->in[0]), *w = ae__weights(m, t->weight);
    ae__then then;
    AE__GPU(m, ae__cu_tied_linear_backward(&m->exec, d[0], dw, db, dy, x, w, n, D, O); return);
    ae__tied_linear_backward_then(&m->exec, d[0], dw, db, dy, x, w, n, D, O,
                                  ae__then_of(m, 1, &then), m->fresh && t->alone);
}

// Which value a BCE refused, in a sentence.
static ae_status ae__loss_range_error(ae_model *m, const ae_tensor *t, int n)
{
    for (int i = 1; i >= 0; i--) {
        const float *v = ae__value(m, t->in[i]);
        size_t size = ae__size(t->in[i]);
        int checked = i == 1 || t->kind == AE_LOSS_BCE;
        for (size_t j = 0; checked && j < (size_t)n * size; j++)
            if (!ae__finite(v[j]) || !(v[j] >= 0.0f && v[j] <= 1.0f))
                return ae__report(m, AE_E_ARG, "%s: %s %g (sample %z, element %z) is outside "
                                  "[0,1]: %s", t->name, i ? "target" : "prediction",
                                  (double)v[j], j / size, j % size,
                                  i ? "scale the data (pixels by 1/255)"
                                    : "put a sigmoid before it, or use ae_bce_logits");
    }
    return ae__report(m, AE_E_ARG, "%s: a value is outside [0,1]", t->name);
}

static ae_status ae__loss_forward(ae_model *m, const ae_tensor *t, int n)
{
    ae_status status = AE__OP(m, loss_forward, (&m->exec, ae__value(m, t), ae__value(m, t->in[0]),
                                                ae__value(m, t->in[1]), (ae_loss_kind)t->kind,
                                                t->a, t->reduction, n, (int)ae__size(t->in[0])));
    return status ? ae__loss_range_error(m, t, n) : AE_SUCCESS;
}

static void ae__loss_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                              float *const *d)
{
    AE__OP(m, loss_backward, (&m->exec, d[0], d[1], *dy, ae__value(m, t->in[0]),
                              ae__value(m, t->in[1]), (ae_loss_kind)t->kind, t->a, t->reduction,
                              n, (int)ae__size(t->in[0])));
}

static ae_status ae__cross_entropy_forward(ae_model *m, const ae_tensor *t, int n)
{
    const int32_t *labels = (const int32_t *)(const void *)ae__value(m, t->in[1]);
    const int classes = (int)ae__size(t->in[0]);
    return AE__OP(m, cross_entropy_forward, (&m->exec, ae__value(m, t), ae__value(m, t->in[0]),
                                             labels, t->reduction, n, classes))
               ? ae__label_error(m, t, t->in[1], classes, n) : AE_SUCCESS;
}

static void ae__cross_entropy_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                       float *const *d)
{
    const int32_t *labels = (const int32_t *)(const void *)ae__value(m, t->in[1]);
    if (d[0])
        AE__OP(m, cross_entropy_backward, (&m->exec, d[0], *dy, ae__value(m, t->in[0]), labels,
                                           t->reduction, n, (int)ae__size(t->in[0])));
}

// ---- terms of codes, and penalties: losses of one to three inputs

// Its second or third input, which may be left out.
static const float *ae__optional(const ae_model *m, const ae_tensor *t, int i)
{
    return t->in[i] ? ae__value(m, t->in[i]) : NULL;
}

static ae_status ae__kl_normal_forward(ae_model *m, const ae_tensor *t, int n)
{
    AE__OP(m, kl_normal_forward, (&m->exec, ae__value(m, t), ae__value(m, t->in[0]),
                                  ae__value(m, t->in[1]), t->a, t->reduction, n,
                                  (int)ae__size(t->in[0])));
    return AE_SUCCESS;
}

static void ae__kl_normal_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                   float *const *d)
{
    AE__OP(m, kl_normal_backward, (&m->exec, d[0], d[1], *dy, ae__value(m, t->in[0]),
                                   ae__value(m, t->in[1]), t->a, t->reduction, n,
                                   (int)ae__size(t->in[0])));
}

// in: target, mu, logvar.
static ae_status ae__nll_forward(ae_model *m, const ae_tensor *t, int n)
{
    AE__OP(m, _gaussian_nll_forward, (&m->exec, ae__value(m, t), ae__value(m, t->in[0]),
                                      ae__value(m, t->in[1]), ae__optional(m, t, 2), t->reduction,
                                      n, (int)ae__size(t->in[0])));
    return AE_SUCCESS;
}

static void ae__nll_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                             float *const *d)
{
    AE__OP(m, _gaussian_nll_backward, (&m->exec, d[0], d[1], d[2], *dy, ae__value(m, t->in[0]),
                                       ae__value(m, t->in[1]), ae__optional(m, t, 2),
                                       t->reduction, n, (int)ae__size(t->in[0])));
}

static ae_status ae__log_normal_forward(ae_model *m, const ae_tensor *t, int n)
{
    AE__OP(m, log_normal_forward, (&m->exec, ae__value(m, t), ae__value(m, t->in[0]),
                                   ae__optional(m, t, 1), ae__optional(m, t, 2), n,
                                   (int)ae__size(t->in[0])));
    return AE_SUCCESS;
}

static void ae__log_normal_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                    float *const *d)
{
    AE__OP(m, log_normal_backward, (&m->exec, d[0], d[1], d[2], dy, ae__value(m, t->in[0]),
                                    ae__optional(m, t, 1), ae__optional(m, t, 2), n,
                                    (int)ae__size(t->in[0])));
}

static ae_status ae__log_bernoulli_forward(ae_model *m, const ae_tensor *t, int n)
{
    if (AE__OP(m, log_bernoulli_forward, (&m->exec, ae__value(m, t), ae__value(m, t->in[0]),
                                          ae__value(m, t->in[1]), n, (int)ae__size(t->in[0]))))
        return ae__report(m, AE_E_ARG, "%s: a target in %s is outside [0,1]: scale the data "
                          "(pixels by 1/255)", t->name, t->in[1]->name);
    return AE_SUCCESS;
}

static void ae__log_bernoulli_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                       float *const *d)
{
    AE__OP(m, log_bernoulli_backward, (&m->exec, d[0], d[1], dy, ae__value(m, t->in[0]),
                                       ae__value(m, t->in[1]), n, (int)ae__size(t->in[0])));
}

static ae_status ae__iwae_forward(ae_model *m, const ae_tensor *t, int n)
{
    if (n % t->k)
        return ae__report(m, AE_E_ARG, "%s: %d samples are not a multiple of k, %d", t->name, n,
                          t->k);
    AE__OP(m, iwae_forward, (&m->exec, ae__value(m, t), ae__value(m, t->in[0]),
                             ae__value(m, t->in[1]), ae__value(m, t->in[2]), t->k, t->reduction,
                             n));
    return AE_SUCCESS;
}

static void ae__iwae_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                              float *const *d)
{
    for (int i = 0; i < AE__INPUTS; i++)
        if (d[i])
            AE__OP(m, iwae_backward, (&m->exec, d[i], i == 2 ? -*dy : *dy, ae__value(m, t->in[0]),
                                      ae__value(m, t->in[1]), ae__value(m, t->in[2]), t->k,
                                      t->reduction, n));
}

// in: what was quantised, and the codes it became, which get no gradient from here.
static ae_status ae__vq_loss_forward(ae_model *m, const ae_tensor *t, int n)
{
    const ae_tensor *q = t->in[1];
    AE__OP(m, vq_loss_forward, (&m->exec, ae__value(m, t), ae__value(m, t->in[0]),
                                ae__value(m, q), q->vq.beta, q->vq.gradient, t->reduction, n, q->c,
                                q->h * q->w));
    return AE_SUCCESS;
}

static void ae__vq_loss_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                 float *const *d)
{
    const ae_tensor *q = t->in[1];
    AE__OP(m, vq_loss_backward, (&m->exec, d[0], q->vq.gradient ? ae__weight_grads(m, q->weight)
                                 : NULL, *dy, ae__value(m, t->in[0]), ae__value(m, q),
                                 ae__index(m, q), q->vq.beta, t->reduction, n, q->c,
                                 q->h * q->w));
    AE__OP(m, _fill, (&m->exec, d[1], 0.0f, (size_t)n * ae__size(q)));
}

// Fresh normal numbers for each step: its second input holds them for the backward pass.
static ae_status ae__mmd_forward(ae_model *m, const ae_tensor *t, int n)
{
    const size_t size = ae__size(t->in[0]);
    float *prior = ae__value(m, t->in[1]);
    if (n < 2)
        return ae__report(m, AE_E_SHAPE, "%s: it compares samples, a batch of 1 has no pairs",
                          t->name);
    AE__OP(m, _draw_normal, (&m->exec, prior, (size_t)n * size, m->sample * size,
                             ae__draw_of(m, t)));
    AE__OP(m, mmd_forward, (&m->exec, ae__value(m, t), ae__value(m, t->in[0]), prior, n,
                            (int)size));
    return AE_SUCCESS;
}

static void ae__mmd_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                             float *const *d)
{
    AE__OP(m, mmd_backward, (&m->exec, d[0], *dy, ae__value(m, t->in[0]), ae__value(m, t->in[1]),
                             n, (int)ae__size(t->in[0])));
}

static ae_status ae__l1_penalty_forward(ae_model *m, const ae_tensor *t, int n)
{
    AE__OP(m, l1_penalty_forward, (&m->exec, ae__value(m, t), ae__value(m, t->in[0]),
                                   t->reduction, n, (int)ae__size(t->in[0])));
    return AE_SUCCESS;
}

static void ae__l1_penalty_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                    float *const *d)
{
    AE__OP(m, l1_penalty_backward, (&m->exec, d[0], *dy, ae__value(m, t->in[0]), t->reduction, n,
                                    (int)ae__size(t->in[0])));
}

static ae_status ae__kl_sparsity_forward(ae_model *m, const ae_tensor *t, int n)
{
    AE__OP(m, kl_sparsity_forward, (&m->exec, ae__value(m, t), ae__value(m, t->in[0]), t->a,
                                    t->reduction, n, (int)ae__size(t->in[0])));
    return AE_SUCCESS;
}

static void ae__kl_sparsity_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                     float *const *d)
{
    AE__OP(m, kl_sparsity_backward, (&m->exec, d[0], *dy, ae__value(m, t->in[0]), t->a,
                                     t->reduction, n, (int)ae__size(t->in[0])));
}

// in: the layer before its activation, `kind`.
static ae_status ae__contractive_forward(ae_model *m, const ae_tensor *t, int n)
{
    const ae_tensor *s = t->in[0];
    AE__OP(m, contractive_forward, (&m->exec, ae__value(m, t), ae__value(m, s),
                                    ae__weights(m, t->weight), (ae_act)t->kind, t->a, t->reduction,
                                    n, (int)ae__size(s->in[0]), s->c));
    return AE_SUCCESS;
}

static void ae__contractive_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                     float *const *d)
{
    const ae_tensor *s = t->in[0];
    AE__OP(m, contractive_backward, (&m->exec, d[0], ae__weight_grads(m, t->weight), *dy,
                                     ae__value(m, s), ae__weights(m, t->weight), (ae_act)t->kind,
                                     t->a, t->reduction, n, (int)ae__size(s->in[0]), s->c));
}

// in: h of x + a v, h of x. Squared errors, summed over the units.
static ae_status ae__contractive_estimate_forward(ae_model *m, const ae_tensor *t, int n)
{
    AE__OP(m, loss_forward, (&m->exec, ae__value(m, t), ae__value(m, t->in[0]),
                             ae__value(m, t->in[1]), AE_LOSS_MSE, 0.0f,
                             t->reduction == AE_SUM ? AE_SUM : AE_BATCH_MEAN, n,
                             (int)ae__size(t->in[0])));
    AE__OP(m, _scale, (&m->exec, ae__value(m, t), 1.0f / (t->a * t->a), 1));
    return AE_SUCCESS;
}

static void ae__contractive_estimate_backward(ae_model *m, const ae_tensor *t, int n,
                                              const float *dy, float *const *d)
{
    AE__OP(m, loss_backward, (&m->exec, d[0], d[1], *dy / (t->a * t->a), ae__value(m, t->in[0]),
                              ae__value(m, t->in[1]), AE_LOSS_MSE, 0.0f,
                              t->reduction == AE_SUM ? AE_SUM : AE_BATCH_MEAN, n,
                              (int)ae__size(t->in[0])));
}

static ae_status ae__weight_penalty_forward(ae_model *m, const ae_tensor *t, int n)
{
    (void)n;
    AE__OP(m, weight_penalty_forward, (&m->exec, ae__value(m, t), ae__weights(m, t->weight),
                                       t->kind, t->weight->count));
    return AE_SUCCESS;
}

static void ae__weight_penalty_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                        float *const *d)
{
    (void)n, (void)d;
    AE__OP(m, weight_penalty_backward, (&m->exec, ae__weight_grads(m, t->weight), *dy,
                                        ae__weights(m, t->weight), t->kind, t->weight->count));
}

static ae_status ae__orthogonal_forward(ae_model *m, const ae_tensor *t, int n)
{
    const int rows = t->weight->shape[0];
    (void)n;
    AE__OP(m, orthogonal_forward, (&m->exec, ae__value(m, t), ae__weights(m, t->weight), rows,
                                   (int)(t->weight->count / (size_t)rows)));
    return AE_SUCCESS;
}

static void ae__orthogonal_backward(ae_model *m, const ae_tensor *t, int n, const float *dy,
                                    float *const *d)
{
    const int rows = t->weight->shape[0];
    (void)n, (void)d;
    AE__OP(m, orthogonal_backward, (&m->exec, ae__weight_grads(m, t->weight), *dy,
                                    ae__weights(m, t->weight), rows,
                                    (int)(t->weight->count / (size_t)rows)));
}

static const ae__op ae__op_kl_normal = {"kl_normal", AE__BOTH(kl_normal), 0};
static const ae__op ae__op_gaussian_nll = {"gaussian_nll", AE__BOTH(nll), 0};
static const ae__op ae__op_log_normal = {"log_normal", AE__BOTH(log_normal), 0};
static const ae__op ae__op_log_bernoulli = {"log_bernoulli", AE__BOTH(log_bernoulli), 0};
static const ae__op ae__op_iwae = {"iwae", AE__BOTH(iwae), 0};
static const ae__op ae__op_vq_loss = {"vq_loss", AE__BOTH(vq_loss), 0};
static const ae__op ae__op_mmd = {"mmd", AE__BOTH(mmd), 0};
static const ae__op ae__op_l1_penalty = {"l1_penalty", AE__BOTH(l1_penalty), 0};
static const ae__op ae__op_kl_sparsity = {"kl_sparsity", AE__BOTH(kl_sparsity), 0};
static const ae__op ae__op_contractive = {"contractive", AE__BOTH(contractive), 0};
static const ae__op ae__op_contractive_estimate = {
    "contractive_estimate", AE__BOTH(contractive_estimate), 0
};
static const ae__op ae__op_weight_l1 = {"weight_l1", AE__BOTH(weight_penalty), 0};
static const ae__op ae__op_weight_l2 = {"weight_l2", AE__BOTH(weight_penalty), 0};
static const ae__op ae__op_orthogonal = {"orthogonal", AE__BOTH(orthogonal), 0};
static const ae__op ae__op_cross_entropy = {"cross_entropy", AE__BOTH(cross_entropy), 2};
static const ae__op ae__op_loss[AE_LOSS_COUNT] = {
    {"mse", AE__BOTH(loss), 0},       {"l1", AE__BOTH(loss), 0},  {"huber", AE__BOTH(loss), 0},
    {"smooth_l1", AE__BOTH(loss), 0}, {"bce", AE__BOTH(loss), 0}, {"bce_logits", AE__BOTH(loss), 0}
};
#endif

static const ae__op ae__op_input = {"input", NULL, NULL, 0};
static const ae__op ae__op_labels = {"labels", NULL, NULL, 0};
static const ae__op ae__op_linear = {"linear", AE__BOTH(linear), 0};
static const ae__op ae__op_softmax = {"softmax", AE__BOTH(softmax), 0};
static const ae__op ae__op_add = {"add", AE__BOTH(add), 0};
static const ae__op ae__op_concat = {"concat", AE__BOTH(concat), 0};
static const ae__op ae__op_reshape = {"reshape", AE__BOTH(reshape), 0};
static const ae__op ae__op_kept = {"kept", NULL, NULL, 0};
static const ae__op ae__op_gaussian_sample = {"gaussian_sample", AE__BOTH(gaussian_sample), 0};
static const ae__op ae__op_one_hot = {"one_hot", AE__BOTH(one_hot), 1};
static const ae__op ae__op_top_k = {"top_k", AE__BOTH(top_k), 0};
static const ae__op ae__op_vq = {"vq", AE__BOTH(vq), 0};
static const ae__op ae__op_tied_linear = {"tied_linear", AE__BOTH(tied_linear), 0};
static const ae__op ae__op_conv2d = {"conv2d", AE__BOTH(conv2d), 0};
static const ae__op ae__op_conv_transpose2d = {"conv_transpose2d", AE__BOTH(conv_transpose2d), 0};
static const ae__op ae__op_max_pool2d = {"max_pool2d", AE__BOTH(max_pool2d), 0};
static const ae__op ae__op_avg_pool2d = {"avg_pool2d", AE__BOTH(avg_pool2d), 0};
static const ae__op ae__op_max_unpool2d = {"max_unpool2d", AE__BOTH(max_unpool2d), 0};
static const ae__op ae__op_upsample2d = {"upsample2d", AE__BOTH(upsample2d), 0};
static const ae__op ae__op_pad2d = {"pad2d", AE__BOTH(pad2d), 0};
static const ae__op ae__op_batch_norm = {"batch_norm", AE__BOTH(batch_norm), 0};
static const ae__op ae__op_layer_norm = {"layer_norm", AE__BOTH(group_norm), 0};
static const ae__op ae__op_group_norm = {"group_norm", AE__BOTH(group_norm), 0};
static const ae__op ae__op_noise[AE__NOISES] = {
    {"dropout", AE__BOTH(noise), 0}, {"gaussian_noise", AE__BOTH(noise), 0},
    {"mask_noise", AE__BOTH(noise), 0}, {"salt_pepper", AE__BOTH(noise), 0}
};
static const ae__op ae__op_activation[AE_ACT_COUNT] = {      // in the order of ae_act
    {"identity", AE__BOTH(activation), 0},  {"relu", AE__BOTH(activation), 0},
    {"leaky_relu", AE__BOTH(activation), 0}, {"elu", AE__BOTH(activation), 0},
    {"gelu", AE__BOTH(activation), 0},      {"gelu_tanh", AE__BOTH(activation), 0},
    {"silu", AE__BOTH(activation), 0},      {"softplus", AE__BOTH(activation), 0},
    {"sigmoid", AE__BOTH(activation), 0},   {"tanh", AE__BOTH(activation), 0}
};

// ---- building the graph

AE_API ae_model *ae_model_new(ae_arena *arena, uint64_t seed)
{
    ae_model *m = (ae_model *)ae_alloc(arena, sizeof(ae_model));
    if (m == NULL)
        return NULL;
    m->arena = arena;
    m->graph = m;
    m->seed = seed;
    m->exec = ae_exec_best();
    m->own_scratch = 1;
    m->optim_states = 2;
    m->repeat = 1;
    return m;
}

static void ae__bind_scratch(ae_model *m)
{
    if (m->own_scratch)
        m->exec.scratch = m->exec.threads <= m->threads ? m->scratch : NULL;
}

AE_API ae_status ae_set_exec(ae_model *m, const ae_exec *e)
{
    ae_exec best = ae_exec_best();
    if (m == NULL)
        return AE_E_ARG;
    if (e && (e->threads < 1 || e->kernels == NULL))
        return ae__report(m, AE_E_ARG, e->kernels ? "%d threads: there must be at least 1"
                          : "an ae_exec without kernels: begin with ae_exec_best()", e->threads);
    void *device = m->exec.device;
    m->exec = e ? *e : best;
    m->exec.device = device;
    m->own_scratch = m->exec.scratch == NULL;
    ae__bind_scratch(m);
    return AE_SUCCESS;
}

AE_API ae_status ae_set_threads(ae_model *m, int threads)
{
    if (m == NULL)
        return AE_E_ARG;
    ae_exec e = m->exec;
    if (m->own_scratch || threads > e.threads)      // a caller's scratch is for his threads
        e.scratch = NULL;
    e.threads = threads;
    return ae_set_exec(m, &e);
}

// The name an operation before `end` has: its kind and its number.
static void ae__auto_name_at(const ae_model *m, const ae_tensor *end, const char *kind, char *name)
{
    int number = 1;
    for (const ae_tensor *t = m->first; t != end; t = t->next)
        number += strcmp(t->op->name, kind) == 0;
    ae__format(name, AE__NAME_MAX, "%s%d", kind, number);
}

// The name an operation will have, for errors before it exists.
static void ae__auto_name(const ae_model *m, const char *kind, char *name)
{
    ae__auto_name_at(m, NULL, kind, name);
}

// Whether x (or NULL) can be input i of an operation; else a mistake is reported.
static int ae__input_fits(ae_model *m, const ae__op *op, const char *name, const ae_tensor *x,
                          int i)
{
    if (x && x->model != m)
        ae__mistake(m, AE_E_ARG, "%s: its inputs belong to another model", name);
    else if (x && x->loss >= 0)
        ae__mistake(m, AE_E_SHAPE, "%s: %s is a loss, a loss cannot be an input", name, x->name);
    else if (x && x->op == &ae__op_labels && op->labels != i + 1)
        ae__mistake(m, AE_E_SHAPE, "%s: labels are not numbers to compute with; cross_entropy and "
                    "one_hot take them", name);
    else
        return 1;
    return 0;
}

// A tensor of shape (c,h,w) made by op from in0 and in1 (NULL where it has none).
static ae_tensor *ae__tensor(ae_model *m, const ae__op *op, ae_tensor *in0, ae_tensor *in1, int c,
                             int h, int w)
{
    char name[AE__NAME_MAX];
    if (m->broken)
        return NULL;
    if (m->built)
        return ae__mistake(m, AE_E_ARG, "%s: the model is already built", op->name);
    ae__auto_name(m, op->name, name);
    if (c < 1 || h < 1 || w < 1 || ae__sat_mul((size_t)c, ae__sat_mul((size_t)h, (size_t)w))
        > 0x7fffffff)
        return ae__mistake(m, AE_E_SHAPE, "%s: shape %dx%dx%d: each side must be at least 1 and "
                           "all together below 2^31", name, c, h, w);
    if (!ae__input_fits(m, op, name, in0, 0) || !ae__input_fits(m, op, name, in1, 1))
        return NULL;
    ae_tensor *t = (ae_tensor *)ae_alloc(m->arena, sizeof *t);
    if (t == NULL)
        return ae__mistake(m, AE_E_MEMORY, "%s: the arena is full: %z bytes are left, %z needed",
                           name, ae_arena_left(m->arena), sizeof *t);
    memcpy(t->name, name, sizeof name);
    t->model = m;
    t->op = op;
    t->in[0] = in0;
    t->in[1] = in1;
    t->c = c;
    t->h = h;
    t->w = w;
    t->id = m->tensors++;
    t->loss = -1;
    t->prev = m->last;
    if (m->last)
        m->last->next = t;
    else
        m->first = t;
    m->last = t;
    return t;
}

// Two inputs of which one is NULL: a slip that nothing reported yet, or the echo of a mistake.
static ae_model *ae__model_of(ae_tensor *a, ae_tensor *b, const char *op)
{
    if (a && b)
        return a->model;
    if (a || b)
        ae__mistake(a ? a->model : b->model, AE_E_ARG, "%s: its %s input is NULL", op,
                    a ? "second" : "first");
    return NULL;
}

AE_API ae_tensor *ae_input(ae_model *m, int c, int h, int w)
{
    ae_tensor *t = m ? ae__tensor(m, &ae__op_input, NULL, NULL, c, h, w) : NULL;
    if (t)
        t->is_input = 1;
    return t;
}

AE_API ae_tensor *ae_labels(ae_model *m)
{
    ae_tensor *t = m ? ae__tensor(m, &ae__op_labels, NULL, NULL, 1, 1, 1) : NULL;
    if (t)
        t->is_input = 1;
    return t;
}

// A parameter of `layer`, called NAME.what; rows x columns, or a vector when columns is 0.
static ae_param *ae__param(ae_tensor *layer, const char *what, int rows, int columns, int fan_in,
                           int fan_out)
{
    ae_model *m = layer->model;
    ae_param *p = (ae_param *)ae_alloc(m->arena, sizeof *p);
    if (p == NULL) {
        ae__mistake(m, AE_E_MEMORY, "%s: the arena is full: %z bytes are left, %z needed",
                    layer->name, ae_arena_left(m->arena), sizeof *p);
        return NULL;
    }
    ae__format(p->name, sizeof p->name, "%s.%s", layer->name, what);
    p->shape[0] = rows;
    p->shape[1] = columns;
    p->dims = columns ? 2 : 1;
    p->count = (size_t)rows * (size_t)(columns ? columns : 1);
    p->fan_in = fan_in;
    p->fan_out = fan_out;
    p->index = m->params++;
    if (m->last_param)
        m->last_param->next = p;
    else
        m->first_param = p;
    m->last_param = p;
    return p;
}

static ae_tensor *ae__linear(ae_tensor *x, int out, int with_bias)
{
    if (x == NULL)
        return NULL;
    size_t in = ae__size(x);
    ae_tensor *t = ae__tensor(x->model, &ae__op_linear, x, NULL, out, 1, 1);
    if (t == NULL)
        return NULL;
    if (in > 0x7fffffff / (size_t)out)
        return ae__mistake(x->model, AE_E_SHAPE, "%s: %z inputs times %d outputs are more than "
                           "2^31 weights", t->name, in, out);
    t->weight = ae__param(t, "weight", out, (int)in, (int)in, out);
    t->bias = with_bias && t->weight ? ae__param(t, "bias", out, 0, (int)in, out) : NULL;
    return t->weight && (t->bias || !with_bias) ? t : NULL;
}

AE_API ae_tensor *ae_linear(ae_tensor *x, int out)
{
    return ae__linear(x, out, 1);
}

AE_API ae_tensor *ae_linear_no_bias(ae_tensor *x, int out)
{
    return ae__linear(x, out, 0);
}

// An operation on one tensor that keeps its shape.
static ae_tensor *ae__same_shape(const ae__op *op, ae_tensor *x)
{
    return x ? ae__tensor(x->model, op, x, NULL, x->c, x->h, x->w) : NULL;
}

AE_API ae_tensor *ae_activation(ae_tensor *x, ae_act act, float a)
{
    if (x && ((int)act < 0 || act >= AE_ACT_COUNT))
        return ae__mistake(x->model, AE_E_ARG, "activation: there is no kind %d", (int)act);
    if (x && !ae__finite(a))
        return ae__mistake(x->model, AE_E_ARG, "%s: its parameter is not finite",
                           ae__op_activation[act].name);
    ae_tensor *t = x ? ae__same_shape(&ae__op_activation[act], x) : NULL;
    if (t) {
        t->kind = (int)act;
        t->a = a;
    }
    return t;
}

AE_API ae_tensor *ae_identity(ae_tensor *x)
{
    return ae_activation(x, AE_ACT_IDENTITY, 0.0f);
}

AE_API ae_tensor *ae_relu(ae_tensor *x)
{
    return ae_activation(x, AE_ACT_RELU, 0.0f);
}

AE_API ae_tensor *ae_leaky_relu(ae_tensor *x, float slope)
{
    return ae_activation(x, AE_ACT_LEAKY_RELU, slope);
}

AE_API ae_tensor *ae_elu(ae_tensor *x, float alpha)
{
    return ae_activation(x, AE_ACT_ELU, alpha);
}

AE_API ae_tensor *ae_gelu(ae_tensor *x)
{
    return ae_activation(x, AE_ACT_GELU, 0.0f);
}

AE_API ae_tensor *ae_gelu_tanh(ae_tensor *x)
{
    return ae_activation(x, AE_ACT_GELU_TANH, 0.0f);
}

AE_API ae_tensor *ae_silu(ae_tensor *x)
{
    return ae_activation(x, AE_ACT_SILU, 0.0f);
}

AE_API ae_tensor *ae_softplus(ae_tensor *x)
{
    return ae_activation(x, AE_ACT_SOFTPLUS, 0.0f);
}

AE_API ae_tensor *ae_sigmoid(ae_tensor *x)
{
    return ae_activation(x, AE_ACT_SIGMOID, 0.0f);
}

AE_API ae_tensor *ae_tanh(ae_tensor *x)
{
    return ae_activation(x, AE_ACT_TANH, 0.0f);
}

AE_API ae_tensor *ae_softmax(ae_tensor *x)
{
    return ae__same_shape(&ae__op_softmax, x);
}

AE_API ae_tensor *ae_add(ae_tensor *a, ae_tensor *b)
{
    ae_model *m = ae__model_of(a, b, "add");
    if (m == NULL)
        return NULL;
    if (a->c != b->c || a->h != b->h || a->w != b->w)
        return ae__mistake(m, AE_E_SHAPE, "add: %s is %dx%dx%d and %s is %dx%dx%d: both must have "
                           "the same shape", a->name, a->c, a->h, a->w, b->name, b->c, b->h, b->w);
    return ae__tensor(m, &ae__op_add, a, b, a->c, a->h, a->w);
}

AE_API ae_tensor *ae_concat(ae_tensor *a, ae_tensor *b)
{
    ae_model *m = ae__model_of(a, b, "concat");
    if (m == NULL)
        return NULL;
    if (a->h != b->h || a->w != b->w)
        return ae__mistake(m, AE_E_SHAPE, "concat: %s is %dx%dx%d and %s is %dx%dx%d: height and "
                           "width must be the same", a->name, a->c, a->h, a->w, b->name, b->c,
                           b->h, b->w);
    if (a->c > 0x7fffffff - b->c)
        return ae__mistake(m, AE_E_SHAPE, "concat: %d and %d channels are too many", a->c, b->c);
    return ae__tensor(m, &ae__op_concat, a, b, a->c + b->c, a->h, a->w);
}

AE_API ae_tensor *ae_reshape(ae_tensor *x, int c, int h, int w)
{
    ae_tensor *t = x ? ae__tensor(x->model, &ae__op_reshape, x, NULL, c, h, w) : NULL;
    if (t && ae__size(t) != ae__size(x))
        return ae__mistake(x->model, AE_E_SHAPE, "%s: %dx%dx%d has %z elements and %dx%dx%d has "
                           "%z", t->name, x->c, x->h, x->w, ae__size(x), c, h, w, ae__size(t));
    return t;
}

AE_API ae_tensor *ae_flatten(ae_tensor *x)
{
    return x ? ae_reshape(x, (int)ae__size(x), 1, 1) : NULL;
}

static int ae__bad_number(float x)
{
    return !ae__finite(x) || x < 0.0f;
}

// ---- pictures

static ae_tensor *ae__number_mistake(ae_tensor *x, const char *op, const char *what, int value,
                                     int least)
{
    char name[AE__NAME_MAX];
    ae__auto_name(x->model, op, name);
    return ae__mistake(x->model, AE_E_ARG, "%s: input %dx%dx%d: %s is %d, it must be at least %d",
                       name, AE__CHW(x), what, value, least);
}

// Kernel, stride and the like of one side: nonzero when one of them cannot be.
static int ae__bad_window(ae_tensor *x, const char *op, int kernel, int stride, int pad,
                          int dilation)
{
    if (kernel < 1)
        return ae__number_mistake(x, op, "the kernel", kernel, 1) == NULL;
    if (stride < 1)
        return ae__number_mistake(x, op, "the stride", stride, 1) == NULL;
    if (pad < 0)
        return ae__number_mistake(x, op, "the padding", pad, 0) == NULL;
    if (dilation < 1)
        return ae__number_mistake(x, op, "the dilation", dilation, 1) == NULL;
    return 0;
}

// Along one side: what padding lets a kernel that reaches over `reach` fit.
static int ae__padding_that_fits(double reach, int in, int pad)
{
    double lack = ceil((reach - in) / 2);
    return lack > pad && lack < 2e9 ? (int)lack : pad;
}

// The kernel reaches beyond the padded input: says so, and what would fit.
static ae_tensor *ae__too_large(ae_tensor *x, const char *op, int kh, int kw, int ph, int pw,
                                int dh, int dw)
{
    char name[AE__NAME_MAX];
    double reach_h = (double)dh * (kh - 1) + 1, reach_w = (double)dw * (kw - 1) + 1;
    int fit_h = ae__padding_that_fits(reach_h, x->h, ph);
    int fit_w = ae__padding_that_fits(reach_w, x->w, pw);
    ae__auto_name(x->model, op, name);
    int pool = strcmp(op, "conv2d") != 0;       // whose padding has limits
    if (pool && (fit_h > kh / 2 || fit_w > kw / 2 || (fit_h && dh > x->h)
                 || (fit_w && dw > x->w)))
        return ae__mistake(x->model, AE_E_SHAPE, "%s: input %dx%dx%d, kernel %dx%d reaching over "
                           "%gx%g, padding %dx%d: the kernel is larger than the padded input; a "
                           "smaller kernel or dilation would fit", name, AE__CHW(x), kh, kw,
                           reach_h, reach_w, ph, pw);
    return ae__mistake(x->model, AE_E_SHAPE, "%s: input %dx%dx%d, kernel %dx%d reaching over "
                       "%gx%g, padding %dx%d: the kernel is larger than the padded input; padding "
                       "%dx%d would fit", name, AE__CHW(x), kh, kw, reach_h, reach_w, ph, pw,
                       fit_h, fit_w);
}

// What convolution and its transpose ask of their options.
static int ae__conv_check(ae_tensor *x, const char *op, int out, const ae_conv *g)
{
    if (out < 1)
        return ae__number_mistake(x, op, "the number of output channels", out, 1) == NULL;
    if (ae__bad_window(x, op, g->kernel_h, g->stride_h, g->pad_h, g->dilation_h)
        || ae__bad_window(x, op, g->kernel_w, g->stride_w, g->pad_w, g->dilation_w))
        return 1;
    if (g->groups < 1 || x->c % g->groups || out % g->groups)
        return ae__mistake(x->model, AE_E_SHAPE, "%s of %s (%dx%dx%d): %d groups do not divide %d "
                           "input and %d output channels", op, x->name, AE__CHW(x), g->groups,
                           x->c, out) == NULL;
    return 0;
}

// Weight (a, b/groups, kh, kw) and bias of a convolution; fan_in as PyTorch counts it.
static ae_tensor *ae__conv_params(ae_tensor *t, int a, int b)
{
    const ae_conv *g = &t->conv;
    size_t window = ae__sat_mul((size_t)g->kernel_h, (size_t)g->kernel_w);
    size_t columns = ae__sat_mul((size_t)(b / g->groups), window);
    if (ae__sat_mul(columns, (size_t)a) > 0x7fffffff)
        return ae__mistake(t->model, AE_E_SHAPE, "%s: more than 2^31 weights", t->name);
    int fan_in = (int)columns, fan_out = (int)(window * (size_t)(a / g->groups));
    t->weight = ae__param(t, "weight", a, (int)columns, fan_in, fan_out);
    if (t->weight) {
        const int shape[4] = {a, b / g->groups, g->kernel_h, g->kernel_w};
        memcpy(t->weight->shape, shape, sizeof shape);
        t->weight->dims = 4;
    }
    if (t->weight && !g->no_bias)
        t->bias = ae__param(t, "bias", t->c, 0, fan_in, fan_out);
    return t->weight && (t->bias || g->no_bias) ? t : NULL;
}

AE_API ae_tensor *ae_conv2d_with(ae_tensor *x, int out, const ae_conv *o)
{
    if (x == NULL)
        return NULL;
    ae_conv g = ae_conv_defaults(o);
    if (ae__conv_check(x, "conv2d", out, &g))
        return NULL;
    int h = ae_conv_size(x->h, g.kernel_h, g.stride_h, g.pad_h, g.dilation_h);
    int w = ae_conv_size(x->w, g.kernel_w, g.stride_w, g.pad_w, g.dilation_w);
    if (h < 1 || w < 1)
        return ae__too_large(x, "conv2d", g.kernel_h, g.kernel_w, g.pad_h, g.pad_w, g.dilation_h,
                             g.dilation_w);
    ae_tensor *t = ae__tensor(x->model, &ae__op_conv2d, x, NULL, out, h, w);
    if (t == NULL)
        return NULL;
    t->conv = g;
    return ae__conv_params(t, out, x->c);
}

AE_API ae_tensor *ae_conv_transpose2d_with(ae_tensor *x, int out, const ae_conv *o)
{
    if (x == NULL)
        return NULL;
    ae_conv g = ae_conv_defaults(o);
    if (ae__conv_check(x, "conv_transpose2d", out, &g))
        return NULL;
    // PyTorch's rule: output padding below the stride or below the dilation.
    int most_h = g.stride_h > g.dilation_h ? g.stride_h : g.dilation_h;
    int most_w = g.stride_w > g.dilation_w ? g.stride_w : g.dilation_w;
    if (g.output_pad_h < 0 || g.output_pad_w < 0 || g.output_pad_h >= most_h
        || g.output_pad_w >= most_w)
        return ae__mistake(x->model, AE_E_ARG, "conv_transpose2d of %s (%dx%dx%d): output padding "
                           "%dx%d must be at least 0 and below the stride %dx%d", x->name,
                           AE__CHW(x), g.output_pad_h, g.output_pad_w, g.stride_h, g.stride_w);
    int h = ae_conv_transpose_size(x->h, g.kernel_h, g.stride_h, g.pad_h, g.dilation_h,
                                   g.output_pad_h);
    int w = ae_conv_transpose_size(x->w, g.kernel_w, g.stride_w, g.pad_w, g.dilation_w,
                                   g.output_pad_w);
    if (h < 1 || w < 1)
        return ae__mistake(x->model, AE_E_SHAPE, "conv_transpose2d of %s: input %dx%dx%d, kernel "
                           "%dx%d, padding %dx%d: nothing is left of the output; less padding "
                           "would fit", x->name, AE__CHW(x), g.kernel_h, g.kernel_w, g.pad_h,
                           g.pad_w);
    ae_tensor *t = ae__tensor(x->model, &ae__op_conv_transpose2d, x, NULL, out, h, w);
    if (t == NULL)
        return NULL;
    t->conv = g;
    return ae__conv_params(t, x->c, out);
}

// The options of the short forms, where 0 is not the default but a slip.
static int ae__square_conv(ae_tensor *x, const char *op, ae_conv *g, int kernel, int stride,
                           int pad, int output_pad)
{
    memset(g, 0, sizeof *g);
    g->kernel_h = kernel;
    g->stride_h = stride;
    g->pad_h = g->pad_w = pad;
    g->output_pad_h = g->output_pad_w = output_pad;
    return x == NULL || ae__bad_window(x, op, kernel, stride, pad, 1);
}

AE_API ae_tensor *ae_conv2d(ae_tensor *x, int out, int kernel, int stride, int pad)
{
    ae_conv g;
    return ae__square_conv(x, "conv2d", &g, kernel, stride, pad, 0) ? NULL
                                                                  : ae_conv2d_with(x, out, &g);
}

AE_API ae_tensor *ae_conv_transpose2d(ae_tensor *x, int out, int kernel, int stride, int pad,
                                      int output_pad)
{
    ae_conv g;
    return ae__square_conv(x, "conv_transpose2d", &g, kernel, stride, pad, output_pad)
         ? NULL : ae_conv_transpose2d_with(x, out, &g);
}

// A convolution of one line: weights (out,in,kernel), as PyTorch's Conv1d has them.
static ae_tensor *ae__one_line(ae_tensor *t)
{
    if (t) {
        t->kind = 1;
        t->weight->shape[2] = t->weight->shape[3];
        t->weight->dims = 3;
    }
    return t;
}

AE_API ae_tensor *ae_conv1d(ae_tensor *x, int out, int kernel, int stride, int pad)
{
    ae_conv g;
    if (x && x->h != 1)
        return ae__mistake(x->model, AE_E_SHAPE, "conv1d of %s: %dx%dx%d is %d rows high; it works "
                           "on (c,1,length)", x->name, AE__CHW(x), x->h);
    if (ae__square_conv(x, "conv1d", &g, kernel, stride, pad, 0))
        return NULL;
    g.kernel_w = kernel;
    g.stride_w = stride;
    g.kernel_h = g.stride_h = 1;
    g.pad_h = 0;
    return ae__one_line(ae_conv2d_with(x, out, &g));
}

// A tensor that keeps what the backward pass of `op` on x needs; its name tells.
static ae_tensor *ae__kept(ae_tensor *x, int c, int h, int w, int in_training_only)
{
    ae_tensor *t = ae__tensor(x->model, &ae__op_kept, NULL, NULL, c, h, w);
    if (t)
        t->kept = in_training_only ? AE__KEPT_IN_TRAINING : AE__KEPT;
    return t;
}

static ae_tensor *ae__pool(ae_tensor *x, const ae__op *op, const ae_pool *o)
{
    if (x == NULL)
        return NULL;
    ae_pool g = ae_pool_defaults(o);
    if (ae__bad_window(x, op->name, g.kernel_h, g.stride_h, g.pad_h, g.dilation_h)
        || ae__bad_window(x, op->name, g.kernel_w, g.stride_w, g.pad_w, g.dilation_w))
        return NULL;
    if (g.pad_h > g.kernel_h / 2 || g.pad_w > g.kernel_w / 2)
        return ae__mistake(x->model, AE_E_ARG, "%s of %s: padding %dx%d is more than half the "
                           "kernel %dx%d", op->name, x->name, g.pad_h, g.pad_w, g.kernel_h,
                           g.kernel_w);
    int h = ae_conv_size(x->h, g.kernel_h, g.stride_h, g.pad_h, g.dilation_h);
    int w = ae_conv_size(x->w, g.kernel_w, g.stride_w, g.pad_w, g.dilation_w);
    if (h < 1 || w < 1)
        return ae__too_large(x, op->name, g.kernel_h, g.kernel_w, g.pad_h, g.pad_w, g.dilation_h,
                             g.dilation_w);
    int max = op == &ae__op_max_pool2d;
    if (!max && (g.dilation_h > 1 || g.dilation_w > 1))
        return ae__mistake(x->model, AE_E_ARG, "%s of %s: dilation %dx%d: only max_pool2d has one",
                           op->name, x->name, g.dilation_h, g.dilation_w);
    if ((g.pad_h && g.dilation_h > x->h) || (g.pad_w && g.dilation_w > x->w))
        return ae__mistake(x->model, AE_E_SHAPE, "%s of %s (%dx%dx%d): with padding, dilation "
                           "%dx%d steps over the whole input", op->name, x->name, AE__CHW(x),
                           g.dilation_h, g.dilation_w);
    ae_tensor *index = max ? ae__kept(x, x->c, h, w, 0) : NULL;
    ae_tensor *t = index || !max ? ae__tensor(x->model, op, x, index, x->c, h, w) : NULL;
    if (t)
        t->pool = g;
    return t;
}

AE_API ae_tensor *ae_max_pool2d_with(ae_tensor *x, const ae_pool *o)
{
    return ae__pool(x, &ae__op_max_pool2d, o);
}

AE_API ae_tensor *ae_avg_pool2d_with(ae_tensor *x, const ae_pool *o)
{
    return ae__pool(x, &ae__op_avg_pool2d, o);
}

static ae_tensor *ae__square_pool(ae_tensor *x, const ae__op *op, int kernel)
{
    ae_pool g;
    memset(&g, 0, sizeof g);
    g.kernel_h = kernel;
    return ae__pool(x, op, &g);
}

AE_API ae_tensor *ae_max_pool2d(ae_tensor *x, int kernel)
{
    return ae__square_pool(x, &ae__op_max_pool2d, kernel);
}

AE_API ae_tensor *ae_avg_pool2d(ae_tensor *x, int kernel)
{
    return ae__square_pool(x, &ae__op_avg_pool2d, kernel);
}

AE_API ae_tensor *ae_global_avg_pool(ae_tensor *x)
{
    ae_pool g;
    memset(&g, 0, sizeof g);
    g.kernel_h = x ? x->h : 1;
    g.kernel_w = x ? x->w : 1;
    return ae__pool(x, &ae__op_avg_pool2d, &g);
}

AE_API ae_tensor *ae_max_unpool2d(ae_tensor *x, const ae_tensor *pool)
{
    if (x == NULL)
        return NULL;
    if (pool == NULL || pool->op != &ae__op_max_pool2d || pool->model != x->model)
        return ae__mistake(x->model, AE_E_ARG, "max_unpool2d of %s: %s is not a max_pool2d of this "
                           "model", x->name, pool ? pool->name : "NULL");
    if (x->c != pool->c || x->h != pool->h || x->w != pool->w)
        return ae__mistake(x->model, AE_E_SHAPE, "max_unpool2d of %s: %dx%dx%d, but %s gave "
                           "%dx%dx%d", x->name, AE__CHW(x), pool->name, AE__CHW(pool));
    return ae__tensor(x->model, &ae__op_max_unpool2d, x, pool->in[1], AE__CHW(pool->in[0]));
}

AE_API ae_tensor *ae_resize(ae_tensor *x, ae_upsample_kind kind, int h, int w)
{
    if (x && kind != AE_NEAREST && kind != AE_BILINEAR)
        return ae__mistake(x->model, AE_E_ARG, "upsample2d of %s: there is no kind %d", x->name,
                           (int)kind);
    ae_tensor *t = x ? ae__tensor(x->model, &ae__op_upsample2d, x, NULL, x->c, h, w) : NULL;
    if (t)
        t->kind = (int)kind;
    return t;
}

static ae_tensor *ae__upsample(ae_tensor *x, ae_upsample_kind kind, int factor)
{
    if (x == NULL)
        return NULL;
    if (factor < 1)
        return ae__number_mistake(x, "upsample2d", "the factor", factor, 1);
    if (ae__sat_mul((size_t)factor, (size_t)(x->h > x->w ? x->h : x->w)) > 0x7fffffff)
        return ae__mistake(x->model, AE_E_SHAPE, "upsample2d of %s: %d times %dx%d is too large",
                           x->name, factor, x->h, x->w);
    return ae_resize(x, kind, x->h * factor, x->w * factor);
}

AE_API ae_tensor *ae_upsample_nearest(ae_tensor *x, int factor)
{
    return ae__upsample(x, AE_NEAREST, factor);
}

AE_API ae_tensor *ae_upsample_bilinear(ae_tensor *x, int factor)
{
    return ae__upsample(x, AE_BILINEAR, factor);
}

AE_API ae_tensor *ae_pad2d(ae_tensor *x, int top, int bottom, int left, int right, float value)
{
    if (x == NULL)
        return NULL;
    double h = (double)x->h + top + bottom, w = (double)x->w + left + right;
    if (!(h >= 1 && w >= 1 && h < 1e9 && w < 1e9) || !ae__finite(value))
        return ae__mistake(x->model, AE_E_SHAPE, "pad2d of %s (%dx%dx%d) by %d, %d, %d, %d: "
                           "nothing is left, or too much", x->name, AE__CHW(x), top, bottom, left,
                           right);
    ae_tensor *t = ae__tensor(x->model, &ae__op_pad2d, x, NULL, x->c, (int)h, (int)w);
    if (t) {
        const int side[4] = {top, bottom, left, right};
        memcpy(t->side, side, sizeof side);
        t->a = value;
    }
    return t;
}

AE_API ae_tensor *ae_crop2d(ae_tensor *x, int top, int bottom, int left, int right)
{
    if (x && (top < 0 || bottom < 0 || left < 0 || right < 0))
        return ae__mistake(x->model, AE_E_ARG, "crop2d of %s by %d, %d, %d, %d: none may be "
                           "negative", x->name, top, bottom, left, right);
    return ae_pad2d(x, -top, -bottom, -left, -right, 0.0f);
}

// ---- normalisation and noise

// gamma = 1 and beta = 0, `count` each, of shape (c) or, for layer_norm, (c,h,w).
static ae_tensor *ae__affine(ae_tensor *t, int count)
{
    t->weight = ae__param(t, "weight", count, 0, 1, 1);
    t->bias = t->weight ? ae__param(t, "bias", count, 0, 1, 1) : NULL;
    if (t->bias == NULL)
        return NULL;
    if (count != t->c || t->h * t->w != 1) {        // one an element: PyTorch's normalized_shape
        const int shape[4] = {t->c, t->h, t->w, 1};
        int dims = count == t->c ? 1 : 3;
        memcpy(t->weight->shape, shape, sizeof shape);
        memcpy(t->bias->shape, shape, sizeof shape);
        t->weight->dims = t->bias->dims = dims;
    }
    ae_init_layer(t, ae_init_constant(1.0f), ae_init_constant(0.0f));
    return t;
}

// Running statistics: a parameter that no gradient changes.
static ae_param *ae__buffer(ae_tensor *t, const char *what, int count, float value)
{
    ae_param *p = ae__param(t, what, count, 0, 1, 1);
    if (p) {
        p->untrained = 1;
        p->init = ae_init_constant(value);
    }
    return p;
}

static ae_tensor *ae__norm_layer(ae_tensor *x, const ae__op *op, int groups, int per_channel,
                                 const ae_norm *o)
{
    ae_norm none;
    if (x == NULL)
        return NULL;
    memset(&none, 0, sizeof none);
    o = o ? o : &none;
    if (ae__bad_number(o->eps) || ae__bad_number(o->momentum) || o->momentum > 1.0f)
        return ae__mistake(x->model, AE_E_ARG, "%s of %s: eps %g and momentum %g must be numbers "
                           "from 0 on, momentum up to 1", op->name, x->name, (double)o->eps,
                           (double)o->momentum);
    int batch = op == &ae__op_batch_norm;
    if (x->c > 0x3fffffff)
        return ae__mistake(x->model, AE_E_SHAPE, "%s of %s: %d channels are too many", op->name,
                           x->name, x->c);
    ae_tensor *stats = ae__kept(x, 2 * (batch ? x->c : groups), 1, 1, batch);
    ae_tensor *t = stats ? ae__tensor(x->model, op, x, stats, AE__CHW(x)) : NULL;
    if (t == NULL)
        return NULL;
    t->eps = ae__or(o->eps, 1e-5f);
    t->a = ae__or(o->momentum, 0.1f);
    t->groups = groups;
    t->per_channel = per_channel;
    if (!o->no_affine && ae__affine(t, per_channel ? x->c : (int)ae__size(x)) == NULL)
        return NULL;
    if (!batch)
        return t;
    t->running[0] = ae__buffer(t, "running_mean", x->c, 0.0f);
    t->running[1] = ae__buffer(t, "running_var", x->c, 1.0f);
    return t->running[0] && t->running[1] ? t : NULL;
}

AE_API ae_tensor *ae_batch_norm(ae_tensor *x, const ae_norm *o)
{
    return ae__norm_layer(x, &ae__op_batch_norm, 1, 1, o);
}

AE_API ae_tensor *ae_layer_norm(ae_tensor *x, const ae_norm *o)
{
    return ae__norm_layer(x, &ae__op_layer_norm, 1, 0, o);
}

AE_API ae_tensor *ae_group_norm(ae_tensor *x, int groups, const ae_norm *o)
{
    if (x && (groups < 1 || x->c % groups))
        return ae__mistake(x->model, AE_E_SHAPE, "group_norm of %s: %d groups do not divide %d "
                           "channels", x->name, groups, x->c);
    return ae__norm_layer(x, &ae__op_group_norm, groups, 1, o);
}

// a: probability, or deviation of a Gaussian.
static ae_tensor *ae__noise_layer(ae_tensor *x, int kind, float a, float low, float high)
{
    const ae__op *op = &ae__op_noise[kind];
    if (x == NULL)
        return NULL;
    if (ae__bad_number(a) || (kind != AE__GAUSSIAN && a >= 1.0f))
        return ae__mistake(x->model, AE_E_ARG, "%s of %s: %g, it must be at least 0%s", op->name,
                           x->name, (double)a, kind == AE__GAUSSIAN ? "" : " and below 1");
    if (!ae__finite(low) || !ae__finite(high))
        return ae__mistake(x->model, AE_E_ARG, "%s of %s: low and high must be finite", op->name,
                           x->name);
    ae_tensor *mask = ae__kept(x, AE__CHW(x), 1);
    ae_tensor *t = mask ? ae__tensor(x->model, op, x, mask, AE__CHW(x)) : NULL;
    if (t) {
        t->kind = kind;
        t->a = a;
        t->low = low;
        t->high = high;
        t->group = 1;
    }
    return t;
}

AE_API ae_tensor *ae_dropout(ae_tensor *x, float p)
{
    return ae__noise_layer(x, AE__DROPOUT, p, 0.0f, 0.0f);
}

AE_API ae_tensor *ae_spatial_dropout(ae_tensor *x, float p)
{
    ae_tensor *t = ae_dropout(x, p);
    if (t)
        t->group = t->h * t->w;
    return t;
}

AE_API ae_tensor *ae_gaussian_noise(ae_tensor *x, float deviation, float low, float high)
{
    return ae__noise_layer(x, AE__GAUSSIAN, deviation, low, high);
}

AE_API ae_tensor *ae_mask_noise(ae_tensor *x, float p)
{
    return ae__noise_layer(x, AE__MASKING, p, 0.0f, 0.0f);
}

AE_API ae_tensor *ae_salt_pepper(ae_tensor *x, float p, float low, float high)
{
    return ae__noise_layer(x, AE__SALT_PEPPER, p, low, high);
}

AE_API ae_tensor *ae_noise_always(ae_tensor *x)
{
    if (x && x->op->forward != ae__noise_forward && x->op != &ae__op_gaussian_sample)
        return ae__mistake(x->model, AE_E_ARG, "ae_noise_always: %s is not noise", x->name);
    if (x) {
        x->noise_always = 1;
        x->model->edits++;
    }
    return x;
}

AE_API ae_tensor *ae_noise_fixed(ae_tensor *x)
{
    if (x && x->op->forward != ae__noise_forward)
        return ae__mistake(x->model, AE_E_ARG, "ae_noise_fixed: %s is not noise", x->name);
    if (x) {
        x->noise_fixed = 1;
        x->model->edits++;
    }
    return x;
}

// ---- codes, shared weights

// Whether two tensors have one shape; else a mistake is reported.
static int ae__alike(const char *op, const ae_tensor *a, const ae_tensor *b)
{
    if (a->c == b->c && a->h == b->h && a->w == b->w)
        return 1;
    ae__mistake(a->model, AE_E_SHAPE, "%s: %s is %dx%dx%d and %s is %dx%dx%d: both must have the "
                "same shape", op, a->name, AE__CHW(a), b->name, AE__CHW(b));
    return 0;
}

// t with a third input.
static ae_tensor *ae__third(ae_tensor *t, ae_tensor *x)
{
    if (t == NULL || !ae__input_fits(t->model, t->op, t->name, x, 2))
        return NULL;
    t->in[2] = x;
    return t;
}

AE_API ae_tensor *ae_gaussian_sample(ae_tensor *mu, ae_tensor *logvar)
{
    ae_model *m = ae__model_of(mu, logvar, "gaussian_sample");
    if (m == NULL || !ae__alike("gaussian_sample", mu, logvar))
        return NULL;
    ae_tensor *slope = ae__kept(mu, AE__CHW(mu), 1);
    ae_tensor *t = slope ? ae__tensor(m, &ae__op_gaussian_sample, mu, slope, AE__CHW(mu)) : NULL;
    return ae__third(t, logvar);
}

AE_API ae_tensor *ae_one_hot(ae_tensor *labels, int classes)
{
    if (labels && labels->op != &ae__op_labels)
        return ae__mistake(labels->model, AE_E_ARG, "one_hot: %s is not from ae_labels",
                           labels->name);
    return labels ? ae__tensor(labels->model, &ae__op_one_hot, labels, NULL, classes, 1, 1) : NULL;
}

AE_API ae_tensor *ae_top_k(ae_tensor *x, int k)
{
    if (x == NULL)
        return NULL;
    if (k < 1 || (size_t)k > ae__size(x))
        return ae__mistake(x->model, AE_E_ARG, "top_k of %s: %d of %z elements cannot stay",
                           x->name, k, ae__size(x));
    ae_tensor *mask = ae__kept(x, AE__CHW(x), 1);
    ae_tensor *t = mask ? ae__tensor(x->model, &ae__op_top_k, x, mask, AE__CHW(x)) : NULL;
    if (t)
        t->k = k;
    return t;
}

AE_API ae_tensor *ae_vq(ae_tensor *x, const ae_vq_options *o)
{
    ae_vq_options v;
    memset(&v, 0, sizeof v);
    if (x == NULL)
        return NULL;
    if (o)
        v = *o;
    v.codes = v.codes ? v.codes : 512;
    v.beta = ae__or(v.beta, 0.25f);
    v.decay = ae__or(v.decay, 0.99f);
    v.restart = v.restart < 0.0f ? 0.0f : ae__or(v.restart, 0.05f);
    if (v.codes < 1 || v.codes > 0x7fffffff / x->c)
        return ae__mistake(x->model, AE_E_ARG, "vq of %s: a codebook of %d codes of %d elements",
                           x->name, v.codes, x->c);
    if (ae__bad_number(v.beta) || ae__bad_number(v.decay) || v.decay >= 1.0f
        || ae__bad_number(v.restart))
        return ae__mistake(x->model, AE_E_ARG, "vq of %s: beta %g, decay %g, restart %g: they must "
                           "be numbers from 0 on, decay below 1", x->name, (double)v.beta,
                           (double)v.decay, (double)v.restart);
    ae_tensor *index = ae__kept(x, 1, x->h, x->w, 0);
    ae_tensor *t = index ? ae__tensor(x->model, &ae__op_vq, x, index, AE__CHW(x)) : NULL;
    if (t == NULL || (t->weight = ae__param(t, "weight", v.codes, x->c, x->c, v.codes)) == NULL)
        return NULL;
    t->vq = v;
    index->kept = AE__KEPT_ALWAYS;      // for ae_vq_index
    t->weight->untrained = !v.gradient;
    t->weight->init = ae_init_normal(0.0f, 1.0f);
    t->running[0] = ae__buffer(t, "count", v.codes, 0.0f);
    if (!v.gradient)
        t->running[1] = ae__buffer(t, "sum", v.codes * x->c, 0.0f);
    return t->running[0] && (v.gradient || t->running[1]) ? t : NULL;
}

// The layer that made t, or whose activation t is: the one with weights that can be shared.
static ae_tensor *ae__layer_of(ae_tensor *t, const char *call)
{
    ae_tensor *layer = t;
    while (layer && layer->op->forward == ae__activation_forward)
        layer = layer->in[0];
    if (layer && layer->op != &ae__op_linear && layer->op != &ae__op_conv2d)
        return ae__mistake(t->model, AE_E_ARG, "%s: %s is neither a linear layer nor a "
                           "convolution, nor an activation of one", call, t->name);
    return layer;
}

AE_API ae_tensor *ae_tied(ae_tensor *x, ae_tensor *layer)
{
    ae_model *m = ae__model_of(x, layer, "tied");
    ae_tensor *from = m ? ae__layer_of(layer, "tied") : NULL, *t;
    if (from == NULL)
        return NULL;
    if (from->model != m)
        return ae__mistake(m, AE_E_ARG, "tied: %s belongs to another model", layer->name);
    const ae_tensor *to = from->in[0];
    if (from->op == &ae__op_linear) {
        if (ae__size(x) != ae__size(from))
            return ae__mistake(m, AE_E_SHAPE, "tied: %s has %z elements, %s %z: the weights do not "
                               "fit", x->name, ae__size(x), from->name, ae__size(from));
        t = ae__tensor(m, &ae__op_tied_linear, x, NULL, AE__CHW(to));
    } else {
        const ae_conv *g = &from->conv;
        const int h = ae_conv_transpose_size(x->h, g->kernel_h, g->stride_h, g->pad_h,
                                             g->dilation_h, 0);
        const int w = ae_conv_transpose_size(x->w, g->kernel_w, g->stride_w, g->pad_w,
                                             g->dilation_w, 0);
        if (x->c != from->c || h > to->h || w > to->w || to->h - h >= g->stride_h
            || to->w - w >= g->stride_w)
            return ae__mistake(m, AE_E_SHAPE, "tied: %s is %dx%dx%d, but the transpose of %s takes "
                               "its shape, %dx%dx%d", x->name, AE__CHW(x), from->name,
                               AE__CHW(from));
        t = ae__tensor(m, &ae__op_conv_transpose2d, x, NULL, AE__CHW(to));
        if (t) {
            t->conv = *g;
            t->conv.output_pad_h = to->h - h;
            t->conv.output_pad_w = to->w - w;
        }
    }
    if (t == NULL)
        return NULL;
    const int outputs = from->op == &ae__op_linear ? (int)ae__size(to) : to->c;
    t->weight = from->weight;
    t->bias = ae__param(t, "bias", outputs, 0, from->weight->fan_out, from->weight->fan_in);
    return t->bias ? t : NULL;
}

// A copy of t that reads other inputs, for ae_again.
static ae_tensor *ae__copy_of(ae_tensor *t)
{
    ae_tensor *in[AE__INPUTS] = {NULL, NULL, NULL};
    int once = t->op == &ae__op_batch_norm || t->op == &ae__op_vq
               || t->op == &ae__op_gaussian_sample || t->op->forward == ae__noise_forward;
#ifndef AE_NO_TRAIN
    once |= t->op == &ae__op_vq_loss;       // it reads the numbers of the codes too
#endif
    if (once)
        return ae__mistake(t->model, AE_E_ARG, "ae_again: %s cannot be applied twice", t->name);
    for (int i = 0; i < AE__INPUTS && t->in[i]; i++) {
        ae_tensor *x = t->in[i];
        if (x->next == t && x->kept)            // its own, not the places of another's maxima
            x->copy = ae__kept(x, AE__CHW(x), x->kept == AE__KEPT_IN_TRAINING);
        in[i] = x->copy ? x->copy : x;
    }
    ae_tensor *c = ae__tensor(t->model, t->op, in[0], in[1], AE__CHW(t)), made;
    if (c == NULL)
        return NULL;
    made = *c;
    *c = *t;                    // its settings and weights, but its own place in the graph
    memcpy(c->name, made.name, sizeof c->name);
    memcpy(c->in, in, sizeof in);
    c->prev = made.prev;
    c->next = NULL;
    c->id = made.id;
    c->copy = NULL;
    c->minimized = c->monitored = 0;
    if (c->loss >= 0)
        c->loss = t->model->losses++;
    return t->copy = c;
}

AE_API ae_tensor *ae_again(ae_tensor *y, const ae_tensor *x, ae_tensor *x2)
{
    if (y == NULL || x == NULL || x2 == NULL || y->model->broken)
        return NULL;
    if (x->model != y->model || x2->model != y->model)
        return ae__mistake(y->model, AE_E_ARG, "ae_again: its tensors belong to different models");
    if (!ae__alike("ae_again", x, x2))
        return NULL;
    for (ae_tensor *t = y->model->first; t; t = t->next) {
        t->copy = t == x ? x2 : NULL;
        t->marked = t == y;
    }
    for (ae_tensor *t = y; t; t = t->prev)                      // what y needs
        for (int i = 0; i < AE__INPUTS && t->in[i] && t->marked; i++) {
            t->in[i]->marked = 1;
            if (t->in[i]->kept)         // and who fills it
                t->in[i]->next->marked = 1;
        }
    for (ae_tensor *t = x->next; t && t->id <= y->id; t = t->next)
        for (int i = 0; i < AE__INPUTS && t->in[i] && t->marked; i++)
            if (t->in[i]->copy && !t->copy && ae__copy_of(t) == NULL)
                return NULL;
    if (y != x && y->copy == NULL)
        return ae__mistake(y->model, AE_E_ARG, "ae_again: %s does not depend on %s", y->name,
                           x->name);
    return y->copy;
}

// ---- the mirror

// The mirror image of one layer: from its output's shape back to its input's.
static ae_tensor *ae__mirror_layer(ae_tensor *y, const ae_tensor *t, ae_mirror_kind kind)
{
    const ae_tensor *in = t->in[0];
    if (t->op == &ae__op_linear)
        return ae_reshape(ae__linear(y, (int)ae__size(in), t->bias != NULL), AE__CHW(in));
    if (t->op == &ae__op_reshape)
        return ae_reshape(y, AE__CHW(in));
    if (t->op == &ae__op_max_pool2d || t->op == &ae__op_avg_pool2d)
        return ae_resize(y, AE_NEAREST, in->h, in->w);
    if (t->op == &ae__op_upsample2d)
        return ae_resize(y, (ae_upsample_kind)t->kind, in->h, in->w);
    ae_conv g = t->conv;
    if (kind == AE_MIRROR_UPSAMPLE) {       // a convolution that keeps the size, of odd height
        g.kernel_h |= 1;
        g.kernel_w |= 1;
        g.stride_h = g.stride_w = 1;
        g.pad_h = g.dilation_h * (g.kernel_h - 1) / 2;
        g.pad_w = g.dilation_w * (g.kernel_w - 1) / 2;
        if (in->h != t->h || in->w != t->w)
            y = ae_resize(y, AE_NEAREST, in->h, in->w);
        return ae_conv2d_with(y, in->c, &g);
    }
    // What the encoder's division by the stride dropped.
    g.output_pad_h = (in->h + 2 * g.pad_h - g.dilation_h * (g.kernel_h - 1) - 1) % g.stride_h;
    g.output_pad_w = (in->w + 2 * g.pad_w - g.dilation_w * (g.kernel_w - 1) - 1) % g.stride_w;
    return ae_conv_transpose2d_with(y, in->c, &g);
}

static int ae__has_layer(const ae_tensor *t)
{
    return t->op == &ae__op_linear || t->op == &ae__op_conv2d;
}

static int ae__changes_shape(const ae_tensor *t)
{
    return ae__has_layer(t) || t->op == &ae__op_reshape || t->op == &ae__op_max_pool2d
        || t->op == &ae__op_avg_pool2d || t->op == &ae__op_upsample2d;
}

// One operation that keeps the shape, again on y; noise is left out.
static ae_tensor *ae__again(ae_tensor *y, const ae_tensor *t)
{
    ae_norm norm = {t->eps, t->a, t->weight == NULL};
    if (t->op == &ae__op_batch_norm)
        return ae_batch_norm(y, &norm);
    if (t->op == &ae__op_layer_norm)
        return ae_layer_norm(y, &norm);
    if (t->op == &ae__op_group_norm)
        return ae_group_norm(y, t->groups, &norm);
    if (t->op == &ae__op_softmax)
        return ae_softmax(y);
    return t->op->forward == ae__activation_forward ? ae_activation(y, (ae_act)t->kind, t->a) : y;
}

// All that keeps the shape between `first` and `end`, in the encoder's order.
static ae_tensor *ae__mirror_tail(ae_tensor *y, const ae_tensor *first, const ae_tensor *end)
{
    for (const ae_tensor *t = first; t != end && y;) {
        const ae_tensor *next = end;        // the one in the chain that reads t
        while (next->in[0] != t)
            next = next->in[0];
        if (!ae__changes_shape(next))
            y = ae__again(y, next);
        t = next;
    }
    return y;
}

// The layer with weights that stands before t in the chain from x, or x.
static const ae_tensor *ae__layer_before(const ae_tensor *t, const ae_tensor *x)
{
    do
        t = t->in[0];
    while (t != x && !ae__has_layer(t));
    return t;
}

AE_API ae_tensor *ae_mirror(ae_tensor *code, const ae_tensor *x, ae_mirror_kind kind)
{
    ae_tensor *y = code;
    if (code == NULL)
        return NULL;
    if (kind != AE_MIRROR_TRANSPOSE && kind != AE_MIRROR_UPSAMPLE)
        return ae__mistake(code->model, AE_E_ARG, "ae_mirror: there is no kind %d", (int)kind);
    for (const ae_tensor *t = code; t != x; t = t->in[0]) {
        int noise = t->op->forward == ae__noise_forward || t->op == &ae__op_gaussian_sample
                 || t->op == &ae__op_vq || t->op == &ae__op_top_k;
        int norm = t->op == &ae__op_batch_norm || t->op == &ae__op_layer_norm
                || t->op == &ae__op_group_norm;
        if (t->in[0] == NULL)
            return ae__mistake(code->model, AE_E_ARG, "ae_mirror: %s does not come from %s",
                               code->name, x ? x->name : "NULL");
        if (!(ae__changes_shape(t) || noise || norm || t->op == &ae__op_softmax
              || t->op->forward == ae__activation_forward))
            return ae__mistake(code->model, AE_E_ARG, "ae_mirror: %s has no mirror image; a chain "
                               "of linear, conv2d, pooling, upsampling, reshape, normalisation, "
                               "activation, noise and codes has", t->name);
    }
    // What stood between a layer and the one before it follows the layer's mirror image: when
    // flattening is undone, so that channels are channels, and before the poolings grow again.
    const ae_tensor *layer = NULL;      // mirrored, but not yet what stood before it
    for (const ae_tensor *t = code; t != x && y; t = t->in[0]) {
        if (!ae__changes_shape(t))
            continue;
        y = ae__mirror_layer(y, t, kind);
        layer = ae__has_layer(t) ? t : layer;
        const ae_tensor *change = t->in[0];
        while (change != x && !ae__changes_shape(change))
            change = change->in[0];
        if (layer && change != x && change->op != &ae__op_reshape) {
            const ae_tensor *before = ae__layer_before(layer, x);
            if (before != x)                // nothing behind the last layer
                y = ae__mirror_tail(y, before, layer->in[0]);
            layer = NULL;
        }
    }
    return y;
}

#ifndef AE_NO_TRAIN
static ae_tensor *ae__loss_tensor(ae_model *m, const ae__op *op, ae_tensor *a, ae_tensor *b,
                                  ae_reduction reduction)
{
    if ((int)reduction < AE_MEAN || reduction > AE_SUM)
        return ae__mistake(m, AE_E_ARG, "%s: there is no reduction %d", op->name, (int)reduction);
    ae_tensor *loss = ae__tensor(m, op, a, b, 1, 1, 1);
    if (loss) {
        loss->reduction = reduction;
        loss->loss = m->losses++;
    }
    return loss;
}

static ae_tensor *ae__loss(const ae__op *op, ae_tensor *y, ae_tensor *t, ae_reduction reduction)
{
    ae_model *m = ae__model_of(y, t, op->name);
    if (m == NULL)
        return NULL;
    return ae__loss_tensor(m, op, y, t, reduction);
}

// The picture of y differs from t's, but only by what a transposed convolution could have added.
static ae_tensor *ae__size_mistake(const ae__op *op, ae_tensor *y, ae_tensor *t)
{
    const ae_tensor *u = y;
    while (u->in[0] && u->op != &ae__op_conv_transpose2d && ae__size(u) == ae__size(u->in[0]))
        u = u->in[0];
    int dh = t->h - y->h, dw = t->w - y->w;
    if (u->op == &ae__op_conv_transpose2d && t->c == y->c && dh >= 0 && dw >= 0
        && u->conv.output_pad_h + dh < u->conv.stride_h
        && u->conv.output_pad_w + dw < u->conv.stride_w)
        return ae__mistake(y->model, AE_E_SHAPE, "%s: the prediction %s is %dx%dx%d and the target "
                           "%s is %dx%dx%d: output padding %dx%d in %s would fit", op->name,
                           y->name, AE__CHW(y), t->name, AE__CHW(t), u->conv.output_pad_h + dh,
                           u->conv.output_pad_w + dw, u->name);
    return ae__mistake(y->model, AE_E_SHAPE, "%s: the prediction %s is %dx%dx%d and the target %s "
                       "is %dx%dx%d: they need the same number of elements", op->name, y->name,
                       AE__CHW(y), t->name, AE__CHW(t));
}

static ae_tensor *ae__elementwise_loss(ae_loss_kind kind, ae_tensor *y, ae_tensor *t, float a,
                                       ae_reduction reduction)
{
    const ae__op *op = &ae__op_loss[kind];
    if (y && t && t->op != &ae__op_labels && ae__size(y) != ae__size(t))
        return ae__size_mistake(op, y, t);
    if (y && (kind == AE_LOSS_HUBER || kind == AE_LOSS_SMOOTH_L1)
        && (!ae__finite(a) || !(a > 0.0f)))
        return ae__mistake(y->model, AE_E_ARG, "%s: %s is %g, it must be above 0", op->name,
                           kind == AE_LOSS_HUBER ? "delta" : "beta", (double)a);
    ae_tensor *loss = ae__loss(op, y, t, reduction);
    if (loss) {
        loss->kind = (int)kind;
        loss->a = a;
    }
    return loss;
}

AE_API ae_tensor *ae_mse(ae_tensor *y, ae_tensor *t, ae_reduction reduction)
{
    return ae__elementwise_loss(AE_LOSS_MSE, y, t, 0.0f, reduction);
}

AE_API ae_tensor *ae_l1(ae_tensor *y, ae_tensor *t, ae_reduction reduction)
{
    return ae__elementwise_loss(AE_LOSS_L1, y, t, 0.0f, reduction);
}

AE_API ae_tensor *ae_huber(ae_tensor *y, ae_tensor *t, float delta, ae_reduction reduction)
{
    return ae__elementwise_loss(AE_LOSS_HUBER, y, t, delta, reduction);
}

AE_API ae_tensor *ae_smooth_l1(ae_tensor *y, ae_tensor *t, float beta, ae_reduction reduction)
{
    return ae__elementwise_loss(AE_LOSS_SMOOTH_L1, y, t, beta, reduction);
}

AE_API ae_tensor *ae_bce(ae_tensor *y, ae_tensor *t, ae_reduction reduction)
{
    return ae__elementwise_loss(AE_LOSS_BCE, y, t, 0.0f, reduction);
}

AE_API ae_tensor *ae_bce_logits(ae_tensor *y, ae_tensor *t, ae_reduction reduction)
{
    return ae__elementwise_loss(AE_LOSS_BCE_LOGITS, y, t, 0.0f, reduction);
}

AE_API ae_tensor *ae_cross_entropy(ae_tensor *x, ae_tensor *labels, ae_reduction reduction)
{
    if (x && labels && labels->op != &ae__op_labels)
        return ae__mistake(x->model, AE_E_ARG, "cross_entropy: %s is not from ae_labels",
                           labels->name);
    return ae__loss(&ae__op_cross_entropy, x, labels, reduction);
}

// A loss of one tensor, or of two of one shape; the others may be NULL.
static ae_tensor *ae__term(const ae__op *op, ae_tensor *a, ae_tensor *b, ae_tensor *c,
                           ae_reduction reduction)
{
    if (a == NULL || (b && !ae__alike(op->name, a, b)) || (c && !ae__alike(op->name, a, c)))
        return NULL;
    return ae__third(ae__loss_tensor(a->model, op, a, b, reduction), c);
}

static ae_tensor *ae__negative(const ae__op *op, const ae_tensor *x, const char *what, float value)
{
    return ae__mistake(x->model, AE_E_ARG, "%s of %s: %s %g must be a number from 0 on", op->name,
                       x->name, what, (double)value);
}

AE_API ae_tensor *ae_kl_normal(ae_tensor *mu, ae_tensor *logvar, float free_nats,
                               ae_reduction reduction)
{
    if (mu && ae__bad_number(free_nats))
        return ae__negative(&ae__op_kl_normal, mu, "free_nats", free_nats);
    ae_tensor *t = ae__model_of(mu, logvar, "kl_normal")
                   ? ae__term(&ae__op_kl_normal, mu, logvar, NULL, reduction) : NULL;
    if (t)
        t->a = free_nats;
    return t;
}

AE_API ae_tensor *ae_gaussian_nll(ae_tensor *mu, ae_tensor *logvar, ae_tensor *t,
                                  ae_reduction reduction)
{
    if (mu && t && t->op != &ae__op_labels && ae__size(mu) != ae__size(t))
        return ae__size_mistake(&ae__op_gaussian_nll, mu, t);
    if (mu && logvar && !ae__alike("gaussian_nll", mu, logvar))
        return NULL;
    return ae__third(ae__loss(&ae__op_gaussian_nll, t, mu, reduction), logvar);
}

// One number a sample.
static ae_tensor *ae__log_density(const ae__op *op, ae_tensor *a, ae_tensor *b, ae_tensor *c)
{
    if (a == NULL || (b && !ae__alike(op->name, a, b)) || (c && !ae__alike(op->name, a, c)))
        return NULL;
    return ae__third(ae__tensor(a->model, op, a, b, 1, 1, 1), c);
}

AE_API ae_tensor *ae_log_normal(ae_tensor *z, ae_tensor *mu, ae_tensor *logvar)
{
    if (z && logvar && !mu)
        return ae__mistake(z->model, AE_E_ARG, "log_normal: a logvar needs a mu");
    return ae__log_density(&ae__op_log_normal, z, mu, logvar);
}

AE_API ae_tensor *ae_log_bernoulli(ae_tensor *logits, ae_tensor *t)
{
    if (logits && t && t->op != &ae__op_labels && ae__size(logits) != ae__size(t))
        return ae__size_mistake(&ae__op_log_bernoulli, logits, t);
    ae_model *m = ae__model_of(logits, t, "log_bernoulli");
    return m ? ae__tensor(m, &ae__op_log_bernoulli, logits, t, 1, 1, 1) : NULL;
}

AE_API ae_tensor *ae_iwae(ae_tensor *log_px, ae_tensor *log_pz, ae_tensor *log_qz, int k,
                          ae_reduction reduction)
{
    ae_model *m = ae__model_of(log_px, log_pz, "iwae");
    if (m == NULL || ae__model_of(log_pz, log_qz, "iwae") == NULL)
        return NULL;
    if (ae__size(log_px) != 1 || ae__size(log_pz) != 1 || ae__size(log_qz) != 1)
        return ae__mistake(m, AE_E_SHAPE, "iwae: %s, %s and %s must be one number a sample each",
                           log_px->name, log_pz->name, log_qz->name);
    if (k < 1 || (m->repeat != 1 && m->repeat != k))
        return ae__mistake(m, AE_E_ARG, k < 1 ? "iwae: k is %d, it must be at least 1"
                           : "iwae: k is %d, another one has %d", k, m->repeat);
    ae_tensor *t = ae__term(&ae__op_iwae, log_px, log_pz, log_qz, reduction);
    if (t)
        t->k = m->repeat = k;
    return t;
}

AE_API ae_tensor *ae_vq_loss(ae_tensor *q, ae_reduction reduction)
{
    if (q && q->op != &ae__op_vq)
        return ae__mistake(q->model, AE_E_ARG, "vq_loss: %s is not from ae_vq", q->name);
    return q ? ae__term(&ae__op_vq_loss, q->in[0], q, NULL, reduction) : NULL;
}

AE_API ae_tensor *ae_mmd(ae_tensor *z)
{
    ae_tensor *prior = z ? ae__kept(z, AE__CHW(z), 0) : NULL;
    return prior ? ae__loss_tensor(z->model, &ae__op_mmd, z, prior, AE_BATCH_MEAN) : NULL;
}

AE_API ae_tensor *ae_l1_penalty(ae_tensor *x, ae_reduction reduction)
{
    return ae__term(&ae__op_l1_penalty, x, NULL, NULL, reduction);
}

AE_API ae_tensor *ae_kl_sparsity(ae_tensor *x, float rho, ae_reduction reduction)
{
    if (x && (ae__bad_number(rho) || rho > 1.0f))
        return ae__mistake(x->model, AE_E_ARG, "kl_sparsity of %s: rho %g must be in [0,1]",
                           x->name, (double)rho);
    ae_tensor *t = ae__term(&ae__op_kl_sparsity, x, NULL, NULL, reduction);
    if (t)
        t->a = rho;
    return t;
}

static ae_tensor *ae__contractive(ae_tensor *layer, int act, float a, ae_reduction reduction)
{
    ae_tensor *t = ae__term(&ae__op_contractive, layer, NULL, NULL, reduction);
    if (t) {
        t->weight = layer->weight;
        t->kind = act;
        t->a = a;
    }
    return t;
}

AE_API ae_tensor *ae_contractive(ae_tensor *h, ae_reduction reduction)
{
    ae_tensor *layer = ae__layer_of(h, "contractive");
    if (layer == NULL)
        return NULL;
    if (layer->op != &ae__op_linear || (h != layer && h->in[0] != layer))
        return ae__mistake(h->model, AE_E_ARG, "contractive: %s is more than a linear layer and "
                           "its activation: take ae_contractive_estimate", h->name);
    return ae__contractive(layer, h == layer ? AE_ACT_IDENTITY : h->kind, h->a, reduction);
}

// beside: h of x + step v.
static ae_tensor *ae__estimate(ae_tensor *beside, ae_tensor *h, float step, ae_reduction reduction)
{
    ae_tensor *t = ae__term(&ae__op_contractive_estimate, beside, h, NULL, reduction);
    if (t)
        t->a = step;
    return t;
}

AE_API ae_tensor *ae_contractive_estimate(ae_tensor *h, ae_tensor *x, float step,
                                          ae_reduction reduction)
{
    if (h == NULL || x == NULL)
        return NULL;
    if (ae__bad_number(step))
        return ae__negative(&ae__op_contractive_estimate, h, "step", step);
    step = ae__or(step, 0.01f);
    ae_tensor *beside = ae_noise_always(ae_gaussian_noise(x, step, 0.0f, 0.0f));
    return ae__estimate(ae_again(h, x, beside), h, step, reduction);
}

// A term of a layer's weights alone.
static ae_tensor *ae__weight_term(const ae__op *op, ae_tensor *layer, int kind)
{
    ae_tensor *from = ae__layer_of(layer, op->name);
    ae_tensor *t = from ? ae__loss_tensor(from->model, op, NULL, NULL, AE_BATCH_MEAN) : NULL;
    if (t) {
        t->weight = from->weight;
        t->kind = kind;
    }
    return t;
}

AE_API ae_tensor *ae_weight_l1(ae_tensor *layer)
{
    return ae__weight_term(&ae__op_weight_l1, layer, 0);
}

AE_API ae_tensor *ae_weight_l2(ae_tensor *layer)
{
    return ae__weight_term(&ae__op_weight_l2, layer, 1);
}

AE_API ae_tensor *ae_orthogonal(ae_tensor *layer)
{
    return ae__weight_term(&ae__op_orthogonal, layer, 0);
}

AE_API ae_tensor *ae_limit_norm(ae_tensor *layer, float limit)
{
    ae_tensor *from = ae__layer_of(layer, "ae_limit_norm");
    if (from && (ae__bad_number(limit) || limit == 0.0f))
        return ae__mistake(from->model, AE_E_ARG, "ae_limit_norm of %s: %g must be above 0",
                           from->name, (double)limit);
    if (from) {
        from->weight->max_norm = limit;
        from->model->edits++;
    }
    return from ? layer : NULL;
}

// A loss that may still be given to ae_minimize or ae_monitor.
static int ae__open_loss(ae_tensor *t, const char *call)
{
    if (t == NULL)
        return 0;
    if (t->loss < 0)
        ae__mistake(t->model, AE_E_ARG, "%s: %s is not a loss", call, t->name);
    else if (t->model->built)
        ae__mistake(t->model, AE_E_ARG, "%s: the model is already built", call);
    return t->loss >= 0 && !t->model->built;
}

AE_API void ae_minimize_weighted(ae_tensor *loss, float weight)
{
    int again = loss && loss->minimized;
    if (!again && !ae__open_loss(loss, "ae_minimize"))
        return;
    if (!ae__finite(weight)) {
        ae__mistake(loss->model, AE_E_ARG, "ae_minimize: the weight of %s is not finite",
                    loss->name);
        return;
    }
    loss->minimized = 1;
    loss->term_weight = weight;
}

AE_API void ae_minimize(ae_tensor *loss)
{
    ae_minimize_weighted(loss, 1.0f);
}

AE_API void ae_warm_up(ae_tensor *loss, float epochs)
{
    if (loss && (!loss->minimized || ae__bad_number(epochs)))
        ae__mistake(loss->model, AE_E_ARG, loss->minimized ? "ae_warm_up of %s: %g epochs"
                    : "ae_warm_up: %s is not minimised", loss->name, (double)epochs);
    else if (loss)
        loss->warm_up = epochs;
}

AE_API void ae_monitor(ae_tensor *loss)
{
    if (ae__open_loss(loss, "ae_monitor"))
        loss->monitored = 1;
}
#endif

// Renames a parameter that carries its layer's name.
static void ae__rename(ae_param *p, const ae_tensor *x, const char *name)
{
    char what[AE__NAME_MAX];        // "weight", ...
    size_t length = strlen(x->name);
    if (p == NULL || strncmp(p->name, x->name, length) != 0 || p->name[length] != '.')
        return;
    ae__format(what, sizeof what, "%s", p->name + length + 1);
    ae__format(p->name, sizeof p->name, "%s.%s", name, what);
}

AE_API ae_tensor *ae_name(ae_tensor *x, const char *name)
{
    if (x == NULL || name == NULL)
        return x;
    size_t length = strlen(name), graphic = 0;
    while (name[graphic] > ' ' && name[graphic] <= '~')
        graphic++;
    if (length == 0 || graphic < length)
        return ae__mistake(x->model, AE_E_ARG, "ae_name of %s: a name is made of printable ASCII "
                           "without blanks", x->name);
    if (length > 50)
        return ae__mistake(x->model, AE_E_ARG, "ae_name: %s: a name has at most 50 characters",
                           name);
    ae__rename(x->weight, x, name);
    ae__rename(x->bias, x, name);
    ae__rename(x->running[0], x, name);
    ae__rename(x->running[1], x, name);
    ae__format(x->name, sizeof x->name, "%s", name);
    return x;
}

AE_API ae_tensor *ae_init_layer(ae_tensor *x, ae_init weight, ae_init bias)
{
    if (x && x->weight)
        x->weight->init = weight;
    if (x && x->bias)
        x->bias->init = bias;
    return x;
}

static int ae__is_product(const ae_tensor *t)
{
    return t->op == &ae__op_linear || t->op == &ae__op_tied_linear;
}

static int ae__is_conv(const ae_tensor *t)
{
    return t->op == &ae__op_conv2d || t->op == &ae__op_conv_transpose2d;
}

AE_API void ae_init_all(ae_model *m, ae_init weight, ae_init bias)
{
    for (ae_tensor *t = m ? m->first : NULL; t; t = t->next)
        if (ae__is_product(t) || ae__is_conv(t))
            ae_init_layer(t, weight, bias);
}

AE_API void ae_shape(const ae_tensor *t, int *c, int *h, int *w)
{
    *c = t ? t->c : 0;
    *h = t ? t->h : 0;
    *w = t ? t->w : 0;
}

AE_API size_t ae_size(const ae_tensor *t)
{
    return t ? ae__size(t) : 0;
}

// ---- planning

/* What a batch of pictures makes at a layer is larger than the second-level cache. Where several
   layers in a row work sample by sample, as most do, all of them are therefore run on some samples,
   then on the next, while what one hands to the other is still in the cache. In training each
   thread takes chunks of its own through all of the run; gradients of weights are then added up in
   up to AE__RUN_PARTS sums, if the run's weights have no more than AE__RUN_FLOATS. Chunks and sums
   follow from the plan alone, so that the result does not depend on the threads. */
#define AE__CHUNK_BYTES ((size_t)5 << 18)
#define AE__RUN_PARTS 16
#define AE__RUN_FLOATS 65536

// Whether t is an activation in place of the product right before it, which can be joined to that.
static int ae__ends_product(const ae_tensor *t)
{
    return t->in_place_of && t->in_place_of == t->prev && ae__is_product(t->prev)
           && t->op->forward == ae__activation_forward;
}

static int ae__by_sample(const ae_tensor *t)
{
    return t->loss < 0 && !ae__is_product(t) && !ae__ends_product(t)
           && t->op != &ae__op_batch_norm && t->op != &ae__op_vq;
}

// Floats a sample that the gradients within the run of t need.
static size_t ae__run_passing(const ae_tensor *t)
{
    size_t most = 0;
    for (const ae_tensor *u = t->run_first; u != t->run_last->next; u = u->next) {
        const ae__span *s = &u->span[AE__PASSING];
        most = most < s->at + s->size ? s->at + s->size : most;
    }
    return most;
}

/* How many samples of a batch are a chunk for the run that t is in: all if it is t alone. There are
   2, 4, 8 ... chunks, which threads share fairly. */
static int ae__run_chunk(const ae_tensor *t, int batch)
{
    size_t floats = 1 + ae__run_passing(t), chunks = 1;
    if (t->run_first == t->run_last)
        return batch;
    for (const ae_tensor *u = t->run_first; u != t->run_last->next; u = u->next)
        if (!u->replaced_by)
            floats += ae__size(u);
    const size_t most = AE__CHUNK_BYTES / sizeof(float) / floats, last = (size_t)batch - 1;
    while (last / chunks > 0 && last / chunks >= most)
        chunks *= 2;
    return (int)(last / chunks) + 1;
}

// The parameters of the run that t is in: those from float `at` of PARAM on, so many floats.
static size_t ae__run_params(const ae_tensor *t, size_t *at)
{
    size_t end = 0;
    *at = SIZE_MAX;
    for (const ae_tensor *u = t->run_first; u != t->run_last->next; u = u->next)
        for (int i = 0; i < 2; i++) {
            const ae_param *p = i ? u->bias : u->weight;
            *at = p && p->at < *at ? p->at : *at;
            end = p && end < p->at + p->count ? p->at + p->count : end;
        }
    *at = end ? *at : 0;
    return ae__round_up(end - *at, AE_ALIGN / sizeof(float));
}

// How many parts of its chunks tasks may take in the backward pass.
static int ae__run_parts(const ae_tensor *t, int chunks)
{
    size_t at, floats = ae__run_params(t, &at);
    return floats > AE__RUN_FLOATS ? 1 : ae__least(chunks, AE__RUN_PARTS);
}

/* Whether t may be computed where its input lies: it is the only one to read it, and neither t's
   backward pass nor its input's needs what is written over. */
static int ae__in_place(const ae_tensor *t)
{
    const ae_tensor *x = t->in[0];
    if (x == NULL || x->uses > 1 || x->is_input || x->loss >= 0)
        return 0;
    if (t->op == &ae__op_reshape)
        return 1;
    if (t->op->forward != ae__activation_forward)
        return 0;
    int same_sign = (t->kind == AE_ACT_LEAKY_RELU || t->kind == AE_ACT_ELU) && t->a >= 0.0f;
    if (!same_sign && t->kind != AE_ACT_IDENTITY && t->kind != AE_ACT_RELU
        && t->kind != AE_ACT_SIGMOID && t->kind != AE_ACT_TANH)
        return 0;               // act'(x) does not follow from act(x)
    while (x->op == &ae__op_reshape && x->in_place_of)
        x = x->in_place_of;
    return x->op->forward != ae__activation_forward && x->op != &ae__op_softmax;
}

// Whether t is the only one to read its parameters.
static int ae__has_alone(const ae_model *m, const ae_tensor *t)
{
    for (const ae_tensor *u = m->first; u; u = u->next)
        if (u != t && ((u->weight && (u->weight == t->weight || u->weight == t->bias))
                       || (u->bias && (u->bias == t->weight || u->bias == t->bias))))
            return 0;
    return 1;
}

/* Who reads what, which tensors get a gradient, and which take their input's place. */
static void ae__analyse(ae_model *m)
{
    for (ae_tensor *t = m->first; t; t = t->next) {
        t->has_grad = t->weight != NULL;
        t->last_use = t->last_loss_use = t;
        t->towards_loss = t->minimized;
        t->uses = t->loss_uses = 0;
        t->in_place_of = t->replaced_by = NULL;
        for (int i = 0; i < AE__INPUTS && t->in[i]; i++) {
            t->has_grad |= t->in[i]->has_grad;
            t->in[i]->last_use = t;
            t->in[i]->uses++;
        }
    }
    for (ae_tensor *t = m->first; t; t = t->next)
        if (ae__in_place(t)) {
            t->in_place_of = t->in[0];
            t->in[0]->replaced_by = t;
        }
    for (ae_tensor *t = m->first; t; t = t->next)
        t->run_first = t->prev && ae__by_sample(t->prev) && ae__by_sample(t) ? t->prev->run_first
                                                                             : t;
    for (ae_tensor *t = m->last; t; t = t->prev)
        t->run_last = t->next && t->next->run_first == t->run_first ? t->next->run_last : t;
    for (ae_tensor *t = m->last; t; t = t->prev)
        for (int i = 0; i < AE__INPUTS && t->in[i] && t->towards_loss; i++) {
            ae_tensor *in = t->in[i];
            in->towards_loss = 1;
            in->loss_uses++;
            if (in->last_loss_use->id < t->id)
                in->last_loss_use = t;
        }
    for (ae_tensor *t = m->first; t; t = t->next)
        t->alone = t->towards_loss && ae__is_product(t) && ae__has_alone(m, t);
}

// First fit: the lowest place that no span in use at the same time touches.
static void ae__place(ae_model *m, ae_tensor *t, int which)
{
    ae__span *s = &t->span[which];
    int moved = 1;
    s->at = 0;
    while (moved) {
        moved = 0;
        for (const ae_tensor *u = m->first; u; u = u->next) {
            const ae__span *o = &u->span[which];
            if (u != t && o->size && o->from <= s->to && s->from <= o->to
                && s->at < o->at + o->size && o->at < s->at + s->size) {
                s->at = o->at + o->size;
                moved = 1;
            }
        }
    }
}

/* A span of t that is in use from tensor `from` to tensor `to`. If one run of chunks hands it to
   another, all of it is there as long as either runs. */
static void ae__span_of(ae_model *m, ae_tensor *t, int which, const ae_tensor *from,
                        const ae_tensor *to)
{
    int runs = from->run_first != to->run_first;
    t->span[which].from = runs ? from->run_first->id : from->id;
    t->span[which].to = runs ? to->run_last->id : to->id;
    t->span[which].size = ae__round_up(ae__size(t), AE_ALIGN / sizeof(float));
    ae__place(m, t, which);
}

// Floats per sample that the spans of one kind need together.
static size_t ae__spans_end(const ae_model *m, int which)
{
    size_t end = 0;
    for (const ae_tensor *t = m->first; t; t = t->next)
        if (end < t->span[which].at + t->span[which].size)
            end = t->span[which].at + t->span[which].size;
    return end;
}

/* Where ae_fork_small puts parameters: what stays floats, the scales among it, then what shrinks.
   Weights that anything else reads stay floats. */
static void ae__place_small(ae_model *m)
{
    for (int others = 0; others < 2; others++)
        for (const ae_tensor *t = m->first; t; t = t->next)
            if (t->weight && others == !(t->op == &ae__op_linear || ae__is_conv(t)))
                t->weight->shrinks = !others;
    m->whole_floats = m->small_count = 0;
    for (ae_param *p = m->first_param; p; p = p->next) {
        p->whole_at = m->whole_floats;
        p->small_at = m->small_count;
        m->whole_floats = ae__sat_add(p->whole_at, ae__round_up(
            p->shrinks ? (size_t)p->shape[0] : p->count, AE_ALIGN / sizeof(float)));
        if (p->shrinks)
            m->small_count = ae__sat_add(p->small_at, ae__small_count(
                p->shape[0], ae__columns(p), ae__together(p)));
    }
}

/* Places parameters, values and gradients (behind the values). In training all values stay, for
   the backward pass and for who reads them; a gradient lives from the backward of its last reader
   to that of its own tensor. In inference a value lives until its last reader ran, inputs for
   ever. Losses live in STATE. Tensors that replace one another share one span. */
static void ae__place_all(ae_model *m)
{
    ae__analyse(m);
    for (ae_tensor *t = m->first; t; t = t->next)
        memset(t->span, 0, sizeof t->span);
    for (ae_tensor *t = m->first; t; t = t->next) {
        const ae_tensor *last = t;
        while (last->replaced_by)
            last = last->replaced_by;
        if (t->in_place_of) {
            t->span[AE__TRAIN_VALUE] = t->in_place_of->span[AE__TRAIN_VALUE];
            t->span[AE__INFER_VALUE] = t->in_place_of->span[AE__INFER_VALUE];
        } else if (t->loss < 0) {
            ae__span_of(m, t, AE__TRAIN_VALUE, m->first, m->last);
            if (t->is_input || t->kept == AE__KEPT_ALWAYS)
                ae__span_of(m, t, AE__INFER_VALUE, m->first, m->last);
            else if (last->uses == 0)       // a result: all samples of it
                ae__span_of(m, t, AE__INFER_VALUE, t->run_first, t->run_last);
            else if (t->kept != AE__KEPT_IN_TRAINING)
                ae__span_of(m, t, AE__INFER_VALUE, t, last->last_use);
        }
    }
    for (ae_tensor *t = m->last; t; t = t->prev) {
        const ae_tensor *first = t;
        while (first->in_place_of)
            first = first->in_place_of;
        if (t->replaced_by)
            for (int s = AE__GRADIENT; s <= AE__PASSING; s++)
                t->span[s] = t->replaced_by->span[s];
        else if (t->loss < 0 && t->has_grad && t->towards_loss)
            ae__span_of(m, t, first->run_first == t->last_loss_use->run_first ? AE__PASSING
                        : AE__GRADIENT, first, t->last_loss_use);
    }
    size_t values = ae__spans_end(m, AE__TRAIN_VALUE);
    for (ae_tensor *t = m->first; t; t = t->next)
        if (t->span[AE__GRADIENT].size)
            t->span[AE__GRADIENT].at += values;     // tensor by tensor: each has its copy
    m->param_floats = 0;
    for (int untrained = 0; untrained < 2; untrained++) {
        for (ae_param *p = m->first_param; p; p = p->next)
            if (p->untrained == untrained) {
                p->at = m->param_floats;
                m->param_floats = ae__sat_add(p->at, ae__round_up(p->count,
                                                                  AE_ALIGN / sizeof(float)));
            }
        if (!untrained)
            m->trained_floats = m->param_floats;
    }
    ae__place_small(m);
}

typedef struct ae__plan {
    size_t bytes[AE_SEG_COUNT];
    size_t passing;                     // of ACT
    size_t scratch, whole, part, parts, sums, rows, statistics, flags, context;     // of WORK
    size_t total;
    int threads;                        // that have room
} ae__plan;

// What the runs of a model need, whose backward passes come one after the other.
static void ae__plan_runs(const ae_model *m, ae__plan *p, int batch)
{
    size_t passing = 0, sums = 0, at;
#ifdef AE_USE_CUDA              // a GPU takes all samples at once
    passing = ae__sat_mul(ae__spans_end(m, AE__PASSING), (size_t)batch);
#endif
    for (const ae_tensor *t = m->first; t; t = t->run_last->next) {
        const int chunk = ae__run_chunk(t, batch);
        const int parts = ae__run_parts(t, (batch - 1) / chunk + 1);
        const size_t added = (size_t)(parts - 1) * ae__run_params(t, &at);
        const size_t samples = (size_t)ae__least(parts, p->threads) * (size_t)chunk;
        const size_t floats = ae__sat_mul(ae__run_passing(t), samples);
        sums = sums < added ? added : sums;
        passing = passing < floats ? floats : passing;
    }
    p->sums = ae__round_up(sums * sizeof(float), AE_ALIGN);
    p->bytes[AE_SEG_ACT] = ae__sat_add(p->passing, ae__sat_mul(passing, sizeof(float)));
}

/* Sizes of all segments of a placed model. A fork shares PARAM, unless its weights are small. */
static ae__plan ae__plan_of(const ae_model *m, int batch, ae_mode mode, int fork,
                            ae_precision precision)
{
    ae__plan p;
    size_t n = (size_t)batch, floats, part = 0, whole = 0;
    int convolutions = 0;
    memset(&p, 0, sizeof p);
    if (!fork && precision == AE_FLOAT32)
        p.bytes[AE_SEG_PARAM] = ae__sat_mul(m->param_floats, sizeof(float));
    else if (!fork)
        p.bytes[AE_SEG_PARAM] = ae__sat_add(ae__sat_mul(m->whole_floats, sizeof(float)),
                                            ae__sat_mul(m->small_count,
                                                        precision == AE_FLOAT16 ? 2 : 1));
    if (mode == AE_TRAIN) {
        p.bytes[AE_SEG_GRAD] = ae__sat_mul(m->trained_floats, sizeof(float));
        p.bytes[AE_SEG_OPT] = ae__sat_mul(p.bytes[AE_SEG_GRAD], (size_t)m->optim_states);
    }
    p.bytes[AE_SEG_STATE] = ae__round_up(sizeof(ae__state) + (size_t)m->losses
                                         * (3 * sizeof(double) + sizeof(float)), AE_ALIGN);
    floats = ae__spans_end(m, mode == AE_TRAIN ? AE__TRAIN_VALUE : AE__INFER_VALUE);
    if (mode == AE_TRAIN && floats < ae__spans_end(m, AE__GRADIENT))
        floats = ae__spans_end(m, AE__GRADIENT);
    p.passing = ae__sat_mul(ae__sat_mul(floats, n), sizeof(float));
    p.threads = m->exec.threads;
    p.bytes[AE_SEG_ACT] = p.passing;
    if (mode == AE_TRAIN)
        ae__plan_runs(m, &p, batch);

    for (const ae_tensor *t = m->first; t; t = t->next) {
        if (t->loss_uses > 1 && t->has_grad)
            for (int s = AE__GRADIENT; s <= AE__PASSING; s++)
                part = part < t->span[s].size ? t->span[s].size : part;
        convolutions |= ae__is_conv(t);
        if (precision != AE_FLOAT32 && ae__is_conv(t) && t->weight->shrinks
            && whole < t->weight->count)
            whole = t->weight->count;
    }
    p.whole = ae__round_up(ae__sat_mul(whole, sizeof(float)), AE_ALIGN);
    if (convolutions)           // matrix products do with the stack
        p.scratch = ae__sat_mul(AE_SCRATCH * sizeof(float), (size_t)p.threads);
    p.part = part;
    p.parts = mode == AE_TRAIN ? ae__sat_mul(ae__sat_mul(part, n), sizeof(float)) : 0;
    p.flags = ae__round_up(2 * (size_t)m->tensors, AE_ALIGN);
    p.rows = ae__round_up(ae__sat_mul(n, sizeof(size_t)), AE_ALIGN);
    p.statistics = mode == AE_TRAIN ? (m->param_floats - m->trained_floats) * sizeof(float) : 0;
#ifdef AE_USE_CUDA
    p.context = fork ? 0 : ae__round_up(ae__cu_context_bytes(m->losses), AE_ALIGN);
#endif
    p.bytes[AE_SEG_WORK] = ae__sat_add(ae__sat_add(ae__sat_add(p.scratch, p.sums),
                                                   ae__sat_add(p.whole + p.context,
                                                               ae__sat_mul(AE__INPUTS, p.parts))),
                                       ae__sat_add(p.rows, p.statistics + p.flags));
    for (int s = 0; s < AE_SEG_COUNT; s++)
        p.total = ae__sat_add(p.total, p.bytes[s]);
    return p;
}

// Gives a plan's memory its addresses; block NULL: nothing is kept.
static void ae__divide(ae_model *m, const ae__plan *p, unsigned char *block)
{
    for (int s = 0; s < AE_SEG_COUNT; s++) {
        m->bytes[s] = p->bytes[s];
        m->segment[s] = block;
        block += p->bytes[s];
    }
    unsigned char *work = m->segment[AE_SEG_WORK] + p->scratch;
    m->scratch = p->scratch ? (float *)(void *)m->segment[AE_SEG_WORK] : NULL;
    m->whole = (float *)(void *)work;
    work += p->whole;
    for (int i = 0; i < AE__INPUTS; i++, work += p->parts)
        m->parts[i] = (float *)(void *)work;
    m->sums = (float *)(void *)work;
    work += p->sums;
    m->rows = (size_t *)(void *)work;
    m->statistics = (float *)(void *)(work + p->rows);
    m->needed = work + p->rows + p->statistics;
    m->replaced = m->needed + m->tensors;
    m->part = p->part;
    m->passing_at = p->passing / sizeof(float);
    m->context = p->context ? m->needed + p->flags : NULL;
}

/* A listener to the plan's entries that also finds the first one beyond a limit. */
typedef struct ae__listing {
    void (*each)(void *user, const ae_plan_entry *entry);
    void *user;
    const ae__plan *plan;
    size_t limit;               // bytes available
    char name[AE__NAME_MAX + 16], beyond[AE__NAME_MAX + 16];
} ae__listing;

static void ae__list(ae__listing *l, const char *name, const char *more, ae_segment segment,
                     size_t offset, size_t bytes)
{
    ae_plan_entry entry;
    size_t start = offset;
    if (bytes == 0)
        return;
    ae__format(l->name, sizeof l->name, "%s%s", name, more);
    for (int s = 0; s < (int)segment; s++)
        start = ae__sat_add(start, l->plan->bytes[s]);
    if (ae__sat_add(start, bytes) > l->limit && l->beyond[0] == 0)
        memcpy(l->beyond, l->name, sizeof l->beyond);
    entry.name = l->name;
    entry.segment = segment;
    entry.offset = offset;
    entry.bytes = bytes;
    if (l->each)
        l->each(l->user, &entry);
}

// Every entry of the plan, in the order of the segments.
static void ae__list_all(ae_model *m, const ae__plan *p, int batch, ae_mode mode, ae__listing *l)
{
    int value = mode == AE_TRAIN ? AE__TRAIN_VALUE : AE__INFER_VALUE;
    size_t unit = ae__sat_mul((size_t)batch, sizeof(float));
    l->plan = p;
    for (int grad = 0; grad <= (mode == AE_TRAIN); grad++)
        for (const ae_param *q = m->first_param; q && p->bytes[AE_SEG_PARAM]; q = q->next)
            if (!grad || !q->untrained)
                ae__list(l, q->name, grad ? " gradient" : "", grad ? AE_SEG_GRAD : AE_SEG_PARAM,
                         ae__sat_mul(q->at, sizeof(float)),
                         ae__sat_mul(q->count, sizeof(float)));
    ae__list(l, "optimiser state", "", AE_SEG_OPT, 0, p->bytes[AE_SEG_OPT]);
    ae__list(l, "counters", "", AE_SEG_STATE, 0, p->bytes[AE_SEG_STATE]);
    for (const ae_tensor *t = m->first; t; t = t->next) {
        const ae__span *v = &t->span[value], *g = &t->span[AE__GRADIENT];
        const ae__span *c = &t->span[AE__PASSING];
        ae__list(l, t->name, "", AE_SEG_ACT, ae__sat_mul(v->at, unit), ae__sat_mul(v->size, unit));
        if (mode == AE_TRAIN) {
            const size_t samples = (size_t)ae__run_chunk(t, batch) * sizeof(float);
            ae__list(l, t->name, " gradient", AE_SEG_ACT, ae__sat_mul(g->at, unit),
                     ae__sat_mul(g->size, unit));
            ae__list(l, t->name, " gradient", AE_SEG_ACT, ae__sat_add(p->passing, ae__sat_mul(
                     c->at, samples)), ae__sat_mul(c->size, samples));
        }
    }
    ae__list(l, "scratch", "", AE_SEG_WORK, 0, p->bytes[AE_SEG_WORK]);
}

static ae_status ae__plan_check(ae_model *m, int batch, ae_mode mode)
{
    if (m == NULL)
        return AE_E_ARG;
    if (m->broken)
        return m->status;
    m->status = AE_SUCCESS;
    if (m->first == NULL)
        return ae__report(m, AE_E_ARG, "the model is empty: begin with ae_input");
    if (batch < 1)
        return ae__report(m, AE_E_ARG, "batch %d: it must be at least 1", batch);
    if (batch % m->repeat)
        return ae__report(m, AE_E_ARG, "batch %d is not a multiple of iwae's k, %d", batch,
                          m->repeat);
#ifdef AE_NO_TRAIN
    if (mode == AE_TRAIN)
        return ae__report(m, AE_E_ARG, "AE_TRAIN: this program was compiled with AE_NO_TRAIN");
#endif
    if (mode != AE_TRAIN && mode != AE_INFER)
        return ae__report(m, AE_E_ARG, "there is no mode %d", (int)mode);
    return AE_SUCCESS;
}

AE_API size_t ae_plan_each(ae_model *m, int batch, ae_mode mode,
                           void (*each)(void *user, const ae_plan_entry *entry), void *user)
{
    ae__listing l;
    if (ae__plan_check(m, batch, mode))
        return 0;
    memset(&l, 0, sizeof l);
    l.each = each;
    l.user = user;
    l.limit = SIZE_MAX;
    if (!m->built)
        ae__place_all(m);
    ae__plan p = ae__plan_of(m, batch, mode, 0, AE_FLOAT32);
    if (each)
        ae__list_all(m, &p, batch, mode, &l);
    return p.total;
}

AE_API size_t ae_plan(ae_model *m, int batch, ae_mode mode)
{
    return ae_plan_each(m, batch, mode, NULL, NULL);
}

AE_API void ae_reserve_optim(ae_model *m, int states)
{
    if (m && states >= 0 && states <= 2 && !m->built)
        m->optim_states = states;
    else if (m)
        ae__mistake(m, AE_E_ARG, "ae_reserve_optim: %d states: 0 to 2, before ae_build", states);
}

static const char *ae__mode_name(ae_mode mode)
{
    return mode == AE_TRAIN ? "training" : "inference";
}

// Without a dataset a sample's noise goes by its place in the call.
static void ae__place_samples(ae_model *m, size_t first, size_t n)
{
    m->sample = first;
    AE__GPU(m, ae__cu_place_samples(m, first, n); return);
    for (size_t i = 0; i < n; i++)
        m->rows[i] = first + i;
}

AE_API ae_status ae_set_device(ae_model *m, ae_device_kind kind)
{
    if (m == NULL)
        return AE_E_ARG;
    if (m->built || (int)kind < 0 || kind > AE_DEVICE_CUDA)
        return ae__report(m, AE_E_ARG, m->built ? "ae_set_device: the model is already built"
                          : "ae_set_device: there is no device %d", (int)kind);
    m->device = kind;
    return AE_SUCCESS;
}

AE_API const char *ae_device(const ae_model *m)
{
    return m && m->built ? m->place : "";
}

AE_API ae_status ae_sync(ae_model *m)
{
    ae_status status = ae__begin(m, 1);
    AE__GPU(m, if (status == AE_SUCCESS) return ae__cu_sync(m));
    return status;
}

AE_API ae_status ae_build(ae_model *m, int batch, ae_mode mode)
{
    ae_status status = ae__plan_check(m, batch, mode);
    if (status)
        return status;
    if (m->built)
        return ae__report(m, AE_E_ARG, "ae_build: the model is already built");
#ifndef AE_USE_CUDA
    if (m->device == AE_DEVICE_CUDA)
        return ae__report(m, AE_E_DEVICE, "ae_build: CUDA was asked for, but this program was "
                          "compiled without AE_USE_CUDA");
#endif
    ae__place_all(m);
    ae__plan p = ae__plan_of(m, batch, mode, 0, AE_FLOAT32);
    unsigned char *block = (unsigned char *)ae_alloc(m->arena, p.total);
    if (block == NULL) {
        ae__listing l;
        memset(&l, 0, sizeof l);
        l.limit = ae_arena_left(m->arena);
        ae__list_all(m, &p, batch, mode, &l);
        return ae__report(m, AE_E_MEMORY, "arena too small: batch %d in %s needs %z bytes, %z are "
                          "left; %s does not fit", batch, ae__mode_name(mode), p.total, l.limit,
                          l.beyond);
    }
    ae__divide(m, &p, block);
    m->built = 1;
    m->batch = batch;
    m->mode = mode;
    m->threads = p.threads;
    ae__bind_scratch(m);
    ae__place_samples(m, 0, (size_t)batch);
    for (ae_param *q = m->first_param; q; q = q->next) {
        ae_random r;
        r.seed = m->seed;
        r.step = 0;
        r.stream = (uint32_t)q->index + 1;
        ae_init_fill(ae__weights(m, q), q->count, q->init, q->fan_in, q->fan_out, r);
    }
    m->place = "cpu";
#ifdef AE_USE_CUDA
    status = ae__cu_open_model(m);
    if (status) {
        m->built = 0;
        ae_arena_rewind(m->arena, (size_t)(block - m->arena->base));
    }
#endif
    return status;
}

/* A fork that shares m's parameters, or (shares 0) has room for its own. `call` is what errors
   name. */
static ae_model *ae__fork(const ae_model *m, ae_arena *arena, int batch, int shares,
                          ae_precision precision, const char *call)
{
    if (m == NULL || !m->built || batch < 1) {
        ae__fail(arena, AE_E_ARG, m && m->built ? "%s: batch %d: it must be at least 1"
                                                : "%s: the model is not built", call, batch);
        return NULL;
    }
    AE__GPU(m, ae__cu_fetch(m));            // its parameters, as they are now
    size_t mark = ae_arena_used(arena), left = ae_arena_left(arena);
    ae_model *f = (ae_model *)ae_alloc(arena, sizeof *f);
    unsigned char *block = NULL;
    ae__plan p;
    memset(&p, 0, sizeof p);
    if (f) {
        *f = *m;
        f->exec.threads = 1;
        f->exec.device = NULL;
        f->shift = 0;
        f->place = "cpu";
        f->own_scratch = 1;
        p = ae__plan_of(f, batch, AE_INFER, shares, precision);
        block = (unsigned char *)ae_alloc(arena, p.total);
    }
    if (block == NULL) {
        ae__fail(arena, AE_E_MEMORY, "%s: batch %d needs %z bytes, %z are left", call, batch,
                 ae__sat_add(p.total, sizeof *f), left);
        ae_arena_rewind(arena, mark);
        return NULL;
    }
    ae__divide(f, &p, block);
    if (shares) {
        f->segment[AE_SEG_PARAM] = m->segment[AE_SEG_PARAM];
        f->bytes[AE_SEG_PARAM] = m->bytes[AE_SEG_PARAM];
    }
    f->precision = precision;
    f->arena = arena;
    f->mode = AE_INFER;
    f->batch = batch;
    f->threads = p.threads;
    f->status = AE_SUCCESS;
    f->forward_n = 0;
    ae__bind_scratch(f);
    ae__place_samples(f, 0, (size_t)batch);
    return f;
}

AE_API ae_model *ae_fork(const ae_model *m, ae_arena *arena, int batch)
{
    return ae__fork(m, arena, batch, 1, m ? m->precision : AE_FLOAT32, "ae_fork");
}

// A parameter that cannot be shrunk, or NULL.
static const ae_param *ae__not_finite_param(const ae_model *m)
{
    for (const ae_param *p = m->first_param; p; p = p->next)
        if (p->shrinks && ae__first_not_finite((const float *)ae__on_host(m, ae__weights(m, p)),
                                               p->count) < p->count)
            return p;
    return NULL;
}

AE_API ae_model *ae_fork_small(const ae_model *m, ae_arena *arena, int batch,
                               ae_precision precision, double *lost)
{
    const int kind = (int)precision, there = m && m->built && batch >= 1;
    if (there)
        AE__GPU(m, ae__cu_fetch(m));
    const ae_param *bad = there && !m->precision ? ae__not_finite_param(m) : NULL;
    double change[2] = {0.0, 0.0};
    if (kind < 0 || kind > AE_INT8) {
        ae__fail(arena, AE_E_ARG, "ae_fork_small: there is no precision %d", kind);
        return NULL;
    }
    if (there && m->precision) {
        ae__fail(arena, AE_E_ARG, "ae_fork_small: the weights are small already: fork the model "
                 "that they come from");
        return NULL;
    }
    if (bad && precision != AE_FLOAT32) {
        ae__fail(arena, AE_E_NUMERIC, "ae_fork_small: a value of %s is not finite", bad->name);
        return NULL;
    }
    ae_model *f = ae__fork(m, arena, batch, 0, precision, "ae_fork_small");
    for (const ae_param *p = f ? f->first_param : NULL; p; p = p->next)
        if (ae__is_small(f, p)) {
            const ae__small s = ae__small_of(f, p);
            ae__shrink(&s, (const float *)ae__on_host(m, ae__weights(m, p)), p->shape[0],
                       ae__columns(p), change);
        } else
            memcpy(ae__weights(f, p), ae__on_host(m, ae__weights(m, p)),
                   p->count * sizeof(float));
    if (f && lost)
        *lost = change[1] > 0.0 ? sqrt(change[0] / change[1]) : 0.0;
    return f;
}

// ---- running

// Marks what `t` needs, without looking behind `given`.
static void ae__need(ae_model *m, const ae_tensor *t, const ae_tensor *given)
{
    m->needed[t->id] = 1;
    for (; t; t = t->prev)
        for (int i = 0; i < AE__INPUTS && m->needed[t->id] && t != given && t->in[i]; i++) {
            m->needed[t->in[i]->id] = 1;
            if (t->in[i]->kept)         // the operation after it fills it
                m->needed[t->in[i]->id + 1] = 1;
        }
}

static ae_status ae__compute_tensor(ae_model *m, const ae_tensor *t, int n)
{
    return m->needed[t->id] && t->op->forward ? t->op->forward(m, t, n) : AE_SUCCESS;
}

// That t has its values, and its input no more if these lie there.
static void ae__mark_computed(ae_model *m, const ae_tensor *t)
{
    if (m->needed[t->id] && t->op->forward) {
        m->replaced[t->id] = 0;
        if (t->in_place_of)
            m->replaced[t->in_place_of->id] = 1;
    }
}

/* A run on its way, forward or backward. Each of its tasks takes neighbouring chunks through all of
   its layers, on a copy of the model that has its own place in the batch, scratch and gradients,
   and no threads. One task alone is the model itself, with all its threads. */
typedef struct ae__run {
    ae_model *m;
#ifdef AE_NO_TRAIN
    ae_model copy[1];           // in inference there is one task
#else
    ae_model copy[AE__RUN_PARTS];
#endif
    const ae_tensor *first, *last;
    int n, chunk, chunks, parts, tasks;
    size_t params, params_at;   // backward: see ae__run_params
    float dloss;
    ae_status status[AE__RUN_PARTS];
} ae__run;

// n samples of the run of t.
static void ae__run_of(ae__run *r, ae_model *m, const ae_tensor *t, int n)
{
    r->m = m;
    r->first = t->run_first;
    r->last = t->run_last;
    r->n = n;
    r->chunk = m->chunk = m->exec.device ? m->batch : ae__run_chunk(t, m->batch);
    m->passing = ae__run_passing(t);
    r->chunks = (n - 1) / r->chunk + 1;
}

static ae_model *ae__run_task(ae__run *r, int task)
{
    return r->tasks > 1 ? &r->copy[task] : r->m;
}

// Where the i-th of n shares begins.
static int ae__run_share(int of, int i, int n)
{
    return (int)((int64_t)of * i / n);
}

// The first chunk of a part.
static int ae__run_begin(const ae__run *r, int part)
{
    return ae__run_share(r->chunks, part, r->parts);
}

// parts: neighbouring chunks, at most AE__RUN_PARTS, of which a task takes neighbours.
static void ae__run_parallel(ae__run *r, int parts, ae_job *job)
{
    ae_model *m = r->m;
    r->parts = parts;
    r->tasks = ae__least(parts, ae__least(m->exec.threads, m->threads));
    if (r->tasks < AE__RUN_PARTS && m->exec.threads >= 4 * r->tasks)
        r->tasks = 1;           // most threads would be idle
    for (int i = 0; i < r->tasks && r->tasks > 1; i++) {
        ae_model *c = &r->copy[i];
        const int chunk = ae__run_begin(r, ae__run_share(r->parts, i, r->tasks));
        *c = *m;
        c->task = i;
        c->exec.threads = 1;
        if (m->exec.scratch)
            c->exec.scratch = m->exec.scratch + (size_t)i * AE_SCRATCH;
        for (int j = 0; j < AE__INPUTS; j++)
            c->parts[j] += (size_t)chunk * (size_t)r->chunk * m->part;
    }
    ae__parallel(&m->exec, r->tasks, job, r);
}

// Moves m to a chunk and returns its samples.
static int ae__run_to(const ae__run *r, ae_model *m, int chunk)
{
    m->from = chunk * r->chunk;
    return ae__least(r->chunk, r->n - m->from);
}

static void ae__run_forward_job(void *arg, int task)
{
    ae__run *r = (ae__run *)arg;
    ae_model *m = ae__run_task(r, task);
    ae_status status = AE_SUCCESS;
    const int end = ae__run_begin(r, ae__run_share(r->parts, task + 1, r->tasks));
    int i = ae__run_begin(r, ae__run_share(r->parts, task, r->tasks));
    for (; i < end && !status; i++) {
        const int count = ae__run_to(r, m, i);
        for (const ae_tensor *t = r->first; t != r->last->next && !status; t = t->next)
            status = ae__compute_tensor(m, t, count);
    }
    m->from = 0;
    r->status[task] = status;
}

// The error of the first chunk that fails is that of the call.
static ae_status ae__run_forward(ae_model *m, const ae_tensor *t, int n)
{
    ae__run r;
    ae__run_of(&r, m, t, n);
    // in inference values share bytes, those of other samples too
    ae__run_parallel(&r, m->mode == AE_TRAIN ? ae__least(r.chunks, AE__RUN_PARTS) : 1,
                     ae__run_forward_job);
    for (int i = 0; i < r.tasks; i++)
        if (r.status[i]) {
            const ae_model *failed = ae__run_task(&r, i);
            m->status = failed->status;
            memmove(m->error, failed->error, sizeof m->error);
            return r.status[i];
        }
    return AE_SUCCESS;
}

/* A GPU joins more, in its own way, and a CBLAS has threads that activations do not get. */
#ifdef AE_USE_CBLAS
#define AE__JOINS(m) ((m)->exec.device == NULL && (m)->exec.threads == 1)
#else
#define AE__JOINS(m) ((m)->exec.device == NULL)
#endif

// The activation after product t that t's forward pass does as well, or NULL.
static const ae_tensor *ae__joined_forward(const ae_model *m, const ae_tensor *t)
{
    const ae_tensor *act = t->next;
    return act && ae__ends_product(act) && m->needed[t->id] && m->needed[act->id]
           && AE__JOINS(m) ? act : NULL;
}

/* Computes what is marked, in order; the codes take the place of z when its turn comes. Around z,
   and where the result is something that the plan may write over for the next chunk, layers take
   all samples at once. */
static ae_status ae__compute(ae_model *m, int n, const ae_tensor *z, const float *codes,
                             const ae_tensor *result)
{
    ae_status status = AE_SUCCESS;
    AE__GPU(m, ae__cu_runs(m, n));
    for (const ae_tensor *t = m->first, *end; t && !status; t = end) {
        const ae_tensor *kept = m->mode == AE_INFER && result && result->uses ? result : NULL;
        int whole = (z && z->run_first == t->run_first)
                    || (kept && kept->run_first == t->run_first);
        const ae_tensor *act = t == z ? NULL : ae__joined_forward(m, t);
        end = act ? act->next : whole ? t->next : t->run_last->next;
        if (t == z) {
            if (codes && codes != ae__value(m, t))
                ae__copy_in(m, ae__value(m, t), codes, (size_t)n * ae__size(t) * sizeof(float));
            m->replaced[t->id] = 0;
            continue;
        }
        for (const ae_tensor *u = t; u != end; u = u->next)
            ae__mark_computed(m, u);
        m->joined = act;
        status = whole ? ae__compute_tensor(m, t, n) : ae__run_forward(m, t, n);
        m->joined = NULL;
    }
    return status;
}

static ae_status ae__owned(ae_model *m, const ae_tensor *t)
{
    if (t == NULL)
        return ae__report(m, AE_E_ARG, "the tensor is NULL");
    if (t->model != m->graph)
        return ae__report(m, AE_E_ARG, "%s belongs to another model", t->name);
    return AE_SUCCESS;
}

AE_API ae_status ae_set(ae_model *m, const ae_tensor *t, const void *values, int n)
{
    ae_status status = ae__begin(m, n);
    if (status || (status = ae__owned(m, t)) != AE_SUCCESS)
        return status;
    if (values == NULL || t->loss >= 0)
        return ae__report(m, AE_E_ARG, values ? "%s is a loss: it cannot be set"
                                              : "%s: the values are NULL", t->name);
    ae__copy_in(m, ae__value(m, t), values, (size_t)n * ae__size(t) * sizeof(float));
    m->replaced[t->id] = 0;
    ae__place_samples(m, 0, (size_t)n);
    m->forward_n = 0;
    AE__GPU(m, return ae__cu_enter(m));
    return AE_SUCCESS;
}

AE_API ae_status ae_run(ae_model *m, const ae_tensor *t, int n)
{
    ae_status status = ae__begin(m, n);
    if (status || (status = ae__owned(m, t)) != AE_SUCCESS)
        return status;
    m->training = 0;
    m->forward_n = 0;
    memset(m->needed, 0, (size_t)m->tensors);
    ae__need(m, t, NULL);
    return ae__compute(m, n, NULL, NULL, t);
}

static ae_status ae__replaced_error(ae_model *m, const ae_tensor *t)
{
    return ae__report(m, AE_E_ARG, "%s has no values: %s was written over them (ae_run of %s alone "
                      "computes them)", t->name, t->replaced_by->name, t->name);
}

// In inference two tensors may have the same place at different times.
static int ae__share_bytes(const ae_model *m, const ae_tensor *t, const ae_tensor *u)
{
    const ae__span *a = &t->span[AE__INFER_VALUE], *b = &u->span[AE__INFER_VALUE];
    return m->mode == AE_INFER && a->at < b->at + b->size && b->at < a->at + a->size;
}

static ae_status ae__run_from(ae_model *m, const ae_tensor *z, const float *codes,
                              const ae_tensor *t, int n)
{
    ae_status status = ae__begin(m, n);
    if (status || (status = ae__owned(m, z)) != AE_SUCCESS
        || (status = ae__owned(m, t)) != AE_SUCCESS)
        return status;
    m->training = 0;
    m->forward_n = 0;
    memset(m->needed, 0, (size_t)m->tensors);
    ae__need(m, t, z);
    if (!m->needed[z->id] || z->loss >= 0)
        return ae__report(m, AE_E_ARG, "%s does not depend on %s", t->name, z->name);
    for (const ae_tensor *u = t; u != z; u = u->prev)
        if (m->needed[u->id] && u->in[1] && u->in[1] == z->in[1] && u->in[1]->kept)
            return ae__report(m, AE_E_ARG, "%s needs the places of %s's maxima, which codes do "
                              "not tell", u->name, z->name);
    const float *held = ae__value(m, z);
    if (codes == NULL && m->replaced[z->id])
        return ae__replaced_error(m, z);
    if (codes == NULL || (codes >= held && codes < held + (size_t)m->batch * ae__size(z)))
        for (const ae_tensor *u = m->first; u != z; u = u->next)
            if (m->needed[u->id] && ae__share_bytes(m, u, z))
                return ae__report(m, AE_E_ARG, "computing %s writes over what %s holds: pass a "
                                  "copy of it", u->name, z->name);
    return ae__compute(m, n, z, codes, t);
}

AE_API ae_status ae_run_from(ae_model *m, const ae_tensor *z, const float *codes,
                             const ae_tensor *t, int n)
{
    ae_status status = ae__begin(m, n);
    if (status)
        return status;
    ae__place_samples(m, 0, (size_t)n);
    return ae__run_from(m, z, codes, t, n);
}

AE_API float *ae_get(ae_model *m, const ae_tensor *t)
{
    if (ae__begin(m, 1) || ae__owned(m, t))
        return NULL;
    if (m->replaced[t->id])
        return ae__replaced_error(m, t), (float *)NULL;
    return ae__read(m, ae__value(m, t), t->loss >= 0 ? 1 : (size_t)m->batch * ae__size(t));
}

// t for any number of samples given as values of `from`, in batches.
static ae_status ae__predict(ae_model *m, const ae_tensor *from, const ae_tensor *t, float *out,
                             const float *x, size_t n)
{
    ae_status status = ae__begin(m, 1);
    if (status || (status = ae__owned(m, from)) != AE_SUCCESS
        || (status = ae__owned(m, t)) != AE_SUCCESS)
        return status;
    if (x == NULL || out == NULL)
        return ae__report(m, AE_E_ARG, "ae_predict: %s is NULL", x ? "out" : "x");
    memset(m->needed, 0, (size_t)m->tensors);
    ae__need(m, t, from);
    for (const ae_tensor *u = m->first; u; u = u->next)
        if (u->is_input && u != from && m->needed[u->id])
            return ae__report(m, AE_E_ARG, "%s also needs %s: use ae_set and ae_run", t->name,
                              u->name);
    if (t->loss >= 0)
        return ae__report(m, AE_E_ARG, "%s is a loss: use ae_evaluate", t->name);
    for (size_t done = 0; done < n;) {
        size_t count = ae__min((size_t)m->batch, n - done);
        ae__place_samples(m, done, count);
        status = ae__run_from(m, from, x + done * ae__size(from), t, (int)count);
        if (status)
            return status;
        ae__copy_out(m, out + done * ae__size(t), ae__value(m, t),
                     count * ae__size(t) * sizeof(float));
        done += count;
    }
    ae__place_samples(m, 0, (size_t)m->batch);
    AE__GPU(m, return ae__cu_sync(m));
    return AE_SUCCESS;
}

static const ae_tensor *ae__first_input(const ae_model *m)
{
    const ae_tensor *t = m ? m->first : NULL;
    while (t && t->op != &ae__op_input)
        t = t->next;
    return t;
}

AE_API ae_status ae_predict(ae_model *m, const ae_tensor *t, float *out, const float *x, size_t n)
{
    return ae__predict(m, ae__first_input(m), t, out, x, n);
}

AE_API ae_status ae_predict_from(ae_model *m, const ae_tensor *z, const ae_tensor *t, float *out,
                                 const float *codes, size_t n)
{
    return ae__predict(m, z, t, out, codes, n);
}

// ---- parameters

AE_API ae_param *ae_param_at(const ae_model *m, int i)
{
    ae_param *p = m && i >= 0 ? m->first_param : NULL;
    while (p && i-- > 0)
        p = p->next;
    return p;
}

AE_API ae_param *ae_param_find(const ae_model *m, const char *name)
{
    ae_param *p = m ? m->first_param : NULL;
    while (p && strcmp(p->name, name) != 0)
        p = p->next;
    return p;
}

AE_API const char *ae_param_name(const ae_param *p)
{
    return p ? p->name : "";
}

AE_API size_t ae_param_size(const ae_param *p)
{
    return p ? p->count : 0;
}

AE_API int ae_param_shape(const ae_param *p, int shape[4])
{
    for (int i = 0; i < 4; i++)
        shape[i] = p && i < p->dims ? p->shape[i] : 1;
    return p ? p->dims : 0;
}

AE_API float *ae_param_data(ae_model *m, const ae_param *p)
{
    if (m == NULL || p == NULL || !m->built || ae__is_small(m, p))
        return NULL;
    AE__GPU(m, ae__cu_expose(m));
    return (float *)ae__on_host(m, ae__weights(m, p));
}

AE_API ae_param *ae_weight(const ae_tensor *t)
{
    return t ? t->weight : NULL;
}

AE_API ae_param *ae_bias(const ae_tensor *t)
{
    return t ? t->bias : NULL;
}

AE_API void *ae_segment_data(ae_model *m, ae_segment segment, size_t *bytes)
{
    int there = m && m->built && (int)segment >= 0 && segment < AE_SEG_COUNT;
    if (bytes)
        *bytes = there ? m->bytes[segment] : 0;
    if (there)
        AE__GPU(m, ae__cu_expose(m); if (segment == AE_SEG_ACT) ae__cu_fetch_values(m));
    return there ? m->segment[segment] : NULL;
}

#ifndef AE_NO_TRAIN
AE_API float *ae_param_grad(ae_model *m, const ae_param *p)
{
    if (m == NULL || p == NULL || !m->built || m->mode != AE_TRAIN || p->untrained)
        return NULL;
    AE__GPU(m, ae__cu_expose(m));
    return (float *)ae__on_host(m, ae__weight_grads(m, p));
}

// ---- snapshots: PARAM, GRAD, OPT and STATE lie next to each other

AE_API size_t ae_snapshot_bytes(const ae_model *m)
{
    if (m == NULL || !m->built || m->graph != m)
        return 0;
    return (size_t)(m->segment[AE_SEG_ACT] - m->segment[AE_SEG_PARAM]);
}

static ae_status ae__snapshot_check(ae_model *m, const void *block)
{
    ae_status status = ae__begin(m, 1);
    if (status)
        return status;
    if (m->graph != m || block == NULL)
        return ae__report(m, AE_E_ARG, block ? "a fork has no snapshot: it shares its parameters"
                                             : "snapshot: the block is NULL");
    AE__GPU(m, ae__cu_expose(m); return ae__cu_told(m));
    return AE_SUCCESS;
}

AE_API ae_status ae_snapshot(ae_model *m, void *dst)
{
    ae_status status = ae__snapshot_check(m, dst);
    if (status == AE_SUCCESS)
        memcpy(dst, m->segment[AE_SEG_PARAM], ae_snapshot_bytes(m));
    return status;
}

AE_API ae_status ae_restore(ae_model *m, const void *src, size_t bytes)
{
    ae_status status = ae__snapshot_check(m, src);
    if (status)
        return status;
    if (bytes != ae_snapshot_bytes(m))
        return ae__report(m, AE_E_ARG, "the snapshot has %z bytes, this model's has %z", bytes,
                          ae_snapshot_bytes(m));
    memcpy(m->segment[AE_SEG_PARAM], src, bytes);
    m->forward_n = 0;
    return AE_SUCCESS;
}

// ---- one training step, in pieces

static int ae__is_term(const ae_tensor *t)
{
    return t->loss >= 0 && (t->minimized || t->monitored);
}

// The weighted sum over the minimised losses of values given in the order of the losses.
static double ae__weighted(const ae_model *m, const double *means, const float *values)
{
    double sum = 0;
    for (const ae_tensor *t = m->first; t; t = t->next)
        if (t->minimized)
            sum += (double)t->term_weight * (means ? means[t->loss] : (double)values[t->loss]);
    return sum;
}

// Marks every loss that is minimised or watched, and what it needs.
static ae_status ae__mark_losses(ae_model *m, int training)
{
    int terms = 0;
    m->training = training;
    m->forward_n = 0;
    memset(m->needed, 0, (size_t)m->tensors);
    for (const ae_tensor *t = m->first; t; t = t->next)
        if (ae__is_term(t)) {
            ae__need(m, t, NULL);
            terms++;
        }
    return terms ? AE_SUCCESS
                 : ae__report(m, AE_E_ARG, "the model has no loss: call ae_minimize");
}

// Computes them. training: noise and batch statistics are on.
static ae_status ae__losses(ae_model *m, int n, int training)
{
    ae_status status = ae__mark_losses(m, training);
    return status ? status : ae__compute(m, n, NULL, NULL, NULL);
}

// Names the first tensor with a value that is not finite.
static ae_status ae__not_finite(ae_model *m, int n)
{
    size_t step = (size_t)ae__state_of(m)->steps + 1;
    for (const ae_tensor *t = m->first; t; t = t->next) {
        const float *v = ae__value(m, t);
        size_t count = t->loss >= 0 ? 1 : (size_t)n * ae__size(t);
        if (!m->needed[t->id] || t->op == &ae__op_labels || t->kept)
            continue;
        size_t i = ae__first_not_finite(v, count);
        if (i < count)
            return ae__report(m, AE_E_NUMERIC, "step %z: the loss is not finite; the first value "
                              "that is not is in %s (sample %z)", step, t->name, i / ae__size(t));
    }
    return ae__report(m, AE_E_NUMERIC, "step %z: the loss is not finite", step);
}

static ae_status ae__begin_training(ae_model *m, int n)
{
    ae_status status = ae__begin(m, n);
    if (status == AE_SUCCESS && m->mode != AE_TRAIN)
        return ae__report(m, AE_E_ARG, "the model was built for inference: build it with AE_TRAIN");
    return status;
}

/* Running statistics move with every forward pass of training. Keeps them (back: 0), or puts back
   those kept after a pass that failed. */
static void ae__statistics(ae_model *m, int back)
{
    float *now = ae__segment(m, AE_SEG_PARAM) + m->trained_floats;
    float *kept = (float *)ae__here(m, m->statistics);
    const size_t n = m->param_floats - m->trained_floats;
    if (n)
        AE__OP(m, activation_forward, (&m->exec, back ? now : kept, back ? kept : now,
                                       AE_ACT_IDENTITY, 0.0f, n));
}

// ae_forward, but for the statistics of a pass that fails.
static ae_status ae__forward(ae_model *m, int n)
{
    ae_status status = ae__losses(m, n, 1);
    if (status)
        return status;
    m->forward_n = n;
    AE__GPU(m, return AE_SUCCESS);          // it looks itself: see ae__k_judge
    if (!ae__finite((float)ae__weighted(m, NULL, ae__loss_values(m)))) {
        m->forward_n = 0;
        return ae__not_finite(m, n);
    }
    return AE_SUCCESS;
}

AE_API ae_status ae_forward(ae_model *m, int n)
{
    ae_status status = ae__begin_training(m, n);
    if (status)
        return status;
    AE__GPU(m, ae__cu_begin_step(m, NULL, 0.0f, (size_t)n, 0, 1.0f));
    ae__statistics(m, 0);
    status = ae__forward(m, n);
    AE__GPU(m, if (status == AE_SUCCESS) status = ae__cu_check_forward(m, n));
    if (status)
        ae__statistics(m, 1);
    AE__GPU(m, ae__cu_kept_statistics(m));
    return status;
}

// The gradients of t's inputs from that of t. The first part of a sum, that of the last reader, is
// written in place, later ones beside it and then added.
static void ae__back(ae_model *m, const ae_tensor *t, int n, const float *dy)
{
    float *d[AE__INPUTS] = {NULL, NULL, NULL};
    int add[AE__INPUTS] = {0, 0, 0};
    for (int i = 0; i < AE__INPUTS && t->in[i]; i++) {
        const ae_tensor *in = t->in[i];
        if (in->has_grad) {
            add[i] = in->last_loss_use != t || (i > 0 && in == t->in[0])
                     || (i > 1 && in == t->in[1]);
            d[i] = add[i] ? (float *)ae__here(m, m->parts[i]) : ae__gradient(m, in);
        }
    }
    t->op->backward(m, t, n, dy, d);
    for (int i = 0; i < AE__INPUTS; i++)
        if (add[i]) {
            float *sum = ae__gradient(m, t->in[i]);
            AE__OP(m, add_forward, (&m->exec, sum, sum, d[i], (size_t)n * ae__size(t->in[i])));
        }
}

// The gradient of loss t. Losses that average get their share of the samples of a step, sums count
// whole.
static float ae__dloss(const ae_model *m, const ae_tensor *t, float scale, double share)
{
    double part = t->reduction == AE_SUM ? 1.0 : share;
    double grown = t->warm_up > m->epoch_at ? (double)(m->epoch_at / t->warm_up) : 1.0;
    return (float)((double)scale * (double)t->term_weight * grown * part);
}

// The gradients of one layer, which needs any.
static void ae__back_through(ae_model *m, const ae_tensor *t, int n, const float *dloss)
{
    if (t->towards_loss && t->has_grad)
        ae__back(m, t, n, t->loss >= 0 ? dloss : ae__gradient(m, t));
}

// Whether t is a pooling of which no element is in two windows, and whose own values stay.
static int ae__windows_apart(const ae_tensor *t)
{
    const ae_pool *g = &t->pool;
    const ae_tensor *over = t->replaced_by;
    while (over && over->op == &ae__op_reshape)
        over = over->replaced_by;
    return t->op == &ae__op_max_pool2d && over == NULL
           && g->stride_h > (g->kernel_h - 1) * g->dilation_h
           && g->stride_w > (g->kernel_w - 1) * g->dilation_w;
}

/* The activation before t whose backward pass, in place, t's does as well, or NULL: where a product
   alone reads it, or a max pooling, which has fewer elements and lets no others through. */
static const ae_tensor *ae__joined_backward(const ae_model *m, const ae_tensor *t)
{
    const ae_tensor *act = t->in[0];
    if (act == NULL || act->in_place_of == NULL || act->op->forward != ae__activation_forward
        || act->loss_uses != 1 || !act->has_grad || !t->towards_loss || !AE__JOINS(m))
        return NULL;
    return ae__is_product(t) || ae__windows_apart(t) ? act : NULL;
}

/* Each part adds the gradients of its weights to a sum of its own, the first one to GRAD itself. */
static void ae__run_backward_job(void *arg, int task)
{
    const ae__run *r = (const ae__run *)arg;
    ae_model *m = ae__run_task((ae__run *)arg, task);
    unsigned char *grad = m->segment[AE_SEG_GRAD];
    const int end = ae__run_share(r->parts, task + 1, r->tasks);
    for (int part = ae__run_share(r->parts, task, r->tasks); part < end; part++) {
        if (part > 0) {
            float *sum = m->sums + (size_t)(part - 1) * r->params;
            memset(sum, 0, r->params * sizeof *sum);
            m->segment[AE_SEG_GRAD] = (unsigned char *)sum;
            m->grad_at = r->params_at;
        }
        for (int i = ae__run_begin(r, part); i < ae__run_begin(r, part + 1); i++) {
            const int count = ae__run_to(r, m, i);
            for (const ae_tensor *t = r->last; t != r->first->prev; t = t->prev) {
                m->joined = ae__joined_backward(m, t);
                if (ae__joined_backward(m, t->last_loss_use) != t)
                    ae__back_through(m, t, count, &r->dloss);
            }
        }
    }
    m->segment[AE_SEG_GRAD] = grad;
    m->grad_at = 0;
    m->joined = NULL;
    m->from = 0;
}

static void ae__run_backward(ae_model *m, const ae_tensor *t, int n, float dloss)
{
    ae__run r;
    ae__run_of(&r, m, t, n);
    r.dloss = dloss;
    r.params = ae__run_params(t, &r.params_at);
    ae__run_parallel(&r, ae__run_parts(t, r.chunks), ae__run_backward_job);
    for (int i = 1; i < r.parts; i++) {
        float *grad = ae__segment(m, AE_SEG_GRAD) + r.params_at;
        ae_add_forward(&m->exec, grad, grad, m->sums + (size_t)(i - 1) * r.params, r.params);
    }
}

static void ae__backward(ae_model *m, float scale, double share)
{
    for (const ae_tensor *t = m->last; t; t = t->run_first->prev) {
        float dloss = ae__dloss(m, t, scale, share);
        AE__GPU(m, dloss = ae__cu_dloss(m, t, share));
        ae__run_backward(m, t, m->forward_n, dloss);
    }
}

static void ae__zero_job(void *arg, int task)
{
    const ae__flat *f = (const ae__flat *)arg;
    size_t i = (size_t)task * f->piece;
    memset(f->out + i, 0, ae__min(f->piece, f->n - i) * sizeof *f->out);
}

static void ae__zero(ae_model *m, float *x, size_t n)
{
    ae__flat f = ae__flat_of(&m->exec, n);
    f.out = x;
    ae__parallel(&m->exec, ae__pieces(n), ae__zero_job, &f);
}

static void ae__zero_grad(ae_model *m)
{
    AE__GPU(m, ae__cu_zero_grad(m); return);
    ae__zero(m, ae__segment(m, AE_SEG_GRAD), m->bytes[AE_SEG_GRAD] / sizeof(float));
}

/* The same before a backward pass with m->fresh: parameters that one product alone has need no
   zeros, but for the room behind them, since their gradient is overwritten (=). */
static void ae__zero_others(ae_model *m)
{
    AE__GPU(m, ae__cu_zero_grad(m); return);
    for (const ae_param *p = m->first_param; p; p = p->next) {
        int alone = 0;
        for (const ae_tensor *t = m->first; t && !alone; t = t->next)
            alone = t->alone && (t->weight == p || t->bias == p);
        const size_t from = alone ? p->count : 0;
        if (!p->untrained)
            ae__zero(m, ae__weight_grads(m, p) + from,
                     ae__round_up(p->count, AE_ALIGN / sizeof(float)) - from);
    }
}

AE_API ae_status ae_backward(ae_model *m, float scale)
{
    ae_status status = ae__begin_training(m, 1);
    if (status)
        return status;
    if (m->forward_n == 0)
        return ae__report(m, AE_E_ARG, "ae_backward needs an ae_forward before it");
    if (!ae__finite(scale))
        return ae__report(m, AE_E_ARG, "ae_backward: the scale is not finite");
    m->epoch_at = 3e38f;        // by hand, nobody counts epochs: ae_warm_up is over
    AE__GPU(m, ae__cu_set_dlosses(m, scale));
    ae__backward(m, scale, 1.0);
    return AE_SUCCESS;
}

AE_API void ae_zero_grad(ae_model *m)
{
    if (ae__begin_training(m, 1) == AE_SUCCESS)
        ae__zero_grad(m);
}

// Settings no optimiser can work with.
static ae_status ae__optim_check(ae_model *m, const ae_optim *o)
{
    if (o == NULL)
        return ae__report(m, AE_E_ARG, "the optimiser is NULL");
    const struct { const char *name; float value, below; } field[] = {
        {"lr", o->lr, 0}, {"beta1", o->beta1, 1}, {"beta2", o->beta2, 1}, {"eps", o->eps, 0},
        {"weight_decay", o->weight_decay, 0}, {"momentum", o->momentum, 0},
        {"lr_decay", o->lr_decay, 0}, {"clip_norm", o->clip_norm, 0},
        {"clip_value", o->clip_value, 0}
    };
    for (size_t i = 0; i < sizeof field / sizeof field[0]; i++)
        if (ae__bad_number(field[i].value)
            || (field[i].below > 0.0f && field[i].value >= field[i].below))
            return ae__report(m, AE_E_ARG, "optimiser: %s is %g: it must be a number from 0 on%s",
                              field[i].name, (double)field[i].value,
                              field[i].below > 0.0f ? " and below 1" : "");
    if ((int)o->kind < 0 || o->kind > AE_ADAGRAD)
        return ae__report(m, AE_E_ARG, "optimiser: there is no kind %d", (int)o->kind);
    if (ae_optim_states(o) > m->optim_states)
        return ae__report(m, AE_E_ARG, "optimiser: it needs %d states a parameter, %d were "
                          "reserved (ae_reserve_optim)", ae_optim_states(o), m->optim_states);
    return AE_SUCCESS;
}

// One update with learning rate lr from the gradients in GRAD.
static ae_status ae__update_params(ae_model *m, const ae_optim *o, float lr)
{
    AE__GPU(m, ae__cu_update_params(m, o); return AE_SUCCESS);
    size_t n = m->trained_floats;
    float *g = ae__segment(m, AE_SEG_GRAD), *s = ae__segment(m, AE_SEG_OPT);
    ae__state *state = ae__state_of(m);
    if (o->clip_value > 0.0f)
        ae_clip_value(&m->exec, g, o->clip_value, n);
    double norm = o->clip_norm > 0.0f ? ae_clip_norm(&m->exec, g, o->clip_norm, n)
                                      : ae__norm(&m->exec, g, n);
    if (!ae__finite_double(norm))
        return ae__report(m, AE_E_NUMERIC, "step %z: the gradient is not finite",
                          (size_t)state->steps + 1);
    if (m->fed.known)
        m->trained = m->fed;
    ae__update u = ae__update_of(o, lr, ++state->steps);
    ae__optim_update(&m->exec, ae__segment(m, AE_SEG_PARAM), m->optim_states > 0 ? s : NULL,
                     m->optim_states > 1 ? s + n : NULL, g, &u, n);
    for (const ae_param *p = m->first_param; p; p = p->next)
        if (p->max_norm > 0.0f)
            ae_max_norm(&m->exec, ae__weights(m, p), p->max_norm, p->shape[0],
                        (int)(p->count / (size_t)p->shape[0]));
    return AE_SUCCESS;
}

AE_API ae_status ae_step(ae_model *m, const ae_optim *o)
{
    ae_status status = ae__begin_training(m, 1);
    if (status || (status = ae__optim_check(m, o)) != AE_SUCCESS)
        return status;
    AE__GPU(m, return ae__cu_step_by_hand(m, o));
    return ae__update_params(m, o, ae__optim_lr(o));
}

AE_API float ae_batch_loss(const ae_model *m, const ae_tensor *term)
{
    if (m == NULL || !m->built || (term && (term->model != m->graph || term->loss < 0)))
        return 0.0f;
    AE__GPU(m, ae__cu_look(m));
    return term ? ae__loss_values(m)[term->loss]
                : (float)ae__weighted(m, NULL, ae__loss_values(m));
}

AE_API float ae_mean_loss(const ae_model *m, const ae_tensor *term)
{
    if (m == NULL || !m->built || (term && (term->model != m->graph || term->loss < 0)))
        return 0.0f;
    AE__GPU(m, ae__cu_look(m));
    const double *means = ae__loss_means(m);
    return (float)(term ? means[term->loss] : ae__weighted(m, means, NULL));
}

AE_API uint64_t ae_steps(const ae_model *m)
{
    return m && m->built ? ae__state_of(m)->steps : 0;
}
#endif

/* ---------------------------------------------------------------------------
   >>data   samples: raw bytes or floats, labels, order                       */

/* What bytes stand for. Pixels have the bits of PyTorch's ToTensor, which divides by 255: that is
   more exact than the float next to 1/255. 1/255 = 257/2^16 + 1/(255 2^16), and a byte times the
   first of these is exact. */
static ae__values ae__values_of(const ae_dataset *d)
{
    const float pixel = 1.0f / 255.0f;      // a variable: rounded to float everywhere
    const float scale = ae__or(d->scale, 1.0f);
    ae__values v;
    v.high = scale == pixel ? 257.0f / 65536.0f : scale;
    v.low = scale == pixel ? 1.0f / (255.0f * 65536.0f) : 0.0f;
    v.mean = d->mean;
    v.deviation = ae__or(d->deviation, 1.0f);
    return v;
}

// x (count) = the values of the raw elements from `at` on.
static void ae__data_values(const ae_exec *e, float *x, const ae_dataset *d, size_t at,
                            size_t count)
{
    const ae__values v = ae__values_of(d);
    const float scale = ae__or(d->scale, 1.0f);
    if (d->bytes)
        ae__kernels_of(e)->bytes(x, d->bytes + at, &v, count);
    for (size_t i = 0; i < count && !d->bytes; i++)
        x[i] = (d->floats[at + i] * scale - v.mean) / v.deviation;
}

// Values of one sample: c h w.
static size_t ae__data_features(const ae_dataset *d)
{
    return (size_t)d->c * (size_t)d->h * (size_t)d->w;
}

static size_t ae__data_row(const ae_dataset *d, size_t i)
{
    return d->index ? d->index[i] : i;
}

AE_API ae_status ae_dataset_get(const ae_dataset *d, float *x, int32_t *labels, size_t first,
                                size_t count)
{
    if (first > d->n || count > d->n - first || (x && !d->bytes && !d->floats) ||
        (labels && !d->labels))
        return AE_E_ARG;
    size_t features = ae__data_features(d);
    for (size_t i = 0; i < count; i++) {
        size_t row = ae__data_row(d, first + i);
        if (x)
            ae__data_values(NULL, x + i * features, d, row * features, features);
        if (labels)
            labels[i] = d->labels[row];
    }
    return AE_SUCCESS;
}

// The sum of (value - center)^power over all values of d; power 1 or 2.
static double ae__data_sum(const ae_dataset *d, double center, int power)
{
    size_t features = ae__data_features(d);
    float x[256];
    double sum = 0.0;
    for (size_t i = 0; i < d->n; i++) {
        size_t at = ae__data_row(d, i) * features;
        for (size_t j = 0; j < features; j += 256) {
            size_t count = ae__min(features - j, 256);
            ae__data_values(NULL, x, d, at + j, count);
            for (size_t k = 0; k < count; k++) {
                double v = (double)x[k] - center;
                sum += power == 1 ? v : v * v;
            }
        }
    }
    return sum;
}

AE_API void ae_dataset_moments(const ae_dataset *d, float *mean, float *deviation)
{
    double count = (double)d->n * (double)ae__data_features(d);
    double m = count > 0.0 ? ae__data_sum(d, 0.0, 1) / count : 0.0;
    if (mean)
        *mean = (float)m;
    if (deviation)
        *deviation = count > 0.0 ? (float)sqrt(ae__data_sum(d, m, 2) / count) : 0.0f;
}

AE_API ae_status ae_dataset_normalize(ae_dataset *d, float mean, float deviation)
{
    if (!ae__finite(mean) || !ae__finite(deviation) || !(deviation > 0.0f))
        return AE_E_ARG;
    // ((v - m0) / s0 - m) / s = (v - (m0 + s0 m)) / (s0 s): a second call goes on from the first
    float before = d->deviation == 0.0f ? 1.0f : d->deviation;
    d->mean += before * mean;
    d->deviation = before * deviation;
    return AE_SUCCESS;
}

AE_API ae_status ae_dataset_split(ae_dataset *rest, ae_dataset *held, const ae_dataset *d,
                                  ae_arena *arena, float share, uint64_t seed)
{
    if (!ae__finite(share) || share < 0.0f || share > 1.0f)
        return ae__fail(arena, AE_E_ARG, "split: the share %g is not in 0 ... 1", (double)share);
    size_t n = d->n, k = (size_t)floor((double)share * (double)n + 0.5);
    // an index has 32 bits
    if (n >> 31 > 1 || k == 0 || k >= n)
        return ae__fail(arena, AE_E_ARG, "split: a share of %g of %z samples leaves one side empty",
                        (double)share, n);
    uint32_t *index = (uint32_t *)ae_alloc(arena, ae__sat_mul(n, 4));
    if (!index)
        return ae__fail(arena, AE_E_MEMORY,
                        "split: %z samples need 4 bytes each, the arena has %z bytes left", n,
                        ae_arena_left(arena));
    // Who comes to the first k places of a random permutation is held out; each view keeps d's
    // order, since training shuffles anyway.
    ae_random r = { 0, 0, 0x53504c54u };
    r.seed = seed;
    size_t in_held = 0, in_rest = k;
    for (size_t i = 0; i < n; i++)
        index[ae_random_permute(i, n, r) < k ? in_held++ : in_rest++] =
            (uint32_t)ae__data_row(d, i);
    ae_dataset view = *d;   // a copy first: rest or held may be d itself
    view.index = index;
    view.n = k;
    *held = view;
    view.index = index + k;
    view.n = n - k;
    *rest = view;
    return AE_SUCCESS;
}

AE_API ae_dataset ae_dataset_head(const ae_dataset *d, size_t n)
{
    ae_dataset head = *d;
    head.n = ae__min(n, d->n);
    return head;
}

// Bytes in memory or in a file, read from front to back: a parser and a loader are one code, and
// a file needs no room in the arena but that of its samples.
typedef struct ae__source {
    const char *name, *part;        // what errors call it: "digits" " labels"
    const char *path;               // the file, or NULL: bytes
    const unsigned char *bytes;     // the memory, size bytes of it
    size_t size;
    const unsigned char *at;        // the next bytes, left of them at hand
    size_t left;
    void *file;                     // the open file, or NULL
    int broken;                     // reading failed: not the same as the end
    unsigned char buffer[4096];
} ae__source;

static void ae__source_bytes(ae__source *s, const void *bytes, size_t size, const char *name,
                             const char *part)
{
    s->name = name ? name : "data";
    s->part = part;
    s->path = NULL;
    s->bytes = (const unsigned char *)bytes;
    s->size = bytes ? size : 0;
    s->file = NULL;
}

#ifndef AE_NO_STDIO

static void *ae__file_open(const char *path)
{
#ifdef AE_USE_ZLIB
    return (void *)gzopen(path, "rb");
#else
    return (void *)fopen(path, "rb");
#endif
}

static void ae__file_close(void *file)
{
#ifdef AE_USE_ZLIB
    gzclose((gzFile)file);
#else
    fclose((FILE *)file);
#endif
}

// The part of a path that a sentence of AE_ERROR_MAX bytes has room for, twice.
static const char *ae__path_tail(const char *path)
{
    size_t length = path ? strlen(path) : 0;
    return path == NULL ? "(no path)" : length > 100 ? path + length - 100 : path;
}

static void ae__source_path(ae__source *s, const char *path)
{
    ae__source_bytes(s, NULL, 0, ae__path_tail(path), "");
    s->path = path;
}

#endif

// Gets more bytes at hand. 0: there are none.
static int ae__source_more(ae__source *s)
{
#ifndef AE_NO_STDIO
    if (s->file) {
#ifdef AE_USE_ZLIB
        int got = gzread((gzFile)s->file, s->buffer, (unsigned)sizeof s->buffer);
        int problem;                // a cut file gives its bytes and only here says that it is
        gzerror((gzFile)s->file, &problem);
        s->broken = got < 0 || (problem != Z_OK && problem != Z_STREAM_END);
        s->left = got > 0 ? (size_t)got : 0;
#else
        s->left = fread(s->buffer, 1, sizeof s->buffer, (FILE *)s->file);
        s->broken = ferror((FILE *)s->file) != 0;
#endif
        s->at = s->buffer;
    }
#endif
    return s->left > 0;
}

static void ae__source_end(ae__source *s)
{
#ifndef AE_NO_STDIO
    if (s->file)
        ae__file_close(s->file);
#endif
    s->file = NULL;
}

// Starts at the front, again if need be. Whether it succeeds or not, ae__source_end ends it.
static ae_status ae__source_begin(ae_arena *arena, ae__source *s)
{
    s->at = s->bytes;
    s->left = s->size;
    s->broken = 0;
    int gzip = 0;
#ifndef AE_NO_STDIO
    if (s->path) {
        s->file = ae__file_open(s->path);
        if (!s->file)
            return ae__fail(arena, AE_E_IO, "cannot open %s", s->name);
#ifndef AE_USE_ZLIB
        size_t length = strlen(s->path);
        gzip = length > 3 && memcmp(s->path + length - 3, ".gz", 3) == 0;
#endif
    }
#endif
    if (!ae__source_more(s) && s->broken)
        return ae__fail(arena, AE_E_IO, "cannot read %s", s->name);
    if (s->left >= 2 && s->at[0] == 0x1f && s->at[1] == 0x8b)
        gzip = 1;
    if (gzip && s->path)
        return ae__fail(arena, AE_E_IO,
                        "%s is gzip: unpack it first (gunzip %s) or compile with AE_USE_ZLIB",
                        s->name, s->name);
    if (gzip)
        return ae__fail(arena, AE_E_FORMAT, "%s%s is gzip: unpack it first", s->name, s->part);
    if (s->left == 0)
        return ae__fail(arena, AE_E_FORMAT, "%s%s is empty", s->name, s->part);
    return AE_SUCCESS;
}

// Up to n bytes into dst, or past them when dst is NULL; how many there were.
static size_t ae__source_read(ae__source *s, void *dst, size_t n)
{
    size_t done = 0;
    while (done < n && (s->left > 0 || ae__source_more(s))) {
        size_t k = ae__min(s->left, n - done);
        if (dst)
            memcpy((unsigned char *)dst + done, s->at, k);
        s->at += k;
        s->left -= k;
        done += k;
    }
    return done;
}

// Room for n rows of `bytes` bytes in all and, when labels is not NULL, for their n labels.
static ae_status ae__data_alloc(ae_arena *arena, const char *name, void **data, int32_t **labels,
                                size_t bytes, size_t n)
{
    size_t mark = ae_arena_used(arena), left = ae_arena_left(arena);
    size_t need = bytes;
    *data = ae_alloc(arena, bytes);
    if (labels) {
        *labels = (int32_t *)ae_alloc(arena, n * 4);
        need = ae__round_up(bytes, AE_ALIGN) + n * 4;
    }
    if (*data && (!labels || *labels))
        return AE_SUCCESS;
    ae_arena_rewind(arena, mark);
    return ae__fail(arena, AE_E_MEMORY, "%s: its samples need %z bytes, the arena has %z left",
                    name, need, left);
}

// The header of a file that holds an array: IDX, or .npy (see >>file).
typedef struct ae__idx {
    char type[8];               // as the file calls it: "13", "<f4"
    int kind;                   // 'u' 'i' 'b' (bool) 'f', and 'B': bfloat16
    size_t size;                // bytes of one value
    int little, fortran;        // low byte first; the first dimension runs fastest
    int labels;                 // whether labels may have this type
    uint32_t dims[4];
    int rank;
    size_t n;                   // samples
    int c, h, w;                // shape of a sample
    size_t values;              // n c h w
    char shape[48];             // "60000x28x28"
} ae__idx;

typedef ae_status ae__array_header(ae_arena *arena, ae__source *s, ae__idx *x);

static uint64_t ae__big_endian(const unsigned char *p, size_t size)
{
    uint64_t u = 0;
    for (size_t i = 0; i < size; i++)
        u = u << 8 | p[i];
    return u;
}

static uint64_t ae__little_endian(const unsigned char *p, size_t size)
{
    uint64_t u = 0;
    while (size-- > 0)
        u = u << 8 | p[size];
    return u;
}

// The sentence for a source that ends after `held` of `needed` bytes of something.
static ae_status ae__source_cut(ae_arena *arena, const ae__source *s, size_t held, size_t needed,
                                const char *what)
{
    if (s->broken)
        return ae__fail(arena, AE_E_IO, "cannot read %s: it is cut or damaged", s->name);
    return ae__fail(arena, AE_E_FORMAT, "%s%s is cut: it holds %z of the %z bytes that %s need",
                    s->name, s->part, held, needed, what);
}

// Four dimensions of 32 bits are no small numbers: every product is checked before it is used.
static ae_status ae__idx_shape(ae_arena *arena, const ae__source *s, ae__idx *x)
{
    uint64_t features = 1;
    const uint32_t *dims = x->dims;
    const int rank = x->rank;
    x->shape[0] = 0;
    for (int i = 0; i < rank; i++) {
        size_t end = strlen(x->shape);
        ae__format(x->shape + end, sizeof x->shape - end, i ? "x%z" : "%z", (size_t)dims[i]);
        if (i > 0 && features <= 0x7fffffffu)   // below 2^31 times below 2^32: fits 64 bits
            features *= dims[i];
    }
    for (int i = 0; i < rank; i++)
        if (dims[i] == 0)
            return ae__fail(arena, AE_E_FORMAT, "%s%s: dimension %d of %s is 0", s->name, s->part,
                            i + 1, x->shape);
    // a sixteenth of what can be addressed: 8 bytes a value and the labels stay countable
    if (features > 0x7fffffffu || dims[0] > SIZE_MAX / 16 / (size_t)features)
        return ae__fail(arena, AE_E_FORMAT, "%s%s: %s values are too many", s->name, s->part,
                        x->shape);
    x->n = dims[0];
    x->values = x->n * (size_t)features;
    x->c = rank == 2 || rank == 4 ? (int)dims[1] : 1;
    x->h = rank >= 3 ? (int)dims[rank - 2] : 1;
    x->w = rank >= 3 ? (int)dims[rank - 1] : 1;
    return AE_SUCCESS;
}

// 0 0 type rank, then each dimension, high byte first.
static ae_status ae__idx_header(ae_arena *arena, ae__source *s, ae__idx *x)
{
    static const char kinds[] = "........ui.iiff", sizes[] = "........11.2448";
    unsigned char magic[4], raw[16];
    size_t got = ae__source_read(s, magic, 4);
    memset(x, 0, sizeof *x);
    if (got < 4)
        return ae__source_cut(arena, s, got, 4, "its first numbers");
    if (magic[0] || magic[1] || magic[2] > 14 || kinds[magic[2]] == '.')
        return ae__fail(arena, AE_E_FORMAT, "%s%s is not IDX: it begins with the bytes %d %d %d %d",
                        s->name, s->part, magic[0], magic[1], magic[2], magic[3]);
    x->rank = magic[3];
    if (x->rank < 1 || x->rank > 4)
        return ae__fail(arena, AE_E_FORMAT, "%s%s has %d dimensions, 1 to 4 can be read", s->name,
                        s->part, x->rank);
    size_t need = (size_t)x->rank * 4;
    got = ae__source_read(s, raw, need);
    if (got < need)
        return ae__source_cut(arena, s, 4 + got, 4 + need, "its first numbers");
    for (int i = 0; i < x->rank; i++)
        x->dims[i] = (uint32_t)ae__big_endian(raw + 4 * i, 4);
    ae__format(x->type, sizeof x->type, "%d", magic[2]);
    x->kind = kinds[magic[2]];
    x->size = (size_t)(sizes[magic[2]] - '0');
    x->labels = magic[2] == 8;
    return ae__idx_shape(arena, s, x);
}

// A value from its bits, as a float; not finite when it is not, or does not fit a float.
static float ae__value_of(uint64_t u, int kind, size_t size)
{
    uint32_t bits = (uint32_t)(kind == 'B' ? u << 16 : u);
    double v = (double)u;
    float f;
    if (kind == 'i' && u >> (8 * size - 1))     // two's complement
        v = -(double)((~u & (UINT64_MAX >> (64 - 8 * size))) + 1);
    if (kind == 'f' && size == 2 && (u & 0x7c00) != 0x7c00)
        v = ae__half_value((uint16_t)u);
    else if (kind == 'f' && size == 8 && (u >> 52 & 0x7ff) < 1023 + 128)
        memcpy(&v, &u, 8);
    else if (kind == 'f' && size != 4)
        bits = 0x7f800000u;     // infinite, NaN, or 2^128 and more
    memcpy(&f, &bits, 4);
    return kind == 'B' || (kind == 'f' && (size == 4 || bits == 0x7f800000u)) ? f : (float)v;
}

// Where value i of a file in Fortran's order stands in C's.
static size_t ae__fortran_place(const ae__idx *x, size_t i)
{
    size_t place = 0, stride = x->values;
    for (int k = 0; k < x->rank; k++) {
        stride /= x->dims[k];
        place += i % x->dims[k] * stride;
        i /= x->dims[k];
    }
    return place;
}

// The payload, as it is (bytes), as int32 (labels) or as floats; then the source must end.
static ae_status ae__idx_payload(ae_arena *arena, ae__source *s, const ae__idx *x, uint8_t *bytes,
                                 int32_t *labels, float *floats)
{
    unsigned char raw[8];
    size_t features = x->values / x->n, need = x->values * x->size, got = 0;
    const int whole = bytes && !x->fortran;
    if (whole)
        got = ae__source_read(s, bytes, need);
    for (size_t i = 0, k; !whole && i < x->values; i++) {
        const size_t at = x->fortran ? ae__fortran_place(x, i) : i;
        got += k = ae__source_read(s, raw, x->size);
        if (k < x->size)
            break;
        const uint64_t u = x->little ? ae__little_endian(raw, k) : ae__big_endian(raw, k);
        if (bytes)
            bytes[at] = raw[0];
        else if (labels && (u > 0x7fffffff || (x->kind == 'i' && u >> (8 * k - 1))))
            return ae__fail(arena, AE_E_FORMAT, "%s%s: label %z is not from 0 to 2147483647",
                            s->name, s->part, i + 1);
        else if (labels)
            labels[at] = (int32_t)u;
        else if (floats[at] = ae__value_of(u, x->kind, x->size), !ae__finite(floats[at]))
            return ae__fail(arena, AE_E_FORMAT, "%s%s: value %z of sample %z is not a finite float",
                            s->name, s->part, at % features + 1, at / features + 1);
    }
    if (got < need)
        return ae__source_cut(arena, s, got, need, x->shape);
    if (ae__source_read(s, raw, 1))
        return ae__fail(arena, AE_E_FORMAT, "%s%s goes on after the %z bytes that %s need",
                        s->name, s->part, need, x->shape);
    return s->broken ? ae__source_cut(arena, s, 0, 0, "") : AE_SUCCESS;
}

// Both headers first, so that two files that do not belong together are found at once.
static ae_status ae__idx_both(ae_dataset *d, ae_arena *arena, ae__source *images,
                              ae__source *labels, ae__array_header *header)
{
    ae__idx x, y;
    ae_status status = ae__source_begin(arena, images);
    if (status == AE_SUCCESS)
        status = header(arena, images, &x);
    if (status == AE_SUCCESS && labels)
        status = ae__source_begin(arena, labels);
    if (status == AE_SUCCESS && labels)
        status = header(arena, labels, &y);
    if (status != AE_SUCCESS)
        return status;
    if (labels && (!y.labels || y.values != y.n))
        return ae__fail(arena, AE_E_FORMAT, "%s%s is %s of type %s: labels are n of type %s",
                        labels->name, labels->part, y.shape, y.type,
                        header == ae__idx_header ? "8 (bytes)" : "i or u, whole numbers");
    if (labels && y.n != x.n)
        return ae__fail(arena, AE_E_FORMAT, "%s%s holds %z labels, %s holds %z images",
                        labels->name, labels->part, y.n, images->name, x.n);
    void *data;
    int32_t *label = NULL;
    const int bytes = (x.kind == 'u' || x.kind == 'b') && x.size == 1;
    status = ae__data_alloc(arena, images->name, &data, labels ? &label : NULL,
                            x.values * (bytes ? 1 : 4), x.n);
    if (status != AE_SUCCESS) {     // was the size a lie? then that is what to say
        size_t need = x.values * x.size, got = ae__source_read(images, NULL, need);
        return got < need ? ae__source_cut(arena, images, got, need, x.shape) : status;
    }
    ae_dataset out;
    memset(&out, 0, sizeof out);
    if (bytes)
        out.bytes = (uint8_t *)data;
    else
        out.floats = (float *)data;
    status = ae__idx_payload(arena, images, &x, bytes ? (uint8_t *)data : NULL, NULL,
                             (float *)data);
    if (status == AE_SUCCESS && labels)
        status = ae__idx_payload(arena, labels, &y, NULL, label, NULL);
    if (status != AE_SUCCESS)
        return status;
    out.labels = label;
    out.n = x.n;
    out.c = x.c;
    out.h = x.h;
    out.w = x.w;
    out.scale = bytes && x.kind == 'u' ? 1.0f / 255.0f : 1.0f;
    out.deviation = 1.0f;
    *d = out;
    return AE_SUCCESS;
}

// Needs of the arena what it leaves there and no more: n c h w bytes (floats where the file has
// no bytes), and 4 n for labels.
static ae_status ae__idx_read(ae_dataset *d, ae_arena *arena, ae__source *images,
                              ae__source *labels, ae__array_header *header)
{
    size_t mark = ae_arena_used(arena);
    ae_status status = ae__idx_both(d, arena, images, labels, header);
    if (status != AE_SUCCESS)
        ae_arena_rewind(arena, mark);
    ae__source_end(images);
    if (labels)
        ae__source_end(labels);
    return status;
}

AE_API ae_status ae_idx_parse(ae_dataset *d, ae_arena *arena, const void *images, size_t images_n,
                              const void *labels, size_t labels_n, const char *name)
{
    ae__source a, b;
    ae__source_bytes(&a, images, images_n, name, "");
    ae__source_bytes(&b, labels, labels_n, name, " labels");
    return ae__idx_read(d, arena, &a, labels ? &b : NULL, ae__idx_header);
}

// A decimal number that fills all of s: sign, digits, point, exponent. strtod would follow the
// user's locale. Up to 19 digits are kept as an integer and scaled by one power of ten in double:
// within a few units of double's last place, far below one of float's. 0: not a number, or none
// that a float can hold ("nan", "inf", "1e999", "").
static int ae__number(const char *s, double *v)
{
    int negative = *s == '-', digits = 0, exponent = 0, fraction = 0;
    uint64_t m = 0;
    if (*s == '-' || *s == '+')
        s++;
    for (; (*s >= '0' && *s <= '9') || (*s == '.' && !fraction); s++) {
        if (*s == '.') {
            fraction = 1;
            continue;
        }
        int keep = m < 1000000000000000000u;    // 10^18: one more digit fits 64 bits
        if (keep)
            m = m * 10 + (uint64_t)(*s - '0');
        exponent += (keep ? 0 : 1) - fraction;
        digits++;
    }
    if (digits == 0)
        return 0;
    if (*s == 'e' || *s == 'E') {
        int minus = s[1] == '-', e = 0;
        s += s[1] == '-' || s[1] == '+' ? 2 : 1;
        if (*s < '0' || *s > '9')
            return 0;
        for (; *s >= '0' && *s <= '9'; s++)
            e = e < 10000 ? e * 10 + (*s - '0') : e;
        exponent += minus ? -e : e;
    }
    if (*s != 0)
        return 0;
    // 1 to 10^19 times 10^60 is no float, times 10^-80 is 0: nothing beyond need be told apart
    int power = exponent > 60 ? 60 : exponent < -80 ? -80 : exponent;
    double scale = 1.0, ten = 10.0, x = (double)m;
    for (int k = power < 0 ? -power : power; k > 0; k >>= 1, ten *= ten)
        if (k & 1)
            scale *= ten;
    x = power < 0 ? x / scale : x * scale;
    const double limit = 3.4028234663852886e38;         // FLT_MAX, printed as 3.4028235e38
    if (x > 3.4028235677973366e38)
        return 0;
    x = x > limit ? limit : x;
    *v = negative ? -x : x;
    return 1;
}

#define AE__FIELD 127           // characters of a CSV field: a number has no more

// The next field without the blanks around it. Returns what ended it: ',' '\n' or 0, the end.
static int ae__csv_field(ae__source *s, char field[AE__FIELD + 1])
{
    int n = 0, c = 0;
    while (s->left > 0 || ae__source_more(s)) {
        c = *s->at++;
        s->left--;
        if (c == ',' || c == '\n')
            break;
        if (n == 0 && (c == ' ' || c == '\t' || c == '\r'))
            continue;
        if (n < AE__FIELD)
            field[n++] = (char)(c ? c : '?');
        else
            field[0] = '?';         // too long to be a number
        c = 0;
    }
    while (n > 0 && (field[n - 1] == ' ' || field[n - 1] == '\t' || field[n - 1] == '\r'))
        n--;
    field[n] = 0;
    return c == ',' || c == '\n' ? c : 0;
}

typedef struct ae__csv {
    size_t line;                // from 1
    size_t row, rows;           // rows so far; of how many, 0 while they are counted
    int fields;                 // of a line, label included; 0 before the first row
    int has_labels;
    int header;                 // seen one
    int whole;                  // every value is one of 0 ... 255
    int label_ok;               // in this line
    uint8_t *bytes;             // where values go: one of the two, or neither while counting
    float *floats;
    int32_t *labels;
} ae__csv;

// Takes value v of field number `field` (from 0) of the line: looks at it, and stores it if there
// is a place. A file that changed between the two passes can only lead to a missing place.
static void ae__csv_take(ae__csv *t, int field, double v)
{
    int place = t->row < t->rows && field < t->fields, whole = v == floor(v);
    if (t->has_labels && field == 0) {
        t->label_ok = whole && v >= 0.0 && v <= 2147483647.0;
        if (place && t->label_ok)
            t->labels[t->row] = (int32_t)v;
        return;
    }
    int byte = whole && v >= 0.0 && v <= 255.0;
    t->whole = t->whole && byte;
    if (!place)
        return;
    int skip = t->has_labels ? 1 : 0;
    size_t at = t->row * (size_t)(t->fields - skip) + (size_t)(field - skip);
    if (t->floats)
        t->floats[at] = (float)v;
    else if (byte)
        t->bytes[at] = (uint8_t)v;
}

// One line. *end: 0 when it was the last.
static ae_status ae__csv_line(ae_arena *arena, ae__source *s, ae__csv *t, int *end)
{
    char field[AE__FIELD + 1];
    double v;
    int fields = 0;
    t->line++;
    t->label_ok = 1;
    do {
        *end = ae__csv_field(s, field);
        if (fields == 0 && *end != ',' && field[0] == 0)
            return AE_SUCCESS;                          // a blank line
        if (fields == 0x7fffffff)
            return ae__fail(arena, AE_E_FORMAT, "%s line %z: too many fields", s->name, t->line);
        if (ae__number(field, &v)) {
            ae__csv_take(t, fields++, v);
        } else if (t->row == 0 && !t->header) {         // the first line may be names
            t->header = 1;
            t->whole = 1;
            while (*end == ',')
                *end = ae__csv_field(s, field);
            return AE_SUCCESS;
        } else {
            field[24] = 0;                              // enough to recognise it by
            for (char *p = field; *p; p++)
                *p = *p < 32 || *p > 126 ? '?' : *p;
            return ae__fail(arena, AE_E_FORMAT,
                            "%s line %z, column %d: '%s' is not a finite number", s->name, t->line,
                            fields + 1, field);
        }
    } while (*end == ',');
    if (t->fields == 0)
        t->fields = fields;
    if (fields != t->fields)
        return ae__fail(arena, AE_E_FORMAT, "%s line %z has %d fields, the first row has %d",
                        s->name, t->line, fields, t->fields);
    if (!t->label_ok)
        return ae__fail(arena, AE_E_FORMAT,
                        "%s line %z, column 1: the label is no whole number from 0 to 2147483647",
                        s->name, t->line);
    t->row++;
    return AE_SUCCESS;
}

// Runs over all lines: once to check and count them, once more to store them.
static ae_status ae__csv_pass(ae_arena *arena, ae__source *s, ae__csv *t)
{
    int end = '\n';
    t->line = t->row = 0;
    t->header = 0;
    t->whole = 1;
    ae_status status = ae__source_begin(arena, s);
    if (status == AE_SUCCESS && s->left >= 3 && memcmp(s->at, "\xef\xbb\xbf", 3) == 0)
        ae__source_read(s, NULL, 3);                    // the byte order mark of UTF-8
    while (status == AE_SUCCESS && end)
        status = ae__csv_line(arena, s, t, &end);
    if (status == AE_SUCCESS && s->broken)
        status = ae__source_cut(arena, s, 0, 0, "");
    ae__source_end(s);
    return status;
}

static ae_status ae__csv_both(ae_dataset *d, ae_arena *arena, ae__source *s, int labels)
{
    ae__csv t;
    memset(&t, 0, sizeof t);
    t.has_labels = labels != 0;
    ae_status status = ae__csv_pass(arena, s, &t);
    if (status != AE_SUCCESS)
        return status;
    if (t.row == 0)
        return ae__fail(arena, AE_E_FORMAT, "%s holds no row of numbers", s->name);
    int columns = t.fields - t.has_labels, whole = t.whole;
    if (columns == 0)
        return ae__fail(arena, AE_E_FORMAT, "%s holds labels and no values", s->name);
    if (t.row >> 31 > 1 || t.row > SIZE_MAX / 16 / (size_t)columns)
        return ae__fail(arena, AE_E_FORMAT, "%s: %zx%d values are too many", s->name, t.row,
                        columns);
    void *data;
    size_t rows = t.row, values = rows * (size_t)columns;
    status = ae__data_alloc(arena, s->name, &data, labels ? &t.labels : NULL,
                            whole ? values : values * 4, rows);
    if (status != AE_SUCCESS)
        return status;
    t.rows = rows;
    t.bytes = whole ? (uint8_t *)data : NULL;
    t.floats = whole ? NULL : (float *)data;
    status = ae__csv_pass(arena, s, &t);
    if (status != AE_SUCCESS)
        return status;
    if (t.row != rows || t.whole != whole)
        return ae__fail(arena, AE_E_IO, "%s changed while it was read", s->name);
    memset(d, 0, sizeof *d);
    d->bytes = t.bytes;
    d->floats = t.floats;
    d->labels = t.labels;
    d->n = rows;
    d->c = columns;
    d->h = d->w = 1;
    d->scale = d->deviation = 1.0f;
    return AE_SUCCESS;
}

// Needs of the arena what it leaves there and no more: 1 byte a value if all are whole numbers
// 0 ... 255, else 4, and 4 a label.
static ae_status ae__csv_read(ae_dataset *d, ae_arena *arena, ae__source *s, int labels)
{
    size_t mark = ae_arena_used(arena);
    ae_status status = ae__csv_both(d, arena, s, labels);
    if (status != AE_SUCCESS)
        ae_arena_rewind(arena, mark);
    return status;
}

AE_API ae_status ae_csv_parse(ae_dataset *d, ae_arena *arena, const char *text, size_t text_n,
                              int labels, const char *name)
{
    ae__source s;
    ae__source_bytes(&s, text, text_n, name, "");
    return ae__csv_read(d, arena, &s, labels);
}

#ifndef AE_NO_STDIO

AE_API ae_status ae_idx_load(ae_dataset *d, ae_arena *arena, const char *images,
                             const char *labels)
{
    ae__source a, b;
    ae__source_path(&a, images);
    ae__source_path(&b, labels ? labels : "");
    return ae__idx_read(d, arena, &a, labels ? &b : NULL, ae__idx_header);
}

AE_API ae_status ae_csv_load(ae_dataset *d, ae_arena *arena, const char *path, int labels)
{
    ae__source s;
    ae__source_path(&s, path);
    return ae__csv_read(d, arena, &s, labels);
}

#define AE__PATH 1024           // bytes of a path put together here, its 0 included

// path = dir/name, or dir/name.gz where only that exists. 0: too long.
static int ae__mnist_path(char path[AE__PATH], const char *dir, const char *name)
{
    size_t a = strlen(dir), b = strlen(name);
    if (a + b + 5 > AE__PATH)                           // a slash, ".gz" and the 0
        return 0;
    memcpy(path, dir, a);
    if (a > 0 && dir[a - 1] != '/' && dir[a - 1] != '\\')
        path[a++] = '/';
    memcpy(path + a, name, b + 1);
    for (int tries = 0; tries < 2; tries++) {
        void *file = ae__file_open(path);
        if (file) {
            ae__file_close(file);
            return 1;
        }
        memcpy(path + a + b, tries == 0 ? ".gz" : "", tries == 0 ? 4 : 1);
    }
    return 1;                   // neither exists: the error will name the plain one
}

static ae_status ae__mnist(ae_dataset *d, ae_arena *arena, const char *dir, const char *images,
                           const char *labels)
{
    char a[AE__PATH], b[AE__PATH];
    if (!ae__mnist_path(a, dir, images) || !ae__mnist_path(b, dir, labels))
        return ae__fail(arena, AE_E_IO, "the path of %s is longer than %d bytes", images,
                        AE__PATH - 1);
    return ae_idx_load(d, arena, a, b);
}

AE_API ae_status ae_mnist_load(ae_dataset *train, ae_arena *arena, const char *dir)
{
    return ae__mnist(train, arena, dir, "train-images-idx3-ubyte", "train-labels-idx1-ubyte");
}

AE_API ae_status ae_mnist_load_test(ae_dataset *test, ae_arena *arena, const char *dir)
{
    return ae__mnist(test, arena, dir, "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte");
}

#endif

/* ---------------------------------------------------------------------------
   >>train   epochs over a dataset                                            */

// What a dataset must be for this model; labels: nonzero when the model's must be there.
static ae_status ae__data_check(ae_model *m, const ae_dataset *d, int labels)
{
    const ae_tensor *x = ae__first_input(m);
    if (d == NULL || d->n == 0 || (d->bytes == NULL && d->floats == NULL))
        return ae__report(m, AE_E_ARG, d ? "the dataset is empty" : "the dataset is NULL");
    if (x == NULL)
        return ae__report(m, AE_E_ARG, "the model has no input");
    if (ae__data_features(d) != ae__size(x))
        return ae__report(m, AE_E_SHAPE, "samples of %dx%dx%d do not fit %s of %dx%dx%d", d->c,
                          d->h, d->w, x->name, x->c, x->h, x->w);
    for (const ae_tensor *t = m->first; t && labels && !d->labels; t = t->next)
        if (t->op == &ae__op_labels)
            return ae__report(m, AE_E_ARG, "%s: the dataset has no labels", t->name);
    return AE_SUCCESS;
}

#define AE__FEED_LEAST 16384    /* values that are worth a thread                               */

static ae__scaling ae__scaling_of(const ae_dataset *d)
{
    ae__scaling s;
    s.scale = ae__or(d->scale, 1.0f);
    s.mean = d->mean;
    s.deviation = ae__or(d->deviation, 1.0f);
    s.known = 1;
    return s;
}

typedef struct ae__feeding {
    ae_model *m;
    const ae_dataset *d;
    size_t first, n, repeat;
    uint64_t order;
    float *x;                   // where values, labels (NULL: the model's own) and rows go
    int32_t *labels;
    size_t *rows;
    int tasks;
} ae__feeding;

#define AE__STREAM_ORDER 0x53485546u    /* a stream of its own */

// Sample i of those that are fed: its row in d.
static size_t ae__fed_row(const ae__feeding *f, size_t i)
{
    size_t sample = (f->first + i) / f->repeat;
    ae_random r;
    r.seed = f->m->seed;
    r.step = f->order;
    r.stream = AE__STREAM_ORDER;
    return ae__data_row(f->d, f->order ? (size_t)ae_random_permute(sample, f->d->n, r) : sample);
}

static void ae__feed_job(void *arg, int task)
{
    const ae__feeding *f = (const ae__feeding *)arg;
    const ae_dataset *d = f->d;
    size_t features = ae__data_features(d);
    size_t tasks = (size_t)f->tasks, end = f->n * ((size_t)task + 1) / tasks;
    for (size_t i = f->n * (size_t)task / tasks; i < end; i++) {
        size_t row = ae__fed_row(f, i);
        ae__data_values(&f->m->exec, f->x + i * features, d, row * features, features);
        f->rows[i] = row;
        if (f->labels && d->labels)
            f->labels[i] = d->labels[row];
        for (const ae_tensor *t = f->m->first; t && !f->labels; t = t->next)
            if (t->op == &ae__op_labels && d->labels)
                memcpy(ae__value(f->m, t) + i, d->labels + row, sizeof *d->labels);
    }
}

static ae__feeding ae__feeding_of(ae_model *m, const ae_dataset *d, size_t first, size_t n,
                                  uint64_t order, size_t repeat)
{
    ae__feeding f;
    memset(&f, 0, sizeof f);
    f.m = m;
    f.d = d;
    f.first = first;
    f.n = n;
    f.repeat = repeat;
    f.order = order;
    f.tasks = n * ae__data_features(d) < AE__FEED_LEAST ? 1 : ae__least(m->exec.threads, (int)n);
    return f;
}

// Samples first ... first+n-1 of permutation `order` (0: none) into the inputs, where each stands
// `repeat` times in a row. All checked.
static void ae__feed(ae_model *m, const ae_dataset *d, size_t first, int n, uint64_t order,
                     size_t repeat)
{
    m->sample = 0;
    m->forward_n = 0;
    m->fed = ae__scaling_of(d);
    AE__GPU(m, ae__cu_feed(m, d, first, n, order, repeat); return);
    ae__feeding f = ae__feeding_of(m, d, first, (size_t)n, order, repeat);
    f.x = ae__value(m, ae__first_input(m));
    f.rows = m->rows;
    ae__parallel(&m->exec, f.tasks, ae__feed_job, &f);
}

AE_API ae_status ae_feed(ae_model *m, const ae_dataset *d, size_t first, int n, uint64_t order)
{
    ae_status status = ae__begin(m, n);
    if (status || (status = ae__data_check(m, d, 1)) != AE_SUCCESS)
        return status;
    if (first >= d->n || (size_t)n > d->n - first)
        return ae__report(m, AE_E_ARG, "samples %z to %z of a dataset of %z", first,
                          first + (size_t)n - 1, d->n);
    ae__feed(m, d, first, n, order, 1);
    return AE_SUCCESS;
}

AE_API ae_status ae_data_upload(ae_model *m, const ae_dataset *d)
{
    ae_status status = ae__begin(m, 1);
    if (status || (status = ae__data_check(m, d, 0)) != AE_SUCCESS)
        return status;
    AE__GPU(m, return ae__cu_upload(m, d));
    return AE_SUCCESS;
}

AE_API ae_status ae_predict_dataset(ae_model *m, const ae_tensor *t, float *out,
                                    const ae_dataset *d)
{
    ae_status status = ae__begin(m, 1);
    if (status || (status = ae__owned(m, t)) != AE_SUCCESS
        || (status = ae__data_check(m, d, 0)) != AE_SUCCESS)
        return status;
    if (t->loss >= 0)
        return ae__report(m, AE_E_ARG, "%s is a loss: use ae_evaluate", t->name);
    for (size_t done = 0; done < d->n;) {
        size_t n = ae__min((size_t)m->batch, d->n - done);
        ae__feed(m, d, done, (int)n, 0, 1);
        m->sample = done;
        status = ae_run(m, t, (int)n);
        if (status)
            return status;
        ae__copy_out(m, out + done * ae__size(t), ae__value(m, t),
                     n * ae__size(t) * sizeof(float));
        done += n;
    }
    AE__GPU(m, return ae__cu_sync(m));
    return AE_SUCCESS;
}

// ---- work with codes

#define AE__STREAM_CODES 0x434f4445u    /* a stream of its own */

AE_API ae_status ae_sample(ae_model *m, const ae_tensor *z, const ae_tensor *y, float *out,
                           size_t n, uint64_t draw)
{
    ae_status status = ae__begin(m, 1);
    if (status || (status = ae__owned(m, z)) != AE_SUCCESS
        || (status = ae__owned(m, y)) != AE_SUCCESS)
        return status;
    const size_t size = ae__size(z), mark = ae_arena_used(m->arena);
    float *codes = (float *)ae_alloc(m->arena, (size_t)m->batch * size * sizeof(float));
    ae_random r;
    r.seed = m->seed;
    r.step = draw;
    r.stream = AE__STREAM_CODES;
    if (codes == NULL)
        return ae__report(m, AE_E_MEMORY, "ae_sample: a batch of codes needs %z bytes, %z are left",
                          (size_t)m->batch * size * sizeof(float), ae_arena_left(m->arena));
    for (size_t done = 0; done < n && status == AE_SUCCESS;) {
        const size_t count = ae__min((size_t)m->batch, n - done);
        ae_random_normal(codes, count * size, done * size, r);
        status = ae_predict_from(m, z, y, out ? out + done * ae__size(y) : NULL, codes, count);
        done += count;
    }
    ae_arena_rewind(m->arena, mark);
    return status;
}

AE_API void ae_interpolate(float *out, const float *a, const float *b, int steps, int F,
                           int spherical)
{
    double aa = 0, bb = 0, ab = 0;
    for (int j = 0; j < F; j++) {
        aa += (double)a[j] * (double)a[j];
        bb += (double)b[j] * (double)b[j];
        ab += (double)a[j] * (double)b[j];
    }
    const double cosine = ab / sqrt(aa * bb);       // not below 1 without an angle between them
    const double angle = spherical && fabs(cosine) < 0.9999 ? acos(cosine) : 0.0;
    for (int i = 0; i < steps; i++, out += F) {
        const double t = steps > 1 ? (double)i / (steps - 1) : 0.0;
        const double u = angle > 0.0 ? sin((1.0 - t) * angle) / sin(angle) : 1.0 - t;
        const double v = angle > 0.0 ? sin(t * angle) / sin(angle) : t;
        for (int j = 0; j < F; j++)
            out[j] = (float)(u * (double)a[j] + v * (double)b[j]);
    }
}

AE_API void ae_latent_grid(float *out, int side, float range, int F)
{
    for (int i = 0; i < side; i++)
        for (int j = 0; j < side; j++, out += F) {
            const float step = side > 1 ? 2.0f * range / (float)(side - 1) : 0.0f;
            memset(out, 0, (size_t)F * sizeof *out);
            out[0] = side > 1 ? -range + (float)j * step : 0.0f;
            if (F > 1) out[1] = side > 1 ? range - (float)i * step : 0.0f;
        }
}

#ifndef AE_NO_TRAIN
AE_API ae_status ae_active_units(ae_model *m, const ae_tensor *mu, const ae_dataset *d,
                                 int *active)
{
    ae_status status = ae__begin(m, 1);
    if (status || (status = ae__owned(m, mu)) != AE_SUCCESS
        || (status = ae__data_check(m, d, 0)) != AE_SUCCESS)
        return status;
    if (mu->loss >= 0)
        return ae__report(m, AE_E_ARG, "ae_active_units: %s is a loss", mu->name);
    const size_t size = ae__size(mu), mark = ae_arena_used(m->arena);
    double *mean = (double *)ae_alloc(m->arena, 2 * size * sizeof(double));
    if (mean == NULL)
        return ae__report(m, AE_E_MEMORY, "ae_active_units needs %z bytes, %z are left",
                          2 * size * sizeof(double), ae_arena_left(m->arena));
    double *square = mean + size;
    *active = 0;
    for (size_t done = 0, seen = 0; done < d->n && status == AE_SUCCESS;) {
        const size_t n = ae__min((size_t)m->batch, d->n - done);
        ae__feed(m, d, done, (int)n, 0, 1);
        status = ae_run(m, mu, (int)n);
        const float *value = status ? NULL : ae__read(m, ae__value(m, mu), n * size);
        if (status == AE_SUCCESS && value == NULL)
            status = m->status;
        for (size_t i = 0; i < n * size && value; i++) {        // Welford 1962
            const double x = (double)value[i], off = x - mean[i % size];
            seen += i % size == 0;
            mean[i % size] += off / (double)seen;
            square[i % size] += off * (x - mean[i % size]);
        }
        done += n;
    }
    for (size_t j = 0; j < size && status == AE_SUCCESS; j++)
        *active += square[j] / (double)d->n > 0.01;
    ae_arena_rewind(m->arena, mark);
    if (status == AE_SUCCESS && *active == 0)
        return ae__report(m, AE_W_COLLAPSED, "%s: none of its %z units varies over the data: the "
                          "code tells nothing; lower beta, or use ae_warm_up or free bits",
                          mu->name, size);
    return status;
}
#endif

AE_API const int32_t *ae_vq_index(ae_model *m, const ae_tensor *q)
{
    if (ae__begin(m, 1) || ae__owned(m, q))
        return NULL;
    if (q->op != &ae__op_vq) {
        ae__report(m, AE_E_ARG, "ae_vq_index: %s is not from ae_vq", q->name);
        return NULL;
    }
    return (const int32_t *)(const void *)ae__read(m, ae__index(m, q),
                                                   (size_t)m->batch * ae__size(q->in[1]));
}

AE_API int ae_vq_usage(ae_model *m, const ae_tensor *q, double *perplexity)
{
    if (ae_vq_index(m, q) == NULL)
        return 0;
    const float *count = ae_param_data(m, q->running[0]);
    double total = 0, entropy = 0;
    int used = 0;
    for (int k = 0; k < q->vq.codes; k++)
        total += (double)count[k];
    for (int k = 0; k < q->vq.codes && total > 0.0; k++) {
        const double p = (double)count[k] / total;
        used += p > 0.01 / q->vq.codes;
        entropy -= p > 0.0 ? p * log(p) : 0.0;
    }
    if (perplexity)
        *perplexity = exp(entropy);
    return used;
}

#ifndef AE_NO_TRAIN
// How many samples of d an epoch has, with those that are fed again.
static size_t ae__fed(const ae_model *m, const ae_dataset *d)
{
    return d->n * (size_t)m->repeat;
}

// Adds the losses of n samples to the sums in ae__eval_sums. first: they begin here; last: of a
// step, whose judgement takes them on.
static void ae__sum_losses(ae_model *m, int n, int first, int last)
{
    AE__GPU(m, ae__cu_sum_losses(m, n, first, last); return);
    (void)first, (void)last;
    double *sums = ae__eval_sums(m);
    for (const ae_tensor *t = m->first; t; t = t->next)
        if (ae__is_term(t)) {
            double value = (double)ae__loss_values(m)[t->loss];
            sums[t->loss] += t->reduction == AE_SUM ? value : value * n;
        }
}

static void ae__set_means(ae_model *m, const double *sums, uint64_t samples)
{
    for (int i = 0; i < m->losses; i++)
        ae__loss_means(m)[i] = sums[i] / (double)samples;
}

/* The gradient of the next `samples` samples, in batches, as of one batch of them all; their
   losses summed. Nothing but GRAD and those sums changes. */
static ae_status ae__gather_gradient(ae_model *m, const ae_dataset *d, size_t samples, int batch)
{
    const ae__state *s = ae__state_of(m);
    ae__zero_others(m);
    memset(ae__eval_sums(m), 0, (size_t)m->losses * sizeof(double));
    for (size_t done = 0; done < samples;) {
        int n = (int)ae__min((size_t)batch, samples - done);
        ae__feed(m, d, (size_t)s->cursor + done, n, d->keep_order ? 0 : s->epoch + 1,
                 (size_t)m->repeat);
        m->sample = done;
        ae_status status = ae__forward(m, n);
        if (status && done == 0)
            ae__zero_grad(m);
        if (status)
            return status;
        m->fresh = done == 0;
        ae__backward(m, 1.0f, (double)n / (double)samples);
        m->fresh = 0;
        ae__sum_losses(m, n, done == 0, done + (size_t)n == samples);
        done += (size_t)n;
    }
    return AE_SUCCESS;
}

// The work of a step on the next `samples` samples: statistics are kept if it fails.
static ae_status ae__compute_step(ae_model *m, const ae_dataset *d, const ae_optim *o, float lr,
                                  int batch, size_t samples)
{
    ae__statistics(m, 0);
    ae_status status = ae__gather_gradient(m, d, samples, batch);
    if (status == AE_SUCCESS)
        status = ae__update_params(m, o, lr);
    if (status)
        ae__statistics(m, 1);
    return status;
}

/* One optimiser step on the next `batches` batches of at most `batch` samples, or on what is left
   of the epoch. */
static ae_status ae__step_on(ae_model *m, const ae_dataset *d, const ae_optim *o, float lr,
                             int batch, int batches)
{
    ae__state *s = ae__state_of(m);
    double *sums = ae__loss_sums(m);
    const size_t all = ae__fed(m, d);
    if (s->cursor >= all)       // another dataset than last time
        s->cursor = 0;
    size_t samples = ae__min(ae__sat_mul((size_t)batch, (size_t)batches), all - (size_t)s->cursor);
    m->epoch_at = (float)s->epoch + (float)s->cursor / (float)all;
    ae_status status;
#ifdef AE_USE_CUDA
    if (m->exec.device)
        status = ae__cu_step(m, d, o, lr, batch, samples);
    else
#endif
    status = ae__compute_step(m, d, o, lr, batch, samples);
    if (status)
        return status;
    if (!m->exec.device) {      // a GPU counts itself
        if (s->cursor == 0) {   // a new epoch
            memset(sums, 0, (size_t)m->losses * sizeof *sums);
            s->seen = 0;
        }
        for (int i = 0; i < m->losses; i++)
            sums[i] += ae__eval_sums(m)[i];
        s->seen += samples;
        ae__set_means(m, sums, s->seen);
    }
    s->cursor += samples;
    if (s->cursor == all) {
        s->cursor = 0;
        s->epoch++;
    }
    return AE_SUCCESS;
}

static ae_status ae__training_check(ae_model *m, const ae_dataset *d, const ae_optim *o)
{
    ae_status status = ae__begin_training(m, 1);
    if (status == AE_SUCCESS)
        status = ae__data_check(m, d, 1);
    return status == AE_SUCCESS ? ae__optim_check(m, o) : status;
}

AE_API ae_status ae_train_step(ae_model *m, const ae_dataset *d, const ae_optim *o)
{
    ae_status status = ae__training_check(m, d, o);
    return status ? status : ae__step_on(m, d, o, ae__optim_lr(o), m->batch, 1);
}

AE_API float ae_epoch(ae_model *m, const ae_dataset *d, const ae_optim *o)
{
    ae_status status = ae__training_check(m, d, o);
    if (status)
        return 0.0f;
    uint64_t epoch = ae__state_of(m)->epoch;
    while (status == AE_SUCCESS && ae__state_of(m)->epoch == epoch)
        status = ae__step_on(m, d, o, ae__optim_lr(o), m->batch, 1);
    AE__GPU(m, if (status == AE_SUCCESS) status = ae__cu_sync(m));
    return status ? 0.0f : ae_mean_loss(m, NULL);
}

AE_API ae_status ae_evaluate(ae_model *m, const ae_dataset *d, float *loss)
{
    ae_status status = ae__begin(m, 1);
    if (status || (status = ae__data_check(m, d, 1)) != AE_SUCCESS)
        return status;
    memset(ae__eval_sums(m), 0, (size_t)m->losses * sizeof(double));
    const size_t all = ae__fed(m, d);
    for (size_t done = 0; done < all;) {
        int n = (int)ae__min((size_t)m->batch, all - done);
        ae__feed(m, d, done, n, 0, (size_t)m->repeat);
        m->sample = done;
        status = ae__losses(m, n, 0);
        if (status)
            return status;
        ae__sum_losses(m, n, done == 0, 0);
        done += (size_t)n;
    }
    AE__GPU(m, status = ae__cu_sync(m); if (status) return status);
    ae__set_means(m, ae__eval_sums(m), all);
    if (loss)
        *loss = ae_mean_loss(m, NULL);
    return AE_SUCCESS;
}

// ln p(x) of sample `at` of d by k draws of z, in batches; codes (batch,F), normal (2,F).
static ae_status ae__score_sample(ae_model *m, const ae_tensor *z, const ae_tensor *px,
                                  const ae_dataset *d, size_t at, int k, float *codes,
                                  double *score)
{
    const size_t size = ae__size(z);
    float *mu = codes + (size_t)m->batch * size, *logvar = mu + size;
    double top = 0, sum = 0;    // of the weights: e^top sum
    ae_random r;
    r.seed = m->seed;
    r.step = (uint64_t)at;
    r.stream = AE__STREAM_CODES + 1;
    for (int part = 0; part < 2; part++) {
        const ae_tensor *t = part ? z->in[2] : z->in[0];
        ae__feed(m, d, at * (size_t)m->batch, 1, 0, (size_t)m->batch);
        ae_status status = ae_run(m, t, 1);
        if (status)
            return status;
        ae__copy_out(m, part ? logvar : mu, ae__value(m, t), size * sizeof(float));
    }
    for (int done = 0; done < k;) {
        const int n = k - done < m->batch ? k - done : m->batch;
        for (size_t i = 0; i < (size_t)n; i++)
            ae_gaussian_sample_forward(&m->exec, codes + i * size, NULL, mu, logvar,
                                       ((size_t)done + i) * size, r, size);
        ae__feed(m, d, at * (size_t)m->batch, n, 0, (size_t)m->batch);
        ae_status status = ae_run_from(m, z, codes, px, n);
        if (status)
            return status;
        const float *log_px = ae__read(m, ae__value(m, px), (size_t)n);
        if (log_px == NULL)
            return m->status;
        for (int i = 0; i < n; i++) {
            float pz, qz;
            ae_log_normal_forward(&m->exec, &pz, codes + (size_t)i * size, NULL, NULL, 1,
                                  (int)size);
            ae_log_normal_forward(&m->exec, &qz, codes + (size_t)i * size, mu, logvar, 1,
                                  (int)size);
            const double w = (double)log_px[i] + (double)pz - (double)qz;
            if (done + i == 0 || w > top) {
                sum = done + i == 0 ? 1.0 : sum * exp(top - w) + 1.0;
                top = w;
            } else
                sum += exp(w - top);
        }
        done += n;
    }
    *score = top + log(sum / k);
    return AE_SUCCESS;
}

AE_API ae_status ae_iwae_score(ae_model *m, const ae_tensor *z, const ae_tensor *px,
                               const ae_dataset *d, int k, float *scores, double *mean)
{
    ae_status status = ae__begin(m, 1);
    if (status || (status = ae__owned(m, z)) != AE_SUCCESS
        || (status = ae__owned(m, px)) != AE_SUCCESS
        || (status = ae__data_check(m, d, 1)) != AE_SUCCESS)
        return status;
    if (k < 1 || z->op != &ae__op_gaussian_sample || ae__size(px) != 1 || px->loss >= 0)
        return ae__report(m, AE_E_ARG, "ae_iwae_score: k is %d, at least 1; %s must be from "
                          "ae_gaussian_sample, and %s one number a sample", k, z->name, px->name);
    const size_t mark = ae_arena_used(m->arena);
    const size_t bytes = ((size_t)m->batch + 2) * ae__size(z) * sizeof(float);
    float *codes = (float *)ae_alloc(m->arena, bytes);
    double sum = 0;
    if (codes == NULL)
        return ae__report(m, AE_E_MEMORY, "ae_iwae_score needs %z bytes, %z are left", bytes,
                          ae_arena_left(m->arena));
    for (size_t i = 0; i < d->n && status == AE_SUCCESS; i++) {
        double score = 0;
        status = ae__score_sample(m, z, px, d, i, k, codes, &score);
        if (scores)
            scores[i] = (float)score;
        sum += score;
    }
    if (mean && status == AE_SUCCESS)
        *mean = sum / (double)d->n;
    ae_arena_rewind(m->arena, mark);
    return status;
}

/* What ae_fit knows while it runs. */
typedef struct ae__fit {
    ae_model *m;
    const ae_dataset *train, *held;     // held: NULL without validation
    const ae_optim *optim;
    ae_fit_options options;
    ae_progress progress;
    ae_fit_result result;
    unsigned char *best;                // snapshot, NULL without patience
} ae__fit;

static int ae__tell(ae__fit *f, int epoch_end)
{
    f->progress.epoch_end = epoch_end;
    return f->options.callback && f->options.callback(f->options.user, &f->progress);
}

// One epoch; *stop: the callback wants to end.
static ae_status ae__fit_epoch(ae__fit *f, int *stop)
{
    ae_model *m = f->m;
    const ae__state *s = ae__state_of(m);
    size_t n = ae__fed(m, f->train), batch = (size_t)f->options.batch;
    uint64_t epoch = s->epoch;
    f->progress.batches = (n + batch - 1) / batch;
    f->progress.improved = 0;
    f->progress.validation = 0.0f;
    while (s->epoch == epoch && !*stop) {
        float t = (float)epoch + (float)s->cursor / (float)n;
        f->progress.lr = ae_schedule_lr(&f->options.schedule, ae__optim_lr(f->optim), t);
        ae_status status = ae__step_on(m, f->train, f->optim, f->progress.lr, f->options.batch,
                                       f->options.accumulate);
        if (status)
            return status;
        f->progress.samples = s->epoch == epoch ? (size_t)s->cursor : n;
        f->progress.batch = (f->progress.samples + batch - 1) / batch;
        if (f->options.callback || s->epoch != epoch) {     // a look: a GPU has to finish for it
            AE__GPU(m, status = ae__cu_sync(m); if (status) return status);
            f->progress.loss = ae_mean_loss(m, NULL);
        }
        *stop = ae__tell(f, 0);
    }
    AE__GPU(m, return ae__cu_sync(m));
    return AE_SUCCESS;
}

// After an epoch: validation, the best so far, the schedule.
static ae_status ae__fit_judge(ae__fit *f)
{
    float watched = f->result.loss = f->progress.loss;
    f->result.epochs++;
    if (f->held) {
        ae_status status = ae_evaluate(f->m, f->held, &watched);
        if (status)
            return status;
        f->progress.validation = watched;
    }
    ae_schedule_update(&f->options.schedule, watched);
    if (ae__finite(watched) && (f->result.best_epoch == 0
                                || watched < f->result.best - f->options.min_delta)) {
        f->result.best = watched;
        f->result.best_epoch = f->result.epochs;
        f->progress.improved = 1;
        if (f->best)
            return ae_snapshot(f->m, f->best);
    }
    return AE_SUCCESS;
}

static ae_status ae__fit_run(ae__fit *f)
{
    int stop = 0;
    ae_status status = AE_SUCCESS;
    f->progress.epochs = f->options.epochs;
    while (status == AE_SUCCESS && f->result.stopped == 0
           && f->result.epochs < f->options.epochs) {
        f->progress.epoch = f->result.epochs + 1;
        status = ae__fit_epoch(f, &stop);
        if (status == AE_SUCCESS && !stop) {
            status = ae__fit_judge(f);
            stop = status == AE_SUCCESS && ae__tell(f, 1);
        }
        if (stop)
            f->result.stopped = 2;
        else if (f->best && f->result.epochs - f->result.best_epoch >= f->options.patience)
            f->result.stopped = 1;
    }
    if (status == AE_SUCCESS && f->best && f->result.best_epoch)
        status = ae_restore(f->m, f->best, ae_snapshot_bytes(f->m));
    return status;
}

static ae_status ae__fit_check(ae_model *m, const ae_dataset *d, const ae_optim *o,
                               const ae_fit_options *p)
{
    ae_status status = ae__training_check(m, d, o);
    if (status)
        return status;
    if (p->epochs < 0 || p->patience < 0 || p->accumulate < 0 || p->batch < 0
        || p->batch > m->batch)
        return ae__report(m, AE_E_ARG, "ae_fit: epochs %d, patience %d, accumulate %d, batch %d: "
                          "none may be negative, and the model was built for batches up to %d",
                          p->epochs, p->patience, p->accumulate, p->batch, m->batch);
    if (p->batch % m->repeat)
        return ae__report(m, AE_E_ARG, "ae_fit: batch %d is not a multiple of iwae's k, %d",
                          p->batch, m->repeat);
    if (ae__bad_number(p->validation) || p->validation >= 1.0f)
        return ae__report(m, AE_E_ARG, "ae_fit: a validation share of %g: from 0 to below 1",
                          (double)p->validation);
    const float numbers[] = {p->schedule.gamma, p->schedule.step, p->schedule.epochs,
                             p->schedule.warmup, p->schedule.lr_min, p->schedule.min_delta,
                             p->min_delta};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (ae__bad_number(numbers[i]))
            return ae__report(m, AE_E_ARG, "ae_fit: the schedule's numbers and min_delta must be "
                              "finite and not negative, one is %g", (double)numbers[i]);
    return p->held_out ? ae__data_check(m, p->held_out, 1) : AE_SUCCESS;
}

AE_API ae_status ae_fit(ae_model *m, const ae_dataset *d, const ae_optim *o,
                        const ae_fit_options *options, ae_fit_result *result)
{
    ae__fit f;
    ae_dataset rest, held;
    memset(&f, 0, sizeof f);
    if (options)
        f.options = *options;
    ae_fit_options *p = &f.options;
    ae_status status = ae__fit_check(m, d, o, p);
    if (status)
        return status;
    p->epochs = p->epochs ? p->epochs : 10;
    p->batch = p->batch ? p->batch : m->batch;
    p->accumulate = p->accumulate ? p->accumulate : 1;
    p->schedule.epochs = ae__or(p->schedule.epochs,
                                (float)(ae__state_of(m)->epoch + (uint64_t)p->epochs));
    f.m = m;
    f.train = d;
    f.held = p->held_out;
    f.optim = o;
    size_t mark = ae_arena_used(m->arena), bytes = ae_snapshot_bytes(m);
    if (p->validation > 0.0f && f.held == NULL) {
        status = ae_dataset_split(&rest, &held, d, m->arena, p->validation, m->seed);
        if (status)
            return ae__report(m, status, "ae_fit: %s", m->arena->error);
        f.train = &rest;
        f.held = &held;
    }
    if (p->patience && (f.best = (unsigned char *)ae_alloc(m->arena, bytes)) == NULL)
        status = ae__report(m, AE_E_MEMORY, "ae_fit: patience keeps a snapshot of %z bytes, the "
                            "arena has %z left", bytes, ae_arena_left(m->arena));
    if (status == AE_SUCCESS)
        status = ae__fit_run(&f);
    ae_arena_rewind(m->arena, mark);
    if (result)
        *result = f.result;
    return status;
}
#endif

#ifdef AE_USE_CUDA
#define AE__CUDA_MODEL
#include "ae_cuda.cuh"
#undef AE__CUDA_MODEL
#endif

/* ---------------------------------------------------------------------------
   >>file   models as .safetensors, arrays as .npy and CSV                    */

// Bytes on their way out: to memory, to a file, or only counted.
typedef struct ae__sink {
    unsigned char *dst;         // memory, capacity bytes of it, or NULL
    size_t capacity;
    void *file;                 // FILE *, or NULL
    size_t size;                // bytes written or counted
    int failed;                 // memory too small, or the file could not be written
} ae__sink;

typedef void ae__producer(ae__sink *out, const void *what);

static ae__sink ae__sink_of(void *dst, size_t capacity)
{
    ae__sink s;
    memset(&s, 0, sizeof s);
    s.dst = (unsigned char *)dst;
    s.capacity = capacity;
    return s;
}

static void ae__put_bytes(ae__sink *s, const void *bytes, size_t n)
{
    if (s->dst) {
        s->failed = s->failed || n > s->capacity - s->size;
        if (!s->failed)
            memcpy(s->dst + s->size, bytes, n);
    }
#ifndef AE_NO_STDIO
    if (s->file)
        s->failed = s->failed || fwrite(bytes, 1, n, (FILE *)s->file) != n;
#endif
    s->size += s->failed ? 0 : n;
}

static void ae__put_text(ae__sink *s, const char *text)
{
    ae__put_bytes(s, text, strlen(text));
}

static void ae__put_number(ae__sink *s, uint64_t v)
{
    char digits[21];
    int i = 20;
    digits[i] = 0;
    do {
        digits[--i] = (char)('0' + (int)(v % 10));
        v /= 10;
    } while (v);
    ae__put_text(s, digits + i);
}

#ifndef AE_NO_STDIO
// A file of what `produce` puts out: under a name beside it first, so that whoever looks at `path`
// never sees half a file, and an old one stays when this one fails.
static ae_status ae__write_file(ae_arena *arena, const char *path, ae__producer *produce,
                                const void *what)
{
    char part[AE__PATH];
    size_t length = path ? strlen(path) : 0;
    if (path == NULL)
        return ae__fail(arena, AE_E_ARG, "cannot write: there is no path");
    if (length + 5 > sizeof part)
        return ae__fail(arena, AE_E_IO, "%s: the path is longer than %d bytes",
                        ae__path_tail(path), AE__PATH - 5);
    memcpy(part, path, length);
    memcpy(part + length, ".tmp", 5);
    ae__sink s = ae__sink_of(NULL, 0);
    s.file = fopen(part, "wb");
    if (!s.file)
        return ae__fail(arena, AE_E_IO, "cannot write %s", ae__path_tail(path));
    produce(&s, what);
    s.failed = fflush((FILE *)s.file) != 0 || s.failed;
    s.failed = fclose((FILE *)s.file) != 0 || s.failed;
#ifdef _WIN32
    if (!s.failed)
        remove(path);           // Windows does not rename over a file
#endif
    s.failed = s.failed || rename(part, path) != 0;
    if (!s.failed)
        return AE_SUCCESS;
    remove(part);
    return ae__fail(arena, AE_E_IO, "cannot write %s", ae__path_tail(path));
}
#endif

// ---- floats as text: no locale, no printf

#define AE__FLOAT_TEXT 24

// x with so many significant digits, 9 at most.
static void ae__decimal(char text[AE__FLOAT_TEXT], float x, int digits)
{
    char number[AE__FLOAT_TEXT], one[2] = {0, 0};
    ae__text t, u;
    uint32_t bits;
    double v = fabs((double)x), unit = 1.0;
    int e = 0;                  // x is d.ddd 10^e
    for (; v >= 10.0; v /= 10.0)
        e++;
    for (; v > 0.0 && v < 1.0; v *= 10.0)
        e--;
    for (int i = 1; i < digits; i++)
        unit *= 10.0;
    v = floor(v * unit + 0.5);
    if (v >= 10.0 * unit) {     // 9.99 rounds up to the next power
        v /= 10.0;
        e++;
    }
    u.at = number;
    u.end = number + sizeof number - 1;
    ae__put_size(&u, (size_t)v);
    int n = (int)strlen(number);
    while (n > 1 && number[n - 1] == '0')
        n--;
    t.at = text;
    t.end = text + AE__FLOAT_TEXT - 1;
    memcpy(&bits, &x, 4);
    ae__put(&t, bits >> 31 ? "-" : "");
    const int first = e < -5 || e > 8 ? 0 : e;      // the power of ten of the first digit shown
    for (int power = first > 0 ? first : 0; power >= 0 || power > first - n; power--) {
        const int k = first - power;
        one[0] = k >= 0 && k < n ? number[k] : '0';
        ae__put(&t, power == -1 ? "." : "");
        ae__put(&t, one);
    }
    if (first != e) {
        ae__put(&t, "e");
        ae__put_int(&t, e);
    }
}

static const char ae__hex[] = "0123456789abcdef";

// The value of a hex digit, -1: it is none.
static int ae__hex_digit(int c)
{
    const char *at = c ? strchr(ae__hex, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c) : NULL;
    return at ? (int)(at - ae__hex) : -1;
}

// What ae__float_text wrote, or any decimal number. 0: it is none.
static int ae__float_from(const char *text, float *x)
{
    double v;
    uint32_t bits = 0;
    int i = 2;
    if (text[0] != '0' || text[1] != 'x') {
        if (!ae__number(text, &v))
            return 0;
        *x = (float)v;
        return 1;
    }
    for (; text[i]; i++) {
        const int digit = ae__hex_digit(text[i]);
        if (digit < 0 || i > 9)
            return 0;
        bits = bits << 4 | (uint32_t)digit;
    }
    memcpy(x, &bits, 4);
    return i == 10;
}

// The fewest digits that read back to the same bits; where none do, the bits.
static void ae__float_text(char text[AE__FLOAT_TEXT], float x)
{
    uint32_t bits, back;
    memcpy(&bits, &x, 4);
    for (int digits = 6; digits <= 9 && ae__finite(x); digits++) {
        float y = 0.0f;
        ae__decimal(text, x, digits);
        if (ae__float_from(text, &y) && (memcpy(&back, &y, 4), back == bits))
            return;
    }
    memcpy(text, "0x", 2);
    for (int i = 0; i < 8; i++)
        text[2 + i] = ae__hex[bits >> (28 - 4 * i) & 15];
    text[10] = 0;
}

// ---- names and notes

AE_API ae_tensor *ae_tensor_find(const ae_model *m, const char *name)
{
    ae_tensor *t = m && name ? m->first : NULL;
    while (t && (t->kept || strcmp(t->name, name) != 0))
        t = t->next;
    return t;
}

AE_API const char *ae_tensor_name(const ae_tensor *t)
{
    return t ? t->name : "";
}

// How many bytes the character of UTF-8 at s has, of `left`; 0: it is none.
static size_t ae__utf8(const unsigned char *s, size_t left)
{
    const unsigned b = left ? s[0] : 0xff;
    const size_t n = b < 0x80 ? 1 : b < 0xc2 ? 0 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : b < 0xf5 ? 4 : 0;
    if (n == 0 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    // written with more bytes than it needs, half of a pair, beyond Unicode
    if ((b == 0xe0 && s[1] < 0xa0) || (b == 0xed && s[1] > 0x9f) || (b == 0xf0 && s[1] < 0x90)
        || (b == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

static int ae__is_utf8(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t left = strlen(text), n = 1;
    for (; left && n; left -= n, s += n)
        n = ae__utf8(s, left);
    return n != 0;
}

static ae__note *ae__note_find(const ae_model *m, const char *key)
{
    ae__note *note = m->graph->notes;
    while (note && strcmp(note->key, key) != 0)
        note = note->next;
    return note;
}

// What a note takes from the arena: nothing where the text it replaces has room enough.
static size_t ae__note_bytes(const ae_model *m, const char *key, size_t size)
{
    const ae__note *old = ae__note_find(m, key);
    return old && old->capacity >= size ? 0 : ae__round_up(ae__sat_add(sizeof(ae__note), size),
                                                           AE_ALIGN);
}

// Room for `size` bytes of text under a key of fewer than AE__NAME_MAX, or NULL.
static char *ae__note_room(ae_model *m, const char *key, size_t size)
{
    ae__note *note = ae__note_find(m, key), *next = note ? note->next : NULL, **at = &m->notes;
    const size_t bytes = ae__note_bytes(m, key, size);
    if (bytes == 0)
        return note->value;
    while (*at != note)         // the new one takes its place, or the last
        at = &(*at)->next;
    note = (ae__note *)ae_alloc(m->arena, bytes);
    if (note == NULL)
        return NULL;
    ae__format(note->key, sizeof note->key, "%s", key);
    note->value = (char *)(note + 1);
    note->capacity = bytes - sizeof *note;
    note->next = next;
    *at = note;
    return note->value;
}

AE_API ae_status ae_note(ae_model *m, const char *key, const char *value)
{
    if (m == NULL)
        return AE_E_ARG;
    if (m->graph != m || key == NULL || value == NULL)
        return ae__report(m, AE_E_ARG, "ae_note: %s", m->graph != m ? "a fork has the notes of its "
                          "model" : "the key or the value is NULL");
    const size_t length = strlen(key), size = strlen(value) + 1;
    if (length == 0 || length >= AE__NAME_MAX || strncmp(key, "ae.", 3) == 0 || !ae__is_utf8(key)
        || !ae__is_utf8(value))
        return ae__report(m, AE_E_ARG, "ae_note: a key has 1 to %d bytes and does not begin with "
                          "\"ae.\"; both texts are UTF-8", AE__NAME_MAX - 1);
    char *room = ae__note_room(m, key, size);
    if (room == NULL)
        return ae__report(m, AE_E_MEMORY, "ae_note: %s needs %z bytes, %z are left", key,
                          ae__note_bytes(m, key, size), ae_arena_left(m->arena));
    memcpy(room, value, size);
    return AE_SUCCESS;
}

AE_API const char *ae_note_of(const ae_model *m, const char *key)
{
    const ae__note *note = m && key ? ae__note_find(m, key) : NULL;
    return note ? note->value : NULL;
}

AE_API ae_status ae_scale_as_trained(const ae_model *m, ae_dataset *d)
{
    const ae__scaling *s = m ? &m->graph->trained : NULL;
    if (m == NULL || d == NULL)
        return AE_E_ARG;
    if (!s->known)
        return ae__fail(m->arena, AE_E_ARG, "ae_scale_as_trained: the model does not know how the "
                        "data was scaled that it was trained on");
    d->scale = s->scale;
    d->mean = s->mean;
    d->deviation = s->deviation;
    return AE_SUCCESS;
}

// ---- the graph as text: a line a tensor, as "3 linear(2) out=128 name=encoder.0"

/* What a line says: the settings of a tensor, as far as its operation has them. */
typedef struct ae__spec {
    ae_tensor t;
    ae_init init[2];            // of weight and bias; their kinds apart, as ints
    int init_kind[2];
    float max_norm;
    int no_bias, reduction;
    int again, weights;         // numbers of the tensor that this one repeats, or whose weights it
} ae__spec;                     // shares; -1: none

enum { AE__FLOAT = 5, AE__WORD };

typedef struct ae__setting {
    const char *key;
    size_t at;                  // in ae__spec
    int type;                   // 1 to 4: so many ints
    int otherwise;              // not written when it has this value
    const char *words;          // of AE__WORD: what 0, 1, ... are called
} ae__setting;

#define AE__INITS \
    "default uniform normal constant xavier_uniform xavier_normal he_uniform he_normal"

static const ae__setting ae__settings[] = {
    {"shape", offsetof(ae__spec, t.c), 3, 1, NULL},
    {"out", offsetof(ae__spec, t.c), 1, 1, NULL},
    {"no_bias", offsetof(ae__spec, no_bias), 1, 0, NULL},
    {"a", offsetof(ae__spec, t.a), AE__FLOAT, 0, NULL},
    {"kernel", offsetof(ae__spec, t.conv.kernel_h), 2, 0, NULL},
    {"stride", offsetof(ae__spec, t.conv.stride_h), 2, 1, NULL},
    {"pad", offsetof(ae__spec, t.conv.pad_h), 2, 0, NULL},
    {"dilation", offsetof(ae__spec, t.conv.dilation_h), 2, 1, NULL},
    {"output_pad", offsetof(ae__spec, t.conv.output_pad_h), 2, 0, NULL},
    {"groups", offsetof(ae__spec, t.conv.groups), 1, 1, NULL},
    {"exclude_pad", offsetof(ae__spec, t.pool.exclude_pad), 1, 0, NULL},
    {"conv1d", offsetof(ae__spec, t.kind), 1, 0, NULL},
    {"kind", offsetof(ae__spec, t.kind), AE__WORD, 0, "nearest bilinear"},
    {"act", offsetof(ae__spec, t.kind), AE__WORD, 0,
     "identity relu leaky_relu elu gelu gelu_tanh silu softplus sigmoid tanh"},
    {"sides", offsetof(ae__spec, t.side), 4, 0, NULL},
    {"eps", offsetof(ae__spec, t.eps), AE__FLOAT, 0, NULL},
    {"group", offsetof(ae__spec, t.group), 1, 1, NULL},
    {"low", offsetof(ae__spec, t.low), AE__FLOAT, 0, NULL},
    {"high", offsetof(ae__spec, t.high), AE__FLOAT, 0, NULL},
    {"always", offsetof(ae__spec, t.noise_always), 1, 0, NULL},
    {"fixed", offsetof(ae__spec, t.noise_fixed), 1, 0, NULL},
    {"k", offsetof(ae__spec, t.k), 1, 0, NULL},
    {"codes", offsetof(ae__spec, t.vq.codes), 1, 0, NULL},
    {"beta", offsetof(ae__spec, t.vq.beta), AE__FLOAT, 0, NULL},
    {"decay", offsetof(ae__spec, t.vq.decay), AE__FLOAT, 0, NULL},
    {"restart", offsetof(ae__spec, t.vq.restart), AE__FLOAT, 0, NULL},
    {"gradient", offsetof(ae__spec, t.vq.gradient), 1, 0, NULL},
    {"reduction", offsetof(ae__spec, reduction), AE__WORD, 0, "mean batch_mean sum"},
    {"minimize", offsetof(ae__spec, t.minimized), 1, 0, NULL},
    {"weight", offsetof(ae__spec, t.term_weight), AE__FLOAT, 1, NULL},
    {"warm_up", offsetof(ae__spec, t.warm_up), AE__FLOAT, 0, NULL},
    {"monitor", offsetof(ae__spec, t.monitored), 1, 0, NULL},
    {"weight_init", offsetof(ae__spec, init_kind[0]), AE__WORD, 0, AE__INITS},
    {"weight_a", offsetof(ae__spec, init[0].a), AE__FLOAT, 0, NULL},
    {"weight_b", offsetof(ae__spec, init[0].b), AE__FLOAT, 0, NULL},
    {"bias_init", offsetof(ae__spec, init_kind[1]), AE__WORD, 0, AE__INITS},
    {"bias_a", offsetof(ae__spec, init[1].a), AE__FLOAT, 0, NULL},
    {"bias_b", offsetof(ae__spec, init[1].b), AE__FLOAT, 0, NULL},
    {"max_norm", offsetof(ae__spec, max_norm), AE__FLOAT, 0, NULL},
    {"again", offsetof(ae__spec, again), 1, -1, NULL},
    {"weights", offsetof(ae__spec, weights), 1, -1, NULL}
};

#define AE__SETTINGS (sizeof ae__settings / sizeof ae__settings[0])
#define AE__BIAS " bias_init bias_a bias_b again weights"
#define AE__LAYER " no_bias weight_init weight_a weight_b max_norm" AE__BIAS
#define AE__TERM " reduction minimize weight warm_up monitor"

/* The settings that operations have: all of ops[0] ... ops[count-1] have these. */
typedef struct ae__syntax {
    const ae__op *ops;
    int count;
    const char *keys;
} ae__syntax;

static const ae__syntax ae__syntaxes[] = {
    {&ae__op_input, 1, "shape"},
    {&ae__op_labels, 1, ""},
    {&ae__op_linear, 1, "out" AE__LAYER},
    {&ae__op_tied_linear, 1, AE__BIAS},
    {&ae__op_conv2d, 1, "conv1d out kernel stride pad dilation groups" AE__LAYER},
    {&ae__op_conv_transpose2d, 1, "out kernel stride pad dilation output_pad groups" AE__LAYER},
    {&ae__op_max_pool2d, 1, "kernel stride pad dilation"},
    {&ae__op_avg_pool2d, 1, "kernel stride pad exclude_pad"},
    {&ae__op_max_unpool2d, 1, ""},
    {&ae__op_upsample2d, 1, "shape kind"},
    {&ae__op_pad2d, 1, "sides a"},
    {&ae__op_batch_norm, 1, "eps a no_bias"},
    {&ae__op_layer_norm, 1, "eps no_bias again"},
    {&ae__op_group_norm, 1, "groups eps no_bias again"},
    {ae__op_activation, AE_ACT_COUNT, "a"},
    {&ae__op_softmax, 1, ""},
    {&ae__op_add, 1, ""},
    {&ae__op_concat, 1, ""},
    {&ae__op_reshape, 1, "shape"},
    {ae__op_noise, AE__NOISES, "a group low high always fixed"},
    {&ae__op_gaussian_sample, 1, "always"},
    {&ae__op_one_hot, 1, "out"},
    {&ae__op_top_k, 1, "k"},
    {&ae__op_vq, 1, "codes beta decay restart gradient"},
#ifndef AE_NO_TRAIN
    {ae__op_loss, AE_LOSS_COUNT, "a" AE__TERM},
    {&ae__op_cross_entropy, 1, AE__TERM},
    {&ae__op_kl_normal, 1, "a" AE__TERM},
    {&ae__op_gaussian_nll, 1, AE__TERM},
    {&ae__op_log_normal, 1, ""},
    {&ae__op_log_bernoulli, 1, ""},
    {&ae__op_iwae, 1, "k" AE__TERM},
    {&ae__op_vq_loss, 1, AE__TERM},
    {&ae__op_mmd, 1, AE__TERM},
    {&ae__op_l1_penalty, 1, AE__TERM},
    {&ae__op_kl_sparsity, 1, "a" AE__TERM},
    {&ae__op_contractive, 1, "act a" AE__TERM},
    {&ae__op_contractive_estimate, 1, "a" AE__TERM},
    {&ae__op_weight_l1, 1, "weights" AE__TERM},
    {&ae__op_weight_l2, 1, "weights" AE__TERM},
    {&ae__op_orthogonal, 1, "weights" AE__TERM},
#endif
};

#define AE__SYNTAXES (sizeof ae__syntaxes / sizeof ae__syntaxes[0])

// Which word of a list this is, from 0; -1: none.
static int ae__word_at(const char *list, const char *word)
{
    const size_t length = strlen(word);
    for (int i = 0; *list; i++) {
        const size_t n = strcspn(list, " ");
        if (n == length && memcmp(list, word, n) == 0 && n)
            return i;
        list += n + (list[n] != 0);
    }
    return -1;
}

// The operation of this name, and its settings.
static const ae__op *ae__op_of(const char *name, const char **keys)
{
    for (size_t i = 0; i < AE__SYNTAXES; i++)
        for (int j = 0; j < ae__syntaxes[i].count; j++)
            if (strcmp(ae__syntaxes[i].ops[j].name, name) == 0) {
                *keys = ae__syntaxes[i].keys;
                return ae__syntaxes[i].ops + j;
            }
    return NULL;
}

static void ae__spec_begin(ae__spec *l)
{
    memset(l, 0, sizeof *l);
    for (size_t i = 0; i < AE__SETTINGS; i++) {
        const ae__setting *a = &ae__settings[i];
        char *at = (char *)l + a->at;
        const float x = (float)a->otherwise;
        if (a->type == AE__FLOAT)
            memcpy(at, &x, sizeof x);
        for (int ints = a->type < AE__FLOAT ? a->type : a->type == AE__WORD; ints > 0; ints--)
            memcpy(at + (size_t)(ints - 1) * sizeof(int), &a->otherwise, sizeof(int));
    }
}

/* The settings of t as a line has them. Weights belong to the first tensor that has them; one of
   the same operation with all the same parameters is that one again. */
static void ae__spec_of(ae__spec *l, const ae_tensor *t)
{
    const ae_param *of[2] = {t->weight, t->bias};
    ae__spec_begin(l);
    l->t = *t;
    l->no_bias = t->bias == NULL;
    l->reduction = (int)t->reduction;
    l->t.term_weight = t->minimized ? t->term_weight : 1.0f;
    if (t->op == &ae__op_group_norm)
        l->t.conv.groups = t->groups;
    if (t->op == &ae__op_max_pool2d || t->op == &ae__op_avg_pool2d)
        memcpy(&l->t.conv, &t->pool, offsetof(ae_pool, exclude_pad));       // they begin alike
    for (int i = 0; i < 2 && of[i]; i++) {
        l->init[i] = of[i]->init;
        l->init_kind[i] = (int)of[i]->init.kind;
    }
    if (t->weight)
        l->max_norm = t->weight->max_norm;
    for (const ae_tensor *u = t->model->first; u != t && t->weight && l->again < 0; u = u->next) {
        if (u->weight == t->weight && u->bias == t->bias && u->op == t->op)
            l->again = u->id;
        if (u->weight == t->weight && l->weights < 0)
            l->weights = u->id;
    }
}

static void ae__setting_text(char *text, size_t capacity, const ae__setting *a, const char *at)
{
    char number[AE__FLOAT_TEXT];
    int v;
    float x;
    text[0] = 0;
    if (a->type == AE__FLOAT) {
        memcpy(&x, at, sizeof x);
        ae__float_text(number, x);
        if (x != (float)a->otherwise)
            ae__format(text, capacity, "%s", number);
    } else if (a->type == AE__WORD) {
        const char *word = a->words;
        memcpy(&v, at, sizeof v);
        for (int i = 0; i < v; i++)
            word += strcspn(word, " ") + 1;
        if (v != a->otherwise)
            ae__format(text, ae__min(capacity, strcspn(word, " ") + 1), "%s", word);
    } else {
        int other = 0;
        for (int i = 0; i < a->type; i++) {
            memcpy(&v, at + (size_t)i * sizeof v, sizeof v);
            other |= v != a->otherwise;
            const size_t end = strlen(text);
            ae__format(text + end, capacity - end, i ? "x%d" : "%d", v);
        }
        if (!other)
            text[0] = 0;
    }
}

// Text inside the quotes of a JSON string.
static void ae__put_json(ae__sink *s, const char *text)
{
    for (; *text; text++) {
        const unsigned char c = (unsigned char)*text;
        const char code[] = {'\\', 'u', '0', '0', ae__hex[c >> 4], ae__hex[c & 15], 0};
        if (c == '\n')
            ae__put_text(s, "\\n");
        else if (c < 32)
            ae__put_text(s, code);
        else {
            ae__put_text(s, c == '"' || c == '\\' ? "\\" : "");
            ae__put_bytes(s, text, 1);
        }
    }
}

static void ae__put_line(ae__sink *s, const ae_tensor *t)
{
    char text[AE__NAME_MAX + 32], value[AE__NAME_MAX];
    const char *keys = "", *open = "(";
    ae__spec l;
    ae__spec_of(&l, t);
    ae__op_of(t->op->name, &keys);
    if (t->loss < 0 && (l.again >= 0 || l.weights >= 0))    // the rest follows from what is shared
        keys = l.again >= 0 ? "again" : AE__BIAS;
    ae__format(text, sizeof text, "%d %s", t->id, t->op->name);
    ae__put_json(s, text);
    for (int i = 0; i < AE__INPUTS && t->in[i]; i++) {
        const ae_tensor *in = t->in[i];
        if (in->kept && in->next == t)      // made by its operation; of an unpooling, its pooling's
            continue;
        ae__format(text, sizeof text, "%s%d", open, in->kept ? in->next->id : in->id);
        ae__put_json(s, text);
        open = ",";
    }
    ae__put_json(s, *open == '(' ? "()" : ")");
    for (size_t i = 0; i < AE__SETTINGS; i++) {
        const ae__setting *a = &ae__settings[i];
        if (ae__word_at(keys, a->key) < 0)
            continue;
        ae__setting_text(value, sizeof value, a, (const char *)&l + a->at);
        ae__format(text, sizeof text, " %s=%s", a->key, value);
        if (value[0])
            ae__put_json(s, text);
    }
    ae__auto_name_at(t->model, t, t->op->name, value);
    ae__format(text, sizeof text, " name=%s", t->name);
    if (strcmp(value, t->name) != 0)
        ae__put_json(s, text);
    ae__put_json(s, "\n");
}

// ---- ... and back: every tensor by the function that a program would call

// A whole number at *s, which moves behind it. 0: there is none, or it is too large.
static int ae__whole_number(const char **s, int *v)
{
    const int negative = **s == '-';
    int64_t n = 0;
    *s += negative;
    const char *from = *s;
    for (; **s >= '0' && **s <= '9' && n <= 0x7fffffff; ++*s)
        n = 10 * n + (**s - '0');
    *v = (int)(negative ? -n : n <= 0x7fffffff ? n : 0);
    return *s > from && n <= 0x7fffffff;
}

// Takes "key=value" into the line. 0: the operation has no such setting, or not this value.
static int ae__spec_take(ae__spec *l, const char *keys, const char *key, const char *value)
{
    const ae__setting *a = ae__settings, *end = a + AE__SETTINGS;
    float x;
    int v;
    while (a < end && strcmp(a->key, key) != 0)
        a++;
    if (a == end || ae__word_at(keys, key) < 0)
        return 0;
    char *at = (char *)l + a->at;
    if (a->type == AE__FLOAT) {
        if (!ae__float_from(value, &x) || !ae__finite(x))
            return 0;
        memcpy(at, &x, sizeof x);
        return 1;
    }
    if (a->type == AE__WORD) {
        v = ae__word_at(a->words, value);
        memcpy(at, &v, sizeof v);
        return v >= 0;
    }
    for (int i = 0; i < a->type; i++, value += i < a->type) {
        if (!ae__whole_number(&value, &v) || (i + 1 < a->type && *value != 'x'))
            return 0;
        memcpy(at + (size_t)i * sizeof v, &v, sizeof v);
    }
    return *value == 0;
}

static ae_tensor *ae__tensor_at(const ae_model *m, int id)
{
    ae_tensor *t = m->first;
    while (t && t->id != id)
        t = t->next;
    return t && !t->kept ? t : NULL;
}

#ifndef AE_NO_TRAIN
static ae_tensor *ae__make_loss(ae_model *m, const ae__op *op, ae_tensor *const in[],
                                const ae__spec *l)
{
    ae_tensor *x = in[0], *y = in[1], *owner = ae__tensor_at(m, l->weights);
    const ae_reduction r = (ae_reduction)l->reduction;
    const float a = l->t.a;
    if (op->forward == ae__loss_forward)
        return ae__elementwise_loss((ae_loss_kind)(op - ae__op_loss), x, y, a, r);
    if (op == &ae__op_weight_l1)
        return owner ? ae_weight_l1(owner) : NULL;
    if (op == &ae__op_weight_l2)
        return owner ? ae_weight_l2(owner) : NULL;
    if (op == &ae__op_orthogonal)
        return owner ? ae_orthogonal(owner) : NULL;
    if (x == NULL)
        return NULL;
    if (op == &ae__op_cross_entropy)
        return ae_cross_entropy(x, y, r);
    if (op == &ae__op_kl_normal)
        return ae_kl_normal(x, y, a, r);
    if (op == &ae__op_gaussian_nll)
        return ae_gaussian_nll(y, in[2], x, r);
    if (op == &ae__op_log_normal)
        return ae_log_normal(x, y, in[2]);
    if (op == &ae__op_log_bernoulli)
        return ae_log_bernoulli(x, y);
    if (op == &ae__op_iwae)
        return ae_iwae(x, y, in[2], l->t.k, r);
    if (op == &ae__op_vq_loss)
        return y ? ae_vq_loss(y, r) : NULL;
    if (op == &ae__op_mmd)
        return ae_mmd(x);
    if (op == &ae__op_l1_penalty)
        return ae_l1_penalty(x, r);
    if (op == &ae__op_kl_sparsity)
        return ae_kl_sparsity(x, a, r);
    if (op == &ae__op_contractive)
        return x->op == &ae__op_linear ? ae__contractive(x, l->t.kind, a, r) : NULL;
    if (op == &ae__op_contractive_estimate)
        return y && a > 0.0f ? ae__estimate(x, y, a, r) : NULL;
    return NULL;
}
#endif

static ae_tensor *ae__make_picture(const ae__op *op, ae_tensor *x, ae_tensor *y, const ae__spec *l)
{
    const ae_tensor *s = &l->t;
    ae_conv conv = s->conv;
    ae_pool pool = s->pool;
    conv.no_bias = l->no_bias;
    memcpy(&pool, &conv, offsetof(ae_pool, exclude_pad));
    if (op == &ae__op_conv2d && s->kind)
        return conv.kernel_h == 1 ? ae__one_line(ae_conv2d_with(x, s->c, &conv)) : NULL;
    if (op == &ae__op_conv2d)
        return ae_conv2d_with(x, s->c, &conv);
    if (op == &ae__op_conv_transpose2d)
        return ae_conv_transpose2d_with(x, s->c, &conv);
    if (op == &ae__op_max_pool2d || op == &ae__op_avg_pool2d)
        return ae__pool(x, op, &pool);
    if (op == &ae__op_max_unpool2d)
        return y ? ae_max_unpool2d(x, y) : NULL;
    if (op == &ae__op_upsample2d)
        return s->c == x->c ? ae_resize(x, (ae_upsample_kind)s->kind, s->h, s->w) : NULL;
    if (op == &ae__op_pad2d)
        return ae_pad2d(x, s->side[0], s->side[1], s->side[2], s->side[3], s->a);
    return NULL;
}

static ae_tensor *ae__make_layer(const ae__op *op, ae_tensor *x, ae_tensor *y, const ae__spec *l)
{
    const ae_tensor *s = &l->t;
    const ae_norm norm = {s->eps, s->a, l->no_bias};
    ae_vq_options vq = s->vq;
    vq.restart = vq.restart > 0.0f ? vq.restart : -1.0f;
    if (op == &ae__op_linear)
        return ae__linear(x, s->c, !l->no_bias);
    if (op->forward == ae__activation_forward)
        return ae_activation(x, (ae_act)(op - ae__op_activation), s->a);
    if (op == &ae__op_softmax)
        return ae_softmax(x);
    if (op == &ae__op_add)
        return ae_add(x, y);
    if (op == &ae__op_concat)
        return ae_concat(x, y);
    if (op == &ae__op_reshape)
        return ae_reshape(x, AE__CHW(s));
    if (op == &ae__op_batch_norm)
        return ae_batch_norm(x, &norm);
    if (op == &ae__op_layer_norm)
        return ae_layer_norm(x, &norm);
    if (op == &ae__op_group_norm)
        return ae_group_norm(x, s->conv.groups, &norm);
    if (op == &ae__op_gaussian_sample)
        return ae_gaussian_sample(x, y);
    if (op == &ae__op_one_hot)
        return ae_one_hot(x, s->c);
    if (op == &ae__op_top_k)
        return ae_top_k(x, s->k);
    if (op == &ae__op_vq)
        return ae_vq(x, &vq);
    if (op->forward != ae__noise_forward)
        return ae__make_picture(op, x, y, l);
    const int dropout = op == &ae__op_noise[AE__DROPOUT];
    return dropout && s->group > 1 ? ae_spatial_dropout(x, s->a)
         : ae__noise_layer(x, (int)(op - ae__op_noise), s->a, s->low, s->high);
}

// The tensor of a line, or NULL: after a mistake, or because something is missing.
static ae_tensor *ae__make(ae_model *m, const ae__op *op, ae_tensor *const in[], const ae__spec *l)
{
    ae_tensor *again = ae__tensor_at(m, l->again), *owner = ae__tensor_at(m, l->weights);
    const int layer = op == &ae__op_tied_linear || op == &ae__op_conv_transpose2d;
    if (op == &ae__op_input)
        return ae_input(m, AE__CHW(&l->t));
    if (op == &ae__op_labels)
        return ae_labels(m);
#ifndef AE_NO_TRAIN
    const char *keys;
    ae__op_of(op->name, &keys);
    if (ae__word_at(keys, "minimize") >= 0 || op == &ae__op_log_normal
        || op == &ae__op_log_bernoulli)
        return ae__make_loss(m, op, in, l);
#endif
    if (in[0] == NULL || (l->again >= 0 && (again == NULL || again->op != op)))
        return NULL;
    if (l->again >= 0)
        return ae_again(again, again->in[0], in[0]);
    if (l->weights >= 0 || op == &ae__op_tied_linear)
        return layer && owner ? ae_tied(in[0], owner) : NULL;
    return ae__make_layer(op, in[0], in[1], l);
}

// What a line says beyond its constructor.
static void ae__finish(ae_tensor *t, const ae__spec *l, const char *name)
{
    ae_param *of[2] = {t->weight, t->bias};
    const int layer = t->op == &ae__op_linear || t->op == &ae__op_tied_linear || ae__is_conv(t);
    for (int i = 0; i < 2; i++)
        if (layer && of[i] && l->again < 0 && (i == 1 || l->weights < 0)) {
            of[i]->init = l->init[i];
            of[i]->init.kind = (ae_init_kind)l->init_kind[i];
        }
    if (layer && l->max_norm > 0.0f)
        t->weight->max_norm = l->max_norm;
    if (l->t.noise_always)
        ae_noise_always(t);
    if (l->t.noise_fixed)
        ae_noise_fixed(t);
#ifndef AE_NO_TRAIN
    if (l->t.minimized)
        ae_minimize_weighted(t, l->t.term_weight);
    if (l->t.minimized && l->t.warm_up != 0.0f)
        ae_warm_up(t, l->t.warm_up);
    if (l->t.monitored)
        ae_monitor(t);
#endif
    if (name[0])
        ae_name(t, name);
}

/* A line cut into its words, in place. */
typedef struct ae__cut {
    int id, in[AE__INPUTS], count;
    char *op, *rest;
} ae__cut;

static int ae__cut_line(ae__cut *c, char *line)
{
    const char *s = line;
    memset(c, 0, sizeof *c);
    if (!ae__whole_number(&s, &c->id) || *s != ' ')
        return 0;
    c->op = line + (s - line) + 1;
    char *open = strchr(c->op, '(');
    if (open == NULL)
        return 0;
    *open = 0;
    s = open + 1;
    while (*s != ')') {
        if (c->count == AE__INPUTS || !ae__whole_number(&s, &c->in[c->count++])
            || (*s != ')' && *s != ',') || (*s == ',' && s[1] == ')'))
            return 0;
        s += *s == ',';
    }
    c->rest = line + (s - line) + 1;
    return *c->rest == 0 || *c->rest == ' ';
}

// Whether t is what the line says: its number, its inputs, its shape where the line has one.
static int ae__spec_fits(const ae_tensor *t, const ae__cut *c, ae_tensor *const in[],
                         const char *keys, const ae__spec *l)
{
    int count = 0;
    for (int i = 0; i < AE__INPUTS && t->in[i]; i++) {
        const ae_tensor *x = t->in[i]->kept ? t->in[i]->next : t->in[i];
        if (x != t && (count == c->count || in[count++] != x))
            return 0;
    }
    const int shape = ae__word_at(keys, "shape") >= 0;
    return count == c->count && t->id == c->id
        && (!shape || (t->c == l->t.c && t->h == l->t.h && t->w == l->t.w));
}

#ifdef AE_NO_TRAIN
static const char ae__left_out[] = "mse l1 huber smooth_l1 bce bce_logits cross_entropy kl_normal "
    "gaussian_nll log_normal log_bernoulli iwae vq_loss mmd l1_penalty kl_sparsity contractive "
    "contractive_estimate weight_l1 weight_l2 orthogonal";
#endif

/* Makes the tensor of one line. What only training has is left out where there is none, but its
   numbers are not given to others: noise depends on them. */
static const char *ae__read_line(ae_model *m, char *line)
{
    ae_tensor *in[AE__INPUTS] = {NULL, NULL, NULL}, *t;
    const char *keys = "", *name = "";
    ae__cut c;
    ae__spec l;
    if (!ae__cut_line(&c, line))
        return "it is not of the form: number operation(inputs) settings";
    const ae__op *op = ae__op_of(c.op, &keys);
    int missing = 0;
    for (int i = 0; i < c.count; i++)
        missing |= (in[i] = ae__tensor_at(m, c.in[i])) == NULL;
#ifdef AE_NO_TRAIN
    if ((ae__word_at(ae__left_out, c.op) >= 0 || (op && missing))
        && (c.id == m->tensors || c.id == m->tensors + 1)) {
        m->tensors = c.id + 1;
        return NULL;
    }
#endif
    if (op == NULL || missing)
        return missing ? "an input of it is not there" : "there is no such operation";
    ae__spec_begin(&l);
    for (int more = *c.rest == ' '; more;) {
        char *key = c.rest + 1, *value;
        c.rest = key + strcspn(key, " ");
        more = *c.rest == ' ';
        *c.rest = 0;
        if ((value = strchr(key, '=')) == NULL)
            return "a setting is not of the form key=value";
        *value++ = 0;
        if (strcmp(key, "name") == 0)
            name = value;
        else if (!ae__spec_take(&l, keys, key, value))
            return "it has a setting that does not fit";
    }
    t = ae__make(m, op, in, &l);
    if (t && !ae__spec_fits(t, &c, in, keys, &l))
        return "its number, inputs or shape do not fit";
    if (t)
        ae__finish(t, &l, name);
    return m->broken ? m->error : t ? NULL : "its inputs or settings do not fit";
}

// ---- JSON, as far as safetensors has it

/* What is left to read; a text in quotes, what lies between them. Texts are checked where they are
   first read. */
typedef struct ae__json {
    const unsigned char *at, *end;
    int bad;                    // not JSON, from here on
} ae__json;

static void ae__json_blanks(ae__json *j)
{
    while (j->at < j->end && *j->at && strchr(" \t\n\r", *j->at))
        j->at++;
}

// Passes blanks and, where it is next, c.
static int ae__json_pass(ae__json *j, int c)
{
    ae__json_blanks(j);
    if (j->at == j->end || *j->at != c)
        return 0;
    j->at++;
    return 1;
}

// The four hex digits of an escape \u; beyond 65535: they are none.
static uint32_t ae__json_hex(ae__json *j)
{
    uint32_t u = 0;
    for (int i = 0; i < 4; i++) {
        const int digit = ae__hex_digit(j->at < j->end ? *j->at++ : 0);
        u = u << 4 | (uint32_t)(digit < 0 ? 1 << 16 : digit);
    }
    return u;
}

static int ae__json_escape(ae__json *j, unsigned char c[4])
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const int e = j->at < j->end ? *j->at++ : 0;
    const char *at = e ? strchr(from, e) : NULL;
    if (at)
        c[0] = (unsigned char)to[at - from];
    if (at || e != 'u')
        return at ? 1 : -1;
    uint32_t u = ae__json_hex(j);
    if (u >> 10 == 0xd800 >> 10) {          // half of a pair
        if (j->end - j->at < 6 || j->at[0] != '\\' || j->at[1] != 'u')
            return -1;
        j->at += 2;
        const uint32_t low = ae__json_hex(j);
        if (low >> 10 != 0xdc00 >> 10)
            return -1;
        u = 0x10000 + ((u & 1023) << 10 | (low & 1023));
    } else if (u > 0xffff || u >> 10 == 0xdc00 >> 10)
        return -1;
    const int n = u < 0x80 ? 1 : u < 0x800 ? 2 : u < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, u >>= 6)
        c[i] = (unsigned char)(0x80 | (u & 63));
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    c[0] = (unsigned char)(lead[n] | u);
    return n;
}

// The next character of a text, 1 to 4 bytes of UTF-8: how many. 0: the end. -1: it is none.
static int ae__json_char(ae__json *text, unsigned char c[4])
{
    if (text->at == text->end)
        return 0;
    if (*text->at == '\\') {
        text->at++;
        return ae__json_escape(text, c);
    }
    const size_t n = *text->at < 32 ? 0 : ae__utf8(text->at, (size_t)(text->end - text->at));
    memcpy(c, text->at, n);
    text->at += n;
    return n ? (int)n : -1;
}

// A text, which must be next.
static void ae__json_text(ae__json *j, ae__json *text)
{
    unsigned char c[4];
    j->bad |= !ae__json_pass(j, '"');
    *text = *j;
    while (!j->bad && j->at < j->end && *j->at != '"')
        j->bad |= ae__json_char(j, c) < 0;
    text->end = j->at;
    j->bad |= !ae__json_pass(j, '"');
}

// A whole number; SIZE_MAX if it is larger.
static size_t ae__json_number(ae__json *j)
{
    size_t n = 0;
    ae__json_blanks(j);
    j->bad |= j->at == j->end || *j->at < '0' || *j->at > '9';
    for (; !j->bad && j->at < j->end && *j->at >= '0' && *j->at <= '9'; j->at++)
        n = ae__sat_add(ae__sat_mul(n, 10), (size_t)(*j->at - '0'));
    return n;
}

// Whether an object whose { was read, or an array, has one more member: passes the comma, or the
// bracket that ends it. first: no comma is expected.
static int ae__json_more(ae__json *j, int *first, int bracket)
{
    if (j->bad || ae__json_pass(j, bracket))
        return 0;
    if (!*first)
        j->bad |= !ae__json_pass(j, ',');
    *first = 0;
    return !j->bad;
}

static void ae__json_key(ae__json *j, ae__json *key)
{
    ae__json_text(j, key);
    j->bad |= !ae__json_pass(j, ':');
}

// The text as a string: cut where there is no room, or at a character 0. How many bytes it has.
static size_t ae__json_copy(ae__json text, char *dst, size_t capacity)
{
    unsigned char c[4];
    size_t size = 0;
    int n;
    while ((n = ae__json_char(&text, c)) > 0 && c[0]) {
        if (size + (size_t)n < capacity)
            memcpy(dst + size, c, (size_t)n);
        size += (size_t)n;
        if (size < capacity)
            dst[size] = 0;
    }
    if (size == 0 && capacity)
        dst[0] = 0;
    return size;
}

static int ae__json_is(ae__json text, const char *s)
{
    char copy[AE__NAME_MAX];
    return ae__json_copy(text, copy, sizeof copy) < sizeof copy && strcmp(copy, s) == 0;
}

// ---- reading a model

static const char *const ae__meta_names[] = {
    "ae.graph", "ae.seed", "ae.optim_states", "ae.scale", "ae.mean", "ae.deviation",
    "ae.probe.input", "ae.probe.output"
};
enum {
    AE__GRAPH, AE__SEED, AE__OPTIM_STATES, AE__SCALE, AE__MEAN, AE__DEVIATION, AE__PROBE_INPUT,
    AE__PROBE_OUTPUT, AE__METAS
};

/* What the header says about one tensor. */
typedef struct ae__entry {
    ae__json name, dtype;
    size_t shape[4], begin, end;
    int dims;
} ae__entry;

/* Where in the data the values of a parameter stand. */
typedef struct ae__slot {
    size_t begin, end, size;    // size: of a value
    int kind, found, done;
    const ae_param *param;      // NULL: of those that are no parameter
} ae__slot;

typedef struct ae__model_file {
    ae_arena *arena;
    unsigned char *arena_end;   // as it was
    ae__source source;
    const char *name;
    ae__json header, meta[AE__METAS];
    ae__slot *slots;            // of parameters; of their num_batches_tracked; ae.optim; ae.state
    float *optim;               // where the optimiser's state goes, or NULL
    int training;               // the file has it
    uint64_t seed;              // and what else its metadata says
    int has_seed, optim_states; // -1: not there
    ae__scaling scaling;
} ae__model_file;

// From the end of the arena, so that what stays can lie at its front.
static void *ae__borrow(ae_arena *arena, size_t bytes)
{
    const size_t left = ae_arena_left(arena);
    if (bytes > left)
        return NULL;
    unsigned char *at = arena->end - bytes;
    const size_t odd = (size_t)((uintptr_t)at & (AE_ALIGN - 1));
    if (odd > left - bytes)
        return NULL;
    arena->end = at - odd;
    return memset(arena->end, 0, bytes);
}

static void ae__entry_shape(ae__json *j, ae__entry *e)
{
    int first = 1;
    j->bad |= !ae__json_pass(j, '[');
    for (e->dims = 0; ae__json_more(j, &first, ']');) {
        const size_t side = ae__json_number(j);
        if (side != 1 && e->dims < 4)       // sides of 1 do not count
            e->shape[e->dims] = side;
        e->dims += side != 1;
    }
}

static void ae__json_entry(ae__json *j, ae__entry *e)
{
    int first = 1, dtype = 0, shape = 0, offsets = 0;
    memset(e->shape, 0, sizeof e->shape);
    j->bad |= !ae__json_pass(j, '{');
    while (ae__json_more(j, &first, '}')) {
        ae__json key;
        ae__json_key(j, &key);
        if (j->bad)
            return;
        if (ae__json_is(key, "dtype")) {
            ae__json_text(j, &e->dtype);
            dtype++;
        } else if (ae__json_is(key, "shape")) {
            ae__entry_shape(j, e);
            shape++;
        } else if (ae__json_is(key, "data_offsets")) {
            j->bad |= !ae__json_pass(j, '[');
            e->begin = ae__json_number(j);
            j->bad |= !ae__json_pass(j, ',');
            e->end = ae__json_number(j);
            j->bad |= !ae__json_pass(j, ']');
            offsets++;
        } else
            j->bad = 1;
    }
    j->bad |= dtype != 1 || shape != 1 || offsets != 1;
}

/* The next tensor of a header, from *j = header on; 0 at the end. f: metadata that passes is kept
   there, its first occurrence; NULL: it is known. */
static int ae__next_entry(ae__json *j, int *first, ae__entry *e, ae__model_file *f)
{
    while (ae__json_more(j, first, '}')) {
        int inner = 1;
        ae__json_key(j, &e->name);
        if (j->bad)
            return 0;
        if (!ae__json_is(e->name, "__metadata__")) {
            ae__json_entry(j, e);
            return !j->bad;
        }
        j->bad |= !ae__json_pass(j, '{');
        while (ae__json_more(j, &inner, '}')) {
            ae__json key, text;
            ae__json_key(j, &key);
            ae__json_text(j, &text);
            for (int i = 0; i < AE__METAS && f && !j->bad; i++)
                if (!f->meta[i].at && ae__json_is(key, ae__meta_names[i]))
                    f->meta[i] = text;
        }
    }
    return 0;
}

// What the metadata says in numbers. 0: one of them is none.
static int ae__metas_read(ae__model_file *f)
{
    const ae__json *meta = f->meta;
    char text[AE__FLOAT_TEXT + 8];
    float x[3] = {0.0f, 0.0f, 0.0f};
    int there = 0;
    ae__json seed = meta[AE__SEED], states = meta[AE__OPTIM_STATES];
    f->has_seed = seed.at != NULL;
    for (; f->has_seed && seed.at < seed.end; seed.at++) {
        const uint64_t digit = (uint64_t)*seed.at - '0';
        if (digit > 9 || f->seed > (UINT64_MAX - digit) / 10)
            return 0;
        f->seed = f->seed * 10 + digit;
    }
    f->optim_states = states.at && states.end - states.at == 1 ? *states.at - '0' : -1;
    if ((states.at && (f->optim_states < 0 || f->optim_states > 2))
        || (f->has_seed && meta[AE__SEED].at == seed.end))
        return 0;
    for (int i = 0; i < 3; i++) {
        const ae__json v = meta[AE__SCALE + i];
        there += v.at != NULL;
        if (v.at && (ae__json_copy(v, text, sizeof text) >= sizeof text
                     || !ae__float_from(text, &x[i]) || !ae__finite(x[i])))
            return 0;
    }
    f->scaling.scale = x[0];
    f->scaling.mean = x[1];
    f->scaling.deviation = x[2];
    f->scaling.known = there == 3;
    return there == 0 || (there == 3 && x[2] > 0.0f);
}

// The header: eight bytes that tell its size, then JSON. It is checked here, from end to end.
static ae_status ae__file_begin(ae__model_file *f, ae_arena *arena)
{
    ae__source *s = &f->source;
    unsigned char raw[8];
    f->arena = arena;
    f->arena_end = arena->end;
    f->name = s->name;
    ae_status status = ae__source_begin(arena, s);
    if (status)
        return status;
    size_t got = ae__source_read(s, raw, 8);
    if (got < 8)
        return ae__source_cut(arena, s, got, 8, "the size of its header");
    const uint64_t size = ae__little_endian(raw, 8);
    if (size < 2 || size > 100000000)       // safetensors' own limit
        return ae__fail(arena, AE_E_FORMAT, "%s is not safetensors: its header would have %g bytes",
                        f->name, (double)size);
    const size_t n = (size_t)size;
    unsigned char *copy = s->path ? (unsigned char *)ae__borrow(arena, n) : NULL;
    const unsigned char *header = copy ? copy : s->at;      // in memory it is read where it is
    got = ae__source_read(s, copy, n);
    if (got < n)                            // also where its size was a lie
        return ae__source_cut(arena, s, got, n, "its header");
    if (s->path && copy == NULL)
        return ae__fail(arena, AE_E_MEMORY, "%s: its header needs %z bytes, the arena has %z left",
                        f->name, n, ae_arena_left(arena));
    f->header.at = header;
    f->header.end = header + n;
    f->header.bad = !ae__json_pass(&f->header, '{');
    ae__json j = f->header;
    ae__entry e;
    int first = 1;
    while (ae__next_entry(&j, &first, &e, f)) {}
    ae__json_blanks(&j);
    if (j.bad || j.at != j.end)
        return ae__fail(arena, AE_E_FORMAT, "%s is not safetensors: its header is wrong at byte %z",
                        f->name, 8 + (size_t)(j.at - header));
    return ae__metas_read(f) ? AE_SUCCESS
           : ae__fail(arena, AE_E_FORMAT, "%s: its seed, optim_states or scaling is no number that "
                      "can be", f->name);
}

static void ae__file_end(ae__model_file *f)
{
    ae__source_end(&f->source);
    f->arena->end = f->arena_end;
}

static ae_status ae__graph_read(ae__model_file *f, ae_model *m)
{
    char line[1024];
    unsigned char c[4];
    ae__json text = f->meta[AE__GRAPH];
    int number = 1, n;
    size_t size = 0;
    while ((n = ae__json_char(&text, c)) > 0) {
        if (c[0] && c[0] != '\n' && size + (size_t)n < sizeof line) {
            memcpy(line + size, c, (size_t)n);
            size += (size_t)n;
            continue;
        }
        line[size] = 0;
        const char *mistake = c[0] == '\n' ? ae__read_line(m, line) : "it is too long, or broken";
        if (mistake)
            return ae__fail(f->arena, m->broken ? m->status : AE_E_FORMAT,
                            "%s: line %d of its graph: %s", f->name, number, mistake);
        size = 0;
        number++;
    }
    return size == 0 ? AE_SUCCESS
         : ae__fail(f->arena, AE_E_FORMAT, "%s: the last line of its graph is cut", f->name);
}

static ae_status ae__refuse(const ae__model_file *f, ae__json name, const char *what)
{
    char text[AE__NAME_MAX];
    ae__json_copy(name, text, sizeof text);
    for (char *c = text; *c; c++)
        *c = *c < ' ' || *c > '~' ? '?' : *c;
    return ae__fail(f->arena, AE_E_FORMAT, "%s: %s %s", f->name, text, what);
}

// Which slot a name belongs to, of a model with so many parameters; -1: none.
static int ae__slot_of(const ae_model *m, ae__json name)
{
    char text[AE__NAME_MAX + 32], tracked[AE__NAME_MAX + 32];
    if (ae__json_copy(name, text, sizeof text) >= sizeof text)
        return -1;
    if (strcmp(text, "ae.optim") == 0 || strcmp(text, "ae.state") == 0)
        return 2 * m->params + (text[3] == 's');
    for (const ae_param *p = m->first_param; p; p = p->next) {
        const size_t stem = strlen(p->name) - ae__min(strlen(p->name), 12);
        if (strcmp(text, p->name) == 0)
            return p->index;
        if (strcmp(p->name + stem, "running_mean") == 0) {
            ae__format(tracked, sizeof tracked, "%s", p->name);
            ae__format(tracked + stem, sizeof tracked - stem, "num_batches_tracked");
            if (strcmp(text, tracked) == 0)
                return m->params + p->index;
        }
    }
    return -1;
}

static void ae__sides_text(char *text, size_t capacity, const size_t *side, int dims)
{
    ae__format(text, capacity, dims ? "" : "1");
    for (int i = 0; i < dims && i < 4; i++) {
        const size_t end = strlen(text);
        ae__format(text + end, capacity - end, i ? "x%z" : "%z", side[i]);
    }
}

// What the file says about a parameter must be what it is.
static ae_status ae__shape_fits(const ae__model_file *f, const ae__entry *e, const ae_param *p)
{
    size_t side[4] = {0, 0, 0, 0};
    int dims = 0;
    char theirs[100], ours[100];
    for (int i = 0; i < p->dims; i++)
        if (p->shape[i] != 1)
            side[dims++] = (size_t)p->shape[i];
    if (e->dims == dims && memcmp(e->shape, side, sizeof side) == 0)
        return AE_SUCCESS;
    ae__sides_text(theirs, sizeof theirs, e->shape, e->dims);
    ae__sides_text(ours, sizeof ours, side, dims);
    return ae__fail(f->arena, AE_E_FORMAT, "%s: %s is %s, the model's is %s", f->name, p->name,
                    theirs, ours);
}

// The bytes of an entry must be those that its shape needs.
static ae_status ae__entry_slot(const ae__model_file *f, const ae__entry *e, ae__slot *t)
{
    static const char types[] = "F32 F64 F16 BF16 I64", kinds[] = "fffBi", sizes[] = "48228";
    char type[8];
    ae__json_copy(e->dtype, type, sizeof type);
    const int i = ae__word_at(types, type), tracked = t->kind == 'i';
    if (i < 0 || tracked != (i == 4))
        return ae__refuse(f, e->name, tracked ? "is not I64"
                          : "has a type that cannot be read: F32, F64, F16 and BF16 can");
    t->kind = kinds[i];
    t->size = (size_t)(sizes[i] - '0');
    size_t bytes = t->size;
    for (int k = 0; k < e->dims; k++)
        bytes = ae__sat_mul(bytes, k < 4 ? e->shape[k] : SIZE_MAX);
    if (e->end < e->begin || e->end - e->begin != bytes)
        return ae__refuse(f, e->name, "has other bytes than its shape needs");
    t->begin = e->begin;
    t->end = e->end;
    t->found = 1;
    return AE_SUCCESS;
}

static size_t ae__trained_count(const ae_model *m)
{
    size_t count = 0;
    for (const ae_param *p = m->first_param; p; p = p->next)
        count += p->untrained ? 0 : p->count;
    return count;
}

// What training left must be what m's training has.
static ae_status ae__training_fits(ae__model_file *f, const ae_model *m, const ae__entry *e,
                                   int state)
{
    const size_t count = state ? 4 + 3 * (size_t)m->losses : ae__trained_count(m);
    const size_t states = state ? 1 : (size_t)m->optim_states;
    size_t all = 1;
    f->training = 1;
    for (int i = 0; i < e->dims && i < 4; i++)
        all = ae__sat_mul(all, e->shape[i]);
    if (m->mode != AE_TRAIN || (e->dims <= 2 && all == count * states))
        return AE_SUCCESS;
    return ae__fail(f->arena, AE_E_FORMAT, "%s: %s has %z values, the model's training %z%s",
                    f->name, state ? "ae.state" : "ae.optim", all, count * states,
                    state ? "" : " (see ae_reserve_optim)");
}

// Finds every parameter in the header.
static ae_status ae__find_tensors(ae__model_file *f, const ae_model *m)
{
    const size_t bytes = ae__sat_mul(2 * (size_t)m->params + 2, sizeof(ae__slot));
    f->slots = (ae__slot *)ae__borrow(f->arena, bytes);
    if (f->slots == NULL)
        return ae__fail(f->arena, AE_E_MEMORY, "%s: to read it needs %z bytes, the arena has %z "
                        "left", f->name, bytes, ae_arena_left(f->arena));
    for (const ae_param *p = m->first_param; p; p = p->next) {
        f->slots[p->index].param = p;
        f->slots[m->params + p->index].kind = 'i';
    }
    ae__json j = f->header;
    ae__entry e;
    for (int first = 1; ae__next_entry(&j, &first, &e, NULL);) {
        const int at = ae__slot_of(m, e.name);
        ae_status status = AE_SUCCESS;
        if (at < 0)
            return ae__refuse(f, e.name, "is not a tensor of this model (ae_name gives names)");
        if (f->slots[at].found)
            return ae__refuse(f, e.name, "is there twice");
        if (at < m->params)
            status = ae__shape_fits(f, &e, f->slots[at].param);
        if (at >= 2 * m->params)
            status = ae__training_fits(f, m, &e, at > 2 * m->params);
        if (status == AE_SUCCESS)
            status = ae__entry_slot(f, &e, &f->slots[at]);
        if (status)
            return status;
    }
    for (const ae_param *p = m->first_param; p; p = p->next)
        if (!f->slots[p->index].found)
            return ae__fail(f->arena, AE_E_FORMAT, "%s has no %s", f->name, p->name);
    return AE_SUCCESS;
}

// The next n values, as floats; to is where they stand in t.
static ae_status ae__take_floats(ae__model_file *f, const ae__slot *t, float *dst, size_t n,
                                 const char *what)
{
    unsigned char raw[512];
    for (size_t i = 0; i < n;) {
        const size_t k = ae__min(n - i, sizeof raw / t->size);
        const size_t got = ae__source_read(&f->source, raw, k * t->size);
        if (got < k * t->size)
            return ae__source_cut(f->arena, &f->source, i * t->size + got, n * t->size, what);
        for (size_t j = 0; j < k; i++, j++) {
            dst[i] = ae__value_of(ae__little_endian(raw + j * t->size, t->size), t->kind, t->size);
            if (!ae__finite(dst[i]))
                return ae__fail(f->arena, AE_E_NUMERIC, "%s: value %z of %s is not finite", f->name,
                                i, what);
        }
    }
    return AE_SUCCESS;
}

// The optimiser's state, parameter by parameter, to where PARAM has them.
static ae_status ae__take_optim(ae__model_file *f, const ae_model *m, const ae__slot *t)
{
    ae_status status = AE_SUCCESS;
    for (int s = 0; s < m->optim_states; s++)
        for (const ae_param *p = m->first_param; p && !status; p = p->next)
            if (!p->untrained)
                status = ae__take_floats(f, t, f->optim + (size_t)s * m->trained_floats + p->at,
                                         p->count, "ae.optim");
    return status;
}

// The counters, into m's STATE.
static ae_status ae__take_state(ae__model_file *f, const ae_model *m, const ae__slot *t)
{
    ae__state *state = ae__state_of(m);
    uint64_t *counts[4];
    counts[0] = &state->steps;
    counts[1] = &state->epoch;
    counts[2] = &state->cursor;
    counts[3] = &state->seen;
    for (int i = 0; i < 4 + 3 * m->losses; i++) {
        unsigned char raw[8];
        double v = 0.0;
        float x;
        const size_t got = ae__source_read(&f->source, raw, t->size);
        if (got < t->size)
            return ae__source_cut(f->arena, &f->source, got, t->size, "ae.state");
        const uint64_t u = ae__little_endian(raw, t->size);
        x = ae__value_of(u, t->kind, t->size);
        if (t->size == 8)
            memcpy(&v, &u, 8);
        else
            v = (double)x;
        if (!ae__finite(x) || (i < 4 && (v < 0.0 || v > 9e15 || v != floor(v))))
            return ae__fail(f->arena, AE_E_NUMERIC, "%s: value %d of ae.state cannot be", f->name,
                            i);
        if (i < 4)
            *counts[i] = (uint64_t)v;
        else if (i < 4 + 2 * m->losses)
            ae__loss_sums(m)[i - 4] = v;        // the means stand behind them
        else
            ae__loss_values(m)[i - 4 - 2 * m->losses] = (float)v;
    }
    return AE_SUCCESS;
}

/* The data, from its first byte on: each byte belongs to one tensor. m: where it goes. */
static ae_status ae__take_tensors(ae__model_file *f, ae_model *m, int training)
{
    const int count = 2 * m->params + 2;
    size_t at = 0;
    for (;;) {
        const ae__slot *lowest = NULL;
        ae__slot *next = NULL;
        for (ae__slot *t = f->slots; t < f->slots + count; t++) {
            if (!t->found || t->done)
                continue;
            if (t->begin == at && (next == NULL || t->end == at))
                next = t;
            if (lowest == NULL || t->begin < lowest->begin)
                lowest = t;
        }
        if (lowest == NULL)
            return AE_SUCCESS;
        if (next == NULL)
            return ae__fail(f->arena, AE_E_FORMAT, "%s: %s begins at byte %z of the data, the one "
                            "before it ends at %z", f->name, lowest->param ? lowest->param->name
                            : "a tensor", lowest->begin, at);
        ae_status status = AE_SUCCESS;
        if (next->param)
            status = ae__take_floats(f, next, ae__weights(m, next->param), next->param->count,
                                     next->param->name);
        else if (training && next == f->slots + count - 2)
            status = ae__take_optim(f, m, next);
        else if (training && next == f->slots + count - 1)
            status = ae__take_state(f, m, next);
        else if (ae__source_read(&f->source, NULL, next->end - at) < next->end - at)
            status = ae__source_cut(f->arena, &f->source, 0, next->end - at, "its last tensors");
        if (status)
            return status;
        next->done = 1;
        at = next->end;
    }
}

// ---- the probe

#define AE__STREAM_PROBE 0x50524f42u

/* The next result after t (NULL: the first): what nothing reads but losses, and what only training
   has. Marks in m->needed: 1 for what belongs to training, 2 for what something else reads. */
static const ae_tensor *ae__next_result(ae_model *m, const ae_tensor *t)
{
    memset(m->needed, 0, (size_t)m->tensors);
    for (const ae_tensor *u = m->first; u; u = u->next) {
        int training = u->loss >= 0;
#ifndef AE_NO_TRAIN
        training |= u->op == &ae__op_log_normal || u->op == &ae__op_log_bernoulli;
#endif
        for (int i = 0; i < AE__INPUTS && u->in[i]; i++)
            training |= m->needed[u->in[i]->id] & 1;
        m->needed[u->id] = (unsigned char)training;
        for (int i = 0; i < AE__INPUTS && u->in[i] && !training; i++)
            m->needed[u->in[i]->id] |= 2;
    }
    for (t = t ? t->next : m->first; t; t = t->next)
        if (!m->needed[t->id] && !t->is_input && !t->kept)
            return t;
    return NULL;
}

static const ae_tensor *ae__next_input(const ae_model *m, const ae_tensor *t)
{
    for (t = t ? t->next : m->first; t && t->op != &ae__op_input;)
        t = t->next;
    return t;
}

static void ae__put_hex(ae__sink *s, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        char text[8];
        memcpy(&u, &x[i], 4);
        for (int k = 0; k < 8; k++)         // low byte first, of each the high half
            text[k] = ae__hex[u >> (4 * (k ^ 1)) & 15];
        ae__put_bytes(s, text, 8);
    }
}

// Eight digits of hex. 0: there are none left.
static int ae__hex_float(ae__json *text, float *x)
{
    uint32_t u = 0;
    if (text->end - text->at < 8)
        return 0;
    for (int k = 0; k < 8; k++) {
        const int digit = ae__hex_digit(*text->at++);
        if (digit < 0)
            return 0;
        u |= (uint32_t)digit << (4 * (k ^ 1));
    }
    memcpy(x, &u, 4);
    return ae__finite(*x);
}

// Replays the file's probe in m, built, with the file's weights.
static ae_status ae__probe_check(ae__model_file *f, ae_model *m)
{
    ae__json in = f->meta[AE__PROBE_INPUT], out = f->meta[AE__PROBE_OUTPUT];
    int fits = 1;
    if (!in.at || !out.at)
        return AE_SUCCESS;
    ae__place_samples(m, 0, 1);
    for (const ae_tensor *t = m->first; t; t = t->next)
        if (t->is_input)
            memset(ae__value(m, t), 0, ae__size(t) * sizeof(float));
    for (const ae_tensor *t = NULL; (t = ae__next_input(m, t)) != NULL;)
        for (size_t i = 0; i < ae__size(t); i++)
            fits &= ae__hex_float(&in, ae__value(m, t) + i);
    for (const ae_tensor *t = NULL; (t = ae__next_result(m, t)) != NULL && fits;) {
        const size_t n = ae__size(t);
        double largest = 0.0, off = 0.0;
        ae_status status = ae_run(m, t, 1);
        if (status)
            return ae__fail(f->arena, status, "%s: %s", f->name, m->error);
        for (size_t i = 0; i < n && fits; i++) {
            float want = 0.0f, got = ae__value(m, t)[i];
            fits &= ae__hex_float(&out, &want);
            largest = fabs((double)want) > largest ? fabs((double)want) : largest;
            const double d = ae__finite(got) ? fabs((double)got - (double)want) : 1e300;
            off = d > off ? d : off;
        }
        if (fits && off > 1e-4 * largest + 1e-6)
            return ae__fail(f->arena, AE_E_FORMAT, "%s: %s is not what it was when the file was "
                            "saved: it differs by %g, the largest value is %g", f->name, t->name,
                            off, largest);
    }
    if (!fits || in.at != in.end || out.at != out.end)
        return ae__fail(f->arena, AE_E_FORMAT, "%s: its probe is not of this model", f->name);
    return AE_SUCCESS;
}

// ---- what the file has beside the weights

// The bytes that its notes take from the arena (take: 0), or takes them.
static size_t ae__notes_read(ae__model_file *f, ae_model *m, int take)
{
    ae__json j = f->header, key, text;
    size_t bytes = 0;
    char name[AE__NAME_MAX];
    for (int first = 1; ae__json_more(&j, &first, '}');) {
        ae__entry e;
        int inner = 1;
        ae__json_key(&j, &key);
        if (!ae__json_is(key, "__metadata__")) {
            ae__json_entry(&j, &e);
            continue;
        }
        ae__json_pass(&j, '{');
        while (ae__json_more(&j, &inner, '}')) {
            ae__json_key(&j, &key);
            ae__json_text(&j, &text);
            const size_t length = ae__json_copy(key, name, sizeof name);
            if (length == 0 || length >= sizeof name || strncmp(name, "ae.", 3) == 0)
                continue;
            const size_t size = ae__json_copy(text, NULL, 0) + 1;
            char *room = take ? ae__note_room(m, name, size) : NULL;
            if (room)
                ae__json_copy(text, room, size);
            bytes = ae__sat_add(bytes, ae__note_bytes(m, name, size));
        }
    }
    return bytes;
}

// Everything is checked: m, which may be `from` itself, becomes what the file says.
static void ae__file_accept(ae__model_file *f, ae_model *m, const ae_model *from)
{
    const int training = f->training && m->mode == AE_TRAIN;
    if (m != from)
        memcpy(m->segment[AE_SEG_PARAM], from->segment[AE_SEG_PARAM], m->bytes[AE_SEG_PARAM]);
    if (m->mode == AE_TRAIN) {
        memset(m->segment[AE_SEG_GRAD], 0, m->bytes[AE_SEG_GRAD]);
        if (f->optim == NULL)
            memset(m->segment[AE_SEG_OPT], 0, m->bytes[AE_SEG_OPT]);
        else if (m != from)
            memcpy(m->segment[AE_SEG_OPT], f->optim, m->bytes[AE_SEG_OPT]);
    }
    if (training && m != from)
        memcpy(m->segment[AE_SEG_STATE], from->segment[AE_SEG_STATE], m->bytes[AE_SEG_STATE]);
    else if (!training)
        memset(m->segment[AE_SEG_STATE], 0, m->bytes[AE_SEG_STATE]);
    if (training && f->has_seed)
        m->seed = f->seed;
    if (f->scaling.known)
        m->trained = f->scaling;
    m->forward_n = 0;
}

// Into `to`, which is m or a fork of it: its parameters and counters, then the probe.
static ae_status ae__file_take(ae__model_file *f, ae_model *m, ae_model *to)
{
    const int training = f->training && m->mode == AE_TRAIN;
    const size_t states = (size_t)m->optim_states * m->trained_floats;
    if (training && f->slots[2 * m->params].found) {
        f->optim = m == to ? ae__segment(m, AE_SEG_OPT)
                           : (float *)ae_alloc(f->arena, states * sizeof(float));
        if (f->optim == NULL)
            return ae__fail(f->arena, AE_E_MEMORY, "%s: the optimiser's state needs %z bytes, the "
                            "arena has %z left", f->name, states * sizeof(float),
                            ae_arena_left(f->arena));
    }
    ae_status status = ae__take_tensors(f, to, training);
    to->seed = f->has_seed ? f->seed : m->seed;     // noise that is always on depends on it
    return status ? status : ae__probe_check(f, to);
}

static ae_status ae__load_all(ae__model_file *f, ae_model *m)
{
    ae_arena *arena = m->arena;
    ae_status status = ae__file_begin(f, arena);
    const size_t mark = ae_arena_used(arena);
    if (status == AE_SUCCESS)
        status = ae__find_tensors(f, m);
    if (status)
        return status;
    const size_t notes = ae__notes_read(f, m, 0), left = ae_arena_left(arena);
    if (notes > left)
        return ae__fail(arena, AE_E_MEMORY, "%s: its notes need %z bytes, the arena has %z left",
                        f->name, notes, left);
    ae_model *fork = ae__fork(m, arena, 1, 0, AE_FLOAT32, f->name);
    status = fork ? ae__file_take(f, m, fork) : AE_E_MEMORY;
    if (status == AE_SUCCESS)
        ae__file_accept(f, m, fork);
    ae_arena_rewind(arena, mark);
    if (status == AE_SUCCESS)
        ae__notes_read(f, m, 1);
    return status;
}

static ae_status ae__load(ae_model *m, ae__model_file *f)
{
    ae_status status = ae__begin(m, 1);
    if (status)
        return status;
    if (m->graph != m)
        return ae__report(m, AE_E_ARG, "a fork has the parameters of its model: load that");
    status = ae__load_all(f, m);
    ae__file_end(f);
    return status ? ae__report(m, status, "%s", m->arena->error) : AE_SUCCESS;
}

// What the file holds, into the model that its graph became.
static ae_status ae__open_take(ae__model_file *f, ae_arena *arena, ae_model *m)
{
    ae_status status = ae__find_tensors(f, m);
    if (status == AE_SUCCESS)
        status = ae__file_take(f, m, m);
    if (status)
        return status;
    const size_t notes = ae__notes_read(f, m, 0), left = ae_arena_left(arena);
    if (notes > left)
        return ae__fail(arena, AE_E_MEMORY, "%s: its notes need %z bytes, the arena has %z left",
                        f->name, notes, left);
    ae__file_accept(f, m, m);
    ae__notes_read(f, m, 1);
    return AE_SUCCESS;
}

static ae_status ae__open_all(ae__model_file *f, ae_arena *arena, int batch, ae_mode mode,
                              ae_model **made)
{
    ae_status status = ae__file_begin(f, arena);
    if (status)
        return status;
    if (!f->meta[AE__GRAPH].at)
        return ae__fail(arena, AE_E_FORMAT, "%s holds weights and no graph: build the model and "
                        "load them into it", f->name);
    ae_model *m = *made = ae_model_new(arena, f->seed);
    if (m == NULL)
        return ae__fail(arena, AE_E_MEMORY, "%s: the arena has no room for a model", f->name);
    if (f->optim_states >= 0)
        m->optim_states = f->optim_states;
    status = ae__graph_read(f, m);
    if (status)
        return status;
    if ((status = ae_build(m, batch, mode)) != AE_SUCCESS)
        return ae__fail(arena, status, "%s: %s", f->name, m->error);
    return AE__ON_HOST(m, status, ae__open_take(f, arena, m));
}

static ae_model *ae__open(ae__model_file *f, ae_arena *arena, int batch, ae_mode mode)
{
    ae_model *m = NULL;
    const size_t mark = ae_arena_used(arena);
    if (arena == NULL)
        return NULL;
    arena->error[0] = 0;
    const ae_status status = ae__open_all(f, arena, batch, mode, &m);
    ae__file_end(f);
    if (status == AE_SUCCESS)
        return m;
    ae_arena_rewind(arena, mark);
    return NULL;
}

static ae_status ae__model_decode_here(ae_model *m, const void *bytes, size_t n, const char *name)
{
    ae__model_file f;
    memset(&f, 0, sizeof f);
    ae__source_bytes(&f.source, bytes, n, name, "");
    return ae__load(m, &f);
}

AE_API ae_status ae_model_decode(ae_model *m, const void *bytes, size_t n, const char *name)
{
    ae_status result;
    return AE__ON_HOST(m, result, ae__model_decode_here(m, bytes, n, name));
}

AE_API ae_model *ae_model_open_memory(ae_arena *arena, const void *bytes, size_t n,
                                      const char *name, int batch, ae_mode mode)
{
    ae__model_file f;
    memset(&f, 0, sizeof f);
    ae__source_bytes(&f.source, bytes, n, name, "");
    return ae__open(&f, arena, batch, mode);
}

#ifndef AE_NO_STDIO
static ae_status ae__model_load_here(ae_model *m, const char *path)
{
    ae__model_file f;
    memset(&f, 0, sizeof f);
    ae__source_path(&f.source, path);
    return ae__load(m, &f);
}

AE_API ae_status ae_model_load(ae_model *m, const char *path)
{
    ae_status result;
    return AE__ON_HOST(m, result, ae__model_load_here(m, path));
}

AE_API ae_model *ae_model_open(ae_arena *arena, const char *path, int batch, ae_mode mode)
{
    ae__model_file f;
    memset(&f, 0, sizeof f);
    ae__source_path(&f.source, path);
    return ae__open(&f, arena, batch, mode);
}
#endif

// ---- writing a model

/* A model on its way out. */
typedef struct ae__writer {
    ae_model *m, *probe;        // what the probe is computed in
    uint64_t draw;
    int training;
    ae_status *status;          // of the probe
} ae__writer;

static void ae__put_meta(ae__sink *s, const char *key, const char *value)
{
    ae__put_text(s, ",\"");
    ae__put_json(s, key);
    ae__put_text(s, "\":\"");
    ae__put_json(s, value);
    ae__put_text(s, "\"");
}

/* Uniform numbers into every input, zeros into labels. Samples after the first differ from it by a
   little more than rounding, the second one way, the third the other. */
static void ae__probe_inputs(ae_model *m, uint64_t draw, int samples)
{
    ae_random r;
    r.seed = 0;
    r.step = draw;
    r.stream = AE__STREAM_PROBE;
    ae__place_samples(m, 0, (size_t)samples);
    for (const ae_tensor *t = m->first; t; t = t->next) {
        const size_t n = ae__size(t);
        float *x = t->is_input ? ae__value(m, t) : NULL;
        if (t->op == &ae__op_input) {
            ae_random_uniform(x, n, 0, r);
            r.stream++;
            for (size_t i = n; i < n * (size_t)samples; i++)
                x[i] = x[i % n] * ((i % n + i / n) % 2 ? 1.0f + 4e-6f : 1.0f - 4e-6f);
        } else if (x)
            memset(x, 0, (size_t)samples * sizeof *x);
    }
}

/* A draw whose results rounding hardly moves: where the largest or the nearest is chosen (vq,
   top_k), another processor could choose otherwise. m has room for three samples. */
static uint64_t ae__steady_draw(ae_model *m)
{
    for (uint64_t draw = 0; draw < 16; draw++) {
        int steady = 1;
        ae__probe_inputs(m, draw, 3);
        for (const ae_tensor *t = NULL; steady && (t = ae__next_result(m, t)) != NULL;) {
            const size_t n = ae__size(t);
            const float *y = ae__value(m, t);
            float largest = 0.0f, off = 0.0f;
            steady = ae_run(m, t, 3) == AE_SUCCESS;
            for (size_t i = 0; i < 3 * n; i++) {
                const float d = fabsf(y[i] - y[i % n]);
                largest = fabsf(y[i]) > largest ? fabsf(y[i]) : largest;
                off = d > off ? d : off;
            }
            steady &= off <= 5e-5f * largest + 5e-7f;
        }
        if (steady)
            return draw;
    }
    return 0;
}

// The probe: into every input what was drawn, and then all results.
static void ae__put_probe(ae__sink *s, const ae__writer *w, int results)
{
    ae_model *m = w->probe;
    const int counting = s->dst == NULL && s->file == NULL;
    if (!counting)
        ae__probe_inputs(m, w->draw, 1);
    for (const ae_tensor *t = NULL; (t = results ? ae__next_result(m, t) : ae__next_input(m, t))
         != NULL;) {
        const size_t n = ae__size(t);
        if (counting) {
            s->size += 8 * n;
            continue;
        }
        if (results && *w->status == AE_SUCCESS)
            *w->status = ae_run(m, t, 1);
        for (size_t i = 0; i < n && *w->status == AE_SUCCESS; i++)
            if (!ae__finite(ae__value(m, t)[i]))
                *w->status = ae__report(m, AE_E_NUMERIC, "%s is not finite for a sample of "
                                        "numbers from 0 to 1", t->name);
        ae__put_hex(s, ae__value(m, t), n);
        s->failed |= *w->status != AE_SUCCESS;
    }
}

static void ae__put_metadata(ae__sink *s, const ae__writer *w)
{
    const ae_model *m = w->m;
    const ae__scaling *scaling = &m->graph->trained;
    const float scale[3] = {scaling->scale, scaling->mean, scaling->deviation};
    char text[AE__FLOAT_TEXT];
    ae__put_text(s, "{\"__metadata__\":{\"ae.version\":\"" AE_VERSION "\",\"ae.seed\":\"");
    ae__put_number(s, m->seed);
    ae__put_text(s, "\",\"ae.optim_states\":\"");
    ae__put_number(s, (uint64_t)m->optim_states);
    ae__put_text(s, "\",\"ae.graph\":\"");
    for (const ae_tensor *t = m->first; t; t = t->next)
        if (!t->kept)
            ae__put_line(s, t);
    ae__put_text(s, "\"");
    for (int i = 0; i < 3 && scaling->known; i++) {
        ae__float_text(text, scale[i]);
        ae__put_meta(s, ae__meta_names[AE__SCALE + i], text);
    }
    for (const ae__note *note = m->graph->notes; note; note = note->next)
        ae__put_meta(s, note->key, note->value);
    for (int results = 0; results < 2; results++) {
        ae__put_text(s, results ? "\",\"ae.probe.output\":\"" : ",\"ae.probe.input\":\"");
        ae__put_probe(s, w, results);
    }
    ae__put_text(s, "\"}");
}

// One tensor's line of the header; *at: where its data begins.
static void ae__put_entry(ae__sink *s, const char *name, const char *dtype, const size_t *side,
                          int dims, size_t bytes, size_t *at)
{
    ae__put_text(s, ",\"");
    ae__put_json(s, name);
    ae__put_text(s, "\":{\"dtype\":\"");
    ae__put_text(s, dtype);
    ae__put_text(s, "\",\"shape\":[");
    for (int i = 0; i < dims; i++) {
        ae__put_text(s, i ? "," : "");
        ae__put_number(s, side[i]);
    }
    ae__put_text(s, "],\"data_offsets\":[");
    ae__put_number(s, *at);
    ae__put_text(s, ",");
    *at += bytes;
    ae__put_number(s, *at);
    ae__put_text(s, "]}");
}

static void ae__put_header(ae__sink *s, const ae__writer *w)
{
    const ae_model *m = w->m;
    size_t side[4], at = 0;
    ae__put_metadata(s, w);
    if (w->training) {              // doubles first, so that they are aligned
        side[0] = 4 + 3 * (size_t)m->losses;
        ae__put_entry(s, "ae.state", "F64", side, 1, side[0] * 8, &at);
    }
    for (const ae_param *p = m->first_param; p; p = p->next) {
        for (int i = 0; i < p->dims; i++)
            side[i] = (size_t)p->shape[i];
        ae__put_entry(s, p->name, "F32", side, p->dims, p->count * 4, &at);
    }
    if (w->training && m->optim_states) {
        side[0] = (size_t)m->optim_states;
        side[1] = ae__trained_count(m);
        ae__put_entry(s, "ae.optim", "F32", side, 2, side[0] * side[1] * 4, &at);
    }
    ae__put_text(s, "}");
}

static void ae__put_little(ae__sink *s, uint64_t u, size_t size)
{
    unsigned char raw[8];
    for (size_t i = 0; i < size; i++)
        raw[i] = (unsigned char)(u >> 8 * i);
    ae__put_bytes(s, raw, size);
}

static void ae__put_floats(ae__sink *s, const float *x, size_t n)
{
    unsigned char raw[1024];
    for (size_t i = 0; i < n;) {
        const size_t k = ae__min(n - i, sizeof raw / 4);
        for (size_t j = 0; j < k; j++) {
            uint32_t u;
            memcpy(&u, x + i + j, 4);
            for (size_t b = 0; b < 4; b++)
                raw[4 * j + b] = (unsigned char)(u >> 8 * b);
        }
        ae__put_bytes(s, raw, 4 * k);
        i += k;
    }
}

// A loss that was not finite, and that nothing was learned from, is reported as 0.
static void ae__put_f64(ae__sink *s, double v)
{
    uint64_t u = 0;
    if (ae__finite_double(v))
        memcpy(&u, &v, 8);
    ae__put_little(s, u, 8);
}

static void ae__put_model(ae__sink *s, const void *writer)
{
    const ae__writer *w = (const ae__writer *)writer;
    const ae_model *m = w->m;
    ae__sink count = ae__sink_of(NULL, 0);
    ae__put_header(&count, w);
    const size_t header = ae__round_up(count.size, 8), start = s->size + 8 + header;
    ae__put_little(s, header, 8);
    ae__put_header(s, w);
    while (s->size < start && !s->failed)
        ae__put_text(s, " ");
    if (w->training) {
        const ae__state *state = ae__state_of(m);
        ae__put_f64(s, (double)state->steps);
        ae__put_f64(s, (double)state->epoch);
        ae__put_f64(s, (double)state->cursor);
        ae__put_f64(s, (double)state->seen);
        for (int i = 0; i < 2 * m->losses; i++)
            ae__put_f64(s, ae__loss_sums(m)[i]);
        for (int i = 0; i < m->losses; i++)
            ae__put_f64(s, (double)ae__loss_values(m)[i]);
    }
    for (const ae_param *p = m->first_param; p; p = p->next)
        ae__put_floats(s, ae__weights(m, p), p->count);
    for (int i = 0; i < m->optim_states && w->training; i++)
        for (const ae_param *p = m->first_param; p; p = p->next)
            if (!p->untrained)
                ae__put_floats(s, ae__segment(m, AE_SEG_OPT) + (size_t)i * m->trained_floats
                               + p->at, p->count);
}

// Whether m can be saved so that it can be loaded.
static ae_status ae__save_check(ae_model *m, int flags)
{
    ae_status status = ae__begin(m, 1);
    if (status)
        return status;
    if (m->precision)
        return ae__report(m, AE_E_ARG, "the weights of this fork are small: save the model that "
                          "they come from");
    if (flags & ~AE_SAVE_TRAINING)
        return ae__report(m, AE_E_ARG, "saving: there are no flags %d", flags);
    if (flags && m->mode != AE_TRAIN)
        return ae__report(m, AE_E_ARG, "AE_SAVE_TRAINING: the model was built for inference");
    for (const ae_param *p = m->first_param; p; p = p->next) {
        for (const ae_param *q = p->next; q; q = q->next)
            if (strcmp(p->name, q->name) == 0)
                return ae__report(m, AE_E_ARG, "two parameters are called %s: name their layers "
                                  "apart", p->name);
        for (size_t i = 0; i < p->count; i++)
            if (!ae__finite(ae__weights(m, p)[i]))
                return ae__report(m, AE_E_NUMERIC, "value %z of %s is not finite: nothing was "
                                  "saved", i, p->name);
    }
    const float *optim = ae__segment(m, AE_SEG_OPT);
    for (size_t i = 0; flags && i < m->bytes[AE_SEG_OPT] / sizeof *optim; i++)
        if (!ae__finite(optim[i]))
            return ae__report(m, AE_E_NUMERIC, "the optimiser's state is not finite: nothing was "
                              "saved");
    return AE_SUCCESS;
}

// Puts m out: to memory or, when that is NULL, to a file.
static ae_status ae__save(ae_model *m, const char *path, ae__sink *memory, int flags)
{
    ae_status status = ae__save_check(m, flags), probe = AE_SUCCESS;
    if (status)
        return status;
    const size_t mark = ae_arena_used(m->arena);
    // forks may share an arena with others that run
    ae_model *fork = m->graph == m ? ae__fork(m, m->arena, 3, 1, AE_FLOAT32, "") : NULL;
    ae__writer w;
    w.m = m;
    w.probe = fork ? fork : m;
    w.draw = fork && !(memory && memory->dst == NULL) ? ae__steady_draw(fork) : 0;
    w.training = flags & AE_SAVE_TRAINING;
    w.status = &probe;
    if (fork == NULL && m->graph == m)
        m->arena->error[0] = 0;
    if (memory)
        ae__put_model(memory, &w);
#ifndef AE_NO_STDIO
    else
        status = ae__write_file(m->arena, path, ae__put_model, &w);
#else
    (void)path;
#endif
    if (probe)
        ae__report(m, probe, "%s", w.probe->error);
    else if (status)
        ae__report(m, status, "%s", m->arena->error);
    else if (memory && memory->failed)
        status = ae__report(m, AE_E_ARG, "ae_model_encode: %z bytes are too few", memory->capacity);
    ae_arena_rewind(m->arena, mark);
    return probe ? probe : status;
}

static size_t ae__model_encode_here(ae_model *m, void *dst, size_t capacity, int flags)
{
    ae__sink s = ae__sink_of(dst, capacity);
    return ae__save(m, NULL, &s, flags) ? 0 : s.size;
}

AE_API size_t ae_model_encode(ae_model *m, void *dst, size_t capacity, int flags)
{
    size_t result;
    return AE__ON_HOST(m, result, ae__model_encode_here(m, dst, capacity, flags));
}

#ifndef AE_NO_STDIO
static ae_status ae__model_save_here(ae_model *m, const char *path, int flags)
{
    return ae__save(m, path, NULL, flags);
}

AE_API ae_status ae_model_save(ae_model *m, const char *path, int flags)
{
    ae_status result;
    return AE__ON_HOST(m, result, ae__model_save_here(m, path, flags));
}
#endif

// ---- .npy and CSV

// What stands behind 'key': in the dictionary of a header, or NULL.
static const char *ae__npy_find(const char *dictionary, const char *key)
{
    const size_t n = strlen(key);
    for (const char *at = dictionary; (at = strstr(at, key)) != NULL; at += n) {
        const char quote = at > dictionary ? at[-1] : 0;
        const char *s = at + n;
        if ((quote != '\'' && quote != '"') || *s++ != quote)
            continue;
        while (*s == ' ')
            s++;
        if (*s++ != ':')
            continue;
        while (*s == ' ')
            s++;
        return s;
    }
    return NULL;
}

// '<f4': byte order, kind, bytes.
static int ae__npy_type(ae__idx *x, const char *s)
{
    if (s == NULL || (*s != '\'' && *s != '"') || strchr("<>|=", s[1]) == NULL || s[1] == 0
        || s[2] == 0 || s[3] == 0 || s[4] != s[0])
        return 0;
    memcpy(x->type, s + 1, 3);
    x->type[3] = 0;
    x->kind = s[2];
    x->size = (size_t)(s[3] - '0');
    x->little = s[1] != '>';
    x->labels = x->kind != 'f';
    return x->kind == 'b' ? x->size == 1 : x->kind == 'f' ? x->size == 2 || x->size == 4
           || x->size == 8 : (x->kind == 'u' || x->kind == 'i') && (x->size == 1 || x->size == 2
           || x->size == 4 || x->size == 8);
}

// (60000, 28, 28): 1 to 4 dimensions.
static int ae__npy_shape(ae__idx *x, const char *s)
{
    if (s == NULL || *s++ != '(')
        return 0;
    for (x->rank = 0; x->rank < 5; x->rank++) {
        uint64_t n = 0;
        while (*s == ' ')
            s++;
        if (*s == ')')
            return x->rank > 0;
        const char *from = s;
        for (; *s >= '0' && *s <= '9' && n <= 0xffffffffu; s++)
            n = 10 * n + (uint64_t)(*s - '0');
        if (s == from || n > 0xffffffffu || x->rank == 4)
            return 0;
        x->dims[x->rank] = (uint32_t)n;
        while (*s == ' ')
            s++;
        if (*s == ',')
            s++;
        else if (*s != ')')
            return 0;
    }
    return 0;
}

// \x93NUMPY, version, size of the rest, a dictionary of Python.
static ae_status ae__npy_header(ae_arena *arena, ae__source *s, ae__idx *x)
{
    unsigned char raw[12];
    char text[1024];
    memset(x, 0, sizeof *x);
    size_t got = ae__source_read(s, raw, 8);
    if (got < 8)
        return ae__source_cut(arena, s, got, 8, "its first numbers");
    if (memcmp(raw, "\x93NUMPY", 6) != 0 || raw[6] < 1 || raw[6] > 3)
        return ae__fail(arena, AE_E_FORMAT, "%s%s is not .npy of version 1 to 3", s->name, s->part);
    const size_t width = raw[6] == 1 ? 2 : 4;
    got = ae__source_read(s, raw, width);
    const size_t n = (size_t)ae__little_endian(raw, width);
    if (got < width)
        return ae__source_cut(arena, s, 8 + got, 8 + width, "its first numbers");
    if (n >= sizeof text)
        return ae__fail(arena, AE_E_FORMAT, "%s%s has a header of %z bytes: more than an array's",
                        s->name, s->part, n);
    got = ae__source_read(s, text, n);
    if (got < n)
        return ae__source_cut(arena, s, got, n, "its header");
    text[n] = 0;
    const char *fortran = ae__npy_find(text, "fortran_order");
    x->fortran = fortran && strncmp(fortran, "True", 4) == 0;
    if (!ae__npy_type(x, ae__npy_find(text, "descr")))
        return ae__fail(arena, AE_E_FORMAT, "%s%s has values of a type that cannot be read: "
                        "integers, bool and f2, f4, f8 can", s->name, s->part);
    if (!ae__npy_shape(x, ae__npy_find(text, "shape")) || fortran == NULL
        || (!x->fortran && strncmp(fortran, "False", 5) != 0))
        return ae__fail(arena, AE_E_FORMAT, "%s%s: its header is not of an array of 1 to 4 "
                        "dimensions", s->name, s->part);
    return ae__idx_shape(arena, s, x);
}

AE_API ae_status ae_npy_parse(ae_dataset *d, ae_arena *arena, const void *bytes, size_t n,
                              const void *labels, size_t labels_n, const char *name)
{
    ae__source a, b;
    ae__source_bytes(&a, bytes, n, name, "");
    ae__source_bytes(&b, labels, labels_n, name, " labels");
    return ae__idx_read(d, arena, &a, labels ? &b : NULL, ae__npy_header);
}

/* An array on its way out; as CSV, the rows and columns of it. */
typedef struct ae__array {
    const float *x;
    const size_t *shape;
    int dims;
    size_t count;
} ae__array;

// 0: it cannot be. No dimensions are one value.
static int ae__array_of(ae__array *a, const float *x, const size_t *shape, int dims)
{
    a->x = x;
    a->shape = shape;
    a->dims = dims;
    a->count = 1;
    if (dims < 0 || dims > 8 || (shape == NULL && dims > 0))
        return 0;
    for (int i = 0; i < dims; i++)
        a->count = ae__sat_mul(a->count, shape[i]);
    return a->count < SIZE_MAX / 8 && (x || a->count == 0);
}

static void ae__put_npy(ae__sink *s, const void *array)
{
    const ae__array *a = (const ae__array *)array;
    char shape[8 * 22 + 1], head[320];
    shape[0] = 0;
    for (int i = 0; i < a->dims; i++) {
        const size_t end = strlen(shape);
        ae__format(shape + end, sizeof shape - end, i ? " %z," : "%z,", a->shape[i]);
    }
    if (a->dims > 1)                    // (3,) but (3, 4)
        shape[strlen(shape) - 1] = 0;
    ae__format(head, sizeof head, "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }",
               shape);
    const size_t n = strlen(head), padded = ae__round_up(10 + n + 1, 64) - 10;
    ae__put_bytes(s, "\x93NUMPY\1\0", 8);
    ae__put_little(s, padded, 2);
    ae__put_text(s, head);
    for (size_t i = n; i + 1 < padded; i++)
        ae__put_text(s, " ");
    ae__put_text(s, "\n");
    ae__put_floats(s, a->x, a->count);
}

AE_API size_t ae_npy_encode(void *dst, size_t capacity, const float *x, const size_t *shape,
                            int dims)
{
    ae__array a;
    ae__sink s = ae__sink_of(dst, capacity);
    if (!ae__array_of(&a, x, shape, dims))
        return 0;
    ae__put_npy(&s, &a);
    return s.failed ? 0 : s.size;
}

#ifndef AE_NO_STDIO
AE_API ae_status ae_npy_load(ae_dataset *d, ae_arena *arena, const char *path, const char *labels)
{
    ae__source a, b;
    ae__source_path(&a, path);
    ae__source_path(&b, labels ? labels : "");
    return ae__idx_read(d, arena, &a, labels ? &b : NULL, ae__npy_header);
}

AE_API ae_status ae_npy_write(ae_arena *arena, const char *path, const float *x,
                              const size_t *shape, int dims)
{
    ae__array a;
    if (!ae__array_of(&a, x, shape, dims))
        return ae__fail(arena, AE_E_ARG, "%s: an array of %d dimensions (at most 8), or none",
                        ae__path_tail(path), dims);
    return ae__write_file(arena, path, ae__put_npy, &a);
}

static void ae__put_csv(ae__sink *s, const void *array)
{
    const ae__array *a = (const ae__array *)array;
    for (size_t i = 0; i < a->count && !s->failed; i++) {
        char text[AE__FLOAT_TEXT];
        ae__float_text(text, a->x[i]);
        if (!ae__finite(a->x[i]))
            ae__format(text, sizeof text, "%s", ae__not_a_number(a->x[i], "nan", "inf", "-inf"));
        ae__put_text(s, text);
        ae__put_text(s, (i + 1) % a->shape[1] ? "," : "\n");
    }
}

AE_API ae_status ae_csv_write(ae_arena *arena, const char *path, const float *x, size_t rows,
                              size_t columns)
{
    const size_t shape[2] = {rows, columns};
    ae__array a;
    if (!ae__array_of(&a, x, shape, 2) || columns < 1)
        return ae__fail(arena, AE_E_ARG, "%s: %z rows of %z columns", ae__path_tail(path), rows,
                        columns);
    return ae__write_file(arena, path, ae__put_csv, &a);
}
#endif

/* ---------------------------------------------------------------------------
   >>image   pictures of what was learned                                     */

// Coordinates are 64 bits wide here: x + w zoom of two ints cannot overflow them.
static void ae__rect(ae_image *img, int64_t x, int64_t y, int64_t w, int64_t h, uint32_t color)
{
    int64_t x0 = x < 0 ? 0 : x, x1 = x + w < img->w ? x + w : img->w;
    int64_t y0 = y < 0 ? 0 : y, y1 = y + h < img->h ? y + h : img->h;
    for (int64_t j = y0; img->rgb && j < y1; j++) {
        uint8_t *p = img->rgb + ((size_t)j * (size_t)img->w + (size_t)x0) * 3;
        for (int64_t i = x0; i < x1; i++) {
            *p++ = (uint8_t)(color >> 16);
            *p++ = (uint8_t)(color >> 8);
            *p++ = (uint8_t)color;
        }
    }
}

AE_API ae_image ae_image_new(ae_arena *arena, int w, int h, uint32_t color)
{
    ae_image img = { NULL, 0, 0 };
    if (w < 1 || h < 1 || (size_t)w > SIZE_MAX / 3 / (size_t)h) {
        ae__fail(arena, AE_E_ARG, "picture: %dx%d pixels are not possible", w, h);
        return img;
    }
    size_t bytes = (size_t)w * (size_t)h * 3;
    img.rgb = (uint8_t *)ae_alloc(arena, bytes);
    if (!img.rgb) {
        ae__fail(arena, AE_E_MEMORY, "picture: %dx%d pixels need %z bytes, the arena has %z left",
                 w, h, bytes, ae_arena_left(arena));
        return img;
    }
    img.w = w;
    img.h = h;
    ae__rect(&img, 0, 0, w, h, color);
    return img;
}

// Where v stands between low and high, 0 ... 1. In double: high - low of two floats may overflow.
static double ae__between(double v, double low, double high)
{
    double t = high > low ? (v - low) / (high - low) : v > low ? 1.0 : 0.0;
    return t < 0.0 ? 0.0 : t > 1.0 ? 1.0 : t;
}

// t of the way from colour a to colour b.
static uint32_t ae__mix(uint32_t a, uint32_t b, double t)
{
    uint32_t out = 0;
    for (int shift = 0; shift < 24; shift += 8) {
        double u = (double)(a >> shift & 255), v = (double)(b >> shift & 255);
        out |= (uint32_t)(u + (v - u) * t + 0.5) << shift;
    }
    return out;
}

static uint32_t ae__color(double v, double low, double high, ae_colormap map)
{
    static const uint32_t stops[5] = { 0x12356b, 0x5a9bd4, 0xffffff, 0xe57158, 0x7b1023 };
    double t = ae__between(v, low, high);
    if (map == AE_HOT) {    // red rises first, then green, then blue: matplotlib's breakpoints
        uint32_t r = ae__mix(0, 255, ae__between(0.0416 + t / 0.365079 * 0.9584, 0.0, 1.0));
        uint32_t g = ae__mix(0, 255, ae__between(t, 0.365079, 0.746032));
        uint32_t b = ae__mix(0, 255, ae__between(t, 0.746032, 1.0));
        return r << 16 | g << 8 | b;
    }
    if (map == AE_DIVERGING) {      // zero stays white: the wider side sets the scale of both
        double top = fabs(low) > fabs(high) ? fabs(low) : fabs(high);
        t = top > 0.0 ? ae__between(v, -top, top) * 4.0 : 2.0;
        int k = t < 3.0 ? (int)t : 3;
        return ae__mix(stops[k], stops[k + 1], t - k);
    }
    return ae__mix(0, 0xffffff, t);
}

// The colour of one pixel whose c channels are `plane` floats apart. Channels that are not red,
// green and blue are averaged. Magenta, which no map holds, shows what is not finite.
static uint32_t ae__pixel(const float *v, size_t plane, int c, float low, float high,
                          ae_colormap map)
{
    double sum = 0.0;
    uint32_t rgb = 0;
    for (int k = 0; k < c; k++) {
        float channel = v[(size_t)k * plane];
        if (!ae__finite(channel) || !ae__finite(low) || !ae__finite(high))
            return 0xff00ff;
        sum += (double)channel;
        if (c == 3 && map == AE_GRAY)
            rgb = rgb << 8 | (ae__color((double)channel, (double)low, (double)high, map) & 255);
    }
    return c == 3 && map == AE_GRAY ? rgb : ae__color(sum / c, (double)low, (double)high, map);
}

AE_API void ae_image_draw(ae_image *img, int x0, int y0, const float *sample, int c, int h, int w,
                          int zoom, float low, float high, ae_colormap map)
{
    int64_t z = zoom < 1 ? 1 : zoom;
    if (c < 1 || h < 1 || w < 1)
        return;
    size_t plane = (size_t)h * (size_t)w;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            ae__rect(img, x0 + x * z, y0 + y * z, z, z,
                     ae__pixel(sample + (size_t)y * (size_t)w + (size_t)x, plane, c, low, high,
                               map));
}

// The 95 printable characters of ASCII from the space on: seven rows each, from the top, of five
// dots: the bits of (character - '0'), the left dot highest. g, p, q and y hang two dots lower.
static const char ae__font[] =
    "00000004444404:::0000::O:O::4?D>5N4HI248C3<BD8EB=44800002488842842224804E>E40044O440"
    "0000<48000O00000000<<01248@0>ACEIA>4<4444>>A1248OO2421A>26:BO22O@N11A>68@NAA>O124888"
    ">AA>AA>>AA?12<0<<0<<00<<0<48248@84200O0O008421248>A12404>AGEG@>>AAOAAANAANAAN>A@@@A>"
    "LBAAABLO@@N@@OO@@N@@@>A@GAA?AAAOAAA>44444>72222B<ABDHDBA@@@@@@OAKEEAAAAAIECAA>AAAAA>"
    "NAAN@@@>AAAEB=NAANDBA?@@>11NO444444AAAAAA>AAAAA:4AAAEEKAAA:4:AAAA:4444O1248@O>88888>"
    "0@84210>22222>4:A0000000000O842000000>1?A?@@NAAAN00?@@@?11?AAA?00>AO@?698L888?AAA?1>"
    "@@NAAAA40<444>20622B<@@BDHDB<44444>00JEEEE00NAAAA00>AAA>NAAAN@@?AAA?1100FI@@@00?@>1N"
    "88L889600AAAC=00AAA:400AAEE:00A:4:AAAAA?1>00O248O34484434444444H44244H008E200";

AE_API int ae_image_text(ae_image *img, int x0, int y0, const char *text, int zoom,
                         uint32_t color)
{
    int64_t z = zoom < 1 ? 1 : zoom, x = 0;
    for (; *text && x < 0x3fffffff - 6 * z; text++, x += 6 * z) {
        int glyph = *text >= 32 && *text < 127 ? *text - 32 : '?' - 32;
        int hang = *text == 'g' || *text == 'p' || *text == 'q' || *text == 'y' ? 2 : 0;
        for (int dot = 0; img && dot < 35; dot++)
            if ((ae__font[glyph * 7 + dot / 5] - '0') >> (4 - dot % 5) & 1)
                ae__rect(img, x0 + x + dot % 5 * z, y0 + (dot / 5 + hang) * z, z, z, color);
    }
    return (int)x;
}

#define AE__PAPER 0xe4e6eau     // behind the tiles: neutral, and neither black nor white

// A picture with room for rows of `columns` tiles and a thin gap around each.
static ae_image ae__tiles(ae_arena *arena, int columns, int rows, int c, int h, int w, int *zoom)
{
    ae_image none = { NULL, 0, 0 };
    int64_t z = *zoom = *zoom < 1 ? 1 : *zoom;
    if (columns < 1 || rows < 1 || c < 1 || h < 1 || w < 1) {
        ae__fail(arena, AE_E_ARG, "picture: %dx%d tiles of %dx%dx%d are nothing to draw", rows,
                 columns, c, h, w);
        return none;
    }
    const int64_t most = 0x7fffffff;
    int64_t tile_w = w * z + 2, tile_h = h * z + 2;     // below 2^63, and so are the products
    if (tile_w > most || tile_h > most || columns * tile_w + 2 > most || rows * tile_h + 2 > most) {
        ae__fail(arena, AE_E_ARG, "picture: %dx%d tiles of %dx%d at zoom %d are too many", rows,
                 columns, h, w, *zoom);
        return none;
    }
    return ae_image_new(arena, (int)(columns * tile_w + 2), (int)(rows * tile_h + 2), AE__PAPER);
}

static void ae__tile(ae_image *img, int column, int row, const float *sample, int c, int h, int w,
                     int zoom, float low, float high, ae_colormap map)
{
    ae_image_draw(img, 2 + column * (w * zoom + 2), 2 + row * (h * zoom + 2), sample, c, h, w,
                  zoom, low, high, map);
}

// Lowest and highest of n values, those that are not finite left out; 0 and 0 of none.
static void ae__extremes(const float *v, size_t n, float *low, float *high)
{
    int found = 0;
    *low = *high = 0.0f;
    for (size_t i = 0; i < n; i++) {
        if (!ae__finite(v[i]))
            continue;
        *low = !found || v[i] < *low ? v[i] : *low;
        *high = !found || v[i] > *high ? v[i] : *high;
        found = 1;
    }
}

AE_API ae_image ae_image_rows(ae_arena *arena, const ae_image_row *rows, int row_count, int n,
                              int c, int h, int w, int zoom)
{
    ae_image img = ae__tiles(arena, n, row_count, c, h, w, &zoom);
    if (!img.rgb)
        return img;
    size_t size = (size_t)c * (size_t)h * (size_t)w;
    for (int r = 0; r < row_count; r++) {
        float low = rows[r].low, high = rows[r].high;
        if (low == 0.0f && high == 0.0f) {
            high = 1.0f;
            if (rows[r].map != AE_GRAY)
                ae__extremes(rows[r].samples, (size_t)n * size, &low, &high);
        }
        for (int i = 0; i < n; i++)
            ae__tile(&img, i, r, rows[r].samples + (size_t)i * size, c, h, w, zoom, low, high,
                     rows[r].map);
    }
    return img;
}

// A grid of AE_GRAY samples in 0 ... 1, or of filters, each in its own range.
static ae_image ae__grid(ae_arena *arena, const float *samples, int n, int columns, int c, int h,
                         int w, int zoom, int filters)
{
    columns = columns > n ? n : columns;
    int rows = columns < 1 ? 0 : n / columns + (n % columns != 0);
    ae_image img = ae__tiles(arena, columns, rows, c, h, w, &zoom);
    size_t size = (size_t)c * (size_t)h * (size_t)w;
    for (int i = 0; img.rgb && i < n; i++) {
        const float *sample = samples + (size_t)i * size;
        float low = 0.0f, high = 1.0f;
        if (filters)
            ae__extremes(sample, size, &low, &high);
        ae__tile(&img, i % columns, i / columns, sample, c, h, w, zoom, low, high,
                 filters ? AE_DIVERGING : AE_GRAY);
    }
    return img;
}

AE_API ae_image ae_image_grid(ae_arena *arena, const float *samples, int n, int columns, int c,
                              int h, int w, int zoom)
{
    return ae__grid(arena, samples, n, columns, c, h, w, zoom, 0);
}

AE_API ae_image ae_image_filters(ae_arena *arena, const float *weights, int count, int columns,
                                 int c, int h, int w, int zoom)
{
    return ae__grid(arena, weights, count, columns, c, h, w, zoom, 1);
}

#ifndef AE_NO_TRAIN
// A line from a to b with round ends; each pixel gets the colour as far as the line covers it.
static void ae__line(ae_image *img, double ax, double ay, double bx, double by, double width,
                     uint32_t color)
{
    double dx = bx - ax, dy = by - ay, length2 = dx * dx + dy * dy, reach = width / 2.0 + 1.0;
    int x0 = (int)((ax < bx ? ax : bx) - reach), x1 = (int)((ax > bx ? ax : bx) + reach) + 1;
    int y0 = (int)((ay < by ? ay : by) - reach), y1 = (int)((ay > by ? ay : by) + reach) + 1;
    for (int y = y0 < 0 ? 0 : y0; y < y1 && y < img->h; y++) {
        for (int x = x0 < 0 ? 0 : x0; x < x1 && x < img->w; x++) {
            double px = x + 0.5 - ax, py = y + 0.5 - ay;
            double t = length2 > 0.0 ? ae__between(px * dx + py * dy, 0.0, length2) : 0.0;
            double ex = px - t * dx, ey = py - t * dy;      // from the nearest point of the line
            double cover = ae__between(reach - 0.5 - sqrt(ex * ex + ey * ey), 0.0, 1.0);
            uint8_t *p = img->rgb + ((size_t)y * (size_t)img->w + (size_t)x) * 3;
            for (int k = 0; cover > 0.0 && k < 3; k++)
                p[k] = (uint8_t)ae__mix(p[k], color >> (16 - 8 * k) & 255, cover);
        }
    }
}

#define AE__TICKS 128
#define AE__INK   0x30363du
#define AE__AXIS  0x9aa1a9u
#define AE__RULE  0xe9ebeeu

typedef struct ae__axis {       // a range of values and where its ends are in the picture
    double low, high;           // of log10 of the values when `log` is set
    double from, to;            // pixels
    int log, count;
    double value[AE__TICKS];
    int label[AE__TICKS];       // 1: with its number
} ae__axis;

static double ae__axis_at(const ae__axis *a, double v)
{
    return a->from + ((a->log ? log10(v) : v) - a->low) / (a->high - a->low) * (a->to - a->from);
}

// A tick at every 1, 2 or 5 times a power of ten, so that there are `most` or fewer. `round`: the
// range grows to the next tick at both ends; else it stays and ticks are whole numbers.
static void ae__axis_linear(ae__axis *a, double most, int round)
{
    double raw = (a->high - a->low) / most, power = pow(10.0, floor(log10(raw)));
    double step = power * (raw <= power ? 1 : raw <= 2 * power ? 2 : raw <= 5 * power ? 5 : 10);
    if (!round && step < 1.0)
        step = 1.0;
    double first = round ? floor(a->low / step + 1e-9) : ceil(a->low / step - 1e-9);
    double last = round ? ceil(a->high / step - 1e-9) : floor(a->high / step + 1e-9);
    for (a->count = 0; a->count < AE__TICKS && first + a->count <= last; a->count++) {
        a->value[a->count] = (first + a->count) * step;
        a->label[a->count] = 1;
    }
    if (round) {
        a->low = first * step;
        a->high = last * step;
    }
}

// A tick at 1 ... 9 times every power of ten, or at every other or third ... power where there are
// more than `most`; the range grows to the next tick at both ends.
static void ae__axis_log(ae__axis *a, double most)
{
    double k0 = floor(log10(a->low)), k1 = floor(log10(a->high));
    double m0 = floor(a->low / pow(10.0, k0) + 1e-6), m1 = ceil(a->high / pow(10.0, k1) - 1e-6);
    a->low = k0 + log10(m0 < 1.0 ? 1.0 : m0);
    a->high = k1 + log10(m1);
    if (a->high - a->low < 0.01) {      // one value: its whole decade
        a->low = k0;
        a->high = k0 + 1.0;
    }
    double span = a->high - a->low;
    int every = 1 + (int)(span / most);
    a->count = 0;
    for (int k = (int)k0; k <= (int)k1 + 1; k++) {
        for (int m = 1; k % every == 0 && m <= (every > 1 ? 1 : 9); m++) {
            double v = k + log10((double)m);
            if (v < a->low - 1e-9 || v > a->high + 1e-9 || a->count == AE__TICKS)
                continue;
            a->value[a->count] = m * pow(10.0, (double)k);
            a->label[a->count++] = m == 1 || span < 1.0 || (span < 2.0 && (m == 2 || m == 5));
        }
    }
}

// Whether point i of a curve can be drawn.
static int ae__curve_has(const ae_curve *curve, int i, int log_y)
{
    return i >= 0 && i < curve->n && ae__finite(curve->y[i]) && (!log_y || curve->y[i] > 0.0f);
}

// Ranges and ticks of both axes from the curves and the room there is.
static void ae__curves_range(ae__axis *x, ae__axis *y, const ae_curve *curves, int count, int zoom)
{
    int found = 0, longest = 1;
    for (int c = 0; c < count; c++) {
        longest = curves[c].n > longest ? curves[c].n : longest;
        for (int i = 0; i < curves[c].n; i++) {
            if (!ae__curve_has(&curves[c], i, y->log))
                continue;
            double v = (double)curves[c].y[i];
            y->low = !found || v < y->low ? v : y->low;
            y->high = !found || v > y->high ? v : y->high;
            found = 1;
        }
    }
    if (!found) {
        y->low = y->log ? 0.1 : 0.0;
        y->high = 1.0;
    }
    double size = fabs(y->low) > fabs(y->high) ? fabs(y->low) : fabs(y->high);
    if (!y->log && !(y->high - y->low > 1e-4 * size)) {     // flat: six digits could not tell
        y->low -= size > 0.0 ? 0.1 * size : 1.0;
        y->high += size > 0.0 ? 0.1 * size : 1.0;
    }
    double rows = (y->from - y->to) / (32.0 * zoom), columns = (x->to - x->from) / (36.0 * zoom);
    rows = rows < 2.0 ? 2.0 : rows;
    if (y->log)
        ae__axis_log(y, rows);
    else
        ae__axis_linear(y, rows, 1);
    x->low = longest == 1 ? 0.5 : 1.0;
    x->high = longest == 1 ? 1.5 : (double)longest;
    ae__axis_linear(x, columns < 2.0 ? 2.0 : columns, 0);
}

// Names behind dashes of their colours, in lines between x0 and x1. Returns the lines' height;
// img NULL only measures.
static int ae__legend(ae_image *img, const ae_curve *curves, int count, const uint32_t *colors,
                      int x0, int x1, int y, int zoom)
{
    int x = x0, top = y;
    for (int c = 0; c < count; c++) {
        if (!curves[c].name)
            continue;
        int width = 22 * zoom + ae_image_text(NULL, 0, 0, curves[c].name, zoom, 0);
        if (x > x0 && x > x1 - width) {
            x = x0;
            y += 12 * zoom;
        }
        if (img) {
            double middle = y + 3.5 * zoom, left = x + 1.0 * zoom;
            ae__line(img, left, middle, left + 14 * zoom, middle, 1.0 + zoom,
                     colors[c % 8]);
            ae_image_text(img, x + 20 * zoom, y, curves[c].name, zoom, AE__INK);
        }
        x = x > x1 ? x : x + width + 10 * zoom;     // names that leave the picture stay cut off
    }
    return x > x0 || y > top ? y - top + 14 * zoom : 0;
}

// Rules and numbers of both axes. A number that would touch the one before it is left out.
static void ae__axes_draw(ae_image *img, const ae__axis *x, const ae__axis *y, int zoom)
{
    char text[32];
    int left = (int)x->from, bottom = (int)y->from, wide = (int)(x->to - x->from);
    double last = 1e9;
    for (int i = 0; i < y->count; i++) {
        int at = (int)floor(ae__axis_at(y, y->value[i]) + 0.5);
        ae__rect(img, left, at, wide, 1, y->log && !y->label[i] ? 0xf5f6f7 : AE__RULE);
        ae__rect(img, left - (y->label[i] ? 4 : 2) * zoom, at, (y->label[i] ? 4 : 2) * zoom, 1,
                 AE__AXIS);
        if (!y->label[i] || last - at < 9 * zoom)
            continue;
        ae__format(text, sizeof text, "%g", y->value[i]);
        ae_image_text(img, left - 5 * zoom - ae_image_text(NULL, 0, 0, text, zoom, 0),
                      at - 3 * zoom, text, zoom, AE__INK);
        last = at;
    }
    last = -1e9;
    for (int i = 0; i < x->count; i++) {
        int at = (int)floor(ae__axis_at(x, x->value[i]) + 0.5);
        ae__format(text, sizeof text, "%g", x->value[i]);
        int width = ae_image_text(NULL, 0, 0, text, zoom, 0) - zoom;
        ae__rect(img, at, bottom, 1, 4 * zoom, AE__AXIS);
        if (at - width / 2 < last + 4 * zoom)
            continue;
        ae_image_text(img, at - width / 2, bottom + 6 * zoom, text, zoom, AE__INK);
        last = at - width / 2 + width;
    }
    ae__rect(img, left, (int)y->to, 1, bottom - (int)y->to, AE__AXIS);
    ae__rect(img, left, bottom, wide, 1, AE__AXIS);
    ae_image_text(img, left + wide / 2 - 15 * zoom, bottom + 17 * zoom, "epoch", zoom, AE__AXIS);
}

// The points that can be drawn, joined; one without neighbours is a dot.
static void ae__curve_draw(ae_image *img, const ae_curve *curve, const ae__axis *x,
                           const ae__axis *y, double width, uint32_t color)
{
    for (int i = 0; i < curve->n; i++) {
        if (!ae__curve_has(curve, i, y->log))
            continue;
        double ax = ae__axis_at(x, i + 1.0), ay = ae__axis_at(y, (double)curve->y[i]);
        if (ae__curve_has(curve, i + 1, y->log))
            ae__line(img, ax, ay, ae__axis_at(x, i + 2.0),
                     ae__axis_at(y, (double)curve->y[i + 1]), width, color);
        else if (!ae__curve_has(curve, i - 1, y->log))
            ae__line(img, ax, ay, ax, ay, 3.0 * width, color);
    }
}

AE_API ae_image ae_image_curves(ae_arena *arena, const ae_curve *curves, int count,
                                const char *title, int w, int h, int log_y)
{
    static const uint32_t palette[8] = { 0x2f6fb7, 0xe07b33, 0x3a9a5f, 0xc43c4a,
                                         0x8059a8, 0x1f9ba6, 0xc9a227, 0x6b7280 };
    ae_image img = ae_image_new(arena, w, h, 0xffffff);
    if (!img.rgb)
        return img;
    int zoom = 1 + (w < h ? w : h) / 450, y = 10 * zoom;
    uint32_t colors[8];
    for (int c = 0; c < 8; c++)
        colors[c] = c < count && curves[c].color ? curves[c].color : palette[c];
    if (title && *title) {
        int width = ae_image_text(NULL, 0, 0, title, zoom + 1, 0);
        int x = width < w ? (w - width) / 2 : 0;
        ae_image_text(&img, x, y, title, zoom + 1, AE__INK);
        y += 7 * (zoom + 1) + 9 * zoom;
    }
    ae__axis ax, ay;
    memset(&ax, 0, sizeof ax);
    memset(&ay, 0, sizeof ay);
    // room for numbers as long as "-1.5e-05" would waste most pictures: the ticks come first, from
    // a guess of the margin, then the margin from their numbers
    int legend = ae__legend(NULL, curves, count, colors, 48 * zoom, w - 16 * zoom, y, zoom);
    ay.log = log_y != 0;
    ay.from = h - 30 * zoom;
    ay.to = y + legend + 2 * zoom;
    ax.from = 48.0 * zoom;
    ax.to = w - 16 * zoom;
    if (ay.to > ay.from - 1)
        ay.to = ay.from - 1;
    ae__curves_range(&ax, &ay, curves, count, zoom);
    int widest = 0;
    for (int i = 0; i < ay.count; i++) {
        char text[32];
        ae__format(text, sizeof text, "%g", ay.value[i]);
        int width = ay.label[i] ? ae_image_text(NULL, 0, 0, text, zoom, 0) : 0;
        widest = width > widest ? width : widest;
    }
    ax.from = widest + 14 * zoom;
    ae__legend(&img, curves, count, colors, (int)ax.from, w - 16 * zoom, y, zoom);
    ae__axes_draw(&img, &ax, &ay, zoom);
    for (int c = 0; c < count; c++)
        ae__curve_draw(&img, &curves[c], &ax, &ay, 1.0 + zoom, colors[c % 8]);
    return img;
}
#endif

AE_API void ae_abs_error(float *out, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = fabsf(a[i] - b[i]);
}

// A PNG on its way out. Deflate's bits gather in `data`, which leaves as one IDAT chunk whenever it
// is full, so the picture is never held twice.
typedef struct ae__png {
    ae__sink *out;
    uint32_t bits, bit_count;   // bits that are no whole byte yet, the first lowest
    uint32_t adler_a, adler_b;
    uint32_t fill;              // of data
    uint8_t data[8192];
} ae__png;

static void ae__big_endian_put(uint8_t out[4], uint32_t v)
{
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t)(v >> (24 - 8 * i));
}

// CRC-32 of n more bytes, half a byte at a time: 16 numbers of table instead of 256.
static uint32_t ae__crc(uint32_t crc, const uint8_t *bytes, size_t n)
{
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158,
        0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4,
        0xa00ae278, 0xbdbdf21c
    };
    for (size_t i = 0; i < n; i++) {
        crc = table[(crc ^ bytes[i]) & 15] ^ crc >> 4;
        crc = table[(crc ^ (uint32_t)bytes[i] >> 4) & 15] ^ crc >> 4;
    }
    return crc;
}

static void ae__png_chunk(ae__png *p, const char *type, const uint8_t *data, uint32_t n)
{
    uint8_t head[8], tail[4];
    ae__big_endian_put(head, n);
    memcpy(head + 4, type, 4);
    ae__big_endian_put(tail, ~ae__crc(ae__crc(0xffffffffu, head + 4, 4), data, n));
    ae__put_bytes(p->out, head, 8);
    ae__put_bytes(p->out, data, n);
    ae__put_bytes(p->out, tail, 4);
}

static void ae__png_bits(ae__png *p, uint32_t value, uint32_t count)
{
    p->bits |= value << p->bit_count;
    for (p->bit_count += count; p->bit_count >= 8; p->bit_count -= 8, p->bits >>= 8) {
        p->data[p->fill++] = (uint8_t)p->bits;
        if (p->fill == sizeof p->data) {
            ae__png_chunk(p, "IDAT", p->data, p->fill);
            p->fill = 0;
        }
    }
}

// Huffman codes go out with their highest bit first, unlike all other bits.
static void ae__png_code(ae__png *p, uint32_t code, uint32_t count)
{
    while (count-- > 0)
        ae__png_bits(p, code >> count & 1, 1);
}

// One of deflate's symbols by its fixed code: 0 ... 255 a byte, 256 the end, above that a length.
static void ae__png_symbol(ae__png *p, uint32_t s)
{
    if (s < 144)
        ae__png_code(p, 0x30 + s, 8);
    else if (s < 256)
        ae__png_code(p, 0x190 + s - 144, 9);
    else if (s < 280)
        ae__png_code(p, s - 256, 7);
    else
        ae__png_code(p, 0xc0 + s - 280, 8);
}

// "The next `length` bytes are those `distance` before." Both are numbers with a short code for
// their size and the rest as plain bits: groups of 4 sizes per bit of rest, or of 2.
static void ae__png_match(ae__png *p, uint32_t length, uint32_t distance)
{
    uint32_t l = length - 3, d = distance - 1, e = 0;
    while (l >> e >= 8)
        e++;
    ae__png_symbol(p, 257 + (e << 2) + (l >> e));
    ae__png_bits(p, l & ((1u << e) - 1), e);
    for (e = 0; d >> e >= 4; )
        e++;
    ae__png_code(p, (e << 1) + (d >> e), 5);
    ae__png_bits(p, d & ((1u << e) - 1), e);
}

// How many of the n bytes at a equal those at b; 257 at most, as length 258 has a code of its own.
static uint32_t ae__png_run(const uint8_t *a, const uint8_t *b, size_t n)
{
    uint32_t k = 0;
    while (k < n && k < 257 && a[k] == b[k])
        k++;
    return k;
}

// One row, unfiltered: zoomed pixels and flat areas repeat the pixel to the left or the row above,
// which is all that is looked for.
static void ae__png_row(ae__png *p, const uint8_t *row, size_t n, int first)
{
    p->adler_b = (p->adler_b + p->adler_a) % 65521;     // the filter byte, 0
    for (size_t i = 0; i < n; i++) {
        p->adler_a = (p->adler_a + row[i]) % 65521;
        p->adler_b = (p->adler_b + p->adler_a) % 65521;
    }
    ae__png_symbol(p, 0);
    for (size_t i = 0; i < n; ) {
        uint32_t left = i >= 3 ? ae__png_run(row + i, row + i - 3, n - i) : 0;
        uint32_t up = !first && n < 32768 ? ae__png_run(row + i, row + i - n, n - i) : 0;
        uint32_t length = up > left ? up : left;
        if (length >= 3)
            ae__png_match(p, length, up > left ? (uint32_t)n + 1 : 3);
        else
            ae__png_symbol(p, row[i]);
        i += length >= 3 ? length : 1;
    }
}

// The whole file: signature, header, one deflate block with fixed codes, end.
static void ae__png_all(ae__sink *out, const void *image)
{
    const ae_image *img = (const ae_image *)image;
    ae__png png, *p = &png;
    static const uint8_t signature[8] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n' };
    uint8_t head[13] = { 0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0 };   // 8 bits, red green blue
    ae__big_endian_put(head, (uint32_t)img->w);
    ae__big_endian_put(head + 4, (uint32_t)img->h);
    memset(p, 0, sizeof *p);
    p->out = out;
    ae__put_bytes(out, signature, 8);
    ae__png_chunk(p, "IHDR", head, 13);
    size_t n = (size_t)img->w * 3;
    p->adler_a = 1;
    ae__png_bits(p, 0x0178, 16);        // zlib: deflate, window of 32768
    ae__png_bits(p, 3, 3);              // the last block, fixed codes
    for (int y = 0; y < img->h; y++)
        ae__png_row(p, img->rgb + (size_t)y * n, n, y == 0);
    ae__png_symbol(p, 256);
    ae__png_bits(p, 0, (8 - p->bit_count) & 7);
    uint8_t adler[4];
    ae__big_endian_put(adler, p->adler_b << 16 | p->adler_a);
    for (int i = 0; i < 4; i++)
        ae__png_bits(p, adler[i], 8);
    if (p->fill > 0)
        ae__png_chunk(p, "IDAT", p->data, p->fill);
    ae__png_chunk(p, "IEND", head, 0);
}

static int ae__image_empty(const ae_image *img)
{
    return !img || !img->rgb || img->w < 1 || img->h < 1;
}

AE_API size_t ae_png_encode(uint8_t *dst, size_t capacity, const ae_image *img)
{
    if (ae__image_empty(img))
        return 0;
    ae__sink out = ae__sink_of(dst, capacity);
    ae__png_all(&out, img);
    return out.failed ? 0 : out.size;
}

#ifndef AE_NO_STDIO

AE_API ae_status ae_png_write(ae_arena *arena, const char *path, ae_image img)
{
    if (img.rgb == NULL && arena->error[0])     // who could not make it has said why
        return AE_E_ARG;
    if (ae__image_empty(&img))
        return ae__fail(arena, AE_E_ARG, "%s: the picture is empty", ae__path_tail(path));
    return ae__write_file(arena, path, ae__png_all, &img);
}

#endif

/* ---------------------------------------------------------------------------
   >>scores   principal components; how good codes and reconstructions are    */

#ifndef AE_NO_TRAIN
static double ae__dot(const double *x, const double *y, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

// y += a x
static void ae__axpy(double *y, const double *x, double a, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

/* A symmetric matrix to tridiagonal form, m = Q T Q^T: T has the diagonal a (n) and beside it
   b (n), b[i] between i-1 and i. Each row i, from the last on, is hit by a Householder reflection
   1 - u u^T, |u|^2 = 2, that leaves of its first i elements only b[i]; u stays in that row.
     m (n,n) its lower triangle, of a size about 1   p (n) scratch */
static void ae__tridiagonal(double *m, double *a, double *b, double *p, size_t n)
{
    for (size_t i = n - 1; i > 0; i--) {
        double *u = m + i * n;
        const double rest = ae__dot(u, u, i - 1);
        a[i] = u[i];
        b[i] = u[i - 1];
        if (rest < 1e-290) {                        // nothing to remove
            memset(u, 0, i * sizeof *u);
            continue;
        }
        const double norm = sqrt(rest + b[i] * b[i]);
        b[i] = u[i - 1] > 0.0 ? -norm : norm;       // the sign that does not cancel
        u[i - 1] -= b[i];
        const double scale = 1.0 / sqrt(norm * fabs(u[i - 1]));
        for (size_t j = 0; j < i; j++)
            u[j] *= scale;
        for (size_t r = 0; r < i; r++) {            // p = m u
            p[r] = ae__dot(m + r * n, u, r + 1);
            ae__axpy(p, m + r * n, u[r], r);
        }
        ae__axpy(p, u, -ae__dot(u, p, i) / 2.0, i);
        for (size_t r = 0; r < i; r++) {            // (1 - u u^T) m (1 - u u^T)
            ae__axpy(m + r * n, p, -u[r], r + 1);
            ae__axpy(m + r * n, u, -p[r], r + 1);
        }
    }
    a[0] = m[0];
    b[0] = 0.0;
}

// The k-th largest eigenvalue (k from 0) by bisection: T - x has as many positive pivots as T has
// eigenvalues above x (Sylvester). All are in -1 ... 2.
static double ae__eigenvalue(const double *a, const double *b, size_t n, size_t k)
{
    double low = -1.0, high = 2.0;
    for (int step = 0; step < 60; step++) {
        const double x = (low + high) / 2.0;
        double pivot = 1.0;
        size_t above = 0;
        for (size_t i = 0; i < n; i++) {
            pivot = a[i] - x - b[i] * b[i] / pivot;
            if (fabs(pivot) < 1e-300)
                pivot = -1e-300;
            above += pivot > 0.0;
        }
        if (above > k) low = x;
        else high = x;
    }
    return (low + high) / 2.0;
}

// x (n) = (T - shift)^-1 x by elimination with row exchanges; work (3 n).
static void ae__tridiagonal_solve(double *x, const double *a, const double *b, double shift,
                                  double *work, size_t n)
{
    double row[4] = {a[0] - shift, n > 1 ? b[1] : 0.0, 0.0, x[0]};  // three elements, right side
    for (size_t i = 0; i < n; i++) {
        const int last = i + 1 == n;
        const double next[4] = {last ? 0.0 : b[i + 1], last ? 0.0 : a[i + 1] - shift,
                                i + 2 < n ? b[i + 2] : 0.0, last ? 0.0 : x[i + 1]};
        const int swap = fabs(next[0]) > fabs(row[0]);
        const double *pivot = swap ? next : row, *other = swap ? row : next;
        const double first = fabs(pivot[0]) < 1e-18 ? 1e-18 : pivot[0], t = other[0] / first;
        const double rest[3] = {other[1] - t * pivot[1], other[2] - t * pivot[2],
                                other[3] - t * pivot[3]};
        work[3 * i] = first;
        work[3 * i + 1] = pivot[1];
        work[3 * i + 2] = pivot[2];
        x[i] = pivot[3];
        row[0] = rest[0];
        row[1] = rest[1];
        row[3] = rest[2];
    }
    for (size_t i = n; i-- > 0;)
        x[i] = (x[i] - (i + 1 < n ? work[3 * i + 1] * x[i + 1] : 0.0)
                - (i + 2 < n ? work[3 * i + 2] * x[i + 2] : 0.0)) / work[3 * i];
}

// v (k+1,n): row k becomes the eigenvector for the k-th eigenvalue by inverse iteration. It is kept
// at right angles to those before, which lets equal eigenvalues have different vectors.
static void ae__eigenvector(double *v, size_t k, const double *a, const double *b, double value,
                            double *work, size_t n)
{
    double *x = v + k * n;
    for (size_t i = 0; i < n; i++)      // any direction that is at right angles to none
        x[i] = sin((double)((i + 1) * (k + 1)));
    for (int round = 0; round < 3; round++) {
        ae__tridiagonal_solve(x, a, b, value, work, n);
        for (size_t j = 0; j < k; j++)
            ae__axpy(x, v + j * n, -ae__dot(x, v + j * n, n), n);
        const double length = sqrt(ae__dot(x, x, n));
        for (size_t i = 0; i < n; i++)
            x[i] /= length;
    }
}

#define AE__PCA_ROWS ((size_t)256)  /* samples in a product, whose sums are added in double   */

typedef struct ae__pca {        // what ae_pca_fit borrows
    double *m, *v;              // (D,D) covariance, (K,D) eigenvectors
    double *mean, *a, *b, *work;    // (D), (D), (D), (3 D)
    float *x, *part;            // (AE__PCA_ROWS,D) each
    double scale, trace;        // values are multiplied by scale, the covariance is over trace
} ae__pca;

// The mean, and a power of two that brings the values to about 1, so that no square over- or
// underflows. Returns the number of a sample that is not finite, or n.
static size_t ae__pca_mean(ae__pca *t, const ae_dataset *d, size_t D)
{
    float most = 0.0f;
    int exponent;
    for (size_t i = 0; i < d->n; i++) {
        ae__data_values(NULL, t->x, d, ae__data_row(d, i) * D, D);
        for (size_t j = 0; j < D; j++) {
            if (!ae__finite(t->x[j]))
                return i;
            most = fabsf(t->x[j]) > most ? fabsf(t->x[j]) : most;
            t->mean[j] += (double)t->x[j];
        }
    }
    for (size_t j = 0; j < D; j++)
        t->mean[j] /= (double)d->n;
    (void)frexp((double)most, &exponent);
    t->scale = ldexp(1.0, -exponent);
    return d->n;
}

// The lower triangle of the covariance times n-1, over its trace.
static void ae__pca_covariance(ae__pca *t, const ae_exec *e, const ae_dataset *d, size_t D)
{
    for (size_t i = 0; i < d->n; i += AE__PCA_ROWS) {
        const size_t rows = ae__min(AE__PCA_ROWS, d->n - i);
        for (size_t r = 0; r < rows; r++) {
            float *x = t->x + r * D;
            ae__data_values(e, x, d, ae__data_row(d, i + r) * D, D);
            for (size_t j = 0; j < D; j++)
                x[j] = (float)(((double)x[j] - t->mean[j]) * t->scale);
        }
        for (size_t j = 0; j < D; j += AE__PCA_ROWS) {  // a strip of x^T x, up to its diagonal
            const size_t high = ae__min(AE__PCA_ROWS, D - j), wide = j + high;
            ae__gemm(e, t->part, (ptrdiff_t)wide, t->x + j, 1, (ptrdiff_t)D, t->x, (ptrdiff_t)D, 1,
                     NULL, (int)high, (int)wide, (int)rows, 0);
            for (size_t r = 0; r < high; r++)
                for (size_t c = 0; c <= j + r; c++)
                    t->m[(j + r) * D + c] += (double)t->part[r * wide + c];
        }
    }
    for (size_t j = 0; j < D; j++)
        t->trace += t->m[j * D + j];
    for (size_t i = 0; i < D * D && t->trace > 0.0; i++)
        t->m[i] /= t->trace;
}

// From the covariance to p: its mean, components, and shares of the variance.
static void ae__pca_components(ae_pca *p, ae__pca *t)
{
    const size_t D = (size_t)p->D;
    ae__tridiagonal(t->m, t->a, t->b, t->work, D);
    for (size_t k = 0; k < (size_t)p->K; k++) {
        const double value = ae__eigenvalue(t->a, t->b, D, k);
        ae__eigenvector(t->v, k, t->a, t->b, value, t->work, D);
        p->variance[k] = value > 0.0 ? value : 0.0;
    }
    for (size_t k = 0; k < (size_t)p->K; k++) {
        double *v = t->v + k * D;
        float *w = p->components + k * D, most = 0.0f;
        for (size_t i = 1; i < D; i++)              // back through the reflections
            ae__axpy(v, t->m + i * D, -ae__dot(v, t->m + i * D, i), i);
        for (size_t j = 0; j < D; j++) {
            w[j] = (float)v[j];
            most = fabsf(w[j]) > fabsf(most) ? w[j] : most;
        }
        for (size_t j = 0; j < D && most < 0.0f; j++)
            w[j] = -w[j];
    }
    for (size_t j = 0; j < D; j++)
        p->mean[j] = (float)t->mean[j];
}

AE_API ae_status ae_pca_fit(const ae_exec *e, ae_pca *p, ae_arena *arena, const ae_dataset *d,
                            int K)
{
    const size_t n = d && (d->bytes || d->floats) ? d->n : 0, D = n ? ae__data_features(d) : 0;
    const size_t k = (size_t)K, start = ae_arena_used(arena);
    if (n < 2)
        return ae__fail(arena, AE_E_ARG, "pca: %z samples: it needs at least 2", n);
    if (K < 1 || k > D)
        return ae__fail(arena, AE_E_ARG, "pca: %d components of samples of %z values: there are "
                        "1 to %z", K, D, D);
    const size_t kept = ae__sat_add(8 * k, ae__sat_mul(4 * D, k + 1));
    const size_t room = D >> 24 ? SIZE_MAX : ae__sat_mul(D, 8 * (D + k) + 2096);
    ae_pca made;
    ae__pca t;
    memset(&t, 0, sizeof t);
    made.variance = (double *)ae_alloc(arena, kept);
    const size_t mark = ae_arena_used(arena);
    t.m = made.variance ? (double *)ae_alloc(arena, room) : NULL;
    if (t.m == NULL) {
        ae_arena_rewind(arena, start);
        return ae__fail(arena, AE_E_MEMORY, "pca: %d components of %z values need about %z bytes, "
                        "the arena has %z left", K, D, ae__sat_add(kept, room),
                        ae_arena_left(arena));
    }
    made.D = (int)D;
    made.K = K;
    made.mean = (float *)(made.variance + k);
    made.components = made.mean + D;
    t.v = t.m + D * D;
    t.mean = t.v + k * D;
    t.a = t.mean + D;
    t.b = t.a + D;
    t.work = t.b + D;
    t.x = (float *)(t.work + 3 * D);
    t.part = t.x + AE__PCA_ROWS * D;
    const size_t bad = ae__pca_mean(&t, d, D);
    if (bad < n) {
        ae_arena_rewind(arena, start);
        return ae__fail(arena, AE_E_NUMERIC, "pca: sample %z has a value that is not finite", bad);
    }
    ae__pca_covariance(&t, e, d, D);
    ae__pca_components(&made, &t);
    made.total = t.trace / t.scale / t.scale / (double)(n - 1);
    for (size_t i = 0; i < k; i++)
        made.variance[i] *= made.total;
    ae_arena_rewind(arena, mark);
    *p = made;
    return AE_SUCCESS;
}
#endif

AE_API void ae_pca_encode(const ae_exec *e, const ae_pca *p, float *codes, const float *x,
                          size_t n)
{
    enum { ROWS = 64, COLS = 128 };
    float part[ROWS * COLS];    // x - mean: the difference of two products would lose digits
    const size_t D = (size_t)p->D, K = (size_t)p->K;
    for (size_t i = 0; i < n; i += ROWS)
        for (size_t j = 0; j < D; j += COLS) {
            const size_t rows = ae__min(ROWS, n - i), cols = ae__min(COLS, D - j);
            for (size_t r = 0; r < rows; r++)
                for (size_t c = 0; c < cols; c++)
                    part[r * COLS + c] = x[(i + r) * D + j + c] - p->mean[j + c];
            ae__gemm(e, codes + i * K, p->K, part, COLS, 1, p->components + j, 1, p->D, NULL,
                     (int)rows, p->K, (int)cols, j > 0);
        }
}

AE_API void ae_pca_decode(const ae_exec *e, const ae_pca *p, float *x, const float *codes,
                          size_t n)
{
    for (size_t i = 0, rows; i < n; i += rows) {
        rows = ae__min(4096, n - i);
        ae_tied_linear_forward(e, x + i * (size_t)p->D, codes + i * (size_t)p->K, p->components,
                               p->mean, (int)rows, p->D, p->K);
    }
}

// ---- reconstructions

AE_API void ae_mse_per_sample(float *out, const float *a, const float *b, size_t n, int F)
{
    for (size_t i = 0; i < n; i++) {
        double sum = 0.0;
        for (int j = 0; j < F; j++, a++, b++)
            sum += ((double)*a - (double)*b) * ((double)*a - (double)*b);
        out[i] = (float)(sum / F);
    }
}

// What scores of a against b have in common.
static ae_status ae__score_check(ae_arena *arena, const char *what, const void *a, const void *b,
                                 size_t n, float range)
{
    if (a == NULL || b == NULL || n == 0)
        return ae__fail(arena, AE_E_ARG, "%s: there is nothing to score", what);
    if (!ae__finite(range) || !(range > 0.0f))
        return ae__fail(arena, AE_E_ARG, "%s: range %g: it is the largest value less the smallest, "
                        "1 for pixels in [0,1]", what, (double)range);
    return AE_SUCCESS;
}

AE_API ae_status ae_psnr(double *psnr, ae_arena *arena, const float *a, const float *b, size_t n,
                         float range)
{
    const ae_status status = ae__score_check(arena, "psnr", a, b, n, range);
    double sum = 0.0;
    if (status)
        return status;
    for (size_t i = 0; i < n; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    if (!ae__finite_double(sum))
        return ae__fail(arena, AE_E_NUMERIC, "psnr: a value is not finite");
    *psnr = sum > 0.0 ? 10.0 * log10((double)range * (double)range / (sum / (double)n)) : HUGE_VAL;
    return AE_SUCCESS;
}

enum { AE__SSIM_SIDE = 11, AE__SSIM_WINDOWS = 64 };

/* The sum of the similarity of `count` windows side by side, from their weighted sums of a, b, a^2,
   b^2, a b: first down the columns, then across. Squares of floats are exact in double.
     a, b: the first window's corner in planes of width w   g: the Gaussian's weights */
static double ae__ssim_windows(const float *a, const float *b, size_t w, size_t count,
                               const double *g, double c1, double c2)
{
    double column[AE__SSIM_WINDOWS + AE__SSIM_SIDE - 1][5], total = 0.0;
    memset(column, 0, sizeof column);
    for (size_t y = 0; y < AE__SSIM_SIDE; y++)
        for (size_t x = 0; x < count + AE__SSIM_SIDE - 1; x++) {
            const double u = (double)a[y * w + x], v = (double)b[y * w + x];
            const double terms[5] = {u, v, u * u, v * v, u * v};
            for (int k = 0; k < 5; k++)
                column[x][k] += g[y] * terms[k];
        }
    for (size_t x = 0; x < count; x++) {
        double s[5] = {0, 0, 0, 0, 0};
        for (size_t i = 0; i < AE__SSIM_SIDE; i++)
            for (int k = 0; k < 5; k++)
                s[k] += g[i] * column[x + i][k];
        const double squares = s[0] * s[0] + s[1] * s[1], product = s[0] * s[1];
        const double variances = s[2] + s[3] - squares;
        total += (2.0 * product + c1) * (2.0 * (s[4] - product) + c2)
                 / ((squares + c1) * ((variances > 0.0 ? variances : 0.0) + c2));
    }
    return total;
}

AE_API ae_status ae_ssim(double *ssim, ae_arena *arena, const float *a, const float *b,
                         size_t planes, int h, int w, float range)
{
    const ae_status status = ae__score_check(arena, "ssim", a, b, planes, range);
    double g[AE__SSIM_SIDE], all = 0.0, sum = 0.0;
    if (status)
        return status;
    if (h < AE__SSIM_SIDE || w < AE__SSIM_SIDE)
        return ae__fail(arena, AE_E_SHAPE, "ssim: pictures of %dx%d: its windows are 11x11", h, w);
    for (int i = 0; i < AE__SSIM_SIDE; i++)
        all += g[i] = exp(-(i - 5) * (i - 5) / (2.0 * 1.5 * 1.5));
    for (int i = 0; i < AE__SSIM_SIDE; i++)
        g[i] /= all;
    const double c1 = 0.01 * (double)range, c2 = 0.03 * (double)range;
    const size_t H = (size_t)h, W = (size_t)w, down = H - 10, across = W - 10;
    for (size_t y = 0; y < planes * down; y++)
        for (size_t x = 0; x < across; x += AE__SSIM_WINDOWS) {
            const size_t at = (y / down * H + y % down) * W + x;
            sum += ae__ssim_windows(a + at, b + at, W, ae__min(AE__SSIM_WINDOWS, across - x), g,
                                    c1 * c1, c2 * c2);
        }
    if (!ae__finite_double(sum))
        return ae__fail(arena, AE_E_NUMERIC, "ssim: a value is not finite");
    *ssim = sum / ((double)planes * (double)down * (double)across);
    return AE_SUCCESS;
}

// ---- scores of samples, in order

// Heap sort: no memory of its own, and never slow.
static void ae__sort(uint64_t *x, size_t n)
{
    for (size_t first = n / 2, last = n; last > 1;) {
        if (first > 0) {
            first--;                                    // the heap grows to the front ...
        } else {
            const uint64_t most = x[0];                 // ... and gives its largest to the end
            x[0] = x[--last];
            x[last] = most;
        }
        const uint64_t v = x[first];
        size_t at = first;
        for (size_t child; (child = 2 * at + 1) < last; at = child) {
            child += child + 1 < last && x[child + 1] > x[child];
            if (x[child] <= v)
                break;
            x[at] = x[child];
        }
        x[at] = v;
    }
}

// The scores in rising order: each a key that sorts as it does, and 1 below it when positive.
static uint64_t *ae__ranked(ae_status *status, ae_arena *arena, const char *what, const float *x,
                            const uint8_t *positive, size_t n)
{
    *status = ae__score_check(arena, what, x, x, n, 1.0f);
    for (size_t i = 0; i < n && !*status; i++)
        if (!ae__finite(x[i]))
            *status = ae__fail(arena, AE_E_NUMERIC, "%s: score %z is not finite", what, i);
    if (*status)
        return NULL;
    uint64_t *ranked = (uint64_t *)ae_alloc(arena, ae__sat_mul(n, sizeof *ranked));
    if (ranked == NULL) {
        *status = ae__fail(arena, AE_E_MEMORY, "%s: %z scores need 8 bytes each, the arena has %z "
                           "left", what, n, ae_arena_left(arena));
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        ranked[i] = (uint64_t)ae__sort_key(x[i]) << 1 | (positive && positive[i]);
    ae__sort(ranked, n);
    return ranked;
}

// The float of a key.
static double ae__key_value(uint64_t ranked)
{
    uint32_t key = (uint32_t)(ranked >> 1);
    float x;
    key = key & 0x80000000u ? key ^ 0x80000000u : ~key;
    memcpy(&x, &key, sizeof x);
    return (double)x;
}

AE_API ae_status ae_quantile(float *value, ae_arena *arena, const float *x, size_t n, double q)
{
    const size_t mark = ae_arena_used(arena);
    ae_status status;
    if (!ae__finite_double(q) || !(q >= 0.0 && q <= 1.0))
        return ae__fail(arena, AE_E_ARG, "quantile: %g is not in 0 ... 1", q);
    const uint64_t *ranked = ae__ranked(&status, arena, "quantile", x, NULL, n);
    if (status)
        return status;
    const double place = q * (double)(n - 1), below = floor(place);
    const size_t i = (size_t)below;
    const double low = ae__key_value(ranked[i]), high = ae__key_value(ranked[i + (i + 1 < n)]);
    *value = (float)(low + (high - low) * (place - below));
    ae_arena_rewind(arena, mark);
    return AE_SUCCESS;
}

// Both areas, threshold by threshold from the highest score down.
static ae_status ae__areas(double *roc, double *precision, const char *what, ae_arena *arena,
                           const float *scores, const uint8_t *positive, size_t n)
{
    const size_t mark = ae_arena_used(arena);
    ae_status status;
    size_t hits = 0;            // positives above the threshold
    double area = 0.0, sum = 0.0;
    const uint64_t *ranked = ae__ranked(&status, arena, what, scores, positive, n);
    if (status)
        return status;
    for (size_t i = n; i > 0;) {
        const size_t from = i, before = hits;
        do                      // equal scores pass it together
            hits += ranked[--i] & 1;
        while (i > 0 && ranked[i - 1] >> 1 == ranked[from - 1] >> 1);
        const double more = (double)(hits - before), misses = (double)(from - i) - more;
        area += misses * ((double)before + more / 2.0);
        sum += more * (double)hits / (double)(n - i);
    }
    ae_arena_rewind(arena, mark);
    if (hits == 0 || (roc && hits == n))
        return ae__fail(arena, AE_E_ARG, hits ? "%s: all %z samples are positive"
                        : "%s: none of %z samples is positive", what, n);
    if (roc) *roc = area / ((double)hits * (double)(n - hits));
    if (precision) *precision = sum / (double)hits;
    return AE_SUCCESS;
}

AE_API ae_status ae_auroc(double *auroc, ae_arena *arena, const float *scores,
                          const uint8_t *positive, size_t n)
{
    return ae__areas(auroc, NULL, "auroc", arena, scores, positive, n);
}

AE_API ae_status ae_average_precision(double *precision, ae_arena *arena, const float *scores,
                                      const uint8_t *positive, size_t n)
{
    return ae__areas(NULL, precision, "average precision", arena, scores, positive, n);
}

#ifndef AE_NO_TRAIN

// ---- codes and labels

// d: copies of train and test, normalised alike, by the moments of train. Checks both.
static ae_status ae__codes(ae_dataset *d, ae_arena *arena, const char *what,
                           const ae_dataset *train, const ae_dataset *test)
{
    const ae_dataset *from[2] = {train, test};
    float mean[2], deviation[2];
    for (int i = 0; i < 2; i++) {
        const int full = from[i] && from[i]->n > 0 && (from[i]->bytes || from[i]->floats);
        if (!full || !from[i]->labels)
            return ae__fail(arena, AE_E_ARG, "%s: the %s set has no %s", what,
                            i ? "test" : "training", full ? "labels" : "samples");
        if (ae__data_features(train) != ae__data_features(from[i]))
            return ae__fail(arena, AE_E_SHAPE, "%s: samples of %z values to learn from, of %z to "
                            "test", what, ae__data_features(train), ae__data_features(test));
        ae_dataset_moments(from[i], &mean[i], &deviation[i]);
        if (!ae__finite(mean[i]) || !ae__finite(deviation[i]))
            return ae__fail(arena, AE_E_NUMERIC, "%s: the %s set has a value that is not finite",
                            what, i ? "test" : "training");
        d[i] = *from[i];
        if (deviation[0] > 0.0f)
            ae_dataset_normalize(&d[i], mean[0], deviation[0]);
    }
    return AE_SUCCESS;
}

#define AE__KNN_ROWS ((size_t)256)

typedef struct ae__near { float score; int32_t label; } ae__near;

// score: of `count` samples of d from `first` on; best (k): the highest so far, in order.
static void ae__knn_merge(ae__near *best, size_t k, const float *score, const ae_dataset *d,
                          size_t first, size_t count)
{
    for (size_t j = 0; j < count; j++) {
        size_t at = k - 1;
        if (score[j] <= best[at].score)
            continue;
        for (; at > 0 && best[at - 1].score < score[j]; at--)
            best[at] = best[at - 1];
        best[at].score = score[j];
        best[at].label = d->labels[ae__data_row(d, first + j)];
    }
}

// What most of the k nearest are; of equally many the nearest.
static int32_t ae__knn_vote(const ae__near *best, size_t k)
{
    size_t most = 0, winner = 0;
    for (size_t i = 0; i < k; i++) {
        size_t votes = 0;
        for (size_t j = i; j < k; j++)
            votes += best[j].label == best[i].label;
        winner = votes > most ? i : winner;
        most = votes > most ? votes : most;
    }
    return best[winner].label;
}

/* Near is where x y - |y|^2 / 2 is high: a product of 256 samples of test, x, with 256 of train, y,
   at a time.   x, y (256,F)   score (256,256)   half (256)   best (256,k) */
static size_t ae__knn_right(const ae_exec *e, const ae_dataset *train, const ae_dataset *test,
                            size_t k, float *x, ae__near *best)
{
    const size_t F = ae__data_features(train);
    float *y = x + AE__KNN_ROWS * F, *score = y + AE__KNN_ROWS * F;
    float *half = score + AE__KNN_ROWS * AE__KNN_ROWS;
    size_t right = 0;
    for (size_t i = 0, rows; i < test->n; i += rows) {
        rows = ae__min(AE__KNN_ROWS, test->n - i);
        ae_dataset_get(test, x, NULL, i, rows);
        for (size_t r = 0; r < rows * k; r++)
            best[r].score = -3e38f;
        for (size_t j = 0, count; j < train->n; j += count) {
            count = ae__min(AE__KNN_ROWS, train->n - j);
            ae_dataset_get(train, y, NULL, j, count);
            for (size_t r = 0; r < count; r++)
                half[r] = (float)(-0.5 * ae__kernels_of(e)->dot(y + r * F, y + r * F, F));
            ae__gemm(e, score, AE__KNN_ROWS, x, (ptrdiff_t)F, 1, y, 1, (ptrdiff_t)F, half,
                     (int)rows, (int)count, (int)F, 0);
            for (size_t r = 0; r < rows; r++)
                ae__knn_merge(best + r * k, k, score + r * AE__KNN_ROWS, train, j, count);
        }
        for (size_t r = 0; r < rows; r++)
            right += ae__knn_vote(best + r * k, k) == test->labels[ae__data_row(test, i + r)];
    }
    return right;
}

AE_API ae_status ae_knn_accuracy(const ae_exec *e, double *accuracy, ae_arena *arena,
                                 const ae_dataset *train, const ae_dataset *test, int k)
{
    ae_dataset d[2];
    const ae_status status = ae__codes(d, arena, "knn", train, test);
    const size_t mark = ae_arena_used(arena), rows = AE__KNN_ROWS;
    if (status)
        return status;
    if (k < 1 || (size_t)k > train->n)
        return ae__fail(arena, AE_E_ARG, "knn: %d neighbours of %z samples: there are 1 to %z", k,
                        train->n, train->n);
    const size_t near = ae__round_up(ae__sat_mul(rows * sizeof(ae__near), (size_t)k), AE_ALIGN);
    const size_t tiles = ae__sat_mul(rows * 4, 2 * ae__data_features(train) + rows + 1);
    unsigned char *at = (unsigned char *)ae_alloc(arena, ae__sat_add(near, tiles));
    if (at == NULL)
        return ae__fail(arena, AE_E_MEMORY, "knn: %d neighbours of %z values need %z bytes, the "
                        "arena has %z left", k, ae__data_features(train),
                        ae__sat_add(near, tiles), ae_arena_left(arena));
    const size_t right = ae__knn_right(e, &d[0], &d[1], (size_t)k, (float *)(void *)(at + near),
                                       (ae__near *)(void *)at);
    *accuracy = (double)right / (double)test->n;
    ae_arena_rewind(arena, mark);
    return AE_SUCCESS;
}

// Trains y, logits, and counts what it gets right.
static ae_status ae__linear_probe(ae_model *m, const ae_tensor *y, ae_dataset *d, int epochs,
                               size_t *right)
{
    const size_t classes = ae_size(y), n = d[1].n;
    ae_optim adam;
    ae_fit_options fit;
    memset(&adam, 0, sizeof adam);
    memset(&fit, 0, sizeof fit);
    adam.lr = 0.01f;
    fit.epochs = epochs ? epochs : 20;
    fit.schedule.kind = AE_SCHEDULE_COSINE;
    ae_status status = ae_build(m, 64, AE_TRAIN);
    float *logit = (float *)ae_alloc(m->arena, ae__sat_mul(n, classes * sizeof(float)));
    if (!status && !logit)
        status = ae__report(m, AE_E_MEMORY, "no room for %z scores", n * classes);
    status = status ? status : ae_fit(m, &d[0], &adam, &fit, NULL);
    status = status ? status : ae_predict_dataset(m, y, logit, &d[1]);
    for (size_t i = 0; i < n && !status; i++, logit += classes) {
        size_t most = 0;
        for (size_t c = 1; c < classes; c++)
            most = logit[c] > logit[most] ? c : most;
        *right += (int32_t)most == d[1].labels[ae__data_row(&d[1], i)];
    }
    return status;
}

AE_API ae_status ae_linear_probe(const ae_exec *e, double *accuracy, ae_arena *arena,
                                 const ae_dataset *train, const ae_dataset *test, int epochs)
{
    ae_dataset d[2];
    ae_status status = ae__codes(d, arena, "linear probe", train, test);
    const size_t mark = ae_arena_used(arena);
    size_t right = 0;
    int classes = 1;
    char why[AE_ERROR_MAX];     // the model's sentence, which is given back with it
    if (status)
        return status;
    for (size_t j = 0; j < d[0].n; j++) {
        const int32_t label = d[0].labels[ae__data_row(&d[0], j)];
        classes = label >= classes && label < 1 << 24 ? label + 1 : classes;
    }
    ae_model *m = ae_model_new(arena, 1);
    ae_tensor *y = m ? ae_linear(ae_input(m, d[0].c, d[0].h, d[0].w), classes) : NULL;
    if (y) {
        ae_minimize(ae_cross_entropy(y, ae_labels(m), AE_MEAN));
        ae_set_exec(m, e);
    }
    status = y ? ae__linear_probe(m, y, d, epochs, &right) : AE_E_MEMORY;
    ae__format(why, sizeof why, "%s", ae_error(m));
    ae_arena_rewind(arena, mark);
    if (status)
        return ae__fail(arena, status, "linear probe: %s", why);
    *accuracy = (double)right / (double)test->n;
    return AE_SUCCESS;
}
#endif

/* ---------------------------------------------------------------------------
   >>tools   what a model is, whether it is right, why it does not learn      */

// ---- the model as a table

enum { AE__CELLS = 6 };

typedef struct ae__page {       // text that counts on where its place ends
    char *dst;
    size_t capacity, length;
    size_t width[AE__CELLS];    // of its columns
    char cell[AE__CELLS][AE__NAME_MAX];
} ae__page;

static void ae__append(ae__page *p, const char *text)
{
    for (; *text; text++, p->length++)
        if (p->length + 1 < p->capacity)
            p->dst[p->length] = *text;
}

// 1234567 as 1,234,567; nothing as -.
static char *ae__put_count(char *dst, size_t value)
{
    char digits[24], *to = dst;
    ae__format(digits, sizeof digits, value ? "%z" : "-", value);
    for (size_t left = strlen(digits), i = 0; left > 0; i++, left--) {
        if (i && left % 3 == 0)
            *to++ = ',';
        *to++ = digits[i];
    }
    *to = 0;
    return dst;
}

// Measures the cells, or writes them as a line: three to the left, three to the right.
static void ae__put_row(ae__page *p, int measure)
{
    for (int i = 0; i < AE__CELLS; i++) {
        const size_t length = strlen(p->cell[i]);
        if (p->width[i] < length)
            p->width[i] = length;
        if (measure)
            continue;
        ae__append(p, i < 3 ? p->cell[i] : "");
        for (size_t j = length; j < p->width[i]; j++)
            ae__append(p, " ");
        ae__append(p, i < 3 ? "" : p->cell[i]);
        ae__append(p, i + 1 < AE__CELLS ? "  " : "\n");
    }
}

// The trained elements of p (or NULL) that no tensor before t has.
static size_t ae__new_elements(const ae_tensor *t, const ae_param *p)
{
    for (const ae_tensor *u = t->prev; u && p; u = u->prev)
        if (u->weight == p || u->bias == p)
            return 0;
    return p && !p->untrained ? p->count : 0;
}

// Parameters, floats for a sample, multiply-adds of t.
static void ae__costs(const ae_tensor *t, ae_mode mode, size_t count[3])
{
    const int value = mode == AE_TRAIN ? AE__TRAIN_VALUE : AE__INFER_VALUE;
    const ae_tensor *kept = t->in[1] && t->in[1]->kept && t->in[1]->next == t ? t->in[1] : NULL;
    count[0] = ae__new_elements(t, t->weight) + ae__new_elements(t, t->bias);
    count[1] = (t->in_place_of ? 0 : t->span[value].size) + (kept ? kept->span[value].size : 0);
    if (mode == AE_TRAIN && !t->replaced_by)
        count[1] += t->span[AE__GRADIENT].size + t->span[AE__PASSING].size;
    count[2] = 0;
    if (t->op == &ae__op_linear || t->op == &ae__op_tied_linear)
        count[2] = t->weight->count;
    else if (t->op == &ae__op_conv2d || t->op == &ae__op_vq)
        count[2] = ae__sat_mul(ae__size(t), t->weight->count
                               / (size_t)(t->op == &ae__op_vq ? t->c : t->weight->shape[0]));
    else if (t->op == &ae__op_conv_transpose2d)
        count[2] = ae__sat_mul(ae__size(t->in[0]), ae__columns(t->weight));
}

static void ae__table(ae__page *p, const ae_model *m, int batch, ae_mode mode, int measure)
{
    static const char *const head[AE__CELLS] = {
        "name", "kind", "shape", "parameters", "bytes", "multiply-adds"
    };
    size_t count[3], sum[3] = {0, 0, 0};
    for (int i = 0; i < AE__CELLS; i++)
        ae__format(p->cell[i], AE__NAME_MAX, "%s", head[i]);
    ae__put_row(p, measure);
    for (const ae_tensor *t = m->first; t; t = t->next) {
        if (t->kept)
            continue;
        ae__costs(t, mode, count);
        count[1] = ae__sat_mul(count[1], (size_t)batch * sizeof(float));
        ae__format(p->cell[0], AE__NAME_MAX, "%s", t->name);
        ae__format(p->cell[1], AE__NAME_MAX, "%s", t->op->name);
        ae__format(p->cell[2], AE__NAME_MAX, t->loss >= 0 ? "loss" : t->h * t->w > 1 ? "%dx%dx%d"
                   : "%d", t->c, t->h, t->w);
        for (int i = 0; i < 3; i++) {
            ae__put_count(p->cell[3 + i], count[i]);
            sum[i] = ae__sat_add(sum[i], count[i]);
        }
        ae__put_row(p, measure);
    }
    for (int i = 0; i < 3; i++) {
        ae__format(p->cell[i], AE__NAME_MAX, "%s", i ? "" : "all");
        ae__put_count(p->cell[3 + i], sum[i]);
    }
    ae__put_row(p, measure);
}

AE_API size_t ae_summary(ae_model *m, int batch, ae_mode mode, char *dst, size_t capacity)
{
    static const char *const line[3] = {
        "moved by statistics, not by gradients", "bytes for inference", "bytes for training"
    };
    ae__page p;
    memset(&p, 0, sizeof p);
    p.dst = dst;
    p.capacity = capacity;
    if (capacity)
        dst[0] = 0;
    if (m == NULL || ae_plan(m, batch, mode) == 0)
        return 0;
    for (int measure = 1; measure >= 0; measure--)
        ae__table(&p, m, batch, mode, measure);
    size_t value[3] = {0, ae_plan(m, batch, AE_INFER), 0};
    for (const ae_param *q = m->first_param; q; q = q->next)
        value[0] += q->untrained ? q->count : 0;
#ifndef AE_NO_TRAIN
    value[2] = ae_plan(m, batch, AE_TRAIN);
#endif
    for (int i = 0; i < 3; i++)
        if (value[i]) {
            ae__append(&p, ae__put_count(p.cell[0], value[i]));
            ae__append(&p, " ");
            ae__append(&p, line[i]);
            ae__append(&p, "\n");
        }
    if (capacity)
        dst[ae__min(p.length, capacity - 1)] = 0;
    return p.length;
}

#ifndef AE_NO_TRAIN
// ---- experiments that leave a model as it was

// A snapshot in the arena, with `more` zeroed bytes behind it; NULL: no room (reported).
static unsigned char *ae__set_aside(ae_model *m, size_t more, const char *call)
{
    const size_t bytes = ae_snapshot_bytes(m), all = ae__sat_add(bytes, more);
    unsigned char *block = (unsigned char *)ae_alloc(m->arena, all);
    if (block)
        memcpy(block, m->segment[AE_SEG_PARAM], bytes);
    else
        ae__report(m, AE_E_MEMORY, "%s borrows %z bytes, the arena has %z left", call, all,
                   ae_arena_left(m->arena));
    return block;
}

// All as it was; keep: but for the arena.
static void ae__bring_back(ae_model *m, const unsigned char *snapshot, int keep)
{
    memcpy(m->segment[AE_SEG_PARAM], snapshot, ae_snapshot_bytes(m));
    m->forward_n = 0;
    if (!keep)
        ae_arena_rewind(m->arena, (size_t)(snapshot - m->arena->base));
}

// GRAD = the gradient of the last ae__forward, with the full weight of each loss.
static void ae__fresh_gradient(ae_model *m)
{
    memset(m->segment[AE_SEG_GRAD], 0, m->bytes[AE_SEG_GRAD]);
    m->epoch_at = 3e38f;
    ae__backward(m, 1.0f, 1.0);
}
#endif

// ---- where a value stops being finite

// Whether one of n values is not; size: of a sample, 0: of a parameter.
static int ae__bad(ae_nonfinite *r, const char *name, const char *what, const float *v, size_t n,
                   size_t size)
{
    const size_t i = ae__first_not_finite(v, n);
    if (i == n)
        return 0;
    r->name = name;
    r->what = what;
    r->value = ae__not_a_number(v[i], "NaN", "infinity", "-infinity");
    r->sample = size ? (int)(i / size) : -1;
    r->index = size ? i % size : i;
    return 1;
}

static ae_status ae__bad_forward(ae_model *m, int n, ae_nonfinite *r)
{
    ae_status status = AE_SUCCESS;
    for (const ae_tensor *t = m->first; t && !status && !r->name; t = t->next) {
        const ae_param *own[4] = {t->weight, t->bias, t->running[0], t->running[1]};
        if (!m->needed[t->id])
            continue;
        for (int i = 0; i < 4 && !r->name; i++)
            if (own[i])         // of small weights the scales
                ae__bad(r, own[i]->name, "parameter", ae__weights(m, own[i]),
                        ae__is_small(m, own[i]) ? (size_t)own[i]->shape[0] : own[i]->count, 0);
        ae__mark_computed(m, t);
        if (!r->name)
            status = ae__compute_tensor(m, t, n);
        if (!r->name && !status && !t->kept && t->op != &ae__op_labels)
            ae__bad(r, t->name, "value", ae__value(m, t),
                    t->loss >= 0 ? 1 : (size_t)n * ae__size(t), ae__size(t));
    }
    return status;
}

#ifndef AE_NO_TRAIN
static size_t ae__largest(const float *g, size_t n)
{
    size_t most = 0;
    for (size_t i = 1; i < n; i++)
        most = fabsf(g[i]) > fabsf(g[most]) ? i : most;
    return most;
}

static void ae__bad_param_gradient(const ae_model *m, const ae_param *p, ae_nonfinite *r)
{
    const float *g = ae__weight_grads(m, p);
    const char *const what = "parameter gradient";
    if (ae__bad(r, p->name, what, g, p->count, 0)
        || ae__finite_double(ae__norm(&m->exec, g, p->count)))
        return;
    r->name = p->name;          // all is finite, but not the norm that a step needs
    r->what = what;
    r->value = "too large to square";
    r->sample = -1;
    r->index = ae__largest(g, p->count);
}

// The layers of one run, chunk by chunk, then the gradients of their weights.
static void ae__bad_run(ae_model *m, const ae_tensor *last, int n, ae_nonfinite *r)
{
    const float dloss = ae__dloss(m, last, 1.0f, 1.0);
    const ae_tensor *end = last->run_first->prev;
    ae__run run;
    ae__run_of(&run, m, last, n);
    for (int c = 0; c < run.chunks && !r->name; c++) {
        const int count = ae__run_to(&run, m, c);
        for (const ae_tensor *t = last; t != end && !r->name; t = t->prev)
            if (t->loss >= 0 || !t->towards_loss || !t->has_grad
                || !ae__bad(r, t->name, "gradient", ae__gradient(m, t),
                            (size_t)count * ae__size(t), ae__size(t)))
                ae__back_through(m, t, count, &dloss);
        r->sample += r->name ? m->from : 0;
    }
    m->from = 0;
    for (const ae_tensor *t = last; t != end; t = t->prev)
        for (int i = 0; i < 2 && !r->name; i++) {
            const ae_param *p = i ? t->bias : t->weight;
            if (p && !p->untrained && t->towards_loss && t->has_grad)
                ae__bad_param_gradient(m, p, r);
        }
}

static void ae__bad_backward(ae_model *m, int n, ae_nonfinite *r)
{
    memset(m->segment[AE_SEG_GRAD], 0, m->bytes[AE_SEG_GRAD]);
    m->epoch_at = 3e38f;
    for (const ae_tensor *t = m->last; t && !r->name; t = t->run_first->prev)
        ae__bad_run(m, t, n, r);
    if (!r->name)
        ae__bad(r, "optimiser", "optimiser state", ae__segment(m, AE_SEG_OPT),
                m->bytes[AE_SEG_OPT] / sizeof(float), 0);
}

static ae_status ae__bad_training(ae_model *m, int n, ae_nonfinite *r)
{
    unsigned char *snapshot = ae__set_aside(m, 0, "ae_find_nonfinite");
    ae_status status = snapshot ? ae__mark_losses(m, 1) : m->status;
    if (status == AE_SUCCESS)
        status = ae__bad_forward(m, n, r);
    if (status == AE_SUCCESS && !r->name)
        ae__bad_backward(m, n, r);
    if (snapshot)
        ae__bring_back(m, snapshot, 0);
    return status;
}
#endif

static ae_status ae__find_nonfinite_here(ae_model *m, int n, ae_nonfinite *found)
{
    ae_nonfinite r;
    ae_status status = ae__begin(m, n);
    memset(&r, 0, sizeof r);
    if (status)
        return status;
    if (m->mode == AE_INFER) {
        m->training = 0;
        for (const ae_tensor *t = m->first; t; t = t->next)
            m->needed[t->id] = t->loss < 0;
        status = ae__bad_forward(m, n, &r);
    }
#ifndef AE_NO_TRAIN
    else
        status = ae__bad_training(m, n, &r);
#endif
    if (status)
        return status;
    if (found)
        *found = r;
    return !r.name ? AE_SUCCESS
           : ae__report(m, AE_E_NUMERIC, r.sample < 0 ? "the first %s that is not finite: element "
                        "%z of %s is %s" : "the first %s that is not finite: element %z of %s is "
                        "%s in sample %d", r.what, r.index, r.name, r.value, r.sample);
}

AE_API ae_status ae_find_nonfinite(ae_model *m, int n, ae_nonfinite *found)
{
    ae_status result;
    return AE__ON_HOST(m, result, ae__find_nonfinite_here(m, n, found));
}

#ifndef AE_NO_TRAIN
// ---- gradients by differences

typedef struct ae__trial {      // a check while it runs
    ae_model *m;
    int n;
    ae_check_options o;
    const float *weights;       // PARAM as it was
    unsigned char *on;          // per value of a relu, one after another: it was above 0
    double base, noise;         // the minimised sum; how far rounding may move it
} ae__trial;

typedef struct ae__slope {
    double value, error;        // a derivative by differences, and how far off it may be
    int verdict;                // of what ae_backward says: 1 right, -1 wrong, 0 cannot be told
} ae__slope;

// The kind of an activation, else -1.
static int ae__act_of(const ae_tensor *t)
{
    return t->op->forward == ae__activation_forward ? t->kind : -1;
}

static size_t ae__relu_values(const ae_tensor *t, int n)
{
    const int act = ae__act_of(t);
    return act == AE_ACT_RELU || act == AE_ACT_LEAKY_RELU ? (size_t)n * ae__size(t) : 0;
}

static void ae__keep_pieces(ae__trial *c)
{
    unsigned char *on = c->on;
    for (const ae_tensor *t = c->m->first; t; t = t->next) {
        const float *x = ae__value(c->m, t->in_place_of || !t->in[0] ? t : t->in[0]);
        for (size_t i = 0; i < ae__relu_values(t, c->n); i++)
            *on++ = x[i] > 0.0f;
    }
}

// An operation with kinks, on the piece that it was on. 0: it has none.
static int ae__on_piece(const ae_model *m, const ae_tensor *t, int n, const unsigned char *on)
{
    const int relu = ae__relu_values(t, n) > 0, pool = t->op == &ae__op_max_pool2d;
    if (!relu && !pool && t->op != &ae__op_top_k)
        return 0;
    const float *x = ae__value(m, t->in[0]);
    const size_t from = ae__size(t->in[0]) / (size_t)t->c, to = ae__size(t) / (size_t)t->c;
    for (size_t i = 0; i < (size_t)n * ae__size(t); i++)
        ae__value(m, t)[i] = pool ? x[i / to * from + (size_t)ae__index(m, t)[i]]
                             : !relu ? x[i] * ae__value(m, t->in[1])[i]
                             : on[i] ? x[i] : t->kind == AE_ACT_RELU ? 0.0f : t->a * x[i];
    return 1;
}

// The minimised sum with the weights as they are.
static ae_status ae__trial_loss(ae__trial *c, double *loss)
{
    ae_model *m = c->m;
    const unsigned char *on = c->on;
    ae_status status = ae__mark_losses(m, 1);
    for (const ae_tensor *t = m->first; t && !status; t = t->next) {
        if (m->needed[t->id] && t->op->forward && !ae__on_piece(m, t, c->n, on))
            status = ae__compute_tensor(m, t, c->n);
        on += ae__relu_values(t, c->n);
    }
    ae__statistics(m, 1);
    *loss = ae__weighted(m, NULL, ae__loss_values(m));
    return status;
}

/* A direction that all elements take part in: it leans to the gradient, along which the loss moves
   most and is known best, and has random signs, so that elements with gradient 0 count too. */
static double ae__lean(const float *g, double rms, size_t i)
{
    const double sign = (uint32_t)i * 2654435761u >> 31 ? 1.0 : -1.0;
    return rms > 0.0 ? (double)g[i] / rms + sign : sign;
}

// The minimised sum with element i of p, or all along the direction (i = p->count), moved by h.
static ae_status ae__trial_at(ae__trial *c, const ae_param *p, size_t i, double rms, double h,
                              double *loss)
{
    float *w = ae__weights(c->m, p);
    const float *start = c->weights + p->at, *g = ae__weight_grads(c->m, p);
    const int all = i == p->count;
    for (size_t j = all ? 0 : i; j < p->count && j <= i; j++)
        w[j] = (float)((double)start[j] + (all ? h * ae__lean(g, rms, j) : h));
    ae_status status = ae__trial_loss(c, loss);
    memcpy(w, start, p->count * sizeof *w);
    return status;
}

/* Central differences, (f(h) - f(-h)) / 2h = f' + h^2 f'''/6 + ..., at h and 2h, combined so that
   h^2 drops out; their distance bounds what is left. A corner within the step (|x| is not held on
   its piece) also shows in f(h) + f(-h) - 2 f(0), as h times its jump. h shrinks until the value is
   known as well as wanted, or rounding, which grows as 1/h, takes over. Wrong is what smaller steps
   do not mend. */
static ae_status ae__differences(ae__trial *c, const ae_param *p, size_t i, double rms,
                                 double step, double want, double scale, ae__slope *s)
{
    double off = 0.0;
    int wrong = 0;              // steps in a row that say so
    memset(s, 0, sizeof *s);
    s->error = 1e300;
    for (double h = step; !s->verdict; h *= 0.25) {
        double f[4] = {-2.0 * h, -h, h, 2.0 * h};
        if (c->noise / h >= s->error && wrong != 1 && !(wrong && 8.0 * c->noise / h < off))
            break;
        for (int k = 0; k < 4; k++) {
            ae_status status = ae__trial_at(c, p, i, rms, f[k], &f[k]);
            if (status)
                return status;
        }
        const double one = (f[2] - f[1]) / (2.0 * h), two = (f[3] - f[0]) / (4.0 * h);
        const double bend = (f[2] + f[1] - 2.0 * c->base) / h;
        const double jump = 2.0 * bend - (f[3] + f[0] - 2.0 * c->base) / (2.0 * h);
        const double value = (4.0 * one - two) / 3.0;
        const double error = fabs(one - two) / 3.0 + fabs(jump) / 2.0 + c->noise / h;
        const double allowed = (double)c->o.tolerance * fmax(scale, fabs(value));
        if (!ae__finite_double(value) || !ae__finite_double(error))
            continue;
        off = fabs(value - want);
        if (off <= allowed + error)
            wrong = 0;
        else
            wrong += off > allowed + 2.0 * error;
        s->verdict = off <= allowed + error && error <= allowed;
        if (error < s->error || s->verdict) {
            s->value = value;
            s->error = error;
        }
    }
    if (!s->verdict && wrong > 1)
        s->verdict = -1;
    return AE_SUCCESS;
}

/* How far a weight may go so that no unit moves by more than 1: 1 over the largest value that it
   multiplies. */
static double ae__reach(const ae_model *m, const ae_param *p, int n)
{
    double most = 1.0 / 16.0;
    for (const ae_tensor *t = m->first; t; t = t->next) {
        most = t->bias == p ? fmax(most, 1.0) : most;
        for (size_t i = 0; t->weight == p && t->loss < 0 && i < (size_t)n * ae__size(t->in[0]); i++)
            most = fmax(most, fabs((double)ae__value(m, t->in[0])[i]));
    }
    return 1.0 / most;
}

// Whether a way from p to a loss leads through a codebook.
static int ae__straight_through(ae_model *m, const ae_param *p)
{
    int found = 0;
    memset(m->needed, 0, (size_t)m->tensors);
    for (const ae_tensor *t = m->first; t; t = t->next)
        if (t->op == &ae__op_vq)
            ae__need(m, t, NULL);
    for (const ae_tensor *t = m->first; t; t = t->next)
        found |= m->needed[t->id] && (t->weight == p || t->bias == p);
    return found;
}

// Which of p's elements is tried as number k.
static size_t ae__pick(const ae_model *m, const ae_param *p, size_t k)
{
    ae_random r;
    r.seed = m->seed;
    r.step = (uint64_t)p->index;
    r.stream = 0x43484543u;     // a stream of its own
    return k == 0 ? ae__largest(ae__weight_grads(m, p), p->count) : k == 1 ? 0
           : k == 2 ? p->count - 1 : (size_t)ae_random_permute(k, p->count, r);
}

// Elements of p by themselves.
static ae_status ae__check_elements(ae__trial *c, const ae_param *p, double rms, double step,
                                    ae_check *r)
{
    const size_t few = (size_t)c->o.samples, all = c->o.samples < 0 || few >= p->count;
    for (size_t k = 0; k < (all ? p->count : few); k++) {
        ae__slope s;
        const size_t i = all ? k : ae__pick(c->m, p, k);
        const double want = (double)ae__weight_grads(c->m, p)[i], scale = fmax(rms, fabs(want));
        ae_status status = ae__differences(c, p, i, rms, step, want, scale, &s);
        if (status)
            return status;
        const double error = fabs(s.value - want) / fmax(fmax(scale, fabs(s.value)), 1e-300);
        const int worse = s.verdict < 0 ? !r->wrong || error > r->error
                          : s.verdict > 0 && !r->wrong && error > r->error;
        if (worse || k == 0) {
            r->index = i;
            r->analytic = want;
            r->numeric = s.value;
            r->error = error;
        }
        r->right += s.verdict > 0;
        r->wrong += s.verdict < 0;
        r->unclear += s.verdict == 0;
    }
    return AE_SUCCESS;
}

static ae_status ae__check_param(ae__trial *c, const ae_param *p, ae_check *r)
{
    const float *g = ae__weight_grads(c->m, p);
    const double norm = ae__norm(&c->m->exec, g, p->count), rms = norm / sqrt((double)p->count);
    const double step = (double)c->o.step * ae__reach(c->m, p, c->n);
    double square = 0.0, slope = 0.0;
    ae__slope s;
    memset(r, 0, sizeof *r);
    r->name = p->name;
    r->elements = p->count;
    r->verdict = AE_CHECK_SKIPPED;
    if (ae__straight_through(c->m, p))
        return AE_SUCCESS;
    for (size_t i = 0; i < p->count; i++) {
        const double v = ae__lean(g, rms, i);
        square += v * v;
        slope += v * (double)g[i];
    }
    const double length = fmax(sqrt(square), 1e-30);
    ae_status status = ae__differences(c, p, p->count, rms, step / length, slope, fabs(slope), &s);
    if (status == AE_SUCCESS)
        status = ae__check_elements(c, p, rms, step, r);
    r->slope = slope / length;
    r->numeric_slope = s.value / length;
    r->verdict = r->wrong || s.verdict < 0 ? AE_CHECK_WRONG
                 : norm > 0.0 && (r->right || s.verdict > 0) ? AE_CHECK_RIGHT
                 : norm > 0.0 || fabs(s.value) > s.error ? AE_CHECK_UNCLEAR : AE_CHECK_ZERO;
    return status;
}

static ae_status ae__check_all(ae__trial *c, ae_check *worst, int *right)
{
    ae_model *m = c->m;
    ae_status status = ae__forward(m, c->n);
    if (status)
        return status;
    ae__statistics(m, 1);
    ae__keep_pieces(c);
    ae__fresh_gradient(m);
    status = ae__trial_loss(c, &c->base);
    for (const ae_tensor *t = m->first; t; t = t->next)     // four times half a last place
        if (t->minimized)
            c->noise += 2.4e-7 * fabs((double)t->term_weight * (double)*ae__value(m, t));
    c->noise = fmax(c->noise, 1e-30);
    for (const ae_param *p = m->first_param; p && !status; p = p->next) {
        ae_check r;
        if (p->untrained)
            continue;
        status = ae__check_param(c, p, &r);
        *right += r.verdict == AE_CHECK_RIGHT;
        if (worst->name == NULL || r.verdict == AE_CHECK_WRONG || r.verdict > worst->verdict
            || (r.verdict == worst->verdict && r.error > worst->error))
            *worst = r;         // of wrong ones the last: those before it only pass it on
        if (c->o.each && !status)
            c->o.each(c->o.user, &r);
    }
    return status;
}

// What a finished check comes to.
static ae_status ae__check_result(ae_model *m, const ae_check *w, int right)
{
    if (w->verdict == AE_CHECK_WRONG && w->wrong)
        return ae__report(m, AE_E_GRADIENT, "%s: the gradient of element %z is %g by ae_backward "
                          "and %g by differences: the backward pass of its layer, or of what leads "
                          "to the next layer with weights, is wrong", w->name, w->index,
                          w->analytic, w->numeric);
    if (w->verdict == AE_CHECK_WRONG)
        return ae__report(m, AE_E_GRADIENT, "%s: the slope of the loss along all elements is %g by "
                          "ae_backward and %g by differences: some are wrong (samples = -1 tries "
                          "all)", w->name, w->slope, w->numeric_slope);
    return right ? AE_SUCCESS
           : ae__report(m, AE_E_GRADIENT, "no gradient could be tested: %s", w->name == NULL
                        ? "nothing is trained" : w->verdict == AE_CHECK_ZERO
                        ? "all are 0, and the differences too: is a layer dead, or the data 0?"
                        : "rounding or a codebook hides them all");
}

static ae_status ae__check_gradients_here(ae_model *m, int n, const ae_check_options *options,
                                          ae_check *worst)
{
    ae__trial c;
    ae_check w;
    int right = 0;
    size_t values = 0;
    ae_status status = ae__begin_training(m, n);
    if (status)
        return status;
    memset(&c, 0, sizeof c);
    memset(&w, 0, sizeof w);
    if (options)
        c.o = *options;
    if (ae__bad_number(c.o.tolerance) || ae__bad_number(c.o.step))
        return ae__report(m, AE_E_ARG, "ae_check_gradients: tolerance %g, step %g: they must be "
                          "numbers from 0 on", (double)c.o.tolerance, (double)c.o.step);
    c.o.tolerance = ae__or(c.o.tolerance, 0.01f);
    c.o.step = ae__or(c.o.step, 0.25f);
    c.o.samples = c.o.samples ? c.o.samples : 8;
    for (const ae_tensor *t = m->first; t; t = t->next)
        values += ae__relu_values(t, n);
    unsigned char *snapshot = ae__set_aside(m, values, "ae_check_gradients");
    if (snapshot == NULL)
        return m->status;
    c.m = m;
    c.n = n;
    c.weights = (const float *)(const void *)snapshot;
    c.on = snapshot + ae_snapshot_bytes(m);
    ae__statistics(m, 0);
    status = ae__check_all(&c, &w, &right);
    ae__bring_back(m, snapshot, 0);
    if (worst && status == AE_SUCCESS)
        *worst = w;
    return status ? status : ae__check_result(m, &w, right);
}

AE_API ae_status ae_check_gradients(ae_model *m, int n, const ae_check_options *options,
                                    ae_check *worst)
{
    ae_status result;
    return AE__ON_HOST(m, result, ae__check_gradients_here(m, n, options, worst));
}

// ---- why it does not learn

// Adds a batch: ranges, how many values are saturated, which units of relus are on (one by one).
static void ae__survey(const ae_model *m, int n, ae_diagnosis *r, unsigned char *on)
{
    for (const ae_tensor *t = m->first; t; on += t->c, t = t->next, r++) {
        const size_t size = ae__size(t), count = t->loss >= 0 ? 1 : (size_t)n * size;
        const float *v = ae__value(m, t);
        const int act = ae__act_of(t);
        if (!m->needed[t->id] || m->replaced[t->id] || t->kept || t->op == &ae__op_labels)
            continue;
        for (size_t i = 0; i < count; i++) {
            r->low = fminf(r->low, v[i]);
            r->high = fmaxf(r->high, v[i]);
            r->saturated += act == AE_ACT_SIGMOID ? fabsf(2.0f * v[i] - 1.0f) > 0.9f
                            : act == AE_ACT_TANH && fabsf(v[i]) > 0.9f;
            if (v[i] > 0.0f)
                on[i % size / (size_t)(t->h * t->w)] = 1;
        }
    }
}

// The weights of the layer t, or NULL.
static const ae_param *ae__trained_weight(const ae_tensor *t)
{
    return t->weight && !t->weight->untrained && t->loss < 0 ? t->weight : NULL;
}

// All of d in batches, the gradient of the first, and the step that it makes.
static ae_status ae__survey_all(ae_model *m, const ae_dataset *d, const ae_optim *o,
                                const float *before, ae_diagnosis *all, unsigned char *on)
{
    const size_t samples = ae__fed(m, d);
    ae_status status = AE_SUCCESS;
    for (size_t done = 0; done < samples; done += (size_t)m->batch) {
        const int n = (int)ae__min((size_t)m->batch, samples - done);
        ae__feed(m, d, done, n, 0, (size_t)m->repeat);
        status = ae__forward(m, n);
        if (status)
            return status;
        ae__survey(m, n, all, on);
        if (done == 0)
            ae__fresh_gradient(m);
    }
    for (int after = 0; after < 2 && !status; after++) {
        for (const ae_tensor *t = m->first; t; t = t->next) {
            const ae_param *p = ae__trained_weight(t);
            float *g = p ? ae__weight_grads(m, p) : NULL;
            for (size_t i = 0; p && after && i < p->count; i++)     // GRAD is spare by now
                g[i] = ae__weights(m, p)[i] - before[p->at + i];
            if (p)
                *(after ? &all[t->id].update : &all[t->id].gradient) = ae__norm(&m->exec, g,
                                                                                p->count);
            if (p)
                all[t->id].weight = ae__norm(&m->exec, before + p->at, p->count);
        }
        status = after ? AE_SUCCESS : ae__update_params(m, o, ae__optim_lr(o));
    }
    return status;
}

// Whether anything but a loss reads t.
static int ae__is_hidden(const ae_tensor *t)
{
    for (const ae_tensor *u = t->next; u; u = u->next)
        for (int i = 0; i < AE__INPUTS && u->in[i]; i++)
            if (u->in[i] == t && u->loss < 0)
                return 1;
    return 0;
}

// A loss whose target goes beyond what the activation behind its prediction can give.
static void ae__advise_target(const ae_tensor *t, const ae_diagnosis *all, char *text)
{
    const ae_tensor *y = t->in[0];
    while (y->op == &ae__op_reshape)
        y = y->in[0];
    const int act = ae__act_of(y);
    const ae_diagnosis *r = &all[t->in[1]->id];
    const float least = act == AE_ACT_TANH ? -1.0f : 0.0f, most = act == AE_ACT_RELU ? 3e38f : 1.0f;
    const int below = r->low < least - 0.01f;
    if ((act == AE_ACT_SIGMOID || act == AE_ACT_TANH || act == AE_ACT_RELU)
        && (below || r->high > most + 0.01f))
        ae__format(text, AE_ERROR_MAX, "%s: the target %s goes from %g to %g, but %s gives nothing "
                   "%s %g: scale the data, or leave that activation out", t->name, r->name,
                   (double)r->low, (double)r->high, y->name, below ? "below" : "above",
                   (double)(below ? least : most));
}

// What tensor t wants, first things first; text stays empty when all is well.
static void ae__advise(const ae_tensor *t, const ae_diagnosis *all, size_t samples, char *text)
{
    const ae_diagnosis *r = &all[t->id];
    const double ratio = r->weight > 0.0 ? r->update / r->weight : 0.001;
    const int input = t->op == &ae__op_input && t->last_use != t;
    text[0] = 0;
    if (input && (r->high > 16.0f || r->low < -16.0f))
        ae__format(text, AE_ERROR_MAX, "%s: its values go from %g to %g, first weights are made "
                   "for about 1: scale the data", t->name, (double)r->low, (double)r->high);
    else if (input && r->low >= r->high)
        ae__format(text, AE_ERROR_MAX, "%s: all its values are %g: there is nothing to learn",
                   t->name, (double)r->low);
    else if (r->dead > r->units * 2 / 5)
        ae__format(text, AE_ERROR_MAX, "%s: %d of %d units are 0 for all %z samples and learn "
                   "nothing: lower the learning rate, or take ae_leaky_relu", t->name, r->dead,
                   r->units, samples);
    else if (r->saturated > 0.5 && ae__is_hidden(t))
        ae__format(text, AE_ERROR_MAX, "%s: %d %% of its values are where it is flat: take smaller "
                   "first weights, ae_batch_norm before it, or ae_relu", t->name,
                   (int)(100.0 * r->saturated + 0.5));
    else if (t->op->forward == ae__loss_forward)
        ae__advise_target(t, all, text);
    else if (ae__trained_weight(t) && !(r->gradient > 0.0))
        ae__format(text, AE_ERROR_MAX, "%s: no gradient reaches its weights: what lies between "
                   "them and a minimised loss is dead, saturated or missing", t->name);
    else if (ae__trained_weight(t) && (ratio > 0.1 || ratio < 1e-6))
        ae__format(text, AE_ERROR_MAX, "%s: the next step would change its weights by %g of their "
                   "size, 0.0001 to 0.05 is usual: %s the learning rate%s", t->name,
                   ratio > 0.1 ? floor(100.0 * ratio + 0.5) / 100.0 : ratio, ratio > 0.1 ? "lower"
                   : "raise", ratio > 0.1 ? "" : ", unless training is over");
}

static ae_status ae__diagnose_here(ae_model *m, const ae_dataset *d, const ae_optim *o,
                                   void (*each)(void *user, const ae_diagnosis *r), void *user)
{
    ae_status status = ae__training_check(m, d, o);
    if (status)
        return status;
    const size_t bytes = (size_t)m->tensors * sizeof(ae_diagnosis);
    size_t units = 0;
    char text[AE_ERROR_MAX], first[AE_ERROR_MAX] = "";
    for (const ae_tensor *t = m->first; t; t = t->next)
        units += (size_t)t->c;
    unsigned char *snapshot = ae__set_aside(m, bytes + units, "ae_diagnose");
    if (snapshot == NULL)
        return m->status;
    ae_diagnosis *all = (ae_diagnosis *)(void *)(snapshot + ae_snapshot_bytes(m)), *r = all;
    unsigned char *on = (unsigned char *)all + bytes;
    for (const ae_tensor *t = m->first; t; t = t->next) {
        all[t->id].low = 3e38f;
        all[t->id].high = -3e38f;
    }
    status = ae__survey_all(m, d, o, (const float *)(const void *)snapshot, all, on);
    ae__bring_back(m, snapshot, 1);
    for (const ae_tensor *t = m->first; t && status == AE_SUCCESS; on += t->c, t = t->next, r++) {
        r->name = t->name;
        r->advice = text;
        r->units = ae__act_of(t) == AE_ACT_RELU ? t->c : 0;
        for (int i = 0; i < r->units; i++)
            r->dead += !on[i];
        r->saturated /= (double)ae__fed(m, d) * (double)ae__size(t);
        if (r->low > r->high)
            r->low = r->high = 0.0f;
        ae__advise(t, all, d->n, text);
        if (!first[0])
            memcpy(first, text, sizeof first);
        if (each && !t->kept)
            each(user, r);
    }
    ae_arena_rewind(m->arena, (size_t)(snapshot - m->arena->base));
    return status || !first[0] ? status : ae__report(m, AE_W_TRAINING, "%s", first);
}

AE_API ae_status ae_diagnose(ae_model *m, const ae_dataset *d, const ae_optim *o,
                             void (*each)(void *user, const ae_diagnosis *r), void *user)
{
    ae_status result;
    return AE__ON_HOST(m, result, ae__diagnose_here(m, d, o, each, user));
}

// ---- one batch by heart

// The least that the minimised BCEs can reach: predictions that are their targets.
static double ae__loss_floor(const ae_model *m, int n)
{
    double sum = 0;
    for (const ae_tensor *t = m->first; t; t = t->next)
        if (t->minimized && t->op->forward == ae__loss_forward && t->kind >= AE_LOSS_BCE) {
            float least = 0.0f;
            const float *target = ae__value(m, t->in[1]);
            ae_loss_forward(&m->exec, &least, target, target, AE_LOSS_BCE, 0.0f, t->reduction, n,
                            (int)ae__size(t->in[1]));
            sum += (double)t->term_weight * (double)least;
        }
    return sum;
}

// The loss before and after `steps` steps on the inputs that are set, above that least.
static ae_status ae__learn_batch(ae_model *m, const ae_optim *o, int n, int steps, double loss[2])
{
    for (int i = 0; i <= steps; i++) {
        ae_status status = ae__forward(m, n);
        if (status)
            return status;
        loss[i > 0] = ae__weighted(m, NULL, ae__loss_values(m)) - ae__loss_floor(m, n);
        ae__fresh_gradient(m);
        status = i < steps ? ae__update_params(m, o, ae__optim_lr(o)) : AE_SUCCESS;
        if (status)
            return status;
    }
    return AE_SUCCESS;
}

static ae_status ae__overfit_test_here(ae_model *m, const ae_dataset *d, const ae_optim *o,
                                       int steps, double *ratio)
{
    double loss[2] = {0.0, 0.0};
    ae_status status = ae__training_check(m, d, o);
    if (status)
        return status;
    if (steps < 0)
        return ae__report(m, AE_E_ARG, "ae_overfit_test: %d steps: at least 1, or 0 for 500",
                          steps);
    unsigned char *snapshot = ae__set_aside(m, 0, "ae_overfit_test");
    if (snapshot == NULL)
        return m->status;
    const int n = (int)ae__min((size_t)m->batch, ae__fed(m, d));
    steps = steps ? steps : 500;
    ae__feed(m, d, 0, n, 0, (size_t)m->repeat);
    status = ae__learn_batch(m, o, n, steps, loss);
    ae__bring_back(m, snapshot, 0);
    if (status)
        return status;
    const double left = loss[0] > 0.0 ? loss[1] / loss[0] : loss[1] < loss[0] ? 0.0 : 1.0;
    if (ratio)
        *ratio = left;
    return left <= 0.1 ? AE_SUCCESS
           : ae__report(m, AE_W_TRAINING, "%d steps on %d samples left %g of the loss: %s", steps,
                        n, floor(1000.0 * left + 0.5) / 1000.0, left >= 1.0
                        ? "lower the learning rate" : left > 0.9
                        ? "raise the learning rate, and see ae_diagnose and ae_check_gradients"
                        : "take more steps, another learning rate or a wider code, unless it has a "
                        "term that cannot vanish");
}

AE_API ae_status ae_overfit_test(ae_model *m, const ae_dataset *d, const ae_optim *o, int steps,
                                 double *ratio)
{
    ae_status result;
    return AE__ON_HOST(m, result, ae__overfit_test_here(m, d, o, steps, ratio));
}
#endif

#ifdef AE__LESS_OPTIMIZED
#undef AE__LESS_OPTIMIZED
#pragma GCC pop_options
#endif
#ifdef __FAST_MATH__
#if defined(__clang__)
#pragma float_control(pop)
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif
#endif

#undef AE__IMPLEMENT
#endif /* AE__IMPLEMENT */

/*
   This is free and unencumbered software released into the public domain.

   Anyone is free to copy, modify, publish, use, compile, sell, or
   distribute this software, either in source code form or as a compiled
   binary, for any purpose, commercial or non-commercial, and by any
   means.

   In jurisdictions that recognize copyright laws, the author or authors
   of this software dedicate any and all copyright interest in the
   software to the public domain. We make this dedication for the benefit
   of the public at large and to the detriment of our heirs and
   successors. We intend this dedication to be an overt act of
   relinquishment in perpetuity of all present and future rights to this
   software under copyright law.

   THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND,
   EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
   MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT.
   IN NO EVENT SHALL THE AUTHORS BE LIABLE FOR ANY CLAIM, DAMAGES OR
   OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE,
   ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR
   OTHER DEALINGS IN THE SOFTWARE.

   For more information, please refer to <https://unlicense.org/>

   Where the public domain is not recognised: this file may be used under the MIT-0 licence, that
   is, for any purpose, without conditions and without warranty.
*/
