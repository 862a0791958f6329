"""The metric table: the one definition of each number. ``docs/metrics.md`` is checked against it.

A metric at a context is written ``name@context``, e.g. ``decode_ms@4096``; on one target of a study
``name@context:target``, e.g. ``decode_ms@4096:s24``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from foundation.errors import InvalidConfig

Direction = Literal["min", "max"]


class Metric(BaseModel):
    """``source``: closed_form (free), device (measured), quality (trained), so that cheap ones are read first."""

    model_config = ConfigDict(frozen=True)
    name: str
    unit: str
    direction: Direction
    source: Literal["closed_form", "device", "quality"]
    takes_context: bool
    definition: str


def _metric(
    name: str,
    unit: str,
    direction: Direction,
    source: Literal["closed_form", "device", "quality"],
    takes_context: bool,
    definition: str,
) -> Metric:
    return Metric(
        name=name, unit=unit, direction=direction, source=source, takes_context=takes_context, definition=definition
    )


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _metric("params", "count", "min", "closed_form", False, "trainable parameters, tied embeddings counted once"),
        _metric("effective_params", "count", "min", "closed_form", False, "parameters outside embedding and head"),
        _metric("embedding_share", "ratio", "min", "closed_form", False, "embedding parameters over all parameters"),
        _metric(
            "weight_bytes", "bytes", "min", "closed_form", False, "weights as deployed in the study's quantization"
        ),
        _metric("cache_bytes", "bytes", "min", "closed_form", True, "decode state once that many tokens were read"),
        _metric("decode_bytes", "bytes", "min", "closed_form", True, "bytes read to decode one token at that context"),
        _metric("memory_bytes", "bytes", "min", "closed_form", True, "weight_bytes + cache_bytes at that context"),
        _metric(
            "prefill_ms", "ms", "min", "device", True, "first chunk in to last-token logits out, prompt of that length"
        ),
        _metric("prefill_tok_s", "tok/s", "max", "device", True, "prompt length over prefill time"),
        _metric("ttft_ms", "ms", "min", "device", True, "prompt in to first sampled token out, model loaded"),
        _metric("decode_ms", "ms", "min", "device", True, "one decoded token at that context, median over tokens"),
        _metric("decode_tok_s", "tok/s", "max", "device", True, "1000 / decode_ms"),
        _metric("itl_ms_p50", "ms", "min", "device", True, "median time between tokens"),
        _metric("itl_ms_p95", "ms", "min", "device", True, "95th percentile of the time between tokens"),
        _metric("load_ms", "ms", "min", "device", False, "open files to all weights packed"),
        _metric("peak_rss_bytes", "bytes", "min", "device", False, "VmHWM of a process that holds one model"),
        _metric("quality", "score", "max", "quality", False, "mean task accuracy of the quality estimator, 0 to 1"),
        _metric("bits_per_byte", "bits/byte", "min", "quality", False, "of unseen text, as the estimator reads it"),
        _metric("log_params", "ln(count)", "max", "quality", False, "natural logarithm of effective_params"),
    )
}


CONTEXT = re.compile(r"0*[1-9][0-9]{0,8}")
MAX_QUOTED = 60  # characters of a key in a message
TARGET_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


@dataclass(frozen=True)
class MetricKey:
    """``decode_ms@512:s24`` taken apart. Without a target a device metric means the worst over all targets."""

    metric: Metric
    context: int | None = None
    target: str = ""

    @classmethod
    def parse(cls, key: str) -> MetricKey:
        """Raises InvalidConfig with the known metrics, or with what the key is missing."""
        base, colon, target = key.partition(":")
        name, at, context = base.partition("@")
        metric, given = METRICS.get(name), _quoted(key)
        if metric is None:
            raise InvalidConfig(f"unknown metric {_quoted(name)}; known metrics: {', '.join(METRICS)}")
        if metric.takes_context and not CONTEXT.fullmatch(context):
            wanted = "takes a context of 1 to 999999999 tokens" if context else "needs a context"
            raise InvalidConfig(f"{name} {wanted}, e.g. {name}@512; got {given}")
        if not metric.takes_context and at:
            raise InvalidConfig(f"{name} takes no context; got {given}")
        if colon and metric.source != "device":
            raise InvalidConfig(f"{name} is the same on every device, so it takes no target; got {given}")
        if colon and not TARGET_NAME.fullmatch(target):
            raise InvalidConfig(f"expected a target name after the colon, e.g. {base}:s24; got {given}")
        return cls(metric, int(context) if context else None, target)

    @property
    def text(self) -> str:
        """The one way to write this key: ``decode_ms@0512`` is ``decode_ms@512``."""
        return self.on(self.target) if self.target else self.base

    @property
    def base(self) -> str:
        """The key without its target, as in a measurement row."""
        return self.metric.name if self.context is None else f"{self.metric.name}@{self.context}"

    def on(self, target: str) -> str:
        """The same metric on one target."""
        return f"{self.base}:{target}"


def _quoted(text: str) -> str:
    return repr(text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…")


def parse_metric(key: str) -> tuple[Metric, int | None]:
    """``decode_ms@4096:s24`` -> (metric, 4096), for callers that ignore the target."""
    parsed = MetricKey.parse(key)
    return parsed.metric, parsed.context
