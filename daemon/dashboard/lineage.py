"""Which lineage of iterations a page tells of: the one that is asked for, or that of the newest iteration."""

from sqlalchemy.orm import Session

from storage import iterations, lineages


def lineage_shown(session: Session, asked: str | None) -> tuple[str, list[str]]:
    """The lineage of iterations to tell of, where none is asked for that of the newest, and all others."""
    newest, _ = iterations.list_iterations(session, limit=1)
    shown = asked or (newest[0].lineage if newest else lineages.MAIN)
    return shown, [name for name in lineages.names(session) if name != shown]
