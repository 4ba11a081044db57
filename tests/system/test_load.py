"""tomoctl load: what it sends arrives as studies of their own, when it was due, and what went wrong is said."""
import csv
import importlib.machinery
import importlib.util
import json
import subprocess
import sys
import time
import urllib.request

import pytest
from conftest import BIN, MODELS, ROOT, Server, phantom, tomoctl
from PIL import Image

MODEL = ("--model", "nodule_blob")
TINY = ("--sizes", "48x32:0.8,48x48:0.2", "--spacing", "3,3,4.5")  # one window, or three
CONFIG = 'metrics_listen: "127.0.0.1:0"\n'


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("server"), [MODELS], config=CONFIG).start()
    yield made
    made.stop()


def metrics_url(server):
    events = [json.loads(line) for line in server.text().splitlines() if line.startswith("{")]
    port = [event["port"] for event in events if event["event"] == "metrics"][-1]
    return f"http://127.0.0.1:{port}/metrics"


def load(server, *arguments, code=0):
    """The report."""
    done = tomoctl("load", *arguments, "--json", server=server, check=False)
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


def studies(server):
    flags = json.loads(tomoctl("flags", "--json", server=server).stdout)["flags"]
    return [flag["study"]["studyInstanceUid"] for flag in flags]


def test_an_open_load_is_measured(loaded, tmp_path):
    table = tmp_path / "load.csv"
    report = load(loaded, *MODEL, *TINY, "--rate", "7200", "--warm-up", "1", "--duration", "3", "--seed", "3",
                  "--mix", "routine:0.5,urgent:0.3,stat:0.2", "--metrics", metrics_url(loaded), "--csv", table)
    rows = list(csv.DictReader(table.open()))
    measured = [row for row in rows if row["measured"] == "1"]
    assert 2 <= len(measured) < len(rows) and report["failures"] == {} and report["held_by_max_open"] == 0
    assert report["all"]["offered"] == report["all"]["completed"] == len(measured)
    assert sum(row["offered"] for row in report["priorities"].values()) == len(measured)
    assert all(row["code"] == "" and float(row["intended_s"]) <= float(row["started_s"]) < float(row["acknowledged_s"])
               < float(row["final_s"]) for row in rows), rows
    latencies = [float(row["final_s"]) - float(row["intended_s"]) for row in measured]
    assert report["all"]["latency_s"]["max"] == pytest.approx(max(latencies), abs=1e-3)
    assert report["windows"]["48x32"] == 1
    assert report["server"]["samples"] and 0 <= report["server"]["busy_share"] <= 1
    found = studies(loaded)
    assert len(found) == len(set(found)) == len(rows), "each one is a study of its own"
    with urllib.request.urlopen(metrics_url(loaded), timeout=20) as answer:
        samples = [line for line in answer.read().decode().splitlines() if line.startswith("tomoserve_runs_")]
    assert not [line for line in samples if "_reused_total" in line and not line.endswith(" 0")], samples
    assert sum(float(line.split()[-1]) for line in samples if line.startswith("tomoserve_runs_total")) == len(rows)


def test_a_closed_load_keeps_studies_open(loaded):
    report = load(loaded, *MODEL, *TINY, "--closed", "2", "--duration", "2")
    assert report["most_open"] == 2 and report["failures"] == {}
    assert report["throughput"]["studies_per_hour"] > 0 and 0 < report["throughput"]["forward_share"]


def test_a_closed_load_does_not_hammer_a_server_that_refuses(loaded):
    report = load(loaded, "--model", "absent", *TINY, "--closed", "2", "--duration", "1", code=1)
    assert 0 < report["failures"]["UNKNOWN_MODEL"] <= 2 * 10


def test_what_max_open_holds_back_counts_from_when_it_was_due(loaded, tmp_path):
    table = tmp_path / "load.csv"
    done = tomoctl("load", *MODEL, *TINY, "--rate", "18000", "--duration", "0.6", "--max-open", "1", "--csv", table,
                   server=loaded)
    rows = list(csv.DictReader(table.open()))
    held = [row for row in rows if row["held"] == "1"]
    assert held and f"--max-open 1 held {len(held)} studies back" in done.stdout, done.stdout
    for before, row in zip(rows, rows[1:]):
        assert float(row["started_s"]) >= float(before["final_s"]), "one at a time"
        assert float(row["latency_s"]) == pytest.approx(float(row["final_s"]) - float(row["intended_s"]), abs=1e-3)


def test_a_study_of_ones_own_is_sent_as_many(loaded, tmp_path):
    phantom(tmp_path / "ct", "--size", "48", "--slices", "32", "--spacing", "3,3,4.5", "--nodules", "1", "--seed", "8")
    before = set(studies(loaded))
    report = load(loaded, *MODEL, "--study", tmp_path / "ct", "--closed", "1", "--duration", "1")
    assert report["all"]["completed"] > 0 and len(set(studies(loaded)) - before) == report["all"]["completed"]


def test_what_the_server_refuses_is_a_failure(loaded):
    report = load(loaded, "--model", "absent", *TINY, "--rate", "36000", "--duration", "1", "--seed", "2", code=1)
    assert report["all"]["completed"] == 0 and sum(report["failures"].values()) == report["all"]["offered"] > 0
    assert list(report["failures"]) == ["UNKNOWN_MODEL"]


def test_what_is_not_final_in_time_is_a_failure(loaded):
    report = load(loaded, *MODEL, *TINY, "--rate", "180000", "--duration", "0.2", "--drain", "0.05", code=1)
    assert set(report["failures"]) <= {"UNFINISHED", "NOT_SENT"} and report["failures"]


def test_a_server_that_dies_loses_nothing_silently(server_factory):
    server = server_factory()
    process = subprocess.Popen([str(BIN / "tomoctl"), "--server", server.address, "load", *MODEL, *TINY, "--rate", "18000",
                                "--duration", "2", "--drain", "5", "--json"], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not studies(server):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    server.kill()
    report = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 1 and report["failures"]["UNAVAILABLE"] > 0
    assert report["all"]["completed"] + sum(report["failures"].values()) == report["all"]["offered"]


@pytest.mark.parametrize("arguments,said", [
    (("--duration", "1"), "--rate or --closed"),
    (("--duration", "1", "--rate", "0"), "--rate"),
    (("--duration", "1", "--rate", "1", "--closed", "1"), "excludes"),
    (("--duration", "1", "--rate", "1", "--mix", "stat:0"), "LOAD_MIX"),
    (("--duration", "1", "--rate", "1", "--mix", "soon"), "LOAD_MIX"),
    (("--duration", "1", "--rate", "1", "--sizes", "128"), "LOAD_SIZE"),
    (("--duration", "1", "--rate", "1", "--metrics", "nowhere"), "METRICS_URL")])
def test_wrong_options_are_said(loaded, arguments, said):
    done = tomoctl("load", *MODEL, *arguments, server=loaded, check=False)
    assert done.returncode == 2 and said in done.stderr + done.stdout, done


def test_no_server_is_said():
    done = tomoctl("--server", "127.0.0.1:1", "load", *MODEL, "--rate", "1", "--duration", "1", check=False)
    assert done.returncode == 3, done.stderr


@pytest.fixture(scope="module")
def benchmark():
    """benchmarks/load/run as a module."""
    folder = ROOT / "benchmarks" / "load"
    sys.path.insert(0, str(folder))
    loader = importlib.machinery.SourceFileLoader("load_run", str(folder / "run"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("load_run", loader))
    loader.exec_module(module)
    yield module
    sys.path.remove(str(folder))


def phase(stat, windows_per_s, samples=()):
    """A report with that latency of STAT studies."""
    quantiles = {name: stat for name in ("p50", "p95", "p99", "max")}
    row = {"offered": 3, "completed": 3, "latency_s": quantiles, "acknowledged_s": quantiles}
    return {"priorities": {"stat": row}, "failures": {},
            "throughput": {"studies_per_hour": 500, "windows_per_s": None, "forward_share": 0.5},
            "server": {"busy_share": 1, "windows_per_s": windows_per_s, "waiting_mean": 2, "samples": list(samples)}}


def test_the_benchmark_compares_stat_studies_and_draws(benchmark, tmp_path):
    samples = [{"at_s": second, "waiting": {"ROUTINE": second, "STAT": 0}} for second in range(30)]
    phases = {"capacity": phase(None, 9.0), "stat alone": phase(2.0, 1), "full queue": phase(3.0, 7.6, samples),
              "one class": phase(None, 8.0)}
    record = {"phases": phases, "ratios": benchmark.ratios_of(phases, 10.0), "raw_windows_per_s": 10.0}
    assert record["ratios"]["stat_p99_full_over_alone"] == 1.5 and record["ratios"]["full_over_one_class"] == 0.95
    assert record["ratios"]["capacity_over_raw"] == 0.9
    text = benchmark.tables(record)
    assert "| full queue | stat | 3 | 3 | 3.00 |" in text and "p99 1.50" in text and "of one class: 0.95" in text and "alone: 0.90 (10.00/s alone)" in text
    for name in phases:
        (tmp_path / f"load-{name.replace(' ', '-')}.csv").write_text(
            "priority,intended_s,latency_s\nroutine,1,20\nstat,2,0.3\nstat,3,\n")
    benchmark.draw(tmp_path, record, tmp_path / "plot.png")
    colours = {colour for _, colour in Image.open(tmp_path / "plot.png").getcolors(1 << 16)}
    assert {(150, 160, 170), (204, 51, 17), (0, 119, 187)} <= colours


def test_a_benchmark_without_results_says_so(benchmark):
    phases = {"capacity": phase(None, 1), "stat alone": phase(None, 0), "full queue": phase(3.0, 10),
              "one class": phase(None, 10)}
    record = {"phases": phases, "ratios": benchmark.ratios_of(phases, 2), "raw_windows_per_s": 2}
    assert "p99 -" in benchmark.tables(record)
