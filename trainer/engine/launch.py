"""One training job in this process, or in several that torchrun or Ray starts; what it ends with is a Hugging Face
directory.

``python -m trainer.engine.launch job.json`` is what every process of torchrun runs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from foundation.cpus import usable_cpus
from foundation.errors import HilnasError, InvalidConfig
from foundation.files import write_atomically
from search_space.arch import ArchConfig
from search_space.modeling.model import HilnasForCausalLM, build_model
from trainer.data.packing import PackedStream
from trainer.data.token_dir import TokenDir
from trainer.engine.config import LoopConfig
from trainer.engine.model_dir import MODEL
from trainer.engine.processes import Processes, alone, joined
from trainer.engine.train import TrainingData, train
from trainer.pipeline.records import Records
from trainer.quantization.modules import prepare
from trainer.teacher.topk_cache import LogprobsDir

JOB = "job.json"
LAUNCHERS = ("torchrun", "ray")
TIED, GRACE_S = "--ends-with-its-parent", 5.0
Progress = Callable[[float, str], None]


class LaunchFailed(HilnasError):
    code = "launch_failed"


@dataclass(frozen=True)
class Job:
    """Folders of the finished stages it reads, and its own.

    ``start``: the Hugging Face directory that it goes on from, else random weights. ``stream``: a file of tokens other
    than the training text of ``data``. ``rounding``: how weights are rounded while training as exported; None is float.
    """

    arch: dict[str, Any]
    config: dict[str, Any]
    data: str
    teacher: str | None
    folder: str
    start: str | None = None
    stream: str | None = None
    rounding: str | None = None


def run(job: Job, processes: Processes, progress: Progress = lambda *_: None) -> None:
    """Trains and saves ``model`` in the job's folder; all processes call this."""
    config = LoopConfig(**{**job.config, "betas": tuple(job.config["betas"])})
    folder, arch = Path(job.folder), ArchConfig.from_dict(job.arch)
    model = started(arch, config.seed, job.start)
    if job.rounding is not None:
        prepare(model, job.rounding, config.seed)
    train(model, training_data(job, config), config, folder, processes, progress)
    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if processes.first:
        whole = build_model(arch)
        whole.load_state_dict(state)
        try:
            whole.save_pretrained(folder / MODEL)
        except SafetensorError as error:  # a full disk, for one
            raise OSError(f"{folder / MODEL} cannot be written: {error}") from error
    processes.wait()


def started(arch: ArchConfig, seed: int, start: str | None) -> HilnasForCausalLM:
    """Weights of ``start`` in ``arch``, which may differ in what has no weights, such as YaRN."""
    model = build_model(arch, seed=seed)
    if start is not None:
        model.load_state_dict(HilnasForCausalLM.from_pretrained(start).state_dict())
    return model


def training_data(job: Job, config: LoopConfig) -> TrainingData:
    tokens = TokenDir(Path(job.data))
    path = Path(job.stream) if job.stream else tokens.path("train")
    stream = PackedStream.open(path, config.length, tokens.vocabulary().end)
    return TrainingData(stream, LogprobsDir(Path(job.teacher)).open() if job.teacher and config.kd_weight else None)


def launch(job: Job, num_processes: int, progress: Progress = lambda *_: None, launcher: str = LAUNCHERS[0]) -> None:
    """``launcher`` starts the processes: torchrun those of this machine, Ray also one alone and those of a cluster.

    Raises the sentence of the process that failed.
    """
    if num_processes == 1 and launcher == "torchrun":
        run(job, alone(), progress)
        return
    folder = Path(job.folder)
    command = [*_command(launcher, folder / JOB, num_processes), TIED]
    write_atomically(folder / JOB, json.dumps(asdict(job)))
    for reports in folder.glob("error-*.json"):
        reports.unlink()
    threads = max(1, usable_cpus() // num_processes)
    with open(folder / f"{launcher}.log", "wb") as log:
        started = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )  # fmt: skip
        try:
            _follow(started, Records(folder / "curve.jsonl"), job.config["steps"], progress)
        finally:
            _end(started)
    if started.returncode:
        raise LaunchFailed(_reason(folder, launcher, started.returncode))


def check_launcher(launcher: str) -> None:
    """Raises InvalidConfig for one that is not known, or not installed."""
    if launcher not in LAUNCHERS:
        raise InvalidConfig(f"unknown launcher {launcher!r}; known: {', '.join(LAUNCHERS)}")
    if launcher == "ray" and importlib.util.find_spec("ray") is None:
        raise InvalidConfig("Ray is not installed; `pip install 'hilnas[ray]'` brings it, and torchrun works without")


def _command(launcher: str, job: Path, num_processes: int) -> list[str]:
    check_launcher(launcher)
    if launcher == "torchrun":
        return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_processes),
                "-m", "trainer.engine.launch", str(job)]  # fmt: skip
    return [sys.executable, "-m", "trainer.engine.ray_launch", str(job), str(num_processes)]


def _end(started: subprocess.Popen[bytes]) -> None:
    """All of them see the pipe close; who does not heed it in time is killed."""
    assert started.stdin is not None
    started.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        started.wait(GRACE_S)
    if started.poll() is None:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def _follow(started: subprocess.Popen[bytes], curve: Records, steps: int, progress: Progress) -> None:
    while started.poll() is None:
        if rows := curve.read():
            step, loss = rows[-1]["step"] + 1, rows[-1]["loss"]
            progress(min(step / steps, 0.999), f"step {step} of {steps}, loss {loss:.3f}")
        time.sleep(0.5)


def _reason(folder: Path, launcher: str, code: int) -> str:
    if reports := sorted(folder.glob("error-*.json")):
        return str(json.loads(reports[0].read_text())["message"])
    return f"a training process ended with exit code {code}; {folder / launcher}.log has its last words"


def run_or_tell(job: Job, processes: Processes) -> None:
    """``run`` in a process of several: what stops it is also left where the one that launched looks."""
    try:
        run(job, processes)
    except (HilnasError, OSError) as error:
        write_atomically(Path(job.folder) / f"error-{processes.rank}.json", json.dumps({"message": str(error)}))
        raise


def end_with_parent(before: Callable[[], None] = lambda: None) -> None:
    """Where it is asked for: the pipe on standard input closes also when the parent is killed."""

    def wait() -> None:
        os.read(0, 1)  # not sys.stdin: its lock would be held when the interpreter ends
        before()
        os._exit(1)

    if TIED in sys.argv:
        threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    end_with_parent()
    job = Job(**json.loads(Path(sys.argv[1]).read_text()))
    with joined() as processes:
        try:
            run_or_tell(job, processes)
        except (HilnasError, OSError) as error:
            sys.stderr.write(f"{error}\n")
            sys.stderr.flush()
            os._exit(1)  # the others wait inside a collective; torchrun ends them


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    main()
