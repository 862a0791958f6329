"""The default loop of a study: ``nas.study.run_study`` in one ``Workspace`` shared by all studies.

Both are imported at first use, because they import torch, Optuna and the exporter; the coordinator starts without
them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from nas.store import StudyStore

if TYPE_CHECKING:
    from nas.workspace import Workspace


class NasLoop:
    def __init__(self, var: Path) -> None:
        self._var = var
        self._lock = threading.Lock()
        self._workspace: Workspace | None = None

    def __call__(self, store: StudyStore) -> None:
        from nas.study import run_study

        run_study(store, self._shared_workspace())

    def _shared_workspace(self) -> Workspace:
        from nas.workspace import Workspace

        with self._lock:
            if self._workspace is None:
                self._workspace = Workspace(self._var)
            return self._workspace

    def close(self) -> None:
        """Ends the workspace's worker processes."""
        with self._lock:
            if self._workspace is not None:
                self._workspace.close()
