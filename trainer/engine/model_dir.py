"""What a stage that trains leaves: a Hugging Face directory with its tokenizer."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from search_space.arch import ArchConfig
from search_space.modeling.configuration import HilnasConfig
from search_space.modeling.model import HilnasForCausalLM
from trainer.data.token_dir import TokenDir
from trainer.pipeline.stage import StageDir

MODEL = "model"


@dataclass(frozen=True)
class ModelDir(StageDir):
    what: ClassVar[str] = "a model"
    required: ClassVar[tuple[str, ...]] = (f"{MODEL}/model.safetensors", f"{MODEL}/config.json")

    @property
    def path(self) -> Path:
        """The Hugging Face directory."""
        return self.folder / MODEL

    def arch(self) -> ArchConfig:
        return HilnasConfig.from_pretrained(self.path).to_arch()

    def load(self, **options: Any) -> HilnasForCausalLM:
        """``options`` as transformers' ``from_pretrained`` has them."""
        return HilnasForCausalLM.from_pretrained(self.path, **options)

    def tokenizer(self) -> Any:
        """As transformers wraps it, with its chat template."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.path)

    def save(self, model: HilnasForCausalLM, tokens: TokenDir) -> None:
        """Weights, and the tokenizer that the model was trained with."""
        model.save_pretrained(self.path)
        tokens.copy_tokenizer(self.path)

    def copy_to(self, stage: Path) -> None:
        """The model as it is, as what the stage in ``stage`` leaves."""
        shutil.copytree(self.path, stage / MODEL, dirs_exist_ok=True)


def on_device(model: HilnasForCausalLM) -> HilnasForCausalLM:
    """On the GPU where there is one."""
    return model.to("cuda" if torch.cuda.is_available() else "cpu")  # type: ignore[arg-type]
