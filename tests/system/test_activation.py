"""What a version may do: set with tomoctl while the server runs, kept with who said so."""
import json
import shutil

import pytest
from conftest import MODELS, phantom, tomoctl


@pytest.fixture
def research_models(tmp_path):
    """nodule_blob as a model that answers without being named."""
    folder = tmp_path / "models"
    shutil.copytree(MODELS, folder)
    recipe = folder / "nodule_blob" / "1" / "recipe.textproto"
    recipe.write_text(recipe.read_text().replace("REGULATORY_STATUS_DEMONSTRATION", "REGULATORY_STATUS_RESEARCH"))
    return folder


def runs(server, folder):
    return json.loads(tomoctl("analyze", folder, "--json", "--force", server=server).stdout)["runs"]


def test_a_stage_holds_from_now_on_and_over_a_restart(server_factory, research_models, tmp_path):
    server = server_factory([research_models])
    phantom(tmp_path / "ct", "--size", "64", "--slices", "20", "--spacing", "5,5,5", "--nodules", "0", "--seed", "4")
    assert len(runs(server, tmp_path / "ct")) == 1
    said = tomoctl("model", "activate", "nodule_blob@1", "off", "--by", "head of physics", server=server).stdout
    assert "OFF" in said and "head of physics" in said
    server.restart()
    history = tomoctl("model", "history", "nodule_blob", server=server).stdout.splitlines()
    assert [line.split(None, 2)[1:] for line in history] == [["ACTIVE", "configuration"], ["OFF", "head of physics"]]
    phantom(tmp_path / "other", "--size", "64", "--slices", "20", "--spacing", "5,5,5", "--nodules", "0", "--seed", "5")
    assert runs(server, tmp_path / "other") == []


def test_what_cannot_be_activated_is_said_by_name(server_factory):
    server = server_factory()
    done = tomoctl("model", "activate", "nodule_blob@7", "active", "--by", "me", server=server, check=False)
    assert done.returncode == 1 and "UNKNOWN_VERSION" in done.stderr
    done = tomoctl("model", "activate", "nodule_blob", "active", "--by", "me", server=server, check=False)
    assert done.returncode == 1 and "ACTIVATION_INVALID" in done.stderr
    assert tomoctl("model", "activate", "nodule_blob@1", "on", "--by", "me", server=server, check=False).returncode == 2
