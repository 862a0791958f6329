"""Reads the registries of this process and the facts that enrolled devices report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy.orm import Session

from contracts.device import KINDS, describe_kind
from contracts.metrics import METRICS
from contracts.plan import PROTOCOLS
from contracts.values import clean_text
from foundation.registry import REGISTRIES, title_of
from nas.export.backends import BACKENDS
from nas.quality.contract import ESTIMATORS
from nas.samplers import SAMPLERS
from search_space.cost import QUANTIZATIONS
from search_space.mixers import MIXERS
from search_space.space import SPACES
from server.devices import repository as devices
from server.registry.schemas import BackendPart, EstimatorPart, MetricPart, MixerPart, Part, ProtocolPart, RegistryView
from server.tables import DeviceRow

MAX_RECIPES, MAX_NAME, MAX_TITLE = 200, 120, 300  # recipes of one trainer; characters of a name and a title


def view(session: Session) -> RegistryView:
    enrolled = devices.all_devices(session)
    return RegistryView(
        mixers=[
            MixerPart(name=kind, title=title_of(mixer), letter=mixer.letter, colour=mixer.colour,
                      traits=list(mixer.traits), settings=mixer.settings, identity=mixer.identity)
            for kind, mixer in MIXERS.items()
        ],
        spaces=_parts(SPACES), samplers=_parts(SAMPLERS), quality_estimators=_estimators(),
        quantizations=[Part(name=name, title=title) for name, title in QUANTIZATIONS.items()],
        backends=[
            BackendPart(name=name, title=title_of(backend), quantizations=list(backend.min_sqnr_db))
            for name, backend in BACKENDS.items()
        ],
        protocols=_protocols(), device_kinds=_device_kinds(enrolled), metrics=_metrics(), recipes=_recipes(enrolled),
    )  # fmt: skip


def _parts(registry: Mapping[str, Any]) -> list[Part]:
    return [Part(name=name, title=title_of(part)) for name, part in registry.items()]


def _estimators() -> list[EstimatorPart]:
    return [
        EstimatorPart(name=name, title=title_of(one), metric=one.metric, options=one.Options.model_json_schema())
        for name, one in ESTIMATORS.items()
    ]


def _protocols() -> list[ProtocolPart]:
    found = []
    for name, make in PROTOCOLS.items():
        protocol = make()
        found.append(ProtocolPart(name=name, title=title_of(make), prefill_lengths=protocol.prefill_lengths,
                                  decode_contexts=protocol.decode_contexts))  # fmt: skip
    return found


def _metrics() -> list[MetricPart]:
    return [
        MetricPart(
            key=metric.name, title=metric.definition, unit=metric.unit, direction=metric.direction,
            source=metric.source, takes_context=metric.takes_context,
        )
        for metric in METRICS.values()
    ]  # fmt: skip


def _device_kinds(enrolled: Iterable[DeviceRow]) -> list[Part]:
    """The coordinator need not have the agents' package: kinds of plugins are known only if this process loaded it."""
    plugins = {name: title_of(part) for name, part in REGISTRIES.get("device kind", {}).items() if name not in KINDS}
    seen = {kind: describe_kind(kind) for kind in (devices.facts_of(row).kind for row in enrolled)}
    return [Part(name=name, title=title) for name, title in (seen | plugins | KINDS).items()]


def _recipes(enrolled: Iterable[DeviceRow]) -> list[Part]:
    """The union over trainers that take work; for a name that two report, the first title is shown."""
    found: dict[str, str] = {}
    for row in enrolled:
        recipes = devices.facts_of(row).details.get("recipes")
        if "train" not in row.serves or row.draining or not isinstance(recipes, dict):
            continue
        for name, title in list(recipes.items())[:MAX_RECIPES]:
            if name and len(name) <= MAX_NAME and isinstance(title, str):
                found.setdefault(name, clean_text(title, MAX_TITLE))
    return [Part(name=name, title=title) for name, title in sorted(found.items())]
