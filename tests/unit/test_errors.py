"""Every error of ours crosses processes as it is."""

from __future__ import annotations

import inspect
import pickle
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from foundation.errors import ExportFailed, HilnasError
from foundation.workers import Workers

ROOT = Path(__file__).parents[2]
PACKAGES = ("foundation", "contracts", "search_space", "device_agents", "nas", "server", "hilnas", "trainer")
DERIVED = re.compile(r"^class \w+\(\w*(Error|Config|Lost|Failed|Crashed)\)", re.MULTILINE)
GIVEN: dict[str, Any] = {"str": "words", "int": 3, "float": 0.5}


def subclasses(kind: type[HilnasError]) -> Iterator[type[HilnasError]]:
    for one in kind.__subclasses__():
        yield one
        yield from subclasses(one)


def all_kinds() -> list[type[HilnasError]]:
    for file in (file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))):
        if DERIVED.search(file.read_text()):
            import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
    ours = {kind for kind in subclasses(HilnasError) if kind.__module__.split(".")[0] in PACKAGES}
    return sorted({HilnasError, *ours}, key=lambda kind: kind.__qualname__)


def made(kind: type[HilnasError]) -> HilnasError:
    wanted = inspect.signature(kind.__init__).parameters.values()
    required = [one for one in wanted if one.kind is one.POSITIONAL_OR_KEYWORD and one.default is one.empty]
    given = [GIVEN[str(one.annotation)] for one in required if one.name != "self"]
    return kind(*(given or ["words"]))


@pytest.mark.parametrize("kind", all_kinds())
def test_every_error_survives_a_pickle(kind: type[HilnasError]) -> None:
    error = made(kind)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (str(copy), copy.args, vars(copy)) == (str(error), error.args, vars(error))


class TwoWords(Exception):
    """As exceptions of libraries are: no pickle restores it."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def fail(what: str) -> None:
    raise ExportFailed("lower", "no kernel") if what == "ours" else TwoWords("bad", "luck")


def test_a_failed_call_raises_its_own_error_and_the_pool_goes_on() -> None:
    workers = Workers(1)
    with pytest.raises(ExportFailed, match="export failed in stage lower: no kernel") as caught:
        workers.submit(fail, "ours").result(timeout=60)
    assert caught.value.stage == "lower"
    with pytest.raises(HilnasError, match="TwoWords: bad luck"):
        workers.submit(fail, "theirs").result(timeout=60)
    assert workers.submit(pow, 2, 10).result(timeout=60) == 1024
    workers.close()
