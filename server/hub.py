"""Wakes waiters in this process after a commit: threads (studies) and coroutines (long polls, SSE).

Waiting is by version, so a change between reading and waiting is never missed. Other processes are not woken; waiters
therefore also poll every few seconds."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable

from sqlalchemy.orm import Session

Waiter = tuple[asyncio.AbstractEventLoop, asyncio.Event]


def work_topic(study_id: str) -> str:
    """What the study's own loop waits for: a result, a stop, a lost device."""
    return f"work:{study_id}"


def events_topic(study_id: str) -> str:
    return f"events:{study_id}"


def training_topic(training_id: str) -> str:
    return f"training:{training_id}"


def queue_topic(address: str | None) -> str:
    """Jobs of one device or of one pool (a fingerprint); None is the queue any trainer serves."""
    return f"queue:{address or '*'}"


def publish(session: Session, topic: str) -> None:
    """Wakes ``topic`` once ``session`` has committed; a rollback wakes nobody."""
    session.info.setdefault("topics", []).append(topic)


class Hub:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._versions: Counter[str] = Counter()
        self._waiters: defaultdict[str, set[Waiter]] = defaultdict(set)

    def versions(self, topics: Iterable[str]) -> dict[str, int]:
        with self._changed:
            return {topic: self._versions[topic] for topic in topics}

    def notify(self, topics: Iterable[str]) -> None:
        with self._changed:
            for topic in topics:
                self._versions[topic] += 1
                for loop, event in self._waiters.get(topic, ()):
                    _wake(loop, event)
            self._changed.notify_all()

    def wait(self, topic: str, seen: int, seconds: float) -> int:
        """Blocks until ``topic`` is past version ``seen`` or the time is over; returns the current version."""
        with self._changed:
            self._changed.wait_for(lambda: self._versions[topic] != seen, timeout=seconds)
            return self._versions[topic]

    async def wait_async(self, seen: dict[str, int], seconds: float) -> None:
        """Returns as soon as any of the topics in ``seen`` moved past its version, or after ``seconds``."""
        waiter: Waiter = (asyncio.get_running_loop(), asyncio.Event())
        with self._changed:
            if any(self._versions[topic] != version for topic, version in seen.items()):
                return
            for topic in seen:
                self._waiters[topic].add(waiter)
        try:
            await asyncio.wait_for(waiter[1].wait(), seconds)
        except TimeoutError:
            pass
        finally:
            self._forget(seen, waiter)

    def _forget(self, topics: Iterable[str], waiter: Waiter) -> None:
        with self._changed:
            for topic in topics:
                self._waiters[topic].discard(waiter)
                if not self._waiters[topic]:
                    del self._waiters[topic]


def _wake(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # its loop is closed: nobody is waiting
        loop.call_soon_threadsafe(event.set)
