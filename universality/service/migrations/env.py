"""Runs the migrations in the transaction that `database.Database.upgrade` opened."""

from alembic import context

from universality.service.database import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True
)
context.run_migrations()
