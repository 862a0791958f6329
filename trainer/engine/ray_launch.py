"""Ray Train as launcher: the same loop in its workers, on this machine or on the cluster that RAY_ADDRESS names.

``python -m trainer.engine.ray_launch job.json 2`` is the driver. It is a process of its own, so that Ray's threads and
signal handlers stay out of the one that launched, and Ray's processes end with it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from foundation.cpus import usable_cpus
from trainer.engine.launch import Job, end_with_parent, run_or_tell
from trainer.engine.processes import joined

MAX_TEMP_PATH = 30  # characters: Ray's sockets lie 70 deeper, and their paths end at 107
MIN_STORE_BYTES = 80 * 2**20  # of objects, which the loop does not use


def main() -> None:
    """Ray's own files lie in a folder that is gone afterwards, also when the parent was killed."""
    room = tempfile.gettempdir()
    scratch = Path(tempfile.mkdtemp(prefix="ray-", dir=room if len(room) <= MAX_TEMP_PATH else "/tmp"))
    end_with_parent(lambda: _end_all(scratch))
    try:
        drive(absolute(Job(**json.loads(Path(sys.argv[1]).read_text()))), int(sys.argv[2]), scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _end_all(scratch: Path) -> None:
    """Ray's agents would outlive the driver by a minute; all of them are in the group that it leads."""
    shutil.rmtree(scratch, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


def drive(job: Job, num_workers: int, scratch: Path) -> None:
    """Raises Ray's error when a worker raised; the worker has left its sentence in the job's folder."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    cuda = torch.cuda.is_available()
    given = {"job": vars(job), "threads": max(1, usable_cpus() // num_workers)}
    with started(num_workers, scratch):
        TorchTrainer(
            work, train_loop_config=given, torch_config=TorchConfig(backend="nccl" if cuda else "gloo"),
            scaling_config=ScalingConfig(num_workers=num_workers, use_gpu=cuda),
            run_config=RunConfig(name="job", storage_path=str(scratch)),
        ).fit()  # fmt: skip


def work(given: dict[str, Any]) -> None:
    """In every worker."""
    torch.set_num_threads(given["threads"])
    with joined() as processes:
        run_or_tell(Job(**given["job"]), processes)


@contextmanager
def started(num_workers: int, scratch: Path) -> Iterator[None]:
    import ray

    here: dict[str, Any] = {
        "address": "local", "num_cpus": num_workers, "include_dashboard": False, "_temp_dir": str(scratch),
        "object_store_memory": MIN_STORE_BYTES,
    }  # fmt: skip
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read by Ray alone: it reports to its makers otherwise
    ray.init(**({} if "RAY_ADDRESS" in os.environ else here))
    try:
        yield
    finally:
        ray.shutdown()


def absolute(job: Job) -> Job:
    """Workers need not stand in the folder of the driver."""
    given = {name: getattr(job, name) for name in ("data", "teacher", "folder", "start", "stream")}
    paths: dict[str, Any] = {name: str(Path(path).absolute()) for name, path in given.items() if path}
    return replace(job, **paths)


if __name__ == "__main__":
    from trainer.engine import ray_launch

    ray_launch.main()  # by its name: Ray sends functions of __main__ as copies, without their module
