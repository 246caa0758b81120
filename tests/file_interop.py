"""Model files and arrays between ae.h and Python: NumPy always, PyTorch where it is installed.

    file_interop.py PROGRAM DIR    PROGRAM: file_interop.c, built
"""
import json
import struct
import subprocess
import sys

import numpy as np

program, folder = sys.argv[1], sys.argv[2]


def run(*args):
    subprocess.run([program, *args], check=True)


def read(path):
    """A .safetensors file: metadata and arrays, by the format's description."""
    with open(path, "rb") as file:
        raw = file.read()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + size].decode("utf-8"))
    assert size % 8 == 0, "the data is not aligned"
    meta, arrays, end = header.pop("__metadata__", {}), {}, 0
    for name, t in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, stop = t["data_offsets"]
        assert begin == end and t["dtype"] == "F32", name
        end = stop
        data = np.frombuffer(raw[8 + size + begin:8 + size + stop], "<f4")
        arrays[name] = data.reshape(t["shape"]).copy()
    assert 8 + size + end == len(raw), "bytes that belong to nothing"
    return meta, arrays


def write(path, arrays, dtype=None):
    header, data = {}, b""
    for name, a in arrays.items():
        kind = {"i": "I64", "f": {2: "F16", 4: "F32", 8: "F64"}[(dtype or a.dtype).itemsize]}
        raw = a.astype(dtype).tobytes() if dtype is not None and a.dtype.kind == "f" else a.tobytes()
        header[name] = {"dtype": kind[a.dtype.kind], "shape": list(a.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def arrays():
    """Every kind of array there and back."""
    rng = np.random.RandomState(1)
    base = rng.uniform(-100, 100, (5, 2, 3, 4))
    for kind in "<f2 >f2 <f4 >f4 <f8 >f8 |u1 |i1 <u2 >i2 <i4 >u4 <i8 >u8 |b1".split():
        for shape in ((120,), (10, 12), (6, 4, 5), (5, 2, 3, 4)):
            for order in "CF":
                a = np.abs(base) if kind[1] in "ub" else base
                a = np.asarray(a.reshape(shape), order=order).astype(kind, order=order)
                np.save(folder + "/a.npy", a)
                run("array", folder + "/a.npy", folder + "/b.npy", folder + "/b.csv")
                want = a.astype("f4") / np.float32(255) if kind == "|u1" else a.astype("f4")
                got = np.load(folder + "/b.npy")
                assert got.dtype == np.dtype("<f4") and got.size == want.size
                assert np.array_equal(got.reshape(shape), want), (kind, shape, order)
                text = np.loadtxt(folder + "/b.csv", delimiter=",", dtype="f4", ndmin=2)
                assert np.array_equal(text.reshape(shape), want), "CSV"
    print("arrays: the same")


def module():
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(2, 4, 3, 2, 1)
            self.bn = nn.BatchNorm2d(4)
            self.conv2 = nn.Conv2d(4, 6, 3, 1, 1, groups=2)
            self.gn = nn.GroupNorm(3, 6)
            self.fc1 = nn.Linear(24, 10)
            self.ln = nn.LayerNorm(10)
            self.fc2 = nn.Linear(10, 24)
            self.up1 = nn.ConvTranspose2d(6, 4, 3, 2, 1, 1)
            self.up2 = nn.ConvTranspose2d(4, 2, 3, 2, 1, 1)
            self.line = nn.Conv1d(2, 3, 5)

        def forward(self, x):
            h = F.relu(self.bn(self.conv1(x)))
            h = F.max_pool2d(F.leaky_relu(self.gn(self.conv2(h)), 0.1), 2).flatten(1)
            h = F.gelu(self.fc2(self.ln(self.fc1(h)))).reshape(-1, 6, 2, 2)
            h = F.silu(self.up1(h))
            h = torch.tanh(self.up2(h)).flatten(2)
            return torch.sigmoid(self.line(h))

    return torch, Net


def models():
    torch, net = module()
    model, x, y = (folder + "/" + name for name in ("model.safetensors", "x.npy", "y.npy"))
    run("write", model, x, y)
    meta, params = read(model)
    assert meta["who"] == "\u00e6" and meta["ae.graph"].startswith("0 input() shape=2x9x8 name=x\n")
    extra = [name for name in params if name.startswith("head.")]
    assert len(extra) == 2
    state = {name: torch.from_numpy(a) for name, a in params.items() if name not in extra}
    theirs = net()
    theirs.load_state_dict(state, strict=True)
    theirs.eval()

    def apply(values):
        with torch.no_grad():
            return theirs(torch.from_numpy(np.array(values, "f4"))).numpy()

    off = np.abs(apply(np.load(x)) - np.load(y).reshape(-1, 3, 60)).max()
    print("ae.h's model in PyTorch: off by at most %.2g" % off)
    assert off <= 1e-6
    probe = np.frombuffer(bytes.fromhex(meta["ae.probe.input"]), "<f4").reshape(1, 2, 9, 8)
    result = np.frombuffer(bytes.fromhex(meta["ae.probe.output"]), "<f4")
    head = params["head.weight"] @ apply(probe).reshape(180) + params["head.bias"]
    assert np.abs(head - result).max() <= 1e-5, "probe"

    torch.manual_seed(3)
    theirs = net()
    for i in range(5):                  # running statistics of their own
        theirs(torch.rand(8, 2, 9, 8) * (i + 1))
    theirs.eval()
    values = np.random.RandomState(2).rand(9, 2, 9, 8).astype("f4")
    np.save(x, values)
    np.save(y, apply(values).reshape(9, 3, 1, 60))
    state = {name: t.numpy() for name, t in theirs.state_dict().items()}
    assert "bn.num_batches_tracked" in state
    write(model, state)
    run("load", model, x, y)
    write(model, state, np.dtype("<f8"))
    run("load", model, x, y)
    try:
        from safetensors.torch import load_file, save_file
    except ImportError:
        print("the package safetensors is not installed: not tried")
        return
    save_file(theirs.state_dict(), model)
    run("load", model, x, y)
    run("write", model, x, y)
    assert np.array_equal(load_file(model)["fc1.weight"].numpy(), read(model)[1]["fc1.weight"])


arrays()
try:
    module()
except ImportError:
    print("PyTorch is not installed: only arrays were tried")
    sys.exit(77)
models()
