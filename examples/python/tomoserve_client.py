"""A client of Tomoserve's StudyService that loses nothing: what submit.py and the Orthanc bridge share.

The rules that it follows are those of docs/API.md: only the receipt is an acknowledgement, a retry goes out under the
same idempotency key, and what the server already has is not sent again.
"""
from __future__ import annotations

import errno
import gzip
import hashlib
import json
import logging
import pathlib
import queue
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import grpc
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2
from grpc_status import rpc_status

sys.path.append(str(pathlib.Path(__file__).resolve().parent / "stubs"))  # where generate.sh puts them
from tomoserve.v1 import (finding_pb2, recipe_pb2, study_pb2, study_service_pb2,  # noqa: E402
                          study_service_pb2_grpc)

log = logging.getLogger("tomoserve")

CHUNK_BYTES = 1 << 20  # the most that one InstanceChunk may hold
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.enable_http_proxy", 0),  # patients' images take no detour that the environment happens to name
    ("grpc.max_reconnect_backoff_ms", 5_000),  # gRPC's own default would sleep for up to two minutes
    # Notices a server that vanished without a word. More often than every 5 minutes a gRPC server takes as abuse.
    ("grpc.keepalive_time_ms", 360_000),
]
# An INVALID_ARGUMENT speaks about the study, but for these reasons, which speak about the client.
CLIENT_MISTAKES = {"STREAM_ORDER", "HEADER_INVALID", "KEY_INVALID", "KEY_REPEATED"}


@dataclass(frozen=True)
class Instance:
    """One DICOM file to send. `open` may be called again for a retry; `version` changes when the bytes change."""
    size_bytes: int
    version: str
    open: Callable[[], BinaryIO]


class Unreachable(Exception):
    """No server answered, for as long as the caller was willing to wait."""


@dataclass
class Failed(Exception):
    """The server answered with an error. `refused_study` when a retry cannot help: the study itself is refused."""
    code: str
    reason: str
    text: str
    refused: Sequence[study_pb2.InstanceStatus] = field(default_factory=list)

    @property
    def refused_study(self) -> bool:
        return self.code == "INVALID_ARGUMENT" and self.reason not in CLIENT_MISTAKES

    def __str__(self) -> str:
        return f"{self.reason}: {self.text}"


def make_header(instances: Sequence[Instance], models: Sequence[str], priority: str,
                study_uid: str = "") -> study_pb2.SubmissionHeader:
    """What is wanted with `instances`, under a key that is the same whenever the same is asked of the same bytes.

    A retry, also by another process a day later, is then the same submission; a late instance, another model or another
    priority makes a new one. `models` are NAME or NAME@VERSION; none: every active model. `study_uid`, if given, is
    checked by the server.
    """
    header = study_pb2.SubmissionHeader(
        completion=study_pb2.COMPLETION_FINAL, priority=f"PRIORITY_{priority.upper()}",
        expected=study_pb2.ExpectedIdentity(study_instance_uid=study_uid),
        models=[study_pb2.ModelSelector(**dict(zip(("name", "version"), model.split("@", 1)))) for model in models])
    digest = hashlib.sha256(header.SerializeToString(deterministic=True))
    for instance in instances:
        digest.update(f"{instance.size_bytes} {instance.version}\n".encode())
    header.idempotency_key = digest.hexdigest()
    return header


class Backoff:
    """Waits between attempts, longer each time, until `patience_s` seconds went by without any progress."""

    def __init__(self, patience_s: float):
        self.patience_s = patience_s
        self.progress()

    def progress(self) -> None:
        self.delay_s = 0.5
        self.deadline = time.monotonic() + self.patience_s

    def wait(self, error: grpc.RpcError) -> None:
        """Sleeps, or raises Unreachable or Failed when another attempt makes no sense."""
        code, reason, server_delay_s = explain(error)
        delay_s = max(self.delay_s * random.uniform(0.5, 1.0), server_delay_s)
        transient = code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED", "CANCELLED") or \
            reason == "UPLOAD_IN_PROGRESS"
        if not transient or time.monotonic() + delay_s > self.deadline:
            if code == "UNAVAILABLE" and not reason:
                raise Unreachable() from error
            raise Failed(code, reason or code, error.details() or "") from error
        log.warning("%s; trying again in %.1f s", reason or code, delay_s)
        time.sleep(delay_s)
        self.delay_s = min(self.delay_s * 2, 30.0)


def explain(error: grpc.RpcError) -> tuple[str, str, float]:
    """(canonical code, Tomoserve's reason or "", seconds that the server asks to wait)."""
    reason, delay_s = "", 0.0
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(retry):
            delay_s = retry.retry_delay.ToTimedelta().total_seconds()
    return error.code().name, reason, delay_s


class Client:
    """One server. Waits up to `patience_s` seconds for it in each call, over restarts of it. For one thread."""

    def __init__(self, server: str, patience_s: float = 60.0):
        self._stub = study_service_pb2_grpc.StudyServiceStub(grpc.insecure_channel(server, options=CHANNEL_OPTIONS))
        self._patience_s = patience_s

    def submit(self, header: study_pb2.SubmissionHeader, instances: Sequence[Instance]) -> study_pb2.SubmissionReceipt:
        """Sends a study and returns its receipt: from then on the server owes the answer, whatever happens to it."""
        backoff = Backoff(self._patience_s)
        while True:
            refused: list[study_pb2.InstanceStatus] = []
            try:
                return self._submit_once(header, instances, refused, backoff)
            except grpc.RpcError as error:
                try:
                    backoff.wait(error)
                except Failed as failed:
                    failed.refused = refused
                    raise

    def _submit_once(self, header: study_pb2.SubmissionHeader, instances: Sequence[Instance],
                     refused: list[study_pb2.InstanceStatus], backoff: Backoff) -> study_pb2.SubmissionReceipt:
        held: queue.SimpleQueue[set[str] | None] = queue.SimpleQueue()
        unreadable: list[Exception] = []
        receipt = None
        call = self._stub.SubmitStudy(self._requests(header, instances, held, unreadable))
        try:
            for event in call:
                backoff.progress()
                if event.HasField("upload"):
                    keys = set(event.upload.instance_keys)
                    if keys:
                        log.info("resuming: the server holds %d of %d instances", len(keys), len(instances))
                    held.put(keys)
                elif event.HasField("instance"):
                    if event.instance.outcome == study_pb2.INSTANCE_OUTCOME_REFUSED:
                        refused.append(event.instance)
                else:
                    receipt = event.receipt
        except grpc.RpcError:
            if unreadable:
                raise unreadable[0]
            raise
        finally:
            held.put(None)  # lets the sending thread go
            call.cancel()
        if receipt is None:
            raise Failed("INTERNAL", "NO_RECEIPT", "the stream ended without a receipt")
        return receipt

    @staticmethod
    def _requests(header: study_pb2.SubmissionHeader, instances: Sequence[Instance],
                  held: queue.SimpleQueue[set[str] | None],
                  unreadable: list[Exception]) -> Iterator[study_service_pb2.SubmitStudyRequest]:
        """The stream's messages. gRPC asks for the next one when it has room for it, so that a slow server slows the
        reading down; no more than one chunk is in memory. Runs on a thread of gRPC."""
        request = study_service_pb2.SubmitStudyRequest
        yield request(header=header)
        known = held.get()
        if known is None:  # the call ended before the server said what it has
            return
        sent = 0
        try:
            for number, instance in enumerate(instances):
                if str(number) in known:
                    continue
                with instance.open() as file:
                    yield request(instance=study_pb2.InstanceStart(instance_key=str(number),
                                                                   size_bytes=instance.size_bytes))
                    left = instance.size_bytes
                    while data := file.read(min(CHUNK_BYTES, left)):
                        left -= len(data)
                        yield request(chunk=study_pb2.InstanceChunk(data=data))
                    if left or file.read(1):
                        raise OSError(errno.EIO, "an instance changed while it was read")
                sent += 1
        except Exception as error:  # raised again by _submit_once, on the caller's thread
            unreadable.append(error)
            return  # no end message: the server acknowledges nothing
        yield request(end=study_pb2.SubmissionEnd(instances=sent))

    def get_study(self, study_uid: str) -> study_pb2.Study:
        """A study as it is now."""
        request = study_service_pb2.GetStudyRequest(study_instance_uid=study_uid)
        return self._retried(lambda _: self._stub.GetStudy(request, timeout=30).study)

    def wait_for_runs(self, receipt: study_pb2.SubmissionReceipt,
                      on_change: Callable[[finding_pb2.Run], None] = lambda run: None) -> list[finding_pb2.Run]:
        """Follows the study, over reconnections, until each run of `receipt` is final."""
        request = study_service_pb2.WatchStudyRequest(study_instance_uid=receipt.study_instance_uid)

        def watch(backoff: Backoff) -> list[finding_pb2.Run]:
            runs: list[finding_pb2.Run] = []
            call = self._stub.WatchStudy(request)
            for event in call:
                backoff.progress()
                runs = owed_runs(event.study, receipt.run_ids)
                for run in runs:
                    on_change(run)
                if all_final(runs):
                    call.cancel()
                    break
            return runs

        return self._retried(watch)

    def download(self, run_id: str, kind: study_service_pb2.ResultKind) -> tuple[study_service_pb2.ResultInfo, bytes]:
        """A result object of a DONE run, whole and checked."""
        request = study_service_pb2.DownloadResultRequest(run_id=run_id, kind=kind)
        parts = self._retried(lambda _: list(self._stub.DownloadResult(request)))
        info, data = parts[0].info, b"".join(part.data for part in parts[1:])
        if len(data) != info.size_bytes or hashlib.sha256(data).hexdigest() != info.sha256:
            raise Failed("DATA_LOSS", "RESULT_DAMAGED", "a result arrived damaged")
        return info, data

    def _retried(self, call: Callable[[Backoff], Any]) -> Any:
        backoff = Backoff(self._patience_s)
        while True:
            try:
                return call(backoff)
            except grpc.RpcError as error:
                backoff.wait(error)


def owed_runs(study: study_pb2.Study, run_ids: Sequence[str]) -> list[finding_pb2.Run]:
    """The runs of `study` that answer a submission. A run that is not there any more was superseded because instances
    came late: then the study's current runs are the answer."""
    runs = [run for run in study.runs if run.run_id in set(run_ids)]
    return runs if len(runs) == len(run_ids) else list(study.runs)


def all_final(runs: Sequence[finding_pb2.Run]) -> bool:
    """Whether no run changes any more."""
    open_states = (finding_pb2.RUN_STATE_UNSPECIFIED, finding_pb2.RUN_STATE_QUEUED, finding_pb2.RUN_STATE_RUNNING)
    return all(run.state not in open_states for run in runs)


def describe(run: finding_pb2.Run) -> str:
    """What a run says, never silence: "FLAGGED URGENT", "NO_FINDING", "INCONCLUSIVE [MISSING_SLICES(3)]",
    "NOT_APPLICABLE [MODALITY(MR)]", or "FAILED CODE" where there is no answer."""
    if run.state != finding_pb2.RUN_STATE_DONE:
        state = finding_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_")
        return f"{state} {run.failure.code}".rstrip()
    text = finding_pb2.FlagState.Name(run.flag.state).removeprefix("FLAG_STATE_")
    if run.flag.state == finding_pb2.FLAG_STATE_FLAGGED:
        text += " " + recipe_pb2.FlagLevel.Name(run.flag.level).removeprefix("FLAG_LEVEL_")
    reasons = [reason.code + (f"({reason.value})" if reason.value else "") for reason in run.flag.reasons]
    return f"{text} [{', '.join(reasons)}]" if reasons else text


def to_json(receipt: study_pb2.SubmissionReceipt, runs: Sequence[finding_pb2.Run]) -> str:
    """Receipt and runs in protobuf's JSON mapping with default values. The patient is in neither of them."""
    def plain(message: study_pb2.SubmissionReceipt | finding_pb2.Run) -> dict[str, Any]:
        return MessageToDict(message, always_print_fields_with_no_presence=True)
    return json.dumps({"receipt": plain(receipt), "runs": [plain(run) for run in runs]}, indent=2)


def write_label_map(folder: pathlib.Path, model: str, info: finding_pb2.LabelMapInfo, voxels: bytes) -> None:
    """Writes one NRRD file per layer: the format's space is LPS, as ours, so nothing is converted. An array's axes are
    i, j, k, and where the map has several time points a fourth one that no place in space belongs to."""
    grid, times, layers = info.grid, max(1, info.time_points), max(1, len(info.layers))
    size = grid.size_ijk[0] * grid.size_ijk[1] * grid.size_ijk[2] * info.bytes_per_voxel
    if info.bytes_per_voxel not in (1, 2) or len(voxels) != size * times * layers:
        raise Failed("DATA_LOSS", "LABEL_MAP_SIZE", "the label map's size does not fit its grid, layers and time points")
    vectors = ["(" + ",".join(repr(spacing * cosine) for cosine in direction) + ")"
               for spacing, direction in zip(grid.spacing_mm, (grid.direction_i, grid.direction_j, grid.direction_k))]
    sizes, kinds = [*grid.size_ijk], ["domain"] * 3
    if times > 1:
        sizes, kinds, vectors = [*sizes, times], [*kinds, "list"], [*vectors, "none"]
    header = "\n".join([
        "NRRD0004", f"type: {'uint8' if info.bytes_per_voxel == 1 else 'uint16'}", f"dimension: {len(sizes)}",
        "space: left-posterior-superior", "sizes: " + " ".join(map(str, sizes)), "space directions: " + " ".join(vectors),
        "kinds: " + " ".join(kinds), "endian: little", "encoding: gzip",
        f"space origin: ({grid.origin_lps.x_mm!r},{grid.origin_lps.y_mm!r},{grid.origin_lps.z_mm!r})", "", ""])
    for layer in range(layers):
        # The payload has all layers of the first time point, then those of the next.
        starts = (size * (time_point * layers + layer) for time_point in range(times))
        name = f"labels_{model}" + (f"_{info.layers[layer].name or layer}" if layers > 1 else "")
        path = folder / (re.sub(r"[^A-Za-z0-9_.-]", "_", name) + ".nrrd")
        path.write_bytes(header.encode() + gzip.compress(b"".join(voxels[at:at + size] for at in starts), 1))
