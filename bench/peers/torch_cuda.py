#!/usr/bin/env python3
"""Trains the models of models.h in PyTorch on a GPU: steps per second, four ways.

  eager     as people write it: forward, backward, Adam
  compile   torch.compile of forward and loss
  overhead  the same with mode="reduce-overhead", which records CUDA graphs
  graph     the whole step, Adam too, recorded by hand as one CUDA graph and replayed

The digits lie on the GPU as floats, a batch is one index_select by a permutation that lies there, and
nothing is read back before the clock stops: what PyTorch can do, not what a DataLoader costs.
Products are float32 and convolutions may use TF32, as PyTorch chooses by itself.
Prints a line "result MODEL WAY STEPS" for each; without PyTorch or a GPU one line that says so.

  bench/peers/torch_cuda.py --model all --data data --repeats 15      (--device cpu: to see that it runs)
"""
import os
import statistics
import sys
import time

from torch_common import args, network, nn, torch

MODELS = {"deep": (128, 1e-3), "features": (256, 1e-2), "conv": (64, 1e-3), "denoise": (64, 1e-3),
          "vae": (128, 1e-3)}       # the batch and Adam's rate, as in models.h
ON_GPU = args.device != "cpu"

if ON_GPU and not torch.cuda.is_available():
    print("skip PyTorch %s (it finds no GPU)" % torch.__version__)
    sys.exit(0)


def load(folder):
    with open(os.path.join(folder, "train-images-idx3-ubyte"), "rb") as f:
        raw = bytearray(f.read())
    return torch.frombuffer(raw, dtype=torch.uint8, offset=16).reshape(-1, 784).float() / 255


def bound(outputs, batch):
    logits, mu, logvar = outputs
    bce = nn.functional.binary_cross_entropy_with_logits(logits, batch, reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar - mu * mu - logvar.exp())
    return (bce + kl) / len(batch)


class Step:
    """One training step of a model; `batch` is refilled before each."""

    def __init__(self, name, way):
        size, rate = MODELS[name]
        torch.manual_seed(42)
        self.data = load(args.data).to(args.device)
        if name == "conv":
            self.data = self.data.reshape(-1, 1, 28, 28)
        self.model = network(name).to(args.device)
        self.name, self.size, self.at = name, size, len(self.data)
        options = {"capturable": True} if way == "graph" else {}
        self.adam = torch.optim.Adam(self.model.parameters(), lr=rate, **options)
        self.batch = self.data[:size].clone()
        self.forward = self.loss
        if way in ("compile", "overhead"):      # or it stops compiling after eight functions
            torch._dynamo.reset()
        if way == "compile":
            self.forward = torch.compile(self.loss)
        if way == "overhead":
            self.forward = torch.compile(self.loss, mode="reduce-overhead")
        self.graph = self.record() if way == "graph" else None

    def loss(self, batch):
        if self.name == "vae":
            return bound(self.model(batch), batch)
        seen = batch
        if self.name == "denoise":
            seen = (batch + 0.2 * torch.randn_like(batch)).clamp(0, 1)
        error = nn.functional.mse_loss(self.model(seen), batch)
        return 0.5 * error if self.name == "features" else error

    def refill(self):
        if self.at + self.size > len(self.data):
            self.order, self.at = torch.randperm(len(self.data), device=args.device), 0
        rows = self.order[self.at:self.at + self.size]
        torch.index_select(self.data, 0, rows, out=self.batch)
        self.at += self.size

    def learn(self, keep_gradients=False):
        self.adam.zero_grad(set_to_none=not keep_gradients)
        loss = self.forward(self.batch)
        loss.backward()
        self.adam.step()
        return loss

    def record(self):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(5):
                self.learn(True)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        self.adam.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            self.learn(True)
        return graph

    def run(self, steps):
        """Seconds of so many."""
        self.wait()
        start = time.perf_counter()
        for _ in range(steps):
            self.refill()
            if self.graph:
                self.graph.replay()
            else:
                self.learn()
        self.wait()
        return time.perf_counter() - start

    def wait(self):
        if ON_GPU:
            torch.cuda.synchronize()


def measure(name, way):
    step = Step(name, way)
    step.run(20)
    steps = 10
    while step.run(steps) < 0.2:        # a repeat takes about a fifth of a second
        steps *= 2
    return statistics.median(steps / step.run(steps) for _ in range(args.repeats))


for name in MODELS if args.model == "all" else [args.model]:
    for way in ("eager", "compile", "overhead", "graph"):
        if way in ("compile", "overhead") and not hasattr(torch, "compile"):
            print("skip %s %s (PyTorch %s has no torch.compile)" % (name, way, torch.__version__))
        elif way == "graph" and not ON_GPU:
            print("skip %s graph (no GPU)" % name)
        else:
            try:
                print("result %s %s %.1f" % (name, way, measure(name, way)), flush=True)
            except Exception as error:      # one way that fails leaves the others to be measured
                print("skip %s %s (%s)" % (name, way, str(error).split("\n")[0][:200]), flush=True)
