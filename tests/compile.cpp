/* The same as C++. */
#include "compile.c"
