#!/usr/bin/env python3
"""The forward pass of one picture by one of models.h in PyTorch, weights and picture as given by
`pattern`: "check" is answered by the reconstruction, "warm N" and "cold N" by the median seconds of
N calls; cold: 32 MB are written between two calls.

bench_latency starts it; alone: echo warm 500 | /usr/bin/python3 bench/peers/torch_latency.py --wall
"""
from torch_common import args, network, now, pattern, placed, serve, torch

model = network(args.model).eval()
for i, parameter in enumerate(model.parameters()):
    parameter.data.copy_(pattern(i, *parameter.shape))
x = pattern(99, 1, 784)
if args.model == "conv":
    x = placed(x.reshape(1, 1, 28, 28))
    model = placed(model)
junk = torch.zeros(8 << 20)


def answer(what, calls="1"):
    times = []
    with torch.inference_mode():
        if what == "check":
            return model(x)
        for _ in range(int(calls)):
            if what == "cold":
                junk.add_(1)
            start = now()
            model(x)
            times.append(now() - start)
    return [sorted(times)[len(times) // 2]]


serve(answer)
