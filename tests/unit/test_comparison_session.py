"""Models in turn: the order of rounds, what is set aside, what is kept of a broken session, what a row says."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from contracts.measurement import Verdict
from contracts.runner_events import parse_event
from device_agents.canary import CanaryBook
from device_agents.comparison import Entrant, measure_in_turn, measurement_of, needed_runs, order_of_round
from device_agents.journal import Busy, Journal
from device_agents.sustained import ends, order_flips, sustain, sustained_plan, token_ms
from foundation.errors import DeviceLost, RunnerCrashed
from tests.doubles.replayed import Player, cold_run, plan_named

RUNS = {"a": [cold_run(2.0)], "b": [cold_run(3.0)], "c": [cold_run(4.0)]}


def entrants(player: Player, names: str = "abc") -> list[Entrant]:
    return [Entrant(name, plan_named(name), player) for name in names]


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_every_round_has_every_model_and_places_even_out(count: int) -> None:
    rounds = [order_of_round(count, turn) for turn in range(2 * count)]
    assert all(sorted(order) == list(range(count)) for order in rounds)
    assert all(a == b[::-1] for a, b in zip(rounds[::2], rounds[1::2], strict=True))
    places = [Counter(order[place] for order in rounds) for place in range(count)]
    assert all(set(found.values()) == {2} for found in places), "each model is at each place equally often"


def test_two_models_run_as_abba(tmp_path: Path) -> None:
    player = Player(RUNS)
    with Journal(tmp_path / "open.jsonl") as journal:
        measure_in_turn(entrants(player, "ab"), 4, journal)
    assert "".join(player.ran) == "abbabaab"


def test_a_broken_session_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "open.jsonl"
    lost = Player(RUNS, stop_at=4)
    with Journal(path) as journal, pytest.raises(DeviceLost, match="cable"):
        measure_in_turn(entrants(lost), 3, journal)
    with path.open("a") as file:
        file.write('{"round": 1, "name"')  # as a killed process leaves it
    player = Player(RUNS)
    with Journal(path) as journal:
        assert len(journal.records) == 4
        series = measure_in_turn(entrants(player), 3, journal)
    assert len(player.ran) == 5 and lost.ran + player.ran == ["a", "b", "c", "c", "b", "a", "b", "c", "a"]
    assert all(sorted(one.rounds) == [0, 1, 2] and len(one.seconds) == 3 for one in series)
    assert len(path.read_text().splitlines()) == 9


def test_a_journal_belongs_to_one_process(tmp_path: Path) -> None:
    with Journal(tmp_path / "open.jsonl"), pytest.raises(Busy, match="another process"):
        Journal(tmp_path / "open.jsonl")


def test_a_failing_model_does_not_stop_the_others(tmp_path: Path) -> None:
    broken = [[{"event": "error", "code": "check_failed", "message": "logits differ"}]]
    player = Player({**RUNS, "b": broken})
    with Journal(tmp_path / "open.jsonl") as journal:
        series = measure_in_turn(entrants(player), 3, journal)
    assert Counter(player.ran) == {"a": 3, "b": 1, "c": 3}
    rows = [measurement_of(one, 3, CanaryBook()) for one in series]
    assert [row.verdict for row in rows] == [Verdict.VALID, Verdict.PARITY_FAILED, Verdict.VALID]
    assert "logits differ" in rows[1].reason


def test_runs_of_a_busy_machine_are_set_aside_and_made_up_for(tmp_path: Path) -> None:
    slow, calm = cold_run(6.0, canary_ms=9.0), cold_run(2.0, canary_ms=3.0)
    player = Player({"a": [calm, slow, slow, calm], "b": [cold_run(3.0, canary_ms=3.0)]})
    with Journal(tmp_path / "open.jsonl") as journal:
        one, other = measure_in_turn(entrants(player, "ab"), 3, journal)
    assert needed_runs(3) == 2
    assert list(one.clean()) == [0, 3] and len(other.clean()) == 4
    assert measurement_of(one, 3, CanaryBook()).verdict is Verdict.VALID


def test_a_model_that_never_runs_undisturbed_ends_after_twice_the_rounds(tmp_path: Path) -> None:
    runs = [cold_run(2.0, canary_ms=3.0 * 1.3**turn) for turn in range(20)]
    player = Player({"a": runs, "b": [cold_run(3.0)]})
    with Journal(tmp_path / "open.jsonl") as journal:
        one, _ = measure_in_turn(entrants(player, "ab"), 3, journal)
    assert len(one.session.runs) == 6
    assert measurement_of(one, 3, CanaryBook()).verdict is Verdict.DRIFTED


def test_an_unfit_phone_ends_the_session_and_says_what_is_kept(tmp_path: Path) -> None:
    spoiled = [{"event": "spoiled", "verdict": "hot_start", "reason": "battery at 41 C"}]
    player = Player({"a": [cold_run(2.0), spoiled], "b": RUNS["b"]})
    with Journal(tmp_path / "open.jsonl") as journal:
        with pytest.raises(DeviceLost, match="battery at 41 C. 3 finished cold runs are kept; the same command"):
            measure_in_turn(entrants(player, "ab"), 4, journal)
        assert [record["name"] for record in journal.records] == ["a", "b", "b"]


def decoded(ms: list[float]) -> list[dict[str, object]]:
    ns = [int(x * 1e6) for x in ms]
    return [{"event": "repetition", "phase": "decode", "context": 128, "duration_ns": sum(ns), "token_ns": ns},
            {"event": "end"}]  # fmt: skip


def test_sustained_decoding_compares_its_ends() -> None:
    plan = sustained_plan(plan_named("a"), 128, minutes=2, ms_per_token=10)
    assert plan.protocol.decode_repetitions == 188 and plan.protocol.prefill_lengths == [] and plan.canary is None
    assert plan.cache.capacity >= 128 + 64
    ms = [10.0] * 6000 + [20.0] * 3000
    first, last, window_s = ends(ms)
    assert (first, last, window_s) == (10.0, 20.0, 60.0)
    assert ends([1.0, 1.0, 3.0, 3.0])[:2] == (1.0, 3.0)
    player = Player({"a": [decoded([1.0] * 4 + [3.0] * 4)], "b": [decoded([2.0] * 8)]})
    rows = [sustain(one, 128, 0.1, 2.0) for one in entrants(player, "ab")]
    assert order_flips(rows) == [("a", "b")] and rows[0].slowdown == 3.0
    assert token_ms([parse_event(event) for event in decoded([1.5])]) == [1.5]


def test_sustained_decoding_that_timed_nothing_is_an_error() -> None:
    spoiled = [{"event": "spoiled", "verdict": "hot_start", "reason": "battery at 41 C"}]
    with pytest.raises(RunnerCrashed, match="41 C"):
        sustain(entrants(Player({"a": [spoiled]}), "a")[0], 128, 1, 2.0)


def test_consecutive_rounds_of_a_pair_are_mirrored() -> None:
    for first, second in list(pairwise(order_of_round(3, turn) for turn in range(8)))[::2]:
        assert first == second[::-1]
