"""Packaged Alembic migrations: ``upgrade(engine)`` migrates a database of any age to the newest schema."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Engine, text

from foundation.errors import InvalidConfig

LOCK = 7_311_204  # PostgreSQL advisory lock: coordinators that start together upgrade one after the other


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def upgrade(engine: Engine) -> None:
    config = alembic_config()
    with engine.execution_options(hilnas_write=True).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:  # an unknown revision: never touch what a newer version wrote
            raise InvalidConfig(f"the database was written by a newer hilnas ({error}); upgrade this one") from error
