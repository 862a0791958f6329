"""Copies a bundle to a folder chosen by the user, never over something else."""

from __future__ import annotations

import shutil
from pathlib import Path

from device_agents.bundle.manifest import MANIFEST, Bundle
from foundation.errors import InvalidConfig


def copy_bundle(bundle: Bundle, target: Path) -> Bundle:
    if target.exists() and any(target.iterdir()):
        if not (target / MANIFEST).exists():
            raise InvalidConfig(f"{target} is not empty and not a bundle; choose an empty or new folder with --out")
        shutil.rmtree(target)
    shutil.copytree(bundle.path, target, dirs_exist_ok=True)
    return Bundle.load(target)
