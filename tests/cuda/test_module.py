"""The CUDA module's file: what it exports, what it needs, for which GPUs it has code. Needs no GPU."""
import ctypes
import os
import pathlib
import re
import struct
import subprocess
import sys

import pytest

MODULE = pathlib.Path(os.environ["TOMOSERVE_CUDA_MODULE"])
ENTRY = "tomoserve_cuda_module"
FATBIN_MAGIC = 0xBA55ED50
PTX, SASS = 1, 2


def readelf(*options):
    return subprocess.run(["readelf", "-W", *options, str(MODULE)], capture_output=True, text=True, check=True).stdout


def symbols():
    """(name without version, whether it is defined here) of the dynamic symbols that are not weak."""
    found = []
    for line in readelf("--dyn-syms").splitlines():
        words = line.split()
        if len(words) >= 8 and words[0].rstrip(":").isdigit() and words[4] == "GLOBAL":
            found.append((words[7], words[6] != "UND"))
    return found


def code():
    """(kind, N of sm_N) of each piece of device code."""
    data = MODULE.read_bytes()
    pieces = set()
    at = data.find(struct.pack("<I", FATBIN_MAGIC))
    while at >= 0:
        header_bytes, size = struct.unpack_from("<HQ", data, at + 6)
        piece, end = at + header_bytes, at + header_bytes + size
        while piece < end:
            kind, piece_header_bytes, piece_bytes = struct.unpack_from("<HxxIQ", data, piece)
            pieces.add((kind, struct.unpack_from("<I", data, piece + 28)[0]))
            piece += piece_header_bytes + piece_bytes
        at = data.find(struct.pack("<I", FATBIN_MAGIC), end)
    return pieces


def test_exports_the_entry_point_and_nothing_else():
    assert [name for name, defined in symbols() if defined] == [ENTRY]


def test_needs_nothing_but_cudas_run_time_library():
    names = {name.split("@")[0] for name, defined in symbols() if not defined}
    foreign = {name for name in names if not re.match(r"_*cuda", name)}
    # The C and C++ libraries' symbols carry versions.
    versioned = {name.split("@")[0] for name, _ in symbols() if re.search(r"@(GLIBC|GLIBCXX|CXXABI|GCC)_", name)}
    assert foreign <= versioned
    assert any(name.startswith("cuda") for name in names)


def test_brings_the_cuda_half_of_libtorch_along():
    dynamic = readelf("-d")
    needed = set(re.findall(r"NEEDED.*\[(.*)\]", dynamic))
    assert {"libtorch_cuda.so", "libc10_cuda.so", "libcudart.so.13"} <= needed
    assert not needed & {"libtorch.so", "libcuda.so.1", "libcudnn.so.9"}
    folders = re.search(r"RUNPATH.*\[(.*)\]", dynamic)[1].split(":")
    assert any((pathlib.Path(folder) / "libtorch_cuda.so").exists() for folder in folders)
    assert any((pathlib.Path(folder) / "libcudart.so.13").exists() for folder in folders)


def test_has_code_for_the_architectures_asked_for():
    wanted = set()
    for name in os.environ["TOMOSERVE_CUDA_ARCHITECTURES"].split(","):
        number, _, form = name.partition("-")
        wanted |= {(kind, int(number)) for kind, of in ((PTX, "virtual"), (SASS, "real")) if form in ("", of)}
    assert code() == wanted


def test_can_be_opened_or_lacks_only_cudas_libraries():
    script = f"import ctypes, os; ctypes.CDLL({str(MODULE)!r}, mode=os.RTLD_LAZY)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    if done.returncode != 0:
        missing = re.search(r"OSError: (\S+): cannot open shared object file", done.stderr)
        assert missing and re.match(r"lib(cu|nccl|nvshmem|nvJitLink)", missing[1]), done.stderr
        pytest.skip(f"CUDA's libraries are not on this machine: {missing[1]}")
    entry = ctypes.CDLL(str(MODULE))[ENTRY]
    entry.restype = ctypes.POINTER(ctypes.c_uint32)
    assert entry()[0] == 1, "the ABI of tomoserve/cuda/module.h"
