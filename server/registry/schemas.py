"""Parts as the API shows them: a name to say in a request, a title to show, and what draws or orders it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Part(BaseModel):
    name: str
    title: str


class MixerPart(Part):
    """``settings``: a mixer's options in words, ``{option}`` standing for its value; all options by name where it is
    empty. ``identity``: the layer has no mixer."""

    letter: str
    colour: str
    traits: list[str]
    settings: str
    identity: bool


class BackendPart(Part):
    quantizations: list[str]


class ProtocolPart(Part):
    prefill_lengths: list[int]
    decode_contexts: list[int]


class MetricPart(BaseModel):
    """``key`` without its context: ``key@512`` where it takes one."""

    key: str
    title: str
    unit: str
    direction: Literal["min", "max"]
    source: Literal["closed_form", "device", "quality"]
    takes_context: bool


class RegistryView(BaseModel):
    """``device_kinds`` are those that come with hilnas, that plugins of this process brought, and of enrolled devices;
    ``recipes`` what enrolled trainers say that they run."""

    mixers: list[MixerPart]
    spaces: list[Part]
    samplers: list[Part]
    quality_estimators: list[Part]
    quantizations: list[Part]
    backends: list[BackendPart]
    protocols: list[ProtocolPart]
    device_kinds: list[Part]
    metrics: list[MetricPart]
    recipes: list[Part]
