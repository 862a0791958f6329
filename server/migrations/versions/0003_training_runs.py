"""training runs: stages, progress and curves of what trains"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

import server.tables

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), "postgresql")


def upgrade() -> None:
    op.create_table(
        "training_runs",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=True),
        sa.Column("trial_id", sa.String(length=40), nullable=True),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("recipe", sa.String(length=120), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("stop_requested", sa.Boolean(), nullable=False),
        sa.Column("share", sa.Double(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("stages", JSON, nullable=False),
        sa.Column("strides", JSON, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", server.tables.UtcDateTime(timezone=True), nullable=False),
        sa.Column("updated_at", server.tables.UtcDateTime(timezone=True), nullable=False),
        sa.Column("finished_at", server.tables.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_training_runs_job_id_jobs")),
        sa.ForeignKeyConstraint(["trial_id"], ["trials.id"], name=op.f("fk_training_runs_trial_id_trials")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_runs")),
        sa.UniqueConstraint("job_id", name=op.f("uq_training_runs_job_id")),
    )
    op.create_index("ix_training_runs_trial_id", "training_runs", ["trial_id"])
    op.create_table(
        "training_curves",
        sa.Column("training_id", sa.String(length=40), nullable=False),
        sa.Column("stage", sa.String(length=80), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("values", JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["training_id"], ["training_runs.id"], name=op.f("fk_training_curves_training_id_training_runs")
        ),
        sa.PrimaryKeyConstraint("training_id", "stage", "step", name=op.f("pk_training_curves")),
    )


def downgrade() -> None:
    op.drop_table("training_curves")
    op.drop_index("ix_training_runs_trial_id", "training_runs")
    op.drop_table("training_runs")
