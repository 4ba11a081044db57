"""Runs on volumes that had to be corrected: a tilted gantry, a missing slice."""
import json
import math
import shutil
import sys

import nibabel
import numpy
import pytest
from conftest import MODELS, ROOT, Server, copy_series, phantom, tomoctl
from series_writer import Geometry, write_series

sys.path.insert(0, str(ROOT / "tools"))
from findings_beside_truth import match  # noqa: E402


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """nodule_blob as it is, and as nodule_blob_gaps, which may use two synthetic slices."""
    models = tmp_path_factory.mktemp("models")
    for name in ("nodule_blob", "nodule_blob_gaps"):
        shutil.copytree(MODELS / "nodule_blob", models / name)
    recipe = models / "nodule_blob_gaps" / "1" / "recipe.textproto"
    text = recipe.read_text()
    assert "inputs {" in text
    recipe.write_text(text.replace("inputs {", "inputs { max_synthetic_slices: 2", 1))
    made = Server(tmp_path_factory.mktemp("server"), [models]).start()
    yield made
    made.stop()


def analyze(server, folder, output, model):
    tomoctl("analyze", folder, "--model", model, "--output", output, "--save-labels", server=server)
    return json.loads((output / "findings.json").read_text())["runs"][0]


def check_found(run, nodules, needed, tolerance_mm):
    """Every needed nodule is found where it is, and nothing else but nodules."""
    pairs, extra = match(run["findings"], nodules)
    assert not extra, extra
    for nodule, finding in pairs:
        assert finding is not None or nodule not in needed, nodule
        assert finding is None or math.dist(nodule["centre_lps_mm"], finding["centreLpsMm"]) < tolerance_mm


def labels_lie_on(path, run):
    """Whether every finding's centre is labelled, by the NIfTI affine."""
    image = nibabel.load(path)
    labels = numpy.asarray(image.dataobj)
    for finding in run["findings"]:
        left, posterior, superior = finding["centreLpsMm"]
        voxel = numpy.linalg.inv(image.affine) @ [-left, -posterior, superior, 1]  # NIfTI is RAS
        assert labels[tuple(numpy.rint(voxel[:3]).astype(int))] > 0
    return labels.shape


def scanned_with_tilt(values, origin, spacing, tilt, slices):
    """Slices [k][j][i] of an axial volume whose planes lean by `tilt` towards the feet, and their geometry."""
    column = numpy.array([0, math.cos(tilt), -math.sin(tilt)])
    rows = values.shape[1]
    first = origin + numpy.array([0, 0, (rows - 1) * spacing[1] * math.sin(tilt)])
    geometry = Geometry(first, (1, 0, 0), column, (spacing[0], spacing[1]), (0, 0, spacing[2]))
    stack = []
    for k in range(slices):
        places = geometry.position(k) + numpy.arange(rows)[:, None] * spacing[1] * column
        y = (places[:, 1] - origin[1]) / spacing[1]
        z = (places[:, 2] - origin[2]) / spacing[2]
        low_y, low_z = numpy.floor(y + 1e-9).astype(int), numpy.floor(z + 1e-9).astype(int)
        part_y, part_z = (y - low_y)[:, None], (z - low_z)[:, None]
        high_y, high_z = (numpy.minimum(a + 1, n - 1) for a, n in ((low_y, rows), (low_z, len(values))))
        stack.append((values[low_z, low_y] * (1 - part_z) * (1 - part_y) + values[high_z, low_y] * part_z * (1 - part_y)
                      + values[low_z, high_y] * (1 - part_z) * part_y + values[high_z, high_y] * part_z * part_y))
    return numpy.rint(stack).astype(numpy.int16), geometry


def test_nodules_of_a_tilted_scan_are_found_where_they_are(server, tmp_path):
    raw = tmp_path / "raw.npy"
    truth = phantom(tmp_path / "straight", "--size", "180", "--slices", "160", "--spacing", "2.0,2.0,2.0", "--nodules",
                    "3", "--nodule-size", "12,20", "--seed", "5", "--raw", raw)
    grid = json.loads(tomoctl("inspect", tmp_path / "straight", "--json").stdout)["series"][0]["volumes"][0]
    tilt = math.radians(10)
    lost = math.ceil(179 * math.sin(tilt)) + 1
    slices, geometry = scanned_with_tilt(numpy.load(raw).astype(float), numpy.array(grid["originLpsMm"]), (2.0, 2.0, 2.0),
                                         tilt, 160 - lost)
    write_series(tmp_path / "tilted", slices, geometry)
    volume = json.loads(tomoctl("inspect", tmp_path / "tilted", "--json").stdout)["series"][0]["volumes"][0]
    assert [(r["code"], r["value"]) for r in volume["reasons"]] == [("GANTRY_TILT", "10")]
    run = analyze(server, tmp_path / "tilted", tmp_path / "out", "nodule_blob")
    # The planes leave out a wedge at the top and the bottom; what lies inside must be found.
    normal = numpy.array(volume["directionK"])
    depth = [numpy.dot(numpy.array(n["centre_lps_mm"]) - volume["originLpsMm"], normal) for n in truth["nodules"]]
    inside = [n for n, d in zip(truth["nodules"], depth) if 15 < d < len(slices) * volume["spacingMm"][2] - 15]
    assert len(inside) >= 2, depth
    check_found(run, truth["nodules"], inside, 3.0)
    assert run["flag"]["state"] == "FLAGGED"
    assert "GANTRY_TILT(10)" in run["findings"][0]["limitations"]
    shape = labels_lie_on(tmp_path / "out" / "labels_nodule_blob.nii.gz", run)
    assert shape == tuple(volume["analysedGrid"]["sizeIjk"])


def test_a_gap_is_interpolated_only_where_the_recipe_allows_it(server, small_ct, tmp_path):
    folder, truth = small_ct
    copy_series(folder, tmp_path / "ct", keep=lambda index: index not in (40, 90))
    refused = analyze(server, tmp_path / "ct", tmp_path / "refused", "nodule_blob")
    assert refused["flag"]["state"] == "INCONCLUSIVE"
    assert [(r["code"], r["value"]) for r in refused["flag"]["reasons"]] == [("MISSING_SLICES", "2")]
    run = analyze(server, tmp_path / "ct", tmp_path / "out", "nodule_blob_gaps")
    assert run["coverage"]["syntheticSlices"] == 2
    check_found(run, truth["nodules"], truth["nodules"], 3.0)
    assert "MISSING_SLICES(2)" in run["findings"][0]["limitations"]
    assert labels_lie_on(tmp_path / "out" / "labels_nodule_blob_gaps.nii.gz", run) == (180, 180, 140)


def test_a_ct_that_cannot_be_in_hounsfield_units_is_never_clean(server, tmp_path):
    raw = tmp_path / "raw.npy"
    phantom(tmp_path / "ct", "--size", "90", "--slices", "60", "--spacing", "4.0,4.0,5.0", "--nodules", "0", "--seed", "2",
            "--raw", raw)
    # Stored values taken as they are: no rescale.
    stored = numpy.clip(numpy.load(raw).astype(int) + 1024, 0, 4095).astype(numpy.uint16)
    write_series(tmp_path / "raw", stored, Geometry((0, 0, 0), spacing_ij=(4.0, 4.0), step=(0, 0, 5.0)))
    volume = json.loads(tomoctl("inspect", tmp_path / "raw", "--json").stdout)["series"][0]["volumes"][0]
    assert "HU_IMPLAUSIBLE" in [reason["code"] for reason in volume["reasons"]]
    run = analyze(server, tmp_path / "raw", tmp_path / "out", "nodule_blob")
    assert run["flag"]["state"] != "NO_FINDING"
    assert run["coverage"]["target"] == "UNKNOWN"
    assert "HU_IMPLAUSIBLE" in [reason["code"] for reason in run["coverage"]["reasons"]]
