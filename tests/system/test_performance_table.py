"""tools/performance_table.py: the tables of docs/PERFORMANCE.md say what the records say, and nothing else."""
import json
import subprocess

from conftest import ROOT

TOOL = ROOT / "tools" / "performance_table.py"
DOCUMENT = "# Performance\n\nBefore.\n\n<!-- gpu-tables: begin -->\nold\n<!-- gpu-tables: end -->\n\nAfter.\n"


def entry(median):
    return {"n": 3, "median": median, "p10": median * 0.9, "p90": median * 1.1, "peak_bytes": 2_000_000_000,
            "raw": [[median] * 3]}


def record(gpu="NVIDIA H100 80GB HBM3", commit="abc1234", started="2026-11-25T00:00:00+00:00", ours=20.0, **changes):
    made = {"schema": "tomoserve-gpu-record-1", "commit": commit, "started": started, "quick": False, "device": "cuda:0",
            "machine": {"cpu": "CPU", "cores": 16, "torch": "2.11.0", "gpu": {"name": gpu, "driver": "580.1"}},
            "items": [
                {"kind": "parity", "program": "compute_test", "passed": 40, "failed": [], "skipped": ["A.B"]},
                {"kind": "window", "network": "nnunet", "window": [128, 128, 128], "precision": "fp16", "batch": 2,
                 "gflop_per_window": 954.6,
                 "variants": {"eager": entry(44.0), "scripted": {"not_measured": "OUT_OF_MEMORY"}, "ours": entry(ours)},
                 "ours_over": {"eager": {"median": 0.45, "low": 0.44, "high": 0.46}}},
                {"kind": "window", "network": "nnunet", "window": [128, 128, 128], "precision": "fp16", "batch": 1,
                 "gflop_per_window": 954.6,
                 "variants": {"eager": entry(25.0), "scripted": entry(24.0), "ours": entry(12.0)},
                 "ours_over": {"eager": {"median": 0.48, "low": 0.47, "high": 0.49},
                               "scripted": {"median": 0.5, "low": 0.49, "high": 0.51}}}]}
    made.update(changes)
    return made


def table(tmp_path, *records):
    folder = tmp_path / "records"
    folder.mkdir(exist_ok=True)
    for index, content in enumerate(records):
        (folder / f"{index}.json").write_text(json.dumps(content))
    document = tmp_path / "PERFORMANCE.md"
    if not document.exists():
        document.write_text(DOCUMENT)
    subprocess.run([str(TOOL), "--records", str(folder), "--document", str(document)], check=True)
    return document.read_text()


def cells(text, start, column):
    lines = text.splitlines()
    head = next(line for line in lines if line.startswith("| network | precision | L4 |"))
    index = [cell.strip() for cell in head.split("|")].index(column)
    line = next(line for line in lines if line.startswith(start))
    return line.split("|")[index].strip()


def test_devices_without_a_record_are_not_measured(tmp_path):
    text = table(tmp_path)
    for device in ("L4", "L40S", "H100", "H200"):
        assert cells(text, "| `nnunet` 128x128x128 | fp16", device) == "not measured"
    assert text.startswith("# Performance\n\nBefore.\n\n<!-- gpu-tables: begin -->")
    assert text.endswith("<!-- gpu-tables: end -->\n\nAfter.\n")
    assert "old" not in text


def test_a_record_fills_its_column_only_with_its_fastest_batch(tmp_path):
    text = table(tmp_path, record())
    assert cells(text, "| `nnunet` 128x128x128 | fp16", "H100") == "10.0 [9.00 11.0], batch 2"
    assert cells(text, "| `nnunet` 128x128x128 | fp32", "H100") == "not measured"
    assert cells(text, "| `nnunet` 128x128x128 | fp16", "L4") == "not measured"
    assert "| `nnunet` 128x128x128 | fp16 | 2 | 22.0 [19.8 24.2] | not measured | 10.0 [9.00 11.0] | 0.45 [0.44 0.46] | " \
           "not measured | 2.00 | 95.5 |" in text
    assert "40 passed, 0 failed, 1 skipped" in text


def test_what_differs_and_what_was_cut_is_said(tmp_path):
    good = record(tolerances={"fp16": {"against": "ours in float32", "largest_difference": 0.05}})
    for item, found in zip(good["items"][1:], (0.003, 0.02)):
        item["variants"]["ours"].update(difference_from_ours_fp32=found, within_tolerance=True)
    text = table(tmp_path, good)
    assert "Outputs of ours in fp16 against ours in float32: within 0.02 standard deviations (0.05 is tolerated)." in text
    assert "The time was up" not in text
    good["items"][1]["variants"]["ours"].update(difference_from_ours_fp32=0.3, within_tolerance=False)
    good["cut"] = ["retinanet fp32: no time was left"]
    text = table(tmp_path, good)
    assert "within 0.3 standard deviations (0.05 is tolerated); NOT within: `nnunet` batch 2." in text
    assert "The time was up before all was measured: retinanet fp32: no time was left." in text


def test_the_latest_record_of_a_device_counts_and_rehearsals_do_not(tmp_path):
    text = table(tmp_path, record(ours=20.0), record(ours=16.0, started="2026-11-26T00:00:00+00:00", commit="new0000"),
                 record(ours=2.0, started="2026-11-27T00:00:00+00:00", quick=True))
    assert cells(text, "| `nnunet` 128x128x128 | fp16", "H100").startswith("8.00 ")
    assert "`new0000`" in text and "`abc1234`" not in text


def test_an_unknown_gpu_gets_a_column_of_its_own_name(tmp_path):
    text = table(tmp_path, record(gpu="NVIDIA RTX 6000"))
    assert cells(text, "| `nnunet` 128x128x128 | fp16", "NVIDIA RTX 6000").endswith("batch 2")


def test_records_of_other_tools_are_left_alone(tmp_path):
    without = table(tmp_path)
    assert table(tmp_path, {"machine": "x86_64", "cores": 2}) == without


def test_a_second_time_changes_nothing(tmp_path):
    first = table(tmp_path, record())
    assert table(tmp_path, record()) == first


def test_the_document_of_the_repository_is_up_to_date():
    done = subprocess.run([str(TOOL), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
