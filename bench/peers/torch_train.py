#!/usr/bin/env python3
"""Trains one of models.h in PyTorch: "epoch" is answered by its seconds and its mean loss.

bench_train starts it; alone: yes epoch | head -8 | /usr/bin/python3 bench/peers/torch_train.py
The digits lie in memory as one tensor of floats, a batch is one index_select: no DataLoader, no
transform, nothing that PyTorch would not need.
"""
import os

from torch_common import args, network, nn, now, placed, serve, torch


def load(folder):
    """The training images of an MNIST folder as (n, 784) floats in [0, 1]."""
    with open(os.path.join(folder, "train-images-idx3-ubyte"), "rb") as f:
        raw = bytearray(f.read())
    return torch.frombuffer(raw, dtype=torch.uint8, offset=16).reshape(-1, 784).float() / 255


x = load(args.data)
model = network(args.model)
if args.model == "conv":
    x = x.reshape(-1, 1, 28, 28)
    model = placed(model)
weight = 0.5 if args.model == "features" else 1.0
mse = nn.MSELoss()


def bound(outputs, batch):
    logits, mu, logvar = outputs
    bce = nn.functional.binary_cross_entropy_with_logits(logits, batch, reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar - mu * mu - logvar.exp())
    return (bce + kl) / len(batch)


criterion = bound if args.model == "vae" else mse
adam = torch.optim.Adam(model.parameters(), lr=args.lr)


def epoch(_):
    total = 0.0
    start = now()
    for rows in torch.randperm(len(x)).split(args.batch):
        batch = x.index_select(0, rows)
        seen = batch
        if args.model == "denoise":
            seen = (batch + 0.2 * torch.randn_like(batch)).clamp(0, 1)
        loss = criterion(model(seen), batch)
        if weight != 1.0:
            loss = weight * loss
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        total += loss.item() * len(rows)
    return now() - start, total / len(x)


serve(epoch)
