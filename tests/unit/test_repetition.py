"""What counts as a doom loop, and n-grams that come again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trainer.rollout.repetition import LONGEST_SPAN, MIN_TIMES, MIN_TOKENS, is_doom_loop, loop_span, repeated_share

TEXT = list(range(1000, 1100))


@given(st.integers(1, LONGEST_SPAN), st.integers(0, 63))
def test_a_span_said_often_enough_at_the_end_is_a_loop(span: int, cut: int) -> None:
    needed = max(MIN_TIMES * span, MIN_TOKENS)
    said = [at % span for at in range(needed)]
    assert loop_span(TEXT + said) == span
    assert loop_span([5000 + at for at in range(cut)] + said[:-1]) == 0
    assert loop_span(TEXT + said + [7777]) == 0


def test_a_span_that_is_too_long_is_none() -> None:
    assert loop_span(list(range(LONGEST_SPAN + 1)) * 8) == 0


def test_a_text_that_ended_is_no_doom_loop() -> None:
    assert is_doom_loop([1, 2] * 40, finished=False)
    assert not is_doom_loop([1, 2] * 40, finished=True)
    assert not is_doom_loop([], finished=False)


def test_share_of_n_grams_that_stood_before() -> None:
    assert repeated_share([1, 2, 3, 4], 2) == 0
    assert repeated_share([1, 1, 1, 1, 1], 1) == 0.8
    assert repeated_share([1, 2, 1, 2, 1], 2) == 0.5
    assert repeated_share([1], 2) == 0
