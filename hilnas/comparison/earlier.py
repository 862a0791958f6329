"""Rows of earlier comparisons beside those of a new one, and what forbids it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from contracts.comparison import ComparedRow, Comparison, Settings
from contracts.device import DeviceFacts
from foundation.errors import InvalidConfig
from foundation.json_text import read_json

LIKE = {
    "threads": "--threads", "affinity": "cores", "prompts": "--prompt", "contexts": "--context",
    "cache_dtype": "--cache-dtype",
}  # fmt: skip


def read_comparison(path: Path) -> Comparison:
    """Raises InvalidConfig for a file that is no comparison."""
    try:
        return Comparison.model_validate(read_json(path.read_text()))
    except FileNotFoundError:
        raise InvalidConfig(f"there is no file {path}; `hilnas compare` leaves results under var/comparisons") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise InvalidConfig(f"{path} is not a result of `hilnas compare`: {place}: {first['msg']}") from None
    except (OSError, ValueError) as error:
        raise InvalidConfig(f"{path} is not a result of `hilnas compare`: {error}") from None


def require_alike(earlier: Comparison, path: Path, device: DeviceFacts, settings: Settings) -> None:
    """Raises InvalidConfig with the first difference that forbids one table."""
    if earlier.device.fingerprint != device.fingerprint:
        raise InvalidConfig(
            f"{path} was measured on another device ({describe(earlier.device)}), this is {describe(device)}: times of"
            " two devices do not compare"
        )
    if earlier.device.runner_version != device.runner_version:
        raise InvalidConfig(
            f"{path} was measured by runner {earlier.device.runner_version!r}, this device has"
            f" {device.runner_version!r}: measure its models again"
        )
    for field, option in LIKE.items():
        then, now = getattr(earlier.settings, field), getattr(settings, field)
        if then != now:
            raise InvalidConfig(f"{path} was measured with {option} {_text(then)}, this one with {_text(now)}")


def describe(device: DeviceFacts) -> str:
    return f"{device.model}, {device.cores} cores, fingerprint {device.fingerprint}"


def _text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def require_names(names: Sequence[str]) -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InvalidConfig(f"two rows would be called {twice[0]}: leave it out, or rename one file")


def earlier_rows(comparisons: Sequence[Comparison]) -> list[ComparedRow]:
    return [row for comparison in comparisons for row in comparison.rows]


def joined(earlier: Sequence[tuple[Path, Comparison]], baseline: str | None) -> Comparison:
    """Earlier results in one table, without measuring. Raises InvalidConfig for what differs."""
    _, first = earlier[0]
    for path, other in earlier[1:]:
        require_alike(other, path, first.device, first.settings)
    rows = earlier_rows([one for _, one in earlier])
    require_names([row.name for row in rows])
    if baseline is not None and baseline not in (names := [row.name for row in rows]):
        raise InvalidConfig(f"--baseline {baseline} is not one of the rows: {', '.join(names)}")
    pairs = [pair for _, one in earlier for pair in one.pairs]
    sustained = [row for _, one in earlier for row in one.sustained]
    changes = {"rows": rows, "pairs": pairs, "sustained": sustained, "baseline": baseline or first.baseline}
    return first.model_copy(update=changes)
