"""The audit log, its ledger, positions, quarantine and books."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Runs the SQL file beside this one."""
    # The driver itself: SQLAlchemy would look for parameters in the text.
    op.get_bind().connection.driver_connection.execute(Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    """There is no way back: it would delete the log."""
    raise NotImplementedError("migrations go forward only; restore a backup instead")
