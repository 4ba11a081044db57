"""The harness itself: what it lets pass and what not."""
import json
import pathlib
import sys

import nibabel
import numpy
import pydicom
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from cases import find_cases  # noqa: E402
from compare import compare_boxes, compare_labels  # noqa: E402
from real_models import Reference, compare_cascade, compare_finder, compare_lung  # noqa: E402
from run_parity import modalities, read_labels  # noqa: E402

AXES = numpy.eye(3)


def labels(*shape):
    return numpy.arange(numpy.prod(shape)).reshape(shape) % 3


def test_equal_labels_pass_and_other_shapes_do_not():
    assert compare_labels(labels(4, 5, 6), labels(4, 5, 6), 0).passed
    assert not compare_labels(labels(4, 6, 5), labels(4, 5, 6), 10_000).passed


def test_one_and_a_half_times_the_noise_floor_may_differ():
    theirs = labels(10, 10, 10)
    for differ, passed in ((15, True), (16, False)):
        ours = theirs.copy()
        ours.ravel()[:differ] += 3
        assert compare_labels(ours, theirs, 10).passed == passed


def test_without_noise_two_of_100000_voxels_may_differ():
    theirs = labels(100, 100, 10)
    for differ, passed in ((2, True), (3, False)):
        ours = theirs.copy()
        ours.ravel()[:differ] += 3
        assert compare_labels(ours, theirs, 0).passed == passed


def test_a_swap_of_left_and_right_is_seen():
    theirs = numpy.zeros((4, 4, 8), int)
    theirs[:, :, :2] = 1
    assert not compare_labels(theirs[:, :, ::-1], theirs, 0).passed


@pytest.fixture
def series_in_time():
    """Two labels that move from one time point to the next: [t][k][j][i]."""
    volume = labels(5, 6, 7)
    return numpy.stack([numpy.roll(volume, point, axis=2) for point in range(3)]).astype(numpy.uint8)


def test_a_time_series_is_compared_at_each_of_its_points(series_in_time):
    assert compare_labels(series_in_time, series_in_time, 0).passed
    assert "3 time points" in compare_labels(series_in_time, series_in_time, 0).figure
    wrong = series_in_time.copy()
    wrong[2] = series_in_time[0]
    assert not compare_labels(wrong, series_in_time, 0).passed
    assert not compare_labels(series_in_time[::-1], series_in_time, 0).passed
    assert not compare_labels(series_in_time[0], series_in_time, 10_000).passed
    assert not compare_labels(series_in_time, series_in_time[0], 10_000).passed


def test_the_worst_time_point_gives_the_dice(series_in_time):
    wrong = series_in_time.copy()
    wrong[1][wrong[1] == 2] = 0
    assert compare_labels(wrong, series_in_time, 10_000).figure.endswith("lowest Dice 0.000000")


def test_label_maps_are_read_with_time_first(series_in_time, tmp_path):
    for array in (series_in_time, series_in_time[0]):
        nibabel.save(nibabel.Nifti1Image(array.transpose(), numpy.eye(4)), tmp_path / "labels.nii.gz")
        assert numpy.array_equal(read_labels(tmp_path / "labels.nii.gz"), array)


def test_a_case_in_time_expects_all_its_time_points(series_in_time, tmp_path):
    case = tmp_path / "moving"
    case.mkdir()
    noise = {"other_thread_count": [{"voxels_differ": 1}, {"voxels_differ": 0}, {"voxels_differ": 2}],
             "bfloat16_autocast_network": [{"voxels_differ": 500}]}
    (case / "case.json").write_text(json.dumps({"noise_floor": noise}))
    numpy.savez(case / "labels.npz", labels_tkji=series_in_time)
    (found,) = find_cases(tmp_path, tmp_path)
    (expected,) = found.expected()
    assert numpy.array_equal(expected.labels, series_in_time) and found.noise_voxels() == 3


def make_case(folder, document, **arrays):
    folder.mkdir()
    (folder / "case.json").write_text(json.dumps(document))
    if arrays:
        numpy.savez(folder / "labels.npz", **arrays)
    (found,) = find_cases(folder.parent, folder.parent / "data")
    return found


def test_plain_labels_of_nnunet_are_without_mirroring(tmp_path):
    times = {"no_tta_infer_s": 3.5, "tta_infer_s": 28, "pre_s": 1}
    plain, mirrored = labels(4, 5, 6), labels(4, 5, 6)[::-1]
    document = {"kind": "nnunet_v2", "model": {"files": ["model.ts"]}, "times_this_machine": times}
    (tmp_path / "alone").mkdir()
    (alone,) = make_case(tmp_path / "alone" / "case", document, labels_kji=plain).expected()
    assert alone.import_options == ["--no-mirroring"] and alone.seconds == 3.5
    (tmp_path / "both").mkdir()
    first, second = make_case(tmp_path / "both" / "case", document, labels_kji=plain, labels_tta_kji=mirrored).expected()
    assert first.import_options == ["--no-mirroring"] and first.seconds == 3.5
    assert second.import_options == [] and second.seconds == 28 and numpy.array_equal(second.labels, mirrored)


def test_labels_of_a_bundle_are_as_it_imports(tmp_path):
    document = {"kind": "monai_segmentation", "model": {"file": "model.ts"}, "times_this_machine": {"infer_s": 2}}
    (only,) = make_case(tmp_path / "case", document, labels_kji=labels(4, 5, 6)).expected()
    assert only.import_options == [] and only.seconds == 2 and only.models is None


def test_a_network_that_was_exported_twice_has_to_give_the_same(tmp_path):
    document = {"model": {"file": "model.ts", "list_output_file": "model_list_output.ts"}}
    case = make_case(tmp_path / "case", document)
    for file in ("boxes.json", "boxes_monai_1_5.json"):
        (case.folder / file).write_text(json.dumps({"boxes": [file]}))
    old, new, listed = case.expected()
    assert old.models is None and new.models is None and new.import_options == ["--monai-version", "1.6.1"]
    assert listed.models == [case.folder / "model_list_output.ts"] and listed.name == "case, list output"
    assert listed.boxes == ["boxes_monai_1_5.json"] and listed.import_options == []
    document["model"]["list_output_file"] = None
    (case.folder / "case.json").write_text(json.dumps(document))
    assert len(find_cases(tmp_path, tmp_path)[0].expected()) == 2


def write_dicom(path, modality):
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.Modality = modality
    dataset.is_little_endian, dataset.is_implicit_VR = True, False
    dataset.save_as(path)


def test_a_series_may_be_one_file(tmp_path):
    folder = tmp_path / "data" / "dicom" / "mixed"
    write_dicom(folder / "one.dcm", "MR")
    write_dicom(folder / "other.dcm", "CT")
    (folder / "notes.txt").write_text("no DICOM")
    cases = tmp_path / "cases"
    (cases / "case").mkdir(parents=True)
    for series, names, modalities_of in (("mixed/one.dcm", ["one.dcm"], ["MR"]), ("mixed", None, ["CT", "MR"])):
        (cases / "case" / "case.json").write_text(json.dumps({"series": series}))
        (case,) = find_cases(cases, tmp_path / "data")
        written = case.write_series(tmp_path / "written")
        assert modalities(written) == modalities_of
        assert names is None or [path.name for path in written.iterdir()] == names


def box(x, score=0.5, label=0):
    return {"score": score, "label": label, "box_world_lps_cccwhd_mm": [x, 0, 0, 4, 5, 6]}


def finding(x, score=0.5, label="nodule", extent=(4, 5, 6)):
    return {"centreLpsMm": [x, 0, 0], "extentMm": list(extent), "score": score, "label": label}


@pytest.mark.parametrize("change", [{"x": 10.06}, {"score": 0.502}, {"label": "other"}, {"extent": (4, 6, 5)}])
def test_a_box_that_is_off_is_not_matched(change):
    right = {"x": 10, "score": 0.5, "label": "nodule", "extent": (4, 5, 6)}
    assert compare_boxes([finding(**right)], [box(10)], ["nodule", "other"], AXES).passed
    assert not compare_boxes([finding(**{**right, **change})], [box(10)], ["nodule", "other"], AXES).passed


def test_of_fifty_boxes_one_may_be_missing_or_too_many_and_none_counts_twice():
    boxes = [box(10 * n) for n in range(50)]
    findings = [finding(10 * n) for n in range(50)]
    assert compare_boxes(findings[:49], boxes, ["nodule"], AXES).passed
    assert not compare_boxes(findings[:48], boxes, ["nodule"], AXES).passed
    assert compare_boxes([*findings, finding(777)], boxes, ["nodule"], AXES).passed
    assert not compare_boxes([*findings, finding(777), finding(888)], boxes, ["nodule"], AXES).passed
    assert not compare_boxes([findings[0]] * 50, boxes, ["nodule"], AXES).passed


def test_extents_are_those_of_the_volumes_axes():
    sagittal = numpy.array([[0, 1, 0], [0, 0, -1], [1, 0, 0]])  # i to the back, j to the feet, k to the left
    assert compare_boxes([finding(10, extent=(5, 6, 4))], [box(10)], ["nodule"], sagittal).passed


@pytest.fixture
def real(tmp_path):
    """A reference as that of the real networks, small: one lung, one component of eight 2 mm voxels."""
    folder = tmp_path / "chest_ct_A0001"
    folder.mkdir()
    lung = numpy.zeros((6, 8, 10), bool)
    lung[1:5, 2:6, 2:8] = True
    probability = numpy.zeros((6, 8, 10), numpy.uint8)
    probability[2:4, 3:5, 4:6] = 255
    expected = {"lung_2d": {"voxels": 96, "volume_ml": 0.768, "centroid_lps_mm": [1, 2, 3],
                            "voxels_within_1e-3_of_threshold": 2},
                "nodule_finder_d8": {"components": [
                    {"voxels_2mm": 8, "max_probability": 1.0, "centroid_lps_mm": [5, 6, 7]}]}}
    (folder / "expected.json").write_text(json.dumps(expected))
    affine = numpy.diag([2.0, 2, 2, 1])
    numpy.savez(folder / "lung_2d.npz", lung=numpy.packbits(lung), shape=lung.shape)
    numpy.savez(folder / "nodule_finder_d8.npz", probability_u8=probability, affine_ras=affine)
    return Reference(tmp_path), lung, probability > 127, affine


def test_the_lung_may_differ_by_the_voxels_at_the_threshold(real):
    reference, lung, _, _ = real
    run = {"findings": [{"volumeMl": 0.768, "centreLpsMm": [1, 2, 3]}]}
    for differ, passed in ((0, True), (2, True), (3, False)):
        labels = lung.astype(numpy.uint8)
        labels.ravel()[:differ] = 1
        assert compare_lung(run, labels, reference).passed == passed
    assert not compare_lung({"findings": []}, lung, reference).passed
    assert not compare_lung({"findings": [{"volumeMl": 0.768, "centreLpsMm": [1, 2, 3.1]}]}, lung, reference).passed


@pytest.mark.parametrize("change", [{}, {"voxels": 7}, {"score": 0.99}, {"centreLpsMm": [5, 6, 7.1]}, {"volumeMl": 0.07}])
def test_the_finder_finds_pythons_components(real, change):
    reference, _, mask, affine = real
    image = nibabel.Nifti1Image(mask.astype(numpy.uint8).transpose(), affine)
    right = {"voxels": 8, "score": 1.0, "centreLpsMm": [5, 6, 7], "volumeMl": 0.064}
    compared = compare_finder({"findings": [{**right, **change}]}, image, mask, reference)
    assert compared.passed == (not change), compared
    assert not compare_finder({"findings": [right]}, image, numpy.roll(mask, 1, axis=2), reference).passed


def test_the_cascade_marks_what_lies_in_the_lungs_and_is_flagged(real):
    _, lung, mask, _ = real
    outside = mask.copy()
    outside[0, 0, 0] = True
    labels = {"lung_2d": lung, "nodule_finder_d8": outside, "nodule_finder_in_lung": mask}
    runs = {"nodule_finder_in_lung": {"flag": {"state": "FLAGGED"}}}
    assert compare_cascade(runs, labels).passed
    assert not compare_cascade(runs, {**labels, "nodule_finder_in_lung": outside}).passed
    runs["nodule_finder_in_lung"]["flag"]["state"] = "NO_FINDING"
    assert not compare_cascade(runs, labels).passed
