/* Philox, uniform and normal numbers, permutations. */
#include "test.h"

static ae_random sequence(uint64_t seed, uint64_t step, uint32_t stream)
{
    ae_random r;
    r.seed = seed;
    r.step = step;
    r.stream = stream;
    return r;
}

/* The known answers which the authors of Philox publish (Random123's kat_vectors). */
TEST(rng_philox_known_answers)
{
    static const uint32_t known[3][10] = {
        { 0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 },
        { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff,
          0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd },
        { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0,
          0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 },
    };
    for (int k = 0; k < 3; k++) {
        uint32_t out[4];
        ae_philox(out, known[k], known[k] + 4);
        for (int i = 0; i < 4; i++) CHECK_INT(out[i], known[k][6 + i]);
    }
    // out may be the counter: the function reads it first
    uint32_t counter[4] = { 0, 0, 0, 0 }, key[2] = { 0, 0 };
    ae_philox(counter, counter, key);
    CHECK_INT(counter[0], 0x6627e8d5);
    CHECK_INT(counter[3], 0x9b00dbd8);
}

/* The mean of x^power. */
static double moment(const float *x, size_t n, int power, double center)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += pow((double)x[i] - center, power);
    return sum / (double)n;
}

/* The correlation of x with y. */
static double correlation(const float *x, const float *y, size_t n)
{
    double mx = moment(x, n, 1, 0), my = moment(y, n, 1, 0), sum = 0;
    for (size_t i = 0; i < n; i++) sum += ((double)x[i] - mx) * ((double)y[i] - my);
    return sum / (double)n / sqrt(moment(x, n, 2, mx) * moment(y, n, 2, my));
}

/* All bounds below are 5 standard deviations of the estimate from n = 100,000 draws. */
#define DRAWS 100000
#define FIVE_SIGMA(sd) (5 * (sd) / sqrt((double)DRAWS))

TEST(rng_uniform_moments)
{
    float *x = OUT(DRAWS);
    int bins[16] = { 0 };
    double low = 1, high = 0;
    ae_random_uniform(x, DRAWS, 0, sequence(7, 0, 3));
    for (int i = 0; i < DRAWS; i++) {
        double u = (double)x[i];
        if (!(u >= 0 && u < 1)) { CHECK(u >= 0 && u < 1); return; }
        bins[(int)(u * 16)]++;
        low = u < low ? u : low;
        high = u > high ? u : high;
    }
    CHECK_CLOSE(moment(x, DRAWS, 1, 0), 0.5, FIVE_SIGMA(sqrt(1 / 12.0)));
    CHECK_CLOSE(moment(x, DRAWS, 2, 0.5), 1 / 12.0, FIVE_SIGMA(sqrt(1 / 180.0)));
    CHECK(low < 20.0 / DRAWS && high > 1 - 20.0 / DRAWS);
    double chi2 = 0;            // 15 degrees of freedom: over 44 once in 10,000
    for (int k = 0; k < 16; k++) {
        double d = bins[k] - DRAWS / 16.0;
        chi2 += d * d / (DRAWS / 16.0);
    }
    CHECK(chi2 < 44);
    CHECK_CLOSE(correlation(x, x + 1, DRAWS - 1), 0, FIVE_SIGMA(1));
    CHECK_CLOSE(correlation(x, x + 4, DRAWS - 4), 0, FIVE_SIGMA(1));
}

TEST(rng_normal_moments)
{
    float *x = OUT(DRAWS);
    ae_random_normal(x, DRAWS, 0, sequence(7, 0, 3));
    REQUIRE(CHECK_FINITE(x, DRAWS));
    CHECK_CLOSE(moment(x, DRAWS, 1, 0), 0, FIVE_SIGMA(1));
    CHECK_CLOSE(moment(x, DRAWS, 2, 0), 1, FIVE_SIGMA(sqrt(2.0)));      // E x^4 - 1 = 2
    CHECK_CLOSE(moment(x, DRAWS, 3, 0), 0, FIVE_SIGMA(sqrt(15.0)));     // E x^6 = 15
    CHECK_CLOSE(moment(x, DRAWS, 4, 0), 3, FIVE_SIGMA(sqrt(96.0)));     // E x^8 - 9 = 96
    int inside = 0, beyond = 0;
    for (int i = 0; i < DRAWS; i++) {
        inside += x[i] < 1 && x[i] > -1;
        beyond += x[i] > 3 || x[i] < -3;
    }
    CHECK_CLOSE((double)inside / DRAWS, 0.682689, FIVE_SIGMA(0.4655));  // sqrt(p (1-p))
    CHECK_CLOSE((double)beyond / DRAWS, 0.0027, FIVE_SIGMA(0.0519));
    for (int lag = 1; lag <= 4; lag++)  // Box-Muller makes pairs: they must not tell of each other
        CHECK_CLOSE(correlation(x, x + lag, (size_t)(DRAWS - lag)), 0, FIVE_SIGMA(1));
    float *squares = OUT(DRAWS);
    for (int i = 0; i < DRAWS; i++) squares[i] = x[i] * x[i];
    CHECK_CLOSE(correlation(squares, squares + 1, DRAWS - 1), 0, FIVE_SIGMA(1));
}

/* Element i is the same wherever a call starts and however many it asks for. */
static void check_splitting(void (*draw)(float *, size_t, size_t, ae_random))
{
    enum { N = 67 };
    float *whole = OUT(N), *part = OUT(N);
    ae_random r = sequence(0x123456789abcdefu, 5, 9);
    draw(whole, N, 0, r);
    CHECK_FINITE(whole, N);
    for (size_t first = 0; first < 10; first++)
        for (size_t n = 0; n < 12; n++) {
            test_refill(part, N);
            draw(part, n, first, r);
            CHECK_BITS(part, whole + first, n);
            CHECK(test_is_nan(part[n]));
        }
    for (size_t i = 0; i < N; i++) draw(part + i, 1, i, r);
    CHECK_BITS(part, whole, N);
    CHECK_GUARDS();
}

TEST(rng_splitting)
{
    check_splitting(ae_random_uniform);
    check_splitting(ae_random_normal);
}

/* Every part of the name matters, in its high bits too, and so does a first beyond 2^32. */
TEST(rng_sequences_differ)
{
    enum { N = 1000, NAMES = 8 };
    float *x[NAMES];
    static const uint64_t seeds[NAMES] = { 1, 2, 1ull << 32 | 1, 1, 1, 1, 1, 1 };
    static const uint64_t steps[NAMES] = { 0, 0, 0, 1, 1ull << 32, 1ull << 63, 0, 0 };
    static const uint32_t streams[NAMES] = { 0, 0, 0, 0, 0, 0, 1, 0x80000000u };
    for (int k = 0; k < NAMES; k++) {
        x[k] = OUT(N);
        ae_random_uniform(x[k], N, 0, sequence(seeds[k], steps[k], streams[k]));
        for (int j = 0; j < k; j++) {
            int same = 0;
            test_context("sequences %d and %d", j, k);
            for (int i = 0; i < N; i++) same += !memcmp(&x[j][i], &x[k][i], sizeof(float));
            CHECK(same < 5);    // 24 bits: one in 16 million
            CHECK_CLOSE(correlation(x[j], x[k], N), 0, 5 / sqrt((double)N));
        }
    }
    test_context(NULL);
    if (sizeof(size_t) > 4) {
        size_t far_away = (size_t)((uint64_t)1 << 34);  // block 2^32, whose low word is 0
        float *y = OUT(N);
        ae_random_uniform(y, N, far_away, sequence(1, 0, 0));
        CHECK_CLOSE(correlation(x[0], y, N), 0, 5 / sqrt((double)N));
    }
}

/* The same numbers for ever, so that a model made today can be made again. */
TEST(rng_uniform_is_philox)
{
    enum { N = 400 };
    const uint64_t seed = 0x123456789abcdef0u, step = 0xfedcba9876543210u, stream = 0x90abcdefu;
    static const uint64_t starts[3] = { 0, 0x7fffffff, ((uint64_t)1 << 34) - 200 };
    float *x = OUT(N);
    for (int k = 0; k < (sizeof(size_t) > 4 ? 3 : 2); k++) {
        ae_random_uniform(x, N, (size_t)starts[k], sequence(seed, step, (uint32_t)stream));
        for (uint64_t i = 0; i < N; i++) {
            uint32_t counter[4], key[2], bits[4];
            uint64_t block = (starts[k] + i) / 4;
            counter[0] = (uint32_t)block;
            counter[1] = (uint32_t)stream;
            counter[2] = (uint32_t)step;
            counter[3] = (uint32_t)(step >> 32) ^ (uint32_t)(block >> 32) * 0x9E3779B9u;
            key[0] = (uint32_t)seed;
            key[1] = (uint32_t)(seed >> 32);
            ae_philox(bits, counter, key);
            // 24 bits of each word
            if (!CHECK_CLOSE(x[i], (bits[(starts[k] + i) % 4] >> 8) / 16777216.0, 0)) return;
        }
    }
}

TEST(rng_permutation_is_bijection)
{
    static const int sizes[] = { 1, 2, 3, 4, 5, 7, 16, 17, 63, 64, 65, 256, 1000, 1024, 4095, 4096,
                                 4097, 65537 };
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++)
        for (uint64_t epoch = 0; epoch < 4; epoch++) {
            size_t n = (size_t)sizes[k], fixed = 0, bad = 0;
            unsigned char *seen = BYTES(n);
            test_context("n %lu, epoch %lu", (unsigned long)n, (unsigned long)epoch);
            for (size_t i = 0; i < n; i++) {
                uint64_t to = ae_random_permute(i, n, sequence(42, epoch, 0));
                if (to >= n || seen[to]++) bad++;
                fixed += to == i;
            }
            CHECK_INT(bad, 0);
            // a random permutation has one fixed point on average, and 12 once in a billion
            CHECK(n < 16 || fixed < 12);
        }
}

TEST(rng_permutation_is_random)
{
    enum { N = 1000 };
    float *x = OUT(N), *y = OUT(N);
    double steps = 0;
    for (int i = 0; i < N; i++) {
        x[i] = (float)i;
        y[i] = (float)ae_random_permute((uint64_t)i, N, sequence(1, 0, 0));
        if (i > 0) steps += fabs((double)y[i] - (double)y[i - 1]);
    }
    CHECK_CLOSE(correlation(x, y, N), 0, 5 / sqrt((double)N));
    // neighbours go N/3 apart on average, with deviation N / sqrt(18)
    const double n = N;
    CHECK_CLOSE(steps / (n - 1), n / 3, 5 * n / sqrt(18 * n));
    // another epoch, seed or stream is another permutation
    for (int k = 0; k < 4; k++) {
        ae_random r = sequence(k == 1 ? 2 : 1, k == 2 ? 1 : 0, k == 3 ? 1 : 0);
        int same = 0;
        for (int i = 0; i < N; i++)
            same += ae_random_permute((uint64_t)i, N, r) == (uint64_t)y[i];
        if (k == 0) CHECK_INT(same, N);
        else CHECK(same < 12);
    }
    // all six orders of three things come, about equally often: 600 +- 5 sqrt(600)
    int orders[27] = { 0 };
    for (uint64_t epoch = 0; epoch < 3600; epoch++) {
        int code = 0;
        for (uint64_t i = 0; i < 3; i++)
            code = 3 * code + (int)ae_random_permute(i, 3, sequence(5, epoch, 0));
        orders[code]++;
    }
    static const int codes[6] = { 5, 7, 11, 15, 19, 21 };   // 012 021 102 120 201 210 in base 3
    for (int k = 0; k < 6; k++) CHECK_CLOSE(orders[codes[k]], 600, 5 * sqrt(600.0));
}

/* n beyond 32 bits: inside, and different for different i. */
TEST(rng_permutation_of_many)
{
    uint64_t n = ((uint64_t)1 << 40) + 12345, last = 0, bad = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t to = ae_random_permute(i * (n / 1000), n, sequence(3, 0, 0));
        bad += to >= n || to == last;
        last = to;
    }
    CHECK_INT(bad, 0);
}

TEST_LIST(rng) {
    CASE(rng_philox_known_answers),
    CASE(rng_uniform_moments),
    CASE(rng_normal_moments),
    CASE(rng_splitting),
    CASE(rng_sequences_differ),
    CASE(rng_uniform_is_philox),
    CASE(rng_permutation_is_bijection),
    CASE(rng_permutation_is_random),
    CASE(rng_permutation_of_many),
    CASE_END
};
