"""The published MONAI bundles of the shared data with networks of their channels: each imports, loads and answers alike
in eight orientations, or is refused with the construct that docs/MODELS.md names."""
import concurrent.futures
import json
import re

from conftest import ROOT, shared, tomoctl
from tiny_network import HEADER, write_network

# What is brighter than half of the network's range is the first label. Pointwise, so that it knows no orientation.
SEGMENTATION = HEADER.format(name="Bright") + """  def forward(self: __torch__.Bright,
    image: Tensor) -> Tensor:
    bright = torch.to(torch.gt(torch.slice(image, 1, 0, 1), 0.5), 6)
    none = torch.mul(bright, 0.)
    first = torch.sub(torch.mul(bright, 20.), 10.)
    other = torch.sub(none, 20.)
    return torch.cat([{channels}], 1)
"""
# Heads of a RetinaNet: where a cell of the finest map has something bright, its first anchor.
DETECTION = HEADER.format(name="Bright") + """  def forward(self: __torch__.Bright,
    image: Tensor) -> Dict[str, List[Tensor]]:
    fine = torch.mul(torch.sub(torch.max_pool3d(image, [4, 4, 2]), 0.5), 8.)
    middle = torch.sub(torch.max_pool3d(fine, [2, 2, 2]), 40.)
    coarse = torch.max_pool3d(middle, [2, 2, 2])
    none = torch.sub(torch.mul(fine, 0.), 40.)
    scores = [torch.cat([fine, none, none], 1), torch.cat([middle, middle, middle], 1),
      torch.cat([coarse, coarse, coarse], 1)]
    return {{"classification": scores, "box_regression": [{boxes}]}}
"""
BOXES = ", ".join(f"torch.cat([{', '.join(['torch.mul(' + level + ', 0.)'] * 18)}], 1)" for level in ("fine", "middle", "coarse"))
# Voxels and millimetres of the phantom: what the finest spacing of all makes of them stays small.
SMALL = ("--size", "32", "--spacing", "3")


def folder_of_bundles():
    return shared("TOMOSERVE_TEST_DATA", "data") / "monai_bundles"


def bundles():
    return sorted(path.name for path in folder_of_bundles().iterdir() if path.is_dir())


def listed():
    """{bundle: what is missing, "" where it imports} as docs/MODELS.md says it."""
    rows = re.findall(r"^\| `(\w+)` \| (?:imports|refused: `([^`]+)`)", (ROOT / "docs" / "MODELS.md").read_text(), re.M)
    return dict(rows)


def code_of(inference):
    """A network with the channels of the bundle's own."""
    network = inference["network_def"]
    if network["_target_"] == "RetinaNet":
        return DETECTION.format(boxes=BOXES)
    arg_max = '"argmax": true' in json.dumps(inference)
    channels = ["none", "first"] if arg_max else ["first"]
    channels += ["other"] * (network["out_channels"] - len(channels))
    return SEGMENTATION.format(channels=", ".join(channels))


def archive_of(bundle, path):
    """As ckpt_export writes it."""
    configs = folder_of_bundles() / bundle / "configs"
    extra = {name: (configs / name).read_text() for name in ("inference.json", "metadata.json") if (configs / name).exists()}
    code = code_of(json.loads(extra["inference.json"])) if "inference.json" in extra else SEGMENTATION.format(channels="none")
    write_network(path, code, "Bright", extra)
    return path


def test_every_bundle_is_listed():
    assert set(bundles()) == set(listed())


def load(bundle, folder):
    """What is wrong with the bundle, or nothing."""
    archive = archive_of(bundle, folder / f"{bundle}.ts")
    models = folder / "models"
    done = tomoctl("model", "import", archive, "--output", models, "--name", bundle, check=False)
    missing = listed()[bundle]
    if missing:
        refused = done.returncode != 0 and "IMPORT_UNSUPPORTED" in done.stderr and missing in done.stderr
        return "" if refused and not (models / bundle).exists() else done.stdout + done.stderr
    if done.returncode != 0:
        return done.stderr
    done = tomoctl("model", "check", models / bundle / "1", *SMALL, check=False)
    good = done.returncode == 0 and len(re.findall("^[LRAPSI]{3} .* OK", done.stdout, re.M)) == 8
    return "" if good else done.stdout + done.stderr


def test_every_bundle_loads_or_is_refused_as_documented(tmp_path):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:  # a check is one server, and waits for most of its time
        wrong = dict(zip(bundles(), pool.map(lambda bundle: load(bundle, tmp_path), bundles())))
    assert not any(wrong.values()), "\n".join(f"{bundle}: {text}" for bundle, text in wrong.items() if text)
