"""The straight path: a phantom goes in over gRPC, its nodules come out, in place, the same each time."""
import json
import math
import sys

import nibabel
import numpy
import pytest
from conftest import ROOT, phantom, tomoctl

sys.path.insert(0, str(ROOT / "tools"))
from findings_beside_truth import match  # noqa: E402


def analyze(server, folder, output, *arguments):
    tomoctl("analyze", folder, "--model", "nodule_blob", "--output", output, "--save-labels", *arguments, server=server)
    return json.loads((output / "findings.json").read_text())["runs"][0]


@pytest.mark.parametrize("orientation", ["LPS", "RAI", "LSP"])
def test_nodules_are_found_where_they_are(server, tmp_path, orientation):
    # The same patient sampled along other axes: places in patient space do not move.
    truth = phantom(tmp_path / "ct", "--size", "180", "--slices", "180" if orientation == "LSP" else "150", "--spacing",
                    "2.0,2.0,2.0", "--orientation", orientation, "--nodules", "3", "--seed", "5")
    run = analyze(server, tmp_path / "ct", tmp_path / "out")
    pairs, extra = match(run["findings"], truth["nodules"])
    assert all(finding is not None for _, finding in pairs), run["findings"]
    assert not extra, extra
    for nodule, finding in pairs:
        assert math.dist(nodule["centre_lps_mm"], finding["centreLpsMm"]) < 3.0
        assert finding["keySopInstanceUid"]
    assert run["flag"]["state"] == "FLAGGED"
    assert run["provenance"]["regulatoryStatus"] == "DEMONSTRATION"


def test_label_map_lies_on_the_findings(server, small_ct, tmp_path):
    folder, _ = small_ct
    run = analyze(server, folder, tmp_path / "out")
    image = nibabel.load(tmp_path / "out" / "labels_nodule_blob.nii.gz")
    labels = numpy.asarray(image.dataobj)
    assert labels.shape == (180, 180, 140)
    for finding in run["findings"]:
        left, posterior, superior = finding["centreLpsMm"]
        voxel = numpy.linalg.inv(image.affine) @ [-left, -posterior, superior, 1]  # NIfTI is RAS
        assert labels[tuple(numpy.rint(voxel[:3]).astype(int))] > 0
    volume_ml = numpy.count_nonzero(labels) * abs(numpy.linalg.det(image.affine[:3, :3])) / 1000
    assert volume_ml == pytest.approx(sum(finding["volumeMl"] for finding in run["findings"]), rel=0.02)


def test_same_input_gives_the_same_bytes(server, small_ct, tmp_path):
    folder, _ = small_ct
    runs = [analyze(server, folder, tmp_path / str(turn), "--force") for turn in range(2)]
    first, second = ((tmp_path / str(turn) / "labels_nodule_blob.nii.gz") for turn in range(2))
    assert numpy.array_equal(numpy.asarray(nibabel.load(first).dataobj), numpy.asarray(nibabel.load(second).dataobj))
    assert runs[0]["findings"] == runs[1]["findings"]
    assert runs[1]["provenance"]["generation"] == runs[0]["provenance"]["generation"] + 1


def test_second_submitter_gets_the_result_that_is_there(server, small_ct, tmp_path):
    folder, _ = small_ct
    first = analyze(server, folder, tmp_path / "first")
    second = analyze(server, folder, tmp_path / "second")
    assert first["findings"] == second["findings"]
    assert first["provenance"]["generation"] == second["provenance"]["generation"]


def test_missing_top_slices_never_give_no_finding(server, tmp_path):
    phantom(tmp_path / "ct", "--size", "180", "--slices", "140", "--spacing", "2.0,2.0,2.1", "--nodules", "0", "--seed", "2")
    whole = analyze(server, tmp_path / "ct", tmp_path / "whole")
    assert whole["flag"]["state"] == "NO_FINDING", whole
    assert whole["coverage"]["target"] == "COMPLETE"
    # Another study, since the server still has the slices of the first one. k ascends to the head (LPS).
    phantom(tmp_path / "top", "--size", "180", "--slices", "140", "--spacing", "2.0,2.0,2.1", "--nodules", "0", "--seed", "3")
    import pydicom
    files = sorted((tmp_path / "top").glob("*.dcm"),
                   key=lambda path: float(pydicom.dcmread(path, stop_before_pixels=True).ImagePositionPatient[2]))
    for path in files[-30:]:
        path.unlink()
    cut = analyze(server, tmp_path / "top", tmp_path / "cut")
    assert cut["flag"]["state"] == "INCONCLUSIVE", cut
    assert cut["coverage"]["target"] == "PARTIAL"


def test_mr_is_not_applicable_for_a_ct_model(server, tmp_path):
    phantom(tmp_path / "mr", "--modality", "mr", "--size", "64", "--slices", "20", "--spacing", "4,4,6")
    run = analyze(server, tmp_path / "mr", tmp_path / "out")
    assert run["flag"]["state"] == "NOT_APPLICABLE"
    assert [reason["code"] for reason in run["flag"]["reasons"]] == ["MODALITY"]


def test_worklist_and_verbs_answer(server, small_ct, tmp_path):
    folder, _ = small_ct
    analyze(server, folder, tmp_path / "out")
    flags = json.loads(tomoctl("flags", "--json", server=server).stdout)["flags"]
    uid = json.loads((tmp_path / "out" / "findings.json").read_text())["study"]["studyInstanceUid"]
    assert uid in {flag["study"]["studyInstanceUid"] for flag in flags}
    plan = json.loads(tomoctl("plan", uid, "--model", "nodule_blob", "--json", server=server).stdout)["runs"][0]
    assert plan["applicable"] and plan["windows"] > 0 and int(plan["predictedBytes"]) > 0
    assert "nodule_blob" in tomoctl("models", server=server).stdout
    assert "FLAGGED" in tomoctl("watch", uid, server=server).stdout
    assert tomoctl("flags", server=server).stdout.count("nodule_blob") >= 1
