"""The retention that the log was told; rights that no operator needs. The SQL is in the file of the same name."""

from consumer.postgres.forward import downgrade, run_sql_of  # noqa: F401 - Alembic looks here for both ways

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Runs the SQL file as it is."""
    run_sql_of(__file__)
