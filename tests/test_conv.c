/* Convolution and its transpose: against the plain loops in double, central differences, PyTorch,
   each other; any threads, any scratch. */
#include "test.h"

#define ULP 5.9604645e-8        /* 2^-24: half a unit in the last place of 1 */

typedef struct conv_case {      /* one layer and its arrays */
    int transpose;
    ae_conv g;
    int B, C, H, W, O, OH, OW;  // x (B,C,H,W), y (B,O,OH,OW)
    int xs, ys, ws;             // elements of x, y, w
    float *x, *w, *b, *dy;
} conv_case;

enum { Y, DX, DW, DB, RESULTS };
static const char *const result_names[RESULTS] = { "y", "dx", "dw", "db" };

static int result_size(const conv_case *c, int result)
{
    return result == Y ? c->ys : result == DX ? c->xs : result == DW ? c->ws : c->O;
}

/* The sizes and data of a layer; 0: it has no output. */
static int make_case(conv_case *c, int transpose, ae_conv g, int B, int C, int H, int W, int O)
{
    memset(c, 0, sizeof *c);
    c->transpose = transpose;
    c->g = g = ae_conv_defaults(&g);
    c->B = B;
    c->C = C;
    c->H = H;
    c->W = W;
    c->O = O;
    if (transpose) {
        c->OH = ae_conv_transpose_size(H, g.kernel_h, g.stride_h, g.pad_h, g.dilation_h,
                                       g.output_pad_h);
        c->OW = ae_conv_transpose_size(W, g.kernel_w, g.stride_w, g.pad_w, g.dilation_w,
                                       g.output_pad_w);
    } else {
        c->OH = ae_conv_size(H, g.kernel_h, g.stride_h, g.pad_h, g.dilation_h);
        c->OW = ae_conv_size(W, g.kernel_w, g.stride_w, g.pad_w, g.dilation_w);
    }
    if (c->OH < 1 || c->OW < 1) return 0;
    c->xs = B * C * H * W;
    c->ys = B * O * c->OH * c->OW;
    c->ws = C * O / g.groups * g.kernel_h * g.kernel_w;
    c->x = DATA(c->xs, 1);
    c->w = DATA(c->ws, 2);
    c->b = DATA(O, 3);
    c->dy = DATA(c->ys, 4);
    test_context("%s %dx%dx%dx%d to %dx%dx%d kernel %dx%d stride %dx%d pad %dx%d dilation %dx%d "
                 "output_pad %dx%d groups %d", transpose ? "transpose" : "conv", B, C, H, W, O,
                 c->OH, c->OW, g.kernel_h, g.kernel_w, g.stride_h, g.stride_w, g.pad_h, g.pad_w,
                 g.dilation_h, g.dilation_w, g.output_pad_h, g.output_pad_w, g.groups);
    return 1;
}

static ae_conv make_conv(int kernel_h, int kernel_w, int stride_h, int stride_w, int pad_h,
                         int pad_w)
{
    ae_conv g;
    memset(&g, 0, sizeof g);
    g.kernel_h = kernel_h;
    g.kernel_w = kernel_w;
    g.stride_h = stride_h;
    g.stride_w = stride_w;
    g.pad_h = pad_h;
    g.pad_w = pad_w;
    return g;
}

static void forward(const ae_exec *e, float *y, const conv_case *c, const float *b)
{
    if (c->transpose)
        ae_conv_transpose2d_forward(e, y, c->x, c->w, b, &c->g, c->B, c->C, c->H, c->W, c->O);
    else
        ae_conv2d_forward(e, y, c->x, c->w, b, &c->g, c->B, c->C, c->H, c->W, c->O);
}

static void backward(const ae_exec *e, float *dx, float *dw, float *db, const conv_case *c)
{
    if (c->transpose)
        ae_conv_transpose2d_backward(e, dx, dw, db, c->dy, c->x, c->w, &c->g, c->B, c->C, c->H,
                                     c->W, c->O);
    else
        ae_conv2d_backward(e, dx, dw, db, c->dy, c->x, c->w, &c->g, c->B, c->C, c->H, c->W, c->O);
}

/* All four results; dw and db grow from what `start` gives (NULL: zeros). */
static void run_case(float *got[RESULTS], const ae_exec *e, const conv_case *c, float *const *start)
{
    got[Y] = OUT(c->ys);
    got[DX] = OUT(c->xs);
    got[DW] = start ? COPY(start[DW], c->ws) : DATA_IN(c->ws, 0, 0, 0);
    got[DB] = start ? COPY(start[DB], c->O) : DATA_IN(c->O, 0, 0, 0);
    forward(e, got[Y], c, c->b);
    backward(e, got[DX], got[DW], got[DB], c);
}

/* --- the definition ------------------------------------------------------- */

typedef struct reference {
    double *v[RESULTS];
    double *size[RESULTS];      // sums of |terms|
    int *terms[RESULTS];
} reference;

static void term(reference *r, int result, size_t i, double value)
{
    r->v[result][i] += value;
    r->size[result][i] += fabs(value);
    r->terms[result][i]++;
}

/* One pixel of one plane of the small side: each weight that joins it to plane `big_c` of the big
   side, the output of a transpose and the input of a convolution. */
static void reference_pixel(reference *r, const conv_case *c, int b, int small_c, int big_c, int i,
                            int j)
{
    const ae_conv *g = &c->g;
    const int T = c->transpose;
    const int BC = T ? c->O : c->C, BH = T ? c->OH : c->H, BW = T ? c->OW : c->W;
    const int SC = T ? c->C : c->O, SH = T ? c->H : c->OH, SW = T ? c->W : c->OW;
    for (int p = 0; p < g->kernel_h; p++)
        for (int q = 0; q < g->kernel_w; q++) {
            const int y = i * g->stride_h - g->pad_h + p * g->dilation_h;
            const int x = j * g->stride_w - g->pad_w + q * g->dilation_w;
            if (y < 0 || y >= BH || x < 0 || x >= BW) continue;
            const size_t big = (((size_t)b * (size_t)BC + (size_t)big_c) * (size_t)BH + (size_t)y) *
                               (size_t)BW + (size_t)x;
            const size_t small = (((size_t)b * (size_t)SC + (size_t)small_c) * (size_t)SH +
                                  (size_t)i) * (size_t)SW + (size_t)j;
            const int local = big_c % (BC / g->groups);
            const size_t w = (size_t)(((small_c * (BC / g->groups) + local) * g->kernel_h + p) *
                                      g->kernel_w + q);
            const size_t in = T ? small : big, out = T ? big : small;
            term(r, Y, out, (double)c->w[w] * (double)c->x[in]);
            term(r, DX, in, (double)c->w[w] * (double)c->dy[out]);
            term(r, DW, w, (double)c->dy[out] * (double)c->x[in]);
        }
}

static reference reference_of(const conv_case *c)
{
    reference r;
    for (int k = 0; k < RESULTS; k++) {
        const int n = result_size(c, k);
        r.v[k] = DOUBLES(n);
        r.size[k] = DOUBLES(n);
        r.terms[k] = INTS(n);
    }
    const int SC = c->transpose ? c->C : c->O, BC = c->transpose ? c->O : c->C;
    const int SH = c->transpose ? c->H : c->OH, SW = c->transpose ? c->W : c->OW;
    for (int b = 0; b < c->B; b++)
        for (int s = 0; s < SC; s++)
            for (int k = 0; k < BC / c->g.groups; k++)
                for (int i = 0; i < SH; i++)
                    for (int j = 0; j < SW; j++)
                        reference_pixel(&r, c, b, s,
                                        s / (SC / c->g.groups) * (BC / c->g.groups) + k, i, j);
    const int N = c->OH * c->OW;
    for (int i = 0; i < c->ys; i++) {
        term(&r, Y, (size_t)i, (double)c->b[i / N % c->O]);
        term(&r, DB, (size_t)(i / N % c->O), (double)c->dy[i]);
    }
    return r;
}

/* How often a term may be rounded: in a sum of its own each time something is added, but long sums
   are made of blocks of 256, and the parts that the taps of a window add to an element. */
static double roundings(int terms, int taps)
{
    const int most = 2 * 256 + terms / 256 + taps;
    return (terms < most ? terms : most) + 3;
}

/* Each element within what rounding can do: so many half ulps of the sum of |.|; `times` the value,
   plus `start`. */
static void check_reference(float *const *got, const reference *r, const conv_case *c,
                            float *const *start, int times)
{
    const int taps = c->g.kernel_h * c->g.kernel_w;
    for (int k = 0; k < RESULTS; k++) {
        const int n = result_size(c, k);
        int worst = 0;
        double want = 0, tol = 0, worst_excess = -1e300;
        for (int i = 0; i < n; i++) {
            const double s = start && k >= DW ? (double)start[k][i] : 0;
            const int m = k >= DW ? times : 1;
            const double v = s + m * r->v[k][i];
            const double t = roundings(r->terms[k][i], taps) * m * ULP *
                             (fabs(s) + m * r->size[k][i]);
            const double excess = fabs((double)got[k][i] - v) - t;
            if (!(excess <= worst_excess)) {
                worst_excess = excess;
                worst = i;
                want = v;
                tol = t;
            }
        }
        test_close((double)got[k][worst], want, tol, __FILE__, __LINE__, result_names[k]);
    }
}

/* --- geometries ----------------------------------------------------------- */

/* Corners: B, C, H, W, O, then the layer. */
static const struct { int B, C, H, W, O; ae_conv g; } corners[] = {
    // kernel, stride, pad, dilation, output_pad (h, w), groups
    { 1, 1, 1, 1, 1, { 1, 1, 1, 1, 0, 0, 1, 1, 0, 0, 1, 0 } },          // nothing but a product
    { 3, 5, 7, 9, 6, { 1, 1, 1, 1, 0, 0, 1, 1, 0, 0, 1, 0 } },          // big is its columns
    { 2, 6, 7, 9, 4, { 1, 1, 1, 1, 0, 0, 1, 1, 0, 0, 2, 0 } },
    { 2, 3, 7, 5, 4, { 1, 1, 1, 1, 2, 1, 1, 1, 0, 0, 1, 0 } },          // 1x1 with padding
    { 2, 3, 8, 7, 4, { 1, 1, 2, 3, 0, 0, 1, 1, 1, 2, 1, 0 } },          // and with stride
    { 2, 3, 9, 7, 5, { 3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0 } },          // same size
    { 2, 3, 9, 7, 5, { 3, 3, 1, 1, 0, 1, 1, 1, 0, 0, 1, 0 } },          // same width only
    { 2, 3, 9, 7, 5, { 3, 3, 1, 1, 3, 1, 1, 1, 0, 0, 1, 0 } },          // more lines
    { 2, 3, 9, 7, 5, { 5, 5, 1, 1, 4, 4, 2, 2, 0, 0, 1, 0 } },          // same size, dilated
    { 2, 2, 3, 2, 3, { 5, 5, 1, 1, 2, 2, 1, 1, 0, 0, 1, 0 } },          // kernel beyond both edges
    { 1, 2, 1, 40, 3, { 1, 5, 1, 1, 0, 2, 1, 1, 0, 0, 1, 0 } },         // one line: conv1d
    { 2, 2, 1, 41, 3, { 1, 4, 1, 3, 0, 1, 1, 2, 0, 1, 1, 0 } },
    { 2, 2, 30, 1, 3, { 3, 1, 1, 1, 1, 0, 1, 1, 0, 0, 1, 0 } },         // one column
    { 2, 2, 30, 1, 3, { 3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0 } },
    { 2, 3, 6, 5, 7, { 6, 5, 1, 1, 0, 0, 1, 1, 0, 0, 1, 0 } },          // the kernel is the picture
    { 3, 4, 8, 10, 3, { 2, 2, 2, 2, 0, 0, 1, 1, 0, 0, 1, 0 } },         // windows side by side
    { 2, 4, 9, 11, 3, { 2, 2, 3, 3, 0, 0, 1, 1, 2, 1, 1, 0 } },         // gaps between windows
    { 2, 6, 7, 8, 6, { 3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 6, 0 } },          // depthwise
    { 2, 6, 7, 8, 12, { 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 6, 0 } },
    { 2, 5, 6, 6, 4, { 2, 3, 1, 2, 1, 1, 3, 3, 2, 2, 1, 0 } },          // output_pad >= stride
    { 1, 2, 22, 21, 3, { 20, 19, 1, 1, 3, 2, 1, 1, 0, 0, 1, 0 } },      // 380 taps: more than 256
    { 1, 1, 3, 3, 2, { 3, 3, 1, 1, 9, 9, 1, 1, 0, 0, 1, 0 } },          // mostly padding
    { 2, 40, 5, 5, 35, { 3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0 } },        // K beyond AE__GEMM_K
    { 1, 2, 23, 29, 3, { 3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0 } },        // several strips
    { 1, 2, 23, 29, 3, { 3, 3, 1, 1, 0, 0, 1, 1, 0, 0, 1, 0 } },
    { 3, 1, 9, 18, 33, { 3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0 } },        // one more than two vectors
    { 2, 17, 7, 33, 1, { 3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0 } },        // one channel, wide tiles
    { 2, 35, 6, 19, 17, { 4, 4, 1, 1, 2, 1, 1, 1, 0, 0, 1, 0 } },       // K beyond AE__CONV_K
    { 2, 3, 8, 70, 16, { 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1, 0 } },        // two apart, many vectors
    { 2, 48, 9, 66, 2, { 4, 4, 2, 2, 1, 1, 1, 1, 0, 0, 1, 0 } },        // and in several blocks
    { 3, 4, 6, 9, 6, { 2, 3, 2, 3, 0, 0, 1, 1, 0, 0, 2, 0 } },          // side by side, in groups
    { 2, 3, 9, 12, 4, { 3, 3, 3, 3, 1, 1, 1, 1, 0, 0, 1, 0 } },         // and with padding
    { 2, 3, 5, 7, 2, { 2, 2, 2, 2, 0, 0, 1, 1, 0, 0, 1, 0 } },          // the last line left over
    { 40, 2, 2, 2, 5, { 3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0 } },         // many small pictures
    { 17, 4, 3, 4, 6, { 2, 2, 1, 1, 1, 0, 1, 1, 0, 0, 2, 0 } },         // and in groups
    { 1, 3, 90, 70, 20, { 3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0 } },       // several patches
    { 1, 2, 12, 13, 3, { 3, 3, 2, 3, 4, 5, 4, 5, 0, 0, 1, 0 } }         // taps with their own lines
};
enum { CORNERS = sizeof corners / sizeof corners[0], RANDOM = 240 };

/* 0 ... n-1, from a generator of the test's own. */
static int below(uint32_t *seed, int n)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (int)((*seed >> 8) % (uint32_t)n);
}

/* Case number k of the corners, each as convolution and as transpose, and random ones; 0: none. */
static int any_case(conv_case *c, int k)
{
    if (k < 2 * CORNERS) {
        ae_conv g = corners[k / 2].g;
        if (k % 2 == 0) g.output_pad_h = g.output_pad_w = 0;
        return make_case(c, k % 2, g, corners[k / 2].B, corners[k / 2].C, corners[k / 2].H,
                         corners[k / 2].W, corners[k / 2].O);
    }
    uint32_t seed = (uint32_t)k * 2654435761u;
    ae_conv g = make_conv(1 + below(&seed, 5), 1 + below(&seed, 5), 1 + below(&seed, 3),
                          1 + below(&seed, 3), below(&seed, 4), below(&seed, 4));
    g.dilation_h = 1 + below(&seed, 3);
    g.dilation_w = 1 + below(&seed, 3);
    const int depthwise = below(&seed, 5) == 0;
    g.groups = below(&seed, 3) ? 1 : 1 + below(&seed, 4);
    const int C = depthwise ? g.groups : g.groups * (1 + below(&seed, 5));
    const int O = g.groups * (1 + below(&seed, 6));
    if (k % 2) {
        g.output_pad_h = below(&seed, g.stride_h > g.dilation_h ? g.stride_h : g.dilation_h);
        g.output_pad_w = below(&seed, g.stride_w > g.dilation_w ? g.stride_w : g.dilation_w);
    }
    const int B = 1 + below(&seed, 5), H = 1 + below(&seed, 17), W = 1 + below(&seed, 19);
    return make_case(c, k % 2, g, B, C, H, W, O);
}

/* --- tests ---------------------------------------------------------------- */

TEST(conv_size)
{
    for (int in = 1; in < 9; in++)
        for (int kernel = 1; kernel < 6; kernel++)
            for (int stride = 1; stride < 4; stride++)
                for (int pad = 0; pad < 4; pad++)
                    for (int dilation = 1; dilation < 4; dilation++) {
                        int n = 0;      // windows that fit, counted
                        while (n * stride + dilation * (kernel - 1) < in + 2 * pad) n++;
                        CHECK_INT(ae_conv_size(in, kernel, stride, pad, dilation), n);
                        if (!n) continue;
                        int back = ae_conv_transpose_size(n, kernel, stride, pad, dilation, 0);
                        CHECK(back <= in && back > in - stride);    // output_pad makes up for it
                    }
    CHECK_INT(ae_conv_size(0, 1, 1, 0, 1), 0);
    CHECK_INT(ae_conv_size(5, 0, 1, 0, 1), 0);
    CHECK_INT(ae_conv_size(5, 1, 0, 0, 1), 0);
    CHECK_INT(ae_conv_size(5, 1, 1, -1, 1), 0);
    CHECK_INT(ae_conv_size(5, 1, 1, 0, 0), 0);
    CHECK_INT(ae_conv_size(INT32_MAX, 1, 1, INT32_MAX, 1), 0);
    CHECK_INT(ae_conv_size(INT32_MAX, INT32_MAX, 1, 0, INT32_MAX), 0);
    CHECK(ae_conv_transpose_size(1, 1, 1, 3, 1, 0) < 1);
    CHECK(ae_conv_transpose_size(1, 1, 1, 0, 1, -1) < 1);
    CHECK_INT(ae_conv_transpose_size(INT32_MAX, INT32_MAX, INT32_MAX, 0, INT32_MAX, 0), 0);
    CHECK_INT(ae_conv_transpose_size(7, 3, 2, 1, 1, 1), 14);
}

TEST(conv_defaults)
{
    ae_conv g = make_conv(3, 0, 0, 0, 2, 0);
    ae_conv d = ae_conv_defaults(&g);
    CHECK(d.kernel_h == 3 && d.kernel_w == 3 && d.stride_h == 1 && d.stride_w == 1);
    CHECK(d.pad_h == 2 && d.pad_w == 0 && d.dilation_h == 1 && d.dilation_w == 1);
    CHECK(d.groups == 1 && !d.no_bias && !d.output_pad_h && !d.output_pad_w);
    g.stride_h = 2;
    g.dilation_h = 3;
    g.kernel_w = 5;
    d = ae_conv_defaults(&g);
    CHECK(d.stride_w == 2 && d.dilation_w == 3 && d.kernel_w == 5);
}

TEST(conv_definition)
{
    int done = 0;
    for (int k = 0; k < 2 * CORNERS + RANDOM + RANDOM / 2; k++) {
        conv_case c;
        if (!any_case(&c, k)) continue;
        reference r = reference_of(&c);
        float *start[RESULTS] = { NULL, NULL, DATA(c.ws, 5), DATA(c.O, 6) };
        for (int i = 0; i < 3; i++) {
            float *got[RESULTS];
            run_case(got, test_exec_at(i), &c, start);
            check_reference(got, &r, &c, start, 1);
            if (k % 7) continue;        // again: dx is written anew, dw and db grow
            test_refill(got[DX], (size_t)c.xs);
            backward(test_exec_at(i), got[DX], got[DW], got[DB], &c);
            check_reference(got, &r, &c, start, 2);
        }
        done++;
    }
    CHECK(done >= 2 * CORNERS - 8 + 200);
}

/* Columns that do not fit into any scratch: deep, wide, and a kernel with more taps than rows. */
TEST(conv_large)
{
    static const struct { int B, C, H, W, O; ae_conv g; } large[] = {
        { 1, 300, 2, 700, 2, { 3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0 } },
        { 1, 300, 3, 700, 2, { 3, 3, 2, 2, 0, 1, 1, 1, 0, 1, 1, 0 } },
        { 1, 2, 62, 84, 3, { 61, 83, 1, 1, 2, 3, 1, 1, 0, 0, 1, 0 } },
        { 1, 1, 2, 9000, 2, { 1, 7, 1, 1, 0, 0, 1, 1, 0, 0, 1, 0 } },
        { 2, 700, 4, 5, 3, { 1, 1, 1, 1, 0, 0, 1, 1, 0, 0, 1, 0 } }
    };
    for (int k = 0; k < 10; k++) {
        conv_case c;
        ae_conv g = large[k / 2].g;
        if (k % 2 == 0) g.output_pad_h = g.output_pad_w = 0;
        const int C = large[k / 2].C, O = large[k / 2].O, T = k % 2;
        // a transpose of the tall kernel: from a small picture
        const int H = T && g.kernel_h > 9 ? 7 : large[k / 2].H;
        const int W = T && g.kernel_h > 9 ? 9 : large[k / 2].W;
        REQUIRE(make_case(&c, T, g, large[k / 2].B, T ? O : C, H, W, T ? C : O));
        reference r = reference_of(&c);
        float *first[RESULTS];
        for (int i = 0; i < TEST_EXECS; i++) {
            float *got[RESULTS];
            if (i > 4 && i % 4) continue;
            run_case(got, test_exec_at(i), &c, NULL);
            check_reference(got, &r, &c, NULL, 1);
            if (i == 1) memcpy(first, got, sizeof first);
            for (int j = 0; i > 1 && j < RESULTS; j++)
                CHECK_BITS(got[j], first[j], result_size(&c, j));
        }
    }
}

static double conv_loss(void *arg)
{
    const conv_case *c = (const conv_case *)arg;
    float y[2000];
    double sum = 0;
    forward(test_exec(), y, c, c->b);
    for (int i = 0; i < c->ys; i++) sum += (double)y[i] * (double)c->dy[i];
    return sum;
}

TEST(conv_gradient)
{
    static const struct { int C, H, W, O; ae_conv g; } geometries[] = {
        { 3, 5, 4, 2, { 3, 2, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0 } },
        { 2, 5, 7, 4, { 3, 3, 2, 3, 1, 2, 1, 2, 1, 1, 2, 0 } },
        { 3, 4, 3, 2, { 3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0 } }
    };
    for (int k = 0; k < 6; k++) {
        conv_case c;
        float *got[RESULTS];
        ae_conv g = geometries[k / 2].g;
        if (k % 2 == 0) g.output_pad_h = g.output_pad_w = 0;
        REQUIRE(make_case(&c, k % 2, g, 2, geometries[k / 2].C, geometries[k / 2].H,
                          geometries[k / 2].W, geometries[k / 2].O));
        REQUIRE(c.ys <= 2000);
        run_case(got, test_exec(), &c, NULL);
        // The layer is linear, so h may be large and the difference is exact but for the rounding
        // of up to 2000 terms: far below 1e-5 of the root mean square.
        CHECK_GRADIENT(got[DX], c.x, c.xs, 1.0, 1e-5, conv_loss, &c);
        CHECK_GRADIENT(got[DW], c.w, c.ws, 1.0, 1e-5, conv_loss, &c);
        CHECK_GRADIENT(got[DB], c.b, c.O, 1.0, 1e-5, conv_loss, &c);
    }
}

static double inner(const float *a, const float *b, int n, double *size)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        sum += (double)a[i] * (double)b[i];
        *size += fabs((double)a[i] * (double)b[i]);
    }
    return sum;
}

/* <conv(x), v> = <x, transpose(v)> with the same weights, the transpose's output_pad chosen so that
   it leads back to x's size. */
TEST(conv_adjoint)
{
    for (int k = 0; k < 2 * CORNERS + RANDOM; k += 2) {
        conv_case c, t;
        if (!any_case(&c, k)) continue;
        ae_conv g = c.g;
        g.output_pad_h = c.H - ae_conv_transpose_size(c.OH, g.kernel_h, g.stride_h, g.pad_h,
                                                      g.dilation_h, 0);
        g.output_pad_w = c.W - ae_conv_transpose_size(c.OW, g.kernel_w, g.stride_w, g.pad_w,
                                                      g.dilation_w, 0);
        if (g.output_pad_h >= g.stride_h || g.output_pad_w >= g.stride_w) continue;
        if (!make_case(&t, 1, g, c.B, c.O, c.OH, c.OW, c.C)) continue;
        CHECK_INT(t.ys, c.xs);
        t.x = c.dy;
        float *y = OUT(c.ys), *back = OUT(c.xs);
        forward(test_exec(), y, &c, NULL);
        forward(test_exec(), back, &t, NULL);
        double size = 0;
        const double left = inner(y, c.dy, c.ys, &size), right = inner(c.x, back, c.xs, &size);
        CHECK_CLOSE(left, right, 1e-6 * size);      // about 30 half ulps of the terms' sum
    }
}

TEST(conv_null)
{
    for (int k = 0; k < 4; k++) {
        conv_case c;
        REQUIRE(make_case(&c, k % 2, make_conv(3, 2, k < 2 ? 1 : 2, 1, 1, 0), 3, 5, 9, 11, 7));
        for (int i = 0; i < 3; i++) {
            const ae_exec *e = test_exec_at(i);
            float *all[RESULTS], *y = OUT(c.ys), *zero = DATA_IN(c.O, 0, 0, 0);
            float *start[RESULTS] = { NULL, NULL, DATA(c.ws, 5), DATA(c.O, 6) };
            run_case(all, e, &c, start);
            for (int given = 0; given < 8; given++) {
                float *dx = OUT(c.xs), *dw = DATA(c.ws, 5), *db = DATA(c.O, 6);
                backward(e, given & 1 ? dx : NULL, given & 2 ? dw : NULL, given & 4 ? db : NULL,
                         &c);
                if (given & 1) CHECK_BITS(dx, all[DX], c.xs);
                if (given & 2) CHECK_BITS(dw, all[DW], c.ws);
                if (given & 4) CHECK_BITS(db, all[DB], c.O);
            }
            forward(e, all[Y], &c, zero);       // no bias is a bias of 0
            forward(e, y, &c, NULL);
            CHECK_ARRAY(y, all[Y], c.ys, 0, 0);
        }
    }
}

TEST(conv_same_bits_for_any_threads)
{
    static const struct { int B, C, H, W, O; ae_conv g; } split[] = {
        { 5, 3, 12, 13, 4, { 3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0 } },        // too small to split
        { 7, 16, 14, 14, 32, { 3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0 } },      // by pictures
        { 1, 16, 28, 28, 32, { 3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0 } },      // one picture
        { 2, 1, 60, 61, 40, { 3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0 } },       // few columns of dw
        { 3, 32, 20, 21, 24, { 3, 5, 2, 2, 1, 2, 1, 1, 1, 1, 4, 0 } },      // groups
        { 1, 70, 30, 41, 30, { 1, 1, 1, 1, 0, 0, 1, 1, 0, 0, 1, 0 } },      // no columns at all
        { 5, 32, 30, 31, 16, { 2, 2, 2, 2, 0, 0, 1, 1, 0, 1, 1, 0 } },
        { 19, 8, 7, 9, 12, { 3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0 } },        // four sums of dw
        { 35, 3, 8, 9, 10, { 3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0 } },        // eight
        { 33, 8, 7, 9, 12, { 3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 4, 0 } }         // and in groups
    };
    for (int k = 0; k < 20; k++) {
        conv_case c;
        float *first[RESULTS];
        ae_conv g = split[k / 2].g;
        if (k % 2 == 0) g.output_pad_h = g.output_pad_w = 0;
        REQUIRE(make_case(&c, k % 2, g, split[k / 2].B, split[k / 2].C, split[k / 2].H,
                          split[k / 2].W, split[k / 2].O));
        for (int i = 1; i < TEST_EXECS; i++) {
            float *got[RESULTS];
            run_case(got, test_exec_at(i), &c, NULL);
            if (i == 1) memcpy(first, got, sizeof first);
            for (int j = 0; j < RESULTS; j++) CHECK_BITS(got[j], first[j], result_size(&c, j));
        }
    }
}

/* A batch is its pictures, to the bit: y and dx of a picture do not depend on its neighbours. */
TEST(conv_batch)
{
    for (int k = 0; k < 2; k++) {
        conv_case c;
        float *got[RESULTS];
        REQUIRE(make_case(&c, k, make_conv(3, 3, 1, 1, 1, 1), 5, 3, 9, 10, 4));
        run_case(got, test_exec(), &c, NULL);
        const int xs = c.xs / 5, ys = c.ys / 5;
        for (int b = 0; b < 5; b++) {
            conv_case one = c;
            float *alone[RESULTS];
            one.B = 1;
            one.xs = xs;
            one.ys = ys;
            one.x = c.x + b * xs;
            one.dy = c.dy + b * ys;
            run_case(alone, test_exec(), &one, NULL);
            CHECK_BITS(alone[Y], got[Y] + b * ys, ys);
            CHECK_BITS(alone[DX], got[DX] + b * xs, xs);
        }
    }
}

/* What is not a number reaches the windows that cover it and nothing else: not across the edge of
   the picture, not the next line, channel group or picture. */
TEST(conv_nan_stays_in_its_windows)
{
    for (int k = 0; k < 2 * CORNERS + 60; k++) {
        conv_case c;
        if (!any_case(&c, k)) continue;
        for (int i = 0; i < 3; i++) {
            const int corner = k % 2 ? 0 : c.W - 1;             // right end of the first line
            float *dy0 = c.dy, *y = OUT(c.ys), *dx = OUT(c.xs);
            float kept = c.x[corner];
            c.x[corner] = test_nan();
            forward(test_exec_at(i), y, &c, c.b);
            c.x[corner] = kept;
            c.dy = COPY(dy0, c.ys);
            c.dy[c.OW - 1] = test_nan();
            backward(test_exec_at(i), dx, NULL, NULL, &c);
            c.dy = dy0;
            // the same with an infinity in double: which elements it reaches
            kept = c.x[corner];
            c.x[corner] = test_inf();
            reference r = reference_of(&c);
            int wrong = 0;
            for (int j = 0; j < c.ys; j++) wrong += test_is_nan(y[j]) != !(r.size[Y][j] < 1e30);
            c.x[corner] = kept;
            c.dy = COPY(dy0, c.ys);
            c.dy[c.OW - 1] = test_inf();
            r = reference_of(&c);
            for (int j = 0; j < c.xs; j++) wrong += test_is_nan(dx[j]) != !(r.size[DX][j] < 1e30);
            c.dy = dy0;
            CHECK_INT(wrong, 0);
        }
    }
}

TEST(conv_golden)
{
    int cases = 0;
    for (int k = 0; golden_next("conv", NULL, "0.g") && k < 64; k++) {
        static const char *const keys[] = { "y", "dx", "dw", "db" };
        char name[16];
        snprintf(name, sizeof name, "%d.g", k);
        const test_record *record = golden_next("conv", NULL, name);
        if (!record) break;
        int v[17];
        for (int i = 0; i < 17; i++) v[i] = (int)record->v[i];
        conv_case c;
        ae_conv g = make_conv(v[6], v[7], v[8], v[9], v[10], v[11]);
        g.dilation_h = v[12];
        g.dilation_w = v[13];
        g.output_pad_h = v[14];
        g.output_pad_w = v[15];
        g.groups = v[16];
        REQUIRE(make_case(&c, v[0], g, v[1], v[2], v[3], v[4], v[5]));
        memcpy(c.x, golden("conv", "%d.x", k)->v, (size_t)c.xs * sizeof *c.x);
        memcpy(c.w, golden("conv", "%d.w", k)->v, (size_t)c.ws * sizeof *c.w);
        memcpy(c.b, golden("conv", "%d.b", k)->v, (size_t)c.O * sizeof *c.b);
        REQUIRE(golden("conv", "%d.dy", k)->n == (size_t)c.ys);
        memcpy(c.dy, golden("conv", "%d.dy", k)->v, (size_t)c.ys * sizeof *c.dy);
        for (int i = 0; i < 3; i++) {
            float *got[RESULTS];
            run_case(got, test_exec_at(i), &c, NULL);
            // 1e-5 is what is promised; 2e-6 where up to 200 terms (below 1) cancel
            for (int j = 0; j < RESULTS; j++)
                CHECK_ARRAY(got[j], golden("conv", "%d.%s", k, keys[j])->v, result_size(&c, j),
                            2e-6, 1e-5);
        }
        cases++;
    }
    CHECK_INT(cases, 24);
}

TEST_LIST(conv) {
    CASE(conv_size),
    CASE(conv_defaults),
    CASE(conv_definition),
    CASE(conv_large),
    CASE(conv_gradient),
    CASE(conv_adjoint),
    CASE(conv_null),
    CASE(conv_same_bits_for_any_threads),
    CASE(conv_batch),
    CASE(conv_nan_stays_in_its_windows),
    CASE(conv_golden),
    CASE_END
};
