"""Every kind of stage, each in a file of its own, here in the order in which a recipe has them. Importing this fills
``STAGES``."""

from trainer.pipeline.stage import STAGES
from trainer.stages.corpus import CorpusStage
from trainer.stages.curriculum import CurriculumStage
from trainer.stages.data import DataStage
from trainer.stages.evaluate import EvaluateStage
from trainer.stages.extend import ExtendStage
from trainer.stages.filter import FilterStage
from trainer.stages.integrate import IntegrateStage
from trainer.stages.pairs import PairsStage
from trainer.stages.preference import PreferenceStage
from trainer.stages.pretrain import PretrainStage
from trainer.stages.qat import QatStage
from trainer.stages.result import ResultStage
from trainer.stages.rl import RlStage
from trainer.stages.sft import SftStage
from trainer.stages.synthetic import SyntheticStage
from trainer.stages.teacher import TeacherStage

__all__ = [
    "STAGES",
    "CorpusStage", "DataStage", "TeacherStage", "PretrainStage", "ExtendStage", "SyntheticStage",
    "FilterStage", "SftStage", "CurriculumStage", "IntegrateStage", "PairsStage", "PreferenceStage",
    "RlStage", "QatStage", "EvaluateStage", "ResultStage",
]  # fmt: skip
