#!/usr/bin/env python3
"""A bundle's published pipeline, as MONAI carries it out on one study: what its memory is compared with.

usage: monai_side.py MODEL.ts SERIES_FOLDER LABELS.npy

MODEL.ts has the bundle's inference.json as an extra file. Writes the label map as [k, j, i] of the series' own grid.
"""
import json
import sys

import numpy
import torch
from monai.bundle import ConfigParser
from monai.data import decollate_batch, list_data_collate


def main():
    model, series, output = sys.argv[1:]
    extra = {"inference.json": ""}
    network = torch.jit.load(model, map_location="cpu", _extra_files=extra).eval()
    config = json.loads(extra["inference.json"])
    config.update(network=network, device="$torch.device('cpu')")
    parser = ConfigParser(config)
    preprocessing = parser.get_parsed_content("preprocessing")
    item = preprocessing({"image": series})
    batch = list_data_collate([item])
    with torch.no_grad():
        batch["pred"] = parser.get_parsed_content("inferer")(batch["image"], network)
    post = parser.get_parsed_content("postprocessing")
    answer = decollate_batch(batch)[0]
    for step in post.transforms:
        answer = step(answer)
    labels = answer["pred"].as_tensor().numpy()[0]  # [i, j, k] as ITK reads the series
    numpy.save(output, numpy.ascontiguousarray(labels.transpose(2, 1, 0)).astype(numpy.uint8))


if __name__ == "__main__":
    main()
