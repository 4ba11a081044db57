"""The demo's pictures and page: what they show is what was found, and nothing breaks them."""
import json
import re
import subprocess
import sys

import numpy
import pydicom
import pytest
from conftest import ROOT, phantom, tomoctl
from demo_results import finding_of, render, rows_of, run_of, write_results
from PIL import Image

sys.path.insert(0, str(ROOT / "tools"))
from report.picture import coronal_view, letters  # noqa: E402
from report.scene import Scene, label_files  # noqa: E402
from report.study import CannotDraw, read_labels, read_volume  # noqa: E402


@pytest.fixture(scope="module")
def analysed(server, tmp_path_factory):
    """A small chest CT with three nodules, what the server made of it, and the page of it."""
    folder = tmp_path_factory.mktemp("analysed")
    truth = phantom(folder / "ct", "--size", "128", "--slices", "100", "--spacing", "2.8,2.8,3", "--nodules", "3", "--seed", "5")
    tomoctl("analyze", folder / "ct", "--model", "nodule_blob", "--output", folder / "out", "--save-labels", server=server)
    done, page = render(folder / "ct", folder / "out")
    run = json.loads((folder / "out" / "findings.json").read_text())["runs"][0]
    return folder, truth, run, page, done


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small chest CT that nothing analysed: (folder, truth)."""
    folder = tmp_path_factory.mktemp("small") / "ct"
    return folder, phantom(folder, "--size", "96", "--slices", "60", "--spacing", "3.8,3.8,5", "--nodules", "2", "--seed", "3")


def test_the_page_is_well_formed_and_needs_nothing_from_outside(analysed):
    folder, _, _, page, _ = analysed
    text = (folder / "out" / "report.html").read_text(encoding="utf-8")
    assert page.faults == []
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    sources = [attributes["src"] for attributes in page.all("img")]
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    assert not any("href" in attributes or "srcset" in attributes for _, attributes in page.elements)
    assert "url(" not in text and "@import" not in text and not re.search(r"https?://", text)


def test_the_page_can_be_read_without_seeing_it(analysed):
    page = analysed[3]
    assert page.all("html")[0]["lang"] == "en" and page.all("title")
    assert all("alt" in attributes for attributes in page.all("img"))
    assert all("scope" in attributes for attributes in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    described = [attributes["alt"] for attributes in page.all("img") if attributes["alt"]]
    assert any("Coronal overview" in alt and "edges: left R, right L, top S, bottom I" in alt for alt in described)


def test_the_table_has_every_finding_beside_its_nodule(analysed):
    folder, truth, run, page, _ = analysed
    assert run["findings"], "the phantom has nodules that the filter finds"
    rows = rows_of(folder / "out" / "report.html", "findings")
    assert [row[0] for row in rows] == [str(number + 1) for number in range(len(run["findings"]))]
    for row, finding in zip(rows, run["findings"]):
        assert [float(cell.replace("−", "-")) for cell in row[2:5]] == [round(value, 1) for value in finding["centreLpsMm"]]
        # In the phantom the body's middle is x = 0.
        assert row[5] == ("left*" if finding["centreLpsMm"][0] > 0 else "right*")
        assert row[7] == f"{finding['longestDiameterMm']:.1f}" and row[9] == f"{finding['score']:.3f}"
        nodule = truth["nodules"][int(re.match(r"nodule (\d+)", row[10]).group(1)) - 1]
        assert f"{nodule['diameter_mm']:.1f} mm" in row[10]
        off = numpy.linalg.norm(numpy.subtract(nodule["centre_lps_mm"], finding["centreLpsMm"]))
        assert row[11] == f"{off:.1f}"
    missed = rows_of(folder / "out" / "report.html", "missed")
    assert len(rows) + len(missed) == len(truth["nodules"])
    assert f"{len(rows)} of {len(truth['nodules'])} nodules found, {len(missed)} missed, 0 false" in page.text


def test_the_page_says_what_the_run_was(analysed):
    _, _, run, page, done = analysed
    assert f"{run['flag']['state']}, {run['flag']['level']}" in page.text
    assert "DEMONSTRATION: not for patients" in page.text and "nodule_blob 1" in page.text
    for stage, ms in run["timingsMs"].items():
        assert f"{stage} {ms:.1f}" in page.text
    for value in (run["provenance"]["build"], run["provenance"]["inputDigest"], run["coverage"]["target"]):
        assert value in page.text
    assert "contact_sheet.png" in done.stdout and "report.html" in done.stdout


def test_the_contact_sheet_shows_the_findings(analysed):
    folder, _, run, _, _ = analysed
    path = folder / "out" / "contact_sheet.png"
    sheet = Image.open(path)
    assert sheet.width == 1400 and 500 < sheet.height < 2500 and path.stat().st_size < 600_000
    colours = dict((colour, count) for count, colour in sheet.convert("RGB").getcolors(1 << 16))
    assert colours.get((255, 196, 0), 0) > 40_000  # the mark over the full width, outlines, numbers
    plain = folder / "plain"
    without = dict(run, findings=[])
    write_results(plain, without)
    render(folder / "ct", plain, "--truth", folder / "none.json")
    bare = dict((colour, count) for count, colour in Image.open(plain / "contact_sheet.png").convert("RGB").getcolors(1 << 16))
    assert colours[(255, 196, 0)] > bare[(255, 196, 0)] + 500


def test_outlines_lie_on_the_nodules(analysed):
    folder, truth, run, _, _ = analysed
    volume = read_volume(folder / "ct", run)
    labels = read_labels([folder / "out" / "labels_nodule_blob.nii.gz"], volume)
    for finding in run["findings"]:
        k, j, i = numpy.nonzero(labels)
        places = volume.origin + numpy.stack([i, j, k], 1) * volume.spacing @ volume.directions
        near = numpy.linalg.norm(places - finding["centreLpsMm"], axis=1) < finding["longestDiameterMm"]
        assert near.sum() == finding["voxels"]
        assert numpy.allclose(places[near].mean(axis=0), finding["centreLpsMm"], atol=0.05)
        assert volume.uids[volume.key_slice(finding)] == finding["keySopInstanceUid"]
        assert volume.key_slice(finding) == finding["keySliceK"]


@pytest.mark.parametrize("orientation,expected", [("LPS", "RLAP"), ("RAS", "LRPA"), ("RAI", "LRPA"), ("PIR", "APSI")])
def test_letters_and_places_follow_the_patient(tmp_path, orientation, expected):
    # Wherever rows and columns run, the nodule's pixels are bright, and it lies towards the letter of its side.
    truth = phantom(tmp_path / "ct", "--size", "128", "--slices", "128", "--spacing", "2.8,2.8,2.8", "--nodules", "2", "--seed",
                    "5", "--orientation", orientation)
    run = run_of([finding_of(nodule, n) for n, nodule in enumerate(truth["nodules"])])
    scene = Scene(run, tmp_path / "ct", tmp_path, truth, set())
    shown = scene.key_slices()
    for picture, finding, nodule in zip(shown, run["findings"], truth["nodules"]):
        left, right, top, bottom = expected
        assert f"edges: left {left}, right {right}, top {top}, bottom {bottom}" in picture.alt
        made = picture.make(512, 512, 15)
        x, y = made.place(finding["centreLpsMm"])
        grey = numpy.asarray(made.base.convert("L")).astype(int)
        assert grey[round(y), round(x)] > 180, "the nodule's middle is bright"
        side = nodule["side"][0].upper()
        if side in (left, right):
            assert (x < made.base.width / 2) == (side == left)
        assert made.base.width / made.base.height == pytest.approx(picture.aspect, rel=0.01)


def test_the_overview_is_the_same_however_the_patient_was_sampled(tmp_path):
    pictures = []
    for orientation in ("LPS", "RAI", "PIR", "RIP"):
        truth = phantom(tmp_path / orientation, "--size", "128", "--slices", "128", "--spacing", "2.8,2.8,2.8", "--nodules",
                        "2", "--seed", "5", "--orientation", orientation)
        view = coronal_view(read_volume(tmp_path / orientation, run_of([])))
        assert view.edges() == ("R", "L", "S", "I")
        pictures.append(view)
        for nodule in truth["nodules"]:
            x, _ = view.to_pixel(nodule["centre_lps_mm"])
            assert (x < view.values.shape[1] / 2) == (nodule["side"] == "right")
    for other in pictures[1:]:
        assert other.values.shape == pictures[0].values.shape
        assert numpy.corrcoef(other.values.ravel(), pictures[0].values.ravel())[0, 1] > 0.99


def test_layers_of_a_model_are_not_those_of_a_longer_name(tmp_path):
    names = ["labels_lung.nii.gz", "labels_lung_left.nii.gz", "labels_lung_2d.nii.gz", "labels_lung_2d_left.nii.gz"]
    for name in names:
        (tmp_path / name).touch()
    own = [path.name for path in label_files(tmp_path, "lung", {"lung", "lung_2d"})]
    assert own == ["labels_lung.nii.gz", "labels_lung_left.nii.gz"]
    assert [path.name for path in label_files(tmp_path, "lung_2d", {"lung", "lung_2d"})] == names[2:]


def test_proportions_are_those_of_the_patient(small):
    folder, truth = small  # pixels of 3.8 mm, slices of 5 mm
    scene = Scene(run_of([finding_of(truth["nodules"][0])]), folder, folder, truth, set())
    made = scene.overview().make(400, 800, 15)
    assert made.base.width / made.base.height == pytest.approx(96 * 3.8 / (60 * 5), rel=0.01)


def test_letters_name_oblique_directions():
    assert letters(numpy.array([1.0, 0, 0])) == "L" and letters(numpy.array([0, 0, -1.0])) == "I"
    assert letters(numpy.array([0.8, -0.6, 0.0])) == "LA" and letters(numpy.array([-0.99, 0.1, 0.0])) == "R"


def test_a_quiet_study_shows_slices_and_says_so(server, tmp_path):
    phantom(tmp_path / "ct", "--size", "128", "--slices", "100", "--spacing", "2.8,2.8,3", "--nodules", "0", "--seed", "5")
    tomoctl("analyze", tmp_path / "ct", "--model", "nodule_blob", "--output", tmp_path / "out", "--save-labels", server=server)
    _, page = render(tmp_path / "ct", tmp_path / "out")
    assert page.faults == [] and "NO FINDING" in page.text and "No findings" in page.text
    assert rows_of(tmp_path / "out" / "report.html", "findings") == []
    slices = [attributes["alt"] for attributes in page.all("img") if "no finding on it" in attributes["alt"]]
    assert len(slices) == len(set(slices)) == 6
    assert Image.open(tmp_path / "out" / "contact_sheet.png").width == 1400


def test_without_a_label_map_rings_stand_for_outlines(small, tmp_path):
    folder, truth = small
    results = write_results(tmp_path / "out", run_of([finding_of(nodule, n) for n, nodule in enumerate(truth["nodules"])]))
    done, page = render(folder, results)
    assert "No label map was saved" in page.text and "No label map was saved" in done.stderr
    assert page.faults == [] and len(rows_of(results / "report.html", "findings")) == 2


def test_a_label_map_of_another_grid_is_not_drawn(analysed, small):
    folder, _, _, _, _ = analysed
    volume = read_volume(small[0], run_of([]))
    with pytest.raises(CannotDraw, match="grid"):
        read_labels([folder / "out" / "labels_nodule_blob.nii.gz"], volume)


def test_a_folder_without_images_is_said_plainly(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    results = write_results(tmp_path / "out", run_of([], flag=("NOT_APPLICABLE", None)))
    done, page = render(tmp_path, results)
    assert "No readable image" in page.text and "No readable image" in done.stderr
    assert page.faults == [] and Image.open(results / "contact_sheet.png").width == 1400


def test_pixels_that_cannot_be_read_are_said_plainly(small, tmp_path):
    data = pydicom.dcmread(next(small[0].glob("*.dcm")))
    data.PixelData = data.PixelData[:100]
    data.save_as(tmp_path / "cut.dcm")
    results = write_results(tmp_path / "out", run_of([]))
    done, page = render(tmp_path / "cut.dcm", results)
    assert "pixels cannot be read" in page.text and str(data.PatientName) not in page.text + done.stderr


@pytest.mark.parametrize("syntax", ["jpeg-lossless", "jpeg-ls", "jpeg-2000", "rle", "big-endian"])
def test_compressed_pixels_are_drawn_as_they_are(tmp_path, syntax):
    size = ("--size", "64", "--slices", "16", "--spacing", "5.6,5.6,18", "--nodules", "1", "--seed", "3")
    phantom(tmp_path / "plain", *size)
    phantom(tmp_path / syntax, *size, "--syntax", syntax)
    run = run_of([])
    assert numpy.array_equal(read_volume(tmp_path / syntax, run).values, read_volume(tmp_path / "plain", run).values)


def test_a_failed_run_has_a_page(small, tmp_path):
    failed = run_of([], "FAILED", (None, None), {"code": "OUT_OF_MEMORY", "value": "", "text": "the network needs <more> memory"})
    done, page = render(small[0], write_results(tmp_path / "out", failed), "--truth", small[0] / "truth.json")
    assert "No answer" in page.text and "The network needs <more> memory" in page.text
    assert page.faults == [] and "some_model 3: FAILED" in done.stdout and "nodules found" not in page.text


def test_text_of_a_model_stays_text(small, tmp_path):
    finding = finding_of(small[1]["nodules"][0])
    finding["limitations"] = ["<script>alert(1)</script>"]
    _, page = render(small[0], write_results(tmp_path / "out", run_of([finding])))
    assert not page.all("script") and "<script>alert(1)</script>" in page.text


def test_what_is_left_out_of_many_findings_is_said(small, tmp_path):
    findings = [dict(finding_of(small[1]["nodules"][0], n), centreLpsMm=[0.0, 0.0, 9.0 * n - 130]) for n in range(30)]
    _, page = render(small[0], write_results(tmp_path / "out", run_of(findings)))
    assert "Drawn are 6 of 30 key slices and 24 of 30 findings" in page.text
    assert len(rows_of(tmp_path / "out" / "report.html", "findings")) == 30 and page.faults == []


def test_the_terminal_table_names_kinds_missed_and_false_ones(tmp_path):
    nodules = [{"centre_lps_mm": [10.0, 0.0, 0.0], "diameter_mm": 8.0, "volume_ml": 0.3, "kind": "part_solid", "pleural": True},
               {"centre_lps_mm": [-40.0, 0.0, 0.0], "diameter_mm": 6.0, "volume_ml": 0.1, "kind": "solid"}]
    elsewhere, on_scar = (dict(nodules[0], centre_lps_mm=[80.0, 80.0, z]) for z in (80.0, -80.0))
    results = write_results(tmp_path / "out", run_of([finding_of(elsewhere), finding_of(nodules[0]), finding_of(on_scar)]))
    look_alikes = [{"kind": "band", "centre_lps_mm": [80.0, 80.0, -76.0]}]
    (tmp_path / "truth.json").write_text(json.dumps({"nodules": nodules, "look_alikes": look_alikes}))
    command = ["/usr/bin/python3", str(ROOT / "tools" / "findings_beside_truth.py"), str(results / "findings.json"),
               str(tmp_path / "truth.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert re.search(r"part-solid, pleural\s+\|\s+2 .* 0\.0 mm$", lines[2])
    assert re.search(r"solid\s+\|\s+missed$", lines[3]) and re.search(r"nothing there\)\s+\|\s+1 ", lines[4])
    assert re.search(r"look-alike: band\)\s+\|\s+3 ", lines[5]) and len({line.index(" |") for line in lines[1:6]}) == 1
    assert lines[6] == "1 of 2 nodules found, 1 missed, 2 false"
    write_results(tmp_path / "out", run_of([finding_of(nodule) for nodule in nodules]))
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_the_demo_refuses_a_folder_that_is_not_there():
    done = subprocess.run([str(ROOT / "script" / "demo"), "/nowhere/at/all"], capture_output=True, text=True)
    assert done.returncode == 2 and "no such file or folder" in done.stderr
