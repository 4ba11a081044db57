#!/usr/bin/env python3
"""FROC of models/lung_nodule_phantom on phantoms (phantoms.py test ...), as Markdown tables.

usage: evaluate.py PHANTOMS [--model FOLDER] [--findings FILE] [--choose]

Windows, resampling, threshold and smallest sizes are the recipe's; candidates are the findings before the recipe's
min_score. A nodule is found when the centre of a finding lies inside it. Findings on no nodule are false; those on
nodules of less than 6 mm count neither way. --choose tries other thresholds (use it on phantoms.py tune ...).
--findings keeps what was found, and takes it from there the next time.
"""
import argparse
import concurrent.futures
import glob
import json
import os
import re
import time

import numpy as np
import torch
from volumes import findings, infer, intensity, resample, to_ras

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SMALLEST_MM = 6.0
FALSE_PER_SCAN = (0.125, 0.25, 0.5, 1, 2, 4)


def recipe_number(folder, field):
    with open(os.path.join(folder, "recipe.textproto"), encoding="utf-8") as file:
        return float(re.search(rf"^[^#\n]*\b{field}: ([0-9.]+)", file.read(), re.M).group(1))


def evaluate(path, model, thresholds):
    """Findings of one phantom for each threshold, with centres in LPS mm."""
    torch.set_num_threads(1)
    network = torch.jit.load(os.path.join(model, "model.ts")).eval()
    hu = to_ras(np.load(path))
    with open(path[:-3] + "json", encoding="utf-8") as file:
        truth = json.load(file)
    spacing = truth["spacing_mm"]
    x = np.ascontiguousarray(intensity(resample(hu, spacing)))
    began = time.process_time()
    score, windows = infer(network, x)
    seconds = time.process_time() - began
    score = resample(score, spacing, hu.shape, inverse=True)
    last = np.array(truth["origin_lps_mm"]) + (np.array(hu.shape) - 1) * spacing
    first = np.array([last[0], last[1], truth["origin_lps_mm"][2]])
    found = {}
    for above in thresholds:
        found[str(above)] = findings(score, spacing, above)
        for finding in found[str(above)]:
            finding["centre_lps_mm"] = (first + np.array(finding.pop("centre")) * spacing * [-1, -1, 1]).tolist()
    return {"path": path, "windows": windows, "seconds": seconds, "nodules": truth["nodules"], "findings": found}


def candidates(scans, above):
    """For each nodule of 6 mm or more its best score (or None), and the scores of all false findings."""
    nodules, false = [], []
    for number, scan in enumerate(scans):
        best = [None] * len(scan["nodules"])
        for finding in scan["findings"][str(above)]:
            distance = [np.linalg.norm(np.subtract(finding["centre_lps_mm"], nodule["centre_lps_mm"]))
                        - nodule["diameter_mm"] / 2 for nodule in scan["nodules"]]
            nearest = int(np.argmin(distance)) if distance else -1
            if nearest < 0 or distance[nearest] > 0:
                false.append((finding["score"], number, finding))
            else:
                best[nearest] = max(best[nearest] or 0.0, finding["score"])
        nodules += [(nodule, score) for nodule, score in zip(scan["nodules"], best)
                    if nodule["diameter_mm"] >= SMALLEST_MM]
    return nodules, false


def share(nodules, cut):
    return sum(score is not None and score >= cut for _, score in nodules), len(nodules)


def cut_for(false, scans, per_scan):
    """The lowest score with at most so many false findings for each scan."""
    scores = sorted((f[0] for f in false), reverse=True)
    allowed = int(per_scan * len(scans))
    return 0.0 if len(scores) <= allowed else np.nextafter(scores[allowed], 2.0)


def percent(found):
    return f"{found[0]} of {found[1]} ({found[0] / found[1]:.3f})" if found[1] else "-"


def report(scans, above, min_score):
    nodules, false = candidates(scans, above)
    print(f"{len(scans)} phantoms, {len(nodules)} nodules of 6 mm or more, {len(false)} false candidates; "
          f"{sum(s['seconds'] for s in scans) / sum(s['windows'] for s in scans):.2f} s of CPU for each of "
          f"{sum(s['windows'] for s in scans)} windows\n")
    print("| false findings for each scan, at most | " + " | ".join(map(str, FALSE_PER_SCAN)) + " | as shipped |")
    print("|---" * (len(FALSE_PER_SCAN) + 2) + "|")
    shares = [share(nodules, cut_for(false, scans, f)) for f in FALSE_PER_SCAN] + [share(nodules, min_score)]
    print("| sensitivity | " + " | ".join(f"{found / all_:.3f}" for found, all_ in shares) + " |")
    kept = sum(f[0] >= min_score for f in false)
    kept_in = [number for score, number, _ in false if score >= min_score]
    print(f"\nAs shipped (threshold {above}, min_score {min_score}): {kept / len(scans):.2f} false findings for each "
          f"scan ({kept} in {len(scans)}); {len(scans) - len(set(kept_in))} scans without any.\n")
    one = cut_for(false, scans, 1)
    print("| nodules | at 1 false finding for each scan | as shipped |\n|---|---|---|")
    groups = [(f"{low} to {high} mm", lambda n, low=low, high=high: low <= n["diameter_mm"] < high)
              for low, high in ((6, 8), (8, 12), (12, 20), (20, 31))]
    groups += [("solid", lambda n: n["kind"] == "solid"), ("part-solid", lambda n: n["kind"] == "part-solid"),
               ("on the pleura", lambda n: n["pleural"]), ("in the lung", lambda n: not n["pleural"])]
    for name, member in groups:
        part = [n for n in nodules if member(n[0])]
        print(f"| {name} | {percent(share(part, one))} | {percent(share(part, min_score))} |")


def choose(scans, thresholds):
    print("| threshold | min_score | sensitivity | false for each scan |\n|---|---|---|---|")
    for above in thresholds:
        nodules, false = candidates(scans, above)
        for min_score in (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98):
            if min_score and min_score < above:
                continue
            found, all_ = share(nodules, min_score)
            each = sum(f[0] >= min_score for f in false) / len(scans)
            print(f"| {above} | {min_score} | {found / all_:.3f} | {each:.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phantoms")
    parser.add_argument("--model", default=os.path.join(ROOT, "models", "lung_nodule_phantom", "1"))
    parser.add_argument("--findings")
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    above = recipe_number(arguments.model, "above")
    thresholds = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7) if arguments.choose else (above,)
    if arguments.findings and os.path.exists(arguments.findings):
        with open(arguments.findings, encoding="utf-8") as file:
            scans = json.load(file)
    else:
        paths = sorted(glob.glob(os.path.join(arguments.phantoms, "*.npy")))
        with concurrent.futures.ProcessPoolExecutor(arguments.processes) as pool:
            scans = list(pool.map(evaluate, paths, [arguments.model] * len(paths), [thresholds] * len(paths)))
        if arguments.findings:
            with open(arguments.findings, "w", encoding="utf-8") as file:
                json.dump(scans, file)
    if arguments.choose:
        choose(scans, thresholds)
    else:
        report(scans, above, recipe_number(arguments.model, "min_score"))


if __name__ == "__main__":
    main()
