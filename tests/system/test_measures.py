"""What findings measure beside their size, end to end: mean HU, distance to a label, side, site, and a flag on them."""
import itertools
import json
import math

import numpy
import pytest
from conftest import Server, tomoctl
from series_writer import Geometry, write_series
from test_model_check import RECIPE, write_network

# Soft tissue is class 1, what is denser class 2, bone class 3; all bone is 1 after clipping.
CODE = """class Halves(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  _is_full_backward_hook : NoneType
  def forward(self: __torch__.Halves,
    volume: Tensor) -> Tensor:
    bone = torch.to(torch.gt(volume, 0.95), 6)
    dense = torch.sub(torch.to(torch.gt(volume, 0.85), 6), bone)
    soft = torch.sub(torch.sub(torch.to(torch.gt(volume, 0.7), 6), dense), bone)
    return torch.cat([torch.full_like(dense, 0.5), soft, dense, bone], 1)
"""
MORE = """
labels {
  value: 3 name: "spine" rgb: 3
  type { value: "421060004" scheme: "SCT" meaning: "Vertebral column" }
  category { value: "123037004" scheme: "SCT" meaning: "Anatomical Structure" }
}
"""
MEASURES = """laterality { of_midplane { label: 3 margin_mm: 10 } } distance_to: 3
  anatomic_site { value: "818983003" scheme: "SCT" meaning: "Abdomen" }"""
SPACING_MM = 5.0


def body():
    """[k][j][i], 5 mm, i to the left: a liver of 100 and 120 HU on the right, a spleen of 300 HU on the left, a spine."""
    volume = numpy.full((24, 40, 40), -1000, numpy.int16)
    volume[1:23, 5:35, 3:37] = -50
    volume[6:16, 10:15, 5:15] = 100
    volume[6:16, 15:20, 5:15] = 120
    volume[8:16, 10:20, 22:32] = 300
    volume[2:22, 22:26, 18:20] = 1200
    return volume


def write(folder, volume, flips):
    """`volume` stored along the patient's axes, those in `flips` (of k, j, i) from their other end."""
    sign = [-1.0 if flip else 1.0 for flip in flips]
    origin = [(n - 1) * SPACING_MM if flip else 0.0 for n, flip in zip(volume.shape, flips)]
    geometry = Geometry(origin=origin[::-1], row=(sign[2], 0, 0), column=(0, sign[1], 0),
                        spacing_ij=(SPACING_MM, SPACING_MM), step=(0, 0, sign[0] * SPACING_MM))
    write_series(folder, numpy.flip(volume, tuple(axis for axis in range(3) if flips[axis])), geometry)


@pytest.fixture(scope="module")
def organs(tmp_path_factory):
    models = tmp_path_factory.mktemp("measures") / "models"
    model = models / "organs" / "1"
    model.mkdir(parents=True)
    write_network(model / "model.ts", CODE)
    recipe = RECIPE.format(orientation='orientation: "RAS"', low="liver", high="spleen", inputs="", channels=1, more=MORE)
    for old, new in (
            ("output_channels: 3", "output_channels: 4"),
            ("findings { label: 1 score: SCORE_RULE_MAX }", "findings { label: 1 %s }" % MEASURES),
            ("findings { label: 2 score: SCORE_RULE_MAX }", "findings { label: 2 %s }" % MEASURES),
            ("flags { label: 1 level: FLAG_LEVEL_INFO }",
             "flags { label: 2 level: FLAG_LEVEL_URGENT side: TOWARDS_LEFT mean_hu { min: 200 } "
             "distances { to_label: 3 mm { max: 15 } } }")):
        assert old in recipe
        recipe = recipe.replace(old, new)
    (model / "recipe.textproto").write_text(recipe)
    made = Server(tmp_path_factory.mktemp("server"), [models]).start()
    yield made
    made.stop()


def analysed(server, folder):
    done = tomoctl("analyze", folder, "--model", "organs", "--json", server=server)
    run = json.loads(done.stdout)["runs"][0]
    return run, {finding["label"]: finding for finding in run["findings"]}


@pytest.mark.parametrize("flips", list(itertools.product([False, True], repeat=3)),
                         ids=lambda flips: "".join("kji"[n] if flip else "-" for n, flip in enumerate(flips)))
def test_measures_are_the_same_in_eight_orientations(organs, tmp_path, flips):
    write(tmp_path / "ct", body(), flips)
    run, found = analysed(organs, tmp_path / "ct")
    assert set(found) == {"liver", "spleen"}
    liver, spleen = found["liver"], found["spleen"]
    assert liver["centreLpsMm"][0] < spleen["centreLpsMm"][0]
    assert (liver["laterality"], spleen["laterality"]) == ("RIGHT", "LEFT")
    assert liver["meanHu"] == 110 and liver["standardDeviationHu"] == pytest.approx(10)
    assert spleen["meanHu"] == 300 and spleen["standardDeviationHu"] == 0
    for finding, gap_i in ((liver, 3), (spleen, 2)):
        distance, = finding["distances"]
        assert (distance["toLabel"], distance["toLabelValue"]) == ("spine", 3)
        assert distance["distanceMm"] == pytest.approx(SPACING_MM * math.hypot(gap_i, 2))
        assert finding["anatomicSite"] == {"value": "818983003", "scheme": "SCT", "meaning": "Abdomen"}
    assert (run["flag"]["state"], run["flag"]["level"]) == ("FLAGGED", "URGENT")


def test_a_flag_on_a_side_is_not_raised_on_the_other_one(organs, tmp_path):
    write(tmp_path / "ct", body()[:, :, ::-1], (False, False, False))
    run, found = analysed(organs, tmp_path / "ct")
    assert (found["liver"]["laterality"], found["spleen"]["laterality"]) == ("LEFT", "RIGHT")
    assert run["flag"]["state"] == "NO_FINDING"


def test_without_the_label_in_the_middle_the_question_stays_open(organs, tmp_path):
    volume = body()
    volume[volume == 1200] = -50
    write(tmp_path / "ct", volume, (False, False, False))
    run, found = analysed(organs, tmp_path / "ct")
    assert found["spleen"]["laterality"] is None and found["spleen"]["distances"] == []
    assert run["flag"]["state"] == "INCONCLUSIVE"
    assert [reason["code"] for reason in run["flag"]["reasons"]] == ["MEASUREMENT_MISSING"]


def test_the_table_shows_side_and_mean(organs, tmp_path):
    write(tmp_path / "ct", body(), (False, False, False))
    lines = tomoctl("analyze", tmp_path / "ct", "--model", "organs", server=organs).stdout.splitlines()
    spleen, = (line for line in lines if " spleen " in line)
    assert "300.0 HU" in spleen and "left" in spleen
