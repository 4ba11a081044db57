#!/usr/bin/env python3
"""Times passes of a standard network in PyTorch itself: the rivals of tomoserve-window-bench, with the same protocol.

usage: benchmarks/gpu/window_torch.py --variant eager|scripted [--device cpu|cuda:N]

Reads one JSON request a line and answers each with one line:
  {"load": {"models": FOLDER, "network": NAME, "precision": "fp32"|"fp16", "window": [x, y, z]}}
                                                 -> {"load_ms", "warm_up_ms"}
  {"run": {"batch": N, "passes": N}}             -> {"ms": [...], "peak_bytes", "sample": [...]}
  {"clear": {}}                                  -> {}: the network and the cached memory are given up

eager     the torch.nn module; fp16 is autocast, as MONAI's bundles run it
scripted  the repository's TorchScript file, frozen; fp16 is the module in half precision
Both: inference mode, float32 in and out, TF32 off, cudnn.benchmark off, on the CPU one thread: the same arithmetic as
the engine's. The input is that of tomoserve-window-bench, and as there, on a GPU each run begins with a pass that is not
counted and ends by giving cached memory back.
"""
import argparse
import json
import pathlib
import re
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import torch  # noqa: E402

import standard_networks as standard  # noqa: E402

SEED = 1
SAMPLES = 256
WARM_PASSES = 3  # the profiling executor of TorchScript compiles during the first passes


class Bench:
    def __init__(self, variant, device):
        self.variant = variant
        self.device = torch.device(device)
        self.forward = None
        self.window = None

    def clear(self, _request):
        self.forward = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return {}

    def load(self, request):
        self.clear({})
        half = request["precision"] == "fp16"
        begin = time.monotonic()
        if self.variant == "eager":
            network = standard.build(request["network"]).to(self.device)

            def forward(x):
                with torch.autocast(self.device.type, torch.float16, enabled=half):
                    return network(x).float()
        else:
            path = pathlib.Path(request["models"]) / f"{request['network']}_{request['precision']}" / "1" / "model.ts"
            network = torch.jit.load(str(path), map_location=self.device).eval()
            network = torch.jit.freeze(network.half() if half else network)

            def forward(x):
                return network(x.half() if half else x).float()
        self.window = request["window"]
        self.forward = forward
        loaded = time.monotonic()
        self.run({"batch": 1, "passes": WARM_PASSES if self.device.type == "cuda" else 1})
        return {"load_ms": (loaded - begin) * 1e3, "warm_up_ms": (time.monotonic() - loaded) * 1e3}

    def synchronise(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def reset_peak(self):
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            pathlib.Path("/proc/self/clear_refs").write_text("5")

    def peak_bytes(self):
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())[1]) * 1024

    def run(self, request):
        generator = torch.Generator().manual_seed(SEED)
        with torch.inference_mode():
            x = torch.rand(request["batch"], 1, *self.window, generator=generator).to(self.device)
            if self.device.type == "cuda":
                self.forward(x)
            self.synchronise()
            self.reset_peak()
            times, sample = [], None
            for _ in range(request["passes"]):
                begin = time.monotonic()
                output = self.forward(x)
                self.synchronise()
                times.append((time.monotonic() - begin) * 1e3)
                if sample is None:
                    first = output[0].flatten()
                    sample = [first[first.numel() * i // SAMPLES].item() for i in range(SAMPLES)]
                del output
            answer = {"ms": times, "peak_bytes": self.peak_bytes(), "sample": sample}
            del x
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return answer

    def answer(self, line):
        try:
            (verb, request), = json.loads(line).items()
            return {"load": self.load, "run": self.run, "clear": self.clear}[verb](request)
        except torch.OutOfMemoryError as error:
            self.clear({})
            return {"error": {"code": "OUT_OF_MEMORY", "value": "", "text": str(error).splitlines()[0]}}
        except Exception as error:  # noqa: BLE001: the answer carries it
            return {"error": {"code": type(error).__name__, "value": "", "text": str(error)[:300]}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=["eager", "scripted"], required=True)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    bench = Bench(arguments.variant, arguments.device)
    for line in sys.stdin:
        print(json.dumps(bench.answer(line)), flush=True)


if __name__ == "__main__":
    main()
