"""Plausibility rules: a study whose left and right are exchanged is inconclusive, the same study as it was is not."""
import json

import numpy
from conftest import tomoctl
from series_writer import Geometry, write_series
from test_model_check import RECIPE
from tiny_network import write_network

# Soft tissue is class 1, what is denser class 2.
CODE = """class Halves(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  _is_full_backward_hook : NoneType
  def forward(self: __torch__.Halves,
    volume: Tensor) -> Tensor:
    dense = torch.to(torch.gt(volume, 0.85), 6)
    soft = torch.sub(torch.to(torch.gt(volume, 0.7), 6), dense)
    return torch.cat([torch.full_like(dense, 0.5), soft, dense], 1)
"""
RULES = """
plausibility { label: 1 towards: TOWARDS_RIGHT of_label: 2 by_mm: 10 }
plausibility { label: 2 volume_ml { min: 50 max: 120 } }
"""


def body(spleen_slices=8):
    """[k][j][i], 5 mm, i to the left: a liver of 100 HU on the right, a spleen of 300 HU on the left."""
    volume = numpy.full((24, 40, 40), -1000, numpy.int16)
    volume[4:20, 5:35, 3:37] = -50
    volume[6:16, 10:20, 5:15] = 100
    volume[8:8 + spleen_slices, 10:20, 22:32] = 300
    return volume


def test_a_mirrored_study_is_inconclusive(server_factory, tmp_path):
    model = tmp_path / "models" / "organs" / "1"
    model.mkdir(parents=True)
    write_network(model / "model.ts", CODE)
    (model / "recipe.textproto").write_text(RECIPE.format(
        orientation='orientation: "RAS"', low="liver", high="spleen", inputs="", channels=1, more=RULES))
    server = server_factory(models=[tmp_path / "models"])
    geometry = Geometry(spacing_ij=(5.0, 5.0), step=(0.0, 0.0, 5.0))

    def flag_of(name, volume):
        write_series(tmp_path / name, volume, geometry)
        tomoctl("analyze", tmp_path / name, "--model", "organs", "--output", tmp_path / f"{name}_out", server=server)
        run = json.loads((tmp_path / f"{name}_out" / "findings.json").read_text())["runs"][0]
        assert len(run["findings"]) == 2  # what was found is there, whatever it means
        reasons = {reason["code"]: reason["value"] for reason in run["flag"]["reasons"]}
        return run["flag"]["state"], {code: value for code, value in reasons.items() if code.endswith("_IMPLAUSIBLE")}

    state, reasons = flag_of("right", body())
    assert state == "FLAGGED" and not reasons.keys() - {"HU_IMPLAUSIBLE"}
    state, reasons = flag_of("mirrored", body()[:, :, ::-1])
    assert state == "INCONCLUSIVE"
    assert reasons["ORIENTATION_IMPLAUSIBLE"] == "liver 85.0 mm left of spleen, not 10.0 mm right"
    state, reasons = flag_of("large", body(spleen_slices=10))
    assert state == "INCONCLUSIVE"
    assert reasons["VOLUME_IMPLAUSIBLE"] == "spleen 125.0 ml, at most 120.0"
