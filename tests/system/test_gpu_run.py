"""benchmarks/gpu/run: it measures honestly, sees what differs, and ends in time (no GPU needed)."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest
from conftest import ROOT

GPU = ROOT / "benchmarks" / "gpu"


@pytest.fixture
def gpu(monkeypatch):
    """Imports run's modules by name."""
    monkeypatch.syspath_prepend(str(GPU))

    def load(name):
        for module in ("host", "parity", "statistics_of", "study", "windows"):
            monkeypatch.delitem(sys.modules, module, raising=False)
        return __import__(name)

    return load


def test_quantiles_are_measured_values(gpu):
    statistics_of = gpu("statistics_of")
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert statistics_of.quantile(values, 0.1) == 1.0
    assert statistics_of.quantile(values, 0.9) == 5.0
    assert statistics_of.summary(values)["median"] == 3.0
    made = statistics_of.rounds([[1.0, 1.0, 1.0], [1.5, 1.5, 1.5]])
    assert made["n"] == 6 and made["drift"] == pytest.approx(0.5 / 1.25)
    assert statistics_of.ratio([[2.0], [4.0]], [[1.0], [4.0]]) == {"median": 3.0 / 2.5, "low": 1.0, "high": 2.0}


class FakeRivals:
    """Answers at once; `broken` fails from its n-th run on."""

    def __init__(self, broken=None, after=0):
        self.order, self.broken, self.after = [], broken, after

    def run(self, variant, batch, passes, timeout_s):
        self.order.append(variant)
        if variant == self.broken and self.order.count(variant) > self.after:
            return {"error": {"code": "OUT_OF_MEMORY", "value": "", "text": "full"}}
        return {"ms": [1000.0] * passes, "peak_bytes": 7, "sample": [0.0, 1.0]}


def test_variants_take_turns_and_each_is_first_at_times(gpu):
    windows = gpu("windows")
    rivals = FakeRivals()
    times, _ = windows.measure(rivals, list(windows.VARIANTS), 1, 1.0, float("inf"))
    turns = [rivals.order[at:at + 3] for at in range(3, len(rivals.order), 3)]
    assert len(turns) == windows.ROUNDS
    assert all(sorted(turn) == sorted(windows.VARIANTS) for turn in turns)
    assert {turn[0] for turn in turns} == set(windows.VARIANTS)
    assert all(len(times[variant]) == windows.ROUNDS for variant in windows.VARIANTS)


@pytest.mark.parametrize("after", [0, 2])
def test_a_variant_that_fails_is_not_measured_and_hurts_no_other(gpu, after):
    windows = gpu("windows")
    times, said = windows.measure(FakeRivals("scripted", after), list(windows.VARIANTS), 4, 1.0, float("inf"))
    assert said["scripted"] == {"not_measured": "OUT_OF_MEMORY: full"}
    assert "scripted" not in times
    assert len(times["ours"]) == len(times["eager"]) == windows.ROUNDS


def test_outputs_that_differ_are_seen(gpu):
    windows = gpu("windows")
    assert windows.difference([0.0, 2.0], [0.0, 2.0]) == 0
    assert windows.difference([0.0, 2.5], [0.0, 2.0]) == pytest.approx(0.5)
    assert windows.difference([0.0, None], [0.0, 2.0]) is None


def finding(x, diameter=10.0, volume=1.0, score=0.9):
    return {"centreLpsMm": [x, 0, 0], "longestDiameterMm": diameter, "volumeMl": volume, "score": score}


def run_with(*findings, level="URGENT"):
    return {"flag": {"state": "FLAGGED", "level": level}, "findings": list(findings)}


def test_findings_of_two_devices_are_compared_whatever_their_order(gpu):
    study = gpu("study")
    reference = run_with(finding(0), finding(50))
    assert study.compare(run_with(finding(50.2), finding(0, score=0.895)), reference)["equal_within_tolerance"]
    for other in (run_with(finding(0)), run_with(finding(0), finding(52)), run_with(finding(0), finding(50, diameter=12)),
                  run_with(finding(0), finding(50, volume=1.2)), run_with(finding(0, score=0.8), finding(50)),
                  run_with(finding(0), finding(50), level="INFO")):
        assert not study.compare(other, reference)["equal_within_tolerance"], other


def test_a_study_without_any_model_fails(gpu, monkeypatch, tmp_path):
    study = gpu("study")
    monkeypatch.setattr(study, "tomoctl", lambda *_: None)
    (tmp_path / "models").mkdir()
    with pytest.raises(study.Failed, match="none of the models"):
        study.run("cpu", tmp_path, True, tmp_path / "models", time.monotonic() + 100, lambda item: None)


@pytest.mark.parametrize("device, ends", [("cuda:0", [70, 100]), ("cpu", [100])])
def test_the_reference_on_the_cpu_keeps_its_time(gpu, monkeypatch, tmp_path, device, ends):
    study = gpu("study")
    begin, servers, shares = time.monotonic(), [], []

    class FakeServer:
        def __init__(self, folder, models, device, deadline):
            servers.append(deadline - begin)
            self.start_s = 1.0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def analyze(self, *_, **__):
            raise study.Failed("no answer")

    def run_model(server, images, model, repeat, folder, share):
        shares.append(share - begin)
        return {"findings_same_in_all_runs": True}, run_with()

    monkeypatch.setattr(study, "tomoctl", lambda *_: None)
    monkeypatch.setattr(study, "Server", FakeServer)
    monkeypatch.setattr(study, "run_model", run_model)
    (tmp_path / "models" / study.MODELS[0]).mkdir(parents=True)
    study.run(device, tmp_path, True, tmp_path / "models", begin + 100, lambda item: None)
    assert servers == pytest.approx(ends, abs=2)
    assert shares == pytest.approx([ends[0]], abs=2)


def test_dice_counts_what_is_not_background(gpu):
    study = gpu("study")
    assert study.dice(bytes(8), bytes(8)) == 1
    assert study.dice(b"\0\1\1\0", b"\0\1\1\0") == 1
    assert study.dice(b"\0\1\1\0", b"\0\0\1\1") == pytest.approx(0.5)
    assert study.dice(b"\0\1\1\0", b"\0\2\1\0") == pytest.approx(0.5)
    assert study.dice(b"\1\0", b"\0\1") == 0


def item(precision="fp32", **ours):
    return {"kind": "window", "precision": precision, "variants": {"ours": ours}}


def compared(windows, precision, samples, reference):
    made = {"precision": precision, "variants": {variant: {"median": 1.0} for variant in samples}}
    windows.compare(made, samples, reference)
    return made["variants"]


SPREAD = [0.0, 2.0]  # of standard deviation 1


def test_ours_in_float32_is_held_against_eager_in_float32(gpu):
    windows = gpu("windows")
    reference = {"eager": SPREAD, "ours": [9.0, 9.0]}
    near, far = windows.FP32_DIFFERENCE * 0.9, windows.FP32_DIFFERENCE * 1.1
    made = compared(windows, "fp32", {"eager": SPREAD, "ours": [0.0, 2.0 + near]}, reference)
    assert made["ours"]["within_tolerance"] and made["ours"]["tolerance"] == windows.FP32_DIFFERENCE
    assert "within_tolerance" not in made["eager"]
    assert not compared(windows, "fp32", {"ours": [0.0, 2.0 + far]}, reference)["ours"]["within_tolerance"]
    assert not compared(windows, "fp32", {"ours": [0.0, None]}, reference)["ours"]["within_tolerance"]


def test_ours_in_float32_is_held_against_scripted_where_eager_did_not_fit(gpu):
    windows = gpu("windows")
    far = windows.FP32_DIFFERENCE * 1.1
    made = compared(windows, "fp32", {"scripted": SPREAD, "ours": SPREAD}, {"scripted": SPREAD, "ours": SPREAD})["ours"]
    assert made["within_tolerance"] and made["difference_from_scripted_fp32"] == 0
    assert not compared(windows, "fp32", {"ours": [0.0, 2.0 + far]}, {"scripted": SPREAD})["ours"]["within_tolerance"]
    # Where nothing else did: that is said, and no failure beside another network that was compared.
    alone = compared(windows, "fp32", {"ours": SPREAD}, {"ours": SPREAD})["ours"]
    assert "not_compared" in alone and "within_tolerance" not in alone
    good = item(median=1.0, within_tolerance=True)
    assert windows.agree([good, item(**alone)], "cpu")
    assert not windows.agree([item(**alone)], "cpu")


def test_half_precision_is_held_against_our_own_float32(gpu):
    windows = gpu("windows")
    reference = {"eager": [0.0, 4.0], "ours": SPREAD}
    near, far = windows.FP16_DIFFERENCE * 0.9, windows.FP16_DIFFERENCE * 1.1
    assert near > windows.FP32_DIFFERENCE
    made = compared(windows, "fp16", {"ours": [0.0, 2.0 + near]}, reference)["ours"]
    assert made["within_tolerance"] and made["difference_from_ours_fp32"] == pytest.approx(near)
    assert made["difference_from_eager_fp32"] == pytest.approx(1 - near / 2)
    assert not compared(windows, "fp16", {"ours": [0.0, 2.0 + far]}, reference)["ours"]["within_tolerance"]
    assert not compared(windows, "fp16", {"ours": [float("nan"), 2.0]}, reference)["ours"]["within_tolerance"]
    # Where ours did not fit in float32: against eager; where nothing did, it is not within anything.
    assert compared(windows, "fp16", {"ours": SPREAD}, {"eager": SPREAD})["ours"]["within_tolerance"]
    assert not compared(windows, "fp16", {"ours": SPREAD}, {})["ours"]["within_tolerance"]


def test_what_of_ours_differs_or_fails_fails_the_run(gpu):
    windows = gpu("windows")
    good, half = item(median=1.0, within_tolerance=True), item("fp16", median=1.0, within_tolerance=True)
    assert windows.agree([good, item(not_measured="no time was left", cut=True)], "cpu")
    assert windows.agree([good, half, item(not_measured="OUT_OF_MEMORY")], "cuda:0")
    # Each precision of the device must have been looked at.
    assert not windows.agree([good], "cuda:0")
    assert not windows.agree([half], "cuda:0")
    assert not windows.agree([], "cpu")
    assert not windows.agree([item(not_measured="OUT_OF_MEMORY")], "cpu")
    for bad in (item(median=1.0, within_tolerance=False), item("fp16", median=1.0, within_tolerance=False),
                item("fp16", median=1.0), item(not_measured="ENDED: -11", failed=True)):
        assert not windows.agree([good, half, bad], "cuda:0"), bad


def test_memory_and_time_are_excuses_and_nothing_else_is(gpu):
    windows = gpu("windows")

    def entry(code):
        return windows.not_measured({"error": {"code": code, "value": "", "text": "said"}})

    assert entry("OUT_OF_MEMORY") == {"not_measured": "OUT_OF_MEMORY: said"}
    assert entry("TIMEOUT") == {"not_measured": "TIMEOUT: said", "cut": True}
    assert entry("ENDED") == {"not_measured": "ENDED: said", "failed": True}


class Clock:
    """Time that passes by one second with every question to a rival."""

    def __init__(self, windows, monkeypatch, seconds):
        self.seconds = seconds
        monkeypatch.setattr(windows.host, "left", lambda deadline: max(0, self.seconds))


class SlowRivals(FakeRivals):
    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def load(self, variant, network, precision, window, timeout_s):
        return {"load_ms": 1.0, "warm_up_ms": 1.0}

    def run(self, variant, batch, passes, timeout_s):
        if timeout_s <= 0:
            return {"error": {"code": "TIMEOUT", "value": "0 s", "text": "no answer in time"}}
        self.clock.seconds -= 1
        return super().run(variant, batch, passes, timeout_s)


def test_when_the_time_is_up_whole_rounds_count_and_the_rest_is_named(gpu, monkeypatch):
    windows = gpu("windows")
    # Three first passes, two rounds of three, one pass of a third round; nothing for the second batch.
    rivals = SlowRivals(Clock(windows, monkeypatch, 10))
    base = {"kind": "window", "network": "net", "window": [8, 8, 8], "precision": "fp32"}
    first, second = windows.measure_network(rivals, base, [1, 2], 1.0, 0, {})
    for variant in windows.VARIANTS:
        entry = first["variants"][variant]
        assert len(entry["raw"]) == 2 and entry["cut"] and entry["rounds_left_out"] == windows.ROUNDS - 2
        assert second["variants"][variant] == {"not_measured": "no time was left", "cut": True}
    run = load_run()
    assert run.cuts_of(first)[0] == "net 8x8x8 fp32 batch 1 eager: 3 rounds were left out"
    assert run.cuts_of(second)[2] == "net 8x8x8 fp32 batch 2 ours: no time was left"
    assert "NOT" not in run.line_of(first) and "within 0.01 of float32: 0" in run.line_of(first)


def load_run():
    """benchmarks/gpu/run as a module."""
    import importlib.machinery
    import importlib.util

    loader = importlib.machinery.SourceFileLoader("gpu_run", str(GPU / "run"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("gpu_run", loader))
    loader.exec_module(module)
    return module


def fake_program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def report(*tests):
    """A report as googletest writes it: tests are (suite, name, what it says when it fails or is skipped, or None)."""
    cases = ""
    for suite, name, outcome, text in tests:
        inner = f'<{outcome} message="/somewhere/test.cpp:27&#x0A;{text}&#x0A;"/>' if outcome != "completed" else ""
        result = "skipped" if outcome == "skipped" else "completed"
        cases += f'<testcase name="{name}" status="run" result="{result}" classname="{suite}">{inner}</testcase>'
    return f'<?xml version="1.0" encoding="UTF-8"?><testsuites name="AllTests"><testsuite name="S">{cases}</testsuite></testsuites>'


PASSED = ("Placed/LabelsTest", "Fills/Cuda", "completed", "")
NO_DEVICE = ("Placed/LabelsTest", "Paints/Cuda", "skipped", "no CUDA device")
NO_DATA = ("Monai/GoldenRun", "LabelsEqualMonai/a_Cuda", "skipped", "shared data absent: /nowhere")
NO_TWIN = ("ModelScanTest", "AcceptsRealNetworks", "skipped", "for another reason")
BROKEN = ("Devices/NetworkTest", "Runs/cuda", "failure", "1 is not 2")


@pytest.mark.parametrize("device,tests,good,named", [
    ("cuda:0", [PASSED], True, []), ("cuda:0", [PASSED, NO_DATA, NO_TWIN], True, []),
    ("cuda:0", [PASSED, NO_DEVICE], False, ["Placed/LabelsTest.Paints/Cuda"]), ("cuda:0", [NO_DATA], False, []),
    ("cuda:0", [PASSED, BROKEN], False, []), ("cpu", [NO_DEVICE, NO_DATA], True, []), ("cpu", [PASSED, BROKEN], False, [])])
def test_a_twin_that_is_skipped_beside_a_gpu_fails_and_is_named(gpu, monkeypatch, tmp_path, capsys, device, tests, good, named):
    parity = gpu("parity")
    monkeypatch.setattr(parity.host, "PACK", tmp_path)
    (tmp_path / "library-path").write_text("/nowhere\n")
    (tmp_path / "report.xml").write_text(report(*tests))
    for name in parity.PROGRAMS:
        code = f"cp {tmp_path}/report.xml" if name == "compute_test" else "echo '<testsuites/>' >"
        fake_program(tmp_path / "bin" / name, f'for word; do case "$word" in --gtest_output=xml:*) {code} "${{word#*:}}";; esac; done')
    items = []
    assert parity.run(device, tmp_path, time.monotonic() + 60, False, items.append) == good
    first = items[0]
    assert first["program"] == "compute_test" and first["wrongly_skipped"] == named
    assert [skip["test"] for skip in first["skipped"]] == [f"{suite}.{name}" for suite, name, what, _ in tests
                                                           if what == "skipped"]
    assert first["passed"] == tests.count(PASSED) and len(first["failed"]) == tests.count(BROKEN)
    assert all(name in capsys.readouterr().err for name in named)


def test_a_test_program_without_a_report_fails_and_one_that_hangs_is_cut(gpu, monkeypatch, tmp_path):
    parity = gpu("parity")
    monkeypatch.setattr(parity.host, "PACK", tmp_path)
    (tmp_path / "library-path").write_text("/nowhere\n")
    fake_program(tmp_path / "bin" / "compute_test", "exit 7")
    fake_program(tmp_path / "bin" / "pipeline_test", "exec sleep 600")
    items = []
    assert not parity.run("cpu", tmp_path, time.monotonic() + 2, False, items.append)
    by_program = {entry["program"]: entry for entry in items}
    assert "ended with 7" in by_program["compute_test"]["not_measured"]
    assert by_program["pipeline_test"]["cut"] and "its time was up" in by_program["pipeline_test"]["not_measured"]
    assert "does not hold" in by_program["engine_test"]["not_measured"]


def test_time_that_is_up_ends_whatever_runs(gpu):
    host = gpu("host")
    for block in (lambda: subprocess.run(["sleep", "600"]), lambda: [None for _ in iter(int, 1)]):
        begin = time.monotonic()
        with pytest.raises(host.TimeUp), host.until(begin + 0.3):
            block()
        assert 0.25 < time.monotonic() - begin < 5
    with host.until(time.monotonic() + 0.2):
        pass
    time.sleep(0.4)  # what ended in time rings no more
    with pytest.raises(host.TimeUp), host.until(time.monotonic() - 1):
        pytest.fail("there was no time for this")


def processes_with(text):
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and text.encode() in (entry / "cmdline").read_bytes():
                found.append(entry.name)
        except OSError:
            continue
    return found


def test_nothing_outlives_the_limit_and_the_record_says_what_was_cut(tmp_path):
    # A pack whose programs hang.
    pack, out = tmp_path / "pack", tmp_path / "out"
    shutil.copytree(GPU, pack / "benchmarks" / "gpu", ignore=shutil.ignore_patterns("__pycache__"))
    (pack / "models" / "nodule_blob").mkdir(parents=True)
    (pack / "PACK.json").write_text(json.dumps({"commit": "abc1234", "packed": "now", "cuda_module": False}))
    marker = f"{600 + os.getpid() / 1e7:.7f}"
    for name in ("compute_test", "pipeline_test", "executor_test", "engine_test", "tomoctl", "tomoserve"):
        fake_program(pack / "bin" / name, f"exec sleep {marker}")
    about = json.dumps({"path": "/nowhere/torch", "version": "2.11.0", "cuda": None, "cudnn": None, "gpus": []})
    fake_program(tmp_path / "python", f"if [ \"$1\" = -c ]; then echo '{about}'; else exec sleep {marker}; fi")
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-B", str(pack / "benchmarks" / "gpu" / "run"), "--devices", "cpu", "--quick",
                           "--minutes", "0.06", "--python", str(tmp_path / "python"), "--out", str(out)],
                          capture_output=True, text=True, timeout=60)
    assert time.monotonic() - begin < 20
    assert done.returncode == 1, done.stderr
    (path,) = out.glob("*.json")
    record = json.loads(path.read_text())
    assert {name: step["good"] for name, step in record["steps"].items()} == dict.fromkeys(("parity", "study", "windows"), False)
    assert sum(step["seconds"] for step in record["steps"].values()) < 6 and record["finished"]
    for what in ("compute_test", "engine_test", "tomoctl phantom", "windows"):
        assert any(what in text for text in record["cut"]), (what, record["cut"])
    assert record["tolerances"]["fp16"]["largest_difference"] > 0
    assert not processes_with(marker)


def test_a_step_that_does_not_end_is_stopped_and_the_next_ones_are_named(gpu, monkeypatch, tmp_path):
    run, parity, host = load_run(), gpu("parity"), sys.modules["host"]
    monkeypatch.setattr(run, "GRACE_S", 0.3)
    monkeypatch.setattr(parity, "run", lambda *_: time.sleep(600))
    record = run.Record(tmp_path, "cpu", {"cores": 2, "cpu": "some"}, {"commit": "abc1234", "packed": "now"}, host, True)
    begin = time.monotonic()
    assert not run.measure(run.arguments_of(["--quick"]), host, "cpu", record, begin + 0.5)
    assert time.monotonic() - begin < 20
    assert record.content["cut"] == ["parity: stopped after 1 s, when the time was up", "study: no time was left",
                                     "windows: no time was left"]
    assert [step["good"] for step in json.loads(record.path.read_text())["steps"].values()] == [False] * 3


def test_unpacking_counts_and_the_pack_gets_the_time_that_is_left(tmp_path):
    top = tmp_path / "tomoserve-gpu-abc1234"
    top.mkdir()
    (top / "run").write_text("import json, sys\nprint(json.dumps(sys.argv[1:]))\nsys.exit(7)\n")
    subprocess.run(["tar", "-C", str(tmp_path), "--zstd", "-cf", str(tmp_path / "pack.tar.zst"), top.name], check=True)
    done = subprocess.run([sys.executable, "-B", str(GPU / "run"), "--pack", str(tmp_path / "pack.tar.zst"), "--quick",
                           "--minutes", "2", "--out", str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 7, done.stderr
    words = json.loads(done.stdout)
    assert "--pack" not in words and words[-2] == "--minutes" and 1 < float(words[-1]) <= 2
