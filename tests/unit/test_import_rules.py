"""What an agent's install must not need, and the arrows between packages."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from hilnas.cli.bench import benchmark_names

ROOT = Path(__file__).parents[2]
SHARED_BY_BENCHMARKS = {
    "benchmarks.record", "benchmarks.intervals", "benchmarks.resume", "benchmarks.quality_data",
    "benchmarks.quality_truth", "benchmarks.landscape",
    "benchmarks.landscape_list", "benchmarks.landscape_pack", "benchmarks.landscape_parent",
    "benchmarks.landscape_space", "benchmarks.landscape_text",
}  # fmt: skip
HEAVY = ("torch", "transformers", "executorch", "optuna", "numpy", "fastapi", "sqlalchemy")


@pytest.mark.parametrize(
    "module", ["device_agents.agent", "device_agents.command", "hilnas.cli.search", "hilnas.cli.main"]
)
def test_agents_and_commands_load_without_the_heavy_packages(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == []


def test_packages_import_downwards_only() -> None:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def imports_of(path: Path) -> set[str]:
    tree = ast.walk(ast.parse(path.read_text()))
    names: set[str] = set()
    for node in tree:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "benchmarks":
            names |= {f"benchmarks.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_no_benchmark_imports_another(path: Path) -> None:
    found = {name for name in imports_of(path) if name.startswith("benchmarks")}
    assert found <= SHARED_BY_BENCHMARKS


def test_every_module_but_the_shared_ones_is_a_benchmark() -> None:
    modules = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - {"__init__"}
    shared = {name.removeprefix("benchmarks.") for name in SHARED_BY_BENCHMARKS}
    names = benchmark_names()
    assert set(names) == modules - shared and len(names) == len(set(names))
    assert names.index("recipe_tiny") < names.index("ablations"), "it reads what the other leaves"
