"""What a user may name: presets, architecture files and Hugging Face directories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.errors import InvalidConfig
from foundation.json_text import read_json
from search_space.arch import ArchConfig
from search_space.presets import PRESETS, architecture

RANDOM = "random, of its shapes"
OWN = "its own"
WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True)
class NamedModel:
    """``folder``: the Hugging Face directory whose weights are used; None for random weights, which take as long.
    ``weights`` says which and why."""

    name: str
    arch: ArchConfig
    weights: str = RANDOM
    folder: Path | None = None


def named_models(texts: Sequence[str]) -> list[NamedModel]:
    """In the order given; raises InvalidConfig for the first that is none, and for one that is given twice."""
    if twice := [text for text, count in Counter(texts).items() if count > 1]:
        raise InvalidConfig(f"{twice[0]} is given twice; name each model once")
    models = [named_model(text) for text in texts]
    names = Counter(model.name for model in models)
    return [
        NamedModel(text, model.arch, model.weights, model.folder) if names[model.name] > 1 else model
        for text, model in zip(texts, models, strict=True)
    ]


def named_model(text: str) -> NamedModel:
    """Raises InvalidConfig that names ``text``."""
    try:
        return _named_model(text)
    except InvalidConfig as error:
        raise error if text in str(error) else InvalidConfig(f"{text}: {error}") from None


def _named_model(text: str) -> NamedModel:
    path = Path(text)
    if text in PRESETS:
        return NamedModel(text, architecture(text))
    if path.suffix == ".gguf":
        raise InvalidConfig(f"{text} is a GGUF file: give it with --gguf, and llama.cpp's program with --llama-bench")
    if path.is_dir():
        return from_directory(path)
    if not path.exists():
        raise InvalidConfig(
            f"{text!r} is neither a preset ({PRESETS.known}) nor an architecture file (JSON) nor a Hugging Face"
            " directory"
        )
    return NamedModel(path.stem, architecture(text))


def from_directory(folder: Path) -> NamedModel:
    """With its weights where its family can be imported whole, else with its shapes and the reason.

    Raises InvalidConfig when not even the shapes can be read.
    """
    from hilnas.comparison.shapes import shape_of

    config, name = config_of(folder), folder.resolve().name
    if config.get("model_type") == "hilnas":
        return _with_weights(folder, name, ArchConfig.from_dict(config.get("arch") or {}))
    arch, reason = _imported(folder, config)
    if arch is not None:
        return _with_weights(folder, name, arch)
    arch, left_out = shape_of(config)
    why = "; ".join([reason, *left_out])
    return NamedModel(name, arch, f"{RANDOM}: {why}")


def _with_weights(folder: Path, name: str, arch: ArchConfig) -> NamedModel:
    if not any(path for pattern in WEIGHT_FILES for path in folder.glob(pattern)):
        return NamedModel(name, arch, f"{RANDOM}: the directory holds none")
    return NamedModel(name, arch, OWN, folder)


def _imported(folder: Path, config: dict[str, Any]) -> tuple[ArchConfig | None, str]:
    """The architecture of a family that is imported whole, else None and the reason."""
    from transformers import AutoConfig

    from search_space.modeling.families import FAMILIES
    from search_space.modeling.families.base import read_config

    kind = config.get("model_type")
    if kind not in FAMILIES:
        return None, f"weights of {kind} are not imported ({FAMILIES.known} are)"
    try:
        return read_config(AutoConfig.from_pretrained(folder)), ""
    except InvalidConfig as error:
        return None, str(error)
    except (OSError, ValueError, TypeError) as error:
        raise InvalidConfig(f"{folder}/config.json is not a configuration of {kind}: {error}") from None


def config_of(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = read_json(path.read_text())
    except FileNotFoundError:
        raise InvalidConfig(f"{folder} has no config.json; give a directory as save_pretrained leaves it") from None
    except (OSError, ValueError) as error:
        raise InvalidConfig(f"{path} is not JSON: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise InvalidConfig(f"{path} names no model_type; give a directory as save_pretrained leaves it")
    return config
