"""tomoctl phantom writes DICOM that a strict validator takes."""
import json
import shutil
import subprocess

import pytest
from conftest import BIN, phantom


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed")
@pytest.mark.parametrize("modality", ["ct", "mr"])
@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big-endian", "rle", "jpeg-lossless", "jpeg-ls", "jpeg-2000"])
def test_phantom_passes_dciodvfy(tmp_path, modality, syntax):
    phantom(tmp_path, "--modality", modality, "--syntax", syntax, "--size", "64", "--slices", "4", "--spacing", "5,5,5",
            "--nodules", "0")
    for path in tmp_path.glob("*.dcm"):
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
        errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
        assert not errors, errors


def test_phantom_writes_arrays_and_truth_without_dicom(tmp_path):
    np = pytest.importorskip("numpy")
    image, labels = tmp_path / "image.npy", tmp_path / "labels.npy"
    phantom(tmp_path / "out", "--no-dicom", "--raw", str(image), "--raw-labels", str(labels), "--size", "100",
            "--slices", "70", "--spacing", "3,3,4", "--nodules", "3", "--nodule-size", "14,30", "--part-solid", "1",
            "--pleural", "1", "--lobulated", "1", "--look-alikes", "5", "--vary", "0.5", "--kernel", "sharp")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["truth.json"]
    truth = json.loads((tmp_path / "out" / "truth.json").read_text())
    assert truth["kernel"] == "sharp" and truth["vary"] == 0.5 and truth["look_alikes"]
    hu, nodules = np.load(image), np.load(labels)
    assert hu.shape == nodules.shape == (70, 100, 100)
    assert hu.dtype == np.int16 and nodules.dtype == np.uint8
    assert set(np.unique(nodules)) == {0, 1, 2, 3}
    for number, nodule in enumerate(truth["nodules"], 1):
        assert nodule["kind"] == "part-solid" and nodule["pleural"] and 14 <= nodule["diameter_mm"] <= 30
        centre = np.argwhere(nodules == number).mean(0)[::-1]
        assert np.linalg.norm((centre - nodule["centre_ijk"]) * truth["spacing_mm"]) < nodule["diameter_mm"] / 2


def test_phantom_names_the_option_that_is_impossible(tmp_path):
    done = subprocess.run([str(BIN / "tomoctl"), "phantom", "--output", str(tmp_path), "--nodule-size", "20,10"],
                          capture_output=True, text=True)
    assert done.returncode == 2
    assert "PHANTOM_OPTIONS(nodule_mm)" in done.stderr
