/* The linear layer: against its definition in double, PyTorch, central differences; any threads. */
#include "test.h"

#define ULP 5.9604645e-8        /* 2^-24: half a unit in the last place of 1 */

typedef struct linear_case {    /* the arrays of one layer */
    int B, I, O;
    float *x, *w, *b, *dy;
} linear_case;

static linear_case make_case(int B, int I, int O)
{
    linear_case c;
    c.B = B;
    c.I = I;
    c.O = O;
    c.x = DATA(B * I, 1);
    c.w = DATA(O * I, 2);
    c.b = DATA(O, 3);
    c.dy = DATA(B * O, 4);
    return c;
}

/* C (m,n) = A B + start with A(i,p) = a[i*ars + p*acs], B(p,j) = b[p*brs + j*bcs] and start(i,j) =
   s[i*srs + j*scs] or 0, in double, and how far a sum in single precision may be from it: products
   and sums are each rounded once, whatever their order, so (k + 2) half ulps of the sum of |.|. */
static void product(double *c, double *tol, int m, int n, int k, const float *a, int ars, int acs,
                    const float *b, int brs, int bcs, const float *s, int srs, int scs)
{
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            double sum = s ? (double)s[i * srs + j * scs] : 0, size = fabs(sum);
            for (int p = 0; p < k; p++) {
                double term = (double)a[i * ars + p * acs] * (double)b[p * brs + j * bcs];
                sum += term;
                size += fabs(term);
            }
            c[i * n + j] = sum;
            tol[i * n + j] = (k + 2) * ULP * size;
        }
}

/* Each element within its own tolerance. */
#define CHECK_PRODUCT(got, want, tol, n) check_product(got, want, tol, (size_t)(n), #got, __LINE__)
static void check_product(const float *got, const double *want, const double *tol, size_t n,
                          const char *text, int line)
{
    size_t worst = 0;
    for (size_t i = 0; i < n; i++)
        if (!test_is_finite(got[i]) || fabs((double)got[i] - want[i]) > tol[i]) worst = i;
    test_close((double)got[worst], want[worst], tol[worst], __FILE__, line, text);
}

static const int sizes[][3] = {     // B, I, O
    { 1, 1, 1 }, { 3, 5, 7 }, { 1, 31, 33 }, { 33, 1, 31 }, { 31, 33, 1 }, { 32, 32, 32 },
    { 31, 32, 33 }, { 5, 255, 257 }, { 257, 7, 255 }, { 2, 1000, 3 }, { 3, 2, 1000 },
    { 1000, 3, 2 }, { 101, 130, 117 }, { 13, 785, 128 }, { 130, 300, 260 }
};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

TEST(linear_forward)
{
    for (int k = 0; k < SIZES; k++) {
        linear_case c = make_case(sizes[k][0], sizes[k][1], sizes[k][2]);
        int n = c.B * c.O;
        double *want = DOUBLES(n), *tol = DOUBLES(n);
        for (int bias = 0; bias < 2; bias++) {
            const float *b = bias ? c.b : NULL;
            product(want, tol, c.B, c.O, c.I, c.x, c.I, 1, c.w, 1, c.I, b, 0, 1);
            for (int i = 0; i < 3; i++) {
                float *y = OUT(n);
                test_context("%dx%dx%d%s, %s", c.B, c.I, c.O, bias ? "" : " without bias",
                             test_exec_text(i));
                ae_linear_forward(test_exec_at(i), y, c.x, c.w, b, c.B, c.I, c.O);
                CHECK_PRODUCT(y, want, tol, n);
            }
        }
    }
}

/* dx is overwritten, dw and db grow: by as much again in a second call. */
TEST(linear_backward)
{
    for (int k = 0; k < SIZES; k++) {
        linear_case c = make_case(sizes[k][0], sizes[k][1], sizes[k][2]);
        int xs = c.B * c.I, ws = c.O * c.I;
        double *dx = DOUBLES(xs), *dx_tol = DOUBLES(xs), *dw = DOUBLES(ws), *dw_tol = DOUBLES(ws);
        double *db = DOUBLES(c.O), *db_tol = DOUBLES(c.O);
        float one = 1, *dw0 = DATA(ws, 5), *db0 = DATA(c.O, 6);
        product(dx, dx_tol, c.B, c.I, c.O, c.dy, c.O, 1, c.w, c.I, 1, NULL, 0, 0);
        product(dw, dw_tol, c.O, c.I, c.B, c.dy, 1, c.O, c.x, c.I, 1, dw0, c.I, 1);
        product(db, db_tol, c.O, 1, c.B, c.dy, 1, c.O, &one, 0, 0, db0, 1, 0);
        for (int i = 0; i < 3; i++) {
            float *got_dx = OUT(xs), *got_dw = COPY(dw0, ws), *got_db = COPY(db0, c.O);
            const ae_exec *e = test_exec_at(i);
            test_context("%dx%dx%d, %s", c.B, c.I, c.O, test_exec_text(i));
            ae_linear_backward(e, got_dx, got_dw, got_db, c.dy, c.x, c.w, c.B, c.I, c.O);
            CHECK_PRODUCT(got_dx, dx, dx_tol, xs);
            CHECK_PRODUCT(got_dw, dw, dw_tol, ws);
            CHECK_PRODUCT(got_db, db, db_tol, c.O);
            if (k > 6) continue;
            // again: twice the gradient over what was there
            test_refill(got_dx, (size_t)xs);
            for (int j = 0; j < ws; j++) got_dw[j] -= dw0[j];
            for (int j = 0; j < c.O; j++) got_db[j] -= db0[j];
            float *once_dw = COPY(got_dw, ws), *once_db = COPY(got_db, c.O);
            ae_linear_backward(e, got_dx, got_dw, got_db, c.dy, c.x, c.w, c.B, c.I, c.O);
            CHECK_PRODUCT(got_dx, dx, dx_tol, xs);
            for (int j = 0; j < ws; j++) once_dw[j] *= 2;
            for (int j = 0; j < c.O; j++) once_db[j] *= 2;
            // 1e-5 of terms below 33: sums of up to 257 terms, in another order with an addend
            CHECK_ARRAY(got_dw, once_dw, ws, 3e-5, 1e-5);
            CHECK_ARRAY(got_db, once_db, c.O, 3e-5, 1e-5);
        }
    }
}

/* Each of dx, dw, db may be NULL; the others are the same to the bit. */
TEST(linear_backward_null)
{
    linear_case c = make_case(11, 35, 37);
    int xs = c.B * c.I, ws = c.O * c.I;
    for (int i = 0; i < 3; i++) {
        const ae_exec *e = test_exec_at(i);
        float *all_dx = OUT(xs), *all_dw = DATA(ws, 5), *all_db = DATA(c.O, 6);
        ae_linear_backward(e, all_dx, all_dw, all_db, c.dy, c.x, c.w, c.B, c.I, c.O);
        for (int given = 0; given < 8; given++) {
            float *dx = OUT(xs), *dw = DATA(ws, 5), *db = DATA(c.O, 6);
            test_context("combination %d, %s", given, test_exec_text(i));
            ae_linear_backward(e, given & 1 ? dx : NULL, given & 2 ? dw : NULL,
                               given & 4 ? db : NULL, c.dy, c.x, c.w, c.B, c.I, c.O);
            if (given & 1) CHECK_BITS(dx, all_dx, xs);
            if (given & 2) CHECK_BITS(dw, all_dw, ws);
            if (given & 4) CHECK_BITS(db, all_db, c.O);
        }
    }
}

static double linear_loss(void *arg)
{
    const linear_case *c = (const linear_case *)arg;
    float y[3 * 7];
    double sum = 0;
    ae_linear_forward(test_exec(), y, c->x, c->w, c->b, c->B, c->I, c->O);
    for (int i = 0; i < 3 * 7; i++) sum += (double)y[i] * (double)c->dy[i];
    return sum;
}

TEST(linear_gradient)
{
    linear_case c = make_case(3, 5, 7);
    for (int i = 0; i < 3; i++) {
        float *dx = OUT(3 * 5), *dw = DATA_IN(7 * 5, 0, 0, 0), *db = DATA_IN(7, 0, 0, 0);
        test_context("%s", test_exec_text(i));
        ae_linear_backward(test_exec_at(i), dx, dw, db, c.dy, c.x, c.w, 3, 5, 7);
        // The layer is linear, so h may be large and the difference is exact but for the rounding
        // of y: about 21 half ulps of 3, over h.
        CHECK_GRADIENT(dx, c.x, 3 * 5, 1.0, 1e-5, linear_loss, &c);
        CHECK_GRADIENT(dw, c.w, 7 * 5, 1.0, 1e-5, linear_loss, &c);
        CHECK_GRADIENT(db, c.b, 7, 1.0, 1e-5, linear_loss, &c);
    }
}

TEST(linear_golden)
{
    static const int golden_sizes[3][3] = { { 3, 5, 7 }, { 1, 1, 1 }, { 13, 33, 17 } };
    static const char *const keys[] = { "x", "w", "b", "dy", "y", "y_no_bias", "dx", "dw", "db" };
    for (int k = 0; k < 3; k++) {
        int B = golden_sizes[k][0], I = golden_sizes[k][1], O = golden_sizes[k][2];
        const float *v[9];
        for (int j = 0; j < 9; j++)
            v[j] = golden("linear", "%dx%dx%d.%s", B, I, O, keys[j])->v;
        for (int i = 0; i < 3; i++) {
            const ae_exec *e = test_exec_at(i);
            float *y = OUT(B * O), *dx = OUT(B * I);
            float *dw = DATA_IN(O * I, 0, 0, 0), *db = DATA_IN(O, 0, 0, 0);
            test_context("%dx%dx%d, %s", B, I, O, test_exec_text(i));
            // 1e-5 is what is promised; 1e-6 where the terms (below 1) cancel
            ae_linear_forward(e, y, v[0], v[1], v[2], B, I, O);
            CHECK_ARRAY(y, v[4], B * O, 1e-6, 1e-5);
            ae_linear_forward(e, y, v[0], v[1], NULL, B, I, O);
            CHECK_ARRAY(y, v[5], B * O, 1e-6, 1e-5);
            ae_linear_backward(e, dx, dw, db, v[3], v[0], v[1], B, I, O);
            CHECK_ARRAY(dx, v[6], B * I, 1e-6, 1e-5);
            CHECK_ARRAY(dw, v[7], O * I, 1e-6, 1e-5);
            CHECK_ARRAY(db, v[8], O, 1e-6, 1e-5);
        }
    }
}

#ifdef AE_USE_CBLAS     /* promises no bits: then close is enough */
#define CHECK_SAME(got, want, n) CHECK_ARRAY_L2(got, want, n, 1e-6)
#else
#define CHECK_SAME(got, want, n) CHECK_BITS(got, want, n)
#endif

TEST(linear_same_bits_for_any_threads)
{
    // the first is small, the others are split: by rows, by columns, and with unequal last pieces
    static const int split[][3] = {
        { 5, 7, 11 }, { 301, 130, 71 }, { 71, 141, 103 }, { 64, 401, 260 }, { 1, 1200, 1001 },
        { 1001, 1100, 1 }
    };
    for (int k = 0; k < 6; k++) {
        linear_case c = make_case(split[k][0], split[k][1], split[k][2]);
        int ys = c.B * c.O, xs = c.B * c.I, ws = c.O * c.I;
        float *first[4] = { NULL, NULL, NULL, NULL };
        for (int i = 1; i < TEST_EXECS; i++) {
            const ae_exec *e = test_exec_at(i);
            float *y = OUT(ys), *dx = OUT(xs), *dw = DATA(ws, 5), *db = DATA(c.O, 6);
            test_context("%dx%dx%d, %s", c.B, c.I, c.O, test_exec_text(i));
            ae_linear_forward(e, y, c.x, c.w, c.b, c.B, c.I, c.O);
            ae_linear_backward(e, dx, dw, db, c.dy, c.x, c.w, c.B, c.I, c.O);
            if (i == 1) {
                first[0] = y;
                first[1] = dx;
                first[2] = dw;
                first[3] = db;
            }
            CHECK_SAME(y, first[0], ys);
            CHECK_SAME(dx, first[1], xs);
            CHECK_SAME(dw, first[2], ws);
            CHECK_SAME(db, first[3], c.O);
        }
    }
}

/* A sample's result is the same to the bit alone, with a few others and in a larger batch, where it
   is right. Few rows are multiplied in another way. Sizes lie around those of vectors, blocks. */
TEST(linear_same_bits_for_any_batch)
{
    static const int outputs[] = { 1, 3, 8, 15, 16, 17, 31, 32, 33, 40, 63, 65 };
    static const int inputs[] = { 1, 3, 4, 5, 6, 7, 16, 33, 256, 257, 515 };
    enum { B = 24, MOST = 9 };
    for (int k = 0; k < 12 * 11; k++) {
        const int O = outputs[k / 11], I = inputs[k % 11];
        linear_case c = make_case(B, I, O);
        double *y = DOUBLES(B * O), *y_tol = DOUBLES(B * O);
        double *dx = DOUBLES(B * I), *dx_tol = DOUBLES(B * I);
        product(y, y_tol, B, O, I, c.x, I, 1, c.w, 1, I, c.b, 0, 1);
        product(dx, dx_tol, B, I, O, c.dy, O, 1, c.w, I, 1, NULL, 0, 0);
        for (int i = 0; i < 3; i++) {
            const ae_exec *e = test_exec_at(i);
            float *all_y = OUT(B * O), *all_dx = OUT(B * I);
            test_context("%d -> %d, %s", I, O, test_exec_text(i));
            ae_linear_forward(e, all_y, c.x, c.w, c.b, B, I, O);
            ae_linear_backward(e, all_dx, NULL, NULL, c.dy, c.x, c.w, B, I, O);
            CHECK_PRODUCT(all_y, y, y_tol, B * O);
            CHECK_PRODUCT(all_dx, dx, dx_tol, B * I);
            for (int few = 1; few <= MOST; few++) {
                float *few_y = OUT(few * O), *few_dx = OUT(few * I);
                test_context("%d of %d samples, %d -> %d, %s", few, B, I, O, test_exec_text(i));
                ae_linear_forward(e, few_y, c.x + few * I, c.w, c.b, few, I, O);
                ae_linear_backward(e, few_dx, NULL, NULL, c.dy + few * O, c.x, c.w, few, I, O);
                CHECK_SAME(few_y, all_y + few * O, few * O);
                CHECK_SAME(few_dx, all_dx + few * I, few * I);
            }
        }
    }
}

/* What is not a number stays one, in its own row or column only. */
TEST(linear_nan_spreads_by_rows)
{
    enum { B = 9, I = 37, O = 19 };
    linear_case c = make_case(B, I, O);
    c.x[4 * I + 36] = test_nan();
    for (int i = 0; i < 3; i++) {
        float *y = OUT(B * O);
        int wrong = 0;
        ae_linear_forward(test_exec_at(i), y, c.x, c.w, c.b, B, I, O);
        for (int j = 0; j < B * O; j++) wrong += test_is_nan(y[j]) != (j / O == 4);
        test_context("%s", test_exec_text(i));
        CHECK_INT(wrong, 0);
    }
}

/* A long sum of like terms is not swamped: summed in blocks, 20,000 terms of 0.1 are right to 5e-6
   (80 blocks of 256, each added with half an ulp of 2,000 at most); one running sum in single
   precision is off by 1e-4. */
TEST(linear_long_sums)
{
    enum { N = 20000 };
    const double sum = 0.1 * (double)N, tol = 5e-6 * sum;
    float *x = DATA_IN(N, 0.1, 0.1, 0), *one = DATA_IN(N, 1, 1, 0);
    for (int i = 0; i < 3; i++) {
        float y = 0, dw = 0, db = 0;
        test_context("%s", test_exec_text(i));
        ae_linear_forward(test_exec_at(i), &y, x, one, NULL, 1, N, 1);
        CHECK_CLOSE(y, sum, tol);
        ae_linear_backward(test_exec_at(i), NULL, &dw, &db, x, one, one, N, 1, 1);
        CHECK_CLOSE(dw, sum, tol);
        CHECK_CLOSE(db, sum, tol);
    }
}

TEST_LIST(linear) {
    CASE(linear_forward),
    CASE(linear_backward),
    CASE(linear_backward_null),
    CASE(linear_gradient),
    CASE(linear_golden),
    CASE(linear_same_bits_for_any_threads),
    CASE(linear_same_bits_for_any_batch),
    CASE(linear_nan_spreads_by_rows),
    CASE(linear_long_sums),
    CASE_END
};
