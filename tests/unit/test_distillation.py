"""The distillation objective against the formula written naively in double precision, and its properties; the teacher's
cache under kills, cuts and changes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from foundation.errors import InvalidConfig
from trainer.data.packing import IGNORE
from trainer.losses.distillation import DistillationObjective, teacher_top_k
from trainer.teacher import topk_cache
from trainer.teacher.topk_cache import CacheBroken, CacheSpec, TopKCache

B, T, V, K = 2, 5, 13, 4
KD_ONLY = DistillationObjective(kd_weight=1.0)
seeds = st.integers(0, 2**31)


def example(seed: int, k: int = K, spread: float = 2.0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Student and teacher logits in double precision, what is stored of the teacher, labels."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (spread * torch.randn(B, T, V, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.randint(0, V, (B, T), generator=generator)
    ids = teacher.topk(k).indices
    return student, teacher, teacher.log_softmax(-1).gather(-1, ids), ids, labels


def full_kl(student: Tensor, teacher: Tensor) -> Tensor:
    p = teacher.log_softmax(-1)
    return (p.exp() * (p - student.log_softmax(-1))).sum(-1)


def naive(student: Tensor, logprobs: Tensor, ids: Tensor, labels: Tensor, objective: DistillationObjective) -> Tensor:
    """The formula term by term with probabilities, no care for precision."""
    tau = objective.temperature
    p, q = logprobs.exp(), student.softmax(-1)
    p_in, q_in = p.sum(-1), q.gather(-1, ids).sum(-1)
    binary = p_in * (p_in / q_in).log() + (1 - p_in) * ((1 - p_in) / (1 - q_in)).log()
    p_tau, q_tau = p ** (1 / tau), q.gather(-1, ids) ** (1 / tau)
    p_tau, q_tau = p_tau / p_tau.sum(-1, keepdim=True), q_tau / q_tau.sum(-1, keepdim=True)
    tempered = p_in * tau**2 * (p_tau * (p_tau / q_tau).log()).sum(-1)
    cross_entropy = -q.gather(-1, labels.unsqueeze(-1)).squeeze(-1).log()
    return ((1 - objective.kd_weight) * cross_entropy + objective.kd_weight * (binary + tempered)).mean()


# --- the objective ---------------------------------------------------------------------------------------------------


@given(seeds)
@settings(deadline=None, max_examples=50)
def test_everything_stored_and_untempered_is_the_full_divergence(seed: int) -> None:
    student, teacher, logprobs, ids, labels = example(seed, k=V)
    loss = KD_ONLY(student, logprobs, ids, labels)
    torch.testing.assert_close(loss.loss, full_kl(student, teacher).mean())
    assert float(loss.mass) == 0


@given(seeds, st.integers(1, V), st.floats(0.1, 8))
@settings(deadline=None, max_examples=100)
def test_a_lower_bound_of_the_full_divergence(seed: int, k: int, spread: float) -> None:
    student, teacher, logprobs, ids, labels = example(seed, k, spread)
    full = float(full_kl(student, teacher).mean())
    assert -1e-9 <= float(KD_ONLY(student, logprobs, ids, labels).loss) <= full + 1e-9


@given(seeds, st.integers(1, V), st.integers(1, V))
@settings(deadline=None, max_examples=50)
def test_the_bound_tightens_with_k(seed: int, one: int, other: int) -> None:
    low, high = (KD_ONLY(s, lp, ids, y).loss for k in sorted((one, other)) for s, _, lp, ids, y in [example(seed, k)])
    assert float(low) <= float(high) + 1e-9


@given(seeds, st.integers(1, V), st.floats(0.3, 5))
@settings(deadline=None, max_examples=50)
def test_zero_with_zero_gradient_where_student_and_teacher_agree(seed: int, k: int, temperature: float) -> None:
    _, teacher, logprobs, ids, labels = example(seed, k)
    student = (teacher + 3.0).requires_grad_()  # logits are the same up to a constant
    loss = DistillationObjective(temperature, 1.0)(student, logprobs, ids, labels).loss
    loss.backward()
    assert student.grad is not None
    assert abs(float(loss.detach())) < 1e-12
    assert student.grad.abs().max() < 1e-12


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 7.0])
@pytest.mark.parametrize("kd_weight", [0.0, 0.3, 1.0])
def test_value_and_gradient_of_the_formula(temperature: float, kd_weight: float) -> None:
    student, _, logprobs, ids, labels = example(1)
    objective = DistillationObjective(temperature, kd_weight)
    student.requires_grad_()
    ours = objective(student, logprobs, ids, labels).loss
    theirs = naive(student, logprobs, ids, labels, objective)
    torch.testing.assert_close(ours, theirs)
    gradients = (torch.autograd.grad(loss, student)[0] for loss in (ours, theirs))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("k", [1, K, V - 1, V])
def test_gradcheck(k: int) -> None:
    student, _, logprobs, ids, labels = example(2, k)
    objective = DistillationObjective(2.0, 0.6)
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: objective(z, logprobs, ids, labels).loss, (student,))


def test_parts_add_up_and_labels_alone_are_cross_entropy() -> None:
    student, _, logprobs, ids, labels = example(3)
    loss = DistillationObjective(2.0, 0.3)(student, logprobs, ids, labels)
    torch.testing.assert_close(loss.loss, 0.7 * loss.cross_entropy + 0.3 * (loss.mass + loss.conditional))
    expected = torch.nn.functional.cross_entropy(student.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(loss.cross_entropy, expected)


def test_tempering_a_truncated_teacher_does_not_diverge() -> None:
    """Over the whole vocabulary, the divergence of a truncated teacher tends to log(V / K) and tau squared multiplies
    it. Conditioned on the top K it stays bounded: both become uniform there."""
    student, _, logprobs, ids, labels = example(4)
    losses = [float(DistillationObjective(tau, 1.0)(student, logprobs, ids, labels).loss) for tau in (10.0, 100.0, 1e3)]
    assert max(losses) < 1.2 * min(losses)


def test_masked_positions_count_for_nothing() -> None:
    """Not even what is NaN there."""
    objective = DistillationObjective(2.0, 0.5)
    student, _, logprobs, ids, labels = example(5)
    alone = objective(student[:, :3], logprobs[:, :3], ids[:, :3], labels[:, :3])
    student[:, 3:], logprobs[:, 3:], ids[:, 3:], labels[:, 3:] = torch.nan, torch.nan, 10_000, IGNORE
    student.requires_grad_()
    masked = objective(student, logprobs, ids, labels)
    torch.testing.assert_close(masked.loss, alone.loss)
    assert masked.num_tokens == B * 3
    masked.loss.backward()
    assert student.grad is not None
    assert student.grad[:, :3].isfinite().all()
    assert (student.grad[:, 3:] == 0).all()


def test_nothing_counted_is_zero() -> None:
    student, _, logprobs, ids, labels = example(5)
    student.requires_grad_()
    loss = DistillationObjective()(student, logprobs, ids, torch.full_like(labels, IGNORE)).loss
    loss.backward()
    assert float(loss.detach()) == 0
    assert student.grad is not None
    assert (student.grad == 0).all()


def test_parts_of_a_batch_add_up() -> None:
    """As over processes: each divides by the tokens of all."""
    student, _, logprobs, ids, labels = example(6)
    labels[0, 1:] = IGNORE
    whole = DistillationObjective()(student, logprobs, ids, labels)
    rows = [slice(0, 1), slice(1, 2)]
    parts = [DistillationObjective()(student[r], logprobs[r], ids[r], labels[r], whole.num_tokens).loss for r in rows]
    torch.testing.assert_close(sum(parts), whole.loss)


def test_bfloat16_logits_are_computed_in_float32() -> None:
    student, _, logprobs, ids, labels = example(7)
    student = student.bfloat16().requires_grad_()
    loss = DistillationObjective(2.0)(student, logprobs.half(), ids.int().long(), labels).loss
    exact = DistillationObjective(2.0)(student.detach().double(), logprobs.half().double(), ids, labels).loss
    assert loss.dtype is torch.float32
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=1e-6)
    loss.backward()
    assert student.grad is not None
    assert student.grad.dtype is torch.bfloat16


@pytest.mark.parametrize("offset", [60.0, 200.0, -60.0, -200.0])
def test_a_full_or_empty_top_k_keeps_its_precision(offset: float) -> None:
    """A student sure of the top K, or of the rest: 1 - S(A) is far below float32's resolution at 1."""
    student, _, logprobs, ids, labels = example(8)
    student = student.scatter_add(-1, ids, torch.full_like(logprobs, offset))
    single, double = student.float().requires_grad_(), student.float().double().requires_grad_()
    losses = [KD_ONLY(z, logprobs, ids, labels).loss for z in (single, double)]
    torch.testing.assert_close(losses[0].double(), losses[1], rtol=1e-5, atol=0)
    gradients = [torch.autograd.grad(loss, z)[0].double() for loss, z in zip(losses, (single, double), strict=True)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


def test_a_mass_rounded_above_one_is_one() -> None:
    student, _, logprobs, ids, labels = example(9)
    logprobs = logprobs.log_softmax(-1) + 1e-3
    assert KD_ONLY(student, logprobs, ids, labels).loss.isfinite()


@pytest.mark.parametrize(("arguments", "words"), [((0.0, 0.5), "must be positive"), ((1.0, 1.5), r"not in \[0, 1\]")])
def test_settings_that_cannot_work(arguments: tuple[float, float], words: str) -> None:
    with pytest.raises(InvalidConfig, match=words):
        DistillationObjective(*arguments)


# --- the teacher's cache ---------------------------------------------------------------------------------------------

SPEC = CacheSpec("teacher+text", num_tokens=250, vocab_size=V, k=K, shard_tokens=100)


def answer(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Depends on the position alone."""
    logprobs = -np.arange(1, K + 1, dtype=np.float32) - (np.arange(start, stop, dtype=np.float32)[:, None] % 7)
    ids = (np.arange(start, stop)[:, None] + np.arange(K)) % V
    return logprobs, ids


def filled(folder: Path) -> TopKCache:
    cache = TopKCache(folder, SPEC)
    cache.fill(answer)
    return cache


@pytest.mark.parametrize(("start", "stop"), [(0, 250), (95, 205), (0, 0), (100, 200), (249, 250), (250, 250)])
def test_any_span_is_read_across_shards(start: int, stop: int, tmp_path: Path) -> None:
    logprobs, ids = filled(tmp_path / "cache").read(start, stop)
    expected = answer(start, stop)
    assert (logprobs.dtype, ids.dtype) == (torch.float32, torch.int64)
    assert np.array_equal(logprobs.numpy(), expected[0])
    assert np.array_equal(ids.numpy(), expected[1])


def test_what_a_teacher_says_is_what_the_objective_reads(tmp_path: Path) -> None:
    _, teacher, logprobs, ids, _ = example(0)
    stored = teacher_top_k(teacher, K)
    spec = CacheSpec("x", num_tokens=B * T, vocab_size=V, k=K, shard_tokens=4)
    cache = TopKCache(tmp_path, spec)
    cache.fill(lambda start, stop: tuple(part.flatten(0, 1)[start:stop] for part in stored))
    read = cache.read(0, B * T)
    torch.testing.assert_close(read[0].view(B, T, K), logprobs.float(), rtol=1e-3, atol=1e-3)
    assert torch.equal(read[1].view(B, T, K), ids)
    assert sum(path.stat().st_size for path in tmp_path.glob("*.bin")) == B * T * K * 6


@pytest.mark.parametrize("moment", ["computing", "half of a shard", "before the index", "half of the index"])
def test_a_killed_fill_goes_on_where_it_was(moment: str, tmp_path: Path) -> None:
    die_while_filling(tmp_path, moment)
    computed: list[int] = []

    def counted(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        computed.append(start)
        return answer(start, stop)

    cache = TopKCache(tmp_path, SPEC)
    cache.fill(counted)
    assert computed == [100, 200]
    cache.check()
    assert np.array_equal(cache.read(0, 250)[0].numpy(), answer(0, 250)[0])


def die_while_filling(folder: Path, moment: str) -> None:
    """A child fills the cache and is killed at the second shard; the parent waits for it."""
    child = os.fork()
    if child == 0:
        try:
            fill_and_die(folder, moment)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def fill_and_die(folder: Path, moment: str) -> None:
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def compute(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        if moment == "computing" and start == 100:
            die()
        return answer(start, stop)

    write = topk_cache.write_atomically
    seen: list[str] = []

    def dying(path: Path, content: bytes) -> None:
        seen.append(path.suffix)
        second = seen.count(path.suffix) == 2
        if second and moment.startswith("half") and path.suffix == (".bin" if "shard" in moment else ".json"):
            path.with_suffix(".partial").write_bytes(content[: len(content) // 2])
            die()
        if second and moment == "before the index" and path.suffix == ".json":
            die()
        write(path, content)

    topk_cache.write_atomically = dying
    TopKCache(folder, SPEC).fill(compute)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut, r"shard-00001.bin of the teacher cache has 2399 bytes instead of 2400"),
        (flip, r"shard-00001.bin of the teacher cache is not what was written"),
        (Path.unlink, r"shard-00001.bin of the teacher cache is missing"),
    ],
)
def test_a_broken_shard_is_named_and_computed_alone(spoil, words: str, tmp_path: Path) -> None:
    cache = filled(tmp_path)
    spoil(cache.path(1))
    with pytest.raises(CacheBroken, match=words + "; fill the cache again: only what is broken is computed"):
        cache.check()
    if spoil is not flip:  # sizes are seen at every first read, contents when checked
        with pytest.raises(CacheBroken, match=words):
            TopKCache(tmp_path, SPEC).read(90, 110)
    assert TopKCache(tmp_path, SPEC).read(0, 90)[0].shape == (90, K)
    spans: list[int] = []
    assert cache.fill(lambda start, stop: (spans.append(start), answer(start, stop))[1]) == 1
    assert spans == [100]
    cache.check()


def test_a_full_cache_asks_no_teacher(tmp_path: Path) -> None:
    filled(tmp_path)
    assert TopKCache(tmp_path, SPEC).fill(lambda *_: pytest.fail("asked")) == 0


def test_another_teacher_needs_another_folder(tmp_path: Path) -> None:
    filled(tmp_path)
    with pytest.raises(InvalidConfig, match="made with source teacher.text, asked is other; give another folder"):
        TopKCache(tmp_path, CacheSpec("other", 250, V, K, 100))


def test_an_unreadable_index_says_what_to_do(tmp_path: Path) -> None:
    filled(tmp_path)
    for text in ("{", json.dumps([]), json.dumps({"spec": {}, "sha256": {}})):
        (tmp_path / "index.json").write_text(text)
        with pytest.raises(CacheBroken, match="remove it to fill the cache anew"):
            TopKCache(tmp_path, SPEC)


def test_answers_that_no_teacher_gives(tmp_path: Path) -> None:
    logprobs, ids = answer(0, 100)
    nan, positive = logprobs.copy(), logprobs + 5
    nan[3, 1] = np.nan
    for wrong, words in (
        ((nan, ids), "shard 0 are not all finite"),
        ((positive, ids), "at most 0"),
        ((logprobs, ids + V), "run from 0 to 25, the student's vocabulary has 13 entries"),
        ((logprobs[:50], ids), "not \\(100, 4\\)"),
    ):
        with pytest.raises(InvalidConfig, match=words):
            TopKCache(tmp_path, SPEC).fill(lambda *_, wrong=wrong: wrong)
    assert not list(tmp_path.iterdir())


def test_log_probabilities_below_half_precision_stay_finite(tmp_path: Path) -> None:
    cache = TopKCache(tmp_path, SPEC)
    cache.fill(lambda start, stop: (answer(start, stop)[0] - 1e5, answer(start, stop)[1]))
    assert cache.read(0, 250)[0].isfinite().all()


def test_spans_and_sizes_outside_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="positions 240 to 251 are not in a cache of 250"):
        filled(tmp_path).read(240, 251)
    with pytest.raises(InvalidConfig, match="k 14 is not between 1 and the 13 entries"):
        TopKCache(tmp_path, CacheSpec("x", 10, V, V + 1))
