"""Alembic's way into the database: the connection, and the transaction, that `consumer.postgres.migrate` has opened."""

from alembic import context

connection = context.config.attributes.get("connection")
if connection is None:
    raise RuntimeError("run migrations by `integration-audit migrate`, which takes the lock and the owner's role")

# No begin and no commit here: the transaction holds the lock, and belongs to who opened it.
context.configure(connection=connection, version_table_schema="audit")
context.run_migrations()
