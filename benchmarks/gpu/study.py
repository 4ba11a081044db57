"""A whole study through the real server: DICOM in, findings out, stage by stage, on the device and on the CPU."""
import gzip
import json
import math
import pathlib
import selectors
import signal
import struct
import subprocess
import time

import host
import statistics_of

MODELS = ("lung_nodule_phantom", "nodule_blob")
# What a GPU's findings may differ from the CPU's: other sums of the same numbers, and half precision by recipe.
CENTRE_MM, DIAMETER_MM, VOLUME_PART, SCORE, DICE = 1.0, 1.0, 0.05, 0.01, 0.999
STOP_S = 25  # it drains for 20
REFERENCE_SHARE = 0.3  # of the time, for the same studies on the CPU: without them nothing says that a GPU is right


class Failed(Exception):
    """The server or its client did not do what was asked; the text says what."""


class TooLate(Failed):
    """There was no time for it."""


def not_measured(failed):
    """What an item says instead of numbers."""
    return {"not_measured": str(failed), **({"cut": True} if isinstance(failed, TooLate) else {})}


class Server:
    """tomoserve on loopback with its own data folder; stopped at the end of `with`. Comes up before the deadline or not
    at all."""

    def __init__(self, folder, models, device, deadline):
        self.folder, self.models, self.device, self.deadline = pathlib.Path(folder), models, device, deadline

    def __enter__(self):
        self.folder.mkdir(parents=True)
        begin = time.monotonic()
        with open(self.folder / "server.log", "wb") as log:
            self.process = subprocess.Popen(
                [str(host.PACK / "bin" / "tomoserve"), "--listen", "127.0.0.1:0", "--data", str(self.folder / "data"),
                 "--models", str(self.models), "--devices", self.device], stdout=subprocess.PIPE, stderr=log,
                env=host.program_environment(), text=True)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self.process.stdout, selectors.EVENT_READ)
                in_time = bool(selector.select(host.left(self.deadline)))
            line = self.process.stdout.readline() if in_time else ""
            if not line.startswith("ready "):
                end = (self.folder / "server.log").read_text(errors="replace").strip().splitlines()[-3:]
                raise (Failed if in_time else TooLate)(
                    f"the server did not become ready on {self.device}: {' | '.join(end)[-600:]}")
        except BaseException as error:
            self.__exit__(type(error))
            raise
        self.start_s = time.monotonic() - begin
        self.address = f"127.0.0.1:{line.split()[1]}"
        return self

    def __exit__(self, error=None, *_):
        try:
            if self.process.poll() is None and error is not host.TimeUp:
                self.process.send_signal(signal.SIGTERM)
                self.process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # Its children see its end, and end.
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.process.stdout.close()

    def analyze(self, study, model, output, deadline, labels=False):
        """(seconds from the client's start to its end, findings.json's run). `labels`: with the label map, whose
        compression for the file takes the client time of its own."""
        begin = time.monotonic()
        tomoctl(["--server", self.address, "analyze", study, "--model", model, "--force", "--output", output,
                 *(["--save-labels"] if labels else [])], deadline)
        seconds = time.monotonic() - begin
        (run,) = json.loads((pathlib.Path(output) / "findings.json").read_text())["runs"]
        if run["state"] != "DONE":
            raise Failed(f"the run is {run['state']}: {run['failure']}")
        if run["provenance"]["deviceKind"].startswith("cpu") != self.device.startswith("cpu"):
            raise Failed(f"the run was to be on {self.device} and was on {run['provenance']['deviceKind']}")
        return seconds, run


def tomoctl(arguments, deadline):
    what = " ".join(map(str, ("tomoctl", *arguments[:4])))
    try:
        done = subprocess.run([str(host.PACK / "bin" / "tomoctl"), *map(str, arguments)], capture_output=True, text=True,
                              env=host.program_environment(), timeout=host.left(deadline))
    except subprocess.TimeoutExpired as error:
        raise TooLate(f"{what} was stopped after {error.timeout:.0f} s, when its time was up") from error
    if done.returncode != 0:
        raise Failed(f"{what}: exit code {done.returncode}: {done.stderr[-400:]}")


def labels_of(folder, model):
    """Voxels of the label map, as bytes, one per voxel."""
    data = gzip.decompress((pathlib.Path(folder) / f"labels_{model}.nii.gz").read_bytes())
    (offset,), (bits,) = struct.unpack_from("<f", data, 108), struct.unpack_from("<h", data, 72)
    if bits != 8:
        raise Failed(f"the label map of {model} has {bits} bits a voxel")
    return data[int(offset):]


def dice(a, b):
    """Of what is not background; 1 where both are empty."""
    marked = len(a) - a.count(0) + len(b) - b.count(0)
    if marked == 0:
        return 1.0
    # As numbers of many bytes: a byte of the difference is 0 where the voxels are equal, one of the union where both
    # are background.
    a_number, b_number = int.from_bytes(a, "little"), int.from_bytes(b, "little")
    equal = (a_number ^ b_number).to_bytes(len(a), "little").count(0)
    background = (a_number | b_number).to_bytes(len(a), "little").count(0)
    return 2 * (equal - background) / marked


def compare(run, reference):
    """How the findings of `run` differ from `reference`, each matched to the nearest one that is left."""
    left = list(reference["findings"])
    worst = {"centre_mm": 0.0, "diameter_mm": 0.0, "volume_part": 0.0, "score": 0.0}
    for finding in run["findings"]:
        if not left:
            break
        nearest = min(left, key=lambda other: math.dist(other["centreLpsMm"], finding["centreLpsMm"]))
        left.remove(nearest)
        for name, value in (
                ("centre_mm", math.dist(nearest["centreLpsMm"], finding["centreLpsMm"])),
                ("diameter_mm", abs(nearest["longestDiameterMm"] - finding["longestDiameterMm"])),
                ("volume_part", abs(nearest["volumeMl"] - finding["volumeMl"]) / max(nearest["volumeMl"], 1e-9)),
                ("score", abs(nearest["score"] - finding["score"]))):
            worst[name] = max(worst[name], value)
    counts = (len(run["findings"]), len(reference["findings"]))
    equal = (counts[0] == counts[1] and run["flag"]["state"] == reference["flag"]["state"]
             and run["flag"]["level"] == reference["flag"]["level"]
             and worst["centre_mm"] <= CENTRE_MM and worst["diameter_mm"] <= DIAMETER_MM
             and worst["volume_part"] <= VOLUME_PART and worst["score"] <= SCORE)
    return {"equal_within_tolerance": equal, "findings": counts[0], "findings_reference": counts[1],
            "largest_differences": worst}


def stages(times, runs):
    """Summaries in seconds: the whole, each stage, and all but the forward pass."""
    names = list(runs[0]["timingsMs"])
    made = {name: statistics_of.summary([run["timingsMs"].get(name, 0) / 1e3 for run in runs]) for name in names}
    made["total"] = statistics_of.summary(times)
    made["all_but_forward"] = statistics_of.summary(
        [seconds - run["timingsMs"].get("forward", 0) / 1e3 for seconds, run in zip(times, runs)])
    return made


def run_model(server, study, model, repeat, folder, deadline):
    """(what was measured, the last run)."""
    times, runs = [], []
    output = folder / f"{model}_device"
    for index in range(repeat + 1):
        seconds, run = server.analyze(study, model, output, deadline)
        times.append(seconds)
        runs.append(run)
        # The next one must fit too; the first is not counted among them.
        if index >= 1 and time.monotonic() + 2 * max(times) > deadline:
            break
    if len(times) < 2:
        raise TooLate("no time for a second run")
    if server.device != "cpu":
        server.analyze(study, model, output, deadline, labels=True)
    return {"model": model, "cold_s": times[0], "planned_runs": repeat, "warm_s": stages(times[1:], runs[1:]),
            "p99_s": statistics_of.quantile(times[1:], 0.99),
            "provenance": {key: runs[0]["provenance"][key]
                           for key in ("build", "deviceKind", "precision", "driverVersion", "cudnnVersion")},
            "findings": len(runs[0]["findings"]),
            "findings_same_in_all_runs": all(bare(run) == bare(runs[0]) for run in runs)}, runs[-1]


def bare(run):
    """What must be the same each time."""
    return [{key: value for key, value in finding.items() if key != "trackingUid"} for finding in run["findings"]]


def run(device, folder, quick, models, deadline, add):
    """Adds an item per model; True when all agreed."""
    present = [model for model in MODELS if (models / model).is_dir()]
    if not present:
        raise Failed(f"none of the models is there: {', '.join(MODELS)}")
    size = ("256", "120", "1.4,1.4,2.5") if quick else ("512", "300", "0.7,0.7,1.25")
    study = folder / "ct"
    tomoctl(["phantom", "--output", study, "--size", size[0], "--slices", size[1], "--spacing", size[2], "--seed", "9"],
            deadline)
    repeat = 3 if quick else 20 if device != "cpu" else 5
    good, answers = True, {}
    device_end = deadline if device == "cpu" else deadline - REFERENCE_SHARE * host.left(deadline)
    with Server(folder / "device", models, device, device_end) as server:
        for index, model in enumerate(present):
            share = time.monotonic() + host.left(device_end) / (len(present) - index)
            item = {"kind": "study", "device": device, "study": f"{size[0]}x{size[0]}x{size[1]}", "model": model,
                    "server_start_s": server.start_s}
            try:
                measured, answers[model] = run_model(server, study, model, repeat, folder, share)
                item.update(measured)
                good = good and item["findings_same_in_all_runs"]
            except Failed as failed:
                item.update(not_measured(failed))
                good = False
            add(item)
    if device == "cpu":
        return good
    with Server(folder / "reference", models, "cpu", deadline) as server:
        for model, answer in answers.items():
            item = {"kind": "study_against_cpu", "device": device, "model": model}
            try:
                seconds, reference = server.analyze(study, model, folder / f"{model}_cpu", deadline, labels=True)
                item.update(compare(answer, reference), cpu_total_s=seconds)
                item["dice"] = dice(labels_of(folder / f"{model}_device", model),
                                    labels_of(folder / f"{model}_cpu", model))
                good = good and item["equal_within_tolerance"] and item["dice"] >= DICE
            except Failed as failed:
                item.update(not_measured(failed))
                good = False
            add(item)
    return good
