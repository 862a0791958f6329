"""Artifacts: whole, in pieces, broken off, wrong, and on a full disk."""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import event

from server.artifacts.storage import ArtifactFiles
from server.context import Context
from server.errors import DiskFull
from server.store import SqlStudyStore
from tests.server import samples
from tests.server.helpers import AgentClient, EnrolAgent

CONTENT = bytes(range(256)) * 4096  # one MiB
SHA = hashlib.sha256(CONTENT).hexdigest()


def put_piece(client: TestClient, start: int, end: int, content: bytes = CONTENT) -> tuple[int, str | None]:
    headers = {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"}
    answer = client.put(f"artifacts/{SHA}", content=content[start:end], headers=headers)
    return answer.status_code, answer.headers.get("Upload-Offset")


def test_whole_and_back_with_ranges(client: TestClient) -> None:
    stored = client.put(f"artifacts/{SHA}", content=CONTENT, headers={"Content-Type": "application/x-executorch"})
    assert stored.status_code == 201
    assert client.put(f"artifacts/{SHA}", content=CONTENT).status_code == 200
    got = client.get(f"artifacts/{SHA}")
    assert got.content == CONTENT
    assert got.headers["content-type"] == "application/x-executorch"
    part = client.get(f"artifacts/{SHA}", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, CONTENT[10:20])
    head = client.head(f"artifacts/{SHA}")
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(CONTENT)))


def test_an_upload_goes_on_where_it_broke_off(client: TestClient) -> None:
    assert put_piece(client, 0, 1000) == (202, "1000")
    head = client.head(f"artifacts/{SHA}")
    assert (head.status_code, head.headers["Upload-Offset"]) == (404, "1000")
    assert put_piece(client, 500, 2000) == (416, "1000")
    assert put_piece(client, 1000, len(CONTENT))[0] == 201
    assert client.get(f"artifacts/{SHA}").content == CONTENT


def test_wrong_bytes_are_refused_and_dropped(client: TestClient) -> None:
    answer = client.put(f"artifacts/{SHA}", content=b"something else")
    assert (answer.status_code, answer.json()["code"]) == (409, "digest_mismatch")
    assert client.head(f"artifacts/{SHA}").headers["Upload-Offset"] == "0"
    assert client.get(f"artifacts/{SHA}").status_code == 404


def test_a_full_disk_is_a_sentence_and_keeps_what_came(app: FastAPI, ctx: Context, client: TestClient) -> None:
    room = [700_000]

    def write(descriptor: int, block: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = os.write(descriptor, block[: room[0]])
        room[0] -= taken
        return taken

    ctx.artifacts._write = write
    answer = client.put(f"artifacts/{SHA}", content=CONTENT, headers={"Content-Range": f"bytes 0-{2**20 - 1}/{2**20}"})
    assert (answer.status_code, answer.json()["code"]) == (507, "disk_full")
    assert "disk is full" in answer.json()["message"]
    room[0] = 1 << 30
    offset = int(client.head(f"artifacts/{SHA}").headers["Upload-Offset"])
    assert offset == 700_000
    assert put_piece(client, offset, len(CONTENT))[0] == 201


def test_bad_names_and_ranges(client: TestClient) -> None:
    assert client.get("artifacts/..%2F..%2Fetc").status_code == 404
    assert client.get("artifacts/ABC").json()["message"].startswith("an artifact is named by its sha256")
    answer = client.put(f"artifacts/{SHA}", content=b"x", headers={"Content-Range": "bytes 5-2/9"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_config")
    longer = client.put(f"artifacts/{SHA}", content=b"xyz", headers={"Content-Range": "bytes 0-1/9"})
    assert (longer.status_code, longer.json()["code"]) == (409, "wrong_length")


def test_the_store_puts_a_file_once(ctx: Context, study_id: str, tmp_path: Path, enrol: EnrolAgent) -> None:
    source = tmp_path / "block.pte"
    source.write_bytes(CONTENT)
    store = SqlStudyStore(ctx, study_id)
    assert store.put_artifact(source, "application/x-executorch") == SHA
    stamp = ctx.artifacts.path(SHA).stat().st_mtime_ns
    assert store.put_artifact(source, "application/x-executorch") == SHA
    assert ctx.artifacts.path(SHA).stat().st_mtime_ns == stamp
    agent: AgentClient = enrol()
    assert agent.http.get(f"artifacts/{SHA}").content == CONTENT


def test_two_uploads_of_one_artifact_do_not_mix(ctx: Context, client: TestClient) -> None:
    with ctx.artifacts.sole_writer(SHA):
        answer = client.put(f"artifacts/{SHA}", content=CONTENT)
    assert (answer.status_code, answer.json()["code"]) == (409, "upload_in_progress")


def test_a_copy_on_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"part")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", no_room)
    files = ArtifactFiles(tmp_path / "artifacts")
    (tmp_path / "block").write_bytes(CONTENT)
    with pytest.raises(DiskFull):
        files.put_file(tmp_path / "block")
    assert list((tmp_path / "artifacts" / "partial").iterdir()) == []


def test_a_full_disk_under_the_database_is_a_sentence(client: TestClient, ctx: Context) -> None:
    with ctx.database.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()

    def no_more_pages(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    ctx.database.dispose()
    event.listen(ctx.database.engine, "connect", no_more_pages)
    answers = [client.post("studies", json=samples.spec(name="n" * 100)) for _ in range(60)]
    full = next(answer for answer in answers if answer.status_code != 201)
    assert (full.status_code, full.json()["code"]) == (507, "disk_full")
    assert len(client.get("studies").json()) == sum(answer.status_code == 201 for answer in answers)
