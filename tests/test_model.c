/* Graphs: built, planned, run, differentiated; forks; mistakes. */
#include "net.h"
#include <ctype.h>

enum { ROOM = 1 << 20, GRAPHS = 40 };

/* Graphs that stand for kinds of models. */
enum { DEEP, SKIPS, LOSSES, CLASSIFIER, TWICE, BARE, ZOO };

static void zoo(net *g, ae_arena *arena, int kind, uint64_t seed)
{
    int x, h, z, y, s;
    net_begin(g, arena, seed);
    switch (kind) {
    case DEEP:
        x = net_input(g, 1, 7, 5);
        h = net_act(g, net_linear(g, net_act(g, net_linear(g, x, 20), AE_ACT_RELU), 11),
                    AE_ACT_RELU);
        z = net_linear(g, h, 3);
        h = net_act(g, net_linear(g, net_act(g, net_linear(g, z, 11), AE_ACT_RELU), 20),
                    AE_ACT_RELU);
        y = net_act(g, net_linear(g, h, 35), AE_ACT_SIGMOID);
        net_loss(g, AE_LOSS_BCE, y, x, AE_BATCH_MEAN, 1.0f);
        break;
    case SKIPS:
        x = net_input(g, 2, 3, 4);
        h = net_reshape(g, net_act(g, net_linear(g, x, 24), AE_ACT_TANH), 2, 3, 4);
        s = net_add(g, h, x);
        z = net_linear(g, net_concat(g, s, h), 5);
        y = net_add(g, net_reshape(g, net_linear(g, z, 24), 2, 3, 4), s);
        net_loss(g, AE_LOSS_MSE, y, x, AE_MEAN, 1.0f);
        break;
    case LOSSES:
        x = net_input(g, 9, 1, 1);
        z = net_linear(g, net_act(g, net_linear(g, x, 8), AE_ACT_SILU), 4);
        y = net_linear(g, net_act(g, z, AE_ACT_GELU), 9);
        net_loss(g, AE_LOSS_HUBER, y, x, AE_SUM, 0.5f);
        net_loss(g, AE_LOSS_SMOOTH_L1, net_linear(g, x, 4), z, AE_BATCH_MEAN, 2.0f);
        net_loss(g, AE_LOSS_L1, y, x, AE_MEAN, 0.0f);
        net_loss(g, AE_LOSS_MSE, y, x, AE_MEAN, 1.0f);
        break;
    case CLASSIFIER:
        x = net_input(g, 3, 2, 2);
        h = net_act(g, net_linear(g, x, 10), AE_ACT_LEAKY_RELU);
        z = net_linear(g, h, 5);
        net_loss(g, NET_CROSS_ENTROPY, z, net_labels(g), AE_MEAN, 1.0f);
        net_softmax(g, z);
        net_loss(g, AE_LOSS_MSE, net_linear(g, h, 12), x, AE_BATCH_MEAN, 0.1f);
        break;
    case TWICE:
        x = net_input(g, 6, 1, 1);
        h = net_act(g, net_linear(g, x, 6), AE_ACT_TANH);
        s = net_concat(g, net_add(g, h, h), h);
        y = net_linear(g, net_concat(g, s, s), 6);
        net_loss(g, AE_LOSS_MSE, y, net_linear(g, h, 6), AE_MEAN, 1.0f);
        net_loss(g, AE_LOSS_MSE, y, x, AE_MEAN, 1.0f);
        break;
    default:                    // no loss, a tensor that nobody reads
        x = net_input(g, 4, 1, 1);
        net_linear(g, x, 30);
        net_linear_no_bias(g, net_act(g, x, AE_ACT_ELU), 3);
        break;
    }
}

static float *segment(ae_model *m, ae_segment s, size_t *floats)
{
    size_t bytes;
    float *p = (float *)ae_segment_data(m, s, &bytes);
    *floats = bytes / sizeof(float);
    return p;
}

static int minimizes(const net *g)
{
    int count = 0;
    for (int i = 0; i < g->terms; i++) count += g->term[i].minimized;
    return count;
}

/* One of everything that a built model can do. */
static void use(net *g, int batch, ae_mode mode)
{
    net_data(g, batch < NET_BATCH ? batch : NET_BATCH, 5);
    for (int i = 0; i < g->count; i++) {
        if (g->node[i].op == NET_LABELS) continue;
        CHECK_INT(ae_run(g->m, g->node[i].t, g->n), AE_SUCCESS);
        CHECK_FINITE(ae_get(g->m, g->node[i].t), (size_t)g->n * net_size(g, i));
    }
    if (mode == AE_INFER || !minimizes(g)) return;
    ae_optim adam = net_optim(AE_ADAM, 1e-3f);
    CHECK_INT(ae_forward(g->m, g->n), AE_SUCCESS);
    CHECK_INT(ae_backward(g->m, 1.0f), AE_SUCCESS);
    CHECK_INT(ae_step(g->m, &adam), AE_SUCCESS);
    CHECK_FINITE(ae_param_data(g->m, ae_param_at(g->m, 0)), ae_param_size(ae_param_at(g->m, 0)));
}

/* --- the plan ------------------------------------------------------------- */

/* Does the sentence hold the number? */
static int says(const char *text, size_t number)
{
    char digits[32];
    snprintf(digits, sizeof digits, "%lu", (unsigned long)number);
    for (const char *p = strstr(text, digits); p; p = strstr(p + 1, digits))
        if ((p == text || !isdigit((unsigned char)p[-1]))
            && !isdigit((unsigned char)p[strlen(digits)]))
            return 1;
    return 0;
}

TEST(model_plan_is_exact)
{
    static const int batches[] = { 1, 2, 5, 33 };
    for (int kind = 0; kind < ZOO; kind++)
        for (int b = 0; b < 4; b++)
            for (int mode = AE_INFER; mode <= AE_TRAIN; mode++) {
                net g;
                test_context("graph %d, batch %d, mode %d", kind, batches[b], mode);
                zoo(&g, net_arena(ROOM), kind, 1);
                size_t plan = ae_plan(g.m, batches[b], (ae_mode)mode);
                CHECK(plan > 0);
                // how much the graph takes is known once it is built in an arena of its own
                ae_arena *arena = net_arena(ROOM);
                zoo(&g, arena, kind, 1);
                size_t used = ae_arena_used(arena);
                CHECK_INT(ae_plan(g.m, batches[b], (ae_mode)mode), plan);
                CHECK_INT(ae_arena_used(arena), used);      // computed, not allocated
                REQUIRE(ae_build(g.m, batches[b], (ae_mode)mode) == AE_SUCCESS);
                CHECK_INT(ae_arena_used(arena), used + plan);
                CHECK_INT(ae_plan(g.m, batches[b], (ae_mode)mode), plan);
                // exactly so much
                arena = net_arena(used + plan);
                zoo(&g, arena, kind, 1);
                CHECK_INT(ae_build(g.m, batches[b], (ae_mode)mode), AE_SUCCESS);
                CHECK_INT(ae_arena_left(arena), 0);
                use(&g, batches[b], (ae_mode)mode);
                CHECK_GUARDS();
                // one byte fewer
                arena = net_arena(used + plan - 1);
                zoo(&g, arena, kind, 1);
                CHECK_INT(ae_build(g.m, batches[b], (ae_mode)mode), AE_E_MEMORY);
                CHECK_INT(ae_arena_used(arena), used);
                CHECK(says(ae_error(g.m), plan));
                CHECK(says(ae_error(g.m), plan - 1));
                CHECK_ERROR(ae_error(g.m), "scratch does not fit");     // the last there is
                for (unsigned char *p = arena->next; p < arena->end; p++)
                    if (*p != 0xA5 && *p != 0xC0 && *p != 0x7f) {
                        CHECK_STR("written", "");
                        break;
                    }
                // the failed build leaves a model that a smaller one fits
                if (batches[b] > 1) {
                    CHECK_INT(ae_build(g.m, batches[b] - 1, (ae_mode)mode), AE_SUCCESS);
                    use(&g, batches[b] - 1, (ae_mode)mode);
                }
                CHECK_GUARDS();
            }
}

TEST(model_plan_error_names_the_tensor)
{
    // with room for the parameters alone, the first that does not fit is their gradient; with one
    // byte less, the last parameter
    net g;
    ae_arena *arena = net_arena(ROOM);
    zoo(&g, arena, SKIPS, 1);
    size_t used = ae_arena_used(arena), params = 0;
    for (int i = 0; ae_param_at(g.m, i); i++)
        params += (ae_param_size(ae_param_at(g.m, i)) + 15) / 16 * 64;
    arena = net_arena(used + params);
    zoo(&g, arena, SKIPS, 1);
    CHECK_INT(ae_build(g.m, 3, AE_TRAIN), AE_E_MEMORY);
    CHECK_ERROR(ae_error(g.m), "n1.weight gradient does not fit");
    CHECK_ERROR(ae_error(g.m), "batch 3 in training");
    arena = net_arena(used + params - 64);
    zoo(&g, arena, SKIPS, 1);
    CHECK_INT(ae_build(g.m, 3, AE_INFER), AE_E_MEMORY);
    CHECK_ERROR(ae_error(g.m), ".bias does not fit");
    CHECK_ERROR(ae_error(g.m), "inference");
}

/* An arena of any size is either enough or refused, whatever step it ends in. */
TEST(model_arena_of_every_size)
{
    enum { MOST = 12000 };
    float *block = (float *)BLOCK(MOST + 64);
    ae_arena *arena = (ae_arena *)(void *)BYTES(sizeof(ae_arena));
    int enough = 0, built = 0;
    for (size_t bytes = 0; bytes <= MOST; bytes += bytes % 64 == 63 || bytes % 64 == 0 ? 1 : 31) {
        net g;
        test_context("%lu bytes", (unsigned long)bytes);
        test_refill(block, (MOST + 64) / 4);
        float kept[16];
        memcpy(kept, (char *)block + bytes / 4 * 4 + 4, sizeof kept - 4);
        ae_arena_init(arena, block, bytes);
        ae_model *m = ae_model_new(arena, 1);
        memset(&g, 0, sizeof g);
        if (m == NULL) CHECK_ERROR(ae_error(m), "ae_model_new");
        ae_tensor *x = ae_input(m, 3, 1, 1);
        ae_tensor *z = ae_tanh(ae_linear(x, 2));
        ae_tensor *y = ae_linear(ae_add(z, z), 3);
        ae_tensor *loss = ae_mse(y, x, AE_MEAN);
        ae_minimize(loss);
        ae_status status = ae_build(m, 2, AE_TRAIN);
        CHECK_INT(status, m == NULL ? AE_E_ARG : bytes >= (size_t)built && built ? AE_SUCCESS
                          : status == AE_SUCCESS ? AE_SUCCESS : AE_E_MEMORY);
        if (status == AE_SUCCESS && !built) built = (int)bytes;
        if (status) {
            CHECK(strlen(ae_error(m)) > 10);
            CHECK_INT(ae_model_status(m), AE_E_MEMORY);
            CHECK(ae_run(m, y, 1) != AE_SUCCESS);
            CHECK(ae_forward(m, 1) != AE_SUCCESS);
            CHECK(ae_get(m, y) == NULL);
        } else {
            enough++;
            CHECK_INT(ae_set(m, x, kept, 0), AE_E_ARG);
            float values[6] = { 1, 2, 3, 4, 5, 6 };
            CHECK_INT(ae_set(m, x, values, 2), AE_SUCCESS);
            CHECK_INT(ae_forward(m, 2), AE_SUCCESS);
            CHECK_INT(ae_backward(m, 1), AE_SUCCESS);
        }
        CHECK(!memcmp(kept, (char *)block + bytes / 4 * 4 + 4, sizeof kept - 4));
    }
    CHECK(built > 2000 && enough > 10);
}

typedef struct entry { char name[100]; ae_segment segment; size_t offset, bytes; } entry;
typedef struct entries { entry list[400]; int count; } entries;

static void keep_entry(void *user, const ae_plan_entry *e)
{
    entries *all = (entries *)user;
    if (all->count == 400) return;
    entry *k = &all->list[all->count++];
    snprintf(k->name, sizeof k->name, "%s", e->name);
    k->segment = e->segment;
    k->offset = e->offset;
    k->bytes = e->bytes;
}

/* When the value or gradient called NAME is in use. Node i is computed at time 2i, a loss between
   the nodes around it, and the backward pass goes the same way back. */
static int lifetime(const net *g, const char *name, ae_mode mode, int *from, int *to)
{
    int i = 0, towards[NET_NODES], last[2];     // last reader: of all, of those towards a loss
    const int end = 4 * NET_NODES;
    if (sscanf(name, "n%d", &i) != 1 || strchr(name, '.') || i >= g->count) return 0;
    last[0] = last[1] = 2 * i;
    for (int k = g->count - 1; k >= i; k--) {
        towards[k] = 0;
        for (int r = 0; r < g->terms; r++)
            if (g->term[r].y == k || g->term[r].t == k) {
                int at = 2 * g->term[r].before - 1;
                towards[k] |= g->term[r].minimized;
                if (k == i && at > last[0]) last[0] = at;
                if (k == i && g->term[r].minimized && at > last[1]) last[1] = at;
            }
        for (int r = k + 1; r < g->count; r++)
            if (g->node[r].a == k || g->node[r].b == k) {
                towards[k] |= towards[r];
                if (k == i && 2 * r > last[0]) last[0] = 2 * r;
                if (k == i && towards[r] && 2 * r > last[1]) last[1] = 2 * r;
            }
    }
    int stays = mode == AE_TRAIN || g->node[i].op == NET_INPUT || g->node[i].op == NET_LABELS;
    int gradient = strstr(name, " gradient") != NULL;
    *from = gradient ? end - last[1] : g->node[i].op == NET_INPUT ? 0 : 2 * i;
    if (stays && !gradient) *from = 0;      // an input of the graph is set at any time
    *to = gradient ? end - 2 * i : stays ? end : last[0];
    return 1;
}

// Whether `i`'s values may lie where those of node `to` lay: activations and reshapes lead from one
// to the other, and nobody else reads what lies between.
static int in_place(const net *g, const char *one, const char *other)
{
    int i = 0, to = 0;
    if (sscanf(one, "n%d", &i) != 1 || sscanf(other, "n%d", &to) != 1
        || !strstr(one, " gradient") != !strstr(other, " gradient")) return 0;
    if (i < to) { int swap = i; i = to; to = swap; }
    while (i > to && (g->node[i].op == NET_ACT || g->node[i].op == NET_RESHAPE)) {
        int readers = 0;
        i = g->node[i].a;
        for (int r = 0; r < g->count; r++)
            readers += (g->node[r].a == i) + (g->node[r].b == i);
        for (int r = 0; r < g->terms; r++)
            readers += (g->term[r].y == i) + (g->term[r].t == i);
        if (readers != 1 || g->node[i].op == NET_INPUT) return 0;
    }
    return i == to;
}

TEST(model_plan_entries)
{
    entries *all = (entries *)(void *)BYTES(sizeof(entries));
    for (int seed = 0; seed < ZOO + GRAPHS; seed++)
        for (int mode = AE_INFER; mode <= AE_TRAIN; mode++) {
            net g;
            test_context("graph %d, mode %d", seed, mode);
            ae_arena *arena = net_arena(ROOM);
            if (seed < ZOO) zoo(&g, arena, seed, 1);
            else net_random(&g, arena, (uint32_t)seed, 0);
            all->count = 0;
            size_t plan = ae_plan_each(g.m, 5, (ae_mode)mode, keep_entry, all);
            CHECK_INT(plan, ae_plan(g.m, 5, (ae_mode)mode));
            REQUIRE(all->count > 0 && all->count < 400);
            REQUIRE(ae_build(g.m, 5, (ae_mode)mode) == AE_SUCCESS);
            size_t total = 0, bytes;
            for (int s = 0; s < AE_SEG_COUNT; s++) {
                ae_segment_data(g.m, (ae_segment)s, &bytes);
                total += bytes;
                CHECK_INT(bytes % AE_ALIGN, 0);
            }
            CHECK_INT(total, plan);
            int values = 0, gradients = 0, params = 0;
            for (int i = 0; i < all->count; i++) {
                const entry *e = &all->list[i];
                ae_segment_data(g.m, e->segment, &bytes);
                CHECK(e->offset + e->bytes <= bytes);
                CHECK_INT(e->offset % AE_ALIGN, 0);
                CHECK(e->bytes > 0);
                values += e->segment == AE_SEG_ACT && !strstr(e->name, "gradient")
                          && strncmp(e->name, "kept", 4) != 0;      // a mask of top_k
                gradients += e->segment == AE_SEG_ACT && strstr(e->name, "gradient");
                params += e->segment == AE_SEG_PARAM;
                if (e->segment == AE_SEG_PARAM) {   // the name leads to the place
                    char *base = (char *)ae_segment_data(g.m, AE_SEG_PARAM, NULL);
                    ae_param *p = ae_param_find(g.m, e->name);
                    REQUIRE(p != NULL);
                    CHECK((char *)ae_param_data(g.m, p) == base + e->offset);
                    CHECK_INT(e->bytes, ae_param_size(p) * sizeof(float));
                }
                for (int k = 0; k < i; k++) {
                    const entry *o = &all->list[k];
                    int a, b, c, d;
                    if (o->segment != e->segment || o->offset >= e->offset + e->bytes
                        || e->offset >= o->offset + o->bytes)
                        continue;
                    if (!CHECK(e->segment == AE_SEG_ACT)) continue;
                    if (lifetime(&g, e->name, (ae_mode)mode, &a, &b)
                        && lifetime(&g, o->name, (ae_mode)mode, &c, &d)
                        && !CHECK(b < c || d < a || in_place(&g, e->name, o->name)))
                        printf("  %s and %s\n", e->name, o->name);
                }
            }
            CHECK_INT(values, g.count);
            CHECK_INT(params, ae_param_at(g.m, params - 1) && !ae_param_at(g.m, params) ? params
                              : -1);
            if (mode == AE_INFER) CHECK_INT(gradients, 0);
            CHECK(mode == AE_TRAIN || ae_plan(g.m, 5, AE_TRAIN) > plan);
        }
}

/* Inference does not keep what nobody reads any more: a deep chain needs two buffers. */
TEST(model_inference_reuses_memory)
{
    ae_model *m = ae_model_new(net_arena(ROOM), 1);
    ae_tensor *x = ae_input(m, 16, 1, 1), *h = x;
    for (int i = 0; i < 30; i++) h = ae_tanh(ae_linear(h, 16));
    REQUIRE(ae_build(m, 10, AE_INFER) == AE_SUCCESS);
    size_t floats;
    segment(m, AE_SEG_ACT, &floats);
    CHECK_INT(floats, 3 * 10 * 16);     // the input stays, and two take turns
    segment(m, AE_SEG_GRAD, &floats);
    CHECK_INT(floats, 0);
    segment(m, AE_SEG_OPT, &floats);
    CHECK_INT(floats, 0);
    CHECK(ae_param_grad(m, ae_param_at(m, 0)) == NULL);
    CHECK(ae_segment_data(m, AE_SEG_COUNT, NULL) == NULL);
}

TEST(model_reserve_optim)
{
    size_t plan[3];
    for (int states = 0; states < 3; states++) {
        net g;
        zoo(&g, net_arena(ROOM), DEEP, 1);
        ae_reserve_optim(g.m, states);
        plan[states] = ae_plan(g.m, 3, AE_TRAIN);
        REQUIRE(ae_build(g.m, 3, AE_TRAIN) == AE_SUCCESS);
        size_t param, opt;
        segment(g.m, AE_SEG_PARAM, &param);
        segment(g.m, AE_SEG_OPT, &opt);
        CHECK_INT(opt, param * (size_t)states);
        net_data(&g, 3, 1);
        CHECK_INT(ae_forward(g.m, 3), AE_SUCCESS);
        CHECK_INT(ae_backward(g.m, 1.0f), AE_SUCCESS);
        ae_optim adam = net_optim(AE_ADAM, 0), sgd = net_optim(AE_SGD, 0.1f);
        ae_optim adagrad = net_optim(AE_ADAGRAD, 0);
        CHECK_INT(ae_step(g.m, &sgd), AE_SUCCESS);
        CHECK_INT(ae_step(g.m, &adagrad), states >= 1 ? AE_SUCCESS : AE_E_ARG);
        CHECK_INT(ae_step(g.m, &adam), states >= 2 ? AE_SUCCESS : AE_E_ARG);
        if (states < 2) CHECK_ERROR(ae_error(g.m), "ae_reserve_optim");
    }
    CHECK_INT(plan[2] - plan[1], plan[1] - plan[0]);
    CHECK(plan[1] > plan[0]);
}

/* --- values --------------------------------------------------------------- */

/* Every tensor of random graphs equals the reference in double. Values are of size 1 to 100 and
   pass through at most 20 operations: 1e-5 is some tens of roundings. */
TEST(model_values)
{
    for (uint32_t seed = 0; seed < ZOO + GRAPHS; seed++) {
        net g;
        test_context("graph %d", (int)seed);
        if (seed < ZOO) zoo(&g, net_arena(ROOM), (int)seed, 7);
        else net_random(&g, net_arena(ROOM), seed, 0);
        REQUIRE(ae_build(g.m, NET_BATCH, AE_TRAIN) == AE_SUCCESS);
        net_data(&g, 1 + (int)seed % NET_BATCH, seed);
        double total = net_eval(&g);
        for (int i = g.count - 1; i >= 0; i--) {
            if (g.node[i].op == NET_LABELS) continue;
            CHECK_INT(ae_run(g.m, g.node[i].t, g.n), AE_SUCCESS);
            CHECK_REF(ae_get(g.m, g.node[i].t), net_value(&g, i), (size_t)g.n * net_size(&g, i),
                      1e-5, 1e-5);
        }
        if (!minimizes(&g)) continue;
        CHECK_INT(ae_forward(g.m, g.n), AE_SUCCESS);
        CHECK_CLOSE(ae_batch_loss(g.m, NULL), total, 2e-5 + 2e-5 * fabs(total));
        for (int i = 0; i < g.terms; i++)
            CHECK_CLOSE(ae_batch_loss(g.m, g.term[i].loss), g.term[i].value,
                        2e-5 + 2e-5 * fabs(g.term[i].value));
        float *value = ae_get(g.m, g.term[0].loss), single = ae_batch_loss(g.m, g.term[0].loss);
        CHECK_BITS(value, &single, 1);
    }
}

/* Buffers that are reused hold what buffers that are kept do, to the bit. */
TEST(model_inference_equals_training)
{
    for (uint32_t seed = 0; seed < ZOO + GRAPHS; seed++) {
        net g, f;
        test_context("graph %d", (int)seed);
        if (seed < ZOO) zoo(&g, net_arena(ROOM), (int)seed, 7);
        else net_random(&g, net_arena(ROOM), seed, 0);
        if (seed < ZOO) zoo(&f, net_arena(ROOM), (int)seed, 7);
        else net_random(&f, net_arena(ROOM), seed, 0);
        REQUIRE(ae_build(g.m, NET_BATCH, AE_TRAIN) == AE_SUCCESS);
        REQUIRE(ae_build(f.m, NET_BATCH, AE_INFER) == AE_SUCCESS);
        net_data(&g, 1 + (int)seed % NET_BATCH, seed);
        net_data(&f, g.n, seed);
        for (int i = 0; i < g.count; i++) {
            size_t count = (size_t)g.n * net_size(&g, i);
            CHECK_INT(ae_run(f.m, f.node[i].t, g.n), AE_SUCCESS);
            float *kept = COPY(ae_get(f.m, f.node[i].t), count);
            CHECK_INT(ae_run(g.m, g.node[i].t, g.n), AE_SUCCESS);
            CHECK_SAME(kept, ae_get(g.m, g.node[i].t), count);
        }
        for (int i = 0; i < g.terms; i++) {
            CHECK_INT(ae_run(f.m, f.term[i].loss, g.n), AE_SUCCESS);
            CHECK_INT(ae_run(g.m, g.term[i].loss, g.n), AE_SUCCESS);
            CHECK_SAME(ae_get(f.m, f.term[i].loss), ae_get(g.m, g.term[i].loss), 1);
        }
        // inputs hold to the end
        for (int i = 0; i < g.count; i++)
            if (g.node[i].op == NET_INPUT)
                CHECK_BITS(ae_get(f.m, f.node[i].t), f.set[i], (size_t)g.n * net_size(&f, i));
    }
}

/* Does node t depend on node z? */
static int depends(const net *g, int t, int z)
{
    return t == z || (t > z && ((g->node[t].a >= 0 && depends(g, g->node[t].a, z))
                                || (g->node[t].b >= 0 && depends(g, g->node[t].b, z))));
}

/* Fed z's own values, everything behind z is as in a whole run, also what reaches around z. */
TEST(model_run_from)
{
    for (uint32_t seed = 0; seed < ZOO + GRAPHS; seed++)
        for (int mode = AE_INFER; mode <= AE_TRAIN; mode++) {
            net g;
            test_context("graph %d, mode %d", (int)seed, mode);
            if (seed < ZOO) zoo(&g, net_arena(ROOM), (int)seed, 7);
            else net_random(&g, net_arena(ROOM), seed, 0);
            REQUIRE(ae_build(g.m, 3, (ae_mode)mode) == AE_SUCCESS);
            net_data(&g, 3, seed);
            float *whole[NET_NODES];
            for (int i = 0; i < g.count; i++) {
                CHECK_INT(ae_run(g.m, g.node[i].t, 3), AE_SUCCESS);
                whole[i] = COPY(ae_get(g.m, g.node[i].t), 3 * net_size(&g, i));
            }
            for (int z = 0; z < g.count; z++)
                for (int t = z; t < g.count; t++) {
                    if (g.node[z].op == NET_LABELS || g.node[t].op == NET_LABELS) continue;
                    ae_status status = ae_run_from(g.m, g.node[z].t, whole[z], g.node[t].t, 3);
                    if (depends(&g, t, z)) {
                        CHECK_INT(status, AE_SUCCESS);
                        CHECK_SAME(ae_get(g.m, g.node[t].t), whole[t], 3 * net_size(&g, t));
                    } else {
                        CHECK_INT(status, AE_E_ARG);
                        CHECK_ERROR(ae_error(g.m), "does not depend on");
                    }
                }
        }
}

/* codes NULL: what z holds. In AE_INFER that may be refused, but it is never silently wrong. */
TEST(model_run_from_what_z_holds)
{
    for (int mode = AE_INFER; mode <= AE_TRAIN; mode++)
        for (int kind = 0; kind < ZOO; kind++) {
            net g;
            test_context("graph %d, mode %d", kind, mode);
            zoo(&g, net_arena(ROOM), kind, 3);
            REQUIRE(ae_build(g.m, 2, (ae_mode)mode) == AE_SUCCESS);
            net_data(&g, 2, 4);
            int y = g.count - 1;
            while (g.node[y].op == NET_LABELS) y--;
            CHECK_INT(ae_run(g.m, g.node[y].t, 2), AE_SUCCESS);
            float *want = COPY(ae_get(g.m, g.node[y].t), 2 * net_size(&g, y));
            for (int z = 1; z < y; z++) {
                if (!depends(&g, y, z)) continue;
                CHECK_INT(ae_run(g.m, g.node[z].t, 2), AE_SUCCESS);
                ae_status status = ae_run_from(g.m, g.node[z].t, NULL, g.node[y].t, 2);
                if (status == AE_SUCCESS)
                    CHECK_SAME(ae_get(g.m, g.node[y].t), want, 2 * net_size(&g, y));
                else        // its place had to be reused by what reaches y around z
                    CHECK(status == AE_E_ARG && mode == AE_INFER && kind == SKIPS);
                // the same by the pointer
                CHECK_INT(ae_run(g.m, g.node[z].t, 2), AE_SUCCESS);
                CHECK_INT(ae_run_from(g.m, g.node[z].t, ae_get(g.m, g.node[z].t), g.node[y].t, 2),
                          status);
                if (status == AE_SUCCESS)
                    CHECK_SAME(ae_get(g.m, g.node[y].t), want, 2 * net_size(&g, y));
            }
        }
}

/* relu is computed where its linear layer was: one's values are there, or the other's, never one
   for the other. */
TEST(model_values_computed_over)
{
    for (int mode = AE_INFER; mode <= AE_TRAIN; mode++) {
        ae_model *m = ae_model_new(net_arena(ROOM), 1);
        ae_tensor *x = ae_input(m, 5, 1, 1), *a = ae_linear(x, 3), *r = ae_relu(a);
        ae_tensor *y = ae_linear(r, 5);
        ae_minimize(ae_mse(y, x, AE_MEAN));
        REQUIRE(ae_build(m, 2, (ae_mode)mode) == AE_SUCCESS);
        float *data = DATA(10, 1), *codes = DATA(6, 2), *want;
        CHECK_INT(ae_set(m, x, data, 2), AE_SUCCESS);
        CHECK_INT(ae_run(m, a, 2), AE_SUCCESS);
        float *before = COPY(ae_get(m, a), 6);
        CHECK_INT(ae_run(m, y, 2), AE_SUCCESS);
        CHECK(ae_get(m, a) == NULL);
        CHECK_ERROR(ae_error(m), "relu");
        CHECK_INT(ae_run_from(m, a, NULL, y, 2), AE_E_ARG);
        CHECK_INT(ae_run(m, r, 2), AE_SUCCESS);
        for (int i = 0; i < 6; i++) CHECK(ae_get(m, r)[i] == (before[i] > 0 ? before[i] : 0));
        CHECK_INT(ae_set(m, a, codes, 2), AE_SUCCESS);
        CHECK_SAME(ae_get(m, a), codes, 6);
        CHECK_INT(ae_run_from(m, a, NULL, y, 2), AE_SUCCESS);
        want = COPY(ae_get(m, y), 10);
        CHECK_INT(ae_run_from(m, a, codes, y, 2), AE_SUCCESS);
        CHECK_SAME(ae_get(m, y), want, 10);
        CHECK(ae_get(m, a) == NULL);
        if (mode == AE_INFER) continue;
        CHECK_INT(ae_forward(m, 2), AE_SUCCESS);
        CHECK(ae_get(m, a) == NULL && ae_get(m, r) != NULL);
    }
}

/* Layers of pictures run on a few samples at a time; a batch of one has no others. */
enum { LARGE_TENSORS = 8, LARGE_BATCH = 7 };

typedef struct large {
    ae_model *m;
    ae_tensor *x, *target, *t[LARGE_TENSORS];
} large;

static large large_net(int side, int channels, float noise, int batch, ae_mode mode,
                       const ae_exec *e)
{
    large g;
    ae_tensor **t = g.t;
    g.m = ae_model_new(net_arena((size_t)64 << 20), 1);
    g.x = ae_input(g.m, 1, side, side);
    g.target = ae_input(g.m, 1, side, side);
    t[0] = ae_gaussian_noise(g.x, noise, 0, 0);
    t[1] = ae_relu(ae_group_norm(ae_conv2d(t[0], channels, 3, 1, 1), 2, NULL));
    t[2] = ae_max_pool2d(t[1], 2);
    t[3] = ae_silu(ae_conv2d(t[2], channels, 3, 1, 1));
    t[4] = ae_max_unpool2d(t[3], t[2]);
    t[5] = ae_upsample_nearest(ae_avg_pool2d(t[4], 2), 2);
    t[6] = ae_add(t[5], ae_reshape(t[4], channels, side, side));
    t[7] = ae_sigmoid(ae_conv2d(t[6], 1, 1, 1, 0));
    if (mode == AE_TRAIN) ae_minimize(ae_mse(t[7], g.target, AE_SUM));
    CHECK_INT(ae_set_exec(g.m, e), AE_SUCCESS);
    REQUIRE(ae_build(g.m, batch, mode) == AE_SUCCESS);
    return g;
}

static void large_forward(const large *g, const float *x, const float *target, int n)
{
    CHECK_INT(ae_set(g->m, g->x, x, n), AE_SUCCESS);
    CHECK_INT(ae_set(g->m, g->target, target, n), AE_SUCCESS);
    CHECK_INT(ae_forward(g->m, n), AE_SUCCESS);
}

static void large_pictures(int side)
{
    enum { N = LARGE_BATCH };
    const int SIZE = side * side;
    const ae_exec *e = test_exec_bare();
    const large all = large_net(side, 8, 0.1f, N, AE_TRAIN, e);
    const large alone = large_net(side, 8, 0.0f, 1, AE_TRAIN, e);
    const large infer = large_net(side, 8, 0.0f, N, AE_INFER, e);
    float *data = DATA_IN(N * SIZE, 0, 1, 1);
    for (int i = 0; i < 2; i++) {           // the second finds what the first one left
        ae_zero_grad(all.m);
        large_forward(&all, data, data, N);
        CHECK_INT(ae_backward(all.m, 1), AE_SUCCESS);
    }
    float *given = COPY(ae_get(all.m, all.t[0]), N * SIZE);
    double sum = 0;
    int alike = 0;              // every sample has noise of its own
    for (int i = 0; i < N * SIZE; i++) {
        sum += fabs((double)given[i] - (double)data[i]);
        alike += i >= SIZE && fabs((double)given[i] - (double)data[i] - (double)given[i - SIZE]
                                   + (double)data[i - SIZE]) < 1e-6;
    }
    CHECK_CLOSE(sum / (N * SIZE), 0.1 * sqrt(2 / 3.14159265), 2e-3);
    CHECK(alike < 10);
    for (int i = 0; i < N; i++) {
        large_forward(&alone, given + i * SIZE, data + i * SIZE, 1);
        CHECK_SAME(ae_get(alone.m, alone.t[7]), ae_get(all.m, all.t[7]) + i * SIZE, SIZE);
        CHECK_INT(ae_backward(alone.m, 1), AE_SUCCESS);
    }
    for (int i = 0; ae_param_at(all.m, i); i++) {
        ae_param *p = ae_param_at(all.m, i), *q = ae_param_at(alone.m, i);
        CHECK_ARRAY_L2(ae_param_grad(all.m, p), ae_param_grad(alone.m, q), ae_param_size(p), 1e-5);
    }
    CHECK_INT(ae_set(infer.m, infer.x, given, N), AE_SUCCESS);
    for (int k = 1; k < LARGE_TENSORS; k++) {       // every tensor may be the result
        test_context("tensor %d", k);
        CHECK_INT(ae_run(infer.m, infer.t[k], N), AE_SUCCESS);
        CHECK_SAME(ae_get(infer.m, infer.t[k]), ae_get(all.m, all.t[k]), N * ae_size(all.t[k]));
    }
    float *codes = COPY(ae_get(all.m, all.t[6]), N * ae_size(all.t[6]));    // and codes for any
    CHECK_INT(ae_run_from(infer.m, infer.t[6], codes, infer.t[7], N), AE_SUCCESS);
    CHECK_SAME(ae_get(infer.m, infer.t[7]), ae_get(all.m, all.t[7]), N * SIZE);
}

// One picture at a time; or two.
TEST(model_large_pictures_in_chunks)
{
    large_pictures(64);
    large_pictures(32);
}

/* Which thread takes which samples changes nothing, with few weights, whose gradient has several
   sums, or many, where it has one; nor do threads that the plan knew nothing of. */
TEST(model_large_pictures_same_bits_for_any_threads)
{
    static const struct { int side, channels, n; } nets[] = {
        { 48, 8, LARGE_BATCH }, { 32, 8, 5 }, { 16, 88, 3 }
    };
    for (int k = 0; k < 3; k++) {
        const int n = nets[k].n, size = nets[k].side * nets[k].side;
        float *want = NULL, *values = NULL;
        size_t floats;
        for (int e = 1; e < TEST_EXECS + 1; e += k < 2 ? 1 : 3) {
            const int later = e == TEST_EXECS;
            const ae_exec *exec = test_exec_at(later ? 1 : e);
            test_context("net %d, %s", k, later ? "5 threads later" : test_exec_text(e));
            large g = large_net(nets[k].side, nets[k].channels, 0.1f, LARGE_BATCH, AE_TRAIN, exec);
            float *data = DATA_IN(LARGE_BATCH * size, 0, 1, 1);
            ae_optim adam = net_optim(AE_ADAM, 1e-3f);
            if (later) CHECK_INT(ae_set_threads(g.m, 5), AE_SUCCESS);
            for (int i = 0; i < 2; i++) {
                ae_zero_grad(g.m);
                large_forward(&g, data, data, n);
                CHECK_INT(ae_backward(g.m, 1), AE_SUCCESS);
                CHECK_INT(ae_step(g.m, &adam), AE_SUCCESS);
            }
            float *p = segment(g.m, AE_SEG_PARAM, &floats);
            if (e == 1) {
                want = COPY(p, floats);
                values = COPY(ae_get(g.m, g.t[7]), n * size);
                CHECK_FINITE(want, floats);
            }
            CHECK_BITS(p, want, floats);
            CHECK_BITS(ae_get(g.m, g.t[7]), values, n * size);
        }
    }
}

/* A run's weights need not be neighbours: those of the last layer are those of the first. */
TEST(model_large_pictures_tied)
{
    enum { N = 5, SIDE = 64, SIZE = SIDE * SIDE };
    ae_model *m[2];
    ae_tensor *x[2];
    float *data = DATA_IN(N * SIZE, 0, 1, 1);
    for (int alone = 0; alone < 2; alone++) {
        m[alone] = ae_model_new(net_arena((size_t)64 << 20), 1);
        x[alone] = ae_input(m[alone], 1, SIDE, SIDE);
        ae_tensor *first = ae_conv2d(x[alone], 8, 3, 1, 1);
        ae_tensor *h = ae_linear(ae_linear(ae_avg_pool2d(ae_tanh(first), 8), 16), 8 * 8 * 8);
        h = ae_upsample_nearest(ae_reshape(h, 8, 8, 8), 8);
        ae_minimize(ae_mse(ae_tied(ae_tanh(ae_conv2d(h, 8, 3, 1, 1)), first), x[alone], AE_SUM));
        REQUIRE(ae_build(m[alone], alone ? 1 : N, AE_TRAIN) == AE_SUCCESS);
        for (int i = 0; i < N; i += alone ? 1 : N) {
            CHECK_INT(ae_set(m[alone], x[alone], data + i * SIZE, alone ? 1 : N), AE_SUCCESS);
            CHECK_INT(ae_forward(m[alone], alone ? 1 : N), AE_SUCCESS);
            CHECK_INT(ae_backward(m[alone], 1), AE_SUCCESS);
        }
    }
    for (int i = 0; ae_param_at(m[0], i); i++) {
        ae_param *p = ae_param_at(m[0], i), *q = ae_param_at(m[1], i);
        CHECK_ARRAY_L2(ae_param_grad(m[0], p), ae_param_grad(m[1], q), ae_param_size(p), 1e-5);
    }
}

/* Gradients that stay within a run take the room of its chunks, not of the batch: each sample more
   takes that of its values, and of the gradient that the loss hands over. */
TEST(model_large_pictures_memory)
{
    ae_model *m = ae_model_new(net_arena(ROOM), 1);
    ae_tensor *x = ae_input(m, 1, 64, 64);
    ae_tensor *h = ae_max_pool2d(ae_relu(ae_conv2d(x, 8, 3, 1, 1)), 2);
    ae_minimize(ae_mse(ae_conv_transpose2d(ae_relu(ae_conv2d(h, 8, 3, 1, 1)), 1, 2, 2, 0, 0), x,
                       AE_MEAN));
    const size_t pixels = 64 * 64, floats = pixels * (1 + 8 + 2 + 2 + 2 + 1 + 1);
    const size_t more = ae_plan(m, 128, AE_TRAIN) - ae_plan(m, 64, AE_TRAIN);
    CHECK_STR(ae_error(m), "");
    CHECK(more >= 64 * floats * sizeof(float));
    CHECK(more <= 64 * (floats + 64) * sizeof(float));
    CHECK_INT(ae_plan(m, 2147483647, AE_TRAIN) > more, 1);      // and no batch is too large to plan
}

/* Of several samples that are wrong the first one is told, with any threads. */
TEST(model_large_pictures_error_of_the_first)
{
    enum { N = 8, SIDE = 200 };
    for (int e = 1; e < TEST_EXECS; e += 3) {
        test_context("%s", test_exec_text(e));
        ae_model *m = ae_model_new(net_arena((size_t)64 << 20), 1);
        ae_tensor *x = ae_input(m, SIDE * SIDE, 1, 1), *l = ae_labels(m);
        ae_tensor *y = ae_concat(ae_tanh(x), ae_one_hot(l, 3));
        int32_t labels[N] = { 0, 1, 2, 0, 1, 4, 2, 3 };
        CHECK_INT(ae_set_exec(m, test_exec_at(e)), AE_SUCCESS);
        ae_minimize(ae_mse(y, y, AE_SUM));
        REQUIRE(ae_build(m, N, AE_TRAIN) == AE_SUCCESS);
        CHECK_INT(ae_set(m, x, DATA(N * SIDE * SIDE, 1), N), AE_SUCCESS);
        CHECK_INT(ae_set(m, l, labels, N), AE_SUCCESS);
        CHECK_INT(ae_run(m, y, N), AE_E_ARG);
        CHECK_ERROR(ae_error(m), "one_hot1: label 4 of sample 5 is not in 0 ... 2");
        CHECK_INT(ae_model_status(m), AE_E_ARG);
        CHECK_INT(ae_run(m, y, 5), AE_SUCCESS);
        CHECK_CLOSE(ae_get(m, y)[5 * (SIDE * SIDE + 3) - 2], 1, 0);
    }
}

/* The gradient of one sample alone overflows: the others' outputs are below ReLU's zero. */
TEST(model_large_pictures_nonfinite_gradient)
{
    enum { N = 7, SIDE = 200, BAD = 5 };
    static const float weights[3] = { 1e-30f, 1e20f, 1e20f };
    ae_model *m = ae_model_new(net_arena((size_t)64 << 20), 1);
    ae_tensor *x = ae_input(m, 1, SIDE, SIDE), *t[3], *h = x;
    ae_nonfinite r;
    for (int i = 0; i < 3; i++) h = t[i] = ae_conv2d(h, 1, 1, 1, 0);
    ae_minimize(ae_l1(ae_relu(h), x, AE_SUM));
    REQUIRE(ae_build(m, N, AE_TRAIN) == AE_SUCCESS);
    for (int i = 0; i < 3; i++) {
        *ae_param_data(m, ae_weight(t[i])) = weights[i];
        *ae_param_data(m, ae_bias(t[i])) = 0;
    }
    float *data = DATA_IN(N * SIDE * SIDE, -2, -1, 1);
    data[BAD * SIDE * SIDE + 33] = 1;
    CHECK_INT(ae_set(m, x, data, N), AE_SUCCESS);
    CHECK_INT(ae_find_nonfinite(m, BAD, &r), AE_SUCCESS);
    CHECK_INT(ae_find_nonfinite(m, N, &r), AE_E_NUMERIC);
    CHECK_STR(r.name, ae_tensor_name(t[0]));
    CHECK_STR(r.what, "gradient");
    CHECK_INT(r.sample, BAD);
    CHECK_INT(r.index, 33);
}

/* A tensor is computed with only what it needs: nothing behind or beside it. */
TEST(model_runs_only_what_is_needed)
{
    ae_model *m = ae_model_new(net_arena(ROOM), 1);
    ae_tensor *x = ae_input(m, 5, 1, 1);
    ae_tensor *z = ae_linear(x, 2), *y = ae_linear(z, 5), *side = ae_linear(x, 3);
    ae_minimize(ae_mse(y, x, AE_MEAN));
    REQUIRE(ae_build(m, 2, AE_TRAIN) == AE_SUCCESS);
    float *data = DATA(10, 1), *nothing = OUT(10);
    CHECK_INT(ae_set(m, x, data, 2), AE_SUCCESS);
    CHECK_INT(ae_set(m, y, nothing, 2), AE_SUCCESS);
    CHECK_INT(ae_set(m, side, nothing, 2), AE_SUCCESS);
    CHECK_INT(ae_run(m, z, 2), AE_SUCCESS);
    CHECK_FINITE(ae_get(m, z), 4);
    CHECK(test_is_nan(ae_get(m, y)[0]));
    CHECK(test_is_nan(ae_get(m, side)[5]));
    CHECK_INT(ae_set(m, x, nothing, 2), AE_SUCCESS);
    CHECK_INT(ae_run_from(m, z, data, y, 2), AE_SUCCESS);   // x is not looked at
    CHECK_FINITE(ae_get(m, y), 10);
    CHECK(test_is_nan(ae_get(m, side)[5]));
}

TEST(model_predict)
{
    for (int mode = AE_INFER; mode <= AE_TRAIN; mode++) {
        net g;
        zoo(&g, net_arena(ROOM), DEEP, 3);
        enum { N = 11, B = 4 };
        int z = 5, y = g.count - 1;
        REQUIRE(ae_build(g.m, B, (ae_mode)mode) == AE_SUCCESS);
        float *x = DATA_IN(N * 35, 0.0, 1.0, 8), *want = OUT(N * 35), *codes = OUT(N * 3);
        for (int i = 0; i < N; i += B) {    // 4, 4 and 3
            int n = N - i < B ? N - i : B;
            CHECK_INT(ae_set(g.m, g.node[0].t, x + i * 35, n), AE_SUCCESS);
            CHECK_INT(ae_run(g.m, g.node[y].t, n), AE_SUCCESS);
            memcpy(want + i * 35, ae_get(g.m, g.node[y].t), (size_t)n * 35 * sizeof(float));
            CHECK_INT(ae_run(g.m, g.node[z].t, n), AE_SUCCESS);
            memcpy(codes + i * 3, ae_get(g.m, g.node[z].t), (size_t)n * 3 * sizeof(float));
        }
        size_t calls = test_mallocs();
        for (int n = 0; n <= N; n++) {
            float *out = OUT(N * 35), *out_z = OUT(N * 3), *from = OUT(N * 35);
            CHECK_INT(ae_predict(g.m, g.node[y].t, out, x, (size_t)n), AE_SUCCESS);
            CHECK_INT(ae_predict(g.m, g.node[z].t, out_z, x, (size_t)n), AE_SUCCESS);
            CHECK_INT(ae_predict_from(g.m, g.node[z].t, g.node[y].t, from, out_z, (size_t)n),
                      AE_SUCCESS);
            // 1e-5: a batch of another size may sum a product in another order
            CHECK_ARRAY(out, want, n * 35, 1e-5, 1e-5);
            CHECK_ARRAY(out_z, codes, n * 3, 1e-5, 1e-5);
            CHECK_ARRAY(from, want, n * 35, 1e-5, 1e-5);
            for (int i = n * 35; i < N * 35; i++)
                if (!test_is_nan(out[i])) CHECK_STR("beyond n", "");
            if (n == N) {
                CHECK_SAME(out, want, N * 35);
                CHECK_SAME(out_z, codes, N * 3);
                CHECK_SAME(from, want, N * 35);
            }
        }
        CHECK_INT(test_mallocs(), calls);
        float *out = OUT(35);
        CHECK_INT(ae_predict(g.m, g.node[0].t, out, x, 1), AE_SUCCESS);     // the input itself
        CHECK_BITS(out, x, 35);
    }
    // what needs more than one input is refused, unless the codes stand for it
    ae_model *m = ae_model_new(net_arena(ROOM), 1);
    ae_tensor *a = ae_input(m, 2, 1, 1), *b = ae_input(m, 2, 1, 1);
    ae_tensor *c = ae_add(a, b), *d = ae_relu(c), *loss = ae_mse(d, a, AE_MEAN);
    REQUIRE(ae_build(m, 2, AE_INFER) == AE_SUCCESS);
    float x[4] = { 1, 2, 3, 4 }, out[4] = { 0, 0, 0, 0 };
    CHECK_INT(ae_predict(m, d, out, x, 2), AE_E_ARG);
    CHECK_ERROR(ae_error(m), "input2");
    CHECK_INT(ae_predict_from(m, c, d, out, x, 2), AE_SUCCESS);
    CHECK_BITS(out, x, 4);
    CHECK_INT(ae_predict(m, loss, out, x, 2), AE_E_ARG);
    CHECK_INT(ae_predict_from(m, d, c, out, x, 2), AE_E_ARG);
    ae_dataset set;
    memset(&set, 0, sizeof set);
    set.floats = x;
    set.n = 2;
    set.c = 2;
    set.h = set.w = 1;
    CHECK_INT(ae_predict_dataset(m, loss, out, &set), AE_E_ARG);
    CHECK_BITS(out, x, 4);
    CHECK_INT(ae_set(m, b, x, 2), AE_SUCCESS);      // the second input is as last set
    CHECK_INT(ae_predict_dataset(m, d, out, &set), AE_SUCCESS);
    for (int i = 0; i < 4; i++) CHECK_CLOSE(out[i], 2 * x[i], 0);
}

/* A whole dataset, shuffled or not, labelled or not, in batches. */
TEST(model_predict_dataset)
{
    enum { N = 11 };
    net g;
    zoo(&g, net_arena(ROOM), CLASSIFIER, 3);
    REQUIRE(ae_build(g.m, 4, AE_INFER) == AE_SUCCESS);
    float *x = DATA(N * 12, 4), *got = OUT(N * 5), *want = OUT(N * 5);
    uint32_t index[N];
    ae_dataset d;
    memset(&d, 0, sizeof d);
    d.floats = x;
    d.n = N;
    d.c = 12;
    d.h = d.w = 1;
    ae_tensor *z = g.node[3].t;
    CHECK_INT(ae_predict(g.m, z, want, x, N), AE_SUCCESS);
    CHECK_INT(ae_predict_dataset(g.m, z, got, &d), AE_SUCCESS);
    CHECK_SAME(got, want, N * 5);
    for (int i = 0; i < N; i++) index[i] = (uint32_t)(N - 1 - i);
    d.index = index;
    CHECK_INT(ae_predict_dataset(g.m, z, got, &d), AE_SUCCESS);
    for (int i = 0; i < N; i++) CHECK_ARRAY(got + i * 5, want + (N - 1 - i) * 5, 5, 1e-5, 1e-5);
    d.c = 13;
    CHECK_INT(ae_predict_dataset(g.m, z, got, &d), AE_E_SHAPE);
    CHECK_INT(ae_predict_dataset(g.m, z, got, NULL), AE_E_ARG);
    d.c = 12;
    CHECK_INT(ae_predict_dataset(g.m, NULL, got, &d), AE_E_ARG);
    CHECK(ae_predict_dataset(NULL, z, got, &d) != AE_SUCCESS);
}

/* --- gradients ------------------------------------------------------------ */

/* The gradient of whole graphs against the reference in double, all parameters at once (with the
   padding between them, where nothing may arrive). 1e-4: the 4-point difference of a function
   computed in double at points that are rounded to float is good to 1e-5; the rest is for the
   rounding of some twenty float operations. */
static void check_gradient(net *g, int batch)
{
    REQUIRE(ae_build(g->m, NET_BATCH, AE_TRAIN) == AE_SUCCESS);
    net_data(g, batch, 77);
    CHECK_INT(ae_forward(g->m, g->n), AE_SUCCESS);
    CHECK_INT(ae_backward(g->m, 1.0f), AE_SUCCESS);
    size_t floats, grads;
    float *param = segment(g->m, AE_SEG_PARAM, &floats), *grad = segment(g->m, AE_SEG_GRAD, &grads);
    REQUIRE(floats == grads && floats > 0);
    CHECK_GRADIENT(grad, param, floats, 0.015625, 1e-4, net_eval, g);
}

TEST(model_gradients_random)
{
    for (uint32_t seed = 0; seed < GRAPHS; seed++) {
        net g;
        test_context("graph %d", (int)seed);
        net_random(&g, net_arena(ROOM), seed, 1);
        check_gradient(&g, 1 + (int)seed % 4);
    }
}

/* What is computed over what: an activation of an activation, the second one of a reshape of it. */
TEST(model_gradients_of_two_activations)
{
    static const ae_act acts[] = { AE_ACT_IDENTITY, AE_ACT_RELU, AE_ACT_LEAKY_RELU, AE_ACT_SIGMOID,
                                   AE_ACT_TANH, AE_ACT_SILU };
    for (int k = 0; k < 72; k++) {
        net g;
        ae_act inner = acts[k / 6 % 6], outer = acts[k % 6];
        test_context("activation %d of %d, reshaped %d", (int)outer, (int)inner, k / 36);
        net_begin(&g, net_arena(ROOM), 7);       // weights that keep away from relu's kink
        int x = net_input(&g, 3, 2, 1), h = net_act(&g, net_linear(&g, x, 6), inner);
        if (k / 36) h = net_reshape(&g, h, 3, 2, 1);
        net_loss(&g, AE_LOSS_MSE, net_act(&g, h, outer), x, AE_MEAN, 1);
        check_gradient(&g, 4);
    }
}

/* add(h,h), concat(h,h), concat(s,s), and a loss whose two sides both depend on weights. */
TEST(model_gradients_twice)
{
    net g;
    zoo(&g, net_arena(ROOM), TWICE, 5);
    check_gradient(&g, 3);
}

/* An activation that is joined to the product before it, and its slope to the product after it,
   have the bits of the layers one by one: for each that is computed in place, products that are cut
   by columns, by rows or not at all, with weights of their own and tied ones. */
TEST(model_products_with_activations)
{
    static const ae_act acts[] = { AE_ACT_IDENTITY, AE_ACT_RELU, AE_ACT_LEAKY_RELU, AE_ACT_ELU,
                                   AE_ACT_SIGMOID, AE_ACT_TANH, AE_ACT_SILU };
    static const int sizes[][3] = { { 64, 300, 130 }, { 100, 210, 17 }, { 3, 5, 2 } };
    for (int k = 0; k < 7 * 3 * 2; k++) {
        const int *size = sizes[k / 7 % 3], tied = k / 21;
        const int B = size[0], D = size[1], O = size[2], n = B - 1;
        const float a = acts[k % 7] == AE_ACT_LEAKY_RELU ? 0.1f : 0.7f;
        for (int i = 1; i < TEST_EXECS; i += 3) {
            test_context("%s, %d samples, %d and %d, activation %d, tied %d", test_exec_text(i), B,
                         D, O, (int)acts[k % 7], tied);
            const ae_exec *e = test_exec_at(i);
            ae_model *m = ae_model_new(net_arena(4 << 20), 3);
            ae_tensor *x = ae_input(m, D, 1, 1), *h = ae_linear(x, O);
            ae_tensor *z = ae_activation(h, acts[k % 7], a);
            ae_tensor *y = tied ? ae_tied(z, h) : ae_linear(z, D);
            ae_tensor *r = ae_activation(y, acts[k % 7], a);
            ae_minimize(ae_mse(r, x, AE_SUM));
            CHECK_INT(ae_set_exec(m, e), AE_SUCCESS);
            REQUIRE(ae_build(m, B, AE_TRAIN) == AE_SUCCESS);
            float *data = DATA(n * D, 4);
            CHECK_INT(ae_set(m, x, data, n), AE_SUCCESS);
            CHECK_INT(ae_forward(m, n), AE_SUCCESS);
            CHECK_INT(ae_backward(m, 1.0f), AE_SUCCESS);

            const float *w = ae_param_data(m, ae_weight(h)), *b = ae_param_data(m, ae_bias(h));
            const float *v = ae_param_data(m, ae_weight(y)), *c = ae_param_data(m, ae_bias(y));
            float *h0 = OUT(n * O), *z0 = OUT(n * O), *y0 = OUT(n * D), *r0 = OUT(n * D);
            float *dz = OUT(n * O), *dr = OUT(n * D), *dw = DATA_IN(D * O, 0, 0, 0);
            float *dv = DATA_IN(D * O, 0, 0, 0), *db = DATA_IN(O, 0, 0, 0);
            float *dc = DATA_IN(D, 0, 0, 0);
            ae_linear_forward(e, h0, data, w, b, n, D, O);
            ae_activation_forward(e, z0, h0, acts[k % 7], a, (size_t)(n * O));
            if (tied) ae_tied_linear_forward(e, y0, z0, w, c, n, D, O);
            else ae_linear_forward(e, y0, z0, v, c, n, O, D);
            ae_activation_forward(e, r0, y0, acts[k % 7], a, (size_t)(n * D));
            CHECK_SAME(ae_get(m, z), z0, n * O);
            CHECK_SAME(ae_get(m, r), r0, n * D);
            ae_loss_backward(e, dr, NULL, 1, r0, data, AE_LOSS_MSE, 0, AE_SUM, n, D);
            ae_activation_backward(e, dr, dr, y0, r0, acts[k % 7], a, (size_t)(n * D));
            if (tied) ae_tied_linear_backward(e, dz, dw, dc, dr, z0, w, n, D, O);
            else ae_linear_backward(e, dz, dv, dc, dr, z0, v, n, O, D);
            ae_activation_backward(e, dz, dz, h0, z0, acts[k % 7], a, (size_t)(n * O));
            ae_linear_backward(e, NULL, dw, db, dz, data, w, n, D, O);
            CHECK_SAME(ae_param_grad(m, ae_weight(h)), dw, D * O);
            CHECK_SAME(ae_param_grad(m, ae_bias(h)), db, O);
            if (!tied) CHECK_SAME(ae_param_grad(m, ae_weight(y)), dv, D * O);
            CHECK_SAME(ae_param_grad(m, ae_bias(y)), dc, D);
        }
    }
}

/* The same for an activation before a max pooling, whose gradient alone tells both: windows of all
   kinds, odd pictures, another activation after it, which may be computed over the pooling's
   values. The bias of a layer with one sample has that gradient element by element. */
static void check_pooled(ae_act act, const ae_pool *g, ae_act after, int H, int W)
{
    enum { C = 2 };
    const size_t n = (size_t)(C * H * W);
    ae_model *m = ae_model_new(net_arena(ROOM), 3);
    ae_tensor *x = ae_input(m, 1, 1, 1), *h = ae_linear(x, C * H * W);
    ae_tensor *a = ae_activation(ae_reshape(h, C, H, W), act, 0.1f);
    ae_tensor *p = ae_max_pool2d_with(a, g);
    int channels, OH, OW;
    ae_shape(p, &channels, &OH, &OW);
    const size_t outs = (size_t)(C * OH * OW);
    ae_tensor *q = ae_activation(W % 2 ? ae_reshape(p, C * OH * OW, 1, 1) : p, after, 0.1f);
    int sides[3];
    ae_shape(q, &sides[0], &sides[1], &sides[2]);
    ae_tensor *target = ae_input(m, sides[0], sides[1], sides[2]);
    ae_minimize(ae_mse(q, target, AE_SUM));
    CHECK_INT(ae_set_exec(m, test_exec()), AE_SUCCESS);
    REQUIRE(ae_build(m, 1, AE_TRAIN) == AE_SUCCESS);
    float one = 1.0f, *want = DATA(outs, 4);
    CHECK_INT(ae_set(m, x, &one, 1), AE_SUCCESS);
    CHECK_INT(ae_set(m, target, want, 1), AE_SUCCESS);
    memcpy(ae_param_data(m, ae_bias(h)), DATA(n, 9), n * sizeof(float));
    CHECK_INT(ae_forward(m, 1), AE_SUCCESS);
    CHECK_INT(ae_backward(m, 1.0f), AE_SUCCESS);

    float *h0 = OUT(n), *a0 = OUT(n), *y = OUT(outs), *dy = OUT(outs), *dx = OUT(n);
    int32_t *index = INTS(outs);
    ae_linear_forward(test_exec(), h0, &one, ae_param_data(m, ae_weight(h)),
                      ae_param_data(m, ae_bias(h)), 1, 1, (int)n);
    ae_activation_forward(test_exec(), a0, h0, act, 0.1f, n);
    ae_max_pool2d_forward(test_exec(), y, index, a0, g, 1, C, H, W);
    float *q0 = OUT(outs);
    ae_activation_forward(test_exec(), q0, y, after, 0.1f, outs);
    CHECK_SAME(ae_get(m, q), q0, outs);
    ae_loss_backward(test_exec(), dy, NULL, 1, q0, want, AE_LOSS_MSE, 0, AE_SUM, 1, (int)outs);
    ae_activation_backward(test_exec(), dy, dy, y, q0, after, 0.1f, outs);
    ae_max_pool2d_backward(test_exec(), dx, dy, index, 1, C, H, W, OH, OW);
    ae_activation_backward(test_exec(), dx, dx, h0, a0, act, 0.1f, n);
    const float *got = ae_param_grad(m, ae_bias(h));
    CHECK_ARRAY(got, dx, n, 0, 0);
}

TEST(model_pools_with_activations)
{
    static const ae_act acts[] = { AE_ACT_IDENTITY, AE_ACT_RELU, AE_ACT_LEAKY_RELU, AE_ACT_SIGMOID,
                                   AE_ACT_TANH, AE_ACT_SILU };
    static const int windows[][5] = {       // kernel, stride, padding, dilation of both sides
        { 2, 2, 2, 0, 1 }, { 3, 3, 3, 1, 1 }, { 2, 3, 2, 0, 1 }, { 2, 2, 3, 0, 2 },
        { 3, 3, 2, 1, 1 }, { 2, 2, 1, 0, 1 }, { 2, 2, 2, 0, 2 }, { 2, 2, 2, 1, 1 },
        { 3, 2, 2, 0, 1 }
    };
    for (int k = 0; k < 9 * 6; k++) {
        ae_pool g;
        memset(&g, 0, sizeof g);
        g.kernel_h = windows[k / 6][0];
        g.kernel_w = windows[k / 6][1];
        g.stride_h = g.stride_w = windows[k / 6][2];
        g.pad_h = g.pad_w = windows[k / 6][3];
        g.dilation_h = g.dilation_w = windows[k / 6][4];
        for (int W = 3; W < 70; W += W < 18 ? 1 : W < 36 ? 3 : 15) {
            test_context("activation %d, windows %d, width %d", (int)acts[k % 6], k / 6, W);
            check_pooled(acts[k % 6], &g, acts[(k / 6 + W) % 6], 3 + W % 3, W);
        }
    }
}

/* Two of them whose order is not that of their readers. */
TEST(model_gradients_of_crossed_pools)
{
    ae_model *m = ae_model_new(net_arena(ROOM), 7);
    ae_tensor *x = ae_input(m, 1, 4, 6), *a[2], *p[2];
    for (int i = 0; i < 2; i++)
        a[i] = ae_sigmoid(ae_conv2d(x, 2, 3, 1, 1));
    for (int i = 0; i < 2; i++)
        p[i] = ae_max_pool2d(a[i], 2);
    ae_minimize(ae_mse(p[0], p[1], AE_SUM));
    CHECK_INT(ae_set_exec(m, test_exec()), AE_SUCCESS);
    REQUIRE(ae_build(m, 3, AE_TRAIN) == AE_SUCCESS);
    CHECK_INT(ae_set(m, x, DATA(3 * 24, 5), 3), AE_SUCCESS);
    CHECK_INT(ae_check_gradients(m, 3, NULL, NULL), AE_SUCCESS);
}

/* One sample through each reduction and several weights, one of them negative. */
TEST(model_gradients_reductions)
{
    for (int r = AE_MEAN; r <= AE_SUM; r++) {
        net g;
        test_context("reduction %d", r);
        net_begin(&g, net_arena(ROOM), 9);
        int x = net_input(&g, 2, 2, 1), h = net_act(&g, net_linear(&g, x, 5), AE_ACT_TANH);
        int y = net_linear(&g, h, 4), labels = net_labels(&g);
        net_loss(&g, AE_LOSS_MSE, y, x, (ae_reduction)r, 0.5f);
        net_loss(&g, AE_LOSS_BCE_LOGITS, y, x, (ae_reduction)r, -0.25f);
        net_loss(&g, NET_CROSS_ENTROPY, net_linear(&g, h, 3), labels, (ae_reduction)r, 2.0f);
        net_loss(&g, AE_LOSS_BCE, net_act(&g, y, AE_ACT_SIGMOID), x, (ae_reduction)r, 1.0f);
        check_gradient(&g, 3);
    }
}

/* What is only watched, and what is not even that, leaves gradients and steps as they are. */
TEST(model_monitor_changes_nothing)
{
    float *grad[2] = { NULL, NULL };
    size_t floats = 0;
    for (int watch = 0; watch < 2; watch++) {
        net g;
        net_begin(&g, net_arena(ROOM), 9);
        int x = net_input(&g, 7, 1, 1), h = net_act(&g, net_linear(&g, x, 5), AE_ACT_TANH);
        int y = net_linear(&g, h, 7);
        net_loss(&g, AE_LOSS_MSE, y, x, AE_MEAN, 1.0f);
        if (watch) {
            net_loss(&g, AE_LOSS_L1, net_act(&g, y, AE_ACT_RELU), x, AE_SUM, 0.0f);
            net_loss(&g, AE_LOSS_MSE, h, h, AE_SUM, 0.0f);
            ae_l1(g.node[y].t, g.node[x].t, AE_SUM);    // neither minimised nor watched
        }
        REQUIRE(ae_build(g.m, 4, AE_TRAIN) == AE_SUCCESS);
        net_data(&g, 4, 1);
        CHECK_INT(ae_forward(g.m, 4), AE_SUCCESS);
        CHECK_INT(ae_backward(g.m, 1.0f), AE_SUCCESS);
        float *p = segment(g.m, AE_SEG_GRAD, &floats);
        grad[watch] = COPY(p, floats);
        if (watch) {
            net_eval(&g);
            CHECK_CLOSE(ae_batch_loss(g.m, g.term[1].loss), g.term[1].value, 1e-5);
            CHECK_CLOSE(ae_batch_loss(g.m, NULL), g.term[0].value, 1e-6);
        }
    }
    CHECK_SAME(grad[0], grad[1], floats);
}

TEST(model_backward_accumulates)
{
    net g;
    zoo(&g, net_arena(ROOM), SKIPS, 5);
    REQUIRE(ae_build(g.m, 4, AE_TRAIN) == AE_SUCCESS);
    net_data(&g, 4, 1);
    size_t floats;
    float *grad = segment(g.m, AE_SEG_GRAD, &floats);
    CHECK_INT(ae_backward(g.m, 1.0f), AE_E_ARG);    // before any forward
    CHECK_ERROR(ae_error(g.m), "ae_forward");
    CHECK_INT(ae_forward(g.m, 4), AE_SUCCESS);
    CHECK_INT(ae_backward(g.m, 1.0f), AE_SUCCESS);
    float *once = COPY(grad, floats), *twice = OUT(floats), *half = OUT(floats);
    for (size_t i = 0; i < floats; i++) {
        twice[i] = once[i] * 2;
        half[i] = once[i] / 2;
    }
    CHECK_INT(ae_backward(g.m, 1.0f), AE_SUCCESS);
    CHECK_ARRAY(grad, twice, floats, 1e-7, 1e-6);
    ae_zero_grad(g.m);
    for (size_t i = 0; i < floats; i++)
        if (grad[i] < 0 || grad[i] > 0) CHECK_STR("a gradient that is not 0", "");
    CHECK_INT(ae_backward(g.m, 0.5f), AE_SUCCESS);
    CHECK_ARRAY(grad, half, floats, 1e-8, 1e-6);
    CHECK_INT(ae_backward(g.m, test_nan()), AE_E_ARG);
    CHECK_ARRAY(grad, half, floats, 1e-8, 1e-6);
    CHECK_INT(ae_run(g.m, g.node[1].t, 2), AE_SUCCESS);
    CHECK_INT(ae_backward(g.m, 1.0f), AE_E_ARG);    // the values are no longer those of a forward
}

/* --- batches, threads, seeds ---------------------------------------------- */

/* n samples in a model planned for more: as in one planned for n. */
TEST(model_smaller_batch)
{
    for (int kind = 0; kind < BARE; kind++)
        for (int n = 1; n <= NET_BATCH; n++) {
            net g, f;
            size_t floats;
            test_context("graph %d, %d samples", kind, n);
            zoo(&g, net_arena(ROOM), kind, 5);
            zoo(&f, net_arena(ROOM), kind, 5);
            REQUIRE(ae_build(g.m, 50, AE_TRAIN) == AE_SUCCESS);
            REQUIRE(ae_build(f.m, n, AE_TRAIN) == AE_SUCCESS);
            net_data(&g, NET_BATCH, 1);     // other samples lie behind
            net_data(&g, n, 2);
            net_data(&f, n, 2);
            CHECK_INT(ae_forward(g.m, n), AE_SUCCESS);
            CHECK_INT(ae_forward(f.m, n), AE_SUCCESS);
            CHECK_INT(ae_backward(g.m, 1.0f), AE_SUCCESS);
            CHECK_INT(ae_backward(f.m, 1.0f), AE_SUCCESS);
            float a = ae_batch_loss(g.m, NULL), b = ae_batch_loss(f.m, NULL);
            CHECK_SAME(&a, &b, 1);
            float *grad = segment(g.m, AE_SEG_GRAD, &floats);
            CHECK_SAME(grad, segment(f.m, AE_SEG_GRAD, &floats), floats);
        }
}

static void step_by_hand(net *g, int steps, const ae_optim *o)
{
    for (int i = 0; i < steps; i++) {
        net_data(g, g->n, (uint32_t)i);
        ae_zero_grad(g->m);
        CHECK_INT(ae_forward(g->m, g->n), AE_SUCCESS);
        CHECK_INT(ae_backward(g->m, 1.0f), AE_SUCCESS);
        CHECK_INT(ae_step(g->m, o), AE_SUCCESS);
    }
}

/* The bits of weights and optimiser state after 20 steps, for every way to run. */
TEST(model_same_bits_for_any_threads)
{
    for (int kind = 0; kind < BARE; kind++) {
        float *want = NULL, *first = NULL;
        size_t floats = 0;
        for (int e = 1; e < TEST_EXECS; e++) {
            net g;
            test_context("graph %d, %s", kind, test_exec_text(e));
            zoo(&g, net_arena(ROOM), kind, 5);
            CHECK_INT(ae_set_exec(g.m, test_exec_at(e)), AE_SUCCESS);
            REQUIRE(ae_build(g.m, NET_BATCH, AE_TRAIN) == AE_SUCCESS);
            g.n = NET_BATCH;
            ae_optim adam = net_optim(AE_ADAM, 1e-2f);
            float *p = segment(g.m, AE_SEG_PARAM, &floats);
            if (e == 1) first = COPY(p, floats);
            step_by_hand(&g, 20, &adam);
            if (e == 1) {
                want = COPY(p, floats);
                CHECK(memcmp(first, want, floats * sizeof(float)) != 0);
            }
            CHECK_BITS(p, want, floats);
        }
    }
}

/* The same for products that are worth splitting: 64 samples of 300 values. */
TEST(model_same_bits_for_any_threads_large)
{
    float *want = NULL;
    size_t floats = 0;
    for (int e = 1; e < TEST_EXECS; e++) {
        enum { N = 64, F = 300 };
        test_context("%s", test_exec_text(e));
        ae_model *m = ae_model_new(net_arena(8 << 20), 4);
        ae_tensor *x = ae_input(m, F, 1, 1);
        ae_tensor *y = ae_linear(ae_gelu(ae_linear(x, 130)), F);
        ae_minimize(ae_mse(y, x, AE_MEAN));
        CHECK_INT(ae_set_exec(m, test_exec_at(e)), AE_SUCCESS);
        REQUIRE(ae_build(m, N, AE_TRAIN) == AE_SUCCESS);
        float *data = DATA(N * F, 3);
        ae_optim adam = net_optim(AE_ADAM, 1e-3f);
        CHECK_INT(ae_set(m, x, data, N), AE_SUCCESS);
        for (int i = 0; i < 3; i++) {
            ae_zero_grad(m);
            CHECK_INT(ae_forward(m, N), AE_SUCCESS);
            CHECK_INT(ae_backward(m, 1.0f), AE_SUCCESS);
            CHECK_INT(ae_step(m, &adam), AE_SUCCESS);
        }
        float *p = segment(m, AE_SEG_PARAM, &floats);
        if (e == 1) want = COPY(p, floats);
        CHECK_BITS(p, want, floats);
    }
}

/* More threads than the plan had scratch for: slower, not different. */
TEST(model_threads_after_build)
{
    float *want = NULL;
    for (int threads = 1; threads < 9; threads += 3) {
        enum { N = 64, F = 300 };
        ae_model *m = ae_model_new(net_arena(8 << 20), 4);
        ae_tensor *x = ae_input(m, F, 1, 1), *y = ae_linear(x, F);
        REQUIRE(ae_build(m, N, AE_INFER) == AE_SUCCESS);
        CHECK_INT(ae_set_threads(m, threads), AE_SUCCESS);
        float *data = DATA(N * F, 3);
        CHECK_INT(ae_set(m, x, data, N), AE_SUCCESS);
        CHECK_INT(ae_run(m, y, N), AE_SUCCESS);
        if (threads == 1) want = COPY(ae_get(m, y), N * F);
        CHECK_BITS(ae_get(m, y), want, N * F);
        CHECK_INT(ae_set_threads(m, 1), AE_SUCCESS);
        CHECK_INT(ae_run(m, y, N), AE_SUCCESS);
        CHECK_BITS(ae_get(m, y), want, N * F);
    }
}

TEST(model_seeds)
{
    float *weights[3];
    size_t floats = 0;
    for (int i = 0; i < 3; i++) {
        net g;
        zoo(&g, net_arena(ROOM), DEEP, i < 2 ? 12 : 13);
        REQUIRE(ae_build(g.m, 1 + i, i ? AE_INFER : AE_TRAIN) == AE_SUCCESS);
        float *p = segment(g.m, AE_SEG_PARAM, &floats);
        weights[i] = COPY(p, floats);
        // no two layers start alike
        float *a = ae_param_data(g.m, ae_param_at(g.m, 0));
        float *b = ae_param_data(g.m, ae_param_at(g.m, 1));
        CHECK(memcmp(a, b, 20 * sizeof(float)) != 0);
    }
    CHECK_BITS(weights[0], weights[1], floats);     // whatever the batch and the mode
    CHECK(memcmp(weights[0], weights[2], floats * sizeof(float)) != 0);
}

/* --- parameters ----------------------------------------------------------- */

TEST(model_parameters)
{
    ae_model *m = ae_model_new(net_arena(ROOM), 6);
    ae_tensor *x = ae_input(m, 2, 3, 1);
    ae_tensor *a = ae_linear(x, 5), *b = ae_linear_no_bias(a, 4);
    ae_tensor *c = ae_name(ae_linear(ae_relu(b), 6), "decoder.out");
    int ch, h, w, shape[4];
    ae_shape(x, &ch, &h, &w);
    CHECK(ch == 2 && h == 3 && w == 1);
    ae_shape(a, &ch, &h, &w);
    CHECK(ch == 5 && h == 1 && w == 1);
    CHECK_INT(ae_size(x), 6);
    CHECK_INT(ae_size(c), 6);
    static const char *const names[] = { "linear1.weight", "linear1.bias", "linear2.weight",
                                         "decoder.out.weight", "decoder.out.bias" };
    static const int rows[] = { 5, 5, 4, 6, 6 }, columns[] = { 6, 0, 5, 4, 0 };
    CHECK(ae_param_data(m, ae_weight(a)) == NULL);      // not built yet
    CHECK(ae_param_grad(m, ae_weight(a)) == NULL);
    CHECK(ae_segment_data(m, AE_SEG_PARAM, NULL) == NULL);
    REQUIRE(ae_build(m, 2, AE_TRAIN) == AE_SUCCESS);
    const float *before = NULL;
    for (int i = 0; i < 5; i++) {
        ae_param *p = ae_param_at(m, i);
        REQUIRE(p != NULL);
        CHECK_STR(ae_param_name(p), names[i]);
        CHECK(ae_param_find(m, names[i]) == p);
        CHECK_INT(ae_param_shape(p, shape), columns[i] ? 2 : 1);
        CHECK_INT(shape[0], rows[i]);
        if (columns[i]) CHECK_INT(shape[1], columns[i]);
        CHECK_INT(ae_param_size(p), rows[i] * (columns[i] ? columns[i] : 1));
        const float *data = ae_param_data(m, p);
        CHECK(data > before);
        before = data;
        // PyTorch's default: within 1/sqrt(fan_in), spread over all of it
        double limit = 1 / sqrt(i < 2 ? 6.0 : i < 3 ? 5.0 : 4.0), most = 0;
        for (size_t k = 0; k < ae_param_size(p); k++)
            most = fabs((double)data[k]) > most ? fabs((double)data[k]) : most;
        CHECK(most <= limit && most > 0.5 * limit);
    }
    CHECK(ae_param_at(m, 5) == NULL);
    CHECK(ae_param_at(m, -1) == NULL);
    CHECK(ae_param_find(m, "linear3.weight") == NULL);
    CHECK(ae_weight(a) == ae_param_at(m, 0) && ae_bias(a) == ae_param_at(m, 1));
    CHECK(ae_bias(b) == NULL && ae_weight(x) == NULL && ae_weight(NULL) == NULL);
    size_t bytes;
    float *all = (float *)ae_segment_data(m, AE_SEG_PARAM, &bytes);
    float *grad = (float *)ae_segment_data(m, AE_SEG_GRAD, NULL);
    CHECK(ae_param_data(m, ae_param_at(m, 0)) == all);
    for (int i = 0; i < 5; i++)     // gradients lie as the parameters do
        CHECK(ae_param_grad(m, ae_param_at(m, i)) - grad
              == ae_param_data(m, ae_param_at(m, i)) - all);
    CHECK_STR(ae_param_name(NULL), "");
    CHECK_INT(ae_param_size(NULL), 0);
    ae_shape(NULL, &ch, &h, &w);
    CHECK(ch == 0 && h == 0 && w == 0 && ae_size(NULL) == 0);
}

TEST(model_initialisers)
{
    ae_model *m = ae_model_new(net_arena(ROOM), 6);
    ae_tensor *x = ae_input(m, 8, 1, 1), *a = ae_linear(x, 16), *b = ae_linear(a, 4);
    ae_init_all(m, ae_init_constant(0.25f), ae_init_constant(-1.0f));
    CHECK(ae_init_layer(b, ae_init_xavier_uniform(1.0f), ae_init_constant(0.5f)) == b);
    CHECK(ae_init_layer(NULL, ae_init_constant(1.0f), ae_init_constant(1.0f)) == NULL);
    ae_init_all(NULL, ae_init_constant(0.25f), ae_init_constant(-1.0f));
    REQUIRE(ae_build(m, 1, AE_INFER) == AE_SUCCESS);
    float *w = ae_param_data(m, ae_weight(a)), *v = ae_param_data(m, ae_weight(b)), most = 0;
    for (int i = 0; i < 128; i++) CHECK_CLOSE(w[i], 0.25, 0);
    for (int i = 0; i < 16; i++) CHECK_CLOSE(ae_param_data(m, ae_bias(a))[i], -1.0, 0);
    for (int i = 0; i < 4; i++) CHECK_CLOSE(ae_param_data(m, ae_bias(b))[i], 0.5, 0);
    for (int i = 0; i < 64; i++) most = fabsf(v[i]) > most ? fabsf(v[i]) : most;
    CHECK(most <= sqrtf(6.0f / 20.0f) && most > 0.8f * sqrtf(6.0f / 20.0f));
}

/* --- forks ---------------------------------------------------------------- */

TEST(model_fork)
{
    net g;
    zoo(&g, net_arena(ROOM), SKIPS, 3);
    int y = g.count - 1;
    enum { N = 3 };
    CHECK(ae_fork(g.m, net_arena(ROOM), 1) == NULL);    // not built
    CHECK(ae_fork(NULL, net_arena(ROOM), 1) == NULL);
    REQUIRE(ae_build(g.m, N, AE_TRAIN) == AE_SUCCESS);
    ae_arena *room[2] = { net_arena(ROOM), net_arena(ROOM) };
    ae_model *fork[2];
    float *data[2], *want[2];
    size_t calls = test_mallocs();
    for (int i = 0; i < 2; i++) {
        data[i] = DATA_IN(N * 24, 0, 1, (uint32_t)(50 + i));
        CHECK_INT(ae_set(g.m, g.node[0].t, data[i], N), AE_SUCCESS);
        CHECK_INT(ae_run(g.m, g.node[y].t, N), AE_SUCCESS);
        want[i] = COPY(ae_get(g.m, g.node[y].t), N * 24);
        fork[i] = ae_fork(g.m, room[i], N);
        REQUIRE(fork[i] != NULL);
    }
    // turns: what one sets or computes, the other does not see
    for (int i = 0; i < 2; i++) CHECK_INT(ae_set(fork[i], g.node[0].t, data[i], N), AE_SUCCESS);
    for (int i = 0; i < 2; i++) CHECK_INT(ae_run(fork[i], g.node[y].t, N), AE_SUCCESS);
    for (int i = 0; i < 2; i++) CHECK_SAME(ae_get(fork[i], g.node[y].t), want[i], N * 24);
    CHECK_SAME(ae_get(g.m, g.node[y].t), want[1], N * 24);
    float *out = OUT(N * 24);
    CHECK_INT(ae_predict(fork[0], g.node[y].t, out, data[1], N), AE_SUCCESS);
    CHECK_SAME(out, want[1], N * 24);
    // parameters are the same memory; there is nothing to train with
    CHECK(ae_param_data(fork[0], ae_param_at(fork[0], 0))
          == ae_param_data(g.m, ae_param_at(g.m, 0)));
    CHECK(ae_param_grad(fork[0], ae_param_at(fork[0], 0)) == NULL);
    CHECK_INT(ae_forward(fork[0], N), AE_E_ARG);
    CHECK_ERROR(ae_error(fork[0]), "inference");
    CHECK_INT(ae_model_status(g.m), AE_SUCCESS);
    // an evaluation on a fork; a fork of a fork, with a batch of its own
    ae_dataset d;
    memset(&d, 0, sizeof d);
    d.floats = data[0];
    d.n = N;
    d.c = 2;
    d.h = 3;
    d.w = 4;
    float loss = 0, same = 0;
    CHECK_INT(ae_evaluate(fork[0], &d, &loss), AE_SUCCESS);
    CHECK_INT(ae_evaluate(g.m, &d, &same), AE_SUCCESS);
    CHECK_SAME(&loss, &same, 1);
    ae_model *again = ae_fork(fork[0], net_arena(ROOM), 7);
    REQUIRE(again != NULL);
    CHECK_INT(ae_predict(again, g.node[y].t, out, data[0], N), AE_SUCCESS);
    CHECK_SAME(out, want[0], N * 24);
    // errors stay where they happen
    CHECK_INT(ae_run(fork[0], g.node[y].t, N + 1), AE_E_ARG);
    CHECK_INT(ae_run(again, g.node[y].t, 7), AE_SUCCESS);
    CHECK_INT(ae_model_status(g.m), AE_SUCCESS);
    // after more training the forks compute with the new weights
    ae_optim adam = net_optim(AE_ADAM, 0.1f);
    g.n = N;
    step_by_hand(&g, 1, &adam);
    CHECK_INT(ae_set(g.m, g.node[0].t, data[0], N), AE_SUCCESS);
    CHECK_INT(ae_run(g.m, g.node[y].t, N), AE_SUCCESS);
    CHECK_INT(ae_set(fork[1], g.node[0].t, data[0], N), AE_SUCCESS);
    CHECK_INT(ae_run(fork[1], g.node[y].t, N), AE_SUCCESS);
    CHECK_SAME(ae_get(fork[1], g.node[y].t), ae_get(g.m, g.node[y].t), N * 24);
    CHECK(memcmp(ae_get(fork[1], g.node[y].t), want[0], N * 24 * sizeof(float)) != 0);
    CHECK_INT(test_mallocs(), calls);
    // snapshots belong to m
    CHECK_INT(ae_snapshot_bytes(fork[0]), 0);
    CHECK_INT(ae_snapshot(fork[0], out), AE_E_ARG);
    CHECK_INT(ae_restore(fork[0], out, N), AE_E_ARG);
}

TEST(model_fork_in_a_small_arena)
{
    net g;
    zoo(&g, net_arena(ROOM), SKIPS, 3);
    REQUIRE(ae_build(g.m, 3, AE_TRAIN) == AE_SUCCESS);
    ae_arena *arena = net_arena(ROOM);
    REQUIRE(ae_fork(g.m, arena, 4) != NULL);
    size_t need = ae_arena_used(arena);
    arena = net_arena(need);
    CHECK(ae_fork(g.m, arena, 4) != NULL);
    CHECK_INT(ae_arena_left(arena), 0);
    for (size_t bytes = 0; bytes < need; bytes = bytes < need - 65 ? bytes + 61 : bytes + 1) {
        arena = net_arena(bytes);
        CHECK(ae_fork(g.m, arena, 4) == NULL);
        CHECK_INT(ae_arena_used(arena), 0);
        CHECK_ERROR(arena->error, "ae_fork");
        CHECK(says(arena->error, bytes));
    }
    CHECK(ae_fork(g.m, NULL, 4) == NULL);
    CHECK(ae_fork(g.m, arena, 0) == NULL);
    CHECK_ERROR(arena->error, "batch 0");
    CHECK_INT(ae_model_status(g.m), AE_SUCCESS);
}

#if defined(_OPENMP)
TEST(model_forks_in_threads)
{
    enum { N = 4, THREADS = 4, ROUNDS = 50 };
    net g;
    zoo(&g, net_arena(ROOM), SKIPS, 3);
    int y = g.count - 1;
    REQUIRE(ae_build(g.m, N, AE_INFER) == AE_SUCCESS);
    ae_model *fork[THREADS];
    float *data[THREADS], *want[THREADS], *got[THREADS];
    for (int i = 0; i < THREADS; i++) {
        data[i] = DATA_IN(N * 24, 0, 1, (uint32_t)i);
        want[i] = OUT(N * 24);
        got[i] = OUT(N * 24 * ROUNDS);
        fork[i] = ae_fork(g.m, net_arena(ROOM), N);
        REQUIRE(fork[i] != NULL);
        CHECK_INT(ae_predict(g.m, g.node[y].t, want[i], data[i], N), AE_SUCCESS);
    }
    int failures = 0;
#pragma omp parallel for num_threads(THREADS) reduction(+ : failures)
    for (int i = 0; i < THREADS; i++)
        for (int k = 0; k < ROUNDS; k++)
            failures += ae_predict(fork[i], g.node[y].t, got[i] + k * N * 24, data[i], N)
                        != AE_SUCCESS;
    CHECK_INT(failures, 0);
    for (int i = 0; i < THREADS; i++)
        for (int k = 0; k < ROUNDS; k++) CHECK_SAME(got[i] + k * N * 24, want[i], N * 24);
}
#endif

/* --- mistakes ------------------------------------------------------------- */

/* A model whose graph is made by one of these, which then must be refused. */
typedef ae_tensor *mistake(ae_model *m, ae_tensor *x);     // x: input1, 2x3x4

static ae_tensor *bad_add(ae_model *m, ae_tensor *x)
{
    return ae_add(x, ae_name(ae_input(m, 2, 4, 3), "other"));
}
static ae_tensor *bad_concat(ae_model *m, ae_tensor *x)
{
    return ae_concat(x, ae_name(ae_input(m, 1, 3, 5), "other"));
}
static ae_tensor *bad_concat_w(ae_model *m, ae_tensor *x)
{
    return ae_concat(x, ae_name(ae_input(m, 1, 5, 4), "other"));
}
static ae_tensor *bad_reshape(ae_model *m, ae_tensor *x) { (void)m; return ae_reshape(x, 5, 5, 1); }
static ae_tensor *bad_reshape_0(ae_model *m, ae_tensor *x)
{
    (void)m;
    return ae_reshape(x, 24, -1, -1);
}
static ae_tensor *bad_mse(ae_model *m, ae_tensor *x)
{
    (void)m;
    return ae_mse(ae_name(ae_linear(x, 23), "code"), x, AE_MEAN);
}
static ae_tensor *bad_input(ae_model *m, ae_tensor *x) { (void)x; return ae_input(m, 3, 0, 4); }
static ae_tensor *bad_input_neg(ae_model *m, ae_tensor *x)
{
    (void)x;
    return ae_input(m, -3, 1, 1);
}
static ae_tensor *bad_input_huge(ae_model *m, ae_tensor *x)
{
    (void)x;
    return ae_input(m, 65536, 32768, 1);
}
static ae_tensor *bad_linear(ae_model *m, ae_tensor *x) { (void)m; return ae_linear(x, 0); }
static ae_tensor *bad_linear_neg(ae_model *m, ae_tensor *x) { (void)m; return ae_linear(x, -7); }
static ae_tensor *bad_linear_huge(ae_model *m, ae_tensor *x)
{
    (void)m;
    return ae_linear(x, 2147483647);
}
static ae_tensor *bad_loss_input(ae_model *m, ae_tensor *x)
{
    (void)m;
    return ae_relu(ae_mse(x, x, AE_MEAN));
}
static ae_tensor *bad_loss_linear(ae_model *m, ae_tensor *x)
{
    (void)m;
    return ae_linear(ae_mse(x, x, AE_MEAN), 3);
}
static ae_tensor *bad_loss_loss(ae_model *m, ae_tensor *x)
{
    (void)m;
    return ae_mse(ae_mse(x, x, AE_MEAN), ae_l1(x, x, AE_MEAN), AE_MEAN);
}
static ae_tensor *bad_labels_linear(ae_model *m, ae_tensor *x)
{
    (void)x;
    return ae_linear(ae_labels(m), 3);
}
static ae_tensor *bad_labels_relu(ae_model *m, ae_tensor *x)
{
    (void)x;
    return ae_relu(ae_labels(m));
}
static ae_tensor *bad_labels_add(ae_model *m, ae_tensor *x)
{
    (void)x;
    return ae_add(ae_input(m, 1, 1, 1), ae_labels(m));
}
static ae_tensor *bad_labels_concat(ae_model *m, ae_tensor *x)
{
    (void)x;
    return ae_concat(ae_labels(m), ae_input(m, 1, 1, 1));
}
static ae_tensor *bad_labels_reshape(ae_model *m, ae_tensor *x)
{
    (void)x;
    return ae_flatten(ae_labels(m));
}
static ae_tensor *bad_labels_softmax(ae_model *m, ae_tensor *x)
{
    (void)x;
    return ae_softmax(ae_labels(m));
}
static ae_tensor *bad_labels_mse(ae_model *m, ae_tensor *x)
{
    return ae_mse(ae_linear(x, 1), ae_labels(m), AE_MEAN);
}
static ae_tensor *bad_labels_logits(ae_model *m, ae_tensor *x)
{
    (void)x;
    return ae_cross_entropy(ae_labels(m), ae_labels(m), AE_MEAN);
}
static ae_tensor *bad_entropy(ae_model *m, ae_tensor *x)
{
    (void)m;
    return ae_cross_entropy(x, x, AE_MEAN);
}
static ae_tensor *bad_huber(ae_model *m, ae_tensor *x)
{
    (void)m;
    return ae_huber(x, x, 0.0f, AE_MEAN);
}
static ae_tensor *bad_huber_nan(ae_model *m, ae_tensor *x)
{
    (void)m;
    return ae_huber(x, x, test_nan(), AE_MEAN);
}
static ae_tensor *bad_smooth(ae_model *m, ae_tensor *x)
{
    (void)m;
    return ae_smooth_l1(x, x, -1.0f, AE_MEAN);
}
static ae_tensor *bad_reduction(ae_model *m, ae_tensor *x)
{
    (void)m;
    return ae_l1(x, x, (ae_reduction)3);
}
static ae_tensor *bad_act(ae_model *m, ae_tensor *x)
{
    (void)m;
    return ae_activation(x, AE_ACT_COUNT, 0.0f);
}
static ae_tensor *bad_act_nan(ae_model *m, ae_tensor *x)
{
    (void)m;
    return ae_leaky_relu(x, test_nan());
}
static ae_tensor *bad_null_second(ae_model *m, ae_tensor *x) { (void)m; return ae_add(x, NULL); }
static ae_tensor *bad_null_target(ae_model *m, ae_tensor *x)
{
    (void)m;
    return ae_mse(x, NULL, AE_MEAN);
}
static ae_tensor *bad_mixed(ae_model *m, ae_tensor *x)
{
    (void)m;
    ae_model *other = ae_model_new(net_arena(ROOM), 1);
    return ae_add(x, ae_input(other, 2, 3, 4));
}
static ae_tensor *bad_minimize(ae_model *m, ae_tensor *x) { (void)m; ae_minimize(x); return NULL; }
static ae_tensor *bad_monitor(ae_model *m, ae_tensor *x) { (void)m; ae_monitor(x); return NULL; }
static ae_tensor *bad_weight(ae_model *m, ae_tensor *x)
{
    (void)m;
    ae_minimize_weighted(ae_mse(ae_linear(x, 24), x, AE_MEAN), test_inf());
    return NULL;
}
static ae_tensor *bad_reserve(ae_model *m, ae_tensor *x)
{
    (void)x;
    ae_reserve_optim(m, 3);
    return NULL;
}

static const struct {
    mistake *make;
    ae_status status;
    const char *says[3];
} mistakes[] = {
    { bad_add, AE_E_SHAPE, { "add", "input1 is 2x3x4", "other is 2x4x3" } },
    { bad_concat, AE_E_SHAPE, { "concat", "input1 is 2x3x4", "other is 1x3x5" } },
    { bad_concat_w, AE_E_SHAPE, { "concat", "input1 is 2x3x4", "other is 1x5x4" } },
    { bad_reshape, AE_E_SHAPE, { "reshape1", "2x3x4 has 24", "5x5x1 has 25" } },
    { bad_reshape_0, AE_E_SHAPE, { "reshape1", "24x-1x-1", "at least 1" } },
    { bad_mse, AE_E_SHAPE, { "mse", "code is 23x1x1", "input1 is 2x3x4" } },
    { bad_input, AE_E_SHAPE, { "input2", "3x0x4", "at least 1" } },
    { bad_input_neg, AE_E_SHAPE, { "input2", "-3x1x1", "at least 1" } },
    { bad_input_huge, AE_E_SHAPE, { "input2", "65536x32768x1", "2^31" } },
    { bad_linear, AE_E_SHAPE, { "linear1", "0x1x1", "at least 1" } },
    { bad_linear_neg, AE_E_SHAPE, { "linear1", "-7x1x1", "at least 1" } },
    { bad_linear_huge, AE_E_SHAPE, { "linear1", "24 inputs", "2147483647 outputs" } },
    { bad_loss_input, AE_E_SHAPE, { "relu1", "mse1", "loss" } },
    { bad_loss_linear, AE_E_SHAPE, { "linear1", "mse1", "loss" } },
    { bad_loss_loss, AE_E_SHAPE, { "mse", "mse1", "loss" } },
    { bad_labels_linear, AE_E_SHAPE, { "linear1", "labels", "" } },
    { bad_labels_relu, AE_E_SHAPE, { "relu1", "labels", "" } },
    { bad_labels_add, AE_E_SHAPE, { "add", "labels", "" } },
    { bad_labels_concat, AE_E_SHAPE, { "concat", "labels", "" } },
    { bad_labels_reshape, AE_E_SHAPE, { "reshape", "labels", "" } },
    { bad_labels_softmax, AE_E_SHAPE, { "softmax", "labels", "" } },
    { bad_labels_mse, AE_E_SHAPE, { "mse", "labels", "cross_entropy" } },
    { bad_labels_logits, AE_E_SHAPE, { "cross_entropy", "labels", "" } },
    { bad_entropy, AE_E_ARG, { "cross_entropy", "input1", "ae_labels" } },
    { bad_huber, AE_E_ARG, { "huber", "delta is 0", "above 0" } },
    { bad_huber_nan, AE_E_ARG, { "huber", "delta is not finite", "" } },
    { bad_smooth, AE_E_ARG, { "smooth_l1", "beta is -1", "above 0" } },
    { bad_reduction, AE_E_ARG, { "l1", "reduction 3", "" } },
    { bad_act, AE_E_ARG, { "activation", "10", "" } },
    { bad_act_nan, AE_E_ARG, { "leaky_relu", "not finite", "" } },
    { bad_null_second, AE_E_ARG, { "add", "second", "NULL" } },
    { bad_null_target, AE_E_ARG, { "mse", "second", "NULL" } },
    { bad_mixed, AE_E_ARG, { "add", "another model", "" } },
    { bad_minimize, AE_E_ARG, { "ae_minimize", "input1", "not a loss" } },
    { bad_monitor, AE_E_ARG, { "ae_monitor", "input1", "not a loss" } },
    { bad_weight, AE_E_ARG, { "ae_minimize", "mse1", "not finite" } },
    { bad_reserve, AE_E_ARG, { "ae_reserve_optim", "3", "" } },
};

TEST(model_mistakes_are_kept)
{
    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        ae_model *m = ae_model_new(net_arena(ROOM), 1);
        ae_tensor *x = ae_input(m, 2, 3, 4);
        test_context("mistake %d (%s)", (int)i, mistakes[i].says[0]);
        ae_tensor *bad = mistakes[i].make(m, x);
        CHECK(bad == NULL);
        CHECK_INT(ae_model_status(m), mistakes[i].status);
        for (int k = 0; k < 3; k++) CHECK_ERROR(ae_error(m), mistakes[i].says[k]);
        char first[AE_ERROR_MAX];
        snprintf(first, sizeof first, "%s", ae_error(m));
        // whatever comes later passes through and changes nothing about it
        CHECK(ae_linear(bad, 3) == NULL);
        CHECK(ae_relu(x) == NULL);
        CHECK(ae_add(x, bad) == NULL && ae_concat(bad, x) == NULL);
        CHECK(ae_mse(bad, x, AE_SUM) == NULL);
        CHECK(ae_input(m, 0, 0, 0) == NULL);
        ae_minimize(NULL);
        ae_minimize_weighted(bad, test_nan());
        ae_monitor(NULL);
        CHECK(ae_name(NULL, "x") == NULL);
        CHECK_INT(ae_plan(m, 2, AE_TRAIN), 0);
        CHECK_INT(ae_build(m, 2, AE_TRAIN), mistakes[i].status);
        CHECK_INT(ae_build(m, 0, AE_INFER), mistakes[i].status);
        float data[24];
        memset(data, 0, sizeof data);
        CHECK_INT(ae_set(m, x, data, 1), mistakes[i].status);
        CHECK_INT(ae_run(m, x, 1), mistakes[i].status);
        CHECK(ae_get(m, x) == NULL);
        CHECK_STR(ae_error(m), first);
        CHECK_INT(ae_model_status(m), mistakes[i].status);
    }
}

TEST(model_null_passes_through)
{
    CHECK(ae_model_new(NULL, 1) == NULL);
    CHECK_ERROR(ae_error(NULL), "ae_model_new");
    CHECK(ae_model_status(NULL) != AE_SUCCESS);
    CHECK(ae_input(NULL, 1, 1, 1) == NULL && ae_labels(NULL) == NULL && ae_linear(NULL, 3) == NULL);
    CHECK(ae_linear_no_bias(NULL, 3) == NULL && ae_activation(NULL, AE_ACT_RELU, 0) == NULL);
    CHECK(ae_identity(NULL) == NULL && ae_relu(NULL) == NULL && ae_leaky_relu(NULL, 1) == NULL);
    CHECK(ae_elu(NULL, 1) == NULL && ae_gelu(NULL) == NULL && ae_gelu_tanh(NULL) == NULL);
    CHECK(ae_silu(NULL) == NULL && ae_softplus(NULL) == NULL && ae_sigmoid(NULL) == NULL);
    CHECK(ae_tanh(NULL) == NULL && ae_softmax(NULL) == NULL && ae_add(NULL, NULL) == NULL);
    CHECK(ae_concat(NULL, NULL) == NULL && ae_reshape(NULL, 1, 1, 1) == NULL);
    CHECK(ae_flatten(NULL) == NULL && ae_mse(NULL, NULL, AE_MEAN) == NULL);
    CHECK(ae_l1(NULL, NULL, AE_MEAN) == NULL && ae_huber(NULL, NULL, 1, AE_MEAN) == NULL);
    CHECK(ae_smooth_l1(NULL, NULL, 1, AE_MEAN) == NULL && ae_bce(NULL, NULL, AE_MEAN) == NULL);
    CHECK(ae_bce_logits(NULL, NULL, AE_MEAN) == NULL);
    CHECK(ae_cross_entropy(NULL, NULL, AE_MEAN) == NULL);
    ae_minimize(NULL);
    ae_monitor(NULL);
    ae_reserve_optim(NULL, 1);
    CHECK(ae_name(NULL, NULL) == NULL);
    CHECK_INT(ae_plan(NULL, 1, AE_TRAIN), 0);
    CHECK(ae_build(NULL, 1, AE_TRAIN) != AE_SUCCESS);
    CHECK(ae_set_threads(NULL, 1) != AE_SUCCESS && ae_set_exec(NULL, NULL) != AE_SUCCESS);
    CHECK(ae_set(NULL, NULL, NULL, 1) != AE_SUCCESS && ae_run(NULL, NULL, 1) != AE_SUCCESS);
    CHECK(ae_run_from(NULL, NULL, NULL, NULL, 1) != AE_SUCCESS && ae_get(NULL, NULL) == NULL);
    CHECK(ae_predict(NULL, NULL, NULL, NULL, 1) != AE_SUCCESS);
    CHECK(ae_forward(NULL, 1) != AE_SUCCESS && ae_backward(NULL, 1) != AE_SUCCESS);
    CHECK(ae_step(NULL, NULL) != AE_SUCCESS && ae_steps(NULL) == 0);
    ae_zero_grad(NULL);
    CHECK(ae_param_at(NULL, 0) == NULL && ae_param_find(NULL, "x") == NULL);
    CHECK(ae_param_data(NULL, NULL) == NULL && ae_segment_data(NULL, AE_SEG_PARAM, NULL) == NULL);
    CHECK(ae_snapshot_bytes(NULL) == 0 && ae_snapshot(NULL, NULL) != AE_SUCCESS);
    CHECK(ae_restore(NULL, NULL, 0) != AE_SUCCESS);
    CHECK_CLOSE(ae_batch_loss(NULL, NULL), 0, 0);
    CHECK_CLOSE(ae_mean_loss(NULL, NULL), 0, 0);
}

TEST(model_bad_builds)
{
    ae_model *empty = ae_model_new(net_arena(ROOM), 1);
    CHECK_STR(ae_error(empty), "");
    CHECK_INT(ae_build(empty, 1, AE_TRAIN), AE_E_ARG);
    CHECK_ERROR(ae_error(empty), "empty");
    net g;
    zoo(&g, net_arena(ROOM), DEEP, 1);
    static const int batches[] = { 0, -1, -2147483647 };
    for (int i = 0; i < 3; i++) {
        CHECK_INT(ae_build(g.m, batches[i], AE_TRAIN), AE_E_ARG);
        CHECK_ERROR(ae_error(g.m), "batch");
        CHECK_INT(ae_plan(g.m, batches[i], AE_INFER), 0);
    }
    CHECK_ERROR(ae_error(g.m), "-2147483647");
#ifndef __cplusplus     // where an enum cannot hold it
    CHECK_INT(ae_build(g.m, 1, (ae_mode)2), AE_E_ARG);
#endif
    CHECK_INT(ae_build(g.m, 2147483647, AE_TRAIN), AE_E_MEMORY);
    CHECK_INT(ae_set_threads(g.m, 0), AE_E_ARG);
    CHECK_ERROR(ae_error(g.m), "0 threads");
    ae_exec none;
    memset(&none, 0, sizeof none);
    none.threads = 1;
    CHECK_INT(ae_set_exec(g.m, &none), AE_E_ARG);
    // none of these is kept
    CHECK_INT(ae_build(g.m, 4, AE_TRAIN), AE_SUCCESS);
    CHECK_STR(ae_error(g.m), "");
    CHECK_INT(ae_build(g.m, 4, AE_TRAIN), AE_E_ARG);
    CHECK_ERROR(ae_error(g.m), "already built");
    g.n = 4;
    ae_optim adam = net_optim(AE_ADAM, 0);
    step_by_hand(&g, 1, &adam);
}

/* A built model's graph is closed: attempts are refused and leave it working as before. */
TEST(model_graph_after_build)
{
    net g, f;
    zoo(&g, net_arena(ROOM), LOSSES, 1);
    zoo(&f, net_arena(ROOM), LOSSES, 1);
    REQUIRE(ae_build(g.m, 4, AE_TRAIN) == AE_SUCCESS);
    REQUIRE(ae_build(f.m, 4, AE_TRAIN) == AE_SUCCESS);
    ae_tensor *x = g.node[0].t;
    CHECK(ae_relu(x) == NULL);
    CHECK_INT(ae_model_status(g.m), AE_E_ARG);
    CHECK_ERROR(ae_error(g.m), "already built");
    CHECK(ae_input(g.m, 1, 1, 1) == NULL);
    CHECK(ae_mse(x, x, AE_MEAN) == NULL);
    ae_minimize(g.term[2].loss);
    CHECK_INT(ae_model_status(g.m), AE_E_ARG);
    ae_minimize_weighted(g.term[0].loss, test_nan());
    CHECK_INT(ae_model_status(g.m), AE_E_ARG);
    CHECK_ERROR(ae_error(g.m), "not finite");
    ae_minimize(x);
    CHECK_INT(ae_model_status(g.m), AE_E_ARG);
    ae_reserve_optim(g.m, 1);
    CHECK_INT(ae_model_status(g.m), AE_E_ARG);
    g.n = f.n = 4;
    ae_optim adam = net_optim(AE_ADAM, 0);
    step_by_hand(&g, 3, &adam);
    step_by_hand(&f, 3, &adam);
    float a = ae_batch_loss(g.m, NULL), b = ae_batch_loss(f.m, NULL);
    CHECK_BITS(&a, &b, 1);
    size_t floats;
    float *p = segment(g.m, AE_SEG_PARAM, &floats);
    CHECK_SAME(p, segment(f.m, AE_SEG_PARAM, &floats), floats);
}

TEST(model_bad_calls)
{
    net g, other;
    zoo(&g, net_arena(ROOM), DEEP, 1);
    zoo(&other, net_arena(ROOM), DEEP, 1);
    float *data = DATA_IN(5 * 35, 0, 1, 1);
    ae_optim adam = net_optim(AE_ADAM, 0);
    ae_tensor *x = g.node[0].t, *y = g.node[g.count - 1].t;
    // not built
    CHECK_INT(ae_set(g.m, x, data, 1), AE_E_ARG);
    CHECK_ERROR(ae_error(g.m), "ae_build");
    CHECK_INT(ae_run(g.m, y, 1), AE_E_ARG);
    CHECK_INT(ae_forward(g.m, 1), AE_E_ARG);
    CHECK_INT(ae_step(g.m, &adam), AE_E_ARG);
    CHECK_INT(ae_predict(g.m, y, data, data, 1), AE_E_ARG);
    CHECK_INT(ae_snapshot(g.m, data), AE_E_ARG);
    CHECK_INT(ae_snapshot_bytes(g.m), 0);
    CHECK_INT(ae_steps(g.m), 0);
    CHECK(ae_get(g.m, x) == NULL);
    CHECK_CLOSE(ae_batch_loss(g.m, NULL), 0, 0);
    REQUIRE(ae_build(g.m, 4, AE_TRAIN) == AE_SUCCESS);
    REQUIRE(ae_build(other.m, 4, AE_TRAIN) == AE_SUCCESS);
    CHECK_INT(ae_set(g.m, x, data, 4), AE_SUCCESS);
    // n
    static const int ns[] = { 0, -1, 5, 2147483647, -2147483647 };
    for (int i = 0; i < 5; i++) {
        CHECK_INT(ae_set(g.m, x, data, ns[i]), AE_E_ARG);
        CHECK_ERROR(ae_error(g.m), "1 to 4");
        CHECK_INT(ae_run(g.m, y, ns[i]), AE_E_ARG);
        CHECK_INT(ae_forward(g.m, ns[i]), AE_E_ARG);
        CHECK_INT(ae_run_from(g.m, x, data, y, ns[i]), AE_E_ARG);
        CHECK_INT(ae_model_status(g.m), AE_E_ARG);
    }
    // tensors
    CHECK_INT(ae_run(g.m, NULL, 1), AE_E_ARG);
    CHECK_INT(ae_run(g.m, other.node[0].t, 1), AE_E_ARG);
    CHECK_ERROR(ae_error(g.m), "another model");
    CHECK_INT(ae_set(g.m, other.node[0].t, data, 1), AE_E_ARG);
    CHECK_INT(ae_set(g.m, x, NULL, 1), AE_E_ARG);
    CHECK_INT(ae_set(g.m, g.term[0].loss, data, 1), AE_E_ARG);
    CHECK(ae_get(g.m, other.node[0].t) == NULL && ae_get(g.m, NULL) == NULL);
    CHECK_INT(ae_run_from(g.m, y, data, x, 1), AE_E_ARG);
    CHECK_ERROR(ae_error(g.m), "does not depend on");
    CHECK_INT(ae_run_from(g.m, NULL, data, x, 1), AE_E_ARG);
    CHECK_INT(ae_run_from(g.m, other.node[0].t, data, y, 1), AE_E_ARG);
    CHECK_INT(ae_run_from(g.m, g.term[0].loss, data, g.term[0].loss, 1), AE_E_ARG);
    CHECK_CLOSE(ae_batch_loss(g.m, y), 0, 0);           // not a loss
    CHECK_CLOSE(ae_batch_loss(g.m, other.term[0].loss), 0, 0);
    // and then all is well
    CHECK_INT(ae_run(g.m, y, 4), AE_SUCCESS);
    CHECK_INT(ae_model_status(g.m), AE_SUCCESS);
    CHECK_STR(ae_error(g.m), "");
    // trained although built for inference
    net f;
    zoo(&f, net_arena(ROOM), DEEP, 1);
    REQUIRE(ae_build(f.m, 4, AE_INFER) == AE_SUCCESS);
    CHECK_INT(ae_forward(f.m, 1), AE_E_ARG);
    CHECK_ERROR(ae_error(f.m), "AE_TRAIN");
    CHECK_INT(ae_step(f.m, &adam), AE_E_ARG);
    CHECK_INT(ae_backward(f.m, 1), AE_E_ARG);
    ae_zero_grad(f.m);
    // without a loss
    zoo(&f, net_arena(ROOM), BARE, 1);
    REQUIRE(ae_build(f.m, 4, AE_TRAIN) == AE_SUCCESS);
    net_data(&f, 4, 1);
    CHECK_INT(ae_forward(f.m, 4), AE_E_ARG);
    CHECK_ERROR(ae_error(f.m), "ae_minimize");
}

TEST(model_bad_optimisers)
{
    net g;
    zoo(&g, net_arena(ROOM), DEEP, 1);
    REQUIRE(ae_build(g.m, 2, AE_TRAIN) == AE_SUCCESS);
    net_data(&g, 2, 1);
    CHECK_INT(ae_forward(g.m, 2), AE_SUCCESS);
    CHECK_INT(ae_backward(g.m, 1.0f), AE_SUCCESS);
    size_t floats;
    float *p = segment(g.m, AE_SEG_PARAM, &floats), *before = COPY(p, floats);
    const float bad[] = { test_nan(), test_inf(), -test_inf(), -1e-3f };
    for (int field = 0; field < 9; field++)
        for (int i = 0; i < 4; i++) {
            static const char *const names[] = { "lr", "beta1", "beta2", "eps", "weight_decay",
                                                 "momentum", "lr_decay", "clip_value",
                                                 "clip_norm" };
            ae_optim o = net_optim(AE_ADAM, 0);
            float *fields[] = { &o.lr, &o.beta1, &o.beta2, &o.eps, &o.weight_decay, &o.momentum,
                                &o.lr_decay, &o.clip_value, &o.clip_norm };
            *fields[field] = bad[i];
            CHECK_INT(ae_step(g.m, &o), AE_E_ARG);
            CHECK_ERROR(ae_error(g.m), names[field]);
        }
    ae_optim o = net_optim(AE_ADAM, 0);
    o.beta1 = 1.0f;
    CHECK_INT(ae_step(g.m, &o), AE_E_ARG);
    CHECK_INT(ae_step(g.m, NULL), AE_E_ARG);
    o = net_optim((ae_optim_kind)7, 0);
    CHECK_INT(ae_step(g.m, &o), AE_E_ARG);
    CHECK_BITS(p, before, floats);
    CHECK_INT(ae_steps(g.m), 0);
    o = net_optim(AE_ADAM, 0);
    CHECK_INT(ae_step(g.m, &o), AE_SUCCESS);
    CHECK_INT(ae_steps(g.m), 1);
}

/* What is not finite, or outside what a loss takes, is named; the weights stay. */
TEST(model_bad_values)
{
    net g;
    zoo(&g, net_arena(ROOM), DEEP, 1);
    REQUIRE(ae_build(g.m, 3, AE_TRAIN) == AE_SUCCESS);
    size_t floats;
    float *p = segment(g.m, AE_SEG_PARAM, &floats), *before = COPY(p, floats);
    float *grad = segment(g.m, AE_SEG_GRAD, &floats);
    // pixels 0 ... 255 into BCE
    net_make_data(&g, 3, 1);
    g.set[0][2 * 35 + 17] = 255.0f;
    net_set_data(&g, g.m);
    CHECK_INT(ae_forward(g.m, 3), AE_E_ARG);
    CHECK_ERROR(ae_error(g.m), "255");
    CHECK_ERROR(ae_error(g.m), "scale");
    CHECK_ERROR(ae_error(g.m), "1/255");
    CHECK_ERROR(ae_error(g.m), "bce1");
    CHECK_ERROR(ae_error(g.m), "sample 2, element 17");
    CHECK_INT(ae_backward(g.m, 1.0f), AE_E_ARG);
    CHECK_INT(ae_forward(g.m, 2), AE_SUCCESS);      // the other two are fine
    g.set[0][2 * 35 + 17] = -0.001f;
    net_set_data(&g, g.m);
    CHECK_INT(ae_forward(g.m, 3), AE_E_ARG);
    CHECK_ERROR(ae_error(g.m), "-0.001");
    g.set[0][2 * 35 + 17] = test_nan();
    net_set_data(&g, g.m);
    CHECK(ae_forward(g.m, 3) != AE_SUCCESS);
    CHECK_ERROR(ae_error(g.m), "not finite");
    ae_optim adam = net_optim(AE_ADAM, 0);
    CHECK_BITS(p, before, floats);
    // a gradient that is not finite
    grad[5] = test_inf();
    CHECK_INT(ae_step(g.m, &adam), AE_E_NUMERIC);
    CHECK_ERROR(ae_error(g.m), "gradient");
    CHECK_BITS(p, before, floats);
    CHECK_INT(ae_steps(g.m), 0);
    adam.clip_norm = 1.0f;
    CHECK_INT(ae_step(g.m, &adam), AE_E_NUMERIC);
    CHECK_BITS(p, before, floats);
    grad[5] = test_nan();
    adam.clip_value = 1.0f;
    CHECK_INT(ae_step(g.m, &adam), AE_E_NUMERIC);
    CHECK_BITS(p, before, floats);
    // BCE on what is no probability
    ae_model *m = ae_model_new(net_arena(ROOM), 1);
    ae_tensor *x = ae_input(m, 4, 1, 1), *y = ae_linear(x, 4);
    ae_minimize(ae_bce(y, x, AE_MEAN));
    ae_init_all(m, ae_init_constant(1.0f), ae_init_constant(1.0f));
    REQUIRE(ae_build(m, 1, AE_TRAIN) == AE_SUCCESS);
    float *ones = DATA_IN(4, 0.5, 0.9, 1);
    CHECK_INT(ae_set(m, x, ones, 1), AE_SUCCESS);
    CHECK_INT(ae_forward(m, 1), AE_E_ARG);
    CHECK_ERROR(ae_error(m), "sigmoid");
    CHECK_ERROR(ae_error(m), "ae_bce_logits");
}

TEST(model_not_finite_is_named)
{
    net g;
    zoo(&g, net_arena(ROOM), SKIPS, 1);
    REQUIRE(ae_build(g.m, 3, AE_TRAIN) == AE_SUCCESS);
    size_t floats;
    float *p = segment(g.m, AE_SEG_PARAM, &floats), *before = COPY(p, floats);
    net_make_data(&g, 3, 1);
    g.set[0][24 + 3] = test_nan();
    net_set_data(&g, g.m);
    CHECK_INT(ae_forward(g.m, 3), AE_E_NUMERIC);
    CHECK_ERROR(ae_error(g.m), "n0 (sample 1)");
    CHECK_ERROR(ae_error(g.m), "step 1");
    CHECK_BITS(p, before, floats);
    g.set[0][24 + 3] = 1.0f;
    net_set_data(&g, g.m);
    CHECK_INT(ae_forward(g.m, 3), AE_SUCCESS);
    // a weight of the layer behind node 7
    float *w = ae_param_data(g.m, ae_weight(g.node[7].t));
    REQUIRE(w != NULL);
    w[4] = test_inf();
    CHECK_INT(ae_forward(g.m, 3), AE_E_NUMERIC);
    CHECK_ERROR(ae_error(g.m), "n7 (sample 0)");
    // overflow without any bad value: 1e30 squared
    w[4] = 0.0f;
    g.set[0][5] = 1e30f;
    net_set_data(&g, g.m);
    CHECK_INT(ae_forward(g.m, 3), AE_E_NUMERIC);
    CHECK_ERROR(ae_error(g.m), "mse1");
}

TEST(model_bad_labels)
{
    net g;
    zoo(&g, net_arena(ROOM), CLASSIFIER, 1);
    REQUIRE(ae_build(g.m, 3, AE_TRAIN) == AE_SUCCESS);
    static const int32_t bad[] = { 5, -1, 2147483647, -2147483647 - 1, 255 };
    for (int i = 0; i < 5; i++) {
        net_make_data(&g, 3, 1);
        g.label[2] = bad[i];
        net_set_data(&g, g.m);
        CHECK_INT(ae_forward(g.m, 3), AE_E_ARG);
        CHECK_ERROR(ae_error(g.m), "cross_entropy1");
        CHECK_ERROR(ae_error(g.m), "sample 2");
        CHECK_ERROR(ae_error(g.m), "0 ... 4");
        CHECK_INT(ae_forward(g.m, 2), AE_SUCCESS);
    }
    net_data(&g, 3, 1);
    CHECK_INT(ae_forward(g.m, 3), AE_SUCCESS);
}

/* Compiled without AE_USE_CUDA: the processor, or a sentence. */
TEST(model_devices)
{
    ae_arena *arena = ae_arena_new(1u << 20);
    ae_model *m = ae_model_new(arena, 1);
    ae_tensor *x = ae_input(m, 3, 1, 1);
    ae_minimize(ae_mse(ae_linear(x, 3), x, AE_MEAN));
    CHECK_STR(ae_device(m), "");
    CHECK_INT(ae_set_device(m, (ae_device_kind)9), AE_E_ARG);
    CHECK_INT(ae_set_device(m, AE_DEVICE_CUDA), AE_SUCCESS);
    const size_t used = ae_arena_used(arena);
    CHECK_INT(ae_build(m, 2, AE_TRAIN), AE_E_DEVICE);
    CHECK(strstr(ae_error(m), "AE_USE_CUDA") != NULL);
    CHECK(ae_arena_used(arena) == used);                // as before: it may choose again
    CHECK_INT(ae_set_device(m, AE_DEVICE_AUTO), AE_SUCCESS);
    CHECK_INT(ae_build(m, 2, AE_TRAIN), AE_SUCCESS);
    CHECK_STR(ae_device(m), "cpu");
    CHECK_INT(ae_set_device(m, AE_DEVICE_CPU), AE_E_ARG);
    CHECK_STR(ae_device(m), "cpu");
    CHECK_INT(ae_sync(m), AE_SUCCESS);
    const float values[6] = {1, 2, 3, 4, 5, 6};
    ae_dataset d;
    memset(&d, 0, sizeof d);
    d.floats = values;
    d.n = 2;
    d.c = 3;
    d.h = d.w = 1;
    CHECK_INT(ae_data_upload(m, &d), AE_SUCCESS);
    d.c = 2;
    CHECK_INT(ae_data_upload(m, &d), AE_E_SHAPE);
    ae_arena_free(arena);
}

TEST(model_allocates_nothing)
{
    size_t calls;
    for (int kind = 0; kind < ZOO; kind++)
        for (int mode = AE_INFER; mode <= AE_TRAIN; mode++) {
            net g;
            zoo(&g, net_arena(ROOM), kind, 1);
            calls = test_mallocs();
            REQUIRE(ae_build(g.m, 5, (ae_mode)mode) == AE_SUCCESS);
            use(&g, 5, (ae_mode)mode);
            CHECK_INT(test_mallocs(), calls);
        }
}

/* What a call by hand may count on: noise goes by the sample's place, a gradient belongs to the
   inputs of its forward pass, names and pointers are looked at. */
TEST(model_calls_by_hand) {
    ae_arena *a = net_arena(ROOM);
    ae_model *m = ae_model_new(a, 7);
    ae_tensor *x = ae_input(m, 3, 1, 1);
    ae_tensor *n = ae_noise_fixed(ae_noise_always(ae_gaussian_noise(x, 1.0f, 0.0f, 0.0f)));
    ae_tensor *y = ae_linear(x, 3);
    char name[52];
    memset(name, 'n', 51);
    name[51] = 0;
    ae_minimize(ae_mse(y, x, AE_MEAN));
    REQUIRE(ae_build(m, 4, AE_TRAIN) == AE_SUCCESS);
    float zero[30] = {0}, first[6], again[6], ten[30];
    REQUIRE(ae_run_from(m, x, zero, n, 2) == AE_SUCCESS);
    memcpy(first, ae_get(m, n), sizeof first);
    CHECK(memcmp(first, first + 3, 3 * sizeof *first) != 0);    // each sample has its own
    CHECK_INT(ae_predict(m, n, ten, zero, 10), AE_SUCCESS);
    REQUIRE(ae_run_from(m, x, zero, n, 2) == AE_SUCCESS);       // not that of the last call
    memcpy(again, ae_get(m, n), sizeof again);
    CHECK_BITS(again, first, 6);
    CHECK_BITS(ten, first, 6);
    CHECK_INT(ae_predict(m, n, ten, NULL, 2), AE_E_ARG);
    CHECK_INT(ae_predict(m, n, NULL, zero, 2), AE_E_ARG);
    CHECK_INT(ae_forward(m, 2), AE_SUCCESS);
    CHECK_INT(ae_set(m, x, ten, 2), AE_SUCCESS);
    CHECK_INT(ae_backward(m, 1.0f), AE_E_ARG);                  // of other inputs
    CHECK(ae_name(y, name) == NULL);
    CHECK_ERROR(ae_error(m), "50 characters");
}

TEST_LIST(model) {
    CASE(model_plan_is_exact), CASE(model_plan_error_names_the_tensor),
    CASE(model_arena_of_every_size), CASE(model_plan_entries),
    CASE(model_inference_reuses_memory), CASE(model_reserve_optim), CASE(model_values),
    CASE(model_inference_equals_training), CASE(model_run_from), CASE(model_run_from_what_z_holds),
    CASE(model_values_computed_over), CASE(model_large_pictures_in_chunks),
    CASE(model_large_pictures_same_bits_for_any_threads),
    CASE(model_large_pictures_memory), CASE(model_large_pictures_tied),
    CASE(model_large_pictures_error_of_the_first),
    CASE(model_large_pictures_nonfinite_gradient),
    CASE(model_runs_only_what_is_needed), CASE(model_predict),
    CASE(model_predict_dataset), CASE(model_gradients_random),
    CASE(model_gradients_of_two_activations), CASE(model_products_with_activations),
    CASE(model_pools_with_activations), CASE(model_gradients_of_crossed_pools),
    CASE(model_gradients_twice), CASE(model_gradients_reductions),
    CASE(model_monitor_changes_nothing), CASE(model_backward_accumulates),
    CASE(model_smaller_batch), CASE(model_same_bits_for_any_threads),
    CASE(model_same_bits_for_any_threads_large), CASE(model_threads_after_build),
    CASE(model_seeds), CASE(model_parameters), CASE(model_initialisers), CASE(model_fork),
    CASE(model_fork_in_a_small_arena),
#if defined(_OPENMP)
    CASE(model_forks_in_threads),
#endif
    CASE(model_mistakes_are_kept), CASE(model_null_passes_through), CASE(model_bad_builds),
    CASE(model_graph_after_build), CASE(model_bad_calls), CASE(model_bad_optimisers),
    CASE(model_bad_values), CASE(model_not_finite_is_named), CASE(model_bad_labels),
    CASE(model_devices), CASE(model_allocates_nothing), CASE(model_calls_by_hand), CASE_END
};
