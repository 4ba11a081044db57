#!/usr/bin/env python3
"""Shows that the server gives the findings that evaluate.py counts.

usage: through_server.py FINDINGS HOST:PORT COUNT [--tomoctl PROGRAM]

FINDINGS: the file of evaluate.py --findings for phantoms of `phantoms.py test`. Makes the first COUNT of them again, as
DICOM, has the server analyse them, and prints the largest differences. Exit code 1 where a finding has no counterpart.
"""
import argparse
import json
import math
import os
import subprocess
import sys
import tempfile

from evaluate import ROOT, recipe_number
from phantoms import options_of


def analyse(tomoctl, server, truth, index):
    options = {**options_of("test", index), "nodules": len(truth)}
    with tempfile.TemporaryDirectory() as temp:
        study, out = os.path.join(temp, "study"), os.path.join(temp, "out")
        subprocess.run([tomoctl, "phantom", "--output", study, *[f"--{k}={v}" for k, v in options.items()]], check=True,
                       stdout=subprocess.DEVNULL)
        subprocess.run([tomoctl, "--server", server, "analyze", study, "--model", "lung_nodule_phantom", "--output",
                        out], check=True, stdout=subprocess.DEVNULL)
        with open(os.path.join(out, "findings.json"), encoding="utf-8") as file:
            run = json.load(file)["runs"][0]
    return run["findings"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("findings")
    parser.add_argument("server")
    parser.add_argument("count", type=int)
    parser.add_argument("--tomoctl", default=os.path.join(ROOT, "build", "bin", "tomoctl"))
    arguments = parser.parse_args()
    model = os.path.join(ROOT, "models", "lung_nodule_phantom", "1")
    above, min_score = recipe_number(model, "above"), recipe_number(model, "min_score")
    with open(arguments.findings, encoding="utf-8") as file:
        scans = {int(os.path.basename(scan["path"]).split(".")[0]): scan for scan in json.load(file)}
    worst = {"centre mm": 0.0, "volume %": 0.0, "score": 0.0}
    pairs = alone = 0
    for index in range(arguments.count):
        here = [f for f in scans[index]["findings"][str(above)] if f["score"] >= min_score]
        there = analyse(arguments.tomoctl, arguments.server, scans[index]["nodules"], index)
        for finding in here:
            near = min(there, default=None, key=lambda f: math.dist(f["centreLpsMm"], finding["centre_lps_mm"]))
            distance = math.dist(near["centreLpsMm"], finding["centre_lps_mm"]) if near else math.inf
            if distance > 3:
                alone += 1
                continue
            there.remove(near)
            pairs += 1
            worst["centre mm"] = max(worst["centre mm"], distance)
            worst["volume %"] = max(worst["volume %"], 100 * abs(near["volumeMl"] / finding["volume_ml"] - 1))
            worst["score"] = max(worst["score"], abs(near["score"] - finding["score"]))
        alone += len(there)
    print(f"{arguments.count} phantoms: {pairs} findings on both sides, {alone} on one only; largest differences: "
          + ", ".join(f"{name} {value:.3g}" for name, value in worst.items()))
    return 1 if alone or not pairs else 0


if __name__ == "__main__":
    sys.exit(main())
