"""The two real trained networks of the shared data on a real patient, against what plain Python gave."""
import json
import pathlib
import subprocess

import nibabel
import numpy
import scipy.ndimage
from compare import Comparison

NAME = "real networks"
SERIES = "chest_ct_A0001"
MODELS = ("nodule_finder_in_lung", "lung_2d", "nodule_finder_d8")


class Reference:
    """What `make.py` beside the networks wrote for the series."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder) / SERIES
        self.expected = json.loads((self.folder / "expected.json").read_text())

    @property
    def components(self):
        return self.expected["nodule_finder_d8"]["components"]


def labels_kji(path):
    return numpy.asarray(nibabel.load(path).dataobj).transpose(2, 1, 0)


def read(folder):
    """Runs of the study by model, and their label maps [k][j][i]."""
    folder = pathlib.Path(folder)
    runs = {run["model"]: run for run in json.loads((folder / "findings.json").read_text())["runs"]}
    return runs, {name: labels_kji(folder / f"labels_{name}.nii.gz") for name in runs}


def judged(wrong, figure, allowed):
    return Comparison(not wrong, "; ".join([figure, *wrong]), allowed)


def compare_lung(run, labels, reference):
    """The Python run had some voxels within 1e-3 of the threshold. No probabilities were kept, so which ones these are is
    not known: what can be said is that there are no more differences than such voxels, and the same volume."""
    expected = reference.expected["lung_2d"]
    archive = numpy.load(reference.folder / "lung_2d.npz")
    truth = numpy.unpackbits(archive["lung"])[: numpy.prod(archive["shape"])].reshape(archive["shape"]) > 0
    may = expected["voxels_within_1e-3_of_threshold"]
    wrong = []
    if labels.shape != truth.shape:
        return Comparison(False, f"shape {labels.shape}, not {truth.shape}", f"{may} voxels")
    differ = int(numpy.count_nonzero((labels > 0) != truth))
    if differ > may or abs(numpy.count_nonzero(labels) - expected["voxels"]) > may:
        wrong.append(f"{numpy.count_nonzero(labels)} voxels of lung, not {expected['voxels']}")
    if len(run["findings"]) != 1:
        wrong.append(f"{len(run['findings'])} findings, not 1")
    else:
        (lung,) = run["findings"]
        if abs(lung["volumeMl"] - expected["volume_ml"]) > 0.1:
            wrong.append(f"{lung['volumeMl']} ml, not {expected['volume_ml']}")
        if numpy.abs(numpy.subtract(lung["centreLpsMm"], expected["centroid_lps_mm"])).max() > 0.05:
            wrong.append(f"centre {lung['centreLpsMm']}, not {expected['centroid_lps_mm']}")
    return judged(wrong, f"{differ} of {truth.size} voxels", f"{may} voxels, those within 1e-3 of the threshold")


def nearest_on(image, probability, affine_ras):
    """Masks [k][j][i] of what a label map's voxels may be: where all 2 mm voxels that are nearest to a voxel's centre are
    over one half, and where any is. There are several where a slice lies halfway between two of them."""
    steps = numpy.linalg.inv(affine_ras) @ image.affine  # diagonal: both grids follow the patient's axes
    over = probability > 127
    masks = []
    for combine in (numpy.logical_and, numpy.logical_or):
        mask = over
        for axis, size in zip((2, 1, 0), image.shape):
            place = steps[2 - axis, 2 - axis] * numpy.arange(size) + steps[2 - axis, 3]
            most = over.shape[axis] - 1
            low = numpy.clip(numpy.ceil(place - 0.5 - 1e-4), 0, most).astype(int)
            high = numpy.clip(numpy.floor(place + 0.5 + 1e-4), 0, most).astype(int)
            mask = combine(mask.take(low, axis), mask.take(high, axis))
        masks.append(mask)
    return masks


def compare_finder(run, image, labels, reference):
    """Findings are Python's components on the 2 mm grid, labels those carried over to the scan's slices. Slices are 5 mm
    apart: one of the components lies between two of them, and is found as well."""
    archive = numpy.load(reference.folder / "nodule_finder_d8.npz")
    every, some = nearest_on(image, archive["probability_u8"], archive["affine_ras"])
    finder = labels > 0
    wrong = []
    if not every.any() or (every & ~finder).any() or (finder & ~some).any():
        wrong.append("labels are not those of the nearest 2 mm voxels")
    wanted = reference.components
    found = sorted(run["findings"], key=lambda finding: -finding["voxels"])
    sizes = [finding["voxels"] for finding in found]
    if sizes != [component["voxels_2mm"] for component in wanted]:
        wrong.append(f"components of {sizes} voxels")
    worst_mm, worst_score = 0.0, 0.0
    for finding, component in zip(found, wanted):
        mm = numpy.abs(numpy.subtract(finding["centreLpsMm"], component["centroid_lps_mm"])).max()
        worst_mm, worst_score = max(worst_mm, mm), max(worst_score, abs(finding["score"] - component["max_probability"]))
        if abs(finding["volumeMl"] - component["voxels_2mm"] * 0.008) > 1e-6:
            wrong.append(f"{finding['volumeMl']} ml for {component['voxels_2mm']} voxels of 2 mm")
    if worst_mm > 0.05 or worst_score > 1e-3:
        wrong.append("centres or scores")
    return judged(wrong, f"{len(found)} of {len(wanted)} components, off by at most {worst_mm:.4f} mm and {worst_score:.1e} "
                         "in score", "none, 0.05 mm, 0.001 in score")


def components_inside(labels, region):
    """Of the 26-connected components of `labels` those that have a voxel in `region`."""
    parts, _ = scipy.ndimage.label(labels > 0, numpy.ones((3, 3, 3)))
    return numpy.isin(parts, numpy.setdiff1d(numpy.unique(parts[region > 0]), [0]))


def compare_cascade(runs, labels):
    """What the finder has found alone, as far as it lies in the lungs; and it is flagged."""
    inside = components_inside(labels["nodule_finder_d8"], labels["lung_2d"])
    differ = int(numpy.count_nonzero((labels["nodule_finder_in_lung"] > 0) != inside))
    state = runs["nodule_finder_in_lung"]["flag"]["state"]
    wrong = [] if state == ("FLAGGED" if inside.any() else "INCONCLUSIVE") else ["the flag"]
    if differ:
        wrong.append("labels")
    return judged(wrong, f"{differ} of {inside.size} voxels, {int(numpy.count_nonzero(inside))} marked, {state}",
                  "0 voxels of the finder's in the lungs")


def compare_all(folder, reference):
    """Of the whole series, analysed by all three models: [(name, Comparison, stage times in ms)]."""
    runs, labels = read(folder)
    image = nibabel.load(pathlib.Path(folder) / "labels_nodule_finder_d8.nii.gz")
    compared = {
        "lung_2d": compare_lung(runs["lung_2d"], labels["lung_2d"], reference),
        "nodule_finder_d8": compare_finder(runs["nodule_finder_d8"], image, labels["nodule_finder_d8"], reference),
        "nodule_finder_in_lung": compare_cascade(runs, labels),
    }
    return [(name, comparison, runs[name].get("timingsMs", {})) for name, comparison in compared.items()]


def make_repository(root, folder):
    subprocess.run([str(root / "script" / "shared-models"), str(folder)], check=True)
    return folder
