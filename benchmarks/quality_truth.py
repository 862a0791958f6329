"""The ground truth of ``quality_correlation``: layouts of one small space, each trained on real text.

    python -m benchmarks.quality_truth OUT --data quality_data.npz --minutes 7

Needs torch, numpy and transformers, ``nas/quality/text``, ``search_space`` and ``foundation`` alone. Several processes
share one GPU: the models are small. Every finished training is one line of OUT/truth.jsonl; a second start goes on
where the first stopped. The order is that of what is needed most: every layout at one rate, then at the other, with
short and narrow trainings between, then second seeds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import queue
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.cost import effective_params, macs_per_token
from search_space.mixers import GatedShortConv, Gqa, MixerConfig, Skip, SlidingWindow

D_MODEL, VOCABULARY, LENGTH, ROWS = 192, 4096, 512, 16
WIDTHS = {"": 512, "narrow": 256, "wide": 768, "none": 0}
MIXERS: dict[str, MixerConfig] = {
    "c": GatedShortConv(3), "k": GatedShortConv(7), "a": Gqa(6, 2, 32), "f": Gqa(6, 6, 32), "m": Gqa(6, 1, 32),
    "w": SlidingWindow(6, 2, 32, window=64), "v": SlidingWindow(6, 2, 32, window=16), "s": Skip(),
}  # fmt: skip
LAYOUTS = (
    "cccccccc", "aaaaaaaa", "ccaccacc", "wwwwwwww", "ccccaccc", "kkkkkkkk", "acacacac", "ssssssss", "vvvvavvv",
    "ccaccacc narrow", "aaaaaaaa wide", "cccccccc wide", "vvvvvvvv", "acccccca", "cscscscs", "mmmmmmmm",
    "kkakkakk", "ccaccacc wide", "wwwawwwa", "aaaaaaaa narrow", "aaaacccc", "ccccaaaa", "sasasasa", "ffffffff",
    "ccaccacc none", "cwcacwca wide", "cccccccc narrow", "mcmcmcmc narrow", "ccssaccs", "wcwcwcwc", "accccccc",
    "ccccccca wide",
)  # fmt: skip
RATES = (2e-3, 4e-3)
SHORT, NARROW = 0.1, 0.2  # shares of the tokens
EVERY = 3  # each third layout has a second seed
STOPS = (0.05, 0.1, 0.2, 0.5)
LEAST_TOKENS, MOST_TOKENS = 3_000_000, 20_000_000
PROBE_SECONDS, MARGIN = 8.0, 0.8


@dataclass(frozen=True)
class Job:
    """One training. ``form``: full, short (a tenth of the tokens), or narrow (half the width, a fifth of them)."""

    form: str
    layout: str
    rate: float
    seed: int

    @property
    def key(self) -> str:
        return json.dumps(asdict(self))

    @property
    def share(self) -> float:
        return {"full": 1.0, "short": SHORT, "narrow": NARROW}[self.form]

    @property
    def arch(self) -> ArchConfig:
        full = arch_of(self.layout)
        return halved(full) if self.form == "narrow" else full


@dataclass(frozen=True)
class Setting:
    """What every worker is told once. ``tokens`` of a full training; 0 until throughput is known."""

    data: str
    device: str
    tokens: int
    rows: int
    length: int
    deadline: float  # time.monotonic(), one clock for all processes
    threads: int


def command() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("out", type=Path)
    options.add_argument("--data", type=Path, required=True, help="tokens made by benchmarks.quality_data")
    options.add_argument("--minutes", type=float, default=7.0, help="stop after this long, start-up included")
    options.add_argument("--workers", type=int, default=8)
    options.add_argument("--tokens", type=int, default=0, help="of each training; 0: what the time allows")
    options.add_argument("--device", default="cuda")
    options.add_argument("--rows", type=int, default=ROWS)
    options.add_argument("--length", type=int, default=LENGTH)
    options.add_argument("--layouts", type=int, default=len(LAYOUTS), help="only the first ones")
    options.add_argument("--threads", type=int, default=1, help="of torch, in each process")
    given = options.parse_args()
    deadline = time.monotonic() + 60 * given.minutes
    setting = Setting(
        str(given.data), given.device, given.tokens, given.rows, given.length, deadline, given.threads
    )
    collect(given.out, setting, given.workers, given.layouts)


def jobs(num_layouts: int) -> list[Job]:
    """All trainings of the first seed, the most needed first."""

    def of(form: str, rate: float) -> list[Job]:
        return [Job(form, layout, rate, 0) for layout in LAYOUTS[:num_layouts]]

    a, b = RATES
    return [*of("full", a), *of("short", a), *of("full", b), *of("short", b), *of("narrow", a), *of("narrow", b)]


def second_seeds(rows: list[dict[str, Any]], num_layouts: int) -> list[Job]:
    """A third of the layouts once more, at the better rate, where both rates are known."""
    found = {(job["layout"], job["rate"]): row["bits_per_byte"] for row in rows
             if "error" not in row and (job := row["job"])["form"] == "full" and job["seed"] == 0}  # fmt: skip
    known = [name for name in LAYOUTS[:num_layouts:EVERY] if all((name, rate) in found for rate in RATES)]
    return [Job("full", name, min(RATES, key=lambda rate: found[name, rate]), 1) for name in known]


def arch_of(text: str) -> ArchConfig:
    """``ccaccacc wide``: a letter of ``MIXERS`` for each layer, then the name of a feed-forward width."""
    letters, _, size = text.partition(" ")
    ffn = SwiGLU(WIDTHS[size]) if WIDTHS[size] else None
    return ArchConfig(
        D_MODEL, VOCABULARY, tuple(LayerConfig(MIXERS[letter], ffn) for letter in letters), rope_theta=10_000.0
    )


def halved(arch: ArchConfig) -> ArchConfig:
    """Half of every width; as many layers, heads and tokens of a window."""

    def half(layer: LayerConfig) -> LayerConfig:
        mixer = layer.mixer
        narrow = replace(mixer, head_dim=mixer.head_dim // 2) if isinstance(mixer, Gqa) else mixer
        return LayerConfig(narrow, replace(layer.ffn, width=layer.ffn.width // 2) if layer.ffn else None)

    return replace(arch, d_model=arch.d_model // 2, layers=tuple(half(layer) for layer in arch.layers))


def collect(out: Path, setting: Setting, num_workers: int, num_layouts: int) -> None:
    """Runs what is missing in OUT/truth.jsonl until all is there or time is over."""
    out.mkdir(parents=True, exist_ok=True)
    rows, plan = out / "truth.jsonl", out / "plan.json"
    if plan.exists():  # all trainings of one table are equally long
        setting = replace(setting, tokens=json.loads(plan.read_text())["tokens"])
    before = read(rows)
    done = {json.dumps(row["job"]) for row in before}
    todo = [job for job in (*jobs(num_layouts), *second_seeds(before, num_layouts)) if job.key not in done]
    print(f"{len(todo)} trainings to do, second seeds when they are known", flush=True)
    workers = Workers(setting, num_workers, todo or jobs(1))
    try:
        if not setting.tokens:
            wanted = sum(job.share for job in todo) + len(LAYOUTS[:num_layouts:EVERY])
            setting = replace(setting, tokens=workers.tokens_that_fit(wanted))
        plan.write_text(json.dumps({**asdict(setting), "data": Path(setting.data).name, "workers": num_workers}) + "\n")
        asked = done | {job.key for job in todo}
        workers.add(todo, setting.tokens)
        with rows.open("a") as file:
            for row in workers.results():
                file.write(json.dumps(row) + "\n")
                file.flush()
                more = [job for job in second_seeds(read(rows), num_layouts) if job.key not in asked]
                workers.add(more, setting.tokens)
                asked |= {job.key for job in more}
    finally:
        workers.end()
    print(f"{len(read(rows))} trainings of {setting.tokens} tokens (or a share of them) are in {rows.name}")


def read(rows: Path) -> list[dict[str, Any]]:
    """The trainings that are finished."""
    if not rows.exists():
        return []
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    return [row for row in found if "error" not in row]


class Workers:
    """Processes that share one device and take trainings from one list."""

    def __init__(self, setting: Setting, count: int, todo: list[Job]) -> None:
        context = multiprocessing.get_context("spawn")
        self._setting, self._jobs, self._answers = setting, context.Queue(), context.Queue()
        self._asked, self._begin = 0, time.monotonic()
        self._processes = [
            context.Process(
                target=work, args=(setting, todo[index % len(todo)], self._jobs, self._answers), daemon=True
            )
            for index in range(min(count, len(todo)))
        ]
        for process in self._processes:
            process.start()

    def tokens_that_fit(self, wanted: float) -> int:
        """Tokens of one of ``wanted`` trainings, from what all processes did together in a few seconds."""
        rates: list[float] = []
        while len(rates) < len(self._processes) and (answer := self._next(limit=90.0)) is not None:
            rates.append(answer["tokens_per_second"])
        if not rates:
            raise SystemExit("no process could train: see the errors above")
        together = sum(rates) / len(rates) * len(self._processes)
        left = self._setting.deadline - time.monotonic()
        tokens = MARGIN * together * left / wanted
        print(f"{together:.3g} tokens/s in {len(rates)} processes, {left:.0f} s left: {tokens:.3g} each", flush=True)
        return round(min(MOST_TOKENS, max(LEAST_TOKENS, tokens)) / 1e5) * 100_000

    def add(self, todo: list[Job], tokens: int) -> None:
        for job in todo:
            self._jobs.put((job, tokens))
        self._asked += len(todo)

    def results(self) -> Iterator[dict[str, Any]]:
        """Rows as they are finished, also of what is added meanwhile; ends early when time is over or no process is
        left."""
        done = 0
        while done < self._asked and (answer := self._next(self._setting.deadline + 20 - time.monotonic())) is not None:
            if "tokens_per_second" in answer:
                continue
            done += 1
            said = answer.get("error") or f"{answer['bits_per_byte']:.4f} bits per byte, {answer['seconds']:.0f} s"
            print(f"{time.monotonic() - self._begin:5.0f} s  {done}/{self._asked} {answer['job']} {said}", flush=True)
            yield answer

    def _next(self, limit: float) -> dict[str, Any] | None:
        until = time.monotonic() + limit
        while time.monotonic() < until:
            try:
                return self._answers.get(timeout=0.5)
            except queue.Empty:
                if not any(process.is_alive() for process in self._processes):
                    return None
        return None

    def end(self) -> None:
        self._jobs.cancel_join_thread()  # nobody reads what is left
        for process in self._processes:
            process.terminate()


def work(setting: Setting, probed: Job, todo: Any, answers: Any) -> None:
    """A worker process: tells how fast it trains, then trains what the list has until time is over."""
    import torch

    from nas.quality.text.training import OutOfTime

    torch.set_num_threads(setting.threads)
    trainer = Trainer(setting)
    if not setting.tokens:
        answers.put({"tokens_per_second": trainer.pace(replace(probed, form="full"))})
    while time.monotonic() < setting.deadline:
        try:
            job, tokens = todo.get(timeout=0.5)
            answers.put(trainer.row(job, tokens))
        except queue.Empty:
            continue
        except OutOfTime:
            return
        except Exception as error:  # one training that fails must not end the others
            answers.put({"job": asdict(job), "error": f"{type(error).__name__}: {error}"})


class Trainer:
    """Text on the device, and trainings on it."""

    def __init__(self, setting: Setting) -> None:
        from nas.quality.text.data import TextData, TextTensors

        self.setting = setting
        self.text = TextTensors(TextData.load(Path(setting.data)), setting.length, setting.device)
        self.on_gpu = setting.device.startswith("cuda")

    def row(self, job: Job, tokens: int) -> dict[str, Any]:
        arch, found = job.arch, self._trained(job, round(tokens * job.share), self.setting.deadline)
        return {
            "job": asdict(job), "tokens": found.tokens, "bits_per_byte": found.held_out.bits_per_byte,
            "standard_error": found.held_out.standard_error, "by_position": found.held_out.by_position,
            "at_tokens": found.at_tokens, "curve": found.curve, "seconds": found.seconds,
            "effective_params": effective_params(arch), "macs_per_token": macs_per_token(arch, LENGTH // 2),
        }  # fmt: skip

    def pace(self, job: Job) -> float:
        """Tokens per second after a warm-up, while the other processes do the same."""
        few = 20 * self.setting.rows * self.setting.length
        self._trained(job, few, evaluation_rows=1)
        tokens, begin = 0, time.monotonic()
        while time.monotonic() < begin + PROBE_SECONDS:
            tokens += self._trained(job, few, evaluation_rows=1).tokens
        return tokens / (time.monotonic() - begin)

    def _trained(self, job: Job, tokens: int, deadline: float = float("inf"), evaluation_rows: int = 512) -> Any:
        from nas.quality.text.fused import use_fused_parts
        from nas.quality.text.training import TextRun, train_on_text

        run = TextRun(
            tokens, job.rate, job.seed, self.setting.rows, self.setting.length, evaluation_rows=evaluation_rows
        )
        stops = STOPS if job.form == "full" and evaluation_rows > 1 else ()
        return train_on_text(
            job.arch, self.text, run, autocast=self.on_gpu, stops=stops, deadline=deadline, prepare=use_fused_parts
        )


if __name__ == "__main__":
    command()
