"""Runs the loop of every running study in its own thread, and puts jobs with expired leases back in the queue.

Restarted after a crash, it resumes every study that was running; the tables hold all it needs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import structlog
from sqlalchemy.exc import OperationalError

from contracts.states import StudyState
from foundation.errors import HilnasError
from nas.store import StudyStore
from server.context import Context
from server.errors import DISK_FULL_ERRNOS
from server.events import repository as events
from server.hub import work_topic
from server.jobs import queue
from server.jobs import repository as jobs
from server.store import SqlStudyStore
from server.studies.repository import running_ids

log = structlog.get_logger(__name__)
RunStudy = Callable[[StudyStore], None]
JOIN_S = 5.0


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS:
        return "the coordinator's disk is full; nothing measured is lost: free some space, then resume"
    return f"unexpected {type(error).__name__}: {error}; resume to try again"


class Coordinator:
    """``run_study`` blocks until its study has ended or ``stop_requested()``; an exception fails only that study."""

    def __init__(self, ctx: Context, run_study: RunStudy) -> None:
        self._ctx = ctx
        self._run_study = run_study
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._threads: dict[str, threading.Thread] = {}
        self._stores: dict[str, SqlStudyStore] = {}
        self._sweeper = threading.Thread(target=self._sweep, name="leases", daemon=True)

    def start(self) -> None:
        """Renews the leases that nobody could renew while we were down, then resumes what was running."""
        with self._ctx.database.write() as session:
            expires_at = self._ctx.now() + timedelta(seconds=self._ctx.settings.lease_s)
            num_leases = jobs.extend_all_leases(session, expires_at)
            study_ids = running_ids(session)
        log.info("coordinator_started", num_studies=len(study_ids), num_leases=num_leases)
        self._sweeper.start()
        for study_id in study_ids:
            self.launch(study_id)

    def launch(self, study_id: str) -> None:
        """Runs the study in a new thread, unless one is running. If the previous one is still stopping, the new one
        waits for it."""
        with self._lock:
            before = self._threads.get(study_id)
            if before is not None and before.is_alive() and self._is_current(study_id):
                return
            thread = threading.Thread(
                target=self._supervise, args=(study_id, before), name=f"study {study_id}", daemon=True
            )
            self._threads[study_id] = thread
        thread.start()

    def _is_current(self, study_id: str) -> bool:
        """True while the present run of the study is the latest that its user started, or has not begun yet."""
        store = self._stores.get(study_id)
        return store is None or not store.stop_requested()

    def _supervise(self, study_id: str, before: threading.Thread | None) -> None:
        if before is not None:
            before.join()
        store = self._stores[study_id] = SqlStudyStore(self._ctx, study_id, self._closing)
        with structlog.contextvars.bound_contextvars(study_id=study_id):
            if not store.stop_requested():
                self._run(store)

    def _run(self, store: SqlStudyStore) -> None:
        try:
            self._run_study(store)
        except HilnasError as error:
            log.warning("study_run_failed", reason=str(error))
            store.finish(StudyState.FAILED, str(error))
        except OperationalError as error:  # nothing can be stored now, not even the failure: the sweep restarts it
            log.error("study_run_interrupted", reason=str(error.orig))
        except Exception as error:
            log.exception("study_run_failed")
            store.finish(StudyState.FAILED, _sentence(error))
        else:
            if not store.stop_requested():
                store.finish(StudyState.FAILED, "the study's loop ended without a result; resume to continue")

    def _sweep(self) -> None:
        while not self._closing.wait(self._ctx.settings.lease_s / 4):
            try:
                self.sweep()
            except Exception:  # the next sweep tries again: leases must not stop expiring
                log.exception("sweep_failed")

    def sweep(self) -> None:
        """Ends expired leases, deletes events beyond the limit, and restarts running studies whose loop was interrupted
        by a database error."""
        with self._ctx.database.write() as session:
            queue.expire(session, self._ctx)
            study_ids = running_ids(session)
            for study_id in study_ids:
                events.prune(session, study_id, self._ctx.settings.max_events)
        for study_id in study_ids:
            self.launch(study_id)

    def close(self) -> None:
        """Stops every loop; the studies stay running in the tables and continue at the next start."""
        self._closing.set()
        with self._lock:
            threads = dict(self._threads)
        self._ctx.hub.notify([work_topic(study_id) for study_id in threads])
        for thread in threads.values():
            thread.join(JOIN_S)
        if self._sweeper.is_alive():
            self._sweeper.join(JOIN_S)
        if close := getattr(self._run_study, "close", None):
            close()
        log.info("coordinator_closed", num_studies=len(threads))
