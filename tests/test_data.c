/* Datasets: IDX and CSV from memory and files, whole, cut and spoiled; values, moments, views. */
#include <locale.h>
#include "net.h"

enum { ROOM = 1 << 18 };

/* The same value, but for -Ofast, which divides by multiplying. */
#ifdef __FAST_MATH__
#define TINY 1.2e-38            // and which flushes subnormal numbers to 0
#define CHECK_VALUE(got, want) CHECK_CLOSE(got, want, 1e-6 * fabs((double)(want)) + 1e-9)
#else
#define TINY 1.5e-45            // the smallest float
#define CHECK_VALUE(got, want) CHECK_CLOSE(got, want, 0)
#endif

/* --- parsing under watch -------------------------------------------------- */

/* What a parser did; on an error it must have said why, and left the arena and *d as they were. */
typedef struct outcome {
    ae_status status;
    ae_dataset d;
    const char *error;
} outcome;

static outcome begin_outcome(ae_arena *a, size_t *mark)
{
    outcome r;
    memset(&r, 0, sizeof r);
    memset(&r.d, 0x5a, sizeof r.d);
    *mark = ae_arena_used(a);
    a->error[0] = 0;
    return r;
}

static outcome end_outcome(outcome r, ae_arena *a, size_t mark)
{
    r.error = a->error;
    if (r.status == AE_SUCCESS) return r;
    const unsigned char *p = (const unsigned char *)&r.d;
    CHECK_INT(ae_arena_used(a), mark);
    for (size_t i = 0; i < sizeof r.d; i++)
        if (p[i] != 0x5a) { CHECK_STR("*d was touched", ""); break; }
    CHECK_ERROR(a->error, "");
    CHECK(strlen(a->error) > 10);
    return r;
}

/* Each parse runs on an exact copy, so that a sanitizer sees one byte too far. */
static outcome idx(ae_arena *a, const void *images, size_t n, const void *labels, size_t k)
{
    size_t mark;
    outcome r = begin_outcome(a, &mark);
    char *x = (char *)malloc(n ? n : 1), *y = (char *)malloc(k ? k : 1);
    if (!x || !y) exit(2);
    if (n) memcpy(x, images, n);
    if (k) memcpy(y, labels, k);
    r.status = ae_idx_parse(&r.d, a, x, n, labels ? y : NULL, k, "digits");
    free(x);
    free(y);
    return end_outcome(r, a, mark);
}

static outcome csv_n(ae_arena *a, const char *text, size_t n, int labels)
{
    size_t mark;
    outcome r = begin_outcome(a, &mark);
    char *x = (char *)malloc(n ? n : 1);
    if (!x) exit(2);
    if (n) memcpy(x, text, n);
    r.status = ae_csv_parse(&r.d, a, x, n, labels, "table");
    free(x);
    return end_outcome(r, a, mark);
}

static outcome csv(ae_arena *a, const char *text, int labels)
{
    return csv_n(a, text, strlen(text), labels);
}

/* An IDX file of `rank` dimensions with a pattern for content; returns its size. */
static size_t make_idx(unsigned char *b, int type, int rank, const uint32_t *dims, size_t size)
{
    size_t count = size, head = 4 + 4 * (size_t)rank;
    b[0] = b[1] = 0;
    b[2] = (unsigned char)type;
    b[3] = (unsigned char)rank;
    for (int i = 0; i < rank; i++) {
        count *= dims[i];
        for (int k = 0; k < 4; k++) b[4 + 4 * i + k] = (unsigned char)(dims[i] >> (24 - 8 * k));
    }
    for (size_t i = 0; i < count; i++) b[head + i] = (unsigned char)(i * 37 + 11);
    return head + count;
}

/* --- IDX ------------------------------------------------------------------ */

TEST(data_idx)
{
    static const uint32_t dims[4] = { 5, 3, 2, 2 };
    static const int shapes[5][3] = { { 0, 0, 0 }, { 1, 1, 1 }, { 3, 1, 1 }, { 1, 3, 2 },
                                      { 3, 2, 2 } };
    ae_arena *a = net_arena(ROOM);
    unsigned char images[200], labels[20];
    size_t k = make_idx(labels, 8, 1, dims, 1);
    for (int rank = 1; rank <= 4; rank++) {
        size_t n = make_idx(images, 8, rank, dims, 1), head = 4 + 4 * (size_t)rank;
        outcome r = idx(a, images, n, labels, k);
        REQUIRE(r.status == AE_SUCCESS);
        CHECK_INT(r.d.n, 5);
        CHECK(r.d.c == shapes[rank][0] && r.d.h == shapes[rank][1] && r.d.w == shapes[rank][2]);
        CHECK(r.d.floats == NULL && r.d.index == NULL && r.d.keep_order == 0);
        REQUIRE(r.d.bytes != NULL && r.d.labels != NULL);
        CHECK(!memcmp(r.d.bytes, images + head, n - head));
        for (int i = 0; i < 5; i++) CHECK_INT(r.d.labels[i], labels[8 + i]);
        float x[60];
        int32_t l[5];
        CHECK_INT(ae_dataset_get(&r.d, x, l, 0, 5), AE_SUCCESS);
        for (size_t i = 0; i < n - head; i++) {
            float want = (float)images[head + i] / 255.0f;  // rounded, whatever the processor
            CHECK_VALUE(x[i], want);
        }
        CHECK(!memcmp(l, r.d.labels, sizeof l));
        CHECK_INT(idx(a, images, n, NULL, 0).status, AE_SUCCESS);
        CHECK(idx(a, images, n, NULL, 0).d.labels == NULL);
    }
}

TEST(data_idx_types)
{
    static const uint32_t three[1] = { 3 };
    static const struct { int type; size_t size; unsigned char raw[24]; float want[3]; } t[] = {
        { 9, 1, { 1, 0xfe, 0x80 }, { 1, -2, -128 } },
        { 11, 2, { 0, 1, 0xff, 0xfe, 0x80, 0 }, { 1, -2, -32768 } },
        { 12, 4, { 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xfe, 0x80, 0, 0, 0 }, { 1, -2, -2147483648.0f } },
        { 13, 4, { 0x3f, 0x80, 0, 0, 0xc0, 0, 0, 0, 0x3f, 0, 0, 0 }, { 1, -2, 0.5f } },
        { 14, 8, { 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0x3f, 0xe0, 0, 0, 0, 0,
                   0, 0 }, { 1, -2, 0.5f } } };
    ae_arena *a = net_arena(ROOM);
    unsigned char b[64];
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        test_context("type %d", t[i].type);
        size_t n = make_idx(b, t[i].type, 1, three, t[i].size);
        memcpy(b + 8, t[i].raw, 3 * t[i].size);
        outcome r = idx(a, b, n, NULL, 0);
        REQUIRE(r.status == AE_SUCCESS);
        CHECK(r.d.floats != NULL && r.d.bytes == NULL && r.d.n == 3 && r.d.c == 1);
        CHECK_BITS(r.d.floats, t[i].want, 3);
        float x[3];
        CHECK_INT(ae_dataset_get(&r.d, x, NULL, 0, 3), AE_SUCCESS);
        CHECK_BITS(x, t[i].want, 3);
        for (size_t k = 0; k < n; k++) CHECK_INT(idx(a, b, k, NULL, 0).status, AE_E_FORMAT);
    }
    for (int type = 0; type < 256; type++) {    // the others do not exist
        size_t n = make_idx(b, type, 1, three, 1);
        if (type < 8 || type == 10 || type > 14)
            CHECK_INT(idx(a, b, n, NULL, 0).status, AE_E_FORMAT);
    }
    // numbers that are none
    size_t n = make_idx(b, 13, 1, three, 4);
    memset(b + 8, 0, 12);
    b[16] = 0x7f;
    b[17] = 0xc0;
    outcome r = idx(a, b, n, NULL, 0);
    CHECK_INT(r.status, AE_E_FORMAT);
    CHECK_ERROR(r.error, "sample 3");
    b[17] = 0x80;
    CHECK_INT(idx(a, b, n, NULL, 0).status, AE_E_FORMAT);
    n = make_idx(b, 14, 1, three, 8);
    memset(b + 8, 0, 24);
    b[8] = 0x47;
    b[9] = 0xf0;                                // 2^128
    CHECK_INT(idx(a, b, n, NULL, 0).status, AE_E_FORMAT);
    b[9] = 0xef;
    memset(b + 10, 255, 6);                     // rounds to it
    CHECK_INT(idx(a, b, n, NULL, 0).status, AE_E_FORMAT);
    b[8] = 0x7f;
    b[9] = 0xf8;
    CHECK_INT(idx(a, b, n, NULL, 0).status, AE_E_FORMAT);
}

/* Cut anywhere, or longer than it says. */
TEST(data_idx_cut)
{
    static const uint32_t dims[4] = { 5, 3, 2, 2 };
    ae_arena *a = net_arena(ROOM);
    unsigned char images[200], labels[20];
    size_t k = make_idx(labels, 8, 1, dims, 1);
    for (int rank = 1; rank <= 4; rank++) {
        size_t n = make_idx(images, 8, rank, dims, 1);
        for (size_t cut = 0; cut < n; cut++)
            CHECK_INT(idx(a, images, cut, labels, k).status, AE_E_FORMAT);
        images[n] = 0;
        outcome r = idx(a, images, n + 1, NULL, 0);
        CHECK_INT(r.status, AE_E_FORMAT);
        CHECK_ERROR(r.error, "goes on");
        for (size_t cut = 0; cut < k; cut++) {
            r = idx(a, images, n, labels, cut);
            CHECK_INT(r.status, AE_E_FORMAT);
            CHECK_ERROR(r.error, "labels");
        }
        labels[k] = 0;
        CHECK_INT(idx(a, images, n, labels, k + 1).status, AE_E_FORMAT);
    }
    CHECK_ERROR(idx(a, images, 0, NULL, 0).error, "digits is empty");
    size_t n = make_idx(images, 8, 3, dims, 1);
    CHECK_ERROR(idx(a, images, 40, NULL, 0).error, "cut: it holds 24 of the 30 bytes that 5x3x2");
    static const uint32_t six[1] = { 6 };
    k = make_idx(labels, 8, 1, six, 1);
    CHECK_ERROR(idx(a, images, n, labels, k).error, "holds 6 labels, digits holds 5 images");
    CHECK_INT(idx(a, images, n, images, n).status, AE_E_FORMAT);
    k = make_idx(labels, 9, 1, dims, 1);
    CHECK_INT(idx(a, images, n, labels, k).status, AE_E_FORMAT);
    CHECK_ERROR(idx(a, "\x1f\x8b\x08", 3, NULL, 0).error, "gzip");
    CHECK_ERROR(idx(a, "PK\3\4....", 8, NULL, 0).error, "not IDX");
    a->error[0] = 0;
    ae_dataset d;
    CHECK(ae_idx_parse(&d, a, NULL, 0, NULL, 0, NULL) != AE_SUCCESS);
    CHECK(a->error[0] != 0);
}

/* Every byte of the header with every value. */
TEST(data_idx_spoiled)
{
    static const uint32_t dims[4] = { 5, 3, 2, 2 };
    ae_arena *a = net_arena(ROOM);
    unsigned char images[200], spoiled[200];
    for (int rank = 1; rank <= 4; rank++) {
        size_t n = make_idx(images, 8, rank, dims, 1);
        for (int i = 0; i < 4 + 4 * rank; i++)
            for (int v = 0; v < 256; v++) {
                memcpy(spoiled, images, n);
                spoiled[i] = (unsigned char)v;
                int right = v == images[i] || (i == 2 && v == 9);   // signed bytes are as large
                CHECK_INT(idx(a, spoiled, n, NULL, 0).status, right ? AE_SUCCESS : AE_E_FORMAT);
                ae_arena_rewind(a, 0);
            }
    }
    memset(images + 4, 255, 16);
    CHECK_ERROR(idx(a, images, 100, NULL, 0).error, "4294967295");
    memset(images + 4, 0, 16);
    CHECK_ERROR(idx(a, images, 100, NULL, 0).error, "0");
}

/* An arena of every size: enough or refused. */
TEST(data_idx_arena)
{
    static const uint32_t dims[3] = { 5, 3, 2 };
    unsigned char images[64], labels[20];
    size_t n = make_idx(images, 8, 3, dims, 1), k = make_idx(labels, 8, 1, dims, 1);
    for (size_t bytes = 0; bytes < 200; bytes++) {
        outcome r = idx(net_arena(bytes), images, n, labels, k);
        CHECK_INT(r.status, bytes >= 64 + 5 * 4 ? AE_SUCCESS : AE_E_MEMORY);
        if (r.status) CHECK_ERROR(r.error, "arena");
    }
    CHECK_INT(idx(net_arena(30), images, n, NULL, 0).status, AE_SUCCESS);
    CHECK_INT(idx(net_arena(29), images, n, NULL, 0).status, AE_E_MEMORY);
}

/* --- CSV ------------------------------------------------------------------ */

TEST(data_csv)
{
    ae_arena *a = net_arena(ROOM);
    outcome r = csv(a, "7,0,255\n3,1,2", 1);            // no newline at the end
    REQUIRE(r.status == AE_SUCCESS && r.d.bytes && r.d.labels);
    CHECK(r.d.n == 2 && r.d.c == 2 && r.d.h == 1 && r.d.w == 1 && r.d.floats == NULL);
    CHECK(r.d.labels[0] == 7 && r.d.labels[1] == 3 && r.d.bytes[1] == 255 && r.d.bytes[3] == 2);
    float x[4];
    CHECK_INT(ae_dataset_get(&r.d, x, NULL, 0, 2), AE_SUCCESS);
    CHECK_CLOSE(x[1], 255, 0);                          // scale is 1
    r = csv(a, "\xef\xbb\xbf\r\n\r\nlabel,a b,c\r\n 1 ,\t0.5 , -2e1\r\n\r\n2,3,4\r\n  \r\n", 1);
    REQUIRE(r.status == AE_SUCCESS && r.d.floats && r.d.labels);
    CHECK(r.d.n == 2 && r.d.c == 2 && r.d.labels[0] == 1 && r.d.labels[1] == 2);
    CHECK_CLOSE(r.d.floats[0], 0.5, 0);
    CHECK_CLOSE(r.d.floats[1], -20, 0);
    CHECK_CLOSE(r.d.floats[3], 4, 0);
    r = csv(a, "\xef\xbb\xbf" "1,2\n", 0);
    CHECK(r.status == AE_SUCCESS && r.d.n == 1 && r.d.bytes && r.d.bytes[0] == 1 && !r.d.labels);
    r = csv(a, "1\n2\n256", 0);                         // one value is no byte: all are floats
    CHECK(r.status == AE_SUCCESS && r.d.n == 3 && r.d.c == 1 && r.d.floats);
    CHECK_CLOSE(r.d.floats[2], 256, 0);
    CHECK(csv(a, "1\n-1\n", 0).d.floats != NULL);
    CHECK(csv(a, "1\n0.5\n", 0).d.floats != NULL);
    r = csv(a, "0.5,x\n1,2\n", 0);                      // a header counts neither as row nor value
    CHECK(r.status == AE_SUCCESS && r.d.n == 1 && r.d.bytes);
    r = csv(a, "2147483647,2\n", 1);
    CHECK(r.status == AE_SUCCESS && r.d.labels[0] == 2147483647);
    r = csv(a, "1.0,2.550000000000000000e+02\n", 1);
    CHECK(r.status == AE_SUCCESS && r.d.bytes && r.d.bytes[0] == 255);
}

// strtod, whatever the locale's decimal point is.
static double c_strtod(const char *text)
{
    setlocale(LC_NUMERIC, "C");
    double value = strtod(text, NULL);
    setlocale(LC_NUMERIC, "");
    return value;
}

/* Numbers as strtof reads them, to a unit in the last place. */
TEST(data_csv_numbers)
{
    static const char *const good[] = {
        "0.5", "-0", "+1.5", ".5", "5.", "1e3", "1E-3", "3.4028235e38", "-3.4028234663852886e+38",
        "1e-45", "1.4e-45", "1e-400", "1e-60", "123456789012345678901234567890", "0.1",
        "0.30000001192092896", "16777217", "2.550000000000000000e+02", "000000000000000000000012",
        "0.00000000000000000000000000000000000001175494", "9999999999999999999",
        "0.9999999999999999999999", "18446744073709551615", "1.17549435e-38", "1e00000000000002" };
    static const char *const bad[] = { "", "-", "+", ".", "e5", "1e", "1e+", "nan", "inf", "1e999",
        "3.5e38", "0x10", "1 2", "--1", "1..2", "1.2.3", "1e5.0", "1f", "-inf", "NaN", "1e5e5",
        "'1" };
    ae_arena *a = net_arena(ROOM);
    char text[80];
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        test_context("%s", good[i]);
        snprintf(text, sizeof text, "0.25,%s\n", good[i]);
        outcome r = csv(a, text, 0);
        double want = c_strtod(good[i]);
        CHECK_INT(r.status, AE_SUCCESS);
        if (r.status == AE_SUCCESS)     // the smallest float, or one part in 2^23
            CHECK_CLOSE(r.d.floats[1], want, TINY + 1.2e-7 * fabs(want));
        ae_arena_rewind(a, 0);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        test_context("%s", bad[i]);
        snprintf(text, sizeof text, "1,2\n3,%s\n", bad[i]);
        CHECK_INT(csv(a, text, 0).status, AE_E_FORMAT);
        CHECK_ERROR(a->error, "table line 2, column 2");
    }
    uint64_t h = 1;
    for (int i = 0; i < 3000; i++) {    // random floats, written in three ways
        uint32_t u;
        float f, want;
        h = h * 6364136223846793005u + 1442695040888963407u;
        u = (uint32_t)(h >> 32);
        memcpy(&f, &u, 4);
        if (!test_is_finite(f)) continue;
        snprintf(text, sizeof text, i % 3 == 0 ? "%.9g" : i % 3 == 1 ? "%.17e" : "%.6g", (double)f);
        char *comma = strchr(text, ',');    // the locale's decimal point
        if (comma) *comma = '.';
        want = (float)c_strtod(text);
        if (!test_is_finite(want)) continue;
        test_context("%s", text);
        outcome r = csv(a, text, 0);
        CHECK_INT(r.status, AE_SUCCESS);
        if (r.status == AE_SUCCESS && r.d.floats)
            CHECK_CLOSE(r.d.floats[0], want, TINY + 1.2e-7 * fabs((double)want));
        ae_arena_rewind(a, 0);
    }
}

TEST(data_csv_refused)
{
    static const struct { const char *text; int labels; const char *error; } t[] = {
        { "", 0, "empty" },
        { "\n\n", 0, "no row" },
        { "a,b\n", 0, "no row" },
        { "1,2\n3\n", 0, "line 2 has 1 fields, the first row has 2" },
        { "1,2\n\n\n3,4,5\n", 0, "line 4 has 3 fields, the first row has 2" },
        { "x,y\n1,2\n3,nan\n", 0, "line 3, column 2: 'nan'" },
        { "1,2\ninf,3\n", 0, "line 2, column 1: 'inf'" },
        { "1,2\n3,\n", 0, "line 2, column 2" },
        { "1,2\n,3\n", 0, "line 2, column 1" },
        { "a,b\nc,d\n", 0, "line 2, column 1: 'c'" },
        { "1,2\n3,a\x01 very long field that nobody wants to read in full\n", 0, "'a? very long" },
        { "1.5,2\n", 1, "line 1, column 1" },
        { "1,2\n-1,2\n", 1, "line 2, column 1" },
        { "1,2\n2147483648,2\n", 1, "line 2, column 1" },
        { "1\n2\n", 1, "no values" },
        { "\x1f\x8b\x08", 0, "gzip" },
    };
    ae_arena *a = net_arena(ROOM);
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        test_context("text %d", (int)i);
        CHECK_INT(csv(a, t[i].text, t[i].labels).status, AE_E_FORMAT);
        CHECK_ERROR(a->error, t[i].error);
        CHECK_ERROR(a->error, "table");
    }
    CHECK_INT(csv_n(a, "1\n2\0\n", 5, 0).status, AE_E_FORMAT);
    char text[400];
    memset(text, '0', sizeof text);     // too long to be a number
    memcpy(text, "1\n1", 3);
    CHECK_INT(csv_n(a, text, sizeof text, 0).status, AE_E_FORMAT);
    CHECK_ERROR(a->error, "line 2");
}

/* Cut at and spoiled in every byte: an answer each time, and no byte read too far. */
TEST(data_csv_cut_and_spoiled)
{
    const char *text = "label,x,y\n1,2.5,3\n4,-5e-1,6\n7,8,9\n";
    size_t n = strlen(text), good = 0;
    ae_arena *a = net_arena(ROOM);
    for (size_t cut = 0; cut <= n; cut++) {
        ae_status status = csv_n(a, text, cut, 1).status;
        CHECK(status == AE_SUCCESS || status == AE_E_FORMAT);
        good += status == AE_SUCCESS;
        ae_arena_rewind(a, 0);
        for (int v = 0; v < 256; v++) {
            char spoiled[64];
            memcpy(spoiled, text, n);
            if (cut < n) spoiled[cut] = (char)v;
            for (int labels = 0; labels < 2; labels++) {
                status = csv_n(a, spoiled, n, labels).status;
                if (status != AE_SUCCESS && status != AE_E_FORMAT) CHECK_INT(status, AE_E_FORMAT);
            }
            ae_arena_rewind(a, 0);
        }
    }
    CHECK(good > 3);        // whole rows remain at some cuts
    for (size_t bytes = 0; bytes < 200; bytes++)
        CHECK_INT(csv_n(net_arena(bytes), text, n, 1).status,
                  bytes >= 64 + 3 * 4 ? AE_SUCCESS : AE_E_MEMORY);
}

/* --- files ---------------------------------------------------------------- */

#ifndef AE_NO_STDIO
/* A loader that must fail. */
#define REFUSED(call, want, part) \
    do { \
        a->error[0] = 0; \
        CHECK_INT(call, want); \
        CHECK_ERROR(a->error, part); \
        CHECK_INT(ae_arena_used(a), 0); \
    } while (0)

TEST(data_files)
{
    static const uint32_t dims[3] = { 5, 3, 2 };
    ae_arena *a = net_arena(ROOM);
    ae_dataset d;
    unsigned char images[64], labels[20];
    size_t n = make_idx(images, 8, 3, dims, 1), k = make_idx(labels, 8, 1, dims, 1);
    const char *none = test_tmp("none.idx"), *empty = test_write("empty.idx", "", 0);
    REFUSED(ae_idx_load(&d, a, none, NULL), AE_E_IO, "none.idx");
    REFUSED(ae_csv_load(&d, a, none, 0), AE_E_IO, "none.idx");
    REFUSED(ae_idx_load(&d, a, empty, NULL), AE_E_FORMAT, "empty");
    REFUSED(ae_csv_load(&d, a, empty, 1), AE_E_FORMAT, "empty");
    REFUSED(ae_mnist_load(&d, a, "tests/no such folder"), AE_E_IO, "train-images-idx3-ubyte");
    REFUSED(ae_mnist_load_test(&d, a, "tests/no such folder"), AE_E_IO, "t10k-images-idx3-ubyte");
    a->error[0] = 0;
    CHECK(ae_idx_load(&d, a, "tests", NULL) != AE_SUCCESS);     // a folder
    CHECK_ERROR(a->error, "tests");
    CHECK(ae_csv_load(&d, a, "tests", 0) != AE_SUCCESS);
    CHECK_INT(ae_arena_used(a), 0);
    char path[2000];
    memset(path, 'd', sizeof path);
    path[sizeof path - 1] = 0;
    a->error[0] = 0;
    CHECK_INT(ae_mnist_load(&d, a, path), AE_E_IO);
    CHECK_ERROR(a->error, "");
    CHECK_INT(ae_idx_load(&d, a, path, NULL), AE_E_IO);
    CHECK_ERROR(a->error, "cannot open");
    // cut at every byte
    for (size_t cut = 0; cut < n; cut++) {
        const char *file = test_write("cut.idx", images, cut);
        CHECK_INT(ae_idx_load(&d, a, file, NULL), AE_E_FORMAT);
        CHECK_INT(ae_arena_used(a), 0);
    }
    const char *image_file = test_write("images.idx", images, n);
    const char *label_file = test_write("labels.idx", labels, k);
    REFUSED(ae_idx_load(&d, a, image_file, none), AE_E_IO, "none.idx");
    REFUSED(ae_idx_load(&d, a, image_file, empty), AE_E_FORMAT, "empty.idx");
    REFUSED(ae_idx_load(&d, a, image_file, image_file), AE_E_FORMAT, "images.idx");
    CHECK_INT(ae_idx_load(&d, a, image_file, label_file), AE_SUCCESS);
    CHECK(d.n == 5 && d.h == 3 && d.w == 2 && !memcmp(d.bytes, images + 16, 30));
    ae_arena_rewind(a, 0);
    const char *table = test_write("x.csv", "1,2\n3,4,5\n", 10);
    REFUSED(ae_csv_load(&d, a, table, 0), AE_E_FORMAT, "x.csv line 2 has 3 fields");
    table = test_write("x.csv", "1,2\n3,4\n", 8);
    CHECK_INT(ae_csv_load(&d, a, table, 1), AE_SUCCESS);
    CHECK(d.n == 2 && d.labels[1] == 3 && d.bytes[1] == 4);
}

/* Longer than any buffer inside. */
TEST(data_large_csv)
{
    enum { N = 5000 };
    ae_arena *a = net_arena(ROOM);
    char *text = (char *)BYTES(N * 20);
    size_t at = 0;
    ae_dataset d;
    for (int i = 0; i < N; i++)
        at += (size_t)snprintf(text + at, 20, "%d,%d.5\n", i, i);
    CHECK_INT(ae_csv_load(&d, a, test_write("large.csv", text, at), 1), AE_SUCCESS);
    REQUIRE(d.n == N);
    for (int i = 0; i < N; i++)
        if (d.labels[i] != i || !(fabs((double)d.floats[i] - (i + 0.5)) <= 0)) CHECK_INT(i, -1);
}

TEST(data_gz)
{
    ae_arena *a = net_arena(ROOM);
    ae_dataset d;
    const char *plain = test_write("x.csv.gz", "1,2\n", 4);
    // gzip of "1,2\n3,4\n", stored
    static const unsigned char packed[] = { 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 8, 0, 0xf7, 0xff,
        '1', ',', '2', '\n', '3', ',', '4', '\n', 0x47, 0x93, 0x6c, 0xaf, 8, 0, 0, 0 };
    const char *zipped = test_write("y.csv.gz", packed, sizeof packed);
    const char *hidden = test_write("y.csv", packed, sizeof packed);
#ifdef AE_USE_ZLIB
    CHECK_INT(ae_csv_load(&d, a, plain, 0), AE_SUCCESS);
    ae_arena_rewind(a, 0);
    CHECK_INT(ae_csv_load(&d, a, zipped, 0), AE_SUCCESS);
    CHECK(d.n == 2 && d.bytes && d.bytes[3] == 4);
    CHECK_INT(ae_csv_load(&d, a, hidden, 0), AE_SUCCESS);
    ae_arena_rewind(a, 0);
    for (size_t cut = 0; cut < sizeof packed; cut++)
        CHECK(ae_csv_load(&d, a, test_write("cut.csv.gz", packed, cut), 0) != AE_SUCCESS);
#else
    REFUSED(ae_csv_load(&d, a, plain, 0), AE_E_IO, "unpack");
    REFUSED(ae_csv_load(&d, a, zipped, 0), AE_E_IO, "AE_USE_ZLIB");
    REFUSED(ae_csv_load(&d, a, hidden, 0), AE_E_IO, "gunzip");
    REFUSED(ae_idx_load(&d, a, zipped, NULL), AE_E_IO, "y.csv.gz");
#endif
}

TEST(data_mnist_sample)
{
    ae_dataset d[2];
    ae_arena *a = net_arena(4 << 20);
    REQUIRE(ae_mnist_load(&d[0], a, "data") == AE_SUCCESS);
    REQUIRE(ae_mnist_load_test(&d[1], a, "data/") == AE_SUCCESS);
    for (int k = 0; k < 2; k++) {
        int count[10];
        memset(count, 0, sizeof count);
        CHECK_INT(d[k].n, k ? 500 : 2000);
        CHECK(d[k].c == 1 && d[k].h == 28 && d[k].w == 28 && d[k].bytes && d[k].labels);
        for (size_t i = 0; i < d[k].n; i++) {
            REQUIRE(d[k].labels[i] >= 0 && d[k].labels[i] < 10);
            count[d[k].labels[i]]++;
        }
        for (int c = 0; c < 10; c++) CHECK_INT(count[c], k ? 50 : 200);
        float mean, deviation;
        ae_dataset_moments(&d[k], &mean, &deviation);
        CHECK_CLOSE(mean, 0.1307, 0.01);        // the full set's; ours are other digits
        CHECK_CLOSE(deviation, 0.3081, 0.01);
    }
}
#endif

/* --- values and views ----------------------------------------------------- */

static ae_dataset byte_set(size_t n, int features)
{
    ae_dataset d;
    unsigned char *b = BYTES(n * (size_t)features);
    int32_t *labels = INTS(n);
    for (size_t i = 0; i < n * (size_t)features; i++) b[i] = (unsigned char)(i * 89 + i / 7);
    for (size_t i = 0; i < n; i++) labels[i] = (int32_t)i;
    memset(&d, 0, sizeof d);
    d.bytes = b;
    d.labels = labels;
    d.n = n;
    d.c = features;
    d.h = d.w = 1;
    d.scale = 1.0f / 255.0f;
    return d;
}

TEST(data_get)
{
    ae_dataset d = byte_set(256, 1);
    unsigned char *all = BYTES(256);
    for (int i = 0; i < 256; i++) all[i] = (unsigned char)i;
    d.bytes = all;
    float x[256];
    int32_t l[256];
    CHECK_INT(ae_dataset_get(&d, x, l, 0, 256), AE_SUCCESS);
    for (int i = 0; i < 256; i++) {     // the bits of torchvision's ToTensor
        float want = (float)i / 255.0f;
        CHECK_VALUE(x[i], want);
        CHECK_INT(l[i], i);
    }
    d.scale = 0;                        // 1
    CHECK_INT(ae_dataset_get(&d, x, NULL, 250, 6), AE_SUCCESS);
    CHECK_CLOSE(x[5], 255, 0);
    d.scale = 0.5f;
    d.mean = 3;
    d.deviation = 4;
    CHECK_INT(ae_dataset_get(&d, x, NULL, 100, 1), AE_SUCCESS);
    CHECK_CLOSE(x[0], (50 - 3) / 4.0, 0);
    CHECK_INT(ae_dataset_get(&d, NULL, l, 7, 1), AE_SUCCESS);
    CHECK_INT(l[0], 7);
    CHECK_INT(ae_dataset_get(&d, x, l, 256, 0), AE_SUCCESS);
    CHECK_INT(ae_dataset_get(&d, x, l, 256, 1), AE_E_ARG);
    CHECK_INT(ae_dataset_get(&d, x, l, 255, 2), AE_E_ARG);
    CHECK_INT(ae_dataset_get(&d, x, l, (size_t)-1, 2), AE_E_ARG);
    CHECK_INT(ae_dataset_get(&d, x, l, 2, (size_t)-1), AE_E_ARG);
    d.labels = NULL;
    CHECK_INT(ae_dataset_get(&d, x, l, 0, 1), AE_E_ARG);
    CHECK_INT(ae_dataset_get(&d, x, NULL, 0, 1), AE_SUCCESS);
    d.bytes = NULL;
    CHECK_INT(ae_dataset_get(&d, x, NULL, 0, 1), AE_E_ARG);
    float raw[4] = { 1, -2, 3, 0.25f };
    d.floats = raw;
    d.n = 4;
    CHECK_INT(ae_dataset_get(&d, x, NULL, 0, 4), AE_SUCCESS);
    CHECK_CLOSE(x[1], (-1 - 3) / 4.0, 0);
}

/* Against a plain two-pass sum in double; 1e-6: the answer is a float. */
TEST(data_moments_and_normalize)
{
    ae_dataset d = byte_set(113, 31);
    float mean = 0, deviation = 0, x[31];
    double sum = 0, squares = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < 113 * 31; i++) {
            double v = (double)d.bytes[i] / 255.0;
            if (pass == 0) sum += v / (113 * 31);
            else squares += (v - sum) * (v - sum) / (113 * 31);
        }
    ae_dataset_moments(&d, &mean, &deviation);
    CHECK_CLOSE(mean, sum, 1e-6);
    CHECK_CLOSE(deviation, sqrt(squares), 1e-6);
    ae_dataset_moments(&d, NULL, NULL);
    CHECK_INT(ae_dataset_normalize(&d, mean, deviation), AE_SUCCESS);
    CHECK_INT(ae_dataset_get(&d, x, NULL, 5, 1), AE_SUCCESS);
    for (int j = 0; j < 31; j++)
        CHECK_CLOSE(x[j], ((double)d.bytes[5 * 31 + j] / 255.0 - sum) / sqrt(squares), 1e-5);
    float m = 7, s = 7;
    ae_dataset_moments(&d, &m, &s);
    CHECK_CLOSE(m, 0, 1e-6);
    CHECK_CLOSE(s, 1, 1e-6);
    CHECK_INT(ae_dataset_normalize(&d, 2.0f, 0.5f), AE_SUCCESS);    // on top of the first
    ae_dataset_moments(&d, &m, &s);
    CHECK_CLOSE(m, -4, 1e-5);
    CHECK_CLOSE(s, 2, 1e-5);
    const float bad[] = { 0.0f, -1.0f, test_nan(), test_inf() };
    for (int i = 0; i < 4; i++) CHECK_INT(ae_dataset_normalize(&d, 0, bad[i]), AE_E_ARG);
    CHECK_INT(ae_dataset_normalize(&d, test_nan(), 1), AE_E_ARG);
    ae_dataset_moments(&d, &m, NULL);
    CHECK_CLOSE(m, -4, 1e-5);
    // a large offset does not eat the deviation: two passes
    float far[1000];
    for (int i = 0; i < 1000; i++) far[i] = 4096.0f + (float)(i % 2);
    memset(&d, 0, sizeof d);
    d.floats = far;
    d.n = 1000;
    d.c = d.h = d.w = 1;
    ae_dataset_moments(&d, &m, &s);
    CHECK_CLOSE(m, 4096.5, 1e-3);
    CHECK_CLOSE(s, 0.5, 1e-6);
    d.n = 0;
    ae_dataset_moments(&d, &m, &s);
    CHECK(test_is_finite(m) && test_is_finite(s));
}

TEST(data_split)
{
    enum { N = 103 };
    ae_dataset d = byte_set(N, 2), rest, held, rest2, held2;
    static const float shares[] = { 0.01f, 0.1f, 0.25f, 0.5f, 0.9f, 0.99f };
    for (int i = 0; i < 6; i++) {
        unsigned char hit[N];
        int32_t l;
        memset(hit, 0, sizeof hit);
        ae_arena *a = net_arena(ROOM);
        CHECK_INT(ae_dataset_split(&rest, &held, &d, a, shares[i], 5), AE_SUCCESS);
        CHECK_INT(held.n, floor((double)shares[i] * N + 0.5));
        CHECK_INT(rest.n + held.n, N);
        for (size_t k = 0; k < N; k++) {
            const ae_dataset *v = k < held.n ? &held : &rest;
            CHECK_INT(ae_dataset_get(v, NULL, &l, k < held.n ? k : k - held.n, 1), AE_SUCCESS);
            hit[l]++;
        }
        for (int k = 0; k < N; k++) CHECK_INT(hit[k], 1);       // disjoint and complete
        CHECK_INT(ae_dataset_split(&rest2, &held2, &d, a, shares[i], 5), AE_SUCCESS);
        CHECK(!memcmp(held.index, held2.index, held.n * 4));    // repeatable
        CHECK_INT(ae_dataset_split(&rest2, &held2, &d, a, shares[i], 6), AE_SUCCESS);
        if (i > 0 && i < 5) CHECK(memcmp(held.index, held2.index, held.n * 4) != 0);
    }
    // a view of a view, in an arena that just does, rest written over its source
    ae_arena *a = net_arena((N - 10) * 4);
    CHECK_INT(ae_dataset_split(&rest, &held, &d, net_arena(ROOM), 10.0f / N, 5), AE_SUCCESS);
    unsigned char in_rest[N];
    int32_t l;
    memset(in_rest, 0, sizeof in_rest);
    for (size_t k = 0; k < rest.n; k++) {
        ae_dataset_get(&rest, NULL, &l, k, 1);
        in_rest[l] = 1;
    }
    CHECK_INT(ae_dataset_split(&rest, &held2, &rest, a, 0.5f, 1), AE_SUCCESS);
    CHECK_INT(rest.n + held2.n, N - 10);
    for (size_t k = 0; k < rest.n; k++) {
        CHECK_INT(ae_dataset_get(&rest, NULL, &l, k, 1), AE_SUCCESS);
        CHECK(in_rest[l]);
        in_rest[l] = 0;
    }
    // refused
    a = net_arena(N * 4 - 1);
    memset(&rest2, 0x5a, sizeof rest2);
    CHECK_INT(ae_dataset_split(&rest2, &held2, &d, a, 0.5f, 1), AE_E_MEMORY);
    CHECK_ERROR(a->error, "split");
    const float bad[] = { -0.1f, 1.1f, 0.0f, 1.0f, 0.001f, 0.999f, test_nan(), test_inf() };
    for (int i = 0; i < 8; i++) {
        a->error[0] = 0;
        CHECK_INT(ae_dataset_split(&rest2, &held2, &d, a, bad[i], 1), AE_E_ARG);
        CHECK_ERROR(a->error, "split");
        CHECK_INT(ae_arena_used(a), 0);
    }
    CHECK_INT(rest2.keep_order, 0x5a5a5a5a);
}

TEST(data_head)
{
    ae_dataset d = byte_set(20, 3), h = ae_dataset_head(&d, 7);
    CHECK_INT(h.n, 7);
    CHECK(h.bytes == d.bytes && h.labels == d.labels && h.c == 3);
    CHECK_INT(ae_dataset_head(&d, 0).n, 0);
    CHECK_INT(ae_dataset_head(&d, 20).n, 20);
    CHECK_INT(ae_dataset_head(&d, (size_t)-1).n, 20);
}

TEST_LIST(data) {
    CASE(data_idx), CASE(data_idx_types), CASE(data_idx_cut), CASE(data_idx_spoiled),
    CASE(data_idx_arena), CASE(data_csv), CASE(data_csv_numbers), CASE(data_csv_refused),
    CASE(data_csv_cut_and_spoiled),
#ifndef AE_NO_STDIO
    CASE(data_files), CASE(data_large_csv), CASE(data_gz), CASE(data_mnist_sample),
#endif
    CASE(data_get), CASE(data_moments_and_normalize), CASE(data_split), CASE(data_head), CASE_END
};
