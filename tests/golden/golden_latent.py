#!/usr/bin/python3
"""Makes golden/latent.txt and golden/penalty.txt, as golden.py makes the others (see there).

    /usr/bin/python3 tests/golden/golden_latent.py

Everything is computed in double from singles and rounded once. Where PyTorch has the loss or the
distribution, it is taken from there; every gradient is autograd's.
"""
import math
import os
import struct

import torch
import torch.nn.functional as F
from torch.distributions import Bernoulli, Normal, kl_divergence

torch.manual_seed(3)
torch.set_num_threads(1)
HERE = os.path.dirname(os.path.abspath(__file__))


class Golden:
    """One file of records."""

    def __init__(self, name):
        self.f = open(os.path.join(HERE, name + ".txt"), "w")
        self.names = set()
        self.f.write("# made by golden_latent.py with PyTorch %s\n" % torch.__version__)

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
    """Random singles, as doubles, not symmetric about 0, that learn."""
    t = (torch.rand(*shape, dtype=torch.float32) * (high - low) + low).double()
    return t.requires_grad_(True)


def reduce(terms, how):
    """terms (B,F)"""
    return {"mean": terms.mean(), "batch_mean": terms.sum() / terms.shape[0],
            "sum": terms.sum()}[how]


REDUCTIONS = ("mean", "batch_mean", "sum")
DLOSS = 0.7


def put_all(out, name, **tensors):
    for key, t in tensors.items():
        out.put(name + "." + key, t)


def put_loss(out, name, loss, **inputs):
    """A loss and the gradients of 0.7 of it."""
    out.put(name + ".loss", loss.reshape(1))
    for (key, _), g in zip(inputs.items(), torch.autograd.grad(DLOSS * loss, inputs.values(),
                                                               retain_graph=True)):
        out.put(name + ".d" + key, g)


# --- codes -------------------------------------------------------------------

def densities(out):
    for i, (B, C) in enumerate([(3, 5), (1, 1), (7, 11)]):
        mu, logvar, z = singles(B, C), singles(B, C, low=-3, high=2), singles(B, C, low=-2, high=2)
        x, t = singles(B, C, low=-4, high=4), singles(B, C, low=0, high=1)
        dy = singles(B)
        name = "density%d" % i
        put_all(out, name, mu=mu, logvar=logvar, z=z, x=x, t=t, dy=dy)
        kl = kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(torch.tensor(0.0).double(), 1.0))
        for how in REDUCTIONS:
            put_loss(out, "%s.kl.%s" % (name, how), reduce(kl, how), mu=mu, logvar=logvar)
            free = torch.clamp(kl.mean(0), min=0.6).expand(B, C)        # free bits of 0.6 nats
            put_loss(out, "%s.free.%s" % (name, how), reduce(free, how), mu=mu, logvar=logvar)
            nll = F.gaussian_nll_loss(mu, z, logvar.exp(), full=True, eps=0, reduction="none")
            put_loss(out, "%s.nll.%s" % (name, how), reduce(nll, how), mu=mu, logvar=logvar, z=z)
        for key, y, inputs in [
                ("normal", Normal(mu, (logvar / 2).exp()).log_prob(z).sum(1),
                 dict(z=z, mu=mu, logvar=logvar)),
                ("unit", Normal(mu, 1.0).log_prob(z).sum(1), dict(z=z, mu=mu)),
                ("standard", Normal(0 * z.detach(), 1.0).log_prob(z).sum(1), dict(z=z)),
                ("bernoulli", -F.binary_cross_entropy_with_logits(x, t, reduction="none").sum(1),
                 dict(x=x, t=t))]:
            out.put("%s.%s.y" % (name, key), y)
            for (k, _), g in zip(inputs.items(), torch.autograd.grad(y, inputs.values(), dy,
                                                                    retain_graph=True)):
                out.put("%s.%s.d%s" % (name, key, k), g)
        hard = (t > 0.5).double()       # the distribution itself takes only 0 and 1
        assert torch.allclose(Bernoulli(logits=x).log_prob(hard),
                              -F.binary_cross_entropy_with_logits(x, hard, reduction="none"))


def iwae(out):
    for i, (B, k) in enumerate([(12, 4), (6, 1), (5, 5), (14, 7)]):
        px, pz, qz = (singles(B, low=-30, high=-20), singles(B, low=-9, high=-5),
                      singles(B, low=-3, high=4))
        put_all(out, "iwae%d" % i, px=px, pz=pz, qz=qz)
        w = (px + pz - qz).reshape(B // k, k)
        bound = -(torch.logsumexp(w, 1) - math.log(k))
        for how in ("mean", "sum"):
            put_loss(out, "iwae%d.%s" % (i, how), getattr(bound, how)(), px=px, pz=pz, qz=qz)


def quantise(x, codes):
    """Nearest codes to the channels of x (B,C,P)."""
    d = (x.permute(0, 2, 1).unsqueeze(2) - codes).pow(2).sum(-1)        # B P K
    index = d.argmin(-1)
    return codes[index].permute(0, 2, 1), index


def vq(out):
    for i, (B, C, P, K) in enumerate([(3, 2, 5, 7), (9, 4, 1, 5), (2, 1, 6, 3)]):
        x, codes = singles(B, C, P), singles(K, C)
        y, index = quantise(x, codes)
        put_all(out, "vq%d" % i, x=x, codes=codes, y=y, index=index)
        for how in REDUCTIONS:
            terms = 0.3 * (x - y.detach()).pow(2) + (x.detach() - y).pow(2)
            put_loss(out, "vq%d.%s" % (i, how), reduce(terms.reshape(B, C * P), how),
                     x=x, codes=codes)
    # a whole model: the gradient goes straight through
    x = singles(4, 3, 2, 2)
    a, b = singles(2, 3), singles(2)
    codes = singles(5, 2)
    c, d = singles(3, 2), singles(3)
    z = F.conv2d(x, a[:, :, None, None], b).reshape(4, 2, 4)
    e, index = quantise(z, codes)
    y = F.conv2d((z + (e - z).detach()).reshape(4, 2, 2, 2), c[:, :, None, None], d)
    loss = F.mse_loss(y, x) + 0.4 * F.mse_loss(z, e.detach()) + F.mse_loss(e, z.detach())
    put_all(out, "vq_model", x=x, a=a, b=b, codes=codes, c=c, d=d, index=index)
    put_loss(out, "vq_model", loss, a=a, b=b, codes=codes, c=c, d=d)


def mmd(out):
    for i, (B, C) in enumerate([(2, 1), (5, 3), (9, 8)]):
        z, prior = singles(B, C, low=-2, high=3), singles(B, C, low=-2, high=2)
        put_all(out, "mmd%d" % i, z=z, prior=prior)

        def kernel(p, q):
            d = (p[:, None] - q[None]).pow(2).sum(-1)
            return sum(2 * C * s / (2 * C * s + d) for s in (0.1, 0.2, 0.5, 1, 2, 5, 10))
        off = 1 - torch.eye(B).double()
        loss = (((kernel(z, z) + kernel(prior, prior)) * off).sum() / (B * (B - 1))
                - 2 * kernel(z, prior).mean())
        put_loss(out, "mmd%d" % i, loss, z=z)


# --- penalties ---------------------------------------------------------------

ACTS = [("identity", lambda s: s), ("relu", F.relu),
        ("leaky_relu", lambda s: F.leaky_relu(s, 0.2)), ("elu", lambda s: F.elu(s, 0.7)),
        ("gelu", F.gelu), ("gelu_tanh", lambda s: F.gelu(s, approximate="tanh")), ("silu", F.silu),
        ("softplus", F.softplus), ("sigmoid", torch.sigmoid), ("tanh", torch.tanh)]


def penalties(out):
    for i, (B, C) in enumerate([(3, 5), (1, 1), (7, 11)]):
        x, p = singles(B, C), singles(B, C, low=0.05, high=0.9)
        put_all(out, "sparse%d" % i, x=x, p=p)
        for how in REDUCTIONS:
            put_loss(out, "sparse%d.l1.%s" % (i, how), reduce(x.abs(), how), x=x)
            m = p.mean(0)
            kl = 0.1 * (0.1 / m).log() + 0.9 * (0.9 / (1 - m)).log()
            put_loss(out, "sparse%d.kl.%s" % (i, how), kl.mean() if how == "mean" else kl.sum(),
                     p=p)
    B, D, O = 3, 4, 5
    x, w, b = singles(B, D), singles(O, D), singles(O)
    put_all(out, "contractive", x=x, w=w, b=b)
    for name, act in ACTS:
        # by its definition, from each sample's whole Jacobian; s is let in as a variable of its own
        shift = torch.zeros(B, O).double().requires_grad_(True)
        total = 0
        for i in range(B):
            jacobian = torch.autograd.functional.jacobian(
                lambda v: act(v @ w.t() + b + shift[i]), x[i], create_graph=True)
            total = total + jacobian.pow(2).sum()
        for how, by in (("mean", B), ("sum", 1)):
            key = "contractive.%s.%s" % (name, how)
            loss = total / by
            out.put(key + ".loss", loss.reshape(1))
            # dw here without the way through s, which the library's graph takes by itself
            ds = torch.autograd.grad(DLOSS * loss, shift, retain_graph=True,
                                     allow_unused=True)[0]
            ds = torch.zeros(B, O).double() if ds is None else ds
            dw = torch.autograd.grad(DLOSS * loss, w, retain_graph=True)[0]
            out.put(key + ".ds", ds)
            out.put(key + ".dw", dw - ds.t() @ x)
            out.put(key + ".whole_dw", dw)
    for O, D in [(3, 5), (4, 4), (7, 2), (1, 9), (9, 1)]:
        w = singles(O, D)
        gram = w @ w.t() if O <= D else w.t() @ w
        name = "orthogonal.%dx%d" % (O, D)
        out.put(name + ".w", w)
        put_loss(out, name, (gram - torch.eye(min(O, D)).double()).pow(2).sum(), w=w)


# --- tied layers -------------------------------------------------------------

def tied(out):
    x, w, b, c = singles(6, 5), singles(3, 5), singles(3), singles(5)
    y = torch.tanh(x @ w.t() + b) @ w + c
    put_all(out, "tied_linear", x=x, w=w, b=b, c=c, y=y)
    put_loss(out, "tied_linear", F.mse_loss(y, x), w=w, b=b, c=c)
    for i, (H, W, stride, groups) in enumerate([(7, 8, 2, 1), (9, 7, 3, 2)]):
        x, w = singles(3, 2, H, W), singles(4, 2 // groups, 3, 3)
        b, c = singles(4), singles(2)
        h = torch.tanh(F.conv2d(x, w, b, stride, 1, groups=groups))
        more = [n - ((m - 1) * stride - 2 + 3) for n, m in zip((H, W), h.shape[2:])]
        y = F.conv_transpose2d(h, w, c, stride, 1, more, groups)
        assert y.shape == x.shape
        put_all(out, "tied_conv%d" % i, x=x, w=w, b=b, c=c, y=y)
        put_loss(out, "tied_conv%d" % i, F.mse_loss(y, x), w=w, b=b, c=c)


if __name__ == "__main__":
    latent = Golden("latent")
    for part in (densities, iwae, vq, mmd, tied):
        part(latent)
    penalties(Golden("penalty"))
