"""The files that the demo writes: their names, that nobody's name is in them, and that a missing font breaks none."""
import base64
import gzip
import re
import shutil
import subprocess
import zlib

import nibabel
import numpy
import pydicom
import pytest
from conftest import ROOT, phantom, tomoctl
from demo_results import finding_of, render, run_of, write_results
from PIL import Image
from PIL.PngImagePlugin import PngInfo

SIZE = ("--size", "96", "--slices", "60", "--spacing", "3.8,3.8,5", "--nodules", "2", "--seed", "90817")
# Every kind of value that may name somebody; the words are nowhere else.
SOMEBODY = {"PatientName": "Quillfeather^Zebedee^Xaver", "PatientID": "ZQ-4711-K", "PatientBirthDate": "19310417",
            "OtherPatientNames": "Ottersbach^Ilse", "PatientAddress": "Wolkenkuckucksheim 5", "PatientComments": "Kleinod",
            "ReferringPhysicianName": "Haberstroh^Gundula", "OperatorsName": "Zwirbelich", "InstitutionName": "Moosrain",
            "StationName": "GANTRYX9", "StudyDescription": "Verlaufskontrolle-Q"}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small chest CT that nothing analysed: (folder, truth)."""
    folder = tmp_path_factory.mktemp("small") / "ct"
    return folder, phantom(folder, *SIZE)


def contents(path):
    """A file's bytes, and what is packed in them: gzip, a PNG's texts, the pictures of a page."""
    data = path.read_bytes()
    yield data
    if data[:2] == b"\x1f\x8b":
        yield gzip.decompress(data)
    pictures = [data] + [base64.b64decode(text) for text in re.findall(rb"data:image/png;base64,([A-Za-z0-9+/=]+)", data)]
    for picture in pictures:
        if picture[:8] == b"\x89PNG\r\n\x1a\n":
            yield picture
            for packed in re.findall(rb"(?:zTXt|iTXt).*?\0(x[\x01\x5e\x9c\xda].*)", picture, re.DOTALL):
                yield zlib.decompressobj().decompress(packed)


def needles(value):
    """A value as it may stand in a file: with its separators or without, its parts where they are long enough to be
    nobody else's, in two encodings, in small letters."""
    parts = [part for part in re.split(r"[\^ ]", value) if len(part) > 6]
    for text in {value, value.replace("^", " "), value.replace("^", ", "), *parts}:
        yield text.lower().encode("utf-8")
        yield text.lower().encode("utf-16-le")


def holds(path, value):
    return any(needle in content.lower() for content in contents(path) for needle in needles(value))


def name_somebody(folder):
    """Gives the series' patient, physicians and hospital names; returns the values."""
    for path in folder.glob("*.dcm"):
        data = pydicom.dcmread(path)
        for keyword, value in SOMEBODY.items():
            setattr(data, keyword, value)
        data.save_as(path)
    return SOMEBODY


def phantoms_own(folder):
    """Name and identifier that tomoctl phantom wrote. The name's parts are ordinary words here."""
    data = pydicom.dcmread(next(folder.glob("*.dcm")))
    return {"PatientName": str(data.PatientName), "PatientID": data.PatientID}


@pytest.mark.parametrize("values_of", [phantoms_own, name_somebody])
def test_no_file_of_the_demo_names_the_patient(server_factory, tmp_path, values_of):
    study, out = tmp_path / "ct", tmp_path / "out"
    phantom(study, *SIZE)
    values = values_of(study)
    assert all(values.values())
    server = server_factory()
    tomoctl("analyze", study, "--model", "nodule_blob", "--output", out, "--save-labels", server=server)
    render(study, out)
    server.stop()
    # As the demo does: the log lies among the results; the server's data folder is thrown away.
    (out / "server.log").write_bytes((server.folder / "server.log").read_bytes())
    written = sorted(path for path in out.rglob("*") if path.is_file())
    assert {path.name for path in written} == {"contact_sheet.png", "findings.json", "labels_nodule_blob.nii.gz",
                                               "report.html", "server.log"}
    for keyword, value in values.items():
        for path in written:
            assert not holds(path, value), f"{keyword} stands in {path.name}"


def test_a_name_is_found_wherever_it_hides(tmp_path):
    # What the test above relies on.
    name = "Quillfeather^Zebedee"
    places = {"plain": b"x Zebedee QUILLFEATHER y", "wide": "a Quillfeather".encode("utf-16-le"),
              "packed": gzip.compress(b"QUILLFEATHER^ZEBEDEE"), "clean": b"nobody"}
    for number, compressed in enumerate((False, True)):
        info = PngInfo()
        info.add_text("Title", name, zip=compressed)
        Image.new("L", (4, 4)).save(tmp_path / f"{number}.png", pnginfo=info)
        places[f"picture {number}"] = (tmp_path / f"{number}.png").read_bytes()
        places[f"page {number}"] = b'<img src="data:image/png;base64,' + base64.b64encode(places[f"picture {number}"]) + b'">'
    for place, data in places.items():
        path = tmp_path / "file"
        path.write_bytes(data)
        assert holds(path, name) == (place != "clean"), place


def test_several_models_have_a_sheet_each(small, tmp_path):
    other = dict(run_of([], flag=("NO_FINDING", None)), model="other_model")
    _, page = render(small[0], write_results(tmp_path / "out", run_of([finding_of(small[1]["nodules"][0])]), other))
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["contact_sheet_other_model.png",
                                                                          "contact_sheet_some_model.png"]
    assert "some_model 3" in page.text and "other_model 3" in page.text and page.faults == []


def write_labels(study, path, nodule):
    """A label map of the study's grid with one nodule, or none."""
    planes = sorted((pydicom.dcmread(file, stop_before_pixels=True) for file in study.glob("*.dcm")),
                    key=lambda data: data.ImagePositionPatient[2])
    first, spacing = planes[0], [*map(float, planes[0].PixelSpacing), 5.0]
    origin = numpy.array(first.ImagePositionPatient, float)
    shape = (int(first.Columns), int(first.Rows), len(planes))
    labels = numpy.zeros(shape, numpy.uint8)
    if nodule:
        places = origin + numpy.stack(numpy.indices(shape), -1) * spacing  # axial: rows along L, columns along P
        labels[numpy.linalg.norm(places - nodule["centre_lps_mm"], axis=-1) < 12] = 1
    affine = numpy.diag([-spacing[0], -spacing[1], spacing[2], 1])
    affine[:3, 3] = origin * [-1, -1, 1]
    nibabel.save(nibabel.Nifti1Image(labels, affine), path)


def test_two_versions_of_a_model_have_a_sheet_and_outlines_each(small, tmp_path):
    # The map of version 10 has a nodule where that of version 9 has none.
    results = write_results(tmp_path / "out", *(dict(run_of([finding_of(small[1]["nodules"][0])]), version=version)
                                                for version in ("9", "10")))
    for version in ("9", "10"):
        nodule = small[1]["nodules"][0] if version == "10" else None
        write_labels(small[0], results / f"labels_some_model@{version}.nii.gz", nodule)
    done, page = render(small[0], results)
    names = ["contact_sheet_some_model@10.png", "contact_sheet_some_model@9.png"]
    assert sorted(path.name for path in results.glob("*.png")) == names
    assert all(name in done.stdout for name in names) and "No label map was saved" not in page.text
    assert "some_model 9" in page.text and "some_model 10" in page.text and page.faults == []
    # An outline of that nodule is on the one sheet alone.
    with_outline, without = (dict((colour, count) for count, colour in
                                  Image.open(results / name).convert("RGB").getcolors(1 << 16)) for name in names)
    assert with_outline[(255, 196, 0)] > without[(255, 196, 0)] + 100


def test_two_versions_of_a_model_have_a_label_map_each(server_factory, small, tmp_path):
    for version in ("1", "2"):
        shutil.copytree(ROOT / "models" / "nodule_blob" / "1", tmp_path / "models" / "nodule_blob" / version)
    recipe = tmp_path / "models" / "nodule_blob" / "2" / "recipe.textproto"
    recipe.write_text(recipe.read_text() + "# another one\n")
    server = server_factory(models=[tmp_path / "models"])
    tomoctl("analyze", small[0], "--model", "nodule_blob@1", "--model", "nodule_blob@2", "--output", tmp_path / "out",
            "--save-labels", server=server)
    names = ["labels_nodule_blob@1.nii.gz", "labels_nodule_blob@2.nii.gz"]
    assert sorted(path.name for path in (tmp_path / "out").glob("labels_*")) == names
    done, page = render(small[0], tmp_path / "out")
    assert "No label map was saved" not in page.text and "contact_sheet_nodule_blob@2.png" in done.stdout


def test_without_the_font_there_are_pictures_all_the_same(small, tmp_path):
    results = write_results(tmp_path / "out", run_of([finding_of(nodule, n) for n, nodule in enumerate(small[1]["nodules"])]))
    code = """
import runpy, sys
from PIL import ImageFont
def absent(*arguments, **options):
    raise OSError("cannot open resource")
ImageFont.truetype = absent
sys.path.insert(0, sys.argv.pop(1))
runpy.run_path(sys.path[0] + "/render_findings.py", run_name="__main__")
"""
    done = subprocess.run(["/usr/bin/python3", "-B", "-c", code, str(ROOT / "tools"), str(small[0]), str(results), "--truth",
                           str(small[0] / "truth.json")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "fonts-dejavu-core" in done.stderr
    sheet = Image.open(results / "contact_sheet.png")
    assert sheet.width == 1400 and 500 < sheet.height < 2500
    assert (results / "report.html").stat().st_size > 100_000
