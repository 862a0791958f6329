"""The default loop of a study: ``nas.study.run_study`` in one ``Workspace`` shared by all studies.

Imported at first use, because it brings torch, Optuna and the exporter; the coordinator starts without them."""

from __future__ import annotations

import threading
from importlib import import_module
from pathlib import Path
from typing import Any

from nas.store import StudyStore


class NasLoop:
    def __init__(self, var: Path) -> None:
        self._var = var
        self._lock = threading.Lock()
        self._workspace: Any = None

    def __call__(self, store: StudyStore) -> None:
        study: Any = import_module("nas.study")
        study.run_study(store, self._shared_workspace())

    def _shared_workspace(self) -> Any:
        with self._lock:
            if self._workspace is None:
                self._workspace = import_module("nas.workspace").Workspace(self._var)
            return self._workspace

    def close(self) -> None:
        """Ends the workspace's worker processes."""
        with self._lock:
            if self._workspace is not None:
                self._workspace.close()
