"""benchmarks/gpu/pack: it holds every library that its programs need, and starts nowhere that it cannot run."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from conftest import BIN, MODELS, ROOT

PACK = ROOT / "benchmarks" / "gpu" / "pack"
TORCH = ROOT / ".deps" / "torch" / "torch" / "lib"
# What the GPU machine brings: glibc and LibTorch with CUDA.
BROUGHT = re.compile(r"(linux-vdso|ld-linux.*|lib(c|m|mvec|dl|rt|pthread|resolv|util|anl))\.so(\.\d+)?"
                     r"|lib(torch_cpu|c10|torch_cuda|c10_cuda)\.so|libgomp.*|libcudart\.so\.13|libcupti\.so\.13")


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """The pack's tree, as for a rehearsal on a CPU, from the programs that are built."""
    folder = tmp_path_factory.mktemp("pack") / "stage"
    subprocess.run([str(PACK), "--without-cuda", "--without-tests", "--programs", str(BIN), "--stage", str(folder)],
                   check=True)
    (folder / "library-path").write_text(f"{folder / 'lib'}:{folder / 'lib' / 'gcc'}:{TORCH}\n")
    return folder


@pytest.fixture
def gpu(stage, monkeypatch):
    """Imports the pack's own modules by name."""
    monkeypatch.syspath_prepend(str(stage / "benchmarks" / "gpu"))

    def load(name):
        for module in ("host", "parity", "statistics_of", "study", "windows"):
            monkeypatch.delitem(sys.modules, module, raising=False)
        return __import__(name)

    return load


def elf_files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.read_bytes()[:4] == b"\x7fELF")


def dynamic(path, entry):
    out = subprocess.run(["readelf", "--dynamic", "--wide", str(path)], check=True, capture_output=True, text=True).stdout
    return re.findall(rf"\({entry}\).*\[(.*)\]", out)


def test_every_needed_library_is_packed_or_brought_by_the_machine(stage):
    packed = {path.name for path in (stage / "lib").rglob("*.so*")}
    files = elf_files(stage)
    assert {"tomoserve", "tomoctl", "tomoserve-dicom.program", "tomoserve-worker.program"} <= {path.name for path in files}
    for path in files:
        for name in dynamic(path, "NEEDED"):
            assert name in packed or BROUGHT.fullmatch(name), f"{path.name} needs {name}"
    # The machine's own glibc and LibTorch must not meet a second copy.
    assert not [name for name in packed if BROUGHT.fullmatch(name)]


def test_the_c_plus_plus_library_lies_apart(stage):
    """It is used only where the machine's own is older: a newer one serves both."""
    assert {path.name for path in (stage / "lib" / "gcc").iterdir()} == {"libstdc++.so.6", "libgcc_s.so.1"}
    assert not list((stage / "lib").glob("libstdc++*"))


def test_packed_programs_load_their_libraries_from_the_pack(stage):
    environment = {"LD_LIBRARY_PATH": (stage / "library-path").read_text().strip()}
    for name in ("tomoserve", "tomoctl", "tomoserve-dicom.program"):
        done = subprocess.run(["ldd", str(stage / "bin" / name)], check=True, capture_output=True, text=True, env={
            **environment, "PATH": os.environ["PATH"]})
        for library, path in re.findall(r"(\S+) => (\S+) \(", done.stdout):
            assert path.startswith(str(stage)) or BROUGHT.fullmatch(library), f"{name}: {library} from {path}"
        assert "not found" not in done.stdout


def test_helper_and_worker_start_with_an_empty_environment(stage, tmp_path):
    """As the server starts them: the helper finds DCMTK's dictionary, the worker LibTorch."""
    environment = {"LD_LIBRARY_PATH": (stage / "library-path").read_text().strip()}
    tomoctl = [str(stage / "bin" / "tomoctl")]
    subprocess.run([*tomoctl, "phantom", "--output", str(tmp_path / "ct"), "--size", "64", "--slices", "4", "--nodules",
                    "0"], check=True, env=environment)
    done = subprocess.run([*tomoctl, "inspect", str(tmp_path / "ct"), "--json"], check=True, capture_output=True, text=True,
                          env=environment)
    (series,) = json.loads(done.stdout)["series"]
    assert series["instances"] == 4
    done = subprocess.run([str(stage / "bin" / "tomoserve-worker"), "--help"], capture_output=True, text=True, env={})
    assert done.returncode == 0, done.stderr
    assert "--device" in done.stdout


def test_pack_holds_no_path_of_the_machine_that_made_it(stage):
    for path in stage.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".py", "") and path.read_bytes()[:4] != b"\x7fELF" \
                and path.name != "library-path":
            assert str(ROOT).encode() not in path.read_bytes(), path


def fake_python(folder, version):
    """A program that answers as Python does whose torch has this version."""
    path = folder / "python-with-torch"
    about = json.dumps({"path": "/nowhere/torch", "version": version, "cuda": None, "cudnn": None, "gpus": []})
    path.write_text(f"#!/bin/sh\necho '{about}'\n")
    path.chmod(0o755)
    return path


def run_in(folder, *arguments):
    return subprocess.run([sys.executable, "-B", str(folder / "run"), *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.parametrize("version", ["2.10.0", "2.12.0+cu130", "2.110.0"])
def test_another_torch_is_refused_with_its_version(stage, tmp_path, version):
    done = run_in(stage, "--python", fake_python(tmp_path, version), "--out", tmp_path)
    assert done.returncode == 3
    assert version in done.stderr and "2.11" in done.stderr
    assert not list(tmp_path.glob("*.json"))


def test_a_gpu_without_the_module_is_refused(stage, tmp_path):
    done = run_in(stage, "--python", fake_python(tmp_path, "2.11.0"), "--devices", "cuda:0", "--out", tmp_path)
    assert done.returncode == 3
    assert "without-cuda" in done.stderr


def test_run_outside_a_pack_says_how_to_make_one():
    done = run_in(ROOT / "benchmarks" / "gpu")
    assert done.returncode == 3
    assert "benchmarks/gpu/pack" in done.stderr


def test_pack_names_the_program_that_is_not_built(tmp_path):
    done = subprocess.run([str(PACK), "--without-cuda", "--programs", str(tmp_path), "--stage", str(tmp_path / "stage")],
                          capture_output=True, text=True)
    assert done.returncode == 1
    assert "tomoserve is not built" in done.stderr


@pytest.fixture
def window_bench(gpu):
    """The engine's benchmark on the CPU, by the protocol that run uses."""
    folder = os.environ.get("TOMOSERVE_BENCHMARKS")
    if folder is None:
        pytest.skip("TOMOSERVE_BENCHMARKS does not name the folder of the benchmarks")
    child = gpu("windows").Child([f"{folder}/tomoserve-window-bench", "--device", "cpu"], None, subprocess.DEVNULL)
    yield child
    child.end()


def test_window_bench_times_every_pass_of_a_network(window_bench):
    assert window_bench.ask({"run": {"batch": 1, "passes": 1}}, 60)["error"]["code"] == "MODEL_NOT_LOADED"
    assert "load_ms" in window_bench.ask({"load": {"models": str(MODELS), "name": "nodule_blob"}}, 200)
    answer = window_bench.ask({"run": {"batch": 1, "passes": 2}}, 200)
    assert len(answer["ms"]) == 2 and min(answer["ms"]) > 0
    assert answer["peak_bytes"] > 96 ** 3 * 4 and len(answer["sample"]) == 256
    again = window_bench.ask({"run": {"batch": 1, "passes": 1}}, 200)
    assert again["sample"] == answer["sample"]


def test_window_bench_answers_what_it_cannot_do(window_bench):
    assert window_bench.ask({"load": {"models": str(MODELS), "name": "absent"}}, 60)["error"]["code"] \
        == "UNKNOWN_MODEL"
    assert window_bench.ask({"nonsense": 1}, 60)["error"]["code"] == "REQUEST_FAILED"
    window_bench.end()
    assert window_bench.ask({"run": {}}, 60)["error"]["code"] == "ENDED"


TORCH_PYTHON = os.environ.get("TOMOSERVE_TORCH_PYTHON", "python3")


def has_torch():
    return shutil.which(TORCH_PYTHON) is not None and subprocess.run(
        [TORCH_PYTHON, "-c", "import torch"], capture_output=True).returncode == 0


@pytest.mark.skipif(not has_torch(), reason="no Python with torch (TOMOSERVE_TORCH_PYTHON names one)")
def test_standard_networks_have_the_published_cost():
    """GFLOP of a window within 2 % of the published configurations; outputs of the window's size."""
    code = """
import sys; sys.path.insert(0, sys.argv[1])
import standard_networks as standard, torch
for name, network in standard.NETWORKS.items():
    assert abs(standard.count_gflop(name) / network.gflop - 1) < 0.02, name
    with torch.device("meta"):
        assert network.make().eval()(torch.empty(2, 1, 64, 64, 64)).shape == (2, network.classes, 64, 64, 64), name
assert all(torch.equal(a, b) for a, b in zip(standard.build("unet_spleen").parameters(),
                                             standard.build("unet_spleen").parameters()))
"""
    subprocess.run([TORCH_PYTHON, "-B", "-c", code, str(ROOT / "tools")], check=True)
