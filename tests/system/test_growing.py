"""Studies that come in parts, late, twice or from long ago, through the real server."""
import json
import pathlib
import shutil
import time

import grpc
import pydicom
import pytest
from conftest import MODELS, phantom, tomoctl
from pydicom.uid import UID

FINAL, MORE_EXPECTED, SETTLE = 1, 2, 3


class Client:
    """The calls that these tests make, on one server."""

    def __init__(self, server, stubs):
        self.stubs = stubs
        channel = grpc.insecure_channel(server.address)
        self.studies = stubs.study_service_grpc.StudyServiceStub(channel)
        self.worklist = stubs.worklist_service_grpc.WorklistServiceStub(channel)

    def submit(self, files, models=("nodule_blob",), **header):
        request = self.stubs.study_service.SubmitStudyRequest

        def parts():
            yield request(header=self.stubs.study.SubmissionHeader(models=[dict(name=name) for name in models], **header))
            for index, path in enumerate(files):
                data = pathlib.Path(path).read_bytes()
                yield request(instance=dict(instance_key=str(index), size_bytes=len(data)))
                for start in range(0, len(data), 1 << 20):
                    yield request(chunk=dict(data=data[start:start + (1 << 20)]))
            yield request(end=dict(instances=len(files)))

        return list(self.studies.SubmitStudy(parts()))[-1].receipt

    def study(self, uid):
        return self.studies.GetStudy(self.stubs.study_service.GetStudyRequest(study_instance_uid=uid)).study

    def answered(self, uid):
        """The study once all its runs are final."""
        watch = self.stubs.study_service.WatchStudyRequest(study_instance_uid=uid)
        return list(self.studies.WatchStudy(watch, timeout=300))[-1].study

    def changes(self, uid):
        """The change feed of a study, as (kind, run id)."""
        names = self.stubs.worklist_service.ChangeKind.Name
        listed = self.worklist.ListFlagChanges(self.stubs.worklist_service.ListFlagChangesRequest(limit=1000))
        return [(names(change.kind).removeprefix("CHANGE_KIND_"), change.flag.run_id) for change in listed.changes
                if change.flag.study.study_instance_uid == uid]

    def flag(self, run):
        return self.stubs.finding.FlagState.Name(run.flag.state).removeprefix("FLAG_STATE_")

    def state(self, study):
        return self.stubs.study.StudyState.Name(study.state).removeprefix("STUDY_STATE_")


@pytest.fixture
def client(server, stubs):
    return Client(server, stubs)


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def chest(folder, seed, slices=24, date=None):
    """A chest CT of its own study that is quick to analyse: (files from feet to head, Study UID, Series UID)."""
    phantom(folder, "--size", "64", "--slices", str(slices), "--spacing", "5,5,5", "--nodules", "0", "--seed", str(seed),
            *(["--date", date] if date else []))
    files = sorted(pathlib.Path(folder).glob("*.dcm"))
    header = pydicom.dcmread(files[0], stop_before_pixels=True)
    return files, header.StudyInstanceUID, header.SeriesInstanceUID


def other_series(files, folder, modality="MR"):
    """The same slices as another series of the study."""
    folder.mkdir()
    made = []
    for index, path in enumerate(files):
        data = pydicom.dcmread(path)
        data.Modality = modality
        data.SeriesInstanceUID = UID(data.StudyInstanceUID[:50] + ".77")
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = UID(data.StudyInstanceUID[:50] + f".77.{index}")
        made.append(folder / path.name)
        data.save_as(made[-1])
    return made


def test_late_instances_make_one_new_generation_and_supersede_the_flag(client, tmp_path):
    files, uid, _ = chest(tmp_path / "ct", 101)
    (first,) = client.submit(files[:20]).run_ids
    assert client.answered(uid).runs[0].provenance.generation == 1
    (second,) = client.submit(files[20:]).run_ids
    study = client.answered(uid)
    (run,) = study.runs
    assert (run.run_id, run.provenance.generation, client.state(study)) == (second, 2, "COMPLETE")
    assert client.changes(uid) == [("CREATED", first), ("CREATED", second), ("SUPERSEDED", first)]
    # All of it again: nothing new.
    assert client.submit(files).run_ids == [second]
    assert len(client.changes(uid)) == 3


def test_late_instances_of_an_unrelated_series_make_no_generation(client, tmp_path):
    files, uid, _ = chest(tmp_path / "ct", 102)
    (first,) = client.submit(files).run_ids
    before = client.answered(uid).runs[0]
    late = client.submit(other_series(files[:5], tmp_path / "mr"))
    assert late.instances_accepted == 5
    study = client.answered(uid)
    assert study.instances == len(files) + 5
    (run,) = study.runs
    assert run.run_id == first and run.provenance == before.provenance
    # The study has another modality now; the flag is the same.
    assert client.changes(uid) == [("CREATED", first), ("UPDATED", first)]


def test_late_instances_reopen_a_study_until_it_has_settled(client, tmp_path):
    files, uid, _ = chest(tmp_path / "ct", 103)
    client.submit(files[:16], completion=SETTLE, settle_seconds=5)
    assert client.state(client.study(uid)) == "SETTLING"
    assert client.answered(uid).runs[0].provenance.generation == 1
    assert client.state(client.study(uid)) == "COMPLETE"
    for start in (16, 18, 20, 22):  # each within the time of the one before
        client.submit(files[start:start + 2], completion=SETTLE, settle_seconds=5)
        assert client.state(client.study(uid)) == "REOPENED"
    study = client.answered(uid)
    assert (client.state(study), study.instances) == ("COMPLETE", 24)
    assert study.runs[0].provenance.generation == 2, "one new generation for the four parts"


def test_a_series_that_is_whole_by_its_expectation_starts_before_its_study_is(client, server, tmp_path):
    files, uid, series = chest(tmp_path / "ct", 104)
    expected = [dict(series_instance_uid=series, instances=len(files))]
    (run_id,) = client.submit(files[:20], completion=MORE_EXPECTED, expected_series=expected).run_ids
    time.sleep(1)
    assert client.study(uid).runs[0].state == 1, "QUEUED"
    client.submit(files[20:], completion=MORE_EXPECTED, expected_series=expected)
    study = client.answered(uid)
    assert (study.runs[0].run_id, client.state(study)) == (run_id, "RECEIVING")
    tomoctl("close", uid, server=server)
    assert client.state(client.study(uid)) == "COMPLETE"
    assert client.answered(uid).runs[0].run_id == run_id, "closing changes no input"


def test_an_expectation_that_is_not_met_is_said(client, tmp_path):
    files, uid, series = chest(tmp_path / "ct", 105)
    client.submit(files, expected_series=[dict(series_instance_uid=series, instances=len(files) + 3)])
    (run,) = client.answered(uid).runs
    assert client.flag(run) != "NO_FINDING"
    assert run.coverage.target == client.stubs.finding.COVERAGE_TARGET_PARTIAL
    reasons = {reason.code: reason.value for reason in run.coverage.reasons}
    assert reasons["EXPECTED_INSTANCES_MISSING"] == "3"


def test_a_fourth_generation_within_an_hour_is_held_until_it_is_asked_for(client, server, tmp_path):
    files, uid, _ = chest(tmp_path / "ct", 106, slices=28)
    client.submit(files[:16])
    client.answered(uid)
    for start in (16, 20):
        client.submit(files[start:start + 4])
        assert client.answered(uid).runs[0].state == 3, "DONE"
    (held,) = client.submit(files[24:]).run_ids
    assert wait_for(lambda: [notice.code for notice in client.study(uid).notices] == ["GENERATIONS_HELD"])
    assert "generation_held" in server.text()
    time.sleep(1)
    (run,) = client.study(uid).runs
    assert (run.run_id, run.state) == (held, 1), "QUEUED"
    assert tomoctl("rerun", uid, server=server).stdout.split() == [held]
    study = client.answered(uid)
    assert (study.runs[0].state, study.runs[0].provenance.generation) == (3, 4)
    assert not study.notices


def test_a_conflict_after_completion_is_refused_and_noted(client, tmp_path):
    files, uid, _ = chest(tmp_path / "ct", 107)
    client.submit(files)
    before = client.answered(uid)
    (tmp_path / "other").mkdir()
    data = pydicom.dcmread(files[3])
    data.RescaleIntercept = "-1000"
    data.save_as(tmp_path / "other" / files[3].name)
    with pytest.raises(grpc.RpcError) as refused:
        client.submit([tmp_path / "other" / files[3].name])
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    study = client.study(uid)
    assert [(notice.code, notice.value) for notice in study.notices] == [("DUPLICATE_CONFLICT", data.SOPInstanceUID)]
    assert study.runs == before.runs, "the first content stays, and so does its answer"


@pytest.fixture
def asked_of_all(server_factory, stubs, tmp_path):
    """A server whose model answers without being asked for by name."""
    shutil.copytree(MODELS / "nodule_blob", tmp_path / "models" / "nodule_blob")
    (recipe,) = (tmp_path / "models" / "nodule_blob").glob("*/recipe.textproto")
    recipe.write_text(recipe.read_text().replace("REGULATORY_STATUS_DEMONSTRATION", "REGULATORY_STATUS_RESEARCH"))
    server = server_factory(models=[tmp_path / "models"])
    return server, Client(server, stubs)


def test_an_old_study_that_nobody_asked_for_is_stale(asked_of_all, tmp_path):
    server, client = asked_of_all
    files, uid, _ = chest(tmp_path / "old", 108, date="20200115")
    (first,) = client.submit(files, models=()).run_ids
    (run,) = client.answered(uid).runs
    assert client.flag(run) == "NOT_APPLICABLE"
    (reason,) = run.flag.reasons
    assert reason.code == "STALE_STUDY" and int(reason.value) > 2000
    plan = json.loads(tomoctl("plan", uid, "--json", server=server).stdout)["runs"][0]
    assert not plan["applicable"] and plan["reasons"][0]["code"] == "STALE_STUDY"
    # By its name it is asked for.
    (second,) = client.submit(files).run_ids
    (run,) = client.answered(uid).runs
    assert run.run_id == second and client.flag(run) in ("INCONCLUSIVE", "NO_FINDING", "FLAGGED")
    assert ("SUPERSEDED", first) in client.changes(uid)
    # A phantom of today is not old.
    files, uid, _ = chest(tmp_path / "new", 109)
    client.submit(files, models=())
    (run,) = client.answered(uid).runs
    assert client.flag(run) != "NOT_APPLICABLE"


def test_a_prior_is_analysed_and_never_listed(asked_of_all, tmp_path):
    _, client = asked_of_all
    files, uid, _ = chest(tmp_path / "ct", 110, date="20210301")
    client.submit(files, models=(), role=2)
    (run,) = client.answered(uid).runs
    assert client.flag(run) != "NOT_APPLICABLE"
    assert client.changes(uid) == []
