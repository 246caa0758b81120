#!/usr/bin/python3
"""Makes conv.txt: convolution and its transpose as PyTorch computes them (see golden.py, whose
class, inputs and conventions these are).

    /usr/bin/python3 golden_conv.py [where golden.py is] [where conv.txt goes]

Records of case k: k.g = transpose B C H W O, kernel, stride, pad, dilation, output_pad (h and w
each), groups; then k.x, k.w, k.b, k.dy, and PyTorch's k.y, k.dx, k.dw, k.db.
"""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, sys.argv[1] if len(sys.argv) > 1 else HERE)
import golden                                                                   # noqa: E402
from golden import F, Golden, grads, singles, torch                             # noqa: E402

# B C H W O, kernel, stride, pad, dilation, output_pad, groups
CONVS = [
    (2, 3, 7, 6, 4, (3, 3), (1, 1), (1, 1), (1, 1), (0, 0), 1),
    (3, 1, 9, 8, 5, (3, 3), (1, 1), (1, 1), (1, 1), (0, 0), 1),
    (2, 3, 8, 7, 2, (3, 3), (2, 2), (1, 1), (1, 1), (0, 0), 1),
    (1, 2, 9, 11, 3, (5, 3), (1, 2), (2, 0), (1, 1), (0, 0), 1),
    (2, 4, 6, 5, 6, (1, 1), (1, 1), (0, 0), (1, 1), (0, 0), 1),
    (2, 4, 7, 5, 6, (1, 1), (2, 3), (1, 0), (1, 1), (0, 0), 2),
    (2, 3, 10, 9, 2, (3, 2), (1, 1), (2, 1), (2, 3), (0, 0), 1),
    (2, 6, 6, 7, 4, (3, 3), (1, 1), (1, 1), (1, 1), (0, 0), 2),
    (2, 4, 7, 7, 4, (3, 3), (2, 1), (1, 1), (1, 1), (0, 0), 4),
    (2, 3, 1, 17, 4, (1, 5), (1, 2), (0, 2), (1, 1), (0, 0), 1),
    (2, 2, 13, 1, 3, (4, 1), (3, 1), (3, 0), (1, 1), (0, 0), 1),
    (1, 3, 5, 4, 7, (5, 4), (1, 1), (0, 0), (1, 1), (0, 0), 1),
]
TRANSPOSES = [
    (2, 4, 5, 4, 3, (2, 2), (2, 2), (0, 0), (1, 1), (0, 0), 1),
    (3, 5, 6, 5, 1, (2, 2), (2, 2), (0, 0), (1, 1), (0, 0), 1),
    (2, 3, 4, 5, 2, (3, 3), (2, 2), (1, 1), (1, 1), (1, 1), 1),
    (2, 3, 4, 3, 2, (3, 3), (2, 3), (1, 0), (1, 1), (0, 2), 1),
    (2, 3, 6, 5, 4, (3, 3), (1, 1), (1, 1), (1, 1), (0, 0), 1),
    (1, 2, 5, 4, 3, (5, 4), (2, 1), (2, 1), (1, 1), (1, 0), 1),
    (2, 4, 5, 6, 6, (1, 1), (1, 1), (0, 0), (1, 1), (0, 0), 1),
    (2, 4, 4, 3, 2, (2, 3), (3, 3), (0, 0), (1, 1), (2, 1), 2),
    (2, 3, 5, 4, 3, (3, 3), (2, 2), (1, 1), (1, 1), (1, 0), 3),
    (2, 2, 4, 4, 3, (2, 3), (1, 2), (1, 2), (3, 2), (2, 1), 1),
    (2, 3, 1, 8, 2, (1, 4), (1, 2), (0, 1), (1, 1), (0, 0), 1),
    (1, 6, 1, 1, 2, (4, 3), (1, 1), (0, 0), (1, 1), (0, 0), 1),
]


def conv():
    out = Golden("conv")
    cases = [(0,) + c for c in CONVS] + [(1,) + c for c in TRANSPOSES]
    for k, (t, B, C, H, W, O, kernel, stride, pad, dilation, more, groups) in enumerate(cases):
        out.put("%d.g" % k, [t, B, C, H, W, O, *kernel, *stride, *pad, *dilation, *more, groups])
        shape = (C, O // groups) if t else (O, C // groups)
        x, w, b = singles(B, C, H, W), singles(*shape, *kernel), singles(O)
        for a in (x, w, b):
            a.requires_grad_(True)
        if t:
            y = F.conv_transpose2d(x, w, b, stride, pad, more, groups, dilation)
        else:
            y = F.conv2d(x, w, b, stride, pad, dilation, groups)
        dy = singles(*y.shape)
        for key, a in [("x", x), ("w", w), ("b", b), ("dy", dy), ("y", y)]:
            out.put("%d.%s" % (k, key), a)
        for key, a in zip(("dx", "dw", "db"), grads(y, dy, (x, w, b))):
            out.put("%d.%s" % (k, key), a)
    out.f.close()


if __name__ == "__main__":
    golden.HERE = sys.argv[2] if len(sys.argv) > 2 else HERE
    torch.manual_seed(3)
    conv()
