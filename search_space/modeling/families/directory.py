"""A Hugging Face directory as a model of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from foundation.errors import InvalidConfig
from search_space.modeling.families.base import FAMILIES, from_stock, read_config
from search_space.modeling.model import HilnasForCausalLM


def load_directory(folder: Path, dtype: torch.dtype = torch.float32) -> HilnasForCausalLM:
    """Configuration and weights of ``folder``, logits equal to transformers'.

    Raises InvalidConfig for a family that is not registered, and with the first field or weight that would be lost.
    """
    if not (folder / "config.json").exists():
        raise InvalidConfig(f"{folder} has no config.json; give a directory as save_pretrained leaves it")
    config: Any = AutoConfig.from_pretrained(folder)
    if isinstance(config.model_type, str) and config.model_type == "hilnas":
        return HilnasForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    read_config(config)
    family = FAMILIES.get_or_raise(config.model_type)
    loaded: Any = family.model_class.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    model, info = loaded
    for kind, words in (("missing_keys", "is missing from"), ("unexpected_keys", "has no place in the model of"),
                        ("mismatched_keys", "has another shape in")):  # fmt: skip
        for name in sorted(map(str, info.get(kind, ()))):
            raise InvalidConfig(
                f"the weight {name} {words} {folder.name}; give a complete checkpoint of {config.model_type}"
            )
    return from_stock(model)
