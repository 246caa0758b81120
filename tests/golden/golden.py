#!/usr/bin/python3
"""Makes the golden files: what PyTorch computes, for the tests to compare ae.h with.

Run it from anywhere, with Debian's python3-torch (1.13 made the committed files):

    apt-get install python3-torch
    /usr/bin/python3 tests/golden/golden.py

It writes linear.txt, activation.txt, loss.txt, optim.txt, schedule.txt and training.txt beside
itself. The tests need only those, not Python. Records are

    name dimensions...
    the values as 8 hex digits each, the bits of the IEEE single

Everything is computed by PyTorch in double from inputs that are singles, and rounded once: a
golden value is right to half a unit in the last place. So that this says something about PyTorch as
people run it, optimisers and trainings are run in single precision as well, and this script stops
if that leaves the tolerance which the tests give ae.h.
"""
import os
import struct

import torch
import torch.nn.functional as F

torch.manual_seed(1)
torch.set_num_threads(1)
HERE = os.path.dirname(os.path.abspath(__file__))


class Golden:
    """One file of records."""

    def __init__(self, name):
        self.f = open(os.path.join(HERE, name + ".txt"), "w")
        self.names = set()
        self.f.write("# made by golden.py with PyTorch %s\n" % torch.__version__)

    def put(self, name, values):
        assert name not in self.names, name
        self.names.add(name)
        values = torch.as_tensor(values, dtype=torch.float64).detach()
        words = ["%08x" % struct.unpack("<I", struct.pack("<f", v))[0]
                 for v in values.reshape(-1).to(torch.float32).tolist()]
        self.f.write(" ".join([name] + [str(d) for d in values.shape]) + "\n")
        for i in range(0, len(words), 11):
            self.f.write(" ".join(words[i:i + 11]) + "\n")


def singles(*shape, low=-0.9, high=0.97):
    """Random singles, as doubles, not symmetric about 0."""
    return (torch.rand(*shape, dtype=torch.float32) * (high - low) + low).double()


def grads(y, dy, inputs):
    """Gradients of <y, dy>; None where PyTorch has none."""
    return torch.autograd.grad(y, inputs, dy, allow_unused=True)


# --- linear ------------------------------------------------------------------

def linear():
    out = Golden("linear")
    for B, I, O in [(3, 5, 7), (1, 1, 1), (13, 33, 17)]:
        x, w, b = singles(B, I), singles(O, I), singles(O)
        dy = singles(B, O)
        for t in (x, w, b):
            t.requires_grad_(True)
        name = "%dx%dx%d." % (B, I, O)
        for key, t in [("x", x), ("w", w), ("b", b), ("dy", dy)]:
            out.put(name + key, t)
        y = F.linear(x, w, b)
        out.put(name + "y", y)
        out.put(name + "y_no_bias", F.linear(x, w))
        for key, g in zip(("dx", "dw", "db"), grads(y, dy, (x, w, b))):
            out.put(name + key, g)


# --- activations -------------------------------------------------------------

ACTIVATIONS = [
    ("identity", 0, lambda x, a: x * 1),
    ("relu", 0, lambda x, a: F.relu(x)),
    ("leaky_relu", 0.01, F.leaky_relu),
    ("leaky_relu", 0.2, F.leaky_relu),
    ("elu", 1, F.elu),
    ("elu", 0.7, F.elu),
    ("gelu", 0, lambda x, a: F.gelu(x)),
    ("gelu_tanh", 0, lambda x, a: F.gelu(x, approximate="tanh")),
    ("silu", 0, lambda x, a: F.silu(x)),
    ("softplus", 0, lambda x, a: F.softplus(x)),
    ("sigmoid", 0, lambda x, a: torch.sigmoid(x)),
    ("tanh", 0, lambda x, a: torch.tanh(x)),
]


def activation():
    out = Golden("activation")
    sizes = [1e-30, 1e-4, 1e-3, 0.01, 0.1, 0.3, 0.5, 0.9, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9, 10,
             12, 15, 17, 19.5, 20, 20.5, 25, 30, 40, 50, 85, 89, 100, 1000]
    x = torch.tensor([s * v for v in sizes for s in (1, -1)] + [0.0], dtype=torch.float32).double()
    x = torch.cat([x, singles(60, low=-4, high=5)]).requires_grad_(True)
    dy = singles(x.numel())
    out.put("x", x)
    out.put("dy", dy)
    for name, a, f in ACTIVATIONS:
        y = f(x, a)
        key = name + ("_%g" % a if a else "")
        out.put(key + ".y", y)
        out.put(key + ".dx", grads(y, dy, (x,))[0])
    for B, N, scale in [(3, 5, 1), (1, 1, 1), (7, 33, 4), (2, 10, 60)]:
        x = (singles(B, N) * scale).float().double().requires_grad_(True)
        dy = singles(B, N)
        y = F.softmax(x, 1)
        key = "softmax.%dx%d." % (B, N)
        for part, t in [("x", x), ("dy", dy), ("y", y), ("dx", grads(y, dy, (x,))[0])]:
            out.put(key + part, t)


# --- losses ------------------------------------------------------------------

LOSSES = [
    ("mse", 0, lambda y, t, a, r: F.mse_loss(y, t, reduction=r)),
    ("l1", 0, lambda y, t, a, r: F.l1_loss(y, t, reduction=r)),
    ("huber", 0.7, lambda y, t, a, r: F.huber_loss(y, t, delta=a, reduction=r)),
    ("huber", 1, lambda y, t, a, r: F.huber_loss(y, t, delta=a, reduction=r)),
    ("smooth_l1", 0.5, lambda y, t, a, r: F.smooth_l1_loss(y, t, beta=a, reduction=r)),
    ("smooth_l1", 1, lambda y, t, a, r: F.smooth_l1_loss(y, t, beta=a, reduction=r)),
    ("bce", 0, lambda y, t, a, r: F.binary_cross_entropy(y, t, reduction=r)),
    ("bce_logits", 0,
     lambda y, t, a, r: F.binary_cross_entropy_with_logits(y, t, reduction=r)),
]
DLOSS = 0.7


def reduced(f, y, t, a, reduction):
    if reduction == "batch_mean":
        return f(y, t, a, "sum") / y.shape[0]
    return f(y, t, a, reduction)


def loss_inputs(name, B, N):
    t = singles(B, N, low=0, high=1) if "bce" in name else singles(B, N, low=-2, high=2.1)
    y = singles(B, N, low=0, high=1) if name == "bce" else singles(B, N, low=-2, high=2.1)
    if name == "bce_logits":
        y = (y * 5).float().double()
    if B * N > 20:              # and the corners
        flat_y, flat_t = y.view(-1), t.view(-1)
        if name == "bce":
            corners = [(0, 0), (0, 1), (0, 0.25), (1, 0), (1, 1), (1, 0.25), (1e-30, 1),
                       (1e-7, 0.5), (1 - 2**-24, 0), (0.5, 0), (0.5, 1)]
        elif name == "bce_logits":
            corners = [(60, 0), (60, 1), (-60, 0), (-60, 1), (0, 0.5), (0, 1), (30, 0.25),
                       (-30, 0.75), (1e-5, 1), (-1e-5, 0), (16, 1), (-16, 0)]
        else:
            corners = [(0.25, 0.25), (0.75, 0.25), (0.25, 1.25), (50, -50), (-1e-4, 1e-4),
                       (-1000, 0)]
        for i, (a, b) in enumerate(corners):
            flat_y[3 * i], flat_t[3 * i] = a, b
        y, t = y.float().double(), t.float().double()
    return y.requires_grad_(True), t.requires_grad_(True)


def loss():
    out = Golden("loss")
    out.put("dloss", DLOSS)
    for B, N in [(3, 5), (1, 1), (7, 11)]:
        for name, a, f in LOSSES:
            y, t = loss_inputs(name, B, N)
            key = "%s%s.%dx%d." % (name, "_%g" % a if a else "", B, N)
            out.put(key + "y", y)
            out.put(key + "t", t)
            for r in ("mean", "batch_mean", "sum"):
                value = reduced(f, y, t, a, r)
                dy, dt = grads(value, torch.tensor(DLOSS, dtype=torch.float64), (y, t))
                out.put(key + r + ".loss", value)
                out.put(key + r + ".dy", dy)
                if dt is not None:
                    out.put(key + r + ".dt", dt)
    for B, N, scale in [(3, 5, 1), (1, 1, 1), (13, 33, 10), (2, 10, 90)]:
        x = (singles(B, N) * scale).float().double().requires_grad_(True)
        labels = torch.randint(0, N, (B,))
        key = "cross_entropy.%dx%d." % (B, N)
        out.put(key + "x", x)
        out.put(key + "labels", labels)
        for r in ("mean", "batch_mean", "sum"):
            value = F.cross_entropy(x, labels, reduction="sum" if r == "sum" else "mean")
            out.put(key + r + ".loss", value)
            out.put(key + r + ".dx",
                    grads(value, torch.tensor(DLOSS, dtype=torch.float64), (x,))[0])


# --- optimisers --------------------------------------------------------------

OPTIMISERS = [
    ("sgd", torch.optim.SGD, dict(lr=0.1)),
    ("sgd_momentum", torch.optim.SGD, dict(lr=0.05, momentum=0.9)),
    ("sgd_nesterov", torch.optim.SGD, dict(lr=0.05, momentum=0.8, nesterov=True)),
    ("sgd_decay", torch.optim.SGD, dict(lr=0.1, weight_decay=0.1)),
    ("sgd_nesterov_decay", torch.optim.SGD,
     dict(lr=0.05, momentum=0.7, nesterov=True, weight_decay=0.05)),
    ("rmsprop", torch.optim.RMSprop, dict()),
    ("rmsprop_alpha", torch.optim.RMSprop, dict(lr=0.02, alpha=0.9, eps=1e-5)),
    ("rmsprop_momentum", torch.optim.RMSprop, dict(lr=0.003, momentum=0.8)),
    ("rmsprop_decay", torch.optim.RMSprop, dict(lr=0.01, weight_decay=0.1, momentum=0.5)),
    ("adagrad", torch.optim.Adagrad, dict()),
    ("adagrad_decay", torch.optim.Adagrad, dict(lr=0.1, lr_decay=0.05, weight_decay=0.1)),
    ("adagrad_eps", torch.optim.Adagrad, dict(lr=0.1, eps=1e-3)),
    ("adam", torch.optim.Adam, dict()),
    ("adam_lr", torch.optim.Adam, dict(lr=0.05)),
    ("adam_decay", torch.optim.Adam, dict(lr=0.02, weight_decay=0.1)),
    ("adam_betas", torch.optim.Adam, dict(lr=0.02, betas=(0.5, 0.75), eps=1e-4)),
    ("adamw", torch.optim.AdamW, dict(lr=0.02, weight_decay=0.01)),
    ("adamw_decay", torch.optim.AdamW, dict(lr=0.05, weight_decay=0.5, betas=(0.8, 0.99))),
]
STEPS = 20


def optimise(kind, options, w0, g, dtype):
    """The parameters after each step."""
    w = w0.to(dtype).clone().requires_grad_(True)
    opt = kind([w], **options)
    after = []
    for step in range(STEPS):
        w.grad = g[step].to(dtype)
        opt.step()
        after.append(w.detach().double().clone())
    return torch.stack(after)


def optim():
    out = Golden("optim")
    n = 37
    w0 = singles(n)
    # from 1e-9, where eps is felt, to 10; and one parameter that never has a gradient
    scale = torch.logspace(-9, 1, n, dtype=torch.float64)
    g = (singles(STEPS, n) * scale).float().double()
    g[:, 5] = 0
    out.put("w0", w0)
    out.put("g", g)
    for name, kind, options in OPTIMISERS:
        w = optimise(kind, options, w0, g, torch.float64)
        close("optim " + name, optimise(kind, options, w0, g, torch.float32), w)
        for step in (1, 2, STEPS):
            out.put("%s.%d" % (name, step), w[step - 1])
    for name, max_norm in [("above", 1e6), ("below", 0.37), ("tiny", 1e-6)]:
        p = torch.zeros(n, dtype=torch.float64)
        p.grad = g[0].clone()
        norm = torch.nn.utils.clip_grad_norm_([p], max_norm)
        out.put("clip_norm_" + name, p.grad)
        out.put("clip_norm_" + name + ".norm", [max_norm, norm])
    p.grad = g[0].clone()
    torch.nn.utils.clip_grad_value_([p], 0.25)
    out.put("clip_value", p.grad)


def close(what, got, want, tol=1e-5):
    """Stops unless PyTorch in single precision is itself within the tests' tolerance.

    That is 1e-5 of a number, and 3e-7 besides: parameters go through numbers up to 1, and each of
    20 steps rounds them by up to 6e-8.
    """
    global worst
    used = ((got - want).abs() / (tol * want.abs() + 0.03 * tol)).max().item()
    assert used <= 1, (what, used)
    worst = max(worst, (used, what))


worst = (0, "")


# --- schedules ---------------------------------------------------------------

SCHEDULES = [
    ("step", lambda o: torch.optim.lr_scheduler.StepLR(o, 10)),
    ("step_7", lambda o: torch.optim.lr_scheduler.StepLR(o, 7, gamma=0.3)),
    ("exponential", lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.95)),
    ("exponential_0.8", lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.8)),
    ("cosine", lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 40)),
    ("cosine_min", lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 40, eta_min=0.02)),
]
PLATEAUS = [
    ("plateau", dict(patience=10)),
    ("plateau_3", dict(factor=0.5, patience=3)),
    ("plateau_min", dict(factor=0.3, patience=1, min_lr=0.01, threshold=0.02)),
]


def schedule():
    """The learning rate at epochs 0 ... 40 for base 0.1."""
    out = Golden("schedule")

    def fresh():
        return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)

    for name, make in SCHEDULES:
        opt = fresh()
        s = make(opt)
        rates = []
        for _ in range(41):
            rates.append(opt.param_groups[0]["lr"])
            opt.step()
            s.step()
        out.put(name, rates)
    # falls, stays, falls a little (relative 1e-4 counts), rises, falls again, stays
    losses = [1 / (1 + 0.3 * e) for e in range(8)] + [0.3] * 5 + \
             [0.29 * (1 - 4e-5) ** e for e in range(12)] + \
             [0.27, 0.28, 0.269] + [0.4] * 7 + [0.2, 0.199, 0.19] + [0.3] * 3
    losses = torch.tensor(losses, dtype=torch.float32).double()
    out.put("losses", losses)
    for name, options in PLATEAUS:
        opt = fresh()
        s = torch.optim.lr_scheduler.ReduceLROnPlateau(opt, **options)
        rates = []
        for e in range(len(losses)):
            rates.append(opt.param_groups[0]["lr"])
            s.step(losses[e].item())
        out.put(name, rates + [opt.param_groups[0]["lr"]])


# --- trainings ---------------------------------------------------------------

SAMPLES, BATCH = 13, 5          # batches of 5, 5 and 3


class Weights:
    """Parameters by the names which the library gives its layers: linear1.weight, ..."""

    def __init__(self, start, dtype):
        self.p = {k: v.to(dtype).clone().requires_grad_(True) for k, v in start.items()}
        self.layer = 0

    def linear(self, x):
        self.layer += 1
        return F.linear(x, self.p["linear%d.weight" % self.layer],
                        self.p.get("linear%d.bias" % self.layer))


def start_weights(shapes, bias=True):
    start = {}
    for i, (n_in, n_out) in enumerate(shapes):
        start["linear%d.weight" % (i + 1)] = (singles(n_out, n_in) * 0.9).float().double()
        if bias:
            start["linear%d.bias" % (i + 1)] = (singles(n_out) * 0.3).float().double()
    return start


DEEP = [(7, 5), (5, 3), (3, 5), (5, 7)]


def deep(w, x, act=torch.tanh):
    return w.linear(act(w.linear(act(w.linear(act(w.linear(x)))))))


def skip_add(w, x):
    """h is read twice; the sum of both paths goes back into it."""
    h = torch.tanh(w.linear(x))
    return w.linear(torch.tanh(w.linear(h)) + h)


def skip_concat(w, x):
    h = torch.tanh(w.linear(x))
    return w.linear(torch.cat([torch.tanh(w.linear(h)), h], 1))


def train(start, losses, opt_kind, options, x, labels, dtype, clip):
    """Loss terms at each step, as (STEPS, terms), and the last weights by name."""
    w = Weights(start, dtype)
    opt = opt_kind(w.p.values(), **options)
    x = x.to(dtype)
    told = []
    for step in range(STEPS):
        at = step % 3 * BATCH
        w.layer = 0
        terms = losses(w, x[at:at + BATCH], labels[at:at + BATCH])
        opt.zero_grad()
        sum(weight * term for weight, term in terms).backward()
        clip(w.p.values())
        opt.step()
        told.append(torch.stack([term.detach().double() for _, term in terms]))
    return torch.stack(told), {k: v.detach().double() for k, v in w.p.items()}


def training():
    out = Golden("training")
    x = singles(SAMPLES, 7, low=-1, high=1.2)
    unit = singles(SAMPLES, 7, low=0, high=1)
    labels = torch.tensor([0, 2, 1, 3, 3, 0, 1, 2, 2, 1, 0, 3, 1])
    out.put("x", x)
    out.put("unit", unit)
    out.put("labels", labels)
    starts = {
        "deep": start_weights(DEEP),
        "no_bias": start_weights(DEEP, bias=False),
        "classify": start_weights([(7, 5), (5, 4)]),
        "skip_add": start_weights([(7, 5), (5, 5), (5, 7)]),
        "skip_concat": start_weights([(7, 5), (5, 3), (8, 7)]),
        "two": start_weights([(7, 5), (5, 3), (3, 7), (7, 3)]),
    }
    for key, start in starts.items():
        for k, v in start.items():
            out.put("start_%s.%s" % (key, k), v)
    sgd = (torch.optim.SGD, dict(lr=0.1, momentum=0.5))

    def run(name, start, losses, opt=sgd, data=x, clip=lambda p: None):
        told, last = train(starts[start], losses, opt[0], opt[1], data, labels, torch.float64, clip)
        told32, last32 = train(starts[start], losses, opt[0], opt[1], data, labels, torch.float32,
                               clip)
        close("training " + name, told32, told)
        for k, v in last.items():
            close("training %s, %s" % (name, k), last32[k], v)
        out.put(name + ".loss", told)
        for k, v in last.items():
            out.put("%s.%s" % (name, k), v)

    def mean_mse(f):
        return lambda w, x, l: [(1, F.mse_loss(f(w, x), x))]

    for name, a, f in ACTIVATIONS:
        key = name + ("_%g" % a if a else "")
        run("act_" + key, "deep",
            mean_mse(lambda w, x, f=f, a=a: deep(w, x, lambda h: f(h, a))))
    run("act_softmax", "deep", mean_mse(lambda w, x: deep(w, x, lambda h: F.softmax(h, 1))))
    run("no_bias", "no_bias", mean_mse(deep))

    for name, a, f in LOSSES:
        for r in ("mean", "batch_mean", "sum"):
            opt = (torch.optim.SGD, dict(lr=0.01 if r == "sum" else 0.05, momentum=0.5))
            end = torch.sigmoid if name == "bce" else (lambda y: y)
            run("loss_%s%s.%s" % (name, "_%g" % a if a else "", r), "deep",
                lambda w, x, l: [(1, reduced(f, end(deep(w, x)), x, a, r))], opt,
                unit if "bce" in name else x)
    for r in ("mean", "sum"):
        opt = (torch.optim.SGD, dict(lr=0.02, momentum=0.5))
        run("loss_cross_entropy." + r, "classify",
            lambda w, x, l: [(1, F.cross_entropy(w.linear(torch.tanh(w.linear(x))), l,
                                                 reduction=r))], opt)

    for name, kind, options in OPTIMISERS:
        run("optim_" + name, "deep", mean_mse(deep), (kind, options))

    run("clip_norm", "deep", mean_mse(deep),
        clip=lambda p: torch.nn.utils.clip_grad_norm_(p, 0.2))
    run("clip_value", "deep", mean_mse(deep),
        clip=lambda p: torch.nn.utils.clip_grad_value_(p, 0.02))

    run("skip_add", "skip_add", mean_mse(skip_add))
    run("skip_concat", "skip_concat", mean_mse(skip_concat))

    def two(w, x, l):
        """Two losses with weights; the second one's prediction and target both learn."""
        z = w.linear(torch.tanh(w.linear(x)))
        y = w.linear(z)
        return [(1, F.mse_loss(y, x)), (0.25, F.huber_loss(z, w.linear(y), reduction="sum") /
                                        x.shape[0])]
    run("two", "two", two)


if __name__ == "__main__":
    linear()
    activation()
    loss()
    optim()
    schedule()
    training()
    print("single precision uses at most %.2f of the tolerance, in %s" % worst)
