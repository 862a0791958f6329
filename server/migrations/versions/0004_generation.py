"""what an enrolment token allows; studies.generation and training_results by their new names; no priority of jobs"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

import server.tables

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), "postgresql")
QUEUES = {"ix_jobs_queue": "device_id", "ix_jobs_pool": "pool"}


def upgrade() -> None:
    op.add_column("enrolment_tokens", sa.Column("serves", JSON, nullable=False, server_default='["measure"]'))
    # by statement: a batch on SQLite would copy and drop tables that others refer to
    op.execute("ALTER TABLE studies RENAME COLUMN runs TO generation")
    _copy_results("trainings", "training_results")
    _reindex_queues(["created_at"])
    op.execute("ALTER TABLE jobs DROP COLUMN priority")


def downgrade() -> None:
    op.add_column("jobs", sa.Column("priority", sa.Integer(), nullable=False, server_default="100"))
    _reindex_queues(["priority", "created_at"])
    _copy_results("training_results", "trainings")
    op.execute("ALTER TABLE studies RENAME COLUMN generation TO runs")
    op.execute("ALTER TABLE enrolment_tokens DROP COLUMN serves")


def _reindex_queues(order: list[str]) -> None:
    for name, address in QUEUES.items():
        op.drop_index(name, "jobs")
        op.create_index(name, "jobs", ["state", address, *order])


def _copy_results(old: str, new: str) -> None:
    """A new table rather than a renamed one, so that constraints and indexes have the names of a fresh database."""
    op.create_table(
        new,
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("trial_id", sa.String(length=40), nullable=False),
        sa.Column("body", JSON, nullable=False),
        sa.Column("created_at", server.tables.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f(f"fk_{new}_job_id_jobs")),
        sa.ForeignKeyConstraint(["trial_id"], ["trials.id"], name=op.f(f"fk_{new}_trial_id_trials")),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{new}")),
        sa.UniqueConstraint("job_id", name=op.f(f"uq_{new}_job_id")),
    )
    op.execute(f"INSERT INTO {new} (id, job_id, trial_id, body, created_at) "
               f"SELECT id, job_id, trial_id, body, created_at FROM {old}")  # fmt: skip
    op.drop_table(old)
    op.create_index(op.f(f"ix_{new}_trial_id"), new, ["trial_id"])
