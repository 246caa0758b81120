"""What the PyTorch peers share: options, the networks of models.h, and how they are asked.

A peer says "ready ..." (or "skip ..." without PyTorch) and answers each line of its standard input.
--tuned is what made it faster where it was tried: denormals flushed to zero, and images with the
channels last.
"""
import argparse
import os
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--data", default="data")
parser.add_argument("--model", default="deep")
parser.add_argument("--batch", type=int, default=128)
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--tuned", action="store_true")
parser.add_argument("--wall", action="store_true", help="time by the clock on the wall")
parser.add_argument("--device", default="cuda", help="of torch_cuda.py")
parser.add_argument("--repeats", type=int, default=15, help="of torch_cuda.py")
args = parser.parse_args()

# torch.set_num_threads does not reach an OpenBLAS, which reads this while it is loaded.
os.environ["OPENBLAS_NUM_THREADS"] = str(args.threads)

try:
    import torch
    from torch import nn
except ImportError:
    print("skip PyTorch (%s has no module torch)" % sys.executable, flush=True)
    sys.exit(0)

torch.set_num_threads(args.threads)
torch.set_flush_denormal(args.tuned)
torch.manual_seed(42)
now = time.perf_counter if args.wall else time.process_time     # as bench_clock in bench.h


class Vae(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU())
        self.mu, self.logvar = nn.Linear(256, 64), nn.Linear(256, 64)
        self.decoder = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 512), nn.ReLU(),
                                     nn.Linear(512, 784))

    def forward(self, x):
        h = self.encoder(x)
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        return self.decoder(z), mu, logvar


def network(name):
    if name == "deep":
        return nn.Sequential(
            nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 32),
            nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 784),
            nn.Sigmoid())
    if name == "features":
        return nn.Sequential(
            nn.Linear(784, 256), nn.Sigmoid(), nn.Linear(256, 128), nn.Sigmoid(),
            nn.Linear(128, 100), nn.Sigmoid(), nn.Linear(100, 128), nn.Sigmoid(),
            nn.Linear(128, 256), nn.Sigmoid(), nn.Linear(256, 784), nn.Sigmoid())
    if name == "conv":
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.ConvTranspose2d(32, 16, 2, stride=2), nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 2, stride=2), nn.Sigmoid())
    if name == "denoise":
        return nn.Sequential(
            nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(),
            nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 784), nn.Sigmoid())
    if name == "vae":
        return Vae()
    sys.exit("there is no model " + name)


def placed(x):
    """x (a tensor or a module) as tuned programs hold pictures."""
    return x.to(memory_format=torch.channels_last) if args.tuned else x


def pattern(which, *shape):
    """bench_pattern of bench.h."""
    n = 1
    for size in shape:
        n *= size
    i = torch.arange(n, dtype=torch.int64)
    return (((i * 7919 + which * 1299709) % 10007).float() / 10007 - 0.5).reshape(shape)


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


def serve(answer):
    """Answers each line: with the numbers that answer(*words) returns, or with a tensor's values."""
    onednn = " and oneDNN" if torch.backends.mkldnn.is_available() else ""
    print("ready PyTorch %s with %s%s, threads %d%s"
          % (torch.__version__, blas(), onednn, torch.get_num_threads(),
             ", tuned" if args.tuned else ""), flush=True)
    for line in sys.stdin:
        result = answer(*line.split())
        if torch.is_tensor(result):
            values = result.detach().contiguous(memory_format=torch.contiguous_format)
            print(values.numel(), flush=True)
            sys.stdout.buffer.write(values.numpy().tobytes())
            sys.stdout.flush()
        else:
            print(" ".join("%.9g" % number for number in result), flush=True)
