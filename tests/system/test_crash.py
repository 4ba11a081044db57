"""kill -9 of each program in the middle of work: nothing acknowledged is lost, results appear once."""
import json
import os
import random
import signal
import subprocess
import threading
import time

import grpc
from conftest import BIN, Server, phantom, tomoctl

ROUNDS = int(os.environ.get("TOMOSERVE_KILL_ROUNDS", "50"))


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.002)
    return False


def submit(stubs, address, folder, key, receipts):
    """Submits a study; the receipt, if one came, lands in `receipts` under its key."""
    from test_bad_input import parts
    stub = stubs.study_service_grpc.StudyServiceStub(grpc.insecure_channel(address))
    header = stubs.study.SubmissionHeader(idempotency_key=key, completion=1, models=[dict(name="nodule_blob")])
    try:
        for event in stub.SubmitStudy(parts(stubs, folder, header), timeout=120):
            if event.HasField("receipt"):
                receipts[key] = event.receipt
    except grpc.RpcError:
        pass


def test_front_killed_at_random_instants_loses_nothing(server_factory, stubs, tmp_path):
    studies = 8
    for index in range(studies):
        phantom(tmp_path / f"ct{index}", "--size", "48", "--slices", "40", "--spacing", "7.5,7.5,7.5", "--nodules", "1",
                "--seed", str(100 + index))
    server = server_factory()
    receipts, rng = {}, random.Random(20261124)
    for turn in range(ROUNDS):
        threads = []
        for index in rng.sample(range(studies), 3):
            # A new key each round: the instances are duplicates, the submission and its wish are not.
            threads.append(threading.Thread(target=submit, args=(
                stubs, server.address, tmp_path / f"ct{index}", f"round{turn}-{index}", receipts)))
        for thread in threads:
            thread.start()
        time.sleep(rng.uniform(0.0, 0.8))
        server.kill()
        for thread in threads:
            thread.join()
        server.start()
    assert receipts
    stub = stubs.study_service_grpc.StudyServiceStub(grpc.insecure_channel(server.address))
    study_ids = {receipt.study_instance_uid for receipt in receipts.values()}

    def study(uid):
        return stub.GetStudy(stubs.study_service.GetStudyRequest(study_instance_uid=uid)).study

    final = stubs.study.SUMMARY_STATE_FINAL
    assert wait_for(lambda: all(study(uid).summary.state == final for uid in study_ids), 180)
    for receipt in receipts.values():
        known = study(receipt.study_instance_uid)
        assert known.instances == 40
        assert set(receipt.run_ids) & {run.run_id for run in known.runs} or all(
            run.state == stubs.finding.RUN_STATE_DONE for run in known.runs)
        assert all(run.state == stubs.finding.RUN_STATE_DONE for run in known.runs), known.runs
    flags = json.loads(tomoctl("flags", "--json", server=server).stdout)["flags"]
    lines = [(flag["study"]["studyInstanceUid"], flag["model"]) for flag in flags]
    assert len(lines) == len(set(lines)), "a result appeared twice"
    # The change feed created each current flag once.
    worklist = stubs.worklist_service_grpc.WorklistServiceStub(grpc.insecure_channel(server.address))
    changes = worklist.ListFlagChanges(stubs.worklist_service.ListFlagChangesRequest(limit=1000)).changes
    created = [change.flag.run_id for change in changes
               if change.kind == stubs.worklist_service.CHANGE_KIND_CREATED]
    assert len(created) == len(set(created))
    server.stop()


def run_and_kill(server, folder, program, delay, in_work):
    """Analyses while every process of `program` is killed, `delay` seconds after `in_work()` first holds."""
    command = [str(BIN / "tomoctl"), "--server", server.address, "analyze", str(folder), "--model", "nodule_blob",
               "--force", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert wait_for(in_work, 60)
    time.sleep(delay)
    killed = 0
    for pid in server.children(program):
        try:
            os.kill(pid, signal.SIGKILL)
            killed += 1
        except ProcessLookupError:
            pass
    assert killed
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return json.loads(out)["runs"][0]


def test_worker_killed_in_mid_study_gives_the_right_answer(server_factory, small_ct, tmp_path):
    folder, _ = small_ct
    server = server_factory()
    right = json.loads(tomoctl("analyze", folder, "--model", "nodule_blob", "--json", server=server).stdout)["runs"][0]
    for delay in (0.3, 1.0):
        started, dead = server.text().count('"run_started"'), server.text().count('"worker_died"')
        run = run_and_kill(server, folder, "tomoserve-worker", delay,
                           lambda: server.text().count('"run_started"') > started)
        assert server.text().count('"worker_died"') > dead
        assert run["findings"] == right["findings"]
    server.stop()


def test_helpers_killed_in_mid_study_give_the_right_answer(server_factory, tmp_path):
    # JPEG 2000 keeps the helpers at work long enough to be caught.
    folder = tmp_path / "ct"
    phantom(folder, "--size", "256", "--slices", "120", "--spacing", "1.4,1.4,2.5", "--nodules", "2", "--seed", "12",
            "--syntax", "jpeg-2000")
    server = server_factory()
    right = json.loads(tomoctl("analyze", folder, "--model", "nodule_blob", "--json", server=server).stdout)["runs"][0]
    for delay in (0.0, 0.005, 0.01, 0.02):
        # More than the idle zygote: a lease's child is at work when the kill comes.
        run = run_and_kill(server, folder, "tomoserve-dicom", delay,
                           lambda: len(server.children("tomoserve-dicom")) > 1)
        assert run["findings"] == right["findings"]
    server.stop()


def test_nothing_is_left_after_200_studies(server_factory, stubs, tmp_path):
    """Each turn is forced, so that every study is decoded, run and committed anew."""
    phantom(tmp_path / "ct", "--size", "32", "--slices", "12", "--spacing", "10,10,10", "--nodules", "0")
    server = server_factory()
    stub = stubs.study_service_grpc.StudyServiceStub(grpc.insecure_channel(server.address))
    done = 0

    def turn():
        nonlocal done
        from test_bad_input import parts
        header = stubs.study.SubmissionHeader(completion=1, models=[dict(name="nodule_blob")], force_rerun=True)
        requests = (stubs.study_service.AnalyzeStudyRequest.FromString(part.SerializeToString())
                    for part in parts(stubs, tmp_path / "ct", header))
        (run,) = list(stub.AnalyzeStudy(requests, timeout=120))[-1].study.runs
        done += run.state == stubs.finding.RUN_STATE_DONE

    for _ in range(20):
        turn()
    assert wait_for(lambda: len(server.children("tomoserve-dicom")) == 1, 30)
    descriptors, memory = server.descriptors(), server.rss_bytes()
    (worker,) = server.children("tomoserve-worker")
    worker_descriptors = len(os.listdir(f"/proc/{worker}/fd"))
    for _ in range(180):
        turn()
    assert done == 200
    assert wait_for(lambda: server.descriptors() <= descriptors + 2, 30), server.descriptors()
    assert wait_for(lambda: len(server.children("tomoserve-dicom")) == 1, 30)
    assert server.children("tomoserve-worker") == [worker]
    assert len(os.listdir(f"/proc/{worker}/fd")) <= worker_descriptors
    for pid in (server.process.pid, worker):
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        assert not [link for link in links if "memfd:" in link]
    assert server.rss_bytes() < memory + 60_000_000
    (zygote,) = server.children("tomoserve-dicom")
    server.stop()
    assert wait_for(lambda: not os.path.exists(f"/proc/{worker}") and not os.path.exists(f"/proc/{zygote}"), 10)
