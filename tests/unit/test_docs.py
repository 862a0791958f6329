"""The pages under docs/ name everything there is: metrics, verdicts, states, commands, endpoints, settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from contracts.measurement import Verdict
from contracts.metrics import METRICS
from contracts.plan import PROTOCOLS
from hilnas.cli.main import HELP
from server.app import ROUTERS

ROOT = Path(__file__).parents[2]
METRICS_PAGE = (ROOT / "docs" / "metrics.md").read_text()
COMMANDS_PAGE = (ROOT / "docs" / "commands.md").read_text()
PACKAGES = (
    "foundation", "contracts", "hilnas", "nas", "server", "device_agents", "trainer", "virtual_phone",
)  # fmt: skip
SOURCES = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]


def api_prefixes() -> set[str]:
    """``/studies`` of ``/studies/{study_id}/front``."""
    return {f"/{route.path.split('/')[1]}" for router in ROUTERS for route in router.routes}


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_has_a_heading(name: str) -> None:
    assert re.search(rf"^### {name}$", METRICS_PAGE, re.MULTILINE)


def test_no_heading_names_a_metric_that_is_none() -> None:
    section = METRICS_PAGE.split("## Front")[0]
    assert set(re.findall(r"^### (\w+)$", section, re.MULTILINE)) == set(METRICS)


@pytest.mark.parametrize("name", [*Verdict, *PROTOCOLS])
def test_every_verdict_and_protocol_is_explained(name: str) -> None:
    assert f"| `{name}` |" in METRICS_PAGE


@pytest.mark.parametrize("name", HELP)
def test_every_command_is_named(name: str) -> None:
    assert f"`hilnas {name}" in COMMANDS_PAGE


@pytest.mark.parametrize("prefix", sorted(api_prefixes()))
def test_every_endpoint_is_named(prefix: str) -> None:
    assert f"`{prefix}`" in COMMANDS_PAGE


def test_every_environment_variable_is_named() -> None:
    used = {name for path in SOURCES for name in re.findall(r"HILNAS_[A-Z_]*[A-Z]", path.read_text())}
    assert used - {name for name in used if name in COMMANDS_PAGE} == set()


def test_every_page_the_pages_link_to_exists() -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_kept_result_is_listed() -> None:
    results = ROOT / "benchmarks" / "results"
    listed = set(re.findall(r"^\| `(\w+)` \|", (results / "README.md").read_text(), re.MULTILINE))
    assert listed == {path.stem for path in results.glob("*.json")}


def test_every_path_of_the_sources_that_a_page_names_exists() -> None:
    folders = "|".join((*PACKAGES, "search_space", "kernels", "benchmarks", "tests", "examples"))
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for name in re.findall(rf"`((?:{folders})/[\w./]*\w/?)", page.read_text()):
            assert any((ROOT / f"{name}{ending}").exists() for ending in ("", ".py")), f"{page.name} names {name}"
