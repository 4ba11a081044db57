"""examples/orthanc/bridge.py between Debian's Orthanc and a real server: stable studies are answered, none is lost."""
import base64
import json
import math
import os
import pathlib
import shutil
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from conftest import ROOT, enter_own_network, free_port, phantom

BRIDGE = ROOT / "examples" / "orthanc" / "bridge.py"
USER, PASSWORD = "bridge", "only-for-this-test"


def find_orthanc():
    """Orthanc's program: TOMOSERVE_ORTHANC, unpacked by script/setup, or installed."""
    candidates = [os.environ.get("TOMOSERVE_ORTHANC"), ROOT / ".deps" / "orthanc" / "usr" / "sbin" / "Orthanc",
                  shutil.which("Orthanc"), "/usr/sbin/Orthanc"]
    return next((str(path) for path in candidates if path and pathlib.Path(path).is_file()), None)


pytestmark = pytest.mark.skipif(find_orthanc() is None, reason="Orthanc is not installed")


@pytest.fixture(scope="module", autouse=True)
def own_network(example_python):
    """Orthanc 1.10 listens on every address: here there is only loopback. (example_python needs PyPI: first.)"""
    enter_own_network()


class Orthanc:
    """A running Orthanc with its own storage, without DICOM port, for this machine only."""

    def __init__(self, folder, stable_age=1):
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        names = json.loads((ROOT / "examples" / "orthanc" / "tomoserve.json").read_text())
        (folder / "storage").mkdir()
        (folder / "orthanc.json").write_text(json.dumps({
            "Name": "Test", "StorageDirectory": str(folder / "storage"), "IndexDirectory": str(folder / "storage"),
            "HttpPort": self.port, "RemoteAccessAllowed": False, "DicomServerEnabled": False, "StableAge": stable_age,
            "AuthenticationEnabled": True, "RegisteredUsers": {USER: PASSWORD}, "Plugins": [], **names}))
        self.log = open(folder / "orthanc.log", "ab")
        self.process = None

    def start(self):
        self.process = subprocess.Popen([find_orthanc(), str(self.folder / "orthanc.json")], stdout=self.log,
                                        stderr=self.log)
        assert wait_for(lambda: self.answers(), 60), (self.folder / "orthanc.log").read_text()[-2000:]
        return self

    def answers(self):
        assert self.process.poll() is None, (self.folder / "orthanc.log").read_text()[-2000:]
        try:
            return self.get("/system") is not None
        except (urllib.error.URLError, ConnectionError):
            return False

    def call(self, path, data=None):
        request = urllib.request.Request(self.url + path, data)
        request.add_header("Authorization", "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return answer.read()

    def get(self, path):
        return json.loads(self.call(path))

    def store(self, files):
        """Stores files; returns Orthanc's id of their study."""
        return [json.loads(self.call("/instances", path.read_bytes()))["ParentStudy"] for path in files][0]

    def flag(self, study):
        """The bridge's answer for a study; None as long as there is none."""
        try:
            return self.call(f"/studies/{study}/metadata/TomoserveFlag").decode()
        except urllib.error.HTTPError as error:
            assert error.code == 404
            return None

    def answered(self, study):
        return self.flag(study) not in (None, "PENDING")

    def findings(self, study):
        return json.loads(self.call(f"/studies/{study}/attachments/TomoserveFindings/data"))

    def kill(self):
        self.process.kill()
        self.process.wait()


def wait_for(condition, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def orthanc_factory(tmp_path):
    made = []

    def make(**kwargs):
        folder = tmp_path / f"orthanc{len(made)}"
        folder.mkdir()
        made.append(Orthanc(folder, **kwargs))
        return made[-1].start()

    yield make
    for orthanc in made:
        orthanc.kill()


@pytest.fixture
def bridge_factory(tmp_path, example_python):
    """Starts the bridge; one state file for all starts of a test."""
    python, environment = example_python
    made = []

    def make(orthanc, address, *arguments):
        log = open(tmp_path / "bridge.log", "ab")
        command = [str(python), str(BRIDGE), "--orthanc", orthanc.url, "--server", address, "--state",
                   str(tmp_path / "bridge.db"), "--poll", "0.2", *arguments]
        made.append(subprocess.Popen(command, stderr=log, env={**environment, "ORTHANC_USER": USER,
                                                               "ORTHANC_PASSWORD": PASSWORD}))
        return made[-1]

    make.text = lambda: (tmp_path / "bridge.log").read_text()
    yield make
    for bridge in made:
        bridge.kill()
        bridge.wait()


MODEL = ("--model", "nodule_blob", "--demonstration")


def small_study(folder, seed, *arguments):
    """A study that is analysed in a second: its files."""
    phantom(folder, "--size", "64", "--slices", "20", "--spacing", "5,5,6", "--seed", str(seed), *arguments)
    return sorted(folder.glob("*.dcm"))


def test_findings_of_a_stable_study_appear_in_orthanc(server, small_ct, orthanc_factory, bridge_factory):
    folder, truth = small_ct
    orthanc = orthanc_factory()
    bridge = bridge_factory(orthanc, server.address, *MODEL, "--from-beginning")
    study = orthanc.store(sorted(folder.glob("*.dcm")))
    assert wait_for(lambda: orthanc.answered(study), 180), bridge_factory.text()
    assert orthanc.flag(study).startswith("nodule_blob 1 (DEMONSTRATION): FLAGGED ")
    document = orthanc.findings(study)
    assert document["receipt"]["instancesAccepted"] == 140
    places = [[found["centreLps"][axis] for axis in ("xMm", "yMm", "zMm")] for found in document["runs"][0]["findings"]]
    assert len(places) == len(truth["nodules"])
    for nodule in truth["nodules"]:
        assert min(math.dist(nodule["centre_lps_mm"], place) for place in places) < 3.0
    # The answer does not set off another round, and no identity of the patient is in what the bridge says.
    time.sleep(2)
    text = bridge_factory.text()
    assert text.count("acknowledged") == 1
    assert orthanc.get(f"/studies/{study}")["PatientMainDicomTags"]["PatientID"] not in text
    bridge.terminate()
    assert bridge.wait(timeout=20) == 0


def test_studies_wait_while_tomoserve_is_down_and_the_bridge_dies(server_factory, orthanc_factory, bridge_factory,
                                                                  tmp_path):
    orthanc, port = orthanc_factory(), free_port()
    address = f"127.0.0.1:{port}"
    studies = []
    first = bridge_factory(orthanc, address, *MODEL, "--from-beginning")
    for seed in (61, 62):
        studies.append(orthanc.store(small_study(tmp_path / str(seed), seed)))
    assert wait_for(lambda: "Tomoserve does not answer" in bridge_factory.text(), 60)
    first.kill()
    first.wait()
    # Comes while the bridge is dead too.
    studies.append(orthanc.store(small_study(tmp_path / "63", 63)))
    time.sleep(2)
    bridge_factory(orthanc, address, *MODEL)  # goes on where the first one was
    assert wait_for(lambda: bridge_factory.text().count("Tomoserve does not answer") == 2, 60)
    assert [orthanc.flag(study) for study in studies] == [None, None, None]
    server = server_factory(listen_port=port)
    assert wait_for(lambda: all(orthanc.answered(study) for study in studies), 120), bridge_factory.text()
    assert bridge_factory.text().count("acknowledged") == 3
    server.stop()


def test_a_tomoserve_that_lost_its_data_is_sent_the_study_again(server_factory, orthanc_factory, bridge_factory,
                                                                small_ct):
    orthanc, port = orthanc_factory(), free_port()
    server = server_factory(listen_port=port)
    bridge_factory(orthanc, server.address, *MODEL, "--from-beginning")
    study = orthanc.store(sorted(small_ct[0].glob("*.dcm")))
    assert wait_for(lambda: orthanc.flag(study) == "PENDING", 60), bridge_factory.text()
    server.kill()
    shutil.rmtree(server.data)
    server.start()
    assert wait_for(lambda: orthanc.answered(study), 180), bridge_factory.text()
    assert bridge_factory.text().count("acknowledged") == 2
    server.stop()


def test_a_study_whose_stable_event_orthanc_forgot_is_sent(server, orthanc_factory, bridge_factory, tmp_path):
    orthanc = orthanc_factory(stable_age=5)
    bridge_factory(orthanc, server.address, *MODEL, "--from-beginning", "--stable-after", "8")
    study = orthanc.store(small_study(tmp_path / "ct", 64))
    time.sleep(1)
    orthanc.kill()  # before the study is stable
    orthanc.start()
    assert wait_for(lambda: orthanc.answered(study), 60), bridge_factory.text()
    changes = {change["ChangeType"] for change in orthanc.get("/changes?limit=1000")["Changes"]}
    assert "NewStudy" in changes and "StableStudy" not in changes


def test_late_instances_make_a_new_answer(server, orthanc_factory, bridge_factory, tmp_path):
    orthanc = orthanc_factory()
    files = small_study(tmp_path / "ct", 65)
    bridge_factory(orthanc, server.address, *MODEL, "--from-beginning")
    study = orthanc.store(files[:15])
    assert wait_for(lambda: orthanc.answered(study), 60), bridge_factory.text()
    first = orthanc.findings(study)
    orthanc.store(files[15:])
    assert wait_for(lambda: orthanc.answered(study) and orthanc.findings(study) != first, 60), bridge_factory.text()
    second = orthanc.findings(study)
    assert second["receipt"]["instancesAccepted"] == 20
    assert second["runs"][0]["provenance"]["generation"] == first["runs"][0]["provenance"]["generation"] + 1


def test_an_answer_does_not_stand_for_images_that_came_after_it(server_factory, orthanc_factory, bridge_factory, tmp_path):
    orthanc, port = orthanc_factory(), free_port()
    server = server_factory(listen_port=port)
    files = small_study(tmp_path / "ct", 69)
    bridge_factory(orthanc, server.address, *MODEL, "--from-beginning")
    study = orthanc.store(files[:15])
    assert wait_for(lambda: orthanc.answered(study), 60), bridge_factory.text()
    server.kill()
    orthanc.store(files[15:])
    assert wait_for(lambda: orthanc.flag(study) == "PENDING", 30), bridge_factory.text()
    server.start()
    assert wait_for(lambda: orthanc.answered(study), 120), bridge_factory.text()
    assert orthanc.findings(study)["receipt"]["instancesAccepted"] == 20
    server.stop()


def test_what_cannot_be_analysed_says_so_and_stops_nobody(server, orthanc_factory, bridge_factory, tmp_path):
    import pydicom
    files = small_study(tmp_path / "ct", 66)
    report = pydicom.dcmread(files[0])
    del report.PixelData
    report.StudyInstanceUID, report.SOPInstanceUID, report.Modality = "2.25.4801", "2.25.4802", "SR"
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    report.file_meta.MediaStorageSOPInstanceUID = "2.25.4802"
    report.save_as(tmp_path / "report.dcm")
    orthanc = orthanc_factory()
    bridge_factory(orthanc, server.address, *MODEL, "--from-beginning")
    without_images = orthanc.store([tmp_path / "report.dcm"])
    study = orthanc.store(files)
    assert wait_for(lambda: orthanc.answered(without_images) and orthanc.answered(study), 90), bridge_factory.text()
    assert orthanc.flag(without_images) == "REFUSED NO_IMAGES"


def test_what_was_there_before_is_left_alone_and_a_demonstration_is_not_delivered(server, orthanc_factory,
                                                                                 bridge_factory, tmp_path):
    orthanc = orthanc_factory()
    old = orthanc.store(small_study(tmp_path / "old", 67))
    assert wait_for(lambda: orthanc.get(f"/studies/{old}")["IsStable"], 30)
    time.sleep(1)
    bridge_factory(orthanc, server.address, "--model", "nodule_blob")
    time.sleep(2)
    new = orthanc.store(small_study(tmp_path / "new", 68))
    assert wait_for(lambda: orthanc.answered(new), 60), bridge_factory.text()
    assert orthanc.flag(new) == "nodule_blob 1 (DEMONSTRATION): NOT_DELIVERED"
    assert orthanc.findings(new)["runs"] == []
    assert orthanc.flag(old) is None
