"""Label maps with a time axis, as clients write them. The server is a stand-in that answers with a made-up map."""
import hashlib
import json
import subprocess
from concurrent import futures

import grpc
import nibabel
import numpy
import pytest
from conftest import ROOT, phantom, tomoctl
from demo_results import finding_of, render, rows_of, run_of, write_results
from test_example_python import read_nrrd

SIZE_IJK = (7, 6, 5)
TIMES = 3


def map_of(stubs, times, layers=("",), size=SIZE_IJK, bytes_per_voxel=1):
    """LabelMapInfo of a sagittal grid."""
    info = stubs.finding.LabelMapInfo(bytes_per_voxel=bytes_per_voxel, time_points=times,
                                      layers=[stubs.finding.LabelLayer(name=name) for name in layers])
    info.grid.size_ijk[:], info.grid.spacing_mm[:] = size, (1.5, 2.0, 3.0)
    info.grid.origin_lps.x_mm, info.grid.origin_lps.y_mm, info.grid.origin_lps.z_mm = -10.0, 20.0, 30.0
    info.grid.direction_i[:], info.grid.direction_j[:], info.grid.direction_k[:] = (0, 1, 0), (0, 0, -1), (-1, 0, 0)
    return info


def values_of(times, layers=1, kind="u1"):
    """[t][layer][k][j][i], no two volumes alike."""
    shape = (times, layers, *reversed(SIZE_IJK))
    return numpy.random.default_rng(1).integers(0, 200, shape).astype(kind)


@pytest.fixture
def answering(stubs):
    """Starts a StudyService whose one run has `info` as label map and `payload` as its voxels; returns the address."""
    servers = []

    def start(info, payload, finding_times=(), said_bytes=None):
        module = stubs.study_service
        run = stubs.finding.Run(run_id="r1", model="beating", version="1", state="RUN_STATE_DONE", label_map=info)
        run.flag.state = stubs.finding.FLAG_STATE_NO_FINDING
        for number, time_point in enumerate(finding_times):
            run.findings.add(label="heart", score=0.5, key_slice_k=number, time_point=time_point)
        study = stubs.study.Study(runs=[run])
        receipt = stubs.study.SubmissionReceipt(study_instance_uid="2.25.1", run_ids=["r1"])

        class Service(stubs.study_service_grpc.StudyServiceServicer):
            def AnalyzeStudy(self, requests, context):
                for _ in requests:
                    pass
                for event in ({"receipt": receipt}, {"run": run}, {"study": study}):
                    yield module.AnalyzeStudyResponse(**event)

            def SubmitStudy(self, requests, context):
                yield module.SubmitStudyResponse(upload=module.UploadState(submission_id="s1"))
                for _ in requests:
                    pass
                yield module.SubmitStudyResponse(receipt=receipt)

            def WatchStudy(self, request, context):
                yield module.WatchStudyResponse(study=study)

            def DownloadResult(self, request, context):
                digest = hashlib.sha256(payload).hexdigest()
                size = len(payload) if said_bytes is None else said_bytes
                yield module.DownloadResultResponse(
                    info=module.ResultInfo(kind=request.kind, size_bytes=size, sha256=digest, label_map=info))
                for at in range(0, len(payload), 100):
                    yield module.DownloadResultResponse(data=payload[at:at + 100])

        server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
        stubs.study_service_grpc.add_StudyServiceServicer_to_server(Service(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    phantom(folder, "--size", "32", "--slices", "4", "--spacing", "10,10,40", "--nodules", "0")
    return folder


def analyze(address, study, output, *arguments):
    return tomoctl("--server", address, "analyze", study, "--output", output, "--save-labels", *arguments, check=False,
                   timeout=60)


@pytest.mark.parametrize("kind", ["u1", "<u2"])
def test_several_time_points_are_the_fourth_axis(answering, stubs, study, tmp_path, kind):
    values = values_of(TIMES, kind=kind)
    info = map_of(stubs, TIMES, bytes_per_voxel=values.itemsize)
    done = analyze(answering(info, values.tobytes()), study, tmp_path)
    assert done.returncode == 0, done.stderr
    image = nibabel.load(tmp_path / "labels_beating.nii.gz")
    assert image.header["dim"][:5].tolist() == [4, *SIZE_IJK, TIMES]
    assert image.header["pixdim"][1:5].tolist() == [1.5, 2.0, 3.0, 1.0]
    assert image.header.get_xyzt_units() == ("mm", "unknown")  # how far the time points are apart nobody says
    assert image.get_data_dtype() == values.dtype
    assert numpy.array_equal(numpy.asarray(image.dataobj).transpose(), values[:, 0])
    # NIfTI is RAS: x and y of the grid's LPS turned round.
    expected = [[0, 0, 3.0, 10], [-1.5, 0, 0, -20], [0, -2.0, 0, 30], [0, 0, 0, 1]]
    assert numpy.allclose(image.affine, expected)


def test_one_time_point_has_three_axes(answering, stubs, study, tmp_path):
    values = values_of(1)
    for times in (0, 1):  # older servers do not say it
        done = analyze(answering(map_of(stubs, times), values.tobytes()), study, tmp_path / str(times))
        assert done.returncode == 0, done.stderr
        image = nibabel.load(tmp_path / str(times) / "labels_beating.nii.gz")
        assert image.header["dim"][:4].tolist() == [3, *SIZE_IJK] and image.shape == SIZE_IJK
        assert numpy.array_equal(numpy.asarray(image.dataobj).transpose(), values[0, 0])


def test_each_layer_has_its_own_time_points(answering, stubs, study, tmp_path):
    values = values_of(TIMES, layers=2)
    done = analyze(answering(map_of(stubs, TIMES, ("left", "right")), values.tobytes()), study, tmp_path)
    assert done.returncode == 0, done.stderr
    for layer, name in enumerate(("left", "right")):
        image = nibabel.load(tmp_path / f"labels_beating_{name}.nii.gz")
        assert numpy.array_equal(numpy.asarray(image.dataobj).transpose(), values[:, layer]), name


@pytest.mark.parametrize("change,code", [
    ({"times": TIMES + 1}, "LABEL_MAP_SIZE"), ({"times": 1}, "LABEL_MAP_SIZE"), ({"times": 32767}, "LABEL_MAP_SIZE"),
    ({"times": 32768}, "NIFTI_SIZE"), ({"times": 2**32 - 1}, "NIFTI_SIZE"), ({"size": (2**16, 1, 1)}, "NIFTI_SIZE"),
    ({"size": (2**14, 2**14, 2**14)}, "GEOMETRY_INVALID"), ({"bytes_per_voxel": 0}, "LABEL_MAP_TYPE"),
    ({"bytes_per_voxel": 2}, "LABEL_MAP_SIZE"), ({"bytes_per_voxel": 3}, "LABEL_MAP_TYPE")])
def test_a_map_that_does_not_fit_what_is_said_of_it_is_an_error(answering, stubs, study, tmp_path, change, code):
    done = analyze(answering(map_of(stubs, **{"times": TIMES, **change}), values_of(TIMES).tobytes()), study, tmp_path)
    assert done.returncode == 1 and done.stderr.rpartition("tomoctl: ")[2].startswith(f"{code}: "), done.stderr
    assert not list(tmp_path.glob("*.nii.gz"))


def test_a_size_that_64_bits_cannot_hold_is_no_empty_map(answering, stubs, study, tmp_path):
    info = map_of(stubs, 2**14, ("x",) * 2**9, size=(2**14, 2**13, 2**13), bytes_per_voxel=2)  # 2^64 bytes
    done = analyze(answering(info, b""), study, tmp_path)
    assert done.returncode == 1 and "LABEL_MAP_SIZE: " in done.stderr, done.stderr
    assert not list(tmp_path.glob("*.nii.gz"))


@pytest.mark.parametrize("said_bytes", [2**63, 2**32, 0, 17])
def test_a_result_of_another_size_than_said_is_an_error(answering, stubs, study, tmp_path, said_bytes):
    address = answering(map_of(stubs, TIMES), values_of(TIMES).tobytes(), said_bytes=said_bytes)
    done = analyze(address, study, tmp_path)
    assert done.returncode == 1 and "RESULT_DAMAGED: " in done.stderr, done.stderr
    assert not list(tmp_path.glob("*.nii.gz"))


def columns(text):
    """Last words of the table's lines of findings, by their heading."""
    lines = [line.split() for line in text.splitlines() if line.startswith("  ")]
    return lines[0][-1], [line[-1] for line in lines[1:]]


def test_findings_say_in_which_time_point_they_are(answering, stubs, study, tmp_path):
    address = answering(map_of(stubs, TIMES), values_of(TIMES).tobytes(), finding_times=(0, 2))
    done = analyze(address, study, tmp_path)
    assert columns(done.stdout) == ("time", ["0", "2"])
    findings = json.loads((tmp_path / "findings.json").read_text())["runs"][0]["findings"]
    assert [finding["timePoint"] for finding in findings] == [0, 2]


def test_findings_of_a_single_volume_have_no_column_of_time(answering, stubs, study, tmp_path):
    address = answering(map_of(stubs, 1), values_of(1).tobytes(), finding_times=(0,))
    assert columns(analyze(address, study, tmp_path).stdout)[0] == "slice"


@pytest.mark.parametrize("times", [1, TIMES])
def test_the_example_writes_what_tomoctl_writes(answering, stubs, study, tmp_path, example_python, times):
    python, environment = example_python
    layers = ("left", "")  # a layer without a name is called by its number
    values = values_of(times, layers=2)
    address = answering(map_of(stubs, times, layers), values.tobytes(), finding_times=(0, times - 1))
    done = subprocess.run([str(python), str(ROOT / "examples" / "python" / "submit.py"), str(study), "--server", address,
                           "--labels", str(tmp_path)], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert columns(done.stdout) == (("time", ["0", "2"]) if times > 1 else ("volume", ["ml", "ml"]))
    for layer, name in enumerate(("left", "1")):
        voxels, affine = read_nrrd(tmp_path / f"labels_beating_{name}.nrrd")
        expected = values[:, layer] if times > 1 else values[0, layer]
        assert numpy.array_equal(voxels.transpose(), expected)
        assert numpy.allclose(affine, [[0, 0, -3.0, -10], [1.5, 0, 0, 20], [0, -2.0, 0, 30], [0, 0, 0, 1]])


def test_the_example_refuses_a_map_of_another_size(answering, stubs, study, tmp_path, example_python):
    python, environment = example_python
    address = answering(map_of(stubs, TIMES + 1), values_of(TIMES).tobytes())
    done = subprocess.run([str(python), str(ROOT / "examples" / "python" / "submit.py"), str(study), "--server", address,
                           "--labels", str(tmp_path)], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 1 and "LABEL_MAP_SIZE" in done.stderr, done.stderr
    assert not list(tmp_path.glob("*.nrrd"))


def test_the_report_says_in_which_time_point_a_finding_is(tmp_path):
    truth = phantom(tmp_path / "ct", "--size", "96", "--slices", "40", "--spacing", "4,4,8", "--nodules", "2")
    findings = [dict(finding_of(nodule, number), timePoint=2 * number) for number, nodule in enumerate(truth["nodules"])]
    said = "all pictures are of the first one"
    for several in (True, False):
        results = write_results(tmp_path / str(several), run_of(findings if several else findings[:1]))
        _, page = render(tmp_path / "ct", results)
        first = [row[0] for row in rows_of(results / "report.html", "findings")]
        assert first == (["1 time 0", "2 time 2"] if several else ["1"])
        assert (said in page.text) == several and page.faults == []
