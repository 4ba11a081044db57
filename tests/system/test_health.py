"""tomoctl health says with its exit code whether a server is ready."""
import socket
import time
from concurrent import futures

import grpc
import pytest

from conftest import tomoctl

UNKNOWN, SERVING, NOT_SERVING = b"", b"\x08\x01", b"\x08\x02"  # HealthCheckResponse on the wire


def check(port):
    return tomoctl("--server", f"127.0.0.1:{port}", "health", check=False, timeout=30)


@pytest.fixture
def answering():
    """Starts a gRPC server whose health service gives the same answer to every call; returns its port."""
    servers = []

    def start(answer):
        def respond(request, context):
            if isinstance(answer, grpc.StatusCode):
                context.abort(answer, "as the test wants it")
            return answer

        handler = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {
            "Check": grpc.unary_unary_rpc_method_handler(respond)})
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=1), handlers=[handler])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return port

    yield start
    for server in servers:
        server.stop(None)


def test_a_ready_server_is_0(server):
    done = check(server.port)
    assert (done.returncode, done.stdout) == (0, "SERVING\n"), done.stderr


@pytest.mark.parametrize("answer,text", [(NOT_SERVING, "NOT_SERVING\n"), (UNKNOWN, "UNKNOWN\n"),
                                         (grpc.StatusCode.UNIMPLEMENTED, ""), (grpc.StatusCode.NOT_FOUND, "")])
def test_a_server_that_is_not_ready_is_1(answering, answer, text):
    done = check(answering(answer))
    assert (done.returncode, done.stdout) == (1, text)


def test_a_serving_answer_of_any_server_is_0(answering):
    assert check(answering(SERVING)).returncode == 0


def test_no_server_is_3():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        done = check(port)
    assert done.returncode == 3
    assert "no server answers" in done.stderr


def test_a_server_that_hangs_is_3_in_seconds():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        done = check(silent.getsockname()[1])
    assert done.returncode == 3
    assert time.monotonic() - started < 10
