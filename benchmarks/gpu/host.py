"""The machine that the pack runs on: the libraries that our programs load there, and what it is."""
import contextlib
import ctypes
import datetime
import functools
import json
import os
import pathlib
import platform
import re
import signal
import subprocess
import sys
import time

# The unpacked pack: benchmarks/gpu/pack writes PACK.json at its top.
PACK = pathlib.Path(__file__).resolve().parents[2]

TORCH = "2.11"
GLIBC = (2, 36)
# What g++ 12's standard library defines last; programs built with it need no more.
GLIBCXX = b"GLIBCXX_3.4.30"

ABOUT_TORCH = """
import json, torch
about = {"path": torch.__path__[0], "version": torch.__version__, "cuda": torch.version.cuda,
         "cudnn": torch.backends.cudnn.version(), "gpus": []}
if torch.cuda.is_available():
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        about["gpus"].append({"name": properties.name, "memory_bytes": properties.total_memory,
                              "capability": f"{properties.major}.{properties.minor}",
                              "multiprocessors": properties.multi_processor_count})
print(json.dumps(about))
"""


class Unsuitable(Exception):
    """The machine cannot run the pack; the text says why and what helps."""


class TimeUp(BaseException):
    """The time for measuring is over. No Exception: nothing on the way takes it for a failure of its own."""


def left(deadline):
    """Seconds until a moment of time.monotonic(); 0 when it is over."""
    return max(0.0, deadline - time.monotonic())


@contextlib.contextmanager
def until(deadline):
    """Raises TimeUp in the block, whatever it does, when the deadline comes. In the main thread only, not nested."""
    def ring(*_):
        raise TimeUp

    before = signal.signal(signal.SIGALRM, ring)
    try:
        if left(deadline) == 0:
            raise TimeUp
        signal.setitimer(signal.ITIMER_REAL, left(deadline))
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@functools.lru_cache
def manifest():
    path = PACK / "PACK.json"
    if not path.exists():
        raise Unsuitable("this is not an unpacked pack: make one with benchmarks/gpu/pack and run it with "
                         "benchmarks/gpu/run --pack FILE")
    return json.loads(path.read_text())


def about_torch(python):
    try:
        done = subprocess.run([python, "-c", ABOUT_TORCH], capture_output=True, text=True, timeout=180)
    except OSError as error:
        raise Unsuitable(f"{python} cannot be started: {error}") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        raise Unsuitable(f"{python} has no working torch ({last}); name another with --python")
    about = json.loads(done.stdout.strip().splitlines()[-1])
    if not re.match(re.escape(TORCH) + r"\.", about["version"]):
        raise Unsuitable(f"torch {about['version']} in {about['path']}: the programs are linked against LibTorch "
                         f"{TORCH}.x and its C++ interface changes with every release; name another Python with --python")
    return about


def check_glibc():
    name, version = os.confstr("CS_GNU_LIBC_VERSION").split()
    if tuple(map(int, version.split(".")[:2])) < GLIBC:
        raise Unsuitable(f"{name} {version}: the programs need at least {'.'.join(map(str, GLIBC))}")


def has_new_libstdcxx():
    """Whether the machine's own libstdc++ is at least the one that the programs were built with."""
    try:
        ctypes.CDLL("libstdc++.so.6")
    except OSError:
        return False
    for line in pathlib.Path("/proc/self/maps").read_text().splitlines():
        path = line.split()[-1]
        if "libstdc++.so.6" in path:
            return GLIBCXX in pathlib.Path(path).read_bytes()
    return False


def prepare(python):
    """Checks the machine and writes library-path, which the wrappers in bin/ read: the server starts its children with
    an empty environment. Returns what torch says of itself."""
    manifest()
    check_glibc()
    about = about_torch(python)
    torch_folder = pathlib.Path(about["path"])
    folders = [PACK / "lib", torch_folder / "lib", torch_folder.parent / "nvidia" / "cu13" / "lib"]
    if not has_new_libstdcxx():
        folders.insert(0, PACK / "lib" / "gcc")
    # The driver's libraries may be known by this variable alone.
    folders += filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(":"))
    (PACK / "library-path").write_text(":".join(map(str, folders)) + "\n")
    return about


def program_environment():
    """For programs of the pack. Not for Python: its torch brings its own libraries."""
    environment = dict(os.environ)
    environment["LD_LIBRARY_PATH"] = (PACK / "library-path").read_text().strip()
    environment["DCMDICTPATH"] = f"{PACK / 'share' / 'dicom.dic'}:{PACK / 'share' / 'private.dic'}"
    # Tests look for data that is not part of the project; here there is none.
    for name in ("TOMOSERVE_TEST_DATA", "TOMOSERVE_REFERENCE", "TOMOSERVE_MODELS"):
        environment[name] = str(PACK / "absent")
    return environment


def nvidia_smi():
    try:
        done = subprocess.run(["nvidia-smi", "--query-gpu=driver_version,power.limit,clocks.max.sm,clocks.max.memory",
                               "--format=csv,noheader"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    if done.returncode != 0 or not done.stdout.strip():
        return {}
    fields = [field.strip() for field in done.stdout.strip().splitlines()[0].split(",")]
    return dict(zip(("driver", "power_limit", "max_sm_clock", "max_memory_clock"), fields))


def describe(device, about):
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory_kb = int(re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())[1])
    made = {"cpu": cpu[1] if cpu else platform.machine(), "cores": len(os.sched_getaffinity(0)),
            "memory_bytes": memory_kb * 1024, "kernel": platform.release(), "libc": os.confstr("CS_GNU_LIBC_VERSION"),
            "python": platform.python_version(), "torch": about["version"], "cuda": about["cuda"],
            "cudnn": about["cudnn"], "load_average_at_start": os.getloadavg()[0]}
    if device != "cpu":
        index = int(device.partition(":")[2] or 0)
        if index >= len(about["gpus"]):
            raise Unsuitable(f"no {device}: torch sees {len(about['gpus'])} GPUs")
        made["gpu"] = {**about["gpus"][index], **nvidia_smi()}
    return made


def slug(device, machine):
    """"h100-80gb-hbm3", "cpu-2core-amd-epyc": for file names."""
    text = machine["gpu"]["name"] if device != "cpu" else f"cpu {machine['cores']}core {machine['cpu']}"
    text = re.sub(r"\b(NVIDIA|Processor|CPU @.*)\b", "", text, flags=re.I if device != "cpu" else 0)
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].rstrip("-")


def now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def say(text):
    print(f"run: {text}", file=sys.stderr, flush=True)
