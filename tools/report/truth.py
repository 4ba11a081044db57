"""Findings beside a phantom's truth."""
import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Which finding is which nodule, by index; each is used at most once."""
    found: dict  # nodule index -> (finding index, distance of the centres in mm)
    missed: list  # nodule indices
    false: list  # finding indices

    def nodule_of(self, finding_index):
        """(nodule index, distance in mm) of a finding; None for a false one."""
        return next(((nodule, distance) for nodule, (finding, distance) in self.found.items()
                     if finding == finding_index), None)

    def sentence(self):
        total = len(self.found) + len(self.missed)
        if total == 0:
            return f"no nodule is there, {len(self.false)} false"
        return f"{len(self.found)} of {total} nodules found, {len(self.missed)} missed, {len(self.false)} false"


def compare(findings, nodules, slack_mm=3.0):
    """Pairs findings and nodules, closest pairs first, as long as a finding's centre is not farther than `slack_mm`
    outside the nodule's edge."""
    near = sorted((math.dist(nodule["centre_lps_mm"], finding["centreLpsMm"]), n, f)
                  for n, nodule in enumerate(nodules) for f, finding in enumerate(findings))
    found, used = {}, set()
    for distance, n, f in near:
        if n not in found and f not in used and distance <= nodules[n]["diameter_mm"] / 2 + slack_mm:
            found[n] = (f, distance)
            used.add(f)
    return Comparison(found, [n for n in range(len(nodules)) if n not in found],
                      [f for f in range(len(findings)) if f not in used])


def match(findings, nodules, slack_mm=3.0):
    """Pairs (nodule, finding or None) in the nodules' order, and the findings that belong to no nodule."""
    comparison = compare(findings, nodules, slack_mm)
    pairs = [(nodule, findings[comparison.found[n][0]] if n in comparison.found else None)
             for n, nodule in enumerate(nodules)]
    return pairs, [findings[f] for f in comparison.false]


def kind_of(nodule):
    """What the truth says about a nodule beside place and size, e.g. "part-solid, pleural"; empty if nothing."""
    words = [str(nodule["kind"]).replace("_", "-")] if nodule.get("kind") else []
    return ", ".join(words + [trait for trait in ("pleural", "lobulated") if nodule.get(trait)])


def look_alike_at(finding, truth, slack_mm=5.0):
    """Kind of the truth's look-alike (a vessel crossing, a scar) nearest to a false finding; None if none is near."""
    near = [(math.dist(each["centre_lps_mm"], finding["centreLpsMm"]), str(each["kind"]).replace("_", "-"))
            for each in truth.get("look_alikes") or []]
    distance, kind = min(near, default=(math.inf, None))
    return kind if distance <= finding["longestDiameterMm"] / 2 + slack_mm else None
