"""reasoning-gym's generators and verifiers as tasks, by level: level 0 is ours and easy, each later one a step of the
package's curriculum.

Many verifiers of reasoning-gym parse an answer, some by evaluating it (countdown, puzzle24, the integrations). Those
that only compare text and numbers run here; all others run in the sandbox.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from foundation.errors import InvalidConfig
from trainer.tasks.base import Example, Split, seed_of
from trainer.tasks.scoring import VERIFIER

EASIEST: dict[str, dict[str, Any]] = {
    "chain_sum": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2},
    "gcd": {"min_value": 2, "max_value": 99},
    "letter_counting": {"min_words": 2, "max_words": 4},
    "leg_counting": {"min_animals": 1, "max_animals": 2, "min_instances": 1, "max_instances": 4},
    "products": {"min_digits": 1, "max_digits": 2},
    "spell_backward": {"min_word_len": 3, "max_word_len": 4},
    "word_sequence_reversal": {"min_words": 2, "max_words": 3},
}

# verifiers of their own that compare: a decimal number, letters
COMPARING = frozenset({"chain_sum", "decimal_chain_sum", "products", "spell_backward"})


@dataclass(frozen=True)
class Reasoning:
    """``dataset`` is any name that reasoning-gym registers."""

    dataset: str
    level: int = 0

    @property
    def name(self) -> str:
        return f"reasoning:{self.dataset}" + (f"@{self.level}" if self.level else "")

    def examples(self, split: Split, count: int) -> list[Example]:
        """Raises InvalidConfig for a data set that reasoning-gym does not have."""
        source = _dataset(self.dataset, self.level, seed_of(self.name, split), count)
        return [self._example(source[index], index, split) for index in range(count)]

    def _example(self, entry: dict[str, Any], index: int, split: Split) -> Example:
        plain = {"index": index, "split": split, "question": entry["question"]}
        return Example(self.name, entry["question"].strip(), str(entry["answer"]), plain, self.level)

    def score(self, example: Example, answer: str) -> float:
        """The data set's own verifier for the entry that has this question; an exact answer always counts."""
        if answer.strip() == example.answer.strip():
            return 1.0
        if _compares_whole(self.dataset):
            return 0.0
        seed = seed_of(self.name, example.entry["split"])
        if self.dataset not in COMPARING:
            return VERIFIER.score(self.dataset, self.level, seed, example.entry, answer.strip())
        source = dataset_of(self.dataset, self.level, seed)
        entry = source[example.entry["index"]]
        if entry["question"] != example.entry["question"]:
            return 0.0
        try:
            # partial credit for a wrong answer of the right form is not success
            return float(source.score_answer(answer.strip(), entry) >= 1.0)
        except Exception:  # verifiers parse whatever a model said
            return 0.0


def _compares_whole(name: str) -> bool:
    """Whether the verifier is the package's default, which accepts the stored text alone."""
    from reasoning_gym.dataset import ProceduralDataset
    from reasoning_gym.factory import DATASETS

    return name in DATASETS and DATASETS[name][0].score_answer is ProceduralDataset.score_answer


def dataset_of(name: str, level: int, seed: int) -> Any:
    """As many entries as any example may have an index for; fewer where the package does not make as many."""
    try:
        return _dataset(name, level, seed, 1 << 16)
    except InvalidConfig:
        return _dataset(name, level, seed, 1 << 8)


@lru_cache(maxsize=64)
def _dataset(name: str, level: int, seed: int, size: int) -> Any:
    import reasoning_gym

    if name not in reasoning_gym.factory.DATASETS:
        raise InvalidConfig(f"reasoning-gym has no data set {name!r}; for example: {', '.join(sorted(EASIEST))}")
    if level == 0:
        try:
            return reasoning_gym.create_dataset(name, seed=seed, size=size, **EASIEST.get(name, {}))
        except Exception as error:
            raise InvalidConfig(f"reasoning-gym cannot make {name!r} without settings: {error}") from error
    return reasoning_gym.factory.DATASETS[name][0](_curriculum(name, level, seed, size))


def _curriculum(name: str, level: int, seed: int, size: int) -> Any:
    """The package's curriculum with every attribute ``level - 1`` steps up."""
    import reasoning_gym

    if not reasoning_gym.factory.has_curriculum(name):
        raise InvalidConfig(f"reasoning-gym has no curriculum for {name!r}; only level 0 exists")
    course = reasoning_gym.factory.create_curriculum(name)
    for attribute in course.attributes:
        for _ in range(level - 1):
            course.increment_attr_level(attribute)
    return course.generate_configuration({"seed": seed, "size": size})
