"""Notes on an episode, written on its page: what somebody saw, without a verdict."""

import hashlib

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from daemon.api.callers import Caller
from daemon.api.event_schemas import NewNote
from daemon.api.labels import EpisodeId
from daemon.api.notes import add_note
from daemon.api.security import needs
from daemon.api.services import Wired
from daemon.dashboard.episodes import found
from daemon.dashboard.forms import Fields, Form, body_of, field
from daemon.dashboard.page import PageRoute

router = APIRouter(route_class=PageRoute)


@router.post("/episodes/{episode_id}/notes", dependencies=[needs("label")])
def write_note(request: Request, episode_id: EpisodeId, services: Wired, form: Form) -> Response:
    """Add what somebody writes about an episode; a token says who it is."""
    caller: Caller = request.state.caller
    note = read_note(form, caller)
    with services.database.read() as session:
        found(session, episode_id)
    what = hashlib.sha256(f"{note.author}\n{note.text}".encode()).hexdigest()[:16]
    key = f"page-{field(form, 'key')[:60]}-{what}"  # sent twice it is one note, written anew another
    add_note(episode_id, note, Response(), services, caller.name, key)
    return RedirectResponse(f"/episodes/{episode_id}", status_code=303)


def read_note(form: Fields, caller: Caller) -> NewNote:
    """The note in a form.

    Raises:
        RequestInvalid: it is empty or too long, or nobody writes it.
    """
    author = caller.name if caller.token_id is not None else field(form, "author")
    return body_of(NewNote, text=field(form, "text"), author=author)
