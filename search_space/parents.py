"""Parents by name: models that exist, imported with ``hilnas parent import``. Reads plain files; imports no torch.

parents/<name>/config.json        as a Hugging Face directory of ours, with weights and tokenizer beside it
parents/<name>/parent.json        where it came from
parents/<name>/text/              tokens of calibration and held-out text, bytes of every token
parents/<name>/blocks/            learnt blocks, content-addressed
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig

RECORD, TEXT = "parent.json", "text"
COMPOSED_FROM = "composed_from.json"  # beside the weights of a candidate: whose child it is


def parents_folder() -> Path:
    """Beside everything else that is kept: under HILNAS_VAR, by default ``var``."""
    return Path(os.environ.get("HILNAS_VAR") or "var") / "parents"


def parent_names() -> list[str]:
    return sorted(path.parent.name for path in parents_folder().glob(f"*/{RECORD}"))


def parent_folder(name: str) -> Path:
    """Raises InvalidConfig naming the parents that are there."""
    if name not in parent_names():
        known = ", ".join(parent_names()) or "none"
        raise InvalidConfig(f"unknown parent {name!r}; known: {known} (`hilnas parent import NAME DIR` adds one)")
    return parents_folder() / name


def parent_record(name: str) -> dict[str, Any]:
    return json.loads((parent_folder(name) / RECORD).read_text())


def parent_arch(name: str) -> ArchConfig:
    return ArchConfig.from_dict(json.loads((parent_folder(name) / "config.json").read_text())["arch"])
