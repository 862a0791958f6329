"""A short seeded pretraining: next-token prediction on the shipped text, resumable, saved as a Hugging Face
directory."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from foundation.errors import HilnasError
from foundation.measurement_lock import MeasurementLock
from search_space.arch import ArchConfig
from search_space.modeling.model import HilnasForCausalLM, build_model
from trainer.text import encode, save, split, train_tokenizer


class TrainingFailed(HilnasError):
    code = "training_failed"


@dataclass(frozen=True)
class PretrainRecipe:
    """Everything that changes the result; saved beside the checkpoint."""

    name: str = "smoke"
    steps: int = 60
    batch: int = 8
    length: int = 128
    learning_rate: float = 2e-3
    warmup: int = 10
    weight_decay: float = 0.1
    seed: int = 0


RECIPES = {"smoke": PretrainRecipe(), "short": PretrainRecipe("short", steps=600, batch=16, length=256)}
SAVE_EVERY = 20


@dataclass
class PretrainResult:
    folder: Path
    losses: list[float]
    held_out_bits_per_byte: dict[str, float]
    tokens: int
    seconds: float


def pretrain(
    arch: ArchConfig, recipe: PretrainRecipe, folder: Path, progress: Callable[[float, str], None] = lambda *_: None
) -> PretrainResult:
    """Trains ``arch`` in ``folder``; a run that was killed goes on from its last saved step with the same numbers.

    Raises TrainingFailed with a sentence when the loss is not a number; the last good checkpoint stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    start, tokenizer = time.monotonic(), train_tokenizer(arch.vocab_size)
    train_ids, held_out_ids = (encode(tokenizer, texts) for texts in split())
    held_out_bytes = sum(len(text.encode()) for text in split()[1])
    model = build_model(arch, seed=recipe.seed)
    before = bits_per_byte(model, held_out_ids, held_out_bytes, recipe)
    losses = train(model, train_ids, recipe, folder / "state.pt", progress)
    after = bits_per_byte(model, held_out_ids, held_out_bytes, recipe)
    checkpoint = folder / "checkpoint"
    model.save_pretrained(checkpoint)
    save(tokenizer, checkpoint)
    (checkpoint / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1))
    tokens = recipe.steps * recipe.batch * recipe.length
    return PretrainResult(checkpoint, losses, {"before": before, "after": after}, tokens, time.monotonic() - start)


def train(
    model: HilnasForCausalLM,
    ids: Tensor,
    recipe: PretrainRecipe,
    state_path: Path,
    progress: Callable[[float, str], None],
) -> list[float]:
    """AdamW with warm-up and cosine decay. Returns the loss of every step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    losses = _resume(model, optimizer, state_path, recipe)
    lock = MeasurementLock()
    model.train()
    for step in range(len(losses), recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * schedule(step, recipe)
        with lock.shared():
            loss = _step(model, optimizer, batch_of(ids, step, recipe))
        if not math.isfinite(loss):
            raise TrainingFailed(
                f"the loss became {loss} at step {step}; a lower learning rate than {recipe.learning_rate} may help"
            )
        losses.append(loss)
        progress((step + 1) / recipe.steps, f"step {step + 1} of {recipe.steps}, loss {loss:.3f}")
        if (step + 1) % SAVE_EVERY == 0:
            _save_state(model, optimizer, losses, state_path, recipe)
    return losses


def _step(model: HilnasForCausalLM, optimizer: torch.optim.Optimizer, batch: Tensor) -> float:
    loss = model(batch, labels=batch, use_cache=False).loss
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


def batch_of(ids: Tensor, step: int, recipe: PretrainRecipe) -> Tensor:
    """[batch, length] windows of the stream at places drawn from (seed, step) alone, so that resuming changes
    nothing."""
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
    starts = torch.randint(0, len(ids) - recipe.length, (recipe.batch,), generator=generator)
    return torch.stack([ids[start : start + recipe.length] for start in starts])


def schedule(step: int, recipe: PretrainRecipe) -> float:
    """Share of the peak learning rate: linear warm-up, cosine to a tenth."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * done))


@torch.no_grad()
def bits_per_byte(model: HilnasForCausalLM, ids: Tensor, num_bytes: int, recipe: PretrainRecipe) -> float:
    """Held-out loss per byte of text, so that tokenizers of different sizes compare. At most 32 windows are read."""
    model.eval()
    windows = ids[: len(ids) // recipe.length * recipe.length].view(-1, recipe.length)[:32]
    loss = sum(float(model(w[None], labels=w[None], use_cache=False).loss) for w in windows) / len(windows)
    return loss / math.log(2) * len(ids) / num_bytes


def _save_state(
    model: HilnasForCausalLM, optimizer: torch.optim.Optimizer, losses: list[float], path: Path, recipe: PretrainRecipe
) -> None:
    partial = path.with_suffix(".partial")
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "losses": losses,
        "recipe": asdict(recipe),
    }
    torch.save(state, partial)
    partial.replace(path)


def _resume(
    model: HilnasForCausalLM, optimizer: torch.optim.Optimizer, path: Path, recipe: PretrainRecipe
) -> list[float]:
    """Loads the last saved step of the same recipe; an unreadable or foreign state starts anew."""
    if not path.exists():
        return []
    try:
        state = torch.load(path, weights_only=True)
    except Exception:  # torn by a full disk: the run starts over rather than dies
        path.unlink()
        return []
    if state["recipe"] != asdict(recipe):
        return []
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return list(state["losses"])
