"""Starts the real programs for tests: a server on loopback with its own data folder, tomoctl, phantoms, stubs."""
import ctypes
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("TOMOSERVE_BIN", ROOT / "build" / "bin"))


def shared(variable, name):
    """A folder of data that is not part of the project; the test is skipped where it is absent."""
    folder = pathlib.Path(os.environ.get(variable, ROOT.parent / "shared" / name))
    if not folder.exists():
        pytest.skip(f"shared data absent: {folder}")
    return folder


@pytest.fixture(scope="session")
def test_data():
    return shared("TOMOSERVE_TEST_DATA", "data")


@pytest.fixture(scope="session")
def shared_models():
    return shared("TOMOSERVE_MODELS", "models")


class Server:
    """A running tomoserve. `restart` keeps its data folder; with `listen_port` also its port."""

    def __init__(self, folder, models, devices="cpu", config=None, listen_port=0, programs=BIN):
        self.folder = pathlib.Path(folder)
        self.data = self.folder / "data"
        self.models = [str(model) for model in models]
        self.devices = devices
        self.config = config
        self.listen_port = listen_port
        self.programs = programs
        self.log = open(self.folder / "server.log", "ab")
        self.process = None
        self.port = None

    def start(self, timeout=120):
        command = [str(self.programs / "tomoserve"), "--listen", f"127.0.0.1:{self.listen_port}", "--data", str(self.data),
                   "--devices", self.devices]
        for model in self.models:
            command += ["--models", model]
        if self.config:
            path = self.folder / "server.textproto"
            path.write_text(self.config)
            command += ["--config", str(path)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        deadline = time.monotonic() + timeout
        line = self.process.stdout.readline()
        if not line.startswith("ready ") or time.monotonic() > deadline:
            raise RuntimeError(f"server did not start ({line!r}): {self.text()[-2000:]}")
        self.port = int(line.split()[1])
        return self

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def text(self):
        self.log.flush()
        return (self.folder / "server.log").read_text(errors="replace")

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def stop(self):
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(timeout=40) == 0, self.text()[-2000:]

    def kill(self):
        if self.alive():
            self.process.kill()
            self.process.wait()

    def restart(self):
        self.stop() if self.alive() else None
        return self.start()

    def children(self, name):
        """Process ids of living descendants whose program is `name`."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                program = os.path.basename(os.readlink(entry / "exe"))
                pid = int(entry.name)
                while pid not in (0, 1, self.process.pid):
                    pid = int((pathlib.Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, ValueError):
                continue
            if program == name and pid == self.process.pid:
                found.append(int(entry.name))
        return found

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def rss_bytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024


def _blob_repository():
    """A repository with nodule_blob alone: every start waits until all models are warm, and this one is at once."""
    folder = tempfile.TemporaryDirectory(prefix="tomoserve-models-")
    shutil.copytree(ROOT / "models" / "nodule_blob", pathlib.Path(folder.name) / "nodule_blob")
    return folder


_REPOSITORY = _blob_repository()  # removed when the tests end
MODELS = pathlib.Path(_REPOSITORY.name)


@pytest.fixture
def server_factory(tmp_path):
    servers = []

    def make(models=(MODELS,), **kwargs):
        folder = tmp_path / f"server{len(servers)}"
        folder.mkdir()
        server = Server(folder, models, **kwargs)
        servers.append(server)
        return server.start()

    yield make
    for server in servers:
        server.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server with nodule_blob for a whole module."""
    made = Server(tmp_path_factory.mktemp("server"), [MODELS]).start()
    yield made
    made.stop()


def tomoctl(*arguments, server=None, check=True, timeout=600):
    """Runs tomoctl; returns the finished process (text output)."""
    command = [str(BIN / "tomoctl")]
    if server is not None:
        command += ["--server", server.address]
    command += [str(argument) for argument in arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    if check:
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def phantom(folder, *arguments):
    """Writes a phantom series; returns its truth."""
    tomoctl("phantom", "--output", folder, *arguments)
    return json.loads((pathlib.Path(folder) / "truth.json").read_text())


@pytest.fixture(scope="session")
def small_ct(tmp_path_factory):
    """A small chest CT that is quick to analyse: (folder, truth)."""
    folder = tmp_path_factory.mktemp("small_ct")
    return folder, phantom(folder, "--size", "180", "--slices", "140", "--spacing", "2.0,2.0,2.1", "--nodules", "3",
                           "--seed", "5")


@pytest.fixture(scope="session")
def shared_repository(tmp_path_factory, shared_models):
    """A model repository with the two real networks."""
    folder = tmp_path_factory.mktemp("shared_models")
    subprocess.run([str(ROOT / "script" / "shared-models"), str(folder)], check=True)
    return folder


@pytest.fixture(scope="session")
def stubs(tmp_path_factory):
    """Client stubs generated from proto/, as a module-like object."""
    out = tmp_path_factory.mktemp("stubs")
    names = ["geometry", "recipe", "finding", "study", "study_service", "worklist_service", "model_service"]
    subprocess.run(["protoc", f"-I{ROOT / 'proto'}", f"--python_out={out}", f"--grpc_out={out}",
                    f"--plugin=protoc-gen-grpc={shutil.which('grpc_python_plugin')}",
                    *(f"tomoserve/v1/{name}.proto" for name in names)], check=True)
    sys.path.insert(0, str(out))
    import importlib

    class Stubs:
        pass

    made = Stubs()
    for name in names:
        setattr(made, name, importlib.import_module(f"tomoserve.v1.{name}_pb2"))
        setattr(made, f"{name}_grpc", importlib.import_module(f"tomoserve.v1.{name}_pb2_grpc"))
    return made


def copy_series(source, target, keep=None):
    """Copies the files of a series, all or those that `keep(index)` says."""
    target = pathlib.Path(target)
    target.mkdir(parents=True, exist_ok=True)
    files = sorted(path for path in pathlib.Path(source).iterdir() if path.suffix == ".dcm")
    for index, path in enumerate(files):
        if keep is None or keep(index):
            shutil.copy(path, target / path.name)
    return target


def free_port():
    """A port of loopback that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def enter_own_network():
    """Moves this process, and what it starts from now on, into a network namespace that has nothing but loopback."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_user, new_net = 0x10000000, 0x40000000  # linux/sched.h
    if libc.unshare(new_net) != 0 and libc.unshare(new_user | new_net) != 0:
        pytest.skip(f"no network namespace can be made here: {os.strerror(ctypes.get_errno())}")
    set_flags, up = 0x8914, 1  # SIOCSIFFLAGS, IFF_UP
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sH14x", b"lo", up))


@pytest.fixture(scope="session")
def example_python(tmp_path_factory):
    """What examples/ run with, as their README says: (interpreter with requirements.txt, environment with the stubs).

    The packages come from PyPI and are kept under build/ until requirements.txt changes.
    """
    requirements = ROOT / "examples" / "python" / "requirements.txt"
    folder = ROOT / "build" / f"examples-venv-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        subprocess.run(["/usr/bin/python3", "-m", "venv", "--clear", str(folder)], check=True)
        done = subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                               "--only-binary=:all:", "-r", str(requirements)], capture_output=True, text=True)
        if done.returncode != 0:
            said = f"the examples' packages cannot be installed: {done.stderr.strip()[-300:]}"
            pytest.fail(said) if os.environ.get("CI") == "true" else pytest.skip(said)
        (folder / "complete").touch()
    stubs_folder = tmp_path_factory.mktemp("example_stubs")
    subprocess.run([str(ROOT / "examples" / "python" / "generate.sh"), str(stubs_folder)], check=True,
                   env={**os.environ, "PYTHON": str(python)})
    return python, {**os.environ, "PYTHONPATH": str(stubs_folder), "PYTHONDONTWRITEBYTECODE": "1"}
