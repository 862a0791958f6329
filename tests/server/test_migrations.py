"""The migrations lead to exactly the tables that the code uses, on SQLite and (when given) PostgreSQL."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Engine, inspect

from nas.contracts.errors import InvalidConfig
from server.database import make_engine
from server.migrations import alembic_config, upgrade
from server.tables import Base

POSTGRES_URL = os.environ.get("HILNAS_TEST_POSTGRES_URL", "")


def check(engine: Engine) -> None:
    upgrade(engine)
    upgrade(engine)
    assert set(Base.metadata.tables) | {"alembic_version"} == set(inspect(engine).get_table_names())
    config = alembic_config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.check(config)


def test_alembic_check_on_sqlite(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path / 'migrated.sqlite3'}")
    check(engine)
    engine.dispose()


@pytest.mark.skipif(not POSTGRES_URL, reason="HILNAS_TEST_POSTGRES_URL is not set")
def test_alembic_check_on_postgres() -> None:
    engine = make_engine(POSTGRES_URL)
    _drop(engine)
    check(engine)
    _drop(engine)
    engine.dispose()


def _drop(engine: Engine) -> None:
    with engine.begin() as connection:
        Base.metadata.drop_all(connection)
        connection.exec_driver_sql("DROP TABLE IF EXISTS alembic_version")


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path / 'newer.sqlite3'}")
    upgrade(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(InvalidConfig, match="written by a newer hilnas"):
        upgrade(engine)
    engine.dispose()
