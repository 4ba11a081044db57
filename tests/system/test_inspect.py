"""tomoctl inspect against what a phantom was made of. Real series: test_truth.py; broken ones: test_derived.py."""
import hashlib
import json

import numpy
import pytest
from conftest import phantom, tomoctl


def inspect(path):
    return json.loads(tomoctl("inspect", path, "--json").stdout)


def only_volume(document):
    assert len(document["series"]) == 1, [series["seriesInstanceUid"] for series in document["series"]]
    (volume,) = document["series"][0]["volumes"]
    return volume


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big-endian", "rle", "jpeg-lossless", "jpeg-ls", "jpeg-2000"])
def test_phantom_comes_back_voxel_for_voxel(tmp_path, syntax):
    arguments = ["--size", "96", "--slices", "24", "--spacing", "3.5,3.5,5", "--nodules", "1", "--seed", "3"]
    raw = tmp_path / "raw.npy"
    truth = phantom(tmp_path / "series", "--syntax", syntax, *arguments)
    tomoctl("phantom", "--output", tmp_path / "again", "--raw", raw, *arguments)
    values = numpy.load(raw)
    volume = only_volume(inspect(tmp_path / "series"))
    assert volume["verdict"] == "ACCEPT", volume["reasons"]
    assert volume["sizeIjk"] == [96, 96, 24]
    assert volume["spacingMm"] == pytest.approx([3.5, 3.5, 5], abs=1e-6)
    assert volume["voxelsSha256"] == hashlib.sha256(values.astype("<i2").tobytes()).hexdigest()
    assert volume["min"] == values.min() and volume["max"] == values.max()
    assert truth["nodules"]


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PIR", "LSP"])
def test_orientations_give_their_axes(tmp_path, orientation):
    phantom(tmp_path, "--size", "64", "--slices", "20", "--spacing", "5,5,6", "--orientation", orientation,
            "--nodules", "0")
    volume = only_volume(inspect(tmp_path))
    towards = {"L": [1, 0, 0], "R": [-1, 0, 0], "P": [0, 1, 0], "A": [0, -1, 0], "S": [0, 0, 1], "I": [0, 0, -1]}
    assert volume["verdict"] == "ACCEPT", volume["reasons"]
    assert volume["directionI"] == pytest.approx(towards[orientation[0]], abs=1e-6)
    assert volume["directionJ"] == pytest.approx(towards[orientation[1]], abs=1e-6)
    row, column = numpy.array(towards[orientation[0]]), numpy.array(towards[orientation[1]])
    # k ascends along row x column whatever the phantom's third letter says (docs/GEOMETRY.md).
    assert volume["directionK"] == pytest.approx(list(numpy.cross(row, column)), abs=1e-6)


def test_a_file_that_cannot_be_read_is_refused_not_fatal(tmp_path):
    phantom(tmp_path, "--size", "64", "--slices", "8", "--spacing", "5,5,6", "--nodules", "0")
    (tmp_path / "memory.dcm").symlink_to("/proc/self/mem")  # whose first byte nobody can read
    document = inspect(tmp_path)
    assert only_volume(document)["verdict"] == "ACCEPT"
    assert [(refused["file"], refused["code"]) for refused in document["refused"]] == [("memory.dcm", "UNREADABLE")]


def test_text_files_are_refused_not_fatal(tmp_path):
    phantom(tmp_path, "--size", "64", "--slices", "8", "--spacing", "5,5,6", "--nodules", "0")
    (tmp_path / "notes.txt").write_text("not an image\n" * 20)
    document = inspect(tmp_path)
    assert only_volume(document)["verdict"] == "ACCEPT"
    assert {refused["code"] for refused in document["refused"]} == {"NOT_DICOM"}
