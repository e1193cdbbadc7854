"""The retention that the log was told; rights that no operator needs. The SQL is in the file of the same name."""

from pathlib import Path

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Runs the SQL file as it is."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None  # noqa: S101 - there is one inside a migration
    # Past SQLAlchemy, which would take the file for one statement with parameters.
    connection.execute(Path(__file__).with_suffix(".sql").read_bytes())


def downgrade() -> None:
    """Refused: an audit log has no way back.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(
        "migrations go forward only: to undo this one would destroy the audit log. "
        "Restore a backup into another database if the former state is wanted."
    )
