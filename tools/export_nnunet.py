#!/usr/bin/env python3
"""Writes the folds of a trained nnU-Net v2 model as TorchScript files that `tomoctl model import` reads.

usage: tools/export_nnunet.py MODEL OUT [--folds 0,1,2,3,4] [--checkpoint checkpoint_final.pth]
                              [--postprocessing FILE]

MODEL  the folder of one trained configuration, nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION, with plans.json,
       dataset.json and fold_*/; OUT gets fold_<n>.ts for each fold (all that are there, or those named).

Each file is the network traced at the plans' patch size, deep supervision off, float32, with plans.json, dataset.json
and checkpoint.json (trainer, configuration, fold, mirroring axes) as extra files, and the postprocessing.json that
nnU-Net's find_best_configuration wrote where it is named: it keeps the largest components of labels. Then:

    tomoctl model import OUT/fold_*.ts --output MODELS

Needs nnunetv2 and torch (tools/export_nnunet.txt). Loading a checkpoint runs what is pickled in it: only your own.
"""
import argparse
import contextlib
import json
import pathlib
import sys

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

# Traced and eager networks compute the same; this is the rounding of another order of sums.
TOLERANCE = 1e-3


def folds_of(model: pathlib.Path, checkpoint: str) -> list[str]:
    folds = [path.name.removeprefix("fold_") for path in model.glob("fold_*") if (path / checkpoint).is_file()]
    # "all" was trained on everything: nnU-Net takes it only where it is asked for.
    return sorted(fold for fold in folds if fold != "all") or folds


def export(model: pathlib.Path, out: pathlib.Path, fold: str, checkpoint: str,
           postprocessing: str | None) -> pathlib.Path:
    with contextlib.redirect_stdout(sys.stderr):  # nnU-Net prints as it goes
        predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(model), use_folds=(fold,), checkpoint_name=checkpoint)
    configuration = torch.load(model / f"fold_{fold}" / checkpoint, map_location="cpu",
                               weights_only=False)["init_args"]["configuration"]
    plans = predictor.plans_manager.plans
    if predictor.configuration_manager.previous_stage_name is not None:
        raise SystemExit(f"{configuration} is the second stage of a cascade, which is not supported")

    network = predictor.network
    network.load_state_dict(predictor.list_of_parameters[0])
    network.eval().float()
    channels = predictor.dataset_json.get("modality") or predictor.dataset_json["channel_names"]
    example = torch.randn(1, len(channels), *predictor.configuration_manager.patch_size,
                          generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        traced = torch.jit.trace(network, example, check_trace=False)
        expected, found = network(example), traced(example)
    if not torch.is_tensor(found):
        raise SystemExit("the network gives more than one output: deep supervision is not off")
    difference = float((expected - found).abs().max())
    if not difference <= TOLERANCE:
        raise SystemExit(f"the traced network differs from the original by {difference}")

    axes = predictor.allowed_mirroring_axes
    about = {
        "trainer_name": predictor.trainer_name,
        "configuration": configuration,
        "inference_allowed_mirroring_axes": None if axes is None else list(axes),
        "fold": int(fold) if fold.isdigit() else fold,
    }
    path = out / f"fold_{fold}.ts"
    extra = {
        "plans.json": json.dumps(plans),
        "dataset.json": json.dumps(predictor.dataset_json),
        "checkpoint.json": json.dumps(about),
    }
    if postprocessing is not None:
        extra["postprocessing.json"] = postprocessing
    torch.jit.save(traced, str(path), _extra_files=extra)
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--folds", help="comma separated; default: all that are there")
    parser.add_argument("--checkpoint", default="checkpoint_final.pth")
    parser.add_argument("--postprocessing", type=pathlib.Path, help="postprocessing.json of the results folder")
    options = parser.parse_args()
    postprocessing = None
    if options.postprocessing:  # without the metrics beside these, which may be NaN: no JSON
        found = json.loads(options.postprocessing.read_text())
        postprocessing = json.dumps({key: found[key] for key in ("postprocessing_fns", "postprocessing_kwargs")})
    folds = options.folds.split(",") if options.folds else folds_of(options.model, options.checkpoint)
    if not folds:
        print(f"no fold_*/{options.checkpoint} in {options.model}", file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    for fold in folds:
        print(export(options.model, options.out, fold, options.checkpoint, postprocessing))
    for found in options.model.glob("crossval_results_folds_*/postprocessing.json") if postprocessing is None else ():
        print(f"there is a postprocessing, which is no part of the export without --postprocessing {found}",
              file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
