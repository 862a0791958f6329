"""Worker processes that end with their parent process, even when the parent is killed and cannot stop them."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait

from foundation.plugin_loader import load_plugins


def worker_pool(num_workers: int) -> ProcessPoolExecutor:
    """Fresh interpreters ("spawn"): a fork of a process with torch threads may hang."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(num_workers, mp_context=context, initializer=_start_worker)


def _start_worker() -> None:
    """Workers load the plugins of their parent process, and end with it."""
    load_plugins()
    threading.Thread(target=_watch_parent, daemon=True, name="parent-watch").start()


def _watch_parent() -> None:
    """A worker that waits for work never notices that its parent is gone: its siblings hold the queue open."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
