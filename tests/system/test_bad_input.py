"""Whatever comes in: a typed error or an idempotent success, nothing lost, the server alive."""
import json
import os
import pathlib
import shutil
import subprocess

import grpc
import pytest
from conftest import BIN, MODELS, ROOT, Server, copy_series, phantom, tomoctl


def analyze(server, path, *arguments, model="nodule_blob"):
    return tomoctl("analyze", path, "--model", model, *arguments, server=server, check=False)


@pytest.fixture(autouse=True)
def alive_afterwards(server):
    yield
    assert server.alive()


def test_a_folder_of_text_is_refused(server, tmp_path):
    for index in range(3):
        (tmp_path / f"{index}.txt").write_text("hello\n" * 100)
    done = analyze(server, tmp_path)
    assert done.returncode == 4, done.stderr
    assert "NOT_DICOM" in done.stderr


def test_zero_bytes_are_refused(server, tmp_path):
    (tmp_path / "empty.dcm").write_bytes(b"")
    done = analyze(server, tmp_path)
    assert done.returncode == 4, done.stderr
    assert "EMPTY_FILE" in done.stderr


def test_a_truncated_slice_is_refused_and_its_hole_is_seen(server, small_ct, tmp_path):
    folder, _ = small_ct
    copy_series(folder, tmp_path / "ct")
    victim = sorted((tmp_path / "ct").glob("*.dcm"))[40]
    victim.write_bytes(victim.read_bytes()[:9000])
    done = analyze(server, tmp_path / "ct", "--json", "--force")
    run = json.loads(done.stdout)["runs"][0]
    assert "1 refused" in done.stderr
    assert run["flag"]["state"] == "INCONCLUSIVE", run["flag"]
    assert "MISSING_SLICES" in [reason["code"] for reason in run["flag"]["reasons"]]


def test_a_study_without_images_is_refused(server, test_data):
    (report,) = list((test_data / "dicom" / "seg_sr_rt").rglob("test-SR.dcm"))
    done = analyze(server, report)
    assert done.returncode == 4, done.stderr
    assert "NO_IMAGES" in done.stderr


def test_another_patient_in_the_study_is_held(server, tmp_path):
    import pydicom
    phantom(tmp_path / "ct", "--size", "64", "--slices", "20", "--spacing", "5,5,6", "--seed", "21")
    victim = sorted((tmp_path / "ct").glob("*.dcm"))[3]
    data = pydicom.dcmread(victim)
    data.PatientID = "SOMEBODY-ELSE"
    data.save_as(victim)
    done = analyze(server, tmp_path / "ct", "--json")
    assert "IDENTITY_CONFLICT" in done.stdout + done.stderr
    assert "SOMEBODY-ELSE" not in done.stdout + done.stderr + server.text()


def test_an_instance_of_another_study_is_refused(server, tmp_path):
    phantom(tmp_path / "ct", "--size", "64", "--slices", "20", "--spacing", "5,5,6", "--seed", "22")
    phantom(tmp_path / "other", "--size", "64", "--slices", "8", "--spacing", "5,5,6", "--seed", "23")
    stray = sorted((tmp_path / "other").glob("*.dcm"))[0]
    (tmp_path / "ct" / "zz_stray.dcm").write_bytes(stray.read_bytes())
    done = analyze(server, tmp_path / "ct")
    assert "STUDY_MISMATCH" in done.stderr
    assert "1 refused" in done.stderr


def test_an_unknown_model_is_named(server, small_ct):
    done = analyze(server, small_ct[0], model="no_such_model")
    assert done.returncode == 1
    assert "UNKNOWN_MODEL" in done.stderr


def test_a_corrupted_model_is_refused_and_hurts_nobody(server_factory, small_ct, tmp_path):
    models = tmp_path / "models"
    broken = models / "broken" / "1"
    shutil.copytree(ROOT / "models" / "nodule_blob" / "1", broken)
    weights = (broken / "model.ts").read_bytes()
    (broken / "model.ts").write_bytes(weights[: len(weights) * 2 // 3])
    own = server_factory(models=[models, MODELS])
    listed = {model["name"]: model for model in json.loads(tomoctl("models", "--json", server=own).stdout)["models"]}
    assert listed["broken"]["devices"][0]["readiness"] == "MODEL_READINESS_REFUSED"
    assert listed["nodule_blob"]["devices"][0]["readiness"] == "MODEL_READINESS_WARM"
    done = analyze(own, small_ct[0], model="broken")
    assert done.returncode == 1
    assert "MODEL_REFUSED" in done.stdout + done.stderr
    assert analyze(own, small_ct[0]).returncode == 0


def test_a_nonloopback_address_is_refused(tmp_path):
    done = subprocess.run([str(BIN / "tomoserve"), "--listen", "0.0.0.0:0", "--data", str(tmp_path / "data"),
                           "--models", str(MODELS)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "NOT_LOOPBACK" in done.stderr


def test_a_data_folder_in_use_is_refused(server, tmp_path):
    done = subprocess.run([str(BIN / "tomoserve"), "--listen", "127.0.0.1:0", "--data", str(server.data),
                           "--models", str(MODELS)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "DATA_IN_USE" in done.stderr


def test_no_server_is_exit_code_3(small_ct):
    done = subprocess.run([str(BIN / "tomoctl"), "--server", "127.0.0.1:1", "analyze", str(small_ct[0])],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 3


def parts(stubs, folder, header, stop_after=None, end=True):
    """The messages of an upload; stops in the middle of instance `stop_after`."""
    request = stubs.study_service.SubmitStudyRequest
    yield request(header=header)
    files = sorted(pathlib.Path(folder).glob("*.dcm"))
    for index, path in enumerate(files):
        data = path.read_bytes()
        yield request(instance=dict(instance_key=str(index), size_bytes=len(data)))
        if stop_after == index:
            yield request(chunk=dict(data=data[: len(data) // 2]))
            return
        yield request(chunk=dict(data=data))
    if end:
        yield request(end=dict(instances=len(files)))


def test_a_client_that_vanishes_can_resume(server, stubs, tmp_path):
    phantom(tmp_path, "--size", "64", "--slices", "20", "--spacing", "5,5,6", "--seed", "31")
    channel = grpc.insecure_channel(server.address)
    stub = stubs.study_service_grpc.StudyServiceStub(channel)
    header = stubs.study.SubmissionHeader(idempotency_key="vanish-1", completion=1,
                                          models=[dict(name="nodule_blob")])
    with pytest.raises(grpc.RpcError) as cut:
        list(stub.SubmitStudy(parts(stubs, tmp_path, header, stop_after=12)))
    assert cut.value.code() == grpc.StatusCode.ABORTED
    events = list(stub.SubmitStudy(parts(stubs, tmp_path, header)))
    assert set(events[0].upload.instance_keys) >= {str(index) for index in range(12)}
    assert events[-1].receipt.instances_accepted == 20
    # The same key and header again: the same receipt, nothing new.
    again = list(stub.SubmitStudy(parts(stubs, tmp_path, header)))
    assert again[-1].receipt.submission_id == events[-1].receipt.submission_id
    # The same key with another header is an error.
    other = stubs.study.SubmissionHeader(idempotency_key="vanish-1", completion=1, priority=3)
    with pytest.raises(grpc.RpcError) as reused:
        list(stub.SubmitStudy(parts(stubs, tmp_path, other)))
    assert reused.value.code() == grpc.StatusCode.ALREADY_EXISTS


def test_a_stream_without_its_end_is_not_acknowledged(server, stubs, tmp_path):
    truth_uid_source = phantom(tmp_path, "--size", "64", "--slices", "12", "--spacing", "5,5,6", "--seed", "32")
    assert truth_uid_source
    stub = stubs.study_service_grpc.StudyServiceStub(grpc.insecure_channel(server.address))
    header = stubs.study.SubmissionHeader(completion=1)
    with pytest.raises(grpc.RpcError) as cut:
        list(stub.SubmitStudy(parts(stubs, tmp_path, header, end=False)))
    assert cut.value.code() == grpc.StatusCode.ABORTED
    import pydicom
    uid = pydicom.dcmread(sorted(tmp_path.glob("*.dcm"))[0], stop_before_pixels=True).StudyInstanceUID
    with pytest.raises(grpc.RpcError) as unknown:
        stub.GetStudy(stubs.study_service.GetStudyRequest(study_instance_uid=uid))
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_full_disk_never_acknowledges(server_factory, stubs, tmp_path):
    """A data folder on a file system of a few MB: typed errors, and service again when there is room."""
    small = tmp_path / "small"
    small.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(small)]).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        folder = tmp_path / "full"
        folder.mkdir()
        own = Server(folder, [MODELS], config="limits { min_free_bytes: 1048576 }")
        own.data = small / "data"
        own.start()
        try:
            phantom(tmp_path / "big", "--size", "256", "--slices", "200", "--spacing", "1.4,1.4,1.5", "--nodules", "0")
            done = analyze(own, tmp_path / "big")
            assert done.returncode == 1, done.stderr
            assert "DISK_FULL" in done.stderr or "DISK_WATERMARK" in done.stderr
            assert own.alive()
            phantom(tmp_path / "fits", "--size", "64", "--slices", "20", "--spacing", "5,5,6", "--seed", "41")
            assert analyze(own, tmp_path / "fits").returncode == 0
        finally:
            own.stop()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)


def test_errors_carry_their_reason_as_error_info(server, stubs):
    stub = stubs.study_service_grpc.StudyServiceStub(grpc.insecure_channel(server.address))
    with pytest.raises(grpc.RpcError) as unknown:
        stub.GetStudy(stubs.study_service.GetStudyRequest(study_instance_uid="1.2.3"))
    details = dict(unknown.value.trailing_metadata())["grpc-status-details-bin"]
    assert b"UNKNOWN_STUDY" in details and b"tomoserve" in details and b"google.rpc.ErrorInfo" in details
