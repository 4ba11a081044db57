"""The harness itself: what it lets pass and what not."""
import pathlib
import sys

import numpy
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from compare import compare_boxes, compare_labels  # noqa: E402

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
