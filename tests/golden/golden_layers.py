#!/usr/bin/python3
"""Makes golden/pool.txt and golden/norm.txt, as golden.py makes the others (see there).

    /usr/bin/python3 tests/golden/golden_layers.py

Everything is computed in double from singles and rounded once, but for nearest upsampling: which
neighbour that takes depends on the precision, and ae.h promises the one of singles.
"""
import os
import struct

import torch
import torch.nn.functional as F

torch.manual_seed(2)
torch.set_num_threads(1)
HERE = os.path.dirname(os.path.abspath(__file__))


class Golden:
    """One file of records."""

    def __init__(self, name):
        self.f = open(os.path.join(HERE, name + ".txt"), "w")
        self.names = set()
        self.f.write("# made by golden_layers.py with PyTorch %s\n" % torch.__version__)

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


def layer(out, name, y, x, extra=()):
    """y, a dy, and the gradients of <y, dy> for x and the named others."""
    dy = singles(*y.shape)
    out.put(name + ".dy", dy)
    out.put(name + ".y", y)
    for (key, t), g in zip([("x", x)] + list(extra),
                           torch.autograd.grad(y, [x] + [t for _, t in extra], dy)):
        out.put(name + ".d" + key, g)


# --- pooling: the C test has the same list of geometries ----------------------

# H, W, kernel, stride, padding, dilation
MAX = [(4, 6, (2, 2), (2, 2), (0, 0), (1, 1)), (7, 19, (2, 2), (2, 2), (0, 0), (1, 1)),
       (7, 9, (3, 2), (2, 1), (1, 1), (1, 1)), (9, 8, (3, 3), (1, 2), (1, 1), (2, 3)),
       (5, 4, (5, 4), (1, 1), (0, 0), (1, 1)), (1, 11, (1, 3), (1, 2), (0, 1), (1, 2))]
AVG = [(4, 6, (2, 2), (2, 2), (0, 0), 0), (7, 9, (3, 2), (2, 1), (1, 1), 0),
       (7, 9, (3, 2), (2, 1), (1, 1), 1), (6, 5, (6, 5), (6, 5), (0, 0), 0),
       (9, 8, (4, 5), (3, 2), (2, 2), 1)]
SIZES = [(4, 5, 8, 10), (3, 4, 7, 5), (5, 3, 2, 7), (6, 1, 6, 3), (4, 4, 4, 4), (2, 3, 82, 1)]
# H, W, top, bottom, left, right
PADS = [(5, 4, 1, 2, 0, 3), (5, 6, -1, -2, -3, 0), (4, 5, 2, -1, -2, 1)]


def pool():
    out = Golden("pool")
    B, C = 1, 2
    for i, (H, W, k, s, p, d) in enumerate(MAX):
        x = singles(B, C, H, W)
        x = (x * 4).round() / 4 if i % 2 else x             # with ties
        x.requires_grad_(True)
        out.put("max%d.x" % i, x)
        y, index = F.max_pool2d(x, k, s, p, d, return_indices=True)
        out.put("max%d.index" % i, index)
        layer(out, "max%d" % i, y, x)
        if i < 2:
            u = singles(*y.shape).requires_grad_(True)
            out.put("unpool%d.x" % i, u)
            layer(out, "unpool%d" % i, F.max_unpool2d(u, index, k, s, p, (H, W)), u)
    for i, (H, W, k, s, p, exclude) in enumerate(AVG):
        x = singles(B, C, H, W).requires_grad_(True)
        out.put("avg%d.x" % i, x)
        layer(out, "avg%d" % i, F.avg_pool2d(x, k, s, p, count_include_pad=not exclude), x)
    for i, (H, W, OH, OW) in enumerate(SIZES):
        for mode in ("nearest", "bilinear"):
            x = singles(1, 2, H, W)
            if mode == "nearest":
                x = x.float()
            x.requires_grad_(True)
            out.put("%s%d.x" % (mode, i), x)
            y = F.interpolate(x, size=(OH, OW), mode=mode,
                              **({"align_corners": False} if mode == "bilinear" else {}))
            dy = singles(*y.shape).to(y.dtype)
            out.put("%s%d.dy" % (mode, i), dy)
            out.put("%s%d.y" % (mode, i), y)
            out.put("%s%d.dx" % (mode, i), torch.autograd.grad(y, x, dy)[0])
    for i, (H, W, top, bottom, left, right) in enumerate(PADS):
        x = singles(B, C, H, W).requires_grad_(True)
        out.put("pad%d.x" % i, x)
        layer(out, "pad%d" % i, F.pad(x, (left, right, top, bottom), value=0.625), x)


# --- normalisation -----------------------------------------------------------

BATCH = [(3, 2, 5), (7, 3, 1), (2, 2, 66)]                  # B C P
GROUP = [(3, 6, 5, 3), (2, 4, 1, 2), (3, 4, 7, 1)]          # B C P groups
LAYER = [(3, 13, 1), (2, 3, 7)]                             # B C P


def norm():
    out = Golden("norm")
    for i, (B, C, P) in enumerate(BATCH):
        name = "batch%d" % i
        gamma, beta = singles(C).requires_grad_(True), singles(C).requires_grad_(True)
        mean, var = singles(C), singles(C, low=0.5, high=2)
        for key, t in [("gamma", gamma), ("beta", beta), ("run_mean", mean), ("run_var", var)]:
            out.put(name + "." + key, t)
        mean, var = mean.clone(), var.clone()
        for step in range(5):                               # running statistics after 5 batches
            x = (singles(B, C, P) * (step + 1)).requires_grad_(True)
            out.put("%s.%d.x" % (name, step), x)
            y = F.batch_norm(x, mean, var, gamma, beta, True, 0.2, 1e-3)
        layer(out, name, y, x, (("gamma", gamma), ("beta", beta)))
        out.put(name + ".mean_5", mean)
        out.put(name + ".var_5", var)
        out.put(name + ".infer", F.batch_norm(x, mean, var, gamma, beta, False, 0.2, 1e-3))
        out.put(name + ".plain", F.batch_norm(x, None, None, None, None, True, 0.2, 1e-3))
    for i, (B, C, P, groups) in enumerate(GROUP):
        x = singles(B, C, P).requires_grad_(True)
        gamma, beta = singles(C).requires_grad_(True), singles(C).requires_grad_(True)
        for key, t in [("x", x), ("gamma", gamma), ("beta", beta)]:
            out.put("group%d.%s" % (i, key), t)
        layer(out, "group%d" % i, F.group_norm(x, groups, gamma, beta, 1e-3), x,
              (("gamma", gamma), ("beta", beta)))
    for i, (B, C, P) in enumerate(LAYER):
        x = singles(B, C, P).requires_grad_(True)
        gamma, beta = singles(C, P).requires_grad_(True), singles(C, P).requires_grad_(True)
        for key, t in [("x", x), ("gamma", gamma), ("beta", beta)]:
            out.put("layer%d.%s" % (i, key), t)
        layer(out, "layer%d" % i, F.layer_norm(x, (C, P), gamma, beta, 1e-3), x,
              (("gamma", gamma), ("beta", beta)))


if __name__ == "__main__":
    pool()
    norm()
