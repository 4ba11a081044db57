#!/usr/bin/env python3
"""Makes phantoms for training, for choosing the threshold and for the evaluation, with tomoctl phantom.

usage: phantoms.py SPLIT COUNT FOLDER [--tomoctl PROGRAM] [--processes N]     SPLIT: train, tune or test

train: N.npz holds image (int16 HU at 1.5 mm) and mask (share of nodule in a voxel, 0 to 255), [x][y][z] along R, A, S.
tune, test: N.npy holds the volume as it was made, because findings are counted in the volume's own grid.
N.json is what tomoctl wrote as truth.json. It is written last: a phantom that has one is whole and not made again.
The splits share no seed. tune and test take spacings, noise levels, numbers of nodules and of look-alikes, extents and
kinds of nodules from lists of their own, most of them within the ranges that train draws from; kernels are the same,
but for the white noise that only train has.
"""
import argparse
import concurrent.futures
import json
import os
import subprocess
import tempfile

import numpy as np
from volumes import resample, to_ras

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SEED_BASE = {"train": 100000, "tune": 200000, "test": 300000}


def options_of(split, index):
    """Generator options of phantom `index` of a split, as a dictionary of tomoctl's options without dashes."""
    seed = SEED_BASE[split] + index
    draw = np.random.default_rng(seed)
    if split == "train":
        in_plane, slice_mm = draw.uniform(0.8, 1.4), draw.uniform(1.0, 2.5)
        width, height = draw.uniform(270, 380), draw.uniform(170, 270)
        vary = 0.0 if draw.random() < 0.1 else draw.uniform(0.4, 1)
        sizes = ("4,10", "4,16", "6,30", "4,30")[draw.integers(4)]
        noise, kernel = draw.uniform(2, 45), ("none", "smooth", "standard", "sharp")[draw.integers(4)]
        nodules, look_alikes = draw.integers(6, 15), draw.integers(5, 45)
        part_solid, pleural, lobulated = 0.35, 0.3, 0.5
    else:
        test = split == "test"
        in_plane = draw.choice([0.77, 0.92, 1.06] if test else [0.85, 1.0])
        slice_mm = draw.choice([1.25, 1.8, 2.4] if test else [1.5, 2.0])
        width, height = draw.uniform(285, 345), draw.uniform(180, 235)
        vary = draw.uniform(0.6, 0.9) if test else draw.uniform(0.5, 1)
        sizes = "4,30" if test else "4,24"
        noise = draw.choice([9.0, 17.0, 28.0, 38.0] if test else [12.0, 22.0, 33.0])
        kernel = ("smooth", "standard", "sharp")[draw.integers(3)]
        nodules, look_alikes = (5, 18) if test else (4, 24)
        part_solid, pleural, lobulated = (0.3, 0.25, 0.4) if test else (0.4, 0.3, 0.5)
    return {"seed": seed, "size": int(width / in_plane), "slices": int(height / slice_mm),
            "spacing": f"{in_plane:.3f},{in_plane:.3f},{slice_mm:.3f}", "nodules": int(nodules), "nodule-size": sizes,
            "part-solid": part_solid, "pleural": pleural, "lobulated": lobulated, "look-alikes": int(look_alikes),
            "vary": round(float(vary), 3), "noise": round(float(noise), 1), "kernel": kernel}


def write_whole(path, write):
    """A file that is there whole or not at all: `write` gets it open for bytes, under another name until it returns."""
    part = path + ".part"
    with open(part, "wb") as file:
        write(file)
    os.replace(part, path)


def make(tomoctl, split, index, folder):
    """Writes phantom `index` unless it is there."""
    out = os.path.join(folder, str(index))
    if os.path.exists(out + ".json"):
        return
    options = options_of(split, index)
    with tempfile.TemporaryDirectory() as temp:
        # Fewer nodules where small lungs do not hold so many.
        for nodules in range(options["nodules"], 0, -1):
            words = [f"--{name}={value}" for name, value in {**options, "nodules": nodules}.items()]
            done = subprocess.run([tomoctl, "phantom", "--no-dicom", "--output", temp, "--raw", temp + "/i.npy",
                                   "--raw-labels", temp + "/l.npy", *words], capture_output=True, text=True)
            if done.returncode == 0:
                break
        done.check_returncode()
        hu, labels = np.load(temp + "/i.npy"), np.load(temp + "/l.npy")
        with open(temp + "/truth.json", encoding="utf-8") as file:
            truth = json.load(file)
    spacing = truth["spacing_mm"]
    if split == "train":
        image = resample(to_ras(hu), spacing)
        mask = resample((to_ras(labels) > 0).astype(np.float32), spacing)
        arrays = {"image": np.round(image).astype(np.int16), "mask": np.round(mask * 255).astype(np.uint8)}
        write_whole(out + ".npz", lambda file: np.savez(file, **arrays))
    else:
        write_whole(out + ".npy", lambda file: np.save(file, hu))
    write_whole(out + ".json", lambda file: file.write(json.dumps(truth).encode()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("split", choices=SEED_BASE)
    parser.add_argument("count", type=int)
    parser.add_argument("folder")
    parser.add_argument("--tomoctl", default=os.path.join(ROOT, "build", "bin", "tomoctl"))
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    os.makedirs(arguments.folder, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(arguments.processes) as pool:
        jobs = [pool.submit(make, arguments.tomoctl, arguments.split, index, arguments.folder)
                for index in range(arguments.count)]
        for job in jobs:
            job.result()


if __name__ == "__main__":
    main()
