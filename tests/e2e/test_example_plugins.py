"""The plugins of examples/, each through the public commands: what docs/extending.md says works."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from foundation.plugin_loader import load_file
from tests.e2e.processes import ROOT, Service, run_hilnas, wait_for
from trainer.recipes import RECIPES
from trainer.tasks.registry import TASKS, task_named

EXAMPLES = sorted((ROOT / "examples" / "plugins").glob("*.py"))
SEARCH = os.pathsep.join(str(file) for file in EXAMPLES if file.stem != "word_reversal")  # that one is for trainers
pytestmark = [pytest.mark.alone, pytest.mark.e2e, pytest.mark.slow]


def test_each_is_below_eighty_lines_of_code() -> None:
    assert EXAMPLES
    for file in EXAMPLES:
        assert sum(bool(line.strip()) for line in file.read_text().splitlines()) < 80, file.name


def test_all_are_listed_as_plugins() -> None:
    options = [option for file in EXAMPLES for option in ("--plugin", str(file))]
    listed = json.loads(run_hilnas(*options, "plugins", "--json").stdout)
    assert "gated_ema" in listed["mixer"] and "ema_hybrids" in listed["search space"]
    assert "parameter_count" in listed["quality estimator"] and "pinned_host" in listed["device kind"]
    assert "word_reversal" in listed["task"] and "word_reversal" in listed["recipe"]


def test_a_recipe_on_an_own_task(tmp_path: Path) -> None:
    """Examples from an own task, trained on and judged by its own verifier."""
    done = run_hilnas(
        "train", "run", "--plugin", str(ROOT / "examples/plugins/word_reversal.py"), "--recipe", "word_reversal",
        "--set", "steps=3", "--set", "examples=20", "--root", str(tmp_path), "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout.splitlines()[-1])
    assert metrics["synthetic"]["sources"]["word_reversal"] == {"asked": 20, "verified": 20}
    assert metrics["evaluate_sft"]["task/word_reversal"]["n"] > 0


def test_no_test_prompt_of_the_own_task_is_trained_on() -> None:
    with TASKS.temporarily({}), RECIPES.temporarily({}):
        load_file(str(ROOT / "examples/plugins/word_reversal.py"))
        task = task_named("word_reversal")
        prompts = {split: {e.prompt for e in task.examples(split, 500)} for split in ("train", "validation", "test")}
    assert all(len(found) > 300 for found in prompts.values())
    assert not prompts["train"] & (prompts["validation"] | prompts["test"])


def test_a_search_of_plugins_alone(tmp_path: Path, runner: Path) -> None:
    """An own mixer in an own space, scored by an own estimator, measured by an own kind of device."""
    with Service(tmp_path / "var") as service:
        service._environ["HILNAS_PLUGINS"] = SEARCH
        service.start_coordinator()
        core = str(min(os.sched_getaffinity(0)))
        home = str(tmp_path / "agent")
        service._start("agent", "agent", "serve", "pinned_host", core, "--url", service.url, "--home", home)
        wait_for("the device", lambda: service.get("/devices"), 60)
        done = run_hilnas(
            "search", "start", "--space", "ema_hybrids", "--quality", "parameter_count", "--quantization", "fp32",
            "--objective", "quality", "--objective", "decode_ms@256", "--protocol", "quick", "--sampler", "random",
            "--trials", "3", "--target", "core=pinned_host", "--url", service.url, "--json",
            HILNAS_PLUGINS=SEARCH,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        study = service.wait_until_ended(json.loads(done.stdout)["id"], 300)
        assert study["trials"]["complete"] >= 1, study
        (device,) = service.get("/devices")
        assert (device["facts"]["kind"], device["facts"]["cores"]) == ("pinned_host", 1)
        trials = service.get(f"/studies/{study['id']}/trials")
        kinds = {layer["mixer"]["kind"] for trial in trials for layer in trial["arch"]["layers"]}
        assert "gated_ema" in kinds
        assert {trial["quality"]["estimator"] for trial in trials if trial["state"] == "complete"} == {
            "parameter_count"
        }  # fmt: skip


def test_without_its_plugin_a_mixer_is_refused_by_name(tmp_path: Path) -> None:
    layer = {"mixer": {"kind": "gated_ema"}, "ffn": None}
    (tmp_path / "arch.json").write_text(json.dumps({"d_model": 64, "vocab_size": 64, "layers": [layer]}))
    done = run_hilnas("measure", str(tmp_path / "arch.json"))
    assert done.returncode == 2
    assert "unknown mixer 'gated_ema'; known: gated_short_conv" in done.stderr
