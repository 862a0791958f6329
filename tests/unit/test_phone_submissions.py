"""Results that others send in: a good one is taken, each way of being wrong is named. All are made up."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from benchmarks.phones.check import main, problems
from contracts.comparison import ComparedRow, Comparison
from hilnas.comparison.pairs import pairs_of
from tests.doubles.comparison import estimate, made_up

METRICS = ["prefill_ms@64", "decode_ms@128"]
PHONE = {"kind": "android", "model": "SM-S921B", "cores": 10, "arch": "aarch64", "os": "Android 16"}


def row_of(name: str, ms: float, **changes: Any) -> ComparedRow:
    draw = random.Random(name)
    runs = [[ms * draw.lognormvariate(0, 0.02) for _ in range(4)] for _ in range(5)]
    samples = {"prefill_ms@64": [[20 * x for x in run] for run in runs], "decode_ms@128": runs}
    made = made_up().rows[0].model_copy(
        update={"name": name, "samples": samples, "rounds": list(range(5)), "cold_runs": 5,
                "metrics": {key: estimate(values) for key, values in samples.items()}, **changes}
    )  # fmt: skip
    return ComparedRow.model_validate(made.model_dump())


def submission(**changes: Any) -> dict[str, Any]:
    rows = [row_of("example_a", 5.0), row_of("example_b", 7.0)]
    made = made_up(rows=rows, pairs=pairs_of(rows, METRICS), title="example", command="hilnas compare example")
    found: dict[str, Any] = json.loads(made.model_dump_json())
    found["device"] |= PHONE
    found["settings"] |= {"affinity": [8, 9], "rounds": 5}
    return found | changes


def judged(given: dict[str, Any]) -> str:
    return "; ".join(problems(Comparison.model_validate(given)))


def test_a_good_one_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "example.json"
    path.write_text(json.dumps(submission()))
    assert judged(submission()) == ""
    assert main([str(path)]) == 0 and "SM-S921B, 2 rows, can be taken" in capsys.readouterr().out


def change(**changes: Any) -> Any:
    def apply(given: dict[str, Any]) -> None:
        for path, value in changes.items():
            *folders, last = path.split("__")
            place: Any = given
            for part in folders:
                place = place[int(part) if part.isdigit() else part]
            place[int(last) if last.isdigit() else last] = value

    return apply


def shortened(given: dict[str, Any]) -> None:
    row = given["rows"][0]
    row["rounds"] = row["rounds"][:3]
    row["samples"] = {key: runs[:3] for key, runs in row["samples"].items()}


def invented(given: dict[str, Any]) -> None:
    for row in given["rows"]:
        row["samples"]["decode_ms@128"] = [[row["metrics"]["decode_ms@128"]["median"]] * 4] * 5


def embellished(given: dict[str, Any]) -> None:
    one = given["rows"][0]["metrics"]["decode_ms@128"]
    one |= {"median": 0.8 * one["median"], "low": 0.7 * one["median"], "raw": None}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (change(device__kind="host"), "the device is host 'SM-S921B', not a Galaxy S24 or S25"),
        (change(device__model="Pixel 9"), "not a Galaxy S24 or S25"),
        (change(device__details={"virtual": True}), "virtual: its times mean nothing"),
        (change(device__runner_version=""), "names no runner_version"),
        (change(settings__affinity=None), "name no cores"),
        (change(rows__0__verdict="throttled", rows__0__reason="cap fell"), "the verdict is throttled (cap fell)"),
        (shortened, "3 undisturbed cold runs of 5, 5 are needed"),
        (change(rows__0__rounds=[0, 0, 1, 2, 3]), "two cold runs are of one round"),
        (embellished, "decode_ms@128 says 3."),
        (invented, "all equal, as no clock measures them"),
        (change(pairs__0__probability=0.5), "probability 0.500"),
        (change(pairs=[]), "the pairs are not those of the rows"),
    ],
)
def test_a_bad_one_is_named(spoil: Any, words: str) -> None:
    given = submission()
    spoil(given)
    assert words in judged(given)


def test_a_file_of_another_kind_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "example.json"
    path.write_text(json.dumps(submission(format=7)))
    assert main([str(path), str(tmp_path / "none.json")]) == 1
    out = capsys.readouterr().out
    assert "is not a result of `hilnas compare`: format" in out and "there is no file" in out
