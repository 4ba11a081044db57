"""/metrics, /healthz and /readyz of a real server, read by a parser that is not ours; dashboard and document beside."""
import concurrent.futures
import ctypes
import ctypes.util
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import grpc
import pydicom
import pytest
from conftest import BIN, MODELS, ROOT, Server, phantom, tomoctl
from prometheus_client.parser import text_string_to_metric_families

DASHBOARD = ROOT / "docker" / "grafana" / "tomoserve.json"
CONFIG = 'metrics_listen: "127.0.0.1:0"\n'


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


def port_of(server):
    """Port of the newest start, from the log."""
    events = [json.loads(line) for line in server.text().splitlines() if line.startswith("{")]
    return [event["port"] for event in events if event["event"] == "metrics"][-1]


def get(port, path):
    """(status, body)."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def families(port):
    """Metric families by name. A counter's family is called without its "_total"."""
    status, text = get(port, "/metrics")
    assert status == 200
    return {family.name: family for family in text_string_to_metric_families(text)}


def grpc_health(server):
    """Whether grpc.health.v1 says SERVING: HealthCheckResponse {status = 1} is two bytes on the wire."""
    with grpc.insecure_channel(server.address) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check", request_serializer=lambda request: request,
                                    response_deserializer=lambda response: response)
        return check(b"", timeout=20) == b"\x08\x01"


def total(scraped, sample_name, **labels):
    """Sum of the samples of that name whose labels say so."""
    return sum(sample.value for family in scraped.values() for sample in family.samples
               if sample.name == sample_name and all(sample.labels.get(key) == value for key, value in labels.items()))


@pytest.fixture(scope="module")
def small_study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small") / "ct"
    phantom(folder, "--size", "36", "--slices", "24", "--spacing", "4,4,4", "--nodules", "1", "--seed", "8")
    return folder


@pytest.fixture(scope="module")
def metrics_server(tmp_path_factory):
    """One server for the tests that count from where they find it."""
    made = Server(tmp_path_factory.mktemp("metrics_server"), [MODELS], config=CONFIG).start()
    yield made
    made.stop()


def analyze(server, folder, *arguments, check=True):
    return tomoctl("analyze", folder, "--model", "nodule_blob", "--json", *arguments, server=server, check=check)


def test_counts_match_what_was_submitted(server_factory, small_study, stubs, tmp_path):
    server = server_factory(config=CONFIG)
    port = port_of(server)
    before = families(port)
    assert total(before, "tomoserve_ready") == 1
    assert total(before, "tomoserve_submissions_acknowledged_total") == 0
    assert total(before, "tomoserve_model_ready", model="nodule_blob") == 1
    assert "tomoserve_runs" in before, "families are described before their first event"

    files = sorted(small_study.glob("*.dcm"))
    run = json.loads(analyze(server, small_study, "--priority", "stat").stdout)["runs"][0]
    # Told right after the commit that the client saw.
    assert wait_for(lambda: total(families(port), "tomoserve_runs_total", state="DONE") == 1)
    scraped = families(port)
    assert total(scraped, "tomoserve_submissions_acknowledged_total") == 1
    assert total(scraped, "tomoserve_instances_accepted_total") == len(files)
    assert total(scraped, "tomoserve_received_bytes_total") == sum(path.stat().st_size for path in files)
    flag = {key: run["flag"][key] for key in ("level",) if key in run["flag"]} | {"flag": run["flag"]["state"]}
    assert total(scraped, "tomoserve_runs_total", state="DONE", model="nodule_blob",
                 device_kind=run["provenance"]["deviceKind"], **flag) == 1
    assert total(scraped, "tomoserve_queue_duration_seconds_count", priority="STAT") == 1
    assert total(scraped, "tomoserve_queue_duration_seconds_count") == 1
    windows = total(scraped, "tomoserve_windows_total", model="nodule_blob")
    assert windows >= 1
    # Said by the worker's next heartbeat.
    assert wait_for(lambda: total(families(port), "tomoserve_batch_windows_total") >= windows)
    computed = families(port)
    assert total(computed, "tomoserve_batch_slots_total") >= total(computed, "tomoserve_batch_windows_total")
    assert total(computed, "tomoserve_device_busy_seconds_total", device="cpu", worker="0") > 0
    assert total(scraped, "tomoserve_spool_used_bytes") >= total(scraped, "tomoserve_received_bytes_total")
    for stage in ("upload", "header", "acknowledge"):
        assert total(scraped, "tomoserve_stage_duration_seconds_count", stage=stage) == 1, stage
    stub = stubs.study_service_grpc.StudyServiceStub(grpc.insecure_channel(server.address))
    study_uid = pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID
    request = stubs.study_service.GetStudyRequest(study_instance_uid=study_uid)
    (stored,) = stub.GetStudy(request, timeout=20).study.runs
    stages = {timing.stage: timing.ms for timing in stored.timings}
    assert set(stages) == {"queue", "decode", "prepare", "forward", "blend", "labels", "measure", "pack"}
    assert total(scraped, "tomoserve_queue_duration_seconds_sum") == pytest.approx(stages.pop("queue") / 1000, rel=1e-4)
    for stage, ms in stages.items():
        labels = {"stage": stage, "model": "nodule_blob"}
        assert total(scraped, "tomoserve_stage_duration_seconds_count", **labels) == 1, stage
        assert total(scraped, "tomoserve_stage_duration_seconds_sum", **labels) == pytest.approx(
            ms / 1000, rel=1e-4, abs=1e-6), stage
    assert total(scraped, "tomoserve_stage_duration_seconds_count", stage="commit", model="nodule_blob") == 1

    # The same again: duplicates, and no new run is computed.
    analyze(server, small_study)
    assert wait_for(lambda: total(families(port), "tomoserve_submissions_acknowledged_total") == 2)
    scraped = families(port)
    assert total(scraped, "tomoserve_instances_duplicate_total") == len(files)
    assert total(scraped, "tomoserve_runs_total", state="DONE") == 1

    # Junk is refused and counted.
    junk = tmp_path / "junk"
    junk.mkdir()
    for index in range(3):
        (junk / f"{index}.dcm").write_text("not DICOM\n" * 50)
    assert analyze(server, junk, check=False).returncode == 4
    scraped = families(port)
    assert total(scraped, "tomoserve_instances_refused_total", reason="NOT_DICOM") == 3
    assert total(scraped, "tomoserve_submissions_refused_total") == 1
    server.stop()


def test_a_killed_worker_is_counted_and_the_server_is_ready_again(metrics_server):
    port = port_of(metrics_server)
    assert get(port, "/readyz") == (200, "ok\n")
    before = families(port)
    causes = [sample for sample in before["tomoserve_worker_restarts"].samples if sample.labels["reason"] == "SIGNAL"]
    assert len(causes) == 1, "a cause is there before its first death"
    (worker,) = metrics_server.children("tomoserve-worker")
    assert total(before, "tomoserve_worker_memory_used_bytes") > 10e6
    os.kill(worker, signal.SIGKILL)
    assert wait_for(lambda: get(port, "/readyz") == (503, "DEVICE_UNAVAILABLE\n"))
    assert get(port, "/healthz") == (200, "ok\n"), "a dead worker is no reason to restart the front"
    seen = set()

    def is_ready_again():
        before_it = get(port, "/readyz")[0]
        serving = grpc_health(metrics_server)
        after_it = get(port, "/readyz")[0]
        if before_it == after_it:
            assert serving == (after_it == 200), "grpc.health says something else"
            seen.add(after_it)
        return after_it == 200 == before_it

    assert wait_for(is_ready_again)
    assert seen == {200, 503}
    scraped = families(port)
    for labels in ({}, {"device": "cpu", "reason": "SIGNAL"}):
        name = "tomoserve_worker_restarts_total"
        assert total(scraped, name, **labels) == total(before, name, **labels) + 1
    assert total(scraped, "tomoserve_ready") == 1


def test_readiness_follows_the_start_and_the_end(server_factory, small_study):
    server = server_factory(config=CONFIG)
    port = port_of(server)
    assert get(port, "/readyz") == (200, "ok\n")
    # Held up, the server drains until the run is done.
    (worker,) = server.children("tomoserve-worker")
    os.kill(worker, signal.SIGSTOP)
    client = subprocess.Popen([str(BIN / "tomoctl"), "--server", server.address, "analyze", str(small_study), "--model",
                               "nodule_blob"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert wait_for(lambda: total(families(port), "tomoserve_runs_in_flight") == 1)
        assert total(families(port), "tomoserve_device_memory_predicted_bytes") > 0
        assert total(families(port), "tomoserve_host_memory_used_bytes") > 0
        server.process.send_signal(signal.SIGTERM)
        assert wait_for(lambda: get(port, "/readyz") == (503, "DRAINING\n"), 10)
        assert get(port, "/healthz") == (200, "ok\n")
        assert total(families(port), "tomoserve_ready") == 0
        os.kill(worker, signal.SIGCONT)
        assert server.process.wait(timeout=40) == 0
    finally:
        client.kill()
        client.wait()
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5)


def test_before_it_is_ready_the_server_says_so(tmp_path):
    """The worker is stopped before it can say hello."""
    log = open(tmp_path / "log", "wb")
    process = subprocess.Popen([str(BIN / "tomoserve"), "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0",
                                "--data", str(tmp_path / "data"), "--models", str(MODELS)],
                               stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        def workers():
            children = children_of(process.pid)
            return [pid for pid, name in children if name == "tomoserve-worke"]
        assert wait_for(lambda: workers() and '"metrics"' in (tmp_path / "log").read_text())
        (worker,) = workers()
        os.kill(worker, signal.SIGSTOP)
        (port,) = [json.loads(line)["port"] for line in (tmp_path / "log").read_text().splitlines()
                   if '"event":"metrics"' in line]
        assert get(port, "/readyz") == (503, "STARTING\n")
        assert get(port, "/healthz") == (200, "ok\n")
        os.kill(worker, signal.SIGCONT)
        assert process.stdout.readline().startswith("ready ")
        assert get(port, "/readyz") == (200, "ok\n")
    finally:
        process.terminate()
        process.wait(timeout=40)


def children_of(parent):
    """(pid, name) of the living children."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8") as file:
                head, tail = file.read().rsplit(")", 1)
        except OSError:
            continue
        if int(tail.split()[1]) == parent:
            found.append((int(entry), head.split("(", 1)[1]))
    return found


def refused(tmp_path, listen):
    """A server that must not start: (exit code, what it says to its user)."""
    done = subprocess.run([str(BIN / "tomoserve"), "--listen", "127.0.0.1:0", "--metrics-listen", listen, "--data",
                           str(tmp_path / "data"), "--models", str(MODELS)], capture_output=True, text=True,
                          timeout=60, check=False)
    (text,) = [line for line in done.stderr.splitlines() if line.startswith("tomoserve: ")]
    return done.returncode, text


def test_only_loopback_is_listened_on(tmp_path):
    code, text = refused(tmp_path, "0.0.0.0:0")
    assert code == 2
    assert "NOT_LOOPBACK" in text
    code, text = refused(tmp_path, "8401")
    assert code == 2
    assert "LISTEN_INVALID" in text


def test_an_address_that_the_http_library_cannot_serve_is_refused_before_anything_starts(tmp_path):
    civetweb = ctypes.CDLL(ctypes.util.find_library("civetweb"))
    if civetweb.mg_check_feature(8):  # MG_FEATURES_IPV6
        pytest.skip("this civetweb serves IPv6")
    code, text = refused(tmp_path, "[::1]:0")
    assert code == 2
    assert "LISTEN_INVALID" in text and "metrics_listen" in text
    assert not (tmp_path / "data").exists()


def test_a_taken_port_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, text = refused(tmp_path, f"127.0.0.1:{port}")
    assert code == 1
    assert "LISTEN_FAILED" in text
    assert str(port) in text


def test_nothing_listens_unless_it_is_asked_to(server_factory):
    server = server_factory()
    assert '"event":"metrics"' not in server.text()
    server.stop()


def test_many_scrapes_beside_work_are_whole(metrics_server, small_study):
    port = port_of(metrics_server)

    def scrape(_):
        return len(families(port))

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        scrapes = pool.map(scrape, range(100))
        analyze(metrics_server, small_study, "--force")
        counts = list(scrapes)
    assert min(counts) == max(counts) > 30
    # Whatever a stranger sends, the server lives on.
    for garbage in (b"\x00" * 5000, b"GET\r\n\r\n", b"GET /metrics HTTP/9.9\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
                    b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", os.urandom(4000)):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as stranger:
            try:
                stranger.sendall(garbage)
                stranger.recv(100)
            except OSError:
                pass
    assert get(port, "/healthz") == (200, "ok\n")
    assert get(port, "/nothing")[0] == 404


def test_no_patient_and_no_uid_is_in_the_metrics(metrics_server, tmp_path):
    phantom(tmp_path / "ct", "--size", "36", "--slices", "24", "--spacing", "4,4,4", "--nodules", "1", "--seed", "9")
    uids = set()
    for path in (tmp_path / "ct").glob("*.dcm"):
        data = pydicom.dcmread(path)
        data.PatientName, data.PatientID = "CANARY^NAME", "CANARY-ID"
        data.AccessionNumber, data.InstitutionName = "CANARY-ACC", "CANARY-HOSPITAL"
        uids |= {data.StudyInstanceUID, data.SeriesInstanceUID, data.SOPInstanceUID}
        data.save_as(path)
    port = port_of(metrics_server)
    before = total(families(port), "tomoserve_runs_total", state="DONE")
    run = json.loads(analyze(metrics_server, tmp_path / "ct", "--force").stdout)["runs"][0]
    assert wait_for(lambda: total(families(port), "tomoserve_runs_total", state="DONE") == before + 1)
    text = get(port, "/metrics")[1]
    assert "CANARY" not in text
    for secret in uids | {run["runId"]}:
        assert secret not in text


def documented():
    """{name: (type, labels)} from the tables of docs/METRICS.md."""
    rows = {}
    for line in (ROOT / "docs" / "METRICS.md").read_text(encoding="utf-8").splitlines():
        match = re.match(r"\| `([a-z_]+)` \| (counter|gauge|histogram) \|([^|]*)\| \S.* \|$", line)
        if match:
            rows[match[1]] = (match[2], set(re.findall(r"`([a-z_]+)`", match[3])))
    return rows


def test_what_is_scraped_is_documented_and_drawn(metrics_server, small_study):
    port = port_of(metrics_server)
    analyze(metrics_server, small_study)
    assert wait_for(lambda: total(families(port), "tomoserve_runs_total", state="DONE") >= 1)
    scraped, rows = families(port), documented()
    types = {family.name + ("_total" if family.type == "counter" else ""): family.type for family in scraped.values()}
    assert types == {name: kind for name, (kind, _) in rows.items()}
    for family in scraped.values():
        assert family.documentation.endswith("."), family.name
        labels = rows[family.name + ("_total" if family.type == "counter" else "")][1]
        for sample in family.samples:
            assert set(sample.labels) - {"le"} <= labels, sample

    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"] == [
        "Can it take work?", "How long do studies wait", "Stages", "Runs and flags", "Devices and memory", "Faults"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    known = dict(rows)
    for name, (kind, labels) in rows.items():
        if kind == "histogram":
            known |= {f"{name}_{part}": (kind, labels | {"le"}) for part in ("bucket", "sum", "count")}
    used = set()
    for panel in panels:
        assert panel["description"] and panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        for target in panel["targets"]:
            expression = target["expr"]
            names = set(re.findall(r"\b(?:tomoserve|process)_[a-z_]+\b", expression))
            assert names and names <= set(known), (panel["title"], names - set(known))
            used |= names
            labels = set().union(*(known[name][1] for name in names)) | {"instance", "job"}
            named = set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)\s*\"", expression))
            for group in re.findall(r"\bby \(([^)]*)\)", expression):
                named |= {label.strip() for label in group.split(",")}
            named |= set(re.findall(r"\{\{([a-z_]+)\}\}", target["legendFormat"]))
            assert named <= labels, (panel["title"], named - labels)
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) if name not in rows else name for name in used}
    assert shown == set(rows), "each metric has a panel"
    # No panel lies on another.
    cells = [(panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y) for panel in dashboard["panels"]
             for x in range(panel["gridPos"]["w"]) for y in range(panel["gridPos"]["h"])]
    assert len(cells) == len(set(cells))
