"""The dashboard's pages in Chromium: scripts load without an error and draw what the coordinator knows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.comparison import made_up
from tests.e2e.processes import Service
from tests.server import seed_demo

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
SETTLED_MS = 15_000  # of the page's own clock, which does not wait for anything


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    if BROWSER is None and os.environ.get("HILNAS_REQUIRE_BROWSER") == "1":
        pytest.fail("HILNAS_REQUIRE_BROWSER=1, and there is no chromium")
    if BROWSER is None:
        pytest.skip("no chromium: apt-get install chromium")
    var = tmp_path_factory.mktemp("dashboard") / "var"
    seed_demo.main(var)
    service = Service(var)
    service.start_coordinator()
    yield service
    service.close()


def shown(service: Service, path: str, profile: Path) -> str:
    """The page's document once its scripts have run. Fails with what the console says of an error."""
    assert BROWSER is not None
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--window-size=1280,1600")
    given = (f"--user-data-dir={profile}", f"--virtual-time-budget={SETTLED_MS}", "--dump-dom", f"{service.url}{path}")
    done = subprocess.run(
        [BROWSER, *flags, *given], capture_output=True, text=True, errors="replace", timeout=120, check=False
    )
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    errors = [line for line in said if re.search("Uncaught|Refused|Error", line)]
    assert not errors, "\n".join(errors)
    return done.stdout


def test_a_study_with_its_front_and_its_candidates(service: Service, tmp_path: Path) -> None:
    (study,) = service.get("/studies")
    front = service.get(f"/studies/{study['id']}/front")
    page = shown(service, f"/studies/{study['id']}", tmp_path)
    for member in front["members"]:
        assert f"#{member['number']}" in page
    assert "knee" in page and study["name"] in page and "<svg" in page


@pytest.mark.parametrize(("path", "words"), [("/trainings", "training"), ("/comparisons", "Nothing published yet")])
def test_other_pages_say_what_there_is(service: Service, path: str, words: str, tmp_path: Path) -> None:
    assert words in shown(service, path, tmp_path)


def test_a_published_comparison(service: Service, tmp_path: Path) -> None:
    result = made_up()
    kept = service.post("/comparisons", result.model_dump(mode="json"))
    page = shown(service, f"/comparisons/{kept['id']}", tmp_path)
    for words in ("fast", "slow", "busy", "the canary moved", result.device.fingerprint, result.command):
        assert words in page
