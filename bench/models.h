/* The autoencoders that the benches train and run: the table in bench/README.md. One more is a
   function and a row here, and a branch of `network` in peers/torch_common.py. After ae.h. */
#ifndef BENCH_MODELS_H_INCLUDED
#define BENCH_MODELS_H_INCLUDED

enum { PIXELS = 784 };

// Each makes the network and its loss, and returns the reconstruction of x.
static inline ae_tensor *learn(ae_tensor *y, ae_tensor *x, float weight)
{
    ae_minimize_weighted(ae_mse(y, x, AE_MEAN), weight);
    return y;
}

static inline ae_tensor *deep(ae_tensor *x)
{
    ae_tensor *z = ae_linear(ae_relu(ae_linear(ae_relu(ae_linear(x, 256)), 128)), 32);
    ae_tensor *d = ae_relu(ae_linear(ae_relu(ae_linear(z, 128)), 256));
    return learn(ae_sigmoid(ae_linear(d, PIXELS)), x, 1);
}

static inline ae_tensor *features(ae_tensor *x)
{
    static const int width[] = {256, 128, 100, 128, 256, PIXELS};
    ae_tensor *y = x;
    for (int l = 0; l < 6; l++)
        y = ae_sigmoid(ae_linear(y, width[l]));
    return learn(y, x, 0.5f);
}

static inline ae_tensor *conv(ae_tensor *x)
{
    ae_tensor *h = ae_max_pool2d(ae_relu(ae_conv2d(x, 16, 3, 1, 1)), 2);
    ae_tensor *z = ae_max_pool2d(ae_relu(ae_conv2d(h, 32, 3, 1, 1)), 2);
    ae_tensor *d = ae_relu(ae_conv_transpose2d(z, 16, 2, 2, 0, 0));
    return learn(ae_sigmoid(ae_conv_transpose2d(d, 1, 2, 2, 0, 0)), x, 1);
}

static inline ae_tensor *denoise(ae_tensor *x)
{
    ae_tensor *h = ae_relu(ae_linear(ae_gaussian_noise(x, 0.2f, 0, 1), 128));
    ae_tensor *d = ae_relu(ae_linear(ae_relu(ae_linear(h, 64)), 128));
    return learn(ae_sigmoid(ae_linear(d, PIXELS)), x, 1);
}

// The variational one: what is minimised is the negative bound in nats.
static inline ae_tensor *vae(ae_tensor *x)
{
    ae_tensor *h = ae_relu(ae_linear(ae_relu(ae_linear(x, 512)), 256));
    ae_tensor *mu = ae_linear(h, 64), *logvar = ae_linear(h, 64);
    ae_tensor *z = ae_gaussian_sample(mu, logvar);
    ae_tensor *y = ae_linear(ae_relu(ae_linear(ae_relu(ae_linear(z, 256)), 512)), PIXELS);
    ae_minimize(ae_bce_logits(y, x, AE_BATCH_MEAN));
    ae_minimize(ae_kl_normal(mu, logvar, 0, AE_BATCH_MEAN));
    return ae_sigmoid(y);
}

typedef struct model {
    const char *name;
    ae_tensor *(*build)(ae_tensor *x);
    int batch;
    float lr;                   // of Adam
    double forward, first;      // multiply-adds of an image: of all layers, of the first one
    const char *share;          // the bar for the share of the peak in training, or NULL
} model;

// A convolution has weights x places: of its output, or of its input when it is transposed.
static const model models[] = {
    {"deep", deep, 128, 1e-3f, 2 * (784 * 256 + 256 * 128 + 128 * 32), 784 * 256, ">= 60"},
    {"features", features, 256, 1e-2f, 2 * (784 * 256 + 256 * 128 + 128 * 100), 784 * 256, NULL},
    {"conv", conv, 64, 1e-3f,
     16 * 9 * 784 + 32 * 16 * 9 * 196 + 32 * 16 * 4 * 49 + 16 * 4 * 196, 16 * 9 * 784, ">= 40"},
    {"denoise", denoise, 64, 1e-3f, 2 * (784 * 128 + 128 * 64), 784 * 128, NULL},
    {"vae", vae, 128, 1e-3f, 2 * (784 * 512 + 512 * 256) + 3 * 256 * 64, 784 * 512, NULL}
};
enum { MODELS = sizeof models / sizeof models[0] };

#endif /* BENCH_MODELS_H_INCLUDED */
