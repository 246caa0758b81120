/* Five times the header in the file that holds the implementation: twice before the define, three
   times after. include_order_b.c is the other file of the program. */
#ifdef __AVX2__
#define HAD_AVX2
#endif
#ifdef __AVX512F__
#define HAD_AVX512
#endif

#include "../ae.h"
#include "../ae.h"
#define AE_IMPLEMENTATION
#include "../ae.h"
#include "../ae.h"
#include "../ae.h"

#if defined(__AVX2__) && !defined(HAD_AVX2)
#error "the header left AVX2 switched on"
#endif
#if defined(__AVX512F__) && !defined(HAD_AVX512)
#error "the header left AVX-512 switched on"
#endif

const char *other_file(void);

int main(void)
{
    /* The same text from both files; the same address only when they share one copy. */
    const char *here = ae_status_string(AE_E_SHAPE), *there = other_file();
    while (*here && *here == *there) {
        here++;
        there++;
    }
    return *here != *there;
}
