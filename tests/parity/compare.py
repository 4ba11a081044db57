"""How far an answer is from the reference's: voxels and Dice, or boxes."""
import dataclasses

import numpy

# Of all voxels, where the case's own noise floor is below it.
MAX_SHARE = 2e-5
# Of the case's own noise floor.
MAX_NOISE = 1.5
# Of a box's centre and extent, and of its score.
MAX_BOX_MM = 0.05
MAX_SCORE = 1e-3
# Of all boxes on either side.
MIN_MATCHED = 0.98


@dataclasses.dataclass
class Comparison:
    passed: bool
    figure: str   # what was counted
    allowed: str  # what it may be


def lowest_dice(ours, theirs):
    """Of all labels that either has but the background."""
    dice = 1.0
    for label in numpy.union1d(numpy.unique(ours), numpy.unique(theirs)):
        if label != 0:
            a, b = ours == label, theirs == label
            dice = min(dice, 2 * numpy.count_nonzero(a & b) / (numpy.count_nonzero(a) + numpy.count_nonzero(b)))
    return dice


def compare_labels(ours, theirs, noise_voxels):
    """Both uint [k][j][i], or [t][k][j][i]: then voxels are counted over all time points."""
    allowed = max(MAX_NOISE * noise_voxels, MAX_SHARE * theirs.size)
    if ours.shape != theirs.shape:
        return Comparison(False, f"shape {ours.shape}, not {theirs.shape}", f"{allowed:.0f} voxels")
    differ = int(numpy.count_nonzero(ours != theirs))
    times = zip(ours, theirs) if theirs.ndim == 4 else [(ours, theirs)]
    dice = min(lowest_dice(one, other) for one, other in times)
    where = f" in {len(theirs)} time points" if theirs.ndim == 4 else ""
    return Comparison(differ <= allowed, f"{differ} of {theirs.size} voxels{where}, lowest Dice {dice:.6f}",
                      f"{allowed:.0f} voxels")


def compare_boxes(findings, boxes, classes, directions):
    """`findings` of findings.json; `classes`: label names in the recipe's order; `directions`: rows i, j, k in LPS."""
    axes = numpy.argmax(numpy.abs(directions), axis=1)  # the patient axis of i, j, k
    free = list(findings)
    worst_mm, worst_score, matched = 0.0, 0.0, 0
    for box in boxes:
        world = numpy.array(box["box_world_lps_cccwhd_mm"])
        best = None
        for finding in free:
            if classes.index(finding["label"]) != box["label"]:
                continue
            mm = max(numpy.abs(numpy.array(finding["centreLpsMm"]) - world[:3]).max(),
                     numpy.abs(numpy.array(finding["extentMm"]) - world[3:][axes]).max())
            score = abs(finding["score"] - box["score"])
            if mm <= MAX_BOX_MM and score <= MAX_SCORE and (best is None or mm < best[0]):
                best = (mm, score, finding)
        if best is not None:
            free.remove(best[2])
            worst_mm, worst_score, matched = max(worst_mm, best[0]), max(worst_score, best[1]), matched + 1
    most = max(len(boxes), len(findings))
    return Comparison(matched >= MIN_MATCHED * most,
                      f"{matched} of {len(boxes)} boxes ({len(findings)} found), off by at most {worst_mm:.4f} mm and "
                      f"{worst_score:.1e} in score",
                      f"{MIN_MATCHED:.0%} within {MAX_BOX_MM} mm and {MAX_SCORE} in score")
