"""What an agent's install must not need, and the arrows between packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
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
