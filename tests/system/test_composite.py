"""Composites end to end: nnU-Net models become the parts of one, which answers as they do, painted one over the other."""
import json

import nibabel
import numpy
import pydicom
import pytest
from conftest import phantom, tomoctl
from tiny_network import write_network

# What is denser than a threshold in normalised values: class 1.
CODE = """class Dense(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  _is_full_backward_hook : NoneType
  def forward(self: __torch__.Dense,
    volume: Tensor) -> Tensor:
    dense = torch.to(torch.gt(volume, {above}), 6)
    return torch.cat([torch.full_like(dense, 0.5), dense], 1)
"""
# Names, threshold in HU, standard deviation that the values are divided by. A later one lies within those before it.
PARTS = (("body", -500, 100), ("soft tissue", 0, 250), ("bone", 200, 200))


def plans_of(name, deviation, spacing):
    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    return {
        "dataset_name": name, "plans_name": "nnUNetPlans", "image_reader_writer": "NibabelIOWithReorient",
        "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {"mean": 0.0, "std": float(deviation), "percentile_00_5": -1000.0, "percentile_99_5": 1500.0}},
        "configurations": {"3d_fullres": {
            "preprocessor_name": "DefaultPreprocessor", "batch_size": 2, "patch_size": [32, 32, 32],
            "spacing": [spacing, spacing, spacing], "normalization_schemes": ["CTNormalization"],
            "use_mask_for_norm": [False], "resampling_fn_data": "resample_data_or_seg_to_shape",
            "resampling_fn_data_kwargs": {**resampling, "order": 3},
            "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
            "resampling_fn_probabilities_kwargs": resampling, "architecture": {}}},
    }


def write_part(path, name, above_hu, deviation, spacing=4.0):
    """A TorchScript archive as tools/export_nnunet.py writes it, of a network without weights."""
    dataset = {"channel_names": {"0": "CT"}, "labels": {"background": 0, name: 1}}
    checkpoint = {"trainer_name": "nnUNetTrainer", "configuration": "3d_fullres", "fold": 0,
                  "inference_allowed_mirroring_axes": [0, 1, 2]}
    plans = plans_of(name.replace(" ", "_"), deviation, spacing)
    write_network(path, CODE.format(above=above_hu / deviation), "Dense",
                  {"plans.json": json.dumps(plans), "dataset.json": json.dumps(dataset),
                   "checkpoint.json": json.dumps(checkpoint)})
    return path


@pytest.fixture
def parts(tmp_path):
    return [write_part(tmp_path / f"{name.replace(' ', '_')}.ts", name, above, deviation)
            for name, above, deviation in PARTS]


def labels_of(server, folder, model, output):
    tomoctl("analyze", folder, "--model", model, "--output", output, "--save-labels", "--force", server=server)
    run = json.loads((output / "findings.json").read_text())["runs"][0]
    return run, numpy.asarray(nibabel.load(output / f"labels_{model}.nii.gz").dataobj)


def test_a_composite_answers_as_its_parts_painted_over_each_other(parts, server_factory, tmp_path):
    models = tmp_path / "models"
    done = tomoctl("model", "import", *parts, "--composite", "--name", "total", "--output", models, "--no-mirroring")
    assert done.stdout.strip() == str(models / "total" / "1")
    recipe = (models / "total" / "1" / "recipe.textproto").read_text()
    assert recipe.count("parts {") == 3 and recipe.count("value: ") >= 3
    for (name, _, _), part in zip(PARTS, parts):
        tomoctl("model", "import", part, "--name", name.replace(" ", "_"), "--output", models, "--no-mirroring")
    phantom(tmp_path / "ct", "--size", "96", "--slices", "60", "--spacing", "3,3,3", "--nodules", "0", "--seed", "4")
    server = server_factory(models=[models])
    run, labels = labels_of(server, tmp_path / "ct", "total", tmp_path / "total")
    expected = numpy.zeros_like(labels)
    for value, (name, _, _) in enumerate(PARTS, start=1):
        model = name.replace(" ", "_")
        _, alone = labels_of(server, tmp_path / "ct", model, tmp_path / model)
        expected[alone == 1] = value
    assert set(numpy.unique(expected)) == {0, 1, 2, 3}, "the phantom has something of everything"
    assert (labels == expected).all()
    assert {finding["label"] for finding in run["findings"]} == {name for name, _, _ in PARTS}

    study, = {str(pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID)
              for path in (tmp_path / "ct").glob("*.dcm")}
    plan = json.loads(tomoctl("plan", study, "--json", server=server).stdout)
    windows = {planned["model"]: int(planned["windows"]) for planned in plan["runs"]}
    assert windows["total"] == 3 * windows["body"] > 0, windows


def test_model_check_takes_a_composite(parts, tmp_path):
    models = tmp_path / "models"
    tomoctl("model", "import", *parts, "--composite", "--name", "total", "--output", models, "--no-mirroring")
    done = tomoctl("model", "check", models / "total" / "1", "--size", "40", "--spacing", "7", check=False)
    assert "part     body_3d_fullres: [N, 2, z=32, y=32, x=32], 1 file" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr


def test_parts_that_do_not_fit_together_are_refused_by_field_and_files(parts, tmp_path):
    write_part(parts[1], "soft tissue", 0, 250, spacing=3.0)
    done = tomoctl("model", "import", *parts, "--composite", "--name", "total", "--output", tmp_path / "models",
                   check=False)
    assert done.returncode == 1
    assert "IMPORT_MISMATCH soft_tissue.ts differs from body.ts in preparation.spacing.spacing_mm[0]" in done.stderr
