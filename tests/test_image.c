/* Pictures: colours, places, text, curves, and the PNG file, which is read back here with a small
   inflate of our own. */
#include "net.h"

enum { ROOM = 1 << 22 };

static uint32_t pixel(const ae_image *img, int x, int y)
{
    const uint8_t *p = img->rgb + ((size_t)y * (size_t)img->w + (size_t)x) * 3;
    return (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
}

static int count_color(const ae_image *img, uint32_t color)
{
    int count = 0;
    for (int y = 0; y < img->h; y++)
        for (int x = 0; x < img->w; x++) count += pixel(img, x, y) == color;
    return count;
}

/* A picture whose pixels end where its arena does. */
static ae_image tight_image(int w, int h, uint32_t color)
{
    ae_image img = ae_image_new(net_arena((size_t)w * (size_t)h * 3), w, h, color);
    CHECK(img.rgb != NULL);
    return img;
}

/* The colour of one value. */
static uint32_t color_of(float v, float low, float high, ae_colormap map)
{
    ae_image img = tight_image(1, 1, 0x123456);
    ae_image_draw(&img, 0, 0, &v, 1, 1, 1, 1, low, high, map);
    return pixel(&img, 0, 0);
}

/* Each channel within 1: conventions of rounding differ. */
static int near(uint32_t a, uint32_t b)
{
    for (int shift = 0; shift < 24; shift += 8) {
        int d = (int)(a >> shift & 255) - (int)(b >> shift & 255);
        if (d < -1 || d > 1) return 0;
    }
    return 1;
}

/* --- PNG, read back ------------------------------------------------------- */

typedef struct bits {
    const unsigned char *p;
    size_t n, at;               // at: in bits
    int bad;
} bits;

static unsigned take(bits *b, int count)
{
    unsigned v = 0;
    for (int i = 0; i < count; i++, b->at++) {
        if (b->at / 8 >= b->n) { b->bad = 1; return 0; }
        v |= (unsigned)(b->p[b->at / 8] >> (b->at % 8) & 1) << i;
    }
    return v;
}

/* One symbol of deflate's fixed code: RFC 1951, 3.2.6. */
static unsigned fixed_symbol(bits *b)
{
    unsigned code = 0;
    for (int length = 1; length <= 9; length++) {
        code = code << 1 | take(b, 1);
        if (length == 7 && code <= 0x17) return 256 + code;
        if (length == 8 && code >= 0x30 && code <= 0xbf) return code - 0x30;
        if (length == 8 && code >= 0xc0 && code <= 0xc7) return 280 + code - 0xc0;
        if (length == 9 && code >= 0x190) return 144 + code - 0x190;
    }
    b->bad = 1;
    return 256;
}

/* RFC 1951 without dynamic codes; returns the bytes written. */
static size_t inflate_into(unsigned char *out, size_t capacity, bits *b)
{
    static const unsigned short base[29] = { 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27,
        31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258 };
    static const unsigned char extra[29] = { 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3,
        3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0 };
    static const unsigned short far[30] = { 1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129,
        193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577 };
    size_t n = 0;
    for (unsigned last = 0; !last && !b->bad;) {
        last = take(b, 1);
        unsigned kind = take(b, 2);
        if (kind == 0) {
            b->at = (b->at + 7) / 8 * 8;
            unsigned length = take(b, 16), check = take(b, 16);
            if ((length ^ check) != 0xffff) b->bad = 1;
            for (; length > 0 && n < capacity && !b->bad; length--)
                out[n++] = (unsigned char)take(b, 8);
            if (length) b->bad = 1;
            continue;
        }
        if (kind != 1) b->bad = 1;
        while (!b->bad) {
            unsigned s = fixed_symbol(b);
            if (s == 256) break;
            if (s < 256) {
                if (n == capacity) b->bad = 1;
                else out[n++] = (unsigned char)s;
                continue;
            }
            if (s > 285) { b->bad = 1; break; }
            unsigned length = base[s - 257] + take(b, extra[s - 257]), d = 0;
            for (int i = 0; i < 5; i++) d = d << 1 | take(b, 1);
            if (d > 29) { b->bad = 1; break; }
            size_t distance = far[d] + take(b, d < 4 ? 0 : (int)(d / 2 - 1));
            if (distance > n || n + length > capacity) { b->bad = 1; break; }
            for (; length > 0; length--, n++) out[n] = out[n - distance];
        }
    }
    return n;
}

static uint32_t big(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The slow way, bit for bit from the definition. */
static uint32_t crc_of(const unsigned char *p, size_t n)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++) crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
    }
    return ~crc;
}

/* Is png (n) a correct file of exactly this picture? */
static void check_png(const unsigned char *png, size_t n, const ae_image *img)
{
    size_t row = (size_t)img->w * 3, size = (row + 1) * (size_t)img->h, at = 8, packed_n = 0;
    unsigned char *packed = BYTES(n), *raw = BYTES(size + 1);
    int seen = 0;               // 0 nothing, 1 IHDR, 2 IDAT, 3 IEND
    REQUIRE(n > 57 && !memcmp(png, "\x89PNG\r\n\x1a\n", 8));
    while (at < n) {
        REQUIRE(n - at >= 12);
        size_t length = big(png + at);
        REQUIRE(length <= n - at - 12);
        const unsigned char *type = png + at + 4, *data = png + at + 8;
        CHECK(big(data + length) == crc_of(type, length + 4));
        if (!memcmp(type, "IHDR", 4)) {
            static const unsigned char rest[5] = { 8, 2, 0, 0, 0 };
            CHECK_INT(seen, 0);
            REQUIRE(length == 13);
            CHECK_INT(big(data), img->w);
            CHECK_INT(big(data + 4), img->h);
            CHECK(!memcmp(data + 8, rest, 5));
            seen = 1;
        } else if (!memcmp(type, "IDAT", 4)) {
            CHECK(seen == 1 || seen == 2);
            memcpy(packed + packed_n, data, length);
            packed_n += length;
            seen = 2;
        } else {
            CHECK(!memcmp(type, "IEND", 4) && seen == 2 && length == 0);
            seen = 3;
        }
        at += length + 12;
    }
    CHECK_INT(seen, 3);
    REQUIRE(packed_n > 6);
    CHECK_INT(packed[0] & 15, 8);                               // deflate
    CHECK_INT((packed[0] * 256 + packed[1]) % 31, 0);
    bits b;
    memset(&b, 0, sizeof b);
    b.p = packed + 2;
    b.n = packed_n - 6;
    size_t got = inflate_into(raw, size + 1, &b);
    CHECK_INT(b.bad, 0);
    CHECK_INT(got, size);
    CHECK_INT((b.at + 7) / 8, b.n);
    uint32_t s1 = 1, s2 = 0;
    for (size_t i = 0; i < size; i++) {
        s1 = (s1 + raw[i]) % 65521;
        s2 = (s2 + s1) % 65521;
    }
    CHECK(big(packed + packed_n - 4) == (s2 << 16 | s1));
    int same = 1;
    for (int y = 0; y < img->h; y++)
        same &= raw[(size_t)y * (row + 1)] == 0
                && !memcmp(raw + (size_t)y * (row + 1) + 1, img->rgb + (size_t)y * row, row);
    CHECK(same);
}

static void check_encoding(const ae_image *img)
{
    size_t need = ae_png_encode(NULL, 0, img);
    REQUIRE(need > 0);
    unsigned char *png = BYTES(need);
    CHECK_INT(ae_png_encode(png, need, img), need);
    check_png(png, need, img);
    CHECK_INT(ae_png_encode(BYTES(need - 1), need - 1, img), 0);
    CHECK_INT(ae_png_encode(BYTES(1), 0, img), 0);
    CHECK_INT(ae_png_encode(BYTES(40), 40, img), 0);
    CHECK_GUARDS();
}

TEST(image_png)
{
    static const int sizes[][2] = { { 1, 1 }, { 3, 200 }, { 200, 3 }, { 85, 40 }, { 86, 41 },
                                    { 11000, 3 }, { 1, 3000 } };
    for (int i = 0; i < 7; i++)
        for (int content = 0; content < 4; content++) {
            int w = sizes[i][0], h = sizes[i][1];
            test_context("%d x %d, content %d", w, h, content);
            ae_image img = tight_image(w, h, 0x8090ff);
            uint32_t r = 1;
            for (size_t k = 0; k < (size_t)w * (size_t)h * 3; k++) {
                r = r * 1664525u + 1013904223u;
                if (content == 1) img.rgb[k] = (uint8_t)(r >> 24);          // noise
                if (content == 2) img.rgb[k] = (uint8_t)(k % 700 < 300 ? 7 : k / 900);
                if (content == 3 && r >> 28 == 0) img.rgb[k] = (uint8_t)(r >> 16);
            }
            check_encoding(&img);
        }
    ae_image flat = tight_image(400, 300, 0xffffff);
    CHECK(ae_png_encode(NULL, 0, &flat) < 360000 / 50);     // it does compress
    ae_image none;
    memset(&none, 0, sizeof none);
    unsigned char byte;
    CHECK_INT(ae_png_encode(NULL, 0, &none), 0);
    CHECK_INT(ae_png_encode(&byte, 1, &none), 0);
    CHECK_INT(ae_png_encode(NULL, 0, NULL), 0);
    flat.w = 0;
    CHECK_INT(ae_png_encode(NULL, 0, &flat), 0);
}

#ifndef AE_NO_STDIO
TEST(image_png_file)
{
    ae_arena *a = net_arena(ROOM);
    ae_image img = ae_image_new(a, 60, 50, 0x204060), none;
    ae_image_text(&img, 2, 2, "hello", 2, 0xffcc00);
    const char *path = test_tmp("picture.png");
    for (int times = 0; times < 2; times++) {       // over an older file, too
        CHECK_INT(ae_png_write(a, path, img), AE_SUCCESS);
        size_t n, need = ae_png_encode(NULL, 0, &img);
        unsigned char *file = test_read(path, &n), *png = BYTES(need);
        CHECK_INT(n, need);
        ae_png_encode(png, need, &img);
        if (n == need) CHECK(!memcmp(file, png, n));
        check_png(file, n, &img);
    }
    char other[400];
    snprintf(other, sizeof other, "%s.tmp", path);
    FILE *f = fopen(other, "rb");
    CHECK(f == NULL);                               // nothing is left beside it
    if (f) fclose(f);
    memset(&none, 0, sizeof none);
    a->error[0] = 0;
    CHECK_INT(ae_png_write(a, path, none), AE_E_ARG);
    CHECK_ERROR(a->error, "empty");
    size_t n;
    CHECK(test_read(path, &n) != NULL && n > 57);   // the older one stays
    a->error[0] = 0;
    CHECK_INT(ae_png_write(a, "tests/no such folder/x.png", img), AE_E_IO);
    CHECK_ERROR(a->error, "no such folder/x.png");
    CHECK_INT(ae_png_write(a, "build", img), AE_E_IO);
    char path2[3000];
    memset(path2, 'p', sizeof path2);
    path2[sizeof path2 - 1] = 0;
    CHECK_INT(ae_png_write(a, path2, img), AE_E_IO);
    CHECK_ERROR(a->error, "ppp");
    // a picture that could not be made says why in the end
    CHECK_INT(ae_png_write(a, path, ae_image_new(a, 0, 5, 0)), AE_E_ARG);
    CHECK_ERROR(a->error, "0x5");
}
#endif

/* --- colours -------------------------------------------------------------- */

TEST(image_gray)
{
    CHECK_INT(color_of(0, 0, 1, AE_GRAY), 0);
    CHECK_INT(color_of(1, 0, 1, AE_GRAY), 0xffffff);
    CHECK_INT(color_of(-5, 0, 1, AE_GRAY), 0);
    CHECK_INT(color_of(5, 0, 1, AE_GRAY), 0xffffff);
    for (int i = 0; i < 256; i++)               // bytes come back as they were
        CHECK_INT(color_of((float)i / 255.0f, 0, 1, AE_GRAY), i * 0x010101);
    CHECK(near(color_of(3, 1, 5, AE_GRAY), 0x808080));
    CHECK_INT(color_of(2, 2, 2, AE_GRAY), color_of(2, 2, 2, AE_GRAY));      // no range: some colour
    CHECK(near(color_of(0, -3e38f, 3e38f, AE_GRAY), 0x808080));             // whose width overflows
    // three channels are red, green and blue
    float rgb[3] = { 1, 0, 0.2f };
    ae_image img = tight_image(1, 1, 0);
    ae_image_draw(&img, 0, 0, rgb, 3, 1, 1, 1, 0, 1, AE_GRAY);
    CHECK_INT(pixel(&img, 0, 0), 0xff0033);
    ae_image_draw(&img, 0, 0, rgb, 2, 1, 1, 1, 0, 1, AE_GRAY);      // other counts: one gray
    uint32_t c = pixel(&img, 0, 0);
    CHECK((c >> 16) == (c & 255) && (c >> 16) == (c >> 8 & 255));
}

/* matplotlib's "hot": red from 0.0416 at 0 to 1 at 0.365079, green to 1 at 0.746032, blue at 1. */
TEST(image_hot)
{
    static const struct { float t; uint32_t color; } known[] = {
        { 0.0f, 0x0b0000 }, { 0.1f, 0x4e0000 }, { 0.2f, 0x900000 }, { 0.3f, 0xd30000 },
        { 0.365079f, 0xff0000 }, { 0.5f, 0xff5a00 }, { 0.6f, 0xff9d00 }, { 0.746032f, 0xffff00 },
        { 0.9f, 0xffff9b }, { 1.0f, 0xffffff } };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        uint32_t got = color_of(known[i].t, 0, 1, AE_HOT);
        test_context("at %g: %06lx", (double)known[i].t, (unsigned long)got);
        CHECK(near(got, known[i].color));
        CHECK_INT(color_of(known[i].t * 4 - 2, -2, 2, AE_HOT) >> 16, got >> 16);
    }
    CHECK_INT(color_of(-1, 0, 1, AE_HOT), color_of(0, 0, 1, AE_HOT));
    CHECK_INT(color_of(2, 0, 1, AE_HOT), 0xffffff);
    uint32_t before = 0;
    for (int i = 0; i <= 1000; i++) {           // brighter all the way
        uint32_t c = color_of((float)i / 1000.0f, 0, 1, AE_HOT);
        uint32_t sum = (c >> 16) + (c >> 8 & 255) + (c & 255);
        CHECK(sum >= before);
        before = sum;
    }
}

TEST(image_diverging)
{
    CHECK_INT(color_of(0, -1, 1, AE_DIVERGING), 0xffffff);
    CHECK_INT(color_of(0, -1, 3, AE_DIVERGING), 0xffffff);      // zero is white in any range
    CHECK_INT(color_of(0, 0, 0, AE_DIVERGING), 0xffffff);
    for (int i = 1; i <= 10; i++) {
        uint32_t plus = color_of((float)i * 0.1f, -1, 1, AE_DIVERGING);
        uint32_t minus = color_of((float)i * -0.1f, -1, 1, AE_DIVERGING);
        CHECK((plus >> 16) > (plus & 255));         // red
        CHECK((minus >> 16) < (minus & 255));       // blue
    }
    CHECK_INT(color_of(9, -1, 1, AE_DIVERGING), color_of(1, -1, 1, AE_DIVERGING));
}

/* What is not finite is shown in one colour that no value has. */
TEST(image_not_finite)
{
    for (int map = AE_GRAY; map <= AE_DIVERGING; map++) {
        uint32_t c = color_of(test_nan(), 0, 1, (ae_colormap)map);
        CHECK_INT(color_of(test_inf(), 0, 1, (ae_colormap)map), c);
        CHECK_INT(color_of(-test_inf(), 0, 1, (ae_colormap)map), c);
        for (int i = 0; i <= 200; i++)
            CHECK(color_of((float)i / 100.0f - 1.0f, -1, 1, (ae_colormap)map) != c);
    }
    float rgb[3] = { 1, test_nan(), 1 };
    ae_image img = tight_image(1, 1, 0);
    ae_image_draw(&img, 0, 0, rgb, 3, 1, 1, 1, 0, 1, AE_GRAY);
    CHECK_INT(pixel(&img, 0, 0), color_of(test_nan(), 0, 1, AE_GRAY));
}

/* --- places --------------------------------------------------------------- */

TEST(image_new)
{
    ae_image img = tight_image(7, 5, 0x12cdef);
    CHECK_INT(count_color(&img, 0x12cdef), 35);
    CHECK(img.w == 7 && img.h == 5);
    static const int bad[][2] = { { 0, 5 }, { 5, 0 }, { -1, 5 }, { 5, -2147483647 },
                                  { 2147483647, 2147483647 }, { 2147483647, 1 } };
    ae_arena *a = net_arena(1000);
    for (int i = 0; i < 6; i++) {
        a->error[0] = 0;
        ae_image none = ae_image_new(a, bad[i][0], bad[i][1], 0);
        CHECK(none.rgb == NULL);
        CHECK_ERROR(a->error, "picture");
        CHECK_INT(ae_arena_used(a), 0);
    }
    a = net_arena(7 * 5 * 3 - 1);
    CHECK(ae_image_new(a, 7, 5, 0).rgb == NULL);
    CHECK_ERROR(a->error, "105");
    CHECK_ERROR(a->error, "104");
    CHECK(ae_image_new(NULL, 7, 5, 0).rgb == NULL);
}

/* Every pixel of a sample drawn at any place, cut off at the edges. */
TEST(image_draw_clips)
{
    static const float sample[6] = { 0.0f, 0.2f, 0.4f, 0.6f, 0.8f, 1.0f };
    for (int zoom = 1; zoom <= 3; zoom++)
        for (int x0 = -10; x0 <= 10; x0++)
            for (int y0 = -7; y0 <= 9; y0 += 2) {
                ae_image img = tight_image(8, 6, 0x00ff00);
                int wrong = 0;
                ae_image_draw(&img, x0, y0, sample, 1, 2, 3, zoom, 0, 1, AE_GRAY);
                for (int y = 0; y < 6; y++)
                    for (int x = 0; x < 8; x++) {
                        uint32_t want = 0x00ff00;
                        if (x >= x0 && y >= y0 && x < x0 + 3 * zoom && y < y0 + 2 * zoom)
                            want = (uint32_t)((y - y0) / zoom * 3 + (x - x0) / zoom) * 0x333333;
                        wrong += pixel(&img, x, y) != want;
                    }
                CHECK_INT(wrong, 0);
            }
    ae_image img = tight_image(8, 6, 0x00ff00);
    static const int far[4] = { 2147483600, -2147483647, 2147483647, 100 };
    for (int i = 0; i < 4; i++) {
        ae_image_draw(&img, far[i], far[3 - i], sample, 1, 2, 3, 2147483647, 0, 1, AE_HOT);
        ae_image_text(&img, far[i], far[3 - i], "far", 2147483647, 0xff);
        ae_image_text(&img, far[i], 2, "far away", 1, 0xff);
    }
    CHECK_INT(count_color(&img, 0x00ff00), 48);
    ae_image_draw(&img, 0, 0, sample, 0, 2, 3, 1, 0, 1, AE_GRAY);
    ae_image_draw(&img, 0, 0, sample, 1, -2, 3, 1, 0, 1, AE_GRAY);
    CHECK_INT(count_color(&img, 0x00ff00), 48);
    ae_image_draw(&img, 0, 0, sample, 1, 2, 3, 0, 0, 1, AE_GRAY);       // zoom 0 is 1
    CHECK_INT(count_color(&img, 0x00ff00), 42);
}

/* The rectangle of exactly these pixels, or a failed check. */
static int find_tile(const ae_image *img, uint32_t color, int w, int h, int *x0, int *y0)
{
    *x0 = *y0 = -1;
    for (int y = 0; y < img->h && *y0 < 0; y++)
        for (int x = 0; x < img->w && *y0 < 0; x++)
            if (pixel(img, x, y) == color) {
                *x0 = x;
                *y0 = y;
            }
    if (!CHECK(*y0 >= 0 && *x0 + w <= img->w && *y0 + h <= img->h)) return 0;
    int inside = 0;
    for (int y = *y0; y < *y0 + h; y++)
        for (int x = *x0; x < *x0 + w; x++) inside += pixel(img, x, y) == color;
    return CHECK(inside == w * h && count_color(img, color) == inside);
}

/* n flat samples of (1,h,w), each of its own gray, the first 10/255. */
static float *flat_samples(int n, int size)
{
    float *x = OUT(n * size);
    for (int i = 0; i < n * size; i++) x[i] = (float)(10 + 20 * (i / size)) / 255.0f;
    return x;
}

TEST(image_grid)
{
    for (int n = 1; n <= 8; n++)
        for (int columns = 1; columns <= 4; columns++)
            for (int zoom = 1; zoom <= 3; zoom += 2) {
                enum { H = 4, W = 3 };
                int x[8], y[8];
                test_context("%d in %d columns, zoom %d", n, columns, zoom);
                ae_image img = ae_image_grid(net_arena(ROOM), flat_samples(n, H * W), n, columns, 1,
                                             H, W, zoom);
                REQUIRE(img.rgb != NULL);
                for (int i = 0; i < n; i++) {
                    if (!find_tile(&img, (uint32_t)(10 + 20 * i) * 0x010101, W * zoom, H * zoom,
                                   &x[i], &y[i]))
                        break;
                    if (i % columns) {      // in a row: same height, to the right, no overlap
                        CHECK_INT(y[i], y[i - 1]);
                        CHECK(x[i] > x[i - 1] + W * zoom);
                    } else if (i) {
                        CHECK_INT(x[i], x[0]);
                        CHECK(y[i] > y[i - columns] + H * zoom);
                    }
                }
                int across = columns < n ? columns : n;
                CHECK(img.w < across * (W * zoom + 4) + 4);     // nothing is left empty
                CHECK(img.h < (n + columns - 1) / columns * (H * zoom + 4) + 4);
            }
}

TEST(image_rows)
{
    enum { N = 3, H = 2, W = 5 };
    float *a = flat_samples(N, H * W), *b = OUT(N * H * W), *error = OUT(N * H * W);
    for (int i = 0; i < N * H * W; i++) b[i] = a[i] + 0.25f * (float)(i / (H * W) + 1);
    ae_abs_error(error, b, a, N * H * W);
    for (int i = 0; i < N * H * W; i++) CHECK_CLOSE(error[i], 0.25 * (i / (H * W) + 1), 1e-6);
    ae_image_row rows[3];
    memset(rows, 0, sizeof rows);
    rows[0].samples = a;
    rows[1].samples = a;
    rows[1].low = -1;
    rows[1].high = 1;
    rows[2].samples = error;
    rows[2].map = AE_HOT;
    ae_image img = ae_image_rows(net_arena(ROOM), rows, 3, N, 1, H, W, 2);
    REQUIRE(img.rgb != NULL);
    int x[3][N], y[3][N];
    for (int i = 0; i < N; i++) {
        uint32_t gray = (uint32_t)(10 + 20 * i);
        find_tile(&img, gray * 0x010101, 2 * W, 2 * H, &x[0][i], &y[0][i]);
        // -1 ... 1: the same value lies in the upper half
        find_tile(&img, color_of(a[i * H * W], -1, 1, AE_GRAY), 2 * W, 2 * H, &x[1][i], &y[1][i]);
        // from its own values: 0.25 ... 0.75
        if (i > 0 && i < N - 1)
            find_tile(&img, color_of(0.5f, 0.25f, 0.75f, AE_HOT), 2 * W, 2 * H, &x[2][i], &y[2][i]);
        CHECK_INT(x[0][i], x[1][i]);
        CHECK(y[1][i] > y[0][i]);
    }
    CHECK_INT(x[2][1], x[0][1]);
    CHECK(y[2][1] > y[1][1]);
    float nothing = -0.0f;
    ae_abs_error(&nothing, a, a, 0);
}

TEST(image_filters)
{
    // each spans its own values: 0 is white, the largest of either sign the end of the map
    float w[3 * 4] = { 0, 1, -0.5f, 0.25f, 0, 100, -50, 25, 0, 0, 0, 0 };
    ae_image img = ae_image_filters(net_arena(ROOM), w, 3, 3, 1, 2, 2, 1);
    REQUIRE(img.rgb != NULL);
    uint32_t top = color_of(1, -1, 1, AE_DIVERGING), half = color_of(-0.5f, -1, 1, AE_DIVERGING);
    CHECK_INT(count_color(&img, top), 2);
    CHECK_INT(count_color(&img, half), 2);
    CHECK_INT(count_color(&img, color_of(0.25f, -1, 1, AE_DIVERGING)), 2);
    CHECK_INT(count_color(&img, 0xffffff), 2 + 4);
    w[1] = test_nan();
    w[2] = test_inf();
    CHECK(ae_image_filters(net_arena(ROOM), w, 3, 2, 1, 2, 2, 1).rgb != NULL);
}

TEST(image_sizes_refused)
{
    static const int bad[][6] = {       // n, columns, c, h, w, zoom
        { 0, 5, 1, 4, 4, 2 }, { 12, 0, 1, 4, 4, 2 }, { -1, 5, 1, 4, 4, 2 }, { 12, -5, 1, 4, 4, 2 },
        { 12, 5, 0, 4, 4, 1 }, { 12, 5, 1, 0, 4, 1 }, { 12, 5, 1, 4, -4, 1 },
        { 12, 5, 1, 4, 4, 2147483647 }, { 12, 5, 1, 4, 4, 100000 },
        { 2147483647, 2147483647, 1, 4, 4, 1 },
        { 2147483647, 2147483647, 1, 2147483647, 2147483647, 2147483647 } };
    ae_arena *a = net_arena(100000);
    float *x = flat_samples(12, 16);
    ae_image_row row;
    memset(&row, 0, sizeof row);
    row.samples = x;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const int *k = bad[i];
        test_context("case %d", (int)i);
        a->error[0] = 0;
        CHECK(ae_image_grid(a, x, k[0], k[1], k[2], k[3], k[4], k[5]).rgb == NULL);
        CHECK_ERROR(a->error, "picture");
        a->error[0] = 0;
        CHECK(ae_image_filters(a, x, k[0], k[1], k[2], k[3], k[4], k[5]).rgb == NULL);
        CHECK_ERROR(a->error, "picture");
        a->error[0] = 0;
        if (i != 1 && i != 3) {
            CHECK(ae_image_rows(a, &row, 1, k[0], k[2], k[3], k[4], k[5]).rgb == NULL);
            CHECK_ERROR(a->error, "picture");
        }
        CHECK_INT(ae_arena_used(a), 0);
    }
    CHECK(ae_image_rows(a, &row, 0, 3, 1, 4, 4, 1).rgb == NULL);
}

/* --- text ----------------------------------------------------------------- */

TEST(image_text)
{
    CHECK_INT(ae_image_text(NULL, 0, 0, "", 1, 0), 0);
    CHECK_INT(ae_image_text(NULL, 0, 0, "abc", 1, 0), 18);
    CHECK_INT(ae_image_text(NULL, 0, 0, "abc", 4, 0), 72);
    unsigned char kept[95][8 * 12 * 3];
    char text[2] = { 0, 0 };
    for (int c = 32; c < 127; c++) {
        ae_image img = tight_image(8, 12, 0xffffff);
        text[0] = (char)c;
        CHECK_INT(ae_image_text(&img, 1, 1, text, 1, 0), 6);
        int ink = count_color(&img, 0);
        CHECK_INT(ink + count_color(&img, 0xffffff), 96);
        CHECK(c == 32 ? ink == 0 : ink >= 1 && ink <= 25);
        for (int y = 0; y < 12; y++) {          // 5 wide, at most 9 high with what hangs below
            CHECK(pixel(&img, 0, y) != 0 && pixel(&img, 6, y) != 0 && pixel(&img, 7, y) != 0);
            if (y == 0 || y > 9)
                for (int x = 0; x < 8; x++) CHECK(pixel(&img, x, y) != 0);
        }
        memcpy(kept[c - 32], img.rgb, sizeof kept[0]);
        for (int d = 32; d < c; d++)
            if (!CHECK(memcmp(kept[d - 32], kept[c - 32], sizeof kept[0]) != 0))
                printf("  %c and %c look alike\n", c, d);
        // zoom: each dot becomes a square
        ae_image large = tight_image(24, 36, 0xffffff);
        ae_image_text(&large, 3, 3, text, 3, 0);
        CHECK_INT(count_color(&large, 0), 9 * ink);
    }
    ae_image img = tight_image(20, 12, 0xffffff);
    ae_image_text(&img, 0, 0, "\x80\xff\n", 1, 0);      // others show something
    CHECK(count_color(&img, 0) > 3);
}

/* --- curves --------------------------------------------------------------- */

static ae_curve curve_of(const float *y, int n, const char *name, uint32_t color)
{
    ae_curve c;
    c.y = y;
    c.n = n;
    c.name = name;
    c.color = color;
    return c;
}

/* In an arena of just its size: everything stays inside. */
static ae_image draw_curves(const ae_curve *c, int count, const char *title, int w, int h,
                            int log_y)
{
    ae_image img = ae_image_curves(net_arena((size_t)w * (size_t)h * 3), c, count, title, w, h,
                                   log_y);
    CHECK(img.rgb != NULL && img.w == w && img.h == h);
    CHECK_GUARDS();
    return img;
}

TEST(image_curves)
{
    float falling[30], rising[30];
    for (int i = 0; i < 30; i++) {
        falling[i] = (float)exp(-i / 6.0) + 0.01f;
        rising[i] = 0.3f + 0.01f * (float)i;
    }
    for (int log_y = 0; log_y < 2; log_y++) {
        ae_curve c[2] = { curve_of(falling, 30, NULL, 0xff0000),
                          curve_of(rising, 30, NULL, 0x0000ff) };
        ae_image img = draw_curves(c, 2, "loss", 480, 320, log_y);
        int top[2] = { 9999, 9999 }, left[2] = { 0, 0 }, low[2] = { -1, -1 }, right[2] = { 0, 0 };
        for (int y = 0; y < 320; y++)
            for (int x = 0; x < 480; x++)
                for (int k = 0; k < 2; k++)
                    if (pixel(&img, x, y) == (k ? 0x0000ffu : 0xff0000u)) {
                        if (y < top[k]) { top[k] = y; left[k] = x; }
                        if (y >= low[k]) { low[k] = y; right[k] = x; }
                    }
        CHECK(low[0] - top[0] > 150 && low[1] > top[1]);        // most of the height is used
        CHECK(left[0] < right[0]);      // falls from the left
        CHECK(left[1] > right[1]);      // rises to the right
        CHECK(count_color(&img, 0xffffff) > 480 * 320 / 2);
    }
    // a legend and a title need room; names are drawn
    ae_curve named = curve_of(falling, 30, "train", 0x00aa00);
    ae_curve plain = curve_of(falling, 30, NULL, 0x00aa00);
    ae_image with = draw_curves(&named, 1, NULL, 300, 200, 0);
    ae_image without = draw_curves(&plain, 1, NULL, 300, 200, 0);
    CHECK(memcmp(with.rgb, without.rgb, 300 * 200 * 3) != 0);
}

TEST(image_curves_odd)
{
    float wide[8], flat[3] = { 2.5f, 2.5f, 2.5f }, big[3] = { -3.4e38f, 3.4e38f, 0 };
    float tiny[2] = { 1e-45f, 1e-45f }, zero[3] = { 0, 0, 0 }, steps[2] = { 1, 1.0000001f };
    wide[0] = 1e-38f;
    wide[1] = 1e-20f;
    wide[2] = 0;
    wide[3] = -1;
    wide[4] = 1e10f;
    wide[5] = 3e38f;
    wide[6] = test_nan();
    wide[7] = test_inf();
    ae_curve odd[] = {
        curve_of(wide, 8, "wide", 0xff0000), curve_of(flat, 3, "flat", 0xff0000),
        curve_of(flat, 1, "one", 0xff0000), curve_of(big, 3, "big", 0xff0000),
        curve_of(tiny, 2, "tiny", 0xff0000), curve_of(zero, 3, "zero", 0xff0000),
        curve_of(steps, 2, "steps", 0xff0000), curve_of(wide + 6, 2, "none", 0xff0000),
        curve_of(NULL, 0, "empty", 0xff0000), curve_of(wide + 2, 1, NULL, 0xff0000) };
    for (int log_y = 0; log_y < 2; log_y++) {
        for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
            test_context("curve %s, log %d", odd[i].name ? odd[i].name : "-", log_y);
            ae_image img = draw_curves(&odd[i], 1, "odd", 320, 240, log_y);
            ae_curve bare = odd[i];
            bare.name = NULL;           // so that its colour is in the curve alone
            img = draw_curves(&bare, 1, "odd", 320, 240, log_y);
            int drawable = 0;
            for (int k = 0; k < bare.n; k++)
                drawable |= test_is_finite(bare.y[k]) && (!log_y || bare.y[k] > 0);
            CHECK((count_color(&img, 0xff0000) > 0) == drawable);
        }
        draw_curves(odd, 10, "A title that is far too long for such a picture", 200, 150, log_y);
        draw_curves(NULL, 0, NULL, 200, 150, log_y);
        for (int size = 1; size < 120; size += 7) {
            draw_curves(odd, 3, "title", size, size, log_y);
            draw_curves(odd, 3, NULL, 300, size, log_y);
            draw_curves(odd, 3, "", size, 300, log_y);
        }
    }
    ae_arena *a = net_arena(1000);
    CHECK(ae_image_curves(a, odd, 1, NULL, 0, 5, 0).rgb == NULL);
    CHECK(ae_image_curves(a, odd, 1, NULL, 5, -5, 0).rgb == NULL);
    CHECK(ae_image_curves(a, odd, 1, NULL, 2147483647, 2147483647, 0).rgb == NULL);
    CHECK(ae_image_curves(a, odd, 1, NULL, 100, 100, 0).rgb == NULL);
    CHECK_ERROR(a->error, "30000");
}

TEST_LIST(image) {
    CASE(image_png),
#ifndef AE_NO_STDIO
    CASE(image_png_file),
#endif
    CASE(image_gray), CASE(image_hot), CASE(image_diverging), CASE(image_not_finite),
    CASE(image_new), CASE(image_draw_clips), CASE(image_grid), CASE(image_rows),
    CASE(image_filters), CASE(image_sizes_refused), CASE(image_text), CASE(image_curves),
    CASE(image_curves_odd), CASE_END
};
