"""Every merging method against mergekit on random Lfm2 checkpoints; where mergekit is wrong, against closed forms.

mergekit is a development dependency and nothing else. What it drops at random is replaced by our draws, so that both
merge the same elements.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import Lfm2Config, Lfm2ForCausalLM, Lfm3Config, Lfm3ForCausalLM, PreTrainedModel

from benchmarks.record import publish
from trainer.merging.merge import merge, merge_tensor, uniform
from trainer.merging.methods import method_named
from trainer.merging.task_vectors import keep_probability

SEED, WEIGHTS = 11, (0.7, 0.4)
State = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """``ours`` and ``theirs`` are parameters that mean the same; ``oracle`` says how mergekit is asked."""

    method: str
    variant: str
    oracle: str
    ours: dict[str, Any]
    theirs: dict[str, Any] = field(default_factory=dict)


DIRECTORY, DRAWS, DIVIDED = "mergekit, directory", "mergekit, our draws", "mergekit, our draws, divided beforehand"
HALF = {"density": 0.5}
ELECT = {"normalize": True}
UNSCALED = {"rescale": False}
# mergekit elects by weighted sums; the unweighted election of the papers is comparable at equal weights
UNEQUAL = {"weights": WEIGHTS, "weighted_election": True}
CASES = (
    Case("linear", "two weights", DIRECTORY, {"weights": WEIGHTS}),
    Case("slerp", "t = 0.3", DIRECTORY, {"t": 0.3}, {"t": 0.3}),
    Case("task_arithmetic", "two weights, scale", DIRECTORY, {"weights": WEIGHTS, "scale": 0.8}, {"lambda": 0.8}),
    Case("ties", "equal weights", DIRECTORY, HALF, HALF),
    Case("ties", "weighted election", DIRECTORY, {**HALF, **UNEQUAL}, HALF),
    Case("dare_linear", "rescaled", DRAWS, {**HALF, "weights": WEIGHTS}, {**HALF, **UNSCALED, "lambda": 2.0}),
    Case("dare_ties", "rescaled", DRAWS, HALF, {**HALF, **UNSCALED, **ELECT, "lambda": 2.0}),
    Case("dare_ties", "weighted election", DRAWS, {**HALF, **UNSCALED, **UNEQUAL}, {**HALF, **UNSCALED, **ELECT}),
    Case("della_linear", "not rescaled", DRAWS, {"weights": WEIGHTS, **UNSCALED}, UNSCALED),
    Case("della_linear", "rescaled", DIVIDED, {"weights": WEIGHTS}, UNSCALED),
    Case("della", "not rescaled", DRAWS, UNSCALED, UNSCALED),
    Case("della", "rescaled", DIVIDED, {}, UNSCALED),
)


def main() -> None:
    against_mergekit, against_formulas = measure()
    versions = {name: version(name) for name in ("mergekit", "transformers")}
    rows = [{key: row.get(key) for key in against_mergekit[0]} for row in (*against_mergekit, *against_formulas)]
    publish("merging", {**judge(against_mergekit, against_formulas), "versions": versions}, rows)


def measure() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A row for every case against mergekit, and one for each where a closed form must do."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lfm2 = [save(lfm2_model(seed), folder / f"lfm2-{seed}") for seed in range(3)]
        rows = [compared(case, lfm2, folder / f"case-{i}") for i, case in enumerate(CASES)]
        return rows, [della_on_convolutions(lfm2, folder / "della"), linear_on_lfm3(folder)]


def judge(against_mergekit: list[dict[str, Any]], against_formulas: list[dict[str, Any]]) -> dict[str, Any]:
    """The bar, 1e-6, is for both differences."""
    oracles: dict[str, set[str]] = {}
    for row in against_mergekit:
        oracles.setdefault(row["method"], set()).add(row["oracle"])
    return {
        "max_difference": max(row["max_difference"] for row in against_mergekit),
        "closed_form_max_difference": max(row["max_difference"] for row in against_formulas),
        "oracles": {method: sorted(names) for method, names in oracles.items()},
        "mergekit_wrong": {f"{row['method']}, {row['variant']}": row["mergekit"] for row in against_formulas},
    }


def compared(case: Case, folders: Sequence[Path], out: Path) -> dict[str, Any]:
    """The first folder is the base (of slerp and linear: the first model)."""
    method = method_named(case.method, seed=SEED, **case.ours)
    base, models = (folders[0], folders[1:]) if method.needs_base else (None, folders[:2])
    merge(method, models, out, base)
    ours = load(out)
    if case.oracle == DIRECTORY:
        theirs = mergekit_directory(case, folders, out.with_name(out.name + "-mergekit"))
    else:
        states = [load(folder) for folder in folders]
        theirs = {name: mergekit_tensor(case, name, [state[name] for state in states]) for name in ours}
    return row(case.method, case.variant, case.oracle, ours, theirs)


def mergekit_directory(case: Case, folders: Sequence[Path], out: Path, dtype: str = "float32") -> State:
    """mergekit's own pipeline from disk to disk."""
    weights = case.ours.get("weights", (1.0, 1.0))
    needs_base = method_named(case.method).needs_base
    entries: list[dict[str, Any]] = [
        {"model": str(folder), "parameters": {} if case.method == "slerp" else {"weight": weight}}
        for folder, weight in zip(folders[1:] if needs_base else folders[:2], weights, strict=True)
    ]
    config: dict[str, Any] = {"merge_method": case.method, "models": entries, "dtype": "float32", "out_dtype": dtype}
    if needs_base or case.method == "slerp":
        config["base_model"] = str(folders[0])
    run_mergekit({**config, "parameters": case.theirs}, out)
    return load(out)


def run_mergekit(config: dict[str, Any], out: Path) -> None:
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    options = MergeOptions(copy_tokenizer=False, quiet=True, write_model_card=False)
    run_merge(MergeConfiguration.model_validate(config), str(out), options)


def mergekit_tensor(case: Case, name: str, values: Sequence[Tensor]) -> Tensor:
    """One tensor by mergekit's method. Convolutions are shown to it as [channels, taps]: on [channels, 1, taps] its
    DELLA fails."""
    from mergekit.merge_methods.api import merge_tensors

    shape = values[0].shape
    base, *models = [value.reshape(shape[0], -1) if value.dim() > 1 else value for value in values]
    uniforms = [uniform(SEED, i, name, shape).reshape(base.shape) for i in range(len(models))]
    parameters: dict[str, Any] = {"weight": list(case.ours.get("weights", (1.0, 1.0))), **case.theirs}
    keeps: list[Tensor] | None = None
    if "della" in case.method:
        density, epsilon = 0.5, 0.2  # defaults of ours
        # ranks / n in the paper, ranks / (n - 1) there: the same range of probabilities for rows of this length
        n = base.shape[-1]
        parameters |= {"density": density + epsilon / (2 * n), "epsilon": epsilon * (n - 1) / (2 * n)}
        if case.oracle == DIVIDED:
            keeps = [keep_probability(model - base, density, epsilon) for model in models]
            models = [base + (model - base) / keep for model, keep in zip(models, keeps, strict=True)]
    with our_draws(uniforms, keeps):
        return merge_tensors([base, *models], case.method, parameters=parameters, base_index=0).reshape(shape)


@contextmanager
def our_draws(uniforms: Sequence[Tensor], keeps: Sequence[Tensor] | None) -> Iterator[None]:
    """torch.bernoulli answers with our uniforms, model by model, against the probabilities asked for (or ``keeps``)."""
    turns = iter(range(len(uniforms)))

    def bernoulli(probabilities: Tensor) -> Tensor:
        turn = next(turns)
        asked = probabilities if keeps is None else keeps[turn].view_as(probabilities)
        return (uniforms[turn].view_as(asked) < asked).to(asked.dtype)

    with patch.object(torch, "bernoulli", bernoulli):
        yield


# --- where mergekit is wrong -----------------------------------------------------------------------------------------


def della_on_convolutions(folders: Sequence[Path], out: Path) -> dict[str, Any]:
    """mergekit ranks along dimension 1, which has one element in [channels, 1, taps]: 0 / 0. Ours by the formula."""
    case = Case("della", "convolutions [C, 1, K]", "closed form", {}, {"density": 0.5, "epsilon": 0.1})
    try:
        mergekit_directory(case, folders, out)
        failure = "no error"
    except RuntimeError as error:
        failure = f"fails: {str(error).split('.')[0]}"
    states = [load(folder) for folder in folders]
    names = [name for name in states[0] if states[0][name].dim() == 3]
    method = method_named("della", seed=SEED)
    ours = {name: merge_tensor(method, name, [state[name] for state in states], True) for name in names}
    theirs = {name: della_by_hand(name, [state[name] for state in states]) for name in names}
    return {**row("della", case.variant, case.oracle, ours, theirs), "mergekit": failure}


def della_by_hand(name: str, values: Sequence[Tensor], density: float = 0.5, epsilon: float = 0.2) -> Tensor:
    """Element by element in double precision: rank, keep or drop, divide, elect, average."""
    base, *models = values
    merged = base.double().clone()
    draws = [uniform(SEED, i, name, base.shape) for i in range(len(models))]
    for channel in range(base.shape[0]):
        kept = []
        for model, draw in zip(models, draws, strict=True):
            taus = [float(value) for value in (model[channel, 0] - base[channel, 0])]
            larger = [sum(abs(other) > abs(tau) for other in taus) for tau in taus]
            keep = [1 - (1 - density - epsilon / 2 + epsilon / len(taus) * rank) for rank in larger]
            us = [float(u) for u in draw[channel, 0]]
            kept.append([tau / p if u < p else 0.0 for tau, p, u in zip(taus, keep, us, strict=True)])
        for tap, column in enumerate(zip(*kept, strict=True)):
            agreeing = [tau for tau in column if tau * sum(column) > 0]
            merged[channel, 0, tap] += math.fsum(agreeing) / max(1, len(agreeing))
    return merged


def linear_on_lfm3(folder: Path) -> dict[str, Any]:
    """mergekit has no Lfm3 and infers its tensors: what it writes lacks the attention gates, without an error."""
    models = [save(lfm3_model(seed), folder / f"lfm3-{seed}") for seed in range(2)]
    entries = [{"model": str(model), "parameters": {"weight": 1.0}} for model in models]
    run_mergekit({"merge_method": "linear", "models": entries, "dtype": "float32"}, folder / "lfm3-mergekit")
    merge(method_named("linear"), models, folder / "lfm3-ours")
    (one, two), ours = (load(model) for model in models), load(folder / "lfm3-ours")
    missing = set(one) - set(load(folder / "lfm3-mergekit"))
    mean = {name: (one[name].double() + two[name].double()) / 2 for name in one}
    failure = f"writes {len(one) - len(missing)} of {len(one)} tensors"
    return {**row("linear", "Lfm3", "closed form", ours, mean), "mergekit": failure}


# --- checkpoints -----------------------------------------------------------------------------------------------------


def lfm2_model(seed: int) -> PreTrainedModel:
    config = Lfm2Config(
        vocab_size=96, hidden_size=32, intermediate_size=48, block_auto_adjust_ff_dim=False, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, layer_types=["conv", "conv", "full_attention", "conv"],
    )  # fmt: skip
    return randomized(partial(Lfm2ForCausalLM, config), seed)


def lfm3_model(seed: int) -> PreTrainedModel:
    config = Lfm3Config(
        vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        layer_types=["conv", "sliding_attention", "conv", "full_attention"],
    )  # fmt: skip
    return randomized(partial(Lfm3ForCausalLM, config), seed)


@torch.no_grad()
def randomized(make: Callable[[], PreTrainedModel], seed: int) -> PreTrainedModel:
    """All weights random, norms too: equal ones would merge right whatever the method does."""
    torch.manual_seed(seed)
    model = make()
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape))
    return model


def save(model: PreTrainedModel, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, max_shard_size="40KB")
    return folder


def load(folder: Path) -> State:
    return {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}


def row(method: str, variant: str, oracle: str, ours: State, theirs: State) -> dict[str, Any]:
    assert set(ours) == set(theirs), set(ours) ^ set(theirs)
    return {
        "method": method, "variant": variant, "oracle": oracle, "tensors": len(ours),
        "elements": sum(value.numel() for value in ours.values()),
        "max_difference": max(float((ours[name].double() - theirs[name].double()).abs().max()) for name in ours),
    }  # fmt: skip


if __name__ == "__main__":
    main()
