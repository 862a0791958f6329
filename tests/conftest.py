"""Shared fixtures. Folders are named by what their tests need: unit (nothing), property (hypothesis), contract (every
implementation of a protocol), server (an app), parity (torch, the compiled runner), e2e (real processes).

``tests/run`` runs those that share the machine in several processes (pytest-xdist), a file at a time, then those marked
``alone``. Processes share build/test-library and the phone bundle, which are made for that; a database is their own.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
if WORKER:  # before torch is imported: two processes with a thread each, not threads that wait for each other's cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
SEED = int(os.environ.get("HILNAS_TEST_SEED", "0"))
ROOT = Path(__file__).parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("hilnas")
    group.addoption("--part", choices=("shared", "alone"), help="without or with tests marked alone; default: both")
    group.addoption("--without-slow-ci", action="store_true", help="without tests marked slow_ci")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    part, without_slow = config.getoption("part"), config.getoption("without_slow_ci")

    def wanted(item: pytest.Item) -> bool:
        alone, slow = (item.get_closest_marker(name) is not None for name in ("alone", "slow_ci"))
        return not (slow and without_slow) and part in (None, "alone" if alone else "shared")

    unwanted = [item for item in items if not wanted(item)]
    config.hook.pytest_deselected(items=unwanted)
    items[:] = [item for item in items if wanted(item)]


def pytest_report_header() -> str:
    return f"hilnas seed {SEED} (HILNAS_TEST_SEED)"


@pytest.fixture
def rng() -> random.Random:
    return random.Random(SEED)


@pytest.fixture(scope="session")
def runner() -> Path:
    path = ROOT / "build" / "kernels" / "hilnas-runner"
    if not path.exists():
        pytest.fail("the runner is not built: `make setup` builds it")
    return path


@pytest.fixture(scope="session")
def library():
    """One block library for all tests of a checkout: what one compiled, the next reuses."""
    from nas.export.library import BlockLibrary

    shared = BlockLibrary(ROOT / "build" / "test-library", workers=1 if WORKER else 2)
    yield shared
    shared.close()


@pytest.fixture(scope="session")
def phone_bundle():
    """The aarch64 bundle with qemu to run it. A machine without the cross tools skips; CI must not (the variable)."""
    from device_agents.bundle.build import build_bundle
    from device_agents.bundle.toolchain import Compiler, find_emulator
    from foundation.errors import InvalidConfig

    try:
        Compiler.find()
        find_emulator()
    except InvalidConfig as error:
        if os.environ.get("HILNAS_REQUIRE_PHONE") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))
    return build_bundle()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """An empty database that may be written to: that of HILNAS_TEST_POSTGRES_URL, or in each of several test processes
    one of its own beside it."""
    given = os.environ.get("HILNAS_TEST_POSTGRES_URL", "")
    if not given:
        pytest.skip("HILNAS_TEST_POSTGRES_URL is not set")
    if not WORKER:
        yield given
        return
    from sqlalchemy import make_url

    from server.database import make_engine

    url = make_url(given)
    own = url.set(database=f"{url.database}_{WORKER}")
    engine = make_engine(given)
    server = engine.execution_options(isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.exec_driver_sql(f'DROP DATABASE IF EXISTS "{own.database}"')
        connection.exec_driver_sql(f'CREATE DATABASE "{own.database}"')
    yield own.render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.exec_driver_sql(f'DROP DATABASE "{own.database}" WITH (FORCE)')
    engine.dispose()
