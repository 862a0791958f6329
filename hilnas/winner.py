"""The winner of a small search on this machine, with its own coordinator and agent: the default architecture of a
recipe."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from foundation.files import write_atomically
from hilnas.cli.search import watch_study
from hilnas.service import local_service
from search_space.arch import ArchConfig

STUDY: dict[str, Any] = {
    "name": "tiny-winner", "space": "debug_space", "space_options": {"vocab_size": 4096},
    "objectives": [{"metric": "quality"}, {"metric": "decode_ms@1024"}, {"metric": "params", "budget": 7e6}],
    "sampler": "nsga2", "protocol": "quick", "max_trials": 12, "max_quality": 6, "confirm": 0,
    "quality": {"options": {"steps": 120, "width": 64}},
}  # fmt: skip


def searched_winner(path: Path, port: int) -> ArchConfig:
    """The knee of the search; cached in ``path``."""
    if not path.exists():
        with tempfile.TemporaryDirectory() as folder:
            knee = _search(Path(folder), port)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(knee["arch"]))
    return ArchConfig.from_dict(json.loads(path.read_text()))


def _search(var: Path, port: int) -> dict[str, Any]:
    with local_service(var, port) as rest:
        study = watch_study(rest, str(rest.post("/studies", STUDY)["id"]))
        members = rest.get(f"/studies/{study['id']}/front")["members"]
    return next(dict(member) for member in members if member["knee"])
