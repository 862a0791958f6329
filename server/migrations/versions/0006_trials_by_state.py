"""open trials of a study are found without reading its finished ones"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_trials_open", "trials", ["study_id", "state"])


def downgrade() -> None:
    op.drop_index("ix_trials_open", "trials")
