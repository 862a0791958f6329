"""Worker processes that end with their parent process, even when the parent is killed and cannot stop them."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any

from foundation.errors import HilnasError, WorkerLost
from foundation.plugin_loader import load_plugins

MAX_WAITING = 64  # calls that are waited for at once; more of them queue


class Workers:
    """A pool of processes, started at the first call.

    A process that is killed (out of memory, say) takes down the pool and every call in it. Each of these calls runs
    once more in a process of its own, and raises WorkerLost when that one is lost too; the pool starts anew. What a
    call raises is raised here; an exception that no pickle restores comes as a HilnasError with its text.
    """

    def __init__(self, num_workers: int) -> None:
        self._num_workers = num_workers
        self._threads = ThreadPoolExecutor(MAX_WAITING, thread_name_prefix="worker-call")
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._closed = False

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """``function`` is one that a process finds by its module and name."""
        return self._threads.submit(self._call, function, arguments)

    def close(self) -> None:
        """Calls that did not begin are cancelled; the others are not waited for."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)

    def _call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        pool = self._running()
        try:
            return pool.submit(_carried, function, arguments).result()
        except BrokenProcessPool:
            self._forget(pool)
            return self._call_alone(function, arguments)

    def _call_alone(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if self._closed:
            raise WorkerLost("the worker processes have ended")
        with worker_pool(1) as alone:
            try:
                return alone.submit(_carried, function, arguments).result()
            except BrokenProcessPool:
                raise WorkerLost("a worker process was lost twice; it may have run out of memory") from None

    def _running(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = worker_pool(self._num_workers)
            return self._pool

    def _forget(self, broken: ProcessPoolExecutor) -> None:
        with self._lock:
            if self._pool is broken:
                self._pool = None


def worker_pool(num_workers: int) -> ProcessPoolExecutor:
    """Fresh interpreters ("spawn"): a fork of a process with torch threads may hang."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(num_workers, mp_context=context, initializer=_start_worker)


def _carried(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Runs in the worker. An exception that the other side cannot restore would break its pool."""
    try:
        return function(*arguments)
    except Exception as error:
        if _survives(error):
            raise
        raise HilnasError(f"{type(error).__name__}: {error}") from None


def _survives(error: Exception) -> bool:
    try:
        return isinstance(pickle.loads(pickle.dumps(error)), type(error))
    except Exception:  # a class may fail in any way when it is restored
        return False


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
