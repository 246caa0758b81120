#!/usr/bin/env python3
"""Trains one of bench_train.c's autoencoders in PyTorch, an epoch at a time, on request.

bench_train starts it; alone: yes epoch | head -8 | /usr/bin/python3 bench/peers/torch_train.py
It says "ready ..." (or "skip ..." without PyTorch), and answers each line "epoch" with the seconds
of that epoch and its mean loss. The digits lie in memory as one tensor of floats, a batch is one
index_select: no DataLoader, no transform, nothing that PyTorch would not need. --tuned is what made
it faster where it was tried: denormals flushed to zero, and images with the channels last.
"""
import argparse
import os
import sys
import time

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--data", default="data")
parser.add_argument("--model", choices=["deep", "conv", "denoise"], default="deep")
parser.add_argument("--batch", type=int, default=128)
parser.add_argument("--tuned", action="store_true")
args = parser.parse_args()

# torch.set_num_threads does not reach an OpenBLAS, which reads this while it is loaded.
os.environ["OPENBLAS_NUM_THREADS"] = str(args.threads)

try:
    import torch
    from torch import nn
except ImportError:
    print("skip PyTorch (%s has no module torch)" % sys.executable, flush=True)
    sys.exit(0)


def network(name):
    if name == "deep":
        return nn.Sequential(
            nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 32),
            nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 784),
            nn.Sigmoid())
    if name == "conv":
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.ConvTranspose2d(32, 16, 2, stride=2), nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 2, stride=2), nn.Sigmoid())
    return nn.Sequential(
        nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(),
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 784), nn.Sigmoid())


def load(folder):
    """The training images of an MNIST folder as (n, 784) floats in [0, 1]."""
    with open(os.path.join(folder, "train-images-idx3-ubyte"), "rb") as f:
        raw = bytearray(f.read())
    return torch.frombuffer(raw, dtype=torch.uint8, offset=16).reshape(-1, 784).float() / 255


def blas():
    """The name of the library that multiplies PyTorch's matrices, where Linux tells it."""
    torch.ones(64, 64) @ torch.ones(64, 64)
    try:
        with open("/proc/self/maps") as f:
            files = {os.path.basename(line.split()[-1]) for line in f}
    except OSError:
        return "its own BLAS"
    names = sorted(n for n in files if "openblas" in n or "mkl_core" in n)
    return names[0] if names else "its own BLAS"


def main():
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(args.tuned)
    torch.manual_seed(42)
    x = load(args.data)
    model = network(args.model)
    if args.model == "conv":
        x = x.reshape(-1, 1, 28, 28)
        if args.tuned:
            model = model.to(memory_format=torch.channels_last)
    criterion = nn.MSELoss()
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)

    def epoch():
        total = 0.0
        for rows in torch.randperm(len(x)).split(args.batch):
            batch = x.index_select(0, rows)
            seen = batch
            if args.model == "denoise":
                seen = (batch + 0.2 * torch.randn_like(batch)).clamp(0, 1)
            loss = criterion(model(seen), batch)
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
            total += loss.item() * len(rows)
        return total / len(x)

    # As in bench.h: processor time of one thread, the clock on the wall for several.
    now = time.process_time if args.threads == 1 else time.perf_counter
    onednn = " and oneDNN" if torch.backends.mkldnn.is_available() else ""
    print("ready PyTorch %s with %s%s, threads %d%s"
          % (torch.__version__, blas(), onednn, torch.get_num_threads(),
             ", tuned" if args.tuned else ""), flush=True)
    for _ in sys.stdin:
        start = now()
        loss = epoch()
        print("%.6f %.6f" % (now() - start, loss), flush=True)


if __name__ == "__main__":
    main()
