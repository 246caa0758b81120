#!/usr/bin/env python3
"""Single layers in PyTorch, by the functions that its modules and autograd call, for bench_layers:
    check LAYER PART B C H W         the result, of arrays that `pattern` gives
    time N                           seconds of N calls of the same
"""
from torch_common import now, pattern, placed, serve, torch

aten = torch.ops.aten
CONVOLUTIONS = {        # channels out, kernel, stride, padding, transposed
    "conv_1_16": (16, 3, 1, 1, False),
    "conv_16_32": (32, 3, 1, 1, False),
    "transposed_32_16": (16, 2, 2, 0, True),
    "transposed_16_1": (1, 2, 2, 0, True),
}


def convolution(name, part, x):
    out, kernel, stride, pad, transposed = CONVOLUTIONS[name]
    channels = x.shape[1]
    shape = (channels, out) if transposed else (out, channels)
    w = placed(pattern(1, *shape, kernel, kernel))
    b = pattern(2, out)
    x = placed(x)
    how = ([stride] * 2, [pad] * 2, [1, 1], transposed, [0, 0], 1)
    if part == "y":
        return lambda: aten.convolution(x, w, b, *how)
    dy = placed(pattern(3, *aten.convolution(x, w, b, *how).shape))
    mask = [True, False, False] if part == "dx" else [False, True, True]
    one = mask.index(True)
    return lambda: aten.convolution_backward(dy, x, w, [out], *how, mask)[one]


def max_pool(part, x):
    x = placed(x)
    how = ([2, 2], [2, 2], [0, 0], [1, 1], False)
    if part == "y":
        return lambda: aten.max_pool2d_with_indices(x, *how)[0]
    y, index = aten.max_pool2d_with_indices(x, *how)
    dy = placed(pattern(3, *y.shape))
    return lambda: aten.max_pool2d_with_indices_backward(dy, x, *how, index)


def batch_norm(part, x):
    x = placed(x)
    channels = x.shape[1]
    gamma, beta = pattern(1, channels), pattern(2, channels)
    running = torch.zeros(channels), torch.ones(channels)
    if part == "y":
        return lambda: torch.native_batch_norm(x, gamma, beta, *running, True, 0.1, 1e-5)[0]
    _, mean, rstd = torch.native_batch_norm(x, gamma, beta, *running, True, 0.1, 1e-5)
    dy = placed(pattern(3, *x.shape))
    return lambda: aten.native_batch_norm_backward(
        dy, x, gamma, *running, mean, rstd, True, 1e-5, [True, True, True])[0]


def adam(x):
    w = pattern(1, *x.shape)
    w.grad = pattern(3, *x.shape)
    optimiser = torch.optim.Adam([w], lr=1e-3)

    def step():
        optimiser.step()
        return w
    return step


def call(layer, part, x):
    """What one call of this layer's part is."""
    if layer in CONVOLUTIONS:
        return convolution(layer, part, x)
    if layer == "max_pool":
        return max_pool(part, x)
    if layer == "batch_norm":
        return batch_norm(part, x)
    if layer == "adam":
        return adam(x)
    other = pattern(3, *x.shape)            # dy, or the target
    return {
        ("relu", "y"): lambda: torch.relu(x),
        ("relu", "dx"): lambda y=torch.relu(x): aten.threshold_backward(other, y, 0),
        ("sigmoid", "y"): lambda: torch.sigmoid(x),
        ("sigmoid", "dx"): lambda y=torch.sigmoid(x): aten.sigmoid_backward(other, y),
        ("mse", "y"): lambda: aten.mse_loss(x, other),
        ("mse", "dx"): lambda one=torch.ones(()): aten.mse_loss_backward(one, x, other, 1),
        ("noise", "y"): lambda: (x + 0.2 * torch.randn_like(x)).clamp(0, 1),
    }[layer, part]


chosen = None


def answer(what, *words):
    global chosen
    with torch.no_grad():
        if what == "check":
            chosen = call(words[0], words[1], pattern(0, *map(int, words[2:])))
            return chosen()
        start = now()
        for _ in range(int(words[0])):
            chosen()
        return [now() - start]


serve(answer)
