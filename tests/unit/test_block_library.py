"""A block that fails or whose process is killed costs that block: the next ones compile, and a study goes on."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from contracts.states import StudyState, TrialState
from foundation.errors import ExportFailed, WorkerLost
from nas.export import library
from nas.export.blocks import BlockSpec
from nas.export.library import BlockEntry, BlockLibrary
from tests.doubles.memory_store import MemoryStore
from tests.doubles.workspace import FakeWorkspace, no_blocks, run, spec_of  # noqa: F401


def block(options: str) -> BlockSpec:
    return BlockSpec("ffn", 64, "fp32", options)


def compile_as_told(root: str, fields: dict[str, Any]) -> None:
    """Stands for the compiler: dies, fails or stores its block, as its options say."""
    spec, store = BlockSpec(**fields), BlockLibrary(Path(root))
    if spec.options == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if spec.options == "fail":
        raise ExportFailed("quantize", "33 is not divisible by 32")
    digest = store.store(spec.options.encode())
    entry = BlockEntry(spec.key, digest, 1, 0.0, fields, {})
    (Path(root) / "index" / f"{spec.key}.json").write_text(json.dumps(asdict(entry)))


def test_after_a_failed_and_a_killed_block_the_next_ones_compile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "compile_block", compile_as_told)
    made = BlockLibrary(tmp_path, workers=1)
    for told, error in (("fail", ExportFailed), ("kill", WorkerLost), ("fail", ExportFailed)):
        with pytest.raises(error):
            made.ensure([block(told)])
    assert set(made.ensure([block("good"), block("better")])) == {block("good"), block("better")}
    made.close()


def test_a_study_goes_on_after_a_block_whose_process_was_killed() -> None:
    workspace, lost = FakeWorkspace(), list[str]()

    def ready(specs: list[str]) -> bool:
        if not lost or specs[0] in lost:
            lost.append(specs[0])
            raise WorkerLost("a worker process was lost twice; it may have run out of memory")
        return True

    workspace.library.ready = ready
    store = MemoryStore(spec_of())
    assert run(store, workspace) == {TrialState.COMPLETE: 5, TrialState.FAILED: 1}
    assert store.record.state is StudyState.FINISHED
    [failed] = [trial for trial in store.trials() if trial.state is TrialState.FAILED]
    assert failed.reason == "a worker process was lost twice; it may have run out of memory"
