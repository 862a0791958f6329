"""A study on another backend than the first: compiled, measured, confirmed as one piece on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.processes import Service, run_hilnas

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
SPEC = {
    "name": "portable",
    "space": "debug_space",
    "space_options": {"depth": 1, "d_model": 64, "vocab_size": 256},
    "objectives": [{"metric": "decode_ms@256"}, {"metric": "params"}],
    "quantization": "fp32",
    "backend": "portable",
    "sampler": "random",
    "protocol": "quick",
    "precision": 0.9,  # this is about programs, not about a quiet machine
    "max_trials": 2,
    "confirm": 1,
}


def test_a_study_on_portable_kernels_runs_through(tmp_path: Path, runner: Path) -> None:
    (tmp_path / "study.json").write_text(json.dumps(SPEC))
    with Service(tmp_path / "var") as service:
        service.start_coordinator()
        service.start_agent()
        refused = run_hilnas("search", "start", "--backend", "portable", "--url", service.url)
        assert refused.returncode == 2
        assert "backend portable does not run '8da4w' programs; it runs fp32" in refused.stderr
        done = run_hilnas("search", "start", "--file", str(tmp_path / "study.json"), "--url", service.url, "--json")
        assert done.returncode == 0, done.stderr
        study = service.wait_until_ended(json.loads(done.stdout)["id"], 240)
        assert (study["state"], study["trials"]) == ("finished", {"complete": 2}), study["reason"]
        (winner,) = [
            trial for trial in service.get(f"/studies/{study['id']}/trials") if trial["artifacts"].get("one_piece")
        ]
        (row,) = winner["measurements"].values()
        (whole,) = winner["confirmed"].values()
        assert (row["verdict"], row["agent_verdict"]) == ("valid", None)
        assert "decode_ms@256" in whole["beside"], whole["reason"]
        rows = service.get(f"/trials/{winner['id']}/measurements")
        events = [event for one in rows for run in one["measurement"]["events"] for event in run]
        checks = [event["passed"] for event in events if event["event"] == "check"]
        assert checks and all(checks)
        for program in [*winner["blocks"], winner["artifacts"]["one_piece"]]:
            content = service.http.get(f"/artifacts/{program}").content
            assert content and b"XnnpackBackend" not in content, "nothing is delegated"
