"""Alembic's entry point: runs on the given connection (``server.migrations.upgrade``), else on HILNAS_DATABASE_URL."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from server.database import make_engine
from server.settings import Settings
from server.tables import Base


def run(connection: Connection) -> None:
    context.configure(
        connection=connection, target_metadata=Base.metadata, render_as_batch=True, compare_type=True,
        user_module_prefix="server.tables.",
    )  # fmt: skip
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with make_engine(Settings.from_environment().url).begin() as own:
        run(own)
