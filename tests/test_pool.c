/* Pooling, unpooling, upsampling, padding: against their definitions in double, PyTorch, central
   differences; any threads. All of them but for the choice of a maximum are linear maps of a plane,
   so one definition, a list of (output, input, weight), gives both directions. */
#include "test.h"

typedef enum layer_kind { MAX, UNPOOL, AVG, NEAREST, BILINEAR, PAD, KINDS } layer_kind;
static const char *const kind_names[KINDS] = { "max", "unpool", "avg", "nearest", "bilinear",
                                               "pad" };

typedef struct layer {
    layer_kind kind;
    int B, C, H, W, OH, OW;
    ae_pool g;                              // MAX, AVG
    int top, bottom, left, right;           // PAD
    float value;
    int32_t *index;                         // MAX: written; UNPOOL: read
    float *x, *dy;
} layer;

static size_t xs(const layer *l) { return (size_t)(l->B * l->C * l->H * l->W); }
static size_t ys(const layer *l) { return (size_t)(l->B * l->C * l->OH * l->OW); }

static void forward(const layer *l, const ae_exec *e, float *y, const float *x)
{
    int B = l->B, C = l->C, H = l->H, W = l->W;
    switch (l->kind) {
    case MAX: ae_max_pool2d_forward(e, y, l->index, x, &l->g, B, C, H, W); break;
    case UNPOOL: ae_max_unpool2d_forward(e, y, x, l->index, B, C, H, W, l->OH, l->OW); break;
    case AVG: ae_avg_pool2d_forward(e, y, x, &l->g, B, C, H, W); break;
    case NEAREST: ae_upsample2d_forward(e, y, x, AE_NEAREST, B, C, H, W, l->OH, l->OW); break;
    case BILINEAR: ae_upsample2d_forward(e, y, x, AE_BILINEAR, B, C, H, W, l->OH, l->OW); break;
    default: ae_pad2d_forward(e, y, x, l->top, l->bottom, l->left, l->right, l->value, B, C, H, W);
    }
}

static void backward(const layer *l, const ae_exec *e, float *dx, const float *dy)
{
    int B = l->B, C = l->C, H = l->H, W = l->W;
    switch (l->kind) {
    case MAX: ae_max_pool2d_backward(e, dx, dy, l->index, B, C, H, W, l->OH, l->OW); break;
    case UNPOOL: ae_max_unpool2d_backward(e, dx, dy, l->index, B, C, H, W, l->OH, l->OW); break;
    case AVG: ae_avg_pool2d_backward(e, dx, dy, &l->g, B, C, H, W); break;
    case NEAREST: ae_upsample2d_backward(e, dx, dy, AE_NEAREST, B, C, H, W, l->OH, l->OW); break;
    case BILINEAR: ae_upsample2d_backward(e, dx, dy, AE_BILINEAR, B, C, H, W, l->OH, l->OW); break;
    default: ae_pad2d_backward(e, dx, dy, l->top, l->bottom, l->left, l->right, B, C, H, W);
    }
}

/* A random number in low ... high, from a sequence of its own. */
static int pick(uint32_t *state, int low, int high)
{
    *state = *state * 1664525u + 1013904223u;
    return low + (int)((*state >> 8) % (uint32_t)(high - low + 1));
}

static void finish(layer *l, uint32_t seed)
{
    l->x = DATA(xs(l), seed);
    l->dy = DATA(ys(l), seed + 1);
    if (l->kind == MAX) l->index = INTS(ys(l));
    if (l->kind == UNPOOL) {                // distinct places: y[index] = x is then a linear map
        l->index = INTS(xs(l));
        ae_random r;
        r.seed = seed; r.step = 0; r.stream = 0;
        for (size_t i = 0; i < xs(l); i++)
            l->index[i] = (int32_t)ae_random_permute(i % (size_t)(l->H * l->W),
                                                     (uint64_t)(l->OH * l->OW), r);
    }
}

/* Layer number `seed` of a kind: any geometry. */
static layer make(layer_kind kind, uint32_t seed)
{
    layer l;
    uint32_t s = seed * 77 + 5;
    memset(&l, 0, sizeof l);
    l.kind = kind;
    l.B = pick(&s, 1, 3);
    l.C = pick(&s, 1, 4);
    l.H = pick(&s, 1, 12);
    l.W = pick(&s, 1, 20);
    if (kind == MAX || kind == AVG) {
        int usual = seed % 4 == 0;          // 2 x 2 by steps of 2, which has code of its own
        ae_pool g;
        memset(&g, 0, sizeof g);
        g.kernel_h = usual ? 2 : pick(&s, 1, 4);
        g.kernel_w = usual ? 0 : pick(&s, 1, 4);
        g = ae_pool_defaults(&g);
        if (usual) {
            l.W += pick(&s, 0, 80);         // more than two vectors
        } else {
            g.stride_h = pick(&s, 1, 3);
            g.stride_w = pick(&s, 1, 3);
            g.pad_h = pick(&s, 0, g.kernel_h / 2);
            g.pad_w = pick(&s, 0, g.kernel_w / 2);
            if (kind == MAX) g.dilation_h = pick(&s, 1, 3), g.dilation_w = pick(&s, 1, 3);
            g.exclude_pad = pick(&s, 0, 1);
        }
        l.H += g.dilation_h * (g.kernel_h - 1);
        l.W += g.dilation_w * (g.kernel_w - 1);
        l.OH = ae_conv_size(l.H, g.kernel_h, g.stride_h, g.pad_h, g.dilation_h);
        l.OW = ae_conv_size(l.W, g.kernel_w, g.stride_w, g.pad_w, g.dilation_w);
        l.g = g;
    } else if (kind == PAD) {
        l.top = pick(&s, -(l.H - 1) / 2, 3);
        l.bottom = pick(&s, -(l.H - 1) / 2, 3);
        l.left = pick(&s, -(l.W - 1) / 2, 3);
        l.right = pick(&s, -(l.W - 1) / 2, 3);
        l.OH = l.H + l.top + l.bottom;
        l.OW = l.W + l.left + l.right;
    } else {
        int twice = seed % 3 == 0;
        if (twice && kind == NEAREST) l.W += pick(&s, 0, 40);
        l.OH = twice ? 2 * l.H : pick(&s, 1, 30);
        l.OW = twice ? 2 * l.W : pick(&s, 1, 90);
        if (kind == UNPOOL) l.OH += l.H, l.OW += l.W;
    }
    finish(&l, seed);
    return l;
}

/* --- the definition ------------------------------------------------------- */

typedef struct sums {
    const layer *l;
    double *y, *dx;
    size_t plane;
    int i, j;                               // the output
} sums;

/* y[i,j] += w x[row,column], so dx[row,column] += w dy[i,j]; outside there is nothing. */
static void term(const sums *s, int row, int column, double w)
{
    const layer *l = s->l;
    if (row < 0 || row >= l->H || column < 0 || column >= l->W) return;
    size_t to = (s->plane * (size_t)l->OH + (size_t)s->i) * (size_t)l->OW + (size_t)s->j;
    size_t from = (s->plane * (size_t)l->H + (size_t)row) * (size_t)l->W + (size_t)column;
    s->y[to] += w * (double)l->x[from];
    s->dx[from] += w * (double)l->dy[to];
}

static void window(const sums *s)
{
    const layer *l = s->l;
    const ae_pool *g = &l->g;
    const float *x = l->x + s->plane * (size_t)(l->H * l->W);
    int row = s->i * g->stride_h - g->pad_h, column = s->j * g->stride_w - g->pad_w;
    int best = -1, count = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int p = 0; p < g->kernel_h; p++)
            for (int q = 0; q < g->kernel_w; q++) {
                int r = row + p * g->dilation_h, c = column + q * g->dilation_w;
                int inside = r >= 0 && r < l->H && c >= 0 && c < l->W;
                if (pass == 0) {
                    count += inside || !g->exclude_pad;
                    if (inside && (best < 0 || x[r * l->W + c] > x[best])) best = r * l->W + c;
                } else if (l->kind == AVG) {
                    term(s, r, c, 1.0 / count);
                }
            }
    if (l->kind == MAX) term(s, best / l->W, best % l->W, 1);
}

static double source(int i, int in, int out)
{
    double at = ((double)i + 0.5) * in / out - 0.5;
    return at < 0 ? 0 : at > in - 1 ? in - 1 : at;
}

static void define(const layer *l, double *y, double *dx)
{
    sums s = { l, y, dx, 0, 0, 0 };
    for (; s.plane < (size_t)(l->B * l->C); s.plane++)
        for (s.i = 0; s.i < l->OH; s.i++)
            for (s.j = 0; s.j < l->OW; s.j++) {
                if (l->kind == MAX || l->kind == AVG) {
                    window(&s);
                } else if (l->kind == PAD) {
                    term(&s, s.i - l->top, s.j - l->left, 1);
                } else if (l->kind == NEAREST) {    // no ratio here is so close to a whole number
                    term(&s, s.i * l->H / l->OH, s.j * l->W / l->OW, 1);
                } else if (l->kind == UNPOOL) {
                    const int32_t *index = l->index + s.plane * (size_t)(l->H * l->W);
                    for (int k = 0; k < l->H * l->W; k++)
                        if (index[k] == s.i * l->OW + s.j) term(&s, k / l->W, k % l->W, 1);
                } else {
                    double r = source(s.i, l->H, l->OH), c = source(s.j, l->W, l->OW);
                    for (int row = 0; row < l->H; row++)
                        for (int column = 0; column < l->W; column++)
                            if (fabs(row - r) < 1 && fabs(column - c) < 1)
                                term(&s, row, column,
                                     (1 - fabs(row - r)) * (1 - fabs(column - c)));
                }
            }
}

TEST(pool_definitions)
{
    for (int kind = 0; kind < KINDS; kind++)
        for (uint32_t seed = 1; seed <= 60; seed++) {
            layer l = make((layer_kind)kind, seed);
            double *y = DOUBLES(ys(&l)), *dx = DOUBLES(xs(&l));
            define(&l, y, dx);
            for (int i = 0; i < 2; i++) {
                float *got_y = OUT(ys(&l)), *got_dx = OUT(xs(&l));
                test_context("%s %u: %dx%dx%dx%d to %dx%d, kernel %dx%d, stride %dx%d",
                             kind_names[kind], (unsigned)seed, l.B, l.C, l.H, l.W, l.OH, l.OW,
                             l.g.kernel_h, l.g.kernel_w, l.g.stride_h, l.g.stride_w);
                forward(&l, test_exec_at(i), got_y, l.x);
                backward(&l, test_exec_at(i), got_dx, l.dy);
                // weighted means of numbers below 1; dx: at most 30 x 90 terms, by rows
                CHECK_REF(got_y, y, ys(&l), 4e-7, 0);
                CHECK_REF(got_dx, dx, xs(&l), 1e-5, 1e-6);
                backward(&l, test_exec_at(i), got_dx, l.dy);    // overwritten, not added
                CHECK_REF(got_dx, dx, xs(&l), 1e-5, 1e-6);
            }
        }
}

static double layer_loss(void *arg)
{
    const layer *l = (const layer *)arg;
    float *y = (float *)malloc(ys(l) * sizeof *y);
    double sum = 0;
    forward(l, test_exec(), y, l->x);
    for (size_t i = 0; i < ys(l); i++) sum += (double)y[i] * (double)l->dy[i];
    free(y);
    return sum;
}

TEST(pool_gradients)
{
    for (int kind = 0; kind < KINDS; kind++)
        for (uint32_t seed = 101; seed <= 106; seed++) {
            layer l = make((layer_kind)kind, seed);
            float *y = OUT(ys(&l)), *dx = OUT(xs(&l));
            ae_random r;
            r.seed = seed; r.step = 0; r.stream = 0;
            // no two elements closer than 1/4: no maximum changes within 2h
            for (size_t i = 0; kind == MAX && i < xs(&l); i++)
                l.x[i] = 0.25f * (float)ae_random_permute(i, xs(&l), r);
            forward(&l, test_exec(), y, l.x);
            backward(&l, test_exec(), dx, l.dy);
            test_context("%s %u", kind_names[kind], (unsigned)seed);
            // linear within h: only the rounding of y (below 512 for MAX, and exact there)
            CHECK_GRADIENT(dx, l.x, xs(&l), kind == MAX ? 0.0625 : 1.0, 2e-5, layer_loss, &l);
        }
}

TEST(pool_ties_and_nan)
{
    enum { W = 100 };
    ae_pool g;
    memset(&g, 0, sizeof g);
    g.kernel_h = 2;
    g = ae_pool_defaults(&g);
    CHECK_INT(g.kernel_w, 2);
    CHECK_INT(g.stride_h, 2);
    CHECK_INT(g.stride_w, 2);
    CHECK_INT(g.dilation_h, 1);
    CHECK_INT(g.dilation_w, 1);
    float *x = DATA_IN(2 * W, 1, 1, 0), *y = OUT(W / 2 + 1);
    int32_t *index = INTS(W / 2 + 1);    // one more with padding
    for (int i = 0; i < 2; i++) {           // all equal: the first in reading order
        ae_max_pool2d_forward(test_exec_at(i), y, index, x, &g, 1, 1, 2, W);
        for (int j = 0; j < W / 2; j++) CHECK_INT(index[j], 2 * j);
    }
    x[W] = 2;                               // below the first; two in the last
    x[W - 1] = x[2 * W - 2] = 3;
    ae_max_pool2d_forward(test_exec(), y, index, x, &g, 1, 1, 2, W);
    CHECK_INT(index[0], W);
    CHECK_INT(index[W / 2 - 1], W - 1);
    for (int at = 0; at < 4; at++) {        // a NaN anywhere wins, here and nowhere else
        float *v = DATA(2 * W, 3);
        int place = at % 2 + at / 2 * W;
        v[6 + place] = test_nan();
        v[8] = test_inf();
        v[9] = -test_inf();
        for (int j = 10; j < 12; j++) v[j] = v[W + j] = -test_inf();
        ae_max_pool2d_forward(test_exec(), y, index, v, &g, 1, 1, 2, W);
        test_context("NaN at %d", place);
        for (int j = 0; j < W / 2; j++) CHECK(test_is_nan(y[j]) == (j == 3));
        CHECK_INT(index[3], 6 + place);
        CHECK_INT(index[4], 8);
        CHECK_INT(index[5], 10);            // nothing but -infinity: the first
        g.pad_w = 1;                        // the general code: the columns 5 and 6, 7 and 8
        ae_max_pool2d_forward(test_exec(), y, index, v, &g, 1, 1, 2, W);
        CHECK(test_is_nan(y[at % 2 ? 4 : 3]));
        CHECK_INT(index[at % 2 ? 4 : 3], 6 + place);
        g.pad_w = 0;
    }
    float *plain = OUT(W / 2);              // without an index
    ae_max_pool2d_forward(test_exec(), plain, NULL, x, &g, 1, 1, 2, W);
    ae_max_pool2d_forward(test_exec(), y, index, x, &g, 1, 1, 2, W);
    CHECK_BITS(plain, y, W / 2);
}

/* Sums of a large window, or of a large picture that came from one pixel, do not lose anything. */
TEST(pool_long_sums)
{
    enum { N = 300 };
    float *x = DATA_IN(N * N, 0.1, 0.1, 0), y = 0, dx = 0;
    ae_pool g;
    memset(&g, 0, sizeof g);
    g.kernel_h = N;
    g = ae_pool_defaults(&g);
    ae_avg_pool2d_forward(test_exec(), &y, x, &g, 1, 1, N, N);
    CHECK_CLOSE(y, 0.1, 1e-8);
    for (int kind = 0; kind < 2; kind++) {  // 300 terms, then 300 sums
        ae_upsample2d_backward(test_exec(), &dx, x, kind ? AE_BILINEAR : AE_NEAREST, 1, 1, 1, 1,
                               N, N);
        CHECK_CLOSE(dx, 9000, 2e-5 * 9000);
    }
}

TEST(pool_same_bits_for_any_threads)
{
    for (int kind = 0; kind < KINDS; kind++)
        for (uint32_t seed = 200; seed < 204; seed++) {
            layer l = make((layer_kind)kind, seed);
            float *first_y = NULL, *first_dx = NULL;
            l.B = 13;                       // planes enough for several tasks
            l.C = 17;
            finish(&l, seed);
            for (int i = 1; i < TEST_EXECS; i++) {
                float *y = OUT(ys(&l)), *dx = OUT(xs(&l));
                test_context("%s, %s", kind_names[kind], test_exec_text(i));
                forward(&l, test_exec_at(i), y, l.x);
                backward(&l, test_exec_at(i), dx, l.dy);
                if (i == 1) first_y = y, first_dx = dx;
                CHECK_BITS(y, first_y, ys(&l));
                CHECK_BITS(dx, first_dx, xs(&l));
            }
        }
}

/* --- PyTorch: the geometries of golden_layers.py -------------------------- */

static void check_golden(layer *l, const char *key, int number)
{
    const test_record *x = golden("pool", "%s%d.x", key, number);
    const test_record *y = golden("pool", "%s%d.y", key, number);
    l->B = x->dim[0];
    l->C = x->dim[1];
    l->H = x->dim[2];
    l->W = x->dim[3];
    l->OH = y->dim[2];
    l->OW = y->dim[3];
    if (l->kind == MAX) l->index = INTS(y->n);
    for (int i = 0; i < 3; i++) {
        float *got_y = OUT(y->n), *got_dx = OUT(x->n);
        test_context("%s%d, %s", key, number, test_exec_text(i));
        forward(l, test_exec_at(i), got_y, x->v);
        CHECK_ARRAY(got_y, y->v, y->n, 3e-7, 0);
        backward(l, test_exec_at(i), got_dx, golden("pool", "%s%d.dy", key, number)->v);
        // nearest: PyTorch's single precision sums up to 41 terms
        CHECK_ARRAY(got_dx, golden("pool", "%s%d.dx", key, number)->v, x->n, 2e-6, 1e-6);
    }
}

static void check_index(const layer *l, int number)
{
    const test_record *r = golden("pool", "max%d.index", number);
    int wrong = 0;
    for (size_t i = 0; i < r->n; i++) wrong += l->index[i] != (int32_t)r->v[i];
    CHECK_INT(wrong, 0);
}

TEST(pool_golden)
{
    static const ae_pool max[6] = {
        { 2, 2, 2, 2, 0, 0, 1, 1, 0 }, { 2, 2, 2, 2, 0, 0, 1, 1, 0 }, { 3, 2, 2, 1, 1, 1, 1, 1, 0 },
        { 3, 3, 1, 2, 1, 1, 2, 3, 0 }, { 5, 4, 1, 1, 0, 0, 1, 1, 0 }, { 1, 3, 1, 2, 0, 1, 1, 2, 0 }
    };
    static const ae_pool avg[5] = {
        { 2, 2, 2, 2, 0, 0, 1, 1, 0 }, { 3, 2, 2, 1, 1, 1, 1, 1, 0 }, { 3, 2, 2, 1, 1, 1, 1, 1, 1 },
        { 6, 5, 6, 5, 0, 0, 1, 1, 0 }, { 4, 5, 3, 2, 2, 2, 1, 1, 1 }
    };
    static const int pads[3][4] = { { 1, 2, 0, 3 }, { -1, -2, -3, 0 }, { 2, -1, -2, 1 } };
    layer l;
    memset(&l, 0, sizeof l);
    for (int k = 0; k < 6; k++) {
        l.kind = MAX;
        l.g = max[k];
        check_golden(&l, "max", k);
        check_index(&l, k);
        if (k >= 2) continue;
        l.kind = UNPOOL;                    // with the index that was just found
        check_golden(&l, "unpool", k);
    }
    l.kind = AVG;
    for (int k = 0; k < 5; k++) {
        l.g = avg[k];
        check_golden(&l, "avg", k);
    }
    for (int k = 0; k < 12; k++) {
        l.kind = k % 2 ? BILINEAR : NEAREST;
        check_golden(&l, kind_names[l.kind], k / 2);
    }
    l.kind = PAD;
    l.value = 0.625f;
    for (int k = 0; k < 3; k++) {
        l.top = pads[k][0];
        l.bottom = pads[k][1];
        l.left = pads[k][2];
        l.right = pads[k][3];
        check_golden(&l, "pad", k);
    }
}

TEST_LIST(pool) {
    CASE(pool_definitions),
    CASE(pool_gradients),
    CASE(pool_ties_and_nan),
    CASE(pool_long_sums),
    CASE(pool_same_bits_for_any_threads),
    CASE(pool_golden),
    CASE_END
};
