"""targets: jobs of a pool of equal devices, canaries per device, quarantine"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import server.tables

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "canaries",
        sa.Column("device_id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=24), nullable=False),
        sa.Column("median_ms", sa.Double(), nullable=True),
        sa.Column("reference_ms", sa.Double(), nullable=False),
        sa.Column("unlike_rows", sa.Integer(), nullable=False),
        sa.Column("measured_at", server.tables.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name=op.f("fk_canaries_device_id_devices")),
        sa.PrimaryKeyConstraint("device_id", "key", name=op.f("pk_canaries")),
    )
    # plain ADD COLUMN, also on SQLite: other tables refer to these, so none may be copied and dropped
    op.add_column("devices", sa.Column("quarantine", sa.Text(), nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("pool", sa.String(length=64), nullable=True))
    op.add_column("jobs", sa.Column("target", sa.String(length=40), nullable=False, server_default=""))
    op.add_column("measurements", sa.Column("target", sa.String(length=40), nullable=False, server_default=""))
    op.create_index("ix_jobs_pool", "jobs", ["state", "pool", "priority", "created_at"])
    op.create_index("ix_measurements_device", "measurements", ["device_id", "created_at"])


def downgrade() -> None:
    op.drop_index("ix_measurements_device", "measurements")
    op.drop_index("ix_jobs_pool", "jobs")
    op.drop_column("measurements", "target")
    op.drop_column("jobs", "target")
    op.drop_column("jobs", "pool")
    op.drop_column("devices", "quarantine")
    op.drop_table("canaries")
