#!/usr/bin/python3
"""Makes image_training.txt: whole trainings of convolutional autoencoders as PyTorch does them (see
golden.py, whose class, inputs and conventions these are).

    /usr/bin/python3 golden_image.py [where golden.py is] [where image_training.txt goes]

13 pictures of 2 x 9 x 7 in batches of 5, 5 and 3, 20 steps. Of net N: start_N.LAYER.weight, ...
before the first step, N.loss of every step, N.LAYER.weight, ... (and running statistics) after the
last, N.evaluation: the loss over all pictures with running statistics, and N.y: then the first one.

PyTorch in single precision is held to the tolerance that the tests give ae.h, as in golden.py.
"""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, sys.argv[1] if len(sys.argv) > 1 else HERE)
import golden                                                                   # noqa: E402
from golden import BATCH, F, Golden, SAMPLES, singles, torch                    # noqa: E402

STEPS = 20


class Net:
    """Parameters and running statistics by the library's names: conv2d1.weight, ..."""

    def __init__(self, start, dtype):
        self.p = {k: v.to(dtype).clone().requires_grad_("running" not in k)
                  for k, v in start.items()}
        self.train = True
        self.count = {}

    def begin(self, train):
        self.train = train
        self.count = {}

    def of(self, kind):
        self.count[kind] = self.count.get(kind, 0) + 1
        name = "%s%d." % (kind, self.count[kind])
        return lambda what: self.p.get(name + what)

    def conv(self, x, **options):
        p = self.of("conv2d")
        return F.conv2d(x, p("weight"), p("bias"), **options)

    def conv_transpose(self, x, **options):
        p = self.of("conv_transpose2d")
        return F.conv_transpose2d(x, p("weight"), p("bias"), **options)

    def batch_norm(self, x):
        p = self.of("batch_norm")
        return F.batch_norm(x, p("running_mean"), p("running_var"), p("weight"), p("bias"),
                            self.train)

    def group_norm(self, x, groups):
        p = self.of("group_norm")
        return F.group_norm(x, groups, p("weight"), p("bias"))

    def layer_norm(self, x):
        p = self.of("layer_norm")
        return F.layer_norm(x, x.shape[1:], p("weight"), p("bias"))


def transpose(n, x):
    """What ae_mirror makes of the encoder: 9x7 -> 4x3 -> 2x2 and back."""
    h = F.max_pool2d(F.relu(n.batch_norm(n.conv(x, padding=1))), 2)
    z = n.conv(h, stride=2, padding=1)
    h = n.conv_transpose(z, stride=2, padding=1, output_padding=(1, 0))
    h = F.interpolate(F.relu(n.batch_norm(h)), size=(9, 7))
    return n.conv_transpose(h, padding=1)


def upsample(n, x):
    h = torch.tanh(n.batch_norm(n.conv(x, stride=2, padding=1)))
    z = n.conv(h, stride=(1, 2), dilation=(2, 1))
    h = F.interpolate(z, size=h.shape[2:])
    h = torch.tanh(n.batch_norm(n.conv(h, padding=(2, 1), dilation=(2, 1))))
    return n.conv(F.interpolate(h, size=(9, 7)), padding=1)


def groups(n, x):
    h = F.silu(n.group_norm(n.conv(x, stride=2, padding=1), 2))
    h = F.avg_pool2d(h, 3, 2, 1)
    h = F.gelu(n.layer_norm(n.conv(h, padding=1)))
    return n.conv(F.interpolate(h, size=(9, 7), mode="bilinear", align_corners=False), padding=1)


def weights(shapes, bias):
    """Of layers (name, weight's shape); normalisations have one dimension, or three."""
    start = {}
    for name, shape in shapes:
        norm = len(shape) != 4
        out = shape[1] if "transpose" in name else shape[0]
        scale, shift = (0.2, 1) if norm else (0.5, 0)
        start[name + ".weight"] = (singles(*shape) * scale + shift).float().double()
        if bias or norm:
            start[name + ".bias"] = (singles(*(shape if norm else [out])) * 0.2).float().double()
        if "batch" in name:
            start[name + ".running_mean"] = torch.zeros(out).double()
            start[name + ".running_var"] = torch.ones(out).double()
    return start


def train(net, start, opt_kind, options, x, dtype):
    """Losses of all steps, weights, evaluation, a picture."""
    n = Net(start, dtype)
    opt = opt_kind([p for p in n.p.values() if p.requires_grad], **options)
    x = x.to(dtype)
    told = []
    for step in range(STEPS):
        part = x[step % 3 * BATCH:][:BATCH]
        n.begin(True)
        loss = F.mse_loss(net(n, part), part)
        opt.zero_grad()
        loss.backward()
        opt.step()
        told.append(loss.detach().double())
    n.begin(False)
    y = net(n, x)
    last = {k: v.detach().double() for k, v in n.p.items()}
    last["loss"] = torch.stack(told)
    last["evaluation"] = F.mse_loss(y, x).detach().double().reshape(1)
    last["y"] = y[0].detach().double()
    return last


def main():
    torch.manual_seed(4)
    os.chdir(sys.argv[2] if len(sys.argv) > 2 else HERE)
    golden.HERE = os.getcwd()
    out = Golden("image_training")
    x = singles(SAMPLES, 2, 9, 7, low=-1, high=1.2)
    out.put("x", x)
    sgd = (torch.optim.SGD, dict(lr=0.05, momentum=0.9))
    adam = (torch.optim.Adam, dict(lr=0.005))
    adamw = (torch.optim.AdamW, dict(lr=0.005, weight_decay=0.01))
    # A bias before a batch normalisation has gradient 0 up to rounding, which Adam would blow up.
    nets = [
        ("transpose", transpose, sgd, True,
         [("conv2d1", (4, 2, 3, 3)), ("batch_norm1", (4,)), ("conv2d2", (3, 4, 3, 3)),
          ("conv_transpose2d1", (3, 4, 3, 3)), ("batch_norm2", (4,)),
          ("conv_transpose2d2", (4, 2, 3, 3))]),
        ("upsample", upsample, adam, False,
         [("conv2d1", (4, 2, 3, 3)), ("batch_norm1", (4,)), ("conv2d2", (3, 4, 3, 3)),
          ("conv2d3", (4, 3, 3, 3)), ("batch_norm2", (4,)), ("conv2d4", (2, 4, 3, 3))]),
        ("groups", groups, adamw, True,
         [("conv2d1", (4, 2, 3, 3)), ("group_norm1", (4,)), ("conv2d2", (3, 4, 2, 2)),
          ("layer_norm1", (3, 4, 3)), ("conv2d3", (2, 3, 3, 3))]),
    ]
    for name, net, opt, bias, shapes in nets:
        start = weights(shapes, bias)
        last = train(net, start, opt[0], opt[1], x, torch.float64)
        last32 = train(net, start, opt[0], opt[1], x, torch.float32)
        for k, v in start.items():
            out.put("start_%s.%s" % (name, k), v)
        for k, v in last.items():
            # a picture's elements are sums that nearly cancel: rounded like their larger terms
            golden.close("%s, %s" % (name, k), last32[k], v, 1e-4 if k == "y" else 1e-5)
            out.put("%s.%s" % (name, k), v)
    print("PyTorch's singles use %.2f of the tolerance, at %s" % golden.worst)


if __name__ == "__main__":
    main()
