#!/usr/bin/env python3
"""Writes a checkpoint of train.py as TorchScript.

usage: export.py CHECKPOINT OUT
"""
import io
import os
import sys

import torch
from network import NoduleNet, Scorer


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    out = sys.argv[2]
    network = NoduleNet()
    network.load_state_dict(torch.load(sys.argv[1], map_location="cpu", weights_only=True))
    network.eval()
    probe = torch.rand(1, 1, 48, 48, 48, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        before = network(probe)
    scripted = torch.jit.script(Scorer(network).eval().requires_grad_(False))
    with torch.inference_mode():
        difference = float((scripted.network(probe) - before).abs().max())
    if not difference < 1e-3:
        sys.exit(f"folding changed logits by {difference}")
    buffer = io.BytesIO()
    torch.jit.save(scripted, buffer)
    os.makedirs(os.path.dirname(os.path.abspath(out)), exist_ok=True)
    with open(out, "wb") as file:
        file.write(buffer.getvalue())
    print(f"{out}: {os.path.getsize(out)} bytes, logits within {difference:.1e}")


if __name__ == "__main__":
    main()
