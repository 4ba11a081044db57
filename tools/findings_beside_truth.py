#!/usr/bin/env python3
"""Prints the findings of a phantom beside its truth.

usage: findings_beside_truth.py FINDINGS_JSON TRUTH_JSON [--model NAME]

A finding belongs to the nearest nodule whose edge is not farther than 3 mm from the finding's centre. Exit code 1 if
a nodule was missed or something else was found.
"""
import argparse
import json
import math
import sys


def match(findings, nodules, slack_mm=3.0):
    """Pairs (nodule, finding or None) and the findings that belong to no nodule; each finding is used once."""
    pairs, free = [], list(findings)
    for nodule in nodules:
        near = [(math.dist(nodule["centre_lps_mm"], finding["centreLpsMm"]), index)
                for index, finding in enumerate(free)]
        distance, index = min(near, default=(math.inf, -1))
        if distance <= nodule["diameter_mm"] / 2 + slack_mm:
            pairs.append((nodule, free.pop(index)))
        else:
            pairs.append((nodule, None))
    return pairs, free


def point(values):
    return ", ".join(f"{value:7.1f}" for value in values)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("findings")
    parser.add_argument("truth")
    parser.add_argument("--model")
    arguments = parser.parse_args()
    with open(arguments.findings, encoding="utf-8") as file:
        runs = [run for run in json.load(file)["runs"] if arguments.model in (None, run["model"])]
    with open(arguments.truth, encoding="utf-8") as file:
        nodules = json.load(file)["nodules"]
    findings = [finding for run in runs for finding in run["findings"]]
    pairs, extra = match(findings, nodules)
    print(f"{'truth: centre L, P, S mm':28} {'diameter':>8} | {'found: centre L, P, S mm':28} {'longest':>8} {'score':>6} {'off':>7}")
    for nodule, finding in pairs:
        left = f"{point(nodule['centre_lps_mm']):28} {nodule['diameter_mm']:5.1f} mm"
        if finding is None:
            print(f"{left} | missed")
        else:
            off = math.dist(nodule["centre_lps_mm"], finding["centreLpsMm"])
            print(f"{left} | {point(finding['centreLpsMm']):28} {finding['longestDiameterMm']:5.1f} mm "
                  f"{finding['score']:6.3f} {off:4.1f} mm")
    for finding in extra:
        print(f"{'(nothing there)':28} {'':>8} | {point(finding['centreLpsMm']):28} "
              f"{finding['longestDiameterMm']:5.1f} mm {finding['score']:6.3f}")
    missed = sum(finding is None for _, finding in pairs)
    print(f"{len(pairs) - missed} of {len(pairs)} nodules found, {missed} missed, {len(extra)} false")
    return 1 if missed or extra else 0


if __name__ == "__main__":
    sys.exit(main())
