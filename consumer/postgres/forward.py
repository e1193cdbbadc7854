"""What every migration does: it runs the SQL file of its own name, and there is no way back."""

from pathlib import Path
from typing import NoReturn

from alembic import op


def run_sql_of(script: str) -> None:
    """Runs the SQL file beside a migration's script, as it is."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None  # noqa: S101 - there is one inside a migration
    # Past SQLAlchemy, which would take the file for one statement with parameters.
    connection.execute(Path(script).with_suffix(".sql").read_bytes())


def downgrade() -> NoReturn:
    """Refused: an audit log has no way back.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(
        "migrations go forward only: to undo this one would destroy the audit log. "
        "Restore a backup into another database if the former state is wanted."
    )
