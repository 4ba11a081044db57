"""lung_nodule_phantom, the demo's model: small, says where it stands, and finds a phantom's nodules where they are."""
import json
import math
import sys

from conftest import ROOT, phantom, tomoctl

sys.path.insert(0, str(ROOT / "tools"))
from findings_beside_truth import match  # noqa: E402

MODEL = "lung_nodule_phantom"
# Solid and part-solid, in the lung and on the pleura, beside what looks like them.
CHEST = ("--size", "300", "--slices", "150", "--spacing", "1.2,1.2,2", "--nodules", "5", "--nodule-size", "9,18", "--seed",
         "21", "--vary", "0.6", "--kernel", "standard", "--noise", "18", "--part-solid", "0.4", "--pleural", "0.3",
         "--look-alikes", "6")


def analyze(server, folder, output):
    tomoctl("analyze", folder, "--model", MODEL, "--output", output, server=server)
    return json.loads((output / "findings.json").read_text())["runs"][0]


def test_it_finds_nodules_of_9_mm_and_more_and_nothing_else(server_factory, tmp_path):
    server = server_factory(models=[ROOT / "models"])
    truth = phantom(tmp_path / "ct", *CHEST)
    assert {nodule["kind"] for nodule in truth["nodules"]} == {"solid", "part-solid"}
    assert {nodule["pleural"] for nodule in truth["nodules"]} == {True, False}
    run = analyze(server, tmp_path / "ct", tmp_path / "out")
    pairs, extra = match(run["findings"], truth["nodules"])
    assert all(finding is not None for _, finding in pairs), run["findings"]
    assert not extra, extra
    for nodule, finding in pairs:
        assert math.dist(nodule["centre_lps_mm"], finding["centreLpsMm"]) < nodule["diameter_mm"] / 4
    assert run["flag"]["state"] == "FLAGGED"
    assert run["provenance"]["regulatoryStatus"] == "DEMONSTRATION"

    # Thicker slices than it was trained on are no "no finding".
    phantom(tmp_path / "thick", "--size", "200", "--slices", "60", "--spacing", "1.8,1.8,5", "--nodules", "2", "--seed", "3")
    assert analyze(server, tmp_path / "thick", tmp_path / "thick_out")["flag"]["state"] == "NOT_APPLICABLE"


def test_it_is_small():
    assert (ROOT / "models" / MODEL / "1" / "model.ts").stat().st_size <= 5_000_000
