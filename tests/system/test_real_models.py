"""Two real trained networks on a real patient, against plain Python (shared data; skipped where it is absent)."""
import json

import nibabel
import numpy
import pytest
from conftest import tomoctl


@pytest.fixture(scope="module")
def real_server(tmp_path_factory, shared_repository):
    from conftest import Server
    made = Server(tmp_path_factory.mktemp("real"), [shared_repository]).start()
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


def test_nodule_finder_on_a_few_slabs(real_server, test_data, shared_models, tmp_path):
    """Twelve slices around the largest component: its centre is where Python found it."""
    import pydicom
    folder = test_data / "dicom" / "chest_ct_A0001"
    files = sorted(folder.glob("*.dcm"), key=lambda path: float(
        pydicom.dcmread(path, stop_before_pixels=True).ImagePositionPatient[2]))
    z = [float(pydicom.dcmread(path, stop_before_pixels=True).ImagePositionPatient[2]) for path in files]
    component = json.loads((shared_models / "chest_ct_A0001" / "expected.json").read_text())["nodule_finder_d8"][
        "components"][0]
    centre = component["centroid_lps_mm"]
    nearest = min(range(len(z)), key=lambda index: abs(z[index] - centre[2]))
    series = tmp_path / "slab"
    series.mkdir()
    import shutil
    for path in files[max(0, nearest - 4): nearest + 5]:
        shutil.copy(path, series / path.name)
    tomoctl("analyze", series, "--model", "nodule_finder_d8", "--output", tmp_path / "out", "--save-labels",
            server=real_server, timeout=850)
    run = json.loads((tmp_path / "out" / "findings.json").read_text())["runs"][0]
    assert run["findings"], run
    distance = min(numpy.linalg.norm(numpy.array(finding["centreLpsMm"]) - centre) for finding in run["findings"])
    # The cut volume's 2 mm grid starts elsewhere than the whole one's: a voxel's diagonal of difference is allowed.
    assert distance < 3.5
