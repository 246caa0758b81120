/* The arena, and the texts of statuses. */
#include "test.h"

/* An arena struct of this test. */
static ae_arena *plain_arena(void *block, size_t bytes)
{
    ae_arena *a = (ae_arena *)(void *)BYTES(sizeof(ae_arena));
    CHECK_INT(ae_arena_init(a, block, bytes), AE_SUCCESS);
    return a;
}

TEST(arena_init)
{
    unsigned char *block = (unsigned char *)BLOCK(256);
    ae_arena *a = (ae_arena *)(void *)BYTES(sizeof(ae_arena));
    CHECK_INT(ae_arena_init(a, NULL, 64), AE_E_ARG);
    CHECK_ERROR(a->error, "NULL");
    CHECK(ae_alloc(a, 1) == NULL);      // what failed is an empty arena
    CHECK_INT(ae_arena_left(a), 0);
    for (int shift = 1; shift < AE_ALIGN; shift++) {
        CHECK_INT(ae_arena_init(a, block + shift, 64), AE_E_ARG);
        CHECK_ERROR(a->error, "aligned");
    }
    CHECK_INT(ae_arena_init(NULL, block, 64), AE_E_ARG);
    CHECK_INT(ae_arena_init(a, block + AE_ALIGN, 100), AE_SUCCESS);
    CHECK_INT(ae_arena_used(a), 0);
    CHECK_INT(ae_arena_left(a), 100);
    CHECK_STR(a->error, "");
    CHECK(a->owned == NULL);
    CHECK_INT(block[0], 0xA5);          // nothing is written before it is asked for
    CHECK_INT(block[AE_ALIGN], 0xA5);
}

TEST(arena_alloc)
{
    static const size_t sizes[] = { 1, 63, 64, 65, 4, 128, 100, 0, 200, 3 };
    unsigned char *block = (unsigned char *)BLOCK(1024);
    ae_arena *a = plain_arena(block, 1024);
    unsigned char *before = block;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t used = ae_arena_used(a);
        unsigned char *p = (unsigned char *)ae_alloc(a, sizes[i]);
        REQUIRE(p != NULL);
        CHECK_INT((uintptr_t)p % AE_ALIGN, 0);
        CHECK(p >= before);
        CHECK_INT(p - block, used);
        CHECK_INT(ae_arena_used(a) + ae_arena_left(a), 1024);
        for (size_t k = 0; k < sizes[i]; k++) CHECK_INT(p[k], 0);
        memset(p, 0x11, sizes[i]);
        before = p + sizes[i];
    }
    CHECK(ae_arena_used(a) <= 1024);
}

TEST(arena_exact_fill)
{
    for (size_t bytes = 0; bytes < 200; bytes++) {
        unsigned char *block = (unsigned char *)BLOCK(bytes);
        ae_arena *a = plain_arena(block, bytes);
        CHECK(ae_alloc(a, bytes + 1) == NULL);
        CHECK_INT(ae_arena_used(a), 0);
        if (bytes) CHECK_INT(block[bytes - 1], 0xA5);
        CHECK(ae_alloc(a, bytes) != NULL);
        CHECK_INT(ae_arena_left(a), 0);
        CHECK(ae_alloc(a, 1) == NULL);
    }
    // the same behind a first piece: 1 byte takes 64
    unsigned char *block = (unsigned char *)BLOCK(100);
    ae_arena *a = plain_arena(block, 100);
    CHECK(ae_alloc(a, 1) == block);
    CHECK(ae_alloc(a, 37) == NULL);
    CHECK(ae_alloc(a, SIZE_MAX) == NULL);
    CHECK(ae_alloc(a, SIZE_MAX - AE_ALIGN + 2) == NULL);
    CHECK(ae_alloc(a, SIZE_MAX / 2 + 1) == NULL);
    CHECK_INT(ae_arena_used(a), 64);
    CHECK(ae_alloc(a, 36) == block + 64);
    CHECK_INT(ae_arena_used(a), 100);
    CHECK_INT(ae_arena_left(a), 0);
}

TEST(arena_rewind)
{
    unsigned char *block = (unsigned char *)BLOCK(640);
    ae_arena *a = plain_arena(block, 640);
    ae_alloc(a, 100);
    size_t mark = ae_arena_used(a);
    unsigned char *p = (unsigned char *)ae_alloc(a, 300);
    REQUIRE(p != NULL);
    memset(p, 0xEE, 300);
    ae_arena_rewind(a, 639);            // not reached yet: ignored
    CHECK_INT(ae_arena_used(a), mark + 320);
    ae_arena_rewind(a, mark);
    CHECK_INT(ae_arena_used(a), mark);
    CHECK(ae_alloc(a, 300) == p);       // the same place, zeroed again
    for (int i = 0; i < 300; i++) CHECK_INT(p[i], 0);
    ae_arena_rewind(a, 0);
    CHECK(ae_alloc(a, 640) == block);
}

TEST(arena_null)
{
    CHECK(ae_alloc(NULL, 1) == NULL);
    CHECK_INT(ae_arena_used(NULL), 0);
    CHECK_INT(ae_arena_left(NULL), 0);
    ae_arena_rewind(NULL, 0);
}

#ifndef AE_NO_MALLOC
TEST(arena_new)
{
    static const size_t sizes[] = { 0, 1, 63, 64, 65, 1000, 4096, 1000000 };
    size_t live = test_malloc_live();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t calls = test_mallocs();
        ae_arena *a = ae_arena_new(sizes[i]);
        REQUIRE(a != NULL);
        CHECK_INT(test_mallocs(), calls + 1);
        CHECK_INT(test_malloc_live(), live + 1);
        CHECK(ae_arena_left(a) >= sizes[i]);
        CHECK_INT((uintptr_t)a->base % AE_ALIGN, 0);
        CHECK_STR(a->error, "");
        unsigned char *p = (unsigned char *)ae_alloc(a, sizes[i]);
        REQUIRE(p != NULL);
        for (size_t k = 0; k < sizes[i]; k += 1 + sizes[i] / 100) CHECK_INT(p[k], 0);
        memset(p, 0x22, sizes[i]);
        CHECK_INT(test_mallocs(), calls + 1);
        ae_arena_free(a);
        CHECK_INT(test_malloc_live(), live);
    }
}

TEST(arena_new_fails)
{
    size_t calls = test_mallocs(), live = test_malloc_live();
    for (size_t k = 0; k < 64; k++) CHECK(ae_arena_new(SIZE_MAX - k) == NULL);  // no sum overflows
    CHECK_INT(test_mallocs(), calls);
    test_malloc_fail(1);
    CHECK(ae_arena_new(100) == NULL);
    CHECK_INT(test_malloc_live(), live);
    ae_arena_free(NULL);
    ae_arena *a = plain_arena(BLOCK(64), 64);
    ae_arena_free(a);                   // a caller's block is the caller's
    CHECK_INT(test_malloc_live(), live);
}
#endif

TEST(status_strings)
{
    for (int i = 0; i < AE_STATUS_COUNT; i++) {
        const char *text = ae_status_string((ae_status)i);
        REQUIRE(text != NULL);
        CHECK(text[0] != 0);
        for (int k = 0; k < i; k++) CHECK(strcmp(text, ae_status_string((ae_status)k)) != 0);
    }
    CHECK_STR(ae_status_string(AE_SUCCESS), "success");
    CHECK_STR(ae_status_string(AE_E_MEMORY), "not enough memory in the arena");
    CHECK_STR(ae_status_string(AE_E_SHAPE), "shapes do not fit");
    CHECK_STR(ae_status_string(AE_E_DEVICE), "the device failed");
    CHECK_STR(ae_status_string(AE_STATUS_COUNT), "unknown status");
}

TEST_LIST(arena) {
    CASE(arena_init), CASE(arena_alloc), CASE(arena_exact_fill), CASE(arena_rewind),
    CASE(arena_null),
#ifndef AE_NO_MALLOC
    CASE(arena_new), CASE(arena_new_fails),
#endif
    CASE(status_strings), CASE_END
};
