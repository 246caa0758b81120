#!/usr/bin/env python3
"""Cuts the sample in this folder from the full MNIST: the first digits of each class.

    python3 data/make_sample.py FULL OUT

FULL holds the four unpacked files of the full MNIST (`make mnist` puts them into data/mnist).
OUT gets four files of the same names: 2,000 training digits, 200 of each class, and 500 test
digits, 50 of each class. Needs Python 3 and nothing else.
"""
import os
import struct
import sys

CLASSES = 10
SETS = (("train", 200), ("t10k", 50))  # file prefix, digits of each class


def read_idx(path, dims):
    """The sizes and the bytes of an IDX file of unsigned bytes with `dims` dimensions."""
    with open(path, "rb") as file:
        data = file.read()
    start = 4 + 4 * dims
    if len(data) < start or data[:4] != bytes((0, 0, 8, dims)):
        sys.exit(f"{path}: not an IDX file of unsigned bytes with {dims} dimensions")
    sizes = struct.unpack(f">{dims}I", data[4:start])
    length = 1
    for size in sizes:
        length *= size
    if len(data) != start + length:
        sys.exit(f"{path}: {len(data)} bytes where its header says {start + length}")
    return sizes, data[start:]


def write_idx(path, sizes, data):
    with open(path, "wb") as file:
        file.write(bytes((0, 0, 8, len(sizes))) + struct.pack(f">{len(sizes)}I", *sizes) + data)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    full, out = sys.argv[1:]
    os.makedirs(out, exist_ok=True)
    for prefix, per_class in SETS:
        images_name, labels_name = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
        (n, h, w), images = read_idx(os.path.join(full, images_name), 3)
        (labels_n,), labels = read_idx(os.path.join(full, labels_name), 1)
        if n != labels_n:
            sys.exit(f"{full}: {n} images but {labels_n} labels in {prefix}")

        taken = [0] * CLASSES
        kept = []
        for i, digit in enumerate(labels):
            if taken[digit] < per_class:
                taken[digit] += 1
                kept.append(i)
        if min(taken) < per_class:
            sys.exit(f"{full}: fewer than {per_class} digits of a class in {prefix}")

        size = h * w
        write_idx(os.path.join(out, images_name), (len(kept), h, w),
                  b"".join(images[i * size:(i + 1) * size] for i in kept))
        write_idx(os.path.join(out, labels_name), (len(kept),), bytes(labels[i] for i in kept))
        print(f"{prefix}: {len(kept)} of {n} digits, {per_class} of each class")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}")
