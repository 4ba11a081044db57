"""tomoctl model check: a model that names the halves of a body is right or wrong as its recipe is."""
import os
import re
import shutil
import signal
import subprocess
import time

import numpy
import pytest
from conftest import BIN, ROOT, tomoctl
from tiny_network import HEADER, write_network

# Whatever is denser than fat: class 1 in the first half of the network's first axis, class 2 in the second.
CODE = HEADER.format(name="Halves") + """  def forward(self: __torch__.Halves,
    volume: Tensor) -> Tensor:
    dense = torch.to(torch.gt(torch.slice(volume, 1, 0, 1), 0.7), 6)
    half = torch.floordiv(torch.size(volume, 2), 2)
    first = torch.slice(dense, 2, 0, half)
    second = torch.slice(dense, 2, half)
    low = torch.cat([first, torch.zeros_like(second)], 2)
    high = torch.cat([torch.zeros_like(first), second], 2)
    return torch.cat([torch.full_like(dense, 0.5), low, high], 1)
"""
RECIPE = """title: "Halves"
card {{
  intended_use: "A test." regulatory_status: REGULATORY_STATUS_DEMONSTRATION author: "A test" license: "Apache-2.0"
  source: "A test."
}}
inputs {{ name: "ct" modalities: "CT" when_missing: WHEN_MISSING_WARN {inputs} }}
preparation {{
  {orientation}
  intensity {{ scale_range {{ from_min: -1000 from_max: 400 to_min: 0 to_max: 1 clip: true }} }}
}}
windows {{
  layout: WINDOW_LAYOUT_MONAI size: [0, 0, 0] overlap: 0 blend: BLEND_CONSTANT padding_mode: PADDING_MODE_CONSTANT
}}
network {{
  files: "model.ts" spatial_dims: 3 axes: TENSOR_AXES_XYZ input_channels: {channels} output_channels: 3
  precision: PRECISION_FLOAT32
}}
decode {{ activation: ACTIVATION_NONE }}
decode {{ arg_max {{ }} }}
decode {{ to_volume_grid {{ interpolation: INTERPOLATION_NEAREST }} }}
labels {{
  value: 1 name: "{low}" rgb: 1
  type {{ value: "85756007" scheme: "SCT" meaning: "Tissue" }}
  category {{ value: "85756007" scheme: "SCT" meaning: "Tissue" }}
}}
labels {{
  value: 2 name: "{high}" rgb: 2
  type {{ value: "85756007" scheme: "SCT" meaning: "Tissue" }}
  category {{ value: "85756007" scheme: "SCT" meaning: "Tissue" }}
}}
findings {{ label: 1 score: SCORE_RULE_MAX }}
findings {{ label: 2 score: SCORE_RULE_MAX }}
flags {{ label: 1 level: FLAG_LEVEL_INFO }}
coverage {{ not_needed {{ because: "A test." }} }}
{more}
"""
SMALL = ("--size", "40", "--spacing", "7")


@pytest.fixture
def halves(tmp_path):
    """Writes the model with an orientation and names of its labels; returns the version's folder."""
    def make(orientation='orientation: "RAS"', low="left half", high="right half", inputs="", code=CODE, name="halves",
             channels=1, more=""):
        folder = tmp_path / "models" / name / "1"
        folder.mkdir(parents=True)
        write_network(folder / "model.ts", code)
        (folder / "recipe.textproto").write_text(
            RECIPE.format(orientation=orientation, low=low, high=high, inputs=inputs, channels=channels, more=more))
        return folder

    return make


def check(folder, *arguments, **options):
    """(exit code, {orientation: rest of its line}, all output) of tomoctl model check."""
    done = tomoctl("model", "check", folder, *(arguments or SMALL), check=False, **options)
    lines = {line[:3]: line[3:] for line in done.stdout.splitlines() if re.match("[LRAPSI]{3} ", line)}
    return done.returncode, lines, done.stdout + done.stderr


def test_a_right_recipe_is_ok_in_eight_orientations(halves):
    code, lines, text = check(halves())  # x runs from left to right
    assert code == 0 and text.rstrip().endswith("OK"), text
    assert len(lines) == 8 and all(line.split()[2:] == ["1.0000", "OK"] for line in lines.values()), text
    assert "halves 1: Halves" in text and "[N, 1, x=all, y=all, z=all], RAS" in text
    assert "[N, 3, x=all, y=all, z=all]; labels: 1 left half, 2 right half" in text
    assert re.search(r"loaded +cpu: weights 0\.0 MB, [\d.]+ ms a window", text), text
    assert float(re.search(r"memory +(\d+) MB", text)[1]) > 50, "the worker alone has more"


def test_a_recipe_that_forgets_the_orientation_swaps_sides(halves):
    code, lines, text = check(halves(orientation="", low="one", high="other"))
    assert code == 1 and text.rstrip().endswith("FAILED"), text
    for orientation in ("LPS", "LAS", "LIP"):  # rows run to the left as in the first
        assert lines[orientation].split()[3:] == ["OK"], text
    for orientation in ("RPS", "RAI", "RSA"):
        assert lines[orientation].endswith("FAILED  left-right swap: one and other"), text
    for orientation in ("PIL", "ASR"):  # halves of another axis
        assert "FAILED" in lines[orientation] and "is elsewhere" in lines[orientation], text


def test_names_of_the_wrong_side_are_a_failure_though_all_answers_agree(halves):
    code, lines, text = check(halves(orientation='orientation: "LPS"'))
    assert code == 1 and len(lines) == 8, text
    assert all(line.endswith("FAILED  left half lies to the right of right half") for line in lines.values()), text


def test_only_planes_of_the_recipe_are_tried(halves):
    code, lines, text = check(halves(inputs="planes: PLANE_CORONAL"))
    assert code == 0 and len(lines) == 8 and all(orientation[2] in "AP" for orientation in lines), text


def test_a_series_that_the_recipe_does_not_take_is_a_failure(halves):
    code, lines, text = check(halves(inputs="slices { min: 41 }"))
    assert code == 1 and all("FAILED  NOT_APPLICABLE [" in line for line in lines.values()), text


def test_a_model_that_finds_nothing_is_not_ok(halves):
    code, lines, text = check(halves(code=CODE.replace("0.7", "7.")))
    assert code == 1 and "marks nothing in the phantom" in text, text


def test_texts_that_the_recipe_asks_for_are_in_the_phantom(halves):
    code, _, text = check(halves(inputs='region_texts: "LEFT TOE" phase_texts: "PORTAL"'))
    assert code == 0, text


def test_each_input_gets_its_series(halves):
    other = 'inputs { name: "late" modalities: "CT" phase_texts: "DELAYED" when_missing: WHEN_MISSING_REFUSE }'
    code, lines, text = check(halves(inputs='phase_texts: "PORTAL"', channels=2, more=other))
    assert code == 0 and len(lines) == 8 and "[N, 2, x=all" in text, text


def test_inputs_have_values_of_their_own(halves):
    """A network that takes the difference: with equal series, or exchanged ones, it would mark nothing."""
    other = 'inputs { name: "late" modalities: "CT" phase_texts: "DELAYED" when_missing: WHEN_MISSING_REFUSE }'
    channel = "torch.slice(volume, 1, 0, 1)"
    for number, (minuend, expected) in enumerate((("torch.slice(volume, 1, 1, 2)", 0), (channel, 1))):
        difference = f"torch.sub({minuend}, {'torch.slice(volume, 1, 1, 2)' if expected else channel})"
        code = CODE.replace(f"torch.gt({channel}, 0.7)", f"torch.gt({difference}, 0.02)")
        assert code != CODE
        folder = halves(inputs='phase_texts: "PORTAL"', channels=2, more=other, code=code, name=f"halves{number}")
        found, _, text = check(folder)
        assert found == expected and ("marks nothing" in text) == bool(expected), text


def test_the_phantom_has_the_contrast_agent_that_the_recipe_asks_for(halves):
    code, _, text = check(halves(inputs="contrast: CONTRAST_WITH"))
    assert code == 0, text
    other = 'inputs { name: "plain" modalities: "CT" contrast: CONTRAST_WITHOUT when_missing: WHEN_MISSING_REFUSE }'
    code, _, text = check(halves(inputs="contrast: CONTRAST_WITH", channels=2, more=other, name="both"))
    assert code == 0, text


def test_a_known_answer_is_written_and_holds(halves):
    other = 'inputs { name: "late" modalities: "CT" phase_texts: "DELAYED" when_missing: WHEN_MISSING_REFUSE }'
    folder = halves(inputs='phase_texts: "PORTAL"', channels=2, more=other)
    code, _, text = check(folder, *SMALL, "--write-known-answer")
    assert code == 0 and re.search(r"written  known_answer\.npy into \S+: \d+ labelled voxels in 40 x 40 x 40", text), text
    volume, labels = (numpy.load(folder / f"known_answer{part}.npy") for part in ("", "_labels"))
    assert volume.shape == (2, 40, 40, 40) and volume.dtype == numpy.int16 and (volume[1] > volume[0]).any()
    assert labels.shape == (40, 40, 40) and set(numpy.unique(labels)) == {0, 1, 2}
    assert "differing_voxels: 0.001" in (folder / "recipe.textproto").read_text()
    code, _, text = check(folder)
    assert code == 0, text
    code, _, text = check(folder, *SMALL, "--write-known-answer")
    assert code == 1 and "KNOWN_ANSWER_EXISTS" in text, text
    # The device, or the network, that gives another answer is not used.
    numpy.save(folder / "known_answer_labels.npy", numpy.where(labels == 2, 1, labels).astype("u1"))
    code, lines, text = check(folder)
    assert code == 1 and not lines and re.search(r"KNOWN_ANSWER_DIFFERS\([\d.]+ % of \d+ voxels differ, 0\.1 % may\)", text)


def test_no_known_answer_is_written_where_the_check_fails(halves):
    folder = halves(orientation="", low="one", high="other")
    code, _, text = check(folder, *SMALL, "--write-known-answer")
    assert code == 1 and "no known answer was written" in text, text
    assert sorted(path.name for path in folder.iterdir()) == ["model.ts", "recipe.textproto"]
    code, _, text = check(folder, *SMALL, "--write-known-answer", "--devices", "cuda:0")
    assert code == 2 and "that of a CPU" in text, text


def test_the_model_of_the_region_comes_along(halves):
    halves(low="left", high="right")
    code, lines, text = check(halves(name="inner", more='region { model: "halves" labels: 1 labels: 2 }\n'
                                     'decode { keep_in_region { } }'))
    assert code == 0 and len(lines) == 8, text


def test_a_network_that_the_worker_refuses_is_said(halves):
    code, lines, text = check(halves(code=CODE.replace("0.5), low, high]", "0.5), low]")))
    assert code == 1 and not lines and "MODEL_SHAPE" in text, text


@pytest.mark.parametrize("damage,status,code", [
    (lambda folder: (folder / "model.ts").unlink(), 1, "FILE_MISSING"),
    (lambda folder: (folder / "recipe.textproto").write_text("no recipe"), 1, "RECIPE_SYNTAX"),
    (lambda folder: (folder / "recipe.textproto").unlink(), 2, "MODELS_FOLDER")])
def test_an_entry_that_is_refused_is_said(halves, damage, status, code):
    folder = halves()
    damage(folder)
    found, lines, text = check(folder)
    assert (found, lines) == (status, {}) and code in text, text


def test_the_demonstration_model_sees_one_phantom(tmp_path):
    code, lines, text = check(ROOT / "models" / "nodule_blob" / "1", "--size", "48", "--spacing", "3")
    assert code == 0 and len(lines) == 8, text


def test_the_folder_is_left_as_it_was_and_nothing_stays_behind(halves, tmp_path, monkeypatch):
    folder = halves()
    before = {path: path.stat().st_mtime_ns for path in sorted(folder.parents[1].rglob("*"))}
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    assert check(folder)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in sorted(folder.parents[1].rglob("*"))} == before
    assert list(scratch.glob("tomoctl*")) == []


def test_a_check_that_is_killed_takes_its_server_with_it(halves, tmp_path, monkeypatch):
    folder = halves()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = subprocess.Popen([str(BIN / "tomoctl"), "model", "check", str(folder), *SMALL], stdout=subprocess.PIPE)

    def servers():
        found = []
        for entry in os.listdir("/proc"):
            try:
                if entry.isdigit() and os.path.basename(os.readlink(f"/proc/{entry}/exe")) == "tomoserve" and \
                        str(tmp_path) in open(f"/proc/{entry}/cmdline").read():
                    found.append(int(entry))
            except OSError:
                continue
        return found

    try:
        for line in process.stdout:
            if line.startswith(b"loaded"):
                break
        assert servers()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 60
    while servers():
        assert time.monotonic() < deadline, "the server lives on"
        time.sleep(0.1)
    shutil.rmtree(tmp_path, ignore_errors=True)
