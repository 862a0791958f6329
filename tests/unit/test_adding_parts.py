"""A part of every kind, added by one plugin file and used by its name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from contracts.study import StudySpec
from foundation import plugin_loader
from foundation.errors import InvalidConfig
from hilnas.plugins import all_registries
from nas.export.backends import BACKENDS
from nas.samplers import SAMPLERS
from search_space.arch import ArchConfig
from search_space.presets import architecture
from search_space.states import state_from_plan
from trainer.data.sources import open_source
from trainer.evaluation.subject import Settings
from trainer.evaluation.suites import suite_of
from trainer.examples.teacher_writes import REQUESTS
from trainer.losses.preference import PREFERENCE_LOSSES
from trainer.merging.methods import method_of
from trainer.pipeline.chain import run_recipe
from trainer.preference.axes import jury_of
from trainer.preference.candidates import Candidate, Question
from trainer.recipes import recipe_named
from trainer.stages import PreferenceStage, SyntheticStage
from trainer.tasks.registry import task_named

ROOT = Path(__file__).parents[2]
PLUGIN = """
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from nas.export.backends.base import BACKENDS, Backend
from nas.samplers import SAMPLERS
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv
from search_space.presets import PRESETS
from search_space.states import STATE_KINDS
from search_space.states.base import StateSpec
from trainer.data.sources import TEXT_SOURCES, Source
from trainer.evaluation.suites import SUITES, Suite
from trainer.evaluation.values import Metric
from trainer.examples.teacher_writes import REQUESTS
from trainer.losses.preference import PREFERENCE_LOSSES
from trainer.merging.methods import MERGE_METHODS
from trainer.merging.methods.base import Merge
from trainer.pipeline.stage import STAGES, Recipe, Stage
from trainer.preference.axes import JURY_AXES
from trainer.recipes import RECIPES, RecipeEntry
from trainer.tasks.base import Example
from trainer.tasks.registry import TASKS


@PRESETS.register("mine")
def preset() -> ArchConfig:
    return ArchConfig(64, 256, (LayerConfig(GatedShortConv(3), SwiGLU(128)),))


class Mine(Backend):
    name, title, min_sqnr_db = "mine", "Mine", {"fp32": 60.0}


BACKENDS.add("mine", Mine())


@STATE_KINDS.register("mine")
@dataclass(frozen=True)
class MineSpec(StateSpec):
    kind: ClassVar[str] = "mine"


@SAMPLERS.register("mine")
def sampler(seed, spec):
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


@TEXT_SOURCES.register("mine")
def text(spec: str, name: str, cache: Path) -> Source:
    return Source(spec, "mine", "CC0", lambda: [name * 300])


@TASKS.register("mine")
@dataclass(frozen=True)
class Yes:
    variant: str = ""
    level: int = 0
    name = "mine"

    def examples(self, split, count):
        return [Example("mine", "Say yes.", "yes")] * count

    def score(self, example, answer):
        return float(answer == "yes")


SUITES.add("mine", Suite(lambda subject, argument: [Metric("mine", 1.0, 1.0, 1.0, 1, "high")], "always one"))
PREFERENCE_LOSSES.add("mine", lambda chosen_P, rejected_P, beta: beta * (rejected_P - chosen_P))


@JURY_AXES.register("mine")
@dataclass(frozen=True)
class Short:
    most: int = 3
    name: ClassVar[str] = "mine"

    def scores(self, question, candidates):
        return [float(len(candidate.ids) <= self.most) for candidate in candidates]


@MERGE_METHODS.register("mine")
@dataclass(frozen=True, kw_only=True)
class First(Merge):
    factor: float = 1.0

    def merge(self, base, models, noise):
        return self.factor * models[0]


@STAGES.register("mine")
@dataclass(frozen=True)
class Note(Stage):
    kind: ClassVar[str] = "mine"
    text: str = ""

    def run(self, context):
        (context.folder / "note.txt").write_text(self.text)
        return {"letters": len(self.text)}

    def cost(self, costing):
        return None

    def shortened(self, brief):
        return self


@dataclass(frozen=True)
class Options:
    words: int = 1


REQUESTS.add("teacher:mine", lambda count: [])
RECIPES.add("mine", RecipeEntry("a note", lambda arch, o: Recipe("mine", (Note("word " * o.words),)), Options()))
"""
NOUNS = ("preset", "backend", "state kind", "sampler", "text source", "task", "suite", "preference loss", "jury axis",
         "merging method", "training stage", "recipe")  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    file = tmp_path_factory.mktemp("plugin") / "mine.py"
    file.write_text(PLUGIN)
    plugin_loader.load_file(str(file))
    yield
    for noun in NOUNS:
        all_registries()[noun]._parts.pop("mine", None)
    REQUESTS._parts.pop("teacher:mine", None)


@pytest.mark.parametrize("noun", NOUNS)
def test_it_is_listed(noun: str) -> None:
    assert "mine" in all_registries()[noun]


def test_of_searches_and_measurements() -> None:
    assert architecture("mine").depth == 1
    BACKENDS.get_or_raise("mine").check("fp32")
    spec = StudySpec(name="n", space="debug_space", objectives=[{"metric": "params"}], sampler="mine")
    assert SAMPLERS.get_or_raise(spec.sampler)(0, spec) is not None
    assert state_from_plan({"kind": "mine"}).kind == "mine"


def test_of_text_and_tasks(tmp_path: Path) -> None:
    assert len(next(iter(open_source("mine:word ", tmp_path).documents()))) == 1500
    task = task_named("mine@2")
    assert task.score(task.examples("test", 1)[0], "yes") == 1.0
    (metric,) = suite_of("mine count=3", Settings()).suite.run(None, "")  # type: ignore[arg-type]
    assert metric.value == 1.0


def test_of_preference_and_merging() -> None:
    stage = PreferenceStage("sft", loss="mine")
    loss = PREFERENCE_LOSSES[stage.loss](torch.tensor([1.0]), torch.tensor([0.5]), 2.0)
    assert loss.tolist() == [-1.0]
    jury = jury_of(("mine most=2 weight=3",), lambda: Path())
    candidates = [Candidate(ids, "text", "sampled", True) for ids in ([1, 2], [1, 2, 3])]
    assert jury.verdict(Question("q", [1], ""), candidates).totals == [1.0, 0.0]
    merged = method_of("mine factor=2").merge(None, [torch.ones(2)], lambda _: torch.zeros(2))
    assert merged.tolist() == [2.0, 2.0]


def test_of_texts_by_a_teacher() -> None:
    assert SyntheticStage("none", "none", (("teacher:mine", 3),)).sources == (("teacher:mine", 3),)
    with pytest.raises(InvalidConfig, match="unknown text by a teacher 'teacher:yours'; known: .*teacher:mine"):
        SyntheticStage("none", "none", (("teacher:yours", 3),))


def test_of_stages_and_recipes(tmp_path: Path) -> None:
    recipe = recipe_named("mine", None, {"words": 3})
    assert run_recipe(recipe, tmp_path, "notes")["mine"]["metrics"] == {"letters": 15}


def test_the_tables_of_the_docs_have_every_kind() -> None:
    extending = (ROOT / "docs/extending.md").read_text()
    adding = (ROOT / "docs/architecture.md").read_text().partition("## Adding things")[2].lower()
    for noun in all_registries():
        assert re.search(rf"^\| {noun} \|", extending, re.M), f"docs/extending.md has no row for {noun}"
        assert f"**a {noun}:**" in adding or f"**an {noun}:**" in adding, f"docs/architecture.md: {noun}"


def test_paths_in_the_table_exist() -> None:
    adding = (ROOT / "docs/architecture.md").read_text().partition("## Adding things")[2]
    paths: list[Any] = [p for p in re.findall(r"`([\w/]+(?:/|\.py|\.md))`", adding) if "/" in p]
    assert len(paths) > 15
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert isinstance(ArchConfig.from_dict(architecture("mine").to_dict()), ArchConfig)
