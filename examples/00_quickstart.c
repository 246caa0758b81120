/* The program of the README: an autoencoder of handwritten digits.
   cc -O2 -o quickstart examples/00_quickstart.c -lm  &&  ./quickstart                            */
#define AE_IMPLEMENTATION
#include "../ae.h"
#include <stdio.h>

int main(void)
{
    ae_arena *arena = ae_arena_new(64u << 20);      /* all memory there is: 64 MB */
    ae_model *m = ae_model_new(arena, 42);          /* 42: the seed of everything random */

    ae_tensor *x = ae_input(m, 1, 28, 28);          /* shapes are per sample */
    ae_tensor *h = ae_relu(ae_linear(x, 128));
    ae_tensor *z = ae_linear(h, 32);                /* the code: 784 pixels become 32 numbers */
    ae_tensor *d = ae_relu(ae_linear(z, 128));
    ae_tensor *y = ae_sigmoid(ae_linear(d, 784));   /* the reconstruction */
    ae_minimize(ae_mse(y, x, AE_MEAN));

    ae_dataset digits, test;
    if (ae_mnist_load(&digits, arena, "data") || ae_mnist_load_test(&test, arena, "data")
        || ae_build(m, 32, AE_TRAIN)) {
        fprintf(stderr, "%s\n", ae_error(m));       /* says which file or layer, and why */
        return 1;
    }
    ae_optim adam = {0};                            /* {0}: Adam with the usual defaults */
    for (int epoch = 1; epoch <= 20; epoch++)
        printf("epoch %2d  loss %.5f\n", epoch, (double)ae_epoch(m, &digits, &adam));

    float in[10 * 784], out[10 * 784];              /* ten test digits, encoded and decoded */
    ae_dataset_get(&test, in, NULL, 0, 10);
    ae_predict(m, y, out, in, 10);
    ae_image_row rows[2] = {{in, 0, 1, AE_GRAY}, {out, 0, 1, AE_GRAY}};

    if (ae_png_write(arena, "digits.png", ae_image_rows(arena, rows, 2, 10, 1, 28, 28, 3)))
        fprintf(stderr, "%s\n", ae_error(m));
    ae_arena_free(arena);
    return 0;
}
