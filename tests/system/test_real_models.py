"""Two real trained networks on a real patient, against plain Python (shared data; skipped where it is absent)."""
import json
import os
import shutil

import nibabel
import numpy
import pydicom
import pytest
import scipy.ndimage
from conftest import Server, tomoctl


@pytest.fixture(scope="module")
def real_server(tmp_path_factory, shared_repository):
    made = Server(tmp_path_factory.mktemp("real"), [shared_repository]).start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def slab_server(tmp_path_factory, shared_repository):
    """One that has not seen the whole scan: a slab would be a part of that study."""
    made = Server(tmp_path_factory.mktemp("slab"), [shared_repository]).start()
    yield made
    made.stop()


def labels_kji(path):
    return numpy.asarray(nibabel.load(path).dataobj).transpose(2, 1, 0)


def test_lung_2d_on_the_real_chest_ct(real_server, test_data, shared_models, tmp_path):
    expected = json.loads((shared_models / "chest_ct_A0001" / "expected.json").read_text())["lung_2d"]
    archive = numpy.load(shared_models / "chest_ct_A0001" / "lung_2d.npz")
    truth = numpy.unpackbits(archive["lung"])[: numpy.prod(archive["shape"])].reshape(archive["shape"])
    tomoctl("analyze", test_data / "dicom" / "chest_ct_A0001", "--model", "lung_2d", "--output", tmp_path,
            "--save-labels", server=real_server, timeout=850)
    run = json.loads((tmp_path / "findings.json").read_text())["runs"][0]
    labels = labels_kji(tmp_path / "labels_lung_2d.nii.gz")
    # The Python run had 192 voxels within 1e-3 of the threshold. No probabilities were kept, so which ones these are is
    # not known: what can be said is that there are no more differences than such voxels, and the same volume.
    assert numpy.count_nonzero((labels > 0) != (truth > 0)) <= expected["voxels_within_1e-3_of_threshold"]
    assert abs(numpy.count_nonzero(labels) - expected["voxels"]) <= expected["voxels_within_1e-3_of_threshold"]
    (lung,) = run["findings"]
    assert lung["volumeMl"] == pytest.approx(expected["volume_ml"], abs=0.1)
    assert lung["centreLpsMm"] == pytest.approx(expected["centroid_lps_mm"], abs=0.05)


def slab(test_data, shared_models, folder):
    """Nine slices around the finder's largest component, and that component."""
    files = sorted((test_data / "dicom" / "chest_ct_A0001").glob("*.dcm"), key=z_mm)
    component = json.loads((shared_models / "chest_ct_A0001" / "expected.json").read_text())["nodule_finder_d8"][
        "components"][0]
    nearest = min(range(len(files)), key=lambda index: abs(z_mm(files[index]) - component["centroid_lps_mm"][2]))
    folder.mkdir()
    for path in files[max(0, nearest - 4): nearest + 5]:
        shutil.copy(path, folder / path.name)
    return folder, component


def z_mm(path):
    return float(pydicom.dcmread(path, stop_before_pixels=True).ImagePositionPatient[2])


def test_nodule_finder_on_a_few_slabs(slab_server, test_data, shared_models, tmp_path):
    """Its centre is where Python found it."""
    series, component = slab(test_data, shared_models, tmp_path / "slab")
    tomoctl("analyze", series, "--model", "nodule_finder_d8", "--output", tmp_path / "out", "--save-labels",
            server=slab_server, timeout=850)
    run = json.loads((tmp_path / "out" / "findings.json").read_text())["runs"][0]
    assert run["findings"], run
    distance = min(numpy.linalg.norm(numpy.array(finding["centreLpsMm"]) - component["centroid_lps_mm"])
                   for finding in run["findings"])
    # The cut volume's 2 mm grid starts elsewhere than the whole one's: a voxel's diagonal of difference is allowed.
    assert distance < 3.5


def analyze_cascade(server, series, folder):
    """Runs of the study by model, and their label maps [k][j][i]."""
    tomoctl("analyze", series, "--model", "nodule_finder_in_lung", "--model", "lung_2d", "--model", "nodule_finder_d8",
            "--output", folder, "--save-labels", server=server, timeout=3000)
    runs = {run["model"]: run for run in json.loads((folder / "findings.json").read_text())["runs"]}
    return runs, {name: labels_kji(folder / f"labels_{name}.nii.gz") for name in runs}


def components_inside(labels, region):
    """Of the 26-connected components of `labels` those that have a voxel in `region`."""
    parts, _ = scipy.ndimage.label(labels > 0, numpy.ones((3, 3, 3)))
    return numpy.isin(parts, numpy.setdiff1d(numpy.unique(parts[region > 0]), [0]))


def test_finder_in_lung_is_one_study_with_two_recipes(slab_server, test_data, shared_models, tmp_path):
    series, _ = slab(test_data, shared_models, tmp_path / "slab")
    tomoctl("analyze", series, "--model", "nodule_finder_in_lung", "--output", tmp_path / "alone", server=slab_server,
            timeout=850)
    alone = json.loads((tmp_path / "alone" / "findings.json").read_text())["runs"]
    assert sorted(run["model"] for run in alone) == ["lung_2d", "nodule_finder_in_lung"]
    runs, labels = analyze_cascade(slab_server, series, tmp_path / "out")
    inside = components_inside(labels["nodule_finder_d8"], labels["lung_2d"])
    assert numpy.array_equal(labels["nodule_finder_in_lung"] > 0, inside)
    assert runs["nodule_finder_in_lung"]["flag"]["state"] == ("FLAGGED" if inside.any() else "INCONCLUSIVE")


def nearest_on(image, probability, affine_ras):
    """Masks [k][j][i] of what a label map's voxels may be: where all 2 mm voxels that are nearest to a voxel's centre are
    over one half, and where any is. There are several where a slice lies halfway between two of them."""
    steps = numpy.linalg.inv(affine_ras) @ image.affine  # diagonal: both grids follow the patient's axes
    over = probability > 127
    masks = []
    for combine in (numpy.logical_and, numpy.logical_or):
        mask = over
        for axis, size in zip((2, 1, 0), image.shape):
            place = steps[2 - axis, 2 - axis] * numpy.arange(size) + steps[2 - axis, 3]
            most = over.shape[axis] - 1
            low = numpy.clip(numpy.ceil(place - 0.5 - 1e-4), 0, most).astype(int)
            high = numpy.clip(numpy.floor(place + 0.5 + 1e-4), 0, most).astype(int)
            mask = combine(mask.take(low, axis), mask.take(high, axis))
        masks.append(mask)
    return masks


@pytest.mark.skipif("TOMOSERVE_LONG_TESTS" not in os.environ, reason="ten minutes of network (TOMOSERVE_LONG_TESTS=1)")
def test_the_cascade_on_the_whole_scan(real_server, test_data, shared_models, tmp_path):
    """The finder's findings are Python's, its labels those carried over to the scan's slices; the cascade flags what lies
    inside the lungs."""
    expected = numpy.load(shared_models / "chest_ct_A0001" / "nodule_finder_d8.npz")
    runs, labels = analyze_cascade(real_server, test_data / "dicom" / "chest_ct_A0001", tmp_path)
    image = nibabel.load(tmp_path / "labels_nodule_finder_d8.nii.gz")
    every, some = nearest_on(image, expected["probability_u8"], expected["affine_ras"])
    finder = labels["nodule_finder_d8"] > 0
    assert every.any() and not (every & ~finder).any() and not (finder & ~some).any()
    # Slices are 5 mm apart: one of the four components on the 2 mm grid lies between two of them. None is lost.
    wanted = json.loads((shared_models / "chest_ct_A0001" / "expected.json").read_text())["nodule_finder_d8"]["components"]
    found = sorted(runs["nodule_finder_d8"]["findings"], key=lambda finding: -finding["voxels"])
    assert [finding["voxels"] for finding in found] == [component["voxels_2mm"] for component in wanted]
    for finding, component in zip(found, wanted):
        assert finding["centreLpsMm"] == pytest.approx(component["centroid_lps_mm"], abs=0.05)
        assert finding["score"] == pytest.approx(component["max_probability"], abs=1e-3)
        assert finding["volumeMl"] == pytest.approx(component["voxels_2mm"] * 0.008, abs=1e-6)
    inside = components_inside(labels["nodule_finder_d8"], labels["lung_2d"])
    assert numpy.array_equal(labels["nodule_finder_in_lung"] > 0, inside)
    assert inside.any()
    assert runs["nodule_finder_in_lung"]["flag"]["state"] == "FLAGGED"
