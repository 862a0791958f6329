"""Plugins: files that register parts of their own, in this process and in the worker processes of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from foundation import plugin_loader
from foundation.errors import InvalidConfig
from foundation.registry import Registry
from foundation.workers import worker_pool
from hilnas.plugins import all_registries, take_plugin_options
from search_space.space import SPACES, space

SPACE = """
from search_space.mixers import GatedShortConv, Gqa
from search_space.space import SPACES, SearchSpace, uniform_space


@SPACES.register("short_hybrids")
def short_hybrids(depth: int = 4) -> SearchSpace:
    return uniform_space("short_hybrids", 128, 512, depth, (GatedShortConv(3), Gqa(4, 2, 32)), (256, 512))
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv(plugin_loader.VARIABLE, "")
    file = tmp_path / "my_space.py"
    file.write_text(SPACE)
    yield file
    SPACES._parts.pop("short_hybrids", None)


def num_candidates(depth: int) -> int:
    return space("short_hybrids", {"depth": depth}).num_candidates


def test_a_plugin_file_adds_a_space_here_and_in_workers(plugin: Path) -> None:
    plugin_loader.use_plugin(str(plugin))
    assert num_candidates(2) == 4**2
    assert os.environ[plugin_loader.VARIABLE] == str(plugin)
    with worker_pool(1) as pool:
        assert pool.submit(num_candidates, 3).result() == 4**3


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("import nowhere_to_be_found", "plugin broken.py failed to load: ModuleNotFoundError"),
        ("def (", "plugin broken.py failed to load: SyntaxError"),
        ("from search_space.space import SPACES\nSPACES.add('debug_space', lambda: None)", "already exists"),
    ],
)
def test_a_plugin_that_does_not_load_is_named(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "broken.py").write_text(content)
    with pytest.raises(InvalidConfig, match=sentence):
        plugin_loader.load_file(str(tmp_path / "broken.py"))


def test_a_plugin_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="no plugin at"):
        plugin_loader.load_file(str(tmp_path / "none.py"))


def test_the_option_may_stand_anywhere_before_the_end_of_options() -> None:
    given = ["search", "--plugin", "a.py", "start", "--plugin=b.py", "--", "--plugin", "c.py"]
    assert take_plugin_options(given) == (["search", "start", "--", "--plugin", "c.py"], ["a.py", "b.py"])


def test_every_registry_is_listed_and_filled() -> None:
    registries = all_registries()
    assert {"mixer", "state kind", "search space", "preset", "backend", "sampler", "quality estimator",
            "device kind"} <= set(registries)  # fmt: skip
    assert {"recipe", "training stage", "text source", "task", "suite", "preference loss", "jury axis",
            "merging method"} <= set(registries)  # fmt: skip
    assert len(registries["training stage"]) == 16 and "smoke" in registries["recipe"]
    assert "portable" in registries["backend"] and "nsga2" in registries["sampler"]
    assert "replay" in registries["device kind"] and "mechanistic" in registries["quality estimator"]


def test_an_unknown_part_names_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foundation.registry.REGISTRIES", {})  # the list of them is the process's own
    parts: Registry[int] = Registry("test part")
    parts.add("one", 1)
    with pytest.raises(InvalidConfig, match="unknown test part 'two'; known: one"):
        parts.get_or_raise("two")
