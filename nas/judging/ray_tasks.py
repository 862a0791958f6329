"""Judgements as tasks of a Ray cluster: the one at RAY_ADDRESS, else one that is started on this machine.

Tasks take a share of a GPU where the cluster has any. Machines of the cluster need hilnas and, for a study around a
parent, the folder of parents under the same path.
"""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from contracts.study import QualitySpec
from foundation.errors import HilnasError, InvalidConfig, WorkerLost
from foundation.measurement_lock import default_path
from foundation.plugin_loader import VARIABLE, load_plugins
from nas.judging.base import Executor
from nas.quality.contract import judge_in_worker
from search_space.arch import ArchConfig
from search_space.parents import parents_folder

MAX_WAITING = 64  # judgements that a coordinator waits for at once
DEFAULT_NUM_GPUS = 0.25
MIN_STORE_BYTES = 80 * 2**20  # of objects, which judgements do not use


class RayExecutor(Executor):
    """Connects at the first judgement."""

    name = "ray"

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(MAX_WAITING, thread_name_prefix="ray-judgement")
        self._connecting, self._connected, self._closed = threading.Lock(), False, False

    @classmethod
    def require(cls) -> None:
        if importlib.util.find_spec("ray") is None:
            raise InvalidConfig(
                "judging on Ray needs the package ray: `pip install 'hilnas[ray]'` brings it, or use executor local"
            )

    def submit(self, spec: QualitySpec, arch: ArchConfig) -> Future[dict[str, Any]]:
        return self._threads.submit(self._judge, spec, arch)

    def close(self) -> None:
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._connecting:
            if self._connected:
                import ray

                ray.shutdown()
                self._connected = False

    def _judge(self, spec: QualitySpec, arch: ArchConfig) -> dict[str, Any]:
        import ray
        from ray.exceptions import NodeDiedError, OutOfMemoryError, RayTaskError, WorkerCrashedError

        self._connect()
        task = ray.remote(judge_remotely).options(num_cpus=1, num_gpus=num_gpus_of(spec), max_retries=0)
        for again in (False, True):
            try:
                result: dict[str, Any] = ray.get(task.remote(_told(), spec.model_dump(), arch.to_dict()))
                return result
            except RayTaskError as error:
                raise error.cause from None
            except (NodeDiedError, OutOfMemoryError, WorkerCrashedError) as error:
                if again or self._closed:
                    raise WorkerLost(f"a Ray worker was lost twice: {_first_line(error)}") from None
        raise AssertionError("both attempts end in the loop")

    def _connect(self) -> None:
        with self._connecting:
            if self._closed:
                raise HilnasError("judging on Ray has ended")
            if not self._connected:
                _start()
                self._connected = True


def judge_remotely(environ: Mapping[str, str], spec: dict[str, Any], arch: dict[str, Any]) -> dict[str, Any]:
    """``judge_in_worker`` with the coordinator's plugins, parents and measurement lock."""
    os.environ.update(environ)
    load_plugins()
    return judge_in_worker(spec, arch)


def _start() -> None:
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read by Ray alone: it reports to its makers otherwise
    here: dict[str, Any] = {"address": "local", "include_dashboard": False, "object_store_memory": MIN_STORE_BYTES}
    ray.init(**({} if "RAY_ADDRESS" in os.environ else here), log_to_driver=False, configure_logging=False)


def _told() -> dict[str, str]:
    """What a judgement reads from the environment; a worker of a cluster has one of its own."""
    told = {"HILNAS_VAR": str(parents_folder().parent.absolute()), "HILNAS_MEASUREMENT_LOCK": str(default_path())}
    return {**told, VARIABLE: os.environ.get(VARIABLE, "")}


def num_gpus_of(spec: QualitySpec) -> float:
    """GPUs of one task, a share of one or more; 0 where the cluster has none."""
    import ray

    asked = DEFAULT_NUM_GPUS if spec.num_gpus is None else spec.num_gpus
    return asked if ray.cluster_resources().get("GPU", 0) else 0


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
