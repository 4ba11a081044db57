"""What there is to show of one run: its findings beside the truth, and the pictures of them."""
import dataclasses
import math
import typing

import numpy

from report import picture
from report.study import CannotDraw, read_labels, read_volume
from report.truth import compare, kind_of, look_alike_at

KEY_SLICES = 6
ZOOMS = 24
QUIET_SLICES = 6  # shown when there is nothing to point at

MARKS = {"DEMONSTRATION": "DEMONSTRATION: not for patients", "RESEARCH": "RESEARCH: not for diagnosis",
         "CLEARED": "Cleared for its stated use only"}


@dataclasses.dataclass
class Shown:
    """A picture that can be made at any size: `make(width, height, text_size)`, pixels."""
    title: str
    numbers: list  # indices of the findings on it
    alt: str
    make: typing.Callable
    aspect: float  # width / height
    nodule: int = None  # index of the missed nodule that a detail shows


def lps_text(lps):
    """A place as words, e.g. "L −91.8, P −9.5, S −31.2 mm"."""
    return ", ".join(f"{axis} {value:.1f}" for axis, value in zip("LPS", lps)).replace("-", "−") + " mm"


def file_name(run, runs):
    """What a run's files are called, as tomoctl does it: its model; model@version where the model ran in several
    versions."""
    versions = {other["version"] for other in runs if other["model"] == run["model"]}
    return run["model"] if len(versions) < 2 else f"{run['model']}@{run['version']}"


def label_files(results, name, names):
    """Label maps of a run by its file_name, one or one for each layer. A file of another of `names` is none:
    labels_lung_2d of lung."""
    longer = [other for other in names if other.startswith(f"{name}_")]
    paths = {*results.glob(f"labels_{name}.nii.gz"), *results.glob(f"labels_{name}_*.nii.gz")}
    return sorted(path for path in paths
                  if not any(path.name == f"labels_{other}.nii.gz" or path.name.startswith(f"labels_{other}_")
                             for other in longer))


class Scene:
    """A run of findings.json with everything needed to show it; `runs`: all of that file. `problems` says plainly what
    could not be drawn."""

    def __init__(self, run, study, results, truth, runs):
        self.run = run
        self.findings = run.get("findings") or []
        self.truth = truth or {}
        self.nodules = self.truth.get("nodules") or []
        state = (run.get("flag") or {}).get("state")
        self.looked = run["state"] == "DONE" and state in ("FLAGGED", "NO_FINDING", "INCONCLUSIVE")
        # What was not looked at is not measured against a truth.
        self.comparison = compare(self.findings, self.nodules) if truth is not None and self.looked else None
        self.problems, self.volume, self.labels = [], None, None
        self.times = any(finding.get("timePoint", 0) for finding in self.findings)  # else there is one, or none matters
        self.name = f"{run['model']} {run['version']}"
        self.mark = MARKS.get((run.get("provenance") or {}).get("regulatoryStatus"), "Not for patients")
        try:
            self.volume = read_volume(study, run)
            self.problems += self.volume.notes
        except CannotDraw as error:
            self.problems.append(str(error))
            return
        paths = label_files(results, file_name(run, runs), {file_name(other, runs) for other in runs})
        try:
            self.labels = read_labels(paths, self.volume)
        except CannotDraw as error:
            self.problems.append(str(error))
        if self.times:
            self.problems.append("Findings are of several time points (beginning at 0); all pictures are of the first one.")
        if self.findings and not paths:
            self.problems.append("No label map was saved: rings of the findings' diameters stand for outlines.")
        slices = len({self.volume.key_slice(finding) for finding in self.findings})
        if slices > KEY_SLICES or len(self.findings) > ZOOMS:
            self.problems.append(f"Drawn are {min(slices, KEY_SLICES)} of {slices} key slices and "
                                 f"{min(len(self.findings), ZOOMS)} of {len(self.findings)} findings, "
                                 "the most suspicious first; findings.json has all.")
        low, high, self.window_name = picture.window_for(self.volume, self.findings)
        self.window = low, high

    def flag(self):
        """The flag in words, e.g. "FLAGGED, URGENT", or the state of a run without an answer."""
        if self.run["state"] != "DONE":
            return self.run["state"]
        flag = self.run["flag"]
        return ", ".join(word.replace("_", " ") for word in (flag["state"], flag["level"]) if word)

    def tone(self):
        """How the flag is coloured: alarm, notice, calm or unknown."""
        flag = self.run["flag"]
        if self.run["state"] != "DONE" or flag["state"] in (None, "INCONCLUSIVE"):
            return "unknown"
        if flag["state"] == "FLAGGED":
            return "alarm" if flag["level"] in ("URGENT", "CRITICAL") else "notice"
        return "calm" if flag["state"] == "NO_FINDING" else "unknown"

    def reasons(self):
        """Why it is no plain answer, as sentences."""
        failure = [self.run["failure"]] if self.run.get("failure") else []
        texts = [reason["text"] or reason["code"] for reason in failure + (self.run["flag"].get("reasons") or [])]
        return [text[:1].upper() + text[1:] for text in texts]

    def headline(self):
        """The findings in one sentence."""
        if not self.findings:
            if self.run["state"] != "DONE":
                return "No answer"
            return "No findings: this model saw nothing in what it looked at" if self.looked else "Not looked at"
        longest = max(finding["longestDiameterMm"] for finding in self.findings)
        return f"{len(self.findings)} finding{'s' * (len(self.findings) > 1)}, the longest {longest:.1f} mm"

    def side(self, finding):
        """Side of the patient as the result states it, else judged from the body's middle in CT (then with a star)."""
        if finding.get("laterality"):
            return finding["laterality"].lower()
        if self.volume is None or self.volume.modality != "CT":
            return ""
        plane = self.volume.values[self.volume.key_slice(finding)] > -300
        if not plane.any():
            return ""
        j, i = (numpy.median(places) for places in numpy.nonzero(plane))
        middle = (self.volume.origin + i * self.volume.spacing[0] * self.volume.directions[0]
                  + j * self.volume.spacing[1] * self.volume.directions[1])[0]
        off = finding["centreLpsMm"][0] - middle
        return "middle*" if abs(off) < 10 else "left*" if off > 0 else "right*"

    def truth_of(self, finding_index):
        """(nodule index, nodule, distance in mm) of a finding, or None."""
        found = self.comparison.nodule_of(finding_index) if self.comparison else None
        return None if found is None else (found[0], self.nodules[found[0]], found[1])

    def what_is_there(self, finding_index):
        """What a false finding lies on, in words."""
        kind = look_alike_at(self.findings[finding_index], self.truth)
        return f"look-alike, {kind}" if kind else "nothing there"

    def kind(self, nodule):
        """The truth's words for a nodule."""
        return kind_of(nodule)

    def slice_title(self, k):
        """A slice's position: its index and its place along the stack's main axis."""
        place = self.volume.origin + k * self.volume.spacing[2] * self.volume.directions[2]
        axis = int(numpy.argmax(numpy.abs(self.volume.directions[2])))
        return f"{'LPS'[axis]} {place[axis]:.1f} mm, slice k {k} of {len(self.volume.values)}".replace("-", "−")

    def _edges_text(self, view):
        left, right, top, bottom = view.edges()
        return f"edges: left {left}, right {right}, top {top}, bottom {bottom}"

    def _slices(self):
        """(k, finding indices) of the slices to show, the most suspicious finding first."""
        if not self.findings:
            count = len(self.volume.values)
            shown = min(QUIET_SLICES, count)
            return [(round((number + 0.5) * count / shown - 0.5), []) for number in range(shown)]
        by_slice = {}
        for index, finding in enumerate(self.findings):
            by_slice.setdefault(self.volume.key_slice(finding), []).append(index)
        return list(by_slice.items())[:KEY_SLICES]

    def key_slices(self):
        """Pictures of the findings' key slices, cut to the body; of evenly spaced slices when there is no finding."""
        if self.volume is None:
            return []
        slices = self._slices()
        views = {k: picture.slice_view(self.volume, k, self.labels) for k, _ in slices}
        box = picture.body_box(views.values(), -500 if self.volume.modality == "CT" else self.window[0] * 0.9
                               + self.window[1] * 0.1)
        return [self._key_slice(k, indices, views[k].crop(*box)) for k, indices in slices]

    def _key_slice(self, k, indices, view):
        def make(width, height, text_size):
            made = picture.Picture(view, width, self.window, height, text_size).annotate().outline()
            for index in indices:
                finding = self.findings[index]
                made.number(finding["centreLpsMm"], str(index + 1), finding["longestDiameterMm"],
                            ring=self.labels is None)
            return made

        numbers = ", ".join(str(index + 1) for index in indices)
        what = f"finding{'s' * (len(indices) > 1)} {numbers} outlined" if indices else "no finding on it"
        return Shown(self.slice_title(k), indices, f"{self.slice_title(k)}: {what}; {self._edges_text(view)}", make,
                     view.size_mm[0] / view.size_mm[1])

    def _detail(self, lps, diameter_mm, index, nodule):
        k = int(numpy.clip(round(self.volume.to_voxel(lps)[2]), 0, len(self.volume.values) - 1))
        if index is not None:
            k = self.volume.key_slice(self.findings[index])
        side_mm = max(36.0, 2.2 * diameter_mm)
        view = picture.slice_view(self.volume, k, self.labels).around(lps, side_mm)

        def make(width, height, text_size):
            made = picture.Picture(view, width, self.window, height, text_size).annotate().outline()
            if nodule is not None or self.labels is None:
                made.number(lps, "", diameter_mm, True, picture.FINDING if nodule is None else picture.MISSED)
            return made

        what = f"finding {index + 1}" if nodule is None else f"missed nodule {nodule + 1} of the truth"
        alt = f"Detail of {what}, {view.size_mm[0]:.0f} mm wide, {self.slice_title(k)}; {self._edges_text(view)}"
        return Shown(what, [] if index is None else [index], alt, make, 1.0, nodule)

    def details(self):
        """Enlarged pictures: one for each finding, then one for each missed nodule."""
        if self.volume is None:
            return []
        found = [self._detail(finding["centreLpsMm"], finding["longestDiameterMm"], index, None)
                 for index, finding in enumerate(self.findings[:ZOOMS])]
        missed = self.comparison.missed if self.comparison else []
        return found + [self._detail(self.nodules[n]["centre_lps_mm"], self.nodules[n]["diameter_mm"], None, n)
                        for n in missed[:ZOOMS]]

    def overview(self):
        """The coronal overview with numbered places; None without a volume or where it would be a thin stripe."""
        if self.volume is None:
            return None
        view = picture.coronal_view(self.volume)
        if not 0.3 < view.size_mm[0] / view.size_mm[1] < 3.0:
            return None
        low, high = (float(value) for value in numpy.percentile(view.values, (1, 99.5)))

        def make(width, height, text_size):
            made = picture.Picture(view, width, (low, max(high, low + 1e-6)), height, text_size).annotate()
            for n in self.comparison.missed if self.comparison else []:
                made.number(self.nodules[n]["centre_lps_mm"], "missed", self.nodules[n]["diameter_mm"], True,
                            picture.MISSED)
            for index, finding in reversed(list(enumerate(self.findings[:ZOOMS]))):
                made.number(finding["centreLpsMm"], str(index + 1), finding["longestDiameterMm"], True)
            return made

        count = len(self.findings)
        what = f"the places of {count} finding{'s' * (count > 1)}" if count else "no findings"
        alt = f"Coronal overview, averaged from front to back, with {what}; {self._edges_text(view)}"
        return Shown("From the front, averaged over the depth", list(range(count)), alt, make,
                     view.size_mm[0] / view.size_mm[1])

    def stage_bars(self):
        """(stage, ms, share of the longest stage) in order, and the sum in ms."""
        timings = self.run.get("timingsMs") or {}
        longest = max(timings.values(), default=0) or 1
        return [(stage, ms, ms / longest) for stage, ms in timings.items()], math.fsum(timings.values())
