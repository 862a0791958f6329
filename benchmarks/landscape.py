"""A landscape of a small trained parent: every candidate of a list judged composed on real text, for benchmarks of
search.

    python -m benchmarks.landscape --data var/landscape/data.npz --out var/landscape --minutes 8
    python -m benchmarks.landscape --data var/landscape/data.npz --out var/landscape --quick

Phases, each kept as soon as it is done, so that another start goes on: the parent is trained; the blocks learn; single
replacements are judged; the list is drawn and judged in a shuffled order, so that an early end keeps its strata;
some are judged again after a short distillation. Worker processes share the last four. Imports nothing that a machine
with torch and transformers alone lacks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.landscape_list import Candidate, Space, draw_list, singles, space_of
from foundation.files import write_atomically
from nas.parent.activations import Activations, collect
from nas.parent.alternatives import Alternative, alternatives_of
from nas.parent.assemble import assemble
from nas.parent.distil import DistilSettings, distil
from nas.parent.judge import HeldOut, Reader, judgement
from nas.parent.learn import FINAL_SHARE, BlockStore, LearnSettings, block_key, learn_all
from nas.parent.retrieval import RetrievalTask, retrieval_task, retrieve
from nas.quality.rates import warmup_cosine
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import Gqa
from search_space.modeling.model import HilnasForCausalLM, build_model


@dataclass(frozen=True)
class Settings:
    """``train_tokens`` are an upper bound: fewer where ``train_seconds`` do not allow them. The last quarter of the
    steps reads rows of ``lengths[1]`` tokens, the others of ``lengths[0]``."""

    d_model: int = 128
    depth: int = 10
    width: int = 384
    windows: tuple[int, ...] = (64, 256)
    lengths: tuple[int, int] = (512, 2048)
    batch_tokens: int = 32_768
    train_tokens: int = 200_000_000
    train_seconds: float = 120.0
    learning_rate: float = 3e-3
    calibration_rows: int = 64
    learn: LearnSettings = LearnSettings(steps=600, rows=4, learning_rate=3e-3, warmup=20, held_out=8)
    held_out_rows: int = 16
    retrieval_distances: tuple[int, ...] = (128, 512, 1536)
    retrieval_rows: int = 24
    num_uniform: int = 1000
    num_near: int = 600
    num_tilted: int = 400
    num_refined: int = 400
    num_distilled: int = 96
    distil: DistilSettings = DistilSettings(steps=100)
    workers: int = 8


QUICK = Settings(
    d_model=64, depth=3, width=64, windows=(16, 32), lengths=(64, 128), batch_tokens=1024, train_tokens=40_000,
    train_seconds=30, calibration_rows=12, learn=LearnSettings(steps=20, rows=4, held_out=2), held_out_rows=4,
    retrieval_distances=(40, 80), retrieval_rows=2, num_uniform=12, num_near=10, num_tilted=6, num_refined=8,
    num_distilled=4, distil=DistilSettings(steps=4, rows=2, length=128), workers=2,
)  # fmt: skip
PHASES = ("learn", "singles", "list", "distilled")
ENDS = {
    "learn": 0.3,
    "singles": 0.36,
    "list": 0.72,
    "distilled": 1.0,
}  # shares of what is left once the parent is there
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def command() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--data", type=Path, required=True, help="made by benchmarks.landscape_text")
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--minutes", type=float, default=8.0, help="all phases together")
    options.add_argument("--quick", action="store_true", help="tiny sizes, to try the script on a CPU")
    options.add_argument("--scratch", type=Path, default=Path("/tmp/landscape_scratch"), help="of activations, blocks")
    options.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    given = options.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = True
    run = Run(QUICK if given.quick else Settings(), given.data, given.out, given.scratch)
    if given.worker is None:
        run.everything(time.time(), given.minutes * 60)
    else:
        torch.set_num_threads(1)
        run.work(given.worker)


class Run:
    def __init__(self, settings: Settings, data: Path, out: Path, scratch: Path) -> None:
        self.settings, self.data, self.out, self.scratch = settings, data, out, scratch
        out.mkdir(parents=True, exist_ok=True)
        with np.load(data) as arrays:
            self.train = arrays["train"].astype(np.int64)
            self.held_out, self.num_bytes = arrays["held_out"].astype(np.int64), arrays["num_bytes"]
        self.arch = parent_arch(settings, len(self.num_bytes))
        self.space = space_of(self.arch, settings.windows)
        self.judging: tuple[Any, list[Reader], RetrievalTask] | None = None
        self._parent: HilnasForCausalLM | None = None

    # --- the whole ---

    def everything(self, begun: float, seconds: float) -> None:
        said(begun, f"{DEVICE}, torch {torch.__version__}, {len(self.train)} training tokens")
        for mark in (*self.out.glob("go.*"), *self.out.glob("ended.*")):
            mark.unlink()
        parent = self.parent()
        said(begun, "the parent is trained")
        workers = self.started()
        self.activations(parent)
        said(begun, "activations are kept")
        del parent
        at, left = time.time(), begun + seconds - time.time()
        for phase in PHASES:
            if phase == "list":
                self.draw()
            self.led(phase, at + left * ENDS[phase], workers)
            if phase == "learn":
                self.pack_blocks()
                self.space = learnt_only(self.space, json.loads((self.out / "blocks.json").read_text()))
            said(begun, f"{phase}: {self.progress(phase)}")
        for process in workers:
            process.kill()
        self.finish(begun)

    def started(self) -> list[subprocess.Popen[bytes]]:
        """Workers as processes of their own: each is bound by the launch of small kernels, not by the device."""
        extra = ["--quick"] if self.settings is QUICK else []
        shared = ["--data", str(self.data), "--out", str(self.out), "--scratch", str(self.scratch), *extra]
        command = [sys.executable, "-m", "benchmarks.landscape", *shared]
        return [subprocess.Popen([*command, "--worker", str(k)]) for k in range(self.settings.workers)]

    def led(self, phase: str, until: float, workers: list[subprocess.Popen[bytes]]) -> None:
        """Tells the workers to begin a phase and waits for them; one that is late or dead is not waited for."""
        write_atomically(self.out / f"go.{phase}", json.dumps(until))
        while time.time() < until + 20:
            ended = [(self.out / f"ended.{phase}.{k}").exists() for k in range(len(workers))]
            if all(done or process.poll() is not None for done, process in zip(ended, workers, strict=True)):
                return
            time.sleep(0.1)

    def work(self, worker: int) -> None:
        """A worker: every phase as soon as it is told to begin, until nobody tells any more."""
        for phase in PHASES:
            told = self.out / f"go.{phase}"
            while not told.exists():
                if os.getppid() == 1:
                    return
                time.sleep(0.05)
            if phase == "singles":
                self.space = learnt_only(self.space, json.loads((self.out / "blocks.json").read_text()))
            getattr(self, f"work_{phase}")(worker, json.loads(told.read_text()))
            write_atomically(self.out / f"ended.{phase}.{worker}", "")

    def progress(self, phase: str) -> str:
        if phase == "learn":
            return f"{len(json.loads((self.out / 'blocks.json').read_text()))} blocks"
        return f"{len(read_lines(self.out, phase))} rows"

    def finish(self, begun: float) -> None:
        """One file for each phase; what workers wrote is joined and removed."""
        for mark in (*self.out.glob("go.*"), *self.out.glob("ended.*")):
            mark.unlink()
        for phase in PHASES[1:]:
            rows = sorted(read_lines(self.out, phase), key=lambda row: row["index"])
            with (self.out / f"{phase}.jsonl").open("w") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
            for part in self.out.glob(f"{phase}.*.jsonl"):
                part.unlink()
        sizes = [f"{path.name} {path.stat().st_size / 1e6:.2f} MB" for path in sorted(self.out.iterdir())]
        said(begun, f"done: {', '.join(sizes)}")

    # --- the parent ---

    def parent(self) -> HilnasForCausalLM:
        """Trained once; read back in the precision in which it is kept, so that all processes hold the same."""
        path = self.out / "parent.safetensors"
        if not path.exists():
            model, log = train_parent(self.arch, self.train, self.settings)
            save_half(path, dict(model.state_dict()))
            (self.out / "parent.json").write_text(json.dumps({"arch": self.arch.to_dict(), **log}, indent=1))
        if self._parent is not None:
            return self._parent
        model = build_model(self.arch)
        model.load_state_dict({name: value.float() for name, value in load_file(path).items()}, strict=False)
        model.tie_weights()
        self._parent = model.to(DEVICE).eval()  # type: ignore[arg-type]
        return self._parent

    def activations(self, parent: HilnasForCausalLM) -> Activations:
        length, count = self.settings.lengths[1], self.settings.calibration_rows
        firsts = np.random.default_rng(7).integers(len(self.train) - length, size=count)
        rows = np.stack([self.train[first : first + length] for first in firsts])
        return collect(parent, rows, self.scratch / "activations")

    # --- blocks ---

    def alternatives(self) -> list[Alternative]:
        return [one for index, (mixers, ffns) in enumerate(self.space) for one in alternatives_of(index, mixers, ffns)]

    def work_learn(self, worker: int, until: float) -> None:
        parent = self.parent()
        activations, store = self.activations(parent), BlockStore(self.scratch / "blocks")
        order = np.random.default_rng(3).permutation(len(self.alternatives()))
        mine = [self.alternatives()[k] for k in order[worker :: self.settings.workers]]
        for one in mine:
            if time.time() < until:
                learn_all(parent, [one], activations, store, self.settings.learn)

    def pack_blocks(self) -> None:
        """All learnt blocks in one file of half precision, and their errors."""
        parent, store = self.parent(), BlockStore(self.scratch / "blocks")
        activations = self.activations(parent)
        weights, told = {}, []
        for one in self.alternatives():
            block = store.get(block_key(one, activations, self.settings.learn)) if not one.absent else None
            if block is not None:
                told.append(asdict(block))
                if block.steps:  # windows are the parent's own weights
                    weights |= {f"{name_of(one)}:{name}": value for name, value in store.weights(block.key).items()}
        save_half(self.out / "blocks.safetensors", weights)
        (self.out / "blocks.json").write_text(json.dumps(told, indent=1))

    def blocks(self, parent: HilnasForCausalLM) -> dict[Alternative, dict[str, Tensor]]:
        """Weights of every alternative from the packed file, windows' from the parent."""
        packed, found = load_file(self.out / "blocks.safetensors", device=DEVICE), {}
        theirs = parent.state_dict()
        for one in self.alternatives():
            prefix = f"{name_of(one)}:"
            mine = {k.removeprefix(prefix): v.float() for k, v in packed.items() if k.startswith(prefix)}
            if not mine and one.part == "mixer" and getattr(one.mixer, "attention_window", 0):
                prefix = f"model.layers.{one.layer}."
                mine = {k.removeprefix(prefix): v for k, v in theirs.items() if k.startswith(f"{prefix}mixer")}
            if mine:
                found[one] = mine
        return found

    # --- judging ---

    def readers(self, parent: HilnasForCausalLM) -> list[Reader]:
        short, long = self.settings.lengths
        at_once = 4 if DEVICE == "cuda" else 2
        text = HeldOut.cut(self.held_out, self.num_bytes, long, self.settings.held_out_rows)
        return [Reader(parent, text.shorter(short), at_once * long // short), Reader(parent, text, at_once)]

    def retrieval(self) -> RetrievalTask:
        s = self.settings
        return retrieval_task(self.held_out, s.lengths[1], s.retrieval_distances, s.retrieval_rows)

    def work_singles(self, worker: int, until: float) -> None:
        parent = self.parent()
        self.judge_all(parent, singles(self.space), "singles", worker, until)
        if worker == 0:
            assert self.judging is not None
            readers = self.judging[1]
            own = {f"bits_per_byte@{r.text.length}": r.bits_per_byte(r.own) for r in readers}
            row = {**own, "by_position": readers[-1].by_position(readers[-1].own), **retrieve(parent, self.retrieval())}
            (self.out / "parent_judged.json").write_text(json.dumps(row, indent=1))

    def draw(self) -> None:
        costs = {(row["name"], row["choice"]): row[f"divergence@{self.settings.lengths[1]}"] for row in
                 read_lines(self.out, "singles")}  # fmt: skip
        s = self.settings
        counts = {"uniform": s.num_uniform, "near": s.num_near, "tilted": s.num_tilted, "refined": s.num_refined}
        drawn = draw_list(self.arch, self.space, counts, costs)
        (self.out / "candidates.json").write_text(json.dumps([asdict(one) for one in drawn]))

    def work_list(self, worker: int, until: float) -> None:
        drawn = [Candidate(**fields) for fields in json.loads((self.out / "candidates.json").read_text())]
        self.judge_all(self.parent(), drawn, "list", worker, until)

    def work_distilled(self, worker: int, until: float) -> None:
        """Strata by the divergence before distillation, evenly over its ranks."""
        rows = sorted(read_lines(self.out, "list"), key=lambda row: row[f"divergence@{self.settings.lengths[1]}"])
        count = min(self.settings.num_distilled, len(rows))
        picked = [rows[round(place)] for place in np.linspace(0, len(rows) - 1, count)]
        order = np.random.default_rng(5).permutation(count)
        chosen = [Candidate(picked[k]["index"], picked[k]["stratum"], picked[k]["assignment"]) for k in order]
        self.judge_all(self.parent(), chosen, "distilled", worker, until, self.settings.distil)

    def judge_all(
        self, parent: HilnasForCausalLM, candidates: list[Candidate], phase: str, worker: int, until: float,
        distilled: DistilSettings | None = None,
    ) -> None:  # fmt: skip
        weights, readers, task = self.judging or (self.blocks(parent), self.readers(parent), self.retrieval())
        self.judging = (weights, readers, task)
        done = {row["index"] for row in read_lines(self.out, phase)}
        with (self.out / f"{phase}.{worker}.jsonl").open("a") as file:
            for place, one in enumerate(candidates):
                if place % self.settings.workers != worker or one.index in done:
                    continue
                if time.time() > until:
                    return
                begun, model = time.time(), self.composed(one, parent, weights)
                if distilled:
                    distil(model, parent, self.train, distilled)
                row = {**asdict(one), **judgement(readers, model), "retrieval": retrieve(model, task)}
                file.write(json.dumps({**row, "seconds": time.time() - begun}) + "\n")
                file.flush()

    def composed(
        self, one: Candidate, parent: HilnasForCausalLM, weights: dict[Alternative, dict[str, Tensor]]
    ) -> HilnasForCausalLM:
        layers = []
        for index, (mixers, ffns) in enumerate(self.space):
            mixer, width = one.assignment[f"layer_{index:02d}.mixer"], one.assignment[f"layer_{index:02d}.ffn"]
            (chosen,) = (m for m in mixers if m.label == mixer)
            (ffn,) = (f for f in ffns if str(f.width if f else 0) == width)
            layers.append(LayerConfig(chosen, ffn))
        arch = replace(self.arch, layers=tuple(layers))
        return assemble(arch, parent, weights)


def learnt_only(space: Space, blocks: list[dict[str, Any]]) -> Space:
    known = {(block["alternative"]["layer"], block["alternative"]["part"], block["label"]) for block in blocks}
    found = []
    for index, (mixers, ffns) in enumerate(space):
        kept = [m for m in mixers[1:] if m.identity or (index, "mixer", m.label) in known]
        narrower = [f for f in ffns[1:] if f is None or (index, "ffn", str(f.width)) in known]
        found.append(((mixers[0], *kept), (ffns[0], *narrower)))
    return found


def name_of(one: Alternative) -> str:
    return f"layer_{one.layer:02d}.{one.part}={one.label}"


def parent_arch(settings: Settings, vocab_size: int) -> ArchConfig:
    heads = settings.d_model // 32
    layer = LayerConfig(Gqa(heads, heads // 2, 32), SwiGLU(settings.width))
    return ArchConfig(settings.d_model, vocab_size, (layer,) * settings.depth, rope_theta=10_000.0)


def train_parent(arch: ArchConfig, stream: NDArray[Any], s: Settings) -> tuple[HilnasForCausalLM, dict[str, Any]]:
    """AdamW, a cosine to a twentieth over as many steps as the seconds allow by the pace of the first ones."""
    model, rng = initialized(arch).to(DEVICE), np.random.default_rng(0)  # type: ignore[arg-type]
    decayed = [value for value in model.parameters() if value.dim() > 1]
    others = [value for value in model.parameters() if value.dim() == 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, s.learning_rate, (0.9, 0.95), fused=DEVICE == "cuda")
    steps, begun, losses, pace_at = max(60, s.train_tokens // s.batch_tokens), time.time(), [], 60
    data = torch.as_tensor(stream, device=DEVICE)
    for step in range(10**9):
        if step == 20:
            pace_begun = waited()
        if step == pace_at or (step and step % 500 == 0):  # rows of the second length are dearer
            pace = (waited() - pace_begun) / (step - 20)
            left = s.train_seconds - (time.time() - begun)
            steps = max(step + 1, min(steps, step + int(left / (1.15 * pace))))
        if step >= steps:
            break
        length = s.lengths[int(step >= 0.75 * steps)]
        firsts = torch.as_tensor(rng.integers(len(stream) - length - 1, size=s.batch_tokens // length), device=DEVICE)
        ids_BT = data[firsts[:, None] + torch.arange(length + 1, device=DEVICE)]
        for group in optimizer.param_groups:
            group["lr"] = s.learning_rate * warmup_cosine(step, steps, min(100, steps // 10), FINAL_SHARE)
        with torch.autocast(DEVICE, torch.bfloat16, enabled=DEVICE == "cuda"):
            logits_BTV = model.lm_head(model.model(ids_BT[:, :-1]))
            loss = nn.functional.cross_entropy(logits_BTV.flatten(0, 1).float(), ids_BT[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 250 == 0:
            losses.append([step, round(loss.item(), 4)])
            print(f"step {step} of {steps}, loss {losses[-1][1]}, {time.time() - begun:.0f} s", flush=True)
    log = {"steps": steps, "tokens": steps * s.batch_tokens, "seconds": waited() - begun, "losses": losses}
    return model.eval(), {**log, "last_loss": loss.item(), "settings": asdict(s)}


def waited() -> float:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.time()


def initialized(arch: ArchConfig) -> HilnasForCausalLM:
    """Weights at 1/sqrt(fan-in), those that write to the residual stream smaller by the root of their number."""
    model = build_model(arch, seed=0)
    for name, module in model.model.named_modules():
        if isinstance(module, nn.Linear):
            shrunk = (2 * arch.depth) ** -0.5 if name.endswith(("o_proj", "w2")) else 1.0
            nn.init.normal_(module.weight, std=shrunk * module.in_features**-0.5)
    return model


def save_half(path: Path, weights: dict[str, Tensor]) -> None:
    tied = {name: value for name, value in weights.items() if name != "lm_head.weight"}
    save_file({name: value.detach().half().cpu().contiguous() for name, value in tied.items()}, path)


def read_lines(folder: Path, phase: str) -> list[dict[str, Any]]:
    """Rows of a phase, from its joined file and from workers; a line that a killed worker left cut is dropped."""
    rows: dict[int, dict[str, Any]] = {}
    for path in sorted(folder.glob(f"{phase}*.jsonl")):
        for line in path.read_text().splitlines():
            if line.endswith("}"):
                row = json.loads(line)
                rows[row["index"]] = row
    return list(rows.values())


def said(begun: float, text: str) -> None:
    print(f"[{time.time() - begun:6.1f} s] {text}", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    command()
