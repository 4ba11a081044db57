#!/usr/bin/env python3
"""Sends every study that becomes stable in Orthanc to Tomoserve and writes the findings back to it.

Follows Orthanc's change feed (/changes). What is still to be done is in a small database (--state), written before
the feed's position moves on, so that either side and this program may be down for as long as it takes: nothing is
lost, nothing is done twice. Orthanc's user and password, if it has any, come from ORTHANC_USER and ORTHANC_PASSWORD.
"""
from __future__ import annotations

import argparse
import base64
import json
import logging
import os
import pathlib
import signal
import sqlite3
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException, HTTPResponse
from typing import Any

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "python"))
from tomoserve_client import (Client, Failed, Instance, Unreachable, all_final, describe, finding_pb2,  # noqa: E402
                              make_header, owed_runs, recipe_pb2, study_pb2, to_json)

log = logging.getLogger("bridge")

# User-defined numbers of Orthanc (1024 to 65535); tomoserve.json gives them their names.
FLAG_METADATA = "4801"
FINDINGS_ATTACHMENT = "4802"

SCHEMA = """
CREATE TABLE IF NOT EXISTS position (only INTEGER PRIMARY KEY CHECK (only = 1), seq INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS work (
  study TEXT PRIMARY KEY,               -- Orthanc's id
  state TEXT NOT NULL,                  -- GROWING: instances arrive; SUBMIT: to be sent; WAIT: acknowledged, runs open
  since REAL NOT NULL,                  -- when the last instance was seen, Unix seconds
  attempts INTEGER NOT NULL DEFAULT 0,
  not_before REAL NOT NULL DEFAULT 0,   -- Unix seconds
  receipt BLOB);
"""


class Orthanc:
    """Orthanc's REST API, as far as it is needed here."""

    def __init__(self, url: str):
        self._url = url.rstrip("/")
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy, whatever is set
        user, password = os.environ.get("ORTHANC_USER"), os.environ.get("ORTHANC_PASSWORD", "")
        self._headers = {}
        if user:
            self._headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def open(self, path: str, data: bytes | None = None, headers: dict[str, str] | None = None) -> HTTPResponse:
        """The response as a file; PUT if there is `data`. Errors are OSError."""
        request = urllib.request.Request(self._url + path, data, {**self._headers, **(headers or {})},
                                         method="GET" if data is None else "PUT")
        return self._opener.open(request, timeout=60)

    def get(self, path: str) -> Any:
        """A JSON answer, or None where there is no such thing (any more)."""
        try:
            with self.open(path) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def put(self, path: str, data: bytes, revision_of: str) -> None:
        """Writes metadata or an attachment; also where Orthanc checks revisions (CheckRevisions)."""
        headers = {}
        try:
            with self.open(revision_of) as answer:
                headers["If-Match"] = answer.headers.get("ETag", "")
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
        self.open(path, data, headers).close()

    def has_flag(self, study: str) -> bool:
        try:
            self.open(f"/studies/{study}/metadata/{FLAG_METADATA}").close()
            return True
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return False
            raise

    def set_flag(self, study: str, text: str) -> None:
        path = f"/studies/{study}/metadata/{FLAG_METADATA}"
        self.put(path, text.encode(), path)

    def set_findings(self, study: str, document: str) -> None:
        path = f"/studies/{study}/attachments/{FINDINGS_ATTACHMENT}"
        self.put(path, document.encode(), f"{path}/md5")


class Bridge:
    """One Orthanc, one Tomoserve, one thread: each `turn` does what can be done now."""

    def __init__(self, orthanc: Orthanc, client: Client, options: argparse.Namespace):
        self._orthanc = orthanc
        self._client = client
        self._options = options
        self._reachable = True
        pathlib.Path(options.state).absolute().parent.mkdir(parents=True, exist_ok=True)
        self._work = sqlite3.connect(options.state)
        self._work.execute("PRAGMA journal_mode=WAL")
        self._work.execute("PRAGMA synchronous=FULL")
        self._work.executescript(SCHEMA)

    def turn(self) -> None:
        self._take_changes()
        self._take_forgotten()
        try:
            for study, attempts in self._due("SUBMIT"):
                self._guarded(self._submit, study, attempts)
            for study, attempts in self._due("WAIT"):
                self._guarded(self._collect, study, attempts)
            if not self._reachable:
                log.info("Tomoserve answers again")
            self._reachable = True
        except Unreachable:
            if self._reachable:
                log.warning("Tomoserve does not answer; studies wait here until it does")
            self._reachable = False

    def _take_changes(self) -> None:
        """Turns changes into work. The position moves in the same transaction as the work is written."""
        last = self._orthanc.get("/changes?last")["Last"]
        row = self._work.execute("SELECT seq FROM position").fetchone()
        if row is None:
            seq = 0 if self._options.from_beginning else last
        else:
            seq = row[0]
        if seq > last:
            log.warning("Orthanc's change feed began anew: everything in it is looked at again")
            seq = 0
        done = False
        while not done:
            page = self._orthanc.get(f"/changes?since={seq}&limit=500")
            done, seq = page["Done"], page["Last"]
            states = {}
            for change in page["Changes"]:
                if change["ChangeType"] == "StableStudy":
                    states[change["ID"]] = "SUBMIT"
                elif change["ChangeType"] == "NewInstance":
                    parent = self._orthanc.get(f"/instances/{change['ID']}/study")
                    if parent:
                        states[parent["ID"]] = "GROWING"
            for study in states:
                # An answer to fewer images than there are now must not stand as one to all of them.
                if self._orthanc.has_flag(study):
                    self._orthanc.set_flag(study, "PENDING")
            with self._work:
                for study, state in states.items():
                    self._work.execute("REPLACE INTO work (study, state, since) VALUES (?, ?, ?)",
                                       (study, state, time.time()))
                self._work.execute("REPLACE INTO position VALUES (1, ?)", (seq,))

    def _take_forgotten(self) -> None:
        """Orthanc keeps what is not stable yet in memory only: if it restarts meanwhile, StableStudy never comes."""
        old = self._work.execute("SELECT study FROM work WHERE state = 'GROWING' AND since < ?",
                                 (time.time() - self._options.stable_after,)).fetchall()
        for (study,) in old:
            description = self._orthanc.get(f"/studies/{study}")
            if description is None or description["IsStable"]:
                self._set(study, "SUBMIT")

    def _due(self, state: str) -> list[tuple[str, int]]:
        return self._work.execute("SELECT study, attempts FROM work WHERE state = ? AND not_before <= ? "
                                  "ORDER BY attempts, since", (state, time.time())).fetchall()

    def _set(self, study: str, state: str, receipt: bytes | None = None) -> None:
        with self._work:
            self._work.execute("UPDATE work SET state = ?, receipt = ?, attempts = 0, not_before = 0 WHERE study = ?",
                               (state, receipt, study))

    def _finish(self, study: str, flag: str, document: str | None = None) -> None:
        """The answer goes into Orthanc first, then the work is done: a crash in between writes it again."""
        if document is not None:
            self._orthanc.set_findings(study, document)
        self._orthanc.set_flag(study, flag)
        with self._work:
            self._work.execute("DELETE FROM work WHERE study = ?", (study,))
        log.info("study %.8s: %s", study, flag)

    def _guarded(self, step: Any, study: str, attempts: int) -> None:
        """An error with one study puts that study off, up to a minute, and never ends it."""
        try:
            step(study)
        except (Failed, OSError, HTTPException) as error:
            if self._orthanc.get(f"/studies/{study}") is None:
                log.info("study %.8s was deleted from Orthanc", study)
                with self._work:
                    self._work.execute("DELETE FROM work WHERE study = ?", (study,))
                return
            log.warning("study %.8s is put off: %s", study, kind_of(error))
            self._put_off(study, min(60, 2 ** min(attempts, 6)))
        except Unreachable:
            self._put_off(study, 0)  # the others come first next time, should it be this study that brings it down
            raise

    def _put_off(self, study: str, seconds: float) -> None:
        with self._work:
            self._work.execute("UPDATE work SET attempts = attempts + 1, not_before = ? WHERE study = ?",
                               (time.time() + seconds, study))

    def _submit(self, study: str) -> None:
        description = self._orthanc.get(f"/studies/{study}")
        listed = self._orthanc.get(f"/studies/{study}/instances")
        if not description or not listed:
            raise OSError("no such study")
        instances = [self._instance(entry) for entry in sorted(listed, key=lambda entry: entry["ID"])]
        header = make_header(instances, self._options.model, self._options.priority,
                             description["MainDicomTags"].get("StudyInstanceUID", ""))
        try:
            receipt = self._client.submit(header, instances)
        except Failed as failed:
            if not failed.refused_study:
                raise
            self._finish(study, f"REFUSED {failed.reason}")
            return
        self._set(study, "WAIT", receipt.SerializeToString())
        self._orthanc.set_flag(study, "PENDING")
        log.info("study %.8s: acknowledged, %d instances, %d refused", study, receipt.instances_accepted,
                 receipt.instances_refused)

    def _instance(self, entry: dict[str, Any]) -> Instance:
        # FileUuid changes whenever Orthanc stores the file anew, also under the same id.
        path = f"/instances/{entry['ID']}/file"
        return Instance(entry["FileSize"], entry["FileUuid"], lambda: self._orthanc.open(path))

    def _collect(self, study: str) -> None:
        (stored,) = self._work.execute("SELECT receipt FROM work WHERE study = ?", (study,)).fetchone()
        receipt = study_pb2.SubmissionReceipt.FromString(stored)
        try:
            runs = owed_runs(self._client.get_study(receipt.study_instance_uid), receipt.run_ids)
        except Failed as failed:
            if failed.code == "NOT_FOUND":  # Tomoserve lost or deleted it: sent once more
                self._set(study, "SUBMIT")
                return
            raise
        if all_final(runs):
            delivered = [run for run in runs if self._options.demonstration or not is_demonstration(run)]
            self._finish(study, flag_text(runs, delivered), to_json(receipt, delivered))


def kind_of(error: Exception) -> str:
    """An error in a word. Of an error of Orthanc not its text, which may quote the study."""
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    return str(error) if isinstance(error, Failed) else type(error).__name__


def is_demonstration(run: finding_pb2.Run) -> bool:
    """Whether the run is of a model whose answers must not reach an archive."""
    return run.provenance.regulatory_status == recipe_pb2.REGULATORY_STATUS_DEMONSTRATION


def flag_text(runs: Sequence[finding_pb2.Run], delivered: Sequence[finding_pb2.Run]) -> str:
    """One line for all runs. A model that is not cleared for patients says so beside its answer."""
    def one(run: finding_pb2.Run) -> str:
        status = recipe_pb2.RegulatoryStatus.Name(run.provenance.regulatory_status)
        answer = describe(run) if run in delivered else "NOT_DELIVERED"
        return f"{run.model} {run.version} ({status.removeprefix('REGULATORY_STATUS_')}): {answer}"
    return "; ".join(one(run) for run in runs) or "NO_MODEL"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orthanc", default="http://127.0.0.1:8042", metavar="URL", help="default: %(default)s")
    parser.add_argument("--server", default="127.0.0.1:8400", metavar="HOST:PORT", help="default: %(default)s")
    parser.add_argument("--state", required=True, metavar="FILE", help="database of the work that is open")
    parser.add_argument("--model", action="append", default=[], metavar="NAME[@VERSION]",
                        help="may be given several times; without: every active model")
    parser.add_argument("--priority", choices=["routine", "urgent", "stat"], default="routine")
    parser.add_argument("--from-beginning", action="store_true",
                        help="at the first start, also what Orthanc already holds; else what comes from now on")
    parser.add_argument("--demonstration", action="store_true",
                        help="write answers of DEMONSTRATION models too; for a test Orthanc only")
    parser.add_argument("--poll", type=float, default=2.0, metavar="SECONDS", help="default: %(default)s")
    parser.add_argument("--stable-after", type=float, default=300.0, metavar="SECONDS",
                        help="send a study whose StableStudy got lost this long after its last instance; more than "
                             "Orthanc's StableAge (default: %(default).0f)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # at any instant: the state is in the database
    try:
        bridge = Bridge(Orthanc(options.orthanc), Client(options.server, patience_s=0), options)
    except (OSError, sqlite3.Error) as error:
        print(f"bridge.py: --state {options.state}: {error}", file=sys.stderr)
        return 2
    answers = True
    while True:
        try:
            bridge.turn()
            answers = True
        except (OSError, HTTPException) as error:
            if answers:
                log.warning("Orthanc does not answer (%s); trying on", kind_of(error))
            answers = False
        time.sleep(options.poll)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(0)
