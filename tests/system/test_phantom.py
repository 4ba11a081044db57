"""tomoctl phantom writes DICOM that a strict validator takes."""
import shutil
import subprocess

import pytest
from conftest import phantom


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
