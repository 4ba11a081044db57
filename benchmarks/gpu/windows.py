"""Window times of the standard networks: eager PyTorch, TorchScript and ours, in turns."""
import json
import math
import selectors
import statistics
import subprocess
import time

import host
import statistics_of

VARIANTS = ("eager", "scripted", "ours")
ROUNDS = 5
# What matters most first: time may run out; and predictions for the others come from what is measured first.
FULL = "nnunet,unet_spleen,segresnet_105,retinanet"
QUICK = "nnunet=64x64x64,unet_spleen"
# A window that is predicted to take longer on this device is not measured (the server would not serve it either).
LONGEST_WINDOW_S = 30
# What outputs of ours may differ, in standard deviations of what they are compared with. Float32: other algorithms of
# the same convolutions, no other numbers. Half precision: numbers of 11 bits between the layers, summed in float32; on a
# CPU, rounding weights and every layer's input and output so moves the four networks' outputs by 0.002 to 0.008.
FP32_DIFFERENCE, FP16_DIFFERENCE = 1e-2, 5e-2
TOLERANCES = {"fp32": {"against": "eager PyTorch in float32 on the device, or scripted where eager was not measured",
                       "largest_difference": FP32_DIFFERENCE},
              "fp16": {"against": "ours in float32 on the device, or PyTorch where ours was not measured",
                       "largest_difference": FP16_DIFFERENCE}}
# Answers that are no fault of ours: the network is too large for the device, or the time was up.
EXCUSES = ("OUT_OF_MEMORY", "TIMEOUT")
NO_TIME = {"not_measured": "no time was left", "cut": True}


class Child:
    """A process that answers JSON lines."""

    def __init__(self, command, environment, log):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                        env=environment, bufsize=0)
        self.buffer = b""

    def ask(self, request, timeout_s):
        """The answer, or {"error": ...} when the process ended or took too long (it is ended then)."""
        if self.process.poll() is not None:
            return {"error": {"code": "ENDED", "value": str(self.process.returncode), "text": "the process is gone"}}
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            return {"error": {"code": "ENDED", "value": str(self.process.wait()), "text": "the process is gone"}}
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self.buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self.end()
                    return {"error": {"code": "TIMEOUT", "value": f"{timeout_s:.0f} s", "text": "no answer in time"}}
                part = self.process.stdout.read(1 << 16)
                if not part:
                    return {"error": {"code": "ENDED", "value": str(self.process.wait()),
                                      "text": "the process ended without an answer"}}
                self.buffer += part
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def end(self):
        self.process.kill()
        self.process.wait()


class Rivals:
    """One process per variant, for all networks; one that died is started again for the next network."""

    def __init__(self, device, python, models, log):
        self.device, self.python, self.models, self.log = device, python, models, log
        self.children = {}

    def child(self, variant):
        child = self.children.get(variant)
        if child is None or child.process.poll() is not None:
            if variant == "ours":
                command = [str(host.PACK / "bin" / "tomoserve-window-bench"), "--device", self.device]
                environment = host.program_environment()
            else:
                command = [self.python, "-B", str(host.PACK / "benchmarks" / "gpu" / "window_torch.py"), "--variant",
                           variant, "--device", self.device]
                environment = None
            child = self.children[variant] = Child(command, environment, self.log)
        return child

    def load(self, variant, network, precision, window, timeout_s):
        if variant == "ours":
            request = {"models": str(self.models), "name": f"{network}_{precision}"}
        else:
            request = {"models": str(self.models), "network": network, "precision": precision, "window": list(window)}
        return self.child(variant).ask({"load": request}, timeout_s)

    def run(self, variant, batch, passes, timeout_s):
        return self.child(variant).ask({"run": {"batch": batch, "passes": passes}}, timeout_s)

    def end(self):
        for child in self.children.values():
            child.end()


def not_measured(answer):
    """What an entry says instead of numbers; "failed" where it should have worked."""
    error = answer["error"]
    made = {"not_measured": ": ".join(part for part in (error["code"], error["value"], error["text"]) if part)}
    if error["code"] == "TIMEOUT":
        made["cut"] = True
    if error["code"] not in EXCUSES:
        made["failed"] = True
    return made


def difference(sample, reference):
    """Largest difference of two samples of outputs, in standard deviations of the reference; None where
    one holds a value that is not finite."""
    if any(value is None or not math.isfinite(value) for value in (*sample, *reference)):
        return None
    spread = statistics.pstdev(reference) or 1.0
    return max(abs(a - b) for a, b in zip(sample, reference)) / spread


def compare(item, samples, reference):
    """Writes into an item how the variants' outputs differ, and whether ours is within its tolerance. `samples` by
    variant; `reference`: samples by variant of the same network in float32. Half precision that has nothing to be
    compared with is not within it; float32 says so, for what it would be compared with did not fit or ran out of
    time."""
    for variant, sample in samples.items():
        if "eager" in reference:
            item["variants"][variant]["difference_from_eager_fp32"] = difference(sample, reference["eager"])
    if "ours" not in samples:
        return
    ours = item["variants"]["ours"]
    wanted = ("ours", "eager", "scripted") if item["precision"] == "fp16" else ("eager", "scripted")
    against = next((variant for variant in wanted if variant in reference), None)
    if against is None and item["precision"] == "fp32":
        ours["not_compared"] = "neither eager nor scripted gave an output"
        return
    found = None
    if against is not None:
        found = ours[f"difference_from_{against}_fp32"] = difference(samples["ours"], reference[against])
    ours["tolerance"] = TOLERANCES[item["precision"]]["largest_difference"]
    ours["within_tolerance"] = found is not None and found <= ours["tolerance"]


def agree(items, device):
    """Whether every output of ours that could be compared is within its tolerance, at least one could in each precision
    that the device has, and nothing of ours failed for another reason than memory or time."""
    ours = [(item["precision"], item["variants"]["ours"]) for item in items if item["kind"] == "window"]
    measured = [(precision, entry) for precision, entry in ours if "median" in entry and "not_compared" not in entry]
    wanted = {"fp32"} if device == "cpu" else {"fp32", "fp16"}
    return {precision for precision, _ in measured} >= wanted \
        and all(entry.get("within_tolerance", False) for _, entry in measured) \
        and not any("failed" in entry for _, entry in ours)


def measure(rivals, alive, batch, budget_s, deadline):
    """Rounds of passes, the variants in turns: {variant: [[ms of a round], ...]}, and for each variant what else is to
    be said. A variant that fails leaves the turn, with its reason; when the time is up the whole rounds count."""
    said = {variant: {} for variant in alive}
    passes = {}
    for variant in list(alive):
        answer = rivals.run(variant, batch, 2, host.left(deadline))
        if "error" in answer:
            said[variant] = not_measured(answer)
            alive.remove(variant)
            continue
        said[variant] = {"first_ms": answer["ms"][0], "peak_bytes": answer["peak_bytes"], "sample": answer["sample"]}
        share_ms = budget_s * 1e3 / ROUNDS / len(VARIANTS)
        passes[variant] = max(1, min(100, round(share_ms / answer["ms"][1])))
    times = {variant: [] for variant in alive}
    for turn in range(ROUNDS):
        for variant in alive[turn % len(alive):] + alive[:turn % len(alive)] if alive else []:
            answer = rivals.run(variant, batch, passes[variant], host.left(deadline))
            if "error" in answer:
                what = not_measured(answer)
                if "cut" in what:
                    break
                said[variant] = what
                alive.remove(variant)
                times.pop(variant)
                continue
            times[variant].append(answer["ms"])
            said[variant]["peak_bytes"] = max(said[variant]["peak_bytes"], answer["peak_bytes"])
        if host.left(deadline) == 0:
            break
    whole = min((len(values) for values in times.values()), default=0)
    return {variant: values[:whole] for variant, values in times.items()}, said


def unmeasured(base, batch, reason):
    """An item of which nothing was measured."""
    return {**base, "batch": batch, "variants": {variant: dict(reason) for variant in VARIANTS}}


def measure_network(rivals, base, batches, budget_s, deadline, reference):
    """Yields one item per batch. `base`: what the items have in common; `reference`: outputs of this network in float32
    by variant, filled here."""
    loads = {}
    for variant in VARIANTS:
        answer = rivals.load(variant, base["network"], base["precision"], base["window"], host.left(deadline))
        loads[variant] = not_measured(answer) if "error" in answer else {
            key: answer[key] for key in ("load_ms", "warm_up_ms")}
    for batch in batches:
        if host.left(deadline) == 0:
            yield unmeasured(base, batch, NO_TIME)
            continue
        alive = [variant for variant in VARIANTS if "not_measured" not in loads[variant]]
        times, said = measure(rivals, alive, batch, budget_s, deadline)
        samples = {variant: entry.pop("sample") for variant, entry in said.items() if "sample" in entry}
        if batch == 1 and base["precision"] == "fp32":
            reference.update(samples)
        item = {**base, "batch": batch, "unit": "ms per pass", "variants": {}}
        for variant in VARIANTS:
            entry = item["variants"][variant] = {**loads[variant], **said.get(variant, {})}
            if times.get(variant):
                entry.update(statistics_of.rounds(times[variant]))
                if len(times[variant]) < ROUNDS:
                    entry.update(cut=True, rounds_left_out=ROUNDS - len(times[variant]))
            elif "not_measured" not in entry:
                entry.update(NO_TIME)
        compare(item, samples, reference)
        if times.get("ours"):
            item["ours_over"] = {variant: statistics_of.ratio(times["ours"], times[variant])
                                 for variant in ("eager", "scripted") if times.get(variant)}
        yield item


def plan(networks, device):
    """[(name, precision, batches)]: batches only where they pay, on a GPU in half precision."""
    made = []
    for name, network in networks.items():
        made.append((name, "fp32", [1]))
        if device != "cpu":
            made.append((name, "fp16", network["batches"]))
    return made


def export(python, quick, models, log, deadline):
    """Writes the networks into `models`; {name: {"window", "gflop", "batches"}}."""
    exporter = str(host.PACK / "tools" / "export_standard_networks.py")
    done = subprocess.run([python, "-B", exporter, str(models), "--json", "--networks", QUICK if quick else FULL],
                          check=True, stdout=subprocess.PIPE, stderr=log, timeout=host.left(deadline))
    return json.loads(done.stdout)


def run(device, python, quick, models, log, deadline, add):
    """Exports the networks into `models`, measures them and calls `add` with each item as it is there."""
    networks = export(python, quick, models, log, deadline)
    rivals = Rivals(device, python, models, log)
    references, gflop_per_s = {}, {}
    try:
        for name, precision, batches in plan(networks, device):
            gflop = networks[name]["gflop"]
            base = {"kind": "window", "network": name, "window": networks[name]["window"], "precision": precision,
                    "gflop_per_window": round(gflop, 1)}
            predicted_s = gflop / gflop_per_s[precision] if precision in gflop_per_s else 0
            left_s = host.left(deadline)
            reason = None
            if predicted_s > LONGEST_WINDOW_S:
                reason = {"not_measured": f"a window is predicted to take {predicted_s:.0f} s on this device"}
            # Each variant warms up (three passes and more) and runs at least two rounds.
            elif predicted_s * len(VARIANTS) * 6 > left_s or left_s == 0:
                reason = NO_TIME
            if reason:
                for batch in batches:
                    add(unmeasured(base, batch, reason))
                continue
            reference = references.setdefault(name, {})
            for item in measure_network(rivals, base, batches, 6 if device == "cpu" else 4, deadline, reference):
                add(item)
                eager = item["variants"]["eager"]
                if item["batch"] == 1 and "median" in eager:
                    gflop_per_s[precision] = max(gflop_per_s.get(precision, 0), gflop / eager["median"] * 1e3)
    finally:
        rivals.end()
