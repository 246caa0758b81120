/* The kernels of >>conv: both layers, forward and backward, against the CPU and against their
   definition in double. */
#include "ops.h"

struct Layer {
    bool transposed;
    int B, C, H, W, O;
    ae_conv g;                  // as a user gives it
};

struct Sizes {
    ae_conv o;
    int OH, OW;
    size_t x, y, w;
};

static Sizes sizes_of(const Layer &l)
{
    Sizes s;
    s.o = ae_conv_defaults(&l.g);
    s.OH = l.transposed ? ae_conv_transpose_size(l.H, s.o.kernel_h, s.o.stride_h, s.o.pad_h,
                                                 s.o.dilation_h, s.o.output_pad_h)
                        : ae_conv_size(l.H, s.o.kernel_h, s.o.stride_h, s.o.pad_h, s.o.dilation_h);
    s.OW = l.transposed ? ae_conv_transpose_size(l.W, s.o.kernel_w, s.o.stride_w, s.o.pad_w,
                                                 s.o.dilation_w, s.o.output_pad_w)
                        : ae_conv_size(l.W, s.o.kernel_w, s.o.stride_w, s.o.pad_w, s.o.dilation_w);
    s.x = (size_t)l.B * (size_t)l.C * (size_t)l.H * (size_t)l.W;
    s.y = (size_t)l.B * (size_t)l.O * (size_t)s.OH * (size_t)s.OW;
    s.w = (size_t)l.C * (size_t)(l.O / s.o.groups * s.o.kernel_h * s.o.kernel_w);
    return s;
}

/* Calls visit(x, w, y) with the indices of every product w x that y is a sum of. Convolution:
   y[o,i,j] has w[o,c,p,q] x[c, i s - pad + p d, ...]; the adjoint: x and y change places. */
template <class Visit> static void each_product(const Layer &l, const Sizes &s, Visit visit)
{
    const ae_conv &o = s.o;
    const int big_c = l.transposed ? l.O : l.C, big_h = l.transposed ? s.OH : l.H;
    const int big_w = l.transposed ? s.OW : l.W, small_c = l.transposed ? l.C : l.O;
    const int small_h = l.transposed ? l.H : s.OH, small_w = l.transposed ? l.W : s.OW;
    const int per = big_c / o.groups, small_per = small_c / o.groups;
    for (int n = 0; n < l.B; n++)
        for (int k = 0; k < small_c; k++)
            for (int c = 0; c < per; c++)
                for (int p = 0; p < o.kernel_h; p++)
                    for (int q = 0; q < o.kernel_w; q++)
                        for (int i = 0; i < small_h; i++)
                            for (int j = 0; j < small_w; j++) {
                                const int y = i * o.stride_h - o.pad_h + p * o.dilation_h;
                                const int x = j * o.stride_w - o.pad_w + q * o.dilation_w;
                                if (y < 0 || y >= big_h || x < 0 || x >= big_w) continue;
                                const int channel = k / small_per * per + c;
                                const int big = ((n * big_c + channel) * big_h + y) * big_w + x;
                                const int small = ((n * small_c + k) * small_h + i) * small_w + j;
                                const int w = ((k * per + c) * o.kernel_h + p) * o.kernel_w + q;
                                visit((size_t)(l.transposed ? small : big), (size_t)w,
                                      (size_t)(l.transposed ? big : small));
                            }
}

// y = b + sum of w x, in double.
static Doubles forward_of(const Layer &l, const Sizes &s, const Doubles &x, const Doubles &w,
                          const Doubles &b)
{
    Doubles y(s.y);
    const size_t plane = (size_t)s.OH * (size_t)s.OW;
    for (size_t i = 0; i < s.y; i++) y[i] = b.empty() ? 0 : b[i / plane % (size_t)l.O];
    each_product(l, s, [&](size_t i, size_t k, size_t to) { y[to] += w[k] * x[i]; });
    return y;
}

static Doubles doubles(const Floats &v) { return Doubles(v.begin(), v.end()); }

static void forward(Trial &t, const Layer &l, float *y, const float *x, const float *w,
                    const float *b)
{
    if (l.transposed)
        OP(t, conv_transpose2d_forward, (t.exec(), y, x, w, b, &l.g, l.B, l.C, l.H, l.W, l.O));
    else OP(t, conv2d_forward, (t.exec(), y, x, w, b, &l.g, l.B, l.C, l.H, l.W, l.O));
}

static void backward(Trial &t, const Layer &l, float *dx, float *dw, float *db, const float *dy,
                     const float *x, const float *w)
{
    if (l.transposed)
        OP(t, conv_transpose2d_backward,
           (t.exec(), dx, dw, db, dy, x, w, &l.g, l.B, l.C, l.H, l.W, l.O));
    else OP(t, conv2d_backward, (t.exec(), dx, dw, db, dy, x, w, &l.g, l.B, l.C, l.H, l.W, l.O));
}

static std::string text(const Layer &l)
{
    char s[200];
    const ae_conv o = ae_conv_defaults(&l.g);
    snprintf(s, sizeof s, "conv%s %dx%dx%dx%d to %d, kernel %dx%d stride %d,%d pad %d,%d dil %d,%d "
             "out %d,%d groups %d", l.transposed ? "T" : "", l.B, l.C, l.H, l.W, l.O, o.kernel_h,
             o.kernel_w, o.stride_h, o.stride_w, o.pad_h, o.pad_w, o.dilation_h, o.dilation_w,
             o.output_pad_h, o.output_pad_w, o.groups);
    return s;
}

/* One layer: forward, and backward with the gradients of `ask` (1 dx, 2 dw, 4 db), in one launch
   each. dw and db are added to what was there. */
static void test_layer(const Layer &l, int ask = 7)
{
    const Sizes s = sizes_of(l);
    const size_t O = (size_t)l.O;
    const Floats x = uniform(s.x, -1, 1, 1), w = uniform(s.w, -1, 1, 2);
    const Floats dy = uniform(s.y, -0.5f, 1, 3);
    const Floats b = uniform(O, -1, 1, 4), dw = uniform(s.w, -1, 1, 5), db = uniform(O, 0, 1, 6);
    CHECK(s.OH > 0 && s.OW > 0);
    const Doubles none;
    const Doubles y = forward_of(l, s, doubles(x), doubles(w), l.g.no_bias ? none : doubles(b));
    sim::reset_counters();
    compare(text(l), 1e-5, [&](Trial &t) {
        forward(t, l, t.out(s.y), t.in(x), t.in(w), l.g.no_bias ? nullptr : t.in(b));
    }, {y});
    CHECK(sim::counters().launches == settings);
    if (!ask) return;

    Doubles dx_of(s.x), dw_of = doubles(dw), db_of = doubles(db);
    each_product(l, s, [&](size_t i, size_t k, size_t to) {
        dx_of[i] += (double)w[k] * (double)dy[to];
        dw_of[k] += (double)x[i] * (double)dy[to];
    });
    const size_t plane = (size_t)s.OH * (size_t)s.OW;
    for (size_t i = 0; i < s.y; i++) db_of[i / plane % O] += (double)dy[i];
    std::vector<Doubles> reference;
    if (ask & 1) reference.push_back(dx_of);
    if (ask & 2) reference.push_back(dw_of);
    if (ask & 4) reference.push_back(db_of);
    sim::reset_counters();
    compare(text(l) + ", backward", 1e-5, [&](Trial &t) {
        float *to_dx = ask & 1 ? t.out(s.x) : nullptr, *to_dw = ask & 2 ? t.inout(dw) : nullptr;
        float *to_db = ask & 4 ? t.inout(db) : nullptr;
        backward(t, l, to_dx, to_dw, to_db, t.in(dy), t.in(x), t.in(w));
    }, reference);
    CHECK(sim::counters().launches == settings);
}

/* The definition's gradients again, by central differences of <dy, y>: exact up to rounding,
   because y is linear in each of x, w and b. */
static void test_definition(const Layer &l)
{
    const Sizes s = sizes_of(l);
    const Doubles dy = doubles(uniform(s.y, -1, 1, 3));
    Doubles x = doubles(uniform(s.x, -1, 1, 1)), w = doubles(uniform(s.w, -1, 1, 2));
    Doubles dx(s.x), dw(s.w);
    each_product(l, s, [&](size_t i, size_t k, size_t to) {
        dx[i] += w[k] * dy[to];
        dw[k] += x[i] * dy[to];
    });
    const auto value = [&] {
        const Doubles y = forward_of(l, s, x, w, {});
        double sum = 0;
        for (size_t i = 0; i < s.y; i++) sum += y[i] * dy[i];
        return sum;
    };
    const auto check = [&](Doubles &v, const Doubles &dv) {
        for (size_t i = 0; i < v.size(); i++) {
            const double was = v[i];
            v[i] = was + 0.5;
            const double more = value();
            v[i] = was - 0.5;
            CHECK(fabs(more - value() - dv[i]) < 1e-12);
            v[i] = was;
        }
    };
    check(x, dx);
    check(w, dw);
}

// What no pixel of a gradient and no part of a sum may miss: kernels, strides, pads and dilations.
static void test_geometries()
{
    int n = 0;
    for (int kernel = 1; kernel <= 5; kernel++)
        for (int stride = 1; stride <= 3; stride++)
            for (int pad = 0; pad <= 2; pad++) {
                const int transposed = n % 2, dilation = 1 + n / 2 % 2, other = 1 + n / 3 % 3;
                n++;
                Layer l = {};
                l.transposed = transposed;
                l.B = 1 + n % 3;
                l.C = 1 + n % 4;
                l.O = 1 + n % 5;
                l.H = 6 + n % 4;
                l.W = 9 + n % 3;
                l.g.kernel_h = kernel;
                l.g.kernel_w = 1 + n % 4;
                l.g.stride_h = stride;
                l.g.stride_w = other;
                l.g.pad_h = pad;
                l.g.pad_w = (n + 1) % 3;
                l.g.dilation_h = dilation;
                l.g.dilation_w = 1 + n / 2 % 2;
                l.g.no_bias = n % 4 == 0;
                if (transposed) {
                    l.g.output_pad_h = stride > 1 ? n % stride : 0;
                    l.g.output_pad_w = other > 1 ? n % other : 0;
                }
                const Sizes s = sizes_of(l);
                if (s.OH > 0 && s.OW > 0) test_layer(l, n % 5 ? 7 : 1 + n / 5 % 6);
            }
}

// Tiles and parts: channels on both sides of each tile's edge, pixels enough for parts of sums.
static void test_sizes()
{
    const int channels[] = {4, 5, 16, 17, 32, 33, 64, 65};
    for (int c : channels) {
        test_layer({false, 2, c, 5, 4, 3, {3, 2, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0}});
        test_layer({false, 2, 3, 4, 5, c, {3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0}});
        test_layer({true, 2, 3, 3, 2, c, {2, 2, 2, 2, 0, 0, 1, 1, 0, 0, 1, 0}});
    }
    for (int w : {1, 31, 32, 33, 255, 257, 1000})
        test_layer({w % 2 == 0, 1, 2, 1, w, 2, {1, 3, 1, 2, 0, 1, 1, 1, 0, 0, 1, 0}});
    // the layers of a typical system, smaller: parts of both sums
    test_layer({false, 3, 1, 28, 28, 16, {3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0}});
    test_layer({false, 4, 16, 14, 14, 32, {3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0}});
    test_layer({true, 2, 32, 7, 7, 16, {2, 2, 2, 2, 0, 0, 1, 1, 0, 0, 1, 0}});
    test_layer({true, 3, 16, 14, 14, 1, {2, 2, 2, 2, 0, 0, 1, 1, 0, 0, 1, 0}});
    test_layer({false, 40, 3, 13, 11, 2, {3, 3, 2, 2, 1, 1, 1, 1, 0, 0, 1, 0}});
    // more weights than parts have room: none are made
    test_layer({false, 2, 68, 10, 10, 130, {3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0}}, 2);
}

static void test_groups()
{
    test_layer({false, 2, 4, 5, 6, 6, {3, 2, 2, 1, 1, 0, 1, 2, 0, 0, 2, 0}});
    test_layer({false, 3, 5, 6, 5, 5, {3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 5, 0}});   // depthwise
    test_layer({false, 2, 3, 20, 20, 6, {3, 3, 2, 2, 1, 1, 1, 1, 0, 0, 3, 1}});
    test_layer({true, 2, 4, 5, 4, 6, {3, 2, 2, 3, 1, 0, 1, 1, 1, 2, 2, 0}});
    test_layer({true, 2, 6, 12, 15, 6, {4, 4, 2, 2, 1, 1, 1, 1, 0, 0, 6, 0}});
    test_layer({true, 1, 9, 4, 4, 3, {2, 2, 2, 2, 0, 0, 2, 2, 1, 1, 3, 0}});
}

// Each gradient alone, each left out, and none.
static void test_left_out()
{
    const ae_conv g = {3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1, 0};
    const ae_conv h = {3, 3, 2, 2, 1, 1, 1, 1, 0, 0, 1, 0};
    for (int ask = 1; ask < 8; ask++) {
        test_layer({true, 2, 3, 9, 12, 5, g}, ask);
        test_layer({false, 3, 3, 23, 22, 5, h}, ask);
    }
    const Layer l = {false, 1, 1, 4, 4, 1, h};
    Trial t(true);
    sim::reset_counters();
    backward(t, l, nullptr, nullptr, nullptr, t.out(4), t.out(16), t.out(9));
    t.outputs();
    CHECK(t.cuda.error == cudaSuccess && sim::counters().launches == 0);
}

// Strides past the kernel leave pixels that no tap meets, and a stride past the picture.
static void test_gaps()
{
    test_layer({false, 2, 2, 9, 8, 3, {1, 2, 3, 3, 0, 0, 1, 1, 0, 0, 1, 0}});
    test_layer({true, 2, 2, 3, 2, 3, {1, 2, 3, 4, 0, 0, 1, 1, 2, 3, 1, 0}});
    test_layer({false, 1, 2, 2, 3, 3, {2, 1, 5, 4, 1, 0, 1, 1, 0, 0, 1, 0}});
    test_layer({true, 1, 2, 3, 2, 2, {2, 3, 2, 2, 0, 1, 2, 2, 1, 1, 1, 0}});   // even taps only
    test_layer({false, 1, 2, 9, 11, 2, {3, 2, 4, 6, 2, 2, 2, 4, 0, 0, 1, 0}});
}

static void activation(Trial &t, bool join, float *to, const float *dy, const float *x,
                       const float *y, size_t n, int act)
{
    ae__cu_ending e = {};
    e.kind = dy ? AE__CU_SLOPE : AE__CU_ACT;
    e.act = act;
    e.a = 0.1f;
    e.out = to;
    e.x = x;
    e.y = y;
    const float *v = dy ? dy : x;
    if (t.gpu && join) CHECK(ae__cu_join(&t.cuda, v, n, e));
    else if (!t.gpu && dy) ae_activation_backward(t.exec(), to, dy, x, y, (ae_act)act, 0.1f, n);
    else if (!t.gpu) ae_activation_forward(t.exec(), to, x, (ae_act)act, 0.1f, n);
}

// An activation that joins: y = act(conv(x)), in place or not, and dx act' of the layer before.
static void test_joined(const Layer &l)
{
    const Sizes s = sizes_of(l);
    const Floats x = uniform(s.x, -1, 1, 1), w = uniform(s.w, -1, 1, 2);
    const Floats dy = uniform(s.y, -1, 1, 3);
    const Floats b = uniform((size_t)l.O, -1, 1, 4), dw = uniform(s.w, -1, 1, 5);
    const Floats before = uniform(s.x, -1, 1, 7), after = uniform(s.x, 0, 1, 8);
    for (int act : {AE_ACT_RELU, AE_ACT_SIGMOID})
        for (int in_place = 0; in_place < 2; in_place++) {
            sim::reset_counters();
            compare(text(l) + ", joined", 1e-5, [&](Trial &t) {
                float *y = t.out(s.y), *z = in_place ? y : t.out(s.y);
                forward(t, l, y, t.in(x), t.in(w), t.in(b));
                activation(t, true, z, nullptr, y, nullptr, s.y, act);
            });
            compare(text(l) + ", slope joined", 1e-5, [&](Trial &t) {
                float *dx = t.out(s.x), *dz = in_place ? dx : t.out(s.x), *to_dw = t.inout(dw);
                backward(t, l, dx, to_dw, nullptr, t.in(dy), t.in(x), t.in(w));
                activation(t, true, dz, dx, t.in(before), t.in(after), s.x, act);
            });
            CHECK(sim::counters().launches == 2 * settings);
        }
}

// Only the result, whole, is joined; nothing is where dx is not asked for.
static void test_not_joined()
{
    const Layer l = {false, 2, 2, 5, 5, 3, {3, 3, 2, 2, 1, 1, 1, 1, 0, 0, 1, 0}};
    const Sizes s = sizes_of(l);
    Trial t(true);
    float *x = t.out(s.x), *y = t.out(s.y), *w = t.out(s.w);
    const ae__cu_ending e = {};
    forward(t, l, y, x, w, nullptr);
    CHECK(!ae__cu_join(&t.cuda, y, s.y - 1, e) && !ae__cu_join(&t.cuda, x, s.y, e));
    CHECK(ae__cu_join(&t.cuda, y, s.y, e));
    backward(t, l, nullptr, w, nullptr, y, x, w);
    CHECK(!ae__cu_join(&t.cuda, x, s.x, e));
    backward(t, l, x, nullptr, nullptr, y, x, w);
    CHECK(ae__cu_join(&t.cuda, x, s.x, e));
}

int main()
{
    const ae_conv g = {3, 2, 2, 1, 1, 0, 1, 2, 1, 0, 1, 0};
    const ae_conv h = {3, 2, 2, 1, 1, 0, 1, 2, 0, 0, 1, 0};
    test_definition({false, 2, 2, 5, 4, 3, h});
    test_definition({true, 2, 2, 3, 3, 3, g});
    test_geometries();
    test_sizes();
    test_groups();
    test_left_out();
    test_gaps();
    test_joined({false, 2, 3, 7, 6, 5, h});
    test_joined({true, 2, 3, 4, 5, 18, g});
    test_not_joined();
    CHECK(sim::runs_of("ae__k_conv") > 0);
    return summary("conv");
}
