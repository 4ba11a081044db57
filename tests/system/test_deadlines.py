"""Deadlines and urgency that change, through the real server: a recipe that stops when it is late."""
import shutil
import time

import grpc
import pydicom
import pytest
from conftest import MODELS, phantom
from test_growing import Client

FAILED, DONE, RUNNING = 4, 3, 2
MORE_EXPECTED = 2


@pytest.fixture(scope="module")
def late_models(tmp_path_factory):
    """nodule_blob with WHEN_LATE_STOP, and so many windows that it is late for sure."""
    models = tmp_path_factory.mktemp("late") / "models"
    shutil.copytree(MODELS / "nodule_blob" / "1", models / "late" / "1")
    recipe = models / "late" / "1" / "recipe.textproto"
    text = recipe.read_text()
    assert text.count("overlap: 0.25") == 1
    recipe.write_text(text.replace("overlap: 0.25", "overlap: 0.95") + "\nwhen_late: WHEN_LATE_STOP\n")
    shutil.copytree(MODELS / "nodule_blob", models / "nodule_blob")
    return models


def study_of(folder, seed):
    phantom(folder, "--size", "180", "--slices", "60", "--spacing", "2.0,2.0,2.1", "--nodules", "1", "--seed", str(seed))
    files = sorted(folder.glob("*.dcm"))
    return files, pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID


def test_a_run_ends_at_its_deadline_and_the_next_one_is_served(server_factory, late_models, stubs, tmp_path):
    server = server_factory(models=(late_models,))
    client = Client(server, stubs)
    files, uid = study_of(tmp_path / "late", 71)
    client.submit(files, models=("late",))
    update = stubs.study_service.UpdateStudyRequest(study_instance_uid=uid)
    end = time.monotonic() + 60
    while client.study(uid).runs[0].state != RUNNING or client.study(uid).runs[0].progress == 0:
        assert time.monotonic() < end, "its windows are not computed"
        time.sleep(0.05)
    update.deadline.FromMilliseconds(int(time.time() * 1000))
    begin = time.monotonic()
    client.studies.UpdateStudy(update)
    (run,) = client.answered(uid).runs
    assert (run.state, run.failure.code) == (FAILED, "DEADLINE_EXPIRED")
    assert time.monotonic() - begin < 10, "not only when its windows were done"

    # One whose study is not complete in time.
    files, uid = study_of(tmp_path / "open", 72)
    deadline = stubs.study.SubmissionHeader().deadline
    deadline.FromMilliseconds(int(time.time() * 1000) + 2000)
    client.submit(files, models=("late",), completion=MORE_EXPECTED, deadline=deadline)
    (run,) = client.answered(uid).runs
    assert (run.state, run.failure.code) == (FAILED, "DEADLINE_EXPIRED")

    # A recipe that says nothing goes on.
    files, uid = study_of(tmp_path / "done", 73)
    client.submit(files, models=("nodule_blob",), deadline=deadline)
    assert client.answered(uid).runs[0].state == DONE


def test_an_update_that_cannot_be_says_why(server, stubs):
    client = Client(server, stubs)
    with pytest.raises(grpc.RpcError) as error:
        client.studies.UpdateStudy(stubs.study_service.UpdateStudyRequest(study_instance_uid="1.2.3", priority=3))
    assert error.value.code() == grpc.StatusCode.NOT_FOUND
