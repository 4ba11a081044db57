#!/usr/bin/env python3
"""Sends one DICOM study to Tomoserve, waits for its findings and prints them. A model for a PACS integration.

Safe to run again at any time: the same files and wishes are the same submission, and only what is missing is sent.
Exit codes: 0 done, 1 failed, 2 usage, 3 server unreachable, 4 study refused.
"""
from __future__ import annotations

import argparse
import hashlib
import io
import logging
import pathlib
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial

from tomoserve_client import (Client, Failed, Instance, Unreachable, describe, finding_pb2, make_header, study_pb2,
                              study_service_pb2, to_json, write_label_map)

DONE, FAILED, USAGE, UNREACHABLE, REFUSED = range(5)


def find_instances(folder: pathlib.Path) -> list[Instance]:
    """Every file below `folder`, in an order that is the same each time. The server judges which ones are DICOM."""
    instances = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "truth.json"):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        instances.append(Instance(path.stat().st_size, digest, partial(io.FileIO, path)))
    return instances


def print_refused(statuses: Iterable[study_pb2.InstanceStatus]) -> None:
    """Refused instances by code. Numbers, not names: a file's name may hold a patient's."""
    by_code = defaultdict(list)
    for status in statuses:
        by_code[status.reason.code].append(status)
    for code, group in sorted(by_code.items()):
        numbers = ", ".join(status.instance_key for status in group[:8]) + (", ..." if len(group) > 8 else "")
        print(f"refused {code}: {len(group)} (files {numbers}): {group[0].reason.text}", file=sys.stderr)


class ProgressLine:
    """Says on stderr what a run does, when that changes."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def __call__(self, run: finding_pb2.Run) -> None:
        state = finding_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_").lower()
        share = f" {round(run.progress, 1):.0%}" if run.state == finding_pb2.RUN_STATE_RUNNING else ""
        text = f"{run.model}: {state}{share}"
        if self._said.get(run.run_id) != text:
            print(text, file=sys.stderr)
        self._said[run.run_id] = text


def print_run(run: finding_pb2.Run) -> None:
    """What one run says, then a line per finding; of a time series also in which time point."""
    print(f"{run.model} {run.version}: {describe(run)}")
    times = run.label_map.time_points > 1 or any(found.time_point for found in run.findings)
    if run.findings:
        print(f"  {'#':<3} {'label':<12} {'score':>6}  {'centre L, P, S mm':<24} {'longest':>10} {'volume':>11}"
              + "  time" * times)
    for number, found in enumerate(run.findings, 1):
        centre = f"{found.centre_lps.x_mm:.1f}, {found.centre_lps.y_mm:.1f}, {found.centre_lps.z_mm:.1f}"
        print(f"  {number:<3} {found.label:<12} {found.score:6.3f}  {centre:<24} "
              f"{found.longest_diameter_3d_mm.value:7.1f} mm {found.volume_ml.value:8.2f} ml"
              + f" {found.time_point:5}" * times)


def save_label_maps(client: Client, runs: Sequence[finding_pb2.Run], folder: pathlib.Path) -> None:
    """labels_<model>.nrrd for each run that has a label map; of a model in two versions labels_<model>@<version>.nrrd."""
    folder.mkdir(parents=True, exist_ok=True)
    for run in runs:
        if run.HasField("label_map"):
            info, voxels = client.download(run.run_id, study_service_pb2.RESULT_KIND_LABEL_MAP)
            twice = sum(other.model == run.model for other in runs) > 1
            name = f"{run.model}@{run.version}" if twice else run.model
            write_label_map(folder, name, info.label_map, voxels)
            print(f"label map of {name}: {folder}", file=sys.stderr)


def submit(options: argparse.Namespace) -> int:
    """Submission, receipt, runs, findings; returns the exit code."""
    if not options.folder.is_dir():
        print(f"submit.py: {options.folder} is no folder", file=sys.stderr)
        return USAGE
    try:
        instances = find_instances(options.folder)
    except OSError as error:
        print(f"submit.py: {error.strerror} in {options.folder}", file=sys.stderr)
        return USAGE
    if not instances:
        print(f"submit.py: {options.folder} holds no files", file=sys.stderr)
        return USAGE
    client = Client(options.server, options.patience)
    receipt = client.submit(make_header(instances, options.model, options.priority), instances)
    # From here on nothing is lost: this program could end now and ask for the findings tomorrow.
    print(f"acknowledged: {receipt.instances_accepted} instances ({receipt.instances_duplicate} there already), "
          f"{receipt.instances_refused} refused", file=sys.stderr)
    print_refused(receipt.refused)
    runs = client.wait_for_runs(receipt, ProgressLine()) if receipt.run_ids else []
    if options.json:
        print(to_json(receipt, runs))
    for run in runs if not options.json else []:
        print_run(run)
    if not runs:
        print("no model was run: none is active for this study (name one with --model)", file=sys.stderr)
    if options.labels:
        save_label_maps(client, runs, options.labels)
    return DONE if all(run.state == finding_pb2.RUN_STATE_DONE for run in runs) else FAILED


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="folder with the files of one study, searched recursively")
    parser.add_argument("--server", default="127.0.0.1:8400", metavar="HOST:PORT", help="default: %(default)s")
    parser.add_argument("--model", action="append", default=[], metavar="NAME[@VERSION]",
                        help="may be given several times; without: every active model")
    parser.add_argument("--priority", choices=["routine", "urgent", "stat"], default="routine")
    parser.add_argument("--labels", type=pathlib.Path, metavar="DIR", help="save label maps there, as NRRD")
    parser.add_argument("--json", action="store_true", help="receipt and runs in protobuf's JSON mapping")
    parser.add_argument("--patience", type=float, default=60.0, metavar="SECONDS",
                        help="how long to try again without any progress (default: %(default).0f)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        return submit(options)
    except Unreachable:
        print(f"submit.py: no server answers at {options.server}", file=sys.stderr)
        return UNREACHABLE
    except Failed as failed:
        print_refused(failed.refused)
        print(f"submit.py: {failed}", file=sys.stderr)
        return REFUSED if failed.refused_study else FAILED
    except OSError as error:
        print(f"submit.py: {error.strerror}: a file or folder cannot be read or written", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
