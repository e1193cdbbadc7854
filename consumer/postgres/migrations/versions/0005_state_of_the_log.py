"""What an operator must see of the log while it runs, cheaply. The SQL is in the file of the same name."""

from consumer.postgres.forward import downgrade, run_sql_of  # noqa: F401 - Alembic looks here for both ways

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Runs the SQL file as it is."""
    run_sql_of(__file__)
