"""Two real trained networks on a real patient, against plain Python (shared data; skipped where it is absent)."""
import json
import os
import shutil
import sys

import numpy
import pydicom
import pytest
from conftest import ROOT, Server, tomoctl

sys.path.insert(0, str(ROOT / "tests" / "parity"))
from real_models import MODELS, SERIES, Reference, compare_all, compare_cascade, compare_lung, read  # noqa: E402


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


def test_lung_2d_on_the_real_chest_ct(real_server, test_data, shared_models, tmp_path):
    tomoctl("analyze", test_data / "dicom" / SERIES, "--model", "lung_2d", "--output", tmp_path, "--save-labels",
            server=real_server, timeout=850)
    runs, labels = read(tmp_path)
    compared = compare_lung(runs["lung_2d"], labels["lung_2d"], Reference(shared_models))
    assert compared.passed, compared


def slab(test_data, shared_models, folder):
    """Nine slices around the finder's largest component, and that component."""
    files = sorted((test_data / "dicom" / SERIES).glob("*.dcm"), key=z_mm)
    component = Reference(shared_models).components[0]
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
    chosen = [option for model in MODELS for option in ("--model", model)]
    tomoctl("analyze", series, *chosen, "--output", folder, "--save-labels", server=server, timeout=3000)
    return folder


def test_finder_in_lung_is_one_study_with_two_recipes(slab_server, test_data, shared_models, tmp_path):
    series, _ = slab(test_data, shared_models, tmp_path / "slab")
    tomoctl("analyze", series, "--model", "nodule_finder_in_lung", "--output", tmp_path / "alone", server=slab_server,
            timeout=850)
    alone = json.loads((tmp_path / "alone" / "findings.json").read_text())["runs"]
    assert sorted(run["model"] for run in alone) == ["lung_2d", "nodule_finder_in_lung"]
    compared = compare_cascade(*read(analyze_cascade(slab_server, series, tmp_path / "out")))
    assert compared.passed, compared


@pytest.mark.skipif("TOMOSERVE_LONG_TESTS" not in os.environ, reason="ten minutes of network (TOMOSERVE_LONG_TESTS=1)")
def test_the_cascade_on_the_whole_scan(real_server, test_data, shared_models, tmp_path):
    folder = analyze_cascade(real_server, test_data / "dicom" / SERIES, tmp_path / "out")
    rows = compare_all(folder, Reference(shared_models))
    assert len(rows) == 3 and all(compared.passed for _, compared, _ in rows), rows
    assert read(folder)[0]["nodule_finder_in_lung"]["flag"]["state"] == "FLAGGED"
