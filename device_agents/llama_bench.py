"""llama.cpp as another engine in a comparison: a process of ``llama-bench`` is a cold run of a GGUF file.

It is pinned with ``taskset``, since llama.cpp's own ``--cpu-mask`` has no effect on Android. A sample of generation is
the mean over its tokens. Its cache type is its own default (float16), which the row names.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.device import DeviceFacts
from contracts.plan import Cache, Plan, Protocol, Step
from contracts.runner_events import RunnerEvent, SpoiledEvent, parse_event
from device_agents.devices.android.device import AndroidDevice
from device_agents.devices.base import Device, DeviceDefaults
from device_agents.devices.host import RUN_TIMEOUT_S
from foundation.errors import InvalidConfig, RunnerCrashed
from foundation.files import file_digest
from foundation.measurement_lock import MeasurementLock

TEXT: dict[str, Any] = {"text": True, "errors": "replace"}
KEPT = (
    "build_commit", "build_number", "cpu_info", "backends", "model_type", "model_size", "model_n_params", "n_threads",
    "type_k", "type_v", "flash_attn", "n_batch", "n_ubatch", "n_prompt", "n_gen", "n_depth", "test_time", "avg_ns",
    "stddev_ns", "avg_ts", "stddev_ts", "samples_ns", "samples_ts",
)  # fmt: skip


@dataclass(frozen=True)
class Output:
    """Of a process that ended; ``spoiled`` where the phone's condition changed meanwhile."""

    stdout: str
    stderr: str
    exit_code: int
    spoiled: SpoiledEvent | None = None


def bench_arguments(protocol: Protocol, gguf: str) -> list[str]:
    """Prompts at depth 0 and generation at every context. llama-bench times every combination; the others (a prompt at
    a context, generation at none) are dropped."""
    depths = ",".join(map(str, [0, *protocol.decode_contexts]))
    return [
        "-m", gguf, "-p", ",".join(map(str, protocol.prefill_lengths)), "-n", str(protocol.decode_tokens),
        "-d", depths, "-r", str(protocol.repetitions), "-t", str(protocol.threads), "-ngl", "0", "-o", "json",
    ]  # fmt: skip


def mask_of(cores: Sequence[int]) -> str:
    """Hexadecimal, as every ``taskset`` takes it."""
    return format(sum(1 << core for core in cores), "x")


def events_of(output: Output, protocol: Protocol) -> list[RunnerEvent]:
    """The runner's events for what llama-bench printed. Raises RunnerCrashed when a test is missing or it failed."""
    if output.spoiled and not output.stdout:
        return [output.spoiled]
    if output.exit_code:
        raise RunnerCrashed("llama_bench_failed", f"llama-bench ended with {output.exit_code}: {_last(output.stderr)}")
    try:
        tests = json.loads(output.stdout)
        found = {(test["n_prompt"], test["n_gen"], test["n_depth"]): test for test in tests}
        wanted = [found[length, 0, 0] for length in protocol.prefill_lengths]
        wanted += [found[0, protocol.decode_tokens, context] for context in protocol.decode_contexts]
    except KeyError as error:
        raise RunnerCrashed("llama_bench_output", f"llama-bench printed no test with {error.args[0]}") from None
    except (ValueError, TypeError) as error:
        raise RunnerCrashed("llama_bench_output", f"llama-bench printed no JSON: {error}") from None
    raw = [{"event": "llama_bench", **{key: test[key] for key in KEPT if key in test}} for test in wanted]
    timed = [parse_event(repetition) for test in wanted for repetition in _repetitions(test)]
    spoiled = [output.spoiled] if output.spoiled else []
    return [*map(parse_event, raw), *spoiled, *timed, parse_event({"event": "end"})]


def _repetitions(test: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for ns in test["samples_ns"]:
        one: dict[str, Any] = {"event": "repetition", "duration_ns": int(ns)}
        if test["n_gen"]:
            one |= {"phase": "decode", "context": test["n_depth"], "token_ns": [round(ns / test["n_gen"])]}
        else:
            one |= {"phase": "prefill", "length": test["n_prompt"]}
        found.append(one)
    return found


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no message"


class LlamaBench(DeviceDefaults, ABC):
    """One GGUF file on one device; ``plan`` names both files, so that only runs of equal ones are joined."""

    def __init__(self, device: Device, program: Path, gguf: Path, protocol: Protocol) -> None:
        for path, what in ((program, "--llama-bench"), (gguf, "--gguf")):
            if not path.is_file():
                raise InvalidConfig(f"{what} {path} is not a file")
        self.device, self.program, self.gguf = device, program, gguf
        digest = hashlib.sha256(f"{file_digest(program)} {file_digest(gguf)}".encode()).hexdigest()
        self.plan = Plan(
            id=digest[:12], chain=[Step(block=digest, role="model", name="llama.cpp")], vocab_size=1, hidden_size=1,
            cache=Cache(capacity=protocol.capacity), protocol=protocol, tokens=[],
        )  # fmt: skip

    @property
    def facts(self) -> DeviceFacts:
        return self.device.facts

    def has_block(self, digest: str) -> bool:
        return True

    def add_blocks(self, files: Any, keep: Any = ()) -> None:
        """Its files are its own."""

    @property
    def blocks(self) -> list[str]:
        """What it holds among the device's blocks."""
        return []

    def environment(self) -> dict[str, Any]:
        return self.device.environment()

    def prepare(self) -> None:
        """Makes the files ready to run. Raises InvalidConfig for a program that cannot do what is needed."""
        shown = self._execute(["--help"])
        if "--n-depth" not in shown.stdout + shown.stderr:
            raise InvalidConfig(
                f"{self.program} is not a llama-bench that knows --n-depth (builds since May 2025 do): "
                f"{_last(shown.stderr or shown.stdout)}"
            )

    def run(self, plan: Plan, cancelled: Callable[[], bool]) -> list[RunnerEvent]:
        return events_of(self._execute(bench_arguments(plan.protocol, self._model())), plan.protocol)

    def _model(self) -> str:
        return str(self.gguf)

    def _cores(self) -> list[int]:
        return self.plan.protocol.affinity or sorted(os.sched_getaffinity(0))

    @abstractmethod
    def _execute(self, arguments: list[str]) -> Output:
        """Runs the program with these arguments, pinned to the cores."""


class HostLlamaBench(LlamaBench):
    def prepare(self) -> None:
        if shutil.which("taskset") is None:
            raise InvalidConfig("llama-bench is pinned with taskset, which is not here: install util-linux")
        if not os.access(self.program, os.X_OK):
            raise InvalidConfig(f"--llama-bench {self.program} may not be executed: chmod +x {self.program}")
        super().prepare()

    def _execute(self, arguments: list[str]) -> Output:
        command = ["taskset", mask_of(self._cores()), str(self.program.resolve()), *arguments]
        try:
            with MeasurementLock().exclusive():
                done = subprocess.run(command, capture_output=True, timeout=RUN_TIMEOUT_S, check=False, **TEXT)
        except subprocess.TimeoutExpired:
            raise RunnerCrashed("timeout", f"llama-bench took longer than {RUN_TIMEOUT_S / 60:.0f} minutes") from None
        return Output(done.stdout, done.stderr, done.returncode)


class PhoneLlamaBench(LlamaBench):
    """The program with the libraries that lie beside it is pushed to a folder named by its content, the GGUF file among
    the blocks."""

    device: AndroidDevice

    def prepare(self) -> None:
        phone, self._digest = self.device.phone, file_digest(self.gguf)
        self._folder = f"{phone.root}/llama-{file_digest(self.program)[:16]}"
        self.device.add_blocks({self._digest: self.gguf}, keep=[self._digest])
        for path in (self.program, *sorted(self.program.parent.glob("lib*.so*"))):
            target = f"{self._folder}/{path.name}"
            held = phone.shell(f"mkdir -p {self._folder} && sha256sum {shlex.quote(target)}", timeout_s=120.0).stdout
            if not held.startswith(file_digest(path)):
                phone.transport.push(path, target, mode=0o755)
        super().prepare()

    @property
    def blocks(self) -> list[str]:
        return [self._digest]

    def _model(self) -> str:
        return f"{self.device.phone.root}/blocks/{self._digest}.pte"

    def _execute(self, arguments: list[str]) -> Output:
        words = ["taskset", mask_of(self._cores()), f"{self._folder}/{self.program.name}", *arguments]
        command = f"LD_LIBRARY_PATH={self._folder} {shlex.join(words)}"
        reply, spoiled = self.device.run_program(command, self._cores(), RUN_TIMEOUT_S)
        return Output(reply.stdout, reply.stderr, reply.exit_code, spoiled)
