"""A worker at work: every thread of it is confined, and it does its work so."""
import pathlib

from conftest import phantom, tomoctl


def thread_status(pid):
    """{field: value} of each thread of a process, as the kernel tells."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        found.append(dict(line.split(":\t", 1) for line in lines if ":\t" in line))
    return found


def test_every_thread_of_a_worker_is_confined_and_the_worker_works(server_factory, tmp_path):
    server = server_factory()
    phantom(tmp_path / "ct", "--size", "96", "--slices", "60", "--spacing", "3.8,3.8,5", "--nodules", "1", "--seed", "3")
    tomoctl("analyze", tmp_path / "ct", "--model", "nodule_blob", "--output", tmp_path / "out", server=server)
    (worker,) = server.children("tomoserve-worker")
    threads = thread_status(worker)
    assert len(threads) > 3, "lanes, preparation, heartbeat"
    filtered, no_new_privileges = "2", "1"  # SECCOMP_MODE_FILTER
    assert {status["Seccomp"] for status in threads} == {filtered}
    assert {status["NoNewPrivs"] for status in threads} == {no_new_privileges}
    assert '"event":"landlock_incomplete"' not in server.text()
