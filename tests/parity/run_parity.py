"""Runs golden cases of MONAI and nnU-Net through importer, server and client, and prints how far the answers are.

usage: script/parity [--quick] [--except CASE]... [--json FILE] [--markdown FILE] [--list] [CASE...]

The two real networks of $TOMOSERVE_MODELS (default ../shared/models) run on a whole scan at the end, unless --quick: a
quarter of an hour. Their name is "real networks".

A case is a folder with case.json, a TorchScript file and its answer (labels.npz or boxes*.json) in
$TOMOSERVE_REFERENCE (default ../shared/reference); series that it only names lie in $TOMOSERVE_TEST_DATA/dicom. A new
folder is a new case: nothing else is needed. --quick leaves out answers for which the reference itself took longer
than 20 s of forward passes.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import nibabel
import numpy
import pydicom
import pydicom.misc

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "system"), str(pathlib.Path(__file__).resolve().parent)]
import real_models  # noqa: E402
from cases import find_cases  # noqa: E402
from compare import Comparison, compare_boxes, compare_labels  # noqa: E402
from conftest import BIN, Server  # noqa: E402

QUICK_SECONDS = 20
NAME = "parity_model"


def shared(variable, name):
    return pathlib.Path(os.environ.get(variable, ROOT.parent / "shared" / name))


def tomoctl(*arguments):
    done = subprocess.run([str(BIN / "tomoctl"), *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError((done.stderr or done.stdout).strip().splitlines()[-1])
    return done.stdout


def read_labels(file):
    """A label map as [k][j][i], or [t][k][j][i] where it has several time points."""
    return numpy.asarray(nibabel.load(file).dataobj).transpose()


def modalities(series):
    """What the series' files say; whatever else lies beside them is passed over."""
    files = (path for path in sorted(series.rglob("*")) if path.is_file() and pydicom.misc.is_dicom(path))
    said = {pydicom.dcmread(path, stop_before_pixels=True).get("Modality") for path in files}
    return sorted(said - {None, ""})


def run(case, expected, folder):
    """Returns (Comparison, stage times of the run in ms)."""
    models = folder / "models"
    series = case.write_series(folder / "series")
    # Some cases put a model on a series of another modality than its bundle names: the numbers are what counts.
    said = [option for modality in modalities(series) for option in ("--modality", modality)]
    tomoctl("model", "import", *(expected.models or case.models), "--output", models, "--name", NAME, *said, *expected.import_options)
    (folder / "server").mkdir()
    server = Server(folder / "server", [models]).start()
    try:
        tomoctl("--server", server.address, "analyze", series, "--model", NAME, "--output", folder / "out", "--save-labels")
        server.stop()
    finally:
        server.kill()
    runs = json.loads((folder / "out" / "findings.json").read_text())["runs"]
    result = next(run for run in runs if run["model"] == NAME)
    if result["flag"]["state"] == "NOT_APPLICABLE":
        raise RuntimeError(f"the run is NOT_APPLICABLE: {result['flag']['reasons']}")
    if expected.labels is not None:
        comparison = compare_labels(read_labels(folder / "out" / f"labels_{NAME}.nii.gz"), expected.labels,
                                    case.noise_voxels())
    else:
        recipe = (models / NAME / "1" / "recipe.textproto").read_text()
        classes = re.findall(r'^labels\s*{[^{}]*?name:\s*"([^"]+)"', recipe, re.MULTILINE | re.DOTALL)
        comparison = compare_boxes(result["findings"], expected.boxes, classes, case.directions)
    return comparison, result.get("timingsMs", {})


def run_real_models(folder):
    """[(name, Comparison, stage times of the run in ms)] of the shared networks on the whole scan."""
    reference = real_models.Reference(shared("TOMOSERVE_MODELS", "models"))
    models = real_models.make_repository(ROOT, folder / "models")
    (folder / "server").mkdir()
    server = Server(folder / "server", [models]).start()
    chosen = [option for model in real_models.MODELS for option in ("--model", model)]
    try:
        tomoctl("--server", server.address, "analyze",
                shared("TOMOSERVE_TEST_DATA", "data") / "dicom" / real_models.SERIES, *chosen, "--output", folder / "out",
                "--save-labels")
        server.stop()
    finally:
        server.kill()
    return real_models.compare_all(folder / "out", reference)


def row_of(name, comparison, seconds, timings):
    print(f"{'ok  ' if comparison.passed else 'FAIL'} {name}: {comparison.figure} (allowed: {comparison.allowed}), "
          f"{seconds} s", flush=True)
    return {"case": name, "passed": comparison.passed, "figure": comparison.figure, "allowed": comparison.allowed,
            "seconds": seconds, "timingsMs": timings}


def real_rows():
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tomoserve-parity-") as folder:
        try:
            compared = run_real_models(pathlib.Path(folder))
        except Exception as error:
            compared = [(real_models.NAME, Comparison(False, f"{type(error).__name__}: {error}", "an answer"), {})]
    seconds = round(time.monotonic() - began, 1)
    return [row_of(name, comparison, seconds, timings) for name, comparison, timings in compared]


def markdown(rows):
    lines = ["| case | differs | may differ | |", "|---|---|---|---|"]
    lines += [f"| {row['case']} | {row['figure']} | {row['allowed']} | {'ok' if row['passed'] else '**FAILS**'} |"
              for row in rows]
    return "\n".join(lines) + "\n"


def write_document(path, table):
    """Replaces what stands between the document's two marks."""
    path = pathlib.Path(path)
    text = path.read_text()
    begin, end = "<!-- table: script/parity -->\n", "<!-- end -->"
    head, rest = text.split(begin)
    path.write_text(head + begin + table + end + rest.split(end, 1)[1])


def main():
    parser = argparse.ArgumentParser(prog="script/parity", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--except", dest="without", action="append", default=[], metavar="CASE", help="leave this one out")
    parser.add_argument("--list", action="store_true", help="names of the cases, and stop")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--markdown", metavar="FILE", help="replace the table in this document")
    arguments = parser.parse_args()
    reference = shared("TOMOSERVE_REFERENCE", "reference")
    if not reference.exists():
        print(f"parity: skipped, no golden cases in {reference}")
        return 77
    names = [name for name in arguments.cases if name != real_models.NAME]
    cases = [] if arguments.cases and not names else [
        case for case in find_cases(reference, shared("TOMOSERVE_TEST_DATA", "data"), names)
        if case.name not in arguments.without]
    real = shared("TOMOSERVE_MODELS", "models").exists() and real_models.NAME not in arguments.without and \
        (real_models.NAME in arguments.cases or not arguments.cases)
    if arguments.list:
        print("\n".join([*(case.name for case in cases), *([real_models.NAME] if real else [])]))
        return 0
    rows, left_out = [], list(arguments.without)
    for case in cases:
        try:
            answers = case.expected()
        except Exception as error:
            rows.append(row_of(case.name, Comparison(False, f"{type(error).__name__}: {error}", "a readable case"), 0, {}))
            continue
        for expected in answers:
            if arguments.quick and expected.seconds > QUICK_SECONDS:
                left_out.append(expected.name)
                continue
            began = time.monotonic()
            timings = {}
            with tempfile.TemporaryDirectory(prefix="tomoserve-parity-") as folder:
                try:
                    comparison, timings = run(case, expected, pathlib.Path(folder))
                except Exception as error:  # one bad case must not hide the others
                    comparison = Comparison(False, f"{type(error).__name__}: {error}", "an answer")
            rows.append(row_of(expected.name, comparison, round(time.monotonic() - began, 1), timings))
    if real and arguments.quick:
        left_out.append(real_models.NAME)
    elif real:
        rows += real_rows()
    if left_out:
        print(f"left out: {'; '.join(left_out)}")
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(rows, indent=1) + "\n")
    if arguments.markdown:
        write_document(arguments.markdown, markdown(rows))
    return 0 if rows and all(row["passed"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
