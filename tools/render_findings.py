#!/usr/bin/env python3
"""Shows a result: a contact sheet (PNG) and a self-contained page (HTML), beside the truth where there is one.

usage: render_findings.py STUDY RESULTS [--truth FILE]

STUDY is the DICOM file or folder that was analysed, RESULTS the folder with findings.json and, for outlines, the label
maps (tomoctl analyze --output RESULTS --save-labels). Writes contact_sheet.png and report.html into RESULTS; with several
runs one contact_sheet_<model>.png each. What cannot be drawn is said on both.
"""
import argparse
import json
import pathlib
import sys

from report.page import write_page
from report.picture import has_dejavu
from report.scene import Scene, file_name
from report.sheet import contact_sheet


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=pathlib.Path)
    parser.add_argument("results", type=pathlib.Path)
    parser.add_argument("--truth", type=pathlib.Path, help="default: STUDY/truth.json where it exists")
    arguments = parser.parse_args()
    if not (arguments.results / "findings.json").is_file():
        print(f"render_findings: {arguments.results} has no findings.json: there is no result to show", file=sys.stderr)
        return 1
    document = json.loads((arguments.results / "findings.json").read_text(encoding="utf-8"))
    truth_file = arguments.truth or arguments.study / "truth.json"
    truth = json.loads(truth_file.read_text(encoding="utf-8")) if truth_file.is_file() else None
    if not has_dejavu():
        print("render_findings: DejaVu Sans is not installed (Debian: fonts-dejavu-core); the pictures use Pillow's own "
              "font", file=sys.stderr)
    runs = document["runs"]
    scenes = [Scene(run, arguments.study, arguments.results, truth, runs) for run in runs]
    for scene in scenes:
        name = "contact_sheet.png" if len(runs) == 1 else f"contact_sheet_{file_name(scene.run, runs)}.png"
        contact_sheet(scene, arguments.results / name)
        print(f"{scene.name}: {scene.flag()} ({scene.mark})")
        print(arguments.results / name)
        for problem in scene.problems:
            print(f"{scene.name}: {problem}", file=sys.stderr)
    write_page(scenes, document["study"], arguments.results / "report.html")
    print(arguments.results / "report.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
