"""PlanStudy: a study of six series, each with the reason why it is the one or is not."""
import json
import pathlib
import re

import grpc
import pydicom
import pytest
from conftest import MODELS, phantom, tomoctl
from pydicom.uid import UID

MR_IMAGE = UID("1.2.840.10008.5.1.4.1.1.4")


def series(files, folder, number, spacing=None, keep=None, change=None):
    """A series made of phantom slices; `spacing` moves them, `keep` chooses, `change` edits each. Its UID."""
    for index, path in enumerate(files):
        if keep is not None and not keep(index):
            continue
        data = pydicom.dcmread(path)
        uid = data.StudyInstanceUID[:50] + f".{number}"
        data.SeriesInstanceUID = UID(uid)
        data.SeriesNumber = number
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = UID(f"{uid}.{index}")
        if spacing is not None:
            data.ImagePositionPatient = [*data.ImagePositionPatient[:2], index * spacing]
        if change is not None:
            change(data)
        data.save_as(folder / f"{number}_{index:03}.dcm")
    return uid


def localizer(data):
    data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def magnetic(data):
    data.Modality = "MR"
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = MR_IMAGE


@pytest.fixture(scope="module")
def six_series(tmp_path_factory):
    """(folder, Study UID, {Series UID: the reason that the plan must give, "" for the chosen one})."""
    folder = tmp_path_factory.mktemp("six")
    phantom(folder / "base", "--size", "64", "--slices", "20", "--spacing", "5,5,2.5", "--nodules", "1", "--seed", "9")
    files = sorted((folder / "base").glob("*.dcm"))
    study = folder / "study"
    study.mkdir()
    reasons = {
        series(files, study, 1, keep=lambda index: index < 2, change=localizer): "NO_VOLUME(LOCALIZER)",
        series(files, study, 2, spacing=8): "SLICE_SPACING(8)",
        series(files, study, 3, spacing=2.5): "",
        series(files, study, 4, spacing=4): "OUTRANKED(SLICE_SPACING)",
        series(files, study, 5, change=magnetic): "MODALITY(MR)",
        series(files, study, 6, spacing=2, keep=lambda index: index != 9): "MISSING_SLICES(1)",
    }
    return study, pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID, reasons


@pytest.fixture(scope="module")
def stored(server, stubs, six_series):
    """The study in the server; nothing has to be computed for a plan."""
    folder, uid, _ = six_series
    stub = stubs.study_service_grpc.StudyServiceStub(grpc.insecure_channel(server.address))
    request = stubs.study_service.SubmitStudyRequest
    files = sorted(pathlib.Path(folder).glob("*.dcm"))

    def parts():
        yield request(header=stubs.study.SubmissionHeader(completion=2, models=[dict(name="nodule_blob")]))
        for index, path in enumerate(files):
            data = path.read_bytes()
            yield request(instance=dict(instance_key=str(index), size_bytes=len(data)))
            yield request(chunk=dict(data=data))
        yield request(end=dict(instances=len(files)))

    assert list(stub.SubmitStudy(parts()))[-1].receipt.instances_accepted == len(files)
    return uid


def reasons_of(run):
    """{Series UID: "CODE(value)" of its only reason}, "" for the chosen one."""
    found = {}
    for use in run["series"]:
        assert len(use["reasons"]) == (0 if use["analysed"] else 1), use
        found[use["seriesInstanceUid"]] = "".join(f"{reason['code']}({reason['value']})" for reason in use["reasons"])
    return found


def test_every_series_has_its_exact_reason(server, stored, six_series):
    run, = json.loads(tomoctl("plan", stored, "--model", "nodule_blob", "--json", server=server).stdout)["runs"]
    assert reasons_of(run) == six_series[2]
    assert run["applicable"] and run["windows"] > 0
    assert int(run["predictedBytes"]) > 1e6 and run["predictedSeconds"] > 0
    assert [(use["modality"], use["instances"]) for use in run["series"]] == [
        ("CT", 2), ("CT", 20), ("CT", 20), ("CT", 20), ("MR", 20), ("CT", 19)]


def test_the_table_shows_the_same(server, stored, six_series):
    lines = tomoctl("plan", stored, "--model", "nodule_blob", server=server).stdout.splitlines()
    assert re.fullmatch(r"nodule_blob 1: would run; \d+ windows, about \d+\.\d s, \d+ MB", lines[0])
    head = next(index for index, line in enumerate(lines) if line.split() == ["series", "modality", "instances", "chosen", "why"])
    rows = {line.split()[0]: line.split() for line in lines[head + 1:]}
    assert set(rows) == set(six_series[2])
    for uid, reason in six_series[2].items():
        assert rows[uid][3] == ("no" if reason else "yes")
        if reason:
            assert rows[uid][4] == reason + ":"


def test_files_are_planned_without_a_server(six_series):
    folder, _, reasons = six_series
    done = tomoctl("plan", folder, "--models", MODELS, "--model", "nodule_blob", "--json")
    run, = json.loads(done.stdout)["runs"]
    assert reasons_of(run) == reasons
    assert run["windows"] > 0 and run["predictedSeconds"] > 0


def test_a_plan_that_cannot_be_made_says_why(server, six_series, tmp_path):
    unknown = tomoctl("plan", "1.2.3.4.5", server=server, check=False)
    assert unknown.returncode == 1 and "UNKNOWN_STUDY" in unknown.stderr
    model = tomoctl("plan", six_series[0], "--models", MODELS, "--model", "none", check=False)
    assert model.returncode == 1 and "UNKNOWN_MODEL" in model.stderr
    (tmp_path / "a.txt").write_text("hello")
    text = tomoctl("plan", tmp_path, "--models", MODELS, check=False)
    assert text.returncode == 1 and "NOT_ONE_STUDY" in text.stderr and "NOT_DICOM" in text.stderr
