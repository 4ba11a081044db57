"""Every series of truth.json, as tomoctl inspect sees it, against what independent readers made of it."""
import itertools
import json
import os
import pathlib

import numpy
import pytest
from conftest import ROOT, tomoctl


def truth_names():
    """Names of the series; none, and so a skipped test each, where the data are absent."""
    path = pathlib.Path(os.environ.get("TOMOSERVE_TEST_DATA", ROOT.parent / "shared" / "data")) / "truth.json"
    return sorted(json.loads(path.read_text())) if path.exists() else []


def affine_lps(volume):
    """Voxel (i,j,k) to LPS mm, as inspect prints it."""
    affine = numpy.eye(4)
    for axis, name in enumerate("IJK"):
        affine[:3, axis] = numpy.array(volume[f"direction{name}"]) * volume["spacingMm"][axis]
    affine[:3, 3] = volume["originLpsMm"]
    return affine


def lies_on(volume, nifti_affine, tolerance_mm):
    """Whether the corners are those of a NIfTI grid (RAS) of the same size, some of whose axes may run backwards."""
    size = numpy.array(volume["sizeIjk"])
    corners = numpy.array([[*corner, 1] for corner in itertools.product(*((0, n - 1) for n in size))], float)
    ours = (affine_lps(volume) @ corners.T)[:3] * [[-1], [-1], [1]]
    for flips in itertools.product((False, True), repeat=3):
        theirs = corners.copy()
        for axis in numpy.flatnonzero(flips):
            theirs[:, axis] = size[axis] - 1 - theirs[:, axis]
        if numpy.abs((numpy.array(nifti_affine) @ theirs.T)[:3] - ours).max() <= tolerance_mm:
            return True
    return False


@pytest.fixture(scope="module")
def inspected(test_data):
    documents = {}

    def inspect(name):
        if name not in documents:
            documents[name] = json.loads(tomoctl("inspect", test_data / "dicom" / name, "--json").stdout)
        return documents[name]

    return inspect


@pytest.fixture(scope="module")
def truth(test_data):
    return json.loads((test_data / "truth.json").read_text())


def series_of(inspected, truth, name):
    """Pairs of what inspect says of a series and its truth."""
    document = inspected(name)
    by_uid = {series["seriesInstanceUid"]: series for series in document["series"]}
    pairs = []
    for expected in truth[name]["series"]:
        uid = expected["SeriesInstanceUID"]
        pairs.append((by_uid[uid] if uid != "EMPTY" else document["series"][0], expected))
    return pairs


def test_there_is_truth(truth):
    assert len(truth) >= 10


@pytest.mark.parametrize("name", truth_names())
def test_instances_and_frames(inspected, truth, name):
    for series, expected in series_of(inspected, truth, name):
        assert series["instances"] == expected["pydicom_gdcm"]["instances"]
        assert series["frames"] == expected["pydicom_gdcm"]["frames"]
        assert series["modality"] == expected["pydicom_gdcm"]["modality"]


@pytest.mark.parametrize("name", truth_names())
def test_size_spacing_origin_directions_and_voxels(inspected, truth, name):
    for series, expected in series_of(inspected, truth, name):
        reader = expected["pydicom_gdcm"]
        grid = reader.get("volume")
        if not grid:
            continue  # several volumes at each position: below
        (volume,) = series["volumes"]
        assert volume["verdict"] == ("ACCEPT" if grid["shear_deg"] < 0.5 else "RESAMPLE"), volume["reasons"]
        assert volume["sizeIjk"] == grid["size_ijk"]
        assert volume["spacingMm"] == pytest.approx(grid["spacing_ijk"], abs=1e-4)
        assert volume["originLpsMm"] == pytest.approx(grid["origin"], abs=1e-4)
        for axis in "ijk":
            assert volume[f"direction{axis.upper()}"] == pytest.approx(grid[f"dir_{axis}"], abs=1e-4)
        if grid["sha256_int16le"]:
            assert volume["voxelsSha256"] == grid["sha256_int16le"]
        statistics = reader["stats_all_frames"]
        assert volume["min"] == pytest.approx(statistics["min"], abs=1e-4)
        assert volume["max"] == pytest.approx(statistics["max"], abs=1e-4)
        assert volume["mean"] == pytest.approx(statistics["mean"], abs=1e-4)


@pytest.mark.parametrize("name", truth_names())
def test_volumes_of_time_echo_and_phase(inspected, truth, name):
    for series, expected in series_of(inspected, truth, name):
        niftis = [nifti for nifti in expected["dcm2niix"] if "Tilt" not in nifti["name"]]
        # dcm2niix has no grid of its own for a tilted stack.
        tilted = any(reason["code"] == "GANTRY_TILT" for volume in series["volumes"] for reason in volume["reasons"])
        wanted = [nifti for nifti in niftis for _ in range(nifti["shape"][3] if len(nifti["shape"]) > 3 else 1)]
        assert len(series["volumes"]) == len(wanted), [volume["reasons"] for volume in series["volumes"]]
        for volume in series["volumes"]:
            assert volume["verdict"] in ("ACCEPT", "RESAMPLE"), volume["reasons"]
            assert volume["sizeIjk"] == wanted[0]["shape"][:3]
            assert volume["spacingMm"] == pytest.approx(wanted[0]["zooms"][:3], abs=1e-4)
            assert tilted or lies_on(volume, wanted[0]["affine_RAS"], 2e-3)
        # Each file's values are those of one volume, or of all of them as time points.
        for nifti in niftis:
            if len(nifti["shape"]) > 3:
                assert matches(series["volumes"], nifti)
            else:
                assert sum(matches([volume], nifti) for volume in series["volumes"]) == 1, nifti["name"]


def matches(volumes, nifti):
    mean = sum(volume["mean"] for volume in volumes) / len(volumes)
    return (min(volume["min"] for volume in volumes) == pytest.approx(nifti["min"], abs=1e-3)
            and max(volume["max"] for volume in volumes) == pytest.approx(nifti["max"], abs=1e-3)
            and mean == pytest.approx(nifti["mean"], abs=1e-3))


def test_corrected_tilt_has_the_grid_of_the_other_tool(inspected, truth):
    ((series, expected),) = series_of(inspected, truth, "ct_gantry_tilt")
    (volume,) = series["volumes"]
    # Its pixels are noise.
    assert [(r["code"], r["value"]) for r in volume["reasons"]] == [("GANTRY_TILT", "14"), ("HU_IMPLAUSIBLE", "tissue 0")]
    corrected = next(nifti for nifti in expected["dcm2niix"] if "Tilt" in nifti["name"])
    assert volume["analysedGrid"]["sizeIjk"] == corrected["shape"]
    assert volume["analysedGrid"]["spacingMm"] == pytest.approx(corrected["zooms"], abs=1e-4)
    assert volume["analysedGrid"]["directionK"] == pytest.approx(volume["directionK"], abs=1e-9)


REFUSALS = {
    "enh_small/emri_small.dcm": "NO_FUNCTIONAL_GROUPS",
    "small_mr/MR_small.dcm": "TOO_FEW_SLICES",
}


@pytest.mark.parametrize("name", sorted(REFUSALS))
def test_what_is_no_volume_says_why(test_data, name):
    document = json.loads(tomoctl("inspect", test_data / "dicom" / name, "--json").stdout)
    ((volume,),) = [series["volumes"] for series in document["series"]]
    assert volume["verdict"] == "REJECT"
    assert REFUSALS[name] in {reason["code"] for reason in volume["reasons"]}
    assert volume["voxelsSha256"] is None
