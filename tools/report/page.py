"""The page: report.html, one file without outside resources."""
import base64
import io
import pathlib

import jinja2
from PIL import Image

from report.scene import lps_text
from report.sheet import save_png

# Twice the size on the page, for fine screens and paper; so is the text.
OVERVIEW, SLICE, DETAIL = (800, 1000, 27), (600, 760, 25), (240, 240, 23)  # width, height, text size


def _data_uri(image):
    file = io.BytesIO()
    if image.mode == "RGBA":
        # Outlines and numbers: few colours, transparent elsewhere.
        image.quantize(64, Image.Quantize.FASTOCTREE).save(file, "PNG", optimize=True)
    else:
        save_png(image, file)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _figure(shown, size):
    """A picture and its outlines as two images, so that the page can take the outlines away."""
    made = shown.make(*size)
    return {"title": shown.title, "alt": shown.alt, "numbers": shown.numbers, "nodule": shown.nodule,
            "width": made.base.width, "height": made.base.height, "base": _data_uri(made.base),
            "overlay": _data_uri(made.overlay)}


def _run(scene):
    details = [_figure(shown, DETAIL) for shown in scene.details()]
    overview = scene.overview()
    stages, total = scene.stage_bars()
    return {
        "scene": scene,
        "run": scene.run,
        "overview": _figure(overview, OVERVIEW) if overview else None,
        "slices": [_figure(shown, SLICE) for shown in scene.key_slices()],
        "details": {figure["numbers"][0]: figure for figure in details if figure["nodule"] is None},
        "missed": {figure["nodule"]: figure for figure in details if figure["nodule"] is not None},
        "sides": [scene.side(finding) for finding in scene.findings],
        "stages": stages,
        "total_ms": total,
    }


def write_page(scenes, study, path):
    """Writes the page of all runs of a study. It holds no value of the patient beyond the Study Instance UID."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent), autoescape=True,
                                     trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["lps"] = lps_text
    page = environment.get_template("report.html.j2").render(runs=[_run(scene) for scene in scenes],
                                                             study_uid=study["studyInstanceUid"])
    path.write_text(page, encoding="utf-8")
