"""The helper process of trainer/tasks/scoring.py: a JSON line in, a JSON line out, a sandboxed fork for every answer.

Only forks ever see an answer, so that none can change how the next one is scored.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
from functools import lru_cache
from typing import Any, BinaryIO

from trainer.tasks.reasoning import dataset_of
from trainer.tools import sandbox

RIGHT, WRONG = b"1", b"0"


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    for line in requests:
        replies.write(json.dumps(answered(json.loads(line))).encode() + b"\n")
        replies.flush()


def answered(request: dict[str, Any]) -> dict[str, Any]:
    source = _prepared(request["dataset"], request["level"], request["seed"])
    entry = source[request["index"]]
    if entry["question"] != request["question"]:
        return {"score": 0.0}
    status, status_end = os.pipe()
    verdict, verdict_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        _score_and_exit(source, entry, request, status_end, verdict_end)
    os.close(status_end)
    os.close(verdict_end)
    try:
        report = os.read(status, 4096)
        if report != sandbox.READY:
            return {"unavailable": report.decode(errors="replace")}
        ready, _, _ = select.select([verdict], [], [], request["patience"])
        said = os.read(verdict, 1) if ready else b""
        return {"score": float(said == RIGHT), "stopped": "" if said else "time or memory ran out"}
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(status)
        os.close(verdict)


@lru_cache(maxsize=64)
def _prepared(name: str, level: int, seed: int) -> Any:
    """Its verifier has run once on its own answer: no module can be imported inside the sandbox."""
    source = dataset_of(name, level, seed)
    for answer in (source[0]["answer"], "0"):
        with contextlib.suppress(Exception):
            source.score_answer(answer, source[0])
    return source


def _score_and_exit(source: Any, entry: dict[str, Any], request: dict[str, Any], status: int, verdict: int) -> None:
    verdict_byte = WRONG
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nowhere, number)
        os.closerange(3, min(status, verdict))
        if sandbox.enter(_address_space() + request["memory_bytes"], request["seconds"], status):
            # partial credit for a wrong answer of the right form is not success
            verdict_byte = RIGHT if float(source.score_answer(request["answer"], entry)) >= 1.0 else WRONG
    except BaseException:  # verifiers parse whatever a model said
        verdict_byte = WRONG
    finally:
        os.write(verdict, verdict_byte)
        os._exit(0)


def _address_space() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    output = os.dup(1)
    os.dup2(2, 1)  # whatever a data set prints stays out of the replies
    with os.fdopen(output, "wb") as file:
        serve(sys.stdin.buffer, file)
