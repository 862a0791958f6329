"""The migrations lead to exactly the tables that the code uses, on SQLite and (when given) PostgreSQL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Connection, Engine, inspect, text

from contracts.device import DeviceFacts
from contracts.study import StudySpec
from foundation.errors import InvalidConfig
from server.app import create_app
from server.database import make_engine
from server.migrations import alembic_config, upgrade
from server.settings import Settings
from server.tables import Base
from tests.server import samples
from tests.server.helpers import local_client


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


def test_alembic_check_on_postgres(postgres_url: str) -> None:
    engine = make_engine(postgres_url)
    _drop(engine)
    check(engine)
    _drop(engine)
    engine.dispose()


def _drop(engine: Engine) -> None:
    with engine.begin() as connection:
        Base.metadata.drop_all(connection)
        connection.exec_driver_sql("DROP TABLE IF EXISTS alembic_version")


def insert(connection: Connection, table: str, **values: Any) -> None:
    texts = {name: json.dumps(value) if isinstance(value, dict | list) else value for name, value in values.items()}
    names = ", ".join(f'"{name}"' for name in texts)
    connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({', '.join(':' + n for n in texts)})"), texts)


def test_a_study_from_before_there_were_targets_goes_on(tmp_path: Path) -> None:
    """Rows as the first schema kept them: the study loads, its device is found, its row counts, its front is there."""
    settings = Settings(var=tmp_path)
    engine = make_engine(settings.url)
    config = alembic_config()
    spec = StudySpec.model_validate(samples.spec(objectives=[{"metric": "decode_ms@256"}])).model_dump(mode="json")
    del spec["targets"]
    now = "2026-01-05 09:00:00.000000"
    facts = DeviceFacts.model_validate(samples.facts())
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        insert(connection, "studies", id="s", name="old", state="stopped", reason="", spec=spec, reference_point={},
               runs=1, created_at=now)  # fmt: skip
        insert(connection, "devices", id="d", name=facts.name, fingerprint=facts.fingerprint,
               facts=facts.model_dump(mode="json"), serves=["measure"], draining=False, canary={}, last_seen=now,
               created_at=now)  # fmt: skip
        insert(connection, "trials", id="t", study_id="s", number=0, state="complete", reason="", assignment={},
               arch=samples.arch(), arch_digest="a", costs={}, blocks=[], values={"decode_ms@256": 5.0}, artifacts={},
               created_at=now, updated_at=now)  # fmt: skip
        insert(connection, "measurements", id="m", trial_id="t", device_id="d", fingerprint=facts.fingerprint,
               plan_digest=samples.plan().digest, form="composed", verdict="valid", body=samples.measurement(),
               created_at=now)  # fmt: skip
    engine.dispose()
    app = create_app(settings, supervise=False)
    client = local_client(app)
    assert client.get("studies/s").json()["targets"] == []
    (member,) = client.get("studies/s/front").json()["members"]
    assert member["estimates"]["decode_ms@256"]["median"] == 5.0
    (trial,) = client.get("studies/s/trials").json()
    assert list(trial["measurements"]) == ["d"]
    (device,) = client.get("devices").json()
    assert (device["quarantine"], device["num_queued"]) == ("", 0)
    assert client.post("studies/s/resume").json()["state"] == "running"
    app.state.context.database.dispose()


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path / 'newer.sqlite3'}")
    upgrade(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(InvalidConfig, match="written by a newer hilnas"):
        upgrade(engine)
    engine.dispose()
