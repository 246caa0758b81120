#!/usr/bin/python3
"""Makes golden/scores.txt, as golden.py makes the others (see there), with numpy in double.

    /usr/bin/python3 tests/golden/golden_scores.py

Principal components come from a singular value decomposition of the centred data, not from a
covariance; quantiles from numpy; areas under curves from their definitions, pair by pair and
threshold by threshold; SSIM from a two-dimensional window at every place.
"""
import os
import struct

import numpy as np

rng = np.random.default_rng(11)
HERE = os.path.dirname(os.path.abspath(__file__))
OUT = open(os.path.join(HERE, "scores.txt"), "w")
OUT.write("# made by golden_scores.py with numpy %s\n" % np.__version__)


def put(name, values):
    values = np.asarray(values, dtype=np.float64)
    words = ["%08x" % struct.unpack("<I", struct.pack("<f", v))[0] for v in values.reshape(-1)]
    OUT.write(" ".join([name] + [str(d) for d in values.shape]) + "\n")
    for i in range(0, len(words), 11):
        OUT.write(" ".join(words[i:i + 11]) + "\n")


def singles(x):
    """As doubles."""
    return np.asarray(x, dtype=np.float32).astype(np.float64)


# --- principal components

def pca(name, n, D, K):
    x = singles(rng.normal(size=(n, D)) @ np.diag(0.8 ** np.arange(D)) @ rng.normal(size=(D, D)) + 3)
    mean = x.mean(axis=0)
    _, s, v = np.linalg.svd(x - mean, full_matrices=False)
    v = v[:K]
    v = v * np.sign(v[np.arange(K), np.abs(v).argmax(axis=1)])[:, None]
    codes = (x - mean) @ v.T
    for key, value in (("x", x), ("mean", mean), ("components", v), ("codes", codes),
                       ("variance", s[:K] ** 2 / (n - 1)), ("decoded", codes @ v + mean),
                       ("total", [(s ** 2).sum() / (n - 1)])):
        put("%s.%s" % (name, key), value)


pca("pca_tall", 60, 13, 5)
pca("pca_wide", 7, 11, 5)

# --- scores of samples

x = singles(rng.normal(size=41))
put("quantile.x", x)
q = np.array([0, 0.01, 0.25, 0.5, 0.625, 0.95, 1])
put("quantile.q", q)
put("quantile.value", np.quantile(x, singles(q)))


def areas(name, scores, positive):
    P, N = scores[positive], scores[~positive]
    above = (P[:, None] > N[None, :]).sum() + 0.5 * (P[:, None] == N[None, :]).sum()
    precision, recall_before = 0.0, 0.0
    for t in sorted(set(scores), reverse=True):
        chosen = scores >= t
        recall = positive[chosen].sum() / positive.sum()
        precision += (recall - recall_before) * positive[chosen].mean()
        recall_before = recall
    put(name + ".scores", scores)
    put(name + ".positive", positive)
    put(name + ".auroc", [above / (len(P) * len(N))])
    put(name + ".precision", [precision])


for i, digits in enumerate((9, 1, 0)):          # without, with some, with many equal scores
    positive = rng.random(57) < 0.3
    areas("areas%d" % i, singles(np.round(rng.normal(size=57) + positive, digits)), positive)

# --- pictures


def ssim(a, b, span):
    at = np.arange(11) - 5
    g = np.exp(-(at[:, None] ** 2 + at[None, :] ** 2) / (2 * 1.5 ** 2))
    g /= g.sum()
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    values = []
    for u, v in zip(a, b):
        for i in range(u.shape[0] - 10):
            for j in range(u.shape[1] - 10):
                p, r = u[i:i + 11, j:j + 11], v[i:i + 11, j:j + 11]
                mp, mr = (g * p).sum(), (g * r).sum()
                vp, vr = (g * (p - mp) ** 2).sum(), (g * (r - mr) ** 2).sum()
                both = (g * (p - mp) * (r - mr)).sum()
                values.append((2 * mp * mr + c1) * (2 * both + c2)
                              / ((mp ** 2 + mr ** 2 + c1) * (vp + vr + c2)))
    return np.mean(values)


for name, shape, span in (("small", (1, 11, 11), 1.0), ("wide", (2, 13, 90), 1.0),
                          ("bytes", (1, 28, 28), 255.0)):
    a = singles(rng.random(shape) * span)
    b = singles(np.clip(a + rng.normal(size=shape) * 0.2 * span, 0, span))
    put("ssim_%s.a" % name, a)
    put("ssim_%s.b" % name, b)
    put("ssim_%s.range" % name, [span])
    put("ssim_%s.ssim" % name, [ssim(a, b, span)])
    put("ssim_%s.psnr" % name, [10 * np.log10(span ** 2 / np.mean((a - b) ** 2))])
OUT.close()
