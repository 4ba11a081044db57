#!/usr/bin/env python3
"""A TorchScript file with a bundle's configuration and as many classes, and seeded weights of a few small layers.

usage: make_model.py BUNDLE_FOLDER MODEL.ts

The network costs next to nothing, so what a program holds beside the forward pass is what is seen.
"""
import json
import pathlib
import sys

import torch


class FewLayers(torch.nn.Module):
    """Two convolutions on a blurred image: many classes win somewhere, in regions, not in single voxels."""

    def __init__(self, classes):
        super().__init__()
        self.blur = torch.nn.AvgPool3d(9, stride=1, padding=4)
        self.first = torch.nn.Conv3d(1, 16, 3, padding=1)
        self.second = torch.nn.Conv3d(16, classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.second(torch.sin(4.0 * self.first(self.blur(image))))


def main():
    bundle, output = pathlib.Path(sys.argv[1]), sys.argv[2]
    inference = json.loads((bundle / "configs" / "inference.json").read_text())
    classes = inference["network_def"]["out_channels"]
    # The saved picture is not part of the comparison.
    inference["postprocessing"]["transforms"] = [
        step for step in inference["postprocessing"]["transforms"] if step["_target_"] != "SaveImaged"]
    torch.manual_seed(105)
    traced = torch.jit.script(FewLayers(classes).eval())
    torch.jit.save(traced, output, _extra_files={
        "inference.json": json.dumps(inference), "metadata.json": (bundle / "configs" / "metadata.json").read_text()})


if __name__ == "__main__":
    main()
