#!/usr/bin/env python3
"""Renews the tables of docs/PERFORMANCE.md from the records that benchmarks/gpu/run wrote.

usage: tools/performance_table.py [--records FOLDER] [--document FILE] [--check]

The text between the lines "<!-- gpu-tables: begin -->" and "<!-- gpu-tables: end -->" is written anew. One column per
device; a device without a record is "not measured", as is what its record does not hold. Of several records of one
device the latest counts; rehearsals (--quick) do not. --check: changes nothing; exit code 1 where the document is not
up to date.
"""
import argparse
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
SCHEMA = "tomoserve-gpu-record-1"
BEGIN, END = "<!-- gpu-tables: begin -->", "<!-- gpu-tables: end -->"
NOT_MEASURED = "not measured"
# What the product is for: shown also while there is no record.
DEVICES = ("L4", "L40S", "H100", "H200")
WINDOWS = [(network, window, precision)
           for network, window in (("unet_spleen", "96x96x96"), ("segresnet_105", "96x96x96"), ("nnunet", "128x128x128"),
                                   ("retinanet", "512x512x192"))
           for precision in ("fp32", "fp16")]
STAGES = ("total", "queue", "decode", "prepare", "forward", "blend", "labels", "measure", "pack", "all_but_forward")


def device_of(record):
    """"H100" for "NVIDIA H100 80GB HBM3"; the whole name of any other device."""
    gpu = record["machine"].get("gpu")
    if gpu is None:
        return f"CPU, {record['machine']['cores']} cores"
    words = gpu["name"].replace("-", " ").split()
    return next((device for device in DEVICES if device in words), gpu["name"])


def read_records(folder):
    """The latest record of each device, in the order of the columns."""
    latest = {}
    for path in sorted(pathlib.Path(folder).glob("*.json")):
        record = json.loads(path.read_text())
        if record.get("schema") != SCHEMA or record.get("quick"):
            continue
        record["file"] = path.name
        device = device_of(record)
        if device not in latest or latest[device]["started"] < record["started"]:
            latest[device] = record
    others = sorted(set(latest) - set(DEVICES))
    return {device: latest.get(device) for device in (*DEVICES, *others)}


def number(value):
    """Three digits that mean something."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def row(cells):
    return "| " + " | ".join(cells) + " |"


def table(head, rows):
    return [row(head), "|" + "---|" * len(head), *map(row, rows)]


def windows_of(record, network, window, precision):
    """Items by batch."""
    return {item["batch"]: item for item in (record or {"items": []})["items"]
            if item["kind"] == "window" and item["network"] == network and item["precision"] == precision
            and "x".join(map(str, item["window"])) == window}


def per_window(entry, batch):
    """"12.3 [12.1 12.9]": median, tenth and ninetieth percentile, ms."""
    return f"{number(entry['median'] / batch)} [{number(entry['p10'] / batch)} {number(entry['p90'] / batch)}]"


def best(items):
    """(batch, entry of ours) with the shortest time per window, or None."""
    measured = [(batch, item["variants"]["ours"]) for batch, item in items.items()
                if "median" in item["variants"]["ours"]]
    return min(measured, key=lambda pair: pair[1]["median"] / pair[0], default=None)


def overview(records):
    rows = []
    for network, window, precision in WINDOWS:
        cells = [f"`{network}` {window}", precision]
        for record in records.values():
            found = best(windows_of(record, network, window, precision))
            cells.append(NOT_MEASURED if found is None else f"{per_window(found[1], found[0])}, batch {found[0]}")
        rows.append(cells)
    return ["Our time per window, ms: median [tenth and ninetieth percentile], at the fastest batch.", "",
            *table(["network", "precision", *records], rows)]


def studies(records):
    models = sorted({item["model"] for record in records.values() if record for item in record["items"]
                     if item["kind"] == "study" and "warm_s" in item})
    lines = []
    for model in models:
        found = {}
        for device, record in records.items():
            found[device] = next((item for item in (record or {"items": []})["items"] if item["kind"] == "study"
                                  and item["model"] == model and "warm_s" in item), None)
        rows = [["first request after `ready`", *(number(item["cold_s"]) if item else NOT_MEASURED
                                                  for item in found.values())]]
        for stage in STAGES:
            rows.append([stage.replace("_", " "), *(
                number(item["warm_s"][stage]["median"]) if item and stage in item["warm_s"] else NOT_MEASURED
                for item in found.values())])
        rows.append(["highest of n", *(f"{number(max(item['warm_s']['total']['raw']))} of {item['warm_s']['total']['n']}"
                                       if item else NOT_MEASURED for item in found.values())])
        sizes = sorted({item["study"] for item in found.values() if item})
        lines += ["", f"Whole study ({', '.join(sizes)}, `{model}`), DICOM to findings through the server, s (medians "
                  "of warm runs):", "", *table(["", *records], rows)]
    if not models:
        lines += ["", "Whole study, DICOM to findings through the server: not measured on any of these."]
    return lines


def agreement(record):
    """How far the outputs of ours differ, against what and with which tolerance; what is not within it is named."""
    lines = []
    for precision, tolerance in record.get("tolerances", {}).items():
        items = [item for item in record["items"] if item["kind"] == "window" and item["precision"] == precision
                 and "within_tolerance" in item["variants"]["ours"]]
        if not items:
            continue
        found = [next((ours[name] for name in ("difference_from_ours_fp32", "difference_from_eager_fp32",
                                               "difference_from_scripted_fp32") if name in ours), None)
                 for ours in (item["variants"]["ours"] for item in items)]
        largest = max((value for value in found if value is not None), default=None)
        outside = [f"`{item['network']}` batch {item['batch']}" for item in items
                   if not item["variants"]["ours"]["within_tolerance"]]
        lines += ["", f"Outputs of ours in {precision} against {tolerance['against']}: "
                  + (f"within {largest:.2g} standard deviations" if largest is not None else "nothing to compare with")
                  + f" ({tolerance['largest_difference']:g} is tolerated)"
                  + (f"; NOT within: {', '.join(outside)}." if outside else ".")]
    if record.get("cut"):
        lines += ["", "The time was up before all was measured: " + "; ".join(record["cut"]) + "."]
    return lines


def details(device, record):
    """Every pass of one record: the variants, the ratios with the lowest and highest round, memory."""
    rows = []
    for item in record["items"]:
        if item["kind"] != "window":
            continue
        cells = [f"`{item['network']}` {'x'.join(map(str, item['window']))}", item["precision"], str(item["batch"])]
        for variant in ("eager", "scripted", "ours"):
            entry = item["variants"][variant]
            cells.append(per_window(entry, item["batch"]) if "median" in entry else NOT_MEASURED)
        for rival in ("eager", "scripted"):
            ratio = item.get("ours_over", {}).get(rival)
            cells.append(f"{ratio['median']:.2f} [{ratio['low']:.2f} {ratio['high']:.2f}]" if ratio else NOT_MEASURED)
        ours = item["variants"]["ours"]
        measured = "median" in ours
        cells.append(number(ours["peak_bytes"] / 1e9) if measured else NOT_MEASURED)
        cells.append(number(item["gflop_per_window"] * item["batch"] / ours["median"]) if measured else NOT_MEASURED)
        rows.append(cells)
    machine = record["machine"]
    lines = ["", f"### {device}", "",
             f"`benchmarks/records/{record['file']}`, commit `{record['commit']}`, {record['started'][:10]}: "
             f"{machine.get('gpu', {}).get('name', machine['cpu'])}, {machine['cores']} cores, torch {machine['torch']}"
             + (f", driver {machine['gpu'].get('driver', 'unknown')}" if "gpu" in machine else "") + ".", "",
             "ms per window; ratios with the lowest and highest of the rounds; ours: highest memory, GB, and TFLOP/s.", "",
             *table(["network", "precision", "batch", "eager", "scripted", "ours", "ours / eager", "ours / scripted",
                     "GB", "TFLOP/s"], rows)]
    lines += agreement(record)
    twins = [item for item in record["items"] if item["kind"] == "parity" and "passed" in item]
    lines += ["", f"CUDA twins of the tests: {sum(item['passed'] for item in twins)} passed, "
              f"{sum(len(item['failed']) for item in twins)} failed, "
              f"{sum(len(item['skipped']) for item in twins)} skipped."]
    for item in record["items"]:
        if item["kind"] == "study_against_cpu" and "dice" in item:
            lines.append(f"`{item['model']}` against the CPU: {item['findings']} and {item['findings_reference']} "
                         f"findings, Dice {item['dice']:.5f}, centres within {item['largest_differences']['centre_mm']:.2f} mm.")
    return lines


def render(records):
    lines = [*overview(records), *studies(records)]
    for device, record in records.items():
        if record:
            lines += details(device, record)
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", default=ROOT / "benchmarks" / "records")
    parser.add_argument("--document", default=ROOT / "docs" / "PERFORMANCE.md", type=pathlib.Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    text = arguments.document.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        sys.exit(f"{arguments.document}: the lines {BEGIN} and {END} must be there, once, in this order")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    new = f"{before}{BEGIN}\n{render(read_records(arguments.records))}\n{END}{after}"
    if arguments.check:
        if new != text:
            print(f"{arguments.document} is not up to date: run tools/performance_table.py")
        return int(new != text)
    arguments.document.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
