"""Nothing of the evaluation sets in the training examples: no whole prompt, no run of words of a written one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from trainer.examples.duplicates import normal
from trainer.tasks.base import Example


@dataclass(frozen=True)
class Decontamination:
    """Drops a prompt of the evaluation sets, and one that shares ``gram`` words in a row with an evaluation prompt that
    somebody wrote. Prompts from a template share its words by design: of those only the whole counts."""

    evaluation: Sequence[Example]
    gram: int = 8
    name: str = "decontamination"
    _prompts: set[str] = field(init=False, default_factory=set)
    _grams: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        for example in self.evaluation:
            prompt = normal(example.prompt)
            self._prompts.add(prompt)
            if example.source != "template":
                self._grams.update(self._of(prompt))

    def reasons(self, examples: Sequence[Example]) -> list[str | None]:
        return [self._why(normal(example.prompt)) for example in examples]

    def _why(self, prompt: str) -> str | None:
        if prompt in self._prompts:
            return "a prompt of the evaluation sets"
        return f"{self.gram} words in a row of an evaluation prompt" if self._of(prompt) & self._grams else None

    def _of(self, prompt: str) -> set[str]:
        words = prompt.split()
        return {" ".join(words[at : at + self.gram]) for at in range(len(words) - self.gram + 1)}
