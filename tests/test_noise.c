/* Dropout and noise: what they do to an element, how often, and that it depends on nothing but the
   element's place in its sequence. */
#include "test.h"

typedef enum noise_kind { DROPOUT, SPATIAL, GAUSSIAN, HELD, MASKING, SALT, KINDS } noise_kind;
static const char *const kind_names[KINDS] = { "dropout", "spatial dropout", "gaussian", "held",
                                               "masking", "salt and pepper" };
enum { GROUP = 7 };

static ae_random sequence(uint64_t seed, uint64_t step, uint32_t stream)
{
    ae_random r;
    r.seed = seed;
    r.step = step;
    r.stream = stream;
    return r;
}

static void apply(int kind, const ae_exec *e, float *y, float *mask, const float *x, size_t first,
                  ae_random r, size_t n)
{
    switch (kind) {
    case DROPOUT: ae_dropout_forward(e, y, mask, x, 0.3f, 1, first, r, n); break;
    case SPATIAL: ae_dropout_forward(e, y, mask, x, 0.3f, GROUP, first, r, n); break;
    case GAUSSIAN: ae_gaussian_noise_forward(e, y, mask, x, 0.4f, 0, 0, first, r, n); break;
    case HELD: ae_gaussian_noise_forward(e, y, mask, x, 0.4f, 0, 1, first, r, n); break;
    case MASKING: ae_mask_noise_forward(e, y, mask, x, 0.3f, first, r, n); break;
    default: ae_salt_pepper_forward(e, y, mask, x, 0.3f, -3, 4, first, r, n);
    }
}

/* Each element from the draw that belongs to it. */
TEST(noise_definitions)
{
    enum { N = 77 * GROUP };
    ae_random r = sequence(5, 6, 7);
    float *x = DATA_IN(N, 0, 1, 1), *u = OUT(N), *z = OUT(N);
    const size_t first = 30 * GROUP;
    ae_random_normal(z, N, first, r);
    for (int kind = 0; kind < KINDS; kind++)
        for (int e = 0; e < 3; e++) {
            float *y = OUT(N), *mask = OUT(N), *want = OUT(N), *want_mask = OUT(N);
            float scale = 1.0f / (1.0f - 0.3f);
            int spatial = kind == SPATIAL;
            ae_random_uniform(u, spatial ? N / GROUP : N, spatial ? first / GROUP : first, r);
            for (int i = 0; i < N; i++) {
                float draw = u[spatial ? i / GROUP : i], v = x[i] + 0.4f * z[i];
                switch (kind) {
                case DROPOUT: case SPATIAL:
                    want_mask[i] = draw >= 0.3f ? scale : 0;
                    want[i] = x[i] * want_mask[i];
                    break;
                case GAUSSIAN:
                    want_mask[i] = 1;
                    want[i] = v;
                    break;
                case HELD:
                    want_mask[i] = v >= 0 && v <= 1;
                    want[i] = v < 0 ? 0 : v > 1 ? 1 : v;
                    break;
                default:
                    want_mask[i] = draw >= 0.3f;
                    want[i] = draw >= 0.3f ? x[i] : kind == MASKING ? 0.0f : draw < 0.15f ? -3 : 4;
                }
            }
            test_context("%s, %s", kind_names[kind], test_exec_text(e));
            apply(kind, test_exec_at(e), y, mask, x, first, r, N);
            CHECK_ARRAY(y, want, N, 1e-7, 1.2e-7);  // one unit: a fused multiply-add
            CHECK_BITS(mask, want_mask, N);
            if (kind > SPATIAL) {                   // without a mask
                float *plain = OUT(N);
                apply(kind, test_exec_at(e), plain, NULL, x, first, r, N);
                CHECK_BITS(plain, y, N);
            } else {                                // in place, and backward
                float *dx = OUT(N), *dy = DATA(N, 9);
                float *in_place = COPY(x, N);
                apply(kind, test_exec_at(e), in_place, mask, in_place, first, r, N);
                CHECK_BITS(in_place, y, N);
                ae_dropout_backward(test_exec_at(e), dx, dy, mask, N);
                for (int i = 0; i < N; i++) want[i] = dy[i] * mask[i];
                CHECK_BITS(dx, want, N);
                ae_dropout_backward(test_exec_at(e), dy, dy, mask, N);
                CHECK_BITS(dy, want, N);
            }
        }
}

/* A batch in one call or in many, on any threads: the same bits. */
TEST(noise_splitting)
{
    enum { N = 6000 * GROUP };
    ae_random r = sequence(1, 2, 3);
    float *x = DATA_IN(N, 0, 1, 1);
    for (int kind = 0; kind < KINDS; kind++) {
        float *y = OUT(N), *mask = OUT(N), *part = OUT(N), *part_mask = OUT(N);
        apply(kind, NULL, y, mask, x, 0, r, N);
        for (size_t at = 0, n; at < N; at += n) {   // 1, 2, 3, ... groups or elements
            n = (at % 511 + 1) * (kind == SPATIAL ? GROUP : 1);
            if (n > N - at) n = N - at;
            apply(kind, test_exec(), part + at, part_mask + at, x + at, at, r, n);
        }
        test_context("%s in parts", kind_names[kind]);
        CHECK_BITS(part, y, N);
        CHECK_BITS(part_mask, mask, N);
        for (int i = 1; i < TEST_EXECS; i++) {
            test_refill(part, N);
            test_refill(part_mask, N);
            test_context("%s, %s", kind_names[kind], test_exec_text(i));
            apply(kind, test_exec_at(i), part, part_mask, x, 0, r, N);
            CHECK_BITS(part, y, N);
            CHECK_BITS(part_mask, mask, N);
        }
    }
}

/* Where the number of the block outgrows 32 bits: as portable code has it, vectors or not. */
TEST(noise_far_away)
{
    enum { N = 999 * GROUP };
    float *x = DATA_IN(N, 0, 1, 1), *want = OUT(N), *y = OUT(N), *mask = OUT(N);
    const size_t first = sizeof(size_t) > 4 ? (size_t)(((uint64_t)1 << 34) - 500) * GROUP : GROUP;
    ae_random r = sequence(0x1234567890u, 0x9876543210u, 0xabcdef01u);
    for (int kind = 0; kind < KINDS; kind++) {
        apply(kind, NULL, want, mask, x, first, r, N);
        apply(kind, test_exec(), y, mask, x, first, r, N);
        test_context("%s", kind_names[kind]);
        CHECK_BITS(y, want, N);
    }
}

/* Another seed, step or stream is another noise. */
TEST(noise_sequences_differ)
{
    enum { N = 1000 * GROUP };
    float *x = DATA_IN(N, 0.2, 1, 1), *y = OUT(N), *other = OUT(N), *mask = OUT(N);
    for (int kind = 0; kind < KINDS; kind++)
        for (int k = 0; k < 3; k++) {
            int same = 0;
            apply(kind, test_exec(), y, mask, x, 0, sequence(1, 2, 3), N);
            apply(kind, test_exec(), other, mask, x, 0,
                  sequence(1 + (k == 0), 2 + (k == 1), 3 + (k == 2)), N);
            for (int i = 0; i < N; i++) same += !memcmp(&y[i], &other[i], sizeof(float));
            test_context("%s, %d", kind_names[kind], k);
            // two masks agree in 0.7^2 + 0.3^2 = 58 % of the places; 1000 groups: within 8 %
            CHECK(same < N / 3 * 2);
        }
}

/* The bounds are 5 standard deviations of the estimate. */
TEST(noise_statistics)
{
    const int N = 100000;
    float *x = DATA_IN(N, 0.5, 0.5, 0), *y = OUT(N), *mask = OUT(N);
    ae_random r = sequence(11, 0, 0);
    double sum = 0, squares = 0, dropped = 0, low = 0, high = 0;
    const double five = 5 / sqrt((double)N);
    ae_dropout_forward(test_exec(), y, mask, x, 0.3f, 1, 0, r, (size_t)N);
    for (int i = 0; i < N; i++) sum += (double)y[i], dropped += mask[i] == 0;
    CHECK_CLOSE(dropped / N, 0.3, five * sqrt(0.21));
    CHECK_CLOSE(sum / N, 0.5, five * 0.5 * sqrt(0.3 / 0.7));        // the mean is kept
    ae_dropout_forward(test_exec(), y, mask, x, 0, 1, 0, r, (size_t)N);     // nothing is dropped
    CHECK_BITS(y, x, N);

    sum = 0;
    ae_gaussian_noise_forward(test_exec(), y, mask, x, 0.2f, 0, 0, 0, r, (size_t)N);
    for (int i = 0; i < N; i++) {
        double d = (double)y[i] - 0.5;
        sum += d;
        squares += d * d;
    }
    CHECK_CLOSE(sum / N, 0, five * 0.2);
    CHECK_CLOSE(squares / N, 0.04, five * 0.04 * sqrt(2.0));
    ae_gaussian_noise_forward(test_exec(), y, mask, x, 0, 0, 0, 0, r, (size_t)N);
    CHECK_BITS(y, x, N);

    ae_gaussian_noise_forward(test_exec(), y, mask, x, 0.5f, 0, 1, 0, r, (size_t)N);
    for (int i = 0; i < N; i++) {
        low += y[i] == 0;
        high += y[i] == 1;
        if (!(y[i] >= 0 && y[i] <= 1)) { CHECK(y[i] >= 0 && y[i] <= 1); return; }
    }
    CHECK_CLOSE(low / N, 0.158655, five * 0.3654);
    CHECK_CLOSE(high / N, 0.158655, five * 0.3654);

    low = high = 0;
    ae_salt_pepper_forward(test_exec(), y, mask, x, 0.2f, 0, 1, 0, r, (size_t)N);
    for (int i = 0; i < N; i++) low += y[i] == 0, high += y[i] == 1;
    CHECK_CLOSE(low / N, 0.1, five * 0.3);
    CHECK_CLOSE(high / N, 0.1, five * 0.3);

    dropped = 0;
    ae_mask_noise_forward(test_exec(), y, mask, x, 0.2f, 0, r, (size_t)N);
    for (int i = 0; i < N; i++) dropped += y[i] == 0;
    CHECK_CLOSE(dropped / N, 0.2, five * 0.4);
    ae_mask_noise_forward(test_exec(), y, mask, x, 1, 0, r, (size_t)N);     // everything
    for (int i = 0; i < N; i++) if (y[i] != 0) { CHECK(y[i] == 0); return; }
}

/* Noise does not hide what is not a number, but replaces it like anything else. */
TEST(noise_nan)
{
    float x[2], y[2], mask[2];
    x[0] = x[1] = test_nan();
    ae_gaussian_noise_forward(test_exec(), y, mask, x, 0.1f, 0, 1, 0, sequence(1, 1, 1), 2);
    CHECK(test_is_nan(y[0]) && test_is_nan(y[1]));
    ae_mask_noise_forward(test_exec(), y, mask, x, 1, 0, sequence(1, 1, 1), 2);
    CHECK(y[0] == 0 && y[1] == 0);
}

TEST_LIST(noise) {
    CASE(noise_definitions),
    CASE(noise_splitting),
    CASE(noise_far_away),
    CASE(noise_sequences_differ),
    CASE(noise_statistics),
    CASE(noise_nan),
    CASE_END
};
