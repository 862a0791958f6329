"""What `hilnas search` sends and shows, against a coordinator that only answers."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from contracts.study import StudySpec
from foundation.errors import InvalidConfig
from hilnas.cli import search
from hilnas.cli.show import front_table, misses_table, progress_line, progress_panel


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("s24=model:SM-S921B", {"name": "s24", "model": "SM-S921B"}),
        ("mine=device:galaxy-s24-a", {"name": "mine", "device": "galaxy-s24-a"}),
        ("desk=host", {"name": "desk", "kind": "host"}),
        ("any=android", {"name": "any", "kind": "android"}),
    ],
)
def test_a_target_in_one_word(text: str, target: dict[str, str]) -> None:
    assert search._target(text) == target


@pytest.mark.parametrize("text", ["s24", "s24=SM-S921B", "s24=model:", "=host", "s24=host:x", "s24=cpu:x"])
def test_a_target_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InvalidConfig, match="write a target as name=model:SM-S921B"):
        search._target(text)


def test_start_sends_targets_with_their_objectives(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []

    class RestClient:
        def __init__(self, url: str | None) -> None: ...

        def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
            sent.append(body)
            return {"id": "study-1"}

    monkeypatch.setattr(search, "RestClient", RestClient)
    search.start(
        objective=["quality", "decode_ms@512:s24"], budget=["decode_ms@512:s24=20"],
        target=["s24=model:SM-S921B", "desk=host"], as_json=True,
    )  # fmt: skip
    spec = StudySpec.model_validate(sent[0])
    assert [target.name for target in spec.targets] == ["s24", "desk"]
    assert spec.all_budgets == {"decode_ms@512:s24": 20.0}


def test_an_estimator_with_options_in_one_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first objective is then what the estimator estimates."""
    sent: list[dict[str, Any]] = []

    class RestClient:
        def __init__(self, url: str | None) -> None: ...

        def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
            sent.append(body)
            return {"id": "study-1"}

    monkeypatch.setattr(search, "RestClient", RestClient)
    search.start(quality="text tokens=50000 learning_rates=0.004,0.008 text=python", as_json=True)
    search.start(as_json=True)
    search.start(executor="ray", as_json=True)
    assert StudySpec.model_validate(sent.pop()).quality.executor == "ray"
    text, usual = map(StudySpec.model_validate, sent)
    assert text.quality.options == {"tokens": 50_000, "learning_rates": [0.004, 0.008], "text": "python"}
    assert [text.objectives[0].metric, text.objectives[0].direction] == ["bits_per_byte", "min"]
    assert (usual.objectives[0].metric, usual.quality.estimator) == ("quality", "mechanistic")
    with pytest.raises(InvalidConfig, match="unknown quality estimator 'oracle'"):
        search.start(quality="oracle")


def test_status_shows_notes_and_how_far_each_target_is() -> None:
    study = {
        "name": "phones", "state": "running", "max_trials": 8, "trials": {"complete": 2}, "eta_s": None,
        "notes": ["target desk waits for a host: run `hilnas agent host` on that machine"],
        "targets": [
            {"name": "s24", "wanted": "a device of model SM-S921B", "devices": ["galaxy-s24-a", "galaxy-s24-b"],
             "num_measured": 3, "num_queued": 2, "num_running": 1, "num_failed": 0},
            {"name": "desk", "wanted": "a host", "devices": [], "num_measured": 0, "num_queued": 0, "num_running": 0,
             "num_failed": 0},
        ],
    }  # fmt: skip
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(progress_panel(study, {"members": []}, {"leased": 1}, 2))
    shown = console.export_text()
    assert "target s24   measured 3  running 1  queued 2   galaxy-s24-a, galaxy-s24-b" in shown
    assert "target desk  measured 0   waits for a host" in shown
    assert "target desk waits for a host: run" in shown


def test_a_study_whose_candidates_are_through_says_what_it_does() -> None:
    study = {"name": "demo", "state": "running", "max_trials": 8, "trials": {"complete": 5, "measured": 1},
             "front_size": 2, "eta_s": 90.0}  # fmt: skip
    ending = "; judging finalists and confirming winners"
    assert progress_line(study) == f"demo running: 6 of 8 candidates, 5 complete  1 measured, 2 on the front{ending}"
    for changes in ({"trials": {"complete": 5, "judging": 1}}, {"trials": {}}, {"state": "finished"}):
        assert not progress_line(study | changes).endswith(ending), changes


def test_the_nearest_misses_are_shown_where_no_candidate_meets_the_budgets() -> None:
    arch = {"d_model": 64, "vocab_size": 32, "layers": [{"mixer": {"kind": "skip"}, "ffn": None}]}
    broken = [{"key": "decode_ms@256", "value": 12.0, "bound": 10.0, "percent": 20.0},
              {"key": "quality", "value": 0.45, "bound": 0.5, "percent": 10.0}]  # fmt: skip
    front = {"members": [], "nearest_misses": [{"number": 7, "arch": arch, "broken": broken}]}
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(misses_table(front))
    shown = console.export_text()
    assert "decode_ms@256 12.00 ms, 20 % over 10.00 ms" in shown
    assert "quality 0.450, 10 % under 0.500" in shown


def test_further_qualities_stand_below_the_searchs_own() -> None:
    arch = {"layers": [{"mixer": {"kind": "skip"}, "ffn": None}]}
    member = {"number": 3, "knee": True, "arch": arch, "values": {"bits_per_byte": 1.673}, "estimates": {},
              "program_quality": {"metric": "bits_per_byte", "score": 1.72}, "final_quality": None}  # fmt: skip
    console = Console(width=80)
    with console.capture() as shown:
        console.print(front_table({"objectives": ["bits_per_byte"], "members": [member]}))
    assert "1.673 bits/byte" in shown.get() and "program 1.720" in shown.get() and "finalist" not in shown.get()


def test_finalists_begin_with_a_count() -> None:
    from hilnas.cli.search import _finalists

    assert _finalists(None) is None
    assert _finalists("4 distil_steps=100") == {"count": 4, "options": {"distil_steps": "100"}}
    for wrong in ("four", "\u00b2", "-1", "1.5", "9" * 5000):
        with pytest.raises(InvalidConfig, match="begin with how many there are"):
            _finalists(wrong)


@pytest.mark.parametrize("as_json", [False, True])
def test_watching_into_a_file_writes_a_line_per_change(
    as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = [{"measuring": 1}, {"measuring": 1}, {"complete": 1, "measuring": 1}, {"complete": 2}]
    answers = [
        {"name": "s", "state": "running" if at < 3 else "finished", "max_trials": 2, "trials": trials, "front_size": at,
         "eta_s": 125.0 if at == 2 else None, "reason": "2 candidates complete"} for at, trials in enumerate(counts)
    ]  # fmt: skip
    answers[1]["front_size"] = 0
    monkeypatch.setattr(search, "POLL_S", 0.0)
    monkeypatch.setattr(search, "console", Console(file=io.StringIO()))

    class Rest:
        def get(self, path: str) -> dict[str, Any]:
            return answers.pop(0)

    assert search.watch_study(Rest(), "s", as_json)["state"] == "finished"  # type: ignore[arg-type]
    shown = capsys.readouterr()
    assert (shown.err if as_json else shown.out).splitlines() == [
        "s running: 0 of 2 candidates, 1 measuring, 0 on the front",
        "s running: 1 of 2 candidates, 1 complete  1 measuring, 2 on the front, about 2 min left",
        "s finished: 2 of 2 candidates, 2 complete, 3 on the front",
    ]
    assert (shown.out if as_json else shown.err) == ""
