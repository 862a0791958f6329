"""What changes on a phone by itself: clocks, frequency residency, temperatures; and the faults that bend them.

One thread writes plain files ten times a second. Time is passed in, so a test can step through hours.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

import structlog

from virtual_phone.system import PhoneFiles, Policy

log = structlog.get_logger()
TICK_S, SLOW_S = 0.1, 1.0
AMBIENT_C, CHARGING_C, LOAD_C = 28.0, 1.5, 3.0
TAU_S = 60.0  # a battery follows its surroundings over minutes; shortened, for nobody waits for a virtual phone
SKIN_LIMITS_C = (38.0, 40.0, 42.0, 45.0)  # of status 1, 2, 3, 4
THROTTLED_SHARE, THROTTLED_STATUS, THROTTLE_HOLDS_S = 0.6, 2, 5.0


class Life:
    """``is_busy`` returns whether a runner is running; ``due`` are calls scheduled for a time of ``now``."""

    def __init__(
        self, files: PhoneFiles, is_busy: Callable[[], bool], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._files, self._is_busy, self._now = files, is_busy, now
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.mailbox: Callable[[], None] = lambda: None
        self.throttles, self.hot_c, self.hot_until = False, 0.0, 0.0
        self._throttled_until, self._stop = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._loop, name="phone-life", daemon=True)
        self.boot()

    def boot(self) -> None:
        self._booted = self._last = self._now()
        self._slow_at, self._battery_c = 0.0, AMBIENT_C + CHARGING_C
        self._in_state: dict[tuple[str, int], float] = {}
        self._clocks: dict[str, tuple[int, int]] = {}
        self._throttled_until = 0.0
        self.step()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def call_later(self, seconds: float, what: Callable[[], None]) -> None:
        self.due.append((self._now() + seconds, what))

    def heat(self, temp_c: float, cools_after_s: float) -> None:
        """Keeps the battery at ``temp_c`` for that time; then it is cool again at once."""
        self.hot_c, self.hot_until = temp_c, self._now() + cools_after_s
        self._slow_at = 0.0
        self.step()

    def step(self) -> None:
        """One tick: updates everything that changes with time."""
        now = self._now()
        elapsed, self._last = now - self._last, now
        busy = self._is_busy()
        if busy and self.throttles:
            self._throttled_until = now + THROTTLE_HOLDS_S
        throttled = now < self._throttled_until
        self._files.put_sys("proc/uptime", f"{now - self._booted:.2f} {now - self._booted:.2f}")
        for policy in self._files.policies:
            self._run(policy, busy, throttled, elapsed)
        if now >= self._slow_at or throttled:
            self._warm(now, busy, throttled)
            self._slow_at = now + SLOW_S

    def _run(self, policy: Policy, busy: bool, throttled: bool, elapsed: float) -> None:
        cluster = policy.cluster
        cap = cluster["fixed_khz"] if self._files.get("power/fixed") == "true" else cluster["max_khz"]
        if throttled:
            cap = min(cap, int(cap * THROTTLED_SHARE) // 1000 * 1000)
        current = cap if busy else cluster["min_khz"]
        for khz in (cluster["min_khz"], cluster["fixed_khz"], cluster["max_khz"], current):
            self._in_state.setdefault((policy.name, khz), 0.0)
        self._in_state[policy.name, current] += elapsed
        rows = sorted((khz, spent) for (name, khz), spent in self._in_state.items() if name == policy.name)
        if self._clocks.get(policy.name) != (cap, current):  # a rename costs a third of a millisecond
            self._files.put_policy(policy, "scaling_max_freq", cap)
            self._files.put_policy(policy, "scaling_cur_freq", current)
            self._clocks[policy.name] = (cap, current)
        self._files.put_policy(policy, "stats/time_in_state", "\n".join(f"{khz} {int(s * 100)}" for khz, s in rows))

    def _warm(self, now: float, busy: bool, throttled: bool) -> None:
        charging = any(self._files.get(f"battery/{source}") == "1" for source in ("ac", "usb", "wireless"))
        target = AMBIENT_C + CHARGING_C * charging + LOAD_C * busy
        if now < self.hot_until:
            self._battery_c = self.hot_c
        elif self.hot_until:
            self._battery_c, self.hot_until = target, 0.0
        else:
            self._battery_c += (target - self._battery_c) * (1 - math.exp(-SLOW_S / TAU_S))
        skin, chip = self._battery_c + 1.0, self._battery_c + 4.0 + 10.0 * busy
        status = sum(skin >= limit for limit in SKIN_LIMITS_C)
        self._files.put("battery/temperature", round(self._battery_c * 10))
        for name, value in (("battery_c", self._battery_c), ("skin_c", skin), ("ap_c", chip)):
            self._files.put(f"thermal/{name}", f"{value:.1f}")
        self._files.put("thermal/status", max(status, THROTTLED_STATUS if throttled else 0))
        for index, (zone, above) in enumerate(self._files.record["zones"].items()):
            value = self._battery_c if zone == "battery" else chip + above
            self._files.put_sys(f"sys/class/thermal/thermal_zone{index}/temp", int(value * 1000))

    def _loop(self) -> None:
        while not self._stop.wait(TICK_S):
            try:
                self.mailbox()
                ready = [item for item in self.due if item[0] <= self._now()]
                for item in ready:
                    self.due.remove(item)
                    item[1]()
                self.step()
            except OSError as error:  # the state folder was deleted under a running phone
                log.warning("virtual_phone_stopped_living", error=str(error))
                return
