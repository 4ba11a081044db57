"""tools/train: phantoms are there whole or not at all, however a run ended. Training itself is no test's business."""
import json
import sys
import types

import numpy
import pytest
from conftest import BIN, ROOT

TRAIN = ROOT / "tools" / "train"


@pytest.fixture
def phantoms(monkeypatch):
    """tools/train/phantoms.py with a stand-in for volumes.py, which needs torch: volumes stay as they are."""
    volumes = types.SimpleNamespace(to_ras=lambda array: array, resample=lambda volume, spacing: volume)
    monkeypatch.setitem(sys.modules, "volumes", volumes)
    monkeypatch.syspath_prepend(str(TRAIN))
    monkeypatch.delitem(sys.modules, "phantoms", raising=False)
    import phantoms as module
    # Small ones: these tests are about files.
    monkeypatch.setattr(module, "options_of", lambda split, index: {
        "seed": index, "size": 64, "slices": 48, "spacing": "5.6,5.6,6", "nodules": 1, "nodule-size": "12,16"})
    yield module
    sys.modules.pop("phantoms", None)


@pytest.mark.parametrize("split,array", [("train", "npz"), ("tune", "npy")])
def test_a_phantom_is_an_array_and_its_truth(phantoms, tmp_path, split, array):
    phantoms.make(str(BIN / "tomoctl"), split, 7, str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["7.json", f"7.{array}"]
    truth = json.loads((tmp_path / "7.json").read_text())
    loaded = numpy.load(tmp_path / f"7.{array}")
    image = loaded["image"] if split == "train" else loaded
    assert image.shape[::-1] == tuple(truth["size_ijk"]) and len(truth["nodules"]) == 1
    if split == "train":
        assert set(loaded) == {"image", "mask"} and loaded["mask"].max() == 255


@pytest.mark.parametrize("file", ["array", "truth"])
def test_an_interrupted_phantom_is_made_again(phantoms, monkeypatch, tmp_path, file):
    def interrupted(target, *_):
        target.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if file == "array":
            patch.setattr(phantoms.np, "save", interrupted)
        else:
            whole = phantoms.write_whole
            patch.setattr(phantoms, "write_whole",
                          lambda path, write: whole(path, interrupted if path.endswith(".json") else write))
        with pytest.raises(KeyboardInterrupt):
            phantoms.make(str(BIN / "tomoctl"), "test", 3, str(tmp_path))
    # Nothing that train.py or evaluate.py would read: no truth, and no half array.
    assert not list(tmp_path.glob("*.json"))
    assert [path.name for path in tmp_path.glob("*.npy")] == ([] if file == "array" else ["3.npy"])
    phantoms.make(str(BIN / "tomoctl"), "test", 3, str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3.json", "3.npy"]
    assert numpy.load(tmp_path / "3.npy").ndim == 3 and json.loads((tmp_path / "3.json").read_text())["nodules"]


def test_a_whole_phantom_is_left_alone(phantoms, tmp_path):
    (tmp_path / "5.json").write_text("{}")
    phantoms.make("/nowhere/tomoctl", "test", 5, str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["5.json"]
