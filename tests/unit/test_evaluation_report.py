"""The report: rows against the stage their weights came from, certain differences alone marked, one whole file."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from foundation.errors import InvalidConfig
from trainer.command import app
from trainer.evaluation.report import write_report
from trainer.evaluation.report_rows import report_of


def entry(value: float, low: float, high: float, better: str, n: int = 40, **more: Any) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": n, "better": better, **more}


def metrics(bits: float, share: float) -> dict[str, Any]:
    losses = {f"loss_by_position/{at}": entry(bits + 2, bits + 1.9, bits + 2.1, "low") for at in ("0-31", "32-63")}
    return {
        "bits_per_byte": entry(bits, bits - 0.2, bits + 0.2, "low"),
        "task/tool_calls": entry(share, share - 0.1, share + 0.1, "high", note="2 left out"),
        **losses,
        "retrieval/256/0/gain_nats": entry(0.1, 0.0, 0.2, "high"),
        "retrieval/256/0.5/accuracy": entry(0.0, 0.0, 0.3, "high"),
        "device/peak_rss_bytes": entry(bits * 1e6, bits * 1e6, bits * 1e6, "low", verdict="valid", unit="bytes"),
        "device/decode_ms": entry(2.5, 2.4, 2.6, "low", verdict="valid" if bits < 2.2 else "noisy", unit="ms"),
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run whose two specialists both come from ``sft``; the second is evaluated while the third still trains."""
    folders = {}

    def done(name: str, record: dict[str, Any], rows: dict[str, Any] | None = None) -> None:
        folder = tmp_path / "stages" / f"{name}-0"
        folder.mkdir(parents=True)
        (folder / "done.json").write_text(json.dumps({"metrics": {}, "seconds": 61.2, **record}))
        (folder / "finished.jsonl").write_text(json.dumps({"suite": "s", "rows": rows or {}}) + "\n")
        folders[name] = folder.name

    def evaluated(name: str, bits: float, share: float) -> None:
        rows = {"bits_per_byte": {"rows": [bits * i for i in (1, 2, 3, 4)], "weights": [1, 2, 3, 4]}}
        done(f"evaluate_{name}", {"stage": "evaluate", "metrics": metrics(bits, share)}, rows)

    done("sft", {"stage": "sft", "start": "pretrain"})
    evaluated("sft", 2.0, 0.2)
    done("first", {"stage": "sft", "start": "sft"})
    evaluated("first", 2.5, 0.8)
    done("between", {"stage": "sft", "start": "sft"})
    done("second", {"stage": "sft", "start": "between"})
    evaluated("second", 1.9, 0.25)
    folders["merge"] = "merge-0"
    run = tmp_path / "runs" / "night <1>"
    run.mkdir(parents=True)
    (run / "recipe.json").write_text(json.dumps({"recipe": "tiny", "commit": "c" * 40, "folders": folders}))
    return tmp_path


def test_each_row_is_compared_with_where_its_weights_came_from(root: Path) -> None:
    report = report_of(root, "night <1>")
    assert [(row.subject, row.before) for row in report.rows] == [("sft", None), ("first", "sft"), ("second", "sft")]
    first, second = report.rows[1].cells, report.rows[2].cells
    assert (first["bits_per_byte"].judged, first["task/tool_calls"].judged) == ("worse", "better")
    # intervals overlap, but the same rows gained one by one
    assert second["bits_per_byte"].judged == "better" and second["bits_per_byte"].change.paired
    assert second["task/tool_calls"].judged == "" and not second["task/tool_calls"].change.paired
    # measured noisily, or without an interval: shown, not compared
    assert first["device/decode_ms"].change is None and second["device/decode_ms"].change is not None
    assert not second["device/peak_rss_bytes"].change.certain
    assert [section.title for section in report.sections] == [
        "Text and tasks", "Loss by position", "Retrieval from 256 tokens: gain", "Retrieval from 256 tokens: accuracy",
        "On this device",
    ]  # fmt: skip


class Whole(HTMLParser):
    """Every tag is closed; nothing is loaded."""

    VOID = ("meta", "line", "circle", "rect", "polyline")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not {"src", "href"} & {name for name, _ in attrs}
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_is_one_whole_file_with_a_markdown_twin(root: Path) -> None:
    path = write_report(root, "night <1>")
    text, twin = path.read_text(), path.with_suffix(".md").read_text()
    page = Whole()
    page.feed(text)
    assert not page.open and page.tags.count("table") == 6 and page.tags.count("svg") == 1
    assert "night &lt;1&gt;" in text and "n = 40; 2 left out" in text and "n = 40; noisy" in text
    assert "| first | 2.500 [2.300 – 2.700], +0.500 [" in twin and "+60.0 [+45.9, +74.1] ▲ |" in twin
    assert "| second | done | 61 | 61 | better ▲ " in twin and "| merge | open |" in twin
    assert "evaluate_" not in twin and "Of 16 comparisons about 1 would" not in twin


def test_a_run_without_evaluations_says_so(root: Path) -> None:
    recipe = root / "runs" / "night <1>" / "recipe.json"
    plain = json.loads(recipe.read_text())
    recipe.write_text(json.dumps({**plain, "folders": {"sft": "sft-0"}}))
    assert "No stage has been evaluated yet." in write_report(root, "night <1>").read_text()


def test_the_command_prints_where_the_page_is(root: Path) -> None:
    told = CliRunner().invoke(app, ["report", "night <1>", "--root", str(root)])
    assert told.exit_code == 0 and Path(told.output.strip()).name == "report.html"
    with pytest.raises(InvalidConfig, match="no run 'day' under .*; there: night <1>"):
        report_of(root, "day")


def test_what_filters_dropped_is_shown(tmp_path: Path) -> None:
    from trainer.evaluation.report_filters import filters_html, filters_markdown, filters_of

    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "recipe.json").write_text(json.dumps({"folders": {"sft_data": "x", "data": "y"}}))
    assert filters_of(tmp_path, "one") == [] and filters_markdown([]) == [] and filters_html([]) == ""
    (tmp_path / "stages" / "x").mkdir(parents=True)
    shown = [{"prompt": "a <b> | c", "answer": "d\ne", "reason": "cut off"}]
    entry = {"filter": "style", "seen": 1200, "dropped": 2, "reasons": {"cut off": 2}, "shown": shown}
    (tmp_path / "stages" / "x" / "report.json").write_text(json.dumps([entry]))
    filters = filters_of(tmp_path, "one")
    assert "| style | 1,200 | 2 | cut off (2); “a <b> / c → d e” |" in filters_markdown(filters)
    assert "a &lt;b&gt; | c → d e" in filters_html(filters)
