"""Devices that are asked for and not there: the server says so and ends; it never computes on the CPU instead."""
import pathlib
import subprocess
import time

import pytest
from conftest import BIN, MODELS

GRACE_MS = 1500
HAS_DRIVER = any(pathlib.Path("/dev").glob("nvidia*"))


def run_server(tmp_path, *arguments):
    """Runs a server until it ends; returns it and the seconds that took."""
    config = tmp_path / "server.textproto"
    config.write_text(f"device_grace_ms: {GRACE_MS}\n")
    begin = time.monotonic()
    done = subprocess.run([str(BIN / "tomoserve"), "--config", str(config), "--listen", "127.0.0.1:0", "--data",
                           str(tmp_path / "data"), "--models", str(MODELS), *arguments],
                          capture_output=True, text=True, timeout=60)
    return done, time.monotonic() - begin


@pytest.mark.skipif(HAS_DRIVER, reason="this machine has an NVIDIA driver")
@pytest.mark.parametrize("devices", ["cuda:0", "cpu,cuda:0", "cpu,cuda:all"])
def test_a_gpu_that_is_not_there_ends_the_server(tmp_path, devices):
    done, seconds = run_server(tmp_path, "--devices", devices)
    assert done.returncode == 1
    assert done.stdout == "", "never ready"
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("tomoserve: DEVICE_UNAVAILABLE: ")
    assert "cuda:0: DEVICE_UNAVAILABLE (libcuda.so.1)" in last
    assert GRACE_MS / 1000 <= seconds < 30


@pytest.mark.skipif(HAS_DRIVER, reason="this machine has an NVIDIA driver")
def test_all_gpus_of_a_host_without_any_end_the_server(tmp_path):
    done, _ = run_server(tmp_path, "--devices", "cuda:all", "--min-devices", "2")
    assert done.returncode == 1
    assert "fewer than 2 devices can be used: cuda:0: DEVICE_UNAVAILABLE (libcuda.so.1)" in done.stderr
    assert "only 1 were found" in done.stderr


@pytest.mark.skipif(HAS_DRIVER, reason="this machine has an NVIDIA driver")
def test_auto_takes_the_cpu_where_there_is_no_gpu_and_says_so(server_factory):
    server = server_factory(devices="auto")
    assert '"no_gpu"' in server.text()
    assert '"device_kind":"cpu' in server.text()


@pytest.mark.skipif(HAS_DRIVER, reason="this machine has an NVIDIA driver")
def test_enough_devices_serve_without_the_missing_one(server_factory):
    server = server_factory(devices="cpu,cuda:0", config=f"min_devices: 1 device_grace_ms: {GRACE_MS}")
    time.sleep(2 * GRACE_MS / 1000)
    assert server.alive()
    assert '"device_unusable"' in server.text()


@pytest.mark.parametrize("arguments", [["--devices", "gpu"], ["--devices", "cuda:"], ["--devices", "cuda:0,cuda:0"],
                                       ["--devices", "cpu", "--min-devices", "2"]])
def test_devices_that_mean_nothing_are_usage_errors(tmp_path, arguments):
    done, _ = run_server(tmp_path, *arguments)
    assert done.returncode == 2
    assert "CONFIG_INVALID" in done.stderr


def test_the_folder_of_device_locks_is_configured(server_factory, tmp_path):
    folder = tmp_path / "locks" / "of this host"
    server_factory(config=f'lock_folder: "{folder}"')
    assert folder.is_dir()


def test_a_relative_folder_of_device_locks_is_refused(tmp_path):
    config = tmp_path / "locks.textproto"
    config.write_text(f'data: "{tmp_path}/data" models: "{MODELS}" lock_folder: "locks"\n')
    done = subprocess.run([str(BIN / "tomoserve"), "--config", str(config)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "CONFIG_INVALID" in done.stderr and "lock_folder" in done.stderr
