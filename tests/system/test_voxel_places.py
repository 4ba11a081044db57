"""Every voxel of series without a digest in truth.json: at the place where independent files and readers have it."""
import hashlib
import json

import nibabel
import numpy
import pydicom
import pytest
from conftest import tomoctl
from test_truth import affine_lps

LPS = numpy.diag([-1.0, -1.0, 1.0, 1.0])  # NIfTI's coordinates are RAS


def digest(values):
    """voxelsSha256 of values [i][j][k]."""
    return hashlib.sha256(numpy.rint(values).astype("<i2").transpose(2, 1, 0).tobytes()).hexdigest()


def on_our_grid(values, nifti_affine, volume):
    """A NIfTI array [i][j][k] with its axes as those of `volume`; every voxel must lie on one of ours."""
    size = volume["sizeIjk"]
    theirs = numpy.linalg.inv(LPS @ nifti_affine) @ affine_lps(volume)
    indices = numpy.indices(size).reshape(3, -1)
    places = (theirs @ numpy.vstack([indices, numpy.ones(indices.shape[1])]))[:3]
    nearest = numpy.rint(places).astype(int)
    assert numpy.abs(places - nearest).max() < 0.02, "no voxel of theirs is at ours"
    assert (nearest.min(axis=1) == 0).all() and (nearest.max(axis=1) + 1 == values.shape).all()
    return values[tuple(nearest)].reshape(size)


@pytest.fixture(scope="module")
def volumes_of(test_data):
    def volumes(name):
        document = json.loads(tomoctl("inspect", test_data / "dicom" / name, "--json").stdout)
        (series,) = [series for series in document["series"] if series["volumes"]]
        return series["volumes"]

    return volumes


@pytest.fixture(scope="module")
def reference(test_data):
    def load(pattern):
        (path,) = (test_data / "dicom").rglob(pattern)
        return nibabel.load(path)

    return load


def flips():
    return ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))


def test_an_enhanced_series_in_time(volumes_of, reference):
    volumes = volumes_of("mr_siemens_enh")
    nifti = reference("Siemens_REST1_w_SMS_PF7-8_6.nii")
    values = numpy.asarray(nifti.dataobj)
    assert len(volumes) == values.shape[3] == 4
    for time, volume in enumerate(volumes):
        ours = on_our_grid(values[..., time], nifti.affine, volume)
        assert volume["voxelsSha256"] == digest(ours), time
        for axes in flips():
            assert volume["voxelsSha256"] != digest(numpy.flip(ours, axes)), "the digest does not see a flip"


@pytest.mark.parametrize("echo", (1, 2))
def test_an_enhanced_series_of_two_echoes(test_data, volumes_of, reference, echo):
    volumes = volumes_of("mr_philips_enh_multiecho")
    nifti = reference(f"2001_WIP_fcMRI_Field_Mapping_enh_e{echo}.nii.gz")
    # The other tool uses Philips' private scaling: what it shares with ours are the stored values.
    stored = numpy.asarray(nifti.dataobj.get_unscaled())
    (path,) = [path for path in (test_data / "dicom" / "mr_philips_enh_multiecho").rglob("*") if path.is_file()
               and pydicom.misc.is_dicom(path)][:1]
    frames = pydicom.dcmread(path, stop_before_pixels=True).PerFrameFunctionalGroupsSequence
    slope = min(float(frame.PixelValueTransformationSequence[0].RescaleSlope) for frame in frames)  # of magnitudes
    digests = [volume["voxelsSha256"] for volume in volumes]
    assert digest(on_our_grid(stored, nifti.affine, volumes[0]) * slope) in digests[2 * (echo - 1):2 * echo]


def test_pixels_that_are_not_square(volumes_of, reference, test_data):
    (volume,) = volumes_of("mr_nonsquare_px")
    nifti = reference("002_non_isotropic_ground_truth.nii.gz")
    values = on_our_grid(numpy.asarray(nifti.dataobj, float), nifti.affine, volume)
    assert digest(values) == volume["voxelsSha256"]
    (expected,) = json.loads((test_data / "truth.json").read_text())["mr_nonsquare_px"]["series"]
    probes = expected["pydicom_gdcm"]["volume"]["probes_kji_value"]
    assert len(probes) == 6
    for k, j, i, value in probes:
        assert values[i, j, k] == pytest.approx(value, abs=1e-3), (i, j, k)


def read_by_pydicom(folder, volume):
    """Of each stack, in the order of Instance Number at each position, the values [i][j][k] on the volume's grid."""
    to_voxel = numpy.linalg.inv(affine_lps(volume))
    by_slice = {}
    for path in folder.rglob("*"):
        if not path.is_file() or not pydicom.misc.is_dicom(path):
            continue
        data = pydicom.dcmread(path)
        i, j, k, _ = to_voxel @ numpy.array([*data.ImagePositionPatient, 1.0], float)
        assert numpy.allclose([i, j, k - round(k)], 0, atol=0.02), "not on the grid"
        values = data.pixel_array.T * float(data.get("RescaleSlope", 1)) + float(data.get("RescaleIntercept", 0))
        by_slice.setdefault(round(k), []).append((int(data.InstanceNumber), values))
    assert sorted(by_slice) == list(range(volume["sizeIjk"][2]))
    stacks = [sorted(entries, key=lambda entry: entry[0]) for _, entries in sorted(by_slice.items())]
    return [numpy.stack([stack[n][1] for stack in stacks], axis=2) for n in range(len(stacks[0]))]


@pytest.mark.parametrize("name, stacks", (("mr_ge_4d", 5), ("mr_ge_dti", 2)))
def test_classic_slices_by_another_reader(test_data, volumes_of, name, stacks):
    volumes = volumes_of(name)
    values = [digest(stack) for stack in read_by_pydicom(test_data / "dicom" / name, volumes[0])]
    assert len(values) == stacks
    assert [volume["voxelsSha256"] for volume in volumes] == values
