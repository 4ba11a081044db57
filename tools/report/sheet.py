"""The contact sheet: one PNG with the overview, the key slices and an enlarged view of each finding."""
from PIL import Image, ImageDraw

from report.picture import FINDING, INK, MISSED, font

WIDTH = 1400
GAP = 12
PAPER = (17, 20, 24)
DIM = (163, 171, 181)
TONES = {"alarm": ((176, 32, 32), (255, 255, 255)), "notice": ((255, 196, 0), (24, 20, 0)),
         "calm": ((38, 84, 140), (255, 255, 255)), "unknown": ((88, 96, 108), (255, 255, 255))}
ROW_CAPTION = 34  # a line of text under a picture
DETAIL_LEAST, DETAIL_MOST = 164, 266
TEXT = 15
CAPTION = font(TEXT)


def _fit(text, face, width):
    """Text cut to a width, with an ellipsis."""
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _wrap(text, face, width):
    """The text's lines for a width; none for an empty text."""
    lines = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and face.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


class _Sheet:
    def __init__(self):
        self.image = Image.new("RGB", (WIDTH, 6000), PAPER)
        self.pen = ImageDraw.Draw(self.image)
        self.y = 0

    def header(self, scene):
        self.pen.rectangle([0, 0, WIDTH, 34], fill=FINDING)
        self.pen.text((WIDTH / 2, 17), scene.mark, (24, 20, 0), font(20, bold=True), anchor="mm")
        face = font(30, bold=True)
        flag = scene.flag()
        background, ink = TONES[scene.tone()]
        pill = face.getlength(flag) * 0.72 + 36
        self.pen.text((GAP, 78), _fit(scene.name, face, WIDTH - pill - 4 * GAP), INK, face, anchor="ls")
        self.pen.rounded_rectangle([WIDTH - GAP - pill, 48, WIDTH - GAP, 88], 20, fill=background)
        self.pen.text((WIDTH - GAP - pill / 2, 68), flag, ink, font(22, bold=True), anchor="mm")
        lines = [scene.headline()] + ([scene.comparison.sentence()] if scene.comparison else [])
        self.pen.text((GAP, 114), _fit(". Against the truth: ".join(lines), font(19), WIDTH - 2 * GAP), INK, font(19),
                      anchor="ls")
        self.y = 132
        for reason in scene.reasons()[:3]:
            self.pen.text((GAP, self.y), _fit(reason, font(17), WIDTH - 2 * GAP), DIM, font(17))
            self.y += 24
        self.y += 6 * bool(scene.reasons())

    def pictures(self, scene):
        """Overview at the left, key slices beside it, about as high as the overview."""
        overview, slices = scene.overview(), scene.key_slices()
        columns = min(3 if len(slices) > 4 or (slices and slices[0].aspect < 0.85) else 2, len(slices)) or 1
        top, left, bottom = self.y, GAP, self.y
        if overview:
            rows = -(-len(slices) // columns)
            share = rows / (columns * slices[0].aspect)
            room = WIDTH - (2 + columns) * GAP
            width = (share * room + ROW_CAPTION * (rows - 1)) / (1 / overview.aspect + share)
            made = overview.make(min(max(round(width), 400), 640), 640, TEXT).image()
            self.image.paste(made, (left, top))
            self.pen.text((left, top + made.height + 5), overview.title, DIM, CAPTION)
            left, bottom = left + made.width + GAP, top + made.height + ROW_CAPTION
        width = min((WIDTH - GAP - left - (columns - 1) * GAP) // columns, 740 if overview else 560)
        y = top
        for start in range(0, len(slices), columns):
            row = [(shown, shown.make(width, max(300, width), TEXT).image()) for shown in slices[start:start + columns]]
            height = max(made.height for _, made in row)
            for column, (shown, made) in enumerate(row):
                x = left + column * (width + GAP)
                self.image.paste(made, (x, y))
                self.pen.text((x, y + height + 5), _fit(shown.title, CAPTION, width), DIM, CAPTION)
            y += height + ROW_CAPTION
        self.y = max(bottom, y) + 4 * bool(slices)

    def details(self, scene):
        details = scene.details()
        if not details:
            return
        columns = min(len(details), (WIDTH - GAP) // (DETAIL_LEAST + GAP))
        size = min(DETAIL_MOST, (WIDTH - GAP) // columns - GAP)
        for start in range(0, len(details), columns):
            row = details[start:start + columns]
            lines = [self._lines(scene, shown, size) for shown in row]
            for column, shown in enumerate(row):
                x = GAP + column * (size + GAP)
                self.image.paste(shown.make(size, size, TEXT - 2).image().resize((size, size)), (x, self.y))
                self.pen.rectangle([x, self.y, x + size - 1, self.y + size - 1],
                                   outline=FINDING if shown.nodule is None else MISSED)
                for line, (text, ink, face) in enumerate(lines[column]):
                    self.pen.text((x, self.y + size + 6 + 21 * line), _fit(text, face, size + GAP - 4), ink, face)
            self.y += size + 6 + 21 * max(map(len, lines)) + GAP

    def _lines(self, scene, shown, width):
        if shown.nodule is not None:
            nodule = scene.nodules[shown.nodule]
            return [("missed", MISSED, font(17, bold=True)), (f"truth {nodule['diameter_mm']:.1f} mm", INK, CAPTION)] + [
                (line, DIM, CAPTION) for line in _wrap(scene.kind(nodule), CAPTION, width)]
        finding = scene.findings[shown.numbers[0]]
        lines = [(f"{shown.numbers[0] + 1}   {finding['longestDiameterMm']:.1f} mm", FINDING, font(17, bold=True)),
                 (f"{finding['volumeMl']:.2f} ml, score {finding['score']:.2f}", INK, CAPTION)]
        if scene.comparison:
            match = scene.truth_of(shown.numbers[0])
            if match is None:
                return lines + [("false", MISSED, CAPTION), (scene.what_is_there(shown.numbers[0]), MISSED, CAPTION)]
            _, nodule, distance = match
            lines.append((f"truth {nodule['diameter_mm']:.1f} mm, {distance:.1f} off", DIM, CAPTION))
            lines += [(line, DIM, CAPTION) for line in _wrap(scene.kind(nodule), CAPTION, width)]
        return lines

    def footer(self, scene):
        provenance = scene.run.get("provenance") or {}
        facts = [f"Tomoserve {provenance.get('build', '')}".strip(), provenance.get("deviceKind", ""),
                 f"coverage {(scene.run.get('coverage') or {}).get('target') or 'not judged'}".lower(),
                 getattr(scene, "window_name", "")]
        face = font(15)
        for text in scene.problems + ["  |  ".join(fact for fact in facts if fact)]:
            for line in _wrap(text, face, WIDTH - 2 * GAP):
                self.pen.text((GAP, self.y), line, DIM, face)
                self.y += 21
        self.y += GAP


def contact_sheet(scene, path):
    """Writes the contact sheet of a scene as PNG, 1400 pixels wide and as high as it needs."""
    sheet = _Sheet()
    sheet.header(scene)
    sheet.pictures(scene)
    sheet.details(scene)
    sheet.footer(scene)
    save_png(sheet.image.crop((0, 0, WIDTH, sheet.y)), path)


def save_png(image, target):
    """Writes a PNG with 64 greys and the page's colours: half the size of full colour, no visible difference."""
    greys = [(round(level * 255 / 63),) * 3 for level in range(64)]
    colours = [FINDING, MISSED, PAPER, DIM, *(colour for tone in TONES.values() for colour in tone)]
    ramps = [tuple(round(part * step / 8) for part in colour) for colour in (FINDING, MISSED) for step in range(2, 8)]
    flat = [part for colour in greys + colours + ramps for part in colour]
    palette = Image.new("P", (1, 1))
    palette.putpalette(flat + flat[:3] * (256 - len(flat) // 3))
    image.convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE).save(target, "PNG", optimize=True)
