#!/usr/bin/env python3
"""Times the straight path and measures the front's memory on this machine.

usage: benchmarks/straight_path.py [--model NAME] [--models FOLDER] [--repeat N] [--memory-gb GB] [--output FILE]

1. Phantom 512x512x300 (explicit little endian) through gRPC, N times: seconds per stage; "all but forward" is the time
   from the first byte to the findings, less the network's forward pass as the worker reports it (wall-clock).
2. The first request after "ready" against the median of the next ten (a smaller phantom).
3. The front's resident memory while a study of GB gigabytes streams in.
Prints a table and, with --output, a JSON record.
"""
import argparse
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
BIN = ROOT / "build" / "bin"


class Server:
    def __init__(self, folder, models):
        self.log = open(folder / "server.log", "ab")
        self.process = subprocess.Popen(
            [str(BIN / "tomoserve"), "--listen", "127.0.0.1:0", "--data", str(folder / "data"), "--models", str(models)],
            stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.port = int(self.process.stdout.readline().split()[1])

    def memory(self):
        """(resident bytes, of these anonymous): mapped arenas are shared memory and counted in the first only."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return tuple(int(re.search(rf"{name}:\s+(\d+)", text)[1]) * 1024 for name in ("VmRSS", "RssAnon"))

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=60)


def tomoctl(*arguments):
    done = subprocess.run([str(BIN / "tomoctl"), *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"tomoctl {arguments}: {done.stderr}")
    return done.stdout


def analyze(server, folder, model):
    """(seconds, findings.json's run)."""
    started = time.monotonic()
    out = tomoctl("--server", f"127.0.0.1:{server.port}", "analyze", folder, "--model", model, "--force", "--json")
    return time.monotonic() - started, json.loads(out)["runs"][0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nodule_blob")
    parser.add_argument("--models", default=ROOT / "models")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--memory-gb", type=float, default=2.0)
    parser.add_argument("--output")
    arguments = parser.parse_args()
    record = {"machine": platform.processor() or platform.machine(), "cores": len(os.sched_getaffinity(0)),
              "commit": subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True,
                                       text=True).stdout.strip(), "model": arguments.model}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        tomoctl("phantom", "--output", folder / "small", "--size", "128", "--slices", "120", "--spacing", "2.8,2.8,2.5",
                "--seed", "5")
        tomoctl("phantom", "--output", folder / "ct", "--size", "512", "--slices", "300", "--spacing", "0.7,0.7,1.25",
                "--seed", "9")
        server = Server(folder, arguments.models)
        times = [analyze(server, folder / "small", arguments.model)[0] for _ in range(11)]
        record["first_request_s"], record["median_of_next_ten_s"] = times[0], statistics.median(times[1:])
        rows = []
        for _ in range(arguments.repeat):
            seconds, run = analyze(server, folder / "ct", arguments.model)
            rows.append({"total_s": seconds, **{stage: ms / 1000 for stage, ms in run["timingsMs"].items()}})
        stages = {stage: statistics.median(row.get(stage, 0) for row in rows) for stage in rows[0]}
        stages["all_but_forward_s"] = statistics.median(row["total_s"] - row["forward"] for row in rows)
        record["chest_512x512x300"] = stages
        idle = server.memory()
        peak = [0, 0]
        done = threading.Event()

        def watch():
            while not done.is_set():
                for index, value in enumerate(server.memory()):
                    peak[index] = max(peak[index], value)
                time.sleep(0.02)

        slices = round(arguments.memory_gb * 1e9 / (512 * 512 * 2))
        tomoctl("phantom", "--output", folder / "big", "--size", "512", "--slices", slices, "--spacing", "0.7,0.7,0.3",
                "--nodules", "0", "--seed", "3", "--modality", "mr")
        thread = threading.Thread(target=watch)
        thread.start()
        # An MR study: the CT model is not applicable, so what is measured is the streaming alone.
        analyze(server, folder / "big", arguments.model)
        done.set()
        thread.join()
        record["front_rss_mb"] = {"idle": idle[0] / 1e6, "streaming_peak": peak[0] / 1e6,
                                  "streaming_peak_anonymous": peak[1] / 1e6, "study_gb": slices * 512 * 512 * 2 / 1e9}
        server.stop()
    print(json.dumps(record, indent=2))
    if arguments.output:
        pathlib.Path(arguments.output).write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
