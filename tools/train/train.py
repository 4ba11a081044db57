#!/usr/bin/env python3
"""Trains network.py on phantoms (phantoms.py train ...).

usage: train.py PHANTOMS CHECKPOINT [--cpu-minutes M] [--wall-minutes M] [--seed N] [--threads N] [--float32]

The learning rate falls along a cosine that ends when the first of the two budgets is used up. CHECKPOINT is written
every few minutes and at the end; beside it CHECKPOINT.log has a line for every 50 steps. Convolutions run in bfloat16
(twice as fast where the CPU has it); weights and loss are float32.
"""
import argparse
import concurrent.futures
import glob
import json
import math
import os
import time

import numpy as np
import torch
from network import NoduleNet
from scipy import ndimage
from volumes import SPACING_MM

PATCH, BATCH = 48, 4
RATE, WARM_UP_STEPS = 3e-3, 60
HARDEST = 0.03  # share of a patch's voxels whose cross-entropy counts
HU = 1 / 1400  # one HU as the network sees it


class Sampler:
    """Patches around nodules, look-alikes, places in the lungs and anywhere, changed at random."""

    def __init__(self, folder, seed):
        self.random = np.random.default_rng(seed)
        self.volumes = []
        for path in sorted(glob.glob(os.path.join(folder, "*.npz"))):
            with np.load(path) as arrays:
                image, mask = arrays["image"], arrays["mask"]
            with open(path[:-3] + "json", encoding="utf-8") as file:
                truth = json.load(file)
            # Voxel of a place: +x is right, +y anterior; the first voxel is that of the original grid.
            size, spacing = np.array(truth["size_ijk"]), np.array(truth["spacing_mm"])
            last = np.array(truth["origin_lps_mm"]) + (size - 1) * spacing
            first = np.array([last[0], last[1], truth["origin_lps_mm"][2]])
            towards = np.array([-1, -1, 1])

            def voxels(entries):
                return [(np.array(e["centre_lps_mm"]) - first) * towards / SPACING_MM for e in entries]

            lung = np.argwhere(image[::8, ::8, ::8] < -700) * 8
            lung = lung[image[tuple(lung.T)] > -950]
            self.volumes.append((image, mask, voxels(truth["nodules"]), voxels(truth["look_alikes"]), lung))

    def place(self, volume):
        image, _, nodules, look_alikes, lung = volume
        pick = self.random.random()
        jitter = self.random.uniform(-0.4, 0.4, 3) * PATCH
        if pick < 0.6 and nodules:
            return nodules[self.random.integers(len(nodules))] + jitter
        if pick < 0.8 and look_alikes:
            return look_alikes[self.random.integers(len(look_alikes))] + jitter
        if pick < 0.88 and len(lung):
            return lung[self.random.integers(len(lung))] + jitter
        return self.random.uniform(0, 1, 3) * image.shape

    def patch(self):
        volume = self.volumes[self.random.integers(len(self.volumes))]
        image, mask = volume[0], volume[1]
        at = [int(np.clip(round(c - PATCH / 2), 0, max(0, n - PATCH))) for c, n in zip(self.place(volume), image.shape)]
        box = tuple(slice(a, a + PATCH) for a in at)
        x, y = image[box].astype(np.float32), mask[box].astype(np.float32) / 255
        if x.shape != (PATCH,) * 3:
            pad = [(0, PATCH - n) for n in x.shape]
            x, y = np.pad(x, pad, mode="edge"), np.pad(y, pad)
        draw = self.random
        if draw.random() < 0.25:
            x = ndimage.gaussian_filter(x, draw.uniform(0.3, 0.9))
        x = x * draw.uniform(0.95, 1.05) + draw.uniform(-25, 25)
        if draw.random() < 0.4:
            x = x + draw.normal(0, draw.uniform(0, 35), x.shape).astype(np.float32)
        x = np.clip((x + 1000) * HU, 0, 1)
        axes = draw.permutation(3)
        flips = tuple(np.flatnonzero(draw.random(3) < 0.5))
        return [np.ascontiguousarray(np.flip(v.transpose(axes), flips), np.float32) for v in (x, y)]

    def batch(self):
        pairs = [self.patch() for _ in range(BATCH)]
        return [torch.from_numpy(np.stack(part)[:, None]) for part in zip(*pairs)]


def loss_of(logits, target):
    """Dice per patch (a patch without nodule is asked for silence), and the cross-entropy of the hardest voxels."""
    score = torch.sigmoid(logits).flatten(1)
    target = target.flatten(1)
    smooth = 15.0
    dice = 1 - (2 * (score * target).sum(1) + smooth) / ((score + target).sum(1) + smooth)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits.flatten(1), target, reduction="none")
    hardest = entropy.topk(int(HARDEST * entropy.shape[1]), sorted=False).values
    return dice.mean(), hardest.mean() + entropy.mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phantoms")
    parser.add_argument("checkpoint")
    parser.add_argument("--cpu-minutes", type=float, default=50)
    parser.add_argument("--wall-minutes", type=float, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--float32", action="store_true")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    layout = torch.channels_last_3d
    network = NoduleNet().to(memory_format=layout).train()
    torch.nn.init.constant_(network.leave.bias, -3.0)  # nodules are rare
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-3)
    sampler = Sampler(arguments.phantoms, arguments.seed)
    began, began_cpu, saved = time.monotonic(), time.process_time(), time.monotonic()
    step, sums = 0, np.zeros(3)

    def used():
        return max((time.process_time() - began_cpu) / 60 / arguments.cpu_minutes,
                   (time.monotonic() - began) / 60 / arguments.wall_minutes)

    def save():
        torch.save(network.state_dict(), arguments.checkpoint + ".part")
        os.replace(arguments.checkpoint + ".part", arguments.checkpoint)

    with concurrent.futures.ThreadPoolExecutor(1) as ahead, open(arguments.checkpoint + ".log", "w",
                                                                 encoding="utf-8") as log:
        following = ahead.submit(sampler.batch)
        while (progress := used()) < 1:
            image, target = following.result()
            following = ahead.submit(sampler.batch)
            rate = RATE * (0.5 + 0.5 * math.cos(math.pi * progress)) * min(1, (step + 1) / WARM_UP_STEPS)
            for group in optimiser.param_groups:
                group["lr"] = rate
            image = image.contiguous(memory_format=layout)
            with torch.autocast("cpu", torch.bfloat16, enabled=not arguments.float32):
                logits = network(image)
            dice, entropy = loss_of(logits.float(), target)
            optimiser.zero_grad()
            (dice + entropy).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()
            step += 1
            sums += (dice.item(), entropy.item(), 1)
            if step % 50 == 0:
                print(f"step {step} dice loss {sums[0] / sums[2]:.4f} entropy {sums[1] / sums[2]:.4f} rate {rate:.5f} "
                      f"CPU {(time.process_time() - began_cpu) / 60:.1f} min, "
                      f"wall {(time.monotonic() - began) / 60:.1f} min", file=log, flush=True)
                sums[:] = 0
            if time.monotonic() - saved > 120:
                save()
                saved = time.monotonic()
        save()
        print(f"done: {step} steps, CPU {(time.process_time() - began_cpu) / 60:.1f} min, "
              f"wall {(time.monotonic() - began) / 60:.1f} min", file=log)


if __name__ == "__main__":
    main()
