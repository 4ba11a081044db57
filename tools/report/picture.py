"""Draws planes of a volume at their physical proportions: letters, scale bar, outlines, numbers."""
import dataclasses

import numpy
from PIL import Image, ImageDraw, ImageFont

INK = (236, 238, 240)
FINDING = (255, 196, 0)
MISSED = (255, 99, 88)
LUNG_HU = (-1350.0, 150.0)  # width 1500, level -600
SOFT_TISSUE_HU = (-160.0, 240.0)  # width 400, level 40


class PlainFont:
    """The bitmap font that every Pillow has: one size, Latin-1. What it lacks is written with what looks like it."""
    LIKE = str.maketrans({"−": "-", "…": "...", "–": "-", "’": "'", "“": '"', "”": '"', "≥": ">=", "≤": "<="})

    def __init__(self):
        self.face = ImageFont.load_default()

    def _plain(self, text):
        return text.translate(self.LIKE).encode("latin-1", "replace").decode("latin-1")

    def getlength(self, text, *_, **__):
        return self.face.getmask(self._plain(text)).size[0]

    def getmask2(self, text, mode="", *_, anchor=None, **__):
        """As ImageDraw asks of a font: the text's mask and where it lies beside the anchor."""
        mask = self.face.getmask(self._plain(text), mode)
        across, down = anchor or "la"
        offset = {"l": 0, "m": mask.size[0] // 2, "r": mask.size[0]}[across], \
            {"a": 0, "t": 0, "m": mask.size[1] // 2}.get(down, mask.size[1])
        return mask, (-offset[0], -offset[1])


def has_dejavu():
    """Whether DejaVu Sans is installed."""
    try:
        ImageFont.truetype("DejaVuSans.ttf", 10)
    except OSError:
        return False
    return True


def font(size, bold=False):
    """DejaVu Sans, or Pillow's own font where it is not installed: of that size since Pillow 10.1, else PlainFont."""
    try:
        return ImageFont.truetype(f"DejaVuSans{'-Bold' if bold else ''}.ttf", size)
    except OSError:
        pass
    try:
        return ImageFont.load_default(size)
    except TypeError:
        return PlainFont()


def letters(direction):
    """Where a direction (LPS) points to, e.g. "L" or "LA", as in Patient Orientation (PS3.3 C.7.6.1.1.1)."""
    axes = sorted(range(3), key=lambda axis: -abs(direction[axis]))
    return "".join(("RL", "AP", "IS")[axis][int(direction[axis] > 0)] for axis in axes if abs(direction[axis]) > 0.25)


@dataclasses.dataclass
class View:
    """A plane of the patient: values [y][x], the place of pixel (0,0)'s centre, unit vectors right and down (LPS)."""
    values: numpy.ndarray
    origin: numpy.ndarray
    right: numpy.ndarray
    down: numpy.ndarray
    spacing: tuple  # mm between columns, mm between rows
    mask: numpy.ndarray = None  # labels [y][x]

    def to_pixel(self, lps):
        """(x, y) of a point's foot on the plane; whole numbers are pixel centres."""
        offset = numpy.asarray(lps, float) - self.origin
        return offset @ self.right / self.spacing[0], offset @ self.down / self.spacing[1]

    def edges(self):
        """Letters of the left, right, upper and lower edge."""
        return letters(-self.right), letters(self.right), letters(-self.down), letters(self.down)

    def crop(self, left, top, right, bottom):
        """Pixels [top, bottom) x [left, right); beyond the edge the lowest value."""
        def cut(array, fill):
            before_y, before_x = max(0, -top), max(0, -left)
            after_y, after_x = max(0, bottom - array.shape[0]), max(0, right - array.shape[1])
            padded = numpy.pad(array, ((before_y, after_y), (before_x, after_x)), constant_values=fill)
            return padded[top + before_y:bottom + before_y, left + before_x:right + before_x]

        origin = self.origin + left * self.spacing[0] * self.right + top * self.spacing[1] * self.down
        return View(cut(self.values, self.values.min()), origin, self.right, self.down, self.spacing,
                    None if self.mask is None else cut(self.mask, 0))

    def around(self, lps, side_mm):
        """A square of `side_mm` around a point."""
        x, y = self.to_pixel(lps)
        half_x, half_y = side_mm / 2 / self.spacing[0], side_mm / 2 / self.spacing[1]
        return self.crop(round(x - half_x), round(y - half_y), round(x + half_x) + 1, round(y + half_y) + 1)

    @property
    def size_mm(self):
        return self.values.shape[1] * self.spacing[0], self.values.shape[0] * self.spacing[1]


def slice_view(volume, k, labels=None):
    """Slice k as it is stored: rows run to the right, columns down."""
    origin = volume.origin + k * volume.spacing[2] * volume.directions[2]
    return View(volume.values[k], origin, volume.directions[0], volume.directions[1], tuple(volume.spacing[:2]),
                None if labels is None else labels[k])


def coronal_view(volume):
    """The average along the front-to-back axis, as a reader sees a chest radiograph: the patient's left on the right."""
    front_back = int(numpy.argmax(numpy.abs(volume.directions[:, 1])))
    others = [axis for axis in range(3) if axis != front_back]
    vertical = max(others, key=lambda axis: abs(volume.directions[axis, 2]))
    horizontal = next(axis for axis in others if axis != vertical)
    # Air counts as nothing, as in a radiograph, so that lungs stay dark and bones bright.
    floor = -1000 if volume.modality == "CT" else float(volume.values.min())
    total = numpy.zeros([volume.values.shape[2 - axis] for axis in sorted(others, reverse=True)])
    planes = numpy.moveaxis(volume.values, 2 - front_back, 0)
    for plane in planes:  # plane by plane: a whole float copy would need a gigabyte
        total += numpy.maximum(plane.astype(numpy.float32) - floor, 0)
    picture = total / len(planes)
    if vertical < horizontal:
        picture = picture.T
    origin, directions, spacing = volume.origin.copy(), volume.directions, volume.spacing
    right, down = directions[horizontal], directions[vertical]
    if right[0] < 0:
        picture = picture[:, ::-1]
        origin = origin + (picture.shape[1] - 1) * spacing[horizontal] * right
        right = -right
    if down[2] > 0:
        picture = picture[::-1]
        origin = origin + (picture.shape[0] - 1) * spacing[vertical] * down
        down = -down
    return View(picture, origin, right, down, (spacing[horizontal], spacing[vertical]))


def window_for(volume, findings):
    """(low, high, name) of the grey window. CT: lung where most findings lie beside air, or, without findings, where the
    volume shows lung; else soft tissue."""
    if volume.modality != "CT":
        sample = volume.values[::max(1, len(volume.values) // 16), ::4, ::4]
        low, high = (float(value) for value in numpy.percentile(sample, (1, 99.5)))
        if high <= low:
            low, high = float(volume.values.min()), float(volume.values.max())
        return low, max(high, low + 1e-6), f"window {low:.4g} to {high:.4g}"
    airy = []
    for finding in findings:
        low, high = (volume.to_voxel(numpy.array(finding["boxLpsMm"][end], float)) for end in ("min", "max"))
        start = numpy.maximum(numpy.floor(numpy.minimum(low, high)).astype(int) - 6, 0)
        end = numpy.maximum(numpy.ceil(numpy.maximum(low, high)).astype(int) + 7, start + 1)
        around = volume.values[start[2]:end[2], start[1]:end[1], start[0]:end[0]]
        airy.append(around.size > 0 and (around < -500).mean() > 0.1)
    if not findings:
        sample = volume.values[::max(1, len(volume.values) // 32), ::4, ::4]
        airy.append(((sample > -950) & (sample < -600)).mean() > 0.03)
    if sum(airy) * 2 >= len(airy):
        return *LUNG_HU, "lung window, level −600, width 1500 HU"
    return *SOFT_TISSUE_HU, "soft-tissue window, level 40, width 400 HU"


def body_box(views, low):
    """Box (left, top, right, bottom) in pixels around what is not air on any of the views; all views share a grid."""
    seen = numpy.any([view.values > low for view in views], axis=0)
    rows, columns = (numpy.flatnonzero(seen.mean(axis=axis) > 0.02) for axis in (1, 0))
    if not len(rows) or not len(columns):
        return 0, 0, seen.shape[1], seen.shape[0]
    margin = max(2, round(0.03 * max(seen.shape)))
    return (int(max(0, columns[0] - margin)), int(max(0, rows[0] - margin)),
            int(min(seen.shape[1], columns[-1] + margin + 1)), int(min(seen.shape[0], rows[-1] + margin + 1)))


class Picture:
    """A view that fits into width x height pixels: `base` (grey, letters, scale bar), `overlay` (outlines, numbers)."""

    def __init__(self, view, width, window, height, text_size):
        self.view, self.text = view, font(text_size)
        self.text_size = text_size
        self.line = max(2, text_size // 7)
        mm_x, mm_y = view.size_mm
        self.scale = min(width / mm_x, height / mm_y)
        size = max(1, round(mm_x * self.scale)), max(1, round(mm_y * self.scale))
        low, high = window
        grey = (numpy.clip((view.values.astype(numpy.float32) - low) / (high - low), 0, 1) * 255).astype(numpy.uint8)
        self.base = Image.fromarray(grey).resize(size, Image.BICUBIC).convert("RGB")
        self.overlay = Image.new("RGBA", size, (0, 0, 0, 0))
        self.pen = ImageDraw.Draw(self.overlay)

    def write(self, place, text, anchor, pen=None, ink=INK, letters_font=None):
        """Text with a dark rim, so that it reads on any grey."""
        (pen or ImageDraw.Draw(self.base)).text(place, text, ink, letters_font or self.text, anchor=anchor,
                                                stroke_width=2, stroke_fill=(0, 0, 0))

    def annotate(self):
        """Letters at the edges and a scale bar."""
        width, height = self.base.size
        face = font(self.text_size + 3, bold=True)
        left, right, top, bottom = self.view.edges()
        self.write((7, height / 2), left, "lm", letters_font=face)
        self.write((width - 7, height / 2), right, "rm", letters_font=face)
        self.write((width / 2, 5), top, "ma", letters_font=face)
        self.write((width / 2, height - 5), bottom, "md", letters_font=face)
        bar_mm = next((mm for mm in (100, 50, 20, 10) if mm * self.scale < 0.3 * width), 5)
        bar, thick, y = bar_mm * self.scale, self.line + 1, height - 8 - self.line
        pen = ImageDraw.Draw(self.base)
        pen.rectangle([9, y - 1, 11 + bar, y + thick], (0, 0, 0))
        pen.rectangle([10, y, 10 + bar, y + thick - 1], INK)
        self.write((10, y - 3), f"{bar_mm} mm", "ld")
        return self

    def place(self, lps):
        """A point's place in the picture."""
        x, y = self.view.to_pixel(lps)
        return (x + 0.5) * self.view.spacing[0] * self.scale, (y + 0.5) * self.view.spacing[1] * self.scale

    def outline(self):
        """The edge of the label map, along its voxels."""
        if self.view.mask is None or not self.view.mask.any():
            return self
        mask = Image.fromarray((self.view.mask > 0).astype(numpy.uint8))
        mask = numpy.array(mask.resize(self.base.size, Image.NEAREST))
        grown = mask > 0
        for _ in range(self.line):
            wider = grown.copy()
            wider[1:] |= grown[:-1]
            wider[:-1] |= grown[1:]
            wider[:, 1:] |= grown[:, :-1]
            wider[:, :-1] |= grown[:, 1:]
            grown = wider
        edge = Image.fromarray(((grown & (mask == 0)) * 255).astype(numpy.uint8))
        self.overlay.paste((*FINDING, 255), (0, 0), edge)
        return self

    def number(self, lps, text, diameter_mm, ring, colour=FINDING):
        """A number beside a place, and a ring of the diameter around it if `ring`."""
        x, y = self.place(lps)
        radius = max(diameter_mm / 2 * self.scale + (self.line + 1 if ring else 1), self.text_size / 3)
        if ring:
            for extra, width, ink in ((1, self.line + 2, (0, 0, 0, 255)), (0, self.line, (*colour, 255))):
                reach = radius + extra
                self.pen.ellipse([x - reach, y - reach, x + reach, y + reach], outline=ink, width=width)
        size = self.text_size + 3
        face = font(size, bold=True)
        width, height = self.overlay.size
        text_width = face.getlength(text)
        # To the right and above; to the left where the edge is near.
        at_x = x + radius * 0.8 + 3
        anchor = "ls" if at_x + text_width + 4 < width else "rs"
        at_x = at_x if anchor == "ls" else x - radius * 0.8 - 3
        self.write((at_x, min(max(y - radius * 0.6, size + 2), height - 4)), text, anchor, self.pen, colour, face)
        return self

    def image(self):
        """Base and overlay together."""
        return Image.alpha_composite(self.base.convert("RGBA"), self.overlay).convert("RGB")
