"""Parts as the API shows them: a name for requests, a title to show, and how to draw or sort it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel


class Part(BaseModel):
    name: str
    title: str


class MixerPart(Part):
    """``settings`` is a template of the mixer's options, with ``{option}`` in place of a value; if empty, all options
    are listed by name. ``identity``: the layer has no mixer."""

    letter: str
    colour: str
    traits: list[str]
    settings: str
    identity: bool


class BackendPart(Part):
    quantizations: list[str]


class EstimatorPart(Part):
    """``metric``: what it estimates, with its unit and direction among the metrics. ``options``: the JSON schema of its
    options."""

    metric: str
    options: dict[str, Any]


class ProtocolPart(Part):
    prefill_lengths: list[int]
    decode_contexts: list[int]


class MetricPart(BaseModel):
    """``key`` without its context: ``key@512`` if it takes one."""

    key: str
    title: str
    unit: str
    direction: Literal["min", "max"]
    source: Literal["closed_form", "device", "quality"]
    takes_context: bool


class RegistryView(BaseModel):
    """``device_kinds`` are the built-in ones, those of plugins in this process and those of enrolled devices;
    ``recipes`` are those that enrolled trainers report."""

    mixers: list[MixerPart]
    spaces: list[Part]
    samplers: list[Part]
    quality_estimators: list[EstimatorPart]
    quantizations: list[Part]
    backends: list[BackendPart]
    protocols: list[ProtocolPart]
    device_kinds: list[Part]
    metrics: list[MetricPart]
    recipes: list[Part]
