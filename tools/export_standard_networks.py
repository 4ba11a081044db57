#!/usr/bin/env python3
"""Writes a model repository with four standard networks of seeded random weights, for measuring time and memory.

usage: tools/export_standard_networks.py OUT [--networks NAME[=XxYxZ],...] [--json]

OUT/<network>_<precision>/1/{model.ts, recipe.textproto, card.md}, precision fp32 and fp16, with the window given or the
network's usual one; the networks: tools/standard_networks.py. Prints the GFLOP of a window as PyTorch counts them beside
the published configuration's; --json: as one document. Needs torch (tools/requirements-export.txt).
"""
import argparse
import json
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import standard_networks as standard  # noqa: E402

CARD = """# {name}

Random weights (seed 20260): measures time and memory of the architecture, finds nothing. Written by
tools/export_standard_networks.py. {gflop:.1f} GFLOP per window of {window}.
"""

RECIPE = """# Random weights: written by tools/export_standard_networks.py to measure time and memory.
title: "{name} with random weights"
card {{
  intended_use: "Measures time and memory of the architecture. Its answers mean nothing."
  regulatory_status: REGULATORY_STATUS_DEMONSTRATION
  author: "Tomoserve contributors"
  license: "Apache-2.0"
  source: "Seeded random weights; no training, no data."
}}
inputs {{ name: "ct" modalities: "CT" when_missing: WHEN_MISSING_WARN }}
preparation {{
  orientation: "RAS"
  intensity {{ scale_range {{ from_min: -1000 from_max: 400 to_min: 0 to_max: 1 clip: true }} }}
}}
windows {{
  layout: WINDOW_LAYOUT_MONAI
  size: [{window}]
  overlap: 0.5
  blend: BLEND_GAUSSIAN
}}
network {{
  files: "model.ts"
  spatial_dims: 3
  axes: TENSOR_AXES_XYZ
  input_channels: 1
  output_channels: {classes}
  precision: {precision}
}}
{decode}
{labels}
findings {{ label: 1 }}
flags {{ label: 1 level: FLAG_LEVEL_INFO }}
coverage {{ not_needed {{ because: "no clinical question is asked" }} }}
"""

ARG_MAX = """decode { activation: ACTIVATION_SOFTMAX }
decode { arg_max {} }
decode { to_volume_grid { interpolation: INTERPOLATION_NEAREST } }"""
THRESHOLD = """decode { activation: ACTIVATION_SIGMOID }
decode { threshold { above: 0.5 } }
decode { to_volume_grid { interpolation: INTERPOLATION_NEAREST } }"""
LABEL = """labels {{
  value: {value}
  name: "class {value}"
  type {{ value: "class{value}" scheme: "99TOMOSERVE" meaning: "Class {value} of a network with random weights" }}
  category {{ value: "49755003" scheme: "SCT" meaning: "Morphologically Abnormal Structure" }}
}}"""
PRECISIONS = {"fp32": "PRECISION_FLOAT32", "fp16": "PRECISION_FLOAT16"}


def recipe(name, window, precision):
    classes = standard.NETWORKS[name].classes
    labels = [LABEL.format(value=value) for value in range(1, max(classes, 2))]
    return RECIPE.format(name=name, window=", ".join(map(str, window)), classes=classes, precision=PRECISIONS[precision],
                         decode=ARG_MAX if classes > 1 else THRESHOLD, labels="\n".join(labels))


def export(out, name, window):
    """Writes one network in both precisions; returns the GFLOP of its window."""
    import torch
    gflop = standard.count_gflop(name, window)
    script = torch.jit.script(standard.build(name))
    first = None
    for precision in PRECISIONS:
        folder = pathlib.Path(out) / f"{name}_{precision}" / "1"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recipe.textproto").write_text(recipe(name, window, precision))
        (folder / "card.md").write_text(CARD.format(name=name, gflop=gflop, window="x".join(map(str, window))))
        network = folder / "model.ts"
        network.unlink(missing_ok=True)
        if first is None:
            script.save(str(network))
            first = network
        else:
            os.link(first, network)
    return gflop


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--networks", default=",".join(standard.NETWORKS))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    document = {}
    for text in arguments.networks.split(","):
        name, _, size = text.partition("=")
        if name not in standard.NETWORKS:
            parser.error(f"no network {name!r}; there are {', '.join(standard.NETWORKS)}")
        network = standard.NETWORKS[name]
        window = tuple(map(int, size.split("x"))) if size else network.window
        if len(window) != 3:
            parser.error(f"{text}: three sizes")
        gflop = export(arguments.out, name, window)
        document[name] = {"window": window, "gflop": gflop, "batches": network.batches}
        if not arguments.json:
            line = f"{name:14} {'x'.join(map(str, window)):12} {gflop:9.1f} GFLOP"
            if window == network.window:
                line += f", published configuration {network.gflop:.1f}: {gflop / network.gflop - 1:+.1%}"
            print(line, flush=True)
    if arguments.json:
        print(json.dumps(document))


if __name__ == "__main__":
    main()
