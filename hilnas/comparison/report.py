"""A comparison as sections of text, which the terminal and Markdown draw alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from contracts.comparison import ComparedRow, Comparison, Pair
from contracts.measurement import Estimate, Verdict
from device_agents.sustained import order_flips
from hilnas.comparison.pairs import against, faster_first

RATE = {"prefill_ms": "prefill_tok_s", "decode_ms": "decode_tok_s"}
WHAT = {"prefill_ms": "Prompt of {} tokens", "decode_ms": "Decoding at {} tokens of context"}


@dataclass(frozen=True)
class Section:
    """``rows`` hold one text for each column; the first column is left-aligned, the others right-aligned. ``notes`` are
    sentences below the table."""

    title: str
    columns: tuple[str, ...] = ()
    rows: Sequence[tuple[str, ...]] = ()
    notes: list[str] = field(default_factory=list)


def sections(result: Comparison) -> list[Section]:
    found = [models_section(result)]
    for metric in result.compared_metrics:
        found += [times_section(result, metric), *pairs_section(result, metric)]
    return [*found, *sustained_section(result)]


def headline(result: Comparison) -> list[str]:
    """Device and settings, a sentence each."""
    device, settings = result.device, result.settings
    cores = f" on cores {' '.join(map(str, settings.affinity))}" if settings.affinity else f" of {device.cores} cores"
    soc = f" ({device.details['soc']})" if "soc" in device.details else ""
    return [
        f"{device.model}{soc}, {device.os}, fingerprint {device.fingerprint}",
        f"{settings.threads} thread{'s' * (settings.threads > 1)}{cores}, {settings.quantization}, "
        f"{settings.cache_dtype} cache, {settings.rounds} rounds of one cold process each",
        f"{result.measured_at:%Y-%m-%d %H:%M} UTC, {result.minutes:.1f} minutes of measuring",
    ]


def models_section(result: Comparison) -> Section:
    columns = ("model", "parameters", "weights", "cache", "quantization", "runs", "verdict")
    rows = [
        (row.name, _count(row.params), _size(row.weight_bytes), _size(row.cache_bytes), row.quantization,
         f"{len(row.rounds)} of {row.cold_runs}", str(row.verdict)) for row in result.rows
    ]  # fmt: skip
    return Section("Models", columns, rows, [*_weight_notes(result.rows), *_row_notes(result)])


def _weight_notes(rows: Sequence[ComparedRow]) -> list[str]:
    """One sentence for each kind of weights; random ones take as long as a model's own."""
    kinds: dict[str, list[str]] = {}
    for row in rows:
        kinds.setdefault(row.weights, []).append(row.name)
    return [f"weights {kind}: {', '.join(names)}" for kind, names in kinds.items()]


def _row_notes(result: Comparison) -> list[str]:
    notes = [f"{row.name}: {row.verdict}, {row.reason}; in no probability" for row in result.rows
             if row.verdict is not Verdict.VALID]  # fmt: skip
    notes += [f"{row.name}: another engine, {row.engine}, {row.quantization}" for row in result.rows
              if row.engine != "hilnas"]  # fmt: skip
    forms = {row.quantization for row in result.rows}
    notes += [f"quantizations differ: {', '.join(sorted(forms))}"] if len(forms) > 1 else []
    if len({row.session for row in result.rows}) > 1:
        notes.append("rows of different sessions stand beside each other without probabilities")
    return notes


def times_section(result: Comparison, metric: str) -> Section:
    """Fastest first; rows that are not valid at the end, with their verdict in place of a rate."""
    name, _, length = metric.partition("@")
    columns = ("model", "ms", "95 % interval", "tokens/s") + ((f"over {result.baseline}",) if result.baseline else ())
    last = float("inf")
    ordered = sorted(result.rows, key=lambda row: (row.verdict is not Verdict.VALID, _median(row, metric) or last))
    rows = []
    for row in ordered:
        cells = _time_cells(row, metric, f"{RATE[name]}@{length}")
        rows.append(cells + ((_ratio_cell(result, row, metric),) if result.baseline else ()))
    return Section(WHAT[name].format(length), columns, rows)


def _time_cells(row: ComparedRow, metric: str, rate: str) -> tuple[str, ...]:
    estimate = row.metrics.get(metric)
    if estimate is None:
        return row.name, "-", "-", str(row.verdict)
    per_second = row.metrics.get(rate)
    shown = short(per_second.median) if per_second else "-"
    return row.name, short(estimate.median), interval(estimate), shown if row.verdict is Verdict.VALID else row.verdict


def _ratio_cell(result: Comparison, row: ComparedRow, metric: str) -> str:
    if row.name == result.baseline:
        return "1"
    pair = against(result.pairs, row.name, str(result.baseline), metric)
    return f"{pair.ratio:.2f} ({pair.low:.2f} to {pair.high:.2f})" if pair else "-"


def pairs_section(result: Comparison, metric: str) -> list[Section]:
    """The most certain first. Empty where no two rows can be compared."""
    pairs = [faster_first(pair) for pair in result.pairs if pair.metric == metric]
    if not pairs:
        return []
    verb = "reads prompts" if metric.startswith("prefill") else "decodes"
    columns = ("", "probability", "times faster", "95 % interval", "rounds")
    pairs.sort(key=lambda pair: -pair.probability)
    return [Section(f"Which {verb} faster", columns, [_pair_cells(pair) for pair in pairs])]


def _pair_cells(pair: Pair) -> tuple[str, ...]:
    bounds = f"{1 / pair.high:.2f} to {1 / pair.low:.2f}"
    name = f"{pair.first} before {pair.second}"
    return name, probability(pair.probability), f"{1 / pair.ratio:.2f}", bounds, str(pair.num_rounds)


def sustained_section(result: Comparison) -> list[Section]:
    if not result.sustained:
        return []
    columns = ("model", "minutes", "first ms", "last ms", "last / first")
    rows = [
        (one.name, f"{one.seconds / 60:.1f}", short(one.first_ms), short(one.last_ms), f"{one.slowdown:.2f}")
        for one in result.sustained
    ]
    flips = order_flips(result.sustained)
    notes = [f"{a} was faster than {b} at the beginning and slower at the end" for a, b in flips]
    notes += [] if flips else ["the order at the end is that of the beginning"]
    notes += [f"{one.name}: {one.note}" for one in result.sustained if one.note]
    window = result.sustained[0].window_s
    return [Section(f"Decoding without a pause, medians of the first and last {window:.0f} s", columns, rows, notes)]


def probability(value: float) -> str:
    """Never 1: a t distribution over a few rounds does not know that."""
    return "> 0.999" if value > 0.999 else f"{value:.3f}" if value > 0.99 else f"{value:.2f}"


def interval(estimate: Estimate) -> str:
    return f"{short(estimate.low)} to {short(estimate.high)}"


def short(value: float) -> str:
    """Three digits, without an exponent."""
    if value == 0:
        return "0"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1e}"


def _median(row: ComparedRow, metric: str) -> float | None:
    return row.metrics[metric].median if metric in row.metrics else None


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value / 1e6:.0f} M" if value >= 1e7 else f"{value / 1e6:.2f} M"


def _size(value: int | None) -> str:
    return "-" if value is None else f"{value / 2**20:.0f} MiB" if value >= 2**24 else f"{value / 2**20:.1f} MiB"
