"""Plans and recorded runs for sessions without hardware: a device that remembers which plan ran when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contracts.plan import Cache, Plan, Protocol, Step
from contracts.runner_events import RunnerEvent
from device_agents.devices.replay import ReplayDevice
from tests.server import samples

MS = 1_000_000


def plan_named(name: str) -> Plan:
    step = Step(block=name.encode().hex().rjust(64, "0")[-64:], role="model", name=name)
    protocol = Protocol(name="comparison", prefill_lengths=[64], decode_contexts=[128])
    return Plan(id=name, chain=[step], cache=Cache(capacity=256), hidden_size=64, vocab_size=256, protocol=protocol,
                tokens=[1])  # fmt: skip


def cold_run(decode_ms: float, canary_ms: float | None = None) -> list[dict[str, Any]]:
    canary = {} if canary_ms is None else {"canary_ns": int(canary_ms * MS)}
    prefill = {"event": "repetition", "phase": "prefill", "length": 64, "duration_ns": int(20 * decode_ms * MS),
               **canary}  # fmt: skip
    tokens = [int(decode_ms * MS), int(1.01 * decode_ms * MS)]
    decode = {"event": "repetition", "phase": "decode", "context": 128, "duration_ns": sum(tokens),
              "token_ns": tokens, **canary}  # fmt: skip
    return [{"event": "load", "load_ns": MS}, prefill, decode, {"event": "end", "forward_ns": MS}]


class Player(ReplayDevice):
    """Runs by name; ``stop_at`` loses the device when that many runs were taken."""

    def __init__(self, runs: dict[str, Any], stop_at: int = 1000) -> None:
        super().__init__({"facts": {**samples.facts("example"), "kind": "replay"}, "runs": runs})
        self.ran: list[str] = []
        self.stop_at = stop_at

    def run(self, plan: Plan, cancelled: Callable[[], bool]) -> list[RunnerEvent]:
        from foundation.errors import DeviceLost

        if len(self.ran) >= self.stop_at:
            raise DeviceLost("the cable was pulled (recorded)")
        self.ran.append(plan.chain[0].name)
        return super().run(plan, cancelled)
