/* The header alone, as `make check` compiles it: every compiler, standard and flag. */
#define AE_IMPLEMENTATION
#include "../ae.h"
