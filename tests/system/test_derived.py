"""Series with one thing changed, and the exact verdict of each; random geometries there and back."""
import hashlib
import json
import math
import random

import numpy
import pytest
from conftest import tomoctl
from pydicom.uid import generate_uid
from series_writer import Geometry, rewrite, write_enhanced, write_series

SLICES, ROWS, COLUMNS = 12, 20, 24


def inspect(path):
    return json.loads(tomoctl("inspect", path, "--json").stdout)


def values(slices=SLICES, seed=1):
    """int16 [k][j][i], every slice different, tissue as a CT has it."""
    return numpy.random.default_rng(seed).integers(-199, 200, (slices, ROWS, COLUMNS), dtype=numpy.int16)


def sha256(voxels):
    return hashlib.sha256(voxels.astype("<i2").tobytes()).hexdigest()


def reasons(volume):
    return [(reason["code"], reason["value"]) for reason in volume["reasons"]]


def set_aside(document):
    return [(entry["count"], entry["reason"]) for entry in document["series"][0]["setAside"]]


@pytest.fixture
def stack(tmp_path):
    """A clean series: (folder, files in order of k, voxels)."""
    voxels = values()
    return tmp_path, write_series(tmp_path, voxels, Geometry(spacing_ij=(0.7, 0.9))), voxels


def only(folder):
    document = inspect(folder)
    (series,) = document["series"]
    (volume,) = series["volumes"]
    return volume


def test_clean(stack):
    folder, _, voxels = stack
    volume = only(folder)
    assert (volume["verdict"], reasons(volume)) == ("ACCEPT", [])
    assert volume["sizeIjk"] == [COLUMNS, ROWS, SLICES]
    assert volume["spacingMm"] == [0.7, 0.9, 2.5]
    assert volume["voxelsSha256"] == sha256(voxels)
    assert (volume["unit"], volume["syntheticSlices"], volume["analysedGrid"]) == ("HU", 0, None)


def test_shuffled(stack):
    folder, files, voxels = stack
    # Neither the files' names nor the instance numbers say where a slice lies.
    numbers = list(range(SLICES))
    random.Random(3).shuffle(numbers)
    for path, number in zip(files, numbers):
        rewrite(path, lambda data, number=number: setattr(data, "InstanceNumber", number))
        path.rename(path.with_name(f"x{number}.dcm"))
    volume = only(folder)
    assert (volume["verdict"], reasons(volume)) == ("ACCEPT", [])
    assert volume["voxelsSha256"] == sha256(voxels)


def test_duplicated(stack):
    folder, files, voxels = stack
    for path in files[3:6]:
        (folder / f"again-{path.name}").write_bytes(path.read_bytes())
    document = inspect(folder)
    assert document["series"][0]["instances"] == SLICES
    volume = only(folder)
    assert (volume["verdict"], reasons(volume)) == ("ACCEPT", [])
    assert volume["voxelsSha256"] == sha256(voxels)


def test_conflicting(stack):
    folder, files, _ = stack
    other = folder / "other.dcm"
    other.write_bytes(files[4].read_bytes())
    rewrite(other, lambda data: setattr(data, "PixelData", bytes(len(data.PixelData))))
    volume = only(folder)
    assert (volume["verdict"], reasons(volume)) == ("REJECT", [("DUPLICATE_CONFLICT", "1")])
    assert volume["voxelsSha256"] is None


@pytest.mark.parametrize("gone, code, value, verdict", [
    ([5], "MISSING_SLICES", "1", "RESAMPLE"), ([2, 3, 8], "MISSING_SLICES", "3", "RESAMPLE"),
    ([1, 2, 3, 4, 5, 6, 7, 8], "MISSING_SLICES", "8", "REJECT")])
def test_missing(stack, gone, code, value, verdict):
    folder, files, voxels = stack
    for k in gone:
        files[k].unlink()
    volume = only(folder)
    assert (volume["verdict"], reasons(volume)) == (verdict, [(code, value)])
    if verdict == "RESAMPLE":
        # The gap keeps its place, and only what was acquired is hashed.
        assert volume["sizeIjk"] == [COLUMNS, ROWS, SLICES]
        assert volume["spacingMm"][2] == pytest.approx(2.5, abs=1e-9)
        assert volume["syntheticSlices"] == len(gone)
        assert volume["voxelsSha256"] == sha256(numpy.delete(voxels, gone, axis=0))


def test_missing_at_the_end_is_a_shorter_volume(stack):
    folder, files, voxels = stack
    files[-1].unlink()
    volume = only(folder)
    assert (volume["verdict"], volume["sizeIjk"][2]) == ("ACCEPT", SLICES - 1)
    assert volume["voxelsSha256"] == sha256(voxels[:-1])


def test_tilted_by_15_degrees(tmp_path):
    tilt = math.radians(15)
    # The gantry leans: the slices' normal does, the table moves on along z.
    geometry = Geometry(column=(0, math.cos(tilt), -math.sin(tilt)), spacing_ij=(0.8, 0.8), step=(0, 0, 3))
    voxels = values()
    write_series(tmp_path, voxels, geometry)
    volume = only(tmp_path)
    assert (volume["verdict"], reasons(volume)) == ("RESAMPLE", [("GANTRY_TILT", "15")])
    assert volume["sizeIjk"] == [COLUMNS, ROWS, SLICES]
    assert volume["spacingMm"] == pytest.approx([0.8, 0.8, 3 * math.cos(tilt)], abs=1e-4)
    assert volume["directionK"] == pytest.approx([0, math.sin(tilt), math.cos(tilt)], abs=1e-4)
    assert volume["voxelsSha256"] == sha256(voxels)
    rows_moved = math.ceil((SLICES - 1) * 3 * math.sin(tilt) / 0.8)
    grid = volume["analysedGrid"]
    assert grid["sizeIjk"] == [COLUMNS, ROWS + rows_moved, SLICES]
    # The table moves against the column direction: the grid begins before the first slice.
    begin = numpy.array(volume["originLpsMm"]) - rows_moved * 0.8 * numpy.array(volume["directionJ"])
    assert grid["originLpsMm"] == pytest.approx(list(begin), abs=1e-3)


def test_spacing_changes(tmp_path):
    geometry = Geometry()
    write_series(tmp_path, values(), geometry,
                 change=lambda data, k: setattr(data, "ImagePositionPatient", ["0", "0", str(2.0 * k if k < 6 else 12 + 3.1 * (k - 6))]))
    volume = only(tmp_path)
    assert volume["verdict"] == "REJECT"
    assert [code for code, _ in reasons(volume)] == ["UNEVEN_SPACING"]
    smallest, median, largest = map(float, reasons(volume)[0][1].split(","))
    assert (smallest, median, largest) == pytest.approx((2.0, 2.0, 3.1), abs=1e-6)


def turned(data):
    data.ImageOrientationPatient = ["0.9998", "0.02", "0", "-0.02", "0.9998", "0"]


def smaller(data):
    data.Rows -= 2
    data.PixelData = data.PixelData[: data.Rows * data.Columns * 2]


ONE_SLICE = {
    "rotated": (turned, "MIXED_ORIENTATION"),
    "other_matrix": (smaller, "MIXED_MATRIX"),
    "other_pixel_spacing": (lambda data: setattr(data, "PixelSpacing", ["0.9", "0.72"]), "MIXED_SPACING"),
    "other_frame_of_reference": (lambda data: setattr(data, "FrameOfReferenceUID", "1.2.3"), "MIXED_FRAME_OF_REFERENCE"),
    "no_position": (lambda data: data.__delattr__("ImagePositionPatient"), "NO_POSITION"),
    "no_orientation": (lambda data: data.__delattr__("ImageOrientationPatient"), "NO_POSITION"),
    "no_spacing": (lambda data: data.__delattr__("PixelSpacing"), "NO_SPACING"),
}


@pytest.mark.parametrize("name", sorted(ONE_SLICE))
def test_one_slice_that_does_not_belong(stack, name):
    folder, files, _ = stack
    change, code = ONE_SLICE[name]
    # The last one: its absence leaves no gap that could be seen instead.
    rewrite(files[-1], change)
    document = inspect(folder)
    (volume,) = document["series"][0]["volumes"]
    assert (volume["verdict"], reasons(volume)) == ("REJECT", [(code, "1")])
    assert set_aside(document) == [(1, code)]


@pytest.mark.parametrize("name, code", [("no_position", "NO_POSITION"), ("no_spacing", "NO_SPACING")])
def test_no_slice_has_a_place(stack, name, code):
    folder, files, _ = stack
    for path in files:
        rewrite(path, ONE_SLICE[name][0])
    volume = only(folder)
    assert (volume["verdict"], reasons(volume)) == ("REJECT", [(code, str(SLICES))])
    assert volume["sizeIjk"] is None


def test_two_acquisitions(tmp_path):
    study, series = generate_uid(), generate_uid()
    voxels = [values(seed=seed) for seed in (1, 2)]
    for number in (0, 1):
        write_series(tmp_path, voxels[number], Geometry(), study=study, series=series,
                     change=lambda data, k: setattr(data, "AcquisitionNumber", number + 1))
    (found,) = inspect(tmp_path)["series"]
    assert [volume["verdict"] for volume in found["volumes"]] == ["ACCEPT", "ACCEPT"]
    assert [reasons(volume) for volume in found["volumes"]] == [[("SPLIT_BY", "acquisition_number")]] * 2
    assert [volume["voxelsSha256"] for volume in found["volumes"]] == [sha256(v) for v in voxels]


def test_same_positions_and_nothing_to_tell_them_apart(tmp_path):
    study, series = generate_uid(), generate_uid()
    for seed in (1, 2):
        write_series(tmp_path, values(seed=seed), Geometry(), study=study, series=series)
    volume = only(tmp_path)
    assert (volume["verdict"], reasons(volume)) == ("REJECT", [("DUPLICATE_POSITIONS", str(SLICES))])


def test_rescale_of_each_slice(tmp_path):
    stored = numpy.random.default_rng(4).integers(900, 1100, (SLICES, ROWS, COLUMNS), dtype=numpy.uint16)

    def change(data, k):
        data.RescaleSlope, data.RescaleIntercept = f"{1 + k / 32:.10g}", str(-1000 + k)

    write_series(tmp_path, stored, Geometry(), change=change)
    factors = numpy.arange(SLICES)[:, None, None]
    expected = stored * (1 + factors / 32) + (-1000 + factors)
    volume = only(tmp_path)
    assert (volume["verdict"], reasons(volume)) == ("ACCEPT", [])
    assert volume["voxelsSha256"] == sha256(numpy.rint(expected))  # half to even
    assert volume["min"] == pytest.approx(expected.min(), abs=1e-9)
    assert volume["mean"] == pytest.approx(expected.mean(), abs=1e-6)


def test_a_slice_without_rescale(stack):
    folder, files, _ = stack

    def change(data):
        del data.RescaleSlope, data.RescaleIntercept

    rewrite(files[4], change)
    volume = only(folder)
    assert (volume["verdict"], reasons(volume)) == ("REJECT", [("MIXED_RESCALE", "1")])


def test_truncated_slice(stack):
    folder, files, voxels = stack
    files[5].write_bytes(files[5].read_bytes()[:-100])
    document = inspect(folder)
    assert [refused["file"] for refused in document["refused"]] == [files[5].name]
    (volume,) = document["series"][0]["volumes"]
    assert (volume["verdict"], reasons(volume)) == ("RESAMPLE", [("MISSING_SLICES", "1")])
    assert volume["voxelsSha256"] == sha256(numpy.delete(voxels, 5, axis=0))


def test_mixed_syntaxes(stack):
    from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless
    folder, files, voxels = stack

    def implicit(data):
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        data.is_implicit_VR = True

    def big_endian(data):
        data.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        data.PixelData = data.pixel_array.astype(">i2").tobytes()
        data.is_little_endian = False

    for path in files[0::4]:
        rewrite(path, implicit)
    for path in files[1::4]:
        rewrite(path, lambda data: data.compress(RLELossless))
    for path in files[2::4]:
        rewrite(path, big_endian)
    volume = only(folder)
    assert (volume["verdict"], reasons(volume)) == ("ACCEPT", [])
    assert volume["voxelsSha256"] == sha256(voxels)


def random_geometry(generator):
    """Any orientation, stacks along or against row x column, pixels that are not square."""
    axes, _ = numpy.linalg.qr(generator.normal(size=(3, 3)))
    row, column = axes[:, 0], axes[:, 1]
    spacing = generator.uniform(0.3, 4, 3)
    step = numpy.cross(row, column) * spacing[2] * generator.choice([-1, 1])
    return Geometry(generator.uniform(-500, 500, 3), row, column, (spacing[0], spacing[1]), step)


@pytest.mark.parametrize("enhanced", [False, True], ids=["classic", "enhanced"])
def test_any_geometry_comes_back_voxel_for_voxel(tmp_path, enhanced):
    generator = numpy.random.default_rng(20)
    expected = {}
    for number in range(40):
        geometry = random_geometry(generator)
        size = generator.integers(3, 14, 3)
        modality = str(generator.choice(["CT", "MR", "PT"]))
        signed = bool(generator.integers(2))
        low, high = (-2000, 3000) if signed else (0, 4000)
        stored = generator.integers(low, high, size, dtype=numpy.int16 if signed else numpy.uint16)
        slope, intercept = int(generator.integers(1, 4)), int(generator.integers(-1024, 100))
        study, series = generate_uid(), generate_uid()
        if enhanced:
            order = generator.permutation(size[0])
            write_enhanced(tmp_path / f"{number}.dcm", stored, geometry, order, modality, slope, intercept, study, series)
        else:
            write_series(tmp_path / str(number), stored, geometry, modality, slope, intercept, study, series)
        expected[series] = (geometry, stored.astype(int) * slope + intercept)
    document = inspect(tmp_path)
    assert len(document["series"]) == len(expected) and not document["refused"]
    for series in document["series"]:
        geometry, voxels = expected[series["seriesInstanceUid"]]
        (volume,) = series["volumes"]
        # Random values are no patient's.
        assert (volume["verdict"], [c for c, _ in reasons(volume) if c != "HU_IMPLAUSIBLE"]) == ("ACCEPT", [])
        against = numpy.dot(numpy.cross(geometry.row, geometry.column), geometry.step) < 0
        first = geometry.position(len(voxels) - 1 if against else 0)
        if against:
            voxels = voxels[::-1]
        assert volume["sizeIjk"] == list(voxels.shape[::-1])
        assert volume["spacingMm"] == pytest.approx([*geometry.spacing_ij, numpy.linalg.norm(geometry.step)], abs=1e-4)
        assert volume["originLpsMm"] == pytest.approx(list(first), abs=1e-4)
        assert volume["directionI"] == pytest.approx(list(geometry.row), abs=1e-4)
        assert volume["directionJ"] == pytest.approx(list(geometry.column), abs=1e-4)
        assert volume["directionK"] == pytest.approx(list(numpy.cross(geometry.row, geometry.column)), abs=1e-4)
        assert volume["voxelsSha256"] == sha256(voxels)


def test_enhanced_time_points_and_types_are_volumes(tmp_path):
    voxels = [values(6, seed) for seed in range(4)]
    study, series = generate_uid(), generate_uid()
    for time in range(4):
        def change(frame, k, time=time):
            frame.FrameContentSequence[0].TemporalPositionIndex = 4 - time
        write_enhanced(tmp_path / f"{time}.dcm", voxels[time], Geometry(), range(5, -1, -1), "MR", study=study,
                       series=series, change=change)
    (found,) = inspect(tmp_path)["series"]
    assert (found["instances"], found["frames"]) == (4, 24)
    assert [reasons(volume) for volume in found["volumes"]] == [[("SPLIT_BY", "temporal_position")]] * 4
    assert [volume["voxelsSha256"] for volume in found["volumes"]] == [sha256(v) for v in voxels[::-1]]
