"""Text that repeats itself: doom loops, which a text never leaves, and n-grams that come again."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_SPAN, MIN_TIMES, MIN_TOKENS = 64, 4, 48


def loop_span(ids: Sequence[int]) -> int:
    """Tokens of the span whose repetition ends ``ids``; 0 when they do not end in a loop.

    A loop is a span of at most LONGEST_SPAN tokens said MIN_TIMES times in a row or more, over MIN_TOKENS tokens or
    more, up to the last token.
    """
    for span in range(1, LONGEST_SPAN + 1):
        needed = max(MIN_TIMES * span, MIN_TOKENS)
        if needed > len(ids):
            break
        tail = ids[len(ids) - needed :]
        if all(tail[i] == tail[i - span] for i in range(span, needed)):
            return span
    return 0


def is_doom_loop(ids: Sequence[int], finished: bool) -> bool:
    """A text that came to its end is none, whatever it repeated before."""
    return not finished and loop_span(ids) > 0


def repeated_share(ids: Sequence[int], n: int) -> float:
    """Share of the n-grams that stood before in the same text, 0 for texts shorter than n."""
    grams = [tuple(ids[at : at + n]) for at in range(len(ids) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
