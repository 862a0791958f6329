"""The databases that a coordinator runs on, as parameters of tests. PostgreSQL runs when HILNAS_TEST_POSTGRES_URL names
a database that may be emptied."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from server.database import make_engine

POSTGRES_URL = os.environ.get("HILNAS_TEST_POSTGRES_URL", "")
needs_postgres = pytest.mark.skipif(not POSTGRES_URL, reason="HILNAS_TEST_POSTGRES_URL is not set")
DATABASES = ["sqlite", pytest.param("postgresql", marks=needs_postgres)]


def empty_database(kind: str, folder: Path) -> str:
    """The URL of a database without tables."""
    if kind == "sqlite":
        return f"sqlite:///{folder / 'empty.sqlite3'}"
    engine = make_engine(POSTGRES_URL)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    engine.dispose()
    return POSTGRES_URL
