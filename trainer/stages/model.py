"""Stage ``model``: a model that exists, where a chain goes on from one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from foundation.errors import InvalidConfig
from foundation.files import copy_folder
from search_space import cost
from trainer.engine.model_dir import MODEL, ModelDir
from trainer.pipeline.brief import Brief
from trainer.pipeline.fields import in_digest
from trainer.pipeline.stage import STAGES, Stage, StageContext, StageDir

WEIGHTS, CONFIG = "model.safetensors", "config.json"


@STAGES.register("model")
@dataclass(frozen=True)
class ModelStage(Stage):
    """``path`` is a Hugging Face directory of ours with its tokenizer, ``identity`` says which by content."""

    kind: ClassVar[str] = "model"
    title: ClassVar[str] = "a model that exists"
    output: ClassVar[type[StageDir]] = ModelDir
    path: str = field(metadata=in_digest("never"))
    identity: str

    def run(self, context: StageContext) -> dict[str, Any]:
        copy_folder(Path(self.path), context.folder / MODEL)
        return {"params": cost.params(ModelDir(context.folder).arch())}

    def cost(self, costing: object) -> None:
        """A copy."""

    def shortened(self, brief: Brief) -> ModelStage:
        return self


def check_model_folder(path: str) -> dict[str, Any]:
    """Its config. Raises InvalidConfig for a folder without weights, or of another library's layout."""
    folder = Path(path)
    if missing := [name for name in (CONFIG, WEIGHTS, "tokenizer.json") if not (folder / name).exists()]:
        raise InvalidConfig(f"{path} has no {missing[0]}; give the Hugging Face directory of a winner")
    config = json.loads((folder / CONFIG).read_text())
    if "arch" not in config:
        kind = config.get("model_type", "model of another library")
        raise InvalidConfig(f"{path} holds a {kind}, none of ours; `hilnas parent import` makes one of it")
    return dict(config)
