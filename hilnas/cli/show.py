"""Studies in a terminal: the front as a table, a candidate as a strip, progress as a panel."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from contracts.metrics import parse_metric
from contracts.states import FINISHED_TRIALS, OPEN_TRIALS, StudyState, TrialState
from search_space.mixers import MIXERS, MixerConfig

ENDING = "judging finalists and confirming winners"
FURTHER = {"final_quality": "finalist", "program_quality": "program"}  # qualities beside the search's own


def strip_of(arch: dict[str, Any]) -> Text:
    """One letter per layer, coloured by mixer; a mixer whose plugin is not loaded is grey, with its initial."""
    text = Text()
    for layer in arch["layers"]:
        kind = layer["mixer"]["kind"]
        mixer = MIXERS.get(kind, MixerConfig)
        text.append(mixer.letter if kind in MIXERS else kind[0].upper(), style=mixer.colour)
    return text


def widths_of(arch: dict[str, Any]) -> str:
    """Feed-forward widths with runs folded, e.g. ``2x1024 512``."""
    widths = [layer["ffn"]["width"] if layer["ffn"] else 0 for layer in arch["layers"]]
    runs = [(width, len(list(group))) for width, group in groupby(widths)]
    return " ".join(f"{count}x{width}" if count > 1 else str(width) for width, count in runs)


def number(key: str, value: float) -> str:
    """A metric's value in a readable unit."""
    unit = parse_metric(key)[0].unit
    if unit == "bytes":
        return f"{value / 2**20:.1f} MiB"
    if unit == "count":
        return f"{value / 1e6:.2f} M"
    digits = 3 if unit in ("score", "ratio", "bits/byte") else 2
    return f"{value:.{digits}f}" + (f" {unit}" if unit not in ("score", "ratio") else "")


def front_table(front: dict[str, Any], title: str = "Pareto front") -> Table:
    """A row per member, with intervals of measured values and the knee marked."""
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("#", justify="right")
    table.add_column("layers")
    table.add_column("feed-forward widths", overflow="fold")
    for key in front["objectives"]:
        table.add_column(key, justify="right")
    for member in front["members"]:
        mark = f"[bold green]{member['number']} knee[/]" if member["knee"] else str(member["number"])
        mark += f" {member['name']}" if member.get("name") else ""
        cells = [_cell(key, member) for key in front["objectives"]]
        table.add_row(mark, strip_of(member["arch"]), widths_of(member["arch"]), *cells)
    return table


def misses_table(front: dict[str, Any]) -> Table:
    """The candidates that miss the budgets least, with every budget that they break."""
    table = Table(title="No candidate meets the budgets; the nearest", title_justify="left", header_style="bold")
    table.add_column("#", justify="right")
    table.add_column("layers")
    table.add_column("budgets that it breaks", overflow="fold")
    for miss in front["nearest_misses"]:
        broken = [
            f"{one['key']} {number(one['key'], one['value'])}, {one['percent']:.3g} % {_side(one)}"
            f" {number(one['key'], one['bound'])}" for one in miss["broken"]
        ]  # fmt: skip
        table.add_row(str(miss["number"]), strip_of(miss["arch"]), "\n".join(broken))
    return table


def _side(broken: dict[str, Any]) -> str:
    return "over" if broken["value"] > broken["bound"] else "under"


def progress_panel(study: dict[str, Any], front: dict[str, Any], jobs: dict[str, int], devices: int) -> RenderableType:
    """Trials, jobs, ETA and the front so far."""
    trials = study["trials"]
    done = sum(trials.get(state, 0) for state in FINISHED_TRIALS | {TrialState.MEASURED})
    bar = ProgressBar(total=study["max_trials"], completed=min(done, study["max_trials"]), width=40)
    eta = f"{study['eta_s'] / 60:.1f} min" if study.get("eta_s") else "-"
    facts = Table.grid(padding=(0, 2))
    facts.add_row("trials", _counts(trials))
    facts.add_row("jobs", f"{_counts(jobs)}   [dim]devices {devices}[/]")
    facts.add_row("ETA", ENDING if is_ending(study) else eta)
    if study.get("hypervolume") is not None:
        facts.add_row("hypervolume", f"{study['hypervolume']:.4g}")
    for target in study.get("targets", []):
        facts.add_row(f"target {target['name']}", _progress_of(target, study))
    for note in study.get("notes", []):
        facts.add_row("note", f"[yellow]{note}[/]")
    parts: list[RenderableType] = [Padding(bar), facts]  # the bar itself does not end its line
    if front["members"]:
        parts.append(front_table(front))
    if front.get("nearest_misses"):
        parts.append(misses_table(front))
    return Panel(Group(*parts), title=f"{study['name']}  [dim]{study['state']}[/]", title_align="left")


def progress_line(study: dict[str, Any]) -> str:
    """``demo running: 12 of 44 candidates, 9 complete  3 measuring, 4 on the front``."""
    trials = study["trials"]
    done = sum(trials.get(state, 0) for state in FINISHED_TRIALS | {TrialState.MEASURED})
    counts = "  ".join(f"{count} {state}" for state, count in trials.items() if count) or "none yet"
    line = f"{study['name']} {study['state']}: {done} of {study['max_trials']} candidates, {counts},"
    return f"{line} {study['front_size']} on the front{'; ' + ENDING if is_ending(study) else ''}"


def is_ending(study: dict[str, Any]) -> bool:
    """Whether all candidates are through, and what is left takes no new ones."""
    trials = study["trials"]
    return study["state"] == StudyState.RUNNING and any(trials.values()) and not any(map(trials.get, OPEN_TRIALS))


def _progress_of(target: dict[str, Any], study: dict[str, Any]) -> str:
    """``12 measured  1 running  3 queued   galaxy-s24-a, galaxy-s24-b``."""
    counts = {what: target[f"num_{what}"] for what in ("running", "queued", "failed")}
    jobs = "".join(f"  {what} [bold]{count}[/]" for what, count in counts.items() if count)
    devices = ", ".join(target["devices"]) or f"waits for {target['wanted']}"
    return f"measured [bold]{target['num_measured']}[/]{jobs}   [dim]{devices}[/]"


def _cell(key: str, member: dict[str, Any]) -> str:
    estimate = member["estimates"].get(key)
    text = number(key, member["values"][key])
    if estimate and estimate["high"] > estimate["low"] and estimate["median"]:
        half = (estimate["high"] - estimate["low"]) / 2 / abs(estimate["median"])
        text += f" [dim]±{half:.1%}[/]"
    again = [(what, member[name]) for name, what in FURTHER.items() if (member.get(name) or {}).get("metric") == key]
    return text + "".join(f"\n[dim]{what}[/] {result['score']:.3f}" for what, result in again)


def _counts(counts: dict[str, int]) -> str:
    return "  ".join(f"{name} [bold]{count}[/]" for name, count in counts.items() if count) or "none yet"
