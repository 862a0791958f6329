"""Reports to a coordinator how a run goes, from the run's own files: stages, progress, the next lines of curves.

It reads beside the run, so it may fail and start again without the run noticing; what was not sent goes with the next
message.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import structlog

from contracts.http import Refused, RestClient
from contracts.training import MAX_LINES, CurveLine, RunState, StageProgress, TrainingProgress, TrainingReply
from foundation.errors import HilnasError
from foundation.files import write_atomically
from trainer.evaluation.files import KIND, PREFIX
from trainer.pipeline.chain import CURVE
from trainer.pipeline.run_folder import described, known, state_of
from trainer.runs.local import Stopped

log = structlog.get_logger()
EVERY_S = 2.0
REGISTERED = "trainings.json"  # in a run's folder: coordinator -> the run's id there
Send = Callable[[TrainingProgress], TrainingReply]
OnProgress = Callable[[float, str], None]


@dataclass(frozen=True)
class _Place:
    """Up to which byte a curve file was sent. A resumed stage writes its file anew, as another inode."""

    inode: int = 0
    offset: int = 0


@dataclass
class RunReader:
    """A run under ``root`` as messages. ``next()`` has at most MAX_LINES lines; ``accepted`` moves on behind them."""

    root: Path
    run: str
    _sent: dict[str, _Place] = field(default_factory=dict)
    _ahead: dict[str, _Place] = field(default_factory=dict)

    def next(self, state: RunState = "running", fencing_token: int | None = None) -> TrainingProgress:
        if not known(self.root, self.run):
            return TrainingProgress(fencing_token=fencing_token, state=state)
        recipe = described(self.root / "runs" / self.run)
        entries = state_of(self.root, self.run)["stages"]
        stages = [
            _stage(name, config, entry, state)
            for (name, entry), config in zip(entries.items(), recipe["stages"], strict=True)
        ]
        current = next((stage for stage in stages if stage.state != "done"), None)
        message = f"{current.name}: {current.message or 'beginning'}" if current else "every stage is done"
        return TrainingProgress(
            fencing_token=fencing_token, state=state, share=_share(stages), message=message[:2000], stages=stages,
            curve=self._lines(recipe["folders"]),
        )  # fmt: skip

    def accepted(self) -> None:
        self._sent.update(self._ahead)

    def _lines(self, folders: dict[str, str]) -> list[CurveLine]:
        self._ahead = {}
        lines: list[CurveLine] = []
        for name, folder in folders.items():
            path = self.root / "stages" / folder / CURVE
            if len(lines) < MAX_LINES and path.exists():
                lines += self._new(name, path, MAX_LINES - len(lines))
        return lines

    def _new(self, name: str, path: Path, room: int) -> list[CurveLine]:
        """At most ``room`` whole lines that were not sent yet."""
        before, status = self._sent.get(name, _Place()), path.stat()
        same = before.inode == status.st_ino and before.offset <= status.st_size
        offset, lines = before.offset if same else 0, []
        with open(path, "rb") as file:
            file.seek(offset)
            for line in islice(file, room):
                if not line.endswith(b"\n"):
                    break
                offset += len(line)
                row = _parsed(line)
                if row is not None and "step" in row:
                    lines.append(CurveLine(stage=name, step=row["step"], values=_numbers(row)))
        self._ahead[name] = _Place(status.st_ino, offset)
        return lines


def _stage(name: str, config: dict[str, Any], entry: dict[str, Any], state: RunState) -> StageProgress:
    done = entry["state"] == "done"
    failed = state == "failed" and entry.get("event") == "stage_failed"
    begun = "message" in entry
    return StageProgress(
        name=name, kind=config["stage"], start=_start(name, config), share=1.0 if done else entry.get("stage_share"),
        state="done" if done else "failed" if failed else "running" if begun else "open",
        seconds=entry.get("seconds"), eta_s=None if done else entry.get("eta_s"),
        message="" if done else entry.get("message", "")[:2000], metrics=_plain(entry.get("metrics", {})),
    )  # fmt: skip


def _start(name: str, config: dict[str, Any]) -> str:
    """An evaluation's config does not name its subject, because the content alone counts there; its name does."""
    return config.get("start") or config.get("base") or (name.removeprefix(PREFIX) if config["stage"] == KIND else "")


def _parsed(line: bytes) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError):
        row = json.loads(line)
        return row if isinstance(row, dict) else None
    return None


def _share(stages: list[StageProgress]) -> float:
    return round(sum(stage.share or 0.0 for stage in stages) / max(1, len(stages)), 4)


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    """At most 16, as the contract allows."""
    numbers = ((k, v) for k, v in row.items() if k != "step" and isinstance(v, int | float) and math.isfinite(v))
    return dict(list(numbers)[:16])


def _plain(value: Any) -> Any:
    """Without what JSON has no word for: a metric that is infinite stands as text."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


class Reporter:
    """A thread that sends what ``reader`` finds every few seconds while a run goes. ``stop_asked`` is set when the
    answer is that its user wants it to end."""

    def __init__(
        self, reader: RunReader, send: Send, fencing_token: int | None = None, on_progress: OnProgress = lambda *_: None
    ) -> None:
        self.stop_asked = threading.Event()
        self._reader, self._send, self._token, self._on_progress = reader, send, fencing_token, on_progress
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True, name=f"reporter-{reader.run}")

    def __enter__(self) -> Reporter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def finish(self, state: RunState) -> None:
        """The last word, with all lines that are left; a coordinator that does not answer misses it."""
        with contextlib.suppress(HilnasError, OSError):
            while self._report(state).curve:
                pass

    def _loop(self) -> None:
        while not self._done.wait(EVERY_S):
            try:
                self._report("running")
            except (HilnasError, OSError, ValueError) as error:  # sent again in a moment, from the same place
                log.debug("progress_not_sent", reason=str(error))

    def _report(self, state: RunState) -> TrainingProgress:
        progress = self._reader.next(state, self._token)
        self._on_progress(progress.share or 0.0, progress.message)
        reply = self._send(progress)
        self._reader.accepted()
        if reply.stop:
            self.stop_asked.set()
        return progress


@contextlib.contextmanager
def reported_to(url: str, root: Path, run: str, recipe: str) -> Iterator[Callable[[], None]]:
    """A run on this machine shown at a coordinator; under the id it had there before, when it goes on. What it yields
    raises Stopped once somebody stopped the run there."""
    rest, kept = RestClient(url), root / "runs" / run / REGISTERED
    ids = json.loads(kept.read_text()) if kept.exists() else {}
    if rest.url not in ids or not _is_there(rest, ids[rest.url]):
        ids[rest.url] = rest.post("/trainings", {"name": run, "recipe": recipe})["id"]
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, json.dumps(ids))
    path = f"/trainings/{ids[rest.url]}/progress"

    def send(progress: TrainingProgress) -> TrainingReply:
        return TrainingReply(**rest.post(path, progress.model_dump(mode="json", exclude_defaults=True)))

    with Reporter(RunReader(root, run), send) as reporter:
        ended: RunState = "failed"
        try:
            yield lambda: _unless(reporter.stop_asked)
            ended = "finished"
        except Stopped:
            ended = "stopped"
            raise
        finally:
            reporter.finish(ended)


def _unless(stop_asked: threading.Event) -> None:
    if stop_asked.is_set():
        raise Stopped


def _is_there(rest: RestClient, training_id: str) -> bool:
    try:
        rest.get(f"/trainings/{training_id}")
    except Refused as error:
        if error.status == 404:
            return False
        raise
    return True
