"""What Alembic runs around the migrations: on the connection, and in the transaction, of its caller.

`storage.db.Database.upgrade` opens both, so that a failed migration leaves nothing behind on either database.
"""

from alembic import context

from storage import tables


def run() -> None:
    """Run the asked-for migrations on the connection that the caller put into the configuration."""
    connection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=tables.IterationRow.metadata,  # the same of all modules of tables
        render_as_batch=True,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
