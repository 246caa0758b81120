/* The program that tests/cuda/gates.py compiles for each kind of GPU: ae.h with all its kernels. */
#define AE_USE_CUDA
#ifndef AE_NO_SIMD
#define AE_NO_SIMD          /* the CPU's kernels are not looked at here; without them it is fast */
#endif
#define AE_IMPLEMENTATION
#include "ae.h"

int main()
{
    ae_exec e = ae_exec_best();
    return ae_exec_name(&e) == nullptr;
}
