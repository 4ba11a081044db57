"""Files made to hurt, through the real server: each ends in a typed refusal at once, and nobody else notices."""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import time
import zlib

import grpc
import pytest
from conftest import BIN, MODELS, ROOT, Server, phantom, tomoctl

TESTS = pathlib.Path(os.environ.get("TOMOSERVE_TESTS", ROOT / "build" / "release" / "tests"))
UNDEFINED = 0xFFFFFFFF
LONG = ("OB", "OW", "SQ", "UN")
MIB = 1 << 20


def header(group, element, vr, length):
    """An element's header in explicit little endian; the length need not be true."""
    tag = struct.pack("<HH", group, element) + vr.encode()
    return tag + (b"\0\0" + struct.pack("<I", length) if vr in LONG else struct.pack("<H", length))


def text(group, element, vr, value):
    value = value.encode() if isinstance(value, str) else value
    value += b"\0" if vr == "UI" and len(value) % 2 else b" " * (len(value) % 2)
    return header(group, element, vr, len(value)) + value


def item(length):
    return struct.pack("<HHI", 0xFFFE, 0xE000, length)


END_OF_SEQUENCE = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


IDENTITY = (text(0x0008, 0x0016, "UI", "1.2.840.10008.5.1.4.1.1.2") + text(0x0008, 0x0018, "UI", "2.25.77001")
            + text(0x0020, 0x000D, "UI", "2.25.77"))


def meta(syntax="1.2.840.10008.1.2.1", preamble=bytes(128)):
    """Preamble and meta header."""
    return preamble + b"DICM" + text(0x0002, 0x0010, "UI", syntax)


def start(syntax="1.2.840.10008.1.2.1", preamble=bytes(128)):
    """Meta header, and what makes a file an instance of a study."""
    return meta(syntax, preamble) + IDENTITY


def pixels(rows, columns, bits=16):
    numbers = [(0x0002, 1), (0x0010, rows), (0x0011, columns), (0x0100, bits), (0x0101, bits), (0x0102, bits - 1),
               (0x0103, 0)]
    encoded = b"".join(header(0x0028, element, "US", 2) + struct.pack("<H", value) for element, value in numbers)
    return encoded + text(0x0028, 0x0004, "CS", "MONOCHROME2")


def encapsulated(fragment):
    return (header(0x7FE0, 0x0010, "OB", UNDEFINED) + item(0) + item(len(fragment)) + fragment + END_OF_SEQUENCE)


def rle(offsets, data):
    return struct.pack("<16I", len(offsets), *offsets, *([0] * (15 - len(offsets)))) + data


def deflated(inflated_bytes):
    """A dataset that is a thousand times smaller than what it inflates to."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    chunk = compressor.compress(bytes(16 * MIB)) + compressor.flush(zlib.Z_FULL_FLUSH)
    again = compressor.compress(bytes(16 * MIB)) + compressor.flush(zlib.Z_FULL_FLUSH)
    head = zlib.compressobj(9, zlib.DEFLATED, -15)
    element = head.compress(IDENTITY + header(0x7FE0, 0x0010, "OW", inflated_bytes)) + head.flush(zlib.Z_FULL_FLUSH)
    return element + chunk + again * (inflated_bytes // (16 * MIB) - 1) + compressor.flush()


def enhanced(frames, text_bytes, uid="2.25.77002", study="2.25.77"):
    """A multi-frame image of one pixel a frame whose shared Frame Type, `text_bytes` long, is each frame's."""
    def sequence(element, items, group=0x5200):
        content = b"".join(item(len(one)) + one for one in items)
        return header(group, element, "SQ", len(content)) + content

    types = text(0x0008, 0x9007, "CS", "\\".join(["A" * 64] * (text_bytes // 64)))
    content = sequence(0x9111, [text(0x0020, 0x9056, "SH", "1")], 0x0020)
    return (meta() + text(0x0008, 0x0016, "UI", "1.2.840.10008.5.1.4.1.1.2.1") + text(0x0008, 0x0018, "UI", uid)
            + text(0x0008, 0x0060, "CS", "CT") + text(0x0020, 0x000D, "UI", study)
            + text(0x0028, 0x0008, "IS", str(frames)) + pixels(1, 1, 8)
            + sequence(0x9229, [sequence(0x9329, [types], 0x0018)]) + sequence(0x9230, [content] * frames)
            + header(0x7FE0, 0x0010, "OB", frames) + bytes(frames))


BOMBS = {
    "nested sequences, 216 KB": (lambda: start() + (header(0x0008, 0x1140, "SQ", UNDEFINED) + item(UNDEFINED)) * 10800,
                                 "NESTING_TOO_DEEP"),
    "nested sequences, implicit": (lambda: start("1.2.840.10008.1.2")
                                   + (struct.pack("<HHI", 0x0008, 0x1140, UNDEFINED) + item(UNDEFINED)) * 6000,
                                   "NESTING_TOO_DEEP"),
    "RLE header offset, 0.6 KB": (lambda: start("1.2.840.10008.1.2.5") + pixels(16, 16)
                                  + encapsulated(rle([64, 0x7FFFFFF0], bytes(200))), "MALFORMED"),
    "RLE of 65535 x 32767, 1.5 KB": (lambda: start("1.2.840.10008.1.2.5") + pixels(65535, 32767)
                                     + encapsulated(rle([64, 700], b"\x81" * 1200)), "PIXELS_TOO_LARGE"),
    "RLE of 16384 x 16384, 1.5 KB": (lambda: start("1.2.840.10008.1.2.5") + pixels(16384, 16384)
                                     + encapsulated(rle([64, 700], b"\x81" * 1200)), "PIXELS_MISSING"),
    "deflated, 1 MB of 1 GB": (lambda: meta("1.2.840.10008.1.2.1.99") + deflated(1024 * MIB),
                               "UNSUPPORTED_TRANSFER_SYNTAX"),
    "4 M empty items, 32 MB": (lambda: start() + header(0x0008, 0x1140, "SQ", UNDEFINED) + item(0) * 4_000_000
                               + END_OF_SEQUENCE,
                               "TOO_MANY_ELEMENTS"),
    "1.2 M empty elements": (lambda: start() + header(0x0029, 0x0010, "LO", 0) * 1_200_000, "TOO_MANY_ELEMENTS"),
    "1.2 M empty fragments": (lambda: start("1.2.840.10008.1.2.4.70") + pixels(16, 16)
                              + header(0x7FE0, 0x0010, "OB", UNDEFINED) + item(0) * 1_200_000 + END_OF_SEQUENCE,
                              "TOO_MANY_ELEMENTS"),
    "65535 x 65535, nothing there": (lambda: start() + pixels(65535, 65535) + header(0x7FE0, 0x0010, "OW", 2) + b"xx",
                                     "PIXELS_TOO_LARGE"),
    "2^31 frames": (lambda: start() + text(0x0028, 0x0008, "IS", "2147483647") + pixels(65535, 65535)
                    + header(0x7FE0, 0x0010, "OW", 2) + b"xx", "PIXELS_TOO_LARGE"),
    "an element of 4 GB in 1 KB": (lambda: start() + header(0x7FE0, 0x0010, "OW", 0xFFFFFFFE) + bytes(600),
                                   "ELEMENT_TOO_LARGE"),
    "65536 frames that share 960 B": (lambda: enhanced(65536, 960), "HEADER_TOO_LARGE"),
    "pixel data that is not there": (lambda: start() + pixels(512, 512) + header(0x7FE0, 0x0010, "OW", 600)
                                     + bytes(600), "PIXELS_MISSING"),
    "a program of Windows": (lambda: start(preamble=b"MZ" + bytes(126)) + pixels(2, 2), "EXECUTABLE_PREAMBLE"),
    "a program of Linux": (lambda: start(preamble=b"\x7fELF" + bytes(124)) + pixels(2, 2), "EXECUTABLE_PREAMBLE"),
    "a shell script": (lambda: start(preamble=b"#!/bin/sh\n" + bytes(118)) + pixels(2, 2), "EXECUTABLE_PREAMBLE"),
    "JPEG XL": (lambda: start("1.2.840.10008.1.2.4.111") + pixels(2, 2), "UNSUPPORTED_TRANSFER_SYNTAX"),
    "one element that ends nowhere": (lambda: start() + header(0x0010, 0x0010, "PN", 600) + b"Doe^John", "TRUNCATED"),
}


def requests(stubs, files, sent=None, completion=1):
    """The messages of a submission of (key, bytes)."""
    request = stubs.study_service.SubmitStudyRequest
    yield request(header=stubs.study.SubmissionHeader(completion=completion, models=[dict(name="nodule_blob")]))
    for key, data in files:
        yield request(instance=dict(instance_key=key, size_bytes=len(data)))
        for offset in range(0, len(data), MIB):
            yield request(chunk=dict(data=data[offset:offset + MIB]))
        if sent is not None:
            sent[key] = time.monotonic()
    yield request(end=dict(instances=len(files)))


class Submission:
    """What the server said of each instance, when, and of the whole."""

    def __init__(self, server, stubs, files, **options):
        stub = stubs.study_service_grpc.StudyServiceStub(
            grpc.insecure_channel(server.address, options=[("grpc.max_receive_message_length", -1)]))
        sent, self.instances, self.seconds, self.receipt, self.error = {}, {}, {}, None, None
        try:
            for event in stub.SubmitStudy(requests(stubs, files, sent, **options), timeout=300):
                if event.HasField("instance"):
                    self.instances[event.instance.instance_key] = event.instance
                    key = event.instance.instance_key
                    self.seconds[key] = time.monotonic() - sent.get(key, time.monotonic())
                elif event.HasField("receipt"):
                    self.receipt = event.receipt
        except grpc.RpcError as error:
            self.error = error

    def refusal(self, key):
        return self.instances[key].reason


def reset_peak(server):
    (pathlib.Path("/proc") / str(server.process.pid) / "clear_refs").write_text("5")


def peak_bytes(server):
    status = (pathlib.Path("/proc") / str(server.process.pid) / "status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.fixture(autouse=True)
def alive_afterwards(server):
    pid = server.process.pid
    yield
    assert server.alive() and server.process.pid == pid


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_at_once_and_cost_the_server_nothing(server, stubs, name):
    make, code = BOMBS[name]
    data = make()
    Submission(server, stubs, [("warm", start() + pixels(2, 2))])
    before = server.rss_bytes()
    reset_peak(server)
    began = time.monotonic()
    submission = Submission(server, stubs, [("bomb", data)])
    took = time.monotonic() - began
    assert submission.refusal("bomb").code == code
    assert submission.error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert took < 1.0, f"{took:.2f} s for {len(data)} bytes"
    assert peak_bytes(server) - before < 50 * MIB


def test_headers_of_many_frames_are_not_held_all_at_once(server, stubs):
    # Each is within the limits of one file, and its header takes more than 40 MiB of memory. None is kept:
    # they are of another study than the first one.
    files = [("slice", start() + pixels(2, 2, 8) + header(0x7FE0, 0x0010, "OB", 4) + bytes(4))]
    files += [(f"{n}", enhanced(65536, 192, f"2.25.7700{n}", "2.25.78")) for n in range(40)]
    Submission(server, stubs, files[:1])
    before = server.rss_bytes()
    reset_peak(server)
    submission = Submission(server, stubs, files)
    assert {submission.refusal(key).code for key, _ in files[1:]} == {"STUDY_MISMATCH"}
    # All of them would take 1.8 GB. What counts beside the 128 MiB that wait for judgement: each lease has one header
    # in the making, encoded and decoded, and freed memory that the allocator keeps for its thread.
    assert peak_bytes(server) - before < 800 * MIB


def test_refused_syntaxes_are_named(server, stubs):
    submission = Submission(server, stubs, [("xl", BOMBS["JPEG XL"][0]())])
    assert submission.refusal("xl").value == "1.2.840.10008.1.2.4.111"


def test_a_bomb_among_good_slices_is_refused_alone(server, stubs, tmp_path):
    phantom(tmp_path, "--size", "64", "--slices", "24", "--spacing", "5,5,6", "--nodules", "0", "--seed", "61")
    files = [(path.name, path.read_bytes()) for path in sorted(tmp_path.glob("*.dcm"))]
    for index, name in enumerate(list(BOMBS)[:5]):
        files.insert(3 * index, (name, BOMBS[name][0]()))
    submission = Submission(server, stubs, files)
    assert submission.receipt.instances_accepted == 24
    assert {status.instance_key for status in submission.receipt.refused} == set(list(BOMBS)[:5])


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Whole files of many syntaxes."""
    folder = tmp_path_factory.mktemp("bases")
    subprocess.run([str(ROOT / "tests" / "fuzz" / "make_bases"), str(BIN / "tomoctl"), str(folder)], check=True)
    return folder


CORPUS = ROOT / "tests" / "fuzz" / "corpus" / "dicom"


def test_500_damaged_files_end_in_typed_results_of_the_helpers(bases):
    done = subprocess.run([str(TESTS / "corrupted_files"), "--helper", str(BIN / "tomoserve-dicom"), "--count", "500",
                           "--seed", "2", "--base", str(bases), str(CORPUS)], capture_output=True, text=True,
                          timeout=300)
    result = json.loads(done.stdout)
    assert done.returncode == 0, result["bad"] or done.stderr[-2000:]
    assert sum(result["headers"].values()) == 500
    assert result["headers"]["OK"] > 100 and len(result["headers"]) > 8
    assert result["frames"]["OK"] > 50 and len(result["frames"]) >= 3
    assert result["helperPeakMiB"] < 2048


def test_500_damaged_files_in_one_study_hurt_nobody(server, stubs, bases, tmp_path):
    subprocess.run([str(TESTS / "corrupted_files"), "--write", str(tmp_path / "damaged"), "--count", "500",
                    "--seed", "3", "--base", str(bases), str(CORPUS)], check=True)
    phantom(tmp_path / "whole", "--size", "64", "--slices", "16", "--spacing", "5,5,6", "--nodules", "0", "--seed", "9")
    files = [(f"{path.parent.name}/{path.name}", path.read_bytes())
             for folder in ("whole", "damaged") for path in sorted((tmp_path / folder).glob("*.dcm"))]
    assert len(files) == 516
    before = server.rss_bytes()
    submission = Submission(server, stubs, files)
    assert submission.error is None, submission.error
    assert set(submission.instances) == {key for key, _ in files}
    for key, status in submission.instances.items():
        assert status.outcome != stubs.study.INSTANCE_OUTCOME_UNSPECIFIED, key
        if status.outcome == stubs.study.INSTANCE_OUTCOME_REFUSED:
            assert status.reason.code.isupper() and not status.reason.code.startswith("HELPER_"), (key, status.reason)
    assert sum(key.startswith("whole/") and status.outcome != stubs.study.INSTANCE_OUTCOME_REFUSED
               for key, status in submission.instances.items()) == 16
    assert max(submission.seconds.values()) < 5.0
    study = stubs.study_service_grpc.StudyServiceStub(grpc.insecure_channel(server.address))
    deadline = time.monotonic() + 120
    while True:
        answer = study.GetStudy(stubs.study_service.GetStudyRequest(
            study_instance_uid=submission.receipt.study_instance_uid))
        unfinished = (stubs.finding.RUN_STATE_QUEUED, stubs.finding.RUN_STATE_RUNNING)
        if all(run.state not in unfinished for run in answer.study.runs):
            break
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)
    assert server.rss_bytes() - before < 200 * MIB
    # The same files without a server: each is in a series or refused, by name.
    document = json.loads(tomoctl("inspect", tmp_path / "damaged", "--json", timeout=300).stdout)
    refused = {entry["file"] for entry in document["refused"]}
    read = [path.read_bytes() for path in (tmp_path / "damaged").glob("*.dcm") if path.name not in refused]
    assert len(read) + len(document["refused"]) == 500
    # Damage may leave two copies of a file the same: such an instance counts once.
    assert sum(series["instances"] for series in document["series"]) == len(set(read))
    assert all(refused["code"].isupper() for refused in document["refused"])


@pytest.fixture
def poisoned(tmp_path):
    """A server whose helper dies of every file that holds a mark."""
    library = TESTS / "libtomoserve_poison.so"
    if not library.exists():
        pytest.skip(f"not built: {library}")
    folder = tmp_path / "bin"
    folder.mkdir()
    shutil.copy2(BIN / "tomoserve", folder / "tomoserve")
    (folder / "tomoserve-worker").symlink_to(BIN / "tomoserve-worker")
    wrapper = folder / "tomoserve-dicom"
    wrapper.write_text(f"#!/bin/sh\nexport LD_PRELOAD={library}\nexec {BIN / 'tomoserve-dicom'}\n")
    wrapper.chmod(0o755)
    (tmp_path / "server").mkdir()
    own = Server(tmp_path / "server", [MODELS], programs=folder).start()
    yield own
    own.kill()


def test_a_file_that_kills_its_helper_twice_is_refused_and_the_rest_is_analysed(poisoned, stubs, tmp_path):
    import pydicom
    phantom(tmp_path / "ct", "--size", "64", "--slices", "24", "--spacing", "5,5,6", "--nodules", "0", "--seed", "62")
    paths = sorted((tmp_path / "ct").glob("*.dcm"))
    files = [(path.name, path.read_bytes()) for path in paths]
    poison = pydicom.dcmread(paths[7])
    poison.ImageComments = "TOMOSERVE-POISON"
    poison.SOPInstanceUID = "2.25.666"
    poison.save_as(tmp_path / "poison.dcm")
    files.insert(7, ("poison", (tmp_path / "poison.dcm").read_bytes()))
    submission = Submission(poisoned, stubs, files)
    assert submission.error is None, submission.error
    assert submission.refusal("poison").code == "HELPER_CRASHED"
    assert submission.refusal("poison").value == "11"
    assert submission.receipt.instances_accepted == 24 and submission.receipt.instances_refused == 1
    assert poisoned.alive()
    deaths = [line for line in poisoned.text().splitlines() if '"helper_died"' in line or "helper_died" in line]
    assert len(deaths) == 2, deaths
    stub = stubs.study_service_grpc.StudyServiceStub(grpc.insecure_channel(poisoned.address))
    deadline = time.monotonic() + 120
    while True:
        answer = stub.GetStudy(stubs.study_service.GetStudyRequest(
            study_instance_uid=submission.receipt.study_instance_uid))
        if all(run.state == stubs.finding.RUN_STATE_DONE for run in answer.study.runs):
            break
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)


@pytest.mark.parametrize("limit, name, code", [
    ("nesting: 3", "nested", "NESTING_TOO_DEEP"),
    ("elements: 12", "many", "TOO_MANY_ELEMENTS"),
    ("pixel_bytes: 1000", "pixels", "PIXELS_TOO_LARGE"),
    ("instance_bytes: 5000", "large", "INSTANCE_TOO_LARGE"),
    ("deflated: true", "deflated", "INFLATED_TOO_LARGE"),
])
def test_limits_come_from_the_configuration(server_factory, stubs, limit, name, code):
    nested = (header(0x0008, 0x1140, "SQ", UNDEFINED) + item(UNDEFINED)) * 4
    files = {"nested": start() + nested + (item(0)[:2] + b"\x0d\xe0" + bytes(4) + END_OF_SEQUENCE) * 4 + pixels(2, 2),
             "many": start() + pixels(2, 2) + header(0x0029, 0x0010, "LO", 0) * 2,
             "pixels": start() + pixels(32, 32) + header(0x7FE0, 0x0010, "OW", 2048) + bytes(2048),
             "deflated": meta("1.2.840.10008.1.2.1.99") + deflated(1024 * MIB),
             "large": start() + pixels(2, 2) + header(0x0029, 0x1010, "OB", 6000) + bytes(6000)}
    own = server_factory(config=f"limits {{ {limit} }}")
    before = own.rss_bytes()
    began = time.monotonic()
    assert Submission(own, stubs, [("file", files[name])]).refusal("file").code == code
    # Where deflated data is allowed the helper inflates it up to the limit.
    assert time.monotonic() - began < (5.0 if name == "deflated" else 1.0)
    assert own.rss_bytes() - before < 50 * MIB


def without(file, group, element):
    """The file without its element of a short VR, if it has it."""
    tag = struct.pack("<HH", group, element)
    places = (at for at in range(132, len(file) - 8) if file[at:at + 4] == tag and file[at + 4:at + 6].isalpha())
    at = next(places, None)
    return file if at is None else file[:at] + file[at + 8 + struct.unpack_from("<H", file, at + 6)[0]:]


def test_text_of_any_character_set_arrives_as_utf8(server, stubs, tmp_path):
    """Names of institutions in the header of a whole series; one that lies about its character set."""
    cases = {"ISO_IR 100": ("Hôpital".encode("latin-1"), "Hôpital"),
             "ISO_IR 13": ("ﾋﾞｮｳｲﾝ".encode("shift_jis"), "ﾋﾞｮｳｲﾝ"),
             "ISO_IR 144": ("Больница".encode("iso8859_5"), "Больница"),
             "ISO_IR 192": ("病院 €".encode(), "病院 €"),
             "GB18030": ("医院€".encode("gb18030"), "医院€"),
             "GBK": ("医院".encode("gbk"), "医院"),
             "\\ISO 2022 IR 87": (b"\x1b$B" + bytes(b & 0x7F for b in "病院".encode("euc_jp")) + b"\x1b(B", "病院"),
             "ISO_IR 192 ": ("Spital für".encode("latin-1"), "Spital f\N{REPLACEMENT CHARACTER}r")}
    phantom(tmp_path, "--size", "64", "--slices", "3", "--spacing", "5,5,6", "--nodules", "0", "--seed", "63")
    stub = stubs.study_service_grpc.StudyServiceStub(grpc.insecure_channel(server.address))
    for number, (charset, (value, expected)) in enumerate(cases.items()):
        files = []
        for path in sorted(tmp_path.glob("*.dcm")):
            whole = path.read_bytes()
            whole = without(whole, 0x0008, 0x0005)
            whole = without(whole, 0x0008, 0x0080)
            at = whole.index(struct.pack("<HH", 0x0020, 0x000D) + b"UI")
            whole = without(whole, 0x0020, 0x000D)
            whole = whole[:at] + text(0x0020, 0x000D, "UI", f"2.25.88{number}") + whole[at:]
            at = whole.index(struct.pack("<HH", 0x0008, 0x0008) + b"CS")
            whole = (whole[:at] + text(0x0008, 0x0005, "CS", charset.strip()) + text(0x0008, 0x0080, "LO", value)
                     + whole[at:])
            files.append((path.name, whole))
        submission = Submission(server, stubs, files)
        assert submission.error is None, (charset, submission.error)
        answer = stub.GetStudy(stubs.study_service.GetStudyRequest(
            study_instance_uid=submission.receipt.study_instance_uid))
        assert answer.study.ref.institution == expected, charset
        repaired = "CHARSET_REPAIRED" in [notice.code for notice in answer.study.notices]
        assert repaired == ("\N{REPLACEMENT CHARACTER}" in expected), charset
