"""examples/python/submit.py, as an integrator runs it, against a real server."""
import gzip
import json
import math
import re
import signal
import subprocess
import sys
import time

import nibabel
import numpy
import pytest
from conftest import ROOT, copy_series, free_port, phantom, tomoctl

sys.path.insert(0, str(ROOT / "tools"))
from findings_beside_truth import match  # noqa: E402

SUBMIT = ROOT / "examples" / "python" / "submit.py"


@pytest.fixture
def submit(example_python):
    """Runs submit.py to its end."""
    python, environment = example_python

    def run(folder, *arguments, address="127.0.0.1:1"):
        command = [str(python), str(SUBMIT), str(folder), "--server", address, *(str(each) for each in arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)

    return run


def read_nrrd(path):
    """(voxels [i, j, k], affine of LPS mm) of a NRRD file, by its header alone."""
    header, data = path.read_bytes().split(b"\n\n", 1)
    fields = dict(line.split(": ", 1) for line in header.decode().splitlines()[1:])
    assert fields["space"] == "left-posterior-superior" and fields["encoding"] == "gzip"
    sizes = [int(size) for size in fields["sizes"].split()]
    voxels = numpy.frombuffer(gzip.decompress(data), {"uint8": "u1", "uint16": "<u2"}[fields["type"]])
    affine = numpy.eye(4)
    for axis, vector in enumerate(re.findall(r"\(([^)]*)\)", fields["space directions"])):
        affine[:3, axis] = [float(number) for number in vector.split(",")]
    affine[:3, 3] = [float(number) for number in fields["space origin"].strip("()").split(",")]
    return voxels.reshape(sizes, order="F"), affine


def test_the_example_is_short_enough_to_read():
    assert len(SUBMIT.read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", ["README.md", "docs/API.md"])
def test_the_ten_lines_of_client_run_as_printed(server_factory, small_ct, example_python, page):
    server = server_factory(models=[ROOT / "models"])  # the pages name the demo's model
    python, environment = example_python
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S)
    (block,) = [block for block in blocks if "AnalyzeStudy(" in block]
    if "import grpc" not in block:
        imports = re.search(r"^import grpc.*?\n\n", (ROOT / "docs/API.md").read_text(), re.S | re.M).group(0)
        block = imports + block
    assert "127.0.0.1:8400" in block and '"ct"' in block
    block = block.replace("127.0.0.1:8400", server.address).replace('"ct"', repr(str(small_ct[0])))
    done = subprocess.run([str(python), "-c", block], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "receipt {" in done.stdout and "state: SUMMARY_STATE_FINAL" in done.stdout


def test_nodules_are_printed_where_they_are(server, small_ct, submit):
    folder, truth = small_ct
    done = submit(folder, "--model", "nodule_blob", address=server.address)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^nodule_blob 1: FLAGGED [A-Z]+$", done.stdout, re.M), done.stdout
    places = [tuple(float(number) for number in row)
              for row in re.findall(r"nodule +[\d.]+ +(-?[\d.]+), (-?[\d.]+), (-?[\d.]+)", done.stdout)]
    assert len(places) == len(truth["nodules"])
    for nodule in truth["nodules"]:
        assert min(math.dist(nodule["centre_lps_mm"], place) for place in places) < 3.0
    assert "acknowledged: 140 instances" in done.stderr


def test_the_same_again_is_the_same_submission(server, small_ct, submit):
    folder, _ = small_ct
    first, second = (json.loads(submit(folder, "--model", "nodule_blob", "--json", address=server.address).stdout)
                     for _ in range(2))
    assert first["receipt"]["submissionId"] == second["receipt"]["submissionId"]
    assert first["runs"] == second["runs"]
    other = json.loads(submit(folder, "--model", "nodule_blob", "--priority", "stat", "--json",
                              address=server.address).stdout)
    assert other["receipt"]["submissionId"] != first["receipt"]["submissionId"]
    assert other["receipt"]["instancesDuplicate"] == 140
    assert other["runs"][0]["runId"] == first["runs"][0]["runId"], "an equal run was computed twice"


def test_no_value_of_the_patient_is_printed(server, tmp_path, submit):
    import pydicom
    phantom(tmp_path / "ct", "--size", "64", "--slices", "20", "--spacing", "5,5,6", "--seed", "51")
    for path in (tmp_path / "ct").glob("*.dcm"):
        data = pydicom.dcmread(path)
        data.PatientName, data.PatientID, data.AccessionNumber = "Quixote^Alonso", "QX-4711", "ACC-0815"
        data.save_as(tmp_path / "ct" / f"quixote_{path.name}")
        path.unlink()
    (tmp_path / "ct" / "quixote.txt").write_text("Quixote")
    for output in ([], ["--json"]):
        done = submit(tmp_path / "ct", "--model", "nodule_blob", *output, address=server.address)
        assert done.returncode == 0, done.stderr
        assert not re.search("quixote|QX-4711|ACC-0815", done.stdout + done.stderr, re.I)
        assert "refused NOT_DICOM: 1" in done.stderr


def test_label_map_is_the_one_that_tomoctl_writes(server, small_ct, submit, tmp_path):
    folder, _ = small_ct
    done = submit(folder, "--model", "nodule_blob", "--labels", tmp_path / "labels", address=server.address)
    assert done.returncode == 0, done.stderr
    voxels, affine = read_nrrd(tmp_path / "labels" / "labels_nodule_blob.nrrd")
    tomoctl("analyze", folder, "--model", "nodule_blob", "--output", tmp_path / "out", "--save-labels", server=server)
    image = nibabel.load(tmp_path / "out" / "labels_nodule_blob.nii.gz")
    assert voxels.any()
    assert numpy.array_equal(voxels, numpy.asarray(image.dataobj))
    assert numpy.allclose(numpy.diag([-1, -1, 1, 1]) @ affine, image.affine)  # NIfTI is RAS


def test_an_answer_that_is_no_finding_is_said(server, submit, tmp_path):
    phantom(tmp_path / "mr", "--modality", "mr", "--size", "64", "--slices", "20", "--spacing", "4,4,6")
    done = submit(tmp_path / "mr", "--model", "nodule_blob", address=server.address)
    assert done.returncode == 0, done.stderr
    assert "nodule_blob 1: NOT_APPLICABLE [MODALITY(MR)]" in done.stdout


def test_exit_codes_are_those_of_tomoctl(server, submit, small_ct, tmp_path):
    folder, _ = small_ct
    unreachable = submit(folder, "--patience", "1")
    assert unreachable.returncode == 3 and "no server answers" in unreachable.stderr
    (tmp_path / "text").mkdir()
    for index in range(3):
        (tmp_path / "text" / f"{index}.txt").write_text("hello\n" * 100)
    refused = submit(tmp_path / "text", address=server.address)
    assert refused.returncode == 4 and "refused NOT_DICOM: 3" in refused.stderr, refused.stderr
    unknown = submit(folder, "--model", "no_such_model", address=server.address)
    assert unknown.returncode == 1 and "UNKNOWN_MODEL" in unknown.stderr
    (tmp_path / "empty").mkdir()
    assert submit(tmp_path / "empty", address=server.address).returncode == 2
    assert submit(tmp_path / "absent", address=server.address).returncode == 2
    assert submit(folder, "--priority", "soon", address=server.address).returncode == 2


def test_a_refused_file_is_named_by_code_and_number(server, small_ct, submit, tmp_path):
    folder, _ = small_ct
    copy_series(folder, tmp_path / "ct")
    victim = sorted((tmp_path / "ct").glob("*.dcm"))[40]
    victim.write_bytes(victim.read_bytes()[:9000])
    done = submit(tmp_path / "ct", "--model", "nodule_blob", address=server.address)
    assert done.returncode == 0 and "refused TRUNCATED: 1 (files 40)" in done.stderr, done.stderr


def spooled(server):
    return sum(path.stat().st_size for path in server.data.rglob("*") if path.is_file() and "spool" in str(path))


def test_a_server_killed_in_mid_upload_gets_the_rest_after_its_restart(server_factory, example_python, tmp_path):
    phantom(tmp_path / "ct", "--size", "512", "--slices", "80", "--spacing", "0.7,0.7,3.5", "--nodules", "1", "--seed",
            "9")
    total = sum(path.stat().st_size for path in (tmp_path / "ct").glob("*.dcm"))
    server = server_factory(listen_port=free_port())
    python, environment = example_python
    client = subprocess.Popen([str(python), str(SUBMIT), str(tmp_path / "ct"), "--server", server.address, "--json"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        deadline = time.monotonic() + 60
        while spooled(server) < total // 8:
            assert time.monotonic() < deadline and client.poll() is None
            time.sleep(0.001)
        client.send_signal(signal.SIGSTOP)  # the rest stays unsent, however fast the machine is
        server.kill()
        assert spooled(server) < total
        server.start()
        client.send_signal(signal.SIGCONT)
        out, error = client.communicate(timeout=120)
    finally:
        client.kill()
    assert client.returncode == 0, error
    held = int(re.search(r"the server holds (\d+) of 80 instances", error).group(1))
    assert 0 < held < 80
    receipt = json.loads(out)["receipt"]
    assert receipt["instancesAccepted"] == 80 and receipt["instancesRefused"] == 0
    server.stop()


def test_a_server_killed_while_the_runs_are_open_is_waited_for(server_factory, small_ct, example_python):
    folder, truth = small_ct
    server = server_factory(listen_port=free_port())
    python, environment = example_python
    command = [str(python), str(SUBMIT), str(folder), "--server", server.address, "--json", "--model", "nodule_blob"]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        lines = []
        while not any("running" in line for line in lines):
            lines.append(client.stderr.readline())
            assert lines[-1], lines
        server.kill()
        server.start()
        out, error = client.communicate(timeout=240)
    finally:
        client.kill()
    assert client.returncode == 0, error
    assert "trying again" in error
    (run,) = json.loads(out)["runs"]
    findings = [{"centreLpsMm": [found["centreLps"][axis] for axis in ("xMm", "yMm", "zMm")],
                 "longestDiameterMm": found["longestDiameter3dMm"]["value"], **found} for found in run["findings"]]
    pairs, extra = match(findings, truth["nodules"])
    assert all(finding for _, finding in pairs) and not extra
    server.stop()
