#!/usr/bin/env python3
"""Prints the findings of a phantom beside its truth.

usage: findings_beside_truth.py FINDINGS_JSON TRUTH_JSON [--model NAME]

A finding belongs to a nodule whose edge is not farther than 3 mm from the finding's centre, the closest pairs first.
Exit code 1 if a nodule was missed, something else was found, or a run has no answer.
"""
import argparse
import json
import sys

from report.truth import compare, kind_of, look_alike_at, match  # noqa: F401: match is for tests and other tools


def point(values):
    return ", ".join(f"{value:7.1f}" for value in values)


def print_run(run, truth):
    """Prints the table of one run; False unless all nodules and nothing else were found."""
    name = f"{run['model']} {run['version']}"
    state = run["flag"]["state"] if run["state"] == "DONE" else run["state"]
    if run["state"] != "DONE" or state == "NOT_APPLICABLE":
        print(f"{name}: {state}: nothing to compare with the truth")
        return False
    findings, nodules = run["findings"], truth["nodules"]
    comparison = compare(findings, nodules)
    kinds = [kind_of(nodule) for nodule in nodules]
    width = max([len(kind) for kind in kinds] + [0])
    kind_head = f" {'kind':{width}}" if width else ""
    print(f"{name}: {state}")
    if nodules or findings:
        print(f"{'truth: centre L, P, S mm':28} {'diameter':>8}{kind_head} | {'no.':>3} {'found: centre L, P, S mm':28} "
              f"{'longest':>8} {'score':>6} {'off':>7}")
    for n, nodule in enumerate(nodules):
        kind = f" {kinds[n]:{width}}" if width else ""
        left = f"{point(nodule['centre_lps_mm']):28} {nodule['diameter_mm']:5.1f} mm{kind}"
        if n not in comparison.found:
            print(f"{left} | {'':3} missed")
            continue
        f, off = comparison.found[n]
        print(f"{left} | {f + 1:3} {point(findings[f]['centreLpsMm']):28} {findings[f]['longestDiameterMm']:5.1f} mm "
              f"{findings[f]['score']:6.3f} {off:4.1f} mm")
    for f in comparison.false:
        kind = look_alike_at(findings[f], truth)
        there = f"(look-alike: {kind})" if kind else "(nothing there)"
        print(f"{there:{37 + len(kind_head)}} | {f + 1:3} {point(findings[f]['centreLpsMm']):28} "
              f"{findings[f]['longestDiameterMm']:5.1f} mm {findings[f]['score']:6.3f}")
    print(comparison.sentence())
    return not comparison.missed and not comparison.false


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("findings")
    parser.add_argument("truth")
    parser.add_argument("--model")
    arguments = parser.parse_args()
    with open(arguments.findings, encoding="utf-8") as file:
        runs = [run for run in json.load(file)["runs"] if arguments.model in (None, run["model"])]
    with open(arguments.truth, encoding="utf-8") as file:
        truth = json.load(file)
    return 0 if all([print_run(run, truth) for run in runs]) else 1


if __name__ == "__main__":
    sys.exit(main())
