"""The architecture that a person names for a recipe."""

from __future__ import annotations

import json
from pathlib import Path

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig
from search_space.presets import architecture


def architecture_of(text: str | None) -> ArchConfig | None:
    """An architecture file, a Hugging Face directory of ours, or a preset."""
    if text is None:
        return None
    config = Path(text) / "config.json"
    if not config.exists():
        return architecture(text)
    try:
        plain = json.loads(config.read_text())
        return ArchConfig.from_dict(plain["arch"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        kind = plain.get("model_type") if isinstance(error, KeyError) and isinstance(plain, dict) else None
        what = f"holds a model of type {kind!r}, not one of hilnas" if kind else f"cannot be read ({error})"
        raise InvalidConfig(
            f"--arch {text}: its config.json {what}; give a preset, an architecture file or a model of hilnas"
        ) from error
