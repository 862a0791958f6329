"""The interface of mixers, without torch: validation, costs, states, display, smaller forms; and the torch classes that
train and deploy them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

from foundation.errors import InvalidConfig
from foundation.registry import Registry
from foundation.typed_fields import build, quoted
from search_space.states import StateSpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Linear:
    """Shape of one matrix multiplication: ``in_features`` -> ``out_features``, no bias."""

    in_features: int
    out_features: int

    @property
    def num_params(self) -> int:
        return self.in_features * self.out_features


@dataclass(frozen=True)
class ProxySize:
    """The sizes of a proxy model: its width and that of the model it stands for, its sequence length, and the context
    of a full-size model that this length stands for (a window covers the same share of both)."""

    d_model: int
    original_d_model: int
    length: int
    reference_context: int

    @property
    def ratio(self) -> float:
        return self.d_model / self.original_d_model


@dataclass(frozen=True)
class MixerConfig:
    """Base of all mixers. A mixer is one folder: ``config.py`` (this class), ``module.py`` (torch), ``deploy.py``
    (export form), and one line in ``search_space/mixers/__init__.py``; a plugin registers its class in ``MIXERS``.

    ``title``, ``letter`` and ``colour`` are used in dashboard, terminal and documentation; ``settings`` is a template
    of its options (``{num_heads} heads``; if empty, all options are listed by name). ``traits`` are features for a
    model of quality: ``whole_context`` (reads any earlier token), ``local`` (reads a few tokens back).
    """

    kind: ClassVar[str] = ""
    title: ClassVar[str] = ""
    letter: ClassVar[str] = "?"
    colour: ClassVar[str] = "#888888"
    settings: ClassVar[str] = ""
    identity: ClassVar[bool] = False  # the layer has no mixer and no pre-norm
    traits: ClassVar[tuple[str, ...]] = ()
    rotates: ClassVar[bool] = False  # uses rotary positions, so its block depends on theta and YaRN

    # --- description ---

    def validate(self, d_model: int) -> None:
        """Raises InvalidConfig if this mixer cannot be built at ``d_model``."""

    @property
    def label(self) -> str:
        """Short name with the options that differ from the defaults, e.g. ``gqa(16/8x64)``; unique within a space."""
        return self.kind

    @property
    def details(self) -> str:
        """A short description of its options."""
        options = {f.name: getattr(self, f.name) for f in fields(self)}
        by_name = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in options.items())
        return self.settings.format(**options) if self.settings else by_name

    # --- costs ---

    def linears(self, d_model: int) -> tuple[Linear, ...]:
        """Every matrix multiplication (these are quantized on export)."""
        return ()

    def num_other_params(self, d_model: int) -> int:
        """Parameters that stay in float32 on export: norms inside the mixer, depthwise kernels."""
        return 0

    def states(self, d_model: int) -> tuple[StateSpec, ...]:
        """The states that it keeps between tokens, in the order of its operators' slots."""
        return ()

    def context_macs(self, d_model: int, context: int) -> int:
        """Multiply-adds per decoded token outside the linears, with ``context`` tokens already read."""
        return 0

    def num_params(self, d_model: int) -> int:
        return sum(linear.num_params for linear in self.linears(d_model)) + self.num_other_params(d_model)

    # --- smaller forms ---

    def shrunk(self, size: ProxySize) -> Self:
        """Its counterpart in a proxy model of this size."""
        return self

    def at_debug_size(self, d_model: int) -> Self:
        """Its counterpart in a tiny model for tests and demos."""
        return self

    # --- torch ---

    @classmethod
    def module_class(cls) -> type[nn.Module]:
        """The trainable module (``MixerModule``): ``forward(x_BTD, sequence, cache, layer)``."""
        raise NotImplementedError

    @classmethod
    def deployed_class(cls) -> type[nn.Module]:
        """The export form: ``(trained module, index of its first state)``, then ``forward(x, slots, pos)``."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, **{f.name: getattr(self, f.name) for f in fields(self)}}


MIXERS: Registry[type[MixerConfig]] = Registry("mixer")


def mixer_from_dict(data: dict[str, Any]) -> MixerConfig:
    """Inverse of ``MixerConfig.to_dict``. Raises InvalidConfig with the known kinds or options."""
    kind = data.get("kind")
    cls = MIXERS.get_or_raise(kind)  # type: ignore[arg-type]
    options = {key: value for key, value in data.items() if key != "kind"}
    return build(cls, cls.kind, options, "option")


def require_positive(owner: str, **values: int) -> None:
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise InvalidConfig(f"{owner}: {name} must be a positive whole number, got {quoted(value)}")
