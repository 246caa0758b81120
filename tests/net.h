/* net.h: models built beside a record of their graph, so that a test can compute every value again
   in double, with code that has nothing of the library, and differentiate that. Needs test.h.

       net g;
       net_random(&g, arena, seed, 1);              // or net_begin, net_input, net_linear, ...
       ae_build(g.m, NET_BATCH, AE_TRAIN);
       net_data(&g, n, seed);                       // sets the inputs and labels of n samples
       ae_run(g.m, g.node[i].t, n);
       net_eval(&g);                                // -> net_value(&g, i), the weighted loss     */
#ifndef NET_H_INCLUDED
#define NET_H_INCLUDED

#include "test.h"

#define NET_FN static AE__UNUSED

/* Bit for bit, where the library promises it. */
#ifdef AE_USE_CBLAS
#define CHECK_SAME(got, want, n) CHECK_ARRAY(got, want, n, 1e-5, 1e-4)
#else
#define CHECK_SAME(got, want, n) CHECK_BITS(got, want, n)
#endif

typedef enum net_op {
    NET_INPUT, NET_LABELS, NET_LINEAR, NET_ACT, NET_SOFTMAX, NET_ADD, NET_CONCAT, NET_RESHAPE,
    NET_TIED, NET_TOP_K, NET_DENSITY
} net_op;

enum { NET_NODES = 72, NET_SIZE = 64, NET_BATCH = 6, NET_TERMS = 8, NET_CROSS_ENTROPY = 100 };

typedef struct net_node {
    int a, b;                   // inputs, -1: none
    int c, h, w;
    net_op op;
    ae_act act;
    ae_tensor *t;
} net_node;

typedef struct net_term {
    int y, t;
    int kind;                   // ae_loss_kind or NET_CROSS_ENTROPY
    int minimized;
    int before;                 // made before the node of this number
    float weight;
    ae_reduction reduction;
    ae_tensor *loss;
    double value;               // of the last net_eval
} net_term;

typedef struct net {
    ae_model *m;
    net_node node[NET_NODES];
    net_term term[NET_TERMS];
    int count, terms, labels;   // labels: the node, -1: none
    int n;                      // samples of the last net_data
    int32_t label[NET_BATCH];
    float *set[NET_NODES];      // values of inputs
} net;

/* --- building ------------------------------------------------------------- */

NET_FN size_t net_size(const net *g, int i)
{
    return (size_t)(g->node[i].c * g->node[i].h * g->node[i].w);
}

NET_FN int net_node_of(net *g, net_op op, ae_tensor *t, int a, int b)
{
    net_node *k = &g->node[g->count];
    char name[16];
    k->op = op;
    k->act = AE_ACT_IDENTITY;
    k->t = t;
    k->a = a;
    k->b = b;
    ae_shape(t, &k->c, &k->h, &k->w);
    snprintf(name, sizeof name, "n%d", g->count);
    ae_name(t, name);           // so that plans and errors can be read back
    return g->count++;
}

NET_FN void net_begin(net *g, ae_arena *arena, uint64_t seed)
{
    memset(g, 0, sizeof *g);
    g->labels = -1;
    g->m = ae_model_new(arena, seed);
}

NET_FN int net_input(net *g, int c, int h, int w)
{
    return net_node_of(g, NET_INPUT, ae_input(g->m, c, h, w), -1, -1);
}

NET_FN int net_labels(net *g)
{
    return g->labels = net_node_of(g, NET_LABELS, ae_labels(g->m), -1, -1);
}

NET_FN int net_linear(net *g, int a, int out)
{
    return net_node_of(g, NET_LINEAR, ae_linear(g->node[a].t, out), a, -1);
}

NET_FN int net_linear_no_bias(net *g, int a, int out)
{
    return net_node_of(g, NET_LINEAR, ae_linear_no_bias(g->node[a].t, out), a, -1);
}

NET_FN int net_act(net *g, int a, ae_act act)
{
    int i = net_node_of(g, NET_ACT, ae_activation(g->node[a].t, act, 0.7f), a, -1);
    g->node[i].act = act;
    return i;
}

NET_FN int net_softmax(net *g, int a)
{
    return net_node_of(g, NET_SOFTMAX, ae_softmax(g->node[a].t), a, -1);
}

NET_FN int net_add(net *g, int a, int b)
{
    return net_node_of(g, NET_ADD, ae_add(g->node[a].t, g->node[b].t), a, b);
}

NET_FN int net_concat(net *g, int a, int b)
{
    return net_node_of(g, NET_CONCAT, ae_concat(g->node[a].t, g->node[b].t), a, b);
}

NET_FN int net_reshape(net *g, int a, int c, int h, int w)
{
    return net_node_of(g, NET_RESHAPE, ae_reshape(g->node[a].t, c, h, w), a, -1);
}

/* The transpose of a linear node. */
NET_FN int net_tied(net *g, int a, int of)
{
    return net_node_of(g, NET_TIED, ae_tied(g->node[a].t, g->node[of].t), a, -1);
}

/* The largest half of a. */
NET_FN int net_top_k(net *g, int a)
{
    return net_node_of(g, NET_TOP_K, ae_top_k(g->node[a].t, (int)(net_size(g, a) + 1) / 2), a, -1);
}

/* ln N(a; b, e^b): three inputs, of which two are the same. */
NET_FN int net_density(net *g, int a, int b)
{
    ae_tensor *t = ae_log_normal(g->node[a].t, g->node[b].t, g->node[b].t);
    return net_node_of(g, NET_DENSITY, t, a, b);
}

/* weight 0: only monitored. */
NET_FN int net_loss(net *g, int kind, int y, int t, ae_reduction reduction, float weight)
{
    net_term *k = &g->term[g->terms];
    ae_tensor *p = g->node[y].t, *q = g->node[t].t;
    k->kind = kind;
    k->y = y;
    k->t = t;
    k->reduction = reduction;
    k->weight = weight;
    k->minimized = weight < 0 || weight > 0;
    k->before = g->count;
    switch (kind) {
    case AE_LOSS_MSE: k->loss = ae_mse(p, q, reduction); break;
    case AE_LOSS_L1: k->loss = ae_l1(p, q, reduction); break;
    case AE_LOSS_HUBER: k->loss = ae_huber(p, q, 0.3f, reduction); break;
    case AE_LOSS_SMOOTH_L1: k->loss = ae_smooth_l1(p, q, 0.3f, reduction); break;
    case AE_LOSS_BCE: k->loss = ae_bce(p, q, reduction); break;
    case AE_LOSS_BCE_LOGITS: k->loss = ae_bce_logits(p, q, reduction); break;
    default: k->loss = ae_cross_entropy(p, q, reduction); break;
    }
    if (k->minimized) ae_minimize_weighted(k->loss, weight);
    else ae_monitor(k->loss);
    return g->terms++;
}

/* --- the same in double --------------------------------------------------- */

NET_FN double net_activation(ae_act act, double x)
{
    const double a = (double)0.7f;
    switch (act) {
    case AE_ACT_RELU: return x > 0 ? x : 0;
    case AE_ACT_LEAKY_RELU: return x > 0 ? x : a * x;
    case AE_ACT_ELU: return x > 0 ? x : a * expm1(x);
    case AE_ACT_GELU: return 0.5 * x * (1 + erf(x / sqrt(2.0)));
    case AE_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979324) * (x + 0.044715 * x * x * x)));
    case AE_ACT_SILU: return x / (1 + exp(-x));
    case AE_ACT_SOFTPLUS: return log1p(exp(-fabs(x))) + (x > 0 ? x : 0);
    case AE_ACT_SIGMOID: return 1 / (1 + exp(-x));
    case AE_ACT_TANH: return tanh(x);
    default: return x;
    }
}

NET_FN double net_loss_term(int kind, double y, double t)
{
    const double a = (double)0.3f, d = y - t, s = fabs(d);
    switch (kind) {
    case AE_LOSS_MSE: return d * d;
    case AE_LOSS_L1: return s;
    case AE_LOSS_HUBER: return s < a ? d * d / 2 : a * (s - a / 2);
    case AE_LOSS_SMOOTH_L1: return s < a ? d * d / (2 * a) : s - a / 2;
    case AE_LOSS_BCE: return -t * log(y) - (1 - t) * log1p(-y);
    default: return log1p(exp(-fabs(y))) + (y > 0 ? y : 0) - y * t;
    }
}

static double net_values[NET_NODES][NET_BATCH * NET_SIZE];

NET_FN const double *net_value(const net *g, int i)
{
    (void)g;
    return net_values[i];
}

/* Whether a[i] is among the largest half of a (n). */
NET_FN int net_is_top(const double *a, size_t n, size_t i)
{
    size_t before = 0;
    for (size_t j = 0; j < n; j++) before += a[j] > a[i] || (j < i && !(a[j] < a[i]));
    return before < (n + 1) / 2;
}

/* Node i of sample s. */
NET_FN void net_eval_node(net *g, int i, int s)
{
    const net_node *k = &g->node[i];
    size_t size = net_size(g, i), in = k->a < 0 ? 0 : net_size(g, k->a);
    double *y = net_values[i] + (size_t)s * size;
    const double *a = k->a < 0 ? NULL : net_values[k->a] + (size_t)s * in;
    const double *b = k->b < 0 ? NULL : net_values[k->b] + (size_t)s * net_size(g, k->b);
    const float *w = ae_param_data(g->m, ae_weight(k->t));
    const float *bias = ae_param_data(g->m, ae_bias(k->t));
    double sum = 0;
    for (size_t j = 0; j < size; j++)
        switch (k->op) {
        case NET_INPUT: y[j] = (double)g->set[i][(size_t)s * size + j]; break;
        case NET_LINEAR:
            y[j] = bias ? (double)bias[j] : 0;
            for (size_t l = 0; l < in; l++) y[j] += (double)w[j * in + l] * a[l];
            break;
        case NET_ACT: y[j] = net_activation(k->act, a[j]); break;
        case NET_SOFTMAX: y[j] = exp(a[j]); sum += y[j]; break;
        case NET_ADD: y[j] = a[j] + b[j]; break;
        case NET_CONCAT: y[j] = j < in ? a[j] : b[j - in]; break;
        case NET_RESHAPE: y[j] = a[j]; break;
        case NET_TIED:
            y[j] = (double)bias[j];
            for (size_t l = 0; l < in; l++) y[j] += (double)w[l * size + j] * a[l];
            break;
        case NET_TOP_K: y[j] = net_is_top(a, in, j) ? a[j] : 0; break;
        case NET_DENSITY:
            for (size_t l = 0; l < in; l++)
                sum += b[l] + (a[l] - b[l]) * (a[l] - b[l]) * exp(-b[l]) + 1.8378770664093453;
            y[j] = -0.5 * sum;
            break;
        case NET_LABELS: default: break;
        }
    for (size_t j = 0; j < size && k->op == NET_SOFTMAX; j++) y[j] /= sum;
}

/* All nodes and terms of the n samples; returns the weighted sum of the minimised terms. */
NET_FN double net_eval(void *arg)
{
    net *g = (net *)arg;
    double total = 0;
    for (int i = 0; i < g->count; i++)
        for (int s = 0; s < g->n; s++) net_eval_node(g, i, s);
    for (int i = 0; i < g->terms; i++) {
        net_term *k = &g->term[i];
        size_t size = net_size(g, k->y), count = (size_t)g->n * size;
        const double *y = net_values[k->y], *t = net_values[k->t];
        k->value = 0;
        for (int s = 0; s < g->n && k->kind == NET_CROSS_ENTROPY; s++) {
            double sum = 0;
            for (size_t j = 0; j < size; j++) sum += exp(y[(size_t)s * size + j]);
            k->value += log(sum) - y[(size_t)s * size + (size_t)g->label[s]];
        }
        for (size_t j = 0; j < count && k->kind != NET_CROSS_ENTROPY; j++)
            k->value += net_loss_term(k->kind, y[j], t[j]);
        if (k->reduction == AE_BATCH_MEAN
            || (k->reduction == AE_MEAN && k->kind == NET_CROSS_ENTROPY)) k->value /= g->n;
        else if (k->reduction == AE_MEAN) k->value /= (double)count;
        if (k->minimized) total += (double)k->weight * k->value;
    }
    return total;
}

/* --- data ----------------------------------------------------------------- */

/* n samples for all inputs, into the record only (and labels). */
NET_FN void net_make_data(net *g, int n, uint32_t seed)
{
    g->n = n;
    for (int i = 0; i < g->count; i++)
        if (g->node[i].op == NET_INPUT)
            g->set[i] = DATA_IN((size_t)n * net_size(g, i), 0.02, 0.98, seed + (uint32_t)i);
    for (int i = 0; i < g->terms; i++)
        for (int s = 0; s < n && g->term[i].kind == NET_CROSS_ENTROPY; s++)
            g->label[s] = (int32_t)((seed + 3 * (uint32_t)s) % (uint32_t)net_size(g, g->term[i].y));
}

/* What net_make_data made, into a model of the same graph (g's own, or a fork of it). */
NET_FN void net_set_data(const net *g, ae_model *m)
{
    for (int i = 0; i < g->count; i++) {
        if (g->node[i].op == NET_INPUT)
            CHECK_INT(ae_set(m, g->node[i].t, g->set[i], g->n), AE_SUCCESS);
        if (g->node[i].op == NET_LABELS)
            CHECK_INT(ae_set(m, g->node[i].t, g->label, g->n), AE_SUCCESS);
    }
}

NET_FN void net_data(net *g, int n, uint32_t seed)
{
    net_make_data(g, n, seed);
    net_set_data(g, g->m);
}

/* --- random graphs -------------------------------------------------------- */

typedef struct net_dice { uint64_t state; } net_dice;

NET_FN int net_roll(net_dice *d, int sides)
{
    uint64_t h = d->state += 0x9E3779B97F4A7C15u;
    h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9u;
    h = (h ^ (h >> 27)) * 0x94D049BB133111EBu;
    return (int)((h ^ (h >> 31)) % (uint64_t)sides);
}

/* A node of the shape of node a, looked for from a random place on; a itself at worst. */
NET_FN int net_like(const net *g, net_dice *d, int a, int only_plane)
{
    int start = net_roll(d, g->count);
    for (int k = 0; k < g->count; k++) {
        int i = (start + k) % g->count;
        const net_node *p = &g->node[i], *q = &g->node[a];
        if (p->op != NET_LABELS && p->h == q->h && p->w == q->w && (only_plane || p->c == q->c))
            return i;
    }
    return a;
}

/* A linear node whose values are as many as a's, or -1. */
NET_FN int net_linear_like(const net *g, net_dice *d, int a)
{
    int start = net_roll(d, g->count);
    for (int k = 0; k < g->count; k++) {
        int i = (start + k) % g->count;
        if (g->node[i].op == NET_LINEAR && net_size(g, i) == net_size(g, a)) return i;
    }
    return -1;
}

/* One more node from random others. */
NET_FN void net_random_node(net *g, net_dice *d, int smooth)
{
    static const ae_act acts[] = {
        AE_ACT_IDENTITY, AE_ACT_GELU, AE_ACT_GELU_TANH, AE_ACT_SILU, AE_ACT_SOFTPLUS,
        AE_ACT_SIGMOID, AE_ACT_TANH, AE_ACT_RELU, AE_ACT_LEAKY_RELU, AE_ACT_ELU
    };
    int a = net_roll(d, 2) ? g->count - 1 : net_roll(d, g->count), b;
    const net_node *k = &g->node[a];
    switch (net_roll(d, 15)) {
    case 0: case 1: case 2: net_linear(g, a, 1 + net_roll(d, 7)); break;
    case 3: net_linear_no_bias(g, a, 1 + net_roll(d, 7)); break;
    case 4: case 5: case 6: net_act(g, a, acts[net_roll(d, smooth ? 7 : 10)]); break;
    case 7: case 8: net_add(g, a, net_like(g, d, a, 0)); break;
    case 9:
        b = net_like(g, d, a, 1);
        if (net_size(g, a) + net_size(g, b) <= 24) net_concat(g, a, b);
        else net_linear(g, a, 3);
        break;
    case 10: net_reshape(g, a, k->w, k->c, k->h); break;
    case 11:
        if ((b = net_linear_like(g, d, a)) >= 0) net_tied(g, a, b);
        else net_linear(g, a, 4);
        break;
    case 12: net_top_k(g, smooth ? net_softmax(g, 0) : a); break;   // of the input: no kink
    case 13:
        a = net_act(g, a, AE_ACT_TANH);
        net_density(g, a, net_act(g, net_like(g, d, a, 0), AE_ACT_SIGMOID));
        break;
    default: net_softmax(g, a); break;
    }
}

/* A random graph with its losses: one input, now and then labels; all operations; tensors that are
   read several times, twice by the same operation, and not at all. smooth: without kinks. */
NET_FN void net_random(net *g, ae_arena *arena, uint32_t seed, int smooth)
{
    static const int shapes[4][3] = { { 2, 3, 2 }, { 11, 1, 1 }, { 3, 1, 5 }, { 1, 4, 3 } };
    net_dice d;
    d.state = seed;
    net_begin(g, arena, seed + 1000);
    const int *shape = shapes[net_roll(&d, 4)];
    net_input(g, shape[0], shape[1], shape[2]);
    net_linear(g, 0, 2 + net_roll(&d, 6));
    for (int steps = 5 + net_roll(&d, 14); steps > 0; steps--) net_random_node(g, &d, smooth);
    int terms = 1 + net_roll(&d, 3);
    for (int i = 0; i < terms; i++) {
        int y = i == 0 ? g->count - 1 : 1 + net_roll(&d, g->count - 1);
        int t = net_linear(g, net_roll(&d, 2) ? 0 : net_roll(&d, g->count), (int)net_size(g, y));
        ae_reduction reduction = (ae_reduction)net_roll(&d, 3);
        float weight = i == 0 ? 1.0f : 0.25f * (float)(net_roll(&d, 8) - 2);
        int kind = net_roll(&d, 3);
        if (kind == 1) t = net_act(g, t, AE_ACT_SIGMOID);
        if (kind == 0) net_loss(g, AE_LOSS_MSE, y, t, reduction, weight);
        else net_loss(g, AE_LOSS_BCE_LOGITS, y, kind == 1 ? t : net_act(g, t, AE_ACT_SIGMOID),
                      reduction, weight);
    }
    if (net_roll(&d, 3) == 0) {
        int logits = net_linear(g, g->count - 1, 4);
        net_loss(g, NET_CROSS_ENTROPY, logits, net_labels(g), (ae_reduction)net_roll(&d, 3), 0.5f);
    }
    if (net_roll(&d, 2)) net_loss(g, AE_LOSS_L1, 1, 1, AE_MEAN, 0.0f);
}

/* --- arenas --------------------------------------------------------------- */

/* An arena of a guarded block full of NaN. */
NET_FN ae_arena *net_arena(size_t bytes)
{
    float *block = (float *)BLOCK((bytes + 3) / 4 * 4);
    test_refill(block, (bytes + 3) / 4);
    ae_arena *arena = (ae_arena *)(void *)BYTES(sizeof(ae_arena));
    CHECK_INT(ae_arena_init(arena, block, bytes), AE_SUCCESS);
    return arena;
}

NET_FN ae_optim net_optim(ae_optim_kind kind, float lr)
{
    ae_optim o;
    memset(&o, 0, sizeof o);
    o.kind = kind;
    o.lr = lr;
    return o;
}

#endif
