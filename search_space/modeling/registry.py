"""Mixer kind -> torch module and export form: the torch half of ``search_space.mixers.MIXERS``."""

from __future__ import annotations

from torch import nn

from search_space.arch import ArchConfig
from search_space.mixers import MixerConfig
from search_space.mixers.gated_short_conv.deploy import DeployedGatedShortConv
from search_space.mixers.gated_short_conv.module import GatedShortConvModule
from search_space.mixers.gqa.deploy import DeployedGqa
from search_space.mixers.gqa.module import GqaModule
from search_space.rope import Rope

MODULES: dict[str, type[nn.Module]] = {
    "gated_short_conv": GatedShortConvModule,
    "gqa": GqaModule,
    "sliding_window": GqaModule,
}

DEPLOYED: dict[str, type[nn.Module]] = {
    "gated_short_conv": DeployedGatedShortConv,
    "gqa": DeployedGqa,
    "sliding_window": DeployedGqa,
}


def build_mixer(mixer: MixerConfig, arch: ArchConfig) -> nn.Module | None:
    """The trainable module of a mixer, None for ``skip``."""
    if mixer.is_identity:
        return None
    return MODULES[mixer.kind](mixer, arch.d_model, arch.norm_eps, Rope(arch.rope_theta, arch.yarn))
