"""A recipe handed over by a trial: trained by a worker through the coordinator, killed, stopped, resumed, measured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.measurement import Verdict
from tests.e2e.processes import ROOT, Service, environment, run_hilnas, wait_for
from tests.unit.conftest import small_teacher, small_text  # noqa: F401  fixtures

# `hilnas` with a recipe of a few seconds beside the real ones
HILNAS = """
import sys
from dataclasses import replace
import trainer.recipes as recipes
from trainer.data.mixture import Part
from trainer.engine.config import LoopConfig
from trainer.pipeline.stage import Recipe
from trainer.stages.data import DataStage
from trainer.stages.evaluate import EvaluateStage
from trainer.stages.pretrain import PretrainStage
from trainer.stages.extend import ExtendStage
from trainer.stages.teacher import TeacherStage
from trainer.evaluation.subject import Settings
from trainer.teacher.directory import identity
TEXT, TEACHER = sys.argv.pop(1), sys.argv.pop(1)

def debug(arch, options):
    teacher_id = identity(TEACHER)
    steps = round(40 * options.scale)
    loop = LoopConfig(steps=steps, batch=2, micro_batch=2, length=32, warmup=1, save_every=50, kd_weight=0.5)
    text = EvaluateStage("pretrain", suites=("bits_per_byte length=32 count=4",), settings=Settings(length=32))
    return Recipe("debug", (
        DataStage(TEACHER, teacher_id, ("directory:" + TEXT,), 300, max_tokens=6_000, held_out_share=0.2),
        TeacherStage(TEACHER, teacher_id, k=8, max_tokens=500, window=64, shard_tokens=256),
        PretrainStage(replace(arch, vocab_size=300).to_dict(), options.processes, loop=loop), text,
        ExtendStage(start="pretrain", loop=replace(loop, kd_weight=0.0, length=64), original_length=64),
        replace(text, subject="extend"),
    ))

recipes.RECIPES.add("debug", recipes.RecipeEntry("for tests", debug))
from hilnas.cli.main import main
main()
"""
SPEC: dict[str, Any] = {
    "name": "training", "space": "debug_space",
    "space_options": {"depth": 2, "d_model": 64, "vocab_size": 256},
    "objectives": [{"metric": "weight_bytes"}], "sampler": "random", "protocol": "quick", "max_trials": 1, "confirm": 0,
}  # fmt: skip
pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, runner: Path) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("training") / "var", lease_s=8.0) as service:
        service.start_coordinator()
        service.start_agent()
        yield service


@pytest.fixture(scope="module")
def trial_id(service: Service) -> str:
    study = service.wait_until_ended(service.post("/studies", SPEC)["id"], 120)
    (trial,) = service.get(f"/studies/{study['id']}/trials")
    return str(trial["id"])


class Workers:
    """Workers with the debug recipe, and the commands of their user."""

    def __init__(self, service: Service, text: Path, teacher: str) -> None:
        self._service, self.words = service, [sys.executable, "-c", HILNAS, str(text), teacher]
        self._home = service.var / "trainer"

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.words, *arguments, "--url", self._service.url], capture_output=True, text=True, timeout=300,
            cwd=ROOT, env=environment(), check=False,
        )  # fmt: skip

    def start(self) -> subprocess.Popen[bytes]:
        command = ["train", "worker", "--url", self._service.url, "--home", str(self._home), "--jobs", "1"]
        with (self._service.var / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                [*self.words, *command], stdout=log, stderr=log, cwd=ROOT, env=environment(), start_new_session=True
            )
        self._service.processes[f"worker-{process.pid}"] = process
        return process


@pytest.fixture(scope="module")
def hilnas(service: Service, small_text: Path, small_teacher: str) -> Workers:  # noqa: F811
    return Workers(service, small_text, small_teacher)


def training_of(service: Service, trial_id: str) -> dict[str, Any]:
    (found,) = service.get("/trainings", trial_id=trial_id)
    return dict(service.get(f"/trainings/{found['id']}"))


def steps_told(service: Service, training_id: str) -> int:
    return sum(len(curve["steps"]) for curve in service.get(f"/trainings/{training_id}/curve"))


def test_a_recipe_survives_kills_and_a_stop_and_is_measured(
    service: Service, trial_id: str, hilnas: Workers
) -> None:
    """kill -9 of the worker, then of the coordinator, then a stop by its user: each time it goes on."""
    started = hilnas("train", "start", trial_id, "--recipe", "debug", "--scale", "25")
    assert started.returncode == 0, started.stderr
    training_id = training_of(service, trial_id)["id"]
    first = hilnas.start()
    wait_for("its recipes", lambda: service.get("/registry")["recipes"], 120)
    assert {"debug", "smoke", "tiny"} <= {recipe["name"] for recipe in service.get("/registry")["recipes"]}
    wait_for("some steps", lambda: steps_told(service, training_id) > 5, 300)
    os.kill(first.pid, signal.SIGKILL)
    wait_for("its job in the queue", lambda: training_of(service, trial_id)["state"] == "queued", 120)
    second, told = hilnas.start(), steps_told(service, training_id)
    wait_for("more steps", lambda: steps_told(service, training_id) > told, 300)
    service.kill("coordinator")
    service.start_coordinator()
    told = steps_told(service, training_id)
    wait_for("steps after the coordinator's end", lambda: steps_told(service, training_id) > told, 300)
    stopped = hilnas("train", "stop", trial_id)
    assert stopped.returncode == 0, stopped.stderr
    assert second.wait(200) == 0
    assert training_of(service, trial_id)["state"] == "stopped"
    assert hilnas("train", "resume", training_id).returncode == 0
    assert hilnas.start().wait(400) == 0
    training = training_of(service, trial_id)
    assert training["state"] == "finished", training["error"]
    assert {stage["state"] for stage in training["stages"]} == {"done"}
    curves = {curve["stage"]: curve["steps"] for curve in service.get(f"/trainings/{training_id}/curve")}
    assert curves == {"pretrain": list(range(1000)), "extend": list(range(1000))}
    trained = wait_for("the measured program", lambda: service.get(f"/trials/{trial_id}")["trained"], 300)
    (row,) = trained.values()
    assert row["verdict"] in set(Verdict) - {Verdict.PARITY_FAILED, Verdict.RUNNER_FAILED}, row["reason"]


def test_the_commands_show_it(service: Service, trial_id: str) -> None:
    shown = run_hilnas("train", "status", trial_id, "--url", service.url)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "evaluate_extend: done" in shown.stdout
    assert "bits per byte, program" in shown.stdout
    lines = run_hilnas("train", "logs", training_of(service, trial_id)["id"], "--url", service.url, "--lines", "3")
    assert [json.loads(line)["step"] for line in lines.stdout.splitlines()] == [997, 998, 999]


def test_a_run_at_home_is_shown_and_stopped_from_there(service: Service, hilnas: Workers, tmp_path: Path) -> None:
    arch = tmp_path / "arch.json"
    arch.write_text(json.dumps(service.get(f"/studies/{service.get('/studies')[0]['id']}/trials")[0]["arch"]))
    command = [*hilnas.words, "train", "run", "--recipe", "debug", "--arch", str(arch), "--scale", "50", "--root",
               str(tmp_path), "--name", "home", "--url", service.url]  # fmt: skip
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), **silent)
    service.processes["home"] = process
    found = lambda: [one for one in service.get("/trainings") if one["name"] == "home"]  # noqa: E731
    (run,) = wait_for("the run at the coordinator", found, 200)
    wait_for("its steps", lambda: steps_told(service, run["id"]) > 5, 200)
    service.post(f"/trainings/{run['id']}/stop")
    assert process.wait(200) == 1
    assert wait_for("its end", lambda: service.get(f"/trainings/{run['id']}")["state"] == "stopped", 20)
    (other,) = [hilnas("train", "run", "--recipe", "tiny", "--root", str(tmp_path), "--name", "home")]
    assert other.returncode == 2
    assert "is of recipe debug, not tiny; give another --name" in other.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--recipe", "huge"), "known: smoke, short, heal, tiny, full, small, lfm2_5_350m"),
        (("--recipe", "smoke", "--scale", "0.5"), "recipe smoke has no option 'scale'; known: steps"),
        (("--recipe", "lfm2_5_350m"), "a head of 65,536 tokens cut from its teacher's"),
    ],
    ids=["recipe", "option", "vocabulary"],
)
def test_what_cannot_work_is_said_at_the_start(
    service: Service, trial_id: str, options: tuple[str, ...], sentence: str
) -> None:
    shown = run_hilnas("train", "start", trial_id, *options, "--url", service.url)
    assert shown.returncode == 2
    assert shown.stderr.startswith("error: ") or "\nerror: " in shown.stderr
    assert sentence in shown.stderr
