"""Instances that the helpers refuse: what the runs of their series say, through the real server."""
import pathlib

import pydicom
import pytest
from test_growing import Client, chest


@pytest.fixture
def client(server, stubs):
    return Client(server, stubs)


def cut(path, folder):
    """The file without its last bytes."""
    folder.mkdir(exist_ok=True)
    short = folder / pathlib.Path(path).name
    short.write_bytes(pathlib.Path(path).read_bytes()[:-100])
    return short


def test_a_cut_slice_at_an_end_of_the_stack_is_missed_until_it_comes_whole(client, tmp_path):
    files, uid, series = chest(tmp_path / "ct", 121)
    receipt = client.submit([*files[:-1], cut(files[-1], tmp_path / "cut")])
    (refused,) = receipt.refused
    last = pydicom.dcmread(files[-1], stop_before_pixels=True)
    assert refused.reason.code == "TRUNCATED"
    assert (refused.series_instance_uid, refused.sop_instance_uid, refused.modality) == (series, last.SOPInstanceUID, "CT")
    study = client.answered(uid)
    (run,) = study.runs
    assert [(notice.code, notice.value) for notice in study.notices] == [("INSTANCES_REFUSED", "1,TRUNCATED")]
    assert run.coverage.target == client.stubs.finding.COVERAGE_TARGET_PARTIAL
    assert [reason.value for reason in run.coverage.reasons if reason.code == "INSTANCES_REFUSED"] == ["1"]
    assert client.flag(run) == "INCONCLUSIVE", "a chest without nodules, of which a part is missing"

    client.submit(files[-1:])
    (whole,) = client.answered(uid).runs
    assert whole.provenance.generation == 2
    assert not [reason for reason in whole.coverage.reasons if reason.code == "INSTANCES_REFUSED"]


def test_a_file_that_says_nothing_of_itself_may_be_of_any_series(client, tmp_path):
    files, uid, series = chest(tmp_path / "ct", 122)
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no image\n" * 40)
    client.submit([*files, tmp_path / "empty.dcm", tmp_path / "notes.txt"])
    (run,) = client.answered(uid).runs
    assert {reason.code: reason.value for reason in run.coverage.reasons}["INSTANCES_REFUSED"] == "1", "the text is none"
    # Where the submitter says that the series is whole, nothing can be missing of it.
    client.submit(files, expected_series=[dict(series_instance_uid=series, instances=len(files))], force_rerun=True)
    (run,) = client.answered(uid).runs
    assert not [reason for reason in run.coverage.reasons if reason.code == "INSTANCES_REFUSED"]
