#!/usr/bin/env python3
"""Measures models/nodule_blob on synthetic chest CT, in plain PyTorch and SciPy, as its recipe says.

usage: tools/measure_nodule_blob.py TRUTH.json...    (needs torch, numpy, scipy; see requirements-export.txt)

Volumes: for s in 1 2 3; do tomoctl phantom --output /tmp/p/$s --raw /tmp/p/$s/truth.npy --seed $s --nodules 6; done
Beside each truth.json lies truth.npy: int16 HU, [k][j][i], axial (orientation LPS). A nodule counts as found when
the centre of a component lies inside it; components that fit no nodule are false.
"""
import json
import os
import sys
import time

import numpy as np
import torch
from scipy import ndimage

# The recipe's preparation and windows are those of lung_nodule_phantom.
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "train"))
from volumes import infer, intensity, resample  # noqa: E402

MIN_VOLUME_ML, MIN_DIAMETER_MM = 0.06, 4.0


class Timed:
    """A network that counts its calls and their seconds of this thread."""

    def __init__(self, network):
        self.network, self.calls, self.seconds = network, 0, 0.0

    def __call__(self, window):
        begin = time.thread_time()
        score = self.network(window)
        self.seconds += time.thread_time() - begin
        self.calls += 1
        return score


def components(score, spacing_kji):
    """Findings of the recipe: centre (k, j, i), volume ml, equivalent diameter mm, score."""
    labels, count = ndimage.label(score > 0.5, np.ones((3, 3, 3)))
    found = []
    for index, box in enumerate(ndimage.find_objects(labels), 1):
        inside = labels[box] == index
        at = np.argwhere(inside)
        volume_ml = len(at) * float(np.prod(spacing_kji)) / 1000
        longest_mm = float(np.linalg.norm((at.max(0) - at.min(0)) * np.array(spacing_kji)))
        if volume_ml < MIN_VOLUME_ML or longest_mm < MIN_DIAMETER_MM:
            continue
        centre = at.mean(0) + [s.start for s in box]
        found.append((centre, volume_ml, (6000 * volume_ml / np.pi) ** (1 / 3), float(score[box][inside].max())))
    return found


def main():
    torch.set_num_threads(1)
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    network = Timed(torch.jit.load(os.path.join(root, "models", "nodule_blob", "1", "model.ts")).eval())
    rows, false = [], []
    for path in sys.argv[1:]:
        truth = json.load(open(path))
        shape = truth["size_ijk"][::-1]
        spacing = truth["spacing_mm"][::-1]
        hu = np.load(os.path.splitext(path)[0] + ".npy").reshape(shape).astype(np.float32)
        score, _ = infer(network, intensity(resample(hu, spacing)))
        found = components(resample(score, spacing, hu.shape, inverse=True), spacing)
        used = set()
        for nodule in truth["nodules"]:
            centre = np.array(nodule["centre_ijk"][::-1])
            distance = [np.linalg.norm((f[0] - centre) * spacing) for f in found]
            best = int(np.argmin(distance)) if distance else -1
            hit = best >= 0 and best not in used and distance[best] < nodule["diameter_mm"] / 2
            if hit:
                used.add(best)
                rows.append((nodule["diameter_mm"], found[best][2], distance[best], found[best][3]))
            else:
                rows.append((nodule["diameter_mm"], None, None, None))
                print(f"{path}: missed {nodule['diameter_mm']:.1f} mm at {nodule['centre_lps_mm']}")
        for i, f in enumerate(found):
            if i not in used:
                false.append(f)
                print(f"{path}: false, {f[1]:.2f} ml at ijk {np.round(f[0][::-1], 1).tolist()}, score {f[3]:.2f}")
        print(f"{path}: {len(truth['nodules'])} nodules, {len(found)} findings", flush=True)
    for low, high in ((0, 6), (6, 10), (10, 15), (15, 99)):
        part = [r for r in rows if low <= r[0] < high]
        if part:
            print(f"{low:2} to {high:2} mm: found {sum(r[1] is not None for r in part)} of {len(part)}")
    hits = [r for r in rows if r[1] is not None]
    print(f"volumes {len(sys.argv) - 1}, nodules {len(rows)}, found {len(hits)}, false {len(false)}")
    if hits:
        error = np.array([h[1] - h[0] for h in hits])
        print(f"equivalent diameter minus truth: mean {error.mean():+.2f} mm, "
              f"95 % within {np.quantile(np.abs(error), 0.95):.2f} mm, worst {np.abs(error).max():.2f} mm")
        print(f"centre: mean {np.mean([h[2] for h in hits]):.2f} mm off; lowest score {min(h[3] for h in hits):.2f}")
    print(f"{network.seconds / network.calls:.2f} s of CPU per window")


if __name__ == "__main__":
    main()
