"""Alembic's entry: one connection, made by migrate.py; all revisions in one transaction, under one lock."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table_schema="audit", transaction_per_migration=False)
with context.begin_transaction():
    context.run_migrations()
