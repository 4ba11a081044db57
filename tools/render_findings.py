#!/usr/bin/env python3
"""Draws the key slices of a result into one picture: findings outlined and numbered, R/L letters, a scale bar.

usage: render_findings.py DICOM_FOLDER RESULTS_FOLDER   (writes RESULTS_FOLDER/findings.png)

Needs numpy, pydicom, nibabel and Pillow (script/setup installs Debian's). Axial series only; uncompressed pixel data.
"""
import json
import math
import pathlib
import sys

import nibabel
import numpy
import pydicom
from PIL import Image, ImageDraw, ImageFont

PANEL = 360
WINDOW_HU = (-1250.0, 250.0)  # lung window
OUTLINE = (255, 196, 0)
INK = (235, 235, 235)


def font(size):
    for path in ("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",):
        if pathlib.Path(path).exists():
            return ImageFont.truetype(path, size)
    return ImageFont.load_default()


def load_slices(folder):
    """SOP Instance UID -> dataset, for the image files of a folder."""
    slices = {}
    for path in sorted(pathlib.Path(folder).rglob("*")):
        if path.is_file():
            try:
                data = pydicom.dcmread(path)
            except pydicom.errors.InvalidDicomError:
                continue
            if "PixelData" in data:
                slices[str(data.SOPInstanceUID)] = data
    return slices


def grey(data):
    low, high = WINDOW_HU
    values = data.pixel_array * float(data.get("RescaleSlope", 1)) + float(data.get("RescaleIntercept", 0))
    return (numpy.clip((values - low) / (high - low), 0, 1) * 255).astype(numpy.uint8)


def side_letters(data):
    """Letters for the left and the right edge of the picture, from the row cosine (LPS)."""
    row = [float(value) for value in data.ImageOrientationPatient[:3]]
    axis = max(range(3), key=lambda index: abs(row[index]))
    positive, negative = (("L", "R"), ("P", "A"), ("S", "I"))[axis]
    return (negative, positive) if row[axis] > 0 else (positive, negative)


def edges(mask):
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return mask & ~inner


def panel(data, labels, numbers, k):
    """One slice: image, outlines of the labels on it, numbers of the findings whose key slice it is."""
    image = grey(data)
    rows, columns = image.shape
    spacing_row, spacing_column = (float(value) for value in data.PixelSpacing)
    scale = PANEL / max(rows * spacing_row, columns * spacing_column)
    width, height = round(columns * spacing_column * scale), round(rows * spacing_row * scale)
    picture = Image.fromarray(image).convert("RGB").resize((width, height), Image.BICUBIC)
    mask = Image.fromarray(((labels[:, :, k].T > 0) * 255).astype(numpy.uint8)).resize((width, height), Image.NEAREST)
    pixels = numpy.array(picture)
    pixels[edges(numpy.array(mask) > 127)] = OUTLINE
    canvas = Image.new("RGB", (PANEL, PANEL))
    canvas.paste(Image.fromarray(pixels), ((PANEL - width) // 2, (PANEL - height) // 2))
    draw = ImageDraw.Draw(canvas)
    left, right = side_letters(data)
    draw.text((6, PANEL // 2 - 10), left, INK, font(18))
    draw.text((PANEL - 20, PANEL // 2 - 10), right, INK, font(18))
    bar = 50 * scale  # 50 mm
    draw.line([(10, PANEL - 14), (10 + bar, PANEL - 14)], INK, 2)
    draw.text((14 + bar, PANEL - 24), "50 mm", INK, font(13))
    position = [float(value) for value in data.ImagePositionPatient]
    row = numpy.array([float(value) for value in data.ImageOrientationPatient[:3]])
    column = numpy.array([float(value) for value in data.ImageOrientationPatient[3:]])
    for number, finding in numbers:
        offset = numpy.array(finding["centreLpsMm"]) - position
        x = (PANEL - width) / 2 + (offset @ row + spacing_column / 2) * scale
        y = (PANEL - height) / 2 + (offset @ column + spacing_row / 2) * scale
        radius = max(finding["longestDiameterMm"] / 2 * scale + 5, 8)
        draw.text((x + radius, y - radius - 10), str(number), OUTLINE, font(16))
    draw.text((6, 4), f"slice {k}", INK, font(13))
    return canvas


def main():
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    study, results = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    document = json.loads((results / "findings.json").read_text())
    slices = load_slices(study)
    panels = []
    for run in document["runs"]:
        path = results / f"labels_{run['model']}.nii.gz"
        if not path.exists() or not run["findings"]:
            continue
        labels = numpy.asarray(nibabel.load(path).dataobj)
        by_slice = {}
        for number, finding in enumerate(run["findings"], 1):
            by_slice.setdefault(finding["keySopInstanceUid"], []).append((number, finding))
        for uid, numbers in list(by_slice.items())[:6]:
            panels.append(panel(slices[uid], labels, numbers, numbers[0][1]["keySliceK"]))
    if not panels:
        print("render_findings: no findings to draw", file=sys.stderr)
        return 0
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    sheet = Image.new("RGB", (columns * PANEL, rows * PANEL + 30), (20, 20, 20))
    for index, picture in enumerate(panels):
        sheet.paste(picture, (index % columns * PANEL, index // columns * PANEL))
    status = {run["provenance"].get("regulatoryStatus", "") for run in document["runs"]}
    mark = "DEMONSTRATION: not for patients" if "DEMONSTRATION" in status else "RESEARCH: not for diagnosis"
    ImageDraw.Draw(sheet).text((8, rows * PANEL + 6), f"Tomoserve  |  {mark}", INK, font(15))
    sheet.save(results / "findings.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
