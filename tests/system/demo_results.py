"""Results as the demo has them: made up, rendered, and read again."""
import html.parser
import json
import re
import subprocess

from conftest import ROOT

VOID = {"meta", "img", "input", "br"}


class Page(html.parser.HTMLParser):
    """A page's elements; `faults` names what is not closed as it was opened."""

    def __init__(self, text):
        super().__init__()
        self.open, self.faults, self.elements, self.words = [], [], [], []
        self.feed(text)
        self.close()
        self.faults += self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def render(study, results, *arguments):
    done = subprocess.run(["/usr/bin/python3", str(ROOT / "tools" / "render_findings.py"), str(study), str(results),
                           *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done, Page((results / "report.html").read_text(encoding="utf-8"))


def rows_of(page_file, table):
    """Text of the table's body rows that have a heading, cell by cell."""
    text = page_file.read_text(encoding="utf-8")
    found = re.search(rf'<table class="{table}">.*?</table>', text, re.DOTALL)
    rows = re.findall(r"<tr><th scope=\"row\".*?</tr>", found.group(0), re.DOTALL) if found else []
    return [[Page(cell).text for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)] for row in rows]


def finding_of(nodule, number=1):
    """A finding that is exactly a nodule of the truth."""
    centre, d = nodule["centre_lps_mm"], nodule["diameter_mm"]
    return {"trackingUid": f"2.25.{number}", "label": "nodule", "labelValue": 1, "score": 0.9, "calibration": "UNCALIBRATED",
            "centreLpsMm": centre, "boxLpsMm": {"min": [c - d / 2 for c in centre], "max": [c + d / 2 for c in centre]},
            "extentMm": [d, d, d], "longestDiameterMm": d, "longAxisMm": d, "shortAxisMm": d, "meanDiameterMm": d,
            "volumeMl": nodule["volume_ml"], "voxels": 1, "laterality": None, "keySopInstanceUid": "", "keySliceK": 0,
            "limitations": []}


def run_of(findings, state="DONE", flag=("FLAGGED", "URGENT"), failure=None):
    """A run as findings.json has it."""
    return {"runId": "r1", "model": "some_model", "version": "3", "state": state,
            "flag": {"state": flag[0], "level": flag[1], "reasons": []}, "failure": failure,
            "coverage": {"target": None, "extentMm": [], "syntheticSlices": 0, "series": [], "reasons": []},
            "findings": findings, "timingsMs": {},
            "provenance": {"model": "some_model", "version": "3", "regulatoryStatus": "DEMONSTRATION"}}


def write_results(folder, *runs):
    folder.mkdir(exist_ok=True)
    document = {"study": {"studyInstanceUid": "2.25.1", "accessionNumber": "A-SECRET"}, "runs": list(runs)}
    (folder / "findings.json").write_text(json.dumps(document))
    return folder
